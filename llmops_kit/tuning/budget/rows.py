"""The rows of a run as the budget counts them: their tokens, and how many of these count in the loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmops_kit.errors import KitError
from llmops_kit.tuning.memory import StepShape
from llmops_kit.tuning.presets import guess_length

if TYPE_CHECKING:
    from llmops_kit.models import Models
    from llmops_kit.tuning.dataset import Dataset, Example
    from llmops_kit.tuning.spec import TuneSpec


@dataclass(frozen=True)
class Counted:
    """Tokens of one row: all of them, those that count in the loss, and the longest sequence it makes."""

    tokens: int
    counted: int
    longest: int


@dataclass(frozen=True)
class Rows:
    """The rows of a run, split as its seed splits them."""

    train: tuple[Counted, ...]
    evaluation: tuple[Counted, ...]

    @property
    def lengths(self) -> list[int]:
        """Tokens of each training row."""
        return [row.tokens for row in self.train]

    @property
    def tokens(self) -> int:
        """Tokens of all training rows."""
        return sum(row.tokens for row in self.train)

    @property
    def counted_share(self) -> float:
        """How many of the tokens count in the loss, from 0 to 1."""
        return sum(row.counted for row in self.train) / max(self.tokens, 1)

    def limit(self, max_tokens: int | None) -> Rows:
        """The same with every sequence cut to `max_tokens`."""
        if max_tokens is None:
            return self
        return Rows(tuple(_cut(row, max_tokens) for row in self.train), tuple(_cut(row, max_tokens) for row in self.evaluation))

    def step(self, spec: TuneSpec, *, most: int) -> StepShape:
        """What goes through the model at a time: `batch_tokens`, or what there is where that is less, in passes of at most `most` tokens, and at
        least the longest row.
        """
        longest = max((row.longest for row in self.train), default=1)
        copies = 2 if spec.is_preference else 1
        tokens = max(longest, min(spec.batch_tokens, most, math.ceil(self.tokens / copies)))
        return StepShape(tokens=tokens, counted=math.ceil(tokens * self.counted_share), copies=copies)


def count_rows(dataset: Dataset, spec: TuneSpec, models: Models, max_tokens: int) -> Rows:
    """The rows of `dataset` after the split of `spec`, counted with the base's own tokenizer; guessed from their characters without it."""
    train, evaluation = dataset.split(spec.eval_share, spec.seed)
    return Rows(_count(train, spec, models, max_tokens), _count(evaluation, spec, models, max_tokens))


def _count(examples: Sequence[Example], spec: TuneSpec, models: Models, max_tokens: int) -> tuple[Counted, ...]:
    from llmops_kit.types import Message

    answers = [[(*example.prompt, Message("assistant", text)) for text in (example.answer, example.rejected) if text is not None] for example in examples]
    try:
        encoder = models.turn_encoder(spec.base)
        encoded = iter(encoder.encode([turns for versions in answers for turns in versions]))
        rows = []
        for versions in answers:
            parts = [part.cut(max_tokens) for _ in versions for part in next(encoded)]
            lengths = [len(part.ids) for part in parts]
            rows.append(Counted(sum(lengths), sum(sum(part.counted) for part in parts), max(lengths, default=0)))
        return tuple(rows)
    except KitError:
        return tuple(_guess(example, max_tokens) for example in examples)


def _cut(row: Counted, max_tokens: int) -> Counted:
    over = max(0, row.longest - max_tokens)
    return row if not over else Counted(max(1, row.tokens - over), min(row.counted, max(1, row.tokens - over)), max_tokens)


def _guess(example: Example, max_tokens: int) -> Counted:
    tokens = min(guess_length(example), max_tokens)
    versions = 1 if example.rejected is None else 2
    counted = min(tokens, math.ceil(len(example.answer) / 2) + 1)
    return Counted(tokens * versions, counted * versions, tokens)
