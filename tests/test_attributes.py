"""Judges, metrics and reports of images with attributes: twins of those of classes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from biglearn_lite import evaluation, faces, runs
from biglearn_lite._images import mirror_half
from biglearn_lite._judge_training import (
    JudgePart,
    _fit,
    _whole_loss,
    bend,
    fit_temperature,
    reading_loss,
)
from biglearn_lite._judges import SHARES, log_law, start_large
from biglearn_lite._prepare import prepare
from biglearn_lite._readings import agreement_facts, columns
from biglearn_lite._report import labelled_images
from biglearn_lite.data import load, patchify, unpatchify
from biglearn_lite.faces import ATTRIBUTES
from biglearn_lite.metrics import (
    Guess,
    Judges,
    JudgeSizes,
    Look,
    acceptance,
    agreement,
    attribute_shares,
    bayes_accuracy,
    calibration_error,
    class_kl,
    image_report,
    log_loss,
    perfect_agreement,
    unit_images,
)
from biglearn_lite.recipe import read_recipe, train, train_model
from biglearn_lite.runs import load_run, read_run, save_run

NAMES = ("up", "left", "loud")
SMALL = JudgeSizes(
    height=4, width=4, filters=2, features=3, classes=2, attributes=NAMES
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def laws(seed, rows=12, attributes=3):
    """Log probabilities of no and yes, and what was drawn from them."""
    odds = 3 * torch.randn(rows, attributes, generator=seeded(seed)).double()
    labels = torch.rand(rows, attributes, generator=seeded(seed + 1)) < odds.sigmoid()
    return log_law(odds, True), labels


# ------------------------------------------------------------------ measures


def test_scores_of_attributes_are_log_odds():
    odds = torch.randn(5, 3, generator=seeded()).double() * 20
    wanted = torch.stack([F.logsigmoid(-odds), F.logsigmoid(odds)], -1)
    torch.testing.assert_close(log_law(odds, True), wanted)
    torch.testing.assert_close(log_law(odds, False), odds.log_softmax(1))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 9999), st.integers(1, 12), st.integers(1, 4))
def test_measures_of_attributes_are_means_over_them(seed, rows, attributes):
    """Of each attribute alone they are those of a class of two."""
    law, labels = laws(seed, rows, attributes)
    shown = torch.rand(4, rows, attributes, generator=seeded(seed + 2)) < 0.5
    each = [(law[:, a], labels[:, a].long(), shown[..., a]) for a in range(attributes)]

    def mean(measure):
        return pytest.approx(np.mean([measure(*one) for one in each]), abs=1e-12)

    assert perfect_agreement(law) == mean(lambda p, y, s: perfect_agreement(p))
    assert bayes_accuracy(law) == mean(lambda p, y, s: bayes_accuracy(p))
    assert log_loss(law, labels) == mean(lambda p, y, s: log_loss(p, y))
    assert agreement(labels, shown) == mean(lambda p, y, s: agreement(y, s))
    assert agreement(labels, shown[0]) == mean(lambda p, y, s: agreement(y, s[0]))
    counts = F.one_hot(shown.long(), 2).sum(0)
    found = class_kl(counts, law, seeded(), draws=5)
    alone = [
        class_kl(counts[:, a], law[:, a], seeded(), draws=1).value
        for a in range(attributes)
    ]
    assert found.value == pytest.approx(np.mean(alone), abs=1e-12)
    # by hand: E sum_v p(v)^2
    yes = law[..., 1].exp()
    assert perfect_agreement(law) == pytest.approx(
        (yes**2 + (1 - yes) ** 2).mean().item()
    )
    # calibration is that of all readings together
    flat = law.flatten(0, 1), labels.flatten()
    assert calibration_error(law, labels) == calibration_error(*flat)


def test_a_perfect_sampler_of_attributes_agrees_as_predicted():
    law, _ = laws(3, 40)
    yes = law[..., 1].exp()
    label, drawn = (torch.rand(3000, 40, 3, generator=seeded(s)) < yes for s in (5, 6))
    found = agreement(label.flatten(0, 1), drawn.flatten(0, 1))
    assert found == pytest.approx(perfect_agreement(law), abs=0.005)
    counts = F.one_hot(drawn[:7].long(), 2).sum(0)
    kl = class_kl(counts, law, seeded(1))
    assert kl.value == pytest.approx(kl.perfect, rel=0.3)
    labels = label.flatten(0, 1)
    many = law.repeat(3000, 1, 1)
    assert calibration_error(many, labels) < 0.01
    assert calibration_error((3 * many).log_softmax(-1), labels) > 0.04


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, y: log_loss(p, y[:, :2]), "a label for each row"),
        (lambda p, y: log_loss(p, y[:, 0]), "a label for each row"),
        (lambda p, y: perfect_agreement(p[:0]), "log_p is"),
        (lambda p, y: perfect_agreement(p[None]), "log_p is"),
        (lambda p, y: perfect_agreement(p[..., 1]), "use log_softmax"),
        (lambda p, y: agreement(y, y[:3]), "agreement compares"),
        (lambda p, y: agreement(y, y.T), "agreement compares"),
        (lambda p, y: class_kl(p.exp()[:, :2], p, seeded()), "counts are"),
    ],
)
def test_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call(*laws(0))


def test_the_loss_is_the_log_loss():
    odds = torch.randn(9, 3, generator=seeded())
    labels = torch.rand(9, 3, generator=seeded(1)) < 0.5
    found = reading_loss(odds, labels).item()
    assert found == pytest.approx(log_loss(log_law(odds, True), labels), rel=1e-6)
    classes = torch.tensor([0, 2, 1] * 3)
    found = reading_loss(odds, classes).item()
    assert found == pytest.approx(log_loss(odds.log_softmax(1), classes), rel=1e-6)


def corners(images):
    """Log odds that the first and that the last pixel is bright: sure at the ends."""
    values = images.flatten(1)[:, [0, -1]].clamp(1e-6, 1 - 1e-6)
    return values.logit()


def test_shares_and_acceptance_by_hand():
    ends = torch.tensor([[0.0, 1.0], [0.95, 0.02], [0.6, 1.0], [0.5, 0.5]])
    images = torch.zeros(4, 1, 1, 4)
    images[:, 0, 0, 0], images[:, 0, 0, 3] = ends.T
    assert attribute_shares(images, corners).tolist() == [0.5, 0.5]
    assert acceptance(images, corners, attributes=True) == 5 / 8
    assert acceptance(images, corners, attributes=True, every=True) == 2 / 4
    assert acceptance(images, corners, 0.97, attributes=True) == 4 / 8
    assert acceptance(images, corners, 0.55, attributes=True) == 6 / 8


# ------------------------------------------------------------------ judges


def fill(module, seed=0):
    generator = seeded(seed)
    for weights in module.parameters():
        nn.init.normal_(weights, std=0.5, generator=generator)
    return module.eval()


def test_a_guess_of_attributes_reads_nothing_but_its_source(generator):
    guess = fill(Guess(replace(SMALL, members=2)))
    tokens = torch.rand(6, 4, 4, generator=generator)
    source = torch.rand(6, 4, generator=generator) < 0.5
    hidden = torch.where(source[..., None], tokens, torch.nan)
    with torch.no_grad():
        said = guess.log_prob(hidden, source)
        assert torch.equal(said, guess.log_prob(tokens, source))
        assert said.shape == (6, 3, 2)
        torch.testing.assert_close(said.exp().sum(-1), torch.ones(6, 3))
        alone = [guess.log_prob(tokens, source, [place]) for place in (0, 1)]
    # the mean of log odds is the log odds of the mean of logs
    odds = [(each[..., 1] - each[..., 0]) for each in (said, *alone)]
    torch.testing.assert_close(odds[0], (odds[1] + odds[2]) / 2)
    with torch.no_grad():  # log odds are divided by the temperature
        guess.log_temperature.fill_(math.log(4.0))
        cold = guess.log_prob(tokens, source)
    torch.testing.assert_close(cold[..., 1] - cold[..., 0], odds[0] / 4)


@pytest.mark.parametrize("seed", [None, 6, 37, 53, 122])
def test_the_temperature_of_attributes_is_found(generator, seed):
    """Also from where Newton's steps run away: where nothing is shown, none is best."""
    guess, line = Guess(SMALL), nn.Linear(32, 3)
    guess.members[0] = nn.Sequential(nn.Flatten(), line)
    nn.init.normal_(line.weight, std=3.0, generator=generator)
    bias = torch.tensor([-1.0, 0.0, 2.0])
    if seed is not None:
        bias = (torch.rand(3, generator=seeded(seed)) * 2 - 1) * 0.18
    line.bias = nn.Parameter(bias)
    images = torch.rand(1500, 1, 4, 4, generator=generator)
    everything = torch.ones(1500, 4).bool()
    with torch.no_grad():
        yes = (guess.scores(patchify(images, 2), everything) / 3).softmax(-1)[..., 1]
    labels = torch.rand(yes.shape, generator=generator) < yes
    fit_temperature(guess, images, labels, torch.ones(1, 1500).bool(), 1, generator)
    assert guess.log_temperature[-1].exp().item() == pytest.approx(3, rel=0.2)
    assert guess.log_temperature.isfinite().all()


def test_judges_of_attributes_are_recorded_with_their_names(tmp_path, generator):
    judges = fill(Judges(SMALL)).half().float()
    folder = save_run(tmp_path, "x", "cpu", judges, seconds=0, seed=0)
    again = read_run(folder).model
    assert again.config == SMALL
    assert again.config.attributes == NAMES
    images = torch.rand(3, 1, 4, 4, generator=generator)
    with torch.no_grad():
        assert torch.equal(judges.look(images), again.look(images))
        assert judges.look(images).shape == (3, 3)
    with pytest.raises(ValueError, match="with attributes classes is 2, got 10"):
        JudgeSizes(attributes=NAMES)
    assert JudgeSizes().scores == 10
    assert SMALL.scores == 3


def test_large_first_weights_keep_the_size_of_what_goes_through():
    images = torch.rand(64, 3, 32, 32, generator=seeded())
    sizes = JudgeSizes(3, 32, 32, 4, classes=2, filters=8, attributes=NAMES)
    spread = {}
    for start in ("small", "large"):
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)
            look = Look(sizes).eval()
            if start == "large":
                start_large(look)
        with torch.no_grad():
            spread[start] = look.features(images).std(0).mean().item()
    assert spread["small"] < 0.02
    assert 0.05 < spread["large"] < 1


def test_images_are_mirrored_in_half_of_the_cases(generator):
    images = torch.rand(400, 2, 3, 4, generator=generator)
    state = generator.get_state()
    found = mirror_half(images, generator)
    kept = (found == images).flatten(1).all(1)
    turned = (found == images.flip(-1)).flatten(1).all(1)
    assert (kept ^ turned).all()
    assert 150 < turned.sum() < 250
    generator.set_state(state)
    assert torch.equal(bend(images, 0.0, 0.0, generator, flip=True), found)
    assert torch.equal(bend(images, 0.0, 0.0, generator), images)


def test_a_judge_learns_attributes(generator):
    labels = torch.rand(500, 2, generator=generator) < 0.5
    images = torch.rand(500, 1, 4, 4, generator=generator) / 2
    images[labels[:, 0], :, :2] += 0.5  # above
    images[labels[:, 1], ..., 1:3] -= 0.3  # in the middle: mirrors do not matter
    part = JudgePart(
        steps=300, batch=32, rate=0.01, log=100, average=0.9, warp=0.0, flip=True
    )
    names = "above", "middle"
    sizes = replace(SMALL, filters=6, features=8, dropout=0.0, attributes=names)
    look, rows = fill(Look(sizes)), torch.arange(400)
    how = part, part.steps, part.warp, _whole_loss, generator
    kept, history = _fit(look, images.clamp(0, 1), labels, *how, rows)
    assert history[-1]["loss"] < history[0]["loss"]
    said = kept(images[400:].clamp(0, 1)) > 0
    assert ((said == labels[400:]).double().mean(0) > 0.9).all()


def test_only_the_rows_that_are_given_are_learned_from(generator):
    """The others may hold anything."""
    images = torch.rand(40, 1, 4, 4, generator=generator)
    labels = torch.rand(40, 3, generator=generator) < 0.5
    rows = torch.arange(0, 40, 2)
    spoiled = images.clone()
    spoiled[1::2] = torch.nan
    part = JudgePart(steps=5, batch=8, log=1, warp=0.0, dropout=0.0)
    found = []
    for world in (images, spoiled):
        look, how = fill(Look(replace(SMALL, dropout=0.0))), (part, 5, 0.0, _whole_loss)
        found.append(_fit(look, world, labels, *how, seeded(4), rows)[1])
    assert found[0] == found[1]


# ------------------------------------------------------------------ the report


class FourPatches:
    """Images of four patches, each dark or bright, of which some come together.

    An attribute says of each patch whether it is bright; the law is a table, and what
    a source says of the others is a sum.
    """

    length = 4
    codes = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)  # (16, 4)

    def __init__(self, alone=False):
        one, two, three, four = self.codes.bool().T
        self.weights = 1.0 + 6 * (one == two) + 2 * (two & three) + 3 * (one > four)
        self.alone = alone  # each patch by itself, whatever is given

    def sample(self, x, task, generator=None):
        seen = torch.where(task.source, x.mean(2), 0.0)[:, None]  # (B, 1, 4)
        fits = ((seen.round() - self.codes) * task.source[:, None]).abs().sum(2) == 0
        if self.alone:
            fits = torch.ones_like(fits)
            yes = (self.weights @ self.codes) / self.weights.sum()
            made = (torch.rand(x.shape[:2], generator=generator) < yes).float()
        else:
            row = torch.multinomial(fits * self.weights, 1, generator=generator)[:, 0]
            made = self.codes[row]
        made = made[..., None].expand(x.shape) * 0.8 + 0.1
        made = torch.where(task.source[..., None], x, made)
        return torch.where(task.absent[..., None], torch.nan, made)


PATCHES = ("one", "two", "three", "four")


@pytest.fixture(scope="module")
def patches():
    """The law's images, a judge that reads them, and a guess that knows the law."""
    model = FourPatches()
    sizes = replace(SMALL, attributes=PATCHES)
    judges = Judges(sizes)

    class Knows(nn.Module):
        def log_prob(self, tokens, source):
            seen = tokens.mean(2).round()[:, None] - model.codes
            fits = (seen * source[:, None]).abs().sum(2) == 0
            mass = fits * model.weights
            yes = (mass @ model.codes) / mass.sum(1, keepdim=True)
            yes = yes.clamp(0, 1)  # a sum may miss it by rounding
            return torch.stack([1 - yes, yes], -1).log()

    judges.guess = Knows()
    judges.look.forward = lambda images: 60 * (patchify(images, 2).mean(2) - 0.5)
    judges.look.features = lambda images: patchify(images, 2).mean(2)
    rows = torch.multinomial(model.weights, 4000, True, generator=seeded(5))
    noise = 0.02 * torch.randn(4000, 4, 4, generator=seeded(6))
    tokens = model.codes[rows][..., None] * 0.8 + 0.1 + noise
    images = unpatchify(tokens, 2, (1, 4, 4)).clamp(0, 1)
    return judges, images, model.codes[rows].bool()


def reported(patches, model, **changes):
    judges, images, attributes = patches
    data = images[:2000], images[2000:], attributes[2000:]
    ask = {"shares": (0.25, 0.5), "rows": 1200, "samples": 3000, "draws": 3} | changes
    return image_report(model, judges, *data, seeded(1), **ask)


def test_the_report_of_a_perfect_sampler_of_attributes(patches):
    found = reported(patches, FourPatches())
    joint, wanted = found["joint"], FourPatches().weights @ FourPatches.codes
    wanted = (wanted / FourPatches().weights.sum()).tolist()
    assert list(joint["attribute shares"]) == list(PATCHES)
    assert list(joint["attribute shares"].values()) == pytest.approx(wanted, abs=0.03)
    gaps = [
        abs(joint["attribute shares"][n] - joint["attribute shares, real"][n])
        for n in PATCHES
    ]
    assert joint["mean difference"] == pytest.approx(np.mean(gaps))
    assert joint["largest difference"] == pytest.approx(max(gaps))
    assert joint["mean difference"] < 3 * joint["mean difference, perfect"] < 0.05
    for every in ("", ", every attribute"):
        assert joint[f"accepted{every}"] == joint[f"accepted{every}, real"] == 1
    assert not any("class" in name for name in joint)
    for facts in found["completions"].values():
        each = facts["attributes"].values()
        for name in ("agreement", "perfect agreement", "points"):
            assert facts[name] == pytest.approx(np.mean([a[name] for a in each]))
        assert abs(facts["points"]) < 2.5
        assert facts["class kl"] == pytest.approx(facts["class kl, perfect"], rel=0.25)
        # what is given is certain, and so is nothing else
        doubt = facts["uncertain"]
        assert doubt["share"] < 1
        certain = 1 - doubt["share"]
        for name in ("agreement", "perfect agreement"):
            total = certain + doubt["share"] * doubt[name]
            assert facts[name] == pytest.approx(total, abs=0.002)
        assert abs(doubt["points"]) < 4


def test_the_report_of_a_sampler_that_ignores_what_is_given(patches):
    """Its shares are right, and its completions are not."""
    right = reported(patches, FourPatches())
    found = reported(patches, FourPatches(alone=True))
    assert found["joint"]["mean difference"] < 0.03
    for share in ("0.25", "0.5"):
        wrong, good = found["completions"][share], right["completions"][share]
        assert wrong["uncertain"]["points"] < good["uncertain"]["points"] - 1
        assert wrong["perfect agreement"] == good["perfect agreement"]


def test_a_sampler_that_is_never_clear_or_always_bright(patches):
    class Grey(FourPatches):
        def sample(self, x, task, generator=None):
            made = super().sample(x, task, generator)
            grey = 0.52 + 0.01 * torch.rand(x.shape, generator=generator)
            made = torch.where(task.target[..., None], grey, made)
            made[:, 0] = torch.where(task.source[:, :1], x[:, 0], 0.9)
            return torch.where(task.absent[..., None], torch.nan, made)

    joint = reported(patches, Grey())["joint"]
    assert joint["accepted"] == 0.25  # the first patch of four
    assert joint["accepted, every attribute"] == 0
    assert list(joint["attribute shares"].values()) == [1, 1, 1, 1]
    real = joint["attribute shares, real"].values()
    assert joint["largest difference"] == pytest.approx(1 - min(real))


def test_nothing_is_uncertain_if_all_is_given(patches):
    judges, images, attributes = patches
    law = judges.guess.log_prob(patchify(images[:50], 2), torch.ones(50, 4).bool())
    shown = attributes[None, :50].long()
    facts = agreement_facts(attributes[:50], shown, law.double(), PATCHES)
    assert facts["uncertain"]["share"] == 0
    assert math.isnan(facts["uncertain"]["points"])
    assert facts["agreement"] == facts["perfect agreement"] == 1


def test_labels_must_be_of_the_judges_kind(patches):
    judges, images, attributes = patches
    data = judges, images[:500], images[500:900]
    for labels in (attributes[500:900, 0], attributes[500:900, :2]):
        with pytest.raises(ValueError, match=r"read labels \(N, 4\), a column"):
            image_report(FourPatches(), *data, labels)
    classes = Judges(replace(SMALL, attributes=()))
    with pytest.raises(ValueError, match=r"read labels \(N,\), got \(400, 4\)"):
        image_report(FourPatches(), classes, *data[1:], attributes[500:900])


# ------------------------------------------------------------------ recipes


@pytest.fixture
def few_faces(monkeypatch):
    """The first of the drawn faces only, since drawing all takes a while."""
    monkeypatch.setattr(faces, "SETS", {"train": (2407, 130), "test": (21_319, 60)})


def test_images_with_attributes(few_faces):
    images, attributes = unit_images("faces32", "test")
    assert images.shape == (60, 3, 32, 32)
    assert (images.min() >= 0, images.max() <= 1) == (True, True)
    assert attributes.dtype == torch.bool
    raw = load("faces32", "test")
    assert torch.equal((images * 255).round().byte(), raw.images)
    assert torch.equal(attributes, raw.attributes)
    assert labelled_images("faces32", "test").names == ATTRIBUTES
    assert labelled_images("digits", "test").names == ()


def test_columns_by_name():
    assert columns(NAMES) == [0, 1, 2]
    assert columns(NAMES, ("loud", "up")) == [2, 0]
    with pytest.raises(ValueError, match=r"'quiet'; .* are up, left, loud"):
        columns(NAMES, ("up", "quiet"))
    with pytest.raises(ValueError, match="their images have one label each"):
        columns((), ("up",))


def test_a_judge_of_faces_is_trained_and_recorded(few_faces, tmp_path):
    folder = train(read_recipe("faces-judge", "smoke"), seed=1, root=tmp_path)
    found = read_run(folder)
    assert found.model.config.attributes == ATTRIBUTES
    images, attributes = unit_images("faces32", "test")
    with torch.no_grad():
        right = ((found.model.look(images) > 0) == attributes).double().mean(0)
    facts = found.metrics
    assert [facts["accuracies"][n] for n in ATTRIBUTES] == pytest.approx(right.tolist())
    assert facts["accuracy"] == pytest.approx(right.mean().item())
    usual = unit_images("faces32")[1].double().mean(0) > 0.5
    wanted = (attributes == usual).double().mean(0)
    assert [facts["accuracies, usual value"][n] for n in ATTRIBUTES] == (
        pytest.approx(wanted.tolist())
    )
    assert facts["accuracy, usual value"] == pytest.approx(wanted.mean().item())
    few = torch.linspace(0, 59, 50).round().long()
    with torch.no_grad():
        law = found.model.guess.log_prob(
            patchify(images[few], 4), torch.ones(50, 64).bool()
        )
    wanted = log_loss(law, attributes[few])
    assert facts["guess"]["log loss"][-1] == pytest.approx(wanted, rel=1e-6)
    assert len(facts["guess"]["log loss"]) == len(SHARES)
    again = read_run(train(read_recipe("faces-judge", "smoke"), seed=1, root=tmp_path))
    assert again.metrics == facts


def test_a_judge_may_read_some_attributes_only(few_faces, tmp_path):
    some = ["Smiling", "Male"]
    recipe = read_recipe("faces-judge", "smoke", {"judge.attributes": some})
    found = read_run(train(recipe, root=tmp_path))
    assert found.model.config.attributes == ("Smiling", "Male")
    images, attributes = unit_images("faces32", "test")
    places = [ATTRIBUTES.index(name) for name in some]
    with torch.no_grad():
        right = (found.model.look(images) > 0) == attributes[:, places]
    wanted = right.double().mean(0).tolist()
    assert [found.metrics["accuracies"][n] for n in some] == pytest.approx(wanted)
    recipe = read_recipe("faces-judge", "smoke", {"judge.attributes": ["Tall"]})
    with pytest.raises(ValueError, match="no attribute 'Tall'"):
        train(recipe, root=tmp_path)
    digits = read_recipe("digits-judge", "smoke", {"judge.attributes": some})
    with pytest.raises(ValueError, match="have one label each"):
        train(digits, root=tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judge.attributes": "Male"}, r"judge.attributes .* got 'Male'"),
        ({"judge.attributes": ["Male", 3]}, r"judge.attributes .* got"),
        ({"judge.start": "huge"}, "judge.start is 'small' or 'large', got 'huge'"),
        ({"judge.flip": 1}, "judge.flip .* bool, got 1"),
    ],
)
def test_recipes_that_are_wrong(changes, message):
    with pytest.raises(ValueError, match=message):
        read_recipe("faces-judge", "smoke", changes)


@pytest.mark.parametrize("name", ["faces-judge", "celeba-judge"])
@pytest.mark.parametrize("profile", ["smoke", "cpu", "gpu"])
def test_recipes_can_be_read(name, profile):
    recipe = read_recipe(name, profile)
    assert recipe.model.kind == "judge"
    assert recipe.judge.flip
    assert (recipe.judge.warp, recipe.judge.guess_warp) == (0, 0)
    # what CI runs needs no files
    assert recipe.data.name == "faces32" or profile != "smoke"


def test_the_judge_of_photographs_needs_none_at_smoke(few_faces, tmp_path, monkeypatch):
    monkeypatch.delenv("BIGLEARN_DATA", raising=False)
    monkeypatch.setenv("BIGLEARN_CACHE", str(tmp_path / "cache"))
    folder = train(read_recipe("celeba-judge", "smoke"), root=tmp_path)
    assert read_run(folder).model.config.attributes == ATTRIBUTES
    with pytest.raises(FileNotFoundError, match="biglearn data prepare celeba"):
        train(read_recipe("celeba-judge", "cpu"), root=tmp_path)


def test_a_judge_of_photographs(photographs, tmp_path):
    smoke = {"steps": 5, "guess_steps": 5, "batch": 16, "filters": 2, "features": 8}
    changes = {f"judge.{name}": value for name, value in smoke.items()}
    found = read_run(train(read_recipe("celeba-judge", "cpu", changes), root=tmp_path))
    assert found.model.config.attributes == photographs.names
    labels = photographs.attributes
    usual = labels[:90].mean(0) > 0.5
    wanted = (labels[90:] == usual).mean()
    assert found.metrics["accuracy, usual value"] == pytest.approx(wanted, rel=1e-6)
    assert found.metrics["rows"] == 40
    assert found.examples is None


@pytest.mark.parametrize("name", ["faces-judge", "celeba-judge"])
def test_recorded_judges_are_good(name):
    try:
        metrics = load_run(name, "cpu").metrics
    except FileNotFoundError:
        pytest.skip(f"{name} has no record yet")
    if name == "faces-judge":
        assert metrics["accuracy"] >= 0.995
        assert min(metrics["accuracies"].values()) >= 0.98
        assert metrics["accepted"] >= 0.98
    assert metrics["accuracy"] > metrics["accuracy, usual value"] + 0.03
    guess = metrics["guess"]
    assert guess["log loss"] == sorted(guess["log loss"], reverse=True)
    assert max(guess["calibration error"]) < 0.05


# ------------------------------------------------------------------ GANs of faces

GAN = """
data = { name = "faces32", tokens = "scaled", size = [4, 4], flip = true }
[model]
kind = "gan"
width = 8
depth = 1
heads = 2
latent = 3
noise = 2
[training]
steps = 2
batch = 4
log = 2
[evaluate]
measure = "faces"
rows = 40
samples = 60
every = 2
"""


@pytest.fixture
def written(tmp_path):
    def write(*changes):
        text = GAN
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "tiny.toml").write_text(text)
        return read_recipe(tmp_path / "tiny.toml")

    return write


@pytest.fixture
def judged(few_faces, tmp_path, monkeypatch):
    """Judges of faces in a record that is found: hardly trained, but sure at times."""
    recipe, root = read_recipe("faces-judge", "smoke"), tmp_path / "judges"
    judges = read_run(train(recipe, root=root)).model
    with torch.no_grad():
        judges.look.head.weight.mul_(100)
    save_run(root, "faces-judge", "gpu", judges, seconds=0, seed=0)
    monkeypatch.setattr(runs, "run_folders", lambda: [root])
    return load_run("faces-judge").model


def test_a_gan_of_faces_is_trained_and_held_against_the_law(judged, written, tmp_path):
    found = read_run(train(written(), root=tmp_path / "runs"))
    assert found.model.config.length == 64
    assert found.model.config.values == 48
    assert {"accepted", "ratio"} <= set(found.history[0])
    facts = found.metrics
    assert list(facts["joint"]["attribute shares"]) == sorted(ATTRIBUTES)
    assert set(facts["completions"]) == {"0.1", "0.3", "0.5", "0.75"}
    assert set(facts["law"]["regions"]) > set(faces.REGIONS)
    assert facts["law"]["rows"] == 40
    whole = facts["law"]["regions"]["all regions"]
    assert whole["completions"]["kl"] > whole["perfect"]["kl"]


def test_a_gan_of_incomplete_faces_with_the_report_alone(judged, written, tmp_path):
    recipe = written(('"faces"', '"images"'), ("flip = true", "shown = 0.5"))
    found = read_run(train(recipe, root=tmp_path / "runs"))
    assert "law" not in found.metrics
    assert found.metrics["rows"] == 40
    entry = found.history[-1]
    # half of 64 patches are observed, so at most that is asked for
    assert entry["targets"] <= 2 * 4 * 32


LABELLED = (
    ("flip = true }", "flip = true, labels = true }\n" + """[tasks]
law = "modalities"
arguments = { classification = 0.3, joint = 0.3, within = 0.4 }"""),
    ('"gan"', '"image-label-hybrid"'),
)  # fmt: skip


def test_faces_with_their_attributes_are_held_against_the_law(
    judged, written, tmp_path
):
    """Of the images alone, with all attributes absent; looks draw both."""
    found = read_run(train(written(*LABELLED), root=tmp_path / "runs"))
    assert found.model.config.layout.image == 64
    assert found.model.config.layout.choices == (2,) * len(ATTRIBUTES)
    assert {"accepted", "ratio"} <= set(found.history[0])
    assert set(found.metrics["completions"]) == {"0.1", "0.3", "0.5", "0.75"}
    assert set(found.metrics["law"]["regions"]) > set(faces.REGIONS)
    assert found.metrics["law"]["rows"] == 40


def test_attributes_are_classified_without_judges(few_faces, written, monkeypatch):
    monkeypatch.setattr(runs, "run_folders", lambda: [])
    recipe = written(*LABELLED, ('"faces"', '"image-label"'), ("every = 2", ""))
    model, prepared = train_model(recipe, 0)[:2]
    facts = evaluation.measure(model, prepared, recipe.evaluate)
    assert set(facts) == {"classification", "rows", "seen"}
    labels = load("faces32", "test").attributes
    x = prepared.domain.transform(prepared.test, None, labels.long())
    source = ~model.trunk.is_label.expand(len(x), -1)
    with torch.no_grad():
        said = model.label_laws(x, source).argmax(-1) == labels
    wanted = said.double().mean().item()
    assert facts["classification"]["accuracy"] == pytest.approx(wanted)


def test_the_last_look_counts_readings(judged, written):
    recipe = written()
    prepared = prepare(recipe.data, 0)
    assert prepared.names == ATTRIBUTES
    look = evaluation._Look(prepared, recipe.evaluate)
    made = look._joint(model := train_model(recipe, 0)[0], 160)
    wanted = acceptance(made, judged.look, attributes=True)
    assert 0.05 < wanted < 0.95
    assert look(model)["accepted"] == pytest.approx(wanted)


def test_judges_are_asked_for_before_training(few_faces, written, monkeypatch):
    monkeypatch.setattr(runs, "run_folders", lambda: [])
    monkeypatch.setattr("biglearn_lite.recipe.fit", lambda *a, **k: pytest.fail("fit"))
    for measure in ("faces", "images"):
        with pytest.raises(FileNotFoundError, match="no recorded run 'faces-judge'"):
            train_model(written(('"faces"', f'"{measure}"')), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[4, 4]", "[8, 8]"), "16 tokens and its judges 64 patches"),
        (('"faces32"', '"faces"'), r"read images of \(3, 32, 32\), and these are of"),
        (
            ('"scaled", size = [4, 4]', '"frequencies", size = [8, 8]'),
            "these tokens are frequencies; take",
        ),
    ],
)
def test_gans_of_faces_that_cannot_be_measured(judged, written, change, message):
    with pytest.raises(ValueError, match=message):
        train_model(written(change), 0)


def test_the_law_is_that_of_drawn_faces_and_all_their_attributes(
    judged, written, tmp_path
):
    judge = read_recipe("faces-judge", "smoke", {"judge.attributes": ["Male"]})
    train(replace(judge, profile="gpu"), root=tmp_path / "judges")
    with pytest.raises(ValueError, match="these judges read Male"):
        train_model(written(), 0)
    # the report needs no law, and takes the column that they read
    found = train_model(written(('"faces"', '"images"')), 0)
    facts = evaluation.measure(found[0], found[1], written(
        ('"faces"', '"images"')).evaluate)  # fmt: skip
    assert list(facts["joint"]["attribute shares"]) == ["Male"]


def test_photographs_have_no_law(judged_photographs, written, tmp_path):
    with pytest.raises(ValueError, match=r"about drawn faces, .* 'celeba32'"):
        train_model(written(('"faces32"', '"celeba32"')), 0)
    recipe = written(('"faces32"', '"celeba32"'), ('"faces"', '"images"'))
    found = read_run(train(recipe, root=tmp_path / "runs"))
    assert list(found.metrics["joint"]["attribute shares"]) == sorted(
        judged_photographs.names
    )
    assert found.examples is None
