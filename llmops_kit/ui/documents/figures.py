"""What was measured, as the page shows it: bars with their intervals, a row per question, and what is not established in grey."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops_kit.ui.text import Language, say, sentences

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.documents.report import Report

COLOURS = {"hybrid": "#0072b2", "lexical": "#e69f00", "dense": "#009e73"}
"""Of Okabe and Ito's palette, which colour-blind people and projectors tell apart."""
CSS = """
table {border-collapse: collapse; width: 100%; table-layout: fixed}
th, td {text-align: left; padding: 5px 8px; border-bottom: 1px solid var(--border-color-primary); font-size: .92rem;
  vertical-align: middle; overflow-wrap: anywhere}
th:first-child, td:first-child {width: 96px}
.wide th:first-child, .wide td:first-child {width: 26%}
.bar {position: relative; height: 10px; background: #d5dbe3; border-radius: 5px; margin: 3px 0}
.fill {position: absolute; left: 0; top: 0; bottom: 0; border-radius: 5px}
.span {position: absolute; top: 4px; height: 2px; background: #222}
.span::before, .span::after {content: ""; position: absolute; top: -3px; width: 2px; height: 8px; background: #222}
.span::before {left: 0} .span::after {right: 0}
.range {color: var(--body-text-color-subdued); font-size: .82rem; white-space: nowrap}
.key {display: inline-block; width: 10px; height: 10px; border-radius: 3px; margin-right: 5px}
.verdict {padding: 8px 12px; border-left: 3px solid var(--primary-500); margin: 6px 0; line-height: 1.6}
.grey {color: var(--body-text-color-subdued); border-left-color: var(--neutral-300)}
.dim {color: var(--body-text-color-subdued); font-size: .87rem}
@media (max-width: 640px) {.range {white-space: normal; display: block} th, td {padding: 4px} th:first-child, td:first-child {width: 62px; font-size: .76rem}}
"""
_ANSWERS = ("score_em", "score_char_f1", "score_grounded")


def show_report(report: Report, language: Language) -> str:
    """The verdict, and one bar with its interval for every measure and mode."""
    sure = any(each.is_established(len(report.modes) - 1) for each in report.differences().values()) if report.counted else False
    spec = report.spec
    facts = {"n": report.counted, "questions": spec["questions"], "embedder": html.escape(str(spec["embedder"])), "chunker": html.escape(str(spec["chunker"]))}
    told = f"<div class='verdict{'' if sure or len(report.modes) == 1 else ' grey'}'>{_in_words(report.verdict(language), report.modes, language)}</div>"
    left = [row for row in report.rows if row["state"] != "found"]
    note = f"<p class='dim'>{say('rag_eval.left', language, n=len(left))}</p>" if left else ""
    about = f"<p class='dim'>{say('rag_eval.measured_on', language, **facts)}</p>"
    return f"{told}{_measures(report, language)}{_answers(report, language)}{about}{note}"


def rows_table(report: Report, language: Language) -> pd.DataFrame:
    """A row per question: the rank of the right passage in each mode, what came first or is closest, and the answer where one was asked for."""
    import pandas as pd

    rows = []
    for row in report.rows:
        ranks = ["–" if row["modes"][mode]["rank"] is None else str(row["modes"][mode]["rank"]) for mode in report.modes]
        hits = row["modes"][report.modes[0]]["hits"]
        first = f"{hits[0]['document']}: {hits[0]['text']}" if hits else ""
        state = say(f"rag_eval.state_{row['state']}", language)
        told = [str(row["number"]), row["question"], state, *(ranks if row["state"] == "found" else ["" for _ in ranks]), row["closest"] or first]
        if report.spec.get("model"):
            told += [str(row.get("answer") or row.get("error") or ""), *(_figure(row.get(name)) for name in _ANSWERS)]
        rows.append(told)
    heads = [say(f"rag_eval.column_{name}", language) for name in ("number", "question", "state")]
    heads += [mode_word(mode, language) for mode in report.modes] + [say("rag_eval.column_first", language)]
    if report.spec.get("model"):
        heads += [say(f"rag_eval.column_{name}", language) for name in ("answer", *_ANSWERS)]
    return pd.DataFrame(rows, columns=heads)


def show_sweep(table: pd.DataFrame, language: Language) -> str:
    """Every setting with hit@k and MRR as bars; settings that are not told apart from the best one are grey."""
    best, verdict = table.attrs["best"], _in_words(str(table.attrs["verdict"][language]), COLOURS, language)
    several = len(set(table["embedder"]) - {""}) > 1
    rows, ks = [], sorted(set(table["k"]))
    for key, group in table.groupby(["embedder", "chunk_size", "mode"], sort=False):
        embedder, size, mode = (str(part) for part in key)
        first = group.iloc[0]
        is_best = best == {"embedder": embedder, "chunk_size": int(size), "mode": mode}
        place = "rag_eval.sweep_best" if is_best else "rag_eval.sweep_worse" if bool(first["worse"]) else "rag_eval.sweep_open"
        hits = " · ".join(f"{_digits(hit)}" for hit in group.sort_values("k")["hit"])
        figures = _bar(first["mrr"], first["mrr_low"], first["mrr_high"], COLOURS.get(mode, "#0072b2"))
        name = f"{size} · {mode_word(mode, language)}{f' · {html.escape(embedder)}' if embedder and several else ''}"
        dim = "" if is_best or first["worse"] else " class='dim'"
        rows.append(f"<tr><td>{name}</td><td>{figures}</td><td>{hits}</td><td{dim}>{say(place, language)}</td></tr>")
    heads = [say("rag_eval.sweep_setting", language), "MRR@10", f"hit@{'/'.join(str(k) for k in ks)}", say("rag_eval.sweep_against", language)]
    head = "".join(f"<th>{each}</th>" for each in heads)
    n = int(table["n"].iloc[0]) if len(table) else 0
    return f"<div class='verdict grey'>{verdict}</div><table class='wide'><tr>{head}</tr>{''.join(rows)}</table><p class='dim'>n = {n}</p>"


def mode_word(mode: str, language: Language) -> str:
    """A mode of search in a word."""
    return say(f"ask.mode_{mode}", language) if f"ask.mode_{mode}" in sentences(language) else mode


def _in_words(sentence: str, modes: Iterable[str], language: Language) -> str:
    """A sentence of a report, escaped, with the modes called as the page calls them."""
    text = html.escape(sentence)
    for mode in modes:
        text = text.replace(mode, mode_word(mode, language))
    return text


def _measures(report: Report, language: Language) -> str:
    summary = [row for row in report.summary.to_dict("records") if row["mode"] in report.modes]
    if not report.counted:
        return ""
    names = list(dict.fromkeys(row["measure"] for row in summary))
    heads = "".join(f"<th><span class='key' style='background:{COLOURS[mode]}'></span>{mode_word(mode, language)}</th>" for mode in report.modes)
    found = {(row["mode"], row["measure"]): row for row in summary}
    lines = [f"<tr><td>{name}</td>{''.join(_cell(found[mode, name], COLOURS[mode]) for mode in report.modes)}</tr>" for name in names]
    return f"<table><tr><th>n = {report.counted}</th>{heads}</tr>{''.join(lines)}</table>"


def _answers(report: Report, language: Language) -> str:
    """The grades of the answers, each with its own n."""
    rows = [row for row in report.summary.to_dict("records") if row["mode"] not in report.modes]
    if not rows:
        return ""
    head = say("rag_eval.answers_of", language, model=html.escape(str(report.spec["model"])))
    lines = [f"<tr><td>{html.escape(row['measure'])}</td>{_cell(row, '#cc79a7')}<td>n = {row['n']}</td></tr>" for row in rows]
    return f"<p><b>{head}</b></p><table>{''.join(lines)}</table>"


def _cell(row: Mapping[Any, Any], colour: str) -> str:
    return f"<td>{_bar(row['value'], row['low'], row['high'], colour) if row['n'] else '–'}</td>"


def _bar(value: float, low: float, high: float, colour: str) -> str:
    fill = f"<span class='fill' style='width:{value:.1%};background:{colour}'></span>"
    span = f"<span class='span' style='left:{low:.1%};width:{max(0.0, high - low):.1%}'></span>"
    return f"<b>{_digits(value)}</b> <span class='range'>({_digits(low)}–{_digits(high)})</span><div class='bar'>{fill}{span}</div>"


def _digits(value: float) -> str:
    return f"{value:.2f}"


def _figure(value: Any) -> str:
    return "" if value is None or value != value else f"{float(value):.2f}"


def questions_frame(rows: Sequence[Sequence[str]], language: Language, *, least: int) -> pd.DataFrame:
    """The editable table of questions, with at least so many rows, its columns called in the reader's language."""
    import pandas as pd

    filled = [list(row) for row in rows] + [[""] * 4 for _ in range(max(0, least - len(rows)))]
    return pd.DataFrame(filled, columns=[say(f"rag_eval.column_{name}", language) for name in ("question", "passage", "document", "answer")])
