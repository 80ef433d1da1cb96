"""Side by side: one question to two to four variants at once, and what differs between their answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.types import Run
from llmops_kit.ui import form, rating
from llmops_kit.ui.comparison import example, marking, showing, variants
from llmops_kit.ui.comparison.code import side_code
from llmops_kit.ui.events import GENERATION, QUICK
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

SLOTS = 4
_UPDATE_S = 0.1
_UPDATE_S_PER_CHAR = 1 / 2500
"""Seconds between two updates of the page, and more for each character on it, as in the playground's panes."""
_STOPPED_S = 3.0
"""Seconds in which stopped answers are looked for: a model stops within a token, a server when it answers."""


@dataclass(frozen=True)
class Side:
    """The components; `done` holds what was answered last: the ids of its runs, their names, its comparison."""

    form: form.PromptForm
    slots: list[variants.Slot]
    answers: list[gr.HTML]
    count: gr.Radio
    buttons: dict[str, gr.Button]
    baseline: gr.Radio
    marked: gr.Checkbox
    about: gr.HTML
    code: gr.Code
    done: gr.State

    def shown(self) -> list[Any]:
        """What an answering fills, in its order."""
        return [*self.answers, self.baseline, self.about, self.buttons["duel"], self.code, self.done]


def build(kit: Kit, tab: gr.Tab, keys: gr.State) -> Side:
    """Lay out the sub-tab and wire its events; call inside an open `gr.Tab`, which is `tab`."""
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=1, min_width=300, elem_classes="inputs"):
            asked = form.build_form("side-")
            count = gr.Radio([2, 3, 4], value=2, label=label("compare.count"), elem_id="side-count")
            with gr.Row(elem_classes="buttons"):
                buttons = {"run": gr.Button(label("compare.run"), variant="primary", elem_id="side-run")}
                buttons["stop"] = gr.Button(label("playground.stop_pane"), elem_id="side-stop")
        with gr.Column(scale=3, min_width=320):
            side = _lay_out_answers(kit, asked, count, buttons)
    _wire_form(kit, tab, side)
    _wire_answers(kit, side, keys)
    return side


def _lay_out_answers(kit: Kit, asked: form.PromptForm, count: gr.Radio, buttons: dict[str, gr.Button]) -> Side:
    slots, answers, rows = [], [], []
    look: dict[str, Any] = {"css_template": showing.CSS, "apply_default_css": False}
    with gr.Row(elem_classes="panes"):
        for index in range(SLOTS):
            slot = variants.build_slot(index, "side", shown=index < 2)
            with slot.group:
                answers.append(gr.HTML(elem_id=f"side-answer-{index}", **look))
                with gr.Row(elem_classes="quiet-row"):
                    rows.append(rating.build_row(f"side-{index}"))
            slots.append(slot)
    about = gr.HTML(elem_id="side-about", elem_classes="quiet")
    with gr.Row(elem_classes="actions"):
        baseline = gr.Radio([], label=label("compare.baseline"), visible=False, elem_id="side-baseline", min_width=220)
        marked = gr.Checkbox(True, label=label("compare.marked"), elem_id="side-marked", min_width=160)
        buttons["duel"] = gr.Button(label("compare.duel_these"), size="sm", interactive=False, elem_id="side-duel")
    box = rating.build_box(kit, "side")
    with gr.Accordion(label("playground.code"), open=False, elem_id="side-code-drawer"):
        code = gr.Code(language="python", interactive=False, show_label=False, elem_id="side-code", wrap_lines=True, show_line_numbers=False)
    side = Side(asked, slots, answers, count, buttons, baseline, marked, about, code, gr.State({}))
    for index, row in enumerate(rows):
        rating.wire_row(kit, row, box, follows=side.done, find=partial(_run_at, index=index), name=f"side_{index}")
    return side


def _wire_form(kit: Kit, tab: gr.Tab, side: Side) -> None:
    def on_open(request: gr.Request, *, prompt: str | None, **given: Any) -> list[Any]:
        """The choosers as they are now; the first time, with a question to try."""
        with shown_errors(request):
            language, user = language_of(request), require(user_of(request), "participant", resource="comparisons").id
            name = prompt or example.PROMPT
            shown = form.show(kit, name, "latest", language) if prompt is None else [gr.skip()] * len(side.form.outputs())
            choices = gr.Dropdown(choices=form.choices(kit, language), value=name)
            return [choices, *shown, *variants.refresh(kit, user, language, slots=SLOTS, prompt=name, given=given)]

    def on_prompt(request: gr.Request, *, prompt: str, **given: Any) -> list[Any]:
        with shown_errors(request):
            language, user = language_of(request), require(user_of(request), "participant", resource="comparisons").id
            fresh = {name: value for name, value in given.items() if not name.startswith("version_")}
            slots = variants.refresh(kit, user, language, slots=SLOTS, prompt=prompt, given=fresh)
            return [*form.show(kit, prompt, "latest", language), *slots]

    def on_count(*, count: int) -> list[Any]:
        return [gr.Column(visible=index < int(count)) for index in range(SLOTS)]

    chosen = {"prompt": side.form.prompt, **variants.fields(side.slots)}
    filled = [*side.form.outputs(), *variants.outputs(side.slots)]
    tab.select(on_open, inputs_kwargs=chosen, outputs=[side.form.prompt, *filled], api_name="open_side", **QUICK)
    side.form.prompt.input(on_prompt, inputs_kwargs=chosen, outputs=filled, api_name="choose_side_prompt", **QUICK)
    groups = [slot.group for slot in side.slots]
    side.count.change(on_count, inputs_kwargs={"count": side.count}, outputs=groups, api_name="set_side_count", **QUICK)


def _wire_answers(kit: Kit, side: Side, keys: gr.State) -> None:
    given = {**side.form.fields(), **variants.fields(side.slots), "count": side.count, "keys": keys, "marked": side.marked}
    run = side.buttons["run"].click(_on_run(kit), inputs_kwargs=given, outputs=side.shown(), api_name="stream_side", **GENERATION)
    stopped = side.buttons["stop"].click(None, cancels=[run], api_name="stop_side", **QUICK)
    # Gradio sends the cancel only after a listener's own function, so what was said is shown by a second one.
    shown: dict[str, Any] = {"done": side.done, "marked": side.marked}
    stopped.then(_on_stopped(kit), inputs_kwargs=shown, outputs=side.shown(), api_name="show_stopped_side", **QUICK)
    marking_inputs = {**shown, "baseline": side.baseline}
    changes = [side.marked.input, side.baseline.input]
    gr.on(changes, _on_mark(kit), inputs_kwargs=marking_inputs, outputs=side.answers, api_name="mark_side", **QUICK)


def _on_run(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_run(request: gr.Request, *, prompt: str, version: str, count: int, keys: dict[str, str], marked: bool, **fields: Any) -> Iterator[list[Any]]:
        with shown_errors(request):
            language, user = language_of(request), require(user_of(request), "participant", resource="comparisons").id
            chosen = variants.read(int(count), fields)
            found = form.chosen(kit, prompt, "latest")
            variables = form.read(found, fields)
            names = variants.names_of(kit, prompt, chosen)
            code = side_code(kit.settings.workspace, prompt, variants.in_code(prompt, chosen), variables)
            person: dict[str, Any] = {"participant": user, "api_keys": keys}
            growing = kit.comparison.stream(found, variants.make(kit, prompt, chosen), variables, **person)
            yield from _show(kit, growing, names, language, code=code, marked=marked)

    return on_run


def _show(kit: Kit, growing: Iterator[tuple[Run | None, ...]], names: Sequence[str], language: Language, *, code: str, marked: bool) -> Iterator[list[Any]]:
    """Updates while the answers grow, one of them per answer that has changed, and the marked differences at the end."""
    started_s = updated_s = time.monotonic()
    runs: tuple[Run | None, ...] = (None,) * len(names)
    before: tuple[Run | None, ...] = runs
    radio = gr.Radio(choices=[(name, index) for index, name in enumerate(names)], value=0, visible=True)
    fresh = [showing.show_growing(None, name, say("facts.waiting", language), language) for name in names]
    first = {"baseline": radio, "about": "", "duel": gr.Button(interactive=False), "code": code}
    yield _updates(fresh, **first, done={"names": list(names), "ids": []})
    told = False
    for runs in growing:
        now_s, size = time.monotonic(), sum(len(run.output) for run in runs if run is not None)
        if not told and all(run is not None for run in runs):
            told = True
            yield _updates([gr.skip()] * len(names), done=_done(runs, names))
        if now_s - updated_s > _UPDATE_S + size * _UPDATE_S_PER_CHAR:
            updated_s = now_s
            yield _updates([_growing(run, old, name, language) for run, old, name in zip(runs, before, names, strict=True)])
            before = runs
    finished = [run for run in runs if run is not None]
    about = say("compare.took", language, wall=f"{time.monotonic() - started_s:.1f}", sum=f"{sum(run.latency_s or 0 for run in finished):.1f}")
    yield _ended(kit, finished, names, language, marked=marked, about=about)


def _growing(run: Run | None, old: Run | None, name: str, language: Language) -> Any:
    if run is None or (old is not None and run.output == old.output and run.finish_reason == old.finish_reason):
        return gr.skip()
    told = marking.facts_of(run, language) if run.finish_reason else say("facts.waiting", language) if not run.output else "…"
    return showing.show_growing(run, name, told, language)


def _ended(kit: Kit, runs: Sequence[Run], names: Sequence[str], language: Language, *, marked: bool, about: str) -> list[Any]:
    usable = [run for run in runs if run.output.strip() and run.error is None and run.finish_reason != "cancelled"]
    shown = marking.show(kit, runs, names, language, baseline=0, marked=marked)
    return _updates(shown, about=about, duel=gr.Button(interactive=len(usable) > 1), done=_done(runs, names))


def _run_at(done: Mapping[str, Any] | None, *, index: int) -> str | None:
    """The id of the answer in a column, where there is one."""
    ids = (done or {}).get("ids") or []
    return ids[index] if index < len(ids) else None


def _done(runs: Sequence[Run | None], names: Sequence[str]) -> dict[str, Any]:
    """What is kept of the answers on the page."""
    known = [run for run in runs if run is not None]
    return {"names": list(names), "ids": [run.id for run in known], "comparison": known[0].app.removeprefix("compare:") if known else ""}


def _updates(answers: Sequence[Any], **more: Any) -> list[Any]:
    """Updates in the order of `Side.shown`; what is not named stays as it is."""
    rest = [""] * (SLOTS - len(answers)) if more.get("code") else [gr.skip()] * (SLOTS - len(answers))
    return [*answers, *rest, *(more.get(name, gr.skip()) for name in ("baseline", "about", "duel", "code", "done"))]


def _on_stopped(kit: Kit) -> Callable[..., AsyncIterator[list[Any]]]:
    async def on_stopped(request: gr.Request, *, done: dict[str, Any], marked: bool) -> AsyncIterator[list[Any]]:
        """Show what was said up to the stop, as it was recorded."""
        ids, end_s = done.get("ids") or [], time.monotonic() + _STOPPED_S
        found: list[Run] = []
        while ids and time.monotonic() < end_s and len(found) < len(ids):
            await asyncio.sleep(0.1)
            found = [run for id in ids if (run := kit.playground.get(id)) is not None]
        if not ids or len(found) < len(ids):
            yield _updates([gr.skip()] * SLOTS, about=say("playground.stopping" if ids else "compare.nothing_runs", language_of(request)))
            return
        with shown_errors(request):
            for run in found:
                require(user_of(request), "participant", resource=run.id, resource_owner=run.participant)
            yield _ended(kit, found, done["names"], language_of(request), marked=marked, about=say("compare.stopped", language_of(request)))

    return on_stopped


def _on_mark(kit: Kit) -> Callable[..., list[Any]]:
    def on_mark(request: gr.Request, *, done: Mapping[str, Any], marked: bool, baseline: int | None) -> list[Any]:
        with shown_errors(request):
            user, runs = user_of(request), [run for id in done.get("ids") or [] if (run := kit.playground.get(id)) is not None]
            for run in runs:
                require(user, "participant", resource=run.id, resource_owner=run.participant)
            if not runs or len(runs) < len(done["names"]):
                return [gr.skip()] * SLOTS
            shown = marking.show(kit, runs, done["names"], language_of(request), baseline=int(baseline or 0), marked=marked)
            return [*shown, *([""] * (SLOTS - len(shown)))]

    return on_mark
