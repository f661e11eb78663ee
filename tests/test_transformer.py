"""The masked trunk: what may be seen is seen, and nothing else."""

import itertools

import pytest
import torch
from torch.nn import functional as F

from biglearn_lite.tasks import (
    Task,
    TaskSampler,
    all_tasks,
    masked_language_model,
    next_token,
)
from biglearn_lite.transformer import (
    MaskedTransformer,
    TransformerSizes,
    attend,
    explicit_attention,
)

REACHES = ("source", "union", "causal")
SMALL = {"length": 5, "width": 16, "depth": 2, "heads": 2}


def trunk(seed=0, **sizes):
    """A trunk in double precision with weights large enough to matter."""
    model = MaskedTransformer(TransformerSizes(**SMALL | sizes)).double()
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = 0.4 * noise
    return model


def tokens(batch, generator, symbols=0, values=0, length=5):
    if symbols:
        return torch.randint(symbols, (batch, length), generator=generator)
    shape = (batch, length, values)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def close(a, b, atol=1e-10):
    torch.testing.assert_close(a, b, rtol=0, atol=atol)


# ------------------------------------------------------------------ attention


def attention_case(generator, keys=6):
    shapes = (2, 3, 4, 5), (2, 3, keys, 5), (2, 3, keys, 7)
    tensors = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    allowed = torch.rand(2, 1, 4, keys, generator=generator) < 0.5
    allowed[..., 0] = True
    return [t.requires_grad_() for t in tensors], allowed


def test_attention_is_what_a_loop_computes(generator):
    (q, k, v), allowed = attention_case(generator)
    values, weights = explicit_attention(q, k, v, allowed)
    for b, h, i in itertools.product(range(2), range(3), range(4)):
        keys = allowed[b, 0, i].nonzero()[:, 0]
        scores = torch.stack([(q[b, h, i] * k[b, h, j]).sum() for j in keys])
        share = (scores / 5**0.5).exp()
        share = share / share.sum()
        close(weights[b, h, i, keys], share)
        close(
            values[b, h, i],
            sum(s * v[b, h, j] for s, j in zip(share, keys, strict=True)),
        )
        assert (weights[b, h, i][~allowed[b, 0, i]] == 0).all()


def test_fast_attention_and_its_twin_agree_in_values_and_gradients(generator):
    inputs, allowed = attention_case(generator)
    fast, none = attend(*inputs, allowed)
    slow, weights = attend(*inputs, allowed, explicit=True)
    assert none is None
    assert weights.shape == (2, 3, 4, 6)
    close(fast, slow)
    towards = torch.randn(fast.shape, generator=generator, dtype=torch.float64)
    for a, b in zip(
        torch.autograd.grad((fast * towards).sum(), inputs),
        torch.autograd.grad((slow * towards).sum(), inputs),
        strict=True,
    ):
        close(a, b)


def test_the_twin_can_be_differentiated_twice(generator):
    inputs, allowed = attention_case(generator)
    torch.autograd.gradgradcheck(
        lambda *qkv: explicit_attention(*qkv, allowed)[0], inputs
    )


@pytest.mark.parametrize("reach", REACHES)
def test_the_two_ways_through_a_trunk_agree(reach, generator):
    model = trunk(symbols=4, reach=reach)
    x = tokens(8, generator, symbols=4)
    task = TaskSampler(5, target_ratio=(1.0, 1.0)).sample(8, generator)
    fast = model(x, task.source, task.target)
    slow = model(x, task.source, task.target, explicit=True)
    close(fast, slow)
    some = list(model.parameters())
    for a, b in zip(
        torch.autograd.grad(fast.square().sum(), some),
        torch.autograd.grad(slow.square().sum(), some),
        strict=True,
    ):
        close(a, b, atol=1e-8)


# ------------------------------------------------------------------ who sees whom


def may_see(reach, task):
    """Written out, one query and key at a time."""
    seen = torch.zeros(len(task), task.length, task.length, dtype=torch.bool)
    for b, q, k in itertools.product(*map(range, seen.shape)):
        given, asked = bool(task.source[b, k]), bool(task.target[b, k])
        in_reach = {
            "source": given,
            "union": given or asked,
            "causal": k < q,
        }[reach]
        seen[b, q, k] = in_reach or q == k
    return seen


@pytest.mark.parametrize("reach", REACHES)
def test_maps_sum_to_one_and_are_zero_where_forbidden(reach, generator):
    task = all_tasks(5)
    model = trunk(values=2, reach=reach)
    x = tokens(len(task), generator, values=2)
    with torch.no_grad():
        maps = model.attention_maps(x, task.source, task.target)
    assert maps.shape == (2, len(task), 2, 5, 5)
    close(maps.sum(-1), torch.ones(2, len(task), 2, 5, dtype=torch.float64))
    seen = may_see(reach, task)[None, :, None].expand_as(maps)
    assert (maps[~seen] == 0).all()
    assert (maps[seen] > 0).all()
    allowed = model.reach(task.source, task.target)
    assert torch.equal(allowed.expand(len(task), 1, 5, 5)[:, 0], may_see(reach, task))


def test_maps_are_those_of_the_forward_pass(generator):
    """Rebuilding the stream from the maps gives what `forward` gives."""
    model = trunk(symbols=4, modulation=3)
    x, task = tokens(6, generator, symbols=4), masked_language_model(5).sample(6)
    style = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    maps = model.attention_maps(x, task.source, task.target, style)
    hidden = model.embed(x, task.source, task.target)
    six = model.modulate(style)[:, None].chunk(6, dim=-1)
    for block, weights in zip(model.blocks, maps, strict=True):
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            a + b for a, b in zip(six, block.own, strict=True)
        )
        normed = block.norm_attention(hidden) * (1 + scale1) + shift1
        value = block.query_key_value(normed)[..., 32:].unflatten(-1, (2, 8))
        mixed = torch.einsum("bhqk,bkhe->bqhe", weights, value).flatten(2)
        hidden = hidden + (1 + gate1) * block.mix(mixed)
        normed = block.norm_perceptron(hidden) * (1 + scale2) + shift2
        wide = F.gelu(block.widen(normed))
        hidden = hidden + (1 + gate2) * block.narrow(wide)
    close(model.norm(hidden), model(x, task.source, task.target, style))


# ------------------------------------------------------------------ leaks


@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("explicit", [False, True])
def test_nothing_outside_the_source_is_read(reach, explicit, generator):
    task = all_tasks(5)
    model = trunk(values=2, reach=reach)
    x = tokens(len(task), generator, values=2)
    covered = torch.where(task.source[..., None], x, torch.nan)
    said = model(x, task.source, task.target, explicit=explicit)
    assert torch.equal(
        said, model(covered, task.source, task.target, explicit=explicit)
    )
    assert said.isfinite().all()
    gradients = torch.autograd.grad(
        model(covered, task.source, task.target, explicit=explicit).square().sum(),
        model.parameters(),
    )
    assert all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("garbage", [-1, 7, 10**12])
def test_any_number_may_stand_outside_the_source(reach, garbage, generator):
    task = all_tasks(5)
    model = trunk(symbols=4, reach=reach)
    x = tokens(len(task), generator, symbols=4)
    covered = torch.where(task.source, x, garbage)
    with torch.no_grad():
        said = model(x, task.source, task.target)
        assert torch.equal(said, model(covered, task.source, task.target))


@pytest.mark.parametrize("reach", REACHES)
def test_the_source_is_read(reach, generator):
    """The other half: what is given and in reach does change what is said."""
    model = trunk(symbols=4, reach=reach)
    x = tokens(1, generator, symbols=4)
    source = torch.tensor([[True, True, False, False, False]])
    other = torch.where(torch.arange(5) == 1, (x + 1) % 4, x)
    gap = (model(x, source, ~source) - model(other, source, ~source)).abs().amax(-1)
    assert (gap[0, 1:] > 1e-3).all()
    if reach == "causal":  # and the first position does not see the second
        assert gap[0, 0] == 0


def test_reach_source_says_the_same_whatever_else_is_asked(generator):
    model, task = trunk(symbols=4), all_tasks(5)
    x = tokens(1, generator, symbols=4).expand(len(task), 5)
    with torch.no_grad():
        said = model(x, task.source, task.target)
        alone = {}  # (S, t) -> what is said when t is the only target
        for s, t, v in zip(task.source, task.target, said, strict=True):
            if t.sum() == 1:
                alone[tuple(s.tolist()), int(t.nonzero())] = v[t]
    for s, t, v in zip(task.source, task.target, said, strict=True):
        for position in t.nonzero()[:, 0].tolist():
            close(v[[position]], alone[tuple(s.tolist()), position])


def test_reach_union_depends_on_what_else_is_asked(generator):
    model = trunk(symbols=4, reach="union")
    x = tokens(1, generator, symbols=4)
    source = torch.tensor([[True, True, False, False, False]])
    one = torch.tensor([[False, False, True, False, False]])
    alone, together = model(x, source, one), model(x, source, ~source)
    assert (alone - together)[0, 2].abs().max() > 1e-3


@pytest.mark.parametrize("reach", ["source", "union"])
def test_what_is_absent_changes_no_other_position(reach, generator):
    """Absent tokens are as if cut out: a shorter trunk says the same."""
    model, task = trunk(values=2, reach=reach), all_tasks(5)
    x = tokens(1, generator, values=2).expand(len(task), 5, 2)
    with torch.no_grad():
        said = model(x, task.source, task.target)
    for row in range(0, len(task), 7):
        kept = task.union[row].nonzero()[:, 0]
        short = trunk(values=2, reach=reach, length=len(kept))
        weights = model.state_dict()
        weights["position"] = weights["position"][kept]
        short.load_state_dict(weights)
        part = (x[[row]][:, kept], task.source[[row]][:, kept])
        close(short(*part, task.target[[row]][:, kept])[0], said[row, kept])


def test_reach_causal_does_not_see_later_positions(generator):
    model, task = trunk(symbols=4, reach="causal"), TaskSampler(5)
    x, drawn = tokens(40, generator, symbols=4), task.sample(40, generator)
    with torch.no_grad():
        said = model(x, drawn.source, drawn.target)
        for t in range(4):
            later = torch.arange(5) > t
            y = torch.where(later, tokens(40, generator, symbols=4), x)
            other = task.sample(40, generator)
            source = torch.where(later, other.source, drawn.source)
            target = torch.where(later, other.target, drawn.target)
            close(model(y, source, target)[:, : t + 1], said[:, : t + 1])


@pytest.mark.parametrize("reach", ["source", "union"])
def test_without_positions_the_order_means_nothing(reach, generator):
    model = trunk(symbols=4, reach=reach)
    with torch.no_grad():
        model.position[:] = model.position[0].clone()
    x = tokens(20, generator, symbols=4)
    task = TaskSampler(5, target_ratio=(1.0, 1.0)).sample(20, generator)
    said = model(x, task.source, task.target)
    order = torch.randperm(5, generator=generator)
    moved = model(x[:, order], task.source[:, order], task.target[:, order])
    close(moved, said[:, order])
    # and with positions it does mean something
    model = trunk(symbols=4, reach=reach)
    said = model(x, task.source, task.target)
    moved = model(x[:, order], task.source[:, order], task.target[:, order])
    assert (moved - said[:, order]).abs().max() > 1e-3


def test_roles_are_told_apart(generator):
    """Nothing but the role differs between an absent token and a target."""
    model = trunk(symbols=4)
    x = tokens(1, generator, symbols=4)
    none = torch.zeros(1, 5, dtype=torch.bool)
    assert (model(x, none, none) - model(x, none, ~none)).abs().max() > 1e-3
    embedded = model.embed(x, none, ~none) - model.embed(x, none, none)
    close(embedded, (model.role[1] - model.role[2]).expand(1, 5, 16))
    close(model.embed(x, none, ~none), (model.position + model.role[1])[None])
    shown = model.embed(x, ~none, none)
    close(shown, model.content(x) + model.position + model.role[0])


# ------------------------------------------------------------------ modulation


def fresh(**sizes):
    torch_state = torch.get_rng_state()
    torch.manual_seed(3)  # the trunk initialises from PyTorch's default generator
    try:
        return MaskedTransformer(TransformerSizes(**SMALL | sizes))
    finally:
        torch.set_rng_state(torch_state)


def test_modulation_starts_without_effect_and_then_has_one(generator):
    model = fresh(symbols=4, modulation=3)
    plain = fresh(symbols=4)
    plain.load_state_dict(
        {k: v for k, v in model.state_dict().items() if k in plain.state_dict()}
    )
    x = tokens(4, generator, symbols=4)
    source = torch.tensor([True, False, True, False, False]).expand(4, 5)
    style = torch.randn(4, 3, generator=generator)
    first = model(x, source, ~source, style)
    close(first, plain(x, source, ~source), atol=1e-6)
    first.square().sum().backward()
    assert model.modulate.weight.grad.abs().max() > 0
    for weight in (model.modulate.weight, *(b.own for b in model.blocks)):
        changed = weight.detach().clone()
        with torch.no_grad():
            weight.copy_(torch.randn(weight.shape, generator=generator))
            said = model(x, source, ~source, style)
            weight.copy_(changed)
        assert (said - first).abs().max() > 1e-3
    with torch.no_grad():  # each row has its own
        model.modulate.weight.normal_(generator=generator)
        style[1:] = style[0]
        said = model(x[:1].expand(4, 5), source, ~source, style)
    close(said[1:], said[:1].expand(3, 5, 16), atol=1e-5)


def test_modulation_must_be_given_exactly_if_there_is_one(generator):
    x, task = tokens(2, generator, symbols=4), Task.joint(2, 5)
    style = torch.zeros(2, 3)
    for call in ("forward", "attention_maps"):
        with pytest.raises(ValueError, match="modulation of width 3, and got none"):
            getattr(fresh(symbols=4, modulation=3), call)(x, task.source, task.target)
        with pytest.raises(ValueError, match="modulation of width 0, and got one"):
            getattr(fresh(symbols=4), call)(x, task.source, task.target, style)


# ------------------------------------------------------------------ shapes, graphs


@pytest.mark.parametrize("reach", REACHES)
def test_one_graph_serves_all_tasks(reach, generator):
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    model, counter = fresh(symbols=4, reach=reach), CompileCounter()

    def loss(x, source, target):
        said = model(x, source, target)
        return torch.where(target[..., None], said, 0.0).square().mean()

    compiled = torch.compile(loss, backend=counter, fullgraph=True)
    samplers = TaskSampler(5), masked_language_model(5), next_token(5)
    tasks = [Task.joint(7, 5), *(s.sample(7, generator) for s in samplers)]
    for task in tasks:
        x = tokens(7, generator, symbols=4)
        x = torch.where(task.source, x, -1)
        close(compiled(x, task.source, task.target), loss(x, task.source, task.target))
    assert counter.frame_count == 1
    torch._dynamo.reset()


@pytest.mark.parametrize("reach", REACHES)
@pytest.mark.parametrize("kind", [{"symbols": 4}, {"values": 3}])
def test_gradients_reach_every_parameter(reach, kind, generator):
    model = trunk(**kind, reach=reach, modulation=2)
    x, task = tokens(30, generator, **kind), TaskSampler(5, target_ratio=(1.0, 1.0))
    task = task.sample(30, generator)
    style = torch.randn(30, 2, generator=generator, dtype=torch.float64)
    towards = torch.randn(16, generator=generator, dtype=torch.float64)
    said = model(x, task.source, task.target, style)
    (said * towards).sin().sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-9, name


def test_no_rows_and_one_position(generator):
    task = Task.joint(0, 5)
    assert trunk(symbols=4)(tokens(0, generator, 4), *masks(task)).shape == (0, 5, 16)
    single = trunk(values=1, length=1)
    x = torch.full((3, 1, 1), torch.nan, dtype=torch.float64)
    said = single(x, *masks(Task.joint(3, 1)))
    close(said, said[:1].expand(3, 1, 16))


def masks(task):
    return task.source, task.target


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_symbols_of_any_integer_type(dtype, generator):
    model, task = trunk(symbols=4), TaskSampler(5).sample(9, generator)
    x = tokens(9, generator, symbols=4)
    assert torch.equal(model(x, *masks(task)), model(x.to(dtype), *masks(task)))


def test_floats_of_any_precision(generator):
    model, task = trunk(values=2).float(), TaskSampler(5).sample(9, generator)
    x = tokens(9, generator, values=2)
    said = model(x, *masks(task))
    assert said.dtype == torch.float32
    assert torch.equal(said, model(x.float(), *masks(task)))


# ------------------------------------------------------------------ sizes


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"length": 0}, "length must be an integer of at least 1, got 0"),
        ({"width": 0}, "width must be"),
        ({"depth": -1}, "depth must be"),
        ({"heads": 0}, "heads must be"),
        ({"heads": 2.0}, "heads must be an integer"),
        ({"modulation": -1}, "modulation must be an integer of at least 0"),
        ({"symbols": -1}, "symbols must be"),
        ({"values": -3, "symbols": 0}, "values must be"),
        ({"symbols": 0}, "set one of the two, got symbols=0 and values=0"),
        ({"values": 3}, "set one of the two, got symbols=4 and values=3"),
        ({"heads": 3}, "multiple of heads, got 16 and 3; take for instance width=48"),
        ({"reach": "all"}, r"reach is one of \('source', 'union', 'causal'\)"),
    ],
)
def test_sizes_that_make_no_trunk(wrong, rule):
    with pytest.raises(ValueError, match=rule):
        TransformerSizes(**SMALL | {"symbols": 4} | wrong)


def test_sizes_are_frozen():
    sizes = TransformerSizes(length=3, symbols=2)
    with pytest.raises(AttributeError):
        sizes.length = 4
