"""A ranking as HTML for a notebook cell, in both languages; everything that came from outside is escaped."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

_GREY = "#6b7280"
_GREEN = "#047857"


def to_html(ranking: Any) -> str:
    """A `Ranking` as HTML: the verdict (grey unless established), the table, the win matrix, the checks. It shows itself by this, hence no type here."""
    colour = _GREEN if ranking.established else _GREY
    sentences = "".join(f'<p style="color:{colour};font-weight:600;margin:.2em 0">{escape(ranking.verdict[language])}</p>' for language in ("ja", "en"))
    shown = ranking.table.round({"strength": 0, "low": 0, "high": 0, "win_rate": 2}).drop(columns=[] if ranking.table["group"].nunique() > 1 else ["group"])
    asides = [ranking.position_bias.text, *ranking.notes] if ranking.votes else []
    small = "".join(f"<li>{escape(text['ja'])}<br>{escape(text['en'])}</li>" for text in asides)
    outliers = f"<li>{escape(', '.join(ranking.outliers))}</li>" if ranking.outliers else ""
    table, matrix = shown.to_html(index=False, escape=True, na_rep="–"), heat_map(ranking.matrix, ranking.counts)
    return f"{sentences}{table}{matrix}<ul style='font-size:.9em'>{small}{outliers}</ul>"


def heat_map(matrix: pd.DataFrame, counts: pd.DataFrame) -> str:
    """The win matrix as a coloured table: the row's share of decided votes against the column, and how many votes they got together."""
    if not len(matrix):
        return ""
    names = [str(name) for name in matrix.columns]
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for name, shares, numbers in zip(names, matrix.to_numpy(), counts.to_numpy(), strict=True):
        cells = "".join(_cell(float(share), int(number)) for share, number in zip(shares, numbers, strict=True))
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f"<table><tr><th></th>{head}</tr>{''.join(rows)}</table>"


def _cell(share: float, number: int) -> str:
    """Blue above one half, orange below, paler near it; the text says it too."""
    if math.isnan(share):
        return f"<td>{'–' if not number else f'– <small>({number})</small>'}</td>"
    colour, depth = ("37,99,235", share - 0.5) if share >= 0.5 else ("234,88,12", 0.5 - share)
    return f'<td style="background:rgba({colour},{depth * 1.2:.2f})">{100 * share:.0f} % <small>({number})</small></td>'
