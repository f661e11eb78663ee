"""q(S, T) over an image and its labels: how often each kind of question comes up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from biglearn_lite._counts import Counts, Ratio, share_table
from biglearn_lite._task import Task
from biglearn_lite._task_checks import beta_ratio, probability, require_rows, whole
from biglearn_lite._task_sampler import Sizes, TaskSampler

KINDS = (
    "classification",  # p(y | x_S)
    "generation",  # p(x | y)
    "completion",  # p(x_T | x_S, y)
    "joint",  # p(x, y)
    "marginal",  # p(x)
    "within",  # p(x_T | x_S)
)
CLASSIFICATION, GENERATION, COMPLETION, JOINT, MARGINAL, WITHIN = range(len(KINDS))


class Modalities(TaskSampler):
    """The law of `tasks.modalities`, which says what it is."""

    joint = marginal = source_ratio = target_ratio = None

    def __init__(
        self,
        length: int,
        labels: int,
        shares: Sequence[float],  # of KINDS
        ratios: Mapping[str, Ratio | None],
    ) -> None:
        self.length, self._labels = whole("length", length), whole("labels", labels)
        if self._labels >= self.length:
            raise ValueError(
                f"labels must leave a token to the image, got {labels} of {length}."
            )
        self._shares = {
            kind: probability(kind, share)
            for kind, share in zip(KINDS, shares, strict=True)
        }
        if abs(sum(self._shares.values()) - 1) > 1e-6:
            raise ValueError(
                f"The shares of {', '.join(KINDS)} must sum to 1, got "
                f"{sum(self._shares.values()):g}; those left out are 0."
            )
        self._ratios = {
            name: None if ratio is None else beta_ratio(name, ratio)
            for name, ratio in ratios.items()
        }
        self._counts = {
            name: Counts(share_table(self.length, ratio))
            for name, ratio in self._ratios.items()
            if ratio is not None
        }
        self._any = TaskSampler(self.length)

    def __repr__(self) -> str:
        said = {"length": self.length, "labels": self._labels}
        said |= {name: share for name, share in self._shares.items() if share}
        said |= self._ratios
        return f"modalities({', '.join(f'{k}={v}' for k, v in said.items())})"

    def only(self, *kinds: str) -> Modalities:
        """The same law of the tasks of these kinds; errors if none of them comes up."""
        kept = [self._shares[kind] * (kind in kinds) for kind in KINDS]
        if not (total := sum(kept)):
            raise ValueError(
                f"No task is one of {', '.join(kinds)} in {self}; give one a share."
            )
        shares = [share / total for share in kept]
        return Modalities(self.length, self._labels, shares, self._ratios)

    def _split(self, union: Tensor, noise: Tensor) -> Task:
        """As a `TaskSampler` splits it, whatever the modalities."""
        return self._any._split(union, noise)

    def _draw(self, available: Tensor, noise: Tensor, sizes: Sizes) -> Task:
        """Choose a kind, then so many patches and labels as it gives and asks for."""
        parts = self.length - self._labels, self._labels
        image, labels = available.split(parts, 1)
        orders = noise[:, 3:].split(parts, 1)
        place = torch.cat([places(image, orders[0]), places(labels, orders[1])], 1)
        kind = self._kind(noise[:, 0], image.sum(1), labels.sum(1))
        of_image = self._patches(kind, image.sum(1), noise)
        of_labels = self._named(kind, labels.sum(1), noise)
        behind = torch.arange(self.length, device=place.device) >= parts[0]  # (L,)
        given, asked = (
            torch.where(behind, label[:, None], patch[:, None])  # (B, L)
            for patch, label in zip(of_image, of_labels, strict=True)
        )
        source = place < given
        return Task._trusted(source, (place < given + asked) & ~source)

    def _kind(self, noise: Tensor, patches: Tensor, labels: Tensor) -> Tensor:
        """The kind of each row, as far as what it shows allows."""
        kind, total = torch.zeros_like(patches), 0.0
        for each, share in enumerate(self._shares.values()):
            if share:  # what has none never comes up, whatever the rounding
                kind = torch.where(noise >= total, each, kind)
            total += share
        # an unlabelled row has no p(y | x_S); the other kinds just lose their label
        kind = torch.where((kind == CLASSIFICATION) & (labels == 0), WITHIN, kind)
        return torch.where(patches == 0, CLASSIFICATION, kind)  # nothing else to ask

    def _patches(
        self, kind: Tensor, many: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """How many patches are given, and how many are asked for."""
        seen = self._counts["seen_ratio"](many, noise[:, 1])
        some = self._counts["source_ratio"]((many - 1).clamp(min=0), noise[:, 1])
        split = (kind == COMPLETION) | (kind == WITHIN)
        given = torch.where(split, some, torch.where(kind == CLASSIFICATION, seen, 0))
        asked = torch.where(kind == CLASSIFICATION, 0, many - given)
        if "target_ratio" in self._counts:
            part = self._counts["target_ratio"](asked, noise[:, 2])
            asked = torch.where(kind == WITHIN, part, asked)
        return given, asked

    def _named(
        self, kind: Tensor, many: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """How many labels are given, and how many are asked for."""
        some = self._counts["label_ratio"](many, noise[:, 2])
        classify, joint = kind == CLASSIFICATION, kind == JOINT
        asked = torch.where(classify, some, torch.where(joint, many, 0))
        wish = (kind == GENERATION) | (kind == COMPLETION)
        given = torch.where(classify, many - some, torch.where(wish, some, 0))
        return given, asked

    def _require(self, observed: Tensor) -> None:
        super()._require(observed)
        labels = observed[:, self.length - self._labels :]
        if self._shares["classification"] == 1:
            require_rows(
                labels.any(1),
                "of observed has no label, and all there is to learn is to classify; "
                "drop it, or give another kind of task a share.",
            )


def places(available: Tensor, noise: Tensor) -> Tensor:
    """The place of each available token in a random order; the others come last."""
    return noise.masked_fill(~available, 2.0).argsort(1).argsort(1)
