"""EM against scikit-learn, a slow twin, invariances and a numerical maximum."""

import math
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import linalg, optimize, stats
from sklearn import mixture as sk
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from biglearn_lite._em_steps import State, features, floored, view_step
from biglearn_lite._em_tasks import Rows, centre, draw_view
from biglearn_lite.em import (
    BigLearnEM,
    JointEM,
    Plan,
    Rules,
    data_start,
    expectation_maximization,
    random_start,
    scores,
)
from biglearn_lite.mixtures import GaussianMixture

F64 = torch.float64
NAN = math.nan


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clusters(seed, n=120, d=2, k=3, gap=3.0, dtype=F64):
    """Points of k overlapping clusters."""
    g = seeded(seed)
    means = gap * torch.randn(k, d, generator=g, dtype=dtype)
    pick = torch.randint(k, (n,), generator=g)
    return means[pick] + torch.randn(n, d, generator=g, dtype=dtype)


def holed(x, share, seed=5):
    """The same points with some values missing, never a whole row."""
    hole = torch.rand(x.shape, generator=seeded(seed)) < share
    hole[..., 0] &= ~hole.all(-1)
    return x.masked_fill(hole, NAN)


def run(x, start, plan, iterations, seed=0, **options):
    return expectation_maximization(x, start, plan, iterations, seeded(seed), **options)


def close(a, b, atol=1e-9):
    for name in ("weights", "means", "covariances"):
        torch.testing.assert_close(
            getattr(a, name), getattr(b, name), rtol=0, atol=atol
        )


def one(batch, i):
    return GaussianMixture(batch.weights[i], batch.means[i], batch.covariances[i])


# ---------------------------------------------------------------- joint steps


@pytest.mark.filterwarnings("ignore:.*:sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("steps", [1, 7])
@pytest.mark.parametrize("d", [1, 2, 5])
def test_joint_steps_are_scikit_learns(d, steps):
    x = clusters(d, d=d)
    start = data_start(x, 3, seeded(1))
    model = sk.GaussianMixture(
        3,
        max_iter=steps,
        tol=0,
        reg_covar=0,
        weights_init=start.weights.numpy(),
        means_init=start.means.numpy(),
        precisions_init=torch.linalg.inv(start.covariances).numpy(),
    ).fit(x.numpy())
    ours = run(x, start, Plan.joint_only(floor=1e-9), steps)
    np.testing.assert_allclose(ours.weights, model.weights_, atol=1e-9)
    np.testing.assert_allclose(ours.means, model.means_, atol=1e-9)
    np.testing.assert_allclose(ours.covariances, model.covariances_, atol=1e-9)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    d=st.integers(1, 3),
    k=st.integers(1, 4),
    missing=st.sampled_from([0.0, 0.3]),
)
def test_joint_em_never_lowers_the_likelihood(seed, d, k, missing):
    x = holed(clusters(seed, n=30, d=d), missing)
    found = [data_start(x, k, seeded(seed), init="random_from_data")]
    run(x, found[0], Plan.joint_only(), 12, watch=lambda _, p: found.append(p))
    climbed = [likelihood(x, p) for p in found]
    assert len(found) == 13
    assert all(b >= a - 1e-9 for a, b in pairwise(climbed))


def likelihood(x, p):
    """Mean log density of what is observed, a row at a time through `marginal`."""
    total = 0.0
    for row in x:
        seen = (~row.isnan()).nonzero()[:, 0].tolist()
        total += p.marginal(seen).log_prob(row[seen]).item() if seen else 0.0
    return total / len(x)


def test_scores_are_the_marginal_densities_of_what_is_observed():
    x = holed(clusters(3, d=3), 0.4)
    p = data_start(x, 3, seeded())
    batch = GaussianMixture(p.weights[None], p.means[None], p.covariances[None])
    assert scores(batch, x).item() == pytest.approx(likelihood(x, p), abs=1e-10)


# ---------------------------------------------------------------- the slow twin


def slow_block(x, p, A, t, plan):
    """The paper's block in the coordinates y = A x: per component, per point."""
    y, k = x @ A.T, len(p[0])
    alpha = k**-0.5 if plan.smoothing is None else plan.smoothing
    weights, means = p[0].copy(), p[1] @ A.T
    covariances = np.array([A @ c @ A.T for c in p[2]])
    for _ in range(plan.inner):
        r = np.empty((len(y), k))
        for n, j in product(range(len(y)), range(k)):
            law = stats.multivariate_normal(means[j, :t], covariances[j, :t, :t])
            r[n, j] = weights[j] * law.pdf(y[n, :t])
        r /= r.sum(1, keepdims=True)
        weights = (r.mean(0) + alpha) / (r.mean(0) + alpha).sum()
        scatters = []
        for j in range(k):
            means[j, :t] = r[:, j] @ y[:, :t] / r[:, j].sum()
            gap = y[:, :t] - means[j, :t]
            scatters.append((r[:, j, None] * gap).T @ gap / r[:, j].sum())
        share = r.mean(0)
        pooled = sum(share[j] * scatters[j] for j in range(k))
        for j in range(k):
            n, nu = r[:, j].sum(), plan.pooling
            covariances[j, :t, :t] = (n * scatters[j] + nu * pooled) / (n + nu)
            values, vectors = np.linalg.eigh(covariances[j])
            covariances[j] = (vectors * values.clip(plan.floor)) @ vectors.T
    return weights, means @ A, np.array([A.T @ c @ A for c in covariances])


def whole_rotation(view):
    """An orthogonal matrix whose first rows are the view's."""
    return np.vstack([view, linalg.null_space(view).T])


KINDS = {
    "joint": {"joint": 1.0, "axis": 0.0},
    "axis": {"joint": 0.0, "axis": 1.0},
    "rotated": {"joint": 0.0, "axis": 0.0},
}


@pytest.mark.parametrize("extra", [{}, {"floor": 0.4, "pooling": 6.0}], ids=str)
@pytest.mark.parametrize("d", [2, 4])
@pytest.mark.parametrize("kind", KINDS)
def test_a_block_is_the_slow_twins(kind, d, extra):
    x = torch.stack([clusters(seed, n=25, d=d) for seed in (1, 2)])
    plan = Plan(inner=3, sizes=(2.0, 2.0), **KINDS[kind], **extra)
    start = data_start(x, 2, seeded(4))
    above = floored(start.covariances, plan.floor)  # as the start is taken
    start = GaussianMixture(start.weights, start.means, above)
    found = run(x, start, plan, 1, seed=6)
    task = draw_view(plan, Rows.about(x, centre(x)), start.means, seeded(6))
    for i in range(2):
        A, t = np.eye(d), d
        if kind != "joint":
            A = whole_rotation(task[0][i].numpy())
            t = task[0].shape[1]
        p = start.weights[i], start.means[i], start.covariances[i]
        expected = slow_block(x[i].numpy(), [v.numpy() for v in p], A, t, plan)
        for ours, theirs in zip(
            (found.weights, found.means, found.covariances), expected, strict=True
        ):
            np.testing.assert_allclose(ours[i], theirs, atol=1e-9)


def test_a_rotation_of_all_tokens_is_the_joint_step():
    x = clusters(2, d=3)[None]
    start = data_start(x, 3, seeded())
    state = State(start.weights, start.means, start.covariances)
    A = torch.from_numpy(stats.ortho_group.rvs(3, random_state=1))[None]
    turned = view_step(state, A, features(x @ A.mT), Rules(1e-5))
    close(turned, run(x, start, Plan.joint_only(), 1))


def test_replicas_in_a_batch_do_not_meet():
    x = torch.stack([clusters(seed, n=40, d=3) for seed in range(3)])
    start = data_start(x, 3, seeded(1))
    rows = Rows.about(x, centre(x))
    view, seen = draw_view(Plan(joint=0.0, axis=0.0), rows, start.means, seeded(2))
    state = State(start.weights, start.means, start.covariances)
    together = view_step(state, view, seen, Rules(1e-5, 0.2))
    joint = run(x, start, Plan.joint_only(smoothing=0.1), 4)
    for i in range(3):
        alone = State(*(v[i : i + 1] for v in vars(state).values()))
        alone = view_step(alone, view[i : i + 1], seen[i : i + 1], Rules(1e-5, 0.2))
        close(one(together, i), one(alone, 0), 1e-12)
        close(
            one(joint, i), run(x[i], one(start, i), Plan.joint_only(smoothing=0.1), 4)
        )


def test_shared_data_are_the_same_data_for_each_replica():
    x = holed(clusters(1, d=3), 0.2)
    start = data_start(x, 3, seeded(1), replicas=4)
    plan = Plan(joint=0.5, axis=0.2)
    shared = run(x, start, plan, 6)
    close(shared, run(x.expand(4, -1, -1), start, plan, 6))
    assert shared.batch_shape == (4,)
    assert run(x, one(start, 0), plan, 2).batch_shape == ()


def test_chunks_change_nothing(monkeypatch):
    x = torch.stack([clusters(seed, n=50) for seed in range(5)])
    start = data_start(x, 3, seeded(1))
    whole = run(x, start, Plan(), 10)
    for size in (3 * 8 * 7, 3 * 8 * 110):  # 7 rows, or two replicas at once
        monkeypatch.setattr("biglearn_lite._em_steps._CACHE", size)
        close(run(x, start, Plan(), 10), whole)


# ---------------------------------------------------------------- drawing tasks


def views(plan, d, n=400, replicas=2):
    rows, g = Rows.about(clusters(0, d=d)[None], torch.zeros(1, d, dtype=F64)), seeded()
    like = torch.zeros(replicas, 3, d, dtype=F64)
    drawn = (draw_view(plan, rows, like, g) for _ in range(n))
    return [None if task is None else task[0] for task in drawn]


def test_tasks_come_as_often_as_planned():
    drawn = views(Plan(), 4, 2000)
    joint = sum(view is None for view in drawn)
    axis = sum(view is not None and bool((view.abs() == 1).any()) for view in drawn)
    assert stats.binomtest(joint, 2000, 0.4).pvalue > 1e-3
    assert stats.binomtest(axis, 2000, 0.1).pvalue > 1e-3


def test_sizes_follow_the_beta_law():
    sizes = [view.shape[1] for view in views(Plan(joint=0.0), 6, 1500)]
    beta = stats.beta(5, 1)
    share = [beta.cdf((t + 1) / 6) - beta.cdf(t / 6) for t in range(6)]
    share = [share[0] + share[1], *share[2:]]
    counts = [sizes.count(t) for t in range(1, 6)]
    assert stats.chisquare(counts, 1500 * np.array(share)).pvalue > 1e-3


def test_rotations_are_even_and_differ_between_replicas():
    drawn = torch.cat(views(Plan(joint=0.0, axis=0.0), 2, 600))[:, 0]
    angle = torch.atan2(drawn[:, 1], drawn[:, 0]).numpy()
    assert stats.kstest(angle, stats.uniform(-np.pi, 2 * np.pi).cdf).pvalue > 1e-3
    first = views(Plan(joint=0.0, axis=0.0), 5, 1)[0]
    torch.testing.assert_close(
        first @ first.mT, torch.eye(first.shape[1]).expand(2, -1, -1).double()
    )
    assert (first[0] - first[1]).abs().max() > 0.1


def test_each_replica_has_its_own_axes():
    drawn = views(Plan(joint=0.0, axis=1.0), 4, 200)
    assert all((view.abs().sum(-1) == 1).all() for view in drawn)
    pairs = [view.sum(1) for view in drawn if view.shape[1] == 3]
    same = sum(bool((a == b).all()) for a, b in pairs)
    assert stats.binomtest(same, len(pairs), 1 / 4).pvalue > 1e-3
    left_out = [int(both[0].argmin()) for both in pairs]
    assert stats.chisquare([left_out.count(i) for i in range(4)]).pvalue > 1e-3


def test_one_dimension_has_joint_tasks_only():
    assert views(Plan(joint=0.0), 1, 3) == [None] * 3


def test_the_finish_is_joint():
    x, start = clusters(0), data_start(clusters(0), 3, seeded())
    plan = {"axis": 0.0, "inner": 1, "smoothing": 0.0}
    half = run(x, start, Plan(joint=0.0, **plan), 4)
    both = run(x, start, Plan(joint=0.0, finish=0.5, **plan), 8)
    close(both, run(x, half, Plan.joint_only(), 4))


# ---------------------------------------------------------------- missing values


def test_nothing_missing_is_the_plain_step():
    x = clusters(4, d=3)
    start, plan = data_start(x, 3, seeded()), Plan.joint_only()
    beside = torch.cat([x, torch.full((7, 3), NAN, dtype=F64)])
    close(run(beside, start, plan, 5), run(x, start, plan, 5))


def test_one_gaussian_with_missing_values_reaches_the_numerical_maximum():
    x = holed(clusters(9, n=25, d=2, k=1), 0.35)
    start = data_start(x, 1, seeded())
    found = run(x, start, Plan.joint_only(floor=1e-9), 400)

    def loss(theta):
        factor = np.array([[np.exp(theta[2]), 0], [theta[3], np.exp(theta[4])]])
        p = GaussianMixture(
            torch.ones(1, dtype=F64),
            torch.from_numpy(theta[None, :2].copy()),
            torch.from_numpy((factor @ factor.T)[None]),
        )
        return -likelihood(x, p)

    best = optimize.minimize(loss, np.zeros(5), method="BFGS", options={"gtol": 1e-7})
    assert likelihood(x, found) == pytest.approx(-best.fun, abs=1e-9)
    np.testing.assert_allclose(found.means[0], best.x[:2], atol=1e-4)


def test_each_replica_may_miss_its_own_values():
    x = torch.stack([holed(clusters(s, n=60, d=3), 0.3, seed=s) for s in range(3)])
    start, plan = data_start(x, 2, seeded()), Plan.joint_only()
    found = run(x, start, plan, 5)
    for i in range(3):
        close(one(found, i), run(x[i], one(start, i), plan, 5))


def test_views_of_missing_data_use_the_rows_observed_there():
    x = holed(clusters(1, n=300, d=4), 0.25)[None]
    rows, like, g = Rows.about(x, centre(x)), torch.zeros(1, 2, 4, dtype=F64), seeded()
    sizes = set()
    for _ in range(40):
        view, seen = draw_view(Plan(joint=0.0), rows, like, g)
        among = (view[0] != 0).any(0).nonzero()[:, 0]
        sizes.add(len(among))
        used = seen[0, -1] == 1
        assert not x[0, used][:, among].isnan().any()
        y = (x[0, used] - rows.centre)[:, among] @ view[0][:, among].mT
        torch.testing.assert_close(seen[:, :, used], features(y[None]))
        assert (seen[:, :, ~used] == 0).all()
        assert used.sum() >= 20
    assert len(sizes) > 1


def test_big_learning_finds_clusters_in_missing_data():
    x = clusters(6, n=600, d=3, gap=6.0)
    means = data_start(holed(x, 0.4), 3, seeded(), replicas=3)
    found = run(holed(x, 0.4), means, Plan(finish=0.2), 60)
    full = run(x, means, Plan(finish=0.2), 60)
    assert scores(found, x).max() > scores(full, x).max() - 0.05


# ---------------------------------------------------------------- numbers that hold


@pytest.mark.parametrize("offset", [1e4, 1e6])
def test_far_from_the_origin_nothing_is_lost(offset):
    x = clusters(3, d=3)
    start, plan = data_start(x, 3, seeded()), Plan()
    shift = torch.tensor([offset, -offset, offset], dtype=F64)
    there = GaussianMixture(start.weights, start.means + shift, start.covariances)
    found = run(x + shift, there, plan, 30)
    near = run(x, start, plan, 30)
    torch.testing.assert_close(found.means - shift, near.means, rtol=0, atol=1e-8)
    torch.testing.assert_close(found.covariances, near.covariances, rtol=0, atol=1e-8)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), d=st.integers(1, 4))
def test_floored_is_the_nearest_above_the_floor(seed, d):
    half = torch.randn(5, d, d, generator=seeded(seed), dtype=F64)
    c = (half + half.mT) / 2
    values, vectors = torch.linalg.eigh(c)
    expected = vectors * values.clamp(min=0.3).unsqueeze(-2) @ vectors.mT
    torch.testing.assert_close(floored(c, 0.3), expected)


SICK = {
    "all points equal": lambda x: torch.ones_like(x),
    "a constant feature": lambda x: torch.cat([x[:, :1], 0 * x[:, 1:] + 7], 1),
    "a feature that copies another": lambda x: x[:, :1].expand(-1, 2).clone(),
    "duplicated points": lambda x: x[:4].repeat(10, 1),
    "one outlier": lambda x: torch.cat([x, x[:1] + 1e6]),
    "as many components as rows": lambda x: x[:4],
    "a row that is all missing": lambda x: torch.cat([x, x[:1] * NAN]),
    "a column seen once": lambda x: torch.cat([x[:, :1], x[:, 1:] * NAN], 1).index_put(
        (torch.tensor(0), torch.tensor(1)), torch.tensor(1.0, dtype=x.dtype)
    ),
    "never two columns in one row": lambda x: x.masked_fill(
        torch.eye(2).bool().repeat(len(x) // 2, 1), NAN
    ),
}


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("kind", SICK)
def test_sick_data_give_sound_parameters(kind, dtype):
    x = SICK[kind](clusters(0, n=40, dtype=dtype))
    for start in (
        data_start(x, 4, seeded(), replicas=3),
        random_start(3, 4, 2, seeded(), dtype),
    ):
        for plan in (Plan(), Plan.joint_only()):
            p = run(x, start, plan, 25)
            for part in (p.weights, p.means, p.covariances):
                assert part.isfinite().all()
            least = torch.linalg.eigvalsh(p.covariances.double()).min()
            assert least > 0.9e-5
            assert p.means.dtype == dtype


def test_a_component_without_points_stays():
    x = clusters(0)
    start = data_start(x, 2, seeded())
    means = torch.stack([start.means[0], start.means[0] + 1e3])
    start = GaussianMixture(start.weights, means, start.covariances)
    found = run(x, start, Plan.joint_only(), 3)
    assert found.weights.tolist() == [1, 0]
    torch.testing.assert_close(found.means[1], means[1])
    torch.testing.assert_close(found.covariances[1], start.covariances[1])


# ---------------------------------------------------------------- it escapes


def test_big_learning_finds_modes_that_joint_em_does_not(generator):
    axis = torch.tensor([-3.0, 0.0, 3.0], dtype=F64)
    modes = torch.cartesian_prod(axis, axis)
    pick = torch.randint(9, (6, 600), generator=generator)
    noise = torch.randn(6, 600, 2, generator=generator, dtype=F64)
    x = modes[pick] + 0.3 * noise
    start = random_start(6, 9, 2, generator)

    def found(plan, iterations):
        p = expectation_maximization(x, start, plan, iterations, generator)
        near = torch.cdist(p.means, modes.expand(6, -1, -1)).amin(1) < 0.3
        return near.sum(1).double().mean()

    joint, big = found(Plan.joint_only(), 200), found(Plan(), 150)
    assert big >= 8.5
    assert joint <= 7.5


# ---------------------------------------------------------------- watching


def test_watch_sees_every_so_many_iterations_and_may_stop():
    x = clusters(0)
    seen, start = [], data_start(x, 2, seeded())
    run(x, start, Plan(), 7, every=3, watch=lambda i, p: seen.append((i, p)))
    assert [i for i, _ in seen] == [3, 6]
    close(seen[0][1], run(x, start, Plan(), 3))
    stopped = run(x, start, Plan(), 7, watch=lambda i, p: i == 2)
    close(stopped, run(x, start, Plan(), 2))
    close(run(x, start, Plan(), 0), start)


# ---------------------------------------------------------------- estimators


@parametrize_with_checks(
    [
        JointEM(2, iterations=20),
        BigLearnEM(2, iterations=10),
    ]
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_estimator_agrees_with_scikit_learn():
    x = clusters(5, n=300).numpy()
    ours = JointEM(3, n_init=5, tol=1e-7).fit(x)
    theirs = sk.GaussianMixture(3, n_init=5, tol=1e-7, random_state=0).fit(x)
    assert ours.score(x) == pytest.approx(theirs.score(x), abs=1e-5)
    assert ours.lower_bound_ == pytest.approx(ours.score(x), abs=1e-12)
    theirs.weights_, theirs.means_ = ours.weights_, ours.means_
    theirs.precisions_cholesky_ = np.array(
        [np.linalg.cholesky(np.linalg.inv(c)) for c in ours.covariances_]
    )
    np.testing.assert_allclose(ours.score_samples(x), theirs.score_samples(x))
    np.testing.assert_allclose(
        ours.predict_proba(x), theirs.predict_proba(x), atol=1e-9
    )
    assert (ours.predict(x) == theirs.predict(x)).all()
    assert ours.converged_


@pytest.mark.parametrize("model", [JointEM, BigLearnEM])
def test_restarts_keep_the_likeliest(model):
    x = clusters(5, k=6, n=200, gap=5.0)
    fits = [model(6, iterations=20, n_init=n, init="random") for n in (1, 8)]
    few, many = (fit.fit(x).lower_bound_ for fit in fits)
    assert many > few
    again = clone(fits[1]).fit(x.numpy())
    np.testing.assert_array_equal(again.means_, fits[1].means_)
    other = clone(fits[1]).set_params(random_state=1).fit(x)
    assert (other.means_ != fits[1].means_).any()


@pytest.mark.parametrize("model", [JointEM, BigLearnEM])
def test_rows_without_values_are_predicted_by_the_weights(model):
    x = holed(clusters(0, d=3), 0.2)
    x[3] = NAN
    fit = model(3, iterations=20).fit(x)
    np.testing.assert_allclose(fit.predict_proba(x)[3], fit.weights_)
    assert fit.score_samples(x)[3] == pytest.approx(0, abs=1e-12)
    assert fit.predict(x).shape == (120,)
    assert fit.mixture_.dim == fit.n_features_in_ == 3


def test_estimators_take_float32_and_their_own_seed():
    x = clusters(0, dtype=torch.float32)
    fit = JointEM(2, random_state=None).fit(x)
    assert fit.means_.dtype == np.float32
    assert fit.predict_proba(x.double()).shape == (120, 2)


def test_big_learn_em_is_its_plan():
    x = clusters(0)
    fit = BigLearnEM(3, iterations=15, pooling=3.0, finish=0.2).fit(x)
    g = fit._generator()
    start = data_start(x, 3, g, replicas=1)
    plan = Plan(pooling=3.0, finish=0.2)
    again = expectation_maximization(x, start, plan, 15, g)
    close(one(again, 0), fit.mixture_, 1e-12)


# ---------------------------------------------------------------- starts


def test_starts_lie_where_they_should():
    x = holed(clusters(0, n=50, gap=9.0), 0.0)
    for init in ("k-means++", "random_from_data"):
        start = data_start(x, 5, seeded(), replicas=20, init=init)
        assert (torch.cdist(start.means, x).amin(-1) < 1e-6).all()
        gaps = torch.cdist(start.means, start.means) + torch.eye(5) * 9
        assert (gaps > 1e-5).all()  # no row twice
    paper = random_start(4000, 2, 1, seeded()).means.flatten().numpy()
    assert stats.kstest(paper, "norm").pvalue > 1e-3
    wide = data_start(100 * x + 7, 400 // 8, seeded(), init="random").means
    assert wide.std(0) == pytest.approx(100 * x.std(0), rel=0.5)


def test_far_points_come_first_in_k_means():
    x = torch.zeros(100, 1, dtype=F64)
    x[0], x[1] = 10, -10
    start = data_start(x, 3, seeded(), replicas=50)
    assert (start.means.sort(1).values.flatten(1) == torch.tensor([-10.0, 0, 10])).all()


# ---------------------------------------------------------------- bad input

X = [[0.0, 1.0], [1.0, 3.0], [2.0, 0.0]]


@pytest.mark.parametrize(
    ("x", "k", "said"),
    [
        (X, 4, "n_components must be at most"),
        (X, 0, "n_components must be an integer"),
        ([[1.0, math.inf], [0.0, 1.0]], 1, "infinity"),
        ([[1.0, NAN], [0.0, NAN]], 1, "column 1 is all NaN"),
        ([[NAN, NAN], [0.0, 1.0]], 2, "n_components must be at most"),
        ([["a", "b"]], 1, "string"),
        (np.empty((0, 2)), 1, "0 sample"),
        ([1.0, 2.0], 1, "2D array"),
    ],
    ids=str,
)
@pytest.mark.parametrize("model", [JointEM, BigLearnEM])
def test_estimators_refuse_bad_data(model, x, k, said):
    with pytest.raises(ValueError, match=said):
        model(k).fit(x)


@pytest.mark.parametrize(
    ("model", "wrong"),
    [
        (JointEM, {"iterations": 0}),
        (JointEM, {"n_init": 0}),
        (JointEM, {"tol": -1.0}),
        (JointEM, {"init": "nowhere"}),
        (JointEM, {"floor": 0.0}),
        (JointEM, {"smoothing": -1.0}),
        (BigLearnEM, {"joint": 0.8, "axis": 0.4}),
        (BigLearnEM, {"joint": 1.5}),
        (BigLearnEM, {"inner": 0}),
        (BigLearnEM, {"sizes": (0.0, 1.0)}),
        (BigLearnEM, {"sizes": 3}),
        (BigLearnEM, {"smoothing": NAN}),
        (BigLearnEM, {"floor": math.inf}),
        (BigLearnEM, {"pooling": -1}),
        (BigLearnEM, {"finish": "late"}),
    ],
    ids=str,
)
def test_estimators_refuse_bad_parameters(model, wrong):
    (name,) = list(wrong)[:1]
    with pytest.raises(ValueError, match=name):
        model(1, **wrong).fit(X)


def start_of(k=2, d=2, batch=(), dtype=F64, mean=0.0):
    return GaussianMixture(
        torch.full((*batch, k), 1 / k, dtype=dtype),
        torch.full((*batch, k, d), mean, dtype=dtype),
        torch.eye(d, dtype=dtype).expand(*batch, k, d, d),
        validate=False,
    )


@pytest.mark.parametrize(
    ("data", "start", "said"),
    [
        (np.zeros((5, 2)), start_of(), "data must be a float32 or float64 tensor"),
        (torch.zeros(5, 2).long(), start_of(), "got int64"),
        (torch.zeros(5, dtype=F64), start_of(), r"got shape \(5,\)"),
        (torch.zeros(0, 2, dtype=F64), start_of(), r"got shape \(0, 2\)"),
        (torch.full((5, 2), math.inf, dtype=F64), start_of(), "must not be infinite"),
        (torch.full((5, 2), NAN, dtype=F64), start_of(), "column 0 is all NaN"),
        (torch.full((2, 5, 2), NAN, dtype=F64), start_of(), "of replica 0"),
        (torch.full((5, 2), 1e160, dtype=F64), start_of(), "Divide by a constant"),
        (torch.zeros(5, 2, dtype=F64), "k-means", "start must be a GaussianMixture"),
        (torch.zeros(5, 2, dtype=F64), start_of(dtype=torch.float32), "dtype"),
        (torch.zeros(5, 2, dtype=F64), start_of(d=3), "dimension of the data, 2"),
        (torch.zeros(5, 2, dtype=F64), start_of(k=6), "got 6 for 5 rows"),
        (torch.zeros(5, 2, dtype=F64), start_of(mean=NAN), "means: component 0"),
        (torch.zeros(3, 5, 2, dtype=F64), start_of(batch=(2,)), "each replica"),
        (torch.zeros(5, 2, dtype=F64), start_of(batch=(2, 2)), "each replica"),
    ],
)
def test_bad_arguments_are_refused(data, start, said):
    with pytest.raises(ValueError, match=said):
        run(data, start, Plan(), 1)


def test_counts_are_checked():
    x = torch.zeros(5, 2, dtype=F64)
    with pytest.raises(ValueError, match="iterations"):
        run(x, start_of(), Plan(), -1)
    with pytest.raises(ValueError, match="every"):
        run(x, start_of(), Plan(), 1, every=0)
    with pytest.raises(ValueError, match="replicas"):
        random_start(0, 1, 1, seeded())
