"""`cooperation` against quadrature, autograd, a slow twin and closed forms."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biglearn_lite import cooperation as co
from biglearn_lite._descent import Law, conditional_gradient, path_gradient
from biglearn_lite._schedule import value_at
from biglearn_lite._stays import haar
from biglearn_lite.cooperation import Schedule, descend, modes_found, reverse_kl
from biglearn_lite.landscapes import kl_point
from biglearn_lite.mixtures import GaussianMixture

F64 = torch.float64


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def random_mixture(seed, K=3, D=2, batch=(), dtype=F64):
    """Unequal weights, full covariances of ordinary condition."""
    g = generator(seed)

    def normal(*shape):
        return torch.randn(*batch, *shape, generator=g, dtype=dtype)

    half = 0.4 * normal(K, D, D).tril(-1) + torch.diag_embed(
        0.4 + 0.3 * normal(K, D).abs()
    )
    weights = normal(K).softmax(-1)
    return GaussianMixture(weights, normal(K, D), half @ half.mT)


def turn(degrees):
    t = math.radians(degrees)
    return torch.tensor(
        [[math.cos(t), math.sin(t)], [-math.sin(t), math.cos(t)]], dtype=F64
    )


def replicas(mixture, n):
    """The law of n equal replicas, for n independent estimates in one call."""
    law = Law.of(mixture)
    return Law(*(each.expand(n, *each.shape[1:]) for each in vars(law).values()))


def normal(*shape, seed=5, dtype=F64):
    return torch.randn(*shape, generator=generator(seed), dtype=dtype)


def agree(estimates, exact, sigmas=4.5):
    """The mean of n estimates is the exact value, up to its standard error."""
    mean, error = estimates.mean(0), estimates.std(0) / len(estimates) ** 0.5
    assert ((mean - exact).abs() <= sigmas * error + 1e-9).all()
    # and the errors are small enough for the test to be able to fail
    assert error.max() < 0.1 * exact.abs().max()


# -- the means of the estimators against the gradient of the quadrature KL ------------

LINE = torch.linspace(-9, 9, 1201, dtype=F64)[:, None]
STEP = float(LINE[1] - LINE[0])


def line_kl(p, q):
    """KL[p || q] of two mixtures on a line, by the trapezoidal rule: (*batch)."""
    x = LINE.view(-1, *[1] * len(p.batch_shape), 1)
    log_p, log_q = p.log_prob(x), q.log_prob(x)
    return (log_p.exp() * (log_p - log_q)).sum(0) * STEP


def plane_kl(p, q):
    axis = torch.linspace(-6, 6, 241, dtype=F64)
    x = torch.cartesian_prod(axis, axis)
    log_p, log_q = p.log_prob(x), q.log_prob(x)
    return (log_p.exp() * (log_p - log_q)).sum() * float(axis[1] - axis[0]) ** 2


def exact_gradient(kl, model, target):
    """Of kl(p, q) in means and factors, by autograd through quadrature."""
    means = model.means.clone().requires_grad_()
    factors = torch.linalg.cholesky(model.covariances).requires_grad_()
    p = GaussianMixture(model.weights, means, factors @ factors.mT, validate=False)
    dm, dF = torch.autograd.grad(kl(p, target), (means, factors))
    return dm, dF.tril()


P, Q, A = random_mixture(2), random_mixture(1), turn(40.0)
MANY = 4000


def test_joint_estimator_has_the_gradient_of_the_quadrature_kl_as_mean():
    exact = exact_gradient(plane_kl, P, Q)
    noise = normal(MANY, 2, 3, 20)
    found = path_gradient(replicas(P, MANY), Law.of(Q).view(None), None, noise)
    for estimate, value in zip(found, exact, strict=True):
        agree(estimate, value)


def test_marginal_estimator_has_the_gradient_of_the_quadrature_kl_as_mean():
    def kl(p, q):
        return line_kl(*(each.transform(A).marginal([0]) for each in (p, q)))

    exact = exact_gradient(kl, P, Q)
    view, noise = Law.of(Q).view(A[None, :1]), normal(MANY, 2, 3, 20)
    found = path_gradient(replicas(P, MANY), view, A[:1].expand(MANY, 1, 2), noise)
    for estimate, value in zip(found, exact, strict=True):
        agree(estimate, value)


def test_conditional_estimator_has_the_gradient_of_the_quadrature_kl_as_mean():
    """Both integrals by quadrature: over y_S ~ q and over y_T given y_S."""
    values = torch.linspace(-6, 6, 121, dtype=F64)[:, None]
    marginal = Q.transform(A).marginal([1]).log_prob(values).exp() * 0.1

    def kl(p, q):
        each = (m.transform(A).conditional([1], values) for m in (p, q))
        return (line_kl(*each) * marginal).sum()

    exact = exact_gradient(kl, P, Q)
    sources = (Q.sample(MANY * 20, generator(3)) @ A[1]).view(MANY, 1, 20)
    found = conditional_gradient(
        replicas(P, MANY),
        Law.of(Q).view(None),
        A.expand(MANY, 2, 2),
        sources,
        normal(MANY, 3, 1, 20),
    )
    for estimate, value in zip(found, exact, strict=True):
        agree(estimate, value)


@pytest.mark.parametrize("value", [-1.2, 0.3])
def test_estimators_have_the_slopes_of_the_landscapes(value):
    """Another oracle: `kl_point` of the two-Gaussian problem."""
    mu = torch.tensor([1.1, 0.6], dtype=F64, requires_grad=True)

    def mixture(means):
        centres = torch.stack([means.detach(), torch.zeros(2, dtype=F64)], -1)
        eye = 0.1 * torch.eye(2, dtype=F64).expand(2, 2, 2)
        return GaussianMixture(torch.full((2,), 0.5, dtype=F64), centres, eye)

    p, q = mixture(mu), mixture(torch.tensor([-1.0, 1.0], dtype=F64))
    turned = turn(30.0).expand(MANY, 2, 2)
    law, noise = replicas(p, MANY), normal(MANY, 2, 1, 20)
    source = torch.full((MANY, 1, 20), value, dtype=F64)
    view = Law.of(q).view(None)
    found = {
        "joint": path_gradient(law, view, None, normal(MANY, 2, 2, 20)),
        "marginal": path_gradient(
            law, Law.of(q).view(turned[:1, :1]), turned[:, :1], normal(MANY, 2, 2, 20)
        ),
        "conditional": conditional_gradient(law, view, turned, source, noise),
    }
    for kind, (means, _) in found.items():
        about = {"angle": 0.0 if kind == "joint" else 30.0}
        if kind == "conditional":
            about["value"] = value
        (exact,) = torch.autograd.grad(kl_point(kind, mu, **about), mu)
        agree(means[..., 0], exact)


# -- the batched step against a slow twin on the same noise ---------------------------


def twin_path(p, q, A, noise):
    """One replica, autograd: log p is evaluated with its parameters detached."""
    means = p.means.clone().requires_grad_()
    factors = torch.linalg.cholesky(p.covariances).requires_grad_()
    frozen = p if A is None else p.transform(A)
    data = q if A is None else q.transform(A)
    loss = 0.0
    for k in range(p.n_components):
        for e in noise[:, k].T:
            x = means[k] + factors[k].tril() @ e
            y = x if A is None else A @ x
            gap = frozen.log_prob(y) - data.log_prob(y)
            loss = loss + p.weights[k] * gap / noise.shape[2]
    return torch.autograd.grad(loss, (means, factors))


def twin_conditional(p, q, A, sources, noise):
    """One replica: the two terms of the gradient, component by component."""
    means = p.means.clone().requires_grad_()
    factors = torch.linalg.cholesky(p.covariances).requires_grad_()
    m, (K, _, J) = noise.shape[1], noise.shape
    S = list(range(m, len(A)))
    moving = GaussianMixture(p.weights, means, factors @ factors.mT, validate=False)
    moving = moving.transform(A)
    frozen, data = p.transform(A), q.transform(A)
    loss = 0.0
    for j in range(J):
        y_s = sources[:, j]
        given, still = moving.conditional(S, y_s), frozen.conditional(S, y_s)
        true = data.conditional(S, y_s)
        for k in range(K):
            y = _transported(given, still, k, noise[k, :, j])
            gap = still.log_prob(y) - true.log_prob(y)
            loss = loss + given.weights[k] * gap / J
    return torch.autograd.grad(loss, (means, factors))


def _transported(moving, still, k, e):
    """A draw that moves with its law by dm + dR R^-1 (y - m) / 2."""
    R = still.covariances[k]
    away = torch.linalg.cholesky(R) @ e
    pushed = moving.covariances[k] @ torch.linalg.solve(R, away)
    return moving.means[k] + (away + pushed) / 2


@pytest.mark.parametrize(("D", "m"), [(2, None), (2, 1), (3, None), (3, 1), (3, 2)])
def test_batched_path_gradient_agrees_with_the_twin(D, m):
    p, q = random_mixture(7, D=D, batch=(4,)), random_mixture(8, D=D)
    A = None if m is None else haar(4, D, p.means, generator(1))[:, :m]
    noise = normal(4, D, 3, 5)
    view = Law.of(q).view(A)
    found = path_gradient(Law.of(p), view, A, noise)
    for i in range(4):
        one = GaussianMixture(p.weights[i], p.means[i], p.covariances[i])
        exact = twin_path(one, q, None if A is None else A[i], noise[i])
        torch.testing.assert_close(found[0][i], exact[0])
        torch.testing.assert_close(found[1][i], exact[1].tril())


@pytest.mark.parametrize(("D", "m"), [(2, 1), (3, 1), (3, 2), (4, 2)])
def test_batched_conditional_gradient_agrees_with_the_twin(D, m):
    p, q = random_mixture(7, D=D, batch=(3,)), random_mixture(8, D=D)
    A = haar(3, D, p.means, generator(1))
    sources, noise = normal(3, D - m, 4, seed=9), normal(3, 3, m, 4)
    found = conditional_gradient(Law.of(p), Law.of(q).view(None), A, sources, noise)
    for i in range(3):
        one = GaussianMixture(p.weights[i], p.means[i], p.covariances[i])
        exact = twin_conditional(one, q, A[i], sources[i], noise[i])
        torch.testing.assert_close(found[0][i], exact[0])
        torch.testing.assert_close(found[1][i], exact[1].tril())


def test_conditional_draws_follow_the_conditional_law():
    """y_T of a component, over many draws, has its conditional mean and covariance."""
    from biglearn_lite._descent import _Given

    p, A = random_mixture(7, D=3), haar(1, 3, P.means, generator(1))
    source = torch.tensor([[[0.4]]], dtype=F64).expand(1, 1, 40_000)
    drawn = _Given(Law.of(p), A, source, normal(1, 3, 2, 40_000))
    exact = p.transform(A[0]).conditional([2], source[0, :, 0])
    for k in range(3):
        y = drawn.y[0, k, :2]
        np.testing.assert_allclose(y.mean(1), exact.means[k], atol=0.02)
        np.testing.assert_allclose(torch.cov(y), exact.covariances[k], atol=0.02)
    torch.testing.assert_close(drawn.weights[0, :, 0], exact.weights)


# -- properties -----------------------------------------------------------------------


@settings(max_examples=20)
@given(st.integers(0, 1000), st.integers(2, 4), st.integers(1, 5))
def test_at_the_truth_every_estimate_is_zero(seed, D, K):
    """Not only in the mean: this is what the path derivative is for."""
    q = random_mixture(seed, K=K, D=D)
    law, A = Law.of(q), haar(1, D, q.means, generator(seed))
    m = D - 1
    found = (
        *path_gradient(law, law.view(None), None, normal(1, D, K, 3)),
        *path_gradient(law, law.view(A[:, :m]), A[:, :m], normal(1, D, K, 3)),
        *conditional_gradient(
            law, law.view(None), A, normal(1, 1, 3), normal(1, K, m, 3)
        ),
    )
    for each in found:
        assert each.abs().max() < 1e-8


def test_haar_matrices_are_orthogonal_and_have_no_preferred_direction():
    A = haar(20_000, 3, P.means, generator())
    torch.testing.assert_close(A @ A.mT, torch.eye(3, dtype=F64).expand_as(A))
    assert A.mean(0).abs().max() < 0.02  # QR alone prefers a negative diagonal
    assert (A.square().mean(0) - 1 / 3).abs().max() < 0.02
    assert 0.47 < (torch.linalg.det(A) > 0).double().mean() < 0.53


def test_replicas_do_not_touch_each_other():
    """A replica that is already at the truth stays; its neighbour moves."""
    target, corner = co.grid_mixture(), co.corner_start(1, 25, 2, generator())
    means = torch.stack([target.means, corner.means[0]])
    covariances = torch.stack([target.covariances, corner.covariances[0]])
    start = GaussianMixture(corner.weights.expand(2, 25), means, covariances)
    end = descend(target, start, Schedule(), 40, generator())
    assert (end.means[0] - target.means).abs().max() < 1e-3
    assert (end.means[1] - start.means[1]).abs().max() > 0.1


def test_threads_share_the_replicas_and_change_nothing():
    target, start = co.grid_mixture(), co.corner_start(17, 25, 2, generator(4))
    mixed = Schedule(joint=1, marginal=1, conditional=1, clip=10, dwell=5)
    before, ends = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            ends.append(descend(target, start, mixed, 60, generator(1)))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(ends[0].means, ends[1].means)
    torch.testing.assert_close(ends[0].covariances, ends[1].covariances)


def test_turning_the_world_turns_the_descent():
    """The joint task has no axes: rotated data, start and noise give a rotated step."""
    R = turn(33.0)
    p, q = random_mixture(7), random_mixture(8)
    noise = normal(1, 2, 3, 5)
    factors = torch.linalg.cholesky(p.covariances)
    plain, _ = path_gradient(Law.of(p), Law.of(q).view(None), None, noise)
    turned = Law(p._log_weights[None], (p.means @ R.T)[None], (R @ factors)[None])
    found, _ = path_gradient(turned, Law.of(q.transform(R)).view(None), None, noise)
    torch.testing.assert_close(found, plain @ R.T)


def test_same_generator_state_same_result_and_the_start_is_left_alone():
    target, start = co.grid_mixture(), co.corner_start(3, 25, 2, generator(4))
    before = start.means.clone()
    mixed = Schedule(joint=1, marginal=1, conditional=1, clip=10, dwell=5)
    ends = [descend(target, start, mixed, 60, generator(1)) for _ in range(2)]
    assert torch.equal(ends[0].means, ends[1].means)
    assert torch.equal(ends[0].covariances, ends[1].covariances)
    assert torch.equal(start.means, before)
    assert not torch.equal(ends[0].means, before)


@pytest.mark.parametrize("D", [1, 3, 5])
def test_other_dimensions(D):
    """All kinds of task pull a single Gaussian to the target."""
    target = GaussianMixture(
        torch.ones(1), torch.full((1, D), 0.5), 0.5 * torch.eye(D)[None]
    )
    start = co.corner_start(4, 1, D, generator(), corner=-1.0)
    mixed = Schedule(joint=1, marginal=1, conditional=1, dwell=5, batch=20)
    end = descend(target, start, mixed, 1500, generator())
    assert (end.means - target.means).abs().max() < 0.1
    assert (end.covariances - target.covariances).abs().max() < 0.1
    assert end.batch_shape == (4,)


def test_what_is_not_learned_stays():
    target, start = co.grid_mixture(), co.corner_start(2, 25, 2, generator())
    for learn, stays in (("means", "covariances"), ("covariances", "means")):
        end = descend(target, start, Schedule(learn=(learn,)), 20, generator())
        torch.testing.assert_close(getattr(end, stays), getattr(start, stays))
        assert (getattr(end, learn) - getattr(start, learn)).abs().max() > 1e-3
        torch.testing.assert_close(end.weights, start.weights)


def test_a_single_start_gives_a_single_mixture():
    start = random_mixture(3)
    end = descend(random_mixture(4), start, Schedule(), 10, generator())
    assert end.batch_shape == ()
    assert end.means.dtype == F64


def test_clip_limits_the_step():
    target, start = co.grid_mixture(), co.corner_start(2, 25, 2, generator())
    schedule = Schedule.joint_only()
    schedule = dataclasses.replace(schedule, rate=1.0, clip=0.5, learn=("means",))
    end = descend(target, start, schedule, 1, generator())
    step = (end.means - start.means).norm(dim=-1)
    assert step.max() <= 0.5 / 25 * 1.001
    assert step.max() > 0.4 / 25  # the start is far away, so the limit is reached


def test_the_diagonal_moves_in_its_logarithm():
    """One step against autograd in the parameters that SGD is said to work on."""
    target, rate = random_mixture(8), 0.05
    start = random_mixture(7, batch=(1,))
    schedule = Schedule(joint=1.0, marginal=0.0, rate=rate, batch=15)
    g = generator(3)
    end = descend(target, start, schedule, 1, g)
    g = generator(3)
    torch.rand(1, generator=g, dtype=F64)  # the kind of task
    noise = torch.randn(1, 1, 2, 3, 5, generator=g, dtype=F64)[0, 0]
    one = GaussianMixture(start.weights[0], start.means[0], start.covariances[0])
    slope = twin_path(one, target, None, noise)[1].tril()
    factors = torch.linalg.cholesky(one.covariances)
    before = factors.diagonal(dim1=-2, dim2=-1)
    log_slope = slope.diagonal(dim1=-2, dim2=-1) * before
    moved = (factors - rate * slope).tril(-1)
    moved = moved + torch.diag_embed((before.log() - rate * log_slope).exp())
    torch.testing.assert_close(end.covariances[0], moved @ moved.mT)


def test_watch_sees_beginning_stays_and_end():
    seen = []
    target, start = co.grid_mixture(), co.corner_start(2, 25, 2, generator())
    end = descend(
        target,
        start,
        Schedule(dwell=20),
        110,
        generator(),
        watch=lambda step, mixture: seen.append((step, mixture)),
        every=50,
    )
    assert [step for step, _ in seen] == [0, 60, 100, 110]
    torch.testing.assert_close(seen[0][1].means, start.means)
    assert torch.equal(seen[-1][1].means, end.means)
    assert not torch.equal(seen[1][1].means, seen[2][1].means)


# -- what the chapter is about, in small ----------------------------------------------


def test_joint_learning_stays_in_the_corner_and_big_learning_leaves_it():
    target = co.grid_mixture()
    ends = {
        name: descend(
            target, co.corner_start(4, 25, 2, generator(9)), schedule, 3000, generator()
        )
        for name, schedule in (
            ("joint", Schedule.joint_only()),
            ("big", dataclasses.replace(Schedule.published(), rate=0.3, clip=20)),
        )
    }
    assert modes_found(ends["joint"], target.means).tolist() == [1] * 4
    kl = reverse_kl(ends["joint"], target, generator=generator())
    np.testing.assert_allclose(kl, math.log(25), atol=0.02)
    assert modes_found(ends["big"], target.means).min() >= 4
    assert (reverse_kl(ends["big"], target, generator=generator()) < 2.5).all()


# -- schedule -------------------------------------------------------------------------


def test_published_schedule():
    early, late = Schedule.published().at(0.49), Schedule.published().at(0.5)
    assert (early.joint, early.marginal) == (0, 1)
    assert (late.joint, late.marginal) == (0.1, 0.9)
    assert (late.dwell, late.rate, late.blur, late.conditional) == (20, 0.1, 1, 0)
    assert Schedule.published().batch == 100


def test_courses_run_straight_or_in_logarithms():
    assert value_at([(0, 1), (1, 3)], 0.25) == pytest.approx(1.5)
    assert value_at([(0, 16), (1, 1)], 0.5, geometric=True) == pytest.approx(4)
    assert value_at([(0.2, 5), (0.4, 7)], 0.0) == 5
    assert value_at([(0.2, 5), (0.4, 7)], 1.0) == 7
    assert value_at([(0, 1), (0.5, 1), (0.5, 9), (1, 9)], 0.5) == 9
    assert value_at(2, 0.3) == 2.0


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.1, 100)), min_size=1, max_size=5),
    st.floats(0, 1),
    st.booleans(),
)
def test_a_course_stays_between_its_knots(knots, time, geometric):
    course = sorted(knots)
    values = [value for _, value in course]
    found = value_at(course, time, geometric)
    assert min(values) * (1 - 1e-9) <= found <= max(values) * (1 + 1e-9)


def test_kinds_are_drawn_in_their_shares():
    now = Schedule(joint=1, marginal=2, conditional=5).at(0)
    chances = (torch.arange(800) + 0.5) / 800
    drawn = [now.kind(float(c)) for c in chances]
    assert [drawn.count(k) for k in ("joint", "marginal", "conditional")] == [
        100,
        200,
        500,
    ]
    assert Schedule.joint_only().at(0).kind(1.0) == "joint"  # rounding at the end


def test_blur_widens_the_target():
    law = Law.of(co.grid_mixture()).blurred(4.0)
    torch.testing.assert_close(law.covariances[0, 0], 0.2 * torch.eye(2))


@pytest.mark.parametrize("axes", ["own", 90.0])
def test_axes_of_tokens(axes):
    """With one's own axes, or a right angle, a task touches one coordinate only."""
    target = GaussianMixture([1.0], [[2.0, 3.0]], [[[0.5, 0.0], [0.0, 0.5]]])
    start = GaussianMixture([[1.0]], [[[0.0, 0.0]]], [[[1.0, 0.0], [0.0, 1.0]]])
    end = descend(target, start, Schedule(axes=axes), 1, generator(2))
    moved = (end.means[0, 0].abs() > 1e-6).tolist()
    assert sorted(moved) == [False, True]
    assert axes == "own" or moved == [False, True]


# -- measures -------------------------------------------------------------------------


def test_modes_found_counts_centres_not_components():
    centres = torch.tensor([[0.0, 0.0], [2.0, 0.0], [4.0, 0.0]])
    means = torch.tensor([[[0.1, 0.0], [0.0, 0.29]], [[2.0, 0.31], [4.2, 0.2]]])
    eye = torch.eye(2).expand(2, 2, 2, 2)
    mixture = GaussianMixture(torch.full((2, 2), 0.5), means, eye)
    assert modes_found(mixture, centres).tolist() == [1, 1]
    assert modes_found(mixture, centres, radius=0.32).tolist() == [1, 2]
    alone = GaussianMixture(torch.tensor([1.0, 0.0]), means[1], eye[1])
    assert modes_found(alone, centres, radius=0.32).tolist() == 1


def test_reverse_kl_of_single_gaussians():
    p = GaussianMixture([1.0], [[0.0, 0.0]], [[[0.5, 0.0], [0.0, 0.5]]])
    q = GaussianMixture([1.0], [[1.0, 0.0]], [[[1.0, 0.0], [0.0, 2.0]]])
    exact = torch.distributions.kl_divergence(
        *(
            torch.distributions.MultivariateNormal(m.means[0], m.covariances[0])
            for m in (p, q)
        )
    )
    found = reverse_kl(p, q, 200_000, generator())
    assert found.shape == ()
    assert float(found) == pytest.approx(float(exact), abs=0.01)


def test_reverse_kl_of_a_batch_with_unequal_weights():
    p, q = random_mixture(2, batch=(2,)), random_mixture(1)
    found = reverse_kl(p, q, 300_000, generator())
    for i in range(2):
        one = GaussianMixture(p.weights[i], p.means[i], p.covariances[i])
        assert float(found[i]) == pytest.approx(float(plane_kl(one, q)), abs=0.02)


# -- bad input ------------------------------------------------------------------------

BAD = [
    ({"rate": 0}, "rate is positive"),
    ({"rate": [(0, 1), (0.5, -1)]}, "rate is positive"),
    ({"blur": math.nan}, "blur is positive"),
    ({"dwell": 0}, "dwell is positive"),
    ({"joint": -1}, "joint is 0 or more"),
    ({"marginal": 0.0}, "At every time some kind"),
    ({"marginal": [(0, 1), (0.5, 1), (0.5, 0), (1, 1)]}, "At every time some kind"),
    ({"rate": []}, "rate is a number or knots"),
    ({"rate": "fast"}, "rate is a number or knots"),
    ({"rate": [(0.5, 1), (0.2, 1)]}, "without going back"),
    ({"rate": [(0, 1), (2, 1)]}, "run from 0 to 1"),
    ({"batch": 0}, "batch is a whole number"),
    ({"batch": 2.5}, "batch is a whole number"),
    ({"targets": 0}, "targets is a whole number"),
    ({"clip": 0}, "clip is a positive number"),
    ({"axes": "mine"}, "axes is 'turned'"),
    ({"axes": math.inf}, "axes is 'turned'"),
    ({"learn": ()}, "learn names some of"),
    ({"learn": ("weights",)}, "learn names some of"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_a_bad_schedule_says_so(arguments, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**arguments)


def test_bad_arguments_of_descend():
    target, start = co.grid_mixture(), co.corner_start(2, 25, 2, generator())
    with pytest.raises(ValueError, match="equal dimensions"):
        descend(co.grid_mixture(2, dim=3), start, Schedule(), 1)
    with pytest.raises(ValueError, match="single mixture"):
        descend(start, start, Schedule(), 1)
    with pytest.raises(ValueError, match="must be a GaussianMixture"):
        descend(target, start.means, Schedule(), 1)
    with pytest.raises(ValueError, match="steps"):
        descend(target, start, Schedule(), -1)
    with pytest.raises(ValueError, match="must leave at least one"):
        descend(target, start, Schedule(targets=2), 1)
    space = co.grid_mixture(2, dim=3)
    with pytest.raises(ValueError, match="turn a plane"):
        descend(space, co.corner_start(1, 8, 3), Schedule(axes=30.0), 1)
    assert torch.equal(descend(target, start, Schedule(), 0).means, start.means)


def test_divergence_is_an_error_that_names_the_replicas():
    target, start = co.grid_mixture(), co.corner_start(2, 25, 2, generator())
    wild = Schedule(marginal=0.0, joint=1.0, rate=300.0)
    with pytest.raises(FloatingPointError, match=r"Replicas \[0, 1\].*clip"):
        descend(target, start, wild, 200, generator())


def test_bad_arguments_of_measures():
    mixture = co.grid_mixture()
    with pytest.raises(ValueError, match="centres must have shape"):
        modes_found(mixture, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="radius must be positive"):
        modes_found(mixture, mixture.means, radius=0.0)
    with pytest.raises(ValueError, match="n must be"):
        reverse_kl(mixture, mixture, 24)
