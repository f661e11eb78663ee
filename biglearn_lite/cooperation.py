"""Task-switching descent: tasks carry a mixture of Gaussians past local optima.

The matchings are those of reverse KL, `KL[p(y_T | y_S) || q(y_T | y_S)]` with y = A x:
the joint, orthogonally transformed marginals and transformed conditionals (Big
Cooperative Learning, arXiv 2407.21319, sections 3.3 and 4.1; the official code leaves
conditionals out). A `Schedule` says which task is learned when, and `descend` follows
it, with many replicas of an experiment in one batch.

BigLearn-EM, the same idea under forward KL, is in the module `em`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from biglearn_lite._descent import Law, conditional_gradient, path_gradient
from biglearn_lite._draws import draw_component, normal
from biglearn_lite._schedule import Moment, Schedule
from biglearn_lite._task_checks import whole
from biglearn_lite.mixtures import GaussianMixture

__all__ = [
    "Schedule",
    "corner_start",
    "descend",
    "grid_mixture",
    "modes_found",
    "reverse_kl",
]

Watch = Callable[[int, GaussianMixture], None]


def descend(
    target: GaussianMixture,
    start: GaussianMixture,
    schedule: Schedule,
    steps: int,
    generator: torch.Generator | None = None,
    *,
    watch: Watch | None = None,
    every: int = 1000,
) -> GaussianMixture:
    """Let mixtures descend the reverse KL of switching tasks, by plain SGD.

    At the beginning of each stay the schedule draws a kind of task; every replica draws
    its own transform A, and keeps it for `dwell` steps. The kinds are common to all
    replicas, which are independent of each other given the kinds. Means and Cholesky
    factors (with a logarithmic diagonal) move; weights stay. With D = 1 every task is
    the joint one.

    Args:
        target: q, a single mixture of D dimensions.
        start: p, of batch shape (n,), one start for every replica, or ().
        schedule: which task when, and how fast.
        steps: SGD steps of each replica.
        generator: of all transforms, samples and kinds.
        watch: is called with (step, mixture) at the beginning, at the first end of a
            stay after every `every` steps, and at the end.
        every: see `watch`.

    Returns:
        The mixtures at the end, of the batch shape, dtype and device of `start`.

    Raises:
        ValueError: if the arguments do not fit together.
        FloatingPointError: if a replica is no longer finite; it says which ones.
    """
    p, q = _laws(target, start)
    schedule.check_dims(target.dim)
    steps, every = whole("steps", steps, least=0), whole("every", every, least=1)
    step, seen = 0, -1
    with torch.no_grad():
        while step < steps:
            if watch is not None and step // every > seen:
                seen = step // every
                watch(step, _mixture(p, start))
            now = schedule.at(step / steps)
            stay = min(now.dwell, steps - step)
            _stay(p, q.blurred(now.blur), now, stay, schedule, generator)
            step += stay
            if step // 1000 > (step - stay) // 1000 or step == steps:
                _check_finite(p, step)
    if watch is not None:
        watch(steps, _mixture(p, start))
    return _mixture(p, start)


def modes_found(
    mixture: GaussianMixture, centres: Tensor, radius: float = 0.3
) -> Tensor:
    """How many centres have the mean of a component within `radius`: int64 (*batch).

    Args:
        mixture: of any batch shape; components of weight zero do not count.
        centres: (M, D).
        radius: in the units of the data.

    Raises:
        ValueError: if the dimensions differ or the radius is not positive.
    """
    centres = torch.as_tensor(centres).to(mixture.means)
    if centres.ndim != 2 or centres.shape[1] != mixture.dim:
        raise ValueError(
            f"centres must have shape (M, {mixture.dim}), one row for each mode; got "
            f"{tuple(centres.shape)}."
        )
    if not radius > 0:
        raise ValueError(f"radius must be positive; got {radius}.")
    far = torch.cdist(mixture.means, centres)  # (*batch, K, M)
    far = far.masked_fill(mixture.weights.unsqueeze(-1) == 0, torch.inf)
    return (far.amin(-2) <= radius).sum(-1)


def reverse_kl(
    mixture: GaussianMixture,
    target: GaussianMixture,
    n: int = 20_000,
    generator: torch.Generator | None = None,
) -> Tensor:
    """KL[p || q] in nats, estimated from samples of p: (*batch).

    Every component gets an equal number of the `n` samples, weighted by its weight.

    Raises:
        ValueError: if the dimensions differ, or n is smaller than the number of
            components.
    """
    _check_dims(target, mixture)
    each = whole("n", n, least=mixture.n_components) // mixture.n_components
    noise = normal((each, *mixture.means.shape), mixture.means, generator)
    factors = torch.linalg.cholesky(mixture.covariances)
    x = mixture.means + (factors @ noise.unsqueeze(-1)).squeeze(-1)
    x = x.movedim(-2, 1)  # (each, K, *batch, D)
    q = _like(target, mixture.means)
    ratio = mixture.log_prob(x) - q.log_prob(x)
    return (ratio.mean(0).movedim(0, -1) * mixture.weights).sum(-1)


# ------------------------------------------------------------------ the problems


def grid_mixture(
    side: int = 5, spacing: float = 2.0, variance: float = 0.05, dim: int = 2
) -> GaussianMixture:
    """Equal Gaussians on a centred grid with `side` points along each of `dim` axes.

    The default is the 25-GMM of arXiv 2407.21319; arXiv 2312.11926 takes variance 0.1.
    float32, as all that starts from it.
    """
    axis = (torch.arange(side) - (side - 1) / 2) * spacing
    means = torch.cartesian_prod(*[axis] * dim).reshape(-1, dim)
    K = len(means)
    covariances = variance * torch.eye(dim).expand(K, dim, dim)
    return GaussianMixture(torch.full((K,), 1 / K), means, covariances)


def corner_start(
    replicas: int,
    n_components: int = 25,
    dim: int = 2,
    generator: torch.Generator | None = None,
    *,
    corner: float = -5.0,
) -> GaussianMixture:
    """The official start: all means near one corner, unit covariances, equal weights.

    Means are `corner` in every coordinate plus 0.1 times standard normal noise.
    """
    eye = torch.eye(dim).expand(replicas, n_components, dim, dim)
    noise = normal((replicas, n_components, dim), eye, generator)
    weights = torch.full((replicas, n_components), 1 / n_components)
    return GaussianMixture(weights, corner + 0.1 * noise, eye)


# ------------------------------------------------------------------------- a stay


def _stay(
    p: Law,
    q: Law,
    now: Moment,
    steps: int,
    schedule: Schedule,
    generator: torch.Generator | None,
) -> None:
    """Some steps on one task; p moves in place."""
    n, K, D = p.means.shape
    M = max(1, schedule.batch // K)
    kind = now.kind(float(_uniform(1, p.means, generator)))
    if kind == "joint" or D == 1:
        view = q.view(None)
        for noise in normal((steps, n, D, K, M), p.means, generator):
            _move(p, path_gradient(p, view, None, noise), now.rate, schedule)
        return
    A, m = _transform(p.means, schedule, generator)
    if kind == "marginal":
        A = A[:, :m]
        view = q.view(A)
        for noise in normal((steps, n, D, K, M), p.means, generator):
            _move(p, path_gradient(p, view, A, noise), now.rate, schedule)
        return
    view, sources = q.view(None), _sources(q, A[:, m:], steps, M, generator)
    noises = normal((steps, n, K, m, M), p.means, generator)
    for y_s, noise in zip(sources, noises, strict=True):
        _move(p, conditional_gradient(p, view, A, y_s, noise), now.rate, schedule)


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


# ------------------------------------------------------------------------- checks


def _laws(target: GaussianMixture, start: GaussianMixture) -> tuple[Law, Law]:
    """p and q in the precision and on the device of the start."""
    for name, each in {"target": target, "start": start}.items():
        if not isinstance(each, GaussianMixture):
            raise ValueError(f"{name} must be a GaussianMixture; got {each!r}.")
    if target.batch_shape or len(start.batch_shape) > 1:
        raise ValueError(
            "target must be a single mixture and start one for every replica, of batch "
            f"shape (n,) or (); got {tuple(target.batch_shape)} and "
            f"{tuple(start.batch_shape)}."
        )
    _check_dims(target, start)
    return Law.of(start), Law.of(_like(target, start.means))


def _check_dims(target: GaussianMixture, model: GaussianMixture) -> None:
    if target.dim != model.dim:
        raise ValueError(
            f"The two mixtures must have equal dimensions; got {target.dim} for the "
            f"target and {model.dim} for the model."
        )


def _like(mixture: GaussianMixture, like: Tensor) -> GaussianMixture:
    parts = mixture.weights, mixture.means, mixture.covariances
    return GaussianMixture(*(each.to(like) for each in parts), validate=False)


def _mixture(p: Law, start: GaussianMixture) -> GaussianMixture:
    """The replicas as a mixture of the batch shape of the start."""
    means, covariances = p.means, p.covariances
    if not start.batch_shape:
        means, covariances = means[0], covariances[0]
    return GaussianMixture(start.weights, means, covariances, validate=False)


def _check_finite(p: Law, step: int) -> None:
    good = p.means.isfinite().all(-1) & p.factors.isfinite().all(-1).all(-1)  # (n, K)
    if not good.all():
        bad = (~good.all(-1)).nonzero()[:, 0].tolist()
        raise FloatingPointError(
            f"Replicas {bad} are no longer finite at step {step}: the steps are too "
            "large. Lower the schedule's rate, or set its clip (try 10)."
        )


def _uniform(
    shape: int | tuple[int, ...], like: Tensor, generator: torch.Generator | None
) -> Tensor:
    device = generator.device if generator is not None else like.device
    drawn = torch.rand(shape, generator=generator, device=device, dtype=torch.float64)
    return drawn.to(like.device)
