"""The answers of a batch: as a table to read, as files to take home, and as the W&B table they also are."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import InputError
from llmops_kit.types import Grid
from llmops_kit.ui.files import offer
from llmops_kit.ui.text import Language, say

if TYPE_CHECKING:
    from llmops_kit.kit import Kit


def find_answers(kit: Kit, grid: str) -> Any:
    """The table of a grid, made from the store."""
    from llmops_kit.playground.grid import grid_table

    return grid_table(kit.store, grid)


def readable(table: Any) -> Any:
    """The columns a person reads first: where the row came from, what was said, how it went. Ids stay in the downloads."""
    first = ["row", "prompt_name", "model"]
    last = ["output", "schema_ok", "error", "finish_reason", "output_tokens", "latency_s"]
    hidden = {"grid_id", "run_id", "prompt_version", "input_tokens", "ttft_s", "cost", "repeat"}
    middle = [name for name in table.columns if name not in {*first, *last, *hidden} and table[name].nunique(dropna=False) > 1]
    kept = [name for name in (*first, *last) if name in table.columns and not (name in ("schema_ok", "error") and table[name].isna().all())]
    return table[[*kept, *middle]]


def count_cells(kit: Kit, grid: str) -> int:
    """How many answers the grid asks for in all."""
    from llmops_kit.playground.results import load_grid

    return load_grid(kit.store, grid)[1].total


def offer_files(table: Any) -> list[Any]:
    """Updates of the three download buttons."""
    from llmops_kit.playground import export

    stamp = time.strftime("%Y%m%d-%H%M%S")
    kinds = (("csv", export.to_csv), ("xlsx", export.to_xlsx), ("jsonl", export.to_jsonl))
    return [gr.DownloadButton(value=offer(f"answers-{stamp}.{kind}", write(table))) for kind, write in kinds]


def tell_wandb(kit: Kit, language: Language) -> str:
    """Where the same rows are as a W&B table."""
    return say("batch.wandb", language, folder=kit.tracking.status().folder)


def find_own(kit: Kit, grid: str, request: gr.Request) -> Grid:
    """The grid, if it is this person's."""
    found = kit.store.get(Grid, grid) if grid else None
    if found is None:
        raise InputError(en=say("batch.no_rows", "en"), ja=say("batch.no_rows", "ja"))
    require(user_of(request), "participant", resource=found.id, resource_owner=found.participant)
    return found


def list_earlier(kit: Kit, request: gr.Request) -> Any:
    """Update of the chooser of a person's earlier batches."""
    grids = kit.store.find(Grid, participant=user_of(request).id, limit=20)
    names = [(f"{each.created_at:%Y-%m-%d %H:%M:%S} · {', '.join(prompt['name'] for prompt in each.spec['prompts'])}", each.id) for each in grids]
    return gr.Dropdown(choices=names, value=names[0][1] if names else None)
