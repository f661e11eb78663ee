"""Local minima of a map and their basins: where does gradient flow from each cell end?

The maps are those of `landscapes`; nothing here depends on what they measure, except
for the two stars, the models that equal the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

Axis = Sequence[float] | np.ndarray | Tensor

STARS = ((-1.0, 1.0), (1.0, -1.0))  # the models (mu1, mu2) that equal the data: KL = 0


@dataclass(frozen=True, eq=False)
class Minimum:
    """A local minimum of a map, and the cells from which gradient flow ends in it.

    Attributes:
        mu1: its place on the first axis.
        mu2: its place on the second axis.
        value: the map's value there.
        basin: boolean (len(mu1), len(mu2)).
    """

    mu1: float
    mu2: float
    value: float
    basin: np.ndarray

    @property
    def share(self) -> float:
        """The share of the map's cells that lie in the basin."""
        return float(self.basin.mean())

    @property
    def is_star(self) -> bool:
        """Whether it lies within 0.2 of a model that equals the data."""
        return any(math.dist((self.mu1, self.mu2), star) < 0.2 for star in STARS)


def local_minima(
    values: np.ndarray | Tensor, mu1: Axis, mu2: Axis, *, flat: float = 1e-9
) -> list[Minimum]:
    """All local minima of a map with their basins of attraction.

    Every cell flows to the steepest of its eight lower neighbours (drop by distance),
    step by step until nothing around is lower; the basins therefore divide the whole
    map. Values that agree to `flat` count as equal. A flat region with no way down is
    *one* minimum, placed at its cell nearest to the region's centre: a map that is zero
    everywhere has a single minimum whose basin is everything. A flat region with ways
    down drains through the lowest of them. Flow that would leave the map ends at its
    edge, so a minimum on the edge may be a valley that goes on outside.

    Args:
        values: the map, (I, J).
        mu1: first axis, I >= 3 increasing numbers.
        mu2: second axis, J >= 3 increasing numbers.
        flat: differences up to this are rounding, not slope.

    Returns:
        Minima sorted by value (to `flat`), then by place.

    Raises:
        ValueError: if the map has NaN or infinite cells, does not fit the axes, or an
            axis has fewer than 3 points or does not increase.
    """
    v, *axes = _checked(values, mu1, mu2)
    level = np.round(v / flat)
    region = _regions(level)
    end = _ends(level, region, *axes)
    minima = [_minimum(v, region == r, end == r, *axes) for r in np.unique(end)]
    return sorted(minima, key=lambda m: (round(m.value / flat), m.mu1, m.mu2))


def _checked(values: np.ndarray | Tensor, mu1: Axis, mu2: Axis) -> list[np.ndarray]:
    v, *axes = (
        torch.as_tensor(t, dtype=torch.float64).detach().cpu().numpy()
        for t in (values, mu1, mu2)
    )
    for name, axis in zip(("mu1", "mu2"), axes, strict=True):
        if axis.ndim != 1 or len(axis) < 3 or not (np.diff(axis) > 0).all():
            raise ValueError(
                f"{name} must be at least 3 increasing numbers, so that a minimum has "
                f"neighbours; got shape {axis.shape}."
            )
    if v.shape != (len(axes[0]), len(axes[1])):
        raise ValueError(
            f"values must have shape (len(mu1), len(mu2)) = "
            f"{(len(axes[0]), len(axes[1]))}, got {v.shape}."
        )
    if not np.isfinite(v).all():
        raise ValueError(
            f"values must be finite, got {(~np.isfinite(v)).sum()} NaN or infinite "
            "cells; recompute or cut them off first."
        )
    return [v, *axes]


def _neighbours(shape: tuple[int, ...]) -> list[tuple[tuple, tuple]]:
    """For each of the eight directions, the cells and their neighbours as slices."""
    one_way = {-1: (slice(1, None), slice(None, -1)), 0: (slice(None), slice(None))}
    one_way[1] = one_way[-1][::-1]
    shifts = [(a, b) for a in one_way for b in one_way if a or b]
    pairs = [(one_way[a], one_way[b]) for a, b in shifts]
    return [((i[0], j[0]), (i[1], j[1])) for i, j in pairs]


def _regions(level: np.ndarray) -> np.ndarray:
    """Number the connected regions of equal level, (I, J) int."""
    index = np.arange(level.size).reshape(level.shape)
    edges = []
    for here, there in _neighbours(level.shape):
        equal = level[here] == level[there]
        edges.append(np.stack([index[here][equal], index[there][equal]]))
    rows, cols = np.concatenate(edges, 1)
    graph = coo_array((np.ones(len(rows)), (rows, cols)), (level.size, level.size))
    return connected_components(graph, directed=False)[1].reshape(level.shape)


def _ends(
    level: np.ndarray, region: np.ndarray, mu1: np.ndarray, mu2: np.ndarray
) -> np.ndarray:
    """For each cell, the region in which its steepest descent ends, (I, J) int."""
    slope = np.zeros(level.shape)
    target = np.arange(level.size).reshape(level.shape)
    cells = target.copy()
    for here, there in _neighbours(level.shape):
        i, j = np.divmod(cells[here], level.shape[1])
        k, m = np.divmod(cells[there], level.shape[1])
        drop = level[here] - level[there]
        steep = drop / np.hypot(mu1[i] - mu1[k], mu2[j] - mu2[m])
        better = (drop > 0) & (steep > slope[here])
        slope[here] = np.where(better, steep, slope[here])
        target[here] = np.where(better, cells[there], target[here])
    target, slope, region = target.ravel(), slope.ravel(), region.ravel()
    # inside a flat region, cells without a way down go to the region's lowest outlet
    outlet = np.full(region.max() + 1, -1)
    for cell in np.argsort(-level.ravel()[target], kind="stable"):
        if slope[cell] > 0:
            outlet[region[cell]] = target[cell]
    stuck = (slope == 0) & (outlet[region] >= 0)
    target[stuck] = outlet[region[stuck]]
    while not np.array_equal(target, target[target]):
        target = target[target]
    return region[target].reshape(level.shape)


def _minimum(
    v: np.ndarray,
    floor: np.ndarray,
    basin: np.ndarray,
    mu1: np.ndarray,
    mu2: np.ndarray,
) -> Minimum:
    cells = np.argwhere(floor)
    centre = np.linalg.norm(cells - cells.mean(0), axis=1)
    i, j = cells[centre.argmin()]
    return Minimum(float(mu1[i]) + 0.0, float(mu2[j]) + 0.0, float(v[i, j]), basin)
