"""Eight clouds on a ring: `model.kind = "clouds"`, a game whose truth is known.

The two coordinates of a point are two tokens. One generator and one judge play for the
tasks that a recipe asks for, and every answer is compared with the data in cells whose
probability is known. Nothing is chosen by what is measured here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from biglearn_lite._draws import first_weights
from biglearn_lite.experiments import EXPERIMENTS, Outcome
from biglearn_lite.gan import Adversarial, BigLearnGAN, GANSizes
from biglearn_lite.mixtures import GaussianMixture
from biglearn_lite.tasks import Task, TaskSampler
from biglearn_lite.training import Batches, Settings, fit

if TYPE_CHECKING:
    from biglearn_lite._recipe_file import Recipe

CLOUDS, RADIUS, VARIANCE = 8, 1.5, 0.03
CORE, MOST = 0.5, 0.99  # of a cloud's mass, inside two circles around its centre
SLICES = 20  # of a single coordinate
TRAIN, TEST, NOISE = 1, 2, 3  # seeds of the data and of what is measured
LOOK = 1000  # rows of a look during training
FACTS = ("step", "lead", "slope on real", "slope on fake", "communication")

Watch = Callable[[int, BigLearnGAN], dict[str, Any]]


@dataclass(frozen=True)
class CloudsPart:
    """A game about the ring of clouds.

    Attributes:
        joint: share of joint tasks.
        marginal: share of marginal tasks; what is left are conditional ones.
        steps: updates of each player.
        batch: rows in a step.
        rate: of both players' optimisers.
        width: of both networks.
        strength, pairing, penalised, communication: see `Adversarial`.
        log: steps between two looks.
    """

    joint: float = 0.4
    marginal: float = 0.2
    steps: int = 200
    batch: int = 128
    rate: float = 5e-3
    width: int = 32
    strength: float = 0.03
    pairing: str = "relativistic"
    penalised: str = "target"
    communication: float = 0.0
    log: int = 10

    def __post_init__(self) -> None:
        self.sizes(), self.sampler(), self.settings(), self.game()  # each checks

    def sizes(self) -> GANSizes:
        """Of the generator; coordinates are any numbers."""
        return GANSizes(2, 1, width=self.width, depth=2, bounded=False)

    def sampler(self) -> TaskSampler:
        """`q(S, T)` of two tokens."""
        return TaskSampler(2, joint=self.joint, marginal=self.marginal)

    def settings(self) -> Settings:
        """Of the training loop."""
        own = {name: getattr(self, name) for name in ("steps", "batch", "rate", "log")}
        return Settings(**own, average=0.99, clip=10.0)

    def game(self) -> Adversarial:
        """What the players make small."""
        names = ("strength", "pairing", "penalised", "communication")
        return Adversarial(**{name: getattr(self, name) for name in names})


# ------------------------------------------------------------------------- the data


@cache
def ring() -> GaussianMixture:
    """The law of the data: eight equal Gaussians, 6.6 deviations from one another."""
    angle = torch.arange(CLOUDS) * (2 * math.pi / CLOUDS)
    means = RADIUS * torch.stack([angle.cos(), angle.sin()], 1)
    covariances = VARIANCE * torch.eye(2).expand(CLOUDS, 2, 2)
    return GaussianMixture(torch.full((CLOUDS,), 1 / CLOUDS), means, covariances)


def points(rows: int, seed: int = TEST) -> Tensor:
    """Samples of the ring as tokens (rows, 2, 1)."""
    return ring().sample(rows, torch.Generator().manual_seed(seed))[..., None]


# ------------------------------------------------------------------------ measuring


def cell_law() -> Tensor:
    """Probabilities of the cells of `tally`: (24,).

    Clouds are alike, so an eighth belongs to each. Of a Gaussian in the plane the mass
    within `r` deviations is `1 - exp(-r^2 / 2)`. What the clouds lose into the circles
    of their neighbours is less than a thousandth of their mass.
    """
    parts = torch.tensor([CORE, MOST - CORE, 1 - MOST])
    return parts.repeat(CLOUDS) / CLOUDS


def tally(x: Tensor) -> Tensor:
    """Counts of points (B, 2, 1) in cells: nearest cloud x (core, rest, outside)."""
    near, cloud = torch.cdist(x.squeeze(-1), ring().means).min(1)
    far = near.square() / (2 * VARIANCE)
    part = (far > -math.log(1 - CORE)).long() + (far > -math.log(1 - MOST))
    return torch.bincount(3 * cloud + part, minlength=3 * CLOUDS)


@cache
def slice_edges() -> Tensor:
    """Where to cut one coordinate into slices of equal probability: (19,)."""
    x = torch.linspace(-3, 3, 6001, dtype=torch.float64)
    centres = ring().means[:, 0].double()
    below = torch.special.ndtr((x[:, None] - centres) / VARIANCE**0.5).mean(1)
    levels = np.arange(1, SLICES) / SLICES
    return torch.from_numpy(np.interp(levels, below, x)).float()


def slices(values: Tensor) -> Tensor:
    """Counts of single coordinates (B,) in slices of equal probability."""
    return torch.bincount(
        torch.bucketize(values.contiguous(), slice_edges()), minlength=SLICES
    )


def js(counts: Tensor, law: Tensor | float) -> float:
    """Jensen-Shannon divergence of counts and a law, in nats: from 0 to log 2."""
    p = counts.double() / counts.sum()
    q = torch.as_tensor(law, dtype=p.dtype).expand_as(p)
    m = (p + q) / 2
    return float((torch.xlogy(p, p / m) + torch.xlogy(q, q / m)).sum()) / 2


def measure(model: Any, rows: int = 4000) -> dict[str, Any]:
    """How far four kinds of answers are from the truth.

    Args:
        model: anything that samples two tokens.
        rows: answers of each kind; sources are new points of the ring.

    Returns:
        `modes`: clouds on which a quarter of their fair share of joint samples falls.
        `outside`: share of joint samples that is on no cloud. Divergences of the joint
        samples (`joint`), of their single coordinates (`dropped`), of the answers to
        marginal tasks (`marginal`), and of real sources with conditional answers
        (`conditional`); the last three are means over both coordinates.
    """
    generator, x = torch.Generator().manual_seed(NOISE), points(rows)
    drawn = model.sample(x, Task.joint(rows, 2), generator)
    cells = tally(drawn)
    on = cells.view(CLOUDS, 3)[:, :2].sum(1) / rows
    found: dict[str, list[float]] = {"dropped": [], "marginal": [], "conditional": []}
    for token in range(2):
        only = (torch.arange(2) == token).expand(rows, 2)
        alone = model.sample(x, Task.marginal(only), generator)
        completed = model.sample(x, Task.conditional(~only), generator)
        found["dropped"].append(js(slices(drawn[:, token, 0]), 1 / SLICES))
        found["marginal"].append(js(slices(alone[:, token, 0]), 1 / SLICES))
        found["conditional"].append(js(tally(completed), cell_law()))
    return {
        "modes": int((on > 0.25 / CLOUDS).sum()),
        "outside": 1 - float(on.sum()),
        "joint": js(cells, cell_law()),
        **{kind: sum(values) / len(values) for kind, values in found.items()},
    }


# -------------------------------------------------------------------------- playing


def play(
    part: CloudsPart, seed: int = 0, watch: Watch | None = None
) -> tuple[BigLearnGAN, list[dict[str, Any]]]:
    """Train a generator against a judge.

    Args:
        part: the game.
        seed: of weights, batches, tasks and noise; the data are always the same.
        watch: (step, model) -> what to add to the history every `part.log` steps;
            None: what `measure` finds.

    Returns:
        The moving average of the generator, and the history.
    """
    with first_weights(seed):
        model = BigLearnGAN(part.sizes())
    model, history, _ = fit(
        model,
        Batches(points(20_000, TRAIN)),
        part.sampler(),
        part.settings(),
        seed=seed,
        loss=part.game(),
        watch=watch or (lambda step, model: measure(model, LOOK)),
    )
    return model, history


def run_clouds(recipe: Recipe, seed: int) -> Outcome:
    """One game: its looks over time, and what is measured at the end."""
    model, history = play(recipe.clouds, seed)
    model = model.half().float()  # what is measured is what is recorded
    metrics = measure(model)
    seen = ("step", *metrics)  # a study keeps the history of one seed only
    metrics["looks"] = {name: [entry[name] for entry in history] for name in seen}
    kept = (*FACTS, *seen[1:])
    return Outcome(model, [{k: e[k] for k in kept} for e in history], metrics)


EXPERIMENTS["clouds"] = run_clouds
