"""Drawn faces whose attributes have a law that is known exactly.

A face is drawn from 14 yes-or-no attributes with names of CelebA and from continuous
factors: pose, light, colours, shapes. The attributes follow a small Bayesian network
(`NETWORK`), the factors are uniform and independent of it and of each other. Each
region of the image shows a known set of attributes (`REGIONS`, `revealed`), and no
pixel of it depends on any other. So what a visible part says of a hidden attribute is
a sum over a table (`truth`), and completions can be held against it.
"""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from biglearn_lite._faces_law import (
    ATTRIBUTES,
    NETWORK,
    AttributeLaw,
    attribute_law,
)
from biglearn_lite._faces_parts import FACTORS, paint
from biglearn_lite._faces_regions import (
    REGIONS,
    decided,
    region_mask,
    revealed,
    truth,
)

__all__ = [
    "ATTRIBUTES",
    "FACTORS",
    "NETWORK",
    "REGIONS",
    "AttributeLaw",
    "Faces",
    "attribute_law",
    "decided",
    "draw_faces",
    "face_set",
    "region_mask",
    "render",
    "revealed",
    "truth",
]

CHUNK = 128  # faces painted at once: calls cost little then, and planes stay in cache
# split -> (seed, how many)
SETS = {"train": (2407, 20_000), "test": (21_319, 2_000)}


class Faces(NamedTuple):
    """Images of faces with their attributes.

    Attributes:
        images: (N, 3, H, W) uint8.
        attributes: (N, K) bool.
        names: of the K attributes.
    """

    images: Tensor
    attributes: Tensor
    names: tuple[str, ...] = ATTRIBUTES


def draw_faces(n: int, generator: Generator | None = None, size: int = 64) -> Faces:
    """`n` independent faces, attributes from `attribute_law()`.

    The first faces are the same however many are drawn, on every machine.

    Args:
        n: how many; 0 gives none.
        generator: source of the noise.
        size: of the images, height and width in pixels; a multiple of 8.

    Raises:
        ValueError: for another size.
    """
    side = _side(size)
    noise = torch.rand(n, 1 + len(FACTORS), generator=generator, dtype=torch.float64)
    attributes = attribute_law().invert(noise[:, 0])
    return Faces(_render(attributes, noise[:, 1:].float(), side), attributes)


def render(attributes: Tensor, factors: Tensor, size: int = 64) -> Tensor:
    """Faces with given attributes and factors.

    Args:
        attributes: (B, K), 0 or 1, in the order of `ATTRIBUTES`.
        factors: (B, F) float in [0, 1], in the order of `FACTORS`.
        size: of the images, height and width in pixels; a multiple of 8.

    Returns:
        (B, 3, size, size) uint8.

    Raises:
        ValueError: for other shapes or values, or for attributes that never come
            together, such as two colours of hair.
    """
    side, factors = _side(size), torch.as_tensor(factors)
    impossible = attribute_law().log_prob(attributes).isinf()
    if impossible.any():
        row = int(impossible.nonzero()[0, 0])
        names = [n for n, on in zip(ATTRIBUTES, attributes[row], strict=True) if on]
        raise ValueError(
            f"Row {row} has attributes that never come together, {', '.join(names)}; "
            "NETWORK has zeros for what is never drawn."
        )
    if factors.shape != (len(attributes), len(FACTORS)):
        raise ValueError(
            f"Factors are ({len(attributes)}, {len(FACTORS)}), a row a face and a "
            f"column each for FACTORS, not {tuple(factors.shape)}."
        )
    if not ((factors >= 0) & (factors <= 1)).all():
        raise ValueError(
            f"Factors lie between 0 and 1, not {factors.min():g} .. "
            f"{factors.max():g}; the painter knows their scales."
        )
    return _render(torch.as_tensor(attributes).bool(), factors.float(), side)


def face_set(split: str, size: int = 64) -> Faces:
    """The data set: 20,000 faces of `"train"` or 2,000 of `"test"`, always the same.

    Raises:
        ValueError: for another split or size.
    """
    if split not in SETS:
        raise ValueError(f"Unknown split {split!r}; choose from {tuple(SETS)}.")
    seed, count = SETS[split]
    return draw_faces(count, torch.Generator().manual_seed(seed), size)


def _side(size: int) -> int:
    if not isinstance(size, Integral) or size < 8 or size % 8:
        raise ValueError(
            f"The size of a face is a multiple of 8 pixels, not {size!r}; take 32 or "
            "64."
        )
    return int(size)


def _render(attributes: Tensor, factors: Tensor, size: int) -> Tensor:
    images = torch.empty(len(attributes), 3, size, size, dtype=torch.uint8)
    for start in range(0, len(attributes), CHUNK):
        rows = slice(start, start + CHUNK)
        images[rows] = paint(attributes[rows], factors[rows], size)
    return images
