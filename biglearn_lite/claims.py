"""Claims: numbers of the book that are computed, judged by a rule and printed.

A chapter never states a measured number in its text. It calls `claim`, which prints
the sentence with the value and stops the chapter when the rule is broken. During
`biglearn book run` every claim is also written down in the ledger of the book.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from biglearn_lite.files import write_atomically

PROFILES = ("smoke", "cpu", "gpu")
TOLERANCE = re.compile(r"(?:within|at most|and) (-?\d+\.?\d*(?:e[-+]\d+)?)$")

Ledger = dict[str, dict[str, Any]]


class ClaimError(AssertionError):
    """A number of the book that does not keep its rule."""


def claim(
    name: str,
    value: Any,
    *,
    expect: Any = None,
    within: float | None = None,
    at_least: float | None = None,
    at_most: float | None = None,
    profiles: str | Sequence[str] = ("cpu", "gpu"),
) -> None:
    """Judge `value` by one rule, print the sentence, and stop if it does not hold.

    There are two families of rules: `expect` (a number with `within`; a truth value,
    a whole number or a text exactly), or the bounds `at_least` and `at_most`, one or
    both. NaN and infinity never hold. The sentence shows four significant digits; a
    value under 1e-6 and under a hundredth of its rule is rounding noise, which differs
    between machines, so only its bound is shown.

    The profile is the `profile` of the calling notebook (`"auto"` counts as `"cpu"`),
    else `$BIGLEARN_PROFILE`, else `"cpu"`.

    Args:
        name: one line, the start of a sentence that goes on "is 0.6931".
        value: a number, truth value or text; tensors and arrays of one element too.
        expect: what the value should be.
        within: the largest allowed absolute difference from `expect`.
        at_least: the smallest allowed value.
        at_most: the largest allowed value.
        profiles: the profiles (or the one) that judge; at another one the value is
            only printed.

    Raises:
        ClaimError: if the rule is broken at a profile that judges.
        ValueError: if the name, the rule, the value or a profile makes no sense.
    """
    if not (isinstance(name, str) and name.strip() and name.splitlines() == [name]):
        raise ValueError(f"A claim's name is one line of text, not {name!r}.")
    value = _plain(name, value)
    expect, within, at_least, at_most = (
        None if number is None else _plain(name, number)
        for number in (expect, within, at_least, at_most)
    )
    _check_rule(name, value, expect, within, at_least, at_most)
    profile = _profile(sys._getframe(1).f_globals)
    profiles = (profiles,) if isinstance(profiles, str) else profiles
    for each in profiles:
        check_profile(each)
    held = _holds(value, expect, within, at_least, at_most)
    rule = _rule_text(expect, within, at_least, at_most)
    value = _recorded(value)
    judged = profile in profiles
    _record(name, value, rule, held if judged else None, profile)
    if not judged:
        print(f"not judged at {profile}: {sentence(name, value, rule)}")
    elif held:
        print(f"holds: {sentence(name, value, rule)}")
    else:
        raise ClaimError(f"does not hold: {sentence(name, value, rule)}")


def sentence(name: str, value: Any, rule: str) -> str:
    """What a claim prints, made of no more than what the ledger keeps of it."""
    judged_by = TOLERANCE.search(rule)
    scale = float(judged_by[1]) if judged_by else None
    return f"{name} is {_shown(value, scale)} ({rule})"


def _plain(name: str, value: Any) -> bool | int | float | str:
    """A Python value out of a tensor, an array or a numpy scalar with one element."""
    if hasattr(value, "item"):
        try:
            value = value.item()
        except (ValueError, RuntimeError, TypeError) as error:
            raise ValueError(
                f"The claim {name!r} needs a single value, not an array of shape "
                f"{tuple(value.shape)}; reduce it first."
            ) from error
    if not isinstance(value, (bool, int, float, str)):
        raise ValueError(
            f"The claim {name!r} needs a number, a truth value or a text, "
            f"not {type(value).__name__}."
        )
    return value


def _check_rule(
    name: str, value: Any, expect: Any, within: Any, at_least: Any, at_most: Any
) -> None:
    """Refuse a rule that is missing, double, or of another kind than the value."""
    bounds = at_least is not None or at_most is not None
    start = f"The claim {name!r}"
    if (expect is not None) == bounds or (within is not None and expect is None):
        raise ValueError(
            f"{start} needs exactly one rule: `expect` (with `within`), or `at_least` "
            "and/or `at_most`."
        )
    exact = isinstance(expect, (bool, int, str))
    if expect is not None and within is None and not exact:
        raise ValueError(f"{start} expects {expect!r}: give `within` as well.")
    if within is not None and isinstance(expect, (bool, str)):
        raise ValueError(f"{start} expects {expect!r} exactly: leave out `within`.")
    for kind in (bool, str):
        if isinstance(value, kind) != isinstance(expect, kind):
            raise ValueError(
                f"{start} has the value {value!r}, a {type(value).__name__}: the rule "
                "must be `expect` of the same type."
            )
    for rule, number in {
        "expect": expect,
        "within": within,
        "at_least": at_least,
        "at_most": at_most,
    }.items():
        if number is None or (rule == "expect" and isinstance(number, str)):
            continue
        if isinstance(number, str) or not math.isfinite(number):
            raise ValueError(f"{start} has {rule}={number!r}: give a finite number.")
    if within is not None and within < 0:
        raise ValueError(f"{start} has within={within}: it cannot be negative.")
    if None not in (at_least, at_most) and at_least > at_most:
        raise ValueError(f"{start} has at_least={at_least} above at_most={at_most}.")


def check_profile(profile: Any) -> str:
    """The profile, or a ValueError that lists those that there are."""
    if profile not in PROFILES:
        raise ValueError(f"Unknown profile {profile!r}; choose from {PROFILES}.")
    return profile


def _profile(namespace: dict[str, Any]) -> str:
    """The active profile of the calling notebook."""
    profile = namespace.get("profile", os.environ.get("BIGLEARN_PROFILE") or "cpu")
    return check_profile("cpu" if profile == "auto" else profile)


def _holds(value: Any, expect: Any, within: Any, at_least: Any, at_most: Any) -> bool:
    """Whether the rule is kept; by NaN and infinity, never."""
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if expect is not None:
        return value == expect if within is None else abs(value - expect) <= within
    above = at_least is None or value >= at_least
    below = at_most is None or value <= at_most
    return above and below


def _rule_text(expect: Any, within: Any, at_least: Any, at_most: Any) -> str:
    if expect is not None:
        text = f"expected {_shown(expect)}"
        return text if within is None else f"{text} within {_shown(within)}"
    if at_most is None:
        return f"at least {_shown(at_least)}"
    if at_least is None:
        return f"at most {_shown(at_most)}"
    return f"between {_shown(at_least)} and {_shown(at_most)}"


def _shown(value: Any, scale: float | None = None) -> str:
    """The value as the reader sees it; `scale` is the tolerance it is judged by."""
    if not isinstance(value, float):
        return str(value)
    if scale and abs(value) < min(abs(scale) / 100, 1e-6):
        return f"below {abs(scale) / 100:.4g} in size"
    return f"{value + 0.0:.4g}"  # + 0.0 turns -0.0 into 0.0


def _recorded(value: Any) -> Any:
    """The value as the ledger keeps it: six digits, so that it doesn't show the CPU."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else str(value)


def _record(name: str, value: Any, rule: str, held: bool | None, profile: str) -> None:
    """Append the claim to `$BIGLEARN_CLAIMS`, one JSON object a line."""
    path = os.environ.get("BIGLEARN_CLAIMS")
    if not path:
        return
    chapter = os.environ.get("BIGLEARN_CHAPTER", "")
    record = {
        "chapter": chapter,
        "name": name,
        "value": value,
        "rule": rule,
        "held": held,
        "profile": profile,
    }
    with open(path, "a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_records(path: str | Path) -> list[dict[str, Any]]:
    """The records that `claim` has appended to `path`; none if there is no file."""
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def read_ledger(path: str | Path) -> Ledger:
    """The ledger of the book; an empty one if there is no file yet."""
    path = Path(path)
    if not path.exists():
        return {"claims": {}, "chapters": {}}
    try:
        ledger = json.loads(path.read_text(encoding="utf-8"))
        ledger = {"claims": ledger["claims"], "chapters": ledger["chapters"]}
        claims = [one for names in ledger["claims"].values() for one in names.values()]
        for profiles in (*claims, *ledger["chapters"].values()):
            if not all(isinstance(entry, dict) for entry in profiles.values()):
                raise TypeError("an entry is not under chapter, claim and profile")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The ledger {path.name} cannot be read ({error}); restore it from the "
            "repository, or remove it and run the book again."
        ) from error
    return ledger


def write_ledger(path: str | Path, ledger: Ledger) -> None:
    """Write the ledger in one move, with sorted keys so that differences are small."""
    text = json.dumps(ledger, indent=1, sort_keys=True, ensure_ascii=False)
    write_atomically(path, text + "\n")


def merge_chapter(
    ledger: Ledger,
    slug: str,
    profile: str,
    records: Iterable[dict[str, Any]],
    chapter: dict[str, Any],
) -> Ledger:
    """A new ledger in which one chapter's run at one profile replaces the last one.

    Claims of this chapter and profile that were not made again disappear, and those
    that were not judged do not enter.

    Args:
        ledger: `{"claims": {slug: {name: {profile: ...}}}, "chapters": ...}`.
        slug: the chapter.
        profile: `"cpu"` or `"gpu"`.
        records: what `claim` wrote down during the run.
        chapter: seconds, peak_mib, device, date, versions, code.

    Raises:
        ValueError: if the chapter makes two claims of the same name.
    """
    claims = {
        name: {p: entry for p, entry in entries.items() if p != profile}
        for name, entries in ledger["claims"].get(slug, {}).items()
    }
    for record in records:
        if record["held"] is None:
            continue  # not judged at this profile: no verdict to keep
        entries = claims.setdefault(record["name"], {})
        if record["profile"] in entries:
            raise ValueError(
                f"Chapter {slug!r} makes the claim {record['name']!r} twice; "
                "each claim needs a name of its own."
            )
        entries[record["profile"]] = {
            **{key: record[key] for key in ("value", "rule", "held")},
            **{key: chapter[key] for key in ("device", "date")},
        }
    claims = {name: entries for name, entries in claims.items() if entries}
    chapters = {**ledger["chapters"].get(slug, {}), profile: chapter}
    return {
        "claims": {**ledger["claims"], slug: claims},
        "chapters": {**ledger["chapters"], slug: chapters},
    }
