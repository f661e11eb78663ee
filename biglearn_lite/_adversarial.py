"""One step of BigLearn-GAN: the judge learns, then the generator, on fresh samples.

As in `training._Training`, of which this is the adversarial kind: batch and task are
drawn on the device and nothing waits for it. Both losses are whole functions of
(networks, batch, task, noise), so each of them compiles into one graph. On a CUDA card
in bfloat16 they stay eager: on an H200 (torch 2.11) three of three compiled trainings
ended with an infinite gradient of the judge after 400 to 1,800 steps, and none of eight
eager ones of 400 to 1,300 did. At the first step either's gradients are right.
"""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from biglearn_lite._draws import first_weights
from biglearn_lite._optimise import compiled
from biglearn_lite.gan import (
    Adversarial,
    BigLearnGAN,
    Discriminator,
    communication,
    discriminator_loss,
    energy_score,
    generator_loss,
)
from biglearn_lite.tasks import Task
from biglearn_lite.training import Settings, _Training, facts_of

BETAS = (0.0, 0.99)  # no momentum: where the other player was says little

EAGER = "A game in bfloat16 is not compiled on a card, where it bursts: eager."

Made = tuple[Tensor, ...]  # x, source, target, latent and noise, and more noise


class AdversarialTraining(_Training):
    """Two players, two optimisers, one average: that of the generator."""

    facts = (
        "loss", "norm", "generator", "generator norm", "lead", "slope on real",
        "slope on fake", "communication", "source", "target", "joint",
    )  # fmt: skip
    kept = 8

    def prepare(self, loss: Adversarial) -> None:
        """The judge, optimisers, and the losses as graphs."""
        self.game = loss
        self._check()
        with first_weights(self.generator.initial_seed() + 1):
            self.judge = self._judge(loss).to(self.device)
        self.players = [
            torch.optim.Adam(net.parameters(), rate, betas=BETAS, fused=True)
            for net, rate in self._rates()
        ]
        self.parts |= {"judge": self.judge}
        self.parts |= {"of generator": self.players[0], "of judge": self.players[1]}
        self.about["game"] = repr(loss)
        self.rows = max(1, round(loss.share * self.batch)) if loss.communication else 0
        if self.compile and bursts(self.device.type, self.half):
            print(EAGER, file=sys.stderr)
            self.compile = False
        wrap = compiled if self.compile else lambda function: function
        self.make, self.judge_loss = wrap(generate), wrap(loss_of_judge)
        self.make_loss = wrap(loss_of_generator)

    def _judge(self, loss: Adversarial) -> Discriminator:
        return Discriminator(loss.judge(self.model.config))

    def _check(self) -> None:
        self._check_model()
        for name in ("muon", "decay"):  # both players learn by plain Adam
            if (got := getattr(self.settings, name)) != getattr(Settings, name):
                raise ValueError(
                    f"{name} means nothing in a game, got {got}; leave it out."
                )

    def _check_model(self) -> None:
        if not isinstance(self.model, BigLearnGAN):
            raise TypeError(
                "A game is played by a BigLearnGAN, got a model of the class "
                f"{type(self.model).__name__}; give it a loss of its own."
            )
        for name in ("label_batch", "projection"):
            if got := getattr(self.game, name):
                raise ValueError(
                    f"A BigLearnGAN has no labels, got adversarial.{name}={got}; leave "
                    "it out, or train an image-label model."
                )

    def _rates(self) -> tuple[tuple[nn.Module, float], ...]:
        rate = self.settings.rate
        return (self.model, rate), (self.judge, rate * self.game.rate)

    def step(self, step: int) -> Tensor:
        """One update of each player."""
        share = self.settings.rate_at(step, self.steps)
        for player, (_, rate) in zip(self.players, self._rates(), strict=True):
            player.param_groups[0]["lr"] = rate * share
        of_judge, task = self._teach_judge()
        of_generator = self._teach_generator()
        self.average.update(step)
        (_, norm, said), (made, made_norm, *more) = of_judge, of_generator
        numbers = [said[0], norm, made, made_norm, *said[1:], *more]
        return facts_of([each.detach() for each in numbers], task)

    def _draw(self) -> tuple[Made, Task]:
        """Real tokens, a task for each and fresh noise."""
        x, task = self.batches.ask(self.batch, self.sampler, self.generator)
        noise = self.model.draw_noise(self.batch, self.generator)
        return (x, task.source, task.target, *noise), task

    def _draw_pair(self) -> list[Made]:
        """Real tokens and two tasks with one union, for communication."""
        if not self.rows:
            return []
        x, observed = self.batches.draw(self.rows, self.generator)
        pair = self.sampler.sample_pair(
            self.rows, self.generator, self.device, observed, checked=True
        )
        noises = [self.model.draw_noise(self.rows, self.generator) for _ in pair]
        return [
            (x, task.source, task.target, *noise)
            for task, noise in zip(pair, noises, strict=True)
        ]

    def _teach_judge(self) -> tuple[tuple[Any, ...], Task]:
        made, task = self._draw()
        pair = self._draw_pair()
        bend = None
        if self.game.penalty == "difference":
            shape = (2 * self.batch, *made[0].shape[1:])
            bend = torch.randn(
                shape, generator=self.generator, device=self.generator.device
            ).to(self.device)
        with torch.no_grad(), self.half:
            fake = self.make(self.model, *made)
            answers = [self.make(self.model, *each) for each in pair]
        with self.half:
            loss, said = self.judge_loss(
                self.judge, made, fake, pair, answers, self.game, bend
            )
        return (loss, self._update(self.judge, loss, 1), said), task

    def _teach_generator(self) -> tuple[Tensor, ...]:
        made, _ = self._draw()
        pair = self._draw_pair()
        if self.game.score:  # two answers to each task
            made = (*made, *self.model.draw_noise(self.batch, self.generator))
        self.judge.requires_grad_(False)  # a third of its backward pass is spared
        with self.half:
            loss, *more = self._generator_losses(made, pair)
        norm = self._update(self.model, loss, 0)
        self.judge.requires_grad_(True)
        return loss, norm, *more

    def _generator_losses(self, made: Made, pair: list[Made]) -> tuple[Tensor, ...]:
        """What the generator makes small, and what else is written down."""
        return (self.make_loss(self.model, self.judge, made, pair, self.game),)

    def _update(self, net: nn.Module, loss: Tensor, player: int) -> Tensor:
        loss.backward()
        norm = nn.utils.clip_grad_norm_(net.parameters(), self.settings.clip)
        self.players[player].step()
        self.players[player].zero_grad(set_to_none=True)
        return norm


def bursts(place: str, half: AbstractContextManager[None]) -> bool:
    """Whether compiled losses were seen to fail there; see the top of this file."""
    return place == "cuda" and isinstance(half, torch.autocast)


def generate(model: BigLearnGAN, *made: Tensor) -> Tensor:
    """A batch of answers, as a function."""
    return model(*made)


def loss_of_judge(
    judge: Discriminator,
    made: Made,
    fake: Tensor,
    pair: list[Made],
    answers: list[Tensor],
    game: Adversarial,
    bend: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Matching, penalties and communication: a number to make small, and facts."""
    real, source, target = made[:3]
    everywhere = game.penalised == "union"
    loss, facts = discriminator_loss(
        judge, real, fake, source, target, game.strength, game.pairing, bend, everywhere
    )
    talk = loss.new_zeros(())
    if pair:
        talk = communication(judge, *answers, (*pair[0][1:3], *pair[1][1:3]))
        loss = loss + game.communication * talk
    return loss, torch.cat([facts, talk.detach()[None]])


def loss_of_generator(
    model: BigLearnGAN,
    judge: Discriminator,
    made: Made,
    pair: list[Made],
    game: Adversarial,
) -> Tensor:
    """The same game with the sides exchanged; `made` has more noise for the score."""
    real, source, target = made[:3]
    fake = model(*made[:5])
    loss = generator_loss(judge, real, fake, source, target, game.pairing)
    if game.score:
        other = model(*made[:3], *made[5:])
        # the token of a label can be longer than that of a patch
        drawn = (each[..., : model.config.pixels] for each in (fake, other, real))
        loss = loss + game.score * energy_score(*drawn, target)
    if pair:
        one, other = (model(*each) for each in pair)
        roles = (*pair[0][1:3], *pair[1][1:3])
        loss = loss + game.communication * communication(judge, other, one, roles)
    return loss
