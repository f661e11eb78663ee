"""How well guesses and completions agree with the truth, and how well they can.

A sampler that is perfect draws from `p(x_T | x_S)`, so the class of its completion is
drawn from `p(y | x_S)`, and so is the true label. Two independent draws are equal with
probability `sum_y p(y | x_S)^2`. That is less than the accuracy of the Bayes
classifier, `max_y p(y | x_S)`: a sampler that agrees more often than the perfect one
has lost diversity.

Of A yes-or-no attributes each is a class of two, so `log_p` is (B, A, 2), labels are
(B, A), and means are over rows and attributes; one of them is `log_p[:, a]`.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from biglearn_lite._task_checks import whole

__all__ = [
    "ClassKL",
    "agreement",
    "bayes_accuracy",
    "calibration_error",
    "class_kl",
    "log_loss",
    "perfect_agreement",
]


def agreement(labels: Tensor, predicted: Tensor) -> float:
    """Share of the predictions that are the label.

    Args:
        labels: (B,) whole numbers, or (B, A) of attributes.
        predicted: the same shape, or one dimension more in front for several
            completions of each row: (K, B) or (K, B, A).

    Raises:
        ValueError: if the shapes do not fit, or there are no rows.
    """
    fits = predicted.shape[-labels.ndim :] == labels.shape
    if labels.ndim not in (1, 2) or not fits or not labels.numel():
        raise ValueError(
            "agreement compares labels (B,) with predictions (B,) or (K, B), B at "
            f"least 1, got {tuple(labels.shape)} and {tuple(predicted.shape)}; of A "
            "attributes, (B, A) with (B, A) or (K, B, A)."
        )
    return (predicted == labels).double().mean().item()


def perfect_agreement(log_p: Tensor) -> float:
    """How often a perfect sampler agrees: the mean over rows of `sum_y p(y | x_S)^2`.

    Args:
        log_p: (B, classes) or (B, A, 2), log probabilities.

    Raises:
        ValueError: if the rows are no log probabilities.
    """
    return (2 * _law(log_p)).exp().sum(1).mean().item()


def bayes_accuracy(log_p: Tensor) -> float:
    """How often the best single guess is right: the mean of `max_y p(y | x_S)`.

    Arguments and errors as for `perfect_agreement`.
    """
    return _law(log_p).max(1).values.exp().mean().item()


def log_loss(log_p: Tensor, labels: Tensor) -> float:
    """Mean of `- log p(label)` in nats.

    Args:
        log_p: (B, classes) or (B, A, 2), log probabilities.
        labels: (B,) or (B, A).

    Raises:
        ValueError: if the rows are no log probabilities, or the labels do not fit.
    """
    return -_law(log_p).gather(1, _fitting(log_p, labels)).mean().item()


def calibration_error(log_p: Tensor, labels: Tensor, bins: int = 15) -> float:
    """Expected calibration error of the most likely class (Guo et al. 2017, eq. 3).

        sum over bins of  share of the rows * abs(accuracy - mean confidence)

    with bins of equal width in the confidence `max_y p(y | x)`.

    Args:
        log_p: (B, classes) or (B, A, 2), log probabilities.
        labels: (B,) or (B, A).
        bins: how many.

    Raises:
        ValueError: if the rows are no log probabilities, or the labels do not fit.
    """
    confidence, guess = _law(log_p).max(1)
    confidence = confidence.exp()
    right = (guess == _fitting(log_p, labels)[:, 0]).double()
    place = (confidence * whole("bins", bins)).long().clamp(max=bins - 1)
    # |sum of (right - confidence)| in a bin is its count times the gap of the means
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(
        0, place, right - confidence
    )
    return (gap.abs().sum() / len(confidence)).item()


class ClassKL(NamedTuple):
    """`value` of a sampler and of a `perfect` one with as many completions."""

    value: float
    perfect: float


def class_kl(
    counts: Tensor, log_p: Tensor, generator: torch.Generator, draws: int = 100
) -> ClassKL:
    """KL from the classes of K completions to `p(y | x_S)`, in nats, mean over rows.

        sum_y f(y) log(f(y) / p(y | x_S)),   f = counts / K

    K draws from the law itself do not have a KL of zero, so beside it stands the value
    of a perfect sampler with the same K, the mean of `draws` simulations.

    Args:
        counts: (B, classes), how many of a row's completions show a class; of
            attributes (B, A, 2), how many show no and yes.
        log_p: of the same shape, log probabilities.
        generator: of the simulations.
        draws: of them.

    Raises:
        ValueError: if the rows are no log probabilities, or the counts of the rows
            are not whole numbers with one positive sum.
    """
    law, given = _law(log_p), tuple(counts.shape)
    counts = _rows(counts.double().cpu())
    total = counts.sum(1)
    good = given == tuple(log_p.shape) and bool((counts >= 0).all())
    if not good or not (total == total[0]).all() or total[0] < 1:
        raise ValueError(
            f"counts are (B, classes) = {tuple(log_p.shape)} numbers of completions, "
            f"as many in each row and at least one, got {given} with sums from "
            f"{total.min():g} to {total.max():g}."
        )
    K = int(total[0])
    # on the generator's device and moved, as all noise
    rows = law.exp().repeat(draws, 1).to(generator.device)
    drawn = torch.multinomial(rows, K, replacement=True, generator=generator).cpu()
    simulated = torch.nn.functional.one_hot(drawn, law.shape[1]).sum(1).double()
    perfect = _mean_kl(simulated / K, law.repeat(draws, 1))
    return ClassKL(_mean_kl(counts / K, law), perfect)


def _mean_kl(shares: Tensor, law: Tensor) -> float:
    each = torch.where(shares > 0, shares * (shares.clamp(min=1e-300).log() - law), 0.0)
    return each.sum(1).mean().item()


def _rows(values: Tensor) -> Tensor:
    """What is said of each attribute of each row, one below the other."""
    return values.flatten(0, -2) if values.ndim > 2 else values


def _law(log_p: Tensor) -> Tensor:
    """(B, classes) or (B A, 2) log probabilities in float64 on the CPU, checked."""
    if log_p.ndim not in (2, 3) or not log_p.numel():
        raise ValueError(
            "log_p is (B, classes), or (B, A, 2) of attributes, with at least one row, "
            f"got {tuple(log_p.shape)}."
        )
    law = _rows(log_p.detach().double().cpu())
    total = law.exp().sum(1)
    if not torch.isclose(total, torch.ones_like(total), atol=1e-4).all():
        raise ValueError(
            "The rows of log_p are logs of probabilities that sum to one, got a sum of "
            f"{total[(total - 1).abs().argmax()]:g}; use log_softmax on scores."
        )
    return law


def _fitting(log_p: Tensor, labels: Tensor) -> Tensor:
    labels = labels.cpu().long()
    if labels.shape != log_p.shape[:-1]:
        raise ValueError(
            f"There is a label for each row of log_p, got {tuple(labels.shape)} for "
            f"{tuple(log_p.shape)}."
        )
    return labels.flatten()[:, None]
