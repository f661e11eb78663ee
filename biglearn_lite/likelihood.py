"""The arrow as maximum likelihood: one model of `p(x_T | x_S)` for any `S` and `T`.

    min over theta of  E_q(S,T) E_q(x_S) KL[q(x_T | x_S) || p_theta(x_T | x_S)]

is, up to the entropy of the data, the mean of `- log p_theta(x_T | x_S)` over samples
and tasks (Big Cooperative Learning, arXiv 2407.21319; the equation is reconstructed).
`matching_loss` is that objective. Nothing in it knows which foundation model it trains:
that is the `TaskSampler`'s choice.

The network says `p(x_t | x_S)` for every target at once. Two readings make a law of
several targets from it:

- *factorised*: their product, in one pass. This is the assumption of masked language
  models and masked autoencoders: targets are independent given the source;
- *autoregressive*, in any order: one target after the other, each joining the source.
  This assumes nothing, and gives exact probabilities and exact samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from biglearn_lite._heads import MixtureHead, SymbolHead, full
from biglearn_lite._likelihood_checks import (
    check_tokens,
    group_count,
    ranks,
)
from biglearn_lite._task_checks import whole
from biglearn_lite.tasks import Task
from biglearn_lite.transformer import MaskedTransformer, TransformerSizes

__all__ = [
    "AnyConditionalSizes",
    "AnyConditionalTransformer",
    "CausalTransformer",
    "causal_loss",
    "matching_loss",
    "random_order",
]


@dataclass(frozen=True)
class AnyConditionalSizes:
    """Sizes of an `AnyConditionalTransformer`.

    Attributes:
        length: `L`, the number of tokens.
        symbols: `V`, the size of the vocabulary; 0 for continuous tokens.
        values: `P`, the numbers in a continuous token; 0 for symbols.
        components: `K`, Gaussians in the law of a continuous token.
        width: of the transformer.
        depth: its blocks.
        heads: its attention heads.
    """

    length: int
    symbols: int = 0
    values: int = 0
    components: int = 8
    width: int = 64
    depth: int = 3
    heads: int = 4

    def __post_init__(self) -> None:
        whole("components", self.components)
        self.trunk("source")  # which checks the others

    def trunk(self, reach: str) -> TransformerSizes:
        """The sizes of its trunk."""
        sizes = {k: v for k, v in vars(self).items() if k != "components"}
        return TransformerSizes(**sizes, reach=reach)


class _TokenModel(nn.Module):
    """A trunk and a head."""

    _reach = "source"

    def __init__(self, sizes: AnyConditionalSizes) -> None:
        super().__init__()
        self.config = sizes
        self.trunk, self.head = self._parts(sizes)
        self.head.apply(self.trunk._initialise)
        if not sizes.symbols:
            self.head.spread()

    def _parts(self, sizes: AnyConditionalSizes) -> tuple[MaskedTransformer, nn.Module]:
        trunk = MaskedTransformer(sizes.trunk(self._reach))
        if sizes.symbols:
            return trunk, SymbolHead(sizes.width, sizes.symbols)
        return trunk, MixtureHead(sizes.width, sizes.values, sizes.components)

    @property
    def length(self) -> int:
        """`L`, the number of tokens."""
        return self.config.length


class AnyConditionalTransformer(_TokenModel):
    """`p(x_T | x_S)` for any source and target, over symbols or continuous tokens.

    Args:
        sizes: see `AnyConditionalSizes`.
    """

    def hidden(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """What the head says `p(x_t | x_S)` from, unchecked: (B, L, width)."""
        return self.trunk(x, source, target)

    def token_log_prob(self, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
        """`log p(x_t | x_S)` for every target in one pass, unchecked.

        Args:
            x: (B, L) symbols or (B, L, P) floats.
            source: (B, L) boolean.
            target: (B, L) boolean.

        Returns:
            (B, L) nats, 0 where nothing is asked.
        """
        hidden = self.hidden(x, source, target)  # (B, L, W)
        wanted = target if self.config.symbols else target[..., None]
        values = torch.where(wanted, x, 0)  # what is absent may be NaN
        said = self.head.log_prob(hidden, values)  # (B, L)
        return torch.where(target, said, 0.0)

    def log_prob(
        self,
        x: Tensor,
        task: Task,
        *,
        reading: str = "autoregressive",
        order: Tensor | None = None,
        steps: int | None = None,
        rows: int = 2048,
    ) -> Tensor:
        """`log p(x_T | x_S)` of every row, in nats (densities for continuous tokens).

        Args:
            x: (B, L) symbols or (B, L, P) floats; what is absent is never read.
            task: one for each row.
            reading: `"factorised"` or `"autoregressive"`.
            order: (L,) or (B, L), the rank of every position: lower ranks come first.
                None: from left to right.
            steps: take the targets in this many groups, in order, each group
                factorised; None: one target a step, which is exact.
            rows: how many rows go through the network at once.

        Returns:
            (B,)

        Raises:
            ValueError: if tokens, task or order do not fit the model, or a token of
                source or target is no symbol of the vocabulary, or not finite.
        """
        check_tokens(self.config, x, task, task.union)
        group, _ = _groups(task, reading, order, steps)
        total = full(self.trunk.position.new_zeros(len(x)))
        # every step of every row is known, so they go through the network in one batch
        steps_of_row = group.amax(1) + 1
        row = torch.arange(len(x), device=x.device).repeat_interleave(steps_of_row)
        first = steps_of_row.cumsum(0) - steps_of_row
        step = torch.arange(len(row), device=x.device) - first[row]
        for s, r in zip(step.split(rows), row.split(rows), strict=True):
            source = task.source[r] | (task.target[r] & (group[r] < s[:, None]))
            said = self.token_log_prob(x[r], source, group[r] == s[:, None])
            total = total.index_add(0, r, said.sum(1).to(total))
        return total

    def sample(
        self,
        x: Tensor,
        task: Task,
        generator: torch.Generator | None = None,
        *,
        reading: str = "autoregressive",
        order: Tensor | None = None,
        steps: int | None = None,
    ) -> Tensor:
        """Draw `x_T` given `x_S`; arguments as for `log_prob`.

        Returns:
            Like `x`: source values as they came, targets drawn, absent positions -1
            (symbols) or NaN.
        """
        check_tokens(self.config, x, task, task.source)
        group, count = _groups(task, reading, order, steps)
        symbols = bool(self.config.symbols)
        drawn = x.clone()
        with torch.no_grad():
            for step in range(count):
                now = group == step  # (B, L)
                source = task.source | (task.target & (group < step))
                hidden = self.hidden(drawn, source, now)
                new = self.head.sample(hidden, generator).to(drawn.dtype)
                drawn = torch.where(now if symbols else now[..., None], new, drawn)
        drawn[task.absent] = -1 if symbols else torch.nan
        return drawn


class CausalTransformer(_TokenModel):
    """A GPT: causal attention, so one pass supervises every position at once.

    It says `p(x_t | x_1 ... x_(t-1))` and nothing else: the same trunk and head as
    `AnyConditionalTransformer`, with what is seen cut to the past. For comparison.
    """

    _reach = "causal"

    def token_log_prob(self, x: Tensor) -> Tensor:
        """`log p(x_t | x_1 ... x_(t-1))`: (B, L) tokens -> (B, L) nats."""
        before = x.roll(1, dims=1)  # position t carries token t - 1
        source = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        source[:, 0] = False  # nothing comes before the first
        hidden = self.trunk(before, source, ~source)
        return self.head.log_prob(hidden, x)

    def log_prob(self, x: Tensor) -> Tensor:
        """`log p(x)` of whole rows, from left to right: (B,) nats."""
        task = Task.joint(len(x), self.length, x.device)
        check_tokens(self.config, x, task, task.target)
        return self.token_log_prob(x).sum(1)


def matching_loss(model: AnyConditionalTransformer, x: Tensor, task: Task) -> Tensor:
    """The objective: minus the mean of `log p(x_t | x_S)` over all targets, in nats.

    With `task` from `masked_language_model` this is BERT's loss, from `next_token`
    GPT's, from `masked_autoencoder` MAE's with a learned law in place of the square
    error, from `classification` the cross-entropy of a classifier, and from a
    `TaskSampler` over everything big learning.
    """
    said = model.token_log_prob(x, task.source, task.target)
    return -said.sum() / task.target.sum()


def causal_loss(model: CausalTransformer, x: Tensor, task: Task) -> Tensor:
    """Left-to-right cross-entropy of all positions at once, whatever the task."""
    return -model.token_log_prob(x).mean()


def random_order(
    batch: int, length: int, generator: torch.Generator | None = None
) -> Tensor:
    """A uniformly random order of the positions for every row: (B, L) ranks."""
    device = generator.device if generator is not None else None
    noise = torch.rand(batch, length, generator=generator, device=device)
    return noise.argsort(1).argsort(1)


def _groups(
    task: Task, reading: str, order: Tensor | None, steps: int | None
) -> tuple[Tensor, int]:
    """At which step each target comes, (B, L) with -1 elsewhere, and their number."""
    rank = ranks(order, task).masked_fill(~task.target, task.length)
    place = rank.argsort(1).argsort(1)  # of a target among the targets
    sizes = task.target.sum(1, keepdim=True)  # (B, 1)
    most = int(sizes.max()) if len(task) else 0
    count = group_count(reading, steps, most)
    # nearly equal groups; a row with fewer targets than steps takes one at a time
    group = torch.where(sizes > count, place * count // sizes, place)
    return group.masked_fill(~task.target, -1), count
