"""The command line of a job's process."""

from __future__ import annotations

import sys

from llmops_kit.types import Job

PROGRAM = ("-m", "llmops_kit.worker")
_PYTHON = (sys.executable, "-P")  # a file in the folder it is started from shadows no library


def commanded(program: tuple[str, ...], job: Job) -> list[str]:
    """What is run for an attempt of `job`: the kit's worker, several of them under the training library's own launcher."""
    count = int(job.spec.get("processes") or 1)
    told = [*program, job.id, str(job.attempt)]
    if count == 1:
        return [*_PYTHON, *told]
    # PyTorch's own launcher, which `accelerate launch` also uses on GPUs; on CPUs that starts one process, whatever number it is told.
    return [*_PYTHON, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), *told]


def submission_id(job: Job) -> str:
    """What Ray calls this attempt of the job."""
    return f"{job.id}-{job.attempt}"
