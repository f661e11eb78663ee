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
    {"files", "tasks", "data"},
    {"mixtures", "transformer"},
    {"landscapes", "cooperation", "likelihood", "gan", "multimodal", "text"},
    {"training", "metrics"},
    {"runs", "figures", "claims", "check", "book"},
    {"cli"},
]
LEVEL = {name: level for level, floor in enumerate(FLOORS) for name in floor}


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


def test_every_chapter_explains_a_module_that_has_a_test():
    for module in [path.stem for path in PACKAGE if not path.stem.startswith("_")]:
        if module == "files":  # two helpers, used and tested through data, runs, claims
            continue
        name = "test_book_run" if module == "book" else f"test_{module}"
        assert (ROOT / "tests" / f"{name}.py").exists(), f"{module} has no test file"


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
