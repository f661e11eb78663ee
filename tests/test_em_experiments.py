"""Experiments on EM: equal data for all methods, and what is measured on them."""

import numpy as np
import pytest
import torch

from biglearn_lite._em_clusters import ClusteringPart, split_rows
from biglearn_lite.cooperation import modes_found
from biglearn_lite.em_experiments import EMPart, draw_rows
from biglearn_lite.experiments import run_experiment
from biglearn_lite.recipe import read_recipe, train
from biglearn_lite.runs import read_run
from biglearn_lite.studies import run_study

EM = """
about = "tiny"
data.name = "gaussians"
model.kind = "em"
[em]
replicas = 2
rows = 300
test = 4000
side = 3
iterations = 12
marks = 3
snapshots = 2
"""
REAL = """
about = "tiny"
data.name = "tables"
model.kind = "clustering"
[clustering]
iterations = 8
"""


@pytest.fixture
def recipe(tmp_path):
    def read(text, **changes):
        path = tmp_path / "tiny.toml"
        path.write_text(text)
        return read_recipe(
            path, changes={k.replace("__", "."): changes[k] for k in changes}
        )

    return read


# ------------------------------------------------------------------- known Gaussians


def test_a_run_holds_what_em_found(recipe, tmp_path):
    run = read_run(train(recipe(EM), seed=3, root=tmp_path / "runs"))
    metrics, part = run.metrics, recipe(EM).em
    assert metrics["iterations"] == [4, 8, 12]
    assert [each["step"] for each in run.history] == [4, 12]
    # the last entries are those of the model that is kept, on rows of the same law
    law, train_rows, test_rows = draw_rows(part, 3)
    assert modes_found(run.model, law.means).tolist() == metrics["modes"][-1]
    for r in range(2):
        mine = torch.distributions.MixtureSameFamily(
            torch.distributions.Categorical(run.model.weights[r].double()),
            torch.distributions.MultivariateNormal(
                run.model.means[r].double(), run.model.covariances[r].double()
            ),
        )
        gap = law.log_prob(test_rows[r]).mean() - mine.log_prob(test_rows[r]).mean()
        assert metrics["last"][r] == pytest.approx(float(gap), abs=1e-3)
    assert metrics["best"] == [min(each) for each in zip(*metrics["kl"], strict=True)]
    assert metrics["seconds"] > 0
    assert train_rows.shape == (2, 300, 2)


def test_methods_get_equal_rows_and_seeds_other_ones():
    ours, theirs = EMPart(rows=50), EMPart(rows=50, method="scikit-learn", n_init=3)
    for a, b in zip(draw_rows(ours, 1)[1:], draw_rows(theirs, 1)[1:], strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(draw_rows(ours, 1)[1], draw_rows(ours, 2)[1])
    rows = draw_rows(ours, 1)[1]
    assert not torch.equal(rows[0], rows[1])  # nor do replicas share them


def test_the_rows_have_the_law(recipe):
    part = EMPart(replicas=4, rows=5000, test=10, uneven=4.0)
    law, rows, _ = draw_rows(part, 0)
    near = torch.cdist(rows.flatten(0, 1), law.means).argmin(1)
    counts = near.bincount(minlength=25) / len(near)
    torch.testing.assert_close(counts, law.weights, atol=0.006, rtol=0)
    away = rows.flatten(0, 1) - law.means[near]
    torch.testing.assert_close(away.var(0), torch.full((2,), 0.1), atol=0.004, rtol=0)


def test_the_second_plan_goes_on_from_the_first(recipe):
    joint = {"joint": 1.0, "axis": 0.0, "inner": 1, "smoothing": 0.0}
    whole = run_experiment(recipe(EM, em__plan=joint), 0).model
    halves = {"em__plan": joint, "em__polish": joint, "em__polish_iterations": 4}
    parted = run_experiment(recipe(EM, em__iterations=8, **halves), 0)
    # the data are centred anew for the second plan, which moves last digits
    torch.testing.assert_close(whole.means, parted.model.means, atol=1e-3, rtol=0)
    assert parted.metrics["iterations"][-1] == 12


def test_of_restarts_the_likeliest_is_kept(recipe):
    one, five = (
        run_experiment(recipe(EM, em__start="k-means++", em__n_init=n), 0).model
        for n in (1, 5)
    )
    rows = draw_rows(recipe(EM).em, 0)[1].movedim(0, 1)
    assert (five.log_prob(rows).mean(0) >= one.log_prob(rows).mean(0)).all()


@pytest.mark.parametrize("covariance", ["full", "tied"])
def test_scikit_learn_takes_part(recipe, covariance):
    about = {"em__method": "scikit-learn", "em__covariance": covariance}
    found = run_experiment(recipe(EM, **about, em__n_init=3), 0)
    assert found.model.covariances.shape == (2, 9, 2, 2)
    same = bool((found.model.covariances == found.model.covariances[:, :1]).all())
    assert same == (covariance == "tied")
    assert found.metrics["mean_kl"] < 0.3
    assert found.metrics["mean_modes"] > 7


def test_choosing_looks_at_no_test_rows(recipe):
    found = run_experiment(recipe(EM, em__held_out=0.2), 0)
    assert set(found.metrics) == {"seconds", "held_out"}
    whole = run_experiment(recipe(EM), 0)
    assert not torch.equal(found.model.means, whole.model.means)  # of fewer rows


def test_the_smoke_profiles_run(tmp_path, monkeypatch):
    monkeypatch.delenv("BIGLEARN_DATA", raising=False)
    monkeypatch.setenv("BIGLEARN_CACHE", str(tmp_path / "none"))
    for name in NAMES:
        folder = run_study(read_recipe(name, "smoke"), root=tmp_path)
        assert read_run(folder).metrics["seeds"] == 1


NAMES = ["biglearn-em", "biglearn-em-limits", "clustering", "clustering-official"]


# ------------------------------------------------------------------------- real data


@pytest.mark.parametrize("name", ["breast_cancer", "digits", "iris", "wine"])
def test_splits_are_proper(name):
    x, y, test, truth = split_rows(ClusteringPart(data=name), 0)
    assert len(test) == pytest.approx((len(x) + len(test)) / 5, abs=1)
    assert x.min() == 0
    assert x.max() == 1
    constant = np.ptp(x, 0) == 0  # some of the digits' pixels are never inked
    assert (x[:, constant] == 0).all()
    assert np.isfinite(test).all()
    # scaled by the training rows alone, test rows may lie outside
    assert name in ("digits", "iris") or test.min() < 0 or test.max() > 1
    shares = [np.bincount(each) / len(each) for each in (y, truth)]
    np.testing.assert_allclose(*shares, atol=0.02)
    assert not np.array_equal(test, split_rows(ClusteringPart(data=name), 1)[2])


def test_rows_held_out_are_training_rows():
    x, _, test, _ = split_rows(ClusteringPart(held_out=0.25), 0)
    assert (len(x), len(test)) == (90, 30)


@pytest.mark.parametrize("method", ["tasks", "scikit-learn"])
def test_clusters_of_iris(recipe, method):
    found = run_experiment(recipe(REAL, clustering__method=method), 0).metrics
    assert set(found) == {"likelihood", "seconds", "nmi", "ari"}
    assert 0.4 < found["nmi"] <= 1
    assert 0.3 < found["ari"] <= 1
    assert found["likelihood"] > 0  # the uniform law on [0, 1] has 0


def test_classes_are_not_looked_at_while_choosing(recipe):
    found = run_experiment(recipe(REAL, clustering__held_out=0.25), 0).metrics
    assert set(found) == {"likelihood", "seconds"}


def test_a_file_with_the_class_first(recipe, tmp_path, monkeypatch):
    from scipy.io import savemat

    (tmp_path / "clustering").mkdir()
    rng = np.random.default_rng(0)
    classes = np.repeat([3, 7], 40)
    rows = classes[:, None] + 0.1 * rng.standard_normal((80, 2))
    table = {"DataSet": np.column_stack([classes, rows])}
    savemat(tmp_path / "clustering" / "glass.mat", table)
    monkeypatch.setenv("BIGLEARN_DATA", str(tmp_path))
    found = run_experiment(recipe(REAL, clustering__data="glass"), 0)
    assert found.model.means.shape == (2, 2)
    assert found.metrics["ari"] == 1


def test_a_file_that_is_not_there(recipe, tmp_path, monkeypatch):
    monkeypatch.setenv("BIGLEARN_DATA", str(tmp_path))
    monkeypatch.setenv("BIGLEARN_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"no letter\.mat in .*BIGLEARN_DATA"):
        run_experiment(recipe(REAL, clustering__data="letter"), 0)


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        (EM, {"em__method": "k-means"}, "em.method is one of"),
        (EM, {"em__start": "corner"}, "em.start is one of"),
        (EM, {"em__covariance": "spherical"}, "em.covariance is one of"),
        (EM, {"em__rows": 8}, "em.rows is 9 or more"),
        (EM, {"em__held_out": 1.0}, "em.held_out is a share"),
        (EM, {"em__plan": {"speed": 1}}, "em.plan does not fit"),
        (EM, {"em__plan": {"joint": 2.0}}, "joint must be a probability"),
        (
            EM,
            {"em__polish": {"speed": 1}, "em__polish_iterations": 1},
            "em.polish does not fit",
        ),
        (REAL, {"clustering__data": "mnist"}, "clustering.data is one of"),
        (REAL, {"clustering__floor": 0.0}, "floor must be a finite number above 0"),
        (REAL, {"clustering__plan": {"speed": 1}}, "clustering.plan does not fit"),
        (REAL, {"clustering__n_init": 0}, "clustering.n_init is 1 or more"),
        (REAL, {"em__rows": 100}, "has no part 'em'"),
    ],
)
def test_a_wrong_recipe_is_refused(recipe, text, changes, message):
    with pytest.raises(ValueError, match=message):
        recipe(text, **changes)
