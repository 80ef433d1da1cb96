"""Rows for a batch: read CSV, TSV, JSONL, JSON and XLSX as text, and match their columns to a prompt's variables."""

from __future__ import annotations

import csv
import io
import itertools
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import UnreadableFile
from llmops_kit.playground.decoding import absent, decode_text, refused
from llmops_kit.playground.json_rows import read_objects
from llmops_kit.playground.limits import check_columns, check_count
from llmops_kit.playground.sheets import read_sheet
from llmops_kit.types import Variable

if TYPE_CHECKING:
    import pandas as pd

FORMATS = (".csv", ".tsv", ".jsonl", ".json", ".xlsx")
_ALIASES = {".txt": ".csv", ".ndjson": ".jsonl", ".tab": ".tsv"}
_DELIMITERS = (",", "\t", ";", "|")
_Numbered = Iterable[tuple[int, list[str]]]


@dataclass(frozen=True)
class RowTable:
    """A file read as rows of text, every cell as it was typed.

    `encoding` and `delimiter` say how it was read (None where the format has none); `sheets` are the names in a
    workbook. `lines` are where the rows were, `problems` the rows that were left out because they do not serve.
    """

    file: str
    format: str
    columns: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]
    encoding: str | None = None
    delimiter: str | None = None
    sheets: tuple[str, ...] = ()
    lines: tuple[int, ...] = ()
    problems: tuple[UnreadableFile, ...] = ()

    def frame(self) -> pd.DataFrame:
        """All rows as a DataFrame of strings."""
        import pandas as pd

        return pd.DataFrame([dict(row) for row in self.rows], columns=list(self.columns), dtype=object)

    def preview(self, count: int = 5, *, max_chars: int = 200) -> pd.DataFrame:
        """The first `count` rows, each cell cut to `max_chars` characters with an ellipsis."""
        return self.frame().head(count).map(lambda text: text if len(text) <= max_chars else text[: max_chars - 1] + "…")

    def map(self, mapping: Mapping[str, str | None]) -> list[dict[str, str]]:
        """The rows with the names of variables: `mapping` says which column each variable takes (None: none).

        Raises: `UnknownName` for a column that is not there.
        """
        for column in mapping.values():
            if column is not None and column not in self.columns:
                raise absent(column, en="column", ja="列", known=self.columns)
        return [{variable: row[column] for variable, column in mapping.items() if column is not None} for row in self.rows]

    def _repr_html_(self) -> str:
        return str(self.preview().to_html(escape=True)) + f"<small>{len(self.rows):,} × {len(self.columns)} · {self.encoding or self.format}</small>"


def read_rows(
    source: str | Path | bytes,
    *,
    file: str | None = None,
    encoding: str | None = None,
    sheet: str | None = None,
    header: bool = True,
    max_mb: float = 25.0,
    max_rows: int = 10_000,
    lenient: bool = False,
    kind: str | None = None,
) -> RowTable:
    """Read a table from a path or from bytes (`file` is then the name it was uploaded as).

    `encoding` overrules detection, `sheet` chooses a sheet of a workbook, `header=False` names the columns
    `column_1`, `column_2`, …. At most `max_mb` megabytes and `max_rows` rows. `lenient` leaves out rows that have more cells
    than the header, or of JSON lines those that are none, instead of refusing the file. `kind`, one of `FORMATS`, overrules what
    the name says.

    Raises: `UnreadableFile` with the reason and, where one helps, the line; `UnknownName` for a missing sheet.
    """
    name = file or ("upload" if isinstance(source, bytes) else Path(source).name)
    data = _load(source, name, max_mb)
    kind = kind or _format(name, data)
    delimiter, used = None, None
    sheets: tuple[str, ...] = ()
    problems: list[UnreadableFile] | None = [] if lenient else None
    if kind == ".xlsx":
        numbered, sheets = read_sheet(data, file=name, sheet=sheet, max_rows=max_rows)
        columns, rows = _tabulate(numbered, name, header, max_rows, problems)
    else:
        text, used = decode_text(data, file=name, encoding=encoding)
        if kind in (".json", ".jsonl"):
            columns, rows = read_objects(text, file=name, lines=kind == ".jsonl", max_rows=max_rows, problems=problems)
        else:
            delimiter = "\t" if kind == ".tsv" else find_delimiter(text)
            columns, rows = _tabulate(_records(text, delimiter, name), name, header, max_rows, problems)
    if not rows:
        raise problems[0] if problems else refused(name, "it has no rows below its header", "見出しの下に行がありません")
    how: dict[str, Any] = {"format": kind[1:], "encoding": used, "delimiter": delimiter, "sheets": sheets}
    return RowTable(file=name, columns=columns, rows=tuple(rows.values()), lines=tuple(rows), problems=tuple(problems or ()), **how)


def suggest_mapping(columns: Sequence[str], variables: Iterable[str | Variable]) -> dict[str, str | None]:
    """For each variable the column that most likely fills it, or None; no column is used twice.

    Compares names and labels after NFKC, without case, spaces and punctuation; the best pairs are taken first.
    """
    wanted = {item if isinstance(item, str) else item.name: _names(item) for item in variables}
    scored = sorted(
        ((_likeness(names, column), variable, column) for variable, names in wanted.items() for column in columns),
        key=lambda pair: -pair[0],
    )
    mapping: dict[str, str | None] = dict.fromkeys(wanted)
    for score, variable, column in scored:
        if score >= 0.6 and mapping[variable] is None and column not in mapping.values():
            mapping[variable] = column
    if len(wanted) == 1 and len(columns) == 1:
        return dict.fromkeys(wanted, columns[0])
    return mapping


def _names(item: str | Variable) -> list[str]:
    return [item] if isinstance(item, str) else [item.name, *item.label.values()]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())


def _likeness(names: list[str], column: str) -> float:
    """1.2 for the very name, 1.1 for its plain form, below 1 for a similar or a containing one."""
    if column == names[0]:
        return 1.2
    plain = _plain(column)
    forms = [form for form in map(_plain, names) if form]
    if plain in forms:
        return 1.1
    inside = any(plain and min(len(form), len(plain)) >= 2 and (form in plain or plain in form) for form in forms)
    return max([SequenceMatcher(None, form, plain).ratio() for form in forms] + [0.7 if inside else 0.0])


def _load(source: str | Path | bytes, name: str, max_mb: float) -> bytes:
    try:
        size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
        if size > max_mb * 1e6:
            raise refused(name, f"it has {size / 1e6:,.1f} MB; at most {max_mb:g} MB are read", f"{size / 1e6:,.1f} MBあります（上限は{max_mb:g} MBです）")
        data = source if isinstance(source, bytes) else Path(source).read_bytes()
    except OSError as fault:
        raise refused(name, fault.strerror or str(fault), fault.strerror or str(fault)) from fault
    if not data.strip():
        raise refused(name, "it is empty", "空のファイルです")
    return data


def _format(name: str, data: bytes) -> str:
    suffix = PurePath(name).suffix.lower()
    suffix = _ALIASES.get(suffix, suffix)
    if data.startswith(b"\xd0\xcf\x11\xe0"):
        en = "it is an old .xls or protected by a password; save it as .xlsx without one"
        raise refused(name, en, "古い.xls形式か、パスワード付きです。パスワードのない.xlsxで保存してください")
    zipped = data.startswith(b"PK\x03\x04")
    if zipped != (suffix == ".xlsx") and suffix in FORMATS:
        inside_en, inside_ja = ("a ZIP or XLSX file", "ZIPかXLSXです") if zipped else ("no XLSX workbook", "XLSXではありません")
        raise refused(name, f"its name ends in {suffix}, but it is {inside_en}", f"名前は{suffix}ですが、中身は{inside_ja}")
    if suffix in FORMATS:
        return suffix
    if suffix:
        formats = ", ".join(FORMATS)
        raise refused(name, f"{suffix} is not among the formats read here: {formats}", f"{suffix}には対応していません。使える形式：{formats}")
    if zipped:
        return ".xlsx"
    start = data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]
    return ".jsonl" if start == b"{" else ".json" if start == b"[" else ".csv"


def find_delimiter(text: str) -> str:
    """The delimiter that splits the first records into the most equal columns; a comma where none does."""

    def score(delimiter: str) -> tuple[float, int]:
        try:
            sample = [row for row in itertools.islice(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), 20) if row]
        except csv.Error:
            return 0.0, 0
        widths = [len(row) for row in sample]
        common = max(set(widths), key=widths.count, default=1)
        return (widths.count(common) / len(widths) if common > 1 else 0.0), common

    return max(_DELIMITERS, key=score)


def _records(text: str, delimiter: str, name: str) -> Iterator[tuple[int, list[str]]]:
    # The module's limit of 131,072 characters per cell is for the whole process; a long document is one cell here.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for record in reader:
            yield reader.line_num, record
    except csv.Error as fault:
        line = f"{reader.line_num:,}"
        raise refused(name, f"line {line} is not proper CSV ({fault})", f"{line}行目がCSVとして正しくありません（{fault}）") from fault


def _tabulate(
    numbered: _Numbered, file: str, header: bool, max_rows: int, problems: list[UnreadableFile] | None
) -> tuple[tuple[str, ...], dict[int, dict[str, str]]]:
    """Columns, and rows by line. A row with too many cells is added to `problems`; where that is None it refuses the file."""
    filled: Iterator[tuple[int, list[str]]] = ((number, record) for number, record in numbered if any(cell.strip() for cell in record))
    number, first = next(filled, (0, []))
    if not header:
        filled = itertools.chain([(number, first)], filled)
        first = [""] * len(first)
    check_columns(len(first), file)
    columns = _unique([name.strip() for name in first])
    rows: dict[int, dict[str, str]] = {}
    for number, record in filled:
        if any(record[len(columns) :]):
            en = f"line {number:,} has {len(record):,} cells, the header has {len(columns):,}"
            problem = refused(file, en, f"{number:,}行目のセルは{len(record):,}個ですが、見出しは{len(columns):,}個です", line=number)
            if problems is None:
                raise problem
            problems.append(problem)
            continue
        check_count(len(rows) + 1, file, max_rows)
        rows[number] = dict(itertools.zip_longest(columns, record[: len(columns)], fillvalue=""))
    return columns, rows


def _unique(names: list[str]) -> tuple[str, ...]:
    """Names for all columns: empty ones are numbered, repeated ones get `(2)`, `(3)`, …"""
    while names and not names[-1] and any(names):
        names.pop()
    taken: dict[str, None] = {}
    for position, name in enumerate(names, start=1):
        wished = name or f"column_{position}"
        candidates: Iterator[str] = itertools.chain([wished], (f"{wished} ({copy})" for copy in itertools.count(2)))
        taken[next(candidate for candidate in candidates if candidate not in taken)] = None
    return tuple(taken)
