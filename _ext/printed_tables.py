"""Sphinx extension: tables that a cell prints keep their columns on a narrow page.

What a cell prints is mostly sentences, and they wrap. A table that wraps cannot be
read, so it gets a box of its own (class `bl-table`), which scrolls.
"""

from __future__ import annotations

import re
from itertools import groupby

from docutils import nodes
from sphinx.application import Sphinx

GAP = re.compile(r"\S {2,}\S")  # two columns with room between them
WIDEST = 79  # what a desk shows of a line; wider ones had better wrap


def is_sentence(line: str) -> bool:
    """Whether a line reports a claim; these are never part of a table."""
    return line.startswith(("holds: ", "does not hold: "))


def is_table(lines: list[str]) -> bool:
    """Whether most of two lines or more have columns, and a desk shows them whole."""
    columns = sum(bool(GAP.search(line)) for line in lines)
    fits = max(map(len, lines)) <= WIDEST
    return fits and len(lines) > 1 and 2 * columns > len(lines)


def split(text: str) -> list[tuple[str, bool]]:
    """Printed text in parts, and of each whether it is a table."""
    parts = [list(part) for _, part in groupby(text.splitlines(), is_sentence)]
    tables = [not is_sentence(part[0]) and is_table(part) for part in parts]
    if not any(tables):
        return [(text, False)]
    return [("\n".join(p), t) for p, t in zip(parts, tables, strict=True)]


def mark(app: Sphinx, doctree: nodes.document) -> None:
    """Give each printed table its box."""
    for block in list(doctree.findall(nodes.literal_block)):
        if not {"output", "stream"} <= set(block["classes"]):
            continue
        parts = []
        for text, table in split(block.astext()):
            part = block.copy()
            part.rawsource = text
            part += nodes.Text(text)
            part["classes"] = block["classes"] + ["bl-table"] * table
            parts.append(part)
        block.replace_self(parts)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register it."""
    app.connect("doctree-read", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
