"""What a run needs to go on: weights, optimisers, generator, step and history."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from biglearn_lite.files import write_atomically

CHECKPOINT = "checkpoint.pt"
MARK = "biglearn-lite checkpoint"


class Averaged:
    """The moving average of a model's weights, which is the model that is kept."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.pair = list(self.model.parameters()), list(model.parameters())

    def update(self, step: int) -> None:
        """Move towards the weights; fast at first, so that the start is forgotten."""
        decay = min(self.decay, (1 + step) / (10 + step))
        kept, fresh = self.pair
        torch._foreach_lerp_(kept, [p.detach() for p in fresh], 1 - decay)

    def state_dict(self) -> dict[str, Any]:
        return self.model.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state)


def save_state(
    folder: Path,
    parts: dict[str, Any],
    generator: torch.Generator,
    step: int,
    history: list[dict[str, float]],
    about: dict[str, Any],
) -> None:
    """Write a checkpoint beside the old one, then put it in its place.

    `about` says what the run is, and the `seconds` it has taken so far.
    """
    state = {name: part.state_dict() for name, part in parts.items()}
    state["about"] = about
    state |= {"mark": MARK, "step": step, "history": history}
    state["generator"] = generator.get_state()
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, buffer := io.BytesIO())
    write_atomically(folder / CHECKPOINT, buffer.getvalue())


def load_state(
    folder: Path,
    parts: dict[str, Any],
    generator: torch.Generator,
    about: dict[str, Any],
) -> tuple[int, list[dict[str, float]], float]:
    """Put a checkpoint's state into `parts`.

    Returns:
        Step, history and seconds of training so far; 0, [] and 0 if there is none.

    Raises:
        ValueError: if the file is damaged, foreign, or of another model or run.
    """
    for half in folder.glob("*.tmp"):  # a run that was killed while it wrote
        half.unlink()
    path = folder / CHECKPOINT
    if not path.exists():
        return 0, [], 0.0
    try:
        device = next(parts["model"].parameters()).device
        state = torch.load(path, map_location=device, weights_only=True)
        if not isinstance(state, dict) or state.get("mark") != MARK:
            raise ValueError("it is not one of this package")
        made = state.get("about", {})
        other = [key for key in about if made.get(key, about[key]) != about[key]]
        if other:
            raise ValueError(f"it was made with other {' and '.join(other)}")
        for name, part in parts.items():
            part.load_state_dict(state[name])
        generator.set_state(state["generator"].cpu())
        return int(state["step"]), list(state["history"]), made.get("seconds", 0.0)
    except Exception as error:  # foreign bytes can fail in any way
        why = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(
            f"The checkpoint {path} cannot be used ({why[:160].rstrip('.:')}); delete "
            "it to start again, or go back to the recipe and seed it was made with."
        ) from error


def seconds_spent(folder: Path) -> float:
    """How long the training of a checkpoint took, all its parts together."""
    state = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    return float(state["about"]["seconds"])
