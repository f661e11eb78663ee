"""Labels that a model gives, while it learns, to the rows that have none.

One network answers one question in two ways: it says `p(y | x)`, and by Bayes' rule it
says it again by what it knows of images. The two make different mistakes, and where
they agree that a class is nearly sure, the row is taken to have it:

    p(y | x)  ~  p(y | x_S) p(x_T | x_S, y),

S a random half of the patches and T the other, in the mean of its logarithm over some
splits. From then on the row demonstrates tasks with its label, too. This is
self-training (Scudder 1965), with generation and classification as each other's
teachers; a choice of this package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from biglearn_lite._bayes import bayes_log_prob
from biglearn_lite._task import Task

if TYPE_CHECKING:
    from biglearn_lite.multimodal import ImageLabelModel
    from biglearn_lite.training import Batches

CHUNK = 512


@dataclass(frozen=True)
class Imputer:
    """Renews the labels of `Batches` that were not known.

    Attributes:
        unknown: (N,) boolean, rows whose label is not known.
        least: a label is given if the model is at least this sure of it.
        seed: of the splits; with a step it decides them, so a run that goes on has the
            labels of one that was never stopped.
        bayes: whether Bayes' rule is asked; else it is `p(y | x)` as the network says
            it, which is all that a classifier has.
        views: splits of each row.
    """

    unknown: Tensor
    least: float
    seed: int
    bayes: bool = True
    views: int = 2

    @torch.no_grad()
    def __call__(
        self, batches: Batches, step: int, model: ImageLabelModel
    ) -> dict[str, float]:
        """Give labels, in place; returns the share of unknown ones that are given."""
        home = batches.data.device
        generator = Generator(home).manual_seed(3_000_017 * (self.seed + 1) + step)
        rows = self.unknown.nonzero()[:, 0].to(home)
        said = [
            self._said(batches, each, model, generator) for each in rows.split(CHUNK)
        ]
        sure, label = torch.cat(said).softmax(1).max(1)
        known = sure >= self.least
        batches.labels[rows] = torch.where(known, label, -1)[:, None]
        batches.observed[rows, -1] = known
        return {"imputed": known.double().mean().item()}

    def _said(
        self,
        batches: Batches,
        rows: Tensor,
        model: ImageLabelModel,
        generator: Generator,
    ) -> Tensor:
        """The mean of `log p(y | x)` over splits, by Bayes' rule, or as it is said."""
        blank = torch.full_like(batches.labels[rows], -1)
        x = batches.transform(batches.data[rows], generator, blank)
        patch = ~model.trunk.is_label
        if not self.bayes:
            return model.label_log_prob(x, patch.expand(len(x), -1))
        said = torch.zeros((), device=x.device)
        for _ in range(self.views):
            luck = torch.rand(x.shape[:2], generator=generator, device=x.device)
            rank = luck.masked_fill(~patch, 2.0).argsort(1).argsort(1)
            half = rank < patch.sum() // 2  # so something is left to ask for
            task = Task._trusted(half, patch & ~half)
            said = said + bayes_log_prob(model, x, task, "factorised")
        return said / self.views
