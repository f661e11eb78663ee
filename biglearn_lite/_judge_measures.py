"""What is measured of trained judges, on rows that they have not learned from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from biglearn_lite._agreement import (
    agreement,
    bayes_accuracy,
    calibration_error,
    log_loss,
    perfect_agreement,
)
from biglearn_lite._images import patchify
from biglearn_lite._judges import SHARES, Guess, Judges
from biglearn_lite._readings import by_name, read
from biglearn_lite._report import random_sources
from biglearn_lite._scenes import acceptance

# members that answer or None for all, images, labels or attributes
Rows = tuple[Sequence[int] | None, Tensor, Tensor]


def measured(
    judges: Judges,
    test: tuple[Tensor, Tensor],
    train: Tensor,
    asked: Mapping[str, Sequence[Rows]],
    repeats: int,
) -> dict[str, Any]:
    """Of `look` on all test rows; of `guess` for each size of the source.

    Args:
        judges: that are trained.
        test: images in [0, 1], and their labels (N,) or attributes (N, K).
        train: labels or attributes of the training rows.
        asked: name -> what `guess` is asked under that name, see `calibration`.
        repeats: random sources of each size for every row.
    """
    images, truth = test
    names, shown = judges.config.attributes, read(images, judges)
    return {
        "rows": len(images),
        "accuracy": agreement(truth, shown),
        "accepted": acceptance(images, judges.look, attributes=bool(names)),
        **(_by_attribute(names, shown, truth, train) if names else {}),
        "share": list(SHARES),
        **{
            name: calibration(judges.guess, each, repeats)
            for name, each in asked.items()
        },
        "temperature": judges.guess.log_temperature.exp().tolist(),
    }


def _by_attribute(
    names: Sequence[str], shown: Tensor, truth: Tensor, train: Tensor
) -> dict[str, Any]:
    """Accuracy of each attribute, beside that of its usual value in training rows."""
    usual = train.double().mean(0) > 0.5
    right = {"": shown == truth, ", usual value": usual == truth}
    return {
        f"accuracies{who}": by_name(names, each.double().mean(0))
        for who, each in right.items()
    } | {"accuracy, usual value": right[", usual value"].double().mean().item()}


def calibration(
    guess: Guess, asked: Sequence[Rows], repeats: int
) -> dict[str, list[float]]:
    """Log loss, calibration error, accuracies and agreement at each of the `SHARES`.

    Args:
        guess: the judge.
        asked: (members that answer or None for all, images, labels or attributes).
        repeats: random sources of each size for every row.
    """
    found: dict[str, list[float]] = {name: [] for name in CALIBRATION}
    generator = torch.Generator().manual_seed(1234)
    truth = torch.cat([labels for _, _, labels in asked for _ in range(repeats)])
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
    "accuracy": lambda p, y: agreement(y, p.argmax(-1)),
    "bayes accuracy": lambda p, y: bayes_accuracy(p),
    "perfect agreement": lambda p, y: perfect_agreement(p),
}
