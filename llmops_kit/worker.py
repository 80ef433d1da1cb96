"""The process of a job: `python -m llmops_kit.worker JOB ATTEMPT`, with the workspace in the environment. Started by `jobs`, not by hand."""

from __future__ import annotations

import logging
import sys

from llmops_kit.kit import open_kit


def main(job_id: str, attempt: int | None = None) -> int:
    """Carry out one job and give the exit code (0: its row says how it ended)."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    with open_kit() as kit:
        kinds = {"tune": kit.tuning.train, "pretrain": kit.tuning.train_from_scratch}
        return kit.jobs.carry_out(job_id, kinds, attempt=attempt, afterwards=kit.tracking.log_job)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:3])))
