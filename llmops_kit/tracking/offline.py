"""Reading back what W&B wrote: the run folders of a workspace, their log files, and the tables in them.

W&B's log (`run-<id>.wandb`) is a file of 32 KiB blocks in LevelDB's log format; each record is a protobuf. A table
logged bit by bit is one JSON file per bit, named by the log's history records. Only what the log names counts,
because `wandb sync` sends only that.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import UnknownName
from llmops_kit.tracking.rows import RUN_COLUMNS

if TYPE_CHECKING:
    import pandas as pd

_BLOCK_BYTES = 32768
_HEADER = struct.Struct("<IHB")  # checksum, length, kind of each fragment
_FILE_HEADER = struct.Struct("<4sHB")
_WHOLE, _FIRST, _LAST = 1, 2, 4


@dataclass(frozen=True)
class Increment:
    """One step of the log: the table files it names, by table."""

    step: int
    tables: Mapping[str, Path]


def find_sessions(folder: Path) -> list[Path]:
    """The run folders W&B made in `folder` (a workspace or its `wandb` folder), oldest first."""
    home = folder / "wandb" if (folder / "wandb").is_dir() else folder
    found = [path for path in home.glob("*run-*") if path.is_dir() and path.name.startswith(("offline-run-", "run-"))]
    return sorted(found, key=lambda path: path.name.removeprefix("offline-"))


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """A table as W&B holds it in `folder` (a workspace or its `wandb` folder): each row once, in the order sent.

    Raises `UnknownName` where no such table was ever written; `runs` is empty instead.
    """
    import pandas as pd

    rows: dict[str, list[Any]] = {}
    columns = list(RUN_COLUMNS) if name == "runs" else []
    known: set[str] = {"runs"}
    for session in find_sessions(folder):
        for increment in read_increments(session):
            known.update(increment.tables)
            table = _load(increment.tables.get(name))
            if table:
                columns = table["columns"]
                rows.update({row[0]: row for row in table["data"]})
    if not columns:
        raise UnknownName(kind="table", name=name, known=", ".join(sorted(known)))
    return pd.DataFrame(list(rows.values()), columns=columns)


def find_written(session: Path) -> tuple[set[tuple[str, str]], int]:
    """What is safely in a run folder: the pairs (table, row id), and the last step (-1 where there is none).

    A step with one unreadable file counts as not written at all, so that its rows go again together.
    """
    written: set[tuple[str, str]] = set()
    last_step = -1
    for increment in read_increments(session):
        last_step = max(last_step, increment.step)
        tables = {name: _load(path) for name, path in increment.tables.items()}
        if all(tables.values()):
            written.update((name, row[0]) for name, table in tables.items() if table for row in table["data"])
    return written, last_step


def read_increments(session: Path) -> Iterator[Increment]:
    """The steps of a run folder's log, in order."""
    for log in sorted(session.glob("run-*.wandb")):
        for record, _ in read_records(log):
            if record.WhichOneof("record_type") == "history":
                yield _increment(record, session)


def read_records(log: Path, start: int = 0) -> Iterator[tuple[Any, int]]:
    """The whole records (protobuf `Record`) of a log file with the byte each ends at; `start` is such a byte, or 0.

    A torn or damaged tail ends the reading; it never raises for what is in the file.
    """
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from wandb.proto import wandb_internal_pb2

    for body, end in _read_bodies(log.read_bytes(), start):
        record = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
        try:
            record.ParseFromString(body)
        except DecodeError:
            return
        yield record, end


def _read_bodies(data: bytes, start: int) -> Iterator[tuple[bytes, int]]:
    """The record bodies of a log, put together from the fragments its blocks cut them into."""
    if len(data) < _FILE_HEADER.size or _FILE_HEADER.unpack_from(data)[:2] != (b":W&B", 0xBEE1):
        return
    position, body = max(start, _FILE_HEADER.size), b""
    while position + _HEADER.size <= len(data):
        left = _BLOCK_BYTES - position % _BLOCK_BYTES
        if left < _HEADER.size:
            position += left
            continue
        _, length, kind = _HEADER.unpack_from(data, position)
        position += _HEADER.size
        if kind == 0 or position + length > len(data):
            return
        fragment = data[position : position + length]
        body = fragment if kind in (_WHOLE, _FIRST) else body + fragment
        position += length
        if kind in (_WHOLE, _LAST):
            yield body, position
            body = b""


def _increment(record: Any, session: Path) -> Increment:
    step = -1
    kinds: dict[str, str] = {}
    paths: dict[str, Path] = {}
    for item in record.history.item:
        keys = list(item.nested_key) or [item.key]
        if keys == ["_step"]:
            step = int(json.loads(item.value_json))
        elif len(keys) == 2 and keys[1] == "_type":
            kinds[keys[0]] = json.loads(item.value_json)
        elif len(keys) == 2 and keys[1] == "path":
            paths[keys[0]] = session / "files" / json.loads(item.value_json)
    return Increment(step, {name: path for name, path in paths.items() if kinds.get(name) == "incremental-table-file"})


def _load(path: Path | None) -> dict[str, Any] | None:
    """A table file, or None where it is missing or damaged."""
    if path is None:
        return None
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return table if isinstance(table, dict) and {"columns", "data"} <= table.keys() else None
