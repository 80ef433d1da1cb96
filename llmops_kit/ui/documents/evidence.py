"""The Evidence sub-tab: how far a passage gets on its way to the prompt, and whether a word is found at all."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.documents.collections import names_of
from llmops_kit.types import Document
from llmops_kit.ui.documents import ask, sources
from llmops_kit.ui.documents.chooser import Chooser, chosen_of, participants_of
from llmops_kit.ui.documents.code import explain_code, findable_code
from llmops_kit.ui.events import BATCH, QUICK
from llmops_kit.ui.text import Language, label, language_of, localized, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.documents.explanation import Explanation
    from llmops_kit.documents.index import Findability
    from llmops_kit.kit import Kit

_CSS = """
ol {list-style: none; margin: 0; padding: 0; border-left: 2px solid var(--neutral-300); margin-left: 14px}
li {position: relative; padding: 4px 8px 12px 26px; overflow-wrap: anywhere}
.sign {position: absolute; left: -14px; top: 3px; width: 26px; height: 26px; line-height: 26px; text-align: center; border-radius: 50%; font-weight: 700;
  background: var(--neutral-200); color: var(--neutral-700)}
.yes {background: #0072b2; color: #fff} .no {background: #fff; color: #a33c00; outline: 2px solid #d55e00; outline-offset: -2px}
.why {color: var(--body-text-color); margin-top: 2px; line-height: 1.6}
.advice {margin: 8px 0; padding: 8px 12px; border-left: 3px solid var(--primary-500); line-height: 1.6}
.dim {color: var(--body-text-color-subdued); font-size: .87rem}
.hitbox {border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 6px 10px; margin: 6px 0;
  white-space: pre-line; line-height: 1.6; overflow-wrap: anywhere}
.terms {display: flex; flex-wrap: wrap; gap: 6px; margin: 6px 0} .term {border: 1px solid var(--border-color-primary); border-radius: 6px; padding: 1px 8px}
.none {opacity: .55; text-decoration: line-through}
mark {background: #ffe08a; color: #222; border-radius: 2px}
"""
_SIGNS = {True: ("yes", "✓"), False: ("no", "✗"), None: ("", "–")}
_FIRST = 5
_AROUND = 90


@dataclass(frozen=True)
class _Parts:
    """The components of the sub-tab."""

    question: gr.Textbox
    passage: gr.Textbox
    follow: gr.Button
    stages: gr.HTML
    word: gr.Textbox
    look: gr.Button
    found: gr.HTML
    code: gr.Code


def build(kit: Kit, chooser: Chooser, tabs: gr.Tabs, *, cards: gr.HTML) -> None:
    """Lay out the sub-tab and wire its events; call inside an open `gr.Tab` of `tabs` with the id `evidence`.

    A click on `cards` with `act` evidence brings its question and passage here.
    """
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=2, min_width=300, elem_classes="inputs"):
            gr.Markdown(label("evidence.intro"), elem_classes="quiet")
            question = gr.Textbox(label=label("evidence.question"), lines=1, max_lines=4, elem_id="evidence-question")
            passage = gr.Textbox(label=label("evidence.passage"), placeholder=label("evidence.passage_hint"), lines=4, max_lines=10, elem_id="evidence-passage")
            with gr.Row(elem_classes="buttons"):
                follow = gr.Button(label("evidence.follow"), variant="primary", elem_id="evidence-follow")
            word = gr.Textbox(label=label("evidence.word"), placeholder=label("evidence.word_hint"), max_lines=1, elem_id="evidence-word")
            look = gr.Button(label("evidence.look"), size="sm", elem_id="evidence-look")
        with gr.Column(scale=5, min_width=320):
            stages = gr.HTML(elem_id="evidence-stages", css_template=_CSS, apply_default_css=False)
            found = gr.HTML(elem_id="evidence-found", css_template=_CSS, apply_default_css=False)
            with gr.Accordion(label("playground.code"), open=False, elem_id="evidence-code-drawer"):
                code = gr.Code(language="python", interactive=False, show_label=False, elem_id="evidence-code", wrap_lines=True, show_line_numbers=False)
    _wire(kit, chooser, _Parts(question, passage, follow, stages, word, look, found, code), tabs=tabs, cards=cards)


def _wire(kit: Kit, chooser: Chooser, parts: _Parts, *, tabs: gr.Tabs, cards: gr.HTML) -> None:
    asked: dict[str, Any] = {"question": parts.question, "passage": parts.passage, "collection": chooser.collection}
    followed: dict[str, Any] = {"inputs_kwargs": asked, "outputs": [parts.stages, parts.code], **BATCH}
    gr.on([parts.follow.click, parts.question.submit], _on_follow(kit), api_name="explain_passage", **followed)
    looked: dict[str, Any] = {"inputs_kwargs": {"word": parts.word, "collection": chooser.collection}, "outputs": [parts.found, parts.code], **QUICK}
    gr.on([parts.look.click, parts.word.submit], _on_look(kit), api_name="find_word", **looked)
    brought = cards.click(_on_bring(kit), outputs=[tabs, parts.question, parts.passage], api_name="bring_passage", **QUICK)
    brought.success(_on_follow(kit, brought=True), api_name="explain_brought", **followed)


def _on_bring(kit: Kit) -> Callable[..., list[Any]]:
    def on_bring(request: gr.Request, event: gr.EventData) -> list[Any]:
        told = event._data or {}
        if told.get("act") != "evidence":
            return [gr.skip()] * 3
        with shown_errors(request):
            run, place = ask.run_of(kit, request, told), ask.place_of(kit, request, told)
        first, last = place.quote or (place.start, place.end)
        passage = place.text[first - place.start : last - place.start] if place.start <= first < last <= place.end else place.text
        return [gr.Tabs(selected="evidence"), str(run.variables.get("question", "")), passage.strip()]

    return on_bring


def _on_follow(kit: Kit, *, brought: bool = False) -> Callable[..., list[Any]]:
    def on_follow(request: gr.Request, *, question: str, passage: str, collection: str | None) -> list[Any]:
        if brought and not (question.strip() and passage.strip()):
            return [gr.skip(), gr.skip()]
        with shown_errors(request):
            found, whose = chosen_of(kit, request, collection), participants_of(request)
            explained = kit.documents.explain(question, passage, collection=found.id, participant=whose)
            code = explain_code(kit.settings.workspace, question, passage, found, names_of(whose))
            return [show_stages(explained, language_of(request)), code]

    return on_follow


def _on_look(kit: Kit) -> Callable[..., list[Any]]:
    def on_look(request: gr.Request, *, word: str, collection: str | None) -> list[Any]:
        with shown_errors(request):
            found, whose = chosen_of(kit, request, collection), participants_of(request)
            counted = kit.documents.findable(word.strip(), collection=found.id, participant=whose)
            code = findable_code(kit.settings.workspace, word.strip(), found, names_of(whose))
            return [_show_found(kit, counted, language_of(request)), code]

    return on_look


def show_stages(explained: Explanation, language: Language) -> str:
    """The stages from the file to the prompt, each with its sign and sentence, and what would change the outcome."""
    from llmops_kit.documents.explanation_texts import NAMES

    rows = []
    for stage in explained.stages:
        kind, sign = _SIGNS[stage.ok]
        name = html.escape(localized(NAMES[stage.name], language))
        rows.append(f"<li><span class='sign {kind}'>{sign}</span><b>{name}</b><div class='why'>{html.escape(localized(stage.told, language))}</div></li>")
    head = say("evidence.reached" if explained.reached_prompt else "evidence.lost", language)
    advice = "".join(f"<div class='advice'>{html.escape(localized(each, language))}</div>" for each in explained.advice)
    title = f"<b>{say('evidence.advice', language)}</b>" if advice else ""
    return f"<p><b>{head}</b></p><ol>{''.join(rows)}</ol>{title}{advice}"


def _show_found(kit: Kit, counted: Findability, language: Language) -> str:
    """The terms of a word with how many chunks have each, how many have all, and the first of these with the word marked."""
    key = "evidence.found" if counted.chunks else "evidence.not_found"
    head = say(key, language, word=html.escape(counted.word), n=f"{counted.chunks:,}")
    kinds = {True: "term", False: "term none"}
    terms = "".join(f"<span class='{kinds[n > 0]}'>{html.escape(term)} <span class='dim'>{n:,}</span></span>" for term, n in counted.terms)
    names = dict(kit.store.values(Document, ("id", "name"), id=[chunk.document_id for chunk in counted.first])) if counted.first else {}
    shown = []
    for chunk in counted.first[:_FIRST]:
        at = chunk.text.casefold().find(counted.word.casefold())
        low, high = max(0, at - _AROUND), max(at, 0) + len(counted.word) + _AROUND
        spans = [(at - low, at - low + len(counted.word))] if at >= 0 else []
        text = f"{'…' if low else ''}{sources.mark(chunk.text[low:high], spans)}{'…' if high < len(chunk.text) else ''}"
        name = names.get(chunk.document_id, "")
        title = name if chunk.page is None else say("ask.page_of", language, name=name, page=chunk.page)
        shown.append(f"<div class='hitbox'><span class='dim'>{html.escape(title)}</span>\n{text}</div>")
    note = f"<p class='dim'>{say('evidence.terms', language)}</p><div class='terms'>{terms}</div>" if terms else ""
    return f"<p><b>{head}</b></p>{note}{''.join(shown)}"
