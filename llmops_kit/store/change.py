"""What is written in one transaction: events that are appended, and records of people that may be replaced or removed."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa

from llmops_kit.store.records import TABLES, decode, encode
from llmops_kit.store.statements import appending, conditions, insert_into, read
from llmops_kit.types import OutboxItem, now

Record = TypeVar("Record")
_ROWS = 500


class Change:
    """What `Store.change` gives: put and remove records inside its transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def append(self, record: Any, *, publish: str | None = None) -> bool:
        """Write `record` unless its id is there already (then False); `publish` as in `Store.append`."""
        dialect = self._connection.dialect
        fresh = appending(TABLES[type(record)], dialect).run(self._connection, encode(record))
        if fresh and publish:
            publication = {"kind": publish, "record_id": record.id, "created_at": now(), "sent_at": None}
            appending(TABLES[OutboxItem], dialect).run(self._connection, publication)
        return fresh

    def put(self, record: Any) -> None:
        """Write `record`, in the place of the one with its id if there is one."""
        self.put_all([record])

    def put_all(self, records: Iterable[Any]) -> None:
        """Write records of one kind, each in the place of the one with its id if there is one."""
        waiting = iter(records)
        while some := list(islice(waiting, _ROWS)):
            table = TABLES[type(some[0])]
            insert = insert_into(table, self._connection.dialect.name)
            changed = {column.name: insert.excluded[column.name] for column in table.columns if not column.primary_key}
            statement = insert.on_conflict_do_update(index_elements=[column.name for column in table.primary_key], set_=changed)
            self._connection.execute(statement, [encode(record) for record in some])

    def find(self, kind: type[Record], **equal: Any) -> list[Record]:
        """The records whose columns equal the given values as they are now, oldest first; nobody else changes them until the transaction ends."""
        found = read(self._connection, kind, equal, newest_first=False, locking=True)
        return [decode(kind, dict(row)) for row in found.mappings()]

    def count(self, kind: type, **equal: Any) -> int:
        """How many records there are now whose columns equal the given values."""
        return int(read(self._connection, kind, equal, counting=True).scalar_one())

    def update(self, kind: type, id: str, **values: Any) -> bool:
        """Set only these columns of the record with this id; False where it is gone. What somebody else set meanwhile stays."""
        table = TABLES[kind]
        return self._connection.execute(sa.update(table).where(table.c.id == id).values(**values)).rowcount > 0

    def remove(self, kind: type, **equal: Any) -> int:
        """Remove the records whose columns equal the given values (a list means any of them); how many there were. Raises `ValueError` without any value."""
        if not equal:
            raise ValueError("a removal names what it removes")
        table = TABLES[kind]
        return self._connection.execute(sa.delete(table).where(*conditions(table, equal, self._connection.dialect))).rowcount
