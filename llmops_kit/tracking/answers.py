"""The rows of what models answered: runs, grids, comparisons and evaluations.

Column names are those of the row schema shared by W&B's own courses and the OpenTelemetry GenAI words; times are
milliseconds (`_ms`), money is US dollars (`_usd`), structured values are JSON text with Japanese readable. The first
column is the identity of the row, by which a reader removes what was sent twice.

A run is a row of `runs`; of its grid's own table where it is a cell (`app` is `grid:<id>`); and of `comparison` where it is
an answer of a comparison (`app` is `compare:<id>`). What a comparison was asked is a row of `comparisons`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from llmops_kit.tracking.cells import Columns, RaterName, Rows, as_json, make_row, milliseconds, without_secrets
from llmops_kit.types import Comparison, Evaluation, Grid, Run

RUN_COLUMNS: Columns = {
    "run_id": str,
    "created_at": str,
    "participant": str,
    "app": str,
    "prompt_template_id": str,
    "prompt_template_version": int,
    "system_prompt": str,
    "prompt": str,
    "prompt_sha256": str,
    "variables": str,
    "messages": str,
    "contexts": str,
    "model_requested": str,
    "model_revision": str,
    "adapter": str,
    "temperature": float,
    "top_p": float,
    "max_tokens": int,
    "repetition_penalty": float,
    "stop": str,
    "seed": int,
    "params": str,
    "output": str,
    "finish_reason": str,
    "error": str,
    "input_tokens": int,
    "output_tokens": int,
    "ttft_ms": float,
    "latency_ms": float,
    "cost_usd": float,
    "flags": str,
}
_CELL_COLUMNS = (
    *("run_id", "prompt_template_id", "prompt_template_version", "model_requested", "params", "variables"),
    *("output", "finish_reason", "error", "input_tokens", "output_tokens", "ttft_ms", "latency_ms", "cost_usd", "created_at"),
)
CELL_COLUMNS: Columns = {name: RUN_COLUMNS[name] for name in _CELL_COLUMNS}
_SIDE_COLUMNS = (
    *("prompt_template_id", "prompt_template_version", "model_requested", "model_revision", "adapter", "contexts"),
    *("output", "finish_reason", "error", "input_tokens", "output_tokens", "ttft_ms", "latency_ms", "cost_usd", "created_at"),
)
SIDE_COLUMNS: Columns = {
    **{"run_id": str, "comparison_id": str, "item_id": str, "variant": str},
    **{name: RUN_COLUMNS[name] for name in _SIDE_COLUMNS},
}
COMPARISON_COLUMNS: Columns = {"comparison_id": str, "created_at": str, "participant": str, "n": int, "variants": str, "spec": str}
GRID_COLUMNS: Columns = {"grid_id": str, "created_at": str, "participant": str, "table": str, "spec": str}
EVALUATION_COLUMNS: Columns = {"evaluation_id": str, "created_at": str, "participant": str, "kind": str, "n": int, "spec": str, "summary": str}
ITEM_COLUMNS: Columns = {
    "item_id": str,
    "evaluation_id": str,
    "kind": str,
    "item": int,
    "question": str,
    "document": str,
    "passage": str,
    "expected": str,
    "answer": str,
    "run_id": str,
    "rank": int,
    "score_em": float,
    "score_char_f1": float,
    "score_grounded": float,
    "row": str,
}


def name_grid_table(grid: str) -> str:
    """`grid_<short id>`: the name of a grid's table. The end of the id is taken: the beginning of a UUIDv7 is its time."""
    return "grid_" + re.sub(r"[^0-9A-Za-z]", "", grid)[-12:]


def run_rows(run: Run, name_rater: RaterName) -> Rows:
    """One row of `runs`, and one of the grid or comparison that the run belongs to."""
    values = _run_values(run)
    rows = {"runs": [make_row(values, RUN_COLUMNS)]}
    door, _, owner = run.app.partition(":")
    if door == "grid" and owner:
        rows[name_grid_table(owner)] = [make_row(values, CELL_COLUMNS)]
    elif door == "compare" and owner:
        side = {"comparison_id": owner, "item_id": run.item, "variant": run.variant}
        rows["comparison"] = [make_row({**values, **side}, SIDE_COLUMNS)]
    return rows


def grid_rows(grid: Grid, name_rater: RaterName) -> Rows:
    """One row of `grids`."""
    values = {"grid_id": grid.id, **_asked(grid), "table": name_grid_table(grid.id)}
    return {"grids": [make_row(values, GRID_COLUMNS)]}


def comparison_rows(comparison: Comparison, name_rater: RaterName) -> Rows:
    """One row of `comparisons`: how many items (`n`), which variants, and all that was asked for as JSON."""
    variants, items = comparison.spec.get("variants"), comparison.spec.get("rows")
    values = {
        "comparison_id": comparison.id,
        **_asked(comparison),
        "n": len(items) if isinstance(items, (list, tuple)) else None,
        "variants": None if variants is None else as_json(without_secrets(variants)),
    }
    return {"comparisons": [make_row(values, COMPARISON_COLUMNS)]}


def evaluation_rows(evaluation: Evaluation, name_rater: RaterName) -> Rows:
    """One row of the whole, and one per question with the columns it has; `row` holds all it has as JSON."""
    whole = {
        "evaluation_id": evaluation.id,
        **_asked(evaluation),
        "kind": evaluation.kind,
        "n": len(evaluation.rows),
        "summary": as_json(evaluation.summary),
    }
    items = []
    for number, row in enumerate(evaluation.rows):
        own = {"item_id": f"{evaluation.id}:{number}", "evaluation_id": evaluation.id, "kind": evaluation.kind, "item": number, "row": as_json(row)}
        items.append(make_row({**row, **own}, ITEM_COLUMNS))
    return {"evaluations": [make_row(whole, EVALUATION_COLUMNS)], "evaluation_items": items}


def _asked(record: Grid | Comparison | Evaluation) -> dict[str, Any]:
    # The rows are people's data, where a column may well be called "password".
    spec = {name: value if name == "rows" else without_secrets(value) for name, value in record.spec.items()}
    return {"created_at": record.created_at.isoformat(), "participant": record.participant, "spec": as_json(spec)}


def _run_values(run: Run) -> dict[str, Any]:
    params = without_secrets(run.params)
    return {
        "run_id": run.id,
        "created_at": run.created_at.isoformat(),
        "participant": run.participant,
        "app": run.app,
        "prompt_template_id": run.prompt_name,
        "prompt_template_version": run.prompt_version,
        "system_prompt": _said(run, {"system"}),
        "prompt": _said(run, {"user", "assistant"}),
        "prompt_sha256": run.prompt_sha256,
        "variables": as_json(run.variables),
        "messages": as_json(run.messages),
        "contexts": as_json(run.sources),
        "model_requested": run.model,
        "model_revision": run.model_revision,
        "adapter": run.adapter,
        "stop": None if params.get("stop") is None else as_json(params["stop"]),
        **{name: params.get(name) for name in ("temperature", "top_p", "max_tokens", "repetition_penalty", "seed")},
        "params": as_json(params),
        "output": run.output,
        "finish_reason": run.finish_reason,
        "error": run.error,
        "input_tokens": run.input_tokens,
        "output_tokens": run.output_tokens,
        "ttft_ms": milliseconds(run.ttft_s),
        "latency_ms": milliseconds(run.latency_s),
        "cost_usd": run.cost,
        "flags": as_json(run.flags),
    }


def _said(run: Run, roles: Iterable[str]) -> str | None:
    texts = [turn.content for turn in run.messages if turn.role in roles]
    return "\n\n".join(texts) if texts else None
