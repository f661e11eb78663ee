"""Big cooperative learning: one universal model p(x_T | x_S), all tasks a sample shows.

The book explains one module a chapter; all public names import from here.
"""

from __future__ import annotations

import importlib
from typing import Any

# eager: the function must win over the submodule of the same name
from biglearn_lite.check import check

# name -> module that defines it; loaded on first use, so that a small question does
# not pay for the whole house (and `biglearn --help` answers without importing torch)
_PUBLIC = {
    "Task": "tasks",
    "TaskSampler": "tasks",
    "all_tasks": "tasks",
    "count_tasks": "tasks",
    "masked_language_model": "tasks",
    "next_token": "tasks",
    "permutation": "tasks",
    "masked_autoencoder": "tasks",
    "prefix": "tasks",
    "joint_only": "tasks",
    "classification": "tasks",
    "modalities": "tasks",
    "pair": "tasks",
    "one_of": "tasks",
    "load": "data",
    "draw_faces": "faces",
    "attribute_law": "faces",
    "prepare_celeba": "celeba",
    "patchify": "data",
    "unpatchify": "data",
    "GaussianMixture": "mixtures",
    "UniversalMixture": "mixtures",
    "TransformerSizes": "transformer",
    "MaskedTransformer": "transformer",
    "AnyConditionalSizes": "likelihood",
    "AnyConditionalTransformer": "likelihood",
    "CausalTransformer": "likelihood",
    "matching_loss": "likelihood",
    "Adversarial": "gan",
    "BigLearnGAN": "gan",
    "Discriminator": "gan",
    "GANSizes": "gan",
    "ImageLabelModel": "multimodal",
    "ImageLabelSizes": "multimodal",
    "random_order": "likelihood",
    "Batches": "training",
    "Settings": "training",
    "fit": "training",
    "read_recipe": "recipe",
    "train": "recipe",
    "Schedule": "cooperation",
    "descend": "cooperation",
    "modes_found": "cooperation",
    "reverse_kl": "cooperation",
    "grid_mixture": "cooperation",
    "corner_start": "cooperation",
    "JointEM": "em",
    "BigLearnEM": "em",
    "kl_landscape": "landscapes",
    "local_minima": "landscapes",
    "Minimum": "landscapes",
    "face_report": "metrics",
    "frechet_distance": "metrics",
    "image_report": "metrics",
    "sampled_calibration": "metrics",
    "load_run": "runs",
    "claim": "claims",
}
_MODULES = (
    "tasks",
    "data",
    "faces",
    "celeba",
    "mixtures",
    "transformer",
    "landscapes",
    "cooperation",
    "em",
    "likelihood",
    "gan",
    "multimodal",
    "metrics",
    "questions",
    "training",
    "recipe",
    "studies",
    "runs",
    "figures",
    "claims",
)

__all__ = ["check", *_PUBLIC, *_MODULES]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        value = getattr(importlib.import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
