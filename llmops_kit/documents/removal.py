"""Removing documents and collections with every trace of them."""

from __future__ import annotations

from collections.abc import Iterable

from llmops_kit.documents.ingestion import Ingestion
from llmops_kit.documents.retrieval import Retrieval
from llmops_kit.store import Store
from llmops_kit.types import Chunk, Collection, Document, Page


class Removal:
    """Removes what is stored, kept and indexed. What is being taken in at that moment does not bring it back."""

    def __init__(self, store: Store, ingestion: Ingestion, retrieval: Retrieval) -> None:
        self._store = store
        self._ingestion = ingestion
        self._retrieval = retrieval

    def remove(self, documents: Iterable[Document]) -> None:
        """Remove documents."""
        given = list(documents)
        ids = [each.id for each in given]
        with self._store.change() as change:
            for kind in (Chunk, Page):
                change.remove(kind, document_id=ids)
            change.remove(Document, id=ids)
        self._ingestion.forget_files(given)
        for collection_id in dict.fromkeys(each.collection_id for each in given):
            self._ingestion.sync(collection_id)

    def remove_unread(self, documents: Iterable[Document]) -> None:
        """Put away those that wait to be read and nobody is reading."""
        unclaimed = self._ingestion.find_unclaimed(list(documents))
        with self._store.change() as change:
            waiting = change.find(Document, id=[each.id for each in unclaimed], state=["waiting", "reading"])
            change.remove(Document, id=[each.id for each in waiting])
        self._ingestion.forget_files(waiting)

    def remove_collection(self, collection: Collection) -> None:
        """Remove a collection with all its documents."""
        index = self._retrieval.index()
        with self._store.change() as change:
            change.find(Collection, id=collection.id)  # from here on nobody stores anything in it
            documents = change.find(Document, collection_id=collection.id)
            change.remove(Page, document_id=[each.id for each in documents])
            for kind in (Chunk, Document):
                change.remove(kind, collection_id=collection.id)
            change.remove(Collection, id=collection.id)
        self._ingestion.forget_files(documents)
        index.forget(collection.id)
