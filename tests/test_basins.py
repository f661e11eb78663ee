"""`basins` on maps whose minima are known, and against descent on the exact maps."""

import math

import numpy as np
import pytest
import torch

from biglearn_lite import landscapes as ls

GRID = torch.linspace(-2, 2, 81, dtype=torch.float64)


def axes(n=21):
    return np.linspace(-1, 1, n), np.linspace(-1, 1, n)


def test_a_bowl_has_one_minimum_with_everything_in_its_basin():
    x, y = axes()
    (m,) = ls.local_minima((x[:, None] - 0.3) ** 2 + 2 * (y + 0.5) ** 2, x, y)
    assert (m.mu1, m.mu2) == (pytest.approx(0.3), pytest.approx(-0.5))
    assert m.share == 1
    assert m.basin.dtype == bool
    assert not m.is_star


def test_two_wells_share_the_map_at_the_ridge_and_are_sorted():
    x, y = axes(41)
    well = (x[:, None] ** 2 - 0.25) ** 2 + 0.05 * x[:, None] + 0.3 * y**2
    low, high = ls.local_minima(well, x, y)
    assert low.value < high.value
    assert low.mu1 < 0 < high.mu1
    ridge = x[np.argmax(np.where(abs(x) < 0.3, well[:, 20], -1))]
    assert low.basin[x < ridge].all()
    assert high.basin[x > ridge].all()
    assert not (low.basin & high.basin).any()
    assert (low.basin | high.basin).all()


def test_a_flat_map_is_one_minimum_in_the_middle():
    zero = ls.kl_landscape("marginal", GRID, GRID, angle=90.0)
    (m,) = ls.local_minima(zero, GRID, GRID)
    np.testing.assert_allclose((m.mu1, m.mu2, m.value), 0, atol=1e-12)
    assert m.share == 1


def test_a_plateau_is_one_minimum_or_drains_through_its_lowest_outlet():
    x, y = axes(9)
    v = np.ones((9, 9))
    v[2:5, 2:5] = 0.0
    (m,) = ls.local_minima(v, x, y)
    assert (m.mu1, m.mu2) == (x[3], y[3])
    v[8, 8], v[0, 8] = 0.5, -1.0  # two more holes: the rim's flat part takes the lowest
    lowest, square, hole = ls.local_minima(v, x, y)
    assert [lowest.value, square.value, hole.value] == [-1, 0, 0.5]
    assert lowest.basin[8, 0]
    assert hole.basin.sum() == 4
    assert square.basin.sum() == 25


def test_a_valley_leaving_the_map_ends_at_the_edge():
    x, y = axes()
    (m,) = ls.local_minima(x[:, None] + y**2, x, y)
    assert (m.mu1, m.mu2) == (-1, 0)


def test_basins_are_where_gradient_descent_on_the_exact_map_ends():
    joint = ls.kl_landscape("joint", GRID, GRID)
    minima = ls.local_minima(joint, GRID, GRID)
    star_cells = sum(m.basin for m in minima if m.is_star).astype(bool)
    cells = torch.arange(2, 81, 8)
    start = torch.cartesian_prod(GRID[cells], GRID[cells])
    end = ls.roll(start, {"kind": "joint"}, steps=300, every=300, rate=0.05)[-1]
    ends_at_star = (end.prod(-1) < -0.5).reshape(len(cells), -1).numpy()
    same = ends_at_star == star_cells[np.ix_(cells, cells)]
    assert same.mean() > 0.95


def test_half_of_the_joint_map_flows_to_the_stars():
    minima = ls.local_minima(
        ls.kl_landscape("joint", GRID, GRID, variance=0.05), GRID, GRID
    )
    assert sum(m.share for m in minima if m.is_star) == pytest.approx(0.5, abs=0.03)
    assert sum(m.share for m in minima) == pytest.approx(1)


def test_maps_with_a_gradient_are_read_and_minima_are_compared_by_identity():
    x, y = axes()
    bowl = torch.as_tensor(x[:, None] ** 2 + y**2).requires_grad_()
    (m,), (twin,) = ls.local_minima(bowl, x, y), ls.local_minima(bowl, x, y)
    assert m.value == pytest.approx(0)
    assert m == m
    assert m != twin
    assert len({m, twin}) == 2


@pytest.mark.parametrize(
    ("values", "mu1", "message"),
    [
        (np.zeros((2, 3)), [0, 1], "mu1 must be at least 3 increasing"),
        (np.zeros((3, 3)), [0, 2, 1], "mu1 must be at least 3 increasing"),
        (np.zeros((3, 3)), [0, 1, math.nan], "mu1 must be at least 3 increasing"),
        (np.zeros((4, 3)), [0, 1, 2], r"shape .* \(3, 3\), got \(4, 3\)"),
        (np.full((3, 3), np.nan), [0, 1, 2], "got 9 NaN or infinite"),
    ],
)
def test_minima_errors_name_the_rule(values, mu1, message):
    with pytest.raises(ValueError, match=message):
        ls.local_minima(values, mu1, [0, 1, 2])
