"""What a recorded number says of the machine it came from, and nothing else of it.

The model of the processor or card, versions and the day; never a host name or a path.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
from pathlib import Path

VERSIONS_OF = ("biglearn-lite", "torch", "numpy")


def device_name(cuda: bool = False) -> str:
    """The model of the first CUDA card if asked for and there, else the processor."""
    if cuda:
        import torch

        if torch.cuda.is_available():
            return torch.cuda.get_device_name(0)
    return f"{_processor()}, {os.cpu_count()} cores"


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return " ".join(line.split(":", 1)[1].split())
    return platform.processor() or platform.machine()


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        found[name] = importlib.metadata.version(name).split("+")[0]
    return found


def today() -> str:
    """The day, in UTC, as `2026-01-31`."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()
