"""Fixtures shared by all tests: a seeded generator, never a global seed."""

import pytest


@pytest.fixture
def generator():
    """A CPU generator with a fixed state, fresh for each test."""
    import torch

    return torch.Generator().manual_seed(20240731)
