"""CelebA from your own official files: 202,599 aligned faces with 40 attributes.

Its agreement allows non-commercial research and education and no redistribution, so
nothing of it is downloaded or shipped. `prepare_celeba`, on the command line `biglearn
data prepare celeba`, makes one file of what you got from its authors, and
`load("celeba")` reads that. The middle 148 x 148 pixels of each image of 178 x 218 are
kept and made smaller with Lanczos' filter. The split is the official one, by the id of
the image.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import warnings
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from biglearn_lite._celeba_cache import (
    no_face,
    peek_shard,
    read_cache,
    shard_images,
    write_cache,
    write_shard,
)
from biglearn_lite._celeba_files import (
    CROP,
    LAST,
    Images,
    Member,
    PrepareError,
    Problems,
    pair,
    read_attributes,
    read_faces,
)
from biglearn_lite.files import make_folder
from biglearn_lite.sources import cache_folder, dataset_entry, locate

if TYPE_CHECKING:
    from tqdm import tqdm

    from biglearn_lite.faces import Faces

__all__ = ["SPLITS", "PrepareError", "Report", "load_celeba", "prepare_celeba"]

SIZES = {"celeba": 64, "celeba32": 32}  # name -> height and width
# split -> official ids
SPLITS = {
    "train": range(1, 162_771),
    "valid": range(162_771, 182_638),
    "test": range(182_638, LAST + 1),
    "all": range(1, LAST + 1),
}
IMAGES = "img_align_celeba.zip"
ROWS = "list_attr_celeba.txt"
READY = "celeba64.zip"  # faces that are cut out already, as JPEGs of 64 x 64
SHARD = 1024  # images: a second's work, which is what a kill can lose
NAMED = 10  # of the files with the same problem


@dataclass(frozen=True)
class Report:
    """What was made of the official files.

    Attributes:
        path: the file that `load` reads.
        faces: how many of each split are in it.
        problems: kind -> names of what was left out, or odd.
        fresh: images that this call read; the others were there from an earlier one.
        seconds: that this took.
    """

    path: Path
    faces: dict[str, int]
    problems: Problems
    fresh: int
    seconds: float

    def __str__(self) -> str:
        parts = ", ".join(f"{count:,} {split}" for split, count in self.faces.items())
        lines = [f"{sum(self.faces.values()):,} faces are in {self.path}: {parts}."]
        if self.fresh:
            rate = self.fresh / self.seconds
            lines.append(f"Read {self.fresh:,} images, {rate:,.0f} a second.")
        return "\n".join((*lines, *described(self.problems)))


def described(problems: Problems) -> list[str]:
    """A line for each kind: how many, and the names of the first ten."""
    lines = []
    for kind, names in problems.items():
        more = ", ..." if len(names) > NAMED else ""
        lines.append(f"{len(names):,} x {kind}: {', '.join(names[:NAMED])}{more}")
    return lines


# ------------------------------------------------------------------ prepare


def prepare_celeba(
    images: str | Path = IMAGES,
    attributes: str | Path = ROWS,
    size: int = 64,
    root: str | Path | None = None,
    *,
    workers: int | None = None,
    progress: bool = False,
) -> Report:
    """Make the one file that `load("celeba")` reads from the official files.

    What is missing, damaged, doubled or odd is counted and named, and the rest is
    prepared. If this is stopped or killed at any moment, the same call goes on where
    it was, and ends with the same bytes. Square images are taken as cut out already.

    Args:
        images: the official zip, or a folder with its files.
        attributes: the official list of attributes.
        size: height and width of the faces, 64 or 32.
        root: folder in which to make `celeba/celeba64.safetensors` (2.5 GB for all
            faces, and as much again until it is done); the cache if None.
        workers: threads that share the work; one a processor, at most 8, if None.
        progress: whether to draw a bar.

    Raises:
        ValueError: for another size, or a folder that cannot be written to.
        FileNotFoundError: if the files are not there; says where to get them.
        PrepareError: if nothing can be made of them; says why.
    """
    paths = Path(images), Path(attributes)
    _check(*paths, size)
    folder = Path(root or cache_folder()) / "celeba"
    make_folder(folder)
    problems: Problems = defaultdict(list)
    table = read_attributes(paths[1], problems)
    with Images(paths[0]) as opened:
        members = opened.members()
        key = _key(paths[1], members, size)
        pairs = pair(members, table, problems)
        job = _Job(opened, pairs, size, folder / f"celeba{size}.part", key)
        start = time.perf_counter()
        ids, fresh = job.make_shards(problems, workers, progress)
        seconds = time.perf_counter() - start
    if not len(ids):
        shutil.rmtree(job.part, ignore_errors=True)
        what = "; ".join(described(problems)) or "they are empty"
        raise PrepareError(
            f"No face could be made of {paths[0]} and {paths[1]} ({what}). "
            f"{dataset_entry('celeba').prepare}"
        )
    whole, path = job.part / "whole", folder / f"celeba{size}.safetensors"
    faces = map(shard_images, job.shards)
    write_cache(whole, faces, ids, table.of(ids), table.names, size)
    os.replace(whole, path)
    shutil.rmtree(job.part, ignore_errors=True)
    return Report(path, _count(ids), dict(problems), fresh, seconds)


def _check(images: Path, attributes: Path, size: int) -> None:
    if size not in SIZES.values():
        raise ValueError(f"Faces are prepared at size 64 or 32, not {size!r}.")
    there = {images: images.exists(), attributes: attributes.is_file()}
    if lost := [str(path) for path, found in there.items() if not found]:
        raise FileNotFoundError(
            f"There is no {' and no '.join(lost)}. {dataset_entry('celeba').prepare}"
        )


def _key(attributes: Path, members: list[Member], size: int) -> str:
    """The same as long as all that the shards depend on is the same."""
    digest = hashlib.sha256(attributes.read_bytes())
    digest.update(repr((size, CROP, SHARD)).encode())
    for name, _, stamp in members:
        digest.update(ascii((name, stamp)).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Job:
    """Faces to prepare, and the folder that holds what is done of them."""

    images: Images
    pairs: list[tuple[int, Member]]
    size: int
    part: Path
    key: str

    @property
    def shards(self) -> list[Path]:
        count = -(-len(self.pairs) // SHARD)
        return [self.part / f"{number:05}.safetensors" for number in range(count)]

    def make_shards(
        self, problems: Problems, workers: int | None, progress: bool
    ) -> tuple[np.ndarray, int]:
        """Make the shards that are not there yet, and note what they met.

        Returns:
            The ids of all faces, and the number of images that were read now.
        """
        all_ids, fresh = [np.zeros(0, np.int64)], 0
        with _bar(len(self.pairs), progress) as bar, _threads(workers) as pool:
            for number, path in enumerate(self.shards):
                some = self.pairs[number * SHARD : (number + 1) * SHARD]
                if known := peek_shard(path, self.key):
                    ids, met = known
                    bar.update(len(some))
                else:
                    shard = read_faces(self.images, some, self.size, pool, bar)
                    write_shard(path, shard, self.key)
                    ids, met, fresh = shard.ids, shard.problems, fresh + len(some)
                all_ids.append(ids)
                for kind, names in met.items():
                    problems[kind] += names
        return np.concatenate(all_ids), fresh


def _bar(total: int, progress: bool) -> tqdm:
    from tqdm.auto import tqdm

    return tqdm(total=total, unit=" images", delay=2, disable=not progress)


def _threads(workers: int | None = None) -> ThreadPoolExecutor:
    """Pillow lets other threads run while it decodes or resizes: most of the time."""
    return ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1))


def _count(ids: np.ndarray) -> dict[str, int]:
    """How many of these rising ids are in each split."""
    ends = [SPLITS[split].start for split in ("train", "valid", "test")]
    counts = np.diff(np.searchsorted(ids, [*ends, LAST + 1])).tolist()
    return dict(zip(("train", "valid", "test"), counts, strict=True))


# ------------------------------------------------------------------ load


def load_celeba(
    name: str = "celeba", split: str = "train", root: str | Path | None = None
) -> Faces:
    """Prepared faces, as `load` gives them.

    Read from the file that `prepare_celeba` made; or, slower, from `celeba64.zip` with
    faces that are cut out already, beside their `list_attr_celeba.txt`.

    Args:
        name: `"celeba"`, 64x64, or `"celeba32"`.
        split: `"train"`, `"valid"`, `"test"` or `"all"`, in the order of their ids.
        root: folder with a subfolder `celeba`, looked at first; then come
            `$BIGLEARN_DATA` and the cache.

    Raises:
        ValueError: for another name or split, or a damaged file, or one without any
            face of the split.
        FileNotFoundError: if the file is not there; says how to make it.
    """
    import torch

    from biglearn_lite.faces import Faces

    if split not in tuple(SPLITS) or name not in tuple(SIZES):
        raise ValueError(
            f"Unknown split {split!r} of {name!r}; choose from {tuple(SPLITS)} of "
            f"{tuple(SIZES)}."
        )
    folder = locate(dataset_entry(name), root, allow_download=False)
    size, wanted = SIZES[name], SPLITS[split]
    path = folder / f"celeba{size}.safetensors"
    if path.is_file():
        images, attributes, names = read_cache(path, wanted)
    else:
        images, attributes, names = _read_ready(folder, wanted, size)
    return Faces(torch.from_numpy(images), torch.from_numpy(attributes), names)


def _read_ready(
    folder: Path, wanted: range, size: int
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images, attributes and their names from a zip of small faces."""
    problems: Problems = defaultdict(list)
    try:
        table = read_attributes(folder / ROWS, problems)
        with Images(folder / READY) as images:
            pairs = pair(images.members(), table, problems)
            pairs = [each for each in pairs if each[0] in wanted]
            with _threads() as pool, _bar(len(pairs), True) as bar:
                shard = read_faces(images, pairs, size, pool, bar)
    except PrepareError as error:
        raise ValueError(str(error)) from error
    for line in described(dict(problems) | shard.problems):
        warnings.warn(f"{folder / READY}: {line}", stacklevel=4)
    if not len(shard.ids):
        raise no_face(folder / READY, wanted)
    return shard.images, table.of(shard.ids), table.names
