"""PDF → pages of text with paragraphs, columns and tables in order. Readers: "pdfium" (pypdfium2) and "pypdf" (LlamaIndex's PDFReader)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from llmops_kit.documents.reading.pdf_characters import PageText, straighten
from llmops_kit.documents.reading.pdf_flow import Flow, choose_headings, flow_plain, flow_rows
from llmops_kit.documents.reading.pdf_lines import find_runs
from llmops_kit.documents.reading.pdf_objects import SMALL_PT, Survey
from llmops_kit.documents.reading.pdf_rows import count_tables, order_runs
from llmops_kit.documents.reading.records import Asks, Limits, RawDocument, RawPage, ReadOptions, Unreadable

PRELOAD: Final = {
    "": ("pypdfium2", "pypdfium2.raw", "llmops_kit.documents.reading.pdf_render"),
    "pypdf": ("pypdf", "llama_index.readers.file", "fsspec.implementations.memory"),
}
READERS: Final = ("pdfium", "pypdf")
_LIMITS: Final = Limits()
_WRONG_PASSWORD, _UNKNOWN_SECURITY = 4, 5  # FPDF_ERR_PASSWORD, FPDF_ERR_SECURITY of fpdfview.h
_SCANNED_SHARE = 0.5
_MOST_NOTES = 2_000
_LITTLE_TEXT = 30  # characters; a page with a picture and less than this is worth recognising


def read_pdf(data: bytes, name: str, options: ReadOptions) -> RawDocument:
    """The pages of the file.

    Raises: `Asks` ("password", "wrong_password") for an encrypted file, `Unreadable` for a damaged one or an unknown reader.
    """
    reader = options.reader or READERS[0]
    if reader not in READERS:
        raise Unreadable("unknown_reader", reader=reader, kind="PDF", allowed=READERS)
    with open_pdf(data, options.password) as document:
        found = _read_all(document)
        if reader == "pypdf":
            _replace_texts(found, _read_with_pypdf(data, options.password))
            found.reader = "pypdf"
        if options.ocr:
            _recognise(document, found)
    return found


@contextmanager
def open_pdf(data: bytes, password: str | None) -> Iterator[Any]:
    """The file opened by pdfium. Raises what `read_pdf` raises."""
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(data, password=password or None)
    except pypdfium2.PdfiumError as fault:
        if fault.err_code == _WRONG_PASSWORD:
            raise Asks("wrong_password" if password else "password") from fault
        if fault.err_code == _UNKNOWN_SECURITY:
            raise Unreadable("protected", detail="PDF") from fault
        raise Unreadable("broken" if fault.err_code else "no_pages", kind="PDF", detail=str(fault)) from fault
    try:
        yield document
    finally:
        document.close()


def load_page(document: Any, number: int) -> Any:
    """Page `number` (from 0) with what was filled into its forms and typed onto it (annotations with an appearance) as part of the page."""
    import pypdfium2.raw as pdfium

    page = document[number]
    for index in range(min(pdfium.FPDFPage_GetAnnotCount(page.raw), _MOST_NOTES)):
        note = pdfium.FPDFPage_GetAnnot(page.raw, index)
        kind = pdfium.FPDFAnnot_GetSubtype(note)
        pdfium.FPDFPage_CloseAnnot(note)
        if kind in (pdfium.FPDF_ANNOT_WIDGET, pdfium.FPDF_ANNOT_FREETEXT, pdfium.FPDF_ANNOT_STAMP):
            pdfium.FPDFPage_Flatten(page.raw, pdfium.FLAT_NORMALDISPLAY)
            page.close()
            return document[number]
    return page


def _read_all(document: Any) -> RawDocument:
    if len(document) == 0:
        raise Unreadable("no_pages")
    pages: list[RawPage] = []
    flows: list[Flow] = []
    warnings: list[str] = []
    left = _LIMITS.characters
    for number in range(min(len(document), _LIMITS.pages)):
        page, flow = _read_page(document, number, warnings)
        pages.append(page)
        flows.append(flow)
        left -= len(page.text)
        if left < 0:
            break
    if all(page.width_pt == 0 for page in pages):
        raise Unreadable("broken", kind="PDF", detail="no page can be opened")
    if len(pages) < len(document):
        warnings.append("truncated")
    for page, flow, headings in zip(pages, flows, choose_headings(flows), strict=True):
        page.headings = headings
        flow.pieces.clear()
    if document.count_attachments() > 0:
        warnings.append("attachments")
    return RawDocument(pages, reader="pdfium", warnings=list(dict.fromkeys(warnings)))


def _read_page(document: Any, number: int, warnings: list[str]) -> tuple[RawPage, Flow]:
    import pypdfium2

    try:
        page = load_page(document, number)
    except pypdfium2.PdfiumError:  # one damaged page is no reason to lose the others
        warnings.append("pages_lost")
        return RawPage("\n"), Flow()
    try:
        text = PageText(page)
        try:
            runs = find_runs(text)
            rows = order_runs(runs)
            flow = flow_rows(rows, text)
            drawn = Survey(page, text.textpage).look()
            drawn.hidden = drawn.hidden or any(run.size < SMALL_PT for run in runs)
        finally:
            text.close()
    finally:
        page.close()
    label = document.get_page_label(number)
    vertical = sum(len(row.cells) for row in rows if row.runs[0].vertical) > len(rows) / 2
    return (
        RawPage(
            flow.text or "\n",
            label="" if label == str(number + 1) else label,
            tables=count_tables(rows),
            vertical=vertical,
            image_share=drawn.image_share,
            hidden=drawn.hidden,
            width_pt=text.width_pt,
            height_pt=text.height_pt,
        ),
        flow,
    )


def _read_with_pypdf(data: bytes, password: str | None) -> list[str]:
    """The text of every page by LlamaIndex's PDFReader. It has no password, so that an encrypted file is decrypted for it first."""
    from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]
    from llama_index.readers.file import PDFReader
    from pypdf import PdfReader, PdfWriter
    from tenacity import RetryError

    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted:
            reader.decrypt(password or "")
            plain = io.BytesIO()
            PdfWriter(clone_from=reader).write(plain)
            data = plain.getvalue()
        files = MemoryFileSystem()
        files.pipe_file("/document.pdf", data)
        return [document.text for document in PDFReader().load_data("/document.pdf", fs=files)]
    except RetryError as fault:
        cause = fault.last_attempt.exception()
        raise Unreadable("broken", kind="PDF", detail=str(cause)[:200]) from fault


def _replace_texts(found: RawDocument, texts: list[str]) -> None:
    for number, page in enumerate(found.pages):
        raw = straighten(texts[number]) if number < len(texts) else ""
        page.text = flow_plain(raw) or "\n"
        page.headings = [(at, level, title) for _, level, title in page.headings if (at := page.text.find(title)) >= 0]


def _recognise(document: Any, found: RawDocument) -> None:
    """Replace pages without text by what text recognition sees on them. Raises: `Unreadable` where it is not installed."""
    from llmops_kit.documents.reading.ocr import Recogniser

    recogniser = Recogniser()
    for number, page in enumerate(found.pages):
        letters = "".join(page.text.split())
        is_garbled = letters.count("\ufffd") > len(letters) / 2
        if not is_garbled and (len(letters) >= _LITTLE_TEXT or (letters and page.image_share < _SCANNED_SHARE)):
            continue
        text = straighten(flow_plain(recogniser.read_page(document, number)))
        if text.strip():
            page.text, page.headings, page.hidden, page.reader = text, [], False, "tesseract"
            found.warnings.append("ocr")
