"""Which attributes a drawn face has: a small Bayesian network, and its exact law."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

Node = tuple[tuple[str, ...], dict[tuple[int, ...], float]]

# Attribute -> (parents, {values of the parents: probability of 1}), parents first. The
# signs are those of CelebA, the numbers a choice of this package: what is rare there
# (hats, glasses, moustaches) is less rare here, so that it can be measured. A zero is
# a combination that is never drawn: one colour of hair at most, no fringe under a hat,
# no moustache without Male.
NETWORK: dict[str, Node] = {
    "Male": ((), {(): 0.45}),
    "Young": (("Male",), {(0,): 0.80, (1,): 0.65}),
    "Wearing_Hat": (("Male",), {(0,): 0.10, (1,): 0.20}),
    "Gray_Hair": (
        ("Young", "Male"),
        {(0, 0): 0.35, (0, 1): 0.50, (1, 0): 0.02, (1, 1): 0.02},
    ),
    "Blond_Hair": (
        ("Gray_Hair", "Male"),
        {(0, 0): 0.35, (0, 1): 0.12, (1, 0): 0.0, (1, 1): 0.0},
    ),
    "Black_Hair": (
        ("Gray_Hair", "Blond_Hair"),
        {(0, 0): 0.50, (0, 1): 0.0, (1, 0): 0.0, (1, 1): 0.0},
    ),
    "Bangs": (
        ("Wearing_Hat", "Male"),
        {(0, 0): 0.40, (0, 1): 0.12, (1, 0): 0.0, (1, 1): 0.0},
    ),
    "Eyeglasses": (
        ("Young", "Male"),
        {(0, 0): 0.35, (0, 1): 0.45, (1, 0): 0.10, (1, 1): 0.16},
    ),
    "Heavy_Makeup": (
        ("Male", "Young"),
        {(0, 0): 0.40, (0, 1): 0.65, (1, 0): 0.02, (1, 1): 0.02},
    ),
    "Wearing_Lipstick": (
        ("Heavy_Makeup", "Male"),
        {(0, 0): 0.35, (0, 1): 0.02, (1, 0): 0.92, (1, 1): 0.60},
    ),
    "Mustache": (
        ("Male", "Young"),
        {(0, 0): 0.0, (0, 1): 0.0, (1, 0): 0.45, (1, 1): 0.20},
    ),
    "Big_Nose": (
        ("Male", "Young"),
        {(0, 0): 0.30, (0, 1): 0.12, (1, 0): 0.55, (1, 1): 0.35},
    ),
    "Smiling": (("Male",), {(0,): 0.55, (1,): 0.42}),
    "Mouth_Slightly_Open": (("Smiling",), {(0,): 0.30, (1,): 0.72}),
}
ATTRIBUTES = tuple(NETWORK)
# attributes of which a face has one at most
COLOURS = ("Black_Hair", "Blond_Hair", "Gray_Hair")


@dataclass(frozen=True)
class AttributeLaw:
    """The joint law of K yes-or-no attributes, as a table: every question is exact.

    Attributes:
        names: of the attributes.
        probabilities: (2**K,) float64. Row `i` is the assignment in which attribute
            `k` is bit `k` of `i`; what cannot happen has probability 0.
    """

    names: tuple[str, ...]
    probabilities: Tensor

    def assignments(self) -> Tensor:
        """All of them, in the order of `probabilities`: (2**K, K) bool."""
        places = torch.arange(len(self.names))
        return (torch.arange(len(self.probabilities))[:, None] >> places & 1).bool()

    def log_prob(self, attributes: Tensor) -> Tensor:
        """Of whole assignments (B, K): (B,) float64 in nats, -inf where impossible."""
        return self.probabilities[self._places(attributes)].log()

    def probability(self, **values: bool) -> float:
        """Of an event, as in `law.probability(Male=1, Smiling=0)`."""
        return float(self.probabilities[self._where(values)].sum())

    def given(self, **values: bool) -> AttributeLaw:
        """The conditional law, of all attributes, given the values of some.

        Raises:
            ValueError: for an unknown name, a value but 0 and 1, or what never happens.
        """
        inside = torch.where(self._where(values), self.probabilities, 0.0)
        if not float(inside.sum()):
            raise impossible(values)
        return AttributeLaw(self.names, inside / inside.sum())

    def marginals(self) -> Tensor:
        """Probability of 1 for each attribute: (K,) float64."""
        found = self.probabilities @ self.assignments().double()
        return found.clamp(max=1)  # a sum of all cells may exceed 1 by rounding

    def entropy(self) -> float:
        """Of the joint law, in nats."""
        return float(torch.special.entr(self.probabilities).sum())

    def sample(self, n: int, generator: Generator | None = None) -> Tensor:
        """`n` independent assignments: (n, K) bool. The noise is one number a row."""
        noise = torch.rand(n, generator=generator, dtype=torch.float64)
        return self.invert(noise)

    def invert(self, noise: Tensor) -> Tensor:
        """The assignment at each level (B,) in [0, 1) of the cumulative law: (B, K)."""
        return self.assignments()[self._levels(noise)]

    def _levels(self, noise: Tensor) -> Tensor:
        """Rows of the table at levels of its cumulative sum: (B,) int64."""
        total = self.probabilities.cumsum(0)
        # by the last total, which may miss 1 by rounding, so that none runs over
        return torch.searchsorted(total, noise.double() * total[-1], right=True)

    def posterior(self, attributes: Tensor, known: Tensor) -> Tensor:
        """P(each attribute is 1 | the known ones), by enumeration, row by row.

        Args:
            attributes: (B, K), 0 or 1; only known ones are looked at.
            known: (B, K) or (K,) bool.

        Returns:
            (B, K) float64; 0 or 1 for known attributes.

        Raises:
            ValueError: for other shapes, or known values that never come together.
        """
        rows = self.rows(attributes)
        known = torch.as_tensor(known, dtype=torch.bool).expand(rows.shape)
        found = torch.empty(rows.shape, dtype=torch.float64)
        patterns, which = known.unique(dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            same = which == number
            found[same] = self._posterior(rows[same], pattern)
        return found

    def _posterior(self, rows: Tensor, known: Tensor) -> Tensor:
        """The same where all rows know the same attributes."""
        possible = self.probabilities > 0
        every, chances = self.assignments()[possible], self.probabilities[possible]
        keys = self._places(every & known)
        total = torch.zeros_like(self.probabilities).index_add_(0, keys, chances)
        share = torch.zeros(len(total), len(known), dtype=torch.float64)
        share.index_add_(0, keys, chances[:, None] * every)
        asked = self._places(rows & known)
        if (total[asked] == 0).any():
            row = rows[(total[asked] == 0).nonzero()[0, 0]]
            raise impossible(self._written(row, known))
        found = share[asked] / total[asked, None]
        # a known attribute is certain, not only up to rounding
        return torch.where(known, rows.double(), found)

    def complete(
        self, attributes: Tensor, known: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Draw what is not known, row by row: one whole assignment each, (B, K) bool.

        Arguments and errors as for `posterior`; the noise is one number a row.
        """
        rows = self.rows(attributes)
        known = torch.as_tensor(known, dtype=torch.bool).expand(rows.shape)
        noise = torch.rand(len(rows), generator=generator, dtype=torch.float64)
        # rows with one key ask the same
        keys = self._places(rows & known) + (self._places(known) << len(self.names))
        found = torch.empty_like(rows)
        for key in keys.unique():
            same = keys == key
            first = int(same.nonzero()[0, 0])
            found[same] = self._drawn(rows[first], known[first], noise[same])
        return found

    def _drawn(self, row: Tensor, known: Tensor, noise: Tensor) -> Tensor:
        """Assignments that agree with the known values, at levels of their law."""
        every = self.assignments()
        fits = (self.probabilities > 0) & ~((every ^ row) & known).any(1)
        if not fits.any():
            raise impossible(self._written(row, known))
        law = AttributeLaw(self.names, self.probabilities[fits])
        return every[fits][law._levels(noise)]

    def pairs(self) -> Tensor:
        """Of every two attributes, `[i, j, u, v] = P(i is u, j is v)`: (K, K, 2, 2)."""
        return pair_law(self.assignments(), self.probabilities)

    def _written(self, row: Tensor, known: Tensor) -> dict[str, int]:
        """The known values of one row, by name."""
        triples = zip(self.names, row.tolist(), known.tolist(), strict=True)
        return {name: int(value) for name, value, said in triples if said}

    def _places(self, attributes: Tensor) -> Tensor:
        """Rows of the table: (B,) int64."""
        rows = self.rows(attributes).long()
        return (rows << torch.arange(len(self.names))).sum(1)

    def rows(self, attributes: Tensor) -> Tensor:
        """Attributes (B, K) as bool, or what is wrong with them."""
        rows = torch.as_tensor(attributes)
        if rows.ndim != 2 or rows.shape[1] != len(self.names):
            raise ValueError(
                f"Attributes are (B, {len(self.names)}), a column each for "
                f"{', '.join(self.names)}, not {tuple(rows.shape)}."
            )
        if rows.dtype != torch.bool and ((rows != 0) & (rows != 1)).any():
            raise ValueError(
                "An attribute is 0 or 1; turn -1 and 1, as CelebA has them, into "
                "that with attributes > 0."
            )
        return rows.bool()

    def _where(self, values: Mapping[str, bool]) -> Tensor:
        """Assignments with these values: (2**K,) bool."""
        found = torch.ones(len(self.probabilities), dtype=torch.bool)
        every = self.assignments()
        for name, value in values.items():
            if name not in self.names:
                raise ValueError(
                    f"Unknown attribute {name!r}; choose from {', '.join(self.names)}."
                )
            if value not in (0, 1):
                raise ValueError(f"{name} is 0 or 1, not {value!r}.")
            found &= every[:, self.names.index(name)] == bool(value)
        return found


def impossible(values: Mapping[str, bool]) -> ValueError:
    """What is raised where a law is asked to know what never happens."""
    return ValueError(
        f"A law is conditioned on what can happen, not on {values}; its probability "
        "is 0."
    )


def pair_law(attributes: Tensor, weights: Tensor | None = None) -> Tensor:
    """How often every two attributes have which values together.

    Args:
        attributes: (N, K), 0 or 1.
        weights: (N,) of the rows, which sum to one; None: equal ones.

    Returns:
        (K, K, 2, 2) float64: `[i, j, u, v]` is the share of rows where attribute `i` is
        `u` and `j` is `v`.
    """
    one = attributes.double()
    if weights is None:
        weights = torch.full((len(one),), 1 / len(one), dtype=torch.float64)
    values = torch.stack([1 - one, one])  # (2, N, K)
    return torch.einsum("uni,vnj->ijuv", values * weights[:, None], values)


@functools.lru_cache
def attribute_law() -> AttributeLaw:
    """The law that `NETWORK` says: 14 attributes, 16,384 assignments."""
    names = ATTRIBUTES
    law = AttributeLaw(names, torch.ones(2 ** len(names), dtype=torch.float64))
    table = law.probabilities
    for name, (parents, chances) in NETWORK.items():
        for values, chance in chances.items():
            said = dict(zip(parents, values, strict=True))
            table[law._where({**said, name: True})] *= chance
            table[law._where({**said, name: False})] *= 1 - chance
    assert math.isclose(float(table.sum()), 1, abs_tol=1e-12)
    return law
