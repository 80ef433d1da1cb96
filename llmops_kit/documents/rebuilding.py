"""Cutting and embedding a collection anew from the pages it keeps, with another embedder or chunk size."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmops_kit.documents import preparation
from llmops_kit.documents.ingestion import Ingestion
from llmops_kit.documents.retrieval import Retrieval
from llmops_kit.errors import Cancelled
from llmops_kit.progress import show_progress
from llmops_kit.store import Store
from llmops_kit.types import Chunk, Collection, Document, Page

if TYPE_CHECKING:
    from llmops_kit.models import Models

_EMBEDDED = 256
"""Chunks embedded between two reports of progress."""


class Rebuilding:
    """Rebuilds collections. Nothing is taken into one meanwhile: what is read waits for its turn."""

    def __init__(self, store: Store, models: Models, ingestion: Ingestion, retrieval: Retrieval, closing: threading.Event) -> None:
        self._store = store
        self._models = models
        self._ingestion = ingestion
        self._retrieval = retrieval
        self._closing = closing

    def rebuild(self, id: str, *, embedder: str | None, chunk_size: int | None, progress: Any) -> Collection:
        """The new chunks take the old ones' place in one transaction; until then the old ones answer.

        Raises: InvalidValue, UnknownName (the embedder), a `ModelError` of the embedder, Cancelled (the kit is closed).
        """
        with self._ingestion.alone(id):
            old = self._store.find(Collection, id=id)[0]
            size = chunk_size if chunk_size is not None else _size_of(old)
            made_with: dict[str, Any] = {"embedder": embedder or old.embedder, "chunker": preparation.name_chunker(size), "tokenizer": preparation.TOKENIZER}
            fresh = replace(old, embedder_revision=None, dimensions=0, **made_with)
            self._models.embedder(fresh.embedder)  # unknown or not there: said before any work
            cuts = self._cut(fresh, size)
            made, fresh = self._embed(fresh, [chunk for _, chunks in cuts for chunk in chunks], progress)
            with self._retrieval.exchanging(id):
                self._store_all(fresh, [document for document, _ in cuts], made)
                self._ingestion.sync(id)
        return fresh

    def _cut(self, collection: Collection, size: int) -> list[tuple[Document, list[Chunk]]]:
        cuts = []
        for document in self._store.find(Document, collection_id=collection.id, state="ready", newest_first=False):
            grown = replace(document, generation=document.generation + 1)
            chunks = preparation.cut(grown, collection, self._store.find(Page, document_id=document.id, newest_first=False), size)
            cuts.append((replace(grown, chunks=len(chunks)), chunks))
        return cuts

    def _embed(self, collection: Collection, chunks: list[Chunk], progress: Any) -> tuple[list[Chunk], Collection]:
        made: list[Chunk] = []
        started = time.monotonic()
        with show_progress(progress, "chunk") as report:
            for place in range(0, len(chunks), _EMBEDDED):
                if self._closing.is_set():
                    raise Cancelled
                some, collection = preparation.embed(self._models, collection, chunks[place : place + _EMBEDDED])
                made += some
                report(len(made), len(chunks), (time.monotonic() - started) / len(made) * (len(chunks) - len(made)))
        return made, collection

    def _store_all(self, collection: Collection, documents: list[Document], made: list[Chunk]) -> None:
        """All of it, without what was removed meanwhile."""
        with self._store.change() as change:
            there = {each.id for each in change.find(Document, collection_id=collection.id)}
            change.remove(Chunk, collection_id=collection.id)
            for document in documents:
                change.update(Document, document.id, generation=document.generation, chunks=document.chunks)
            change.put_all(chunk for chunk in made if chunk.document_id in there)
            names = ("embedder", "embedder_revision", "dimensions", "chunker", "tokenizer")
            change.update(Collection, collection.id, **{name: getattr(collection, name) for name in names})


def _size_of(collection: Collection) -> int:
    """The chunk size a collection was made with, whatever chunker it was."""
    tail = collection.chunker.rpartition(":")[2]
    return int(tail) if tail.isdecimal() else 400
