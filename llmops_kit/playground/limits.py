"""How large a table may be, and the refusals that say so."""

from __future__ import annotations

from llmops_kit.playground.decoding import refused

MAX_COLUMNS = 300


def check_count(count: int, file: str, max_rows: int) -> None:
    """Refuse a file of more than `max_rows` rows (`UnreadableFile`)."""
    if count > max_rows:
        raise refused(file, f"it has more than {max_rows:,} rows; split it", f"{max_rows:,}行を超えています。分割してください")


def check_columns(count: int, file: str) -> None:
    """Refuse a file of more than `MAX_COLUMNS` columns (`UnreadableFile`)."""
    if count > MAX_COLUMNS:
        raise refused(file, f"it has {count:,} columns; at most {MAX_COLUMNS} are read", f"列が{count:,}個あります（上限は{MAX_COLUMNS}個です）")
