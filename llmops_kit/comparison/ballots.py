"""Votes as arrays: who stood left and right, what was chosen, by whom, on which item, and how much it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from llmops_kit.comparison.bradley_terry import Design, Floats, Integers
from llmops_kit.types import Vote

_SIGNS = {"A": 1, "B": -1, "tie": 0, "both_bad": 0}


@dataclass(frozen=True)
class Ballots:
    """Votes in order of time. `left`, `right`, `rater` and `item` are numbers into `names`, `raters` and whatever items there are;
    `sign` is 1 for left, -1 for right, 0 for a tie or both bad (`bad`). `weight` is 1, or less where a rater's votes are capped.
    """

    names: tuple[str, ...]
    raters: tuple[str, ...]
    left: Integers
    right: Integers
    sign: Integers
    bad: NDArray[np.bool_]
    rater: Integers
    item: Integers
    weight: Floats

    def __len__(self) -> int:
        return len(self.sign)

    def only(self, kept: NDArray[np.bool_]) -> Ballots:
        """The votes marked in `kept`."""
        return Ballots(
            self.names,
            self.raters,
            left=self.left[kept],
            right=self.right[kept],
            sign=self.sign[kept],
            bad=self.bad[kept],
            rater=self.rater[kept],
            item=self.item[kept],
            weight=self.weight[kept],
        )

    def capped(self, votes: int | None) -> Ballots:
        """Nobody counts more than `votes` votes: the votes of a rater with more are each worth `votes` / their number."""
        if votes is None:
            return self
        given = np.bincount(self.rater, minlength=len(self.raters))[self.rater]
        return replace(self, weight=np.minimum(1.0, votes / np.maximum(given, 1)))


@dataclass(frozen=True)
class Rows:
    """A design with its `row` for each vote; votes of the same variants and outcome share one unless there are style covariates."""

    design: Design
    row: Integers

    def sum(self, per_vote: Floats) -> Floats:
        """The sum of `per_vote` for each row."""
        return np.bincount(self.row, per_vote, minlength=len(self.design.sign)).astype(np.float64)


def counted_votes(votes: Sequence[Vote]) -> list[Vote]:
    """The votes that say something, oldest first: withdrawn ones and those of a variant against itself are left out."""
    return sorted((vote for vote in votes if vote.choice in _SIGNS and vote.left_variant != vote.right_variant), key=lambda vote: (vote.created_at, vote.id))


def read_ballots(votes: Sequence[Vote], variants: Sequence[str] = ()) -> Ballots:
    """The votes that say something (`counted_votes`), as arrays; `variants` are named even without a vote."""
    counted = counted_votes(votes)
    names = tuple(sorted({name for vote in counted for name in (vote.left_variant, vote.right_variant)} | set(variants)))
    raters = tuple(sorted({vote.rater for vote in counted}))
    number, who = {name: at for at, name in enumerate(names)}, {name: at for at, name in enumerate(raters)}
    items = {name: at for at, name in enumerate(dict.fromkeys(vote.item for vote in counted))}

    def numbers(values: list[int]) -> Integers:
        return np.array(values, np.int64)

    return Ballots(
        names,
        raters,
        numbers([number[vote.left_variant] for vote in counted]),
        numbers([number[vote.right_variant] for vote in counted]),
        numbers([_SIGNS[vote.choice] for vote in counted]),
        np.array([vote.choice == "both_bad" for vote in counted], bool),
        numbers([who[vote.rater] for vote in counted]),
        numbers([items[vote.item] for vote in counted]),
        np.ones(len(counted)),
    )


def to_rows(ballots: Ballots, *, order_effect: bool = False, style: Floats | None = None) -> Rows:
    """The design of the votes: variants, then, where asked for, 1 for whoever stands left, then `style` covariates (votes × …)."""
    size, names = len(ballots), len(ballots.names)
    features = np.zeros((size, names))
    features[np.arange(size), ballots.left] = 1.0
    features[np.arange(size), ballots.right] = -1.0
    sign = ballots.sign
    if order_effect:
        features = np.hstack([features, np.ones((size, 1))])
    elif style is None:
        # Turned so that the lower number stands left, which the model without an order effect does not notice: fewer rows.
        turn = np.where(ballots.left > ballots.right, -1, 1)
        features, sign = features * turn[:, None], sign * turn
    if style is not None:
        return Rows(Design(np.hstack([features, style]), sign, names), np.arange(size, dtype=np.int64))
    unique, row = np.unique(np.hstack([features, sign[:, None]]), axis=0, return_inverse=True)
    return Rows(Design(unique[:, :-1], unique[:, -1].astype(np.int64), names), row.reshape(-1).astype(np.int64))
