"""What is measured: closed forms, and hand-made models."""

import math
from collections import Counter

import pytest
import torch
from torch import nn

from biglearn_lite import evaluation, questions
from biglearn_lite._prepare import Prepared, prepare
from biglearn_lite._recipe_file import DataPart, EvaluatePart
from biglearn_lite.evaluation import (
    any_tasks,
    bits_in_order,
    check_measure,
    half_tasks,
    measure,
    nats_a_target,
)
from biglearn_lite.likelihood import (
    AnyConditionalSizes,
    AnyConditionalTransformer,
    CausalTransformer,
    random_order,
)
from biglearn_lite.training import Batches

SHORT = {"forwards": ("SSSSSSTTT",), "any": ("T........",)}


def constant(kind, length, symbols, scores=None):
    """A model that says the same law of every token, whatever it sees."""
    model = kind(AnyConditionalSizes(length, symbols, width=8, depth=1, heads=1))
    with torch.no_grad():
        for value in model.head.parameters():
            value.zero_()
        if scores is not None:
            layers = [m for m in model.head.modules() if isinstance(m, nn.Linear)]
            layers[-1].bias.copy_(scores)
    return model.eval()


@pytest.fixture(scope="module")
def digits():
    return prepare(DataPart("digits", "pixels"), 0)


@pytest.mark.parametrize("kind", [AnyConditionalTransformer, CausalTransformer])
def test_a_uniform_model_takes_the_log_of_the_vocabulary(kind, digits):
    model = constant(kind, 64, 17)
    found = measure(model, digits, EvaluatePart("bits", rows=3))
    for name in ("left to right", "random order"):
        if name in found:
            assert found[name] == pytest.approx(math.log2(17), rel=1e-6)
    for name in set(found) - {"left to right", "random order"}:
        assert found[name] == pytest.approx(math.log(17), rel=1e-6)
    assert ("any" in found) == (kind is AnyConditionalTransformer)


def test_packed_bits_count_pixels():
    prepared = prepare(DataPart("digits", "bits", size=(4, 2)), 0)
    model = constant(AnyConditionalTransformer, 8, 256)
    x = evaluation.test_tokens(prepared, 5)
    assert bits_in_order(model, x, prepared) == pytest.approx(1.0, rel=1e-6)


def test_an_order_does_not_matter_to_a_model_without_context(digits, generator):
    x = evaluation.test_tokens(digits, 4)
    scores = torch.linspace(-1, 1, 17)
    model = constant(AnyConditionalTransformer, 64, 17, scores)
    wanted = -scores.log_softmax(0)[x].mean().item() / math.log(2)
    order = random_order(4, 64, generator)
    for each in (None, order):
        found = bits_in_order(model, x, digits, each)
        assert found == pytest.approx(wanted, rel=1e-5)


def test_test_rows_are_spread_and_fixed(digits):
    assert torch.equal(
        evaluation.test_tokens(digits, 9), evaluation.test_tokens(digits, 9)
    )
    rows = evaluation.test_tokens(digits, 3)
    wanted = digits.test[[0, round((len(digits.test) - 1) / 2), -1]].flatten(1).long()
    assert torch.equal(rows[[0, 2]], wanted[[0, 2]])
    assert len(evaluation.test_tokens(digits, 10**6)) == len(digits.test)


def test_nats_a_target(generator):
    model = AnyConditionalTransformer(
        AnyConditionalSizes(5, 3, width=8, depth=1, heads=2)
    ).eval()
    x = torch.randint(3, (6, 5), generator=generator)
    task = any_tasks(5, 6)
    with torch.no_grad():
        readings = "autoregressive", "factorised"
        found = {r: nats_a_target(model, x, task, r) for r in readings}
        slow, fast, targets = 0.0, 0.0, 0
        for row in range(6):
            known = task.source[row].clone()
            for place in task.target[row].nonzero()[:, 0].tolist():
                ask = torch.zeros(5, dtype=torch.bool)
                ask[place] = True
                one = x[row][None], known[None], ask[None]
                slow -= model.token_log_prob(*one).sum().item()
                one = x[row][None], task.source[row][None], ask[None]
                fast -= model.token_log_prob(*one).sum().item()
                known[place] = True
                targets += 1
    assert found["autoregressive"] == pytest.approx(slow / targets, rel=1e-5)
    assert found["factorised"] == pytest.approx(fast / targets, rel=1e-5)


@pytest.mark.parametrize("length", [2, 7, 64])
def test_half_tasks(length):
    task = half_tasks(length, 4000)
    most = length // 2
    sizes = task.source.sum(1), task.target.sum(1)
    assert (sizes[0] + sizes[1]).max() == most
    assert sizes[1].min() == 1
    assert not (task.source & task.target).any()
    counts = Counter(sizes[1].tolist())  # uniform on 1 .. L / 2
    assert set(counts) == set(range(1, most + 1))
    assert max(counts.values()) < 4000 / most + 6 * (4000 / most) ** 0.5
    places = task.union.double().mean(0)
    assert places.max() - places.min() < 0.08
    if most > 1:  # all shares of what is left come up as source
        share = sizes[0] / (most - sizes[1]).clamp(min=1)
        assert share.min() == 0
        assert share.max() == 1
    assert torch.equal(task.source, half_tasks(length, 4000).source)


class Exact(nn.Module):
    """Knows the law; asked for one token it gives the exact conditional."""

    def __init__(self, law):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.law = law

    def token_log_prob(self, x, source, target):
        said = torch.zeros(x.shape)
        for row in range(len(x)):
            given = (self.law.tokens[:, source[row]] == x[row, source[row]]).all(1)
            known = self.law.probabilities[given].sum()
            for place in target[row].nonzero()[:, 0]:
                both = given & (self.law.tokens[:, place] == x[row, place])
                mass = self.law.probabilities[both].sum()
                said[row, place] = (mass / known).log()
        return said


@pytest.fixture(scope="module")
def small():
    """The first hundred sums, as data with a law."""
    whole = prepare(DataPart("sums"), 0)
    tokens, share = whole.law.tokens[:100], whole.law.probabilities[:100]
    law = whole.law._replace(tokens=tokens, probabilities=share / share.sum())
    return Prepared(whole.domain, Batches(law.tokens), law.tokens, law, None)


def test_answers_of_a_model_that_knows(small, monkeypatch):
    monkeypatch.setattr(questions, "QUESTIONS", SHORT)
    found = measure(Exact(small.law), small, EvaluatePart("questions", rows=50))
    assert set(found) == {"entropy", "autoregressive", "factorised"}
    entropy = -(small.law.probabilities * small.law.probabilities.log()).sum()
    assert found["entropy"] == pytest.approx(entropy.item())
    assert found["autoregressive"] == pytest.approx({"forwards": 0, "any": 0}, abs=1e-5)
    # forwards has one answer, so its tokens know all of each other already
    assert found["factorised"] == pytest.approx({"forwards": 0, "any": 0}, abs=1e-5)


def test_answers_of_a_causal_model(small):
    model = constant(CausalTransformer, 9, 12)
    found = measure(model, small, EvaluatePart("questions"))
    entropy = -(small.law.probabilities * small.law.probabilities.log()).sum().item()
    wanted = {"entropy": entropy, "free sampling": 9 * math.log(12) - entropy}
    assert found == pytest.approx(wanted, rel=1e-5)


def test_what_cannot_be_measured(digits):
    model = constant(AnyConditionalTransformer, 64, 17)
    with pytest.raises(ValueError, match="a law that is known"):
        measure(model, digits, EvaluatePart("questions"))
    for part in (EvaluatePart("beauty"), EvaluatePart("bits", rows=0)):
        with pytest.raises(ValueError, match="evaluate"):
            check_measure(part)
    assert measure(model, digits, EvaluatePart("none")) == {}
