"""Sphinx extension: what was measured, rendered at build time.

`{chapters}` is the table of chapters, `{ledger} claims|chapters|runs` the tables of the
status page, and every notebook chapter gets a box "What you need" below its title. No
date, duration or device is ever typed into a page, or part of a compared output.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import book_records as records
from api_pages import not_installed
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock
from sphinx.util.docutils import SphinxDirective

NOTHING = "Nothing is recorded yet: `biglearn book run` measures the chapters."
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


def measured(record: dict[str, Any]) -> str:
    """On what a record was measured, and when."""
    return f"{record.get('device', 'unknown device')}, {record.get('date', '')[:10]}"


def costs(chapter: dict[str, Any]) -> str:
    """Time and memory of a chapter at each profile."""
    return "; ".join(
        f"{records.duration(one['seconds'])}, {records.memory(one['peak_mib'])}"
        + (f" ({profile})" if len(chapter) > 1 else "")
        for profile, one in chapter.items()
    )


class Chapters(SphinxDirective):
    """The table of chapters; its body is what Jupyter shows instead."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """Render one row a chapter."""
        root = Path(self.env.srcdir)
        ledger = records.read_ledger(root)
        head = ("Chapter", "What it shows", "Run it", "Claims held")
        rows = [self.row(one, ledger) for one in records.chapters(root)]
        return [table(head, rows, "bl-chapters")]

    def row(self, chapter: records.Chapter, ledger: dict[str, Any]) -> list[Cell]:
        """Title, first sentence, cost and claims of one chapter."""
        about, messages = self.state.inline_text(chapter.about, self.lineno)
        held, total = records.count_claims(ledger, chapter.slug)
        cost = costs(ledger["chapters"].get(chapter.slug, {})) or "not measured yet"
        claims = f"{held} of {total}" if total else "not measured yet"
        return [link(chapter.document), [*about, *messages], cost, claims]


class Ledger(SphinxDirective):
    """`claims`, `chapters` or `runs`: one of the tables of the status page."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Render the table asked for, or say that it would be empty."""
        part = directives.choice(self.arguments[0], ("claims", "chapters", "runs"))
        root = Path(self.env.srcdir)
        if part == "runs":
            found = run_tables(records.read_runs(root))
        elif part == "chapters":
            found = chapter_tables(root, records.read_ledger(root))
        else:
            found = claim_tables(root, records.read_ledger(root))
        return found or [paragraph(NOTHING)]


def claim_tables(root: Path, ledger: dict[str, Any]) -> list[nodes.Node]:
    """A summary, then a table of claims for each chapter."""
    known = {one.slug: one.document for one in records.chapters(root)}
    counts = [records.count_claims(ledger, slug) for slug in ledger["claims"]]
    held, total = (
        (sum(part) for part in zip(*counts, strict=True)) if counts else (0, 0)
    )
    if not total:
        return []
    found: list[nodes.Node] = [paragraph(f"{held} of {total} measured claims hold.")]
    for slug, claims in ledger["claims"].items():
        rows = [
            (
                name,
                records.plain(one["value"]),
                one["rule"],
                verdict(one),
                where(p, one),
            )
            for name, profiles in claims.items()
            for p, one in profiles.items()
        ]
        title = link(known[slug]) if slug in known else nodes.Text(slug)
        head = ("Claim", "Value", "Rule", "Verdict", "Measured")
        found += [nodes.rubric("", "", title), table(head, rows, "bl-claims")]
    return found


def verdict(record: dict[str, Any]) -> str:
    """Whether a claim held, in a word."""
    return "holds" if record["held"] else "FAILS"


def where(profile: str, record: dict[str, Any]) -> str:
    """Profile, device and date of a record."""
    return f"`{profile}`, {measured(record)}"


def chapter_tables(root: Path, ledger: dict[str, Any]) -> list[nodes.Node]:
    """Time, memory and versions of each measured chapter."""
    known = {one.slug: one.document for one in records.chapters(root)}
    rows = [
        (
            link(known[slug]) if slug in known else slug,
            records.duration(one["seconds"]),
            records.memory(one["peak_mib"]),
            where(profile, one),
            versions(one),
        )
        for slug, profiles in ledger["chapters"].items()
        for profile, one in profiles.items()
    ]
    head = ("Chapter", "Time", "Peak memory", "Measured", "Versions")
    return [table(head, rows, "bl-measured")] if rows else []


def versions(record: dict[str, Any]) -> str:
    """Versions of what a record was made with."""
    found = record.get("versions") or {}
    return ", ".join(f"{name} {number}" for name, number in found.items())


def run_tables(runs: list[dict[str, Any]]) -> list[nodes.Node]:
    """The recorded runs and where they come from."""
    rows = [
        (
            f"`{run['recipe']}`",
            where(run["profile"], run),
            records.duration(run.get("seconds", 0)),
            str(run.get("seed", "")),
            f"`{str(run['commit'])[:7]}`" if run.get("commit") else "",
        )
        for run in runs
    ]
    head = ("Recipe", "Recorded", "Training time", "Seed", "Commit")
    return [table(head, rows, "bl-runs")] if rows else []


def add_box(app: Sphinx, doctree: nodes.document) -> None:
    """Put "What you need" below the title of a chapter."""
    root, document = Path(app.srcdir), app.env.docname
    chapter = next((c for c in records.chapters(root) if c.document == document), None)
    section = doctree.next_node(nodes.section)
    if chapter is not None and section is not None:
        box = nodes.admonition("", classes=["bl-need", "note"])
        box += nodes.title("", "What you need")
        box += need_list(root, chapter)
        section.insert(1, box)  # child 0 is the title


def need_list(root: Path, chapter: records.Chapter) -> nodes.bullet_list:
    """Time and memory, data, recorded runs and claims of a chapter."""
    ledger = records.read_ledger(root)
    items = [need_time(ledger["chapters"].get(chapter.slug, {}))]
    items.append(need_data(chapter.datasets))
    runs = [run for run in records.read_runs(root) if run["recipe"] in chapter.runs]
    items += [paragraph("Shows ", *shown(run)) for run in best(runs)]
    held, total = records.count_claims(ledger, chapter.slug)
    if total:
        count = f"{held} of the {total} claims measured here hold: see the "
        items.append(paragraph(count, link("book/status", "status page"), "."))
    found = nodes.bullet_list(bullet="-")
    found += [nodes.list_item("", item) for item in items]
    return found


def need_time(chapter: dict[str, Any]) -> nodes.paragraph:
    """How long a chapter runs and on what that was measured."""
    if not chapter:
        return paragraph("Time and memory are not measured yet on this page.")
    text = "; ".join(
        f"{records.duration(one['seconds'])} and {records.memory(one['peak_mib'])} "
        f"at profile `{profile}` ({measured(one)})"
        for profile, one in chapter.items()
    )
    return paragraph(f"To run it: {text}.")


def need_data(datasets: Sequence[str]) -> nodes.paragraph:
    """Which data sets a chapter reads, how large they are and on which terms."""
    if not datasets:
        return paragraph("Data: none, everything is computed on the page.")
    return paragraph(f"Data: {'; '.join(map(describe_data, datasets))}.")


def describe_data(name: str) -> str:
    """One data set: what it is, its size, its licence and where it comes from."""
    with mock(not_installed()):  # the package's register of data sets needs little
        from biglearn_lite.sources import DATASETS
    entry = DATASETS.get(name)
    if entry is None:
        return f"`{name}`"
    terms = f"{entry.size}, {entry.licence}; {entry.where_from}"
    return f"`{name}`, {entry.what} ({terms})"


def best(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs a page shows at profile `auto`: the gpu record where there is one."""
    chosen = {run["recipe"]: run for run in runs if run["profile"] == "cpu"}
    chosen |= {run["recipe"]: run for run in runs if run["profile"] == "gpu"}
    return list(chosen.values())


def shown(run: dict[str, Any]) -> list[str]:
    """One recorded run, in words."""
    return [
        f"the recorded run `{run['recipe']}` at profile `{run['profile']}` ",
        f"({measured(run)}).",
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives and the box."""
    app.add_directive("chapters", Chapters)
    app.add_directive("ledger", Ledger)
    app.connect("doctree-read", add_box)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
