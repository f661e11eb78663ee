"""The book's look and the rounding of figure data, shared by all figures.

A figure's data is rounded and stored as base64, so that a notebook stays small and its
JSON is the same on every machine.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import plotly.graph_objects as go

#: Okabe and Ito's colours, told apart by colour-blind readers, on white and on black.
PALETTE = [
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#B8A800",
    "#7F7F7F",
]
DIGITS = 4
NOT_THERE = (0.72, 0.82, 0.93)  # a tint that no image has
INK = "#767676"  # contrast of about 4.5 on white and on JupyterLab's dark page
_FAINT = "rgba(128,128,128,0.25)"


def _steps(magnitude: Any, unit: float) -> Any:
    """Count units, ties away from zero, with room for the last bits of a processor."""
    return np.floor(magnitude / unit + 0.5 + 1e-5)


def _quantum(scale: float) -> float:
    """One unit of the last kept digit for numbers as large as `scale`."""
    unit = 10.0 ** (math.floor(math.log10(scale)) - DIGITS + 1)
    # 9.9996 is 10.00, not 9.9996 in units of 0.001
    return unit * 10 if _steps(scale, unit) >= 10**DIGITS else unit


def round_array(values: Any) -> np.ndarray:
    """Round to four significant digits of the largest magnitude, as float32.

    Integers from 0 to 255 become bytes. What isn't finite becomes NaN (a gap in the
    plot), zero has no sign, and an exact tie is rounded away from zero with a margin,
    so that the last bits of another processor can't change the result.
    """
    values = np.asarray(values)
    whole = values.dtype.kind in "biu" and values.size > 0
    if whole and values.min() >= 0 and values.max() <= 255:
        return np.ascontiguousarray(values, dtype=np.uint8)
    x = values.astype(np.float64)
    finite = np.isfinite(x)
    scale = float(np.abs(x[finite]).max()) if finite.any() else 0.0
    if scale < 0.99955e-12:  # below what rounds up to it: rounding twice is once
        return np.ascontiguousarray(np.where(finite, 0.0, np.nan), dtype=np.float32)
    unit = _quantum(scale)
    with np.errstate(invalid="ignore", over="ignore"):
        rounded = np.sign(x) * _steps(np.abs(x), unit) * unit + 0.0
        rounded = np.where(finite, rounded, np.nan).astype(np.float32)
    return np.ascontiguousarray(rounded)


def _round_scalar(value: float) -> float:
    if not math.isfinite(value) or abs(value) < 1e-9:
        return 0.0 if math.isfinite(value) else value
    return float(f"{value:.{DIGITS - 1}e}")


def _is_numbers(value: Any) -> bool:
    """Say whether this is a (nested) sequence of plain numbers, or a numeric array."""
    if isinstance(value, np.ndarray):
        return value.ndim > 0 and value.dtype.kind in "fiub"
    if not isinstance(value, list | tuple) or not value:
        return False
    if all(isinstance(v, list | tuple | np.ndarray) for v in value):
        return len({len(v) for v in value}) == 1 and all(map(_is_numbers, value))
    kinds = (int, float, np.integer, np.floating, type(None))
    return all(isinstance(v, kinds) for v in value) and value.count(None) < len(value)


def _rounded(value: Any, arrays: bool) -> Any:
    """Round every number below `value`; lists become arrays where plotly takes them."""
    if arrays and _is_numbers(value):
        return round_array(np.asarray(value, dtype=None if None not in value else float)
                           if isinstance(value, list | tuple) else value)  # fmt: skip
    if isinstance(value, dict):
        return {k: _rounded(v, arrays and k != "colorscale") for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(v, arrays) for v in value]
    if isinstance(value, np.ndarray):
        return value.tolist() if value.dtype.kind == "U" else value
    if isinstance(value, float | np.floating):
        return _round_scalar(float(value))
    return value.item() if isinstance(value, np.generic) else value


def _rounded_frame(frame: dict) -> dict:
    data = [_rounded(trace, arrays=True) for trace in frame.get("data", ())]
    return {**frame, "data": data, "layout": _rounded(frame.get("layout", {}), False)}


def _template() -> dict:
    axis = {
        "gridcolor": _FAINT,
        "zerolinecolor": _FAINT,
        "linecolor": INK,
        "ticks": "outside",
        "tickcolor": _FAINT,
        "automargin": True,
    }
    layout = {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "colorway": PALETTE,
        "font": {"color": INK, "family": "inherit", "size": 13},
        "hoverlabel": {"font": {"family": "sans-serif"}},
        "legend": {"orientation": "h", "x": 0, "y": 1, "yanchor": "bottom"},
        "margin": {"l": 50, "r": 20, "t": 70, "b": 45},
        "title": {"x": 0, "xref": "paper", "y": 0.98, "yanchor": "top"},
        "xaxis": axis,
        "yaxis": axis,
    }
    return {"layout": layout}


def finish(fig: go.Figure, alt: str = "") -> go.Figure:
    """Give a figure the book's look, rounded data and an alternative text.

    All data are rounded to four significant digits of their array's scale. Use it as
    the last expression of a cell that builds a plotly figure by hand. Raises ValueError
    if there is no alternative text, here or from an earlier call.
    """
    layout = {**fig.layout.to_plotly_json(), "template": _template()}
    meta = dict(layout.get("meta") or {})
    meta["alt"] = " ".join(alt.split()) or meta.get("alt", "")
    if not meta["alt"]:
        raise ValueError(
            "a figure needs alternative text, and got none: say in one sentence what "
            "a reader sees who cannot see it, finish(fig, alt='...')."
        )
    layout.setdefault("height", 400)
    data = [_rounded(trace.to_plotly_json(), arrays=True) for trace in fig.data]
    frames = [_rounded_frame(frame.to_plotly_json()) for frame in fig.frames]
    layout = {**_rounded(layout, arrays=False), "meta": meta}
    return go.Figure({"data": data, "layout": layout, "frames": frames})
