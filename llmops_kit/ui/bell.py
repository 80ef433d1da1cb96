"""The bell in the top bar: the person's own jobs and how far they are, from wherever they look; one click opens a job in its tab."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.models import time_left
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors
from llmops_kit.ui.tuning import live, showing, whose
from llmops_kit.ui.tuning.watch import Watch

if TYPE_CHECKING:
    from llmops_kit.kit import Kit
    from llmops_kit.types import Job

LISTED = 6
"""Jobs the panel has a button for, the newest ones."""
CSS = """
#bell {flex: 0 0 auto; white-space: nowrap}
#bell::before {content: ""; flex: 0 0 auto; width: 13px; height: 13px; margin-right: 5px; background: currentColor; mask: url("data:image/svg+xml,\
%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'%3E%3Cpath d='M12 2a7 7 0 0 0-7 7v5l-2 4h18l-2-4V9a7 7 0 0 0-7-7zm-3 17a3 3 0 0 0 6 0z'/\
%3E%3C/svg%3E") center/contain no-repeat}
#bell-panel {gap: 6px; border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 12px; background: var(--background-fill-secondary)}
#bell-panel button {justify-content: flex-start; text-align: left; font-weight: 400; white-space: normal; overflow-wrap: anywhere; min-height: 38px;
  padding: 6px 12px; background: var(--background-fill-primary); border: 1px solid var(--border-color-primary)}
"""


@dataclass(frozen=True)
class Bell:
    """The button in the top bar; the panel under it, with a button for each of the newest jobs (`ids` says which)."""

    button: gr.Button
    panel: gr.Column
    empty: gr.HTML
    rows: list[gr.Button]
    ids: gr.State
    shown: gr.State


def lay_out_button() -> gr.Button:
    """The button; call inside the top bar."""
    return gr.Button(label("bell.none"), size="sm", elem_id="bell")


def lay_out_panel(button: gr.Button) -> Bell:
    """The panel, hidden at first; call where it is to open."""
    with gr.Column(visible=False, elem_id="bell-panel") as panel:
        empty = gr.HTML(padding=False, elem_classes="quiet", elem_id="bell-empty")
        rows = [gr.Button(size="sm", visible=False, elem_id=f"bell-{index}") for index in range(LISTED)]
    return Bell(button, panel, empty, rows, gr.State([]), gr.State(False))


def wire(kit: Kit, bell: Bell, *, blocks: gr.Blocks, timer: gr.Timer, nouns: gr.Tabs, inner: gr.Tabs, watch: Watch) -> None:
    """What the bell says, what it opens, and the way to a job: the tab `tuning` of `nouns`, the tab `jobs` of `inner`."""

    def on_look(request: gr.Request) -> Any:
        return gr.update(value=tell(kit, request))

    blocks.load(on_look, outputs=[bell.button], api_name="look_at_jobs", **QUICK)
    timer.tick(on_look, outputs=[bell.button], api_name="watch_bell", **QUICK)
    opened = [bell.panel, bell.shown, bell.empty, bell.ids, *bell.rows]
    bell.button.click(_on_open(kit), inputs_kwargs={"shown": bell.shown}, outputs=opened, api_name="open_bell", **QUICK)
    led = [bell.panel, bell.shown, nouns, inner, *watch.outputs()]
    for index, row in enumerate(bell.rows):
        row.click(_on_row(kit, index), inputs_kwargs={"ids": bell.ids}, outputs=led, api_name=f"open_job_{index}", **QUICK)


def tell(kit: Kit, request: gr.Request) -> str:
    """What the button says: nothing is under way, or how far the person's own job is, or their place in line."""
    language = language_of(request)
    active = whose.own_jobs(kit, user_of(request), states=("queued", "running"))
    if not active:
        return say("bell.none", language)
    running = next((job for job in active if job.state == "running"), None)
    if running is None:
        place = kit.jobs.place(active[-1].id)
        told = say("bell.queued", language, place=place.position + 1 if place else "–")
    else:
        told = say("bell.running", language, percent=_percent(running))
    return told + (say("bell.more", language, n=len(active) - 1) if len(active) > 1 else "")


def _on_open(kit: Kit) -> Callable[..., list[Any]]:
    def on_open(request: gr.Request, *, shown: bool) -> list[Any]:
        with shown_errors(request):
            user, language = require(user_of(request), "participant", resource="jobs"), language_of(request)
            jobs = whose.own_jobs(kit, user)[:LISTED]
            rows = [gr.update(value=_row(job, language), visible=True) for job in jobs] + [gr.update(visible=False)] * (LISTED - len(jobs))
            return [gr.update(visible=not shown), not shown, say("bell.own" if jobs else "bell.empty", language), [job.id for job in jobs], *rows]

    return on_open


def _on_row(kit: Kit, index: int) -> Callable[..., list[Any]]:
    def on_row(request: gr.Request, *, ids: list[str]) -> list[Any]:
        with shown_errors(request):
            id = ids[index] if index < len(ids) else None
            return [gr.update(visible=False), False, gr.Tabs(selected="tuning"), gr.Tabs(selected="jobs"), *live.draw(kit, request, id)]

    return on_row


def _row(job: Job, language: Language) -> str:
    told = f"{showing.state_of(job, language)} · {job.name}"
    if job.state != "running":
        return f"{told} · {job.created_at.astimezone():%m/%d %H:%M}"
    left = job.progress.get("seconds_left")
    return f"{told} · {_percent(job)}%" + (f" · {say('tune.left', language, time=time_left(float(left), language))}" if left is not None else "")


def _percent(job: Job) -> int:
    done, steps = int(job.progress.get("step") or 0), int(job.progress.get("steps") or 0)
    return round(100 * min(done, steps) / steps) if steps else 0
