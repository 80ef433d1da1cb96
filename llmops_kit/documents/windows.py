"""Which sentences of the hits a model is given: whole ones, those that matter first, within a budget of tokens.

    sources = choose_sources(question, hits, read, budget=1200)         # tuple[Source, …], best hit first

A window begins as the sentence of a hit that says most of the question, with its neighbours, and grows sentence by sentence
until its chunk is in it or the budget is spent. Windows of one document that touch become one. A source's text is always
`document_text[start:end]`.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from llmops_kit.documents.chunking import document_text
from llmops_kit.documents.sentences import Span, sentences
from llmops_kit.models.lexical import tokenize, tokenize_query
from llmops_kit.types import Chunk, Document, Page, Source

if TYPE_CHECKING:
    from llmops_kit.models.catalogue import ModelEntry

BUDGET_TOKENS = 1200            # of all sources together, where the model's context has room for them
STARTER_LM_TOKENS = 400         # starter-lm was trained on rows of at most 640 tokens: see its card
READER_SHARE = 0.8              # starter-reader is given the sources that score this share of the best: see docs/log.md
REACH = 300                     # characters before and after a chunk that a window may grow into
_NEIGHBOUR = 0.25               # of a sentence's worth, how much counts for the sentence beside it
_RANK_FADING = 0.85             # a hit's sentences are worth this much of those of the hit before it
_OUTSIDE = 0.15                 # the worth a sentence outside the chunk needs to be taken in
_LATIN = re.compile(r"[\x00-\x7fÀ-ɏ]")

Worth = Callable[[str], float]


class HitLike(Protocol):
    """A hit of the search: its chunk and its score."""

    @property
    def chunk(self) -> Chunk:
        """The chunk that was found."""

    @property
    def score(self) -> float:
        """Its score; higher is better."""


@dataclass(frozen=True)
class DocumentText:
    """A document as it is searched: its `text`, and where each page begins: (offset, page number, whether it has text nobody sees)."""

    id: str
    name: str
    text: str
    pages: tuple[tuple[int, int, bool], ...] = ()

    @classmethod
    def join(cls, document: Document, pages: Sequence[Page]) -> DocumentText:
        """The text of the pages that are not dropped, one after the other."""
        kept = [page for page in sorted(pages, key=lambda page: page.number) if not page.dropped]
        starts, offset = [], 0
        for page in kept:
            starts.append((offset, page.number, bool(page.facts.get("has_hidden_text"))))
            offset += len(page.text)
        return cls(document.id, document.name, document_text(kept), tuple(starts))

    def page_at(self, offset: int) -> int | None:
        """The number of the page that holds `offset`; None where the document has no pages."""
        place = bisect_right([start for start, _, _ in self.pages], offset) - 1
        return self.pages[place][1] if place >= 0 else None

    def has_hidden_text(self, start: int, end: int) -> bool:
        """Whether a page that start–end touches has text nobody sees."""
        ends = [*(first for first, _, _ in self.pages[1:]), len(self.text)]
        return any(hidden and first < end and start < last for (first, _, hidden), last in zip(self.pages, ends, strict=False))


Read = Callable[[str], DocumentText | None]
"""Gives the text of a document by its id; None where it is gone."""


@dataclass
class _Window:
    """A growing range of sentences of one document; `spans` are all it may grow into, `first`–`last` those it has."""

    hit: HitLike
    document: DocumentText
    spans: list[Span]
    worths: list[float]
    rank: int
    first: int = field(init=False)
    last: int = field(init=False)

    def __post_init__(self) -> None:
        inside = [place for place in range(len(self.spans)) if self._overlaps_chunk(place)]
        self.first = self.last = max(inside, key=lambda place: (self.worths[place], -place), default=0)

    def _overlaps_chunk(self, place: int) -> bool:
        start, end = self.spans[place]
        return start < self.hit.chunk.end and end > self.hit.chunk.start

    def candidates(self) -> Iterator[tuple[float, int]]:
        """(worth, place) of the sentence before and the one after, where the window may take them in."""
        for place in (self.first - 1, self.last + 1):
            if 0 <= place < len(self.spans) and (self._overlaps_chunk(place) or self.worths[place] >= _OUTSIDE):
                yield (self.worths[place] + (1.0 if self._overlaps_chunk(place) else 0.0)) * _RANK_FADING**self.rank, place

    def take(self, place: int) -> None:
        self.first, self.last = min(self.first, place), max(self.last, place)

    def text_of(self, place: int) -> str:
        return self.document.text[self.spans[place][0]: self.spans[place][1]]


def choose_sources(question: str, hits: Sequence[HitLike], read: Read, *, budget: int = BUDGET_TOKENS) -> tuple[Source, ...]:
    """The sources for `question` from `hits`, best first, of about `budget` tokens together. The first is always given, cut where need be.

    A hit whose document is gone, or no longer says what the chunk says there, is left out.
    """
    windows = _open_windows(question, hits, read)
    left = budget
    kept: list[_Window] = []
    for window in windows:
        cost = estimate_tokens(window.text_of(window.first))
        if kept and cost > left:
            continue
        kept.append(window)
        left -= cost
    _grow(kept, left)
    return tuple(each.to_source() for each in _merge([_range(window, budget) for window in kept]))


def budget_for(entry: ModelEntry, question: str, *, answer_tokens: int) -> int:
    """How many tokens of sources fit `entry` with `question`, an answer and the instructions; at least 64.

    Tokens are estimated (`estimate_tokens`), so a tenth of the context stays free.
    """
    instructions = 220              # the longer of the two instructions of answer_from_sources, with its labels
    room = int(entry.context_tokens * 0.9) - answer_tokens - instructions - estimate_tokens(question)
    most = STARTER_LM_TOKENS if entry.provider == "starter" and entry.kind != "extractive" else BUDGET_TOKENS
    return max(64, min(most, room))


def estimate_tokens(text: str) -> int:
    """About how many tokens `text` has, on the safe side: one per Japanese character, one per three Latin ones."""
    latin = len(_LATIN.findall(text))
    return len(text) - latin + math.ceil(latin / 3)


def weigh_terms(question: str, texts: Sequence[str]) -> Worth:
    """A function that gives the share of `question` (0 to 1) that a text holds, rare terms counting more (BM25's idf over `texts`)."""
    asked = Counter(tokenize_query(question))
    found = Counter(term for text in texts for term in set(tokenize(text)) & asked.keys())
    weights = {term: count * math.log1p((len(texts) - found[term] + 0.5) / (found[term] + 0.5)) for term, count in asked.items()}
    total = sum(weights.values()) or 1.0

    def worth(text: str) -> float:
        return sum(weights[term] for term in set(tokenize(text)) & weights.keys()) / total

    return worth


def _open_windows(question: str, hits: Sequence[HitLike], read: Read) -> list[_Window]:
    documents: dict[str, DocumentText | None] = {}
    found: list[tuple[HitLike, DocumentText, list[Span]]] = []
    for hit in hits:
        chunk = hit.chunk
        if chunk.document_id not in documents:
            documents[chunk.document_id] = read(chunk.document_id)
        document = documents[chunk.document_id]
        if document is not None and document.text[chunk.start: chunk.end] == chunk.text and chunk.text.strip():
            found.append((hit, document, _spans_around(document.text, chunk)))
    worth = weigh_terms(question, [document.text[start:end] for _, document, spans in found for start, end in spans])
    windows = []
    for rank, (hit, document, spans) in enumerate(found):
        own = [worth(document.text[start:end]) for start, end in spans]
        beside = [max(own[place - 1: place] + own[place + 1: place + 2], default=0.0) for place in range(len(own))]
        windows.append(_Window(hit, document, spans, [one + _NEIGHBOUR * other for one, other in zip(own, beside, strict=True)], rank))
    return windows


def _spans_around(text: str, chunk: Chunk) -> list[Span]:
    """The sentences of the chunk and of `REACH` characters around it; a sentence that the reach cuts is left out."""
    low, high = max(0, chunk.start - REACH), min(len(text), chunk.end + REACH)
    inside = [(chunk.start + start, chunk.start + end) for start, end in sentences(text[chunk.start: chunk.end])]
    before = [(low + start, low + end) for start, end in sentences(text[low: chunk.start])]
    after = [(chunk.end + start, chunk.end + end) for start, end in sentences(text[chunk.end: high])]
    before = before[1:] if low > 0 else before
    after = after[:-1] if high < len(text) else after
    return [span for span in (*before, *inside, *after) if text[span[0]: span[1]].strip()]


def _grow(windows: Sequence[_Window], left: int) -> None:
    """Take in the worthiest sentence beside any window, again and again, while it fits."""
    full: set[tuple[int, int]] = set()
    while True:
        ready = [(worth, -window.rank, place) for window in windows for worth, place in window.candidates() if (window.rank, place) not in full]
        if not ready:
            return
        _, rank, place = max(ready)
        window = next(one for one in windows if one.rank == -rank)
        cost = estimate_tokens(window.text_of(place))
        if cost > left:
            full.add((window.rank, place))
        else:
            window.take(place)
            left -= cost


@dataclass(frozen=True)
class _Range:
    """A stretch of one document that becomes a source."""

    document: DocumentText
    hit: HitLike
    start: int
    end: int

    def touches(self, other: _Range) -> bool:
        """Whether nothing but white space lies between the two."""
        first, second = sorted((self, other), key=lambda one: one.start)
        return self.document.id == other.document.id and not self.document.text[first.end: second.start].strip()

    def to_source(self) -> Source:
        """As a source, without white space at its ends."""
        text, chunk = self.document.text, self.hit.chunk
        page = self.document.page_at(self.start) if chunk.page is not None else None
        return Source(self.document.name, text[self.start: self.end], page, self.hit.score, self.start, self.end, self.document.id, chunk.id)


def _range(window: _Window, budget: int) -> _Range:
    text, start, end = window.document.text, window.spans[window.first][0], window.spans[window.last][1]
    while estimate_tokens(text[start:end]) > budget:       # one sentence alone is too long
        end = start + (end - start) * 3 // 4
    piece = text[start:end]
    return _Range(window.document, window.hit, end - len(piece.lstrip()), start + len(piece.rstrip()))


def _merge(ranges: Sequence[_Range]) -> list[_Range]:
    """Ranges of one document that touch become one, in the place and with the score of the best."""
    merged: list[_Range] = []
    for one in ranges:
        touching = [other for other in merged if other.touches(one)]
        if not touching:
            merged.append(one)
            continue
        best = touching[0]
        united = replace(best, start=min(each.start for each in (*touching, one)), end=max(each.end for each in (*touching, one)))
        merged = [united if each is best else each for each in merged if each is best or each not in touching]
    return merged
