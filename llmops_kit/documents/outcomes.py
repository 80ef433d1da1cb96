"""What a reading makes of a document: its state, its figures, its pages as rows, and the warnings a person should see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmops_kit.documents.reading import Reading
from llmops_kit.types import Document, Page

if TYPE_CHECKING:
    from llmops_kit.models.embedders import Embedder

PASTED = "pasted"
"""The reader of texts that were never a file."""
_SAMPLE_CHARACTERS = 1000


def describe_reading(document: Document, reading: Reading) -> tuple[Document, tuple[Page, ...]]:
    """The document's row after its file was read, and its pages."""
    pages = tuple(
        Page(
            id=f"{document.id}:{page.number}",
            document_id=document.id,
            number=page.number,
            text=page.text,
            label=page.label,
            reader=page.reader or reading.reader,
            facts=page.facts.to_dict(),
        )
        for page in reading.pages
    )
    described = replace(
        document,
        state=reading.state,
        kind=reading.kind[:20],
        reader=reading.reader[:40],
        encoding=reading.encoding[:20],
        reason=reading.reason,
        warnings=tuple(reading.warnings),
        pages=len(pages),
        characters=sum(len(page.text) for page in pages),
        chunks=0,
    )
    return described, pages


def storable_text(text: str) -> str:
    """A pasted text as it is kept: line ends as one sign, one at the end, and nothing that no database holds."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    return plain if plain.endswith("\n") else plain + "\n"


def describe_text(document: Document, text: str) -> tuple[Document, tuple[Page, ...]]:
    """A text that needed no reading as a read document with one page."""
    from llmops_kit.documents.reading.quality import measure_page
    from llmops_kit.documents.reading.records import RawPage
    from llmops_kit.documents.reading.text import find_headings

    kind = "md" if document.name.lower().endswith(".md") else "txt"
    facts = measure_page(RawPage(text, headings=find_headings(text) if kind == "md" else []))
    page = Page(f"{document.id}:1", document.id, 1, text, reader=PASTED, facts=facts.to_dict())
    return replace(document, kind=kind, reader=PASTED, encoding="utf-8", pages=1, characters=len(text)), (page,)


def empty_reason(document: Document, pages: Sequence[Page]) -> Mapping[str, str]:
    """Why a document without any text is not searched, and what may help."""
    if any(page.dropped for page in pages):
        return {"en": "All its pages with text were left out. Take some back in.", "ja": "文字のあるページがすべて外されています。ページを戻してください。"}
    if any(page.facts.get("looks_scanned") for page in pages):
        return {
            "en": "Its pages are pictures without text. Read it again with OCR (needs tesseract with Japanese).",
            "ja": "ページが画像で、文字が入っていません。OCRを使って読み直してください（tesseractの日本語データが必要です）。",
        }
    return {"en": "There is no text in it. Check the file.", "ja": "文字が入っていません。ファイルを確かめてください。"}


def warn_languages(document: Document, pages: Sequence[Page], embedder: Embedder) -> Document:
    """The document with the warning `language:<code>` where the embedder does not know the language of its text."""
    from llmops_kit.models.languages import find_unknown_languages

    sample = "".join(page.text for page in pages if not page.dropped)[:_SAMPLE_CHARACTERS]
    unknown = find_unknown_languages(embedder.languages, sample)
    kept = tuple(key for key in document.warnings if not key.startswith("language:"))
    return replace(document, warnings=(*kept, *(f"language:{code}" for code in unknown)))
