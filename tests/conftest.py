"""Fixtures shared by all tests: a seeded generator, never a global seed."""

import sys

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
