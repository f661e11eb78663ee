"""Generated images as they are seen: what they show, how they differ, their seams."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

from biglearn_lite._images import patchify, unpatchify
from biglearn_lite._judges import log_law
from biglearn_lite._task_checks import probability, require_rows

__all__ = [
    "acceptance",
    "attribute_shares",
    "class_shares",
    "diversity",
    "in_parts",
    "scores",
    "seam_strength",
    "show_tokens",
]

Network = Callable[[Tensor], Tensor]


def in_parts(network: Network, images: Tensor, chunk: int = 512) -> Tensor:
    """What a network says of many images, some at a time, on its device; no gradient.

    Args:
        network: a `torch.nn.Module`, a method of one, or any function.
        images: (B, C, H, W) in [0, 1]; clamped, since a model may overshoot.
        chunk: images at a time.

    Returns:
        (B, ...) on the CPU.

    Raises:
        ValueError: if there are no images, or one is not finite.
    """
    if images.ndim != 4 or not len(images):
        raise ValueError(
            "Judges look at images (B, C, H, W), at least one, got "
            f"{tuple(images.shape)}; put tokens back together with unpatchify."
        )
    require_rows(
        images.isfinite().flatten(1).all(1),
        "of the images is not finite; a judge sees whole images only, so ask the model "
        "for all tokens that are not in the source.",
    )
    module = getattr(network, "__self__", network)
    home = next(iter(getattr(module, "parameters", lambda: [])()), images).device
    with torch.no_grad():
        parts = [network(each.to(home)) for each in images.clamp(0, 1).split(chunk)]
    return torch.cat(parts).cpu()


def scores(images: Tensor, look: Network, attributes: bool = False) -> Tensor:
    """Log probabilities in float64: (B, classes), or of attributes (B, K, 2)."""
    return log_law(in_parts(look, images).double(), attributes)


def class_shares(images: Tensor, look: Network) -> Tensor:
    """How often each class is the most likely one.

    Args:
        images: (B, C, H, W) in [0, 1]; for shares to be told apart, 5,000 or more.
        look: images -> scores of the classes, as `Judges.look`.

    Returns:
        (classes,) float64 that sum to one.
    """
    said = scores(images, look)
    return said.argmax(1).bincount(minlength=said.shape[1]).double() / len(said)


def attribute_shares(images: Tensor, look: Network) -> Tensor:
    """How often each attribute is more likely than not.

    Args:
        images: (B, C, H, W) in [0, 1].
        look: images -> log odds of each attribute (B, K), as `Judges.look`.

    Returns:
        (K,) float64.
    """
    return (in_parts(look, images) > 0).double().mean(0)


def acceptance(
    images: Tensor,
    look: Network,
    confidence: float = 0.9,
    attributes: bool = False,
    every: bool = False,
) -> float:
    """Share of the images of which the judge is sure: `max_y p(y | x) >= confidence`.

    Of attributes it is the share of all that is read, each attribute of each image: of
    forty attributes of a photograph one at least is nearly always in doubt, so that no
    image would be accepted, real or not. Where real ones are, `every` asks for more.

    Args:
        images: (B, C, H, W) in [0, 1].
        look: images -> scores of the classes, or of attributes, as `Judges.look`.
        confidence: from which on the judge is sure.
        attributes: whether the scores are those of attributes.
        every: accept images only, and only if every attribute of them is sure.
    """
    law = scores(images, look, attributes)
    sure = law.max(-1).values.exp() >= probability("confidence", confidence)
    if every:
        sure = sure.flatten(1).all(1)
    return sure.double().mean().item()


def diversity(samples: Tensor, target: Tensor) -> Tensor:
    """How much completions of the same context differ, a root mean square a value.

        mean over pairs of  sqrt(mean over target values of (x - x')^2)

    Args:
        samples: (K, B, L, P), K >= 2 completions of each context; read at the target
            only.
        target: (B, L) boolean, at least one in each row.

    Returns:
        (B,) float64.

    Raises:
        ValueError: for other shapes, a row without a target, or a target value that is
            not finite.
    """
    good = samples.ndim == 4 and len(samples) > 1
    if not good or target.dtype != torch.bool or target.shape != samples.shape[1:3]:
        raise ValueError(
            "Diversity takes samples (K, B, L, P) with K >= 2 and a boolean target "
            f"(B, L), got {tuple(samples.shape)} and {target.dtype} of "
            f"{tuple(target.shape)}."
        )
    require_rows(target.any(1), "has no target, so completions cannot differ in it.")
    kept = torch.where(target[..., None], samples.double(), 0.0)
    require_rows(
        kept.isfinite().all(0).flatten(1).all(1),
        "has a target value that is not finite.",
    )
    values = target.sum(1) * samples.shape[-1]  # (B,)
    pairs = [
        ((one - other).square().sum((1, 2)) / values).sqrt()
        for one, other in combinations(kept, 2)
    ]
    return torch.stack(pairs).mean(0)


def seam_strength(images: Tensor, real: Tensor, source: Tensor, patch: int) -> float:
    """How visible the border between source and completion is; real images have 1.

    `r` is the mean absolute difference of neighbouring pixels across borders between a
    source and a target patch, divided by the same across all other borders of patches.
    The strength is `r(images) / r(real)`, at the same borders: above one, the
    completions do not fit to what was given.

    Args:
        images: (B, C, H, W), completions with the real source pasted in.
        real: the same images before anything was taken away.
        source: (B, L) boolean, L patches.
        patch: side of a patch.

    Raises:
        ValueError: for other shapes, or if one of the two kinds of border is missing
            or without any contrast.
    """
    if images.shape != real.shape:
        raise ValueError(
            f"Seams are compared with the real images of the same rows, got "
            f"{tuple(images.shape)} and {tuple(real.shape)}."
        )
    mixed = _across(show_tokens(source, patch, real.shape).double(), patch) > 0
    return _contrast(images, mixed, patch) / _contrast(real, mixed, patch)


def _contrast(images: Tensor, mixed: Tensor, patch: int) -> float:
    steps = _across(images.double(), patch)
    seam, other = steps[mixed], steps[~mixed]
    if not len(seam) or not len(other) or not seam.mean() * other.mean() > 0:
        raise ValueError(
            "A seam needs borders inside the source or target and borders between "
            f"them, with some contrast; got {len(seam)} between and {len(other)} "
            "others. Take more images, or a source of middle size."
        )
    return (seam.mean() / other.mean()).item()


def _across(images: Tensor, patch: int) -> Tensor:
    """Absolute steps between pixels on both sides of patch borders: (B, borders)."""
    downwards = (images[:, :, 1:] - images[:, :, :-1])[:, :, patch - 1 :: patch]
    sideways = (images[..., 1:] - images[..., :-1])[..., patch - 1 :: patch]
    steps = (each.abs().mean(1).flatten(1) for each in (downwards, sideways))
    return torch.cat(list(steps), 1)


def show_tokens(
    mask: Tensor, patch: int, shape: torch.Size | tuple[int, ...]
) -> Tensor:
    """A mask of tokens as a mask of pixels: (B, L) -> (B, 1, H, W) boolean."""
    values = mask[..., None].expand(-1, -1, patch**2)
    return unpatchify(values, patch, (1, *shape[-2:]))


def values_at(images: Tensor, target: Tensor, patch: int) -> Tensor:
    """The values of images at one target (L,): (B, C, H, W) -> (B, |T| P)."""
    return patchify(images, patch)[:, target].flatten(1)
