"""The tables as they are today. How older workspaces get there: `migrations.py`; how records become rows: `records.py`."""

from __future__ import annotations

import sqlalchemy as sa

from llmops_kit.store.columns import JsonText, SafeText, ShortText, UtcMoment

metadata = sa.MetaData()


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
    sa.Column("item", ShortText),
    sa.Column("variant", ShortText),
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
feedback = sa.Table(
    "feedback",
    metadata,
    _id(),
    sa.Column("created_at", UtcMoment, nullable=False),
    sa.Column("run_id", sa.String(36), nullable=False, index=True),
    sa.Column("rater", ShortText, nullable=False, index=True),
    sa.Column("scores", JsonText, nullable=False),
    sa.Column("comment", SafeText, nullable=False),
    sa.Column("correction", SafeText),
    sa.Column("tags", JsonText, nullable=False),
    sa.Column("rubric", ShortText),
    sa.Column("rubric_version", sa.Integer),
    sa.Column("campaign_id", sa.String(36), index=True),
    sa.Column("item_id", sa.String(36)),
    sa.Column("source", sa.String(20), nullable=False),
    sa.Column("duration_s", sa.Double),
    sa.Column("supersedes", sa.String(36)),
    sa.Column("withdrawn", sa.Boolean, nullable=False),
    sa.Column("skipped", SafeText),
    sa.Column("flags", JsonText, nullable=False),
)
votes = sa.Table(
    "votes",
    metadata,
    _id(),
    sa.Column("created_at", UtcMoment, nullable=False),
    sa.Column("rater", ShortText, nullable=False, index=True),
    sa.Column("item", ShortText, nullable=False),
    *(sa.Column(name, sa.String(36), nullable=False, index=True) for name in ("left_run", "right_run")),
    *(sa.Column(name, ShortText, nullable=False) for name in ("left_variant", "right_variant")),
    sa.Column("choice", sa.String(20), nullable=False),
    sa.Column("blinded", sa.Boolean, nullable=False),
    sa.Column("comment", SafeText, nullable=False),
    sa.Column("tags", JsonText, nullable=False),
    sa.Column("campaign_id", sa.String(36), index=True),
    sa.Column("item_id", sa.String(36)),
    sa.Column("source", sa.String(20), nullable=False),
    sa.Column("duration_s", sa.Double),
    sa.Column("supersedes", sa.String(36)),
    sa.Column("flags", JsonText, nullable=False),
)
comparisons = sa.Table(
    "comparisons",
    metadata,
    _id(),
    sa.Column("created_at", UtcMoment, nullable=False),
    sa.Column("participant", ShortText, nullable=False, index=True),
    sa.Column("spec", JsonText, nullable=False),
)
campaigns = sa.Table(
    "campaigns",
    metadata,
    _id(),
    sa.Column("created_at", UtcMoment, nullable=False),
    sa.Column("owner", ShortText, nullable=False, index=True),
    sa.Column("name", ShortText, nullable=False),
    sa.Column("spec", JsonText, nullable=False),
    sa.Column("closed_at", UtcMoment),
)
campaign_items = sa.Table(
    "campaign_items",
    metadata,
    _id(),
    sa.Column("campaign_id", sa.String(36), nullable=False, index=True),
    sa.Column("position", sa.Integer, nullable=False),
    sa.Column("run_ids", JsonText, nullable=False),
    sa.Column("item", ShortText, nullable=False),
    sa.Column("tags", JsonText, nullable=False),
)
claims = sa.Table(
    "claims",
    metadata,
    _id(),
    *(sa.Column(name, sa.String(36), nullable=False, index=True) for name in ("campaign_id", "item_id")),
    sa.Column("rater", ShortText, nullable=False),
    *(sa.Column(name, UtcMoment, nullable=False) for name in ("created_at", "expires_at")),
    sa.Column("state", sa.String(20), nullable=False),
    sa.UniqueConstraint("item_id", "rater"),
)
artifacts = sa.Table(
    "artifacts",
    metadata,
    _id(),
    sa.Column("created_at", UtcMoment, nullable=False),
    sa.Column("name", ShortText, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("rows", sa.Integer, nullable=False),
    *(sa.Column(name, JsonText, nullable=False) for name in ("inputs", "about", "data")),
    sa.UniqueConstraint("name", "version"),
)
jobs = sa.Table(
    "jobs",
    metadata,
    _id(),
    sa.Column("created_at", UtcMoment, nullable=False),
    sa.Column("owner", ShortText, nullable=False, index=True),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("name", ShortText, nullable=False),
    sa.Column("spec", JsonText, nullable=False),
    sa.Column("state", sa.String(20), nullable=False, index=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("engine", sa.String(20), nullable=False),
    sa.Column("handle", JsonText, nullable=False),
    sa.Column("expected_s", sa.Double),
    *(sa.Column(name, UtcMoment) for name in ("started_at", "ended_at", "heartbeat_at")),
    sa.Column("progress", JsonText, nullable=False),
    sa.Column("cancelled_by", ShortText),
    *(sa.Column(name, JsonText, nullable=False) for name in ("reason", "result")),
)
job_events = sa.Table(
    "job_events",
    metadata,
    _id(),
    sa.Column("job_id", sa.String(36), nullable=False, index=True),
    sa.Column("created_at", UtcMoment, nullable=False),
    *(sa.Column(name, sa.Integer, nullable=False) for name in ("attempt", "step")),
    sa.Column("kind", sa.String(40), nullable=False),
    sa.Column("data", JsonText, nullable=False),
)
notes = sa.Table("notes", metadata, sa.Column("id", sa.String(60), primary_key=True), sa.Column("value", SafeText, nullable=False))
applied = sa.Table("migrations", metadata, sa.Column("name", sa.String(60), primary_key=True), sa.Column("applied_at", UtcMoment, nullable=False))
