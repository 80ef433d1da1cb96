"""The dense leg: what an index of vectors must do, and the default one, Chroma in a folder per build.

Chroma is opened inside this process only, never as a server: its server has no login. A kill may leave one of its folders unusable for
good, which is why each build has a folder of its own, is checked when it is opened, and is made anew from the store when it fails.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from llmops_kit.documents.index.faults import guard_leg

NAME = "dense"
BREADTH = 200           # candidates a graph search keeps in hand; 100 lost 13 of 100 nearest of 100,000 chunks, 200 loses 6
MOST_NAMED = 30_000     # documents one search may be limited to; Chroma sends each as a value, and SQLite takes 32,766 in a statement
_PREFIX = "chroma-"

Floats = NDArray[np.float32]
Item = TypeVar("Item")


class VectorRow(NamedTuple):
    """One chunk as it is indexed: `vector` has length 1."""

    chunk_id: str
    document_id: str
    vector: Floats


class VectorIndex(Protocol):
    """One build of one collection: chunk ids by the cosine of their vectors. Any number of threads may read while one writes.

    Every method raises `LegFault` where the index fails.
    """

    def put(self, rows: Sequence[VectorRow]) -> None:
        """Write vectors, each in the place of the one with its chunk id."""

    def remove(self, chunk_ids: Sequence[str]) -> None:
        """Take these chunks out."""

    def remove_documents(self, document_ids: Sequence[str]) -> None:
        """Take out whatever is there of these documents."""

    def search(self, vector: Floats, n: int, documents: Set[str] | None = None) -> list[str]:
        """Ids of about the nearest `n` chunks, nearest first; only of `documents` unless None."""

    def vectors(self, chunk_ids: Sequence[str]) -> Mapping[str, Floats]:
        """The vectors of these chunks, by id; absent ones are left out."""

    def count(self) -> int:
        """How many chunks there are."""

    def settle(self) -> None:
        """Called when what was to be put is there, before it is searched much."""

    def close(self) -> None:
        """Give back what it holds. It cannot be used afterwards."""


class VectorBackend(Protocol):
    """Where the builds of all collections are kept."""

    name: str

    def open(self, collection_id: str, build: str) -> VectorIndex:
        """The build of this name, made empty where there is none. Raises: `LegFault`."""

    def builds(self, collection_id: str) -> list[str]:
        """Names of the builds that exist, those that a kill left behind among them."""

    def drop(self, collection_id: str, build: str) -> None:
        """Delete a build that is closed, with everything in it."""


class ChromaBackend:
    """A folder per collection and build under `folder`."""

    name = "chroma"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, collection_id: str, build: str) -> ChromaVectors:
        """The build of this name, made empty where there is none. Raises: `LegFault`."""
        return ChromaVectors(self._folder / collection_id / f"{_PREFIX}{build}", f"c-{collection_id}")

    def builds(self, collection_id: str) -> list[str]:
        """Names of the builds that exist."""
        return [path.name.removeprefix(_PREFIX) for path in (self._folder / collection_id).glob(f"{_PREFIX}*")]

    def drop(self, collection_id: str, build: str) -> None:
        """Delete its folder."""
        shutil.rmtree(self._folder / collection_id / f"{_PREFIX}{build}", ignore_errors=True)


class ChromaVectors:
    """One build in a Chroma folder: ids, vectors and the document's id; no text."""

    def __init__(self, folder: Path, name: str) -> None:
        import chromadb
        from chromadb.config import Settings

        with guard_leg(NAME):
            folder.mkdir(parents=True, exist_ok=True)
            self._client: Any = chromadb.PersistentClient(str(folder), settings=Settings(anonymized_telemetry=False))
            shape: Any = {"hnsw": {"space": "cosine", "ef_search": BREADTH}}
            # Without embedding_function=None it would attach a model that has to be downloaded.
            self._collection = self._client.get_or_create_collection(name, embedding_function=None, configuration=shape)
            self._batch = self._client.get_max_batch_size()

    def put(self, rows: Sequence[VectorRow]) -> None:
        """Write vectors, each in the place of the one with its chunk id."""
        with guard_leg(NAME):
            for some in _batches(rows, self._batch):
                self._collection.upsert(
                    ids=[row.chunk_id for row in some],
                    embeddings=np.stack([row.vector for row in some]),
                    metadatas=[{"document": row.document_id} for row in some],
                )

    def remove(self, chunk_ids: Sequence[str]) -> None:
        """Take these chunks out."""
        with guard_leg(NAME):
            for some in _batches(chunk_ids, self._batch):
                self._collection.delete(ids=list(some))

    def remove_documents(self, document_ids: Sequence[str]) -> None:
        """Take out whatever is there of these documents."""
        with guard_leg(NAME):
            for some in _batches(document_ids, self._batch):
                self.remove(self._collection.get(where=_among(some), include=[])["ids"])

    def search(self, vector: Floats, n: int, documents: Set[str] | None = None) -> list[str]:
        """Ids of about the nearest `n` chunks, nearest first; only of `documents` unless None."""
        parts = [None] if documents is None else [_among(some) for some in _batches(sorted(documents), MOST_NAMED)]
        found: list[tuple[float, str]] = []
        with guard_leg(NAME):
            for within in parts:
                answer: Any = self._collection.query(query_embeddings=vector[None], n_results=n, where=within, include=["distances"])
                found += zip(answer["distances"][0], answer["ids"][0], strict=True)
        return [id for _, id in (sorted(found)[:n] if len(parts) > 1 else found)]

    def vectors(self, chunk_ids: Sequence[str]) -> Mapping[str, Floats]:
        """The vectors of these chunks, by id; absent ones are left out."""
        with guard_leg(NAME):
            found = self._collection.get(ids=list(chunk_ids), include=["embeddings"])
            embeddings = found["embeddings"]
            return {} if embeddings is None else dict(zip(found["ids"], np.asarray(embeddings, np.float32), strict=True))

    def count(self) -> int:
        """How many chunks there are."""
        with guard_leg(NAME):
            return int(self._collection.count())

    def settle(self) -> None:
        """Nothing: Chroma keeps its graph as it goes."""

    def close(self) -> None:
        """Close its files and end its threads."""
        with guard_leg(NAME):
            self._client.close()


def _among(documents: Sequence[str]) -> Any:
    return {"document": {"$in": list(documents)}}


def _batches(items: Sequence[Item], size: int) -> list[Sequence[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
