"""Checkers for the chapter on images and their labels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from biglearn_lite._checkers import exercise, near

# classification-as-generation


@exercise("classification-as-generation/posterior")
def _posterior(answer: Callable[[Any, Any], Any]) -> str | None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for rows, classes, shift in ((4, 3, 0.0), (5, 10, -2000.0)):
        prior = torch.rand(classes, generator=generator, dtype=torch.float64)
        prior = (prior / prior.sum()).log()
        shape = rows, classes
        given = 3 * torch.randn(shape, generator=generator, dtype=torch.float64)
        got = torch.as_tensor(answer(prior.clone(), given + shift))
        if got.shape != shape:
            return f"one chance for each row and class, not the shape {got.shape}"
        right = (prior + given).softmax(1)
        if torch.allclose(got.double(), right, rtol=0, atol=1e-6):
            continue
        if not got.isfinite().all():
            return "exp of very negative logarithms is 0: take the largest off first"
        if torch.allclose(got.double(), right.log(), rtol=0, atol=1e-6):
            return "these are logarithms of the chances"
        if torch.allclose(got.double(), given.softmax(1), rtol=0, atol=1e-6):
            return "the classes are not equally likely before the image is seen"
        if torch.allclose(got.double(), (prior + given).softmax(0), rtol=0, atol=1e-6):
            return "the chances of the classes of one image sum to one"
        return "weigh each class by p(y) p(x | y), and divide by the sum"
    return None


@exercise("classification-as-generation/area")
def _area(answer: Callable[[Any, Any], float]) -> str | None:
    import torch

    generator = torch.Generator().manual_seed(0)
    for many, other, levels in ((30, 20, 0), (25, 40, 3), (1, 1, 1)):
        known = torch.randn(many, generator=generator, dtype=torch.float64) + 0.7
        strange = torch.randn(other, generator=generator, dtype=torch.float64)
        if levels:  # ties
            known, strange = known.round(), strange.round()
        wins = (known[:, None] > strange).double().mean().item()
        ties = (known[:, None] == strange).double().mean().item()
        got = answer(known, strange)
        if near(got, wins + ties / 2, 1e-9):
            continue
        if near(got, wins, 1e-9) or near(got, wins + ties, 1e-9):
            return "with equal scores, toss a coin: ties count one half"
        if near(got, 1 - wins - ties / 2, 1e-9):
            return "known images should have the higher score"
        return "compare every known image with every other one, in the mean"
    return None


@exercise("classification-as-generation/likelier")
def _likelier(answer: Callable[[int, float], float]) -> str | None:
    for dimensions, scale in ((1, 0.5), (64, 0.9), (10, 1.5)):
        got, right = answer(dimensions, scale), dimensions * (1 - scale**2) / 2
        if near(got, right, 1e-6):
            continue
        if near(got, -right, 1e-6):
            return "the other images first, less the known ones"
        if near(got, right / dimensions, 1e-6) and dimensions > 1:
            return "logarithms of all coordinates add up"
        if near(got, 2 * right, 1e-6):
            return "the exponent of a Gaussian has a half"
        if near(got, dimensions * (1 - scale) / 2, 1e-6):
            return "the mean of x^2 is the square of the scale"
        return "log p(x) is a constant less half of |x|^2; take means of |x|^2"
    return None
