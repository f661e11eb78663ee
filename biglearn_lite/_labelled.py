"""Labels of training rows: how they become numbers, and how many of them are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from biglearn_lite._images import shift
from biglearn_lite._imputed import Imputer
from biglearn_lite._task import Task
from biglearn_lite._task_checks import whole
from biglearn_lite.training import Batches

if TYPE_CHECKING:
    from biglearn_lite._domains import Domain
    from biglearn_lite._recipe_file import DataPart


def choices_of(labels: Tensor) -> tuple[int, ...]:
    """Values that each label can take: the classes of (N,), 2 each of (N, K) bools."""
    if labels.ndim == 1:
        return (int(labels.max()) + 1,)
    return (2,) * labels.shape[1]


def label_numbers(labels: Tensor) -> Tensor:
    """Classes (N,) or attributes (N, K) as whole numbers (N, M)."""
    return (labels[:, None] if labels.ndim == 1 else labels).long()


def labelled(
    part: DataPart, train: Tensor, labels: Tensor, domain: Domain, seed: int
) -> Batches:
    """Batches of images with labels, as far as these are known.

    Of a row that is not labelled nothing but the image is left, so nothing can leak:
    its labels are -1, its label tokens NaN, and tasks stay inside what is observed.
    """
    if part.shown != 1 or part.missing == "mean":
        raise ValueError(
            "With data.labels it is labels that are missing: leave out data.shown, and "
            "data.missing is 'observed' or 'complete', got "
            f"{part.shown!r} and {part.missing!r}."
        )
    numbers = label_numbers(labels)
    if not part.labelled:
        for name in ("labelled_share", "imputed"):
            if getattr(part, name):
                raise ValueError(
                    f"data.{name} is for rows of which only some are labelled: say how "
                    "many in data.labelled."
                )
        return Batches(train, domain.transform, labels=numbers)
    known = choose_labelled(labels, part.labelled, seed)  # (N,)
    if part.missing == "complete":
        if part.imputed:
            raise ValueError(
                "data.imputed gives labels to rows without one, and data.missing = "
                "'complete' drops these; leave one of them out."
            )
        return Batches(train[known], domain.transform, labels=numbers[known])
    observed = torch.ones(len(train), domain.length, dtype=torch.bool)
    observed[:, domain.image :] = known[:, None]
    imputer = _imputer(part, ~known, labels, seed) if part.imputed else None
    return Batches(
        train,
        domain.transform,
        probabilities=_probabilities(known, part.labelled_share),
        observed=observed,
        labels=numbers.masked_fill(~known[:, None], -1),
        renew=imputer,
    )


def _imputer(part: DataPart, unknown: Tensor, labels: Tensor, seed: int) -> Imputer:
    """What gives labels to rows without one."""
    if not 0 < part.imputed <= 1 or labels.ndim != 1:
        raise ValueError(
            "data.imputed is how sure of a class a model must be, above 0 and at most "
            f"1, for data with a class; got {part.imputed}."
        )
    if part.imputed_by not in ("bayes", "said"):
        raise ValueError(
            f"data.imputed_by is 'bayes' or 'said', got {part.imputed_by!r}."
        )
    return Imputer(unknown, part.imputed, seed, part.imputed_by == "bayes")


def choose_labelled(labels: Tensor, many: int, seed: int) -> Tensor:
    """Which rows keep their labels, (N,) boolean: equally many of each class.

    What is left over by the division goes to the first classes, one each. Rows with
    attributes are chosen among all.
    """
    if not 0 < whole("data.labelled", many) <= len(labels):
        raise ValueError(
            f"data.labelled is at most the {len(labels)} training rows, got {many}."
        )
    generator = Generator().manual_seed(2_000_003 + seed)
    order = torch.randperm(len(labels), generator=generator)
    classes = labels[order] if labels.ndim == 1 else torch.zeros_like(order)
    known = torch.zeros(len(labels), dtype=torch.bool)
    kinds = classes.unique().tolist()
    for place, kind in enumerate(kinds):
        rows = order[classes == kind]
        wanted = many // len(kinds) + (place < many % len(kinds))
        if wanted > len(rows):
            raise ValueError(
                f"data.labelled asks for {wanted} rows of class {kind}, and there are "
                f"{len(rows)}; ask for fewer, or for all with 0."
            )
        known[rows[:wanted]] = True
    return known


def _probabilities(known: Tensor, share: float) -> Tensor | None:
    """How often each row comes, so that labelled ones are this share; None: equally."""
    if not share:
        return None
    if not 0 < share < 1 or known.all():
        raise ValueError(
            "data.labelled_share is a share between 0 and 1 where some rows are not "
            f"labelled, got {share}."
        )
    many = known.sum().double()
    rest = (1 - share) / (len(known) - many)
    return torch.where(known, share / many, rest)


def shifted_where_named(
    domain: Domain, levels: int, most: int
) -> Callable[[Tensor, Task, Generator], Tensor]:
    """What moves the images of rows that ask for labels and for nothing else.

    A digit that is moved by a pixel is still a three, so it is a demonstration of
    `p(y | x_S)`; but it is no sample of `p(x)`, and other tasks do not see it. Images
    have so many grey `levels`.
    """
    if domain.layout is None:
        raise ValueError(
            "data.shift_in = 'classification' moves images that ask for their label: "
            "it needs data.labels = true."
        )
    layout = domain.layout
    # patches are (grey + u) / levels, u below 1; scaled ones are grey values
    steps, rounded = (levels - 1, 0.5) if domain.name == "scaled" else (levels, 0.0)

    def augment(x: Tensor, task: Task, generator: Generator) -> Tensor:
        named = ~task.target[:, : layout.image].any(1)  # (B,)
        grey = (domain.restore(x) * steps + rounded).floor().to(torch.uint8)
        labels = layout.split(x)[1].view(len(x), -1)
        moved = domain.transform(shift(grey, most, generator), generator, labels)
        return torch.where(named[:, None, None], moved, x)

    return augment
