"""One set of pins: pyproject, the conda file and the lock agree."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile

import yaml
from book_files import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA_NAMES = {"matplotlib-base": "matplotlib"}


def pins(lines):
    found = {}
    for line in lines:
        name, rest = re.match(r"([\w.-]+)(.*)", line.strip()).groups()
        name = canonicalize_name(CONDA_NAMES.get(name, name))
        found[name] = Requirement(f"{name}{rest}").specifier
    return found


def conda_lines():
    entries = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    plain = [entry for entry in entries if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in entries if isinstance(entry, dict)]
    return plain, pip


def lock_lines():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_conda_users_get_the_same_pins():
    plain, pip = conda_lines()
    assert "-e .[all]" in pip, "the extras come from pyproject itself"
    given = pins([line for line in [*plain, *pip] if not line.startswith("-e")])
    python = given.pop("python")
    assert str(python).split(",")[0] in {">=3.11", "<3.13"}
    assert PROJECT["requires-python"] == ">=3.11"
    given.pop("pip")
    assert given == pins(PROJECT["dependencies"])


def test_the_lock_holds_everything_and_satisfies_the_project():
    lock = {
        canonicalize_name(re.split(r"==", line)[0]): re.split(r"==| ;", line)[1].strip()
        for line in lock_lines()
    }
    extras = PROJECT["optional-dependencies"]
    wanted = [*PROJECT["dependencies"], *extras["book"], *extras["all"]]
    for line in wanted:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            continue
        version = lock[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{line} against {version}"


def test_the_lock_names_no_place_and_no_local_version():
    for line in lock_lines():
        assert re.fullmatch(r"[\w.-]+==[\w.]+( ; .*)?", line), line


def test_the_wheel_holds_scripts_and_recorded_runs(tmp_path):
    tree = tmp_path / "tree"
    for name in ("biglearn_lite", "book/runs"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tree / name, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    run = tree / "book/runs/demo/cpu"
    run.mkdir(parents=True)
    (run / "metrics.json").write_text("{}")
    command = "-m pip wheel -q --no-deps --no-build-isolation --no-index -w out ."
    subprocess.run([sys.executable, *command.split()], cwd=tree, check=True)
    (wheel,) = (tree / "out").glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "biglearn_lite/paint.js" in names
    assert "biglearn_lite/recorded/demo/cpu/metrics.json" in names
    assert not [name for name in names if name.startswith(("tests", "book"))]
