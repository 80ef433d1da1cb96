"""Vectors in PostgreSQL with the pgvector extension: one table per build of a collection's index, with an HNSW graph over cosines.

Kept as 16-bit numbers, which is what the chunks in the store have. Needs pgvector 0.8 or later (`hnsw.iterative_scan`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

if TYPE_CHECKING:
    from llmops_kit.store import Store

MAX_INDEXED = 4000      # dimensions an HNSW graph of 16-bit vectors takes; above it every search reads the whole table
_ROWS = 500
_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")

Floats = NDArray[np.float32]


class VectorTable:
    """One table of vectors: `id`, `document`, `embedding`. It exists from the first `put` on; before that it is empty.

    Raises `WorkspaceError` from every method where the database fails, and `ValueError` for a name that is no plain identifier.
    """

    def __init__(self, store: Store, name: str) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a table of vectors cannot be named {name!r}")
        self._store, self.name = store, name
        self._made = False

    def put(self, rows: Sequence[tuple[str, str, Floats]]) -> None:
        """Write (id, document, vector) rows, each in the place of the one with its id."""
        if not rows:
            return
        dimensions = len(rows[0][2])
        insert = sa.text(
            f"INSERT INTO {self.name} (id, document, embedding) VALUES (:id, :document, CAST(:embedding AS halfvec)) "  # noqa: S608 - a checked name
            "ON CONFLICT (id) DO UPDATE SET document = excluded.document, embedding = excluded.embedding"
        )
        with self._begin() as connection:
            self._create(connection, dimensions)
            for start in range(0, len(rows), _ROWS):
                some = rows[start : start + _ROWS]
                connection.execute(insert, [{"id": id, "document": document, "embedding": _literal(vector)} for id, document, vector in some])

    def remove(self, column: str, values: Sequence[str]) -> None:
        """Take out the rows whose `column` (id or document) is one of `values`."""
        if values and self._exists():
            statement = sa.text(f"DELETE FROM {self.name} WHERE {self._column(column)} = ANY(:values)")  # noqa: S608 - checked names
            with self._begin() as connection:
                connection.execute(statement, {"values": list(values)})

    def nearest(self, vector: Floats, n: int, breadth: int, documents: Sequence[str] | None = None) -> list[str]:
        """Ids of the nearest `n` rows by cosine, nearest first; only of `documents` unless None. `breadth`: rows the graph search keeps in hand."""
        if not self._exists():
            return []
        within = "" if documents is None else "WHERE document = ANY(:documents)"
        statement = sa.text(f"SELECT id FROM {self.name} {within} ORDER BY embedding <=> CAST(:vector AS halfvec) LIMIT :n")  # noqa: S608 - a checked name
        values: dict[str, Any] = {"vector": _literal(vector), "n": n, **({} if documents is None else {"documents": list(documents)})}
        with self._begin() as connection:
            # strict_order: a filter that leaves too few of the first rows makes the graph search go on, in the right order.
            settings = sa.text("SELECT set_config('hnsw.ef_search', :breadth, true), set_config('hnsw.iterative_scan', 'strict_order', true)")
            connection.execute(settings, {"breadth": str(min(max(breadth, n), 1000))})
            return [str(id) for (id,) in connection.execute(statement, values)]

    def vectors(self, ids: Sequence[str]) -> Mapping[str, Floats]:
        """The vectors of these rows, by id."""
        if not self._exists():
            return {}
        statement = sa.text(f"SELECT id, CAST(embedding AS text) FROM {self.name} WHERE id = ANY(:ids)")  # noqa: S608 - a checked name
        with self._begin() as connection:
            return {id: np.array(text[1:-1].split(","), np.float32) for id, text in connection.execute(statement, {"ids": list(ids)})}

    def count(self) -> int:
        """How many rows there are."""
        if not self._exists():
            return 0
        with self._begin() as connection:
            return int(connection.execute(sa.text(f"SELECT count(*) FROM {self.name}")).scalar_one())  # noqa: S608 - a checked name

    def build_graph(self) -> None:
        """Make the HNSW graph, much faster after the rows than before them; until then every search reads the whole table."""
        if not self._exists():
            return
        with self._begin() as connection:
            width = sa.text("SELECT atttypmod FROM pg_attribute WHERE attrelid = to_regclass(:name) AND attname = 'embedding'")
            if connection.execute(width, {"name": self.name}).scalar_one() <= MAX_INDEXED:
                connection.execute(sa.text("SET LOCAL maintenance_work_mem = '256MB'"))
                connection.execute(sa.text(f"CREATE INDEX IF NOT EXISTS {self.name}_graph ON {self.name} USING hnsw (embedding halfvec_cosine_ops)"))
            connection.execute(sa.text(f"ANALYZE {self.name}"))

    def drop(self) -> None:
        """Delete the table."""
        with self._begin() as connection:
            connection.execute(sa.text(f"DROP TABLE IF EXISTS {self.name}"))

    def _create(self, connection: sa.Connection, dimensions: int) -> None:
        if not self._made:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(75661)"))  # two CREATE EXTENSION at once collide in spite of IF NOT EXISTS
            connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS vector"))
            columns = f"id text PRIMARY KEY, document text NOT NULL, embedding halfvec({int(dimensions)}) NOT NULL"
            connection.execute(sa.text(f"CREATE TABLE IF NOT EXISTS {self.name} ({columns})"))
            connection.execute(sa.text(f"CREATE INDEX IF NOT EXISTS {self.name}_document ON {self.name} (document)"))

    def _exists(self) -> bool:
        """Once seen it is taken to stay: whoever drops it from outside gets an error from the next query, not an empty answer."""
        if not self._made:
            with self._begin() as connection:
                found = connection.execute(sa.text("SELECT to_regclass(:name) IS NOT NULL"), {"name": self.name})
                self._made = bool(found.scalar_one())
        return self._made

    def _begin(self) -> AbstractContextManager[sa.Connection]:
        return _transaction(self._store)

    @staticmethod
    def _column(name: str) -> str:
        if name not in ("id", "document"):
            raise ValueError(f"a table of vectors has no column {name!r}")
        return name


def list_tables(store: Store, prefix: str) -> list[str]:
    """Names of the tables of vectors that begin with `prefix`."""
    statement = sa.text("SELECT tablename FROM pg_tables WHERE schemaname = ANY(current_schemas(false)) AND starts_with(tablename, :prefix)")
    with _transaction(store) as connection:
        return [str(name) for (name,) in connection.execute(statement, {"prefix": prefix})]


@contextmanager
def _transaction(store: Store) -> Iterator[sa.Connection]:
    """A transaction beside the store's one writer: building a graph takes minutes, and PostgreSQL needs no queue of writers."""
    with store._translated(), store._engine.begin() as connection:
        yield connection


def _literal(vector: Floats) -> str:
    return "[" + ",".join(map("{:.6g}".format, vector.tolist())) + "]"
