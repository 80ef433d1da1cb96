"""What a row of each W&B table holds: the fixed columns, and how records become rows.

Column names are those of the row schema shared by W&B's own courses and the OpenTelemetry GenAI words; times are
milliseconds (`_ms`), money is US dollars (`_usd`), structured values are JSON text with Japanese readable. The first
column is the identity of the row, by which a reader removes what was sent twice.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from llmops_kit.types import Evaluation, Grid, Run, to_plain

RUN_COLUMNS: Mapping[str, type] = {
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
GRID_COLUMNS: Mapping[str, type] = {"grid_id": str, "created_at": str, "participant": str, "table": str, "spec": str}
EVALUATION_COLUMNS: Mapping[str, type] = {"evaluation_id": str, "created_at": str, "participant": str, "kind": str, "n": int, "spec": str, "summary": str}
ITEM_COLUMNS: Mapping[str, type] = {
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
_CELL_COLUMNS = (
    *("run_id", "prompt_template_id", "prompt_template_version", "model_requested", "params", "variables"),
    *("output", "finish_reason", "error", "input_tokens", "output_tokens", "ttft_ms", "latency_ms", "cost_usd", "created_at"),
)
CELL_COLUMNS: Mapping[str, type] = {name: RUN_COLUMNS[name] for name in _CELL_COLUMNS}
_SECRET = re.compile(r"api_?key|secret|password|authorization|credential", re.IGNORECASE)


def choose_columns(table: str) -> Mapping[str, type]:
    """The columns of a table, in order, with the type of each (every one may be empty)."""
    fixed = {"runs": RUN_COLUMNS, "grids": GRID_COLUMNS, "evaluations": EVALUATION_COLUMNS, "evaluation_items": ITEM_COLUMNS}
    return fixed.get(table, CELL_COLUMNS)


def name_tables(app: str) -> tuple[str, ...]:
    """The tables a run goes to: `runs`, and for a cell of a grid (`app` is `grid:<id>`) its grid's own, too."""
    door, _, grid = app.partition(":")
    return ("runs", name_grid_table(grid)) if door == "grid" and grid else ("runs",)


def name_grid_table(grid: str) -> str:
    """`grid_<short id>`: the name of a grid's table. The end of the id is taken: the beginning of a UUIDv7 is its time."""
    return "grid_" + re.sub(r"[^0-9A-Za-z]", "", grid)[-12:]


def make_rows(record: Run | Grid | Evaluation) -> dict[str, list[list[Any]]]:
    """The rows a record becomes, by table."""
    if isinstance(record, Evaluation):
        return _evaluation_rows(record)
    if isinstance(record, Grid):
        row = {
            "grid_id": record.id,
            "created_at": record.created_at.isoformat(),
            "participant": record.participant,
            "table": name_grid_table(record.id),
            "spec": _json(record.spec),
        }
        return {"grids": [_ordered(row, "grids")]}
    values = _run_values(record)
    return {table: [_ordered(values, table)] for table in name_tables(record.app)}


def _evaluation_rows(record: Evaluation) -> dict[str, list[list[Any]]]:
    """One row of the whole, and one per question with the columns it has; `row` holds all it has as JSON."""
    whole = {
        "evaluation_id": record.id,
        "created_at": record.created_at.isoformat(),
        "participant": record.participant,
        "kind": record.kind,
        "n": len(record.rows),
        "spec": _json(record.spec),
        "summary": _json(record.summary),
    }
    items = []
    for number, row in enumerate(record.rows):
        own = {"item_id": f"{record.id}:{number}", "evaluation_id": record.id, "kind": record.kind, "item": number, "row": _json(row)}
        items.append(_ordered({**{name: row.get(name) for name in ITEM_COLUMNS}, **own}, "evaluation_items"))
    return {"evaluations": [_ordered(whole, "evaluations")], "evaluation_items": items}


def _run_values(run: Run) -> dict[str, Any]:
    params = {name: value for name, value in run.params.items() if not _SECRET.search(name)}
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
        "variables": _json(run.variables),
        "messages": _json(run.messages),
        "contexts": _json(run.sources),
        "model_requested": run.model,
        "model_revision": run.model_revision,
        "adapter": run.adapter,
        "stop": None if params.get("stop") is None else _json(params["stop"]),
        **{name: params.get(name) for name in ("temperature", "top_p", "max_tokens", "repetition_penalty", "seed")},
        "params": _json(params),
        "output": run.output,
        "finish_reason": run.finish_reason,
        "error": run.error,
        "input_tokens": run.input_tokens,
        "output_tokens": run.output_tokens,
        "ttft_ms": _milliseconds(run.ttft_s),
        "latency_ms": _milliseconds(run.latency_s),
        "cost_usd": run.cost,
        "flags": _json(run.flags),
    }


def _ordered(values: Mapping[str, Any], table: str) -> list[Any]:
    return [_fitting(values[name], kind) for name, kind in choose_columns(table).items()]


def _fitting(value: Any, kind: type) -> Any:
    """`value` as its column's type, None where it has none: W&B refuses a whole batch for one cell of another type."""
    if value is None:
        return None
    if kind is str:
        return str(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return kind(value)


def _said(run: Run, roles: Iterable[str]) -> str | None:
    texts = [turn.content for turn in run.messages if turn.role in roles]
    return "\n\n".join(texts) if texts else None


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=to_plain)
