"""What the two estimators of `em` share: fitting and asking as in scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from biglearn_lite._em_checks import check_components
from biglearn_lite._em_starts import data_start
from biglearn_lite._em_steps import State
from biglearn_lite._em_tasks import Rows, log_joint
from biglearn_lite._task_checks import whole
from biglearn_lite.mixtures import GaussianMixture


class Estimator(DensityMixin, BaseEstimator):
    """What the two estimators share; they differ in their plan."""

    def fit(self, X: Any, y: Any = None) -> Estimator:
        """Fit `n_init` mixtures to X as one batch and keep the likeliest on X."""
        data = self._points(X, reset=True)
        check_components(whole("n_components", self.n_components), data)
        generator = self._generator()
        start = data_start(
            data,
            self.n_components,
            generator,
            replicas=whole("n_init", self.n_init),
            init=self.init,
        )
        batch = self._run(data, start, generator)
        self._keep_best(batch, data)
        return self

    def _keep_best(self, batch: GaussianMixture, data: Tensor) -> None:
        score = scores(batch, data)
        best = int(score.argmax())
        self.mixture_ = GaussianMixture(
            batch.weights[best], batch.means[best], batch.covariances[best]
        )
        self.lower_bound_ = score[best].item()
        self.weights_ = self.mixture_.weights.numpy()
        self.means_ = self.mixture_.means.numpy()
        self.covariances_ = self.mixture_.covariances.numpy()

    def _points(self, X: Any, reset: bool = False) -> Tensor:
        if isinstance(X, Tensor):
            X = X.detach().cpu().numpy()
        X = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
        )
        if not reset:  # score in what was fitted
            X = X.astype(self.means_.dtype, copy=False)
        return torch.from_numpy(np.array(X, order="C"))

    def _generator(self) -> torch.Generator:
        generator = torch.Generator()
        if self.random_state is None:
            generator.seed()
        else:
            seed = check_random_state(self.random_state).randint(2**31 - 1)
            generator.manual_seed(int(seed))
        return generator

    def _log_joint(self, X: Any) -> Tensor:
        check_is_fitted(self)
        return _log_terms(self.mixture_, self._points(X))

    def predict_proba(self, X: Any) -> np.ndarray:
        """Responsibilities (N, K), from what is observed of each row."""
        return self._log_joint(X).softmax(-1).numpy()

    def predict(self, X: Any) -> np.ndarray:
        """The component most responsible for each row, (N,)."""
        return self._log_joint(X).argmax(-1).numpy()

    def fit_predict(self, X: Any, y: Any = None) -> np.ndarray:
        """Fit, then predict the same rows."""
        return self.fit(X).predict(X)

    def score_samples(self, X: Any) -> np.ndarray:
        """Log density of what is observed of each row, in nats: (N,)."""
        return self._log_joint(X).logsumexp(-1).numpy()

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log density over the rows."""
        return float(self.score_samples(X).mean())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def scores(batch: GaussianMixture, data: Tensor) -> Tensor:
    """Mean log density over the rows of data (N, D), for each of R mixtures: (R,)."""
    parts = zip(batch.weights, batch.means, batch.covariances, strict=True)
    every = [GaussianMixture(*each, validate=False) for each in parts]
    return torch.stack([_log_terms(each, data).logsumexp(-1).mean() for each in every])


def _log_terms(mixture: GaussianMixture, data: Tensor) -> Tensor:
    middle = mixture.weights @ mixture.means  # an origin near keeps the digits
    state = State(
        mixture.weights[None], mixture.means[None] - middle, mixture.covariances[None]
    )
    with torch.no_grad():
        return log_joint(state, Rows.about(data[None], middle[None]))
