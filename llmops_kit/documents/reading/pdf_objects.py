"""What is drawn on a PDF page besides its text: how much of it is a picture, and whether it holds text nobody can see."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

# Object kinds, render modes and limits: ISO 32000-1, table 106 (3: neither filled nor stroked); fpdf_edit.h.
_TEXT, _PATH, _IMAGE, _SHADING, _FORM = 1, 2, 3, 4, 5
_INVISIBLE = (3, 7)
SMALL_PT = 2.0
_WHITE = 250  # of 255 in each colour
_MOST_OBJECTS = 20_000
_MEASURED = 150  # so many pieces of text are measured on a page (programs write up to one for each letter); colour and mode are asked of all
_DEEPEST = 4

Bounds = tuple[float, float, float, float]


@dataclass
class Drawn:
    """`image_share`: share (0…1) of the page its largest picture covers; `hidden`: some of its text cannot be seen."""

    image_share: float = 0.0
    hidden: bool = False


@dataclass
class Survey:
    """One pass over the objects of a page."""

    page: Any
    textpage: Any
    backgrounds: list[Bounds] = field(default_factory=list)
    white: list[Bounds] = field(default_factory=list)
    pictures: list[Bounds] = field(default_factory=list)
    hidden: bool = False
    seen: int = 0
    measured_every: int = 1

    def __post_init__(self) -> None:
        import pypdfium2.raw as pdfium

        self.pdfium = pdfium
        self._get_mode, self._get_colour = pdfium.FPDFTextObj_GetTextRenderMode, pdfium.FPDFPageObj_GetFillColor
        self.left, self.bottom, self.right, self.top = self.page.get_bbox()
        # Made once: pdfium fills them for each of the thousands of objects a page may have.
        self._size, self._matrix = ctypes.c_float(), pdfium.FS_MATRIX()
        self._sides, self._channels = [ctypes.c_float() for _ in range(4)], [ctypes.c_uint() for _ in range(4)]
        self._size_at, self._matrix_at = ctypes.byref(self._size), ctypes.byref(self._matrix)
        self._sides_at, self._channels_at = [ctypes.byref(each) for each in self._sides], [ctypes.byref(each) for each in self._channels]

    def look(self) -> Drawn:
        """The facts of the page."""
        area = max((self.right - self.left) * (self.top - self.bottom), 1.0)
        count = self.pdfium.FPDFPage_CountObjects(self.page.raw)
        self.measured_every = count // _MEASURED + 1
        self._look_at(self.page.raw, count, self.pdfium.FPDFPage_GetObject, 0, 1.0)
        hidden = self.hidden or any(not self._has_background(bounds) for bounds in self.white)
        return Drawn(max([0.0, *(min(_area(self._on_page(bounds)) / area, 1.0) for bounds in self.pictures)]), hidden)

    def _look_at(self, holder: Any, count: int, get: Callable[[Any, int], Any], depth: int, scale: float) -> None:
        """All objects of a page or of a form on it. Names are local because a page may have thousands of objects."""
        pdfium, is_hidden, kind_of = self.pdfium, self._is_hidden, self.pdfium.FPDFPageObj_GetType
        for index in range(min(count, _MOST_OBJECTS - self.seen)):
            item = get(holder, index)
            kind = kind_of(item)
            self.seen += 1
            if kind == _TEXT:
                if not self.hidden:
                    self.hidden = is_hidden(item, scale)
            elif kind == _IMAGE:
                self.pictures.append(self._bounds(item))
            elif kind == _FORM and depth < _DEEPEST:
                self._look_at(item, pdfium.FPDFFormObj_CountObjects(item), pdfium.FPDFFormObj_GetObject, depth + 1, scale * self._scale(item))
            elif kind == _SHADING or (kind == _PATH and not self._is_white(item)):
                self.backgrounds.append(self._bounds(item))

    def _is_hidden(self, item: Any, scale: float) -> bool:
        if self._get_mode(item) in _INVISIBLE:
            return self._has_letters(item)
        if self._get_colour(item, *self._channels_at):
            red, green, blue, alpha = self._channels
            if alpha.value == 0:
                return self._has_letters(item)
            if red.value >= _WHITE and green.value >= _WHITE and blue.value >= _WHITE and self._has_letters(item):
                self.white.append(self._bounds(item))
        if self.seen % self.measured_every:
            return False
        self.pdfium.FPDFTextObj_GetFontSize(item, self._size_at)
        is_small = self._size.value * self._scale(item) * scale < SMALL_PT
        return (is_small or not _area(self._on_page(self._bounds(item)))) and self._has_letters(item)

    def _has_letters(self, item: Any) -> bool:
        size = self.pdfium.FPDFTextObj_GetText(item, self.textpage.raw, None, 0)
        if size <= 2:
            return False
        buffer = (ctypes.c_ushort * (size // 2 + 1))()
        self.pdfium.FPDFTextObj_GetText(item, self.textpage.raw, buffer, size)
        return bool(bytes(buffer).decode("utf-16-le", "ignore").strip("\x00 \t\r\n\u3000\xa0"))

    def _is_white(self, item: Any) -> bool:
        if not self._get_colour(item, *self._channels_at):
            return False
        return min(each.value for each in self._channels[:3]) >= _WHITE

    def _scale(self, item: Any) -> float:
        matrix = self._matrix
        if not self.pdfium.FPDFPageObj_GetMatrix(item, self._matrix_at):
            return 1.0
        return math.sqrt(abs(matrix.a * matrix.d - matrix.b * matrix.c))

    def _bounds(self, item: Any) -> Bounds:
        self.pdfium.FPDFPageObj_GetBounds(item, *self._sides_at)
        left, bottom, right, top = self._sides
        return left.value, bottom.value, right.value, top.value

    def _on_page(self, bounds: Bounds) -> Bounds:
        return max(bounds[0], self.left), max(bounds[1], self.bottom), min(bounds[2], self.right), min(bounds[3], self.top)

    def _has_background(self, bounds: Bounds) -> bool:
        x, y = (bounds[0] + bounds[2]) / 2, (bounds[1] + bounds[3]) / 2
        return any(left <= x <= right and bottom <= y <= top for left, bottom, right, top in [*self.pictures, *self.backgrounds])


def _area(bounds: Bounds) -> float:
    return max(bounds[2] - bounds[0], 0.0) * max(bounds[3] - bounds[1], 0.0)
