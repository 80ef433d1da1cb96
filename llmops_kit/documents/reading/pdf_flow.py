"""Lines put back into paragraphs: a line break stays only where the writer meant one.

Only white space changes, and hyphens where a word was cut, so that every other character can be found again by counting.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from llmops_kit.documents.reading.pdf_characters import END_HYPHEN, PageText, is_cjk, needs_blank
from llmops_kit.documents.reading.pdf_lines import BLANK, Run
from llmops_kit.documents.reading.pdf_rows import Row

_SENTENCE_END: Final = re.compile(r"(?:[。．！？!?]|\.)[\"'”’」』）)\]】]*$")
_BULLET: Final = re.compile(r"[・●○■□◆◇▪▫•‣◦※✓➢▶*][\s\u3000]?|[-–—][ \u3000]|[①-⑳㈠-㈩❶-❿]")
_NUMBER: Final = re.compile(
    r"[(（]?(?:\d{1,3}|[一二三四五六七八九十]{1,3}|[a-zA-Zア-ンｱ-ﾝ])[)）.．、](?!\d)|\d{1,2}(?:[.．]\d{1,2})+|第[\d０-９一二三四五六七八九十百]+[条章節編款項部]|附則|別表"
)
_GOES_ON: Final = re.compile(r"[、，,:：(（「『・–—/+&]$|[ぁ-ん](?<![るたすいくうむ])$")  # a comma, an open bracket, or kana that end no sentence
_SYMBOL_BULLET: Final = re.compile("[\ue000-\uf8ff](?=\\s)")  # a mark of a symbol font, which has no letter for it
_HYPHENS: Final = "-\u00ad\u2010" + END_HYPHEN
_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
_COMPOUND: Final = re.compile(
    r"(?<![a-z])(?:well|self|long|short|high|low|real|full|cross|two|three|four|first|second|third|state|user|open)$", re.I
)  # before a hyphen that stays
_FEW_LINES = 3
_HEADING_CHARACTERS = 80
_SMALLEST = 2.0  # smaller letters (points) are not there to be read
_HEADING_SIZE = 1.15  # of the size most characters of the document have


@dataclass(frozen=True)
class Piece:
    """Text of the page from character `start` of pdfium's (-1: put in by us), on visual line `line`."""

    text: str
    start: int
    line: int


@dataclass
class Line:
    """One visual line, ready to be joined: its text by parts, where it lies, and whether it is a row of a table."""

    parts: list[tuple[str, int]]
    u0: float
    u1: float
    v0: float
    v1: float
    size: float
    fixed: bool = False
    vertical: bool = False
    block: int = 0

    @property
    def text(self) -> str:
        """The characters of the line."""
        return "".join(text for text, _ in self.parts)


@dataclass
class Flow:
    """The text of a page as pieces, with candidates for headings (offset, size, title) and the characters of every size."""

    pieces: list[Piece] = field(default_factory=list)
    titles: list[tuple[int, float, str]] = field(default_factory=list)
    sizes: dict[float, int] = field(default_factory=dict)
    length: int = 0

    def add(self, text: str, start: int, line: int) -> None:
        """Append a piece. Two halves of a character beyond 16 bits, which some files have, become one."""
        if pair := _PAIR.search(text):
            self.add(text[: pair.start()], start, line)
            self.pieces.append(Piece(pair[0].encode("utf-16-le", "surrogatepass").decode("utf-16-le"), start + pair.start(), line))
            self.length += 1
            self.add(text[pair.end() :], start + pair.end(), line)
        elif text:
            self.pieces.append(Piece(text.replace(END_HYPHEN, "-"), start, line))
            self.length += len(text)

    def drop_last(self) -> None:
        """Take the last character away."""
        text, start, line = self.pieces[-1].text, self.pieces[-1].start, self.pieces[-1].line
        self.pieces[-1] = Piece(text[:-1], start, line)
        self.length -= 1

    @property
    def text(self) -> str:
        """The text of the page, with a line break at the end unless it is empty."""
        return "".join(piece.text for piece in self.pieces)


def flow_rows(rows: Sequence[Row], page: PageText) -> Flow:
    """Paragraphs, list items, headings and rows of tables, each on a line of its own; cells of a row are parted by a tab."""
    lines: list[Line] = []
    for row in rows:
        if row.in_table:
            lines.append(_table_line(row, page))
        elif any(len(cell) > 1 for cell in row.cells):
            lines += [_line([run], page) for run in row.runs]
        else:
            lines.append(_line(row.runs, page))
    return flow_lines(lines)


def flow_plain(text: str) -> str:
    """The same for text whose places are not known: a character is one unit wide, half of that outside Japanese."""
    lines: list[Line] = []
    at = 0.0
    for raw in text.split("\n"):
        at += 1.0
        if stripped := raw.strip():
            indent = _width(raw[: len(raw) - len(raw.lstrip())])
            lines.append(Line([(stripped, -1)], indent, indent + _width(stripped), at, at + 0.9, 1.0, fixed="\t" in stripped))
    return flow_lines(lines, pitch=1.0).text


def flow_lines(lines: Sequence[Line], *, pitch: float | None = None) -> Flow:
    """Join what belongs together. `pitch` is the usual distance of lines where it is known (an empty line then parts paragraphs)."""
    _mark_blocks(lines, pitch)
    edges = _edges(lines)
    flow = Flow()
    first = title_at = 0
    for number, line in enumerate(lines):
        size = round(line.size * 2) / 2
        flow.sizes[size] = flow.sizes.get(size, 0) + len(line.text)
        for text, start in line.parts:
            flow.add(text, start, number)
        following, third = (lines[at] if at < len(lines) else None for at in (number + 1, number + 2))
        if following is not None and _joins(line, following, third, edges):
            _join(flow, line, following)
            continue
        if flow.length - title_at <= _HEADING_CHARACTERS and not line.fixed:
            flow.titles.append((title_at, line.size, "".join(piece.text for piece in flow.pieces[first:])))
        flow.add("\n", -1, number)
        first, title_at = len(flow.pieces), flow.length
    return flow


def choose_headings(flows: Sequence[Flow]) -> list[list[tuple[int, int, str]]]:
    """For every page its headings (offset, level from 1, title): short lines in letters larger than most of the document."""
    counted: dict[float, int] = {}
    for flow in flows:
        for size, characters in flow.sizes.items():
            if size < _SMALLEST:
                continue
            counted[size] = counted.get(size, 0) + characters
    if not counted:
        return [[] for _ in flows]
    body = max(counted, key=lambda size: counted[size])
    large = sorted({round(size * 2) / 2 for flow in flows for _, size, _ in flow.titles if size >= body * _HEADING_SIZE}, reverse=True)
    levels: dict[float, int] = {}
    for size in large:  # sizes within 5 % are one level
        near = next((levels[known] for known in levels if known <= size * 1.05), None)
        levels[size] = near or min(len(set(levels.values())) + 1, 6)
    return [[(at, levels[round(size * 2) / 2], title.strip()) for at, size, title in flow.titles if round(size * 2) / 2 in levels] for flow in flows]


def _line(runs: Sequence[Run], page: PageText) -> Line:
    """Runs side by side that are no table, with a blank between them."""
    parts: list[tuple[str, int]] = []
    for run in runs:
        if parts:
            parts.append((" ", -1))
        parts += _parts(run, page)
    first, start = parts[0]
    if _SYMBOL_BULLET.match(first):
        parts[0] = ("•" + first[1:], start)
    run = runs[0]
    return Line(parts, run.u0, runs[-1].u1, min(run.v0 for run in runs), max(run.v1 for run in runs), run.size, vertical=run.vertical)


def _table_line(row: Row, page: PageText) -> Line:
    parts: list[tuple[str, int]] = []
    for index, cell in enumerate(row.cells):
        if index:
            parts.append(("\t", -1))
        for above, run in zip([None, *cell], cell, strict=False):
            if above is not None and needs_blank(page.text[above.last], page.text[run.first]):
                parts.append((" ", -1))
            parts += _parts(run, page)
    runs = row.runs
    return Line(parts, runs[0].u0, max(run.u1 for run in runs), runs[0].v0, max(run.v1 for run in runs), runs[0].size, fixed=True)


def _parts(run: Run, page: PageText) -> list[tuple[str, int]]:
    return [(" ", -1) if part == BLANK else (page.text[part[0] : part[1]], part[0]) for part in run.parts]


def _mark_blocks(lines: Sequence[Line], known: float | None) -> None:
    """Number the blocks: lines of one size, at an even distance, over each other."""
    pitches: dict[float, list[float]] = {}
    for before, after in itertools.pairwise(lines):
        if _alike(before, after) and 0 < after.v0 - before.v0 < 3 * before.size:
            pitches.setdefault(round(before.size), []).append(after.v0 - before.v0)
    usual = {size: sorted(each)[len(each) // 6] for size, each in pitches.items()}  # near the least, since paragraphs may be short
    block = 0
    for before, after in itertools.pairwise(lines):
        pitch = known or usual.get(round(before.size), 1.8 * before.size)
        step = after.v0 - before.v0
        over = min(before.u1, after.u1) > max(before.u0, after.u0)
        if not (_alike(before, after) and over and 0 < step < 1.3 * pitch):
            block += 1
        after.block = block


def _alike(one: Line, other: Line) -> bool:
    same_size = abs(one.size - other.size) <= 0.12 * max(one.size, other.size)
    return same_size and one.vertical == other.vertical and not one.fixed and not other.fixed


def _edges(lines: Sequence[Line]) -> dict[int, tuple[float, float]]:
    """Left and right edge of the text every block belongs to: its own, and for one of few lines that of larger ones which begin where it does."""
    blocks: dict[int, list[Line]] = {}
    for line in lines:
        blocks.setdefault(line.block, []).append(line)
    found = {number: (min(line.u0 for line in block), max(line.u1 for line in block)) for number, block in blocks.items()}
    large = [(*found[number], block[0]) for number, block in blocks.items() if len(block) >= _FEW_LINES]
    for number, block in blocks.items():
        if len(block) < _FEW_LINES:
            left, right = found[number]
            rights = [other for begins, other, line in large if abs(begins - left) < 4 * line.size and _alike(line, block[0])]
            found[number] = (left, max([right, *rights]))
    return found


def _joins(line: Line, following: Line, next_but_one: Line | None, edges: dict[int, tuple[float, float]]) -> bool:
    """Whether `following` goes on with the paragraph of `line`."""
    text, next_text = line.text, following.text
    if not _alike(line, following) or _BULLET.match(next_text):
        return False
    ended = _SENTENCE_END.search(text) is not None
    if line.block != following.block:  # only from the bottom of a column to the top of the next
        went_up = following.v0 < line.v0 - line.size and following.u0 >= edges[line.block][1]
        return went_up and not ended and not _is_short(line, next_text, edges[line.block][1]) and not _NUMBER.match(next_text)
    left, right = edges[line.block]
    short = _is_short(line, next_text, right)
    if _NUMBER.match(next_text) and (ended or short):
        return False
    indent = following.u0 - min(line.u0, next_but_one.u0 if next_but_one is not None and next_but_one.block == line.block else line.u0)
    is_item = _BULLET.match(text) or _NUMBER.match(text)  # its lines hang
    if (
        indent > 0.7 * line.size
        and not is_item
        and (ended or (next_but_one is not None and next_but_one.block == line.block and next_but_one.u0 <= left + 0.3 * line.size))
    ):
        return False
    if not short:
        return True
    return not ended and (_GOES_ON.search(text) is not None or next_text[0].islower() or text.endswith(("-", END_HYPHEN)))


def _is_short(line: Line, next_text: str, right: float) -> bool:
    """Whether the next word would still have fitted on the line: then its writer ended it on purpose."""
    if is_cjk(next_text[0]):
        return right - line.u1 > 2.2 * line.size
    word = re.split(r"[\s\u2e80-\uffef]", next_text, maxsplit=1)[0]
    return right - line.u1 > (0.55 * len(word) + 0.6) * line.size


def _join(flow: Flow, line: Line, following: Line) -> None:
    """Put between two lines what Japanese or Latin text needs there; a word that was cut loses its hyphen."""
    last, first = line.text[-1], following.text[0]
    if last in _HYPHENS and len(line.text) > 1 and line.text[-2].isalpha() and not is_cjk(line.text[-2]):
        if first.islower() and not _COMPOUND.search(line.text[:-1]):
            flow.drop_last()
    elif needs_blank(last, first):
        flow.add(" ", -1, flow.pieces[-1].line)


def _width(text: str) -> float:
    return sum(1.0 if is_cjk(character) else 0.5 for character in text)
