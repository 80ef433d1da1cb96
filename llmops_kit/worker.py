"""The process of a job: `python -m llmops_kit.worker JOB`, with the workspace in the environment. Started by `jobs`, not by hand."""

from __future__ import annotations

import sys

from llmops_kit.kit import open_kit


def main(job_id: str) -> int:
    """Carry out one job and give the exit code (0: it ended as its row says; 1: it failed)."""
    with open_kit() as kit:
        return kit.jobs.carry_out(job_id, {"tune": kit.tuning.train, "pretrain": kit.tuning.train_from_scratch})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
