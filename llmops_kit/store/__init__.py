"""The store: append and find. The truth about every model call, and the only place with SQL.

SQLite (WAL, every commit synced to disk) in the workspace by default, PostgreSQL by `LLMOPS_DATABASE_URL`.
What happened (runs, grids, versions) is appended and never changed; only the outbox keeps a mark of what was sent. Documents belong to
people, who replace and remove them: they are changed by `change`, in one transaction.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from llmops_kit.errors import WorkspaceError
from llmops_kit.store.change import Change
from llmops_kit.store.group_commit import GroupCommit
from llmops_kit.store.migrations import MIGRATIONS
from llmops_kit.store.records import TABLES, decode
from llmops_kit.store.statements import conditions, read
from llmops_kit.store.tables import applied, metadata, outbox
from llmops_kit.types import OutboxItem, now

Record = TypeVar("Record")
Result = TypeVar("Result")
_SQLITE_POOL: dict[str, Any] = {"pool_size": 40, "pool_use_lifo": True}
"""A connection for each thread of the app (opening one takes as long as ten reads), the one used last first: its page cache is still valid."""
_NEWER = {
    "en": "The workspace {path} was made by a newer version of llmops_kit (it knows “{unknown}”). "
    "Update llmops_kit, or choose another folder with --workspace.",
    "ja": "ワークスペース{path}は新しい版のllmops_kitで作られています（「{unknown}」を含みます）。"
    "llmops_kitを更新するか、--workspaceで別のフォルダーを指定してください。",
}


class Store:
    """An open store. Safe to share between threads; one writer at a time.

    Raises `WorkspaceError` from the constructor when the database cannot be opened, is damaged, or was made by a
    newer version, and from `append` when the disk refuses (full, read-only): then nothing was written.
    """

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self._writing = threading.Lock()
        with self._translated():
            if self.url.get_backend_name() == "sqlite" and self.url.database:
                Path(self.url.database).parent.mkdir(parents=True, exist_ok=True)
            pool = _SQLITE_POOL if self.url.get_backend_name() == "sqlite" else {}
            self._engine = sa.create_engine(self.url, pool_pre_ping=True, **pool)
            if self.url.get_backend_name() == "sqlite":
                sa.event.listen(self._engine, "connect", _configure_sqlite)
                sa.event.listen(self._engine, "begin", _begin_sqlite)
                self._check_integrity()
            self._writer = self._engine.execution_options(writes=True)
            self._group = GroupCommit(self._begin)
            self._migrate()

    def append(self, record: Any, *, publish: str | None = None) -> bool:
        """Write `record`; durable when this returns. False (and nothing written) if its id is there already.

        `publish` names the kind under which the W&B projection shall pick it up; both rows are one transaction.
        """
        return self.commit(lambda change: change.append(record, publish=publish))

    def commit(self, work: Callable[[Change], Result]) -> Result:
        """Do `work` in one transaction and give what it gives, once it is durable. Where it raises, nothing of it is written.

        Works of threads that wait at the same time share a transaction and its sync to disk (`group_commit`). So `work` may run in
        another thread and once more after a fault: it keeps no state, and must not call the store itself.
        """
        with self._translated():
            return self._group.commit(work)

    def get(self, kind: type[Record], id: str) -> Record | None:
        """The record with this id, or None."""
        found = self.find(kind, id=id, limit=1)
        return found[0] if found else None

    def find(self, kind: type[Record], *, limit: int | None = None, newest_first: bool = True, **equal: Any) -> list[Record]:
        """Records whose columns equal the given values (a list means any of them), newest first unless told otherwise."""
        with self._translated(), self._engine.connect() as connection:
            return [decode(kind, dict(row)) for row in read(connection, kind, equal, newest_first=newest_first, limit=limit).mappings()]

    def count(self, kind: type, **equal: Any) -> int:
        """How many records `find` would give."""
        with self._translated(), self._engine.connect() as connection:
            return int(read(connection, kind, equal, counting=True).scalar_one())

    def values(self, kind: type, columns: Sequence[str], **equal: Any) -> list[tuple[Any, ...]]:
        """Only these columns of the records that `find` would give, in no order: a chunk's vector need not be read to know its id."""
        with self._translated(), self._engine.connect() as connection:
            return [tuple(row) for row in read(connection, kind, equal, columns=tuple(columns))]

    def scan(self, kind: type[Record], *, batch: int = 1000, **equal: Any) -> Iterator[list[Record]]:
        """The records that `find` would give, `batch` at a time and in the order of their ids; each batch is a query of its own."""
        table, last = TABLES[kind], ""
        while True:
            query = sa.select(table).where(table.c.id > last, *conditions(table, equal, self._engine.dialect)).order_by(table.c.id).limit(batch)
            with self._translated(), self._engine.connect() as connection:
                found = [decode(kind, dict(row)) for row in connection.execute(query).mappings()]
            if found:
                yield found
            if len(found) < batch:
                return
            last = found[-1].id

    @contextmanager
    def change(self) -> Iterator[Change]:
        """Put and remove records in one transaction: all of it is durable when the block ends, or none of it where it raises."""
        with self._write() as connection:
            yield Change(connection)

    def unsent(self, limit: int = 500) -> list[OutboxItem]:
        """What the projection has not sent yet, oldest first."""
        query = sa.select(outbox).where(outbox.c.sent_at.is_(None)).order_by(outbox.c.position).limit(limit)
        with self._translated(), self._engine.connect() as connection:
            return [decode(OutboxItem, dict(row)) for row in connection.execute(query).mappings()]

    def mark_sent(self, items: Sequence[OutboxItem], *, sent: bool = True) -> None:
        """Remember that `items` reached the projection (`sent=False`: that they have to go again)."""
        positions = [item.position for item in items]
        with self._write() as connection:
            connection.execute(outbox.update().where(outbox.c.position.in_(positions)).values(sent_at=now() if sent else None))

    def close(self) -> None:
        """Give the connections back. The store cannot be used afterwards."""
        self._engine.dispose()

    def _migrate(self) -> None:
        known = [name for name, _ in MIGRATIONS]
        with self._write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(75660)"))
            fresh = not sa.inspect(connection).has_table("migrations")
            if fresh:
                metadata.create_all(connection)
            done = set(connection.scalars(sa.select(applied.c.name)))
            if unknown := sorted(done - set(known)):
                facts = {"path": self._place(), "unknown": unknown[-1]}
                raise WorkspaceError(en=_NEWER["en"].format(**facts), ja=_NEWER["ja"].format(**facts), **facts)
            for name, migrate in MIGRATIONS:
                if name not in done:
                    if not fresh:
                        migrate(connection)
                    connection.execute(applied.insert().values(name=name, applied_at=now()))

    def _check_integrity(self) -> None:
        with self._engine.connect() as connection:
            verdict = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
        if verdict != "ok":
            raise WorkspaceError(path=self._place(), reason=f"kit.sqlite: {verdict}")

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        with self._translated(), self._begin() as connection:
            yield connection

    @contextmanager
    def _begin(self) -> Iterator[sa.Connection]:
        with self._writing, self._writer.begin() as connection:
            yield connection

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (DBAPIError, OSError) as fault:
            reason = str(fault.orig if isinstance(fault, DBAPIError) else fault)
            raise WorkspaceError(path=self._place(), reason=reason) from fault

    def _place(self) -> str:
        return self.url.database or "" if self.url.get_backend_name() == "sqlite" else self.url.render_as_string(hide_password=True)


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # SQLAlchemy's BEGIN below, not the driver's
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON", "busy_timeout=5000"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A deferred transaction that turns into a writer can fail at once with "locked"; an immediate one waits its turn. Each read is
    # one statement, which sees one state by itself.
    if connection.get_execution_options().get("writes", False):
        connection.exec_driver_sql("BEGIN IMMEDIATE")
