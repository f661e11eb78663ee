"""A training step of the any-conditional transformer, as ratios in one run.

    python benchmarks/likelihood.py            # all
    python benchmarks/likelihood.py --quick    # small sizes

Compared, in the same process on the same threads, on the same tasks:

- eager: `matching_loss` forward and backward, masked, one static shape;
- compiled: the same through `torch.compile`;
- naive: the same model written as one would without masks: a loop over the rows of the
  batch, the tokens of each row's source and target gathered into a short sequence.

The naive gradients agree with ours (printed). Then the cost against L and width.
The median of some repeats is taken; processor seconds are not comparable between
machines, ratios are.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from functools import partial

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # no spinning on a busy machine

import torch
from torch import Tensor

from biglearn_lite import (
    AnyConditionalSizes,
    AnyConditionalTransformer,
    Task,
    TaskSampler,
    matching_loss,
)
from biglearn_lite._optimise import compiled

SYMBOLS = 12


def naive_loss(model: AnyConditionalTransformer, x: Tensor, task: Task) -> Tensor:
    """`matching_loss`, row by row, with absent tokens gathered away."""
    said, trunk = [], model.trunk
    for tokens, source, target in zip(x, task.source, task.target, strict=True):
        keep = (source | target).nonzero()[:, 0]
        given, asked = source[keep][None], target[keep][None]
        content = trunk.content(tokens[keep])[None] * given[..., None]
        role = trunk.role[asked.long()]
        hidden = content + trunk.position[keep] + role
        allowed = trunk.reach(given, asked)
        for block in trunk.blocks:
            hidden, _ = block(hidden, allowed)
        hidden = trunk.norm(hidden)
        found = model.head.log_prob(hidden, tokens[keep][None])
        said.append(found[asked])
    return -torch.cat(said).mean()


def step(
    loss: Callable[..., Tensor], model: AnyConditionalTransformer, x: Tensor, task: Task
) -> None:
    """Forward and backward."""
    model.zero_grad(set_to_none=True)
    loss(model, x, task).backward()


def seconds(run: Callable[[], None], repeats: int) -> float:
    """Median wall-clock seconds after one call to warm up."""
    run()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def setting(
    length: int, width: int, batch: int, depth: int = 2
) -> tuple[AnyConditionalTransformer, Tensor, Task]:
    """A model, tokens and tasks."""
    torch.manual_seed(0)
    sizes = AnyConditionalSizes(length, SYMBOLS, width=width, depth=depth)
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(SYMBOLS, (batch, length), generator=generator)
    return AnyConditionalTransformer(sizes), x, TaskSampler(length).sample(batch)


def gradients(
    loss: Callable[..., Tensor], model: AnyConditionalTransformer, x: Tensor, task: Task
) -> Tensor:
    """All gradients of a loss as one vector; zeros where there are none."""
    step(loss, model, x, task)
    found = [
        torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()
    ]
    return torch.cat([each.flatten() for each in found])


def main() -> None:
    """Time them, print ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    args = parser.parse_args()
    batch, repeats = (64, 3) if args.quick else (256, 9)
    print(f"{torch.get_num_threads()} threads, batch {batch}, depth 2")
    for length, width in ((9, 64), (64, 64)):
        rows = batch if length < 32 else batch // 4
        model, x, task = setting(length, width, rows)
        ours = seconds(partial(step, matching_loss, model, x, task), repeats)
        fast = compiled(matching_loss)
        quick = seconds(partial(step, fast, model, x, task), repeats)
        slow = seconds(partial(step, naive_loss, model, x, task), max(1, repeats // 3))
        gap = (
            gradients(naive_loss, model, x, task)
            - gradients(matching_loss, model, x, task)
        ).abs()
        print(f"L = {length:3d}, width {width}: eager {1e3 * ours:7.1f} ms a step")
        print(f"  eager / compiled      {ours / quick:6.2f}")
        print(f"  naive loop / eager    {slow / ours:6.2f}")
        print(f"  largest difference of a gradient {float(gap.max()):.1e}")
    base = None
    print("cost of a row against L (width 64) and width (L = 16), first one = 1")
    for length, width in ((8, 64), (16, 64), (32, 64), (64, 64), (16, 32), (16, 128)):
        model, x, task = setting(length, width, batch // 4)
        run = seconds(partial(step, matching_loss, model, x, task), repeats)
        base = base or run
        print(f"  L = {length:3d}, width {width:4d}: {run / base:6.2f}")


if __name__ == "__main__":
    main()
