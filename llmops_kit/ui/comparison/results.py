"""What a test set came to: its table, the differences to the baseline with their intervals, one row in detail, and the files."""

from __future__ import annotations

import html
import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.comparison.plan import plan_from_spec
from llmops_kit.types import Comparison, Run
from llmops_kit.ui.comparison import choosing, marking, showing
from llmops_kit.ui.files import offer, progress_bar
from llmops_kit.ui.text import Language, localized, say

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.kit import Kit

KINDS = ("csv", "xlsx", "jsonl")
MOST = 2_000
"""Rows the page shows. The downloads have all of them."""
_INPUT_CHARS, _ANSWER_CHARS = 90, 400
_MEASURES = {"f1": "{:.2f}", "exact_match": "{:.2f}", "length_chars": "{:.0f}", "latency_s": "{:.2f}", "output_tokens": "{:.0f}", "cost_usd": "{:.6f}"}
CSS = (
    showing.CSS
    + """
h4 {margin: 14px 4px 4px; font-size: .95rem; font-weight: 600}
.scroll {overflow-x: auto}
table {border-collapse: collapse; width: 100%}
th, td {text-align: left; padding: 6px 10px; border-bottom: 1px solid var(--border-color-primary); font-size: .92rem; vertical-align: top}
th {font-weight: 500; color: var(--body-text-color-subdued)} td:first-child {overflow-wrap: anywhere; min-width: 130px}
.figure {white-space: nowrap; font-variant-numeric: tabular-nums} .figure b {font-weight: 600}
.dim {color: var(--body-text-color-subdued); font-size: .84rem; font-weight: 400; display: block}
.sure b {color: var(--body-text-color)} .unsure b {font-weight: 400; color: var(--body-text-color-subdued)}
@media (max-width: 640px) {th, td {padding: 5px 6px; font-size: .84rem}}
"""
)


def table(kit: Kit, comparison_id: str, language: Language) -> Any:
    """The update of the table: one row per item, its question, one column per variant."""
    whole = kit.comparison.table(comparison_id)
    shown = _readable(whole, _labels(kit, comparison_id, language), language)
    return gr.Dataframe(value=shown, visible=len(shown) > 0, column_widths=_widths(shown))


def ended(kit: Kit, comparison: Comparison, language: Language, *, sentence: str, **facts: object) -> dict[str, Any]:
    """Updates for a comparison that stands still, by the names of the sub-tab: its bar, its table, its differences, its files."""
    whole = kit.comparison.table(comparison.id)
    about = whole.attrs
    done, failed = about["total"] - about["missing"], len(about["errors"])
    if done == about["total"] and sentence == "compare.cancelled":
        sentence = "compare.opened"  # it was over before anybody stopped it
    told = say(sentence, language, done=done, total=about["total"], failed=failed, **facts)
    shown = _readable(whole, _labels(kit, comparison.id, language), language)
    several = len(about["variants"]) > 1
    return {
        "comparison": comparison.id,
        "bar": progress_bar(done, about["total"], told),
        "table": gr.Dataframe(value=shown, visible=len(shown) > 0, column_widths=_widths(shown)),
        "deltas": show_deltas(kit, comparison, None, language),
        "baseline": gr.Dropdown(choices=about["variants"], value=about["baseline"], visible=several),
        "row": f"<div class='told dim'>{say('compare.choose_row', language)}</div>" if several else "",
        "chosen": "",
        "open": gr.Checkbox(value=choosing.is_open(comparison), visible=several),
        "note": _note(kit, about["errors"], language),
        **_files(whole),
    }


def show_deltas(kit: Kit, comparison: Comparison, baseline: str | None, language: Language) -> str:
    """A row per variant, a column per measure: the mean and the difference to the baseline with its interval, grey where it is not established."""
    frame = kit.comparison.deltas(comparison.id, baseline)
    rows = frame.to_dict("records")
    if not rows:
        return ""
    base = str(frame.attrs["baseline"])
    measures = [name for name in _MEASURES if any(row["measure"] == name for row in rows)]
    found = {(row["variant"], row["measure"]): row for row in rows}
    heads = "".join(f"<th>{say(f'compare.measure_{name}', language)}</th>" for name in measures)
    lines = []
    for variant in dict.fromkeys(row["variant"] for row in rows):
        tag = f"<span class='tag'>{say('compare.is_baseline', language)}</span>" if variant == base else ""
        cells = "".join(_figure(found.get((variant, name)), name, language) for name in measures)
        lines.append(f"<tr><td>{html.escape(str(variant))}{tag}</td>{cells}</tr>")
    head = f"<h4>{say('compare.deltas', language)}</h4>"
    body = f"<div class='scroll'><table><tr><th>{say('compare.column_variant', language)}</th>{heads}</tr>{''.join(lines)}</table></div>"
    return f"{head}{body}<div class='dim told'>{say('compare.deltas_info', language)}</div>"


def show_row(kit: Kit, comparison: Comparison, item: str, baseline: str | None, language: Language) -> str:
    """All answers to one item beside each other, with what differs from the baseline marked."""
    plan = plan_from_spec(comparison.spec)
    names = [variant.name for variant in plan.variants]
    newest: dict[str, Run] = {}
    for run in kit.comparison.runs(comparison.id):
        if run.item == item and run.variant in names and run.finish_reason != "cancelled":
            newest[str(run.variant)] = run
    shown = [name for name in names if name in newest]
    if not shown:
        return ""
    runs = [newest[name] for name in shown]
    base = baseline or plan.baseline
    cards = marking.show(kit, runs, shown, language, baseline=shown.index(base) if base in shown else 0, marked=True)
    expected = next((each.expected for each in plan.items if each.id == item), None)
    right = f"<div class='told'><span class='dim'>{say('compare.expected', language)}</span>{html.escape(expected)}</div>" if expected else ""
    return f"{showing.show_question(kit, runs, language)}{right}<div class='pair'>{''.join(cards)}</div>"


def _figure(row: Mapping[Any, Any] | None, measure: str, language: Language) -> str:
    if row is None:
        return "<td>–</td>"
    form = _MEASURES[measure]
    mean = f"<b>{form.format(row['mean'])}</b>" if measure != "cost_usd" else f"<b>${form.format(row['mean'])}</b>"
    difference = row.get("difference")
    if difference is None or not math.isfinite(float(difference)):
        return f"<td class='figure'>{mean}<span class='dim'>n = {row['n']}</span></td>"
    signed = form.replace("{:", "{:+")
    difference, low, high = (signed.format(row[name]).replace("-", "\N{MINUS SIGN}") for name in ("difference", "low", "high"))
    sure = bool(row["established"])
    word = say("compare.established" if sure else "compare.not_established", language)
    told = f"<span class='{'sure' if sure else 'unsure'}'><b>{difference}</b></span>"
    return f"<td class='figure'>{mean} <span class='dim'>{told} ({low} – {high})</span><span class='dim'>{word} · n = {row['n']}</span></td>"


def _readable(whole: pd.DataFrame, labels: Mapping[str, str], language: Language) -> pd.DataFrame:
    """The table as a person reads it: the item, what was asked where it differs, what was expected, and the answers, all of a readable length."""
    names = whole.attrs["variants"]
    shown = whole.head(MOST)
    asked = [name for name in shown.columns if name not in {"item", "expected", "tags", *names} and shown[name].astype(str).nunique() > 1]
    own = [name for name in ("expected", "tags") if name in shown]
    failed = {(each["item"], each["variant"]) for each in whole.attrs["errors"]}
    out = shown[["item", *asked, *own, *names]].copy().astype("object")
    for name in (*asked, *own):
        out[name] = ["" if value is None or value != value else _cut(str(value), _INPUT_CHARS) for value in out[name]]
    for name in names:
        mark = say("compare.failed", language)
        cells = zip(out["item"], out[name], strict=True)
        out[name] = [mark if (item, name) in failed and not text else _cut(str(text or ""), _ANSWER_CHARS) for item, text in cells]
    heads = {name: told for name, told in labels.items() if name in asked}
    return out.rename(columns={"item": say("compare.item", language), **heads, **{name: say(f"compare.{name}", language) for name in own}})


def _labels(kit: Kit, comparison_id: str, language: Language) -> dict[str, str]:
    """What the variables of the comparison's prompt are called."""
    return {each.name: localized(each.label, language) or each.name for each in plan_from_spec(kit.comparison.get(comparison_id).spec).prompt.variables}


def _widths(shown: pd.DataFrame) -> list[str | int]:
    return ["64px", *("230px" for _ in shown.columns[1:])]


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _files(whole: pd.DataFrame) -> dict[str, Any]:
    from llmops_kit.playground import export

    stamp = time.strftime("%Y%m%d-%H%M%S")
    made = {"csv": export.to_csv(whole), "xlsx": export.to_xlsx(whole), "jsonl": export.to_jsonl(whole)}
    return {kind: gr.DownloadButton(value=offer(f"comparison-{stamp}.{kind}", content), interactive=True) for kind, content in made.items()}


def _note(kit: Kit, errors: list[Mapping[str, Any]], language: Language) -> str:
    """Where the same rows are in W&B, and how many answers failed."""
    told = [say("compare.failures", language, n=len(errors))] if errors else []
    if kit.tracking.folder:
        told.append(say("compare.wandb", language, folder=kit.tracking.folder))
    return "\n\n".join(told)
