"""The grid runner: prompts × models × parameters × rows × repeats, several at once, stoppable and resumable."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.errors import InvalidValue
from llmops_kit.playground.cells import Cell, Plan, plan_models, plan_params, plan_prompts, plan_rows
from llmops_kit.playground.pool import follow, work_off
from llmops_kit.playground.results import Slot, grid_table, load_grid, survey_grid
from llmops_kit.progress import Progress, show_progress
from llmops_kit.types import Grid, Run, new_id, now

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.playground import Playground
    from llmops_kit.store import Store

__all__ = ["GridStep", "grid_table", "run_grid", "stream_grid"]


@dataclass(frozen=True)
class GridStep:
    """How far a grid is: cells with an answer, cells that failed just now, all cells, seconds left (None: not known yet)."""

    grid_id: str
    done: int
    failed: int
    total: int
    seconds_left: float | None = None


def run_grid(playground: Playground, store: Store, *, progress: Progress | Literal[False] | None = None, **options: Any) -> pd.DataFrame:
    """Run a grid to its end, or until `cancel` is set, and give its table (see `grid_table`).

    Takes the keywords of `stream_grid` and raises what it raises. `progress(done, total, seconds_left)` is called from
    this thread after each cell; without it a bar is drawn in a notebook or a terminal, with False nothing is.
    An interrupt (Ctrl-C, the notebook's stop) keeps what is done and names the id to resume with.
    """
    grid_id = None
    with show_progress(progress, "run") as show:
        try:
            for step in stream_grid(playground, store, **options):
                grid_id = step.grid_id
                show(step.done + step.failed, step.total, step.seconds_left)
        except BaseException as stopped:
            if grid_id is not None:
                stopped.add_note(f"resume={grid_id!r} continues this grid")
            raise
    assert grid_id is not None
    return grid_table(store, grid_id)


def stream_grid(
    playground: Playground,
    store: Store,
    *,
    prompts: Any = None,
    models: Any = None,
    rows: Any = None,
    params: Any = None,
    repeats: int | None = None,
    participant: str = "local",
    resume: str | None = None,
    cancel: threading.Event | None = None,
    workers: int = 8,
    api_keys: Mapping[str, str] | None = None,
) -> Iterator[GridStep]:
    """Run a grid and give a step at its start and after each cell. Closing the iterator stops it, as `cancel` does.

    `prompts`: a library name, a `Prompt`, a chat, or a list of them. `models`: an id, a list, or None for the one each
    prompt suggests. `rows`: mappings, a DataFrame, a `RowTable`, a file, or None. `params`: a mapping or several.
    A `seed` grows by one with each of the `repeats`. Cells run row by row, `workers` at a time. `api_keys` (by model
    id) are used and kept nowhere. `resume` is the id of a grid: only what is missing or failed runs (again), and
    whatever else is given must be what the grid was started with.

    A call that fails is a cell with an error and stops nothing; only a store that cannot be written, or a bug, does.

    Raises: `UnknownName` for a prompt or grid, `InvalidValue` for anything else that does not serve, `WorkspaceError`.
    """
    if workers < 1:
        raise InvalidValue(name="workers", value=workers, allowed="≥ 1")
    asked = {"prompts": prompts, "models": models, "rows": rows, "params": params, "repeats": repeats}
    if resume is None:
        plan = _plan(playground, asked)
        grid = Grid(id=new_id(), created_at=now(), participant=participant, spec=plan.spec())
        store.append(grid, publish="grid")
    else:
        grid, plan = load_grid(store, resume)
        _check_same(playground, grid, asked)
    work = _Work(playground, grid, plan, api_keys or {})
    return work.steps(survey_grid(store, grid.id, plan), workers=workers, cancel=cancel or threading.Event())


def _plan(playground: Playground, asked: Mapping[str, Any]) -> Plan:
    if asked["prompts"] is None:
        raise InvalidValue(name="prompts", value=None, allowed="name, Prompt, list")
    return Plan(
        prompts=plan_prompts(asked["prompts"], playground.prompts),
        models=plan_models(asked["models"]),
        rows=plan_rows(asked["rows"]),
        params=plan_params(asked["params"]),
        repeats=1 if asked["repeats"] is None else asked["repeats"],
    )


def _check_same(playground: Playground, grid: Grid, asked: Mapping[str, Any]) -> None:
    """Refuse a resume whose arguments ask for another grid. Prompts go by name: a newer version changes nothing here."""
    started = grid.spec
    plain: dict[str, Callable[[Any], Any]] = {
        "prompts": lambda value: [prompt.name for prompt in plan_prompts(value, playground.prompts)],
        "models": lambda value: list(plan_models(value)),
        "rows": lambda value: list(plan_rows(value)),
        "params": lambda value: list(plan_params(value)),
        "repeats": int,
    }
    for name, value in asked.items():
        before = [prompt["name"] for prompt in started["prompts"]] if name == "prompts" else started[name]
        same = value is None or json.loads(json.dumps(plain[name](value))) == before
        if not same:
            raise InvalidValue(
                en=f"The grid {grid.id} was started with other {name}. Leave {name} out to resume it, or leave resume out to start a new one.",
                ja=f"グリッド{grid.id}は別の{name}で始められています。再開するには{name}を省略し、新しく始めるにはresumeを省略してください。",
                name=name,
                value=grid.id,
            )


class _Work:
    """One round of calls over the open cells of a grid."""

    def __init__(self, playground: Playground, grid: Grid, plan: Plan, api_keys: Mapping[str, str]) -> None:
        self._playground = playground
        self._grid = grid
        self._plan = plan
        self._api_keys = api_keys

    def steps(self, slots: list[Slot[Cell]], *, workers: int, cancel: threading.Event) -> Iterator[GridStep]:
        """Run the open cells; a step at the start and after each one."""
        with closing(work_off(slots, self._answer, workers=workers, cancel=cancel)) as counts:  # type: ignore[type-var]
            for count in counts:
                yield GridStep(self._grid.id, *count)

    def _answer(self, slot: Slot[Cell], stop: threading.Event) -> Run | None:
        """The finished (or failed) Run of a cell; None where it was stopped."""
        if stop.is_set():
            return None
        prompt, call = self._plan.prompts[slot.cell.prompt], self._plan.call(slot.cell)
        growing = self._playground.stream(
            prompt,
            **call,
            participant=self._grid.participant,
            app=f"grid:{self._grid.id.replace('-', '')}",
            api_key=self._api_keys.get(call["model"]),
            run_id=self._plan.run_id(self._grid.id, slot.cell, slot.attempt),
        )
        return follow(growing, stop)
