"""starter-reader: a chat model that writes nothing of its own but picks the answer out of the text it is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from pydantic import PrivateAttr

from llmops_kit.models.chat import StreamedChat, last_chunk, read_messages, text_chunk
from llmops_kit.models.parameters import read_parameters, read_stops
from llmops_kit.models.reading import number_of_source, read_message
from llmops_kit.models.span_ranker import WEIGHTS, Finding, SpanRanker, load_rankers, read_checksums
from llmops_kit.models.units import language_of

PIECE_CHARACTERS = 8            # how much of the reply one streamed chunk shows
MAX_QUOTE_CHARACTERS = 240      # a longer sentence is quoted around the answer
_TEXTS: Mapping[str, Mapping[str, str]] = {
    "ja": {
        "found": "「{answer}」です。\n出典{number}：「{quote}」\n確信度：{confidence:.2f}",
        "absent": "資料には見当たりません。",
        "no_sources": "読む資料がありません。「資料：」のあとに文章を、「質問：」のあとに質問を入れてください。",
        "no_question": "質問が見当たりません。資料のあとに「質問：」と書いて、知りたいことを入れてください。",
    },
    "en": {
        "found": "The answer is “{answer}”.\nSource{number}: “{quote}”\nConfidence: {confidence:.2f}",
        "absent": "Not found in the documents.",
        "no_sources": "There is nothing to read. Please put the text after “Sources:” and your question after “Question:”.",
        "no_question": "There is no question. Please add “Question:” and what you want to know after the sources.",
    },
}


@dataclass(frozen=True)
class Reply:
    """What the reader says (`text`), and the facts behind it (`facts`: answer, quote, confidence, found, start, end, source)."""

    text: str
    facts: Mapping[str, Any]


class StarterReader(StreamedChat):
    """Answers a question from the sources in the last user message with a span of them.

    The answer and its quote are always substrings of the message: `start` and `end` in `response_metadata` (and
    `additional_kwargs`) are character offsets into it. `confidence` is the calibrated probability that the answer is
    right, `found` that the sources answer at all; below the trained threshold the reply is 「資料には見当たりません。」 or
    “Not found in the documents.” and `answer` is None. Sampling parameters are checked and have no effect.
    Token counts are characters.
    """

    folder: Path
    max_tokens: int | None = None
    _rankers: dict[str, SpanRanker] = PrivateAttr()
    _revision: str = PrivateAttr()

    def model_post_init(self, context: Any) -> None:
        """Load the weights (about 3 MB), after their checksum held."""
        super().model_post_init(context)
        self._rankers = load_rankers(self.folder)
        self._revision = read_checksums(self.folder)[WEIGHTS][:12]

    @property
    def _llm_type(self) -> str:
        return "llmops-kit-reader"

    @property
    def model_name(self) -> str:
        """The catalogue id."""
        return "starter-reader"

    @property
    def revision(self) -> str:
        """The checksum of the weights, shortened."""
        return self._revision

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model_name, "revision": self.revision, "max_tokens": self.max_tokens}

    def get_token_ids(self, text: str) -> list[int]:
        """One id, its code point, for each character: this model counts characters."""
        return [ord(character) for character in text]

    def read(self, message: str) -> Reply:
        """Answer one message, without streaming."""
        reading = read_message(message)
        language = language_of(reading.question or message)
        texts = _TEXTS[language]
        nothing: dict[str, Any] = {"answer": None, "quote": None, "confidence": None, "found": None, "start": None, "end": None, "source": None}
        if not reading.question:
            return Reply(texts["no_question" if message.strip() else "no_sources"], nothing)
        if not reading.has_sources:
            return Reply(texts["no_sources"], nothing)
        finding = self._rankers[language_of(reading.sources)].find(reading.question, reading.sources)
        if finding is None:
            return Reply(texts["absent"], nothing)
        facts = nothing | {"confidence": round(finding.confidence, 4), "found": round(finding.found, 4)}
        if not finding.clear:
            return Reply(texts["absent"], facts)
        answer, quote = message[finding.start: finding.end], _quote(message, finding)
        source = number_of_source(message, finding.start)
        facts |= {"answer": answer, "quote": quote, "start": finding.start, "end": finding.end, "source": source}
        number = "" if source is None else f"[{source}]" if language == "ja" else f" [{source}]"
        return Reply(texts["found"].format(answer=answer, quote=quote, confidence=finding.confidence, number=number), facts)

    def _answer(self, messages: list[BaseMessage], stop: Sequence[str] | None, values: dict[str, Any]) -> Iterator[ChatGenerationChunk]:
        parameters = read_parameters({"max_tokens": self.max_tokens}) | read_parameters(values)
        turns = read_messages(messages)
        asked = next((turn.content for turn in reversed(turns) if turn.role == "user"), "")
        reply = self.read(asked)
        text, reason = reply.text, "stop"
        for mark in read_stops(stop):
            text = text.split(mark, 1)[0]
        if "max_tokens" in parameters and len(text) > parameters["max_tokens"]:
            text, reason = text[: int(parameters["max_tokens"])], "length"
        for start in range(0, len(text), PIECE_CHARACTERS):
            yield text_chunk(text[start: start + PIECE_CHARACTERS])
        metadata = {"model_name": self.model_name, "model_revision": self.revision, "finish_reason": reason, **reply.facts}
        final = last_chunk("", metadata=metadata, tokens=(sum(len(turn.content) for turn in turns), len(text)))
        final.message.additional_kwargs.update(reply.facts)
        yield final


def _quote(message: str, finding: Finding) -> str:
    """The sentence of the answer, or as much of it around the answer as `MAX_QUOTE_CHARACTERS` allow."""
    start, end = min(finding.quote_start, finding.start), max(finding.quote_end, finding.end)
    spare = max(0, MAX_QUOTE_CHARACTERS - (finding.end - finding.start)) // 2
    if end - start > MAX_QUOTE_CHARACTERS:
        start, end = max(start, finding.start - spare), min(end, finding.end + spare)
    return message[start:end]
