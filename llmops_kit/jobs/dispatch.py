"""Keeping the jobs going: see which processes are gone, end those that do not stop, start what is next.

Any number of processes may do this at once: a job is claimed in one transaction, and each write names the attempt it is about.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import KitError
from llmops_kit.jobs import processes
from llmops_kit.jobs.carrying import end
from llmops_kit.jobs.endings import Ending, ending, ending_of, ending_of_exit
from llmops_kit.jobs.launching import commanded
from llmops_kit.jobs.queue import in_turn
from llmops_kit.jobs.rows import Change, JobStore
from llmops_kit.settings import Settings, job_environment
from llmops_kit.types import Job, now

if TYPE_CHECKING:
    from llmops_kit.jobs.ray_cluster import RayCluster

_log = logging.getLogger(__name__)
GRACE_S = 60.0
SILENT_S = 120.0
_CLAIM_S = 60.0
"""Seconds after which a claim whose process never appeared is taken back."""


@dataclass(frozen=True)
class _Seen:
    """What became of the process of a running job: it is `gone` with this exit code (None: unknown), or still there."""

    gone: bool
    exit_code: int | None = None
    ending: Ending | None = None


class Dispatcher:
    """Starts and watches jobs for one store. Safe to share between threads."""

    def __init__(self, store: JobStore, settings: Settings, program: tuple[str, ...], cluster: Callable[[], RayCluster]) -> None:
        self._store = store
        self._settings = settings
        self._program = program
        self._cluster = cluster
        self._children: dict[tuple[str, int], subprocess.Popen[bytes]] = {}
        self._guard = threading.Lock()
        self._me = processes.identity(processes.own_pid())

    def run(self) -> int:
        """Do everything once; how many jobs wait or run now. Raises `WorkspaceError`."""
        with self._guard:
            running = self._store.find(Job, state="running", newest_first=False)
            for job in running:
                try:
                    self._reconcile(job)
                except KitError as fault:  # one of another machine, say; the others are looked after all the same
                    _log.warning("Job %s: %s", job.id, fault.text("en"))
            for child in [key for key, process in self._children.items() if process.poll() is not None]:
                del self._children[child]
            while job_or_none := self._claim():
                self._start(job_or_none)
            return len(self._store.values(Job, ("id",), state=["queued", "running"]))

    # --- what is gone

    def _reconcile(self, job: Job) -> None:
        seen = self._look_at(job)
        asked = _moment(job.handle.get("cancel_at"))
        if not seen.gone and job.cancelled_by and asked and (now() - asked).total_seconds() > GRACE_S:
            self._kill(job)
            seen = _Seen(True, ending=ending("unresponsive", grace_s=GRACE_S))
        if not seen.gone:
            return
        if job.engine == "process" and job.handle.get("host") == self._me["host"]:
            processes.end(job.id, job.handle)  # what it had started itself
        came = seen.ending or ending_of_exit(seen.exit_code, memory=processes.was_killed_for_memory(job.handle))
        if job.cancelled_by and came.code in ("killed", "fault"):
            came = ending("cancelled")
        end(self._store, job, came, {})

    def _look_at(self, job: Job) -> _Seen:
        silent_s = (now() - (job.heartbeat_at or job.created_at)).total_seconds()
        where = str(job.handle.get("host") or job.handle.get("submission_id") or "?")
        if job.engine == "ray" and "submission_id" in job.handle:
            exit_code, gone = self._cluster().look_at(job.handle, silent_s)
            lost = gone and exit_code is None and silent_s > SILENT_S
            return _Seen(gone, exit_code, ending("lost", where=where, silent_s=silent_s) if lost else None)
        if job.engine == "process" and "pid" in job.handle:
            if job.handle.get("host") != self._me["host"]:
                return _Seen(silent_s > SILENT_S, ending=ending("lost", where=where, silent_s=silent_s))
            return self._look_here(job)
        self._take_back(job)
        return _Seen(False)

    def _look_here(self, job: Job) -> _Seen:
        child = self._children.get((job.id, job.attempt))
        if child is not None and child.pid == job.handle["pid"]:
            exit_code = child.poll()
            lost_one = exit_code == 1 and int(job.spec.get("processes") or 1) > 1  # all the launcher says is that one died
            return _Seen(exit_code is not None, None if lost_one else exit_code)
        if processes.lives(job.handle):
            return _Seen(False)
        other_boot = job.handle.get("boot") != self._me["boot"]
        return _Seen(True, ending=ending("power_cut") if other_boot else None)

    def _take_back(self, job: Job) -> None:
        """Put a job back in line that was claimed and never appeared, because who claimed it is gone."""
        by = job.handle.get("by") or {}
        here = by.get("host") == self._me["host"]
        waited_s = (now() - (job.started_at or job.created_at)).total_seconds()
        if waited_s < _CLAIM_S and (not here or processes.lives(by)):
            return

        def work(change: Change) -> None:
            found = change.find(Job, id=job.id)
            if found and found[0].attempt == job.attempt and found[0].state == "running" and found[0].handle == job.handle:
                change.update(Job, job.id, state="queued", handle={}, started_at=None)

        self._store.commit(work)

    def _kill(self, job: Job) -> None:
        if job.engine == "ray":
            self._cluster().stop(job.handle)
        elif job.handle.get("host") == self._me["host"]:
            processes.end(job.id, job.handle)

    # --- what is next

    def _claim(self) -> Job | None:
        """Take the next job out of the line, if there is a slot for it: from now on it is nobody else's to start."""
        waiting = self._store.values(Job, ("owner",), state="queued")
        if not waiting:
            return None
        starts = last_starts(self._store, {owner for (owner,) in waiting})
        engine = "ray" if self._settings.ray_address else "process"

        def work(change: Change) -> Job | None:
            active = change.find(Job, state=["queued", "running"])
            running = [job for job in active if job.state == "running"]
            turns = in_turn([job for job in active if job.state == "queued"], running, starts)
            if not turns or len(running) >= self._settings.jobs_at_once:
                return None
            values: dict[str, Any] = {
                **{"state": "running", "attempt": turns[0].attempt + 1, "engine": engine, "handle": {"by": self._me}},
                **{"started_at": now(), "ended_at": None, "heartbeat_at": now(), "reason": {}, "result": {}},
            }
            change.update(Job, turns[0].id, **values)
            return replace(turns[0], **values)

        return self._store.commit(work)

    def _start(self, job: Job) -> None:
        """Start the process of a claimed job and note it in its row; where it cannot be started, the row says why."""
        folder = self._settings.jobs_folder / job.id
        try:
            if job.engine == "ray":
                handle: Mapping[str, Any] = self._cluster().submit(job, commanded(self._program, job), folder)
            else:
                handle = self._start_here(job, folder)
        except Exception as fault:  # noqa: BLE001 - a job that cannot be started must not hold up the line
            _log.exception("The job %s could not be started", job.id)
            end(self._store, job, ending_of(fault, self._settings.workspace), {})
            return

        def work(change: Change) -> None:
            found = change.find(Job, id=job.id)
            if found and found[0].attempt == job.attempt and found[0].state == "running":
                change.update(Job, job.id, handle={**handle, **found[0].handle})  # it may have said so itself already

        self._store.commit(work)

    def _start_here(self, job: Job, folder: Path) -> Mapping[str, Any]:
        memory = processes.oom_kills()
        child = processes.start(commanded(self._program, job), folder / "log.txt", job_environment(self._settings, job.id))
        self._children[(job.id, job.attempt)] = child
        return {**processes.identity(child.pid), **memory}


def last_starts(store: JobStore, owners: set[str]) -> dict[str, datetime]:
    """When a job of each of these owners was last started; those that never had one are not in it."""
    starts: dict[str, datetime] = {}
    for owner, moment in store.values(Job, ("owner", "started_at"), owner=sorted(owners)):
        if moment is not None and moment > starts.get(owner, moment.min.replace(tzinfo=moment.tzinfo)):
            starts[owner] = moment
    return starts


def _moment(text: object) -> datetime | None:
    return datetime.fromisoformat(text) if isinstance(text, str) else None
