"""Jobs on a real Ray cluster of two nodes: same rows, same events, same ends as on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator

import psutil
import pytest

pytest.importorskip("ray")

from llmops_kit.jobs import Jobs, processes
from llmops_kit.jobs import dispatch as dispatching
from llmops_kit.settings import Settings
from llmops_kit.store import Store
from llmops_kit.types import Job
from tests.app_process import find_free_port
from tests.jobs_program import PROGRAM
from tests.ray_cluster import RunningCluster, stop, two_nodes
from tests.test_jobs import LONG, begun, run, until


@pytest.fixture(scope="module")
def cluster() -> Iterator[RunningCluster]:
    """One cluster for all tests here: it takes ten seconds to start."""
    with two_nodes() as running:
        yield running


@pytest.fixture
def settings(settings: Settings, cluster: RunningCluster) -> Settings:
    """Settings with the cluster in them."""
    return settings.model_copy(update={"ray_address": cluster.address, "jobs_at_once": 2})


@pytest.fixture
def jobs(store: Store, settings: Settings) -> Iterator[Jobs]:
    """Jobs that go to the cluster."""
    opened = Jobs(store, settings, program=PROGRAM)
    yield opened
    opened.close()
    for job in store.find(Job, state="running"):
        processes.end(job.id, job.handle)


def test_same_row_and_events_and_the_log_stays(jobs: Jobs) -> None:
    ended = run(jobs, "count", {"steps": 20})
    assert (ended.state, ended.engine, ended.attempt) == ("finished", "ray", 1) and ended.result == {"step": 20, "resumed": False}
    assert ended.handle["submission_id"] == f"{ended.id}-1" and ended.handle["entrypoint_num_cpus"] == 1
    assert [event.step for event in jobs.events(ended.id, "train")] == [*range(1, 21)] and ended.progress["step"] == 20
    talk = run(jobs, "talk", {"mb": 0.01})
    assert "最後の行" in jobs.log(talk.id)
    assert "最後の行" in (jobs.folder(talk.id) / "log.txt").read_text(encoding="utf-8")


def test_two_jobs_of_two_processes_each_run_on_a_node_of_their_own(jobs: Jobs) -> None:
    both = [jobs.submit("count", {"steps": 60}, owner=f"p{number}", name="x", processes=2) for number in range(2)]
    for job in both:
        begun(jobs, job.id)
    nodes = {jobs._cluster._client.get_job_info(f"{job.id}-1").driver_node_id for job in both}
    assert {jobs.get(job.id).state for job in both} == {"running"} and len(nodes) == 2
    for job in both:
        ended = jobs.wait(job.id, timeout_s=60, progress=False)
        assert ended.state == "finished", jobs.log(job.id)
        for rank in (0, 1):
            counted = jobs.folder(job.id) / f"counted-{rank}"
            until(lambda file=counted: file.read_text().split()[-1] == "60")


def test_what_no_node_can_hold_is_refused(jobs: Jobs) -> None:
    ended = run(jobs, "count", {"steps": 1}, processes=3)
    assert (ended.state, ended.reason["code"]) == ("failed", "refused") and "1–2" in ended.reason["ja"]


def test_cancel_and_resume(jobs: Jobs) -> None:
    job = jobs.submit("count", {"steps": 80}, owner="a", name="x")
    until(lambda: jobs.events(job.id, "train"))
    jobs.cancel(job.id, by="a")
    cancelled = jobs.wait(job.id, timeout_s=20, progress=False)
    assert cancelled.state == "cancelled" and 0 < cancelled.result["step"] < 80
    jobs.resume(job.id, by="a")
    ended = jobs.wait(job.id, timeout_s=60, progress=False)
    assert ended.state == "finished" and ended.attempt == 2 and ended.handle["submission_id"].endswith("-2")
    assert (jobs.folder(job.id) / "counted-0").read_text().split() == [str(step) for step in range(1, 81)]


def test_ends_are_told(jobs: Jobs) -> None:
    for what, state, code in (("kill", "interrupted", "killed"), ("exit", "failed", "fault"), ("cuda", "failed", "out_of_memory")):
        ended = run(jobs, "fault", {"what": what})
        assert (ended.state, ended.reason["code"]) == (state, code), what


def test_job_that_does_not_listen_is_stopped_through_ray(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatching, "GRACE_S", 1.0)
    job = jobs.submit("deaf", {}, owner="a", name="x")
    pid = begun(jobs, job.id).data["pid"]
    jobs.cancel(job.id, by="a")
    assert jobs.wait(job.id, timeout_s=20, progress=False).reason["code"] == "unresponsive"
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_job_server_that_is_away_is_waited_for(store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    away = settings.model_copy(update={"ray_address": f"http://127.0.0.1:{find_free_port()}"})
    jobs = Jobs(store, away, program=PROGRAM)
    ended = run(jobs, "count", {"steps": 1})
    assert (ended.state, ended.reason["code"]) == ("failed", "refused") and "http://127.0.0.1" in ended.reason["ja"]
    running = Jobs(store, settings, program=PROGRAM)
    job = running.submit("count", LONG, owner="a", name="x")
    begun(running, job.id)
    running.close()
    jobs.dispatch()
    assert jobs.get(job.id).state == "running", "a server that does not answer for a moment ended a job"
    monkeypatch.setattr(dispatching, "SILENT_S", 0.0)
    monkeypatch.setattr("llmops_kit.jobs.ray_cluster._SILENT_S", 0.0)
    time.sleep(0.1)
    jobs.dispatch()
    assert jobs.get(job.id).reason["code"] == "lost"
    jobs.close()
    until(lambda: running._cluster._client.get_job_info(f"{job.id}-1").status.is_terminal())


def test_lost_node_is_told_and_the_job_goes_on_at_the_other(jobs: Jobs, cluster: RunningCluster) -> None:
    both = [jobs.submit("count", {"steps": 300}, owner=f"p{number}", name="x", processes=2) for number in range(2)]
    for job in both:
        begun(jobs, job.id)
    stop(cluster.second)
    until(lambda: jobs.find(states=["interrupted"]), 90)
    lost = jobs.find(states=["interrupted"])[0]
    assert lost.reason["code"] in ("killed", "terminated", "lost")
    kept = next(job for job in both if job.id != lost.id)
    jobs.cancel(kept.id, by=kept.owner)
    jobs.resume(lost.id, by=lost.owner)
    ended = jobs.wait(lost.id, timeout_s=90, progress=False)
    assert ended.state == "finished" and ended.attempt == 2
