"""How far each variant is from the baseline, on the same items: scores, length, time, tokens and cost, with intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from llmops_kit.comparison.plan import Item, Plan
from llmops_kit.errors import InvalidValue
from llmops_kit.grading import grade
from llmops_kit.playground.results import survey_grid
from llmops_kit.statistics import compare
from llmops_kit.types import Comparison, Run

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.store import Store

Measure = Callable[[Run, Item], "float | None"]
MEASURES: Mapping[str, Measure] = {
    "f1": lambda run, item: None if item.expected is None else grade(run.answer, item.expected).f1,
    "exact_match": lambda run, item: None if item.expected is None else grade(run.answer, item.expected).exact,
    "length_chars": lambda run, item: len(run.answer),
    "latency_s": lambda run, item: run.latency_s,
    "output_tokens": lambda run, item: run.output_tokens,
    "cost_usd": lambda run, item: run.cost,
}
"""What is measured of an answer, None where it cannot be; the first two need an expected answer (see `llmops_kit.grading`)."""
COLUMNS = ("variant", "measure", "n", "mean", "baseline_mean", "difference", "low", "high", "p", "established")


def compare_variants(store: Store, comparison: Comparison, plan: Plan, *, baseline: str | None = None) -> pd.DataFrame:
    """One row per variant and measure: means, and the difference to the baseline with its 95 % interval.

    Both means are over the `n` items that the variant and the baseline both answered, so that they are of the same questions.
    `established` says whether the interval leaves out 0 and p < 0.05, shared among the variants compared (Bonferroni); see
    `llmops_kit.statistics.compare`. The baseline's own rows have no difference.

    Raises: `InvalidValue` for a baseline that is not among the variants.
    """
    import pandas as pd

    names = [variant.name for variant in plan.variants]
    baseline = baseline or plan.baseline
    if baseline not in names:
        raise InvalidValue(name="baseline", value=baseline, allowed=", ".join(names))
    values: dict[str, list[dict[str, float | None]]] = {name: [dict.fromkeys(MEASURES) for _ in plan.items] for name in names}
    for slot in survey_grid(store, comparison.id, plan):
        if slot.run is not None and slot.done:
            item = plan.items[slot.cell.item]
            values[names[slot.cell.variant]][slot.cell.item] = {name: measure(slot.run, item) for name, measure in MEASURES.items()}
    ordered = [baseline, *(name for name in names if name != baseline)]
    rows = [_row(name, measure, values[name], values[baseline], comparisons=len(names) - 1) for name in ordered for measure in MEASURES]
    frame = pd.DataFrame([row for row in rows if row["n"]], columns=list(COLUMNS)).astype({"established": "boolean"})
    frame.attrs.update(comparison_id=comparison.id, baseline=baseline)
    return frame


def _row(name: str, measure: str, own: list[dict[str, float | None]], base: list[dict[str, float | None]], *, comparisons: int) -> dict[str, Any]:
    both = [(one[measure], other[measure]) for one, other in zip(own, base, strict=True)]
    pairs = [(float(one), float(other)) for one, other in both if one is not None and other is not None]
    row: dict[str, Any] = {"variant": name, "measure": measure, "n": len(pairs)}
    if not pairs:
        return row
    first, second = zip(*pairs, strict=True)
    row |= {"mean": math.fsum(first) / len(pairs), "baseline_mean": math.fsum(second) / len(pairs)}
    if own is base:
        return row
    found = compare(first, second)
    return row | {"difference": found.mean, "low": found.low, "high": found.high, "p": found.p, "established": found.is_established(max(1, comparisons))}
