"""Plain text and Markdown → one page with its text as it is."""

from __future__ import annotations

import re
from itertools import pairwise

from llmops_kit.documents.reading.encoding import clean, decode
from llmops_kit.documents.reading.records import Heading, RawDocument, RawPage, ReadOptions

_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})(.*)")
_ATX = re.compile(r" {0,3}(#{1,6})(?=[ \t\u3000]|$)")
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
_FRONT_MATTER = re.compile(r"---\n(?:(?!---\n).*\n)*---\n")
_NO_PARAGRAPH = re.compile(r" {0,3}(?:[-*+>|]|\d{1,9}[.)]|#{1,6}(?:[ \t]|$))|(?: {4}|\t)")


def read_text(data: bytes, name: str, options: ReadOptions) -> RawDocument:
    r"""The text of the file, only its line ends made `\n`. Raises what `decode` raises."""
    text, encoding = decode(data, name, options)
    return RawDocument([RawPage(clean(text))], reader="text", encoding=encoding, paged=False)


def read_markdown(data: bytes, name: str, options: ReadOptions) -> RawDocument:
    """The source text of the file with its headings (`#` and underlined ones, outside code blocks). Raises what `decode` raises."""
    text, encoding = decode(data, name, options)
    page = clean(text)
    return RawDocument([RawPage(page, headings=find_headings(page))], reader="markdown", encoding=encoding, paged=False)


def find_headings(text: str) -> list[Heading]:
    """Offset, level and title of the headings of Markdown `text`, by the rules of CommonMark 0.31 (a setext heading of one line only)."""
    found: list[Heading] = []
    front = _FRONT_MATTER.match(text)
    fence, at = "", front.end() if front else 0
    for line, following in pairwise([*text[at:].split("\n"), ""]):
        mark = _FENCE.fullmatch(line)
        if fence:
            if mark and mark[1].startswith(fence) and not mark[2].strip():
                fence = ""
        elif mark and not (mark[1][0] == "`" and "`" in mark[2]):
            fence = mark[1]
        elif title := _title(line, following):
            found.append((at, *title))
        at += len(line) + 1
    return found


def _title(line: str, following: str) -> tuple[int, str] | None:
    if atx := _ATX.match(line):
        title = line[atx.end() :].strip()
        bare = title.rstrip("#")  # "## title ##" has closing marks, "C#" has none
        title = title if bare and not bare[-1].isspace() else bare.strip()
        return (len(atx[1]), title) if title else None
    below = _UNDERLINE.fullmatch(following)
    if below and line.strip() and not _NO_PARAGRAPH.match(line):
        return (1 if below[1][0] == "=" else 2), line.strip()
    return None
