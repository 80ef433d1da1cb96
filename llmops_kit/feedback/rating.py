"""One rating of one answer: checked, durable when it is acknowledged, and there once however often it is sent."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, cast

from llmops_kit.errors import AccessDenied, InvalidValue, UnknownName
from llmops_kit.feedback.entries import check_duration, check_id, check_rater, check_tags, check_words
from llmops_kit.feedback.rubric_reading import read_rubric
from llmops_kit.feedback.rubrics import PRESETS, SCORE, THUMB, Criterion, Rubric
from llmops_kit.types import Door, Feedback, Run, Vote

if TYPE_CHECKING:
    from llmops_kit.store import Store
    from llmops_kit.store.change import Change

Event = TypeVar("Event", bound=Feedback | Vote)


def check_run(store: Store | Change, run: Run | str) -> str:
    """The id of a run that is in the store. Raises: `UnknownName`."""
    id = run.id if isinstance(run, Run) else str(run)
    if not store.count(Run, id=id):
        raise UnknownName(
            en=f"There is no run “{id[:80]}” in this workspace. Use the id of an answer that is in kit.playground, kit.documents or kit.comparison.",
            ja=f"実行「{id[:80]}」はこのワークスペースにありません。kit.playground、kit.documents、kit.comparisonにある回答のidを使ってください。",
            kind="run",
            name=id,
        )
    return id


def make_rating(
    run_id: str,
    at: datetime,
    *,
    score: Any,
    thumb: Any,
    rubric: Mapping[str, Any] | None,
    using: Rubric | str | Mapping[str, Any] | Sequence[Any] | None,
    rater: str,
    comment: str,
    correction: str | None,
    tags: str | Sequence[str],
    id: str | None,
    source: Door,
    duration_s: float | None,
) -> Feedback:
    """The event of a free rating. Raises: `InvalidValue`, `UnknownName`."""
    scores = {criterion.name: criterion.read(value) for criterion, value in ((THUMB, thumb), (SCORE, score)) if value is not None}
    asked = read_rubric(using) if using is not None else _every_preset()
    if rubric:
        scores |= asked.check(dict(rubric), partly=using is None)
    words, corrected = check_words(comment, correction)
    labels = check_tags(tags)
    if not scores and not words and corrected is None and not labels:
        raise InvalidValue(
            en="The rating is empty. Give a thumb, a score from 1 to 5, a rubric, a comment, tags or a corrected answer.",
            ja="評価が空です。👍👎、1〜5の評価、評価項目、コメント、タグ、修正した回答のいずれかを入力してください。",
            name="rating",
        )
    named = asked.name if rubric and using is not None else "quality" if rubric else None
    return Feedback(
        id=check_id(id),
        created_at=at,
        run_id=run_id,
        rater=check_rater(rater),
        scores=scores,
        comment=words,
        correction=corrected,
        tags=labels,
        rubric=named,
        rubric_version=None if named is None else asked.version,
        source=source,
        duration_s=check_duration(duration_s),
    )


def _every_preset() -> Rubric:
    criteria: dict[str, Criterion] = {
        criterion.name: criterion for rubric in PRESETS.values() for criterion in rubric.criteria if criterion.type not in ("pairwise", "ranking")
    }
    return Rubric("quality", tuple(criteria.values()))


def append_once(store: Store, event: Feedback) -> Feedback:
    """Write the event, or give the one that is there under its id.

    Raises: `UnknownName` where the run is not there, `InvalidValue` where the id belongs to somebody else's rating or one of another answer.
    """

    def work(change: Change) -> bool:
        check_run(change, event.run_id)
        return change.append(event, publish="feedback")

    if store.commit(work):
        return event
    return same_event(event, store.get(Feedback, event.id))


def same_event(sent: Event, kept: object) -> Event:
    """`kept`, the event that has the id of `sent` already. Raises: `InvalidValue` where it is not by the same rater on the same thing."""
    subject = ("rater", "run_id", "campaign_id") if isinstance(sent, Feedback) else ("rater", "left_run", "right_run", "campaign_id")
    if not isinstance(kept, type(sent)) or any(getattr(kept, name) != getattr(sent, name) for name in subject):
        raise InvalidValue(name="id", value=sent.id, allowed={"en": "an id of its own for every rating", "ja": "評価ごとに異なるid"})
    return kept


def withdrawal(target: Event, rater: str, at: datetime) -> Event:
    """The event that takes `target` back. Its id derives from the target's: taking back twice is taking back once.

    Raises: `AccessDenied` for somebody else's event; `InvalidValue` for one that takes something back itself.
    """
    if target.rater != rater:
        raise AccessDenied(resource={"en": "somebody else's rating", "ja": "ほかの人の評価"})
    if target.choice == "withdrawn" if isinstance(target, Vote) else target.withdrawn:
        raise InvalidValue(name="id", value=target.id, allowed={"en": "a rating; this one takes another one back", "ja": "評価（これは評価の取り消しです）"})
    id = str(uuid.uuid5(uuid.NAMESPACE_OID, f"withdraw {target.id}"))
    changed: dict[str, Any] = {"id": id, "created_at": after(at, target), "comment": "", "duration_s": None, "supersedes": target.id, "flags": ()}
    if isinstance(target, Vote):
        changed |= {"choice": "withdrawn"}
    else:
        changed |= {"scores": {}, "correction": None, "tags": (), "withdrawn": True, "skipped": None}
    made: Any = target
    return cast(Event, replace(made, **changed))


def after(at: datetime, *earlier: Feedback | Vote | None) -> datetime:
    """`at`, or just after the newest of `earlier` where the clock has gone back: what was said later must count as later."""
    return max([at, *(event.created_at + timedelta(microseconds=1) for event in earlier if event is not None)])
