"""Pictures of the book: plots, sliders that work without a server, and paint.

Figures are plotly figures with transparent paper, so that they read well in a light
and in a dark page. `finish` rounds their data, so that the JSON in a notebook is small
and the same on every machine. `explore` turns a function that returns a figure into
something to drag; `paint` lets the reader choose S and T on an image.
"""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from biglearn_lite._explore import explore
from biglearn_lite._finish import INK, NOT_THERE, PALETTE, finish
from biglearn_lite._paint import Paint, paint

if TYPE_CHECKING:
    from IPython.display import Markdown
    from matplotlib.figure import Figure

__all__ = [
    "PALETTE",
    "Paint",
    "curves",
    "explore",
    "finish",
    "grid",
    "heatmap",
    "paint",
    "source",
]

_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_SYMBOLS = ("circle", "diamond", "square", "cross", "x", "triangle-up")
_VIRIDIS = [
    "#440154",
    "#482878",
    "#3e4989",
    "#31688e",
    "#26828e",
    "#1f9e89",
    "#35b779",
    "#6ece58",
    "#b5de2b",
    "#fde725",
]


def _titles(title: str, xaxis: str, yaxis: str) -> dict:
    return {
        "title": {"text": title},
        "xaxis": {"title": {"text": xaxis}},
        "yaxis": {"title": {"text": yaxis}},
    }


def curves(
    x: Sequence[float],
    series: Mapping[str, Sequence[float]],
    *,
    title: str = "",
    xaxis: str = "",
    yaxis: str = "",
    yrange: tuple[float, float] | None = None,
    alt: str = "",
) -> go.Figure:
    """Draw named curves over one axis: x of shape (N,), every series of shape (N,).

    Colours and dashes both tell the curves apart. Raises ValueError if the lengths
    differ.
    """
    x = _numbers(x)
    fig = go.Figure(layout=_titles(title, xaxis, yaxis))
    for i, (name, values) in enumerate(series.items()):
        y = _numbers(values)
        if x.ndim != 1 or y.shape != x.shape:
            raise ValueError(
                f"a curve has one value at each x: x has shape {x.shape} and {name!r} "
                f"{y.shape}; give both as vectors of one length."
            )
        line = {"dash": _DASHES[i % len(_DASHES)], "color": PALETTE[i % len(PALETTE)]}
        fig.add_scatter(x=x, y=y, name=name, mode="lines", line=line)
    fig.update_layout(showlegend=len(series) > 1)
    if yrange is not None:
        fig.update_yaxes(range=list(yrange))
    return finish(fig, alt or title)


def heatmap(
    values: Any,
    x: Sequence[float],
    y: Sequence[float],
    *,
    title: str = "",
    xaxis: str = "",
    yaxis: str = "",
    zmax: float | None = None,
    gamma: float = 1.0,
    points: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    alt: str = "",
) -> go.Figure:
    """Draw a map: values of shape (len(x), len(y)), values[i, j] at (x[i], y[j]).

    `gamma` below 1 spends more colours on small values (power-law colours, the numbers
    stay as they are). `points` are drawn on top. Raises ValueError if shapes differ.
    """
    values, x, y = _numbers(values), _numbers(x), _numbers(y)
    if values.shape != (len(x), len(y)):
        raise ValueError(
            f"a map has one value at each (x, y): values has shape {values.shape}, the "
            f"axes {len(x)} and {len(y)}; values[i, j] belongs to (x[i], y[j])."
        )
    low, high = min(0.0, float(np.nanmin(values))), float(np.nanmax(values))
    scale = [[(k / 9) ** (1 / gamma), colour] for k, colour in enumerate(_VIRIDIS)]
    fig = go.Figure(layout=_titles(title, xaxis, yaxis))
    fig.add_heatmap(
        x=x,
        y=y,
        z=values.T,
        zmin=low,
        zmax=high if zmax is None else zmax,
        colorscale=scale,
        colorbar={"thickness": 14, "outlinewidth": 0},
    )
    for i, (name, where) in enumerate((points or {}).items()):
        at = np.asarray(where, dtype=float).reshape(-1, 2)
        marker = {
            "symbol": _SYMBOLS[i % len(_SYMBOLS)],
            "size": 12,
            "color": ("#D55E00", "#FFFFFF", "#CC79A7", "#56B4E9")[i % 4],
            "line": {"color": "#000000", "width": 1.5},
        }
        fig.add_scatter(
            x=at[:, 0], y=at[:, 1], mode="markers", name=name, marker=marker
        )
    fig.update_layout(showlegend=bool(points), height=460)
    return finish(fig, alt or title)


def grid(
    images: Any, columns: int, titles: Sequence[str] | None = None, alt: str = ""
) -> Figure:
    """Draw small images, (N, H, W) or (N, H, W, 3) with values in [0, 1], in columns.

    NaN is "not there" and drawn in a tint that no image has. The alternative text on
    the page comes from the cell's metadata; `alt` names the figure in the kernel.
    """
    from matplotlib import pyplot as plt

    images = _numbers(images)
    rows = math.ceil(len(images) / columns)
    size = (columns * 1.05, rows * (1.3 if titles else 1.05))
    fig, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, dpi=110)
    fig.patch.set_alpha(0.0)
    fig.set_label(alt)
    for i, axis in enumerate(axes.flat):
        axis.axis("off")
        if i >= len(images):
            continue
        image = images[i] if images.ndim == 4 else np.repeat(images[i][..., None], 3, 2)
        axis.imshow(np.where(np.isnan(image), NOT_THERE, np.clip(image, 0, 1)))
        if titles is not None:
            axis.set_title(str(titles[i]), fontsize=8, color=INK)
    fig.tight_layout(pad=0.3)
    plt.close(fig)  # shown once, as the value of the cell
    return fig


def source(obj: Any, docstring: bool = True) -> Markdown:
    """Show the source code of a function or class, without a second copy of it."""
    from IPython.display import Markdown

    code = textwrap.dedent(inspect.getsource(inspect.unwrap(obj))).rstrip()
    if not docstring:
        body = ast.parse(code).body[0].body  # type: ignore[attr-defined]
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            lines = code.splitlines()
            code = "\n".join(lines[: body[0].lineno - 1] + lines[body[0].end_lineno :])
    return Markdown(f"```python\n{code}\n```")


def _numbers(values: Any) -> np.ndarray:
    """Return a float64 array of a sequence, an array or a tensor on any device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)
