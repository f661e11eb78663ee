"""Prepared faces on disk: shards while preparing goes on, one file when it is done."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from biglearn_lite._celeba_files import Problems, Shard
from biglearn_lite.files import write_atomically

TERMS = "CelebA: non-commercial research and education only, no redistribution."


def write_shard(path: Path, shard: Shard, key: str) -> None:
    """`key` says which files, options and version it was made with."""
    from safetensors.numpy import save

    about = {"key": key, "problems": json.dumps(shard.problems)}
    tensors = {"ids": shard.ids, "images": shard.images}
    write_atomically(path, save(tensors, metadata=about))


def peek_shard(path: Path, key: str) -> tuple[np.ndarray, Problems] | None:
    """Its ids and problems; None if it is absent, damaged or made with another key."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            about = file.metadata() or {}
            if about.get("key") != key:
                return None
            return file.get_tensor("ids"), json.loads(about["problems"])
    except (OSError, SafetensorError):
        return None


def shard_images(path: Path) -> np.ndarray:
    """The images of a shard that is there."""
    from safetensors.numpy import load_file

    return load_file(path)["images"]


def write_cache(
    path: Path,
    shards: Iterator[np.ndarray],
    ids: np.ndarray,
    attributes: np.ndarray,
    names: tuple[str, ...],
    size: int,
) -> None:
    """One safetensors file of all images, which never are in memory together.

    The library wants whole tensors, so the head is written here: eight bytes with its
    length, then JSON that says where each tensor lies. `path` is written in place.

    Args:
        path: the file.
        shards: the images, in parts.
        ids: (N,) int64, the official ids, rising.
        attributes: (N, 40) bool.
        names: of the attributes.
        size: of the images.
    """
    shape = [len(ids), 3, size, size]
    tensors = {
        "ids": ("I64", [len(ids)], ids.nbytes),
        "images": ("U8", shape, int(np.prod(shape))),
        "attributes": ("BOOL", list(attributes.shape), attributes.nbytes),
    }
    about = {"names": json.dumps(names), "size": str(size), "terms": TERMS}
    with path.open("wb") as file:
        file.write(_head(tensors, about))
        file.write(ids.astype("<i8").tobytes())
        for images in shards:
            file.write(images.tobytes())
        file.write(attributes.tobytes())
        file.flush()
        os.fsync(file.fileno())  # it is moved next, over what was there before


def _head(
    tensors: Mapping[str, tuple[str, list[int], int]], about: Mapping[str, str]
) -> bytes:
    head: dict[str, object] = {"__metadata__": about}
    end = 0
    for name, (dtype, shape, length) in tensors.items():
        span = [end, end + length]
        head[name] = {"dtype": dtype, "shape": shape, "data_offsets": span}
        end += length
    text = json.dumps(head, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # the tensors begin at a multiple of 8
    return len(text).to_bytes(8, "little") + text


def no_face(path: Path, wanted: range) -> ValueError:
    """The error where a split is empty: nothing can be done with no face at all."""
    return ValueError(
        f"{path} has no face with an id from {wanted.start} to {wanted.stop - 1}; "
        "prepare official files that have some, or take another split."
    )


def read_cache(
    path: Path, wanted: range
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Images and attributes of the faces with these ids, and the attributes' names.

    Raises:
        ValueError: if the file is damaged, or has no such face.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            ends = [wanted.start, wanted.stop]
            first, last = np.searchsorted(file.get_tensor("ids"), ends).tolist()
            names = tuple(json.loads(file.metadata()["names"]))
            if first == last:
                raise no_face(path, wanted)
            images, attributes = (
                np.array(file.get_slice(name)[first:last])
                for name in ("images", "attributes")
            )
    except (SafetensorError, KeyError, TypeError, json.JSONDecodeError) as error:
        why = " ".join(str(error).split())
        raise ValueError(
            f"{path} is no whole file of prepared faces ({why[:100]}); delete it and "
            "run `biglearn data prepare celeba` again."
        ) from error
    return images, attributes, names
