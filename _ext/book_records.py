"""What the build knows of the book: chapters, the ledger of claims, recorded runs.

Plain reading of files, no Sphinx here. Every file may still be missing: the first
build comes before the first measurement. The table of contents and the ledger are read
by the package itself, which needs neither torch nor an installation for that.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))  # the package need not be installed
from biglearn_lite import claims  # noqa: E402
from biglearn_lite.chapters import documents  # noqa: E402

NO_BREAK = "\u00a0"  # between a number and its unit


@dataclass(frozen=True)
class Chapter:
    """One notebook of the table of contents; the introduction is not a chapter."""

    document: str  # as in _toc.yml: "book/mixtures"
    about: str  # what it shows, in a sentence
    datasets: tuple[str, ...]  # names given to `load`
    runs: tuple[str, ...]  # names given to `load_run`

    @property
    def slug(self) -> str:
        """The name under which the ledger knows it."""
        return self.document.rpartition("/")[2]


def chapters(root: Path) -> list[Chapter]:
    """The notebooks of the table of contents, in its order, but for the root page."""
    found = (read_chapter(root, name) for name in documents(root)[1:])
    return [chapter for chapter in found if chapter is not None]


def read_chapter(root: Path, document: str) -> Chapter | None:
    """What a page's notebook promises and what its code loads; None without one."""
    path = root / f"{document}.ipynb"
    if not path.exists():
        return None
    notebook = json.loads(path.read_text("utf8"))
    text, code = (
        "\n\n".join(
            "".join(cell["source"])
            for cell in notebook["cells"]
            if cell["cell_type"] == kind
        )
        for kind in ("markdown", "code")
    )
    datasets = re.findall(r"\bload\(\s*['\"](\w+)['\"]", code)
    runs = re.findall(r"\b(?:load_run|recorded)\(\s*['\"]([\w-]+)['\"]", code)
    about = promises(text) or first_sentence(text)
    return Chapter(document, about, unique(datasets), unique(runs))


def unique(names: list[str]) -> tuple[str, ...]:
    """Each name once, in order of first appearance."""
    return tuple(dict.fromkeys(names))


def promises(markdown: str, most: int = 2) -> str:
    """The first items of the list under "What you will learn", as one sentence."""
    _, _, rest = markdown.partition("What you will learn")
    items = re.findall(r"^[-*] +(.+(?:\n +.+)*)", rest.partition("\n#")[0], flags=re.M)
    clean = [re.sub(r"\s+", " ", item).rstrip(" ;.,") for item in items[:most]]
    return "; ".join(clean) + "." if clean else ""


def first_sentence(markdown: str) -> str:
    """The first sentence of the first paragraph that is plain prose."""
    fences = r"^(`{3,}|:{3,}).*?^\1\s*$"
    prose = re.sub(fences, "", markdown, flags=re.M | re.S)
    for paragraph in re.split(r"\n\s*\n", prose):
        lines = [line for line in paragraph.splitlines() if not line.startswith("#")]
        text = " ".join(lines).strip()
        if re.match(r"[A-Z*_`]", text) and text.endswith((".", "!", "?")):
            return re.split(r"(?<=[.!?])\s+(?=[A-Z])", text)[0]
    return ""


def read_ledger(root: Path) -> dict[str, dict[str, Any]]:
    """`book/ledger.json`; its two parts are empty where nothing was measured yet."""
    return claims.read_ledger(root / "book" / "ledger.json")


def read_runs(root: Path) -> list[dict[str, Any]]:
    """The provenance of every recorded run, with its recipe and profile."""
    found = []
    for path in sorted((root / "book" / "runs").glob("*/*/provenance.json")):
        recipe, profile = path.parts[-3:-1]
        record = json.loads(path.read_text("utf8"))
        found.append({**record, "recipe": recipe, "profile": profile})
    return found


def count_claims(ledger: dict[str, dict[str, Any]], slug: str) -> tuple[int, int]:
    """How many measured claims of a chapter held, and how many there are."""
    records = [
        record
        for profiles in ledger["claims"].get(slug, {}).values()
        for record in profiles.values()
    ]
    return sum(bool(record["held"]) for record in records), len(records)


def plain(value: Any) -> str:
    """A measured value as text: four significant digits of what is no whole number."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def verdict(record: dict[str, Any]) -> str:
    """Whether a claim held, in a word."""
    return "holds" if record["held"] else "FAILS"


def measured(record: dict[str, Any]) -> str:
    """On what a record was measured, and when."""
    day = record.get("date", "")[:10]
    return f"on {record.get('device', 'an unknown device')}, {day}"


def where(profile: str, record: dict[str, Any]) -> str:
    """Profile, device and date of a record."""
    return f"at profile `{profile}` {measured(record)}"


def duration(seconds: float) -> str:
    """Seconds as a reader says them."""
    if seconds < 90:
        return f"{max(1, round(seconds))}{NO_BREAK}s"
    return f"{round(seconds / 60)}{NO_BREAK}min"


def memory(mebibytes: float) -> str:
    """Mebibytes as a reader says them."""
    if mebibytes < 1000:
        return f"{round(mebibytes, -1):.0f}{NO_BREAK}MiB"
    return f"{mebibytes / 1024:.1f}{NO_BREAK}GiB"


def costs(chapter: dict[str, Any]) -> str:
    """Time and memory of a chapter at each profile."""
    return "; ".join(
        f"{duration(one['seconds'])}, {memory(one['peak_mib'])}"
        + (f" ({profile})" if len(chapter) > 1 else "")
        for profile, one in chapter.items()
    )
