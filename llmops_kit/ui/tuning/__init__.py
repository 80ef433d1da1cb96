"""The Fine-tune tab: data and plan, the running job, the adapters it made, and a model from scratch, in a sub-tab each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.ui.text import label
from llmops_kit.ui.tuning import adapters, opening, scratch, start, watch

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

CSS = """
#tuning-start {min-height: 44px} #tuning-name input {font-family: ui-monospace, monospace}
.fields .form {background: var(--block-background-fill); display: grid; grid-template-columns: repeat(auto-fit, minmax(136px, 1fr)); align-items: end}
.fields .form > * {min-width: 0 !important} #tuning-prompts, #tuning-targets, #tuning-method {grid-column: 1 / -1}
#tuning-preset .wrap {flex-wrap: wrap}
@media (max-width: 640px) {#tuning-start, #tuning-scratch-start {min-height: 48px; flex: 1 0 100%}}
"""
"""What the tab adds to the look of the page."""


@dataclass(frozen=True)
class Tuning:
    """What the frame needs: the sub-tabs, what shows a job, and what shows an adapter."""

    tabs: gr.Tabs
    watch: watch.Watch
    adapters: adapters.Adapters


def build(kit: Kit, tab: gr.Tab) -> Tuning:
    """Lay out the tab and wire its events; call inside an open `gr.Tab`, which is `tab`."""
    inner: dict[str, Any] = {}
    with gr.Tabs(elem_id="tuning-tabs", selected="start") as tabs:
        with gr.Tab(label("tune.tab_start"), id="start") as inner["start"]:
            start_slot = gr.Column()
        with gr.Tab(label("tune.tab_jobs"), id="jobs", render_children=True) as inner["jobs"]:
            shown = watch.build(kit)
        with gr.Tab(label("tune.tab_adapters"), id="adapters", render_children=True) as inner["adapters"]:
            made = adapters.build(kit, inner["adapters"])
        with gr.Tab(label("tune.tab_scratch"), id="scratch", render_children=True) as inner["scratch"]:
            scratch.build(kit, tabs, inner["scratch"], shown)
    with start_slot:
        start.build(kit, tabs, [tab, inner["start"]], shown)
    opening.wire(kit, tab, tabs, inner["jobs"], shown=shown, made=made)
    return Tuning(tabs, shown, made)
