"""Mails (EML, MHTML) → sender, recipients, date and subject as lines, then the message; attachments are named and can be taken out."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from email import policy
from email.errors import MessageError
from email.header import decode_header
from email.message import EmailMessage
from email.parser import BytesParser
from typing import Final

from llmops_kit.documents.reading.encoding import clean, decode, normalize_label
from llmops_kit.documents.reading.markup import read_markup
from llmops_kit.documents.reading.records import Asks, RawDocument, RawPage, ReadOptions, Unreadable

PRELOAD = {"": ("lxml.etree", "email.parser", "email.policy")}
MAX_PARTS: Final = 1000

_SHOWN = ("From", "To", "Cc", "Date", "Subject")
_BOUNDARY = re.compile(rb"boundary\s{0,9}=\s{0,9}\"?([^\"\s;]{1,70})", re.IGNORECASE)
_WORDS = re.compile(r"(?:=\?[^?\s]{1,60}\?[bBqQ]\?[^?\n]*\?=)+")
_BETWEEN_WORDS = re.compile(r"(\?=)[ \t\r\n]+(?==\?)")
_DAMAGED = (MessageError, ValueError, LookupError, TypeError, AttributeError, RecursionError)


def read_eml(data: bytes, name: str, options: ReadOptions) -> RawDocument:
    """The message with its subject as heading: plain text where there is some, else the text of the HTML. Quoted replies stay.

    Raises: `Unreadable` for a damaged mail; what `decode` raises, where the mail's own word about its encoding is wrong or missing.
    """
    message = _parse(data)
    encodings: list[str] = []
    lines = [f"{field}: {value}" for field in _SHOWN if (value := _header(message, field, options))]
    subject = _header(message, "Subject", options)
    attachments = [label for label, _ in _attachments(message)]
    if attachments:
        lines.append("Attachments: " + ", ".join(attachments))
    head = clean("\n".join(lines)) + "\n" if lines else ""
    body = _body(message, name, options, encodings)
    headings = [(head.index(f"Subject: {subject}") + len("Subject: "), 1, subject)] if subject else []
    headings += [(at + len(head), level + 1, title) for at, level, title in body.headings]
    page = RawPage(head + body.text, label=subject, headings=headings, hidden=body.hidden, tables=body.tables)
    return RawDocument([page], reader="mail", encoding=encodings[0] if encodings else "", warnings=["attachments"] if attachments else [], paged=False)


def list_attachments(data: bytes) -> list[tuple[str, bytes]]:
    """The name and content of each attached file. Raises: `Unreadable` for a damaged mail or one of too many parts."""
    return [(label, content if isinstance(content := part.get_payload(decode=True), bytes) else b"") for label, part in _attachments(_parse(data))]


def _parse(data: bytes) -> EmailMessage:
    # Before parsing: a mail of a few megabytes can have hundreds of thousands of parts, each an object.
    boundaries = {found[1] for found in list(_BOUNDARY.finditer(data))[:MAX_PARTS]}
    parts = sum(data.count(b"\n--" + boundary) for boundary in boundaries)
    if parts > 2 * MAX_PARTS:
        raise Unreadable("archive_members", found=parts, allowed=MAX_PARTS)
    try:
        message = BytesParser(policy=policy.default).parsebytes(data)
        parts = sum(1 for _ in message.walk())
    except _DAMAGED as fault:
        raise Unreadable("broken", kind="EML") from fault
    if parts > MAX_PARTS:
        raise Unreadable("archive_members", found=parts, allowed=MAX_PARTS)
    return message


def _attachments(message: EmailMessage) -> Iterator[tuple[str, EmailMessage]]:
    number = 0
    for part in _leaves(message):
        name = _file_name(part)
        is_attached = part.get_content_disposition() == "attachment" or (name and part.get_content_maintype() not in ("text", "image"))
        if is_attached and part is not message:
            number += 1
            yield name or f"attachment-{number}", part


def _leaves(message: EmailMessage) -> Iterator[EmailMessage]:
    """The parts that hold content; a forwarded mail is gone through as well."""
    for part in message.walk():
        if isinstance(part, EmailMessage) and not part.is_multipart():
            yield part


def _file_name(part: EmailMessage) -> str:
    try:
        name = part.get_filename() or ""
    except _DAMAGED:
        return ""
    return " ".join(clean(_decode_words(name, ReadOptions())).split())


def _body(message: EmailMessage, name: str, options: ReadOptions, encodings: list[str]) -> RawPage:
    texts = [part for part in _leaves(message) if part.get_content_maintype() == "text" and part.get_content_disposition() != "attachment"]
    html = [part for part in texts if part.get_content_subtype() == "html"]
    for chosen in ([part for part in texts if part not in html and not _file_name(part)], html):
        pages: list[RawPage] = []
        for part in chosen:
            content = part.get_payload(decode=True)
            if isinstance(content, bytes) and content.strip():
                text, encoding = _decode_part(content, part.get_content_charset(), name, options)
                encodings.append(encoding)
                pages.append(read_markup(text) if part in html else RawPage(clean(text)))
        if pages:
            return _join(pages)
    return RawPage("\n")


def _join(pages: list[RawPage]) -> RawPage:
    joined = RawPage("")
    for page in pages:
        joined.headings += [(at + len(joined.text), level, title) for at, level, title in page.headings]
        joined.text += page.text
        joined.hidden |= page.hidden
        joined.tables += page.tables
    return RawPage(joined.text or "\n", headings=joined.headings, hidden=joined.hidden, tables=joined.tables)


def _decode_part(content: bytes, charset: str | None, name: str, options: ReadOptions) -> tuple[str, str]:
    """The mail's own encoding where it decodes into what was meant, else what its bytes say. The person's choice is for parts that say nothing right."""
    label = normalize_label(charset) if charset else ""
    if label and label not in ("cp1252", "ascii"):
        try:
            return decode(content, name, ReadOptions(encoding=label))
        except (Unreadable, Asks):
            pass  # a wrong label: the bytes decide
    return decode(content, name, options, hint=charset)


def _header(message: EmailMessage, field: str, options: ReadOptions) -> str:
    """A header as a person reads it. Taken raw: the parsed value has lost bytes that are not in an encoded word."""
    values = [str(value) for key, value in message.raw_items() if key.lower() == field.lower()]
    if not values:
        return ""
    raw = values[0]
    if any("\udc80" <= sign <= "\udcff" for sign in raw):
        with suppress(Unreadable, Asks, UnicodeEncodeError):  # signs that stay unreadable become U+FFFD below
            raw, _ = decode(raw.encode("ascii", "surrogateescape"), field, options)
    return " ".join(clean(_decode_words(raw, options)).split())


def _decode_words(raw: str, options: ReadOptions) -> str:
    """Encoded words (RFC 2047) decoded strictly, each by its own charset or by what its bytes say; one that cannot be read stays as it is."""

    def read(words: re.Match[str]) -> str:
        try:
            pieces = decode_header(words[0])  # joins neighbours of one charset: some mailers cut a character in two
            return "".join(each if isinstance(each, str) else _decode_part(each, charset, "mail", options)[0] for each, charset in pieces)
        except (Unreadable, Asks, *_DAMAGED):
            return words[0]

    if "\x1b$" in raw:  # ISO-2022-JP put in a header as it is
        with suppress(Unreadable, Asks, UnicodeEncodeError):
            raw, _ = decode(raw.encode("ascii"), "mail", options)
    return _WORDS.sub(read, _BETWEEN_WORDS.sub(r"\1", raw)) if len(raw) < 100_000 else raw
