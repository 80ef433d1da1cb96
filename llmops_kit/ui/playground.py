"""The Try tab: choose a prompt or chat freely, and watch up to four panes answer at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import InputError
from llmops_kit.types import new_id
from llmops_kit.ui import form
from llmops_kit.ui.code import run_code
from llmops_kit.ui.events import GENERATION, QUICK
from llmops_kit.ui.panes import PANES, Pane, build_pane, facts_of, follow, remember, stream_pane, turns_of
from llmops_kit.ui.saving import wire_saving
from llmops_kit.ui.text import label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit


@dataclass(frozen=True)
class TryTab:
    """What other parts of the app need of this tab."""

    form: form.PromptForm
    panes: tuple[Pane, ...]
    count: gr.Radio
    system: gr.Textbox
    fill: Callable[..., list[Any]]


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
                send = gr.Button(label("playground.send"), scale=1, min_width=140, elem_id="send")
            wire_saving(kit, panes)
            with gr.Accordion(label("playground.code"), open=False, elem_id="code-drawer"):
                code = gr.Code(language="python", interactive=False, show_label=False, elem_id="code", wrap_lines=True, show_line_numbers=False)
    asked = gr.State({})
    _wire_form(kit, prompt_form, panes, count)
    first = start.click(_on_run(kit), inputs_kwargs={**prompt_form.fields(), "system": system, "count": count}, outputs=[asked], api_name="ask_prompt", **QUICK)
    sent = gr.on(
        [send.click, message.submit],
        _on_send,
        inputs_kwargs={"message": message, "system": system, "count": count},
        outputs=[asked, message],
        api_name="ask_message",
        **QUICK,
    )
    _wire_panes(kit, panes, (first, sent), asked=asked, keys=keys, code=code, stop_all=stop_all)
    return TryTab(prompt_form, panes, count, system, lambda name, version, language: _choose(kit, name, version, language))


def _wire_panes(kit: Kit, panes: tuple[Pane, ...], causes: Any, *, asked: gr.State, keys: gr.State, code: gr.Code, stop_all: gr.Button) -> None:
    first, sent = causes
    streams, stops = [], []
    for pane in panes:
        inputs = {**pane.inputs(), "asked": asked, "keys": keys}
        outputs = [pane.chat, pane.facts, pane.last]
        run = _on_stream(kit, pane.index)
        events = [
            cause.success(run, inputs_kwargs=inputs, outputs=outputs, api_name=f"{name}_{pane.index}", **GENERATION)
            for cause, name in ((first, "stream"), (sent, "chat"))
        ]
        again = pane.retry.click(_on_retry, outputs=[asked], api_name=f"ask_again_{pane.index}", **QUICK)
        events.append(again.success(run, inputs_kwargs=inputs, outputs=outputs, api_name=f"retry_{pane.index}", **GENERATION))
        streams += events
        stops.append(pane.stop.click(None, cancels=events, api_name=f"stop_{pane.index}", **QUICK))
        pane.last.change(_on_code(kit), inputs_kwargs={"last": pane.last}, outputs=[code], api_name=f"code_{pane.index}", **QUICK)
    stop_every = stop_all.click(None, cancels=streams, api_name="stop_all", **QUICK)
    for pane, stop in zip(panes, stops, strict=True):
        # Gradio sends the cancel only after a listener's own function, so what was said is shown by a second one.
        shown = {"inputs_kwargs": {"asked": asked, "last": pane.last}, "outputs": [pane.chat, pane.facts, pane.last], **QUICK}
        for cause, name in ((stop, "stopped"), (stop_every, "stopped_all")):
            cause.then(_on_stop(kit, pane.index), api_name=f"{name}_{pane.index}", **shown)


def _wire_form(kit: Kit, prompt_form: form.PromptForm, panes: tuple[Pane, ...], count: gr.Radio) -> None:
    def on_choose(request: gr.Request, *, prompt: str, version: str) -> list[Any]:
        with shown_errors(request):
            return _choose(kit, prompt, version, language_of(request))

    def on_prompt(request: gr.Request, *, prompt: str) -> list[Any]:
        with shown_errors(request):
            return _choose(kit, prompt, "latest", language_of(request))

    outputs = [
        *prompt_form.outputs(),
        *(pane_part for pane in panes[:2] for pane_part in (pane.model, pane.settings["temperature"], pane.settings["max_tokens"])),
    ]
    prompt_form.prompt.input(on_prompt, inputs_kwargs={"prompt": prompt_form.prompt}, outputs=outputs, api_name="choose_prompt", **QUICK)
    prompt_form.version.input(
        on_choose, inputs_kwargs={"prompt": prompt_form.prompt, "version": prompt_form.version}, outputs=outputs, api_name="choose_version", **QUICK
    )
    count.change(
        lambda *, count: [gr.Column(visible=index < int(count)) for index in range(PANES)],
        inputs_kwargs={"count": count},
        outputs=[pane.column for pane in panes],
        api_name="set_panes",
        **QUICK,
    )


def _choose(kit: Kit, name: str, version: str | None, language: Any) -> list[Any]:
    """The form of a prompt, and the first two panes as it suggests: its own model, and another to compare with."""
    prompt = form.chosen(kit, name, version)
    model = prompt.model or "starter-lm"
    temperature = float(prompt.params.get("temperature", 0.0))
    max_tokens = int(prompt.params.get("max_tokens", 128))
    other = "starter-lm" if model != "starter-lm" else model
    warmer = temperature if other != model else max(0.8, temperature)
    return [*form.show(kit, name, version, language), model, temperature, max_tokens, other, warmer, max_tokens]


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
            yield [gr.skip()] * 3
            return
        with shown_errors(request):
            yield from stream_pane(
                kit,
                asked,
                run_id=asked["ids"][index],
                participant=user_of(request).id,
                language=language_of(request),
                keys=keys,
                model=model,
                last=last,
                **settings,
            )

    on_stream.__name__ = f"stream_{index}"
    return on_stream


def _on_stop(kit: Kit, index: int) -> Callable[..., list[Any]]:
    def on_stop(request: gr.Request, *, asked: dict[str, Any], last: dict[str, Any]) -> list[Any]:
        """Show what was said up to the stop, as it was recorded."""
        run = _await_run(kit, asked["ids"][index]) if asked.get("ids") else None
        if run is None or run.id == last.get("run_id"):
            return [gr.skip()] * 3
        require(user_of(request), "participant", resource=run.id, resource_owner=run.participant)
        return [turns_of(run), facts_of(kit, run, language_of(request)), remember(run, follow(asked, last))]

    return on_stop


def _await_run(kit: Kit, run_id: str) -> Any:
    """The stopped run; its generator is closed by the queue a moment after the button's own event."""
    for _ in range(100):
        if run := kit.playground.get(run_id):
            return run
        time.sleep(0.05)
    return None


def _on_code(kit: Kit) -> Callable[..., str]:
    def on_code(*, last: dict[str, Any]) -> Any:
        if not last.get("run_id"):
            return gr.skip()
        request = last["request"]
        if "prompt" in request:
            call = {"variables": request["variables"], "system": request["system"]}
            return run_code(kit.settings.workspace, request["prompt"], version=request["version"], model=last["model"], **call, **last["params"])
        return run_code(kit.settings.workspace, last["messages"][:-1], model=last["model"], **last["params"])

    return on_code


def _ids() -> list[str]:
    return [new_id() for _ in range(PANES)]
