"""Judges are trained: `model.kind = "judge"`, on digits that are bent a little, or on
faces that are mirrored.

Nothing is chosen by test rows. `look` learns from all training rows. Each member of
`guess` leaves out a block of them, in file order, so that the block is by other hands
where the file goes from writer to writer; on the blocks the temperatures are fitted.
Test rows are only reported.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biglearn_lite._draws import first_weights
from biglearn_lite._images import mirror_half, patchify
from biglearn_lite._judge_measures import Rows, measured
from biglearn_lite._judges import Guess, Judges, JudgeSizes, start_large
from biglearn_lite._readings import columns
from biglearn_lite._report import labelled_images, spread_rows
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
        flip: whether half of the images are mirrored: faces are, handwriting is not.
        noise: deviation of noise on each pixel.
        held_out: share of the training rows that a member of `guess` leaves out: the
            last ones, the ones before those, and so on.
        repeats: sources of each size for every row that is measured or fitted on.
        rows: training rows at most, 0: all.
        test: test rows at most that `guess` is measured on.
        log: steps between two entries of the history.
        start: first weights: `"small"`, as PyTorch makes them, or `"large"`, see
            `start_large`, from which faces are learned in less than half of the steps.
        attributes: of data with attributes, those that are read; none: all.
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
    flip: bool = False
    noise: float = 0.03
    held_out: float = 0.1
    repeats: int = 8
    rows: int = 0
    test: int = 4000
    log: int = 100
    start: str = "small"
    attributes: tuple[str, ...] = ()

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
        if self.start not in ("small", "large"):
            raise ValueError(f"judge.start is 'small' or 'large', got {self.start!r}.")
        if not 0 < self.held_out * self.members <= 1:
            raise ValueError(
                "judge.held_out is a share above 0, and that of all members together "
                f"is at most 1, got {self.held_out} for {self.members} members."
            )

    def sizes(
        self, images: Tensor, labels: Tensor, names: tuple[str, ...] = ()
    ) -> JudgeSizes:
        """Sizes of judges of images (N, C, H, W) with labels or named attributes."""
        own = ("patch", "features", "filters", "members", "dropout")
        its = {name: getattr(self, name) for name in own}
        classes = 2 if names else int(labels.max()) + 1
        return JudgeSizes(*images.shape[1:], classes=classes, attributes=names, **its)


def run_judge(recipe: Recipe, seed: int) -> Outcome:
    """Train both judges, fit the temperatures, measure on test rows."""
    part, generator = recipe.judge, torch.Generator().manual_seed(seed)
    x, y, names = wanted_data(recipe, "train")
    x, y = x[: part.rows or None], y[: part.rows or None]
    blocks = left_out(len(x), part.held_out, part.members)
    history: list[dict[str, Any]] = []
    with first_weights(seed):  # and dropout, which has no generator of its own
        judges = Judges(part.sizes(x, y, names))
        for network in (judges.look, *judges.guess.members):
            if part.start == "large":
                start_large(network)
        judges.look, said = _fit(
            judges.look, x, y, part, part.steps, part.warp, _whole_loss, generator
        )
        history += [{"network": "look"} | each for each in said]
        for place, member in enumerate(judges.guess.members):
            judges.guess.members[place], said = _fit(
                member,
                x,
                y,
                part,
                part.guess_steps,
                part.guess_warp,
                _part_loss(judges.guess),
                generator,
                (~blocks[place]).nonzero()[:, 0],
            )
            history += [{"network": f"guess {place}"} | each for each in said]
    judges = judges.half().float().eval()  # what is measured is what is recorded
    fit_temperature(judges.guess, x, y, blocks, part.repeats, generator)
    judges = judges.half().float()
    test, truth, _ = wanted_data(recipe, "test")
    few = spread_rows(len(test), part.test)
    asked: dict[str, list[Rows]] = {
        "guess": [(None, test[few], truth[few])],
        "guess, left out": [([k], x[each], y[each]) for k, each in enumerate(blocks)],
    }
    metrics = measured(judges, (test, truth), y, asked, part.repeats)
    return Outcome(judges, history, metrics)


def wanted_data(recipe: Recipe, split: str) -> tuple[Tensor, Tensor, tuple[str, ...]]:
    """Images, their labels or the attributes that the recipe wants, and their names."""
    images, labels, names = labelled_images(recipe.data.name, split)
    wanted = recipe.judge.attributes
    if not names and not wanted:
        return images, labels, ()
    return images, labels[:, columns(names, wanted)], wanted or names


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
    rows: Tensor | None = None,
) -> tuple[nn.Module, list[dict[str, float]]]:
    """The averaged network, and its loss in the mean of each `log` steps.

    It learns from `rows` of `x` and `y`; None: from all.
    """
    rows = torch.arange(len(x)) if rows is None else rows
    optimiser = torch.optim.AdamW(
        network.parameters(), part.rate, betas=(0.9, 0.98), weight_decay=part.decay
    )
    kept, history, total = copy.deepcopy(network).requires_grad_(False), [], 0.0
    network.train()
    for step in range(steps):
        fall = 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01
        optimiser.param_groups[0]["lr"] = part.rate * fall * min(1, (step + 1) / 100)
        some = rows[torch.randint(len(rows), (part.batch,), generator=generator)]
        seen = bend(x[some], strength, part.noise, generator, part.flip)
        value = loss(network, seen, y[some], generator)
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
    return reading_loss(network(images), labels)


def reading_loss(scores: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of labels (B,), or the mean binary one of attributes (B, K)."""
    if labels.ndim == 2:
        return F.binary_cross_entropy_with_logits(scores, labels.float())
    return F.cross_entropy(scores, labels)


def _part_loss(guess: Guess) -> Loss:
    """The loss of images of which a random source is seen, of any size alike."""
    patch, length = guess.config.patch, guess.config.length

    def loss(
        network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        size = torch.randint(length + 1, (len(images), 1), generator=generator)
        source = random_order(len(images), length, generator) < size  # none is allowed
        seen = guess.show(patchify(images, patch), source)
        return reading_loss(network(seen), labels)

    return loss


def bend(
    images: Tensor,
    strength: float,
    noise: float,
    generator: torch.Generator,
    flip: bool = False,
) -> Tensor:
    """Images turned, scaled, slanted, moved, with a little noise: as other hands write.

    Args:
        images: (B, C, H, W) in [0, 1].
        strength: see `JudgePart.warp`; 0 leaves them where they are.
        noise: deviation on each pixel.
        generator: of all of it.
        flip: mirror half of them, left to right.

    Returns:
        The same shape, in [0, 1].
    """
    if flip:
        images = mirror_half(images, generator)
    bent = _warp(images, strength, generator) if strength else images
    return (bent + noise * torch.randn(bent.shape, generator=generator)).clamp(0, 1)


def _warp(images: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """A random affine map of each image."""
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
    return F.grid_sample(images, grid, align_corners=False)


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
        labels: (N,), or attributes (N, K).
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
    truth = truth.flatten().long()
    guess.log_temperature.requires_grad_(True)
    search = torch.optim.LBFGS(
        [guess.log_temperature], max_iter=50, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        search.zero_grad()
        value = F.nll_loss(guess.scaled(scores, sources).flatten(0, -2), truth)
        value.backward()
        return value

    search.step(loss)
    guess.log_temperature.requires_grad_(False)
    guess.log_temperature.grad = None


EXPERIMENTS["judge"] = run_judge
