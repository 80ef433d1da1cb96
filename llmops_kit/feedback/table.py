"""Ratings as a table, one row per event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmops_kit.types import Feedback

if TYPE_CHECKING:
    import pandas as pd

_COLUMNS = (
    "feedback_id",
    "run_id",
    "rater",
    "score",
    "thumb",
    "comment",
    "correction",
    "tags",
    "created_at",
    "campaign",
    "item_id",
    "rubric",
    "source",
    "duration_s",
    "skipped",
    "withdrawn",
    "supersedes",
    "flags",
)


def make_table(events: Sequence[Feedback]) -> pd.DataFrame:
    """The events newest first; the criteria of rubrics have a column each, after the others."""
    import pandas as pd

    criteria = sorted({name for event in events for name in event.scores} - {"score", "thumb"})
    return pd.DataFrame([_row(event, criteria) for event in reversed(events)], columns=[*_COLUMNS, *map(_column, criteria)])


def _row(event: Feedback, criteria: Sequence[str]) -> list[Any]:
    said = [event.score, event.scores.get("thumb"), event.comment, event.correction, list(event.tags), event.created_at, event.campaign_id]
    about = [event.item_id, event.rubric, event.source, event.duration_s, event.skipped, event.withdrawn, event.supersedes, list(event.flags)]
    return [event.id, event.run_id, event.rater, *said, *about, *(event.scores.get(name) for name in criteria)]


def _column(criterion: str) -> str:
    """The name of a criterion's column: its own, unless a fixed column has that name."""
    return f"score_{criterion}" if criterion in _COLUMNS else criterion
