"""Recorded runs: a trained model with its history, its metrics and where it comes from.

A run is a folder `<recipe>/<profile>` with `weights.safetensors` (weights, the model's
class and sizes, a few example tokens), `history.json`, `metrics.json` and
`provenance.json`. Chapters show runs, so that reading needs no training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
import math
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from biglearn_lite.claims import PROFILES, check_profile
from biglearn_lite.machine import device_name, today, versions

WEIGHTS = "weights.safetensors"
RECORDS = ("history", "metrics", "provenance")
EXAMPLES = "biglearn.examples"  # the one tensor in the weights that isn't a weight

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Kind:
    """How a class of models goes into a file and comes back.

    Attributes:
        pack: model -> (sizes as plain values, tensors by name).
        build: the same two -> model.
    """

    pack: Callable[[Any], tuple[dict[str, Any], Tensors]]
    build: Callable[[dict[str, Any], Tensors], Any]


KINDS: dict[str, Kind] = {}


def register_module(module: type, sizes: type) -> None:
    """Let runs hold a `torch.nn.Module` made by `module(sizes(...))`.

    Args:
        module: the class; it keeps its sizes as `model.config`.
        sizes: the frozen dataclass of its sizes.
    """

    def build(config: dict[str, Any], tensors: Tensors) -> Any:
        return _build_module(module, sizes, config, tensors)

    KINDS[module.__name__] = Kind(_pack_module, build)


def _pack_module(model: Any) -> tuple[dict[str, Any], Tensors]:
    return dataclasses.asdict(model.config), model.state_dict()


def _pack_half(model: Any) -> tuple[dict[str, Any], Tensors]:
    config, tensors = _pack_module(model)
    if config.get("matching") == "likelihood":  # densities keep all their digits
        return config, tensors
    return config, {name: tensor.half() for name, tensor in tensors.items()}


def _build_module(
    module: type, sizes: type, config: dict[str, Any], tensors: Tensors
) -> Any:
    model = module(sizes(**config))
    model.load_state_dict(tensors)
    return model.eval()


def _pack_mixture(mixture: Any) -> tuple[dict[str, Any], Tensors]:
    tiny = mixture.weights < torch.finfo(mixture.weights.dtype).tiny
    if (tiny & mixture._log_weights.isfinite()).any():
        raise ValueError(
            "A weight of this mixture is too small to save; save what it came from."
        )
    return {}, {n: getattr(mixture, n) for n in ("weights", "means", "covariances")}


def _build_mixture(config: dict[str, Any], tensors: Tensors) -> Any:
    from biglearn_lite.mixtures import GaussianMixture

    return GaussianMixture(**config, **tensors)


def _build_universal(config: dict[str, Any], tensors: Tensors) -> Any:
    from biglearn_lite.mixtures import UniversalMixture

    return UniversalMixture(_build_mixture(config, tensors))


def _later(where: str, module: str, sizes: str, half: bool = False) -> Kind:
    """As `register_module`, but imports the module only when a run holds it.

    `half` keeps weights in half precision; they come back in single precision.
    """

    def build(config: dict[str, Any], tensors: Tensors) -> Any:
        home = importlib.import_module(f"biglearn_lite.{where}")
        kind = getattr(home, module), getattr(home, sizes)
        return _build_module(*kind, config, tensors)

    return Kind(_pack_half if half else _pack_module, build)


for _name in ("AnyConditionalTransformer", "CausalTransformer"):
    KINDS[_name] = _later("likelihood", _name, "AnyConditionalSizes")
KINDS["BigLearnGAN"] = _later("gan", "BigLearnGAN", "GANSizes", half=True)
KINDS["ImageLabelModel"] = _later(
    "multimodal", "ImageLabelModel", "ImageLabelSizes", half=True
)
KINDS["Judges"] = _later("metrics", "Judges", "JudgeSizes", half=True)
KINDS["GaussianMixture"] = Kind(_pack_mixture, _build_mixture)
KINDS["UniversalMixture"] = Kind(lambda m: _pack_mixture(m.mixture), _build_universal)


@dataclass(frozen=True)
class Run:
    """A recorded run.

    Attributes:
        model: ready to sample, on the CPU.
        history: what was written down during training.
        metrics: what was measured at the end.
        provenance: recipe, profile, device, date, seconds, seed, versions, commit and
            the hash of the recipe.
        examples: (N, L, P) or (N, L) tokens of the kind that the model knows, or None.
        folder: that it was read from.
    """

    model: Any
    history: Any
    metrics: dict[str, Any]
    provenance: dict[str, Any]
    examples: torch.Tensor | None = None
    folder: Path | None = None

    def example_batch(self, n: int) -> torch.Tensor:
        """The first `n` example tokens of the record: (n, L, P) or (n, L).

        Raises:
            ValueError: if fewer were recorded.
        """
        recorded = 0 if self.examples is None else len(self.examples)
        if not 1 <= n <= recorded:
            raise ValueError(
                f"example_batch has {recorded} recorded examples, so n={n} cannot be "
                "given; ask for fewer, or take tokens from `load`."
            )
        return self.examples[:n].clone()


# ------------------------------------------------------------------ writing


def save_run(
    root: str | Path,
    recipe: str,
    profile: str,
    model: Any,
    *,
    seconds: float,
    seed: int,
    history: Any = (),
    metrics: dict[str, Any] | None = None,
    recipe_text: str = "",
    examples: torch.Tensor | None = None,
    cuda: bool = False,
) -> Path:
    """Write a run to `root/recipe/profile`; an older one is replaced as a whole.

    Everything is written into a temporary folder beside it, which is then moved.

    Args:
        root: folder of runs.
        recipe: name of the recipe: letters, digits, `-` and `_`.
        profile: `"smoke"`, `"cpu"` or `"gpu"`.
        model: of a class in `KINDS`.
        seconds: that training took.
        seed: of the run's generator.
        history: plain values, tensors of any size; NaN becomes null.
        metrics: the same, by name.
        recipe_text: the recipe as written; its hash is kept.
        examples: tokens to try the model on; only what may be published.
        cuda: whether the run was on a CUDA card (then its name is recorded).

    Returns:
        The folder of the run.

    Raises:
        ValueError: for a bad name, an unknown profile, or a model that cannot be kept.
    """
    folder = Path(root) / _checked(recipe) / check_profile(profile)
    provenance = {
        "recipe": recipe,
        "profile": profile,
        "device": device_name(cuda),
        "date": today(),
        "seconds": round(float(seconds), 1),
        "seed": int(seed),
        "versions": versions(),
        "commit": _commit(),
        "recipe_sha256": hashlib.sha256(recipe_text.encode()).hexdigest(),
    }
    records = {"history": history, "metrics": metrics or {}, "provenance": provenance}
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, suffix=".tmp"))
    try:
        temporary.chmod(0o755)  # mkdtemp gives 0700
        _write_weights(temporary / WEIGHTS, model, examples)
        for name, record in records.items():
            text = json.dumps(_plain(record), indent=1, sort_keys=True)
            (temporary / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        _replace(folder, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _write_weights(path: Path, model: Any, examples: torch.Tensor | None) -> None:
    from safetensors.torch import save

    name = type(model).__name__
    if name not in KINDS:
        raise ValueError(
            f"A run cannot hold a {name}; it knows {sorted(KINDS)} "
            "(runs.register_module adds a class)."
        )
    config, tensors = KINDS[name].pack(model)
    if examples is not None:
        tensors = {**tensors, EXAMPLES: examples}
    whole = {key: t.detach().cpu().contiguous().clone() for key, t in tensors.items()}
    metadata = {"model": name, "config": json.dumps(config, sort_keys=True)}
    path.write_bytes(_in_one_order(save(whole, metadata=metadata)))


def _in_one_order(file: bytes) -> bytes:
    """The same safetensors file with its metadata sorted by key.

    safetensors keeps metadata in a hash map that every process orders anew, so
    equal runs would give unequal files. A file is eight bytes that give the length
    of the header, the header (JSON, padded with spaces), and the tensors.
    """
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start])
    header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    return file[:8] + text.ljust(start - 8) + file[start:]


def _replace(folder: Path, temporary: Path) -> None:
    """Move the new folder to its place; the old one comes back if that fails."""
    old = temporary.with_suffix(".old.tmp")
    if folder.exists():
        folder.rename(old)
    try:
        temporary.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _plain(value: Any) -> Any:
    """Values that JSON knows: tensors become lists, NaN and infinity null."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    return value


def _commit() -> str | None:
    """The commit of the checkout this package is in, or None outside one."""
    here = Path(__file__).resolve().parents[1]
    if not (here / ".git").exists():
        return None
    command = ["git", "-C", str(here), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _checked(recipe: str) -> str:
    if not re.fullmatch(r"[\w-]+", recipe):
        raise ValueError(
            f"A recipe's name has letters, digits, '-' and '_' only, not {recipe!r}."
        )
    return recipe


# ------------------------------------------------------------------ reading


def load_run(recipe: str, profile: str | None = None) -> Run:
    """A recorded run, from `$BIGLEARN_RUNS`, the checkout, or the package.

    Args:
        recipe: name of the recipe.
        profile: `"cpu"`, `"gpu"` or `"smoke"`; None or `"auto"` takes the gpu record
            if there is one anywhere, else the cpu record.

    Returns:
        The run, its model on the CPU.

    Raises:
        ValueError: for an unknown profile, or files that are damaged or foreign.
        FileNotFoundError: if there is no such record; lists those that there are.
    """
    _checked(recipe)
    auto = profile in (None, "auto")
    for each in ("gpu", "cpu") if auto else (check_profile(profile),):
        for root in run_folders():
            if (root / recipe / each / WEIGHTS).is_file():
                return read_run(root / recipe / each)
    found = sorted({f"{path.parent.name}/{path.name}" for path in recorded()})
    wanted = recipe if auto else f"{recipe}/{profile}"
    raise FileNotFoundError(
        f"There is no recorded run {wanted!r}; recorded are: "
        f"{', '.join(found) or 'none'}. Name another, or set $BIGLEARN_RUNS to the "
        "folder that has it."
    )


def run_folders() -> list[Path]:
    """Where runs are looked for, in order."""
    package = Path(__file__).resolve().parent
    places = os.environ.get("BIGLEARN_RUNS"), package.parent / "book" / "runs"
    return [Path(each) for each in (*places, package / "recorded") if each]


def recorded() -> Iterator[Path]:
    """The folders of all runs that can be loaded."""
    for root in run_folders():
        for path in sorted(root.glob(f"*/*/{WEIGHTS}")):
            if path.parent.name in PROFILES:  # not a temporary one
                yield path.parent


def read_run(folder: str | Path) -> Run:
    """The run in one folder.

    Raises:
        ValueError: if a file is missing, damaged, or not of this package.
    """
    folder = Path(folder)
    recipe, profile = folder.absolute().parts[-2:]
    try:
        history, metrics, provenance = (
            json.loads((folder / f"{each}.json").read_text("utf-8")) for each in RECORDS
        )
        if not (isinstance(metrics, dict) and isinstance(provenance, dict)):
            raise ValueError("metrics and provenance must be JSON objects")
        if (provenance["recipe"], provenance["profile"]) != (recipe, profile):
            raise ValueError("its provenance is that of another run")
        model, examples = _read_weights(folder / WEIGHTS)
    except Exception as error:  # foreign bytes can fail in any way
        lost = isinstance(error, FileNotFoundError) and error.filename
        problem = f"{Path(lost).name} is missing" if lost else str(error).rstrip(".")
        raise ValueError(
            f"The run '{recipe}/{profile}' is damaged ({' '.join(problem.split())}); "
            "restore it or train it again."
        ) from error
    return Run(model, history, metrics, provenance, examples, folder)


def _read_weights(path: Path) -> tuple[Any, torch.Tensor | None]:
    """Model and examples."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    kind = KINDS.get(metadata.get("model", ""))
    if kind is None:
        raise ValueError(f"it holds a {metadata.get('model')!r}, not {set(KINDS)}")
    examples = tensors.pop(EXAMPLES, None)
    return kind.build(json.loads(metadata["config"]), tensors), examples
