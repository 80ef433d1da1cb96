"""Runs every benchmark and prints what BENCHMARKS.md keeps: ours beside the baseline, in one run. `make bench`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

from tests.benchmarks import (
    documents_index,
    documents_quality,
    engine_load,
    engine_soak,
    overhead,
    rating,
    reader,
    retrieval,
    starter_lm,
    starter_speed,
    startup,
    tuning,
    tuning_estimates,
)

BENCHMARKS = {
    "startup": startup,
    "overhead": overhead,
    "reader": reader,
    "starter_lm": starter_lm,
    "starter_speed": starter_speed,
    "retrieval": retrieval,
    "documents": documents_quality,
    "rating": rating,
}
ON_REQUEST = {"documents_index": documents_index, "engine": engine_load, "soak": engine_soak, "tuning": tuning, "tuning_estimates": tuning_estimates}
"""Take long and have options of their own: run only where they are named."""


def main() -> None:
    """Each benchmark in turn; `python -m tests.benchmarks startup` runs one, `… engine --streams 1,8` one with options."""
    end = next((number for number, argument in enumerate(sys.argv) if number and argument.startswith("-")), len(sys.argv))
    chosen, options = sys.argv[1:end] or [*BENCHMARKS, "tuning"], sys.argv[end:]
    print(f"# {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    for name, benchmark in BENCHMARKS.items():
        if name in chosen:
            print(f"\n## {name}\n")
            benchmark.run()
    for name, asked in ON_REQUEST.items():
        if name in chosen:
            print(f"\n## {name}\n")
            asked.run(options)


if __name__ == "__main__":
    main()
