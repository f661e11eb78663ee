"""From a recipe's data part to batches: tokens, and what is shown of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from biglearn_lite._domains import (
    Domain,
    image_domain,
    labelled_domain,
    text_domain,
)
from biglearn_lite._images import mirror_half, shift
from biglearn_lite._labelled import (
    choices_of,
    label_numbers,
    labelled,
    shifted_where_named,
)
from biglearn_lite._scenes import show_tokens
from biglearn_lite._sums import SYMBOLS, Law
from biglearn_lite._task_checks import whole
from biglearn_lite.data import load
from biglearn_lite.likelihood import random_order
from biglearn_lite.sources import dataset_entry
from biglearn_lite.training import Batches

if TYPE_CHECKING:
    from biglearn_lite._recipe_file import DataPart

EXAMPLES = 64  # test rows that go into a record
INCOMPLETE = ("pixels", "scaled", "patches")  # tokens of which some may be hidden


@dataclass(frozen=True)
class Prepared:
    """Data that is ready for training.

    Attributes:
        domain: what the tokens are.
        batches: for training.
        test: rows of the data that are evaluated on, not yet tokens.
        law: the exact law, where it is known.
        examples: a few test tokens that may be published, or None.
        name: of the dataset.
        labels: (N,) of the rows in `test`, (N, K) attributes of faces, or None.
        names: of the attributes; none where there are labels.
        train: all training images, where the batches may hold some of them only.
    """

    domain: Domain
    batches: Batches
    test: Tensor
    law: Law | None
    examples: Tensor | None
    name: str = ""
    labels: Tensor | None = None
    names: tuple[str, ...] = ()
    train: Tensor | None = None

    def to(self, device: str) -> Prepared:
        """The same with the training data on a device."""
        moved = {
            f.name: value.to(device) if isinstance(value, Tensor) else value
            for f in dataclasses.fields(self.batches)
            for value in [getattr(self.batches, f.name)]
        }
        return dataclasses.replace(self, batches=Batches(**moved))


def prepare(part: DataPart, seed: int) -> Prepared:
    """Load a dataset and make batches of it.

    `seed` decides what is shown of incomplete rows, and which rows keep their labels.
    """
    loaded: Any = load(part.name)
    if isinstance(loaded, Law):
        return _prepare_law(part, loaded)
    entry = dataset_entry(part.name)
    shape = loaded.images.shape[1:]
    domain = image_domain(part.tokens, shape, entry.levels, part.size)
    (train, known), (test, labels) = _split(part, loaded)
    fixed = torch.Generator().manual_seed(0)
    if part.labels:
        domain = labelled_domain(domain, choices_of(loaded[1]))
        batches = labelled(part, train, known, domain, seed)
        shown = label_numbers(labels[:EXAMPLES])
        examples = domain.transform(test[:EXAMPLES], fixed, shown)
    else:
        batches = _incomplete(part, train, domain, seed)
        examples = domain.transform(test[:EXAMPLES], fixed)
    if entry.prepare:  # a record is published, and this is data to get for oneself
        examples = None
    batches = _augmented(part, batches, domain, entry.levels)
    names, every = getattr(loaded, "names", ()), train if part.labels else None
    return Prepared(
        domain, batches, test, None, examples, part.name, labels, names, every
    )


def _prepare_law(part: DataPart, law: Law) -> Prepared:
    """The whole table, each row as often as it comes up."""
    extra = part.held_out or part.labels or part.shift or part.flip
    if part.tokens != "symbols" or part.shown != 1 or extra:
        raise ValueError(
            f"The data {part.name!r} are a whole law of symbols: leave out "
            "data.tokens, data.shown, data.held_out, data.labels, data.shift and "
            "data.flip."
        )
    domain = text_domain(law.tokens.shape[1], len(SYMBOLS))
    batches = Batches(law.tokens, None, law.probabilities)
    sample = law.sample(EXAMPLES, torch.Generator().manual_seed(0))
    return Prepared(domain, batches, law.tokens, law, sample)


def _split(part: DataPart, loaded: Any) -> tuple[tuple[Tensor, Tensor], ...]:
    """(images, labels) to train on, and to measure on."""
    images, labels = loaded[:2]
    if not part.held_out:
        return (images, labels), load(part.name, "test")[:2]
    kept = len(images) - round(part.held_out * len(images))
    if not 0 < kept < len(images):
        raise ValueError(
            f"data.held_out is a share between 0 and 1 that leaves something on "
            f"both sides, got {part.held_out}."
        )
    return (images[:kept], labels[:kept]), (images[kept:], labels[kept:])


def _incomplete(part: DataPart, train: Tensor, domain: Domain, seed: int) -> Batches:
    """Batches of rows of which only a share is shown."""
    if part.missing not in ("observed", "complete", "mean"):
        raise ValueError(
            f"data.missing is 'observed', 'complete' or 'mean', got {part.missing!r}."
        )
    if part.shown == 1:
        return Batches(train, domain.transform)
    if part.tokens not in INCOMPLETE:
        raise ValueError(
            "Incomplete data are hidden pixels or patches, so data.tokens is one of "
            f"{INCOMPLETE}, got {part.tokens!r}."
        )
    observed = hide(len(train), domain.length, part.shown, seed)
    if part.missing == "observed":
        return Batches(train, domain.transform, observed=observed)
    if part.missing == "complete":
        complete = train[observed.all(1)]
        if not len(complete):
            raise ValueError(
                "No row is complete, so complete-case training has nothing to learn "
                "from; use data.missing = 'observed'."
            )
        return Batches(complete, domain.transform)
    if part.tokens != "pixels":  # the mean is that of each pixel
        pixels = show_tokens(observed, part.size[0], train.shape)
        observed = pixels.expand(train.shape).flatten(1)
    return Batches(fill_with_mean(train, observed), domain.transform)


def _augmented(
    part: DataPart, batches: Batches, domain: Domain, levels: int
) -> Batches:
    """The same batches with their images moved and mirrored, as the recipe says."""
    if part.flip and part.shown != 1 and part.missing == "observed":
        raise ValueError(
            "data.flip mirrors whole images, and what is shown of an incomplete one "
            "would not be mirrored with it; leave out data.flip or data.shown."
        )
    if part.shift and part.shown != 1:
        raise ValueError(
            "data.shift moves whole images, so leave out data.shown, or the shift."
        )
    if part.flip:
        batches = _changed_first(batches, mirror_half)
    if part.shift_in not in ("all", "classification"):
        raise ValueError(
            f"data.shift_in is 'all' or 'classification', got {part.shift_in!r}."
        )
    if not part.shift:
        return batches
    most = whole("data.shift", part.shift)
    if part.shift_in == "classification":
        named = shifted_where_named(domain, levels, most)
        return dataclasses.replace(batches, augment=named)
    return _changed_first(batches, lambda x, g: shift(x, most, g))


def _changed_first(
    batches: Batches, change: Callable[[Tensor, Any], Tensor]
) -> Batches:
    """The same batches of images that are changed before they become tokens."""
    plain = batches.transform

    def transform(x: Tensor, generator: Any = None, *labels: Tensor) -> Tensor:
        return plain(change(x, generator), generator, *labels)

    return dataclasses.replace(batches, transform=transform)


def hide(rows: int, length: int, shown: float | str, seed: int) -> Tensor:
    """What is shown of each row, once and for all: (rows, L) boolean.

    A row shows `max(1, round(u L))` tokens at random places, with u = `shown`, or from
    U(0.1, 1) if that is `"uniform"`.
    """
    if shown != "uniform" and not (isinstance(shown, float) and 0 < shown < 1):
        raise ValueError(
            f"data.shown is 'uniform' or a share between 0 and 1, got {shown!r}."
        )
    generator = torch.Generator().manual_seed(1_000_003 + seed)
    share = torch.rand(rows, 1, generator=generator) * 0.9 + 0.1
    if shown != "uniform":
        share = torch.full_like(share, shown)
    count = (share * length).round().clamp(min=1)
    return random_order(rows, length, generator) < count


def fill_with_mean(images: Tensor, observed: Tensor) -> Tensor:
    """What is hidden becomes the rounded mean of what other rows show there.

    `observed` is (N, C H W), by pixel.
    """
    flat = images.flatten(1).double()
    total = (flat * observed).sum(0) / observed.sum(0).clamp(min=1)
    filled = torch.where(observed, flat, total.round())
    return filled.to(images.dtype).view_as(images)
