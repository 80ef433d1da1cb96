"""Agreement and disagreement as HTML made of escaped text: the coefficients with their intervals, the raters, the board."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops_kit.statistics import Interval
from llmops_kit.ui.text import Language, say

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.feedback.agreement import Agreement

CSS = """
.agreement {display: grid; gap: 10px}
.agreement .verdict {font-size: 1.02rem; line-height: 1.7; border-left: 3px solid var(--neutral-400); padding-left: 12px; margin: 0}
.figures {display: grid; gap: 10px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 150px), 1fr))}
.figure {border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 8px 12px; background: var(--background-fill-secondary); min-width: 0}
.figure .name, .figure .range {color: var(--body-text-color-subdued); font-size: .84rem}
.figure b {font-size: 1.5rem; font-variant-numeric: tabular-nums}
.scale {position: relative; height: 8px; border-radius: 4px; background: var(--neutral-200); margin: 6px 0 2px}
.scale .span {position: absolute; top: 2px; bottom: 2px; background: var(--neutral-500); border-radius: 2px; min-width: 2px}
.scale .dot {position: absolute; top: -2px; width: 12px; height: 12px; margin-left: -6px; border-radius: 50%; background: #0072b2; border: 2px solid #fff;
  box-sizing: border-box}
.notes {color: var(--body-text-color-subdued); font-size: .87rem; margin: 0; line-height: 1.6}
.wide {overflow-x: auto}
table.raters {border-collapse: collapse; font-size: .92rem; width: 100%}
table.raters th {text-align: left; font-weight: 600; color: var(--body-text-color-subdued); font-size: .84rem}
table.raters th, table.raters td {padding: 4px 10px 4px 0; border-bottom: 1px solid var(--border-color-primary); white-space: nowrap;
  font-variant-numeric: tabular-nums}
table.raters tr.mine td:first-child {font-weight: 600}
.board {display: grid; gap: 10px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr))}
.split {border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 10px 14px; background: var(--background-fill-secondary); min-width: 0}
.split .asked {color: var(--body-text-color-subdued); font-size: .87rem; overflow-wrap: anywhere; margin: 0 0 6px; white-space: pre-line}
.split .said {line-height: 1.65; overflow-wrap: anywhere; margin: 0 0 8px; white-space: pre-line}
.split .count {display: grid; grid-template-columns: minmax(52px, max-content) 1fr max-content; gap: 8px; align-items: center; font-size: .87rem; margin: 2px 0}
.split .fill {display: block; height: 12px; border-radius: 3px; background: #0072b2; min-width: 2px}
.split .label {max-width: 150px; overflow-wrap: anywhere}
.split ul {margin: 8px 0 0; padding-left: 18px; font-size: .9rem; line-height: 1.6; overflow-wrap: anywhere}
.split .head {display: flex; justify-content: space-between; gap: 8px; color: var(--body-text-color-subdued); font-size: .82rem; margin-bottom: 4px}
.wall {font-size: 1.35rem} .wall .split .asked {font-size: 1.05rem} .wall .split .count, .wall .split ul {font-size: 1.1rem} .wall .split .fill {height: 20px}
.wall.board {grid-template-columns: repeat(auto-fill, minmax(min(100%, 520px), 1fr))} .wall .split .head {font-size: 1rem}
.wall .figure b {font-size: 2.4rem} .wall .figure .name, .wall .figure .range {font-size: 1.05rem} .wall .verdict {font-size: 1.3rem}
"""
_LONGEST = 360
"""Characters of a prompt and of an answer on a card."""
_COMMENTS = 4


LISTEN = """
const isOn = () => Boolean(document.querySelector('#agreement-wall input')?.checked);
const timer = setInterval(() => {
  if (!element.isConnected) clearInterval(timer);
  else if (element.offsetParent !== null && !document.hidden && isOn()) trigger('click');
}, 5000);
watch('value', () => { if (isOn() !== Boolean(element.querySelector('.wall'))) trigger('click'); });
"""
"""Asks for news every 5 seconds while the board for the wall is on and can be seen, and at once where an older answer came in late."""


def show_agreement(found: Agreement, name_of: Callable[[str], str], mine: str, language: Language, *, is_wall: bool = False) -> str:
    """The verdict, the coefficients and, unless on the wall, the raters by the names `name_of` gives; `mine` is the reader's own id."""
    figures = "".join(_figures(found, language))
    notes = "".join(f"<p class='notes'>{html.escape(note[language])}</p>" for note in found.notes if found.alpha is not None)
    raters = "" if is_wall else _raters(found.raters, name_of, mine, language)
    verdict = f"<p class='verdict'>{html.escape(found.verdict[language])}</p>"
    return f"<div class='agreement{' wall' if is_wall else ''}'>{verdict}<div class='figures'>{figures}</div>{notes}{raters}</div>"


def show_board(
    rows: pd.DataFrame, labels: Mapping[str, str], language: Language, *, scales: Mapping[str, Sequence[str]] | None = None, is_wall: bool = False
) -> str:
    """What people disagree on most, a card each: the answer, how often each value was given, what was said.

    `labels` name the criteria; `scales` have all values of a criterion in their order, so that the ones nobody gave are seen too.
    """
    if rows.empty:
        return f"<p class='notes'>{say('feedback.no_disagreement', language)}</p>"
    cards = "".join(_card(row, labels, scales or {}, language) for row in rows.to_dict("records"))
    return f"<div class='board{' wall' if is_wall else ''}'>{cards}</div>"


def _figures(found: Agreement, language: Language) -> Iterator[str]:
    units = say("feedback.units", language, n=f"{found.n_units:,}", raters=f"{found.n_raters:,}")
    if found.alpha is not None:
        yield _figure("Krippendorff α", f"{found.alpha.value:.2f}", f"{_range(found.alpha)} · {units}", _scale(found.alpha, -0.2))
    if found.percent is not None:
        yield _figure(say("feedback.percent", language), f"{found.percent.value:.0%}", f"{_range(found.percent)} · {units}", _scale(found.percent, 0))
    for name, value in (("Cohen κ", found.cohen), ("Fleiss κ", found.fleiss)):
        if value is not None:
            yield _figure(name, f"{value:.2f}", units, "")


def _figure(name: str, value: str, told: str, scale: str) -> str:
    return f"<div class='figure'><div class='name'>{name}</div><b>{value}</b>{scale}<div class='range'>{told}</div></div>"


def _range(found: Interval) -> str:
    return f"{found.low:.2f}–{found.high:.2f}" if found.low >= 0 else f"{found.low:.2f} … {found.high:.2f}"


def _scale(found: Interval, lowest: float) -> str:
    def place(value: float) -> float:
        return min(1.0, max(0.0, (value - lowest) / (1 - lowest)))

    low, high = place(found.low), place(found.high)
    span = f"<span class='span' style='left:{low:.1%};width:{max(0.0, high - low):.1%}'></span>"
    return f"<div class='scale'>{span}<span class='dot' style='left:{place(found.value):.1%}'></span></div>"


def _raters(raters: pd.DataFrame, name_of: Callable[[str], str], mine: str, language: Language) -> str:
    if raters.empty:
        return ""
    heads = "".join(f"<th>{say(f'feedback.column_{name}', language)}</th>" for name in ("rater", "n", "agreement", "bias", "drift"))
    rows = "".join(_rater(row, name_of, mine, language) for row in raters.to_dict("records"))
    return f"<div class='wide'><table class='raters'><tr>{heads}</tr>{rows}</table></div>"


def _rater(row: Mapping[Any, Any], name_of: Callable[[str], str], mine: str, language: Language) -> str:
    is_mine = row["rater"] == mine
    name = html.escape(name_of(str(row["rater"]))) + (say("feedback.you", language) if is_mine else "")
    agreement = "–" if _is_missing(row["agreement"]) else f"{row['agreement']:.0%}"
    bias = "–" if _is_missing(row["bias"]) else f"{row['bias']:+.2f}"
    if row["biased"]:
        bias += f" {say('feedback.higher' if row['bias'] > 0 else 'feedback.lower', language)}"
    drift = "–" if _is_missing(row["drift"]) else f"{row['drift']:+.2f}" + (f" {say('feedback.drifting', language)}" if row["drifting"] else "")
    cells = "".join(f"<td>{cell}</td>" for cell in (name, f"{row['n']:,}", agreement, bias, drift))
    return f"<tr{' class=mine' if is_mine else ''}>{cells}</tr>"


def _card(row: Mapping[Any, Any], labels: Mapping[str, str], scales: Mapping[str, Sequence[str]], language: Language) -> str:
    given: dict[str, int] = json.loads(row["values"])
    counts = dict.fromkeys(scales.get(str(row["criterion"]), ()), 0) | given
    most = max(counts.values(), default=1)
    bars = "".join(
        f"<div class='count'><span class='label'>{_value(value, row, language)}</span><span>{_fill(n / most)}</span>"
        f"<span>{say('feedback.people', language, n=n)}</span></div>"
        for value, n in counts.items()
    )
    asked = f"<p class='asked'>{_cut(row['prompt'])}</p>" if row["prompt"] else ""
    answers = [row["answer"], *([row["other_answer"]] if row["other_answer"] else [])]
    said = "".join(f"<p class='said'>{f'<b>{index}.</b> ' if len(answers) > 1 else ''}{_cut(answer)}</p>" for index, answer in enumerate(answers, 1))
    comments = "".join(f"<li>{_cut(comment)}</li>" for comment in list(row["comments"])[:_COMMENTS])
    criterion = html.escape(labels.get(str(row["criterion"]), str(row["criterion"])))
    told = say("feedback.disagreement", language, value=f"{row['disagreement']:.2f}")
    head = f"<div class='head'><span>{criterion}</span><span>{told}</span></div>"
    return f"<section class='split'>{head}{asked}{said}{bars}{f'<ul>{comments}</ul>' if comments else ''}</section>"


def _fill(share: float) -> str:
    return f"<span class='fill' style='width:{share:.0%}'></span>" if share else ""


def _value(value: str, row: Mapping[Any, Any], language: Language) -> str:
    """A value as a person reads it: yes and no, thumbs, the sides of a pair; others as they are."""
    if row["criterion"] == "thumb":
        return {"1": "👍", "-1": "👎"}.get(value, html.escape(value))
    known = {"True": "yes", "False": "no", "tie": "vote_tie", "both_bad": "vote_bad"}
    if row["other_answer"] and value in ("first", "second"):
        return say("feedback.answer_n", language, name="1" if value == "first" else "2")
    return say(f"feedback.{known[value]}", language) if value in known else html.escape(value)


def _cut(text: object) -> str:
    whole = str(text)
    return html.escape(whole if len(whole) <= _LONGEST else f"{whole[: _LONGEST - 1]}…")


def _is_missing(value: Any) -> bool:
    return value is None or value != value
