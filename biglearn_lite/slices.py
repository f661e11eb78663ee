"""The book in slices: trainings first, then chapters, as far as the time goes.

Everything at one profile takes hours, and a card is lent for less. Each step leaves
behind what shows that it is done: a training its record, a chapter its executed
notebook and a line in `progress.json`. So the same command, given again, goes on where
it was stopped, by the clock or by a signal; a training goes on from its checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from biglearn_lite import chapters
from biglearn_lite.book import Settings, choose, environment, run_chapter
from biglearn_lite.files import write_atomically

if TYPE_CHECKING:
    from biglearn_lite.recipe import Recipe

PROGRESS = "progress.json"


class Clock:
    """How many of the minutes are left; None: no limit."""

    def __init__(self, minutes: float | None) -> None:
        self.minutes, self.began = minutes, time.monotonic()
        self.steps = 0  # that were begun

    @property
    def left(self) -> float | None:
        """Minutes, 0 at least; None: no limit."""
        if self.minutes is None:
            return None
        return max(0.0, self.minutes - (time.monotonic() - self.began) / 60)

    def begins(self) -> bool:
        """Whether another step may begin: each slice takes one, however short it is."""
        if self.left == 0 and self.steps:
            return False
        self.steps += 1
        return True


def run_slices(
    root: Path,
    names: Sequence[str] = (),
    settings: Settings | None = None,
    output: Path | None = None,
    minutes: float | None = None,
) -> bool:
    """Train what has no record, run what has not run; stop when the time is over.

    With `settings.train`, recipes that the chapters name are trained if their record at
    the profile is missing, or of an earlier text of the recipe; judges come first,
    since others are measured by them. Records go to `book/runs`, at smoke beside the
    executed notebooks. Then those chapters run that have not run as they are now.

    Args:
        root: the checkout.
        names: slugs of chapters; none means all.
        settings: how to run; the profile is that of the trainings, too.
        output: folder for the executed notebooks.
        minutes: begin nothing after so long, and stop training; a chapter that was
            begun is finished. None: to the end.

    Returns:
        Whether all is done.

    Raises:
        ValueError, ChapterError: as for `run_book`.
        TrainingError: if a loss is no longer finite.
    """
    settings, clock = settings or Settings(), Clock(minutes)
    shown = replace(settings, train=False)  # what was recorded just now
    paths, folder = choose(root, names, shown, output)
    if not settings.train:
        return _run(root, paths, shown, folder, clock)
    runs = folder / "runs" if settings.profile == "smoke" else root / "book" / "runs"
    with environment({"BIGLEARN_RUNS": str(runs)}):  # for judges, and for kernels
        trained = _train(wanted(paths, settings.profile), runs, clock)
        return trained and _run(root, paths, shown, folder, clock)


# ------------------------------------------------------------------ training


def wanted(paths: Sequence[Path], profile: str) -> list[Recipe]:
    """The recipes whose names are in the code of chapters, judges first."""
    from biglearn_lite.recipe import read_recipe, recipe_names

    cells = [cell for path in paths for cell in chapters.read(path).cells]
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    at = "cpu" if profile == "auto" else profile
    named = [name for name in recipe_names() if f'"{name}"' in code]
    recipes = [read_recipe(name, at) for name in named]
    return sorted(recipes, key=lambda recipe: recipe.model.kind != "judge")


def is_recorded(recipe: Recipe, runs: Path) -> bool:
    """Whether there is a record of this recipe as its text is now."""
    path = runs / recipe.name / recipe.profile / "provenance.json"
    if not path.is_file():
        return False
    said = json.loads(path.read_text("utf-8"))["recipe_sha256"]
    return said == hashlib.sha256(recipe.text.encode()).hexdigest()


def _train(recipes: Sequence[Recipe], runs: Path, clock: Clock) -> bool:
    """Record what has no record; whether the time was enough."""
    from biglearn_lite.recipe import train
    from biglearn_lite.studies import run_study

    for number, recipe in enumerate(recipes, 1):
        if is_recorded(recipe, runs):
            continue
        if not clock.begins():
            return False
        print(f"[{number}/{len(recipes)}] {recipe.name} ...", flush=True)
        record = run_study if recipe.study.variants else train
        if record(recipe, root=runs, resume=True, minutes=clock.left) is None:
            return False
    return True


# ------------------------------------------------------------------ chapters


def _run(
    root: Path, paths: Sequence[Path], settings: Settings, folder: Path, clock: Clock
) -> bool:
    """Run what has not run as it is now; whether the time was enough."""
    around = _around(root)  # once: no chapter changes it
    for number, path in enumerate(paths, 1):
        mark = _mark(path, settings, around)
        if _done(folder).get(path.stem) == mark:
            continue
        if not clock.begins():
            return False
        run_chapter(root, path, settings, folder, f"[{number}/{len(paths)}]")
        done = _done(folder) | {path.stem: mark}
        write_atomically(folder / PROGRESS, json.dumps(done, indent=1))
    return True


def _done(folder: Path) -> dict[str, str]:
    """Chapters that have run, and as what."""
    path = folder / PROGRESS
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def _mark(path: Path, settings: Settings, around: str) -> str:
    """A hash of all that decides what a chapter shows."""
    # a bar that is shown or not changes nothing
    settings = replace(settings, progress=False)
    said = [chapters.code_hash(chapters.read(path)), repr(settings), around]
    return hashlib.sha256("\n".join(said).encode()).hexdigest()


def _around(root: Path) -> str:
    """A hash of the package, and of where recorded runs come from."""
    found = hashlib.sha256()
    for each in (
        *sorted(Path(__file__).parent.glob("*.py")),
        *sorted((root / "book" / "runs").glob("*/*/provenance.json")),
    ):
        found.update(each.read_bytes())
    return found.hexdigest()
