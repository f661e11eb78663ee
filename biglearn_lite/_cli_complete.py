"""The commands `biglearn sample` and `biglearn complete`.

What a command needs is imported inside it, so that `biglearn --help` answers at once.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biglearn_lite._cli_runs import Profile, RecipeName, Runs, Seed, recorded

if TYPE_CHECKING:
    from torch import Tensor

    from biglearn_lite._prepare import Prepared
    from biglearn_lite._recipe_file import Recipe
    from biglearn_lite.runs import Run
    from biglearn_lite.tasks import Task

ROWS = 32  # sampled at a time, so that a bar can move
SHOWN = 10  # completions that are printed
ASKED, ABSENT = ".?", "_"  # in a text to complete

Picture = Annotated[
    Path | None, typer.Option(help="The PNG to write [RECIPE-COMMAND.png].")
]


# ------------------------------------------------------------------ sample


def sample(
    recipe: RecipeName,
    profile: Profile = "auto",
    n: Annotated[int, typer.Option("-n", min=1, help="How many.")] = 16,
    seed: Seed = 0,
    runs: Runs = None,
    output: Picture = None,
) -> None:
    """Draw samples from a recorded run: sums as lines, images as a PNG."""
    import torch

    from biglearn_lite.tasks import Task

    run, prepared, _ = recorded(recipe, profile, runs)
    generator = torch.Generator().manual_seed(seed)
    joint = Task.joint(n, run.model.length)
    drawn = _draw(run, _nothing(prepared, n), joint, generator)
    if prepared.law is not None:
        print("\n".join(_texts(drawn)))
        return
    images = list(prepared.domain.restore(drawn))
    _write_grid(output or _png(recipe, "sample"), images, min(n, 8))


def _nothing(prepared: Prepared, rows: int) -> Tensor:
    """Tokens of which nothing is known."""
    import torch

    domain = prepared.domain
    if domain.symbols:
        return torch.zeros(rows, domain.length, dtype=torch.int64)
    return torch.zeros(rows, domain.length, domain.values)


def _draw(run: Run, x: Tensor, task: Task, generator: Any) -> Tensor:
    """Samples, some rows at a time."""
    import torch
    from tqdm import tqdm

    if not hasattr(run.model, "sample"):
        raise ValueError(
            f"The model of this run is a {type(run.model).__name__}, which gives "
            "probabilities of whole rows only; take a run of an any-conditional model."
        )
    parts = [slice(i, i + ROWS) for i in range(0, len(x), ROWS)]
    bar = tqdm(parts, "sampling", leave=False, delay=2, disable=None)
    return torch.cat([run.model.sample(x[p], task[p], generator) for p in bar])


# ------------------------------------------------------------------ complete


def complete(
    recipe: RecipeName,
    text: Annotated[
        str,
        typer.Argument(
            help="A sum: dots or question marks are asked for, _ is left out."
        ),
    ] = "",
    given: Annotated[
        str,
        typer.Option(help="Of an image: top, bottom, left, right, none or random:0.3."),
    ] = "",
    index: Annotated[
        int, typer.Option(min=0, help="Which of the recorded examples.")
    ] = 0,
    n: Annotated[int, typer.Option("-n", min=1, help="Completions.")] = 6,
    profile: Profile = "auto",
    seed: Seed = 0,
    runs: Runs = None,
    output: Picture = None,
) -> None:
    """Complete a part: of a sum with probabilities, of an image as a PNG."""
    import torch

    run, prepared, chosen = recorded(recipe, profile, runs)
    generator = torch.Generator().manual_seed(seed)
    if prepared.law is not None:
        if given or not text:
            raise ValueError(
                "Give a sum with dots at what is asked for, as in `biglearn complete "
                f"{recipe} 37+..=085`; --given is for images."
            )
        _complete_text(run, prepared, text, generator)
        return
    if text:
        raise ValueError(f"{recipe} is about images: say --given top, not {text!r}.")
    path = output or _png(recipe, "complete")
    _complete_image(run, prepared, chosen, given or "top", index, n, path, generator)


def _complete_text(run: Run, prepared: Prepared, text: str, generator: Any) -> None:
    """The most probable of 512 drawn completions, with their exact probabilities."""
    import torch

    from biglearn_lite.data import to_tokens
    from biglearn_lite.tasks import Task

    plain = text.translate(dict.fromkeys(map(ord, ASKED + ABSENT), "."))
    tokens = to_tokens([plain])
    target = torch.tensor([[symbol in ASKED for symbol in text]])
    if not target.any():
        raise ValueError(f"{text!r} asks for nothing; write a dot for every unknown.")
    task = Task(tokens >= 0, target)
    drawn = _draw(run, tokens.expand(512, -1), task.expand(512), generator)
    distinct = drawn.unique(dim=0)
    same = task.expand(len(distinct))
    with torch.no_grad():
        said = run.model.log_prob(distinct, same).exp()
    best = said.argsort(descending=True)[:SHOWN]
    exact = _exact(prepared.law, distinct[best], task)
    print(f"{'completion':<14}{'model':>8}{'exact':>8}")
    rows = zip(_texts(distinct[best], text), said[best].tolist(), exact, strict=True)
    for line, p, q in rows:
        print(f"{line:<14}{p:>8.4f}{'-' if q is None else f'{q:.4f}':>8}")
    print(f"{'together':<14}{said[best].sum().item():>8.4f}")


def _exact(law: Any, rows: Tensor, task: Task) -> list[float | None]:
    """`q(x_T | x_S)` by the law's table; None where the law has no such source."""

    def mass(row: Tensor, mask: Tensor) -> float:
        fits = (law.tokens[:, mask] == row[mask]).all(1)
        return law.probabilities[fits].sum().item()

    source, union = task.source[0], task.union[0]
    given = [mass(row, source) for row in rows]
    return [
        mass(row, union) / known if known else None
        for row, known in zip(rows, given, strict=True)
    ]


def _texts(tokens: Tensor, like: str = "") -> list[str]:
    """Sums as text; what was left out stays `_`."""
    from biglearn_lite.data import to_text

    return [
        "".join("_" if old == ABSENT else new for new, old in zip(text, like or text,
        strict=True)) for text in to_text(tokens)
    ]  # fmt: skip


def _complete_image(
    run: Run,
    prepared: Prepared,
    recipe: Recipe,
    given: str,
    index: int,
    n: int,
    path: Path,
    generator: Any,
) -> None:
    """A row of images: the original, what is given, and completions."""
    import torch

    from biglearn_lite.tasks import Task

    examples = run.examples if run.examples is not None else prepared.examples
    if examples is None or index >= len(examples):
        most = 0 if examples is None else len(examples)
        raise ValueError(
            f"There are {most} recorded examples, so --index goes from 0 to "
            f"{most - 1}, got {index}."
        )
    x = examples[index : index + 1]
    original = prepared.domain.restore(x)[0]  # (C, H, W)
    source, shown = _given(prepared, recipe, given, original.shape, generator)
    if source.all():
        raise ValueError(f"--given {given} gives everything; leave something to ask.")
    task = Task.conditional(source) if source.any() else Task.joint(1, len(source[0]))
    drawn = _draw(run, x.expand(n, *x.shape[1:]), task.expand(n), generator)
    visible = torch.where(shown, original, torch.nan)
    images = [original, visible, *prepared.domain.restore(drawn)]
    titles = ["original", "given", *["" for _ in range(n)]]
    _write_grid(path, images, min(len(images), 8), titles)


def _given(
    prepared: Prepared, recipe: Recipe, given: str, shape: Any, generator: Any
) -> tuple[Tensor, Tensor]:
    """Source tokens (1, L) and the pixels (H, W) that they show; labels are asked."""
    import torch

    kind, _, share = given.partition(":")
    domain = prepared.domain
    tall, wide = (1, 1) if domain.name == "pixels" else recipe.data.size
    rows, columns = shape[1] // tall, shape[2] // wide
    if domain.name == "frequencies":
        rows, columns = 1, domain.image
    row, column = torch.arange(rows)[:, None], torch.arange(columns)
    sides = {
        "top": (row < rows // 2) & (column >= 0),
        "bottom": (row >= rows // 2) & (column >= 0),
        "left": (row >= 0) & (column < columns // 2),
        "right": (row >= 0) & (column >= columns // 2),
        "none": torch.zeros(rows, columns, dtype=torch.bool),
    }
    if kind == "random":
        order = torch.rand(rows * columns, generator=generator).argsort().argsort()
        known = (order < round(_share(share) * rows * columns)).view(rows, columns)
    elif given not in sides:
        raise ValueError(f"--given is one of {list(sides)} or random:0.3, got {given}.")
    elif domain.name == "frequencies" and given != "none":
        raise ValueError("A frequency has no place: use --given random:0.3.")
    else:
        known = sides[given]
    planes = domain.image // known.numel()  # pixels come channel by channel
    pixels = known.repeat_interleave(tall, 0).repeat_interleave(wide, 1)
    if domain.name == "frequencies":
        pixels = torch.zeros(shape[1:], dtype=torch.bool)
    source = torch.zeros(1, domain.length, dtype=torch.bool)
    source[:, : domain.image] = known.flatten().repeat(planes)
    return source, pixels


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise ValueError(
            f"--given random:SHARE needs a share from 0 to 1, as in random:0.3, got "
            f"{text!r}."
        )
    return share


# ------------------------------------------------------------------ pictures


def _png(recipe: str, command: str) -> Path:
    return Path(f"{Path(recipe).stem}-{command}.png")


def _write_grid(
    path: Path, images: list[Tensor], columns: int, titles: list[str] | None = None
) -> None:
    """A PNG of images (C, H, W), whole or not at all."""
    import io

    import torch

    from biglearn_lite.figures import grid
    from biglearn_lite.files import make_folder, write_atomically

    make_folder(path.parent)
    batch = torch.stack(images).clamp(0, 1)  # (N, C, H, W); NaN stays
    batch = batch[:, 0] if batch.shape[1] == 1 else batch.movedim(1, -1)
    figure = grid(batch, columns, titles)
    figure.savefig(buffer := io.BytesIO(), format="png", facecolor="white")
    write_atomically(path, buffer.getvalue())
    print(f"{len(images)} images are in {path}.")
