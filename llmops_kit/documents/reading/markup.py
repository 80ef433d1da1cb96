"""HTML → the text a person sees: one line for each block, headings, lists and table rows kept. Read as a stream, without a tree."""

from __future__ import annotations

import re
from typing import Any, Final

from llmops_kit.documents.reading.encoding import clean, decode
from llmops_kit.documents.reading.records import Heading, RawDocument, RawPage, ReadOptions

PRELOAD = {"": ("lxml.etree",)}
MAX_OPEN_TABLES: Final = 200
"""Tables in tables; the rows of deeper ones are run together."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_FEED_CHARACTERS = 1 << 16
_DECLARED = re.compile(rb"<meta[^>]{0,300}?charset\s{0,9}=\s{0,9}[\"']?\s{0,9}([\w.:-]{2,40})|<\?xml[^>]{0,100}?encoding=[\"']([\w.-]{2,40})", re.IGNORECASE)
_DECLARED_WITHIN = 4096  # browsers look through the first 1,024 bytes
_BLOCKS = _words(
    "address article aside blockquote body button caption center dd details dialog dir div dl dt fieldset figcaption figure footer form h1 h2 h3 "
    "h4 h5 h6 header hgroup hr html legend li main menu nav ol p pre search section summary table tbody tfoot thead tr ul"
)
_UNSEEN = _words(
    "script style template noscript head datalist select textarea svg canvas iframe object audio video map rt rp noframes noembed"
)  # `rt` is the reading over a word: in the line it would break the word
_VOID = _words("area base br col embed hr img input link meta param source track wbr")
_LEVELS = {f"h{level}": level for level in range(1, 7)}
_HIDING = re.compile(
    r"(?:display:none|visibility:(?:hidden|collapse)|opacity:0(?:\.0+)?(?![\d.])|font-size:0(?:\.0+)?(?:px|pt|em|rem|%)?(?![\d.])"
    r"|text-indent:-\d{3,}|clip:rect\(0)"
)
_WHITE = re.compile(r"(?:^|;)color:(?:white|#fff(?:f{3})?|rgba?\(255,255,255(?:,[\d.]+)?\))(?=;|!|$)")
_BREAK = "\x00"  # ends a line inside a cell; no text has it
_WIDE = "\u2e80-\u9fff\uf900-\ufaff\uff01-\uff60"
# A line break of the source between two wide characters is no space (CSS Text 3, "segment break transformation").
_WRAPPED = re.compile(f"(?<=[{_WIDE}])[ \\t]*\\n[ \\t\\n]*(?=[{_WIDE}])")
_STYLE_CHARACTERS = 2000
_LONG_CELL = 500  # characters; a longer one of several lines is part of the page's layout, not of a table
_SPACES = re.compile(r"[ \t\n\r\f]+")  # what HTML collapses: not U+00A0, not U+3000


def read_html(data: bytes, name: str, options: ReadOptions) -> RawDocument:
    """The visible text of a page; its `<title>` is the label.

    The declared charset is a hint for bytes that could be two things; it is not believed against them. Left out: scripts, styles, form
    fields, comments, furigana, the targets of links, and what the page hides in its own elements (`hidden`, `aria-hidden`,
    `display:none`, white on no background …), which is noted. Rules of style sheets are not looked at.
    Raises what `decode` raises.
    """
    declared = _DECLARED.search(data[:_DECLARED_WITHIN])
    hint = (declared[1] or declared[2]).decode("ascii", "replace") if declared else None
    text, encoding = decode(data, name, options, hint=hint)
    return RawDocument([read_markup(text)], reader="html", encoding=encoding, paged=False)


def read_markup(text: str) -> RawPage:
    """The page of decoded HTML `text`."""
    from lxml import etree

    seen = _Seen()
    parser = etree.HTMLParser(target=seen, remove_comments=True, remove_pis=True)
    text = re.sub(r"^\s*<\?xml[^>]*\?>", "", clean(text).replace("\ufffe", "\ufffd"))
    for at in range(0, len(text), _FEED_CHARACTERS):
        parser.feed(text[at : at + _FEED_CHARACTERS])
    page: RawPage = parser.close()
    return page


class _Open:
    """One open element: what is hidden in it, and how it writes."""

    __slots__ = ("has_background", "is_hidden", "tag")

    def __init__(self, tag: str, is_hidden: bool, has_background: bool) -> None:
        self.tag = tag
        self.is_hidden = is_hidden
        self.has_background = has_background


class _Seen:
    """Target of lxml's parser: takes the events of a page and writes its visible lines."""

    def __init__(self) -> None:
        self.open: list[_Open] = []
        self.unseen = 0  # open elements whose text is not looked at
        self.hidden = 0  # open elements that hide their text
        self.found_hidden = False
        self.tables = 0
        self.title: list[str] = []
        self.lines = _Lines()

    def start(self, tag: Any, attributes: Any) -> None:
        tag = str(tag).lower()
        if tag in _VOID:
            self._void(tag)
            return
        parent = self.open[-1] if self.open else None
        has_background, is_hidden = parent is not None and parent.has_background, False
        if attributes:
            style = _SPACES.sub("", str(attributes.get("style") or "")[:_STYLE_CHARACTERS]).lower()
            has_background = has_background or "background" in style or "bgcolor" in attributes
            is_hidden = _hides(tag, attributes, style, has_background)
        self.open.append(_Open(tag, is_hidden, has_background))
        self.hidden += is_hidden
        self.unseen += tag in _UNSEEN
        if not self.unseen and not self.hidden:
            self.tables += tag == "table"
            self.lines.start(tag)

    def end(self, tag: Any) -> None:
        tag = str(tag).lower()
        if tag in _VOID or not any(each.tag == tag for each in self.open[-1:]):
            return
        element = self.open.pop()
        if not self.unseen and not self.hidden:
            self.lines.end(tag)
        self.hidden -= element.is_hidden
        self.unseen -= tag in _UNSEEN

    def data(self, text: str) -> None:
        if self.open and self.open[-1].tag == "title" and not any(each.tag == "svg" for each in self.open[-20:]):
            self.title.append(text)
        elif self.unseen:
            return
        elif self.hidden:
            self.found_hidden = self.found_hidden or bool(text.strip())
        else:
            self.lines.write(text)

    def close(self) -> RawPage:
        self.lines.end_line()
        title = " ".join("".join(self.title).split())
        text = "".join(self.lines.written) or "\n"
        return RawPage(text, label=title[:200], tables=self.tables, headings=self.lines.headings, hidden=self.found_hidden)

    def _void(self, tag: str) -> None:
        if tag in ("br", "hr") and not self.unseen and not self.hidden:
            self.lines.break_line()


def _hides(tag: str, attributes: Any, style: str, has_background: bool) -> bool:
    if "hidden" in attributes or (attributes.get("aria-hidden") or "").strip().lower() == "true":
        return True
    if style:
        return _HIDING.search(style) is not None or (not has_background and _WHITE.search(style) is not None)
    return tag == "font" and not has_background and (attributes.get("color") or "").strip().lower() in ("white", "#ffffff", "#fff")


class _Lines:
    """Collects text into lines: white space runs together, blocks begin new lines, the cells of a row stand on one."""

    def __init__(self) -> None:
        self.written: list[str] = []
        self.headings: list[Heading] = []
        self.length = 0
        self.line: list[str] = []
        self.prefix = ""
        self.level = 0
        self.preformatted = 0
        self.rows: list[list[str]] = []  # the finished cells of the open row of each open table
        self.broken: set[int] = set()  # depths of tables whose open cell holds lines of its own (a table, a heading)
        self.numbers: list[int | None] = []  # for each open list the number of its last item; None: no numbers

    def write(self, text: str) -> None:
        """Text of an element; inside `<pre>` its lines and spaces stay."""
        if self.preformatted and not self.rows:
            *whole, rest = text.split("\n")
            for line in whole:
                self.line.append(line)
                self._flush("".join(self.line).rstrip())
            self.line.append(rest)
        else:
            self.line.append(text)

    def start(self, tag: str) -> None:
        if tag in _BLOCKS:
            self.break_line()
        if tag == "table" and len(self.rows) < MAX_OPEN_TABLES:
            self._end_row()
            self.broken.add(len(self.rows))
            self.rows.append([])
        elif tag == "pre":
            self.preformatted += 1
        elif tag in ("ol", "ul", "menu", "dir"):
            self.numbers.append(0 if tag == "ol" else None)
        elif tag == "li":
            self._start_item()
        elif tag in _LEVELS:
            self._end_row()
            self.broken.add(len(self.rows))
            self.level = _LEVELS[tag]

    def end(self, tag: str) -> None:
        if tag in ("td", "th") and self.rows:
            text = self._take()
            if text or len(self.rows) not in self.broken:
                self.rows[-1].append(text)
            self.broken.discard(len(self.rows))
        elif tag == "tr":
            self._end_row()
        elif tag in _LEVELS:
            self._flush(self._take().replace(_BREAK, " "))
            self.level = 0
        elif tag in _BLOCKS:
            self.break_line()
        if tag == "table" and self.rows:
            self._end_row()
            self.rows.pop()
        elif tag == "pre":
            self.preformatted = max(0, self.preformatted - 1)
        elif tag in ("ol", "ul", "menu", "dir") and self.numbers:
            self.numbers.pop()
        elif tag == "li":
            self.prefix = ""

    def break_line(self) -> None:
        """End the line; inside a row only mark its end, for the cells of a row stand on one line."""
        if self.rows:
            self.line.append(_BREAK)
        else:
            self.end_line()

    def end_line(self) -> None:
        """Write what is there as a line."""
        self._end_row()
        if self.preformatted:
            self._flush("".join(self.line).rstrip())
        else:
            self._flush(self._take())

    def _start_item(self) -> None:
        number = self.numbers[-1] if self.numbers else None
        if self.numbers and number is not None:
            self.numbers[-1] = number + 1
        mark = "- " if number is None else f"{number + 1}. "
        if self.rows:
            self.line.append(mark)
        else:
            self.prefix = "  " * max(0, len(self.numbers) - 1) + mark

    def _end_row(self) -> None:
        if not self.rows:
            return
        cells = [*self.rows[-1], self._take()]
        self.rows[-1] = []
        while cells and not cells[-1]:
            cells.pop()
        if len(cells) == 1 or any(_BREAK in cell and len(cell) > _LONG_CELL for cell in cells):
            for line in _BREAK.join(cells).split(_BREAK):
                self._flush(line)
        else:
            self._flush(" | ".join(cells).replace(_BREAK, " "))

    def _take(self) -> str:
        text = "".join(self.line)
        self.line = []
        text = _SPACES.sub(" ", _WRAPPED.sub("", text) if "\n" in text else text)
        if _BREAK not in text:
            return text.strip(" ")
        return _BREAK.join(line for each in text.split(_BREAK) if (line := each.strip(" ")))

    def _flush(self, text: str) -> None:
        self.line = []
        if not text.strip():
            return
        if self.level:
            self.headings.append((self.length + len(self.prefix), self.level, text.strip()))
        line = f"{self.prefix}{text}\n"
        self.prefix = ""
        self.written.append(line)
        self.length += len(line)
