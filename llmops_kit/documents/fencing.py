r"""Sources as they stand in a prompt: numbered, fenced line by line, and every character traceable to its place in the document.

    fenced = fence(sources)
    fenced.text                     # "[1] 就業規則.pdf p.3\n> 年次有給休暇は10日です。"
    fenced.place(25, 28)            # (1, 812, 815): source 1, characters 812–815 of its document

Each line of a source begins with a mark of ours, so nothing in a document stands at the beginning of a line, where `質問：`,
`[2]` or `</source>` would mean something. Characters nobody sees are left out, and lines that only the width of a page broke are
joined.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llmops_kit.documents.injection import INVISIBLE, strip_invisible
from llmops_kit.documents.sentences import sentences
from llmops_kit.types import Source

QUOTED = "> "
"""The mark for models that follow instructions: the sign of quotation in mail and Markdown."""
BLANK = "\u2003"
"""The mark for `starter-reader`, which would take `>` for a word (5 points of exact match on 600 questions of JaQuAD dev): an em space."""

_LINE_END = re.compile("\r\n|[\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_NAME_CHARACTERS = 80           # of a file name
_INSERTED = (-1, -1)


@dataclass(frozen=True)
class Fenced:
    """The `text` for the prompt, and for each of its characters (index of the source, offset in its document), or (-1, -1)."""

    text: str
    origins: tuple[tuple[int, int], ...]

    def place(self, start: int, end: int) -> tuple[int, int, int] | None:
        """(number of the source from 1, start, end in its document) of the characters start–end of `text`; None where they are not of one source."""
        inside = [origin for origin in self.origins[max(0, start): max(0, end)] if origin != _INSERTED]
        if not inside or len({owner for owner, _ in inside}) != 1:
            return None
        return inside[0][0] + 1, inside[0][1], inside[-1][1] + 1


def fence(sources: Sequence[Source], *, mark: str = QUOTED) -> Fenced:
    """`sources` for a prompt, numbered from 1. File names and pages are given with the mark `QUOTED` only: the reader would answer with them."""
    characters: list[str] = []
    origins: list[tuple[int, int]] = []
    for index, source in enumerate(sources):
        head = f"[{index + 1}]" + (name_source(source) if mark == QUOTED else "")
        for character, offset in [*(("\n\n" if index else "", -1), (head, -1), ("\n", -1)), *_lines(source, mark)]:
            characters.append(character)
            origins.extend([(index, offset)] if offset >= 0 else [_INSERTED] * len(character))
    return Fenced("".join(characters), tuple(origins))


def name_source(source: Source) -> str:
    """` 就業規則.pdf p.3`: the file name in one line, without characters nobody sees, and the page."""
    name = " ".join(strip_invisible(source.document).split())
    name = name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "…"
    return (f" {name}" if name else "") + (f" p.{source.page}" if source.page is not None else "")


def _lines(source: Source, mark: str) -> Iterator[tuple[str, int]]:
    """(character, its offset in the document or -1) of a source, each line after `mark`."""
    text = _LINE_END.sub(lambda end: "\n" * len(end[0]), source.text)
    first = source.start or 0
    fresh, begun = True, False
    for start, end in sentences(text):
        stripped = start + len(text[start:end].rstrip())
        for place in range(start, end):
            character = text[place]
            if INVISIBLE.match(character):
                continue
            if place >= stripped:
                fresh = fresh or character == "\n"          # empty lines are left out
                if not fresh:
                    yield character, first + place
            elif character == "\n":
                if not fresh and (space := _join(text, place)):
                    yield space, -1
            else:
                if fresh:
                    yield ("\n" if begun else "") + mark, -1
                    fresh, begun = False, True
                yield character, first + place


def _join(text: str, place: int) -> str:
    """What stands for a line end inside a sentence: nothing between Japanese characters, else a space."""
    before, after = text[:place].rstrip()[-1:], text[place:].lstrip()[:1]
    return "" if (before > "\u2e7f" and after > "\u2e7f") or text[place - 1] in " \n" else " "
