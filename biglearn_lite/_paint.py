"""The widget of `figures.paint`: choose S and T on an image, or draw one.

All that the reader sees at once is computed in `paint.js`, so that it works on a page
without Python; what needs a model comes from `respond` in live Jupyter.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets

if TYPE_CHECKING:
    from biglearn_lite.tasks import Task

ABSENT, SOURCE, TARGET = 0, 1, 2


class Paint(anywidget.AnyWidget):
    """An image under a grid of patches, each of them source, target or absent.

    `roles` lists one number a patch, row by row: 0 absent, 1 source, 2 target. Made by
    `figures.paint`.
    """

    _esm = pathlib.Path(__file__).parent / "paint.js"
    _css = pathlib.Path(__file__).parent / "paint.css"

    image = traitlets.Bytes().tag(sync=True)
    shape = traitlets.List(traitlets.Int()).tag(sync=True)
    rows = traitlets.Int().tag(sync=True)
    cols = traitlets.Int().tag(sync=True)
    roles = traitlets.List(traitlets.Int()).tag(sync=True)
    is_drawing = traitlets.Bool(False).tag(sync=True)
    pixels = traitlets.Unicode("").tag(sync=True)  # two hexadecimal digits a pixel
    message = traitlets.Unicode("").tag(sync=True)
    label = traitlets.Unicode("").tag(sync=True)

    @traitlets.validate("roles")
    def _check_roles(self, proposal: dict[str, Any]) -> list[int]:
        roles = proposal["value"]
        if len(roles) != self.rows * self.cols or not set(roles) <= {0, 1, 2}:
            raise traitlets.TraitError(
                f"roles needs {self.rows * self.cols} numbers, one a patch, each 0 "
                f"(absent), 1 (source) or 2 (target), and got {roles}."
            )
        return roles

    def __repr__(self) -> str:
        what = "a drawing on" if self.is_drawing else "tasks painted on"
        return f"paint: {what} {self.rows} x {self.cols} cells"

    @property
    def task(self) -> Task | None:
        """The painted task, batch 1, or None while nothing is a target."""
        import torch

        from biglearn_lite.tasks import Task

        roles = torch.tensor([self.roles])
        if self.is_drawing or not (roles == TARGET).any():
            return None
        return Task(roles == SOURCE, roles == TARGET)

    @property
    def drawing(self) -> np.ndarray:
        """The drawing, (rows, cols) bytes, 0 where nothing is drawn."""
        grey = np.frombuffer(bytes.fromhex(self.pixels), dtype=np.uint8)
        return grey.reshape(self.rows, self.cols).copy()

    def _answer(self, respond: Callable[[Any], str]) -> None:
        painted = self.drawing if self.is_drawing else self.task
        self.message = "" if painted is None else str(respond(painted))

    def _answer_later(self, respond: Callable[[Any], str]) -> None:
        try:
            self._answer(respond)
        except Exception as error:  # the reader is looking at the message
            self.message = f"respond failed: {type(error).__name__}: {error}"


def paint(
    image: Any = None,
    rows: int = 4,
    cols: int = 4,
    *,
    source: Iterable[int] = (),
    target: Iterable[int] = (),
    respond: Callable[[Any], str] | None = None,
    drawing: bool = False,
    alt: str = "an image",
) -> Paint:
    """Paint the roles source, target and absent on the patches of an image.

    `image` is (H, W) or (H, W, 3), floats in [0, 1] or bytes; patches are numbered row
    by row, as in `patchify`. `source` and `target` say which have that role at first.
    `respond(task) -> str` is called at first and after each change in live Jupyter, its
    answer is shown below; an exception of the first call is raised, a later one is
    shown. With `drawing=True` the reader draws grey values on rows x cols pixels
    instead, `image` may be None (black) and `respond` gets the (rows, cols) bytes. The
    result has `.task` (or `.drawing`). Raises ValueError for an image that doesn't
    divide into the grid, values outside their range, and roles that overlap.
    """
    if min(rows, cols) < 1:
        raise ValueError(f"the grid needs rows and columns, and got {rows} x {cols}.")
    picture = _bytes(np.zeros((rows, cols)) if drawing and image is None else image)
    height, width = picture.shape[:2]
    if height % rows or width % cols or (drawing and picture.shape != (rows, cols)):
        raise ValueError(
            f"an image of {height} x {width} does not divide into {rows} x {cols} "
            "cells: choose rows and columns that divide its sides (all of them, one "
            "grey pixel a cell, for a drawing)."
        )
    widget = Paint(
        image=picture.tobytes(),
        shape=list(picture.shape),
        rows=rows,
        cols=cols,
        roles=_roles(rows * cols, source, target),
        is_drawing=drawing,
        pixels=picture.tobytes().hex() if drawing else "",
        label=alt,
    )
    if respond is not None:
        widget._answer(respond)
        names = ["pixels"] if drawing else ["roles"]
        widget.observe(lambda _change: widget._answer_later(respond), names=names)
    return widget


def _bytes(image: Any) -> np.ndarray:
    """Return the image as bytes, or say what is wrong with it."""
    if hasattr(image, "detach"):
        image = image.detach().cpu().numpy()
    image = np.asarray(image)
    grey_or_colour = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    if not grey_or_colour or image.size == 0:
        raise ValueError(
            f"paint takes an image of shape (H, W) or (H, W, 3), and got {image.shape}."
        )
    high = 255 if image.dtype.kind in "iu" else 1
    if not ((image >= 0) & (image <= high)).all():
        raise ValueError(
            f"an image holds floats in [0, 1] or integers in [0, 255], and this one "
            f"({image.dtype}) goes from {image.min()} to {image.max()}: rescale it."
        )
    scaled = image if high == 255 else np.floor(image * 255 + 0.5)
    return np.ascontiguousarray(scaled, dtype=np.uint8)


def _roles(length: int, source: Iterable[int], target: Iterable[int]) -> list[int]:
    roles = [ABSENT] * length
    for name, role, tokens in (("source", SOURCE, source), ("target", TARGET, target)):
        for token in map(int, tokens):
            if not 0 <= token < length or roles[token] not in (ABSENT, role):
                why = "has a role already" if 0 <= token < length else "is outside"
                raise ValueError(
                    f"{name} names patch {token}, which {why}: patches go from 0 to "
                    f"{length - 1} and source and target are disjoint."
                )
            roles[token] = role
    return roles
