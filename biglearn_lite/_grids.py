"""Pictures that go with a run, where its data may not: completions of a few test faces.

Chapters ask models about data that ship in packages. Data that everyone has to get for
oneself do not, so their completions are drawn once, by whoever has them, and recorded:
`completions-<part>.png` in the folder of the run, with a row for each of a few test
images. In its columns are the image, what is given of it, and completions.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from biglearn_lite._prepare import Prepared, prepare
from biglearn_lite._recipe_file import EvaluatePart, read_recipe
from biglearn_lite._report import device_of, random_sources, spread_rows
from biglearn_lite.files import write_atomically
from biglearn_lite.runs import read_run
from biglearn_lite.sources import dataset_entry
from biglearn_lite.tasks import Task

FACES, COMPLETIONS = 6, 4  # rows of a picture, spread over the test images
SEED = 1234  # of random patches and noise
NAME = "completions-{}.png"


def grid_parts(length: int, rows: int) -> dict[str, Tensor]:
    """What is given of each image, by the name of the part: (rows, L) boolean.

    Patches are a square grid, as photographs are cut here. The eyes are where aligned
    photographs have them.
    """
    side = round(length**0.5)
    if side**2 != length:
        raise ValueError(f"Parts are of a square grid of patches, not of {length}.")
    down, right = torch.meshgrid(
        *[(torch.arange(side) + 0.5) / side] * 2, indexing="ij"
    )
    eyes = ((down - 0.5).abs() < 0.13) & ((right - 0.5).abs() < 0.26)
    fixed = {"left-half": right < 0.5, "upper-half": down < 0.5, "eyes": eyes}
    parts = {name: part.flatten().expand(rows, -1) for name, part in fixed.items()}
    for name, share in {"few-patches": 0.1, "half-of-the-patches": 0.5}.items():
        # the same order for both: a half has the few, and more
        generator = torch.Generator().manual_seed(SEED)
        parts[name] = random_sources(rows, length, max(share, 1 / length), generator)
    return parts


def completion_grids(model: Any, prepared: Prepared) -> dict[str, Tensor]:
    """Pictures (rows H, columns W, 3) uint8 of completions, by the part given."""
    domain = prepared.domain
    some = prepared.test[spread_rows(len(prepared.test), FACES)]
    tokens = domain.transform(some, torch.Generator().manual_seed(SEED))
    home = device_of(model)
    pictures = {}
    for name, source in grid_parts(domain.length, len(tokens)).items():
        hidden = torch.where(source[..., None], tokens, torch.nan)
        # the noise of all completions is one stream: they differ
        noise = torch.Generator().manual_seed(SEED)
        task = Task(source, ~source).to(home)
        with torch.no_grad():
            made = [
                model.sample(hidden.to(home), task, noise).cpu()
                for _ in range(COMPLETIONS)
            ]
        columns = [domain.restore(each) for each in (tokens, hidden, *made)]
        pictures[name] = _side_by_side(torch.stack(columns, 1))
    return pictures


def _side_by_side(images: Tensor) -> Tensor:
    """(R, K, C, H, W) in [0, 1], NaN where nothing is shown -> (R H, K W, 3) uint8."""
    from biglearn_lite._finish import NOT_THERE  # plotly, which no training needs

    tint = torch.tensor(NOT_THERE)[:, None, None]
    shown = torch.where(images.isnan(), tint, images.clamp(0, 1))
    sheet = shown.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    return (sheet * 255).round().to(torch.uint8)


def have_grids(prepared: Prepared, part: EvaluatePart) -> bool:
    """Whether a run is about images that may not be shipped."""
    plain = part.measure == "images" and prepared.domain.layout is None
    return plain and bool(dataset_entry(prepared.name).prepare)


def write_grids(folder: str | Path, model: Any, prepared: Prepared) -> list[Path]:
    """Draw completions of a few test images, and write them into a run's folder."""
    from PIL import Image

    written = []
    for name, picture in completion_grids(model, prepared).items():
        Image.fromarray(picture.numpy()).save(
            file := io.BytesIO(), "PNG", optimize=True
        )
        path = Path(folder) / NAME.format(name)
        written.append(write_atomically(path, file.getvalue()))
    return written


def record_grids(folder: str | Path) -> list[Path]:
    """The same for a run that was recorded without: needs your own copy of the data.

    Args:
        folder: of the run, `<recipe>/<profile>`.

    Raises:
        ValueError: if the run is not about images that may not be shipped.
        FileNotFoundError: if the data are not there; says how to get them.
    """
    run = read_run(folder)
    its = run.provenance
    recipe = read_recipe(its["recipe"], its["profile"])
    prepared = prepare(recipe.data, its["seed"])
    if not have_grids(prepared, recipe.evaluate):
        raise ValueError(
            f"The data of {its['recipe']} ship with packages, so its run needs no "
            "pictures; draw them from `load`."
        )
    return write_grids(folder, run.model, prepared)


def read_grid(run_folder: str | Path, part: str) -> Tensor:
    """A recorded picture as its square images (R K, H, H, 3) in [0, 1], row by row.

    Raises:
        FileNotFoundError: if the run has no such picture.
    """
    from matplotlib.image import imread

    path = Path(run_folder) / NAME.format(part)
    sheet = torch.from_numpy(imread(path)[..., :3].copy())
    side = sheet.shape[1] // (2 + COMPLETIONS)
    cells = sheet.unflatten(0, (-1, side)).unflatten(2, (-1, side))
    return cells.transpose(1, 2).flatten(0, 1)
