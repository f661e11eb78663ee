"""Checkers for the chapter on larger images, and on what is wished for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from biglearn_lite._checkers import exercise, near

# more-pixels


@exercise("more-pixels/mean")
def _mean(answer: Callable[[Any, Any, Any], float]) -> str | None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for rows in (1, 5):
        said = 20 * torch.randn(rows, 4, generator=generator, dtype=torch.float64)
        numbers = torch.tensor([49, 49, 16, 1])
        target = torch.rand(rows, 4, generator=generator) < 0.5
        target[:, 3] |= ~target.any(1)
        each = torch.where(target, -said / numbers, 0.0)
        of_rows = each.sum(1) / target.sum(1)
        got, right = answer(said, numbers, target), of_rows.mean().item()
        if near(got, right, 1e-9):
            continue
        if near(got, -right, 1e-9):
            return "a loss is made small: change the sign"
        if near(got, (each.sum() / target.sum()).item(), 1e-9):
            return "a mean in each row first, so that every task counts the same"
        plain = torch.where(target, -said, 0.0).sum(1)
        if near(got, (plain / target.sum(1)).mean().item(), 1e-9):
            return "divide the nats of a token by its numbers"
        if near(got, each.sum(1).mean().item(), 1e-9):
            return "a mean over the targets of a row, not their sum"
        return (
            "for each row the mean over its targets of -said / numbers, then the mean"
        )
    return None


@exercise("more-pixels/factors")
def _factors(answer: Callable[[Any, Any], Any]) -> str | None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for shape in ((2, 3), (4, 4)):
        q, p = torch.rand(2, *shape, generator=generator, dtype=torch.float64)
        q, p = q / q.sum(), p / p.sum()
        got = answer(q.clone(), p.clone())
        if len(got) != 2:
            return "two numbers: of the label, and of the rest given the label"
        total = (q * (q / p).log()).sum().item()
        ours, its = q.sum(1), p.sum(1)
        label = (ours * (ours / its).log()).sum().item()
        if near(got[0], label, 1e-9) and near(got[1], total - label, 1e-9):
            continue
        if near(got[1], label, 1e-9) and near(got[0], total - label, 1e-9):
            return "the label first"
        if not near(got[0], label, 1e-9):
            return "the first is the KL of the two laws of the label, q(y) against p(y)"
        given, told = q / ours[:, None], p / its[:, None]
        rest = (given * (given / told).log()).sum(1)
        if near(got[1], rest.mean().item(), 1e-9) or near(
            got[1], rest.sum().item(), 1e-9
        ):
            return "not all labels are equally likely"
        if near(got[1], (its * rest).sum().item(), 1e-9):
            return "weigh the labels as the data do, by q(y)"
        return "the second is the mean over q(y) of the KL of q(x | y) against p(x | y)"
    return None


@exercise("more-pixels/told")
def _told(answer: Callable[[Any], float]) -> str | None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for shape, power in (((2, 2), 1), ((5, 2), 3), ((3, 4), 0)):
        law = torch.rand(shape, generator=generator, dtype=torch.float64) ** power
        law = law / law.sum()
        apart = law.sum(0) * law.sum(1, keepdim=True)
        got, right = answer(law.clone()), (law * (law / apart).log()).sum().item()
        if near(got, right, 1e-9):
            continue
        if near(got, right / math.log(2), 1e-9):
            return "in nats: logarithms to the base e"
        if near(got, (apart * (apart / law).log()).sum().item(), 1e-9):
            return "the mean is over what happens, the joint law"
        if near(got, -(law * law.log()).sum().item(), 1e-9):
            return "this is the entropy of both; how much do they tell of each other?"
        return "the mean of log q(y | s) - log q(y) over the joint law"
    return None
