"""Pieces of a page as docutils nodes: links, paragraphs, tables."""

from __future__ import annotations

from collections.abc import Sequence

from docutils import nodes
from sphinx import addnodes

Cell = str | nodes.Node | list[nodes.Node]


def link(document: str, title: str = "") -> nodes.Node:
    """A link to a page, under its own title unless another is given."""
    inner = nodes.inline(title, title, classes=["std", "std-doc"])
    return addnodes.pending_xref(
        "",
        inner,
        refdomain="std",
        reftype="doc",
        reftarget=f"/{document}",
        refexplicit=bool(title),
        refwarn=True,
    )


def inline(text: str) -> list[nodes.Node]:
    """Text to nodes; what stands between single backticks becomes code."""
    parts = text.split("`")
    return [
        nodes.literal(part, part) if position % 2 else nodes.Text(part)
        for position, part in enumerate(parts)
        if part
    ]


def paragraph(*cells: Cell) -> nodes.paragraph:
    """One paragraph of strings, nodes and lists of nodes."""
    found = nodes.paragraph()
    for cell in cells:
        found += inline(cell) if isinstance(cell, str) else cell
    return found


def table(head: Sequence[str], rows: Sequence[Sequence[Cell]], name: str) -> nodes.Node:
    """A table with one header row; `name` becomes its style class."""
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1) for _ in head]
    body = nodes.tbody()
    body += [table_row(row) for row in rows]
    group += [nodes.thead("", table_row(head)), body]
    return nodes.table("", group, classes=["bl-table", name])


def table_row(cells: Sequence[Cell]) -> nodes.row:
    """One row of a table."""
    row = nodes.row()
    row += [nodes.entry("", paragraph(cell)) for cell in cells]
    return row
