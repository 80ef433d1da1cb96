"""The relay: carries what waits in the store's outbox into the W&B run, and finds what did not arrive.

A row counts as sent when it can be read back from W&B's log file. A kill at any point leaves rows waiting or sends
some twice; readers keep each row id once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from llmops_kit.errors import TrackingError
from llmops_kit.settings import Settings, place_wandb, secret
from llmops_kit.tracking.ledger import Ledger, load_ledger, new_ledger, save_ledger
from llmops_kit.tracking.offline import find_sessions, find_written
from llmops_kit.tracking.rows import make_rows
from llmops_kit.tracking.session import Session, Target
from llmops_kit.types import Evaluation, Grid, OutboxItem, Run

if TYPE_CHECKING:
    from filelock import BaseFileLock

Record = TypeVar("Record")
_KINDS: dict[str, tuple[type[Run] | type[Grid] | type[Evaluation], str]] = {
    "run": (Run, "runs"),
    "grid": (Grid, "grids"),
    "evaluation": (Evaluation, "evaluations"),
}
_BATCH_ROWS = 200
_BATCH_CHARS = 8_000_000
_PART = 20  # records read from the store at once: a record may hold megabytes
# W&B keeps a table's rows in memory, repeats the names of all its earlier files in each step, and shows the last 100
# files of a table: past this a run goes on in a new folder, as a resumed run does.
_SESSION_INCREMENTS = 100
_SESSION_ROWS = 5_000
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Outbox(Protocol):
    """What the relay needs of the store, which is an adapter like itself."""

    def find(self, kind: type[Record], **equal: Any) -> list[Record]:
        """Records whose columns equal the given values (a list means any of them)."""

    def count(self, kind: type, **equal: Any) -> int:
        """How many records `find` would give."""

    def unsent(self, limit: int = ...) -> list[OutboxItem]:
        """What was not sent yet, oldest first."""

    def mark_sent(self, items: Sequence[OutboxItem], *, sent: bool = True) -> None:
        """Remember that `items` were sent, or have to go again."""


class Relay:
    """Sends on request, in the caller's thread; the caller sees to it that only one thread is in here.

    Every method raises `TrackingError` when W&B or its folder fails and `WorkspaceError` when the store does;
    then the rows concerned still wait in the outbox.
    """

    def __init__(self, store: Outbox, settings: Settings) -> None:
        self.folder = settings.workspace.absolute() / "wandb"
        self._store = store
        self._settings = settings
        self._session: Session | None = None
        self._ledger: Ledger | None = None
        self._lock: BaseFileLock | None = None
        self._step = -1
        self.found_missing = 0

    @property
    def mode(self) -> Literal["offline", "online"]:
        """Online only where the person asked for it and gave a key: W&B itself would ask for one or use the network."""
        return "online" if self._settings.wandb_mode == "online" and secret("WANDB_API_KEY") else "offline"

    @property
    def is_open(self) -> bool:
        """Whether a W&B run is open."""
        return self._session is not None

    @property
    def increments(self) -> int:
        """How many steps the open run has."""
        return self._session.increments if self._session else 0

    def pending(self) -> bool:
        """Whether there is anything to do: rows that wait, or a folder that a killed process left open."""
        if self._store.unsent(1):
            return True
        ledger = load_ledger(self.folder) if self._ledger is None else None
        return ledger is not None and ledger.unclean

    def send(self, give_up: float = float("inf"), *, report: Callable[[int], None] | None = None) -> int:
        """Send what waits, oldest first, until nothing does or the monotonic clock passes `give_up`; how many rows.

        `report` is called with the number of rows of each batch.
        """
        self._own()
        sent = 0
        if self._ledger is None:
            self.check()
        while items := self._store.unsent(_BATCH_ROWS):
            batch = self._send_batch(items)
            sent += batch
            if report is not None:
                report(batch)
            if time.monotonic() > give_up:
                break
        return sent

    def check(self) -> None:
        """Read the run folders back and put what is missing in them back into the outbox; adds to `found_missing`."""
        self._own()
        ledger = load_ledger(self.folder)
        since = ledger.since(self.folder) if ledger else _LONG_AGO
        self._ledger = ledger or new_ledger()
        written = self._read_back()
        lost = [
            item
            for item in (self._store.find(OutboxItem) if since else [])
            if since and item.sent_at and item.sent_at >= since and (_KINDS[item.kind][1], item.record_id) not in written
        ]
        self._mark(lost, sent=False)
        self.found_missing += len(lost)
        mine = self._session.folder.name if self._session else None
        for name in [name for name, entry in self._ledger.sessions.items() if not entry.finished and name != mine]:
            self._save(self._ledger.closed(name))  # left open by a kill; what it lacked is in the outbox again

    def finish(self) -> None:
        """Close the open run, so that its file is complete; the next row opens a new folder of the same run."""
        session, self._session = self._session, None
        if session is not None and self._ledger is not None:
            session.finish()
            self._save(self._ledger.closed(session.folder.name))

    def rebuild(self, *, report: Callable[[int], None] | None = None) -> int:
        """Write everything in the store into a fresh run and set the old folders aside in `replaced`; how many rows."""
        self._own()
        self.finish()
        self._ledger = replace(load_ledger(self.folder) or new_ledger(), run_id=new_ledger().run_id)
        old = find_sessions(self.folder)
        self._save(self._ledger)
        self._mark(self._store.find(OutboxItem), sent=False)
        sent = self.send(report=report)
        self.finish()
        aside = self.folder / "replaced"
        with _as_tracking_error():
            aside.mkdir(exist_ok=True)
            for session in old:
                session.rename(aside / session.name)
        names = {session.name for session in old}
        kept = {name: entry for name, entry in self._ledger.sessions.items() if name not in names}
        self._save(replace(self._ledger, sessions=kept))
        return sent

    def release(self) -> None:
        """Let another process relay. The next `send` reads the folders back first: it may have written meanwhile."""
        self._ledger = None
        if self._lock is not None:
            self._lock.release()

    def _send_batch(self, items: Sequence[OutboxItem]) -> int:
        tables: dict[str, list[list[Any]]] = {}
        taken: list[OutboxItem] = []
        size = 0
        for part in _parts(items, _PART):
            for record in self._load(part):
                for table, rows in make_rows(record).items():
                    tables.setdefault(table, []).extend(rows)
                    size += sum(len(cell) for row in rows for cell in row if isinstance(cell, str))
            taken += part
            if size > _BATCH_CHARS:
                break
        if tables:
            try:
                self._write(tables)
            except TrackingError:
                if self.mode == "online":
                    raise
                self._write(tables)  # W&B's helper process had died, say; it has been started anew
        self._mark(taken, sent=True)
        if self._session and (self._session.increments >= _SESSION_INCREMENTS or self._session.rows >= _SESSION_ROWS):
            self.finish()
        return len(taken)

    def _write(self, tables: dict[str, list[list[Any]]]) -> None:
        place_wandb(self.folder)
        session = self._session or self._open()
        self._step += 1
        try:
            session.log(tables, self._step)
            session.wait_written(self._step)
        except TrackingError:
            self._session = None
            raise

    def _open(self) -> Session:
        ledger = self._ledger or new_ledger()
        online = self.mode == "online"
        target = Target(
            root=self.folder.parent,
            project=self._settings.wandb_project,
            mode=self.mode,
            base_url=self._settings.wandb_base_url,
            key=secret("WANDB_API_KEY") if online else None,
        )
        session = Session(target, ledger.run_id)
        self._session = session
        self._save(ledger.opened(session.folder.name, online=online))
        return session

    def _load(self, items: Sequence[OutboxItem]) -> list[Run | Grid | Evaluation]:
        found: dict[str, Run | Grid | Evaluation] = {}
        for kind, (record_type, _) in _KINDS.items():
            ids = [item.record_id for item in items if item.kind == kind]
            for record in self._store.find(record_type, id=ids) if ids else []:
                found[record.id] = record
        return [found[item.record_id] for item in items if item.record_id in found]

    def _read_back(self) -> set[tuple[str, str]]:
        """What is in the folders; of an online run that was never closed nothing counts: its upload may have been cut."""
        written: set[tuple[str, str]] = set()
        sessions = self._ledger.sessions if self._ledger else {}
        for folder in find_sessions(self.folder):
            entry = sessions.get(folder.name)
            rows, last_step = find_written(folder)
            self._step = max(self._step, last_step)
            if entry is None or not entry.online or entry.finished:
                written |= rows
        return written

    def _mark(self, items: Sequence[OutboxItem], *, sent: bool) -> None:
        for part in _parts(items, 500):  # databases bound the number of values in one statement
            self._store.mark_sent(part, sent=sent)

    def _save(self, ledger: Ledger) -> None:
        self._ledger = ledger
        with _as_tracking_error():
            save_ledger(ledger, self.folder)

    def _own(self) -> None:
        """Become the one process that relays for this workspace, until `release`."""
        from filelock import FileLock, Timeout

        with _as_tracking_error():
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = self._lock or FileLock(self.folder / "relay.lock", timeout=0, thread_local=False)
            try:
                if not self._lock.is_locked:
                    self._lock.acquire()
            except Timeout:
                raise TrackingError(
                    reason="another process sends for this workspace",
                    en="Another process already writes the W&B tables of this workspace; it sends these rows too.",
                    ja="別のプロセスがこのワークスペースのW&Bの表を書き込んでいます。この行もそのプロセスが送ります。",
                ) from None


@contextmanager
def _as_tracking_error() -> Iterator[None]:
    try:
        yield
    except OSError as fault:
        raise TrackingError(reason=fault.strerror or str(fault)) from fault


def _parts(items: Sequence[OutboxItem], size: int) -> Iterator[Sequence[OutboxItem]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
