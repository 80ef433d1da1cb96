"""The search itself: candidates of both legs, the rows of both from the store, exact scores for all of them, one order.

The legs only propose. What a hit says, and every score, comes from the store's rows of this moment; a chunk that is gone there is no hit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Literal

import numpy as np

from llmops_kit.documents.index.dense import Floats
from llmops_kit.documents.index.faults import LegFault
from llmops_kit.documents.index.readings import Reading
from llmops_kit.errors import InvalidValue
from llmops_kit.models.fusion import fuse
from llmops_kit.models.lexical import tokenize_query
from llmops_kit.models.lexical_scoring import Statistics, score_texts
from llmops_kit.types import Chunk, Collection

if TYPE_CHECKING:
    from llmops_kit.store import Store

Mode = Literal["hybrid", "lexical", "dense"]
MODES: tuple[Mode, ...] = ("hybrid", "lexical", "dense")
LEAST = 100             # candidates of each leg
PER_HIT = 5             # and at least so many for each hit that is wanted
SCANNED = 8000          # a filter that leaves so few chunks is answered by reading their vectors: exact, and faster than a filtered graph
_COLUMNS = tuple(field.name for field in fields(Chunk))


@dataclass(frozen=True)
class Hit:
    """A chunk that was found, and why.

    `score` is what the hits are sorted by. `lexical_score` is BM25 and `share` how much of the query it is (0 to 1, rare terms counting
    more); `cosine` is -1 to 1, None without vectors. The ranks count from 1 in each leg's own order: `lexical_rank` is None where the
    chunk shares no term with the query, and either is None where the chunk is not among the leg's candidates.
    """

    chunk: Chunk
    document_id: str
    score: float
    lexical_rank: int | None
    lexical_score: float
    dense_rank: int | None
    cosine: float | None
    share: float


@dataclass(frozen=True)
class Question:
    """What is asked: the words, their embedding (None: lexical only), how many hits, which leg decides, and of which documents (None: all)."""

    query: str
    vector: Floats | None
    k: int
    mode: Mode
    documents: Set[str] | None = None


@dataclass(frozen=True)
class Scores:
    """Exact scores of some chunks for one question, in their order. `cosines` is None without a query vector."""

    lexical: Floats
    shares: Floats
    cosines: Floats | None
    order_by: Floats


def pose(collection: Collection, query: str, vector: Floats | None, *, k: int, mode: str, documents: Set[str] | None = None) -> Question:
    """A question, looked over.

    Raises:
        InvalidValue: `k` is less than 1, `mode` is none of `MODES`, or `dense` is asked without a vector.
        ValueError: `vector` has not as many numbers as the vectors of the collection: another embedder made it.
    """
    if vector is not None and collection.dimensions and len(vector) != collection.dimensions:
        raise ValueError(f"the query's vector has {len(vector)} numbers, those of the collection {collection.name!r} have {collection.dimensions}")
    if k < 1:
        raise InvalidValue(name="k", value=k, allowed="1, 2, 3, …")
    if mode not in MODES:
        raise InvalidValue(name="mode", value=mode, allowed=", ".join(MODES))
    if mode == "dense" and vector is None:
        raise InvalidValue(
            en="The mode “dense” needs an embedder, and this collection has no vectors yet. Add a document, or use the mode “lexical”.",
            ja="モード「dense」には埋め込みが必要ですが、このコレクションにはまだベクトルがありません。文書を追加するか、モード「lexical」を使ってください。",
            name="mode",
            value=mode,
        )
    return Question(query, direct(vector), k, MODES[MODES.index(mode)], documents)


def direct(vector: Floats | None) -> Floats | None:
    """The vector at length 1; None where it has no direction (a query without any letter)."""
    if vector is None:
        return None
    length = float(np.linalg.norm(vector))
    return np.asarray(vector, np.float32) / np.float32(length) if length > 0 else None


def find(reading: Reading, store: Store, collection_id: str, question: Question) -> list[Hit]:
    """The best `question.k` chunks, best first; equal scores in the order of documents and positions. Raises: `LegFault`."""
    terms = Counter(tokenize_query(question.query))
    known = know(reading, terms)
    n = max(LEAST, PER_HIT * question.k)
    lexical = [] if question.mode == "dense" else reading.lexical.candidates(terms, dict(known.frequencies), n, question.documents)
    dense = [] if question.mode == "lexical" else _nearest(reading, store, question, n)
    chunks = fetch(store, collection_id, [*lexical, *dense], question.documents)
    scores = score(question, terms, known, [chunk.indexed_text for chunk in chunks], [chunk.vector for chunk in chunks])
    return _rank(question, chunks, scores, len(lexical), len(dense))


def fetch(store: Store, collection_id: str, ids: Sequence[str], documents: Set[str] | None = None) -> list[Chunk]:
    """The chunks of these ids that the collection has now (of `documents` unless None), in the order of documents and positions."""
    # By id alone: SQLite would take a condition on the collection for the better index and read all of it.
    rows = store.values(Chunk, _COLUMNS, id=list(dict.fromkeys(ids))) if ids else []
    found = [Chunk(*row) for row in rows]
    among = [chunk for chunk in found if chunk.collection_id == collection_id and (documents is None or chunk.document_id in documents)]
    return sorted(among, key=lambda chunk: (chunk.document_id, chunk.position))


def know(reading: Reading, terms: Counter[str]) -> Statistics:
    """What BM25 needs to know of the collection for these terms."""
    return Statistics(reading.lexical.size, reading.mean_length, reading.lexical.frequencies(terms))


def score(question: Question, terms: Mapping[str, int], known: Statistics, texts: Sequence[str], vectors: Sequence[bytes]) -> Scores:
    """Exact scores: BM25 with the statistics of the whole collection, the cosine, and what the mode sorts by."""
    words = score_texts(terms, texts, known)
    cosines = None if question.vector is None else cosine(question.vector, vectors)
    ceiling = known.ceiling(terms)
    return Scores(words, words / np.float32(ceiling or 1), cosines, combine(question.mode, words, cosines, ceiling))


def combine(mode: Mode, words: Floats, cosines: Floats | None, ceiling: float) -> Floats:
    """What a mode sorts by: the share, the cosine, or their fusion; the share where there is no query vector."""
    if mode == "lexical" or cosines is None:
        return words / np.float32(ceiling or 1)
    return cosines if mode == "dense" else fuse(words, cosines, ceiling=ceiling)


def cosine(vector: Floats, stored: Sequence[bytes]) -> Floats:
    """The cosine of each stored vector with `vector` (length 1); 0 for a chunk without one.

    Raises:
        ValueError: they are of another length than `vector`: the query was embedded by another embedder than the chunks.
    """
    cosines = np.zeros(len(stored), np.float32)
    places = [place for place, each in enumerate(stored) if each]
    if places:
        lengths = {len(stored[place]) for place in places}
        if lengths != {2 * len(vector)}:
            raise ValueError(f"the query's vector has {len(vector)} numbers, those of the chunks have {sorted(length // 2 for length in lengths)}")
        rows = np.frombuffer(b"".join(stored[place] for place in places), np.float16).reshape(len(places), -1)
        cosines[places] = rows.astype(np.float32) @ vector      # 16 bits move a length by some 0.00002: not worth dividing by it
    return cosines


def _nearest(reading: Reading, store: Store, question: Question, n: int) -> list[str]:
    vector, documents = question.vector, question.documents
    if vector is None or not reading.vectors:
        return []
    if documents is None:
        found = reading.dense.search(vector, n)
        if not found:
            raise LegFault("dense", f"nothing is near, of {reading.vectors} vectors")
        return found
    entries = {id: reading.documents[id] for id in documents if id in reading.documents}
    if sum(entry.chunks for entry in entries.values()) > SCANNED:
        return reading.dense.search(vector, n, entries.keys())
    rows = store.values(Chunk, ("id", "vector"), document_id=list(entries)) if entries else []
    near = cosine(vector, [stored for _, stored in rows])
    return [rows[place][0] for place in np.argsort(-near, kind="stable")[:n] if rows[place][1]]


def _rank(question: Question, chunks: Sequence[Chunk], scores: Scores, lexical: int, dense: int) -> list[Hit]:
    lexical_ranks = places(scores.lexical)
    dense_ranks = None if scores.cosines is None else places(scores.cosines)
    wanted = [place for place in np.argsort(-scores.order_by, kind="stable") if question.mode != "lexical" or scores.lexical[place] > 0]
    if question.vector is None:
        wanted = [place for place in wanted if scores.lexical[place] > 0]
    hits = []
    for place in wanted[: question.k]:
        near = dense_ranks is not None and chunks[place].vector and dense_ranks[place] <= dense
        hits.append(
            Hit(
                chunk=chunks[place],
                document_id=chunks[place].document_id,
                score=float(scores.order_by[place]),
                lexical_rank=int(lexical_ranks[place]) if scores.lexical[place] > 0 and lexical_ranks[place] <= lexical else None,
                lexical_score=float(scores.lexical[place]),
                dense_rank=int(dense_ranks[place]) if near and dense_ranks is not None else None,
                cosine=float(scores.cosines[place]) if scores.cosines is not None and chunks[place].vector else None,
                share=float(scores.shares[place]),
            )
        )
    return hits


def places(values: Floats) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The place of each value in descending order, from 1; equal ones in their own order."""
    order = np.argsort(-values, kind="stable")
    ranks = np.empty(len(values), np.int64)
    ranks[order] = np.arange(1, len(values) + 1)
    return ranks
