"""Checks of arguments about tokens and tasks: the rule, what came, what to do."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
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
    """A boolean mask of this shape with something observed in every row."""
    observed = torch.as_tensor(observed)
    if observed.dtype != torch.bool or observed.shape != shape:
        raise ValueError(
            f"observed must be boolean of shape {shape} = (batch, length), got "
            f"{observed.dtype} of shape {tuple(observed.shape)}."
        )
    require_rows(
        observed.any(1),
        "of observed is empty; a sample without any token shows no task, so drop it.",
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


def probability(name: str, value: float) -> float:
    """A number in [0, 1]."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a probability, in [0, 1], got {value}.")
    return float(value)


def target_rate(value: float) -> float:
    """A number in (0, 1]."""
    if not 0 < value <= 1:
        raise ValueError(
            f"rate is the share of tokens asked for, in (0, 1], got {value}; with 0 "
            "there would be no target."
        )
    return float(value)


def beta_ratio(name: str, ratio: tuple[float, float]) -> None:
    """Two positive, finite Beta parameters."""
    pair_given = isinstance(ratio, Sequence) and len(ratio) == 2
    if not (pair_given and all(r > 0 and math.isfinite(r) for r in ratio)):
        raise ValueError(
            f"{name} must be the two positive parameters of a Beta law, got {ratio}; "
            "(1, 1) is uniform."
        )


def position_mask(name: str, positions: Sequence[int], length: int) -> Tensor:
    """A `(1, L)` mask that is True at different positions of `0, ..., L - 1`."""
    if not isinstance(positions, Iterable):
        raise ValueError(f"{name} must be a list of positions, got {positions}.")
    wanted = [whole(name, position, least=0) for position in positions]
    if len(set(wanted)) < len(wanted) or any(p >= length for p in wanted):
        raise ValueError(
            f"{name} must be different positions from 0 to {length - 1}, got {wanted}."
        )
    mask = torch.zeros(1, length, dtype=torch.bool)
    mask[0, wanted] = True
    return mask
