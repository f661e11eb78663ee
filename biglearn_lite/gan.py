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

A judge of limited means can be content with one good answer a source, since the data
show each source once. The *energy score* is a matching without a judge that is not:
two answers to the same source must lie as far apart as each lies from the data.

`_adversarial` has the training step, in which both players learn.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biglearn_lite._later import said_where_set
from biglearn_lite._players import BigLearnGAN, Discriminator, GANSizes
from biglearn_lite._task_checks import whole
from biglearn_lite.transformer import TransformerSizes

__all__ = [
    "Adversarial",
    "BigLearnGAN",
    "Discriminator",
    "GANSizes",
    "communication",
    "discriminator_loss",
    "energy_score",
    "generator_loss",
    "logits_and_penalty",
]

PAIRINGS = ("relativistic", "naive")
PENALTIES = ("exact", "difference")
PENALISED = ("target", "union")
FROM_ZERO = (
    "strength", "communication", "rate", "width", "depth", "labels", "score",
)  # fmt: skip
LATER = "labels", "score", "label_batch", "projection"
STEP = 0.03  # of the finite difference, for tokens of size one
SMALL = 1e-8  # under a root, whose slope at zero is not finite


@dataclass(frozen=True, repr=False)
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
        labels: weight of the cross-entropy of labels in the generator's loss, where a
            hybrid `multimodal.ImageLabelModel` plays.
        score: weight of the energy score in the generator's loss, which keeps its
            completions as various as they have to be; 0: none.
        label_batch: rows of a batch of their own for the cross-entropy, which all ask
            for labels, if they have any; the game has the tasks that ask for patches,
            and `training.targets` counts those. A row of the game costs several times
            as much. Labels are then weighted by `labels` alone, and no longer by their
            share of the tasks. 0: one batch for both.
        projection: whether a hybrid's judge has a logit for each given label, see
            `multimodal.ImageLabelDiscriminator`.
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
    labels: float = 1.0
    score: float = 0.0
    label_batch: int = 0
    projection: bool = False

    def __repr__(self) -> str:
        return said_where_set(self, LATER)

    def __post_init__(self) -> None:
        known = {"pairing": PAIRINGS, "penalty": PENALTIES, "penalised": PENALISED}
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise ValueError(
                    f"adversarial.{name} is one of {values}, got "
                    f"{getattr(self, name)!r}."
                )
        for name in FROM_ZERO:
            if not getattr(self, name) >= 0:
                raise ValueError(
                    f"adversarial.{name} is 0 or more, got {getattr(self, name)}."
                )
        whole("adversarial.label_batch", self.label_batch, least=0)
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


def energy_score(one: Tensor, other: Tensor, real: Tensor, target: Tensor) -> Tensor:
    """How far two answers to one task are from the data, less how far from each other.

    `E |X - x| - E |X - X'| / 2` over answers `X`, `X'` and data `x` is least where the
    answers have the law of the data (a strictly proper score: Gneiting and Raftery
    2007, section 4.3), whatever the source; one real answer a source is enough. Here
    it is the mean of two such scores, with distances per value (root mean squares):
    of all that is asked as one vector, and of each token asked.

    Args:
        one: (B, L, P), made with fresh noise.
        other: (B, L, P), made of the same sources with other noise.
        real: (B, L, P), the data.
        target: (B, L) boolean; nothing else is looked at.

    Returns:
        The mean over rows; one that asks for nothing counts almost nothing.
    """
    share = target / target.sum(1, keepdim=True).clamp(min=1)

    def far(a: Tensor, b: Tensor) -> Tensor:
        # where, not a product: what is hidden may be NaN, and 0 * NaN is NaN
        gap = torch.where(target[..., None], a - b, 0.0).float()
        gaps = gap.square().mean(2)  # (B, L)
        whole = ((gaps * share).sum(1) + SMALL).sqrt()
        tokens = ((gaps + SMALL).sqrt() * share).sum(1)
        return (whole + tokens) / 2

    return (far(one, real) + far(other, real) - far(one, other)).mean() / 2
