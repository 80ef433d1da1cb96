"""The tables as they are today, and how records become rows. How older workspaces get there: `migrations.py`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from llmops_kit.types import Chunk, Collection, Document, Evaluation, Grid, LabelMove, Message, OutboxItem, Page, PromptVersion, Run, Source, to_plain

metadata = sa.MetaData()
MAX_SHORT = 500  # characters, at most 4 bytes each


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
        return None if value is None else storable(json.dumps(value, ensure_ascii=False, default=to_plain))

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        """JSON text → plain data."""
        return None if value is None else json.loads(value)


def storable(text: str) -> str:
    """`text` with what no database holds (NUL, lone surrogates) replaced by U+FFFD."""
    return text.replace("\x00", "\ufffd").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _id() -> sa.Column[str]:
    return sa.Column("id", sa.String(36), primary_key=True)


runs = sa.Table(
    "runs",
    metadata,
    _id(),
    sa.Column("created_at", UtcMoment, nullable=False, index=True),
    sa.Column("participant", ShortText, nullable=False, index=True),
    sa.Column("app", ShortText, nullable=False, index=True),
    sa.Column("model", ShortText, nullable=False, index=True),
    sa.Column("model_revision", ShortText),
    sa.Column("adapter", ShortText),
    sa.Column("prompt_name", ShortText, index=True),
    sa.Column("prompt_version", sa.Integer),
    sa.Column("prompt_sha256", sa.String(64), nullable=False),
    sa.Column("variables", JsonText, nullable=False),
    sa.Column("messages", JsonText, nullable=False),
    sa.Column("params", JsonText, nullable=False),
    sa.Column("sources", JsonText, nullable=False),
    sa.Column("output", SafeText, nullable=False),
    sa.Column("finish_reason", sa.String(20)),
    sa.Column("input_tokens", sa.Integer),
    sa.Column("output_tokens", sa.Integer),
    sa.Column("ttft_s", sa.Double),
    sa.Column("latency_s", sa.Double),
    sa.Column("cost", sa.Double),
    sa.Column("flags", JsonText, nullable=False),
    sa.Column("error", SafeText),
    sa.Column("bare_answer", SafeText),
)
prompt_versions = sa.Table(
    "prompt_versions",
    metadata,
    _id(),
    sa.Column("name", ShortText, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("text", SafeText, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("message", SafeText, nullable=False),
    sa.Column("author", ShortText, nullable=False),
    sa.Column("created_at", UtcMoment, nullable=False),
    sa.UniqueConstraint("name", "version"),
)
label_moves = sa.Table(
    "label_moves",
    metadata,
    _id(),
    sa.Column("name", ShortText, nullable=False, index=True),
    sa.Column("label", ShortText, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("author", ShortText, nullable=False),
    sa.Column("created_at", UtcMoment, nullable=False),
)
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("record_id", sa.String(36), nullable=False),
    sa.Column("created_at", UtcMoment, nullable=False),
    sa.Column("sent_at", UtcMoment, index=True),
    sqlite_autoincrement=True,
)
grids = sa.Table(
    "grids",
    metadata,
    _id(),
    sa.Column("created_at", UtcMoment, nullable=False),
    sa.Column("participant", ShortText, nullable=False, index=True),
    sa.Column("spec", JsonText, nullable=False),
)
evaluations = sa.Table(
    "evaluations",
    metadata,
    _id(),
    sa.Column("created_at", UtcMoment, nullable=False),
    sa.Column("participant", ShortText, nullable=False, index=True),
    sa.Column("kind", sa.String(20), nullable=False, index=True),
    sa.Column("spec", JsonText, nullable=False),
    sa.Column("rows", JsonText, nullable=False),
    sa.Column("summary", JsonText, nullable=False),
)
collections = sa.Table(
    "collections",
    metadata,
    _id(),
    sa.Column("created_at", UtcMoment, nullable=False),
    sa.Column("owner", ShortText, nullable=False, index=True),
    sa.Column("name", ShortText, nullable=False),
    sa.Column("shared", sa.Boolean, nullable=False),
    sa.Column("embedder", ShortText, nullable=False),
    sa.Column("embedder_revision", ShortText),
    sa.Column("dimensions", sa.Integer, nullable=False),
    sa.Column("chunker", ShortText, nullable=False),
    sa.Column("tokenizer", ShortText, nullable=False),
    sa.UniqueConstraint("owner", "name"),
)
documents = sa.Table(
    "documents",
    metadata,
    _id(),
    sa.Column("created_at", UtcMoment, nullable=False),
    sa.Column("collection_id", sa.String(36), nullable=False),
    sa.Column("owner", ShortText, nullable=False),
    sa.Column("name", SafeText, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False, index=True),
    sa.Column("size_bytes", sa.BigInteger, nullable=False),
    *(sa.Column(name, sa.String(20), nullable=False) for name in ("kind", "state", "wanted")),
    sa.Column("generation", sa.Integer, nullable=False),
    sa.Column("reader", sa.String(40), nullable=False),
    sa.Column("encoding", sa.String(20), nullable=False),
    sa.Column("reason", JsonText),
    *(sa.Column(name, JsonText, nullable=False) for name in ("warnings", "tags", "options")),
    sa.Column("dated", sa.String(10)),
    *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("pages", "characters", "chunks")),
    sa.Index("ix_documents_collection_state", "collection_id", "state"),
)
pages = sa.Table(
    "pages",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("document_id", sa.String(36), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("text", SafeText, nullable=False),
    sa.Column("label", SafeText, nullable=False),
    sa.Column("dropped", sa.Boolean, nullable=False),
    sa.Column("reader", sa.String(40), nullable=False),
    sa.Column("facts", JsonText, nullable=False),
    sa.Index("ix_pages_document_number", "document_id", "number"),
)
chunks = sa.Table(
    "chunks",
    metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("document_id", sa.String(36), nullable=False),
    sa.Column("collection_id", sa.String(36), nullable=False),
    *(sa.Column(name, sa.Integer, nullable=False) for name in ("position", "start", "end")),
    sa.Column("page", sa.Integer),
    sa.Column("line", sa.Integer, nullable=False),
    sa.Column("heading", SafeText, nullable=False),
    sa.Column("text", SafeText, nullable=False),
    sa.Column("vector", sa.LargeBinary, nullable=False),
    sa.Index("ix_chunks_collection_id", "collection_id", "id"),  # in the order that `Store.scan` reads a collection in
    sa.Index("ix_chunks_document_position", "document_id", "position"),
)
applied = sa.Table("migrations", metadata, sa.Column("name", sa.String(60), primary_key=True), sa.Column("applied_at", UtcMoment, nullable=False))

TABLES: dict[type, sa.Table] = {
    Run: runs,
    PromptVersion: prompt_versions,
    LabelMove: label_moves,
    OutboxItem: outbox,
    Grid: grids,
    Evaluation: evaluations,
    Collection: collections,
    Document: documents,
    Page: pages,
    Chunk: chunks,
}
_ORDER: dict[type, tuple[sa.Column[Any], ...]] = {Page: (pages.c.document_id, pages.c.number), Chunk: (chunks.c.document_id, chunks.c.position)}


def order_of(kind: type) -> tuple[sa.Column[Any], ...]:
    """The columns the records of a kind come in the order of, oldest first."""
    return _ORDER.get(kind) or (TABLES[kind].c.created_at,)


def encode(record: Any) -> dict[str, Any]:
    """A record → the row of its table."""
    return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}


def decode(kind: type, row: Mapping[str, Any]) -> Any:
    """A row → the record it was made from."""
    values = dict(row)
    if kind is Run:
        values["messages"] = tuple(Message(**turn) for turn in values["messages"])
        values["sources"] = tuple(Source(**source) for source in values["sources"])
        values["flags"] = tuple(values["flags"])
    elif kind is Document:
        values["warnings"], values["tags"] = tuple(values["warnings"]), tuple(values["tags"])
    return kind(**values)
