"""The Documents tab: one collection, and what can be done with it in a sub-tab each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from llmops_kit.ui.documents import ask, chooser, evaluation, evidence, files
from llmops_kit.ui.documents.work import Works
from llmops_kit.ui.text import label

if TYPE_CHECKING:
    from llmops_kit.kit import Kit


def build(kit: Kit, tab: gr.Tab, keys: gr.State) -> None:
    """Lay out the tab and wire its events; call inside an open `gr.Tab`, which is `tab`. `keys` are the session's model keys."""
    works = Works()
    chosen = chooser.build(kit, tab)
    with gr.Tabs(elem_id="documents-tabs", selected="files") as tabs:
        with gr.Tab(label("ask.tab"), id="ask", render_children=True) as ask_tab:
            cards = ask.build(kit, ask_tab, chosen, keys)
        with gr.Tab(label("documents.tab_files"), id="files") as files_tab:
            files.build(kit, works, files_tab, chosen)
        with gr.Tab(label("evidence.tab"), id="evidence", render_children=True):
            evidence.build(kit, chosen, tabs, cards=cards)
        with gr.Tab(label("rag_eval.tab"), id="evaluation", render_children=True) as evaluation_tab:
            evaluation.build(kit, evaluation_tab, chosen, keys)
    ask.open_first(kit, chosen, tabs)
