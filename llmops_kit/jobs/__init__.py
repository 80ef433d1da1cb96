"""Long work in processes of its own: put in line, started, watched, stopped, taken up again.

    job = kit.jobs.submit("tune", spec, owner="local", name="polite")
    kit.jobs.wait(job.id); kit.jobs.log(job.id); kit.jobs.cancel(job.id, by="local")

A job is a row of the store and a process: closing the page or killing the app neither stops nor loses it, and whoever opens the
workspace next sees what became of it. The only package with Ray in it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.access import User, require
from llmops_kit.errors import Busy, KitError
from llmops_kit.jobs import carrying
from llmops_kit.jobs.dispatch import Dispatcher, last_starts
from llmops_kit.jobs.endings import ending
from llmops_kit.jobs.launching import PROGRAM
from llmops_kit.jobs.limits import give_way
from llmops_kit.jobs.queue import Place as Place
from llmops_kit.jobs.queue import in_turn, place_of
from llmops_kit.jobs.rows import Change, JobStore, checked_id, one, unknown
from llmops_kit.jobs.work import Work as Work
from llmops_kit.progress import Progress, show_progress
from llmops_kit.settings import Settings, process_rank
from llmops_kit.types import Job, JobEvent, JobState, new_id, now

if TYPE_CHECKING:
    from llmops_kit.jobs.ray_cluster import RayCluster

__all__ = ["Jobs", "Place", "Work"]
_log = logging.getLogger(__name__)
_WATCH_S = 1.0
_IDLE_S = 5.0
_LOOK_S = 0.25
_BUSY = {
    "en": "You have {waiting} jobs waiting already, which is as many as one person may have ({limit}). Wait until one of them has started, or cancel one.",
    "ja": "順番待ちのジョブがすでに{waiting}件あり、1人の上限（{limit}件）に達しています。どれかが始まるのを待つか、取り消してください。",
}


class Jobs:
    """The jobs of a workspace. Safe to share between threads; any number of processes may hold one on the same workspace.

    `program` is what a job's process runs after the interpreter, for tests with work of their own.
    """

    def __init__(self, store: JobStore, settings: Settings, *, program: Sequence[str] = PROGRAM) -> None:
        self._store = store
        self._settings = settings
        self._dispatcher = Dispatcher(store, settings, tuple(program), lambda: self._cluster)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._guard = threading.Lock()

    # --- putting in line

    def submit(
        self, kind: str, spec: Mapping[str, Any], *, owner: str, name: str, id: str | None = None, expected_s: float | None = None, processes: int = 1
    ) -> Job:
        """Put a job in line, and start it if it is its turn. The same `id` sent again is the same job.

        `kind` is the workflow that carries it out, `spec` what it is told (plain JSON), `expected_s` how long it is estimated to take,
        `processes` how many train together. Raises: `Busy` where `owner` has too many waiting; `InvalidValue` for an id that does not
        serve; `WorkspaceError`.
        """
        moment = now()
        told = {**spec, **({"processes": processes} if processes > 1 else {})}
        job = Job(checked_id(new_id() if id is None else id), moment, owner, kind, name, told, expected_s=expected_s, heartbeat_at=moment)

        def work(change: Change) -> Job:
            if known := change.find(Job, id=job.id):
                return known[0]
            self._check_waiting(change, owner)
            change.append(job)
            return job

        made = self._store.commit(work)
        self.watch()
        self._try_dispatch()
        return self.get(made.id)

    def resume(self, id: str, *, by: User | str) -> Job:
        """Put a job that failed, was cancelled or interrupted back in line: it goes on from its last checkpoint. Any other stays as it is.

        Raises: `UnknownName`; `AccessDenied` for anybody but its owner and the facilitator; `Busy`.
        """
        self._require(self.get(id), by)

        def work(change: Change) -> None:
            job = one(change, id)
            if job.state in ("failed", "cancelled", "interrupted"):
                self._check_waiting(change, job.owner)
                fresh: dict[str, Any] = {"reason": {}, "result": {}, "handle": {}, "cancelled_by": None, "ended_at": None}
                change.update(Job, id, state="queued", heartbeat_at=now(), **fresh)

        self._store.commit(work)
        self.watch()
        self._try_dispatch()
        return self.get(id)

    def cancel(self, id: str, *, by: User | str) -> Job:
        """Stop a job: a waiting one at once, a running one at its next step, with a checkpoint; after a minute it is ended. Others stay as they are.

        Raises: `UnknownName`; `AccessDenied` for anybody but its owner and the facilitator.
        """
        person = self._require(self.get(id), by)

        def work(change: Change) -> None:
            job = one(change, id)
            if job.state == "queued":
                change.update(Job, id, state="cancelled", cancelled_by=person.id, ended_at=now(), reason=ending("cancelled").reason)
            elif job.state == "running" and job.cancelled_by is None:
                change.update(Job, id, cancelled_by=person.id, handle={**job.handle, "cancel_at": now().isoformat()})

        self._store.commit(work)
        self.watch()
        return self.get(id)

    # --- looking

    def get(self, id: str) -> Job:
        """The job with this id, as its row stands. Raises `UnknownName`."""
        job = self._store.get(Job, id)
        if job is None:
            raise unknown(id)
        return job

    def find(self, *, owner: str | None = None, states: Sequence[JobState] | None = None, kind: str | None = None, limit: int | None = None) -> list[Job]:
        """Jobs, newest first: of one owner, in these states, of this kind; None: of all."""
        equal: dict[str, Any] = {"owner": owner, "state": list(states) if states is not None else None}
        equal = {name: value for name, value in equal.items() if value is not None}
        if kind is None:
            return self._store.find(Job, limit=limit, **equal)
        return [job for job in self._store.find(Job, **equal) if job.kind == kind][:limit]

    def events(self, id: str, kind: str | None = None) -> list[JobEvent]:
        """What happened in a job, oldest first; None: of every kind. Raises `UnknownName`."""
        self.get(id)
        found = [event for event in self._store.find(JobEvent, job_id=id) if kind in (None, event.kind)]
        return sorted(found, key=lambda event: (event.created_at, event.id))  # ids made in the same millisecond are in no order

    def folder(self, id: str) -> Path:
        """Where the job keeps its files; it need not exist yet."""
        return self._settings.jobs_folder / checked_id(id)

    def log(self, id: str, *, tail_bytes: int = 20_000) -> str:
        """The end of what the job's process wrote, at most `tail_bytes`. Raises `UnknownName`."""
        job = self.get(id)
        path = self.folder(id) / "log.txt"
        if job.engine == "ray" and "submission_id" in job.handle:
            with contextlib.suppress(KitError):  # the cluster is gone, or has forgotten it: the copy is what is left
                self._cluster.copy_log(job.handle, path)
        return read_tail(path, tail_bytes)

    def place(self, id: str) -> Place | None:
        """Where a waiting job stands in line; None where it does not wait. Raises `UnknownName`."""
        if self.get(id).state != "queued":
            return None
        active = self._store.find(Job, state=["queued", "running"], newest_first=False)
        running = [job for job in active if job.state == "running"]
        waiting = [job for job in active if job.state == "queued"]
        turns = in_turn(waiting, running, last_starts(self._store, {job.owner for job in waiting}))
        return place_of(id, turns, running, self._settings.jobs_at_once)

    def wait(self, id: str, *, timeout_s: float | None = None, progress: Progress | Literal[False] | None = None) -> Job:
        """Look on until the job has ended, or for `timeout_s` seconds, and give it. Ctrl-C stops the looking, not the job.

        `progress(step, steps, seconds_left)` is called as it goes; None draws a bar in a notebook or a terminal. Raises `UnknownName`.
        """
        self.watch()
        give_up = None if timeout_s is None else time.monotonic() + timeout_s
        with show_progress(progress, "step") as show:
            while True:
                job = self.get(id)
                if (steps := job.progress.get("steps")) and job.state == "running":
                    show(int(job.progress.get("step", 0)), int(steps), job.progress.get("seconds_left"))
                if job.has_ended or (give_up is not None and time.monotonic() >= give_up):
                    return job
                time.sleep(_LOOK_S)

    # --- keeping going

    def dispatch(self) -> None:
        """See what became of the running jobs, and start what is next. Any process may do this at any time. Raises `WorkspaceError`."""
        self._dispatcher.run()

    def watch(self) -> None:
        """Dispatch in the background until `close`. Calling it again changes nothing."""
        with self._guard:
            if self._thread is None or not self._thread.is_alive():
                self._stopping.clear()
                self._thread = threading.Thread(target=self._watch, name="jobs-watch", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Look on no longer. The jobs go on."""
        self._stopping.set()
        with self._guard:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def carry_out(
        self,
        id: str,
        kinds: Mapping[str, Callable[[Work], Mapping[str, Any]]],
        *,
        attempt: int | None = None,
        afterwards: Callable[[Job], object] | None = None,
    ) -> int:
        """Do the work of a job in this process, and start what is next; the exit code (0: its row says how it ended).

        `attempt` is which start this is (None: by hand, of one that waits); one that is over does nothing. `afterwards` is called with the
        job once its end is written; what it raises is only logged. Raises `UnknownName`.
        """
        rank, processes = process_rank()
        give_way(self._settings.job_memory_gb)
        job = carrying.take(self._store, id, attempt) if rank == 0 else self.get(id)
        if job is None or (rank and attempt is not None and job.attempt != attempt):
            _log.warning("Job %s is not to be carried out as attempt %s.", id, attempt)
            return 0
        code = carrying.carry_out(carrying.Post(self._store, self.folder(id), rank, processes), job, kinds)
        if rank == 0:
            if afterwards is not None:
                try:
                    afterwards(self.get(id))
                except Exception:  # noqa: BLE001 - the job has ended, and whatever follows it is somebody else's
                    _log.exception("What follows the job failed")
            self._try_dispatch()
        return code

    @cached_property
    def _cluster(self) -> RayCluster:
        from llmops_kit.jobs.ray_cluster import RayCluster

        return RayCluster(self._settings)

    def _watch(self) -> None:
        pause_s = 0.0
        while not self._stopping.wait(pause_s):
            pause_s = _WATCH_S if self._try_dispatch() else _IDLE_S

    def _try_dispatch(self) -> int:
        """Dispatch; what fails is logged and tried again at the next turn."""
        try:
            return self._dispatcher.run()
        except Exception:  # noqa: BLE001 - a thread that died would leave the line standing
            _log.exception("The jobs could not be looked after")
            return 0

    def _check_waiting(self, change: Change, owner: str) -> None:
        waiting, limit = len(change.find(Job, state="queued", owner=owner)), self._settings.jobs_waiting
        if waiting >= limit:
            en, ja = (_BUSY[language].format(waiting=waiting, limit=limit) for language in ("en", "ja"))
            raise Busy(en=en, ja=ja, waiting=waiting, limit=limit)

    def _require(self, job: Job, by: User | str) -> User:
        person = by if isinstance(by, User) else User(by)
        return require(person, "participant", resource=f"“{job.name}”", resource_owner=job.owner)


def read_tail(path: Path, size: int) -> str:
    """The last `size` bytes of a text file, from a line's beginning where it is cut; empty where there is none."""
    try:
        with path.open("rb") as file:
            length = file.seek(0, 2)
            file.seek(max(0, length - size))
            data = file.read(size)
    except OSError:
        return ""
    if length > size:
        data = data.partition(b"\n")[2] or data
    return data.decode("utf-8", errors="replace")
