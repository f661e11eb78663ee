"""q(S, T) in general: the law that the tasks of a batch are drawn from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from biglearn_lite._counts import Counts, Ratio, share_table
from biglearn_lite._task import Task
from biglearn_lite._task_checks import (
    beta_ratio,
    observed_mask,
    probability,
    require_rows,
    whole,
)

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
        checked: bool = False,
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
            checked: these rows of `observed` passed once. To look at their values
                again would make a loop wait for its device.

        Raises:
            ValueError: if `observed` is not boolean `(B, L)` or has an empty row.
        """
        given = generator, device, observed, checked
        available, fresh = self._prepare(batch, *given)
        return self._draw(available, fresh(), self._sizes)

    def sample_pair(
        self,
        batch: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
        observed: Tensor | None = None,
        checked: bool = False,
    ) -> tuple[Task, Task]:
        """Two tasks with the same union `S` and `T` in every row, for communication.

        The union is that of a draw of `sample`. Given the union, the two tasks are
        independent and equally distributed: the source is empty with probability
        `joint + marginal`, else it is a Beta(`source_ratio`) share of the union, and
        the target is the rest of the union. They may coincide, and must where the
        union is one token or (presets) allows only one task. Arguments as in `sample`.
        """
        given = generator, device, observed, checked
        available, fresh = self._prepare(batch, *given)
        union = self._draw(available, fresh(), self._sizes).union
        return self._split(union, fresh()), self._split(union, fresh())

    def _split(self, union: Tensor, noise: Tensor) -> Task:
        """A task whose source and target together are the union (B, L)."""
        return self._draw(union, noise, self._sizes_filling)

    def _prepare(
        self,
        batch: int,
        generator: torch.Generator | None,
        device: torch.device | str | None,
        observed: Tensor | None,
        checked: bool = False,
    ) -> tuple[Tensor, Callable[[], Tensor]]:
        """The tokens to choose from, `(B, L)`, and a source of `(B, 3 + L)` noise."""
        shape = (whole("batch", batch, least=0), self.length)
        if observed is not None:
            observed = observed_mask(observed, shape)
            if not checked:  # to look is to wait for the device
                self._require(observed)
            device = observed.device if device is None else device
        home = device if generator is None else generator.device
        device = home if device is None else device

        def fresh() -> Tensor:
            size = (shape[0], 3 + shape[1])
            return torch.rand(size, generator=generator, device=home).to(device)

        if observed is None:
            return torch.ones(shape, dtype=torch.bool, device=device), fresh
        return observed.to(device), fresh

    def _require(self, observed: Tensor) -> None:
        """Raise if a row shows none of these tasks."""
        complaint = "of observed is empty; a sample without any token shows no task, "
        require_rows(observed.any(1), complaint + "so drop it.")

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
