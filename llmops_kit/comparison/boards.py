"""Comparisons and votes as tables, rebuilt from the store alone, and a board that highlights the differences."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops_kit.comparison.plan import Plan
from llmops_kit.comparison.sides import mark_beside
from llmops_kit.playground.results import survey_grid
from llmops_kit.types import Comparison, Vote

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.store import Store

_VOTE_COLUMNS = ("rater", "item", "left_variant", "right_variant", "choice", "winner", "comment", "tags", "blinded", "duration_s", "source", "campaign_id")
_MOST_SHOWN = 100


def compare_table(store: Store, comparison: Comparison, plan: Plan) -> pd.DataFrame:
    """The answers so far, one row per item; see `Comparisons.table`."""
    import pandas as pd

    slots = survey_grid(store, comparison.id, plan)
    names = [variant.name for variant in plan.variants]
    columns = _name_variables(plan, names)
    own = [name for name in ("expected", "tags") if any(getattr(item, name) for item in plan.items)]
    rows: list[dict[str, Any]] = [
        {
            "item": item.id,
            **{column: item.variables.get(name) for name, column in columns.items()},
            **{name: getattr(item, name) if name == "expected" else ", ".join(item.tags) for name in own},
        }
        for item in plan.items
    ]
    for slot in slots:
        rows[slot.cell.item][names[slot.cell.variant]] = slot.run.output if slot.run is not None and slot.done else None
    frame = pd.DataFrame(rows, columns=["item", *columns.values(), *own, *names])
    frame = frame.astype(dict.fromkeys(names, "object"))
    frame[names] = frame[names].where(frame[names].notna(), None)
    errors = [
        {"item": plan.items[slot.cell.item].id, "variant": names[slot.cell.variant], "error": slot.run.error}
        for slot in slots
        if slot.run is not None and slot.run.error is not None
    ]
    missing = sum(not slot.done for slot in slots)
    frame.attrs.update(comparison_id=comparison.id, baseline=plan.baseline, variants=names, total=len(slots), missing=missing, errors=errors)
    return frame


def list_comparisons(store: Store, participant: str | Sequence[str] | None) -> pd.DataFrame:
    """One row per comparison, newest first."""
    import pandas as pd

    whose: dict[str, Any] = {} if participant is None else {"participant": participant if isinstance(participant, str) else list(participant)}
    rows = [
        {
            "comparison_id": each.id,
            "created_at": each.created_at,
            "participant": each.participant,
            "prompt": each.spec["prompt"]["name"] or "chat",
            "items": len(each.spec["rows"]),
            "variants": [variant["name"] for variant in each.spec["variants"]],
            "baseline": each.spec["baseline"],
        }
        for each in store.find(Comparison, **whose)
    ]
    return pd.DataFrame(rows, columns=["comparison_id", "created_at", "participant", "prompt", "items", "variants", "baseline"])


def votes_table(votes: Iterable[Vote]) -> pd.DataFrame:
    """One row per vote, with the name of the winner (None: neither)."""
    import pandas as pd

    rows = []
    for vote in votes:
        winner = {"A": vote.left_variant, "B": vote.right_variant}.get(vote.choice)
        told = {name: getattr(vote, name) for name in _VOTE_COLUMNS if name != "winner"}
        rows.append({"vote_id": vote.id, "created_at": vote.created_at, **told, "winner": winner})
    return pd.DataFrame(rows, columns=["vote_id", "created_at", *_VOTE_COLUMNS])


@dataclass(frozen=True)
class Board:
    """The table of a comparison as a page: one column per variant, what differs from the baseline marked."""

    table: pd.DataFrame

    def _repr_html_(self) -> str:
        about = self.table.attrs
        names = [about["baseline"], *(name for name in about["variants"] if name != about["baseline"])]
        asked = [name for name in self.table.columns if name not in about["variants"]]
        cell = '<td style="vertical-align:top;text-align:left;white-space:pre-wrap;overflow-wrap:anywhere">{}</td>'
        heads = "".join(f'<th style="text-align:left">{html.escape(str(name))}</th>' for name in (*asked, *names))
        lines = []
        for row in self.table.head(_MOST_SHOWN).to_dict("records"):
            told = "".join(cell.format(html.escape("" if row[name] is None or row[name] != row[name] else str(row[name]))) for name in asked)
            lines.append(f"<tr>{told}{''.join(cell.format(text) for text in mark_beside([row[name] or '' for name in names]))}</tr>")
        left = len(self.table) - len(lines)
        more = f"<small>… + {left:,}</small>" if left else ""
        return f'<table style="width:100%"><tr>{heads}</tr>{"".join(lines)}</table>{more}'


def _name_variables(plan: Plan, taken: Iterable[str]) -> dict[str, str]:
    """Column names of the variables, prefixed with `var_` where the name is taken."""
    used = {"item", "expected", "tags", *taken}
    columns: dict[str, str] = {}
    for name in dict.fromkeys(name for item in plan.items for name in item.variables):
        column = name
        while column in used:
            column = f"var_{column}"
        used.add(column)
        columns[name] = column
    return columns
