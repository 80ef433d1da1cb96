"""The quality report of a document: what was read from each page beside its picture, and what a person does about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import user_of
from llmops_kit.documents.collections import names_of
from llmops_kit.documents.ingestion import Step
from llmops_kit.errors import InputError
from llmops_kit.types import Document, Page
from llmops_kit.ui.documents import words
from llmops_kit.ui.documents.chooser import asking, participants_of
from llmops_kit.ui.documents.looking import PAGE_PARTS, SHOWN, lay_out, show_document, show_page
from llmops_kit.ui.documents.work import Job, Steps, Works
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.text import language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

WAIT_S = 1.0
"""Seconds a click waits for work that is short, so that its result shows at once."""

_TOGETHER = 20
"""Documents indexed in one call: each call brings the index up once."""


@dataclass(frozen=True)
class Report:
    """`chosen` is the id of the document that is looked at ("" for none), `page` the number of its page; `outputs` take what `show` gives.

    `acted` are the events after which the table of documents is drawn again.
    """

    chosen: gr.State
    page: gr.State
    outputs: list[Any]
    acted: list[Any]


def build(kit: Kit, works: Works, code: gr.Code) -> Report:
    """Lay out the report, hidden until a document is chosen, and wire its events; `code` shows what does the same in a notebook."""
    chosen, page = gr.State(""), gr.State(0)
    parts = lay_out(code)
    one: dict[str, Any] = {"chosen": chosen, "page": page}
    seen = [page, *(parts[name] for name in PAGE_PARTS)]
    parts["pages"].select(_on_page(kit), inputs_kwargs={"chosen": chosen}, outputs=seen, api_name="choose_page", **QUICK)
    parts["close"].click(lambda: [gr.Column(visible=False), ""], outputs=[parts["group"], chosen], api_name="close_report", **QUICK)
    confirm = [parts["remove"], parts["sure"], parts["keep"]]
    parts["remove"].click(lambda: asking(True), outputs=confirm, api_name="ask_remove_document", **QUICK)
    parts["keep"].click(lambda: asking(False), outputs=confirm, api_name="keep_document", **QUICK)
    acted = _wire_changes(kit, works, parts, one)
    return Report(chosen, page, [chosen, page, *(parts[name] for name in SHOWN)], acted)


def show(kit: Kit, request: gr.Request, id: str, page: int = 0) -> list[Any]:
    """Updates for `Report.outputs`: a document, or nothing where `id` is empty. Raises: UnknownName."""
    if not id:
        return ["", 0, gr.Column(visible=False), *([gr.skip()] * (len(SHOWN) - 1))]
    return [id, *show_document(kit, request, id, page)]


def index_steps(kit: Kit, ids: Sequence[str], whose: Any) -> Steps:
    """Make documents that were read searchable, a step for each."""

    def steps(job: Job) -> Iterator[Step]:
        started = time.monotonic()
        for place in range(0, len(ids), _TOGETHER):
            if job.cancel.is_set():
                return
            some = ids[place : place + _TOGETHER]
            kit.documents.index(some, participant=whose)
            for done, id in enumerate(some, place + 1):
                left_s = (time.monotonic() - started) / (place + len(some)) * (len(ids) - place - len(some))
                yield Step(done, len(ids), 0, kit.store.get(Document, id), left_s)

    return steps


def _wire_changes(kit: Kit, works: Works, parts: dict[str, Any], one: dict[str, Any]) -> list[Any]:
    told = {name: parts[name] for name in ("name", "tags", "dated")}
    again = {"reader": parts["reader"], "encoding": parts["code_in"], "ocr": parts["ocr"]}
    answers = {"encoding": parts["encoding"], "password": parts["password"]}
    answered: dict[str, Any] = {"inputs_kwargs": {**one, **answers}, "outputs": [parts["password"]], **QUICK}
    return [
        parts["go"].click(_on_go(kit, works), inputs_kwargs=one, api_name="index_document", **QUICK),
        parts["toggle"].click(_on_toggle(kit, works), inputs_kwargs=one, api_name="drop_page", **QUICK),
        parts["drop"].click(_on_drop(kit, works), inputs_kwargs={**one, "numbers": parts["numbers"]}, api_name="drop_pages", **QUICK),
        parts["reread"].click(_on_reread(kit, works), inputs_kwargs={**one, **again}, api_name="reread_document", **QUICK),
        gr.on([parts["answer"].click, parts["password"].submit], _on_answer(kit, works), api_name="answer_document", **answered),
        parts["describe"].click(_on_describe(kit), inputs_kwargs={**one, **told}, api_name="describe_document", **QUICK),
        parts["sure"].click(_on_remove(kit), inputs_kwargs=one, outputs=[parts["group"], one["chosen"]], api_name="remove_document", **QUICK),
    ]


def _on_page(kit: Kit) -> Callable[..., list[Any]]:
    def on_page(request: gr.Request, event: gr.SelectData, *, chosen: str) -> list[Any]:
        number = int(event.row_value[-1])
        with shown_errors(request):
            whose = participants_of(request)
            document, collection = kit.documents.shelves.document(chosen, whose)
            shown = show_page(kit, document, number, language_of(request), own=collection.owner in names_of(whose))
        return [number, *(shown[name] for name in PAGE_PARTS)]

    return on_page


def _on_go(kit: Kit, works: Works) -> Callable[..., None]:
    def on_go(request: gr.Request, *, chosen: str, page: int) -> None:
        with shown_errors(request):
            steps = index_steps(kit, [chosen], participants_of(request))
            works.start(user_of(request).id, steps, total=1, wait_s=WAIT_S)

    return on_go


def _on_toggle(kit: Kit, works: Works) -> Callable[..., None]:
    def on_toggle(request: gr.Request, *, chosen: str, page: int) -> None:
        with shown_errors(request):
            document, _ = kit.documents.shelves.document(chosen, participants_of(request))
            dropped = {number for (number,) in kit.store.values(Page, ("number",), document_id=document.id, dropped=True)}
            _start_drop(kit, works, request, chosen, sorted(dropped ^ {int(page)}))

    return on_toggle


def _on_drop(kit: Kit, works: Works) -> Callable[..., None]:
    def on_drop(request: gr.Request, *, chosen: str, page: int, numbers: str) -> None:
        with shown_errors(request):
            _start_drop(kit, works, request, chosen, words.numbers_of(numbers))

    return on_drop


def _start_drop(kit: Kit, works: Works, request: gr.Request, id: str, numbers: Sequence[int]) -> None:
    """Leave out exactly these pages. One that is searched is indexed anew, which may take a while."""
    whose = participants_of(request)

    def steps(job: Job) -> Iterator[Step]:
        kit.documents.drop_pages(id, numbers, participant=whose)
        yield Step(1, 1, 0, kit.store.get(Document, id), 0.0)

    works.start(user_of(request).id, steps, total=1, wait_s=WAIT_S)


def _on_reread(kit: Kit, works: Works) -> Callable[..., None]:
    def on_reread(request: gr.Request, *, chosen: str, page: int, reader: str | None, encoding: str | None, ocr: bool) -> None:
        with shown_errors(request):
            document, _ = kit.documents.shelves.own_document(chosen, participants_of(request))
            options: dict[str, Any] = {"reader": reader, "ocr": ocr} if document.kind == "pdf" else {"encoding": encoding}
            _start_reading(kit, works, request, chosen, options)

    return on_reread


def _on_answer(kit: Kit, works: Works) -> Callable[..., str]:
    def on_answer(request: gr.Request, *, chosen: str, page: int, encoding: str | None, password: str) -> str:
        with shown_errors(request):
            if not encoding and not password:
                raise InputError(en=say("documents.no_answer", "en"), ja=say("documents.no_answer", "ja"))
            _start_reading(kit, works, request, chosen, {"encoding": encoding} if encoding else {"password": password})
        return ""

    return on_answer


def _start_reading(kit: Kit, works: Works, request: gr.Request, id: str, options: dict[str, Any]) -> None:
    whose = participants_of(request)

    def steps(job: Job) -> Iterator[Step]:
        kit.documents.reread(id, participant=whose, **options)
        document = kit.store.get(Document, id)
        yield Step(1, 1, document.pages if document else 0, document, 0.0)

    works.start(user_of(request).id, steps, total=1, wait_s=WAIT_S)


def _on_describe(kit: Kit) -> Callable[..., None]:
    def on_describe(request: gr.Request, *, chosen: str, page: int, name: str, tags: str, dated: str) -> None:
        with shown_errors(request):
            whose = participants_of(request)
            kit.documents.tag(chosen, words.tags_of(tags), dated=dated or None, participant=whose)
            kit.documents.rename(chosen, name, participant=whose)

    return on_describe


def _on_remove(kit: Kit) -> Callable[..., list[Any]]:
    def on_remove(request: gr.Request, *, chosen: str, page: int) -> list[Any]:
        with shown_errors(request):
            kit.documents.remove(chosen, participant=participants_of(request))
            return [gr.Column(visible=False), ""]

    return on_remove
