"""Right and wrong answers to the exercises on tasks that cooperate."""

import dataclasses
import math

import torch

from biglearn_lite.cooperation import Schedule

ANSWERS = {}  # name: (right answers, near misses)


# cooperation


def missed(counts, clouds=None):
    share = torch.tensor(counts, dtype=torch.float64) / sum(counts)
    clouds = len(counts) if clouds is None else clouds
    return float(torch.xlogy(share, share * clouds).sum())


COOLED = Schedule(
    joint=1.0,
    marginal=0.0,
    blur=((0, 10), (0.6, 1)),
    rate=((0, 0.5), (1, 0.02)),
)

ANSWERS |= {
    "cooperation/missed": (
        [missed, lambda c: torch.tensor(missed(c))],
        [
            lambda c: math.log(len(c) / sum(n > 0 for n in c)),
            lambda c: missed(c) if 0 not in c else math.nan,  # 0 log 0
            lambda c: missed(c, clouds=sum(c)),
            lambda c: missed(c) / math.log(2),
            lambda c: 0.0,
        ],
    ),
    "cooperation/shadow": (
        [math.degrees(math.atan(0.2)), 11.31],
        [math.degrees(math.atan(0.25)), math.atan(0.2), 11.5, 45.0, "11.31"],
    ),
    "cooperation/variances": (
        [lambda s: ((s - 1 / s) ** 2, s**2), lambda s: [s**2 - 2 + s**-2, s * s]],
        [
            lambda s: (s**2, (s - 1 / s) ** 2),
            lambda s: (0.0, s**2),
            lambda s: ((1 - 1 / s**2) ** 2, 1.0),
            lambda s: (abs(s - 1 / s), s),
        ],
    ),
    "cooperation/schedule": (
        [COOLED, dataclasses.replace(COOLED, blur=((0, 10), (0.6, 1), (1, 1)))],
        [
            dataclasses.replace(COOLED, marginal=1.0),
            dataclasses.replace(COOLED, blur=((0, 10), (1, 1))),
            dataclasses.replace(COOLED, blur=((0, 10), (0.6, 10), (0.6, 1))),
            dataclasses.replace(COOLED, rate=0.5),
            dataclasses.replace(COOLED, conditional=0.1),
            Schedule.joint_only(),
            {"joint": 1.0},
        ],
    ),
}
