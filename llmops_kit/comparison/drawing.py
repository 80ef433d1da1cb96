"""Pairs for a rater out of what the store holds: one question for the answers and one for the votes, however many there are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmops_kit.comparison.pairs import FINISHED, Answer, Deck, Pair, answers_of, make_pair
from llmops_kit.comparison.plan import app_of
from llmops_kit.comparison.voting import check_person, find_standing
from llmops_kit.errors import InvalidValue
from llmops_kit.playground.decoding import absent
from llmops_kit.types import Comparison, Run

if TYPE_CHECKING:
    from llmops_kit.store import Store

_COLUMNS = ("id", "app", "item", "variant", "output")


def draw_pairs(store: Store, runs: Any, *, rater: str, n: int = 1, seed: int | None = None) -> list[Pair]:
    """Up to `n` pairs for `rater`; see `Comparisons.pairs`.

    Raises: `UnknownName` for a comparison that is not there, `InvalidValue` for a number below 1 or what has no answers.
    """
    rater = check_person(rater)
    if n < 1:
        raise InvalidValue(name="n", value=n, allowed="≥ 1")
    answers = _find_answers(store, runs)
    deck = Deck(answers, seed=seed)
    for vote in find_standing(store, [answer.id for answer in answers]):
        deck.count(vote.left_run, vote.right_run, seen=vote.rater == rater)
    drawn = deck.draw(n)
    found = {run.id: run for run in store.find(Run, id=[answer.id for pair in drawn for answer in pair])}
    tags = find_tags(store, found.values())
    return [make_pair(found[left.id], found[right.id], tags[left.id]) for left, right in drawn if left.id in found and right.id in found]


def find_tags(store: Store, runs: Iterable[Run]) -> dict[str, tuple[str, ...]]:
    """The tags of the items that Runs answer, by Run id; none outside a comparison."""
    listed = list(runs)
    ids = {run.app.removeprefix("compare:") for run in listed if run.app.startswith("compare:")}
    kept = store.find(Comparison, id=ids) if ids else []
    tags = {(app_of(each.id), row["item"]): tuple(row["tags"]) for each in kept for row in each.spec["rows"]}
    return {run.id: tags.get((run.app, run.item), ()) for run in listed}


def _find_answers(store: Store, runs: Any) -> list[Answer]:
    comparison = getattr(runs, "attrs", {}).get("comparison_id", runs)
    several = isinstance(comparison, (list, tuple)) and comparison and all(isinstance(each, str) for each in comparison)
    if comparison is not None and not isinstance(comparison, str) and not several:
        return answers_of(_runs_of(runs))
    known = [id for (id,) in store.values(Comparison, ("id",), **({} if comparison is None else {"id": comparison}))]
    if comparison is not None and not known:
        raise absent(comparison, en="comparison", ja="比較", known=[recent.id for recent in store.find(Comparison, limit=3)])
    rows = store.values(Run, _COLUMNS, app=[app_of(id) for id in known], finish_reason=FINISHED)
    return [Answer(id, f"{app}:{item}", variant, output) for id, app, item, variant, output in rows if output.strip()]


def _runs_of(runs: Any) -> list[Run]:
    """The Runs of a list, or of what has `.runs` (a `SideBySide`)."""
    listed = list(getattr(runs, "runs", runs))
    if not all(isinstance(run, Run) for run in listed):
        raise InvalidValue(name="runs", value=type(runs).__name__, allowed="comparison_id, table, SideBySide, [Run, …]")
    return listed
