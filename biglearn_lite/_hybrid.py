"""One step of the hybrid matching: a game on patches, cross-entropy on labels.

The game is that of `_adversarial`: what is asked of labels is given to both players
there (see `multimodal`). Cross-entropy is added to what the generator makes small. Its
slope is a small part of the sum, which is what `labels` and `label_batch` of
`Adversarial` are for.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from biglearn_lite._adversarial import AdversarialTraining, Made
from biglearn_lite._modalities import KINDS, Modalities
from biglearn_lite._optimise import compiled
from biglearn_lite.multimodal import (
    ImageLabelDiscriminator,
    ImageLabelModel,
    label_loss,
)

if TYPE_CHECKING:
    from biglearn_lite.gan import Adversarial
    from biglearn_lite.tasks import TaskSampler


class HybridTraining(AdversarialTraining):
    """As for a `BigLearnGAN`, with one more loss of the generator."""

    facts = (
        *AdversarialTraining.facts[:8], "cross-entropy",
        *AdversarialTraining.facts[8:],
    )  # fmt: skip
    kept = 9

    def prepare(self, loss: Adversarial) -> None:
        """See `AdversarialTraining`; the third loss is a graph too."""
        super().prepare(loss)
        if loss.label_batch:
            self.asking, self.sampler = parted(self.sampler)
            self.steps, self.batch = self.settings.sizes(self.sampler)
        self.label_loss = compiled(label_loss) if self.compile else label_loss

    def _judge(self, loss: Adversarial) -> ImageLabelDiscriminator:
        sizes = self.model.config
        return ImageLabelDiscriminator(loss.judge(sizes), sizes.layout, loss.projection)

    def _check_model(self) -> None:
        if (matching := self.model.config.matching) != "hybrid":
            raise ValueError(
                f"A game needs sizes with matching='hybrid', got {matching!r}; its "
                "loss is multimodal.row_loss."
            )
        if got := self.game.communication:
            raise ValueError(
                f"A hybrid has no communication yet, got adversarial.communication="
                f"{got}; leave it out."
            )

    def _generator_losses(self, made: Made, pair: list[Made]) -> tuple[Tensor, ...]:
        x, source, target, *noise = made
        second = self.model.trunk.labels_first(source, target)
        (played,) = super()._generator_losses((x, *second, *noise), pair)
        said = self.label_loss(self.model, *self._asked(made))
        return played + self.game.labels * said, said

    def _asked(self, made: Made) -> Made:
        """Tokens, source and target of what is asked of labels."""
        if not self.game.label_batch:
            return made[:3]
        rows = self.game.label_batch
        with torch.autocast(self.device.type, enabled=False):  # as all data is drawn
            x, task = self.batches.ask(rows, self.asking, self.generator)
        return x, task.source, task.target


def parted(sampler: TaskSampler) -> tuple[Modalities, Modalities]:
    """The tasks that ask for labels, and those for patches; joint ones are in both.

    Both factors of the chain rule keep their laws of tasks: for rows with labels it is
    `q(S, T)`, given that there is something to match. Of a row without labels the first
    asks nothing that counts; `data.labelled_share` makes such rows fewer.
    """
    patches = [kind for kind in KINDS if kind != "classification"]
    if isinstance(sampler, Modalities):
        with suppress(ValueError):  # of a part without tasks
            return sampler.only("classification", "joint"), sampler.only(*patches)
    raise ValueError(
        "adversarial.label_batch needs tasks.law = 'modalities', with tasks that ask "
        f"for labels and tasks that ask for patches, got {sampler}; leave it out."
    )


def game_of(model: nn.Module) -> type[AdversarialTraining]:
    """Who trains a model that plays a game."""
    hybrid = isinstance(model, ImageLabelModel)
    return HybridTraining if hybrid else AdversarialTraining
