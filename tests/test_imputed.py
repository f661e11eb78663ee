"""A class by Bayes' rule, and labels that a model gives to rows without one.

The oracle of Bayes' rule is the joint law of the same model, label first; that of the
labels a model of which every answer is known.
"""

import types
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from biglearn_lite._draws import first_weights
from biglearn_lite._imputed import Imputer
from biglearn_lite._label_report import two_answers
from biglearn_lite._prepare import prepare
from biglearn_lite._recipe_file import DataPart
from biglearn_lite.multimodal import ImageLabelModel, ImageLabelSizes, bayes_log_prob
from biglearn_lite.recipe import read_recipe, train_model
from biglearn_lite.tasks import Task, modalities
from biglearn_lite.training import Batches

pytestmark = pytest.mark.usefixtures("one_thread")

B, N, C = 6, 4, 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def build(seed=0, attributes=0, **sizes):
    with first_weights(seed):
        model = ImageLabelModel(
            ImageLabelSizes(N, 2, C, attributes, width=8, depth=1, heads=2, **sizes)
        )
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=seeded(seed))
    return model.eval().requires_grad_(False)


def patches_of(seed=1):
    return torch.rand(B, N, 2, generator=seeded(seed))


def split_of(model, seed=2, share=0.5):
    """Some patches given, others asked for, others absent; labels absent."""
    role = torch.rand(B, model.length, generator=seeded(seed))
    patch = ~model.trunk.is_label
    target = patch & (role < share)
    target[:, 0] = True  # every row asks for something
    return Task(patch & (role > 0.8) & ~target, target)


# ------------------------------------------------------------------ Bayes' rule


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 99), st.integers(0, 2), st.floats(0.1, 0.8))
def test_bayes_is_the_joint_law_normalised(seed, attributes, share):
    """`p(y, x_T | x_S)` with the label first, over its sum."""
    model, patches = build(seed, attributes), patches_of(seed)
    task = split_of(model, seed, share)
    found = bayes_log_prob(model, model.tokens(patches), task)
    with_label = task.target.clone()
    with_label[:, N] = True
    joint = []
    for each in range(C):
        labels = torch.full((B, 1 + attributes), -1)
        labels[:, 0] = each
        x = model.tokens(patches, labels)
        joint.append(model.log_prob(x, Task(task.source, with_label)))
    wanted = torch.stack(joint, 1).log_softmax(1)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(found.exp().sum(1), torch.ones(B))


def test_one_target_has_one_reading():
    model = build()
    target = torch.zeros(B, N + 1, dtype=torch.bool)
    target[:, 1] = True
    source = torch.zeros_like(target)
    source[:, 2] = True
    x, task = model.tokens(patches_of()), Task(source, target)
    both = [bayes_log_prob(model, x, task, r) for r in ("autoregressive", "factorised")]
    torch.testing.assert_close(*both)
    whole = split_of(model, share=0.8)
    both = [
        bayes_log_prob(model, x, whole, r) for r in ("autoregressive", "factorised")
    ]
    assert (both[0] - both[1]).abs().max() > 1e-3


def test_bayes_reads_what_is_seen_and_nothing_else():
    model, task = build(attributes=1), split_of(build(attributes=1))
    x = model.tokens(patches_of(), torch.zeros(B, 2, dtype=torch.int64))
    found = bayes_log_prob(model, x, task)
    blank = x.masked_fill(~task.union[..., None], torch.nan)
    assert torch.equal(found, bayes_log_prob(model, blank, task))
    other = torch.where(task.union[..., None], x + 0.1, x)
    assert not torch.allclose(found, bayes_log_prob(model, other, task))
    assert not x[:, :N, :2].isnan().any()  # the caller's tokens stay as they are


def test_what_bayes_cannot_say():
    model = build()
    x, task = model.tokens(patches_of()), split_of(model)
    with pytest.raises(ValueError, match="labels of the task absent"):
        bayes_log_prob(model, x, Task.joint(B, N + 1))
    hybrid = build(matching="hybrid")
    with pytest.raises(ValueError, match="no density"):
        bayes_log_prob(hybrid, hybrid.tokens(patches_of()), task)
    with first_weights(0):
        none = ImageLabelModel(ImageLabelSizes(N, 2, 0, 1, width=8, depth=1, heads=2))
    with pytest.raises(ValueError, match="no class"):
        bayes_log_prob(none, none.tokens(patches_of()), task)


def test_two_answers_are_measured():
    """Of a model that is sure of the right class, and one whose images say nothing."""
    model, classes = build(), torch.arange(B)[:, None] % C
    x = model.tokens(patches_of(), classes)
    found = two_answers(model, x, classes)
    task = Task.marginal(~model.trunk.is_label.expand(B, -1))
    summed = bayes_log_prob(model, x, task).double()
    said = model.label_log_prob(x, task.target).double()
    both = (summed + said).div(2).log_softmax(1)
    for name, laws in {"said": said, "summed": summed, "both": both}.items():
        right = (laws.argmax(1) == classes[:, 0]).double().mean()
        assert found[name]["accuracy"] == pytest.approx(right.item())
        mean = laws.gather(1, classes).mean().item()
        assert found[name]["log likelihood"] == pytest.approx(mean, abs=1e-6)


# ------------------------------------------------------------------ giving labels


def stub(sure):
    """A model of one patch whose value says how sure it is of class 1 of two."""
    layout = types.SimpleNamespace(is_label=torch.tensor([False, False, True]))

    def said(x, source):
        p = torch.where(x[:, 0, 0].isnan(), 0.5, x[:, 0, 0] * sure)
        return torch.stack([1 - p, p], 1).log()

    return types.SimpleNamespace(trunk=layout, label_log_prob=said)


def rows_of(values, known):
    """Batches of one number a row, of which only known rows have a label, 0."""
    known = torch.tensor(known)
    observed = torch.ones(len(values), 3, dtype=torch.bool)
    observed[:, 2] = known
    labels = torch.zeros(len(values), 1, dtype=torch.int64)
    return Batches(
        torch.tensor(values),
        lambda x, generator, labels: x[:, None, None].expand(-1, 3, 2).clone(),
        observed=observed,
        labels=labels.masked_fill(~known[:, None], -1),
        renew=Imputer(~known, 0.9, 0, bayes=False),
    )


def test_labels_are_given_where_the_model_is_sure():
    batches = rows_of([0.05, 0.3, 0.95, 0.99], [False, False, False, True])
    facts = batches.renew(batches, 10, stub(1.0))
    assert batches.labels[:, 0].tolist() == [0, -1, 1, 0]  # the known one stays
    assert batches.observed[:, 2].tolist() == [True, False, True, True]
    assert facts["imputed"] == pytest.approx(2 / 3)
    batches.renew(batches, 20, stub(0.5))  # which takes back what is no longer sure
    assert batches.labels[:, 0].tolist() == [0, -1, -1, 0]
    assert batches.observed[:, :2].all()


def test_bayes_gives_labels_by_step_and_seed():
    model = build()

    def given(step, seed):
        x = model.tokens(patches_of())
        batches = Batches(
            x,
            lambda rows, generator, labels: rows,
            observed=torch.ones(B, N + 1, dtype=torch.bool),
            labels=torch.full((B, 1), -1),
        )
        said = Imputer(torch.ones(B, dtype=torch.bool), 0.0, seed)
        generator = seeded(3_000_017 * (seed + 1) + step)
        return said._said(batches, torch.arange(B), model, generator)

    assert torch.equal(given(50, 1), given(50, 1))
    assert not torch.equal(given(50, 1), given(100, 1))
    assert not torch.equal(given(50, 1), given(50, 2))


def part(**changes):
    known = {"name": "digits", "tokens": "patches", "labels": True}
    return DataPart(**(known | changes))


def test_rows_of_a_recipe_get_labels():
    batches = prepare(part(labelled=50, imputed=0.0), 3).batches
    assert batches.renew is None
    prepared = prepare(part(labelled=50, imputed=0.5, imputed_by="said"), 3)
    imputer = prepared.batches.renew
    assert imputer.unknown.sum() == 1437 - 50
    assert torch.equal(imputer.unknown, prepared.batches.labels[:, 0] < 0)
    assert (imputer.least, imputer.seed, imputer.bayes) == (0.5, 3, False)
    assert prepared.to("cpu").batches.renew is imputer


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"imputed": 0.9}, "imputed is for rows of which only some"),
        ({"labelled": 50, "imputed": 1.5}, "above 0 and at most 1"),
        ({"labelled": 50, "imputed": 0.5, "missing": "complete"}, "drops these"),
        ({"labelled": 50, "imputed": 0.5, "imputed_by": "luck"}, "'bayes' or 'said'"),
        ({"labelled": 50, "imputed": 0.5, "name": "faces"}, "data with a class"),
    ],
)
def test_labels_that_cannot_be_given(changes, said):
    with pytest.raises(ValueError, match=said):
        prepare(part(**changes), 0)


# ------------------------------------------------------------------ moved images


@pytest.mark.parametrize("tokens", ["patches", "scaled"])
def test_images_move_where_only_their_label_is_asked(tokens):
    prepared = prepare(part(tokens=tokens, shift=1, shift_in="classification"), 0)
    domain, images = prepared.domain, prepared.test[:60]
    labels = prepared.labels[:60, None]
    x = domain.transform(images, seeded(0), labels)
    law = modalities(17, 1, classification=0.5, joint=0.2, generation=0.2, within=0.1)
    task = law.sample(60, seeded(1))
    found = prepared.batches.augment(x, task, seeded(2))
    named = task.target[:, 16] & ~task.target[:, :16].any(1)
    assert 0 < named.sum() < 60
    assert torch.equal(found[~named], x[~named])
    assert torch.equal(found[:, 16], x[:, 16])  # labels stay
    grey = domain.restore(found)[named] * (17 if tokens == "patches" else 16) + 1e-4
    grey = grey.floor().to(torch.uint8)
    padded = F.pad(images[named], (1, 1, 1, 1))
    moves = [padded[..., i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    same = torch.stack([(move == grey).flatten(1).all(1) for move in moves])
    assert same.any(0).all()
    assert same.any(1).sum() == 9  # every move comes up


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"labels": False, "shift_in": "classification"}, "needs data.labels = true"),
        ({"shift_in": "some"}, "'all' or 'classification'"),
    ],
)
def test_images_that_cannot_move(changes, said):
    with pytest.raises(ValueError, match=said):
        prepare(part(shift=1, **changes), 0)


@pytest.mark.parametrize("by", ["bayes", "said"])
def test_a_run_that_goes_on_has_the_labels_of_one_that_never_stopped(tmp_path, by):
    changes = {
        "data.imputed": 0.11,
        "data.imputed_by": by,
        "model.width": 8,
        "model.depth": 1,
        "training.average": 0.0,
        "training.rate": 0.05,
        "training.steps": 6,
    }
    recipe = read_recipe("digits-few-labels", "smoke", changes)
    whole, prepared, history = train_model(recipe, 0)
    assert any(entry["imputed"] for entry in history[:-1])
    kept = Path(tmp_path)
    for _ in range(2):
        assert train_model(recipe, 0, kept, minutes=0.0) is None
    again, same, written = train_model(recipe, 0, kept)
    assert written == history
    assert torch.equal(same.batches.labels, prepared.batches.labels)
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
