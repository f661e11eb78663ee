"""Fetch what the pages need and cannot be committed: MathJax and plotly.js.

MathJax comes out of a wheel of the package index, so a machine that reaches nothing
else can build the book; the wheel is only unpacked, never imported, since importing it
would overwrite Sphinx settings. plotly.js comes out of the installed plotly. Both land
in `_vendor/`, and the pages need nothing from outside afterwards.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENDOR = ROOT / "_vendor"
MATHJAX = "sphinx-mathjax-offline==0.0.2"  # holds MathJax 3.2.2 (Apache-2.0)
WHEEL = "sphinx_mathjax_offline-0.0.2-py3-none-any.whl"
SHA256 = "206418155b2ff2f57496fb8501fdccae3da978e53031ff296c73729ba16062c4"
INSIDE = "sphinx-mathjax-offline/static/mathjax/"
# the bundle, and what it may load later: fonts, TeX extensions, the menu's speech
WANTED = (
    "tex-mml-chtml.js",
    "output/chtml/fonts/woff-v2/",
    "input/tex/extensions/",
    "a11y/",
    "sre/mathmaps/base.json",
    "sre/mathmaps/en.json",
)


def checksum(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fetch_wheel(folder: Path, sha256: str = SHA256) -> Path:
    """Return the MathJax wheel in `folder`, downloaded if it is not there yet.

    Raises:
        ValueError: if the file does not have the expected checksum; it is removed.
        subprocess.CalledProcessError: if pip cannot download it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wheel = folder / WHEEL
    if not (wheel.exists() and checksum(wheel) == sha256):
        wheel.unlink(missing_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "-qq", "--no-deps"]
        pip += ["--disable-pip-version-check", "--dest", str(folder), MATHJAX]
        subprocess.run(pip, check=True)
    found = checksum(wheel)
    if found != sha256:
        wheel.unlink()
        raise ValueError(
            f"{WHEEL} has SHA-256 {found}, expected {sha256}; it was removed: "
            "check the package index and run again."
        )
    return wheel


def unpack_mathjax(wheel: Path, target: Path) -> int:
    """Unpack the wanted part of MathJax into `target`; return the number of files."""
    shutil.rmtree(target, ignore_errors=True)
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if n.startswith(INSIDE)]
        names = [n for n in names if n.removeprefix(INSIDE).startswith(WANTED)]
        for name in names:
            path = target / name.removeprefix(INSIDE)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))
    return len(names)


def copy_plotly(target: Path) -> Path:
    """Copy the installed plotly's `plotly.min.js` to `target`, without importing it."""
    inside = "plotly/package_data/plotly.min.js"
    source = importlib.metadata.distribution("plotly").locate_file(inside)
    return Path(shutil.copy(Path(str(source)), target))


def vendor(folder: Path = VENDOR) -> str:
    """Fill `folder`; return one sentence about what is there."""
    # Sphinx copies the folder into the pages, but nothing whose name has a dot first
    count = unpack_mathjax(fetch_wheel(folder / ".wheel"), folder / "mathjax")
    plotly = copy_plotly(folder / "plotly.min.js")
    size = plotly.stat().st_size / 2**20
    return f"MathJax ({count} files) and plotly.js ({size:.1f} MiB) in {folder.name}/"


if __name__ == "__main__":
    print(vendor())
