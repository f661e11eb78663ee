"""Is this a digit at all? What an image-label model says of images of another kind.

Three scores, each of which should be higher for images of the known kind:

    confidence    max_y p(y | x), which every classifier has
    likelihood    log p(x), the label absent; of a model that has it
    typical       -|log p(x) - m|, with m the mean of log p over training images

The second is known to fail where the other kind is simpler than the known one
(Nalisnick et al., arXiv 1810.09136); the third mends it as far as what is too likely is
no sample of the model either (arXiv 1906.02994).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from biglearn_lite._images import bits_per_dimension
from biglearn_lite._label_report import is_label, laws, log_probs
from biglearn_lite.multimodal import ImageLabelModel
from biglearn_lite.tasks import Task

__all__ = ["auroc", "novelty"]

QUANTILES = 21  # of each score, at equal steps from the least to the largest


def novelty(
    model: ImageLabelModel, train: Tensor, known: Tensor, other: Tensor, levels: int = 1
) -> dict[str, object]:
    """How well scores of one model tell known images from others.

    Args:
        model: with a class; it is asked for `log p(x)` if its matching is likelihood.
        train: (M, L, P) tokens of training images, for the mean of `log p(x)`.
        known: (N, L, P) tokens of test images.
        other: (K, L, P) tokens of images of another kind.
        levels: grey levels that noise filled, so that a density is one of pixels.

    Returns:
        The `auroc` of each score by its name, and the quantiles of both kinds:
        probabilities for the confidence, bits a pixel for the likelihood.
    """
    sets = {"known": known, "other": other}
    sure = {name: confidence(model, x) for name, x in sets.items()}
    facts: dict[str, object] = {
        "rows": [len(known), len(other)],
        "confidence": auroc(**sure),
        "confidence quantiles": _quantiles(sure),
    }
    if model.config.matching != "likelihood":
        return facts
    said = {name: image_log_prob(model, x) for name, x in sets.items()}
    usual = image_log_prob(model, train).mean()
    near = {name: -(value - usual).abs() for name, value in said.items()}
    pixels = model.config.image * model.config.pixels
    bits = {n: bits_per_dimension(v, pixels, levels) for n, v in said.items()}
    return facts | {
        "likelihood": auroc(**said),
        "typical": auroc(**near),
        "bits a pixel, train": bits_per_dimension(usual, pixels, levels).item(),
        "bits a pixel, quantiles": _quantiles(bits),
    }


def auroc(known: Tensor, other: Tensor) -> float:
    """The area under the ROC curve of a score, (N,) and (K,).

    It is the chance that a known image has the higher score of two, ties counted half:
    1 tells all apart, 0.5 is to toss a coin, and below it the score points the wrong
    way.
    """
    from sklearn.metrics import roc_auc_score  # slow to import, rarely needed

    kinds = torch.cat([torch.ones(len(known)), torch.zeros(len(other))])
    scores = torch.cat([known, other]).double()
    return float(roc_auc_score(kinds.numpy(), scores.numpy()))


def confidence(model: ImageLabelModel, x: Tensor) -> Tensor:
    """`max_y p(y | x)` of whole images: (N,) float64."""
    whole = ~is_label(model).expand(len(x), -1)
    return laws(model, x, whole)[:, 0].amax(-1).exp()


def image_log_prob(model: ImageLabelModel, x: Tensor) -> Tensor:
    """`log p(x)` of images, their labels absent: (N,) nats, float64."""
    return log_probs(model, x, Task.marginal(~is_label(model)[None]))


def _quantiles(scores: Mapping[str, Tensor]) -> dict[str, list[float]]:
    steps = torch.linspace(0, 1, QUANTILES, dtype=torch.float64)
    return {n: value.quantile(steps).tolist() for n, value in scores.items()}
