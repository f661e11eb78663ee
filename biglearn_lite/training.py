"""One loop for every model that is trained.

    data -> transform -> tasks -> universal model -> matching loss -> optimiser
    -> sampling

`fit` takes a batch of tokens, draws a task for each row, asks the model, matches, and
steps. It stops and goes on at any step: a run that was killed and resumed writes the
same history as one that was not. Nothing in a step waits for the device; what is
written down is fetched once every `log` steps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from biglearn_lite._checkpoint import CHECKPOINT, Averaged, load_state, save_state
from biglearn_lite._optimise import Optimisers, compiled
from biglearn_lite.gan import Adversarial
from biglearn_lite.likelihood import matching_loss
from biglearn_lite.tasks import Task, TaskSampler

__all__ = ["Batches", "Settings", "TrainingError", "fit", "mean_targets"]

Loss = Callable[[Any, Tensor, Task], Tensor]
Watch = Callable[[int, nn.Module], dict[str, Any]]
CHECKPOINT_SECONDS = 30.0  # at most this much is lost when a run is killed


# of the numbers in `Settings`
RANGES = {
    "steps": (0, math.inf),
    "targets": (0, math.inf),
    "batch": (0, math.inf),
    "step_targets": (0, math.inf),
    "rate": (0, math.inf),
    "muon": (0, math.inf),
    "warmup": (0, math.inf),
    "final": (0, 1),
    "decay": (0, math.inf),
    "clip": (1e-9, math.inf),
    "average": (0, 1),
    "log": (1, math.inf),
}


class TrainingError(RuntimeError):
    """Training cannot go on; the message says what happened and where to go back to."""


@dataclass(frozen=True)
class Settings:
    """How a model is trained.

    Attributes:
        steps: updates in all; 0: as many as `targets` needs.
        targets: supervised tokens in all, the budget that objectives are compared at.
        batch: `B`, rows in a step; 0: as many as give `step_targets`.
        step_targets: supervised tokens in a step, in the mean.
        rate: of AdamW; of Adam, for the players of a game.
        muon: rate of Muon for the matrices inside the blocks, relative to `rate`;
            0 leaves them to AdamW too. Games have neither this nor `decay`.
        warmup: steps until the rate is reached.
        final: share of the rate that is left at the end of the cosine.
        decay: weight decay.
        clip: largest norm of the gradient.
        average: decay of the moving average of the weights, which is what is kept.
        log: steps between two entries of the history.
        compile: compile the loss as one graph; None: on a CUDA card only, since on a
            CPU compiling costs more than a small run gains. A game in half precision
            is not compiled on a card (see `_adversarial`).
        half: multiply matrices in bfloat16, half of single precision; None: on a CUDA
            card only. Of the CPUs, those with AMX gain.
    """

    steps: int = 0
    targets: int = 0
    batch: int = 0
    step_targets: int = 0
    rate: float = 3e-3
    muon: float = 5.0
    warmup: int = 50
    final: float = 0.02
    decay: float = 0.01
    clip: float = 1.0
    average: float = 0.99
    log: int = 50
    compile: bool | None = None
    half: bool | None = None

    def __post_init__(self) -> None:
        for one, other in (("steps", "targets"), ("batch", "step_targets")):
            if (getattr(self, one) > 0) == (getattr(self, other) > 0):
                raise ValueError(
                    f"Set one of {one} and {other} to a positive number, got "
                    f"{getattr(self, one)} and {getattr(self, other)}."
                )
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if not least <= value <= most:
                raise ValueError(
                    f"{name} must be from {least:g} to {most:g}, got {value}."
                )

    def sizes(self, sampler: TaskSampler) -> tuple[int, int]:
        """Steps and rows in a step for tasks from this law."""
        mean = mean_targets(sampler)
        batch = self.batch or max(1, round(self.step_targets / mean))
        return self.steps or math.ceil(self.targets / (batch * mean)), batch

    def rate_at(self, step: int, steps: int) -> float:
        """Share of the rate: up in a line, then down a cosine to `final`."""
        rise = min(1.0, (step + 1) / max(1, self.warmup))
        fall = 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps)))
        return rise * (self.final + (1 - self.final) * fall)


@dataclass(frozen=True)
class Batches:
    """Training data on the device, and how a batch is made of it.

    Attributes:
        data: (N, ...), as compact as it comes (uint8 images, int64 symbols).
        transform: rows of `data`, and a generator for noise -> tokens (B, L[, P]).
        probabilities: (N,), how often each row comes; None: all equally.
        observed: (N, L) boolean, the tokens known of each row; None: all.
        labels: (N, M) whole numbers, the third argument of `transform`; None: it has
            none.
        augment: (tokens, tasks, generator) -> tokens: what is changed once it is known
            what is asked.
        renew: (batches, step, moving average of the model) -> what to add to an entry
            of the history. It is called at every entry, and when training goes on; it
            may change labels and what is observed, in place, by these three alone.
    """

    data: Tensor
    transform: Callable[..., Tensor] | None = None
    probabilities: Tensor | None = None
    observed: Tensor | None = None
    labels: Tensor | None = None
    augment: Callable[[Tensor, Task, torch.Generator], Tensor] | None = None
    renew: Callable[[Batches, int, Any], dict[str, float]] | None = None

    def draw(
        self, batch: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Tokens of `batch` rows, drawn with replacement, and what is known of them."""
        if self.probabilities is None:
            size, device = len(self.data), generator.device
            rows = torch.randint(size, (batch,), generator=generator, device=device)
        else:
            rows = self.probabilities.multinomial(batch, True, generator=generator)
        x = self.data[rows]
        labels = () if self.labels is None else (self.labels[rows],)
        x = self.transform(x, generator, *labels) if self.transform else x
        return x, None if self.observed is None else self.observed[rows]

    def ask(
        self, batch: int, sampler: TaskSampler, generator: torch.Generator
    ) -> tuple[Tensor, Task]:
        """Tokens of `batch` rows, and a task for each."""
        x, observed = self.draw(batch, generator)
        device = self.data.device
        task = sampler.sample(batch, generator, device, observed, checked=True)
        return x if self.augment is None else self.augment(x, task, generator), task


def mean_targets(sampler: TaskSampler) -> float:
    """`E |T|` under `q(S, T)`, from many draws with a generator of their own."""
    task = sampler.sample(8192, torch.Generator().manual_seed(0))
    return task.target.sum(1).double().mean().item()


def fit(
    model: nn.Module,
    batches: Batches,
    sampler: TaskSampler,
    settings: Settings,
    *,
    seed: int,
    loss: Loss | Adversarial = matching_loss,
    folder: Path | None = None,
    minutes: float | None = None,
    progress: bool = False,
    label: str = "training",
    watch: Watch | None = None,
) -> tuple[nn.Module, list[dict[str, float]], bool]:
    """Train `model` to match all tasks that `sampler` draws.

    Args:
        model: on the device to train on; it is changed.
        batches: the data, on the same device.
        sampler: `q(S, T)`.
        settings: see `Settings`.
        seed: of batches, tasks and noise.
        loss: (model, tokens, task) -> a number to make small; or an `Adversarial`, for
            a generator that learns against a judge.
        folder: where the checkpoint lives; training goes on from the one found there.
            None: no checkpoints.
        minutes: stop after this long, at the next entry of the history.
        progress: show a bar.
        label: what the bar says.
        watch: (step, moving average of the model) -> what to add to an entry of the
            history; it must leave the model as it is, and draw from generators of its
            own.

    Returns:
        The moving average of the model; the history, with means over every
        `settings.log` steps (the loss in nats a target, or the judge's matching, and
        the norm of its gradient) and the supervised tokens so far; and whether training
        is finished.

    Raises:
        TrainingError: if the loss is no longer finite.
        ValueError: if the checkpoint is damaged or belongs to another run.
    """
    kind = _Training
    if isinstance(loss, Adversarial):
        from biglearn_lite._hybrid import game_of

        kind = game_of(model)
    run = kind(model, batches, sampler, settings, loss, seed)
    start, history, spent = 0, [], 0.0
    if folder is not None:
        start, history, spent = load_state(folder, run.parts, run.generator, run.about)
    looks = [] if watch is None else [watch]
    if batches.renew is not None:
        looks.append(partial(batches.renew, batches))
        if start:  # as it was when training stopped
            batches.renew(batches, start, run.average.model.eval())
    began = saved = time.monotonic()
    window: list[Tensor] = []
    model.train()
    bar = tqdm(
        total=run.steps, initial=start, desc=label, disable=not progress, leave=False
    )
    with bar:
        for step in range(start + 1, run.steps + 1):
            window.append(run.step(step - 1))
            last = step == run.steps
            if step % settings.log and not last:
                continue
            history.append(_entry(window, step, run, history, folder))  # waits
            for look in looks:
                history[-1] |= look(step, run.average.model.eval())
            window.clear()
            bar.update(step - bar.n)
            bar.set_postfix(loss=f"{history[-1]['loss']:.4f}")
            now = time.monotonic()
            over = minutes is not None and now - began > 60 * minutes and not last
            if folder is not None and (
                over or last or now - saved > CHECKPOINT_SECONDS
            ):
                facts = run.about | {"seconds": spent + now - began}
                save_state(folder, run.parts, run.generator, step, history, facts)
                saved = now
            if over:
                return run.average.model.eval(), history, False
    return run.average.model.eval(), history, True


class _Training:
    """All that one step needs: what `fit` was given, optimisers, average, generator.

    `facts` names what a step gives back, the first `kept` of which go into the history.
    """

    facts = ("loss", "norm", "source", "target", "joint")
    kept = 2

    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        sampler: TaskSampler,
        settings: Settings,
        loss: Any,
        seed: int,
    ) -> None:
        self.model, self.batches, self.sampler = model, batches, sampler
        self.settings = settings
        self.steps, self.batch = settings.sizes(sampler)
        self.device = next(model.parameters()).device
        if (known := batches.observed) is not None:  # raises if a row shows no task
            sampler.sample(len(known), torch.Generator(self.device), observed=known)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.average = Averaged(model, settings.average)
        self.parts = {"model": model, "average": self.average}
        on_card = self.device.type == "cuda"
        self.compile = on_card if settings.compile is None else settings.compile
        wanted = on_card if settings.half is None else settings.half
        place = self.device.type
        self.half = torch.autocast(place, torch.bfloat16) if wanted else nullcontext()
        self.about = {  # what must be the same for a checkpoint to fit
            "seed": seed,
            "settings": repr(replace(settings, compile=None)),
            "tasks": repr(sampler),
            "data": repr(tuple(batches.data.shape)),
        }
        self.prepare(loss)

    def prepare(self, loss: Any) -> None:
        """Optimisers, and the loss as one graph."""
        settings = self.settings
        self.optimisers = Optimisers(
            self.model, settings.rate, settings.muon, settings.decay
        )
        self.parts["optimisers"] = self.optimisers
        self.match = compiled(loss) if self.compile else loss

    def step(self, step: int) -> Tensor:
        """One update; what is kept of it stays on the device."""
        # data, transform, tasks
        x, task = self.batches.ask(self.batch, self.sampler, self.generator)
        with self.half:
            value = self.match(self.model, x, task)  # universal model, matching loss
        value.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        self.optimisers.step(self.settings.rate_at(step, self.steps))  # optimiser
        self.average.update(step)
        return facts_of([value.detach(), norm], task)


def facts_of(numbers: list[Tensor], task: Task) -> Tensor:
    """What is kept of a step, on the device: some numbers, then what was asked."""
    given = task.source.sum(1)
    asked = (
        given.float().mean(),
        task.target.sum(1).float().mean(),
        ((given == 0) & task.target.all(1)).float().mean(),
    )
    return torch.stack([number.float() for number in (*numbers, *asked)])


def _entry(
    window: list[Tensor],
    step: int,
    run: _Training,
    history: list[dict[str, Any]],
    folder: Path | None,
) -> dict[str, Any]:
    """The mean over some steps; stops if one of them went wrong."""
    facts = torch.stack(window).double().cpu()  # the one place that waits
    bad = (~facts[:, : run.kept].isfinite().all(1)).nonzero()
    if len(bad):
        first = int(bad[0])
        said = dict(zip(run.facts, facts[first].tolist(), strict=True))
        _stop(said, step - len(window) + first + 1, folder)
    before = history[-1]["targets"] if history else 0
    means = dict(zip(run.facts, facts.mean(0).tolist(), strict=True))
    asked = facts[:, run.facts.index("target")].sum().item() * run.batch
    kept = {name: means[name] for name in run.facts[: run.kept]}
    return {"step": step, **kept, "targets": before + round(asked)}


def _stop(said: dict[str, float], step: int, folder: Path | None) -> None:
    back = "no checkpoint was kept"
    if folder is not None:
        there = folder / CHECKPOINT
        back = f"the last good checkpoint is {there}" if there.exists() else back
    rest = {k: v for k, v in said.items() if k not in ("loss", "norm")}
    worse = [f", {k} {v}" for k, v in rest.items() if not math.isfinite(v)]
    raise TrainingError(
        f"The loss is {said['loss']} and its gradient {said['norm']}"
        f"{''.join(worse)} at step {step}, "
        f"with {said['source']:.2f} source and {said['target']:.2f} target tokens a "
        f"row and {said['joint']:.0%} joint tasks; {back}. Lower the rate, or look at "
        "the data of that step."
    )
