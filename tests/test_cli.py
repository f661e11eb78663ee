"""The command: fast help with examples, and one sentence for a mistake."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from biglearn_lite import cli, sources
from biglearn_lite.book import ChapterError, parse_parameters
from biglearn_lite.files import DownloadError
from biglearn_lite.sources import DATASETS, Entry, File

COMMANDS = [
    (),
    ("data",),
    ("data", "list"),
    ("data", "fetch"),
    ("data", "prepare"),
    ("train",),
    ("sample",),
    ("complete",),
    ("evaluate",),
    ("book",),
    ("book", "run"),
    ("book", "build"),
    ("book", "check"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_shows_an_example(command, biglearn):
    code, out, _ = biglearn(*command, "--help")
    assert code == 0
    assert "Example" in out
    assert f"biglearn {' '.join(command)}".strip() in " ".join(out.split())


def test_help_needs_no_torch_and_no_papermill():
    code = (
        "import sys; from biglearn_lite.cli import main; sys.argv = ['biglearn', "
        "'{}', '{}']\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert not {{'torch', 'papermill', 'sklearn'}} & set(sys.modules)"
    )
    start = time.perf_counter()
    for arguments in (("data", "list"), ("train", "--list")):
        command = [sys.executable, "-c", code.format(*arguments)]
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    assert time.perf_counter() - start < 30


@pytest.mark.parametrize(
    "arguments",
    [
        ("data", "fetch", "cifar"),
        ("data", "fetch"),
        ("data", "lost"),
        ("data", "prepare"),
        ("data", "prepare", "mnist"),
        ("data", "prepare", "celeba", "--images", "lost.zip"),
        ("data", "prepare", "celeba", "--size", "48"),
        ("train",),
        ("train", "no-such-recipe"),
        ("train", "no-such-recipe.toml"),
        ("train", "sums", "--profile", "fast"),
        ("train", "sums", "--set", "training.steps"),
        ("train", "sums", "--set", "training.stepz=3"),
        ("train", "sums", "--set", "training.steps=x"),
        ("train", "sums", "--minutes", "-1"),
        ("train", "one-objective", "--seed", "1"),
        ("train", "sums", "--profile", "smoke", "--output", "/dev/null/x"),
        ("sample", "no-such-recipe"),
        ("sample", "incomplete-shares", "--profile", "smoke"),
        ("sample", "sums", "-n", "0"),
        ("book", "run", "no-such-chapter"),
        ("book", "run", "--profile", "fast"),
        ("book", "run", "-p", "steps"),
        ("book", "run", "-p", "n_stepz=5"),
        ("book", "run", "--timeout", "0"),
        ("book", "run", "--nonsense"),
        ("book", "run", "--output", "/dev/null/x"),
        ("book", "build", "--bogus"),
        ("book", "build", "extra"),
    ],
    ids=" ".join,
)
def test_a_mistake_is_one_sentence_and_exit_code_two(arguments, biglearn):
    code, out, err = biglearn(*arguments)
    assert code == 2
    assert "Traceback" not in out + err
    assert len(err.strip()) > 20


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["profile=smoke"], "use --profile"),
        (["n=1", "train=true"], "use --train"),
        (["a=1", "b=1", "a=2"], "'a' is given twice"),
    ],
)
def test_parameters_that_would_be_misunderstood(given, message, biglearn, monkeypatch):
    monkeypatch.setattr("biglearn_lite.book.run_book", lambda *_: pytest.fail("it ran"))
    options = [part for each in given for part in ("-p", each)]
    code, _, err = biglearn("book", "run", "mixtures", *options)
    assert code == 2
    assert message in err


def test_outside_a_checkout(biglearn, monkeypatch):
    monkeypatch.setattr("biglearn_lite.chapters.__file__", "/nowhere/a/b.py")
    monkeypatch.chdir("/")
    code, _, err = biglearn("book", "check")
    assert code == 2
    assert "checkout" in err


def test_the_book_of_another_folder_is_named(biglearn, monkeypatch):
    monkeypatch.setattr("biglearn_lite.book.check_book", lambda _: [])
    assert biglearn("book", "check")[2] == ""
    monkeypatch.chdir("tests")
    assert biglearn("book", "check")[2] == ""
    monkeypatch.chdir("/")
    root = Path(cli.__file__).resolve().parents[1]
    assert str(root) in biglearn("book", "check")[2]


def test_data_list_has_a_line_for_each(biglearn, tmp_path, monkeypatch):
    _, out, _ = biglearn("data", "list")
    head, *lines = out.splitlines()
    assert head.split()[:3] == ["name", "here", "size"]
    here = {line.split()[0]: line.split()[1] for line in lines}
    assert here == {
        name: "no" if entry.files else "yes" for name, entry in DATASETS.items()
    }
    for entry, line in zip(DATASETS.values(), lines, strict=True):
        assert entry.licence in line
        assert entry.where_from in line
    for file in DATASETS["mnist"].files:
        (tmp_path / "mnist").mkdir(exist_ok=True)
        (tmp_path / "mnist" / file.name).touch()
    monkeypatch.setenv("BIGLEARN_DATA", str(tmp_path))
    assert "mnist          yes" in biglearn("data", "list")[1]


def test_data_fetch(biglearn, monkeypatch, tmp_path):
    assert "needs no download" in biglearn("data", "fetch", "digits")[1]
    entry = Entry("demo", "", 2, "", "", "", files=(File("a", "0" * 64, ()),))
    monkeypatch.setitem(DATASETS, "demo", entry)
    code, _, err = biglearn("data", "fetch", "demo")
    assert code == 1
    assert err.startswith("biglearn: The dataset 'demo' is nowhere complete: a could")
    assert "Ways out: put a into a folder 'demo'" in err
    monkeypatch.setattr(sources, "download", lambda urls, path, _: path)
    code, out, _ = biglearn("data", "fetch", "demo")
    assert (code, out.strip()) == (0, f"demo is in {tmp_path / 'cache' / 'demo'}")


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("x"), 2, "x"),
        (FileNotFoundError("x"), 2, "x"),
        (DownloadError("x"), 1, "x"),
        (ChapterError("x"), 1, "x"),
        (
            ModuleNotFoundError("No module named 'papermill'", name="papermill"),
            2,
            "this needs papermill: pip install 'biglearn-lite[all]'.",
        ),
    ],
)
def test_exit_codes(error, code, message, biglearn, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr("biglearn_lite.book.run_book", fail)
    assert biglearn("book", "run") == (code, "", f"biglearn: {message}\n")


def test_run_passes_its_options_on(biglearn, monkeypatch, tmp_path):
    calls = []
    monkeypatch.setattr("biglearn_lite.book.run_book", lambda *a: calls.append(a))
    biglearn("book", "run", "--profile", "smoke")
    biglearn("book", "run", "intro", "-p", "n=3", "--timeout", "9")
    biglearn("book", "run", "--profile", "smoke", "--online", "--output", str(tmp_path))
    (_, names, smoke, output), (_, one, other, _), (_, _, online, folder) = calls
    assert (names, output, smoke.profile, smoke.offline) == ([], None, "smoke", True)
    assert one == ["intro"]
    assert (other.train, other.parameters) == (False, {"n": 3})
    assert (other.profile, other.offline, other.timeout) == ("auto", False, 9)
    assert (online.offline, folder) == (False, tmp_path)


def test_run_in_slices(biglearn, monkeypatch):
    """To train, or within so many minutes; unfinished work has a code of its own."""
    calls, done = [], [True, False, True]
    monkeypatch.setattr("biglearn_lite.book.run_book", lambda *_: pytest.fail("whole"))
    monkeypatch.setattr(
        "biglearn_lite.slices.run_slices", lambda *a: calls.append(a) or done.pop(0)
    )
    assert biglearn("book", "run", "intro", "--train")[0] == 0
    code, said, _ = biglearn("book", "run", "--minutes", "5", "--profile", "gpu")
    assert (code, said) == (
        3,
        "Stopped, as the time is over; the same command goes on.\n",
    )
    assert (
        biglearn("book", "run", "intro", "--chapters", "faces,mnist", "--train")[0] == 0
    )
    (_, one, train, _, no_limit), (_, every, gpu, _, limit), (_, three, *_) = calls
    assert (one, train.train, train.profile, no_limit) == (
        ["intro"],
        True,
        "auto",
        None,
    )
    assert (every, gpu.train, gpu.profile, limit) == ([], False, "gpu", 5)
    assert three == ["intro", "faces", "mnist"]


@pytest.mark.parametrize(
    ("text", "parameter"),
    [("n=3", ("n", 3)), ("a=b=c", ("a", "b=c")), ("x=true", ("x", True))],
)
def test_parameters(text, parameter):
    assert parse_parameters([text, "b=0"]) == dict([parameter, ("b", 0)])


def test_build_hands_on_the_exit_code(biglearn, monkeypatch):
    monkeypatch.setattr("biglearn_lite.book.build_book", lambda root: 3)
    assert biglearn("book", "build")[0] == 3


def test_build_calls_the_script(tmp_path):
    from biglearn_lite.book import build_book

    (tmp_path / "tools").mkdir()
    script = "import os, sys; sys.exit(4 if os.listdir() == ['tools'] else 5)"
    (tmp_path / "tools" / "build_book.py").write_text(script)
    assert build_book(tmp_path) == 4


def test_the_script_takes_no_options():
    root = Path(cli.__file__).resolve().parents[1]
    command = [sys.executable, root / "tools" / "build_book.py", "--bogus"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--bogus" in done.stderr


def test_check_lists_findings(biglearn, monkeypatch):
    monkeypatch.setattr("biglearn_lite.book.check_book", lambda _: ["x is wrong."])
    assert biglearn("book", "check")[:2] == (1, "- x is wrong.\nTo mend: 1.\n")
    monkeypatch.setattr("biglearn_lite.book.check_book", lambda _: [])
    assert biglearn("book", "check")[0] == 0


def test_version(biglearn):
    from biglearn_lite import __version__

    assert biglearn("--version")[1] == f"biglearn-lite {__version__}\n"


# ------------------------------------------------------------------ models


SUMS = """
data.name = "sums"
model = { width = 16, depth = 1, heads = 2 }
training = { steps = 4, batch = 8, log = 2 }
"""
DIGITS = """
data = { name = "digits", tokens = "bits", size = [4, 2] }
model = { width = 8, depth = 1, heads = 1 }
training = { steps = 1, batch = 2 }
evaluate = { measure = "bits", rows = 2 }
"""
LABELLED = """
data = { name = "digits", tokens = "patches", size = [4, 4], labels = true }
tasks = { law = "modalities", arguments = { joint = 1.0 } }
model = { kind = "image-label", width = 8, depth = 1, heads = 1 }
training = { steps = 1, batch = 2 }
"""


@pytest.fixture
def trained(biglearn, tmp_path, monkeypatch):
    """Train a tiny recipe into the folder that the commands look in; give its path."""
    monkeypatch.setenv("BIGLEARN_RUNS", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)

    def train(text, name):
        path = tmp_path / f"{name}.toml"
        path.write_text(text)
        code, out, err = biglearn("train", str(path))
        assert (code, err) == (0, "")
        assert f"Recorded in {tmp_path / 'runs' / name / 'cpu'}." in out
        return str(path)

    return train


def test_sums_from_training_to_completion(trained, biglearn, tmp_path):
    path = trained(SUMS, "little")
    history = (tmp_path / "runs" / "little" / "cpu" / "history.json").read_bytes()
    first, again = (biglearn("sample", path, "-n", "40") for _ in range(2))
    assert first == again
    assert [len(line) for line in first[1].splitlines()] == [9] * 40
    assert biglearn("sample", path, "-n", "40", "--seed", "1") != first
    for stop in range(2):
        more = ("--resume",) if stop else ()
        code, out, _ = biglearn("train", path, "--minutes", "0", *more)
        assert code == 0
        assert ("go on with --resume" in out) == (stop == 0)
    assert (tmp_path / "runs/little/cpu/history.json").read_bytes() == history
    code, out, _ = biglearn("complete", path, "37+48=08?")
    head, *lines, total = out.splitlines()
    rows = {line.split()[0]: [float(x) for x in line.split()[1:]] for line in lines}
    assert head.split() == ["completion", "model", "exact"]
    assert all(row.startswith("37+48=08") for row in rows)
    assert rows["37+48=085"][1] == 1.0
    assert sum(exact for _, exact in rows.values()) == 1.0
    assert float(total.split()[1]) == pytest.approx(
        sum(p for p, _ in rows.values()), abs=2e-3
    )
    assert all(
        line.split()[0][1] == "_"
        for line in biglearn("complete", path, "3_+48=08.")[1].splitlines()[1:-1]
    )
    for wrong in (["37+48"], ["37+48=085"], ["37+48=x.."], [], ["--given", "top"]):
        code, out, err = biglearn("complete", path, *wrong)
        assert (code, out) == (2, "")
        assert err.startswith("biglearn: ")


def test_digits_from_training_to_completion(trained, biglearn, tmp_path):
    path = trained(DIGITS, "few")
    out = biglearn("sample", path, "-n", "3", "--output", "new/a.png")[1]
    assert "3 images are in new/a.png." in out
    for given in ("top", "bottom", "left", "right", "none", "random:0.3"):
        code, _, err = biglearn("complete", path, "--given", given, "-n", "1")
        assert (code, err) == (0, "")
    for picture in ("new/a.png", "few-complete.png"):
        assert (tmp_path / picture).read_bytes()[:4] == b"\x89PNG"
    before = sorted(tmp_path.rglob("*"))
    for wrong in (
        ["--given", "middle"],
        ["--given", "random:2"],
        ["--given", "random:1"],
        ["--index", "1000"],
        ["37+..=085"],
        ["--output", "/dev/null/x.png"],
    ):
        code, out, err = biglearn("complete", path, *wrong)
        assert (code, out) == (2, "")
        assert len(err.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before
    rows = biglearn("evaluate", path)[1].splitlines()[1:]
    assert len(rows) == 6
    for row in rows:
        recorded, now = row.split()[-2:]
        assert recorded == now
    Path(path).write_text(DIGITS.replace("[4, 2]", "[2, 2]"))
    code, _, err = biglearn("sample", path)
    assert (code, "train it again" in err) == (2, True)


def test_digits_with_their_class_are_drawn_and_completed(trained, biglearn, tmp_path):
    path = trained(LABELLED, "named")
    assert biglearn("sample", path, "-n", "2")[0] == 0
    for given in ("top", "none", "random:0.5", "random:1"):  # the class is asked for
        code, _, err = biglearn("complete", path, "--given", given, "-n", "1")
        assert (code, err) == (0, "")
    for picture in ("named-sample.png", "named-complete.png"):
        assert (tmp_path / picture).read_bytes()[:4] == b"\x89PNG"


def test_the_list_has_every_recipe_in_its_first_column(biglearn):
    from biglearn_lite.recipe import recipe_names

    _, out, _ = biglearn("train", "--list")
    assert [line.split()[0] for line in out.splitlines()] == recipe_names()
