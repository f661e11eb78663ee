"""CelebA from official files: a miniature of them, damaged and interrupted.

Where the development files are under $BIGLEARN_DATA, the same loader reads some.
"""

import io
import json
import os
import random
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image

from biglearn_lite import _celeba_cache, _celeba_files, celeba, load
from biglearn_lite._celeba_files import Images, official_id, pair, read_attributes
from biglearn_lite._prepare import prepare
from biglearn_lite._recipe_file import DataPart
from biglearn_lite.celeba import SPLITS, PrepareError, prepare_celeba
from biglearn_lite.sources import DATASETS, cache_folder, find

NAMES = [f"Attribute_{n}" for n in range(40)]
IDS = [1, 2, 3, 17, 162_770, 162_771, 170_000, 182_637, 182_638, 190_000, 202_599]
PARTS = {"train": IDS[:5], "valid": IDS[5:8], "test": IDS[8:]}
DATA = Path(os.environ.get("BIGLEARN_DATA") or "none") / "celeba"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("BIGLEARN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BIGLEARN_DATA", raising=False)
    monkeypatch.setattr(celeba, "SHARD", 4)


def jpeg(seed, size=(178, 218), mode="RGB", kind="JPEG"):
    """A smooth random picture; photographs are smooth too."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (7, 6, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)
    image.convert(mode).save(buffer := io.BytesIO(), kind, quality=90)
    return buffer.getvalue()


def file_name(image):
    return f"{image:06}.jpg"


class Official:
    """Files as they are distributed, to be spoiled before they are written."""

    def __init__(self, folder, ids=IDS, size=(178, 218)):
        self.folder = folder
        self.files = [(f"img_align_celeba/{file_name(i)}", jpeg(i, size)) for i in ids]
        rng = random.Random(0)
        self.values = {i: [rng.choice((-1, 1)) for _ in NAMES] for i in ids}
        self.head = [str(len(ids)), " ".join(NAMES) + " "]
        self.rows = [self.row(i) for i in ids]

    def row(self, image, values=None):
        """As in the official file: 1 is as wide as -1."""
        values = values or self.values.get(image) or [1] * 40
        return f"{file_name(image)} {' '.join(f'{v:>2}' for v in values)}"

    def attributes(self):
        path = self.folder / "list_attr_celeba.txt"
        path.write_text("\n".join((*self.head, *self.rows)) + "\n")
        return path

    def zip(self, compress=zipfile.ZIP_STORED):
        path = self.folder / "img_align_celeba.zip"
        with zipfile.ZipFile(path, "w", compress) as archive:
            archive.mkdir("img_align_celeba")
            for name, data in self.files:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "Duplicate name")
                    archive.writestr(name, data)
        return path

    def unpacked(self):
        for name, data in self.files:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return self.folder / "img_align_celeba"

    def prepare(self, **options):
        return prepare_celeba(self.zip(), self.attributes(), **options)


@pytest.fixture
def official(tmp_path):
    folder = tmp_path / "official"
    folder.mkdir()
    return Official(folder)


def kept_ids(report):
    return safetensors.numpy.load_file(report.path)["ids"].tolist()


# ---------------------------------------------------------------- what is prepared


def test_a_face_is_the_middle_of_its_image(official):
    report = official.prepare()
    assert report.path == cache_folder() / "celeba" / "celeba64.safetensors"
    assert report.problems == {}
    assert report.fresh == len(IDS)
    faces = load("celeba", "all")
    assert faces.images.shape == (len(IDS), 3, 64, 64)
    assert faces.images.dtype == torch.uint8
    assert faces.names == tuple(NAMES)
    expected = [[v == 1 for v in official.values[i]] for i in IDS]
    assert faces.attributes.tolist() == expected
    for face, (_, data) in zip(faces.images, official.files, strict=True):
        whole = np.asarray(Image.open(io.BytesIO(data)))
        middle = whole[(218 - 148) // 2 :, (178 - 148) // 2 :][:148, :148]
        small = Image.fromarray(middle).resize((64, 64), Image.Resampling.LANCZOS)
        assert (face.permute(1, 2, 0).numpy() == np.asarray(small)).all()


@pytest.mark.parametrize("split", SPLITS)
def test_the_split_goes_by_the_official_id(split, official):
    official.prepare()
    wanted = PARTS.get(split, IDS)
    everything, faces = load("celeba", "all"), load("celeba", split)
    rows = [IDS.index(image) for image in wanted]
    assert torch.equal(faces.images, everything.images[rows])
    assert torch.equal(faces.attributes, everything.attributes[rows])


def test_official_ranges():
    sizes = {split: len(ids) for split, ids in SPLITS.items()}
    assert sizes == {"train": 162_770, "valid": 19_867, "test": 19_962, "all": 202_599}
    known = ("000001.jpg", "a/b/202599.jpg", "./000100.jpg")
    assert [official_id(name) for name in known] == [1, 202_599, 100]
    for name in ("000000.jpg", "202600.jpg", "00001.jpg", "000001.png", "._000001.jpg"):
        assert official_id(name) is None


def test_zip_and_folder_and_threads_give_the_same_bytes(official, tmp_path):
    rows, ways = official.attributes(), {}
    for n, (images, workers) in enumerate(
        [
            (official.zip(), 1),
            (official.zip(zipfile.ZIP_DEFLATED), 3),
            (official.unpacked(), None),
            (official.folder, 2),  # the folder above, with the zip and the list in it
        ]
    ):
        report = prepare_celeba(images, rows, root=tmp_path / str(n), workers=workers)
        ways[n] = report.path.read_bytes()
        assert report.faces == {"train": 5, "valid": 3, "test": 3}
    assert len(set(ways.values())) == 1


def test_other_sizes(official):
    report = official.prepare(size=32)
    assert report.path.name == "celeba32.safetensors"
    faces = load("celeba32", "test")
    assert faces.images.shape == (3, 3, 32, 32)
    with pytest.raises(FileNotFoundError, match="prepare celeba"):
        load("celeba")
    for size in (48, 0, "64", None):
        with pytest.raises(ValueError, match="size 64 or 32, not"):
            official.prepare(size=size)


def test_the_file_says_what_it_is(official):
    path = official.prepare().path
    with safetensors.safe_open(path, framework="pt") as file:
        about = file.metadata()
        assert sorted(file.keys()) == ["attributes", "ids", "images"]
        assert file.get_tensor("ids").tolist() == IDS
        assert file.get_tensor("attributes").dtype == torch.bool
    assert json.loads(about["names"]) == NAMES
    assert "no redistribution" in about["terms"]
    assert [each.name for each in path.parent.iterdir()] == [path.name]


def test_no_face_gets_into_a_record(official):
    """The terms of CelebA: whatever is kept with a run is published."""
    official.prepare(size=32)
    ready = prepare(DataPart("celeba32", "scaled", [8, 8]), 0)
    assert ready.examples is None
    assert ready.labels.shape == (len(ready.test), 40)
    assert prepare(DataPart("digits", "pixels"), 0).examples is not None


def test_tensors_are_the_callers_own(official):
    official.prepare()
    faces = load("celeba")
    faces.images.zero_()
    faces.attributes.zero_()
    assert load("celeba").images.any()
    assert load("celeba").attributes.any()


def test_small_faces_that_are_cut_out_already(official, tmp_path):
    """As JPEGs of 64 x 64 in a zip; `load` needs no file of its own for these."""
    ready = Official(official.folder, size=(64, 64))
    path = ready.prepare(root=tmp_path / "prepared").path
    folder = tmp_path / "root" / "celeba"
    folder.mkdir(parents=True)
    shutil.copy(ready.zip(), folder / "celeba64.zip")
    shutil.copy(ready.attributes(), folder)
    for split in SPLITS:
        got = load("celeba", split, folder.parent)
        same = load("celeba", split, tmp_path / "prepared")
        assert torch.equal(got.images, same.images)
        assert torch.equal(got.attributes, same.attributes)
        assert got.names == same.names
    whole = Image.open(io.BytesIO(ready.files[0][1]))
    first = load("celeba", root=folder.parent).images[0]
    assert (first.permute(1, 2, 0).numpy() == np.asarray(whole)).all()
    assert load("celeba32", "test", folder.parent).images.shape == (3, 3, 32, 32)
    shutil.copy(path, folder)
    (folder / "celeba64.zip").unlink()
    assert torch.equal(load("celeba", "all", folder.parent).images[0], first)


def test_nothing_is_left_out_of_ready_faces_in_silence(official, tmp_path):
    ready = Official(official.folder, size=(64, 64))
    ready.files[0] = ready.files[0][0], b"x"
    folder = tmp_path / "cache" / "celeba"
    folder.mkdir(parents=True)
    shutil.copy(ready.zip(), folder / "celeba64.zip")
    shutil.copy(ready.attributes(), folder)
    with pytest.warns(UserWarning, match=r"1 x image that is no JPEG: .*000001\.jpg"):
        assert len(load("celeba").images) == 4
    few = Official(official.folder, IDS[:2], (64, 64))
    shutil.copy(few.zip(), folder / "celeba64.zip")
    shutil.copy(few.attributes(), folder)
    with pytest.raises(ValueError, match="no face with an id from 182638"):
        load("celeba", "test")
    (folder / "celeba64.zip").write_bytes(b"PK")
    with pytest.raises(ValueError, match="no whole zip"):
        load("celeba")


# ---------------------------------------------------------------- what is wrong


def drop_image(official):
    del official.files[1]


def drop_row(official):
    del official.rows[1]
    official.head[0] = str(len(IDS) - 1)


def cut(keep):
    def spoil(official):
        name, data = official.files[1]
        official.files[1] = name, data[:keep]

    return spoil


def replace(data):
    def spoil(official):
        official.files[1] = official.files[1][0], data

    return spoil


def change_row(line):
    def spoil(official):
        official.rows[1] = line(official.rows[1])

    return spoil


def image_twice(official):
    official.files.insert(0, ("another/000002.jpg", jpeg(99)))


def row_twice(official):
    official.rows.insert(3, official.row(2, [1] * 40))
    official.head[0] = str(len(IDS) + 1)


def foreign(official):
    official.files.append(("__MACOSX/._000002.jpg", b"x"))


def count(text):
    def spoil(official):
        official.head[0] = text

    return spoil


def no_count(official):
    del official.head[0]


LOST, KEPT = [image for image in IDS if image != 2], IDS
WRONG = {  # how to spoil, kind of problem, what is named, what is prepared
    "no image": (drop_image, "NO_IMAGE", "000002.jpg", LOST),
    "no row": (drop_row, "NO_ROW", "000002.jpg", LOST),
    "empty": (cut(0), "DAMAGED", "img_align_celeba/000002.jpg", LOST),
    "head only": (cut(2), "DAMAGED", "img_align_celeba/000002.jpg", LOST),
    "half": (cut(1500), "DAMAGED", "img_align_celeba/000002.jpg", LOST),
    "last byte": (cut(-1), "DAMAGED", "img_align_celeba/000002.jpg", LOST),
    "PNG": (
        replace(jpeg(2, kind="PNG")),
        "NO_JPEG",
        "img_align_celeba/000002.jpg",
        LOST,
    ),
    "text": (replace(b"<html>"), "NO_JPEG", "img_align_celeba/000002.jpg", LOST),
    "small": (
        replace(jpeg(2, (63, 63))),
        "OTHER_SIZE",
        "img_align_celeba/000002.jpg",
        LOST,
    ),
    "turned": (
        replace(jpeg(2, (218, 178))),
        "OTHER_SIZE",
        "img_align_celeba/000002.jpg",
        LOST,
    ),
    "row too short": (
        change_row(lambda row: row[:-3]),
        "ODD_ROW",
        "line 4 (000002.jpg)",
        LOST,
    ),
    "row with 0": (
        change_row(lambda row: row[:-1] + "0"),
        "ODD_ROW",
        "line 4 (000002.jpg)",
        LOST,
    ),
    "row of none": (
        change_row(lambda row: row.replace("jpg", "png")),
        "ODD_ROW",
        "line 4 (000002.png)",
        LOST,
    ),
    "row twice": (row_twice, "ROW_TWICE", "line 6 (000002.jpg)", KEPT),
    "image twice": (
        image_twice,
        "IMAGE_TWICE",
        "img_align_celeba/000002.jpg",
        KEPT,
    ),
    "foreign": (foreign, "FOREIGN", "__MACOSX/._000002.jpg", KEPT),
    "count": (count("202599"), "HEADER", "202599 for 11 rows", KEPT),
    "odd count": (count("x " * 99), "HEADER", f"{'x ' * 10} for 11 rows", KEPT),
    "no count": (no_count, "HEADER", "none for 11 rows", KEPT),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_counted_and_named(case, official, tmp_path):
    spoil, kind, name, kept = WRONG[case]
    spoil(official)
    rows = official.attributes()
    one = prepare_celeba(official.zip(), rows)
    kind = getattr(_celeba_files, kind)
    assert one.problems[kind] == [name]
    others = set(one.problems) - {kind}
    assert others <= {_celeba_files.NO_ROW}  # of an image whose row was not read
    assert f"1 x {kind}: {name}" in str(one).splitlines()
    assert kept_ids(one) == kept
    assert sum(one.faces.values()) == len(kept)
    shutil.rmtree(tmp_path / "unpacked", ignore_errors=True)
    official.folder = tmp_path / "unpacked"
    official.unpacked()
    two = prepare_celeba(official.folder, rows, root=tmp_path / "second")
    assert two.problems == one.problems
    assert two.path.read_bytes() == one.path.read_bytes()


def test_the_first_of_two_counts(official, tmp_path):
    row_twice(official)
    image_twice(official)
    report = official.prepare()
    faces = load("celeba", "all")
    assert faces.attributes[1].tolist() == [v == 1 for v in official.values[2]]
    official.files[0] = official.files[0][0], b"no longer a JPEG"
    assert kept_ids(official.prepare(root=tmp_path)) == LOST
    assert kept_ids(report) == KEPT


def test_flipped_bits_in_a_zip(official):
    """What Pillow would decode all the same is told by the archive's checksum."""
    path = official.zip()
    data = bytearray(path.read_bytes())
    at = data.index(official.files[1][1]) + 2000
    data[at] ^= 255
    path.write_bytes(data)
    report = prepare_celeba(path, official.attributes())
    assert report.problems == {_celeba_files.DAMAGED: ["img_align_celeba/000002.jpg"]}


def test_images_of_other_modes(official):
    official.files[:2] = [
        (name, jpeg(5, mode=mode))
        for (name, _), mode in zip(official.files[:2], ("L", "CMYK"), strict=True)
    ]
    assert official.prepare().problems == {}
    grey = load("celeba").images[0]
    assert torch.equal(grey[0], grey[1])


def test_the_first_ten_are_named(official):
    official.rows += [official.row(i) for i in range(1000, 1012)]
    report = official.prepare()
    (line,) = [x for x in str(report).splitlines() if "without image" in x]
    named = ", ".join(file_name(i) for i in range(1000, 1010))
    assert line == f"12 x attribute row without image: {named}, ..."
    assert "attributes: 11 for 23 rows" in str(report)


def test_windows_line_ends_and_blank_lines(official):
    path = official.attributes()
    text = path.read_text().replace("\n", "\r\n") + "\r\n\r\n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert prepare_celeba(official.zip(), path).problems == {}


def every_image(data):
    def spoil(official):
        official.files = [(name, data) for name, _ in official.files]

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (every_image(b"<html>"), r"11 x image that is no JPEG: .*\. Get img_align"),
        (lambda o: o.files.clear(), "11 x attribute row without image: 000001.jpg, "),
        (lambda o: o.rows.clear(), "11 x image without attribute row"),
        (lambda o: o.head.clear(), "not an official list_attr_celeba.txt"),
        (lambda o: (o.head.clear(), o.rows.clear()), "not an official list"),
    ],
)
def test_nothing_usable(spoil, message, official, tmp_path):
    spoil(official)
    with pytest.raises(PrepareError, match=message):
        official.prepare()
    assert list((tmp_path / "cache" / "celeba").iterdir()) == []


def test_a_zip_that_is_cut_off(official):
    path = official.zip()
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(PrepareError, match=r"no whole zip file.* name the folder"):
        prepare_celeba(path, official.attributes())


def test_an_earlier_file_stays_if_nothing_comes_of_the_new_ones(official):
    before = official.prepare().path.read_bytes()
    every_image(b"")(official)
    with pytest.raises(PrepareError, match="truncated or damaged"):
        official.prepare()
    assert (cache_folder() / "celeba" / "celeba64.safetensors").read_bytes() == before


# ---------------------------------------------------------------- interrupted


class Killed(BaseException):
    """Nothing in the package may catch this, as nothing can catch a kill."""


def fail_at(monkeypatch, module, name, call, before=lambda *_: None):
    """Make the `call`-th call of a function the last thing that happens."""
    whole, calls = getattr(module, name), []

    def limited(*arguments, **options):
        calls.append(arguments)
        if len(calls) == call:
            before(*arguments)
            raise Killed
        return whole(*arguments, **options)

    monkeypatch.setattr(module, name, limited)


def half(path, *_):
    Path(path).write_bytes(b"half of it")


def temporary(path, data):
    path.with_suffix(".tmp").write_bytes(data[:100])


STAGES = {  # module, function, call, what it leaves, images that are read again
    "first shard": (celeba, "read_faces", 1, lambda *_: None, 11),
    "second shard": (celeba, "read_faces", 2, lambda *_: None, 7),
    "shard half written": (_celeba_cache, "write_atomically", 2, temporary, 7),
    "torn shard": (celeba, "write_shard", 3, half, 3),
    "joined": (celeba, "write_cache", 1, lambda *_: None, 0),
    "file half written": (celeba, "write_cache", 1, half, 0),
    "not yet moved": (os, "replace", 4, lambda *_: None, 0),
    "not yet cleared": (shutil, "rmtree", 1, lambda *_: None, 0),
}


@pytest.mark.parametrize("stage", STAGES)
def test_what_was_killed_goes_on_with_the_same_bytes(stage, official, tmp_path):
    official.files[5] = official.files[5][0], b"x"
    images, rows = official.zip(), official.attributes()
    expected = prepare_celeba(images, rows, root=tmp_path / "whole")
    module, name, call, before, again = STAGES[stage]
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, module, name, call, before)
        with pytest.raises(Killed):
            prepare_celeba(images, rows)
    if stage != "not yet cleared":
        with pytest.raises(FileNotFoundError):
            load("celeba")
    report = prepare_celeba(images, rows)
    assert report.fresh == again
    assert report.problems == expected.problems
    assert report.path.read_bytes() == expected.path.read_bytes()
    assert [each.name for each in report.path.parent.iterdir()] == [report.path.name]


def test_a_real_kill(official, tmp_path):
    """SIGKILL while the file is written; nothing can be tidied up."""
    images, rows = official.zip(), official.attributes()
    code = f"""
import os, signal
from biglearn_lite import celeba
celeba.SHARD = 4
whole = celeba.shard_images
def killed(path):
    if "00001" in str(path):
        os.kill(os.getpid(), signal.SIGKILL)
    return whole(path)
celeba.shard_images = killed
celeba.prepare_celeba({str(images)!r}, {str(rows)!r})
"""
    done = subprocess.run([sys.executable, "-c", code], timeout=60)
    assert done.returncode == -9
    part = cache_folder() / "celeba" / "celeba64.part"
    assert len(list(part.glob("*.safetensors"))) == 3
    report = prepare_celeba(images, rows)
    assert report.fresh == 0
    assert "a second" not in str(report)
    other = prepare_celeba(images, rows, root=tmp_path / "whole")
    assert report.path.read_bytes() == other.path.read_bytes()
    assert not part.exists()


@pytest.mark.parametrize("change", ["image", "row", "fewer"])
def test_shards_of_other_files_are_not_used(change, official, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        fail_at(patch, celeba, "write_cache", 1)
        with pytest.raises(Killed):
            official.prepare()
    if change == "image":
        official.files[0] = official.files[0][0], jpeg(77)
    elif change == "row":
        official.rows[0] = official.row(1, [1] * 40)
    else:
        official.files = official.files[:3]
    os.utime(official.zip(), ns=(0, 0))  # a clock may be too coarse to tell
    report = prepare_celeba(
        official.folder / "img_align_celeba.zip", official.attributes()
    )
    assert report.fresh == len(official.files)
    other = official.prepare(root=tmp_path / "whole")
    assert report.path.read_bytes() == other.path.read_bytes()
    assert not list(report.path.parent.glob("*.part"))


# ---------------------------------------------------------------- the ways out


def test_where_it_is_looked_for(official, tmp_path, monkeypatch):
    for command in ("img_align_celeba.zip", "list_attr_celeba.txt", "'faces'"):
        with pytest.raises(FileNotFoundError, match=command):
            load("celeba")
    with pytest.raises(FileNotFoundError, match="--size 32"):
        load("celeba32")
    assert find(DATASETS["celeba"]) is None
    official.prepare(root=tmp_path / "data")
    monkeypatch.setenv("BIGLEARN_DATA", str(tmp_path / "data"))
    assert find(DATASETS["celeba"]) == tmp_path / "data" / "celeba"
    assert len(load("celeba", "test").images) == 3
    official.files = official.files[:2]
    official.prepare(root=tmp_path / "root")
    assert len(load("celeba", "all", tmp_path / "root").images) == 2
    with pytest.raises(ValueError, match="no face with an id from 182638 to 202599"):
        load("celeba", "test", tmp_path / "root")
    for split in ("validation", None, ["train"]):
        with pytest.raises(ValueError, match=r"Unknown split.*'valid'"):
            load("celeba", split)


@pytest.mark.parametrize("keep", [0, 7, 500, -1])
def test_a_damaged_cache(keep, official):
    path = official.prepare().path
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(
        ValueError, match=r"no whole file of prepared .* prepare celeba"
    ):
        load("celeba")


def test_a_foreign_cache(official):
    path = official.prepare().path
    safetensors.numpy.save_file({"ids": np.zeros(3)}, path)
    with pytest.raises(ValueError, match="no whole file of prepared"):
        load("celeba")


def test_missing_files_are_named(official, tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"no img_align.* and no list_attr.*CelebA"
    ):
        prepare_celeba(root=tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"There is no lost\.txt\. Get img_align"
    ):
        prepare_celeba(official.zip(), "lost.txt", root=tmp_path)
    with pytest.raises(ValueError, match="name another folder"):
        official.prepare(root="/dev/null/x")


def test_the_command(official, biglearn, tmp_path, monkeypatch):
    official.files[0] = official.files[0][0], b"x"
    given = "--images", official.zip(), "--attributes", official.attributes()
    code, out, err = biglearn("data", "prepare", "celeba", *given)
    assert (code, err) == (0, "")
    first, second, third = out.splitlines()
    assert first.startswith("10 faces are in ")
    assert first.endswith("celeba64.safetensors: 4 train, 3 valid, 3 test.")
    assert second.startswith("Read 11 images, ")
    assert second.endswith(" a second.")
    assert third == "1 x image that is no JPEG: img_align_celeba/000001.jpg"
    assert "celeba         yes" in biglearn("data", "list")[1]
    assert "celeba32       no" in biglearn("data", "list")[1]
    assert biglearn("data", "fetch", "celeba")[:2] == (
        0,
        f"celeba is in {cache_folder() / 'celeba'}\n",
    )
    monkeypatch.chdir(official.folder)
    more = "--size", "32", "--root", tmp_path / "data"
    assert biglearn("data", "prepare", "celeba", *more)[0] == 0
    assert (tmp_path / "data" / "celeba" / "celeba32.safetensors").is_file()


def test_exit_codes_of_the_command(official, biglearn):
    every_image(b"x")(official)
    given = "--images", official.zip(), "--attributes", official.attributes()
    code, out, err = biglearn("data", "prepare", "celeba", *given)
    assert (code, out) == (1, "")
    assert "No face could be made" in err
    assert "Get img_align_celeba.zip" in err
    assert len(err.splitlines()) == 1
    code, out, err = biglearn("data", "fetch", "celeba")
    assert (code, out) == (1, "")
    assert "no program may download it" in err
    for wrong in (
        ("mnist",),
        ("celeba", "--images", "lost"),
        ("celeba", "--size", "9"),
    ):
        code, out, err = biglearn("data", "prepare", *wrong)
        assert (code, out) == (2, "")
        assert len(err.splitlines()) == 1


# ---------------------------------------------------------------- the real files

has_data = pytest.mark.skipif(
    not (DATA / "celeba64.zip").is_file(),
    reason="the development files of CelebA are not under $BIGLEARN_DATA",
)


def some_of(folder, images, attributes, step):
    """Every `step`-th image of a zip, with its row, in the official layout."""
    table = defaultdict(list)
    with Images(images) as opened:
        members = opened.members()[::step]
        (folder / "images").mkdir(parents=True)
        for member in members:
            name = Path(member.name).name
            (folder / "images" / name).write_bytes(opened.read(member))
            table[name] = []
    _, names, *rows = attributes.read_text().splitlines()
    rows = [row for row in rows if row[:10] in table]
    path = folder / "list_attr_celeba.txt"
    path.write_text("\n".join([str(len(rows)), names, *rows]) + "\n")
    return folder / "images", path


@has_data
def test_official_files(tmp_path):
    folder = DATA / "official-sample"
    files = folder / "img_align_celeba.zip", folder / "list_attr_celeba.txt"
    report = prepare_celeba(*some_of(tmp_path / "some", *files, 10))
    assert report.problems == {}
    assert sum(report.faces.values()) == 204
    ids = kept_ids(report)
    faces = load("celeba", "all")
    lines = files[1].read_text().splitlines()
    assert faces.names == tuple(lines[1].split())
    assert faces.names[20] == "Male"
    values = {line[:6]: line.split()[1:] for line in lines[2:]}
    for image, row in zip(ids, faces.attributes.tolist(), strict=True):
        assert [f"{2 * value - 1}" for value in row] == values[f"{image:06}"]
    for split, wanted in list(SPLITS.items())[:3]:
        count = sum(image in wanted for image in ids)
        assert report.faces[split] == len(load("celeba", split).images) == count
    # others made the same of them: the prepared faces, JPEGs of quality 92
    with zipfile.ZipFile(DATA / "celeba64.zip") as archive:
        for image, face in zip(ids, faces.images, strict=True):
            with archive.open(file_name(image)) as file:
                other = np.asarray(Image.open(file)).transpose(2, 0, 1).astype(float)
            assert np.abs(face.numpy() - other).mean() < 6


@has_data
def test_prepared_faces(tmp_path, monkeypatch):
    files = DATA / "celeba64.zip", DATA / "list_attr_celeba.txt"
    images, rows = some_of(tmp_path / "some", *files, 200)
    report = prepare_celeba(images, rows)
    assert report.problems == {}
    assert sum(report.faces.values()) == 234
    faces = load("celeba", "test")
    assert faces.images.shape == (report.faces["test"], 3, 64, 64)
    monkeypatch.setenv("BIGLEARN_DATA", str(DATA.parent))
    assert find(DATASETS["celeba"]) == find(DATASETS["celeba32"]) == DATA


@has_data
def test_all_rows_of_the_prepared_faces():
    problems = defaultdict(list)
    table = read_attributes(DATA / "list_attr_celeba.txt", problems)
    with Images(DATA / "celeba64.zip") as opened:
        pairs = pair(opened.members(), table, problems)
    assert dict(problems) == {}
    counts = [sum(image in SPLITS[split] for image, _ in pairs) for split in PARTS]
    assert counts == [37_540, 4_535, 4_640]
