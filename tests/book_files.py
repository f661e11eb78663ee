"""What the tests of the book as an artefact read: its chapters and their cells."""

from __future__ import annotations

from pathlib import Path

import nbformat

from biglearn_lite.chapters import chapter_paths

ROOT = Path(__file__).resolve().parent.parent
BOOK = ROOT / "book"


def chapters() -> list[Path]:
    """The notebooks among the pages, in order."""
    return chapter_paths(ROOT)


def cells(path: Path, kind: str) -> list[nbformat.NotebookNode]:
    """The cells of one kind, 'code' or 'markdown'."""
    notebook = nbformat.read(path, as_version=4)
    return [cell for cell in notebook.cells if cell.cell_type == kind]
