"""Tasks and their laws, against enumeration in plain Python and against scipy."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from biglearn_lite.tasks import (
    Task,
    TaskSampler,
    all_tasks,
    classification,
    count_tasks,
    joint_only,
    masked_autoencoder,
    masked_language_model,
    modalities,
    next_token,
    pair,
    permutation,
    prefix,
    share_law,
)

DRAWS = 20_000


def boolean(*rows):
    return torch.tensor([[c == "1" for c in row] for row in rows])


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs_of(task):
    """Each row as (frozenset S, frozenset T): the tests' own form of a task."""
    rows = np.stack([task.source.numpy(), task.target.numpy()], axis=1)
    unique, which = np.unique(rows, axis=0, return_inverse=True)
    sets = [tuple(frozenset(np.flatnonzero(m)) for m in masks) for masks in unique]
    return [sets[i] for i in which]


def enumerate_tasks(tokens):
    """All (S, T) inside `tokens`, by going through the roles of each token."""
    for roles in itertools.product("STa", repeat=len(tokens)):
        source, target = (
            frozenset(t for t, r in zip(tokens, roles, strict=True) if r == role)
            for role in "ST"
        )
        if target:
            yield source, target


def assert_law(draws, law):
    """Chi-square of the drawn tasks against exact probabilities."""
    assert sum(law.values()) == pytest.approx(1)
    counts = Counter(draws)
    assert not {t for t in counts if law.get(t, 0) == 0}, "an impossible task was drawn"
    kept = {task: p for task, p in law.items() if p * len(draws) >= 5}
    rare = len(draws) - sum(counts[t] for t in kept)
    observed = np.array([counts[t] for t in kept] + [rare], float)
    expected = np.array([*kept.values(), 1 - sum(kept.values())]) * len(draws)
    keep = expected > 1e-6
    assert observed[~keep].sum() == 0
    if keep.sum() > 1:
        expected = expected[keep] * observed[keep].sum() / expected[keep].sum()
        assert stats.chisquare(observed[keep], expected).pvalue > 1e-4


# ---------------------------------------------------------------- a single task


def test_all_tasks_of_four_tokens():
    task = all_tasks(4)
    assert len(task) == count_tasks(4) == 65
    assert set(pairs_of(task)) == set(enumerate_tasks(range(4)))
    assert len(set(pairs_of(task))) == 65
    assert Counter(task.kind) == {"joint": 1, "marginal": 14, "conditional": 50}


@pytest.mark.parametrize("length", range(1, 8))
def test_count_is_the_number_of_enumerated_tasks(length):
    assert count_tasks(length) == len(all_tasks(length))
    assert count_tasks(length) == len(list(enumerate_tasks(range(length))))


def test_count_is_an_exact_integer():
    assert count_tasks(64) == 3**64 - 2**64
    assert isinstance(count_tasks(np.int64(200)), int)
    assert count_tasks(np.int64(200)) % 10**6 == (pow(3, 200) - pow(2, 200)) % 10**6


def test_roles_partition_the_tokens_and_kind_reads_them():
    task = Task(boolean("0000", "0000", "1000"), boolean("1111", "0110", "0001"))
    assert task.kind == ["joint", "marginal", "conditional"]
    assert torch.equal(task.absent, boolean("0000", "1001", "0110"))
    roles = task.source.int() + task.target.int() + task.absent.int()
    assert bool((roles == 1).all())
    assert torch.equal(task.union, ~task.absent)


def test_constructors_agree_with_the_masks():
    assert Task.joint(3, 4).kind == ["joint"] * 3
    assert Task.joint(3, 4) == Task(torch.zeros(3, 4).bool(), torch.ones(3, 4).bool())
    target = boolean("0110", "1000")
    assert Task.marginal(target) == Task(torch.zeros_like(target), target)
    source = boolean("0110", "1000")
    assert Task.conditional(source) == Task(source, ~source)
    asked = boolean("1000", "0001")
    assert Task.conditional(source, asked) == Task(source, asked)


def test_one_row_and_lists_are_accepted():
    assert Task([True, False], [False, True]) == Task(boolean("10"), boolean("01"))
    assert Task.conditional(np.array([True, False])).source.shape == (1, 2)


def test_task_behaves_as_a_batch_of_rows():
    task = all_tasks(3)
    assert task.length == 3
    assert len(task[:5]) == 5
    assert task[2] == task[2:3] == task[torch.tensor([2])] == task[np.int64(2)]
    assert sum(len(row) for row in task) == len(task)
    assert task[4].expand(3) == task[[4, 4, 4]]
    assert task.to("cpu") == task
    assert task != task[:5]
    assert task != "task"
    assert repr(Task(boolean("100"), boolean("010"))) == "Task(ST.)"
    assert "19 rows" in repr(task)
    with pytest.raises(AttributeError):
        task.source = task.target


@pytest.mark.parametrize(
    "index", [(slice(None), slice(1)), (0, 0), None, torch.zeros(2, 2).long()]
)
def test_only_rows_are_indexed(index):
    with pytest.raises(ValueError, match="indexed by rows only"):
        all_tasks(3)[index]


def test_a_task_keeps_its_own_masks():
    source, target = boolean("10"), boolean("01")
    task = Task(source, target)
    source[:], target[:] = True, False
    assert task == Task(boolean("10"), boolean("01"))


def test_no_rows_are_a_task_too():
    none = Task(torch.zeros(0, 3).bool(), torch.zeros(0, 3).bool())
    assert none == Task.joint(0, 3) == Task.joint(1, 3).expand(0) == none[:0]
    for sampler in (TaskSampler(3), masked_language_model(3), pair(3, [0], [1])):
        assert sampler.sample(0) == none
        assert sampler.sample_pair(0, observed=torch.zeros(0, 3).bool()) == (none, none)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (boolean("10", "01"), boolean("01", "01"), "Row 1 has token 1 both"),
        (boolean("10", "01"), boolean("01", "00"), "Row 1 has no target"),
        (boolean("10"), boolean("01", "01"), r"same shape, got \(1, 2\) and \(2, 2\)"),
        (torch.ones(1, 2), boolean("01"), "source must be a boolean mask, got torch.f"),
        (boolean("10"), torch.ones(1, 2).long(), "target must be a boolean mask"),
        (boolean("10")[None], boolean("01"), r"source must have shape \(B, L\)"),
        (boolean("10"), boolean("01").to("meta"), "one device, got cpu and meta"),
    ],
)
def test_broken_masks_are_refused(source, target, message):
    with pytest.raises(ValueError, match=message):
        Task(source, target)


def test_constructors_refuse_what_is_no_task():
    with pytest.raises(ValueError, match="Row 1 has no target"):
        Task.conditional(boolean("10", "11"))
    with pytest.raises(ValueError, match="Row 0 has no target"):
        Task.marginal(boolean("00"))
    with pytest.raises(ValueError, match="batch must be an integer"):
        Task.joint(-1, 4)
    with pytest.raises(ValueError, match="choose a row first"):
        all_tasks(2).expand(3)
    with pytest.raises(ValueError, match="at most 12 tokens"):
        all_tasks(13)
    with pytest.raises(ValueError, match="at least 0, got -1"):
        count_tasks(-1)


# ---------------------------------------------------------------- exact laws


def ceil_beta(places, ratio):
    """P(ceil(r * places) = k) for k = 0..places, from scipy's Beta law."""
    law = [stats.beta(*ratio).cdf(k / max(places, 1)) for k in range(places + 1)]
    return [1.0] if places == 0 else [0.0, *np.diff(law)]


def uniform_sets(tokens, sizes):
    """Law of (S, T) from a law {(|S|, |T|): p}, positions uniform."""
    n, law = len(tokens), {}
    for source, target in enumerate_tasks(tokens):
        s, t = len(source), len(target)
        ways = math.comb(n, s) * math.comb(n - s, t)
        law[source, target] = sizes.get((s, t), 0.0) / ways
    return law


def general_law(tokens, joint, marginal, source_ratio, target_ratio):
    n, sizes = len(tokens), Counter({(0, len(tokens)): joint})
    for s, ps in enumerate(ceil_beta(n - 1, source_ratio)):
        rest = n - s
        shares = [0.0] * rest + [1.0]
        if target_ratio is not None:
            shares = ceil_beta(rest, target_ratio)
        for t, pt in enumerate(shares):
            sizes[0, t] += marginal * ps * pt
            sizes[s, t] += (1 - joint - marginal) * ps * pt
    return uniform_sets(tokens, sizes)


def mlm_law(tokens, rate):
    """Go through every outcome of the independent coins."""
    law, n = Counter(), len(tokens)
    everything = frozenset(tokens)
    for coins in itertools.product([0, 1], repeat=n):
        p = math.prod(rate if c else 1 - rate for c in coins)
        target = frozenset(t for t, c in zip(tokens, coins, strict=True) if c)
        options = [target] if target else [frozenset([t]) for t in tokens]
        for option in options:
            law[everything - option, option] += p / len(options)
    return law


def ordered_law(tokens, rule, orders):
    law = Counter()
    orders = list(orders)
    for order in orders:
        for t in range(len(order)):
            source, target = rule(order, t)
            law[frozenset(source), frozenset(target)] += 1 / len(order) / len(orders)
    return law


def one_next(order, t):
    return order[:t], order[t : t + 1]


def mae_law(tokens, n_source):
    return uniform_sets(tokens, {(n_source, len(tokens) - n_source): 1.0})


def modal_law(tokens, labels, shares, ratios):
    """Go through the kinds of question about patches and labels, and their sizes."""
    x = frozenset(t for t in tokens if t not in labels)
    y = frozenset(tokens) - x
    law = Counter()

    def choose(items, count):
        sets = [frozenset(c) for c in itertools.combinations(sorted(items), count)]
        return [(each, 1 / len(sets)) for each in sets]

    def some(items, ratio, places):
        return [
            (each, p * q)
            for count, p in enumerate(ceil_beta(places, ratio))
            for each, q in choose(items, count)
        ]

    for kind, share in shares.items():
        if not x or (kind == "classification" and y):
            for given, p in some(x, ratios["seen_ratio"], len(x)):
                for asked, q in some(y, ratios["label_ratio"], len(y)):
                    law[given | (y - asked), asked] += share * p * q
            continue
        none = [(frozenset(), 1.0)]
        split = none
        if kind in ("completion", "within", "classification"):
            split = some(x, ratios["source_ratio"], len(x) - 1)
        wishes = none
        if kind in ("generation", "completion"):
            wishes = some(y, ratios["label_ratio"], len(y))
        for (given, p), (wish, q) in itertools.product(split, wishes):
            rest, partial = x - given, ratios["target_ratio"]
            asked_for = [(rest | y if kind == "joint" else rest, 1.0)]
            if partial and kind in ("within", "classification"):
                asked_for = some(rest, partial, len(rest))
            for asked, r in asked_for:
                law[given | wish, asked] += share * p * q * r
    return law


KINDS = ("classification", "generation", "completion", "joint", "marginal", "within")
MODAL = {
    (6, 2): (dict(zip(KINDS, (0.2, 0.1, 0.25, 0.15, 0.1, 0.2), strict=True)), {}),
    (4, 1): (
        {"classification": 0.4, "within": 0.6},
        {"seen_ratio": (2.0, 1.0), "target_ratio": (1.0, 2.0)},
    ),
    (5, 3): (
        {"classification": 0.5, "completion": 0.3, "joint": 0.2},
        {"label_ratio": (0.7, 2.0), "source_ratio": (3.0, 1.0)},
    ),
    (3, 1): ({"generation": 1.0}, {}),
}
EVEN = {"seen_ratio": (1, 1), "source_ratio": (1, 1), "label_ratio": (1, 1)}


def modal(length, labels):
    """A sampler, and its law inside the tokens that are observed."""
    shares, ratios = MODAL[length, labels]
    full = {**EVEN, "target_ratio": None, **ratios}
    behind = set(range(length - labels, length))
    sampler = modalities(length, labels, **shares, **ratios)
    return sampler, lambda x: modal_law(x, behind, shares, full)


@pytest.mark.parametrize("sizes", MODAL)
def test_law_of_modalities(sizes):
    sampler, law = modal(*sizes)
    length, labels = sizes
    assert_law(pairs_of(sampler.sample(DRAWS, seeded(1))), law(tuple(range(length))))
    # rows without labels, with some, of labels alone, of one patch
    image = length - labels
    views = [(*range(image),), (*range(image), length - 1), (length - 1,), (0,)]
    views += [(0, length - 1), (*range(image, length),)]
    for seen in views:
        observed = torch.zeros(DRAWS // 4, length, dtype=torch.bool)
        observed[:, list(seen)] = True
        drawn = pairs_of(sampler.sample(DRAWS // 4, seeded(2), observed=observed))
        assert_law(drawn, law(seen))


def test_some_kinds_only():
    """Their law is the whole one, given that the task is one of them."""
    full = {**EVEN, "target_ratio": None, **MODAL[5, 3][1]}
    part = modal(5, 3)[0].only("classification", "joint", "within")
    kept = {"classification": 0.5 / 0.7, "joint": 0.2 / 0.7}
    law = modal_law(tuple(range(5)), {2, 3, 4}, kept, full)
    assert_law(pairs_of(part.sample(DRAWS, seeded(4))), law)
    with pytest.raises(ValueError, match="No task is one of marginal, within"):
        part.only("marginal", "within")


@pytest.mark.parametrize("sizes", MODAL)
def test_pairs_of_modalities_share_their_union(sizes):
    sampler, law = modal(*sizes)
    length = sizes[0]
    one, two = sampler.sample_pair(DRAWS, seeded(3))
    assert torch.equal(one.union, two.union)
    unions = Counter()
    for (source, target), p in law(tuple(range(length))).items():
        unions[source | target] += p
    drawn = [s | t for s, t in pairs_of(one)]
    assert_law(drawn, unions)
    union = max(unions, key=unions.get)
    rows = [i for i, each in enumerate(drawn) if each == union]
    split = general_law(tuple(sorted(union)), 0.3, 0.0, (1, 1), None)
    for task in (one, two):
        firsts = pairs_of(task)
        assert_law([firsts[i] for i in rows], split)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "must sum to 1, got 0; those left out are 0"),
        ({"joint": 0.5, "within": 0.4}, "must sum to 1, got 0.9"),
        ({"joint": 1.5, "within": -0.5}, "joint"),
        ({"joint": 1.0, "labels": 4}, "leave a token to the image"),
        ({"joint": 1.0, "labels": 0}, "labels must be"),
        ({"joint": 1.0, "seen_ratio": (0, 1)}, "seen_ratio must be"),
    ],
)
def test_modalities_that_cannot_be(arguments, said):
    with pytest.raises(ValueError, match=said):
        modalities(4, **arguments)


def test_a_classifier_needs_labels():
    observed = boolean("1111", "1110", "1111")
    with pytest.raises(ValueError, match="Row 1 of observed has no label"):
        modalities(4, classification=1.0).sample(3, observed=observed)
    task = modalities(4, classification=0.9, within=0.1).sample(3, observed=observed)
    assert not (task.union & ~observed).any()
    assert not torch.equal(task.target[1], boolean("0001")[0])


GENERAL = [
    {},
    {"joint": 0.0, "marginal": 0.0},
    {"joint": 0.5, "marginal": 0.5},
    {"joint": 0.0, "marginal": 1.0},
    {"source_ratio": (0.5, 3.0)},
    {"source_ratio": (4.0, 1.5), "joint": 0.05},
    {"target_ratio": (1.0, 1.0)},
    {"source_ratio": (0.5, 3.0), "target_ratio": (3.0, 0.5), "marginal": 0.3},
]
DEFAULTS = {"joint": 0.2, "marginal": 0.1, "source_ratio": (1, 1), "target_ratio": None}

SAMPLERS = [
    *[
        (TaskSampler(4, **kw), lambda x, kw=kw: general_law(x, **{**DEFAULTS, **kw}))
        for kw in GENERAL
    ],
    (masked_language_model(4), lambda x: mlm_law(x, 0.15)),
    (masked_language_model(4, 0.6), lambda x: mlm_law(x, 0.6)),
    (masked_language_model(4, 1.0), lambda x: {(frozenset(), frozenset(x)): 1.0}),
    (next_token(4), lambda x: ordered_law(x, one_next, [x])),
    (
        permutation(4),
        lambda x: ordered_law(x, one_next, itertools.permutations(x)),
    ),
    (masked_autoencoder(4), lambda x: mae_law(x, len(x) // 4)),
    (masked_autoencoder(4, 0.3), lambda x: mae_law(x, math.floor(0.7 * len(x)))),
    (masked_autoencoder(4, 1.0), lambda x: mae_law(x, 0)),
    (
        prefix(4),
        lambda x: ordered_law(x, lambda order, t: (order[:t], order[t:]), [x]),
    ),
    (joint_only(4), lambda x: {(frozenset(), frozenset(x)): 1.0}),
    (
        classification(4, [1]),
        lambda x: {(frozenset(x) - {1}, frozenset([1])): 1.0},
    ),
    (
        pair(4, [0, 3], [1]),
        lambda x: {(frozenset(x) & {0, 3}, frozenset([1])): 1.0},
    ),
]
IDS = [f"{i}-{sampler!r}"[:60] for i, (sampler, _) in enumerate(SAMPLERS)]


@pytest.mark.parametrize(("sampler", "law"), SAMPLERS, ids=IDS)
def test_law_on_complete_data(sampler, law):
    task = sampler.sample(DRAWS, seeded(1))
    assert_law(pairs_of(task), law((0, 1, 2, 3)))


@pytest.mark.parametrize("seen", [(1, 2, 3), (0, 1), (1,)])
@pytest.mark.parametrize(("sampler", "law"), SAMPLERS, ids=IDS)
def test_law_inside_what_is_observed(sampler, law, seen):
    """The law is that of a shorter sequence made of the observed tokens."""
    observed = torch.zeros(DRAWS // 2, 4, dtype=torch.bool)
    observed[:, list(seen)] = True
    task = sampler.sample(DRAWS // 2, seeded(2), observed=observed)
    assert_law(pairs_of(task), law(seen))


def filling_law(sampler, union):
    """Law of one task of a pair, given the union: what the docstrings say."""
    n, everything = len(union), frozenset(union)
    name = repr(sampler)
    if name.startswith("TaskSampler"):
        empty = sampler.joint + sampler.marginal
        sizes = Counter({(0, n): empty})
        for s, p in enumerate(ceil_beta(n - 1, sampler.source_ratio)):
            sizes[s, n - s] += (1 - empty) * p
        return uniform_sets(union, sizes)
    if name.startswith("permutation"):
        return {(everything - {t}, frozenset([t])): 1 / n for t in union}
    if name.startswith("next_token"):
        return {(everything - {max(union)}, frozenset([max(union)])): 1.0}
    return None


@pytest.mark.parametrize(("sampler", "law"), SAMPLERS, ids=IDS)
def test_pair_shares_its_union_and_splits_it_by_the_law(sampler, law):
    one, two = sampler.sample_pair(DRAWS, seeded(3))
    assert torch.equal(one.union, two.union)
    unions = Counter()
    for (source, target), p in law((0, 1, 2, 3)).items():
        unions[source | target] += p
    drawn = [s | t for s, t in pairs_of(one)]
    assert_law(drawn, unions)
    firsts, seconds = pairs_of(one), pairs_of(two)
    for union in unions:
        rows = [i for i, u in enumerate(drawn) if u == union]
        given = filling_law(sampler, tuple(sorted(union))) or law((0, 1, 2, 3))
        if len(rows) >= 200:
            # independent given the union: the law of a pair is the product
            both = {
                (a, b): p * q
                for (a, p), (b, q) in itertools.product(given.items(), repeat=2)
            }
            assert_law([(firsts[i], seconds[i]) for i in rows], both)


@pytest.mark.parametrize("ratio", [(1.0, 1.0), (0.5, 3.0), (5.0, 1.0)])
@pytest.mark.parametrize("places", [0, 1, 2, 7, 16])
def test_share_law_is_the_integral_of_the_beta_density(places, ratio):
    law = share_law(places, ratio)
    assert law.shape == (places + 1,)
    assert law.sum() == pytest.approx(1)
    density = stats.beta(*ratio).pdf
    for k in range(1, places + 1):
        mass, _ = integrate.quad(density, (k - 1) / places, k / places)
        assert law[k] == pytest.approx(mass, abs=1e-7)


@pytest.mark.parametrize(
    ("length", "rate", "n_source"),
    [(196, 0.75, 49), (10, 0.9, 1), (10, 0.75, 2), (4, 0.75, 1), (3, 0.75, 0)],
)
def test_masked_autoencoder_rounds_the_source_down(length, rate, n_source):
    task = masked_autoencoder(length, rate).sample(50, seeded())
    assert task.source.sum(1).tolist() == [n_source] * 50
    assert task.absent.sum() == 0


def test_masked_language_model_never_lacks_a_target():
    task = masked_language_model(3, 1e-6).sample(500, seeded())
    assert task.target.sum(1).tolist() == [1] * 500
    assert stats.chisquare(task.target.sum(0).numpy()).pvalue > 1e-4


def test_long_sequences_keep_the_mean_of_the_beta_law():
    sampler = TaskSampler(784, joint=0, marginal=0, source_ratio=(2.0, 6.0))
    share = sampler.sample(4000, seeded()).source.float().mean(1)
    sd = stats.beta(2, 6).std()
    assert share.mean().item() == pytest.approx(0.25, abs=5 * sd / 4000**0.5 + 1 / 784)
    assert stats.kstest(share.numpy() - 0.5 / 784, stats.beta(2, 6).cdf).pvalue > 1e-4


# ---------------------------------------------------------------- for every sampler

OF_ANY_LENGTH = [
    TaskSampler,
    lambda n: TaskSampler(n, source_ratio=(0.5, 3), target_ratio=(3, 0.5)),
    masked_language_model,
    masked_autoencoder,
    next_token,
    permutation,
    prefix,
    joint_only,
    lambda n: classification(n, [n - 1]),
    lambda n: pair(n, range(n - 1), [n - 1]),
]
every_sampler = pytest.mark.parametrize(
    "make",
    [
        *OF_ANY_LENGTH,  # and one that needs a patch and a label
        lambda n: modalities(max(n, 2), 1, classification=0.5, joint=0.2, within=0.3),
    ],
)


@every_sampler
def test_presets_are_samplers_that_repeat(make):
    sampler = make(6)
    assert isinstance(sampler, TaskSampler)
    assert sampler.length == 6
    assert "6" in repr(sampler)
    assert sampler.sample(40, seeded(7)) == sampler.sample(40, seeded(7))
    assert sampler.sample_pair(40, seeded(7)) == sampler.sample_pair(40, seeded(7))
    assert sampler.sample(3).length == 6  # without a generator
    for name in ("joint", "marginal", "source_ratio", "target_ratio"):
        getattr(sampler, name)  # every sampler has the attributes of the class


@every_sampler
@given(st.integers(1, 7), st.integers(1, 6), st.integers(0, 2**31), st.data())
@settings(max_examples=25, deadline=None)
def test_tasks_are_valid_and_stay_inside_observed(make, length, batch, seed, data):
    sampler = make(length)
    length = sampler.length
    rows = st.lists(st.booleans(), min_size=length, max_size=length)
    observed = torch.tensor([data.draw(rows) for _ in range(batch)])
    observed[:, -1] = True  # the label of the fixed pairs is known
    tasks = [
        sampler.sample(batch, seeded(seed), observed=observed),
        *sampler.sample_pair(batch, seeded(seed), observed=observed),
    ]
    for task in tasks:
        assert Task(task.source, task.target) == task  # passes all checks
        assert not bool((task.union & ~observed).any())
    assert torch.equal(tasks[1].union, tasks[2].union)


@pytest.mark.parametrize("make", OF_ANY_LENGTH)
def test_one_token_has_one_task(make):
    task = make(1).sample(5, seeded())
    assert task == Task.joint(5, 1)
    assert make(1).sample_pair(5, seeded()) == (task, task)


@every_sampler
def test_an_empty_row_of_observed_is_named(make):
    with pytest.raises(ValueError, match="Row 1 of observed is empty"):
        make(3).sample(2, seeded(), observed=boolean("111", "000"))
    with pytest.raises(ValueError, match=r"shape \(2, 3\) = \(batch, length\)"):
        make(3).sample_pair(2, seeded(), observed=boolean("111"))
    with pytest.raises(ValueError, match=r"observed must be boolean.*isfinite\(\)"):
        make(3).sample(1, seeded(), observed=torch.ones(1, 3))


def test_joint_inside_observed_is_all_of_it_and_is_called_marginal():
    observed = boolean("1101", "1111")
    task = joint_only(4).sample(2, seeded(), observed=observed)
    assert torch.equal(task.target, observed)
    assert task.kind == ["marginal", "joint"]


def test_a_fixed_pair_needs_an_observed_target():
    with pytest.raises(ValueError, match="Row 1 observes none of the target tokens"):
        classification(3, [0]).sample(2, seeded(), observed=boolean("111", "011"))


def test_a_fixed_pair_waits_for_nothing_and_draws_nothing():
    sampler, generator = classification(3, [0]), seeded(5)
    before = generator.get_state()
    # values on "meta" do not exist: looking at them is an error
    assert sampler.sample(2, generator, device="meta").device.type == "meta"
    assert torch.equal(generator.get_state(), before)


def test_ratios_and_positions_may_be_arrays_and_tensors():
    for ratio in (np.array([0.5, 3]), torch.tensor([0.5, 3]), [0.5, 3]):
        assert TaskSampler(4, source_ratio=ratio).source_ratio == (0.5, 3.0)
    for labels in (np.array([1, 3]), torch.tensor([1, 3]), {1, 3}):
        assert repr(classification(4, labels)) == repr(classification(4, [1, 3]))


def test_masks_go_to_the_device_asked_for():
    assert TaskSampler(3).sample(2, seeded(), device="meta").device.type == "meta"
    for device in ("meta", torch.device("meta")):
        task = TaskSampler(3, target_ratio=(1, 1)).sample(2, seeded(), device=device)
        assert task.source.device.type == "meta"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TaskSampler(0), "length must be an integer of at least 1, got 0"),
        (lambda: TaskSampler(2.5), "length must be an integer"),
        (lambda: TaskSampler(4, joint=1.5), "joint is a probability"),
        (lambda: TaskSampler(4, marginal=-0.1), "marginal is a probability"),
        (lambda: TaskSampler(4, joint=math.nan), "joint is a probability"),
        (lambda: TaskSampler(4, joint=0.7, marginal=0.7), "sum to at most 1"),
        (lambda: TaskSampler(4, source_ratio=(0, 1)), "source_ratio must be the two"),
        (lambda: TaskSampler(4, source_ratio=0.5), "source_ratio must be the two"),
        (lambda: TaskSampler(4, target_ratio=(1, math.inf)), "target_ratio must be"),
        (lambda: TaskSampler(4, "a"), "joint is a probability.*got 'a'"),
        (lambda: TaskSampler(4, None), "joint must be a number, got None"),
        (lambda: TaskSampler(4, source_ratio=("a", 1)), "source_ratio must be the two"),
        (lambda: TaskSampler(4, target_ratio=(1, 2, 3)), "target_ratio must be the"),
        (lambda: masked_autoencoder(4, rate="x"), r"rate is the share.*got 'x'"),
        (lambda: masked_language_model(4, None), "rate must be a number, got None"),
        (lambda: TaskSampler(4).sample(-1), "batch must be an integer of at least 0"),
        (lambda: share_law(3, (1, -1)), "ratio must be the two positive"),
        (lambda: masked_language_model(4, 0), r"in \(0, 1\], got 0"),
        (lambda: masked_autoencoder(4, 1.2), r"in \(0, 1\], got 1.2"),
        (lambda: next_token(-1), "length must be"),
        (lambda: permutation("4"), "length must be"),
        (lambda: prefix(0), "length must be"),
        (lambda: joint_only(0), "length must be"),
        (lambda: classification(4, [4]), "different positions from 0 to 3"),
        (lambda: classification(4, [1, 1]), "different positions from 0 to 3"),
        (lambda: classification(4, [-1]), "different positions from 0 to 3, got .-1"),
        (lambda: classification(4, torch.ones(4).bool()), "not a mask; use mask.non"),
        (lambda: classification(4, np.ones(4, bool)), "not a mask"),
        (lambda: classification(4, [0.5]), "labels must be a list of different"),
        (lambda: classification(4, []), "Row 0 has no target"),
        (lambda: classification(4, 3), "labels must be a list of different positions"),
        (lambda: pair(4, [0, 1], [1]), "Row 0 has token 1 both"),
        (lambda: pair(4, [0], []), "Row 0 has no target"),
    ],
)
def test_wrong_arguments_are_explained(make, message):
    with pytest.raises(ValueError, match=message):
        make()
