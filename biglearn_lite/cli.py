"""The command `biglearn`: data, models, and the book that explains and tests them.

What a command needs is imported inside it, so that `biglearn --help` answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from biglearn_lite import _cli_model

app = typer.Typer(
    help="Big cooperative learning: data, models, and the book that explains them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
    epilog="Examples: biglearn data list; biglearn train sums; "
    "biglearn complete sums 37+..=085; biglearn book run mixtures",
)
data_app = typer.Typer(
    help="Datasets: what there is, and getting it.",
    no_args_is_help=True,
    epilog="Examples: biglearn data list; biglearn data fetch mnist; "
    "biglearn data prepare celeba",
)
book_app = typer.Typer(
    help="The book: run its chapters, render it, check it.",
    no_args_is_help=True,
    epilog="Examples: biglearn book run; biglearn book run --profile smoke; "
    "biglearn book build; biglearn book check",
)
app.add_typer(data_app, name="data")
_cli_model.register(app)
app.add_typer(book_app, name="book")


def _version(wanted: bool) -> None:
    if wanted:
        from biglearn_lite import __version__

        print(f"biglearn-lite {__version__}")
        raise typer.Exit


@app.callback()
def biglearn(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Options of the command itself."""


# ------------------------------------------------------------------ data


@data_app.command("list", epilog="Example: biglearn data list")
def data_list() -> None:
    """List the datasets: name, whether it is here, size, terms, what and from where."""
    from biglearn_lite.sources import DATASETS, find

    rows = [("name", "here", "size", "licence", "what", "where from")]
    for entry in DATASETS.values():
        here = "yes" if not entry.files or find(entry) else "no"
        about = (entry.size, entry.licence, entry.what, entry.where_from)
        rows.append((entry.name, here, *about))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


@data_app.command("fetch", epilog="Example: biglearn data fetch mnist")
def data_fetch(
    name: Annotated[str, typer.Argument(help="As `biglearn data list` shows it.")],
) -> None:
    """Download a dataset into the cache and verify it; print where it is."""
    from biglearn_lite.sources import dataset_entry, locate

    entry = dataset_entry(name)
    if not entry.files:
        print(f"{name} needs no download: {entry.where_from}.")
        return
    try:
        print(f"{name} is in {locate(entry, root=None, allow_download=True)}")
    except FileNotFoundError as error:  # not a mistake of the user's
        _stop(error, 1)


@data_app.command(
    "prepare",
    epilog="Examples: biglearn data prepare celeba --images img_align_celeba.zip "
    "--attributes list_attr_celeba.txt; biglearn data prepare celeba --size 32",
)
def data_prepare(
    name: Annotated[str, typer.Argument(help="celeba is the only one.")],
    images: Annotated[
        Path, typer.Option(help="The official zip, or a folder with its files.")
    ] = Path("img_align_celeba.zip"),
    attributes: Annotated[
        Path, typer.Option(help="The official list of attributes.")
    ] = Path("list_attr_celeba.txt"),
    size: Annotated[int, typer.Option(help="Of the faces: 64 or 32 pixels.")] = 64,
    root: Annotated[
        Path | None,
        typer.Option(help="Data root; makes ROOT/celeba/celeba64.safetensors [cache]."),
    ] = None,
) -> None:
    """Make of your own official files what `load` reads; after a stop, run it again."""
    from biglearn_lite.celeba import prepare_celeba

    if name != "celeba":
        raise ValueError(
            f"There is nothing to prepare of {name!r}, only of 'celeba'; for others "
            "use `biglearn data fetch`."
        )
    progress = sys.stderr.isatty()
    print(prepare_celeba(images, attributes, size, root, progress=progress))


# ------------------------------------------------------------------ book


def _root() -> Path:
    """The checkout; says so if it is not the one that the user is in."""
    from biglearn_lite.chapters import find_root

    root, here = find_root(), Path.cwd()
    if root not in (here, *here.parents):
        print(f"There is no book here; using the one in {root}.", file=sys.stderr)
    return root


@book_app.command(
    "run",
    epilog="Examples: biglearn book run; biglearn book run mixtures local-optima; "
    "biglearn book run --profile gpu --train --minutes 50",
)
def book_run(
    chapter: Annotated[
        list[str] | None,
        typer.Argument(help="Chapters by name, as in book/; all if left out."),
    ] = None,
    chapters: Annotated[
        str, typer.Option(help="The same in one word: names between commas.")
    ] = "",
    profile: Annotated[
        str,
        typer.Option(
            help="auto: the committed chapters, replaced in place. smoke: the code "
            "path only, no ledger. cpu, gpu: at that scale."
        ),
    ] = "auto",
    train: Annotated[
        bool,
        typer.Option(
            "--train",
            help="First train what the chapters show and has no record at this "
            "profile, into book/runs (at smoke beside the notebooks).",
        ),
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Begin nothing after so long and exit with 3; the same command goes "
            "on, and skips what is done.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the executed notebooks [_build/run/PROFILE]."),
    ] = None,
    offline: Annotated[
        bool | None,
        typer.Option(
            "--offline/--online",
            help="Cut the kernels off from the network [offline at smoke].",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(min=1, help="Seconds that one cell may take.")
    ] = 600,
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "-p", "--parameter", help="NAME=VALUE of the notebooks; then no ledger."
        ),
    ] = None,
) -> None:
    """Run chapters, each in a fresh kernel; write the claims into the ledger."""
    from biglearn_lite.book import Settings, parse_parameters, run_book

    names = [*(chapter or []), *filter(None, chapters.split(","))]
    settings = Settings(
        profile=profile,
        train=train,
        parameters=parse_parameters(parameter or []),
        offline=profile == "smoke" if offline is None else offline,
        timeout=timeout,
        progress=sys.stderr.isatty(),
    )
    if not train and minutes is None:
        run_book(_root(), names, settings, output)
        return
    from biglearn_lite.slices import run_slices

    if not run_slices(_root(), names, settings, output, minutes):
        print("Stopped, as the time is over; the same command goes on.")
        raise typer.Exit(3)


@book_app.command("build", epilog="Example: biglearn book build")
def book_build() -> None:
    """Render the committed chapters into _build/html; nothing is executed."""
    from biglearn_lite.book import build_book

    raise typer.Exit(build_book(_root()))


@book_app.command("check", epilog="Example: biglearn book check")
def book_check() -> None:
    """Check the committed chapters and the ledger in seconds; run nothing."""
    from biglearn_lite.book import check_book

    findings = check_book(_root())
    for finding in findings:
        print(f"- {finding}")
    if findings:
        print(f"To mend: {len(findings)}.")
        raise typer.Exit(1)
    print("The committed chapters and the ledger are in order.")


def main() -> None:
    """Run the command; a mistake is one sentence on stderr, never a traceback.

    Exit codes: 0 all well, 1 something failed, 2 the command was used wrongly, 3 the
    time was over before all was done.
    """
    try:
        app()
    except (ValueError, FileNotFoundError, NotADirectoryError) as error:
        _stop(error, 2)
    except ModuleNotFoundError as error:
        _stop(f"this needs {error.name}: pip install 'biglearn-lite[all]'.", 2)
    except (OSError, RuntimeError) as error:
        _stop(error, 1)


def _stop(message: Exception | str, code: int) -> None:
    print(f"biglearn: {message}", file=sys.stderr)
    sys.exit(code)
