"""Files too large to keep: 2,000 pages, bombs, one very long line. Each is written when a test asks for it."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable

from tests.files.pdf_files import HELVETICA, show, stream, write_pdf

MEBIBYTE = 1 << 20


def pages_2000() -> bytes:
    """A PDF of 2,000 pages with text of their own."""
    count = 2000
    kids = b" ".join(b"%d 0 R" % (4 + 2 * index) for index in range(count))
    objects = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, count), HELVETICA]
    for index in range(count):
        entries = b"/MediaBox [0 0 595 842] /Contents %d 0 R /Resources << /Font << /F1 3 0 R >> >>" % (5 + 2 * index)
        lines = [f"Parts catalogue, sheet {index + 1}", f"Screw type {index * 7 + 3} fits the bracket of series {index % 90}.", "Order at least fifty pieces."]
        objects += [b"<< /Type /Page /Parent 2 0 R %b >>" % entries, stream(show(lines))]
    return write_pdf(objects)


def squeezed(piece: bytes, times: int) -> bytes:
    """`piece` repeated `times` and deflated, without ever holding the whole."""
    deflate = zlib.compressobj(9)
    return b"".join([*(deflate.compress(piece) for _ in range(times)), deflate.flush()])


def flate_bomb() -> bytes:
    """A PDF of about 1 MB whose one content stream unpacks to 1 GiB of spaces."""
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R >>"
    heads = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>", page]
    return write_pdf([*heads, stream(squeezed(b" " * MEBIBYTE, 1024), b"/Filter /FlateDecode")])


def shared_stream() -> bytes:
    """A PDF of 500 pages that all show the same stream of 1 MiB of drawing operators: small on disk, 500 times the work."""
    count = 500
    kids = b" ".join(b"%d 0 R" % (5 + index) for index in range(count))
    operators = squeezed((b"0 0 m 1 1 l S\n" * 75_000)[:MEBIBYTE], 1)
    page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 3 0 R >> >> >>"
    heads = [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [%b] /Count %d >>" % (kids, count), HELVETICA]
    return write_pdf([*heads, stream(operators, b"/Filter /FlateDecode"), *([page] * count)])


def one_line() -> bytes:
    """1 MB of Japanese on one line with no punctuation at all."""
    return ("春夏秋冬東西南北" * 43_690 + "倉庫の合言葉は山吹").encode()


def archive(members: dict[str, Callable[[], bytes] | bytes]) -> bytes:
    """A ZIP of the members."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        for name, body in members.items():
            target.writestr(name, body if isinstance(body, bytes) else body())
    return out.getvalue()


def zip_bomb() -> bytes:
    """A ZIP of 250 KB with five texts of 48 MiB."""
    return archive({f"log-{number}.txt": b"0" * (48 * MEBIBYTE) for number in range(5)})


def zip_of_many() -> bytes:
    """A ZIP of 20,000 tiny members."""
    return archive({f"note-{number:05}.txt": b"note" for number in range(20_000)})


def docx_bomb() -> bytes:
    """A DOCX whose document part unpacks to 240 MiB of spaces."""
    from tests.files.office_files import CONTENT_TYPES, RELATIONS

    body = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p/>'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as target:
        target.writestr("[Content_Types].xml", CONTENT_TYPES)
        target.writestr("_rels/.rels", RELATIONS)
        with target.open("word/document.xml", "w") as part:
            part.write(body.encode())
            for _ in range(240):
                part.write(b" " * MEBIBYTE)
            part.write(b"</w:body></w:document>")
    return out.getvalue()


LARGE: dict[str, Callable[[], bytes]] = {
    "pages-2000.pdf": pages_2000,
    "flate-bomb.pdf": flate_bomb,
    "shared-stream.pdf": shared_stream,
    "one-line.txt": one_line,
    "zip-bomb.zip": zip_bomb,
    "zip-of-many.zip": zip_of_many,
    "docx-bomb.docx": docx_bomb,
}
