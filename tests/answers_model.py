"""Right and wrong answers to the exercises on the universal model."""

import math

import torch

ANSWERS = {}  # name: (right answers, near misses)


# foundations


def divergence(symbols, p, entropy=1.0):
    share = torch.tensor(symbols).bincount().double() / len(symbols)
    share = share[share > 0]
    loss = -sum(math.log(p[s]) for s in symbols) / len(symbols)
    return loss + entropy * float((share * share.log()).sum())


def backward(symbols, p):
    share = [symbols.count(s) / len(symbols) for s in range(len(p))]
    return sum(b * math.log(b / a) for a, b in zip(share, p, strict=True) if b * a)


def naive_divergence(symbols, p):
    share = torch.tensor(symbols).bincount(minlength=len(p)).double() / len(symbols)
    return float((share * (share / torch.tensor(p)).log()).sum())  # 0 log 0 is NaN


def measure(on_data, on_model, scale=0.5, sign=-1.0):
    logsigmoid = torch.nn.functional.logsigmoid
    total = logsigmoid(on_data).mean() + logsigmoid(-on_model).mean()
    return on_data.mean(), sign * on_model.mean(), scale * (total + math.log(4))


def unstable(on_data, on_model):
    total = on_data.sigmoid().log().mean() + (1 - on_model.sigmoid()).log().mean()
    fine = on_data.abs().max() < 500
    js = (total + math.log(4)) / 2 if fine else math.nan
    return on_data.mean(), -on_model.mean(), js


def expectation(x, source, weights, means, widths, count=True, prior=True):
    gap = ((x - means)[:, source] ** 2).sum(-1) / (2 * widths**2)
    score = -gap - count * source.sum() * widths.log() + prior * weights.log()
    return torch.where(source, x, score.softmax(0) @ means)


def underflowing(x, source, weights, means, widths):
    gap = ((x - means)[:, source] ** 2).sum(-1) / (2 * widths**2)
    share = weights * widths ** -source.sum() * (-gap).exp()
    return torch.where(source, x, share / share.sum() @ means)


ANSWERS |= {
    "foundations/likelihood": (
        [divergence, lambda s, p: torch.tensor(divergence(s, p))],
        [
            backward,
            naive_divergence,
            lambda s, p: divergence(s, p, entropy=0.0),
            lambda s, p: divergence(s, p, entropy=-1.0),
            lambda s, p: divergence(s, p) / math.log(2),
        ],
    ),
    "foundations/discriminator": (
        [measure, lambda *args: torch.stack(measure(*args))],
        [
            unstable,
            lambda *args: measure(*args, scale=1.0),
            lambda *args: measure(*args, sign=1.0),
            lambda *args: measure(*args[::-1]),
            lambda *args: measure(*args)[:2],
        ],
    ),
    "foundations/attention": (
        [expectation],
        [
            underflowing,
            lambda *args: expectation(*args, count=False),
            lambda *args: expectation(*args, prior=False),
            lambda x, source, w, m, s: torch.where(source, x, w @ m),
            lambda *args: expectation(*args).nan_to_num()[:2],
        ],
    ),
}


# masked-transformer


def allowed(source, target, before=-1, shared=True, itself=True, absent=False):
    length = source.shape[1]
    past = torch.ones(length, length).tril(before).bool()
    used = source | target | absent
    to_source = used[:, :, None] & source[:, None, :]
    to_target = target[:, :, None] & target[:, None, :] & past
    eye = torch.eye(length, dtype=torch.bool) & itself
    return to_source | (to_target if shared else eye) | eye


def leaks(f, x, source, covers=(math.nan, math.inf, 0.0, -99.0)):
    said = f(x, source)
    return any(
        not torch.equal(f(torch.where(source[..., None], x, c), source), said)
        for c in covers
    )


def saving(length, width, pairs=1.0):
    def cost(n):
        return 6 * n * width + pairs * n**2

    return sum(map(cost, range(1, length + 1))) / (length * cost(length))


ANSWERS |= {
    "masked-transformer/reach": (
        [allowed],
        [
            lambda s, t: allowed(s, t, before=0, itself=False),
            lambda s, t: allowed(s, t, before=1),
            lambda s, t: allowed(s, t, shared=False),
            lambda s, t: allowed(s, t, absent=True),
            lambda s, t: allowed(s, t).mT,
            lambda s, t: allowed(s, t).float(),
            lambda s, t: allowed(s, t)[0],
        ],
    ),
    "masked-transformer/leak": (
        [leaks, lambda f, x, s: leaks(f, x, s, (math.nan, 0.0, 1e3, -1e3))],
        [
            lambda f, x, s: leaks(f, x, s, (math.nan,)),
            lambda f, x, s: leaks(f, x, s, (0.0, 99.0, -99.0)),
            lambda f, x, s: leaks(f, x, s, (math.nan, 0.0, 99.0)),
            lambda *_: True,
            lambda *_: False,
        ],
    ),
    "masked-transformer/cost": (
        [saving],
        [
            lambda n, w: saving(n, w, pairs=0),
            lambda n, w: saving(n, w, pairs=2),
            lambda n, w: (n + 1) / (2 * n),
            lambda n, w: 1 / saving(n, w),
        ],
    ),
}


# one-objective


def chance(length, k):
    return 1 / (length * math.comb(length, k) * (length - k))


def floor(tokens, probabilities, log=1.0, joint=1.0):
    total = joint * torch.xlogy(probabilities, probabilities).sum()
    for column in tokens.T:
        shares = probabilities.new_zeros(int(column.max()) + 1)
        shares = shares.index_add(0, column, probabilities)
        total = total - torch.xlogy(shares, shares).sum()
    return total * log


def pairs_only(tokens, p):
    two = floor(tokens[:, :2], p)  # the rest of the row is forgotten
    return two


def order_loss(said, target, links=None):
    each = -said.sum(1) / target.sum(1)
    return (links or said.shape[1]) * each.mean()


ANSWERS |= {
    "one-objective/chance": (
        [chance],
        [
            lambda n, k: 1 / (n * math.comb(n, k)),
            lambda n, k: 1 / (math.comb(n, k) * (n - k)),
            lambda n, k: 1 / (n * 2 ** (n - 1)),
            lambda n, k: 1 / (n * n),
            lambda n, k: chance(n, k) * (n - k),
        ],
    ),
    "one-objective/floor": (
        [floor, lambda *law: floor(*law).item()],
        [
            pairs_only,
            lambda *law: floor(*law, log=1 / math.log(2)),
            lambda *law: floor(*law, log=-1.0),
            lambda *law: floor(*law, joint=0.0),
            lambda tokens, p: floor(tokens, p.clamp(min=1e-3)),
            lambda tokens, p: floor(tokens, torch.ones_like(p) / len(p)),
        ],
    ),
    "one-objective/order": (
        [order_loss, lambda *args: order_loss(*args).item()],
        [
            lambda said, target: -said.sum() / target.sum(),
            lambda said, target: -3 * said.sum() / target.sum(),
            lambda said, target: -said.sum(1).mean(),
            lambda *args: order_loss(*args, links=1),
            lambda *args: -order_loss(*args),
        ],
    ),
}
