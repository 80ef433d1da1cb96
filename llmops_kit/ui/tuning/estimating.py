"""What a training will take, as three figures in a row: time, memory, cost; how they were found, and what would fit where it does not."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

from llmops_kit.ui.text import Language, localized, say

if TYPE_CHECKING:
    from llmops_kit.tuning.budget import Estimate

CSS = """
.tiles {display: grid; grid-template-columns: repeat(3, 1fr); gap: 8px; margin: 4px 0}
.tile {border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 8px 10px; min-width: 0; background: var(--background-fill-secondary)}
.tile b {display: block; font-size: 1.15rem; font-weight: 600; font-variant-numeric: tabular-nums; overflow-wrap: anywhere}
.tile span, .dim {color: var(--body-text-color-subdued); font-size: .82rem; line-height: 1.5; overflow-wrap: anywhere} .dim {margin: 3px 0}
.reason {border-left: 3px solid var(--neutral-400); padding-left: 10px; margin: 6px 0; overflow-wrap: anywhere; line-height: 1.6}
details {margin: 4px 0} summary {cursor: pointer; font-size: .87rem; color: var(--body-text-color-subdued)}
table {border-collapse: collapse; width: 100%} td {padding: 4px 6px; font-size: .84rem; border-bottom: 1px solid var(--border-color-primary);
  overflow-wrap: anywhere; vertical-align: top} td:last-child {white-space: nowrap; text-align: right}
"""


def show_estimate(estimate: Estimate, language: Language) -> str:
    """The three figures, and beneath them what they rest on."""
    from llmops_kit.tuning.budget.estimate import format_time

    low, high = estimate.seconds_range
    time = say("tune.about_time", language, time=format_time(estimate.seconds, language))
    spread = say("tune.range", language, low=format_time(low, language), high=format_time(high, language))
    memory, room = f"{estimate.memory_gb:.1f} GB", say("tune.of_memory", language, gb=f"{estimate.available_gb:.1f}")
    cost = f"${estimate.cost_usd:,.2f}" if estimate.cost_usd else say("tune.free", language)
    tiles = _tile("time", time, spread, language) + _tile("memory", memory, room, language) + _tile("cost", cost, _device(estimate.device, language), language)
    facts = {"steps": f"{estimate.steps:,}", "tokens": f"{estimate.tokens:,}", "parameters": f"{estimate.trainable_parameters:,}"}
    told = f"<p class='dim'>{say('tune.estimate_facts', language, **facts)} {say(f'tune.basis_{estimate.basis}', language)}</p>"
    advice = localized(estimate.advice, language) if estimate.advice else ""
    why = "" if estimate.fits else say("tune.does_not_fit", language)
    note = f"<div class='reason' role='alert'>{why} {html.escape(advice)}</div>" if why or advice else ""
    return f"<div class='tiles'>{tiles}</div>{note}{told}{_lines(estimate, language)}"


def show_refusal(text: str) -> str:
    """Why there is no estimate."""
    return f"<div class='reason' role='alert'>{html.escape(text)}</div>"


def _tile(name: str, value: str, about: str, language: Language) -> str:
    return f"<div class='tile'><span>{say(f'tune.tile_{name}', language)}</span><b>{html.escape(value)}</b><span>{html.escape(about)}</span></div>"


def _device(device: str, language: Language) -> str:
    return say("tune.on_cpu", language) if device == "cpu" else say("tune.on_device", language, device=device)


def _lines(estimate: Estimate, language: Language) -> str:
    """How the memory was computed, folded."""
    from llmops_kit.tuning.budget.estimate import format_value

    told = [(localized(line.name, language), line.formula, format_value(line)) for line in estimate.lines]
    rows = "".join(f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in cells)}</tr>" for cells in told)
    return f"<details><summary>{say('tune.how_computed', language)}</summary><table>{rows}</table></details>" if rows else ""
