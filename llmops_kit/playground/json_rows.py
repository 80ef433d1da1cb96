"""JSON and JSON lines → rows of text, numbers as they were typed."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from llmops_kit.playground.decoding import refused
from llmops_kit.playground.limits import check_columns, check_count


class _Typed(float):
    """A JSON number that remembers how it was typed (`1.10`)."""

    def __new__(cls, text: str) -> _Typed:
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str


def _parse_json(text: str, name: str) -> list[tuple[int, Any]]:
    value = _loads(text, name)
    if isinstance(value, dict):
        lists = [item for item in value.values() if isinstance(item, list) and item and all(isinstance(row, dict) for row in item)]
        value = lists[0] if len(lists) == 1 else [value]
    return list(enumerate(value if isinstance(value, list) else [value], start=1))


def _parse_jsonl(text: str, name: str) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(io.StringIO(text), start=1):
        if line.strip():
            yield number, _loads(line, name, number)


def _loads(text: str, name: str, line: int = 0) -> Any:
    try:
        return json.loads(text, parse_float=_Typed)
    except json.JSONDecodeError as fault:
        place = line or fault.lineno
        raise refused(name, f"line {place:,} is not proper JSON ({fault.msg})", f"{place:,}行目がJSONとして正しくありません（{fault.msg}）") from fault
    except (RecursionError, ValueError) as fault:  # nested too deep; a number of thousands of digits
        raise refused(name, "its JSON is nested too deep or holds an endless number", "JSONの入れ子が深すぎるか、数値が長すぎます") from fault


def read_objects(text: str, *, file: str, lines: bool, max_rows: int) -> tuple[tuple[str, ...], tuple[dict[str, str], ...]]:
    """Columns and rows of a list of JSON objects, or with `lines` of one object per line. Numbers stay as typed.

    An object around the list (`{"rows": […]}`) is looked through; what is nested deeper is kept as JSON text.
    Raises: `UnreadableFile` with the line or the row.
    """
    numbered: Iterable[tuple[int, Any]] = _parse_jsonl(text, file) if lines else _parse_json(text, file)
    rows: list[dict[str, str]] = []
    for number, value in numbered:
        if not isinstance(value, dict):
            raise refused(file, f"row {number:,} is not a JSON object with named values", f"{number:,}件目が名前付きの値（JSONオブジェクト）ではありません")
        check_count(len(rows) + 1, file, max_rows)
        rows.append({key: _cell(item) for key, item in value.items()})
    columns = tuple(dict.fromkeys(itertools.chain.from_iterable(rows)))
    check_columns(len(columns), file)
    return columns, tuple({column: row.get(column, "") for column in columns} for row in rows)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case str():
            return value
        case _Typed():
            return value.text
        case _:
            return json.dumps(value, ensure_ascii=False)
