"""What happens when somebody asks: one answer from the documents and, beside it, one without them, while they grow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.documents.collections import names_of
from llmops_kit.errors import InputError, KitError
from llmops_kit.types import Collection, Document, Run
from llmops_kit.ui.controls import settings_of
from llmops_kit.ui.documents import sources
from llmops_kit.ui.documents.code import ask_code
from llmops_kit.ui.documents.words import tags_of
from llmops_kit.ui.panes import brief_of
from llmops_kit.ui.text import Language, say

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

READER, WRITER = "starter-reader", "starter-lm"
MODES = ("hybrid", "lexical", "dense")
NARROWING = ("file", "tags", "since", "until", "reranker")
MOST_TURNS = 30
"""Turns of a conversation that stay on the page."""
_UPDATE_S = 0.15
_UPDATE_S_PER_CHAR = 1 / 2500
_EXAMPLES = 4


def stream_answer(kit: Kit, asked: Mapping[str, Any], collection: Collection, *, turns: Sequence[Mapping[str, str]], **person: Any) -> Iterator[list[Any]]:
    """Answer from the documents and give `[turn, cards, turns, code]` while the answer grows.

    `asked` has question, model, k, mode, narrowed, params and ids; `turns` is the conversation before it. `person` has whose,
    language and keys. A `KitError` becomes a sentence in the conversation.
    """
    language, question, model = person["language"], asked["question"], asked["model"]
    yield [sources.show_growing(question, "", say("ask.searching", language), begun=True), "", gr.skip(), gr.skip()]
    history = [(turn["question"], turn["answer"]) for turn in turns]
    narrowed = {"mode": asked["mode"], **asked["narrowed"]}
    who: dict[str, Any] = {"participant": person["whose"], "api_key": person["keys"].get(model), "run_id": asked["ids"][0]}
    run, updated = None, 0.0
    try:
        for run in kit.documents.stream(question, model=model, collection=collection.id, k=asked["k"], history=history, **narrowed, **who, **asked["params"]):
            if time.monotonic() - updated > _UPDATE_S + len(run.output) * _UPDATE_S_PER_CHAR and run.finish_reason is None:
                updated = time.monotonic()
                yield [sources.show_growing(question, run.output, say("ask.reading", language, n=len(run.sources))), gr.skip(), gr.skip(), gr.skip()]
    except KitError as error:
        yield [sources.show_error(question, error.text(language), language), "", gr.skip(), gr.skip()]
        return
    if run is not None:
        code = ask_code(kit.settings.workspace, question, collection, names_of(person["whose"]), history=history, **_told(asked))
        yield [*finished(run, language), [*turns, remember(run, language)][-MOST_TURNS:], code]


def stream_bare(kit: Kit, asked: Mapping[str, Any], *, whose: Any, language: Language, keys: Mapping[str, str]) -> Iterator[str]:
    """Answer the same question without documents and give the HTML of the answer while it grows."""
    from llmops_kit.documents.answering import Answering

    model = writer_of(kit, asked["model"])
    heading = say("ask.without", language, model=model)
    who: dict[str, Any] = {"participant": names_of(whose)[0], "api_key": keys.get(model), "run_id": asked["ids"][1]}
    updated = 0.0
    try:
        for run in Answering(kit.documents).stream_without(asked["question"], model=model, **who, **(asked["params"] if model == asked["model"] else {})):
            if run.finish_reason is not None or time.monotonic() - updated > _UPDATE_S + len(run.output) * _UPDATE_S_PER_CHAR:
                updated = time.monotonic()
                yield sources.show_plain(run, heading, facts_of(run, language) if run.finish_reason else say("facts.waiting", language), language)
    except KitError as error:
        yield f"<div class='head'>{heading}</div>{sources.show_error('', error.text(language), language)}"


def finished(run: Run, language: Language) -> list[Any]:
    """`[turn, cards]` of a finished answer."""
    return [sources.show_turn(run, sources.question_of(run), language, facts_of(run, language)), sources.show_cards(run, language)]


def remember(run: Run, language: Language) -> dict[str, str]:
    """What the conversation keeps of a turn: the question that was meant, its answer, and how it is shown."""
    question = str(run.variables.get("question", ""))
    return {"run": run.id, "asked": sources.question_of(run), "question": question, "answer": run.answer, "html": finished(run, language)[0]}


def facts_of(run: Run, language: Language) -> str:
    """The model, the time and the tokens of an answer, as text."""
    return f"{run.model} · {brief_of(run, language)}"


def read_asked(kit: Kit, *, question: str, model: str, k: int, mode: str, both: bool, **more: Any) -> dict[str, Any]:
    """What the form says, as keywords of the answer. Raises: InputError, where there is no question or no model."""
    if not question.strip():
        raise InputError(en=say("ask.no_question", "en"), ja=say("ask.no_question", "ja"))
    if not model:
        raise InputError(en=say("ask.no_model", "en"), ja=say("ask.no_model", "ja"))
    narrowed: dict[str, Any] = {name: more.get(name) or None for name in NARROWING if name != "tags"}
    narrowed["tags"] = tags_of(more.get("tags") or "")
    shown = {name: more[name] for name in ("temperature", "max_tokens")}
    params = {} if is_reader(kit, model) else settings_of(kit, model, shown)
    return {"question": question.strip(), "model": model, "k": int(k), "mode": mode, "both": bool(both), "narrowed": narrowed, "params": params}


def is_reader(kit: Kit, model: str) -> bool:
    """Whether a model only finds the answer in a text, and has none without one."""
    return any(entry.id == model and entry.kind == "extractive" for entry in kit.models.entries())


def writer_of(kit: Kit, model: str) -> str:
    """The model that answers without documents: the same one where it can."""
    return WRITER if is_reader(kit, model) else model


def examples_for(kit: Kit, collection: Collection | None, language: Language) -> list[str]:
    """Questions the sample documents answer, where these are in the collection; those in the reader's language first."""
    import yaml

    from llmops_kit.documents.samples import QUESTIONS
    from llmops_kit.models.units import language_of

    if collection is None:
        return []
    names = {name for (name,) in kit.store.values(Document, ("name",), collection_id=collection.id, state="ready")}
    every = yaml.safe_load(QUESTIONS.read_text(encoding="utf-8"))
    asked = [str(each["question"]) for each in every if each["document"] in names]
    return sorted(asked, key=lambda one: language_of(one) != language)[:_EXAMPLES]


async def await_run(kit: Kit, run_id: str, limit_s: float) -> Run | None:
    """A stopped run, once it is recorded: at the next token, or when its server gave up; None after `limit_s` seconds."""
    end, pause_s = time.monotonic() + limit_s, 0.05
    while (run := kit.playground.get(run_id)) is None and time.monotonic() < end:
        await asyncio.sleep(pause_s)
        pause_s = min(1.2 * pause_s, 0.5)
    return run


def _told(asked: Mapping[str, Any]) -> dict[str, Any]:
    """What the code says beside the question: only what is not as usual."""
    usual = {"model": READER, "k": 5, "mode": "hybrid"}
    told = {name: asked[name] for name, value in usual.items() if asked[name] != value}
    return {**told, **{name: value for name, value in asked["narrowed"].items() if value}, **asked["params"]}
