"""Word, PowerPoint and Excel files, as people save them and as they arrive broken."""

from __future__ import annotations

import io
import struct
import zipfile
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from tests.files import passages
from tests.files.printed_files import convert, fodt

if TYPE_CHECKING:
    from docx.document import Document

W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
CONTENT_TYPES = (
    '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/word/document.xml" ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>'
)
RELATIONS = (
    '<?xml version="1.0"?><Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="word/document.xml"/></Relationships>'
)


def saved(thing: Any) -> bytes:
    """What a python-docx, python-pptx or openpyxl object saves."""
    out = io.BytesIO()
    thing.save(out)
    return out.getvalue()


def fill(document: Document, blocks: list[passages.Block]) -> Document:
    """The blocks in a Word document."""
    for kind, body in blocks:
        if kind == "h":
            document.add_heading(body, 1)
        elif kind == "p":
            document.add_paragraph(body)
        elif kind == "list":
            for item in body:
                document.add_paragraph(item, style="List Bullet")
        else:
            table = document.add_table(len(body), len(body[0]), style="Table Grid")
            for row, cells in enumerate(body):
                for column, cell in enumerate(cells):
                    table.cell(row, column).text = cell
    return document


def written(blocks: list[passages.Block]) -> Document:
    """A new Word document of the blocks."""
    import docx

    return fill(docx.Document(), blocks)


def add_xml(document: Document, inside: str) -> None:
    """Append a paragraph given as WordprocessingML."""
    from docx.oxml import parse_xml

    spaces = (
        f'xmlns:w="{W}" xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" xmlns:v="urn:schemas-microsoft-com:vml" '
        'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
        'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"'
    )
    document.element.body.insert(len(document.element.body) - 1, parse_xml(f"<w:p {spaces}>{inside}</w:p>"))


def report() -> Document:
    """A report as a person writes it in Word: header, footer, headings, list, table."""
    document = written(passages.WAREHOUSE + passages.PRICES)
    section = document.sections[0]
    section.header.paragraphs[0].text = "Warehouse safety — internal"
    section.footer.paragraphs[0].text = "Printed copies are not controlled"
    return document


def nested_table() -> Document:
    """A table in a cell of a table, and cells merged over two columns."""
    document = written([("h", "会議室の一覧")])
    outer = document.add_table(2, 2, style="Table Grid")
    outer.cell(0, 0).merge(outer.cell(0, 1)).text = "本館3階の会議室"
    outer.cell(1, 0).text = "いちょう"
    inner = outer.cell(1, 1).add_table(2, 2)
    for index, text in enumerate(["定員", "12名", "設備", "大型モニターと白板"]):
        inner.cell(index // 2, index % 2).text = text
    return document


def tracked_changes() -> Document:
    """A sentence in which a word was deleted and another one inserted, with both changes still open."""
    document = written([("h", "Parking rules")])
    mark = 'w:id="{}" w:author="Mori" w:date="2026-05-01T09:00:00Z"'
    add_xml(
        document,
        '<w:r><w:t xml:space="preserve">Bicycles stand in the </w:t></w:r>'
        f"<w:del {mark.format(1)}><w:r><w:delText>basement</w:delText></w:r></w:del><w:ins {mark.format(2)}><w:r><w:t>courtyard</w:t></w:r></w:ins>"
        '<w:r><w:t xml:space="preserve"> behind the canteen.</w:t></w:r>',
    )
    return document


def text_box() -> Document:
    """A text box as Word saves it: once for new versions and once for old ones."""
    document = written([("h", "お知らせ"), ("p", "食堂の営業時間が変わります。")])
    box = "<w:txbxContent><w:p><w:r><w:t>新しい営業時間は11時15分から13時45分までです。</w:t></w:r></w:p></w:txbxContent>"
    shape = f'<a:graphic><a:graphicData uri="x"><wps:wsp><wps:txbx>{box}</wps:txbx></wps:wsp></a:graphicData></a:graphic>'
    new = f'<mc:Choice Requires="wps"><w:drawing><wp:anchor>{shape}</wp:anchor></w:drawing></mc:Choice>'
    old = f"<mc:Fallback><w:pict><v:shape><v:textbox>{box}</v:textbox></v:shape></w:pict></mc:Fallback>"
    add_xml(document, f"<w:r><mc:AlternateContent>{new}{old}</mc:AlternateContent></w:r>")
    return document


def ruby_and_hidden() -> dict[str, bytes]:
    """A word with its reading above it, and a sentence set to be hidden."""
    ruby, hidden = written([("h", "案内")]), written(passages.LIBRARY[:2])
    reading = "<w:ruby><w:rubyPr/><w:rt><w:r><w:t>ひなんかいだん</w:t></w:r></w:rt><w:rubyBase><w:r><w:t>避難階段</w:t></w:r></w:rubyBase></w:ruby>"
    add_xml(ruby, f"<w:r><w:t>東側の</w:t></w:r><w:r>{reading}</w:r><w:r><w:t>を使ってください。</w:t></w:r>")
    add_xml(hidden, f"<w:r><w:rPr><w:vanish/></w:rPr><w:t>{passages.INSTRUCTION_JA}</w:t></w:r>")
    return {"docx-ruby.docx": saved(ruby), "docx-hidden.docx": saved(hidden)}


def footnotes() -> bytes:
    """A document with a footnote, converted by LibreOffice from its own format."""
    said = "<text:note-body><text:p>祝日にあたる週は金曜日に回収します。</text:p></text:note-body>"
    note = f'<text:note text:note-class="footnote"><text:note-citation>1</text:note-citation>{said}</text:note>'
    marked = fodt([("h", "ごみの出しかた"), ("p", "古紙は木曜日に回収します。@@")]).replace("@@", note)
    return convert(marked, "fodt", "docx:MS Word 2007 XML")


def ole_container(names: list[str]) -> bytes:
    """A minimal OLE compound file (version 3) with empty streams of these names: how Word saves a file with a password."""
    fields = (0x3E, 3, 0xFFFE, 9, 6, 0, 1, 1, 0, 4096, 0xFFFFFFFE, 0, 0xFFFFFFFE, 0)
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH6xIIIIIIIII", *fields)
    header += struct.pack("<I", 0) + b"\xff" * (512 - len(header) - 4)
    fat = struct.pack("<II", 0xFFFFFFFD, 0xFFFFFFFE) + b"\xff" * 504

    def entry(name: str, kind: int, right: int, child: int) -> bytes:
        title = (name + "\0").encode("utf-16-le")
        return title.ljust(64, b"\0") + struct.pack("<HBBIII", len(title), kind, 1, 0xFFFFFFFF, right, child) + bytes(36) + struct.pack("<IQ", 0xFFFFFFFE, 0)

    entries = [entry("Root Entry", 5, 0xFFFFFFFF, 1)]
    entries += [entry(name, 2, index + 2 if index + 1 < len(names) else 0xFFFFFFFF, 0xFFFFFFFF) for index, name in enumerate(names)]
    return header + fat + b"".join(entries).ljust(512, b"\0")


def package(document: str) -> bytes:
    """A DOCX that consists of this document part only."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("[Content_Types].xml", CONTENT_TYPES)
        target.writestr("_rels/.rels", RELATIONS)
        target.writestr("word/document.xml", document)
    return out.getvalue()


def billion_laughs() -> bytes:
    """A DOCX whose document part defines entities that grow tenfold nine times."""
    entities = "".join(f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 10))
    body = f'<w:document xmlns:w="{W}"><w:body><w:p><w:r><w:t>&l9;</w:t></w:r></w:p></w:body></w:document>'
    return package(f'<?xml version="1.0"?><!DOCTYPE w [<!ENTITY l0 "ha">{entities}]>{body}')


def outside_entity() -> bytes:
    """A DOCX that asks the reader to put a file of the machine into the text."""
    body = f'<w:document xmlns:w="{W}"><w:body><w:p><w:r><w:t>Shelf list &me;</w:t></w:r></w:p></w:body></w:document>'
    return package(f'<?xml version="1.0"?><!DOCTYPE w [<!ENTITY me SYSTEM "file:///etc/hostname">]>{body}')


def slides() -> bytes:
    """Three slides: a title, a list with speaker notes, a table."""
    from pptx import Presentation
    from pptx.util import Cm

    show = Presentation()
    first = show.slides.add_slide(show.slide_layouts[0])
    first.shapes.title.text, first.placeholders[1].text = "新人研修のご案内", "2026年4月 人事課"
    second = show.slides.add_slide(show.slide_layouts[1])
    second.shapes.title.text, second.placeholders[1].text = "研修の内容", "電話の受けかた\n見積書の作りかた\n倉庫の見学"
    second.notes_slide.notes_text_frame.text = "倉庫の見学では、安全靴を貸し出すことを忘れずに伝える。"
    third = show.slides.add_slide(show.slide_layouts[5])
    third.shapes.title.text = "日程"
    table = third.shapes.add_table(2, 2, Cm(2), Cm(5), Cm(18), Cm(3)).table
    for index, text in enumerate(["4月3日", "電話の受けかた", "4月7日", "倉庫の見学"]):
        table.cell(index // 2, index % 2).text = text
    return saved(show)


def workbook() -> bytes:
    """Two sheets with dates, merged cells, full-width digits, a hidden sheet and formulas that were never computed."""
    from openpyxl import Workbook

    book = Workbook()
    stock, people = book.active, book.create_sheet("担当者")
    stock.title = "在庫"
    stock.append(["品名", "数量", "入荷日"])
    stock.append(["万年筆インク（紺）", 84, date(2026, 5, 12)])
    stock.append(["方眼ノートA5", 230, datetime(2026, 6, 3, 13, 30)])
    stock["A5"] = "棚卸しは毎月末に行う"
    stock.merge_cells("A5:C5")
    people.append(["氏名", "電話"])
    people.append(["村瀬 千景", "０９０－１２３４－５６７８"])
    secret = book.create_sheet("控え")
    secret.sheet_state = "hidden"
    secret.append([passages.INSTRUCTION_JA])
    return saved(book)


def formulas() -> bytes:
    """A sheet with a sum that was just written by a program, never computed."""
    from openpyxl import Workbook

    book = Workbook()
    for row in (["費目", "金額"], ["交通費", 12480], ["宿泊費", 23500], ["合計", "=SUM(B2:B3)"]):
        book.active.append(row)
    return saved(book)


def computed() -> bytes:
    """The same sheet as a spreadsheet program saves it, with the value beside the formula."""
    space = "urn:oasis:names:tc:opendocument:xmlns:{}:1.0"
    spaces = " ".join(f'xmlns:{name}="{space.format(name)}"' for name in ("office", "text", "table"))
    rows = "".join(
        f'<table:table-row><table:table-cell office:value-type="string"><text:p>{title}</text:p></table:table-cell>'
        f'<table:table-cell office:value-type="float" {value}/></table:table-row>'
        for title, value in {"交通費": 'office:value="12480"', "宿泊費": 'office:value="23500"', "合計": 'table:formula="of:=SUM([.B1:.B2])"'}.items()
    )
    sheet = f'<office:body><office:spreadsheet><table:table table:name="精算">{rows}</table:table></office:spreadsheet></office:body>'
    heads = f'{spaces} xmlns:of="urn:oasis:names:tc:opendocument:xmlns:of:1.2" office:version="1.2"'
    book = f'<office:document {heads} office:mimetype="application/vnd.oasis.opendocument.spreadsheet">{sheet}</office:document>'
    return convert(f'<?xml version="1.0" encoding="UTF-8"?>{book}', "fods", "xlsx:Calc MS Excel 2007 XML")


def make() -> dict[str, bytes]:
    """File name → content."""
    locked = ole_container(["EncryptedPackage", "EncryptionInfo"])
    report_bytes = saved(report())
    return {
        "docx-word-report.docx": report_bytes,
        "docx-nested-table.docx": saved(nested_table()),
        "docx-footnotes.docx": footnotes(),
        "docx-text-box.docx": saved(text_box()),
        "docx-tracked-changes.docx": saved(tracked_changes()),
        **ruby_and_hidden(),
        "docx-password.docx": locked,
        "docx-billion-laughs.docx": billion_laughs(),
        "docx-outside-entity.docx": outside_entity(),
        "docx-truncated.docx": report_bytes[: len(report_bytes) // 2],
        "docx-empty.docx": saved(written([])),
        "pptx-training.pptx": slides(),
        "pptx-lo.pptx": convert(slides(), "pptx", "pptx:Impress MS PowerPoint 2007 XML"),
        "pdf-lo-slides.pdf": convert(slides(), "pptx", "pdf"),
        "xlsx-stock.xlsx": workbook(),
        "xlsx-formulas.xlsx": computed(),
        "xlsx-formulas-not-computed.xlsx": formulas(),
        "xls-lo-old.xls": convert(workbook(), "xlsx", "xls:MS Excel 97"),
    }
