"""Reading back what W&B wrote: the run folders of a workspace, their log files, and the tables in them.

W&B's log (`run-<id>.wandb`) is a file of 32 KiB blocks in LevelDB's log format; each record is a protobuf. A table
logged bit by bit is one JSON file per bit, named by the log's history records. Only what the log names counts,
because `wandb sync` sends only that.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import UnknownName
from llmops_kit.tracking.answers import RUN_COLUMNS
from llmops_kit.tracking.ledger import load_ledger

if TYPE_CHECKING:
    import pandas as pd

_BLOCK_BYTES = 32768
_HEADER = struct.Struct("<IHB")  # checksum, length, kind of each fragment
_FILE_HEADER = struct.Struct("<4sHB")
_WHOLE, _FIRST, _LAST = 1, 2, 4
_BIT_OF_TABLE = "wandb-run-incremental-table"
_TABLES = {"incremental-table-file": False, "table-file": True}


@dataclass(frozen=True)
class LoggedTable:
    """A table in one step of the log: its file, whether it is a whole one (`final`) or one more bit, and what W&B noted of it."""

    path: Path
    final: bool
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Increment:
    """One step of the log: the tables it names."""

    step: int
    tables: Mapping[str, LoggedTable]


@dataclass
class Content:
    """What is safely in a run folder: the pairs (table, row id), the last step, and what W&B noted of the last bit of each table."""

    rows: set[tuple[str, str]] = field(default_factory=set)
    last_step: int = -1
    continued: dict[str, Mapping[str, Any]] = field(default_factory=dict)


def find_sessions(folder: Path) -> list[Path]:
    """The run folders W&B made in `folder` (a workspace or its `wandb` folder), oldest first."""
    home = folder / "wandb" if (folder / "wandb").is_dir() else folder
    found = [path for path in home.glob("*run-*") if path.is_dir() and path.name.startswith(("offline-run-", "run-"))]
    ledger = load_ledger(home)
    order = {name: number for number, name in enumerate(ledger.sessions if ledger else ())}
    # W&B names folders by the second, which two of them may share.
    return sorted(found, key=lambda path: (path.name.removeprefix("offline-").partition("-kit-")[0], order.get(path.name, -1), path.name))


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """A table as W&B holds it in `folder` (a workspace or its `wandb` folder): each row once, in the order sent.

    Of a table that is written once (`<artifact>_final`) the newest. Rows written before a column was added have nothing in it.
    Raises `UnknownName` where no such table was ever written; `runs` is empty instead.
    """
    import pandas as pd

    rows: dict[Any, dict[str, Any]] = {}
    columns = list(RUN_COLUMNS) if name == "runs" else []
    known: set[str] = {"runs"}
    for session in find_sessions(folder):
        for increment in read_increments(session):
            known.update(increment.tables)
            logged = increment.tables.get(name)
            table = _load(logged)
            if logged is None or table is None:
                continue
            if logged.final:
                rows, columns = {}, []
            columns = [*table["columns"], *(column for column in columns if column not in table["columns"])]
            for number, row in enumerate(table["data"]):
                rows[number if logged.final else row[0]] = dict(zip(table["columns"], row, strict=False))
    if not columns:
        raise UnknownName(kind="table", name=name, known=", ".join(sorted(known)))
    return pd.DataFrame(list(rows.values()), columns=columns)


def read_content(session: Path) -> Content:
    """What is safely in a run folder.

    A step with one unreadable file counts as not written at all, so that its rows go again together.
    """
    content = Content()
    for increment in read_increments(session):
        content.last_step = max(content.last_step, increment.step)
        tables = {name: _load(logged) for name, logged in increment.tables.items()}
        if all(tables.values()):
            content.rows.update((name, row[0]) for name, table in tables.items() if table and not increment.tables[name].final for row in table["data"])
            content.continued.update((name, logged.facts) for name, logged in increment.tables.items() if not logged.final)
    return content


def seal_log(session: Path) -> None:
    """Settle what the log of a folder holds, which nobody is to write any more: a copy of its whole steps takes its place.

    W&B uploads what stands before a torn end, but never counts the folder as uploaded. A step whose line of history is not there goes
    too, whatever follows it: its rows will be sent again, and W&B would show those of its artifacts twice. It is a copy because W&B's
    helper process outlives the one that was killed: what it still writes goes to the file that is no longer there. Raises `OSError`.
    """
    for log in session.glob("run-*.wandb"):
        whole, begun = 0, None  # where a step begins that has bits of tables and no history yet
        for record, end in read_records(log):
            kind = record.WhichOneof("record_type")
            begun = None if kind == "history" else whole if begun is None and kind == "artifact" and record.artifact.type == _BIT_OF_TABLE else begun
            whole = end
        whole = whole if begun is None else begun
        if whole > 0:
            draft = log.with_name(log.name + ".new")
            draft.write_bytes(log.read_bytes()[:whole])
            draft.replace(log)


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
    facts: dict[str, dict[str, Any]] = {}
    for item in record.history.item:
        keys = list(item.nested_key) or [item.key]
        if keys == ["_step"]:
            step = int(json.loads(item.value_json))
        elif len(keys) == 2:
            facts.setdefault(keys[0], {})[keys[1]] = json.loads(item.value_json)
    tables = {
        name: LoggedTable(session / "files" / noted["path"], _TABLES[noted["_type"]], noted)
        for name, noted in facts.items()
        if noted.get("_type") in _TABLES and isinstance(noted.get("path"), str)
    }
    return Increment(step, tables)


def _load(logged: LoggedTable | None) -> dict[str, Any] | None:
    """A table file, or None where it is missing or damaged."""
    if logged is None:
        return None
    try:
        table = json.loads(logged.path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return table if isinstance(table, dict) and {"columns", "data"} <= table.keys() else None
