"""Check the rendered pages: complete, self-contained, nothing lost on the way.

Each check stands for a way in which a build that reports success can be wrong: Jupyter
Book writes nothing and exits with 0, MyST-NB drops an output it cannot render, a
directive with a typing error stays in the text, a script comes from the network.
"""

from __future__ import annotations

import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "_ext"))
import book_records  # noqa: E402 (a file beside the Sphinx extension)

PAGE_LIMIT = 1.5e6  # bytes
NOTEBOOK_LIMIT = 1e6
PLOTLY = "application/vnd.plotly.v1+json"
WIDGET = "application/vnd.jupyter.widget-view+json"
WIDGET_STATE = "application/vnd.jupyter.widget-state+json"
LOADING = {"script": "src", "img": "src", "iframe": "src", "source": "src"}
VERBATIM = {"script", "style", "pre", "code", "math"}
DIRECTIVE = re.compile(r"\{[a-z][\w:-]*\}`|^\s*(```|:::)|\{[a-z-]+\} *[a-z/-]*\n", re.M)


class Page(HTMLParser):
    """What matters of one page: what it loads, its pictures, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.images: list[dict[str, str]] = []
        self.scripts: list[str] = []  # their types
        self.figures = 0
        self.words: list[str] = []
        self._verbatim: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what the element loads and what it is."""
        found = {name: value or "" for name, value in attrs}
        if LOADING.get(tag) in found:
            self.loads.append(found[LOADING[tag]])
        if tag == "link" and found.get("rel", "") not in ("next", "prev", "search"):
            self.loads.append(found.get("href", ""))
        if tag == "img":
            self.images.append(found)
        if tag == "script":
            self.scripts.append(found.get("type", ""))
        self.figures += "bl-plotly" in found.get("class", "").split()
        verbatim = tag in VERBATIM or "math" in found.get("class", "").split()
        if verbatim or tag in self._verbatim[-1:]:  # the same tag, nested
            self._verbatim.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Leave a verbatim element."""
        if self._verbatim and tag == self._verbatim[-1]:
            self._verbatim.pop()

    def handle_data(self, data: str) -> None:
        """Collect the text that a reader sees as prose."""
        if not self._verbatim:
            self.words.append(data)


def pages(root: Path, html: Path) -> dict[str, Path]:
    """Every page of the table of contents and the file it should be in."""
    return {name: html / f"{name}.html" for name in book_records.documents(root)}


def problems(root: Path, html: Path) -> list[str]:
    """Everything wrong with the rendered book, one line each."""
    found = [] if (html / "index.html").exists() else ["index.html was not written"]
    for name, path in pages(root, html).items():
        if not path.exists():
            found.append(f"{name}: the page was not written")
            continue
        text = path.read_text("utf8")
        page = Page(text)
        wrong = [*loading_problems(page, path), *text_problems(page, text, root)]
        notebook = root / f"{name}.ipynb"
        if notebook.exists():
            wrong += notebook_problems(page, notebook)
        found += [f"{name}: {line}" for line in wrong]
    return found


def loading_problems(page: Page, path: Path) -> list[str]:
    """What the page asks of the network, and local files that are missing."""
    found = []
    for address in page.loads:
        if re.match(r"(https?:)?//", address):
            found.append(f"loads {address} from the network")
        elif not address.startswith("data:"):
            local = path.parent / re.sub(r"[?#].*", "", address)
            if not local.exists():
                found.append(f"loads {address}, which does not exist")
            elif local.suffix == ".css" and remote_in_css(local.read_text("utf8")):
                found.append(f"style {address} loads from the network")
    return found


def remote_in_css(text: str) -> bool:
    """Whether a style sheet loads a font, picture or style from elsewhere."""
    return bool(re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", text))


def text_problems(page: Page, text: str, root: Path) -> list[str]:
    """Size, paths of this machine, raw directives, pictures without words."""
    found = []
    if len(text.encode()) > PAGE_LIMIT:
        found.append(f"{len(text.encode()) / 1e6:.2f} MB, limit {PAGE_LIMIT / 1e6} MB")
    if str(root) in text:
        found.append("holds a path of the machine that built it")
    raw = DIRECTIVE.search(re.sub(r" *\n *", "\n", "".join(page.words)))
    if raw:
        found.append(f"raw directive or role in the text: {raw[0].strip()!r}")
    for image in page.images:
        alt = image.get("alt", "")
        if not alt or alt.endswith(".png"):
            found.append(f"picture without alternative text: {image.get('src')}")
    return found


def notebook_problems(page: Page, path: Path) -> list[str]:
    """Outputs that are wrong, or right but lost between notebook and page."""
    found = []
    if path.stat().st_size > NOTEBOOK_LIMIT:
        found.append(f"notebook of {path.stat().st_size / 1e6:.2f} MB, limit 1 MB")
    notebook = json.loads(path.read_text("utf8"))
    outputs = shown_outputs(notebook)
    for output in outputs:
        if output["output_type"] == "error":
            found.append(f"error output: {output.get('ename')}")
        if output.get("name") == "stderr":
            found.append(f"stderr output: {''.join(output['text'])[:60]!r}")
    figures = sum(PLOTLY in output.get("data", {}) for output in outputs)
    if figures != page.figures:
        found.append(
            f"{figures} plotly outputs, but {page.figures} figures on the page"
        )
    widgets = sum(WIDGET in output.get("data", {}) for output in outputs)
    if widgets != page.scripts.count(WIDGET):
        found.append(f"{widgets} widgets, but {page.scripts.count(WIDGET)} on the page")
    if widgets and WIDGET_STATE not in page.scripts:
        found.append("widgets without their state: execute the notebook again")
    return found


def shown_outputs(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    """All outputs but those of cells that the page removes on purpose."""
    gone = {"remove-cell", "remove-output"}
    return [
        output
        for cell in notebook["cells"]
        if not gone & set(cell["metadata"].get("tags", []))
        for output in cell.get("outputs", [])
    ]


if __name__ == "__main__":
    wrong = problems(ROOT, ROOT / "_build" / "html")
    print("\n".join(wrong) or "all pages are complete and self-contained")
    sys.exit(bool(wrong))
