"""Studies: many members, one record; stopped, resumed and side by side the same."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from biglearn_lite import studies
from biglearn_lite.recipe import read_recipe, train_model
from biglearn_lite.runs import read_run
from biglearn_lite.studies import run_study

STUDY = """
data.name = "sums"
model = { width = 16, depth = 1, heads = 2 }
training = { steps = 4, batch = 8, log = 2 }
study.seeds = 2
study.keep = "some, more"
[study.variants.all]
[study.variants."some, more"]
"tasks.law" = "next_token"
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("study") / "pairs.toml"
    path.write_text(STUDY)
    return path


@pytest.fixture
def inside(monkeypatch):
    """Members run in this process: a fresh interpreter each costs seconds."""
    from concurrent.futures import Future

    class Pool:
        def __init__(self, jobs, mp_context, initializer):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, function, *arguments):
            future = Future()
            try:
                future.set_result(function(*arguments))
            except Exception as error:
                future.set_exception(error)
            return future

    monkeypatch.setattr("biglearn_lite.studies.ProcessPoolExecutor", Pool)


def plain(folder):
    run = read_run(folder)
    return run.metrics, run.history, run.model.state_dict()


def same(one, other):
    assert one[:2] == other[:2]
    assert one[2].keys() == other[2].keys()
    assert all(one[2][name].equal(other[2][name]) for name in one[2])


@pytest.fixture
def whole(inside, path, tmp_path):
    return plain(run_study(read_recipe(path), root=tmp_path / "whole", path=path))


def test_a_study_is_its_members(whole, path):
    metrics, history, weights = whole
    assert metrics == {
        "variants": {"all": [{}, {}], "some, more": [{}, {}]},
        "seeds": 2,
    }
    assert list(history) == ["all", "some, more"]
    recipe = read_recipe(path, "cpu", {"tasks.law": "next_token"})
    model, _, alone = train_model(recipe, 0)
    rounded = [{k: float(f"{v:.7g}") for k, v in each.items()} for each in alone]
    assert history["some, more"] == rounded
    assert all(weights[name].equal(value) for name, value in model.state_dict().items())


def test_jobs_side_by_side(whole, path, tmp_path, monkeypatch):
    monkeypatch.undo()  # the real pool
    folder = run_study(read_recipe(path), root=tmp_path / "two", path=path, jobs=2)
    same(plain(folder), whole)


def test_stop_and_go_on(whole, path, tmp_path):
    recipe, turns = read_recipe(path), 0
    while True:
        turns += 1
        folder = run_study(
            recipe, root=tmp_path / "part", path=path, minutes=0, resume=turns > 1
        )
        if folder:
            break
        assert turns < 20  # no time, and yet every turn gets somewhere
    assert turns == 8  # four members of two entries each
    same(plain(folder), whole)


def test_afresh_forgets_what_was_there(whole, path, tmp_path):
    root = tmp_path / "part"
    slow = read_recipe(path, "cpu", {"training.rate": 1e-5})
    assert run_study(slow, root=root, path=path, minutes=0) is None
    folder = run_study(read_recipe(path), root=root, path=path)
    same(plain(folder), whole)


def test_changes_reach_the_members(whole, inside, path, tmp_path):
    recipe = read_recipe(path, "cpu", {"training.steps": 2, "study.seeds": 1})
    metrics, history, _ = plain(run_study(recipe, root=tmp_path / "short", path=path))
    assert metrics["seeds"] == 1
    assert {name: len(each) for name, each in history.items()} == {
        "all": 1,
        "some, more": 1,
    }


def test_another_recipe_cannot_use_what_is_there(whole, path, tmp_path):
    recipe = read_recipe(path, "cpu", {"training.rate": 1e-5})
    with pytest.raises(ValueError, match="of another version of the recipe"):
        run_study(recipe, root=tmp_path / "whole", path=path, resume=True)


def test_another_game_cannot_use_what_is_there(tmp_path):
    """A variant may be without a game; of one with it, the game decides."""
    game = {"data.tokens": "scaled", "model.kind": "gan", "model.width": 8}
    recipe = read_recipe("digits-gan", "smoke", game)
    other = read_recipe("digits-gan", "smoke", {**game, "adversarial.strength": 9.0})
    plain = read_recipe("sums", "smoke")
    assert studies._made_with(recipe) != studies._made_with(other)
    assert "Adversarial" not in studies._made_with(plain)


def test_a_change_of_the_game_is_not_for_other_models():
    given = "digits-gan-controls", "smoke", {"adversarial.strength": 9.0}
    variants = read_recipe(*given).study.variants
    found = {v: read_recipe(*given, v) for v in variants}
    assert found["joint only"].adversarial.strength == 9.0
    assert found["likelihood"].adversarial is None
    with pytest.raises(ValueError, match=r"no variant 'likely'; its variants are \["):
        read_recipe(*given, "likely")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"metrics": 1'])
def test_a_damaged_member(content, whole, path, tmp_path):
    (member,) = (tmp_path / "whole").rglob("all-1.json")
    member.write_text(content)
    with pytest.raises(ValueError, match=r"cannot be used .* delete it") as refused:
        run_study(read_recipe(path), root=tmp_path / "whole", path=path, resume=True)
    assert str(member) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_lost_member_is_trained_again(whole, path, tmp_path):
    for name in ("all-1.json", "some--more-0.safetensors"):
        next((tmp_path / "whole").rglob(name)).unlink()
    folder = run_study(
        read_recipe(path), root=tmp_path / "whole", path=path, resume=True
    )
    same(plain(folder), whole)


def test_an_error_of_a_member(inside, path, tmp_path):
    recipe = read_recipe(path, "cpu", {"tasks.arguments": {"joint": 7.0}})
    with pytest.raises(ValueError, match="joint"):
        run_study(recipe, root=tmp_path, path=path)
    assert not list(tmp_path.glob("pairs"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"study.variants": {}}, "has no variants"),
        ({"study.seeds": 0}, "at least 1 seed"),
        ({"study.keep": "none"}, "study.keep is one of"),
        ({"study.variants": {"a b": {}, "a-b": {}}, "study.keep": "a b"}, "rename"),
    ],
)
def test_studies_that_cannot_be(changes, message, path, tmp_path):
    with pytest.raises(ValueError, match=message):
        run_study(read_recipe(path, "cpu", changes), root=tmp_path, path=path)
    assert not list(tmp_path.iterdir())


def test_members_are_plain_files(whole, tmp_path):
    for file in (tmp_path / "whole" / ".work").rglob("*.json"):
        assert {"metrics", "history", "seconds"} <= set(json.loads(file.read_text()))


KILLED = """
import os, sys, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from biglearn_lite.studies import end_with_parent

if __name__ == "__main__":
    watch = end_with_parent if sys.argv[1] == "watch" else None
    with ProcessPoolExecutor(1, get_context("spawn"), initializer=watch) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        pool.submit(time.sleep, 60).result()
"""


def alive(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize("watch", ["watch", "no"])
def test_a_killed_study_takes_its_members_along(watch, tmp_path):
    script = tmp_path / "killed.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), watch]
    quiet = subprocess.DEVNULL  # semaphores are left behind, and said to be
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=quiet, text=True
    ) as study:
        member = int(study.stdout.readline())
        assert alive(member)
        study.kill()
    end = time.monotonic() + (20 if watch == "watch" else 1)
    while alive(member) and time.monotonic() < end:
        time.sleep(0.05)
    left = alive(member)
    if left:
        os.kill(member, signal.SIGKILL)
    assert left == (watch == "no")
