"""Recipes in which mixtures are fitted to rows of data: EM, on which tasks, how well.

`model.kind = "em"` fits rows drawn from Gaussians on a grid, so the truth is known;
`"clustering"` fits real data whose classes the methods do not see. The seed decides the
data, and they are equal for all variants of a recipe.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from biglearn_lite._em_clusters import ClusteringPart, run_clustering
from biglearn_lite._em_common import (
    METHODS,
    check_choice,
    check_least,
    read_plan,
    scikit_mixture,
)
from biglearn_lite.cooperation import modes_found
from biglearn_lite.em import (
    Plan,
    data_start,
    expectation_maximization,
    random_start,
)
from biglearn_lite.experiments import (
    EXPERIMENTS,
    DescentPart,
    Outcome,
    _picture,
    _spread,
    build_target,
)
from biglearn_lite.mixtures import GaussianMixture

if TYPE_CHECKING:
    from biglearn_lite._recipe_file import Recipe

__all__ = ["ClusteringPart", "EMPart", "run_clustering", "run_em"]

STARTS = ("random", "k-means++")


@dataclass(frozen=True)
class EMPart:
    """Rows of a grid of Gaussians, and how they are fitted.

    Attributes:
        method: `"tasks"`: `expectation_maximization` with `plan`; `"scikit-learn"`: its
            `GaussianMixture`, which starts at k-means++.
        covariance: `"full"` or `"tied"`, of scikit-learn's mixture only; tied is one
            for all components.
        replicas: data sets of one seed.
        rows, test: of each.
        side, variance, uneven: the grid; see `DescentPart`.
        start: `"random"`, the paper's, or `"k-means++"`.
        iterations: tasks; of scikit-learn, steps at most.
        n_init: restarts; the one with the largest likelihood of its rows is kept.
        marks: times at which the test rows are looked at, spread evenly.
        snapshots: of them, how many are kept as pictures of the first replica.
        held_out: share of the rows kept aside. It is for choosing constants: if it is
            not 0, their likelihood is measured, and no test rows are drawn.
        plan: arguments of `Plan`.
        polish: arguments of a second `Plan`, which goes on where the first one ends,
            if `polish_iterations` is not 0.
        polish_iterations: of them; they come after the others.
    """

    method: str = "tasks"
    covariance: str = "full"
    replicas: int = 10
    rows: int = 2000
    test: int = 5000
    side: int = 5
    variance: float = 0.1
    uneven: float = 1.0
    start: str = "random"
    iterations: int = 2000
    n_init: int = 1
    marks: int = 50
    snapshots: int = 0
    held_out: float = 0.0
    plan: Mapping[str, Any] = field(default_factory=dict)
    polish: Mapping[str, Any] = field(default_factory=dict)
    polish_iterations: int = 0

    def __post_init__(self) -> None:
        check_choice("em", "method", self.method, METHODS)
        check_choice("em", "covariance", self.covariance, ("full", "tied"))
        check_choice("em", "start", self.start, STARTS)
        least = {"replicas": 1, "test": 1, "side": 1, "marks": 1, "snapshots": 0}
        least |= {"rows": self.side**2, "iterations": 1, "n_init": 1, "uneven": 1}
        least |= {"polish_iterations": 0}
        check_least("em", self, least)
        if not 0 <= self.held_out < 1:
            raise ValueError(f"em.held_out is a share, got {self.held_out}.")
        self.stages()

    def stages(self) -> list[tuple[Plan, int]]:
        """Plans and their iterations; raises ValueError if a plan is none."""
        both = [(read_plan("em.plan", self.plan), self.iterations)]
        both += [(read_plan("em.polish", self.polish), self.polish_iterations)]
        return both[: 2 if self.polish_iterations else 1]


# ------------------------------------------------------------------- known Gaussians


def run_em(recipe: Recipe, seed: int) -> Outcome:
    """Fit all replicas of one seed; test KL and modes against iterations."""
    part = recipe.em
    target, train, test = draw_rows(part, seed)
    kept = part.rows - round(part.held_out * part.rows)
    train, aside = train[:, :kept], train[:, kept:]
    film = Film(target, test if part.held_out == 0 else None)
    fit = _fit_tasks if part.method == "tasks" else _fit_scikit
    began = time.process_time()
    end = fit(part, train, film, torch.Generator().manual_seed(10_000 + seed))
    seconds = time.process_time() - began - film.seconds
    metrics = {"seconds": seconds / part.replicas}
    if part.held_out:
        metrics["held_out"] = _own_likelihood(end, aside).tolist()
    else:
        metrics |= film.summary(end)
    return Outcome(end, _spread(film.pictures, part.snapshots), metrics)


def draw_rows(part: EMPart, seed: int) -> tuple[GaussianMixture, Tensor, Tensor]:
    """The law, and from it training and test rows of each replica: (R, N, 2)."""
    law = build_target(
        DescentPart(side=part.side, variance=part.variance, uneven=part.uneven)
    )
    generator = torch.Generator().manual_seed(seed)
    n = part.rows + part.test
    x = law.sample(part.replicas * n, generator).reshape(part.replicas, n, -1)
    return law, x[:, : part.rows], x[:, part.rows :]


class Film:
    """What is seen of a fit on its way, and the seconds that looking took."""

    def __init__(self, target: GaussianMixture, test: Tensor | None) -> None:
        self.target, self.test, self.seconds = target, test, 0.0
        self.iterations: list[int] = []
        self.kl: list[list[float]] = []
        self.modes: list[list[int]] = []
        self.pictures: list[dict[str, Any]] = []
        if test is not None:
            self.level = _own_likelihood(target, test)

    def look(self, iteration: int, mixture: GaussianMixture) -> None:
        """Measure all replicas."""
        if self.test is None:
            return
        began = time.process_time()
        gap = self.level - _own_likelihood(mixture, self.test)
        self.iterations.append(iteration)
        self.kl.append([round(v, 5) for v in gap.tolist()])
        self.modes.append(modes_found(mixture, self.target.means).tolist())
        self.pictures.append(_picture(iteration, mixture))
        self.seconds += time.process_time() - began

    def after(self, before: int) -> Callable[[int, GaussianMixture], None]:
        """`look`, for iterations that are counted from `before`."""
        return lambda iteration, mixture: self.look(before + iteration, mixture)

    def summary(self, end: GaussianMixture) -> dict[str, Any]:
        """The metrics of a member; `best` is a choice made on the test rows."""
        if not self.iterations:  # of restarts, only the end
            self.look(0, end)
        last, modes = self.kl[-1], self.modes[-1]
        best = [min(each) for each in zip(*self.kl, strict=True)]
        return {
            "iterations": self.iterations,
            "kl": self.kl,
            "modes": self.modes,
            "last": last,
            "best": best,
            "mean_kl": sum(last) / len(last),
            "mean_modes": sum(modes) / len(modes),
        }


def _fit_tasks(
    part: EMPart, train: Tensor, film: Film, generator: torch.Generator
) -> GaussianMixture:
    """All replicas as one batch; of restarts only the end is looked at."""
    best, score = None, None
    for _ in range(part.n_init):
        end, before = _start(part, train, generator), 0
        for plan, iterations in part.stages():
            end = expectation_maximization(
                train,
                end,
                plan,
                iterations,
                generator,
                watch=film.after(before) if part.n_init == 1 else None,
                every=max(1, part.iterations // part.marks),
            )
            before += iterations
        found = _own_likelihood(end, train)
        if best is not None:
            end, found = _better(end, found, best, score)
        best, score = end, found
    return best


def _start(part: EMPart, train: Tensor, generator: torch.Generator) -> GaussianMixture:
    k = part.side**2
    if part.start == "random":
        return random_start(part.replicas, k, train.shape[-1], generator, train.dtype)
    return data_start(train, k, generator, init=part.start)


def _better(
    a: GaussianMixture, a_score: Tensor, b: GaussianMixture, b_score: Tensor
) -> tuple[GaussianMixture, Tensor]:
    """Of each replica the mixture with the larger score."""
    wins = a_score > b_score
    names = ("weights", "means", "covariances")
    parts = [
        torch.stack([x if win else y for win, x, y in zip(wins, *pair, strict=True)])
        for pair in ((getattr(a, name), getattr(b, name)) for name in names)
    ]
    return GaussianMixture(*parts), torch.where(wins, a_score, b_score)


def _fit_scikit(
    part: EMPart, train: Tensor, film: Film, generator: torch.Generator
) -> GaussianMixture:
    """One replica after another; only the end is looked at."""
    from threadpoolctl import threadpool_limits

    k = part.side**2
    seeds = torch.randint(2**31 - 1, (part.replicas,), generator=generator).tolist()
    ends = [
        scikit_mixture(k, seed, part.iterations, part.n_init, 1e-5, part.covariance)
        for seed in seeds
    ]
    with threadpool_limits(1):  # as all others: processor seconds are compared
        for end, x in zip(ends, train.double().numpy(), strict=True):
            end.fit(x)
    weights, means, covariances = (
        torch.from_numpy(np.stack([getattr(end, name) for end in ends])).to(train)
        for name in ("weights_", "means_", "covariances_")
    )
    if part.covariance == "tied":
        covariances = covariances.unsqueeze(1).expand(-1, k, -1, -1)
    return GaussianMixture(weights, means, covariances)


def _own_likelihood(mixture: GaussianMixture, rows: Tensor) -> Tensor:
    """Mean log density of the rows (R, N, D) of each replica, in float64: (R,)."""
    parts = [mixture.weights, mixture.means, mixture.covariances]
    if not mixture.batch_shape:
        parts = [part.expand(len(rows), *part.shape) for part in parts]
    law = GaussianMixture(*(part.double() for part in parts), validate=False)
    return law.log_prob(rows.double().movedim(0, 1)).mean(0)


KINDS: dict[str, Callable[[Recipe, int], Outcome]] = {
    "em": run_em,
    "clustering": run_clustering,
}
EXPERIMENTS.update(KINDS)
