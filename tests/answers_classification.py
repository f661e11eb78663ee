"""Right and wrong answers to the exercises on images and their labels."""

from scipy.stats import mannwhitneyu

ANSWERS = {}  # name: (right answers, near misses)


def posterior(prior, given):
    return (prior + given).softmax(1)


def by_hand(prior, given):
    weight = (prior + given - (prior + given).amax(1, keepdim=True)).exp()
    return (weight / weight.sum(1, keepdim=True)).tolist()


def area(known, other):
    pairs = known[:, None] - other
    return ((pairs > 0).double() + (pairs == 0).double() / 2).mean()


def by_ranks(known, other):
    return mannwhitneyu(known, other).statistic / (len(known) * len(other))


ANSWERS |= {
    "classification-as-generation/posterior": (
        [posterior, by_hand],
        [
            lambda prior, given: given.softmax(1),
            lambda prior, given: (prior + given).log_softmax(1),
            lambda prior, given: (prior + given).softmax(0),
            lambda prior, given: (
                (prior + given).exp() / (prior + given).exp().sum(1, keepdim=True)
            ),
            lambda prior, given: posterior(prior, given)[0],
            lambda prior, given: (prior + given / 2).softmax(1),
        ],
    ),
    "classification-as-generation/area": (
        [area, by_ranks],
        [
            lambda known, other: (known[:, None] > other).double().mean(),
            lambda known, other: (known[:, None] >= other).double().mean(),
            lambda known, other: area(other, known),
            lambda known, other: known.mean() - other.mean(),
        ],
    ),
    "classification-as-generation/likelier": (
        [
            lambda d, s: d * (1 - s**2) / 2,
            lambda d, s: sum((1 - s**2) / 2 for _ in range(d)),
        ],
        [
            lambda d, s: d * (s**2 - 1) / 2,
            lambda d, s: (1 - s**2) / 2,
            lambda d, s: d * (1 - s**2),
            lambda d, s: d * (1 - s) / 2,
            lambda d, s: d * (1 + s**2) / 2,
        ],
    ),
}
