"""Cutting a document into the chunks that are searched: whole sentences, table rows and lines, under their heading, nothing lost.

    pieces = chunk_pages(pages, size=400, paged=True)
    [text[piece.start:piece.end] for piece in pieces]       # joined, they are document_text(pages) again

Where to cut is decided here and in `sentences`; LlamaIndex packs the sentences into chunks.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby, pairwise
from typing import Any, Protocol

from llmops_kit.documents.sentences import Span, is_row, sentences, split_long
from llmops_kit.errors import InvalidValue

SIZE = 400                      # characters
SIZES = (20, 20_000)            # the smallest and the largest that serve
HARD = 4                        # a row, a word or a line of code that is no longer than this many sizes stays whole
BORDER_LEVEL = 3                # headings down to this level begin a chunk of their own
CODE = frozenset({"code", "json", "jsonl", "yaml", "yml", "toml", "xml", "py", "ipynb", "js", "ts", "sql", "sh", "css", "java", "c", "cpp", "go", "rs"})


class PageLike(Protocol):
    """What is read of a page: a stored `Page` or one just read. One with a true `dropped` is left out."""

    @property
    def number(self) -> int:
        """The number of the page in its file, from 1."""

    @property
    def text(self) -> str:
        """Its text, ending with a line end."""

    @property
    def facts(self) -> Any:
        """A mapping or an object with `headings`, (offset in the page's text, level from 1, title), and `repeated_lines`."""


@dataclass(frozen=True)
class Piece:
    """Where a chunk lies: `start` and `end` in the document's text, the `page` and `line` where its words begin, its `heading`.

    `page` is None for a file without pages; `line` counts from 1; `heading` is a path such as 就業規則 > 休暇, empty without headings.
    """

    start: int
    end: int
    page: int | None
    line: int
    heading: str


@dataclass(frozen=True)
class _Heading:
    place: int
    level: int
    title: str


def document_text(pages: Sequence[PageLike]) -> str:
    """The text that offsets point into: the texts of the pages that are not dropped, one after the other."""
    return "".join(page.text for page in _kept(pages))


def chunk_pages(pages: Sequence[PageLike], *, size: int = SIZE, paged: bool = True, kind: str = "") -> list[Piece]:
    """Cut a document into chunks of at most `size` characters (white space at their end not counted).

    A chunk ends where a sentence, a table row or a line ends. A sentence that is longer than `size` is cut after a comma, at a space, at
    the border of two scripts, never in a word; only a row or a word (a URL, say) may be longer than `size`, up to four times. A heading
    down to level 3 begins a chunk, unless it stands directly under the heading that it belongs to. A chunk does not go over the end of
    a page, but a sentence does: it is completed on the next page, and the chunk with it.

    Args:
        pages: in their order; those with a true `dropped` are left out.
        size: characters per chunk.
        paged: whether the numbers of the pages mean something to a reader; without, chunks go over their ends and `page` is None.
        kind: the kind of file; programs are cut at line ends only.

    Raises:
        InvalidValue: `size` is outside 20 … 20,000.
    """
    if not SIZES[0] <= size <= SIZES[1]:
        raise InvalidValue(name="chunk_size", value=size, allowed=f"{SIZES[0]} … {SIZES[1]:,}")
    kept = _kept(pages)
    text = document_text(kept)
    if not text:
        return []
    starts = [0, *accumulate(len(page.text) for page in kept)]
    headings = _headings(kept, starts)
    joints = {start for page, start in zip(kept, starts[1:], strict=False) if paged and not _ends_with_furniture(page)}
    spans = _cut_at(sentences(text, code=kind.lower() in CODE, joints=joints), [heading.place for heading in headings])
    borders = _heading_borders(text, headings) | (_page_borders(spans, starts) if paged else set())
    cuts = [0, *(end for segment in _segments(spans, borders) for end in _pack(text, segment, size))]
    return list(_describe(text, _join_blank(text, cuts), kept if paged else [], starts, headings))


def _kept(pages: Sequence[PageLike]) -> list[PageLike]:
    return [page for page in pages if not getattr(page, "dropped", False)]


def _fact(page: PageLike, name: str) -> Sequence[Any]:
    facts = getattr(page, "facts", None)
    return (facts.get(name) if isinstance(facts, Mapping) else getattr(facts, name, None)) or ()


def _ends_with_furniture(page: PageLike) -> bool:
    """Whether the last line is a footer, which no sentence goes through."""
    lines = page.text.rstrip().rsplit("\n", 1)
    return lines[-1].strip() in {str(line).strip() for line in _fact(page, "repeated_lines")}


def _headings(pages: Sequence[PageLike], starts: Sequence[int]) -> list[_Heading]:
    """The headings of all pages, by their places in the document's text; titles on one line."""
    found = [
        _Heading(start + min(max(int(offset), 0), len(page.text)), int(level), " ".join(str(title).split()))
        for page, start in zip(pages, starts, strict=False)
        for offset, level, title in _fact(page, "headings")
    ]
    return sorted((heading for heading in found if heading.title), key=lambda heading: heading.place)


def _cut_at(spans: list[Span], places: Sequence[int]) -> list[Span]:
    """`spans` with a cut at each of `places` too."""
    ends = sorted({end for _, end in spans} | {place for place in places if 0 < place < spans[-1][1]})
    return list(zip([0, *ends], ends, strict=False))


def _heading_borders(text: str, headings: Sequence[_Heading]) -> set[int]:
    """Where headings begin a chunk: all but those directly under the heading they belong to, which alone would be a chunk of its title."""
    headings = [heading for heading in headings if heading.level <= BORDER_LEVEL]
    pairs = zip([None, *headings], headings, strict=False)
    return {heading.place for above, heading in pairs if above is None or not _stands_under(text, above, heading)}


def _stands_under(text: str, above: _Heading, heading: _Heading) -> bool:
    """Whether `heading` belongs under the one `above` it, with nothing but that one's own line before it."""
    return heading.level > above.level and "\n" not in text[above.place: heading.place].strip()


def _page_borders(spans: Sequence[Span], starts: Sequence[int]) -> set[int]:
    """The end of each page, or of the sentence that goes on after it."""
    ends = [end for _, end in spans]
    return {ends[bisect.bisect_left(ends, start)] for start in starts[1:]}


def _segments(spans: Sequence[Span], borders: set[int]) -> Iterator[list[Span]]:
    """The sentences between one border and the next."""
    segment: list[Span] = []
    for span in spans:
        if span[0] in borders and segment:
            yield segment
            segment = []
        segment.append(span)
    yield segment


def _pack(text: str, segment: Sequence[Span], size: int) -> Iterator[int]:
    """The ends of the chunks of one segment."""
    if len(text[segment[0][0]: segment[-1][1]].rstrip()) <= size:
        yield segment[-1][1]
        return
    atoms = [atom for span in segment for atom in _atoms(text, span, size)]
    for too_long, run in groupby(atoms, lambda atom: atom[1] - atom[0] > size):
        group = list(run)
        yield from (end for _, end in group) if too_long else _pack_sentences(text, group, size)


def _atoms(text: str, span: Span, size: int) -> Iterator[Span]:
    """A sentence as it is, or in parts where it is too long."""
    start, end = span
    whole = text[start:end].rstrip()
    if len(whole) <= size or (len(whole) <= HARD * size and "\n" not in whole and is_row(whole)):
        yield span
        return
    for cut in split_long(text, start, end, size=size, hard=HARD * size):
        yield start, cut
        start = cut


def _pack_sentences(text: str, atoms: Sequence[Span], size: int) -> Iterator[int]:
    """The ends of chunks made of whole `atoms`, each no longer than `size`, packed by LlamaIndex."""
    first, last = atoms[0][0], atoms[-1][1]
    whole = text[first:last]
    if len(whole) > size:
        starts = [start for start, _ in atoms]
        place = first
        for chunk in _splitter(whole, [text[start:end] for start, end in atoms], size)(whole):
            # LlamaIndex strips its chunks: the sentence that holds the first visible character is the one that begins the chunk.
            place = text.index(chunk, place)
            begin = starts[bisect.bisect_right(starts, place) - 1]
            if begin > first:
                yield begin
            place += len(chunk)
    yield last


def _splitter(whole: str, parts: Sequence[str], size: int) -> Callable[[str], list[str]]:
    from llama_index.core.node_parser import SentenceSplitter

    return SentenceSplitter(
        chunk_size=size,
        chunk_overlap=0,
        tokenizer=str,                              # the size is counted in characters
        chunking_tokenizer_fn=lambda _: list(parts),
        paragraph_separator=f"{whole}\n",           # longer than the text, so that it is in none: paragraphs are among the parts
    ).split_text


def _join_blank(text: str, cuts: Sequence[int]) -> list[Span]:
    """The chunks between `cuts`, those of white space only joined to the one before (the first to the one after)."""
    chunks: list[Span] = []
    for start, end in pairwise(cuts):
        if chunks and (text[start:end].isspace() or text[chunks[-1][0]: chunks[-1][1]].isspace()):
            chunks[-1] = (chunks[-1][0], end)
        else:
            chunks.append((start, end))
    return chunks


def _describe(text: str, chunks: Sequence[Span], pages: Sequence[PageLike], starts: Sequence[int], headings: Sequence[_Heading]) -> Iterator[Piece]:
    line, counted, path, upcoming = 1, 0, list[_Heading](), 0
    for start, end in chunks:
        shown = start + len(text[start:end]) - len(text[start:end].lstrip())
        line, counted = line + text.count("\n", counted, shown), shown
        leading = start if shown >= end else shown
        while upcoming < len(headings) and _leads(text, leading, headings, upcoming):
            heading = headings[upcoming]
            path = [above for above in path if above.level < heading.level] + [heading]
            upcoming += 1
        number = pages[bisect.bisect_right(starts, min(shown, len(text) - 1)) - 1].number if pages else None
        yield Piece(start, end, number, line, " > ".join(above.title for above in path))


def _leads(text: str, shown: int, headings: Sequence[_Heading], position: int) -> bool:
    """Whether a heading stands before what a chunk says first, or is part of the bare headings that the chunk begins with."""
    heading = headings[position]
    if heading.place <= shown or not position:
        return heading.place <= shown
    above = headings[position - 1]
    return above.place >= shown and _stands_under(text, above, heading)
