"""What a run has done so far: figures of the last step, tokens, and the time left."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmops_kit.tuning.training.order import Step

_RECENT = 20


@dataclass
class StepFacts:
    """Figures of the last step, and of the run. `tokens` are those of the rows, padding not counted; `tokens_per_s` is over the last steps."""

    loss: float = 0.0
    grad_norm: float = 0.0
    learning_rate: float = 0.0
    epoch: float = 0.0
    tokens: int = 0
    seconds: float = 0.0
    """Of the steps alone, evaluations and checkpoints not counted."""
    _recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _began_s: float | None = None

    def begin(self) -> None:
        """The next step begins now."""
        self._began_s = time.monotonic()

    def add(self, step: Step, *, loss: float, grad_norm: float, learning_rate: float, tokens: int) -> None:
        """A step's passes are done."""
        took_s = time.monotonic() - (self._began_s if self._began_s is not None else time.monotonic())
        self.loss, self.grad_norm, self.learning_rate, self.epoch = loss, grad_norm, learning_rate, step.epoch
        self.tokens += tokens
        self.seconds += took_s
        self._recent.append((tokens, took_s))

    @property
    def tokens_per_s(self) -> float:
        """Over the last steps."""
        seconds = sum(took for _, took in self._recent)
        return sum(tokens for tokens, _ in self._recent) / seconds if seconds else 0.0


class Clock:
    """How long the rest takes: as long for each step as the steps of this start took so far, evaluations included."""

    def __init__(self, done: int, steps: int) -> None:
        self._first, self._steps, self._began_s = done, steps, time.monotonic()

    def seconds_left(self, done: int) -> float | None:
        """None before the first step."""
        if done <= self._first:
            return None
        return round((time.monotonic() - self._began_s) / (done - self._first) * (self._steps - done), 1)
