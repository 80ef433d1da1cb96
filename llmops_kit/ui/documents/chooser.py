"""The collection all sub-tabs work on: its chooser, a field for a new one, and what can be done with it."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import LOCAL, require, user_of
from llmops_kit.documents.collections import names_of
from llmops_kit.documents.preparation import SIZES
from llmops_kit.errors import InputError
from llmops_kit.types import Collection, Document
from llmops_kit.ui.events import BATCH, QUICK
from llmops_kit.ui.files import offer
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

DEFAULT_SIZE = 400
"""Characters of a chunk in a new collection; as `types.Collection.chunker`."""
_MANAGED = ("name", "rename", "share", "remove", "sure", "keep", "export", "file")


@dataclass(frozen=True)
class Chooser:
    """`collection` holds the id of the chosen collection, or None while the person has none.

    `opened` happens when the tab is opened and the collections are listed, `.then` it; `collection.change` when another is chosen.
    """

    collection: gr.Dropdown
    opened: Any


def participants_of(request: gr.Request) -> str | tuple[str, ...]:
    """The names a person's documents go by: their own, and for the owner of the workspace that of the notebooks. Raises: AccessDenied."""
    user = require(user_of(request), "participant", resource="documents")
    return (user.id, LOCAL) if user.role == "owner" else user.id


def list_collections(kit: Kit, request: gr.Request, chosen: str | None) -> Any:
    """The update of the chooser: the person's collections and shared ones, `chosen` where it is still among them."""
    language, whose = language_of(request), participants_of(request)
    visible = kit.documents.shelves.visible(whose)
    ids = [each.id for each in visible]
    choices = [(_title(kit, each, whose, language), each.id) for each in visible]
    return gr.Dropdown(choices=choices, value=chosen if chosen in ids else ids[0] if ids else None)


def build(kit: Kit, tab: gr.Tab) -> Chooser:
    """Lay out the row and wire its events; call inside the documents tab, which is `tab`."""
    with gr.Row(elem_classes="chooser"):
        collection = gr.Dropdown([], label=label("documents.collection"), elem_id="documents-collection", scale=1, min_width=260, interactive=True)
        with gr.Column(scale=2, min_width=320), gr.Accordion(label("documents.manage"), open=False, elem_id="documents-manage"):
            new, parts = _lay_out_managing()
    return _wire(kit, tab, collection, new=new, parts=parts)


def _lay_out_managing() -> tuple[dict[str, Any], dict[str, Any]]:
    """The components for a new collection, and those that change the chosen one."""
    with gr.Row(elem_classes="actions"):
        new: dict[str, Any] = {"name": gr.Textbox(label=label("documents.new_name"), max_lines=1, elem_id="documents-new-name", scale=2, min_width=160)}
        size: dict[str, Any] = {"value": DEFAULT_SIZE, "precision": 0, "label": label("documents.chunk_size"), "elem_id": "documents-chunk-size"}
        new["size"] = gr.Number(minimum=SIZES[0], maximum=SIZES[1], scale=1, min_width=160, **size)
        new["make"] = gr.Button(label("documents.make"), size="sm", elem_id="documents-make")
    with gr.Row(elem_classes="actions"):
        parts: dict[str, Any] = {"name": gr.Textbox(label=label("documents.rename_to"), max_lines=1, elem_id="documents-rename-to", min_width=160)}
        parts["rename"] = gr.Button(label("documents.rename"), size="sm", elem_id="documents-rename")
        parts["share"] = gr.Checkbox(label=label("documents.share"), elem_id="documents-share", min_width=180)
    with gr.Row(elem_classes="actions"):
        parts["export"] = gr.Button(label("documents.export"), size="sm", elem_id="documents-export")
        parts["file"] = gr.DownloadButton(label("documents.export_file"), size="sm", visible=False, elem_id="documents-export-file")
        parts["remove"] = gr.Button(label("documents.remove_collection"), size="sm", elem_id="documents-remove-collection")
        parts["sure"] = gr.Button(label("documents.sure"), size="sm", variant="stop", visible=False, elem_id="documents-sure-collection")
        parts["keep"] = gr.Button(label("documents.keep"), size="sm", visible=False, elem_id="documents-keep-collection")
    return new, parts


def _wire(kit: Kit, tab: gr.Tab, collection: gr.Dropdown, *, new: dict[str, Any], parts: dict[str, Any]) -> Chooser:
    one: dict[str, Any] = {"collection": collection}
    listed: dict[str, Any] = {"inputs_kwargs": one, "outputs": [collection], **QUICK}
    opened = tab.select(_on_open(kit), api_name="open_documents", **listed)
    made: dict[str, Any] = {"inputs_kwargs": {"name": new["name"], "size": new["size"]}, "outputs": [new["name"], collection], **QUICK}
    gr.on([new["make"].click, new["name"].submit], _on_make(kit), api_name="make_collection", **made)
    shown = [parts[name] for name in _MANAGED]
    collection.change(_on_choose(kit), inputs_kwargs=one, outputs=shown, api_name="choose_collection", **QUICK)
    renamed = {**one, "name": parts["name"]}
    parts["rename"].click(_on_rename(kit), inputs_kwargs=renamed, outputs=[collection], api_name="rename_collection", **QUICK)
    parts["share"].input(_on_share(kit), inputs_kwargs={**one, "shared": parts["share"]}, outputs=[collection], api_name="share_collection", **QUICK)
    parts["export"].click(_on_export(kit), inputs_kwargs=one, outputs=[parts["file"]], api_name="download_collection", **BATCH)
    confirm = [parts["remove"], parts["sure"], parts["keep"]]
    parts["remove"].click(lambda: asking(True), outputs=confirm, api_name="ask_remove_collection", **QUICK)
    parts["keep"].click(lambda: asking(False), outputs=confirm, api_name="keep_collection", **QUICK)
    parts["sure"].click(_on_remove(kit), inputs_kwargs=one, outputs=[collection, *confirm], api_name="remove_collection", **QUICK)
    return Chooser(collection, opened)


def asking(asked: bool) -> list[Any]:
    """Updates of three buttons: one that removes, one that confirms it, one that thinks better of it."""
    return [gr.Button(visible=not asked), gr.Button(visible=asked), gr.Button(visible=asked)]


def chosen_of(kit: Kit, request: gr.Request, collection: str | None) -> Collection:
    """The chosen collection. Raises: InputError where none is chosen, UnknownName where it is gone."""
    if not collection:
        raise InputError(en=say("documents.no_collection", "en"), ja=say("documents.no_collection", "ja"))
    return kit.documents.shelves.get(collection, participants_of(request))


def _on_open(kit: Kit) -> Callable[..., Any]:
    def on_open(request: gr.Request, *, collection: str | None) -> Any:
        with shown_errors(request):
            return list_collections(kit, request, collection)

    return on_open


def _on_make(kit: Kit) -> Callable[..., list[Any]]:
    def on_make(request: gr.Request, *, name: str, size: float) -> list[Any]:
        with shown_errors(request):
            whose = participants_of(request)
            made = kit.documents.shelves.open(name, whose)
            if int(size) != DEFAULT_SIZE and not kit.store.count(Document, collection_id=made.id):
                kit.documents.rebuild(made.id, chunk_size=int(size), participant=whose, progress=False)
            return ["", list_collections(kit, request, made.id)]

    return on_make


def _on_choose(kit: Kit) -> Callable[..., list[Any]]:
    def on_choose(request: gr.Request, *, collection: str | None) -> list[Any]:
        with shown_errors(request):
            whose = participants_of(request)
            found = next((each for each in kit.documents.shelves.visible(whose) if each.id == collection), None)
            own = found is not None and found.owner in names_of(whose)
            name = gr.Textbox(value=found.name if found else "", interactive=own)
            rename, share = gr.Button(interactive=own), gr.Checkbox(value=bool(found and found.shared), interactive=own)
            remove, sure, keep = gr.Button(interactive=own, visible=True), gr.Button(visible=False), gr.Button(visible=False)
            return [name, rename, share, remove, sure, keep, gr.Button(interactive=found is not None), gr.DownloadButton(visible=False)]

    return on_choose


def _on_rename(kit: Kit) -> Callable[..., Any]:
    def on_rename(request: gr.Request, *, collection: str | None, name: str) -> Any:
        with shown_errors(request):
            kit.documents.rename_collection(chosen_of(kit, request, collection).id, name, participant=participants_of(request))
            return list_collections(kit, request, collection)

    return on_rename


def _on_share(kit: Kit) -> Callable[..., Any]:
    def on_share(request: gr.Request, *, collection: str | None, shared: bool) -> Any:
        with shown_errors(request):
            found = kit.documents.share(chosen_of(kit, request, collection).id, shared=shared, participant=participants_of(request))
            gr.Info(say("documents.shared" if shared else "documents.unshared", language_of(request), name=html.escape(found.name)))
            return list_collections(kit, request, collection)

    return on_share


def _on_export(kit: Kit) -> Callable[..., Any]:
    def on_export(request: gr.Request, *, collection: str | None) -> Any:
        with shown_errors(request):
            found = chosen_of(kit, request, collection)
            path = offer("collection.zip", b"")
            kit.documents.export(found.id, Path(path), participant=participants_of(request))
            return gr.DownloadButton(value=path, visible=True)

    return on_export


def _on_remove(kit: Kit) -> Callable[..., list[Any]]:
    def on_remove(request: gr.Request, *, collection: str | None) -> list[Any]:
        with shown_errors(request):
            found = chosen_of(kit, request, collection)
            kit.documents.remove_collection(found.id, participant=participants_of(request))
            gr.Info(say("documents.collection_removed", language_of(request), name=html.escape(found.name)))
            return [list_collections(kit, request, None), *asking(False)]

    return on_remove


def _title(kit: Kit, collection: Collection, whose: Any, language: Language) -> str:
    """How a collection is called in the chooser: with the number of its documents, and a word where it is not the person's own."""
    facts = {"name": _name(collection, language), "n": kit.store.count(Document, collection_id=collection.id)}
    key = "documents.title" if collection.owner in names_of(whose) and not collection.shared else "documents.title_shared"
    return say(key, language, **facts)


def _name(collection: Collection, language: Language) -> str:
    return say("documents.first_collection", language) if collection.name == "default" else collection.name
