"""A DataFrame as a file to take away: CSV, XLSX, or JSON lines.

**Formulas.** A spreadsheet runs a cell that begins with `=`, `+`, `-`, `@`, a tab or a line break, in full width too,
whatever was quoted. In CSV and XLSX such text therefore gets one `'` in front, also where it begins with `'` followed
by such text, and `restore` takes exactly that one away again: `restore(neutralise(text)) == text` for every text.
JSON lines are read by programs; they hold every text as it is. Numbers are never touched.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import InvalidValue
from llmops_kit.playground.sheets import escape
from llmops_kit.store.columns import storable

if TYPE_CHECKING:
    import pandas as pd

_BREAKS = "\t\r\n"
_MAX_CELL = 32_767  # UTF-16 units in a cell of XLSX
_CUT = "… [cut / 省略：{length:,}; CSV, JSONL]"
_MAX_SHEET_ROWS = 1_048_576


def neutralise(text: str) -> str:
    """`text`, with `'` in front where a spreadsheet could take it for a formula."""
    return "'" + text if _looks_like_formula(text.lstrip("'")) else text


def restore(text: str) -> str:
    """The text `neutralise` was given."""
    return text[1:] if text.startswith("'") and _looks_like_formula(text.lstrip("'")) else text


def _looks_like_formula(text: str) -> bool:
    """Whether `text` begins with an operator (any width), a tab or a line break, invisible characters and spaces aside."""
    for sign in text:
        if sign in _BREAKS:
            return True
        if sign.isspace() or unicodedata.category(sign) in ("Cf", "Cc"):
            continue
        return unicodedata.normalize("NFKC", sign) in ("=", "+", "-", "@", "\N{MINUS SIGN}")
    return False


def to_csv(frame: pd.DataFrame) -> bytes:
    """CSV in UTF-8 with a byte order mark (Excel in Japan needs it), every cell quoted, formulas neutralised."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([neutralise(storable(str(name))) for name in frame.columns])
    for record in _records(frame):
        writer.writerow([neutralise(value) if isinstance(value, str) else "" if value is None else value for value in record])
    return buffer.getvalue().encode("utf-8-sig")


def to_jsonl(frame: pd.DataFrame) -> bytes:
    """One JSON object per line in UTF-8 without a byte order mark, Japanese readable, missing values `null`."""
    names = [str(name) for name in frame.columns]
    lines = (json.dumps(dict(zip(names, record, strict=True)), ensure_ascii=False, default=str) for record in _records(frame))
    # Three more characters end a line for some readers; inside JSON they can only be in strings, where an escape is the same.
    return "".join(_escape_breaks(line) + "\n" for line in lines).encode()


def _escape_breaks(line: str) -> str:
    return re.sub("[\x85\u2028\u2029]", lambda sign: f"\\u{ord(sign[0]):04x}", line)


def to_xlsx(frame: pd.DataFrame) -> bytes:
    """A workbook of one sheet: text as text cells with formulas neutralised, numbers as numbers, the header frozen.

    A cell takes 32,767 characters; longer text is cut there and says so (CSV and JSON lines have all of it).
    Raises: `InvalidValue` for more rows than a sheet takes.
    """
    import openpyxl
    from openpyxl.cell import WriteOnlyCell

    if len(frame) >= _MAX_SHEET_ROWS:
        raise InvalidValue(name="XLSX", value=f"{len(frame):,} rows", allowed=f"< {_MAX_SHEET_ROWS:,}; CSV, JSONL")
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("results")
    sheet.freeze_panes = "A2"

    def cell(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        made = WriteOnlyCell(sheet, value=_fit(value))
        made.data_type = "s"  # text, even where openpyxl takes it for a formula or an error code
        return made

    sheet.append([cell(storable(str(name))) for name in frame.columns])
    for record in _records(frame):
        sheet.append([cell(value) for value in record])
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def _fit(text: str) -> str:
    """`text` neutralised and escaped for XLSX, cut visibly where a cell would not hold it."""
    escaped = escape(neutralise(text))
    if _utf16_units(escaped) <= _MAX_CELL:
        return escaped
    mark = _CUT.format(length=len(text))
    room = (_MAX_CELL - len(mark)) * 2
    kept = escaped.encode("utf-16-le")[:room].decode("utf-16-le", "ignore")
    return re.sub(r"_(?:x[0-9A-Fa-f]{0,4})?$", "", kept) + mark


def _utf16_units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _records(frame: pd.DataFrame) -> Iterator[list[Any]]:
    """The rows as text, numbers, booleans and None."""
    for record in frame.itertuples(index=False, name=None):
        yield [_plain(value) for value in record]


def _plain(value: Any) -> Any:
    value = value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", 0) == 0 else value
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    return storable(json.dumps(value, ensure_ascii=False, default=str))


WRITERS: Mapping[str, Callable[[pd.DataFrame], bytes]] = MappingProxyType({".csv": to_csv, ".xlsx": to_xlsx, ".jsonl": to_jsonl})
"""The writers by the suffix of their files."""


def save_table(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write `frame` in the format the suffix of `path` names, whole or not at all.

    Raises: `InvalidValue` for another suffix.
    """
    target = Path(path)
    write = WRITERS.get(target.suffix.lower())
    if write is None:
        raise InvalidValue(name="path", value=target.name, allowed=", ".join(WRITERS))
    data = write(frame)
    partial = target.with_name(target.name + ".part")
    partial.write_bytes(data)
    partial.replace(target)
    return target
