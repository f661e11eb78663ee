"""Right and wrong answers to the exercises on adversarial learning."""

import math

import numpy as np
import torch

ANSWERS = {}  # name: (right answers, near misses)


# biglearn-gan


def table(q, joint, given):
    return joint.log() - (q.sum(1, keepdim=True) * given).log()


def spiral(h, s, taken=2.0):
    update = np.array([[1 - taken * h * s, -h / 2], [h / 2, 1]])
    return float(np.abs(np.linalg.eigvals(update)).max())


ANSWERS |= {
    "biglearn-gan/share": (
        [lambda r, w: r - math.log(w), lambda r, w: np.float64(r - np.log(w))],
        [
            lambda r, w: r + math.log(w),
            lambda r, w: r - math.log(1 + w),
            lambda r, w: r / w,
            lambda r, w: r,
        ],
    ),
    "biglearn-gan/table": (
        [table, lambda *a: table(*a).tolist()],
        [
            lambda *a: -table(*a),
            lambda q, joint, given: joint.log() - given.log(),
            lambda q, joint, given: joint.log() - (q.sum(0) * given).log(),
            lambda *a: table(*a)[0],
            lambda *a: table(*a) + 0.01,
        ],
    ),
    "biglearn-gan/spiral": (
        [spiral, lambda h, s: np.float64(spiral(h, s))],
        [
            lambda h, s: spiral(h, s, taken=1.0),
            lambda h, s: spiral(h, s, taken=0.0),
            lambda h, s: spiral(h, s, taken=4.0),
            lambda h, s: math.sqrt(1 + h * h / 4),
        ],
    ),
}


# mnist


def agreement(p, r):
    return (p * r).sum(1).mean()


def chain(first, second, rounds=500):
    law = torch.full_like(first, 1 / first.numel())
    for _ in range(rounds):
        law = (first * law.sum(0) + second * law.sum(1, keepdim=True)) / 2
    return law


def scan(first, second):
    law = chain(first, second)
    for _ in range(200):  # one token after the other, without a coin
        law = second * (first * law.sum(0)).sum(1, keepdim=True)
    return law


def circle(t):
    return math.cos(math.pi * t / 2), math.sin(math.pi * t / 2)


ANSWERS |= {
    "mnist/agreement": (
        [agreement, lambda p, r: float(agreement(p, r))],
        [
            lambda p, r: (p * p).sum(1).mean(),
            lambda p, r: p.max(1).values.mean(),
            lambda p, r: (p * r).sum(),
            lambda p, r: (p.mean(0) * r.mean(0)).sum(),
            lambda p, r: (p * r).mean(),
            lambda p, r: (p.argmax(1) == r.argmax(1)).double().mean(),
        ],
    ),
    "mnist/chain": (
        [chain, lambda *a: chain(*a).tolist()],
        [
            scan,
            lambda *a: chain(*a, rounds=2),
            lambda *a: 2 * chain(*a),
            lambda *a: chain(*a)[0],
            lambda first, second: chain(second, first),
            lambda first, second: torch.full_like(first, 1 / first.numel()),
        ],
    ),
    "mnist/path": (
        [
            circle,
            lambda t: torch.tensor([(1 - t) ** 0.5, t**0.5]),
            lambda t: [(1 - t) / math.hypot(t, 1 - t), t / math.hypot(t, 1 - t)],
        ],
        [
            lambda t: (1 - t, t),
            lambda t: circle(1 - t),
            lambda t: circle(2 * t),
            lambda t: circle(round(t)),
            lambda t: (circle(t)[0], -circle(t)[1]),
        ],
    ),
}
