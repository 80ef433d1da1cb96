"""How a workspace of an older version becomes one of today: an append-only list of steps.

A released step is never edited, and it names the columns of its own time and not those of `tables.py`: a workspace
somewhere has already run it. A new workspace is made from `tables.py` at once; a test holds the two ways to the same end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sqlalchemy as sa

_M005_TEXTS: Mapping[str, tuple[str, ...]] = {
    "runs": ("participant", "app", "model", "model_revision", "adapter", "prompt_name"),
    "prompt_versions": ("name", "author"),
    "label_moves": ("name", "label", "author"),
    "grids": ("participant",),
}


def _m001_runs(connection: sa.Connection) -> None:
    _create(
        connection,
        "runs",
        _text("id", 36, primary_key=True),
        _text("created_at", 32, nullable=False, index=True),
        _text("participant", 80, nullable=False, index=True),
        _text("app", 40, nullable=False, index=True),
        _text("model", 200, nullable=False, index=True),
        _text("model_revision", 80),
        _text("adapter", 200),
        _text("prompt_name", 120, index=True),
        sa.Column("prompt_version", sa.Integer),
        _text("prompt_sha256", 64, nullable=False),
        *(_text(name, nullable=False) for name in ("variables", "messages", "params", "sources", "output")),
        _text("finish_reason", 20),
        *(sa.Column(name, sa.Integer) for name in ("input_tokens", "output_tokens")),
        *(sa.Column(name, sa.Double) for name in ("ttft_s", "latency_s", "cost")),
        _text("flags", nullable=False),
        _text("error"),
    )


def _m002_prompts(connection: sa.Connection) -> None:
    _create(
        connection,
        "prompt_versions",
        _text("id", 36, primary_key=True),
        _text("name", 120, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        _text("text", nullable=False),
        _text("sha256", 64, nullable=False),
        _text("message", nullable=False),
        _text("author", 80, nullable=False),
        _text("created_at", 32, nullable=False),
        sa.UniqueConstraint("name", "version"),
    )
    _create(
        connection,
        "label_moves",
        _text("id", 36, primary_key=True),
        _text("name", 120, nullable=False, index=True),
        _text("label", 60, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        _text("author", 80, nullable=False),
        _text("created_at", 32, nullable=False),
    )


def _m003_outbox(connection: sa.Connection) -> None:
    _create(
        connection,
        "outbox",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        _text("kind", 20, nullable=False),
        _text("record_id", 36, nullable=False),
        _text("created_at", 32, nullable=False),
        _text("sent_at", 32, index=True),
    )


def _m004_grids(connection: sa.Connection) -> None:
    _create(
        connection,
        "grids",
        _text("id", 36, primary_key=True),
        _text("created_at", 32, nullable=False),
        _text("participant", 80, nullable=False, index=True),
        _text("spec", nullable=False),
    )


def _m005_long_names(connection: sa.Connection) -> None:
    """Names given by people and servers may be of any length: PostgreSQL refused a Run for its 201st character."""
    for table, columns in _M005_TEXTS.items():
        if connection.dialect.name == "postgresql":
            for column in columns:
                connection.exec_driver_sql(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE TEXT")
        else:
            _rebuild(connection, table, columns)


def _m006_documents(connection: sa.Connection) -> None:
    """Documents, their pages and chunks; evaluations; the bare answer of a run."""
    connection.exec_driver_sql("ALTER TABLE runs ADD COLUMN bare_answer TEXT")
    _create(
        connection,
        "evaluations",
        _text("id", 36, primary_key=True),
        _text("created_at", 32, nullable=False),
        _text("participant", nullable=False, index=True),
        _text("kind", 20, nullable=False, index=True),
        *(_text(name, nullable=False) for name in ("spec", "rows", "summary")),
    )
    _create(
        connection,
        "collections",
        _text("id", 36, primary_key=True),
        _text("created_at", 32, nullable=False),
        _text("owner", nullable=False, index=True),
        _text("name", nullable=False),
        sa.Column("shared", sa.Boolean, nullable=False),
        _text("embedder", nullable=False),
        _text("embedder_revision"),
        sa.Column("dimensions", sa.Integer, nullable=False),
        *(_text(name, nullable=False) for name in ("chunker", "tokenizer")),
        sa.UniqueConstraint("owner", "name"),
    )
    _create(
        connection,
        "documents",
        _text("id", 36, primary_key=True),
        _text("created_at", 32, nullable=False),
        _text("collection_id", 36, nullable=False),
        *(_text(name, nullable=False) for name in ("owner", "name")),
        _text("sha256", 64, nullable=False, index=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        *(_text(name, 20, nullable=False) for name in ("kind", "state", "wanted")),
        sa.Column("generation", sa.Integer, nullable=False),
        _text("reader", 40, nullable=False),
        _text("encoding", 20, nullable=False),
        _text("reason"),
        *(_text(name, nullable=False) for name in ("warnings", "tags", "options")),
        _text("dated", 10),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("pages", "characters", "chunks")),
        sa.Index("ix_documents_collection_state", "collection_id", "state"),
    )
    _m006_texts(connection)


def _m006_texts(connection: sa.Connection) -> None:
    _create(
        connection,
        "pages",
        _text("id", 64, primary_key=True),
        _text("document_id", 36, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        *(_text(name, nullable=False) for name in ("text", "label")),
        sa.Column("dropped", sa.Boolean, nullable=False),
        _text("reader", 40, nullable=False),
        _text("facts", nullable=False),
        sa.Index("ix_pages_document_number", "document_id", "number"),
    )
    _create(
        connection,
        "chunks",
        _text("id", 64, primary_key=True),
        _text("document_id", 36, nullable=False),
        _text("collection_id", 36, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("position", "start", "end")),
        sa.Column("page", sa.Integer),
        sa.Column("line", sa.Integer, nullable=False),
        *(_text(name, nullable=False) for name in ("heading", "text")),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Index("ix_chunks_collection_id", "collection_id", "id"),
        sa.Index("ix_chunks_document_position", "document_id", "position"),
    )


def _m007_feedback(connection: sa.Connection) -> None:
    """Ratings, votes, comparisons, campaigns and what closes them; the item and the variant of a run."""
    for name in ("item", "variant"):
        connection.exec_driver_sql(f"ALTER TABLE runs ADD COLUMN {name} TEXT")
    _create(
        connection,
        "feedback",
        _text("id", 36, primary_key=True),
        _text("created_at", 32, nullable=False),
        _text("run_id", 36, nullable=False, index=True),
        _text("rater", nullable=False, index=True),
        *(_text(name, nullable=False) for name in ("scores", "comment")),
        _text("correction"),
        _text("tags", nullable=False),
        _text("rubric"),
        sa.Column("rubric_version", sa.Integer),
        *_m007_event(),
        _text("supersedes", 36),
        sa.Column("withdrawn", sa.Boolean, nullable=False),
        _text("skipped"),
        _text("flags", nullable=False),
    )
    _create(
        connection,
        "votes",
        _text("id", 36, primary_key=True),
        _text("created_at", 32, nullable=False),
        _text("rater", nullable=False, index=True),
        _text("item", nullable=False),
        *(_text(name, 36, nullable=False, index=True) for name in ("left_run", "right_run")),
        *(_text(name, nullable=False) for name in ("left_variant", "right_variant")),
        _text("choice", 20, nullable=False),
        sa.Column("blinded", sa.Boolean, nullable=False),
        *(_text(name, nullable=False) for name in ("comment", "tags")),
        *_m007_event(),
        _text("supersedes", 36),
        _text("flags", nullable=False),
    )
    _m007_campaigns(connection)


def _m007_event() -> tuple[sa.Column[Any], ...]:
    return _text("campaign_id", 36, index=True), _text("item_id", 36), _text("source", 20, nullable=False), sa.Column("duration_s", sa.Double)


def _m007_made() -> tuple[sa.Column[str], ...]:
    return _text("id", 36, primary_key=True), _text("created_at", 32, nullable=False)


def _m007_campaigns(connection: sa.Connection) -> None:
    _create(connection, "comparisons", *_m007_made(), _text("participant", nullable=False, index=True), _text("spec", nullable=False))
    named = (_text("owner", nullable=False, index=True), *(_text(name, nullable=False) for name in ("name", "spec")), _text("closed_at", 32))
    _create(connection, "campaigns", *_m007_made(), *named)
    _create(
        connection,
        "campaign_items",
        _text("id", 36, primary_key=True),
        _text("campaign_id", 36, nullable=False, index=True),
        sa.Column("position", sa.Integer, nullable=False),
        *(_text(name, nullable=False) for name in ("run_ids", "item", "tags")),
    )
    _create(
        connection,
        "claims",
        _text("id", 36, primary_key=True),
        *(_text(name, 36, nullable=False, index=True) for name in ("campaign_id", "item_id")),
        _text("rater", nullable=False),
        *(_text(name, 32, nullable=False) for name in ("created_at", "expires_at")),
        _text("state", 20, nullable=False),
        sa.UniqueConstraint("item_id", "rater"),
    )
    _create(
        connection,
        "artifacts",
        *_m007_made(),
        _text("name", nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        _text("kind", 40, nullable=False),
        _text("sha256", 64, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        *(_text(name, nullable=False) for name in ("inputs", "about", "data")),
        sa.UniqueConstraint("name", "version"),
    )
    _create(connection, "notes", _text("id", 60, primary_key=True), _text("value", nullable=False))


def _rebuild(connection: sa.Connection, name: str, texts: tuple[str, ...]) -> None:
    """Make a SQLite table anew with `texts` as TEXT, rows and indexes kept: SQLite cannot change a column's type."""
    table = sa.Table(name, sa.MetaData(), autoload_with=connection)
    for column in texts:
        table.c[column].type = sa.Text()
    for index in table.indexes:
        index.drop(connection)
    connection.exec_driver_sql(f"ALTER TABLE {name} RENAME TO {name}_before")
    table.create(connection)
    columns = ", ".join(column.name for column in table.columns)
    connection.exec_driver_sql(f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {name}_before ORDER BY rowid")  # noqa: S608 - our own names
    connection.exec_driver_sql(f"DROP TABLE {name}_before")


def _create(connection: sa.Connection, name: str, *parts: sa.schema.SchemaItem) -> None:
    sa.Table(name, sa.MetaData(), *parts, sqlite_autoincrement=name == "outbox").create(connection, checkfirst=True)


def _text(name: str, length: int | None = None, *, primary_key: bool = False, nullable: bool = True, index: bool = False) -> sa.Column[str]:
    kind = sa.Text() if length is None else sa.String(length)
    return sa.Column(name, kind, primary_key=primary_key, nullable=nullable and not primary_key, index=index)


MIGRATIONS: tuple[tuple[str, Callable[[sa.Connection], None]], ...] = (
    ("m001_runs", _m001_runs),
    ("m002_prompts", _m002_prompts),
    ("m003_outbox", _m003_outbox),
    ("m004_grids", _m004_grids),
    ("m005_long_names", _m005_long_names),
    ("m006_documents", _m006_documents),
    ("m007_feedback", _m007_feedback),
)
