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


# mnist


@exercise("mnist/agreement")
def _agreement(answer: Callable[[Any, Any], float]) -> str | None:
    import torch

    generator = torch.Generator().manual_seed(0)
    p, r = torch.rand((2, 5, 3), dtype=torch.float64, generator=generator)
    p, r = (each / each.sum(1, keepdim=True) for each in (p, r))
    right = float((p * r).sum(1).mean())
    if near(answer(p, r), 5 * right, 1e-9):
        return "take the mean over the sources, so that it is a probability"
    if not near(answer(p, p), float((p * p).sum(1).mean()), 1e-9):
        return "for r = p it must be the agreement of the perfect sampler"
    if not near(answer(p, r), right, 1e-9):
        return "label and answer are independent: when are both of them y?"
    return None


@exercise("mnist/chain")
def _chain(answer: Callable[[Any, Any], Any]) -> str | None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for shape in ((2, 2), (3, 4)):
        first, second = (
            torch.rand((2, *shape), dtype=torch.float64, generator=generator) + 0.05
        )
        first, second = first / first.sum(0), second / second.sum(1, keepdim=True)
        law = torch.as_tensor(answer(first, second), dtype=torch.float64)
        if law.shape != first.shape:
            return f"a number for each x is asked for, not the shape {tuple(law.shape)}"
        if not near(law.sum(), 1.0, 1e-6):
            return "a law sums to one"
        once = first * law.sum(0), second * law.sum(1, keepdim=True)
        if not torch.allclose((once[0] + once[1]) / 2, law, rtol=0, atol=1e-6):
            if any(torch.allclose(each, law, rtol=0, atol=1e-6) for each in once):
                return "this is where it stands after one kind of round; toss the coin"
            return "one more round must not change it: do enough of them"
    return None


@exercise("mnist/path")
def _path(answer: Callable[[float], tuple[float, float]]) -> str | None:
    for place, ends in ((0.0, (1.0, 0.0)), (1.0, (0.0, 1.0))):
        if not all(near(*pair, 1e-6) for pair in zip(answer(place), ends, strict=True)):
            return "it starts in a, with weights 1 and 0, and ends in b"
    before = answer(0.0)
    for step in range(1, 101):
        u, v = answer(step / 100)
        if not near(u * u + v * v, 1.0, 1e-6):
            return "which variance has u a + v b? It must be one everywhere"
        if not (near(u, before[0], 0.2) and near(v, before[1], 0.2)):
            return "a path does not jump"
        before = u, v
    return None
