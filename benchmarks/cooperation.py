"""Task-switching descent on a batch of replicas, as ratios in one run.

    python benchmarks/cooperation.py            # all
    python benchmarks/cooperation.py --quick    # fewer steps

Compared, in the same process on the same threads, on the 25 Gaussians of arXiv
2407.21319 with batches of 100 samples in float32:

- batch: `descend` on 64 replicas at once;
- loop: `descend` on one replica after another;
- plain: the step as one would write it, with autograd and a loss in which log p has
  detached parameters, one replica after another.

Then the cost of a step and replica for each kind of task, and against replicas,
components and dimensions. The best of some repeats is taken, in wall-clock time.
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
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from biglearn_lite import GaussianMixture, Schedule, corner_start, descend, grid_mixture

KINDS = {
    "joint": Schedule(joint=1.0, marginal=0.0, clip=10.0),
    "marginal": Schedule(clip=10.0),
    "conditional": Schedule(marginal=0.0, conditional=1.0, clip=10.0),
}


def generator() -> torch.Generator:
    """A fresh one."""
    return torch.Generator().manual_seed(0)


def batch(
    target: GaussianMixture, start: GaussianMixture, schedule: Schedule, steps: int
) -> None:
    """All replicas at once."""
    descend(target, start, schedule, steps, generator())


def loop(
    target: GaussianMixture, start: GaussianMixture, schedule: Schedule, steps: int
) -> None:
    """One replica after another."""
    for parts in zip(start.weights, start.means, start.covariances, strict=True):
        batch(target, GaussianMixture(*parts), schedule, steps)


def line(means: Tensor, factors: Tensor, a: Tensor) -> MixtureSameFamily:
    """The law of a'x of an equal mixture, by torch.distributions."""
    half = (a @ factors).unsqueeze(-2)  # (K, 1, D)
    equal = Categorical(torch.ones(len(means)))
    parts = MultivariateNormal((means @ a).unsqueeze(-1), half @ half.mT)
    return MixtureSameFamily(equal, parts)


def plain(target: GaussianMixture, start: GaussianMixture, steps: int) -> None:
    """Marginals by autograd, one replica after another."""
    data = target.means, torch.linalg.cholesky(target.covariances)
    for means, covariances in zip(start.means, start.covariances, strict=True):
        means = means.clone().requires_grad_()
        factors = torch.linalg.cholesky(covariances).requires_grad_()
        optimiser = torch.optim.SGD([means, factors], 0.1)
        for _ in range(steps):
            a = torch.nn.functional.normalize(torch.randn(2), dim=0)
            e = torch.randn(4, len(means), 2, 1)
            x = means + (factors.tril() @ e).squeeze(-1)
            y = (x @ a).unsqueeze(-1)
            frozen = line(means.detach(), factors.detach(), a)
            loss = (frozen.log_prob(y) - line(*data, a).log_prob(y)).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


def best(work: Callable[[], object], repeats: int) -> float:
    """Least seconds of some repeats, after one that warms up."""
    work()
    taken = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun)
    return min(taken)


def setting(
    replicas: int = 64, k: int = 25, dim: int = 2
) -> tuple[GaussianMixture, GaussianMixture]:
    """A target of k random modes (25 in the plane: the grid), and starts."""
    target = grid_mixture()
    if (k, dim) != (25, 2):
        modes = 8 * torch.rand(k, dim, generator=generator()) - 4
        eye = 0.05 * torch.eye(dim).expand(k, dim, dim)
        target = GaussianMixture(torch.full((k,), 1 / k), modes, eye)
    return target, corner_start(replicas, k, dim, generator())


def cost(
    name: str, settings: dict[int, tuple], schedule: Schedule, steps: int, repeats: int
) -> None:
    """A line of costs of a step and replica, as multiples of the first."""
    ms = []
    for target, start in settings.values():
        seconds = best(partial(batch, target, start, schedule, steps), repeats)
        ms.append(1e3 * seconds / steps / len(start.means))
    print(f"{name:12}" + "".join(f"{n:>10}" for n in settings))
    print(f"{'':12}" + "".join(f"{each / ms[0]:>10.2f}" for each in ms))


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer steps")
    quick = parser.parse_args().quick
    steps, repeats = (100, 1) if quick else (400, 5)
    torch.manual_seed(0)  # of the plain step, which has no generator
    whole = setting()
    print(f"{torch.get_num_threads()} threads, 64 replicas, 25 components")
    for kind, schedule in KINDS.items():
        seconds = best(partial(batch, *whole, schedule, steps), repeats)
        print(f"{kind:12} {1e3 * seconds / steps / 64:.4f} ms a step and replica")
    few = setting(8)
    alone = best(partial(loop, *few, KINDS["marginal"], steps // 4), repeats)
    written = best(partial(plain, *few, steps // 4), repeats)
    ours = best(partial(batch, *whole, KINDS["marginal"], steps), repeats)
    per = ours / steps / 64
    print(f"loop / batch   {alone / (steps // 4) / 8 / per:.1f}")
    print(f"plain / batch  {written / (steps // 4) / 8 / per:.1f}")
    print("cost of a marginal step and replica, as multiples of the first")
    about = KINDS["marginal"], steps, repeats
    cost("replicas", {n: setting(n) for n in (1, 4, 16, 64, 256)}, *about)
    cost("components", {k: setting(64, k) for k in (5, 10, 25, 50)}, *about)
    cost("dimensions", {d: setting(64, 24, d) for d in (2, 4, 8, 16)}, *about)


if __name__ == "__main__":
    main()
