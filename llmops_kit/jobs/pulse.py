"""The pulse of a running job: a thread that says it is alive, writes down what happened, and hears whether it shall stop."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmops_kit.errors import WorkspaceError
from llmops_kit.jobs.endings import is_disk_full
from llmops_kit.jobs.rows import Change, JobStore
from llmops_kit.types import Job, JobEvent, new_id, now

_log = logging.getLogger(__name__)
_BEAT_S = 1.0
_HEARTBEAT_S = 5.0
_AGAIN_S = 0.5
_PATIENCE_S = 30.0
_SIGNAL_S = 3.0
_LOG_BYTES = 64 * 2**20
_LOG_KEPT_BYTES = 2**20


class Pulse:
    """The connection of a process to its job's row. Safe to share between threads.

    Nothing is written for an attempt that is over: when the row says so, `is_over` is True, and the workflow is told to stop.
    """

    def __init__(self, store: JobStore, job: Job, folder: Path, *, writes: bool) -> None:
        self.cancelled = job.cancelled_by is not None
        self.is_over = False
        self.terminated = False
        self._store = store
        self._id, self._attempt = job.id, job.attempt
        self._folder = folder
        self._writes = writes
        self._progress: Mapping[str, Any] | None = None
        self._waiting: list[JobEvent] = []
        self._guard = threading.Lock()
        self._flushing = threading.Lock()
        self._stopping = threading.Event()
        self._written = time.monotonic()
        self._thread = threading.Thread(target=self._beat, name="job-pulse", daemon=True)

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """Stop beating; what waits is written. Raises `WorkspaceError`."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        self.flush()

    def must_stop(self) -> bool:
        """Whether somebody or the machine asked it to stop, or the row says that it is over."""
        return self.cancelled or self.terminated or self.is_over

    def is_being_ended(self) -> bool:
        """Whether a stop signal is there, or comes within seconds: a launcher sends one when another of its processes has died."""
        give_up = time.monotonic() + _SIGNAL_S
        while not self.terminated and time.monotonic() < give_up:
            time.sleep(0.1)
        return self.terminated

    def add(self, step: int, kind: str, data: Mapping[str, Any]) -> None:
        """Keep an event for the next beat."""
        if self._writes:
            with self._guard:
                self._waiting.append(JobEvent(new_id(), self._id, now(), self._attempt, step, kind, dict(data)))

    def set_progress(self, values: Mapping[str, Any]) -> None:
        """Keep the progress for the next beat."""
        with self._guard:
            self._progress = dict(values)

    def flush(self) -> None:
        """Write what waits now; durable when it returns. A store that is busy gets some seconds. Raises `WorkspaceError`, and keeps what waits."""
        give_up = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._flush()
            except WorkspaceError as fault:
                if is_disk_full(fault) or time.monotonic() > give_up:
                    raise
                time.sleep(_AGAIN_S)

    def _flush(self) -> None:
        if not self._writes or self.is_over:
            return
        with self._flushing:
            with self._guard:
                events, self._waiting = self._waiting, []
                progress, self._progress = self._progress, None
            try:
                self._store.commit(lambda change: self._write(change, events, progress))
            except BaseException:
                with self._guard:
                    self._waiting = [*events, *self._waiting]
                    self._progress = self._progress or progress
                raise
            self._written = time.monotonic()

    def _write(self, change: Change, events: list[JobEvent], progress: Mapping[str, Any] | None) -> None:
        found = change.find(Job, id=self._id)
        if not found or found[0].attempt != self._attempt or found[0].state != "running":
            self.is_over = True
            return
        self.cancelled = found[0].cancelled_by is not None
        for event in events:
            change.append(event)
        values: dict[str, Any] = {"heartbeat_at": now()}
        if progress is not None:
            values["progress"] = progress
        change.update(Job, self._id, **values)

    def _beat(self) -> None:
        while not self._stopping.wait(_BEAT_S):
            try:
                if self._waiting or self._progress is not None or time.monotonic() - self._written > _HEARTBEAT_S:
                    self._flush()
                else:
                    self._look()
                self._trim_log()
            except WorkspaceError as fault:  # the next beat tries again; whoever needs it durable hears of it
                _log.warning("The job's row could not be written: %s", fault.text("en"))
            except Exception:  # noqa: BLE001 - without a pulse the job would be taken for lost
                _log.exception("The pulse of the job missed a beat")

    def _look(self) -> None:
        found = self._store.values(Job, ("attempt", "state", "cancelled_by"), id=self._id)
        self.is_over = not found or found[0][:2] != (self._attempt, "running")
        self.cancelled = bool(found) and found[0][2] is not None

    def _trim_log(self) -> None:
        """Keep only the end of a log that has grown without measure: it would fill the disk."""
        path = self._folder / "log.txt"
        with contextlib.suppress(OSError):
            if self._writes and path.stat().st_size > _LOG_BYTES:
                with path.open("r+b") as log:
                    log.seek(-_LOG_KEPT_BYTES, 2)
                    end = log.read()
                    log.truncate(0)  # its writers append, wherever its end is
                    log.seek(0)
                    log.write(b"[...]\n" + end)
