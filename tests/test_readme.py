"""The README's example runs as printed, and its commands exist."""

import re

from book_files import ROOT

README = (ROOT / "README.md").read_text()


def test_the_example_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(code.strip().splitlines()) <= 10, "ten lines were promised"
    names = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["x"].shape == (5, 2, 1)
    source = names["task"].source
    answer = names["model"].sample(names["x"], names["task"], names["generator"])
    assert (answer[source] == names["x"][source]).all()
    assert "marginal" in capsys.readouterr().out


def test_its_make_targets_exist():
    rules = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"`make (\w+)`", README)):
        assert re.search(rf"^{target}:", rules, flags=re.MULTILINE), target


def test_its_paths_and_pictures_exist():
    for path in re.findall(r"\]\(((?!http)[^)]+)\)", README):
        assert (ROOT / path).exists(), path
    for path in re.findall(r"^\| `([^`]+/)`", README, flags=re.MULTILINE):
        assert (ROOT / path).is_dir(), path
