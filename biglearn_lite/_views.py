"""The arguments of `landscapes`: what a map looks at, checked and put in one table.

A view is a row (cos, sin, y2): the axes' angle and the place of the cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from biglearn_lite._task_checks import number

Numbers = float | Sequence[float] | Sequence[Sequence[float]] | np.ndarray | Tensor

KINDS = ("joint", "marginal", "conditional")
DIRECTIONS = ("reverse", "forward")
MARGINAL_ANGLES = tuple(range(0, 180, 15))  # the 12 angles of the official script
CONDITIONAL_ANGLES = tuple(range(0, 91, 15))  # its 7 angles, with 7 values of y2 each


def check(kind: str, variance: float, direction: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}, got {kind!r}.")
    if direction not in DIRECTIONS:
        raise ValueError(
            f"direction must be 'reverse' (KL[p || q]) or 'forward' (KL[q || p]), got "
            f"{direction!r}."
        )
    if not 0 < number("variance", variance) < math.inf:
        raise ValueError(f"variance must be positive and finite, got {variance!r}.")


def finite(name: str, numbers: Numbers) -> Tensor:
    try:
        t = torch.as_tensor(numbers, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be numbers, got {numbers!r}.") from None
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


def conditional_values(angle: Numbers, variance: float = 0.1, n: int = 7) -> Tensor:
    """The `n` equally spaced values of y2 at which the official script cuts.

    They span [-m, m], m = (1 + 3 s) sin(t) + 3 s cos(t) with s the standard deviation:
    the largest y2 of the corners (+-(1 + 3 s), +-3 s) of the data's box.

    Args:
        angle: degrees in [0, 90]; a number or A of them.
        variance: the variance of every Gaussian.
        n: how many values.

    Returns:
        float64 (n,), or (A, n) for several angles.

    Raises:
        ValueError: if the variance is not positive or `n` is below 1.
    """
    check("joint", variance, "reverse")
    if n < 1:
        raise ValueError(f"n, the number of values, must be at least 1, got {n}.")
    radians = torch.deg2rad(finite("angle", angle))
    sd = math.sqrt(variance)
    m = (1 + 3 * sd) * radians.sin() + 3 * sd * radians.cos()
    return m[..., None] * torch.linspace(-1, 1, n, dtype=torch.float64)
