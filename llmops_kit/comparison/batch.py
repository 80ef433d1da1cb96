"""A test set answered by several variants: several calls at once, stoppable, and resumable from the store."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.comparison.boards import compare_table
from llmops_kit.comparison.plan import Cell, Plan, make_plan
from llmops_kit.comparison.sides import Asked, Participants, names_of
from llmops_kit.comparison.variants import MOST_IN_BATCH, read_variants
from llmops_kit.errors import InvalidValue
from llmops_kit.playground.pool import work_off
from llmops_kit.playground.results import Slot, survey_grid
from llmops_kit.progress import Progress, show_progress
from llmops_kit.types import Comparison, Run, new_id, now

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Step:
    """How far a comparison is: cells with an answer, cells that failed just now, all cells, seconds left (None: not known yet)."""

    comparison_id: str
    done: int
    failed: int
    total: int
    seconds_left: float | None = None


def run_batch(asked: Asked, *, progress: Progress | Literal[False] | None = None, **options: Any) -> pd.DataFrame:
    """Run a comparison to its end, or until `cancel` is set, and give its table. Takes the keywords of `stream_batch` and raises what it raises."""
    comparison_id = None
    with show_progress(progress, "run") as show:
        try:
            for step in stream_batch(asked, **options):
                comparison_id = step.comparison_id
                show(step.done + step.failed, step.total, step.seconds_left)
        except BaseException as stopped:
            if comparison_id is not None:
                stopped.add_note(f"resume={comparison_id!r} continues this comparison")
            raise
    assert comparison_id is not None
    return compare_table(asked.store, *asked.load(comparison_id))


def stream_batch(
    asked: Asked,
    *,
    prompt: Any = None,
    models: Any = None,
    rows: Any = None,
    params: Mapping[str, Any] | None = None,
    baseline: str | None = None,
    participant: Participants = "local",
    cancel: threading.Event | None = None,
    resume: str | None = None,
    workers: int = 8,
    api_keys: Mapping[str, str] | None = None,
) -> Iterator[Step]:
    """Run a comparison and give a step at its start and after each answer; see `Comparisons.batch`. Closing the iterator stops it, as `cancel` does.

    Raises: `UnknownName` for a prompt or comparison, `InvalidValue` for anything else that does not serve, `WorkspaceError`.
    """
    if workers < 1:
        raise InvalidValue(name="workers", value=workers, allowed="≥ 1")
    if resume is None:
        variants = read_variants(models, most=MOST_IN_BATCH)
        plan = make_plan(prompt, variants, rows, params, asked.playground.prompts, baseline=baseline)
        comparison = Comparison(new_id(), now(), names_of(participant)[0], plan.spec())
        asked.store.append(comparison, publish="comparison")
    else:
        comparison, plan = asked.load(resume)
        _check_same(asked, comparison, plan, {"prompt": prompt, "models": models, "rows": rows, "params": params, "baseline": baseline})
    how = {"participant": participant, "api_keys": api_keys or {}}
    return _steps(asked, comparison, plan, how, workers=workers, cancel=cancel or threading.Event())


def _steps(asked: Asked, comparison: Comparison, plan: Plan, how: Mapping[str, Any], *, workers: int, cancel: threading.Event) -> Iterator[Step]:
    def answer(slot: Slot[Cell], stop: threading.Event) -> Run | None:
        run_id = plan.run_id(comparison.id, slot.cell, slot.attempt)
        return asked.answer(comparison, plan, slot.cell, run_id=run_id, how=how, stop=stop)

    slots = survey_grid(asked.store, comparison.id, plan)
    with closing(work_off(slots, answer, workers=workers, cancel=cancel)) as counts:  # type: ignore[type-var]
        for count in counts:
            yield Step(comparison.id, *count)


def _check_same(asked: Asked, comparison: Comparison, plan: Plan, given: Mapping[str, Any]) -> None:
    """Refuse a resume whose arguments ask for another comparison. The prompt goes by name: a newer version changes nothing here."""
    library = asked.playground.prompts
    variants = plan.variants if given["models"] is None else read_variants(given["models"], most=MOST_IN_BATCH)
    wanted = make_plan(given["prompt"] or plan.prompt, variants, given["rows"], given["params"], library, baseline=given["baseline"])
    same = {
        "prompt": wanted.prompt.name == plan.prompt.name,
        "models": [(each.name, each.model, each.documents, dict(each.params)) for each in wanted.variants]
        == [(each.name, each.model, each.documents, dict(each.params)) for each in plan.variants],
        "rows": wanted.spec()["rows"] == plan.spec()["rows"],
        "params": wanted.params == plan.params,
        "baseline": wanted.baseline == plan.baseline,
    }
    for name, value in given.items():
        if value is not None and value != {} and not same[name]:
            raise InvalidValue(
                en=f"The comparison {comparison.id} was started with other {name}. Leave {name} out to resume it, or leave resume out to start a new one.",
                ja=f"比較{comparison.id}は別の{name}で始められています。再開するには{name}を省略し、新しく始めるにはresumeを省略してください。",
                name=name,
                value=comparison.id,
            )
