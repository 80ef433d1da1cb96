"""What counts of the events people left behind: the newest word of each on each thing, without what was taken back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from llmops_kit.types import Feedback


def effective(events: Iterable[Feedback]) -> list[Feedback]:
    """The ratings that count, oldest first: for each run, rater, campaign and criterion the newest.

    An event that names another as `supersedes` takes exactly that one away, if it is older and by the same rater: it replaces it, or
    with `withdrawn` makes it as if it had never been, so that what that one had replaced counts again. Skips count as no rating. Of an event whose criteria are
    partly rated anew only the rest is given; comment, correction and tags count like criteria. The order of `events` does not matter,
    and an event that is there twice counts once.
    """
    taken: set[tuple[Any, ...]] = set()
    kept: list[Feedback] = []
    for event in _in_force(events):
        if event.withdrawn or event.skipped is not None:
            continue
        who = (event.run_id, event.rater, event.campaign_id)

        def fresh(criterion: str, given: object, who: tuple[Any, ...] = who) -> bool:
            key = (*who, criterion)
            if not given or key in taken:
                return False
            taken.add(key)
            return True

        scores = {name: value for name, value in event.scores.items() if fresh(f"score:{name}", True)}
        comment = event.comment if fresh("comment", event.comment) else ""
        correction = event.correction if fresh("correction", event.correction is not None) else None
        tags = event.tags if fresh("tags", event.tags) else ()
        if scores or comment or correction is not None or tags:
            whole = scores == event.scores and (comment, correction, tags) == (event.comment, event.correction, event.tags)
            kept.append(event if whole else replace(event, scores=scores, comment=comment, correction=correction, tags=tags))
    return kept[::-1]


def newest(events: Iterable[Feedback]) -> Feedback | None:
    """The newest event in force, a rating or a skip; None where all are taken back."""
    return next((event for event in _in_force(events) if not event.withdrawn), None)


def _in_force(events: Iterable[Feedback]) -> Iterator[Feedback]:
    """The events that no newer one in force takes away, newest first."""
    ordered = sorted({event.id: event for event in events}.values(), key=lambda event: (event.created_at, event.id), reverse=True)
    withdrawn: set[tuple[str, str]] = set()
    replaced: set[tuple[str, str]] = set()
    for event in ordered:
        if (event.rater, event.id) in withdrawn:
            continue    # as if it had never been: what it replaced counts again
        if (event.rater, event.id) not in replaced:
            yield event
        if event.supersedes is not None:
            (withdrawn if event.withdrawn else replaced).add((event.rater, event.supersedes))
