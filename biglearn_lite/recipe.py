"""A recipe: data, model, q(S, T) and optimiser, at three profiles, in one TOML file.

`read_recipe` checks every key; `train` turns a recipe into a recorded run.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from biglearn_lite import evaluation, runs, tasks
from biglearn_lite._checkpoint import CHECKPOINT, seconds_spent
from biglearn_lite._domains import Domain
from biglearn_lite._draws import first_weights
from biglearn_lite._grids import have_grids, read_grid, record_grids, write_grids
from biglearn_lite._prepare import Prepared, prepare
from biglearn_lite._recipe_file import (
    GAMES,
    ModelPart,
    Recipe,
    read_recipe,
    recipe_names,
)
from biglearn_lite.experiments import is_experiment, run_experiment
from biglearn_lite.files import make_folder
from biglearn_lite.gan import Adversarial, BigLearnGAN, GANSizes
from biglearn_lite.likelihood import (
    AnyConditionalSizes,
    AnyConditionalTransformer,
    CausalTransformer,
    causal_loss,
    matching_loss,
)
from biglearn_lite.multimodal import (
    ImageLabelModel,
    ImageLabelSizes,
    number_loss,
    row_loss,
)
from biglearn_lite.tasks import Task, TaskSampler
from biglearn_lite.training import Loss, fit

__all__ = [
    "Recipe",
    "read_grid",
    "read_recipe",
    "recipe_names",
    "record_grids",
    "train",
]

MODELS = {
    "any-conditional": (AnyConditionalTransformer, matching_loss),
    "causal": (CausalTransformer, causal_loss),
    "image-label": (ImageLabelModel, row_loss),
    # the loss of these is the recipe's part `adversarial`
    "gan": (BigLearnGAN, None),
    "image-label-hybrid": (ImageLabelModel, None),
}


# ------------------------------------------------------------------ building


def build_sampler(recipe: Recipe, length: int, seed: int = 0) -> TaskSampler:
    """`q(S, T)` of a recipe; the seed chooses the tasks if there are only a few."""
    law, arguments = recipe.tasks.law, dict(recipe.tasks.arguments)
    if recipe.model.kind == "causal" and law != "joint_only":
        raise ValueError(
            f"A causal model learns every token of a row, so its tasks.law is "
            f"'joint_only', got {law!r}."
        )
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
        return tasks.one_of(_different(sampler, recipe.tasks.count, seed))
    return sampler


PRESETS = (
    "masked_language_model",
    "masked_autoencoder",
    "next_token",
    "permutation",
    "prefix",
    "joint_only",
    "classification",
    "modalities",
    "pair",
)


def _different(
    sampler: TaskSampler, count: int, seed: int, draws: int = 100_000
) -> Task:
    """The first `count` different tasks that a law gives with this seed."""
    drawn = sampler.sample(draws, torch.Generator().manual_seed(seed))
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
    if recipe.model.kind == "causal" and prepared.batches.observed is not None:
        raise ValueError(
            "A causal model reads every token, so it cannot learn from incomplete "
            "rows; use data.missing = 'complete' or 'mean', or another model.kind."
        )
    sizes = _sizes(recipe.model, prepared.domain)
    with first_weights(seed):
        return MODELS[recipe.model.kind][0](sizes)


Sizes = AnyConditionalSizes | GANSizes | ImageLabelSizes


def _sizes(part: ModelPart, domain: Domain) -> Sizes:
    """What the recipe says of the model, and what the data say."""
    game, labels = part.kind in GAMES, part.kind.startswith("image-label")
    if labels != (domain.layout is not None):
        raise ValueError(
            f"An image-label model, and no other, learns from data.labels = true; got "
            f"model.kind = {part.kind!r}."
        )
    if game and domain.name != "scaled":
        raise ValueError(
            "A game is about values between -1 and 1, so data.tokens must be 'scaled', "
            f"got {domain.name!r}."
        )
    names = ("width", "depth", "heads", *_own(part.kind))
    its = {name: getattr(part, name) for name in names}
    if labels:
        matching = "hybrid" if game else "likelihood"
        return ImageLabelSizes(**_modalities(domain), matching=matching, **its)
    if game:
        return GANSizes(length=domain.length, values=domain.values, **its)
    kinds = {"symbols": domain.symbols, "values": domain.values}
    return AnyConditionalSizes(length=domain.length, **kinds, **its)


def _own(kind: str) -> tuple[str, ...]:
    return ("latent", "noise") if kind in GAMES else ("components",)


def _modalities(domain: Domain) -> dict[str, int]:
    """Patches and labels of a domain, in the words of `ImageLabelSizes`."""
    layout = domain.layout
    classes = layout.choices[0] if layout.labels == 1 else 0
    attributes = 0 if classes else layout.labels
    sizes = {"image": layout.image, "pixels": layout.pixels}
    return sizes | {"classes": classes, "attributes": attributes}


def loss_of(recipe: Recipe) -> Loss | Adversarial:
    """What is made small in training: the matching of the model's kind."""
    kind, per = recipe.model.kind, recipe.tasks.per
    if per not in ("token", "number"):
        raise ValueError(f"tasks.per is 'token' or 'number', got {per!r}.")
    if per == "number":
        if kind != "image-label":
            raise ValueError(
                "tasks.per = 'number' weighs patches against labels, of a model.kind "
                f"'image-label', got {kind!r}; leave it out."
            )
        return number_loss
    return MODELS[kind][1] or recipe.adversarial


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
    if is_experiment(recipe):
        return _record_experiment(recipe, seed, root)
    work = Path(root) / ".work" / recipe.name / recipe.profile
    make_folder(work)
    trained = train_model(recipe, seed, work, minutes, progress, device, resume=resume)
    if trained is None:
        return None
    model, prepared, history = trained
    began = time.monotonic()
    metrics = evaluation.measure(model, prepared, recipe.evaluate)
    folder = runs.save_run(
        root,
        recipe.name,
        recipe.profile,
        model.cpu(),
        seconds=seconds_spent(work) + time.monotonic() - began,
        seed=seed,
        history=history,
        metrics=metrics,
        recipe_text=recipe.text,
        examples=prepared.examples,
        cuda=prepared.batches.data.is_cuda,
    )
    if have_grids(prepared, recipe.evaluate):
        write_grids(folder, model, prepared)
    clear_work(work)
    return folder


def _record_experiment(recipe: Recipe, seed: int, root: str | Path) -> Path:
    """Run an experiment as a whole and record it."""
    began = time.monotonic()
    outcome = run_experiment(recipe, seed)
    return runs.save_run(
        root,
        recipe.name,
        recipe.profile,
        outcome.model,
        seconds=time.monotonic() - began,
        seed=seed,
        history=outcome.history,
        metrics=outcome.metrics,
        recipe_text=recipe.text,
    )


def clear_work(work: Path) -> None:
    """Remove a checkpoint, and the folders around it that are empty now."""
    (work / CHECKPOINT).unlink(missing_ok=True)
    for folder in (work, work.parent, work.parent.parent):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _check_looks(recipe: Recipe) -> None:
    """What is seen is written into entries of the history, so there must be one."""
    every, log = recipe.evaluate.every, recipe.training.log
    if every % log:
        raise ValueError(
            f"evaluate.every is a multiple of training.log, got {every} and {log}."
        )


def train_model(
    recipe: Recipe,
    seed: int,
    work: Path | None = None,
    minutes: float | None = None,
    progress: bool = False,
    device: str | None = None,
    resume: bool = True,
) -> tuple[torch.nn.Module, Prepared, list[dict[str, float]]] | None:
    """A trained model, its data and its history; None if the time was over before."""
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    evaluation.check_measure(recipe.evaluate)  # not only when training is over
    _check_looks(recipe)
    prepared = prepare(recipe.data, seed).to(place)
    evaluation.check_ready(prepared, recipe.evaluate)
    fresh = build_model(recipe, prepared, seed).to(place)
    matching = loss_of(recipe)
    sampler = build_sampler(recipe, prepared.domain.length, seed)
    if work is not None and not resume:  # now that the recipe has proved sound
        (work / CHECKPOINT).unlink(missing_ok=True)
    model, history, done = fit(
        fresh,
        prepared.batches,
        sampler,
        recipe.training,
        seed=seed,
        loss=matching,
        folder=work,
        minutes=minutes,
        progress=progress,
        label=recipe.name,
        watch=evaluation.watcher(prepared, recipe.evaluate),
    )
    return (model, prepared, history) if done else None
