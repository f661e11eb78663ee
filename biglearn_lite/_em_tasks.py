"""What EM works on: the rows of the data by what is missing, and the views drawn.

A view is `Q` (R, t, D) with orthonormal rows, one for each replica. Where tokens are
missing it is zero outside a subset U of the dimensions, and the rows observed on all
of U take part.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from scipy.special import betaincinv
from torch import Tensor

from biglearn_lite._draws import normal
from biglearn_lite._em_steps import Pattern, State, features, log_terms

if TYPE_CHECKING:
    from biglearn_lite.em import Plan

_ROWS = 10  # a component that a view must show, if the data have them


@dataclass(frozen=True)
class Rows:
    """The data about its centre: points with zeros where missing, and what is seen."""

    points: Tensor  # (R or 1, N, D)
    seen: Tensor | None  # the same shape, boolean; None if all is
    patterns: Sequence[Pattern]
    centre: Tensor  # (R or 1, D)

    @classmethod
    def about(cls, data: Tensor, centre: Tensor) -> Rows:
        """Rows of data (R or 1, N, D), NaN where missing."""
        points, seen = data - centre.unsqueeze(-2), ~data.isnan()
        if seen.all():
            index = torch.arange(data.shape[1], device=data.device)[None]
            every = Pattern(range(data.shape[-1]), features(points), index)
            return cls(points, None, [every], centre)
        points = points.nan_to_num()
        return cls(points, seen, _patterns(points, seen), centre)

    def spread(self) -> Tensor:
        """Variance of each dimension about the centre: (R or 1, D)."""
        seen = 1.0 if self.seen is None else self.seen
        total = (self.points.square() * seen).sum(1)
        count = len(self.points[0]) if self.seen is None else self.seen.sum(1)
        return total / count


def centre(data: Tensor) -> Tensor:
    """Mean of each dimension over the rows where it is observed, summed in float64."""
    return data.double().nanmean(1).to(data.dtype)


def _patterns(points: Tensor, seen: Tensor) -> list[Pattern]:
    """Rows grouped by what is seen; those of which nothing is seen are left out."""
    kinds, kind = seen.flatten(0, 1).unique(dim=0, return_inverse=True)
    kind = kind.reshape(seen.shape[:2])
    out = []
    for number, tokens in enumerate(kinds):
        member = kind == number
        most = int(member.sum(1).max())
        index = member.long().argsort(dim=1, descending=True, stable=True)[:, :most]
        dims = tokens.nonzero()[:, 0].tolist()
        if dims:
            rows = torch.take_along_dim(points[..., dims], index.unsqueeze(-1), 1)
            here = member.gather(1, index).unsqueeze(1)
            out.append(Pattern(dims, features(rows) * here, index))
    return out


def draw_view(
    plan: Plan, rows: Rows, like: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor] | None:
    """A task: None if it is the joint one, else the view and its rows' features.

    Which kind of task and how many dimensions is drawn once for all replicas, the
    axes or the rotation for each. `like` are the means (R, K, D).
    """
    replicas, k, dim = like.shape
    kind, size = torch.rand(2, generator=generator, device=generator.device).tolist()
    if dim == 1 or kind < plan.joint:
        return None
    among, shown = range(dim), None
    if rows.seen is not None:
        among = _observed_together(rows.seen, _ROWS * k, generator)
        shown = rows.seen[..., among].all(-1)
    t = view_size(plan, len(among), size)
    draw = _axes if kind < plan.joint + plan.axis else _rotation
    view = like.new_zeros(replicas, t, dim)
    view[..., among] = draw(replicas, t, len(among), like, generator)
    seen = features(rows.points @ view.mT)
    return view, seen if shown is None else seen * shown.unsqueeze(1)


def view_size(plan: Plan, dim: int, u: float) -> int:
    """`floor(dim Beta)`, from 1 to dim - 1, by the quantile function at u."""
    share = float(betaincinv(*plan.sizes, u))
    return max(1, min(dim - 1, math.floor(dim * share)))


def _axes(
    replicas: int, t: int, dim: int, like: Tensor, generator: torch.Generator
) -> Tensor:
    """Rows of the identity: t of the axes, anew for each replica."""
    keys = torch.rand(replicas, dim, generator=generator, device=generator.device)
    return torch.eye(dim).to(like)[keys.argsort(1)[:, :t].to(like.device)]


def _rotation(
    replicas: int, t: int, dim: int, like: Tensor, generator: torch.Generator
) -> Tensor:
    """The first t rows of a uniformly (Haar) random orthogonal matrix."""
    q, r = torch.linalg.qr(normal((replicas, dim, t), like, generator))
    sign = torch.where(r.diagonal(dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(like)
    return (q * sign.unsqueeze(-2)).mT


def _observed_together(
    seen: Tensor, least: int, generator: torch.Generator
) -> list[int]:
    """Dimensions that a random row shows; fewer, until enough rows show them all."""
    least = min(least, seen.shape[1] // 2)
    flat = seen.flatten(0, 1)
    flat = flat[flat.any(-1)]
    where = generator.device
    row = int(torch.randint(len(flat), (1,), generator=generator, device=where))
    dims = flat[row].nonzero()[:, 0]
    order = torch.randperm(len(dims), generator=generator, device=where)
    dims = dims[order.to(dims.device)]
    while len(dims) > 1 and seen[..., dims].all(-1).sum(1).min() < least:
        dims = dims[1:]
    return dims.tolist()


def log_joint(state: State, rows: Rows) -> Tensor:
    """`log w_k N(x_n; k)` on what is seen of each row, for one mixture: (N, K).

    A row of which nothing is seen has the density 1 of no token at all.
    """
    out = state.weights.log().expand(rows.points.shape[1], -1).clone()
    for pattern in rows.patterns:
        out[pattern.index[0]] = log_terms(state, pattern)[0].mT
    return out
