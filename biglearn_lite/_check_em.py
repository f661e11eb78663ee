"""Checkers for the chapter on EM that changes the task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from biglearn_lite._checkers import exercise, near

# biglearn-em


@exercise("biglearn-em/prior")
def _prior(answer: Callable[[int, int], float]) -> str | None:
    for rows, components in ((2000, 25), (300, 4), (10, 1)):
        got, right = answer(rows, components), rows * components**0.5
        if near(got, right / components, 1e-6) and components > 1:
            return "those are the rows that one component gets"
        if not near(got, right, 1e-6):
            return "the prior has the exponent N alpha for each component"
    return None


@exercise("biglearn-em/bridge")
def _bridge(answer: Callable[[float, float], float]) -> str | None:
    import math

    for distance, variance in ((2.0, 0.1), (5.0, 0.2), (8.0, 1.0)):
        right = math.log1p(distance**2 / (4 * variance)) / 2 - math.log(2)
        got = answer(distance, variance)
        if near(got, right + math.log(2), 1e-6):
            return "which of two clouds a row is from adds to the entropy of the data"
        if not near(got, right, 1e-6):
            return "compare the entropy of the wide Gaussian with that of the clouds"
    return None


@exercise("biglearn-em/cost")
def _cost(answer: Callable[[int, int, int, bool], float]) -> str | None:
    for k, d, n in ((25, 2, 2000), (3, 1, 50), (1, 4, 10)):
        for tied in (False, True):
            shapes = (1 if tied else k) * d * (d + 1) / 2
            count = k - 1 + k * d + shapes
            got = 2 * n * answer(k, d, n, tied)
            if near(got, count + 1, 1e-6):
                return "the weights add up to one, so one of them is not free"
            if not near(got, count, 1e-6):
                return "count weights, means, and the entries on and above a diagonal"
    return None


@exercise("biglearn-em/lift")
def _lift(answer: Callable[[Any, Any, Any], Any]) -> str | None:
    import numpy as np

    covariance = np.array([[2.0, 0.6, 0.1], [0.6, 1.0, 0.3], [0.1, 0.3, 1.5]])
    turn = np.array([[0.6, 0.8, 0.0], [-0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    before = covariance.copy()
    for view in (turn[:1], turn[:2], np.eye(3)[1:2]):
        scatter = 0.7 * np.eye(len(view)) + 0.1
        found = np.asarray(answer(covariance, view, scatter))
        if not np.array_equal(covariance, before):
            return "it changed its argument; work on a copy"
        if found.shape != (3, 3):
            return f"a (D, D) matrix is asked for, this has shape {found.shape}"
        if not np.allclose(view @ found @ view.T, scatter, atol=1e-9):
            return "seen through the view, the result should be the scatter"
        change = found - covariance
        inside = view.T @ view
        if not np.allclose(inside @ change @ inside, change, atol=1e-9):
            return "what the view does not see must stay"
    return None
