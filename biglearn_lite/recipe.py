"""A recipe: data, model, q(S, T) and optimiser, at three profiles, in one TOML file.

`read_recipe` checks every key; `train` turns a recipe into a recorded run.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import time
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from biglearn_lite import evaluation, runs, tasks
from biglearn_lite._checkpoint import CHECKPOINT
from biglearn_lite._prepare import Prepared, prepare
from biglearn_lite.claims import PROFILES, check_profile
from biglearn_lite.files import make_folder
from biglearn_lite.likelihood import (
    AnyConditionalSizes,
    AnyConditionalTransformer,
    CausalTransformer,
    causal_loss,
    matching_loss,
)
from biglearn_lite.tasks import Task, TaskSampler
from biglearn_lite.training import Settings, fit

__all__ = ["Recipe", "read_recipe", "recipe_names", "train"]

MODELS = {
    "any-conditional": (AnyConditionalTransformer, matching_loss),
    "causal": (CausalTransformer, causal_loss),
}
for _model, _ in MODELS.values():
    runs.register_module(_model, AnyConditionalSizes)


@dataclass(frozen=True)
class DataPart:
    """What is learned from.

    Attributes:
        name: a dataset of `biglearn data list`.
        tokens: its domain: symbols, pixels, bits, patches or frequencies.
        size: rows and columns of a patch or block.
        held_out: share of the training set kept for validation while choosing.
        shown: share of the tokens that each training row shows; `"uniform"` draws it
            for every row from U(0.1, 1); 1: complete data.
        missing: what is done with rows that miss something: `"observed"` keeps tasks
            inside what is shown, `"complete"` drops the row, `"mean"` fills in the
            mean of the column.
    """

    name: str
    tokens: str = "symbols"
    size: tuple[int, int] = (2, 2)
    held_out: float = 0.0
    shown: float | str = 1.0
    missing: str = "observed"


@dataclass(frozen=True)
class TaskPart:
    """`q(S, T)`.

    Attributes:
        law: `"everything"` (a `TaskSampler`) or the name of a preset.
        arguments: of the law, beside the length.
        count: take this many different tasks of the law only; 0: no limit.
    """

    law: str = "everything"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    count: int = 0


@dataclass(frozen=True)
class ModelPart:
    """The model: its kind, and its sizes where they are not those of the data."""

    kind: str = "any-conditional"
    width: int = 64
    depth: int = 2
    heads: int = 4
    components: int = 8


@dataclass(frozen=True)
class EvaluatePart:
    """What is measured at the end: see `evaluation.MEASURES`."""

    measure: str = "none"
    rows: int = 360
    tasks: int = 64


@dataclass(frozen=True)
class StudyPart:
    """Variants of the recipe, each with several seeds.

    Attributes:
        seeds: how many.
        keep: the variant whose first seed's weights are recorded.
        variants: name -> {dotted key: value}.
    """

    seeds: int = 1
    keep: str = ""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


PARTS = {
    "data": DataPart,
    "tasks": TaskPart,
    "model": ModelPart,
    "training": Settings,
    "evaluate": EvaluatePart,
    "study": StudyPart,
}


@dataclass(frozen=True)
class Recipe:
    """All that decides a run but the seed."""

    name: str
    profile: str
    about: str
    data: DataPart
    tasks: TaskPart
    model: ModelPart
    training: Settings
    evaluate: EvaluatePart
    study: StudyPart
    text: str = ""


def recipe_folder() -> Path:
    """Where the recipes are."""
    return Path(str(importlib.resources.files("biglearn_lite"))) / "recipes"


def recipe_names() -> list[str]:
    """All recipes, by name."""
    return sorted(path.stem for path in recipe_folder().glob("*.toml"))


def read_recipe(
    name: str | Path, profile: str = "cpu", changes: Mapping[str, Any] | None = None
) -> Recipe:
    """A recipe at a profile.

    Args:
        name: of a recipe of the package, or a path that ends in `.toml`.
        profile: `"smoke"`, `"cpu"` or `"gpu"`; its table overrides the rest.
        changes: dotted key -> value, as in `{"training.rate": 1e-3}`.

    Raises:
        ValueError: for an unknown recipe, profile or key, or values that do not fit.
        FileNotFoundError: for a path that is not there.
    """
    check_profile(profile)
    text = _read_text(name)
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"The recipe {name} is no valid TOML: {error}.") from error
    for each in PROFILES:
        for key, value in _flat(table.pop(each, {})):
            if each == profile:
                _put(table, key, value)
    for key, value in (changes or {}).items():
        _put(table, key, value)
    about = table.pop("about", "")
    if unknown := set(table) - set(PARTS):
        _refuse(sorted(unknown)[0], [*PARTS, "about", *PROFILES])
    parts = {part: _part(part, table.get(part, {})) for part in PARTS}
    return Recipe(Path(name).stem, profile, about, **parts, text=text)


def _read_text(name: str | Path) -> str:
    if str(name).endswith(".toml"):
        return Path(name).read_text("utf-8")
    if name not in recipe_names():
        raise ValueError(
            f"There is no recipe {str(name)!r}; choose from {recipe_names()}, or give "
            "the path of a .toml file."
        )
    return (recipe_folder() / f"{name}.toml").read_text("utf-8")


# values of these are tables with keys of their own
OPEN = ("tasks.arguments", "study.variants")


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) of a nested table; open tables are values."""
    pairs = []
    for key, value in table.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, dict) and dotted not in OPEN:
            pairs += _flat(value, f"{dotted}.")
        else:
            pairs.append((dotted, value))
    return pairs


def _put(table: dict[str, Any], key: str, value: Any) -> None:
    part, _, name = key.partition(".")
    if part not in PARTS or not name:
        _refuse(key, [f"{part}.<key>" for part in PARTS])
    table.setdefault(part, {})
    # the two ways to say one thing: the later one wins
    for pair in ({"steps", "targets"}, {"batch", "step_targets"}):
        if part == "training" and name in pair:
            for other in pair - {name}:
                table[part].pop(other, None)
    table[part] = {**table[part], name: value}


def _part(part: str, values: Mapping[str, Any]) -> Any:
    known = [each.name for each in dataclasses.fields(PARTS[part])]
    for key in values:
        if key not in known:
            _refuse(f"{part}.{key}", [f"{part}.{each}" for each in known])
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        return PARTS[part](**values)
    except TypeError as error:
        raise ValueError(f"The recipe's part {part!r} is wrong: {error}.") from error


def _refuse(key: str, known: list[str]) -> None:
    raise ValueError(f"Unknown key {key!r} in a recipe; known are {', '.join(known)}.")


# ------------------------------------------------------------------ building


def build_sampler(recipe: Recipe, length: int) -> TaskSampler:
    """`q(S, T)` of a recipe."""
    law, arguments = recipe.tasks.law, dict(recipe.tasks.arguments)
    makers = {"everything": TaskSampler} | {
        name: getattr(tasks, name) for name in PRESETS
    }
    if law not in makers:
        raise ValueError(f"tasks.law is one of {sorted(makers)}, got {law!r}.")
    try:
        sampler = makers[law](length, **arguments)
    except TypeError as error:
        raise ValueError(f"tasks.arguments do not fit {law!r}: {error}.") from error
    if recipe.tasks.count:
        return tasks.one_of(_different(sampler, recipe.tasks.count))
    return sampler


PRESETS = (
    "masked_language_model",
    "masked_autoencoder",
    "next_token",
    "permutation",
    "prefix",
    "joint_only",
    "classification",
    "pair",
)


def _different(sampler: TaskSampler, count: int, draws: int = 100_000) -> Task:
    """The first `count` different tasks that a law gives; the same ones every time."""
    drawn = sampler.sample(draws, torch.Generator().manual_seed(0))
    seen: dict[bytes, int] = {}
    codes = (drawn.source.byte() + 2 * drawn.target.byte()).numpy()
    for row, code in enumerate(codes):
        seen.setdefault(code.tobytes(), row)
        if len(seen) == count:
            return drawn[list(seen.values())]
    raise ValueError(
        f"This law has only {len(seen)} different tasks in {draws} draws, not {count}; "
        "lower tasks.count."
    )


def build_model(recipe: Recipe, prepared: Prepared, seed: int) -> torch.nn.Module:
    """A fresh model; the seed decides its weights, and no global state changes."""
    if recipe.model.kind not in MODELS:
        raise ValueError(
            f"model.kind is one of {sorted(MODELS)}, got {recipe.model.kind!r}."
        )
    domain = prepared.domain
    sizes = AnyConditionalSizes(
        length=domain.length,
        symbols=domain.symbols,
        values=domain.values,
        components=recipe.model.components,
        width=recipe.model.width,
        depth=recipe.model.depth,
        heads=recipe.model.heads,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MODELS[recipe.model.kind][0](sizes)


# ------------------------------------------------------------------ training


def train(
    recipe: Recipe,
    *,
    seed: int = 0,
    root: str | Path = "runs",
    resume: bool = False,
    minutes: float | None = None,
    progress: bool = False,
    device: str | None = None,
) -> Path | None:
    """Train a recipe and record the run in `root/<recipe>/<profile>`.

    Args:
        recipe: from `read_recipe`.
        seed: of weights, batches, tasks and noise.
        root: folder of runs; the checkpoint is beside them, in `.work`.
        resume: go on from the checkpoint; else one that is there is deleted.
        minutes: stop after this long; go on later with `resume`.
        progress: show bars.
        device: None takes a CUDA card if there is one.

    Returns:
        The folder of the run; None if the time was over before it was finished.

    Raises:
        ValueError: if the recipe does not fit, or the checkpoint cannot be used.
        TrainingError: if the loss is no longer finite.
    """
    work = Path(root) / ".work" / recipe.name / recipe.profile
    make_folder(work)
    if not resume:
        (work / CHECKPOINT).unlink(missing_ok=True)
    began = time.monotonic()
    trained = train_model(recipe, seed, work, minutes, progress, device)
    if trained is None:
        return None
    model, prepared, history = trained
    metrics = evaluation.measure(model, prepared, recipe.evaluate, progress)
    folder = runs.save_run(
        root,
        recipe.name,
        recipe.profile,
        model.cpu(),
        seconds=time.monotonic() - began,
        seed=seed,
        history=history,
        metrics=metrics,
        recipe_text=recipe.text,
        examples=prepared.examples,
        cuda=prepared.batches.data.is_cuda,
    )
    (work / CHECKPOINT).unlink(missing_ok=True)
    return folder


def train_model(
    recipe: Recipe,
    seed: int,
    work: Path | None = None,
    minutes: float | None = None,
    progress: bool = False,
    device: str | None = None,
    label: str = "",
) -> tuple[torch.nn.Module, Prepared, list[dict[str, float]]] | None:
    """A trained model, its data and its history; None if the time was over before."""
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    prepared = prepare(recipe.data, seed).to(place)
    model, history, done = fit(
        build_model(recipe, prepared, seed).to(place),
        prepared.batches,
        build_sampler(recipe, prepared.domain.length),
        recipe.training,
        seed=seed,
        loss=MODELS[recipe.model.kind][1],
        folder=work,
        minutes=minutes,
        progress=progress,
        label=label or recipe.name,
    )
    return (model, prepared, history) if done else None
