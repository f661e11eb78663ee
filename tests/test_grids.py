"""Pictures beside a run whose data may not be shipped."""

import json

import pytest
import torch

from biglearn_lite import patchify, runs
from biglearn_lite._grids import completion_grids, grid_parts, have_grids
from biglearn_lite._prepare import prepare
from biglearn_lite.recipe import read_grid, read_recipe, record_grids, train
from biglearn_lite.runs import read_run

SMALL = {"model.width": 8, "model.depth": 1, "training.steps": 2, "training.batch": 4,
    "training.log": 1, "training.compile": False, "training.half": False,
    "evaluate.rows": 40, "evaluate.samples": 40, "evaluate.every": 0}  # fmt: skip


def test_parts_are_what_they_are_called():
    parts = grid_parts(64, 5)
    assert all(part.shape == (5, 64) for part in parts.values())
    assert parts["left-half"][0].view(8, 8)[:, :4].all()
    assert parts["upper-half"][0].view(8, 8)[:4].all()
    assert parts["eyes"][0].view(8, 8)[3:5, 2:6].all()
    counts = {name: set(part.sum(1).tolist()) for name, part in parts.items()}
    assert counts == {"left-half": {32}, "upper-half": {32}, "eyes": {8},
        "few-patches": {6}, "half-of-the-patches": {32}}  # fmt: skip
    assert not torch.equal(*parts["few-patches"][:2])
    assert all(part[0].any() and not part.all() for part in grid_parts(16, 2).values())
    with pytest.raises(ValueError, match="square"):
        grid_parts(63, 1)


def test_training_records_grids(judged_photographs, tmp_path):
    folder = train(read_recipe("celeba-gan", "cpu", SMALL), root=tmp_path / "runs")
    run = read_run(folder)
    assert run.folder == folder
    assert run.examples is None
    names = sorted(path.name for path in folder.glob("*.png"))
    assert names == sorted(f"completions-{n}.png" for n in grid_parts(64, 1))
    images = read_grid(folder, "left-half").view(6, 6, 32, 32, 3)
    test = judged_photographs.images[90:]
    real = torch.from_numpy(test[[0, 8, 16, 23, 31, 39]]).permute(0, 2, 3, 1) / 255
    assert (images[:, 0] - real).abs().max() < 0.005
    assert (images[:, 1:, :, :16] - real[:, None, :, :16]).abs().max() < 0.005
    tint = torch.tensor([0.72, 0.82, 0.93])
    assert (images[:, 1, :, 16:] - tint).abs().max() < 0.005
    assert not torch.equal(images[:, 2], images[:, 3])
    with pytest.raises(FileNotFoundError, match="completions-ears"):
        read_grid(folder, "ears")
    # the same again from the record and one's own copy of the data
    before = {path.name: path.read_bytes() for path in folder.glob("*.png")}
    for name in before:
        (folder / name).unlink()
    recipe = read_recipe("celeba-gan", "cpu", SMALL)
    again = completion_grids(run.model, prepare(recipe.data, 0))
    assert set(again) == set(grid_parts(64, 1))
    assert {path.name for path in record_grids(folder)} == set(before)
    kept = read_grid(folder, "left-half").view(6, 6, 32, 32, 3)
    assert torch.equal(kept[:, :2], images[:, :2])
    # weights were recorded in half precision
    assert (kept - images).abs().mean() < 0.02


def test_data_that_ship_need_no_grids(tmp_path):
    recipe = read_recipe("celeba-gan", "smoke")
    assert not have_grids(prepare(recipe.data, 0), recipe.evaluate)
    folder = train(recipe, root=tmp_path)
    assert not list(folder.glob("*.png"))
    with pytest.raises(ValueError, match="needs no pictures"):
        record_grids(folder)


def test_what_is_hidden_is_not_read(photographs):
    recipe = read_recipe("celeba-gan", "cpu", SMALL)
    prepared = prepare(recipe.data, 0)
    seen = []

    class Spy(torch.nn.Module):
        weight = torch.nn.Parameter(torch.zeros(1))

        def sample(self, x, task, generator):
            seen.append((x, task))
            return torch.where(task.source[..., None], x, 0.0)

    completion_grids(Spy(), prepared)
    assert len(seen) == 5 * 4
    for x, task in seen:
        assert torch.equal(x.isnan().all(2), task.target)
    real = patchify(torch.from_numpy(photographs.images[[90]]).float() / 127.5 - 1, 4)[
        0
    ]
    x, task = seen[0]
    assert torch.allclose(x[0][task.source[0]], real[task.source[0]], atol=1e-5)


def test_recorded_grids_are_small():
    for folder in runs.recorded():
        sizes = [path.stat().st_size for path in folder.iterdir()]
        assert sum(sizes) <= 6 * 2**20, folder
        assert all(json.loads((folder / f"{n}.json").read_text()) is not None
                   for n in runs.RECORDS)  # fmt: skip


def test_the_recorded_run_has_its_grids():
    try:
        run = runs.load_run("celeba-gan", "cpu")
    except FileNotFoundError:
        pytest.skip("celeba-gan has no record yet")
    shapes = {name: read_grid(run.folder, name).shape for name in grid_parts(64, 1)}
    assert set(shapes.values()) == {(36, 32, 32, 3)}
