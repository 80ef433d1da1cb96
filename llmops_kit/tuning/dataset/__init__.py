"""Rows to fine-tune on, whatever they are written in: read, recognised, and each wrong one named by its line.

dataset = read_dataset("rows.csv", max_mb=100)
train, evaluation = dataset.split(0.1, seed=7)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import UnreadableFile
from llmops_kit.tuning.dataset.columns import find_roles, is_enough
from llmops_kit.tuning.dataset.conversation import WrongRow
from llmops_kit.tuning.dataset.conversion import convert_row, kind_of, name_format
from llmops_kit.tuning.dataset.examples import Dataset as Dataset
from llmops_kit.tuning.dataset.examples import make_dataset
from llmops_kit.tuning.dataset.intake import Intake, take_in
from llmops_kit.tuning.dataset.intake import list_samples as list_samples
from llmops_kit.tuning.dataset.rows import Example as Example
from llmops_kit.tuning.dataset.rows import Problem as Problem

if TYPE_CHECKING:
    from llmops_kit.tuning.neighbours import Exports


def read_dataset(
    source: Any,
    *,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    max_mb: float,
    campaigns: Callable[[], Exports] | None = None,
) -> Dataset:
    """The rows of `source`: a file (JSONL, JSON, CSV, TSV, XLSX), `sample:NAME`, `campaign:ID`, `comparison:ID`, a list of mappings, or a DataFrame.

    Chat `messages`, ShareGPT, Alpaca, prompt/completion, preference pairs and labelled answers are recognised; of other tables the columns
    are, by common names. `columns` says it instead (`{"prompt": "質問", "answer": "回答"}`). Where neither tells, the data set has no
    examples, and `available` names the columns to choose from. Wrong rows are `problems`; the others are kept. At most `max_mb` megabytes.

    Raises: `UnreadableFile` where nothing can be read; `UnknownName` for a sample, campaign or column; `InvalidValue` for a role there is not.
    """
    if isinstance(source, Dataset):
        return source
    taken = take_in(source, encoding=encoding, max_mb=max_mb, campaigns=campaigns)
    roles = find_roles(taken.table.columns, taken.table.rows, columns)
    empty = _describe(taken, roles)
    return _convert(empty, taken, roles) if is_enough(roles) else empty


def _describe(taken: Intake, roles: Mapping[str, str]) -> Dataset:
    table = taken.table
    how: dict[str, Any] = {"encoding": table.encoding, "columns": dict(roles), "available": table.columns}
    return Dataset(taken.name, kind_of(roles), name_format(roles, table.columns, table.format), (), source=taken.source, **how)


def _convert(empty: Dataset, taken: Intake, roles: Mapping[str, str]) -> Dataset:
    examples: list[Example] = []
    problems = [_tell(problem) for problem in taken.table.problems]
    for line, row in zip(taken.table.lines, taken.table.rows, strict=True):
        try:
            examples.append(convert_row(row, line, roles))
        except WrongRow as wrong:
            problems.append(Problem(line, wrong.reason))
    ordered = tuple(sorted(problems, key=lambda problem: problem.line))
    return make_dataset(replace(empty, problems=ordered), examples)


def _tell(problem: UnreadableFile) -> Problem:
    return Problem(int(str(problem.facts["line"])), dict(problem.facts["reason"]))  # type: ignore[call-overload]
