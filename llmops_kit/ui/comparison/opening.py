"""From one sub-tab to the next: a blind duel with the answers on the page, and from the duel to its ranking."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.ui.comparison import choosing
from llmops_kit.ui.comparison.duel import Duel
from llmops_kit.ui.comparison.ranking import show_scope
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.text import language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit


@dataclass(frozen=True)
class Door:
    """The way into the duel from another tab."""

    tabs: gr.Tabs
    duels: Duel


def wire_from(kit: Kit, nouns: gr.Tabs, door: Door, *, button: gr.Button, shown: gr.State, name: str) -> None:
    """Let `button`, in another tab of `nouns`, open the comparison whose id is in `shown` as a duel."""
    on_duel = _on_duel(kit, door.duels)

    def on_press(request: gr.Request, *, shown: str) -> list[Any]:
        return [gr.Tabs(selected="comparison"), *on_duel(request, shown=shown)]

    outputs = [nouns, door.tabs, door.duels.chooser, *door.duels.outputs()]
    button.click(on_press, inputs_kwargs={"shown": shown}, outputs=outputs, api_name=f"duel_with_{name}", **QUICK)


def wire(kit: Kit, tabs: gr.Tabs, duels: Duel, *, sources: dict[str, tuple[gr.Button, Any]], ranked: Any) -> None:
    """Wire the buttons of `sources`, each with the state that holds what is on its page, and the duel's way to the ranking."""
    for name, (button, shown) in sources.items():
        outputs = [tabs, duels.chooser, *duels.outputs()]
        button.click(_on_duel(kit, duels), inputs_kwargs={"shown": shown}, outputs=outputs, api_name=f"duel_with_{name}", **QUICK)
    told: dict[str, Any] = {"inputs_kwargs": {"comparison": duels.chooser}, "outputs": [tabs, ranked]}
    duels.ranking.click(_on_ranking(kit), api_name="ranking_of_duel", **told, **QUICK)


def _on_duel(kit: Kit, duels: Duel) -> Callable[..., list[Any]]:
    def on_duel(request: gr.Request, *, shown: Any) -> list[Any]:
        """Open the comparison to votes, choose it, and show its first pair."""
        with shown_errors(request):
            id = shown.get("comparison") if isinstance(shown, dict) else shown
            found, language = choosing.find_comparison(kit, request, id, own=True), language_of(request)
            if not choosing.is_open(found):
                choosing.set_open(kit, request, found.id, True)
                gr.Info(say("compare.now_open", language))
            listed = choosing.chooser(kit, choosing.visible(kit, request), language, chosen=found.id, every=True)
            return [gr.Tabs(selected="duel"), listed, *duels.desk.draw(request, found.id)]

    return on_duel


def _on_ranking(kit: Kit) -> Callable[..., list[Any]]:
    def on_ranking(request: gr.Request, *, comparison: str | None) -> list[Any]:
        with shown_errors(request):
            return [gr.Tabs(selected="ranking"), show_scope(kit, request, comparison)]

    return on_ranking
