"""Jobs: rows and real processes, started in turn, stopped by their owner only, and told as what they were when they end without a word."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmops_kit.access import User
from llmops_kit.errors import AccessDenied, Busy, InvalidValue, UnknownName
from llmops_kit.jobs import Jobs, processes
from llmops_kit.jobs import dispatch as dispatching
from llmops_kit.jobs.endings import CODES, ending, ending_of_exit
from llmops_kit.jobs.queue import in_turn, place_of
from llmops_kit.settings import Settings, cluster_environment, job_environment
from llmops_kit.store import Store
from llmops_kit.types import Job, JobEvent, now
from tests.jobs_program import PROGRAM
from tests.test_store import postgres_url as postgres_url
from tests.test_store import url as url

LONG = {"steps": 2000, "pause_s": 0.05}
SHORT = {"steps": 3, "pause_s": 0.01}


@pytest.fixture
def jobs(store: Store, settings: Settings) -> Iterator[Jobs]:
    """Jobs on an empty workspace; whatever still runs is ended."""
    opened = Jobs(store, settings, program=PROGRAM)
    yield opened
    opened.close()
    for job in store.find(Job, state="running"):
        processes.end(job.id, job.handle)


def until(true: Callable[[], Any], limit_s: float = 30) -> Any:
    """What `true` gives as soon as that is something."""
    end = time.monotonic() + limit_s
    while not (found := true()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)
    return found


def begun(jobs: Jobs, id: str) -> JobEvent:
    """The first event of the job, once its process is at work."""
    return until(lambda: jobs.events(id, "started"))[-1]


def run(jobs: Jobs, kind: str, spec: dict[str, Any], **given: Any) -> Job:
    """A job, carried out."""
    job = jobs.submit(kind, spec, **{"owner": "local", "name": kind, **given})
    return jobs.wait(job.id, timeout_s=60, progress=False)


# --- one job


def test_job_runs_in_a_process_of_its_own_and_says_all_in_its_row(jobs: Jobs, settings: Settings) -> None:
    seen: list[tuple[int, int, float | None]] = []
    job = jobs.submit("count", {"steps": 40}, owner="local", name="数える", expected_s=2)
    assert job.state == "running" and job.attempt == 1 and job.engine == "process"
    started = begun(jobs, job.id)
    assert started.data["pid"] == jobs.get(job.id).handle["pid"] != os.getpid()
    assert os.getsid(started.data["pid"]) == started.data["pid"], "it is not in a session of its own"
    assert started.data["nice"] > os.nice(0)
    assert Path(f"/proc/{started.data['pid']}/oom_score_adj").read_text().strip() == "500"
    ended = jobs.wait(job.id, timeout_s=60, progress=lambda *all: seen.append(all))
    assert ended.state == "finished" and ended.result == {"step": 40, "resumed": False} and ended.reason == {}
    assert ended.progress == {"step": 40, "steps": 40, "seconds_left": 0.0}
    assert ended.ended_at and ended.started_at and ended.heartbeat_at and ended.started_at < ended.heartbeat_at <= ended.ended_at
    assert seen and seen == sorted(seen) and all(total == 40 for _, total, _ in seen)
    assert [event.step for event in jobs.events(job.id, "train")] == [*range(1, 41)]
    assert {event.attempt for event in jobs.events(job.id)} == {1}
    assert not (jobs.folder(job.id) / "reserve").exists()
    assert jobs.find(kind="count", owner="local", states=["finished"])[0].id == job.id
    assert jobs.find(kind="tune") == [] and jobs.find(owner="nobody") == []


def test_settings_reach_the_process_and_secrets_are_on_no_command_line(store: Store, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    monkeypatch.setenv("LLMOPS_PORT", "9999")
    settings = Settings(workspace=workspace, local_threads=3, port=7000, allowed_hosts=("a.example",), max_upload_mb=3.5)
    told = job_environment(settings, "j1")
    assert told["LLMOPS_JOB"] == "j1" and told["OMP_NUM_THREADS"] == "3" and told["WANDB_API_KEY"] == "k" * 40
    with monkeypatch.context() as child:
        for name in [name for name in os.environ if name.startswith("LLMOPS_")]:
            child.delenv(name)
        for name, value in told.items():
            child.setenv(name, value)
        assert Settings() == settings
    jobs = Jobs(store, settings, program=PROGRAM)
    job = jobs.submit("count", {"steps": 20}, owner="local", name="x")
    started = begun(jobs, job.id)
    line = Path(f"/proc/{started.data['pid']}/cmdline").read_text()
    assert started.data["threads"] == "3" and "kkkk" not in line
    jobs.wait(job.id, timeout_s=30, progress=False)
    jobs.close()
    kept = [path for path in workspace.rglob("*") if path.is_file() and b"k" * 40 in path.read_bytes()]
    assert kept == []


def test_cluster_is_told_no_password(workspace: Path) -> None:
    with_password = Settings(workspace=workspace, database_url="postgresql+psycopg://kit:secret@db/kit")
    assert "secret" not in json.dumps(cluster_environment(with_password, "j"))
    without = Settings(workspace=workspace, database_url="postgresql+psycopg://kit@db/kit")
    assert cluster_environment(without, "j")["LLMOPS_DATABASE_URL"] == "postgresql+psycopg://kit@db/kit"


def test_same_id_is_the_same_job_and_odd_ids_are_refused(jobs: Jobs) -> None:
    first = jobs.submit("count", SHORT, owner="a", name="one", id="same")
    again = jobs.submit("count", LONG, owner="b", name="two", id="same")
    assert again.owner == "a" and again.name == "one" and again.created_at == first.created_at
    assert jobs.wait("same", timeout_s=30, progress=False).attempt == 1
    assert jobs.submit("count", SHORT, owner="a", name="one", id="same").state == "finished", "a finished job started again"
    for odd in ("../up", "a/b", "", "x" * 37, ".", "a\x00"):
        with pytest.raises(InvalidValue):
            jobs.submit("count", SHORT, owner="a", name="x", id=odd)
    with pytest.raises(UnknownName):
        jobs.get("nothing")


# --- ends


@pytest.mark.parametrize(
    ("what", "state", "code", "words"),
    [
        ("refused", "failed", "refused", "rank"),
        ("diverged", "failed", "diverged", "学習率"),
        ("cuda", "failed", "out_of_memory", "batch_tokens"),
        ("torch", "failed", "out_of_memory", "batch_tokens"),
        ("segfault", "failed", "fault", "シグナル11"),
        ("exit", "failed", "fault", "終了コード7"),
        ("kill", "interrupted", "killed", "チェックポイント"),
        ("bug", "failed", "fault", "RuntimeError"),
    ],
)
def test_end_is_told_as_what_it_was(jobs: Jobs, what: str, state: str, code: str, words: str) -> None:
    ended = run(jobs, "fault", {"what": what})
    assert (ended.state, ended.reason["code"]) == (state, code)
    assert words in ended.reason["ja"] and ended.reason["en"] and "Traceback" not in str(ended.reason) and "/" not in ended.reason["ja"]
    if what == "bug":
        assert "誰も知らない不具合" in jobs.log(ended.id)
    if what == "segfault":
        assert "Segmentation fault" in jobs.log(ended.id)


def test_unknown_kind_of_work_is_a_fault(jobs: Jobs) -> None:
    assert run(jobs, "knit", {}).reason["code"] == "fault"


def test_memory_bound_ends_the_job_and_nothing_else(store: Store, workspace: Path) -> None:
    jobs = Jobs(store, Settings(workspace=workspace, job_memory_gb=1.0), program=PROGRAM)
    ended = run(jobs, "hog", {})
    jobs.close()
    assert (ended.state, ended.reason["code"]) == ("failed", "out_of_memory")


def test_exit_codes_and_kernel_counts_are_read(tmp_path: Path) -> None:
    for code in ("out_of_memory", "disk_full", "cancelled", "terminated", "power_cut"):
        assert ending_of_exit(ending(code).exit_code, memory=False).code == code
    assert len({80 + CODES.index(code) for code in CODES}) == len(CODES)
    assert ending_of_exit(-9, memory=True).reason["code"] == "out_of_memory" and ending_of_exit(-9, memory=True).state == "interrupted"
    assert ending_of_exit(None, memory=False).code == ending_of_exit(137, memory=False).code == "killed"
    counts = tmp_path / "memory.events"
    counts.write_text("low 0\noom 3\noom_kill 2\n")
    assert processes.was_killed_for_memory({"oom_file": str(counts), "oom_kills": 1})
    assert not processes.was_killed_for_memory({"oom_file": str(counts), "oom_kills": 2})
    assert not processes.was_killed_for_memory({"oom_file": str(tmp_path / "gone"), "oom_kills": 0}) and not processes.was_killed_for_memory({})


def test_long_log_is_read_from_its_end(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = run(jobs, "talk", {"mb": 80, "wait_s": 4})
    size = (jobs.folder(ended.id) / "log.txt").stat().st_size
    assert size < 5 * 2**20, "a log of 80 MB was kept whole"
    tail = jobs.log(ended.id, tail_bytes=1000)
    assert tail.endswith("最後の行\n") and len(tail.encode()) <= 1000 and "\ufffd" not in tail


# --- the app and the processes end in any order


def test_job_goes_on_when_the_app_is_killed_and_the_next_one_finds_it(jobs: Jobs, settings: Settings, tmp_path: Path) -> None:
    script = (
        "import sys, time\nsys.path.insert(0, sys.argv[1])\n"
        "from llmops_kit.jobs import Jobs\nfrom llmops_kit.settings import Settings\nfrom llmops_kit.store import Store\n"
        "from tests.jobs_program import PROGRAM\nsettings = Settings()\njobs = Jobs(Store(settings.store_url), settings, program=PROGRAM)\n"
        "jobs.submit('count', {'steps': 60}, owner='a', name='x', id='first')\njobs.submit('count', {'steps': 3}, owner='a', name='x', id='second')\n"
        "jobs.watch()\ntime.sleep(600)\n"
    )
    root = str(Path(__file__).parent.parent)
    environment = job_environment(settings, "none")
    app = subprocess.Popen([sys.executable, "-c", script, root], env=environment, start_new_session=True)
    until(lambda: [job for job in jobs.find() if job.state == "running"] and jobs.events("first", "train"))
    os.killpg(app.pid, signal.SIGKILL)
    app.wait()
    before = len(jobs.events("first", "train"))
    jobs.dispatch()
    assert jobs.get("first").state == "running" and jobs.get("second").state == "queued"
    # Nobody looks on: the child itself starts the next one.
    until(lambda: jobs.get("second").state == "finished")
    assert jobs.get("first").state == "finished" and len(jobs.events("first", "train")) == 60 > before
    assert {job.attempt for job in jobs.find()} == {1}


def test_killed_process_is_told_and_goes_on_where_it_was(jobs: Jobs) -> None:
    job = jobs.submit("count", {"steps": 60}, owner="local", name="x")
    begun(jobs, job.id)
    until(lambda: len(jobs.events(job.id, "train")) > 5)
    os.kill(jobs.get(job.id).handle["pid"], signal.SIGKILL)
    killed = jobs.wait(job.id, timeout_s=10, progress=False)
    assert (killed.state, killed.reason["code"]) == ("interrupted", "killed")
    jobs.resume(job.id, by="local")
    ended = jobs.wait(job.id, timeout_s=30, progress=False)
    assert ended.state == "finished" and ended.attempt == 2 and ended.result["resumed"] is True and ended.reason == {}
    counted = [int(line) for line in (jobs.folder(job.id) / "counted-0").read_text().split()]
    assert counted == [*range(1, 61)]


def test_kill_nobody_saw_is_told_by_the_next_kit(jobs: Jobs, store: Store, settings: Settings) -> None:
    job = jobs.submit("deaf", {}, owner="local", name="x")
    started = begun(jobs, job.id)
    jobs.close()
    os.kill(started.data["pid"], signal.SIGKILL)
    other = Jobs(store, settings, program=PROGRAM)
    until(lambda: other.dispatch() or other.get(job.id).has_ended)  # a kill takes a moment
    assert other.get(job.id).reason["code"] == "killed"
    until(lambda: not psutil.pid_exists(started.data["child"]) or psutil.Process(started.data["child"]).status() == psutil.STATUS_ZOMBIE)
    other.close()


def test_number_taken_by_a_stranger_is_not_the_job(jobs: Jobs, store: Store) -> None:
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
    try:
        started = processes.identity(stranger.pid)
        handle = {**started, "started_s": started["started_s"] - 100.0}
        store.append(Job("reused", now(), "local", "count", "x", SHORT, state="running", attempt=1, handle=handle, started_at=now()))
        jobs.dispatch()
        assert jobs.get("reused").reason["code"] == "killed"
        assert stranger.poll() is None, "a stranger was killed"
    finally:
        stranger.kill()
        stranger.wait()


def test_power_cut_and_another_machine_are_told_apart(jobs: Jobs, store: Store) -> None:
    mine = processes.identity(os.getpid())
    job = Job("cut", now(), "local", "count", "x", SHORT, state="running", attempt=1, handle={**mine, "boot": "an earlier one"}, heartbeat_at=now())
    store.append(job)
    elsewhere = {**mine, "host": "elsewhere"}
    store.append(Job("heard", now(), "local", "count", "x", SHORT, state="running", attempt=1, handle=elsewhere, heartbeat_at=now()))
    silent = now() - timedelta(seconds=dispatching.SILENT_S + 5)
    store.append(Job("silent", now(), "local", "count", "x", SHORT, state="running", attempt=1, handle=elsewhere, heartbeat_at=silent))
    jobs.dispatch()
    assert jobs.get("cut").reason["code"] == "power_cut"
    assert jobs.get("heard").state == "running"
    assert jobs.get("silent").reason["code"] == "lost" and "elsewhere" in jobs.get("silent").reason["en"]


def test_claim_of_a_dead_app_is_taken_back(jobs: Jobs, store: Store) -> None:
    dead = {**processes.identity(os.getpid()), "pid": 2**22 - 1}
    store.append(Job("claimed", now(), "local", "count", "x", SHORT, state="running", attempt=1, handle={"by": dead}, started_at=now(), heartbeat_at=now()))
    alive = {"by": processes.identity(os.getpid())}
    store.append(Job("starting", now(), "local", "count", "x", SHORT, state="running", attempt=1, handle=alive, started_at=now(), heartbeat_at=now()))
    jobs.dispatch()
    assert jobs.get("claimed").state == "queued" and jobs.get("starting").state == "running"
    # The process of the first claim, late: its attempt is over once the job was claimed again.
    store.commit(lambda change: change.update(Job, "claimed", state="running", attempt=2, handle=alive))
    assert jobs.carry_out("claimed", {}, attempt=1) == 0
    assert jobs.get("claimed").state == "running" and jobs.events("claimed") == []


def test_attempt_that_is_over_writes_nothing(jobs: Jobs, store: Store) -> None:
    job = jobs.submit("count", LONG, owner="local", name="x")
    begun(jobs, job.id)
    pid = jobs.get(job.id).handle["pid"]
    elsewhere = {**processes.identity(os.getpid()), "host": "elsewhere"}
    store.commit(lambda change: change.update(Job, job.id, attempt=2, handle=elsewhere, heartbeat_at=now()))
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    kept = jobs.get(job.id)
    assert kept.state == "running" and kept.attempt == 2 and kept.result == {}


# --- the line


def test_nobodys_second_job_comes_before_everybodys_first() -> None:
    moment = now()

    def job(name: str, second: int) -> Job:
        at = moment + timedelta(seconds=second)
        return Job(name, at, name[0], "count", name, {}, heartbeat_at=at)

    waiting = [job("a1", 0), job("a2", 1), job("a3", 2), job("b1", 3), job("b2", 4), job("c1", 5)]
    assert [each.id for each in in_turn(waiting, [], {})] == ["a1", "b1", "c1", "a2", "b2", "a3"]
    running = [job("b0", -1)]
    assert [each.id for each in in_turn(waiting, running, {"b": moment})] == ["a1", "c1", "a2", "b1", "a3", "b2"]
    assert [each.id for each in in_turn(waiting, [], {"a": moment})][:3] == ["b1", "c1", "a1"], "who just had a turn comes after those who had none"


def test_place_in_line_and_expected_start() -> None:
    moment = now()
    running = [Job("r", moment, "a", "count", "r", {}, progress={"seconds_left": 100.0}, heartbeat_at=moment, expected_s=5)]
    turns = [Job(str(number), moment, "a", "count", "x", {}, expected_s=50.0) for number in range(3)]
    places = [place_of(job.id, turns, running, 1) for job in turns]
    assert [place and place.position for place in places] == [0, 1, 2]
    assert [round((place and place.expected_start_s) or 0) for place in places] == [100, 150, 200]
    two = [place_of(job.id, turns, running, 2) for job in turns]
    assert [round((place and place.expected_start_s) or 0) for place in two] == [0, 50, 100]
    unknown = [Job("r", moment, "a", "count", "r", {})]
    assert (place := place_of("1", turns, unknown, 1)) and place.position == 1 and place.expected_start_s is None
    assert place_of("elsewhere", turns, running, 1) is None


def test_one_person_may_have_so_many_waiting(store: Store, workspace: Path) -> None:
    jobs = Jobs(store, Settings(workspace=workspace, jobs_waiting=2), program=PROGRAM)
    first = jobs.submit("count", LONG, owner="a", name="x")
    waiting = [jobs.submit("count", SHORT, owner="a", name="x") for _ in range(2)]
    with pytest.raises(Busy) as refused:
        jobs.submit("count", SHORT, owner="a", name="x")
    assert "2" in refused.value.text("ja") and refused.value.facts == {"waiting": 2, "limit": 2}
    other = jobs.submit("count", SHORT, owner="b", name="x")
    assert (place := jobs.place(other.id)) and place.position == 0 and (last := jobs.place(waiting[1].id)) and last.position == 2
    assert jobs.place(first.id) is None
    for job in (*waiting, other, first):
        jobs.cancel(job.id, by=job.owner)
    assert jobs.wait(first.id, timeout_s=20, progress=False).state == "cancelled"
    jobs.close()


def test_twenty_launches_at_once_by_ten_people(jobs: Jobs, store: Store, settings: Settings) -> None:
    """Through two kits, as two apps on one workspace; each launch is pressed twice."""
    other_store = Store(settings.store_url)
    kits = [jobs, Jobs(other_store, settings, program=PROGRAM)]
    states: list[int] = []

    def launch(number: int) -> None:
        for kit in kits:
            kit.submit("count", SHORT, owner=f"p{number % 10}", name="x", id=f"job-{number}")

    threads = [threading.Thread(target=launch, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(jobs.find()) == 20
    while running := jobs.find(states=["running", "queued"]):
        states.append(sum(job.state == "running" for job in running))
        time.sleep(0.02)
    ended = jobs.find()
    kits[1].close()
    other_store.close()
    assert max(states) == 1, "two ran at once"
    assert {job.state for job in ended} == {"finished"} and {job.attempt for job in ended} == {1}
    assert all((jobs.folder(job.id) / "counted-0").read_text() == "1\n2\n3\n" for job in ended), "one was started twice"
    in_order = sorted(ended, key=lambda job: job.started_at or now())
    assert {job.owner for job in in_order[:10]} == {f"p{number}" for number in range(10)}, "somebody's second came before another's first"


def test_line_survives_a_restart(jobs: Jobs, store: Store, settings: Settings) -> None:
    running = jobs.submit("count", {"steps": 40}, owner="a", name="x")
    waiting = jobs.submit("count", SHORT, owner="a", name="x")
    jobs.close()
    store.close()
    reopened = Store(settings.store_url)
    later = Jobs(reopened, settings, program=PROGRAM)
    assert later.get(waiting.id).state == "queued" and (place := later.place(waiting.id)) and place.position == 0
    assert later.wait(waiting.id, timeout_s=60, progress=False).state == "finished" and later.get(running.id).state == "finished"
    later.close()
    reopened.close()


# --- stopping


def test_only_the_owner_and_the_facilitator_stop_a_job(jobs: Jobs) -> None:
    job = jobs.submit("count", LONG, owner="aki", name="x")
    for stranger in (User("ben"), User("ben", "participant"), User("ben", "analyst"), "ben", "local"):
        with pytest.raises(AccessDenied):
            jobs.cancel(job.id, by=stranger)
        with pytest.raises(AccessDenied):
            jobs.resume(job.id, by=stranger)
    assert jobs.get(job.id).cancelled_by is None
    begun(jobs, job.id)
    jobs.cancel(job.id, by=User("fumi", "facilitator"))
    ended = jobs.wait(job.id, timeout_s=20, progress=False)
    assert (ended.state, ended.cancelled_by, ended.reason["code"]) == ("cancelled", "fumi", "cancelled")
    assert ended.result["stopped"] is True and ended.result["step"] < 2000, "what it made so far is lost"
    assert jobs.events(job.id, "checkpoint")
    of_notebook = jobs.submit("count", LONG, owner="local", name="x")
    assert jobs.cancel(of_notebook.id, by=User("owner-of-the-workspace", "owner")).cancelled_by == "owner-of-the-workspace"
    assert jobs.wait(of_notebook.id, timeout_s=20, progress=False).state == "cancelled"


def test_waiting_job_is_cancelled_at_once_and_taken_up_again(jobs: Jobs) -> None:
    first, second = (jobs.submit("count", LONG if number == 0 else SHORT, owner="a", name="x") for number in range(2))
    cancelled = jobs.cancel(second.id, by="a")
    assert cancelled.state == "cancelled" and cancelled.ended_at and cancelled.attempt == 0
    assert jobs.resume(second.id, by="a").state == "queued"
    assert jobs.resume(second.id, by="a").state == "queued", "twice in line"
    jobs.cancel(first.id, by="a")
    assert jobs.wait(second.id, timeout_s=30, progress=False).state == "finished"
    assert jobs.cancel(second.id, by="a").state == "finished", "a finished job was cancelled"
    assert jobs.resume(second.id, by="a").state == "finished"


def test_cancelled_job_goes_on_where_it_was(jobs: Jobs) -> None:
    job = jobs.submit("count", {"steps": 50}, owner="a", name="x")
    until(lambda: jobs.events(job.id, "train"))
    jobs.cancel(job.id, by="a")
    assert 0 < jobs.wait(job.id, timeout_s=20, progress=False).result["step"] < 50
    jobs.resume(job.id, by="a")
    ended = jobs.wait(job.id, timeout_s=20, progress=False)
    assert ended.state == "finished" and ended.cancelled_by is None and ended.attempt == 2
    assert (jobs.folder(job.id) / "counted-0").read_text().split() == [str(step) for step in range(1, 51)]


def test_job_that_does_not_listen_is_ended_with_all_it_started(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatching, "GRACE_S", 2.0)
    job = jobs.submit("deaf", {}, owner="a", name="x")
    started = begun(jobs, job.id)
    jobs.cancel(job.id, by="a")
    time.sleep(1)
    assert jobs.get(job.id).state == "running"
    ended = jobs.wait(job.id, timeout_s=20, progress=False)
    assert (ended.state, ended.reason["code"], ended.cancelled_by) == ("cancelled", "unresponsive", "a")
    for pid in (started.data["pid"], started.data["child"]):
        until(lambda pid=pid: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_stop_signal_of_the_machine_is_no_cancelling(jobs: Jobs) -> None:
    job = jobs.submit("count", LONG, owner="a", name="x")
    os.killpg(begun(jobs, job.id).data["pid"], signal.SIGTERM)
    ended = jobs.wait(job.id, timeout_s=20, progress=False)
    assert (ended.state, ended.reason["code"]) == ("interrupted", "terminated") and ended.result["stopped"] is True
    assert jobs.events(job.id, "checkpoint"), "it had no time to save"


# --- several processes


def test_two_processes_train_together_and_one_writes(jobs: Jobs) -> None:
    ended = run(jobs, "count", {"steps": 5}, processes=2)
    assert ended.state == "finished", jobs.log(ended.id)
    assert [event.data["rank"] for event in jobs.events(ended.id, "started")] == [0]
    for rank in (0, 1):  # the row says it has ended when the one that writes has
        counted = jobs.folder(ended.id) / f"counted-{rank}"
        until(lambda file=counted: file.read_text().split() == ["1", "2", "3", "4", "5"])
    assert len(jobs.events(ended.id, "train")) == 5


def test_failure_in_any_of_two_processes_is_told(jobs: Jobs) -> None:
    ended = run(jobs, "fault", {"what": "diverged"}, processes=2)
    assert (ended.state, ended.reason["code"]) == ("failed", "diverged"), jobs.log(ended.id)


# --- either database


def test_two_kits_on_either_database_start_no_job_twice(url: str, workspace: Path) -> None:
    settings = Settings(workspace=workspace, database_url=url)
    stores = [Store(settings.store_url) for _ in range(2)]
    kits = [Jobs(store, settings, program=PROGRAM) for store in stores]
    for number in range(6):
        stores[0].append(Job(f"pg-{number}", now(), f"p{number % 3}", "count", "x", SHORT, heartbeat_at=now()))
    for kit in kits:
        kit.watch()
    until(lambda: len(kits[0].find(states=["finished"])) == 6, 60)
    assert {job.attempt for job in kits[0].find()} == {1}
    assert all((kits[0].folder(job.id) / "counted-0").read_text() == "1\n2\n3\n" for job in kits[0].find())
    for kit, store in zip(kits, stores, strict=True):
        kit.close()
        store.close()
