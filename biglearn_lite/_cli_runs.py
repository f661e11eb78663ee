"""The recorded runs that commands are about, and where they are looked for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from biglearn_lite._prepare import Prepared
    from biglearn_lite._recipe_file import Recipe
    from biglearn_lite.runs import Run

RecipeName = Annotated[
    str, typer.Argument(help="As `biglearn train --list` shows it, or a .toml file.")
]
Profile = Annotated[
    str, typer.Option(help="smoke, cpu or gpu; auto: the gpu record, else the cpu one.")
]
Seed = Annotated[int, typer.Option(help="Of all that is drawn.")]
Runs = Annotated[
    Path | None,
    typer.Option(help="Folder of runs to look in first [$BIGLEARN_RUNS or ./runs]."),
]


def recorded(
    name: str, profile: str, folder: Path | None
) -> tuple[Run, Prepared, Recipe]:
    """A recorded run, its data, and the recipe that made it.

    Raises:
        ValueError: if recipe and run do not belong together.
    """
    from biglearn_lite._prepare import prepare
    from biglearn_lite.experiments import is_experiment
    from biglearn_lite.recipe import read_recipe

    at = "cpu" if profile == "auto" else profile
    # so that a wrong name or profile is told first
    if is_experiment(read_recipe(name, at)):
        raise ValueError(
            f"{name} is an experiment, not a model to ask; what it "
            f'found is in load_run("{Path(name).stem}").metrics.'
        )
    run = _find(Path(name).stem, profile, folder or runs_folder())
    at = run.provenance["profile"]
    recipe = read_recipe(name, at)
    if recipe.study.variants:
        its = dict(recipe.study.variants[recipe.study.kept])
        recipe = read_recipe(name, at, its)
    prepared = prepare(recipe.data, run.provenance["seed"])
    sizes, domain = run.model.config, prepared.domain
    known = sizes.length, sizes.symbols, sizes.values
    if known != (domain.length, domain.symbols, domain.values):
        raise ValueError(
            f"The run {Path(name).stem}/{at} knows tokens of other sizes {known} than "
            f"the recipe {(domain.length, domain.symbols, domain.values)}; train it "
            "again."
        )
    return run, prepared, recipe


def _find(name: str, profile: str, folder: Path) -> Run:
    """The run in the folder that `train` writes to, else one that was recorded."""
    from biglearn_lite.runs import WEIGHTS, load_run, read_run

    for each in ("gpu", "cpu") if profile == "auto" else (profile,):
        if (folder / name / each / WEIGHTS).is_file():
            return read_run(folder / name / each)
    return load_run(name, profile)


def runs_folder() -> Path:
    """Where `train` writes to if nothing else is said."""
    return Path(os.environ.get("BIGLEARN_RUNS") or "runs")
