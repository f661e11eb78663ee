"""`landscapes` against the plane, scipy, exact mixtures and the oracle table."""

import math
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from biglearn_lite import landscapes as ls
from biglearn_lite.mixtures import GaussianMixture

GRID = torch.linspace(-2, 2, 81, dtype=torch.float64)
DIRECTIONS = ("reverse", "forward")
STARS = [(-1.0, 1.0), (1.0, -1.0)]
mean = st.floats(-2, 2)
angles = st.floats(0, 180)
values = st.floats(-2, 2)
variances = st.floats(0.02, 0.5)


def maps_of(variance):
    maps = ls.official_maps(GRID, GRID, variance=variance)
    return maps["joint"], maps["marginal"], maps["conditional"]


def bad(map_):
    """Minima that are no stars, each orbit of swap and sign once: ((a, b), value)."""
    minima = [m for m in ls.local_minima(map_, GRID, GRID) if not m.is_star]
    found = {
        tuple(sorted((abs(m.mu1), abs(m.mu2)), reverse=True)): m.value for m in minima
    }
    return [((round(a, 2), round(b, 2)), v) for (a, b), v in found.items()]


def cell(map_, a, b):
    i, j = ((GRID - t).abs().argmin() for t in (a, b))
    return float(map_[..., i, j])


# -- the oracle table ------------------------------------------------------------------

ORACLE = [  # variance; bad minimum of joint, mean of marginals, sum of conditionals
    (0.2, None, None, None),
    (0.1, ((1.05, 0.95), 0.6907), ((1.10, 0.80), 0.523), None),
    (0.05, ((1.0, 1.0), 0.693), ((1.05, 0.95), 0.581), None),
    (0.02, ((1.0, 1.0), 0.693), ((1.0, 1.0), None), ((1.0, 0.55), 340.9)),
]


@pytest.mark.parametrize(("variance", "joint", "marginal", "conditional"), ORACLE)
def test_bad_minima_of_the_oracle_table(variance, joint, marginal, conditional):
    maps = maps_of(variance)
    sums = (maps[0], maps[1].mean(0), maps[2].sum((0, 1)))
    for map_, expected in zip(sums, (joint, marginal, conditional), strict=True):
        stars = [m for m in ls.local_minima(map_, GRID, GRID) if m.is_star]
        np.testing.assert_allclose([(m.mu1, m.mu2) for m in stars], STARS, atol=1e-9)
        assert all(m.value < 1e-6 for m in stars)
        found = bad(map_)
        if expected is None:
            assert found == []
        else:
            ((place, value),) = found
            assert place == pytest.approx(expected[0], abs=1e-9)
            if expected[1] is not None:
                assert value == pytest.approx(expected[1], rel=1e-3)


def test_values_of_the_oracle_table_at_variance_a_tenth():
    joint, marginal, conditional = maps_of(0.1)
    rows = [  # map, value at the origin, largest value
        (joint, 3.069, 5.693),
        (marginal[1], 2.817, 5.358),
        (marginal[2], 2.142, 4.443),
        (marginal[3], 1.270, 3.193),
        (marginal[4], 0.493, 1.939),
        (marginal[5], 0.066, 0.858),
        (marginal.sum(0), 16.64, 37.28),
        (conditional[2, 1], 3.710, 15.72),
        (conditional.sum((0, 1)), 96.99, 266.2),
    ]
    for map_, origin, largest in rows:
        assert cell(map_, 0, 0) == pytest.approx(origin, rel=1e-3, abs=6e-4)
        assert float(map_.max()) == pytest.approx(largest, rel=1e-3, abs=6e-4)
    single = {1: ((1.05, 0.95), 0.6897), 2: ((1.10, 0.85), 0.6829)}
    for k in range(1, 6):
        found = bad(marginal[k])
        assert len(found) == (k in single)
        if found:
            assert found[0][0] == pytest.approx(single[k][0], abs=1e-9)
            assert found[0][1] == pytest.approx(single[k][1], rel=1e-3)


def test_an_off_centre_slice_is_degenerate_at_one_bad_point_only():
    y2 = ls.conditional_values(30.0)[1]
    assert float(y2) == pytest.approx(-1.197, abs=5e-4)
    slice_ = ls.kl_landscape("conditional", GRID, GRID, angle=30.0, value=y2)
    minima = ls.local_minima(slice_, GRID, GRID)
    corner = [m for m in minima if not m.is_star]
    np.testing.assert_allclose([(m.mu1, m.mu2) for m in corner], [(1, 1)])
    assert corner[0].value < 1e-3
    assert cell(slice_, -1, -1) > 1
    assert sum(m.share for m in minima) == pytest.approx(1)


# -- limits and symmetries -------------------------------------------------------------


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("variance", [0.2, 0.1, 0.05, 0.02])
def test_limits(variance, direction):
    mu = torch.linspace(-2, 2, 9, dtype=torch.float64)
    common = {"variance": variance, "direction": direction}
    joint = ls.kl_landscape("joint", mu, mu, **common)
    marginal = ls.kl_landscape("marginal", mu, mu, angle=[0.0, 90.0, 180.0], **common)
    slices = ls.kl_landscape(
        "conditional", mu, mu, angle=[0.0, 90.0], value=[-0.9, 0.0, 0.3], **common
    )
    assert joint.shape == (9, 9)
    torch.testing.assert_close(marginal[0], joint)
    torch.testing.assert_close(marginal[2], joint)
    torch.testing.assert_close(slices[0], joint.expand(3, 9, 9))
    assert float(marginal[1].max()) < 1e-12
    assert float(slices[1].max()) < 1e-12
    torch.testing.assert_close(joint, joint.T)
    for a, b in STARS:
        point = torch.tensor([a, b])
        assert float(ls.kl_point("joint", point, **common)) == pytest.approx(
            0, abs=1e-9
        )
    assert slices.min() >= 0
    assert marginal.dtype == torch.float64


@pytest.mark.parametrize(
    ("variance", "near"), [(0.1, 2.5e-3), (0.05, 1e-4), (0.02, 1e-7)]
)
def test_both_components_on_one_mode_cost_log_two(variance, near):
    kl = float(ls.kl_landscape("joint", [1.0], [1.0], variance=variance))
    assert kl == pytest.approx(math.log(2), abs=near)
    # exactly: log 2 less what the other mode's tail adds to the data's density
    scale = 1 / math.sqrt(2 * math.pi * variance)
    tail, _ = quad(
        lambda x: (
            scale
            * math.exp(-((x - 1) ** 2) / (2 * variance))
            * np.logaddexp(0, -2 * x / variance)
        ),
        -2,
        4,
        points=[0, 1],
        epsabs=1e-13,
    )
    assert kl == pytest.approx(math.log(2) - tail, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(mean, mean, angles, values, variances, st.sampled_from(DIRECTIONS))
def test_swapping_or_mirroring_changes_nothing(a, b, angle, value, variance, direction):
    def kl(kind, mu, **rest):
        rest |= {"variance": variance, "direction": direction}
        return float(ls.kl_point(kind, torch.tensor(mu), **rest))

    common = {"angle": angle, "value": value}
    base = kl("conditional", (a, b), **common)
    tol = {"rel": 1e-7, "abs": 1e-8}
    assert base >= -1e-8
    assert kl("conditional", (b, a), **common) == pytest.approx(base, **tol)
    mirrored = {"angle": angle, "value": -value}
    assert kl("conditional", (-a, -b), **mirrored) == pytest.approx(base, **tol)
    turned = {"angle": 180.0 - angle, "value": -value}
    assert kl("conditional", (a, b), **turned) == pytest.approx(
        kl("conditional", (a, b), angle=-angle, value=value), **tol
    )
    margin = kl("marginal", (a, b), angle=angle)
    assert kl("marginal", (b, a), angle=-angle) == pytest.approx(margin, **tol)
    joint = kl("joint", (a, b))
    assert joint >= margin - 1e-8  # data processing
    assert kl("joint", (a, b), angle=angle) == joint  # turning leaves the joint alone


@settings(max_examples=30, deadline=None)
@given(mean, mean, st.floats(0, 80), variances)
def test_turning_a_marginal_is_adding_variance(a, b, angle, variance):
    """y1 / cos(t) has the means of the joint and the variance v / cos(t)^2."""
    mu = torch.tensor([a, b])
    turned = ls.kl_point("marginal", mu, angle=angle, variance=variance)
    wide = variance / math.cos(math.radians(angle)) ** 2
    torch.testing.assert_close(
        turned, ls.kl_point("joint", mu, variance=wide), rtol=1e-7, atol=1e-8
    )


# -- independent integration -----------------------------------------------------------


def plane(mu, variance):
    """Density in the plane of the even mixture with means (mu_k, 0)."""

    def density(x1, x2):
        parts = [np.exp(-((x1 - m) ** 2 + x2**2) / (2 * variance)) for m in mu]
        return sum(parts) / (len(mu) * 2 * math.pi * variance)

    return density


def kl_by_scipy(kind, mu, angle, value, variance, direction):
    """From the density in the plane alone: no formula of the module is used."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    reach = 2 + 8 * math.sqrt(variance)
    points = sorted({m * c for m in (*mu, -1, 1)})

    def over(f):
        options = {"limit": 400, "epsabs": 1e-11, "epsrel": 1e-10, "points": points}
        return quad(f, -reach, reach, **options)[0]

    def law(means):
        density = plane(means, variance)

        def at(y1, y2):
            return density(c * y1 - s * y2, s * y1 + c * y2)

        if kind == "conditional":
            total = over(lambda y1: at(y1, value))
            return lambda y1: at(y1, value) / total
        nodes = np.linspace(-reach, reach, 601)
        return lambda y1: at(y1, nodes).sum() * (nodes[1] - nodes[0])

    p, q = law(mu), law((-1.0, 1.0))
    if direction == "forward":
        p, q = q, p

    def integrand(y1):
        a, b = p(y1), q(y1)
        return a * math.log(a / b) if a > 1e-250 and b > 0 else 0.0

    return over(integrand)


CASES = [
    ((0.3, -1.4), 0.0, 0.2, 0.1),
    ((1.0, 0.9), 30.0, -1.197, 0.1),
    ((-0.5, 0.25), 45.0, 0.7, 0.05),
    ((1.9, -0.1), 60.0, -0.4, 0.2),
    ((-1.6, -1.1), 15.0, 0.5, 0.1),
    ((0.8, -0.7), 75.0, 1.1, 0.02),
    ((1.2, 0.1), 120.0, 0.6, 0.1),
]


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("mu", "angle", "value", "variance"), CASES)
@pytest.mark.parametrize("kind", ["marginal", "conditional"])
def test_against_scipy_in_the_plane(kind, mu, angle, value, variance, direction):
    expected = kl_by_scipy(kind, mu, angle, value, variance, direction)
    rest = {"angle": angle, "variance": variance, "direction": direction}
    if kind == "conditional":
        rest["value"] = value
    on_grid = ls.kl_landscape(kind, [mu[0]], [mu[1]], **rest)
    single = ls.kl_point(kind, torch.tensor(mu, dtype=torch.float64), **rest)
    assert float(on_grid) == pytest.approx(expected, rel=1e-6, abs=1e-8)
    assert float(single) == pytest.approx(expected, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_joint_against_a_sum_over_the_plane(direction):
    x = np.arange(-6, 6, 0.02)
    x1, x2 = x[:, None], x[x**2 < 9]
    for mu in ((0.3, -1.4), (1.0, 0.9), (0.0, 0.0)):
        p, q = plane(mu, 0.1)(x1, x2), plane((-1, 1), 0.1)(x1, x2)
        if direction == "forward":
            p, q = q, p
        with np.errstate(divide="ignore", invalid="ignore"):
            terms = np.where((p > 1e-250) & (q > 0), p * np.log(p / q), 0.0)
        kl = ls.kl_landscape("joint", [mu[0]], [mu[1]], direction=direction)
        assert float(kl) == pytest.approx(terms.sum() * 0.02**2, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize(("mu", "angle", "value", "variance"), CASES)
def test_against_exact_mixtures(mu, angle, value, variance, direction):
    """Transform, marginal, conditional of `GaussianMixture`, summed on a fine line."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn = torch.tensor([[c, s], [-s, c]], dtype=torch.float64)
    half = torch.full((2,), 0.5, dtype=torch.float64)
    cov = variance * torch.eye(2, dtype=torch.float64).expand(2, 2, 2)

    def turned(a, b):
        means = torch.tensor([[a, 0.0], [b, 0.0]], dtype=torch.float64)
        return GaussianMixture(half, means, cov).transform(turn)

    y = torch.arange(-8, 8, 0.002, dtype=torch.float64)[:, None]
    at = torch.tensor([value], dtype=torch.float64)
    model, data = turned(*mu), turned(-1.0, 1.0)
    laws = {
        "marginal": (model.marginal([0]), data.marginal([0])),
        "conditional": (model.conditional([1], at), data.conditional([1], at)),
    }
    for kind, (p, q) in laws.items():
        log_p, log_q = p.log_prob(y), q.log_prob(y)
        if direction == "forward":
            log_p, log_q = log_q, log_p
        expected = (log_p.exp() * (log_p - log_q)).sum() * 0.002
        rest = {"value": value} if kind == "conditional" else {}
        rest |= {"angle": angle, "variance": variance, "direction": direction}
        kl = ls.kl_landscape(kind, [mu[0]], [mu[1]], **rest)
        assert float(kl) == pytest.approx(float(expected), rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("variance", [1.0, 0.1, 0.02, 0.005])
def test_a_finer_grid_changes_nothing(variance, monkeypatch):
    coarse = ls._grid
    mu = torch.linspace(-2, 2, 13, dtype=torch.float64)
    cuts = ls.conditional_values(ls.CONDITIONAL_ANGLES, variance)
    rest = {"angle": ls.CONDITIONAL_ANGLES, "value": cuts, "variance": variance}
    before = ls.kl_landscape("conditional", mu, mu, **rest)

    def fine(means, variance, span):
        y, step = coarse(means, variance, span)
        n = 4 * len(y)
        return torch.arange(-n, n + 1, dtype=torch.float64) * step / 4, step / 4

    monkeypatch.setattr(ls, "_grid", fine)
    after = ls.kl_landscape("conditional", mu, mu, **rest)
    torch.testing.assert_close(before, after, rtol=0, atol=5e-9)


def test_points_and_grid_agree_with_a_task_of_its_own_for_each_point(generator):
    mu = torch.rand(40, 2, generator=generator, dtype=torch.float64) * 4 - 2
    angle = torch.rand(40, generator=generator, dtype=torch.float64) * 90
    value = torch.rand(40, generator=generator, dtype=torch.float64) * 2 - 1
    together = ls.kl_point("conditional", mu, angle=angle, value=value)
    for m, a, v, kl in zip(mu, angle, value, together, strict=True):
        one = ls.kl_landscape("conditional", m[:1], m[1:], angle=a, value=v)
        assert float(one) == pytest.approx(float(kl), abs=1e-8)


def test_monte_carlo_agrees_within_its_standard_error(generator):
    mu, sd, n = torch.tensor([0.4, -1.3]), math.sqrt(0.1), 200_000
    pick = torch.randint(0, 2, (n,), generator=generator)
    x = mu[pick] + sd * torch.randn(n, generator=generator)

    def log(means):
        parts = torch.distributions.Normal(means, sd).log_prob(x[:, None].double())
        return parts.logsumexp(-1)

    ratio = log(mu) - log(torch.tensor([-1.0, 1.0]))
    error = float(ratio.std()) / math.sqrt(n)
    kl = float(ls.kl_point("joint", mu))
    assert float(ratio.mean()) == pytest.approx(kl, abs=4 * error)


# -- gradient --------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(mean, mean, angles, values, st.sampled_from(DIRECTIONS))
def test_gradient_is_that_of_finite_differences(a, b, angle, value, direction):
    rest = {"angle": angle, "value": value, "direction": direction}
    mu = torch.tensor([a, b], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(ls.kl_point("conditional", mu, **rest), mu)
    h = 1e-4 * torch.eye(2, dtype=torch.float64)
    ahead, behind = (
        ls.kl_point("conditional", mu.detach() + s * h, **rest) for s in (1, -1)
    )
    torch.testing.assert_close(slope, (ahead - behind) / 2e-4, rtol=1e-4, atol=1e-4)


def test_gradient_stays_finite_far_out():
    mu = torch.tensor([[30.0, -40.0], [0.0, 25.0]], dtype=torch.float64)
    mu.requires_grad_(True)
    kl = ls.kl_point("conditional", mu, angle=60.0, value=1.0, variance=0.02)
    (slope,) = torch.autograd.grad(kl.sum(), mu)
    assert kl.isfinite().all()
    assert slope.isfinite().all()


# -- shapes, values of y2, speed -------------------------------------------------------


def test_shapes_and_stacking():
    mu1, mu2 = [-1.0, 0.0, 0.5], [-1.0, 1.0]
    stack = ls.kl_landscape(
        "conditional", mu1, mu2, angle=[10, 40], value=[0.1, -0.5, 1]
    )
    assert stack.shape == (2, 3, 3, 2)
    own = ls.kl_landscape(
        "conditional", mu1, mu2, angle=[10, 40], value=[[0.1], [-0.5]]
    )
    torch.testing.assert_close(own[:, 0], torch.stack([stack[0, 0], stack[1, 1]]))
    one = ls.kl_landscape("conditional", mu1, mu2, angle=40, value=-0.5)
    torch.testing.assert_close(one, stack[1, 1])
    row = ls.kl_landscape("conditional", mu1, mu2, angle=40, value=[0.1, -0.5])
    torch.testing.assert_close(row, stack[1, :2])
    assert ls.kl_landscape("marginal", mu1, mu2, angle=[1, 2, 3]).shape == (3, 3, 2)
    assert ls.kl_landscape("joint", mu1, mu2, angle=[1, 2]).shape == (2, 3, 2)


@pytest.mark.parametrize("chunk", [1, 1 << 14])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_map_is_its_points_however_it_is_cut(direction, chunk, monkeypatch):
    """With equal axes, where half is a mirror image, and with unequal ones."""
    monkeypatch.setattr(ls, "_CHUNK", chunk)
    task = {"angle": [20.0, 60.0], "value": [0.4, -1.1], "direction": direction}
    mu1 = torch.tensor([-1.8, -0.3, 0.9], dtype=torch.float64)
    for mu2 in (mu1, mu1[:2] + 0.1):
        stack = ls.kl_landscape("conditional", mu1, mu2, **task)
        models = torch.cartesian_prod(mu1, mu2).reshape(3, len(mu2), 2)
        for a, angle in enumerate(task["angle"]):
            for v, value in enumerate(task["value"]):
                one = {"angle": angle, "value": value, "direction": direction}
                expected = ls.kl_point("conditional", models, **one)
                torch.testing.assert_close(stack[a, v], expected, rtol=0, atol=1e-8)


def test_conditional_values_reach_the_corners_of_the_box():
    values = ls.conditional_values([0, 90])
    assert values.shape == (2, 7)
    assert values[:, -1].tolist() == pytest.approx([0.949, 1.949], abs=5e-4)
    torch.testing.assert_close(values, -values.flip(-1))
    torch.testing.assert_close(
        values.diff(n=2), torch.zeros(2, 5).double(), atol=1e-12, rtol=0
    )
    assert ls.conditional_values(30.0, n=1).shape == (1,)
    assert len(ls.MARGINAL_ANGLES) == 12
    assert len(ls.CONDITIONAL_ANGLES) == 7


def one_by_one(mu, direction):
    """The official maps, a call each."""
    ls.kl_landscape("joint", mu, mu, direction=direction)
    for angle in ls.MARGINAL_ANGLES:
        ls.kl_landscape("marginal", mu, mu, angle=angle, direction=direction)
    for angle in ls.CONDITIONAL_ANGLES:
        for value in ls.conditional_values(angle):
            rest = {"angle": angle, "value": value, "direction": direction}
            ls.kl_landscape("conditional", mu, mu, **rest)


def stacked(mu, direction):
    ls.official_maps(mu, mu, direction=direction)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("draw", [stacked, one_by_one])
def test_sixty_two_maps_take_seconds(draw, direction):
    mu = torch.linspace(-2, 2, 100, dtype=torch.float64)
    seconds = []
    for _ in range(2):
        start = time.process_time()  # of the processor: others may be busy
        draw(mu, direction)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 5


# -- rolling downhill ------------------------------------------------------------------


def test_a_ball_never_climbs_and_may_switch_tasks():
    start = torch.tensor([[-0.4, 0.7], [1.5, 0.9], [0.2, -0.1]], dtype=torch.float64)
    task = {"kind": "marginal", "angle": 15.0}
    path = ls.roll(start, task, steps=200, every=10)
    assert path.shape == (21, 3, 2)
    assert (ls.kl_point(mu=path, **task).diff(dim=0) < 1e-9).all()
    seen = []

    def switch(step):
        seen.append(step)
        return {"kind": "conditional", "angle": 30.0, "value": (-1.0) ** step}

    ls.roll(start, switch, steps=4)
    assert seen == [0, 1, 2, 3]
    assert start.tolist() == [[-0.4, 0.7], [1.5, 0.9], [0.2, -0.1]]


# -- errors ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "both"}, "kind must be one of .* got 'both'"),
        ({"direction": "sideways"}, "direction must be 'reverse' .* got 'sideways'"),
        ({"kind": "conditional"}, "'conditional' needs value="),
        ({"kind": "marginal", "value": 0.3}, "'marginal' takes no value="),
        ({"value": 0.3}, "'joint' takes no value="),
        ({"variance": 0.0}, "variance must be positive and finite, got 0.0"),
        ({"variance": math.nan}, "variance must be positive"),
        ({"variance": "a"}, "variance must be positive and finite, got 'a'"),
        ({"variance": None}, "variance must be a number, got None"),
        ({"mu1": "abc"}, "mu1 must be numbers, got 'abc'"),
        ({"mu2": None}, "mu2 must be numbers, got None"),
        ({"mu1": [0.0, math.nan]}, "mu1 must be finite"),
        ({"mu2": 0.5}, r"mu2 must be a list of numbers.*got shape \(\)"),
        ({"mu2": []}, r"mu2 must be a list .*\(0,\)"),
        ({"angle": math.inf}, "angle must be finite"),
        ({"angle": [[0.0]]}, "angle must be a number or a list"),
        ({"kind": "conditional", "value": math.nan}, "value must be finite"),
        ({"kind": "conditional", "value": [[0.0]]}, "angle must be a number or a list"),
        (
            {"kind": "conditional", "angle": [0, 1], "value": [[0.0]]},
            "row for each of the 2 angles, got 1",
        ),
    ],
)
def test_landscape_errors_name_the_rule(change, message):
    arguments = {"kind": "joint", "mu1": [0.0, 1.0], "mu2": [0.0, 1.0]} | change
    with pytest.raises(ValueError, match=message):
        ls.kl_landscape(**arguments)


def test_other_errors_name_the_rule():
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 2\), got \(3,\)"):
        ls.kl_point("joint", torch.zeros(3))
    with pytest.raises(ValueError, match="mu must be finite"):
        ls.kl_point("joint", torch.tensor([0.0, math.nan]))
    with pytest.raises(ValueError, match="n, the number of values"):
        ls.conditional_values(30.0, n=0)
    with pytest.raises(ValueError, match="variance must be positive"):
        ls.conditional_values(30.0, variance=-1.0)
