"""Runs every benchmark and prints what BENCHMARKS.md keeps: ours beside the baseline, in one run. `make bench`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from tests.benchmarks import overhead, reader, retrieval, starter_lm, starter_speed, startup

BENCHMARKS = {
    "startup": startup,
    "overhead": overhead,
    "reader": reader,
    "starter_lm": starter_lm,
    "starter_speed": starter_speed,
    "retrieval": retrieval,
}


def main() -> None:
    """Each benchmark in turn; `python -m tests.benchmarks startup` runs one."""
    chosen = sys.argv[1:] or list(BENCHMARKS)
    print(f"# {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    for name, benchmark in BENCHMARKS.items():
        if name in chosen:
            print(f"\n## {name}\n")
            benchmark.run()


if __name__ == "__main__":
    main()
