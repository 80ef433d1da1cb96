"""Measuring a search on test questions: how often the right passage comes among the first k, and how sure that is. No key is needed.

    report = kit.documents.evaluate("questions.csv", modes=("hybrid", "lexical"))
    report.summary                                  # hit@k, MRR, nDCG with intervals per mode
    kit.documents.evaluate("questions.csv", model="starter-reader").table       # and the answers, as Runs

Questions whose passage is in no document say nothing about the search; they are told apart and not counted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from llmops_kit.documents.collections import names_of
from llmops_kit.documents.metrics import DEPTH, ndcg, reciprocal_rank
from llmops_kit.documents.places import Locator, Place, count_held
from llmops_kit.documents.questions import Question, read_questions
from llmops_kit.documents.report import PROTOCOL, Report
from llmops_kit.errors import Cancelled, InvalidValue, ModelError
from llmops_kit.grading import grade
from llmops_kit.progress import show_progress
from llmops_kit.statistics import SEED
from llmops_kit.types import Chunk, Collection, new_id, now

if TYPE_CHECKING:
    from llmops_kit.documents import Documents
    from llmops_kit.documents.index.search import Hit
    from llmops_kit.progress import Progress

__all__ = ["MODES", "Report", "evaluate"]

MODES = ("hybrid", "lexical", "dense")
_SHOWN = 160                    # characters of a passage in a report
_QUERY = 300                    # characters of a passage that the closest chunk is looked for by


class Cancel(Protocol):
    """Anything that says whether somebody cancelled, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to stop."""


def evaluate(
    documents: Documents,
    questions: Any,
    *,
    collection: str,
    modes: Sequence[str] = ("hybrid",),
    ks: Sequence[int] = (1, 3, 5, 10),
    model: str | None = None,
    k: int = 5,
    participant: str | Sequence[str] = "local",
    api_key: str | None = None,
    progress: Progress | Literal[False] | None = None,
    cancel: Cancel | None = None,
    **params: Any,
) -> Report:
    """Search for each of `questions` in each of `modes` and measure where the right passages come; with `model`, answer them too.

    A hit is right when its chunk holds the question's passage, or half of it (`places`); that rule does not depend on how the
    documents are cut. Answers are asked for in the first mode with `k` sources and are Runs like any other, with the app
    `evaluation:<id>`; one that fails is a row with an error. The report is kept in the store and goes to the W&B tables.

    Args:
        documents: the documents of a workspace.
        questions: whatever `read_questions` takes.
        collection: its name or id.
        modes: of `hybrid`, `lexical`, `dense`.
        ks: the k of hit@k, 1 to 200.
        model: a chat model that answers each question; None measures the search alone.
        k: how many passages an answer rests on.
        participant: in whose name; several where a person has several names.
        api_key: used for the answers and kept nowhere.
        progress: called with questions done, of how many; None draws a bar where somebody looks, False nothing.
        cancel: when set, what is done so far is the report.
        params: temperature and the like for the answers.

    Raises:
        InvalidValue: a mode or k that is none, or no questions.
        UnknownName: the collection is not there.
        Cancelled: it was cancelled before the first question was done.
    """
    asked, modes, ks = read_questions(questions), check_modes(modes), check_ks(ks)
    found = documents.shelves.get(collection, participant)
    locator = Locator(documents.store, found)
    places = locator.find_all(asked)
    relevant = _count_relevant(documents, places)
    report = Report(new_id(), now(), names_of(participant)[0], describe(documents, found, asked, modes=modes, ks=ks, model=model, k=k, params=params), ())
    answer = _answering(documents, found, report, k=k, participant=participant, api_key=api_key, params=params) if model else None
    rows: list[Mapping[str, Any]] = []
    with counting(progress, len(asked), cancel) as ready:
        for number, question in enumerate(asked):
            if not ready(number):
                break
            measured = {mode: _measure(documents, found, question, places[number], relevant[number], mode, max(*ks, DEPTH)) for mode in modes}
            told = _tell(documents, found, question, places[number])
            rows.append({"number": number + 1, **told, "rank": measured[modes[0]]["rank"], "modes": measured, **(answer(question) if answer else {})})
    report = replace(report, rows=tuple(rows))
    documents.store.append(report.to_evaluation(), publish="evaluation")
    return report


def check_modes(modes: Sequence[str]) -> tuple[str, ...]:
    """The modes without repetition. Raises: InvalidValue, for none or one that is none."""
    given = tuple(dict.fromkeys([modes] if isinstance(modes, str) else modes))
    if not given or (unknown := [mode for mode in given if mode not in MODES]):
        raise InvalidValue(name="modes", value=", ".join(unknown) if given else "–", allowed=", ".join(MODES))
    return given


def check_ks(ks: Sequence[int] | int) -> tuple[int, ...]:
    """The k of hit@k in order. Raises: InvalidValue, for none or one outside 1–200."""
    given = tuple(sorted({ks} if isinstance(ks, int) else set(ks)))
    if not given or given[0] < 1 or given[-1] > 200:
        raise InvalidValue(name="ks", value=", ".join(map(str, given)) or "–", allowed="1–200")
    return given


@contextmanager
def counting(progress: Progress | Literal[False] | None, total: int, cancel: Cancel | None, unit: str = "question") -> Iterator[Callable[[int], bool]]:
    """A function that reports how much is done and says whether to go on.

    Raises:
        Cancelled: it was cancelled before anything was done.
    """
    with show_progress(progress, unit) as report:

        def ready(done: int) -> bool:
            report(done, total, None)
            if cancel is not None and cancel.is_set():
                if not done:
                    raise Cancelled
                return False
            return True

        yield ready
        report(total, total, 0.0)


def describe(documents: Documents, collection: Collection, asked: Sequence[Question], **chosen: Any) -> dict[str, Any]:
    """What was measured, how and on what: two reports with the same figures here may be compared."""
    plain = json.dumps([vars(question) for question in asked], ensure_ascii=False, sort_keys=True)
    held = documents.store.values(Chunk, ("id",), collection_id=collection.id)
    data = hashlib.sha256("\n".join(sorted(id for (id,) in held)).encode()).hexdigest()
    names = ("embedder", "embedder_revision", "chunker", "tokenizer")
    return {
        "protocol": PROTOCOL,
        "collection": collection.name,
        "collection_id": collection.id,
        **{name: getattr(collection, name) for name in names},
        **{name: list(value) if isinstance(value, tuple) else value for name, value in chosen.items()},
        "chunks": len(held),
        "questions": len(asked),
        "questions_sha256": hashlib.sha256(plain.encode()).hexdigest(),
        "chunks_sha256": data,
        "seed": SEED,
    }


def _count_relevant(documents: Documents, places: Sequence[Sequence[Place]]) -> list[int]:
    """For each question how many chunks hold its passage."""
    wanted = {place.document_id for each in places for place in each}
    columns = ("document_id", "start", "end")
    chunks = {id: [Place(*row) for row in documents.store.values(Chunk, columns, document_id=id)] for id in wanted}
    return [sum(count_held(each, chunks[id]) for id in {place.document_id for place in each}) for each in places]


def _measure(
    documents: Documents, collection: Collection, question: Question, places: Sequence[Place], relevant: int, mode: str, depth: int
) -> dict[str, Any]:
    """One question in one mode: its hits, and where the right ones came."""
    hits = documents.find_hits(collection, question.question, k=depth, mode=mode)  # type: ignore[arg-type]  # checked before
    ranks = [rank for rank, hit in enumerate(hits, 1) if any(place.is_held_by(hit.chunk) for place in places)]
    names = {source.document_id: source.document for source in documents.retrieval.sources_of(hits[:DEPTH])}
    shown = [_show_hit(hit, names.get(hit.document_id, ""), rank, rank in ranks) for rank, hit in enumerate(hits[:DEPTH], 1)]
    measured = {"rr": reciprocal_rank(ranks), "ndcg": ndcg(ranks, relevant=relevant)} if places else {"rr": None, "ndcg": None}
    return {"rank": min(ranks, default=None), **measured, "hits": shown}


def _show_hit(hit: Hit, name: str, rank: int, is_right: bool) -> dict[str, Any]:
    chunk = hit.chunk
    return {
        "rank": rank, "right": is_right, "document": name, "page": chunk.page, "start": chunk.start, "end": chunk.end,
        "score": round(float(hit.score), 4), "text": " ".join(chunk.text.split())[:_SHOWN], "chunk_id": chunk.id,
    }


def _tell(documents: Documents, collection: Collection, question: Question, places: Sequence[Place]) -> dict[str, Any]:
    """What the question is and whether its passage is in the documents; where it is not, the chunk that comes closest."""
    state = "found" if places else "absent" if question.has_place else "open"
    told = {"question": question.question, "passage": question.passage, "document": question.document, "page": question.page, "expected": question.answer}
    closest = ""
    if state == "absent":
        hits = documents.find_hits(collection, (question.passage or question.question)[:_QUERY], k=1, mode="lexical")
        sources = documents.retrieval.sources_of(hits)
        closest = f"{sources[0].document}: {' '.join(sources[0].text.split())[:_SHOWN]}" if sources else ""
    return {**told, "state": state, "closest": closest}


def _answering(
    documents: Documents, collection: Collection, report: Report, *, k: int, participant: Any, api_key: str | None, params: Mapping[str, Any]
) -> Callable[[Question], dict[str, Any]]:
    """A function that asks one question and grades the answer."""
    from llmops_kit.documents.citations import check, groundedness

    spec = report.spec
    asked = {"model": spec["model"], "collection": collection.id, "k": k, "mode": spec["modes"][0], "participant": participant, **params}

    def answer(question: Question) -> dict[str, Any]:
        try:
            run = documents.ask(question.question, app=f"evaluation:{report.id}", api_key=api_key, **asked)
        except ModelError as error:
            return {"run_id": getattr(error.run, "id", None), "answer": None, "error": str(error)}
        grounded = groundedness(check(run.output, run.sources, question=question.question))
        graded = grade(run.answer, question.answer) if question.answer.strip() else None
        scores = {"score_em": graded.exact, "score_em_lenient": graded.lenient, "score_char_f1": graded.f1} if graded else {}
        told = {"run_id": run.id, "answer": run.answer, "output": run.output, "flags": list(run.flags), "latency_s": run.latency_s}
        return {**told, "score_grounded": grounded, **scores}

    return answer
