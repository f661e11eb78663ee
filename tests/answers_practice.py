"""Right and wrong answers to the exercises on running it all."""

import math

import numpy as np
import torch

ANSWERS = {}  # name: (right answers, near misses)


# training


def clip(gradients, most, small=1e-12, together=True):
    norms = torch.stack([g.norm() for g in gradients])
    norm = norms.norm() if together else norms
    share = (most / norm.clamp(min=small)).clamp(max=1.0).expand(len(gradients))
    return [g * s for g, s in zip(gradients, share, strict=True)]


def clip_in_place(gradients, most):
    for g, new in zip(gradients, clip(gradients, most), strict=True):
        g.copy_(new)
    return gradients


def clip_to(gradients, most):
    norm = torch.stack([g.norm() for g in gradients]).norm()
    return [g * most / norm for g in gradients]


def clip_zero(gradients, most):
    norm = torch.stack([g.norm() for g in gradients]).norm()
    return [
        torch.where(norm <= most, g, g * most / norm) / (norm > 0) for g in gradients
    ]


ANSWERS |= {
    "training/budget": (
        [lambda n, j: n * (1 + j) / 2, lambda n, j: j * n + (1 - j) * n / 2],
        [
            lambda n, j: n / 2,
            lambda n, j: j * n + (1 - j) * (n - 1) / 2,
            lambda n, j: j * n + (1 - j) * (n + 1) / 2,
            lambda n, j: n if j == 1 else n / 2,
        ],
    ),
    "training/lag": (
        [lambda d: d / (1 - d), lambda d: 1 / (1 - d) - 1],
        [
            lambda d: 1 / (1 - d),
            lambda d: d,
            lambda d: 2 * d,
            lambda d: d / (1 - d) + 0.01 * d,
        ],
    ),
    "training/clip": (
        [clip],
        [
            lambda g, m: clip(g, m, together=False),
            clip_in_place,
            clip_to,
            clip_zero,
            lambda g, m: clip(g, m)[:1],
            lambda g, m: g,
        ],
    ),
}


# how-many-tasks


def covered(task):
    row, token = task.target.nonzero().T
    contexts = torch.cat([task.source[row].long(), token[:, None]], 1)
    return len(contexts.unique(dim=0))


def covered_in_words(task):
    code = task.source.long() @ 2 ** torch.arange(task.length)  # of 64 bits
    row, token = task.target.nonzero().T
    return len(torch.stack([code[row], token], 1).unique(dim=0))


ANSWERS |= {
    "how-many-tasks/covered": (
        [covered, lambda t: torch.tensor(covered(t))],
        [
            covered_in_words,
            lambda t: int(t.target.sum()),
            lambda t: t.length * 2 ** (t.length - 1),
            lambda t: len(t.source.unique(dim=0)),
        ],
    ),
    "how-many-tasks/met": (
        [
            lambda p, n: -torch.expm1(n * torch.log1p(-p)).sum(),
            lambda p, n: -np.expm1(n * np.log1p(-p.numpy())).sum(),
        ],
        [
            lambda p, n: (1 - (1 - p) ** n).sum(),
            lambda p, n: (-torch.expm1(-n * p)).sum(),
            lambda p, n: min(n, len(p)),
            lambda p, n: (n * p).clamp(max=1).sum(),
        ],
    ),
    "how-many-tasks/marginals": (
        [lambda n: 2 ** (n - 1)],
        [lambda n: 2**n - 1, lambda n: 2**n - 2 ** (n - 1) + 1, lambda n: n],
    ),
}


# incomplete-data


def inside(length, shown, size):
    return math.comb(length - size, shown - size) / math.comb(length, shown)


def imputed(covariance, share):
    return share**2 * covariance + share * (1 - share) * covariance.diag().diag()


def repair(learned, seen, rows=True):
    true = learned / seen
    return true / true.sum(1, keepdim=True) if rows else true / true.sum()


ANSWERS |= {
    "incomplete-data/inside": (
        [
            lambda n, m, k: inside(n, m, k) if k <= m else 0.0,
            lambda n, m, k: math.comb(m, k) / math.comb(n, k),
        ],
        [
            inside,  # which raises where a task cannot be inside
            lambda n, m, k: (m / n) ** k if k <= m else 0.0,
            lambda n, m, k: math.comb(m, k) / math.comb(n, m),
        ],
    ),
    "incomplete-data/imputed": (
        [imputed, lambda c, u: imputed(c, u).tolist()],
        [
            lambda c, u: u**2 * c,
            lambda c, u: u * c,
            lambda c, u: c,
            lambda c, u: imputed(c, u).diag(),
        ],
    ),
    "incomplete-data/repair": (
        [repair, lambda q, s: repair(q, s).float()],
        [
            lambda q, s: repair(q, 1 / s),
            lambda q, s: repair(q, s, rows=False),
            lambda q, s: q / s,
            lambda q, s: q,
        ],
    ),
}


# any-order


def chain(said, source, order, grow=True, keep=True):
    known, total = list(source), 0.0
    for t in order:
        total += said(known, t)
        known = ([*known, t] if keep else [t]) if grow else known
    return total


def chain_in_place(said, source, order):
    total = 0.0
    for t in order:
        total += said(source, t)
        source.append(t)
    return total


ANSWERS |= {
    "any-order/chain": (
        [chain],
        [
            chain_in_place,
            lambda f, s, o: chain(f, s, o, grow=False),
            lambda f, s, o: chain(f, s, o, keep=False),
            lambda f, s, o: chain(f, s, sorted(o)),
            lambda f, s, o: chain(f, [], o),
        ],
    ),
    "any-order/mean": (
        [lambda s: s.logsumexp(0) - math.log(len(s))],
        [
            lambda s: s.exp().mean(0).log(),
            lambda s: s.mean(0),
            lambda s: s.max(0).values,
            lambda s: s.logsumexp(0),
            lambda s: s.logsumexp(1) - math.log(2),
        ],
    ),
    "any-order/bits": (
        [lambda p, d, g: -p / (d * math.log(2)) + math.log2(g)],
        [
            lambda p, d, g: p / (d * math.log(2)) + math.log2(g),
            lambda p, d, g: -p / d + math.log2(g),
            lambda p, d, g: -p / (d * math.log(2)),
            lambda p, d, g: (-p / math.log(2) + math.log2(g)) / d,
        ],
    ),
}


# command-line


def roles(text, asked=".?", absent="_", strict=True):
    letters = "".join("T" if c in asked else "." if c in absent else "S" for c in text)
    if strict and "T" not in letters:
        raise ValueError(text)
    return letters


RECIPE = """
data.name = "sums"
tasks.law = "prefix"
model.width = 48
training = { step_targets = 300, targets = 90_000 }
smoke.training.targets = 3_000
"""

ANSWERS |= {
    "command-line/roles": (
        [roles],
        [
            lambda t: roles(t, asked="."),
            lambda t: roles(t, absent=""),
            lambda t: roles(t, strict=False),
        ],
    ),
    "command-line/recipe": (
        [RECIPE],
        [
            RECIPE.replace("smoke", "gpu"),
            RECIPE.replace("prefix", "prefixes"),
            RECIPE.replace("48", "64"),
            RECIPE.replace("step_targets = 300, targets", "steps = 300, step_targets"),
            RECIPE.replace("law", "laws"),
            "",
        ],
    ),
}
