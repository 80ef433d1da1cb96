"""Long work in a process of its own: a job is a row, and what happened in it are events that are appended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

JobState = Literal["queued", "running", "finished", "failed", "cancelled", "interrupted"]
"""`interrupted`: its process ended without a word (killed, power cut). Failed, cancelled and interrupted jobs can be resumed."""
JobEngine = Literal["process", "ray"]
ENDED: tuple[JobState, ...] = ("finished", "failed", "cancelled", "interrupted")


@dataclass(frozen=True)
class Job:
    """One piece of long work, whoever looks at it. Everything a face shows of it stands here or in its events.

    `kind` says which workflow carries it out (`tune`, `pretrain`), `spec` is what was asked for, as plain JSON. `attempt` counts the
    starts, from 1. `handle` names the process (`pid`, `started_s`, `host`, `boot`) or the Ray job (`submission_id`). `expected_s` is how long it
    was estimated to run. `progress` has `step`, `steps`, `seconds_left`, and whatever else is shown live. `cancelled_by` is who asked to
    stop it. `reason` says why it ended as it did: `code` (such as `killed`, `out_of_memory`, `disk_full`, `diverged`, `fault`), `en`, `ja`.
    `result` is what it made, as plain JSON.
    """

    id: str
    created_at: datetime
    owner: str
    kind: str
    name: str
    spec: Mapping[str, Any]
    state: JobState = "queued"
    attempt: int = 0
    engine: JobEngine = "process"
    handle: Mapping[str, Any] = field(default_factory=dict)
    expected_s: float | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None
    heartbeat_at: datetime | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    cancelled_by: str | None = None
    reason: Mapping[str, str] = field(default_factory=dict)
    result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def has_ended(self) -> bool:
        """Whether nothing more happens by itself."""
        return self.state in ENDED


@dataclass(frozen=True)
class JobEvent:
    """One thing that happened in a job at a step: `kind` says what, `data` is plain JSON.

    After a resume, steps that the lost attempt had reached beyond its last checkpoint come again: for a step, the highest `attempt` counts.
    """

    id: str
    job_id: str
    created_at: datetime
    attempt: int
    step: int
    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)
