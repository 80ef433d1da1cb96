"""The results of a grid as a DataFrame, rebuilt from the store alone."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from llmops_kit.errors import InvalidValue
from llmops_kit.playground.cells import Cell, Plan, plan_from_spec
from llmops_kit.playground.decoding import absent
from llmops_kit.playground.schema import check_schema
from llmops_kit.types import Grid, Run

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.store import Store

CellT = TypeVar("CellT", bound=Hashable)
_WHERE = ("grid_id", "run_id", "row", "repeat", "prompt_name", "prompt_version", "model")
_WHAT = {
    "output": "object",
    "schema_ok": "boolean",
    "finish_reason": "object",
    "input_tokens": "Int64",
    "output_tokens": "Int64",
    "ttft_s": "float64",
    "latency_s": "float64",
    "cost": "float64",
    "error": "object",
}
_CHUNK = 500  # ids per question to the database; SQLite takes 32,766 values at most


class Planned(Protocol[CellT]):
    """What has cells, and an id for each attempt at one: the plan of a grid or of a comparison."""

    def cells(self) -> Iterator[CellT]:
        """All cells, in the order they are answered."""

    def run_id(self, id: str, cell: CellT, attempt: int) -> str:
        """The id of the Run of a cell's `attempt`, from 0."""


@dataclass(frozen=True)
class Slot(Generic[CellT]):
    """Where a cell stands: the newest Run that finished or failed, and the number of the attempt that comes next."""

    cell: CellT
    run: Run | None
    attempt: int

    @property
    def done(self) -> bool:
        """Whether the cell has its answer. A failed or stopped one has not."""
        return self.run is not None and self.run.error is None


def survey_grid(store: Store, grid_id: str, plan: Planned[CellT]) -> list[Slot[CellT]]:
    """Every cell of the grid (or comparison) with what the store knows of it."""
    slots: dict[CellT, Slot[CellT]] = {cell: Slot(cell, None, 0) for cell in plan.cells()}
    waiting = list(slots)
    while waiting:
        ids = {plan.run_id(grid_id, cell, slots[cell].attempt): cell for cell in waiting}
        found = _find_runs(store, list(ids))
        waiting = []
        for run_id, run in found.items():
            cell = ids[run_id]
            shown = slots[cell].run if run.finish_reason == "cancelled" else run
            slots[cell] = Slot(cell, shown, slots[cell].attempt + 1)
            if run.error is not None or run.finish_reason == "cancelled":
                waiting.append(cell)
    return list(slots.values())


def _find_runs(store: Store, ids: list[str]) -> dict[str, Run]:
    chunks = (ids[start : start + _CHUNK] for start in range(0, len(ids), _CHUNK))
    return {run.id: run for chunk in chunks for run in store.find(Run, id=chunk)}


def load_grid(store: Store, grid_id: str) -> tuple[Grid, Plan]:
    """A stored grid and its plan.

    Raises: `UnknownName` where there is none with this id.
    """
    grid = store.get(Grid, grid_id)
    if grid is None:
        raise absent(grid_id, en="grid", ja="グリッド", known=[recent.id for recent in store.find(Grid, limit=3)])
    return grid, plan_from_spec(grid.spec)


def grid_table(store: Store, grid_id: str) -> pd.DataFrame:
    """The cells of a grid that finished or failed, in the order of the plan, from the store alone.

    Columns: `grid_id, run_id, row, repeat` (both from 0)`, prompt_name, prompt_version, model`; one per column of the
    rows (`var_…` where the name is taken); one per parameter that differs (`param_…` where taken); `output`,
    `schema_ok` (missing where the prompt has no schema), `finish_reason, input_tokens, output_tokens, ttft_s,
    latency_s` (seconds), `cost` (US dollars), `error`. `frame.attrs` has `grid_id`, `total` (cells) and `missing`
    (cells without an answer, failed ones among them).

    Raises: `UnknownName` where there is no grid with this id.
    """
    import pandas as pd

    grid, plan = load_grid(store, grid_id)
    slots = survey_grid(store, grid_id, plan)
    variables, params = _name_columns(plan)
    records = [_record(grid.id, plan, slot.cell, slot.run, variables=variables, params=params) for slot in slots if slot.run]
    frame = pd.DataFrame(records, columns=[*_WHERE, *variables.values(), *params.values(), *_WHAT])
    frame = frame.astype({**_WHAT, "prompt_version": "Int64"})
    frame.attrs.update(grid_id=grid.id, total=plan.total, missing=sum(not slot.done for slot in slots))
    return frame


def _name_columns(plan: Plan) -> tuple[dict[str, str], dict[str, str]]:
    """Column names of the variables and of the parameters that differ, prefixed where a name is taken."""
    taken = {*_WHERE, *_WHAT}
    names = dict.fromkeys(name for row in plan.rows for name in row)
    variables = {name: _free(name, "var_", taken) for name in names}
    differing = [name for name in dict.fromkeys(name for each in plan.params for name in each) if len({str(each.get(name)) for each in plan.params}) > 1]
    return variables, {name: _free(name, "param_", taken) for name in differing}


def _free(name: str, prefix: str, taken: set[str]) -> str:
    free = name
    while free in taken:
        free = prefix + free
    taken.add(free)
    return free


def _record(grid_id: str, plan: Plan, cell: Cell, run: Run, *, variables: Mapping[str, str], params: Mapping[str, str]) -> dict[str, Any]:
    schema = plan.prompts[cell.prompt].schema
    record: dict[str, Any] = {
        "grid_id": grid_id,
        "run_id": run.id,
        "row": cell.row,
        "repeat": cell.repeat,
        "prompt_name": run.prompt_name,
        "prompt_version": run.prompt_version,
        "model": run.model,
        "schema_ok": None if schema is None or run.error else _passes(run.output, schema),
    }
    record |= {column: plan.rows[cell.row].get(name) for name, column in variables.items()}
    record |= {column: plan.params[cell.params].get(name) for name, column in params.items()}
    return record | {name: getattr(run, name) for name in _WHAT if name != "schema_ok"}


def _passes(output: str, schema: Mapping[str, Any]) -> bool | None:
    try:
        return check_schema(output, schema).ok
    except InvalidValue:  # the schema refers to another document, which shows only once an answer gets there
        return None
