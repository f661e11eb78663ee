"""Images as tokens: pixels, patches, frequencies of blocks; each with its inverse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral

import torch

from biglearn_lite._image_checks import (
    four_dimensions,
    grey_values,
    image_shape,
    patch_grid,
    require_between,
    require_shape,
    whole_numbers,
)

# 2**15 steps below 1, so that a grey value plus a step is exact in float32
NOISE_STEPS = 2**15


def pixels(images: torch.Tensor) -> torch.Tensor:
    """Each pixel a token, its grey value the symbol.

    Args:
        images: (B, C, H, W) of whole numbers, a tensor or an array.

    Returns:
        (B, L) int64 with L = C H W, by channel, row, column.

    Raises:
        ValueError: if there are not four dimensions, or the numbers are not whole.
    """
    images = whole_numbers("pixels", four_dimensions("pixels", images))
    return images.flatten(1).long()


def unpixels(tokens: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """Put pixels back together: the exact inverse of `pixels`, as uint8.

    Args:
        tokens: (B, L) whole numbers, 0 .. 255.
        shape: (C, H, W) of an image, or the shape (B, C, H, W) of the batch.

    Returns:
        (B, C, H, W) uint8.

    Raises:
        ValueError: if the sizes do not belong together, or a token is no grey value.
    """
    tokens = whole_numbers("unpixels", torch.as_tensor(tokens))
    batch, channels, height, width = image_shape("unpixels", shape)
    require_shape(
        "unpixels", "tokens", tokens, (batch, channels * height * width), shape
    )
    require_between("unpixels", tokens, 256)
    return tokens.reshape(len(tokens), channels, height, width).to(torch.uint8)


def patchify(images: torch.Tensor, patch: int) -> torch.Tensor:
    """Cut images into square patches, the tokens of an image.

    Tokens run row by row; inside a token the values run by channel, row, column.

    Args:
        images: (B, C, H, W) of any type, a tensor or an array.
        patch: side p of a patch; must divide H and W.

    Returns:
        (B, L, P) with L = (H / p) (W / p) and P = C p p.

    Raises:
        ValueError: if there are not four dimensions, or p does not divide H and W.
    """
    images = four_dimensions("patchify", images)
    patch_grid(patch, *images.shape[2:])
    return _cut(images, patch, patch)


def unpatchify(patches: torch.Tensor, patch: int, shape: Sequence[int]) -> torch.Tensor:
    """Put patches back together: the exact inverse of `patchify`.

    Args:
        patches: (B, L, P), a tensor or an array.
        patch: side p of a patch.
        shape: (C, H, W) of an image, or the shape (B, C, H, W) of the batch.

    Returns:
        (B, C, H, W).

    Raises:
        ValueError: if the sizes do not belong together.
    """
    patches = torch.as_tensor(patches)
    batch, channels, height, width = image_shape("unpatchify", shape)
    rows, columns = patch_grid(patch, height, width)
    expected = (batch, rows * columns, channels * patch * patch)
    require_shape(
        "unpatchify", "patches", patches, expected, shape, f" and patch {patch}"
    )
    return _paste(patches, patch, patch, (channels, height, width))


def mirror_half(
    images: torch.Tensor, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Each image mirrored, left to right, with probability one half.

    Args:
        images: (B, C, H, W) of any type.
        generator: of the choice, which is drawn on its device and moved.
    """
    home = images.device if generator is None else generator.device
    chosen = torch.rand(len(images), generator=generator, device=home) < 0.5
    return torch.where(
        chosen.to(images.device)[:, None, None, None], images.flip(-1), images
    )


def shift(
    images: torch.Tensor, most: int, generator: torch.Generator | None = None
) -> torch.Tensor:
    """Move each image by up to `most` pixels, rows and columns each by themselves.

    All `(2 most + 1)^2` moves are equally likely; what comes in at the edge is 0. A
    model of shifted images learns the law of these, not that of the data.

    Args:
        images: (B, C, H, W) of any type.
        most: pixels.
        generator: source of the noise, which is drawn on its device and moved.

    Returns:
        (B, C, H, W) of the same type.
    """
    home = images.device if generator is None else generator.device
    size = 2, len(images), 1
    moves = torch.randint(-most, most + 1, size, generator=generator, device=home)
    down, right = moves.to(images.device)  # each (B, 1)
    return _slide(_slide(images, down).mT, right).mT


def _slide(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Move the rows of each image, (B, 1) pixels downwards."""
    height = images.shape[2]
    place = torch.arange(height, device=images.device) - rows  # (B, H), where from
    inside = ((place >= 0) & (place < height))[:, None, :, None]
    place = place.clamp(0, height - 1)[:, None, :, None]
    return images.gather(2, place.expand(images.shape)) * inside


def block_dct(images: torch.Tensor, block: int) -> torch.Tensor:
    """Each frequency a token: the cosine transform (DCT-II) of square blocks.

    With the orthonormal matrix `D[k, i] = c_k cos(pi (2 i + 1) k / (2 n))`, where
    `c_0 = sqrt(1 / n)` and else `c_k = sqrt(2 / n)`, a block `X` becomes `D X D^T` (as
    in JPEG, which does it with n = 8). Token number `l` collects one frequency of all
    blocks; tokens run from low to high in JPEG's zigzag, so the first is n times the
    mean of each block, a small version of the image, and "the first tokens are given"
    asks for a sharper one. The map is a rotation, `|det| = 1`: a density of the tokens
    is a density of the pixels.

    Args:
        images: (B, C, H, W); whole numbers are turned into floats first.
        block: side n of a block; must divide H and W.

    Returns:
        (B, L, P) with L = n n and P = C (H / n) (W / n), by channel, row, column of
        the block. Differentiable; on the device of the images.

    Raises:
        ValueError: if there are not four dimensions, or n does not divide H and W.
    """
    images = four_dimensions("block_dct", images)
    if not images.is_floating_point():
        images = images.to(torch.get_default_dtype())
    channels, height, width = images.shape[1:]
    patch_grid(block, height, width, "block")
    blocks = _cut(images, block, block).unflatten(2, (channels, block * block))
    spectra = blocks @ _cosines(block).to(images).T  # (B, blocks, C, L)
    return spectra.permute(0, 3, 2, 1).flatten(2)


def inverse_block_dct(
    tokens: torch.Tensor, block: int, shape: Sequence[int]
) -> torch.Tensor:
    """Images from the frequencies of their blocks: the inverse of `block_dct`.

    Args:
        tokens: (B, L, P) floats, as `block_dct` gives them.
        block: side n of a block.
        shape: (C, H, W) of an image, or the shape (B, C, H, W) of the batch.

    Returns:
        (B, C, H, W), exact up to rounding of floats.

    Raises:
        ValueError: if the sizes do not belong together.
    """
    tokens = torch.as_tensor(tokens)
    batch, channels, height, width = image_shape("inverse_block_dct", shape)
    rows, columns = patch_grid(block, height, width, "block")
    expected = (batch, block * block, channels * rows * columns)
    about = f" and block {block}"
    require_shape("inverse_block_dct", "tokens", tokens, expected, shape, about)
    spectra = tokens.reshape(len(tokens), block * block, channels, rows * columns)
    blocks = spectra.permute(0, 3, 2, 1) @ _cosines(block).to(tokens)
    return _paste(blocks.flatten(2), block, block, (channels, height, width))


def dequantize(
    images: torch.Tensor,
    levels: int,
    generator: torch.Generator | None = None,
    trusted: bool = False,
) -> torch.Tensor:
    """Grey values as numbers in [0, 1): `(image + u) / levels`, u uniform on [0, 1).

    An image of D pixels is a box of volume `levels**-D`. So for a density `p` of these
    numbers, `log p - D log(levels)` is, on average over `u`, at most the log of the
    probability that `p` gives to the box: bits from it (`bits_per_dimension`) are an
    upper bound. `u` is drawn in steps of 2**-15, so `floor(levels * result)` is the
    image again, exactly.

    Args:
        images: whole numbers 0 .. levels - 1, any shape.
        levels: the number of grey levels, as in the dataset's entry; at most 256.
        generator: source of the noise, which is drawn on its device and moved.
        trusted: leave the values unchecked, since looking at them waits for the device.

    Returns:
        float32 of the same shape, in (0, 1).

    Raises:
        ValueError: if the numbers are not whole or not below `levels`.
    """
    images = images if trusted else grey_values("dequantize", images, levels)
    home = images.device if generator is None else generator.device
    steps = torch.randint(NOISE_STEPS, images.shape, generator=generator, device=home)
    noise = (steps.to(images.device) + 0.5) / NOISE_STEPS
    return (images + noise) / levels


def bits_per_dimension(
    log_prob: torch.Tensor, dimensions: int, levels: int = 1
) -> torch.Tensor:
    """Nats of a whole sample as bits a pixel: `-log_prob / (D log 2) + log2(levels)`.

    Args:
        log_prob: natural log of a probability, or of a density of what `dequantize`
            made.
        dimensions: D, the number of pixels.
        levels: of `dequantize`; 1 for a probability.
    """
    return -log_prob / (dimensions * math.log(2)) + math.log2(levels)


def binarize(images: torch.Tensor, levels: int, trusted: bool = False) -> torch.Tensor:
    """Black and white at a fixed threshold: 1 where `pixel >= levels / 2`, else 0.

    Nothing is drawn, so that results can be compared: of 256 levels, 128 and above
    become 1; of 17, 9 and above.

    Args:
        images: whole numbers 0 .. levels - 1, any shape.
        levels: the number of grey levels, as in the dataset's entry.
        trusted: as for `dequantize`.

    Returns:
        uint8 of the same shape.

    Raises:
        ValueError: if the numbers are not whole or not below `levels`.
    """
    images = images if trusted else grey_values("binarize", images, levels)
    return (images >= (levels + 1) // 2).to(torch.uint8)


def pack_bits(
    images: torch.Tensor, rows: int, columns: int, trusted: bool = False
) -> torch.Tensor:
    """Each patch of a binary image one symbol out of `2**(C rows columns)`.

    Nothing is lost, and there are fewer tokens: 28 x 28 pixels in patches of 4 x 2 are
    98 symbols of 256. The bits of a patch run by channel, row, column, the first is
    worth most; patches run row by row.

    Args:
        images: (B, C, H, W) of zeros and ones.
        rows: height of a patch; must divide H.
        columns: width of a patch; must divide W.
        trusted: as for `dequantize`.

    Returns:
        (B, L) int64 with L = (H / rows) (W / columns).

    Raises:
        ValueError: for another shape or value, or a symbol of more than 24 bits.
    """
    images = whole_numbers("pack_bits", four_dimensions("pack_bits", images))
    if not trusted:
        require_between("pack_bits", images, 2, "; use binarize first")
    channels, height, width = images.shape[1:]
    worth = _bit_worth(rows, columns, channels, height, width).to(images.device)
    return (_cut(images, rows, columns) * worth).sum(-1)


def unpack_bits(
    tokens: torch.Tensor, rows: int, columns: int, shape: Sequence[int]
) -> torch.Tensor:
    """Binary images from their symbols: the exact inverse of `pack_bits`.

    Args:
        tokens: (B, L) whole numbers, 0 .. 2**(C rows columns) - 1.
        rows: height of a patch.
        columns: width of a patch.
        shape: (C, H, W) of an image, or the shape (B, C, H, W) of the batch.

    Returns:
        (B, C, H, W) uint8 of zeros and ones.

    Raises:
        ValueError: if the sizes do not belong together, or a token is no such symbol.
    """
    tokens = whole_numbers("unpack_bits", torch.as_tensor(tokens))
    batch, channels, height, width = image_shape("unpack_bits", shape)
    worth = _bit_worth(rows, columns, channels, height, width).to(tokens.device)
    expected = (batch, height // rows * (width // columns))
    about = f" in patches of {rows} x {columns}"
    require_shape("unpack_bits", "tokens", tokens, expected, shape, about)
    require_between("unpack_bits", tokens, 2 ** len(worth))
    bits = (tokens[..., None] & worth > 0).to(torch.uint8)
    return _paste(bits, rows, columns, (channels, height, width))


def _cut(images: torch.Tensor, tall: int, wide: int) -> torch.Tensor:
    """(B, C, H, W) -> (B, L, C tall wide): patches in rows, values by channel."""
    batch, channels, height, width = images.shape
    rows, columns = height // tall, width // wide
    cut = images.reshape(batch, channels, rows, tall, columns, wide)
    cut = cut.permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(batch, rows * columns, channels * tall * wide)


def _paste(
    patches: torch.Tensor, tall: int, wide: int, shape: tuple[int, int, int]
) -> torch.Tensor:
    """The inverse of `_cut`, for images of shape (C, H, W)."""
    channels, height, width = shape
    rows, columns = height // tall, width // wide
    grid = patches.reshape(len(patches), rows, columns, channels, tall, wide)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(len(patches), *shape)


def _cosines(block: int) -> torch.Tensor:
    """(L, n n) float64: a row for each frequency, in zigzag order; orthonormal."""
    i = torch.arange(block, dtype=torch.float64)
    waves = torch.cos(math.pi / block * torch.outer(i, i + 0.5)) * math.sqrt(2 / block)
    waves[0] = math.sqrt(1 / block)
    return torch.kron(waves, waves)[zigzag(block)]


def zigzag(block: int) -> list[int]:
    """Places `row * n + column` of an n x n block by diagonals, in JPEG's order."""
    cells = [(row, column) for row in range(block) for column in range(block)]

    def along(cell: tuple[int, int]) -> tuple[int, int]:
        row, column = cell
        diagonal = row + column  # odd ones run downwards, even ones upwards
        return diagonal, row if diagonal % 2 else column

    return [row * block + column for row, column in sorted(cells, key=along)]


def _bit_worth(
    rows: int, columns: int, channels: int, height: int, width: int
) -> torch.Tensor:
    """(C rows columns,) powers of two, the largest first."""
    for name, side, whole in (("rows", rows, height), ("columns", columns, width)):
        if not isinstance(side, Integral) or side < 1 or whole % side:
            raise ValueError(
                f"{name}={side!r} does not divide an image of {height} x {width}; "
                "choose a divisor of its side."
            )
    bits = channels * rows * columns
    if bits > 24:
        raise ValueError(
            f"A symbol holds at most 24 bits, and {rows} x {columns} with {channels} "
            f"channels are {bits}; choose a smaller patch."
        )
    return 2 ** torch.arange(bits).flip(0)
