"""EM on a batch of replicas, as ratios in one run.

    python benchmarks/em.py            # all
    python benchmarks/em.py --quick    # small sizes

Compared, in the same process on the same threads, in float64, on the 25 Gaussians of
BigLearn-EM (arXiv 2312.11926): 2,000 points, 25 components, two dimensions:

- batch: `expectation_maximization` on all seeds at once;
- loop: the same function, one seed after another;
- plain: EM as one would write it, density by density, one seed after another;
- scikit-learn: `GaussianMixture`, time of an iteration.

Then the cost of a step and seed against seeds, components, dimensions and rows, and the
time that the whole experiment of the book would take. Processor seconds are fairer on a
busy machine, wall-clock ones count what two threads gain.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from functools import partial

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # no spinning on a busy machine

import torch
from sklearn import mixture as sk
from torch import Tensor

from biglearn_lite.em import Plan, expectation_maximization, random_start
from biglearn_lite.mixtures import GaussianMixture

F64 = torch.float64


def setting(
    seeds: int, rows: int = 2000, k: int = 25, dim: int = 2
) -> tuple[Tensor, GaussianMixture]:
    """Data of equal Gaussians, (seeds, rows, dim), and the paper's start."""
    generator = torch.Generator().manual_seed(0)
    modes = 2.0 * torch.randint(-2, 3, (k, dim), generator=generator).double()
    if (k, dim) == (25, 2):
        axis = torch.arange(-4.0, 5, 2, dtype=F64)
        modes = torch.cartesian_prod(axis, axis)
    pick = torch.randint(k, (seeds, rows), generator=generator)
    noise = torch.randn(seeds, rows, dim, generator=generator, dtype=F64)
    return modes[pick] + 0.1**0.5 * noise, random_start(seeds, k, dim, generator)


def batch(x: Tensor, start: GaussianMixture, plan: Plan, iterations: int) -> None:
    """All seeds at once."""
    generator = torch.Generator().manual_seed(0)
    expectation_maximization(x, start, plan, iterations, generator)


def loop(x: Tensor, start: GaussianMixture, plan: Plan, iterations: int) -> None:
    """One seed after another."""
    for own, *parts in zip(
        x, start.weights, start.means, start.covariances, strict=True
    ):
        batch(own, GaussianMixture(*parts), plan, iterations)


def plain(x: Tensor, start: GaussianMixture, steps: int) -> Tensor:
    """Joint EM by the textbook: log densities (N, K, D), scatters by einsum."""
    means = []
    for own, w, m, c in zip(
        x, start.weights, start.means, start.covariances, strict=True
    ):
        for _ in range(steps):
            law = torch.distributions.MultivariateNormal(m, c, validate_args=False)
            r = torch.softmax(w.log() + law.log_prob(own[:, None]), 1)
            n = r.sum(0).clamp(min=1e-5)
            w, m = n / n.sum(), r.T @ own / n[:, None]
            gap = own[:, None] - m
            c = torch.einsum("nk,nki,nkj->kij", r, gap, gap) / n[:, None, None]
            c = c + 1e-5 * torch.eye(c.shape[-1], dtype=F64)
        means.append(m)
    return torch.stack(means)


def scikit(x: Tensor, start: GaussianMixture, steps: int) -> None:
    """scikit-learn's EM from the same start, one seed after another."""
    for own, w, m in zip(x.numpy(), start.weights, start.means, strict=True):
        unit = start.covariances[0].numpy()
        model = sk.GaussianMixture(
            len(w),
            max_iter=steps,
            tol=0,
            weights_init=w.numpy(),
            means_init=m.numpy(),
            precisions_init=unit,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that it did not converge
            model.fit(own)


def seconds(run: Callable[[], object], repeats: int = 3) -> tuple[float, float]:
    """Best wall-clock and processor seconds, after one call to warm up."""
    run()
    walls, cpus = [], []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        run()
        walls.append(time.perf_counter() - start[0])
        cpus.append(time.process_time() - start[1])
    return min(walls), min(cpus)


def main() -> None:
    """Time them, print ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes")
    args = parser.parse_args()
    seeds, steps = (8, 10) if args.quick else (50, 20)
    x, start = setting(seeds)
    joint = Plan.joint_only()
    work = seeds * steps
    print(f"{torch.get_num_threads()} threads, {seeds} seeds; ms a step and seed")
    print("joint steps                       wall  processor")
    few = GaussianMixture(start.weights[:4], start.means[:4], start.covariances[:4])
    runs = {
        "batch": partial(batch, x, start, joint, steps),
        "loop over seeds": partial(loop, x, start, joint, steps),
        "plain loop": partial(plain, x[:4], few, steps),
        "scikit-learn": partial(scikit, x[:4], few, steps),
    }
    base = None
    for name, run in runs.items():
        count = 4 * steps if name in ("plain loop", "scikit-learn") else work
        wall, cpu = (1e3 * t / count for t in seconds(run))
        base = base or (wall, cpu)
        print(
            f"  {name:28s}{wall:8.3f} {cpu:8.3f}   ratios to batch "
            f"{wall / base[0]:6.1f} {cpu / base[1]:6.1f}"
        )
    wall, cpu = seconds(partial(batch, x, start, Plan(), steps // 5))
    wall, cpu = 1e3 * wall / work, 1e3 * cpu / work
    print(f"  {'tasks of BigLearn-EM':28s}{wall:8.3f} {cpu:8.3f}")
    print(f"50 seeds x 2,000 tasks x 5 steps: {wall * 500 / 60:.1f} minutes")
    print("tasks of BigLearn-EM: a step and seed (first one = 1)")
    sizes = [{}, {"seeds": 1}, {"seeds": 4}, {"seeds": 16}]
    sizes += [{"k": 5}, {"k": 50}, {"dim": 1}, {"dim": 4}, {"dim": 8}, {"dim": 16}]
    sizes += [{"rows": 500}, {"rows": 8000}]
    base = None
    for size in sizes:
        full = {"seeds": 8, **size}
        x, start = setting(**full)
        wall, _ = seconds(partial(batch, x, start, Plan(), 4))
        cost = wall / full["seeds"]
        base = base or cost
        name = ", ".join(f"{key} {value}" for key, value in size.items())
        print(f"  {name or 'seeds 8, k 25, dim 2, rows 2000':32s}{cost / base:6.2f}")


if __name__ == "__main__":
    main()
