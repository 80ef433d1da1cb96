"""JSON and JSON lines → text: a line "key: value" for each value, a blank line between records, long texts as paragraphs.

A record with a field of the names in `_TITLES` begins with it as a heading, one with a field of the names in `_BODIES` ends with it as a
paragraph without its name. Nested names are joined by dots (`address.city`), places in lists count from 1 (`items.2.name`), lists of plain
values stay on one line. Numbers stay as they were typed; what is null is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from llmops_kit.documents.reading.encoding import clean, decode
from llmops_kit.documents.reading.records import Heading, RawDocument, RawPage, ReadOptions, Unreadable

MAX_DEPTH: Final = 100
"""How deep values may be nested. Python's own reader ends near 1,000."""

_TITLES = ("title", "heading", "subject", "タイトル", "見出し", "題名", "件名")
_BODIES = ("text", "context", "content", "body", "page_content", "本文", "テキスト", "内容")


def read_json(data: bytes, name: str, options: ReadOptions) -> RawDocument:
    """A list of records, an object around one list of records (its other values come first), or any other value as one record.

    Raises: `Unreadable` with the line where the JSON is not proper or nested too deep; what `decode` raises.
    """
    text, encoding = decode(data, name, options)
    value = _parse(text, "JSON")
    records = value if isinstance(value, list) and any(isinstance(each, dict) for each in value) else [value]
    if isinstance(value, dict):
        lists = [key for key, item in value.items() if isinstance(item, list) and item and all(isinstance(each, dict) for each in item)]
        if len(lists) == 1:
            rest = {key: item for key, item in value.items() if key != lists[0]}
            records = [*([rest] if rest else []), *value[lists[0]]]
    return _document(iter(records), "json", encoding)


def read_jsonl(data: bytes, name: str, options: ReadOptions) -> RawDocument:
    """One record a line. Raises: `Unreadable` with the line that is not proper JSON; what `decode` raises."""
    text, encoding = decode(data, name, options)
    lines = enumerate(clean(text).split("\n"), start=1)
    return _document((_parse(line, "JSONL", number) for number, line in lines if line.strip()), "jsonl", encoding)


def _parse(text: str, kind: str, line: int = 0) -> Any:
    try:
        return json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    except json.JSONDecodeError as fault:
        at = line or fault.lineno
        raise Unreadable("broken", kind={"en": f"{kind} (line {at:,}: {fault.msg})", "ja": f"{kind}。{at:,}行目：{fault.msg}"}) from fault
    except RecursionError as fault:
        raise _refuse_depth() from fault


def _refuse_depth() -> Unreadable:
    return Unreadable("broken", kind={"en": "JSON (nested too deep)", "ja": "JSON。入れ子が深すぎます"})


def _document(records: Iterator[Any], reader: str, encoding: str) -> RawDocument:
    pieces: list[str] = []
    headings: list[Heading] = []
    at = 0
    for record in records:
        title, block = _write_record(record)
        if not block:
            continue
        block = clean(block) + "\n"
        if title:
            headings.append((at, 1, title))
        pieces.append(block)
        at += len(block)
    text = "".join(pieces)
    return RawDocument([RawPage(text.removesuffix("\n") or "\n", headings=headings)], reader=reader, encoding=encoding, paged=False)


def _write_record(record: Any) -> tuple[str, str]:
    """The title (one line, "" where there is none) and the whole text of one record."""
    if not isinstance(record, dict):
        return "", "\n".join(_lines("", record, 0))
    by_name = {str(key).strip().lower(): key for key, value in record.items() if isinstance(value, str) and value.strip()}
    title_key = next((by_name[name] for name in _TITLES if name in by_name), None)
    body_key = next((by_name[name] for name in _BODIES if name in by_name), None)
    title = " ".join(clean(record[title_key]).split()) if title_key is not None else ""
    lines = [title] if title else []
    for key, value in record.items():
        if key not in (title_key, body_key):
            lines.extend(_lines(str(key), value, 0))
    if body_key is not None:
        lines.append(record[body_key].strip("\r\n"))
    return title, "\n".join(lines)


def _lines(key: str, value: Any, depth: int) -> Iterator[str]:
    if depth > MAX_DEPTH:
        raise _refuse_depth()
    label = f"{key}: " if key else ""
    match value:
        case None:
            return
        case bool():
            yield f"{label}{str(value).lower()}"
        case str():
            yield f"{label}{value}"
        case dict():
            for name, item in value.items():
                yield from _lines(f"{key}.{name}" if key else str(name), item, depth + 1)
        case list() if not any(isinstance(item, dict | list) for item in value):
            plain = [str(item).lower() if isinstance(item, bool) else item for item in value if item is not None]
            if plain:
                yield label + ", ".join(plain)
        case _:
            for place, item in enumerate(value, start=1):
                yield from _lines(f"{key}.{place}" if key else str(place), item, depth + 1)
