"""Which task is learned when, and how fast: the schedule of a descent, as data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Course = float | Sequence[tuple[float, float]]

KINDS = ("joint", "marginal", "conditional")
COURSES = (*KINDS, "dwell", "rate", "blur")
GEOMETRIC = ("rate", "blur")  # these run along straight lines of their logarithms
LEARNABLE = ("means", "covariances")


@dataclass(frozen=True)
class Moment:
    """A schedule at one time: all courses are numbers, and dwell is a whole one."""

    joint: float
    marginal: float
    conditional: float
    dwell: int
    rate: float
    blur: float

    def kind(self, chance: float) -> str:
        """The kind of task that a number from [0, 1) draws."""
        shares = [getattr(self, each) for each in KINDS]
        chance *= sum(shares)
        for kind, share in zip(KINDS, shares, strict=True):
            if chance < share:
                return kind
            chance -= share
        return max(KINDS, key=lambda each: getattr(self, each))  # rounding only


@dataclass(frozen=True)
class Schedule:
    """Which matchings are taken when, and how.

    The first six are *courses*: a number, or knots `[(time, value), ...]` with times
    from 0 (the first step) to 1 (the last), between which the value runs straight; two
    knots at one time are a jump. `rate` and `blur` run straight in their logarithms.

    Attributes:
        joint, marginal, conditional: chances of the kinds of task; only their ratios
            matter.
        dwell: steps until the next task is drawn.
        rate: step size.
        blur: the target's covariances times this; one that falls to 1 is annealing.
        batch: samples of each replica in a step, shared out equally among components
            (at least one each).
        clip: longest gradient of a component, times the number of components; longer
            ones are shortened. None: all as they are.
        axes: `"turned"`: each replica draws a random orthogonal A for each task;
            `"own"`: A only permutes the tokens; a number: A turns the plane by so many
            degrees, always.
        targets: how many tokens a marginal or conditional has as target; None draws
            from 1 to D - 1.
        learn: what moves: `"means"`, `"covariances"`.

    Raises:
        ValueError: naming the attribute, the rule and what came.
    """

    joint: Course = 0.0
    marginal: Course = 1.0
    conditional: Course = 0.0
    dwell: Course = 20
    rate: Course = 0.1
    blur: Course = 1.0
    batch: int = 100
    clip: float | None = None
    axes: str | float = "turned"
    targets: int | None = None
    learn: tuple[str, ...] = LEARNABLE

    def __post_init__(self) -> None:
        for name in COURSES:
            _check_course(name, getattr(self, name))
        for time in self._times():
            if sum(value_at(getattr(self, kind), time) for kind in KINDS) <= 0:
                raise ValueError(
                    "At every time some kind of task needs a positive chance; at time "
                    f"{time:g} joint, marginal and conditional are all 0."
                )
        for name in ("batch", "targets"):
            value = getattr(self, name)
            if (value is not None or name == "batch") and not _whole(value):
                raise ValueError(f"{name} is a whole number from 1 on; got {value!r}.")
        if self.clip is not None and not self.clip > 0:
            raise ValueError(f"clip is a positive number or None; got {self.clip!r}.")
        _check_axes(self.axes)
        if not self.learn or set(self.learn) - set(LEARNABLE):
            raise ValueError(f"learn names some of {LEARNABLE}; got {self.learn!r}.")

    @classmethod
    def published(cls) -> Schedule:
        """The official 25-GMM script: marginals, and later one joint task in ten."""
        return cls(
            joint=((0, 0), (0.5, 0), (0.5, 0.1), (1, 0.1)),
            marginal=((0, 1), (0.5, 1), (0.5, 0.9), (1, 0.9)),
        )

    @classmethod
    def joint_only(cls) -> Schedule:
        """Plain joint learning, with the step size of the official script."""
        return cls(joint=1.0, marginal=0.0)

    def at(self, time: float) -> Moment:
        """The schedule at a time from 0 to 1."""
        values = {
            name: value_at(getattr(self, name), time, name in GEOMETRIC)
            for name in COURSES
        }
        return Moment(**values | {"dwell": max(1, round(values["dwell"]))})

    def check_dims(self, dim: int) -> None:
        """Raise ValueError if tasks of this schedule need other dimensions."""
        if self.axes not in ("turned", "own") and dim != 2:
            raise ValueError(
                f"axes in degrees turn a plane, but the data have {dim} dimensions; "
                "use 'turned' or 'own'."
            )
        if self.targets is not None and self.targets >= dim > 1:
            raise ValueError(
                f"targets must leave at least one of {dim} tokens; got {self.targets}."
            )

    def _times(self) -> list[float]:
        """All times at which a chance can turn."""
        knots = [
            time
            for kind in KINDS
            if not isinstance(getattr(self, kind), (int, float))
            for time, _ in getattr(self, kind)
        ]
        return sorted({0.0, 1.0, *knots})


def value_at(course: Course, time: float, geometric: bool = False) -> float:
    """A course at a time; before the first knot and after the last it stays level."""
    if isinstance(course, (int, float)):
        return float(course)
    later = next((i for i, (at, _) in enumerate(course) if at > time), len(course))
    if later in (0, len(course)):
        return float(course[min(later, len(course) - 1)][1])
    (t0, a), (t1, b) = course[later - 1], course[later]
    share = (time - t0) / (t1 - t0)
    if geometric:
        return math.exp((1 - share) * math.log(a) + share * math.log(b))
    return (1 - share) * a + share * b


def _check_course(name: str, course: Course) -> None:
    positive = name in (*GEOMETRIC, "dwell")
    rule = "positive" if positive else "0 or more"
    try:
        knots = [(0.0, course)] if isinstance(course, (int, float)) else list(course)
        times, values = zip(*[(float(t), float(v)) for t, v in knots], strict=True)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} is a number or knots [(time, value), ...]; got {course!r}."
        ) from error
    good = all(math.isfinite(v) and (v > 0 if positive else v >= 0) for v in values)
    if not good:
        raise ValueError(f"{name} is {rule} and finite at all times; got {course!r}.")
    if list(times) != sorted(times) or times[0] < 0 or times[-1] > 1:
        raise ValueError(
            f"The times of {name} run from 0 to 1 without going back; got {course!r}."
        )


def _check_axes(axes: str | float) -> None:
    number = isinstance(axes, (int, float)) and not isinstance(axes, bool)
    if axes not in ("turned", "own") and not (number and math.isfinite(axes)):
        raise ValueError(f"axes is 'turned', 'own' or degrees; got {axes!r}.")


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
