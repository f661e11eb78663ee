"""Random choices and numbers from an explicit generator, drawn on its device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


@contextmanager
def first_weights(seed: int) -> Iterator[None]:
    """A place to make networks in, whose weights come from PyTorch's own generator.

    It is the one of the CPU, where models start, and is put back afterwards.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def draw_component(log_weights: Tensor, generator: torch.Generator | None) -> Tensor:
    """Gumbel's trick: arg max of log weight plus noise has the law of the weights."""
    device = generator.device if generator is not None else log_weights.device
    time = torch.empty(log_weights.shape, device=device, dtype=log_weights.dtype)
    time = time.exponential_(generator=generator).to(log_weights.device)
    time = time.clamp_min(torch.finfo(time.dtype).tiny)  # log 0 could beat weight 0
    return (log_weights.detach() - time.log()).argmax(-1)


def normal(
    shape: torch.Size, like: Tensor, generator: torch.Generator | None
) -> Tensor:
    device = generator.device if generator is not None else like.device
    noise = torch.randn(shape, generator=generator, device=device, dtype=like.dtype)
    return noise.to(like.device)
