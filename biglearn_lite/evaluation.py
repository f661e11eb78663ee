"""What is measured of a trained likelihood model, by the name a recipe gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from biglearn_lite import questions
from biglearn_lite._images import bits_per_dimension
from biglearn_lite._prepare import Prepared
from biglearn_lite._sums import Law
from biglearn_lite.likelihood import CausalTransformer, random_order
from biglearn_lite.tasks import Task, TaskSampler, masked_autoencoder

if TYPE_CHECKING:
    from biglearn_lite._recipe_file import EvaluatePart

__all__ = ["MEASURES", "bits_in_order", "measure", "nats_a_target"]

SEED = 1234  # of tasks, orders and noise, so that all models are asked the same


def measure(model: nn.Module, prepared: Prepared, part: EvaluatePart) -> dict[str, Any]:
    """The metrics that a recipe asks for.

    Raises:
        ValueError: for an unknown measure.
    """
    check_measure(part)
    with torch.no_grad():
        return MEASURES[part.measure](model.eval(), prepared, part)


def check_measure(part: EvaluatePart) -> None:
    """Raise a ValueError if there is no such measure, or nothing to measure on."""
    if part.measure not in MEASURES:
        raise ValueError(
            f"evaluate.measure is one of {sorted(MEASURES)}, got {part.measure!r}."
        )
    if part.rows < 1:
        raise ValueError(f"evaluate.rows must be at least 1, got {part.rows}.")


def answers(model: nn.Module, prepared: Prepared, part: EvaluatePart) -> dict[str, Any]:
    """Exact KL in nats of every kind of question about a known law.

    Those with a name are exact; "any", and the factorised reading, take `rows` contexts
    of each token at equal steps of probability. A left-to-right model has an answer to
    one of them only.
    """
    law = _known_law(prepared)
    joint = Task.joint(1, prepared.domain.length)
    facts = {"entropy": questions.entropy(law, joint)}
    if isinstance(model, CausalTransformer):
        parts = law.tokens.to(_device(model)).split(2048)
        said = torch.cat([model.log_prob(x) for x in parts]).cpu().double()
        q = law.probabilities
        return facts | {"free sampling": (q * (q.log() - said)).sum().item()}
    named = {name: task for name, task in questions.QUESTIONS.items() if name != "any"}
    rest = {"any": questions.QUESTIONS["any"]}
    exact = questions.ask(model, law, named)
    facts["autoregressive"] = exact | questions.ask(model, law, rest, rows=part.rows)
    facts["factorised"] = questions.ask(
        model, law, reading="factorised", rows=part.rows
    )
    return facts


def estimates(
    model: nn.Module, prepared: Prepared, part: EvaluatePart
) -> dict[str, Any]:
    """The same, token by token, from `rows` contexts of each token: seconds."""
    law = _known_law(prepared)
    return {"autoregressive": questions.ask(model, law, rows=part.rows)}


def _known_law(prepared: Prepared) -> Law:
    if prepared.law is None:
        raise ValueError("Questions need a law that is known: use the data 'sums'.")
    return prepared.law


def bits(model: nn.Module, prepared: Prepared, part: EvaluatePart) -> dict[str, Any]:
    """Bits per dimension of test rows in several orders, and nats a target of tasks.

    `half`: tasks with `|S| + |T| <= L / 2`; `any`: tasks from everything; `quarter`:
    three quarters of the tokens from the rest, read both ways.
    """
    x = test_tokens(prepared, part.rows).to(_device(model))
    facts = {"left to right": bits_in_order(model, x, prepared)}
    if isinstance(model, CausalTransformer):
        return facts
    generator = torch.Generator().manual_seed(SEED)
    order = random_order(len(x), model.length, generator)
    facts["random order"] = bits_in_order(model, x, prepared, order)
    facts["any"] = nats_a_target(model, x, any_tasks(model.length, len(x)))
    facts["half"] = nats_a_target(model, x, half_tasks(model.length, len(x)))
    hard = masked_autoencoder(model.length).sample(len(x), generator)
    facts["quarter"] = nats_a_target(model, x, hard)
    facts["quarter, factorised"] = nats_a_target(model, x, hard, "factorised")
    return facts


def _device(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


def test_tokens(prepared: Prepared, rows: int) -> Tensor:
    """Tokens of test rows spread over the whole test set; noise is always the same."""
    test = prepared.test
    keep = torch.linspace(0, len(test) - 1, min(rows, len(test))).round().long()
    return prepared.domain.transform(test[keep], torch.Generator().manual_seed(SEED))


def bits_in_order(
    model: nn.Module, x: Tensor, prepared: Prepared, order: Tensor | None = None
) -> float:
    """Bits per dimension of whole rows, their tokens taken in an order."""
    if isinstance(model, CausalTransformer):
        said = model.log_prob(x)
    else:
        task = Task.joint(len(x), model.length, x.device)
        said = model.log_prob(x, task, order=order)
    domain = prepared.domain
    found = bits_per_dimension(said.double(), domain.dimensions, domain.levels)
    return found.mean().item()


def nats_a_target(
    model: nn.Module, x: Tensor, task: Task, reading: str = "autoregressive"
) -> float:
    """Minus the mean log probability of a target token, in nats, over all rows."""
    said = model.log_prob(x, task.to(x.device), reading=reading).double()
    return (-said.sum() / task.target.sum().to(said.device)).item()


def any_tasks(length: int, rows: int) -> Task:
    """Tasks of every kind: source, target and absent tokens, all sizes."""
    sampler = TaskSampler(length, target_ratio=(1.0, 1.0))
    return sampler.sample(rows, torch.Generator().manual_seed(SEED))


def half_tasks(length: int, rows: int) -> Task:
    """Tasks that use at most half of the tokens: `|S| + |T| <= L / 2`."""
    generator = torch.Generator().manual_seed(SEED)
    place = random_order(rows, length, generator)
    share = torch.rand(2, rows, 1, generator=generator)
    most = length // 2
    target = (share[0] * most).ceil().clamp(1, most)
    source = (share[1] * (most - target + 1)).floor()
    return Task((place >= target) & (place < target + source), place < target)


def nothing(model: nn.Module, prepared: Prepared, part: EvaluatePart) -> dict[str, Any]:
    """No measurement."""
    return {}


Measure = Callable[[nn.Module, Prepared, Any], dict[str, Any]]
MEASURES: dict[str, Measure] = {
    "none": nothing,
    "questions": answers,
    "questions, estimated": estimates,
    "bits": bits,
}
