"""Why a chunk was or was not found: its exact rank in each leg even when it is far down, and the terms it shares with the query."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from llmops_kit.documents.index.building import IndexRow, read_chunks
from llmops_kit.documents.index.readings import Reading
from llmops_kit.documents.index.search import Question, combine, fetch, find, know, places, score
from llmops_kit.models.lexical import tokenize, tokenize_query
from llmops_kit.models.lexical_scoring import Statistics
from llmops_kit.types import Chunk

if TYPE_CHECKING:
    from llmops_kit.store import Store

EXACT = 200_000         # chunks up to which every one is scored, at some 20,000 a second; above it a rank is known among the best `DEEP`
DEEP = 400              # hits, so 2,000 candidates of each leg
FIRST = 10


@dataclass(frozen=True)
class TermMatch:
    """One term of the query: how often the query and the chunk have it, in how many chunks of the collection it is, and its weight."""

    term: str
    in_query: int
    in_chunk: int
    frequency: int
    rarity: float


@dataclass(frozen=True)
class ChunkRank:
    """Where one chunk stands for one query.

    Ranks count from 1 over the whole collection; None: it shares no term (`lexical_rank`), has no vector (`dense_rank`), or, where
    `exact` is False because the collection is too large to score every chunk, it is beyond the candidates.
    """

    chunk: Chunk
    rank: int | None
    score: float | None
    lexical_rank: int | None
    lexical_score: float
    share: float
    dense_rank: int | None
    cosine: float | None
    terms: tuple[str, ...]
    matches: tuple[TermMatch, ...]
    exact: bool


@dataclass(frozen=True)
class Findability:
    """Whether a word can be found: its terms with the number of chunks that have each, the chunks that have all of them, the first of those."""

    word: str
    terms: tuple[tuple[str, int], ...]
    chunks: int
    first: tuple[Chunk, ...]


def rank_chunks(reading: Reading, store: Store, collection_id: str, question: Question, chunk_ids: Sequence[str]) -> list[ChunkRank]:
    """Where these chunks stand, in the order of `chunk_ids`; ids that are not in the collection are left out. Raises: `LegFault`."""
    terms = Counter(tokenize_query(question.query))
    known = know(reading, terms)
    kept = {chunk.id: chunk for chunk in fetch(store, collection_id, chunk_ids)}
    chunks = [kept[id] for id in dict.fromkeys(chunk_ids) if id in kept]
    exact = reading.chunks <= EXACT
    standings = _count_ranks(reading, store, question, (terms, known), kept) if exact else _look_among_hits(reading, store, collection_id, question)
    own = score(question, terms, known, [chunk.indexed_text for chunk in chunks], [chunk.vector for chunk in chunks])
    ranked = []
    for place, chunk in enumerate(chunks):
        standing = standings.get(chunk.id, _Standing(None, None, None, None))
        counted = Counter(tokenize(chunk.indexed_text))
        ranked.append(
            ChunkRank(
                chunk=chunk,
                rank=standing.rank,
                score=standing.score,
                lexical_rank=standing.lexical if own.lexical[place] > 0 else None,
                lexical_score=float(own.lexical[place]),
                share=float(own.shares[place]),
                dense_rank=standing.dense if own.cosines is not None and chunk.vector else None,
                cosine=float(own.cosines[place]) if own.cosines is not None and chunk.vector else None,
                terms=tuple(counted),
                matches=tuple(TermMatch(term, count, counted[term], known.frequencies[term], known.rarity(term)) for term, count in terms.items()),
                exact=exact,
            )
        )
    return ranked


def look_up(reading: Reading, store: Store, collection_id: str, word: str) -> Findability:
    """Whether `word` can be found. Raises: `LegFault`."""
    terms = list(dict.fromkeys(tokenize(word)))
    frequencies = reading.lexical.frequencies(terms)
    chunks, ids = reading.lexical.with_all(terms, FIRST)
    kept = {chunk.id: chunk for chunk in fetch(store, collection_id, ids)}
    return Findability(word, tuple((term, frequencies[term]) for term in terms), chunks, tuple(kept[id] for id in ids if id in kept))


class _Standing(NamedTuple):
    rank: int | None
    score: float | None
    lexical: int | None
    dense: int | None


def _look_among_hits(reading: Reading, store: Store, collection_id: str, question: Question) -> dict[str, _Standing]:
    hits = find(reading, store, collection_id, replace(question, k=DEEP))
    return {hit.chunk.id: _Standing(rank, hit.score, hit.lexical_rank, hit.dense_rank) for rank, hit in enumerate(hits, 1)}


def _count_ranks(
    reading: Reading, store: Store, question: Question, asked: tuple[Counter[str], Statistics], sought: Container[str]
) -> dict[str, _Standing]:
    """Score every chunk, some at a time, so that only the numbers are kept."""
    terms, known = asked
    places_of: dict[str, int] = {}
    words, near, size = [np.zeros(0, np.float32)], [np.zeros(0, np.float32)], 0
    for rows in _read_all(reading, store, question):
        part = score(replace(question, mode="lexical"), terms, known, [row.indexed_text for row in rows], [row.vector for row in rows])
        places_of.update({row.id: size + place for place, row in enumerate(rows) if row.id in sought})
        has_vector = [bool(row.vector) for row in rows]
        words.append(part.lexical)
        near.append(np.where(has_vector, 0 if part.cosines is None else part.cosines, np.float32(-2)))      # no vector: behind all others
        size += len(rows)
    lexical, dense = np.concatenate(words), np.concatenate(near)
    cosines = None if question.vector is None else np.where(dense < -1.5, np.float32(0), dense)
    scores = combine(question.mode, lexical, cosines, known.ceiling(terms))
    ranks = places(scores), places(lexical), places(dense)
    return {
        id: _Standing(int(ranks[0][place]), float(scores[place]), int(ranks[1][place]), int(ranks[2][place])) for id, place in places_of.items()
    }


def _read_all(reading: Reading, store: Store, question: Question) -> Iterator[list[IndexRow]]:
    among = question.documents
    documents = sorted(id for id in reading.documents if among is None or id in among)
    for rows in read_chunks(store, documents, {id: reading.documents[id].chunks for id in documents}):
        yield sorted(rows, key=lambda row: (row.document_id, row.position))
