"""Laws of a count of tokens, as tables, and how to draw from them.

`TaskSampler` and its presets differ in how many tokens they give and ask for; these are
the laws of those numbers.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import special
from torch import Tensor

from biglearn_lite._task_checks import beta_ratio, whole

Ratio = tuple[float, float]


def share_law(places: int, ratio: Ratio) -> np.ndarray:
    """Probabilities of `0, 1, ..., places` for the count `ceil(r * places)`.

    `r` is Beta distributed with parameters `ratio = (a, b)`: mean `a / (a + b)`, and
    uniform for `(1, 1)`, which makes `1, ..., places` equally likely. At least one
    place is taken unless there is none. Derived; float64.
    """
    ratio = beta_ratio("ratio", ratio)
    cumulative = share_table(whole("places", places, least=0), ratio)[places]
    return np.diff(np.append(cumulative, 1.0)[: places + 1], prepend=0.0)


def share_table(length: int, ratio: Ratio) -> np.ndarray:
    """`P(ceil(r n) <= k)` for `n = 0..L` and `k = 0..L-1`, `r` from Beta(`ratio`)."""
    sizes = np.arange(length + 1)[:, None]
    share = np.minimum(np.arange(length)[None, :] / np.maximum(sizes, 1), 1.0)
    return np.where(sizes == 0, 1.0, special.betainc(*ratio, share))


class Counts:
    """Draw a count by inverting its law, given as `table[n, k] = P(count <= k | n)`.

    A table, because `torch` cannot draw Beta numbers from a generator, and because a
    look-up is the same on every device.
    """

    def __init__(self, table: np.ndarray) -> None:
        self._tables = {torch.device("cpu"): torch.from_numpy(table).float()}

    def __call__(self, n: Tensor, noise: Tensor) -> Tensor:
        if n.device not in self._tables:
            self._tables[n.device] = self._tables[torch.device("cpu")].to(n.device)
        return (noise[:, None] >= self._tables[n.device][n]).sum(1)
