"""Every kind of question about sums, and how far a model's answers are from exact ones.

The law of `sums` is a table of 10,000 sequences, so each of its conditionals
`q(x_T | x_S)` is a sum over rows, and so is the distance of a model from it. With
`C_i = S` and the targets before `t_i` where the model answers token by token, from left
to right (`autoregressive`), and `C_i = S` where it answers all at once (`factorised`),

    E_{q(x_S)} KL[q(x_T | x_S) || p(x_T | x_S)]
      = sum_i E_q log [q(x_{t_i} | x_{C_i}) / p(x_{t_i} | x_{C_i})]
        + sum_i H(x_{t_i} | x_{C_i}) - H(x_T | x_S)

The last line is 0 token by token (the chain rule); all at once it is what the targets
know of each other, which no model that answers so can learn. Nothing is sampled. Each
sum runs over what differs in `C_i` and `t_i` only, and tasks share the questions of one
token that they have in common: answering forwards is the end of free sampling.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from biglearn_lite._task_checks import whole
from biglearn_lite.data import Law
from biglearn_lite.tasks import Task

__all__ = [
    "QUESTIONS",
    "LeftToRight",
    "as_task",
    "ask",
    "entropy",
    "exact_kl",
    "exact_log_prob",
]

# S given, T asked for, . absent, in the order a1 a2 + b1 b2 = s1 s2 s3. The signs say
# nothing: they are given in the conditionals, absent in the marginals, and asked for
# where everything is.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "forwards": ("SSSSSSTTT",),
    "backwards": ("TTSTTSSSS",),
    "missing operand": ("TTSSSSSSS", "SSSTTSSSS"),
    "free sampling": ("TTTTTTTTT",),
    "marginals": (
        "TT.......",  # the first number
        "...TT....",  # the second
        "......TTT",  # the sum
        "T..T.....",  # first digits
        ".T..T...T",  # last digits
        "TT....TTT",  # a number and the sum
    ),
    "one digit": (
        "TSSSSSSSS",
        "STSSSSSSS",
        "SSSTSSSSS",
        "SSSSTSSSS",
        "SSSSSSTSS",
        "SSSSSSSTS",
        "SSSSSSSST",
    ),
    # drawn once from all 3^9 - 2^9 tasks, each equally likely: no objective trains so
    "any": (
        "TTSSTTTS.",
        "..SS.STTS",
        "S.TSSTTST",
        "TST..S..S",
        "...STT...",
        "TST..TTTS",
        "T..T.S.TT",
        "SSTS..S..",
        "SSTSSTSTT",
        ".S.TTS.SS",
        "TTTTS.SS.",
        ".T.S.T.T.",
        ".SS.T.T..",
        "TS...TST.",
        "TS.T.S...",
        ".TTSTTSTS",
    ),
}


def as_task(rows: Task | str | Sequence[str]) -> Task:
    """A task from letters, one string a row: S source, T target, a dot for absent.

    Raises:
        ValueError: for another letter, rows of different lengths, or a row without T.
    """
    if isinstance(rows, Task):
        return rows
    rows = [rows] if isinstance(rows, str) else list(rows)
    if (
        not all(rows)
        or len({len(row) for row in rows}) != 1
        or set("".join(rows)) - set("ST.")
    ):
        raise ValueError(
            f"A task is written with S, T and dots, in rows of one length, not {rows}; "
            "for instance 'SSSSSSTTT'."
        )
    source, target = (
        torch.tensor([[letter == role for letter in row] for row in rows])
        for role in "ST"
    )
    return Task(source, target)


def exact_log_prob(law: Law, task: Task | str) -> Tensor:
    """`log q(x_T | x_S)` of every row of the law, in nats, by adding up its table.

    Args:
        law: as `load("sums")` gives it.
        task: a single one, the same for all rows.

    Returns:
        (N,) float64.

    Raises:
        ValueError: if there is more than one task, or it has another length.
    """
    (letters,) = _letters(law, task, most=1)
    given, both = (_share(law, letters, roles) for roles in ("S", "ST"))
    return both.log() - given.log()


def entropy(law: Law, task: Task | str | Sequence[str]) -> float:
    """`H(x_T | x_S)` in nats; of several tasks the mean. What a KL can be held against.

    Raises:
        ValueError: if the tasks have another length than the law.
    """
    each = [
        -(law.probabilities * exact_log_prob(law, letters)).sum().item()
        for letters in _letters(law, task)
    ]
    return sum(each) / len(each)


def exact_kl(
    model: Any,
    law: Law,
    task: Task | str | Sequence[str],
    reading: str = "autoregressive",
) -> float:
    """`E_{q(x_S)} KL[q(x_T | x_S) || p(x_T | x_S)]` in nats; of several tasks the mean.

    Args:
        model: has `token_log_prob(x, source, target) -> (B, L)`. A `LeftToRight` model
            may not be able to answer: then the result is NaN.
        law: as `load("sums")` gives it.
        task: a `Task`, or its letters.
        reading: `"autoregressive"`, targets from left to right, or `"factorised"`.

    Raises:
        ValueError: for another reading, or a task of another length than the law.
    """
    return ask(model, law, {"this": task}, reading)["this"]


def ask(
    model: Any,
    law: Law,
    questions: Mapping[str, Task | str | Sequence[str]] | None = None,
    reading: str = "autoregressive",
    rows: int | None = None,
) -> dict[str, float]:
    """How far a model is from the exact answer to every kind of question.

    Args:
        model: as for `exact_kl`.
        law: as `load("sums")` gives it.
        questions: name -> tasks; None is `QUESTIONS`.
        reading: as for `exact_kl`.
        rows: None is exact, and some 300,000 rows of tokens for the network. A number
            is the most rows for one token in one context: of more, so many are taken
            at equal steps of probability. Nothing is drawn, but it is an estimate.

    Returns:
        name -> KL in nats, the mean over the tasks of that kind.

    Raises:
        ValueError: as `exact_kl`.
    """
    questions = QUESTIONS if questions is None else questions
    tasks = {name: _letters(law, task) for name, task in questions.items()}
    steps = {task: _steps(task, reading) for each in tasks.values() for task in each}
    needed = list(dict.fromkeys(step for each in steps.values() for step in each))
    most = None if rows is None else whole("rows", rows)
    distance = _distances(model, law, needed, most)
    kl = {
        task: sum(distance[step] + entropy(law, step) for step in steps[task])
        - entropy(law, task)
        for task in steps
    }
    return {
        name: sum(kl[task] for task in each) / len(each) for name, each in tasks.items()
    }


class LeftToRight:
    """A causal model, which answers only what continues a sequence from its start.

    Args:
        model: has `token_log_prob(x) -> (B, L)`, each token given all before it.
    """

    def __init__(self, model: Any) -> None:
        self.model = model

    def answers(self, step: str) -> bool:
        """Whether everything before the one target is given, and nothing after it."""
        return (
            set(step.partition("T")[0]) <= {"S"} and "S" not in step.partition("T")[2]
        )

    def token_log_prob(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """`log p(x_t | x_1 ... x_{t-1})` at the targets, 0 elsewhere."""
        return self.model.token_log_prob(x).masked_fill(~target, 0.0)


def _letters(
    law: Law, task: Task | str | Sequence[str], most: int | None = None
) -> list[str]:
    """A string a row, after checking that the tasks fit the law."""
    task = as_task(task)
    length = law.tokens.shape[1]
    if task.length != length:
        raise ValueError(
            f"A task on this law has {length} tokens, not {task.length}; give each its "
            "role."
        )
    if most is not None and len(task) != most:
        raise ValueError(f"This needs a single task, not {len(task)}; choose task[i].")
    codes = (task.source * 1 + task.target * 2).tolist()
    return ["".join(".ST"[code] for code in row) for row in codes]


def _steps(letters: str, reading: str) -> list[str]:
    """The questions of one token that make up a task."""
    if reading not in ("autoregressive", "factorised"):
        raise ValueError(
            f"reading is 'autoregressive' or 'factorised', not {reading!r}."
        )
    steps, known = [], letters.replace("T", ".")
    for place in [i for i, letter in enumerate(letters) if letter == "T"]:
        steps.append(known[:place] + "T" + known[place + 1 :])
        if reading == "autoregressive":
            known = known[:place] + "S" + known[place + 1 :]
    return steps


def _group(law: Law, letters: str, roles: str) -> tuple[Tensor, Tensor]:
    """Groups that agree on the tokens with these roles: of each row, (N,), and (G,)."""
    places = [i for i, letter in enumerate(letters) if letter in roles]
    symbols = int(law.tokens.max()) + 1
    if symbols ** len(places) > 2**62:
        raise ValueError(
            f"{len(places)} tokens of {symbols} symbols are too many to enumerate; "
            "take a law on fewer."
        )
    worth = symbols ** torch.arange(len(places), device=law.tokens.device)
    codes = (law.tokens[:, places] * worth).sum(1)
    shown, group = torch.unique(codes, return_inverse=True)
    share = law.probabilities.new_zeros(len(shown))
    return group, share.index_add_(0, group, law.probabilities)


def _share(law: Law, letters: str, roles: str) -> Tensor:
    """The probability of each row's tokens with these roles: (N,)."""
    group, share = _group(law, letters, roles)
    return share[group]


def _distinct(law: Law, step: str, most: int | None) -> tuple[Tensor, ...]:
    """Rows that differ in a step's tokens, their roles, weights, `log q(x_t | x_C)`."""
    group, share = _group(law, step, "ST")
    rows = torch.arange(len(group), device=group.device)
    first = torch.full_like(share, len(group), dtype=torch.int64)
    first.scatter_reduce_(0, group, rows, "amin")
    if most is not None and most < len(share):
        places = (torch.arange(most, device=share.device) + 0.5) / most * share.sum()
        first = first[torch.searchsorted(share.cumsum(0), places)]
        share = torch.full_like(share[:most], 1 / most)
    x, task = law.tokens[first], as_task(step).to(group.device)
    source, target = (mask.expand_as(x) for mask in (task.source, task.target))
    return x, source, target, share, exact_log_prob(law, step)[first]


def _distances(
    model: Any, law: Law, steps: list[str], most: int | None
) -> dict[str, float]:
    """The KL of each question of one token; NaN where the model does not answer."""
    answers = getattr(model, "answers", lambda step: True)
    asked = [step for step in steps if answers(step)]
    batches = [_distinct(law, step, most) for step in asked]
    result = dict.fromkeys(steps, math.nan)
    if asked:
        *batch, weights, exact = map(torch.cat, zip(*batches, strict=True))
        terms = weights * (exact - _said(model, *batch).to(weights.device))
        parts = terms.split([len(batch[0]) for batch in batches])
        result |= {s: part.sum().item() for s, part in zip(asked, parts, strict=True)}
    return result


def _said(model: Any, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """`log p` of every row's target, float64, some rows at a time."""
    device = x.device
    if isinstance(model, nn.Module) and any(True for _ in model.parameters()):
        device = next(model.parameters()).device
    rows = 512 if device.type == "cpu" else 16384  # what fits a cache, or fills a GPU
    parts = list(
        zip(x.split(rows), source.split(rows), target.split(rows), strict=True)
    )
    with _evaluating(model), torch.no_grad():
        said = [
            model.token_log_prob(*(each.to(device) for each in part)).sum(1)
            for part in tqdm(parts, "asking", leave=False, disable=None, delay=2)
        ]
    return torch.cat(said).cpu().double()


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Without dropout, and back to how it was."""
    training = getattr(model, "training", False)
    if training:
        model.eval()
    try:
        yield
    finally:
        if training:
            model.train()
