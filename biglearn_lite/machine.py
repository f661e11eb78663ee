"""What a recorded number says of the machine it came from, and nothing else of it.

The model of the processor or card, versions, the day, and the memory that a run took;
never a host name or a path.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import threading
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
    """Versions of Python and of the packages that numbers depend on, if installed."""
    found = {"python": platform.python_version()}
    for name in VERSIONS_OF:
        # a checkout on the path has none of its own
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name).split("+")[0]
    return found


def today() -> str:
    """The day, in UTC, as `2026-01-31`."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


class PeakMemory:
    """The largest resident memory of all child processes together, sampled.

    A context manager; `peak_mib` is in mebibytes.
    """

    def __init__(self, interval: float = 0.2) -> None:
        self.peak_mib = 0.0
        self._interval = interval
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        this = psutil.Process()
        while not self._done.is_set():
            total = 0
            for child in this.children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it may just have ended
                    total += child.memory_info().rss
            self.peak_mib = max(self.peak_mib, total / 2**20)
            self._done.wait(self._interval)
