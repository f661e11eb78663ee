"""Checkers for the exercises: a tick, or a hint that does not give the answer away."""

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


def check(exercise: str, answer: Any) -> bool:
    """Check `answer` to an exercise of the book; print a tick or a hint.

    Args:
        exercise: `"chapter-slug/exercise"`, as printed beside the exercise.
        answer: what the exercise asks for (a number, a tensor or a function).

    Returns:
        Whether the answer is right.

    Raises:
        ValueError: if there is no such exercise; the message lists the chapter's own.
    """
    if exercise not in CHECKERS:
        slug = exercise.split("/")[0]
        known = sorted(n for n in CHECKERS if n.startswith(slug)) or sorted(CHECKERS)
        raise ValueError(f"There is no exercise {exercise!r}; choose from {known}.")
    try:
        hint = CHECKERS[exercise](answer)
    except Exception as error:  # an unfinished answer must give a hint, not a traceback
        hint = f"the answer could not be tried: {type(error).__name__}: {error}"
    print(f"right: {exercise}" if hint is None else f"not yet: {exercise}: {hint}")
    return hint is None


# intro


@exercise("intro/unused")
def _unused(answer: Callable[[int], int]) -> str | None:
    if answer(1) == 4:  # 5 tasks for two tokens, one of them used
        return None if answer(16) == 3**17 - 2**17 - 1 else "try it for more patches"
    return "one patch and one label are two tokens: list their tasks by hand"


@exercise("intro/angle")
def _angle(answer: int) -> str | None:
    if answer == 90:
        return "there the landscape is flat, but it loses its bad minima earlier"
    return None if 38 <= answer <= 45 else "draw the landscape on both sides of it"
