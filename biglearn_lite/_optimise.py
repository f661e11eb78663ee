"""Fused AdamW, Muon for the matrices of the blocks, and compiled losses."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

BETAS = (0.9, 0.98)  # a shorter memory than the usual 0.999: runs are short


class Optimisers:
    """AdamW for everything, or Muon for the matrices inside the blocks beside it.

    Muon replaces the update of a matrix by the nearest orthogonal one (Jordan et al.
    2024, `torch.optim.Muon`). Vectors, embeddings and heads stay with AdamW.
    """

    def __init__(
        self, model: nn.Module, rate: float, muon: float, decay: float
    ) -> None:
        named = list(model.named_parameters())
        matrices = [p for n, p in named if muon and p.ndim == 2 and ".blocks." in n]
        chosen = {id(p) for p in matrices}
        rest = [p for _, p in named if id(p) not in chosen]
        self.rates = [rate]
        self.parts: list[torch.optim.Optimizer] = [
            torch.optim.AdamW(rest, rate, betas=BETAS, weight_decay=decay, fused=True)
        ]
        if matrices:
            self.rates.append(rate * muon)
            self.parts.append(
                torch.optim.Muon(matrices, rate * muon, weight_decay=decay)
            )

    def step(self, share: float) -> None:
        """One update at this share of the rates; gradients are cleared."""
        for part, rate in zip(self.parts, self.rates, strict=True):
            for group in part.param_groups:
                group["lr"] = rate * share
            part.step()
            part.zero_grad(set_to_none=True)

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, state: list[dict[str, Any]]) -> None:
        for part, each in zip(self.parts, state, strict=True):
            part.load_state_dict(each)


def compiled(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The whole loss as one graph; where that cannot be had, a line says so."""
    state: dict[str, Callable[..., Tensor]] = {}

    @functools.wraps(loss)
    def run(*args: Any) -> Tensor:
        if state.get("run") is loss:
            return loss(*args)
        try:
            if not state:
                state["run"] = torch.compile(loss, fullgraph=True, dynamic=False)
            return state["run"](*args)
        except Exception as error:  # no C++ compiler, no Triton, an unknown card, ...
            name = type(error).__name__
            print(f"torch.compile is not available ({name}): eager.", file=sys.stderr)
            state["run"] = loss
            return loss(*args)

    return run
