"""Apps and jobs killed at random moments, and a full disk: no job is lost, none runs twice at once, and each goes on from where it was."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_kit.jobs import Jobs, processes
from llmops_kit.settings import Settings, job_environment
from llmops_kit.store import Store
from llmops_kit.types import Job
from tests.faults.test_disk import small_disk as small_disk
from tests.jobs_program import PROGRAM

KILLS = int(os.environ.get("LLMOPS_TEST_KILLS", "6"))
"""The suite has little time; run it with 50 for a figure."""
STEPS = 25
APPS = 3


@pytest.fixture
def jobs(store: Store, settings: Settings) -> Iterator[Jobs]:
    """Jobs that nobody in this process looks after."""
    opened = Jobs(store, settings, program=PROGRAM)
    opened.watch = lambda: None  # type: ignore[method-assign]
    opened._try_dispatch = lambda: 0  # type: ignore[method-assign]
    yield opened
    for job in store.find(Job, state="running"):
        processes.end(job.id, job.handle)


def start_app(settings: Settings) -> subprocess.Popen[bytes]:
    """An app of its own."""
    program = Path(__file__).with_name("dispatch_until_killed.py")
    return subprocess.Popen([sys.executable, str(program)], env=job_environment(settings, "app"), start_new_session=True)


def test_apps_and_jobs_killed_at_random(jobs: Jobs, settings: Settings) -> None:
    chance = random.Random(os.environ.get("LLMOPS_TEST_SEED", "7"))
    count = max(4, KILLS // 3)
    ids = [f"job-{number}" for number in range(count)]
    for number, id in enumerate(ids):
        jobs.submit("count", {"steps": STEPS, "pause_s": 0.04}, owner=f"p{number}", name=id, id=id)
    apps = [start_app(settings) for _ in range(APPS)]
    killed_apps = killed_jobs = 0
    try:
        while killed_apps + killed_jobs < KILLS:
            time.sleep(chance.uniform(0.1, 1.5))
            running = [job for job in jobs.find(states=["running"]) if "pid" in job.handle]
            if chance.random() < 0.4 or not running:
                app = chance.choice(apps)
                app.kill()
                app.wait()
                apps[apps.index(app)] = start_app(settings)
                killed_apps += 1
            elif processes.lives(running[0].handle):
                os.kill(running[0].handle["pid"], signal.SIGKILL)
                killed_jobs += 1
            take_up_again(jobs)
            assert len(jobs.find(states=["running"])) <= 1
        give_up = time.monotonic() + 60 + 6 * count
        while jobs.find(states=["queued", "running", "interrupted"]):
            assert time.monotonic() < give_up, [(job.id, job.state, job.handle) for job in jobs.find()]
            take_up_again(jobs)
            time.sleep(0.1)
    finally:
        for app in apps:
            app.kill()
            app.wait()
    ended = jobs.find()
    attempts = sum(job.attempt for job in ended)
    print(f"\n{count} jobs, {killed_apps} apps and {killed_jobs} jobs killed, {attempts} attempts")  # seen with -s
    assert {job.state for job in ended} == {"finished"} and len(ended) == count
    whole = [str(step) for step in range(1, STEPS + 1)]
    for id in ids:
        assert (jobs.folder(id) / "counted-0").read_text().split() == whole, f"{id} lost steps or ran twice at once"


def take_up_again(jobs: Jobs) -> None:
    """Resume what was killed; nothing may have ended otherwise."""
    for job in jobs.find(states=["interrupted", "failed", "cancelled"]):
        assert job.reason["code"] == "killed", job.reason
        jobs.resume(job.id, by=job.owner)


def test_full_disk_is_told_and_the_job_goes_on_when_there_is_space(small_disk: Path) -> None:
    settings = Settings(workspace=small_disk / "workspace")
    store = Store(settings.store_url)
    jobs = Jobs(store, settings, program=PROGRAM)
    try:
        job = jobs.submit("fill", {}, owner="local", name="x")
        ended = jobs.wait(job.id, timeout_s=60, progress=False)
        assert (ended.state, ended.reason["code"]) == ("failed", "disk_full"), jobs.log(job.id)
        assert "空き" in ended.reason["ja"] and jobs.events(job.id, "checkpoint")
        (jobs.folder(job.id) / "checkpoint").unlink()
        counted = jobs.submit("count", {"steps": 3}, owner="local", name="x")
        assert jobs.wait(counted.id, timeout_s=60, progress=False).state == "finished"
        assert jobs.resume(job.id, by="local").attempt >= 1
        assert jobs.wait(job.id, timeout_s=60, progress=False).attempt == 2
    finally:
        jobs.close()
        store.close()
