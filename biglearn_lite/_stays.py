"""A stay on one task: all of its noise is drawn first, then the steps are taken.

So there is one generator for all replicas, and their steps can be shared out among
threads without changing what is drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from biglearn_lite._descent import Law, conditional_gradient, path_gradient
from biglearn_lite._draws import draw_component, normal
from biglearn_lite._schedule import Moment, Schedule

LEAST = 8  # replicas of a thread: fewer are not worth the handing over


@dataclass(frozen=True)
class Stay:
    """A task of every replica, and the noise of all steps on it.

    Attributes:
        rate: step size.
        A: the transform: (n, D, D) of a conditional, the (n, m, D) of the target of a
            marginal, None for the joint.
        noise: (steps, n, D, K, M); of a conditional (steps, n, K, m, M).
        sources: of a conditional, y_S of data: (steps, n, s, M).
    """

    rate: float
    A: Tensor | None
    noise: Tensor
    sources: Tensor | None = None

    def of(self, rows: slice) -> Stay:
        """The same for some of the replicas."""
        A = None if self.A is None else self.A[rows]
        sources = None if self.sources is None else self.sources[:, rows]
        return Stay(self.rate, A, self.noise[:, rows], sources)


def draw_stay(
    like: Tensor,
    q: Law,
    now: Moment,
    steps: int,
    schedule: Schedule,
    generator: torch.Generator | None,
) -> Stay:
    """Draw a task for all replicas; `like` has the shape (n, K, D) of their means."""
    n, K, D = like.shape
    M = max(1, schedule.batch // K)
    kind = now.kind(float(_uniform(1, like, generator)))
    if kind == "joint" or D == 1:
        return Stay(now.rate, None, normal((steps, n, D, K, M), like, generator))
    A, m = _transform(like, schedule, generator)
    if kind == "marginal":
        noise = normal((steps, n, D, K, M), like, generator)
        return Stay(now.rate, A[:, :m], noise)
    sources = _sources(q, A[:, m:], steps, M, generator)
    return Stay(now.rate, A, normal((steps, n, K, m, M), like, generator), sources)


def follow(rows: slice, p: Law, q: Law, stay: Stay, schedule: Schedule) -> None:
    """Take the steps of a stay with some of its replicas; p moves in place."""
    stay = stay.of(rows)
    if stay.sources is None:
        view = q.view(stay.A)
        for noise in stay.noise:
            _move(p, path_gradient(p, view, stay.A, noise), stay.rate, schedule)
        return
    view = q.view(None)
    for y_s, noise in zip(stay.sources, stay.noise, strict=True):
        gradient = conditional_gradient(p, view, stay.A, y_s, noise)
        _move(p, gradient, stay.rate, schedule)


def _move(
    p: Law, gradient: tuple[Tensor, Tensor], rate: float, schedule: Schedule
) -> None:
    """One SGD step, on the means and on the factors with logarithms as diagonals."""
    means, factors = gradient
    if schedule.clip is not None:
        size = (means.square().sum(-1) + factors.square().sum((-2, -1))).sqrt()
        size = size.unsqueeze(-1) * means.shape[1]
        scale = schedule.clip / size.clamp_min(schedule.clip)  # (n, K, 1)
        means, factors = means * scale, factors * scale.unsqueeze(-1)
    if "means" in schedule.learn:
        p.means = p.means - rate * means
    if "covariances" in schedule.learn:
        before = p.factors.diagonal(dim1=-2, dim2=-1)
        slope = factors.diagonal(dim1=-2, dim2=-1) * before  # in the logarithm
        p.factors = p.factors - rate * factors
        p.factors.diagonal(dim1=-2, dim2=-1).copy_(before * (-rate * slope).exp())


# ------------------------------------------------------------------------- drawing


def _transform(
    like: Tensor, schedule: Schedule, generator: torch.Generator | None
) -> tuple[Tensor, int]:
    """A of every replica, (n, D, D), whose first m rows are the target."""
    n, _, D = like.shape
    m = schedule.targets
    if m is None:
        m = 1 + int(_uniform(1, like, generator) * (D - 1)) if D > 2 else 1
    if schedule.axes == "turned":
        return haar(n, D, like, generator), m
    if schedule.axes == "own":
        order = _uniform((n, D), like, generator).argsort(-1)
        return torch.eye(D).to(like)[order], m
    t = math.radians(schedule.axes)
    turn = [[math.cos(t), math.sin(t)], [-math.sin(t), math.cos(t)]]
    return torch.tensor(turn).to(like).expand(n, 2, 2), m


def haar(n: int, dim: int, like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Orthogonal matrices without a preferred direction: (n, D, D).

    The QR decomposition of a normal matrix, with signs that make it unique (Mezzadri,
    How to generate random matrices from the classical compact groups, 2007).
    """
    Q, R = torch.linalg.qr(normal((n, dim, dim), like, generator))
    return Q * R.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)


def _sources(
    q: Law, A: Tensor, steps: int, M: int, generator: torch.Generator | None
) -> Tensor:
    """Values of y_S of data, drawn anew for each step: (steps, n, s, M)."""
    n = len(A)
    k = draw_component(q.log_weights[0].expand(steps * n * M, -1), generator)
    noise = normal((len(k), q.means.shape[-1]), q.means, generator)
    x = q.means[0, k] + (q.factors[0, k] @ noise.unsqueeze(-1)).squeeze(-1)
    return A @ x.view(steps, n, M, -1).mT


def _uniform(
    shape: int | tuple[int, ...], like: Tensor, generator: torch.Generator | None
) -> Tensor:
    device = generator.device if generator is not None else like.device
    drawn = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
    return drawn.to(like.device)


# ------------------------------------------------------------------------- threads


def workers(like: Tensor) -> int:
    """How many threads share the replicas: on a CPU, as many as torch may use."""
    if like.device.type != "cpu":
        return 1
    return max(1, min(torch.get_num_threads(), len(like) // LEAST))


class Team:
    """Threads that each take the steps of some replicas.

    The tensors of a step are small. Threads inside an operation would wait for each
    other at each of them; threads that own replicas meet once a stay.
    """

    def __init__(self, size: int) -> None:
        self.pool = None
        if size > 1:  # every thread computes by itself
            self.pool = ThreadPoolExecutor(
                size, initializer=torch.set_num_threads, initargs=(1,)
            )

    def __enter__(self) -> Team:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def run(self, parts: list[Law], work: Callable[..., Any]) -> None:
        """`work(rows, part)` for each part, its rows counted over all parts."""
        ends = torch.tensor([len(p.means) for p in parts]).cumsum(0).tolist()
        rows = [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]
        if self.pool is None:
            work(rows[0], parts[0])
            return
        for done in self.pool.map(work, rows, parts):
            assert done is None  # and what a thread raised is raised here
