"""Which formats are read, by which reader, and what a file is by its content and its name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from types import MappingProxyType
from typing import Final, NamedTuple

from llmops_kit.documents.reading.container import look_inside
from llmops_kit.documents.reading.records import Unreadable

_HERE = "llmops_kit.documents.reading"


class Format(NamedTuple):
    """A kind of file: the suffixes it goes by, where its reader is (`module:function`), and whether it is read in the guarded process only."""

    suffixes: tuple[str, ...]
    reader: str
    needs_guard: bool = True


FORMATS: Final[Mapping[str, Format]] = MappingProxyType(
    {
        "pdf": Format((".pdf",), f"{_HERE}.pdf:read_pdf"),
        "docx": Format((".docx", ".docm", ".dotx", ".dotm"), f"{_HERE}.office:read_docx"),
        "pptx": Format((".pptx", ".pptm", ".ppsx", ".ppsm", ".potx"), f"{_HERE}.slides:read_pptx"),
        "xlsx": Format((".xlsx", ".xlsm", ".xltx", ".xltm"), f"{_HERE}.sheets:read_xlsx"),
        "html": Format((".html", ".htm", ".xhtml"), f"{_HERE}.markup:read_html"),
        "md": Format((".md", ".markdown", ".mkd", ".mdown"), f"{_HERE}.text:read_markdown"),
        "csv": Format((".csv",), f"{_HERE}.sheets:read_csv"),
        "tsv": Format((".tsv", ".tab"), f"{_HERE}.sheets:read_csv"),
        "json": Format((".json",), f"{_HERE}.json_text:read_json"),
        "jsonl": Format((".jsonl", ".ndjson"), f"{_HERE}.json_text:read_jsonl"),
        "eml": Format((".eml", ".mht", ".mhtml"), f"{_HERE}.mail:read_eml"),
        "txt": Format((".txt", ".text", ".log", ".rst", ".adoc", ".org", ".tex", ".yaml", ".yml", ".toml", ".ini", ".srt", ".vtt"), f"{_HERE}.text:read_text"),
        "zip": Format((".zip",), f"{_HERE}.archive:expand"),
    }
)

_TEXT_KINDS = ("html", "md", "csv", "tsv", "json", "jsonl", "eml", "txt")
_HEAD_BYTES = 4096
_PROGRAMS = ((b"MZ", "Windows"), (b"\x7fELF", "Linux"), (b"\xcf\xfa\xed\xfe", "macOS"), (b"\xce\xfa\xed\xfe", "macOS"), (b"\xca\xfe\xba\xbe", "Java, macOS"))
_OTHERS = (
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"BM", "BMP"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"RIFF", "WebP, WAV, AVI"),
    (b"8BPS", "Photoshop"),
    (b"ID3", "MP3"),
    (b"OggS", "Ogg"),
    (b"fLaC", "FLAC"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "RAR"),
    (b"\x1f\x8b", "gzip"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard"),
    (b"SQLite format 3\x00", "SQLite"),
    (b"PAR1", "Parquet"),
    (b"wOFF", "WOFF"),
    (b"\x00\x01\x00\x00", "TrueType"),
)
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_OLE_STREAMS = (("WordDocument", ".doc", "docx"), ("PowerPoint Document", ".ppt", "pptx"), ("Workbook", ".xls", "xlsx"), ("__substg1.0_", ".msg", "eml"))
_HTML = re.compile(rb"\s*(?:<\?xml[^>]{0,200}\?>\s*)?(?:<!--[^>]{0,500}-->\s*){0,5}<(?:!doctype\s+html|html|head|body|meta|title|table)[\s>]", re.IGNORECASE)
_MAIL = re.compile(
    rb"(?:(?:received|return-path|from|to|date|subject|message-id|mime-version|delivered-to|dkim-signature|x-[\w-]+|content-type):.*\r?\n"
    rb"(?:[ \t].*\r?\n)*){3}",
    re.IGNORECASE,
)


def detect(data: bytes, name: str) -> str:
    """The kind of the file (a key of `FORMATS`): what its content is; among kinds of plain text what its suffix says.

    Raises: `Unreadable` for an empty file, a program, an old or protected Office file, and whatever is none of `FORMATS`.
    """
    if not data.strip():
        raise Unreadable("empty")
    suffix = PurePath(name).suffix.lower()
    if data.startswith(b"%PDF-") or (suffix == ".pdf" and b"%PDF-" in data[:1024]):
        return "pdf"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return look_inside(data, name)
    if data.startswith(_OLE):
        raise _refuse_ole(data, suffix)
    _refuse_binary(data[:_HEAD_BYTES], suffix)
    return _text_kind(data, suffix)


def kind_by_suffix(name: str) -> str | None:
    """The kind the suffix of `name` stands for, None for a suffix of no kind."""
    suffix = PurePath(name).suffix.lower()
    return next((kind for kind, each in FORMATS.items() if suffix in each.suffixes), None)


def is_renamed(kind: str, name: str) -> bool:
    """Whether the name of a file of `kind` says something else than its content."""
    return kind_by_suffix(name) != kind


def list_suffixes() -> list[str]:
    """The suffix of every kind, for sentences that say what is allowed."""
    return [each.suffixes[0] for each in FORMATS.values()]


def _refuse_ole(data: bytes, suffix: str) -> Unreadable:
    """Old Office files and encrypted new ones share one container; the names of their streams (UTF-16) tell them apart."""
    if "EncryptedPackage".encode("utf-16-le") in data:
        return Unreadable("protected", detail={"en": "an Office password", "ja": "Officeのパスワード"})
    for stream, old, better in _OLE_STREAMS:
        if stream.encode("utf-16-le") in data:
            return Unreadable("old_format", suffix=old, better=better)
    return Unreadable("old_format", suffix=suffix or ".doc / .xls / .ppt", better="docx / xlsx / pptx / pdf")


def _refuse_binary(head: bytes, suffix: str) -> None:
    if head.startswith(b"{\\rtf"):
        raise Unreadable("old_format", suffix=".rtf", better="docx")
    if head.startswith(b"%!PS"):
        raise Unreadable("old_format", suffix=".ps", better="pdf")
    # "MZ" and "BM" can also begin a sentence; a binary file has zero bytes near its start.
    is_binary = b"\x00" in head
    for marks, key in ((_PROGRAMS, "program"), (_OTHERS, "")):
        for mark, found in marks:
            if head.startswith(mark) and (is_binary or not mark.isascii() or len(mark) > 3):
                raise Unreadable(key, found=found) if key else refuse_kind(found, suffix)
    if head[4:8] == b"ftyp":
        raise refuse_kind("MP4, HEIC", suffix)
    if head[2:7] in (b"-lh5-", b"-lh0-", b"-lh7-"):
        raise refuse_kind("LZH", suffix)


def refuse_kind(found: str | dict[str, str], suffix: str) -> Unreadable:
    """The refusal of a file that is `found`: what its name promises is said too where it promises a kind that is read."""
    if any(suffix in each.suffixes for each in FORMATS.values()):
        return Unreadable("mismatch", suffix=suffix, found=found, allowed=list_suffixes())
    both = found if isinstance(found, dict) else {"en": found, "ja": found}
    shown = {language: f"{suffix} · {text}" if suffix else text for language, text in both.items()}
    return Unreadable("unknown_format", suffix=shown, allowed=list_suffixes())


def _text_kind(data: bytes, suffix: str) -> str:
    head = data[:_HEAD_BYTES].removeprefix(b"\xef\xbb\xbf")
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\x00" in head:
        head = head.lstrip(b"\xff\xfe").replace(b"\x00", b"")  # enough of UTF-16 to see tags
    named = next((kind for kind in _TEXT_KINDS if suffix in FORMATS[kind].suffixes), None)
    is_html = _HTML.match(head) is not None
    if named == "html":
        return "html" if is_html or re.search(rb"<[a-zA-Z!/]", data) or b"<\x00" in data else "txt"
    if is_html and named not in ("md", "eml"):
        return "html"
    if _MAIL.match(head) and (named is None or named in ("eml", "txt")):
        return "eml"
    if head.lstrip().startswith(b"<?xml") and named != "md":
        raise refuse_kind("XML", suffix)
    if named is None and suffix in (".doc", ".xls", ".docx", ".xlsx", ".pptx", ".ppt", ".pdf", ".zip"):
        return _table_kind(head) if suffix in (".xls", ".xlsx") else _check_text(data, suffix)
    return named or _check_text(data, suffix)


def _table_kind(head: bytes) -> str:
    """Programs write tables of plain text under the name of a workbook."""
    return "tsv" if head.count(b"\t") > head.count(b",") else "csv"


def _check_text(data: bytes, suffix: str) -> str:
    """Give "txt" for a file whose name says nothing, if it is text at all."""
    controls = sum(data[:_HEAD_BYTES].count(bytes([each])) for each in (*range(1, 9), *range(14, 27)))
    if controls > 0.02 * len(data[:_HEAD_BYTES]):
        raise refuse_kind({"en": "binary data", "ja": "バイナリー"}, suffix)
    return "txt"
