"""What is measured of image-label models beside labels: novelty, and attributes.

Areas by counting, scores by closed forms, a model of faces that only remembers.
"""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biglearn_lite._labelled import label_numbers
from biglearn_lite._prepare import prepare
from biglearn_lite.evaluation import check_ready, measure
from biglearn_lite.metrics import auroc, novelty
from biglearn_lite.multimodal import ImageLabelModel, ImageLabelSizes
from biglearn_lite.recipe import build_model, read_recipe, train
from biglearn_lite.runs import read_run
from biglearn_lite.tasks import Task

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {"width": 16, "depth": 1, "heads": 2, "components": 2, "latent": 4, "noise": 2}
PIXELS = 4 * 3


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


scores = st.lists(st.integers(-3, 3), min_size=1, max_size=12)


@given(scores, scores)
def test_the_area_is_the_chance_that_a_known_one_has_the_higher_score(known, other):
    won = sum((a > b) + (a == b) / 2 for a in known for b in other)
    found = auroc(torch.tensor(known), torch.tensor(other))
    assert found == pytest.approx(won / len(known) / len(other))


class Normal(ImageLabelModel):
    """Says that images are standard normal, and that large ones are a 3 for sure."""

    def log_prob(self, x, task, **_):
        assert not task.source.any()
        assert task.target[:, : self.config.image].all()
        assert task.absent[:, self.config.image :].all()
        image = x[:, : self.config.image, : self.config.pixels]
        return -image.square().sum((1, 2)) / 2 - PIXELS * math.log(2 * math.pi) / 2

    def label_laws(self, x, source):
        assert x[:, self.config.image :].isnan().all()
        large = x[:, : self.config.image].square().sum((1, 2))
        logits = torch.zeros(len(x), 1, 5)
        logits[:, 0, 3] = large
        return logits.log_softmax(-1)


def asked_of(shrink, matching="likelihood", levels=1):
    """Known images are normal, the others `shrink` times as large."""
    model = Normal(ImageLabelSizes(4, 3, 5, 0, matching, **SMALL))
    train_, known, other = (
        model.tokens(torch.randn(800, 4, 3, generator=seeded(s)) * size)
        for s, size in ((1, 1.0), (2, 1.0), (3, shrink))
    )
    return novelty(model, train_, known, other, levels)


def test_what_is_too_simple_is_likelier_than_what_is_known():
    """The known failure: likelihood points the wrong way, and typicality does not."""
    found = asked_of(0.1)
    assert found["likelihood"] < 0.01
    assert found["typical"] > 0.9
    assert found["confidence"] > 0.99  # small images are no 3 for sure


def test_what_is_too_wild_is_found_by_both():
    found = asked_of(3.0)
    assert found["likelihood"] > 0.99
    assert found["typical"] > 0.99
    assert found["confidence"] < 0.1


def test_the_same_kind_is_told_by_a_coin():
    found = asked_of(1.0)
    for name in ("likelihood", "typical", "confidence"):
        assert found[name] == pytest.approx(0.5, abs=0.05)


def test_likelihoods_are_bits_of_pixels():
    """Of normal data, half of `log2(2 pi e)`, and the noise of 256 levels more."""
    found = asked_of(1.0, levels=256)
    exact = math.log2(2 * math.pi * math.e) / 2 + 8
    assert found["bits a pixel, train"] == pytest.approx(exact, abs=0.05)
    known = found["bits a pixel, quantiles"]["known"]
    assert len(known) == 21
    assert known == sorted(known)
    assert known[10] == pytest.approx(exact, abs=0.1)
    assert found["rows"] == [800, 800]


def test_a_hybrid_has_its_confidence_only():
    found = asked_of(0.1, "hybrid")
    assert set(found) == {"rows", "confidence", "confidence quantiles"}


def test_the_sum_over_classes_of_a_real_model_is_what_is_measured():
    """`log p(x)` from an absent label, against the model's own answer."""
    model = ImageLabelModel(ImageLabelSizes(4, 3, 5, **SMALL)).requires_grad_(False)
    x = model.tokens(torch.randn(30, 4, 3, generator=seeded()))
    found = novelty(model, x, x[:20], x[20:])
    task = Task.marginal(torch.arange(5) < 4)
    said = torch.cat([model.log_prob(row[None], task) for row in x[:20]]).double()
    bits = -said / PIXELS / math.log(2)
    spread = found["bits a pixel, quantiles"]["known"]
    assert spread[0] == pytest.approx(bits.min().item(), rel=1e-5)
    assert spread[-1] == pytest.approx(bits.max().item(), rel=1e-5)


# ------------------------------------------------------------------ in a recipe

NOVEL = {
    "data.name": "mnist5k", "data.size": (7, 7), "evaluate.measure": "novelty",
    "evaluate.novel": "mnist5k", "evaluate.rows": 30,
}  # fmt: skip
UNLABELLED = {
    "data.labels": False, "model.kind": "any-conditional", "tasks.law": "joint_only",
    "tasks.arguments": {},
}  # fmt: skip


def changed(changes):
    return read_recipe("digits-image-label", "smoke", changes)


def test_a_recipe_measures_it(tmp_path):
    run = read_run(train(changed(NOVEL), root=tmp_path / "runs"))
    found = run.metrics
    assert found["of"] == "mnist5k"
    # the same images, so the same scores, whatever the model
    assert found["likelihood"] == found["typical"] == found["confidence"] == 0.5
    bits = found["bits a pixel, quantiles"]
    assert bits["known"] == bits["other"]
    assert found["rows"] == [30, 30]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"evaluate.novel": "digits"}, r"images of \(1, 28, 28\)"),
        ({"evaluate.novel": "sums"}, "images of"),
        ({"evaluate.novel": ""}, "needs evaluate.novel"),
        (UNLABELLED, "data.labels = true"),
    ],
)
def test_what_does_not_fit_is_said_before_training(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        train(changed(NOVEL | changes), root=tmp_path / "runs")


# ------------------------------------------------------------------ faces


class Memory(ImageLabelModel):
    """Shows a remembered face with the attributes that it is asked for."""

    def label_laws(self, x, source):
        laws = torch.full((len(x), 14, 2), 0.5).log()
        laws[:, 0] = torch.tensor([0.9, 0.1]).log()  # the first is never there
        return laws

    def sample(self, x, task, generator=None):
        labels = x[:, self.config.image :, :2]
        known = self.faces[:, self.config.image :, :2]
        same = (labels[:, None] == known).all(3).all(2)  # (B, faces)
        drawn = torch.randint(len(known), (len(x),), generator=generator)
        found = torch.where(same.any(1), same.int().argmax(1), drawn)
        return self.faces[found]


FACES = {
    "data.name": "faces32", "data.tokens": "scaled", "data.size": (4, 4),
    "tasks.arguments": {"labels": 14, "joint": 1.0}, "evaluate.rows": 40,
    "evaluate.samples": 120,
}  # fmt: skip


def test_the_attributes_of_generated_faces_are_read():
    recipe = changed(FACES)
    prepared = prepare(recipe.data, 0)
    model = build_model(recipe, prepared, 0)
    model.__class__ = Memory
    layout, noise = prepared.domain.layout, seeded()
    numbers = label_numbers(prepared.labels[:40])
    model.faces = prepared.domain.transform(prepared.test[:40], noise, numbers)
    few = {"test": 40, "labels": 40, "train": 200}
    prepared = replace(
        prepared, **{k: getattr(prepared, k)[:n] for k, n in few.items()}
    )
    check_ready(prepared, recipe.evaluate)
    found = measure(model, prepared, recipe.evaluate)
    made, both = found["generation"], found["joint"]
    assert layout.labels == 14
    assert made["class accuracy"] == made["class accuracy, real"] > 0.99
    assert made["all labels"] == made["all labels, real"] > 0.95
    assert len(made["class accuracy of each"]) == 14
    assert both["class accuracy"] > 0.99
    shares = prepared.labels.double().mean(0)
    torch.testing.assert_close(
        torch.tensor(both["label shares"]).double(), shares, rtol=0, atol=0.2
    )
    seen = found["seen"]["top"]
    assert seen["accuracy of the judge"][-1] > 0.97
    missing = 1 - numbers[:, 0].double().mean()
    rest = 1 - numbers[:, 1:].double().mean()  # a tie is a no
    assert seen["accuracy"][0] == pytest.approx((missing + 13 * rest) / 14)
