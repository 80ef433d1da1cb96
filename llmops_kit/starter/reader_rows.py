"""The reader's questions: read, cleared of evaluation text, paired with texts that do not answer them, cut into units."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from llmops_kit.models.spans import IDF_BUCKETS, KERNEL_UNITS, WINDOW_UNITS, Question, choose_window, describe, hash_pairs, read_question
from llmops_kit.models.units import Floats, Units, cut
from llmops_kit.starter.corpus import LeakFilter, read_lines

MAX_OCCURRENCES = 6             # of an answer whose place is not given
cut_once = lru_cache(maxsize=1 << 16)(cut)


@dataclass(frozen=True)
class QuestionRow:
    """A question on a text; `places` are the character ranges of its `answers` in `context` (none: not answered there)."""

    language: str
    title: str
    context: str
    question: str
    answers: tuple[str, ...]
    places: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Example:
    """A row as the network sees it: the window's `units` and `dense` features, `golds` as (first, last) unit."""

    units: Units
    question: Question
    dense: NDArray[np.float16]
    golds: tuple[tuple[int, int], ...]


def read_rows(path: Path, language: str) -> Iterator[QuestionRow]:
    """The extractive questions of a JSON-lines file; where no `start` is given, every place of an answer counts."""
    for row in read_lines(path):
        context, answers = str(row["context"]), [str(answer) for answer in row["answers"]]  # type: ignore[attr-defined]
        starts = row.get("start")
        if isinstance(starts, list):
            places = {(start, start + len(answer)) for answer, start in zip(answers, starts, strict=True)}
        elif row.get("explicit", True):
            places = {place for answer in answers for place in _places(context, answer.strip().rstrip("."))}
        else:
            continue
        if places:
            yield QuestionRow(language, str(row["title"]), context, str(row["q"]), tuple(answers), tuple(sorted(places)))


def _places(context: str, answer: str) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    start = context.find(answer) if answer else -1
    while start >= 0 and len(found) < MAX_OCCURRENCES:
        found.append((start, start + len(answer)))
        start = context.find(answer, start + 1)
    return found


def read_jsquad_rows(path: Path) -> Iterator[QuestionRow]:
    """JSQuAD's questions with the title as the first line of the context."""
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            context = paragraph["context"].replace(" [SEP] ", "\n", 1)
            for row in paragraph["qas"]:
                answers = tuple(answer["text"] for answer in row["answers"])
                yield QuestionRow("ja", article["title"], context, row["question"], answers, ())


def drop_leaks(rows: Iterable[QuestionRow], leaks: LeakFilter) -> list[QuestionRow]:
    """The rows whose title and text share nothing with the evaluation sets."""
    clean: dict[str, bool] = {}
    kept = []
    for row in rows:
        if row.context not in clean:
            clean[row.context] = not leaks.overlaps(title=row.title, text=row.context, language=row.language)
        if clean[row.context]:
            kept.append(row)
    return kept


def hold_out(rows: Sequence[QuestionRow], titles: int, seed: int) -> tuple[list[QuestionRow], list[QuestionRow]]:
    """(the rest, the rows of `titles` random articles)."""
    names = sorted({row.title for row in rows})
    chosen = set(Random(seed).sample(names, titles))
    return [row for row in rows if row.title not in chosen], [row for row in rows if row.title in chosen]


def pair_absent(rows: Sequence[QuestionRow], share: float, seed: int) -> list[QuestionRow]:
    """A `share` of the rows, each with another text of the same article that holds none of its answers."""
    random = Random(seed)
    contexts: dict[str, set[str]] = {}
    for row in rows:
        contexts.setdefault(row.title, set()).add(row.context)
    ordered = {title: sorted(texts) for title, texts in contexts.items()}
    paired = []
    for row in rows:
        others = [text for text in ordered[row.title] if text != row.context and not any(answer in text for answer in row.answers)]
        if others and random.random() < share:
            paired.append(QuestionRow(row.language, row.title, random.choice(others), row.question, row.answers, ()))
    return paired


_POLITE = {
    "であった。": "でした。", "である。": "です。", "だった。": "でした。", "された。": "されました。", "される。": "されます。", "した。": "しました。",
    "する。": "します。", "ている。": "ています。", "ていた。": "ていました。", "がある。": "があります。", "られる。": "られます。", "れた。": "れました。",
}
_PLAIN_END = re.compile("(?<!ま)(?:" + "|".join(sorted(_POLITE, key=len, reverse=True)) + ")")


def _speak_politely(text: str) -> str:
    """Ends plain Japanese sentences as people write to each other (です・ます), where that is a matter of the last word."""
    return _PLAIN_END.sub(lambda end: _POLITE[end[0]], text)


def shorten(rows: Sequence[QuestionRow], count: int, seed: int) -> list[QuestionRow]:
    """`count` of the rows on one to five sentences, as people paste them; one in four without the sentence that answers.

    Encyclopedia text is long and plain; half the Japanese ones are made polite outside the answer.
    """
    random = Random(seed)
    chosen = random.sample(list(rows), min(count, len(rows)))
    return [short for row in chosen if (short := _shorten(row, random)) is not None]


def _shorten(row: QuestionRow, random: Random) -> QuestionRow | None:
    units = cut_once(row.context)
    start, end = random.choice(row.places)
    touched = np.flatnonzero((units.starts < end) & (units.ends > start))
    if not len(touched) or units.sentences[touched[0]] != units.sentences[touched[-1]]:
        return None
    numbers = np.unique(units.sentences)
    place = int(np.searchsorted(numbers, units.sentences[touched[0]]))
    absent = random.random() < 0.25
    if absent:
        others = [number for number in range(len(numbers)) if abs(number - place) == 1]
        place = random.choice(others) if others else -1
        if place < 0:
            return None
        low = high = place
    else:
        low, high = max(0, place - random.choice((0, 0, 1, 2))), min(len(numbers) - 1, place + random.choice((0, 0, 1, 2)))
    inside = np.flatnonzero((units.sentences >= numbers[low]) & (units.sentences <= numbers[high]))
    first, last = int(units.starts[inside[0]]), int(units.ends[inside[-1]])
    change = _speak_politely if row.language == "ja" and random.random() < 0.5 else str
    if absent:
        text = row.context[first:last]
        return None if any(answer in text for answer in row.answers) else QuestionRow(row.language, row.title, change(text), row.question, row.answers, ())
    before, answer = change(row.context[first:start]), row.context[start:end]
    text = before + answer + change(row.context[end:last])
    return QuestionRow(row.language, row.title, text, row.question, row.answers, ((len(before), len(before) + len(answer)),))


def count_rarity(contexts: Iterable[str]) -> Floats:
    """Log inverse document frequency of every hash bucket of units and pairs."""
    counts, total = np.zeros(IDF_BUCKETS), 0
    for context in sorted(set(contexts)):
        units = cut_once(context)
        total += 1
        counts[np.unique(np.concatenate([units.ids, hash_pairs(units.ids)]) % IDF_BUCKETS)] += 1
    return np.log((total + 1) / (counts + 0.5)).astype(np.float16).astype(np.float32)


def make_example(row: QuestionRow, idf: Floats) -> Example | None:
    """The row's window with its features, or None where text or question has no units."""
    units, question = cut_once(row.context), read_question(row.question, idf, row.language)
    if not len(units) or not len(question.units):
        return None
    units = units.take(choose_window(units, question, WINDOW_UNITS[row.language])[:KERNEL_UNITS])
    golds = {gold for start, end in row.places if (gold := _locate(units, start, end)) is not None}
    return Example(units, question, describe(units, question, idf).astype(np.float16), tuple(sorted(golds)))


def _locate(units: Units, start: int, end: int) -> tuple[int, int] | None:
    """The units that hold characters `start` to `end`, where they are in the window and in one sentence."""
    first = int(np.searchsorted(units.starts, start, "right")) - 1
    last = int(np.searchsorted(units.ends, end))
    if first < 0 or last >= len(units) or start >= units.ends[first] or units.starts[last] >= end:
        return None
    return (first, last) if units.sentences[first] == units.sentences[last] else None


def make_examples(rows: Sequence[QuestionRow], idf: Floats, absent_share: float, seed: int) -> list[Example]:
    """Training examples: every row whose answer is in its window, and `absent_share` of them again without an answer."""
    answered = [example for row in rows if (example := make_example(row, idf)) is not None and example.golds]
    return answered + make_absent(pair_absent(rows, absent_share, seed), idf)


def make_absent(rows: Iterable[QuestionRow], idf: Floats) -> list[Example]:
    """Examples of rows without an answer."""
    return [example for row in rows if (example := make_example(row, idf)) is not None]
