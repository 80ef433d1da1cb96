"""PPTX → one page for each slide: its title, its text and tables, then the speaker's notes."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from llmops_kit.documents.reading.container import check_office
from llmops_kit.documents.reading.encoding import clean
from llmops_kit.documents.reading.office import refusing_damage
from llmops_kit.documents.reading.records import RawDocument, RawPage, ReadOptions

PRELOAD = {"": ("pptx",)}
_MAX_GROUPS = 50


def read_pptx(data: bytes, name: str, options: ReadOptions) -> RawDocument:
    """The slides in order, hidden ones too. Left out: charts, SmartArt, pictures, comments and what stands on the masters.

    Raises: `Unreadable` where the file is unsafe, damaged or too large.
    """
    check_office(data, "pptx")
    with refusing_damage("PPTX"):
        from pptx import Presentation

        pages = [_read_slide(slide) for slide in Presentation(io.BytesIO(data)).slides]
    return RawDocument(pages, reader="pptx", warnings=["macros"] if b"vbaProject.bin" in data else [])


def _read_slide(slide: Any) -> RawPage:
    title_shape = slide.shapes.title
    title = " ".join(_paragraph_lines(title_shape.text_frame)) if title_shape is not None else ""
    title = " ".join(title.split())
    lines = [title] if title else []
    tables = 0
    for shape in _shapes(slide.shapes):
        if title_shape is not None and shape.shape_id == title_shape.shape_id:
            continue
        if getattr(shape, "has_table", False) and shape.has_table:
            tables += 1
            lines.extend(_rows(shape.table))
        elif shape.has_text_frame:
            lines.extend(_paragraph_lines(shape.text_frame))
    if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None:
        lines.extend(_paragraph_lines(notes))
    text = clean("\n".join(line for line in lines if line.strip()))
    return RawPage(text, label=clean(title)[:-1][:200], tables=tables, headings=[(0, 1, clean(title)[:-1])] if title else [])


def _shapes(shapes: Iterable[Any], depth: int = 0) -> Iterator[Any]:
    """The shapes in the order of the file (which screen readers follow), groups opened."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            if depth < _MAX_GROUPS:
                yield from _shapes(shape.shapes, depth + 1)
        else:
            yield shape


def _paragraph_lines(frame: Any) -> Iterator[str]:
    for paragraph in frame.paragraphs:
        yield from paragraph.text.replace("\v", "\n").split("\n")


def _rows(table: Any) -> Iterator[str]:
    for row in table.rows:
        cells = [" ".join(" ".join(_paragraph_lines(cell.text_frame)).split()) for cell in row.cells if not cell.is_spanned]
        while cells and not cells[-1]:
            cells.pop()
        yield " | ".join(cells)
