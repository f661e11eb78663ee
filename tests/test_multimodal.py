"""Images and labels in one sequence: laws of the model, its losses, and what it learns.

The oracles are closed forms, a loop by hand, and a law that can be enumerated.
"""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from biglearn_lite import training
from biglearn_lite._adversarial import loss_of_generator, loss_of_judge
from biglearn_lite._draws import first_weights
from biglearn_lite._hybrid import HybridTraining, game_of
from biglearn_lite._label_report import said_of
from biglearn_lite._label_tokens import Layout
from biglearn_lite._report import Asked
from biglearn_lite.gan import (
    Adversarial,
    BigLearnGAN,
    GANSizes,
    discriminator_loss,
    energy_score,
    generator_loss,
)
from biglearn_lite.metrics import (
    Unlabelled,
    block_sources,
    consistency,
    label_report,
    top_sources,
    unit_images,
)
from biglearn_lite.multimodal import (
    ImageLabelDiscriminator,
    ImageLabelModel,
    ImageLabelSizes,
    label_loss,
    number_loss,
    row_loss,
)
from biglearn_lite.runs import load_run, read_run, save_run
from biglearn_lite.tasks import Task, TaskSampler, modalities
from biglearn_lite.training import Batches, Settings, fit, mean_targets

pytestmark = pytest.mark.usefixtures("one_thread")

MATCHINGS = ("likelihood", "hybrid")
SMALL = {"width": 16, "depth": 2, "heads": 2, "components": 2, "latent": 4, "noise": 2}
LAWS = {
    "classification": 0.2, "generation": 0.1, "completion": 0.2, "joint": 0.2,
    "marginal": 0.1, "within": 0.2,
}  # fmt: skip
GAMES = {"hybrid": {}, "parted": {"label_batch": 5, "score": 1.0, "projection": True}}
B = 12


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def build(matching="likelihood", image=4, pixels=3, classes=5, attributes=2, seed=0):
    """A model whose laws are not flat."""
    sizes = ImageLabelSizes(image, pixels, classes, attributes, matching, **SMALL)
    with first_weights(seed):
        model = ImageLabelModel(sizes)
    generator = seeded(seed + 1)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += 0.3 * noise
    return model.requires_grad_(False)


def labels_of(sizes, generator, rows=B):
    each = [torch.randint(c, (rows,), generator=generator) for c in sizes.choices]
    return torch.stack(each, 1)


def tokens_of(model, seed=2, rows=B):
    sizes, generator = model.config, seeded(seed)
    shape = rows, sizes.image, sizes.pixels
    image = torch.rand(shape, generator=generator) * 2 - 1
    return model.tokens(image, labels_of(sizes, generator, rows))


def tasks_of(model, seed=3, rows=B):
    """Any source and target across modalities, some tokens absent."""
    law = TaskSampler(model.length, joint=0.1, target_ratio=(1.0, 1.0))
    return law.sample(rows, seeded(seed))


def hide(x, mask, cover=torch.nan):
    return x.masked_fill(~mask[..., None], cover)


def only_labels(model, task):
    """The same tasks with their labels as targets; rows without one ask for all."""
    label = model.trunk.is_label
    target = task.target & label
    target = torch.where(target.any(1, True), target, label)
    return Task(task.source & ~target, target)


shapes = st.fixed_dictionaries(
    {
        "matching": st.sampled_from(MATCHINGS),
        "image": st.integers(1, 4),
        "pixels": st.integers(1, 4),
        "classes": st.sampled_from([0, 2, 5]),
        "attributes": st.integers(0, 3),
        "seed": st.integers(0, 99),
    }
).filter(lambda s: s["classes"] or s["attributes"])
few = settings(max_examples=15, deadline=None)


# ------------------------------------------------------------------ tokens


@given(shapes, st.booleans(), st.booleans())
@few
def test_tokens_come_apart_again(shape, whole, named):
    shape["matching"] = "likelihood"
    model = build(**shape)
    sizes, generator = model.config, seeded(shape["seed"])
    image = torch.randn(B, sizes.image, sizes.pixels, generator=generator)
    labels = labels_of(sizes, generator)
    labels[::3] = -1
    image = image if whole or not named else None
    given_ = labels if named else None
    x = model.tokens(image, given_)
    assert x.shape == (B, sizes.length, sizes.values)
    back, found = model.split(x)
    wanted = labels if named else torch.full_like(labels, -1)
    assert torch.equal(found.view(B, -1), wanted)
    assert found.shape == ((B,) if len(sizes.choices) == 1 else labels.shape)
    if image is None:
        assert back.isnan().all()
    else:
        assert torch.equal(back, image)
        assert (x[:, : sizes.image, sizes.pixels :] == 0).all()
    known = (found >= 0).view(B, -1)
    hot = x[:, sizes.image :][known]
    assert (hot.sum(-1) == 1).all()
    assert ((hot == 0) | (hot == 1)).all()
    assert x[:, sizes.image :][~known].isnan().all()


def test_one_label_may_be_flat():
    layout = Layout(2, 3, (4,))
    image, y = torch.zeros(5, 2, 3), torch.tensor([3, 0, -1, 1, 2])
    x = layout.join(image, y)
    torch.testing.assert_close(x, layout.join(image, y[:, None]), equal_nan=True)
    assert torch.equal(layout.split(x)[1], y)
    assert x[0, 2].tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize(
    ("image", "labels", "said"),
    [
        (None, None, "give one of them"),
        ((5, 3, 3), (5, 2), "patches of this model"),
        ((5, 2, 3), (5, 3), r"Labels are whole numbers \(B, 2\)"),
        ((5, 2, 3), (4, 2), "labels for each image"),
        ((5, 2, 3), 7, "Row 0 of the labels is none of its choices"),
        ((5, 2, 3), -2, "none of its choices"),
        ((5, 2, 3), 1.0, "Labels are whole numbers"),
    ],
)
def test_tokens_that_cannot_be(image, labels, said):
    layout = Layout(2, 3, (4, 2))
    image = None if image is None else torch.zeros(image)
    if isinstance(labels, tuple):
        labels = torch.zeros(labels, dtype=torch.int64)
    elif labels is not None:
        labels = torch.full((5, 2), labels)
    with pytest.raises(ValueError, match=said):
        layout.join(image, labels)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"classes": 0}, "A label says something"),
        ({"classes": 1}, "A label says something"),
        ({"attributes": -1}, "attributes"),
        ({"image": 0}, "image"),
        ({"pixels": 0}, "pixels"),
        ({"matching": "gan"}, "matching is one of"),
        ({"width": 10, "heads": 4}, "multiple of heads"),
        ({"latent": 0}, "latent"),
    ],
)
def test_sizes_that_cannot_be(change, said):
    with pytest.raises(ValueError, match=said):
        ImageLabelSizes(**({"image": 4, "pixels": 2, "classes": 3} | change))


# ------------------------------------------------------------------ laws of sample


@given(shapes, st.sampled_from([torch.float32, torch.float64]))
@few
def test_laws_of_sample(shape, dtype):
    model, seed = build(**shape), shape["seed"]
    x, task = tokens_of(model, seed).to(dtype), tasks_of(model, seed)
    before = x.clone()

    def draw(x, seed=5):
        return model.sample(x, task, seeded(seed))

    drawn = draw(x)
    assert torch.equal(x, before)
    assert (drawn.dtype, drawn.shape) == (x.dtype, x.shape)
    assert torch.equal(drawn[task.source], x[task.source])
    assert drawn[task.absent].isnan().all()
    for cover in (torch.nan, torch.inf, 7.0):  # what is not given is not read
        again = draw(hide(x, task.source, cover))
        torch.testing.assert_close(again, drawn, rtol=0, atol=0, equal_nan=True)
    assert not torch.equal(draw(x, 6)[task.target], drawn[task.target])
    sizes = model.config
    patches, labels = model.split(drawn)
    named = task.union[:, sizes.image :]
    assert torch.equal(labels.view(B, -1) >= 0, named)
    most = torch.tensor(sizes.choices)
    assert (labels.view(B, -1) < most).all()
    hot = drawn[:, sizes.image :][named]
    assert ((hot == 1).sum(-1) == 1).all()
    assert (hot.abs().sum(-1) == 1).all()
    made = task.target[:, : sizes.image]
    assert (drawn[:, : sizes.image, sizes.pixels :][made] == 0).all()
    if sizes.matching == "hybrid":
        assert (patches[made].abs() <= 1).all()


@given(shapes)
@few
def test_log_prob_reads_source_and_target_only(shape):
    model, seed = build(**shape), shape["seed"]
    x, task = tokens_of(model, seed), tasks_of(model, seed)
    if model.config.matching == "hybrid":
        task = only_labels(model, task)
    said = model.log_prob(x, task)
    assert said.isfinite().all()
    for cover in (torch.nan, torch.inf, 7.0):
        assert torch.equal(model.log_prob(hide(x, task.union, cover), task), said)
    laws = model.label_laws(x, task)
    for cover in (torch.nan, 7.0):
        again = model.label_laws(hide(x, task.source, cover), task)
        assert torch.equal(again, laws)


@pytest.mark.parametrize("matching", MATCHINGS)
def test_what_does_not_fit(matching):
    model = build(matching)
    x, task = tokens_of(model), tasks_of(model)
    task = task[task.source[:, model.config.image]]  # the class is given
    x = x[: len(task)]
    assert len(task)
    spoilt = x.clone()
    spoilt[:, model.config.image, 1] = 0.5
    beyond = x.clone()
    beyond[:, model.config.image :] = F.one_hot(torch.tensor(4), 5).float()
    for wrong, said in (
        (spoilt, "Row 0 has a label at position 4 that is no one-hot"),
        (beyond, "has a label at position [56] that is no one-hot"),
        (x[:, 1:], "reads tokens"),
        (x.masked_fill(torch.ones(1, 1, 1).bool(), torch.nan), "not finite"),
    ):
        where = Task.conditional(model.trunk.is_label[None]).expand(len(x))
        with pytest.raises(ValueError, match=said):
            model.sample(wrong, where)
        with pytest.raises(ValueError, match=said):
            model.label_laws(wrong, where)
    for long in (Task.joint(len(x), 8), Task.joint(len(x) + 1, 7)):
        for ask in (model.sample, model.log_prob, model.label_laws):
            with pytest.raises(ValueError, match="a row for each sample"):
                ask(x, long)
    with pytest.raises(ValueError, match="boolean mask"):
        model.label_log_prob(x, torch.zeros(len(x), model.length))


def test_a_hybrid_has_no_density_of_patches():
    model = build("hybrid")
    x = tokens_of(model)
    with pytest.raises(ValueError, match="no density"):
        model.log_prob(x, Task.joint(B, model.length))
    with pytest.raises(ValueError, match=r"latent needs the shape \(12, 4\)"):
        model.sample(x, Task.joint(B, model.length), latent=torch.zeros(B, 9))


def test_a_class_or_attributes_must_be_there():
    model = build(classes=0)
    x, task = tokens_of(model), tasks_of(model)
    with pytest.raises(ValueError, match="ask attribute_log_prob"):
        model.label_log_prob(x, task)
    model = build(attributes=0)
    x, task = tokens_of(model), tasks_of(model)
    with pytest.raises(ValueError, match="ask label_log_prob"):
        model.attribute_log_prob(x, task)


# ------------------------------------------------------------------ laws of labels


@given(shapes)
@few
def test_label_laws_are_laws(shape):
    """They sum to one, are those of `log_prob`, and sure of what is given."""
    model, seed = build(**shape), shape["seed"]
    x, task, sizes = tokens_of(model, seed), tasks_of(model, seed), model.config
    laws = model.label_laws(x, task.source)
    torch.testing.assert_close(laws.exp().sum(-1), torch.ones(laws.shape[:2]))
    parts = []
    if sizes.classes:
        parts += list(model.label_log_prob(x, task)[:, None].unbind(1))
    if sizes.attributes:
        parts += list(model.attribute_log_prob(x, task).unbind(1))
    labels = model.split(x)[1].view(B, -1)
    for place, (part, choices) in enumerate(zip(parts, sizes.choices, strict=True)):
        assert part.shape == (B, choices)
        assert torch.equal(part, laws[:, place, :choices])
        assert (laws[:, place, choices:] == -torch.inf).all()
        here = sizes.image + place
        is_given = task.source[:, here]
        true = part.gather(1, labels[:, place, None])[:, 0]
        assert (true[is_given] == 0).all()
        target = torch.zeros_like(task.source)
        target[:, here] = True
        rows = ~is_given
        if rows.any():
            asked = Task(task.source[rows], target[rows])
            torch.testing.assert_close(model.log_prob(x[rows], asked), true[rows])


@pytest.mark.parametrize("matching", MATCHINGS)
def test_a_label_depends_on_the_source_alone(matching):
    """Whatever else is asked; the laws are not flat, so this says something."""
    model = build(matching, classes=5, attributes=3)
    x = tokens_of(model)
    label = model.trunk.is_label
    source = (torch.arange(model.length) < 2).expand(B, -1)
    alone = torch.zeros_like(source)
    alone[:, model.config.image] = True
    others = label.expand(B, -1)
    one = model.token_log_prob(x, source, alone)[alone]
    other = model.token_log_prob(x, source, others)[alone]
    assert torch.equal(one, other)
    assert one.std() > 0.05
    changed = model.token_log_prob(x + 0.5, source, alone)[alone]
    assert (changed - one).abs().min() > 1e-4


def test_labels_are_drawn_from_their_law():
    for matching in MATCHINGS:
        model = build(matching, attributes=0)
        x = tokens_of(model)[:1].expand(20_000, -1, -1)
        task = Task([[True, True, False, False, False]], [[False] * 4 + [True]])
        drawn = model.split(model.sample(x, task.expand(len(x)), seeded()))[1]
        shares = drawn.bincount(minlength=5) / len(x)
        law = model.label_log_prob(x[:1], task).exp()[0]
        assert law.max() > 2 * law.min()
        assert ((shares - law).abs() < 4 * (law * (1 - law) / len(x)).sqrt()).all()


def test_labels_come_first():
    model = build(attributes=0)
    x, L = tokens_of(model), model.length
    label = model.trunk.is_label[None].expand(B, -1)
    first = model.log_prob(x, Task.marginal(label))
    then = model.log_prob(x, Task.conditional(label))
    joint = Task.joint(B, L)
    torch.testing.assert_close(model.log_prob(x, joint), first + then)
    left_to_right = model.log_prob(x, joint, order=torch.arange(L))
    assert (left_to_right - first - then).abs().max() > 0.01
    again = Task.marginal(~label), Task.conditional(~label)
    by_hand = sum(model.log_prob(x, task) for task in again)
    torch.testing.assert_close(left_to_right, by_hand)


@pytest.mark.parametrize("matching", MATCHINGS)
def test_an_order_of_its_own_for_each_row(matching):
    """Of labels in a hybrid, of everything else where all has a law."""
    model = build(matching, classes=3, attributes=2)
    x, task = tokens_of(model), tasks_of(model)
    order = torch.rand(B, model.length, generator=seeded(6)).argsort(1)
    drawn = model.sample(x, task, seeded(1), order=order)
    if matching == "likelihood":
        rows = [model.sample(x, task, seeded(1), order=o) for o in order]
        found = torch.stack([row[b] for b, row in enumerate(rows)])
        torch.testing.assert_close(drawn, found, equal_nan=True)
    some = only_labels(model, task)
    said = model.log_prob(x, some, order=order)
    for b in range(B):
        known, total = some.source[b].clone(), 0.0
        for place in order[b].argsort().tolist():
            if some.target[b, place]:
                now = torch.zeros_like(known)
                now[place] = True
                each = model.token_log_prob(x[[b]], known[None], now[None])
                total, known = total + each.sum(), known | now
        torch.testing.assert_close(said[b], total)
    assert torch.equal(drawn[task.source], x[task.source])


# ------------------------------------------------------------------ losses


def test_cross_entropy_of_a_fixed_head():
    """A head that sees nothing says a law of each label, and this is its loss."""
    for matching in MATCHINGS:
        model = build(matching, classes=3, attributes=1)
        head = model.head.labels.logits
        head.weight.zero_()
        head.bias.copy_(torch.tensor([1.0, 0.0, -1.0, 0.5, -0.5]))
        x = tokens_of(model)
        labels = model.split(x)[1]
        task = modalities(6, 2, **LAWS).sample(B, seeded(4))
        kind, yes = head.bias[:3].log_softmax(0), head.bias[3:].log_softmax(0)
        said = torch.stack([kind[labels[:, 0]], yes[labels[:, 1]]], 1)
        total = 0.0
        for row, asked in zip(said, task.target[:, 4:], strict=True):
            total -= row[asked].mean() if asked.any() else 0.0
        assert total > 0
        found = label_loss(model, x, task.source, task.target)
        torch.testing.assert_close(found, total / B)
        laws = model.label_log_prob(x, torch.zeros_like(task.source))
        torch.testing.assert_close(laws, kind.expand(B, -1))


def test_every_task_counts_the_same():
    model = build()
    x, task = tokens_of(model), tasks_of(model)
    said = model.token_log_prob(x, task.source, task.target)
    rows = [-s[t].mean() for s, t in zip(said, task.target, strict=True)]
    assert len({int(t.sum()) for t in task.target}) > 2
    torch.testing.assert_close(row_loss(model, x, task), torch.stack(rows).mean())


def test_a_large_patch_counts_no_more_than_a_label():
    """Against a loop over targets; and with patches of one number, it is `row_loss`."""
    model = build()
    x, task = tokens_of(model), tasks_of(model)
    said = model.token_log_prob(x, task.source, task.target)
    numbers = torch.tensor([3.0] * 4 + [1.0] * (model.length - 4))
    assert model.config.image == 4
    assert model.config.pixels == 3
    rows = [
        -(s / numbers)[t].mean() for s, t in zip(said, task.target, strict=True)
    ]  # fmt: skip
    torch.testing.assert_close(number_loss(model, x, task), torch.stack(rows).mean())
    small = build(pixels=1)
    x, task = tokens_of(small), tasks_of(small)
    same = row_loss(small, x, task)
    torch.testing.assert_close(number_loss(small, x, task), same)


@pytest.mark.parametrize("matching", MATCHINGS)
def test_gradients_are_finite_beside_nan(matching):
    model = build(matching).requires_grad_(True)
    x, task = tokens_of(model), tasks_of(model)
    x = hide(x, task.union)
    if matching == "likelihood":
        row_loss(model, x, task).backward()
    else:
        judge = judge_of(model)
        noise = model.draw_noise(B, seeded())
        made = (x, task.source, task.target, *noise)
        loss_of_generator(model, judge, made, [], Adversarial()).backward()
        label_loss(model, x, task.source, task.target).backward()
        fake = model(*made).detach()
        loss, _ = loss_of_judge(judge, made, fake, [], [], Adversarial(), None)
        assert loss.isfinite()
        loss.backward()
        assert all(p.grad.isfinite().all() for p in judge.parameters())
    assert all(p.grad.isfinite().all() for p in model.parameters())


# ------------------------------------------------------------------ the hybrid


def judge_of(model, projection=True):
    """A judge; with a projection that says something."""
    sizes = model.config
    with first_weights(7):
        judge = ImageLabelDiscriminator(
            Adversarial().judge(sizes), sizes.layout, projection
        )
    if projection:
        nn.init.normal_(judge.values.weight, generator=seeded(5))
    return judge


@pytest.fixture
def hybrid():
    return build("hybrid")


@pytest.fixture(params=[False, True], ids=["plain", "projection"])
def judge(hybrid, request):
    return judge_of(hybrid, request.param)


def test_generated_patches_have_the_real_labels_beside_them(hybrid):
    """Teacher forcing: what is asked of labels is read, and comes back."""
    x, task = tokens_of(hybrid), tasks_of(hybrid)
    label = hybrid.trunk.is_label
    noise = hybrid.draw_noise(B, seeded())
    made = hybrid(x, task.source, task.target, *noise)
    given_ = task.source | task.target & label
    assert torch.equal(made[given_], x[given_])
    assert (made[task.absent] == 0).all()
    asked = task.target & ~label
    assert (made[asked] != x[asked]).any(-1).all()
    # and the labels matter to what is made
    other = x.clone()
    other[:, label] = other[:, label].roll(1, 0)
    moved = (hybrid(other, task.source, task.target, *noise) - made).abs().amax(-1)
    names = hybrid.split(x)[1] != hybrid.split(other)[1]
    differ = (names & (task.target & label)[:, label]).any(1)
    assert differ.any()
    assert (moved[asked & differ[:, None]] > 1e-5).all()


def test_in_a_joint_sample_labels_are_drawn_first(hybrid):
    """Then `sample` is `forward` with the drawn labels in place of the real ones."""
    task = Task.joint(B, hybrid.length)
    blank = torch.full((B, hybrid.length, hybrid.config.values), torch.nan)
    noise = hybrid.draw_noise(B, seeded(8))
    drawn = hybrid.sample(blank, task, seeded(9), latent=noise[0], noise=noise[1])
    label = hybrid.trunk.is_label
    assert hybrid.split(drawn)[1].unique(dim=0).shape[0] > 2
    labels = hide(drawn, label.expand(B, -1))
    by_hand = hybrid(labels, task.source, task.target, *noise)
    assert torch.equal(drawn, by_hand)
    given_ = Task.conditional(label[None]).expand(B)
    again = hybrid.sample(drawn, given_, seeded(1), latent=noise[0], noise=noise[1])
    assert torch.equal(again, drawn)


def test_to_the_judge_all_labels_are_given(judge, hybrid):
    x, task, label = tokens_of(hybrid), tasks_of(hybrid), hybrid.trunk.is_label
    said = judge(x, task.source, task.target)
    given_ = task.source | task.target & label
    assert torch.equal(judge(x, given_, task.target & ~label), said)
    assert torch.equal(judge(hide(x, task.union), task.source, task.target), said)
    without = ~(task.target & ~label).any(1)
    assert (said[without] == 0).all()
    assert (said[~without] != 0).all()
    other = x.clone()
    other[:, label] = other[:, label].roll(1, 0)
    changed = (hybrid.split(other)[1] != hybrid.split(x)[1]) & given_[:, label]
    rows = changed.any(1) & ~without
    assert rows.any()
    assert ((judge(other, task.source, task.target) - said)[rows].abs() > 1e-6).all()


def test_the_judge_has_no_slope_in_a_label(judge, hybrid):
    x, task = tokens_of(hybrid).requires_grad_(), tasks_of(hybrid)
    judge(x, task.source, task.target).sum().backward()
    label = hybrid.trunk.is_label
    assert (x.grad[:, label] == 0).all()
    assert (x.grad[:, ~label].abs().amax(-1) > 0)[task.target[:, ~label]].all()


def test_rows_without_patches_teach_the_players_nothing(judge, hybrid):
    """They are even: log 2 in the loss, and no slope."""
    x, label = tokens_of(hybrid), hybrid.trunk.is_label
    task = Task.conditional(~label[None]).expand(B)
    roles = task.source, task.target
    fake = hybrid(x, *roles, *hybrid.draw_noise(B, seeded()))
    loss, facts = discriminator_loss(judge, x, fake, *roles, 1.0)
    torch.testing.assert_close(loss, torch.tensor(math.log(2)))
    assert (facts[1:] == 0).all()
    loss.backward()
    assert all(not p.grad.any() for p in judge.parameters() if p.grad is not None)


def start(law=None, observed=None, **changes):
    """A training of a tiny hybrid, ready for a step."""
    options = {"steps": 6, "batch": 16, "log": 2, "warmup": 1, "clip": 10.0}
    game = {k: changes.pop(k) for k in list(changes) if hasattr(Adversarial(), k)}
    model = build("hybrid").requires_grad_(True)
    x = tokens_of(model, rows=40)
    return HybridTraining(
        model,
        Batches(x, observed=observed),
        law or modalities(model.length, 3, **LAWS),
        Settings(**(options | changes)),
        Adversarial(**game),
        3,
    )


def grown(net):
    """Names of weights with a gradient that is not zero."""
    return {
        name for name, p in net.named_parameters()
        if p.grad is not None and p.grad.abs().max() > 0
    }  # fmt: skip


def test_which_loss_reaches_what():
    """Cross-entropy stays away from judge and noise; the game from the label head."""
    run = start(batch=64)
    made, _ = run._draw()
    label_loss(run.model, *made[:3]).backward()
    reached = grown(run.model)
    assert "head.labels.logits.weight" in reached
    assert "trunk.content.labels.weight" in reached
    far = {"maker.head.weight", "maker.noise.weight"}
    assert not far & reached
    assert not grown(run.judge)
    run.model.zero_grad()
    run.judge.requires_grad_(False)
    loss_of_generator(run.model, run.judge, made, [], run.game).backward()
    reached = grown(run.model)
    assert far < reached
    assert not {name for name in reached if name.startswith("head.labels")}
    assert not grown(run.judge)


def test_the_loss_of_the_generator_is_both_with_a_weight():
    for weight in (0.0, 2.5):
        run = start(labels=weight)
        made, _ = run._draw()
        total, said = run._generator_losses(made, [])
        played = loss_of_generator(run.model, run.judge, made, [], run.game)
        wanted = label_loss(run.model, *made[:3])
        torch.testing.assert_close(said, wanted)
        torch.testing.assert_close(total, played + weight * wanted)
        run.model.zero_grad()
        total.backward()
        assert ("head.labels.logits.weight" in grown(run.model)) == bool(weight)


def test_labels_with_a_batch_of_their_own():
    """Its rows ask for labels, those of the game for patches, as often as before."""
    run = start(label_batch=400, batch=300, labels=2.5)
    label = run.model.trunk.is_label
    made, task = run._draw()
    assert len(made[0]) == 300
    assert task.target[:, ~label].any(1).all()
    assert run.sampler._shares["within"] == pytest.approx(0.2 / 0.8)
    x, source, target = run._asked(made)
    assert len(x) == 400
    assert target[:, label].any(1).all()
    joint = (~source.any(1) & target.all(1)).double().mean().item()
    assert joint == pytest.approx(0.5, abs=0.1)  # 0.2 of 0.2 + 0.2
    before = run.generator.get_state()
    total, said = run._generator_losses(made, [])
    run.generator.set_state(before)
    asked = run._asked(made)
    torch.testing.assert_close(said, label_loss(run.model, *asked))
    played = loss_of_generator(run.model, run.judge, made, [], run.game)
    torch.testing.assert_close(total, played + 2.5 * said)
    again = run._asked(made)
    assert not torch.equal(asked[0], again[0])


def test_tokens_that_are_asked_for_are_those_of_the_game():
    """Of six steps' worth of targets in the law of its tasks."""
    run = start(label_batch=4, steps=0, targets=6000, batch=0, step_targets=60)
    mean = mean_targets(run.sampler)
    assert run.batch == round(60 / mean)
    assert run.steps == math.ceil(6000 / (run.batch * mean))
    assert run.steps == start(steps=0, targets=6000, batch=run.batch,
                              law=run.sampler).steps  # fmt: skip


def test_labels_are_drawn_in_full_precision():
    seen = []

    def probe(x, generator):
        seen.append(torch.is_autocast_enabled("cpu"))
        return x

    run = start(label_batch=4, half=True)
    run.batches = replace(run.batches, transform=probe)
    run.step(0)
    assert seen == [False] * 3


def test_the_score_of_a_hybrid_is_that_of_patches_given_all_labels():
    run = start(score=2.0, batch=64)
    made, _ = run._draw()
    made = (*made, *run.model.draw_noise(64, seeded(8)))
    total, said = run._generator_losses(made, [])
    x, source, target, *noise = made
    one, other = (
        run.model(x, source, target, *each) for each in (noise[:2], noise[2:])
    )
    patches = target & ~run.model.trunk.is_label
    some = patches.any(1)
    played = generator_loss(run.judge, x, one, source, target)
    drawn = (each[some][:, :4, :3] for each in (one, other, x))  # no label, no padding
    score = energy_score(*drawn, patches[some, :4])
    wanted = played + 2 * score * some.float().mean() + said
    torch.testing.assert_close(total, wanted, rtol=0, atol=1e-4)  # the others: 1e-4


def test_a_projection_adds_a_logit_for_each_label_that_is_given():
    """By hand, from the vectors of the trunk; it starts at nothing and is learned."""
    model = build("hybrid")
    sizes, layout = Adversarial().judge(model.config), model.config.layout
    with first_weights(4):
        plain = ImageLabelDiscriminator(sizes, layout)
    with first_weights(4):
        judge = ImageLabelDiscriminator(sizes, layout, projection=True)
    x, task = tokens_of(model), tasks_of(model)
    roles = task.source, task.target
    torch.testing.assert_close(judge(x, *roles), plain(x, *roles))
    nn.init.normal_(judge.values.weight, generator=seeded(5))
    given, asked = judge.trunk.labels_first(*roles)
    hidden = judge.trunk(x, given, asked, explicit=True, shown=given | asked)
    labels = model.split(x)[1]
    first = [0, 5, 7]  # of classes, and of two attributes
    for row in range(B):
        wanted = plain(x, *roles)[row]
        for m in range(3):
            if given[row, 4 + m] and asked[row].any():
                vector = judge.values.weight[first[m] + labels[row, m]]
                wanted = wanted + vector @ hidden[row, 4 + m]
        torch.testing.assert_close(judge(x, *roles)[row], wanted)
    torch.testing.assert_close(
        judge(hide(x, task.union), *roles), judge(x, *roles), rtol=0, atol=0
    )
    judge(x, *roles).square().sum().backward()
    assert judge.values.weight.grad.abs().max() > 0


def test_all_weights_of_both_players_learn():
    run = start(batch=64, projection=True, label_batch=8)
    nets = run.model, run.judge
    before = [[p.detach().clone() for p in net.parameters()] for net in nets]
    for step in range(3):
        facts = run.step(step)
    assert len(facts) == len(run.facts)
    assert facts[run.facts.index("cross-entropy")] > 0
    for net, old in zip(nets, before, strict=True):
        still = [
            name
            for (name, p), was in zip(net.named_parameters(), old, strict=True)
            if torch.equal(p, was)
        ]
        assert still == []


def test_a_generator_of_an_image_alone_is_the_other_game():
    assert game_of(build("hybrid")) is HybridTraining
    plain = BigLearnGAN(GANSizes(2, 1, width=8, depth=1, heads=1))
    assert game_of(plain) is not HybridTraining


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"communication": 0.5}, "no communication"),
        ({"muon": 1.0}, "muon means"),
        ({"label_batch": 4, "law": TaskSampler(7)}, "label_batch needs tasks.law"),
        ({"label_batch": 4, "law": modalities(7, 3, within=1.0)}, "label_batch needs"),
        (
            {"label_batch": 4, "law": modalities(7, 3, classification=1.0)},
            "leave it out",
        ),
        ({"label_batch": 2.5}, "label_batch must be an integer"),
    ],
)
def test_games_that_cannot_be(changes, said):
    with pytest.raises(ValueError, match=said):
        start(**changes)


def test_a_likelihood_model_plays_no_game():
    model = build().requires_grad_(True)
    data, law = Batches(tokens_of(model)), modalities(7, 3, joint=1.0)
    with pytest.raises(ValueError, match="matching='hybrid', got 'likelihood'"):
        fit(model, data, law, Settings(steps=1, batch=2), seed=0, loss=Adversarial())


@pytest.mark.filterwarnings("ignore")  # of the compiler
@pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)
def test_compiled_equals_eager(graphs, capsys, game):
    """Four whole graphs: samples, and the three losses."""
    eager, whole = start(compile=False, **game), start(compile=True, **game)
    for step in range(3):
        a, b = eager.step(step), whole.step(step)
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert len(graphs) == 4
    assert "eager" not in capsys.readouterr().err


def train(matching, folder=None, minutes=None):
    model = build(
        "likelihood" if matching == "likelihood" else "hybrid"
    ).requires_grad_(True)
    x = tokens_of(model, rows=40)
    observed = torch.ones(40, model.length, dtype=torch.bool)
    observed[10:, model.config.image :] = False
    return fit(
        model,
        Batches(hide(x, observed), observed=observed),
        modalities(model.length, 3, **LAWS),
        Settings(steps=6, batch=8, log=2, warmup=1, rate=1e-3),
        seed=3,
        loss=row_loss if matching == "likelihood" else Adversarial(**GAMES[matching]),
        folder=folder,
        minutes=minutes,
    )


@pytest.mark.parametrize("matching", ["likelihood", *GAMES])
def test_stopped_and_resumed_is_the_same_run(matching, tmp_path, monkeypatch):
    """With most rows unlabelled, whose labels are NaN: nothing of them is read."""
    monkeypatch.setattr(training, "CHECKPOINT_SECONDS", -1.0)
    whole, history, done = train(matching)
    assert done
    assert [entry["step"] for entry in history] == [2, 4, 6]
    assert ("cross-entropy" in history[0]) == (matching in GAMES)
    for _ in range(2):
        assert not train(matching, tmp_path, minutes=0)[2]
    again, resumed, done = train(matching, tmp_path)
    assert done
    assert resumed == history
    for one, other in zip(whole.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_half_precision_changes_little():
    whole, half = (start(half=each, **GAMES["parted"]) for each in (False, True))
    one, other = whole.step(0), half.step(0)
    assert not torch.equal(one, other)
    torch.testing.assert_close(one, other, rtol=0.1, atol=0.03)


@pytest.mark.parametrize("matching", MATCHINGS)
def test_a_run_keeps_the_model(matching, tmp_path):
    model = build(matching)
    x, task = tokens_of(model), tasks_of(model)
    folder = save_run(tmp_path, "toy", "cpu", model, seconds=1, seed=0, examples=x)
    back = read_run(folder)
    assert back.model.config == model.config
    torch.testing.assert_close(back.example_batch(B), x)
    if matching == "hybrid":
        model = model.half().float()
    for one, other in zip(model.parameters(), back.model.parameters(), strict=True):
        assert torch.equal(one, other)
    one, other = (m.sample(x, task, seeded()) for m in (model, back.model))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4, equal_nan=True)


# ------------------------------------------------------------------ what is learned

CLASSES = 3
CELLS = torch.tensor(list(itertools.product(*[range(2)] * 3, range(CLASSES))))
TABLE = torch.rand(2, 2, 2, CLASSES, generator=seeded(3), dtype=torch.float64) + 0.15
TABLE /= TABLE.sum()


@pytest.fixture(scope="module")
def learned():
    """Three patches of one bit, and a class that depends on all of them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    sizes = ImageLabelSizes(
        3, 1, CLASSES, width=32, depth=2, heads=2, components=2
    )  # fmt: skip
    with first_weights(0):
        model = ImageLabelModel(sizes)

    def transform(rows, generator):
        noise = 0.3 * torch.randn(len(rows), 3, 1, generator=generator)
        return sizes.layout.join(rows[:, :3, None] * 2.0 - 1 + noise, rows[:, 3:])

    law = modalities(
        4, 1, classification=0.35, generation=0.1, completion=0.2, joint=0.05,
        within=0.3,
    )  # fmt: skip
    model, _, _ = fit(
        model,
        Batches(CELLS, transform, probabilities=TABLE.flatten()),
        law,
        Settings(steps=400, batch=512, rate=5e-3, warmup=20, log=100, average=0.98),
        seed=1,
        loss=row_loss,
    )
    torch.set_num_threads(threads)
    return model.requires_grad_(False)


def bit_law(model, x, source, place):
    """P(bit = 1 | x_S) of a patch: the mass of its mixture above 0."""
    target = torch.zeros_like(source)
    target[:, place] = True
    hidden = model.hidden(x, source, target)[:, place]
    weights, means, scales = model.head.patches.laws(hidden)
    above = torch.special.ndtr(means[..., 0] / scales[..., 0])
    return (weights.exp() * above).sum(-1).double()


def joint_table(model, x):
    """p(x, y) of every cell, by the chain rule: the class first, then bit by bit."""
    source = torch.zeros(len(CELLS), 4, dtype=torch.bool)
    p = model.label_log_prob(x, source).exp().double().gather(1, CELLS[:, 3:])[:, 0]
    source[:, 3] = True
    for place in range(3):
        up = bit_law(model, x, source, place)
        p = p * torch.where(CELLS[:, place] == 1, up, 1 - up)
        source[:, place] = True
    return p.view(TABLE.shape)


def summed_out(table, seen):
    """p(y | x_S) of every cell, from a table of the joint law."""
    hidden = [place for place in range(3) if not seen[place]]
    rest = table.sum(hidden, keepdim=True) if hidden else table
    rest = rest.expand(TABLE.shape)
    return (rest / rest.sum(-1, keepdim=True)).view(8, CLASSES)


def apart(one, other):
    """Mean total variation over the contexts, each as often as it comes up."""
    often = TABLE.sum(-1).flatten()
    return (often * (one - other).abs().sum(-1) / 2).sum().item()


def test_a_classifier_is_what_is_summed_out_of_the_joint(learned):
    x = learned.tokens(CELLS[:, :3, None] * 2.0 - 1, CELLS[:, 3])
    joint = joint_table(learned, x)
    assert joint.sum().item() == pytest.approx(1, abs=1e-6)
    for seen in itertools.product([False, True], repeat=3):
        source = torch.tensor([*seen, False]).expand(len(CELLS), -1)
        said = learned.label_log_prob(x, source).exp().double()
        torch.testing.assert_close(said.sum(1), torch.ones(len(said)).double())
        said = said.view(8, CLASSES, CLASSES)[:, 0]
        assert apart(said, summed_out(joint, seen)) < 0.07
        assert apart(said, summed_out(TABLE, seen)) < 0.06
    # which says something: a law that looks at nothing is far away
    nothing = summed_out(TABLE, (False,) * 3)
    assert apart(nothing, summed_out(TABLE, (True,) * 3)) > 0.12


def test_questions_of_one_learned_law_belong_together(learned):
    rows = TABLE.flatten().multinomial(400, True, generator=seeded(4))
    noise = 0.3 * torch.randn(400, 3, 1, generator=seeded(5))
    cells = CELLS[rows]
    x = learned.tokens(cells[:, :3, None] * 2.0 - 1 + noise, cells[:, 3])
    found = consistency(learned, x)
    assert abs(found["mean"]) < 0.05
    assert found["spread"] < 0.25
    assert found["mean a pixel"] == pytest.approx(found["mean"] / 3)
    fresh = build(image=3, pixels=1, classes=CLASSES, attributes=0)
    assert consistency(fresh, x)["spread"] > 0.4


# ------------------------------------------------------------------ what is measured


def test_a_model_that_looks_at_nothing_is_consistent():
    """Then x and y are independent, and the four terms cancel exactly."""
    model = build(attributes=1)
    for name, weights in model.head.named_parameters():
        if name.endswith("weight"):
            weights.zero_()
    found = consistency(model, tokens_of(model))
    assert abs(found["mean"]) < 1e-4
    assert found["spread"] < 1e-4
    assert found["log p(x)"] == pytest.approx(found["log p(x given y)"], abs=1e-3)


def test_consistency_by_hand():
    model = build(classes=4, attributes=0)
    x = tokens_of(model)
    y, nothing = model.split(x)[1], torch.zeros(B, 5, dtype=torch.bool)
    label = model.trunk.is_label.expand(B, -1)
    posterior = model.label_log_prob(x, ~label).gather(1, y[:, None])[:, 0]
    prior = model.label_log_prob(x, nothing).gather(1, y[:, None])[:, 0]
    patches = [model.log_prob(x, Task(source, ~label)) for source in (nothing, label)]
    gap = (posterior + patches[0] - patches[1] - prior).double()
    found = consistency(model, x)
    assert found["mean"] == pytest.approx(gap.mean().item(), rel=1e-4)
    assert found["spread"] == pytest.approx(gap.std(correction=0).item(), rel=1e-4)
    assert found["log p(x)"] == pytest.approx(patches[0].mean().item(), rel=1e-5)


def test_label_facts_of_a_known_law():
    law = torch.tensor([[0.7, 0.2, 0.1], [0.5, 0.5, 0.0], [0.1, 0.3, 0.6]]).double()
    labels = torch.tensor([0, 1, 2])
    found = said_of(law.log()[:, None], labels[:, None])
    assert found["accuracy"] == pytest.approx(2 / 3)
    wanted = (math.log(0.7) + math.log(0.5) + math.log(0.6)) / 3
    assert found["log likelihood"] == pytest.approx(wanted)
    # three bins with a row each: |1 - .7|, |0 - .5|, |1 - .6|
    assert found["calibration error"] == pytest.approx((0.3 + 0.5 + 0.4) / 3)


@given(st.integers(1, 8), st.integers(1, 8), st.floats(0.02, 1), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_blocks_are_rectangles(high, wide, share, seed):
    found = block_sources(20, (high, wide), share, seeded(seed)).view(20, high, wide)
    rows, columns = found.any(2), found.any(1)
    assert torch.equal(found, rows[:, :, None] & columns[:, None])
    for sides in (rows, columns):
        assert (sides.sum(1) == sides.sum(1)[0]).all()
        jumps = sides.int().diff(dim=1, prepend=torch.zeros(20, 1).int())
        assert (jumps == 1).sum(1).max() == 1  # one piece
    assert found[0].sum() >= 1
    if share == 1:
        assert found.all()
    height = rows.sum(1)[0].item()
    nearest = min(
        range(1, wide + 1), key=lambda w: abs(share * high * wide - w * height)
    )
    gap = abs(found[0].sum().item() - share * high * wide)
    assert gap <= abs(nearest * height - share * high * wide) + height / 2 + 1e-9


def test_the_top_comes_row_by_row():
    assert top_sources(2, (2, 3), 0.5).tolist() == [[True] * 3 + [False] * 3] * 2
    assert top_sources(1, (4, 4), 1.0).all()


class Copyist(ImageLabelModel):
    """Shows a test image of the class it is asked for, and names what it has seen."""

    def remember(self, x):
        self.x, self.y = x, self.split(x)[1]
        return self

    def label_laws(self, x, source):
        rows = (x[:, None] - self.x[None])[:, :, : self.config.image]
        seen = source[:, None, : self.config.image, None]
        near = torch.where(seen, rows, 0.0).square().sum((2, 3)).argmin(1)
        hot = F.one_hot(self.y[near], 10).double()
        return (hot * 0.98 + 0.002).log()[:, None]

    def sample(self, x, task, generator=None):
        named = self.split(x)[1]
        drawn = torch.randint(10, named.shape, generator=generator)
        named = torch.where(named < 0, drawn, named)
        rows = [(self.y == each).nonzero()[:, 0] for each in range(10)]
        picks = torch.rand(len(x), generator=generator)
        chosen = [
            rows[y][int(p * len(rows[y]))] for y, p in zip(named, picks, strict=True)
        ]
        return self.x[torch.stack(chosen)]


@pytest.fixture(scope="module")
def digits():
    """Judges, and 200 test digits with what a model of them is."""
    judges = load_run("digits-judge", "cpu").model.eval()
    test, labels = unit_images("digits", "test")
    kept = torch.arange(0, len(test), 2)[:180]
    return judges, unit_images("digits")[0], test[kept], labels[kept]


def asked_copyist(test, labels, judges):
    """A model that knows the test digits, and tokens of them."""
    from biglearn_lite.data import patchify, unpatchify

    sizes = ImageLabelSizes(16, 4, 10, **SMALL)
    layout, model = sizes.layout, Copyist(sizes)
    x = layout.join(patchify(test, 2), labels)
    model.remember(x)
    asked = Asked(
        model,
        judges,
        tokens=lambda images: layout.join(patchify(images, 2), None),
        restore=lambda t: unpatchify(t[:, :16, :4], 2, (1, 8, 8)),
        generator=seeded(),
        chunk=64,
    )
    return asked, x


def test_the_report_of_a_model_that_knows(digits):
    judges, train_, test, labels = digits
    asked, x = asked_copyist(test, labels, judges)
    found = label_report(asked, train_, test, x, labels[:, None], samples=700, draws=4)
    whole = found["classification"]
    assert whole["accuracy"] == 1
    assert whole["log likelihood"] == pytest.approx(math.log(0.982), rel=1e-4)
    assert whole["calibration error"] == pytest.approx(0.018, abs=1e-3)
    for name in ("random", "block", "top"):
        seen = found["seen"][name]
        assert len(seen["accuracy"]) == len(seen["visible"]) == 11
        assert seen["visible"][-1] == seen["accuracy"][-1] == 1
        assert seen["accuracy of the judge"][-1] > 0.9
        assert seen["accuracy of the judge"][0] < 0.8
    made, both = found["generation"], found["joint"]
    assert made["samples"] == 720
    for facts in (made, both):
        assert facts["class accuracy"] == pytest.approx(
            made["class accuracy, real"], abs=0.03
        )
        assert facts["ratio"] < 2
    assert sum(both["label shares"]) == pytest.approx(1)
    assert 0.06 < both["smallest label"] <= 0.1 <= both["largest label"] < 0.14
    assert len(made["class accuracy of each"]) == 10


def test_rows_that_are_read_from_parts(digits):
    """As many as `seen` says, whatever is done with the others; 0: as many as these."""
    _, train_, test, labels = digits
    asked, x = asked_copyist(test, labels, None)
    few, many, both = (
        label_report(asked, train_, test, x, labels[:, None], rows, seen=seen)
        for rows, seen in ((60, 0), (180, 0), (60, 180))
    )
    assert both["seen"] == many["seen"] != few["seen"]
    assert (few["rows"], many["rows"], both["rows"]) == (60, 180, 60)
    assert both["consistency"] == few["consistency"] != many["consistency"]


@pytest.mark.parametrize("matching", MATCHINGS)
def test_labels_left_out(matching):
    """The view of images alone is the model with its labels absent."""
    model = build(matching)
    view = Unlabelled(model)
    assert view.length == 4
    x = tokens_of(model)
    task = TaskSampler(4, target_ratio=(1.0, 1.0)).sample(B, seeded(2))
    drawn = view.sample(model.split(x)[0], task, seeded(3))
    assert drawn.shape == (B, 4, 3)
    assert torch.equal(drawn[task.source], model.split(x)[0][task.source])
    assert drawn[task.absent].isnan().all()
    none = torch.zeros(B, 3, dtype=torch.bool)
    whole = Task(torch.cat([task.source, none], 1), torch.cat([task.target, none], 1))
    again = model.sample(x, whole, seeded(3))[:, :4, :3]
    torch.testing.assert_close(drawn, again, rtol=0, atol=0, equal_nan=True)
