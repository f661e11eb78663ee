"""Expectation maximisation, joint and Big Learning: every task of the data in turn.

EM climbs the likelihood of all tokens together, and stops at the first maximum that it
meets. BigLearn-EM (arXiv 2312.11926) climbs that of another task every few steps: all
tokens, some of them, or some of a rotated `A x`. All of these have one optimum in
common, the truth, but not the others; so what one task takes for an optimum, the next
one leaves.

`expectation_maximization` runs a batch of replicas at once. `JointEM` and `BigLearnEM`
are the same in scikit-learn's manner. Missing values are NaN: a joint step takes the
expectation over what is missing, other tasks work on rows where their dimensions are
observed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from biglearn_lite._em_checks import check_data, check_plan, check_start, within
from biglearn_lite._em_estimator import Estimator, scores
from biglearn_lite._em_starts import data_start, random_start
from biglearn_lite._em_steps import Rules, State, floored, patterns_step, view_step
from biglearn_lite._em_tasks import Rows, centre, draw_view
from biglearn_lite._task_checks import whole
from biglearn_lite.mixtures import GaussianMixture

__all__ = [
    "BigLearnEM",
    "JointEM",
    "Plan",
    "data_start",
    "expectation_maximization",
    "random_start",
]

Watch = Callable[[int, GaussianMixture], Any]


@dataclass(frozen=True)
class Plan:
    """Which tasks EM works on, `q(T)` as data; the values given here are the paper's.

    Args:
        joint: probability of a task on all tokens.
        axis: probability of a task on some of the tokens. The others are on some of
            the tokens of `A x`, with `A` orthogonal and uniformly (Haar) random.
        inner: EM steps on one task.
        sizes: how many tokens `T` has: `floor(D b)`, `b ~ Beta(*sizes)`, at least 1
            and at most `D - 1`. In one dimension all tasks are joint.
        smoothing: `alpha` in the weights `(w + alpha) / (1 + K alpha)`, which pulls
            them to `1 / K`; None for `1 / sqrt(K)`, 0 for none.
        floor: no eigenvalue of a covariance gets smaller; in the data's units squared.
        pooling: a number of points, `nu`. A component of `n` points with scatter `S`
            gets the covariance `(n S + nu P) / (n + nu)`, with `P` the weighted mean of
            all `S`. The paper has none.
        finish: the last share of the iterations has joint tasks only. The paper has
            none.

    Raises:
        ValueError: if a value is not what it should be.
    """

    joint: float = 0.4
    axis: float = 0.1
    inner: int = 5
    sizes: tuple[float, float] = (5.0, 1.0)
    smoothing: float | None = None
    floor: float = 1e-5
    pooling: float = 0.0
    finish: float = 0.0

    def __post_init__(self) -> None:
        check_plan(self)

    @classmethod
    def joint_only(cls, **changes: Any) -> Plan:
        """Plain EM: one step on all tokens an iteration, weights as they come."""
        plain = {"joint": 1.0, "axis": 0.0, "inner": 1, "smoothing": 0.0}
        return cls(**{**plain, **changes})


def expectation_maximization(
    data: Tensor,
    start: GaussianMixture,
    plan: Plan,
    iterations: int,
    generator: torch.Generator,
    *,
    watch: Watch | None = None,
    every: int = 1,
) -> GaussianMixture:
    """EM on the tasks of a plan, `plan.inner` steps on each, for R replicas at once.

    The kind of task and its number of tokens are drawn once for all replicas; which
    tokens and which rotation, for each. Memory grows with R, time too. A component
    that has lost its points (fewer than 1e-5) keeps its mean and covariance.

    Args:
        data: float32 or float64, `(N, D)` for all replicas or `(R, N, D)`; NaN where
            missing. Rows of which nothing is observed take no part.
        start: mixtures of batch shape `(R,)` or `()`. Their covariances are floored.
        plan: which tasks.
        iterations: number of tasks.
        generator: where tasks are drawn from; the same state gives the same result.
        watch: called as `watch(iteration, mixture)` after every so many iterations,
            counted from 1. A true answer ends the run.
        every: how many.

    Returns:
        The mixtures, batch shape as `data` and `start` broadcast. No eigenvalue of a
        covariance is below `plan.floor`, or below what the dtype resolves: 32 machine
        epsilons of the data's total variance.

    Raises:
        ValueError: if an argument breaks these rules, a column is observed nowhere, a
            value is infinite, or there are more components than rows.
    """
    check_data(data)
    check_start(start, data)
    iterations, every = whole("iterations", iterations, 0), whole("every", every)
    with torch.no_grad():
        rows, state, rules = _prepare(data, start, plan)
        single = data.dim() == 2 and not start.batch_shape
        joint_from = iterations * (1 - plan.finish)
        for i in range(1, iterations + 1):
            drawn = None
            if i <= joint_from and plan.joint < 1:
                drawn = draw_view(plan, rows, state.means, generator)
            for _ in range(plan.inner):
                if drawn is None:
                    state = patterns_step(state, rows.patterns, rules)
                else:
                    state = view_step(state, *drawn, rules)
            if watch and i % every == 0 and watch(i, _mixture(state, rows, single)):
                break
        return _mixture(state, rows, single, validate=True)


def _prepare(
    data: Tensor, start: GaussianMixture, plan: Plan
) -> tuple[Rows, State, Rules]:
    data = data if data.dim() == 3 else data[None]
    rows = Rows.about(data, centre(data))
    replicas = max(len(data), *start.batch_shape, 1)
    resolved = 32 * torch.finfo(data.dtype).eps * rows.spread().sum(-1).max().item()
    k = start.n_components
    alpha = k**-0.5 if plan.smoothing is None else plan.smoothing
    rules = Rules(max(plan.floor, resolved), alpha, plan.pooling)
    weights = start.weights.expand(replicas, -1)
    means = start.means.expand(replicas, -1, -1) - rows.centre.unsqueeze(-2)
    covariances = start.covariances.expand(replicas, -1, -1, -1)
    return rows, State(weights, means, floored(covariances, rules.floor)), rules


def _mixture(
    state: State, rows: Rows, single: bool, validate: bool = False
) -> GaussianMixture:
    means = state.means + rows.centre.unsqueeze(-2)
    parts = (state.weights, means, state.covariances)
    parts = [part[0] if single else part for part in parts]
    return GaussianMixture(*parts, validate=validate)


# -- scikit-learn's manner -------------------------------------------------------------


class JointEM(Estimator):
    """Maximum likelihood of a Gaussian mixture by EM, missing values allowed.

    It never lowers the likelihood, and ends at an optimum near its start. Like
    `sklearn.mixture.GaussianMixture` with full covariances, except that the restarts
    run as one batch, NaN means missing, and covariances have a floor instead of an
    addition.

    Args:
        n_components: K, at most the number of rows.
        iterations: EM steps at most.
        n_init: restarts; the one with the largest likelihood on the data is kept.
        init: how to start; see `data_start`.
        floor: no eigenvalue of a covariance gets smaller. In the units of the data,
            squared: for data in metres, square metres.
        smoothing: pulls the weights to `1 / K`; see `Plan`.
        tol: stop when no restart gains so much mean log-likelihood an iteration;
            looked at every ten. Zero runs them all.
        random_state: an integer, a `numpy.random.RandomState`, or None for a new seed
            from the operating system.

    Attributes:
        weights_: (K,) array, and so `means_` (K, D) and `covariances_` (K, D, D).
        mixture_: the same as a `GaussianMixture`.
        lower_bound_: mean log-likelihood of the data, in nats a row.
        n_iter_: iterations run.
        converged_: whether `tol` ended them.
        n_features_in_: D.

    Raises:
        ValueError: from `fit`, if X is not numbers, is infinite somewhere, has a column
            without any value or fewer rows than components.
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        iterations: int = 500,
        n_init: int = 1,
        init: str = "k-means++",
        floor: float = 1e-5,
        smoothing: float = 0.0,
        tol: float = 1e-5,
        random_state: Any = 0,
    ) -> None:
        self.n_components = n_components
        self.iterations = iterations
        self.n_init = n_init
        self.init = init
        self.floor = floor
        self.smoothing = smoothing
        self.tol = tol
        self.random_state = random_state

    def _run(
        self, data: Tensor, start: GaussianMixture, generator: torch.Generator
    ) -> GaussianMixture:
        within("tol", self.tol, 0, float("inf"), "a number, 0 or more")
        plan = Plan.joint_only(floor=self.floor, smoothing=self.smoothing)
        self.n_iter_ = whole("iterations", self.iterations)
        self.converged_, last = False, []

        def settled(iteration: int, batch: GaussianMixture) -> bool:
            last.append(scores(batch, data))
            if len(last) < 2 or (last[-1] - last[-2]).max() >= 10 * self.tol:
                return False
            self.n_iter_, self.converged_ = iteration, True
            return True

        watch = settled if self.tol else None
        return expectation_maximization(
            data, start, plan, self.iterations, generator, watch=watch, every=10
        )


class BigLearnEM(Estimator):
    """BigLearn-EM (arXiv 2312.11926): EM that changes the task every few steps.

    Tasks on rotated tokens mix the columns, so bring these to comparable scales first;
    the paper's real data are scaled to [0, 1]. The result keeps moving a little with
    every task: it is not a maximum of the likelihood. `finish` ends with joint steps.

    Args:
        n_components: K, at most the number of rows.
        iterations: number of tasks.
        n_init: restarts; the one with the largest likelihood on the data is kept.
        init: how to start; see `data_start`. The paper's is `"random"`.
        joint: see `Plan`, as for `axis`, `inner`, `sizes`, `smoothing`, `pooling` and
            `finish`.
        floor: no eigenvalue of a covariance gets smaller. In the units of the data,
            squared: for data in metres, square metres.
        random_state: as in `JointEM`.

    Attributes:
        weights_: (K,) array, and so `means_` (K, D) and `covariances_` (K, D, D).
        mixture_: the same as a `GaussianMixture`.
        lower_bound_: mean log-likelihood of the data, in nats a row.
        n_features_in_: D.

    Raises:
        ValueError: from `fit`, as `JointEM`.
    """

    def __init__(
        self,
        n_components: int = 1,
        *,
        iterations: int = 2000,
        n_init: int = 1,
        init: str = "k-means++",
        joint: float = 0.4,
        axis: float = 0.1,
        inner: int = 5,
        sizes: tuple[float, float] = (5.0, 1.0),
        smoothing: float | None = None,
        floor: float = 1e-5,
        pooling: float = 0.0,
        finish: float = 0.0,
        random_state: Any = 0,
    ) -> None:
        self.n_components = n_components
        self.iterations = iterations
        self.n_init = n_init
        self.init = init
        self.joint = joint
        self.axis = axis
        self.inner = inner
        self.sizes = sizes
        self.smoothing = smoothing
        self.floor = floor
        self.pooling = pooling
        self.finish = finish
        self.random_state = random_state

    def _run(
        self, data: Tensor, start: GaussianMixture, generator: torch.Generator
    ) -> GaussianMixture:
        plan = Plan(**{each.name: getattr(self, each.name) for each in fields(Plan)})
        iterations = whole("iterations", self.iterations)
        return expectation_maximization(data, start, plan, iterations, generator)
