"""The Files sub-tab: documents in, how far their reading is, what there is, and the quality report of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import user_of
from llmops_kit.documents.collections import DEFAULT, names_of
from llmops_kit.documents.files import Incoming
from llmops_kit.types import Collection, Document
from llmops_kit.ui.code import documents_code
from llmops_kit.ui.documents import drops, report, words
from llmops_kit.ui.documents.chooser import Chooser, chosen_of, list_collections, participants_of
from llmops_kit.ui.documents.looking import ENCODINGS, READERS
from llmops_kit.ui.documents.standing import tell_left, tell_standing
from llmops_kit.ui.documents.work import Works
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

MOST = 1000
"""Documents the table shows."""
_LOOK_S = 0.7
"""Seconds between two looks at work that is under way."""
_LOOK_AT = "() => document.querySelector('#documents-report')?.scrollIntoView({behavior: 'smooth', block: 'nearest'})"
_TABLE_S = 2.0
"""Seconds between two redraws of the table while something is under way."""
_SHOWN = ("row", "bar", "left", "cancel", "about", "table", "go", "go_all", "timer", "drawn", "turn")
_WIDTHS: list[str | int] = ["220px", "136px", "70px", "104px", "200px", "300px", "1px"]


@dataclass(frozen=True)
class _Asked:
    """What goes in: the places for files, a text and its name, and the options as `drops.take_in_steps` names them."""

    drop: gr.File
    folder: gr.UploadButton
    sample: gr.Button
    name: gr.Textbox
    text: gr.Textbox
    paste: gr.Button
    options: dict[str, Any]


def build(kit: Kit, works: Works, tab: gr.Tab, chooser: Chooser) -> None:
    """Lay out the sub-tab and wire its events; call inside an open `gr.Tab`, which is `tab`."""
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=1, min_width=300, elem_classes="inputs"):
            asked = _lay_out_asked()
        with gr.Column(scale=3, min_width=320):
            parts = _lay_out_table()
            code = _make_code(kit)
            looked = report.build(kit, works, code)
            with gr.Accordion(label("playground.code"), open=False, elem_id="documents-code-drawer"):
                code.render()  # type: ignore[no-untyped-call]
    _wire_drops(kit, works, asked, parts=parts, chooser=chooser, code=code)
    _wire_looking(kit, works, tab, parts=parts, chooser=chooser, looked=looked)
    _wire_going(kit, works, parts, chooser)


def _make_code(kit: Kit) -> gr.Code:
    shown = documents_code(kit.settings.workspace, ["…"], collection=DEFAULT, review=True)
    look: dict[str, Any] = {"interactive": False, "show_label": False, "show_line_numbers": False, "wrap_lines": True}
    return gr.Code(shown, language="python", elem_id="documents-code", render=False, **look)


def _lay_out_asked() -> _Asked:
    drop = gr.File(label=label("documents.drop"), file_count="multiple", height=150, elem_id="documents-drop")
    with gr.Row(elem_classes="actions"):
        sample = gr.Button(label("documents.sample"), size="sm", elem_id="documents-sample")
        folder = gr.UploadButton(label("documents.folder"), file_count="directory", size="sm", elem_id="documents-folder")
    gr.Markdown(label("documents.kinds"), elem_classes="quiet")
    with gr.Accordion(label("documents.paste_title"), open=False, elem_id="documents-paste-title"):
        name = gr.Textbox(label=label("documents.paste_name"), max_lines=1, elem_id="documents-paste-name")
        text = gr.Textbox(label=label("documents.paste_text"), lines=6, max_lines=12, elem_id="documents-paste-text")
        paste = gr.Button(label("documents.paste"), size="sm", elem_id="documents-paste")
    with gr.Accordion(label("playground.more"), open=False, elem_id="documents-more"):
        options: dict[str, Any] = {"review": gr.Checkbox(True, label=label("documents.review"), elem_id="documents-review")}
        options["reader"] = gr.Dropdown(list(READERS), value=READERS[0], label=label("documents.reader"), elem_id="documents-reader")
        options["encoding"] = gr.Dropdown(["", *ENCODINGS], value="", label=label("documents.encoding"), elem_id="documents-encoding-of-all")
        options["ocr"] = gr.Checkbox(label=label("documents.ocr"), elem_id="documents-ocr")
        options["password"] = gr.Textbox(type="password", label=label("documents.password_of_all"), elem_id="documents-password-of-all")
        options["tags"] = gr.Textbox(label=label("documents.tags"), max_lines=1, elem_id="documents-tags")
        options["dated"] = gr.Textbox(label=label("documents.dated"), max_lines=1, elem_id="documents-dated")
    return _Asked(drop, folder, sample, name, text, paste, options)


def _lay_out_table() -> dict[str, Any]:
    parts: dict[str, Any] = {"timer": gr.Timer(_LOOK_S, active=False), "drawn": gr.State(0.0), "turn": gr.State(0)}
    with gr.Row(elem_classes="actions", visible=False) as parts["row"]:
        parts["bar"] = gr.HTML(elem_id="documents-progress", min_width=240, padding=False)
        parts["cancel"] = gr.Button(label("batch.cancel"), size="sm", visible=False, elem_id="documents-cancel", scale=0, min_width=90)
    parts["left"] = gr.HTML(elem_id="documents-left", padding=False, visible=False)
    parts["about"] = gr.HTML(elem_classes="quiet", elem_id="documents-about", padding=False)
    look: dict[str, Any] = {"max_height": 380, "wrap": True, "show_label": False, "buttons": [], "elem_classes": "last-hidden"}
    parts["table"] = gr.Dataframe(visible=False, interactive=False, show_search="search", elem_id="documents-table", **look)
    with gr.Row(elem_classes="actions"):
        parts["go"] = gr.Button(variant="primary", visible=False, elem_id="documents-index")
        parts["go_all"] = gr.Button(visible=False, elem_id="documents-index-all")
    return parts


def _wire_drops(kit: Kit, works: Works, asked: _Asked, *, parts: dict[str, Any], chooser: Chooser, code: gr.Code) -> None:
    more: dict[str, Any] = {"collection": chooser.collection, **asked.options}
    outputs = [chooser.collection, code]
    # Without Gradio's own reading of the inputs: it would leave out the name a file had, which it keeps beside the cleaned one.
    raw: dict[str, Any] = {"preprocess": False, **QUICK}
    uploads = [
        asked.drop.upload(_on_upload(kit, works), inputs_kwargs={"dropped": asked.drop, **more}, outputs=outputs, api_name="add_documents", **raw),
        asked.folder.upload(_on_upload(kit, works), inputs_kwargs={"dropped": asked.folder, **more}, outputs=outputs, api_name="add_folder", **raw),
    ]
    uploads[0].then(lambda: None, outputs=[asked.drop], api_name="clear_drop", **QUICK)
    said = {"name": asked.name, "text": asked.text}
    given = [
        asked.sample.click(_on_sample(kit, works), inputs_kwargs=more, outputs=outputs, api_name="add_samples", **QUICK),
        asked.paste.click(_on_paste(kit, works), inputs_kwargs={**said, **more}, outputs=[asked.name, asked.text, *outputs], api_name="add_text", **QUICK),
    ]
    shown: dict[str, Any] = {"inputs_kwargs": {"collection": chooser.collection}, "outputs": [parts[name] for name in _SHOWN], **QUICK}
    for number, event in enumerate([*uploads, *given]):
        event.then(_on_refresh(kit, works), api_name=f"list_added_{number}", **shown)


def _wire_looking(kit: Kit, works: Works, tab: gr.Tab, *, parts: dict[str, Any], chooser: Chooser, looked: report.Report) -> None:
    shown: dict[str, Any] = {"inputs_kwargs": {"collection": chooser.collection}, "outputs": [parts[name] for name in _SHOWN], **QUICK}
    refresh = _on_refresh(kit, works)
    chooser.opened.then(refresh, api_name="list_documents", **shown)
    gr.on([tab.select, chooser.collection.change], refresh, api_name="list_collection", **shown)
    for number, event in enumerate(looked.acted):
        event.then(refresh, api_name=f"list_changed_{number}", **shown)
    ticking: dict[str, Any] = {"inputs_kwargs": {"collection": chooser.collection, "drawn": parts["drawn"]}, "outputs": [*shown["outputs"], chooser.collection]}
    parts["timer"].tick(_on_tick(kit, works), api_name="watch_documents", **ticking, **QUICK)
    chosen = parts["table"].select(_on_select(kit), outputs=looked.outputs, api_name="choose_document", **QUICK)
    chosen.then(None, js=_LOOK_AT, api_name="look_at_report", **QUICK)
    seen: dict[str, Any] = {"inputs_kwargs": {"chosen": looked.chosen, "page": looked.page}, "outputs": looked.outputs}
    parts["turn"].change(_on_turn(kit), api_name="refresh_report", **seen, **QUICK)


def _wire_going(kit: Kit, works: Works, parts: dict[str, Any], chooser: Chooser) -> None:
    one: dict[str, Any] = {"collection": chooser.collection}
    shown: dict[str, Any] = {"inputs_kwargs": one, "outputs": [parts[name] for name in _SHOWN], **QUICK}
    for name, all_of_them in (("go", False), ("go_all", True)):
        going = parts[name].click(_on_go(kit, works, all_of_them=all_of_them), inputs_kwargs=one, api_name=f"index_documents_{name}", **QUICK)
        going.then(_on_refresh(kit, works), api_name=f"list_indexed_{name}", **shown)

    def on_cancel(request: gr.Request) -> None:
        with shown_errors(request):
            works.cancel(user_of(request).id)

    parts["cancel"].click(on_cancel, api_name="cancel_documents", **QUICK).then(_on_refresh(kit, works), api_name="list_cancelled", **shown)


def _on_upload(kit: Kit, works: Works) -> Callable[..., list[Any]]:
    def on_upload(request: gr.Request, *, dropped: Any, collection: str | None, **asked: Any) -> list[Any]:
        with shown_errors(request):
            return _begin(kit, works, request, drops.incoming_of(dropped), collection, asked)

    return on_upload


def _on_sample(kit: Kit, works: Works) -> Callable[..., list[Any]]:
    def on_sample(request: gr.Request, *, collection: str | None, **asked: Any) -> list[Any]:
        with shown_errors(request):
            return _begin(kit, works, request, drops.sample_files(), collection, asked)

    return on_sample


def _on_paste(kit: Kit, works: Works) -> Callable[..., list[Any]]:
    def on_paste(request: gr.Request, *, name: str, text: str, collection: str | None, **asked: Any) -> list[Any]:
        with shown_errors(request):
            return ["", "", *_begin(kit, works, request, drops.pasted(name, text), collection, {**asked, "encoding": "utf-8"})]

    return on_paste


def _begin(kit: Kit, works: Works, request: gr.Request, incoming: list[Incoming], collection: str | None, asked: dict[str, Any]) -> list[Any]:
    """Start taking files in; updates of the chooser, which knows a collection made for them, and of the code."""
    whose = participants_of(request)
    shelves = kit.documents.shelves
    home = shelves.own(collection, whose) if collection else shelves.open(DEFAULT, whose)
    steps = drops.take_in_steps(kit, incoming, home.id, whose, asked)
    works.start(user_of(request).id, steps, total=len(incoming), wait_s=report.WAIT_S)
    told = {name: asked.get(name) for name in ("review", "encoding", "ocr", "dated")} | {"tags": list(words.tags_of(asked.get("tags") or ""))}
    shown = documents_code(kit.settings.workspace, [each.name for each in incoming], collection=home.name, **told)
    return [list_collections(kit, request, home.id), shown]


def _on_refresh(kit: Kit, works: Works) -> Callable[..., list[Any]]:
    def on_refresh(request: gr.Request, *, collection: str | None) -> list[Any]:
        with shown_errors(request):
            works.resume(kit.documents.resume)
            return _shown(kit, works, request, collection)

    return on_refresh


def _on_tick(kit: Kit, works: Works) -> Callable[..., list[Any]]:
    def on_tick(request: gr.Request, *, collection: str | None, drawn: float) -> list[Any]:
        with shown_errors(request):
            standing = works.standing(user_of(request).id)
            if not standing.running:
                return [*_shown(kit, works, request, collection), list_collections(kit, request, collection)]
            if time.monotonic() - drawn < _TABLE_S:
                return [gr.skip(), tell_standing(standing, language_of(request)), *([gr.skip()] * (len(_SHOWN) - 1))]
            return [*_shown(kit, works, request, collection)[:-1], gr.skip(), gr.skip()]  # the report stays as it is meanwhile

    return on_tick


def _on_select(kit: Kit) -> Callable[..., list[Any]]:
    def on_select(request: gr.Request, event: gr.SelectData) -> list[Any]:
        with shown_errors(request):
            return report.show(kit, request, str(event.row_value[-1]))

    return on_select


def _on_turn(kit: Kit) -> Callable[..., list[Any]]:
    def on_turn(request: gr.Request, *, chosen: str, page: int) -> list[Any]:
        with shown_errors(request):
            gone = bool(chosen) and not kit.store.count(Document, id=chosen)
            return report.show(kit, request, "" if gone else chosen, page)

    return on_turn


def _on_go(kit: Kit, works: Works, *, all_of_them: bool) -> Callable[..., None]:
    def on_go(request: gr.Request, *, collection: str | None) -> None:
        with shown_errors(request):
            found = chosen_of(kit, request, collection)
            waiting = kit.store.find(Document, collection_id=found.id, state="read", newest_first=False)
            ids = [each.id for each in waiting if all_of_them or not each.warnings]
            works.start(user_of(request).id, report.index_steps(kit, ids, participants_of(request)), total=len(ids), wait_s=report.WAIT_S)

    return on_go


def _shown(kit: Kit, works: Works, request: gr.Request, collection: str | None) -> list[Any]:
    """Updates for `_SHOWN`: how far the person's work is, and the documents of the collection."""
    language, standing, whose = language_of(request), works.standing(user_of(request).id), participants_of(request)
    found = next((each for each in kit.documents.shelves.visible(whose) if each.id == collection), None)
    documents = _find_documents(kit, found.id) if found else []
    waiting = kit.store.values(Document, ("warnings",), collection_id=found.id, state="read") if found and found.owner in names_of(whose) else []
    calm = sum(not warnings for (warnings,) in waiting)
    bar, left = tell_standing(standing, language), tell_left(standing, language)
    shown: dict[str, Any] = {"row": gr.Row(visible=bool(bar)), "bar": bar, "left": gr.HTML(left, visible=bool(left))}
    shown["cancel"] = gr.Button(visible=standing.running > 0)
    shown["about"] = _about(kit, found, language)
    shown["table"] = gr.Dataframe(value=words.documents_table(documents, language), visible=bool(documents), column_widths=_WIDTHS)
    shown["go"] = gr.Button(say("documents.go_calm", language, n=calm), visible=calm > 0 and not standing.running)
    shown["go_all"] = gr.Button(say("documents.go_all", language, n=len(waiting)), visible=len(waiting) > calm and not standing.running)
    shown["timer"] = gr.Timer(active=standing.running > 0)
    shown |= {"drawn": time.monotonic(), "turn": time.monotonic_ns()}
    return [shown[name] for name in _SHOWN]


def _find_documents(kit: Kit, collection_id: str) -> list[Document]:
    """The documents the table shows: those that need the person first."""
    found: list[Document] = []
    for state in words.ORDER:
        found += kit.store.find(Document, collection_id=collection_id, state=state, limit=MOST - len(found)) if len(found) < MOST else []
    return words.in_order(found)


def _about(kit: Kit, collection: Collection | None, language: Language) -> str:
    """One sentence over the table: what is there, or what to do first. The app's own words and numbers."""
    total = kit.store.count(Document, collection_id=collection.id) if collection else 0
    if collection is None or not total:
        return say("documents.empty", language)
    ready = [chunks for (chunks,) in kit.store.values(Document, ("chunks",), collection_id=collection.id, state="ready")]
    facts = {"n": f"{total:,}", "ready": f"{len(ready):,}", "chunks": f"{sum(ready):,}"}
    more = say("documents.first", language, most=f"{MOST:,}") if total > MOST else say("documents.choose", language)
    return f"{say('documents.there', language, **facts)} {more}"
