"""Collections for the tests of the index: documents of given texts, with vectors that cost nothing, in a real store."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from llmops_kit.store import Store
from llmops_kit.types import Chunk, Collection, Document, new_id, now

DIMENSIONS = 24


def embed(text: str, dimensions: int = DIMENSIONS) -> np.ndarray:
    """A vector of length 1 that depends on the text alone; texts that begin alike are near each other."""
    def draw(of: str) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(of.encode("utf-8", "surrogatepass"))).normal(size=dimensions)

    vector = draw(text[:4]) + 0.5 * draw(text)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def add_collection(store: Store, name: str = "規程", dimensions: int = DIMENSIONS) -> Collection:
    """An empty collection."""
    collection = Collection(new_id(), now(), "local", name, embedder_revision="r1", dimensions=dimensions)
    with store.change() as change:
        change.put(collection)
    return collection


def put_document(store: Store, collection: Collection, texts: Sequence[str], document: Document | None = None, *, with_vectors: bool = True) -> Document:
    """Store a document whose chunks are `texts`, ready, in the place of `document` if that is given."""
    if document is None:
        document = Document(new_id(), now(), collection.id, "local", "文書.txt", "0" * 64, 1)
    document = replace(document, state="ready", generation=document.generation + 1, chunks=len(texts))
    offsets = np.cumsum([0, *map(len, texts)]).tolist()
    chunks = [
        Chunk(
            f"{document.id}:{position}",
            document.id,
            collection.id,
            position,
            offsets[position],
            offsets[position + 1],
            None,
            1,
            "",
            text,
            embed(text, collection.dimensions).astype(np.float16).tobytes() if with_vectors else b"",
        )
        for position, text in enumerate(texts)
    ]
    with store.change() as change:
        change.remove(Chunk, document_id=document.id)
        change.put(document)
        change.put_all(chunks)
    return document


def remove_document(store: Store, document: Document) -> None:
    """Remove a document with its chunks from the store."""
    with store.change() as change:
        change.remove(Chunk, document_id=document.id)
        change.remove(Document, id=document.id)
