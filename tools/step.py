"""Run one step of a make target: say what it does, time it, keep the list of steps.

python tools/step.py "what this step does" command [argument ...]
python tools/step.py --summary
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

RECORD = Path("_build/steps.txt")


def run(title: str, command: list[str]) -> int:
    """Run `command` under `title`; append its seconds to the record."""
    print(f"\n==> {title}", flush=True)
    start = time.monotonic()
    code = subprocess.call(command)
    seconds = time.monotonic() - start
    mark = "done" if code == 0 else f"FAILED (exit code {code})"
    print(f"    {mark} after {seconds:.0f} s: {title}", flush=True)
    RECORD.parent.mkdir(exist_ok=True)
    with RECORD.open("a") as record:
        record.write(f"{seconds:7.0f} s  {mark:6}  {title}\n")
    if code:  # the target stops here: the next one starts a new record
        summary()
    return code


def summary() -> None:
    """Print the steps recorded since the last summary, with their total."""
    lines = RECORD.read_text().splitlines() if RECORD.exists() else []
    total = sum(float(line.split()[0]) for line in lines)
    print("\n".join(["", "Steps:", *lines, f"{total:7.0f} s  in all"]), flush=True)
    RECORD.unlink(missing_ok=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["--summary"]:
        summary()
    else:
        sys.exit(run(sys.argv[1], sys.argv[2:]))
