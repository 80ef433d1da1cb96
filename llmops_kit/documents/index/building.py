"""Bringing a build up to the store: what differs is taken out and put in, round by round; and the questions that show a build is sound."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from llmops_kit.documents.index.dense import Floats, VectorBackend, VectorIndex, VectorRow
from llmops_kit.documents.index.faults import LegFault
from llmops_kit.documents.index.lexical import LexicalLeg, LexicalRow
from llmops_kit.documents.index.manifest import Indexed, Manifest
from llmops_kit.models.lexical import tokenize
from llmops_kit.types import Chunk, Document

if TYPE_CHECKING:
    from llmops_kit.progress import Progress
    from llmops_kit.store import Store

ROUND = 2000            # chunks that become searchable together, and what a kill may cost again
_ASKED = 8              # chunks that a check asks for, twice: 50 ms in all
_NEIGHBOURS = 10
_CLOSE = 0.99           # cosine between a vector and what the index keeps of it
_COLUMNS = ("id", "document_id", "position", "heading", "text", "vector")


class Wanted(NamedTuple):
    """A document as the store has it."""

    generation: int
    chunks: int


class IndexRow(NamedTuple):
    """What is read of a chunk to index it."""

    id: str
    document_id: str
    position: int
    heading: str
    text: str
    vector: bytes

    @property
    def indexed_text(self) -> str:
        """What is searched: the text under its heading, as `Chunk.indexed_text`."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


@dataclass(frozen=True)
class Legs:
    """The two indexes of one build."""

    lexical: LexicalLeg
    dense: VectorIndex


def name_build() -> str:
    """A name that no build had before."""
    return secrets.token_hex(4)


def lexical_folder(folder: Path, build: str) -> Path:
    """The folder of a lexical build inside the collection's `folder`."""
    return folder / f"lexical-{build}"


def open_legs(folder: Path, backend: VectorBackend, collection_id: str, manifest: Manifest) -> Legs:
    """The builds a manifest names. Raises: `LegFault`."""
    lexical = LexicalLeg(lexical_folder(folder, manifest.lexical))
    return Legs(lexical, backend.open(collection_id, manifest.dense))


def read_wanted(store: Store, collection_id: str) -> dict[str, Wanted]:
    """The documents of a collection that are to be searchable."""
    rows = store.values(Document, ("id", "generation", "chunks"), collection_id=collection_id, state="ready")
    return {id: Wanted(generation, chunks) for id, generation, chunks in rows}


def count_waiting(manifest: Manifest, wanted: Mapping[str, Wanted]) -> int:
    """How many chunks are to be indexed."""
    known = manifest.documents
    return sum(entry.chunks for id, entry in wanted.items() if id in manifest.pending or id not in known or known[id].generation != entry.generation)


def bring_up(
    legs: Legs, manifest: Manifest, wanted: Mapping[str, Wanted], store: Store, *, saved: Callable[[], None], progress: Progress | None = None
) -> None:
    """Make the legs and `manifest` hold exactly the documents `wanted`. Doing it twice is doing it once.

    `saved` is called whenever the manifest shall be kept: before the first change, with what is about to change in `pending`, and after
    each round. Raises: `LegFault`; whatever `progress` raises ends it between two rounds.
    """
    gone = {id for id, entry in manifest.documents.items() if id not in wanted or wanted[id].generation != entry.generation}
    fresh = [id for id in wanted if id in gone or id not in manifest.documents or id in manifest.pending]
    unsure = set(manifest.pending)
    if not (gone or fresh or unsure):
        return
    manifest.pending |= gone | set(fresh)
    saved()
    legs.dense.remove_documents(sorted(unsure))         # a kill may have left any part of them there
    done, total, started = 0, sum(wanted[id].chunks for id in fresh), time.monotonic()
    leaving = [id for id in gone | unsure if id not in wanted]
    for round_ in [*([leaving] if leaving else []), *_rounds(fresh, wanted)]:
        entries = _replace(legs, manifest, round_, wanted, store)
        for id in round_:
            old = manifest.documents.pop(id, None)
            manifest.removed += old.chunks if old else int(id in unsure)
        manifest.documents.update(entries)
        manifest.pending.difference_update(round_)
        saved()
        done += sum(entry.chunks for entry in entries.values())
        if progress is not None and total:
            progress(min(done, total), total, (time.monotonic() - started) * (total - done) / done if done else None)
    legs.dense.settle()


def check(legs: Legs, manifest: Manifest, store: Store) -> None:
    """Ask a build for what it must know: its counts, a few chunks, and a chunk's own vector. Raises: `LegFault`, if one answer is wrong."""
    full = [id for id, entry in manifest.documents.items() if entry.chunks and id not in manifest.pending]
    asked = [f"{id}:0" for id in {*full[:: max(1, len(full) // _ASKED)][:_ASKED], *full[-_ASKED:]}]      # some of all, and those a kill was nearest to
    # The store first: where it cannot be read (PostgreSQL is down), that is the error, and not a damaged index.
    rows: list[tuple[str, bytes]] = [(id, vector) for id, vector in store.values(Chunk, ("id", "vector"), id=asked)]
    if legs.lexical.snapshot.size != manifest.chunks:
        raise LegFault("lexical", f"{legs.lexical.snapshot.size} chunks instead of {manifest.chunks}")
    if (count := legs.dense.count()) != manifest.vectors:
        raise LegFault("dense", f"{count} vectors instead of {manifest.vectors}")
    for id, _ in rows:
        if (found := legs.lexical.snapshot.count(id)) != 1:
            raise LegFault("lexical", f"the chunk {id} is there {found} times")
    vectors = {id: vector for id, bytes_ in rows if (vector := to_vector(bytes_)) is not None and vector.any()}
    kept = legs.dense.vectors(list(vectors)) if vectors else {}
    missed = []
    for id, vector in vectors.items():
        nearest = legs.dense.vectors(legs.dense.search(vector, _NEIGHBOURS))
        if id not in kept or not nearest:
            raise LegFault("dense", f"the chunk {id} is not there")
        if _was_changed(store, manifest, id):
            continue
        if _cosine(vector, kept[id]) < _CLOSE:
            raise LegFault("dense", f"the vector of {id} is another one")
        if max(_cosine(vector, found) for found in nearest.values()) < _CLOSE:      # another chunk of the same text will do
            missed.append(id)
    if len(missed) * 2 > len(vectors):      # a sound graph over texts from one template misses up to one in ten
        raise LegFault("dense", f"the vectors of {', '.join(missed)} find others")


def to_vector(stored: bytes) -> Floats | None:
    """A chunk's vector as 32-bit numbers; None where it has none."""
    return np.frombuffer(stored, np.float16).astype(np.float32) if stored else None


def read_chunks(store: Store, documents: Sequence[str], sizes: Mapping[str, int], batch: int = ROUND) -> Iterator[list[IndexRow]]:
    """The chunks of documents in lists of about `batch`, whatever the sizes of the documents are."""
    some: list[str] = []
    for id in documents:
        if sizes[id] > batch:
            start = 0
            while rows := _read(store, document_id=id, position=list(range(start, start + batch))):
                yield rows
                start += batch
            continue
        if some and sum(sizes[each] for each in some) + sizes[id] > batch:
            yield _read(store, document_id=some)
            some = []
        some.append(id)
    if some:
        yield _read(store, document_id=some)


def _read(store: Store, **equal: Any) -> list[IndexRow]:
    return [IndexRow(*row) for row in store.values(Chunk, _COLUMNS, **equal)]


def _rounds(documents: Sequence[str], wanted: Mapping[str, Wanted]) -> Iterator[list[str]]:
    some: list[str] = []
    for id in documents:
        if some and sum(wanted[each].chunks for each in some) + wanted[id].chunks > ROUND:
            yield some
            some = []
        some.append(id)
    if some:
        yield some


def _replace(legs: Legs, manifest: Manifest, documents: Sequence[str], wanted: Mapping[str, Wanted], store: Store) -> dict[str, Indexed]:
    """Put the chunks the store has of `documents` in the place of those the legs have; what the legs have of them then.

    New vectors first, then the old ones out, then the terms in one commit: a search in between finds every document.
    """
    present = [id for id in documents if id in wanted]
    counts = {id: [0, 0, 0] for id in present}
    kept: set[str] = set()
    outgoing: Sequence[str] = documents
    for rows in read_chunks(store, present, {id: wanted[id].chunks for id in present}):
        kept |= _put_vectors(legs.dense, rows)
        terms = [tokenize(row.indexed_text) for row in rows]
        legs.lexical.write(outgoing, [LexicalRow(row.id, row.document_id, its) for row, its in zip(rows, terms, strict=True)])
        outgoing = ()
        for row, its in zip(rows, terms, strict=True):
            entry = counts[row.document_id]
            counts[row.document_id] = [entry[0] + 1, entry[1] + (row.id in kept), entry[2] + len(its)]
    if outgoing:
        legs.lexical.write(outgoing, ())
    old = (f"{id}:{position}" for id in documents if id in manifest.documents for position in range(manifest.documents[id].chunks))
    legs.dense.remove([id for id in old if id not in kept])
    return {id: Indexed(wanted[id].generation, *counts[id]) for id in present}


def _put_vectors(dense: VectorIndex, rows: Sequence[IndexRow]) -> set[str]:
    found = [(row, to_vector(row.vector)) for row in rows]
    vectors = [VectorRow(row.id, row.document_id, vector) for row, vector in found if vector is not None]
    if len({len(row.vector) for row in vectors}) > 1:
        raise ValueError(f"the chunks {vectors[0].chunk_id} … {vectors[-1].chunk_id} have vectors of different lengths")
    dense.put(vectors)
    return {row.chunk_id for row in vectors}


def _cosine(one: Floats, other: Floats) -> float:
    return float(one @ other) / (float(np.linalg.norm(one)) * float(np.linalg.norm(other)) or 1.0)


def _was_changed(store: Store, manifest: Manifest, chunk_id: str) -> bool:
    """Whether the store has another generation of the document by now: then its vector is another one rightly."""
    document_id = chunk_id.rpartition(":")[0]
    current = store.values(Document, ("generation",), id=document_id)
    return not current or current[0][0] != manifest.documents[document_id].generation
