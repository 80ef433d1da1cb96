"""The process of the jobs that tests submit: small work of several kinds. `python jobs_program.py JOB ATTEMPT`, as the kit's worker."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops_kit.errors import Diverged, InvalidValue
from llmops_kit.jobs import Jobs, Work
from llmops_kit.settings import Settings
from llmops_kit.store import Store

PROGRAM = (str(Path(__file__).absolute()),)


def count(work: Work) -> Mapping[str, Any]:
    """Steps of `pause_s`, counted in a file, so that a resumed one goes on and a doubled one shows."""
    steps, pause_s = int(work.job.spec["steps"]), float(work.job.spec.get("pause_s", 0.05))
    counted = work.folder / f"counted-{work.rank}"
    work.event("started", 0, rank=work.rank, pid=os.getpid(), threads=os.environ.get("OMP_NUM_THREADS"), nice=os.nice(0))
    first = len(counted.read_text().split()) if counted.exists() else 0
    for step in range(first + 1, steps + 1):
        time.sleep(pause_s)
        with counted.open("a") as file:
            file.write(f"{step}\n")
        work.event("train", step, loss=1 / step)
        work.progress(step, steps, (steps - step) * pause_s)
        if work.is_cancelled():
            work.event("checkpoint", step, path=str(counted))
            return {"stopped": True, "step": step}
    return {"step": steps, "resumed": work.resumed}


def fault(work: Work) -> Mapping[str, Any]:
    """Fail as the spec says."""
    what = work.job.spec["what"]
    if what == "refused":
        raise InvalidValue(name="rank", value=0, allowed="1")
    if what == "diverged":
        raise Diverged(step=3, loss="nan")
    if what == "segfault":
        import ctypes

        ctypes.string_at(0)
    if what == "exit":
        os._exit(7)
    if what == "kill":
        os.kill(os.getpid(), 9)
    if what == "cuda":
        raise type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2.00 GiB")
    if what == "torch":
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")
    raise RuntimeError("誰も知らない不具合")


def hog(work: Work) -> Mapping[str, Any]:
    """Take memory until there is none."""
    taken = []
    while True:
        taken.append(bytearray(64 * 2**20))
        time.sleep(0.01)


def talk(work: Work) -> Mapping[str, Any]:
    """Write a log of `mb` megabytes, then wait for the pulse."""
    line = "よく話す行です。" * 40 + "\n"
    for _ in range(int(float(work.job.spec["mb"]) * 2**20 / len(line.encode()))):
        sys.stdout.write(line)
    sys.stdout.write("最後の行\n")
    sys.stdout.flush()
    time.sleep(float(work.job.spec.get("wait_s", 0)))
    return {}


def fill(work: Work) -> Mapping[str, Any]:
    """Fill the disk of the workspace as a checkpoint does."""
    work.event("checkpoint", 1, path="step-000001")
    with (work.folder / "checkpoint").open("wb") as file:
        for _ in range(10_000):
            file.write(bytes(2**20))
    return {}


def deaf(work: Work) -> Mapping[str, Any]:
    """Never look whether it shall stop, with a helper process of its own in another session."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    work.event("started", 0, child=child.pid, pid=os.getpid())
    time.sleep(600)
    return {}


KINDS = {"count": count, "fault": fault, "hog": hog, "talk": talk, "fill": fill, "deaf": deaf}


def main(job_id: str, attempt: int) -> int:
    """Carry out one job."""
    logging.basicConfig(level=logging.INFO)
    settings = Settings()
    store = Store(settings.store_url)
    jobs = Jobs(store, settings, program=PROGRAM)
    try:
        return jobs.carry_out(job_id, KINDS, attempt=attempt)
    finally:
        jobs.close()
        store.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
