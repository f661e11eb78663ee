"""Checkers for the chapter on drawn faces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from biglearn_lite._checkers import exercise, near

# faces


@exercise("faces/posterior")
def _posterior(answer: Callable[[Any, Any, Any, Any], Any]) -> str | None:
    import torch

    every = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 1], [0, 1, 1]])
    p = torch.tensor([0.1, 0.2, 0.3, 0.15, 0.25], dtype=torch.float64)
    for values, known in (
        ([0, 0, 0], [False, False, False]),
        ([1, 1, 0], [False, True, False]),
        ([1, 0, 1], [False, False, True]),
        ([0, 1, 1], [True, True, False]),
    ):
        asked = torch.tensor(values), torch.tensor(known)
        got = torch.as_tensor(answer(every, p, *asked), dtype=torch.float64)
        if got.shape != (3,):
            return f"a chance for each attribute is asked for, not {tuple(got.shape)}"
        fits = ((every == asked[0]) | ~asked[1]).all(1)
        part = (p[fits, None] * every[fits]).sum(0)
        if torch.allclose(got, part / p[fits].sum(), rtol=0, atol=1e-9):
            continue
        if torch.allclose(got, part, rtol=0, atol=1e-9):
            return "divide by the probability of what is known"
        if torch.allclose(got, every[fits].double().mean(0), rtol=0, atol=1e-9):
            return "the rows that fit are not equally likely; weigh them by p"
        if not any(known):
            return "with nothing known it is the mean of every row, weighed by p"
        return "keep the rows that agree where known is true, whatever the rest"
    return None


@exercise("faces/noise")
def _noise(answer: Callable[[Any, int], float]) -> str | None:
    import math

    import torch

    generator = torch.Generator().manual_seed(0)
    for rows, draws in ((5, 1), (40, 4), (300, 16)):
        p = torch.rand(rows, generator=generator, dtype=torch.float64)
        sigma = math.sqrt(float((p * (1 - p)).sum()) / draws) / rows
        got, right = answer(p, draws), math.sqrt(2 / math.pi) * sigma
        if near(got, right, 1e-6 * right):
            continue
        if near(got, sigma, 1e-6 * sigma):
            return "this is the standard deviation; a mean distance is a little less"
        if near(got, right * math.sqrt(draws), 1e-6 * right * math.sqrt(draws)):
            return "more draws of each row must make it smaller"
        if near(got, right * rows, 1e-6 * right * rows):
            return "the gap is one of means over the rows, not of sums"
        mean = float(p.mean())
        alike = math.sqrt(2 / math.pi * mean * (1 - mean) / (rows * draws))
        if near(got, alike, 1e-6 * alike):
            return "each row has its own variance; the mean chance has a larger one"
        return "add up the variances p (1 - p) / K of the rows: what has their mean?"
    return None


@exercise("faces/colours")
def _colours(answer: Callable[[Any], float]) -> str | None:
    import torch

    for chances in ((0.3, 0.2), (0.2, 0.3, 0.1), (0.25, 0.1, 0.15, 0.4)):
        p = torch.tensor(chances, dtype=torch.float64)
        none = float((1 - p).prod())
        exactly_one = float((none * p / (1 - p)).sum())
        got = answer(p)
        if near(got, 1 - none - exactly_one, 1e-9):
            continue
        if near(got, 1 - none, 1e-9):
            return "a face with one colour is no clash"
        if near(got, 1 - exactly_one, 1e-9):
            return "a face without any of the colours is no clash"
        if near(got, float(p.prod()), 1e-9):
            return "all of the colours at once are asked for only if there are two"
        return "which faces are no clash? Those of no colour, and those of one"
    return None
