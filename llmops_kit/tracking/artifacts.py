"""The fixed sets of data a campaign is closed with: what W&B gets of them, and which one rests on which.

An artifact becomes a row of the table `artifacts`, tables that are written once (`<name>_final`, of at most 10,000 rows each), and a
W&B artifact with the rows as JSON lines. W&B names versions from v0 and only online; so the alias `version-<n>` carries the kit's
own number, and the lineage is kept in the store: `list_artifacts` reads it without a network.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from llmops_kit.tracking.cells import Columns, RaterName, Rows, as_json, make_row
from llmops_kit.types import Artifact

if TYPE_CHECKING:
    import pandas as pd

ARTIFACT_COLUMNS: Columns = {
    **{"artifact_id": str, "name": str, "version": int, "kind": str, "sha256": str},
    **{"rows": int, "inputs": str, "about": str, "created_at": str},
}
FINAL_ROWS = 10_000
"""Rows of a table outside an artifact; W&B cuts off the rest (wandb 0.31, `Table.MAX_ROWS`)."""
_LISTED = ("name", "version", "kind", "sha256", "rows", "inputs", "created_at", "about")


class Shelf(Protocol):
    """What the list of artifacts needs of the store."""

    def values(self, kind: type, columns: Sequence[str], **equal: Any) -> list[tuple[Any, ...]]:
        """These columns of the records whose columns equal the given values."""


def artifact_rows(artifact: Artifact, name_rater: RaterName) -> Rows:
    """One row of `artifacts`."""
    values = {
        **{name: getattr(artifact, name) for name in ("name", "version", "kind", "sha256", "rows")},
        "artifact_id": artifact.id,
        "inputs": as_json(artifact.inputs),
        "about": as_json(artifact.about),
        "created_at": artifact.created_at.isoformat(),
    }
    return {"artifacts": [make_row(values, ARTIFACT_COLUMNS)]}


def name_for_wandb(name: str) -> str:
    """`name` as W&B takes it: Latin letters, digits, dots, dashes and underscores. A hash keeps apart what becomes the same."""
    plain = re.sub(r"[^0-9A-Za-z_.-]+", "-", name).strip("-")[:100]
    return name if plain == name else f"{plain or 'artifact'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def final_tables(artifact: Artifact) -> dict[str, tuple[Columns, list[list[Any]]]]:
    """The tables written once: `<name>_final` with its columns and rows, then `<name>_final_2` and so on past 10,000 rows."""
    columns = _columns_of(artifact.data)
    rows = [make_row({name: _plain(row.get(name), kind) for name, kind in columns.items()}, columns) for row in artifact.data]
    key = re.sub(r"[^0-9A-Za-z_]", "_", name_for_wandb(artifact.name)) + "_final"
    parts = [rows[start : start + FINAL_ROWS] for start in range(0, len(rows), FINAL_ROWS)] or [[]]
    return {key if number == 1 else f"{key}_{number}": (columns, part) for number, part in enumerate(parts, 1)}


def as_lines(artifact: Artifact) -> bytes:
    """The rows as JSON lines in UTF-8."""
    return "".join(as_json(row) + "\n" for row in artifact.data).encode("utf-8", "replace")


def describe(artifact: Artifact) -> dict[str, Any]:
    """What W&B shows beside the artifact."""
    facts = {name: getattr(artifact, name) for name in ("version", "sha256", "rows")}
    return {**facts, "inputs": list(artifact.inputs), "created_at": artifact.created_at.isoformat(), "about": dict(artifact.about)}


def list_artifacts(store: Shelf) -> pd.DataFrame:
    """The artifacts of the store, oldest first; the newest version of each name has the alias `latest`."""
    import pandas as pd

    table = pd.DataFrame(store.values(Artifact, _LISTED), columns=list(_LISTED)).sort_values(["created_at", "name", "version"], ignore_index=True)
    newest = table.groupby("name")["version"].transform("max") if len(table) else table["version"]
    table.insert(2, "alias", ["latest" if latest else "" for latest in table["version"] == newest])
    return table


def _columns_of(data: Sequence[Mapping[str, Any]]) -> Columns:
    """Every name there is, in the order of appearance, with the narrowest type that holds its values; JSON text where they differ."""
    kinds: dict[str, set[type]] = {}
    for row in data:
        for name, value in row.items():
            kinds.setdefault(name, set()).update(() if value is None else (type(value),))
    return {name: _narrowest(kind) for name, kind in kinds.items()}


def _narrowest(kinds: set[type]) -> type:
    if kinds == {int, float}:
        return float
    return next(iter(kinds)) if len(kinds) == 1 and kinds <= {bool, int, float} else str


def _plain(value: Any, kind: type) -> Any:
    return as_json(value) if kind is str and value is not None and not isinstance(value, str) else value
