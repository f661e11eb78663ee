"""The ring of clouds: cells against sampling, divergences, and games about it."""

import dataclasses
import math

import pytest
import torch

from biglearn_lite._clouds import (
    CLOUDS,
    CloudsPart,
    cell_law,
    js,
    measure,
    play,
    points,
    ring,
    slice_edges,
    slices,
    tally,
)
from biglearn_lite.mixtures import GaussianMixture, UniversalMixture
from biglearn_lite.recipe import read_recipe, train
from biglearn_lite.runs import read_run
from biglearn_lite.studies import run_study
from biglearn_lite.tasks import Task

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = CloudsPart(steps=4, batch=16, width=8, log=2)
N = 400_000


def five_deviations(law, n):
    return 5 * (law * (1 - law) / n).sqrt()


# --------------------------------------------------------------------------- cells


def test_probabilities_of_cells_against_sampling():
    law = cell_law()
    assert law.sum() == pytest.approx(1)
    shares = tally(points(N, seed=5)) / N
    assert (shares - law).abs().lt(five_deviations(law, N) + 1e-3 * law).all()


def test_slices_are_equally_likely():
    assert len(slice_edges()) == 19
    x = points(N, seed=6)
    for token in range(2):  # a quarter turn maps the ring to itself
        shares = slices(x[:, token, 0]) / N
        law = torch.full((20,), 0.05)
        assert (shares - law).abs().lt(five_deviations(law, N)).all()


def test_a_point_is_in_the_cell_of_its_cloud():
    deviation = math.sqrt(0.03)
    steps = torch.tensor([0.0, 1.1, 1.3, 2.9, 3.2]) * deviation  # from the centre, out
    centre = ring().means[3]
    x = centre + steps[:, None] * centre / centre.norm()
    counts = tally(x[..., None])
    assert counts[9:12].tolist() == [2, 2, 1]
    assert counts.sum() == 5


# --------------------------------------------------------------------- divergences


def test_divergence_against_closed_forms():
    law = torch.tensor([0.2, 0.3, 0.5])
    assert js(torch.tensor([20, 30, 50]), law) == pytest.approx(0, abs=1e-9)
    apart = torch.tensor([0.5, 0.5, 0.0])
    assert js(torch.tensor([0, 0, 7]), apart) == pytest.approx(math.log(2))
    # half of the law: 1/2 log(1 / 0.75) + 1/4 log(0.5 / 0.75) + 1/4 log(0.5 / 0.25)
    half = (math.log(4 / 3) + 0.5 * math.log(2 / 3) + 0.5 * math.log(2)) / 2
    assert js(torch.tensor([9, 0]), 0.5) == pytest.approx(half)


class Shifted(UniversalMixture):
    """The truth, but for the answers to tasks of one kind."""

    wrong = "none"

    def sample(self, x, task, generator=None):
        made = super().sample(x, task, generator)
        moved = torch.tensor([kind == self.wrong for kind in task.kind])
        return torch.where(moved[:, None, None] & task.target[..., None], 0.0, made)


def test_the_truth_is_at_the_floor():
    found = measure(UniversalMixture(ring()))
    assert found["modes"] == CLOUDS
    assert found["outside"] == pytest.approx(0.01, abs=0.006)
    for kind in ("joint", "dropped", "marginal", "conditional"):
        assert 0 < found[kind] < 0.003, kind


@pytest.mark.parametrize(
    ("wrong", "seen"),
    [
        ("joint", {"joint", "dropped"}),
        ("marginal", {"marginal"}),
        ("conditional", {"conditional"}),
    ],
)
def test_a_wrong_answer_is_seen_where_it_was_given(wrong, seen):
    model = Shifted(ring())
    model.wrong = wrong
    found = measure(model, 1000)
    for kind in ("joint", "dropped", "marginal", "conditional"):
        assert (found[kind] > 0.1) == (kind in seen), kind


def test_modes_that_are_missing_are_missed():
    some = ring()
    weights = torch.tensor([0.45, 0.48, 0.05, 0.02])  # a quarter of a share is 1/32
    few = GaussianMixture(weights, some.means[:4], some.covariances[:4])
    assert measure(UniversalMixture(few), 2000)["modes"] == 3


def test_sources_are_real_and_both_coordinates_are_asked():
    asked = []

    class Listening(UniversalMixture):
        def sample(self, x, task, generator=None):
            asked.append((task.kind[0], task.target[0].tolist()))
            assert torch.equal(x, points(len(x)))
            return super().sample(x, task, generator)

    measure(Listening(ring()), 50)
    assert sorted(asked) == sorted(
        [("joint", [True, True])]
        + [(k, t) for k in ("marginal", "conditional")
           for t in ([True, False], [False, True])]
    )  # fmt: skip


# ------------------------------------------------------------------------- playing


def test_equal_games_are_equal_and_seeds_differ():
    ends = [play(TINY, seed)[0] for seed in (0, 0, 1)]
    x, task = points(20), Task.joint(20, 2)
    drawn = [m.sample(x, task, torch.Generator().manual_seed(0)) for m in ends]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_the_part_decides_the_game():
    part = CloudsPart(
        joint=0.3, marginal=0.1, steps=7, batch=9, rate=0.1, width=8, strength=2.0,
        pairing="naive", penalised="union", communication=0.5, log=3,
    )  # fmt: skip
    game, settings, sampler = part.game(), part.settings(), part.sampler()
    assert (game.pairing, game.penalised) == ("naive", "union")
    assert (game.strength, game.communication) == (2.0, 0.5)
    assert (settings.steps, settings.batch, settings.rate) == (7, 9, 0.1)
    assert (sampler.joint, sampler.marginal, settings.log) == (0.3, 0.1, 3)
    assert part.sizes().width == 8
    assert not part.sizes().bounded


def test_the_game_that_is_played_is_that_of_the_part():
    naive = dataclasses.replace(TINY, pairing="naive")
    losses = [play(p, watch=lambda *_: {})[1][-1]["loss"] for p in (TINY, naive)]
    assert losses[1] > 1.5 * losses[0]  # the sum of two logs, not one


def test_a_watcher_takes_the_place_of_the_looks():
    seen = []
    _, history = play(TINY, watch=lambda step, model: seen.append(step) or {"a": 1})
    assert seen == [2, 4]
    assert history[-1]["a"] == 1
    assert "joint" not in history[-1]


@pytest.mark.parametrize(
    "changes",
    [{"joint": 1.2}, {"steps": 0}, {"strength": -1.0}, {"width": 0}, {"pairing": "?"}],
)
def test_a_part_that_does_not_fit(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        dataclasses.replace(TINY, **changes)


def test_a_short_game_already_learns():
    """Fifty steps more than halve the distance of the start from the truth."""
    part = CloudsPart(joint=1.0, marginal=0.0, steps=60, log=60)
    start, _ = play(dataclasses.replace(part, steps=1, rate=0.0))
    end, _ = play(part)
    assert measure(end, 1000)["joint"] < 0.5 * measure(start, 1000)["joint"]


# -------------------------------------------------------------------------- recipe


def test_a_record_holds_what_was_measured(tmp_path):
    recipe = read_recipe("clouds-gan", "smoke")
    run = read_run(train(recipe, seed=3, root=tmp_path))
    assert not run.model.config.bounded  # coordinates are any numbers
    again = measure(run.model)
    assert {k: run.metrics[k] for k in again} == pytest.approx(again, rel=1e-6)
    assert run.metrics["looks"]["step"] == [2, 4]
    assert run.history[-1]["joint"] == run.metrics["looks"]["joint"][-1]
    assert {"lead", "slope on real", "communication"} <= set(run.history[0])


def test_the_study_at_smoke(tmp_path):
    recipe = read_recipe("clouds-gan", "smoke")
    run = read_run(run_study(recipe, root=tmp_path))
    variants = run.metrics["variants"]
    assert set(variants) == set(recipe.study.variants)
    assert all(len(seeds) == 1 for seeds in variants.values())
    signs = ("lead", "slope on real", "slope on fake")
    ends = {tuple(run.history[name][-1][k] for k in signs) for name in variants}
    assert len(ends) == len(variants)  # every change changes something
    talk = run.history["all, with talk"][-1]["communication"]
    assert talk > 0 == run.history["all"][-1]["communication"]


def test_the_variants_share_all_that_is_not_compared():
    plan = read_recipe("clouds-gan")
    assert plan.study.seeds == 5
    parts = {
        name: read_recipe("clouds-gan", "cpu", dict(its)).clouds
        for name, its in plan.study.variants.items()
    }
    for name, part in parts.items():
        for same in ("steps", "rate", "width", "strength"):
            assert getattr(part, same) == getattr(plan.clouds, same), (name, same)
        less = {"joint only, half the rows": 2}.get(name, 8 if "few" in name else 1)
        assert part.batch * less == plan.clouds.batch
    assert parts["all"] == plan.clouds
