"""What experiments on EM share: checks of their parts, and scikit-learn's mixture."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biglearn_lite.em import Plan

METHODS = ("tasks", "scikit-learn")


def check_choice(part: str, name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{part}.{name} is one of {list(known)}, got {value!r}.")


def check_least(part: str, values: Any, least: Mapping[str, float]) -> None:
    for name, low in least.items():
        if not getattr(values, name) >= low:
            raise ValueError(
                f"{part}.{name} is {low} or more, got {getattr(values, name)}."
            )


def read_plan(part: str, given: Mapping[str, Any]) -> Plan:
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    try:
        return Plan(**given)
    except TypeError as error:
        raise ValueError(f"{part} does not fit: {error}.") from error


def scikit_mixture(
    k: int, seed: int, steps: int, n_init: int, floor: float, covariance: str = "full"
) -> Any:
    """scikit-learn's mixture, as its users would take it."""
    from sklearn.mixture import GaussianMixture as Theirs

    # k-means++ gives each component one row; a tied covariance is then that of all the
    # data, from which EM hardly moves, so the tied mixture starts at k-means itself
    return Theirs(
        k,
        covariance_type=covariance,
        init_params="kmeans" if covariance == "tied" else "k-means++",
        max_iter=steps,
        n_init=n_init,
        reg_covar=floor,
        random_state=seed,
    )
