"""Parts of a drawn face: eyes, brows, glasses, nose, lines and mouth."""

from __future__ import annotations

import torch
from torch import Tensor

from biglearn_lite._faces_canvas import (
    Pane,
    Sitter,
    along,
    box,
    bump,
    ellipse,
    hue,
    rgb,
    stroke,
)
from biglearn_lite._faces_head import brown, lit, skin

IRISES = torch.tensor(
    [
        [0.22, 0.12, 0.06],
        [0.42, 0.25, 0.10],
        [0.38, 0.48, 0.20],
        [0.20, 0.50, 0.62],
        [0.42, 0.55, 0.70],
    ]
)


def eye_place(sitter: Sitter, pane: Pane) -> tuple[Tensor, Tensor]:
    """Place on either eye: away from the nose, and down."""
    return pane.u.abs() - sitter.between("eye_distance", 6.6, 7.3), pane.v - 30.6


def eye_size(sitter: Sitter) -> tuple[Tensor, Tensor]:
    """Half width and height of an eye."""
    return sitter.between("eye_size", 3.1, 3.8), sitter.between("eye_open", 1.9, 2.7)


def eyes(sitter: Sitter, pane: Pane) -> None:
    """White, iris, pupil, a light, and the upper lid."""
    away, down = eye_place(sitter, pane)
    wide, tall = eye_size(sitter)
    almond = down + away * sitter.between("eye_slant", -0.05, 0.16)
    shape = ellipse(away, almond, wide, tall)
    white = pane.inside(shape)
    pane.paint(pane.inside(shape - 0.9) * 0.35, skin(sitter) * 0.55)
    pane.paint(white, rgb(0.98, 0.98, 0.98))
    right = pane.u.sign() * away - sitter.between("gaze", -0.8, 0.8)
    round_ = (right.square() + down.square()).sqrt_()
    iris = along(sitter.factors["iris"], IRISES)
    pane.paint(pane.inside(round_ - 2.0) * white, iris)
    pane.paint(pane.inside(round_ - 1.0) * white, rgb(0.04, 0.03, 0.05))
    light = ellipse(right - 0.8, down + 0.8, 0.55, 0.55)
    pane.paint(pane.inside(light) * white, rgb(1.0, 1.0, 1.0))
    lid = torch.maximum(shape.abs() - 0.5, almond + 0.35)
    pane.paint(pane.inside(lid) * 0.85, brown(sitter) * 0.6)


def makeup(sitter: Sitter, pane: Pane) -> None:
    """Shadow on the lids and long lashes."""
    away, down = eye_place(sitter, pane)
    wide, tall = eye_size(sitter)
    slant = down + away * 0.16
    lid = ellipse(away - 0.3, slant + 0.3, wide + 1.1, tall + 2.0)
    eye = ellipse(away, down, wide, tall)
    above = torch.maximum(torch.maximum(lid, -eye), slant + 0.2)
    tint = hue(sitter.between("eye_shadow", 0.50, 0.93), 0.62, 0.72)
    pane.paint(pane.inside(above) * 0.85, tint)
    line = torch.maximum(eye.abs() - 0.75, down + 0.5)
    wing = stroke(away, down, (wide - 0.8, -1.0), (wide + 1.6, -2.6)) - 0.55
    pane.paint(pane.inside(torch.minimum(line, wing)), rgb(0.05, 0.03, 0.06))


def brows(sitter: Sitter, pane: Pane) -> None:
    """Two brows, one a little higher."""
    away = (pane.u.abs() - 7.2) / 4.8
    lift = sitter.between("brow_tilt", -0.9, 0.7) * away - 0.7 * bump(away)
    uneven = pane.u.sign() * sitter.between("uneven", -0.4, 0.4)
    thick = sitter.between("brow_thick", 0.55, 1.15) * (1 - away * 0.35)
    middle = (pane.v - 25.9 - lift - uneven).abs()
    shape = torch.maximum(middle - thick, (away.abs() - 1) * 4.8)
    pane.paint(pane.inside(shape) * 0.92, brown(sitter))


def glasses(sitter: Sitter, pane: Pane) -> None:
    """Frames between round and square, with glass that catches the light."""
    away, down = pane.u.abs() - 7.4, pane.v - 31.2
    corner = sitter.between("frame_corner", 1.4, 4.0)
    lens = box(away, down, 5.4, 4.2, corner)
    streak = bump((away * pane.u.sign() + down * 0.7 + 1) / 1.6) * 0.30 + 0.20
    pane.paint(pane.inside(lens) * streak, rgb(0.90, 0.96, 1.0))
    bridge = torch.maximum((down + 1.0).abs() - 0.6, pane.u.abs() - 2.4)
    arm = torch.maximum((down + 1.6).abs() - 0.8, 17.0 - away - 12.4)
    arm = torch.maximum(arm, pane.u.abs() - 16.6)
    frame = torch.minimum(lens.abs() - 0.75, torch.minimum(bridge, arm))
    colour = hue(
        sitter.between("frame", 0.33, 0.95),
        0.75,
        sitter.between("frame_light", 0.08, 0.36),
    )
    pane.paint(pane.inside(frame), colour)


def bridge(sitter: Sitter, pane: Pane) -> None:
    """The side of the nose that is away from the light."""
    side = sitter.between("light", -1.0, 1.0)
    shape = ellipse(pane.u + side * 1.6, pane.v - 33, 1.5, 5.0)
    cover = bump((shape / 1.5 + 1).clamp(0, 1)) * 0.35 * side.abs()
    pane.paint(cover, skin(sitter) * 0.75)


def nose(sitter: Sitter, pane: Pane) -> None:
    """Tip, wings and nostrils; twice as wide if big."""
    wide = sitter.choose("Big_Nose", 4.7, 2.1) + sitter.between("nose", -0.35, 0.35)
    tall = sitter.choose("Big_Nose", 2.5, 1.5)
    down = pane.v - 36.7
    tip = ellipse(pane.u, down, wide, tall)
    base = skin(sitter) * rgb(0.86, 0.72, 0.68)
    pane.paint(pane.inside(tip), lit(base, sitter, pane))
    pane.paint(
        pane.inside(ellipse(pane.u, down + 0.9, wide * 0.75, tall * 0.8)),
        lit(skin(sitter) * 1.03, sitter, pane),
    )
    holes = ellipse(pane.u.abs() - wide * 0.45, down - tall * 0.55, wide * 0.22, 0.55)
    pane.paint(pane.inside(holes) * 0.8, skin(sitter) * rgb(0.45, 0.30, 0.28))


def lines(sitter: Sitter, pane: Pane) -> None:
    """Lines of age: down the cheek and beside the eye."""
    across = pane.u.abs()
    bend = across - 9.6 - bump((pane.v - 39.5) / 6.5) * 1.7
    thick = bump((pane.v - 41) / 5.4) * 0.72
    fold = torch.maximum(bend.abs() - thick, (pane.v - 41).abs() - 5.0)
    upper = stroke(across, pane.v, (11.6, 32.6), (14.2, 31.6)) - 0.4
    lower = stroke(across, pane.v, (11.6, 33.8), (14.0, 34.8)) - 0.4
    shape = torch.minimum(fold, torch.minimum(upper, lower))
    pane.paint(pane.inside(shape) * 0.8, skin(sitter) * rgb(0.56, 0.44, 0.40))


# ---------------------------------------------------------------- mouth

MOUTH = 45.2


def curve(sitter: Sitter, pane: Pane) -> tuple[Tensor, Tensor, Tensor]:
    """Place below the line between the lips, 1 - (place on it) ** 2, past its end."""
    wide = sitter.choose("Smiling", 6.7, 4.6) + sitter.between("mouth", -0.4, 0.4)
    bend = torch.where(
        sitter.attributes["Smiling"] > 0,
        sitter.between("mood", 2.4, 3.2),
        sitter.between("mood", -1.0, 0.1),
    )
    slant = pane.u * sitter.between("uneven", -0.035, 0.035)
    profile = 1 - (pane.u / wide).square()
    down = pane.v - MOUTH + slant - bend * (profile - 0.55)
    return down, profile, pane.u.abs() - wide


def mouth(sitter: Sitter, pane: Pane) -> None:
    """Lips, painted or not, closed or open."""
    down, profile, past = curve(sitter, pane)
    gap = sitter.choose("Mouth_Slightly_Open", 2.7, 0.0)
    gap = gap * sitter.between("opening", 0.88, 1.08)
    full = sitter.choose("Wearing_Lipstick", 1.5, 1.05)
    full = full * sitter.between("lips", 0.9, 1.12)
    shape = profile.clamp(min=0)
    top, bottom = -full * shape, (gap + full) * shape
    middle, half = (top + bottom) / 2, (bottom - top) / 2
    lips = torch.maximum((down - middle).abs() - half, past)
    natural = skin(sitter) * rgb(0.84, 0.60, 0.58)
    painted = hue(sitter.between("lip_hue", 0.90, 1.0), 0.88, 0.80)
    has = sitter.attributes["Wearing_Lipstick"][:, None] > 0
    pane.paint(pane.inside(lips), torch.where(has, painted, natural))
    between = (down - gap * shape / 2).abs() - gap * shape / 2
    open_ = pane.inside(torch.maximum(between, past + 0.6)) * (gap > 0)
    pane.paint(open_, rgb(0.30, 0.05, 0.08))
    pane.paint(open_ * pane.inside(down - gap * shape * 0.5), rgb(0.98, 0.97, 0.95))
    line = torch.maximum(down.abs() - 0.4, past)
    shut = pane.inside(line) * (gap <= 0)
    pane.paint(shut * 0.8, skin(sitter) * rgb(0.42, 0.22, 0.22))


def moustache(sitter: Sitter, pane: Pane) -> None:
    """A moustache, bushy or thin."""
    across = pane.u.abs()
    wide = sitter.between("moustache", 5.6, 6.6)
    droop = (across / wide).square() * sitter.between("moustache", 0.6, 1.4)
    thick = sitter.between("moustache", 1.15, 1.5) * (1.15 - (across / wide).square())
    shape = (pane.v - 41.6 - droop).abs() - thick
    pane.paint(pane.inside(torch.maximum(shape, across - wide)), brown(sitter))
