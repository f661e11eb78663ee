"""Right and wrong answers to the exercises on larger images and wishes."""

import torch
from scipy.stats import entropy


def mean(said, numbers, target):
    each = torch.where(target, said / numbers, 0.0)
    return -(each.sum(1) / target.sum(1)).mean()


def by_rows(said, numbers, target):
    rows = [-(s / numbers)[t].mean() for s, t in zip(said, target, strict=True)]
    return sum(rows) / len(rows)


def kl(q, p):
    return (q * (q / p).log()).sum()


def factors(q, p):
    first = kl(q.sum(1), p.sum(1))
    return first, kl(q, p) - first


def by_label(q, p):
    rest = entropy(q.numpy(), p.numpy(), axis=1)  # normalises each row
    return entropy(q.sum(1), p.sum(1)), q.sum(1).numpy() @ rest


def told(law):
    return kl(law, law.sum(0) * law.sum(1, keepdim=True))


def by_entropies(law):
    entropies = (entropy(law.sum(0)), entropy(law.sum(1)), entropy(law.flatten()))
    return entropies[0] + entropies[1] - entropies[2]


ANSWERS = {  # name: (right answers, near misses)
    "more-pixels/mean": (
        [mean, by_rows],
        [
            lambda said, numbers, target: -mean(said, numbers, target),
            lambda said, numbers, target: -(said / numbers)[target].mean(),
            lambda said, numbers, target: mean(said, torch.ones(4), target),
            lambda said, numbers, target: -((said / numbers) * target).sum(1).mean(),
            lambda said, numbers, target: -((said / numbers) * target).mean(),
        ],
    ),
    "more-pixels/factors": (
        [factors, by_label],
        [
            lambda q, p: factors(q, p)[::-1],
            lambda q, p: factors(p, q),
            lambda q, p: factors(q.T, p.T),
            lambda q, p: (factors(q, p)[0], entropy(q, p, axis=1).mean()),
            lambda q, p: (factors(q, p)[0], p.sum(1) @ entropy(q, p, axis=1)),
            lambda q, p: (factors(q, p)[0], kl(q, p)),
            lambda q, p: (kl(q, p),),
        ],
    ),
    "more-pixels/told": (
        [told, by_entropies],
        [
            lambda law: told(law) / torch.tensor(2.0).log(),
            lambda law: kl(law.sum(0) * law.sum(1, keepdim=True), law),
            lambda law: entropy(law.flatten()),
            lambda law: entropy(law.sum(0)) - told(law),
            lambda law: -told(law),
        ],
    ),
}
