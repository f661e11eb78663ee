"""The house: imports run downwards, files and functions stay readable."""

import ast
import re
import statistics
import subprocess
import sys

import pytest
from book_files import ROOT, chapters

PACKAGE = sorted((ROOT / "biglearn_lite").glob("*.py"))
FLOORS = [
    {"files", "machine", "tasks", "data", "sources", "faces", "celeba"},
    {"mixtures", "transformer"},
    {"landscapes", "cooperation", "em", "likelihood", "gan", "multimodal", "text"},
    {"training", "metrics", "questions"},
    {
        "runs",
        "recipe",
        "experiments",
        "em_experiments",
        "studies",
        "evaluation",
        "figures",
        "claims",
        "check",
        "chapters",
        "book",
        "slices",
    },
    {"cli"},
]
LEVEL = {name: level for level, floor in enumerate(FLOORS) for name in floor}
# a file with an underscore is the back room of one of them
BACK_ROOMS = {
    "_task": "tasks",
    "_task_checks": "tasks",
    "_mixture_checks": "mixtures",
    "_counts": "tasks",
    "_task_sampler": "tasks",
    "_modalities": "tasks",
    "_domains": "data",
    "_optimise": "training",
    "_checkpoint": "training",
    "_prepare": "recipe",
    "_grids": "recipe",
    "_labelled": "recipe",
    "_imputed": "recipe",
    "_later": "gan",
    "_recipe_file": "recipe",
    "_cli_model": "cli",
    "_cli_complete": "cli",
    "_cli_runs": "cli",
    "_draws": "mixtures",
    "_images": "data",
    "_image_checks": "data",
    "_sums": "data",
    "_label_tokens": "data",
    "_faces_law": "faces",
    "_faces_canvas": "faces",
    "_faces_head": "faces",
    "_faces_features": "faces",
    "_faces_parts": "faces",
    "_faces_regions": "faces",
    "_celeba_files": "celeba",
    "_celeba_cache": "celeba",
    "_heads": "likelihood",
    "_players": "gan",
    "_adversarial": "training",
    "_hybrid": "training",
    "_multimodal_parts": "multimodal",
    "_bayes": "multimodal",
    "_likelihood_checks": "likelihood",
    "_descent": "cooperation",
    "_schedule": "cooperation",
    "_stays": "cooperation",
    "_views": "landscapes",
    "_basins": "landscapes",
    "_judges": "metrics",
    "_distances": "metrics",
    "_agreement": "metrics",
    "_scenes": "metrics",
    "_report": "metrics",
    "_readings": "metrics",
    "_face_report": "metrics",
    "_sampled_law": "metrics",
    "_judge_measures": "metrics",
    "_label_report": "metrics",
    "_novelty": "metrics",
    "_judged": "evaluation",
    "_judge_training": "experiments",
    "_clouds": "experiments",
    "_em_checks": "em",
    "_em_steps": "em",
    "_em_tasks": "em",
    "_em_starts": "em",
    "_em_estimator": "em",
    "_em_common": "em_experiments",
    "_em_clusters": "em_experiments",
    "_explore": "figures",
    "_finish": "figures",
    "_paint": "figures",
    "_checkers": "check",
    "_check_model": "check",
    "_check_practice": "check",
    "_check_cooperation": "check",
    "_check_em": "check",
    "_check_faces": "check",
    "_check_celeba": "check",
    "_check_classification": "check",
    "_check_pixels": "check",
    "_check_gan": "check",
}
LEVEL |= {room: LEVEL[owner] for room, owner in BACK_ROOMS.items()}


def imports(path):
    """Modules of the package that `path` imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module == "biglearn_lite":
                yield from (alias.name for alias in node.names)
            elif node.module.startswith("biglearn_lite."):
                yield node.module.split(".")[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.startswith("biglearn_lite."):
                    yield alias.name.split(".")[1]


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.stem)
def test_imports_run_downwards(path):
    if path.stem == "__init__":
        return
    assert path.stem in LEVEL, f"{path.stem} stands on no floor"
    for name in imports(path):
        if name in LEVEL and name != path.stem:
            assert LEVEL[name] <= LEVEL[path.stem], f"{path.stem} imports {name}"


@pytest.mark.parametrize("path", PACKAGE, ids=lambda path: path.stem)
def test_files_are_read_in_one_sitting(path):
    assert len(path.read_text().splitlines()) <= 400


def test_functions_are_short():
    sizes = [
        node.end_lineno
        - node.lineno
        + 1
        - len((ast.get_docstring(node) or "").splitlines())
        for path in PACKAGE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    ]
    assert statistics.median(sizes) <= 14


def test_every_module_has_a_test_file():
    behind = {"files": "data", "sources": "data", "machine": "runs"}
    behind |= {"book": "book_run", "chapters": "book_run", **BACK_ROOMS}
    for module in [path.stem for path in PACKAGE if path.stem != "__init__"]:
        name = f"test_{behind.get(module, module)}.py"
        assert (ROOT / "tests" / name).exists(), f"{module} is not tested in {name}"


def test_public_names_are_there():
    import biglearn_lite

    for name in biglearn_lite.__all__:
        assert getattr(biglearn_lite, name) is not None
    with pytest.raises(AttributeError, match="has no attribute"):
        _ = biglearn_lite.no_such_name


def test_help_does_not_import_torch():
    code = "import sys, biglearn_lite.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_path_of_a_machine_and_no_data_in_the_repository():
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in tracked:
        path = ROOT / name
        if not path.exists() or path.suffix in {".png", ".safetensors"}:
            continue
        size = path.stat().st_size
        assert size <= 1_100_000, f"{name} has {size} bytes"
        found = re.search(r"(?<![\w.])/(?:home|root|work|Users)/\w+", path.read_text())
        assert not found or name.startswith("tests/"), f"{name}: {found}"


def test_committed_chapters_are_in_the_table_of_contents():
    assert {path.stem for path in (ROOT / "book").glob("*.ipynb")} == {
        path.stem for path in chapters()
    }
