"""Fixtures shared by all tests: a seeded generator, never a global seed."""

import pytest


@pytest.fixture
def generator():
    """A CPU generator with a fixed state, fresh for each test."""
    import torch

    return torch.Generator().manual_seed(20240731)


@pytest.fixture
def one_thread():
    """Equal to the last bit: how threads share their work is not promised."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
