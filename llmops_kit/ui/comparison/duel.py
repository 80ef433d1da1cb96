"""The blind duel: a question, two answers without names, one key for the vote; then the names, and ten seconds to think better of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.types import Choice
from llmops_kit.ui.comparison import choosing, example, showing
from llmops_kit.ui.comparison.desk import CHOICES, SHOWN, Desk, kept
from llmops_kit.ui.comparison.keys import KEYS
from llmops_kit.ui.events import BATCH, QUICK
from llmops_kit.ui.text import label, language_of, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

UNDO_S = 10.0
"""Seconds in which a vote can be taken back; as long as the button is seen, see `keys.CSS`."""


@dataclass(frozen=True)
class Duel:
    """What other sub-tabs need: the chooser, and what is on the page, to send a person here with a comparison chosen."""

    chooser: gr.Dropdown
    parts: dict[str, Any]
    ranking: gr.Button
    desk: Desk

    def outputs(self) -> list[Any]:
        """What every handler here fills, in its order."""
        return [self.parts[name] for name in SHOWN]


def build(kit: Kit, tab: gr.Tab, duel_tab: gr.Tab) -> Duel:
    """Lay out the sub-tab and wire its events; call inside an open `gr.Tab`, which is `duel_tab`; `tab` is the one around it."""
    with gr.Row(elem_classes="chooser"):
        chooser = gr.Dropdown([], label=label("duel.comparison"), elem_id="duel-comparison", scale=2, min_width=260, interactive=True)
        parts: dict[str, Any] = {"progress": gr.HTML(elem_id="duel-progress", elem_classes="quiet", min_width=240)}
    parts |= {"duel": gr.State({}), "shown": gr.Textbox(visible=False, elem_id="duel-shown")}
    look: dict[str, Any] = {"css_template": showing.CSS, "apply_default_css": False, "padding": False}
    parts["question"] = gr.HTML(elem_id="duel-question", **look)
    parts["pair"] = gr.HTML(elem_id="duel-pair", js_on_load=KEYS, **look)
    parts["told"] = gr.HTML(elem_id="duel-told", **look)
    with gr.Row(elem_classes="duel-buttons", elem_id="duel-votes", visible=False) as parts["votes"]:
        votes = {name: gr.Button(label(f"duel.vote_{name}"), elem_id=f"duel-{name}", min_width=60) for name in CHOICES}
    with gr.Row(elem_classes="duel-buttons", elem_id="duel-after", visible=False) as parts["after"]:
        parts["undo"] = gr.Button(label("duel.undo"), elem_id="duel-undo", min_width=60)
        following = gr.Button(label("duel.next"), variant="primary", elem_id="duel-next", min_width=60)
    with gr.Row(elem_classes="actions", visible=False) as parts["empty"]:
        make = gr.Button(label("duel.example"), variant="primary", elem_id="duel-example")
        ranking = gr.Button(label("duel.to_ranking"), elem_id="duel-to-ranking")
    with gr.Accordion(label("playground.code"), open=False, elem_id="duel-code-drawer"):
        look = {"interactive": False, "show_label": False, "wrap_lines": True, "show_line_numbers": False}
        parts["code"] = gr.Code(language="python", elem_id="duel-code", **look)
    duel = Duel(chooser, parts, ranking, Desk(kit))
    _wire(kit, duel, (tab, duel_tab), votes=votes, following=following, make=make)
    return duel


def _wire(kit: Kit, duel: Duel, tabs: tuple[gr.Tab, gr.Tab], *, votes: dict[str, gr.Button], following: gr.Button, make: gr.Button) -> None:
    parts, outputs, desk = duel.parts, duel.outputs(), duel.desk
    chosen: dict[str, Any] = {"comparison": duel.chooser, "duel": parts["duel"]}
    opened: dict[str, Any] = {"inputs_kwargs": chosen, "outputs": [duel.chooser, *outputs], **QUICK}
    gr.on([tabs[0].select, tabs[1].select], _on_open(kit, desk), api_name="open_duel", **opened)
    duel.chooser.input(_on_next(desk), inputs_kwargs=chosen, outputs=outputs, api_name="choose_duel", **QUICK)
    following.click(_on_next(desk), inputs_kwargs=chosen, outputs=outputs, api_name="next_pair", **QUICK)
    said: dict[str, Any] = {"inputs_kwargs": {**chosen, "shown": parts["shown"]}, "outputs": outputs, **QUICK}
    for name, button in votes.items():
        button.click(_on_vote(kit, desk, CHOICES[name]), api_name=f"vote_{name}", **said)
    parts["undo"].click(_on_undo(kit, desk), api_name="undo_vote", **said)
    made = make.click(_on_example(kit), inputs_kwargs={}, outputs=[parts["told"], duel.chooser], api_name="make_example_comparison", **BATCH)
    made.success(_on_open(kit, desk), api_name="open_example_duel", **opened)


def _on_open(kit: Kit, desk: Desk) -> Callable[..., list[Any]]:
    def on_open(request: gr.Request, *, comparison: str | None, duel: dict[str, Any]) -> list[Any]:
        """The comparisons, and a pair to vote on; one that is on the page already stays there."""
        with shown_errors(request):
            found = choosing.visible(kit, request)
            listed = choosing.chooser(kit, found, language_of(request), chosen=comparison or "", every=True)
            if duel.get("pair") and duel["comparison"] == (comparison or ""):
                return [listed, *kept()]
            return [listed, *desk.draw(request, comparison)]

    return on_open


def _on_next(desk: Desk) -> Callable[..., list[Any]]:
    def on_next(request: gr.Request, *, comparison: str | None, duel: dict[str, Any]) -> list[Any]:
        with shown_errors(request):
            return desk.draw(request, comparison)

    return on_next


def _on_vote(kit: Kit, desk: Desk, choice: Choice) -> Callable[..., list[Any]]:
    def on_vote(request: gr.Request, *, comparison: str | None, duel: dict[str, Any], shown: str) -> list[Any]:
        """Keep the vote under the id that was minted when the pair was shown, then tell the names. A click that comes twice changes nothing."""
        with shown_errors(request):
            rater = require(user_of(request), "participant", resource="votes").id
            if not duel.get("pair"):  # the page is older than the server
                return desk.draw(request, comparison)
            if duel["id"] != shown:  # meant for a pair that is gone
                return kept()
            vote = duel["vote"] or kit.comparison.vote(
                duel["pair"], choice, rater=rater, id=shown, source="ui", blinded=duel["blind"], duration_s=round(time.monotonic() - duel["since_s"], 2)
            )
            return desk.reveal(request, comparison, {**duel, "vote": vote})

    return on_vote


def _on_undo(kit: Kit, desk: Desk) -> Callable[..., list[Any]]:
    def on_undo(request: gr.Request, *, comparison: str | None, duel: dict[str, Any], shown: str) -> list[Any]:
        """Take the vote back, as a new event, and show the pair again. The person knows the names by now, and so does the record of the next vote."""
        with shown_errors(request):
            rater = require(user_of(request), "participant", resource="votes").id
            if not duel.get("vote") or duel["id"] != shown:
                return kept()
            kit.comparison.withdraw(duel["vote"], rater=rater, within_s=UNDO_S)
            return desk.ask(request, comparison, duel["pair"], again=True)

    return on_undo


def _on_example(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_example(request: gr.Request) -> Iterator[list[Any]]:
        with shown_errors(request):
            user, language, made = require(user_of(request), "participant", resource="comparisons").id, language_of(request), ""
            for id, bar in example.make(kit, user, language):
                made = id
                yield [bar, gr.skip()]
            found = choosing.visible(kit, request)
            yield ["", choosing.chooser(kit, found, language, chosen=made, every=True)]

    return on_example
