"""The ways in the tab and out of it: to the job that runs when the tab opens, to an adapter, to the playground, and to the blind duel."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.ui.events import BATCH, QUICK
from llmops_kit.ui.text import shown_errors
from llmops_kit.ui.tuning import adapters, live, watch, whose

if TYPE_CHECKING:
    from llmops_kit.kit import Kit
    from llmops_kit.ui.playground import TryTab


def wire(kit: Kit, tab: gr.Tab, tabs: gr.Tabs, jobs_tab: gr.Tab, *, shown: watch.Watch, made: adapters.Adapters) -> None:
    """The ways between the sub-tabs."""
    one: dict[str, Any] = {"job": shown.parts["chooser"]}
    led = gr.State(False)
    opened: dict[str, Any] = {"inputs_kwargs": {**one, "led": led}, "outputs": [tabs, led, *shown.outputs()], **QUICK}
    tab.select(_on_tab(kit), api_name="open_running_job", **opened)
    jobs_tab.select(watch.opener(kit), inputs_kwargs=one, outputs=shown.outputs(), api_name="open_jobs", **QUICK)
    model: dict[str, Any] = {"model": shown.parts["model"]}
    look: dict[str, Any] = {"inputs_kwargs": model, "outputs": [tabs, *made.outputs()], **QUICK}
    shown.buttons["look"].click(_on_look(kit), api_name="open_adapter", **look)
    begun = shown.buttons["compare"].click(_on_look(kit), api_name="open_to_compare", **look)
    begun = begun.success(adapters.on_compare(kit, made), inputs_kwargs=model, api_name="compare_job_with_base", **QUICK)
    begun.success(adapters.on_watch(kit, made), outputs=made.compared(), api_name="watch_job_comparison", **BATCH)


def wire_out(kit: Kit, nouns: gr.Tabs, inner: gr.Tabs, tried: TryTab, *, shown: watch.Watch, made: adapters.Adapters) -> None:
    """The ways to the playground: base in the first pane, tuned in the second, and a question it was evaluated on."""
    outputs = [nouns, inner, tried.count, tried.panes[0].model, tried.panes[1].model, tried.message]
    for name, button, model in (("job", shown.buttons["try"], shown.parts["model"]), ("adapter", made.buttons["try"], made.parts["chooser"])):
        button.click(_on_try(kit), inputs_kwargs={"model": model}, outputs=outputs, api_name=f"try_{name}", **QUICK)


def _on_tab(kit: Kit) -> Callable[..., list[Any]]:
    def on_tab(request: gr.Request, *, job: str | None, led: bool) -> list[Any]:
        """The first time on a page, go to the person's job where one is under way: after a reload it is found by who they are."""
        with shown_errors(request):
            user = require(user_of(request), "participant", resource="jobs")
            newest = whose.newest_job(kit, user)
            if led or newest is None or newest.has_ended:
                return [gr.skip(), True, *([gr.skip()] * len(live.SHOWN))]
            return [gr.Tabs(selected="jobs"), True, *live.draw(kit, request, newest.id)]

    return on_tab


def _on_look(kit: Kit) -> Callable[..., list[Any]]:
    def on_look(request: gr.Request, *, model: str) -> list[Any]:
        with shown_errors(request):
            return [gr.Tabs(selected="adapters"), *adapters.show(kit, request, model)]

    return on_look


def _on_try(kit: Kit) -> Callable[..., list[Any]]:
    def on_try(request: gr.Request, *, model: str | None) -> list[Any]:
        with shown_errors(request):
            card = whose.require_own_model(kit, request, model)
            listed = [entry.id for entry in kit.models.entries()]
            asked = next((_question(sample) for sample in card.samples), "")
            base = card.base if card.base in listed else listed[0]
            panes = [gr.update(choices=listed, value=base), gr.update(choices=listed, value=model)]
            return [gr.Tabs(selected="playground"), gr.Tabs(selected="try"), 2, *panes, asked or gr.skip()]

    return on_try


def _question(sample: Any) -> str:
    """What a sample asks: the last thing its person said."""
    return str(sample.get("prompt") or "")
