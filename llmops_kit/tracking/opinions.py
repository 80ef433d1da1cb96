"""The rows of what people said of answers: the tables `feedback` and `votes`, one row per event and never one changed.

The columns are those recommended for human feedback (W&B's and Langfuse's examples merged), the same names in both tables:

- `feedback` has a row for each criterion that was rated. The first has the record's id as `feedback_id`, the others
  `<id>:<criterion>`; what was said once of the whole answer (`comment`, `corrected_output`, `duration_ms`) is in the first alone.
  `kind` is `thumb`, `rating` (a number), `label` (a word, a list, true or false), `correction`, `comment`, `skip` or `withdrawal`.
  A number is in `value_num` (true is 1), anything else in `value_str`, lists as JSON. `item_id` is the campaign's item.
- `votes` has a row for each vote on a pair: `choice` is `A` (the left answer), `B`, `tie`, `both_bad` or `withdrawn`; `value_num` is 1
  where the left one was preferred, -1 the right one, 0 neither. `shown_order` is the two run ids as JSON, the left one first.
  `item_id` is the test item, `campaign_item_id` the campaign's.

`rater_id` is a pseudonym, the same in both tables. `source` is `ui`, `notebook`, `annotation` (a campaign), `api` or `import`. The kit
does not ask for `rater_role`, `consent` and `pii_flag`: they are empty, and there for whoever fills them in. The current view is the
newest row by `trace_id`, `rater_id` and `criterion`, less those that a row with `withdrawn` names in `supersedes`.
"""

from __future__ import annotations

from typing import Any

from llmops_kit.tracking.cells import Columns, RaterName, Rows, as_json, make_row, milliseconds
from llmops_kit.types import Feedback, Vote

_WHO: Columns = {"rater_id": str, "rater_role": str, "source": str, "kind": str}
_WHEN: Columns = {
    **{"comment": str, "corrected_output": str, "duration_ms": float, "created_at": str, "supersedes": str, "consent": bool, "pii_flag": bool},
    **{"tags": str, "campaign_id": str, "withdrawn": bool, "flags": str},
}
FEEDBACK_COLUMNS: Columns = {
    **{"feedback_id": str, "trace_id": str, "item_id": str, "run_id": str},
    **_WHO,
    **{"rubric_id": str, "rubric_version": int, "criterion": str, "value_num": float, "value_str": str},
    **_WHEN,
    "skipped": str,
}
VOTE_COLUMNS: Columns = {
    **{"feedback_id": str, "item_id": str, "campaign_item_id": str},
    **_WHO,
    **{"value_num": float, "choice": str, "shown_order": str, "blinded": bool},
    **{"left_run_id": str, "right_run_id": str, "left_variant": str, "right_variant": str},
    **{name: kind for name, kind in _WHEN.items() if name != "corrected_output"},
}
_SOURCES = {"campaign": "annotation"}
_PREFERENCES = {"A": 1, "B": -1, "tie": 0, "both_bad": 0}


def feedback_rows(feedback: Feedback, name_rater: RaterName) -> Rows:
    """One row per criterion; one without a criterion where none was rated."""
    every = {
        **_event(feedback, name_rater),
        "trace_id": feedback.run_id,
        "item_id": feedback.item_id,
        "run_id": feedback.run_id,
        "rubric_id": feedback.rubric,
        "rubric_version": feedback.rubric_version,
        "withdrawn": feedback.withdrawn,
        "skipped": feedback.skipped,
    }
    once = {"comment": feedback.comment or None, "corrected_output": feedback.correction, "duration_ms": milliseconds(feedback.duration_s)}
    rated: list[dict[str, Any]] = [{"criterion": name, **_rated(name, value)} for name, value in feedback.scores.items()]
    rows = []
    for number, row in enumerate(rated or [{}]):
        id = f"{feedback.id}:{row['criterion']}" if number else feedback.id
        values = {**every, **({} if number else once), **row, "feedback_id": id, "kind": _whole_kind(feedback) or row.get("kind", "comment")}
        rows.append(make_row(values, FEEDBACK_COLUMNS))
    return {"feedback": rows}


def vote_rows(vote: Vote, name_rater: RaterName) -> Rows:
    """One row."""
    values = {
        **_event(vote, name_rater),
        "feedback_id": vote.id,
        "item_id": vote.item,
        "campaign_item_id": vote.item_id,
        "kind": "pairwise",
        "value_num": _PREFERENCES.get(vote.choice),
        "choice": vote.choice,
        "shown_order": as_json([vote.left_run, vote.right_run]),
        "blinded": vote.blinded,
        "left_run_id": vote.left_run,
        "right_run_id": vote.right_run,
        "left_variant": vote.left_variant,
        "right_variant": vote.right_variant,
        "comment": vote.comment or None,
        "duration_ms": milliseconds(vote.duration_s),
        "withdrawn": vote.choice == "withdrawn",
    }
    return {"votes": [make_row(values, VOTE_COLUMNS)]}


def _event(event: Feedback | Vote, name_rater: RaterName) -> dict[str, Any]:
    return {
        "rater_id": name_rater(event.rater),
        "source": _SOURCES.get(event.source, event.source),
        "created_at": event.created_at.isoformat(),
        "supersedes": event.supersedes,
        "tags": as_json(event.tags),
        "campaign_id": event.campaign_id,
        "flags": as_json(event.flags),
    }


def _whole_kind(feedback: Feedback) -> str | None:
    """The kind of an event that rates nothing; None where it rates something or only comments."""
    if feedback.withdrawn or feedback.skipped is not None:
        return "withdrawal" if feedback.withdrawn else "skip"
    return "correction" if feedback.correction is not None and not feedback.scores else None


def _rated(criterion: str, value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"kind": "label", "value_num": int(value), "value_str": as_json(value)}
    if isinstance(value, (int, float)):
        return {"kind": "thumb" if criterion == "thumb" else "rating", "value_num": value}
    return {"kind": "label", "value_str": value if isinstance(value, str) or value is None else as_json(value)}
