"""Two-digit sums as tokens, with a law that is known: every conditional is exact."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch

SYMBOLS = "0123456789+="
ABSENT = "."  # how a token of -1 is written
LENGTH = 9


class Law(NamedTuple):
    """All that can happen, and how often: a law on sequences of symbols, as a table.

    Attributes:
        tokens: (N, L) int64, each sequence once; a token is an index into `SYMBOLS`.
        probabilities: (N,) float64, positive, their sum is 1.
    """

    tokens: torch.Tensor
    probabilities: torch.Tensor

    def sample(
        self,
        n: int,
        generator: torch.Generator | None = None,
        device: torch.device | str | None = None,
    ) -> torch.Tensor:
        """`n` independent sequences, by inversion of the cumulative probabilities.

        Args:
            n: how many; 0 gives none.
            generator: source of the noise, which is drawn on its device and moved.
            device: where the sequences go; None is where the table is.

        Returns:
            (n, L) int64.
        """
        home = self.tokens.device if generator is None else generator.device
        noise = torch.rand(n, generator=generator, device=home, dtype=torch.float64)
        total = self.probabilities.cumsum(0)
        rows = torch.searchsorted(total, noise.to(total.device), right=True)
        # the last total may miss 1 by rounding
        return self.tokens[rows.clamp(max=len(total) - 1)].to(device)

    def to(self, device: torch.device | str) -> Law:
        """The same law on another device, for drawing batches there."""
        return Law(self.tokens.to(device), self.probabilities.to(device))


def sums() -> Law:
    """`37+48=085`: all sums of two numbers from 00 to 99, ordered by (a, b).

    The law is a choice of this package. With `[...]` for 1 if so and else 0,

        q(a, b) proportional to (b + 10) / (a + 10) (1 + [last digits are equal])

    So the first number tends to be small and the second large: exchanging them changes
    every answer. Each depends on the other through the last digits. Every probability
    is positive, the smallest 5.7e-6, the largest 1.3e-3; the entropy is 8.81 nats.
    """
    pairs = [(a, b) for a in range(100) for b in range(100)]
    weights = [(b + 10) / (a + 10) * (1 + (a % 10 == b % 10)) for a, b in pairs]
    total = math.fsum(weights)  # correctly rounded, so the table is the same anywhere
    tokens = to_tokens([f"{a:02d}+{b:02d}={a + b:03d}" for a, b in pairs])
    weights = [weight / total for weight in weights]
    return Law(tokens, torch.tensor(weights, dtype=torch.float64))


def to_text(tokens: torch.Tensor) -> list[str]:
    """Sums as text; an absent token, -1, is written as a dot.

    Args:
        tokens: (B, L) whole numbers, -1 .. 11.

    Raises:
        ValueError: for another shape, or a number that is no symbol.
    """
    tokens = torch.as_tensor(tokens)
    if tokens.ndim != 2 or tokens.is_floating_point():
        raise ValueError(
            f"to_text needs whole numbers (B, L), not {tokens.dtype} of shape "
            f"{tuple(tokens.shape)}; give one row a sum."
        )
    wrong = tokens[(tokens < -1) | (tokens >= len(SYMBOLS))]
    if len(wrong):
        raise ValueError(
            f"A token is 0 .. {len(SYMBOLS) - 1}, or -1 where it is absent, not "
            f"{int(wrong[0])}; its symbol is that place in {SYMBOLS!r}."
        )
    written = SYMBOLS + ABSENT  # index -1 is the last
    return ["".join(written[token] for token in row) for row in tokens.tolist()]


def to_tokens(texts: Sequence[str]) -> torch.Tensor:
    """Text as tokens, the inverse of `to_text`: a dot is an absent token, -1.

    Args:
        texts: sums such as `"37+48=085"` or, in part, `"37+..=085"`.

    Returns:
        (B, 9) int64.

    Raises:
        ValueError: for a text of another length, or with another character.
    """
    if isinstance(texts, str):
        raise ValueError(
            f"to_tokens needs a list of texts, not {texts!r}; write [{texts!r}]."
        )
    rows = [_read(text) for text in texts]
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, LENGTH)


def _read(text: str) -> list[int]:
    if len(text) != LENGTH:
        raise ValueError(
            f"A sum has {LENGTH} symbols, as 37+48=085 has, not {len(text)} as "
            f"{text!r}; fill numbers up with zeros."
        )
    for symbol in text:
        if symbol not in SYMBOLS + ABSENT:
            raise ValueError(
                f"{symbol!r} in {text!r} is no symbol of a sum; use {SYMBOLS} and, for "
                f"what is absent, {ABSENT!r}."
            )
    return [-1 if symbol == ABSENT else SYMBOLS.index(symbol) for symbol in text]
