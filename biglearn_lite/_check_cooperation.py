"""Checkers for the chapters in which tasks help each other past local optima."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from biglearn_lite._checkers import exercise, near

# cooperation


@exercise("cooperation/missed")
def _missed(answer: Callable[[list[int]], float]) -> str | None:
    import math

    if not near(answer([1, 1, 1]), 0, 1e-9):
        return "one component on each cloud is the truth"
    if not near(answer([5]), 0, 1e-9):
        return "with a single cloud there is nothing to miss"
    if not near(answer([4, 0]), math.log(2), 1e-6):
        return "all components on one of two clouds: the logarithm of two"
    if not near(answer([2, 0, 1]), 2 / 3 * math.log(2), 1e-6):
        return "weigh the log ratio on each cloud with the model's mass there"
    uneven = (3 * math.log(2.25) + math.log(0.75)) / 4
    if not near(answer([3, 1, 0]), uneven, 1e-6):
        return "the numbers of clouds and of components may differ"
    return None


@exercise("cooperation/shadow")
def _shadow(answer: float) -> str | None:
    import math

    if near(answer, math.degrees(math.atan(1 / 5)), 0.01):
        return None
    if near(answer, math.atan(1 / 5), 0.001):
        return "give it in degrees"
    if near(answer, math.degrees(math.atan(1 / 4)), 0.01):
        return "there the last shadow of a column hides the first of the next"
    return "five steps along the short side of the shadow make one of the long side"


@exercise("cooperation/variances")
def _variances(answer: Callable[[float], Any]) -> str | None:
    for s in (1.0, 0.5, 2.0, 0.1):
        path, full = answer(s)
        if near(path, s**2, 1e-9) and near(full, (s - 1 / s) ** 2, 1e-9) and s != 0.5:
            return "the path derivative first, please"
        if not near(full, s**2, 1e-9):
            return "log p at a sample that moves along does not change with m"
        if not near(path, (s - 1 / s) ** 2, 1e-9):
            return "with m inside log p kept fixed, its slope in x is -(x - m) / s**2"
    return None


@exercise("cooperation/schedule")
def _schedule(answer: Any) -> str | None:
    from biglearn_lite.cooperation import Schedule

    if not isinstance(answer, Schedule):
        return "a Schedule is asked for"
    start, middle, late = (answer.at(time) for time in (0.0, 0.3, 0.6))
    if any(
        now.marginal + now.conditional > 0 or now.joint <= 0 for now in (start, late)
    ):
        return "the joint task alone: the chance of marginals is one by default"
    if not (near(start.blur, 10, 1e-6) and near(late.blur, 1, 1e-6)):
        return "give knots of the blur at the times 0 and 0.6"
    if not near(middle.blur, 10**0.5, 1e-6) or not near(answer.at(1.0).blur, 1, 1e-6):
        return "two knots are enough; in between the blur runs by itself"
    if not (near(start.rate, 0.5, 1e-6) and near(answer.at(1.0).rate, 0.02, 1e-6)):
        return "the rate falls from 0.5 at the start to 0.02 at the end"
    return None
