"""Parts of a drawn face: backdrop, shoulders, head, hair and hat."""

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
    wave,
)

SKINS = torch.tensor(
    [
        [0.99, 0.87, 0.78],
        [0.95, 0.77, 0.64],
        [0.85, 0.64, 0.48],
        [0.66, 0.45, 0.31],
        [0.45, 0.29, 0.20],
    ]
)
BROWNS = torch.tensor([[0.27, 0.14, 0.08], [0.44, 0.22, 0.10], [0.68, 0.26, 0.09]])
BLONDS = torch.tensor([[0.84, 0.66, 0.30], [0.97, 0.84, 0.50]])
GREYS = torch.tensor([[0.62, 0.63, 0.66], [0.86, 0.86, 0.88]])
BLACKS = torch.tensor([[0.06, 0.05, 0.07], [0.09, 0.10, 0.15]])


def skin(sitter: Sitter) -> Tensor:
    """Colour of the skin, (B, 3, 1, 1)."""
    return along(sitter.factors["skin"], SKINS)


def lit(colour: Tensor, sitter: Sitter, pane: Pane) -> Tensor:
    """A colour in the light of the picture: brighter on one side, and above."""
    side = sitter.between("light", -0.0075, 0.0075)
    shade = pane.u * side + (pane.v - 32) * -0.0025 + 1
    return colour * shade[:, None]


def hair(sitter: Sitter, pane: Pane) -> Tensor:
    """Colour of the hair, (B, 3, h, w): by attribute, with strands and shine."""
    shade = sitter.factors["hair_shade"]
    colour = along(shade, BROWNS)
    stops = {"Black_Hair": BLACKS, "Blond_Hair": BLONDS, "Gray_Hair": GREYS}
    for name, levels in stops.items():
        has = sitter.attributes[name][:, None] > 0
        colour = torch.where(has, along(shade, levels), colour)
    strands = wave(pane.u * 0.19 + pane.v * 0.03 + sitter.factors["strands"])
    return lit(colour, sitter, pane) * (strands * 0.13 + 0.92)[:, None]


def brown(sitter: Sitter) -> Tensor:
    """Brows and moustaches: dark, whatever the colour of the hair."""
    return along(sitter.factors["brow_shade"], BROWNS[:2] * 0.62)


def volume(sitter: Sitter) -> tuple[Tensor, Tensor]:
    """Half width and height of the hair about (0, 26), without curls."""
    return sitter.between("volume", 17.2, 18.6), sitter.between("volume", 18.0, 21.6)


def curls(sitter: Sitter, pane: Pane) -> Tensor:
    """How far locks stand out of the hair: two of five heads have smooth hair."""
    size = sitter.between("curls", -1.6, 2.4).clamp(min=0)
    phase = sitter.factors["strands"]
    return (wave(pane.u * 0.17 + phase) + wave(pane.v * 0.17 + phase)) * 0.5 * size


# ---------------------------------------------------------------- behind the head


def backdrop(sitter: Sitter, pane: Pane) -> None:
    """A wall in the light, and a disc of a related colour."""
    tone = sitter.between("wall", 0.38, 0.92)
    pale = sitter.between("wall_depth", 0.20, 0.46)
    bright = sitter.between("wall_light", 0.68, 0.95)
    wall = hue(tone, pale, bright)
    slope = pane.y * -0.0035 + pane.x * sitter.between("light", -0.004, 0.004) + 1.08
    pane.image.copy_(wall * slope[:, None])
    disc = ellipse(pane.x, pane.y - 31, sitter.between("disc", 24, 31), 27.0)
    pane.paint(pane.inside(disc) * 0.8, hue(tone + 0.06, pale * 0.6, bright * 1.05))


def long_hair(sitter: Sitter, pane: Pane) -> None:
    """Hair that falls beside the neck: straight or wavy, to the chin or further."""
    down = (pane.v - 32) / 24
    edge = wave(pane.v * 0.075 + sitter.factors["strands"])
    edge = (
        edge * sitter.between("waves", 0, 2.4) + sitter.between("flare", -1.0, 2.0)
    ) * down
    wide = volume(sitter)[0] + curls(sitter, pane) + edge
    side = pane.u.abs() - wide
    end = pane.v - sitter.between("hair_length", 53.0, 64.0)
    corner = (side + 5).clamp(min=0) * (end + 5).clamp(min=0) * 0.08
    dark = 1 - down.clamp(0, 0.5) * 0.3
    pane.paint(
        pane.inside(torch.maximum(side, end) + corner),
        hair(sitter, pane) * dark[:, None],
    )


def neck(sitter: Sitter, pane: Pane) -> None:
    """The neck, in the shadow of the chin."""
    x = pane.x - sitter.between("shift_right", -0.8, 0.8)
    shape = x.abs() - (7.4 + (pane.y - 56).clamp(min=0) * 0.3)
    shadow = 0.74 + (pane.y - 50).clamp(0, 10) * 0.02
    pane.paint(pane.inside(shape.expand_as(pane.u)), skin(sitter) * shadow[:, None])


def shoulders(sitter: Sitter, pane: Pane) -> None:
    """Shoulders in a plain garment, with a seam of light."""
    x = (pane.x - sitter.between("shift_right", -0.8, 0.8)).abs()
    slope = (x - 6.8).clamp(min=0) * sitter.between("slope", 0.10, 0.17)
    drop = (x - 17).clamp(min=0).square() * 0.07
    shape = 54.6 + slope + drop + (7.2 - x).clamp(min=0) * 0.9 - pane.y
    cloth = cloth_colour(sitter)
    fold = wave(pane.x * 0.09 + sitter.factors["cloth"]) * 0.10 + 0.94
    stripe = pane.inside(1.1 - wave(pane.y * 0.2) * 1.9) + sitter.between(
        "stripes", -2, 1
    )
    fold = fold * (1 - stripe.clamp(0, 1) * 0.25)
    pane.paint(pane.inside(shape), cloth * fold[:, None])


def cloth_colour(sitter: Sitter) -> Tensor:
    """Colour of the garment, (B, 3, 1, 1)."""
    deep = sitter.between("cloth_depth", 0.35, 0.75)
    return hue(sitter.factors["cloth"], deep, sitter.between("cloth_light", 0.35, 0.8))


def neckline(sitter: Sitter, pane: Pane) -> None:
    """A round neckline with a necklace, or a white collar with a tie."""
    x = pane.x - sitter.between("shift_right", -0.8, 0.8)
    male = sitter.attributes["Male"]
    scoop = pane.inside(ellipse(x, pane.y - 53.5, 8.0, 7.2))
    chain = pane.inside(ellipse(x, pane.y - 53.5, 6.6, 6.2).abs() - 0.45)
    bare = skin(sitter) * 0.93
    pane.paint(scoop * (1 - male), bare)
    pane.paint(chain * (1 - male), rgb(0.98, 0.86, 0.45))
    side = x.abs()
    lapel = torch.maximum(side + (pane.y - 64) * 0.8, 5.6 - side - (pane.y - 56) * 0.75)
    tie = torch.maximum(side - 1.1 - (pane.y - 57) * 0.22, 57.5 - pane.y)
    skin_v = side + (pane.y - 61) * 1.1
    colour = hue(sitter.factors["cloth"] + 0.45, 0.7, 0.55)
    pane.paint(pane.inside(skin_v) * male, bare * 0.9)
    pane.paint(pane.inside(lapel - 3) * male, rgb(0.96, 0.96, 0.97))
    pane.paint(pane.inside(tie) * male, colour)


# ---------------------------------------------------------------- the head


def head(sitter: Sitter, pane: Pane) -> None:
    """An egg, darker towards its edge."""
    below = pane.v > 30
    tall = torch.where(below, sitter.between("chin", 23.2, 24.6), torch.tensor(18.5))
    shape = ellipse(pane.u, pane.v - 30, 15.6, tall)
    shade = 1 - bump((shape.clamp(max=0)) / 5) * 0.09
    pane.paint(pane.inside(shape), lit(skin(sitter), sitter, pane) * shade[:, None])


def blush(sitter: Sitter, pane: Pane) -> None:
    """Warm cheeks."""
    near = ellipse(pane.u.abs() - 9, pane.v - 39, 5.0, 4.0) / 4.5 + 1
    warm = bump(near.clamp(max=1)) * sitter.between("blush", 0.0, 0.30)
    pane.paint(warm, skin(sitter) * rgb(1.02, 0.66, 0.62))


def jaw(sitter: Sitter, pane: Pane) -> None:
    """The corners of a square jaw, outside the egg."""
    u, v = pane.u / 13.9, (pane.v - 36.6) / 14.2
    shape = (u.square().square() + v.square().square()).sqrt_().sqrt_() * 14 - 14
    shade = 1 - bump((shape.clamp(max=0)) / 5) * 0.09
    egg = ellipse(pane.u, pane.v - 30, 15.6, sitter.between("chin", 23.2, 24.6))
    outside = (egg + 3).clamp(0, 1) * pane.inside(shape)
    pane.paint(outside, lit(skin(sitter), sitter, pane) * shade[:, None])


def ears(sitter: Sitter, pane: Pane) -> None:
    """Ears, darker inside."""
    away, down = pane.u.abs() - 15.9, pane.v - 33
    shape = ellipse(away, down, 2.7, sitter.between("ears", 3.7, 4.5))
    pane.paint(pane.inside(shape), lit(skin(sitter) * 0.95, sitter, pane))
    inner = ellipse(away - 0.4, down, 1.2, 2.2)
    pane.paint(pane.inside(inner) * 0.5, skin(sitter) * rgb(0.78, 0.66, 0.64))


# ---------------------------------------------------------------- hair and hat


def cap(sitter: Sitter, pane: Pane) -> Tensor:
    """Distance to the hair on the head: all of it but the face."""
    wide, tall = volume(sitter)
    down = torch.where(pane.v > 26, torch.tensor(26.0), tall)
    outer = ellipse(pane.u, pane.v - 26, wide, down) - curls(sitter, pane)
    part = sitter.between("parting", -5, 5)
    middle = part * ((27 - pane.v) * 0.09).clamp(0, 1)
    face = ellipse(
        pane.u - middle, pane.v - 31, sitter.between("hairline", 12.2, 12.9), 14.6
    )
    return torch.maximum(outer, -face)


def glossy(sitter: Sitter, pane: Pane) -> Tensor:
    """Hair with a band of light across the head, (B, 3, h, w)."""
    colour = hair(sitter, pane)
    arc = (pane.v - 10 - pane.u.square() * 0.025) / 3.2
    side = pane.u * sitter.between("light", -0.04, 0.04) + 0.55
    shine = bump(arc) * side.clamp_(0, 1) * 0.28
    return colour + (1 - colour[:, :1]) * shine[:, None]


def cap_hair(sitter: Sitter, pane: Pane) -> None:
    """Hair above the forehead and down to the ears."""
    pane.paint(pane.inside(cap(sitter, pane)), glossy(sitter, pane))


def bangs(sitter: Sitter, pane: Pane) -> None:
    """A fringe over the forehead, with locks."""
    locks = wave(pane.u * 0.16 + sitter.factors["strands"]) * 2.2
    slant = pane.u * sitter.between("parting", -0.11, 0.11)
    below = pane.v - (sitter.between("fringe", 20.4, 21.6) + locks * 0.6 + slant * 0.6)
    shape = torch.maximum(below, pane.u.abs() - 14.5)
    edge = torch.maximum(below - 1.3, pane.u.abs() - 12.5)
    pane.paint(pane.inside(edge) * 0.6, skin(sitter) * 0.42)
    pane.paint(pane.inside(shape), glossy(sitter, pane))


def hat(sitter: Sitter, pane: Pane) -> None:
    """A knitted hat, with or without a pompon."""
    colour = hue(sitter.between("hat", 0.40, 0.95), 0.68, 0.72)
    second = hue(sitter.between("hat", 0.52, 1.07), 0.40, 0.92)
    wide = volume(sitter)[0] + 0.6 + sitter.between("curls", -0.8, 1.2).clamp(min=0)
    dome = torch.maximum(ellipse(pane.u, pane.v - 20, wide, 15.6), pane.v - 20)
    ball = sitter.between("pompon", -3.0, 4.4)
    pane.paint(pane.inside(ellipse(pane.u, pane.v - 4.4, 1.0, 1.0) + 1 - ball), second)
    ribs = wave(pane.u * 0.16 + 0.5) * 0.20 + 0.86
    pane.paint(pane.inside(dome), lit(colour, sitter, pane) * ribs[:, None])
    stripe = bump((pane.v - 10.5) / 1.9).clamp(max=0.5) * 2
    stripe = stripe * (sitter.factors["hat_stripe"] > 0.5)
    pane.paint(pane.inside(dome) * stripe, lit(second, sitter, pane))
    band = box(pane.u, pane.v - 17.4, wide + 0.7, 2.8, 2.2)
    knit = wave(pane.u * 0.32) * 0.22 + 0.80
    pane.paint(pane.inside(band), lit(second, sitter, pane) * knit[:, None])
