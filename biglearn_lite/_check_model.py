"""Checkers for the chapters on the universal model and its likelihood."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from biglearn_lite._checkers import exercise, near

# foundations


@exercise("foundations/likelihood")
def _divergence(answer: Callable[[list[int], list[float]], float]) -> str | None:
    import math

    coin = math.log(2) - 0.25 * math.log(4) - 0.75 * math.log(4 / 3)
    if not near(answer([1, 0, 1, 1], [0.5, 0.5]), coin, 1e-6):
        return "for a coin with three heads in four and a fair model it is off"
    three = 0.25 * math.log(0.25 / 0.1) + 0.75 * math.log(0.75 / 0.6)
    if not near(answer([2, 0, 2, 2], [0.1, 0.3, 0.6]), three, 1e-6):
        return "a symbol that never occurs adds nothing to either term"
    if not near(answer([0, 2], [0.5, 0.0, 0.5]), 0, 1e-6):
        return "a model without mass where there are no observations is not at fault"
    return None


@exercise("foundations/discriminator")
def _measure(answer: Callable[[Any, Any], Any]) -> str | None:
    import math

    import torch

    log = lambda *odds: torch.tensor(odds, dtype=torch.float64).log()  # noqa: E731
    # q = (.8, .2) and p = (.4, .6) on two symbols, in samples of five
    forward = 0.8 * math.log(2) - 0.2 * math.log(3)
    reverse = -0.4 * math.log(2) + 0.6 * math.log(3)
    middle = 0.4 * math.log(0.8 / 0.6) + 0.1 * math.log(0.2 / 0.4)
    middle += 0.2 * math.log(0.4 / 0.6) + 0.3 * math.log(0.6 / 0.4)
    third = 1 / 3
    got = answer(log(2, 2, 2, 2, third), log(2, 2, third, third, third))
    if len(got) != 3:
        return "three numbers are asked for"
    if not near(got[0], forward, 1e-6):
        return "KL[q || p] is the mean of log q/p over which samples?"
    if not near(got[1], reverse, 1e-6):
        return "for KL[p || q] both the sign and the samples change"
    if not near(got[2], middle, 1e-6):
        return "solve the theorem's formula for JS; two means, and log 4 is 2 log 2"
    far = torch.full((3,), 1000.0, dtype=torch.float64)
    if not near(answer(far, -far)[2], math.log(2), 1e-6):
        return "at extreme logits JS is log 2; there is a stable log sigmoid"
    return None


@exercise("foundations/attention")
def _expectation(answer: Callable[..., Any]) -> str | None:
    import torch

    from biglearn_lite.mixtures import GaussianMixture

    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    means = weights.new_tensor([[0, 1, 2, 0], [1, -1, 0, 2], [-2, 0, 1, 1.0]])
    widths = weights.new_tensor([0.5, 1.0, 2.0])
    wide = widths[:, None, None] ** 2 * torch.eye(4, dtype=torch.float64)
    mixture = GaussianMixture(weights, means, wide)
    values = weights.new_tensor([0.3, 0.6, 1.5, 0.4])
    for known in ([], [1], [0, 3], [1, 2, 3], [0, 1, 2, 3]):
        source = torch.zeros(4, dtype=torch.bool)
        source[known] = True
        truth = values.clone()
        if len(known) < 4:
            given = mixture.conditional(known, values[known])
            truth[~source] = given.weights @ given.means
        x = torch.where(source, values, torch.nan)
        got = torch.as_tensor(answer(x, source, weights, means, widths))
        if not torch.equal(got[source], values[source]):
            return "the source must come back as it was"
        if not bool(((got - truth).abs() < 1e-6).all()):
            return f"with {len(known)} tokens known of 4 the means are off"
    far = torch.where(torch.arange(4) == 0, 1000.0, torch.nan).double()
    got = answer(far, far.isfinite(), weights, means, widths)
    if not bool(((got - means[2])[1:].abs() < 1e-6).all()):
        return "far from all means the densities underflow; leave it to the softmax"
    return None


# masked-transformer


@exercise("masked-transformer/reach")
def _reach(answer: Callable[[Any, Any], Any]) -> str | None:
    import torch

    from biglearn_lite.tasks import all_tasks

    task = all_tasks(4)
    got = torch.as_tensor(answer(task.source.clone(), task.target.clone()))
    if got.dtype != torch.bool or got.shape != (len(task), 4, 4):
        return "a boolean map for each task is asked for, (B, L, L)"
    for row in range(len(task)):
        given, asked = (m[row].tolist() for m in (task.source, task.target))
        for query in range(4):
            for key in range(4):
                used = given[query] or asked[query]
                may = query == key or (used and given[key])
                may = may or (asked[query] and asked[key] and key < query)
                if bool(got[row, query, key]) != may:
                    role = "source" if given[query] else "target"
                    role = role if used else "absent"
                    verb = "must" if may else "must not"
                    return (
                        f"in {task[row]!r} position {query}, {role}, {verb} look at "
                        f"position {key} (counted from 0)"
                    )
    return None


@exercise("masked-transformer/leak")
def _leak(answer: Callable[..., Any]) -> str | None:
    import torch

    def mean(shown: Any, source: Any) -> Any:
        return shown.sum(1) / source.sum(1)[:, None].clamp(min=1)

    def honest(x: Any, source: Any) -> Any:
        return mean(torch.where(source[..., None], x, 0.0), source)

    def constant(x: Any, source: Any) -> Any:
        return torch.ones(len(x), 1)

    def secret(rule: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
        def thief(x: Any, source: Any) -> Any:
            return honest(x, source) + (rule(x) & ~source[..., None]).sum(1)

        return thief

    thieves = {
        "multiplies by the mask, and 0 * NaN is NaN": (
            lambda x, source: mean(x * source[..., None], source)
        ),
        "reads everything": lambda x, source: x.sum(1),
        "reads the last token alone, without NaN": (
            lambda x, source: honest(x, source) + x[:, -1].nan_to_num().clamp(-9, 9)
        ),
        "asks whether hidden values are NaN": secret(lambda x: x.isnan()),
        "reads hidden values above 9": secret(lambda x: x > 9),
        "reads hidden values below -9": secret(lambda x: x < -9),
    }
    generator = torch.Generator().manual_seed(8)
    x = torch.randn(5, 4, 2, generator=generator)
    source = torch.tensor([[True, False, True, False]]).expand(5, 4)
    for f in (honest, constant):
        if answer(f, x.clone(), source.clone()):
            return "an honest function is called a thief"
    for name, f in thieves.items():
        if not answer(f, x.clone(), source.clone()):
            return f"one that {name} gets away"
    return None


@exercise("masked-transformer/cost")
def _saving(answer: Callable[[int, int], float]) -> str | None:
    for length, width in ((1, 8), (9, 64), (100, 16)):
        passes = sum(6 * n * width + n**2 for n in range(1, length + 1))
        ratio = passes / (length * (6 * length * width + length**2))
        if not near(answer(length, width), ratio, 1e-6):
            return (
                f"for {length} tokens of width {width} it is off; pass n computes n "
                "positions and n * n pairs"
            )
    return None


# one-objective


@exercise("one-objective/chance")
def _chance(answer: Callable[[int, int], float]) -> str | None:
    from itertools import permutations

    for length in (1, 2, 5):
        orders = list(permutations(range(length)))
        for size in range(length):
            # the last token, given the first `size` of them, in a random order
            asked = [
                set(order[:size]) == set(range(size)) and order[size] == length - 1
                for order in orders
            ]
            truth = sum(asked) / len(orders) / length
            if not near(answer(length, size), truth, 1e-9):
                return (
                    f"of {length} tokens, {size} given, it is off: the size, the "
                    "source of that size and the target are drawn one after another"
                )
    if not near(answer(9, 4) * 9 * 126 * 5, 1, 1e-9):
        return "for 4 of 9 tokens it is off; how many sources have that size?"
    return None


@exercise("one-objective/floor")
def _floor(answer: Callable[[Any, Any], Any]) -> str | None:
    import math

    import torch

    coins = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]])
    p = torch.tensor([0.06, 0.24, 0.14, 0.56], dtype=torch.float64)
    if not near(answer(coins, p), 0, 1e-9):
        return "two independent coins are a product already"
    if not near(answer(coins, p.new_tensor([0.5, 0, 0, 0.5])), math.log(2), 1e-9):
        return "two coins that always agree share one toss; mind that 0 log 0 is 0"
    parity = torch.tensor([[2, 2, 2], [2, 5, 5], [5, 2, 5], [5, 5, 2]])
    if not near(answer(parity, p.new_full((4,), 0.25)), math.log(2), 1e-9):
        return "three tokens of which any two tell the third: two tosses, not three"
    skew = answer(coins, p.new_tensor([0.5, 0.25, 0, 0.25]))
    truth = 3 * math.log(2) - 0.75 * math.log(3) - 1.5 * math.log(2)
    if not near(skew, truth, 1e-9):
        return "on a skew table it is off; use the natural logarithm"
    return None


@exercise("one-objective/order")
def _order(answer: Callable[[Any, Any], Any]) -> str | None:
    from itertools import permutations

    import torch

    def link(source: set[int], token: int) -> float:
        return -(1.0 + 0.7 * token + 0.4 * len(source) ** 2 + 0.3 * sum(source))

    chains = [
        -sum(link(set(order[:i]), order[i]) for i in range(3))
        for order in permutations(range(3))
    ]
    sources: list[set[int]] = [set(), set(), set()]  # each size equally often
    sources += [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}]
    target = torch.tensor([[t not in s for t in range(3)] for s in sources])
    said = torch.tensor(
        [[link(s, t) if t not in s else 0.0 for t in range(3)] for s in sources],
        dtype=torch.float64,
    )
    got = answer(said.clone(), target.clone())
    truth = sum(chains) / len(chains)
    if near(got, truth / 3, 1e-9):
        return "that is a token's share; a chain has as many links as tokens"
    if near(got, -truth, 1e-9):
        return "the sign: a loss is minus the log probability"
    if not near(got, truth, 1e-9):
        return (
            "over three tokens and all sources it is not the mean over the six orders; "
            "each row estimates one link, whatever its number of targets"
        )
    return None
