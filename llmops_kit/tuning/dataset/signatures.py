"""Files that hold no rows, told by their first bytes whatever they are called: programs, pickles, archives, pictures."""

from __future__ import annotations

import re

HEAD_BYTES = 65_536
_Reason = tuple[str, str]
_RUNS_CODE = ("a pickle, which can run code when it is opened; it is not read. Save the rows as JSONL or CSV",
              "pickleです。開くだけでプログラムが動くことがあるため読み込みません。行をJSONLかCSVで保存してください")  # fmt: skip
_ARCHIVE = ("an archive ({kind}); unpack it and give the file with the rows", "圧縮ファイル（{kind}）です。展開して、行の入ったファイルを指定してください")
_PROGRAM = ("a program ({kind}), not data", "プログラム（{kind}）です。データではありません")
_PICTURE = ("a picture or a sound ({kind}), not rows of text", "画像か音声（{kind}）です。文章の行ではありません")
_DOCUMENT = ("{kind}, not rows. Documents go to the Documents tab; for training save rows as JSONL or CSV",
             "{kind}です。行のあるデータではありません。文書は「文書に質問」タブへ、学習用の行はJSONLかCSVで保存してください")  # fmt: skip
_TABLE = ("{kind}, which is not read here; save the rows as JSONL or CSV", "{kind}です。ここでは読めません。行をJSONLかCSVで保存してください")

_SIGNATURES: tuple[tuple[bytes, _Reason, str], ...] = (
    (b"%PDF-", _DOCUMENT, "PDF"),
    (b"{\\rtf", _DOCUMENT, "RTF"),
    (b"\x1f\x8b", _ARCHIVE, "gzip"),
    (b"BZh", _ARCHIVE, "bzip2"),
    (b"\xfd7zXZ\x00", _ARCHIVE, "xz"),
    (b"7z\xbc\xaf\x27\x1c", _ARCHIVE, "7z"),
    (b"Rar!\x1a\x07", _ARCHIVE, "RAR"),
    (b"\x28\xb5\x2f\xfd", _ARCHIVE, "zstd"),
    (b"PK\x05\x06", _ARCHIVE, "ZIP"),
    (b"\x7fELF", _PROGRAM, "ELF"),
    (b"MZ", _PROGRAM, "Windows"),
    (b"\xcf\xfa\xed\xfe", _PROGRAM, "macOS"),
    (b"\xca\xfe\xba\xbe", _PROGRAM, "Java, macOS"),
    (b"#!", _PROGRAM, "script"),
    (b"PAR1", _TABLE, "Parquet"),
    (b"ARROW1", _TABLE, "Arrow"),
    (b"SQLite format 3\x00", _TABLE, "SQLite"),
    (b"\x89HDF\r\n", _TABLE, "HDF5"),
    (b"\x93NUMPY", _TABLE, "NumPy"),
    (b"GGUF", _TABLE, "GGUF"),
    (b"\x89PNG", _PICTURE, "PNG"),
    (b"\xff\xd8\xff", _PICTURE, "JPEG"),
    (b"GIF8", _PICTURE, "GIF"),
    (b"ID3", _PICTURE, "MP3"),
    (b"RIFF", _PICTURE, "RIFF"),
)
_TEXT_PICKLE = re.compile(rb"\(?[ldit]p\d+\n|c[A-Za-z_][\w.]*\n[A-Za-z_]\w*\n|\(c[A-Za-z_][\w.]*\n")
_MARKUP = re.compile(rb"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)


def find_reason(head: bytes) -> tuple[str, str] | None:
    """Why a file that begins with `head` is not read, in English and Japanese; None where nothing speaks against it."""
    if _is_pickle(head):
        return _RUNS_CODE
    if head[257:262] == b"ustar":
        return _fill(_ARCHIVE, "tar")
    for start, reason, kind in _SIGNATURES:
        if head.startswith(start) and not _is_text_after_all(start, head):
            return _fill(reason, kind)
    return _fill(_DOCUMENT, "HTML/XML") if _MARKUP.match(head) else None


def describe_zip(members: list[str]) -> tuple[str, str] | None:
    """Why a ZIP with these members is not read; None where it is an XLSX workbook."""
    if "xl/workbook.xml" in members:
        return None
    if any(name.endswith(("data.pkl", ".pkl")) for name in members):
        return _RUNS_CODE
    kinds = {"word/document.xml": "DOCX", "ppt/presentation.xml": "PPTX"}
    found = next((kinds[name] for name in members if name in kinds), None)
    return _fill(_DOCUMENT, found) if found else _fill(_ARCHIVE, "ZIP")


def _is_pickle(head: bytes) -> bool:
    """Protocol 2 and later begin with 0x80 and the version; the text protocol with a mark for a list, a mapping or a class."""
    return (head[:1] == b"\x80" and head[1:2] in b"\x02\x03\x04\x05" and len(head) > 2) or _TEXT_PICKLE.match(head) is not None


def _is_text_after_all(start: bytes, head: bytes) -> bool:
    """Whether a short signature made of letters is the beginning of an ordinary text, such as the column `MZ`."""
    return start in (b"MZ", b"BZh", b"ID3", b"RIFF", b"GGUF", b"PAR1", b"GIF8") and b"\x00" not in head


def _fill(reason: _Reason, kind: str) -> _Reason:
    return reason[0].format(kind=kind), reason[1].format(kind=kind)
