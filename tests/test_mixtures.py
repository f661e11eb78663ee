"""Mixtures against scipy, quadrature, and their own chain rule."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from biglearn_lite import Task
from biglearn_lite.mixtures import GaussianMixture, UniversalMixture

F64 = torch.float64


def parameters(seed, k, d, batch=(), dtype=F64, floor=0.3):
    """Random weights, means and covariances with smallest eigenvalue >= floor."""
    g = torch.Generator().manual_seed(seed)
    weights = torch.rand(*batch, k, generator=g, dtype=dtype) + 0.1
    means = 2 * torch.randn(*batch, k, d, generator=g, dtype=dtype)
    half = torch.randn(*batch, k, d, d, generator=g, dtype=dtype)
    covariances = half @ half.mT / d + floor * torch.eye(d, dtype=dtype)
    return weights / weights.sum(-1, keepdim=True), means, covariances


def line_cdf(weights, line):
    """Distribution function of a mixture on a line, by scipy."""
    m, s = line.means[..., 0].numpy(), line.covariances[..., 0, 0].sqrt().numpy()
    return lambda t: stats.norm(m, s).cdf(t[:, None]) @ weights.numpy()


def mixture(seed=0, k=3, d=3, **options):
    return GaussianMixture(*parameters(seed, k, d, **options))


def normal(*shape, seed=1, scale=2.0):
    g = torch.Generator().manual_seed(seed)
    return scale * torch.randn(*shape, generator=g, dtype=F64)


def scipy_log_prob(weights, means, covariances, x):
    """Slow twin: one scipy normal a component."""
    weights, means, covariances, x = map(np.asarray, (weights, means, covariances, x))
    logs = [
        np.log(w) + stats.multivariate_normal(m, c).logpdf(x)
        for w, m, c in zip(weights, means, covariances, strict=True)
    ]
    return torch.from_numpy(np.logaddexp.reduce(np.atleast_2d(np.array(logs)), axis=0))


def close(a, b, atol=1e-9):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=atol, check_dtype=False)


# ---------------------------------------------------------------- density


@pytest.mark.parametrize("d", [1, 2, 6])
def test_log_prob_is_scipys(d):
    p, x = mixture(d, 4, d), normal(50, d)
    expected = scipy_log_prob(p.weights, p.means, p.covariances, x)
    close(p.log_prob(x), expected.reshape(50))


def test_density_integrates_to_one():
    p = mixture(3, 3, 2)
    total, _ = integrate.dblquad(
        lambda b, a: p.log_prob(torch.tensor([a, b], dtype=F64)).exp().item(),
        *(-12, 12, -12, 12),
        epsabs=1e-5,
        epsrel=1e-5,
    )
    assert total == pytest.approx(1, abs=1e-4)


def test_marginal_is_the_integral_over_the_other_token():
    p, grid = mixture(4, 3, 2), torch.linspace(-20, 20, 4001, dtype=F64)
    for keep in (0, 1):
        a = normal(5, seed=keep)
        columns = [None, None]
        columns[keep], columns[1 - keep] = torch.meshgrid(a, grid, indexing="ij")
        integral = torch.trapezoid(p.log_prob(torch.stack(columns, -1)).exp(), grid)
        close(p.marginal([keep]).log_prob(a.unsqueeze(-1)).exp(), integral)


def test_conditional_is_the_joint_over_the_integrated_joint():
    """Bayes' rule by quadrature alone: no formula of the module is used twice."""
    p, grid = mixture(5, 3, 2), torch.linspace(-20, 20, 4001, dtype=F64)
    for given_, value in ((0, -1.2), (1, 0.7)):
        points = torch.empty(len(grid), 2, dtype=F64)
        points[:, given_], points[:, 1 - given_] = value, grid
        joint = p.log_prob(points).exp()
        c = p.conditional([given_], torch.tensor([value], dtype=F64))
        expected = joint / torch.trapezoid(joint, grid)
        close(c.log_prob(grid.unsqueeze(-1)).exp(), expected)


def test_conditional_of_one_gaussian_is_the_regression_formula():
    _, m, c = parameters(6, 1, 4)
    p = GaussianMixture(torch.ones(1, dtype=F64), m, c)
    m, c, v = m[0].numpy(), c[0].numpy(), np.array([0.5, -1.0])
    s, t = [3, 1], [0, 2]
    gain = c[np.ix_(t, s)] @ np.linalg.inv(c[np.ix_(s, s)])
    q = p.conditional(s, torch.from_numpy(v))
    close(q.means[0], torch.from_numpy(m[t] + gain @ (v - m[s])))
    schur = c[np.ix_(t, t)] - gain @ c[np.ix_(s, t)]
    close(q.covariances[0], torch.from_numpy(schur))
    close(q.weights, torch.ones(1, dtype=F64))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_chain_rule(data):
    """log p(x) = log p(x_S) + log p(x_T | x_S) for every split, up to 6 tokens."""
    d = data.draw(st.integers(2, 6), label="D")
    seed = data.draw(st.integers(0, 10_000), label="seed")
    source = data.draw(
        st.lists(st.integers(0, d - 1), unique=True, max_size=d - 1), label="S"
    )
    p = mixture(seed, data.draw(st.integers(1, 4), label="K"), d)
    x = normal(7, d, seed=seed)
    target = [i for i in range(d) if i not in source]
    chained = p.conditional(source, x[:, source]).log_prob(x[:, target])
    if source:
        chained = chained + p.marginal(source).log_prob(x[:, source])
    close(p.log_prob(x), chained, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.permutations(range(5)))
def test_conditioning_in_two_steps_is_conditioning_once(seed, order):
    p, x, a, b = mixture(seed, 3, 5), normal(5, seed=seed), order[:2], order[2:4]
    rest = [i for i in range(5) if i not in a]
    once = p.conditional([*a, *b], x[[*a, *b]])
    twice = p.conditional(a, x[a]).conditional([rest.index(i) for i in b], x[b])
    close(once.weights, twice.weights)
    close(once.means, twice.means)
    close(once.covariances, twice.covariances)


def test_marginal_keeps_the_order_asked_for():
    p, x = mixture(1, 3, 4), normal(9, 4)
    close(
        p.marginal([2, 0]).log_prob(x[:, [2, 0]]),
        p.marginal([0, 2]).log_prob(x[:, [0, 2]]),
    )
    close(p.marginal([2, 0]).means, p.means[:, [2, 0]])


# ---------------------------------------------------------------- transform


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6))
def test_transform_is_the_change_of_variables(seed, d):
    """p_Y(A x) |det A| = p_X(x)."""
    p, x, a = mixture(seed, 3, d), normal(5, d, seed=seed), normal(d, d, seed=seed + 1)
    log_det = torch.linalg.slogdet(a).logabsdet
    if log_det < -4:  # nearly singular: the identity holds, the digits do not
        return
    close(p.transform(a).log_prob(x @ a.mT) + log_det, p.log_prob(x), atol=1e-6)


def test_transform_to_fewer_dimensions_is_a_marginal():
    """Rows of the identity select tokens; any A is a square map, then a marginal."""
    p, x = mixture(2, 3, 4), normal(9, 2)
    close(
        p.transform(torch.eye(4, dtype=F64)[[2, 0]]).log_prob(x),
        p.marginal([2, 0]).log_prob(x),
    )
    a = normal(4, 4, seed=8)
    close(p.transform(a[:2]).log_prob(x), p.transform(a).marginal([0, 1]).log_prob(x))


def test_transform_to_a_line_against_scipy():
    p, a, x = mixture(2, 3, 3), normal(1, 3, seed=5), normal(9, 1)
    a_, m, c = a.numpy()[0], p.means.numpy(), p.covariances.numpy()
    expected = sum(
        w * stats.norm(m[k] @ a_, math.sqrt(a_ @ c[k] @ a_)).pdf(x.numpy()[:, 0])
        for k, w in enumerate(p.weights.numpy())
    )
    close(p.transform(a).log_prob(x).exp(), torch.from_numpy(expected))


def test_transform_by_a_batch_of_rotations():
    angles = torch.linspace(0, math.pi, 5, dtype=F64)
    rows = torch.stack([angles.cos(), angles.sin(), -angles.sin(), angles.cos()], -1)
    rotations, p, x = rows.reshape(5, 2, 2), mixture(1, 2, 2), normal(7, 5, 2)
    q = p.transform(rotations)
    assert q.batch_shape == (5,)
    for i in range(5):
        close(q.log_prob(x)[:, i], p.transform(rotations[i]).log_prob(x[:, i]))


# ---------------------------------------------------------------- shapes


def test_shapes_are_those_of_torch_distributions():
    p = mixture(0, 4, 3, batch=(2, 5))
    assert (p.batch_shape, p.event_shape) == ((2, 5), (3,))
    assert (p.n_components, p.dim) == (4, 3)
    assert repr(p) == "GaussianMixture(batch_shape=(2, 5), n_components=4, dim=3)"
    twin = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(p.weights),
        torch.distributions.MultivariateNormal(p.means, p.covariances),
    )
    for shape in [(3,), (5, 3), (2, 5, 3), (2, 1, 3), (7, 2, 5, 3), (6, 7, 2, 5, 3)]:
        x = normal(*shape)
        close(p.log_prob(x), twin.log_prob(x))


def test_parameters_broadcast():
    w, m, c = parameters(0, 4, 3, batch=(2, 5))
    p = GaussianMixture(w[0, 0], m, c[:, :1])
    assert p.batch_shape == (2, 5)
    assert p.weights.shape == (2, 5, 4)
    assert p.covariances.shape == (2, 5, 4, 3, 3)
    x = normal(6, 2, 5, 3)
    one = GaussianMixture(w[0, 0], m[1, 3], c[1, 0])
    close(p.log_prob(x)[:, 1, 3], one.log_prob(x[:, 1, 3]))


def test_a_batch_is_its_members():
    p, x = mixture(0, 4, 3, batch=(2, 5)), normal(6, 2, 5, 3)
    c = p.conditional([1], x[..., [1]])
    t, m = p.transform(normal(5, 2, 3)), p.marginal([2, 0])
    assert c.batch_shape == (6, 2, 5)
    assert t.batch_shape == m.batch_shape == (2, 5)
    one = GaussianMixture(p.weights[1, 2], p.means[1, 2], p.covariances[1, 2])
    slow = one.conditional([1], x[4, 1, 2, [1]])
    close(c.means[4, 1, 2], slow.means)
    close(c.log_prob(x[..., [0, 2]])[4, 1, 2], slow.log_prob(x[4, 1, 2, [0, 2]]))
    close(
        m.log_prob(x[..., [2, 0]])[3, 1, 2],
        one.marginal([2, 0]).log_prob(x[3, 1, 2, [2, 0]]),
    )
    close(t.means[1, 2], one.transform(normal(5, 2, 3)[2]).means)


def test_values_broadcast_against_the_batch():
    p = mixture(0, 4, 3, batch=(5,))
    values = torch.zeros(7, 1, 2, dtype=F64)
    assert p.conditional([0, 2], values).batch_shape == (7, 5)
    assert p.conditional([0, 2], values[0, 0]).batch_shape == (5,)
    assert p.conditional([0, 2], values).sample(2).shape == (2, 7, 5, 1)


# ---------------------------------------------------------------- gradients, extremes


def test_gradients_of_everything():
    def f(scores, means, half, values, a):
        covariances = half @ half.mT + torch.eye(3, dtype=F64)
        p = GaussianMixture(scores.softmax(-1), means, covariances)
        q = p.transform(a).conditional([1], values)
        points = torch.tensor([[0.3, -0.2]], dtype=F64)
        return q.log_prob(points), p.marginal([2]).log_prob(values)

    torch.autograd.gradcheck(
        f,
        [
            normal(*shape, seed=i, scale=1.0).requires_grad_()
            for i, shape in enumerate([(2,), (2, 3), (2, 3, 3), (1,), (3, 3)])
        ],
    )


def test_gradient_passes_through_samples_to_the_mean():
    w, m, c = parameters(0, 1, 2)
    m.requires_grad_()
    GaussianMixture(w, m, c).sample(
        8, torch.Generator().manual_seed(0)
    ).sum().backward()
    close(m.grad, torch.full((1, 2), 8.0))


def test_zero_weight_is_the_mixture_without_that_component():
    w, m, c = parameters(0, 3, 2)
    w = torch.tensor([0.4, 0.0, 0.6], dtype=F64)
    x = torch.cat([normal(5, 2), m[1:2], 1e3 * m[1:2]])  # also where it would win
    tensors = [t.requires_grad_() for t in (w, m, c)]
    full, less = (
        GaussianMixture(*tensors),
        GaussianMixture(*(t[[0, 2]] for t in tensors)),
    )
    close(full.log_prob(x), less.log_prob(x))
    close(full.conditional([0], x[:, :1]).weights[:, 1], torch.zeros(len(x)))
    value = full.log_prob(x).sum() + full.conditional([0], x[:, :1]).means.sum()
    for gradient in torch.autograd.grad(value, tensors):
        assert gradient.isfinite().all()
    g = torch.Generator().manual_seed(0)
    far = GaussianMixture(w, torch.tensor([[0, 0], [99, 99], [0, 0.0]]).to(F64), c)
    assert far.sample(5000, g).max() < 50


@pytest.mark.parametrize(("dtype", "far"), [(torch.float32, 1e30), (F64, 1e200)])
def test_far_away_nothing_is_nan(dtype, far):
    p = mixture(0, 3, 2, dtype=dtype)
    for size in (1e3, 1e8, far):
        x = torch.full((2,), size, dtype=dtype, requires_grad=True)
        c = p.conditional([0], x[:1])
        assert p.log_prob(x).isfinite()
        assert c.weights.isfinite().all()
        assert c.weights.sum().item() == pytest.approx(1)
        gradient = torch.autograd.grad(p.log_prob(x), x)[0]
        assert gradient.isfinite().all()


def test_conditional_weights_survive_underflow():
    """Both densities are e^-20000; their ratio, and so the weights, are moderate."""
    w = torch.tensor([0.5, 0.5], dtype=F64)
    m = torch.tensor([[0.0, 0.0], [0.01, 0.0]], dtype=F64)
    p = GaussianMixture(w, m, torch.eye(2, dtype=F64).expand(2, 2, 2))
    weights = p.conditional([0], torch.tensor([200.0], dtype=F64)).weights
    close(weights[1], torch.sigmoid(torch.tensor(200 * 0.01 - 0.01**2 / 2, dtype=F64)))


@pytest.mark.parametrize("epsilon", [1e-2, 1e-3, 1e-4])
def test_float32_against_float64_where_nearly_singular(epsilon):
    """Correlation 1 - epsilon: the condition number is 2 / epsilon.

    The relative error of a log density is at most about eps * condition * |log p|;
    100 times the machine's epsilon times the condition number is the tolerance here.
    """
    w, m, _ = parameters(0, 2, 2, dtype=torch.float32)
    r = 1 - epsilon
    c = torch.tensor([[1, r], [r, 1]], dtype=torch.float32).expand(2, 2, 2)
    low, high = (
        GaussianMixture(w, m, c),
        GaussianMixture(w.double(), m.double(), c.double()),
    )
    x = high.sample(200, torch.Generator().manual_seed(0)).float()
    tolerance = 100 * torch.finfo(torch.float32).eps * 2 / epsilon
    assert tolerance < 0.25
    options = {"rtol": tolerance, "atol": tolerance, "check_dtype": False}
    torch.testing.assert_close(low.log_prob(x), high.log_prob(x.double()), **options)
    a = low.conditional([0], x[:, :1])
    b = high.conditional([0], x[:, :1].double())
    torch.testing.assert_close(a.means, b.means, **options)
    torch.testing.assert_close(a.covariances, b.covariances, **options)
    assert a.log_prob(x[:, 1:]).dtype == torch.float32


# ---------------------------------------------------------------- samples


def test_samples_have_the_moments_and_the_law():
    p, n = mixture(0, 3, 3, batch=(2,)), 40_000
    x = p.sample(n, torch.Generator().manual_seed(0))
    assert x.shape == (n, 2, 3)
    mean = (p.weights.unsqueeze(-1) * p.means).sum(-2)
    gap = p.means - mean.unsqueeze(-2)
    spread = p.covariances + gap.unsqueeze(-1) * gap.unsqueeze(-2)
    covariance = (p.weights[..., None, None] * spread).sum(-3)
    for b in range(2):
        error = (x[:, b].mean(0) - mean[b]) / (covariance[b].diagonal() / n).sqrt()
        assert error.abs().max() < 4
        torch.testing.assert_close(
            torch.cov(x[:, b].T), covariance[b], rtol=0.05, atol=0.1
        )
        for d in range(3):
            member = GaussianMixture(p.weights[b], p.means[b], p.covariances[b])
            cdf = line_cdf(member.weights, member.marginal([d]))
            assert stats.kstest(x[:2000, b, d].numpy(), cdf).pvalue > 1e-3


def test_same_generator_same_sample():
    p = mixture(0)
    a, b = (p.sample(4, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a, b)
    assert p.sample(0).shape == (0, 3)
    assert p.log_prob(p.sample(0)).shape == (0,)


# ---------------------------------------------------------------- UniversalMixture


def random_tasks(batch, length, seed=0):
    """Roles drawn evenly, every row with a target: all kinds of task in one batch."""
    g = torch.Generator().manual_seed(seed)
    role = torch.randint(3, (batch, length), generator=g)
    role[torch.arange(batch), torch.randint(length, (batch,), generator=g)] = 1
    return Task(role == 0, role == 1)


def hidden(x, mask, symbol=math.nan):
    return torch.where(mask.unsqueeze(-1), x, symbol)


def row_conditional(p, x, source, target):
    """One row of the slow twin: p(x_T | x_S) by `marginal` and `conditional`."""
    s, t = source.nonzero()[:, 0].tolist(), target.nonzero()[:, 0].tolist()
    union = sorted(s + t)
    return p.marginal(union).conditional([union.index(i) for i in s], x[s]), t


def test_universal_log_prob_is_the_loop_over_rows():
    p, task, x = mixture(0, 4, 5), random_tasks(200, 5), normal(200, 5)
    slow = []
    for row, source, target in zip(x, task.source, task.target, strict=True):
        conditional, t = row_conditional(p, row, source, target)
        slow.append(conditional.log_prob(row[t]))
    close(UniversalMixture(p).log_prob(x.unsqueeze(-1), task), torch.stack(slow))


def test_universal_log_prob_far_away_keeps_its_digits():
    """A difference of two joint densities would lose them all."""
    p = mixture(0, 4, 3, dtype=torch.float32)
    x = torch.tensor([[[1e6], [0.5], [0.0]]])
    source = torch.tensor([[True, False, False]])
    value = UniversalMixture(p).log_prob(x, Task(source, ~source)).double()
    exact = p.conditional([0], x[0, :1, 0].double().float()).log_prob(x[0, 1:, 0])
    torch.testing.assert_close(value, exact.double()[None], rtol=1e-4, atol=1e-4)


def test_universal_samples_follow_the_conditional():
    """Kolmogorov and Smirnov, and the dependence between two targets."""
    p, n = mixture(3, 3, 4), 4000
    x = normal(1, 4).expand(n, 4)
    source = torch.tensor([[False, True, False, False]]).expand(n, 4)
    target = torch.tensor([[True, False, False, True]]).expand(n, 4)
    drawn = UniversalMixture(p).sample(
        x.unsqueeze(-1), Task(source, target), torch.Generator().manual_seed(1)
    )[..., 0]
    c = p.conditional([1], x[0, [1]])
    for a in torch.tensor([[1.0, 0, 0], [0, 0, 1], [1, 0, -1]], dtype=F64):
        cdf = line_cdf(c.weights, c.transform(a.unsqueeze(0)))
        y = drawn[:, [0, 2, 3]].nan_to_num() @ a
        assert stats.kstest(y.numpy(), cdf).pvalue > 1e-3


def test_universal_sample_keeps_the_laws():
    u, task, x = (
        UniversalMixture(mixture(0, 4, 5)),
        random_tasks(64, 5),
        normal(64, 5, 1),
    )
    draw = lambda x: u.sample(x, task, torch.Generator().manual_seed(3))  # noqa: E731
    y = draw(x)
    s, t = task.source, task.target
    assert u.length == 5
    assert y.shape == x.shape
    assert torch.equal(y[s], x[s])
    assert y[t].isfinite().all()
    assert y[~s & ~t].isnan().all()
    for symbol in (math.nan, math.inf, -1.0):
        assert torch.equal(draw(hidden(x, s, symbol)).nan_to_num(9), y.nan_to_num(9))


def test_universal_log_prob_never_reads_absent_tokens():
    u, task = UniversalMixture(mixture(0, 4, 5)), random_tasks(64, 5)
    x = normal(64, 5, 1)
    read = task.source | task.target
    expected = u.log_prob(x, task)
    for symbol in (math.nan, math.inf, 1e9):
        h = hidden(x, read, symbol).requires_grad_()
        value = u.log_prob(h, task)
        assert torch.equal(value, expected)
        gradient = torch.autograd.grad(value.sum(), h)[0]
        assert gradient[read].isfinite().all()
        assert not gradient[~read].any()


def test_universal_gradients_reach_the_parameters_past_empty_positions():
    """A NaN that is not read must not spoil the training of what is read."""
    tensors = [t.requires_grad_() for t in parameters(0, 4, 5)]
    task, x = random_tasks(64, 5), normal(64, 5, 1)
    u = UniversalMixture(GaussianMixture(*tensors))
    full = torch.autograd.grad(u.log_prob(x, task).sum(), tensors)
    u = UniversalMixture(GaussianMixture(*tensors))
    gaps = hidden(x, task.source | task.target)
    holes = torch.autograd.grad(u.log_prob(gaps, task).sum(), tensors)
    for a, b in zip(full, holes, strict=True):
        close(a, b)


def test_universal_refuses_what_is_not_finite_only_where_it_reads():
    u = UniversalMixture(mixture(0, 2, 3))
    source = torch.tensor([[True, False, False], [False, True, False]])
    target = torch.tensor([[False, True, False], [True, False, True]])
    x = torch.zeros(2, 3, 1, dtype=F64)
    x[1, 1] = math.nan
    for method, roles in ((u.sample, "source"), (u.log_prob, "source or target")):
        with pytest.raises(
            ValueError, match=f"finite where it is {roles}; row 1, token 1"
        ):
            method(x, Task(source, target))
    x[1, 1], x[0, 1] = 0.0, math.nan
    u.sample(x, Task(source, target))
    with pytest.raises(ValueError, match="row 0, token 1 is nan"):
        u.log_prob(x, Task(source, target))


def test_universal_errors():
    u = UniversalMixture(mixture(0, 2, 3))
    task = Task.joint(2, 3)
    for x, rule in (
        (torch.zeros(2, 3, dtype=F64), r"shape \(B, 3, 1\).*unsqueeze"),
        (torch.zeros(2, 4, 1, dtype=F64), r"shape \(B, 3, 1\); got \(2, 4, 1\)"),
        (torch.zeros(4, 3, 1, dtype=F64), r"a row for each row of x.*got \(2, 3\)"),
        (torch.zeros(2, 3, 1), "dtype and device of the mixture.*got float32"),
    ):
        with pytest.raises(ValueError, match=rule):
            u.log_prob(x, task)
    for call in (u.sample, u.log_prob):
        with pytest.raises(ValueError, match=r"task must be a Task.*got None.*joint"):
            call(torch.zeros(2, 3, 1, dtype=F64), None)
    with pytest.raises(ValueError, match=r"batch_shape \(\); got \(2,\)"):
        UniversalMixture(mixture(0, 2, 3, batch=(2,)))


# ---------------------------------------------------------------- errors


def changed(name, index, value, **options):
    names = ("weights", "means", "covariances")
    given_ = dict(zip(names, parameters(0, 3, 2, **options), strict=True))
    given_[name][index] = value
    return given_


@pytest.mark.parametrize(
    ("name", "index", "value", "batch", "rule"),
    [
        ("weights", 1, math.nan, (), "weights: component 1 must be finite; it has nan"),
        (
            "means",
            (1, 0),
            math.inf,
            (),
            "means: component 1 must be finite; it has inf",
        ),
        (
            "covariances",
            (0, 1, 0, 1),
            math.nan,
            (2,),
            r"component 1 of batch index \(0,\)",
        ),
        (
            "weights",
            2,
            -0.1,
            (),
            "component 2 must not be negative; it is -0.1.*softmax",
        ),
        ("weights", 0, 0.9, (), r"must sum to one over the components; the sum is 1\."),
        (
            "weights",
            (1, 0),
            0.9,
            (2,),
            r"weights at batch index \(1,\) must sum to one",
        ),
        (
            "covariances",
            (1, 0, 1),
            9.0,
            (),
            r"component 1 must be symmetric; entry \(0, 1\) is 9",
        ),
        (
            "covariances",
            2,
            -torch.eye(2),
            (),
            "component 2 must be positive definite.* is -1 ",
        ),
        (
            "covariances",
            (1, 2),
            torch.ones(2, 2),
            (2,),
            r"2 of batch index \(1,\).*float64",
        ),
    ],
)
def test_parameter_errors_name_everything(name, index, value, batch, rule):
    arguments = changed(name, index, value, batch=batch)
    with pytest.raises(ValueError, match=rule):
        GaussianMixture(**arguments)


def test_shape_dtype_and_type_errors():
    w, m, c = parameters(0, 3, 2)
    for arguments, rule in (
        ((w[:2], m, c), r"weights \(\.\.\., K\).*got weights \(2,\)"),
        ((w, m[:, :1], c), r"means \(3, 1\), covariances \(3, 2, 2\)"),
        ((w, m, c[0]), "shapes must be"),
        ((w.expand(2, 3), m.expand(5, 3, 2), c), "leading dimensions must broadcast"),
        ((w[:0], m[:0], c[:0]), "K, D >= 1"),
        ((w.float(), m, c), "weights must have the dtype and device of means, float64"),
        (
            (w, m.half(), c),
            "means must be float32 or float64; got float16|weights must",
        ),
        ((None, m, c), "weights must be a tensor, an array or a list of numbers; got"),
        ((w, [["a"]], c), "means must be a tensor, an array or a list of numbers"),
        (([0.5, 0.2, 0.3], m, c), r"dtype .* of means, float64 .* got float32.*\.to\("),
        ((w, m.long(), c), "means must be float32 or float64|weights must have"),
        ((w, m, c.to("meta")), "covariances must have .* on cpu; got float64 on meta"),
    ):
        with pytest.raises(ValueError, match=rule):
            GaussianMixture(*arguments)


def test_lists_and_arrays_are_numbers_too():
    means, eye = [[0, 0], [1, 2]], np.eye(2)
    p = GaussianMixture([0.5, 0.5], means, [eye.tolist()] * 2)
    assert p.means.dtype == torch.get_default_dtype()
    q = GaussianMixture(np.full(2, 0.5), np.array(means, float), np.stack([eye, eye]))
    x = normal(5, 2)
    torch.testing.assert_close(q.log_prob(x), p.log_prob(x.float()), check_dtype=False)


def test_method_errors():
    p = mixture(0, 2, 3)
    x = torch.zeros(3, dtype=F64)
    cases = [
        (lambda: p.log_prob(x[:2]), r"x must have shape .*, 3\).*got \(2,\)"),
        (lambda: p.log_prob(x.float()), "x must have the dtype .* got float32"),
        (
            lambda: p.log_prob(x * math.nan),
            r"x: entry \(0,\) must be finite; it has nan",
        ),
        (
            lambda: p.log_prob([0.0] * 3),
            r"x must be .* got list. Use torch.as_tensor\(x, ",
        ),
        (lambda: p.marginal([]), "dims must name at least one token"),
        (lambda: p.marginal([0, 0]), r"different positions from 0 to 2, got \[0, 0\]"),
        (lambda: p.marginal([-1]), r"different positions from 0 to 2, got \[-1\]"),
        (lambda: p.marginal(torch.tensor([True, False])), "not a mask"),
        (lambda: p.marginal(np.array([True, False])), "not a mask; use mask.nonzero"),
        (lambda: p.marginal(0), "dims must be a list of different positions.*got 0"),
        (lambda: p.marginal([0.0]), r"dims must be a list .*got \[0\.0\]"),
        (lambda: p.conditional(0, x[:1]), "dims must be a list of different positions"),
        (lambda: p.sample(-1), "n must be an integer of at least 0, got -1"),
        (lambda: p.sample(2.0), "n must be an integer"),
        (lambda: p.sample((2, 3)), "n must be an integer"),
        (lambda: UniversalMixture(3), "mixture must be a GaussianMixture; got 3"),
        (
            lambda: p.conditional([0, 1, 2], x),
            "at least one token as target; got all 3",
        ),
        (lambda: p.conditional([0], x), r"values must have shape .*, 1\).*got \(3,\)"),
        (lambda: p.conditional([0], x[:1] + math.inf), "values: entry .* has inf"),
        (
            lambda: p.transform(torch.eye(2, dtype=F64)),
            r"A must have shape \(\.\.\., D', 3\)",
        ),
        (
            lambda: p.transform(torch.ones(2, 3, dtype=F64)),
            "full row rank 2.* rank is 1",
        ),
        (
            lambda: p.transform(torch.zeros(4, 1, 3, dtype=F64)),
            r"A at batch index \(0,\)",
        ),
        (lambda: p.transform(torch.eye(3)), "A must have the dtype"),
    ]
    for call, rule in cases:
        with pytest.raises(ValueError, match=rule):
            call()
    batched = mixture(0, 2, 3, batch=(2,))
    with pytest.raises(ValueError, match=r"with batch \(2,\); got \(5, 3\)"):
        batched.log_prob(torch.zeros(5, 3, dtype=F64))


def test_without_validation_the_result_is_the_same():
    w, m, c = parameters(0, 3, 2)
    a, b = GaussianMixture(w, m, c), GaussianMixture(w, m, c, validate=False)
    x = normal(5, 2)
    assert torch.equal(a.log_prob(x), b.log_prob(x))
    assert b.log_prob(x * math.nan).isnan().all()
    GaussianMixture(w, m, -c, validate=False)  # no complaint, no meaning


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_cuda_is_the_cpu(dtype):
    arguments = parameters(0, 3, 4, dtype=dtype)
    cpu, gpu = (
        GaussianMixture(*arguments),
        GaussianMixture(*(t.cuda() for t in arguments)),
    )
    task = random_tasks(32, 4)
    x = normal(32, 4, 1).to(dtype)
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    a = UniversalMixture(cpu).sample(x, task, torch.Generator().manual_seed(0))
    b = UniversalMixture(gpu).sample(x.cuda(), task, torch.Generator().manual_seed(0))
    torch.testing.assert_close(a, b.cpu(), equal_nan=True, **tolerance)
    a = UniversalMixture(cpu).log_prob(x, task)
    b = UniversalMixture(gpu).log_prob(x.cuda(), task)
    torch.testing.assert_close(a, b.cpu(), **tolerance)
    assert gpu.sample(3, torch.Generator("cuda")).is_cuda
