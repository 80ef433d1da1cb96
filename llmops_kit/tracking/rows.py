"""Which records go to W&B, and the tables that their rows are in. A further kind of record is one more entry here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from llmops_kit.tracking.answers import (
    CELL_COLUMNS,
    COMPARISON_COLUMNS,
    EVALUATION_COLUMNS,
    GRID_COLUMNS,
    ITEM_COLUMNS,
    RUN_COLUMNS,
    SIDE_COLUMNS,
    comparison_rows,
    evaluation_rows,
    grid_rows,
    run_rows,
)
from llmops_kit.tracking.answers import name_grid_table as name_grid_table
from llmops_kit.tracking.artifacts import ARTIFACT_COLUMNS, artifact_rows
from llmops_kit.tracking.cells import Columns, RaterName, Rows
from llmops_kit.tracking.opinions import FEEDBACK_COLUMNS, VOTE_COLUMNS, feedback_rows, vote_rows
from llmops_kit.types import Artifact, Comparison, Evaluation, Feedback, Grid, Run, Vote


@dataclass(frozen=True)
class Kind:
    """A kind of record: its type, its rows by table, and its tables with their columns.

    The first table is where the record is looked for to see that it was sent: it has a row whose first cell is the record's id.
    """

    record: type
    rows: Callable[[Any, RaterName], Rows]
    tables: Mapping[str, Columns]

    @property
    def table(self) -> str:
        """The table that has a row with the record's id."""
        return next(iter(self.tables))


KINDS: Mapping[str, Kind] = {
    "run": Kind(Run, run_rows, {"runs": RUN_COLUMNS, "comparison": SIDE_COLUMNS}),
    "grid": Kind(Grid, grid_rows, {"grids": GRID_COLUMNS}),
    "evaluation": Kind(Evaluation, evaluation_rows, {"evaluations": EVALUATION_COLUMNS, "evaluation_items": ITEM_COLUMNS}),
    "comparison": Kind(Comparison, comparison_rows, {"comparisons": COMPARISON_COLUMNS}),
    "feedback": Kind(Feedback, feedback_rows, {"feedback": FEEDBACK_COLUMNS}),
    "vote": Kind(Vote, vote_rows, {"votes": VOTE_COLUMNS}),
    "artifact": Kind(Artifact, artifact_rows, {"artifacts": ARTIFACT_COLUMNS}),
}
"""By the word that the outbox keeps (`publish=` of the store)."""

LAYOUT = hashlib.sha256(json.dumps([[name, [*columns]] for kind in KINDS.values() for name, columns in kind.tables.items()]).encode()).hexdigest()[:12]
"""A hash of all tables' columns: another one means that W&B's tables cannot go on in the same run."""


def choose_columns(table: str) -> Columns:
    """The columns of a table, in order, with the type of each; those of a grid's own table where it is none of the fixed ones."""
    return next((kind.tables[table] for kind in KINDS.values() if table in kind.tables), CELL_COLUMNS)


def make_rows(record: Any, name_rater: RaterName = lambda rater: None) -> Rows:
    """The rows a record becomes, by table. Raters have the name that `name_rater` gives them, and none without it."""
    return next(kind.rows(record, name_rater) for kind in KINDS.values() if isinstance(record, kind.record))
