"""KL landscapes of joint, marginal and conditional matching for two Gaussians.

The smallest problem in which joint learning gets stuck (the 2-GMM simulation of "Big
Cooperative Learning", arXiv 2407.21319). The data are an even mixture of two Gaussians
in the plane, at (-1, 0) and (1, 0), with covariance variance * I. The model is the same
mixture with its two means at (mu1, 0) and (mu2, 0), so a model is a point of the plane
(mu1, mu2). In axes turned by an angle t,

    y1 =  cos(t) x1 + sin(t) x2,        y2 = -sin(t) x1 + cos(t) x2,

the model's y1 is again a mixture of two Gaussians of the same variance, with means
mu_k cos(t). Its weights are even for the marginal of y1, and for y1 given y2 they are

    w_k  proportional to  exp(-(y2 + mu_k sin(t))**2 / (2 variance)).

So each map is an integral over one variable (derived), done by the trapezoidal rule
in float64: for smooth integrands that decay like a Gaussian it converges faster than
any power of the step.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from biglearn_lite._basins import STARS, Minimum, local_minima
from biglearn_lite._views import (
    CONDITIONAL_ANGLES,
    MARGINAL_ANGLES,
    Numbers,
    angle_value,
    axis,
    check,
    conditional_values,
    turn,
    views_of,
)

__all__ = [
    "CONDITIONAL_ANGLES",
    "MARGINAL_ANGLES",
    "STARS",
    "Minimum",
    "conditional_values",
    "kl_landscape",
    "kl_point",
    "local_minima",
    "official_maps",
    "roll",
]

MODES = (-1.0, 1.0)  # first coordinates of the data's two means

_TAIL = 8.0  # standard deviations kept beyond the outermost mean: 1e-15 of the mass
_CHUNK = 1 << 14  # numbers in a temporary tensor: in the cache, and too few for PyTorch
# to share them among threads, which on a busy machine wait long for each other


def kl_landscape(
    kind: str,
    mu1: Numbers,
    mu2: Numbers,
    *,
    variance: float = 0.1,
    angle: Numbers = 0.0,
    value: Numbers | None = None,
    direction: str = "reverse",
) -> Tensor:
    """KL divergence between model and data for every model of a grid.

    `"joint"` compares the laws of (x1, x2), `"marginal"` those of y1, `"conditional"`
    those of y1 given y2 = `value`. Several angles and values make a stack of maps in
    one pass. The joint is the same at every angle, since turning the axes does not
    change a KL divergence.

    Args:
        kind: `"joint"`, `"marginal"` or `"conditional"`.
        mu1: first coordinates of the model's first mean, shape (I,).
        mu2: first coordinates of the model's second mean, shape (J,).
        variance: the variance of every Gaussian, in both coordinates.
        angle: degrees; a number, or A of them.
        value: y2, for conditionals only: a number, V numbers (used at each angle), or a
            table (A, V) with every angle's own values.
        direction: `"reverse"`, KL[p || q] with p the model and q the data, or
            `"forward"`, KL[q || p].

    Returns:
        float64 of shape (I, J); several angles put A in front, several values V, in
        the order (A, V, I, J). Rounding below zero is clipped.

    Raises:
        ValueError: for an unknown `kind` or `direction`, a conditional without `value`
            or a `value` for something else, a variance that is not positive, numbers
            that are not finite, or shapes that do not fit.
    """
    mu1, mu2 = axis("mu1", mu1), axis("mu2", mu2)
    check(kind, variance, direction)
    views, shape = views_of(kind, angle, value)
    integrate = _reverse if direction == "reverse" else _forward
    kl = integrate(mu1, mu2, views, variance)
    return kl.clamp_(min=0).reshape(*shape, len(mu1), len(mu2))


def kl_point(
    kind: str,
    mu: Tensor,
    *,
    variance: float = 0.1,
    angle: Numbers = 0.0,
    value: Numbers | None = None,
    direction: str = "reverse",
) -> Tensor:
    """The same KL divergence at single models, differentiable in `mu`.

    Unlike `kl_landscape`, every model may have its own angle and value, so a batch of
    descents can work on a batch of tasks. All is done with log-densities, nothing
    underflows, and autograd returns the gradient.

    Args:
        kind: `"joint"`, `"marginal"` or `"conditional"`.
        mu: float64 (..., 2), the two means' first coordinates.
        variance: the variance of every Gaussian.
        angle: degrees, broadcast against mu[..., 0].
        value: y2 for conditionals, broadcast likewise.
        direction: `"reverse"`, KL[p || q], or `"forward"`, KL[q || p].

    Returns:
        float64 (...).

    Raises:
        ValueError: as `kl_landscape`.
    """
    check(kind, variance, direction)
    mu = torch.as_tensor(mu, dtype=torch.float64)
    if mu.shape[-1:] != (2,) or not mu.isfinite().all():
        raise ValueError(
            f"mu must be finite numbers of shape (..., 2), got {tuple(mu.shape)}."
        )
    view = turn(kind, *angle_value(kind, angle, value))
    return _integral(mu, *view, variance, direction)


def official_maps(
    mu1: Numbers, mu2: Numbers, *, variance: float = 0.1, direction: str = "reverse"
) -> dict[str, Tensor]:
    """The maps of the official 2-GMM script: 1 joint, 12 marginals, 49 conditionals.

    Takes what `kl_landscape` takes, raises what it raises, and returns
    `{"joint": (I, J), "marginal": (12, I, J), "conditional": (7, 7, I, J)}`.
    """
    common = {"variance": variance, "direction": direction}
    cuts = conditional_values(CONDITIONAL_ANGLES, variance)
    return {
        "joint": kl_landscape("joint", mu1, mu2, **common),
        "marginal": kl_landscape("marginal", mu1, mu2, angle=MARGINAL_ANGLES, **common),
        "conditional": kl_landscape(
            "conditional", mu1, mu2, angle=CONDITIONAL_ANGLES, value=cuts, **common
        ),
    }


def roll(
    start: Tensor,
    task: dict[str, Any] | Callable[[int], dict[str, Any]],
    *,
    steps: int = 1000,
    rate: float = 0.02,
    variance: float = 0.1,
    direction: str = "reverse",
    every: int = 1,
) -> Tensor:
    """Let models roll downhill: plain gradient descent on the exact map of a task.

    Args:
        start: (..., 2), the models (mu1, mu2) to start from.
        task: `kind`, `angle` and `value` as `kl_point` takes them, for instance
            `{"kind": "marginal", "angle": 30.0}`; or a function from the step's
            number to such a dictionary, to switch between tasks.
        steps: number of steps.
        rate: step size.
        variance: the variance of every Gaussian.
        direction: `"reverse"` or `"forward"`.
        every: keep one point in so many steps.

    Returns:
        The path, float64 (1 + steps // every, ..., 2).

    Raises:
        ValueError: as `kl_point`.
    """
    mu = torch.as_tensor(start, dtype=torch.float64).detach().clone()
    path = [mu.clone()]
    for step in range(steps):
        current = task(step) if callable(task) else task
        mu.requires_grad_(True)
        kl = kl_point(mu=mu, variance=variance, direction=direction, **current).sum()
        (slope,) = torch.autograd.grad(kl, mu)
        mu = mu.detach() - rate * slope
        if (step + 1) % every == 0:
            path.append(mu.clone())
    return torch.stack(path)


# -- the two directions of KL ---------------------------------------------------------


def _reverse(mu1: Tensor, mu2: Tensor, views: Tensor, variance: float) -> Tensor:
    """KL[p || q] = sum_k w_k (-E_k log q) - H[p], shape (M, I, J).

    The first term is linear in the mixture p, so it takes one expectation for every
    single mean. Only the entropy needs work for every pair of means.
    """
    w = _weights(mu1, mu2, views, variance)
    fit = _expected_log_q(torch.cat([mu1, mu2]), views, variance)
    fit1, fit2 = fit[:, : len(mu1), None], fit[:, None, len(mu1) :]
    out = -(w * fit1 + (1 - w) * fit2)
    # log p sits where p itself is small, so a quarter of a deviation is fine enough
    y, step = _grid(torch.cat([mu1, mu2]), variance, span=0.0)
    size = max(1, _CHUNK // (len(mu2) * len(y)))
    for m in range(0, len(views), size):
        part = slice(m, m + size)
        out[part] += _plogp(mu1, mu2, views[part], w[part], variance, y) * step
    return out


def _plogp(
    mu1: Tensor, mu2: Tensor, views: Tensor, w: Tensor, variance: float, y: Tensor
) -> Tensor:
    """Sum over the grid y of p log p for each pair of means, shape (M, I, J)."""
    n1 = _log_normal(y, mu1, views, variance).exp_()
    n2 = _log_normal(y, mu2, views, variance).exp_()

    def total(i: Tensor, j: Tensor) -> Tensor:
        first, second = n1.index_select(1, i), n2.index_select(1, j)
        p = second.lerp_(first, w[:, i, j, None])
        return torch.xlogy(p, p).sum(-1)  # 0 log 0 = 0

    return _over_pairs(mu1, mu2, views, len(y), total)


def _forward(mu1: Tensor, mu2: Tensor, views: Tensor, variance: float) -> Tensor:
    """KL[q || p] = E[log q] - E[log p] under q, shape (M, I, J).

    With n_k the log of a single Gaussian, log p is n_1 + log w_1 + log(1 + exp d) with
    d = n_2 - n_1 - log w_1 / w_2. The first needs an expectation for every single mean,
    and d is linear in y, so a pair of means costs one logarithm a node.
    """
    modes = torch.tensor(MODES, dtype=torch.float64)
    y, step = _grid(modes, variance, _span(mu1, mu2))
    log_q = _log_mixture(y, modes, *views.T[..., None], variance)[:, None]  # (M, 1, N)
    q = log_q.exp().mT * step
    fit = (_log_normal(y, mu1, views, variance) @ q)[..., 0]
    odds = _log_odds(mu1, mu2, views, variance)
    cos = views[:, 0, None, None]
    slope = cos * (mu2 - mu1[:, None]) / variance
    start = -odds - slope * cos * (mu2 + mu1[:, None]) / 2

    def expected_log_p(i: Tensor, j: Tensor) -> Tensor:
        d = torch.addcmul(start[:, i, j, None], slope[:, i, j, None], y)
        log_w = -softplus(-odds[:, i, j], threshold=40)
        return fit[:, i] + log_w + (softplus(d, threshold=40) @ q)[..., 0]

    return log_q @ q - _over_pairs(mu1, mu2, views, len(y), expected_log_p)


def _over_pairs(
    mu1: Tensor, mu2: Tensor, views: Tensor, nodes: int, integral: Callable
) -> Tensor:
    """`integral(i, j)` (M, n) of all pairs of means, many at a time: (M, I, J)."""
    mirror = torch.equal(mu1, mu2)  # then exchanging the means changes nothing
    out = torch.ones(len(views), len(mu1), len(mu2), dtype=torch.float64)
    pairs = (out[0].triu() if mirror else out[0]).nonzero()
    for part in pairs.split(max(1, _CHUNK // (len(views) * nodes))):
        i, j = part.T
        out[:, i, j] = integral(i, j)
        if mirror:
            out[:, j, i] = out[:, i, j]
    return out


def _integral(
    mu: Tensor, cos: Tensor, sin: Tensor, y2: Tensor, variance: float, direction: str
) -> Tensor:
    """The KL divergence of models mu (..., 2) in views that broadcast to (...)."""
    cos, sin, y2 = (t[..., None] for t in (cos, sin, y2))
    edges = mu.detach()
    span = 2.0 if direction == "reverse" else _span(edges[..., 0], edges[..., 1])
    y, step = _grid(edges, variance, span)
    modes = torch.tensor(MODES, dtype=torch.float64)
    log_p = _log_mixture(y, mu, cos, sin, y2, variance)
    log_q = _log_mixture(y, modes, cos, sin, y2, variance)
    if direction == "forward":
        log_p, log_q = log_q, log_p
    return (log_p.exp() * (log_p - log_q)).sum(-1) * step


def _expected_log_q(means: Tensor, views: Tensor, variance: float) -> Tensor:
    """E[log q(y)] for y ~ N(mu cos(t), variance), one for every mean: (M, len)."""
    y, step = _grid(means, variance, span=2.0)
    modes = torch.tensor(MODES, dtype=torch.float64)
    out = torch.empty(len(views), len(means), dtype=torch.float64)
    for m, view in enumerate(views):
        cos, sin, y2 = view[:, None]
        log_q = _log_mixture(y, modes, cos, sin, y2, variance)
        out[m] = _log_normal(y, means, view[None], variance)[0].exp() @ log_q * step
    return out


# -- the mixtures ----------------------------------------------------------------------


def _log_normal(y: Tensor, mu: Tensor, views: Tensor, variance: float) -> Tensor:
    """Log N(y; mu cos(t), variance), shape (M, len(mu), len(y))."""
    z = y - views[:, 0, None, None] * mu[:, None]
    return z.square_().mul_(-0.5 / variance) - 0.5 * math.log(2 * math.pi * variance)


def _weights(mu1: Tensor, mu2: Tensor, views: Tensor, variance: float) -> Tensor:
    """w1 for each pair of means, shape (M, I, J)."""
    return torch.sigmoid(_log_odds(mu1, mu2, views, variance))


def _log_odds(mu1: Tensor, mu2: Tensor, views: Tensor, variance: float) -> Tensor:
    """log w1 / w2 for each pair of means, shape (M, I, J)."""
    _, sin, y2 = views.T[..., None]
    score1, score2 = (-((y2 + sin * mu) ** 2) / (2 * variance) for mu in (mu1, mu2))
    return score1[:, :, None] - score2[:, None, :]


def _log_mixture(
    y: Tensor, mu: Tensor, cos: Tensor, sin: Tensor, y2: Tensor, variance: float
) -> Tensor:
    """Log density at y (N,) of the mixture with means mu (..., 2); shape (..., N)."""
    log_w = torch.log_softmax(-((y2 + sin * mu) ** 2) / (2 * variance), -1)
    log_w = log_w - 0.5 * math.log(2 * math.pi * variance)
    z1, z2 = ((y - m) ** 2 / (2 * variance) for m in (cos * mu).split(1, -1))
    return torch.logaddexp(log_w[..., :1] - z1, log_w[..., 1:] - z2)


def _grid(means: Tensor, variance: float, span: float) -> tuple[Tensor, float]:
    """Nodes and step of the trapezoidal rule for the log of a mixture.

    The log of two Gaussians `span` apart has its nearest complex singularity at height
    pi * variance / span, so the rule's error is exp(-2 pi**2 variance / (span * step)):
    1e-11 for the step below. A quarter of a standard deviation does for the rest.
    """
    sd = math.sqrt(variance)
    reach = float(means.abs().max().clamp(min=1)) + _TAIL * sd
    step = min(sd / 4, 0.79 * variance / span if span else math.inf)
    n = math.ceil(reach / step)
    return torch.arange(-n, n + 1, dtype=torch.float64) * step, step


def _span(mu1: Tensor, mu2: Tensor) -> float:
    """The widest gap between the two means, at least the data's own."""
    return max(2.0, float(mu1.max() - mu2.min()), float(mu2.max() - mu1.min()))
