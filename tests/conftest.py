"""Fixtures shared by all tests: a seeded generator, never a global seed."""

import sys
from typing import NamedTuple

import numpy as np
import pytest


@pytest.fixture
def generator():
    """A CPU generator with a fixed state, fresh for each test."""
    import torch

    return torch.Generator().manual_seed(20240731)


@pytest.fixture
def one_thread():
    """Equal to the last bit: how threads share their work is not promised."""
    yield from threads(1)


@pytest.fixture
def two_threads():
    """Enough for threads to share work, whatever the machine and its settings."""
    yield from threads(2)


def threads(count):
    """So many for PyTorch, then as many as before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def biglearn(monkeypatch, capsys, tmp_path):
    """Call the command as the shell does: (exit code, stdout, stderr)."""
    from biglearn_lite import cli

    monkeypatch.setenv("BIGLEARN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BIGLEARN_DATA", raising=False)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["biglearn", *map(str, words)])
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = stop.code or 0
        return code, *capsys.readouterr()

    return call


class Photographs(NamedTuple):
    """What a file of CelebA holds: training images 0 to 89, test images from 90."""

    images: np.ndarray
    attributes: np.ndarray
    names: tuple[str, ...]


@pytest.fixture
def photographs(tmp_path, monkeypatch):
    """A file as `biglearn data prepare celeba --size 32` makes it, of noise."""
    from biglearn_lite import _celeba_cache

    folder = tmp_path / "cache" / "celeba"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    ids = np.concatenate([np.arange(1, 91), np.arange(182_638, 182_678)])
    images = rng.integers(0, 256, (130, 3, 32, 32), dtype=np.uint8)
    attributes = rng.random((130, 40)) < np.linspace(0.05, 0.95, 40)
    names = tuple(f"Attribute_{n}" for n in range(40))
    path = folder / "celeba32.safetensors"
    _celeba_cache.write_cache(path, iter([images]), ids, attributes, names, 32)
    monkeypatch.delenv("BIGLEARN_DATA", raising=False)
    monkeypatch.setenv("BIGLEARN_CACHE", str(tmp_path / "cache"))
    return Photographs(images, attributes, names)


@pytest.fixture
def judged_photographs(photographs, tmp_path, monkeypatch):
    """The same with judges of them, so that a run can be measured."""
    from biglearn_lite import runs
    from biglearn_lite.recipe import read_recipe, train

    smoke = {"steps": 1, "guess_steps": 1, "batch": 4, "filters": 2, "features": 4}
    changes = {f"judge.{name}": value for name, value in smoke.items()}
    train(read_recipe("celeba-judge", "cpu", changes), root=tmp_path / "judges")
    monkeypatch.setattr(runs, "run_folders", lambda: [tmp_path / "judges"])
    return photographs


@pytest.fixture
def graphs(monkeypatch):
    """`torch.compile` that runs eagerly: the graphs that it was given, one by one."""
    import torch
    from torch._dynamo.backends.common import aot_autograd

    found, original = [], torch.compile

    def count(graph, inputs):
        found.append(graph)
        return aot_autograd(fw_compiler=lambda g, _: g.forward)(graph, inputs)

    monkeypatch.setattr(
        torch, "compile", lambda f, **how: original(f, backend=count, **how)
    )
    torch._dynamo.reset()
    return found
