"""Likelihood models against enumeration, hand-written loops and SciPy."""

import itertools
import math

import pytest
import torch
from scipy import integrate, stats
from torch.nn import functional as F

from biglearn_lite._heads import LEAST_SCALE, MixtureHead, SymbolHead
from biglearn_lite.likelihood import (
    AnyConditionalSizes,
    AnyConditionalTransformer,
    CausalTransformer,
    matching_loss,
    random_order,
)
from biglearn_lite.tasks import (
    Task,
    TaskSampler,
    all_tasks,
    masked_language_model,
    next_token,
)

SMALL = {"width": 16, "depth": 2, "heads": 2}
READINGS = ("autoregressive", "factorised")


def randomised(model, seed=0, scale=0.4):
    """Double precision, and weights large enough that the laws are not flat."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.double().parameters():
        noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = scale * noise
    return model.requires_grad_(False)


def symbol_model(length=3, symbols=3, seed=0, kind=AnyConditionalTransformer):
    sizes = AnyConditionalSizes(length, symbols=symbols, **SMALL)
    return randomised(kind(sizes), seed)


def number_model(length=3, values=2, components=3, seed=0, scale=0.4):
    sizes = AnyConditionalSizes(length, 0, values, components, **SMALL)
    return randomised(AnyConditionalTransformer(sizes), seed, scale)


def close(a, b, atol=1e-10):
    torch.testing.assert_close(
        torch.as_tensor(a), torch.as_tensor(b), rtol=0, atol=atol
    )


def sequences(length, symbols):
    return torch.tensor(list(itertools.product(range(symbols), repeat=length)))


def symbols_of(batch, length, generator, symbols=3):
    return torch.randint(symbols, (batch, length), generator=generator)


def numbers_of(batch, length, values, generator):
    shape = (batch, length, values)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def by_hand(model, x, source, target, order=None, groups=None):
    """One row, one target after another, or group after group: log p(x_T | x_S)."""
    rank = range(len(source)) if order is None else order.tolist()
    asked = sorted(target.nonzero()[:, 0].tolist(), key=lambda t: rank[t])
    groups = [[t] for t in asked] if groups is None else groups(asked)
    assert sorted(t for group in groups for t in group) == sorted(asked)
    known, total = source.clone(), 0.0
    for group in groups:
        now = torch.zeros_like(target)
        now[group] = True
        said = model.token_log_prob(x[None], known[None], now[None])[0]
        total, known = total + said[group].sum(), known | now
    return total


def in_steps(count):
    """Groups of sizes that differ by one at most, the larger ones anywhere."""

    def split(asked):
        n = min(count, len(asked))
        group = [place * n // len(asked) for place in range(len(asked))]
        parts = [[t for t, g in zip(asked, group, strict=True) if g == i]
                 for i in range(n)]  # fmt: skip
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        return parts

    return split


# ------------------------------------------------------------------ laws sum to one


@pytest.mark.parametrize("steps", [None, 1, 2])
@pytest.mark.parametrize(("length", "symbols"), [(3, 3), (3, 4), (4, 3)])
def test_probabilities_of_all_completions_sum_to_one(length, symbols, steps, generator):
    model, every = symbol_model(length, symbols), all_tasks(length)
    if length == 4:
        every = every[torch.randperm(65, generator=generator)[:12]]
    table = sequences(length, symbols)
    x = table.repeat(len(every), 1)
    task = every[torch.arange(len(every)).repeat_interleave(len(table))]
    order = random_order(len(every), length, generator)
    order = order.repeat_interleave(len(table), 0)
    for ranks in (None, order):
        p = model.log_prob(x, task, order=ranks, steps=steps).exp()
        # absent tokens are not read, so each completion comes up symbols^absent times
        times = float(symbols) ** every.absent.sum(1)
        sources = float(symbols) ** every.source.sum(1)
        sums = p.view(len(every), -1).sum(1) / times
        close(sums, sources.double())
        for row in range(0, len(every), 5):  # and for each value of the source
            powers = float(symbols) ** torch.arange(length) * every.source[row]
            code = (x.view(len(every), -1, length)[row] * powers).sum(1)
            which = code.unique(return_inverse=True)[1]
            mass = torch.zeros(int(sources[row]), dtype=torch.float64)
            mass.index_add_(0, which, p.view(len(every), -1)[row] / times[row])
            close(mass, torch.ones_like(mass))


def test_the_laws_are_not_flat():
    """Else all tests here would be weak."""
    model, table = symbol_model(), sequences(3, 3)
    joint = Task.joint(27, 3)
    p = model.log_prob(table, joint).exp()
    assert p.max() > 3 * p.min()
    other = model.log_prob(table, joint, order=torch.tensor([2, 1, 0])).exp()
    product = model.log_prob(table, joint, reading="factorised").exp()
    assert (p - other).abs().max() > 0.01
    assert (p - product).abs().max() > 0.01


# ------------------------------------------------------------------ the chain rule


@pytest.mark.parametrize("kind", ["symbols", "numbers"])
@pytest.mark.parametrize("orders", ["none", "one", "each"])
def test_log_prob_is_the_chain_rule(kind, orders, generator):
    length, batch = 5, 40
    if kind == "symbols":
        model, x = symbol_model(5), symbols_of(batch, 5, generator)
    else:
        model, x = number_model(5), numbers_of(batch, 5, 2, generator)
    task = TaskSampler(length, target_ratio=(1.0, 1.0)).sample(batch, generator)
    order = {
        "none": None,
        "one": random_order(1, length, generator)[0],
        "each": random_order(batch, length, generator),
    }[orders]
    said = model.log_prob(x, task, order=order)
    for row in range(batch):
        rank = order if order is None or order.ndim == 1 else order[row]
        close(said[row], by_hand(model, x[row], *masks(task, row), rank))


def masks(task, row):
    return task.source[row], task.target[row]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9])
def test_steps_are_groups_of_targets(steps, generator):
    model, x = symbol_model(7), symbols_of(40, 7, generator)
    task = TaskSampler(7, target_ratio=(1.0, 1.0)).sample(40, generator)
    order = random_order(40, 7, generator)
    said = model.log_prob(x, task, order=order, steps=steps)
    for row in range(40):
        args = model, x[row], *masks(task, row), order[row]
        close(said[row], by_hand(*args, in_steps(steps)))
        # a row's answer does not depend on its neighbours' number of targets
        alone = model.log_prob(x[[row]], task[row], order=order[row], steps=steps)
        close(alone[0], said[row])


def test_the_factorised_reading_is_one_step_and_one_pass(generator):
    model, x = symbol_model(5), symbols_of(40, 5, generator)
    task = TaskSampler(5, target_ratio=(1.0, 1.0)).sample(40, generator)
    said = model.log_prob(x, task, reading="factorised")
    assert torch.equal(said, model.log_prob(x, task, steps=1))
    assert torch.equal(said, model.log_prob(x, task, reading="factorised", steps=1))
    close(said, model.token_log_prob(x, task.source, task.target).sum(1))
    order = random_order(40, 5, generator)  # which has no order
    close(said, model.log_prob(x, task, reading="factorised", order=order))


def test_ranks_may_be_any_different_numbers(generator):
    model, x = symbol_model(4), symbols_of(8, 4, generator)
    task, order = Task.joint(8, 4), torch.tensor([3, 0, 2, 1])
    said = model.log_prob(x, task, order=order)
    close(said, model.log_prob(x, task, order=10 * order - 5))
    close(said, model.log_prob(x, task, order=order.tolist()))
    task = Task([False, True, False, False], [True, False, True, False]).expand(8)
    said = model.log_prob(x, task, order=order)
    for scale in (-1, 10):  # backwards, and beyond the length
        moved = model.log_prob(x, task, order=scale * order + 7)
        backwards = model.log_prob(x, task, order=3 - order)
        close(moved, said if scale > 0 else backwards)
        seeds = (torch.Generator().manual_seed(9) for _ in range(2))
        same = order if scale > 0 else 3 - order
        drawn = model.sample(x, task, next(seeds), order=scale * order + 7)
        assert torch.equal(drawn, model.sample(x, task, next(seeds), order=same))
    task = Task.joint(8, 4)
    left_to_right = model.log_prob(x, task, order=torch.arange(4))
    close(left_to_right, model.log_prob(x, task))


@pytest.mark.parametrize("rows", [1, 3, 7, 1000])
def test_how_many_rows_go_at_once_does_not_matter(rows, generator):
    model, x = symbol_model(5), symbols_of(9, 5, generator)
    task = TaskSampler(5).sample(9, generator)
    close(model.log_prob(x, task, rows=rows), model.log_prob(x, task))


def test_log_prob_has_gradients(generator):
    model = symbol_model(4).requires_grad_(True)
    x, task = symbols_of(20, 4, generator), TaskSampler(4).sample(20, generator)
    model.log_prob(x, task, rows=7).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().max() > 0, name


def test_targets_are_read_and_only_they_count(generator):
    model, x = symbol_model(4), symbols_of(1, 4, generator)
    task = Task([True, False, False, False], [False, True, False, True])
    said = model.log_prob(x, task)
    for position, moved in ((0, True), (1, True), (2, False), (3, True)):
        other = x.clone()
        other[0, position] = (x[0, position] + 1) % 3
        gap = (model.log_prob(other, task) - said).abs().item()
        assert (gap > 1e-6) is moved, position
    tokens = model.token_log_prob(x, task.source, task.target)
    assert (tokens[0, [0, 2]] == 0).all()
    assert (tokens[0, [1, 3]] < 0).all()


def test_random_order_is_uniform(generator):
    order = random_order(6000, 3, generator)
    assert (order.sort(1).values == torch.arange(3)).all()
    _, counts = order.unique(dim=0, return_counts=True)
    assert len(counts) == 6
    assert stats.chisquare(counts.numpy()).pvalue > 1e-4


# ------------------------------------------------------------------ laws of sample


def sample_case(kind, dtype, generator, batch=30, length=5):
    task = TaskSampler(length, target_ratio=(1.0, 1.0)).sample(batch, generator)
    if kind == "symbols":
        return (
            symbol_model(length),
            symbols_of(batch, length, generator).to(dtype),
            task,
        )
    x = numbers_of(batch, length, 2, generator).to(dtype)
    return number_model(length).float(), x, task


@pytest.mark.parametrize("options", [{}, {"steps": 2}, {"reading": "factorised"}])
@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("symbols", torch.int64),
        ("symbols", torch.int32),
        ("symbols", torch.int8),
        ("numbers", torch.float64),
        ("numbers", torch.float32),
    ],
)
def test_laws_of_sample(kind, dtype, options, generator):
    model, x, task = sample_case(kind, dtype, generator)
    before = x.clone()

    def draw(x):
        seeded = torch.Generator().manual_seed(5)
        return model.sample(x, task, seeded, **options)

    drawn = draw(x)
    assert torch.equal(x, before)  # what came is left alone
    assert drawn.dtype == x.dtype
    assert drawn.shape == x.shape
    assert not drawn.requires_grad
    assert torch.equal(drawn[task.source], x[task.source])
    absent = drawn[task.absent]
    assert (absent == -1).all() if kind == "symbols" else absent.isnan().all()
    assert torch.equal(drawn[task.union], draw(x)[task.union])
    if kind == "symbols":
        assert ((drawn[task.target] >= 0) & (drawn[task.target] < 3)).all()
        covers = (-1, 99)
    else:
        assert drawn[task.target].isfinite().all()
        covers = (torch.nan, torch.inf, -7.0)
    for cover in covers:  # what is not given is not read
        covered = x.masked_fill(~(task.source if kind == "symbols" else
                                  task.source[..., None]), cover)  # fmt: skip
        assert torch.equal(draw(covered)[task.union], drawn[task.union])
    other = model.sample(x, task, torch.Generator().manual_seed(6), **options)
    assert not torch.equal(other[task.target], drawn[task.target])


@pytest.mark.parametrize("kind", ["symbols", "numbers"])
def test_log_prob_reads_source_and_target_only(kind, generator):
    dtype = torch.int64 if kind == "symbols" else torch.float64
    model, x, task = sample_case(kind, dtype, generator)
    said = model.log_prob(x, task)
    union = task.union if kind == "symbols" else task.union[..., None]
    for cover in (-1, 99) if kind == "symbols" else (torch.nan, torch.inf):
        assert torch.equal(model.log_prob(x.masked_fill(~union, cover), task), said)


def test_gradients_of_the_loss_are_finite_beside_nan(generator):
    model = number_model(4).requires_grad_(True)
    task = TaskSampler(4, target_ratio=(1.0, 1.0)).sample(20, generator)
    x = numbers_of(20, 4, 2, generator).masked_fill(task.absent[..., None], torch.nan)
    matching_loss(model, x, task).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("kind", ["symbols", "numbers"])
def test_no_rows(kind, generator):
    dtype = torch.int64 if kind == "symbols" else torch.float64
    model, x, task = sample_case(kind, dtype, generator, batch=3)
    for options in ({}, {"reading": "factorised"}, {"steps": 2}):
        assert model.sample(x[:0], task[:0], generator, **options).shape == x[:0].shape
        assert model.log_prob(x[:0], task[:0], **options).shape == (0,)


def test_float64_sources_reach_a_float32_model_as_they_are(generator):
    model, x, task = sample_case("numbers", torch.float64, generator)
    x = x + 1e-12  # lost in single precision
    drawn = model.sample(x, task, generator)
    assert torch.equal(drawn[task.source], x[task.source])
    close(model.log_prob(x, task), model.log_prob(x.float(), task), atol=1e-4)


# ------------------------------------------------------------------ samples and law


@pytest.mark.parametrize("options", [{}, {"steps": 2}, {"reading": "factorised"}])
@pytest.mark.parametrize("roles", ["TTT", "TST", "T.T", ".TT"])
def test_samples_follow_the_law(roles, options, generator):
    model, n = symbol_model(seed=4), 4000
    task = Task([r == "S" for r in roles], [r == "T" for r in roles])
    order = torch.tensor([1, 2, 0])
    x = torch.tensor([[2, 1, 0]])
    drawn = model.sample(
        x.expand(n, 3), task.expand(n), generator, order=order, **options
    )
    table = sequences(3, 3)
    table = torch.where(task.source, x, torch.where(task.target, table, -1))
    table = table.unique(dim=0)
    task = task.expand(len(table))
    expected = model.log_prob(table, task, order=order, **options).exp() * n
    counts = (drawn[:, None] == table).all(-1).sum(0)
    assert counts.sum() == n
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3


def test_each_row_is_sampled_by_its_own_task_and_order(generator):
    """Rows of different tasks and orders in one batch, against their own laws."""
    model, n = symbol_model(seed=7), 3000
    rows = Task(
        [[False] * 3, [False, True, False], [False] * 3],
        [[True] * 3, [True, False, True], [False, True, True]],
    )
    which = torch.arange(3).repeat(n)
    orders = torch.tensor([[2, 0, 1], [1, 0, 2], [0, 2, 1]])
    x = torch.tensor([[0, 0, 0], [0, 2, 0], [0, 0, 0]])
    drawn = model.sample(x[which], rows[which], generator, order=orders[which])
    for i in range(3):
        mask = rows.target[i]
        table = torch.zeros(3 ** int(mask.sum()), 3, dtype=torch.int64) + x[i]
        table[:, mask] = sequences(int(mask.sum()), 3)
        task = rows[i].expand(len(table))
        expected = model.log_prob(table, task, order=orders[i]).exp() * n
        got = drawn[which == i][:, None, mask]
        counts = (got == table[:, mask]).all(-1).sum(0)
        assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3


# ------------------------------------------------------------------ continuous tokens


def mixture_head(values, generator, components=3):
    head = randomised(MixtureHead(6, values, components), scale=1.0)
    return head, torch.randn(4, 6, generator=generator, dtype=torch.float64)


def same_law(head, hidden):
    """The law of a head, built by PyTorch's distributions."""
    d = torch.distributions
    shape = (*hidden.shape[:-1], *head.shape)
    means, raw = (layer(hidden).view(shape) for layer in (head.means, head.scales))
    scales = (1 + raw.exp()).log() + LEAST_SCALE
    each = d.Independent(d.Normal(means, scales), 1)
    return d.MixtureSameFamily(d.Categorical(logits=head.weights(hidden)), each)


def test_the_mixture_head_is_a_mixture(generator):
    head, hidden = mixture_head(5, generator)
    law = same_law(head, hidden)
    x = 2 * torch.randn(50, 4, 5, generator=generator, dtype=torch.float64)
    close(head.log_prob(hidden, x), law.log_prob(x))


def test_the_density_integrates_to_one(generator):
    head, hidden = mixture_head(1, generator)
    for row in hidden:

        def density(v, row=row):
            x = torch.tensor([v], dtype=torch.float64)
            return head.log_prob(row, x).exp().item()

        means = head.laws(row)[1].flatten().tolist()
        total, _ = integrate.quad(density, -40, 40, points=means, limit=200)
        assert total == pytest.approx(1, abs=1e-6)


def test_the_head_samples_its_density(generator):
    head, hidden = mixture_head(2, generator)
    n = 4000
    drawn = head.sample(hidden[:2].expand(n, 2, 6), generator)  # (n, 2, P)
    for row in range(2):
        weights, means, scales = (law[row].numpy() for law in head.laws(hidden))
        for p in range(2):

            def cdf(x, weights=weights, m=means[:, p], s=scales[:, p]):
                return (math.e**weights * stats.norm.cdf(x[:, None], m, s)).sum(1)

            assert stats.kstest(drawn[:, row, p].numpy(), cdf).pvalue > 1e-3
        # the numbers of a token are tied together by their component
        law = same_law(head, hidden[row])
        close(-head.log_prob(hidden[row], drawn[:, row]).mean(),
              -law.log_prob(law.sample((n,))).mean(), atol=0.15)  # fmt: skip
    independent = torch.corrcoef(torch.stack([drawn[:, 0, 0], drawn[:, 1, 0]]))
    assert independent[0, 1].abs() < 0.06


def test_a_symbol_head_is_a_softmax(generator):
    head = randomised(SymbolHead(6, 4), scale=1.0)
    hidden = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    x = torch.tensor([0, 1, 2, 3, 0])
    logits = head.logits(hidden)
    close(-head.log_prob(hidden, x), F.cross_entropy(logits, x, reduction="none"))
    drawn = head.sample(hidden[:1].expand(4000, 6), generator)
    expected = 4000 * logits[0].softmax(-1)
    counts = drawn.bincount(minlength=4)
    assert stats.chisquare(counts.numpy(), expected.numpy()).pvalue > 1e-3


def test_log_prob_of_two_numbers_is_a_joint_density(generator):
    """Autoregressive, over continuous tokens: the whole plane has mass one."""
    model = number_model(2, values=1, components=2, scale=0.3)
    grid = torch.linspace(-9, 9, 121, dtype=torch.float64)
    x = torch.cartesian_prod(grid, grid)[..., None]
    for order in (None, torch.tensor([1, 0])):
        density = model.log_prob(x, Task.joint(len(x), 2), order=order).exp()
        cell = (grid[1] - grid[0]) ** 2
        assert (density.sum() * cell).item() == pytest.approx(1, abs=2e-3)


def test_continuous_samples_follow_their_conditional(generator):
    model, n = number_model(2, values=1, components=2), 4000
    x = torch.tensor([[[0.7], [math.nan]]], dtype=torch.float64)
    task = Task.conditional([True, False])
    drawn = model.sample(x.expand(n, 2, 1), task.expand(n), generator)[:, 1, 0]
    grid = torch.linspace(-30, 30, 6001, dtype=torch.float64)
    there = torch.stack([torch.full_like(grid, 0.7), grid], 1)[..., None]
    density = model.log_prob(there, task.expand(len(grid))).exp()
    total = torch.cumulative_trapezoid(density, grid)
    assert total[-1].item() == pytest.approx(1, abs=1e-3)

    def cdf(v):
        return torch.cat([total[:1] * 0, total])[
            torch.searchsorted(grid, torch.as_tensor(v)).clamp(max=6000)
        ].numpy()

    assert stats.kstest(drawn.numpy(), cdf).pvalue > 1e-3


def test_components_start_apart_and_no_scale_is_zero():
    model = AnyConditionalTransformer(AnyConditionalSizes(2, values=3, **SMALL))
    _, means, _ = model.head.laws(torch.zeros(1, 16))
    assert means.std(-2).min() > 0
    head = MixtureHead(4, 1, 2)
    with torch.no_grad():
        head.scales.bias.fill_(-1e4)
    assert head.laws(torch.zeros(1, 4))[2].min() >= LEAST_SCALE


# ------------------------------------------------------------------ equivalences


def test_the_loss_is_the_mean_over_all_targets(generator):
    model, x = symbol_model(5), symbols_of(30, 5, generator)
    task = TaskSampler(5, target_ratio=(1.0, 1.0)).sample(30, generator)
    total = sum(
        model.token_log_prob(x[[row]], task.source[[row]], now[None])[0, t]
        for row in range(30)
        for t in task.target[row].nonzero()[:, 0].tolist()
        for now in [torch.arange(5) == t]
    )
    close(matching_loss(model, x, task), -total / int(task.target.sum()))


def test_masking_everything_is_the_cross_entropy_of_a_product(generator):
    model, x = symbol_model(5), symbols_of(30, 5, generator)
    task = masked_language_model(5, rate=1.0).sample(30, generator)
    nothing = torch.zeros(30, 5, dtype=torch.bool)
    hidden = model.trunk(torch.zeros_like(x), nothing, ~nothing)
    logits = model.head.logits(hidden)  # (B, L, V)
    independent = F.cross_entropy(logits.flatten(0, 1), x.flatten())
    close(matching_loss(model, x, task), independent)
    # a product: nothing that stands elsewhere in a row changes what is said
    close(logits, logits[:1].expand_as(logits))
    log_p = logits[0].log_softmax(-1)
    product = sum(log_p[t][x[:, t]] for t in range(5))
    close(model.log_prob(x, task, reading="factorised"), product)


def test_next_token_averages_to_left_to_right_cross_entropy(generator):
    model, x = symbol_model(5), symbols_of(30, 5, generator)
    joint = model.log_prob(x, Task.joint(30, 5))
    drawn = next_token(5).sample(4000, generator)
    kinds = torch.cat([drawn.source, drawn.target], 1).unique(dim=0)
    assert len(kinds) == 5  # all that the preset ever asks
    losses = [
        matching_loss(model, x, Task(row[None, :5], row[None, 5:]).expand(30))
        for row in kinds
    ]
    close(torch.stack(losses).mean(), -joint.mean() / 5)
    # and as the preset draws them, up to chance
    many = matching_loss(model, x.repeat(134, 1)[:4000], drawn)
    close(many, -joint.mean() / 5, atol=0.05)


# ------------------------------------------------------------------ causal


def test_causal_probabilities_sum_to_one():
    for length, symbols in ((3, 3), (4, 3), (3, 4)):
        model = symbol_model(length, symbols, kind=CausalTransformer)
        table = sequences(length, symbols)
        said = model.token_log_prob(table)
        assert said.shape == table.shape
        close(said.sum(1).exp().sum(), torch.tensor(1.0, dtype=torch.float64))
        close(said.sum(1), model.log_prob(table))
        assert said.sum(1).exp().std() > 1e-3  # not flat
        # each step is a law given the same past
        for t in range(length):
            first = (table[:, :t] == table[5, :t]).all(1)
            later = (table[:, t + 1 :] == table[5, t + 1 :]).all(1)
            step = said[first & later, t].exp()
            assert len(step) == symbols
            close(step.sum(), torch.tensor(1.0, dtype=torch.float64))


@pytest.mark.parametrize("kind", ["symbols", "numbers"])
def test_causal_sees_neither_present_nor_future(kind, generator):
    if kind == "symbols":
        model = symbol_model(5, kind=CausalTransformer)
        x, y = (symbols_of(20, 5, generator) for _ in range(2))
        x[:, 2], y[:, 2] = 0, 1
    else:
        sizes = AnyConditionalSizes(5, values=2, **SMALL)
        model = randomised(CausalTransformer(sizes))
        x, y = (numbers_of(20, 5, 2, generator) for _ in range(2))

    def heard(x):  # what reaches the head
        source = torch.arange(5).expand(20, 5) > 0
        return model.trunk(x.roll(1, dims=1), source, ~source)

    for t in range(5):
        changed = torch.cat([x[:, :t], y[:, t:]], 1)  # from t on all is different
        assert torch.equal(heard(changed)[:, : t + 1], heard(x)[:, : t + 1])
        said, before = model.token_log_prob(changed), model.token_log_prob(x)
        assert torch.equal(said[:, :t], before[:, :t])
    changed = torch.cat([y[:, :1], x[:, 1:]], 1)
    changed[:, 0] = (x[:, 0] + 1) % 3 if kind == "symbols" else y[:, 0]
    moved = (model.token_log_prob(changed) - model.token_log_prob(x)).abs()
    assert (moved[:, 1:].amax(0) > 1e-4).all()  # the past is seen


def test_causal_checks_its_tokens(generator):
    model = symbol_model(5, kind=CausalTransformer)
    x = torch.zeros(2, 5, dtype=torch.int64)
    x[1, 4] = 3
    with pytest.raises(ValueError, match="Row 1 has symbol 3 at position 4"):
        model.log_prob(x)
    with pytest.raises(ValueError, match=r"got \(2, 6\); cut or tokenise"):
        model.log_prob(symbols_of(2, 6, generator))
    assert model.log_prob(symbols_of(0, 5, generator)).shape == (0,)
    assert model.length == 5


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize("call", ["log_prob", "sample"])
def test_tokens_that_do_not_fit(call, generator):
    model, continuous = symbol_model(4), number_model(4)
    x, y = symbols_of(2, 4, generator), numbers_of(2, 4, 2, generator)
    task = Task.joint(2, 4)
    wrong = [
        (model, symbols_of(2, 5, generator), task, r"sizes \(4,\).*got \(2, 5\); cut"),
        (model, x[0], task, r"tokens \(B, L\).*got \(4,\)"),
        (model, y, task, r"got \(2, 4, 2\)"),
        (model, x.double(), task, r"whole numbers .*got torch.float64; convert"),
        (model, x.byte(), task, "got torch.uint8"),
        (model, x > 0, task, "got torch.bool"),
        (continuous, y[:, :3], task, r"\(B, L, P\) with sizes \(4, 2\).*\(2, 3, 2\)"),
        (continuous, y[..., :1], task, r"got \(2, 4, 1\)"),
        (continuous, x, task, r"got \(2, 4\)"),
        (continuous, y.long(), task, "tokens are floats, got torch.int64"),
        (model, x, Task.joint(3, 4), r"row for each sample, \(2, 4\), got \(3, 4\)"),
        (model, x, Task.joint(1, 4), r"task.expand\(B\)"),
        (model, x, Task.joint(2, 5), r"got \(2, 5\)"),
    ]
    for each, tokens, asked, rule in wrong:
        with pytest.raises(ValueError, match=rule):
            getattr(each, call)(tokens, asked)


@pytest.mark.parametrize("symbol", [-1, 3, 2**40])
def test_symbols_are_checked_where_they_are_read(symbol, generator):
    model = symbol_model(4)
    source = torch.tensor([[True, False, False, False]] * 2)
    task = Task(source, torch.tensor([[False, True, True, False]] * 2))
    for position, read in enumerate(("both", "log_prob", "log_prob", "none")):
        x = torch.zeros(2, 4, dtype=torch.int64)
        x[1, position] = symbol
        rule = (f"Row 1 has symbol {symbol} at position {position}, which the task "
                "reads; the vocabulary is 0 to 2")  # fmt: skip
        for call in ("sample", "log_prob"):
            if read in ("both", call):
                with pytest.raises(ValueError, match=rule):
                    getattr(model, call)(x, task)
            else:
                getattr(model, call)(x, task)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_are_checked_where_they_are_read(value, generator):
    model = number_model(4)
    source = torch.tensor([[True, False, False, False]] * 2)
    task = Task(source, torch.tensor([[False, True, True, False]] * 2))
    for position, read in enumerate(("both", "log_prob", "log_prob", "none")):
        x = numbers_of(2, 4, 2, generator)
        x[1, position, 1] = value
        for call in ("sample", "log_prob"):
            if read in ("both", call):
                rule = f"Row 1 has a value that is not finite at position {position}"
                with pytest.raises(ValueError, match=rule):
                    getattr(model, call)(x, task)
            else:
                getattr(model, call)(x, task)


@pytest.mark.parametrize("call", ["log_prob", "sample"])
def test_readings_orders_and_steps_that_mean_nothing(call, generator):
    model, x, task = symbol_model(4), symbols_of(2, 4, generator), Task.joint(2, 4)
    wrong = [
        ({"reading": "exact"}, r"reading is one of \('autoregressive', 'factorised'\)"),
        ({"reading": "factorised", "steps": 2}, "one step, got steps=2; leave steps"),
        ({"steps": 0}, "steps must be an integer of at least 1, got 0"),
        ({"steps": 1.5}, "steps must be an integer"),
        ({"order": torch.tensor([0, 1, 2])}, r"\(4,\) or \(2, 4\), got torch.int64 of"),
        ({"order": torch.zeros(3, 4).long()}, r"shape \(3, 4\)"),
        ({"order": torch.arange(4.0)}, "got torch.float32"),
        ({"order": torch.tensor([0, 1, 1, 2])}, "two positions of the same rank"),
        ({"order": torch.tensor([[0, 1, 2, 3], [3, 2, 2, 0]])}, "ranks must differ"),
    ]
    for options, rule in wrong:
        with pytest.raises(ValueError, match=rule):
            getattr(model, call)(x, task, **options)


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"components": 0}, "components must be an integer of at least 1"),
        ({"length": 0}, "length must be"),
        ({"values": 0}, "set one of the two"),
        ({"symbols": 3}, "set one of the two"),
        ({"width": 10}, "multiple of heads, got 10 and 4"),
    ],
)
def test_sizes_that_make_no_model(wrong, rule):
    sizes = {"length": 3, "values": 2, **wrong}
    with pytest.raises(ValueError, match=rule):
        AnyConditionalTransformer(AnyConditionalSizes(**sizes))


# ------------------------------------------------------------------ as a whole


def test_one_graph_for_the_losses_of_all_tasks(generator):
    from torch._dynamo.testing import CompileCounter

    torch._dynamo.reset()
    sizes = AnyConditionalSizes(4, symbols=3, **SMALL)
    model, counter = AnyConditionalTransformer(sizes), CompileCounter()

    def loss(x, source, target):
        return matching_loss(model, x, Task._trusted(source, target))

    compiled = torch.compile(loss, backend=counter, fullgraph=True)
    for sampler in (TaskSampler(4), masked_language_model(4), next_token(4)):
        x, task = symbols_of(8, 4, generator), sampler.sample(8, generator)
        close(compiled(x, task.source, task.target), matching_loss(model, x, task),
              atol=1e-5)  # fmt: skip
    assert counter.frame_count == 1
    torch._dynamo.reset()


def test_training_brings_the_model_to_the_exact_conditionals():
    """The second bit equals the first: learned in a moment, in both directions."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AnyConditionalTransformer(AnyConditionalSizes(2, symbols=2, **SMALL))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    x, every = torch.tensor([[0, 0], [1, 1]]), all_tasks(2)
    for _ in range(120):
        optimiser.zero_grad()
        rows = every[torch.arange(5).repeat_interleave(2)]
        matching_loss(model, x.repeat(5, 1), rows).backward()
        optimiser.step()
    for source in ([True, False], [False, True]):
        task = Task.conditional(source).expand(2)
        assert model.log_prob(x, task).exp().min() > 0.95
    joint, product = (
        model.log_prob(x, Task.joint(2, 2), reading=reading).exp()
        for reading in READINGS
    )
    assert (joint - 0.5).abs().max() < 0.05
    assert (product - 0.25).abs().max() < 0.05


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_the_loss_takes_small_symbols(dtype, generator):
    """As they lie on the device: a byte each."""
    model, x = symbol_model(4), symbols_of(9, 4, generator)
    task = TaskSampler(4).sample(9, generator)
    said = matching_loss(model, x.to(dtype), task)
    assert torch.equal(said, matching_loss(model, x, task))
