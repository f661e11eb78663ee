"""Checkers for the chapters on choosing tasks, incomplete data, and running it all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from biglearn_lite._checkers import exercise, near

# training


@exercise("training/budget")
def _budget(answer: Callable[[int, float], float]) -> str | None:
    if not near(answer(9, 1.0), 9, 1e-6):
        return "the joint task asks for everything"
    if not near(answer(9, 0.0), 4.5, 1e-6):
        return "with one to eight of nine places given, how many are left in the mean?"
    if all(
        near(answer(n, j), n * (1 + j) / 2, 1e-6) for n in (2, 16) for j in (0.2, 0.5)
    ):
        return None
    return "mix the two cases with the probability of the joint task"


@exercise("training/lag")
def _lag(answer: Callable[[float], float]) -> str | None:
    if near(answer(0.0), 0, 1e-9) and near(answer(0.5), 1, 1e-6):
        if all(near(answer(d), d / (1 - d), 1e-6 / (1 - d)) for d in (0.9, 0.99)):
            return None
        return "it is right for small decays; what happens near one?"
    if near(answer(0.5), 2, 1e-6):
        return "without any memory there is no lag: the new weight is in the average"
    return "suppose that the lag is steady and write one step of the average"


@exercise("training/clip")
def _clip(answer: Callable[[Any, float], Any]) -> str | None:
    import torch

    def same(found: Any, expected: Any) -> bool:
        return len(found) == len(expected) and all(
            f.shape == e.shape and torch.allclose(f, e, atol=1e-6)
            for f, e in zip(found, expected, strict=True)
        )

    given = [torch.tensor([3.0, 0.0]), torch.tensor([[0.0], [4.0]])]
    kept = [g.clone() for g in given]
    if not same(answer(given, 10.0), kept):
        return "a gradient that is short enough stays as it is"
    found = answer(given, 2.5)
    if not same(given, kept):
        return "it changed its argument; return new tensors"
    if not same(found, [g / 2 for g in kept]):
        return "the norm is the root of the sum of all squares, over all tensors"
    still = [torch.zeros(2), torch.zeros(1)]
    return None if same(answer(still, 1.0), still) else "what if all gradients are 0?"


# how-many-tasks


@exercise("how-many-tasks/covered")
def _covered(answer: Callable[[Any], int]) -> str | None:
    import torch

    from biglearn_lite.tasks import Task, all_tasks

    if not near(answer(Task.joint(1, 4)), 4, 0):
        return "the joint task supervises each token, given nothing"
    if not near(answer(Task.joint(3, 4)), 4, 0):
        return "the same task twice supervises no more contexts than once"
    if not near(answer(all_tasks(4)), 4 * 2**3, 0):
        return "all tasks on four tokens must cover all their contexts"
    late = torch.arange(70) == torch.tensor([[66], [68], [68]])
    first = torch.arange(70).expand(3, 70) == 0
    if not near(answer(Task(late, first)), 2, 0):
        return "a number for S overflows when there are seventy tokens"
    return None


@exercise("how-many-tasks/met")
def _met(answer: Callable[[Any, float], Any]) -> str | None:
    import math

    import torch

    fair = torch.tensor([0.5, 0.5], dtype=torch.float64)
    if not near(answer(fair, 1), 1, 1e-9):
        return "one draw meets one outcome"
    if not near(answer(fair, 3), 1.75, 1e-9):
        return "with what probability do three tosses of a coin miss heads?"
    some = torch.tensor([0.0, 0.25, 0.75], dtype=torch.float64)
    if not near(answer(some, 2), 2 - 0.75**2 - 0.25**2, 1e-9):
        return "an outcome that cannot happen is never met"
    rare = torch.full((1000,), 1e-17, dtype=torch.float64)
    if not near(answer(rare, 1e17), 1000 * (1 - math.exp(-1)), 1e-3):
        return "for very rare outcomes 1 - p rounds to one; use log1p"
    return None


@exercise("how-many-tasks/marginals")
def _marginals(answer: Callable[[int], int]) -> str | None:
    if not near(answer(1), 1, 0):
        return "one token has one question"
    if near(answer(3), 7, 0):
        return "can the last token ever be given, when answers go from left to right?"
    if all(near(answer(n), 2 ** (n - 1), 0) for n in (2, 3, 10, 40)):
        return None
    return "list the sources that occur in chains of two and of three tokens"


# incomplete-data


@exercise("incomplete-data/inside")
def _inside(answer: Callable[[int, int, int], float]) -> str | None:
    if not near(answer(4, 2, 1), 0.5, 1e-9):
        return "one token lies among two shown ones of four with chance one half"
    if not near(answer(4, 2, 2), 1 / 6, 1e-9):
        return "the places are drawn without replacement"
    if not near(answer(4, 2, 3), 0, 1e-9):
        return "three tokens do not fit into two"
    if not near(answer(64, 64, 64), 1, 1e-9):
        return "if all is shown, every task is inside"
    expected = 32 * 31 * 30 / (64 * 63 * 62)
    return None if near(answer(64, 32, 3), expected, 1e-9) else "try larger images"


@exercise("incomplete-data/imputed")
def _imputed(answer: Callable[[Any, float], Any]) -> str | None:
    import torch

    c = torch.tensor([[2.0, 0.8, 0.0], [0.8, 1.0, -0.5], [0.0, -0.5, 3.0]])
    for share in (1.0, 0.5, 0.2):
        got = torch.as_tensor(answer(c.clone(), share)).to(c)
        if got.shape != c.shape:
            return "a matrix of the same shape is asked for"
        if not torch.allclose(got.diagonal(), share * c.diagonal(), atol=1e-5):
            return "a variance: the square is there only where the entry is shown"
        if not torch.allclose(
            got, share**2 * c + share * (1 - share) * c.diag().diag()
        ):
            return "a covariance needs both of its entries"
    return None


@exercise("incomplete-data/repair")
def _repair(answer: Callable[[Any, Any], Any]) -> str | None:
    import torch

    q = torch.tensor([[0.1, 0.2, 0.1], [0.3, 0.05, 0.25]], dtype=torch.float64)
    truth = q / q.sum(1, keepdim=True)
    even = torch.ones(3, dtype=torch.float64)
    uneven = torch.tensor([1.0, 0.5, 0.1], dtype=torch.float64)
    for seen in (even, 0.3 * even, uneven):
        learned = truth * seen / (truth * seen).sum(1, keepdim=True)
        got = torch.as_tensor(answer(learned.clone(), seen.clone()))
        if got.shape != truth.shape:
            return "a table of the same shape is asked for"
        if not torch.allclose(got.sum(1).double(), even[:2]):
            return "each row is a law, so it sums to one"
        if not torch.allclose(got.double(), truth):
            return "what is rarely shown is learned as too rare; by which factor?"
    return None


# any-order


@exercise("any-order/chain")
def _chain(answer: Callable[..., float]) -> str | None:
    def said(source: Any, t: int) -> float:
        return -1.0 - 0.1 * t - 0.01 * sum((s + 1) * (t + 2) for s in source)

    def right(source: list[int], order: list[int]) -> float:
        known, total = list(source), 0.0
        for t in order:
            total += said(known, t)
            known.append(t)
        return total

    given = [3]
    if not near(answer(said, given, [0]), said([3], 0), 1e-9):
        return "one target, given the source"
    if given != [3]:
        return "it changed its argument; work on a copy"
    for order in ([0, 1, 2], [2, 0, 1], [4, 2]):
        if near(answer(said, [3], order), sum(said([3], t) for t in order), 1e-9):
            return "that is the factorised reading; each target joins the source"
        if not near(answer(said, [3], order), right([3], order), 1e-9):
            return "follow the order, and keep the source at every step"
    return None


@exercise("any-order/mean")
def _mean_over_orders(answer: Callable[[Any], Any]) -> str | None:
    import torch

    small = torch.tensor([[0.5, 0.2], [0.1, 0.2]], dtype=torch.float64)
    found = torch.as_tensor(answer(small.log()))
    if found.shape != (2,):
        return f"one number an image is asked for, this has shape {tuple(found.shape)}"
    if not torch.allclose(found.double(), small.mean(0).log(), atol=1e-6):
        return "take the mean of the probabilities, then its logarithm"
    far = torch.as_tensor(answer(torch.tensor([[-1000.0], [-1001.0]]))).double()
    if (far + 1000.379885).abs().max() < 1e-3:
        return None
    return "the exponential of minus a thousand is zero; take the largest out first"


@exercise("any-order/bits")
def _bits(answer: Callable[[float, int, int], float]) -> str | None:
    import math

    if not near(answer(0.0, 10, 256), 8, 1e-6):
        return "the uniform density gives each of 256 levels the same probability"
    if near(answer(10 * math.log(2), 10, 256), 9, 1e-6):
        return "a larger density costs fewer bits"
    if near(answer(10 * math.log(2), 10, 256), 7, 1e-6) and near(
        answer(-12.0, 64, 17), 12 / (64 * math.log(2)) + math.log2(17), 1e-6
    ):
        return None
    return "turn nats into bits, for each pixel, and add the volume of a level"


# command-line


@exercise("command-line/roles")
def _roles(answer: Callable[[str], str]) -> str | None:
    if answer("37+..=085") != "SSSTTSSSS":
        return "a dot is asked for, and all other symbols of 37+..=085 are given"
    if answer("9?+__=1._") != "STS..SST.":
        return "a question mark asks too; an underscore is left out"
    try:
        answer("37+48=___")
    except ValueError:
        return None
    return "a text that asks for nothing should be a ValueError"


@exercise("command-line/recipe")
def _recipe(answer: str) -> str | None:
    import tempfile
    from pathlib import Path

    from biglearn_lite.recipe import read_recipe

    if not isinstance(answer, str):
        return "the text of a recipe is asked for"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answer.toml")
        path.write_text(answer, "utf-8")
        large, small = (read_recipe(path, profile) for profile in ("cpu", "smoke"))
    for recipe, targets in ((large, 90_000), (small, 3_000)):
        if recipe.data.name != "sums" or recipe.tasks.law != "prefix":
            return "look at data.name and tasks.law"
        if recipe.model.width != 48 or recipe.training.step_targets != 300:
            return "look at model.width and training.step_targets"
        if recipe.training.targets != targets:
            return f"the budget at {recipe.profile} is {recipe.training.targets}"
    return None
