"""MyST-NB renderer of plotly figures: the figure's JSON in the page, drawn locally.

MyST-NB knows no renderer for plotly's own MIME type and would drop the figure. The
HTML written here is drawn by `_assets/plotly-render.js` with one shared
`plotly.min.js`, which only pages with a figure load.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from typing import Any, ClassVar

from docutils import nodes
from myst_nb.core.render import MimeData, NbElementRenderer, load_mime_renders
from sphinx.application import Sphinx

MIME = "application/vnd.plotly.v1+json"
SCRIPTS = ("plotly.min.js", "plotly-render.js")


def alternative_text(figure: dict[str, Any]) -> str:
    """What a figure shows, in words: `layout.meta.alt`, else its title."""
    layout = figure.get("layout", {})
    meta, title = layout.get("meta"), layout.get("title")
    alt = meta.get("alt") if isinstance(meta, dict) else None
    return alt or (title.get("text") if isinstance(title, dict) else title) or "figure"


def embed(figure: dict[str, Any]) -> str:
    """The HTML of one figure; the JSON cannot end its script element early."""
    kept = {key: figure[key] for key in ("data", "layout", "frames") if key in figure}
    body = json.dumps(kept, separators=(",", ":")).replace("<", "\\u003c")
    alt = html.escape(alternative_text(figure), quote=True)
    return (
        f'<div class="bl-plotly" data-figure role="img" aria-label="{alt}">'
        f'<script type="application/json">{body}</script>'
        f"<noscript>Figure, drawn with JavaScript: {alt}</noscript></div>"
    )


class PlotlyRenderer:
    """MyST-NB MIME plugin for plotly figures."""

    mime_priority_overrides: ClassVar[Sequence[tuple[str, str, int | None]]] = (
        ("html", MIME, 1),
    )

    @staticmethod
    def handle_mime(
        renderer: NbElementRenderer, data: MimeData, inline: bool
    ) -> list[nodes.Element] | None:
        """Render plotly's MIME type; leave all others to MyST-NB."""
        if inline or data.mime_type != MIME:
            return None
        for script in SCRIPTS:
            renderer.add_js_file(script, script, {"defer": "defer"})
        return [nodes.raw(text=embed(dict(data.content)), format="html")]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the renderer with MyST-NB, once."""
    renderers = load_mime_renders()
    if PlotlyRenderer not in renderers:
        renderers.append(PlotlyRenderer)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
