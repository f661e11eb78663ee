"""Checkers for the chapters on adversarial learning."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from biglearn_lite._checkers import exercise, near

# biglearn-gan


@exercise("biglearn-gan/share")
def _share(answer: Callable[[float, float], float]) -> str | None:
    import math

    if not near(answer(0.7, 1), 0.7, 1e-9):
        return "with as many of one kind as of the other it is the log ratio itself"
    for ratio, weight in ((0.0, 3.0), (-1.2, 0.25), (2.0, 10.0)):
        if near(answer(ratio, weight), ratio + math.log(weight), 1e-9):
            return "where generated samples are common, is the judge more trusting?"
        if not near(answer(ratio, weight), ratio - math.log(weight), 1e-9):
            return "put the weight in front of one of the two densities in the proof"
    return None


@exercise("biglearn-gan/table")
def _table(answer: Callable[[Any, Any, Any], Any]) -> str | None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for rows, columns in ((2, 2), (3, 4)):
        q, joint, given = torch.rand(
            (3, rows, columns), dtype=torch.float64, generator=generator
        )
        q, joint = q / q.sum(), joint / joint.sum()
        given = given / given.sum(1, keepdim=True)
        got = torch.as_tensor(answer(q, joint, given), dtype=torch.float64)
        if got.shape != q.shape:
            return f"a number for each x is asked for, not the shape {tuple(got.shape)}"
        right = joint.log() - given.log() - q.sum(1, keepdim=True).log()
        if torch.allclose(got, -right):
            return "the first task is in the numerator"
        if torch.allclose(got, joint.log() - given.log()):
            return "where does the source of the second task come from?"
        if not torch.allclose(got, right):
            return "write both laws of x as the source's law times the generator's"
    return None


@exercise("biglearn-gan/spiral")
def _spiral(answer: Callable[[float, float], float]) -> str | None:
    if not near(answer(0.2, 0.0), 1.01**0.5, 1e-6):
        return "without a penalty the eigenvalues are 1 + i h / 2 and 1 - i h / 2"
    for rate, strength in ((0.1, 1.0), (0.1, 0.25), (0.5, 0.3), (1.0, 3.0)):
        a = rate * strength  # half of what the penalty takes off the judge
        root = complex(a * a - rate * rate / 4) ** 0.5
        right = max(abs(1 - a + root), abs(1 - a - root))
        if not near(answer(rate, strength), right, 1e-6):
            return (
                "two penalties of strength / 2, each on the square of the slope: what "
                "is their derivative? Then take the largest absolute value."
            )
    return None
