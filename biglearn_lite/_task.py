"""A task: which tokens are given, which are asked for, which are absent.

A sample `x = (x_1, ..., x_L)` has `L` tokens. A *task* `(S, T)` takes two disjoint sets
of positions, the source `S` and the non-empty target `T`, and asks for
`p(x_T | x_S)`; the positions in neither are absent. One complete sample demonstrates
all `3**L - 2**L` tasks at once (Big Cooperative Learning, arXiv 2407.21319).

A batch of tasks is a pair of boolean masks of shape `(B, L)`, a task for each row. How
often each task comes up is the law `q(S, T)`, in `biglearn_lite.tasks`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from biglearn_lite._task_checks import as_mask, require_rows, whole

__all__ = ["Task", "all_tasks", "count_tasks"]


@dataclass(frozen=True, eq=False, repr=False)
class Task:
    """A batch of tasks `(S, T)`: predict the target tokens from the source tokens.

    Args:
        source: boolean `(B, L)`, the tokens that are given. One row `(L,)` is read as
            `(1, L)`. Anything `torch.as_tensor` turns into booleans is accepted.
        target: boolean of the same shape and device, the tokens asked for; disjoint
            from `source`, at least one in every row.

    Raises:
        ValueError: if a mask is not boolean, if shapes or devices differ, or if a row
            breaks a rule; the message names the first such row.
    """

    source: Tensor
    target: Tensor

    def __post_init__(self) -> None:
        for name in ("source", "target"):
            mask = as_mask(name, getattr(self, name)).clone()  # the caller's may change
            object.__setattr__(self, name, mask)
        _check_pair(self.source, self.target)

    @classmethod
    def joint(
        cls, batch: int, length: int, device: torch.device | str | None = None
    ) -> Task:
        """The joint task in every row: `S` is empty and `T` is everything."""
        shape = (whole("batch", batch, least=0), whole("length", length))
        target = torch.ones(shape, dtype=torch.bool, device=device)
        return cls(torch.zeros_like(target), target)

    @classmethod
    def marginal(cls, target: Tensor) -> Task:
        """`p(x_T)`: nothing is given, what is not in `target` is absent.

        A row whose `target` is everything is the joint task, and `kind` says so.
        """
        target = as_mask("target", target)
        return cls(torch.zeros_like(target), target)

    @classmethod
    def conditional(cls, source: Tensor, target: Tensor | None = None) -> Task:
        """`p(x_T | x_S)`; a `target` of None asks for all the rest.

        A row whose `source` is empty is a joint or marginal task, and `kind` says so.
        """
        source = as_mask("source", source)
        return cls(source, ~source if target is None else target)

    @classmethod
    def _trusted(cls, source: Tensor, target: Tensor) -> Task:
        """A task from masks valid by construction: no check, so no wait for a GPU."""
        task = object.__new__(cls)
        object.__setattr__(task, "source", source)
        object.__setattr__(task, "target", target)
        return task

    @property
    def union(self) -> Tensor:
        """`(B, L)`: the tokens that the task uses, `S` together with `T`."""
        return self.source | self.target

    @property
    def absent(self) -> Tensor:
        """`(B, L)`: the tokens that the task neither gives nor asks for."""
        return ~self.union

    @property
    def length(self) -> int:
        """`L`, the number of tokens."""
        return self.source.shape[1]

    @property
    def device(self) -> torch.device:
        """Where the masks are."""
        return self.source.device

    @property
    def kind(self) -> list[str]:
        """For each row `'joint'`, `'marginal'` or `'conditional'`.

        Read from the masks alone: conditional if anything is given; else joint if all
        `L` tokens are asked for; else marginal. So a sample with missing tokens never
        shows the joint task: all that is observed, asked for at once, is a marginal.
        """
        given, full = self.source.any(1).tolist(), self.target.all(1).tolist()
        return [
            "conditional" if g else "joint" if f else "marginal"
            for g, f in zip(given, full, strict=True)
        ]

    def to(self, device: torch.device | str) -> Task:
        """The same tasks on another device."""
        return Task._trusted(self.source.to(device), self.target.to(device))

    def expand(self, batch: int) -> Task:
        """One task, the same in each of `batch` rows."""
        if len(self) != 1:
            raise ValueError(
                f"expand repeats a single task, and this one has {len(self)} rows; "
                "choose a row first, as in task[:1].expand(batch)."
            )
        shape = (whole("batch", batch, least=0), self.length)
        return Task._trusted(self.source.expand(shape), self.target.expand(shape))

    def __len__(self) -> int:
        return self.source.shape[0]

    def __getitem__(self, rows: Any) -> Task:
        """Some of the rows; a single index keeps its row, so this is a `Task` again."""
        index = torch.arange(len(self), device=self.device)
        if isinstance(rows, tuple) or (index := index[rows]).ndim > 1:
            raise ValueError(
                "A Task is indexed by rows only, with a number, a slice, a list or a "
                f"mask of shape (B,), got {rows!r}; for tokens index its masks."
            )
        index = torch.atleast_1d(index)
        return Task._trusted(self.source[index], self.target[index])

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Task)
            and self.device == other.device
            and torch.equal(self.source, other.source)
            and torch.equal(self.target, other.target)
        )

    __hash__ = None  # masks are mutable and compared by value

    def __repr__(self) -> str:
        """One letter a token: `S` source, `T` target, `.` absent."""
        codes = (self.source[:4] * 1 + self.target[:4] * 2).tolist()
        rows = ["".join(".ST"[code] for code in row) for row in codes]
        more = f", ... {len(self)} rows" if len(self) > 4 else ""
        return f"Task({', '.join(rows)}{more})"


def count_tasks(length: int) -> int:
    """The number of tasks on `length` tokens, `3**L - 2**L`, as an exact integer.

    Each token is source, target or absent (`3**L`); those without a target (`2**L`)
    are no tasks. One is joint, `2**L - 2` are marginal, the others are conditional.
    """
    length = whole("length", length, least=0)
    return 3**length - 2**length


def all_tasks(length: int) -> Task:
    """Every task on `length` tokens, once each: `(3**L - 2**L, L)` masks.

    Raises:
        ValueError: if `length` is above 12 (more than half a million rows).
    """
    if whole("length", length) > 12:
        raise ValueError(
            f"all_tasks lists tasks for at most 12 tokens, got {length}, which has "
            f"{count_tasks(length)}; draw some from a TaskSampler instead."
        )
    codes = torch.arange(3**length)[:, None] // 3 ** torch.arange(length) % 3
    codes = codes[(codes == 2).any(1)]
    return Task(codes == 1, codes == 2)


def _check_pair(source: Tensor, target: Tensor) -> None:
    if source.shape != target.shape:
        raise ValueError(
            f"source and target must have the same shape, got {tuple(source.shape)} "
            f"and {tuple(target.shape)}; give both one row a sample."
        )
    if source.device != target.device:
        raise ValueError(
            f"source and target must be on one device, got {source.device} and "
            f"{target.device}; move one with .to()."
        )
    shared = source & target
    require_rows(
        ~shared.any(1),
        lambda row: (
            f"has token {int(shared[row].nonzero()[0])} both in source and in target; "
            "the two must be disjoint, so take it out of one."
        ),
    )
    require_rows(
        target.any(1),
        "has no target; every task asks for at least one token, so set one in target.",
    )
