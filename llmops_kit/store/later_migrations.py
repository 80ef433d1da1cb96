"""The migrations since people's ratings are kept."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from llmops_kit.store.migration_steps import create, text


def m007_feedback(connection: sa.Connection) -> None:
    """Ratings, votes, comparisons, campaigns and what closes them; the item and the variant of a run."""
    for name in ("item", "variant"):
        connection.exec_driver_sql(f"ALTER TABLE runs ADD COLUMN {name} TEXT")
    create(
        connection,
        "feedback",
        text("id", 36, primary_key=True),
        text("created_at", 32, nullable=False),
        text("run_id", 36, nullable=False, index=True),
        text("rater", nullable=False, index=True),
        *(text(name, nullable=False) for name in ("scores", "comment")),
        text("correction"),
        text("tags", nullable=False),
        text("rubric"),
        sa.Column("rubric_version", sa.Integer),
        *_m007_event(),
        text("supersedes", 36),
        sa.Column("withdrawn", sa.Boolean, nullable=False),
        text("skipped"),
        text("flags", nullable=False),
    )
    create(
        connection,
        "votes",
        text("id", 36, primary_key=True),
        text("created_at", 32, nullable=False),
        text("rater", nullable=False, index=True),
        text("item", nullable=False),
        *(text(name, 36, nullable=False, index=True) for name in ("left_run", "right_run")),
        *(text(name, nullable=False) for name in ("left_variant", "right_variant")),
        text("choice", 20, nullable=False),
        sa.Column("blinded", sa.Boolean, nullable=False),
        *(text(name, nullable=False) for name in ("comment", "tags")),
        *_m007_event(),
        text("supersedes", 36),
        text("flags", nullable=False),
    )
    _m007_campaigns(connection)


def _m007_event() -> tuple[sa.Column[Any], ...]:
    return text("campaign_id", 36, index=True), text("item_id", 36), text("source", 20, nullable=False), sa.Column("duration_s", sa.Double)


def _m007_made() -> tuple[sa.Column[str], ...]:
    return text("id", 36, primary_key=True), text("created_at", 32, nullable=False)


def _m007_campaigns(connection: sa.Connection) -> None:
    create(connection, "comparisons", *_m007_made(), text("participant", nullable=False, index=True), text("spec", nullable=False))
    named = (text("owner", nullable=False, index=True), *(text(name, nullable=False) for name in ("name", "spec")), text("closed_at", 32))
    create(connection, "campaigns", *_m007_made(), *named)
    create(
        connection,
        "campaign_items",
        text("id", 36, primary_key=True),
        text("campaign_id", 36, nullable=False, index=True),
        sa.Column("position", sa.Integer, nullable=False),
        *(text(name, nullable=False) for name in ("run_ids", "item", "tags")),
    )
    create(
        connection,
        "claims",
        text("id", 36, primary_key=True),
        *(text(name, 36, nullable=False, index=True) for name in ("campaign_id", "item_id")),
        text("rater", nullable=False),
        *(text(name, 32, nullable=False) for name in ("created_at", "expires_at")),
        text("state", 20, nullable=False),
        sa.UniqueConstraint("item_id", "rater"),
    )
    create(
        connection,
        "artifacts",
        *_m007_made(),
        text("name", nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        text("kind", 40, nullable=False),
        text("sha256", 64, nullable=False),
        sa.Column("rows", sa.Integer, nullable=False),
        *(text(name, nullable=False) for name in ("inputs", "about", "data")),
        sa.UniqueConstraint("name", "version"),
    )
    create(connection, "notes", text("id", 60, primary_key=True), text("value", nullable=False))


def m008_jobs(connection: sa.Connection) -> None:
    """Long work and what happened in it."""
    create(
        connection,
        "jobs",
        *_m007_made(),
        text("owner", nullable=False, index=True),
        text("kind", 40, nullable=False),
        *(text(name, nullable=False) for name in ("name", "spec")),
        text("state", 20, nullable=False, index=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        text("engine", 20, nullable=False),
        text("handle", nullable=False),
        sa.Column("expected_s", sa.Double),
        *(text(name, 32) for name in ("started_at", "ended_at", "heartbeat_at")),
        text("progress", nullable=False),
        text("cancelled_by"),
        *(text(name, nullable=False) for name in ("reason", "result")),
    )
    create(
        connection,
        "job_events",
        text("id", 36, primary_key=True),
        text("job_id", 36, nullable=False, index=True),
        text("created_at", 32, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in ("attempt", "step")),
        text("kind", 40, nullable=False),
        text("data", nullable=False),
    )
