"""Checks of arguments about images: the rule, what came, what to do."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch


def patch_grid(
    patch: int, height: int, width: int, name: str = "patch"
) -> tuple[int, int]:
    """How many patches there are in a column and in a row of an image."""
    if not isinstance(patch, Integral):
        raise ValueError(f"A {name}'s side is one whole number, not {patch!r}.")
    if patch < 1 or height % patch or width % patch:
        raise ValueError(
            f"A {name} of side {patch} does not divide an image of {height} x {width}; "
            "choose a common divisor of both."
        )
    return height // patch, width // patch


def four_dimensions(name: str, images: torch.Tensor) -> torch.Tensor:
    images = torch.as_tensor(images)
    if images.ndim != 4:
        raise ValueError(
            f"{name} needs images (B, C, H, W), not shape {tuple(images.shape)}; "
            "add the missing dimensions with images[:, None]."
        )
    return images


def image_shape(name: str, shape: Sequence[int]) -> tuple[int, int, int, int]:
    """(B, C, H, W), with -1 where the batch is not said."""
    if len(shape) not in (3, 4):
        raise ValueError(f"{name} needs shape=(C, H, W), not {tuple(shape)}.")
    return (-1, *shape) if len(shape) == 3 else tuple(shape)


def require_shape(
    name: str,
    what: str,
    given: torch.Tensor,
    expected: tuple[int, ...],
    shape: Sequence[int],
    about: str = "",
) -> None:
    """Raise unless `given` has this shape; -1 is any number of rows."""
    known = expected[1:] if expected[0] < 0 else expected
    if given.ndim != len(expected) or tuple(given.shape[-len(known) :]) != known:
        wanted = ", ".join("B" if size < 0 else str(size) for size in expected)
        raise ValueError(
            f"{name} needs {what} ({wanted}) for images of shape {tuple(shape)}{about}"
            f", not {tuple(given.shape)}."
        )


def whole_numbers(name: str, values: torch.Tensor) -> torch.Tensor:
    if values.is_floating_point() or values.is_complex():
        raise ValueError(
            f"{name} needs whole numbers, not {values.dtype}; give it grey values as "
            "`load` does."
        )
    return values


def grey_values(name: str, images: torch.Tensor, levels: int) -> torch.Tensor:
    images = whole_numbers(name, torch.as_tensor(images))
    if not isinstance(levels, Integral) or not 2 <= levels <= 256:
        raise ValueError(f"levels is a whole number from 2 to 256, not {levels!r}.")
    require_between(name, images, levels, "; levels is in the dataset's entry")
    return images


def require_between(
    name: str, values: torch.Tensor, levels: int, advice: str = ""
) -> None:
    if values.numel() and not 0 <= int(values.min()) <= int(values.max()) < levels:
        raise ValueError(
            f"{name} needs whole numbers from 0 to {levels - 1}, not "
            f"{int(values.min())} .. {int(values.max())}{advice}."
        )
