"""Checkers give a tick or a hint, and never a traceback."""

import math
import sys

import pytest
import torch
from answers_celeba import ANSWERS as CELEBA
from answers_classification import ANSWERS as CLASSIFICATION
from answers_cooperation import ANSWERS as COOPERATION
from answers_em import ANSWERS as EM
from answers_faces import ANSWERS as FACES
from answers_gan import ANSWERS as GAN
from answers_model import ANSWERS as MODEL
from answers_pixels import ANSWERS as PIXELS
from answers_practice import ANSWERS as PRACTICE

from biglearn_lite import Task, check
from biglearn_lite._checkers import CHECKERS, exercise


@pytest.fixture
def double(monkeypatch):
    # the package exports the function under the name of the module
    here, there = (sys.modules[f"biglearn_lite.{m}"] for m in ("check", "_checkers"))
    monkeypatch.setattr(here, "CHECKERS", {})
    monkeypatch.setattr(there, "CHECKERS", here.CHECKERS)

    @exercise("demo/double")
    def checker(answer):
        return None if answer(3) == 6 else "three doubled is six"

    return checker


def test_right_wrong_and_unfinished(double, capsys):
    assert check("demo/double", lambda x: 2 * x) is True
    assert check("demo/double", lambda x: x) is False
    assert check("demo/double", None) is False
    right, wrong, unfinished = capsys.readouterr().out.splitlines()
    assert right == "right: demo/double"
    assert wrong == "not yet: demo/double: three doubled is six"
    assert "TypeError" in unfinished


def test_an_unknown_exercise_lists_those_of_its_chapter(double):
    with pytest.raises(ValueError, match="demo/double"):
        check("demo/triple", 1)
    with pytest.raises(ValueError, match="demo/double"):
        check("other/x", 1)
    for name in (3, ["demo/double"], None):
        with pytest.raises(ValueError, match="demo/double"):
            check(name, 4)


@pytest.mark.parametrize("name", sorted(CHECKERS))
@pytest.mark.parametrize("stub", [None, ..., lambda *_: None])
def test_a_stub_never_passes(name, stub, capsys):
    assert check(name, stub) is False
    assert capsys.readouterr().out.startswith(f"not yet: {name}: ")


def window(batch, length, width, generator, every=True):
    choices = length - width + (1 if every else 0)
    start = torch.randint(choices, (batch, 1), generator=generator)
    place = torch.arange(length)
    target = (place >= start) & (place < start + width)
    return Task.conditional(~target, target)


def impute(mixture, x, weighted=True):
    known = (~x.isnan()).nonzero()[:, 0].tolist()
    given = mixture.conditional(known, x[known])
    weights = given.weights if weighted else mixture.weights
    filled = x.clone()
    filled[x.isnan()] = (weights[:, None] * given.means).sum(0)
    return filled


def weight(mu1, mu2, angle, y2, far=0.0):
    s = math.sin(math.radians(angle))
    scores = -((y2 + torch.tensor([mu1, mu2], dtype=torch.float64) * s) ** 2) / 0.2
    return float(scores.softmax(0)[0]) + (far if abs(y2) > 100 else 0.0)


C = torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
WHITENER = torch.linalg.cholesky(C).inverse()

# right answers, and near misses
ANSWERS = {
    "intro/unused": (
        [lambda n: 3 ** (n + 1) - 2 ** (n + 1) - 1],
        [lambda n: 3 ** (n + 1) - 2 ** (n + 1), lambda n: 4],
    ),
    "intro/angle": ([45, 45.0], [44, 46, 44.9, 90, "45"]),
    "one-sample-many-tasks/no-absent": (
        [lambda n: 2**n - 1],
        [lambda n: 2**n, lambda n: 2.0**n - 1.01],
    ),
    "one-sample-many-tasks/incomplete": (
        [lambda n, share: (1 + 2 * share) ** n - (1 + share) ** n],
        [
            lambda n, share: (1 + 2 * share) ** n - (1 + share) ** n + 1e-4,
            lambda n, share: (3**n - 2**n) * share,
        ],
    ),
    "one-sample-many-tasks/window": (
        [window],
        [
            lambda *args: window(*args, every=False),
            lambda batch, *args: window(100, *args),
        ],
    ),
    "mixtures/other-way": (
        [(2, 1.5), torch.tensor([2.0, 1.5])],
        [(2, 1.52), (2.02, 1.5), (2, 1.0), (2, 1.5, 0), ("2", "1.5")],
    ),
    "mixtures/whiten": (
        [WHITENER, WHITENER.flip(0), WHITENER.tolist()],
        [WHITENER.mT, 1.01 * WHITENER, torch.eye(3), torch.full((2, 2), math.nan)],
    ),
    "mixtures/impute": (
        [impute],
        [
            lambda *args: impute(*args, weighted=False),
            lambda _, x: x.fill_(1),
            lambda _, x: x.clone(),
        ],
    ),
    "local-optima/weights": (
        [weight],
        [
            lambda *args: 1 - weight(*args),
            lambda *args: weight(*args) + 1e-4,
            lambda *args: weight(*args, far=math.nan),
            lambda *args: weight(*args) if abs(args[-1]) > 100 else math.nan,
        ],
    ),
    "local-optima/angle": ([59.6, 60], [59, 60.2, math.radians(59.6), "60"]),
    "local-optima/valley": ([1, 1.0], [1.9, 0, 2, True, "1"]),
    "local-optima/clouds": ([math.log(3)], [math.log(2), 1.1, "1.0986"]),
}
ANSWERS |= MODEL | PRACTICE | CELEBA | CLASSIFICATION | COOPERATION | EM | FACES
ANSWERS |= GAN | PIXELS


def test_every_exercise_has_answers_here():
    assert set(ANSWERS) == set(CHECKERS)


@pytest.mark.parametrize("name", sorted(CHECKERS))
def test_right_answers_pass_and_near_misses_fail(name, capsys):
    right, wrong = ANSWERS[name]
    assert [check(name, answer) for answer in right] == [True] * len(right)
    assert [check(name, answer) for answer in wrong] == [False] * len(wrong)
    assert "Traceback" not in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(CHECKERS))
def test_nan_never_passes(name, capsys):
    nan = math.nan
    for answer in (nan, torch.tensor(nan), (nan, nan), lambda *_: nan):
        assert check(name, answer) is False
