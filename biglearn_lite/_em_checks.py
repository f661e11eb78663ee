"""Checks behind `em`: each error names the rule, what came and what to do."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from biglearn_lite._mixture_checks import check_alike, check_finite, short
from biglearn_lite._task_checks import number, whole
from biglearn_lite.mixtures import GaussianMixture

if TYPE_CHECKING:
    from biglearn_lite.em import Plan


def check_plan(plan: Plan) -> None:
    """Refuse a plan whose numbers are no plan."""
    for name in ("joint", "axis"):
        within(name, getattr(plan, name), 0, 1, "a probability")
    if plan.joint + plan.axis > 1 + 1e-12:
        raise ValueError(
            "joint + axis must be at most 1, what is left are rotated tasks; got "
            f"{plan.joint} + {plan.axis}. Lower one of them."
        )
    whole("inner", plan.inner)
    sizes = plan.sizes
    if not isinstance(sizes, (tuple, list)) or len(sizes) != 2:
        raise ValueError(
            f"sizes must be the two parameters of a Beta law; got {sizes!r}. The "
            "paper's are (5, 1)."
        )
    for value in sizes:
        above("sizes", value)
    if plan.smoothing is not None:
        within("smoothing", plan.smoothing, 0, math.inf, "a number, 0 or more, or None")
    above("floor", plan.floor)
    within("pooling", plan.pooling, 0, math.inf, "a number of points, 0 or more")
    within("finish", plan.finish, 0, 1, "a share of the iterations")


def within(name: str, value: Any, low: float, high: float, what: str) -> None:
    """Refuse what is no number from low to high (infinity never is)."""
    if not low <= number(name, value) <= high or math.isinf(value):
        raise ValueError(
            f"{name} must be {what}, from {low} to {high}; got {value}. Choose a "
            "value in that range."
        )


def above(name: str, value: Any) -> None:
    """Refuse what is no finite number above zero."""
    if not 0 < number(name, value) < math.inf:
        raise ValueError(
            f"{name} must be a finite number above 0; got {value}. Choose a small "
            "positive one."
        )


def check_data(data: Any) -> None:
    """Refuse data that are no points with NaN where missing."""
    rule = "data must be a float32 or float64 tensor (N, D) or (R, N, D)"
    if not isinstance(data, Tensor) or data.dtype not in (torch.float32, torch.float64):
        got = short(data.dtype) if isinstance(data, Tensor) else type(data).__name__
        raise ValueError(f"{rule}; got {got}. Use torch.as_tensor(data).double().")
    if data.dim() not in (2, 3) or 0 in data.shape:
        raise ValueError(
            f"{rule} with at least one of each; got shape {tuple(data.shape)}. Give a "
            "row for each point."
        )
    if data.isinf().any():
        index = tuple(data.isinf().nonzero()[0].tolist())
        raise ValueError(
            f"data must not be infinite; entry {index} is {data[index].item()}. Use "
            "NaN for what is missing, and drop or clip what is wrong."
        )
    check_seen(data)
    largest = data.nan_to_num().abs().max().item()
    if largest > math.sqrt(torch.finfo(data.dtype).max / (4 * data.numel())):
        raise ValueError(
            f"data must be small enough that their squares can be summed in "
            f"{short(data.dtype)}; the largest is {largest:.3g}. Divide by a constant."
        )


def check_seen(data: Tensor) -> None:
    """Refuse a dimension of which nothing was observed."""
    lost = data.isnan().all(-2)
    if lost.any():
        index = lost.nonzero()[0].tolist()
        place = f" of replica {index[0]}" if data.dim() == 3 else ""
        raise ValueError(
            f"each column of the data must be observed in some row; column "
            f"{index[-1]}{place} is all NaN. Drop the column."
        )


def check_start(start: Any, data: Tensor) -> None:
    """Refuse a start that does not fit the data."""
    if not isinstance(start, GaussianMixture):
        raise ValueError(
            f"start must be a GaussianMixture; got {type(start).__name__}. "
            "random_start or data_start make one."
        )
    check_alike("start", start.means, data, "the data")
    for name in ("weights", "means", "covariances"):
        check_finite(name, getattr(start, name), parameter=True)
    if start.dim != data.shape[-1]:
        raise ValueError(
            f"start must have the dimension of the data, {data.shape[-1]}; got "
            f"{start.dim}. Start from a mixture of as many dimensions."
        )
    batch = tuple(start.batch_shape)
    sizes = {1, *batch, len(data) if data.dim() == 3 else 1}
    if len(batch) > 1 or len(sizes) > 2:
        raise ValueError(
            "start must have one mixture for each replica of the data, batch shape (R,)"
            f" or (); got {batch} for data {tuple(data.shape)}."
        )
    check_components(start.n_components, data)


def check_components(k: int, data: Tensor) -> None:
    """Refuse more components than rows of which something is observed."""
    n = int((~data.isnan()).any(-1).sum(-1).min())
    if k > n:
        raise ValueError(
            f"n_components must be at most the number of rows with a value; got {k} "
            f"for {n} rows. Use fewer components or more data."
        )
