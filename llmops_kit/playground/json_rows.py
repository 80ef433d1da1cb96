"""JSON and JSON lines → rows of text, numbers as they were typed."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from llmops_kit.errors import UnreadableFile
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


def _parse_jsonl(text: str, name: str, problems: list[UnreadableFile] | None) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(io.StringIO(text), start=1):
        if line.strip():
            try:
                value = _loads(line, name, number)
            except UnreadableFile as problem:
                if problems is None:
                    raise
                problems.append(problem)
            else:
                yield number, value


def _loads(text: str, name: str, line: int = 0) -> Any:
    try:
        return json.loads(text, parse_float=_Typed)
    except json.JSONDecodeError as fault:
        place = line or fault.lineno
        ja = f"{place:,}行目がJSONとして正しくありません（{fault.msg}）"
        raise refused(name, f"line {place:,} is not proper JSON ({fault.msg})", ja, line=place) from fault
    except (RecursionError, ValueError) as fault:  # nested too deep; a number of thousands of digits
        raise refused(name, "its JSON is nested too deep or holds an endless number", "JSONの入れ子が深すぎるか、数値が長すぎます", line=line) from fault


def read_objects(
    text: str, *, file: str, lines: bool, max_rows: int, problems: list[UnreadableFile] | None = None
) -> tuple[tuple[str, ...], dict[int, dict[str, str]]]:
    """Columns, and rows by number, of a list of JSON objects, or with `lines` of one object per line. Numbers stay as typed.

    An object around the list (`{"rows": […]}`) is looked through; what is nested deeper is kept as JSON text. Lines and rows that do
    not serve are added to `problems`; where that is None they refuse the file.
    Raises: `UnreadableFile` with the line or the row.
    """
    numbered: Iterable[tuple[int, Any]] = _parse_jsonl(text, file, problems) if lines else _parse_json(text, file)
    rows: dict[int, dict[str, str]] = {}
    for number, value in numbered:
        if not isinstance(value, dict):
            ja = f"{number:,}件目が名前付きの値（JSONオブジェクト）ではありません"
            problem = refused(file, f"row {number:,} is not a JSON object with named values", ja, line=number)
            if problems is None:
                raise problem
            problems.append(problem)
            continue
        check_count(len(rows) + 1, file, max_rows)
        rows[number] = {key: _cell(item) for key, item in value.items()}
    columns = tuple(dict.fromkeys(itertools.chain.from_iterable(rows.values())))
    check_columns(len(columns), file)
    return columns, {number: {column: row.get(column, "") for column in columns} for number, row in rows.items()}


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
