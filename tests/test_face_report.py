"""Drawn attributes against an exact law: closed forms, a sampler that knows, and one
that does not."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from biglearn_lite._face_report import Question, sources
from biglearn_lite.data import patchify, unpatchify
from biglearn_lite.faces import (
    ATTRIBUTES,
    REGIONS,
    AttributeLaw,
    attribute_law,
    decided,
    region_mask,
    revealed,
    truth,
)
from biglearn_lite.metrics import (
    Judges,
    JudgeSizes,
    face_report,
    pair_distances,
    pooled_kl,
    sampled_calibration,
)

LAW = attribute_law()
K = len(ATTRIBUTES)
# P(a) = 1/2; P(b | a) = 0.9, P(b | not a) = 0.2: b is 0.55 in all
TABLE = torch.tensor([0.4, 0.05, 0.1, 0.45], dtype=torch.float64)
SMALL = AttributeLaw(("a", "b"), TABLE)


def fresh(seed=0):
    return torch.Generator().manual_seed(seed)


# ------------------------------------------------------------------ calibration


def test_calibration_by_hand():
    p = torch.tensor([0.05, 0.02, 0.5, 0.55, 1.0])
    f = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.0])
    found = sampled_calibration(p, f, bins=10)
    assert found.weight.tolist() == pytest.approx([0.4, 0, 0, 0, 0, 0.4, 0, 0, 0, 0.2])
    assert found.probability[[0, 5, 9]].tolist() == pytest.approx([0.035, 0.525, 1])
    assert found.frequency[[0, 5, 9]].tolist() == pytest.approx([0.125, 0.75, 1])
    assert found.probability[[1, 2, 3, 4, 6, 7, 8]].isnan().all()
    assert found.error == pytest.approx(0.4 * 0.09 + 0.4 * 0.225)
    one = sampled_calibration(p, f, bins=1)
    assert one.error == pytest.approx(abs(f.double().mean() - p.double().mean()))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 12))
def test_calibration_bin_by_bin(seed, bins):
    p, f = torch.rand(2, 40, generator=fresh(seed), dtype=torch.float64)
    slow = 0.0
    for b in range(bins):
        inside = (p * bins).floor() == b
        if inside.any():
            gap = f[inside].mean() - p[inside].mean()
            slow += inside.double().mean().item() * abs(gap.item())
    found = sampled_calibration(p, f, bins)
    assert found.error == pytest.approx(slow, abs=1e-12)
    assert sampled_calibration(p, p, bins).error == pytest.approx(0, abs=1e-15)
    # finer bins see more: the sum of absolute values is at least that of the sum
    assert found.error >= sampled_calibration(p, f, 1).error - 1e-12


@pytest.mark.parametrize(
    ("p", "f"),
    [
        (torch.zeros(3), torch.zeros(4)),
        (torch.zeros(0), torch.zeros(0)),
        (torch.zeros(2, 2), torch.zeros(2, 2)),
        (torch.tensor([1.5]), torch.tensor([0.5])),
        (torch.tensor([0.5]), torch.tensor([math.nan])),
    ],
)
def test_what_has_no_calibration(p, f):
    with pytest.raises(ValueError, match="Calibration compares probabilities"):
        sampled_calibration(p, f)


# ------------------------------------------------------------------ a small law


def asked(n):
    """Rows of the small law that show `a`: attributes, exact law of `b`, groups."""
    rows = SMALL.sample(n, fresh())
    p = torch.tensor([0.2, 0.9], dtype=torch.float64)[rows[:, :1].long()]
    return rows, torch.cat([torch.full_like(p, math.nan), p], 1), rows[:, 0].long()


def test_a_perfect_sampler_is_calibrated_up_to_chance():
    rows, p, groups = asked(2000)
    known = torch.tensor([True, False])
    drawn = torch.stack([SMALL.complete(rows, known, fresh(s)) for s in range(1, 5)])
    found = sampled_calibration(p[:, 1], drawn[..., 1].double().mean(0))
    assert 0 < found.error < 0.012
    # of two groups with a free frequency each, twice the KL is chi square of two
    kl = pooled_kl(drawn, p, groups)
    assert 0 < kl < 8 / (2 * drawn[..., 1].numel())


def test_a_sampler_that_draws_from_the_marginals_has_a_closed_form():
    """It draws `b` with 0.55 whatever `a` is: off by 0.35 on both sides."""
    rows, p, groups = asked(2000)
    share = rows[:, 0].double().mean().item()
    frequency = torch.full((2000,), 0.55, dtype=torch.float64)
    found = sampled_calibration(p[:, 1], frequency)
    assert found.error == pytest.approx(0.35)
    assert found.weight[[2, 9]].tolist() == pytest.approx([1 - share, share])
    # blurred in one bin, what is lost is not seen
    assert sampled_calibration(p[:, 1], frequency, 1).error == pytest.approx(
        abs(0.9 * share + 0.2 * (1 - share) - 0.55)
    )
    drawn = torch.rand(20, 2000, 2, generator=fresh(7)) < 0.55
    kl = sum(
        weight * (0.55 * math.log(0.55 / q) + 0.45 * math.log(0.45 / (1 - q)))
        for weight, q in ((share, 0.9), (1 - share, 0.2))
    )
    assert pooled_kl(drawn, p, groups) == pytest.approx(kl, rel=0.03)
    # of the pair, each of four cells is off by 0.175
    independent = torch.rand(400_000, 2, generator=fresh(8))
    independent = independent < torch.tensor([0.5, 0.55])
    far = pair_distances(independent, SMALL)
    assert far[0, 1].item() == pytest.approx(0.35, abs=0.01)
    assert far.diagonal().max() < 0.01


def test_pairs_of_rows_in_the_right_proportion_are_exact():
    counts = (SMALL.probabilities * 20).round().long()
    rows = SMALL.assignments().repeat_interleave(counts, 0)
    assert pair_distances(rows, SMALL).max() < 1e-12
    flipped = rows ^ torch.tensor([True, False])
    far = pair_distances(flipped, SMALL)
    assert far[0, 1].item() == pytest.approx(0.7)  # 0.05 for 0.4, and 0.45 for 0.1
    assert far[0, 0].item() == pytest.approx(0, abs=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9999))
def test_pooled_kl_group_by_group(seed):
    drawn = torch.rand(3, 20, 4, generator=fresh(seed)) < 0.5
    groups = torch.randint(4, (20,), generator=fresh(seed)) * 7  # any numbers
    table = torch.rand(22, 4, generator=fresh(seed + 1), dtype=torch.float64)
    table[0, 0], table[7, 1], table[14, 2] = 0, 1, math.nan
    p = table[groups]
    total, weight = 0.0, 0
    for g in groups.unique().tolist():
        for a in range(4):
            q = table[g, a].item()
            if not 0 < q < 1:
                continue
            f = drawn[:, groups == g, a].double().mean().item()
            terms = ((f, q), (1 - f, 1 - q))
            kl = sum(x * math.log(x / y) for x, y in terms if x)
            total += kl * int((groups == g).sum())
            weight += int((groups == g).sum())
    found = pooled_kl(drawn, p, groups)
    assert found == pytest.approx(total / weight, abs=1e-12)


def test_what_has_no_pooled_kl():
    drawn, p = torch.zeros(2, 3, 1).bool(), torch.tensor([[0.5], [0.5], [0.25]])
    groups = torch.tensor([0, 0, 1])
    assert pooled_kl(drawn, p, groups) == pytest.approx(
        (2 * math.log(2) + math.log(4 / 3)) / 3
    )
    for wrong in (torch.zeros(3).long(), torch.tensor([0, 1, 0])):
        with pytest.raises(ValueError, match="one law, and these have several"):
            pooled_kl(drawn, p, wrong)
    p[0] = math.nan  # asked of one row of a group only
    with pytest.raises(ValueError, match="one law, and these have several"):
        pooled_kl(drawn, p, groups)
    with pytest.raises(ValueError, match=r"takes draws \(K, B, A\)"):
        pooled_kl(drawn[0], p, groups)
    certain = torch.tensor([[0.0], [0.0], [1.0]])
    assert math.isnan(pooled_kl(drawn, certain, groups))


# ------------------------------------------------------------------ questions


def test_every_source_is_decided_for_every_face():
    rows = LAW.assignments()[LAW.probabilities > 0]
    found = sources(64)
    assert set(REGIONS) < set(found)
    for name, mask in found.items():
        assert decided(rows, mask).all(), name
    left = torch.arange(64) % 8 < 4
    assert not decided(rows, left).any()
    assert torch.equal(sources(256)["hair"], region_mask("hair", 16))
    assert torch.equal(found["upper half"] ^ found["lower half"], torch.ones(64).bool())
    with pytest.raises(ValueError, match="multiple of 8 patches"):
        sources(16)


def test_a_question_is_the_truth_about_what_is_hidden():
    rows = LAW.sample(300, fresh())
    mask = region_mask(["hair", "mouth"])
    question = Question.of(rows, mask)
    assert torch.equal(question.probability, truth(rows, mask))
    assert torch.equal(question.hidden, ~revealed(rows, mask))
    for one, other in itertools.combinations(range(40), 2):
        shown = ~question.hidden
        same = torch.equal(shown[one], shown[other]) and torch.equal(
            rows[one] & shown[one], rows[other] & shown[other]
        )
        assert same == bool(question.groups[one] == question.groups[other])
    law = question.law().exp()
    assert torch.allclose(law[:, 1], question.probability[question.hidden])
    assert torch.allclose(law.sum(1), torch.ones(len(law)).double())


# ------------------------------------------------------------------ the report

SIZES = JudgeSizes(3, 8, 8, 1, classes=2, filters=2, features=3, attributes=ATTRIBUTES)
BITS = 2.0 ** torch.arange(K)


class Written:
    """Faces of 8 x 8 pixels, all of them the attributes as one number, in the red.

    What is drawn is marked in the green, so that a judge reads that; the blue says
    which of the test faces it is.
    """

    length = 64

    def __init__(self, attributes, draw):
        self.attributes, self.draw = attributes, draw

    @staticmethod
    def image(attributes, which, drawn=0.0):
        code = (attributes * BITS).sum(1) / 2**K
        values = torch.stack([code, torch.full_like(code, drawn), which], 1)
        return values[:, None].expand(-1, 64, -1)  # (B, 64, 3)

    def sample(self, x, task, generator=None):
        assert not x[~task.source].isfinite().any()
        rows = torch.zeros(len(x), dtype=torch.long)
        asked_ = task.source.any(1)
        first = x[asked_, task.source[asked_].int().argmax(1), 2]
        rows[asked_] = (first * 1000).round().long()
        mine = self.attributes[rows]
        known = revealed(mine, task.source) & asked_[:, None]
        made = self.image(self.draw(mine, known, generator), x.new_ones(len(x)), 1.0)
        return torch.where(task.source[..., None], x, made)


def judges():
    """A judge that reads what is written, and guesses with the exact law."""
    found = Judges(SIZES)

    def look(images):
        tokens = patchify(images, 1)
        place = tokens[..., 1].argmax(1)  # what was drawn, if anything
        code = tokens[torch.arange(len(tokens)), place, 0] * 2**K
        return (code[:, None].round().long() >> torch.arange(K) & 1) * 40.0 - 20.0

    class Knows(nn.Module):
        def log_prob(self, tokens, source):
            code = (tokens[:, 0, 0] * 2**K).round().long()
            rows = (code[:, None] >> torch.arange(K) & 1).bool()
            p = truth(rows, source)
            return torch.stack([1 - p, p], -1).log()

    found.look.forward, found.guess = look, Knows()
    return found


def by_law(rows, known, generator):
    return LAW.complete(rows, known, generator)


def by_marginals(rows, known, generator):
    """Each attribute by itself, whatever is known."""
    drawn = torch.rand(rows.shape, generator=generator) < LAW.marginals()
    return torch.where(known, rows, drawn)


@pytest.fixture(scope="module")
def written():
    attributes = LAW.sample(600, fresh(11))
    which = torch.arange(600) / 1000
    return attributes, unpatchify(Written.image(attributes, which), 1, (3, 8, 8))


def report(written, draw, **changes):
    attributes, images = written
    ask = {"rows": 600, "samples": 3000, "draws": 5, "completions": 3} | changes
    model = Written(attributes, draw)
    return face_report(model, judges(), images, attributes, fresh(1), **ask)


def test_the_report_of_a_sampler_that_knows_the_law(written):
    found = report(written, by_law)
    regions = found["regions"]
    assert set(regions) == {*REGIONS, "upper half", "lower half", "all regions"}
    for name, facts in regions.items():
        mine, perfect = facts["completions"], facts["perfect"]
        assert mine["impossible"] == 0 or math.isnan(mine["impossible"]), name
        assert mine["calibration error"] < 2 * perfect["calibration error"] + 0.01, name
        assert mine["kl"] == pytest.approx(perfect["kl"], rel=0.8), name
        assert abs(facts["points"]) < 2, name
        assert facts["guess error"] < 1e-9
        # the judge reads without an error, so only chance is left
        assert facts["real, read"] == pytest.approx(facts["real"], nan_ok=True)
        assert sum(facts["reliability"]["weight"]) == pytest.approx(1)
    total = regions["all regions"]
    assert total["completions"]["calibration error"] < 0.01
    assert abs(total["points"]) < 0.5
    assert abs(total["uncertain"]["points"]) < 0.6
    assert total["hidden"] == pytest.approx(
        np.mean([facts["hidden"] for name, facts in regions.items()
                 if name != "all regions"])
    )  # fmt: skip
    joint = found["joint"]
    for name in ("pair distance", "marginal distance"):
        assert joint["samples"][name] == pytest.approx(joint["perfect"][name], rel=0.5)
        largest = f"largest {name}"
        assert joint["samples"][largest] < 2 * joint["perfect"][largest]
        assert joint["samples"][name] < joint["samples"][largest]
    assert joint["samples"]["impossible"] == joint["perfect"]["impossible"] == 0
    assert joint["real, read"] == joint["real"]
    exact = list(joint["attribute shares, exact"].values())
    assert exact == pytest.approx(LAW.marginals().tolist())
    assert list(joint["attribute shares"].values()) == pytest.approx(exact, abs=0.05)


def test_the_report_of_a_sampler_that_knows_the_marginals_only(written):
    """Its errors are those of the law's table, region by region."""
    found = report(written, by_marginals)
    attributes, _ = written
    for name, facts in found["regions"].items():
        if name == "all regions":
            continue
        question = Question.of(attributes, sources(64)[name])
        hidden, p = question.hidden, question.probability
        marginal = LAW.marginals().expand_as(p)
        wanted = sampled_calibration(p[hidden], marginal[hidden]).error
        mine = facts["completions"]
        assert mine["calibration error"] == pytest.approx(wanted, abs=0.02), name
        q, m = p.clamp(1e-12, 1 - 1e-12), marginal
        kl = m * (m / q).log() + (1 - m) * ((1 - m) / (1 - q)).log()
        open_ = hidden & (p > 0) & (p < 1)
        wanted = kl[open_].mean().item() + facts["perfect"]["kl"]
        assert mine["kl"] == pytest.approx(wanted, rel=0.25, abs=0.01), name
        certain = hidden & ((p == 0) | (p == 1))
        if certain.any():
            wanted = (m - p).abs()[certain].mean().item()
            assert mine["impossible"] == pytest.approx(wanted, abs=0.05), name
    edges = found["regions"]["edges"]  # which show nothing
    assert edges["completions"]["calibration error"] < 0.02
    assert found["regions"]["all regions"]["points"] < -3
    joint = found["joint"]
    m = LAW.marginals()
    alone = torch.stack([1 - m, m], 1)
    wanted = torch.einsum("iu,jv->ijuv", alone, alone)
    far = (wanted - LAW.pairs()).abs().sum((2, 3)) / 2
    far = far[*torch.triu_indices(K, K, 1)]
    assert joint["samples"]["pair distance"] == pytest.approx(
        far.mean().item(), abs=0.01
    )
    largest = joint["samples"]["largest pair distance"]
    assert largest == pytest.approx(far.max().item(), abs=0.03)
    assert joint["samples"]["largest marginal distance"] < 0.04
    assert set(joint["samples"]["worst pair"]) <= set(ATTRIBUTES)
    # two colours of hair, a fringe under a hat, a woman's moustache
    every = LAW.assignments().double()
    product = (every * m + (1 - every) * (1 - m)).prod(1)
    never = product[LAW.probabilities == 0].sum().item()
    assert joint["samples"]["impossible"] == pytest.approx(never, abs=0.03)
    assert never > 0.15


def test_errors_of_the_judge_are_told_apart(written):
    """A judge that is wrong about one attribute in ten has that error on real faces."""
    attributes, images = written
    wrong, noise = judges(), fresh(9)
    right = wrong.look.forward

    def look(images):
        said = right(images)
        return torch.where(torch.rand(said.shape, generator=noise) < 0.1, -said, said)

    wrong.look.forward = look
    found = face_report(
        Written(attributes, by_law), wrong, images, attributes, fresh(1),
        rows=600, samples=600, draws=2, completions=2,
    )  # fmt: skip
    total = found["regions"]["all regions"]
    assert total["real, read"]["impossible"] == pytest.approx(0.1, abs=0.02)
    assert total["real"]["impossible"] == 0
    read, mine = total["real, read"], total["completions"]
    assert mine["impossible"] == pytest.approx(read["impossible"], abs=0.03)
    assert read["kl"] > 2 * total["real"]["kl"]
    assert found["joint"]["real, read"]["impossible"] > 0.1


def test_what_cannot_be_held_against_the_law(written):
    attributes, images = written
    model = Written(attributes, by_law)
    some = Judges(JudgeSizes(3, 8, 8, 1, classes=2, filters=2, attributes=("Male",)))
    with pytest.raises(ValueError, match="these judges read Male; use judges of all"):
        face_report(model, some, images, attributes[:, :1])
    classes = Judges(JudgeSizes(3, 8, 8, 1, filters=2))
    with pytest.raises(ValueError, match="read one class"):
        face_report(model, classes, images, attributes)
    with pytest.raises(ValueError, match=r"read labels \(N, 14\)"):
        face_report(model, judges(), images, attributes[:, :3])
    coarse = SimpleNamespace(length=16)
    sizes = JudgeSizes(3, 8, 8, 2, classes=2, filters=2, attributes=ATTRIBUTES)
    with pytest.raises(ValueError, match="multiple of 8 patches, not 4"):
        face_report(coarse, Judges(sizes), images, attributes)
