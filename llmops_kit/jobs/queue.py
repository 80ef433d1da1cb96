"""Whose turn is next, and when: nobody's second job comes before everybody's first."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from llmops_kit.types import Job, now

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Place:
    """Where a waiting job stands: `position` 0 starts next; `expected_start_s` is in how many seconds, None where nothing is known."""

    position: int
    expected_start_s: float | None


def in_turn(waiting: Iterable[Job], running: Iterable[Job], last_starts: Mapping[str, datetime]) -> list[Job]:
    """The waiting jobs in the order they start.

    Each owner's jobs are counted, those that run included: first ones come before second ones. Among the same count, whose last start
    (`last_starts`, by owner) is longest ago, or never was, comes first; then who has waited longest. So there is round robin between
    owners, and nobody waits more than one round.
    """
    counted = Counter(job.owner for job in running)
    keyed = []
    for job in sorted(waiting, key=queued_at):
        keyed.append(((counted[job.owner], last_starts.get(job.owner, _LONG_AGO), queued_at(job)), job))
        counted[job.owner] += 1
    return [job for _, job in sorted(keyed, key=lambda pair: (*pair[0], pair[1].id))]


def queued_at(job: Job) -> datetime:
    """When the job was put in line: when it was made, or taken up again."""
    return job.heartbeat_at or job.created_at


def place_of(id: str, turns: Sequence[Job], running: Sequence[Job], at_once: int) -> Place | None:
    """The place of the job among `turns`; None where it does not wait.

    A slot is free when the job in it is expected to end: by what it says itself, else by how long it was estimated to run.
    """
    free: list[float] = [0.0] * max(0, at_once - len(running))
    known = True
    for job in running:
        left = seconds_left(job)
        known = known and left is not None
        free.append(left or 0.0)
    heapq.heapify(free)
    for position, job in enumerate(turns):
        starts = heapq.heappop(free)
        if job.id == id:
            return Place(position, round(starts, 1) if known else None)
        known = known and job.expected_s is not None
        heapq.heappush(free, starts + (job.expected_s or 0.0))
    return None


def seconds_left(job: Job) -> float | None:
    """How long a running job will still take: what it said last, less the time since; else its estimate less the time it runs."""
    said = job.progress.get("seconds_left")
    if isinstance(said, (int, float)) and job.heartbeat_at is not None:
        return max(0.0, said - (now() - job.heartbeat_at).total_seconds())
    if job.expected_s is not None and job.started_at is not None:
        return max(0.0, job.expected_s - (now() - job.started_at).total_seconds())
    return None
