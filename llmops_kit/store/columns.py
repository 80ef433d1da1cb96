"""Column types that read the same in every database."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from llmops_kit.types import to_plain

MAX_SHORT = 500  # characters, at most 4 bytes each
_JSON = json.JSONEncoder(ensure_ascii=False, default=to_plain)


class UtcMoment(sa.TypeDecorator[datetime]):
    """A moment kept as ISO 8601 text in UTC: sorts as text and reads the same in every database."""

    impl = sa.String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: sa.Dialect) -> str | None:
        """Datetime with a zone → text of fixed width."""
        return None if value is None else value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> datetime | None:
        """Text → datetime in UTC."""
        return None if value is None else datetime.fromisoformat(value)


class SafeText(sa.TypeDecorator[str]):
    """Text any database takes: NUL and lone surrogates, which PostgreSQL or UTF-8 cannot hold, become U+FFFD."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Any Python string → storable text."""
        return None if value is None else storable(value)


class ShortText(SafeText):
    """`SafeText` for indexed columns: longer than `MAX_SHORT` characters it is cut, since PostgreSQL's indexes hold some 2,700 bytes.

    What is looked for is cut the same way, so that it is found.
    """

    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:
        """Any Python string → storable text of bounded length."""
        text = super().process_bind_param(value, dialect)
        return text if text is None or len(text) <= MAX_SHORT else text[: MAX_SHORT - 1] + "…"


class JsonText(sa.TypeDecorator[Any]):
    """Plain data kept as JSON text, Japanese readable."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        """Plain data, dataclasses among it → JSON text; None stays None."""
        return None if value is None else storable(_JSON.encode(value))

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """JSON text → plain data."""
        return None if value is None else json.loads(value)


def storable(text: str) -> str:
    """`text` with what no database holds (NUL, lone surrogates) replaced by U+FFFD."""
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")
