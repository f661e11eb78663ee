"""An image and its labels as one sequence of tokens, and the way back.

    x = (patch 1, ..., patch N, label 1, ..., label M)      (B, L, P), L = N + M

All tokens are vectors of `P` numbers, so that masks, tasks and batches are those of any
other model: a patch fills the first `D`, a label is a one-hot in the first of its own,
and the rest is zero. Patches come first, so that token `l` is the same patch with and
without labels. What is not known is NaN, as what is absent is everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from biglearn_lite._task_checks import require_rows


@dataclass(frozen=True)
class Layout:
    """Where patches and labels stand.

    Attributes:
        image: `N`, the patches.
        pixels: `D`, the numbers in a patch.
        choices: values that each of the `M` labels can take: `(10,)` is a class of
            ten, `(2, 2, 2)` are three attributes that are there or not.
    """

    image: int
    pixels: int
    choices: tuple[int, ...]

    @property
    def labels(self) -> int:
        """`M`, the label tokens."""
        return len(self.choices)

    @property
    def length(self) -> int:
        """`L = N + M`."""
        return self.image + self.labels

    @property
    def values(self) -> int:
        """`P`, the numbers in a token: enough for a patch and for every one-hot."""
        return max(self.pixels, *self.choices)

    def join(
        self, image: Tensor | None, labels: Tensor | None, trusted: bool = False
    ) -> Tensor:
        """Tokens of images and labels.

        Args:
            image: (B, N, D) floats; None: not known.
            labels: (B, M) whole numbers from 0, or (B,) if there is one label; -1 is a
                label that is not known. None: none is.
            trusted: leave labels unchecked, since looking at them waits for the device.

        Returns:
            (B, L, P) floats, NaN where nothing is known.

        Raises:
            ValueError: if the shapes do not fit, or a label is none of its choices.
        """
        given = labels if image is None else image
        if given is None:
            raise ValueError("Tokens are made of images or labels: give one of them.")
        unknown = {"device": given.device, "dtype": torch.int64}
        if labels is None:
            labels = torch.full((len(given), self.labels), -1, **unknown)
        if image is None:
            shape = len(given), self.image, self.pixels
            image = torch.full(shape, torch.nan, device=given.device)
        labels = self._labels(labels, trusted)
        self._check(image, labels)
        hot = one_hot(labels, self.values).to(image)  # (B, M, P)
        hot = hot.masked_fill(labels[..., None] < 0, torch.nan)
        return torch.cat([F.pad(image, (0, self.values - self.pixels)), hot], 1)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Patches and labels of tokens: the inverse of `join`.

        Args:
            x: (B, L, P).

        Returns:
            Patches (B, N, D), and labels (B, M) int64, or (B,) if there is one, -1
            where a label is NaN.

        Raises:
            ValueError: if the tokens have another shape.
        """
        if x.ndim != 3 or x.shape[1:] != (self.length, self.values):
            raise ValueError(
                f"The tokens of this model are (B, {self.length}, {self.values}), got "
                f"{tuple(x.shape)}; make them with model.tokens."
            )
        hot = x[:, self.image :]  # (B, M, P)
        labels = hot.argmax(-1).masked_fill(hot.isnan().any(-1), -1)  # (B, M)
        patches = x[:, : self.image, : self.pixels]
        return patches, labels[:, 0] if self.labels == 1 else labels

    def check_labels(self, x: Tensor, read: Tensor) -> None:
        """Raise a ValueError if a label that is `read` (B, L) is no one-hot."""
        hot = x[:, self.image :]  # (B, M, P)
        named = hot.argmax(-1)  # (B, M)
        good = (hot == one_hot(named, self.values)).all(-1)
        good &= named < torch.tensor(self.choices, device=x.device)
        good |= ~read[:, self.image :]
        require_rows(
            good.all(1),
            lambda row: (
                f"has a label at position "
                f"{self.image + int((~good[row]).nonzero()[0])} that is no one-hot of "
                "its choices, which the task reads; make tokens with model.tokens."
            ),
        )

    def _labels(self, labels: Tensor, trusted: bool) -> Tensor:
        """(B, M) int64, each of them a choice or unknown."""
        labels = labels[:, None] if labels.ndim == 1 else labels
        if labels.is_floating_point() or labels.shape[1:] != (self.labels,):
            raise ValueError(
                f"Labels are whole numbers (B, {self.labels}), got {labels.dtype} of "
                f"shape {tuple(labels.shape)}."
            )
        labels = labels.long()
        if not trusted:
            most = torch.tensor(self.choices, device=labels.device)
            require_rows(
                ((labels >= -1) & (labels < most)).all(1),
                f"of the labels is none of its choices, which are {self.choices}; they "
                "are counted from 0, and -1 is a label that is not known.",
            )
        return labels

    def _check(self, image: Tensor, labels: Tensor) -> None:
        if image.ndim != 3 or image.shape[1:] != (self.image, self.pixels):
            raise ValueError(
                f"The patches of this model are (B, {self.image}, {self.pixels}), got "
                f"{tuple(image.shape)}; cut the images with patchify."
            )
        if len(labels) != len(image):
            raise ValueError(
                f"There are labels for each image, got {len(labels)} and {len(image)}."
            )


def one_hot(numbers: Tensor, many: int) -> Tensor:
    """(...) whole numbers -> (..., many) boolean; nothing waits for the device."""
    return numbers[..., None] == torch.arange(many, device=numbers.device)
