"""Where EM starts: the paper's start for data of unit scale, and starts among the data.

`em` is where these functions are public.
"""

from __future__ import annotations

import torch
from torch import Tensor

from biglearn_lite._draws import normal
from biglearn_lite._em_checks import check_components, check_data
from biglearn_lite._em_steps import floored
from biglearn_lite._em_tasks import Rows, centre
from biglearn_lite._task_checks import whole
from biglearn_lite.mixtures import GaussianMixture


def random_start(
    replicas: int,
    n_components: int,
    dim: int,
    generator: torch.Generator,
    dtype: torch.dtype | None = None,
) -> GaussianMixture:
    """The paper's start: equal weights, means from N(0, I), covariances I.

    It suits data of about unit scale around zero. Batch shape `(replicas,)`; float64
    unless `dtype` says otherwise.
    """
    shape = (whole("replicas", replicas), whole("n_components", n_components))
    like = torch.zeros((), dtype=dtype or torch.float64)
    means = normal((*shape, whole("dim", dim)), like, generator)
    return _even(means, torch.eye(dim).to(means))


def data_start(
    data: Tensor,
    n_components: int,
    generator: torch.Generator,
    *,
    replicas: int | None = None,
    init: str = "k-means++",
) -> GaussianMixture:
    """Means among the data: a start for data of any scale.

    The covariances are the data's divided by `K^(2/D)`, so that the K ellipsoids have
    together the volume of the data's. Missing values count as their column's mean.

    Args:
        data: `(N, D)` or `(R, N, D)`.
        n_components: K.
        generator: where the choice is drawn from.
        replicas: how many starts from data `(N, D)`; one mixture of batch shape `()`
            if None.
        init: `"k-means++"`, each mean drawn with probability in proportion to the
            squared distance to those before; `"random_from_data"`, drawn evenly;
            or `"random"`, the paper's start stretched to the data's mean and scale.

    Raises:
        ValueError: if an argument breaks these rules.
    """
    check_data(data)
    check_components(whole("n_components", n_components), data)
    if init not in _MEANS:
        raise ValueError(f"init must be one of {', '.join(_MEANS)}; got {init!r}.")
    full = data if data.dim() == 3 else data[None]
    rows = Rows.about(full, centre(full))
    points = rows.points
    if data.dim() == 2 and replicas is not None:
        points = points.expand(whole("replicas", replicas), -1, -1)
    means = _MEANS[init](points, n_components, generator)
    covariance = rows.points.mT @ rows.points / points.shape[1]
    if init == "random":
        covariance = torch.diag_embed(rows.points.square().mean(1))
    else:
        covariance = covariance / n_components ** (2 / points.shape[-1])
    scale = covariance.diagonal(dim1=-2, dim2=-1).max().item()
    covariance = floored(covariance, max(1e-6 * scale, torch.finfo(data.dtype).tiny))
    start = _even(means + rows.centre.unsqueeze(-2), covariance.unsqueeze(1))
    if data.dim() == 3 or replicas is not None:
        return start
    return GaussianMixture(start.weights[0], start.means[0], start.covariances[0])


def _even(means: Tensor, covariance: Tensor) -> GaussianMixture:
    k = means.shape[-2]
    weights = torch.full_like(means[..., 0], 1 / k)
    covariances = covariance.expand(*means.shape, means.shape[-1])
    return GaussianMixture(weights, means, covariances)


def _spread_means(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k-means++: far points first, by chance."""
    away = torch.ones_like(points[..., 0])
    means = []
    for _ in range(k):
        chance = away + torch.finfo(away.dtype).tiny  # all equal: any will do
        index = _draw(chance, 1, generator)
        means.append(torch.take_along_dim(points, index.unsqueeze(-1), 1))
        gap = (points - means[-1]).square().sum(-1)
        away = gap if len(means) == 1 else torch.minimum(away, gap)
    return torch.cat(means, 1)


def _even_means(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """k different rows."""
    index = _draw(torch.ones_like(points[..., 0]), k, generator)
    return torch.take_along_dim(points, index.unsqueeze(-1), 1)


def _outside_means(points: Tensor, k: int, generator: torch.Generator) -> Tensor:
    """Normal draws of the data's scale."""
    noise = normal((len(points), k, points.shape[-1]), points, generator)
    return noise * points.square().mean(1, keepdim=True).sqrt()


def _draw(chance: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """Indices (R, n) of different rows with these chances, by exponential races."""
    u = torch.rand(chance.shape, generator=generator, device=generator.device)
    race = -torch.log1p(-u).to(chance) / chance
    return race.topk(n, 1, largest=False).indices


_MEANS = {
    "k-means++": _spread_means,
    "random_from_data": _even_means,
    "random": _outside_means,
}
