"""What raters said, as a matrix: who gave which value to which answer. Missing values are the rule, not the exception."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from llmops_kit.errors import InvalidValue
from llmops_kit.types import Feedback, Vote
from llmops_kit.votes import effective

Level = Literal["nominal", "ordinal", "interval"]
LEVELS: Mapping[str, Level] = {"boolean": "nominal", "category": "nominal", "ordinal": "ordinal", "number": "interval", "ranking": "ordinal"}
"""The level of measurement of each type of criterion in a rubric. Free text has none."""
SEPARATOR = "\x1f"
"""Between the ids in the name of a unit that has two."""
_ALLOWED = ("nominal", "ordinal", "interval")
_LONGEST_WORD = 60          # characters of an option of a category; what is longer was written, not chosen
_HIGHEST_ORDINAL = 10       # whole numbers up to here are marks on a scale, beyond it they are measured


@dataclass(frozen=True)
class Judgement:
    """The value one rater gave one unit (an answer, an item, a pair of answers), and when."""

    unit: str
    rater: str
    value: Any
    at: datetime


@dataclass(frozen=True, eq=False)
class Judgements:
    """All judgements by one measure, oldest first, as three columns of positions: into `raters`, `units` and `domain`.

    `numbers` are the values of `domain` as numbers: what was given for interval, what was given or the place in the order for ordinal
    data, 0 and 1 for no and yes. It is None for words.
    """

    raters: tuple[str, ...]
    units: tuple[str, ...]
    domain: tuple[Any, ...]
    numbers: NDArray[np.float64] | None
    level: Level
    rater: NDArray[np.intp]
    unit: NDArray[np.intp]
    code: NDArray[np.intp]

    def counts(self) -> NDArray[np.float64]:
        """How often each unit (row) was given each value of the domain (column)."""
        size = len(self.units) * len(self.domain)
        flat = np.bincount(self.unit * len(self.domain) + self.code, minlength=size)
        return flat.reshape(len(self.units), len(self.domain)).astype(np.float64)


def count_criteria(events: Iterable[Feedback]) -> dict[str, int]:
    """The criteria that have a level of measurement and how many values each has, the most rated one first; free text is left out."""
    values: dict[str, list[Any]] = {}
    for event in _counted(events):
        for name, value in event.scores.items():
            if value is not None:
                values.setdefault(name, []).append(value)
    counts = {name: len(given) for name, given in values.items() if not _is_prose(given)}
    return dict(sorted(counts.items(), key=lambda each: -each[1]))


def collect(events: Iterable[Feedback], criterion: str, units: Collection[str] | None = None) -> list[Judgement]:
    """The newest value each rater gave each answer by `criterion`, oldest first; only on these `units` (ids of Runs or campaign items) if given.

    A ranking (a list of ids, best first) is one judgement per answer ranked: its place, from 1.
    """
    wanted = None if units is None else set(units)
    newest: dict[tuple[str, str], Judgement] = {}
    for event in sorted(_counted(events), key=lambda event: (event.created_at, event.id)):
        value = event.scores.get(criterion)
        if value is None or (wanted is not None and not {event.run_id, event.item_id} & wanted):
            continue
        ranked = isinstance(value, (list, tuple))
        for unit, given in [(str(run), place) for place, run in enumerate(value, 1)] if ranked else [(event.run_id, value)]:
            name = f"{event.item_id or event.run_id}{SEPARATOR}{unit}" if ranked else unit
            newest.pop((name, event.rater), None)
            newest[(name, event.rater)] = Judgement(name, event.rater, _plain(given), event.created_at)
    return list(newest.values())


def collect_votes(votes: Iterable[Vote]) -> list[Judgement]:
    """Who preferred what, the same whichever answer was on the left: the variant first in the alphabet is `first`, the other `second`."""
    found = []
    for vote in effective(votes):
        sides = sorted([(vote.left_variant, vote.left_run, "A"), (vote.right_variant, vote.right_run, "B")])
        names = {sides[0][2]: "first", sides[1][2]: "second"}
        found.append(Judgement(SEPARATOR.join(side[1] for side in sides), vote.rater, names.get(vote.choice, vote.choice), vote.created_at))
    return found


def arrange(judgements: Sequence[Judgement], criterion: str, level: str | None = None, order: Sequence[Any] | None = None) -> Judgements:
    """The judgements as a matrix at `level` (None: guessed from the values). `order` has the words of an ordinal scale, lowest first.

    Raises:
        InvalidValue: a level there is not, or one the values do not have.
    """
    if level not in (None, *_ALLOWED):
        raise InvalidValue(name="level", value=level, allowed=", ".join(_ALLOWED))
    values = [judgement.value for judgement in judgements]
    chosen: Level = level or ("ordinal" if order else guess_level(criterion, values))  # type: ignore[assignment]
    domain, numbers = _scale(values, chosen, order)
    raters, units = (tuple(dict.fromkeys(getattr(each, name) for each in judgements)) for name in ("rater", "unit"))
    places = [{value: place for place, value in enumerate(each)} for each in (raters, units, domain)]
    columns = [np.array([place[getattr(each, name)] for each in judgements], np.intp) for place, name in zip(places, ("rater", "unit", "value"), strict=True)]
    return Judgements(raters, units, domain, numbers, chosen, *columns)


def guess_level(criterion: str, values: Iterable[Any]) -> Level:
    """Nominal for yes/no, thumbs and words, ordinal for whole numbers on a scale of up to 10, interval for other numbers."""
    distinct = set(values)
    if criterion == "thumb" or any(isinstance(value, (bool, str)) for value in distinct):
        return "nominal"
    return "ordinal" if all(value == int(value) and 0 <= value <= _HIGHEST_ORDINAL for value in distinct) else "interval"


def _scale(values: Sequence[Any], level: Level, order: Sequence[Any] | None) -> tuple[tuple[Any, ...], NDArray[np.float64] | None]:
    distinct = set(values)
    if order and level != "interval":
        domain = tuple(value for value in dict.fromkeys(_plain(each) for each in order) if value in distinct)
        if unknown := sorted(map(str, distinct - set(domain))):
            raise InvalidValue(name="order", value=unknown[0], allowed=", ".join(map(str, order)))
        return domain, np.arange(len(domain), dtype=np.float64)
    if all(isinstance(value, (bool, int, float)) for value in distinct):
        domain = tuple(sorted(distinct))
        return domain, np.array(domain, np.float64)
    if level != "nominal":
        word = next(value for value in distinct if isinstance(value, str))
        raise InvalidValue(name="level", value=f"{level} ({word[:_LONGEST_WORD]})", allowed="nominal; order=[…]")
    return tuple(sorted(distinct, key=str)), None


def _counted(events: Iterable[Feedback]) -> Iterable[Feedback]:
    return (event for event in events if event.skipped is None and not event.withdrawn)


def _plain(value: Any) -> Any:
    """A value that can be compared with others: a number, yes or no, or a text."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (bool, int, float, str)) else json.dumps(value, ensure_ascii=False, default=str)


def _is_prose(values: Sequence[Any]) -> bool:
    """Whether these are texts that people wrote: hardly one given twice, and long or many."""
    words = [value for value in values if isinstance(value, str)]
    varied = len(set(words)) > len(words) / 2
    return varied and (max(map(len, words)) > _LONGEST_WORD or len(words) >= _HIGHEST_ORDINAL)
