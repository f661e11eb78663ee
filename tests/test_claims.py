"""Claims: the rule decides, the sentence tells, the ledger keeps."""

import contextlib
import io
import json
import math
import tempfile

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from biglearn_lite import claim
from biglearn_lite.claims import (
    ClaimError,
    merge_chapter,
    read_ledger,
    read_records,
    sentence,
    write_ledger,
)

finite = st.floats(-1e6, 1e6)


def call(*args, namespace=None, **options):
    """Make a claim as a notebook would, whose globals are `namespace`."""
    scope = {"claim": claim, "args": args, "options": options, **(namespace or {})}
    exec("claim(*args, **options)", scope)


@pytest.fixture
def records(tmp_path, monkeypatch):
    path = tmp_path / "claims.jsonl"
    monkeypatch.setenv("BIGLEARN_CLAIMS", str(path))
    monkeypatch.setenv("BIGLEARN_CHAPTER", "mixtures")
    monkeypatch.delenv("BIGLEARN_PROFILE", raising=False)
    return path


def test_sentence(capsys):
    claim("the joint KL at (1, 1)", math.log(2), expect=0.6931, within=5e-4)
    assert capsys.readouterr().out == (
        "holds: the joint KL at (1, 1) is 0.6931 (expected 0.6931 within 0.0005)\n"
    )


@pytest.mark.parametrize(
    ("value", "rule", "text"),
    [
        (65, {"expect": 65}, "is 65 (expected 65)"),
        (True, {"expect": True}, "is True (expected True)"),
        ("joint", {"expect": "joint"}, "is joint (expected joint)"),
        (0.25, {"at_least": 0.2}, "is 0.25 (at least 0.2)"),
        (0.25, {"at_most": 0.3}, "is 0.25 (at most 0.3)"),
        (7, {"at_least": 5, "at_most": 9}, "is 7 (between 5 and 9)"),
        (12345678, {"at_least": 5}, "is 12345678 (at least 5)"),
        (-0.0, {"expect": 0.0, "within": 0.0}, "is 0 (expected 0 within 0)"),
        (torch.tensor(0.5), {"expect": 0.5, "within": 0}, "is 0.5 (expected 0.5"),
        (torch.tensor([3]), {"expect": np.int64(3)}, "is 3 (expected 3)"),
        (np.float32(0.5), {"at_most": torch.tensor(0.75)}, "is 0.5 (at most 0.75)"),
        (np.bool_(True), {"expect": True}, "is True (expected True)"),
    ],
)
def test_kinds_of_values(value, rule, text, capsys):
    claim("it", value, **rule)
    assert f"holds: it {text}" in capsys.readouterr().out


@pytest.mark.parametrize("noise", [3e-17, -2e-16, 9e-13, 0.0])
def test_rounding_noise_prints_the_same_on_every_machine(noise, capsys):
    claim("the error", noise, at_most=1e-10)
    claim("the error", noise, expect=0.0, within=1e-10)
    first, second = capsys.readouterr().out.splitlines()
    assert "is below 1e-12 in size (at most 1e-10)" in first
    assert "is below 1e-12 in size (expected 0 within 1e-10)" in second


@given(finite, finite, st.floats(0, 1e6))
def test_within_is_the_absolute_difference(value, expect, within):
    options = {"expect": expect, "within": within}
    if abs(value - expect) <= within:
        claim("x", value, **options)
    else:
        with pytest.raises(ClaimError, match="does not hold: x is"):
            claim("x", value, **options)


@given(finite, finite)
def test_bounds_include_their_ends(value, bound):
    for option, holds in {
        "at_least": value >= bound,
        "at_most": value <= bound,
    }.items():
        if holds:
            claim("x", value, **{option: bound})
        else:
            with pytest.raises(ClaimError):
                claim("x", value, **{option: bound})


@pytest.mark.parametrize(
    "rule",
    [{"expect": 0.0, "within": 1e6}, {"at_least": -1e9}, {"at_most": 1e9}],
)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_nan_and_infinity_never_hold(rule, value):
    with pytest.raises(ClaimError, match=f"x is {value} "):
        claim("x", float(value), **rule)


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "a line\n", 3, None])
def test_a_name_is_one_line(name):
    with pytest.raises(ValueError, match="one line"):
        claim(name, 1, expect=1)


tolerances = st.floats(0, 1e9, allow_subnormal=False)
rules = st.one_of(
    st.tuples(finite, tolerances).map(lambda r: {"expect": r[0], "within": r[1]}),
    finite.map(lambda b: {"at_least": b}),
    finite.map(lambda b: {"at_most": b}),
    st.tuples(finite, finite).map(
        lambda r: {"at_least": min(r), "at_most": max(r)},
    ),
)


@given(value=st.one_of(finite, st.integers(), st.floats(-1e-8, 1e-8)), rule=rules)
def test_the_ledger_is_enough_to_print_the_sentence(value, rule):
    """What is printed and what is kept can't differ without being noticed."""
    with (
        tempfile.TemporaryDirectory() as folder,
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(io.StringIO()) as out,
    ):
        patch.setenv("BIGLEARN_CLAIMS", f"{folder}/claims.jsonl")
        try:
            claim("It", value, **rule)
            printed = out.getvalue().removeprefix("holds: ").rstrip("\n")
        except ClaimError as error:
            printed = str(error).removeprefix("does not hold: ")
        (kept,) = read_records(f"{folder}/claims.jsonl")
    assert sentence(kept["name"], kept["value"], kept["rule"]) == printed


@pytest.mark.parametrize(
    ("value", "rule", "message"),
    [
        (1.0, {}, "exactly one rule"),
        (1.0, {"within": 0.1}, "exactly one rule"),
        (1.0, {"expect": 1.0, "within": 0.1, "at_most": 2.0}, "exactly one rule"),
        (1.0, {"expect": 1.0}, "give `within`"),
        (True, {"expect": True, "within": 0.1}, "leave out `within`"),
        (1.0, {"expect": 1.0, "within": -0.1}, "negative"),
        (1.0, {"expect": float("nan"), "within": 1.0}, "finite"),
        (1.0, {"at_least": float("inf")}, "finite"),
        (1.0, {"at_least": "low"}, "finite number"),
        (1.0, {"at_least": 2.0, "at_most": 1.0}, "above"),
        (True, {"at_least": 0}, "same type"),
        (1, {"expect": True}, "same type"),
        (1, {"expect": "one"}, "same type"),
        ("one", {"expect": 1}, "same type"),
        (torch.zeros(2), {"expect": 0}, r"shape \(2,\)"),
        (np.zeros((2, 1)), {"expect": 0}, r"shape \(2, 1\)"),
        (None, {"expect": 0}, "NoneType"),
        (1j, {"expect": 0}, "complex"),
    ],
)
def test_senseless_rules(value, rule, message):
    with pytest.raises(ValueError, match=message):
        claim("x", value, **rule)


@pytest.mark.parametrize(
    ("namespace", "variable", "profile"),
    [
        ({"profile": "smoke"}, "gpu", "smoke"),
        ({"profile": "auto"}, "gpu", "cpu"),
        ({"profile": "gpu"}, None, "gpu"),
        ({}, "gpu", "gpu"),
        ({}, "auto", "cpu"),
        ({}, "", "cpu"),
        ({}, None, "cpu"),
    ],
)
def test_profile(namespace, variable, profile, records, monkeypatch):
    if variable is not None:
        monkeypatch.setenv("BIGLEARN_PROFILE", variable)
    call("x", 1, expect=1, namespace=namespace)
    assert read_records(records)[0]["profile"] == profile


def test_unknown_profiles(monkeypatch):
    with pytest.raises(ValueError, match="fast"):
        call("x", 1, expect=1, namespace={"profile": "fast"})
    with pytest.raises(ValueError, match="big"):
        claim("x", 1, expect=1, profiles=("big",))
    with pytest.raises(ValueError, match="'cp'"):
        claim("x", 1, expect=1, profiles="cp")
    monkeypatch.setenv("BIGLEARN_PROFILE", "tiny")
    with pytest.raises(ValueError, match="tiny"):
        call("x", 1, expect=1)


def test_smoke_is_not_judged(records, capsys):
    call("x", 1, expect=2, namespace={"profile": "smoke"})
    assert capsys.readouterr().out == "not judged at smoke: x is 1 (expected 2)\n"
    assert read_records(records)[0]["held"] is None
    with pytest.raises(ClaimError):
        call("x", 1, expect=2, profiles=("smoke",), namespace={"profile": "smoke"})
    with pytest.raises(ClaimError):
        call("x", 1, expect=2, profiles="smoke", namespace={"profile": "smoke"})


def test_every_claim_is_recorded_also_the_broken_one(records):
    claim("a", 1.23456789, at_most=2.0)
    with pytest.raises(ClaimError):
        claim("b", float("inf"), at_most=2.0)
    first, second = read_records(records)
    assert first == {
        "chapter": "mixtures",
        "name": "a",
        "value": 1.23457,
        "rule": "at most 2",
        "held": True,
        "profile": "cpu",
    }
    assert second["held"] is False
    assert second["value"] == "inf"
    assert all(json.loads(line) for line in records.read_text().splitlines())


def record(name, held=True, profile="cpu"):
    return {"name": name, "value": 1, "rule": "r", "held": held, "profile": profile}


CHAPTER = {"device": "d", "date": "2026-01-01", "seconds": 1.0}


def test_ledger_keeps_only_the_claims_that_ran():
    empty = read_ledger("no such file")
    first = merge_chapter(empty, "a", "cpu", [record("x"), record("y")], CHAPTER)
    first = merge_chapter(first, "b", "cpu", [record("z")], CHAPTER)
    first = merge_chapter(first, "a", "gpu", [record("x", profile="gpu")], CHAPTER)
    second = merge_chapter(first, "a", "cpu", [record("y", held=False)], CHAPTER)
    assert set(second["claims"]["a"]) == {"x", "y"}
    assert set(second["claims"]["a"]["x"]) == {"gpu"}
    assert second["claims"]["a"]["y"]["cpu"]["held"] is False
    assert second["claims"]["b"] == first["claims"]["b"]
    assert set(second["chapters"]["a"]) == {"cpu", "gpu"}
    assert set(first["claims"]["a"]["x"]) == {"cpu", "gpu"}  # the old one is untouched


def test_ledger_refuses_two_claims_of_one_name_and_skips_the_unjudged():
    empty = read_ledger("no such file")
    with pytest.raises(ValueError, match="'x' twice"):
        merge_chapter(empty, "a", "cpu", [record("x"), record("x")], CHAPTER)
    merged = merge_chapter(empty, "a", "cpu", [record("x", held=None)], CHAPTER)
    assert merged["claims"]["a"] == {}


def test_ledger_file_is_stable_and_whole(tmp_path):
    path = tmp_path / "ledger.json"
    ledger = {"claims": {"b": {}, "a": {"é": {}}}, "chapters": {}}
    write_ledger(path, ledger)
    text = path.read_text("utf-8")
    assert read_ledger(path) == ledger
    write_ledger(path, dict(reversed(ledger.items())))
    assert path.read_text("utf-8") == text
    with pytest.raises(TypeError):
        write_ledger(path, {"claims": object(), "chapters": {}})
    assert path.read_text("utf-8") == text
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "text",
    [
        '{"claims": {',
        "[]",
        "3",
        '{"claims": {}}',
        '{"claims": [], "chapters": {}}',
        '{"claims": {"x": []}, "chapters": {}}',
        '{"claims": {"x": {"n": 1}}, "chapters": {}}',
        '{"claims": {"x": {"n": {"cpu": true}}}, "chapters": {}}',
        '{"claims": {}, "chapters": {"x": {"seconds": 1}}}',
    ],
)
def test_a_damaged_ledger_is_one_sentence(text, tmp_path):
    path = tmp_path / "ledger.json"
    path.write_text(text)
    with pytest.raises(
        ValueError, match=r"ledger\.json cannot be read.*restore"
    ) as got:
        read_ledger(path)
    assert "\n" not in str(got.value)
