"""Sphinx extension: the box "What you need" below the title of every chapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import book_records as records
from api_pages import not_installed
from docutils import nodes
from page_nodes import link, paragraph
from sphinx.application import Sphinx
from sphinx.ext.autodoc.mock import mock


def add_box(app: Sphinx, doctree: nodes.document) -> None:
    """Put "What you need" below the title of a chapter."""
    root, document = Path(app.srcdir), app.env.docname
    if document not in records.documents(root)[1:]:  # the introduction needs no box
        return
    chapter = records.read_chapter(root, document)
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
        f"at profile `{profile}` ({records.measured(one)})"
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
    took = f"{records.duration(run['seconds'])} " if "seconds" in run else ""
    return [
        f"the recorded run `{run['recipe']}` at profile `{run['profile']}` ",
        f"({took}{records.measured(run)}).",
    ]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the box."""
    app.connect("doctree-read", add_box)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
