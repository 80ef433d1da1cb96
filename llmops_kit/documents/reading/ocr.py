"""Text recognition for scanned pages by the program tesseract (Apache-2.0), with its Japanese and English data. Off unless a person asks for it."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from typing import Any, Final

from llmops_kit.documents.reading.records import Limits, Unreadable

LANGUAGES: Final = ("jpn", "eng")
_PACKAGES: Final = {"jpn": "tesseract-ocr-jpn", "eng": "tesseract-ocr-eng"}
_DPI = 300  # what tesseract's own guide asks for
_PAGE_S = 60.0
_PIXELS: Final = Limits().pixels
_CJK = "\u3000-\u30ff\u3400-\u9fff\uf900-\ufaff\uff01-\uffef"
_SPREAD: Final = re.compile(rf"(?<=[{_CJK}])[ ]+(?=[{_CJK}])|(?<=[{_CJK}])[ ]+(?=[0-9A-Za-z])|(?<=[0-9A-Za-z])[ ]+(?=[{_CJK}])")


class Recogniser:
    """Tesseract, found once for a file.

    Raises: `Unreadable` ("ocr_missing", "ocr_language") where the program or its language data is not installed.
    """

    def __init__(self) -> None:
        program = shutil.which("tesseract")
        if program is None:
            raise Unreadable("ocr_missing")
        listed = subprocess.run([program, "--list-langs"], capture_output=True, text=True, timeout=_PAGE_S, check=False).stdout  # noqa: S603
        missing = [each for each in LANGUAGES if each not in listed.split()]
        if missing:
            raise Unreadable("ocr_language", missing=missing, command=" ".join(_PACKAGES[each] for each in missing))
        self._program = program

    def read_page(self, document: Any, number: int) -> str:
        """The text on page `number` (from 0) of an open PDF; empty where nothing is recognised or it takes longer than a minute."""
        page = document[number]
        try:
            width, height = page.get_size()
            scale = min(_DPI / 72, (_PIXELS / max(width * height, 1.0)) ** 0.5)
            picture = page.render(scale=scale, grayscale=True, may_draw_forms=False).to_pil()
        finally:
            page.close()
        buffer = io.BytesIO()
        picture.save(buffer, "PNG", compress_level=1, dpi=(scale * 72, scale * 72))
        return self.read_picture(buffer.getvalue())

    def read_picture(self, png: bytes) -> str:
        """The text in a picture, without the blanks tesseract puts between Japanese characters."""
        command = [self._program, "stdin", "stdout", "-l", "+".join(LANGUAGES), "--psm", "3", "-c", "preserve_interword_spaces=1"]
        try:
            done = subprocess.run(command, input=png, capture_output=True, timeout=_PAGE_S, check=False)  # noqa: S603 — no shell, our own words
        except subprocess.TimeoutExpired:
            return ""
        return _SPREAD.sub("", done.stdout.decode("utf-8", "replace").replace("\f", ""))
