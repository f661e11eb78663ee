"""Task-switching descent: tasks carry a mixture of Gaussians past local optima.

The matchings are those of reverse KL, `KL[p(y_T | y_S) || q(y_T | y_S)]` with y = A x:
the joint, orthogonally transformed marginals and transformed conditionals (Big
Cooperative Learning, arXiv 2407.21319, sections 3.3 and 4.1; the official code leaves
conditionals out). A `Schedule` says which task is learned when, and `descend` follows
it, with many replicas of an experiment in one batch.

BigLearn-EM, the same idea under forward KL, is in the module `em`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from biglearn_lite._descent import Law
from biglearn_lite._draws import normal
from biglearn_lite._schedule import Schedule
from biglearn_lite._stays import Team, draw_stay, follow, workers
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
    parts = p.split(workers(p.means))
    steps, every = whole("steps", steps, least=0), whole("every", every, least=1)
    step, seen = 0, -1
    with torch.no_grad(), Team(len(parts)) as team:
        while step < steps:
            if watch is not None and step // every > seen:
                seen = step // every
                watch(step, _mixture(parts, start))
            now = schedule.at(step / steps)
            blurred, length = q.blurred(now.blur), min(now.dwell, steps - step)
            stay = draw_stay(p.means, blurred, now, length, schedule, generator)
            team.run(parts, partial(follow, q=blurred, stay=stay, schedule=schedule))
            step += length
            if step // 1000 > (step - length) // 1000 or step == steps:
                _check_finite(parts, step)
    if watch is not None:
        watch(steps, _mixture(parts, start))
    return _mixture(parts, start)


def modes_found(
    mixture: GaussianMixture, centres: Tensor, radius: float = 0.3
) -> Tensor:
    """How many centres have the mean of a component within `radius`: int64 `(*batch)`.

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
    """KL[p || q] in nats, estimated from samples of p: `(*batch)`.

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


def _mixture(parts: list[Law], start: GaussianMixture) -> GaussianMixture:
    """The replicas as a mixture of the batch shape of the start."""
    means = torch.cat([p.means for p in parts])
    covariances = torch.cat([p.covariances for p in parts])
    if not start.batch_shape:
        means, covariances = means[0], covariances[0]
    return GaussianMixture(start.weights, means, covariances, validate=False)


def _check_finite(parts: list[Law], step: int) -> None:
    sums = torch.cat([p.means.sum((1, 2)) + p.factors.sum((1, 2, 3)) for p in parts])
    if not sums.isfinite().all():
        bad = (~sums.isfinite()).nonzero()[:, 0].tolist()
        raise FloatingPointError(
            f"Replicas {bad} are no longer finite at step {step}: the steps are too "
            "large. Lower the schedule's rate, or set its clip (try 10)."
        )
