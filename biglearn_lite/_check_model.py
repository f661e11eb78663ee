"""Checkers for the chapters on the universal model and its likelihood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from biglearn_lite._checkers import exercise, near

# foundations


@exercise("foundations/likelihood")
def _divergence(answer: Callable[[list[int], list[float]], float]) -> str | None:
    import math

    coin = math.log(2) - 0.25 * math.log(4) - 0.75 * math.log(4 / 3)
    if not near(answer([1, 0, 1, 1], [0.5, 0.5]), coin, 1e-6):
        return "for a coin with three heads in four and a fair model it is off"
    three = 0.25 * math.log(0.25 / 0.1) + 0.75 * math.log(0.75 / 0.6)
    if not near(answer([2, 0, 2, 2], [0.1, 0.3, 0.6]), three, 1e-6):
        return "a symbol that never occurs adds nothing to either term"
    if not near(answer([0, 2], [0.5, 0.0, 0.5]), 0, 1e-6):
        return "a model without mass where there are no observations is not at fault"
    return None


@exercise("foundations/discriminator")
def _measure(answer: Callable[[Any, Any], Any]) -> str | None:
    import math

    import torch

    log = lambda *odds: torch.tensor(odds, dtype=torch.float64).log()  # noqa: E731
    # q = (.8, .2) and p = (.4, .6) on two symbols, in samples of five
    forward = 0.8 * math.log(2) - 0.2 * math.log(3)
    reverse = -0.4 * math.log(2) + 0.6 * math.log(3)
    middle = 0.4 * math.log(0.8 / 0.6) + 0.1 * math.log(0.2 / 0.4)
    middle += 0.2 * math.log(0.4 / 0.6) + 0.3 * math.log(0.6 / 0.4)
    third = 1 / 3
    got = answer(log(2, 2, 2, 2, third), log(2, 2, third, third, third))
    if len(got) != 3:
        return "three numbers are asked for"
    if not near(got[0], forward, 1e-6):
        return "KL[q || p] is the mean of log q/p over which samples?"
    if not near(got[1], reverse, 1e-6):
        return "for KL[p || q] both the sign and the samples change"
    if not near(got[2], middle, 1e-6):
        return "solve the theorem's formula for JS; two means, and log 4 is 2 log 2"
    far = torch.full((3,), 1000.0, dtype=torch.float64)
    if not near(answer(far, -far)[2], math.log(2), 1e-6):
        return "at extreme logits JS is log 2; there is a stable log sigmoid"
    return None


@exercise("foundations/attention")
def _expectation(answer: Callable[..., Any]) -> str | None:
    import torch

    from biglearn_lite.mixtures import GaussianMixture

    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    means = weights.new_tensor([[0, 1, 2, 0], [1, -1, 0, 2], [-2, 0, 1, 1.0]])
    widths = weights.new_tensor([0.5, 1.0, 2.0])
    wide = widths[:, None, None] ** 2 * torch.eye(4, dtype=torch.float64)
    mixture = GaussianMixture(weights, means, wide)
    values = weights.new_tensor([0.3, 0.6, 1.5, 0.4])
    for known in ([], [1], [0, 3], [1, 2, 3], [0, 1, 2, 3]):
        source = torch.zeros(4, dtype=torch.bool)
        source[known] = True
        truth = values.clone()
        if len(known) < 4:
            given = mixture.conditional(known, values[known])
            truth[~source] = given.weights @ given.means
        x = torch.where(source, values, torch.nan)
        got = torch.as_tensor(answer(x, source, weights, means, widths))
        if not torch.equal(got[source], values[source]):
            return "the source must come back as it was"
        if not bool(((got - truth).abs() < 1e-6).all()):
            return f"with {len(known)} tokens known of 4 the means are off"
    far = torch.where(torch.arange(4) == 0, 1000.0, torch.nan).double()
    got = answer(far, far.isfinite(), weights, means, widths)
    if not bool(((got - means[2])[1:].abs() < 1e-6).all()):
        return "far from all means the densities underflow; leave it to the softmax"
    return None
