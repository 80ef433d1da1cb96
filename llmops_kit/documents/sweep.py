"""What chunk size, mode, k and embedder would find more: a collection's pages cut and embedded in memory in several ways, nothing changed.

    table = kit.documents.sweep("questions.csv", chunk_sizes=(200, 400, 800))
    table.sort_values("mrr").tail(1)

Every chunk is scored exactly, BM25 and cosine; the index of a collection finds the same with fewer looks, so its figures can be a trace lower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from llmops_kit.documents.collections import names_of
from llmops_kit.documents.evaluation import Cancel, check_ks, check_modes, counting, describe
from llmops_kit.documents.metrics import ndcg, reciprocal_rank
from llmops_kit.documents.places import Locator, Place, count_held
from llmops_kit.documents.preparation import cut, name_chunker
from llmops_kit.documents.questions import Question, read_questions
from llmops_kit.errors import InvalidValue
from llmops_kit.models.fusion import fuse
from llmops_kit.models.lexical import Floats, LexicalIndex
from llmops_kit.statistics import compare, mean_interval, wilson
from llmops_kit.types import Chunk, Collection, Evaluation, new_id, now

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.documents import Documents
    from llmops_kit.progress import Progress

KIND = "sweep"
MAX_CHARACTERS = 20_000_000     # of a collection: its chunks and vectors are in memory, a setting at a time
DEEPEST = 200                   # ranks that are looked at, the largest k
_BATCH = 512


Counted = Sequence[tuple[Question, Sequence[Place]]]


@dataclass(frozen=True)
class _Cut:
    """The collection, cut in one way."""

    size: int
    chunks: Sequence[Chunk]
    lexical: LexicalIndex


@dataclass(frozen=True)
class _Setting:
    """One way to search: what a row of the table is about, but for k."""

    embedder: str
    chunk_size: int
    mode: str
    chunks: int
    length: float
    ranks: tuple[tuple[int, ...], ...]
    relevant: tuple[int, ...]


def sweep(
    documents: Documents,
    questions: Any,
    *,
    collection: str,
    chunk_sizes: Sequence[int] = (200, 400, 800),
    modes: Sequence[str] = ("hybrid", "lexical", "dense"),
    ks: Sequence[int] = (1, 3, 5, 10),
    embedders: Sequence[str] | None = None,
    participant: str | Sequence[str] = "local",
    progress: Progress | Literal[False] | None = None,
    cancel: Cancel | None = None,
) -> pd.DataFrame:
    """Measure every combination of chunk size, mode, k and embedder on the same questions. The collection stays as it is; the table is kept.

    A row per combination: `hit` (hit@k), `mrr` and `ndcg` at 10, each with a 95 % interval (`hit_low`, `hit_high`, …), `n`, `chunks`,
    `characters`, how much text k chunks are on average (large chunks are hit more easily and cost more to read), and `worse`, whether
    its reciprocal ranks are lower than those of the best row beyond chance (paired, shared among all comparisons).
    A mode without an embedding (`lexical`) has an empty `embedder`. `attrs` has `id`, `best` and, in `ja` and `en`, `verdict`.

    Args:
        documents: the documents of a workspace.
        questions: whatever `read_questions` takes; those whose passage is in no document are not counted.
        collection: its name or id.
        chunk_sizes: in characters.
        modes: of `hybrid`, `lexical`, `dense`.
        ks: the k of hit@k.
        embedders: ids of the catalogue; None means the collection's own.
        participant: in whose name.
        progress: called with the settings done, of how many.
        cancel: when set, the settings that are done make the table.

    Raises:
        InvalidValue: a value that is none, no question with its passage in the documents, or more than 20 million characters.
        UnknownName: the collection or an embedder is not there.
        Cancelled: it was cancelled before the first setting was done.
    """
    asked, modes, ks = read_questions(questions), check_modes(modes), check_ks(ks)
    sizes = sorted(set(chunk_sizes))
    found = documents.shelves.get(collection, participant)
    for size in sizes:
        name_chunker(size)
    locator = Locator(documents.store, found)
    places = locator.find_all(asked)
    counted = [(question, each) for question, each in zip(asked, places, strict=True) if each]
    _check(locator, counted)
    names = list(dict.fromkeys(embedders or [found.embedder])) if set(modes) - {"lexical"} else []
    settings: list[_Setting] = []
    with counting(progress, len(sizes) * max(1, len(names)), cancel, unit="setting") as ready:
        for number, size in enumerate(sizes):
            if not ready(number * max(1, len(names))):
                break
            made = _cut_all(locator, found, size)
            if "lexical" in modes:
                settings.append(_measure(counted, made, None, "lexical", ""))
            for step, name in enumerate(names, number * len(names)):
                if not ready(step) and settings:
                    break
                cosines = _embed(documents, name, [question for question, _ in counted], made.chunks)
                settings += [_measure(counted, made, cosines, mode, name) for mode in modes if mode != "lexical"]
    table = _tabulate(settings, ks)
    spec = {**describe(documents, found, asked, modes=modes, ks=ks), "chunk_sizes": sizes, "embedders": names}
    rows: list[Any] = table.to_dict("records")
    kept = Evaluation(new_id(), now(), names_of(participant)[0], KIND, spec, rows, [{str(name): value for name, value in table.attrs.items()}])
    documents.store.append(kept, publish="evaluation")
    table.attrs["id"] = kept.id
    return table


def _check(locator: Locator, counted: Counted) -> None:
    total = sum(document.characters for document in locator.documents)
    if total > MAX_CHARACTERS:
        raise InvalidValue(
            en=f"The collection has {total:,} characters; a sweep takes at most {MAX_CHARACTERS:,}. Make a collection of a part of the documents for it.",
            ja=f"コレクションは{total:,}文字あります（比較できるのは{MAX_CHARACTERS:,}文字まで）。一部の文書だけのコレクションを作って比べてください。",
            name="collection",
            value=total,
        )
    if not counted:
        raise InvalidValue(
            en="None of the questions has its passage in the documents, so there is nothing to measure. Copy passages from the documents' own text.",
            ja="正解の箇所が文書の中にある質問がないため、測れません。文書の本文から箇所をコピーして入れてください。",
            name="questions",
            value=0,
        )


def _cut_all(locator: Locator, collection: Collection, size: int) -> _Cut:
    chunks = [chunk for document in locator.documents for chunk in cut(document, collection, locator.pages_of(document), size)]
    return _Cut(size, chunks, LexicalIndex([chunk.indexed_text for chunk in chunks]))


def _embed(documents: Documents, name: str, asked: Sequence[Question], chunks: Sequence[Chunk]) -> Floats:
    """The cosine of every question (rows) with every chunk (columns), from vectors of 16 bits as they are stored."""
    embedder = documents.models.embedder(name)
    queries = embedder.encode_queries([question.question for question in asked])
    texts = [chunk.indexed_text for chunk in chunks]
    parts = [embedder.encode(texts[start: start + _BATCH]).astype(np.float16).astype(np.float32) for start in range(0, len(texts), _BATCH)]
    vectors = np.concatenate(parts) if parts else np.zeros((0, queries.shape[1]), np.float32)
    cosines: Floats = queries @ vectors.T
    return cosines


def _measure(counted: Counted, made: _Cut, cosines: Floats | None, mode: str, embedder: str) -> _Setting:
    ranks, relevant = [], []
    for row, (question, places) in enumerate(counted):
        words = made.lexical.scores(question.question)
        scores = words if cosines is None else cosines[row]
        if mode == "hybrid" and cosines is not None:
            scores = fuse(words, cosines[row], ceiling=made.lexical.ceiling(question.question))
        order = np.argsort(-scores, kind="stable")[:DEEPEST]
        order = order[words[order] > 0] if mode == "lexical" else order
        held = {place.document_id for place in places}
        right = [rank for rank, at in enumerate(order, 1) if made.chunks[at].document_id in held and count_held(places, [made.chunks[at]])]
        ranks.append(tuple(right))
        relevant.append(count_held(places, (chunk for chunk in made.chunks if chunk.document_id in held)))
    length = sum(len(chunk.text) for chunk in made.chunks) / len(made.chunks)
    return _Setting(embedder, made.size, mode, len(made.chunks), length, tuple(ranks), tuple(relevant))


def _tabulate(settings: Sequence[_Setting], ks: Sequence[int]) -> pd.DataFrame:
    import pandas as pd

    reciprocal = [np.array([reciprocal_rank(each) for each in setting.ranks]) for setting in settings]
    best = max(range(len(settings)), key=lambda place: reciprocal[place].mean())
    rows: list[Mapping[str, Any]] = []
    differences = [compare(reciprocal[best], each) for each in reciprocal]
    for setting, values, difference in zip(settings, reciprocal, differences, strict=True):
        gains = [ndcg(each, relevant=count) for each, count in zip(setting.ranks, setting.relevant, strict=True)]
        mrr, gain = mean_interval(values), mean_interval(gains)
        for k in ks:
            hit = wilson(sum(min(each, default=k + 1) <= k for each in setting.ranks), len(setting.ranks))
            named = {"embedder": setting.embedder, "chunk_size": setting.chunk_size, "mode": setting.mode, "k": k, "chunks": setting.chunks}
            rows.append({
                **named, "characters": round(k * setting.length), "n": hit.n, "hit": hit.value, "hit_low": hit.low, "hit_high": hit.high,
                "mrr": mrr.value, "mrr_low": mrr.low, "mrr_high": mrr.high,
                "ndcg": gain.value, "ndcg_low": gain.low, "ndcg_high": gain.high, "worse": difference.is_established(max(1, len(settings) - 1)),
            })
    table = pd.DataFrame(rows)
    chosen = settings[best]
    table.attrs["best"] = {"embedder": chosen.embedder, "chunk_size": chosen.chunk_size, "mode": chosen.mode}
    table.attrs["verdict"] = _say(chosen, sum(each.is_established(max(1, len(settings) - 1)) for each in differences), len(settings) - 1)
    return table


def _say(best: _Setting, worse: int, others: int) -> dict[str, str]:
    n = len(best.ranks)
    return {
        "ja": f"{n}問で最も良かったのは{best.mode}・{best.chunk_size}文字{f'・{best.embedder}' if best.embedder else ''}です。"
        f"ほかの{others}通りのうち、差が確かめられたのは{worse}通りです。",
        "en": f"Best of {others + 1} on {n} questions: {best.mode}, {best.chunk_size} characters{f', {best.embedder}' if best.embedder else ''}. "
        f"For {worse} of the other {others} the difference is established.",
    }
