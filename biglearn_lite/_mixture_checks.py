"""Checks behind `mixtures`: each error names argument, component, rule, value, cure.

Kept apart so that `mixtures` reads as the mathematics. Every check is a `ValueError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from biglearn_lite._task import Task

if TYPE_CHECKING:
    from biglearn_lite.mixtures import GaussianMixture


def cholesky(covariances: Tensor, validate: bool, name: str) -> Tensor:
    """Lower triangular factors; refuse covariances that have none."""
    factors, info = torch.linalg.cholesky_ex(covariances)
    if validate and info.any():
        index = tuple(info.nonzero()[0].tolist())
        smallest = torch.linalg.eigvalsh(covariances[index].detach())[0].item()
        raise ValueError(
            f"{name}: {where(index)} must be positive definite; its smallest "
            f"eigenvalue is {smallest:.3g} in {short(covariances.dtype)}. Add a "
            "small multiple of the identity, or use float64 if it is nearly singular."
        )
    return factors


def as_numbers(name: str, value: Any) -> Tensor:
    """Tensors as they are; lists and arrays as tensors, integers as default floats."""
    if isinstance(value, Tensor):
        return value
    try:
        value = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(
            f"{name} must be a tensor, an array or a list of numbers; got {value!r}."
        ) from None
    return value if value.is_floating_point() else value.to(torch.get_default_dtype())


def check_parameters(weights: Tensor, means: Tensor, covariances: Tensor) -> None:
    """Refuse weights, means and covariances that are no mixture."""
    check_shapes(weights, means, covariances)
    named = {"weights": weights, "means": means, "covariances": covariances}
    for name, value in named.items():
        check_alike(name, value, means, "means")
        check_finite(name, value, parameter=True)
    negative = weights < 0
    if negative.any():
        index = tuple(negative.nonzero()[0].tolist())
        raise ValueError(
            f"weights: {where(index)} must not be negative; it is "
            f"{weights[index].item():.6g}. Weights are shares: use softmax for scores."
        )
    tolerance = rounding(weights.dtype)
    total = weights.detach().sum(-1)
    if ((total - 1).abs() > tolerance).any():
        index = tuple(((total - 1).abs() > tolerance).nonzero()[0].tolist())
        raise ValueError(
            f"weights{batch(index)} must sum to one over the components; the sum is "
            f"{total[index].item():.9g}. Divide by weights.sum(-1, keepdim=True)."
        )
    check_symmetric(covariances.detach())


def check_shapes(weights: Tensor, means: Tensor, covariances: Tensor) -> None:
    """Refuse parameters whose shapes do not fit one another."""
    rule = (
        "shapes must be weights (..., K), means (..., K, D), covariances (..., K, D, D)"
    )
    named = {"weights": weights, "means": means, "covariances": covariances}
    got = ", ".join(f"{name} {tuple(value.shape)}" for name, value in named.items())
    fits = (
        weights.dim() >= 1
        and means.dim() >= 2
        and covariances.dim() >= 3
        and weights.shape[-1:] == means.shape[-2:-1] == covariances.shape[-3:-2]
        and means.shape[-1:] == covariances.shape[-2:-1] == covariances.shape[-1:]
        and min(means.shape[-2:]) > 0
    )
    if not fits:
        raise ValueError(f"{rule} with K, D >= 1; got {got}.")
    try:
        torch.broadcast_shapes(
            weights.shape[:-1], means.shape[:-2], covariances.shape[:-3]
        )
    except RuntimeError:
        raise ValueError(
            f"{rule} and their leading dimensions must broadcast; got {got}."
        ) from None


def check_symmetric(covariances: Tensor) -> None:
    """Refuse covariances that differ from their transpose."""
    gap = (covariances - covariances.mT).abs()
    scale = covariances.abs().amax((-2, -1), keepdim=True)
    bad = gap > rounding(covariances.dtype) * scale
    if bad.any():
        *index, i, j = bad.nonzero()[0].tolist()
        upper, lower = covariances[(*index, i, j)], covariances[(*index, j, i)]
        raise ValueError(
            f"covariances: {where(tuple(index))} must be symmetric; entry ({i}, {j}) "
            f"is {upper.item():.6g} but ({j}, {i}) is {lower.item():.6g}. Use "
            "(C + C.mT) / 2 if the difference is rounding."
        )


def check_transform(A: Tensor, means: Tensor) -> None:
    """Refuse a matrix under which the mixture would have no density."""
    check_alike("A", A, means)
    dim = means.shape[-1]
    if A.dim() < 2 or A.shape[-1] != dim or not 1 <= A.shape[-2] <= dim:
        raise ValueError(
            f"A must have shape (..., D', {dim}) with 1 <= D' <= {dim}; got "
            f"{tuple(A.shape)}."
        )
    check_finite("A", A)
    rank = torch.linalg.matrix_rank(A.detach())
    if (rank < A.shape[-2]).any():
        index = tuple((rank < A.shape[-2]).nonzero()[0].tolist())
        raise ValueError(
            f"A{batch(index)} must have full row rank {A.shape[-2]}, else A x has no "
            f"density; its rank is {rank[index].item()}. Drop the rows that depend on "
            "others."
        )


def check_alike(name: str, value: Tensor, like: Tensor, other: str = "") -> None:
    """Refuse what is no tensor, or of another dtype or device than `like`."""
    other = other or "the mixture"
    if not isinstance(value, Tensor):
        raise ValueError(
            f"{name} must be a torch tensor; got {type(value).__name__}. Use "
            f"torch.as_tensor({name}, dtype={like.dtype})."
        )
    if value.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{name} must be float32 or float64; got {short(value.dtype)}. Use "
            f"{name}.float() or {name}.double()."
        )
    if value.dtype != like.dtype or value.device != like.device:
        raise ValueError(
            f"{name} must have the dtype and device of {other}, {short(like.dtype)} "
            f"on {like.device}; got {short(value.dtype)} on {value.device}. Move one "
            "with .to()."
        )


def check_finite(name: str, value: Tensor, parameter: bool = False) -> None:
    """Refuse NaN and infinity."""
    bad = ~value.isfinite()
    if bad.any():
        index = tuple(bad.nonzero()[0].tolist())
        depth = {"weights": 0, "means": 1, "covariances": 2}[name] if parameter else 0
        place = where(index[: len(index) - depth]) if parameter else f"entry {index}"
        raise ValueError(
            f"{name}: {place} must be finite; it has {value[index].item()}. Remove or "
            "replace such values."
        )


def check_points(name: str, x: Tensor, width: int, mixture: GaussianMixture) -> None:
    """Refuse points that are not `(*sample, *batch, width)` and finite."""
    check_alike(name, x, mixture.means)
    rule = f"{name} must have shape (*sample, *batch, {width}) with batch "
    rule += f"{tuple(mixture.batch_shape)}; got {tuple(x.shape)}"
    if x.shape[-1:] != (width,):
        raise ValueError(f"{rule}. Put the tokens last.")
    try:
        torch.broadcast_shapes(x.shape[:-1], mixture.batch_shape)
    except RuntimeError:
        raise ValueError(f"{rule}. Put samples before the batch.") from None
    if mixture._validate:
        check_finite(name, x)


def check_rows(x: Tensor, task: Task, length: int) -> None:
    """Refuse tokens that are not `(B, L, 1)` or a task that has other rows."""
    if not isinstance(task, Task):
        raise ValueError(
            f"task must be a Task, which tokens are given and asked for; got {task!r}. "
            "Make one with Task.joint, marginal or conditional."
        )
    if x.dim() != 3 or x.shape[1:] != (length, 1):
        raise ValueError(
            f"x must be tokens of shape (B, {length}, 1); got {tuple(x.shape)}. Add "
            "the last dimension with unsqueeze(-1)."
        )
    if task.source.shape != x.shape[:2]:
        raise ValueError(
            f"task must have a row for each row of x, shape {tuple(x.shape[:2])}; got "
            f"{tuple(task.source.shape)}. Repeat a single one with task.expand(len(x))."
        )


def check_tokens(x: Tensor, read: Tensor, roles: str, validate: bool) -> None:
    """Refuse tokens that would be read and are not finite."""
    bad = read & ~x.squeeze(-1).isfinite()
    if validate and bad.any():
        row, token = bad.nonzero()[0].tolist()
        raise ValueError(
            f"x must be finite where it is {roles}; row {row}, token {token} is "
            f"{x[row, token, 0].item()}. Make that token absent or give its value."
        )


def rounding(dtype: torch.dtype) -> float:
    """What passes for rounding; in float64 also what came from float32."""
    return 1e-6 if dtype == torch.float64 else 1e-4


def where(index: tuple[int, ...]) -> str:
    """Name a component, and its place in the batch if there is one."""
    return f"component {index[-1]}{batch(index[:-1], ' of batch index ')}"


def batch(index: tuple[int, ...], before: str = " at batch index ") -> str:
    """Name a place in the batch, or nothing without a batch."""
    return f"{before}{index}" if index else ""


def short(dtype: torch.dtype) -> str:
    """Name a dtype without its module."""
    return str(dtype).removeprefix("torch.")
