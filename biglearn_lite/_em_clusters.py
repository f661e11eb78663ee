"""Real data whose classes the methods do not see: `model.kind = "clustering"`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from biglearn_lite._em_common import (
    METHODS,
    check_choice,
    check_least,
    read_plan,
    scikit_mixture,
)
from biglearn_lite.em import BigLearnEM
from biglearn_lite.experiments import Outcome
from biglearn_lite.mixtures import GaussianMixture
from biglearn_lite.sources import _search_folders

if TYPE_CHECKING:
    from biglearn_lite._recipe_file import Recipe

BUNDLED = ("breast_cancer", "digits", "iris", "wine")
FILES = {  # training file, and test file if the authors of the data give one
    "glass": ("glass.mat",),
    "letter": ("letter.mat",),
    "pendigits": ("pendigits_train.mat", "pendigits_test.mat"),
    "vehicle": ("Vehicle.mat",),
}


@dataclass(frozen=True)
class ClusteringPart:
    """Real data, scaled to [0, 1] by the range of their training rows.

    A fifth of the rows, of each class alike, is the test set, except where the data
    bring a test file of their own.

    Attributes:
        data: a set of scikit-learn, `"iris"`, `"wine"`, `"breast_cancer"` or
            `"digits"`; or one of the files that the paper's authors prepared,
            `"glass"`, `"letter"`, `"pendigits"` or `"vehicle"`, in the folder
            `clustering` of the data folder.
        method: see `EMPart`, as for `iterations`, `n_init`, `held_out` and `plan`.
        components: 0 takes the number of classes.
        floor: of the covariances; scikit-learn adds it to their diagonals instead.
    """

    data: str = "iris"
    method: str = "tasks"
    components: int = 0
    iterations: int = 200
    n_init: int = 1
    floor: float = 1e-3
    held_out: float = 0.0
    plan: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("clustering", "method", self.method, METHODS)
        check_choice("clustering", "data", self.data, (*BUNDLED, *FILES))
        check_least("clustering", self, {"components": 0, "iterations": 1})
        check_least("clustering", self, {"n_init": 1, "held_out": 0})
        read_plan("clustering.plan", {**self.plan, "floor": self.floor})


def run_clustering(recipe: Recipe, seed: int) -> Outcome:
    """Fit one split, and measure clusters and likelihood on its test rows."""
    part = recipe.clustering
    rows, classes, test, truth = split_rows(part, seed)
    model = _estimator(part, len(np.unique(classes)), seed)
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it did not converge
        model.fit(rows)
    seconds = time.process_time() - began
    metrics = {"likelihood": float(model.score(test)), "seconds": seconds}
    if part.held_out == 0:  # classes are not for choosing
        from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

        found = model.predict(test)
        metrics["nmi"] = float(normalized_mutual_info_score(truth, found))
        metrics["ari"] = float(adjusted_rand_score(truth, found))
    return Outcome(_as_mixture(model), [], metrics)


def _estimator(part: ClusteringPart, classes: int, seed: int) -> Any:
    k = part.components or classes
    if part.method == "scikit-learn":
        return scikit_mixture(k, seed, part.iterations, part.n_init, part.floor)
    plan = {k: tuple(v) if isinstance(v, list) else v for k, v in part.plan.items()}
    plan = {"iterations": part.iterations, "n_init": part.n_init, **plan}
    return BigLearnEM(k, floor=part.floor, random_state=seed, **plan)


def split_rows(
    part: ClusteringPart, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Training rows and classes, test rows and classes; scaled."""
    from sklearn.model_selection import train_test_split

    sets = _read_rows(part.data)
    if len(sets) == 2:
        (x, y), (test, truth) = sets
    else:
        ((x, y),) = sets
        x, test, y, truth = train_test_split(
            x, y, test_size=0.2, random_state=seed, stratify=y
        )
    if part.held_out:
        x, test, y, truth = train_test_split(
            x, y, test_size=part.held_out, random_state=seed
        )
    low, width = x.min(0), np.ptp(x, 0)
    width = np.where(width > 0, width, 1)  # a constant column
    return (x - low) / width, y, (test - low) / width, truth


def _read_rows(name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    if name in BUNDLED:
        from sklearn import datasets

        return [getattr(datasets, f"load_{name}")(return_X_y=True)]
    return [_read_mat(_located(file)) for file in FILES[name]]


def _located(file: str) -> Path:
    """A file of the folder `clustering`, wherever that is."""
    folders = _search_folders("clustering", None)
    for folder in folders:
        if (folder / file).is_file():
            return folder / file
    raise FileNotFoundError(
        f"There is no {file} in {' or '.join(map(str, folders))}. It comes with the "
        "repository YulaiCong/Big-Learning-Expectation-Maximization: copy it into a "
        "folder `clustering`, and let $BIGLEARN_DATA name the folder above."
    )


def _read_mat(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows and classes of a file of MATLAB; the class is in column 0."""
    from scipy.io import loadmat

    tables = [v for k, v in loadmat(path).items() if not k.startswith("__")]
    table = np.asarray(max(tables, key=np.size), dtype=float)
    return table[:, 1:], table[:, 0].astype(int)


def _as_mixture(model: Any) -> GaussianMixture:
    parts = (model.weights_, model.means_, model.covariances_)
    return GaussianMixture(*(torch.as_tensor(part) for part in parts), validate=False)
