"""The characters of a PDF page as pdfium gives them: what they are, where they are, how large."""

from __future__ import annotations

import ctypes
import math
import re
from collections import Counter
from collections.abc import Callable
from functools import cached_property, lru_cache
from itertools import islice
from typing import Any, Final, NamedTuple

# Radicals that PDF programs store in place of the kanji that look the same (Unicode blocks "Kangxi Radicals", which NFKC resolves, and
# "CJK Radicals Supplement", which it does not): one character for one, so that offsets stay.
_RADICALS: Final = dict(zip("⺟⺠⻁⻄⻑⻘⻝⻤⻨⻩⻫⻭⻯⻲⻳", "母民虎西長青食鬼麦黄斉歯竜亀龜", strict=True))
_SHAPED: Final = re.compile("[\u2e80-\u2fd5\ufe10-\ufe19\ufe30-\ufe48]")
_CJK: Final = re.compile("[\u1100-\u11ff\u2e80-\u303f\u3041-\u30ff\u3400-\u9fff\uac00-\ud7ff\uf900-\ufaff\ufe30-\ufe4f\uff01-\uffef\U00020000-\U0003ffff]")
_HANGUL: Final = re.compile("[\u1100-\u11ff\uac00-\ud7ff]")
END_HYPHEN: Final = "\ufffe"  # pdfium's mark for a hyphen at the end of a line
LINES: Final = re.compile(f"[^\r\n{END_HYPHEN}]+{END_HYPHEN}?")
_ANGLE_LINES = 20
_SAMPLE = 50
_GUESSES = 0.3


class Place(NamedTuple):
    """A rectangle in points from the top left corner of the page as it is shown; y grows downwards."""

    left: float
    top: float
    right: float
    bottom: float


Turn = Callable[[float, float, float, float], Place]


class PageText:
    """The text layer of one page. Places are asked for one by one, since a call into pdfium costs about a microsecond."""

    def __init__(self, page: Any) -> None:
        import pypdfium2.raw as pdfium

        self._pdfium = pdfium
        self.textpage = page.get_textpage()
        self._raw = self.textpage.raw
        self._box, self._matrix = pdfium.FS_RECTF(), pdfium.FS_MATRIX()
        self.width_pt, self.height_pt = page.get_size()
        self._producer: str = page.pdf.get_metadata_value("Producer")
        self.text = self._read()
        self._hide_guesses()
        self._shown = _turn(page, page.get_rotation())
        self._upright = _turn(page, self._writing_angle())
        self.place: Callable[[int], Place] = lru_cache(maxsize=None)(lambda index: self._place(index, self._upright))

    def close(self) -> None:
        """Give the memory back to pdfium."""
        self.textpage.close()

    def _read(self) -> str:
        """One character for each of pdfium's, so that an offset is its index."""
        count = self.textpage.count_chars()
        text: str = self.textpage.get_text_range() if count > 0 else ""
        if len(text) != count:
            text = self._read_units(count)
        return straighten(text)

    def _read_units(self, count: int) -> str:
        """The text where pdfium counts the halves of a character beyond 16 bits, or characters it leaves out of its text."""
        size = self._pdfium.FPDFText_GetText(self._raw, 0, count, buffer := (ctypes.c_ushort * (2 * count + 2))()) - 1
        if size == count:
            return "".join(map(chr, buffer[:size]))
        codes = (self._pdfium.FPDFText_GetUnicode(self._raw, index) for index in range(count))
        return "".join(chr(code) if 0 < code < 0x110000 else "\ufffd" for code in codes)

    def shown_place(self, index: int) -> Place:
        """Where a character is on the page as it is shown; `place` is where it would be if its writing were turned upright."""
        return self._place(index, self._shown)

    def _place(self, index: int, turn: Turn) -> Place:
        box = self._box
        self._pdfium.FPDFText_GetLooseCharBox(self._raw, index, ctypes.byref(box))
        return turn(box.left, box.bottom, box.right, box.top)

    def _writing_angle(self) -> int:
        """By how many degrees (a multiple of 90, against the clock) most lines are turned on the sheet."""
        starts = [match.start() for match in islice(LINES.finditer(self.text), _ANGLE_LINES)]
        angles = Counter(round(self._pdfium.FPDFText_GetCharAngle(self._raw, index) / (math.pi / 2)) % 4 * 90 for index in starts)
        return angles.most_common(1)[0][0] if angles else 0

    def size(self, index: int) -> float:
        """The font size of a character in points, as drawn."""
        matrix = self._matrix
        size: float = self._pdfium.FPDFText_GetFontSize(self._raw, index)
        if self._pdfium.FPDFText_GetMatrix(self._raw, index, ctypes.byref(matrix)):
            size *= math.sqrt(abs(matrix.a * matrix.d - matrix.b * matrix.c))
        place = self.place(index)
        return size if size > 0.1 else max(place.bottom - place.top, 0.1)

    def is_made_up(self, index: int) -> bool:
        """Whether pdfium added the character (a blank for a gap)."""
        return bool(self._pdfium.FPDFText_IsGenerated(self._raw, index) == 1)

    def _hide_guesses(self) -> None:
        """Put U+FFFD for letters the file does not name, if many are so: what pdfium guesses then is another script."""
        starts = [match.start() for match in islice(LINES.finditer(self.text), _SAMPLE)]
        if sum(map(self._is_guess, starts)) > _GUESSES * len(starts):
            letters = (character if character.isspace() or not self._is_guess(index) else "\ufffd" for index, character in enumerate(self.text))
            self.text = "".join(letters)

    @cached_property
    def has_blanks(self) -> bool:
        """Whether the file writes blanks as characters. Then those pdfium adds are only gaps of the layout. Chromium writes none."""
        if "Skia" not in self._producer:
            return True
        blanks = (index for index, character in enumerate(self.text) if character == " ")
        return any(not self.is_made_up(index) for index in islice(blanks, _SAMPLE))

    def _is_guess(self, index: int) -> bool:
        return bool(self._pdfium.FPDFText_HasUnicodeMapError(self._raw, index) == 1)


def straighten(text: str) -> str:
    """The text with kanji instead of the radicals that look like them, and the usual punctuation instead of its forms for vertical lines."""
    return text.translate(_radicals()) if _SHAPED.search(text) else text


@lru_cache(maxsize=1)
def _radicals() -> dict[int, str]:
    import unicodedata

    codes = [*range(0x2F00, 0x2FD6), *range(0xFE10, 0xFE1A), *range(0xFE30, 0xFE49)]
    plain = {code: unicodedata.normalize("NFKC", chr(code)) for code in codes}
    return {code: text for code, text in plain.items() if len(text) == 1} | {ord(radical): kanji for radical, kanji in _RADICALS.items()}


def is_cjk(character: str) -> bool:
    """Whether the character is Chinese, Japanese or Korean, punctuation of full width included."""
    return _CJK.match(character) is not None


def needs_blank(before: str, after: str) -> bool:
    """Whether two lines joined here need a blank between them: between Latin words and around Hangul, not in Japanese."""
    if _HANGUL.match(before) or _HANGUL.match(after):
        return True
    return not (is_cjk(before) or is_cjk(after))


def _turn(page: Any, rotation: int) -> Turn:
    """From the sheet's coordinates (points, y upwards) to those of the sheet turned by `rotation` degrees with the clock, y downwards."""
    left, bottom, right, top = page.get_bbox()
    if rotation == 90:
        return lambda x0, y0, x1, y1: Place(y0 - bottom, x0 - left, y1 - bottom, x1 - left)
    if rotation == 180:
        return lambda x0, y0, x1, y1: Place(right - x1, y0 - bottom, right - x0, y1 - bottom)
    if rotation == 270:
        return lambda x0, y0, x1, y1: Place(top - y1, right - x1, top - y0, right - x0)
    return lambda x0, y0, x1, y1: Place(x0 - left, top - y1, x1 - left, top - y0)
