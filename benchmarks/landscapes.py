"""Quadrature against Monte Carlo on the maps of the official 2-GMM script.

    python benchmarks/landscapes.py            # all 62 maps, 100 x 100 models each
    python benchmarks/landscapes.py --quick    # 40 x 40 models

Both sides draw 1 joint, 12 marginals and 49 conditionals in the same process on the
same threads. Processor seconds are the fairer ratio on a busy machine.
The Monte-Carlo side is the estimator of the official script, written for
speed: the mean of log p - log q over 2,000 samples of the model, batched over models,
in float32; the samples of a marginal are re-used across the angles, and since the
second coordinate cancels, one coordinate is drawn. Its error is taken against the
quadrature; the quadrature's against a grid four times finer.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # no spinning on a busy machine

import torch
from torch import Tensor

from biglearn_lite import landscapes as ls

SD = math.sqrt(0.1)
CELLS = 50  # models at once: 50 x 2,000 numbers stay in the cache


def log_mixture(y: Tensor, means: Tensor, log_w: Tensor) -> Tensor:
    """Log density, without the constant, at y (C, n) with means and log_w (C, 2)."""
    a, b = (
        log_w[:, k, None] - (y - means[:, k, None]) ** 2 / (2 * SD**2) for k in (0, 1)
    )
    return torch.logaddexp(a, b)


def monte_carlo(
    mu: Tensor, cos: float, sin: float, y2: float, u: Tensor, z: Tensor
) -> Tensor:
    """Reverse KL of the models mu (C, 2) from samples made of u and z (C, n)."""
    modes = torch.tensor([[-1.0, 1.0]])
    log_w = torch.log_softmax(-((y2 + sin * mu) ** 2) / (2 * SD**2), -1)
    log_v = torch.log_softmax(-((y2 + sin * modes) ** 2) / (2 * SD**2), -1)
    first = u < log_w[:, :1].exp()
    y = torch.where(first, mu[:, :1], mu[:, 1:]) * cos + SD * z
    log_p, log_q = log_mixture(y, mu * cos, log_w), log_mixture(y, modes * cos, log_v)
    return (log_p - log_q).mean(1)


def sampled_maps(axis: Tensor, n: int, generator: torch.Generator) -> Tensor:
    """All 62 maps, (62, I, I)."""
    grid = torch.cartesian_prod(axis, axis).float()
    even = [(1.0, 0.0, 0.0)]
    even += [(math.cos(math.radians(a)), 0.0, 0.0) for a in ls.MARGINAL_ANGLES]
    cuts = ls.conditional_values(ls.CONDITIONAL_ANGLES).tolist()
    turned = [
        (math.cos(math.radians(a)), math.sin(math.radians(a)), y2)
        for a, row in zip(ls.CONDITIONAL_ANGLES, cuts, strict=True)
        for y2 in row
    ]
    out = torch.empty(62, len(grid))
    for start in range(0, len(grid), CELLS):
        part = slice(start, start + CELLS)
        mu = grid[part]
        for m, view in enumerate(even + turned):
            if m < 2 or m >= len(even):  # marginals share their samples
                u = torch.rand(len(mu), n, generator=generator)
                z = torch.randn(len(mu), n, generator=generator)
            out[m, part] = monte_carlo(mu, *view, u, z)
    return out.reshape(62, len(axis), len(axis)).abs().double()


def exact_maps(axis: Tensor, direction: str = "reverse") -> Tensor:
    """The same 62 maps by quadrature."""
    maps = ls.official_maps(axis, axis, direction=direction)
    stacks = (maps["joint"][None], maps["marginal"], maps["conditional"].flatten(0, 1))
    return torch.cat(stacks)


def timed(function: Callable[[], Tensor], repeats: int) -> tuple[float, float, Tensor]:
    """Best wall-clock and processor seconds of several runs, and the result."""
    walls, cpus = [], []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        result = function()
        walls.append(time.perf_counter() - start[0])
        cpus.append(time.process_time() - start[1])
    return min(walls), min(cpus), result


def finer(axis: Tensor) -> Tensor:
    """The quadrature on a grid four times finer."""
    coarse = ls._grid

    def fine(means: Tensor, variance: float, span: float) -> tuple[Tensor, float]:
        y, step = coarse(means, variance, span)
        n = 4 * len(y)
        return torch.arange(-n, n + 1, dtype=torch.float64) * step / 4, step / 4

    ls._grid = fine
    try:
        return exact_maps(axis)
    finally:
        ls._grid = coarse


def rms(error: Tensor) -> float:
    """Root mean square."""
    return float(error.square().mean().sqrt())


def main() -> None:
    """Time both, print ratios and errors."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="40 x 40 models")
    parser.add_argument("--samples", type=int, default=2000, help="a model and map")
    args = parser.parse_args()
    size = 40 if args.quick else 100
    axis = torch.linspace(-2, 2, size, dtype=torch.float64)
    generator = torch.Generator().manual_seed(888)
    wall, cpu, exact = timed(lambda: exact_maps(axis), 3)
    their_wall, their_cpu, sampled = timed(
        lambda: sampled_maps(axis, args.samples, generator), 1
    )
    error = sampled - exact
    gap = torch.hypot(axis[:, None] - 1, axis - 1)
    near, far = gap < 0.3, exact[0] > 1
    print(f"62 maps, {size} x {size} models, {torch.get_num_threads()} threads")
    print(f"quadrature            {wall:7.2f} s wall {cpu:7.2f} s processor")
    wall_forward, cpu_forward, _ = timed(lambda: exact_maps(axis, "forward"), 3)
    print(
        f"  forward KL          {wall_forward:7.2f} s wall "
        f"{cpu_forward:7.2f} s processor"
    )
    print(
        f"Monte Carlo, n = {args.samples:<5d}{their_wall:7.2f} s wall "
        f"{their_cpu:7.2f} s processor"
    )
    print(
        f"ratio                 {their_wall / wall:7.0f}        {their_cpu / cpu:7.0f}"
    )
    print("error                              quadrature   Monte Carlo")
    fine = (exact - finer(axis)).abs()
    rows = {
        "root mean square, all maps": (rms(fine), rms(error)),
        "root mean square, joint map": (rms(fine[0]), rms(error[0])),
        "  within 0.3 of the bad point (1, 1)": (
            rms(fine[0][near]),
            rms(error[0][near]),
        ),
        "  where the joint KL is above 1": (rms(fine[0][far]), rms(error[0][far])),
        "largest, all maps": (float(fine.max()), float(error.abs().max())),
    }
    for name, (a, b) in rows.items():
        print(f"{name:36s} {a:8.1e}      {b:8.1e}")
    for name, maps in (("quadrature", exact), ("Monte Carlo", sampled)):
        counts = [
            len(ls.local_minima(m, axis, axis)) for m in (maps[0], maps[1:13].mean(0))
        ]
        print(
            f"local minima found, {name}: joint {counts[0]}, mean marginal {counts[1]}"
        )


if __name__ == "__main__":
    main()
