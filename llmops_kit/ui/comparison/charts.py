"""What votes say, as the page shows it: the verdict, strengths with their intervals, who beats whom, and what to be careful about."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmops_kit.ui.text import Language, localized, say

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.comparison.ranking import Ranking

CSS = """
.verdict {padding: 10px 14px; border-left: 4px solid var(--primary-500); margin: 6px 0; line-height: 1.65; font-size: 1.06rem; overflow-wrap: anywhere}
.grey {color: var(--body-text-color-subdued); border-left-color: var(--neutral-300)}
.dim {color: var(--body-text-color-subdued); font-size: .87rem; line-height: 1.6; overflow-wrap: anywhere} .dim p {margin: 3px 0}
h4 {margin: 14px 4px 4px; font-size: .95rem; font-weight: 600}
.scroll {overflow-x: auto}
table {border-collapse: collapse; width: 100%}
th, td {text-align: left; padding: 6px 8px; border-bottom: 1px solid var(--border-color-primary); font-size: .92rem; vertical-align: middle}
.ranks td:nth-child(2) {overflow-wrap: anywhere; width: 24%} .ranks .plot {width: 38%; min-width: 120px}
.num {text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums}
.plot div {position: relative; height: 18px; background: linear-gradient(var(--neutral-300), var(--neutral-300)) center/100% 1px no-repeat}
.span {position: absolute; top: 7px; height: 4px; border-radius: 2px; background: #0072b2}
.dot {position: absolute; top: 3px; width: 12px; height: 12px; margin-left: -6px; border-radius: 50%; background: #0072b2;
  border: 2px solid #fff; box-sizing: border-box}
.tied .span, .tied .dot {background: #7a828c}
.matrix {width: auto; min-width: 50%} .matrix th {font-weight: 500; overflow-wrap: anywhere; max-width: 150px; vertical-align: bottom}
.matrix td {text-align: center; border: 2px solid var(--body-background-fill); border-radius: 4px; min-width: 76px}
.matrix small {display: block; opacity: .8}
@media (max-width: 640px) {
  th, td {padding: 5px 4px; font-size: .84rem} .ranks .wide {display: none} .ranks .plot {min-width: 76px}
  .ranks .dim {display: block} .ranks td:nth-child(2) {min-width: 92px}
  .matrix td {min-width: 58px} .matrix th {max-width: 92px}
}
"""
"""Blue and orange of Okabe and Ito's palette, which colour-blind people and projectors tell apart; every colour has its number beside it."""
_BLUE, _ORANGE = (0, 114, 178), (230, 159, 0)
_EDGE = 0.04
"""Free room at both ends of the scale, as a share of it."""


def show_ranking(ranking: Ranking, outliers: Sequence[str], language: Language) -> str:
    """The verdict, the ranking with intervals, the win matrix, and the checks. `outliers` are pseudonyms."""
    if not ranking.votes:
        return f"<div class='verdict grey'>{say('compare.no_votes', language)}</div>"
    grey = "" if ranking.established else " grey"
    told = f"<div class='verdict{grey}'>{html.escape(ranking.verdict[language])}</div>"
    board = f"<h4>{say('compare.strengths', language)}</h4>{_strengths(ranking.table, language)}"
    matrix = f"<h4>{say('compare.matrix', language)}</h4>{_matrix(ranking.matrix, ranking.counts, list(ranking.table['variant']), language)}"
    return told + board + matrix + _checks(ranking, outliers, language)


def _strengths(table: pd.DataFrame, language: Language) -> str:
    rows = table.to_dict("records")
    ends = [float(row[name]) for row in rows for name in ("low", "high", "strength") if math.isfinite(float(row[name]))]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    room = max(high - low, 1.0)
    first, last = low - _EDGE * room, high + _EDGE * room

    def place(value: float) -> float:
        return 100 * (min(max(value, first), last) - first) / (last - first)

    lead = float(rows[0]["low"])
    open_race = any(float(row["high"]) >= lead for row in rows[1:])
    lines = []
    for row in rows:
        start, end, dot = (place(float(row[name])) for name in ("low", "high", "strength"))
        tied = " class='tied'" if open_race and float(row["high"]) >= lead else ""  # as good as the first, as far as anybody knows
        span = f"<span class='span' style='left:{start:.1f}%;width:{max(0.0, end - start):.1f}%'></span>"
        plot = f"<div>{span}<span class='dot' style='left:{dot:.1f}%'></span></div>"
        figures = f"{_whole(row['strength'])} <span class='dim'>({_whole(row['low'])}–{_whole(row['high'])})</span>"
        record = say("compare.record", language, **{name: int(row[name]) for name in ("wins", "ties", "losses")})
        cells = (
            f"<td class='num'>{int(row['rank'])}</td><td>{html.escape(str(row['variant']))}</td><td class='plot'>{plot}</td>"
            f"<td class='num'>{figures}</td><td class='num wide'>{record}</td><td class='num'>{int(row['votes'])}</td>"
        )
        lines.append(f"<tr{tied}>{cells}</tr>")
    names = ("rank", "variant", "interval", "strength", "record_head", "votes")
    kinds = (" class='num'", "", " class='plot'", " class='num'", " class='num wide'", " class='num'")
    head = "".join(f"<th{kind}>{say(f'compare.column_{name}', language)}</th>" for name, kind in zip(names, kinds, strict=True))
    return f"<div class='scroll'><table class='ranks'><tr>{head}</tr>{''.join(lines)}</table></div>"


def _matrix(shares: pd.DataFrame, counts: pd.DataFrame, names: Sequence[str], language: Language) -> str:
    """How often the row's variant won against the column's, with the number of votes; blue above one half, orange below."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    lines = []
    for one in names:
        cells = "".join(_cell(float(str(shares.at[one, other])), int(float(str(counts.at[one, other])))) if one != other else "<td></td>" for other in names)
        lines.append(f"<tr><th>{html.escape(one)}</th>{cells}</tr>")
    note = f"<p class='dim'>{say('compare.matrix_info', language)}</p>"
    return f"<div class='scroll'><table class='matrix'><tr><th></th>{head}</tr>{''.join(lines)}</table></div>{note}"


def _cell(share: float, votes: int) -> str:
    if not math.isfinite(share):
        return f"<td>–<small>n = {votes}</small></td>"
    red, green, blue = _BLUE if share >= 0.5 else _ORANGE
    strength = min(1.0, 2 * abs(share - 0.5))
    ink = "#fff" if share >= 0.5 and strength > 0.55 else "#1c2530"
    mixed = ",".join(str(round(255 + (channel - 255) * (0.08 + 0.92 * strength))) for channel in (red, green, blue))
    return f"<td style='background:rgb({mixed});color:{ink}'>{share:.0%}<small>n = {votes}</small></td>"


def _checks(ranking: Ranking, outliers: Sequence[str], language: Language) -> str:
    """Everything else a reader must know, one quiet line each."""
    lines = [say("compare.counted", language, n=f"{ranking.votes:,}"), localized(ranking.position_bias.text, language)]
    lines += [localized(note, language) for note in ranking.notes]
    if outliers:
        lines.append(say("compare.outliers", language, n=len(outliers), names=", ".join(outliers)))
    if ranking.style is not None:
        lines += [_style(row, language) for row in ranking.style.to_dict("records")]
    return f"<div class='dim'>{''.join(f'<p>{html.escape(line)}</p>' for line in lines if line)}</div>"


def _style(row: Mapping[object, object], language: Language) -> str:
    facts = {name: f"{float(str(row[name])):+.2f}" for name in ("coefficient", "low", "high")}
    return say("compare.style_line", language, name=str(row["covariate"]), **facts)


def _whole(value: object) -> str:
    number = float(str(value))
    return f"{number:.0f}" if math.isfinite(number) else "–"
