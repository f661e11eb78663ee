"""Studies: variants of a recipe, each with several seeds, recorded as one run.

A comparison is fair if everything but one thing is equal, so a study is a recipe and a
list of changes. Members run side by side, each on one thread; every finished member is
a file, so a study that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any

from tqdm import tqdm

from biglearn_lite import runs
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
        minutes: start no member after this long.
        jobs: members at a time, each on one thread.
        progress: show a bar.
        path: the recipe's file, if it is not one of the package.

    Returns:
        The folder of the run, whose metrics are `{"variants": {name: [metrics of seed
        0, 1, ...]}}` and whose history is that of the first seeds; None if the time was
        over before all members were finished.
    """
    work = Path(root) / ".work" / recipe.name / recipe.profile
    make_folder(work)
    members = [(v, s) for s in range(recipe.study.seeds) for v in recipe.study.variants]
    if not resume:
        for member in members:
            for suffix in ("json", "safetensors"):
                _file(work, member, suffix).unlink(missing_ok=True)
    todo = [m for m in members if not _file(work, m, "json").exists()]
    _run_members(recipe, todo, work, minutes, jobs, progress, path)
    if any(not _file(work, m, "json").exists() for m in members):
        return None
    found = {m: json.loads(_file(work, m, "json").read_text()) for m in members}
    variants = {
        v: [found[v, s]["metrics"] for s in range(recipe.study.seeds)]
        for v in recipe.study.variants
    }
    keep = recipe.study.keep or next(iter(recipe.study.variants))
    model, examples = runs._read_weights(_file(work, (keep, 0), "safetensors"))
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
    )


def _run_members(
    recipe: Recipe,
    members: list[Member],
    work: Path,
    minutes: float | None,
    jobs: int,
    progress: bool,
    path: str | Path | None,
) -> None:
    """Run members until all are done or the time is over."""
    began = time.monotonic()
    waiting, running = list(members), set[Future[None]]()
    # a fresh interpreter for each job: a fork would copy the threads of this one
    context = multiprocessing.get_context("spawn")
    bar = tqdm(total=len(members), desc=recipe.name, disable=not progress)
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        while waiting or running:
            over = minutes is not None and time.monotonic() - began > 60 * minutes
            if over:
                waiting.clear()
            while waiting and len(running) < jobs:
                source = str(path or recipe.name), recipe.profile
                running.add(pool.submit(run_member, *source, waiting.pop(0), work))
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for each in finished:
                each.result()  # raises what the member raised
                bar.update()
    bar.close()


def run_member(name: str, profile: str, member: Member, work: Path) -> None:
    """Train one variant with one seed, and write down what came out."""
    import torch

    from biglearn_lite import evaluation

    torch.set_num_threads(1)
    variant, seed = member
    base = read_recipe(name, profile)
    recipe = read_recipe(name, profile, dict(base.study.variants[variant]))
    began = time.monotonic()
    folder = work / f"{_slug(variant)}-{seed}"
    trained = train_model(recipe, seed, folder)
    assert trained is not None  # no time limit was given
    model, prepared, history = trained
    metrics = evaluation.measure(model, prepared, recipe.evaluate)
    keep = base.study.keep or next(iter(base.study.variants))
    if (variant, seed) == (keep, 0):
        path = _file(work, member, "safetensors")
        runs._write_weights(path, model.cpu(), prepared.examples)
    record: dict[str, Any] = {
        "metrics": metrics,
        "history": history,
        "seconds": time.monotonic() - began,
    }
    write_atomically(_file(work, member, "json"), json.dumps(runs._plain(record)))
    _remove(folder)


def _file(work: Path, member: Member, suffix: str) -> Path:
    return work / f"{_slug(member[0])}-{member[1]}.{suffix}"


def _slug(variant: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in variant)


def _remove(folder: Path) -> None:
    for path in folder.glob("*"):
        path.unlink()
    if folder.exists():
        folder.rmdir()
