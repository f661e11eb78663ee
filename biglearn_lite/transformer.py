"""The masked trunk: tokens in, tokens out, and a role for each of them.

A transformer takes and gives sets of tokens of any size, and that is why it can be the
universal model `p(x_T | x_S)` (Big Cooperative Learning, arXiv 2407.21319). Here every
row keeps its `L` positions and masks say what may be seen, so shapes are static and one
compiled graph serves all tasks. What a position carries in is

    content (source tokens only) + where it is + its role: source, target or absent

so nothing outside the source can leak; the tests prove it with NaN. Blocks are the
pre-norm ones of GPT-2 (Vaswani et al. 2017; layout as in the usual vision transformer).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from biglearn_lite._task_checks import whole

__all__ = [
    "MaskedTransformer",
    "TransformerSizes",
    "attend",
    "explicit_attention",
]

REACHES = ("source", "union", "causal")


@dataclass(frozen=True)
class TransformerSizes:
    """Sizes of a `MaskedTransformer`.

    Attributes:
        length: `L`, the number of positions.
        symbols: `V`, the size of the vocabulary; 0 for continuous tokens.
        values: `P`, the numbers in a continuous token; 0 for symbols.
        width: of the residual stream, a multiple of `heads`.
        depth: number of blocks.
        heads: of the attention.
        modulation: width of a vector that scales, shifts and gates the blocks; 0: none.
        reach: what a position attends to beside itself. `"source"`: the source, so that
            what is said at `t` depends on `x_S` and `t` alone, whatever else is asked.
            `"union"`: source and target, so that targets can agree on one sample.
            `"causal"`: everything at or before it, whatever its role.
    """

    length: int
    symbols: int = 0
    values: int = 0
    width: int = 64
    depth: int = 3
    heads: int = 4
    modulation: int = 0
    reach: str = "source"

    def __post_init__(self) -> None:
        for name in ("length", "width", "depth", "heads"):
            whole(name, getattr(self, name))
        for name in ("symbols", "values", "modulation"):
            whole(name, getattr(self, name), least=0)
        if (self.symbols > 0) == (self.values > 0):
            raise ValueError(
                "A token is one of `symbols` or a vector of `values` numbers: set one "
                f"of the two, got symbols={self.symbols} and values={self.values}."
            )
        if self.width % self.heads:
            raise ValueError(
                f"width must be a multiple of heads, got {self.width} and "
                f"{self.heads}; take for instance width={self.heads * 16}."
            )
        if self.reach not in REACHES:
            raise ValueError(f"reach is one of {REACHES}, got {self.reach!r}.")


class MaskedTransformer(nn.Module):
    """Tokens and their roles in, a vector for every position out.

    Args:
        sizes: see `TransformerSizes`.
    """

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.sizes = sizes
        width = sizes.width
        if sizes.symbols:
            self.content = nn.Embedding(sizes.symbols, width)
        else:
            self.content = nn.Linear(sizes.values, width)
        self.position = nn.Parameter(torch.randn(sizes.length, width) * 0.02)
        self.role = nn.Parameter(torch.randn(3, width) * 0.02)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(width)
        # one modulation, shared by all blocks; zero, so that it starts without effect
        self.modulate = (
            nn.Linear(sizes.modulation, 6 * width) if sizes.modulation else None
        )
        self.apply(self._initialise)

    def _initialise(self, module: nn.Module) -> None:
        """Small normal weights; the last layer of a branch smaller, as in GPT-2."""
        if isinstance(module, nn.Linear):
            std = 0.02 if module is not self.modulate else 0.0
            if getattr(module, "ends_branch", False):
                std /= math.sqrt(2 * self.sizes.depth)
            nn.init.normal_(module.weight, std=std)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)

    def forward(
        self,
        x: Tensor,
        source: Tensor,
        target: Tensor,
        modulation: Tensor | None = None,
        explicit: bool = False,
        shown: Tensor | None = None,
        added: Tensor | None = None,
    ) -> Tensor:
        """Vectors from tokens and roles.

        Args:
            x: (B, L) symbols or (B, L, P) floats; read where `shown`.
            source: (B, L) boolean, the tokens that are given.
            target: (B, L) boolean, the tokens that are asked for.
            modulation: (B, M) floats, if the sizes have a modulation.
            explicit: write the attention out (it can be differentiated twice).
            shown: (B, L) boolean, the tokens that are read; None: the source. One who
                judges a sample reads source and target.
            added: (B, L, width) floats, added to what goes in, as noise is.

        Returns:
            (B, L, width); what stands at absent positions means nothing.
        """
        hidden = self.embed(x, source, target, shown)  # (B, L, W)
        hidden = hidden if added is None else hidden + added
        allowed = self.reach(source, target)  # (B, 1, L, L)
        scales = self._scales(modulation)  # 6 of (B, 1, W), or None
        for block in self.blocks:
            hidden, _ = block(hidden, allowed, scales, explicit)  # (B, L, W)
        return self.norm(hidden)  # (B, L, W)

    def attention_maps(
        self,
        x: Tensor,
        source: Tensor,
        target: Tensor,
        modulation: Tensor | None = None,
    ) -> Tensor:
        """Who looks at whom: (depth, B, heads, L, L), rows (queries) sum to one."""
        hidden, maps = self.embed(x, source, target), []
        allowed, scales = self.reach(source, target), self._scales(modulation)
        for block in self.blocks:
            hidden, weights = block(hidden, allowed, scales, explicit=True)
            maps.append(weights)
        return torch.stack(maps)

    def embed(
        self, x: Tensor, source: Tensor, target: Tensor, shown: Tensor | None = None
    ) -> Tensor:
        """Content, position and role added up: (B, L, width)."""
        shown = source if shown is None else shown
        # where, not a product: what is hidden may be NaN, and 0 * NaN is NaN
        if self.sizes.symbols:
            content = self.content(torch.where(shown, x, 0).long())  # (B, L, W)
        else:
            values = torch.where(shown[..., None], x, 0.0)
            content = self.content(values.to(self.position.dtype))
        role = torch.where(source, 0, torch.where(target, 1, 2))  # (B, L)
        # not self.role[role]: its gradient depends on how threads happen to meet
        roles = F.embedding(role, self.role)  # (B, L, W)
        return content * shown[..., None] + self.position + roles

    def reach(self, source: Tensor, target: Tensor) -> Tensor:
        """Which key a query may see: (B, 1, L, L) boolean, the same for all heads."""
        length = source.shape[1]
        if self.sizes.reach == "causal":
            seen = torch.ones(length, length, dtype=torch.bool, device=source.device)
            return seen.tril()[None, None]
        keys = source if self.sizes.reach == "source" else source | target  # (B, L)
        itself = torch.eye(length, dtype=torch.bool, device=source.device)
        return (keys[:, None, :] | itself)[:, None]  # a query always has one key

    def _scales(self, modulation: Tensor | None) -> tuple[Tensor, ...] | None:
        if (modulation is None) != (self.modulate is None):
            raise ValueError(
                f"This trunk has a modulation of width {self.sizes.modulation}, and "
                f"got {'none' if modulation is None else 'one'}; give it exactly if "
                "the sizes say so."
            )
        if modulation is None:
            return None
        return self.modulate(modulation)[:, None].chunk(6, dim=-1)


class Block(nn.Module):
    """Attention, then a perceptron for each position, both on a normed stream."""

    def __init__(self, sizes: TransformerSizes) -> None:
        super().__init__()
        self.heads = sizes.heads
        width = sizes.width
        self.norm_attention = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.mix = nn.Linear(width, width)
        self.norm_perceptron = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 4 * width)
        self.narrow = nn.Linear(4 * width, width)
        self.mix.ends_branch = self.narrow.ends_branch = True
        # each block adds its own part to the shared modulation
        self.own = nn.Parameter(torch.zeros(6, width)) if sizes.modulation else None

    def forward(
        self,
        hidden: Tensor,
        allowed: Tensor,
        scales: tuple[Tensor, ...] | None = None,
        explicit: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """(B, L, W) -> (B, L, W), and the attention weights if `explicit`."""
        if scales is None:
            change, weights = self.attention(
                self.norm_attention(hidden), allowed, explicit
            )
            hidden = hidden + change  # (B, L, W)
            return hidden + self.perceptron(self.norm_perceptron(hidden)), weights
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            shared + own for shared, own in zip(scales, self.own, strict=True)
        )  # each (B, 1, W)
        normed = self.norm_attention(hidden) * (1 + scale1) + shift1
        change, weights = self.attention(normed, allowed, explicit)
        hidden = hidden + (1 + gate1) * change
        normed = self.norm_perceptron(hidden) * (1 + scale2) + shift2
        return hidden + (1 + gate2) * self.perceptron(normed), weights

    def attention(
        self, x: Tensor, allowed: Tensor, explicit: bool
    ) -> tuple[Tensor, Tensor | None]:
        batch, length, width = x.shape
        split = self.query_key_value(x).unflatten(
            -1, (3, self.heads, width // self.heads)
        )
        query, key, value = split.permute(2, 0, 3, 1, 4)  # 3 of (B, H, L, W / H)
        mixed, weights = attend(query, key, value, allowed, explicit)  # (B, H, L, W/H)
        joined = mixed.transpose(1, 2).reshape(batch, length, width)
        return self.mix(joined), weights  # (B, L, W)

    def perceptron(self, x: Tensor) -> Tensor:
        return self.narrow(F.gelu(self.widen(x)))  # (B, L, W)


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    allowed: Tensor,
    explicit: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Attention by PyTorch's fast kernel, or by its explicit twin.

    Args:
        query: (..., L, E).
        key: (..., L', E).
        value: (..., L', E').
        allowed: boolean, broadcasts to (..., L, L'); True where a query may look.
        explicit: use `explicit_attention`, which also gives the weights.

    Returns:
        (..., L, E') and the weights (..., L, L') or None.
    """
    if explicit:
        return explicit_attention(query, key, value, allowed)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=allowed), None


def explicit_attention(
    query: Tensor, key: Tensor, value: Tensor, allowed: Tensor
) -> tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(E)) V over the allowed keys (Vaswani et al. 2017, eq. 1).

    Arguments and results as for `attend`.
    """
    scores = query @ key.mT / math.sqrt(query.shape[-1])  # (..., L, L')
    weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1)  # (..., L, L')
    return weights @ value, weights
