"""Checkers for the exercises: a tick, or a hint that does not give the answer away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from biglearn_lite import (  # noqa: F401 (they register)
    _check_celeba,
    _check_classification,
    _check_cooperation,
    _check_em,
    _check_faces,
    _check_gan,
    _check_model,
    _check_pixels,
    _check_practice,
)
from biglearn_lite._checkers import CHECKERS, exercise, near


def check(exercise: str, answer: Any) -> bool:
    """Check `answer` to an exercise of the book; print a tick or a hint.

    Args:
        exercise: `"chapter-slug/exercise"`, as printed beside the exercise.
        answer: what the exercise asks for (a number, a tensor or a function).

    Returns:
        Whether the answer is right.

    Raises:
        ValueError: if there is no such exercise; the message lists the chapter's own.
    """
    if not isinstance(exercise, str) or exercise not in CHECKERS:
        slug = str(exercise).split("/")[0]
        known = sorted(n for n in CHECKERS if n.startswith(slug)) or sorted(CHECKERS)
        raise ValueError(f"There is no exercise {exercise!r}; choose from {known}.")
    try:
        hint = CHECKERS[exercise](answer)
    except Exception as error:  # an unfinished answer must give a hint, not a traceback
        hint = f"the answer could not be tried: {type(error).__name__}: {error}"
    print(f"right: {exercise}" if hint is None else f"not yet: {exercise}: {hint}")
    return hint is None


# intro


@exercise("intro/unused")
def _unused(answer: Callable[[int], int]) -> str | None:
    if answer(1) == 4:  # 5 tasks for two tokens, one of them used
        return None if answer(16) == 3**17 - 2**17 - 1 else "try it for more patches"
    return "one patch and one label are two tokens: list their tasks by hand"


@exercise("intro/angle")
def _first_free_angle(answer: int) -> str | None:
    if answer == 90:
        return "there the landscape is flat, but it loses its bad minima earlier"
    return None if answer == 45 else "draw the landscape on both sides of it"


# one-sample-many-tasks


@exercise("one-sample-many-tasks/no-absent")
def _no_absent(answer: Callable[[int], int]) -> str | None:
    for length in (1, 2, 5, 70):
        if answer(length) != 2**length - 1:
            return (
                f"at length {length} the count is off; each token has two roles left, "
                "and one of the choices has no target."
            )
    return None


@exercise("one-sample-many-tasks/incomplete")
def _incomplete(answer: Callable[[int, float], float]) -> str | None:
    for length, share in ((1, 0.3), (4, 0.5), (9, 0.8), (6, 1.0), (6, 0.0)):
        masks = range(2**length)  # go through all patterns of what is observed
        sizes = [mask.bit_count() for mask in masks]
        exact = sum(
            share**u * (1 - share) ** (length - u) * (3**u - 2**u) for u in sizes
        )
        if not near(answer(length, share), exact, 1e-6 * max(1.0, exact)):
            return (
                f"at length {length} and share {share} the mean is off; the mean of "
                "a ** U over independent tokens is a product of L equal factors."
            )
    return None


@exercise("one-sample-many-tasks/window")
def _window(answer: Callable[..., Any]) -> str | None:
    import torch

    for length, width in ((6, 2), (5, 5)):
        generator = torch.Generator().manual_seed(0)
        task = answer(4000, length, width, generator)
        if tuple(task.target.shape) != (4000, length):
            return f"the masks should be (4000, {length}), not {task.target.shape}."
        if bool(task.absent.any()):
            return "some token is absent; the source is all the rest."
        windows = task.target.unfold(1, width, 1).all(2)
        if not bool((task.target.sum(1) == width).all() & windows.any(1).all()):
            return f"the target is not always {width} neighbouring tokens."
        shares = windows.double().mean(0) * (length - width + 1)
        if bool((shares - 1).abs().max() > 0.2):
            return "some windows come up more often than others."
    return None


# mixtures


@exercise("mixtures/other-way")
def _other_way(answer: tuple[float, float]) -> str | None:
    mean, variance = answer
    if not near(mean, 2, 0.01):
        return "how far is the value one from each mean of the first token?"
    if not near(variance, 1.5, 0.01):
        return "add the spread between the two means to that inside the components"
    return None


@exercise("mixtures/whiten")
def _whiten(answer: Any) -> str | None:
    import torch

    a = torch.as_tensor(answer, dtype=torch.float64)
    if a.shape != (2, 2):
        return f"a 2 x 2 matrix is asked for, this has shape {tuple(a.shape)}"
    covariance = a @ torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=a.dtype) @ a.mT
    if (covariance - torch.eye(2, dtype=a.dtype)).abs().max() < 1e-4:
        return None
    return f"the tokens of y have covariance {covariance.tolist()}, not the identity"


@exercise("mixtures/impute")
def _impute(answer: Callable[[Any, Any], Any]) -> str | None:
    import torch

    from biglearn_lite.mixtures import GaussianMixture

    eye = torch.eye(3, dtype=torch.float64)
    means = torch.tensor([[0.0, 0.0, 0.0], [2.0, 4.0, 2.0]], dtype=torch.float64)
    covariances = torch.stack([eye + 0.5 * (1 - eye), eye])
    mixture = GaussianMixture(means.new_tensor([0.25, 0.75]), means, covariances)
    x = means.new_tensor([1.0, float("nan"), 1.0])
    filled = answer(mixture, x)
    # the source is as far from both, but its density under the first component is
    # larger: (1, 1) lies along its correlation, 1/sqrt(.75) exp(-2/3) against exp(-1)
    odds = 0.25 / 0.75 * 0.75**-0.5 * 2.718281828459045 ** (1 / 3)
    expected = (odds * 2 / 3 + 4) / (odds + 1)
    if not x.isnan()[1]:
        return "it changed its argument; work on a copy"
    if not torch.equal(filled[[0, 2]], x[[0, 2]]):
        return "the known entries must stay as they are"
    if near(filled[1], expected, 1e-3):
        return None
    return "weigh the components' conditional means with the conditional's weights"


# local-optima


@exercise("local-optima/weights")
def _weights(answer: Callable[[float, float, float, float], float]) -> str | None:
    import math

    for mu1, mu2, angle, y2 in ((1, -1, 30, -0.5), (0.3, 1.2, 75, 0.4), (2, 1, 0, 1)):
        s = math.sin(math.radians(angle))
        odds = ((y2 + mu2 * s) ** 2 - (y2 + mu1 * s) ** 2) / 0.2
        got = answer(mu1, mu2, angle, y2)
        if not near(got, 1 / (1 + math.exp(-odds)), 1e-6):
            flipped = near(got, 1 / (1 + math.exp(odds)), 1e-6)
            hint = "the nearer component gets the larger weight"
            return hint if flipped else "a component's y2 has the mean -mu sin(angle)"
    if not near(answer(1, -1, 90, -200), 1, 1e-6):
        return "far from the clouds both densities underflow; subtract the logarithms"
    return None


@exercise("local-optima/angle")
def _freeing_angle(answer: float) -> str | None:
    if near(answer, 59.6, 0.5):
        return None
    if near(answer, 1.04, 0.02):
        return "give it in degrees"
    return "set the variance divided by the squared cosine equal to the critical one"


@exercise("local-optima/valley")
def _valley(answer: int) -> str | None:
    if near(answer, 1, 0):
        return None
    return "look for the diagonal entry of the Hessian that is nearly zero"


@exercise("local-optima/clouds")
def _clouds(answer: float) -> str | None:
    if near(answer, 1.0986122886681098, 1e-3):
        return None
    return "what is q there, compared with p? The divergence is the mean log ratio"
