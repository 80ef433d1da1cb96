"""The Feedback tab: rating, campaigns, agreement and what is made of it, in a sub-tab each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gradio as gr

from llmops_kit.ui.feedback import agreement, campaigns, export, rate
from llmops_kit.ui.text import label

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

CSS = """
.feedback-votes button {flex: 1 1 0 !important; min-height: 46px}
#feedback-submit {min-height: 44px} #feedback-sample {width: auto; align-self: flex-start; flex: 0 0 auto}
#feedback-progress {align-self: center}
.wandb {align-items: center; justify-content: space-between}
#feedback-work:has([data-kind=pairwise]), #feedback-work:has([data-kind=ranking]) {flex-direction: column}
#feedback-work:has([data-kind=pairwise]) > *, #feedback-work:has([data-kind=ranking]) > * {width: 100%; flex: 0 0 auto !important}
#feedback-work:has([data-kind=ranking]) .choices {max-width: 420px}
@media (max-width: 640px) {.list-first {order: -1} #feedback-hints {display: none}}
"""
"""What the tab adds to the look of the page."""


OPEN_LINKED = """() => {
  if (!new URLSearchParams(location.search).has('campaign')) return;
  const open = tries => {
    const tab = document.querySelector('#nouns [role=tab][data-tab-id=feedback]');
    if (tab) tab.click(); else if (tries) setTimeout(() => open(tries - 1), 100);
  };
  open(50);
}"""
"""Opens the tab where the address names a campaign, as the link for raters does."""


def build(kit: Kit, tab: gr.Tab) -> None:
    """Lay out the tab and wire its events; call inside an open `gr.Tab`, which is `tab`."""
    with gr.Tabs(elem_id="feedback-tabs", selected="rate") as tabs:
        with gr.Tab(label("feedback.tab_rate"), id="rate") as rate_tab:
            rating = rate.build(kit, rate_tab, tab)
        with gr.Tab(label("feedback.tab_campaigns"), id="campaigns", render_children=True) as campaigns_tab:
            campaigns.build(kit, campaigns_tab, tabs, rating)
        with gr.Tab(label("feedback.tab_agreement"), id="agreement", render_children=True) as agreement_tab:
            agreement.build(kit, agreement_tab)
        with gr.Tab(label("feedback.tab_export"), id="export", render_children=True) as export_tab:
            export.build(kit, export_tab)
