"""Sliders for a function that returns a figure, with and without Python behind them."""

from __future__ import annotations

import inspect
import itertools
import math
import os
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from biglearn_lite._finish import DIGITS, finish

if TYPE_CHECKING:
    from ipywidgets import VBox

MAX_FRAMES = 60
MAX_MAP = 40


def explore(function: Callable[..., go.Figure], **values: Sequence) -> Any:
    """Turn `function(**one_value_each) -> Figure` into one to three sliders.

    `values` gives each slider's positions, at most 60 combinations, maps at most
    40 x 40. The first line of the function's docstring is the alternative text. With
    BIGLEARN_STATIC=1 every combination is computed now and stored as a frame, which the
    page shows without Python; otherwise sliders of ipywidgets call the function when
    they move. Raises ValueError if a rule is broken; an exception of the function is
    raised here (live: of the first combination; later ones are shown below the slider).
    """
    positions = _positions(function, values)
    if os.environ.get("BIGLEARN_STATIC") == "1":
        return _explore_static(function, positions)
    return _explore_live(function, positions)


def _positions(function: Callable, values: Mapping[str, Sequence]) -> dict[str, list]:
    for name, sequence in values.items():
        if not isinstance(sequence, Iterable) or isinstance(sequence, str):
            raise ValueError(
                f"slider {name!r} needs a sequence of values, and got {sequence!r}: "
                f"write {name}=[{sequence!r}]."
            )
    positions = {name: list(sequence) for name, sequence in values.items()}
    if not 1 <= len(positions) <= 3:
        raise ValueError(
            f"explore has one to three sliders, and got {len(positions)}: name the "
            "values to drag, explore(function, angle=[0, 15, 30])."
        )
    for name, sequence in positions.items():
        if not sequence:
            raise ValueError(f"slider {name!r} has no values: give it at least one.")
    frames = math.prod(map(len, positions.values()))
    if frames > MAX_FRAMES:
        raise ValueError(
            f"explore stores at most {MAX_FRAMES} frames in a page, and these values "
            f"make {frames}: give the sliders fewer positions."
        )
    if not (inspect.getdoc(function) or "").strip():
        raise ValueError(
            "explore takes the alternative text from the function's docstring, and "
            "there is none: say in its first line what the figure shows."
        )
    return positions


def _label(value: Any) -> str:
    """Write a slider's value as short as it stays itself to four digits."""
    if isinstance(value, float | np.floating):
        return f"{value + 0.0:.{DIGITS}g}"
    return str(value)


def _frame(function: Callable, positions: dict[str, list], index: tuple) -> go.Figure:
    """Call the function at one combination of positions and finish its figure."""
    chosen = {n: v[i] for (n, v), i in zip(positions.items(), index, strict=True)}
    fig = function(**chosen)
    if not isinstance(fig, go.Figure):
        raise ValueError(
            f"explore needs a plotly Figure from the function, and got "
            f"{type(fig).__name__}: return the figure."
        )
    alt = inspect.getdoc(function).strip().splitlines()[0]
    fig = finish(fig, alt)
    for trace in fig.data:
        shape = np.shape(trace.z) if "z" in trace else ()
        if max(shape[:2], default=0) > MAX_MAP:
            raise ValueError(
                f"a map that is explored has at most {MAX_MAP} x {MAX_MAP} cells, and "
                f"this one is {' x '.join(map(str, shape))}: use a coarser grid."
            )
    return fig


def _check_alike(fig: go.Figure, first: go.Figure) -> None:
    if [trace.type for trace in fig.data] != [trace.type for trace in first.data]:
        raise ValueError(
            "every frame needs the same traces in the same order, and they differ: "
            "draw an empty trace where there is nothing to show."
        )


def _indices(positions: dict[str, list]) -> list[tuple[int, ...]]:
    return list(itertools.product(*(range(len(v)) for v in positions.values())))


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
    return type(a) is type(b) and a == b


def _varying(parts: list[dict]) -> list[str]:
    """Return the keys whose value isn't the same in all of `parts`."""
    keys = sorted({key for part in parts for key in part})
    return [
        key
        for key in keys
        if not all(_same(part.get(key), parts[0].get(key)) for part in parts)
    ]


def _frames(traces: list[list[dict]], layouts: list[dict]) -> list[dict]:
    """Return for each picture what is not the same in all of them.

    A key that some picture lacks is left out of its frame: the page forgets all keys
    that change before it puts a frame on.
    """
    changes = [_varying(list(same)) for same in zip(*traces, strict=True)]
    moving = [k for k, keys in enumerate(changes) if keys]
    redrawn = _varying(layouts)
    return [
        {
            "traces": moving,
            "data": [_chosen(each[k], ["type", *changes[k]]) for k in moving],
            **({"layout": _chosen(layout, redrawn)} if redrawn else {}),
        }
        for each, layout in zip(traces, layouts, strict=True)
    ]


def _chosen(part: dict, keys: list[str]) -> dict:
    return {key: part[key] for key in keys if key in part}


def _explore_static(function: Callable, positions: dict[str, list]) -> go.Figure:
    indices = _indices(positions)
    figures = [_frame(function, positions, index) for index in indices]
    traces = [[t.to_plotly_json() for t in fig.data] for fig in figures]
    layouts = [fig.layout.to_plotly_json() for fig in figures]
    for fig in figures:
        _check_alike(fig, figures[0])
    frames = _frames(traces, layouts)
    for index, frame in zip(indices, frames, strict=True):
        frame["name"] = ",".join(map(str, index))
    sliders = {
        "names": [name.replace("_", " ") for name in positions],
        "values": [[_label(v) for v in sequence] for sequence in positions.values()],
        "start": [0] * len(positions),
    }
    layout = {**layouts[0], "meta": {**layouts[0]["meta"], "explore": sliders}}
    return go.Figure({"data": traces[0], "layout": layout, "frames": frames})


def _explore_live(function: Callable, positions: dict[str, list]) -> VBox:
    import ipywidgets

    sliders = [
        ipywidgets.SelectionSlider(
            options=[(_label(v), i) for i, v in enumerate(sequence)],
            value=0,
            description=name.replace("_", " "),
            style={"description_width": "initial"},
            layout={"width": "min(100%, 32rem)"},
        )
        for name, sequence in positions.items()
    ]
    first = (0,) * len(sliders)
    fig = _frame(function, positions, first)
    shown = {first: (_displayed(fig),)}
    room = {"min_height": f"{fig.layout.height}px"}  # the page stays still in between
    output = ipywidgets.Output(outputs=shown[first], layout=room)

    def redraw(_change: Any) -> None:
        index = tuple(slider.value for slider in sliders)
        if index not in shown:
            try:
                new = _frame(function, positions, index)
                _check_alike(new, fig)  # what the page would refuse, refuse here too
                shown[index] = (_displayed(new),)
            except Exception as error:  # shown where the reader looks
                shown[index] = (_failed(error),)
        output.outputs = shown[index]

    for slider in sliders:
        slider.observe(redraw, names="value")
    return ipywidgets.VBox([*sliders, output])


def _displayed(fig: go.Figure) -> dict:
    """Return what a notebook stores when a cell shows the figure."""
    data = {
        "application/vnd.plotly.v1+json": {
            **fig.to_dict(),
            "config": {"displayModeBar": False},
        },
        "text/plain": fig.layout.meta["alt"],
    }
    return {"output_type": "display_data", "data": data, "metadata": {}}


def _failed(error: Exception) -> dict:
    return {
        "output_type": "error",
        "ename": type(error).__name__,
        "evalue": str(error),
        "traceback": traceback.format_exception(error),
    }
