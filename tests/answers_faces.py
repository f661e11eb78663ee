"""Right and wrong answers to the exercises on drawn faces."""

import math

import numpy as np
import torch

ANSWERS = {}  # name: (right answers, near misses)


def posterior(every, p, values, known):
    fits = ((every == values) | ~known).all(1)
    return (p[fits, None] * every[fits]).sum(0) / p[fits].sum()


def undivided(every, p, values, known):
    fits = ((every == values) | ~known).all(1)
    return (p[fits, None] * every[fits]).sum(0)


def counted(every, p, values, known):
    fits = ((every == values) | ~known).all(1)
    return every[fits].double().mean(0)


def noise(p, draws):
    return math.sqrt(2 / math.pi * float((p * (1 - p)).sum()) / draws) / len(p)


def clash(p):
    none = (1 - p).prod()
    return 1 - none - (none * p / (1 - p)).sum()


def of_rows(every, p, values, known):
    """Row by row, without vectors."""
    rows = [
        (chance, row)
        for chance, row in zip(p.tolist(), every.tolist(), strict=True)
        if all(
            a == b or not said
            for a, b, said in zip(row, values.tolist(), known.tolist(), strict=True)
        )
    ]
    total = sum(chance for chance, _ in rows)
    return [sum(c * row[k] for c, row in rows) / total for k in range(every.shape[1])]


ANSWERS |= {
    "faces/posterior": (
        [posterior, of_rows],
        [
            undivided,
            counted,
            lambda every, p, values, known: posterior(every, p, values, ~known),
            lambda every, p, values, known: posterior(every, p, values, known | True),
            lambda every, p, values, known: (p[:, None] * every).sum(0),
            lambda *a: posterior(*a)[0],
            lambda *a: 1 - posterior(*a),
        ],
    ),
    "faces/noise": (
        [noise, lambda p, draws: np.float64(noise(p, draws))],
        [
            lambda p, draws: noise(p, draws) * math.sqrt(math.pi / 2),
            lambda p, draws: noise(p, 1),
            lambda p, draws: noise(p, draws) * len(p),
            lambda p, draws: noise(p, draws * draws),
            lambda p, draws: noise(torch.full_like(p, float(p.mean())), draws),
            lambda p, draws: noise(p, draws) ** 2,
            lambda p, draws: 0.0,
        ],
    ),
    "faces/colours": (
        [clash, lambda p: float(clash(p))],
        [
            lambda p: 1 - (1 - p).prod(),
            lambda p: p.prod(),
            lambda p: 1 - ((1 - p).prod() * p / (1 - p)).sum(),
            lambda p: 1 - (1 - p).prod() - p.sum(),
            lambda p: p.sum() - p.max(),
        ],
    ),
}
