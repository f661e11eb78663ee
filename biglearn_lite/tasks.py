"""q(S, T): how often each task comes up, and the choices that make BERT, GPT, MAE.

`TaskSampler` is the law from which the tasks of a batch are drawn, and thereby their
weights in the objective of big learning (Big Cooperative Learning, arXiv 2407.21319).
The presets at the end of the module are the choices of `q(S, T)` under which one
universal model learns what BERT, GPT, MAE, a classifier and others learn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from biglearn_lite._counts import Counts, Ratio, share_law, share_table
from biglearn_lite._modalities import Modalities
from biglearn_lite._task import Task, all_tasks, count_tasks
from biglearn_lite._task_checks import (
    position_mask,
    require_rows,
    target_rate,
    whole,
)
from biglearn_lite._task_sampler import Sizes, TaskSampler

__all__ = [
    "Task",
    "TaskSampler",
    "all_tasks",
    "classification",
    "count_tasks",
    "joint_only",
    "masked_autoencoder",
    "masked_language_model",
    "modalities",
    "next_token",
    "one_of",
    "pair",
    "permutation",
    "prefix",
    "share_law",
]


class _Preset(TaskSampler):
    """A law of its own, so the parameters of the general law are None."""

    joint = marginal = source_ratio = target_ratio = None

    def __init__(self, length: int, name: str) -> None:
        self.length, self._name = length, name

    def __repr__(self) -> str:
        return self._name


class _LineSampler(_Preset):
    """A preset in which one count and an order of the tokens decide everything.

    Either the last `count` tokens in the order are the target and all before them the
    source, or (`one_target`) the token at place `count` is the target.
    """

    def __init__(
        self, name: str, table: np.ndarray, ordered: bool, one_target: bool
    ) -> None:
        super().__init__(table.shape[1], name)
        self._count = Counts(table)
        self._ordered, self._one_target = ordered, one_target

    def _sizes(self, n: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        count = self._count(n, noise[:, 0])
        if self._one_target:
            return count - 1, torch.ones_like(count)
        return n - count, count

    def _sizes_filling(self, n: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        if self._one_target:
            return n - 1, torch.ones_like(n)
        return self._sizes(n, noise)


class _FixedPair(_Preset):
    """A preset without chance: the same pair in every row, so no noise is drawn."""

    def __init__(self, name: str, task: Task) -> None:
        super().__init__(task.length, name)
        self._task = task

    def _prepare(self, batch: int, *given: Any) -> tuple[Tensor, Callable[[], None]]:
        available, _ = super()._prepare(batch, *given)
        return available, lambda: None

    def _require(self, observed: Tensor) -> None:
        super()._require(observed)
        require_rows(
            (self._task.to(observed.device).target & observed).any(1),
            "observes none of the target tokens, so this task cannot be shown; "
            "drop the row, or learn from it with a TaskSampler.",
        )

    def _draw(self, available: Tensor, noise: None, sizes: Sizes) -> Task:
        task = self._task.to(available.device)
        return Task._trusted(task.source & available, task.target & available)


class _TaskList(_Preset):
    """A preset that takes one of a few tasks, all equally often."""

    def __init__(self, tasks: Task) -> None:
        super().__init__(tasks.length, f"one_of({tasks!r})")
        self._tasks = tasks

    def _prepare(
        self, batch: int, generator: Any, device: Any, observed: Any, *checked: Any
    ) -> tuple[Tensor, Callable[[], Tensor]]:
        if observed is not None:
            raise ValueError(
                "one_of has fixed tasks, so it cannot keep inside what is observed; "
                "learn from incomplete data with a TaskSampler."
            )
        return super()._prepare(batch, generator, device, None)

    def _draw(self, available: Tensor, noise: Tensor, sizes: Sizes) -> Task:
        place = (noise[:, 0] * len(self._tasks)).long()
        return self._tasks.to(available.device)[place]

    def sample_pair(self, *arguments: Any, **options: Any) -> tuple[Task, Task]:
        return (task := self.sample(*arguments, **options)), task


def masked_language_model(length: int, rate: float = 0.15) -> TaskSampler:
    """BERT: each token is a target with probability `rate`, the source is the rest.

    Tokens are independent; should none be chosen, one uniformly chosen token is the
    target. So `|T| = max(1, K)` with `K` binomial, positions uniform. At `rate = 1`
    every task is the joint one. (BERT itself takes a fixed share and leaves some of the
    chosen tokens visible or replaces them, see Devlin et al. 2019; that is left out.)
    `observed`: the same among the observed tokens. Pairs: two independent draws.
    """
    rate = target_rate(rate)
    sizes = np.arange(whole("length", length) + 1)[:, None]  # (L + 1, 1)
    counts = np.arange(length)[None, :]  # (1, L)
    table = np.where(counts == 0, 0.0, stats.binom.cdf(counts, sizes, rate))
    name = f"masked_language_model(length={length}, rate={rate})"
    return _LineSampler(name, table, ordered=False, one_target=False)


def masked_autoencoder(length: int, rate: float = 0.75) -> TaskSampler:
    """MAE: a random source of fixed size, the rest is the target (He et al. 2022).

    `|S| = floor((1 - rate) n)` of `n` tokens, positions uniform, so at least one token
    is a target. `observed`: `n` is the number of observed tokens in the row. Pairs:
    two independent draws.
    """
    rate = target_rate(rate)
    sizes = np.arange(whole("length", length) + 1)[:, None]
    n_source = np.floor((1 - rate) * sizes + 1e-9)  # 10 * (1 - .9) is just below 1
    table = (np.arange(length)[None, :] >= sizes - n_source).astype(float)
    name = f"masked_autoencoder(length={length}, rate={rate})"
    return _LineSampler(name, table, ordered=False, one_target=False)


def next_token(length: int) -> TaskSampler:
    """GPT: one uniformly chosen target `t`; the source is every token before it.

    `observed`: `t` is uniform among the observed tokens and the source is the observed
    ones before it. Pairs: both tasks are the same, the union allows no other.
    """
    table = share_table(whole("length", length), (1.0, 1.0))
    name = f"next_token(length={length})"
    return _LineSampler(name, table, ordered=True, one_target=True)


def permutation(length: int) -> TaskSampler:
    """XLNet: as `next_token`, in a uniformly random order of the tokens.

    The number of source tokens is uniform on `0, ..., n - 1`, positions are uniform.
    `observed`: the order runs over the observed tokens. Pairs: each task takes its
    target uniformly from the common union.
    """
    table = share_table(whole("length", length), (1.0, 1.0))
    name = f"permutation(length={length})"
    return _LineSampler(name, table, ordered=False, one_target=True)


def prefix(length: int) -> TaskSampler:
    """Continue a sequence: the source is the first `k` tokens, the target the rest.

    `k` is uniform on `0, ..., n - 1`; `k = 0` is the joint task. `observed`: the first
    `k` of the observed tokens. Pairs: two independent draws.
    """
    table = share_table(whole("length", length), (1.0, 1.0))
    name = f"prefix(length={length})"
    return _LineSampler(name, table, ordered=True, one_target=False)


def joint_only(length: int) -> TaskSampler:
    """Conventional generative models: every task is the joint one.

    `observed`: the target is all that is observed. Pairs: twice the same task.
    """
    return TaskSampler(length, joint=1.0, marginal=0.0)


def classification(length: int, labels: Sequence[int]) -> TaskSampler:
    """A classifier: the target is the tokens at `labels`, the source all the rest.

    `labels` are positions, not a mask. `observed`: source and target are cut to what is
    observed; a row without any observed label is a ValueError. Pairs: twice the same
    task.
    """
    target = position_mask("labels", labels, whole("length", length))
    name = f"classification(length={length}, labels={target.nonzero()[:, 1].tolist()})"
    return _FixedPair(name, Task.conditional(~target, target))


def modalities(
    length: int,
    labels: int = 1,
    *,
    classification: float = 0.0,
    generation: float = 0.0,
    completion: float = 0.0,
    joint: float = 0.0,
    marginal: float = 0.0,
    within: float = 0.0,
    seen_ratio: Ratio = (1.0, 1.0),
    source_ratio: Ratio = (1.0, 1.0),
    target_ratio: Ratio | None = None,
    label_ratio: Ratio = (1.0, 1.0),
) -> TaskSampler:
    """An image `x` of `n` patches and, behind them, its labels `y`: tasks by kind.

    Each row is of one kind, with these shares as probabilities:

    - `classification`, `p(y | x_S)`: `|S| = ceil(r n)`, from one patch to the whole
      image, `r` from Beta(`seen_ratio`); of several labels `ceil(r' m)` are the target,
      `r'` from Beta(`label_ratio`), and the others are given;
    - `generation`, `p(x | y)`: `ceil(r' m)` of the labels are given, the others absent;
    - `completion`, `p(x_T | x_S, y)`: labels as in generation, and
      `|S| = ceil(r (n - 1))` patches with `r` from Beta(`source_ratio`);
    - `joint`, `p(x, y)`: nothing is given, everything is asked for;
    - `marginal`, `p(x)`: the same with the labels absent;
    - `within`, `p(x_T | x_S)`: the patches as in completion, the labels absent.

    The target is all the rest of the patches, except in `within`, where a
    `target_ratio` leaves some of them absent, as in `TaskSampler`. Given their numbers,
    all patches are equally likely, and so are all labels.

    With `classification = 1` the model is a classifier: of whole images it is the
    preset of that name, and here it is trained with masking; with `generation = 1` it
    is a class-conditional generator.

    `observed`: the same among the observed patches and labels. A row without a label
    loses it (generation and joint become marginal, completion becomes within, and so
    does classification); a row of labels alone is classified. With `classification = 1`
    a row without labels is a ValueError. Pairs: two splits of the common union, as
    those of `TaskSampler(length)`.

    Args:
        length: `L = n + m`, the number of tokens.
        labels: `m`, how many of them are labels: the last.
        classification, generation, completion, joint, marginal, within: shares of the
            kinds, which must sum to 1.
        seen_ratio, source_ratio, target_ratio, label_ratio: Beta parameters.
    """
    shares = classification, generation, completion, joint, marginal, within
    ratios = {
        "seen_ratio": seen_ratio,
        "source_ratio": source_ratio,
        "target_ratio": target_ratio,
        "label_ratio": label_ratio,
    }
    return Modalities(length, labels, shares, ratios)


def pair(length: int, source: Sequence[int], target: Sequence[int]) -> TaskSampler:
    """One fixed task in every row, from the positions of its source and target.

    `observed` as in `classification`. Pairs: twice the same task.
    """
    given = position_mask("source", source, whole("length", length))
    asked = position_mask("target", target, length)
    name = "pair(length={}, source={}, target={})".format(
        length, *(mask.nonzero()[:, 1].tolist() for mask in (given, asked))
    )
    return _FixedPair(name, Task(given, asked))


def one_of(tasks: Task) -> TaskSampler:
    """A few tasks only: every row takes one of these, all equally often.

    For asking how many tasks are needed. Pairs: twice the same task. `observed` is a
    ValueError, and so is a list without tasks.
    """
    if not len(tasks):
        raise ValueError("one_of needs at least one task, got a Task without rows.")
    return _TaskList(tasks)
