"""Checks of arguments about tokens and tasks: the rule, what came, what to do."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def as_mask(name: str, value: Any) -> Tensor:
    """A boolean `(B, L)` mask; one row `(L,)` becomes `(1, L)`."""
    mask = torch.as_tensor(value)
    if mask.dtype != torch.bool:
        raise ValueError(
            f"{name} must be a boolean mask, got {mask.dtype}; compare to make one, "
            "as in `mask > 0`."
        )
    if mask.ndim not in (1, 2):
        raise ValueError(
            f"{name} must have shape (B, L), or (L,) for one row, got "
            f"{tuple(mask.shape)}; flatten the positions of each sample."
        )
    return mask[None] if mask.ndim == 1 else mask


def observed_mask(observed: Tensor, shape: tuple[int, int]) -> Tensor:
    """A boolean mask of this shape; what it holds is not looked at."""
    observed = torch.as_tensor(observed)
    if observed.dtype != torch.bool or observed.shape != shape:
        raise ValueError(
            f"observed must be boolean of shape {shape} = (batch, length), got "
            f"{observed.dtype} of shape {tuple(observed.shape)}; give a row for each "
            "sample, True where a token is known, as in `x.isfinite()`."
        )
    return observed


def require_rows(good: Tensor, complaint: str | Callable[[int], str]) -> None:
    """Raise about the first row that is not `good`."""
    if not bool(good.all()):
        row = int((~good).nonzero()[0])
        text = complaint if isinstance(complaint, str) else complaint(row)
        raise ValueError(f"Row {row} {text}")


def whole(name: str, value: int, least: int = 1) -> int:
    """`value` as an int; a ValueError if it is no integer or below `least`."""
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if number < least:
        raise ValueError(f"{name} must be an integer of at least {least}, got {value}.")
    return number


def number(name: str, value: Any) -> float:
    """`value` as a float; a ValueError if it is no single number."""
    try:
        return math.nan if isinstance(value, str) else float(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be a number, got {value!r}.") from None


def probability(name: str, value: float) -> float:
    """A number in [0, 1]."""
    if not 0 <= number(name, value) <= 1:
        raise ValueError(f"{name} is a probability, in [0, 1], got {value!r}.")
    return float(value)


def target_rate(value: float) -> float:
    """A number in (0, 1]."""
    if not 0 < number("rate", value) <= 1:
        raise ValueError(
            f"rate is the share of tokens asked for, in (0, 1], got {value!r}; with 0 "
            "there would be no target."
        )
    return float(value)


def beta_ratio(name: str, ratio: Any) -> tuple[float, float]:
    """Two positive, finite Beta parameters, from a tuple, an array or a tensor."""
    try:
        a, b = (number(name, r) for r in ratio)
    except (TypeError, ValueError):
        a = b = math.nan
    if not (0 < a < math.inf and 0 < b < math.inf):
        raise ValueError(
            f"{name} must be the two positive parameters of a Beta law, got {ratio!r}; "
            "(1, 1) is uniform."
        )
    return a, b


def positions(name: str, values: Any, length: int) -> list[int]:
    """Different positions of `0, ..., length - 1`, from a list, array or tensor."""
    rule = f"{name} must be a list of different positions from 0 to {length - 1}"
    try:
        values = list(values.tolist() if hasattr(values, "tolist") else values)
        found = [operator.index(value) for value in values]
    except TypeError:
        raise ValueError(f"{rule}, got {values!r}.") from None
    if any(isinstance(value, bool) for value in values):
        raise ValueError(f"{rule}, not a mask; use mask.nonzero().flatten().")
    if len(set(found)) < len(found) or not all(0 <= p < length for p in found):
        raise ValueError(f"{rule}, got {found}.")
    return found


def position_mask(name: str, values: Any, length: int) -> Tensor:
    """A `(1, L)` mask that is True at these positions."""
    mask = torch.zeros(1, length, dtype=torch.bool)
    mask[0, positions(name, values, length)] = True
    return mask
