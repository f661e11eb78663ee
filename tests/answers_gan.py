"""Right and wrong answers to the exercises on adversarial learning."""

import math

import numpy as np

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
