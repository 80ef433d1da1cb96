"""What the workflow of a job is given in its process."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_kit.jobs.pulse import Pulse
from llmops_kit.types import Job

_BATCHED = ("train",)


@dataclass(frozen=True)
class Work:
    """A job as its process sees it: what was asked, where its files go, and where it says what happens.

    `attempt` counts the starts from 1; `resumed`: an earlier attempt may have left checkpoints in `folder`. Of a job with several
    `processes`, each has its `rank` and all run the same workflow; only rank 0 writes, whoever calls the methods here. When one process
    stops by itself the others wait for it for ever: ask `is_cancelled` in rank 0 and tell the others.
    """

    job: Job
    folder: Path
    pulse: Pulse
    rank: int = 0
    processes: int = 1

    @property
    def attempt(self) -> int:
        """Which start this is, from 1."""
        return self.job.attempt

    @property
    def resumed(self) -> bool:
        """Whether it was started before."""
        return self.job.attempt > 1

    def event(self, kind: str, step: int, **data: Any) -> None:
        """Write down what happened at `step`; durable when it returns, those of kind `train` within a second. Raises `WorkspaceError`."""
        self.pulse.add(step, kind, data)
        if kind not in _BATCHED:
            self.pulse.flush()

    def note(self, en: str, ja: str, step: int = 0) -> None:
        """Tell whoever looks at the job something, in both languages. Raises `WorkspaceError`."""
        self.event("note", step, en=en, ja=ja)

    def progress(self, step: int, steps: int, seconds_left: float | None, **more: Any) -> None:
        """Say how far it is; the row has it within a second."""
        self.pulse.set_progress({"step": step, "steps": steps, "seconds_left": seconds_left, **more})

    def is_cancelled(self) -> bool:
        """Whether it shall stop: asked at every step, it costs nothing, and knows within a second.

        A workflow that sees True saves a checkpoint and returns its result with `{"stopped": True}` in it.
        """
        return self.pulse.must_stop()
