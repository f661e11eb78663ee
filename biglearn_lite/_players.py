"""The two players of BigLearn-GAN: networks on the shared trunk.

The generator draws what is asked from what is given and from noise, and the judge sees
both and knows which is which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from biglearn_lite._draws import normal
from biglearn_lite._likelihood_checks import check_tokens
from biglearn_lite._task_checks import whole
from biglearn_lite.tasks import Task
from biglearn_lite.transformer import MaskedTransformer, TransformerSizes

__all__ = ["BigLearnGAN", "Discriminator", "GANSizes"]


@dataclass(frozen=True)
class GANSizes:
    """Sizes of a `BigLearnGAN`.

    Attributes:
        length: `L`, the number of tokens.
        values: `P`, the numbers in a token.
        width: of the generator's transformer.
        depth: its blocks.
        heads: its attention heads.
        latent: numbers in the latent that a whole sample shares.
        noise: numbers in the noise that each target token has to itself.
        bounded: whether values are between -1 and 1, as of images, or any numbers.
    """

    length: int
    values: int
    width: int = 64
    depth: int = 3
    heads: int = 4
    latent: int = 32
    noise: int = 8
    bounded: bool = True

    def __post_init__(self) -> None:
        for name in ("latent", "noise"):
            whole(name, getattr(self, name))
        self.trunk()  # which checks the others

    @property
    def symbols(self) -> int:
        """None: a step from one symbol to another has no slope."""
        return 0

    @property
    def pixels(self) -> int:
        """`D`, the numbers of a token that are drawn: all of them."""
        return self.values

    def trunk(self) -> TransformerSizes:
        """The sizes of the generator's trunk."""
        shared = ("length", "values", "width", "depth", "heads")
        sizes = {name: getattr(self, name) for name in shared}
        return TransformerSizes(**sizes, modulation=self.width, reach="union")


class BigLearnGAN(nn.Module):
    """The generator: draws `x_T` given `x_S`, for any source and target.

    A latent for the whole sample modulates the blocks, so that targets can agree on
    one answer; noise of its own for every target token decides what is local.

    Args:
        sizes: see `GANSizes`.
    """

    def __init__(self, sizes: GANSizes) -> None:
        super().__init__()
        self.config = sizes
        self.trunk = MaskedTransformer(sizes.trunk())
        width = sizes.width
        self.latent = nn.Sequential(
            nn.Linear(sizes.latent, width), nn.GELU(), nn.Linear(width, width)
        )
        self.noise = nn.Linear(sizes.noise, width)
        self.head = nn.Linear(width, sizes.values)
        start_large(self)
        nn.init.normal_(self.trunk.modulate.weight, std=0.02)  # the latent is heard

    @property
    def length(self) -> int:
        """`L`, the number of tokens."""
        return self.config.length

    def draw_noise(
        self, batch: int, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Fresh noise: (B, latent) of the samples and (B, L, noise) of the tokens."""
        return draw_noise(self.config, self.trunk.position, batch, generator)

    def forward(
        self, x: Tensor, source: Tensor, target: Tensor, latent: Tensor, noise: Tensor
    ) -> Tensor:
        """Samples from noise, unchecked.

        Args:
            x: (B, L, P), read at source positions only.
            source: (B, L) boolean.
            target: (B, L) boolean.
            latent: (B, latent), standard normal.
            noise: (B, L, noise), standard normal.

        Returns:
            (B, L, P): the source as it came, targets made, zeros at absent positions.
        """
        modulation = self.latent(latent)  # (B, W)
        added = self.noise(noise) * target[..., None]  # (B, L, W)
        hidden = self.trunk(x, source, target, modulation, added=added)  # (B, L, W)
        made = self.head(hidden).to(x.dtype)  # (B, L, P)
        made = made.tanh() if self.config.bounded else made
        made = torch.where(target[..., None], made, 0.0)
        return torch.where(source[..., None], x, made)

    @torch.no_grad()
    def sample(
        self,
        x: Tensor,
        task: Task,
        generator: torch.Generator | None = None,
        *,
        latent: Tensor | None = None,
        noise: Tensor | None = None,
    ) -> Tensor:
        """Draw `x_T` given `x_S` in one pass.

        Args:
            x: (B, L, P) floats; only source positions are read and checked.
            task: one for each row.
            generator: of the noise, which is drawn on its device and moved.
            latent: (B, latent), to keep a sample's latent fixed; None: drawn.
            noise: (B, L, noise), to keep the tokens' noise fixed; None: drawn.

        Returns:
            (B, L, P): source values as they came, targets drawn, absent ones NaN.

        Raises:
            ValueError: if tokens, task or noise do not fit the model, or a source
                token is not finite.
        """
        check_tokens(self.config, x, task, task.source)
        drawn = self.draw_noise(len(x), generator)
        latent, noise = kept_noise(latent, noise, drawn)
        made = self(x, task.source, task.target, latent, noise)
        return made.masked_fill(task.absent[..., None], torch.nan)


def draw_noise(
    sizes: Any, like: Tensor, batch: int, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Fresh noise for sizes with `latent`, `noise` and `length`, of the kind of `like`.

    Returns:
        (B, latent) of the samples, and (B, L, noise) of the tokens.
    """
    whole_sample = normal((batch, sizes.latent), like, generator)
    return whole_sample, normal((batch, sizes.length, sizes.noise), like, generator)


def kept_noise(
    latent: Tensor | None, noise: Tensor | None, drawn: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Latent and noise as far as they are given, and else as drawn.

    Raises:
        ValueError: if one has another shape than what is drawn.
    """
    return _fitting("latent", latent, drawn[0]), _fitting("noise", noise, drawn[1])


def _fitting(name: str, given: Tensor | None, fresh: Tensor) -> Tensor:
    if given is None:
        return fresh
    if given.shape != fresh.shape:
        raise ValueError(
            f"{name} needs the shape {tuple(fresh.shape)} for these samples, got "
            f"{tuple(given.shape)}; draw it with model.draw_noise(len(x), generator)."
        )
    return given.to(fresh)


class Discriminator(nn.Module):
    """The judge `f(x; S, T)`: how much more likely `x_T` is in the data, as a logit.

    It reads source and target and knows which is which; it never sees what is absent.
    Attention is written out, since a penalty on its slope is differentiated twice.

    Args:
        sizes: of the trunk; what it reaches must be the `"union"`.
        trunk: one that reads other tokens; None: made by the sizes.
    """

    def __init__(
        self, sizes: TransformerSizes, trunk: MaskedTransformer | None = None
    ) -> None:
        super().__init__()
        if sizes.reach != "union" or sizes.modulation or not sizes.values:
            raise ValueError(
                "A discriminator judges source and target together: its trunk has "
                "values, reach='union' and no modulation, got "
                f"values={sizes.values}, reach={sizes.reach!r} and "
                f"modulation={sizes.modulation}."
            )
        self.config = sizes
        self.trunk = MaskedTransformer(sizes) if trunk is None else trunk
        self.head = nn.Linear(sizes.width, 1)
        start_large(self)

    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Logits (B,) of samples (B, L, P) under tasks (B, L), unchecked."""
        union = source | target
        hidden = self.trunk(x, source, target, explicit=True, shown=union)  # (B, L, W)
        asked = target[..., None].to(hidden.dtype)
        pooled = (hidden * asked).sum(1) / asked.sum(1)  # (B, W)
        # by hand, since in bfloat16 the small difference of two logits would be lost
        logits = (pooled.float() * self.head.weight[0]).sum(-1)
        return logits + self.head.bias[0]  # (B,)


def start_large(net: BigLearnGAN | Discriminator) -> None:
    """Weights that keep the size of what goes through, in place of GPT's small ones.

    A game is won by the slope that one player hands the other. From weights of 0.02 it
    is next to nothing, and hundreds of steps go by until they have grown.
    """
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            std = layer.in_features**-0.5
            if getattr(layer, "ends_branch", False):
                std /= math.sqrt(2 * net.trunk.sizes.depth)
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
    for table in (net.trunk.position, net.trunk.role):
        nn.init.normal_(table, std=0.5)
