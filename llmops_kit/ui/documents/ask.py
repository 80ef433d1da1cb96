"""The Ask sub-tab: a question in, an answer with its sources out, and the page each citation stands on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import InputError, UnknownName
from llmops_kit.types import Document, Run, new_id
from llmops_kit.ui.controls import SLIDERS, shown_settings
from llmops_kit.ui.documents import asking, sources, viewing
from llmops_kit.ui.documents.chooser import Chooser, chosen_of, participants_of
from llmops_kit.ui.documents.code import ask_code
from llmops_kit.ui.events import GENERATION, QUICK
from llmops_kit.ui.rating import build_box, build_row, wire_row
from llmops_kit.ui.text import label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

EXAMPLES = 4
_STOPPING_S = 0.4
"""Seconds after which a stop that is not through says that it is under way."""
_STOPPED_S = 10.0
"""Seconds after which a stopped answer is taken for one that no model was asked for yet."""


@dataclass(frozen=True)
class _Form:
    """What goes in."""

    question: gr.Textbox
    send: gr.Button
    stop: gr.Button
    examples: list[gr.Button]
    fields: dict[str, Any]


@dataclass(frozen=True)
class _Talk:
    """What comes out: earlier turns, the newest one, the answer without documents, the cards, the code; and what is kept."""

    past: gr.HTML
    now: gr.HTML
    beside: gr.Column
    bare: gr.HTML
    cards: gr.HTML
    code: gr.Code
    buttons: dict[str, gr.Button]
    asked: gr.State
    turns: gr.State


def build(kit: Kit, tab: gr.Tab, chooser: Chooser, keys: gr.State) -> gr.HTML:
    """Lay out the sub-tab and wire its events; call inside an open `gr.Tab`, which is `tab`.

    Gives the cards, whose click event with `act` evidence asks for the Evidence sub-tab.
    """
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=2, min_width=300, elem_classes="inputs"):
            form = _lay_out_form()
        with gr.Column(scale=5, min_width=320), gr.Row(elem_classes="look"):
            with gr.Column(scale=3, min_width=320):
                talk = _lay_out_talk(kit)
            viewer = viewing.build(kit)
    _wire_form(kit, tab, form, talk=talk, chooser=chooser)
    _wire_asking(kit, form, talk, chooser=chooser, keys=keys)
    for part, name in ((talk.past, "past"), (talk.now, "now"), (talk.cards, "cards")):
        part.click(_on_open(kit), outputs=viewer.outputs, api_name=f"open_source_{name}", **QUICK)
    return talk.cards


def open_first(kit: Kit, chooser: Chooser, tabs: gr.Tabs) -> None:
    """The first time the documents are opened, open the Ask sub-tab of `tabs` where there is something to ask."""
    opened = gr.State(False)

    def on_open(request: gr.Request, *, collection: str | None, opened: bool) -> list[Any]:
        with shown_errors(request):
            visible = {each.id for each in kit.documents.shelves.visible(participants_of(request))}
            ready = not opened and collection in visible and kit.store.count(Document, collection_id=collection, state="ready")
            return [gr.Tabs(selected="ask") if ready else gr.skip(), True]

    told: dict[str, Any] = {"collection": chooser.collection, "opened": opened}
    chooser.opened.then(on_open, inputs_kwargs=told, outputs=[tabs, opened], api_name="open_first", **QUICK)


def _lay_out_form() -> _Form:
    question = gr.Textbox(label=label("ask.question"), placeholder=label("ask.hint"), lines=1, max_lines=6, elem_id="ask-question")
    with gr.Row(elem_classes="buttons"):
        send = gr.Button(label("ask.send"), variant="primary", elem_id="ask-send")
        stop = gr.Button(label("playground.stop_pane"), elem_id="ask-stop")
    with gr.Column(elem_id="ask-examples"):
        examples = [gr.Button(visible=False, size="sm", elem_id=f"ask-example-{index}") for index in range(EXAMPLES)]
    fields: dict[str, Any] = {"both": gr.Checkbox(label=label("ask.both"), elem_id="ask-both")}
    fields["model"] = gr.Dropdown([asking.READER], value=asking.READER, label=label("playground.model"), elem_id="ask-model", interactive=True)
    with gr.Accordion(label("playground.more"), open=False, elem_id="ask-more"):
        fields["k"] = gr.Slider(1, 20, value=5, step=1, label=label("ask.k"), elem_id="ask-k")
        modes = [(label(f"ask.mode_{mode}"), mode) for mode in asking.MODES]
        fields["mode"] = gr.Radio(modes, value="hybrid", label=label("ask.mode"), elem_id="ask-mode")
        fields["file"] = gr.Textbox(label=label("ask.file"), max_lines=1, elem_id="ask-file")
        fields["tags"] = gr.Textbox(label=label("documents.tags"), max_lines=1, elem_id="ask-tags")
        with gr.Row():
            for name in ("since", "until"):
                fields[name] = gr.Textbox(label=label(f"ask.{name}"), placeholder="2026-04-01", max_lines=1, min_width=120, elem_id=f"ask-{name}")
        fields["reranker"] = gr.Dropdown([("–", "")], value="", label=label("ask.reranker"), visible=False, elem_id="ask-reranker", interactive=True)
        for name in ("temperature", "max_tokens"):
            lowest, highest, step, value = SLIDERS[name]
            slider: dict[str, Any] = {"label": label(f"playground.{name}"), "visible": False, "elem_id": f"ask-{name.replace('_', '-')}"}
            fields[name] = gr.Slider(lowest, highest, value=value, step=step, **slider)
    return _Form(question, send, stop, examples, fields)


def _lay_out_talk(kit: Kit) -> _Talk:
    look: dict[str, Any] = {"css_template": sources.CSS, "js_on_load": sources.LISTEN, "apply_default_css": False}
    past = gr.HTML(elem_id="ask-past", **look)
    with gr.Row(elem_classes="panes"):
        with gr.Column(min_width=280):
            now = gr.HTML(elem_id="ask-now", min_height=60, **look)
        with gr.Column(min_width=280, visible=False) as beside:
            bare = gr.HTML(elem_id="ask-bare", css_template=sources.CSS, apply_default_css=False)
            with gr.Row(elem_classes="quiet-row"):
                beside_rating = build_row("ask-bare")
    cards = gr.HTML(elem_id="ask-cards", **look)
    with gr.Row(elem_classes="quiet-row"):
        rating = build_row("ask")
        buttons = {name: gr.Button(label(f"playground.{key}"), size="sm", elem_id=f"ask-{name}") for name, key in (("retry", "retry"), ("new", "new_chat"))}
    box = build_box(kit, "ask")
    with gr.Accordion(label("playground.code"), open=False, elem_id="ask-code-drawer"):
        code = gr.Code(language="python", interactive=False, show_label=False, elem_id="ask-code", wrap_lines=True, show_line_numbers=False)
    asked, turns = gr.State({}), gr.State([])
    wire_row(kit, rating, box, follows=turns, find=lambda turns: turns[-1]["run"] if turns else None, name="ask")
    wire_row(kit, beside_rating, box, follows=asked, find=lambda asked: asked["ids"][1] if asked.get("both") else None, name="ask_bare")
    return _Talk(past, now, beside, bare, cards, code, buttons, asked, turns)


def _wire_form(kit: Kit, tab: gr.Tab, form: _Form, *, talk: _Talk, chooser: Chooser) -> None:
    fields, one = form.fields, {"collection": chooser.collection}
    opened: dict[str, Any] = {"inputs_kwargs": {**one, "model": fields["model"], "turns": talk.turns}, **QUICK}
    opened["outputs"] = [*form.examples, fields["model"], fields["reranker"], talk.past, talk.code]
    gr.on([tab.select, chooser.collection.change], _on_show(kit), api_name="open_ask", **opened)
    chooser.opened.then(_on_show(kit), api_name="prepare_ask", **opened)
    sliders = [fields["temperature"], fields["max_tokens"]]
    fields["model"].change(_on_model(kit), inputs_kwargs={"model": fields["model"]}, outputs=sliders, api_name="choose_ask_model", **QUICK)


def _wire_asking(kit: Kit, form: _Form, talk: _Talk, *, chooser: Chooser, keys: gr.State) -> None:
    given: dict[str, Any] = {**form.fields, "collection": chooser.collection, "turns": talk.turns}
    cleared = [talk.asked, form.question, talk.past, talk.now, talk.beside, talk.bare, talk.cards]
    typed: dict[str, Any] = {"inputs_kwargs": {**given, "question": form.question}, "outputs": cleared}
    starts = [gr.on([form.send.click, form.question.submit], _on_ask(kit), api_name="ask_documents", **typed, **QUICK)]
    for index, button in enumerate(form.examples):
        pressed: dict[str, Any] = {"inputs_kwargs": {**given, "question": button}, "outputs": cleared}
        starts.append(button.click(_on_ask(kit), api_name=f"ask_example_{index}", **pressed, **QUICK))
    again: dict[str, Any] = {"inputs_kwargs": {**given, "asked": talk.asked}, "outputs": [*cleared, talk.turns]}
    starts.append(talk.buttons["retry"].click(_on_retry(kit), api_name="ask_documents_again", **again, **QUICK))
    person: dict[str, Any] = {"asked": talk.asked, "keys": keys, "collection": chooser.collection}
    streams = []
    for index, start in enumerate(starts):
        grown: dict[str, Any] = {"inputs_kwargs": {**person, "turns": talk.turns}, "outputs": [talk.now, talk.cards, talk.turns, talk.code]}
        streams.append(start.success(_on_stream(kit), api_name=f"answer_{index}", **grown, **GENERATION))
        streams.append(start.success(_on_bare(kit), inputs_kwargs=person, outputs=[talk.bare], api_name=f"answer_bare_{index}", **GENERATION))
    stopped = form.stop.click(None, cancels=streams, api_name="stop_answer", **QUICK)
    # Gradio sends the cancel only after a listener's own function, so what was said is shown by a second one.
    shown: dict[str, Any] = {"inputs_kwargs": {"asked": talk.asked, "turns": talk.turns}, "outputs": [talk.now, talk.cards, talk.turns, talk.bare]}
    stopped.then(_on_stopped(kit), api_name="show_stopped_answer", **shown, **QUICK)
    fresh = talk.buttons["new"].click(None, cancels=streams, api_name="new_conversation", **QUICK)
    emptied = [talk.past, talk.now, talk.bare, talk.cards, talk.turns, talk.asked]
    fresh.then(lambda: ["", "", "", "", [], {}], inputs_kwargs={}, outputs=emptied, api_name="clear_conversation", **QUICK)


def _on_show(kit: Kit) -> Callable[..., list[Any]]:
    def on_show(request: gr.Request, *, collection: str | None, model: str | None, turns: list[dict[str, str]]) -> list[Any]:
        with shown_errors(request):
            language, whose = language_of(request), participants_of(request)
            found = next((each for each in kit.documents.shelves.visible(whose) if each.id == collection), None)
            examples = asking.examples_for(kit, found, language)
            shown = [gr.Button(value=text, visible=True) for text in examples] + [gr.Button(visible=False)] * (EXAMPLES - len(examples))
            listed = [entry.id for entry in kit.models.entries()]
            chosen = model if model in listed else asking.READER if asking.READER in listed else next(iter(listed), None)
            scorers = [entry.id for entry in kit.models.entries(embedders=True) if entry.kind == "reranker" and kit.models.state(entry.id).is_ready]
            reranker = gr.Dropdown(choices=[("–", ""), *scorers], visible=bool(scorers))
            ready = found is not None and kit.store.count(Document, collection_id=found.id, state="ready")
            past = gr.skip() if turns else f"<div class='head'>{say('ask.start' if ready else 'ask.empty', language)}</div>"
            names = (whose,) if isinstance(whose, str) else whose
            first = examples[0] if examples else "…"
            code = gr.skip() if turns or found is None else ask_code(kit.settings.workspace, first, found, names)
            return [*shown, gr.Dropdown(choices=listed, value=chosen), reranker, past, code]

    return on_show


def _on_model(kit: Kit) -> Callable[..., list[Any]]:
    def on_model(request: gr.Request, *, model: str) -> list[Any]:
        with shown_errors(request):
            shown = bool(model) and not asking.is_reader(kit, model)
            temperature, tokens, *_ = shown_settings(kit, model, kit.prompts.get("answer_from_sources").params)
            return [gr.Slider(value=temperature, visible=shown), gr.Slider(value=tokens, visible=shown)]

    return on_model


def _on_ask(kit: Kit) -> Callable[..., list[Any]]:
    def on_ask(request: gr.Request, *, collection: str | None, turns: list[dict[str, str]], **form: Any) -> list[Any]:
        with shown_errors(request):
            found = chosen_of(kit, request, collection)
            if not kit.store.count(Document, collection_id=found.id, state="ready"):
                raise InputError(en=say("ask.empty", "en"), ja=say("ask.empty", "ja"))
            asked = {**asking.read_asked(kit, **form), "ids": [new_id(), new_id()]}
            return [asked, "", "".join(turn["html"] for turn in turns), "", gr.Column(visible=asked["both"]), "", ""]

    return on_ask


def _on_retry(kit: Kit) -> Callable[..., list[Any]]:
    ask = _on_ask(kit)

    def on_retry(request: gr.Request, *, asked: dict[str, Any], turns: list[dict[str, str]], **form: Any) -> list[Any]:
        """The last question once more, with what the form says now, in the place of its answer."""
        kept = turns[:-1] if asked and turns and turns[-1]["run"] == asked["ids"][0] else turns
        return [*ask(request, turns=kept, question=asked.get("question", ""), **form), kept]

    return on_retry


def _on_stream(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_stream(
        request: gr.Request, *, asked: dict[str, Any], keys: dict[str, str], collection: str | None, turns: list[dict[str, str]]
    ) -> Iterator[list[Any]]:
        with shown_errors(request):
            person: dict[str, Any] = {"whose": participants_of(request), "language": language_of(request), "keys": keys}
            yield from asking.stream_answer(kit, asked, chosen_of(kit, request, collection), turns=turns, **person)

    return on_stream


def _on_bare(kit: Kit) -> Callable[..., Iterator[Any]]:
    def on_bare(request: gr.Request, *, asked: dict[str, Any], keys: dict[str, str], collection: str | None) -> Iterator[Any]:
        if not asked.get("both"):
            yield gr.skip()
            return
        with shown_errors(request):
            yield from asking.stream_bare(kit, asked, whose=participants_of(request), language=language_of(request), keys=keys)

    return on_bare


def _on_stopped(kit: Kit) -> Callable[..., AsyncIterator[list[Any]]]:
    async def on_stopped(request: gr.Request, *, asked: dict[str, Any], turns: list[dict[str, str]]) -> AsyncIterator[list[Any]]:
        """Show what was said up to the stop, as it was recorded; until then, that the stop is under way."""
        if not asked or any(turn["run"] == asked["ids"][0] for turn in turns):
            yield [gr.skip()] * 4
            return
        language = language_of(request)
        run = await asking.await_run(kit, asked["ids"][0], _STOPPING_S)
        if run is None:
            yield [sources.show_growing(asked["question"], "", say("playground.stopping", language)), gr.skip(), gr.skip(), gr.skip()]
            run = await asking.await_run(kit, asked["ids"][0], _STOPPED_S)
        if run is None:  # it was stopped before a model was asked
            yield [sources.show_error(asked["question"], say("facts.cancelled", language), language), gr.skip(), gr.skip(), gr.skip()]
            return
        require(user_of(request), "participant", resource="this answer / この回答", resource_owner=run.participant)
        yield [*asking.finished(run, language), [*turns, asking.remember(run, language)], gr.skip()]

    return on_stopped


def _on_open(kit: Kit) -> Callable[..., list[Any]]:
    def on_open(request: gr.Request, event: gr.EventData) -> list[Any]:
        told = event._data or {}
        with shown_errors(request):
            if told.get("act") != "page":
                return [gr.skip()] * 6
            return viewing.open_place(kit, request, place_of(kit, request, told))

    return on_open


def place_of(kit: Kit, request: gr.Request, told: dict[str, Any]) -> viewing.Place:
    """The place a button stands for. Raises: UnknownName, AccessDenied."""
    run = run_of(kit, request, told)
    number = int(told.get("n") or 0)
    source = run.sources[number - 1] if 0 < number <= len(run.sources) else None
    if source is None or source.document_id is None or source.start is None or source.end is None:
        raise UnknownName(kind="source", name=str(number), known=f"1–{len(run.sources)}")
    quote = (int(told["start"]), int(told["end"])) if str(told.get("start", "")).isdecimal() and str(told.get("end", "")).isdecimal() else None
    return viewing.Place(source.document_id, source.start, source.end, source.text, quote)


def run_of(kit: Kit, request: gr.Request, told: dict[str, Any]) -> Run:
    """The run a button belongs to, which must be the person's own. Raises: UnknownName, AccessDenied."""
    run = kit.playground.get(str(told.get("run")))
    if run is None:
        raise UnknownName(kind="run", name=str(told.get("run"))[:40], known="–")
    require(user_of(request), "participant", resource="this answer / この回答", resource_owner=run.participant)
    return run
