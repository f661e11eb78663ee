"""What a token's law is made of: logits of symbols, or a small mixture of Gaussians.

A head turns the vector of a position into a law of its token, gives the log density of
a value, and draws one. Densities are in nats.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from biglearn_lite._draws import draw_component, normal

LEAST_SCALE = 1e-3  # of a Gaussian, so that no density grows without bound


def full(x: Tensor) -> Tensor:
    """At least single precision, for laws: autocast computes in half of it."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class SymbolHead(nn.Module):
    """A categorical law over `V` symbols."""

    def __init__(self, width: int, symbols: int) -> None:
        super().__init__()
        self.logits = nn.Linear(width, symbols)

    def log_prob(self, hidden: Tensor, x: Tensor) -> Tensor:
        """(..., W) and (...) symbols -> (...) nats."""
        laws = full(self.logits(hidden)).log_softmax(-1)  # (..., V)
        return laws.gather(-1, x[..., None].long()).squeeze(-1)

    def sample(self, hidden: Tensor, generator: torch.Generator | None) -> Tensor:
        """(..., W) -> (...) symbols."""
        return draw_component(full(self.logits(hidden)), generator)


class MixtureHead(nn.Module):
    """A mixture of `K` Gaussians with diagonal covariances over `P` numbers.

    One Gaussian of fixed variance is the masked autoencoder's square error; several
    can say "this or that", and tie the `P` numbers of a token together.
    """

    def __init__(self, width: int, values: int, components: int) -> None:
        super().__init__()
        self.shape = (components, values)
        self.weights = nn.Linear(width, components)
        self.means = nn.Linear(width, components * values)
        self.scales = nn.Linear(width, components * values)

    def spread(self) -> None:
        """Start with different means: equal components would stay equal."""
        nn.init.normal_(self.means.bias)

    def laws(self, hidden: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log weights (..., K), means and scales (..., K, P)."""
        means = full(self.means(hidden)).unflatten(-1, self.shape)
        scales = full(self.scales(hidden)).unflatten(-1, self.shape)
        scales = nn.functional.softplus(scales) + LEAST_SCALE
        return full(self.weights(hidden)).log_softmax(-1), means, scales

    def log_prob(self, hidden: Tensor, x: Tensor) -> Tensor:
        """(..., W) and (..., P) numbers -> (...) nats."""
        weights, means, scales = self.laws(hidden)
        standard = (x[..., None, :] - means) / scales  # (..., K, P)
        density = -0.5 * standard**2 - scales.log() - 0.5 * math.log(2 * math.pi)
        return (weights + density.sum(-1)).logsumexp(-1)

    def sample(self, hidden: Tensor, generator: torch.Generator | None) -> Tensor:
        """(..., W) -> (..., P) numbers."""
        weights, means, scales = self.laws(hidden)
        k = draw_component(weights, generator)[..., None, None]  # (..., 1, 1)
        mean = means.take_along_dim(k, -2).squeeze(-2)  # (..., P)
        scale = scales.take_along_dim(k, -2).squeeze(-2)
        return mean + scale * normal(mean.shape, mean, generator)
