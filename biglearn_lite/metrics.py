"""What is measured of images: distances, judges, agreement, and the report of a model.

Everything is a function of tensors, in float64 where it matters. The features are named
(those of a recorded judge, or principal components of the values themselves), numbers
of rows are equal, and every number stands beside what real images, or a perfect
sampler, would get. `image_report` asks any universal model for joint samples,
completions and marginals, and measures them all; `face_report` holds what it draws of
faces against the law of their attributes, which is known.
"""

from __future__ import annotations

from biglearn_lite._agreement import (
    ClassKL,
    agreement,
    bayes_accuracy,
    calibration_error,
    class_kl,
    log_loss,
    perfect_agreement,
)
from biglearn_lite._distances import (
    Comparison,
    Projection,
    compare,
    frechet_distance,
    frechet_floor,
    marginal_distance,
    precision_recall_density_coverage,
)
from biglearn_lite._face_report import face_report
from biglearn_lite._judges import Guess, Judges, JudgeSizes, Look
from biglearn_lite._label_report import (
    Unlabelled,
    block_sources,
    consistency,
    label_report,
    top_sources,
)
from biglearn_lite._novelty import auroc, novelty
from biglearn_lite._report import image_report, random_sources, unit_images
from biglearn_lite._sampled_law import (
    Reliability,
    pair_distances,
    pooled_kl,
    sampled_calibration,
)
from biglearn_lite._scenes import (
    acceptance,
    attribute_shares,
    class_shares,
    diversity,
    seam_strength,
)

__all__ = [
    "ClassKL",
    "Comparison",
    "Guess",
    "JudgeSizes",
    "Judges",
    "Look",
    "Projection",
    "Reliability",
    "Unlabelled",
    "acceptance",
    "agreement",
    "attribute_shares",
    "auroc",
    "bayes_accuracy",
    "block_sources",
    "calibration_error",
    "class_kl",
    "class_shares",
    "compare",
    "consistency",
    "diversity",
    "face_report",
    "frechet_distance",
    "frechet_floor",
    "image_report",
    "label_report",
    "log_loss",
    "marginal_distance",
    "novelty",
    "pair_distances",
    "perfect_agreement",
    "pooled_kl",
    "precision_recall_density_coverage",
    "random_sources",
    "sampled_calibration",
    "seam_strength",
    "top_sources",
    "unit_images",
]
