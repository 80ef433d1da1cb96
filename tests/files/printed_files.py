"""Documents made by LibreOffice, Chromium and Tesseract from our own text."""

from __future__ import annotations

import html
import io
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.files import passages
from tests.files.passages import Block

FODT = """<?xml version="1.0" encoding="UTF-8"?>
<office:document xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0"
 xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0"
 xmlns:fo="urn:oasis:names:tc:opendocument:xmlns:xsl-fo-compatible:1.0" office:version="1.2" office:mimetype="application/vnd.oasis.opendocument.text">
<office:styles><style:default-style style:family="paragraph"><style:text-properties style:font-name-asian="BIZ UDPGothic" style:font-name="DejaVu Sans"
 fo:font-family="DejaVu Sans" style:font-family-asian="BIZ UDPGothic" fo:font-size="11pt" style:font-size-asian="11pt"/></style:default-style></office:styles>
<office:automatic-styles>
<style:page-layout style:name="sheet"><style:page-layout-properties fo:page-width="{width}" fo:page-height="{height}" fo:margin="2cm"
 style:writing-mode="{writing}"/><style:header-style/><style:footer-style/></style:page-layout>
<style:style style:name="columns" style:family="section"><style:section-properties><style:columns fo:column-count="{columns}" fo:column-gap="1cm"/>
</style:section-properties></style:style>
</office:automatic-styles>
<office:master-styles><style:master-page style:name="Standard" style:page-layout-name="sheet">{header}</style:master-page></office:master-styles>
<office:body><office:text><text:section text:style-name="columns" text:name="body">{body}</text:section></office:text></office:body>
</office:document>
"""


def fodt(blocks: list[Block], *, columns: int = 1, writing: str = "lr-tb", landscape: bool = False, header: str = "") -> str:
    """A flat OpenDocument text of the blocks; `header` is a line on the top of each page."""
    parts: list[str] = []
    for kind, body in blocks:
        if kind == "h":
            parts.append(f'<text:h text:outline-level="{2 if parts else 1}">{html.escape(body)}</text:h>')
        elif kind == "p":
            parts.append(f"<text:p>{html.escape(body)}</text:p>")
        elif kind == "list":
            parts.append("<text:list>" + "".join(f"<text:list-item><text:p>{html.escape(item)}</text:p></text:list-item>" for item in body) + "</text:list>")
        else:
            cells = ["".join(f"<table:table-cell><text:p>{html.escape(cell)}</text:p></table:table-cell>" for cell in row) for row in body]
            rows = "".join(f"<table:table-row>{row}</table:table-row>" for row in cells)
            parts.append(f'<table:table><table:table-column table:number-columns-repeated="{len(body[0])}"/>{rows}</table:table>')
    top = f"<style:header><text:p>{html.escape(header)}</text:p></style:header>" if header else ""
    width, height = ("29.7cm", "21cm") if landscape else ("21cm", "29.7cm")
    return FODT.format(body="".join(parts), columns=columns, writing=writing, width=width, height=height, header=top)


def convert(source: bytes | str, suffix: str, target: str) -> bytes:
    """`source` (a file of type `suffix`) as LibreOffice writes it in the format `target`, such as "pdf" or "docx:MS Word 2007 XML"."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"source.{suffix}"
        path.write_bytes(source.encode() if isinstance(source, str) else source)
        profile = f"-env:UserInstallation={(Path(tempfile.gettempdir()) / 'documents-office').as_uri()}"
        command = ["soffice", profile, "--headless", "--convert-to", target, "--outdir", folder, str(path)]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
        return (Path(folder) / f"source.{target.split(':')[0]}").read_bytes()


def print_page(page: str) -> bytes:
    """The PDF that Chromium prints of an HTML page."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "page.html", Path(folder) / "page.pdf"
        source.write_text(page, encoding="utf-8")
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer", f"--user-data-dir={folder}/profile"]
        subprocess.run([*command, f"--print-to-pdf={target}", str(source)], check=True, capture_output=True, timeout=120)
        return target.read_bytes()


def scan(page: bytes, *, degrees: float = 0.7, noise: float = 9.0, dots: int = 130) -> Image.Image:
    """The first page of a PDF as a scanner would see it: grey, a little turned, with grain. `dots` is the resolution in dots per inch."""
    import pypdfium2

    picture = pypdfium2.PdfDocument(page)[0].render(scale=dots / 72).to_pil().convert("L")
    turned = picture.rotate(degrees, fillcolor=255, resample=Image.Resampling.BICUBIC)
    grain = np.random.default_rng(7).normal(-6.0, noise, (turned.height, turned.width))
    return Image.fromarray(np.clip(np.asarray(turned, dtype=np.float64) + grain, 0, 255).astype(np.uint8))


def picture_pdf(pictures: list[Image.Image], *, dots: int = 130) -> bytes:
    """A PDF with one picture per page and no text."""
    target = io.BytesIO()
    pictures[0].save(target, "PDF", save_all=True, append_images=pictures[1:], resolution=dots, quality=45)
    return target.getvalue()


def with_text_layer(picture: Image.Image, language: str) -> bytes:
    """The PDF that Tesseract makes of a scan: the picture, and over it the words it read, invisible."""
    with tempfile.TemporaryDirectory() as folder:
        picture.save(Path(folder) / "scan.jpg", quality=45, dpi=(130, 130))
        subprocess.run(["tesseract", f"{folder}/scan.jpg", f"{folder}/out", "-l", language, "pdf"], check=True, capture_output=True, timeout=300)
        return (Path(folder) / "out.pdf").read_bytes()


RUNNING = """@page{size:A4;margin:25mm 20mm;@top-left{content:"つきみ文具 社内文書集 2026年版";font:9pt "BIZ UDPGothic"}
@bottom-center{content:"社外秘 複写禁止 " counter(page);font:9pt "BIZ UDPGothic"}}section{break-after:page}"""


def running_pages() -> str:
    """A page that prints on five sheets, with the same line at the top and at the foot of each."""
    chapters = [passages.CHILDCARE, passages.DISASTER, passages.LIBRARY, passages.CURRY, passages.MINUTES]
    paragraphs = ["".join(f"<p>{body}</p>" for kind, body in blocks if kind == "p") for blocks in chapters]
    inside = "".join(f"<section><h2>{blocks[0][1]}</h2>{text}</section>" for blocks, text in zip(chapters, paragraphs, strict=True))
    return passages.html([("h", "社内文書集")], style=RUNNING, extra=inside)


def make() -> dict[str, bytes]:
    """File name → content."""
    columns = "body>p{margin:0 0 1em}body{columns:2;column-gap:12mm;text-align:justify}h1{font-size:14pt}"
    vertical = 'body{writing-mode:vertical-rl;font:13pt/2 "BIZ UDPMincho",serif}'
    ruby = "<p><ruby>躊躇<rt>ちゅうちょ</rt></ruby>せずに、<ruby>係員<rt>かかりいん</rt></ruby>を呼んでください。</p>"
    wide = "@page{size:A4 landscape}"
    rules, climbing = print_page(passages.html(passages.DISASTER)), print_page(passages.html(passages.CLIMBING, lang="en"))
    text = convert(fodt(passages.CHILDCARE), "fodt", "docx:MS Word 2007 XML")
    return {
        "pdf-lo-ja.pdf": convert(fodt(passages.CHILDCARE), "fodt", "pdf"),
        "pdf-lo-en.pdf": convert(fodt(passages.WAREHOUSE), "fodt", "pdf"),
        "pdf-lo-mixed.pdf": convert(fodt(passages.RELEASE), "fodt", "pdf"),
        "pdf-lo-two-columns.pdf": convert(fodt((passages.ORCHARD + passages.WAREHOUSE) * 2 + passages.SURVEY[:4], columns=2), "fodt", "pdf"),
        "pdf-lo-table-landscape.pdf": convert(fodt(passages.INVOICE, landscape=True), "fodt", "pdf"),
        "pdf-lo-vertical.pdf": convert(fodt(passages.LETTER, writing="tb-rl"), "fodt", "pdf"),
        "pdf-lo-header.pdf": convert(fodt((passages.ORCHARD + passages.WAREHOUSE) * 5, header="Hillside Farm — internal paper 12"), "fodt", "pdf"),
        "pdf-chromium-ja.pdf": rules,
        "pdf-chromium-en.pdf": climbing,
        "pdf-chromium-mixed.pdf": print_page(passages.html(passages.RELEASE)),
        "pdf-chromium-table.pdf": print_page(passages.html(passages.PRICES)),
        "pdf-chromium-two-columns.pdf": print_page(passages.html(passages.LIBRARY + passages.CHILDCARE, style=columns)),
        "pdf-chromium-vertical.pdf": print_page(passages.html(passages.LETTER, style=vertical)),
        "pdf-chromium-ruby.pdf": print_page(passages.html(passages.LETTER[:2], extra=ruby)),
        "pdf-chromium-header-footer.pdf": print_page(running_pages()),
        "pdf-chromium-landscape.pdf": print_page(passages.html(passages.SURVEY, style=wide, lang="en")),
        "pdf-scan-ja.pdf": picture_pdf([scan(rules), scan(print_page(passages.html(passages.CURRY)), degrees=-0.5)]),
        "pdf-scan-en.pdf": picture_pdf([scan(climbing, degrees=0.4)]),
        "pdf-scan-text-layer.pdf": with_text_layer(scan(climbing, degrees=0.1, noise=4.0), "eng"),
        "docx-lo-ja.docx": text,
        "docx-lo-en.docx": convert(fodt(passages.SURVEY), "fodt", "docx:MS Word 2007 XML"),
        "doc-lo-old.doc": convert(fodt(passages.MINUTES), "fodt", "doc:MS Word 97"),
        "odt-lo.odt": convert(fodt(passages.CURRY), "fodt", "odt"),
        "rtf-lo.rtf": convert(fodt(passages.WAREHOUSE), "fodt", "rtf"),
    }
