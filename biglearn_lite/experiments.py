"""Recipes whose model is a mixture of Gaussians: many replicas, and what they found.

`model.kind` names the experiment, a table of the same name says how. There is nothing
to evaluate on data afterwards: an experiment returns its measurements with the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from biglearn_lite.cooperation import (
    Schedule,
    corner_start,
    descend,
    grid_mixture,
    modes_found,
    reverse_kl,
)
from biglearn_lite.mixtures import GaussianMixture

if TYPE_CHECKING:
    from biglearn_lite._recipe_file import Recipe

__all__ = ["Outcome", "is_experiment", "run_experiment"]


@dataclass(frozen=True)
class Outcome:
    """What an experiment found: a model to keep, snapshots and measurements."""

    model: Any
    history: list[dict[str, Any]]
    metrics: dict[str, Any]


@dataclass(frozen=True)
class DescentPart:
    """Task-switching descent on a target that is known (`cooperation.descend`).

    Attributes:
        replicas: of one seed.
        steps: SGD steps of each.
        share: of the steps that are taken, with the whole schedule in them; for
            variants that need fewer.
        marks: times at which modes are counted, spread evenly.
        snapshots: of them, how many are kept as pictures of the first replica.
        target: `"grid"`: `side ** dim` Gaussians `spacing` apart; `"scatter"`:
            `components` Gaussians at random places in a box, the same for all seeds.
        side, spacing, components, dim: see `target`.
        variance: of each Gaussian.
        uneven: ratio of the largest to the smallest weight of the target; weights in
            between are spread evenly in their logarithms.
        schedule: arguments of `Schedule`; `{"published": true}` takes the official one.
    """

    replicas: int = 16
    steps: int = 200_000
    share: float = 1.0
    marks: int = 100
    snapshots: int = 25
    target: str = "grid"
    side: int = 5
    spacing: float = 2.0
    components: int = 10
    dim: int = 2
    variance: float = 0.05
    uneven: float = 1.0
    schedule: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.target not in ("grid", "scatter"):
            raise ValueError(
                f"descent.target is 'grid' or 'scatter', got {self.target!r}."
            )
        least = {"replicas": 1, "steps": 1, "marks": 1, "snapshots": 0, "dim": 1}
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(
                    f"descent.{name} is {value} or more, got {getattr(self, name)}."
                )
        if not 0 < self.share <= 1:
            raise ValueError(
                f"descent.share is above 0 and at most 1, got {self.share}."
            )
        if not self.uneven >= 1:
            raise ValueError(f"descent.uneven is 1 or more, got {self.uneven}.")
        self.read_schedule()

    def read_schedule(self) -> Schedule:
        """The schedule as an object; raises ValueError if it is none."""
        given = dict(self.schedule)
        if given.pop("published", False):
            if given:
                raise ValueError(
                    "descent.schedule: the published schedule takes no other keys, got "
                    f"{sorted(given)}."
                )
            return Schedule.published()
        try:
            return Schedule(**given)
        except TypeError as error:
            raise ValueError(f"descent.schedule does not fit: {error}.") from error


def is_experiment(recipe: Recipe) -> bool:
    """Whether a recipe is one of these, and not the training of a network."""
    return recipe.model.kind in EXPERIMENTS


def run_experiment(recipe: Recipe, seed: int) -> Outcome:
    """Run the experiment of a recipe; the seed decides all of its noise."""
    return EXPERIMENTS[recipe.model.kind](recipe, seed)


# ------------------------------------------------------------------------ descent


def run_descent(recipe: Recipe, seed: int) -> Outcome:
    """Replicas of one descent: modes against steps, and the KL at the end."""
    part = recipe.descent
    target, generator = build_target(part), torch.Generator().manual_seed(seed)
    start = corner_start(
        part.replicas, target.n_components, part.dim, generator=generator
    )
    steps, modes, pictures = [], [], []
    length = max(1, round(part.steps * part.share))
    every = max(1, part.steps // part.marks)

    def watch(step: int, mixture: GaussianMixture) -> None:
        steps.append(step)
        modes.append(modes_found(mixture, target.means).tolist())
        pictures.append(_picture(step, mixture))

    end = descend(
        target,
        start,
        part.read_schedule(),
        length,
        generator,
        watch=watch,
        every=every,
    )
    last = modes[-1]
    metrics = {
        "steps": steps,
        "modes": modes,
        "kl": reverse_kl(end, target, generator=generator),
        "found": sum(last) / len(last),
        "complete": sum(m == target.n_components for m in last) / len(last),
    }
    return Outcome(end, _spread(pictures, part.snapshots), metrics)


def build_target(part: DescentPart) -> GaussianMixture:
    """The law that a descent is to find."""
    if part.target == "grid":
        made = grid_mixture(part.side, part.spacing, part.variance, part.dim)
    else:
        made = _scatter(part)
    powers = torch.linspace(0, 1, made.n_components)
    # the heavy ones are spread over the plane, not side by side
    order = torch.randperm(
        made.n_components, generator=torch.Generator().manual_seed(0)
    )
    weights = (part.uneven ** powers[order]).double()
    weights = (weights / weights.sum()).to(made.means)
    return GaussianMixture(weights, made.means, made.covariances)


def _scatter(part: DescentPart, tries: int = 10_000) -> GaussianMixture:
    """Means in the box [-4, 4]^D, no two of them closer than `spacing`."""
    generator, centres = torch.Generator().manual_seed(0), []
    for _ in range(tries):
        centre = 8 * torch.rand(part.dim, generator=generator) - 4
        if all((centre - other).norm() >= part.spacing for other in centres):
            centres.append(centre)
        if len(centres) == part.components:
            break
    else:
        raise ValueError(
            f"There is no room for {part.components} centres {part.spacing} apart; "
            "lower descent.components or descent.spacing."
        )
    K = part.components
    covariances = part.variance * torch.eye(part.dim).expand(K, part.dim, part.dim)
    return GaussianMixture(torch.full((K,), 1 / K), torch.stack(centres), covariances)


def _picture(step: int, mixture: GaussianMixture) -> dict[str, Any]:
    """The first replica, rounded to what a figure shows."""
    means, covariances = mixture.means[0], mixture.covariances[0]
    return {
        "step": step,
        "means": [[round(v, 3) for v in row] for row in means.tolist()],
        "covariances": [
            [[round(v, 4) for v in row] for row in each]
            for each in covariances.tolist()
        ],
    }


def _spread(items: list[Any], count: int) -> list[Any]:
    """About `count` of the items, first and last among them."""
    if count < 2:
        return items[-1:] * count
    places = torch.linspace(0, len(items) - 1, min(count, len(items))).round().int()
    return [items[i] for i in places.tolist()]


EXPERIMENTS: dict[str, Callable[[Recipe, int], Outcome]] = {"descent": run_descent}
