"""The Try tab: choose a prompt or chat freely, and watch up to four panes answer at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import InputError, KitError
from llmops_kit.types import Run, new_id
from llmops_kit.ui import form
from llmops_kit.ui.code import run_code
from llmops_kit.ui.controls import SETTINGS, settings_of, shown_settings, trim
from llmops_kit.ui.events import GENERATION, QUICK
from llmops_kit.ui.panes import PANES, Pane, build_pane, facts_of, remember, stream_pane, turns_of
from llmops_kit.ui.rating import build_box, wire_row
from llmops_kit.ui.saving import wire_saving
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

FIRST_MODEL = "starter-lm"
"""The model of a prompt that suggests none."""
FIRST_MODELS = (FIRST_MODEL, FIRST_MODEL, "starter-reader", FIRST_MODEL)
_WARM = 0.8
"""Temperature of the second pane where both have the same model: so that there is something to compare."""
_STOPPING_S = 0.4
"""Seconds after which a stop that is not through says that it is under way."""


@dataclass(frozen=True)
class TryTab:
    """What other parts of the app need of this tab."""

    form: form.PromptForm
    panes: tuple[Pane, ...]
    count: gr.Radio
    system: gr.Textbox
    message: gr.Textbox
    code: gr.Code

    def outputs(self) -> list[Any]:
        """What `choose` fills, in its order."""
        return [*self.form.outputs(), *(part for pane in self.panes for part in (pane.model, *pane.settings.values())), self.code]


def build(kit: Kit, keys: gr.State) -> TryTab:
    """Lay out the tab and wire its events; call inside an open `gr.Tab`. `keys` holds this browser session's keys."""
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=1, min_width=300, elem_classes="inputs"):
            prompt_form = form.build_form()
            with gr.Row(elem_classes="buttons"):
                start = gr.Button(label("playground.run"), variant="primary", elem_id="run")
                stop_all = gr.Button(label("playground.stop"), elem_id="stop-all")
            with gr.Accordion(label("playground.more"), open=False, elem_id="more"):
                count = gr.Radio([1, 2, 3, 4], value=2, label=label("playground.panes"), elem_id="pane-count")
                prompt_form.version.render()  # type: ignore[no-untyped-call]
                system = gr.Textbox(lines=3, label=label("playground.system"), placeholder=label("playground.system_info"), elem_id="system")
        with gr.Column(scale=3, min_width=320):
            with gr.Row(elem_classes="panes"):
                panes = tuple(build_pane(index) for index in range(PANES))
            with gr.Row(elem_classes="follow"):
                message = gr.Textbox(show_label=False, placeholder=label("playground.message_hint"), lines=1, max_lines=6, scale=5, elem_id="message")
                send = gr.Button(label("playground.send"), scale=1, min_width=130, elem_id="send")
                new = gr.Button(label("playground.new_chat"), scale=1, min_width=110, elem_id="new-chat")
            wire_saving(kit, panes, prompt_form)
            box = build_box(kit, "playground")
            with gr.Accordion(label("playground.code"), open=False, elem_id="code-drawer") as drawer:
                code = gr.Code(language="python", interactive=False, show_label=False, elem_id="code", wrap_lines=True, show_line_numbers=False)
    for pane in panes:
        wire_row(kit, pane.rating, box, follows=pane.last, find=lambda last: last.get("run_id"), name=f"pane_{pane.index}")
    asked, tab = gr.State({}), TryTab(prompt_form, panes, count, system, message, code)
    _wire_form(kit, tab, drawer)
    fields = {**prompt_form.fields(), "system": system, "count": count}
    first = start.click(_on_run(kit), inputs_kwargs=fields, outputs=[asked], api_name="ask_prompt", **QUICK)
    said = {"message": message, "system": system, "count": count}
    sent = gr.on([send.click, message.submit], _on_send, inputs_kwargs=said, outputs=[asked, message], api_name="ask_message", **QUICK)
    streams = _wire_panes(kit, tab, (first, sent), asked=asked, keys=keys, stop_all=stop_all)
    parts = [part for pane in panes for part in pane.said()]
    fresh = new.click(None, cancels=streams, api_name="new_chat", **QUICK)
    fresh.then(lambda: ["", *([[], "", {}, {}] * PANES)], inputs_kwargs={}, outputs=[message, *parts], api_name="clear_chats", **QUICK)
    return tab


def _wire_panes(kit: Kit, tab: TryTab, causes: Any, *, asked: gr.State, keys: gr.State, stop_all: gr.Button) -> list[Any]:
    """Wire what runs and what stops each pane; gives the events that stream."""
    first, sent = causes
    streams, stops = [], []
    for pane in tab.panes:
        shown = {"inputs_kwargs": {**pane.inputs(), "asked": asked, "keys": keys}, "outputs": pane.said(), **GENERATION}
        run = _on_stream(kit, pane.index)
        events = [cause.success(run, api_name=f"{name}_{pane.index}", **shown) for cause, name in ((first, "stream"), (sent, "chat"))]
        again = pane.retry.click(_on_retry, outputs=[asked], api_name=f"ask_again_{pane.index}", **QUICK)
        events.append(again.success(run, api_name=f"retry_{pane.index}", **shown))
        streams += events
        stops.append(pane.stop.click(None, cancels=events, api_name=f"stop_{pane.index}", **QUICK))
        pane.last.change(_on_code(kit), inputs_kwargs={"last": pane.last}, outputs=[tab.code], api_name=f"code_{pane.index}", **QUICK)
    stop_every = stop_all.click(None, cancels=streams, api_name="stop_all", **QUICK)
    for pane, stop in zip(tab.panes, stops, strict=True):
        # Gradio sends the cancel only after a listener's own function, so what was said is shown by a second one.
        shown = {"inputs_kwargs": {"running": pane.running}, "outputs": pane.said(), **QUICK}
        for cause, name in ((stop, "stopped"), (stop_every, "stopped_all")):
            cause.then(_on_stop(kit), api_name=f"{name}_{pane.index}", **shown)
    return streams


def _wire_form(kit: Kit, tab: TryTab, drawer: gr.Accordion) -> None:
    def on_choose(request: gr.Request, *, prompt: str, version: str, **models: str) -> list[Any]:
        with shown_errors(request):
            return choose(kit, prompt, version, language_of(request), models=list(models.values()))

    def on_prompt(request: gr.Request, *, prompt: str, **models: str) -> list[Any]:
        with shown_errors(request):
            return choose(kit, prompt, "latest", language_of(request), models=list(models.values()))

    def on_model(request: gr.Request, *, prompt: str, version: str, model: str) -> list[Any]:
        with shown_errors(request):
            return shown_settings(kit, model, form.chosen(kit, prompt, version).params)

    prompt, version = tab.form.prompt, tab.form.version
    models: dict[str, Any] = {f"model_{pane.index}": pane.model for pane in tab.panes}
    prompt.input(on_prompt, inputs_kwargs={"prompt": prompt, **models}, outputs=tab.outputs(), api_name="choose_prompt", **QUICK)
    version.input(on_choose, inputs_kwargs={"prompt": prompt, "version": version, **models}, outputs=tab.outputs(), api_name="choose_version", **QUICK)
    for pane in tab.panes:
        chosen: dict[str, Any] = {"prompt": prompt, "version": version, "model": pane.model}
        pane.model.input(on_model, inputs_kwargs=chosen, outputs=list(pane.settings.values()), api_name=f"choose_model_{pane.index}", **QUICK)
    fields = {**tab.form.fields(), "system": tab.system, **tab.panes[0].inputs()}
    drawer.expand(_on_drawer(kit), inputs_kwargs=fields, outputs=[tab.code], api_name="open_code", **QUICK)
    tab.count.change(
        lambda *, count: [gr.Column(visible=index < int(count)) for index in range(PANES)],
        inputs_kwargs={"count": tab.count},
        outputs=[pane.column for pane in tab.panes],
        api_name="set_panes",
        **QUICK,
    )


def choose(kit: Kit, name: str, version: str | None, language: Language, *, models: list[str]) -> list[Any]:
    """Updates of the form of a prompt, of all panes, and of the code that Run would be.

    The first pane gets the model the prompt suggests. A pane with a reader, which only answers from a text, goes back
    to the model that answers anything; the others keep theirs.
    """
    prompt = form.chosen(kit, name, version)
    listed = {entry.id: entry.kind for entry in kit.models.entries()}
    first, second, *rest = (model if model in listed else FIRST_MODEL for model in models)
    first, second = (FIRST_MODEL if listed[model] == "extractive" else model for model in (first, second))
    first = prompt.model if prompt.model in listed else first
    updates: list[Any] = form.show(kit, name, version, language)
    for index, model in enumerate((first, second, *rest)):
        values = shown_settings(kit, model, prompt.params)
        if index == 1 and first == second:
            values[0] = max(values[0], _WARM)
        updates += [gr.Dropdown(choices=list(listed), value=model), *values]
    params = settings_of(kit, first, dict(zip(SETTINGS, shown_settings(kit, first, prompt.params), strict=True)), prompt)
    request = {"prompt": name, "version": version, "variables": form.starting_values(prompt, language), "system": ""}
    return [*updates, _code_of(kit, {"request": request, "model": first, "params": params})]


def _on_run(kit: Kit) -> Callable[..., Any]:
    def on_run(request: gr.Request, *, prompt: str, version: str, system: str, count: int, **fields: Any) -> dict[str, Any]:
        with shown_errors(request):
            variables = form.read(form.chosen(kit, prompt, version), fields)
        return {"prompt": prompt, "version": version, "variables": variables, "system": system, "count": int(count), "ids": _ids()}

    return on_run


def _on_send(request: gr.Request, *, message: str, system: str, count: int) -> tuple[dict[str, Any], str]:
    with shown_errors(request):
        if not message.strip():
            raise InputError(en=say("playground.empty_message", "en"), ja=say("playground.empty_message", "ja"))
    return {"message": message, "system": system, "count": int(count), "ids": _ids()}, ""


def _on_retry() -> dict[str, Any]:
    return {"again": True, "count": PANES, "ids": _ids()}


def _on_stream(kit: Kit, index: int) -> Callable[..., Iterator[list[Any]]]:
    def on_stream(
        request: gr.Request, *, asked: dict[str, Any], keys: dict[str, str], model: str, last: dict[str, Any], **settings: Any
    ) -> Iterator[list[Any]]:
        if index >= asked.get("count", 0):
            yield [gr.skip()] * 4
            return
        person: dict[str, Any] = {"participant": user_of(request).id, "language": language_of(request), "keys": keys}
        with shown_errors(request):
            yield from stream_pane(kit, asked, run_id=asked["ids"][index], model=model, last=last, **person, **settings)

    on_stream.__name__ = f"stream_{index}"
    return on_stream


def _on_stop(kit: Kit) -> Callable[..., AsyncIterator[list[Any]]]:
    async def on_stop(request: gr.Request, *, running: dict[str, Any]) -> AsyncIterator[list[Any]]:
        """Show what was said up to the stop, as it was recorded; until then, that the stop is under way."""
        if not running:
            yield [gr.skip()] * 4
            return
        language = language_of(request)
        run = await _await_run(kit, running["id"], _STOPPING_S)
        if run is None:
            yield [gr.skip(), say("playground.stopping", language), gr.skip(), gr.skip()]
            run = await _await_run(kit, running["id"], 2 * kit.settings.request_timeout_s)
        if run is None:
            yield [gr.skip(), say("playground.stop_later", language), gr.skip(), gr.skip()]
            return
        require(user_of(request), "participant", resource=run.id, resource_owner=run.participant)
        yield [turns_of(run), facts_of(kit, run, language), remember(run, running["request"]), {}]

    return on_stop


async def _await_run(kit: Kit, run_id: str, limit_s: float) -> Run | None:
    """The stopped run, once its generator was closed: at the next token, or when the model is loaded or its server gave up."""
    end, pause_s = time.monotonic() + limit_s, 0.05
    while (run := kit.playground.get(run_id)) is None and time.monotonic() < end:
        await asyncio.sleep(pause_s)
        pause_s = min(1.2 * pause_s, 0.5)
    return run


def _on_code(kit: Kit) -> Callable[..., Any]:
    def on_code(*, last: dict[str, Any]) -> Any:
        return _code_of(kit, last) if last.get("run_id") else gr.skip()

    return on_code


def _on_drawer(kit: Kit) -> Callable[..., Any]:
    def on_drawer(*, prompt: str, version: str, system: str, model: str, last: dict[str, Any], **fields: Any) -> Any:
        """Before the first answer: what Run would do in the first pane. Afterwards the code of the last answer stays."""
        if last.get("run_id"):
            return gr.skip()
        try:
            chosen = form.chosen(kit, prompt, version)
        except KitError:
            return gr.skip()
        params = settings_of(kit, model, {name: fields[name] for name in SETTINGS}, chosen)
        request = {"prompt": prompt, "version": version, "variables": form.read(chosen, fields), "system": system}
        return _code_of(kit, {"request": request, "model": model, "params": params})

    return on_drawer


def _code_of(kit: Kit, last: Mapping[str, Any]) -> str:
    """The code of a call, without the settings that change nothing."""
    request, model = last["request"], last["model"]
    if "prompt" not in request:
        return run_code(kit.settings.workspace, last["messages"][:-1], model=model, **trim(kit, model, last["params"], {}))
    call = {"variables": request["variables"], "system": request["system"], "model": model}
    try:
        own = dict(form.chosen(kit, request["prompt"], request["version"]).params)
    except KitError:
        own = {}
    return run_code(kit.settings.workspace, request["prompt"], version=request["version"], **call, **trim(kit, model, last["params"], own))


def _ids() -> list[str]:
    return [new_id() for _ in range(PANES)]
