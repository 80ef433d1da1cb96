"""ZIP files, Office files among them, looked at before anything is unpacked: what they are, and whether they are safe to unpack."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePath
from typing import Final

from llmops_kit.documents.reading.records import Unreadable

MAX_MEMBERS: Final = 1000
MAX_PARTS: Final = 10_000
"""Parts of an Office file: a presentation of a thousand slides has seven for each."""
MAX_UNPACKED_MB: Final = 200
MAX_RATIO: Final = 200
"""Unpacked to packed size of one member. Deflate ends at 1,032; sheets of equal rows reach about 100."""
MAX_TREE_MB: Final = 60
"""XML of a DOCX or PPTX, which are held as trees of about eight times its size."""
MAX_TREE_TAGS: Final = 3_000_000
DAMAGED: Final = (zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError, RuntimeError, EOFError, OSError, ValueError, KeyError, OverflowError)
"""What `zipfile` raises for damaged archives."""

_GUARD_MB = 1024  # what the guarded process has; a tag takes 150 to 450 bytes of it
_RATIO_FROM_BYTES = 1_000_000
_CHUNK = 1 << 20
_KINDS = (("word/", "docx"), ("ppt/", "pptx"), ("xl/", "xlsx"))
_MIMETYPES = {
    "application/vnd.oasis.opendocument.text": (".odt", "docx"),
    "application/vnd.oasis.opendocument.spreadsheet": (".ods", "xlsx"),
    "application/vnd.oasis.opendocument.presentation": (".odp", "pptx"),
    "application/epub+zip": (".epub", "html / pdf"),
}
_OVERLAPPING = {"en": "ZIP (its members overlap)", "ja": "ZIP。中身が重なっています"}


def open_archive(data: bytes, kind: str = "zip") -> zipfile.ZipFile:
    """`data` as a ZIP file. Raises: `Unreadable` ("broken") where it is none."""
    try:
        return zipfile.ZipFile(io.BytesIO(data))
    except DAMAGED as fault:
        raise Unreadable("broken", kind=kind) from fault


def look_inside(data: bytes, name: str) -> str:
    """Give "docx", "xlsx", "pptx" or "zip". Raises: `Unreadable` for OpenDocument, EPUB, programs in a ZIP and damaged files."""
    with open_archive(data, PurePath(name).suffix.lstrip(".").lower() or "zip") as archive:
        names = set(archive.namelist())
        if "[Content_Types].xml" in names:
            for folder, kind in _KINDS:
                if any(each.startswith(folder) for each in names):
                    return kind
        if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
            try:
                known = _MIMETYPES.get(archive.read("mimetype").decode("ascii", "replace").strip())
            except DAMAGED as fault:
                raise Unreadable("broken", kind="zip") from fault
            if known:
                raise Unreadable("old_format", suffix=known[0], better=known[1])
        if names & {"AndroidManifest.xml", "META-INF/MANIFEST.MF"}:
            raise Unreadable("program", found="Java, Android")
    return "zip"


def check_members(members: list[zipfile.ZipInfo], *, most: int) -> None:
    """Refuse an archive of more than `most` members or of more than `MAX_UNPACKED_MB`, a member of too high a ratio, and overlapping members.

    Sizes are those the archive states; `zipfile` gives no byte more than stated. Raises: `Unreadable`.
    """
    if len(members) > most:
        raise Unreadable("archive_members", found=len(members), allowed=most)
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED_MB * 1e6:
        raise Unreadable("archive_size", found=round(unpacked / 1e6), allowed=MAX_UNPACKED_MB)
    for member in members:
        ratio = member.file_size / max(1, member.compress_size)
        if member.file_size > _RATIO_FROM_BYTES and ratio > MAX_RATIO:
            raise Unreadable("archive_ratio", found=round(ratio), allowed=MAX_RATIO)
    end = -1
    for member in sorted(members, key=lambda each: each.header_offset):
        if member.header_offset < end:
            raise Unreadable("broken", kind=_OVERLAPPING)
        end = member.header_offset + 30 + member.compress_size  # the local header has at least 30 bytes


def check_office(data: bytes, kind: str) -> None:
    """Refuse an Office file that is unsafe or too large for its reader, before the reader sees it.

    Besides `check_members`: XML with a document type or entities, encrypted parts, the rare "Strict" variant no reader here knows, and for
    the formats held as trees more than `MAX_TREE_MB` megabytes or `MAX_TREE_TAGS` tags. Raises: `Unreadable`.
    """
    with open_archive(data, kind) as archive:
        members = archive.infolist()
        check_members(members, most=MAX_PARTS)
        size, tags = 0, 0
        for member in members:
            if is_encrypted(member):
                raise Unreadable("protected", detail="ZIP")
            if member.filename.lower().endswith((".xml", ".rels", ".vml")):
                size += member.file_size
                tags += _scan_xml(archive, member, kind)
        if kind != "xlsx" and size > MAX_TREE_MB * 1e6:
            raise Unreadable("archive_size", found=round(size / 1e6), allowed=MAX_TREE_MB)
        if kind != "xlsx" and tags > MAX_TREE_TAGS:
            raise Unreadable("memory", allowed=_GUARD_MB)


def _scan_xml(archive: zipfile.ZipFile, member: zipfile.ZipInfo, kind: str) -> int:
    """The number of tags of one part."""
    tags, tail = 0, b""
    for chunk in read_chunks(archive, member, kind):
        plain = tail + (chunk.replace(b"\x00", b"") if b"\x00" in chunk else chunk)  # UTF-16 is looked through too
        if b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
            raise Unreadable("unsafe_xml")
        if member.filename == "_rels/.rels" and b"purl.oclc.org/ooxml" in plain:
            raise Unreadable("old_format", suffix="Strict Open XML", better=kind)
        tags += chunk.count(b"<")
        tail = plain[-20:]
    return tags


def read_chunks(archive: zipfile.ZipFile, member: zipfile.ZipInfo, kind: str = "zip") -> Iterator[bytes]:
    """The content of a member, a megabyte at a time and never more than it states. Raises: `Unreadable` ("broken")."""
    try:
        with archive.open(member) as stream:
            left = member.file_size
            while left > 0 and (chunk := stream.read(min(_CHUNK, left))):
                left -= len(chunk)
                yield chunk
    except DAMAGED as fault:
        raise Unreadable("broken", kind=kind) from fault


def decode_name(member: zipfile.ZipInfo) -> tuple[str, bool]:
    """The name of a member with `/` between folders, and whether it was read as cp932.

    UTF-8 where it is flagged or reads as such, else cp932, else the format's own cp437.
    """
    if member.flag_bits & 0x800:
        return member.filename.replace("\\", "/"), False
    try:
        raw = member.orig_filename.split("\x00")[0].encode("cp437")
    except UnicodeEncodeError:
        return member.filename, False
    for encoding in ("utf-8", "cp932"):
        try:
            return raw.decode(encoding).replace("\\", "/"), encoding == "cp932"
        except UnicodeDecodeError:
            continue
    return member.filename, False


def is_encrypted(member: zipfile.ZipInfo) -> bool:
    """Whether a password is needed to read the member."""
    return bool(member.flag_bits & 1)


def is_safe(member: zipfile.ZipInfo, name: str) -> bool:
    """Whether the member is a plain file that stays inside: no link or device, no absolute path, no `..`, no rare compression."""
    mode = member.external_attr >> 16 if member.create_system == 3 else 0
    parts = name.split("/")
    outside = name.startswith("/") or ".." in parts or (len(parts[0]) == 2 and parts[0].endswith(":"))
    return not outside and member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) and stat.S_IFMT(mode) in (0, stat.S_IFREG)
