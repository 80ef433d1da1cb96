"""What was found in the data, and the first batch as the model will see it: the report, the rows left out by line and reason, the tokens that count."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops_kit.ui.text import Language, localized, say

if TYPE_CHECKING:
    from llmops_kit.tuning.dataset import Dataset, Problem
    from llmops_kit.tuning.dataset.report import CheckReport
    from llmops_kit.tuning.preview import Preview

CSS = """
.box {border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 10px 14px; margin-bottom: 8px; background: var(--background-fill-secondary);
  line-height: 1.65; overflow-wrap: anywhere}
.box li {margin: 2px 0} h4 {margin: 12px 2px 4px; font-size: .95rem; font-weight: 600}
.alarm {border-left: 3px solid var(--neutral-400)}
.dim {color: var(--body-text-color-subdued); font-size: .87rem; line-height: 1.6}
details {margin: 4px 0} summary {cursor: pointer; font-size: .92rem}
.rows {max-height: 260px; overflow: auto} table {border-collapse: collapse; width: 100%}
th, td {text-align: left; padding: 4px 8px; border-bottom: 1px solid var(--border-color-primary); font-size: .87rem; vertical-align: top;
  overflow-wrap: anywhere}
td:first-child, th:first-child {width: 72px; white-space: nowrap; font-variant-numeric: tabular-nums}
"""
_MOST_PROBLEMS = 200


def show_report(report: CheckReport, dataset: Dataset, language: Language) -> str:
    """The report, and beneath it every row that is left out."""
    kind = " alarm" if report.refusal else ""
    return f"<div class='box{kind}'>{report.html(language)}</div>{_problems(report.problems or dataset.problems, language)}"


def show_preview(preview: Preview, language: Language) -> str:
    """The first rows of the first batch, with the tokens that count in the loss marked."""
    return f"<h4>{say('tune.preview', language)}</h4><div class='box'>{preview.html(language)}</div>"


def show_wait(language: Language) -> str:
    """While the rows are read."""
    return f"<div class='box dim' role='status'>{say('tune.checking', language)}</div>"


def show_note(text: str, *, is_alarm: bool = False) -> str:
    """One sentence in place of a report; why rows cannot be used is read out at once."""
    role = "alert" if is_alarm else "status"
    return f"<div class='box alarm' role='{role}'>{html.escape(text)}</div>"


def _problems(problems: Sequence[Problem], language: Language) -> str:
    if not problems:
        return ""
    rows = "".join(f"<tr><td>{problem.line:,}</td><td>{html.escape(localized(problem.reason, language))}</td></tr>" for problem in problems[:_MOST_PROBLEMS])
    more = len(problems) - _MOST_PROBLEMS
    rest = f"<p class='dim'>{say('tune.more_problems', language, n=f'{more:,}')}</p>" if more > 0 else ""
    heads = f"<tr><th>{say('tune.column_line', language)}</th><th>{say('tune.column_reason', language)}</th></tr>"
    told = say("tune.problems", language, n=f"{len(problems):,}")
    return f"<details><summary>{told}</summary><div class='rows'><table>{heads}{rows}</table></div>{rest}</details>"
