"""How a workspace of an older version becomes one of today: an append-only list of steps.

A released step is never edited, and it names the columns of its own time and not those of `tables.py`: a workspace
somewhere has already run it. A new workspace is made from `tables.py` at once; a test holds the two ways to the same end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import sqlalchemy as sa

from llmops_kit.store.later_migrations import m007_feedback, m008_jobs
from llmops_kit.store.migration_steps import create, rebuild, text

_M005_TEXTS: Mapping[str, tuple[str, ...]] = {
    "runs": ("participant", "app", "model", "model_revision", "adapter", "prompt_name"),
    "prompt_versions": ("name", "author"),
    "label_moves": ("name", "label", "author"),
    "grids": ("participant",),
}


def _m001_runs(connection: sa.Connection) -> None:
    create(
        connection,
        "runs",
        text("id", 36, primary_key=True),
        text("created_at", 32, nullable=False, index=True),
        text("participant", 80, nullable=False, index=True),
        text("app", 40, nullable=False, index=True),
        text("model", 200, nullable=False, index=True),
        text("model_revision", 80),
        text("adapter", 200),
        text("prompt_name", 120, index=True),
        sa.Column("prompt_version", sa.Integer),
        text("prompt_sha256", 64, nullable=False),
        *(text(name, nullable=False) for name in ("variables", "messages", "params", "sources", "output")),
        text("finish_reason", 20),
        *(sa.Column(name, sa.Integer) for name in ("input_tokens", "output_tokens")),
        *(sa.Column(name, sa.Double) for name in ("ttft_s", "latency_s", "cost")),
        text("flags", nullable=False),
        text("error"),
    )


def _m002_prompts(connection: sa.Connection) -> None:
    create(
        connection,
        "prompt_versions",
        text("id", 36, primary_key=True),
        text("name", 120, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        text("text", nullable=False),
        text("sha256", 64, nullable=False),
        text("message", nullable=False),
        text("author", 80, nullable=False),
        text("created_at", 32, nullable=False),
        sa.UniqueConstraint("name", "version"),
    )
    create(
        connection,
        "label_moves",
        text("id", 36, primary_key=True),
        text("name", 120, nullable=False, index=True),
        text("label", 60, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        text("author", 80, nullable=False),
        text("created_at", 32, nullable=False),
    )


def _m003_outbox(connection: sa.Connection) -> None:
    create(
        connection,
        "outbox",
        sa.Column("position", sa.Integer, primary_key=True, autoincrement=True),
        text("kind", 20, nullable=False),
        text("record_id", 36, nullable=False),
        text("created_at", 32, nullable=False),
        text("sent_at", 32, index=True),
    )


def _m004_grids(connection: sa.Connection) -> None:
    create(
        connection,
        "grids",
        text("id", 36, primary_key=True),
        text("created_at", 32, nullable=False),
        text("participant", 80, nullable=False, index=True),
        text("spec", nullable=False),
    )


def _m005_long_names(connection: sa.Connection) -> None:
    """Names given by people and servers may be of any length: PostgreSQL refused a Run for its 201st character."""
    for table, columns in _M005_TEXTS.items():
        if connection.dialect.name == "postgresql":
            for column in columns:
                connection.exec_driver_sql(f"ALTER TABLE {table} ALTER COLUMN {column} TYPE TEXT")
        else:
            rebuild(connection, table, columns)


def _m006_documents(connection: sa.Connection) -> None:
    """Documents, their pages and chunks; evaluations; the bare answer of a run."""
    connection.exec_driver_sql("ALTER TABLE runs ADD COLUMN bare_answer TEXT")
    create(
        connection,
        "evaluations",
        text("id", 36, primary_key=True),
        text("created_at", 32, nullable=False),
        text("participant", nullable=False, index=True),
        text("kind", 20, nullable=False, index=True),
        *(text(name, nullable=False) for name in ("spec", "rows", "summary")),
    )
    create(
        connection,
        "collections",
        text("id", 36, primary_key=True),
        text("created_at", 32, nullable=False),
        text("owner", nullable=False, index=True),
        text("name", nullable=False),
        sa.Column("shared", sa.Boolean, nullable=False),
        text("embedder", nullable=False),
        text("embedder_revision"),
        sa.Column("dimensions", sa.Integer, nullable=False),
        *(text(name, nullable=False) for name in ("chunker", "tokenizer")),
        sa.UniqueConstraint("owner", "name"),
    )
    create(
        connection,
        "documents",
        text("id", 36, primary_key=True),
        text("created_at", 32, nullable=False),
        text("collection_id", 36, nullable=False),
        *(text(name, nullable=False) for name in ("owner", "name")),
        text("sha256", 64, nullable=False, index=True),
        sa.Column("size_bytes", sa.BigInteger, nullable=False),
        *(text(name, 20, nullable=False) for name in ("kind", "state", "wanted")),
        sa.Column("generation", sa.Integer, nullable=False),
        text("reader", 40, nullable=False),
        text("encoding", 20, nullable=False),
        text("reason"),
        *(text(name, nullable=False) for name in ("warnings", "tags", "options")),
        text("dated", 10),
        *(sa.Column(name, sa.BigInteger, nullable=False) for name in ("pages", "characters", "chunks")),
        sa.Index("ix_documents_collection_state", "collection_id", "state"),
    )
    _m006_texts(connection)


def _m006_texts(connection: sa.Connection) -> None:
    create(
        connection,
        "pages",
        text("id", 64, primary_key=True),
        text("document_id", 36, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        *(text(name, nullable=False) for name in ("text", "label")),
        sa.Column("dropped", sa.Boolean, nullable=False),
        text("reader", 40, nullable=False),
        text("facts", nullable=False),
        sa.Index("ix_pages_document_number", "document_id", "number"),
    )
    create(
        connection,
        "chunks",
        text("id", 64, primary_key=True),
        text("document_id", 36, nullable=False),
        text("collection_id", 36, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("position", "start", "end")),
        sa.Column("page", sa.Integer),
        sa.Column("line", sa.Integer, nullable=False),
        *(text(name, nullable=False) for name in ("heading", "text")),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.Index("ix_chunks_collection_id", "collection_id", "id"),
        sa.Index("ix_chunks_document_position", "document_id", "position"),
    )


MIGRATIONS: tuple[tuple[str, Callable[[sa.Connection], None]], ...] = (
    ("m001_runs", _m001_runs),
    ("m002_prompts", _m002_prompts),
    ("m003_outbox", _m003_outbox),
    ("m004_grids", _m004_grids),
    ("m005_long_names", _m005_long_names),
    ("m006_documents", _m006_documents),
    ("m007_feedback", m007_feedback),
    ("m008_jobs", m008_jobs),
)
