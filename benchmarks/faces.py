"""How many faces a second are drawn, and whether they are those of the record.

    python benchmarks/faces.py            # both sizes, and the whole data sets
    python benchmarks/faces.py --quick    # a few hundred faces

Printed for one thread and for all, in wall-clock time and in processor time, which a
busy machine does not stretch; and what one size costs against the other.
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # no spinning on a busy machine

import torch

from biglearn_lite import draw_faces, load
from biglearn_lite.data import checksum
from biglearn_lite.sources import dataset_entry


def speed(n: int, size: int) -> tuple[float, float]:
    """Faces a second of the wall's clock, and of the processor's."""
    draw_faces(128, torch.Generator().manual_seed(0), size)
    wall, busy = time.perf_counter(), time.process_time()
    draw_faces(n, torch.Generator().manual_seed(0), size)
    return n / (time.perf_counter() - wall), n / (time.process_time() - busy)


def main() -> None:
    """Time both sizes, then compare checksums."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few hundred faces")
    args = parser.parse_args()
    n = 512 if args.quick else 4096
    for threads in sorted({1, torch.get_num_threads()}):
        torch.set_num_threads(threads)
        found = {size: speed(n, size) for size in (32, 64)}
        for size, (wall, busy) in found.items():
            print(f"{threads} threads, {size} x {size}: {wall:6.0f} faces a second")
            print(f"  of processor time              {busy:6.0f}")
        print(f"  64 x 64 / 32 x 32, in time     {found[32][1] / found[64][1]:6.2f}")
    for name in () if args.quick else ("faces32", "faces"):
        same = checksum(load(name, "all")) == dataset_entry(name).sha256
        print(f"{name}: {'as recorded' if same else 'NOT as recorded'}")


if __name__ == "__main__":
    main()
