"""The cells of a W&B table: values made to fit the type of their column. W&B refuses a whole batch for one cell of another type."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from math import inf
from typing import Any

from llmops_kit.types import to_plain

Columns = Mapping[str, type]
"""The columns of a table, in order, with the type of each: str, int, float or bool. Every one may be empty."""
Rows = dict[str, list[list[Any]]]
"""Rows by table."""
RaterName = Callable[[str], str | None]
"""What stands for a rater outside the workspace, from the rater's id."""
_LARGEST = 2**63  # a whole number past it is none in a database either
_SECRET = re.compile(r"api_?key|secret|password|authorization|credential", re.IGNORECASE)


def make_row(values: Mapping[str, Any], columns: Columns) -> list[Any]:
    """The cells of one row, each of its column's type or None. A column without a value is empty."""
    return [_fitting(values.get(name), kind) for name, kind in columns.items()]


def as_json(value: Any) -> str:
    """`value` as JSON text with Japanese readable."""
    return json.dumps(value, ensure_ascii=False, default=to_plain)


def milliseconds(seconds: float | None) -> float | None:
    """Seconds as milliseconds, to the microsecond."""
    return None if seconds is None else round(seconds * 1000, 3)


def without_secrets(value: Any) -> Any:
    """`value` without the entries of its mappings, at any depth, whose names are those of keys and passwords."""
    if isinstance(value, Mapping):
        return {name: without_secrets(each) for name, each in value.items() if not _SECRET.search(str(name))}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [without_secrets(each) for each in value]
    return value


def _fitting(value: Any, kind: type) -> Any:
    if value is None:
        return None
    if kind is str:
        return value if isinstance(value, str) else str(value)
    if kind is bool:
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < (_LARGEST if kind is int else inf):
        return None
    return kind(value)
