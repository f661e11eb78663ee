"""Attributes that were drawn, against a law of them that is known exactly."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from biglearn_lite._faces_law import AttributeLaw, pair_law
from biglearn_lite._task_checks import whole

__all__ = ["Reliability", "pair_distances", "pooled_kl", "sampled_calibration"]


class Reliability(NamedTuple):
    """Exact probabilities and sampled frequencies, bin by bin.

    Attributes:
        error: the mean distance of the two, weighted.
        probability: (bins,) mean exact probability; NaN in an empty bin.
        frequency: (bins,) mean sampled frequency.
        weight: (bins,) share of what was asked.
    """

    error: float
    probability: Tensor
    frequency: Tensor
    weight: Tensor


def sampled_calibration(
    probability: Tensor, frequency: Tensor, bins: int = 10
) -> Reliability:
    """Calibration error of what a sampler draws, where the truth is known.

        sum over bins of  weight * abs(mean frequency - mean probability)

    with bins of equal width in the exact probability: the expected calibration error
    (Guo et al. 2017, eq. 3), with draws in place of confidences and the law in place of
    labels. A perfect sampler's is zero up to chance, which `K` draws a row leave.

    Args:
        probability: (N,) exact, of yes.
        frequency: (N,) share of the draws that are yes.
        bins: how many.

    Raises:
        ValueError: for other shapes, no rows, or values outside of [0, 1].
    """
    p, f = (each.detach().double().cpu() for each in (probability, frequency))
    fits = p.ndim == 1 and p.shape == f.shape and len(p)
    if not fits or not all(((v >= 0) & (v <= 1)).all() for v in (p, f)):
        raise ValueError(
            "Calibration compares probabilities (N,) with frequencies (N,), N at least "
            f"1, all from 0 to 1, got {tuple(p.shape)} and {tuple(f.shape)}."
        )
    place = (p * whole("bins", bins)).long().clamp(max=bins - 1)
    count, of_p, of_f = (
        torch.zeros(bins, dtype=torch.float64).index_add_(0, place, values)
        for values in (torch.ones_like(p), p, f)
    )
    error = (of_f - of_p).abs().sum() / len(p)
    return Reliability(error.item(), of_p / count, of_f / count, count / len(p))


def pooled_kl(drawn: Tensor, probability: Tensor, groups: Tensor) -> float:
    """KL from the sampled law of each attribute to the exact one, in nats.

        mean over rows and attributes of  f log(f / p) + (1 - f) log((1 - f) / (1 - p))

    Rows of a group have the same `p`, so that `f` is the share of yes in all draws of
    the group. What is certain, `p` of 0 or 1, is left out: one wrong reading would make
    the sum infinite.

    Args:
        drawn: (K, B, A) bool, K draws for each row.
        probability: (B, A) exact, of yes; NaN for what is not asked.
        groups: (B,) whole numbers.

    Returns:
        The mean; NaN if nothing is uncertain.

    Raises:
        ValueError: for other shapes, or a group with more than one probability.
    """
    drawn, p = drawn.double(), probability.double()
    if drawn.ndim != 3 or p.shape != drawn.shape[1:] or groups.shape != p.shape[:1]:
        raise ValueError(
            "A pooled KL takes draws (K, B, A), probabilities (B, A) and groups (B,), "
            f"got {tuple(drawn.shape)}, {tuple(p.shape)} and {tuple(groups.shape)}."
        )
    _, groups = groups.unique(return_inverse=True)
    size = groups.bincount().double()[:, None]
    total = torch.zeros(len(size), p.shape[1], dtype=torch.float64)
    mean = total.index_add(0, groups, p) / size
    same = (mean[groups] - p).abs() <= 1e-9
    if not (same | (mean[groups].isnan() & p.isnan())).all():
        raise ValueError(
            "Rows of a group have one law, and these have several; a group is all rows "
            "that show the same values of the same attributes."
        )
    f = total.index_add(0, groups, drawn.mean(0)) / size
    kl = torch.xlogy(f, f / mean) + torch.xlogy(1 - f, (1 - f) / (1 - mean))
    asked = (mean > 0) & (mean < 1)
    weight = asked * size
    return (torch.where(asked, kl, 0.0) * weight).sum().item() / some(weight)


def some(weight: Tensor) -> float:
    """A sum to divide by; what has no rows has no mean."""
    return weight.sum().item() or math.nan


def pair_distances(attributes: Tensor, law: AttributeLaw) -> Tensor:
    """Total variation between sampled and exact law of every two attributes.

        1/2 sum over values u, v of  abs(share of (u, v) - P(u, v))

    Args:
        attributes: (N, K) drawn, 0 or 1.
        law: the exact one.

    Returns:
        (K, K) float64, symmetric; on the diagonal that of each attribute alone.
    """
    gap = pair_law(law.rows(attributes)) - law.pairs()
    return gap.abs().sum((2, 3)) / 2
