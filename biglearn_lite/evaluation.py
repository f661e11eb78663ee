"""What is measured of a trained model, by the name that a recipe gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from biglearn_lite import questions
from biglearn_lite._face_report import check_face_judges
from biglearn_lite._images import bits_per_dimension
from biglearn_lite._judged import (
    SEED,
    judges_of,
    label_judges,
    of_images,
    real_images,
    ways,
)
from biglearn_lite._label_report import label_report
from biglearn_lite._labelled import label_numbers
from biglearn_lite._novelty import novelty
from biglearn_lite._prepare import Prepared
from biglearn_lite._report import (
    Asked,
    Features,
    check_length,
    device_of,
    spread_rows,
)
from biglearn_lite._sums import Law
from biglearn_lite.data import FACE_SIZES, load
from biglearn_lite.likelihood import CausalTransformer, random_order
from biglearn_lite.metrics import acceptance, face_report, image_report
from biglearn_lite.tasks import Task, TaskSampler, masked_autoencoder

if TYPE_CHECKING:
    from biglearn_lite._recipe_file import EvaluatePart

__all__ = ["MEASURES", "bits_in_order", "looks", "measure", "nats_a_target"]

SEEN = ("accepted", "ratio")  # of joint samples, by a watcher


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
    for name, least in {"rows": 1, "samples": 1, "every": 0, "seen": 0}.items():
        if getattr(part, name) < least:
            raise ValueError(
                f"evaluate.{name} must be at least {least}, got {getattr(part, name)}."
            )


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
        parts = law.tokens.to(device_of(model)).split(2048)
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
    x = test_tokens(prepared, part.rows).to(device_of(model))
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


def test_tokens(prepared: Prepared, rows: int) -> Tensor:
    """Tokens of test rows spread over the whole test set; noise is always the same."""
    test = prepared.test
    keep = spread_rows(len(test), rows)
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


def images(model: nn.Module, prepared: Prepared, part: EvaluatePart) -> dict[str, Any]:
    """The report on a model of images (`metrics.image_report`), by recorded judges.

    Of an image-label model it is that of its images, with labels absent.
    """
    record = judges_of(prepared)
    facts = {"judges": record.provenance["recipe_sha256"]}
    return facts | image_report(
        of_images(model, prepared),
        record.model,
        *real_images(prepared, record.model),
        torch.Generator().manual_seed(SEED),
        **ways(prepared),
        samples=part.samples,
        rows=part.rows,
    )


def drawn_faces(
    model: nn.Module, prepared: Prepared, part: EvaluatePart
) -> dict[str, Any]:
    """The same of drawn faces, and under `"law"` what `metrics.face_report` says."""
    judges = judges_of(prepared).model
    _, test, attributes = real_images(prepared, judges)
    law = face_report(
        of_images(model, prepared),
        judges,
        test,
        attributes,
        torch.Generator().manual_seed(SEED),
        **ways(prepared),
        samples=part.samples,
        rows=part.rows,
    )
    return images(model, prepared, part) | {"law": law}


def image_labels(
    model: nn.Module, prepared: Prepared, part: EvaluatePart
) -> dict[str, Any]:
    """The report on an image-label model, see `label_report`.

    What it generates is read by recorded judges, if they read all its labels; and
    images of `part.novel`, if there are some, are told from those of its own kind.
    """
    train, test, labels = real_images(prepared)
    numbers, noise = label_numbers(labels), torch.Generator().manual_seed(SEED)
    x = prepared.domain.transform(prepared.test, noise, numbers)
    record = label_judges(prepared)
    asked = Asked(
        model,
        record.model.eval() if record else None,
        **ways(prepared, labels=True),
        generator=torch.Generator().manual_seed(SEED),
        chunk=512,
    )
    facts = {"judges": record.provenance["recipe_sha256"]} if record else {}
    facts |= label_report(
        asked, train, test, x, numbers, part.rows, part.samples, seen=part.seen
    )
    if part.novel:
        facts["novelty"] = told_apart(model, prepared, part)
    return facts


def told_apart(
    model: nn.Module, prepared: Prepared, part: EvaluatePart
) -> dict[str, Any]:
    """What an image-label model says of test images of the data `part.novel`.

    Up to `rows` each of training images, of test images and of the others; no label is
    read, and the noise is always the same. See `metrics.novelty`.
    """
    sets = prepared.train, prepared.test, _novel(prepared, part)
    train, known, other = (
        prepared.domain.transform(
            images[spread_rows(len(images), part.rows)],
            torch.Generator().manual_seed(SEED),
        )
        for images in sets
    )
    facts = novelty(model, train, known, other, prepared.domain.levels)
    return {"of": part.novel, **facts}


def _novel(prepared: Prepared, part: EvaluatePart) -> Tensor:
    """Images of another kind, which have the shape of those that were learned."""
    other = getattr(load(part.novel, "test"), "images", torch.empty(0))
    shape = tuple(prepared.test.shape[1:])
    if other.shape[1:] != shape:
        raise ValueError(
            f"evaluate.novel names images of {shape}, as those of {prepared.name!r} "
            f"are, and {part.novel!r} has {tuple(other.shape[1:])}."
        )
    return other


def check_ready(prepared: Prepared, part: EvaluatePart) -> None:
    """What a measure needs is asked for before training, not when it is over.

    Raises:
        ValueError: if images are to be judged, and the data are none, the judges are
            of other images, or their patches are not the model's tokens; if the law of
            drawn faces is asked for, and the data are not those; if labels are to be
            measured, and there are none in the sequence.
        FileNotFoundError: if there is no record of judges.
    """
    layout, asked = prepared.domain.layout, part.measure == "image-label"
    if asked and layout is None:
        raise ValueError("evaluate.measure 'image-label' needs data.labels = true.")
    if part.measure == "novelty" and not part.novel:
        raise ValueError(
            "evaluate.measure 'novelty' needs evaluate.novel: other images."
        )
    if part.novel and (layout is None or layout.labels > 1):
        raise ValueError(
            "evaluate.novel is asked of a model of images with a class: it needs "
            "data.labels = true, and data of which each image has one label."
        )
    if part.novel:
        _novel(prepared, part)
    judged = part.measure in JUDGED or part.every
    record = label_judges(prepared) if asked and not judged else None
    if not judged and record is None:
        return
    judges = (record or judges_of(prepared)).model
    kind = prepared.domain.name
    if kind not in ("scaled", "patches"):
        what = "symbols" if prepared.domain.symbols else kind
        raise ValueError(
            f"Judges read patches of values, and these tokens are {what}; take "
            "data.tokens = 'scaled' or 'patches'."
        )
    if judges.config.shape != (found := tuple(prepared.test.shape[1:])):
        raise ValueError(
            f"The judges of {prepared.name!r} read images of {judges.config.shape}, "
            f"and these are of {found}; take data of that size."
        )
    check_length(prepared.domain.image, judges)
    if part.measure == "faces":
        if prepared.name not in FACE_SIZES:
            raise ValueError(
                "evaluate.measure = 'faces' is about drawn faces, whose law is known, "
                f"and data.name is {prepared.name!r}; take 'images', or 'faces32'."
            )
        check_face_judges(judges)


def watcher(
    prepared: Prepared, part: EvaluatePart
) -> Callable[[int, nn.Module], dict[str, float]] | None:
    """What looks at joint samples every so many steps of training, or None."""
    if not part.every:
        return None
    look = _Look(prepared, part)
    return lambda step, model: {} if step % part.every else look(model)


def looks(history: Sequence[Mapping[str, float]]) -> list[dict[str, float]]:
    """Of a history, what `watcher` saw, and at which steps."""
    seen = ("step", *SEEN)
    return [{k: e[k] for k in seen} for e in history if SEEN[0] in e]


class _Look:
    """Joint samples at a glance: how many are accepted, how far away they are."""

    def __init__(self, prepared: Prepared, part: EvaluatePart) -> None:
        self.prepared, self.judges = prepared, judges_of(prepared).model
        train, test, _ = real_images(prepared, self.judges)
        # the rows of the report, so that the last look is an estimate of its numbers
        test = test[spread_rows(len(test), part.rows)]
        self.rows = len(test)
        self.space = Features(self.judges, train, test, draws=20)

    def __call__(self, model: nn.Module) -> dict[str, float]:
        made = self._joint(model, 4 * self.rows if self.rows < 1000 else self.rows)
        attributes = bool(self.judges.config.attributes)
        sure = acceptance(made, self.judges.look, attributes=attributes)
        facts = sure, self.space.compare(made).ratio
        return dict(zip(SEEN, facts, strict=True))

    def _joint(self, model: nn.Module, rows: int) -> Tensor:
        asked = Asked(
            model,
            self.judges,
            **ways(self.prepared, labels=True),
            generator=torch.Generator().manual_seed(SEED),
            chunk=512,
        )
        return asked.joint(rows, self.prepared.test.shape[1:])


def nothing(model: nn.Module, prepared: Prepared, part: EvaluatePart) -> dict[str, Any]:
    """No measurement."""
    return {}


Measure = Callable[[nn.Module, Prepared, Any], dict[str, Any]]
MEASURES: dict[str, Measure] = {
    "none": nothing,
    "questions": answers,
    "questions, estimated": estimates,
    "bits": bits,
    "images": images,
    "faces": drawn_faces,
    "image-label": image_labels,
    "novelty": told_apart,
}
JUDGED = ("images", "faces")
