"""One EM step on a linear view `y = Q x` of the data, for a batch of replicas.

The step is written out once, for any `Q` with orthonormal rows: joint (`Q` the
identity, here `None`), some of the axes, or the first rows of a rotation. With
responsibilities `r` taken on `y`, the view's new mean `m` and scatter `S` replace those
of the component there, and all else of it stays:

    mean <- mean + Q' (m - Q mean),    C <- C + Q' (S - Q C Q') Q.

This equals the step of Big Learning EM (arXiv 2312.11926) in the coordinates `A x` of
which `Q` are the rows asked for. `C` may lose its definiteness there, so its
eigenvalues are floored, which for the joint step is also the maximum-likelihood answer
under the constraint.

What makes it fast: the log density of a Gaussian is linear in the features
`(y_i y_j, y_i, 1)`, and the sums that a step needs are those of the same features. A
step is two matrix products with a softmax between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_CACHE = 4_000_000  # bytes of responsibilities held at once
_EMPTY = 1e-5  # points; a component that has fewer keeps its mean and covariance


@dataclass(frozen=True)
class State:
    """The parameters of R mixtures: `(R, K)`, `(R, K, D)` and `(R, K, D, D)`."""

    weights: Tensor
    means: Tensor
    covariances: Tensor


@dataclass(frozen=True)
class Rules:
    """What an M-step does beside maximising; `Plan` in em explains each."""

    floor: float
    smoothing: float = 0.0
    pooling: float = 0.0


@dataclass(frozen=True)
class Pattern:
    """The rows of which exactly the tokens `seen` are observed."""

    seen: Sequence[int]
    features: Tensor  # (R or 1, p, n); zeros fill up replicas that have fewer rows
    index: Tensor  # (R or 1, n): which rows of the data these are


@dataclass(frozen=True)
class Moments:
    """Sums over the rows, weighted by responsibility: counts, y, y y'."""

    count: Tensor  # (R, K)
    first: Tensor  # (R, K, t)
    second: Tensor  # (R, K, t, t)

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.count + other.count,
            self.first + other.first,
            self.second + other.second,
        )


def features(y: Tensor) -> Tensor:
    """`(y_i y_j for i <= j, y_i, 1)` of points (R, N, t), rows last: (R, p, N)."""
    y = y.mT
    i, j = torch.triu_indices(y.shape[1], y.shape[1], device=y.device)
    return torch.cat([y[:, i] * y[:, j], y, torch.ones_like(y[:, :1])], 1)


def view_step(state: State, view: Tensor, rows: Tensor, rules: Rules) -> State:
    """One EM step on the view (R, t, D): `rows` are the features of `y = Q x`.

    A row of zeros takes no part.
    """
    half = view.unsqueeze(1) @ state.covariances  # (R, K, t, D)
    mean, covariance = state.means @ view.mT, half @ view.mT.unsqueeze(1)
    found = moments(rows, state.weights, mean, covariance)
    return maximise(state, view, mean, covariance, found, rules)


def patterns_step(state: State, patterns: Sequence[Pattern], rules: Rules) -> State:
    """One joint EM step on rows of which only some tokens are observed."""
    parts = [_completed(state, pattern) for pattern in patterns]
    found = sum(parts[1:], parts[0])
    return maximise(state, None, state.means, state.covariances, found, rules)


def moments(rows: Tensor, weights: Tensor, mean: Tensor, covariance: Tensor) -> Moments:
    """The E-step: responsibilities on `rows`, at once summed up."""
    lines = coefficients(weights, mean, covariance)
    replicas, k, p = lines.shape
    row = k * rows.element_size()
    width = max(1, _CACHE // row)  # rows at once
    height = max(1, _CACHE // (row * rows.shape[-1]))  # replicas at once
    total = lines.new_zeros(replicas, k, p)
    for start in range(0, replicas, height):
        part = slice(start, start + height)
        own = rows if len(rows) == 1 else rows[part]
        for piece in own.split(width, -1):
            piece = piece.expand(len(lines[part]), -1, -1)
            share = torch.softmax(lines[part] @ piece, 1)
            total[part] += (piece @ share.mT).mT
    return _unpack(total, mean.shape[-1])


def coefficients(weights: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
    """`log w N(y; m, C)`, without the shared constant, as a line in `features(y)`."""
    factor = torch.linalg.cholesky_ex(covariance)[0]
    precision = torch.cholesky_inverse(factor)
    slope = (precision @ mean.unsqueeze(-1)).squeeze(-1)
    log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    tiny = torch.finfo(weights.dtype).tiny
    constant = weights.clamp(min=tiny).log() - (log_det + (slope * mean).sum(-1)) / 2
    i, j = torch.triu_indices(mean.shape[-1], mean.shape[-1], device=mean.device)
    square = precision[..., i, j] * torch.where(i == j, -0.5, -1.0).to(precision)
    return torch.cat([square, slope, constant.unsqueeze(-1)], -1)


def _unpack(total: Tensor, t: int) -> Moments:
    i, j = torch.triu_indices(t, t, device=total.device)
    second = total.new_empty(*total.shape[:-1], t, t)
    second[..., i, j] = second[..., j, i] = total[..., : len(i)]
    return Moments(total[..., -1], total[..., len(i) : -1], second)


def _completed(state: State, pattern: Pattern) -> Moments:
    """Moments of x given what is seen: missing tokens are `B x_seen + b` and a noise.

    The completed row is affine in the seen one, so its sums follow from theirs.
    """
    seen, dim = list(pattern.seen), state.means.shape[-1]
    lost = [i for i in range(dim) if i not in seen]
    mean, covariance = state.means[..., seen], state.covariances[..., seen, :]
    found = moments(pattern.features, state.weights, mean, covariance[..., seen])
    if not lost:
        return found
    factor = torch.linalg.cholesky_ex(covariance[..., seen])[0]
    cross = covariance[..., lost]  # (R, K, seen, lost)
    slope = torch.cholesky_solve(cross, factor).mT
    lift = slope.new_zeros(*slope.shape[:2], dim, len(seen))
    lift[..., seen, :] = torch.eye(len(seen)).to(slope)
    lift[..., lost, :] = slope
    shift = state.means - _times(lift, mean)
    noise = torch.zeros_like(state.covariances)
    rest = state.covariances[..., lost, :][..., lost] - slope @ cross
    noise[..., torch.tensor(lost).unsqueeze(-1), lost] = (rest + rest.mT) / 2
    return _lifted(found, lift, shift, noise)


def _lifted(found: Moments, lift: Tensor, shift: Tensor, noise: Tensor) -> Moments:
    """Moments of `lift y + shift + noise` from those of y."""
    moved = _times(lift, found.first)
    count = found.count.unsqueeze(-1)
    both = moved.unsqueeze(-1) * shift.unsqueeze(-2)
    square = shift.unsqueeze(-1) * shift.unsqueeze(-2) + noise
    second = lift @ found.second @ lift.mT + both + both.mT
    second = second + square * count.unsqueeze(-1)
    return Moments(found.count, moved + shift * count, second)


def maximise(
    state: State,
    view: Tensor | None,
    mean: Tensor,
    covariance: Tensor,
    found: Moments,
    rules: Rules,
) -> State:
    """The M-step: weights, and mean and covariance of each component in the view."""
    used = found.count > _EMPTY
    count = found.count.clamp(min=_EMPTY).unsqueeze(-1)
    new = found.first / count
    scatter = found.second / count.unsqueeze(-1) - new.unsqueeze(-1) * new.unsqueeze(-2)
    share = _shares(state.weights, found.count)
    if rules.pooling:
        pooled = torch.einsum("rk,rkij->rij", share, scatter).unsqueeze(1)
        trust = (count / (count + rules.pooling)).unsqueeze(-1)
        scatter = pooled + trust * (scatter - pooled)
    new = torch.where(used.unsqueeze(-1), new, mean)
    scatter = torch.where(used[..., None, None], scatter, covariance)
    if view is not None:
        up = view.mT.unsqueeze(1)
        new = state.means + (new - mean) @ view
        scatter = state.covariances + up @ (scatter - covariance) @ up.mT
    alpha, k = rules.smoothing, share.shape[-1]
    share = (share + alpha) / (1 + k * alpha)
    return State(share, new, floored(scatter, rules.floor))


def _shares(weights: Tensor, count: Tensor) -> Tensor:
    total = count.sum(-1, keepdim=True)
    return torch.where(total > _EMPTY, count / total.clamp(min=_EMPTY), weights)


def floored(covariances: Tensor, floor: float) -> Tensor:
    """The nearest matrices whose eigenvalues are all `floor` or more."""
    covariances = (covariances + covariances.mT) / 2
    margin = floor * torch.eye(covariances.shape[-1]).to(covariances)
    low = torch.linalg.cholesky_ex(covariances - margin)[1] > 0
    if low.any():  # rare after the first steps, and eigenvectors are dear
        values, vectors = torch.linalg.eigh(covariances[low])
        values = values.clamp(min=floor).unsqueeze(-2)
        repaired = (vectors * values) @ vectors.mT
        covariances[low] = (repaired + repaired.mT) / 2
    return covariances


def log_terms(state: State, pattern: Pattern) -> Tensor:
    """`log w_k N(x_seen; k)` of a pattern's rows, (R, K, n)."""
    seen = list(pattern.seen)
    block = state.covariances[..., seen, :][..., seen]
    lines = coefficients(state.weights, state.means[..., seen], block)
    return lines @ pattern.features - len(seen) * math.log(2 * math.pi) / 2


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
