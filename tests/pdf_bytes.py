"""PDF files written by hand for the tests: text in Helvetica and in a Japanese font that is not embedded, columns, bombs."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

A4 = (595, 842)


@dataclass
class Pdf:
    """Objects under numbers; `content` of every page is a stream of operators."""

    objects: list[bytes] = field(default_factory=list)
    pages: list[int] = field(default_factory=list)

    def add(self, body: bytes) -> int:
        self.objects.append(body)
        return len(self.objects)

    def stream(self, data: bytes, extra: bytes = b"") -> int:
        packed = zlib.compress(data, 9)
        return self.add(b"<< /Length %d /Filter /FlateDecode %s >>\nstream\n" % (len(packed), extra) + packed + b"\nendstream")

    def fonts(self) -> bytes:
        if not hasattr(self, "_fonts"):
            latin = self.add(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>")
            described = self.add(
                b"<< /Type /FontDescriptor /FontName /HeiseiMin-W3 /Flags 6 /FontBBox [0 -120 1000 880]"
                b" /ItalicAngle 0 /Ascent 880 /Descent -120 /CapHeight 700 /StemV 80 >>"
            )
            cid = self.add(
                b"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /HeiseiMin-W3 /CIDSystemInfo << /Registry (Adobe) /Ordering (Japan1) /Supplement 5 >>"
                b" /DW 1000 /FontDescriptor %d 0 R >>" % described
            )
            across, down = (
                self.add(b"<< /Type /Font /Subtype /Type0 /BaseFont /HeiseiMin-W3 /Encoding /UniJIS-UTF16-%s /DescendantFonts [%d 0 R] >>" % (way, cid))
                for way in (b"H", b"V")
            )
            self._fonts = b"<< /Font << /L %d 0 R /J %d 0 R /V %d 0 R >> >>" % (latin, across, down)
        return self._fonts

    def page(self, content: str | int, *, size: tuple[int, int] = A4, rotate: int = 0, resources: bytes = b"", notes: Sequence[int] = ()) -> None:
        number = content if isinstance(content, int) else self.stream(content.encode("latin-1"))
        fonts = self.fonts()
        self.pages.append(
            self.add(
                b"<< /Type /Page /Parent PARENT 0 R /MediaBox [0 0 %d %d] /Rotate %d /Contents %d 0 R /Resources %s /Annots [%s] >>"
                % (*size, rotate, number, resources or fonts, b" ".join(b"%d 0 R" % note for note in notes))
            )
        )

    def bytes(self) -> bytes:
        kids = b" ".join(b"%d 0 R" % page for page in self.pages)
        parent = self.add(b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(self.pages), kids))
        root = self.add(b"<< /Type /Catalog /Pages %d 0 R >>" % parent)
        out, places = b"%PDF-1.7\n", []
        parts = [out]
        at = len(out)
        for number, body in enumerate(self.objects, start=1):
            places.append(at)
            part = b"%d 0 obj\n" % number + body.replace(b"PARENT", b"%d" % parent, 1) + b"\nendobj\n"
            parts.append(part)
            at += len(part)
        table = b"xref\n0 %d\n0000000000 65535 f \n" % (len(places) + 1) + b"".join(b"%010d 00000 n \n" % place for place in places)
        trailer = b"trailer\n<< /Size %d /Root %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(places) + 1, root, at)
        return b"".join(parts) + table + trailer


def latin(text: str, x: float, y: float, size: float = 11, before: str = "") -> str:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"BT {before} /L {size} Tf 1 0 0 1 {x} {y} Tm ({escaped}) Tj ET\n"


def japanese(text: str, x: float, y: float, size: float = 11, *, down: bool = False, before: str = "") -> str:
    code = text.encode("utf-16-be").hex()
    return f"BT {before} /{'V' if down else 'J'} {size} Tf 1 0 0 1 {x} {y} Tm <{code}> Tj ET\n"


def paragraph(lines: Sequence[str], x: float, y: float, size: float = 11, leading: float = 16) -> str:
    return "".join((latin if line.isascii() else japanese)(line, x, y - leading * number, size) for number, line in enumerate(lines))


def one_page(content: str, **options) -> bytes:
    pdf = Pdf()
    pdf.page(content, **options)
    return pdf.bytes()


def shared_stream(pages: int, size_mb: int) -> bytes:
    """Many pages that all draw one stream of `size_mb` million bytes, stored in a few kilobytes."""
    pdf = Pdf()
    operators = b"BT /L 1 Tf (x) Tj ET\n"
    number = pdf.stream(operators * (size_mb * 1_000_000 // len(operators)))
    for _ in range(pages):
        pdf.page(number)
    return pdf.bytes()


def flate_bomb(size_mb: int) -> bytes:
    """One page whose stream unpacks to `size_mb` million zero bytes, packed twice."""
    pdf = Pdf()
    packer = zlib.compressobj(9)
    head = packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1_000_000)) + packer.flush(zlib.Z_FULL_FLUSH)  # after a full flush every block is packed alike
    once = head + again * (size_mb - 1) + packer.flush()
    twice = zlib.compress(once, 9)
    number = pdf.add(b"<< /Length %d /Filter [/FlateDecode /FlateDecode] >>\nstream\n" % len(twice) + twice + b"\nendstream")
    pdf.page(number)
    return pdf.bytes()
