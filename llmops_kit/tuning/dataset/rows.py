"""The rows of a data set: `Example`, and what is left out (`Problem`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from llmops_kit.types import Message

Kind = Literal["sft", "dpo", "kto"]
Bilingual = Mapping[str, str]


@dataclass(frozen=True)
class Example:
    """One row to learn from: what is asked (`prompt`) and the `answer`; of a preference the `rejected` answer, or whether it is good (`label`).

    `id` is the same for rows that say the same after NFKC. `line` is where the row stands in its file (of a list: its number, from 1).
    `weight` is how much its raters agree, where the row comes from ratings; `item` the test item it answers.
    """

    id: str
    line: int
    prompt: tuple[Message, ...]
    answer: str
    rejected: str | None = None
    label: bool | None = None
    weight: float = 1.0
    item: str = ""

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation: the prompt, then the answer."""
        return (*self.prompt, Message("assistant", self.answer))

    @property
    def question(self) -> str:
        """The last thing that is asked."""
        return next((turn.content for turn in reversed(self.prompt) if turn.role == "user"), "")


@dataclass(frozen=True)
class Problem:
    """A row that is left out: its `line`, and the `reason` in `en` and `ja`."""

    line: int
    reason: Bilingual
