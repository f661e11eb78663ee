"""Prepared data as judges and reports of images see them: real images, and ways back.

A report asks a model through functions, so that it need not know what its tokens are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from biglearn_lite._label_report import Unlabelled
from biglearn_lite._prepare import Prepared
from biglearn_lite._readings import columns
from biglearn_lite._report import TRAIN, spread_rows
from biglearn_lite.data import FACE_SIZES
from biglearn_lite.metrics import Judges
from biglearn_lite.runs import Run, load_run
from biglearn_lite.sources import dataset_entry

SEED = 1234  # of tasks, orders and noise, so that all models are asked the same


def judges_of(prepared: Prepared) -> Run:
    """The record of a dataset's judges; `mnist5k` is judged as `mnist`."""
    if prepared.labels is None:
        raise ValueError("Only images can be judged: data.name is a set of images.")
    name = prepared.name.removesuffix("5k").removesuffix("32")
    return load_run(f"{name}-judge")


def label_judges(prepared: Prepared) -> Run | None:
    """The judges of what an image-label model generates, if they read all its labels.

    Attributes are read in the order in which the model has them. Photographs have more
    of them than their judges can read, and then there is None; nor need there be judges
    of attributes, since all that is said of labels can be measured without.
    """
    layout = prepared.domain.layout
    if layout.labels > 1 and prepared.name not in FACE_SIZES:
        return None
    try:
        return judges_of(prepared)
    except FileNotFoundError:
        if layout.labels == 1:
            raise
        return None


def real_images(
    prepared: Prepared, judges: Judges | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Training and test images in [0, 1], and labels or attributes of the latter.

    Of attributes, those that the judges read; without judges, all.
    """
    top = dataset_entry(prepared.name).levels - 1
    data = prepared.batches.data if prepared.train is None else prepared.train
    # only those that are looked at: of photographs, all are half a gigabyte
    train = data[spread_rows(len(data), TRAIN).to(data.device)].cpu().float() / top
    labels = prepared.labels
    if judges is not None and (wanted := judges.config.attributes):
        labels = labels[:, columns(prepared.names, wanted)]
    return train, prepared.test.float() / top, labels


def of_images(model: nn.Module, prepared: Prepared) -> Any:
    """A model of images alone: of an image-label model, with its labels absent."""
    return model if prepared.domain.layout is None else Unlabelled(model)


def patches(prepared: Prepared, tokens: Tensor) -> Tensor:
    """Of tokens, those of the image alone: (B, N, D)."""
    layout = prepared.domain.layout
    return tokens if layout is None else layout.split(tokens)[0]


def ways(
    prepared: Prepared, labels: bool = False
) -> dict[str, Callable[[Tensor], Tensor]]:
    """From images in [0, 1] to tokens, of the image alone or of all, and back."""
    return {
        "tokens": lambda x: tokens_of(prepared, x, labels),
        "restore": lambda tokens: grey(prepared, tokens),
    }


def tokens_of(prepared: Prepared, x: Tensor, labels: bool) -> Tensor:
    """Tokens of images in [0, 1]; the domain's noise is always the same."""
    top = dataset_entry(prepared.name).levels - 1
    whole = (x * top).round().to(torch.uint8)
    made = prepared.domain.transform(whole, torch.Generator().manual_seed(SEED))
    return made if labels else patches(prepared, made)


def grey(prepared: Prepared, tokens: Tensor) -> Tensor:
    """Images in [0, 1]. Noise that filled the steps between grey levels goes again."""
    made, steps = prepared.domain.restore(tokens), prepared.domain.levels
    if steps == 1:
        return made
    return (made * steps).floor().clamp(0, steps - 1) / (steps - 1)
