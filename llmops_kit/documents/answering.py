"""Answers from documents: the question that is meant, the passages found, one model call, and a check of what came back.

    answering = Answering(kit.documents)
    for run in answering.stream("有給休暇は何日もらえますか。", collection):
        ...                     # run.output grows; the last run has .sources, .answer and .flags

Flags of the finished Run: `not_in_documents` (its bare answer is empty then), `low_relevance`, `ungrounded`, `instructions_in_sources`.
`citations.check(run.output, run.sources, question=run.variables["question"])` gives its claims with the passages that support them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.documents import citations, injection
from llmops_kit.documents.conversation import Condensed, Turn, choose_instruction, condense, rewrite_by
from llmops_kit.documents.fencing import BLANK, QUOTED, Fenced, fence
from llmops_kit.documents.phrasing import is_copy, state
from llmops_kit.documents.windows import READER_SHARE, DocumentText, budget_for, choose_sources
from llmops_kit.errors import InvalidValue, KitError
from llmops_kit.models.units import language_of
from llmops_kit.types import Collection, Document, Page, Run, Source

if TYPE_CHECKING:
    from llmops_kit.documents import Documents
    from llmops_kit.documents.index import Hit

Phrase = Literal["template", "lm"]
PROMPT = "answer_from_sources"
PLAIN_APP, PHRASING_APP = "documents:plain", "documents:phrasing"
NOT_FOUND, LOW_RELEVANCE = "not_in_documents", "low_relevance"
LOW_SHARE, LOW_COSINE = 0.25, 0.45
"""A search whose best hit is below both says little about the question; see docs/log.md for the figures. The cosine is starter-embed's."""

_ABSENT = {"ja": "資料には見つかりません。", "en": "Not found in the sources."}
_NOTHING = {"ja": "（該当する資料はありません）", "en": "(no source was found)"}
_ANSWER_TOKENS = 256            # where neither the call nor the prompt says how long an answer may be
_PHRASING = {"ja": "質問：{question}\n答え：{span}\n答えを文にしてください。", "en": "Question: {question}\nAnswer: {span}\nPut the answer into a sentence."}


@dataclass(frozen=True)
class Given:
    """What a model is given for a question: the `sources` with their text in the prompt, and what should be watched (`flags`)."""

    question: Condensed
    sources: tuple[Source, ...]
    fenced: Fenced
    flags: tuple[str, ...]
    is_reader: bool


class Answering:
    """Answers questions from the documents of a workspace."""

    def __init__(self, documents: Documents) -> None:
        self._documents = documents
        self._playground = documents.playground
        self._models = documents.models

    def stream(
        self,
        question: str,
        collection: Collection,
        *,
        model: str = "starter-reader",
        k: int = 5,
        history: Sequence[Turn] = (),
        narrowed: Mapping[str, Any] | None = None,
        phrase: Phrase | None = "template",
        participant: str = "local",
        app: str = "documents",
        api_key: str | None = None,
        run_id: str | None = None,
        **params: Any,
    ) -> Iterator[Run]:
        """Give the Run again and again while its answer grows; the last one is checked, finished and stored.

        `history` are (question, answer) pairs; a question that needs them is condensed first and used so in
        `run.variables["question"]`, with what was typed in `run.variables["asked"]`. `narrowed` are keywords of
        `Documents.find_hits`. `phrase` says how a span of starter-reader becomes a sentence: `template`, `lm` (starter-lm,
        copy-checked), or None for the span alone. `params` are those of the playground.

        Raises:
            KitError: as the search and `Playground.stream`; `InvalidValue` for a question without a word or an unknown `phrase`.
        """
        if phrase not in (None, "template", "lm"):
            raise InvalidValue(name="phrase", value=phrase, allowed="template, lm, None")
        if not question.strip():
            raise InvalidValue(name="question", value=question, allowed={"en": "a question", "ja": "質問の文"})
        meant = self.condense(question, history, model=model, participant=participant, api_key=api_key)
        hits = self._documents.find_hits(collection, meant.question, k=k, **(narrowed or {}))
        prompt = self._playground.prompts.get(PROMPT)
        tokens = params.get("max_tokens") or prompt.params.get("max_tokens") or _ANSWER_TOKENS
        given = self.give(meant, hits, model=model, embedder=collection.embedder, answer_tokens=int(tokens))
        finish = self._finisher(given, model, phrase=phrase, participant=participant)
        asked = {"asked": meant.asked} if meant.is_changed else {}
        language = language_of(meant.question)
        variables = {
            **asked,
            "instruction": choose_instruction(prompt, language, taught=self._models.get(model).provider == "starter"),
            "sources": given.fenced.text or _NOTHING[language],
            "question": meant.question,
        }
        how: dict[str, Any] = {"participant": participant, "app": app, "api_key": api_key, "run_id": run_id, "sources": given.sources, "finish": finish}
        with closing(self._playground.stream(prompt, model=model, variables=variables, **how, **params)) as runs:  # type: ignore[type-var]
            for run in runs:
                # What the reader says of itself (span, quote, confidence) becomes a sentence at the end; before, there is nothing to show.
                yield replace(run, output="") if given.is_reader and run.bare_answer is None else run

    def stream_without(self, question: str, *, model: str = "starter-reader", app: str = PLAIN_APP, **asked: Any) -> Iterator[Run]:
        """The same question without any documents, to be shown beside the answer that rests on them. Keywords are those of `Playground.stream`."""
        yield from self._playground.stream([{"role": "user", "content": question}], model=model, app=app, **asked)

    def condense(self, question: str, history: Sequence[Turn], *, model: str, participant: str = "local", api_key: str | None = None) -> Condensed:
        """The question in one line, and where it does not stand by itself, the one that is meant after `history`."""
        line = " ".join(question.split())
        return condense(line, history, rewrite_by(self._playground, self._models, model, participant=participant, api_key=api_key))

    def give(
        self, question: Condensed, hits: Sequence[Hit], *, model: str, embedder: str = "starter-embed", answer_tokens: int = _ANSWER_TOKENS
    ) -> Given:
        """The sources for `model` out of `hits`, fenced, with the flags of what is to be watched."""
        entry = self._models.get(model)
        is_reader = entry.kind == "extractive"
        if is_reader and hits and hits[0].score > 0:
            # Each further text is one more to go wrong in: see docs/log.md.
            hits = [hit for hit in hits if hit.score >= READER_SHARE * hits[0].score]
        texts: dict[str, DocumentText | None] = {}

        def read(id: str) -> DocumentText | None:
            if id not in texts:
                texts[id] = self._read(id)
            return texts[id]

        sources = choose_sources(question.question, hits, read, budget=budget_for(entry, question.question, answer_tokens=answer_tokens))
        hidden = [_is_hidden(source, texts) for source in sources]
        low = (LOW_RELEVANCE,) if sources and is_low(question.question, hits, embedder) else ()
        flags = (*low, *injection.flags_of(injection.inspect_sources(sources, hidden=hidden)))
        return Given(question, sources, fence(sources, mark=BLANK if is_reader else QUOTED), flags, is_reader)

    def _read(self, id: str) -> DocumentText | None:
        document = self._documents.store.get(Document, id)
        if document is None:
            return None
        return DocumentText.join(document, self._documents.store.find(Page, document_id=id, newest_first=False))

    def _finisher(self, given: Given, model: str, *, phrase: Phrase | None, participant: str) -> Callable[[Run], Run]:
        """What makes of a model's reply the answer that is stored."""

        def finish(run: Run) -> Run:
            run = replace(run, flags=(*run.flags, *given.flags))
            if given.is_reader:
                run = replace(run, finish_reason="stop")    # a limit cuts its report, of which nothing is shown
            if not given.sources:
                return _say_absent(run, given)
            if given.is_reader:
                return self._finish_span(run, given, model, phrase, participant)
            return _finish_text(run, given)

        return finish

    def _finish_span(self, run: Run, given: Given, model: str, phrase: Phrase | None, participant: str) -> Run:
        """The span the reader found as a sentence with its source."""
        message = run.messages[-1].content if run.messages else ""
        read = getattr(self._models.chat(model), "read", None)
        facts = read(message).facts if read is not None else {}
        span = facts.get("answer")
        first = message.find(given.fenced.text)
        place = given.fenced.place(facts["start"] - first, facts["end"] - first) if span and first >= 0 else None
        if not span or place is None:
            return _say_absent(run, given)
        sentence = self._phrase(given.question.question, span, phrase, participant)
        space = "" if sentence[-1:] > "\u2e7f" else " "
        return replace(run, output=f"{sentence}{space}[{place[0]}]", bare_answer=span)

    def _phrase(self, question: str, span: str, phrase: Phrase | None, participant: str) -> str:
        if phrase is None:
            return span
        if phrase == "lm":
            asked = _PHRASING[language_of(question)].format(question=question, span=span)
            how: dict[str, Any] = {"participant": participant, "app": PHRASING_APP, "temperature": 0, "max_tokens": 96}
            try:
                sentence = self._playground.run([{"role": "user", "content": asked}], model="starter-lm", **how).output.strip()
            except KitError:
                sentence = ""               # recorded with its error; the template needs no model
            if is_copy(sentence, question, span):
                return sentence
        return state(question, span)


def is_low(question: str, hits: Sequence[Hit], embedder: str) -> bool:
    """Whether the best hit holds so little of `question` that its answer is not to be expected there.

    Other embedders than starter-embed have other cosines; with them only words count, and only where the question and the texts are in one language.
    """
    if not hits or max(hit.share for hit in hits) >= LOW_SHARE:
        return False
    if embedder == "starter-embed":
        return max((hit.cosine or 0.0) for hit in hits) < LOW_COSINE
    return all(language_of(hit.chunk.text) == language_of(question) for hit in hits)


def _is_hidden(source: Source, texts: Mapping[str, DocumentText | None]) -> bool:
    text = texts.get(source.document_id or "")
    return text is not None and text.has_hidden_text(source.start or 0, source.end or 0)


def _say_absent(run: Run, given: Given) -> Run:
    return replace(run, output=_ABSENT[language_of(given.question.question)], bare_answer="", flags=(*run.flags, NOT_FOUND))


def _finish_text(run: Run, given: Given) -> Run:
    """What a model wrote with the marks that hold, and the flags of what nothing supports."""
    claims = citations.check(run.output, given.sources, question=given.question.question)
    absent = citations.says_not_found(run.output) and not any(claim.is_supported for claim in claims)
    if absent or not run.output.strip():
        return replace(run, bare_answer="", flags=(*run.flags, NOT_FOUND) if absent else run.flags)
    output = citations.cite(run.output, claims)
    return replace(run, output=output, bare_answer=citations.strip_marks(output).strip(), flags=(*run.flags, *citations.flags_of(claims)))
