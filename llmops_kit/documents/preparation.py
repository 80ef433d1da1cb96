"""From the pages of documents to the rows that are searched: chunks with their vectors, ready to be stored."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmops_kit.documents.chunking import chunk_pages, document_text
from llmops_kit.errors import InvalidValue
from llmops_kit.types import Chunk, Collection, Document, Page

if TYPE_CHECKING:
    from llmops_kit.models import Models

CHUNKER, TOKENIZER = "sentences-1", "ngrams-1"
SIZES = (50, 4000)
"""Smallest and largest chunk, in characters."""
EMBEDDED = 1024
"""Chunks embedded between two looks at whether to stop."""
PAGED = frozenset({"pdf", "pptx", "xlsx"})
"""Kinds of file whose pages, slides or sheets people know by number."""


@dataclass(frozen=True)
class Prepared:
    """A document that may become searchable: its row as it will be, its pages, its chunks."""

    document: Document
    pages: tuple[Page, ...]
    chunks: tuple[Chunk, ...]


def name_chunker(size: int) -> str:
    """The name a collection records for chunks of at most `size` characters. Raises: InvalidValue."""
    if not SIZES[0] <= size <= SIZES[1]:
        raise InvalidValue(name="chunk_size", value=size, allowed=f"{SIZES[0]}–{SIZES[1]}")
    return f"{CHUNKER}:{size}"


def read_chunker(collection: Collection) -> int:
    """The chunk size of a collection, in characters. Raises: InvalidValue, where it was cut by a chunker this version does not have."""
    found = re.fullmatch(rf"{CHUNKER}:(\d+)", collection.chunker)
    if found is None or collection.tokenizer != TOKENIZER:
        raise refuse_mix(collection, f"{collection.chunker}, {collection.tokenizer}", f"{CHUNKER}, {TOKENIZER}")
    return int(found[1])


def refuse_mix(collection: Collection, held: str, current: str) -> InvalidValue:
    """The error that says a collection was made with something else (`held`) than what is here now, and what to do."""
    return InvalidValue(
        en=f"“{collection.name}” was indexed with {held}, and here is {current}: the two cannot be mixed. "
        f"Rebuild it (kit.documents.rebuild({collection.name!r})); the documents are all kept.",
        ja=f"「{collection.name}」は{held}で索引されていますが、ここにあるのは{current}です。混ぜて使うことはできません。"
        f"作り直してください（kit.documents.rebuild({collection.name!r})）。文書はすべて残っています。",
        name="collection",
        value=collection.name,
    )


def cut(document: Document, collection: Collection, pages: Sequence[Page], size: int) -> list[Chunk]:
    """The chunks of one document, without vectors."""
    kept = [page for page in pages if not page.dropped]
    text, paged = document_text(kept), document.kind in PAGED
    pieces = chunk_pages(kept, size=size, paged=paged, kind=document.kind)
    return [
        Chunk(
            id=f"{document.id}:{position}",
            document_id=document.id,
            collection_id=collection.id,
            position=position,
            start=piece.start,
            end=piece.end,
            page=piece.page if paged else None,
            line=piece.line,
            heading=piece.heading,
            text=text[piece.start : piece.end],
        )
        for position, piece in enumerate(pieces)
    ]


def embed(models: Models, collection: Collection, chunks: Sequence[Chunk], *, check: Callable[[], None] | None = None) -> tuple[list[Chunk], Collection]:
    """The chunks with vectors, and the collection with what they were made by. `check` is called now and then, to raise where it shall end.

    Raises: InvalidValue, where the collection holds vectors of another embedder; a `ModelError` of the embedder.
    """
    if not chunks:
        return [], collection
    made: list[Chunk] = []
    for place in range(0, len(chunks), EMBEDDED):
        some, collection = _embed(models, collection, chunks[place : place + EMBEDDED])
        made += some
        if check is not None:
            check()
    return made, collection


def _embed(models: Models, collection: Collection, chunks: Sequence[Chunk]) -> tuple[list[Chunk], Collection]:
    import numpy as np

    embedder = models.embedder(collection.embedder)
    vectors = embedder.encode([chunk.indexed_text for chunk in chunks]).astype(np.float16)
    revision, dimensions = embedder.revision, int(vectors.shape[1])
    if collection.dimensions and (collection.embedder_revision, collection.dimensions) != (revision, dimensions):
        held = f"{collection.embedder} ({collection.embedder_revision}, {collection.dimensions})"
        raise refuse_mix(collection, held, f"{collection.embedder} ({revision}, {dimensions})")
    made = [replace(chunk, vector=row.tobytes()) for chunk, row in zip(chunks, vectors, strict=True)]
    return made, replace(collection, embedder_revision=revision, dimensions=dimensions)
