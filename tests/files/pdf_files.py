"""PDFs written byte by byte, or changed after Chromium printed them: encrypted, broken, hidden text, active content, odd fonts."""

from __future__ import annotations

import io
import random
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from tests.files import passages
from tests.files.printed_files import print_page

if TYPE_CHECKING:
    from pypdf import PdfWriter

PASSWORD = "tsukimi-42"
HELVETICA = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def write_pdf(objects: list[bytes], *, trailer: bytes = b"") -> bytes:
    """A PDF 1.7 file of the numbered objects (the first is the catalogue), with a right cross-reference table."""
    out, offsets = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n"), []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%b" % (len(objects) + 1, table)
    out += b"trailer\n<< /Size %d /Root 1 0 R %b >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start)
    return bytes(out)


def stream(body: bytes, entries: bytes = b"") -> bytes:
    """A stream object."""
    return b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(body), entries, body)


def one_page(
    content: bytes, *, font: list[bytes] | None = None, catalog: bytes = b"", page: bytes = b"", extra: list[bytes] | None = None, width: int = 595
) -> bytes:
    """A page with this content and the font F1: objects 1 catalogue, 2 pages, 3 page, 4 content, then the font's, then `extra`."""
    entries = b"/MediaBox [0 0 %d 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> %b" % (width, page)
    sheet = b"<< /Type /Page /Parent 2 0 R %b >>" % entries
    heads = [b"<< /Type /Catalog /Pages 2 0 R %b >>" % catalog, b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", sheet, stream(content)]
    return write_pdf([*heads, *(font or [HELVETICA]), *(extra or [])])


def show(lines: list[str], *, size: int = 12, before: bytes = b"") -> bytes:
    """Page content that shows lines of Latin text from the top of the page down."""
    shown = b" T* ".join(b"(%b) Tj" % line.replace("(", r"\(").replace(")", r"\)").encode("latin-1") for line in lines)
    return b"%b BT /F1 %d Tf 60 770 Td 18 TL %b ET" % (before, size, shown)


BEES = ["Beekeeping notes", "Open the hive only when the air is warmer than fourteen degrees.", "Feed sugar syrup in September, two litres for each colony."]


def named_cmap_font() -> list[bytes]:
    """A Japanese font that is not embedded and whose codes are Shift_JIS, as old Japanese programs write it."""
    system = b"<< /Registry (Adobe) /Ordering (Japan1) /Supplement 2 >>"
    shape = b"/Flags 6 /FontBBox [0 -200 1000 900] /ItalicAngle 0 /Ascent 800 /Descent -200 /CapHeight 700 /StemV 80"
    return [
        b"<< /Type /Font /Subtype /Type0 /BaseFont /Ryumin-Light-90ms-RKSJ-H /Encoding /90ms-RKSJ-H /DescendantFonts [6 0 R] >>",
        b"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /Ryumin-Light /CIDSystemInfo %b /FontDescriptor 7 0 R /DW 1000 >>" % system,
        b"<< /Type /FontDescriptor /FontName /Ryumin-Light %b >>" % shape,
    ]


def changed(pdf: bytes, change: Callable[[PdfWriter], None]) -> bytes:
    """The PDF after `change` worked on it with pypdf."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf)))
    change(writer)
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def without_unicode(writer: PdfWriter) -> None:
    """Take from every font its table from glyphs to characters: what is shown is right, what is copied is not."""
    from pypdf.generic import DictionaryObject

    for number in range(1, len(writer._objects) + 1):
        entry = writer.get_object(number)
        if isinstance(entry, DictionaryObject) and "/ToUnicode" in entry:
            del entry["/ToUnicode"]


def blank_second(writer: PdfWriter) -> None:
    """Put an empty page in second place."""
    writer.insert_blank_page(595, 842, index=1)


def damaged(printed: bytes) -> dict[str, bytes]:
    """Files that are not, or no longer, sound PDFs."""
    wrong_offsets = printed.replace(b"startxref\n", b"startxref\n9", 1)
    noise = random.Random(5).randbytes(4000)
    return {
        "pdf-broken-xref.pdf": wrong_offsets,
        "pdf-truncated.pdf": printed[: len(printed) // 2],
        "pdf-garbage.pdf": noise,
        "pdf-garbage-after-header.pdf": b"%PDF-1.7\n" + noise,
        "pdf-leading-junk.pdf": b"HTTP/1.1 200 OK\r\nContent-Type: application/pdf\r\n\r\n" + one_page(show(BEES)),
        "pdf-zero-pages.pdf": write_pdf([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [] /Count 0 >>"]),
        "pdf-loop.pdf": write_pdf([b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"]),
    }


def hidden() -> dict[str, bytes]:
    """Files in which something is written that nobody sees."""
    white = show(BEES) + b" 1 1 1 rg BT /F1 12 Tf 60 600 Td (%b) Tj ET" % passages.INSTRUCTION_EN.encode()
    unseen = show(BEES) + b" BT 3 Tr /F1 12 Tf 60 600 Td (%b) Tj ET" % passages.INSTRUCTION_EN.encode()
    tiny = show(BEES) + b" BT /F1 0.4 Tf 60 600 Td (%b) Tj ET" % passages.INSTRUCTION_EN.encode()
    outside = show(BEES) + b" BT /F1 12 Tf 60 -300 Td (%b) Tj ET" % passages.INSTRUCTION_EN.encode()
    style = "i{color:#fff;font-style:normal}"
    page = passages.html(passages.LIBRARY[:3], style=style, extra=f"<p><i>{passages.INSTRUCTION_JA}</i></p>")
    return {
        "pdf-hidden-white.pdf": one_page(white),
        "pdf-hidden-mode-3.pdf": one_page(unseen),
        "pdf-hidden-tiny.pdf": one_page(tiny),
        "pdf-hidden-outside.pdf": one_page(outside),
        "pdf-hidden-white-ja.pdf": print_page(page),
    }


def active() -> dict[str, bytes]:
    """Files that would like to run something, and files that carry another file."""
    script = b"/OpenAction << /S /JavaScript /JS (app.alert\\('hello'\\)) >>"
    launch = b"/OpenAction << /S /Launch /F (cmd.exe) >>"
    names = b"/Names << /EmbeddedFiles << /Names [(recipe.txt) 6 0 R] >> >>"
    attached = [b"<< /Type /Filespec /F (recipe.txt) /UF (recipe.txt) /EF << /F 7 0 R >> >>", stream(b"Attached: two cups of flour.", b"/Type /EmbeddedFile")]
    return {
        "pdf-javascript.pdf": one_page(show(BEES), catalog=script),
        "pdf-launch.pdf": one_page(show(BEES), catalog=launch),
        "pdf-attachment.pdf": one_page(show(BEES), catalog=names, extra=attached),
    }


def locked_by_qpdf(pdf: bytes) -> bytes:
    """The PDF with a user password and AES of 256 bits, as today's programs lock it."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "plain.pdf", Path(folder) / "locked.pdf"
        source.write_bytes(pdf)
        subprocess.run(["qpdf", "--encrypt", PASSWORD, "owner-secret", "256", "--", str(source), str(target)], check=True)
        return target.read_bytes()


def make() -> dict[str, bytes]:
    """File name → content."""
    printed = print_page(passages.html(passages.MINUTES))
    shown = "図書の返却は水曜日までにお願いします。".encode("cp932").hex().encode()
    long_line = show(["The conveyor belt must be stopped before cleaning. " * 50 + "Ask the shift leader for the red key."], size=10)

    def lock(user: str) -> Callable[[PdfWriter], None]:
        return lambda writer: writer.encrypt(user, "owner-secret", algorithm="RC4-128")

    return {
        **damaged(printed),
        **hidden(),
        **active(),
        "pdf-user-password.pdf": changed(printed, lock(PASSWORD)),
        "pdf-user-password-aes.pdf": locked_by_qpdf(printed),
        "pdf-owner-password.pdf": changed(printed, lock("")),
        "pdf-no-tounicode.pdf": changed(printed, without_unicode),
        "pdf-blank-page.pdf": one_page(b""),
        "pdf-blank-among-pages.pdf": changed(one_page(show(BEES)), blank_second),
        "pdf-shift-jis-cmap.pdf": one_page(b"BT /F1 14 Tf 60 770 Td <%b> Tj ET" % shown, font=named_cmap_font()),
        "pdf-rotated.pdf": one_page(show(BEES), page=b"/Rotate 90"),
        "pdf-long-line.pdf": one_page(long_line, width=14_400),
    }
