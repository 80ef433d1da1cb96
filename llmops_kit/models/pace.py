"""How fast an engine answers, and so for how long somebody in line is likely to wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmops_kit.models.running import Task

_RATE_WINDOW_S = 5.0
_NEWEST_SHARE = 0.2  # of the newest answer in the mean time an answer takes


class Pace:
    """The mean time of an answer and the tokens of the last seconds. Not safe between threads: its user brings the lock."""

    def __init__(self) -> None:
        self._answer_s: float | None = None
        self._steps: deque[tuple[float, int]] = deque(maxlen=1000)

    @property
    def tokens_per_s(self) -> float:
        """Tokens a second over the last five seconds, of all answers together."""
        now = time.monotonic()
        return sum(tokens for moment, tokens in self._steps if now - moment < _RATE_WINDOW_S) / _RATE_WINDOW_S

    def note_step(self, tokens: int) -> None:
        """Count the tokens of one step."""
        if tokens:
            self._steps.append((time.monotonic(), tokens))

    def note_answer(self, task: Task) -> None:
        """Count an answer that ended by itself."""
        took_s = time.monotonic() - task.started_at
        self._answer_s = took_s if self._answer_s is None else (1 - _NEWEST_SHARE) * self._answer_s + _NEWEST_SHARE * took_s

    def expect_wait_s(self, position: int, running: Sequence[Task], *, slots: int) -> float | None:
        """Seconds until whoever is at `position` in line gets a place, or None where no answer has ended yet.

        An answer takes as long as the last ones did; one that took longer already, as long again, unless its token limit ends it before.
        """
        if len(running) + position < slots:
            return 0.0
        if self._answer_s is None:
            return None
        rounds, place = divmod(position, slots)
        left_s = sorted(self._left_s(task, self._answer_s) for task in running)
        return (left_s[min(place, len(left_s) - 1)] if left_s else 0.0) + rounds * self._answer_s

    def _left_s(self, task: Task, answer_s: float) -> float:
        took_s = time.monotonic() - task.started_at
        limit_s = took_s / max(1, task.written) * (task.max_tokens - task.written)
        return min(answer_s - took_s if took_s < answer_s else took_s, limit_s)
