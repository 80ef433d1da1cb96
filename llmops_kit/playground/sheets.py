"""XLSX → rows of text, within limits that are checked before anything is unpacked."""

from __future__ import annotations

import datetime
import io
import re
import zipfile
from collections.abc import Iterator
from typing import Any

from llmops_kit.playground.decoding import absent, refused

UNPACKED_MB = 100.0
MAX_PARTS = 2000
MAX_TAGS = 2_500_000  # in sheets and shared strings: ten thousand rows of fifty cells
_MAX_OTHER_TAGS = 200_000  # in styles and whatever else is in there
_FORMULA_WITHOUT_RESULT = re.compile(
    rb"<c\b(?![^<>]*\bt=\"str\")[^<>]*>\s{0,99}<f\b[^<>]*(?:/>|>[^<]*</f>)\s{0,99}(?:<v\s{0,9}/>|<v></v>)?\s{0,99}</c>"
)
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


def read_sheet(data: bytes, *, file: str, sheet: str | None = None, max_rows: int = 10_000) -> tuple[list[tuple[int, list[str]]], tuple[str, ...]]:
    """The rows (each with its number in the sheet) of the first sheet, or of `sheet`, and the names of all sheets.

    Cells are what a person sees, as text: dates in ISO form, whole numbers without `.0`, ids padded by a format such
    as `00000` with their zeros, phonetic guides left out. Reads at most `max_rows` + 2 rows that hold something.

    Raises: `UnreadableFile` where it is no XLSX, unpacks to more than `UNPACKED_MB` megabytes, or holds formulas
    whose results were never stored; `UnknownName` where there is no such sheet.
    """
    import openpyxl

    _check_archive(data, file)
    try:
        book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
        names = tuple(page.title for page in book.worksheets)
        if not names or (sheet is not None and sheet not in names):
            raise absent(sheet or "1", en="sheet", ja="シート", known=names)
        page = book[sheet or names[0]]
        rows = list(_rows(page, max_rows + 2))
        book.close()
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, SyntaxError, OSError, EOFError, zipfile.BadZipFile) as fault:
        raise refused(file, f"its XLSX is damaged ({type(fault).__name__})", f"XLSXが壊れています（{type(fault).__name__}）") from fault
    return rows, names


def _check_archive(data: bytes, file: str) -> None:
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        members = archive.infolist()
        unpacked_mb = sum(member.file_size for member in members) / 1e6
        if unpacked_mb > UNPACKED_MB or len(members) > MAX_PARTS:
            size, most = f"{unpacked_mb:,.0f} MB ({len(members):,} parts)", f"{UNPACKED_MB:,.0f} MB ({MAX_PARTS:,})"
            en = f"it unpacks to {size}; at most {most} are read. Save the needed sheet as CSV"
            raise refused(file, en, f"展開すると{size}になります（上限は{most}）。必要なシートをCSVで保存してください")
        if "xl/workbook.xml" not in archive.namelist():
            raise refused(file, "it is no XLSX workbook", "XLSXのブックではありません")
        hollow = sum(_inspect(archive.read(name), name, file) for name in archive.namelist())
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as fault:
        raise refused(file, f"its XLSX is damaged ({type(fault).__name__})", f"XLSXが壊れています（{type(fault).__name__}）") from fault
    if hollow:
        en = f"the results of {hollow:,} formulas were never stored. Open it in a spreadsheet program and save it"
        raise refused(file, en, f"計算結果が保存されていない数式が{hollow:,}個あります。表計算ソフトで開いて保存し直してください")


def _inspect(part: bytes, name: str, file: str) -> int:
    """Refuse a part of too many tags, which would take minutes; give the number of its formulas without a result."""
    is_large = name.startswith(("xl/worksheets/", "xl/sharedStrings"))
    most = MAX_TAGS if is_large else _MAX_OTHER_TAGS
    if name.endswith((".xml", ".rels")) and part.count(b"<") > most:
        en = f"its part {name} has more than {most:,} tags. Save the needed sheet as CSV"
        raise refused(file, en, f"{name}のタグが{most:,}個を超えています。必要なシートをCSVで保存してください")
    return len(_FORMULA_WITHOUT_RESULT.findall(part)) if is_large else 0


def _rows(page: Any, limit: int) -> Iterator[tuple[int, list[str]]]:
    # The declared size of a sheet can be a million empty rows; only what is there counts.
    page.reset_dimensions()
    count = 0
    for number, cells in enumerate(page.iter_rows(), start=1):
        values = [read_cell(cell) for cell in cells]
        while values and not values[-1]:
            values.pop()
        if values:
            yield number, values
            count += 1
        if count >= limit:
            return


def read_cell(cell: Any) -> str:
    """What a person sees in a cell of an openpyxl sheet, as text: ISO dates, no `.0`, zeros of a format such as `00000` kept."""
    value = cell.value
    match value:
        case None:
            return ""
        case bool():
            return "TRUE" if value else "FALSE"
        case int() | float():
            return _number(value, str(cell.number_format or ""))
        case datetime.datetime():
            return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(sep=" ")
        case datetime.date() | datetime.time():
            return value.isoformat()
        case _:
            return unescape(str(value))


def _number(value: float, style: str) -> str:
    whole = int(value) if float(value).is_integer() and abs(value) < 1e15 else None
    if whole is not None:
        return f"{whole:0{len(style)}d}" if re.fullmatch("0{2,}", style) else str(whole)
    return f"{value:.15g}"  # the digits a spreadsheet keeps


def escape(text: str) -> str:
    """`text` in the spelling XLSX has for what XML cannot hold (control characters, CR): `_x000D_`."""
    text = re.sub(r"_(?=x[0-9A-Fa-f]{4}_)", "_x005F_", text)
    return re.sub(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]", lambda sign: f"_x{ord(sign[0]):04X}_", text)


def unescape(text: str) -> str:
    """The text `escape` was given."""
    return _ESCAPED.sub(lambda code: chr(int(code[1], 16)), text) if "_x" in text else text
