"""Experiments on mixtures: recipes, their targets, and what is written down."""

import json
import sys

import pytest
import torch

from biglearn_lite import cli
from biglearn_lite.cooperation import modes_found
from biglearn_lite.experiments import DescentPart, build_target, run_experiment
from biglearn_lite.recipe import read_recipe, train
from biglearn_lite.runs import read_run
from biglearn_lite.studies import run_study

TINY = """
about = "tiny"
data.name = "gaussians"
model.kind = "descent"
[descent]
replicas = 2
steps = 40
marks = 4
snapshots = 2
side = 2
[descent.schedule]
clip = 10.0
joint = 1.0
marginal = 1.0
rate = [[0.0, 0.5], [1.0, 0.1]]
"""
STUDY = """
[study]
seeds = 2
keep = "b"
[study.variants.a]
"descent.schedule" = { joint = 1.0, marginal = 0.0 }
[study.variants.b]
"descent.dim" = 3
"""


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "tiny.toml"
        path.write_text(text)
        return path

    return write


# ------------------------------------------------------------------------ running


def test_a_run_holds_what_the_descent_found(written, tmp_path):
    recipe = read_recipe(written(TINY))
    assert recipe.training is None
    run = read_run(train(recipe, seed=3, root=tmp_path / "runs"))
    metrics = run.metrics
    assert metrics["steps"] == [0, 20, 40]  # stays of 20 steps
    assert [len(row) for row in metrics["modes"]] == [2, 2, 2]
    assert len(metrics["kl"]) == 2
    # the measurements are those of the model that is kept
    target = build_target(recipe.descent)
    assert modes_found(run.model, target.means).tolist() == metrics["modes"][-1]
    assert metrics["found"] == sum(metrics["modes"][-1]) / 2
    assert [each["step"] for each in run.history] == [0, 40]
    shown = torch.tensor(run.history[-1]["means"])
    torch.testing.assert_close(shown, run.model.means[0], atol=1e-3, rtol=0)
    assert run.provenance["seed"] == 3


def test_the_seed_decides_everything(written):
    recipe = read_recipe(written(TINY))
    ends = [run_experiment(recipe, seed).model.means for seed in (0, 0, 1)]
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_a_share_of_the_steps(written):
    recipe = read_recipe(written(TINY), changes={"descent.share": 0.5})
    assert run_experiment(recipe, 0).metrics["steps"] == [0, 20]


def test_a_study_of_experiments_stops_and_goes_on(written, tmp_path):
    path = written(TINY + STUDY)
    recipe = read_recipe(path)
    about = {"root": tmp_path / "runs", "path": path}
    work = tmp_path / "runs" / ".work" / "tiny" / "cpu"
    # the time is over at once, so the first two members are not even begun
    assert run_study(recipe, minutes=0, jobs=2, **about) is None
    assert not list(work.glob("*.json"))
    folder = run_study(recipe, jobs=2, **about)
    run = read_run(folder)
    assert list(run.metrics["variants"]) == ["a", "b"]
    assert [len(seeds) for seeds in run.metrics["variants"].values()] == [2, 2]
    assert run.model.means.shape == (2, 8, 3)  # of the variant that is kept
    before = {p.name: p.stat().st_mtime_ns for p in work.glob("*.json")}
    assert len(before) == 4
    run_study(recipe, resume=True, jobs=2, **about)  # nothing is done twice
    assert before == {p.name: p.stat().st_mtime_ns for p in work.glob("*.json")}


def command(monkeypatch, *arguments):
    """The exit code of `biglearn ...`."""
    monkeypatch.setattr(sys, "argv", ["biglearn", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as end:
        return end.code or 0
    return 0


def test_from_the_command_line(tmp_path, capsys, monkeypatch):
    where = "--profile", "smoke", "--output", tmp_path
    assert command(monkeypatch, "train", "cooperation", *where) == 0
    assert "found" in capsys.readouterr().out
    folder = tmp_path / "cooperation" / "smoke"
    assert json.loads((folder / "metrics.json").read_text())["seeds"] == 1


@pytest.mark.parametrize("name", ["evaluate", "sample", "complete"])
def test_other_commands_say_that_it_is_no_network(name, capsys, monkeypatch):
    assert command(monkeypatch, name, "cooperation") == 2
    assert "is an experiment, not a model" in capsys.readouterr().err


# ------------------------------------------------------------------------ targets


def test_targets():
    grid = build_target(DescentPart())
    assert grid.means.shape == (25, 2)
    torch.testing.assert_close(grid.weights, torch.full((25,), 0.04))
    scatter = build_target(DescentPart(target="scatter", dim=8, components=6))
    assert scatter.means.shape == (6, 8)
    gaps = torch.cdist(scatter.means, scatter.means) + 100 * torch.eye(6)
    assert gaps.min() >= 2
    assert scatter.means.abs().max() <= 4


def test_uneven_weights():
    weights = build_target(DescentPart(uneven=10.0)).weights
    assert float(weights.max() / weights.min()) == pytest.approx(10, rel=1e-4)
    assert float(weights.sum()) == pytest.approx(1)


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("training.steps = 3", "has no part 'training'"),
        ("tasks.law = 'prefix'", "has no part 'tasks'"),
        ("descent.target = 'ring'", "descent.target is"),
        ("descent.replicas = 0", "descent.replicas is 1 or more"),
        ("descent.share = 0.0", "descent.share is above 0"),
        ("descent.uneven = 0.5", "descent.uneven is 1 or more"),
        ("descent.schedule = { speed = 3 }", "descent.schedule does not fit"),
        ("descent.schedule = { rate = -1 }", "rate is positive"),
        (
            "descent.schedule = { published = true, rate = 1 }",
            "takes no other keys",
        ),
    ],
)
def test_a_wrong_recipe_is_refused(written, extra, message):
    head = 'about = "tiny"\ndata.name = "gaussians"\nmodel.kind = "descent"\n'
    with pytest.raises(ValueError, match=message):
        read_recipe(written(head + extra))


def test_a_network_has_no_descent(written):
    text = 'about = "x"\ndata.name = "sums"\ntraining.steps = 1\ndescent.steps = 3\n'
    with pytest.raises(ValueError, match="has no part 'descent'"):
        read_recipe(written(text))


def test_no_room_for_the_scatter():
    crowded = DescentPart(target="scatter", dim=1, components=50)
    with pytest.raises(ValueError, match="no room for 50 centres"):
        build_target(crowded)
