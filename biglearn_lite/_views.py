"""The arguments of `landscapes`: what a map looks at, checked and put in one table.

A view is a row (cos, sin, y2): the axes' angle and the place of the cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

Numbers = float | Sequence[float] | Sequence[Sequence[float]] | np.ndarray | Tensor

KINDS = ("joint", "marginal", "conditional")
DIRECTIONS = ("reverse", "forward")


def check(kind: str, variance: float, direction: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}.")
    if direction not in DIRECTIONS:
        raise ValueError(
            f"direction must be 'reverse' (KL[p || q]) or 'forward' (KL[q || p]), got "
            f"{direction!r}."
        )
    if not (variance > 0 and math.isfinite(variance)):
        raise ValueError(f"variance must be positive and finite, got {variance}.")


def finite(name: str, numbers: Numbers) -> Tensor:
    t = torch.as_tensor(numbers, dtype=torch.float64)
    if not t.isfinite().all():
        raise ValueError(f"{name} must be finite numbers, got NaN or infinity.")
    return t


def axis(name: str, numbers: Numbers) -> Tensor:
    t = finite(name, numbers)
    if t.ndim != 1 or len(t) == 0:
        raise ValueError(
            f"{name} must be a list of numbers, the grid's values, got shape "
            f"{tuple(t.shape)}."
        )
    return t


def angle_value(kind: str, angle: Numbers, value: Numbers | None) -> list[Tensor]:
    if (value is None) == (kind == "conditional"):
        rule = "needs value=, the y2 to cut at" if value is None else "takes no value="
        raise ValueError(f"kind {kind!r} {rule}, got value={value!r}.")
    return [finite("angle", angle), finite("value", 0.0 if value is None else value)]


def turn(kind: str, angle: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(cos, sin, y2) of a view; without sin the weights stay even: a marginal."""
    radians = torch.deg2rad(angle)
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    if kind == "conditional":
        return radians.cos(), radians.sin(), value
    return (one if kind == "joint" else radians.cos()), zero, zero


def views_of(
    kind: str, angle: Numbers, value: Numbers | None
) -> tuple[Tensor, tuple[int, ...]]:
    """All views as rows (cos, sin, y2) of a table (M, 3), and their shape."""
    angle, value = angle_value(kind, angle, value)
    if angle.ndim > 1 or value.ndim > 1 + angle.ndim:
        raise ValueError(
            f"angle must be a number or a list, value a number, a list or a table "
            f"(angles, values), got shapes {tuple(angle.shape)}, {tuple(value.shape)}."
        )
    if value.ndim == 2 and len(value) != len(angle):
        raise ValueError(
            f"A table of values needs a row for each of the {len(angle)} angles, got "
            f"{len(value)} rows."
        )
    if value.ndim:
        angle = angle[..., None]
    cos, sin, y2 = torch.broadcast_tensors(*turn(kind, angle, value))
    return torch.stack([cos, sin, y2], -1).reshape(-1, 3), tuple(cos.shape)
