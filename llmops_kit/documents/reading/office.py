"""DOCX → one page of text: paragraphs and tables in their order, numbers as Word draws them, footnotes at the end."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from llmops_kit.documents.reading.container import DAMAGED, check_office
from llmops_kit.documents.reading.encoding import clean
from llmops_kit.documents.reading.numbering import Numbering, W
from llmops_kit.documents.reading.records import Heading, RawDocument, RawPage, ReadOptions, Unreadable

PRELOAD = {"": ("docx",)}

_ALTERNATIVE = "{http://schemas.openxmlformats.org/markup-compatibility/2006}"
_SKIPPED = frozenset({W + "del", W + "moveFrom", W + "instrText", W + "delText", W + "rt", W + "pPr", W + "rPr", _ALTERNATIVE + "Fallback"})
_SIGNS = {W + "tab": "\t", W + "br": "\n", W + "cr": "\n", W + "noBreakHyphen": "-", W + "ptab": "\t"}
_OFF = ("0", "false", "off", "none")
_HEADING_NAMES = ("heading ", "見出し ", "見出し")
_MAX_STYLE_DEPTH = 20


def read_docx(data: bytes, name: str, options: ReadOptions) -> RawDocument:
    """The text of the body, then of foot- and endnotes. Text boxes stand after the paragraph they hang on; table rows are lines.

    Tracked insertions are kept, deletions dropped ("tracked_changes"). Hidden text is left out and noted. Left out too: headers, footers,
    comments, furigana, charts and pictures.
    Raises: `Unreadable` where the file is unsafe, damaged or too large.
    """
    check_office(data, "docx")
    with refusing_damage("DOCX"):
        from docx.opc.package import OpcPackage

        package = OpcPackage.open(io.BytesIO(data))
        parts = _parts(package)
        writer = _Writer(_Styles(_root(parts.get("styles"))), Numbering.from_part(_root(parts.get("numbering"))))
        main = _root(package.main_document_part)
        writer.write(main.find(W + "body"))
        for kind in ("footnotes", "endnotes"):
            writer.write_notes(_root(parts.get(kind)))
    text = clean("".join(writer.lines))
    page = RawPage(text, tables=writer.tables, headings=writer.headings, hidden=writer.found_hidden)
    found = ["tracked_changes"] if writer.found_deleted else []
    found += ["macros"] if b"vbaProject.bin" in data else []
    return RawDocument([page], reader="docx", warnings=found, paged=False)


def _parts(package: Any) -> dict[str, Any]:
    """The parts the main part points at, by the last word of their relation ("styles", "footnotes", …)."""
    return {each.reltype.rpartition("/")[2]: each.target_part for each in package.main_document_part.rels.values() if not each.is_external}


def _root(part: Any) -> Any:
    if part is None:
        return None
    from docx.oxml.parser import parse_xml

    element = getattr(part, "element", None)  # parts of the kinds python-docx knows are parsed already
    return parse_xml(part.blob) if element is None else element


@contextmanager
def refusing_damage(kind: str) -> Iterator[None]:
    """Turn what Office libraries raise for damaged files into `Unreadable` ("broken")."""
    try:
        yield
    except (*DAMAGED, TypeError, IndexError, AttributeError, SyntaxError, AssertionError, RecursionError) as fault:
        raise Unreadable("broken", kind=kind) from fault
    except Exception as fault:
        if type(fault).__module__.startswith(("docx.", "pptx.", "lxml.")):
            raise Unreadable("broken", kind=kind) from fault
        raise


class _Styles:
    """What the styles of paragraphs say: the level of a heading, the list a paragraph belongs to, whether text is hidden."""

    def __init__(self, root: Any) -> None:
        self.by_id = {each.get(W + "styleId"): each for each in (root if root is not None else ()) if each.tag == W + "style"}
        self.levels = {key: self._find_level(key) for key in self.by_id}
        self.numbers = {key: self._find(key, _own_number) for key in self.by_id}
        self.hidden = {key for key in self.by_id if self._find(key, _own_vanish)}

    def _find_level(self, key: str | None) -> int:
        for style in self._chain(key):
            name = _get(style.find(W + "name")).lower()
            for known in _HEADING_NAMES:
                if name.startswith(known) and name[len(known) :].strip() in "123456789":
                    return int(name[len(known) :].strip() or 1)
            if name in ("title", "表題"):
                return 1
            if level := _own_level(style):
                return level
        return 0

    def _find(self, key: str | None, read: Any) -> Any:
        return next((value for style in self._chain(key) if (value := read(style))), None)

    def _chain(self, key: str | None) -> Iterator[Any]:
        for _ in range(_MAX_STYLE_DEPTH):
            style = self.by_id.get(key)
            if style is None:
                return
            yield style
            key = _get(style.find(W + "basedOn"))


def _get(element: Any, name: str = "val") -> str:
    return "" if element is None else str(element.get(W + name) or "")


def _own_level(holder: Any) -> int:
    """The outline level of a style or paragraph, 0 for body text."""
    value = _get(holder.find(f"{W}pPr/{W}outlineLvl"))
    return int(value) + 1 if value.isascii() and value.isdigit() and int(value) < 9 else 0


def _own_number(holder: Any) -> tuple[str, int] | None:
    found = holder.find(f"{W}pPr/{W}numPr")
    if found is None:
        return None
    level = _get(found.find(W + "ilvl"))
    number = _get(found.find(W + "numId"))
    return (number, int(level) if level in "012345678" and level else 0) if number else None


def _own_vanish(holder: Any) -> bool:
    mark = holder.find(f"{W}rPr/{W}vanish")
    return mark is not None and _get(mark) not in _OFF


@dataclass
class _Writer:
    """Goes through the body and collects lines."""

    styles: _Styles
    numbering: Numbering
    lines: list[str] = field(default_factory=list)
    headings: list[Heading] = field(default_factory=list)
    length: int = 0
    tables: int = 0
    found_hidden: bool = False
    found_deleted: bool = False

    def write(self, holder: Any) -> None:
        """Every paragraph and table of `holder`, whatever holds them (content controls, insertions)."""
        for element in holder if holder is not None else ():
            if element.tag == W + "p":
                self._write_paragraph(element)
            elif element.tag == W + "tbl":
                self.tables += 1
                for row in self._rows(element):
                    self._add(row)
            elif element.tag in (W + "del", W + "moveFrom"):
                self.found_deleted = True
            elif isinstance(element.tag, str) and element.tag not in _SKIPPED:
                self.write(element)

    def write_notes(self, root: Any) -> None:
        """The notes of a part, without Word's own separators."""
        for note in root if root is not None else ():
            if note.get(W + "type") in (None, "normal"):
                self.write(note)

    def _write_paragraph(self, paragraph: Any) -> None:
        boxes: list[Any] = []
        style = _get(paragraph.find(f"{W}pPr/{W}pStyle"))
        mark = self._mark(paragraph, style)
        text = self._text(paragraph, boxes).strip("\n")
        if text.strip():
            level = _own_level(paragraph) or self.styles.levels.get(style, 0)
            if level:
                title = " ".join((mark + text).split())
                self.headings.append((self.length, level, title))
            self._add(mark + (" ".join(text.split("\n")) if level else text))
        for box in boxes:
            self.write(box)

    def _mark(self, paragraph: Any, style: str) -> str:
        own = _own_number(paragraph)
        inherited = self.styles.numbers.get(style)
        number, level = own or inherited or ("", 0)
        if not own and inherited and not level:
            level = max(0, self.styles.levels.get(style, 1) - 1) if self.styles.levels.get(style) else 0
        return self.numbering.count(number, level) if number not in ("", "0") else ""

    def _text(self, element: Any, boxes: list[Any]) -> str:
        pieces: list[str] = []
        for part in element:
            tag = part.tag
            if tag == W + "t":
                pieces.append(part.text or "")
            elif tag in _SIGNS:
                pieces.append(_SIGNS[tag])
            elif tag == W + "txbxContent":
                boxes.append(part)
            elif tag in (W + "del", W + "moveFrom"):
                self.found_deleted = self.found_deleted or part.find(f".//{W}delText") is not None
            elif tag == W + "r" and self._is_hidden(part):
                self.found_hidden = self.found_hidden or part.find(W + "t") is not None
            elif isinstance(tag, str) and tag not in _SKIPPED:
                pieces.append(self._text(part, boxes))
        return "".join(pieces)

    def _is_hidden(self, run: Any) -> bool:
        return _own_vanish(run) or _get(run.find(f"{W}rPr/{W}rStyle")) in self.styles.hidden

    def _rows(self, table: Any) -> Iterator[str]:
        """The rows of a table, cells joined by " | ". A table in a cell is part of the cell's text."""
        for row in _inside(table, W + "tr"):
            cells = [self._cell(cell) for cell in _inside(row, W + "tc")]
            while cells and not cells[-1]:
                cells.pop()
            yield " | ".join(cells)

    def _cell(self, cell: Any) -> str:
        merged = cell.find(f"{W}tcPr/{W}vMerge")
        if merged is not None and _get(merged) != "restart":
            return ""
        inner = _Writer(self.styles, self.numbering)
        inner.write(cell)
        self.found_hidden |= inner.found_hidden
        self.found_deleted |= inner.found_deleted
        return " ".join(" ".join(inner.lines).split())

    def _add(self, line: str) -> None:
        if line.strip():
            self.lines.append(clean(line))
            self.length += len(self.lines[-1])


def _inside(holder: Any, tag: str) -> Iterator[Any]:
    """The rows of a table or the cells of a row, also inside content controls; deleted rows are left out."""
    for element in holder:
        if element.tag == tag:
            if element.find(f"{W}trPr/{W}del") is None:
                yield element
        elif element.tag in (W + "sdt", W + "sdtContent", W + "ins", W + "customXml", W + "smartTag"):
            yield from _inside(element, tag)
