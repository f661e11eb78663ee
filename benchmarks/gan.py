"""A training step of BigLearn-GAN, as ratios in one run.

    python benchmarks/gan.py            # all; compiling takes minutes on a CPU
    python benchmarks/gan.py --quick    # small sizes, eager only

Compared, in the same process on the same threads, on the same batch, task and noise, is
what both players compute in a step (forward and backward, no optimiser):

- eager: both losses as they are, masked, exact penalty by `torch.func`;
- compiled: the same, each loss one graph;
- difference: eager, with the finite difference in place of the exact penalty;
- half: eager or compiled under bfloat16 autocast;
- naive: as one would write it without masks: a loop over the rows, tokens gathered,
  PyTorch's attention held to its explicit kernel, `autograd.grad` for the penalty.

The losses of naive and eager agree (printed). On a CUDA card one large configuration
reports the share of the card's bfloat16 peak. Ratios are comparable between machines.
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
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from biglearn_lite import Adversarial, BigLearnGAN, Discriminator, GANSizes, TaskSampler
from biglearn_lite._adversarial import loss_of_generator, loss_of_judge

GAME = Adversarial(strength=0.1)
PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # bfloat16, dense


class Players:
    """Both players, a batch, a task and noise; and their losses."""

    def __init__(self, sizes: GANSizes, batch: int, device: str) -> None:
        torch.manual_seed(0)
        self.model = BigLearnGAN(sizes).to(device)
        self.judge = Discriminator(GAME.judge(sizes)).to(device)
        x = torch.rand(batch, sizes.length, sizes.values, device=device) * 2 - 1
        task = TaskSampler(sizes.length).sample(batch, device=device)
        noise = [each.to(device) for each in self.model.draw_noise(batch)]
        self.made = (x, task.source, task.target, *noise)
        self.bend = torch.randn(2 * batch, *x.shape[1:], device=device)

    def step(
        self,
        of_judge: Callable[..., tuple[Tensor, Tensor]] = loss_of_judge,
        of_generator: Callable[..., Tensor] = loss_of_generator,
        bend: Tensor | None = None,
        half: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Forward and backward of both losses."""
        for net in (self.model, self.judge):
            net.zero_grad(set_to_none=True)
        place = self.made[0].device.type
        with torch.autocast(place, torch.bfloat16, enabled=half):
            with torch.no_grad():
                fake = self.model(*self.made)
            judged, _ = of_judge(self.judge, self.made, fake, [], [], GAME, bend)
        judged.backward()
        self.judge.requires_grad_(False)
        with torch.autocast(place, torch.bfloat16, enabled=half):
            made = of_generator(self.model, self.judge, self.made, [], GAME)
        made.backward()
        self.judge.requires_grad_(True)
        return judged.detach(), made.detach()


# ------------------------------------------------------------------ naive


def short(net: BigLearnGAN | Discriminator, x: Tensor, row: int, made: tuple) -> tuple:
    """The tokens of one row that its task uses, gathered: hidden, allowed, asked."""
    source, target = made[1][row], made[2][row]
    keep = (source | target).nonzero()[:, 0]
    asked = target[keep]
    allowed = torch.ones(1, 1, len(keep), len(keep), dtype=torch.bool, device=x.device)
    trunk = net.trunk
    hidden = trunk.position[keep] + trunk.role[asked.long()]
    return keep, asked, hidden, allowed


def run_blocks(
    net: BigLearnGAN | Discriminator, hidden: Tensor, *how: object
) -> Tensor:
    """The trunk's blocks on the tokens of one row."""
    hidden = hidden[None]
    for block in net.trunk.blocks:
        hidden, _ = block(hidden, *how)
    return net.trunk.norm(hidden)[0]


def naive_fake(players: Players, row: int) -> Tensor:
    """One row's answer, (L, P)."""
    model, made = players.model, players.made
    x = made[0][row]
    keep, asked, hidden, allowed = short(model, x, row, made)
    given = model.trunk.content(x[keep]) * ~asked[:, None]
    own = model.noise(made[4][row][keep]) * asked[:, None]
    scales = model.trunk._scales(model.latent(made[3][row][None]))
    hidden = run_blocks(model, hidden + given + own, allowed, scales)
    out = torch.where(asked[:, None], model.head(hidden).tanh(), x[keep])
    return torch.zeros_like(x).index_put((keep,), out)


def naive_logit(players: Players, x: Tensor, row: int) -> Tensor:
    """What the judge says of one row."""
    judge = players.judge
    keep, asked, hidden, allowed = short(judge, x, row, players.made)
    hidden = run_blocks(judge, hidden + judge.trunk.content(x[keep]), allowed)
    return judge.head(hidden[asked].mean(0)).squeeze()


def naive_step(players: Players) -> tuple[Tensor, Tensor]:
    """Forward and backward of both losses, row by row."""
    for net in (players.model, players.judge):
        net.zero_grad(set_to_none=True)
    real, _, target = players.made[:3]
    judged, made = [], []
    with sdpa_kernel(SDPBackend.MATH):
        for row in range(len(real)):
            fake, parts = naive_fake(players, row).detach(), []
            for x in (real[row].clone(), fake):
                x.requires_grad_()
                logit = naive_logit(players, x, row)
                (slope,) = torch.autograd.grad(logit, x, create_graph=True)
                parts.append((logit, slope[target[row]].square().sum()))
            (on_real, r1), (on_fake, r2) = parts
            judged.append(F.softplus(on_fake - on_real) + GAME.strength / 2 * (r1 + r2))
        loss = torch.stack(judged).mean()
        loss.backward()
        players.judge.requires_grad_(False)
        for row in range(len(real)):
            on_fake = naive_logit(players, naive_fake(players, row), row)
            with torch.no_grad():
                on_real = naive_logit(players, real[row], row)
            made.append(F.softplus(on_real - on_fake))
        torch.stack(made).mean().backward()
        players.judge.requires_grad_(True)
    return loss.detach(), torch.stack(made).mean().detach()


# ------------------------------------------------------------------ timing


def seconds(run: Callable[[], object], repeats: int, device: str) -> float:
    """Median wall-clock seconds after two calls to warm up."""
    times = []
    for turn in range(repeats + 2):
        start = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times += [time.perf_counter() - start] * (turn >= 2)
    return sorted(times)[len(times) // 2]


def compare(
    sizes: GANSizes, batch: int, repeats: int, device: str, quick: bool
) -> None:
    """Time all ways at one size, and print ratios."""
    players = Players(sizes, batch, device)
    clock = partial(seconds, repeats=repeats, device=device)
    eager = clock(players.step)
    shape = f"L = {sizes.length}, P = {sizes.values}, width {sizes.width}"
    print(f"{shape}, depth {sizes.depth}, batch {batch}: eager {1e3 * eager:.1f} ms")
    gap = max(
        float((a - b).abs())
        for a, b in zip(players.step(), naive_step(players), strict=True)
    )
    naive = seconds(partial(naive_step, players), max(1, repeats // 3), device)
    bend = clock(partial(players.step, bend=players.bend))
    half = clock(partial(players.step, half=True))
    print(f"  naive / eager              {naive / eager:6.2f}")
    print(f"  largest difference of a loss {gap:.1e}")
    print(f"  difference / exact penalty {bend / eager:6.2f}")
    print(f"  eager / half               {eager / half:6.2f}")
    if quick:
        return
    graphs = [
        torch.compile(loss, fullgraph=True, dynamic=False)
        for loss in (loss_of_judge, loss_of_generator)
    ]
    whole = clock(partial(players.step, *graphs))
    both = clock(partial(players.step, *graphs, half=True))
    print(f"  eager / compiled           {eager / whole:6.2f}")
    print(f"  eager / compiled and half  {eager / both:6.2f}")


def peak(repeats: int) -> None:
    """The share of the card's bfloat16 peak of one large step."""
    name = torch.cuda.get_device_name(0)
    known = [value for key, value in PEAKS.items() if key in name]
    players = Players(GANSizes(64, 192, width=1024, depth=8, heads=16), 512, "cuda")
    with FlopCounterMode(display=False) as counter:
        players.step(half=True)
    graphs = [
        torch.compile(loss, fullgraph=True, dynamic=False)
        for loss in (loss_of_judge, loss_of_generator)
    ]
    took = seconds(partial(players.step, *graphs, half=True), repeats, "cuda")
    rate = counter.get_total_flops() / took
    share = f", {rate / known[0]:.0%} of its peak" if known else ""
    print(f"width 1024, depth 8, batch 512: {rate / 1e12:.0f} TFLOP/s on {name}{share}")


def main() -> None:
    """Time them, print ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, eager only")
    args = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    repeats, batch = (2, 16) if args.quick else (9, 64)
    print(f"{torch.get_num_threads()} threads, {device}")
    compare(GANSizes(16, 4), batch, repeats, device, args.quick)
    if not args.quick:
        compare(GANSizes(16, 49, width=128, depth=4), batch, repeats, device, False)
    if device == "cuda":
        peak(repeats)


if __name__ == "__main__":
    main()
