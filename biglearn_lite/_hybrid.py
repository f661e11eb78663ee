"""One step of the hybrid matching: a game on patches, cross-entropy on labels.

The game is that of `_adversarial`: what is asked of labels is given to both players
there (see `multimodal`). Cross-entropy is added to what the generator makes small.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from biglearn_lite._adversarial import AdversarialTraining, Made
from biglearn_lite._optimise import compiled
from biglearn_lite.multimodal import (
    ImageLabelDiscriminator,
    ImageLabelModel,
    label_loss,
)

if TYPE_CHECKING:
    from biglearn_lite.gan import Adversarial


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
        self.label_loss = compiled(label_loss) if self.compile else label_loss

    def _judge(self, loss: Adversarial) -> ImageLabelDiscriminator:
        sizes = self.model.config
        return ImageLabelDiscriminator(loss.judge(sizes), sizes.layout)

    def _check_model(self) -> None:
        if (matching := self.model.config.matching) != "hybrid":
            raise ValueError(
                f"A game needs sizes with matching='hybrid', got {matching!r}; its "
                "loss is multimodal.row_loss."
            )
        for name in ("communication", "score"):
            if got := getattr(self.game, name):
                raise ValueError(
                    f"A hybrid has no {name} yet, got adversarial.{name}={got}; "
                    "leave it out."
                )

    def _generator_losses(self, made: Made, pair: list[Made]) -> tuple[Tensor, ...]:
        (played,) = super()._generator_losses(made, pair)
        said = self.label_loss(self.model, *made[:3])
        return played + self.game.labels * said, said


def game_of(model: nn.Module) -> type[AdversarialTraining]:
    """Who trains a model that plays a game."""
    hybrid = isinstance(model, ImageLabelModel)
    return HybridTraining if hybrid else AdversarialTraining
