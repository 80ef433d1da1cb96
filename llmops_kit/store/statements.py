"""The statements of the store. The same one is the same object each time: SQLAlchemy makes one in more time than a database needs to run it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import sqlalchemy as sa

from llmops_kit.store.records import TABLES, order_of

_BOUND = 1000
"""Values of a list that are sent one by one. Longer lists go as one JSON text: SQLite takes 32,766 values in a statement, PostgreSQL 65,535."""
_KEPT = 512
"""Statements kept: as many as SQLAlchemy keeps texts of."""
_PLAIN = (str, int, float)


def read(connection: sa.Connection, kind: type, equal: Mapping[str, Any], **shape: Any) -> sa.CursorResult[Any]:
    """The rows of a kind whose columns equal the values (a list means any of them); `shape` as in `_select`."""
    if all(isinstance(value, _PLAIN) for value in equal.values()):
        return connection.execute(_select(kind, tuple(equal), **shape), dict(equal))
    return connection.execute(_select(kind, **shape).where(*conditions(TABLES[kind], equal, connection.dialect)))


@lru_cache(maxsize=_KEPT)
def _select(
    kind: type,
    equal: tuple[str, ...] = (),
    *,
    columns: tuple[str, ...] | None = None,
    counting: bool = False,
    newest_first: bool | None = None,
    limit: int | None = None,
    locking: bool = False,
) -> sa.Select[Any]:
    """Rows of a kind: these `columns` of them (None: all) or only how many, in their order or (`newest_first` None) in none, locked or not."""
    table = TABLES[kind]
    what = [sa.func.count()] if counting else [table] if columns is None else [table.c[name] for name in columns]
    query = sa.select(*what).select_from(table).where(*(table.c[name] == sa.bindparam(name) for name in equal)).limit(limit)
    if newest_first is not None:
        query = query.order_by(*(column.desc() if newest_first else column.asc() for column in order_of(kind)))
    return query.with_for_update() if locking else query


def conditions(table: sa.Table, equal: Mapping[str, Any], dialect: sa.Dialect) -> list[sa.ColumnElement[bool]]:
    """Each column equal to its value, or to any of them where it is a list, however long."""
    return [_among(table.c[name], list(value), dialect) if isinstance(value, (list, tuple, set)) else table.c[name] == value for name, value in equal.items()]


def _among(column: sa.Column[Any], values: list[Any], dialect: sa.Dialect) -> sa.ColumnElement[bool]:
    if len(values) <= _BOUND:
        return column.in_(values)
    bind = column.type.bind_processor(dialect)
    text = sa.literal(json.dumps([bind(value) for value in values] if bind is not None else values), sa.Text())
    if dialect.name == "postgresql":
        listed = sa.func.json_array_elements_text(sa.cast(text, sa.JSON())).table_valued("value")
        return column.in_(sa.select(sa.cast(listed.c.value, column.type)))
    return column.in_(sa.select(sa.func.json_each(text).table_valued("value").c.value))


def insert_into(table: sa.Table, dialect: str) -> Any:
    """An INSERT of the dialect, which knows what to do about rows that are there already."""
    from sqlalchemy.dialects import postgresql, sqlite

    return (postgresql if dialect == "postgresql" else sqlite).insert(table)


@lru_cache(maxsize=_KEPT)
def appending(table: sa.Table, dialect: sa.Dialect) -> Appending:
    """What appends a row to `table`, unless its id is there."""
    key = [column.name for column in table.primary_key]
    return Appending(insert_into(table, dialect.name).on_conflict_do_nothing(index_elements=key).inline(), table, dialect)


class Appending:
    """An INSERT as the text the driver takes. A rating is two of them, and running them by SQLAlchemy's own way takes twice the time."""

    def __init__(self, insert: Any, table: sa.Table, dialect: sa.Dialect) -> None:
        columns = [column for column in table.columns if column is not table.autoincrement_column]
        compiled = insert.compile(dialect=dialect, column_keys=[column.name for column in columns])
        self._text = str(compiled)
        self._order: list[str] | None = compiled.positiontup
        self._binds = [(column.name, column.type.bind_processor(dialect)) for column in columns]

    def run(self, connection: sa.Connection, row: Mapping[str, Any]) -> bool:
        """Whether the row is new."""
        bound = {name: row[name] if bind is None else bind(row[name]) for name, bind in self._binds}
        values = bound if self._order is None else tuple(bound[name] for name in self._order)
        return connection.exec_driver_sql(self._text, values, execution_options={"preserve_rowcount": True}).rowcount > 0
