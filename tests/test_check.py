"""Checkers give a tick or a hint, and never a traceback."""

import sys

import pytest

from biglearn_lite import check
from biglearn_lite.check import CHECKERS, exercise


@pytest.fixture
def double(monkeypatch):
    # the package exports the function under the name of the module
    monkeypatch.setattr(sys.modules["biglearn_lite.check"], "CHECKERS", {})

    @exercise("demo/double")
    def checker(answer):
        return None if answer(3) == 6 else "three doubled is six"

    return checker


def test_right_wrong_and_unfinished(double, capsys):
    assert check("demo/double", lambda x: 2 * x) is True
    assert check("demo/double", lambda x: x) is False
    assert check("demo/double", None) is False
    right, wrong, unfinished = capsys.readouterr().out.splitlines()
    assert right == "right: demo/double"
    assert wrong == "not yet: demo/double: three doubled is six"
    assert "TypeError" in unfinished


def test_an_unknown_exercise_lists_those_of_its_chapter(double):
    with pytest.raises(ValueError, match="demo/double"):
        check("demo/triple", 1)
    with pytest.raises(ValueError, match="demo/double"):
        check("other/x", 1)


@pytest.mark.parametrize("name", sorted(CHECKERS))
@pytest.mark.parametrize("stub", [None, ..., lambda *_: None])
def test_a_stub_never_passes(name, stub, capsys):
    assert check(name, stub) is False
    assert capsys.readouterr().out.startswith(f"not yet: {name}: ")
