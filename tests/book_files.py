"""What the tests of the book as an artefact read: its chapters and their cells."""

from __future__ import annotations

from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"


def toc_files() -> list[str]:
    """All pages of the table of contents, in order, without suffix."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text())
    found = [toc["root"]]
    for part in toc.get("parts", [toc]):
        found += [chapter["file"] for chapter in part.get("chapters", [])]
    return found


def chapters() -> list[Path]:
    """The notebooks among the pages, in order."""
    paths = [ROOT / f"{name}.ipynb" for name in toc_files()]
    return [path for path in paths if path.exists()]


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    """The cells of one kind, 'code' or 'markdown'."""
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == kind]
