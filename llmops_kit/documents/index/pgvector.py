"""The dense leg in the store's own PostgreSQL (`LLMOPS_VECTORS=pgvector`): the SQL is in `llmops_kit.store.vectors`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence, Set
from typing import TYPE_CHECKING

from llmops_kit.documents.index.dense import BREADTH, NAME, Floats, VectorRow
from llmops_kit.documents.index.faults import guard_leg
from llmops_kit.errors import SettingError

if TYPE_CHECKING:
    from llmops_kit.store import Store


class PgBackend:
    """A table per collection and build, in the database of `store`.

    Raises:
        SettingError: the store is no PostgreSQL.
    """

    name = "pgvector"

    def __init__(self, store: Store) -> None:
        if store.url.get_backend_name() != "postgresql":
            allowed = {
                "en": "chroma, or pgvector together with a PostgreSQL address in LLMOPS_DATABASE_URL",
                "ja": "chroma、またはLLMOPS_DATABASE_URLにPostgreSQLを指定したうえでpgvector",
            }
            raise SettingError(name="LLMOPS_VECTORS", value="pgvector", allowed=allowed)
        self._store = store

    def open(self, collection_id: str, build: str) -> PgVectors:
        """The build of this name; its table is made by the first vectors."""
        return PgVectors(self._store, _prefix(collection_id) + build)

    def builds(self, collection_id: str) -> list[str]:
        """Names of the builds that have a table. Raises: `LegFault`."""
        from llmops_kit.store.vectors import list_tables

        prefix = _prefix(collection_id)
        with guard_leg(NAME):
            return [name.removeprefix(prefix) for name in list_tables(self._store, prefix)]

    def drop(self, collection_id: str, build: str) -> None:
        """Delete its table. Raises: `LegFault`."""
        self.open(collection_id, build).drop()


class PgVectors:
    """One build in a table of vectors."""

    def __init__(self, store: Store, table: str) -> None:
        from llmops_kit.store.vectors import VectorTable

        self._table = VectorTable(store, table)

    def put(self, rows: Sequence[VectorRow]) -> None:
        """Write vectors, each in the place of the one with its chunk id."""
        with guard_leg(NAME):
            self._table.put(rows)

    def remove(self, chunk_ids: Sequence[str]) -> None:
        """Take these chunks out."""
        with guard_leg(NAME):
            self._table.remove("id", chunk_ids)

    def remove_documents(self, document_ids: Sequence[str]) -> None:
        """Take out whatever is there of these documents."""
        with guard_leg(NAME):
            self._table.remove("document", document_ids)

    def search(self, vector: Floats, n: int, documents: Set[str] | None = None) -> list[str]:
        """Ids of about the nearest `n` chunks, nearest first; only of `documents` unless None."""
        with guard_leg(NAME):
            return self._table.nearest(vector, n, BREADTH, None if documents is None else sorted(documents))

    def vectors(self, chunk_ids: Sequence[str]) -> Mapping[str, Floats]:
        """The vectors of these chunks, by id; absent ones are left out."""
        with guard_leg(NAME):
            return self._table.vectors(chunk_ids)

    def count(self) -> int:
        """How many chunks there are."""
        with guard_leg(NAME):
            return self._table.count()

    def settle(self) -> None:
        """Make the graph, now that the rows are there."""
        with guard_leg(NAME):
            self._table.build_graph()

    def close(self) -> None:
        """Nothing: connections are the store's."""

    def drop(self) -> None:
        """Delete the table."""
        with guard_leg(NAME):
            self._table.drop()


def _prefix(collection_id: str) -> str:
    """Table names hold 63 characters; an id is a UUID of 32 digits."""
    return f"v_{re.sub(r'[^a-z0-9]', '', collection_id.lower())[:40]}_"
