"""Gaussian mixtures that can be marginalised, conditioned and transformed exactly.

A density on `D` real tokens, `p(x) = sum_k w_k N(x; m_k, C_k)`, whose answer to every
task `p(x_T | x_S)` is again a mixture. It is the exact universal model with which the
learned ones of Big Cooperative Learning (arXiv 2407.21319) are compared. The algebra is
textbook (Bishop, Pattern Recognition and Machine Learning, sections 2.3 and 9.2); the
chapter `mixtures` derives it.

Everything rests on one fact. With `C = F F'` (Cholesky), `z = F^-1 (x - m)` is standard
normal, and coordinate `i` of `z` uses only `x_1 .. x_i`. So the `i`-th term of
`log N(x; m, C)` *is* `log p(x_i | x_1 .. x_{i-1})`: put the source tokens first, and
one factor gives the marginal of the source and the conditional of the target.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from biglearn_lite._draws import draw_component, normal
from biglearn_lite._mixture_checks import (
    as_numbers,
    check_alike,
    check_parameters,
    check_points,
    check_rows,
    check_tokens,
    check_transform,
    cholesky,
)
from biglearn_lite._task_checks import positions, whole

if TYPE_CHECKING:
    from biglearn_lite.tasks import Task


class GaussianMixture:
    """A batch of Gaussian mixtures with full covariances.

    Shapes follow `torch.distributions`: `batch_shape` is what the leading dimensions of
    the three arguments broadcast to, `event_shape` is `(D,)`, and points have shape
    `(*sample, *batch, D)`. All results are differentiable in weights, means,
    covariances and points, in float32 and float64, on any device. A component of
    weight zero takes no part: its weight, mean and covariance get gradient zero.

    The attributes `weights`, `means` and `covariances` have the full batch shape. They
    are constants of the object: make a new mixture from new parameters.

    Args:
        weights: `(..., K)`, not negative, summing to one; a tensor, an array or a list,
            and so the others.
        means: `(..., K, D)`.
        covariances: `(..., K, D, D)`, symmetric and positive definite.
        validate: check the arguments here and the points later. The checks wait for
            the device; switch them off inside a training loop. What is then out of
            range gives meaningless numbers instead of an error.

    Raises:
        ValueError: naming the argument, the batch index and component, the rule, the
            offending value and what to do.
    """

    def __init__(
        self, weights: Tensor, means: Tensor, covariances: Tensor, validate: bool = True
    ) -> None:
        weights = as_numbers("weights", weights)
        means = as_numbers("means", means)
        covariances = as_numbers("covariances", covariances)
        if validate:
            check_parameters(weights, means, covariances)
        factors = cholesky(covariances, validate, "covariances")
        self._set(_log(weights), means, covariances, factors, validate)
        self.weights = weights.expand(*self.batch_shape, self.n_components)

    def _set(
        self,
        log_weights: Tensor,  # (..., K)
        means: Tensor,  # (..., K, D)
        covariances: Tensor,  # (..., K, D, D)
        factors: Tensor,  # (..., K, D, D), lower triangular
        validate: bool,
    ) -> None:
        batch = torch.broadcast_shapes(
            log_weights.shape[:-1], means.shape[:-2], covariances.shape[:-3]
        )
        self.batch_shape = batch
        self.event_shape = means.shape[-1:]
        self.means = means.expand(*batch, *means.shape[-2:])
        self.covariances = covariances.expand(*batch, *covariances.shape[-3:])
        self._log_weights = log_weights.expand(*batch, log_weights.shape[-1])
        self._factors = factors.expand(*batch, *factors.shape[-3:])
        self._validate = validate

    def _derived(
        self, log_weights: Tensor, means: Tensor, covariances: Tensor, factors: Tensor
    ) -> GaussianMixture:
        # weights stay logarithms: exp would lose the components far from the source
        result = object.__new__(GaussianMixture)
        result._set(log_weights, means, covariances, factors, self._validate)
        result.weights = result._log_weights.exp()
        return result

    def __repr__(self) -> str:
        return (
            f"GaussianMixture(batch_shape={tuple(self.batch_shape)}, "
            f"n_components={self.n_components}, dim={self.dim})"
        )

    @property
    def n_components(self) -> int:
        """Number of components `K`."""
        return self.means.shape[-2]

    @property
    def dim(self) -> int:
        """Number of dimensions `D`."""
        return self.means.shape[-1]

    def log_prob(self, x: Tensor) -> Tensor:
        """Log density, in nats.

        Farther from a mean than the square root of the largest number (about 1e19
        standard deviations in float32), distances are clamped, so the result stays
        finite.

        Args:
            x: points `(*sample, *batch, D)`; its batch dimensions broadcast.

        Returns:
            `(*sample, *batch)`.

        Raises:
            ValueError: if `x` has another last dimension, dtype or device, or is not
                finite.
        """
        check_points("x", x, self.dim, self)
        z = _whiten(x.unsqueeze(-2) - self.means, self._factors)
        log_normal = _log_terms(z, self._factors).sum(-1)  # (*sample, *batch, K)
        return torch.logsumexp(self._log_weights + log_normal, -1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw `n` points from each mixture of the batch: `(n, *batch, D)`.

        The draw is a differentiable function of means and covariances, not of weights.

        Raises:
            ValueError: if `n` is not a whole number, 0 or more.
        """
        n = whole("n", n, least=0)
        component = draw_component(
            self._log_weights.expand(n, *self.batch_shape, -1), generator
        )
        index = component[..., None, None]  # (n, *batch, 1, 1)
        means = self.means.expand(n, *self.means.shape)
        factors = self._factors.expand(n, *self._factors.shape)
        mean = torch.take_along_dim(means, index, -2).squeeze(-2)
        factor = torch.take_along_dim(factors, index[..., None], -3).squeeze(-3)
        noise = normal(mean.shape, mean, generator)
        return mean + (factor @ noise.unsqueeze(-1)).squeeze(-1)

    def marginal(self, dims: Sequence[int]) -> GaussianMixture:
        """The mixture of the tokens `dims`, in the order given: keep their blocks.

        Raises:
            ValueError: if `dims` is empty, repeats a token or names one that is absent.
        """
        dims = positions("dims", dims, self.dim)
        if not dims:
            raise ValueError("dims must name at least one token to keep; got none.")
        covariances = self.covariances[..., dims, :][..., dims]
        factors = cholesky(covariances, self._validate, "the marginal covariance")
        return self._derived(
            self._log_weights, self.means[..., dims], covariances, factors
        )

    def conditional(self, dims: Sequence[int], values: Tensor) -> GaussianMixture:
        """The mixture of the other tokens, ascending, given that `dims` are `values`.

        With the source S first, the Cholesky factor is `[[F_SS, 0], [F_TS, F_TT]]`;
        `z = F_SS^-1 (x_S - m_S)` gives the new weights, `m_T + F_TS z` the new means,
        and `F_TT` is the factor of the Schur complement, which needs no subtraction.
        Where values are beyond the clamp of `log_prob` for every component, all count
        as equally far and the source no longer tells them apart.

        Args:
            dims: the source: distinct tokens, none to all but one.
            values: `(*sample, *batch, len(dims))`, one column for each of `dims` in
                the order given; its batch dimensions broadcast.

        Returns:
            A mixture of `D - len(dims)` dimensions and batch shape `(*sample, *batch)`.

        Raises:
            ValueError: if `dims` or `values` break these rules.
        """
        dims = positions("dims", dims, self.dim)
        rest = [i for i in range(self.dim) if i not in dims]
        if not rest:
            raise ValueError(
                f"dims must leave at least one token as target; got all {self.dim}."
            )
        check_points("values", values, len(dims), self)
        order, s = dims + rest, len(dims)
        ordered = self.covariances[..., order, :][..., order]
        factors = cholesky(ordered, self._validate, "the reordered covariance")
        z = _whiten(values.unsqueeze(-2) - self.means[..., dims], factors[..., :s, :s])
        evidence = _log_terms(z, factors[..., :s, :s]).sum(-1)  # log N(x_S; k)
        shift = (factors[..., s:, :s] @ z.unsqueeze(-1)).squeeze(-1)
        schur = factors[..., s:, s:] @ factors[..., s:, s:].mT
        return self._derived(
            torch.log_softmax(self._log_weights + evidence, -1),
            self.means[..., rest] + shift,
            schur,
            factors[..., s:, s:],
        )

    def transform(self, A: Tensor) -> GaussianMixture:
        """The mixture of `y = A x`: means `A m`, covariances `A C A'`.

        Args:
            A: `(..., D', D)` of full row rank, so `D' <= D`; leading dimensions
                broadcast with the batch.

        Raises:
            ValueError: if the shape is wrong or a matrix does not have full row rank
                (the law of `y` would have no density).
        """
        if self._validate:
            check_transform(A, self.means)
        A = A.unsqueeze(-3)  # (..., 1, D', D): the same for every component
        means = (A @ self.means.unsqueeze(-1)).squeeze(-1)
        half = A @ self._factors
        covariances = half @ half.mT
        factors = cholesky(covariances, self._validate, "the covariance of A x")
        return self._derived(self._log_weights, means, covariances, factors)


class UniversalMixture:
    """The exact universal model `p(x_T | x_S)`: one mixture, every task.

    Learned universal models imitate its two methods. Tokens are `(B, L, P)` with
    `L = D` tokens of `P = 1` value, and every row of the batch may have another task.
    There is no loop over rows: each row's tokens are sorted into source, target,
    absent, and one batched Cholesky factor then serves sources and targets at once.
    Sources at extreme distances count as equally far from all components, as in
    `GaussianMixture.conditional`.

    Args:
        mixture: a `GaussianMixture` with an empty batch shape.

    Raises:
        ValueError: if `mixture` is something else or a batch of mixtures.
    """

    def __init__(self, mixture: GaussianMixture) -> None:
        if not isinstance(mixture, GaussianMixture):
            raise ValueError(
                f"mixture must be a GaussianMixture; got {mixture!r}. Make one from "
                "weights, means and covariances."
            )
        if mixture.batch_shape:
            raise ValueError(
                "mixture must be a single mixture with batch_shape (); got "
                f"{tuple(mixture.batch_shape)}. Make one UniversalMixture for each."
            )
        self.mixture = mixture
        self.length = mixture.dim

    def sample(
        self, x: Tensor, task: Task, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw the target tokens of each row given its source tokens.

        Args:
            x: `(B, L, 1)`; only source positions are read and checked.
            task: source and target of each row.
            generator: where the noise comes from.

        Returns:
            `(B, L, 1)`: source positions as they came, targets drawn, absent ones NaN.

        Raises:
            ValueError: if `x` and `task` do not fit the model, or a source token is
                not finite.
        """
        source, target = self._roles(x, task)
        check_tokens(x, source, "source", self.mixture._validate)
        order, source_, _ = _sort_roles(source, target)
        mean, factor, log_weights, z = self._condition(x, order, source_)
        component = draw_component(log_weights.mT, generator)  # (B,)
        row = torch.arange(len(x), device=x.device)
        noise = normal(source.shape, mean, generator)
        z = torch.where(source_, z[component, row], noise)
        drawn = mean[component, row] + (
            factor[component, row] @ z.unsqueeze(-1)
        ).squeeze(-1)
        drawn = torch.empty_like(drawn).scatter(-1, order, drawn).unsqueeze(-1)
        drawn = torch.where(target.unsqueeze(-1), drawn, math.nan)
        return torch.where(source.unsqueeze(-1), x, drawn)

    def log_prob(self, x: Tensor, task: Task) -> Tensor:
        """`log p(x_T | x_S)` of each row in nats: `(B,)`.

        Args:
            x: `(B, L, 1)`; only source and target positions are read and checked.
            task: source and target of each row.

        Raises:
            ValueError: as `sample`, and if a target token is not finite.
        """
        source, target = self._roles(x, task)
        read = "source or target"
        check_tokens(x, source | target, read, self.mixture._validate)
        order, source_, target_ = _sort_roles(source, target)
        _, factor, log_weights, z = self._condition(
            x, order, source_ | target_, source_
        )
        terms = torch.where(target_, _log_terms(z, factor), 0.0)
        return torch.logsumexp(log_weights + terms.sum(-1), 0)

    def _roles(self, x: Tensor, task: Task) -> tuple[Tensor, Tensor]:
        check_alike("x", x, self.mixture.means)
        check_rows(x, task, self.length)
        return task.source.to(x.device), task.target.to(x.device)

    def _condition(
        self, x: Tensor, order: Tensor, read: Tensor, source: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Means, factors, log weights given the source, whitened tokens: K first."""
        source = read if source is None else source
        m = self.mixture
        mean = m.means[:, order]  # (K, B, L)
        ordered = m.covariances[:, order.unsqueeze(-1), order.unsqueeze(-2)]
        factor = cholesky(ordered, m._validate, "the reordered covariance")
        tokens = x.squeeze(-1).gather(-1, order)
        # unread tokens come last, so they cannot reach the whitened ones before them
        z = _whiten(torch.where(read, tokens - mean, 0.0), factor)
        evidence = torch.where(source, _log_terms(z, factor), 0.0).sum(-1)  # (K, B)
        log_weights = torch.log_softmax(m._log_weights.unsqueeze(-1) + evidence, 0)
        return mean, factor, log_weights, z


def _sort_roles(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each row's token order source, target, absent; and the roles in that order."""
    role = torch.where(source, 0, torch.where(target, 1, 2))
    role, order = role.sort(dim=-1, stable=True)
    return order, role == 0, role == 1


def _whiten(residual: Tensor, factors: Tensor) -> Tensor:
    """Solve `F z = residual`, `(*sample, *batch, K, D)`, without repeating `F`."""
    n = residual.dim() - factors.dim() + 1  # sample dimensions
    lead, shape = residual.shape[:n], residual.shape[n:]
    factors = factors.expand(*shape, shape[-1])
    # all samples of one factor become the columns of one right-hand side
    columns = residual.reshape(math.prod(lead), *shape).movedim(0, -1)
    z = torch.linalg.solve_triangular(factors, columns, upper=False)
    return z.movedim(-1, 0).reshape(residual.shape)


def _log_terms(z: Tensor, factors: Tensor) -> Tensor:
    """`log p(x_i | x_1 .. x_{i-1})` of one Gaussian for each token i: `(..., K, D)`."""
    # squares of larger numbers overflow, and inf - inf would turn weights into NaN
    bound = math.sqrt(torch.finfo(z.dtype).max / (4 * max(z.shape[-1], 1)))
    scale = factors.diagonal(dim1=-2, dim2=-1).log()
    return -0.5 * (z.clamp(-bound, bound).square() + math.log(2 * math.pi)) - scale


def _log(weights: Tensor) -> Tensor:
    """Logarithm with `log 0 = -inf` and gradient zero there, where 1 / 0 is inf."""
    positive = weights > 0
    return torch.where(positive, torch.where(positive, weights, 1.0).log(), -math.inf)
