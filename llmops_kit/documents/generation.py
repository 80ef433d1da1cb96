"""Test questions made from the documents: by any chat model, or by rule and the reader, without a key and without a network.

    questions = generate(kit.documents, "default", n=10)                            # gaps and 何日ですか, checked by starter-reader
    questions = generate(kit.documents, "default", n=10, model="my-endpoint")       # by a chat model

Look over them before use: a made question repeats the words of its sentence more than a person would, so a search finds it more easily. On
JaQuAD's paragraphs all of 50 questions made by rule came first, and 81 % of people's own. What is measured on them is an upper bound.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from random import Random
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.documents.collections import names_of
from llmops_kit.documents.evaluation import Cancel, counting
from llmops_kit.documents.places import squash
from llmops_kit.documents.questions import Question
from llmops_kit.documents.sentences import is_row, sentences
from llmops_kit.errors import InvalidValue
from llmops_kit.grading import grade, normalise_answer
from llmops_kit.models.units import language_of
from llmops_kit.types import Chunk, Document

if TYPE_CHECKING:
    from llmops_kit.documents import Documents
    from llmops_kit.models.reader import StarterReader
    from llmops_kit.progress import Progress

READER = "starter-reader"
PROMPT = "generate_questions"
_LENGTHS = (12, 140)            # characters of a sentence that makes a question
_PER_CHUNK = 2                  # questions a chat model is asked for at a time, so that they spread over the documents
_AROUND = 30                    # characters on each side of a gap
_TRIES = 12                     # chunks looked at for each question that is wanted
_COUNTED = re.compile(
    r"(?<![\dA-Za-z.,，年月日時分])\d[\d.,，]*\s?(?P<unit>か月|カ月|ヶ月|ヵ月|営業日|日間|時間|週間|年間|シーズン|パーセント|ページ|文字|[年月日時分秒円人個回件社本枚台名割倍度階歳週%％])(?!\d)"
)
_NUMBER = re.compile(r"(?<![\w.,])\d[\d.,]*\d(?![\w])")
_TERM = re.compile(r"[ァ-ヴー]{3,}|(?<=[「『“\"])[^「」『』“”\"\n]{2,20}(?=[」』”\"])|(?<!^)(?<![.!?] )\b[A-Z][a-z]{3,}\b|[一-鿿]{3,6}")
_PAUSE = re.compile(r"[、，,]\s*|\s+")
_POLITE = re.compile(r"(?:ます|です|ました|でした|ません)。?$")
# What does not stand by itself (これ, however), headings and markup, fields of a list (項目：), questions.
_UNFIT = re.compile(
    r"^(?:これ|それ|この|その|あれ|また|しかし|ただし|なお|そして"
    r"|(?:it|this|that|these|those|he|she|they|but|and|however)\b|[#>{\[<]|[\w ]{1,20}[:：])|[？?：:]$",
    re.IGNORECASE,
)
_NUMBERING = re.compile(r"^(?:[-*+•・●○■]|\d{1,3}[.)．、:：]|[QqＱ]\d*[.:：．]|質問\s*\d*\s*[:：.．])\s*")


def generate(
    documents: Documents,
    collection: str,
    *,
    n: int = 10,
    model: str = READER,
    participant: str | Sequence[str] = "local",
    api_key: str | None = None,
    seed: int = 0,
    progress: Progress | Literal[False] | None = None,
    cancel: Cancel | None = None,
    **params: Any,
) -> tuple[Question, ...]:
    """Up to `n` questions, each with the passage that answers it and, where it is known, the answer; spread over the documents.

    With `starter-reader` a number becomes 何日 (or a word a gap) in a sentence, and those that the reader answers go first. With a chat
    model each call is a Run with the app `questions`; passage and answer are then found by the reader. The same `seed` looks at the same
    places in the same order.

    Raises:
        InvalidValue: `n` is not 1–200, or the collection has no text.
        UnknownName: the collection or model is not there.
        ModelError: the model failed.
        Cancelled: it was cancelled before the first question.
    """
    if not 1 <= n <= 200:
        raise InvalidValue(name="n", value=n, allowed="1–200")
    found = documents.shelves.get(collection, participant)
    chunks = _spread(documents, found.id, Random(seed))
    if not chunks:
        raise InvalidValue(name="collection", value=found.name, allowed={"en": "one with documents that are ready", "ja": "準備のできた文書があるもの"})
    names = dict(documents.store.values(Document, ("id", "name"), collection_id=found.id))
    reader: Any = documents.models.chat(READER)
    asked = {"model": model, "participant": names_of(participant)[0], "api_key": api_key, **params}
    made = _by_rule(reader, chunks, names) if model == READER else _by_model(documents, reader, chunks, names, asked)
    return _collect(made, n, len(chunks), progress, cancel)


def _collect(
    made: Iterator[tuple[bool, Question]], n: int, chunks: int, progress: Progress | Literal[False] | None, cancel: Cancel | None
) -> tuple[Question, ...]:
    """The first `n` good questions, filled up with others; none twice."""
    good: dict[str, Question] = {}
    other: dict[str, Question] = {}
    with counting(progress, n, cancel) as ready:
        for is_good, question in made:
            (good if is_good else other).setdefault(squash(question.question), question)
            if len(good) >= n or len(good) + len(other) >= _TRIES * n or not ready(len(good)):
                break
    return tuple([*good.values(), *(question for key, question in other.items() if key not in good)][:n])


def _spread(documents: Documents, collection_id: str, random: Random) -> list[Chunk]:
    """The chunks in random order, a document after the other: the first of each, the second of each, …"""
    columns = ("id", "document_id", "collection_id", "position", "start", "end", "page", "line", "heading", "text")
    rows = sorted((Chunk(*row) for row in documents.store.values(Chunk, columns, collection_id=collection_id)), key=lambda one: (one.document_id, one.position))
    by_document: dict[str, list[Chunk]] = {}
    for chunk in rows:
        by_document.setdefault(chunk.document_id, []).append(chunk)
    groups = list(by_document.values())
    random.shuffle(groups)
    for group in groups:
        random.shuffle(group)
    turns = [(turn, place, chunk) for place, group in enumerate(groups) for turn, chunk in enumerate(group)]
    return [chunk for _, _, chunk in sorted(turns, key=lambda one: one[:2])]


def _by_rule(reader: StarterReader, chunks: Sequence[Chunk], names: dict[str, str]) -> Iterator[tuple[bool, Question]]:
    """One question per chunk, then a second one …, each with whether the reader answers it as expected."""
    for turn in range(3):
        for chunk in chunks:
            options = list(_candidates(chunk))
            if turn < len(options):
                asked, passage, answer = options[turn]
                said = _read(reader, chunk.text, asked)[0]
                yield grade(said, answer).f1 >= 0.8, Question(asked, passage, names.get(chunk.document_id, ""), answer)


def _candidates(chunk: Chunk) -> Iterator[tuple[str, str, str]]:
    """(question, passage, answer): counted numbers first, then other numbers, then names and terms."""
    found = []
    for start, end in sentences(chunk.text):
        passage = _NUMBERING.sub("", chunk.text[start:end].strip())
        if not _LENGTHS[0] <= len(passage) <= _LENGTHS[1] or is_row(passage) or _UNFIT.search(passage):
            continue
        for worth, pattern in enumerate((_COUNTED, _NUMBER, _TERM)):
            match = next((one for one in pattern.finditer(passage) if passage.count(one[0]) == 1 and one[0] not in chunk.heading), None)
            if match is not None:
                found.append((worth, -len(passage), _ask(passage, match, chunk.heading), passage, match[0]))
                break
    for _, _, asked, passage, answer in sorted(found):
        yield asked, passage, answer


def _ask(passage: str, match: re.Match[str], heading: str) -> str:
    """The sentence as a question for `match`: 何 in its place where the sentence can take it, a gap otherwise."""
    if language_of(passage) != "ja":
        return f"What belongs in the gap: “{_around(passage, match, '____')}”?"
    unit = match.groupdict().get("unit")
    if unit and _POLITE.search(passage) and "。" not in passage[:-1]:
        about = heading.rsplit(" > ", 1)[-1]
        topic = f"{about}について、" if about and len(about) <= 20 and about not in passage else ""
        unit = {"%": "パーセント", "％": "パーセント"}.get(unit, unit)
        return f"{topic}{passage[: match.start()]}何{unit}{passage[match.end():].rstrip('。')}か。"
    return f"「{_around(passage, match, '＿＿＿')}」の＿＿＿に入る言葉は何ですか。"


def _around(passage: str, match: re.Match[str], gap: str) -> str:
    """The part of a sentence around `match`, cut at commas and spaces: a question with all its words would be found by them alone."""
    before, after = passage[: match.start()], passage[match.end():]
    if len(before) > _AROUND:
        cuts = [place.end() for place in _PAUSE.finditer(before) if place.end() >= len(before) - _AROUND]
        before = "…" + before[cuts[0] if cuts else len(before) - _AROUND:]
    if len(after) > _AROUND:
        cuts = [place.start() for place in _PAUSE.finditer(after) if 0 < place.start() <= _AROUND]
        after = after[: cuts[-1] if cuts else _AROUND] + "…"
    return before + gap + after


def _by_model(
    documents: Documents, reader: StarterReader, chunks: Sequence[Chunk], names: dict[str, str], asked: dict[str, Any]
) -> Iterator[tuple[bool, Question]]:
    options = next(variable.options for variable in documents.playground.prompts.get(PROMPT).variables if variable.name == "instruction")
    instruction = {language_of(option): option for option in options}
    for chunk in chunks:
        text = chunk.text.strip()
        if len(text) < _LENGTHS[0]:
            continue
        variables = {"instruction": instruction[language_of(text)], "count": _PER_CHUNK, "text": text}
        run = documents.playground.run(PROMPT, variables=variables, app="questions", **asked)
        for question in _lines(run.output)[:_PER_CHUNK]:
            answer, passage = _read(reader, chunk.text, question)
            yield bool(answer), Question(question, passage or _nearest(question, chunk.text), names.get(chunk.document_id, ""), answer)


def _lines(output: str) -> list[str]:
    """The questions among the lines of a model's reply, without numbers and marks."""
    lines = [_NUMBERING.sub("", line.strip()).strip("「」\"*_ 　") for line in output.splitlines()]
    return [line for line in lines if 4 <= len(line) <= 200 and re.search(r"[?？]$|か。?$|(?:何|いつ|どこ|誰).{0,12}[。か]?$", line)]


def _read(reader: StarterReader, text: str, question: str) -> tuple[str, str]:
    """(answer, its sentence) by the reader; both empty where it finds none."""
    labels = ("資料：", "質問：") if language_of(text) == "ja" else ("Sources:", "Question:")
    facts = reader.read(f"{labels[0]}\n{text.strip()}\n\n{labels[1]}{question}").facts
    return str(facts["answer"] or ""), str(facts["quote"] or "").strip()


def _nearest(question: str, text: str) -> str:
    """The sentence that shares most characters with the question, for a question the reader does not answer."""
    wanted = set(normalise_answer(unicodedata.normalize("NFKC", question)))
    each: list[str] = [text[start:end].strip() for start, end in sentences(text)]
    measure: Callable[[str], float] = lambda sentence: len(wanted & set(normalise_answer(sentence))) / (len(set(sentence)) + 5)  # noqa: E731
    return max((sentence for sentence in each if sentence), key=measure, default="")
