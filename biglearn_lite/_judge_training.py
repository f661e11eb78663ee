"""Judges are trained: `model.kind = "judge"`, on digits that are bent a little.

Nothing is chosen by test rows. `look` learns from all training rows. Each member of
`guess` leaves out a block of them, in file order, so that the block is by other hands
where the file goes from writer to writer; on the blocks the temperatures are fitted.
Test rows are only reported.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biglearn_lite._agreement import (
    agreement,
    bayes_accuracy,
    calibration_error,
    log_loss,
    perfect_agreement,
)
from biglearn_lite._draws import first_weights
from biglearn_lite._images import patchify
from biglearn_lite._judges import SHARES, Guess, Judges, JudgeSizes
from biglearn_lite._report import random_sources, spread_rows, unit_images
from biglearn_lite._scenes import acceptance, scores
from biglearn_lite.experiments import EXPERIMENTS, Outcome
from biglearn_lite.likelihood import random_order

if TYPE_CHECKING:
    from biglearn_lite._recipe_file import Recipe

Loss = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]


@dataclass(frozen=True)
class JudgePart:
    """Two judges of a dataset of images, see `Judges`.

    Attributes:
        patch, features, filters, members, dropout: see `JudgeSizes`.
        steps: of `look`.
        guess_steps: of each member of `guess`.
        batch: rows in a step.
        rate: of AdamW, after a rise of a hundred steps, down a cosine to 1 %.
        decay: weight decay.
        average: decay of the moving average of the weights, which is what is kept.
        warp: how much `look` sees images bent: 1 turns them by 7 degrees and changes
            size and slant by 8 %, in standard deviations, and moves them by a tenth
            of their sides at most.
        guess_warp: the same for `guess`.
        noise: deviation of noise on each pixel.
        held_out: share of the training rows that a member of `guess` leaves out: the
            last ones, the ones before those, and so on.
        repeats: sources of each size for every row that is measured or fitted on.
        rows: training rows at most, 0: all.
        test: test rows at most that `guess` is measured on.
        log: steps between two entries of the history.
    """

    patch: int = 2
    features: int = 24
    filters: int = 32
    members: int = 1
    dropout: float = 0.3
    steps: int = 1500
    guess_steps: int = 1500
    batch: int = 128
    rate: float = 3e-3
    decay: float = 0.1
    average: float = 0.995
    warp: float = 1.0
    guess_warp: float = 0.5
    noise: float = 0.03
    held_out: float = 0.1
    repeats: int = 8
    rows: int = 0
    test: int = 4000
    log: int = 100

    def __post_init__(self) -> None:
        least = ("members", "steps", "guess_steps", "batch", "repeats", "test", "log")
        for name in least:
            if getattr(self, name) < 1:
                raise ValueError(
                    f"judge.{name} is 1 or more, got {getattr(self, name)}."
                )
        for name in ("held_out", "dropout", "average"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(
                    f"judge.{name} is at least 0 and below 1, got "
                    f"{getattr(self, name)}."
                )
        for name in ("warp", "guess_warp", "noise", "rows", "decay"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"judge.{name} is 0 or more, got {getattr(self, name)}."
                )
        if not 0 < self.held_out * self.members <= 1:
            raise ValueError(
                "judge.held_out is a share above 0, and that of all members together "
                f"is at most 1, got {self.held_out} for {self.members} members."
            )

    def sizes(self, images: Tensor, classes: int) -> JudgeSizes:
        """Sizes of the judges for images (N, C, H, W)."""
        own = ("patch", "features", "filters", "members", "dropout")
        return JudgeSizes(
            *images.shape[1:], classes=classes, **{k: getattr(self, k) for k in own}
        )


def run_judge(recipe: Recipe, seed: int) -> Outcome:
    """Train both judges, fit the temperatures, measure on test rows."""
    part, generator = recipe.judge, torch.Generator().manual_seed(seed)
    x, y = unit_images(recipe.data.name, "train")
    x, y = x[: part.rows or None], y[: part.rows or None]
    blocks = left_out(len(x), part.held_out, part.members)
    history: list[dict[str, Any]] = []
    with first_weights(seed):  # and dropout, which has no generator of its own
        judges = Judges(part.sizes(x, int(y.max()) + 1))
        judges.look, said = _fit(
            judges.look, x, y, part, part.steps, part.warp, _whole_loss, generator
        )
        history += [{"network": "look"} | each for each in said]
        for place, member in enumerate(judges.guess.members):
            judges.guess.members[place], said = _fit(
                member,
                x[~blocks[place]],
                y[~blocks[place]],
                part,
                part.guess_steps,
                part.guess_warp,
                _part_loss(judges.guess),
                generator,
            )
            history += [{"network": f"guess {place}"} | each for each in said]
    judges = judges.half().float().eval()  # what is measured is what is recorded
    fit_temperature(judges.guess, x, y, blocks, part.repeats, generator)
    judges = judges.half().float()
    return Outcome(judges, history, _measured(judges, recipe, x, y, blocks))


def left_out(rows: int, share: float, members: int) -> Tensor:
    """The rows that each member does not learn from: (members, rows) boolean."""
    size = max(1, round(share * rows))
    place = torch.arange(rows - 1, -1, -1) // size  # blocks, the last rows first
    return place == torch.arange(members)[:, None]


# ----------------------------------------------------------------------- training


def _fit(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    part: JudgePart,
    steps: int,
    strength: float,
    loss: Loss,
    generator: torch.Generator,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """The averaged network, and its loss in the mean of each `log` steps."""
    optimiser = torch.optim.AdamW(
        network.parameters(), part.rate, betas=(0.9, 0.98), weight_decay=part.decay
    )
    kept, history, total = copy.deepcopy(network).requires_grad_(False), [], 0.0
    network.train()
    for step in range(steps):
        fall = 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01
        optimiser.param_groups[0]["lr"] = part.rate * fall * min(1, (step + 1) / 100)
        rows = torch.randint(len(x), (part.batch,), generator=generator)
        seen = bend(x[rows], strength, part.noise, generator)
        value = loss(network, seen, y[rows], generator)
        optimiser.zero_grad()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        decay = min(part.average, (1 + step) / (10 + step))
        for slow, fast in zip(kept.parameters(), network.parameters(), strict=True):
            slow.lerp_(fast.detach(), 1 - decay)
        total += value.item()
        if (step + 1) % part.log == 0:
            history.append({"step": step + 1, "loss": total / part.log})
            total = 0.0
    return kept.eval(), history


def _whole_loss(
    network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
) -> Tensor:
    return F.cross_entropy(network(images), labels)


def _part_loss(guess: Guess) -> Loss:
    """The loss of images of which a random source is seen, of any size alike."""
    patch, length = guess.config.patch, guess.config.length

    def loss(
        network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        size = torch.randint(length + 1, (len(images), 1), generator=generator)
        source = random_order(len(images), length, generator) < size  # none is allowed
        seen = guess.show(patchify(images, patch), source)
        return F.cross_entropy(network(seen), labels)

    return loss


def bend(
    images: Tensor, strength: float, noise: float, generator: torch.Generator
) -> Tensor:
    """Images turned, scaled, slanted, moved, with a little noise: as other hands write.

    Args:
        images: (B, C, H, W) in [0, 1].
        strength: see `JudgePart.warp`; 0 leaves them where they are.
        noise: deviation on each pixel.
        generator: of all of it.

    Returns:
        The same shape, in [0, 1].
    """
    batch = len(images)
    turn, slant, wide, tall = strength * torch.randn(4, batch, generator=generator)
    turn, slant = 0.12 * turn, 0.08 * slant
    wide, tall = 1 + 0.08 * wide, 1 + 0.08 * tall
    move = strength * 0.2 * (2 * torch.rand(batch, 2, generator=generator) - 1)
    cosine, sine = turn.cos(), turn.sin()
    first = torch.stack([cosine * wide, slant - sine * tall, move[:, 0]], -1)
    second = torch.stack([sine * wide, cosine * tall, move[:, 1]], -1)
    places = torch.stack([first, second], 1)  # (B, 2, 3)
    grid = F.affine_grid(places, list(images.shape), align_corners=False)
    bent = F.grid_sample(images, grid, align_corners=False)
    return (bent + noise * torch.randn(bent.shape, generator=generator)).clamp(0, 1)


# --------------------------------------------------------------------- temperature


def fit_temperature(
    guess: Guess,
    images: Tensor,
    labels: Tensor,
    blocks: Tensor,
    repeats: int,
    generator: torch.Generator,
) -> None:
    """Put temperatures into `guess` that give left-out rows the least log loss.

    Each member is asked about the rows that it has not learned from. All of them
    together know a little more than one, so this errs on the side of caution.

    Args:
        guess: whose networks are trained.
        images: (N, C, H, W) in [0, 1] of the training set.
        labels: (N,).
        blocks: (members, N) boolean, see `left_out`.
        repeats: random sources of every size for each row.
        generator: of the sources.
    """
    length, found = guess.config.length, []
    with torch.no_grad():
        for member, rows in enumerate(blocks):
            tokens = patchify(images[rows], guess.config.patch)
            for size in [*range(length + 1)] * repeats:
                source = random_order(len(tokens), length, generator) < size
                said = guess.scores(tokens, source, [member])
                found.append((said, source, labels[rows]))
    scores, sources, truth = map(torch.cat, zip(*found, strict=True))
    guess.log_temperature.requires_grad_(True)
    search = torch.optim.LBFGS([guess.log_temperature], max_iter=50)

    def loss() -> Tensor:
        search.zero_grad()
        value = F.nll_loss(guess.scaled(scores, sources), truth)
        value.backward()
        return value

    search.step(loss)
    guess.log_temperature.requires_grad_(False)
    guess.log_temperature.grad = None


# ----------------------------------------------------------------------- measuring


def _measured(
    judges: Judges, recipe: Recipe, x: Tensor, y: Tensor, blocks: Tensor
) -> dict[str, Any]:
    """Of `look` on all test rows; of `guess` for each size of the source."""
    part, guess = recipe.judge, judges.guess
    test, truth = unit_images(recipe.data.name, "test")
    few = spread_rows(len(test), part.test)
    asked = [(None, test[few], truth[few])]
    left = [([k], x[rows], y[rows]) for k, rows in enumerate(blocks)]
    return {
        "rows": len(test),
        "accuracy": agreement(truth, scores(test, judges.look).argmax(1)),
        "accepted": acceptance(test, judges.look),
        "share": list(SHARES),
        "guess": calibration(guess, asked, part.repeats),
        "guess, left out": calibration(guess, left, part.repeats),
        "temperature": guess.log_temperature.exp().tolist(),
    }


def calibration(
    guess: Guess,
    asked: Sequence[tuple[Sequence[int] | None, Tensor, Tensor]],
    repeats: int,
) -> dict[str, list[float]]:
    """Log loss, calibration error, accuracies and agreement at each of the `SHARES`.

    Args:
        guess: the judge.
        asked: (members that answer or None for all, images, labels).
        repeats: random sources of each size for every row.
    """
    found: dict[str, list[float]] = {name: [] for name in CALIBRATION}
    generator = torch.Generator().manual_seed(1234)
    truth = torch.cat([labels.repeat(repeats) for _, _, labels in asked])
    for share in SHARES:
        said = []
        for members, images, _ in asked:
            tokens = patchify(images.repeat(repeats, 1, 1, 1), guess.config.patch)
            source = random_sources(*tokens.shape[:2], share, generator)
            parts = zip(tokens.split(500), source.split(500), strict=True)
            said += [guess.log_prob(*each, members) for each in parts]
        for name, measure in CALIBRATION.items():
            found[name].append(measure(torch.cat(said), truth))
    return found


CALIBRATION: dict[str, Callable[[Tensor, Tensor], float]] = {
    "log loss": log_loss,
    "calibration error": calibration_error,
    "accuracy": lambda p, y: agreement(y, p.argmax(1)),
    "bayes accuracy": lambda p, y: bayes_accuracy(p),
    "perfect agreement": lambda p, y: perfect_agreement(p),
}

EXPERIMENTS["judge"] = run_judge
