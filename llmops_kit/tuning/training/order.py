"""In which order the rows are learnt from, and which rows make up a step: fixed by the seed, so that a resumed run goes on where it was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llmops_kit.tuning.dataset import Example


@dataclass(frozen=True)
class Step:
    """One optimiser step: the places of its rows, and how many epochs are over with it."""

    rows: tuple[int, ...]
    epoch: float


def shuffle_places(count: int, seed: int, epoch: int) -> list[int]:
    """The places 0 … count - 1 in the order of an epoch (from 0)."""
    places = list(range(count))
    Random(f"{seed} {epoch}").shuffle(places)
    return places


def first_rows(examples: Sequence[Example], seed: int) -> list[Example]:
    """The training examples in the order of the first epoch."""
    return [examples[place] for place in shuffle_places(len(examples), seed, 0)]


def plan_steps(groups: Sequence[Sequence[int]], *, epochs: float, batch_tokens: int, seed: int, max_steps: int | None = None) -> list[Step]:
    """The steps of a whole run.

    `groups` has the lengths in tokens of each example's rows (an example of several turns may have several). Each epoch is cut into
    `ceil(tokens / batch_tokens)` steps of about equal size, so that no small last step counts as much as the others. Of a broken last epoch
    its share of the examples is seen.
    """
    first_row = [0]
    for lengths in groups:
        first_row.append(first_row[-1] + len(lengths))
    steps: list[Step] = []
    for epoch in range(math.ceil(epochs)):
        share = min(1.0, epochs - epoch)
        order = shuffle_places(len(groups), seed, epoch)[: max(1, round(share * len(groups)))]
        rows = [(first_row[place] + number, length) for place in order for number, length in enumerate(groups[place])]
        seen = 0
        cuts = _cut(rows, batch_tokens)
        total = sum(map(len, cuts))
        for cut in cuts:
            seen += len(cut)
            steps.append(Step(tuple(cut), round(epoch + share * seen / total, 6)))
    return steps[:max_steps]


def _cut(rows: Sequence[tuple[int, int]], batch_tokens: int) -> list[list[int]]:
    """Consecutive rows, cut where the tokens so far are nearest to equal parts."""
    total = sum(length for _, length in rows)
    parts = max(1, math.ceil(total / batch_tokens))
    cuts: list[list[int]] = [[]]
    seen = 0
    for row, length in rows:
        if cuts[-1] and seen + length / 2 > total * len(cuts) / parts:
            cuts.append([])
        cuts[-1].append(row)
        seen += length
    return [cut for cut in cuts if cut]
