"""All parts of a drawn face in the order of painting: where, and what each may read.

A part is painted inside its windows only and reads no attribute but those it names. So
what no part of a cell names cannot change a pixel there: the table of what a region
shows (`_faces_regions`) rests on this one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from biglearn_lite import _faces_features as features
from biglearn_lite import _faces_head as heads
from biglearn_lite._faces_canvas import CELLS, Pane, Sitter, Window, canvas
from biglearn_lite._faces_law import ATTRIBUTES, COLOURS

# continuous, uniform on [0, 1], independent of each other and of all attributes
FACTORS = (
    "shift_right", "shift_down", "tilt", "size", "width", "light",
    "wall", "wall_depth", "wall_light", "disc",
    "skin", "blush", "chin", "ears", "uneven",
    "hair_shade", "strands", "volume", "parting", "hairline", "fringe",
    "hair_length", "waves", "flare", "curls",
    "hat", "hat_stripe", "pompon",
    "cloth", "cloth_depth", "cloth_light", "stripes", "slope",
    "eye_distance", "eye_size", "eye_open", "eye_slant", "gaze", "iris", "eye_shadow",
    "brow_shade", "brow_tilt", "brow_thick",
    "frame", "frame_light", "frame_corner",
    "nose", "mouth", "mood", "opening", "lips", "lip_hue", "moustache",
)  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One part of the picture.

    Attributes:
        paint: onto a pane, for faces of which it knows only what it reads.
        windows: where, see `Window`.
        reads: attributes that it depends on.
        when: it is painted where these attributes have these values.
    """

    paint: Callable[[Sitter, Pane], None]
    windows: tuple[Window, ...]
    reads: tuple[str, ...] = ()
    when: dict[str, int] = field(default_factory=dict)


ALL = ((0, 8, 0, 8),)
SIDES = ((4, 7, 1, 3), (4, 7, 5, 7))
PARTS = (
    Part(heads.backdrop, ALL),
    Part(heads.long_hair, SIDES, COLOURS, when={"Male": 0}),
    Part(heads.neck, ((6, 8, 2, 6),)),
    Part(heads.shoulders, ((6, 8, 0, 8),)),
    Part(heads.neckline, ((7, 8, 3, 5),), ("Male",)),
    Part(heads.head, ((1, 7, 1, 7),)),
    Part(heads.blush, ((4, 6, 1, 7),)),
    Part(heads.jaw, ((5, 7, 1, 3), (5, 7, 5, 7)), when={"Male": 1}),
    Part(features.bridge, ((3, 5, 3, 5),)),
    Part(features.nose, ((4, 5, 3, 5),), ("Big_Nose",)),
    Part(features.lines, ((4, 6, 2, 3), (4, 6, 5, 6)), when={"Young": 0}),
    Part(
        features.mouth,
        ((5, 7, 3, 5),),
        ("Smiling", "Mouth_Slightly_Open", "Wearing_Lipstick"),
    ),
    Part(features.moustache, ((5, 6, 3, 5),), when={"Mustache": 1}),
    Part(features.eyes, ((3, 5, 2, 6),)),
    Part(features.makeup, ((3, 4, 2, 6),), when={"Heavy_Makeup": 1}),
    Part(features.brows, ((2, 4, 2, 6),)),
    Part(features.glasses, ((3, 5, 2, 6),), when={"Eyeglasses": 1}),
    # under a hat there is hair at the temples only
    Part(heads.cap_hair, ((0, 2, 1, 7),), COLOURS, when={"Wearing_Hat": 0}),
    Part(heads.cap_hair, ((2, 4, 1, 7),), COLOURS),
    Part(heads.ears, ((3, 5, 1, 3), (3, 5, 5, 7))),
    Part(heads.bangs, ((2, 3, 2, 6),), COLOURS, when={"Bangs": 1, "Wearing_Hat": 0}),
    Part(heads.hat, ((0, 3, 0, 8),), when={"Wearing_Hat": 1}),
)


def paint(attributes: Tensor, factors: Tensor, size: int) -> Tensor:
    """Faces as bytes: (B, 3, size, size) uint8.

    Args:
        attributes: (B, K) bool.
        factors: (B, F) float32 in [0, 1].
        size: pixels a side, a multiple of 8.
    """
    known = {name: factors[:, k, None, None] for k, name in enumerate(FACTORS)}
    has = {name: attributes[:, k, None, None] for k, name in enumerate(ATTRIBUTES)}
    whole = canvas(Sitter(known, {}), size)
    for part in PARTS:
        rows = torch.ones(len(attributes), dtype=torch.bool)
        for name, value in part.when.items():
            rows &= has[name][:, 0, 0] == bool(value)
        sitter = Sitter(known, {name: has[name].float() for name in part.reads})
        for window in part.windows:
            _paint_some(part, sitter, whole.cut(window), rows)
    return (whole.image.clamp_(0, 1) * 255).round_().to(torch.uint8)


def _paint_some(part: Part, sitter: Sitter, pane: Pane, rows: Tensor) -> None:
    """A part on those faces that have it."""
    if rows.all():
        part.paint(sitter, pane)
    elif rows.any():
        some = pane.take(rows)
        part.paint(sitter.take(rows), some)
        pane.image[rows] = some.image


def touched(attributes: Tensor) -> Tensor:
    """Which attributes can change a pixel of a cell: (B, K, 8, 8) bool.

    It depends on the others: hair has no say below the ears of a man, or under a hat.
    """
    has = {name: attributes[:, k].bool() for k, name in enumerate(ATTRIBUTES)}
    found = torch.zeros(*attributes.shape, CELLS, CELLS, dtype=torch.bool)
    for part in PARTS:
        for name in {*part.reads, *part.when}:
            rows = torch.ones(len(attributes), dtype=torch.bool)
            for other, value in part.when.items():
                if other != name:
                    rows &= has[other] == bool(value)
            for top, bottom, left, right in part.windows:
                place = found[:, ATTRIBUTES.index(name), top:bottom, left:right]
                place |= rows[:, None, None]
    return found
