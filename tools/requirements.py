"""Print the requirements of one extra of `pyproject.toml`, one a line.

    python tools/requirements.py book

so that `make book` can install what rendering needs and nothing else: pip itself can
only install an extra together with the package's own dependencies, torch among them.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"


def requirements(extra: str, pyproject: Path = PYPROJECT) -> list[str]:
    """Return the requirements of `extra`, extras of the project itself spelled out.

    Raises:
        ValueError: if `pyproject.toml` has no such extra.
    """
    project = tomllib.loads(pyproject.read_text("utf8"))["project"]
    extras = project["optional-dependencies"]
    if extra not in extras:
        raise ValueError(f"no extra {extra!r}; choose from {sorted(extras)}.")
    itself = re.compile(re.escape(project["name"]) + r"\[([\w-]+)\]")
    found: list[str] = []
    for line in extras[extra]:
        inner = itself.fullmatch(line)
        found += requirements(inner[1], pyproject) if inner else [line]
    return found


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python tools/requirements.py EXTRA")
    try:
        print("\n".join(requirements(sys.argv[1])))
    except ValueError as error:
        sys.exit(f"tools/requirements.py: {error}")
