"""Metrics: closed forms, brute-force twins, perfect samplers, recorded judges."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg
from torch import nn

from biglearn_lite import metrics
from biglearn_lite._judge_training import (
    JudgePart,
    _fit,
    _whole_loss,
    bend,
    fit_temperature,
    left_out,
)
from biglearn_lite._judges import SHARES, between
from biglearn_lite._report import fixed_targets, spread_rows
from biglearn_lite.data import patchify, unpatchify
from biglearn_lite.metrics import (
    Guess,
    Judges,
    JudgeSizes,
    Look,
    Projection,
    acceptance,
    agreement,
    bayes_accuracy,
    calibration_error,
    class_kl,
    class_shares,
    compare,
    diversity,
    frechet_distance,
    frechet_floor,
    image_report,
    log_loss,
    marginal_distance,
    perfect_agreement,
    precision_recall_density_coverage,
    random_sources,
    seam_strength,
    unit_images,
)
from biglearn_lite.recipe import read_recipe, train
from biglearn_lite.runs import load_run, read_run

SMALL = JudgeSizes(height=4, width=4, filters=2, features=3, classes=3)


def noise(generator, *shape):
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def fill(module, generator):
    """A module whose weights come from this generator."""
    for weights in module.parameters():
        nn.init.normal_(weights, std=0.5, generator=generator)
    return module


def exactly(rows, mean, covariance):
    """Rows moved and stretched so that their moments are exactly these."""
    rows = rows - rows.mean(0)
    whiten = torch.linalg.inv(torch.linalg.cholesky(rows.T.cov()))
    return rows @ whiten.T @ torch.linalg.cholesky(covariance).T + mean


# ------------------------------------------------------------------ Frechet distance


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.floats(-3, 3), min_size=3, max_size=3),
    st.lists(st.floats(0.1, 3), min_size=3, max_size=3),
    st.integers(0, 99),
)
def test_diagonal_gaussians_have_a_closed_form(mean, deviation, seed):
    generator = torch.Generator().manual_seed(seed)
    mean, deviation = (torch.tensor(v, dtype=torch.float64) for v in (mean, deviation))
    a = exactly(noise(generator, 40, 3), torch.zeros(3).double(), torch.eye(3).double())
    b = exactly(noise(generator, 40, 3), mean, deviation.square().diag())
    wanted = mean.square().sum() + (deviation - 1).square().sum()
    assert frechet_distance(a, b) == pytest.approx(wanted.item(), abs=1e-9)


def test_the_distance_is_that_of_scipy(generator):
    a = noise(generator, 90, 6) @ noise(generator, 6, 6)
    b = noise(generator, 90, 6) @ noise(generator, 6, 6) + 1
    x, y = a.numpy(), b.numpy()
    one, other = np.cov(x.T), np.cov(y.T)
    root = linalg.sqrtm(one @ other).real
    wanted = np.square((x - y).mean(0)).sum() + np.trace(one + other - 2 * root)
    assert frechet_distance(a, b) == pytest.approx(float(wanted), rel=1e-9)
    assert frechet_distance(b, a) == pytest.approx(float(wanted), rel=1e-9)


def test_the_distance_does_not_see_rotations_and_shifts(generator):
    a, b = noise(generator, 60, 5), 2 * noise(generator, 60, 5) + 1
    turn = torch.linalg.qr(noise(generator, 5, 5)).Q
    before, after = frechet_distance(a, b), frechet_distance(a @ turn + 7, b @ turn + 7)
    assert after == pytest.approx(before, rel=1e-9)
    assert frechet_distance(3 * a, 3 * b) == pytest.approx(9 * before, rel=1e-9)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_a_feature_that_is_constant_and_equal_features_are_fine(generator):
    a, b = noise(generator, 60, 3), noise(generator, 60, 3)
    wide = [torch.cat([x, x[:, :1], torch.ones(60, 1)], 1) for x in (a, b)]
    assert math.isfinite(frechet_distance(*wide))
    assert frechet_distance(*(x[:, :1] for x in (a, b))) >= 0  # one feature


def test_the_distance_is_that_of_torchmetrics(generator):
    image = pytest.importorskip("torchmetrics.image.fid")
    a, b = noise(generator, 60, 4), noise(generator, 60, 4) + 1
    facts = (a.mean(0), a.T.cov(), b.mean(0), b.T.cov())
    wanted = image._compute_fid(*facts).item()
    assert frechet_distance(a, b) == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (torch.zeros(50, 3), torch.zeros(40, 3), "at equal numbers"),
        (torch.zeros(50, 3), torch.zeros(50, 2), "at equal numbers"),
        (torch.zeros(29, 3), torch.zeros(29, 3), "project on at most 2"),
        (torch.zeros(50, 3, 1), torch.zeros(50, 3), "flatten"),
        (torch.zeros(50, 3), torch.full((50, 3), torch.nan), "b must be finite, and"),
    ],
)
def test_what_has_no_distance(a, b, message):
    with pytest.raises(ValueError, match=message):
        frechet_distance(a, b)


def test_ten_rows_a_feature_are_enough(generator):
    assert frechet_distance(noise(generator, 30, 3), noise(generator, 30, 3)) > 0


# ------------------------------------------------------------------------- projection


def test_a_projection_keeps_the_largest_variance(generator):
    rows = noise(generator, 400, 3) * torch.tensor([1.0, 5.0, 0.2]) + 3
    project = Projection(rows, 2)
    values = np.linalg.eigvalsh(np.cov(rows.numpy().T))[::-1].copy()
    torch.testing.assert_close(project(rows).T.cov(), torch.tensor(values[:2]).diag())
    assert project.explained == pytest.approx(values[:2].sum() / values.sum())
    torch.testing.assert_close(project.axes.T @ project.axes, torch.eye(2).double())
    torch.testing.assert_close(project(rows).mean(0), torch.zeros(2).double())


def test_a_projection_is_no_more_than_a_rotation(generator):
    a, b = noise(generator, 60, 4), noise(generator, 60, 4) + 1
    project = Projection(a, 10)  # there are four only
    assert project.axes.shape == (4, 4)
    found = frechet_distance(project(a), project(b))
    assert found == pytest.approx(frechet_distance(a, b), rel=1e-9)
    with pytest.raises(ValueError, match="rows of 4 values, got 3"):
        project(a[:, :3])


# ------------------------------------------------------------------------------ floor


def test_the_floor_is_the_mean_over_draws(generator):
    train, test = noise(generator, 200, 3), noise(generator, 40, 3)
    state = generator.get_state()
    found = frechet_floor(train, test, 7, generator)
    generator.set_state(state)
    each = []
    for _ in range(7):
        rows = torch.randperm(200, generator=generator)[:40]
        each.append(frechet_distance(train[rows], test))
    assert found.mean == pytest.approx(np.mean(each))
    assert found.deviation == pytest.approx(np.std(each))
    same = frechet_floor(test, test, 3, generator)  # all rows, in another order
    assert same == pytest.approx((0, 0), abs=1e-9)
    with pytest.raises(ValueError, match="take fewer test rows"):
        frechet_floor(test, train, 2, generator)


def test_comparisons_average_whole_sets_only(generator):
    train, test = noise(generator, 200, 3), noise(generator, 40, 3)
    fake = noise(generator, 99, 3) + 2
    found = compare(train, test, fake, generator, draws=5)
    each = [frechet_distance(part, test) for part in (fake[:40], fake[40:80])]
    assert found.distance == pytest.approx(np.mean(each))
    assert found.spread == pytest.approx(np.std(each))
    assert found.ratio == pytest.approx(found.distance / found.floor)
    one = compare(train, test, fake, generator, draws=1)
    assert one.distance == pytest.approx(each[0])
    with pytest.raises(ValueError, match="got 39 and 40; draw more"):
        compare(train, test, fake[:39], generator)


def test_marginals_are_measured_in_as_many_directions_as_rows_allow(generator):
    train, test, fake = (noise(generator, n, 12) for n in (300, 55, 60))
    found = marginal_distance(train, test, fake, generator, draws=3)
    project = Projection(train, 5)  # 55 rows
    wanted = frechet_distance(project(fake[:55]), project(test))
    assert found.distance == pytest.approx(wanted)
    found = marginal_distance(train, test, fake, generator, dims=2, draws=3)
    project = Projection(train, 2)
    wanted = frechet_distance(project(fake[:55]), project(test))
    assert found.distance == pytest.approx(wanted)


def test_the_floor_is_where_a_perfect_sampler_is(generator):
    train, test = noise(generator, 1000, 4), noise(generator, 100, 4)
    found = compare(train, test, noise(generator, 2000, 4), generator)
    assert abs(found.distance - found.floor) < 3 * found.spread
    worse = compare(train, test, 1.5 * noise(generator, 2000, 4), generator)
    assert worse.ratio > 3


# ------------------------------------------------------------------------------ balls


def brute_force(real, fake, k):
    """Precision, recall, density and coverage, row by row."""

    def reach(rows, place):
        apart = sorted((rows[place] - row).norm().item() for row in rows)
        return apart[k]  # the first is the row itself

    balls = [reach(real, i) for i in range(len(real))]
    their = [reach(fake, j) for j in range(len(fake))]
    apart = [[(r - f).norm().item() for f in fake] for r in real]
    inside = [[d <= ball for d in row] for row, ball in zip(apart, balls, strict=True)]
    back = [[d <= ball for d, ball in zip(row, their, strict=True)] for row in apart]
    return (
        np.mean([any(column) for column in zip(*inside, strict=True)]),
        np.mean([any(row) for row in back]),
        sum(map(sum, inside)) / k / len(fake),
        np.mean([any(row) for row in inside]),
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 999), st.integers(1, 4), st.floats(0, 2), st.floats(0.3, 2))
def test_balls_one_by_one(seed, k, shift, scale):
    generator = torch.Generator().manual_seed(seed)
    real = noise(generator, 14, 2)
    fake = noise(generator, 14, 2) * scale + shift
    found = precision_recall_density_coverage(real, fake, k)
    assert found == pytest.approx(brute_force(real, fake, k))


def test_balls_of_known_sets(generator):
    real = noise(generator, 100, 3)
    assert precision_recall_density_coverage(real, real)[:2] == (1, 1)
    assert precision_recall_density_coverage(real, real).coverage == 1
    assert precision_recall_density_coverage(real, real + 100) == (0, 0, 0, 0)
    # one real row again and again: faithful, and without any diversity
    lost = precision_recall_density_coverage(real, real[:1].expand(100, -1))
    assert lost.precision == 1
    assert lost.recall == 0.01
    assert lost.coverage < 0.2
    with pytest.raises(ValueError, match="more than k=5"):
        precision_recall_density_coverage(real[:5], real[:5])
    with pytest.raises(ValueError, match="as many fake rows"):
        precision_recall_density_coverage(real, real[:50])


# -------------------------------------------------------------------------- agreement


def laws(generator, rows=50, classes=4):
    return (2 * noise(generator, rows, classes)).log_softmax(1)


def test_a_perfect_sampler_agrees_as_predicted(generator):
    law = laws(generator)
    many = law.exp().repeat(4000, 1)
    label, drawn = (
        torch.multinomial(many, 1, generator=generator)[:, 0] for _ in range(2)
    )
    assert agreement(label, drawn) == pytest.approx(perfect_agreement(law), abs=0.005)
    best = law.argmax(1).repeat(4000)
    assert agreement(label, best) == pytest.approx(bayes_accuracy(law), abs=0.005)
    assert perfect_agreement(law) < bayes_accuracy(law)


def test_agreement_of_certain_and_uniform_laws():
    sure = torch.tensor([[0.0, -torch.inf], [-torch.inf, 0.0]])
    assert perfect_agreement(sure) == bayes_accuracy(sure) == 1
    flat = torch.full((3, 5), 0.2).log()
    assert perfect_agreement(flat) == pytest.approx(0.2)
    labels = torch.tensor([0, 1, 2])
    assert agreement(labels, torch.tensor([[0, 1, 1], [0, 0, 0]])) == 0.5


@pytest.mark.parametrize("measure", [perfect_agreement, bayes_accuracy])
@pytest.mark.parametrize(
    "wrong", [torch.zeros(2, 3), torch.zeros(0, 3), torch.zeros(3)]
)
def test_scores_are_no_log_probabilities(measure, wrong):
    with pytest.raises(ValueError, match="log_p"):
        measure(wrong)


def test_agreement_needs_rows_that_fit():
    for labels, predicted in ((3, 4), (0, 0)):
        with pytest.raises(ValueError, match="agreement compares"):
            agreement(torch.zeros(labels), torch.zeros(predicted))


def test_log_loss_and_calibration_by_hand():
    law = torch.tensor([[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.35, 0.65]]).log()
    labels = torch.tensor([0, 1, 1, 0])
    wanted = -np.mean(np.log([0.9, 0.2, 0.6, 0.35]))
    assert log_loss(law, labels) == pytest.approx(wanted)
    # two bins: confidences 0.6, 0.65 (one right) and 0.9, 0.8 (one right)
    found = calibration_error(law, labels, bins=4)
    assert found == pytest.approx(0.5 * abs(0.5 - 0.625) + 0.5 * abs(0.5 - 0.85))
    with pytest.raises(ValueError, match="a label for each row"):
        log_loss(law, labels[:3])


def test_a_law_is_calibrated_for_its_own_labels(generator):
    law = laws(generator).repeat(2000, 1)
    label = torch.multinomial(law.exp(), 1, generator=generator)[:, 0]
    assert calibration_error(law, label) < 0.01
    assert calibration_error((3 * law).log_softmax(1), label) > 0.1


def test_class_kl(generator):
    law = laws(generator, 300)
    counts = torch.zeros(300, 4).long()
    drawn = torch.multinomial(law.exp(), 5, True, generator=generator)
    counts.scatter_add_(1, drawn, torch.ones_like(drawn))
    found = class_kl(counts, law, generator)
    slow = np.mean(
        [
            sum(c / 5 * math.log(c / 5 / q) for c, q in zip(*row, strict=True) if c)
            for row in zip(counts.tolist(), law.exp().tolist(), strict=True)
        ]
    )
    assert found.value == pytest.approx(slow)
    assert found.value == pytest.approx(found.perfect, rel=0.15)
    # in expectation, with all tuples of two draws
    p = law[:1].exp()[0]
    pairs = [(a, b) for a in range(4) for b in range(4)]
    exact = 0.0
    for a, b in pairs:
        share = torch.bincount(torch.tensor([a, b]), minlength=4) / 2
        kept = share > 0
        kl = (share[kept] * (share[kept] / p[kept]).log()).sum()
        exact += (p[a] * p[b] * kl).item()
    two = class_kl(torch.tensor([[2, 0, 0, 0]]), law[:1], generator, draws=40_000)
    assert two.perfect == pytest.approx(exact, rel=0.02)
    assert two.value == pytest.approx(-law[0, 0].item())


@pytest.mark.parametrize(
    "counts", [[[1, 1], [2, 1]], [[0, 0], [0, 0]], [[3, -1], [1, 1]], [[1, 1]]]
)
def test_counts_that_are_none(counts, generator):
    law = torch.full((2, 2), 0.5).log()
    with pytest.raises(ValueError, match="counts are"):
        class_kl(torch.tensor(counts), law, generator)


# ----------------------------------------------------------------------------- scenes


def by_mean(images):
    """A judge of two classes: bright or dark, and sure at the ends."""
    bright = images.mean((1, 2, 3)).clamp(1e-6, 1 - 1e-6)
    return torch.stack([bright, 1 - bright], 1).log()


def test_what_a_judge_accepts():
    levels = torch.tensor([0.0, 0.05, 0.15, 0.5001, 0.89, 0.91, 2.0, 0.3])
    images = levels[:, None, None, None].expand(-1, 1, 4, 4)
    assert acceptance(images, by_mean) == 4 / 8
    assert acceptance(images, by_mean, 0.8) == 6 / 8
    torch.testing.assert_close(
        class_shares(images, by_mean), torch.tensor([4 / 8, 4 / 8]).double()
    )
    # what is brighter than white is white
    seen = []
    acceptance(images, lambda x: (seen.append(x.max()), by_mean(x))[1])
    assert seen == [1]
    broken = images.clone()
    broken[3] = torch.nan
    with pytest.raises(ValueError, match="Row 3 of the images is not finite"):
        acceptance(broken, by_mean)
    with pytest.raises(ValueError, match="at least one"):
        class_shares(images[:0], by_mean)
    with pytest.raises(ValueError, match="confidence is a probability"):
        acceptance(images, by_mean, 90)


def test_diversity_of_pairs(generator):
    samples = torch.rand(3, 4, 5, 2, generator=generator)
    target = torch.rand(4, 5, generator=generator) < 0.5
    target[:, 0] = True
    slow = []
    for row in range(4):
        chosen = samples[:, row, target[row]].double()
        gaps = [(chosen[i] - chosen[j]).square().mean().sqrt() for i, j in
                ((0, 1), (0, 2), (1, 2))]  # fmt: skip
        slow.append(torch.stack(gaps).mean())
    hidden = torch.where(target[..., None], samples, torch.nan)
    torch.testing.assert_close(diversity(hidden, target), torch.stack(slow))
    assert (diversity(samples[:1].expand(3, -1, -1, -1), target) == 0).all()
    none = target.clone()
    none[2] = False
    with pytest.raises(ValueError, match="Row 2 has no target"):
        diversity(samples, none)
    with pytest.raises(ValueError, match="K >= 2"):
        diversity(samples[:1], target)
    hidden[0, 1, 0] = torch.nan
    with pytest.raises(ValueError, match="Row 1 has a target value"):
        diversity(hidden, target)


def test_a_seam_by_hand():
    # two patches of 2 x 2 side by side, two rows of them
    real = torch.arange(16.0).reshape(1, 1, 4, 4)
    source = torch.tensor([[True, False, True, False]])
    made = real.clone()
    made[..., 2:] += 10
    # between: sideways steps of 1 (now 11); the others go down, steps of 4
    assert seam_strength(made, real, source, 2) == pytest.approx((11 / 4) / (1 / 4))
    assert seam_strength(real, real, source, 2) == 1
    flat = torch.ones(1, 1, 4, 4)
    for images, mask in ((flat, source), (real, torch.ones(1, 4).bool())):
        with pytest.raises(ValueError, match="A seam needs borders"):
            seam_strength(images, images, mask, 2)
    with pytest.raises(ValueError, match="of the same rows"):
        seam_strength(real, real.repeat(2, 1, 1, 1), source, 2)


def test_a_seam_pixel_by_pixel(generator):
    made, real = torch.rand(2, 3, 2, 6, 9, generator=generator)
    source = torch.rand(3, 6, generator=generator) < 0.5

    def ratio(images):
        seam, other = [], []
        for b in range(3):
            for r in range(6):
                for c in range(9):
                    for dr, dc in ((1, 0), (0, 1)):
                        if r + dr > 5 or c + dc > 8:
                            continue
                        here = r // 3 * 3 + c // 3
                        there = (r + dr) // 3 * 3 + (c + dc) // 3
                        if here == there:
                            continue
                        gap = images[b, :, r, c] - images[b, :, r + dr, c + dc]
                        mixed = source[b, here] != source[b, there]
                        (seam if mixed else other).append(gap.abs().mean().item())
        return np.mean(seam) / np.mean(other)

    found = seam_strength(made, real, source, 3)
    assert found == pytest.approx(ratio(made) / ratio(real), rel=1e-6)


# ----------------------------------------------------------------------------- judges


def test_a_guess_reads_nothing_but_its_source(generator):
    guess = fill(Judges(SMALL), generator).eval().guess
    tokens = torch.rand(6, 4, 4, generator=generator)
    source = torch.rand(6, 4, generator=generator) < 0.5
    hidden = torch.where(source[..., None], tokens, torch.nan)
    with torch.no_grad():
        said = guess.log_prob(hidden, source)
        assert torch.equal(said, guess.log_prob(tokens, source))
        torch.testing.assert_close(said.exp().sum(1), torch.ones(6))
        nothing = guess.log_prob(tokens, torch.zeros_like(source))
    assert (nothing == nothing[0]).all()
    shown = guess.show(hidden, source)
    assert torch.equal(
        patchify(shown[:, 1:], 2).bool(), source[..., None].expand(6, 4, 4)
    )
    wanted = unpatchify(torch.where(source[..., None], tokens, 0.0), 2, (1, 4, 4))
    assert torch.equal(shown[:, :1], wanted)


def test_members_are_averaged_in_their_logs(generator):
    guess = Guess(JudgeSizes(height=4, width=4, filters=2, classes=3, members=2)).eval()
    fill(guess, generator)
    tokens, source = torch.rand(5, 4, 4, generator=generator), torch.ones(5, 4).bool()
    with torch.no_grad():
        alone = [guess.log_prob(tokens, source, [place]) for place in (0, 1)]
        both = guess.log_prob(tokens, source)
    wanted = ((alone[0] + alone[1]) / 2).log_softmax(1)
    torch.testing.assert_close(both, wanted)
    assert not torch.equal(*alone)


def test_temperatures_lie_between_their_knots(generator):
    values = torch.randn(len(SHARES), generator=generator)
    share = torch.tensor([[0.0], [0.05], [0.1], [0.4], [1.0], [0.8]])
    wanted = np.interp(share.numpy(), SHARES, values.numpy())
    torch.testing.assert_close(between(share, values), torch.tensor(wanted).float())


def test_the_temperature_that_was_put_in_is_found(generator):
    guess, line = Guess(SMALL), nn.Linear(32, 3)
    guess.members[0] = nn.Sequential(nn.Flatten(), line)
    nn.init.normal_(line.weight, std=3.0, generator=generator)
    images = torch.rand(3000, 1, 4, 4, generator=generator)
    everything = torch.ones(3000, 4).bool()
    with torch.no_grad():
        law = (guess.scores(patchify(images, 2), everything) / 3).softmax(1)
    labels = torch.multinomial(law, 1, generator=generator)[:, 0]
    before = guess.log_temperature.clone()
    blocks = torch.ones(1, 3000).bool()
    fit_temperature(guess, images, labels, blocks, 1, generator)
    assert not torch.equal(before, guess.log_temperature)
    assert guess.log_temperature[-1].exp().item() == pytest.approx(3, rel=0.2)
    assert not guess.log_temperature.requires_grad


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 3}, "patch must divide"),
        ({"classes": 0}, "classes must be an integer"),
        ({"members": 0}, "members must be"),
        ({"dropout": 1.0}, "dropout is a share"),
    ],
)
def test_sizes_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        JudgeSizes(**changes)


@pytest.mark.parametrize(
    ("tokens", "source"),
    [
        (torch.zeros(2, 4, 3), torch.ones(2, 4).bool()),
        (torch.zeros(2, 5, 4), torch.ones(2, 5).bool()),
        (torch.zeros(2, 4, 4), torch.ones(3, 4).bool()),
        (torch.zeros(2, 4, 4), torch.ones(2, 4)),
    ],
)
def test_a_guess_needs_its_tokens(tokens, source):
    with pytest.raises(ValueError, match="cut the images with patchify"):
        Judges(SMALL).guess.log_prob(tokens, source)


@pytest.mark.parametrize("side", [(8, 8), (28, 28), (4, 8), (3, 3)])
def test_judges_look_at_images_of_any_size(side):
    sizes = JudgeSizes(3, *side, patch=1, filters=2, features=5, classes=4)
    look = Judges(sizes).eval().look
    images = torch.zeros(2, 3, *side)
    assert look(images).shape == (2, 4)
    assert look.features(images).shape == (2, 5)
    torch.testing.assert_close(look(images), look.head(look.features(images)))


def test_blocks_are_left_out_from_the_end():
    blocks = left_out(10, 0.3, 3)
    rows = [each.nonzero()[:, 0].tolist() for each in blocks]
    assert rows == [[7, 8, 9], [4, 5, 6], [1, 2, 3]]


def test_images_are_bent_a_little(generator):
    images = torch.zeros(200, 1, 8, 8)
    images[:, :, 2:6, 2:6] = 1
    assert torch.equal(bend(images, 0.0, 0.0, generator).round(), images)
    bent = bend(images, 1.0, 0.0, generator)
    assert bent.shape == images.shape
    assert 0 <= bent.min() <= bent.max() <= 1
    assert (bent.sum((1, 2, 3)) - 16).abs().max() < 10
    rows = torch.arange(8.0)
    centre = (bent.sum((1, 3)) * rows).sum(1) / bent.sum((1, 2, 3))
    assert 0.2 < centre.std() < 1  # of 0.8 pixels at most, uniform
    assert bend(images, 0.0, 0.1, generator).std(0).max() > 0.05


# ----------------------------------------------------------------------------- report


class FromTheTable:
    """Draws a whole row of a table among those that agree with the source."""

    length = 4

    def __init__(self, table, weights):
        self.table, self.weights = table, weights

    def sample(self, x, task, generator=None):
        assert not x[~task.source].isfinite().any()  # nothing else is shown
        seen = torch.where(task.source[..., None], x, 0.0)[:, None]
        mask = task.source[:, None, :, None]
        fits = ((seen - self.table * mask).abs() < 1e-6).flatten(2).all(2)
        row = torch.multinomial(fits * self.weights, 1, generator=generator)[:, 0]
        made = torch.where(task.source[..., None], x, self.table[row])
        return torch.where(task.absent[..., None], torch.nan, made)


@pytest.fixture(scope="module")
def toy():
    """Images of four patches, each dark or bright; the class is how many are bright."""
    codes = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)  # (16, 4)
    shade = torch.linspace(0.6, 1, 4)
    table = codes[..., None] * shade
    weights = torch.linspace(1, 3, 16)
    judges = Judges(JudgeSizes(height=4, width=4, filters=2, features=3, classes=5))
    kinds = codes.sum(1).long()

    def bright(images):
        return (patchify(images, 2).mean(2) > 0.4).sum(1)

    def look(images):
        return 50.0 * nn.functional.one_hot(bright(images), 5)

    def features(images):
        return patchify(images, 2).mean(2)

    class Knows(nn.Module):
        def log_prob(self, tokens, source):
            seen = tokens * source[..., None]
            gaps = (seen[:, None] - table * source[:, None, :, None]).abs()
            fits = (gaps < 1e-6).flatten(2).all(2) * weights
            mass = fits @ nn.functional.one_hot(kinds, 5).float()
            return (mass / mass.sum(1, keepdim=True)).log()

    judges.guess = Knows()
    judges.look.forward, judges.look.features = look, features
    draw = torch.Generator().manual_seed(5)
    rows = torch.multinomial(weights, 6000, True, generator=draw)
    images = unpatchify(table[rows], 2, (1, 4, 4))
    return FromTheTable(table, weights), judges, images, kinds[rows]


def test_the_report_of_a_perfect_sampler(toy, generator):
    model, judges, images, labels = toy
    data = images[:3000], images[3000:], labels[3000:]
    report = image_report(
        model, judges, *data, generator, shares=(0.25, 0.5, 0.75), rows=1500
    )
    assert report["rows"] == 1500
    joint = report["joint"]
    assert joint["accepted"] == joint["accepted, real"] == 1
    share = torch.bincount(model.table.mean(2).gt(0.4).sum(1), model.weights)
    wanted = (share / share.sum()).tolist()
    assert joint["class shares"] == pytest.approx(wanted, abs=0.03)
    assert joint["smallest class"] == min(joint["class shares"])
    assert joint["largest class"] == max(joint["class shares"])
    # distances are in the range of the floor
    assert joint["ratio"] < 4
    assert joint["precision"] == joint["recall"] == joint["coverage"] == 1
    assert joint["precision, real"] == joint["recall, real"] == 1
    for found in report["marginals"].values():
        assert found["ratio"] < 4
    for found in report["completions"].values():
        assert found["points"] == pytest.approx(
            100 * (found["agreement"] - found["perfect agreement"])
        )
        assert abs(found["points"]) < 3.5
        assert found["perfect agreement"] < found["bayes accuracy"]
        assert found["class kl"] == pytest.approx(found["class kl, perfect"], rel=0.15)
        assert found["seam"] == pytest.approx(1, abs=0.1)
    assert list(report["diversity"]) == ["0.0", "0.25", "0.5", "0.75"]


class Changed:
    """A sampler that does something wrong."""

    length = 4

    def __init__(self, right, change):
        self.right, self.change = right, change

    def sample(self, x, task, generator=None):
        made = self.right.sample(x, task, generator)
        changed = self.change(made)
        return torch.where(task.source[..., None], made, changed)


def test_the_report_of_bad_samplers(toy, generator):
    model, judges, images, labels = toy
    data = images[:1000], images[1000:], labels[1000:]
    ask = {"shares": (0.5,), "rows": 400, "samples": 800, "draws": 3}

    def report(change):
        return image_report(Changed(model, change), judges, *data, generator, **ask)

    right = report(lambda made: made)
    dark = report(lambda made: made * 0)
    assert dark["joint"]["largest class"] == 1
    assert dark["joint"]["ratio"] > 10 * right["joint"]["ratio"]
    assert dark["joint"]["recall"] < 0.2
    assert dark["diversity"]["0.5"] == 0 < right["diversity"]["0.5"]
    assert dark["completions"]["0.5"]["class kl"] > 1
    assert dark["completions"]["0.5"]["points"] < -10
    for name in ("upper half", "centre"):
        assert dark["marginals"][name]["ratio"] > 5 * right["marginals"][name]["ratio"]
    upside = report(lambda made: 1 - made)
    assert upside["completions"]["0.5"]["distance"] > (
        3 * right["completions"]["0.5"]["distance"]
    )
    with pytest.raises(ValueError, match="not finite"):
        report(lambda made: made * torch.nan)


def test_what_was_given_is_pasted_in(toy):
    model, judges, images, labels = toy
    data = images[:500], images[500:900], labels[500:900]

    class Forgets(FromTheTable):
        def sample(self, x, task, generator=None):
            made = super().sample(x, task, generator)
            return torch.where(task.source[..., None], 0.5, made)

    def report(model, restore=None):
        noise, ask = torch.Generator().manual_seed(0), {"rows": 100, "samples": 100}
        return image_report(
            model, judges, *data, noise, **ask, shares=(0.5,), draws=2, restore=restore
        )

    right = report(model)
    assert report(Forgets(model.table, model.weights)) == right

    def careful(tokens):
        assert tokens.isfinite().all()  # also where tokens are absent
        return unpatchify(tokens, 2, (1, 4, 4))

    assert report(model, careful) == right
    # what is darker than black is black, also where no judge looks
    beyond = Changed(model, lambda made: torch.where(made == 0, -3.0, made))
    assert report(beyond) == right


def test_diversity_is_that_of_the_target(toy):
    model, judges, images, labels = toy
    calls = []

    class InTurn(FromTheTable):
        def sample(self, x, task, generator=None):
            calls.append(1)
            made = torch.full(x.shape, len(calls) % 2 / 2)
            made[0] += 0.1  # or nothing would have any spread
            return torch.where(task.source[..., None], x, made)

    data = images[:500], images[500:900], labels[500:900]
    found = image_report(
        InTurn(model.table, model.weights),
        judges,
        *data,
        shares=(0.5, 0.75),
        rows=100,
        samples=100,
        draws=2,
    )
    # two completions of four are dark, so four pairs of six differ, by a half
    assert list(found["diversity"].values()) == pytest.approx([1 / 3] * 3)


def test_models_are_asked_the_same(toy):
    model, judges, images, labels = toy
    data, seen, shown = (images[:500], images[500:900], labels[500:900]), [], []

    class Watched(FromTheTable):
        def sample(self, x, task, generator=None):
            seen.append(task)
            shown.append(x)
            return super().sample(x, task, generator)

    watched = Watched(model.table, model.weights)
    asked = {"rows": 100, "samples": 100, "draws": 2, "completions": 2}
    for seed in (0, 1):
        noise = torch.Generator().manual_seed(seed)
        image_report(watched, judges, *data, noise, **asked, chunk=64)
    kinds = {kind for task in seen for kind in task.kind}
    assert kinds == {"joint", "conditional", "marginal"}
    half = len(seen) // 2
    assert all(a == b for a, b in zip(seen[:half], seen[half:], strict=True))
    assert max(map(len, seen)) == 64
    # the rows are spread over the whole test set
    rows = patchify(data[1][spread_rows(400, 100)], 2)[:64]
    place = next(i for i, task in enumerate(seen) if task.source.any(1).all())
    given = seen[place].source
    torch.testing.assert_close(shown[place][given], rows[given])


def test_no_share_changes_another(toy):
    """Neither more shares nor more completions change what is asked at one."""
    model, judges, images, labels = toy
    data, seen = (images[:500], images[500:900], labels[500:900]), []

    class Watched(FromTheTable):
        def sample(self, x, task, generator=None):
            if task.source.any(1).all():
                seen[-1].append(task.source)
            return super().sample(x, task, generator)

    watched = Watched(model.table, model.weights)
    for shares, completions in (((0.25, 0.5, 0.75), 2), ((0.5, 0.75), 3)):
        seen.append([])
        image_report(
            watched, judges, *data, torch.Generator().manual_seed(0), shares=shares,
            rows=100, samples=100, draws=2, completions=completions, chunk=100,
        )  # fmt: skip
    few = [source for source in seen[1] if source[0].sum() == 2]
    many = [source for source in seen[0] if source[0].sum() == 2]
    assert (len(many), len(few)) == (2, 3)
    assert all(torch.equal(many[0], each) for each in many + few)


def test_tokens_of_their_own(toy, generator):
    """A model whose tokens are not numbers in [0, 1] brings the way there and back."""
    model, judges, images, labels = toy

    class Signed(FromTheTable):
        def sample(self, x, task, generator=None):
            return 2 * super().sample((x + 1) / 2, task, generator) - 1

    ask = {"shares": (0.5,), "rows": 200, "samples": 400, "draws": 2}
    data = images[:1000], images[1000:], labels[1000:]
    found = image_report(
        Signed(model.table, model.weights),
        judges,
        *data,
        torch.Generator().manual_seed(0),
        tokens=lambda x: 2 * patchify(x, 2) - 1,
        restore=lambda t: unpatchify((t + 1) / 2, 2, (1, 4, 4)),
        **ask,
    )
    wanted = image_report(model, judges, *data, torch.Generator().manual_seed(0), **ask)
    for name in ("joint", "diversity"):
        for key, value in wanted[name].items():
            assert found[name][key] == pytest.approx(value, rel=1e-4)


def test_what_cannot_be_reported(toy, generator):
    model, judges, images, labels = toy
    data = images[:500], images[500:900], labels[500:900]
    small = {"rows": 100, "samples": 100, "draws": 2}
    with pytest.raises(ValueError, match="leaves nothing to complete"):
        image_report(model, judges, *data, generator, shares=(0.99,), **small)
    model = Changed(model, lambda made: made)
    model.length = 9
    with pytest.raises(ValueError, match="use judges of this patch"):
        image_report(model, judges, *data, generator)


def test_test_rows_are_spread():
    assert spread_rows(9, 3).tolist() == [0, 4, 8]
    assert spread_rows(3, 9).tolist() == [0, 1, 2]


def test_fixed_targets():
    found = fixed_targets(8, 8, 2)
    assert found["upper half"].tolist() == [True] * 8 + [False] * 8
    assert found["centre"].nonzero()[:, 0].tolist() == [5, 6, 9, 10]
    assert all(mask.any() for mask in fixed_targets(4, 4, 2).values())


def test_sources_and_images(generator):
    source = random_sources(50, 16, 0.3, generator)
    assert (source.sum(1) == 5).all()
    assert source.any(0).all()
    with pytest.raises(ValueError, match="share is a probability"):
        random_sources(5, 16, 30, generator)
    images, labels = unit_images("digits", "test")
    assert images.shape == (360, 1, 8, 8)
    assert (images.min(), images.max()) == (0, 1)
    assert len(labels) == 360
    with pytest.raises(ValueError, match="no images"):
        unit_images("sums")


def test_all_names_are_there():
    assert all(hasattr(metrics, name) for name in metrics.__all__)


# ---------------------------------------------------------------------------- recipes


def test_a_judge_is_trained_and_recorded(tmp_path, generator):
    recipe = read_recipe("digits-judge", "smoke")
    folder = train(recipe, seed=1, root=tmp_path)
    run, again = read_run(folder), read_run(train(recipe, seed=1, root=tmp_path))
    tokens = torch.rand(3, 16, 4, generator=generator)
    source = torch.ones(3, 16).bool()
    with torch.no_grad():
        said = run.model.guess.log_prob(tokens, source)
        assert torch.equal(said, again.model.guess.log_prob(tokens, source))
        images, labels = unit_images("digits", "test")
        right = (run.model.look(images).argmax(1) == labels).double().mean().item()
    # what was measured is what is recorded
    assert run.metrics["accuracy"] == pytest.approx(right, abs=1e-6)
    few = torch.linspace(0, 359, 50).round().long()
    everything = patchify(images[few], 2), torch.ones(50, 16).bool()
    with torch.no_grad():
        law = run.model.guess.log_prob(*everything)
    found = log_loss(law, labels[few])
    assert found == pytest.approx(run.metrics["guess"]["log loss"][-1], rel=1e-6)
    assert len(run.metrics["guess"]["log loss"]) == len(SHARES)
    assert {each["network"] for each in run.history} == {"look", "guess 0"}
    other = read_run(train(recipe, seed=2, root=tmp_path))
    assert not torch.equal(said, other.model.guess.log_prob(tokens, source).detach())


def test_a_judge_learns(generator):
    labels = torch.arange(400) % 3
    images = torch.rand(400, 1, 4, 4, generator=generator) / 2
    images[labels == 1, :, :2] += 0.5
    images[labels == 2, :, 2:] += 0.5
    part = JudgePart(steps=200, batch=32, rate=0.01, log=100, average=0.9)
    look = fill(Look(replace(SMALL, filters=6, features=8)), generator)
    said = part, part.steps, part.warp, _whole_loss, generator
    kept, history = _fit(look, images, labels, *said)
    assert [each["step"] for each in history] == [100, 200]
    assert history[1]["loss"] < history[0]["loss"]
    # the average of the weights is kept, not the last of them
    assert agreement(labels, kept(images).argmax(1)) > 0.9
    assert not torch.equal(kept.head.weight, look.head.weight)
    assert not kept.training


def test_training_a_judge_leaves_the_global_generator_alone(tmp_path):
    before = torch.random.get_rng_state()
    train(read_recipe("digits-judge", "smoke"), root=tmp_path)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 0}, "judge.steps is 1 or more"),
        ({"dropout": 1.0}, "judge.dropout is at least 0 and below 1"),
        ({"noise": -0.1}, "judge.noise is 0 or more, got -0.1"),
        ({"held_out": 0.0}, "judge.held_out is a share above 0"),
        ({"held_out": 0.4, "members": 3}, "all members together"),
    ],
)
def test_a_part_that_is_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        JudgePart(**changes)


@pytest.mark.parametrize("name", ["digits-judge", "mnist-judge"])
@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu"])
def test_recipes_can_be_read(name, profile):
    recipe = read_recipe(name, profile)
    assert recipe.model.kind == "judge"
    # what CI runs needs no files
    embedded = recipe.data.name in ("digits", "mnist5k")
    assert embedded or profile != "smoke"


BARS = {"digits-judge": (0.98, 0.97), "mnist-judge": (0.992, 0.97)}


@pytest.mark.parametrize("name", BARS)
def test_recorded_judges_are_good(name):
    metrics, (accuracy, accepted) = load_run(name, "cpu").metrics, BARS[name]
    assert metrics["accuracy"] >= accuracy
    assert metrics["accepted"] >= accepted
    guess = metrics["guess"]
    assert guess["log loss"][0] == pytest.approx(math.log(10), abs=0.02)
    assert guess["log loss"] == sorted(guess["log loss"], reverse=True)
    assert max(guess["calibration error"]) < 0.05


def test_the_recorded_judge_of_digits_says_what_its_record_says():
    run = load_run("digits-judge", "cpu")
    images, labels = unit_images("digits", "test")
    found = acceptance(images, run.model.look)
    assert found == pytest.approx(run.metrics["accepted"], abs=0.01)
    source = torch.ones(360, 16).bool()
    with torch.no_grad():
        law = run.model.guess.log_prob(patchify(images, 2), source)
    found = log_loss(law, labels)
    assert found == pytest.approx(run.metrics["guess"]["log loss"][-1], abs=0.01)
