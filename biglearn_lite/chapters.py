"""The chapters as files: their order, their committed form, and what must hold of it.

A committed notebook is executed and normalised: the same run gives the same bytes, so
that a difference in the repository is a difference in the book.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import nbformat
import yaml

from biglearn_lite.claims import Ledger, sentence

Notebook = nbformat.NotebookNode

PARAMETERS = ("profile", "train")
COMPARED_CELLS = 5  # at least, in each chapter

# what an entry of the ledger must have, and of which type
MEASURED = {"device": str, "date": str}
CLAIM_ENTRY = {**MEASURED, "value": (int, float, str), "rule": str, "held": bool}
CHAPTER_ENTRY = {
    **MEASURED,
    **{"seconds": (int, float), "peak_mib": (int, float)},
    **{"versions": dict, "code": str},
}

WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
NOT_COMPARED = {"image/png", "image/jpeg", "image/svg+xml", WIDGET_VIEW}
ABSOLUTE_PATH = re.compile(r"(?<![\w./<])/(?:home|root|work|tmp|usr|Users|opt)/[\w.-]+")


def find_root(start: str | Path = ".") -> Path:
    """The checkout around a folder, or the one this package was installed from.

    Raises:
        FileNotFoundError: if there is none.
    """
    start = Path(start).resolve()
    for folder in (start, *start.parents, Path(__file__).resolve().parents[1]):
        if (folder / "_toc.yml").is_file() and (folder / "book").is_dir():
            return folder
    raise FileNotFoundError(
        "There is no book here: run this inside a checkout, where _toc.yml is."
    )


def chapter_paths(root: Path) -> list[Path]:
    """The notebooks of the table of contents that exist, in its order.

    Raises:
        ValueError: if it cannot be read.
    """
    paths = [root / f"{document}.ipynb" for document in documents(root)]
    return [path for path in paths if path.is_file()]


def documents(root: Path) -> list[str]:
    """All documents of the table of contents, in its order.

    Raises:
        ValueError: if it cannot be read.
    """
    try:
        text = (root / "_toc.yml").read_text(encoding="utf-8")
        return list(_documents(yaml.safe_load(text)))
    except (yaml.YAMLError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"_toc.yml cannot be read: {reason}.") from error


def _documents(branch: Any) -> Iterator[str]:
    """All documents of a table of contents, depth first."""
    if isinstance(branch, list):
        for each in branch:
            yield from _documents(each)
    elif isinstance(branch, dict):
        yield from (branch[key] for key in ("root", "file") if key in branch)
        for key in ("parts", "chapters", "sections"):
            yield from _documents(branch.get(key))


def choose(root: Path, names: Sequence[str]) -> list[Path]:
    """The chapters of these names (slugs or file names), or all, in the book's order.

    Raises:
        ValueError: for an unknown name; lists the chapters.
    """
    paths = chapter_paths(root)
    slugs = [path.stem for path in paths]
    wanted = {Path(name).stem for name in names}
    if unknown := sorted(wanted - set(slugs)):
        raise ValueError(f"There is no chapter {unknown[0]!r}; choose from {slugs}.")
    return [path for path in paths if not wanted or path.stem in wanted]


def read(path: Path) -> Notebook:
    """A notebook from a file.

    Raises:
        ValueError: if it is not one.
    """
    try:
        text = path.read_text(encoding="utf-8")
        nbformat.validate(json.loads(text))
        return nbformat.reads(text, as_version=4)
    except Exception as error:  # foreign bytes can fail in any way
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        raise ValueError(f"{path.name} is not a notebook: {reason}.") from error


def tags(cell: Notebook) -> list[str]:
    """The tags of a cell."""
    return cell.metadata.get("tags", [])


# ------------------------------------------------------------------ the committed form


def normalise(notebook: Notebook, slug: str) -> str:
    """The text of an executed notebook without what changes from run to run.

    Cell ids, tags and widget state stay; durations, dates, execution metadata,
    injected parameters and memory addresses go; random widget ids become
    `slug-0`, `slug-1`, ... in the order in which the widgets were made.
    """
    notebook = nbformat.from_dict(notebook)
    replaced = {"kernelspec", "language_info", "papermill", "jupytext", "vscode"}
    metadata = {k: v for k, v in notebook.metadata.items() if k not in replaced}
    notebook.metadata = nbformat.from_dict(
        {
            **metadata,
            "kernelspec": {
                "display_name": "Python 3",
                "language": "python",
                "name": "python3",
            },
            "language_info": {"name": "python"},
        }
    )
    notebook.cells = [c for c in notebook.cells if "injected-parameters" not in tags(c)]
    for cell in notebook.cells:
        _normalise_cell(cell)
    ids = _widget_states(notebook)
    text = nbformat.writes(notebook)
    for number, old in enumerate(key for key in ids if not key.startswith(f"{slug}-")):
        text = text.replace(old, f"{slug}-{number}")
    notebook = nbformat.reads(text, as_version=4)  # once more: its keys are sorted
    return nbformat.writes(notebook).rstrip("\n") + "\n"


def _widget_states(notebook: Notebook) -> dict[str, Any]:
    widgets = notebook.metadata.get("widgets", {})
    return widgets.get(WIDGET_STATE, {}).get("state", {})


def _normalise_cell(cell: Notebook) -> None:
    """Drop from one cell what changes from run to run."""
    for key in ("papermill", "execution", "collapsed"):
        cell.metadata.pop(key, None)
    if not cell.metadata.get("tags", True):
        del cell.metadata["tags"]  # papermill adds an empty list
    for output in cell.get("outputs", []):
        data = output.get("data", {})
        if WIDGET_VIEW in data and "text/plain" in data:
            data["text/plain"] = re.sub(r" at 0x[0-9a-f]+", "", data["text/plain"])


# ------------------------------------------------------------------ what must hold


def check_parameters(notebook: Notebook, parameters: Sequence[str], slug: str) -> None:
    """Refuse a notebook that would not take these parameters.

    papermill only warns, and then runs the notebook with its own values.

    Raises:
        ValueError: if there is no cell tagged `parameters`, or it does not set one.
    """
    sources = [cell.source for cell in notebook.cells if "parameters" in tags(cell)]
    if len(sources) != 1:
        raise ValueError(
            f"Chapter {slug!r} has {len(sources)} cells tagged `parameters`; it needs "
            f"exactly one, which sets {' and '.join(PARAMETERS)}."
        )
    known = re.findall(r"^(\w+)\s*(?::[^=\n]+)?=(?!=)", sources[0], flags=re.M)
    for name in parameters:
        if name not in known:
            raise ValueError(
                f"Chapter {slug!r} has no parameter {name!r}; it has {known}."
            )


def is_compared(cell: Notebook) -> bool:
    """Whether nbval compares an output of this cell (a stripped cell never is)."""
    skipped = {"nbval-ignore-output", "nbval-skip"} & set(tags(cell))
    if cell.cell_type != "code" or skipped or cell.execution_count is None:
        return False
    return any(
        set(output.get("data", {})) - NOT_COMPARED or output.get("name") == "stdout"
        for output in cell.outputs
    )


def lint(notebook: Notebook, slug: str) -> list[str]:
    """What is wrong with a committed chapter, one sentence each."""
    found = []
    try:
        check_parameters(notebook, PARAMETERS, slug)
    except ValueError as error:
        found.append(str(error))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for number, cell in enumerate(cells):
        found += [f"{slug}, code cell {number}: {what}" for what in _lint_cell(cell)]
    counts = [cell.execution_count for cell in cells]
    if None not in counts and counts != list(range(1, len(counts) + 1)):
        found.append(f"{slug}: its cells ran in the order {counts}: run it again.")
    compared = sum(map(is_compared, cells))
    if compared < COMPARED_CELLS:
        found.append(
            f"{slug}: nbval compares {compared} cells, at least {COMPARED_CELLS} are "
            "needed; print results, and commit the executed notebook."
        )
    return found


def _lint_cell(cell: Notebook) -> Iterator[str]:
    if cell.execution_count is None and cell.source.strip():
        yield "it was not executed."
    if bad := {"injected-parameters", "raises-exception", "nbval-skip"} & set(
        tags(cell)
    ):
        yield f"the tag {sorted(bad)[0]!r} has no place in a chapter."
    for output in cell.outputs:
        if output.output_type == "error":
            yield f"it ended with {output.ename}: {output.evalue}"
        if output.get("name") == "stderr":
            yield f"it wrote to stderr: {output.text.strip()[:80]!r}"
        shown = str(output.get("text", "")) + str(output.get("data", {}))
        if path := ABSOLUTE_PATH.search(shown):
            yield f"its output shows a path of this machine, {path.group()!r}."


def lint_contents(root: Path) -> list[str]:
    """What is wrong between the table of contents and the files of the book."""
    listed = documents(root)
    found = [
        f"the table of contents names {document}, which does not exist."
        for document in listed
        if not any((root / f"{document}{end}").is_file() for end in (".ipynb", ".md"))
    ]
    for path in sorted((root / "book").glob("*.ipynb")):
        if f"book/{path.stem}" not in listed:
            found.append(f"book/{path.name} is not in the table of contents.")
    return found if listed else [*found, "the table of contents is empty."]


def code_hash(notebook: Notebook) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a chapter's code."""
    sources = [
        cell.source
        for cell in notebook.cells
        if cell.cell_type == "code" and "injected-parameters" not in tags(cell)
    ]
    return hashlib.sha256(json.dumps(sources).encode()).hexdigest()[:16]


def lint_ledger(ledger: Ledger, notebooks: dict[str, Notebook]) -> list[str]:
    """What is wrong between the ledger and the committed chapters.

    Args:
        ledger: as `claims.read_ledger` gives it.
        notebooks: the chapters by slug.
    """
    found = []
    for slug in sorted({*ledger["claims"], *ledger["chapters"]} - set(notebooks)):
        found.append(f"the ledger speaks of {slug!r}, which is no chapter.")
    for slug, notebook in notebooks.items():
        runs = ledger["chapters"].get(slug, {})
        for profile, entry in runs.items():
            found += _lint_entry(f"{slug} at {profile}", entry, CHAPTER_ENTRY)
        claims = ledger["claims"].get(slug, {})
        for name, profiles in claims.items():
            for profile, entry in profiles.items():
                where = f"{slug}: the claim {name!r} at {profile}"
                found += _lint_entry(where, entry, CLAIM_ENTRY)
                if entry.get("held") is False:
                    found.append(f"{where} does not hold.")
        again = f"run `biglearn book run {slug}`."
        if "cpu" not in runs:
            found.append(f"{slug} is not in the ledger: {again}")
            continue
        code = code_hash(notebook)
        if runs["cpu"].get("code", code) != code:
            found.append(f"{slug}: its code changed after the ledger: {again}")
        if odd := sorted(_printed_claims(notebook) ^ _kept_claims(claims)):
            found.append(
                f"{slug}: its claims are not those of the ledger, such as {odd[0]!r}: "
                f"{again}"
            )
    return found


def _lint_entry(where: str, entry: dict[str, Any], types: dict[str, Any]) -> list[str]:
    """Whether an entry of the ledger has its keys, each of its type."""
    wrong = [key for key in types if not isinstance(entry.get(key), types[key])]
    if not wrong:
        return []
    return [f"{where}: the ledger has no proper {', '.join(wrong)}."]


def _kept_claims(claims: dict[str, Any]) -> set[str]:
    """The claims of a chapter at cpu as the ledger would print them."""
    return {
        sentence(name, entries["cpu"].get("value"), str(entries["cpu"].get("rule")))
        for name, entries in claims.items()
        if "cpu" in entries
    }


def _printed_claims(notebook: Notebook) -> set[str]:
    """The claims that a chapter prints."""
    return {
        line.removeprefix("holds: ")
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        for line in output.get("text", "").splitlines()
        if line.startswith("holds: ")
    }
