"""One pane of the playground: its own model and settings, its conversation, and the facts of its last answer."""

from __future__ import annotations

import html
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.errors import InputError, KitError
from llmops_kit.playground import name_owner
from llmops_kit.types import Run
from llmops_kit.ui.controls import SLIDERS, settings_of
from llmops_kit.ui.form import chosen
from llmops_kit.ui.rating import RatingRow, build_row
from llmops_kit.ui.text import Language, error_text, label, say

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

PANES = 4
UPDATE_S = 0.1
"""Seconds between two updates of one pane: an update costs the server 1–2 ms, and 40 people share it."""
_UPDATE_S_PER_CHAR = 1 / 2500
"""Seconds more for each character: the browser lays out the whole answer anew each time, and must stay free for Stop."""


@dataclass(frozen=True)
class Pane:
    """The components of one pane.

    `last` holds the finished call: what retry, save, follow-up and the code are made from. `running` holds the id and
    the request of the call under way, and nothing between calls: what stop has to wait for.
    """

    index: int
    column: gr.Column
    model: gr.Dropdown
    settings: dict[str, Any]
    chat: gr.Chatbot
    facts: gr.Markdown
    last: gr.State
    running: gr.State
    stop: gr.Button
    retry: gr.Button
    save: gr.Button
    rating: RatingRow

    def inputs(self) -> dict[str, Any]:
        """Every input of the pane by the name its handler takes it under."""
        return {"model": self.model, "last": self.last, **self.settings}

    def said(self) -> list[Any]:
        """What a call fills, in the order `stream_pane` gives it."""
        return [self.chat, self.facts, self.last, self.running]


def build_pane(index: int) -> Pane:
    """Lay out one pane; call inside a row."""
    with gr.Column(min_width=300, visible=index < 2, elem_id=f"pane-{index}", elem_classes="pane") as column:
        model = gr.Dropdown([], label=label("playground.model"), elem_id=f"model-{index}", interactive=True)
        with gr.Accordion(label("playground.settings"), open=False, elem_id=f"settings-{index}"):
            settings = {name: _slider(name) for name in SLIDERS} | {
                "seed": gr.Number(value=-1, precision=0, label=label("playground.seed")),
                "stop": gr.Textbox(lines=2, label=label("playground.stop_strings")),
            }
        chat = gr.Chatbot(
            show_label=False,
            elem_id=f"chat-{index}",
            height=380,
            layout="bubble",
            buttons=["copy"],
            feedback_options=None,
            allow_tags=False,
            latex_delimiters=[],
            placeholder=label("playground.empty"),
        )
        facts = gr.Markdown(elem_id=f"facts-{index}", elem_classes="facts")
        with gr.Row(elem_classes="quiet-row"):
            rating = build_row(f"pane-{index}")
            stop = gr.Button(label("playground.stop_pane"), size="sm", elem_id=f"stop-{index}")
            retry = gr.Button(label("playground.retry"), size="sm", elem_id=f"retry-{index}")
            save = gr.Button(label("playground.save_pane"), size="sm", elem_id=f"save-{index}")
    return Pane(index, column, model, settings, chat, facts, gr.State({}), gr.State({}), stop, retry, save, rating)


def _slider(name: str) -> gr.Slider:
    lowest, highest, step, value = SLIDERS[name]
    info = label("playground.temperature_info") if name == "temperature" else None
    return gr.Slider(lowest, highest, value=value, step=step, label=label(f"playground.{name}"), info=info)


def stream_pane(
    kit: Kit,
    asked: Mapping[str, Any],
    *,
    run_id: str,
    participant: str,
    language: Language,
    keys: Mapping[str, str],
    model: str,
    last: dict[str, Any],
    **settings: Any,
) -> Iterator[list[Any]]:
    """Run what was `asked` in one pane and give `[chat, facts, last, running]` while it grows.

    `asked` is a library prompt (`prompt`, `version`, `variables`, `system`), a follow-up (`message`), or `again`.
    A `KitError` becomes a sentence in the pane, so that one failing pane does not disturb the others.
    """
    request = follow(asked, last)
    run, updated = None, 0.0
    yield [_asked_turns(request), say("facts.waiting", language), gr.skip(), {"id": run_id, "request": request}]
    try:
        prompt, call = _call(kit, request)
        params = settings_of(kit, model, settings, prompt)
        stream = kit.playground.stream(prompt, model=model, participant=participant, api_key=keys.get(model), run_id=run_id, **call, **params)
        for run in stream:
            if run.ttft_s is None or time.monotonic() - updated > UPDATE_S + len(run.output) * _UPDATE_S_PER_CHAR:
                updated = time.monotonic()
                yield [turns_of(run), facts_of(kit, run, language) or _waiting(kit, run, language), gr.skip(), gr.skip()]
        if run is not None:
            yield [turns_of(run), facts_of(kit, run, language), remember(run, request), {}]
    except KitError as error:
        shown = turns_of(error.run) if error.run and error.run.output else _asked_turns(request)
        yield [shown, f"**{say('facts.error', language)}** {html.escape(error.text(language))}", {**last, "failed": request}, {}]


def follow(asked: Mapping[str, Any], last: Mapping[str, Any]) -> dict[str, Any]:
    """Turn what was asked into a full request of one pane: a follow-up continues that pane's own conversation."""
    if asked.get("again"):
        request = last.get("failed") or last.get("request")
        if not request:
            raise InputError(en=say("playground.nothing_to_retry", "en"), ja=say("playground.nothing_to_retry", "ja"))
        return dict(request)
    if "message" in asked:
        turns = [*last.get("messages", []), {"role": "user", "content": asked["message"]}]
        if asked.get("system"):
            turns = [{"role": "system", "content": asked["system"]}, *(turn for turn in turns if turn["role"] != "system")]
        return {"messages": turns}
    return dict(asked)


def turns_of(run: Run) -> list[dict[str, str]]:
    """The conversation of a run as the chat shows it; the system message stays behind the scenes."""
    shown = [{"role": turn.role, "content": turn.content} for turn in run.messages if turn.role != "system"]
    return [*shown, {"role": "assistant", "content": run.output}] if run.output else shown


def facts_of(kit: Kit, run: Run, language: Language) -> str:
    """The quiet line under an answer: times, speed, tokens, cost, how it ended, whether its JSON fits the schema."""
    parts = []
    if run.ttft_s is not None:
        parts.append(say("facts.ttft", language, value=f"{run.ttft_s:.2f}"))
    if run.tokens_per_s is not None:
        parts.append(say("facts.speed", language, value=f"{run.tokens_per_s:.0f}"))
    if run.finish_reason is not None:
        parts += _end_of(run, language)
        if run.cost is not None:
            parts.append(say("facts.cost", language, value=f"{run.cost:.6f}"))
        elif run.finish_reason != "error" and _is_local(kit, run.model):
            parts.append(say("facts.local", language))
        if ending := _ending(run, language):
            parts.append(f"**{ending}**")
        if verdict := _schema_verdict(kit, run, language):
            parts.append(verdict)
    error = html.escape(error_text(run.error, language))
    return " · ".join(parts) + (f"\n\n{error}" if error else "")


def brief_of(run: Run, language: Language) -> str:
    """The same in the few words that fit a table: how long, how many tokens, and how it ended where not as usual."""
    return " · ".join([*_end_of(run, language), *([ending] if (ending := _ending(run, language)) else [])])


def remember(run: Run, request: Mapping[str, Any]) -> dict[str, Any]:
    """What the pane keeps of a finished call. One that failed can be tried again."""
    turns = [{"role": turn.role, "content": turn.content} for turn in run.messages]
    return {
        "run_id": run.id,
        "request": dict(request),
        "messages": [*turns, {"role": "assistant", "content": run.output}],
        "model": run.model,
        "params": dict(run.params),
    }


def _waiting(kit: Kit, run: Run, language: Language) -> str:
    """What an answer without a token yet waits for: its turn, or its first token."""
    place = kit.models.queue_place(run.model, name_owner(run.participant, run.app))
    if place is None:
        return say("facts.waiting", language)
    if place.expected_wait_s is None:
        return say("facts.in_line", language, place=place.position + 1)
    return say("facts.in_line_for", language, place=place.position + 1, wait=max(1, round(place.expected_wait_s)))


def _call(kit: Kit, request: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    if "messages" in request:
        return request["messages"], {}
    prompt = chosen(kit, request["prompt"], request["version"])
    return prompt, {"variables": request["variables"], "system": request["system"] or None}


def _asked_turns(request: Mapping[str, Any]) -> list[dict[str, str]]:
    return [dict(turn) for turn in request.get("messages", []) if turn["role"] != "system"]


def _end_of(run: Run, language: Language) -> list[str]:
    parts = [say("facts.total", language, value=f"{run.latency_s:.2f}")] if run.latency_s is not None else []
    asked = run.input_tokens if run.input_tokens is not None else "–"
    about = "~" if run.output_tokens and run.input_tokens is None else ""
    return [*parts, say("facts.tokens", language, input=asked, output=f"{about}{run.output_tokens or 0}")]


def _ending(run: Run, language: Language) -> str:
    """How an answer ended, where it did not end by itself."""
    return say(f"facts.{run.finish_reason}", language) if run.finish_reason not in (None, "stop") else ""


def _is_local(kit: Kit, model: str) -> bool:
    """Whether the model runs here. One that has left the catalogue is not known to."""
    return any(entry.id == model and entry.provider != "openai" for entry in kit.models.entries())


def _schema_verdict(kit: Kit, run: Run, language: Language) -> str:
    if not run.prompt_name or run.finish_reason == "error":
        return ""
    try:
        schema = kit.prompts.get(run.prompt_name, version=run.prompt_version).schema
    except KitError:  # asked with a prompt that was never saved
        return ""
    if not schema:
        return ""
    from llmops_kit.playground.schema import check_schema

    checked = check_schema(run.output, schema)
    reason = checked.message_ja if language == "ja" else checked.message_en
    return say("facts.schema_ok", language) if checked.ok else say("facts.schema_bad", language, reason=html.escape(reason))
