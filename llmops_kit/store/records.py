"""How records become rows, and rows records again: which table each kind has, and the order its records come in."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from llmops_kit.store import tables
from llmops_kit.types import (
    Artifact,
    Campaign,
    CampaignItem,
    Chunk,
    Claim,
    Collection,
    Comparison,
    Document,
    Evaluation,
    Feedback,
    Grid,
    Job,
    JobEvent,
    LabelMove,
    Message,
    Note,
    OutboxItem,
    Page,
    PromptVersion,
    Run,
    Source,
    Vote,
)

TABLES: dict[type, sa.Table] = {
    Run: tables.runs,
    PromptVersion: tables.prompt_versions,
    LabelMove: tables.label_moves,
    OutboxItem: tables.outbox,
    Grid: tables.grids,
    Evaluation: tables.evaluations,
    Collection: tables.collections,
    Document: tables.documents,
    Page: tables.pages,
    Chunk: tables.chunks,
    Feedback: tables.feedback,
    Vote: tables.votes,
    Comparison: tables.comparisons,
    Campaign: tables.campaigns,
    CampaignItem: tables.campaign_items,
    Claim: tables.claims,
    Artifact: tables.artifacts,
    Note: tables.notes,
    Job: tables.jobs,
    JobEvent: tables.job_events,
}
_ORDER: dict[type, tuple[sa.Column[Any], ...]] = {
    Page: (tables.pages.c.document_id, tables.pages.c.number),
    Chunk: (tables.chunks.c.document_id, tables.chunks.c.position),
    CampaignItem: (tables.campaign_items.c.campaign_id, tables.campaign_items.c.position),
    Feedback: (tables.feedback.c.created_at, tables.feedback.c.id),
    Vote: (tables.votes.c.created_at, tables.votes.c.id),
    Note: (tables.notes.c.id,),
    JobEvent: (tables.job_events.c.job_id, tables.job_events.c.id),
}
_TUPLES: dict[type, tuple[str, ...]] = {
    Run: ("flags",),
    Document: ("warnings", "tags"),
    Feedback: ("tags", "flags"),
    Vote: ("tags", "flags"),
    CampaignItem: ("run_ids", "tags"),
    Artifact: ("inputs", "data"),
}
"""Lists of JSON that are tuples in the record."""


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
    for name in _TUPLES.get(kind, ()):
        values[name] = tuple(values[name])
    return kind(**values)
