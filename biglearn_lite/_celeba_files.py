"""The official files of CelebA: rows of attributes, images in a zip or a folder.

What is wrong with them is counted by its kind and named, and the rest is used.
"""

from __future__ import annotations

import io
import re
import zipfile
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from tqdm import tqdm

LAST = 202_599  # the ids of the official images are 1 .. LAST
ATTRIBUTES = 40
ALIGNED = (178, 218)  # width and height of an official image
# The middle 148 x 148, which others who train at 64 x 64 take too: brow to chin and
# the hair around, while the whole width of 178 would spend a third on background.
CROP = (15, 35, 163, 183)
JPEG_START = b"\xff\xd8"

HEADER = "wrong count in the header of the attributes"
ODD_ROW = "attribute row that cannot be read"
ROW_TWICE = "attribute row given twice (the first one counts)"
FOREIGN = "file that is not named like an official image"
IMAGE_TWICE = "image given twice (the first one counts)"
NO_IMAGE = "attribute row without image"
NO_ROW = "image without attribute row"
NO_JPEG = "image that is no JPEG"
DAMAGED = "image that is truncated or damaged"
OTHER_SIZE = "image of another size than 178x218"

Problems = dict[str, list[str]]  # kind -> names


class PrepareError(RuntimeError):
    """Nothing can be made of the official files as they are."""


class Member(NamedTuple):
    """A file in the zip or folder: its name, where it lies, what tells a change."""

    name: str
    place: zipfile.ZipInfo | Path
    stamp: tuple[int, ...]


@dataclass(frozen=True)
class Table:
    """Names of the attributes, and official id -> (40,) bool."""

    names: tuple[str, ...]
    rows: dict[int, np.ndarray]

    def of(self, ids: np.ndarray) -> np.ndarray:
        """The rows of these images, (N, 40) bool."""
        rows = [self.rows[image] for image in ids.tolist()]
        return np.array(rows, bool).reshape(-1, ATTRIBUTES)


class Shard(NamedTuple):
    """Some prepared faces.

    Attributes:
        ids: (n,) int64, the official ids, rising.
        images: (n, 3, size, size) uint8.
        problems: what was met on the way.
    """

    ids: np.ndarray
    images: np.ndarray
    problems: Problems


def official_id(name: str) -> int | None:
    """The number in `000001.jpg`, wherever it lies; None for any other name."""
    found = re.fullmatch(r"(?:.*/)?([0-9]{6})\.jpg", name, re.DOTALL)
    number = int(found[1]) if found else 0
    return number if 1 <= number <= LAST else None


# ------------------------------------------------------------------ attributes


def read_attributes(path: Path, problems: Problems) -> Table:
    """Rows of a file such as the official `list_attr_celeba.txt`.

    It holds the number of images, the names of the attributes, then a row for each
    image: its name and forty times 1 or -1.

    Raises:
        PrepareError: if there is no line with the names.
    """
    text = path.read_text("utf-8-sig", errors="replace")
    lines = [(n, x.split()) for n, x in enumerate(text.splitlines(), 1) if x.strip()]
    at = next((i for i in (0, 1) if _are_names(lines[i : i + 1])), None)
    if at is None:
        raise PrepareError(
            f"{path} is not an official list_attr_celeba.txt: its second line should "
            f"hold the names of {ATTRIBUTES} attributes; get the file again."
        )
    count = " ".join(lines[0][1]) if at else "none"
    names, rows = tuple(lines[at][1]), lines[at + 1 :]
    if count != str(len(rows)):
        problems[HEADER].append(f"{count[:20]} for {len(rows)} rows")
    return Table(names, _rows(rows, problems))


def _are_names(lines: list[tuple[int, list[str]]]) -> bool:
    return bool(lines) and len(lines[0][1]) == len(set(lines[0][1])) == ATTRIBUTES


def _rows(
    lines: list[tuple[int, list[str]]], problems: Problems
) -> dict[int, np.ndarray]:
    rows: dict[int, np.ndarray] = {}
    for number, (name, *values) in lines:
        image = official_id(name)
        if image is None or len(values) != ATTRIBUTES or not set(values) <= {"1", "-1"}:
            problems[ODD_ROW].append(f"line {number} ({name[:20]})")
        elif image in rows:
            problems[ROW_TWICE].append(f"line {number} ({name})")
        else:
            rows[image] = np.array([value == "1" for value in values])
    return rows


# ------------------------------------------------------------------ images


class Images:
    """The files in a zip, or in a folder and below; a context manager.

    Raises:
        PrepareError: for a file that is no whole zip.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._archive: zipfile.ZipFile | None = None
        if path.is_dir():
            return
        try:
            self._archive = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise PrepareError(
                f"{path} is no whole zip file, as img_align_celeba.zip is: get it "
                "again, or unpack what there is of it and name the folder."
            ) from error

    def __enter__(self) -> Images:
        return self

    def __exit__(self, *_: object) -> None:
        if self._archive:
            self._archive.close()

    def members(self) -> list[Member]:
        """All files, in the order of their names."""
        if self._archive:
            stamp = self.path.stat().st_mtime_ns
            found = [
                Member(info.filename, info, (stamp, info.header_offset, info.file_size))
                for info in self._archive.infolist()
                if not info.is_dir()
            ]
        else:
            found = []
            for path in filter(Path.is_file, self.path.rglob("*")):
                about = path.stat()
                name = path.relative_to(self.path).as_posix()
                found.append(Member(name, path, (about.st_mtime_ns, about.st_size)))
        return sorted(found, key=lambda member: member.name)

    def read(self, member: Member) -> bytes:
        """The content of a file."""
        if isinstance(member.place, Path):
            return member.place.read_bytes()
        assert self._archive
        return self._archive.read(member.place)


def pair(
    members: list[Member], table: Table, problems: Problems
) -> list[tuple[int, Member]]:
    """Official ids that have both a row and an image, in order, with the image."""
    images: dict[int, Member] = {}
    for member in members:
        image = official_id(member.name)
        if image is None:
            problems[FOREIGN].append(member.name)
        elif image in images:
            problems[IMAGE_TWICE].append(member.name)
        else:
            images[image] = member
    for kind, lonely in (
        (NO_IMAGE, table.rows.keys() - images.keys()),
        (NO_ROW, images.keys() - table.rows.keys()),
    ):
        if lonely:
            problems[kind] += [f"{image:06}.jpg" for image in sorted(lonely)]
    return sorted((i, images[i]) for i in images.keys() & table.rows.keys())


def read_faces(
    images: Images,
    pairs: list[tuple[int, Member]],
    size: int,
    pool: Executor,
    bar: tqdm,
) -> Shard:
    """The faces in these files, and what is wrong with the others."""

    def read(one: tuple[int, Member]) -> np.ndarray | str:
        try:
            return _face(images.read(one[1]), size)
        except Exception:  # foreign bytes can fail in any way
            return DAMAGED

    ids, problems = [], {}
    faces = np.empty((len(pairs), 3, size, size), np.uint8)
    for (image, member), face in zip(pairs, pool.map(read, pairs), strict=True):
        if isinstance(face, str):
            problems.setdefault(face, []).append(member.name)
        else:
            faces[len(ids)] = face
            ids.append(image)
        bar.update()
    return Shard(np.array(ids, np.int64), faces[: len(ids)], problems)


def _face(data: bytes, size: int) -> np.ndarray | str:
    """The face as (3, size, size) uint8, or which kind of problem it is.

    The middle of an official image, made smaller with Lanczos' filter. A square image
    that is not too small counts as cut out already.
    """
    from PIL import Image

    if not JPEG_START.startswith(data[:2]):
        return NO_JPEG
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        if image.size == ALIGNED:
            face = image.convert("RGB").crop(CROP)
        elif image.width == image.height >= size:
            face = image.convert("RGB")
        else:
            return OTHER_SIZE
    small = face.resize((size, size), Image.Resampling.LANCZOS)
    return np.asarray(small).transpose(2, 0, 1)
