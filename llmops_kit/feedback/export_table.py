"""Every rating and vote that counts as a table to take away: a row per event, a column per criterion."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops_kit.feedback.material import Material
from llmops_kit.types import Feedback, Run, Vote

if TYPE_CHECKING:
    import pandas as pd

_FIRST = ("id", "kind", "run_id", "item", "prompt_name", "prompt_version", "model", "model_revision", "adapter", "variant", "rater")
_VOTED = ("choice", "preferred_run_id", "other_run_id", "other_variant", "other_model", "other_model_revision", "blinded")
_LAST = (
    *("comment", "correction", "tags", "late", "rubric", "rubric_version", "campaign_id", "source", "duration_s"),
    *("prompt", "answer", "other_answer", "created_at"),
)
COLUMNS = (*_FIRST, *_VOTED, *_LAST)
"""The columns besides the criteria, which stand after `rater`. A criterion with one of these names gets `criterion_` in front."""


def make_table(material: Material) -> pd.DataFrame:
    """The ratings and votes, oldest first. Columns of votes are there only where there are votes.

    For a vote `run_id` is the answer on the left and `other_run_id` the one on the right. Who asked for an answer is not in it.
    """
    import pandas as pd

    names = list(dict.fromkeys(name for event in material.ratings for name in event.scores))
    columns = {name: f"criterion_{name}" if name in COLUMNS else name for name in names}
    rows = [_rating(material, event, columns) for event in material.ratings] + [_vote(material, vote) for vote in material.votes]
    rows.sort(key=lambda row: (row["created_at"], row["id"]))
    voted = _VOTED if material.votes else ()
    last = _LAST if material.votes else tuple(name for name in _LAST if name != "other_answer")
    frame = pd.DataFrame(rows, columns=[*_FIRST, *columns.values(), *voted, *last])
    frame["created_at"] = pd.to_datetime(frame["created_at"], utc=True)
    for name in columns.values():
        frame[name] = _one_type(frame[name].tolist())
    for name in ("prompt_version", "rubric_version"):
        frame[name] = frame[name].astype("Int64")
    return frame.astype({"duration_s": "float64", "late": "bool"} | ({"blinded": "boolean"} if voted else {}))


def _rating(material: Material, event: Feedback, columns: Mapping[str, str]) -> dict[str, Any]:
    about = {name: getattr(event, name) for name in ("id", "comment", "correction", "rubric", "rubric_version", "campaign_id", "source", "duration_s")}
    scores = {columns[name]: value for name, value in event.scores.items()}
    return _common(material, event) | about | scores | _answer(material.runs[event.run_id]) | {"kind": "rating"}


def _vote(material: Material, vote: Vote) -> dict[str, Any]:
    about = {name: getattr(vote, name) for name in ("id", "choice", "blinded", "comment", "campaign_id", "source", "duration_s")}
    left, right = material.runs[vote.left_run], material.runs[vote.right_run]
    other = {"other_run_id": right.id, "other_variant": vote.right_variant, "other_model": right.model, "other_model_revision": right.model_revision}
    other |= {"other_answer": right.output, "preferred_run_id": {"A": left.id, "B": right.id}.get(vote.choice)}
    return _common(material, vote) | about | _answer(left) | other | {"kind": "vote", "variant": vote.left_variant, "item": left.item or vote.item}


def _common(material: Material, event: Feedback | Vote) -> dict[str, Any]:
    facts = {"rater": material.name_of(event.rater), "tags": ", ".join(event.tags), "late": "late" in event.flags}
    return facts | {"created_at": event.created_at}


def _answer(run: Run) -> dict[str, Any]:
    names = ("item", "prompt_name", "prompt_version", "model", "model_revision", "adapter", "variant")
    asked = next((turn.content for turn in reversed(run.messages) if turn.role == "user"), "")
    return {name: getattr(run, name) for name in names} | {"run_id": run.id, "prompt": asked, "answer": run.output}


def _one_type(values: Sequence[Any]) -> pd.Series[Any]:
    """A column Parquet takes: whole numbers, numbers, yes/no or text, with gaps; text where the values are of several kinds."""
    import pandas as pd

    given = [value for value in values if value is not None and value == value]
    kinds = {type(value) for value in given}
    gaps = [None if value is None or value != value else value for value in values]
    if kinds <= {bool}:
        return pd.Series(gaps, dtype="boolean")
    if kinds <= {int} and all(abs(value) < 2**63 for value in given):
        return pd.Series(gaps, dtype="Int64")
    if kinds <= {int, float}:
        return pd.Series(gaps, dtype="Float64")
    return pd.Series([value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in gaps], dtype="object")
