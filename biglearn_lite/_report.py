"""One report on any universal model of images: joint, completions, marginals.

The tasks are the same for all models: their sources are drawn with a seed of their own.
What a model reads is NaN wherever it is not given, so nothing can leak.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn

from biglearn_lite._distances import (
    ROWS_A_FEATURE,
    Comparison,
    Manifolds,
    Projection,
    compare,
    marginal_distance,
    precision_recall_density_coverage,
)
from biglearn_lite._images import patchify, unpatchify
from biglearn_lite._judges import Judges
from biglearn_lite._readings import agreement_facts, joint_facts, read
from biglearn_lite._scenes import (
    diversity,
    in_parts,
    seam_strength,
    show_tokens,
    values_at,
)
from biglearn_lite._task_checks import probability
from biglearn_lite.data import load
from biglearn_lite.likelihood import random_order
from biglearn_lite.sources import dataset_entry
from biglearn_lite.tasks import Task

__all__ = [
    "check_length",
    "image_report",
    "random_sources",
    "spread_rows",
    "unit_images",
]

SEED = 1234  # of sources and floors, so that all models are asked the same
SHARES = (0.1, 0.3, 0.5, 0.75)  # |S| / L of the completions
EDGES = (0.0, 0.9)  # where diversity is looked at too
TRAIN = 10_240  # training rows at most that projections and floors see


class LabelledImages(NamedTuple):
    """Images (N, C, H, W) in [0, 1]; labels (N,), or named attributes (N, K)."""

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]


def unit_images(name: str, split: str = "train") -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) in [0, 1], `grey / (levels - 1)`, and labels (N,).

    Of faces, in place of labels, their attributes (N, K) bool.
    """
    return labelled_images(name, split)[:2]


def labelled_images(name: str, split: str = "train") -> LabelledImages:
    """As `unit_images`, with the names of the attributes; labels have none."""
    data = load(name, split)
    if not hasattr(data, "images"):
        raise ValueError(f"The data {name!r} are no images; take a set of images.")
    # in place: of photographs a second copy is half a gigabyte
    images = data.images.float().div_(dataset_entry(name).levels - 1)
    return LabelledImages(images, data[1], getattr(data, "names", ()))


def random_sources(
    rows: int, length: int, share: float, generator: Generator
) -> Tensor:
    """Random sources of one size, `|S| = round(share L)`: (rows, L) boolean."""
    count = round(probability("share", share) * length)
    return random_order(rows, length, generator) < count


@dataclass
class Asked:
    """A model and what is needed to ask it for images."""

    model: Any
    judges: Judges
    tokens: Callable[[Tensor], Tensor]
    restore: Callable[[Tensor], Tensor]
    generator: Generator | None
    chunk: int

    @classmethod
    def of(
        cls,
        model: Any,
        judges: Judges,
        tokens: Callable[[Tensor], Tensor] | None,
        restore: Callable[[Tensor], Tensor] | None,
        generator: Generator | None,
        chunk: int,
    ) -> Asked:
        """With patches for tokens if there are no others, and all in evaluation."""
        patch, shape = judges.config.patch, judges.config.shape
        if isinstance(model, nn.Module):
            model.eval()
        return cls(
            model,
            judges.eval(),
            tokens or (lambda images: patchify(images, patch)),
            restore or (lambda drawn: unpatchify(drawn, patch, shape)),
            generator,
            chunk,
        )

    def ask(self, images: Tensor, task: Task) -> Tensor:
        """Images in [0, 1] for tasks about real images; absent pixels mean nothing."""
        return self.ask_tokens(self.tokens(images), task)

    def ask_tokens(self, given: Tensor, task: Task) -> Tensor:
        """The same for tasks about tokens (B, L, P)."""
        drawn = self.draw(given, task)
        drawn = torch.where(task.absent[..., None], 0.0, drawn)
        return self.restore(drawn).clamp(0, 1)

    def draw(self, given: Tensor, task: Task) -> Tensor:
        """Tokens from tokens, of which the model sees the source alone."""
        hidden = torch.where(task.source[..., None], given, torch.nan)
        home = device_of(self.model)
        made = []
        with torch.no_grad():
            for first in range(0, len(given), self.chunk):
                rows = slice(first, first + self.chunk)
                x, its = hidden[rows].to(home), task[rows].to(home)
                made.append(self.model.sample(x, its, self.generator).cpu())
        return torch.cat(made)

    def joint(self, samples: int, shape: Sequence[int]) -> Tensor:
        """Samples of everything, from nothing: (samples, C, H, W)."""
        blank = torch.zeros(samples, *shape)
        return self.ask(blank, Task.joint(samples, self.model.length))

    def complete(self, images: Tensor, source: Tensor) -> Tensor:
        """Completions with the real source pasted in."""
        drawn = self.ask(images, Task.conditional(source))
        seen = show_tokens(source, self.judges.config.patch, images.shape)
        return torch.where(seen, images, drawn)


def device_of(model: Any) -> torch.device:
    """Where a model's weights are; the CPU if it has none."""
    weights = model.parameters() if hasattr(model, "parameters") else ()
    return next(iter(weights), torch.empty(0)).device


def image_report(
    model: Any,
    judges: Judges,
    train: Tensor,
    test: Tensor,
    labels: Tensor,
    generator: Generator | None = None,
    *,
    tokens: Callable[[Tensor], Tensor] | None = None,
    restore: Callable[[Tensor], Tensor] | None = None,
    shares: Sequence[float] = SHARES,
    samples: int = 5120,
    completions: int = 4,
    rows: int = 2560,
    draws: int = 20,
    chunk: int = 512,
) -> dict[str, Any]:
    """Ask a universal model for images of all kinds, and measure them.

    Args:
        model: has `.length` and `.sample(x, task, generator)`; a module is put into
            evaluation mode. Its tokens must be at the judges' patches.
        judges: of the same data.
        train: (M, C, H, W) real images in [0, 1], for projections and floors.
        test: (N, C, H, W) real images in [0, 1].
        labels: (N,) of the test images; (N, K), their attributes as the judges name
            them, if the judges read attributes.
        generator: of the model's noise; tasks have a seed of their own.
        tokens: images -> tokens of the model; None: `patchify`.
        restore: tokens -> images; None: `unpatchify`.
        shares: `|S| / L` of the completions.
        samples: joint samples; class shares ask for at least 5,000.
        completions: `K` of each context.
        rows: test rows at most, spread over all of them.
        draws: of each floor, and joint distances at most.
        chunk: rows that the model is asked for at a time.

    Returns:
        Plain numbers, by `"joint"`, `"completions"` (by share), `"diversity"` (by
        share, with those at the ends) and `"marginals"`. A Frechet distance of
        completions may lie below the floor, since they share `x_S` with the test rows.
        Where judges read attributes, agreement is a mean over all of them; each by
        name stands beside, and what the source leaves in doubt (`"uncertain"`, a
        perfect agreement below 0.95). In place of shares of classes there are shares of
        attributes, beside those that the judge reads in test rows. "accepted" is then a
        share of readings, see `acceptance`.

    Raises:
        ValueError: if the model's tokens are not at the judges' patches, the labels
            are not of their kind, or what the model gives is not finite.
    """
    check_length(model.length, judges)
    check_labels(labels, judges)
    asked = Asked.of(model, judges, tokens, restore, generator, chunk)
    kept = spread_rows(len(test), rows)
    train, test, labels = (
        train[spread_rows(len(train), TRAIN)],
        test[kept],
        labels[kept],
    )
    space = Features(judges, train, test, draws)
    report = {"rows": len(test), "joint": _joint(asked, space, test, samples)}
    report |= _completions(asked, space, test, labels, shares, completions)
    report["marginals"] = _marginals(asked, train, test, samples, draws)
    return report


def check_length(length: int, judges: Judges) -> None:
    """Raise a ValueError if a model's tokens cannot be at the judges' patches."""
    sizes = judges.config
    if length != sizes.length:
        raise ValueError(
            f"The model has {length} tokens and its judges {sizes.length} patches of "
            f"{sizes.patch} x {sizes.patch}; use judges of this patch."
        )


def check_labels(labels: Tensor, judges: Judges) -> None:
    """Raise a ValueError if labels are not of the kind that the judges read."""
    names = judges.config.attributes
    if labels.shape[1:] != ((len(names),) if names else ()):
        wanted = f"(N, {len(names)}), a column for each attribute" if names else "(N,)"
        raise ValueError(
            f"These judges read labels {wanted}, got {tuple(labels.shape)}; take the "
            "judges of this dataset."
        )


def spread_rows(many: int, most: int) -> Tensor:
    """Numbers of `most` of `many` rows, spread over all of them."""
    return torch.linspace(0, many - 1, min(many, most)).round().long()


class Features:
    """The judge's features of real rows, projected so that rows suffice."""

    def __init__(self, judges: Judges, train: Tensor, test: Tensor, draws: int) -> None:
        self.network, self.draws = judges.look.features, draws
        features = in_parts(self.network, train)
        most = max(1, len(test) // ROWS_A_FEATURE)
        self.project = Projection(features, most)
        self.train, self.test = self.project(features), self(test)

    def __call__(self, images: Tensor) -> Tensor:
        return self.project(in_parts(self.network, images))

    def real(self) -> Manifolds:
        """What as many training rows reach."""
        rows = spread_rows(len(self.train), len(self.test))
        return precision_recall_density_coverage(self.test, self.train[rows])

    def compare(self, images: Tensor) -> Comparison:
        fixed = Generator().manual_seed(SEED)
        return compare(self.train, self.test, self(images), fixed, self.draws)


# -------------------------------------------------------------------------- the parts


def _joint(asked: Asked, space: Features, test: Tensor, samples: int) -> dict[str, Any]:
    """Samples of everything, from nothing."""
    made = asked.joint(max(samples, len(test)), test.shape[1:])
    first = space(made[: len(test)])
    return {
        "samples": len(made),
        **joint_facts(made, test, asked.judges),
        **written(space.compare(made)),
        **precision_recall_density_coverage(space.test, first)._asdict(),
        **{f"{name}, real": value for name, value in space.real()._asdict().items()},
    }


def written(found: Comparison) -> dict[str, float]:
    """A comparison in the words of a record."""
    return found._asdict() | {"ratio": found.ratio}


def _completions(
    asked: Asked,
    space: Features,
    test: Tensor,
    labels: Tensor,
    shares: Sequence[float],
    completions: int,
) -> dict[str, Any]:
    """Completions of each test row at every share; at the edges how they differ."""
    patch, differ, found = asked.judges.config.patch, {}, {}
    for share in sorted({*shares, *EDGES}):
        # a seed for each share, so that other shares change nothing
        fixed = Generator().manual_seed(SEED + round(1000 * share))
        source = random_sources(len(test), asked.model.length, share, fixed)
        if share not in shares and source.all(1).any():
            continue  # of few tokens, 0.9 may be all
        if source.all(1).any():
            raise ValueError(
                f"A share of {share} leaves nothing to complete of {source.shape[1]} "
                "tokens; ask for a smaller one."
            )
        made = torch.stack([asked.complete(test, source) for _ in range(completions)])
        cut = torch.stack([patchify(each, patch) for each in made])
        differ[str(share)] = diversity(cut, ~source).mean().item()
        if share in shares:
            found[str(share)] = _agree(asked, made, test, labels, source)
            found[str(share)] |= _far(space, made, test, source, patch)
    return {"completions": found, "diversity": differ}


def _agree(
    asked: Asked,
    made: Tensor,
    test: Tensor,
    labels: Tensor,
    source: Tensor,
) -> dict[str, Any]:
    """What completions (K, B, C, H, W) show, against what they may show."""
    judges = asked.judges
    shown = torch.stack([read(each, judges) for each in made])
    law = guessed(judges, test, source)
    return agreement_facts(labels, shown, law, judges.config.attributes)


def guessed(judges: Judges, images: Tensor, source: Tensor) -> Tensor:
    """`log p(y | x_S)` by `guess`: (B, classes) or (B, A, 2) float64 on the CPU."""
    home = device_of(judges)
    with torch.no_grad():
        seen = patchify(images, judges.config.patch).to(home), source.to(home)
        parts = zip(*(each.split(512) for each in seen), strict=True)
        log_p = torch.cat([judges.guess.log_prob(*each) for each in parts])
    return log_p.double().log_softmax(-1).cpu()


def _far(
    space: Features, made: Tensor, test: Tensor, source: Tensor, patch: int
) -> dict[str, float]:
    """How far completions are from the test rows, and how well they fit."""
    again = test.repeat(len(made), 1, 1, 1), source.repeat(len(made), 1)
    found = space.compare(made.flatten(0, 1))
    # of few tokens, a tenth may be none
    given = source.any()
    seam = seam_strength(made.flatten(0, 1), *again, patch) if given else math.nan
    return {"distance": found.distance, "ratio": found.ratio, "seam": seam}


def _marginals(
    asked: Asked, train: Tensor, test: Tensor, samples: int, draws: int
) -> dict[str, dict[str, float]]:
    """The law of two fixed targets, with nothing given."""
    patch, found = asked.judges.config.patch, {}
    count = len(test) * max(1, samples // len(test))
    for name, target in fixed_targets(*test.shape[2:], patch).items():
        task = Task.marginal(target.expand(count, -1))
        made = asked.ask(torch.zeros(count, *test.shape[1:]), task)
        sets = (values_at(each, target, patch) for each in (train, test, made))
        fixed = Generator().manual_seed(SEED)
        found[name] = written(marginal_distance(*sets, fixed, draws=draws))
    return found


def fixed_targets(height: int, width: int, patch: int) -> dict[str, Tensor]:
    """The upper half of the patches, and the block in the middle: (L,) masks."""
    rows, columns = height // patch, width // patch
    grid = torch.zeros(2, rows, columns, dtype=torch.bool)
    grid[0, : max(1, rows // 2)] = True
    grid[1, rows // 4 : -(-3 * rows // 4), columns // 4 : -(-3 * columns // 4)] = True
    return {"upper half": grid[0].flatten(), "centre": grid[1].flatten()}
