"""The W&B projection of the store: a view that can be read, synced, and made again from the store at any time.

    kit.tracking.sync()                             write everything that waits, close the file, and upload it where W&B is online
    read_table(kit.tracking.folder, "feedback")     the table as W&B holds it
    kit.tracking.artifacts()                        what campaigns were closed with, and what rests on what

Rows are always written to an offline run first and uploaded from there, so that one path serves offline and online, and a change from
one to the other. The only package with wandb in it, which is imported when there is something to send and not before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llmops_kit.errors import KitError
from llmops_kit.progress import Progress, show_progress
from llmops_kit.settings import Settings
from llmops_kit.tracking.artifacts import list_artifacts
from llmops_kit.tracking.job_runs import JobRuns
from llmops_kit.tracking.offline import read_table as read_table
from llmops_kit.tracking.online import link_inputs, upload_folders
from llmops_kit.tracking.outbox import Outbox
from llmops_kit.tracking.relay import Relay
from llmops_kit.tracking.rows import KINDS
from llmops_kit.types import ENDED, Job, OutboxItem

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SyncReport", "Tracking", "TrackingStatus", "read_table"]
_log = logging.getLogger(__name__)
_POLL_S = 2.0
_LONGEST_PAUSE_S = 30.0
_LONGEST_RETRY_S = 60.0
_UPLOAD_EVERY_S = 60.0
_CLOSE_S = 5.0


@dataclass(frozen=True)
class TrackingStatus:
    """Where the projection stands: records `sent` and `waiting`, the last `fault`, and the folder W&B writes to.

    `mode` is what really happens: `offline`, `online` (asked for and a key is there) or `disabled`. Offline a record is sent when it is in
    the file, online when the server has it. `behind` is how many wait by the table they go to (those of comparisons also to `comparison`).
    """

    mode: str
    sent: int
    waiting: int
    fault: KitError | None
    folder: Path | None
    running: bool
    behind: Mapping[str, int] = field(default_factory=dict)

    @property
    def last_error(self) -> str | None:
        """What went wrong last, in English (`fault.text` knows Japanese); None since it went right again."""
        return self.fault.text("en") if self.fault else None

    def _repr_markdown_(self) -> str:
        error = f" · **{self.last_error}**" if self.last_error else ""
        tables = f" ({', '.join(f'{table} {count}' for table, count in self.behind.items())})" if self.behind else ""
        return f"W&B {self.mode} · 送信済み / sent {self.sent} · 待機中 / waiting {self.waiting}{tables} · `{self.folder}`{error}"


@dataclass(frozen=True)
class SyncReport:
    """What one `sync` or `rebuild` did: records `sent` to the file now, of them `found_missing` (sent before, but not there), those still `waiting`."""

    sent: int
    found_missing: int
    waiting: int
    folder: Path | None
    error: str | None = None

    @property
    def complete(self) -> bool:
        """Whether W&B now holds every row of the store: in the file, and where W&B is online also at the server."""
        return self.error is None and self.waiting == 0

    def _repr_markdown_(self) -> str:
        error = f" · **{self.error}**" if self.error else ""
        return f"W&B · 送信 / sent {self.sent} · 再送 / found missing {self.found_missing} · 待機中 / waiting {self.waiting} · `{self.folder}`{error}"


class Tracking:
    """The W&B tables made from the store. Safe to share between threads; no method raises for what W&B does.

    Building it imports nothing and starts nothing. `start` sends in the background; `sync` works without it. With
    `wandb_mode="disabled"` every method is there and does nothing.
    """

    def __init__(self, store: Outbox, settings: Settings) -> None:
        self._store = store
        self._enabled = settings.wandb_mode != "disabled"
        self._relay = Relay(store, settings)
        self._jobs = JobRuns(store, settings)
        self._sending = threading.RLock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._fault: KitError | None = None
        self._failures = 0
        self._uploaded_at = float("-inf")

    @property
    def folder(self) -> Path | None:
        """The folder W&B's run folders are in; None when disabled."""
        return self._relay.folder if self._enabled else None

    def start(self) -> None:
        """Begin to send in the background. Calling it again changes nothing."""
        if self._enabled and (self._thread is None or not self._thread.is_alive()):
            self._stopping.clear()
            self._thread = threading.Thread(target=self._send_forever, name="wandb-relay", daemon=True)
            self._thread.start()

    def status(self) -> TrackingStatus:
        """How much is sent and how much waits. Raises `WorkspaceError` where the store cannot be read."""
        behind = self._behind()
        return TrackingStatus(
            mode=self._relay.mode if self._enabled else "disabled",
            sent=self._store.count(OutboxItem) - sum(count for kind, count in behind.items() if kind != "jobs"),
            waiting=sum(behind.values()),
            fault=self._fault,
            folder=self.folder,
            running=self._thread is not None and self._thread.is_alive(),
            behind={KINDS[kind].table if kind in KINDS else kind: count for kind, count in behind.items()},
        )

    def sync(self, *, progress: Progress | Literal[False] | None = None) -> SyncReport:
        """Send everything that waits, close the file, read it back, and send again what is missing. Blocks until done.

        Where W&B is online, all files that its server does not have are uploaded then, those written offline before included, and it is
        told which artifact rests on which. `progress(done, total, seconds_left)`, in records, is called after each batch; None draws a
        bar in a notebook or a terminal, False nothing.
        """
        sent, before = 0, self._relay.found_missing
        if self._enabled:
            with self._attempt(), self._reporting(progress, {"sent_at": None}) as report:
                sent = self._relay.send(report=report)
                self._relay.finish()
                self._relay.check()
                sent += self._relay.send(report=report)
                self._relay.finish()
                self._log_jobs()
                self._upload()
        return self._report(sent, self._relay.found_missing - before)

    def log_job(self, job: Job) -> None:
        """Write what is new of an ended tuning job to its own W&B run, and upload it where W&B is online; nothing where its spec says no.

        A job's process calls it at its end; `sync` does it for those that had none. Never raises for what W&B does.
        """
        if self._enabled:
            with self._attempt():
                self._jobs.log(job, online=self._relay.mode == "online", stop=self._stopping.is_set)

    def artifacts(self) -> pd.DataFrame:
        """What campaigns were closed with: name, version, alias, kind, sha256, rows, inputs, created_at, about. Needs neither W&B nor a network."""
        return list_artifacts(self._store)

    def rebuild(self, *, progress: Progress | Literal[False] | None = None) -> SyncReport:
        """Write fresh W&B runs from the store alone; the folders there were are kept in `replaced`. Blocks until done.

        Online it is uploaded, beside the run that the server has; nobody but you may delete that. `progress` as in `sync`.
        """
        sent = 0
        if self._enabled:
            with self._attempt(), self._reporting(progress, {}) as report:
                sent = self._relay.rebuild(report=report)
                for job in self._store.find(Job, state=[*ENDED]):
                    self._jobs.rebuild(job)
                self._log_jobs()
                self._upload()
        return self._report(sent, 0)

    def close(self) -> None:
        """Send what waits and close the file, within a few seconds; what is left waits for the next start. Never raises."""
        self._stopping.set()
        started, self._thread = self._thread, None
        give_up = time.monotonic() + _CLOSE_S
        if started is not None:
            started.join(_CLOSE_S)
        if not self._sending.acquire(timeout=max(0.1, give_up - time.monotonic())):
            return
        try:
            with self._attempt(release=True):
                waits = started is not None and self._relay.pending()
                if self._relay.is_open or waits:
                    self._relay.send(give_up)
                self._relay.finish()
                # A server that was not reached so far would hold up the end; the files wait for the next start.
                if started is not None and not self._failures:
                    self._upload(lambda: time.monotonic() > give_up)
        finally:
            self._sending.release()

    def _send_forever(self) -> None:
        while not self._stopping.wait(self._pause_s()):
            with self._attempt(release=False):
                if self._relay.pending():
                    self._relay.send(time.monotonic() + _POLL_S)
                if time.monotonic() - self._uploaded_at > _UPLOAD_EVERY_S:
                    self._log_jobs()
                    self._upload(self._stopping.is_set)

    def _log_jobs(self) -> None:
        """Write and upload the runs of jobs whose own process could not."""
        online = self._relay.mode == "online"
        for job in self._jobs.behind(online=online):
            self._jobs.log(job, online=online, stop=self._stopping.is_set)

    def _upload(self, stop: Callable[[], bool] = lambda: False) -> None:
        """Bring to the server what it does not have, where there is one."""
        self._uploaded_at = time.monotonic()
        if self._relay.mode == "online":
            upload_folders(self._relay, stop)
            link_inputs(self._relay)

    def _behind(self) -> Counter[str]:
        """How many records wait, by kind: for the file, and where W&B is online also those in files that its server does not have."""
        behind = Counter(kind for (kind,) in self._store.values(OutboxItem, ("kind",), sent_at=None))
        ledger = self._relay.ledger if self._enabled and self._relay.mode == "online" else None
        for entry in ledger.behind(self._relay.folder).values() if ledger else ():
            behind.update(entry.records)
        jobs = len(self._jobs.behind(online=self._relay.mode == "online")) if self._enabled else 0
        return behind + Counter({"jobs": jobs})

    def _pause_s(self) -> float:
        """Seconds to the next look: longer after failures, and as a run's table grows, since each step repeats its past."""
        if self._failures:
            return min(_LONGEST_RETRY_S, _POLL_S * 2.0**self._failures)
        return min(_LONGEST_PAUSE_S, _POLL_S + self._relay.increments / 4)

    @contextmanager
    def _reporting(self, progress: Progress | Literal[False] | None, rows: Mapping[str, None]) -> Iterator[Callable[[int], None]]:
        """What is told the size of each batch and passes it on as progress over the outbox's `rows`."""
        total, done, started = self._store.count(OutboxItem, **rows), 0, time.monotonic()
        with show_progress(progress, "row") as show:

            def report(batch: int) -> None:
                nonlocal done
                done += batch
                show(done, max(total, done), (time.monotonic() - started) / done * max(0, total - done))

            yield report

    @contextmanager
    def _attempt(self, *, release: bool | None = None) -> Iterator[None]:
        """Run one attempt to send, alone; what goes wrong is remembered for `status` and raised to nobody."""
        with self._sending:
            try:
                yield
            except KitError as fault:
                self._failures += 1
                if self._fault is None or str(self._fault) != str(fault):
                    _log.warning("%s", fault.text("en"))
                self._fault = fault
            else:
                self._failures, self._fault = 0, None
            finally:
                background = self._thread is not None and self._thread.is_alive()
                if release or (release is None and not background):
                    self._relay.release()

    def _report(self, sent: int, found_missing: int) -> SyncReport:
        waiting = sum(self._behind().values()) if self._enabled else 0
        return SyncReport(sent, found_missing, waiting, self.folder, self._fault.text("en") if self._fault else None)
