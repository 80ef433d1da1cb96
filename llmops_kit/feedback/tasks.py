"""What a rater is given: the answers to one item in an order of their own, the rubric and the guidelines, and nothing that tells who answered."""

from __future__ import annotations

import hashlib
import html
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from llmops_kit.feedback.rubrics import Rubric
from llmops_kit.types import Feedback, Run, Vote

Kind = Literal["rate", "pairwise", "ranking"]
LETTERS = "ABCDEF"
"""The names of the answers as shown, from the left."""


@dataclass(frozen=True, repr=False)
class Task:
    """One item of a campaign as `rater` sees it. `runs` are in the order shown; where the campaign is blind they hold only what was asked
    and what was answered.

    `position` is the item's place in the campaign, `index` its place among the rater's own (both from 1). `deadline` is when it is
    given to somebody else; a rating that comes later is kept all the same. `earlier` is what the rater said of it before, if anything.
    """

    campaign_id: str
    campaign: str
    item_id: str
    rater: str
    kind: Kind
    position: int
    index: int
    runs: tuple[Run, ...]
    rubric: Rubric
    guidelines: str
    deadline: datetime
    tags: tuple[str, ...] = ()
    earlier: Feedback | Vote | None = None

    @property
    def run(self) -> Run:
        """The answer to rate; of several the first one shown."""
        return self.runs[0]

    @property
    def prompt(self) -> str:
        """What was asked, of the side that had no documents where there is one."""
        plain = next((run for run in self.runs if not run.sources), self.runs[0])
        if plain.sources and "question" in plain.variables:
            return str(plain.variables["question"])
        return next((turn.content for turn in reversed(plain.messages) if turn.role == "user"), "")

    def __repr__(self) -> str:
        answers = ", ".join(f"{letter}={run.answer[:60]!r}" for letter, run in zip(LETTERS, self.runs, strict=False))
        return f"Task({self.campaign!r}, {self.index}, {answers})"

    def _repr_html_(self) -> str:
        cell = '<td style="vertical-align:top;text-align:left;white-space:pre-wrap;overflow-wrap:anywhere">{}</td>'
        heads = "".join(f"<th style='text-align:left'>{letter}</th>" for letter in LETTERS[: len(self.runs)]) if len(self.runs) > 1 else ""
        answers = "".join(cell.format(html.escape(run.answer)) for run in self.runs)
        asked = f'<div style="white-space:pre-wrap;opacity:.75">{html.escape(self.prompt)}</div>'
        return f'{asked}<table style="width:100%"><tr>{heads}</tr><tr>{answers}</tr></table>'


@dataclass(frozen=True)
class Progress:
    """How far a campaign is: one rater's part, and the whole in counted ratings of `total` = items × k.

    `own_left` are the items this rater could still be given, as things stand. `raters` have rated at least one.
    """

    own_done: int
    own_skipped: int
    own_left: int
    done: int
    total: int
    items: int
    raters: int

    @property
    def complete(self) -> bool:
        """Whether every item has its ratings."""
        return self.done >= self.total


def shown_order(item_id: str, rater: str, run_ids: Sequence[str]) -> list[str]:
    """The runs in the order this rater sees them: as good as random, the same at every reload, and known afterwards.

    Ordered by SHA-256 of item, rater and run.
    """
    return sorted(run_ids, key=lambda run: hashlib.sha256(f"{item_id}\n{rater}\n{run}".encode()).digest())


def hide(run: Run, *, blind: bool) -> Run:
    """The run without who asked and, where `blind`, without what answered and how: only what was said and the passages it rests on.

    The system's message is left out then: where prompts are compared, it would name the side.
    """
    if not blind:
        return replace(run, participant="")
    question = {name: value for name, value in run.variables.items() if name == "question"} if run.sources else {}
    return Run(
        id=run.id,
        created_at=run.created_at,
        participant="",
        app="",
        model="",
        messages=tuple(turn for turn in run.messages if turn.role != "system"),
        prompt_sha256="",
        variables=question,
        sources=run.sources,
        output=run.output,
        finish_reason=run.finish_reason,
        bare_answer=run.bare_answer,
    )
