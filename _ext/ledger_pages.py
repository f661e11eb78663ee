"""Sphinx extension: what was measured, rendered at build time.

`{chapters}` is the table of chapters, `{ledger} claims|chapters|runs` the tables of the
status page. No date, duration or device is ever typed into a page, or part of a
compared output.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import book_records as records
from docutils import nodes
from docutils.parsers.rst import directives
from page_nodes import Cell, link, paragraph, table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

NOTHING = "Nothing is recorded yet: `biglearn book run` measures the chapters."
UNMEASURED = "not measured yet"


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
        """Title, contents, cost and claims of one chapter."""
        about, messages = self.state.inline_text(chapter.about, self.lineno)
        held, total = records.count_claims(ledger, chapter.slug)
        cost = records.costs(ledger["chapters"].get(chapter.slug, {}))
        claims = f"{held} of {total}" if total else UNMEASURED
        return [
            link(chapter.document),
            [*about, *messages],
            cost or UNMEASURED,
            claims,
        ]


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
    """A summary, then the claims of each page, one table for what was run together."""
    counts = [records.count_claims(ledger, slug) for slug in ledger["claims"]]
    held, total = sum(h for h, _ in counts), sum(t for _, t in counts)
    if not total:
        return []
    found: list[nodes.Node] = [paragraph(f"{held} of {total} measured claims hold.")]
    for slug, title in page_links(root, ledger["claims"]).items():
        found.append(nodes.rubric("", "", title))
        for place, rows in claim_rows(ledger["claims"][slug]).items():
            head = ("Claim", "Value", "Rule", "Verdict")
            found += [paragraph(f"Run {place}."), table(head, rows, "bl-claims")]
    return found


def claim_rows(claims: dict[str, Any]) -> dict[str, list[Sequence[Cell]]]:
    """The rows of a page's claims, by where and when they were measured."""
    found: dict[str, list[Sequence[Cell]]] = {}
    for name, profiles in claims.items():
        for profile, one in profiles.items():
            row = (name, records.plain(one["value"]), one["rule"], records.verdict(one))
            found.setdefault(records.where(profile, one), []).append(row)
    return found


def page_links(root: Path, slugs: Iterable[str]) -> dict[str, nodes.Node]:
    """Links to the pages of `slugs`, in the order of the book."""
    known = {name.rpartition("/")[2]: name for name in records.documents(root)}
    order = [slug for slug in known if slug in slugs]
    order += [slug for slug in slugs if slug not in known]
    return {s: link(known[s]) if s in known else nodes.Text(s) for s in order}


def chapter_tables(root: Path, ledger: dict[str, Any]) -> list[nodes.Node]:
    """Time, memory and versions of each measured chapter."""
    rows = [
        (
            title.deepcopy(),
            records.duration(one["seconds"]),
            records.memory(one["peak_mib"]),
            records.where(profile, one),
            versions(one),
        )
        for slug, title in page_links(root, ledger["chapters"]).items()
        for profile, one in ledger["chapters"][slug].items()
    ]
    head = ("Chapter", "Time", "Peak memory", "Run", "Versions")
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
            records.where(run["profile"], run),
            records.duration(run.get("seconds", 0)),
            str(run.get("seed", "")),
            f"`{str(run['commit'])[:7]}`" if run.get("commit") else "",
        )
        for run in runs
    ]
    head = ("Recipe", "Recorded", "Training time", "Seed", "Commit")
    return [table(head, rows, "bl-runs")] if rows else []


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("chapters", Chapters)
    app.add_directive("ledger", Ledger)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
