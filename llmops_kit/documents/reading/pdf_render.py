"""A page of a PDF as a picture, with boxes over the characters of a passage."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from llmops_kit.documents.reading.pdf import load_page, open_pdf
from llmops_kit.documents.reading.pdf_characters import PageText
from llmops_kit.documents.reading.pdf_flow import Flow, flow_rows
from llmops_kit.documents.reading.pdf_lines import find_runs
from llmops_kit.documents.reading.pdf_rows import order_runs
from llmops_kit.documents.reading.records import Box, Rendered, Unreadable

_WIDEST_PX = 8_000


def render_page(data: bytes, number: int, *, span: tuple[int, int] | None, width_px: int, text: str | None, password: str | None, pixels: int) -> Rendered:
    """Page `number` (from 1) as PNG of `width_px` (less where it would have more than `pixels`), and boxes of characters `span` of its text.

    `text` is the text `span` counts in; None means what the reader "pdfium" gives. Where the two differ in their characters, the passage is
    searched; where it is not found, there are no boxes.
    Raises: `Unreadable` ("no_such_page", "broken"), `Asks` ("password").
    """
    with open_pdf(data, password) as document:
        if not 1 <= number <= len(document):
            raise Unreadable("no_such_page", page=number, found=len(document))
        page = load_page(document, number - 1)
        try:
            png = _draw(page, width_px, pixels)
            boxes = _find_boxes(page, span, text) if span else ()
        finally:
            page.close()
    return Rendered(png, boxes)


def _draw(page: Any, width_px: int, pixels: int) -> bytes:
    width, height = page.get_size()
    scale = min(max(width_px, 16), _WIDEST_PX) / max(width, 1.0)
    scale = min(scale, (pixels / max(width * height, 1.0)) ** 0.5)
    buffer = io.BytesIO()
    page.render(scale=scale, may_draw_forms=False).to_pil().save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _find_boxes(page: Any, span: tuple[int, int], text: str | None) -> tuple[Box, ...]:
    layer = PageText(page)
    try:
        flow = flow_rows(order_runs(find_runs(layer)), layer)
        marks = _marks(flow)
        first, last = _marked(marks, flow.text if text is None else text, span)
        lines: dict[int, list[int]] = {}
        for _, index, line in marks[first:last]:
            lines.setdefault(line, []).append(index)
        return tuple(_box(layer, indices) for indices in lines.values())
    finally:
        layer.close()


def _marks(flow: Flow) -> list[tuple[str, int, int]]:
    """Every character that is no white space: itself, its index on the page, its visual line."""
    return [
        (character, piece.start + offset, piece.line)
        for piece in flow.pieces
        if piece.start >= 0
        for offset, character in enumerate(piece.text)
        if not character.isspace()
    ]


def _marked(marks: Sequence[tuple[str, int, int]], text: str, span: tuple[int, int]) -> tuple[int, int]:
    """Which of `marks` the characters `span` of `text` are, by counting characters that are no white space."""
    start = len("".join(text[: span[0]].split()))
    passage = "".join(text[span[0] : span[1]].split())
    known = "".join(character for character, _, _ in marks)
    if known[start : start + len(passage)] == passage:
        return start, start + len(passage)
    places = []
    at = known.find(passage) if passage else -1
    while at >= 0:
        places.append(at)
        at = known.find(passage, at + 1)
    if not places:
        return 0, 0
    nearest = min(places, key=lambda place: abs(place - start))
    return nearest, nearest + len(passage)


def _box(layer: PageText, indices: Sequence[int]) -> Box:
    places = [layer.shown_place(index) for index in indices]
    width, height = max(layer.width_pt, 1.0), max(layer.height_pt, 1.0)
    left, top = min(each.left for each in places) / width, min(each.top for each in places) / height
    right, bottom = max(each.right for each in places) / width, max(each.bottom for each in places) / height
    return max(left, 0.0), max(top, 0.0), min(right, 1.0), min(bottom, 1.0)
