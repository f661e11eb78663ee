"""The arrow as adversarial learning: BigLearn-GAN, one generator and one judge for all.

A generator draws `x_T = G(x_S, z)` for every source and target, and one discriminator
`f(x; S, T)` judges every such task (Big Cooperative Learning, arXiv 2407.21319, section
4.2; its code was never released, so networks and losses are choices of this package).
With real `x ~ q` and the same `S`, `T` and `x_S` for the generated one,

    naive         max over f of  E log sigma(f(x)) + E log sigma(-f(x'))         (A4)
    relativistic  max over f of  E log sigma(f(x) - f(x'))

The best `f` of the first is `log q(x_T | x_S) - log p(x_T | x_S)` (A5). That of the
second is the same up to a function of `x_S`, `S` and `T`, which cancels between two
samples of one context. *Communication* sets two answers of the generator against each
other, made from two tasks with the same union. Their judge is no new network:

    log p_1(x) / p_2(x) = f(x; S_2, T_2) - f(x; S_1, T_1)                        (A6)

`_adversarial` has the training step, in which both players learn.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biglearn_lite._draws import normal
from biglearn_lite._likelihood_checks import check_tokens
from biglearn_lite._task_checks import whole
from biglearn_lite.tasks import Task
from biglearn_lite.transformer import MaskedTransformer, TransformerSizes

__all__ = [
    "Adversarial",
    "BigLearnGAN",
    "Discriminator",
    "GANSizes",
    "communication",
    "discriminator_loss",
    "generator_loss",
    "logits_and_penalty",
]

PAIRINGS = ("relativistic", "naive")
PENALTIES = ("exact", "difference")
PENALISED = ("target", "union")
STEP = 0.03  # of the finite difference, for tokens of size one


@dataclass(frozen=True)
class Adversarial:
    """How the game is played: the recipe's part `adversarial`.

    Attributes:
        pairing: `"relativistic"`, or `"naive"` as the paper writes it (A4).
        strength: of the penalties on the judge's slope. The one number to tune: raise
            it if training is unstable, lower it if samples lack variety.
        penalty: `"exact"`, or `"difference"` for a finite difference.
        penalised: `"target"` values, or those of the `"union"` with the source.
        communication: weight of (A7) in both players' losses; 0: none.
        share: of a batch's rows that communicate.
        rate: of the judge, relative to the generator's.
        width: of the judge; 0: as wide as the generator.
        depth: of the judge; 0: as deep as the generator.
    """

    pairing: str = "relativistic"
    strength: float = 0.3
    penalty: str = "exact"
    penalised: str = "target"
    communication: float = 0.0
    share: float = 0.25
    rate: float = 1.0
    width: int = 0
    depth: int = 0

    def __post_init__(self) -> None:
        known = {"pairing": PAIRINGS, "penalty": PENALTIES, "penalised": PENALISED}
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise ValueError(
                    f"adversarial.{name} is one of {values}, got "
                    f"{getattr(self, name)!r}."
                )
        for name in ("strength", "communication", "rate", "width", "depth"):
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"adversarial.{name} is 0 or more, got {getattr(self, name)}."
                )
        if not 0 < self.share <= 1:
            raise ValueError(
                f"adversarial.share is above 0 and at most 1, got {self.share}."
            )

    def judge(self, sizes: GANSizes) -> TransformerSizes:
        """Sizes of the discriminator for a generator."""
        trunk = sizes.trunk()
        changes = {
            "width": self.width or trunk.width,
            "depth": self.depth or trunk.depth,
        }
        return dataclasses.replace(trunk, modulation=0, **changes)


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
        like, sizes = self.trunk.position, self.config
        whole_sample = normal((batch, sizes.latent), like, generator)
        return whole_sample, normal((batch, sizes.length, sizes.noise), like, generator)

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
        latent, noise = (
            _fitting(name, given, fresh)
            for name, given, fresh in zip(
                ("latent", "noise"), (latent, noise), drawn, strict=True
            )
        )
        made = self(x, task.source, task.target, latent, noise)
        return made.masked_fill(task.absent[..., None], torch.nan)


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
    """

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        if sizes.reach != "union" or sizes.modulation or not sizes.values:
            raise ValueError(
                "A discriminator judges source and target together: its trunk has "
                "values, reach='union' and no modulation, got "
                f"values={sizes.values}, reach={sizes.reach!r} and "
                f"modulation={sizes.modulation}."
            )
        self.config = sizes
        self.trunk = MaskedTransformer(sizes)
        self.head = nn.Linear(sizes.width, 1)
        start_large(self)

    def forward(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """Logits (B,) of samples (B, L, P) under tasks (B, L), unchecked."""
        union = source | target
        hidden = self.trunk(x, source, target, explicit=True, shown=union)  # (B, L, W)
        asked = target[..., None].to(hidden.dtype)
        pooled = (hidden * asked).sum(1) / asked.sum(1)  # (B, W)
        return self.head(pooled).squeeze(-1).float()  # (B,)


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


# ------------------------------------------------------------------ losses


def logits_and_penalty(
    judge: nn.Module,
    x: Tensor,
    source: Tensor,
    target: Tensor,
    noise: Tensor | None = None,
    everywhere: bool = False,
) -> tuple[Tensor, Tensor]:
    """What the judge says, and the square of its slope in the target values.

    Args:
        judge: a `Discriminator`, or any function of the same arguments.
        x: (B, L, P).
        source: (B, L) boolean.
        target: (B, L) boolean. The source is the same for real and generated samples,
            so there is nothing to match in it, and its slope is not penalised.
        noise: (B, L, P) standard normal: the slope is then that of a finite difference
            along it, whose mean over noise is close to the exact one. None: exact.
        everywhere: penalise the slope in the source too, for comparison.

    Returns:
        (B,) and (B,): the sum of squared derivatives over target values.
    """
    asked = (source | target if everywhere else target)[..., None]
    if noise is not None:
        logits = judge(x, source, target)
        moved = judge(torch.where(asked, x + STEP * noise, x), source, target)
        return logits, ((moved - logits) / STEP).square()

    def total(x: Tensor) -> tuple[Tensor, Tensor]:
        logits = judge(x, source, target)
        return logits.sum(), logits

    # grad inside the loss, not autograd.grad around it: only this can be compiled
    slope, (_, logits) = torch.func.grad_and_value(total, has_aux=True)(x)
    return logits, torch.where(asked, slope, 0.0).square().sum((1, 2))


def discriminator_loss(
    judge: nn.Module,
    real: Tensor,
    fake: Tensor,
    source: Tensor,
    target: Tensor,
    strength: Tensor | float,
    pairing: str = "relativistic",
    noise: Tensor | None = None,
    everywhere: bool = False,
) -> tuple[Tensor, Tensor]:
    """What the judge makes small: the matching, and zero-centred penalties.

    `strength / 2 (|slope|^2 on real + |slope|^2 on fake)` keeps the judge smooth where
    samples are (R1: Mescheder et al. 2018; both with relativistic pairs: Huang et al.
    2024).

    Args:
        judge: see `logits_and_penalty`, as are `source` and `target`.
        real: (B, L, P) samples of the data.
        fake: (B, L, P) generated from the same sources.
        strength: of the penalties.
        pairing: `"relativistic"` or `"naive"` (A4).
        noise: (2 B, L, P) for the finite difference, of real then fake; None: exact.
        everywhere: see `logits_and_penalty`.

    Returns:
        The loss, and facts: matching, logit of real minus fake, the two penalties.
    """
    both = torch.cat([real, fake])  # one pass
    roles = torch.cat([source, source]), torch.cat([target, target])
    logits, penalty = logits_and_penalty(judge, both, *roles, noise, everywhere)
    on_real, on_fake = logits.chunk(2)
    if pairing == "naive":
        matching = F.softplus(-on_real).mean() + F.softplus(on_fake).mean()
    else:
        matching = F.softplus(on_fake - on_real).mean()
    of_real, of_fake = (each.mean() for each in penalty.chunk(2))
    loss = matching + strength / 2 * (of_real + of_fake)
    lead = (on_real - on_fake).mean()
    return loss, torch.stack([matching, lead, of_real, of_fake]).detach()


def generator_loss(
    judge: nn.Module,
    real: Tensor,
    fake: Tensor,
    source: Tensor,
    target: Tensor,
    pairing: str = "relativistic",
) -> Tensor:
    """What the generator makes small: the same game with the sides exchanged.

    The naive game takes `-log sigma(f)` in place of (A4)'s `log sigma(-f)`, which has
    no slope where the judge is sure (Goodfellow et al. 2014). Arguments as for
    `discriminator_loss`.
    """
    on_fake = judge(fake, source, target)
    if pairing == "naive":
        return F.softplus(-on_fake).mean()
    with torch.no_grad():
        on_real = judge(real, source, target)
    return F.softplus(on_real - on_fake).mean()


def communication(
    judge: nn.Module, one: Tensor, other: Tensor, tasks: tuple[Tensor, ...]
) -> Tensor:
    """(A7) as the judge sees it: tell `one ~ p_1` from `other ~ p_2`.

    The logit is `f(x; S_2, T_2) - f(x; S_1, T_1)` (A6). The generator makes it large
    by exchanging the samples: `communication(judge, other, one, tasks)`.

    The judge must learn this too. Relativistic pairs leave `f` undetermined up to a
    function of `x_S`, `S` and `T`, and (A4) never shows a generated source; without
    this loss the difference of two logits would be no log ratio.

    Args:
        judge: a `Discriminator`.
        one: (B, L, P), made for the first task.
        other: (B, L, P), made for the second.
        tasks: source and target of the first, then of the second, each (B, L).

    Returns:
        The mean of `-log sigma` of the logit on `one` and minus it on `other`.
    """
    source1, target1, source2, target2 = tasks
    both = torch.cat([one, other])
    x = torch.cat([both, both])  # both samples under both tasks, in one pass
    source = torch.cat([source2, source2, source1, source1])
    target = torch.cat([target2, target2, target1, target1])
    second, first = judge(x, source, target).chunk(2)
    on_one, on_other = (second - first).chunk(2)
    return F.softplus(-on_one).mean() + F.softplus(on_other).mean()
