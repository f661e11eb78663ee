"""Where the checkers of the exercises are registered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Checker = Callable[[Any], str | None]

CHECKERS: dict[str, Checker] = {}


def exercise(name: str) -> Callable[[Checker], Checker]:
    """Register a checker under `"chapter-slug/exercise"`.

    A checker takes the reader's answer and returns `None` when it is right, or a
    hint when it is not.
    """

    def register(checker: Checker) -> Checker:
        CHECKERS[name] = checker
        return checker

    return register


def near(answer: Any, expected: float, tolerance: float) -> bool:
    """Whether an answer is a number near `expected`; NaN is near nothing."""
    if isinstance(answer, (bool, str)):
        raise TypeError(f"a number is asked for, not {answer!r}")
    return abs(float(answer) - expected) <= tolerance
