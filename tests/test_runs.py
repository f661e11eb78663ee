"""Runs: what is saved comes back, whole or not at all, and says where it is from."""

import hashlib
import json
import os
import socket
from dataclasses import dataclass

import pytest
import torch
from safetensors.torch import load, save_file
from torch import nn

from biglearn_lite import GaussianMixture, UniversalMixture, load_run, machine, runs
from biglearn_lite.runs import read_run, save_run


@dataclass(frozen=True)
class Sizes:
    width: int = 3
    bias: bool = True


class Small(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.layer = nn.Linear(config.width, 2, bias=config.bias)
        self.tied = self.layer.weight  # one tensor, two names


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Only this test's runs exist."""
    monkeypatch.setattr(runs, "KINDS", dict(runs.KINDS))
    monkeypatch.setattr(runs, "run_folders", lambda: [tmp_path / "a", tmp_path / "b"])
    return tmp_path / "a"


@pytest.fixture
def mixture(generator):
    means = torch.randn(2, 3, generator=generator)
    weights = torch.tensor([0.25, 0.75])
    return GaussianMixture(weights, means, torch.eye(3).expand(2, 3, 3))


def save(folder, model, recipe="digits", profile="cpu", **options):
    return save_run(
        folder, recipe, profile, model, **{"seconds": 1, "seed": 2} | options
    )


def test_the_same_run_is_the_same_file(folder, mixture):
    # safetensors alone writes its metadata in another order each time
    paths = [save(folder, mixture, recipe=f"again{i}") for i in range(8)]
    assert len({(path / "weights.safetensors").read_bytes() for path in paths}) == 1
    save_file(
        tensors := {"x": torch.eye(3)}, file := folder / "file", {"b": "ä", "a": ""}
    )
    ordered = runs._in_one_order(file.read_bytes())
    assert len(ordered) == file.stat().st_size
    assert torch.equal(load(ordered)["x"], tensors["x"])


def test_mixtures_come_back(folder, mixture):
    save(folder, mixture, examples=torch.arange(12.0).view(4, 3, 1))
    run = load_run("digits")
    for name in ("weights", "means", "covariances"):
        assert torch.equal(getattr(run.model, name), getattr(mixture, name))
    save(folder, UniversalMixture(mixture), recipe="universal")
    model = load_run("universal").model
    assert isinstance(model, UniversalMixture)
    assert torch.equal(model.mixture.means, mixture.means)
    assert model.length == 3


def test_a_derived_mixture_comes_back_or_is_refused(folder):
    """A weight below the smallest number would come back as zero."""
    centres = torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    mixture = GaussianMixture(torch.ones(2) / 2, centres, torch.eye(2).expand(2, 2, 2))
    near, far = (mixture.conditional([0], torch.tensor([x])) for x in (1.0, 80.0))
    save(folder, near)
    x = torch.linspace(-3, 3, 7)[:, None]
    assert torch.allclose(load_run("digits").model.log_prob(x), near.log_prob(x))
    for model in (far, UniversalMixture(far)):
        with pytest.raises(ValueError, match="too small to save"):
            save(folder, model)
    zero = GaussianMixture(torch.tensor([0.0, 1.0]), centres, mixture.covariances)
    save(folder, zero)
    assert load_run("digits").model.weights.tolist() == [0, 1]


@pytest.mark.parametrize("config", [Sizes(), Sizes(width=5, bias=False)])
def test_modules_come_back(config, folder):
    runs.register_module(Small, Sizes)
    model = Small(config).double()
    model.layer.weight.data.mul_(3)
    save(folder, model)
    loaded = load_run("digits").model
    assert loaded.config == config
    assert not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.float())


def test_examples(folder, mixture):
    examples = torch.arange(12).reshape(4, 3)
    save(folder, mixture, examples=examples)
    run = load_run("digits")
    assert torch.equal(run.example_batch(3), examples[:3])
    run.example_batch(4).zero_()
    assert torch.equal(run.example_batch(4), examples)
    for n in (0, 5):
        with pytest.raises(ValueError, match="4 recorded examples"):
            run.example_batch(n)
    save(folder, mixture)
    with pytest.raises(ValueError, match="0 recorded examples"):
        load_run("digits").example_batch(1)


def test_history_and_metrics_are_plain(folder, mixture):
    history = [
        {"step": 0, "loss": float("nan")},
        {"step": 1, "loss": torch.tensor(0.5)},
    ]
    save(folder, mixture, history=history, metrics={"d": (1, float("inf"))})
    run = load_run("digits")
    assert run.history == [{"step": 0, "loss": None}, {"step": 1, "loss": 0.5}]
    assert run.metrics == {"d": [1, None]}


def test_provenance_says_where_it_is_from_and_no_more(folder, mixture):
    path = save(folder, mixture, seconds=1.23456, seed=7, recipe_text="width = 3")
    provenance = load_run("digits").provenance
    assert set(provenance) == {
        *("recipe", "profile", "device", "date", "seconds", "seed", "versions"),
        *("commit", "recipe_sha256"),
    }
    assert provenance["seconds"] == 1.2
    assert provenance["seed"] == 7
    digest = hashlib.sha256(b"width = 3").hexdigest()
    assert provenance["recipe_sha256"] == digest
    text = (path / "provenance.json").read_text()
    assert socket.gethostname() not in text
    assert str(folder) not in text
    assert os.path.expanduser("~") not in text
    other = read_run(save(folder, mixture, recipe_text="width = 4"))
    assert other.provenance["recipe_sha256"] != digest


def test_what_is_not_installed_has_no_version(monkeypatch):
    """A checkout on the path can record too."""
    monkeypatch.setattr(machine, "VERSIONS_OF", ("torch", "no-such-package"))
    assert set(machine.versions()) == {"python", "torch"}


def test_auto_prefers_the_gpu_record_wherever_it_is(folder, mixture):
    save(folder, mixture, metrics={"from": "cpu"})
    assert load_run("digits").metrics == {"from": "cpu"}
    save(folder.parent / "b", mixture, profile="gpu", metrics={"from": "gpu"})
    assert load_run("digits", "auto").metrics == {"from": "gpu"}
    assert load_run("digits", "cpu").metrics == {"from": "cpu"}
    save(folder, mixture, profile="gpu", metrics={"from": "first"})
    assert load_run("digits").metrics == {"from": "first"}


def test_search_order(monkeypatch, tmp_path):
    monkeypatch.undo()
    checkout, package = runs.run_folders()
    assert checkout.parts[-2:] == ("book", "runs")
    assert package.parent.name == "biglearn_lite"
    monkeypatch.setenv("BIGLEARN_RUNS", str(tmp_path))
    assert runs.run_folders() == [tmp_path, checkout, package]


def test_errors_list_what_exists(folder, mixture):
    with pytest.raises(FileNotFoundError, match="recorded are: none"):
        load_run("digits")
    save(folder, mixture)
    save(folder.parent / "b", mixture, recipe="sums", profile="gpu")
    with pytest.raises(FileNotFoundError, match=r"'digits/gpu'.*digits/cpu, sums/gpu"):
        load_run("digits", "gpu")
    with pytest.raises(ValueError, match="fast"):
        load_run("digits", "fast")
    for name in ("../x", "a/b", ""):
        with pytest.raises(ValueError, match="letters"):
            load_run(name)
        with pytest.raises(ValueError, match="letters"):
            save(folder, mixture, recipe=name)
    with pytest.raises(ValueError, match="auto"):
        save(folder, mixture, profile="auto")


def test_a_run_is_replaced_as_a_whole(folder, mixture):
    path = save(folder, mixture, metrics={"n": 1})
    (path / "leftover.txt").write_text("x")
    assert save(folder, mixture, metrics={"n": 2}) == path
    assert sorted(each.name for each in path.iterdir()) == [
        "history.json",
        "metrics.json",
        "provenance.json",
        "weights.safetensors",
    ]
    assert [each.name for each in path.parent.iterdir()] == ["cpu"]
    assert {each.stat().st_mode & 0o777 for each in path.iterdir()} == {0o644}


def test_a_failed_save_leaves_the_old_run(folder, mixture):
    save(folder, mixture, metrics={"n": 1})
    with pytest.raises(TypeError):
        save(folder, mixture, metrics={"n": object()})
    with pytest.raises(ValueError, match="cannot hold a Linear"):
        save(folder, nn.Linear(1, 1))
    assert load_run("digits").metrics == {"n": 1}
    assert [each.name for each in (folder / "digits").iterdir()] == ["cpu"]


def test_a_failed_move_brings_the_old_run_back(folder, mixture, monkeypatch):
    path = save(folder, mixture, metrics={"n": 1})
    rename = type(path).rename

    def fail(self, target):
        if target == path and ".old" not in self.name:
            raise OSError("no")
        return rename(self, target)

    monkeypatch.setattr(type(path), "rename", fail)
    with pytest.raises(OSError, match="no"):
        save(folder, mixture, metrics={"n": 2})
    assert load_run("digits").metrics == {"n": 1}


def test_a_temporary_folder_is_no_run(folder, mixture):
    path = save(folder, mixture)
    path.rename(path.with_name("xyz.tmp"))
    assert not list(runs.recorded())


def damage(path, how):
    weights = path / "weights.safetensors"
    data = weights.read_bytes()
    if how == "truncated":
        weights.write_bytes(data[:-8])
    elif how == "not safetensors":
        weights.write_bytes(b"\x80\x04 pickled")
    elif how == "without metadata":
        save_file({"x": torch.zeros(1)}, weights)
    elif how == "of an unknown class":
        save_file(
            {"x": torch.zeros(1)}, weights, {"model": "os.system", "config": "{}"}
        )
    elif how == "of other tensors":
        meta = {"model": "GaussianMixture", "config": "{}"}
        save_file({"x": torch.zeros(1)}, weights, meta)
    elif how == "with other sizes":
        meta = {"model": "Small", "config": json.dumps({"width": 7, "bias": True})}
        save_file({"layer.weight": torch.zeros(2, 3)}, weights, meta)
    elif how == "with a strange config":
        meta = {"model": "Small", "config": json.dumps({"depth": 7})}
        save_file({"layer.weight": torch.zeros(2, 3)}, weights, meta)
    elif how == "without history":
        (path / "history.json").unlink()
    elif how == "with half of its metrics":
        (path / "metrics.json").write_text('{"a": ')
    elif how == "with a list of metrics":
        (path / "metrics.json").write_text("[]")
    elif how == "without a recipe":
        (path / "provenance.json").write_text("{}")
    elif how == "under another name":
        text = (path / "provenance.json").read_text()
        (path / "provenance.json").write_text(text.replace("digits", "sums"))


@pytest.mark.parametrize(
    "how",
    [
        "truncated",
        "not safetensors",
        "without metadata",
        "of an unknown class",
        "of other tensors",
        "with other sizes",
        "with a strange config",
        "without history",
        "with half of its metrics",
        "with a list of metrics",
        "without a recipe",
        "under another name",
    ],
)
def test_damaged_or_foreign_runs_are_one_clear_error(how, folder, mixture):
    runs.register_module(Small, Sizes)
    damage(save(folder, mixture), how)
    with pytest.raises(ValueError, match="run 'digits/cpu'") as caught:
        load_run("digits")
    message = str(caught.value)
    assert "\n" not in message
    assert not any(each in message for each in ("..", ".)", "Errno", str(folder)))
    assert ("history.json is missing" in message) == (how == "without history")
