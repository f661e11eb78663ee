"""The rendered book for tests: built once when its sources are newer than its pages."""

from __future__ import annotations

import fcntl
import functools
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HTML = ROOT / "_build" / "html"
SOURCES = ("_config.yml", "_toc.yml", "_ext/*.py", "_assets/*", "book/**/*")
SOURCES += ("biglearn_lite/*.py", "tools/vendor_assets.py")


def is_current() -> bool:
    """Whether no source is newer than the last file of a build."""
    index = HTML / "index.html"
    files = [path for pattern in SOURCES for path in ROOT.glob(pattern)]
    newest = max(path.stat().st_mtime for path in files if path.is_file())
    return index.exists() and index.stat().st_mtime >= newest


@functools.cache
def built() -> Path:
    """The folder of the pages; built now if need be, by one process at a time."""
    HTML.parent.mkdir(exist_ok=True)
    with (HTML.parent / "build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_current():
            command = [sys.executable, str(ROOT / "tools" / "build_book.py")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.fail(f"the book does not build:\n{done.stdout}{done.stderr}")
    return HTML
