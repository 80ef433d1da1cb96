"""Where in the documents a passage stands, however it was typed, and which chunks hold it, however they are cut.

    places = Locator(store, collection).find_all(questions)    # one list of places per question
    places[0][0].is_held_by(chunk)

Widths, white space and case do not matter: a passage copied from a PDF viewer is found although its lines broke elsewhere.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from llmops_kit.documents.chunking import document_text
from llmops_kit.documents.questions import Question
from llmops_kit.types import Document, Page

if TYPE_CHECKING:
    from llmops_kit.store import Store
    from llmops_kit.types import Collection

_SPACE = re.compile(r"[\s\u200b-\u200d\u2060\ufeff]+")
_CLUSTER = re.compile("[^\\s\u200b-\u200d\u2060\ufeff][\u0300-\u036f\u3099\u309aﾞﾟ]*")


class ChunkLike(Protocol):
    """What lies somewhere in a document."""

    @property
    def document_id(self) -> str:
        """The document."""

    @property
    def start(self) -> int:
        """Where it begins in the document's text."""

    @property
    def end(self) -> int:
        """Where it ends."""


@dataclass(frozen=True)
class Place:
    """A stretch of a document's text that answers a question; `is_whole` where every chunk that touches it does (a page, a document)."""

    document_id: str
    start: int
    end: int
    is_whole: bool = False

    def is_held_by(self, chunk: ChunkLike) -> bool:
        """Whether a chunk answers: it has half of this place or more, or lies in it with half of itself or more.

        The second case is a place so long that it goes over several chunks.
        """
        if chunk.document_id != self.document_id:
            return False
        shared = min(self.end, chunk.end) - max(self.start, chunk.start)
        least = 1.0 if self.is_whole else min(self.end - self.start, chunk.end - chunk.start) / 2
        return shared >= max(least, 1)


def squash(text: str) -> str:
    """`text` as passages are compared: NFKC, without any white space and case."""
    return _SPACE.sub("", unicodedata.normalize("NFKC", text)).casefold()


class Locator:
    """Finds passages in the documents of one collection that are ready. Each document's text is read once."""

    def __init__(self, store: Store, collection: Collection) -> None:
        documents = store.find(Document, collection_id=collection.id, state="ready", newest_first=False)
        self.names = {document.id: document.name for document in documents}
        self.documents = documents
        self._store = store

    def pages_of(self, document: Document) -> list[Page]:
        """The pages of a document that are searched, in order."""
        pages = self._store.find(Page, document_id=document.id, dropped=False)
        return sorted(pages, key=lambda page: page.number)

    def find_all(self, questions: Sequence[Question]) -> list[list[Place]]:
        """For each question all places that answer it: every place where its passage stands, or else its page or document."""
        found: list[list[Place]] = [[] for _ in questions]
        squashed = [squash(question.passage) for question in questions]
        for document in self.documents:
            wanted = [row for row, question in enumerate(questions) if question.has_place and names_document(question.document, document.name)]
            if not wanted:
                continue
            pages = self.pages_of(document)
            text = document_text(pages)
            folded, whole, map_ = squash(text), Place(document.id, 0, len(text), is_whole=True), None
            for row in wanted:
                if not squashed[row]:
                    found[row].extend(_pages(document, pages, questions[row].page) or ([whole] if questions[row].page is None else []))
                elif squashed[row] in folded:
                    map_ = map_ or _OffsetMap(text)
                    found[row].extend(Place(document.id, start, end) for start, end in map_.find(squashed[row]))
        return [_on_page(places, question, self) if question.page and question.passage else places for places, question in zip(found, questions, strict=True)]

    def page_at(self, place: Place) -> int | None:
        """The number of the page where a place begins."""
        document = next(one for one in self.documents if one.id == place.document_id)
        pages = self.pages_of(document)
        starts = list(_starts(pages))
        return pages[bisect_right(starts, place.start) - 1].number if pages else None


def names_document(wanted: str, name: str) -> bool:
    """Whether the file called `name` is meant by `wanted`, a file name or a part of one; an empty one means any."""
    return unicodedata.normalize("NFKC", wanted).casefold() in unicodedata.normalize("NFKC", name).casefold()


def count_held(places: Iterable[Place], chunks: Iterable[ChunkLike]) -> int:
    """How many of `chunks` answer, with any of `places`."""
    known = list(places)
    return sum(any(place.is_held_by(chunk) for place in known) for chunk in chunks)


def _starts(pages: Sequence[Page]) -> Iterator[int]:
    start = 0
    for page in pages:
        yield start
        start += len(page.text)


def _pages(document: Document, pages: Sequence[Page], number: int | None) -> list[Place]:
    starts = zip(pages, _starts(pages), strict=True)
    return [Place(document.id, start, start + len(page.text), is_whole=True) for page, start in starts if page.number == number]


def _on_page(places: list[Place], question: Question, locator: Locator) -> list[Place]:
    """The places on the page the question names, or all where none is: page numbers are often those printed on the paper."""
    return [place for place in places if locator.page_at(place) == question.page] or places


class _OffsetMap:
    """The squashed text, and where each of its characters stands in the text."""

    def __init__(self, text: str) -> None:
        pieces, firsts, starts, ends, length = list[str](), list[int](), list[int](), list[int](), 0
        for match in _CLUSTER.finditer(text):
            piece = squash(match[0])
            if piece:
                pieces.append(piece)
                firsts.append(length)
                starts.append(match.start())
                ends.append(match.end())
                length += len(piece)
        self._text, self._firsts, self._starts, self._ends = "".join(pieces), firsts, starts, ends

    def find(self, squashed: str) -> Iterator[tuple[int, int]]:
        """(start, end) in the text of every place of `squashed`, those that overlap left out."""
        place = self._text.find(squashed)
        while place >= 0:
            last = place + len(squashed) - 1
            yield self._starts[bisect_right(self._firsts, place) - 1], self._ends[bisect_right(self._firsts, last) - 1]
            place = self._text.find(squashed, last + 1)
