"""Recipes: every key is checked, and all that decides a run is in them."""

import sys

import numpy as np
import pytest
import torch

from biglearn_lite import _judged, cli, data, evaluation, tasks
from biglearn_lite._domains import image_domain
from biglearn_lite._images import dequantize, mirror_half, shift
from biglearn_lite._labelled import choose_labelled
from biglearn_lite._prepare import Prepared, fill_with_mean, hide, prepare
from biglearn_lite._recipe_file import PARTS, DataPart, EvaluatePart, TaskPart
from biglearn_lite._report import spread_rows
from biglearn_lite.claims import PROFILES
from biglearn_lite.experiments import is_experiment
from biglearn_lite.gan import Adversarial, GANSizes
from biglearn_lite.likelihood import matching_loss
from biglearn_lite.multimodal import ImageLabelSizes, number_loss, row_loss
from biglearn_lite.recipe import (
    PRESETS,
    build_model,
    build_sampler,
    loss_of,
    read_recipe,
    recipe_names,
    train,
    train_model,
)
from biglearn_lite.runs import read_run
from biglearn_lite.training import Batches

TINY = """
about = "tiny"
data.name = "sums"
model.width = 16
model.depth = 1
model.heads = 2
training.steps = 4
training.batch = 8
training.log = 2
training.rate = 0.1
[smoke]
training.steps = 2
[gpu.training]
targets = 100
step_targets = 20
"""


@pytest.fixture
def written(tmp_path):
    """Write a recipe and give its path."""

    def write(text):
        path = tmp_path / "tiny.toml"
        path.write_text(text)
        return path

    return write


# ------------------------------------------------------------------ reading


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", recipe_names())
def test_shipped_recipes(name, profile):
    recipe = read_recipe(name, profile)
    assert (recipe.name, recipe.profile) == (name, profile)
    assert recipe.about
    assert "\n" not in recipe.about
    keep = recipe.study.keep
    assert not recipe.study.variants or not keep or keep in recipe.study.variants
    if profile == "smoke":
        for variant in recipe.study.variants.values():
            changed = read_recipe(name, profile, dict(variant))
            if is_experiment(changed):
                continue
            assert build_sampler(changed, 17).length == 17  # of an image and its label


def test_profile_and_changes(written):
    path = written(TINY)
    assert read_recipe(path).training.steps == 4
    smoke = read_recipe(path, "smoke")
    assert (smoke.training.steps, smoke.training.rate) == (2, 0.1)
    gpu = read_recipe(path, "gpu").training
    assert (gpu.steps, gpu.batch, gpu.targets, gpu.step_targets) == (0, 0, 100, 20)
    changes = {"training.steps": 7, "data.name": "digits"}
    for profile in PROFILES:
        changed = read_recipe(path, profile, changes)
        assert (changed.training.steps, changed.training.targets) == (7, 0)
        assert changed.data.name == "digits"
        assert changed.model.width == 16
    assert read_recipe(path, "smoke", changes).text != smoke.text
    assert read_recipe(path, "smoke").text == TINY


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("profile", ["", *PROFILES])
def test_an_unknown_key(part, profile, written):
    head = TINY.partition("[smoke]")[0]
    table = f"[{profile}.{part}]\nwidht = 3\n"
    path = written(head + table if profile else f"{part}.widht = 3\n{head}")
    for asked in PROFILES:  # a mistake in one profile is told at all of them
        with pytest.raises(ValueError, match=f"Unknown key '{part}.widht'.*known are"):
            read_recipe(path, asked)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("colour = 3", "Unknown key 'colour'"),
        ("[tests]\na = 1", "Unknown key 'tests'"),
        ("[cpu]\nrate = 3", "Unknown key 'rate'"),
        ("model.width = 'wide'", "model.width .* is of type int, got 'wide'"),
        ("model.width = 1.5", "model.width .* is of type int, got 1.5"),
        ("model.width = true", "model.width .* is of type int, got True"),
        ("training.compile = 'yes'", "training.compile .* bool"),
        ("data.size = [2]", "data.size .* got"),
        ("data.size = 2", "data.size .* got 2"),
        ("data.shown = [1]", "data.shown .* got"),
        ("tasks.arguments = 3", "tasks.arguments .* got 3"),
        ("study = 3", "'study' in a recipe is a table"),
        ("smoke = 3", "'smoke' in a recipe is a table"),
        ("training.targets = 9", "Set one of steps and targets"),
        ("training.log = 0", "log must be"),
        ("[study.variants.a]\n'model.wide' = 3", "In the variant 'a': Unknown key"),
        ("[study.variants.a]\n'model.width' = ''", "In the variant 'a': model.width"),
        ("[study.variants]\na = 3", "'a' in a recipe is a table"),
        ("about = = 3", "is no valid TOML"),
        ("[data]", "is no valid TOML"),
    ],
)
def test_a_mistake_is_one_sentence(extra, message, written, monkeypatch, capsys):
    base = 'data = { name = "sums" }\ntraining = { steps = 4, batch = 8 }\n'
    if extra.startswith("training."):
        base = 'data = { name = "sums" }\ntraining.steps = 4\ntraining.batch = 8\n'
    if extra.startswith("data."):
        base = 'data.name = "sums"\ntraining = { steps = 4, batch = 8 }\n'
    path = written(base + extra)
    with pytest.raises(ValueError, match=message):
        read_recipe(path)
    monkeypatch.setattr(sys, "argv", ["biglearn", "train", str(path)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    err = capsys.readouterr().err
    assert err.startswith("biglearn: ")
    assert len(err.strip().splitlines()) == 1


def test_no_such_recipe(tmp_path):
    with pytest.raises(ValueError, match="There is no recipe 'sum'; choose from"):
        read_recipe("sum")
    with pytest.raises(FileNotFoundError, match="There is no recipe file"):
        read_recipe(tmp_path / "lost.toml")
    (tmp_path / "raw.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="no text"):
        read_recipe(tmp_path / "raw.toml")
    with pytest.raises(ValueError, match="Unknown profile 'fast'"):
        read_recipe("sums", "fast")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks.law": "bert"}, "tasks.law is one of"),
        ({"tasks.law": "pair", "tasks.arguments": {}}, "do not fit 'pair'"),
        ({"tasks.arguments": {"rate": 0.1}}, "do not fit 'everything'"),
        ({"tasks.arguments": {"joint": 2.0}}, "joint"),
        (
            {"tasks.law": "joint_only", "tasks.arguments": {}, "tasks.count": 2},
            "1 diff",
        ),
        ({"tasks.per": "nat"}, "tasks.per is 'token' or 'number'"),
        ({"tasks.per": "number"}, "of a model.kind 'image-label', got 'any-cond"),
        ({"model.kind": "gpt"}, "model.kind is one of"),
        ({"model.kind": "causal"}, "tasks.law is 'joint_only'"),
        ({"model.width": 15}, "heads"),
        ({"data.name": "cifar"}, "cifar"),
        ({"data.tokens": "pixels"}, "whole law of symbols"),
        ({"data.shown": 0.5}, "whole law of symbols"),
        ({"data.labels": True}, "whole law of symbols"),
        ({"data.shift": 1}, "whole law of symbols"),
        ({"data.name": "digits"}, "Images become tokens as one of"),
        ({"evaluate.measure": "beauty"}, "evaluate.measure is one of"),
        ({"evaluate.rows": 0}, "evaluate.rows must be"),
        ({"evaluate.seen": -1}, "evaluate.seen must be"),
    ],
)
def test_values_that_do_not_fit(changes, message, written, tmp_path):
    work = tmp_path / "runs" / ".work" / "tiny" / "smoke"
    work.mkdir(parents=True)
    (work / "checkpoint.pt").write_bytes(b"precious")
    with pytest.raises(ValueError, match=message) as refused:
        train(read_recipe(written(TINY), "smoke", changes), root=tmp_path / "runs")
    assert "\n" not in str(refused.value)
    # a mistake costs nobody a checkpoint, and leaves no run
    assert (work / "checkpoint.pt").read_bytes() == b"precious"
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".work"]


# ------------------------------------------------------------------ building


def test_every_preset_is_a_law(written):
    arguments = {
        "classification": {"labels": [8]},
        "pair": {"source": [0], "target": [1, 2]},
        "modalities": {"joint": 1.0},
    }
    for law in PRESETS:
        changes = {"tasks.law": law, "tasks.arguments": arguments.get(law, {})}
        sampler = build_sampler(read_recipe(written(TINY), "cpu", changes), 9)
        wanted = getattr(tasks, law)(9, **arguments.get(law, {}))
        assert repr(sampler) == repr(wanted)


def test_the_kind_of_the_model_and_per_say_which_loss():
    digits = read_recipe("digits-image-label", "cpu")
    assert loss_of(digits) is row_loss
    number = read_recipe("digits-image-label", "cpu", {"tasks.per": "number"})
    assert loss_of(number) is number_loss
    assert loss_of(read_recipe("sums", "cpu")) is matching_loss
    game = read_recipe("digits-image-label-hybrid", "cpu")
    assert loss_of(game) is game.adversarial


@pytest.mark.parametrize("count", [1, 4, 64])
def test_count_gives_so_many_tasks(count, written, generator):
    recipe = read_recipe(written(TINY), "cpu", {"tasks.count": count})
    one, other = build_sampler(recipe, 9), build_sampler(recipe, 9)
    drawn = one.sample(3000, generator)
    rows = torch.cat([drawn.source, drawn.target], 1).unique(dim=0)
    assert len(rows) == count
    again = other.sample(3000, torch.Generator().manual_seed(1))
    found = torch.cat([again.source, again.target], 1).unique(dim=0)
    assert torch.equal(found, rows)


def test_the_seed_decides_the_weights_and_nothing_else_changes(written):
    recipe = read_recipe(written(TINY))
    prepared = prepare(recipe.data, 0)
    before = torch.get_rng_state()
    one, same, other = (build_model(recipe, prepared, seed) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), before)
    pairs = list(zip(one.parameters(), same.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(one.parameters(), other.parameters(), strict=True)
    )


def test_training_records_a_run(written, tmp_path):
    recipe = read_recipe(written(TINY), "cpu")
    state = torch.get_rng_state()
    folder = train(recipe, seed=2, root=tmp_path / "runs")
    assert torch.equal(torch.get_rng_state(), state)
    assert folder == tmp_path / "runs" / "tiny" / "cpu"
    run = read_run(folder)
    assert [entry["step"] for entry in run.history] == [2, 4]
    assert run.provenance["seed"] == 2
    assert run.example_batch(3).shape == (3, 9)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["tiny"]


def test_stop_and_go_on(written, tmp_path):
    recipe = read_recipe(written(TINY), "cpu")
    whole = read_run(train(recipe, root=tmp_path / "whole"))
    parts = tmp_path / "parts"
    assert train(recipe, root=parts, minutes=0) is None
    assert train(recipe, root=parts, minutes=0) is None  # without resume: afresh
    folder = train(recipe, root=parts, resume=True)
    assert read_run(folder).history == whole.history


@pytest.mark.parametrize("name", ["sums", "digits"])
def test_shipped_recipes_train(name, tmp_path):
    changes = {"evaluate.measure": "none", "training.steps": 2, "training.batch": 2}
    recipe = read_recipe(name, "smoke", changes | {"model.depth": 1})
    run = read_run(train(recipe, root=tmp_path))
    assert run.history[-1]["step"] == 2
    assert np.isfinite(run.history[-1]["loss"])


# ------------------------------------------------------------------ data


def test_a_share_is_hidden():
    shown = hide(2000, 64, 0.3, seed=1)
    assert (shown.sum(1) == round(0.3 * 64)).all()
    each = shown.double().mean(0)  # every place equally often
    assert (each - 19 / 64).abs().max() < 5 * (0.3 * 0.7 / 2000) ** 0.5
    assert torch.equal(shown, hide(2000, 64, 0.3, seed=1))
    assert not torch.equal(shown, hide(2000, 64, 0.3, seed=2))
    assert (hide(50, 4, 0.01, seed=0).sum(1) == 1).all()


def test_shares_are_uniform():
    share = hide(20_000, 100, "uniform", seed=0).double().mean(1)
    assert share.min() >= 0.1
    assert share.mean().item() == pytest.approx(0.55, abs=0.01)
    assert share.var().item() == pytest.approx(0.81 / 12, rel=0.05)
    quarters = np.quantile(share.numpy(), [0.25, 0.5, 0.75])
    np.testing.assert_allclose(quarters, [0.325, 0.55, 0.775], atol=0.015)


def test_hidden_pixels_become_the_mean(generator):
    images = torch.randint(17, (30, 1, 2, 3), generator=generator).to(torch.uint8)
    shown = hide(30, 6, 0.5, seed=4)
    filled = fill_with_mean(images, shown)
    assert filled.dtype == torch.uint8
    values, mask = images.flatten(1).numpy().astype(float), shown.numpy()
    means = np.nanmean(np.where(mask, values, np.nan), axis=0)
    wanted = np.where(mask, values, np.round(means))
    np.testing.assert_array_equal(filled.flatten(1).numpy(), wanted)


def test_ways_with_incomplete_rows():
    whole = prepare(DataPart("digits", "pixels"), 0).batches
    part = DataPart("digits", "pixels", shown="uniform")
    seen = prepare(part, 3).batches
    shown = hide(len(whole.data), 64, "uniform", 3)
    assert torch.equal(seen.observed, shown)
    assert torch.equal(seen.data, whole.data)
    kept = prepare(DataPart("digits", "pixels", shown="uniform", missing="complete"), 3)
    assert torch.equal(kept.batches.data, whole.data[shown.all(1)])
    mean = prepare(DataPart("digits", "pixels", shown="uniform", missing="mean"), 3)
    assert torch.equal(mean.batches.data, fill_with_mean(whole.data, shown))
    assert mean.batches.observed is None
    assert whole.observed is None


@pytest.mark.parametrize("tokens", ["scaled", "patches"])
def test_ways_with_incomplete_patches(tokens):
    whole = prepare(DataPart("digits", tokens), 0).batches.data
    part = {"name": "digits", "tokens": tokens, "shown": "uniform"}
    shown = hide(len(whole), 16, "uniform", 3)
    seen = prepare(DataPart(**part), 3).batches
    assert torch.equal(seen.observed, shown)
    assert torch.equal(seen.data, whole)
    kept = prepare(DataPart(**part, missing="complete"), 3).batches
    assert torch.equal(kept.data, whole[shown.all(1)])
    filled = prepare(DataPart(**part, missing="mean"), 3).batches
    assert filled.observed is None
    cut, values = (data.patchify(x, 2).numpy() for x in (filled.data, whole))
    there = np.where(shown[..., None].numpy(), values.astype(float), np.nan)
    wanted = np.where(np.isnan(there), np.nanmean(there, axis=0).round(), there)
    np.testing.assert_array_equal(cut, wanted)


@pytest.mark.parametrize("tokens", ["pixels", "bits", "scaled", "patches"])
@pytest.mark.parametrize("missing", ["observed", "mean"])
def test_half_of_the_training_images_are_mirrored(tokens, missing):
    shown = 1.0 if missing == "observed" or tokens == "bits" else 0.5
    part = {"name": "digits", "tokens": tokens, "shown": shown, "missing": missing}
    plain, flipped = (prepare(DataPart(**part, flip=f), 0) for f in (False, True))
    images = plain.batches.data[:200]
    noise = torch.Generator().manual_seed(4)
    turned = torch.rand(200, generator=noise) < 0.5
    wanted = torch.where(turned[:, None, None, None], images.flip(-1), images)
    wanted = plain.domain.transform(wanted, noise)
    found = flipped.batches.transform(images, noise.manual_seed(4))
    assert torch.equal(found, wanted)
    assert 70 < turned.sum() < 130
    # what is tested on is not
    rows = EvaluatePart(rows=9).rows
    one, other = (evaluation.test_tokens(each, rows) for each in (plain, flipped))
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shown": 0.0}, "data.shown is"),
        ({"shown": "some"}, "data.shown is"),
        ({"shown": 1.5}, "data.shown is"),
        ({"shown": 0.5, "missing": "drop"}, "data.missing is"),
        ({"missing": "drop"}, "data.missing is"),
        ({"shown": 0.5, "missing": "complete"}, "No row is complete"),
        ({"shown": 0.5, "tokens": "frequencies"}, "hidden pixels or patches"),
        ({"shown": 0.5, "tokens": "scaled", "flip": True}, "leave out data.flip"),
        ({"name": "sums", "tokens": "symbols", "flip": True}, "and data.flip"),
        ({"held_out": 1.0}, "data.held_out is a share"),
        ({"tokens": "patches", "size": (3, 3)}, "does not divide"),
        ({"tokens": "patches", "size": (2, 4)}, "square"),
    ],
)
def test_data_that_cannot_be(changes, message):
    part = DataPart(**({"name": "digits", "tokens": "pixels"} | changes))
    with pytest.raises(ValueError, match=message):
        prepare(part, 0)


def test_validation_never_meets_the_test_set():
    train_set = data.load("digits").images
    prepared = prepare(DataPart("digits", "pixels", held_out=0.25), 0)
    both = torch.cat([prepared.batches.data, prepared.test])
    assert torch.equal(both, train_set)
    assert len(prepared.test) == round(0.25 * len(train_set))
    assert torch.equal(
        prepare(DataPart("digits", "pixels"), 0).test,
        data.load("digits", "test").images,
    )


@pytest.mark.parametrize("name", ["pixels", "bits", "scaled", "patches", "frequencies"])
@pytest.mark.parametrize(("dataset", "levels"), [("digits", 17), ("mnist5k", 256)])
def test_domains_come_back(name, dataset, levels, generator):
    images = data.load(dataset).images[:40]
    size = (4, 2) if name in ("pixels", "bits") else (2, 2)
    domain = image_domain(name, images.shape[1:], levels, size)
    tokens = domain.transform(images, generator)
    values = (domain.values,) if domain.values else ()
    assert tokens.shape == (40, domain.length, *values)
    back = domain.restore(tokens)
    assert back.shape == images.shape
    if name in ("pixels", "scaled"):
        wanted = images / (levels - 1)
    elif name == "bits":
        wanted = (images >= (levels + 1) // 2).float()
    else:
        noise = torch.Generator().manual_seed(7)
        tokens = domain.transform(images, noise)
        wanted = dequantize(images, levels, noise.manual_seed(7))
        torch.testing.assert_close(domain.restore(tokens), wanted)
        assert torch.equal((wanted * levels).floor(), images.float())
        return
    torch.testing.assert_close(back, wanted)
    if name == "scaled":
        assert (tokens.min(), tokens.max()) == (-1, 1)
        assert domain.restore(3 * tokens).max() == 1  # a model may overshoot
        return
    assert int(tokens.max()) < domain.symbols


# ------------------------------------------------------------------ labels

LABELS = """
data = { name = "digits", tokens = "patches", size = [2, 2], labels = true }
[tasks]
law = "modalities"
arguments = { classification = 0.4, completion = 0.2, joint = 0.1, within = 0.3 }
[model]
kind = "image-label"
width = 8
depth = 1
heads = 2
components = 2
[training]
steps = 4
batch = 4
log = 2
[evaluate]
measure = "image-label"
rows = 40
samples = 40
every = 4
"""
PLAYED = LABELS.replace('"patches"', '"scaled"').replace("components = 2\n", "")
PLAYED = PLAYED.replace('"image-label"\nwidth', '"image-label-hybrid"\nwidth')
PLAYED += "[adversarial]\nstrength = 0.4\nlabels = 0.7\n"


def labels_part(**changes):
    known = {"name": "digits", "tokens": "patches", "labels": True}
    return DataPart(**(known | changes))


def test_what_came_later_is_said_where_it_is_set():
    """Notebooks and finished members of studies hold the reprs of before."""
    old = "DataPart(name='sums', tokens='symbols', size=(2, 2), held_out=0.0, "
    old += "shown=1.0, missing='observed')"
    assert repr(DataPart("sums")) == old
    part = labels_part(labelled=7, shift=1, flip=True)
    for said in ("labels=True", "labelled=7", "shift=1", "flip=True"):
        assert said in repr(part)
    assert repr(TaskPart()) == "TaskPart(law='everything', arguments={}, count=0)"
    assert "per='number'" in repr(TaskPart(per="number"))
    game = "Adversarial(pairing='relativistic', strength=0.3, penalty='exact', "
    game += "penalised='target', communication=0.0, share=0.25, rate=1.0, width=0, "
    assert repr(Adversarial()) == game + "depth=0)"
    assert repr(Adversarial(labels=0.5)) == game + "depth=0, labels=0.5)"
    later = repr(Adversarial(label_batch=8, projection=True))
    assert later == game + "depth=0, label_batch=8, projection=True)"


def test_an_image_label_model_is_trained_measured_and_recorded(written, tmp_path):
    recipe = read_recipe(written(LABELS), "smoke", {"evaluate.seen": 359})
    found = read_run(train(recipe, root=tmp_path / "runs"))
    sizes = ImageLabelSizes(16, 4, 10, 0, "likelihood", 8, 1, 2, components=2)
    assert found.model.config == sizes
    metrics = found.metrics
    wanted = {"classification", "seen", "generation", "joint", "consistency", "bayes"}
    assert wanted | {"judges", "rows"} == set(metrics)
    assert metrics["rows"] == 40
    right = 359 * torch.tensor(metrics["seen"]["random"]["accuracy"])
    torch.testing.assert_close(right, right.round(), rtol=0, atol=1e-3)
    assert metrics["joint"]["samples"] == 40
    assert {"accepted", "ratio"} <= set(found.history[1])
    x = found.example_batch(8)
    image, labels = found.model.split(x)
    test = data.load("digits", "test")
    assert torch.equal(labels, test.labels[:8])
    grey = (prepare(recipe.data, 0).domain.restore(x) * 17).floor()
    assert torch.equal(grey, test.images[:8].float())
    assert image.shape == (8, 16, 4)


def test_a_hybrid_is_trained_measured_and_recorded(written, tmp_path):
    path = written(PLAYED)
    changes = {"evaluate.measure": "images"}
    for recipe in (read_recipe(path, "smoke"), read_recipe(path, "smoke", changes)):
        found = read_run(train(recipe, root=tmp_path / "runs"))
        assert found.model.config.matching == "hybrid"
        assert found.history[0]["cross-entropy"] > 0
        images = recipe.evaluate.measure == "images"
        assert ("completions" in found.metrics) == images
        assert ("consistency" not in found.metrics) is True
        assert ("seen" in found.metrics) == (not images)
    assert recipe.adversarial.labels == 0.7


def test_an_image_label_model_of_another_kind(written):
    """From one matching to the other, in a variant or a change."""
    path = written(PLAYED)
    other = {"model.kind": "image-label", "data.tokens": "patches"}
    recipe = read_recipe(path, "smoke", other)
    assert recipe.adversarial is None
    model = build_model(recipe, prepare(recipe.data, 0), 0)
    assert model.config.matching == "likelihood"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (", labels = true", "", "learns from data.labels = true"),
        ('kind = "image-label"', 'kind = "any-conditional"', "and no other"),
        ('"patches"', '"pixels"', "data.tokens must be 'patches' or 'scaled'"),
        ("heads = 2", "heads = 3", "multiple of heads"),
        ("within = 0.3", "within = 0.2", "must sum to 1"),
        ('kind = "image-label"', 'kind = "image-label-hybrid"', "must be 'scaled'"),
        (
            '"modalities"\narguments = {',
            '"classification"\narguments = {',
            "do not fit",
        ),
        ("labels = true", "labels = true, labelled = 9999", "at most the 1437"),
        ("labels = true", "labels = true, labelled_share = 0.5", "say how many"),
    ],
)
def test_image_label_recipes_that_cannot_be(written, tmp_path, old, new, said):
    assert old in LABELS
    text = LABELS.replace(old, new, 1).replace('"image-label"\nrows', '"none"\nrows')
    text = text.replace("every = 4\n", "").replace("components = 2\n", "")
    with pytest.raises(ValueError, match=said):
        train(read_recipe(written(text), "smoke"), root=tmp_path)


def test_labels_must_be_there_to_be_measured(written):
    text = LABELS.replace(", labels = true", "")
    text = text.replace('"image-label"\nwidth', '"any-conditional"\nwidth')
    with pytest.raises(ValueError, match=r"needs data\.labels = true"):
        train_model(read_recipe(written(text), "smoke"), 0)


@pytest.mark.parametrize("many", [10, 100, 103])
def test_labels_are_kept_of_all_classes(many):
    labels = data.load("digits").labels
    known = choose_labelled(labels, many, seed=3)
    assert known.sum() == many
    counts = labels[known].bincount(minlength=10)
    assert counts.max() - counts.min() <= 1
    assert torch.equal(known, choose_labelled(labels, many, seed=3))
    assert not torch.equal(known, choose_labelled(labels, many, seed=4))
    kinds = torch.rand(200, 5, generator=torch.Generator().manual_seed(0)) < 0.5
    assert choose_labelled(kinds, 60, seed=0).sum() == 60
    with pytest.raises(ValueError, match="rows of class 0, and there are"):
        choose_labelled(labels, 1437, seed=0)


def test_of_an_unlabelled_row_only_the_image_is_left():
    whole = data.load("digits")
    prepared = prepare(labels_part(labelled=100), 5)
    batches = prepared.batches
    known = choose_labelled(whole.labels, 100, 5)
    assert torch.equal(batches.observed[:, 16], known)
    assert batches.observed[:, :16].all()
    assert torch.equal(batches.labels[known, 0], whole.labels[known])
    assert (batches.labels[~known] == -1).all()
    x, observed = batches.draw(400, torch.Generator().manual_seed(0))
    assert x.shape == (400, 17, 10)
    assert torch.equal(x.isfinite().all(-1), observed)
    assert 10 < observed[:, 16].sum() < 60  # as it comes
    prepared = prepare(labels_part(labelled=100, missing="complete"), 5)
    kept = prepared.batches
    real = _judged.real_images(prepared)[0]  # what is generated is compared with all
    assert torch.equal(real, whole.images.float() / 16)
    assert torch.equal(kept.data, whole.images[known])
    assert kept.observed is None
    assert torch.equal(kept.labels[:, 0], whole.labels[known])


def test_labelled_rows_can_have_a_share():
    batches = prepare(labels_part(labelled=50, labelled_share=0.3), 0).batches
    _, observed = batches.draw(20_000, torch.Generator().manual_seed(0))
    assert observed[:, 16].float().mean().item() == pytest.approx(0.3, abs=0.015)
    with pytest.raises(ValueError, match="labelled_share is a share"):
        prepare(labels_part(labelled=50, labelled_share=1.0), 0)


def test_faces_have_attributes():
    part = labels_part(name="faces32", size=(8, 8))
    prepared = prepare(part, 0)
    layout = prepared.domain.layout
    count = prepared.labels.shape[1]
    assert (layout.image, layout.pixels) == (16, 192)
    assert layout.choices == (2,) * count
    x, _ = prepared.batches.draw(6, torch.Generator().manual_seed(0))
    assert x.shape == (6, 16 + count, 192)
    _, found = layout.split(x)
    known = prepared.batches.labels
    assert all((row == known).all(1).any() for row in found)


def test_images_are_shifted_in_training_only():
    plain, moved = (prepare(labels_part(tokens="scaled", shift=n), 0) for n in (0, 1))
    seeds = [torch.Generator().manual_seed(0) for _ in range(2)]
    one, other = (p.batches.draw(200, s)[0]
                  for p, s in zip((plain, moved), seeds, strict=True))  # fmt: skip
    assert torch.equal(one[:, 16], other[:, 16])
    still = (one == other).all(2).all(1).float().mean()
    assert 0.05 < still < 0.2  # one of nine moves is none
    assert torch.equal(plain.examples, moved.examples)
    with pytest.raises(ValueError, match="moves whole images"):
        prepare(DataPart("digits", "pixels", shown=0.5, shift=1), 0)
    with pytest.raises(ValueError, match="labels that are missing"):
        prepare(labels_part(shown=0.5), 0)


def test_images_with_labels_are_mirrored_too():
    """All that changes images at once; labels stay where they are."""
    changes = {"labelled": 100, "shift": 1, "flip": True}
    plain, moved = (prepare(labels_part(**each), 0) for each in ({}, changes))
    rows = moved.batches.data[:200], moved.batches.labels[:200]
    assert (rows[1] == -1).any()
    noise = torch.Generator().manual_seed(4)
    wanted = mirror_half(shift(rows[0], 1, noise), noise)
    wanted = plain.domain.transform(wanted, noise, rows[1])
    found = moved.batches.transform(rows[0], noise.manual_seed(4), rows[1])
    torch.testing.assert_close(found, wanted, rtol=0, atol=0, equal_nan=True)
    assert torch.equal(plain.examples, moved.examples)


# ------------------------------------------------------------------ GANs

GAN = """
data.name = "digits"
data.tokens = "scaled"
data.size = [2, 2]
[model]
kind = "gan"
width = 8
depth = 1
heads = 2
latent = 3
noise = 2
[training]
steps = 4
batch = 4
log = 2
[adversarial]
depth = 2
communication = 1.0
[evaluate]
measure = "images"
rows = 40
samples = 60
every = 4
"""


def test_a_gan_is_trained_measured_and_recorded(written, tmp_path):
    recipe = read_recipe(written(GAN), "smoke")
    found = read_run(train(recipe, root=tmp_path / "runs"))
    assert found.model.config == GANSizes(16, 4, 8, 1, 2, latent=3, noise=2)
    assert {"accepted", "ratio"} <= set(found.history[1])
    assert "ratio" not in found.history[0]
    assert set(found.metrics["completions"]) == {"0.1", "0.3", "0.5", "0.75"}
    assert found.metrics["rows"] == 40
    assert found.metrics["joint"]["samples"] == 60
    assert found.example_batch(2).shape == (2, 16, 4)


def test_a_change_to_another_kind_of_model_takes_the_game_away(written):
    other = {"model.kind": "any-conditional", "data.tokens": "patches"}
    path = written(GAN.replace("latent = 3\nnoise = 2\n", ""))
    assert read_recipe(path, "smoke", other).adversarial is None
    assert read_recipe(path, "smoke").adversarial.depth == 2
    with pytest.raises(ValueError, match="has no part 'adversarial'"):
        read_recipe(path, "smoke", {**other, "adversarial.depth": 3})


def test_a_last_look_is_at_the_rows_of_the_report(written):
    recipe = read_recipe(written(GAN), "smoke")
    prepared = prepare(recipe.data, 0)
    space = evaluation._Look(prepared, recipe.evaluate).space
    rows = prepared.test[spread_rows(len(prepared.test), 40)].float() / 16
    torch.testing.assert_close(space.test, space(rows))


def test_symbols_have_no_judges(written):
    text = GAN.split("[adversarial]")[0].replace('"gan"', '"any-conditional"')
    text = text.replace('"scaled"', '"bits"').replace("latent = 3\nnoise = 2\n", "")
    text += '[evaluate]\nmeasure = "images"'
    with pytest.raises(ValueError, match="these tokens are symbols"):
        train_model(read_recipe(written(text), "smoke"), 0)


@pytest.mark.parametrize("steps", [1, 17])
def test_noise_between_grey_levels_goes_again(steps):
    """A model of dequantised values is judged by images as the data are."""
    images = torch.randint(17, (3, 1, 8, 8), generator=torch.Generator()).byte()
    domain = image_domain("patches" if steps > 1 else "scaled", (1, 8, 8), 17)
    assert domain.levels == steps
    prepared = Prepared(domain, Batches(images), images, None, None)
    grey = _judged.grey(prepared, domain.transform(images, None))
    torch.testing.assert_close(grey, images / 16)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"scaled"', '"patches"', "data.tokens must be 'scaled'"),
        ('kind = "gan"', "", "has no part 'adversarial'"),
        ("depth = 2", "deep = 2", "Unknown key 'adversarial.deep'"),
        ("communication = 1.0", "communication = -1.0", "is 0 or more"),
        ("every = 4", "every = -1", "evaluate.every must be at least 0"),
        ("every = 4", "every = 3", "multiple of training.log, got 3 and 2"),
        ("[2, 2]", "[4, 4]", "4 tokens and its judges 16 patches"),
    ],
)
def test_gans_that_cannot_be(written, tmp_path, old, new, said):
    assert old in GAN
    with pytest.raises(ValueError, match=said):
        train(read_recipe(written(GAN.replace(old, new, 1)), "smoke"), root=tmp_path)
