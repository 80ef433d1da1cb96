"""ZIP files and mails with attachments → the files inside, under generated names, for each to be read on its own."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from llmops_kit.documents.reading.container import (
    DAMAGED,
    MAX_MEMBERS,
    check_members,
    decode_name,
    is_encrypted,
    is_safe,
    open_archive,
    read_chunks,
)
from llmops_kit.documents.reading.formats import detect
from llmops_kit.documents.reading.mail import list_attachments
from llmops_kit.documents.reading.records import Asks, ReadOptions, Unreadable

_LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


@dataclass
class Expanded:
    """What an archive held: `members` (name, path) were written; `skipped` (name, key of `reasons.REASONS`) were not; `warnings` are keys."""

    members: list[tuple[str, str]] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def expand(data: bytes, name: str, into: Path, options: ReadOptions) -> Expanded:
    """Write the files of a ZIP, or the attachments of a mail, into the folder `into`.

    Names are labels only: files are written as `0001`, `0002`, … Skipped are kinds that are not read, links, and names that lead outside.
    Folders and what systems leave behind are not listed at all.

    Raises: `Unreadable` where the archive is damaged, breaks a limit of `container` or holds another archive; `Asks` for its password.
    """
    found = Expanded()
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        _expand_zip(data, into, options, found)
    else:
        for at, (label, content) in enumerate(list_attachments(data), start=1):
            _store(label, content, into / f"{at:04d}", found)
    if not found.members and not found.skipped:
        raise Unreadable("empty")
    found.warnings += ["members_skipped"] if found.skipped else []
    return found


def _expand_zip(data: bytes, into: Path, options: ReadOptions, found: Expanded) -> None:
    with open_archive(data) as archive:
        members = archive.infolist()
        check_members(members, most=MAX_MEMBERS)
        _unlock(archive, members, options)
        for at, member in enumerate(members, start=1):
            label, is_old = decode_name(member)
            if label.endswith("/") or _is_litter(label):
                continue
            if is_old and "old_names" not in found.warnings:
                found.warnings.append("old_names")
            if not is_safe(member, label):
                found.skipped.append((label, "unknown_format"))
                continue
            _store(label, b"".join(read_chunks(archive, member)), into / f"{at:04d}", found)


def _unlock(archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], options: ReadOptions) -> None:
    """Set the password of encrypted members and try it on the smallest of them."""
    locked = [each for each in members if is_encrypted(each)]
    if not locked:
        return
    if any(each.compress_type == 99 for each in locked):  # WinZip's AES, which `zipfile` does not open
        raise Unreadable("protected", detail="AES")
    if not options.password:
        raise Asks("password")
    archive.setpassword(options.password.encode())
    try:
        archive.read(min(locked, key=lambda each: each.file_size))
    except DAMAGED as fault:
        raise Asks("wrong_password") from fault


def _store(label: str, content: bytes, path: Path, found: Expanded) -> None:
    try:
        kind = detect(content, label)
    except Unreadable as refused:
        found.skipped.append((label, refused.key))
        return
    if kind == "zip":
        raise Unreadable("archive_nested")
    path.write_bytes(content)
    found.members.append((label, str(path)))


def _is_litter(label: str) -> bool:
    path = PurePosixPath(label)
    return path.name in _LITTER or path.name.startswith(("._", "~$")) or "__MACOSX" in path.parts
