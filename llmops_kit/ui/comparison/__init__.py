"""The Compare tab: blind duels first, then answers side by side, test sets, and the ranking that the votes make."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.ui.comparison import duel, opening, ranking, side, testset
from llmops_kit.ui.comparison.keys import CSS as CSS
from llmops_kit.ui.text import label

if TYPE_CHECKING:
    from llmops_kit.kit import Kit


def build(kit: Kit, tab: gr.Tab, keys: gr.State) -> opening.Door:
    """Lay out the tab and wire its events; call inside an open `gr.Tab`, which is `tab`. `keys` are the session's model keys.

    What comes back leads other tabs to the duel.
    """
    with gr.Tabs(elem_id="compare-tabs", selected="duel") as tabs:
        with gr.Tab(label("duel.tab"), id="duel", render_children=True) as duel_tab:
            duels = duel.build(kit, tab, duel_tab)
        with gr.Tab(label("compare.tab_side"), id="side", render_children=True) as side_tab:
            sides = side.build(kit, side_tab, keys)
        with gr.Tab(label("compare.tab_test"), id="test", render_children=True) as test_tab:
            tests = testset.build(kit, test_tab, keys)
        with gr.Tab(label("compare.tab_ranking"), id="ranking", render_children=True) as ranking_tab:
            ranked = ranking.build(kit, ranking_tab)
    sources: dict[str, tuple[gr.Button, Any]] = {"side": (sides.buttons["duel"], sides.done), "test": (tests.buttons["duel"], tests.shown["comparison"])}
    opening.wire(kit, tabs, duels, sources=sources, ranked=ranked)
    return opening.Door(tabs, duels)
