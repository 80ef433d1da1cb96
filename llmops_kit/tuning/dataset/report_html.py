"""A check report as HTML: sentences and a small histogram; everything that came from outside is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from llmops_kit.tuning.dataset.report_text import tell_report

if TYPE_CHECKING:
    from llmops_kit.tuning.dataset.findings import Findings

_BAR = "#6b8fb5"
_OVER = "#c98a4b"
_WIDTH, _HEIGHT = 360, 72
_CAPTION = {"ja": "行の長さ（トークン）", "en": "length of the rows (tokens)"}


def to_html(report: Findings, languages: Sequence[str]) -> str:
    """The report in these languages, one beside the other, above the histogram."""
    sides = "".join(f'<div style="flex:1 1 18em" lang="{language}">{_sentences(report, language)}</div>' for language in languages)
    return f'<div style="display:flex;flex-wrap:wrap;gap:1.5em">{sides}</div>{draw_histogram(report, languages)}'


def draw_histogram(report: Findings, languages: Sequence[str]) -> str:
    """Bars of how many rows have which length; those beyond what is taken in another colour. Each bar says its numbers."""
    if not report.histogram:
        return ""
    most = max(count for _, _, count in report.histogram)
    step = _WIDTH / len(report.histogram)
    bars = []
    for place, (low, high, count) in enumerate(report.histogram):
        height = (_HEIGHT - 2) * count / most
        colour = _OVER if report.max_tokens and low > report.max_tokens else _BAR
        shape = f'x="{place * step + 1:.1f}" y="{_HEIGHT - height:.1f}" width="{step - 2:.1f}" height="{height:.1f}" rx="2" fill="{colour}"'
        bars.append(f"<rect {shape}><title>{low:,}–{high:,}: {count:,}</title></rect>")
    caption = " · ".join(_CAPTION[language] for language in languages)
    frame = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{caption}" style="max-width:100%"'
    scale = f'<div style="display:flex;justify-content:space-between;max-width:{_WIDTH}px;font-size:.85em;opacity:.7">' + (
        f"<span>1</span><span>{caption}</span><span>{report.histogram[-1][1]:,}</span></div>"
    )
    return f"<svg {frame}>{''.join(bars)}</svg>{scale}"


def _sentences(report: Findings, language: str) -> str:
    first, *rest = tell_report(report, language)
    refusal = report.refusal[language] if report.refusal else None
    items = "".join(f'<li style="{"font-weight:600" if line == refusal else ""}">{escape(line)}</li>' for line in rest)
    return f'<p style="margin:.2em 0;font-weight:600">{escape(first)}</p><ul style="margin:.3em 0;padding-left:1.2em">{items}</ul>'
