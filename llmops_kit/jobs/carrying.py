"""Carrying out a job, in its process: take it, do it, and write down how it ended, whatever happens."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmops_kit.errors import WorkspaceError
from llmops_kit.jobs import processes
from llmops_kit.jobs.endings import Ending, ending, ending_of, is_disk_full
from llmops_kit.jobs.launching import submission_id
from llmops_kit.jobs.pulse import Pulse
from llmops_kit.jobs.rows import Change, JobStore, one, unknown
from llmops_kit.jobs.work import Work
from llmops_kit.types import Job, JobState, now

_log = logging.getLogger(__name__)
_RESERVE_BYTES = 2**20
_AGAIN_S = 2.0
_PATIENCE_S = 600.0
Kinds = Mapping[str, Callable[[Work], Mapping[str, Any]]]


@dataclass(frozen=True)
class Post:
    """Where a process carries out its job: the store, the job's folder, and which of how many processes it is."""

    store: JobStore
    folder: Path
    rank: int
    processes: int


def carry_out(post: Post, job: Job, kinds: Kinds) -> int:
    """Do the work of `job`, which was taken by `take`, and write its end into its row; the exit code (0: the row says how it ended)."""
    faulthandler.enable()
    reserve = post.folder / "reserve"
    pulse = Pulse(post.store, job, post.folder, writes=post.rank == 0)
    with _on_stop_signal(pulse):
        pulse.start()
        try:
            if post.rank == 0:
                post.folder.mkdir(parents=True, exist_ok=True)
                reserve.write_bytes(bytes(_RESERVE_BYTES))  # space for the last words on a full disk
            result = {} if pulse.must_stop() else dict(kinds[job.kind](Work(job, post.folder, pulse, post.rank, post.processes)))
            came = _came_to_an_end(pulse, result)
        except BaseException as fault:  # noqa: BLE001 - whatever it is, the row says so
            _log.exception("The job failed")
            came, result = ending_of(fault, post.folder), {}
            if came.code == "fault" and post.rank == 0 and post.processes > 1 and pulse.is_being_ended():
                came = ending("killed")  # what this one met is that another is gone
        with contextlib.suppress(OSError):
            reserve.unlink(missing_ok=True)
        return _leave(post, job, pulse, came, result)


def take(store: JobStore, id: str, attempt: int | None) -> Job | None:
    """Make this process the one of the job, as which attempt it was started (None: by hand); None where it is not, or no longer, its turn.

    Raises `UnknownName`.
    """
    known = store.get(Job, id)
    if known is None:
        raise unknown(id)
    who = {**processes.identity(processes.leader(id)), **processes.oom_kills()}

    def work(change: Change) -> Job | None:
        job = one(change, id)
        if attempt is None and job.state == "queued":
            job = replace(job, state="running", attempt=job.attempt + 1, engine="process", started_at=now(), ended_at=None, reason={}, result={})
        elif job.state != "running" or job.attempt != attempt:
            return None
        named = {"submission_id": submission_id(job)} if job.engine == "ray" else who
        job = replace(job, handle={**job.handle, **named}, heartbeat_at=now())
        names = ("state", "attempt", "engine", "started_at", "ended_at", "reason", "result", "handle", "heartbeat_at")
        change.update(Job, id, **{name: getattr(job, name) for name in names})
        return job

    return store.commit(work)


def end(store: JobStore, job: Job, came: Ending | None, result: Mapping[str, Any]) -> bool:
    """Write how this attempt ended (None: finished); False where the row says already that it is over. Raises `WorkspaceError`."""
    state: JobState = came.state if came else "finished"
    values = {"state": state, "ended_at": now(), "reason": came.reason if came else {}, "result": dict(result)}

    def work(change: Change) -> bool:
        found = change.find(Job, id=job.id)
        if not found or found[0].attempt != job.attempt or found[0].state != "running":
            return False
        return change.update(Job, job.id, **values)

    return store.commit(work)


def _came_to_an_end(pulse: Pulse, result: Mapping[str, Any]) -> Ending | None:
    if not (pulse.must_stop() and (result.get("stopped") or not result)):
        return None
    return ending("terminated") if pulse.terminated and not pulse.cancelled else ending("cancelled")


def _leave(post: Post, job: Job, pulse: Pulse, came: Ending | None, result: Mapping[str, Any]) -> int:
    """Write the end, with patience: what a long training made is not lost to a disk that is full for a minute."""
    if post.rank and came is None:
        pulse.stop()
        return 0
    give_up = time.monotonic() + _PATIENCE_S
    while True:
        try:
            pulse.stop()
            end(post.store, job, came, result)
        except WorkspaceError as fault:
            if came is None and is_disk_full(fault) and not result:
                came = ending("disk_full")
            if time.monotonic() > give_up:
                return came.exit_code if came else 1
            time.sleep(_AGAIN_S)
        else:
            return 1 if post.rank else 0  # the launcher ends the others


@contextlib.contextmanager
def _on_stop_signal(pulse: Pulse) -> Iterator[None]:
    """SIGTERM asks the workflow to stop, as a person does, and no longer ends the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_number: int, _frame: object) -> None:
        pulse.terminated = True

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
