"""Checks of what a likelihood model is given: the rule, what came, what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from biglearn_lite._task_checks import require_rows, whole
from biglearn_lite.tasks import Task

if TYPE_CHECKING:
    from biglearn_lite.likelihood import AnyConditionalSizes

READINGS = ("autoregressive", "factorised")


def check_tokens(
    sizes: AnyConditionalSizes, x: Tensor, task: Task, read: Tensor
) -> None:
    """Tokens `x` and tasks fit the model, and what is `read` (B, L) is sound."""
    shape = (sizes.length,) if sizes.symbols else (sizes.length, sizes.values)
    letters = "(B, L)" if sizes.symbols else "(B, L, P)"
    if x.ndim != 1 + len(shape) or tuple(x.shape[1:]) != shape:
        raise ValueError(
            f"This model reads tokens {letters} with sizes {shape} after the batch, "
            f"got {tuple(x.shape)}; cut or tokenise the data to its length."
        )
    signed = not x.is_floating_point() and x.dtype.is_signed
    if not (signed if sizes.symbols else x.is_floating_point()):
        kind = "whole numbers with a sign (int64)" if sizes.symbols else "floats"
        raise ValueError(f"This model's tokens are {kind}, got {x.dtype}; convert it.")
    if task.source.shape != x.shape[:2]:
        raise ValueError(
            f"The task must have a row for each sample, {tuple(x.shape[:2])}, got "
            f"{tuple(task.source.shape)}; repeat a single one with task.expand(B)."
        )
    if sizes.symbols:
        _check_symbols(x, read, sizes.symbols)
    else:
        good = x.isfinite().all(-1) | ~read
        require_rows(
            good.all(1),
            lambda row: (
                f"has a value that is not finite at position "
                f"{int((~good[row]).nonzero()[0])}, which the task reads; make what "
                "is not known absent."
            ),
        )


def _check_symbols(x: Tensor, read: Tensor, symbols: int) -> None:
    good = ((x >= 0) & (x < symbols)) | ~read
    require_rows(
        good.all(1),
        lambda row: (
            f"has symbol {int(x[row][~good[row]][0])} at position "
            f"{int((~good[row]).nonzero()[0])}, which the task reads; the vocabulary "
            f"is 0 to {symbols - 1}."
        ),
    )


def ranks(order: Tensor | None, task: Task) -> Tensor:
    """The rank of every position in every row, (B, L)."""
    shape = task.source.shape
    if order is None:
        return torch.arange(shape[1], device=task.device).expand(shape)
    order = torch.as_tensor(order, device=task.device)
    if order.shape not in (shape, shape[1:]) or order.is_floating_point():
        raise ValueError(
            f"order gives the rank of every position as whole numbers, ({shape[1]},) "
            f"or {tuple(shape)}, got {order.dtype} of shape {tuple(order.shape)}."
        )
    order = order.expand(shape)
    if (order.sort(1).values.diff(dim=1) == 0).any():
        raise ValueError("order has two positions of the same rank; ranks must differ.")
    return order.argsort(1).argsort(1)


def group_count(reading: str, steps: int | None, most: int) -> int:
    """In how many steps at most `most` targets of a row are taken."""
    if reading not in READINGS:
        raise ValueError(f"reading is one of {READINGS}, got {reading!r}.")
    if reading == "factorised":
        if steps not in (None, 1):
            raise ValueError(
                f"The factorised reading takes all targets in one step, got "
                f"steps={steps}; leave steps out, or read autoregressively."
            )
        return min(1, most)
    return most if steps is None else min(whole("steps", steps), most)
