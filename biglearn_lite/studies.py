"""Studies: variants of a recipe, each with several seeds, recorded as one run.

A comparison is fair if everything but one thing is equal, so a study is a recipe and a
list of changes. Members run side by side, each on one thread; every finished member is
a file, so a study that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import connection
from pathlib import Path
from typing import Any

from tqdm import tqdm

from biglearn_lite import runs
from biglearn_lite._checkpoint import seconds_spent
from biglearn_lite._recipe_file import GAMES
from biglearn_lite.experiments import is_experiment, run_experiment
from biglearn_lite.files import make_folder, write_atomically
from biglearn_lite.recipe import Recipe, read_recipe, train_model

__all__ = ["run_study"]

Member = tuple[str, int]  # variant and seed


def run_study(
    recipe: Recipe,
    *,
    root: str | Path = "runs",
    resume: bool = False,
    minutes: float | None = None,
    jobs: int = 1,
    progress: bool = False,
    path: str | Path | None = None,
) -> Path | None:
    """Train all variants and seeds of a recipe; record them as one run.

    Args:
        recipe: with `study.variants`.
        root: folder of runs; finished members wait in `.work` beside them.
        resume: keep the members that are there; else start afresh.
        minutes: stop after this long; members that are under way keep a checkpoint.
        jobs: members at a time, each on one thread.
        progress: show a bar.
        path: the recipe's file, if it is not one of the package.

    Returns:
        The folder of the run, whose metrics are `{"variants": {name: [metrics of seed
        0, 1, ...]}}` and whose history is that of the first seeds; None if the time was
        over before all members were finished.
    """
    work = Path(root) / ".work" / recipe.name / recipe.profile
    _check(recipe, jobs)
    make_folder(work)
    members = [(v, s) for s in range(recipe.study.seeds) for v in recipe.study.variants]
    if not resume:
        _clear(work, members)
    source = str(path or recipe.name)
    todo = [m for m in members if _read_member(recipe, source, work, m) is None]
    _run_members(recipe, source, todo, work, minutes, jobs, progress)
    found = {m: _read_member(recipe, source, work, m) for m in members}
    if None in found.values():
        return None
    return _record(recipe, root, work, found)


def _record(
    recipe: Recipe, root: str | Path, work: Path, found: dict[Member, Any]
) -> Path:
    """One run of what all members found."""
    variants = {
        v: [found[v, s]["metrics"] for s in range(recipe.study.seeds)]
        for v in recipe.study.variants
    }
    model, examples = runs._read_weights(_file(work, _kept(recipe), "safetensors"))
    return runs.save_run(
        root,
        recipe.name,
        recipe.profile,
        model,
        seconds=sum(each["seconds"] for each in found.values()),
        seed=0,
        history={v: found[v, 0]["history"] for v in recipe.study.variants},
        metrics={"variants": variants, "seeds": recipe.study.seeds},
        recipe_text=recipe.text,
        examples=examples,
        cuda=any(each.get("cuda", False) for each in found.values()),
    )


def _check(recipe: Recipe, jobs: int) -> None:
    variants = recipe.study.variants
    if not variants:
        raise ValueError(f"The recipe {recipe.name!r} has no variants; use train.")
    if recipe.study.seeds < 1 or jobs < 1:
        raise ValueError(
            f"A study needs at least 1 seed and 1 job, got {recipe.study.seeds} and "
            f"{jobs}."
        )
    if recipe.study.kept not in variants:
        raise ValueError(
            f"study.keep is one of {list(variants)}, got {recipe.study.keep!r}."
        )
    if len({_slug(variant) for variant in variants}) < len(variants):
        raise ValueError(
            "Two variants have the same letters and digits, so their files would be "
            "one; rename one of them."
        )


def _kept(recipe: Recipe) -> Member:
    """The member whose weights are recorded."""
    return recipe.study.kept, 0


def _made_with(recipe: Recipe) -> str:
    """All that decides a member but its seed."""
    parts = (recipe.data, recipe.tasks, recipe.model, recipe.training, recipe.evaluate)
    if recipe.model.kind in GAMES:
        parts = (*parts, recipe.adversarial)
    if is_experiment(recipe):
        parts = (recipe.data, recipe.model, getattr(recipe, recipe.model.kind))
    return repr(parts)


def _read_member(
    recipe: Recipe, source: str, work: Path, member: Member
) -> dict[str, Any] | None:
    """What a member found, or None if it has to be trained."""
    path = _file(work, member, "json")
    lost = member == _kept(recipe) and not _file(work, member, "safetensors").exists()
    if lost or not path.exists():
        return None
    try:
        found = json.loads(path.read_text("utf-8"))
        if {"metrics", "history", "seconds"} - set(found):
            raise ValueError("something is missing")
        wanted = _made_with(
            read_recipe(source, recipe.profile, recipe.changes, member[0])
        )
        if found.get("made_with", wanted) != wanted:
            raise ValueError("it is of another version of the recipe")
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f"The finished part {path} cannot be used ({error}); delete it to train it "
            "again, or start afresh without resuming."
        ) from error
    return found


def _run_members(
    recipe: Recipe,
    source: str,
    members: list[Member],
    work: Path,
    minutes: float | None,
    jobs: int,
    progress: bool,
) -> None:
    """Run members until all are done or the time is over."""
    began = time.monotonic()
    waiting, running = list(members), set[Future[None]]()
    # a fresh interpreter for each job: a fork would copy the threads of this one
    context = multiprocessing.get_context("spawn")
    bar = tqdm(total=len(members), desc=recipe.name, disable=not progress)
    workers = ProcessPoolExecutor(jobs, context, initializer=end_with_parent)
    with bar, workers as pool:
        while waiting or running:
            left = _left(minutes, began)
            if left == 0 and len(waiting) < len(members):  # the first ones go anyway
                waiting.clear()
            while waiting and len(running) < jobs:
                about = source, recipe.profile, waiting.pop(0), work, left
                running.add(pool.submit(run_member, *about, dict(recipe.changes)))
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for each in finished:
                each.result()  # raises what the member raised
                bar.update()


def end_with_parent() -> None:
    """Let this process end when the one that started it does, even by a signal.

    Else a study that was killed would train on, unseen, beside the one that resumes it.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)  # the checkpoint of the last minute waits

    threading.Thread(target=watch, daemon=True).start()


def _left(minutes: float | None, began: float) -> float | None:
    """Minutes that are left."""
    if minutes is None:
        return None
    return max(0.0, minutes - (time.monotonic() - began) / 60)


def run_member(
    name: str,
    profile: str,
    member: Member,
    work: Path,
    minutes: float | None = None,
    changes: Mapping[str, Any] | None = None,
) -> None:
    """Train one variant with one seed, and write down what came out."""
    import torch

    if not torch.cuda.is_available():  # members share the cores
        torch.set_num_threads(1)
    base = read_recipe(name, profile, changes)
    recipe = read_recipe(name, profile, changes, member[0])
    find = _experiment if is_experiment(recipe) else _training
    found = find(recipe, member, work, minutes, member == _kept(base))
    if found is None:  # its checkpoint waits
        return
    record = {**found, "made_with": _made_with(recipe)}
    write_atomically(_file(work, member, "json"), json.dumps(runs._plain(record)))
    if (folder := _folder(work, member)).exists():
        shutil.rmtree(folder)


Found = dict[str, Any]


def _experiment(
    recipe: Recipe, member: Member, work: Path, minutes: float | None, keep: bool
) -> Found | None:
    """A member that is an experiment: minutes at most, so it is not interrupted."""
    if minutes == 0:
        return None
    began = time.monotonic()
    outcome = run_experiment(recipe, member[1])
    if keep:
        runs._write_weights(_file(work, member, "safetensors"), outcome.model, None)
    seconds = time.monotonic() - began
    parts = {"metrics": outcome.metrics, "history": outcome.history}
    return {**parts, "seconds": seconds, "cuda": False}


def _training(
    recipe: Recipe, member: Member, work: Path, minutes: float | None, keep: bool
) -> Found | None:
    """A member that is trained and then measured; None if the time was over."""
    from biglearn_lite import evaluation

    folder = _folder(work, member)
    trained = train_model(recipe, member[1], folder, minutes)
    if trained is None:
        return None
    model, prepared, history = trained
    began = time.monotonic()
    metrics = evaluation.measure(model, prepared, recipe.evaluate)
    if recipe.evaluate.every:  # the record keeps the history of one seed only
        metrics = {**metrics, "looks": evaluation.looks(history)}
    if keep:
        path = _file(work, member, "safetensors")
        runs._write_weights(path, model.cpu(), prepared.examples)
    return {
        "metrics": metrics,
        "history": history,
        "seconds": seconds_spent(folder) + time.monotonic() - began,
        "cuda": prepared.batches.data.is_cuda,
    }


def _clear(work: Path, members: list[Member]) -> None:
    """Delete all that members left behind."""
    for member in members:
        for suffix in ("json", "safetensors"):
            _file(work, member, suffix).unlink(missing_ok=True)
        if (folder := _folder(work, member)).exists():
            shutil.rmtree(folder)


def _folder(work: Path, member: Member) -> Path:
    """Where a member that is under way keeps its checkpoint."""
    return work / f"{_slug(member[0])}-{member[1]}"


def _file(work: Path, member: Member, suffix: str) -> Path:
    """Where a member that is finished leaves something."""
    return work / f"{_folder(work, member).name}.{suffix}"


def _slug(variant: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in variant)
