"""Changes to records that belong to people and may be replaced or removed: several of them in one transaction."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any

import sqlalchemy as sa

from llmops_kit.store.tables import TABLES, encode

_ROWS = 500


class Change:
    """What `Store.change` gives: put and remove records inside its transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

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

    def remove(self, kind: type, **equal: Any) -> int:
        """Remove the records whose columns equal the given values (a list means any of them); how many there were. Raises `ValueError` without any value."""
        if not equal:
            raise ValueError("a removal names what it removes")
        table = TABLES[kind]
        return self._connection.execute(sa.delete(table).where(*conditions(table, equal))).rowcount


def conditions(table: sa.Table, equal: dict[str, Any]) -> list[sa.ColumnElement[bool]]:
    """Each column equal to its value, or to any of them where it is a list."""
    return [table.c[name].in_(value) if isinstance(value, (list, tuple, set)) else table.c[name] == value for name, value in equal.items()]


def insert_into(connection: sa.Connection, table: sa.Table) -> Any:
    """An INSERT of the connection's dialect, which knows what to do about rows that are there already."""
    from sqlalchemy.dialects import postgresql, sqlite

    return (postgresql if connection.dialect.name == "postgresql" else sqlite).insert(table)
