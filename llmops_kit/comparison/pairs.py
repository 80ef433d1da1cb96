"""Blind pairs: which two answers to show a rater next, so that every two variants and every item get about as many votes.

The draw is random among what has the fewest votes, so that forty people who draw at the same moment do not all get the same pair.
"""

from __future__ import annotations

import html
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple, TypeVar

from llmops_kit.errors import InvalidValue
from llmops_kit.types import Run
from llmops_kit.variants import is_usable, item_of, variant_of

T = TypeVar("T")
FINISHED = ("stop", "length", "content_filter")
"""How a Run ends that has neither failed nor been stopped; the part of `is_usable` that the database can be asked."""
_BLIND = {"A": "A（左 / left）", "B": "B（右 / right）"}


@dataclass(frozen=True, repr=False)
class Pair:
    """Two answers to the same `item`, `left` and `right` as drawn. Showing it, in a notebook too, names neither variant."""

    item: str
    left: Run
    right: Run
    left_variant: str
    right_variant: str
    tags: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """What both were asked: the last message of a person, of the side without documents where there is one."""
        plain = self.right if self.left.sources and not self.right.sources else self.left
        if plain.sources and "question" in plain.variables:
            return str(plain.variables["question"])
        return next((turn.content for turn in reversed(plain.messages) if turn.role == "user"), "")

    def __repr__(self) -> str:
        return f"Pair(item={self.item!r}, A={self.left.output[:60]!r}, B={self.right.output[:60]!r})"

    def _repr_html_(self) -> str:
        cell = '<td style="vertical-align:top;text-align:left;white-space:pre-wrap;overflow-wrap:anywhere;width:50%">{}</td>'
        sides = "".join(cell.format(html.escape(run.output)) for run in (self.left, self.right))
        heads = "".join(f"<th style='text-align:left'>{name}</th>" for name in _BLIND.values())
        asked = html.escape(self.question)
        return f'<div style="white-space:pre-wrap;opacity:.75">{asked}</div><table style="width:100%"><tr>{heads}</tr><tr>{sides}</tr></table>'


class Answer(NamedTuple):
    """What is needed of a usable Run to draw it: its id, item key, variant, and what it says."""

    id: str
    item: str
    variant: str
    output: str


def check_pair(left: Run, right: Run) -> None:
    """Refuse what is no pair. Raises: `InvalidValue` for a Run beside itself or beside an answer to something else."""
    if left.id == right.id:
        raise InvalidValue(name="pair", value=left.id, allowed={"en": "two different answers", "ja": "異なる2つの回答"})
    if item_of(left) != item_of(right):
        raise InvalidValue(name="pair", value=f"{left.id}, {right.id}", allowed={"en": "two answers to the same item", "ja": "同じ項目への2つの回答"})


def make_pair(left: Run, right: Run, tags: Sequence[str] = ()) -> Pair:
    """Two answers as a `Pair`, as they are given. Raises: as `check_pair`."""
    check_pair(left, right)
    return Pair(item_of(left), left, right, variant_of(left), variant_of(right), tuple(tags))


def answers_of(runs: Iterable[Run]) -> list[Answer]:
    """The usable ones among `runs`; where a variant answered an item several times, the newest comes last."""
    usable = sorted((run for run in runs if is_usable(run)), key=lambda run: (run.created_at, run.id))
    return [Answer(run.id, item_of(run), variant_of(run), run.output) for run in usable]


class Deck:
    """The pairs that can be drawn from some answers, and how often each was voted on."""

    def __init__(self, answers: Iterable[Answer], *, seed: int | None = None) -> None:
        self._items: dict[str, dict[str, Answer]] = {}
        self._where: dict[str, tuple[str, str]] = {}
        for answer in answers:
            self._items.setdefault(answer.item, {})[answer.variant] = answer
            self._where[answer.id] = (answer.item, answer.variant)
        self._random = random.Random(seed)
        self._of_variants: Counter[tuple[str, str]] = Counter()
        self._of_cells: Counter[tuple[str, tuple[str, str]]] = Counter()
        self._of_items: Counter[str] = Counter()
        self._left: Counter[tuple[str, str]] = Counter()
        self._seen: set[tuple[str, str]] = set()

    def count(self, left_run: str, right_run: str, *, seen: bool = False) -> None:
        """Take note of a vote on two Runs; `seen` where it is the rater's own, who does not get these two again."""
        left, right = self._where.get(left_run), self._where.get(right_run)
        if left is None or right is None or left[0] != right[0]:
            return
        item, names = left[0], _ordered(left[1], right[1])
        self._of_variants[names] += 1
        self._of_cells[item, names] += 1
        self._of_items[item] += 1
        self._left[left[1], right[1]] += 1
        if seen:
            self._seen.add(_ordered(left_run, right_run))

    def draw(self, n: int) -> list[tuple[Answer, Answer]]:
        """Up to `n` pairs (left, right), different ones, those whose answers are word for word the same last."""
        variants = sorted({name for answers in self._items.values() for name in answers})
        drawn: list[tuple[Answer, Answer]] = []
        for same in (False, True):
            free = list(combinations(variants, 2))
            while free and len(drawn) < n:
                names = self._choose(free, lambda names: self._of_variants[names])
                items = [item for item, answers in self._items.items() if self._is_free(answers, names, same)]
                if not items:
                    free.remove(names)
                    continue
                # Twice the weight for the votes on just these two: an item all of whose pairs have one is better than one with three on one pair.
                item = self._choose(items, lambda item, names=names: 2 * self._of_cells[item, names] + self._of_items[item])  # type: ignore[misc]
                left, right = self._place(self._items[item], names)
                self.count(left.id, right.id, seen=True)
                drawn.append((left, right))
        return drawn

    def _is_free(self, answers: Mapping[str, Answer], names: tuple[str, str], same: bool) -> bool:
        one, other = answers.get(names[0]), answers.get(names[1])
        if one is None or other is None or (one.output == other.output) is not same:
            return False
        return _ordered(one.id, other.id) not in self._seen

    def _choose(self, among: Sequence[T], votes: Callable[[T], int]) -> T:
        """One of `among`, by chance: each vote more than the one with the fewest halves the odds, so that those who draw at once spread out."""
        counts = [votes(each) for each in among]
        fewest = min(counts)
        return self._random.choices(among, [0.5 ** min(count - fewest, 1000) for count in counts])[0]

    def _place(self, answers: Mapping[str, Answer], names: tuple[str, str]) -> tuple[Answer, Answer]:
        """Left and right by chance, in favour of the order that was shown less often."""
        ahead = self._left[names] - self._left[names[::-1]]
        stays = self._random.random() < 1 / (1 + 2.0 ** max(-50, min(50, ahead)))
        one, other = names if stays else names[::-1]
        return answers[one], answers[other]


def _ordered(one: str, other: str) -> tuple[str, str]:
    return (one, other) if one <= other else (other, one)
