"""The sheets of an XLSX as rows of values, in one pass over its XML.

openpyxl builds an object for every cell and reads 25,000 a second; a sheet of a hundred thousand rows would not end within the guard's time.
Its knowledge of number formats and of Excel's calendar is used here; the elements are those of ECMA-376, part 1, clause 18.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, NamedTuple

MAX_STRINGS: Final = 1_000_000
"""Different texts of one workbook, which are all read before the first row."""

_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_CELL = re.compile(r"([A-Z]{1,3})\d+")
_MAX_COLUMN = 16_384


class Cell(NamedTuple):
    """A value (None, bool, number, text, date, time or duration) and the format it is shown in."""

    value: Any
    number_format: str


class Sheet(NamedTuple):
    """A sheet's name, whether it can be seen, and its part in the archive."""

    title: str
    is_visible: bool
    part: str


@dataclass
class Workbook:
    """An open workbook. `has_empty_formulas` turns true when a row with a formula without stored result was read."""

    archive: zipfile.ZipFile
    sheets: list[Sheet]
    formats: list[str]
    epoch: datetime
    strings: list[str] = field(repr=False)
    has_empty_formulas: bool = False

    def rows(self, sheet: Sheet) -> Iterator[list[Cell]]:
        """The cells of each row that is there, places without a cell filled. Raises: `LookupError` for a text beyond `MAX_STRINGS`."""
        with self.archive.open(sheet.part) as stream:
            for row in _elements(stream, "row"):
                cells: list[Cell] = []
                for element in row:
                    place = _column(element.get("r") or "") or len(cells) + 1
                    cells.extend([_EMPTY] * (min(place, _MAX_COLUMN) - 1 - len(cells)))
                    cells.append(self._cell(element))
                yield cells

    def _cell(self, element: Any) -> Cell:
        kind, style = element.get("t", "n"), int(element.get("s", 0))
        shown = self.formats[style] if 0 <= style < len(self.formats) else "General"
        if kind == "inlineStr":
            return Cell(_text(element), shown)
        value, is_formula = None, False
        for part in element:
            if part.tag.endswith("}v"):
                value = part.text
            elif part.tag.endswith("}f"):
                is_formula = True
        if not value:
            self.has_empty_formulas |= is_formula and kind != "str"
            return _EMPTY
        return Cell(self._value(value, kind, shown), shown)

    def _value(self, value: str, kind: str, shown: str) -> Any:
        match kind:
            case "s":
                return self.strings[int(value)]
            case "b":
                return value not in ("0", "false")
            case "n":
                number = float(value) if re.search("[.eE]", value) else int(value)
                return self._dated(number, shown)
            case _:
                return value

    def _dated(self, number: float, shown: str) -> Any:
        from openpyxl.styles.numbers import is_date_format, is_timedelta_format
        from openpyxl.utils.datetime import from_excel

        if not is_date_format(shown):
            return number
        try:
            return from_excel(number, self.epoch, timedelta=is_timedelta_format(shown))
        except (ValueError, OverflowError):
            return number


_EMPTY = Cell(None, "General")


def open_workbook(archive: zipfile.ZipFile) -> Workbook:
    """The workbook in `archive`, its styles and texts read. Raises: `KeyError` for a missing part, lxml's `XMLSyntaxError`, `ValueError`."""
    from openpyxl.utils.datetime import CALENDAR_MAC_1904, CALENDAR_WINDOWS_1900

    names = set(archive.namelist())
    home = next((each for each in _targets(archive, "_rels/.rels", "").values() if each.endswith("workbook.xml")), "xl/workbook.xml")
    book = _parse(archive, home)
    folder, _, file = home.rpartition("/")
    parts = _targets(archive, f"{folder}/_rels/{file}.rels", folder)
    sheets = [
        Sheet(each.get("name", ""), each.get("state", "visible") == "visible", part)
        for each in book.iter("{*}sheet")
        if (part := parts.get(each.get(_RELATION, ""), "")) in names and "sheets/" in part and "chartsheets/" not in part
    ]
    settings = next(book.iter("{*}workbookPr"), None)
    from_1904 = settings is not None and settings.get("date1904") in ("1", "true")
    strings = next((part for part in parts.values() if part.endswith("sharedStrings.xml") and part in names), None)
    styles = next((part for part in parts.values() if part.endswith("styles.xml") and part in names), None)
    return Workbook(
        archive,
        sheets,
        _read_formats(_parse(archive, styles)) if styles else [],
        CALENDAR_MAC_1904 if from_1904 else CALENDAR_WINDOWS_1900,
        _read_strings(archive, strings) if strings else [],
    )


def _parse(archive: zipfile.ZipFile, part: str) -> Any:
    from lxml import etree

    return etree.fromstring(archive.read(part), etree.XMLParser(resolve_entities=False, no_network=True))


def _targets(archive: zipfile.ZipFile, part: str, folder: str) -> dict[str, str]:
    """The parts that the relations of a part point at, by their ids."""
    return {
        each.get("Id", ""): posixpath.normpath(posixpath.join("/", folder, each.get("Target", ""))).lstrip("/")
        for each in _parse(archive, part).iter("{*}Relationship")
        if each.get("TargetMode") != "External"
    }


def _read_formats(styles: Any) -> list[str]:
    """The number format of each cell style."""
    from openpyxl.styles.numbers import BUILTIN_FORMATS

    own = {each.get("numFmtId"): each.get("formatCode", "General") for each in styles.iter("{*}numFmt")}
    cells = next(styles.iter("{*}cellXfs"), ())
    codes = [each.get("numFmtId", "0") for each in cells if each.tag.endswith("}xf")]
    return [own.get(code) or BUILTIN_FORMATS.get(int(code), "General") for code in codes]


def _read_strings(archive: zipfile.ZipFile, part: str) -> list[str]:
    found: list[str] = []
    with archive.open(part) as stream:
        for item in _elements(stream, "si"):
            found.append(_text(item))
            if len(found) >= MAX_STRINGS:
                break
    return found


def _text(item: Any) -> str:
    """The text of an item, its phonetic guides left out."""
    if len(item) == 1 and item[0].tag.endswith("}t"):
        return item[0].text or ""
    return "".join(each.text or "" for each in item.iter("{*}t") if not each.getparent().tag.endswith("}rPh"))


def _elements(stream: Any, tag: str) -> Iterator[Any]:
    """The elements of a name, each given up when the next one is asked for."""
    from lxml import etree

    for _, element in etree.iterparse(stream, events=("end",), tag=f"{{*}}{tag}", resolve_entities=False, no_network=True):
        yield element
        element.clear()
        while element.getprevious() is not None:
            del element.getparent()[0]


def _column(reference: str) -> int:
    """The number of the column of `B7`, 0 where the reference is none."""
    found = _CELL.fullmatch(reference)
    number = 0
    for letter in found[1] if found else "":
        number = number * 26 + ord(letter) - 64
    return number
