"""Render the committed, executed notebooks into `_build/html`, offline and checked.

    python tools/build_book.py

Needs only the requirements of the extra `book` (no torch). Nothing is executed. A
warning of Sphinx, a page that was not written, a lost figure or anything that would ask
for the network makes the build fail.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import check_pages
import vendor_assets

ROOT = Path(__file__).resolve().parents[1]
HTML = ROOT / "_build" / "html"


def step(name: str, work: Callable[[], str]) -> None:
    """Say what is done, do it, say what came of it and how long it took."""
    print(f"==> {name}", flush=True)
    start = time.perf_counter()
    result = work()
    print(f"    {result} ({time.perf_counter() - start:.1f} s)", flush=True)


def clean() -> str:
    """Remove the old pages: Sphinx leaves files there that no page needs any more."""
    for folder in (HTML, ROOT / "_build" / ".doctrees"):
        shutil.rmtree(folder, ignore_errors=True)
    return "old pages removed"


def render() -> str:
    """Run Jupyter Book; a warning is an error.

    Raises:
        RuntimeError: if Jupyter Book reports a failure.
    """
    beside = Path(sys.executable).with_name("jupyter-book")
    script = str(beside) if beside.exists() else shutil.which("jupyter-book")
    if script is None:
        raise RuntimeError("jupyter-book is not installed: run `make book`.")
    command = [script, "build", str(ROOT), "--all", "-W", "-n", "--keep-going", "-q"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        print(done.stdout, file=sys.stderr)
        raise RuntimeError(f"Jupyter Book failed (exit code {done.returncode}).")
    return "pages written"


def check() -> str:
    """Check the pages: Jupyter Book also exits with 0 when it wrote nothing.

    Raises:
        RuntimeError: listing everything that is wrong with the pages.
    """
    problems = check_pages.problems(ROOT, HTML)
    if problems:
        raise RuntimeError("the pages are not right:\n  " + "\n  ".join(problems))
    return f"{len(check_pages.pages(ROOT, HTML))} pages are complete and self-contained"


def main() -> int:
    """Build the book; return the exit code."""
    start = time.perf_counter()
    try:
        step("vendor: MathJax and plotly.js", vendor_assets.vendor)
        step("clean: the old pages", clean)
        step("render: Jupyter Book, warnings are errors", render)
        step("check: the pages", check)
    except (RuntimeError, ValueError, subprocess.CalledProcessError) as error:
        print(f"build_book: {error}", file=sys.stderr)
        return 1
    print(
        f"Book built in {time.perf_counter() - start:.0f} s. Open {HTML / 'index.html'}"
    )
    return 0


if __name__ == "__main__":
    argparse.ArgumentParser(description="Render the book.").parse_args()  # no options
    sys.exit(main())
