"""Right and wrong answers to the exercises on photographs of faces."""

import numpy as np
import torch

ANSWERS = {}  # name: (right answers, near misses)


def points(p):
    return 100 * (torch.maximum(p, 1 - p) - p**2 - (1 - p) ** 2).mean()


def mirrored(q):
    both = q + q.T
    return both / both.sum(1, keepdim=True)


def rowwise(q):
    both = np.asarray(q) + np.asarray(q).T
    return [[each / sum(row) for each in row] for row in both.tolist()]


ANSWERS |= {
    "celeba/copy": (
        [points, lambda p: float(points(p)), lambda p: points(1 - p)],
        [
            lambda p: points(p) / 100,
            lambda p: -points(p),
            lambda p: 100 * torch.maximum(p, 1 - p).mean(),
            lambda p: 100 * (p - p**2).mean(),
            lambda p: points(p.mean()[None]),
            lambda p: 100 * (p**2 + (1 - p) ** 2).mean(),
        ],
    ),
    "celeba/mirror": (
        [mirrored, rowwise],
        [
            lambda q: (q + q.T) / 2,
            lambda q: q / q.sum(1, keepdim=True),
            lambda q: q.T / q.T.sum(1, keepdim=True),
            lambda q: (q / q.sum(1, keepdim=True) + q.T / q.T.sum(1, keepdim=True)) / 2,
            lambda q: (q + q.T) / (q + q.T).sum(0),
            lambda q: mirrored(q)[0],
            lambda q: mirrored(q.flip(1)),
        ],
    ),
}
