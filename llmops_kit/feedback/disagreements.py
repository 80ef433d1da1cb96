"""The answers people disagree on most, for a board that is looked at together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmops_kit.feedback.agreement import VOTE
from llmops_kit.feedback.judgements import SEPARATOR, Judgement, Judgements, arrange, collect, collect_votes, count_criteria
from llmops_kit.types import Feedback, Run, Vote
from llmops_kit.votes import effective

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("run_id", "criterion", "raters", "disagreement", "values", "mean", "prompt", "answer", "comments", "variant", "item", "other_run_id", "other_answer")
_DOUBT = 2      # raters who are imagined to agree with everybody, so that one against one stands below five against five


def disagree(
    events: Sequence[Feedback],
    runs: Iterable[Run] | Mapping[str, Run],
    *,
    n: int = 20,
    criterion: str | None = None,
    levels: Mapping[str, str] | None = None,
    prose: Collection[str] = (),
) -> pd.DataFrame:
    """The `n` answers that the raters of these events (the effective ones) disagree on most, the worst first; two raters at least.

    `disagreement` is between 0 and 1: for words and yes/no the entropy of the values as a share of the most there can be, for numbers
    their variance as a share of the most the scale used allows. The order is by disagreement · raters / (raters + 2).
    Without `criterion` an answer stands there once, with the criterion people disagree on most; free text is left out, which `prose`
    names where it is known. `levels` says the level of measurement of criteria, else it is guessed. `values` is how often each value was
    given, as JSON; `comments` all that was said, without who said it.
    """
    counted = [name for name in (count_criteria(events) if criterion is None else [criterion]) if name not in prose]
    known = dict(runs) if isinstance(runs, Mapping) else {run.id: run for run in runs}
    comments: dict[str, list[str]] = {}
    for event in events:
        if event.comment.strip():
            comments.setdefault(event.run_id, []).append(event.comment)
    worst: dict[str, tuple[float, dict[str, Any]]] = {}
    for name in counted:
        for unit, weight, found in _rank(collect(events, name), name, (levels or {}).get(name)):
            run_id = unit.rpartition(SEPARATOR)[2]
            if weight > worst.get(unit, (0.0, {}))[0]:
                worst[unit] = (weight, {"run_id": run_id, "criterion": name, **found, "comments": comments.get(run_id, []), **_show(known.get(run_id))})
    return _frame(worst.values(), n)


def disagree_votes(votes: Iterable[Vote], runs: Iterable[Run] | Mapping[str, Run], *, n: int = 20) -> pd.DataFrame:
    """The `n` pairs of answers on which votes are split most, as `disagree`; `values` counts first (`run_id`), second (`other_run_id`), tie, both_bad."""
    known = dict(runs) if isinstance(runs, Mapping) else {run.id: run for run in runs}
    counted = effective(votes)
    comments: dict[frozenset[str], list[str]] = {}
    for vote in counted:
        if vote.comment.strip():
            comments.setdefault(frozenset((vote.left_run, vote.right_run)), []).append(vote.comment)
    rows = []
    for unit, weight, found in _rank(collect_votes(counted), VOTE, "nominal"):
        first, second = unit.split(SEPARATOR)
        other = {"other_run_id": second, "other_answer": known[second].answer if second in known else ""}
        row = {"run_id": first, "criterion": VOTE, **found, "comments": comments.get(frozenset((first, second)), []), **_show(known.get(first)), **other}
        rows.append((weight, row))
    return _frame(rows, n)


def _rank(judgements: Sequence[Judgement], criterion: str, level: str | None) -> Iterable[tuple[str, float, dict[str, Any]]]:
    """Of each unit of two raters or more that do not all say the same: its weight in the order, and what is known of it."""
    if not judgements:
        return
    data = arrange(judgements, criterion, level)
    counts = data.counts()
    totals = counts.sum(1)
    spread = _entropy(counts) if data.level == "nominal" or data.numbers is None else _variance(counts, data.numbers)
    for place in np.flatnonzero((totals >= 2) & (spread > 0)):
        raters, disagreement = int(totals[place]), float(spread[place])
        mean = None if data.numbers is None else float(counts[place] @ data.numbers / raters)
        found = {"raters": raters, "disagreement": disagreement, "values": _distribution(data, counts[place]), "mean": mean}
        yield data.units[place], disagreement * raters / (raters + _DOUBT), found


def _entropy(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    totals = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    bits = -(shares * np.log2(np.where(shares > 0, shares, 1))).sum(1)
    most = np.log2(np.maximum(np.minimum(totals[:, 0], counts.shape[1]), 2))
    return np.asarray(bits / most)


def _variance(counts: NDArray[np.float64], numbers: NDArray[np.float64]) -> NDArray[np.float64]:
    totals = np.maximum(counts.sum(1), 1)
    means = counts @ numbers / totals
    spread = (counts * (numbers - means[:, None]) ** 2).sum(1) / totals
    most = float(np.ptp(numbers)) ** 2 / 4
    return np.asarray(spread / most if most else spread * 0)


def _distribution(data: Judgements, counts: NDArray[np.float64]) -> str:
    given = Counter({str(value): int(count) for value, count in zip(data.domain, counts, strict=True) if count})
    return json.dumps(given, ensure_ascii=False)


def _show(run: Run | None) -> dict[str, Any]:
    """What is to be seen of an answer: what was asked, not who asked."""
    if run is None:
        return {"prompt": "", "answer": "", "variant": "", "item": ""}
    asked = next((turn.content for turn in reversed(run.messages) if turn.role == "user"), "")
    return {"prompt": asked, "answer": run.answer, "variant": run.variant or run.model, "item": run.item or ""}


def _frame(rows: Iterable[tuple[float, dict[str, Any]]], n: int) -> pd.DataFrame:
    import pandas as pd

    ordered = sorted(rows, key=lambda row: (-row[0], row[1]["run_id"]))[: max(0, n)]
    frame = pd.DataFrame([row for _, row in ordered], columns=list(COLUMNS))
    return frame.fillna({"other_run_id": "", "other_answer": ""}).astype({"mean": "float64", "disagreement": "float64"})
