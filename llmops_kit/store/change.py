"""What is written in one transaction: events that are appended, and records of people that may be replaced or removed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from itertools import islice
from typing import Any, TypeVar

import sqlalchemy as sa

from llmops_kit.store.records import TABLES, decode, encode, order_of
from llmops_kit.store.tables import outbox
from llmops_kit.types import now

Record = TypeVar("Record")
_ROWS = 500
_BOUND = 1000
"""Values of a list that are sent one by one. Longer lists go as one JSON text: SQLite takes 32,766 values in a statement, PostgreSQL 65,535."""


class Change:
    """What `Store.change` gives: put and remove records inside its transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def append(self, record: Any, *, publish: str | None = None) -> bool:
        """Write `record` unless its id is there already (then False); `publish` as in `Store.append`."""
        table = TABLES[type(record)]
        key = [column.name for column in table.primary_key]
        insert = insert_into(self._connection, table).values(**encode(record)).on_conflict_do_nothing(index_elements=key)
        fresh = self._connection.execute(insert.returning(*table.primary_key)).first() is not None
        if fresh and publish:
            self._connection.execute(outbox.insert().values(kind=publish, record_id=record.id, created_at=now()))
        return fresh

    def put(self, record: Any) -> None:
        """Write `record`, in the place of the one with its id if there is one."""
        self.put_all([record])

    def put_all(self, records: Iterable[Any]) -> None:
        """Write records of one kind, each in the place of the one with its id if there is one."""
        waiting = iter(records)
        while some := list(islice(waiting, _ROWS)):
            table = TABLES[type(some[0])]
            insert = insert_into(self._connection, table)
            changed = {column.name: insert.excluded[column.name] for column in table.columns if not column.primary_key}
            statement = insert.on_conflict_do_update(index_elements=[column.name for column in table.primary_key], set_=changed)
            self._connection.execute(statement, [encode(record) for record in some])

    def find(self, kind: type[Record], **equal: Any) -> list[Record]:
        """The records whose columns equal the given values as they are now, oldest first; nobody else changes them until the transaction ends."""
        table = TABLES[kind]
        query = sa.select(table).where(*conditions(table, equal, self._connection.dialect)).order_by(*order_of(kind)).with_for_update()
        return [decode(kind, dict(row)) for row in self._connection.execute(query).mappings()]

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


def conditions(table: sa.Table, equal: dict[str, Any], dialect: sa.Dialect) -> list[sa.ColumnElement[bool]]:
    """Each column equal to its value, or to any of them where it is a list, however long."""
    return [
        _among(table.c[name], list(value), dialect) if isinstance(value, (list, tuple, set)) else table.c[name] == value for name, value in equal.items()
    ]


def _among(column: sa.Column[Any], values: list[Any], dialect: sa.Dialect) -> sa.ColumnElement[bool]:
    if len(values) <= _BOUND:
        return column.in_(values)
    bind = column.type.bind_processor(dialect)
    text = sa.literal(json.dumps([bind(value) for value in values] if bind is not None else values), sa.Text())
    if dialect.name == "postgresql":
        listed = sa.func.json_array_elements_text(sa.cast(text, sa.JSON())).table_valued("value")
        return column.in_(sa.select(sa.cast(listed.c.value, column.type)))
    return column.in_(sa.select(sa.func.json_each(text).table_valued("value").c.value))


def insert_into(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT of the connection's dialect, which knows what to do about rows that are there already."""
    from sqlalchemy.dialects import postgresql, sqlite

    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
