"""Completions of drawn faces, held against the exact law of their attributes.

Each region of a face shows a known set of attributes, so what it says of the hidden
ones is known exactly (`faces.truth`). A model completes the region, a judge reads what
it drew, and the frequencies must be the probabilities. Three others are measured in the
same way, so that every number can be read: a perfect sampler that draws as often, the
real faces as the judge reads them (what is left is its errors, and chance), and the
real faces as they are (chance alone; each has one draw a row).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from biglearn_lite._faces_law import ATTRIBUTES, attribute_law
from biglearn_lite._faces_regions import REGIONS, region_mask, revealed
from biglearn_lite._judges import Judges
from biglearn_lite._readings import AGAIN, agrees, by_name, read, uncertain_facts
from biglearn_lite._report import (
    Asked,
    check_labels,
    check_length,
    guessed,
    spread_rows,
)
from biglearn_lite._sampled_law import (
    Reliability,
    pair_distances,
    pooled_kl,
    sampled_calibration,
    some,
)

__all__ = ["check_face_judges", "face_report"]

ALL = "all regions"


def face_report(
    model: Any,
    judges: Judges,
    test: Tensor,
    attributes: Tensor,
    generator: Generator | None = None,
    *,
    tokens: Callable[[Tensor], Tensor] | None = None,
    restore: Callable[[Tensor], Tensor] | None = None,
    completions: int = 4,
    samples: int = 5120,
    rows: int = 2000,
    draws: int = 20,
    chunk: int = 512,
) -> dict[str, Any]:
    """Ask a universal model of drawn faces for what each region hides.

    Args:
        model: has `.length` and `.sample(x, task, generator)`, see `image_report`.
        judges: of drawn faces; they read all of `faces.ATTRIBUTES`.
        test: (N, 3, H, W) drawn faces in [0, 1].
        attributes: (N, A) bool, theirs.
        generator: of the model's noise.
        tokens: images -> tokens of the model; None: `patchify`.
        restore: tokens -> images; None: `unpatchify`.
        completions: `K` of each region of each face.
        samples: joint ones.
        rows: test faces at most, spread over all of them.
        draws: simulations of the perfect sampler.
        chunk: rows that the model is asked for at a time.

    Returns:
        Plain numbers. `"regions"`: for each of `faces.REGIONS`, the upper and the lower
        half, and all of these together,

        - of `"completions"`, `"perfect"`, `"real, read"` and `"real"`: the calibration
          error over rows and hidden attributes (`sampled_calibration`), the KL in nats
          (`pooled_kl`), and the share of what the law excludes and was drawn all the
          same (`"impossible"`);
        - the agreement with the faces' own attributes, that of a perfect sampler,
          exactly (`E sum_v p(v)^2`), and the difference in points: over all hidden
          attributes, and over the uncertain ones;
        - the mean absolute error of the judge's `guess` (`"guess error"`);
        - the arrays of a reliability diagram of the completions.

        `"joint"`: of joint samples and of the same three others, distances of all
        pairs of attributes (`pair_distances`) and of each alone, mean and largest, and
        the share of faces that the law excludes.

    Raises:
        ValueError: if the judges or the attributes are not those of drawn faces, or
            the model's tokens are no whole cells of the regions.
    """
    check_length(model.length, judges)
    check_face_judges(judges)
    check_labels(attributes, judges)
    asked = Asked.of(model, judges, tokens, restore, generator, chunk)
    kept = spread_rows(len(test), rows)
    test, attributes = test[kept], attributes[kept]
    seen = read(test, judges).bool()
    found = _regions(asked, test, attributes, seen, completions, draws)
    joint = read(asked.joint(samples, test.shape[1:]), judges).bool()
    return {
        "rows": len(test),
        "regions": found,
        "joint": _joint(joint, seen, attributes, draws),
    }


def check_face_judges(judges: Judges) -> None:
    """Raise a ValueError if judges do not read what the law of faces is about."""
    if judges.config.attributes != ATTRIBUTES:
        raise ValueError(
            f"The law of drawn faces is one of {', '.join(ATTRIBUTES)}, and these "
            f"judges read {', '.join(judges.config.attributes) or 'one class'}; use "
            "judges of all attributes of drawn faces."
        )
    sources(judges.config.length)


def sources(length: int) -> dict[str, Tensor]:
    """What is given: every region, and the halves that show what they touch, (L,).

    The left half is no source, since it cuts through what the middle may show.
    """
    side = math.isqrt(length)
    found = {name: region_mask(name, side) for name in REGIONS}
    upper = torch.arange(side**2) < side**2 // 2
    return found | {"upper half": upper, "lower half": ~upper}


@dataclass(frozen=True)
class Question:
    """What is asked of the hidden attributes of some faces, and its exact answer.

    Attributes:
        attributes: (B, A) of the faces.
        hidden: (B, A), where the source does not show it.
        probability: (B, A) exact, of yes.
        groups: (B,), one number for all faces that show the same.
    """

    attributes: Tensor
    hidden: Tensor
    probability: Tensor
    groups: Tensor

    @classmethod
    def of(cls, attributes: Tensor, visible: Tensor) -> Question:
        """What a visible part (L,) leaves open."""
        shown = revealed(attributes, visible)
        probability = attribute_law().posterior(attributes, shown)
        keys = torch.cat([attributes & shown, shown], 1)
        groups = keys.unique(dim=0, return_inverse=True)[1]
        return cls(attributes, ~shown, probability, groups)

    def law(self) -> Tensor:
        """Log probabilities of no and yes, of hidden attributes: (hidden, 2)."""
        p = self.probability[self.hidden]
        return torch.stack([1 - p, p], 1).log()


def _joined(questions: Sequence[Question]) -> Question:
    """All of them as one."""
    parts = [(q.attributes, q.hidden, q.probability) for q in questions]
    ends = torch.tensor([int(q.groups.max()) + 1 for q in questions]).cumsum(0)
    starts = [0, *ends[:-1].tolist()]
    groups = [q.groups + start for q, start in zip(questions, starts, strict=True)]
    return Question(*map(torch.cat, zip(*parts, strict=True)), torch.cat(groups))


def _regions(
    asked: Asked,
    test: Tensor,
    attributes: Tensor,
    seen: Tensor,
    completions: int,
    draws: int,
) -> dict[str, Any]:
    """Each source by itself, and all together."""
    questions: dict[str, Question] = {}
    drawn: dict[str, list[Tensor]] = {}
    guesses: dict[str, Tensor] = {}
    fixed = Generator().manual_seed(AGAIN)
    for name, visible in sources(asked.model.length).items():
        source = visible.expand(len(test), -1)
        made = [asked.complete(test, source) for _ in range(completions)]
        shown = torch.stack([read(each, asked.judges) for each in made]).bool()
        questions[name] = Question.of(attributes, visible)
        perfect = _perfect(questions[name], draws * completions, fixed)
        drawn[name] = [shown, perfect, seen[None], attributes[None]]
        guesses[name] = guessed(asked.judges, test, source)[..., 1].exp()
    questions[ALL] = _joined(list(questions.values()))
    drawn[ALL] = [torch.cat(each, 1) for each in zip(*drawn.values(), strict=True)]
    guesses[ALL] = torch.cat(list(guesses.values()))
    return {
        name: _region(questions[name], drawn[name], guesses[name], completions)
        for name in questions
    }


def _perfect(question: Question, times: int, generator: Generator) -> Tensor:
    """What a perfect sampler draws, so often for each row: (times, B, A)."""
    many = question.attributes.repeat(times, 1), ~question.hidden.repeat(times, 1)
    drawn = attribute_law().complete(*many, generator)
    return drawn.view(times, *question.attributes.shape)


def _region(
    question: Question, drawn: list[Tensor], guess: Tensor, completions: int
) -> dict[str, Any]:
    """Numbers of one source."""
    shown, perfect, seen, real = drawn
    hidden, law = question.hidden, question.law()
    simulated = [_facts(question, each) for each in perfect.split(completions)]
    labels, answers = question.attributes[hidden], shown[:, hidden]
    error = (guess - question.probability)[hidden].abs().mean().item()
    return {
        "hidden": hidden.double().sum(1).mean().item(),
        "completions": _facts(question, shown),
        "perfect": _mean_facts(simulated),
        "real, read": _facts(question, seen),
        "real": _facts(question, real),
        **agrees(labels, answers, law),
        "uncertain": uncertain_facts(labels, answers, law),
        "guess error": error,
        "reliability": {
            name: values.tolist()
            for name, values in _reliability(question, shown)._asdict().items()
            if name != "error"
        },
    }


def _reliability(question: Question, drawn: Tensor) -> Reliability:
    hidden = question.hidden
    return sampled_calibration(
        question.probability[hidden], drawn.double().mean(0)[hidden]
    )


def _facts(question: Question, drawn: Tensor) -> dict[str, float]:
    """Of draws (K, B, A): calibration, KL, and how often what cannot be was drawn."""
    asked = torch.where(question.hidden, question.probability, math.nan)
    certain = (asked == 0) | (asked == 1)
    wrong = (drawn != (asked == 1)) & certain
    return {
        "calibration error": _reliability(question, drawn).error,
        "kl": pooled_kl(drawn, asked, question.groups),
        "impossible": wrong.double().mean(0).sum().item() / some(certain),
    }


def _mean_facts(facts: Sequence[dict[str, float]]) -> dict[str, float]:
    """The mean of each number."""
    return {name: sum(each[name] for each in facts) / len(facts) for name in facts[0]}


def _joint(
    drawn: Tensor, seen: Tensor, real: Tensor, draws: int
) -> dict[str, dict[str, Any]]:
    """Attributes of whole faces: of samples, of a perfect sampler, of test faces."""
    law, fixed = attribute_law(), Generator().manual_seed(AGAIN)
    perfect = [_joint_facts(law.sample(len(drawn), fixed)) for _ in range(draws)]
    names = "samples", "real, read", "real"
    sets = dict(zip(names, (drawn, seen, real), strict=True))
    found: dict[str, dict[str, Any]] = {n: _joint_facts(x) for n, x in sets.items()}
    found["perfect"] = _mean_facts(perfect)
    found["attribute shares"] = by_name(ATTRIBUTES, drawn.double().mean(0))
    found["attribute shares, exact"] = by_name(ATTRIBUTES, law.marginals())
    found["samples"]["worst pair"] = _worst_pair(drawn)
    return found


def _joint_facts(attributes: Tensor) -> dict[str, float]:
    """Distances of pairs and of marginals, and how much cannot be."""
    law, count = attribute_law(), len(ATTRIBUTES)
    far = pair_distances(attributes, law)
    pairs, alone = far[*torch.triu_indices(count, count, 1)], far.diagonal()
    return {
        "pair distance": pairs.mean().item(),
        "largest pair distance": pairs.max().item(),
        "marginal distance": alone.mean().item(),
        "largest marginal distance": alone.max().item(),
        "impossible": law.log_prob(attributes).isinf().double().mean().item(),
    }


def _worst_pair(attributes: Tensor) -> list[str]:
    """Names of the two attributes whose joint law is furthest away."""
    far = pair_distances(attributes, attribute_law()).triu(1)
    one, other = divmod(int(far.argmax()), len(ATTRIBUTES))
    return [ATTRIBUTES[one], ATTRIBUTES[other]]
