"""Makes bare `pytest --nbval book` validate the chapters from the root."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

# inherited by the kernels: figures as they are committed, and no thread that spins
# at a barrier while the test process has work to do
os.environ.setdefault("BIGLEARN_STATIC", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# seconds; below pytest's own limit, so that nbval can say which cell it was
CELL_TIMEOUT = 240.0
NBVAL_DEFAULT = 2000.0

# nbval leaves out PNG and widget views by itself; the same holds for SVG, whose ids
# are random, and for stderr, where libraries put progress bars and notices
NOT_COMPARED = ("stderr", "image/svg+xml", "image/jpeg")


def pytest_configure(config: Any) -> None:
    """A dead kernel must not hold the run for nbval's default of half an hour."""
    if getattr(config.option, "nbval_cell_timeout", None) == NBVAL_DEFAULT:
        config.option.nbval_cell_timeout = CELL_TIMEOUT


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Only the chapters are notebooks to validate, not their working copies."""
    hidden = {"_build", "_scratch", ".ipynb_checkpoints"}
    return True if hidden & set(collection_path.parts) else None


def pytest_collectstart(collector: Any) -> None:
    """Tell nbval's collectors what is not compared."""
    if hasattr(collector, "skip_compare"):
        collector.skip_compare += NOT_COMPARED


def pytest_itemcollected(item: Any) -> None:
    """nbval waits five seconds for an output: too short on a busy machine."""
    if hasattr(item, "output_timeout"):
        item.output_timeout = 60
