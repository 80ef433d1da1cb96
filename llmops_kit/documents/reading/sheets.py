"""XLSX, CSV and TSV → text: one row a line, cells joined by " | ", empty rows left out. A sheet is a page."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final

from llmops_kit.documents.reading.container import DAMAGED, check_office, open_archive
from llmops_kit.documents.reading.encoding import clean, decode
from llmops_kit.documents.reading.records import RawDocument, RawPage, ReadOptions, Unreadable
from llmops_kit.documents.reading.workbook import Sheet, Workbook, open_workbook
from llmops_kit.playground.rows import find_delimiter
from llmops_kit.playground.sheets import read_cell

PRELOAD = {"": ("openpyxl.styles.numbers", "openpyxl.utils.datetime", "lxml.etree")}
SEPARATOR: Final = " | "
MAX_CHARACTERS: Final = 8_000_000
"""Of one file's rows; the rest is cut and "rows_cut" warned of."""
MAX_CELLS: Final = 1_000_000
"""Of one workbook, so that it is read within the guard's time."""

_SNIFF_CHARACTERS = 100_000


def read_csv(data: bytes, name: str, options: ReadOptions) -> RawDocument:
    """The rows of delimited text (comma, tab, semicolon or bar, whichever splits it evenly), line breaks inside cells made spaces.

    A file whose quotes do not pair is read line by line, its quotes kept. Raises what `decode` raises.
    """
    text, encoding = decode(data, name, options)
    text = clean(text)
    delimiter = "\t" if name.lower().endswith((".tsv", ".tab")) else find_delimiter(text[:_SNIFF_CHARACTERS])
    budget = _Budget(len(text))
    # The module's limit of 131,072 characters per cell is for the whole process; a long document can be one cell.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    try:
        lines = budget.take(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        budget = _Budget(len(text))
        lines = budget.take(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quoting=csv.QUOTE_NONE))
    page = RawPage(clean("\n".join(lines)), tables=1 if lines else 0)
    return RawDocument([page], reader="csv", encoding=encoding, warnings=budget.warnings(), paged=False)


def read_xlsx(data: bytes, name: str, options: ReadOptions) -> RawDocument:
    """One page for each sheet that can be seen: values as a person sees them, dates in ISO form, results of formulas as they were stored.

    Hidden sheets are left out ("hidden_text"); formulas without a stored result are empty cells ("formulas").
    Raises: `Unreadable` where the workbook is unsafe, damaged or too large.
    """
    check_office(data, "xlsx")
    budget, pages, hidden = _Budget(MAX_CELLS), [], False
    with _refusing_damage(), open_archive(data, "xlsx") as archive:
        book = open_workbook(archive)
        for sheet in book.sheets:
            if not sheet.is_visible:
                hidden = True
                continue
            lines = budget.take(_rows(book, sheet))
            pages.append(RawPage(clean("\n".join(lines)), label=sheet.title, tables=1 if lines else 0))
    if hidden and pages:
        pages[0].hidden = True
    found = budget.warnings()
    found += ["formulas"] if book.has_empty_formulas else []
    found += ["macros"] if b"vbaProject.bin" in data else []
    return RawDocument(pages, reader="xlsx", warnings=found)


class _Budget:
    """How many characters and cells may still be read."""

    def __init__(self, cells: int) -> None:
        self.characters = MAX_CHARACTERS
        self.cells = cells
        self.is_cut = False

    def take(self, rows: Iterable[list[str] | None]) -> list[str]:
        """The rows as lines, up to the end of the budget."""
        lines: list[str] = []
        for cells in rows:
            if cells is None:
                self.is_cut = True
                break
            line = _join(cells)
            self.cells -= len(cells)
            self.characters -= len(line) + 1
            if self.characters < 0 or self.cells < 0:
                self.is_cut = True
                break
            if line:
                lines.append(line)
        return lines

    def warnings(self) -> list[str]:
        return ["rows_cut"] if self.is_cut else []


def _join(cells: list[str]) -> str:
    flat = [" ".join(cell.split("\n")).strip() if "\n" in cell else cell.strip() for cell in cells]
    while flat and not flat[-1]:
        flat.pop()
    return SEPARATOR.join(flat)


def _rows(book: Workbook, sheet: Sheet) -> Iterator[list[str] | None]:
    """The cells of each row as text; None at last where the rest cannot be read."""
    try:
        for cells in book.rows(sheet):
            yield ["" if cell.value is None else _tidy(read_cell(cell)) for cell in cells]
    except LookupError:
        yield None


def _tidy(text: str) -> str:
    return text if text.isalnum() else clean(text)[:-1]


@contextmanager
def _refusing_damage() -> Iterator[None]:
    try:
        yield
    except (*DAMAGED, TypeError, IndexError, AttributeError, SyntaxError, AssertionError, RecursionError) as fault:
        raise Unreadable("broken", kind="XLSX") from fault
