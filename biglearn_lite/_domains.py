"""The domain a model sees its data in: what its tokens are, and the way back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Generator, Tensor

from biglearn_lite._images import (
    binarize,
    block_dct,
    dequantize,
    inverse_block_dct,
    pack_bits,
    patchify,
    pixels,
    unpack_bits,
    unpatchify,
    unpixels,
)
from biglearn_lite._label_tokens import Layout

Transform = Callable[..., Tensor]


@dataclass(frozen=True)
class Domain:
    """Tokens of one kind of data.

    Attributes:
        name: `"symbols"`, `"pixels"`, `"bits"`, `"scaled"`, `"patches"` or
            `"frequencies"`.
        length: `L`.
        symbols: `V`, or 0.
        values: `P`, or 0.
        dimensions: pixels of an image (characters of a text), for bits per dimension.
        levels: what a density counts against, see `dequantize`; 1 for symbols.
        transform: (rows of the data, generator) -> tokens; values are not looked at.
            With labels in the sequence, they are its third argument; None: not known.
        restore: tokens -> images (B, C, H, W) in [0, 1], or the tokens themselves.
        layout: of patches and labels, if there are labels in the sequence.
    """

    name: str
    length: int
    symbols: int
    values: int
    dimensions: int
    levels: int
    transform: Transform
    restore: Callable[[Tensor], Tensor]
    layout: Layout | None = None

    @property
    def image(self) -> int:
        """Tokens that are no labels."""
        return self.length if self.layout is None else self.layout.image


def _same(tokens: Tensor, generator: Generator | None = None) -> Tensor:
    return tokens


def text_domain(length: int, symbols: int) -> Domain:
    """Tokens that come as tokens."""
    return Domain("symbols", length, symbols, 0, length, 1, _same, _same)


def image_domain(
    name: str, shape: Sequence[int], levels: int, size: Sequence[int] = (2, 2)
) -> Domain:
    """Images as tokens.

    Args:
        name: `"pixels"` (a symbol a pixel), `"bits"` (black and white; a symbol a
            patch), `"scaled"` (patches of floats from -1 to 1), `"patches"` (from 0 to
            1, with noise that fills the steps) or `"frequencies"` of them.
        shape: (C, H, W).
        levels: grey levels of the data.
        size: rows and columns of a patch or block.

    Raises:
        ValueError: for an unknown name, or if the patches do not fill the image.
    """
    shape, many = tuple(shape), math.prod(shape)
    rows, columns = size
    top = max(1, levels - 1)
    if name == "pixels":
        return Domain(
            name, many, levels, 0, many, 1,
            transform=lambda x, g=None: pixels(x),
            restore=lambda t: unpixels(t, shape) / top,
        )  # fmt: skip
    if name == "bits":
        length = many // (shape[0] * rows * columns)
        return Domain(
            name, length, 2 ** (shape[0] * rows * columns), 0, many, 1,
            transform=lambda x, g=None: pack_bits(
                binarize(x, levels, trusted=True), rows, columns, trusted=True
            ),
            restore=lambda t: unpack_bits(t, rows, columns, shape).float(),
        )  # fmt: skip
    if name not in ("scaled", "patches", "frequencies"):
        known = ("pixels", "bits", "scaled", "patches", "frequencies")
        raise ValueError(f"Images become tokens as one of {known}, got {name!r}.")
    if rows != columns:
        raise ValueError(f"{name} are square, got a size of {rows} x {columns}.")
    square = rows * rows
    if name == "scaled":  # patches without noise, from -1 to 1
        return Domain(
            name, many // (shape[0] * square), 0, shape[0] * square, many, 1,
            transform=lambda x, g=None: patchify(x, rows) * (2 / top) - 1,
            restore=lambda t: (unpatchify(t, rows, shape) / 2 + 0.5).clamp(0, 1),
        )  # fmt: skip
    if name == "patches":  # a token a patch
        length, values = many // (shape[0] * square), shape[0] * square
        forth, back = patchify, unpatchify
    else:  # a token a frequency
        length, values = square, many // square
        forth, back = block_dct, inverse_block_dct
    return Domain(
        name, length, 0, values, many, levels,
        transform=lambda x, g=None: forth(dequantize(x, levels, g, trusted=True), rows),
        restore=lambda t: back(t, rows, shape),
    )  # fmt: skip


def labelled_domain(domain: Domain, choices: Sequence[int]) -> Domain:
    """The domain of images with labels behind their patches.

    Args:
        domain: `"scaled"` or `"patches"`, of the images.
        choices: values that each label can take, see `Layout`.

    Raises:
        ValueError: if the tokens of the images are no patches of numbers.
    """
    if domain.name not in ("scaled", "patches"):
        raise ValueError(
            "Labels stand behind patches of numbers, so data.tokens must be 'patches' "
            f"or 'scaled', got {domain.name!r}."
        )
    layout = Layout(domain.length, domain.values, tuple(choices))

    def transform(
        x: Tensor, g: Generator | None = None, labels: Tensor | None = None
    ) -> Tensor:
        return layout.join(domain.transform(x, g), labels, trusted=True)

    return dataclasses.replace(
        domain,
        length=layout.length,
        values=layout.values,
        transform=transform,
        restore=lambda t: domain.restore(t[:, : layout.image, : layout.pixels]),
        layout=layout,
    )
