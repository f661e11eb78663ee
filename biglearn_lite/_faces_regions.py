"""What a visible part of a drawn face shows: the table, and exact posteriors.

The image is a grid of 8 x 8 cells. A cell is *touched* by an attribute that can change
a pixel there (`_faces_parts.touched`, from how faces are painted), and a set of cells
*shows* an attribute if it can always be read there (`SHOWN`). Of visible patches it is
*decided* what they show if every attribute that touches one is shown: then the law of
what is hidden, given the visible pixels, is the law given the shown attributes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from biglearn_lite._faces_canvas import CELLS
from biglearn_lite._faces_law import ATTRIBUTES, COLOURS, attribute_law
from biglearn_lite._faces_parts import touched

Cell = tuple[int, int]  # row and column, from the upper left


@dataclass(frozen=True)
class Shown:
    """Attributes that can be read wherever one of some groups of cells is visible.

    Attributes:
        names: of the attributes.
        groups: each is enough, all of its cells together.
        when: it holds for faces where these attributes have these values.
    """

    names: tuple[str, ...]
    groups: tuple[tuple[Cell, ...], ...]
    when: dict[str, int] = field(default_factory=dict)


def block(rows: Sequence[int], columns: Sequence[int]) -> tuple[Cell, ...]:
    """All cells of these rows and columns."""
    return tuple((row, column) for row in rows for column in columns)


def _each(rows: Sequence[int], columns: Sequence[int]) -> tuple[tuple[Cell, ...], ...]:
    """Groups of one cell."""
    return tuple((cell,) for cell in block(rows, columns))


_BESIDE = tuple(block([row], side) for row in (5, 6) for side in ((1, 2), (5, 6)))
_TEMPLES = (block([3], (1, 2)), block([3], (5, 6)))
_BROWS = (block([2], (2, 3)), block([2], (4, 5)))
_MIDDLE = (block([5], (3, 4)),)
SHOWN = (
    Shown(("Wearing_Hat",), (*_each([1], (2, 3, 4, 5)), *_BROWS)),
    Shown(("Bangs",), (block([2], (3, 4)),), when={"Wearing_Hat": 0}),
    Shown(COLOURS, _each([1], (3, 4)), when={"Wearing_Hat": 0}),
    Shown(COLOURS, (*_TEMPLES, block([2], (1, 2)), block([2], (5, 6)))),
    Shown(COLOURS, _BESIDE, when={"Male": 0}),
    Shown(("Male",), (*_BESIDE, *_each([7], (3, 4)))),
    Shown(("Eyeglasses",), _each((3, 4), (2, 3, 4, 5))),
    Shown(("Heavy_Makeup",), _each([3], (3, 4))),
    Shown(("Big_Nose",), (block([4], (3, 4)),)),
    Shown(("Young",), (block((4, 5), [2]), block((4, 5), [5]))),
    Shown(("Smiling", "Mouth_Slightly_Open", "Wearing_Lipstick", "Mustache"), _MIDDLE),
)

# Disjoint, and each decided for all faces: what it shows is what `revealed` says.
REGIONS: dict[str, tuple[Cell, ...]] = {
    "hair": block((0, 1, 2), range(8)),
    "eyes": block([3], range(1, 7)),
    "nose": block([4], (3, 4)),
    "cheeks": block((4, 5, 6), (1, 2, 5, 6)),
    "mouth": block((5, 6), (3, 4)),
    "collar": block([7], (3, 4)),
    "edges": (*block(range(3, 8), (0, 7)), *block([7], (1, 2, 5, 6))),
}


def region_mask(names: str | Sequence[str], side: int = CELLS) -> Tensor:
    """Patches of one or more regions of a face, as the source of a `Task` has them.

    Args:
        names: keys of `REGIONS`.
        side: patches in a row of the image; a multiple of 8. With the side of the
            image, each pixel is a patch.

    Returns:
        (side * side,) bool, row by row.

    Raises:
        ValueError: for an unknown region or another grid.
    """
    grid = torch.zeros(CELLS, CELLS, dtype=torch.bool)
    for name in [names] if isinstance(names, str) else names:
        if name not in REGIONS:
            raise ValueError(
                f"Unknown region {name!r} of a face; choose from {', '.join(REGIONS)}."
            )
        rows, columns = zip(*REGIONS[name], strict=True)
        grid[list(rows), list(columns)] = True
    if side < 1 or side % CELLS:
        raise ValueError(
            f"Regions are made of whole cells of an {CELLS} x {CELLS} grid, so that a "
            f"row has a multiple of {CELLS} patches, not {side}."
        )
    return _stretch(grid, side // CELLS).flatten()


def revealed(attributes: Tensor, visible: Tensor) -> Tensor:
    """Which attributes the visible patches show.

    Args:
        attributes: (B, K), 0 or 1: what can be seen depends on some of them (hair has
            no colour below the ears of a man, nor at the top of a hat).
        visible: (L,) or (B, L) bool, row by row, as the source of a `Task`; an image
            is sqrt(L) patches wide, a multiple or a divisor of 8.

    Returns:
        (B, K) bool.

    Raises:
        ValueError: for other shapes, or if it is not decided what is visible (see
            `decided`): names the row and the attributes.
    """
    shown, hinted = _seen(attributes, visible)
    doubt = hinted & ~shown
    if doubt.any():
        row = int(doubt.any(1).nonzero()[0, 0])
        names = [n for n, on in zip(ATTRIBUTES, doubt[row], strict=True) if on]
        raise ValueError(
            f"Patches of a face show an attribute or have nothing of it, but those of "
            f"row {row} may or may not show {', '.join(names)}; use whole regions "
            "(region_mask), or only the rows where decided() holds."
        )
    return shown


def decided(attributes: Tensor, visible: Tensor) -> Tensor:
    """Whether it is certain what the visible patches show, face by face: (B,) bool.

    It always is for whole `REGIONS`. Arguments as for `revealed`.
    """
    shown, hinted = _seen(attributes, visible)
    return ~(hinted & ~shown).any(1)


def truth(attributes: Tensor, visible: Tensor) -> Tensor:
    """P(each attribute is 1 | the visible patches), exactly: (B, K) float64.

    It is 0 or 1 for what is visible. Poses and colours say nothing of attributes, so
    the visible pixels say of a hidden attribute what the shown ones do.
    Arguments and errors as for `revealed`.
    """
    return attribute_law().posterior(attributes, revealed(attributes, visible))


def _seen(attributes: Tensor, visible: Tensor) -> tuple[Tensor, Tensor]:
    """What is surely shown, and what has a pixel that is visible: (B, K) bool each."""
    rows = attribute_law().rows(attributes)
    visible = torch.as_tensor(visible)
    if visible.dtype != torch.bool or visible.ndim not in (1, 2):
        raise ValueError(
            f"Visible patches are (L,) or (B, L) bool, not {visible.dtype} of shape "
            f"{tuple(visible.shape)}."
        )
    if visible.ndim == 2 and visible.shape[0] not in (1, len(rows)):
        raise ValueError(
            f"Visible patches have one row, or one a face, not {len(visible)} for "
            f"{len(rows)} faces."
        )
    visible = visible.expand(len(rows), -1)
    whole, partly = _cells(visible)
    hinted = (touched(rows) & partly[:, None]).flatten(2).any(2)
    shown = torch.zeros_like(hinted)
    for name, cells, holds in _groups(rows):
        enough = whole[:, [row for row, _ in cells], [column for _, column in cells]]
        shown[:, ATTRIBUTES.index(name)] |= enough.all(1) & holds
    return shown, hinted


def _groups(rows: Tensor) -> Iterator[tuple[str, tuple[Cell, ...], Tensor]]:
    """Attribute, cells that show it, and for which faces (B,) they do."""
    for entry in SHOWN:
        holds = torch.ones(len(rows), dtype=torch.bool)
        for name, value in entry.when.items():
            holds &= rows[:, ATTRIBUTES.index(name)] == bool(value)
        for name in entry.names:
            for cells in entry.groups:
                yield name, cells, holds


def _cells(visible: Tensor) -> tuple[Tensor, Tensor]:
    """Cells that are wholly, and partly, visible: (B, 8, 8) bool each."""
    side = round(visible.shape[1] ** 0.5)
    if side * side != visible.shape[1] or not side or (side % CELLS and CELLS % side):
        raise ValueError(
            f"A face has a square of patches, {CELLS} in a row, or a multiple or a "
            f"divisor of it, not {visible.shape[1]} patches in all."
        )
    grid = visible.view(-1, side, side)
    if side < CELLS:
        grid = _stretch(grid, CELLS // side)
    many = grid.shape[-1] // CELLS
    grid = grid.reshape(-1, CELLS, many, CELLS, many)
    return grid.all(4).all(2), grid.any(4).any(2)


def _stretch(grid: Tensor, times: int) -> Tensor:
    """Each cell as a square of `times` x `times`."""
    return grid.repeat_interleave(times, -1).repeat_interleave(times, -2)
