"""Running the book: each chapter in a fresh kernel, its claims into the ledger."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biglearn_lite import chapters
from biglearn_lite.claims import (
    Ledger,
    merge_chapter,
    read_ledger,
    read_records,
    write_ledger,
)
from biglearn_lite.files import make_folder, write_atomically
from biglearn_lite.machine import PeakMemory, device_name, today, versions

RUN_PROFILES = ("auto", "smoke", "cpu", "gpu")


class ChapterError(RuntimeError):
    """A chapter that could not be run to its end; says where and why."""


@dataclass(frozen=True)
class Settings:
    """How chapters are run.

    Attributes:
        profile: `"auto"` runs the committed chapters as they are.
        train: whether to train again instead of showing records.
        parameters: further notebook parameters by name; with any, what comes out is
            not the book, and the ledger is left alone.
        offline: whether kernels are cut off from the network.
        timeout: seconds that a cell may take.
        progress: whether to show a bar of cells.
    """

    profile: str = "auto"
    train: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)
    offline: bool = False
    timeout: float = 600.0
    progress: bool = False

    @property
    def injected(self) -> dict[str, Any]:
        """What papermill injects; nothing at the default parameters."""
        profile = {} if self.profile == "auto" else {"profile": self.profile}
        train = {"train": True} if self.train else {}
        return {**profile, **train, **self.parameters}

    @property
    def recorded(self) -> bool:
        """Whether the ledger takes what comes out; smoke says nothing of quality."""
        return self.profile != "smoke" and not self.parameters


@dataclass(frozen=True)
class Executed:
    """One chapter that ran: its notebook, what it claimed and what it cost."""

    notebook: Any
    records: list[dict[str, Any]]
    seconds: float
    peak_mib: float


def run_book(
    root: Path,
    names: Sequence[str] = (),
    settings: Settings | None = None,
    output: Path | None = None,
) -> None:
    """Run chapters in the book's order; print a line for each.

    At default parameters the committed notebooks are replaced by what ran; at others,
    or with `output`, the executed notebooks are written to that folder (by default
    `_build/run/<profile>`). `book/ledger.json` is updated chapter by chapter, so that
    it holds just what ran, unless the run is not to be recorded.

    Args:
        root: the checkout.
        names: slugs of chapters; none means all.
        settings: how to run.
        output: folder for the executed notebooks.

    Raises:
        ValueError: for an unknown chapter, profile or parameter, or a folder that
            cannot be written.
        ChapterError: if a chapter fails; chapters before it are kept.
    """
    settings = settings or Settings()
    paths, folder = choose(root, names, settings, output)
    for number, path in enumerate(paths, 1):
        run_chapter(root, path, settings, folder, f"[{number}/{len(paths)}]")
    print(f"Executed notebooks are in {shown(folder, root)}.")


def choose(
    root: Path, names: Sequence[str], settings: Settings, output: Path | None
) -> tuple[list[Path], Path]:
    """Chapters to run, and the folder for what ran; all mistakes are found here."""
    if settings.profile not in RUN_PROFILES:
        raise ValueError(
            f"Unknown profile {settings.profile!r}; choose from {RUN_PROFILES}."
        )
    paths = chapters.choose(root, names)
    in_place = not settings.injected and output is None
    folder = output or (
        root / "book" if in_place else root / "_build" / "run" / settings.profile
    )
    for path in paths:
        wanted = (*chapters.PARAMETERS, *settings.parameters)
        chapters.check_parameters(chapters.read(path), wanted, path.stem)
    make_folder(folder)
    return paths, folder


def run_chapter(
    root: Path, path: Path, settings: Settings, folder: Path, label: str
) -> None:
    """Run one chapter, write it and its claims down, and print a line."""
    end = "\n" if settings.progress else " "  # the bar needs a line of its own
    print(f"{label} {path.stem} ...", end=end, flush=True)
    done = execute(root, path, settings)
    target = folder / path.name
    write_atomically(target, chapters.normalise(done.notebook, path.stem))
    if settings.recorded:
        _update_ledger(root, path.stem, settings, done)
    print(_summary(done), flush=True)


def _summary(done: Executed) -> str:
    """Time, memory and claims of one chapter, in a line."""
    verdicts = [record["held"] for record in done.records]
    claims = f"{len(verdicts)} claims"
    if None in verdicts:
        claims += f", {verdicts.count(None)} of them not judged at this profile"
    else:
        claims += f", {verdicts.count(True)} hold"
    return f"{done.seconds:.1f} s, {done.peak_mib:.0f} MiB, {claims}"


def shown(path: Path, root: Path) -> Path:
    """A path as the reader knows it."""
    return path.relative_to(root) if path.is_relative_to(root) else path


def execute(root: Path, path: Path, settings: Settings) -> Executed:
    """Run one chapter in a fresh kernel; its file is left alone.

    Raises:
        ValueError: if it has no cell tagged `parameters`, or lacks a parameter.
        ChapterError: if a cell fails, takes too long, or the kernel dies.
    """
    notebook = chapters.read(path)
    chapters.check_parameters(notebook, list(settings.injected), path.stem)
    notebook.metadata.pop("widgets", None)  # the state of the last run
    with tempfile.TemporaryDirectory() as folder:
        records = Path(folder) / "claims.jsonl"
        variables = kernel_environment(root, path.stem, settings, records)
        start = time.perf_counter()
        with environment(variables), PeakMemory() as memory:
            done = _papermill(root, path.stem, notebook, settings)
        seconds = time.perf_counter() - start
        return Executed(done, read_records(records), seconds, memory.peak_mib)


def kernel_environment(
    root: Path, slug: str, settings: Settings, records: Path
) -> dict[str, str]:
    """What the kernel of a chapter finds in its environment."""
    environment = {
        "BIGLEARN_STATIC": "1",
        "BIGLEARN_CHAPTER": slug,
        "BIGLEARN_CLAIMS": str(records),
        "BIGLEARN_PROFILE": settings.profile,
        "OMP_WAIT_POLICY": "PASSIVE",
        "BIGLEARN_OFFLINE": "0",
    }
    if settings.offline:
        guard = root / "tools" / "offline"
        if not (guard / "sitecustomize.py").is_file():
            raise ValueError(
                "tools/offline/sitecustomize.py is missing, so the network cannot be "
                "switched off; restore it or run with --online."
            )
        before = os.environ.get("PYTHONPATH")
        environment["BIGLEARN_OFFLINE"] = "1"
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(guard), before)))
    return environment


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Set environment variables for a while; kernels inherit them."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _papermill(root: Path, slug: str, notebook: Any, settings: Settings) -> Any:
    """Run a notebook with papermill; every way to fail becomes a ChapterError."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError
    from papermill import PapermillExecutionError, execute_notebook

    logging.getLogger("papermill").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of papermill's own libraries
            return execute_notebook(
                notebook,
                None,
                parameters=settings.injected,
                kernel_name="python3",
                cwd=str(root / "book"),
                progress_bar=settings.progress,
                request_save_on_cell_execute=False,
                coalesce_streams=True,  # a busy machine cuts them anywhere
                execution_timeout=settings.timeout,
                extra_arguments=["--log-level=CRITICAL"],  # only its own notices
            )
    except PapermillExecutionError as error:
        raise ChapterError(
            f"Chapter {slug!r} failed in code cell [{error.exec_count}]: "
            f"{error.ename}: {error.evalue}\n\n{_indented(error.source)}"
        ) from error
    except CellTimeoutError as error:
        raise ChapterError(
            f"Chapter {slug!r} has a cell that ran longer than {settings.timeout:g} s; "
            f"--timeout allows more.\n\n{_indented(str(error).strip())[:400]}"
        ) from error
    except DeadKernelError as error:
        raise ChapterError(
            f"Chapter {slug!r} lost its kernel: it may have run out of memory."
        ) from error


def _indented(source: str) -> str:
    return "\n".join(f"    {line}" for line in source.strip().splitlines()[:12])


# ------------------------------------------------------------------ the ledger


def ledger_path(root: Path) -> Path:
    """Where the ledger of a checkout is."""
    return root / "book" / "ledger.json"


def _update_ledger(root: Path, slug: str, settings: Settings, done: Executed) -> None:
    """Replace what the ledger says of this chapter at this profile."""
    profile = "cpu" if settings.profile == "auto" else settings.profile
    chapter = {
        "seconds": round(done.seconds, 1),
        "peak_mib": round(done.peak_mib),
        "device": device_name(cuda=profile == "gpu"),
        "date": today(),
        "versions": versions(),
        "code": chapters.code_hash(done.notebook),
    }
    path = ledger_path(root)
    ledger = merge_chapter(read_ledger(path), slug, profile, done.records, chapter)
    write_ledger(path, _without_lost_chapters(root, ledger))


def _without_lost_chapters(root: Path, ledger: Ledger) -> Ledger:
    """A chapter that left the book leaves its ledger."""
    slugs = {path.stem for path in chapters.chapter_paths(root)}
    return {
        part: {slug: entry for slug, entry in entries.items() if slug in slugs}
        for part, entries in ledger.items()
    }


# ------------------------------------------------------------------ checking


def check_book(root: Path) -> list[str]:
    """Everything that is wrong with the committed chapters and their ledger.

    A file that cannot be read at all is the only finding.
    """
    try:
        found = chapters.lint_contents(root)
        paths = chapters.chapter_paths(root)
        notebooks = {path.stem: chapters.read(path) for path in paths}
        ledger = read_ledger(ledger_path(root))
    except ValueError as error:
        return [str(error)]
    for slug, notebook in notebooks.items():
        found += chapters.lint(notebook, slug)
    return found + chapters.lint_ledger(ledger, notebooks)


def parse_parameters(texts: Sequence[str]) -> dict[str, Any]:
    """Each `name=value` as a parameter; a value is read as JSON if it is JSON.

    Raises:
        ValueError: if there is no `=`, or a name that comes twice or has an option.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals and name):
            raise ValueError(f"A parameter is given as NAME=VALUE, not {text!r}.")
        if name in chapters.PARAMETERS:
            raise ValueError(f"The parameter {name!r} has an option: use --{name}.")
        if name in found:
            raise ValueError(f"The parameter {name!r} is given twice; give it once.")
        try:
            found[name] = json.loads(value)
        except json.JSONDecodeError:
            found[name] = value
    return found


def build_book(root: Path) -> int:
    """Render the committed notebooks; the exit code of `tools/build_book.py`."""
    import subprocess

    script = root / "tools" / "build_book.py"
    return subprocess.call([sys.executable, str(script)], cwd=root)
