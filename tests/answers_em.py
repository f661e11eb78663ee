"""Right and wrong answers to the exercises on EM."""

import math

import numpy as np

ANSWERS = {}  # name: (right answers, near misses)


# biglearn-em


def bridge(d, v):
    return math.log(1 + d * d / 4 / v) / 2 - math.log(2)


def cost(k, d, n, tied):
    shapes = (1 if tied else k) * d * (d + 1) // 2
    return (k - 1 + k * d + shapes) / (2 * n)


def lift(c, q, s):
    return c + q.T @ (s - q @ c @ q.T) @ q


def in_place(c, q, s):
    c += q.T @ (s - q @ c @ q.T) @ q
    return c


ANSWERS |= {
    "biglearn-em/prior": (
        [lambda n, k: n * k**0.5, lambda n, k: np.float64(n) * math.sqrt(k)],
        [
            lambda n, k: n * k**-0.5,
            lambda n, k: k**0.5,
            lambda n, k: n * k,
            lambda n, k: n * (1 + k**0.5),
        ],
    ),
    "biglearn-em/bridge": (
        [bridge, lambda d, v: np.log((v + d * d / 4) / (4 * v)) / 2],
        [
            lambda d, v: bridge(d, v) + math.log(2),
            lambda d, v: math.log(1 + d * d / v) / 2 - math.log(2),
            lambda d, v: math.log(1 + d * d / 4 / v) - math.log(2),
            lambda d, v: 0.506,
        ],
    ),
    "biglearn-em/cost": (
        [cost, lambda k, d, n, tied: np.float64(cost(k, d, n, tied))],
        [
            lambda k, d, n, tied: cost(k, d, n, tied) + 1 / (2 * n),
            lambda k, d, n, tied: cost(k, d, n, False),
            lambda k, d, n, tied: 2 * cost(k, d, n, tied),
            lambda k, d, n, tied: (k - 1 + k * d + k * d * d) / (2 * n),
        ],
    ),
    "biglearn-em/lift": (
        [lift, lambda c, q, s: lift(c, q, s).tolist()],
        [
            in_place,
            lambda c, q, s: c + q.T @ s @ q,
            lambda c, q, s: q.T @ s @ q,
            lambda c, q, s: s,
            lambda c, q, s: lift(c, q, s) + 0.1 * (np.eye(3) - q.T @ q),
        ],
    ),
}
