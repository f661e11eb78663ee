"""The file of a recipe: which parts it has, and how it is read and checked."""

from __future__ import annotations

import dataclasses
import importlib.resources
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from biglearn_lite._clouds import CloudsPart
from biglearn_lite._judge_training import JudgePart
from biglearn_lite._later import said_where_set
from biglearn_lite.claims import PROFILES, check_profile
from biglearn_lite.em_experiments import ClusteringPart, EMPart
from biglearn_lite.experiments import EXPERIMENTS, DescentPart
from biglearn_lite.gan import Adversarial
from biglearn_lite.training import Settings

LATER = (
    "flip", "labels", "labelled", "labelled_share", "imputed", "imputed_by", "shift",
    "shift_in", "novel", "per", "seen",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class DataPart:
    """What is learned from.

    Attributes:
        name: a dataset of `biglearn data list`; `"gaussians"` for experiments on
            mixtures, which make their own data.
        tokens: its domain: symbols, pixels, bits, scaled, patches or frequencies.
        size: rows and columns of a patch or block.
        held_out: share of the training set kept for validation while choosing.
        shown: share of the tokens, pixels or patches, that each training row shows;
            `"uniform"` draws it for every row from U(0.1, 1); 1: complete data.
        missing: what is done with rows that miss something: `"observed"` keeps tasks
            inside what is shown, `"complete"` drops the row, `"mean"` fills in the
            mean of the column.
        flip: whether half of the training images are mirrored, left to right, each
            time anew; not together with rows of which only a share is observed.
        labels: put the labels behind the patches, for an image-label model.
        labelled: so many training rows keep their labels, equally many of each class;
            the seed chooses them. 0: all.
        labelled_share: of a batch's rows; 0: as it comes. Few labels need a share.
        imputed: rows without a label get one while the model learns, where it is at
            least so sure, see `Imputer`; at every entry of the history. 0: never.
        imputed_by: `"bayes"`, by both answers to the question, or `"said"`, by
            `p(y | x)` alone.
        shift: training images are moved by up to so many pixels, see `data.shift`.
        shift_in: `"all"` tasks, or `"classification"`: a moved image shows its label,
            but not what images look like.
    """

    name: str
    tokens: str = "symbols"
    size: tuple[int, int] = (2, 2)
    held_out: float = 0.0
    shown: float | str = 1.0
    missing: str = "observed"
    flip: bool = False
    labels: bool = False
    labelled: int = 0
    labelled_share: float = 0.0
    imputed: float = 0.0
    imputed_by: str = "bayes"
    shift: int = 0
    shift_in: str = "all"

    def __repr__(self) -> str:
        return said_where_set(self, LATER)


@dataclass(frozen=True, repr=False)
class TaskPart:
    """`q(S, T)`.

    Attributes:
        law: `"everything"` (a `TaskSampler`) or the name of a preset.
        arguments: of the law, beside the length.
        count: take this many different tasks of the law only; 0: no limit.
        per: what the nats of a patch are counted by beside those of a label, of an
            image-label model with likelihood: `"token"`, or `"number"` in it.
    """

    law: str = "everything"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    count: int = 0
    per: str = "token"

    def __repr__(self) -> str:
        return said_where_set(self, LATER)


@dataclass(frozen=True)
class ModelPart:
    """The model: its kind, and its sizes where they are not those of the data."""

    kind: str = "any-conditional"
    width: int = 64
    depth: int = 2
    heads: int = 4
    components: int = 8
    latent: int = 32
    noise: int = 8


@dataclass(frozen=True, repr=False)
class EvaluatePart:
    """What is measured at the end: see `evaluation.MEASURES`.

    Attributes:
        measure: its name.
        rows: of the test set, at most.
        samples: joint samples of an image model; class shares need 5,000.
        every: steps between two looks at joint samples during training, which go
            into the history; a multiple of `training.log`. 0: none.
        novel: other images of the same shape, to be told from those of `data.name`.
        seen: test rows that are classified from parts, at most; 0: as `rows` says.
    """

    measure: str = "none"
    rows: int = 360
    samples: int = 5120
    every: int = 0
    novel: str = ""
    seen: int = 0

    def __repr__(self) -> str:
        return said_where_set(self, LATER)


@dataclass(frozen=True)
class StudyPart:
    """Variants of the recipe, each with several seeds.

    Attributes:
        seeds: how many.
        keep: the variant whose first seed's weights are recorded; the first if empty.
        variants: name -> {dotted key: value}.
    """

    seeds: int = 1
    keep: str = ""
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def kept(self) -> str:
        """The variant whose weights are in the record."""
        return self.keep or next(iter(self.variants))


PARTS = {
    "data": DataPart,
    "tasks": TaskPart,
    "model": ModelPart,
    "training": Settings,
    "adversarial": Adversarial,
    "evaluate": EvaluatePart,
    "descent": DescentPart,
    "em": EMPart,
    "clustering": ClusteringPart,
    "judge": JudgePart,
    "clouds": CloudsPart,
    "study": StudyPart,
}


@dataclass(frozen=True)
class Recipe:
    """All that decides a run but the seed; an experiment has no tasks or training."""

    name: str
    profile: str
    about: str
    data: DataPart
    tasks: TaskPart
    model: ModelPart
    training: Settings
    adversarial: Adversarial
    evaluate: EvaluatePart
    descent: DescentPart
    em: EMPart
    clustering: ClusteringPart
    judge: JudgePart
    clouds: CloudsPart
    study: StudyPart
    text: str = ""
    changes: Mapping[str, Any] = field(default_factory=dict)


def recipe_folder() -> Path:
    """Where the recipes are."""
    return Path(str(importlib.resources.files("biglearn_lite"))) / "recipes"


def recipe_names() -> list[str]:
    """All recipes, by name."""
    return sorted(path.stem for path in recipe_folder().glob("*.toml"))


def read_recipe(
    name: str | Path,
    profile: str = "cpu",
    changes: Mapping[str, Any] | None = None,
    variant: str = "",
) -> Recipe:
    """A recipe at a profile.

    Args:
        name: of a recipe of the package, or a path that ends in `.toml`.
        profile: `"smoke"`, `"cpu"` or `"gpu"`; its table overrides the rest.
        changes: dotted key -> value, as in `{"training.rate": 1e-3}`.
        variant: of the recipe's study, whose own changes come last.

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
    profiles = {each: _table(each, table.pop(each, {})) for each in PROFILES}
    about = table.pop("about", "")
    if unknown := set(table) - set(PARTS):
        _refuse(sorted(unknown)[0], [*PARTS, "about", *PROFILES])
    for each in profiles.values():  # also of the others: a mistake is found early
        _parts(_changed(table, dict(_flat(each))))
    changes = dict(changes or {})
    table = _changed(_changed(table, dict(_flat(profiles[profile]))), changes)
    parts = _parts(table)
    for each, its in parts["study"].variants.items():
        _check_variant(table, each, its)
    if variant:
        if variant not in (known := parts["study"].variants):
            raise ValueError(
                f"The recipe {name} has no variant {variant!r}; its variants are "
                f"{sorted(known)}."
            )
        parts = _parts(_changed(table, known[variant]))
    if changes:  # the hash in a record must not be that of the file alone
        text += f"# changed: {sorted(changes.items())!r}\n"
    return Recipe(Path(name).stem, profile, about, **parts, text=text, changes=changes)


def _read_text(name: str | Path) -> str:
    if str(name).endswith(".toml"):
        if not Path(name).is_file():
            raise FileNotFoundError(f"There is no recipe file {name}; check the path.")
        try:
            return Path(name).read_text("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(f"The recipe {name} is no text in UTF-8.") from error
    if name not in recipe_names():
        raise ValueError(
            f"There is no recipe {str(name)!r}; choose from {recipe_names()}, or give "
            "the path of a .toml file."
        )
    return (recipe_folder() / f"{name}.toml").read_text("utf-8")


def _table(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{key!r} in a recipe is a table of keys, got {value!r}.")
    return value


def _changed(table: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A table with some dotted keys put in."""
    changed = dict(table)
    if changes.get("model.kind", GAMES[0]) not in GAMES:
        changed.pop("adversarial", None)  # another kind of model plays no game
    for key, value in changes.items():
        _put(changed, key, value)
    return changed


def _parts(table: Mapping[str, Any]) -> dict[str, Any]:
    given = {part: _table(part, table.get(part, {})) for part in PARTS}
    kind = given["model"].get("kind")
    without = [each for each in EXPERIMENTS if each != kind]
    without += UNUSED if kind in EXPERIMENTS else ()
    without += [] if kind in (*GAMES, *EXPERIMENTS) else ["adversarial"]
    for part in without:
        _check_keys(part, given[part])
        if given[part]:
            raise ValueError(
                f"A recipe whose model.kind is {kind!r} has no part {part!r}; leave "
                "it out."
            )
    unused = set(without) & set(UNUSED)
    return {p: None if p in unused else _part(p, given[p]) for p in PARTS}


GAMES = ("gan", "image-label-hybrid")  # kinds of models that play one
UNUSED = ("tasks", "training", "adversarial", "evaluate")  # by experiments


def _check_variant(table: Mapping[str, Any], name: str, changes: Any) -> None:
    """A mistake in the last variant is found before the first one is trained."""
    try:
        _parts(_changed(table, _table(name, changes)))
    except ValueError as error:
        raise ValueError(f"In the variant {name!r}: {error}") from error


# values of these are tables with keys of their own
OPEN = (
    "tasks.arguments",
    "descent.schedule",
    "em.plan",
    "em.polish",
    "clustering.plan",
    "study.variants",
)


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
    before = dict(_table(part, table.get(part, {})))
    # the two ways to say one thing: the later one wins
    for pair in ({"steps", "targets"}, {"batch", "step_targets"}):
        if part == "training" and name in pair:
            for other in pair - {name}:
                before.pop(other, None)
    table[part] = {**before, name: value}


def _check_keys(part: str, values: Mapping[str, Any]) -> None:
    known = [each.name for each in dataclasses.fields(PARTS[part])]
    for key in values:
        if key not in known:
            _refuse(f"{part}.{key}", [f"{part}.{each}" for each in known])


def _part(part: str, values: Mapping[str, Any]) -> Any:
    _check_keys(part, values)
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    hints = typing.get_type_hints(PARTS[part])
    for key, value in values.items():
        if not _fits(value, hints[key]):
            raise ValueError(
                f"{part}.{key} in a recipe is of type {_written(hints[key])}, got "
                f"{value!r}."
            )
    try:
        return PARTS[part](**values)
    except TypeError as error:
        raise ValueError(f"The recipe's part {part!r} is wrong: {error}.") from error


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value of TOML has the type of an attribute."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return any(_fits(value, each) for each in arguments)
    if origin is tuple and arguments[1:] == (...,):
        return isinstance(value, tuple) and all(_fits(v, arguments[0]) for v in value)
    if origin is tuple:
        right = isinstance(value, tuple) and len(value) == len(arguments)
        return right and all(map(_fits, value, arguments))
    if hint in (int, float):  # True is an int to Python, and 1 no float
        number = (int, float) if hint is float else int
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, origin or hint)


def _written(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _refuse(key: str, known: list[str]) -> None:
    raise ValueError(f"Unknown key {key!r} in a recipe; known are {', '.join(known)}.")
