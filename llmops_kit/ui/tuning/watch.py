"""The jobs sub-tab: one job of the person's own, live; found again by who they are after a reload, and untouched by closing the page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.text import label, language_of, say, shown_errors
from llmops_kit.ui.tuning import curve, live, showing, whose

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

LOOK_S = 1.0
"""Seconds between two looks at a job that is not over."""
CSS = showing.CSS + curve.CSS


@dataclass(frozen=True)
class Watch:
    """What other sub-tabs and the bell need: what shows a job, in the order in which `live.draw` fills it, and the buttons under a result."""

    parts: dict[str, Any]
    buttons: dict[str, gr.Button]

    def outputs(self) -> list[Any]:
        """What shows a job, in the order of `live.SHOWN`."""
        return [self.parts[name] for name in live.SHOWN]


def build(kit: Kit) -> Watch:
    """Lay out the sub-tab and wire what belongs to it alone; call inside an open `gr.Tab`."""
    parts: dict[str, Any] = {"timer": gr.Timer(LOOK_S, active=False), "seen": gr.State({})}
    with gr.Row(elem_classes="chooser"):
        parts["chooser"] = gr.Dropdown([], label=label("tune.job"), elem_id="tuning-job", interactive=True, min_width=260)
    parts["empty"] = gr.HTML(elem_id="tuning-no-job", padding=False, visible=False)
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=2, min_width=300, elem_classes="inputs"):
            buttons = _lay_out_job(parts)
        with gr.Column(scale=5, min_width=320):
            _lay_out_curve(parts)
    watch = Watch(parts, buttons)
    _wire(kit, watch)
    return watch


def _lay_out_job(parts: dict[str, Any]) -> dict[str, gr.Button]:
    """The card, the bar, and what can be done: stop, go on, use what came out."""
    look: dict[str, Any] = {"css_template": CSS, "apply_default_css": False, "padding": False}
    parts["card"] = gr.HTML(elem_id="tuning-card", **look)
    parts["bar"] = gr.HTML(elem_id="tuning-progress", padding=False)
    buttons: dict[str, gr.Button] = {}
    with gr.Row(elem_classes="actions"):
        parts["cancel"] = gr.Button(label("tune.cancel"), size="sm", visible=False, elem_id="tuning-cancel")
        parts["resume"] = gr.Button(label("tune.resume"), variant="primary", size="sm", visible=False, elem_id="tuning-resume")
    parts["notes"] = gr.HTML(elem_id="tuning-notes", **look)
    with gr.Column(visible=False, elem_id="tuning-result") as parts["result"]:
        parts["facts"] = gr.HTML(elem_id="tuning-facts", **look)
        parts["model"] = gr.State("")
        with gr.Row(elem_classes="actions"):
            buttons["try"] = gr.Button(label("tune.try"), variant="primary", elem_id="tuning-try")
            buttons["compare"] = parts["compare"] = gr.Button(label("tune.compare"), elem_id="tuning-compare")
            buttons["look"] = gr.Button(label("tune.look"), elem_id="tuning-look")
    return buttons


def _lay_out_curve(parts: dict[str, Any]) -> None:
    """Live: the loss, the answers before and after, the best and worst rows; folded: the numbers, the log, the code."""
    look: dict[str, Any] = {"css_template": CSS, "apply_default_css": False, "padding": False}
    parts["curve"] = gr.HTML(elem_id="tuning-curve", **look)
    with gr.Accordion(label("tune.numbers"), open=False, elem_id="tuning-numbers-drawer"):
        parts["numbers"] = gr.HTML(elem_id="tuning-numbers", **look)
    parts["step"] = gr.Dropdown([], label=label("tune.step"), visible=False, elem_id="tuning-step", interactive=True, min_width=160)
    parts["samples"] = gr.HTML(elem_id="tuning-samples", **look)
    parts["examples"] = gr.HTML(elem_id="tuning-examples", **look)
    with gr.Accordion(label("tune.history"), open=False, elem_id="tuning-history-drawer"):
        parts["history"] = gr.HTML(elem_id="tuning-history", **look)
    with gr.Accordion(label("tune.log"), open=False, elem_id="tuning-log-drawer"):
        parts["log"] = gr.HTML(elem_id="tuning-log", **look)
    with gr.Accordion(label("playground.code"), open=False, elem_id="tuning-job-code-drawer"):
        shown: dict[str, Any] = {"interactive": False, "show_label": False, "wrap_lines": True, "show_line_numbers": False}
        parts["code"] = gr.Code(language="python", elem_id="tuning-job-code", **shown)


def _wire(kit: Kit, watch: Watch) -> None:
    parts, outputs = watch.parts, watch.outputs()
    one: dict[str, Any] = {"job": parts["chooser"], "step": parts["step"]}
    ticking: dict[str, Any] = {"inputs_kwargs": {**one, "seen": parts["seen"]}, "outputs": outputs, **QUICK}
    parts["timer"].tick(_on_tick(kit), api_name="watch_job", **ticking)
    parts["chooser"].input(_on_choose(kit), inputs_kwargs={"job": parts["chooser"]}, outputs=outputs, api_name="choose_job", **QUICK)
    parts["step"].input(_on_step(kit), inputs_kwargs=one, outputs=[parts["samples"]], api_name="choose_step", **QUICK)
    for name in ("cancel", "resume"):
        acted: dict[str, Any] = {"inputs_kwargs": {"job": parts["chooser"]}, "outputs": outputs, **QUICK}
        parts[name].click(_on_act(kit, name), api_name=f"{name}_job", **acted)


def opener(kit: Kit) -> Callable[..., list[Any]]:
    """The handler that shows the job that was chosen, or, where none is, the person's own newest one. It takes `job` and fills `Watch.outputs`."""

    def on_open(request: gr.Request, *, job: str | None) -> list[Any]:
        with shown_errors(request):
            user = require(user_of(request), "participant", resource="jobs")
            known = [each.id for each in whose.own_jobs(kit, user)]
            newest = None if job in known else whose.newest_job(kit, user)
            return live.draw(kit, request, job if job in known else newest.id if newest else None)

    return on_open


def _on_choose(kit: Kit) -> Callable[..., list[Any]]:
    def on_choose(request: gr.Request, *, job: str | None) -> list[Any]:
        with shown_errors(request):
            return live.draw(kit, request, job)

    return on_choose


def _on_tick(kit: Kit) -> Callable[..., list[Any]]:
    def on_tick(request: gr.Request, *, job: str | None, step: int | None, seen: dict[str, Any]) -> list[Any]:
        with shown_errors(request):
            return live.follow(kit, request, job, step, seen)

    return on_tick


def _on_step(kit: Kit) -> Callable[..., str]:
    def on_step(request: gr.Request, *, job: str | None, step: int | None) -> str:
        with shown_errors(request):
            return live.show_step(kit, whose.find_job(kit, request, job), step, language_of(request))

    return on_step


def _on_act(kit: Kit, verb: str) -> Callable[..., list[Any]]:
    def on_act(request: gr.Request, *, job: str | None) -> list[Any]:
        """Stop a job, or go on with one that was stopped or broke off. The rights are the job's: its owner, or a facilitator."""
        with shown_errors(request):
            found = whose.find_job(kit, request, job)
            has_begun = found.state == "running" if verb == "cancel" else bool(found.progress.get("step"))
            if verb == "cancel":
                kit.jobs.cancel(found.id, by=user_of(request))
            else:
                kit.jobs.resume(found.id, by=user_of(request))
            gr.Info(say(f"tune.{verb}_told" if has_begun else f"tune.{verb}_told_waiting", language_of(request)))
            return live.draw(kit, request, found.id)

    return on_act
