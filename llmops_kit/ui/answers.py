"""The answers of a batch: as a table to read, as files to take home, and as the W&B table they also are."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import LOCAL, require, user_of
from llmops_kit.errors import InputError
from llmops_kit.types import Grid, Run
from llmops_kit.ui.files import offer
from llmops_kit.ui.text import Language, error_text, say, sentences

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

NEWEST = 200
"""Answers shown while a batch runs."""
MOST = 5_000
"""Answers shown at the end: a browser takes no more in good time. The downloads have all of them."""
_INPUT_CHARS = 80
"""Characters shown of what went in: enough to know the row by."""
_FIRST = ("row", "prompt_name", "model")
_LAST = ("output", "schema_ok", "error", "finish_reason", "output_tokens", "latency_s")
_HIDDEN = frozenset({"grid_id", "run_id", "prompt_version", "input_tokens", "ttft_s", "cost", "repeat"})
_WIDTHS = {
    "row": 50,
    "prompt_name": 130,
    "model": 130,
    "output": 400,
    "schema_ok": 90,
    "error": 260,
    "finish_reason": 110,
    "output_tokens": 90,
    "latency_s": 100,
}
_TELL: Mapping[str, Callable[[Any, Language], Any]] = {
    "schema_ok": lambda value, language: "✓" if value else "✗",
    "error": error_text,
    "finish_reason": lambda value, language: sentences(language).get(f"facts.{value}", str(value)),
    "output_tokens": lambda value, language: int(value),
    "latency_s": lambda value, language: round(float(value), 2),
}
"""How a value is told to a person, by column."""


class NewestAnswers:
    """The newest answers of a batch under way, at the same small price whether it has ten cells or a hundred thousand."""

    def __init__(self, kit: Kit, grid_id: str) -> None:
        from llmops_kit.playground.results import load_grid, survey_grid

        self._store = kit.store
        self._app = cell_app(grid_id)
        _, self._plan = load_grid(kit.store, grid_id)
        self._cells = {}
        for slot in survey_grid(kit.store, grid_id, self._plan):
            self._cells[self._plan.run_id(grid_id, slot.cell, slot.attempt)] = slot.cell
            if slot.run is not None:
                self._cells[slot.run.id] = slot.cell

    def table(self) -> Any:
        """The newest answers first, with the columns of the full table that cost nothing to tell."""
        import pandas as pd

        runs = [run for run in self._store.find(Run, app=self._app, limit=NEWEST) if run.id in self._cells and run.finish_reason != "cancelled"]
        records = []
        for run in runs:
            cell = self._cells[run.id]
            facts = {name: getattr(run, name, None) for name in (*_FIRST[1:], *_LAST)}
            varied = {**self._plan.rows[cell.row], **self._plan.params[cell.params]}
            records.append({**varied, **facts, "row": cell.row, "run_id": run.id})
        return pd.DataFrame(records, columns=[*_FIRST, *_LAST, "run_id"] if not records else None)


def cell_app(grid_id: str) -> str:
    """What the cells of a grid carry as `app`."""
    return f"grid:{grid_id.replace('-', '')}"


def find_answers(kit: Kit, grid_id: str) -> Any:
    """The whole table of a grid, made from the store."""
    from llmops_kit.playground.grid import grid_table

    return grid_table(kit.store, grid_id)


def readable(table: Any, language: Language) -> Any:
    """The table as a person reads it: where the row came from, what was said, how it went.

    The last column, which is not shown, is the id of the answer; the other ids stay in the downloads.
    """
    import pandas as pd

    table = table.head(MOST)
    middle = [name for name in table.columns if name not in {*_FIRST, *_LAST, *_HIDDEN} and table[name].astype(str).nunique() > 1]
    optional = {"schema_ok": table["schema_ok"].isna().all(), "error": table["error"].isna().all()}
    optional["finish_reason"] = bool(set(table["finish_reason"].dropna()) <= {"stop"})
    shown = table[[*_FIRST, *(name for name in _LAST if not optional.get(name)), *middle, "run_id"]].copy()
    shown["row"] = shown["row"] + 1
    for name in middle:
        shown[name] = [f"{value[: _INPUT_CHARS - 1]}…" if isinstance(value, str) and len(value) > _INPUT_CHARS else value for value in shown[name]]
    for name in (name for name in _LAST if name in _TELL and name in shown):
        shown[name] = [None if pd.isna(value) else _TELL[name](value, language) for value in shown[name]]
    return shown.rename(columns={name: say(f"batch.{name}", language) for name in (*_FIRST, *_LAST)})


def widths(shown: Any, language: Language) -> list[str | int]:
    """Widths of the columns of a `readable` table, so that the answer does not push the verdict out of sight."""
    known = {say(f"batch.{name}", language): width for name, width in _WIDTHS.items()}
    return [*(f"{known.get(name, 160)}px" for name in shown.columns[:-1]), "0px"]


def offer_files(kit: Kit, grid_id: str, table: Any) -> dict[str, Any]:
    """Updates of the download buttons, by kind."""
    from llmops_kit.playground import export

    stamp = time.strftime("%Y%m%d-%H%M%S")
    files = {
        "csv": offer(f"answers-{stamp}.csv", export.to_csv(table)),
        "xlsx": offer(f"answers-{stamp}.xlsx", export.to_xlsx(table)),
        "jsonl": offer(f"answers-{stamp}.jsonl", export.to_jsonl(table)),
        "wandb_table": offer(f"{name_table(grid_id)}.json", make_wandb_table(kit, grid_id)),
    }
    return {kind: gr.DownloadButton(value=path, interactive=True) for kind, path in files.items()}


def name_table(grid_id: str) -> str:
    """The name of the grid's W&B table."""
    from llmops_kit.tracking.rows import name_grid_table

    return name_grid_table(grid_id)


def make_wandb_table(kit: Kit, grid_id: str) -> bytes:
    """The grid's W&B table as the JSON that `wandb.Table(**json.load(file))` takes, made from the store."""
    from llmops_kit.tracking.rows import choose_columns, make_rows

    name = name_table(grid_id)
    rows = [row for run in kit.store.find(Run, app=cell_app(grid_id), newest_first=False) for row in make_rows(run)[name]]
    return json.dumps({"columns": list(choose_columns(name)), "data": rows}, ensure_ascii=False).encode()


def tell_wandb(kit: Kit, grid_id: str, language: Language) -> str:
    """Where the same rows are as a W&B table; nothing where W&B is switched off."""
    folder = kit.tracking.folder
    return say("batch.wandb", language, table=name_table(grid_id), folder=folder) if folder else ""


def find_own(kit: Kit, grid_id: str, request: gr.Request) -> Grid:
    """The grid, if it is this person's. Raises: `InputError` where none was chosen, `AccessDenied`."""
    found = kit.store.get(Grid, grid_id) if grid_id else None
    if found is None:
        raise InputError(en=say("batch.no_grid", "en"), ja=say("batch.no_grid", "ja"))
    require(user_of(request), "participant", resource=found.id, resource_owner=found.participant)
    return found


def list_earlier(kit: Kit, request: gr.Request) -> Any:
    """Update of the chooser of a person's earlier batches; the owner also sees those of the workspace's notebooks."""
    user = user_of(request)
    whose = [user.id, LOCAL] if user.role == "owner" else [user.id]
    grids = kit.store.find(Grid, participant=whose, limit=20)
    names = [(f"{each.created_at:%Y-%m-%d %H:%M:%S} · {', '.join(prompt['name'] or 'chat' for prompt in each.spec['prompts'])}", each.id) for each in grids]
    return gr.Dropdown(choices=names, value=names[0][1] if names else None)
