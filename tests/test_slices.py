"""The book in slices: what was stopped goes on, and what is done is not done again."""

import json
import os

import pytest
from test_book_run import chapter, project
from typer.testing import CliRunner

from biglearn_lite import book
from biglearn_lite.book import ChapterError, Executed, Settings
from biglearn_lite.chapters import choose, read
from biglearn_lite.cli import app
from biglearn_lite.recipe import read_recipe
from biglearn_lite.slices import Clock, is_recorded, run_slices, wanted

SMOKE = Settings(profile="smoke", train=True)
TRAINS = 'name = "digits"'


@pytest.fixture
def ran(monkeypatch):
    """Chapters that were executed, none of them in a kernel."""
    names = []

    def execute(root, path, settings):
        if "broken" in path.read_text("utf-8"):
            raise ChapterError("it is broken")
        names.append(path.stem)
        return Executed(read(path), [], 1.0, 1.0)

    monkeypatch.setattr(book, "execute", execute)
    return names


@pytest.fixture
def three(tmp_path):
    return project(tmp_path, first=chapter(), second=chapter(), third=chapter())


def edit(root, slug, source):
    path = root / "book" / f"{slug}.ipynb"
    notebook = json.loads(path.read_text("utf-8"))
    notebook["cells"][-1]["source"] = source
    path.write_text(json.dumps(notebook))


def test_each_slice_takes_a_step_and_none_twice(three, ran):
    settings = Settings(profile="smoke")
    said = [run_slices(three, settings=settings, minutes=0) for _ in range(4)]
    assert said == [False, False, True, True]
    assert ran == ["first", "second", "third"]
    assert (three / "_build/run/smoke/second.ipynb").is_file()


def test_without_a_limit_all_is_done_at_once(three, ran):
    assert run_slices(three, ["third", "first"], Settings(profile="smoke"))
    assert ran == ["first", "third"]


def test_what_has_changed_runs_again(three, ran):
    settings = Settings(profile="smoke")
    assert run_slices(three, settings=settings)
    edit(three, "second", "print(7)")
    assert run_slices(three, settings=Settings(profile="smoke", progress=True))
    assert ran == ["first", "second", "third", "second"]
    run = three / "book/runs/sums/cpu"
    run.mkdir(parents=True)
    (run / "provenance.json").write_text("{}")  # another record to be shown
    assert run_slices(three, ["first"], settings)
    assert run_slices(three, ["first"], Settings(profile="smoke", timeout=9))
    assert ran[4:] == ["first", "first"]


def test_a_failure_leaves_what_ran_before(three, ran):
    edit(three, "second", "broken")
    for _ in range(2):
        with pytest.raises(ChapterError, match="broken"):
            run_slices(three, settings=Settings(profile="smoke"))
    assert ran == ["first"]
    edit(three, "second", "mended")
    assert run_slices(three, settings=Settings(profile="smoke"))
    assert ran == ["first", "second", "third"]


def test_mistakes_are_found_before_anything_runs(three, ran):
    with pytest.raises(ValueError, match="Unknown profile"):
        run_slices(three, settings=Settings(profile="huge", train=True))
    with pytest.raises(ValueError, match="fourth"):
        run_slices(three, ["fourth"])
    assert not ran


def test_the_clock():
    assert Clock(None).left is None
    assert 4.9 < Clock(5).left <= 5
    clock = Clock(0)
    assert clock.left == 0
    assert clock.begins()
    assert not clock.begins()


# ------------------------------------------------------------------ training


def test_recipes_are_those_that_chapters_name(tmp_path):
    """As whole names in code; judges first."""
    code = 'a = "mnist-gan"\nb = "digits-judge", "mnist-judge"\n# digits-gan "no"'
    root = project(tmp_path, first=chapter(code), second=chapter(TRAINS))
    names = [recipe.name for recipe in wanted(choose(root, []), "gpu")]
    assert names == ["digits-judge", "mnist-judge", "digits", "mnist-gan"]
    profiles = {recipe.profile for recipe in wanted(choose(root, []), "auto")}
    assert profiles == {"cpu"}


def test_training_goes_on_and_is_recorded_once(tmp_path, ran, capsys):
    root = project(tmp_path, first=chapter(TRAINS), second=chapter())
    runs = root / "_build/run/smoke/runs"
    recipe = read_recipe("digits", "smoke")
    said = [run_slices(root, settings=SMOKE, minutes=0)]
    assert not is_recorded(recipe, runs)
    assert (runs / ".work/digits/smoke").is_dir()  # the checkpoint of the first slice
    while not said[-1] and len(said) < 9:
        said.append(run_slices(root, settings=SMOKE, minutes=0))
    assert said.count(True) == 1
    assert ran == ["first", "second"]
    assert is_recorded(recipe, runs)
    assert not (runs / ".work").exists()
    before = (runs / "digits/smoke/provenance.json").read_bytes()
    assert run_slices(root, settings=SMOKE)
    assert (runs / "digits/smoke/provenance.json").read_bytes() == before
    changed = read_recipe("digits", "smoke", {"training.rate": 1e-4})
    assert not is_recorded(changed, runs)


def test_the_command_says_that_the_time_is_over(tmp_path, monkeypatch):
    """Stopped by the clock again and again, then done; the kernel finds the records."""
    said = "import os\nprint(profile, train, os.environ['BIGLEARN_RUNS'])"
    notebook = chapter(TRAINS, said)
    notebook.metadata["language_info"] = {"name": "python"}
    root = project(tmp_path, first=notebook)
    monkeypatch.chdir(root)
    before = os.environ.get("BIGLEARN_RUNS")
    command = ["book", "run", "--chapters", "first", "--profile", "smoke", "--train"]
    codes = []
    while 0 not in codes and len(codes) < 6:
        done = CliRunner().invoke(app, [*command, "--minutes", "0"])
        codes.append(done.exit_code)
        assert ("time is over" in done.stdout) == (done.exit_code == 3), done.output
    assert codes[:2] == [3, 3]
    assert codes[-1] == 0
    assert os.environ.get("BIGLEARN_RUNS") == before
    printed = (root / "_build/run/smoke/first.ipynb").read_text("utf-8")
    assert "smoke False" in printed
    assert "_build/run/smoke/runs" in printed
