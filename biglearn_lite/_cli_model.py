"""The commands about models: train and evaluate, and a place for all of them.

What a command needs is imported inside it, so that `biglearn --help` answers at once.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from biglearn_lite._cli_complete import complete, sample
from biglearn_lite._cli_runs import (
    Profile,
    RecipeName,
    Runs,
    Seed,
    recorded,
    runs_folder,
)

Changes = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change the recipe: training.rate=1e-3."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `biglearn`."""
    say = app.command
    say(epilog="Examples: biglearn train --list; biglearn train sums; "
        "biglearn train digits --profile gpu --minutes 30 --resume; "
        "biglearn train one-objective --jobs 2; "
        "biglearn train sums --set training.rate=1e-3")(train)  # fmt: skip
    say(epilog="Examples: biglearn sample sums -n 5; "
        "biglearn sample digits --output digits.png")(sample)  # fmt: skip
    say(epilog="Examples: biglearn complete sums 37+..=085; "
        "biglearn complete digits --given top --index 3; "
        "biglearn complete digits --given random:0.3")(complete)  # fmt: skip
    say(epilog="Examples: biglearn evaluate sums; "
        "biglearn evaluate digits --profile smoke")(evaluate)  # fmt: skip


# ------------------------------------------------------------------ train


def train(
    recipe: Annotated[
        str, typer.Argument(help="Name of a recipe, or a .toml file.")
    ] = "",
    profile: Annotated[
        str, typer.Option(help="smoke: seconds; cpu: a laptop; gpu: one card.")
    ] = "cpu",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where training stopped.")
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(min=0, help="Stop after so long; --resume goes on."),
    ] = None,
    seed: Seed = 0,
    output: Annotated[
        Path | None, typer.Option(help="Folder of runs [$BIGLEARN_RUNS or ./runs].")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=1, help="Members of a study that train side by side.")
    ] = 1,
    changes: Changes = None,
    listed: Annotated[bool, typer.Option("--list", help="List the recipes.")] = False,
) -> None:
    """Train a recipe, measure the model, and record the run."""
    if listed:
        _list_recipes()
        return
    if not recipe:
        raise ValueError("Name a recipe; `biglearn train --list` shows them.")
    from biglearn_lite.recipe import read_recipe
    from biglearn_lite.recipe import train as train_recipe
    from biglearn_lite.runs import read_run
    from biglearn_lite.studies import run_study

    chosen = read_recipe(recipe, profile, _changes(changes))
    common: dict[str, Any] = {
        "root": output or runs_folder(),
        "resume": resume,
        "minutes": minutes,
        "progress": sys.stderr.isatty(),
    }
    if chosen.study.variants:
        if seed:
            raise ValueError(
                "A study has seeds 0, 1, ... of its own: --set study.seeds=3 says how "
                "many; leave --seed out."
            )
        folder = run_study(chosen, jobs=jobs, path=recipe, **common)
    else:
        folder = train_recipe(chosen, seed=seed, **common)
    if folder is None:
        print("Stopped, as the time is over; go on with --resume.")
        return
    print(f"Recorded in {folder}.")
    _print_metrics(read_run(folder).metrics)


def _list_recipes() -> None:
    """Name and purpose of every recipe, without waiting for torch."""
    paths = (Path(__file__).parent / "recipes").glob("*.toml")
    paths = sorted(paths, key=lambda path: path.stem)
    width = max(len(path.stem) for path in paths) + 2
    for path in paths:
        about = tomllib.loads(path.read_text("utf-8")).get("about", "")
        print(f"{path.stem:<{width}}{about}")


def _changes(pairs: list[str] | None) -> dict[str, Any]:
    """`["training.rate=1e-3"]` as `{"training.rate": 0.001}`: values as in TOML."""
    changes = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise ValueError(f"--set takes KEY=VALUE, got {pair!r}.")
        if key in changes:
            raise ValueError(f"--set {key} is given twice; keep one.")
        try:
            changes[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            changes[key] = value  # a word without quotes
    return changes


def _print_metrics(metrics: Mapping[str, Any]) -> None:
    """A line for each number; of a study a line for each variant."""
    if "variants" not in metrics:
        for name, value in _flat(metrics).items():
            print(f"  {name:<32}{_number(value):>10}")
        return
    rows = {name: _mean(seeds) for name, seeds in metrics["variants"].items()}
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    print(f"The mean over {metrics['seeds']} seeds:")
    for name in columns:
        print(f"  {name}")
        for variant, row in rows.items():
            if name in row:
                print(f"    {variant:<30}{_number(row[name]):>10}")


def _mean(seeds: list[Mapping[str, Any]]) -> dict[str, float]:
    flat = [_flat(each) for each in seeds]
    return {
        name: sum(each[name] for each in flat) / len(flat)
        for name in flat[0]
        if all(isinstance(each.get(name), (int, float)) for each in flat)
    }


def _flat(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested metrics by their path: `autoregressive, forwards`."""
    flat: dict[str, Any] = {}
    for key, value in metrics.items():
        name = f"{prefix}{key}"
        nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{name}, ") if nested else {name: value}
    return flat


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, (int, float)) else "-"


# ------------------------------------------------------------------ evaluate


def evaluate(recipe: RecipeName, profile: Profile = "auto", runs: Runs = None) -> None:
    """Measure the model of a recorded run again, beside what was recorded."""
    from biglearn_lite.evaluation import measure

    run, prepared, chosen = recorded(recipe, profile, runs)
    found = _flat(measure(run.model, prepared, chosen.evaluate))
    before = run.metrics
    if chosen.study.variants:
        before = before["variants"][chosen.study.kept][0]
    before = _flat(before)
    print(f"{'':<34}{'recorded':>10}{'now':>10}")
    for name in dict.fromkeys((*before, *found)):
        then, now = _number(before.get(name)), _number(found.get(name))
        print(f"{name:<34}{then:>10}{now:>10}")
