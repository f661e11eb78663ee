"""Gradients of the matchings of a mixture under reverse KL, for many replicas at once.

A log density `log w_k + log N(y; m_k, C_k)` is linear in the features (y y', y, 1). So
the log terms of all replicas, components and samples are one batched matrix product,
the responsibilities a softmax, and the score a second product.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from biglearn_lite.mixtures import GaussianMixture


@dataclass
class Law:
    """Mixtures of n replicas, free of the checks of a `GaussianMixture`.

    Attributes:
        log_weights: (n, K) or (1, K).
        means: (n, K, D).
        factors: (n, K, D, D), lower triangular with positive diagonal.
    """

    log_weights: Tensor
    means: Tensor
    factors: Tensor

    @classmethod
    def of(cls, mixture: GaussianMixture) -> Law:
        """The law of a mixture of batch shape () or (n,)."""
        log_weights, means = mixture._log_weights, mixture.means
        factors = torch.linalg.cholesky(mixture.covariances)
        if not mixture.batch_shape:
            return cls(log_weights[None], means[None], factors[None])
        return cls(log_weights.clone(), means.clone(), factors.clone())

    @property
    def covariances(self) -> Tensor:
        """(n, K, D, D)."""
        return self.factors @ self.factors.mT

    def blurred(self, times: float) -> Law:
        """The law whose covariances are `times` as large."""
        return Law(self.log_weights, self.means, self.factors * math.sqrt(times))

    def split(self, count: int) -> list[Law]:
        """The replicas in `count` nearly equal parts."""
        weights = self.log_weights.expand(len(self.means), -1)
        parts = (
            each.tensor_split(count) for each in (weights, self.means, self.factors)
        )
        return [Law(*each) for each in zip(*parts, strict=True)]

    def view(self, A: Tensor | None) -> View:
        """The law of y = A x, to be evaluated; A is (n, m, D), or None: y = x."""
        if A is None:
            return View(self.log_weights, self.means, self.factors)
        return View(self.log_weights, self.means @ A.mT, A.unsqueeze(1) @ self.factors)


class View:
    """Densities in natural parameters: coefficients of the features (y y', y, 1)."""

    def __init__(self, log_weights: Tensor, means: Tensor, half: Tensor) -> None:
        n, K, m = means.shape
        self.means, self.half = means, half
        precision, log_det = inverse(half @ half.mT)
        shift = (precision @ means.unsqueeze(-1)).squeeze(-1)  # (n, K, m)
        const = log_weights - (means * shift).sum(-1) / 2 - log_det / 2
        const = const - m / 2 * math.log(2 * math.pi)
        square = precision.reshape(n, K, m * m)
        self.coefficients = torch.cat([square / -2, shift, const.unsqueeze(-1)], -1)
        self.slopes = torch.cat([square, shift], -1).mT  # (n, m m + m, K)

    def log_terms(self, y: Tensor) -> Tensor:
        """Log w_k N(y; k) at y (n, m, B): (n, K, B)."""
        square = (y.unsqueeze(2) * y.unsqueeze(1)).flatten(1, 2)  # (n, m m, B)
        features = torch.cat([square, y, torch.ones_like(y[:, :1])], 1)
        return self.coefficients @ features

    def score(self, y: Tensor, terms: Tensor | None = None) -> Tensor:
        """The gradient of log p at y (n, m, B): sum_k r_k (P_k m_k - P_k y)."""
        terms = self.log_terms(y) if terms is None else terms
        mixed = self.slopes @ terms.softmax(1)  # (n, m m + m, B)
        n, m, B = y.shape
        square, shift = mixed[:, : m * m], mixed[:, m * m :]
        if m == 1:
            return shift - square * y
        return shift - (square.view(n, m, m, B) * y.unsqueeze(1)).sum(2)


def inverse(C: Tensor) -> tuple[Tensor, Tensor]:
    """Inverse and log determinant of positive definite matrices (..., m, m)."""
    if C.shape[-1] == 1:
        return 1 / C, C[..., 0, 0].log()
    factor = torch.linalg.cholesky_ex(C).L
    log_det = 2 * factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return torch.linalg.inv_ex(C).inverse, log_det


def gap(p: View, q: View, y: Tensor) -> Tensor:
    """The gradient of log p(y) - log q(y) in y: (n, m, B)."""
    return p.score(y) - q.score(y)


# ------------------------------------------------------------- joint and marginal


def path_gradient(
    p: Law, q: View, A: Tensor | None, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Estimate of the gradient of KL[p(y) || q(y)] in means and factors, y = A x.

    The samples x = m_k + F_k e carry the parameters, the parameters inside log p do
    not: their gradient has mean zero (the path derivative, or sticking the landing).
    Each component gets M samples, weighted by its weight.

    Args:
        p: the model, n replicas.
        q: the data in view A.
        A: (n, m, D), or None for the joint.
        noise: e, standard normal (n, D, K, M).

    Returns:
        (n, K, D) and (n, K, D, D), the second with zeros above the diagonal.
    """
    n, D, K, M = noise.shape
    view = p.view(A)
    half = view.half.permute(0, 2, 3, 1).unsqueeze(-1)  # (n, m, D, K, 1)
    y = view.means.mT.unsqueeze(-1) + (half * noise.unsqueeze(1)).sum(2)
    g = gap(view, q, y.flatten(2)).view_as(y)  # (n, m, K, M)
    weights = p.log_weights.exp()[:, None] / M  # (n, 1, K)
    first = g.sum(-1) * weights  # (n, m, K)
    second = (g.unsqueeze(2) * noise.unsqueeze(1)).sum(-1)  # (n, m, D, K)
    second = second * weights.unsqueeze(1)
    if A is not None:
        first = A.mT @ first
        second = (A.mT @ second.flatten(2)).view(n, D, D, K)
    return first.mT, second.permute(0, 3, 1, 2).tril()


# -------------------------------------------------------------------- conditional


def conditional_gradient(
    p: Law, q: View, A: Tensor, source: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Estimate of the gradient of the mean over y_S of KL[p(y_T|y_S) || q(y_T|y_S)].

    y = A x with A orthogonal; the first m tokens are the target T, the rest the source
    S, whose values come from the data. Given y_S the weights w_k depend on the
    parameters, so the expectation over components is summed, not sampled:

        sum_k w_k E_k[log p - log q],   with gradient
        sum_k grad(w_k) (log p - log q) + w_k (score p - score q) grad(y_T).

    As log p(y_T | y_S) = log p(y) - log p(y_S), and the second term is the same for all
    k, the joint densities are all that is needed.

    Args:
        p: the model, n replicas.
        q: the data, not turned.
        A: (n, D, D), orthogonal.
        source: y_S of data, (n, s, J).
        noise: standard normal (n, K, m, J).

    Returns:
        As `path_gradient`.
    """
    n, K, m, J = noise.shape
    drawn = _Given(p, A, source, noise)
    x = (A.mT.unsqueeze(1) @ drawn.y).transpose(1, 2).flatten(2)  # (n, D, K J)
    joint = p.view(None)
    log_p, log_q = joint.log_terms(x), q.log_terms(x)
    score = A[:, :m] @ (joint.score(x, log_p) - q.score(x, log_q))
    ratio = (log_p.logsumexp(1) - log_q.logsumexp(1)).view(n, K, J)
    w = drawn.weights / J  # (n, K, J)
    excess = w * (ratio - (drawn.weights * ratio).sum(1, keepdim=True))
    pull = score.view(n, m, K, J).transpose(1, 2) * w.unsqueeze(2)
    means, covariances = drawn.backward(pull, excess)
    means = means @ A  # dm = A' d(A m)
    factors = 2 * A.mT.unsqueeze(1) @ covariances @ drawn.half
    return means, factors.tril()


class _Given:
    """A draw of y_T from every component given y_S, and how it moves with the law.

    With the gain G = C_TS C_SS^-1, the residual r = y_S - m_S and the Schur complement
    R of C: y_T = m_T + G r + chol(R) e. A small change of the law moves it by

        dm_T - G dm_S + dG r + dR R^-1 (y_T - m_T - G r) / 2.

    (The last is a transport of the Gaussian: any that is gives the same mean.) In
    terms of dC, with B = [I, -G] and rho = (0, C_SS^-1 r): dR = B dC B' and dG r =
    B dC rho; and the log weights move by rho' dm + tr((rho rho' - C_SS^-1) dC) / 2.
    """

    def __init__(self, p: Law, A: Tensor, source: Tensor, noise: Tensor) -> None:
        m = noise.shape[2]
        means = (p.means @ A.mT).unsqueeze(-1)  # (n, K, D, 1)
        self.half = A.unsqueeze(1) @ p.factors
        C = self.half @ self.half.mT
        self.precision, log_det = inverse(C[..., m:, m:])
        self.gain = C[..., :m, m:] @ self.precision  # (n, K, m, s)
        rest = C[..., :m, :m] - self.gain @ C[..., m:, :m]
        factor = rest.sqrt() if m == 1 else torch.linalg.cholesky_ex(rest).L
        residual = source.unsqueeze(1) - means[..., m:, :]  # (n, K, s, J)
        self.rho = self.precision @ residual
        distance = (residual * self.rho).sum(2) + log_det.unsqueeze(-1)
        self.weights = (p.log_weights.unsqueeze(-1) - distance / 2).softmax(1)
        target = means[..., :m, :] + self.gain @ residual + factor @ noise
        self.y = torch.cat([target, source.unsqueeze(1).expand_as(residual)], 2)
        if m == 1:
            self.pushed = noise / factor
        else:
            self.pushed = torch.linalg.solve_triangular(factor.mT, noise, upper=True)

    def backward(self, pull: Tensor, excess: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients in A m and A C A' of sum(pull y_T) + sum(excess log w).

        Args:
            pull: (n, K, m, J).
            excess: (n, K, J), which sums to zero over K.

        Returns:
            (n, K, D) and (n, K, D, D), symmetric.
        """
        down = -self.gain.mT
        h = torch.cat([pull, down @ pull], 2)  # B' pull
        turned = torch.cat([self.pushed, down @ self.pushed], 2) / 2
        rho = torch.cat([torch.zeros_like(pull), self.rho], 2)
        lift = rho * excess.unsqueeze(2)
        covariance = h @ (turned + rho).mT + lift @ rho.mT / 2
        m = pull.shape[2]
        covariance[..., m:, m:] -= excess.sum(-1)[..., None, None] * self.precision / 2
        return (h + lift).sum(-1), (covariance + covariance.mT) / 2
