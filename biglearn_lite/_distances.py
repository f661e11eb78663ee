"""Distances between two sets of rows, always with as many rows on both sides.

A Frechet distance of few rows is mostly bias, and the bias depends on their number. So
here it is always at equal numbers, at least ten rows a feature, and stands beside its
floor: what the same number of real training rows would get.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor

from biglearn_lite._task_checks import whole

__all__ = [
    "Comparison",
    "Projection",
    "compare",
    "frechet_distance",
    "frechet_floor",
    "marginal_distance",
    "precision_recall_density_coverage",
]

ROWS_A_FEATURE = 10


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Frechet distance of two Gaussians with the moments of the rows.

        ||m_a - m_b||^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))

    (Dowson and Landau 1982; Heusel et al. 2017, on Inception features.) The trace of
    the root is the sum of the singular values of `C_a^(1/2) C_b^(1/2)`, which needs
    only roots of symmetric matrices.

    Args:
        a: (N, D) rows.
        b: (N, D) rows, as many.

    Returns:
        The distance, a squared length, at least 0.

    Raises:
        ValueError: for other shapes, values that are not finite, or N < 10 D.
    """
    a, b = _rows("a", a), _rows("b", b)
    if a.shape != b.shape:
        raise ValueError(
            "A Frechet distance is at equal numbers of rows and features, got "
            f"{tuple(a.shape)} and {tuple(b.shape)}; draw as many as there are real "
            "ones."
        )
    rows, features = a.shape
    if rows < ROWS_A_FEATURE * features:
        raise ValueError(
            f"A Frechet distance needs {ROWS_A_FEATURE} rows a feature, got {rows} "
            f"rows of {features}; project on at most {rows // ROWS_A_FEATURE} features "
            "first, as with Projection."
        )
    gap = (a.mean(0) - b.mean(0)).square().sum()
    first, second = a.T.cov().reshape(features, -1), b.T.cov().reshape(features, -1)
    both = torch.linalg.svdvals(_root(first) @ _root(second)).sum()
    return max(0.0, (gap + first.trace() + second.trace() - 2 * both).item())


def _root(covariance: Tensor) -> Tensor:
    """The symmetric root of a covariance."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


class Projection:
    """Principal components of training rows, at most `dims` of them.

    Fitted once, on real training rows, so that what is measured later does not choose
    the directions it is measured in.

    Args:
        rows: (N, D) of the training set.
        dims: directions that are kept; fewer if there are fewer.

    Attributes:
        mean: (D,) float64.
        axes: (D, dims) float64, orthonormal, the largest variance first.
        explained: share of the variance of the training rows that is kept.
    """

    def __init__(self, rows: Tensor, dims: int) -> None:
        rows = _rows("rows", rows)
        self.mean = rows.mean(0)
        covariance = rows.T.cov().reshape(rows.shape[1], -1)
        values, vectors = torch.linalg.eigh(covariance)
        self.axes = vectors.flip(1)[:, : whole("dims", dims)]
        kept = values.flip(0)[:dims].sum() / values.sum().clamp(min=1e-300)
        self.explained = kept.item()

    def __call__(self, rows: Tensor) -> Tensor:
        """(N, D) rows -> (N, dims) float64."""
        rows = _rows("rows", rows)
        if rows.shape[1] != len(self.mean):
            raise ValueError(
                f"This projection takes rows of {len(self.mean)} values, got "
                f"{rows.shape[1]}."
            )
        return (rows - self.mean) @ self.axes


class Spread(NamedTuple):
    """Mean and standard deviation over draws; the deviation of one draw is 0."""

    mean: float
    deviation: float


def frechet_floor(
    train: Tensor, test: Tensor, draws: int = 20, generator: Generator | None = None
) -> Spread:
    """The distance between the test rows and as many training rows.

    No sampler is expected to do better: it is what independent real rows get.

    Args:
        train: (M, D), M at least N.
        test: (N, D).
        draws: how often N training rows are drawn, without putting them back.
        generator: of the draws.

    Returns:
        Mean and standard deviation over the draws.

    Raises:
        ValueError: as `frechet_distance`, or if there are fewer training rows.
    """
    if len(train) < len(test):
        raise ValueError(
            f"The floor draws as many training rows as there are test rows, got "
            f"{len(train)} and {len(test)}; take fewer test rows."
        )
    home = "cpu" if generator is None else generator.device
    return _spread(
        [
            frechet_distance(train[rows[: len(test)].to(train.device)], test)
            for _ in range(whole("draws", draws))
            for rows in [torch.randperm(len(train), generator=generator, device=home)]
        ]
    )


def _spread(values: list[float]) -> Spread:
    found = torch.tensor(values, dtype=torch.float64)
    return Spread(found.mean().item(), found.std(correction=0).item())


class Comparison(NamedTuple):
    """A Frechet distance beside its floor, means and standard deviations over draws."""

    distance: float
    spread: float
    floor: float
    floor_spread: float

    @property
    def ratio(self) -> float:
        """How many times the floor the distance is."""
        return self.distance / self.floor


def compare(
    train: Tensor,
    test: Tensor,
    fake: Tensor,
    generator: Generator | None = None,
    draws: int = 20,
) -> Comparison:
    """Distance of fake rows from test rows, and the floor.

    Args:
        train: (M, D), M at least N.
        test: (N, D).
        fake: (K N + rest, D); they are cut into K sets of N, at most `draws`, whose
            distances are averaged, and the rest is not used.
        generator: of the floor.
        draws: of the floor, and at most of the fakes.

    Raises:
        ValueError: as `frechet_distance`, or if there are less than N fakes.
    """
    count = min(len(fake) // max(1, len(test)), draws)
    if not count:
        raise ValueError(
            f"A comparison needs as many fake rows as test rows, got {len(fake)} and "
            f"{len(test)}; draw more."
        )
    sets = fake[: count * len(test)].split(len(test))
    found = _spread([frechet_distance(each, test) for each in sets])
    return Comparison(*found, *frechet_floor(train, test, draws, generator))


def marginal_distance(
    train: Tensor,
    test: Tensor,
    fake: Tensor,
    generator: Generator | None = None,
    dims: int = 24,
    draws: int = 20,
) -> Comparison:
    """Distance of `x_T` for one fixed `T`, from the values themselves.

    The values are projected on principal components of the training rows, as many as
    ten test rows a component allow, at most `dims`.

    Args:
        train: (M, D) values at T of training rows, `D = |T| P`.
        test: (N, D) of test rows.
        fake: (K N, D) of samples, see `compare`.
        generator: of the floor.
        dims: principal components at most.
        draws: of the floor.
    """
    project = Projection(train, max(1, min(dims, len(test) // ROWS_A_FEATURE)))
    sets = (project(each) for each in (train, test, fake))
    return compare(*sets, generator, draws)


class Manifolds(NamedTuple):
    """Precision and recall (Kynkaanniemi et al. 2019), density and coverage (Naeem)."""

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall_density_coverage(
    real: Tensor, fake: Tensor, k: int = 5
) -> Manifolds:
    """Fidelity and diversity from balls around the rows.

    A row's ball reaches to its k-th nearest neighbour in its own set. Then

    - precision: share of the fakes that lie in a ball of any real row;
    - recall: share of the real rows that lie in a ball of any fake
      (both Kynkaanniemi et al. 2019);
    - density: real balls that a fake lies in, in the mean, divided by k;
    - coverage: share of the real balls that hold a fake (both Naeem et al. 2020).

    Args:
        real: (N, D), N more than k.
        fake: (N, D), as many.
        k: of the neighbour.

    Raises:
        ValueError: for other shapes, values that are not finite, or too few rows.
    """
    real, fake = _rows("real", real), _rows("fake", fake)
    if real.shape != fake.shape or len(real) <= whole("k", k):
        raise ValueError(
            f"Balls need as many fake rows as real ones, and more than k={k}, got "
            f"{tuple(real.shape)} and {tuple(fake.shape)}."
        )
    reach_real, reach_fake = _reach(real, k), _reach(fake, k)
    apart = _apart(real, fake)  # (real, fake)
    in_real = apart <= reach_real[:, None]
    in_fake = apart <= reach_fake[None, :]
    return Manifolds(
        in_real.any(0).double().mean().item(),
        in_fake.any(1).double().mean().item(),
        in_real.double().sum(0).mean().item() / k,
        in_real.any(1).double().mean().item(),
    )


def _reach(rows: Tensor, k: int) -> Tensor:
    """Distance to the k-th nearest other row: (N,)."""
    apart = _apart(rows, rows).fill_diagonal_(torch.inf)  # a row is no neighbour
    return apart.kthvalue(k, dim=1).values


def _apart(a: Tensor, b: Tensor) -> Tensor:
    # by matrix products equal rows would not be at distance zero
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _rows(name: str, rows: Tensor) -> Tensor:
    """(N, D) float64 on the CPU, at least two rows, all finite."""
    rows = torch.as_tensor(rows).detach().double().cpu()
    if rows.ndim != 2 or len(rows) < 2 or not rows.shape[1]:
        raise ValueError(
            f"{name} has a row for each of at least two images, got shape "
            f"{tuple(rows.shape)}; flatten each image or its features."
        )
    if not rows.isfinite().all():
        bad = int((~rows.isfinite().all(1)).nonzero()[0])
        raise ValueError(
            f"{name} must be finite, and row {bad} is not; absent tokens have no "
            "values, so take the target only."
        )
    return rows
