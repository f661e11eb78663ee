"""Painting a batch of faces: panes of a canvas, distances to shapes, soft edges.

Lengths are in units of 1/64 of the image, from the upper left corner, at any size.
Only sums, products, quotients and square roots are used, which every machine rounds
alike: so the same generator gives the same bytes everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

UNITS = 64
CELLS = 8  # windows of parts are whole cells of this grid
CENTRE = (32.0, 34.0)  # of a head that does not lean

Number = float | Tensor
Window = tuple[int, int, int, int]  # rows from, to; columns from, to; in cells


@dataclass(frozen=True)
class Sitter:
    """What is known of each face of a batch while one part of it is painted.

    Attributes:
        factors: name -> (B, 1, 1) in [0, 1].
        attributes: name -> (B, 1, 1), 0 or 1: those that the part may read.
    """

    factors: Mapping[str, Tensor]
    attributes: Mapping[str, Tensor]

    def between(self, factor: str, low: Number, high: Number) -> Tensor:
        """A factor on another scale, (B, 1, 1)."""
        return self.factors[factor] * (high - low) + low

    def choose(self, attribute: str, yes: Number, no: Number) -> Tensor:
        """One number or another, by an attribute: (B, 1, 1)."""
        return torch.where(
            self.attributes[attribute] > 0, torch.as_tensor(yes), torch.as_tensor(no)
        )

    def take(self, rows: Tensor) -> Sitter:
        """Some of the faces."""
        return Sitter(
            {name: value[rows] for name, value in self.factors.items()},
            {name: value[rows] for name, value in self.attributes.items()},
        )


@dataclass(frozen=True)
class Pane:
    """A window of the canvas, for all faces of a batch.

    Attributes:
        image: (B, 3, h, w) in [0, 1], painted in place.
        u, v: (B, h, w) place on the head: right, and down from the image's top; the
            face looks straight ahead there, its middle is u = 0.
        x, y: (1, 1, w) and (1, h, 1) place in the image; its middle is x = 0.
        pixel: side of a pixel.
    """

    image: Tensor
    u: Tensor
    v: Tensor
    x: Tensor
    y: Tensor
    pixel: float

    def cut(self, window: Window) -> Pane:
        """A smaller pane, on the same canvas."""
        top, bottom, left, right = (n * self.image.shape[-1] // CELLS for n in window)
        tall, wide = slice(top, bottom), slice(left, right)
        return Pane(
            self.image[..., tall, wide],
            self.u[:, tall, wide],
            self.v[:, tall, wide],
            self.x[..., wide],
            self.y[:, tall],
            self.pixel,
        )

    def take(self, rows: Tensor) -> Pane:
        """A copy for some of the faces."""
        return Pane(
            self.image[rows], self.u[rows], self.v[rows], self.x, self.y, self.pixel
        )

    def inside(self, distance: Tensor) -> Tensor:
        """How much of each pixel is covered by a shape, from the distance to it."""
        return (0.5 - distance / self.pixel).clamp_(0, 1)

    def paint(self, cover: Tensor, colour: Tensor) -> None:
        """Colour (B, 3, 1, 1) or (B, 3, h, w) over what is there."""
        self.image.add_((colour - self.image).mul_(cover[:, None]))

    def shade(self, factor: Tensor) -> None:
        """Lighter or darker: times a factor (B, h, w)."""
        self.image.mul_(factor[:, None])


def canvas(sitter: Sitter, size: int) -> Pane:
    """An empty canvas for all faces, and where each pixel lies on each head."""
    pixel = UNITS / size
    middle = (torch.arange(size, dtype=torch.float32) + 0.5) * pixel
    x, y = middle.view(1, 1, -1) - CENTRE[0], middle.view(1, -1, 1)
    right = x - sitter.between("shift_right", -1.2, 1.2)
    down = y - CENTRE[1] - sitter.between("shift_down", -0.6, 0.6)
    half = sitter.between("tilt", -0.035, 0.035)  # tangent of half the angle
    length = (1 + half * half) * sitter.between("size", 0.97, 1.03)
    cosine, sine = (1 - half * half) / length, half * 2 / length
    u = (right * cosine + down * sine) / sitter.between("width", 0.95, 1.04)
    v = down * cosine - right * sine + CENTRE[1]
    image = torch.empty(len(half), 3, size, size)
    return Pane(image, u, v, x, y, pixel)


# ---------------------------------------------------------------- shapes


def ellipse(x: Tensor, y: Tensor, wide: Number, tall: Number) -> Tensor:
    """Distance to an ellipse about 0 with these half axes, negative inside.

    Exact for a circle, and near the edge of one that is not too flat.
    """
    across, down = x / wide, y / tall
    radius = (across * across + down * down).sqrt_()
    return (radius - 1) * ((wide + tall) * 0.5)


def box(x: Tensor, y: Tensor, wide: Number, tall: Number, corner: Number) -> Tensor:
    """Distance to a rounded box about 0 with these half sides."""
    right = x.abs() - (wide - corner)
    down = y.abs() - (tall - corner)
    outside = (right.clamp(min=0).square() + down.clamp(min=0).square()).sqrt_()
    return outside + torch.maximum(right, down).clamp_(max=0) - corner


def stroke(
    x: Tensor, y: Tensor, start: tuple[Number, Number], end: tuple[Number, Number]
) -> Tensor:
    """Distance to a straight line between two points."""
    right, down = end[0] - start[0], end[1] - start[1]
    along = (x - start[0]) * right + (y - start[1]) * down
    along = (along / (right * right + down * down)).clamp_(0, 1)
    x, y = x - start[0] - along * right, y - start[1] - along * down
    return (x * x + y * y).sqrt_()


def bump(t: Tensor) -> Tensor:
    """1 at 0, smoothly down to 0 at -1 and 1."""
    return (1 - t * t).clamp_(min=0)


def wave(t: Tensor) -> Tensor:
    """Up and down between 0 and 1 with period 1, in parabolas."""
    t = t - t.floor()
    return t * (1 - t) * 4


# ---------------------------------------------------------------- colours


def rgb(*levels: float) -> Tensor:
    """One colour, (1, 3, 1, 1)."""
    return torch.tensor(levels).view(1, 3, 1, 1)


def along(t: Tensor, stops: Tensor) -> Tensor:
    """Colours (B, 3, 1, 1) at t (B, 1, 1) in [0, 1] on the way through stops (N, 3)."""
    place = t[:, None] * (len(stops) - 1)
    found = torch.zeros(len(t), 3, 1, 1)
    for number, stop in enumerate(stops):
        found = found + bump_linear(place - number) * stop.view(1, 3, 1, 1)
    return found


def bump_linear(t: Tensor) -> Tensor:
    """1 at 0, straight down to 0 at -1 and 1."""
    return (1 - t.abs()).clamp(min=0)


def hue(t: Tensor, saturation: Number, value: Number) -> Tensor:
    """Colours (B, 3, 1, 1) of hue t (B, 1, 1): red at 0, green at 1/3, blue at 2/3."""
    shifted = t[:, None] * 6 + torch.tensor([0.0, 4.0, 2.0]).view(1, 3, 1, 1)
    shifted = shifted - (shifted / 6).floor() * 6
    pure = ((shifted - 3).abs() - 1).clamp(0, 1)
    saturation, value = (
        n[:, None] if isinstance(n, Tensor) else n for n in (saturation, value)
    )
    return (1 - (1 - pure) * saturation) * value
