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
from biglearn_lite._task import Task, all_tasks, count_tasks
from biglearn_lite._task_checks import (
    beta_ratio,
    observed_mask,
    position_mask,
    probability,
    require_rows,
    target_rate,
    whole,
)

__all__ = [
    "Task",
    "TaskSampler",
    "all_tasks",
    "classification",
    "count_tasks",
    "joint_only",
    "masked_autoencoder",
    "masked_language_model",
    "next_token",
    "pair",
    "permutation",
    "prefix",
    "share_law",
]

Sizes = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


class TaskSampler:
    """`q(S, T)`: the law that the tasks of a batch are drawn from, row by row.

    With `n` tokens to choose from (`n = L` for complete data), a row is

    - with probability `joint` the joint task: `S` empty, `T` all `n`;
    - with probability `marginal` a proper marginal: `S` and `T` are drawn as for a
      conditional task, and then the source is withheld;
    - else conditional: `|S| = ceil(r (n - 1))` with `r` from Beta(`source_ratio`), so
      one token at least is given and one is left; then `T` is all the rest, or
      `|T| = ceil(r' (n - |S|))` of it with `r'` from Beta(`target_ratio`).

    Given their sizes, all positions are equally likely. Where `n = 1` the only task is
    to predict that token, whatever the probabilities. The paper uses Beta laws and has
    no theory for them (arXiv 2407.21319); rounding and the separate probabilities are
    choices of this package.

    The presets below are `TaskSampler`s with a law of their own: of the arguments they
    keep `length`, and the other attributes are None.

    Args:
        length: `L`, the number of tokens.
        joint: probability of the joint task.
        marginal: probability of a proper marginal.
        source_ratio: Beta parameters of the share of tokens given.
        target_ratio: Beta parameters of the share of the rest that is asked for; None
            asks for all the rest.

    Raises:
        ValueError: if `length` is no positive integer, the probabilities are not in
            [0, 1] with a sum of at most 1, or a Beta parameter is not positive.
    """

    _ordered = False  # True: sources first, then targets, from left to right

    def __init__(
        self,
        length: int,
        joint: float = 0.2,
        marginal: float = 0.1,
        source_ratio: Ratio = (1.0, 1.0),
        target_ratio: Ratio | None = None,
    ) -> None:
        self.length = whole("length", length)
        self.joint = probability("joint", joint)
        self.marginal = probability("marginal", marginal)
        if self.joint + self.marginal > 1 + 1e-9:
            raise ValueError(
                f"joint and marginal must sum to at most 1, got {joint} + {marginal}; "
                "what they leave is the probability of a conditional task."
            )
        self.source_ratio = beta_ratio("source_ratio", source_ratio)
        self._source_count = Counts(share_table(self.length, self.source_ratio))
        self.target_ratio = target_ratio
        if target_ratio is not None:
            self.target_ratio = beta_ratio("target_ratio", target_ratio)
            self._target_count = Counts(share_table(self.length, self.target_ratio))

    def __repr__(self) -> str:
        return (
            f"TaskSampler(length={self.length}, joint={self.joint}, "
            f"marginal={self.marginal}, source_ratio={self.source_ratio}, "
            f"target_ratio={self.target_ratio})"
        )

    def sample(
        self,
        batch: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        observed: Tensor | None = None,
    ) -> Task:
        """Draw a task for each of `batch` rows.

        Args:
            batch: `B`, the number of rows; 0 gives a task without rows.
            generator: source of the noise, which is drawn on its device and moved;
                None is PyTorch's default one.
            device: where the masks go; None is where `observed` is, or else where the
                noise is.
            observed: boolean `(B, L)`, which tokens of each row are known. Tasks stay
                inside: the law above holds with the observed tokens in place of all,
                in the same order, so that a "joint" row asks for all that is observed
                (its `Task.kind` is marginal if anything is missing).

        Raises:
            ValueError: if `observed` is not boolean `(B, L)` or has an empty row.
        """
        available, fresh = self._prepare(batch, generator, device, observed)
        return self._draw(available, fresh(), self._sizes)

    def sample_pair(
        self,
        batch: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        observed: Tensor | None = None,
    ) -> tuple[Task, Task]:
        """Two tasks with the same union `S` and `T` in every row, for communication.

        The union is that of a draw of `sample`. Given the union, the two tasks are
        independent and equally distributed: the source is empty with probability
        `joint + marginal`, else it is a Beta(`source_ratio`) share of the union, and
        the target is the rest of the union. They may coincide, and must where the
        union is one token or (presets) allows only one task. Arguments as in `sample`.
        """
        available, fresh = self._prepare(batch, generator, device, observed)
        union = self._draw(available, fresh(), self._sizes).union
        first = self._draw(union, fresh(), self._sizes_filling)
        return first, self._draw(union, fresh(), self._sizes_filling)

    def _prepare(
        self,
        batch: int,
        generator: torch.Generator | None,
        device: torch.device | str | None,
        observed: Tensor | None,
    ) -> tuple[Tensor, Callable[[], Tensor]]:
        """The tokens to choose from, `(B, L)`, and a source of `(B, 3 + L)` noise."""
        shape = (whole("batch", batch, least=0), self.length)
        if observed is not None:
            observed = observed_mask(observed, shape)
            device = observed.device if device is None else device
        home = device if generator is None else generator.device
        device = home if device is None else device

        def fresh() -> Tensor:
            size = (shape[0], 3 + shape[1])
            return torch.rand(size, generator=generator, device=home).to(device)

        if observed is None:
            return torch.ones(shape, dtype=torch.bool, device=device), fresh
        return observed.to(device), fresh

    def _draw(self, available: Tensor, noise: Tensor, sizes: Sizes) -> Task:
        """Line up the available tokens: the first are `S`, the next `T`."""
        n_source, n_target = sizes(available.sum(1), noise[:, :3])
        if self._ordered:
            place = available.cumsum(1) - 1
        else:  # the rank of a token's noise: a random order
            place = noise[:, 3:].masked_fill(~available, 2.0).argsort(1).argsort(1)
        place = place.masked_fill(~available, self.length)
        source = place < n_source[:, None]
        target = (place < (n_source + n_target)[:, None]) & ~source
        return Task._trusted(source, target)

    def _sizes(self, n: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """`|S|` and `|T|` of rows with `n` tokens, from uniform noise."""
        n_source = self._source_count(n - 1, noise[:, 1])
        n_target = n - n_source
        if self.target_ratio is not None:
            n_target = self._target_count(n_target, noise[:, 2])
        n_target = torch.where(noise[:, 0] < self.joint, n, n_target)
        return self._withhold(n_source, noise), n_target

    def _sizes_filling(self, n: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The same when `S` and `T` together must be all `n` tokens."""
        n_source = self._withhold(self._source_count(n - 1, noise[:, 1]), noise)
        return n_source, n - n_source

    def _withhold(self, n_source: Tensor, noise: Tensor) -> Tensor:
        return n_source.masked_fill(noise[:, 0] < self.joint + self.marginal, 0)


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

    def _prepare(
        self, batch: int, generator: Any, device: Any, observed: Tensor | None
    ) -> tuple[Tensor, Callable[[], None]]:
        available, _ = super()._prepare(batch, generator, device, observed)
        if observed is not None:  # else there is nothing to check, and no wait
            require_rows(
                (self._task.to(available.device).target & available).any(1),
                "observes none of the target tokens, so this task cannot be shown; "
                "drop the row, or learn from it with a TaskSampler.",
            )
        return available, lambda: None

    def _draw(self, available: Tensor, noise: None, sizes: Sizes) -> Task:
        task = self._task.to(available.device)
        return Task._trusted(task.source & available, task.target & available)


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
