"""The relay: carries what waits in the store's outbox into the W&B run, and finds what did not arrive.

A record counts as sent when it can be read back from W&B's log file, and as arrived, where a server is configured, when that file was
uploaded. A kill at any point leaves records waiting; what it left in the file is found there and not sent again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal

from llmops_kit.errors import TrackingError
from llmops_kit.pseudonyms import pseudonym, pseudonym_key
from llmops_kit.settings import Settings, place_wandb, secret
from llmops_kit.tracking.ledger import Ledger, load_ledger, new_ledger, save_ledger
from llmops_kit.tracking.offline import find_sessions, read_content, seal_log
from llmops_kit.tracking.outbox import OneSender, Outbox, as_tracking_error
from llmops_kit.tracking.rows import KINDS, LAYOUT, make_rows
from llmops_kit.tracking.session import Session, Target
from llmops_kit.types import Artifact, OutboxItem

_BATCH_ROWS = 200
_BATCH_CHARS = 8_000_000
_PART = 20  # records read from the store at once: a record may hold megabytes
# W&B keeps a table's rows in memory, repeats the names of its last hundred files in each step, and shows those: past this
# a run goes on in a new folder, as a resumed run does.
_SESSION_INCREMENTS = 100
_SESSION_ROWS = 5_000


class Relay:
    """Sends on request, in the caller's thread; the caller sees to it that only one thread is in here.

    Every method raises `TrackingError` when W&B or its folder fails and `WorkspaceError` when the store does;
    then the records concerned still wait in the outbox.
    """

    def __init__(self, store: Outbox, settings: Settings) -> None:
        self.folder = settings.workspace.absolute() / "wandb"
        self.store = store
        self.settings = settings
        self.found_missing = 0
        self._session: Session | None = None
        self._ledger: Ledger | None = None
        self._sender = OneSender(self.folder)
        self._continued: dict[str, Mapping[str, Any]] = {}
        self._step = -1
        self._key: bytes | None = None

    @property
    def mode(self) -> Literal["offline", "online"]:
        """Online only where the person asked for it and gave a key: W&B itself would ask for one or use the network."""
        return "online" if self.settings.wandb_mode == "online" and secret("WANDB_API_KEY") else "offline"

    @property
    def is_open(self) -> bool:
        """Whether a W&B run is open."""
        return self._session is not None

    @property
    def increments(self) -> int:
        """How many steps the open run has."""
        return self._session.increments if self._session else 0

    @property
    def ledger(self) -> Ledger | None:
        """The note of the folders as it is now; None where nothing was ever sent."""
        return self._ledger or load_ledger(self.folder)

    def pending(self) -> bool:
        """Whether there is anything to write: records that wait, or a folder that a killed process left open."""
        if self.store.unsent(1):
            return True
        ledger = load_ledger(self.folder) if self._ledger is None else None
        return ledger is not None and ledger.unclean

    def prepare(self) -> None:
        """Become the one process that sends, and know what the folders hold."""
        self._sender.take()
        if self._ledger is None:
            self.check()

    def send(self, give_up: float = float("inf"), *, report: Callable[[int], None] | None = None) -> int:
        """Send what waits, oldest first, until nothing does or the monotonic clock passes `give_up`; how many records.

        `report` is called with the number of records of each batch.
        """
        self.prepare()
        sent = 0
        while items := self.store.unsent(_BATCH_ROWS):
            batch = self._send_batch(items)
            sent += batch
            if report is not None:
                report(batch)
            if time.monotonic() > give_up:
                break
        return sent

    def check(self) -> None:
        """Read the run folders back: what is missing in them goes back into the outbox, what a kill left unmarked comes out of it.

        Adds to `found_missing`.
        """
        self._sender.take()
        self.finish()
        known = load_ledger(self.folder)
        expected: Callable[[datetime], bool] = known.expects(self.folder) if known else lambda moment: True
        written, self._ledger = self._read_back(known or new_ledger(LAYOUT))
        lost, unmarked = [], []
        for item in self.store.find(OutboxItem):
            there = (KINDS[item.kind].table, item.record_id) in written if item.kind in KINDS else bool(item.sent_at)
            if there and not item.sent_at:
                unmarked.append(item)
            elif item.sent_at and not there and expected(item.sent_at):
                lost.append(item)
        self._mark(unmarked, sent=True)
        self._mark(lost, sent=False)
        self.found_missing += len(lost)
        if self._ledger != known:
            self._save(self._ledger)

    def finish(self) -> None:
        """Close the open run, so that its file is complete; the next record opens a new folder of the same run."""
        session, self._session = self._session, None
        if session is not None and self._ledger is not None:
            session.finish()
            self.note(session.folder.name, finished=True)

    def rebuild(self, *, report: Callable[[int], None] | None = None) -> int:
        """Set the folders aside in `replaced` and write everything in the store into a fresh run; how many records.

        Where it is killed, the rest goes on from the outbox, into the fresh run.
        """
        self._sender.take()
        self.finish()
        old = find_sessions(self.folder)
        self._continued = {}
        self._save(replace(new_ledger(LAYOUT), step=self._step))
        self._mark(self.store.find(OutboxItem), sent=False)
        aside = self.folder / "replaced"
        with as_tracking_error():
            aside.mkdir(exist_ok=True)
            for session in old:
                session.rename(aside / session.name)
        sent = self.send(report=report)
        self.finish()
        return sent

    def release(self) -> None:
        """Let another process relay. The next `send` reads the folders back first: it may have written meanwhile."""
        self._ledger = None
        self._sender.give_back()

    def note(self, name: str, **values: object) -> None:
        """Change a folder's entry in the ledger, which must be loaded."""
        if self._ledger is not None and name in self._ledger.sessions:
            self._save(self._ledger.changed(name, **values))

    def note_linked(self, artifacts: Sequence[str]) -> None:
        """Remember that the server knows of the use of these artifacts."""
        if self._ledger is not None:
            self._save(replace(self._ledger, linked=tuple(dict.fromkeys((*self._ledger.linked, *artifacts)))))

    def open_online(self) -> Session:
        """The run at the server, for what cannot be done offline. It holds no rows and is not this relay's open run."""
        target = replace(self._target(), mode="online", base_url=self.settings.wandb_base_url, key=secret("WANDB_API_KEY"))
        ledger = self._ledger or new_ledger(LAYOUT)
        session = Session(target, ledger.run_id)
        self._save(ledger.opened(session.folder.name, online=True).changed(session.folder.name, finished=True))
        return session

    def _send_batch(self, items: Sequence[OutboxItem]) -> int:
        tables: dict[str, list[list[Any]]] = {}
        taken: list[OutboxItem] = []
        artifact: Artifact | None = None
        record: Any
        size = 0
        for item, record in self._load(items):
            if artifact is not None or size > _BATCH_CHARS:
                break  # an artifact ends its step: the next may have tables of the same names
            for table, rows in (make_rows(record, self._name_rater) if record is not None else {}).items():
                tables.setdefault(table, []).extend(rows)
                size += sum(len(cell) for row in rows for cell in row if isinstance(cell, str))
            artifact = record if isinstance(record, Artifact) else None
            taken.append(item)
        if tables:
            try:
                self._write(tables, artifact)
            except TrackingError:
                self._write(tables, artifact)  # W&B's helper process had died, say; it has been started anew
        self._mark(taken, sent=True)
        if self._session and self._ledger:
            name = self._session.folder.name
            self.note(name, records=dict(Counter(item.kind for item in taken) + Counter(self._ledger.sessions[name].records)))
            if self._session.increments >= _SESSION_INCREMENTS or self._session.rows >= _SESSION_ROWS:
                self.finish()
        return len(taken)

    def _write(self, tables: dict[str, list[list[Any]]], artifact: Artifact | None) -> None:
        place_wandb(self.folder)
        session = self._session or self._open()
        self._step += 1
        try:
            session.log(tables, self._step, artifact)
            session.wait_written(self._step)
        except TrackingError:
            self._session = None
            with as_tracking_error():
                seal_log(session.folder)
            if read_content(session.folder).last_step < self._step:
                raise

    def _open(self) -> Session:
        ledger = self._ledger or new_ledger(LAYOUT)
        if ledger.layout != LAYOUT:
            # Another version of the kit wrote other columns; the bits of one W&B table must all have the same.
            ledger = replace(ledger, run_id=new_ledger().run_id, layout=LAYOUT, linked=())
            self._continued = {}
        session = Session(self._target(), ledger.run_id, self._continued)
        self._session = session
        self._save(replace(ledger.opened(session.folder.name), step=self._step))
        return session

    def _target(self) -> Target:
        return Target(root=self.folder.parent, project=self.settings.wandb_project)

    def _load(self, items: Sequence[OutboxItem]) -> Iterator[tuple[OutboxItem, Any]]:
        """The items with their records, a few at a time; None for a record that is gone or of a kind this version does not know."""
        for start in range(0, len(items), _PART):
            part = items[start : start + _PART]
            found: dict[tuple[str, str], Any] = {}
            for name, kind in KINDS.items():
                ids = [item.record_id for item in part if item.kind == name]
                records: list[Any] = self.store.find(kind.record, id=ids) if ids else []
                found.update({(name, record.id): record for record in records})
            yield from ((item, found.get((item.kind, item.record_id))) for item in part)

    def _read_back(self, ledger: Ledger) -> tuple[set[tuple[str, str]], Ledger]:
        """What is in the folders, and the ledger in which those that a kill left open are closed, with what they hold."""
        written: set[tuple[str, str]] = set()
        kinds = {kind.table: name for name, kind in KINDS.items()}
        self._step = max(self._step, ledger.step)
        for folder in find_sessions(self.folder):
            left_open = folder.name in ledger.sessions and not ledger.sessions[folder.name].finished
            if left_open:
                with as_tracking_error():
                    seal_log(folder)
            content = read_content(folder)
            written |= content.rows
            self._step = max(self._step, content.last_step)
            if ledger.run_id in folder.name:
                self._continued.update(content.continued)
            if left_open:
                records = Counter(kinds[table] for table, _ in content.rows if table in kinds)
                ledger = ledger.changed(folder.name, finished=True, records=dict(records))
        for name in [name for name, entry in ledger.sessions.items() if not entry.finished]:
            ledger = ledger.changed(name, finished=True)  # somebody took the folder away
        return written, ledger

    def _name_rater(self, rater: str) -> str:
        self._key = self._key or pseudonym_key(self.store)
        return pseudonym(self._key, rater)

    def _mark(self, items: Sequence[OutboxItem], *, sent: bool) -> None:
        for start in range(0, len(items), 500):  # databases bound the number of values in one statement
            self.store.mark_sent(items[start : start + 500], sent=sent)

    def _save(self, ledger: Ledger) -> None:
        self._ledger = ledger
        with as_tracking_error():
            save_ledger(ledger, self.folder)
