"""What migrations are made of: tables as they were at the time, and columns in the plainest types."""

from __future__ import annotations

import sqlalchemy as sa


def rebuild(connection: sa.Connection, name: str, texts: tuple[str, ...]) -> None:
    """Make a SQLite table anew with `texts` as TEXT, rows and indexes kept: SQLite cannot change a column's type."""
    table = sa.Table(name, sa.MetaData(), autoload_with=connection)
    for column in texts:
        table.c[column].type = sa.Text()
    for index in table.indexes:
        index.drop(connection)
    connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {name}_before")
    table.create(connection)
    columns = ", ".join(column.name for column in table.columns)
    connection.exec_driver_sql(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {name}_before ORDER BY rowid")  # noqa: S608 - our own names
    connection.exec_driver_sql(f"DROP TABLE {name}_before")


def create(connection: sa.Connection, name: str, *parts: sa.schema.SchemaItem) -> None:
    """Make a table of these columns and indexes, unless it is there."""
    sa.Table(name, sa.MetaData(), *parts, sqlite_autoincrement=name == "outbox").create(connection, checkfirst=True)


def text(name: str, length: int | None = None, *, primary_key: bool = False, nullable: bool = True, index: bool = False) -> sa.Column[str]:
    """A column of text, or of strings of at most `length` characters."""
    kind = sa.Text() if length is None else sa.String(length)
    return sa.Column(name, kind, primary_key=primary_key, nullable=nullable and not primary_key, index=index)
