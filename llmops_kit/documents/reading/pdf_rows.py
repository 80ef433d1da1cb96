"""Runs of a PDF page put in reading order: columns one after the other, tables row by row, vertical lines from the right."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from llmops_kit.documents.reading.pdf_lines import Run

_COLUMN_ROWS = 4  # fewer rows side by side are not taken for columns of text
_COLUMN_FILL = 0.7  # lines of running text fill their column; cells of a table seldom do
_COLUMN_CHARACTERS = 10
_LOOK_BACK = 4  # rows above in which the next cell of a row may continue


@dataclass
class Row:
    """What stands side by side; every cell is a list of runs below each other. `in_table` once its neighbours line up with it."""

    cells: list[list[Run]]
    in_table: bool = False
    order: int = field(default=0, compare=False)

    @property
    def runs(self) -> list[Run]:
        """All runs, cell by cell."""
        return [run for cell in self.cells for run in cell]


def order_runs(runs: Sequence[Run]) -> list[Row]:
    """The runs as rows in reading order."""
    rows: list[Row] = []
    for group in _by_direction(runs):
        rows += [Row([[run]]) for run in _order_vertical(group)] if group[0].vertical else _order_horizontal(group)
    return rows


def count_tables(rows: Iterable[Row]) -> int:
    """How many runs of rows are tables."""
    tables, before = 0, False
    for row in rows:
        tables += row.in_table and not before
        before = row.in_table
    return tables


def _by_direction(runs: Sequence[Run]) -> list[list[Run]]:
    groups: list[list[Run]] = []
    for run in runs:
        if not groups or groups[-1][0].vertical != run.vertical:
            groups.append([])
        groups[-1].append(run)
    return groups


def _order_vertical(runs: list[Run]) -> list[Run]:
    """As in the file, unless its lines clearly do not go from right to left; then tier by tier."""
    wrong = sum(after.v0 < before.v0 - 0.5 * before.size and after.u0 < before.u1 for before, after in itertools.pairwise(runs))
    if wrong <= max(1, len(runs) // 5):
        return runs
    tiers: list[list[Run]] = []
    for run in sorted(runs, key=lambda each: each.u0):
        if tiers and run.u0 < max(each.u1 for each in tiers[-1]) - run.size:
            tiers[-1].append(run)
        else:
            tiers.append([run])
    return [run for tier in tiers for run in sorted(tier, key=lambda each: each.v0)]


def _order_horizontal(runs: list[Run]) -> list[Row]:
    steps = [after.middle - before.middle for before, after in pairwise(runs)]
    if sum(step < -run.size for step, run in zip(steps, runs, strict=False)) > 0.7 * len(steps) > 1:  # from the last line to the first
        runs = runs[::-1]
    rows = _find_columns(_build_rows(runs))
    _fold_below(rows)
    _mark_tables(rows)
    return rows


def _build_rows(runs: list[Run]) -> list[Row]:
    """Rows in the file's order. A run that goes back up continues the row above as its next cell, if the rows between are lines of one cell."""
    rows: list[Row] = []
    for run in runs:
        if rows and _is_beside(rows[-1], run):
            rows[-1].cells.append([run])
            continue
        at = _continued_row(rows, run)
        if at is None:
            rows.append(Row([[run]]))
            continue
        for between in rows[at + 1 :]:
            rows[at].cells[-1] += between.runs
        del rows[at + 1 :]
        rows[at].cells.append([run])
    return rows


def _is_beside(row: Row, run: Run) -> bool:
    last = row.cells[-1][-1]
    return run.u0 >= last.u1 - 0.1 * run.size and _shared(row.cells[0][0].v0, row.cells[0][0].v1, run.v0, run.v1) > 0.4


def _continued_row(rows: list[Row], run: Run) -> int | None:
    if not rows or run.v0 >= rows[-1].cells[-1][-1].v0 - 0.3 * run.size:
        return None
    for at in range(max(len(rows) - _LOOK_BACK, 0), len(rows) - 1):
        above, last = rows[at], rows[at].cells[-1]
        between = rows[at + 1 :]
        right = max(each.u1 for row in [Row([last]), *between] for each in row.runs)
        if run.u0 < right or _shared(last[0].v0, last[0].v1, run.v0, run.v1) < 0.4 or any(len(row.cells) > 1 for row in between):
            continue
        if all(_overlap(last[0], row.cells[0][0]) for row in between) and (len(above.cells) > 1 or at == len(rows) - 2):
            return at
    return None


def _fold_below(rows: list[Row]) -> None:
    """A single run right below a later cell of a row is the second line of that cell."""
    at = 1
    while at < len(rows):
        above, below = rows[at - 1], rows[at]
        run = below.cells[0][0]
        fits = len(below.cells) == 1 and len(above.cells) > 1 and run.u0 >= above.cells[0][0].u1
        cells = [cell for cell in above.cells[1:] if _overlap(cell[0], run)] if fits else []
        if len(cells) == 1 and 0 <= run.v0 - cells[0][-1].v0 < 1.8 * run.size:
            cells[0].append(run)
            del rows[at]
        else:
            at += 1


def _find_columns(rows: list[Row]) -> list[Row]:
    """Put rows that run through two columns of text into column order."""
    found: list[Row] = []
    at = 0
    while at < len(rows):
        end, gutter = _column_stretch(rows, at)
        if gutter is None:
            found.append(rows[at])
            at += 1
            continue
        middle = (gutter[0] + gutter[1]) / 2
        left, right = _sides(rows[at:end], middle)
        found += [Row([[run]]) for run in left]
        found += _find_columns(_build_rows(right))
        at = end
    return found


def _sides(rows: Sequence[Row], middle: float) -> tuple[list[Run], list[Run]]:
    runs = [run for row in rows for run in row.runs]
    return [run for run in runs if run.u0 < middle], [run for run in runs if run.u0 >= middle]


def _column_stretch(rows: list[Row], start: int) -> tuple[int, tuple[float, float] | None]:
    """Where the rows from `start` stop leaving one gap free, and that gap if they are columns of text."""
    if len(rows[start].cells) < 2:
        return start, None
    low, high, end = float("-inf"), float("inf"), start
    size = rows[start].cells[0][0].size
    for row in rows[start:]:
        if len(row.cells) > 1:
            new_low, new_high = max(low, row.cells[0][-1].u1), min(high, row.cells[1][0].u0)
        else:
            run = row.cells[0][0]
            left_of = run.u1 <= (low + high) / 2
            new_low, new_high = (max(low, run.u1), high) if left_of else (low, min(high, run.u0))
        if new_high - new_low < 0.8 * size:
            break
        low, high, end = new_low, new_high, end + 1
    wide = [row for row in rows[start:end] if len(row.cells) > 1]
    if len(wide) < _COLUMN_ROWS or not _is_running_text(wide):
        return start, None
    return end, (low, high)


def _is_running_text(rows: Sequence[Row]) -> bool:
    for side in (0, 1):
        runs = [row.cells[side][0] for row in rows]
        left, right = min(run.u0 for run in runs), max(run.u1 for run in runs)
        fill = sum(run.u1 - run.u0 for run in runs) / max((right - left) * len(runs), 0.1)
        characters = sum(end - start for run in runs for start, end in run.parts) / len(runs)
        if fill < _COLUMN_FILL or characters < _COLUMN_CHARACTERS:
            return False
    pitches = sorted(after.cells[0][0].v0 - before.cells[0][0].v0 for before, after in itertools.pairwise(rows))
    return pitches[len(pitches) // 2] < 2.2 * rows[0].cells[0][0].size


def _mark_tables(rows: list[Row]) -> None:
    for before, after in itertools.pairwise(rows):
        if len(before.cells) > 1 and len(after.cells) > 1 and _aligned(before, after):
            before.in_table = after.in_table = True


def _aligned(one: Row, other: Row) -> bool:
    few, many = sorted((one, other), key=lambda row: len(row.cells))
    matches = [[at for at, cell in enumerate(many.cells) if _overlap(cell[0], own[0])] for own in few.cells]
    return all(len(each) == 1 for each in matches) and len({each[0] for each in matches}) == len(few.cells)


def _overlap(one: Run, other: Run) -> bool:
    return min(one.u1, other.u1) > max(one.u0, other.u0)


def _shared(low: float, high: float, other_low: float, other_high: float) -> float:
    """Which share (0…1) of the smaller interval lies in the other."""
    return (min(high, other_high) - max(low, other_low)) / max(min(high - low, other_high - other_low), 0.1)
