"""Drawn faces: the law of attributes is exact, and regions show what they say."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from biglearn_lite import faces
from biglearn_lite._faces_canvas import CELLS, Sitter
from biglearn_lite._faces_law import COLOURS, pair_law
from biglearn_lite._faces_parts import PARTS, touched
from biglearn_lite._faces_regions import SHOWN
from biglearn_lite.data import DATASETS, checksum, load
from biglearn_lite.faces import (
    ATTRIBUTES,
    FACTORS,
    NETWORK,
    REGIONS,
    attribute_law,
    decided,
    draw_faces,
    region_mask,
    render,
    revealed,
    truth,
)

LAW = attribute_law()
K = len(ATTRIBUTES)
PLACE = {name: k for k, name in enumerate(ATTRIBUTES)}


def fresh(seed=0):
    return torch.Generator().manual_seed(seed)


def factors(n, seed=0):
    """Half of them at the corners of their ranges, where poses are extreme."""
    drawn = torch.rand(n, len(FACTORS), generator=fresh(seed))
    return torch.where(torch.arange(n)[:, None] < n // 2, drawn.round(), drawn)


def flipped(attributes, name):
    """The same with one attribute turned over (a colour of hair replaces another),
    and whether both can happen."""
    other = attributes.clone()
    other[:, PLACE[name]] ^= True
    if name in COLOURS:
        for colour in set(COLOURS) - {name}:
            other[:, PLACE[colour]] &= ~other[:, PLACE[name]]
    return other, LAW.log_prob(other).isfinite()


# ---------------------------------------------------------------- the law


def test_the_law_against_the_network():
    """Each probability is a product of the tables' numbers, and they sum to one."""
    assert len(LAW.probabilities) == 2**K
    assert math.isclose(float(LAW.probabilities.sum()), 1, abs_tol=1e-12)
    every = LAW.assignments()
    assert len(every.unique(dim=0)) == 2**K
    for row in torch.randint(2**K, (300,), generator=fresh()).tolist():
        value = dict(zip(ATTRIBUTES, every[row].int().tolist(), strict=True))
        expected = 1.0
        for name, (parents, table) in NETWORK.items():
            chance = table[tuple(value[parent] for parent in parents)]
            expected *= chance if value[name] else 1 - chance
        assert float(LAW.probabilities[row]) == pytest.approx(expected, abs=1e-15)
        found = LAW.log_prob(every[row : row + 1]).exp()
        assert float(found) == pytest.approx(expected, abs=1e-15)


def test_the_network_is_whole():
    known = set()
    for name, (parents, table) in NETWORK.items():
        assert set(parents) <= known, f"{name} comes before its parents"
        assert set(table) == set(itertools.product((0, 1), repeat=len(parents)))
        assert all(0 <= chance < 1 for chance in table.values())
        known.add(name)
    assert 12 <= K <= 14


def test_signs_are_those_of_celeba():
    """An attribute is more or less likely where another one is."""
    more = [
        ("Wearing_Lipstick", "Heavy_Makeup"), ("Mustache", "Male"),
        ("Big_Nose", "Male"), ("Mouth_Slightly_Open", "Smiling"),
        ("Wearing_Hat", "Male"), ("Heavy_Makeup", "Young"),
    ]  # fmt: skip
    less = [
        ("Wearing_Lipstick", "Male"), ("Gray_Hair", "Young"), ("Blond_Hair", "Male"),
        ("Bangs", "Wearing_Hat"), ("Eyeglasses", "Young"), ("Smiling", "Male"),
        ("Young", "Male"), ("Mustache", "Wearing_Lipstick"),
    ]  # fmt: skip
    for sign, pairs in ((1, more), (-1, less)):
        for name, other in pairs:
            with_, without = (
                LAW.given(**{other: value}).probability(**{name: 1}) for value in (1, 0)
            )
            assert sign * (with_ - without) > 0.05, (name, other)


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**32), st.lists(st.booleans(), min_size=K, max_size=K))
def test_posteriors_against_brute_force(seed, known):
    row = LAW.sample(1, fresh(seed))
    known = torch.tensor(known)
    every = LAW.assignments()
    agrees = (every == row)[:, known].all(1)
    weights = LAW.probabilities * agrees
    expected = (weights[:, None] * every).sum(0) / weights.sum()
    found = LAW.posterior(row, known)[0]
    torch.testing.assert_close(found, expected)
    assert torch.equal(found[known], row[0, known].double())
    values = {n: bool(row[0, PLACE[n]]) for n in np.array(ATTRIBUTES)[known.numpy()]}
    torch.testing.assert_close(found, LAW.given(**values).marginals())


def test_posteriors_of_rows_that_know_different_things():
    rows, known = LAW.sample(40, fresh()), torch.rand(40, K, generator=fresh(1)) < 0.4
    found = LAW.posterior(rows, known)
    for number in range(40):
        alone = LAW.posterior(rows[number : number + 1], known[number])
        assert torch.equal(found[number], alone[0])
    # what is not known is not looked at
    other = torch.where(known, rows, ~rows)
    assert torch.equal(LAW.posterior(other, known), found)
    assert torch.allclose(LAW.posterior(rows, torch.zeros(K).bool()), LAW.marginals())


def test_frequencies_of_20000_draws():
    n = 20_000
    drawn = LAW.sample(n, fresh())
    assert drawn.dtype == torch.bool
    for given_ in ({}, {"Male": 1}, {"Young": 0, "Male": 0}, {"Wearing_Hat": 1}):
        rows = drawn[
            torch.stack([drawn[:, PLACE[a]] == bool(v) for a, v in given_.items()])
            .all(0) if given_ else slice(None)
        ]  # fmt: skip
        expected = LAW.given(**given_).marginals()
        spread = (expected * (1 - expected) / len(rows)).sqrt()
        assert ((rows.double().mean(0) - expected).abs() <= 4.5 * spread).all()
    pairs = drawn.double().T @ drawn.double() / n
    every = LAW.assignments().double()
    expected = every.T @ (LAW.probabilities[:, None] * every)
    assert ((pairs - expected).abs() < 4.5 * 0.5 / n**0.5).all()
    assert LAW.log_prob(drawn).isfinite().all()
    gap = float(-LAW.log_prob(drawn).mean()) - LAW.entropy()
    assert abs(gap) < 0.05
    assert 0 < LAW.entropy() < K * math.log(2)


def test_what_is_never_drawn():
    for pair in itertools.combinations(COLOURS, 2):
        assert LAW.probability(**dict.fromkeys(pair, 1)) == 0
    assert LAW.probability(Bangs=1, Wearing_Hat=1) == 0
    assert LAW.probability(Mustache=1, Male=0) == 0
    assert int((LAW.probabilities == 0).sum()) == 16_384 - 4_608


def test_what_is_drawn_given_the_known_has_the_posterior_as_its_frequency():
    rows = LAW.sample(6, fresh())
    known = torch.rand(6, K, generator=fresh(1)) < 0.4
    exact = LAW.posterior(rows, known)
    n = 4000
    drawn = LAW.complete(rows.repeat(n, 1), known.repeat(n, 1), fresh(2))
    drawn = drawn.view(n, 6, K)
    assert torch.equal(drawn[:, known], rows[known].expand(n, -1))
    assert LAW.log_prob(drawn.flatten(0, 1)).isfinite().all()
    spread = (exact * (1 - exact) / n).sqrt()
    assert ((drawn.double().mean(0) - exact).abs() <= 4.5 * spread).all()


def test_what_is_drawn_together_has_the_conditional_law():
    """Hidden attributes depend on each other also once some are known."""
    row = LAW.sample(1, fresh(3))
    known = torch.zeros(K, dtype=torch.bool)
    known[:2] = True
    values = dict(zip(ATTRIBUTES[:2], map(int, row[0, :2]), strict=True))
    given_ = LAW.given(**values)
    drawn = LAW.complete(row.expand(20_000, -1), known, fresh())
    found = pair_law(drawn)
    assert (found - given_.pairs()).abs().max() < 0.02
    assert (found - LAW.pairs()).abs().max() > 0.1


def test_nothing_known_is_a_sample_and_everything_known_is_that():
    rows = LAW.sample(50, fresh())
    every = torch.ones(K, dtype=torch.bool)
    assert torch.equal(LAW.complete(rows, every), rows)
    assert torch.equal(LAW.complete(rows, ~every, fresh(5)), LAW.sample(50, fresh(5)))
    never = torch.ones(1, K).bool()
    with pytest.raises(ValueError, match=r"can happen, not on .*'Mustache': 1"):
        LAW.complete(never, every)


def test_pairs_by_summing():
    pairs = LAW.pairs()
    for i, j in ((0, 1), (3, 5), (6, 2), (4, 4)):
        for u, v in itertools.product((0, 1), repeat=2):
            event = {ATTRIBUTES[i]: u} | {ATTRIBUTES[j]: v}
            wanted = LAW.probability(**event) if i != j or u == v else 0.0
            assert pairs[i, j, u, v].item() == pytest.approx(wanted, abs=1e-12)
    rows = torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 1]]).bool()
    found = pair_law(rows)
    assert found[0, 1].tolist() == [[0.25, 0.0], [0.25, 0.5]]
    assert torch.equal(found.transpose(0, 1).mT, found)


# ---------------------------------------------------------------- drawing


@pytest.mark.parametrize("size", [8, 24, 32, 64])
def test_images_of_any_size(size):
    images, attributes, names = draw_faces(6, fresh(), size)
    assert images.shape == (6, 3, size, size)
    assert images.dtype == torch.uint8
    assert attributes.shape == (6, K)
    assert attributes.dtype == torch.bool
    assert names == ATTRIBUTES
    assert images.float().std((1, 2, 3)).min() > 20
    assert len(images.flatten(1).unique(dim=0)) == 6
    assert draw_faces(0, fresh(), size).images.shape == (0, 3, size, size)


def test_the_same_generator_draws_the_same_faces(monkeypatch):
    first = draw_faces(70, fresh(), 32)
    again = draw_faces(70, fresh(), 32)
    assert torch.equal(first.images, again.images)
    assert torch.equal(draw_faces(5, fresh(), 32).images, first.images[:5])
    monkeypatch.setattr(faces, "CHUNK", 9)
    assert torch.equal(draw_faces(70, fresh(), 32).images, first.images)
    assert not torch.equal(draw_faces(70, fresh(1), 32).images, first.images)


def test_the_same_bytes_on_every_machine():
    """Only operations that every processor rounds alike: no sine, no exponential."""
    digest = "ee363433ddd558bcf2541bcd7600535801e20881c41cb034f37cf38587573570"
    assert checksum(draw_faces(64, fresh(2), 32)) == digest


def test_faces_fill_the_range_of_grey():
    images = draw_faces(300, fresh(), 32).images
    assert images.min() <= 12
    assert images.max() == 255
    mean = images.float().mean((0, 2, 3))
    assert ((mean > 80) & (mean < 180)).all()


def test_a_small_face_is_a_large_one_seen_from_afar():
    large, small = (draw_faces(50, fresh(), size).images.float() for size in (64, 32))
    shrunk = torch.nn.functional.avg_pool2d(large, 2)
    assert float((shrunk - small).abs().mean()) < 6


# ---------------------------------------------------------------- regions


@pytest.mark.parametrize("size", [32, 64])
def test_no_other_attribute_changes_a_pixel_and_these_do(size):
    """All attributes turned over one by one, poses and colours held."""
    n = 160 if size == 32 else 50
    attributes, held = LAW.sample(n, fresh(3)), factors(n)
    before = render(attributes, held, size).int()
    for name in ATTRIBUTES:
        other, can = flipped(attributes, name)
        both = attributes[can], other[can]
        after = render(both[1], held[can], size).int()
        change = (before[can] - after).abs()
        change = change.view(-1, 3, CELLS, size // CELLS, CELLS, size // CELLS)
        change = change.amax((1, 3, 5))
        may = [
            (touched(rows) & (both[0] ^ both[1])[..., None, None]).any(1)
            for rows in both
        ]
        assert (change[~(may[0] | may[1])] == 0).all(), name
        for entry in SHOWN:
            holds = torch.ones(len(change), dtype=torch.bool)
            for condition, value in entry.when.items():
                holds &= both[0][:, PLACE[condition]] == bool(value)
            for group in entry.groups if name in entry.names else ():
                seen = torch.stack([change[:, row, column] for row, column in group])
                assert seen.amax(0)[holds].min() >= 10, (name, group)


def test_the_table_of_regions():
    """What each region shows, in words, for every face of positive probability."""
    expected = {
        "hair": {"Wearing_Hat", *COLOURS},
        "eyes": {"Eyeglasses", "Heavy_Makeup", *COLOURS},
        "nose": {"Eyeglasses", "Big_Nose"},
        "cheeks": {"Eyeglasses", "Young", "Male"},
        "mouth": {"Smiling", "Mouth_Slightly_Open", "Wearing_Lipstick", "Mustache"},
        "collar": {"Male"},
        "edges": set(),
    }
    rows = LAW.assignments()[LAW.probabilities > 0]
    hat, man = rows[:, PLACE["Wearing_Hat"]], rows[:, PLACE["Male"]]
    for region, names in expected.items():
        shown = revealed(rows, region_mask(region))
        always = {n for n, on in zip(ATTRIBUTES, shown.all(0), strict=True) if on}
        assert always == names
        sometimes = shown.any(0) & ~shown.all(0)
        for name in (n for n, on in zip(ATTRIBUTES, sometimes, strict=True) if on):
            unless = {"hair": hat, "cheeks": man}[region]
            assert name in {"hair": ("Bangs",), "cheeks": COLOURS}[region]
            assert torch.equal(shown[:, PLACE[name]], ~unless)
    cells = sorted(cell for region in REGIONS.values() for cell in region)
    assert cells == list(itertools.product(range(CELLS), repeat=2))


def test_all_regions_show_everything_and_none_nothing():
    rows = LAW.sample(50, fresh())
    whole = torch.ones(64, dtype=torch.bool)
    shown = revealed(rows, whole)
    hat = rows[:, PLACE["Wearing_Hat"]]
    assert shown[~hat].all()
    assert torch.equal(truth(rows, whole), rows.double())  # no fringe under a hat
    assert not revealed(rows, ~whole).any()
    assert torch.allclose(truth(rows, ~whole), LAW.marginals())


@settings(deadline=None, max_examples=30)
@given(st.sets(st.sampled_from(sorted(REGIONS))), st.integers(0, 2**32))
def test_unions_of_regions_are_decided(names, seed):
    rows = LAW.sample(8, fresh(seed))
    found = truth(rows, region_mask(sorted(names)))
    shown = revealed(rows, region_mask(sorted(names)))
    assert torch.equal(found, LAW.posterior(rows, shown))
    assert torch.equal(found[shown], rows.double()[shown])
    assert decided(rows, region_mask(sorted(names))).all()


def test_finer_and_coarser_patches():
    rows = LAW.sample(30, fresh())
    for side in (16, 32, 64):
        mask = region_mask(["mouth", "eyes"], side)
        assert mask.shape == (side * side,)
        assert torch.equal(
            truth(rows, mask), truth(rows, region_mask(["mouth", "eyes"]))
        )
    top = torch.arange(16) < 8
    assert torch.equal(truth(rows, top), truth(rows, torch.arange(64) < 32))
    # one pixel of the mouth may show anything
    one = region_mask("mouth", 32).nonzero()[0]
    assert not decided(rows, torch.zeros(1024).bool().index_fill(0, one, True)).any()


def test_halves_of_a_face():
    """Rows of masks, a face each; a man's chin says nothing of his hair."""
    rows = LAW.sample(200, fresh())
    upper = torch.arange(64) < 32
    masks = torch.stack([upper, ~upper]).repeat(100, 1)
    assert decided(rows, masks).all()
    found, shown = truth(rows, masks), revealed(rows, masks)
    man, below = rows[:, PLACE["Male"]], torch.arange(200) % 2 == 1
    assert torch.equal(shown[:, PLACE["Male"]], below)
    assert torch.equal(shown[below][:, PLACE["Black_Hair"]], ~man[below])
    assert ((found > 0) & (found < 1))[~below][:, PLACE["Smiling"]].all()


def test_a_part_cannot_read_what_it_does_not_name():
    held = {name: torch.zeros(1, 1, 1) for name in FACTORS}
    with pytest.raises(KeyError):
        Sitter(held, {}).choose("Male", 1.0, 0.0)
    named = {name for part in PARTS for name in {*part.reads, *part.when}}
    assert named == set(ATTRIBUTES)


def test_what_is_shown_can_be_learned():
    """Kernel ridge regression on the visible pixels reads every attribute shown."""
    images, attributes, _ = draw_faces(1600, fresh(4), 32)
    signs, n = attributes.float() * 2 - 1, 1200
    for name in set(REGIONS) - {"edges"}:
        seen = images.flatten(2)[..., region_mask(name, 32)].flatten(1).float()
        far = torch.cdist(seen, seen[:n]).square()
        kernel = (far * -2 / far.mean()).exp()
        weights = torch.linalg.solve(kernel[:n] + torch.eye(n) * 1e-3, signs[:n])
        right = (kernel[n:] @ weights > 0) == attributes[n:]
        shown = revealed(attributes[n:], region_mask(name))
        for k in shown.any(0).nonzero()[:, 0].tolist():
            share = float(right[shown[:, k], k].float().mean())
            assert share > 0.96, (name, ATTRIBUTES[k])


# ---------------------------------------------------------------- load


def test_faces_as_a_data_set(monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(faces, "SETS", {"train": (2407, 12), "test": (21_319, 5)})
        train, test, every = (load("faces", s, download=False) for s in
                              ("train", "test", "all"))  # fmt: skip
        small = load("faces32", "test")
    assert train.images.shape == (12, 3, 64, 64)
    assert torch.equal(every.images, torch.cat([train.images, test.images]))
    assert torch.equal(every.attributes, torch.cat([train.attributes, test.attributes]))
    assert every.names == ATTRIBUTES
    assert small.images.shape == (5, 3, 32, 32)
    assert torch.equal(small.attributes, test.attributes)
    known = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in known for image in test.images)
    for name in ("faces", "faces32"):
        assert DATASETS[name].levels == 256
    with pytest.raises(ValueError, match=r"split 'all'.*train.*test"):
        faces.face_set("all")


# ---------------------------------------------------------------- errors

MALE = torch.zeros(1, K).bool()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: draw_faces(1, None, 30), "multiple of 8 pixels, not 30"),
        (lambda: draw_faces(1, None, 0), "multiple of 8 pixels, not 0"),
        (lambda: draw_faces(1, None, 64.0), r"not 64\.0; take 32 or 64"),
        (lambda: render(MALE, torch.zeros(1, 3)), r"Factors are \(1, \d+\).*\(1, 3\)"),
        (
            lambda: render(MALE, torch.full((1, len(FACTORS)), 2.0)),
            "between 0 and 1, not 2 .. 2",
        ),
        (
            lambda: render(MALE, torch.full((1, len(FACTORS)), math.nan)),
            "between 0 and 1, not nan",
        ),
        (
            lambda: render(~MALE, torch.zeros(1, len(FACTORS))),
            "Row 0 has attributes that never come together, Male, Young",
        ),
        (lambda: LAW.log_prob(torch.zeros(2, 3)), r"\(B, 14\).*not \(2, 3\)"),
        (lambda: LAW.log_prob(MALE.int() - 1), "0 or 1; turn -1 and 1"),
        (lambda: LAW.probability(Tall=1), "Unknown attribute 'Tall'; choose from Male"),
        (lambda: LAW.probability(Male=2), "Male is 0 or 1, not 2"),
        (lambda: LAW.given(Male=0, Mustache=1), "can happen, not on .*'Mustache': 1"),
        (
            lambda: LAW.posterior(~MALE, ~MALE[0]),
            "can happen, not on .*'Mustache': 1",
        ),
        (lambda: region_mask("chin"), "Unknown region 'chin'.*hair, eyes"),
        (lambda: region_mask("hair", 12), "multiple of 8 patches, not 12"),
        (lambda: truth(MALE, torch.ones(9).bool()), "not 9 patches"),
        (lambda: truth(MALE, torch.ones(0).bool()), "not 0 patches"),
        (lambda: truth(MALE, torch.ones(64)), "bool, not torch.float32"),
        (lambda: truth(MALE, torch.ones(3, 64).bool()), "not 3 for 1 faces"),
        (
            lambda: truth(MALE, torch.arange(64) == 35),
            "row 0 may or may not show Big_Nose; use whole regions",
        ),
    ],
)
def test_wrong_calls_say_what_to_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()
