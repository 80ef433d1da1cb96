"""What the quality report shows: its parts, and what is in them for a document and for one of its pages."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import LOCAL
from llmops_kit.documents.collections import names_of
from llmops_kit.documents.preparation import PAGED
from llmops_kit.types import Document, Page
from llmops_kit.ui.code import pages_code
from llmops_kit.ui.documents import words
from llmops_kit.ui.documents.chooser import participants_of
from llmops_kit.ui.files import offer
from llmops_kit.ui.text import Language, label, language_of, localized, say

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

ENCODINGS = ("utf-8", "cp932", "euc_jp", "iso2022_jp", "utf-16")
READERS = ("pdfium", "pypdf")
SHOWN = (
    *("group", "head", "notes", "question", "encoding", "password", "answer", "go", "pages", "toggle", "picture", "text"),
    *("remove", "sure", "keep", "more", "reader", "code_in", "ocr", "numbers", "name", "tags", "dated", "code"),
)
"""The parts `show_document` fills, in its order."""
PAGE_PARTS = ("toggle", "picture", "text")
_PICTURE_PX = 640
_SHOWN_CHARACTERS = 20_000
"""A page's text is shown up to here; a text file of 20 MB is one page."""
_TEXT_KINDS = frozenset({"txt", "md", "csv", "tsv", "html", "json", "jsonl", "eml"})


def lay_out(code: gr.Code) -> dict[str, Any]:
    """The components of the report, hidden until a document is chosen; `code` is shown elsewhere."""
    with gr.Column(visible=False, elem_id="documents-report", elem_classes="panel") as group:
        parts: dict[str, Any] = {"group": group, "code": code, "head": gr.HTML(elem_id="documents-head", padding=False)}
        parts["notes"] = gr.HTML(elem_id="documents-notes", padding=False, visible=False)
        with gr.Group(visible=False, elem_id="documents-question") as parts["question"]:
            parts["encoding"] = gr.Radio([], label=label("documents.which_encoding"), elem_id="documents-encoding", interactive=True)
            parts["password"] = gr.Textbox(type="password", label=label("documents.password"), elem_id="documents-password")
            parts["answer"] = gr.Button(label("documents.answer"), variant="primary", elem_id="documents-answer")
        with gr.Row(elem_classes="actions"):
            parts["go"] = gr.Button(label("documents.go"), variant="primary", size="sm", elem_id="documents-go")
            parts["toggle"] = gr.Button(size="sm", visible=False, elem_id="documents-toggle")
            parts["close"] = gr.Button(label("documents.close"), size="sm", elem_id="documents-close")
            parts["remove"] = gr.Button(label("documents.remove"), size="sm", elem_id="documents-remove")
            parts["sure"] = gr.Button(label("documents.sure"), size="sm", variant="stop", visible=False, elem_id="documents-sure")
            parts["keep"] = gr.Button(label("documents.keep"), size="sm", visible=False, elem_id="documents-keep")
        with gr.Row(elem_classes="look"):
            with gr.Column(scale=3, min_width=340):
                look: dict[str, Any] = {"max_height": 300, "wrap": True, "show_label": False, "buttons": [], "elem_classes": "last-hidden"}
                parts["pages"] = gr.Dataframe(interactive=False, elem_id="documents-pages", **look)
            with gr.Column(scale=2, min_width=240, elem_id="documents-picture-column"):
                parts["picture"] = gr.Image(interactive=False, show_label=False, buttons=[], elem_id="documents-picture")
            with gr.Column(scale=3, min_width=300):
                parts["text"] = gr.Textbox(label=label("documents.text"), lines=14, max_lines=14, interactive=False, elem_id="documents-text")
        _lay_out_more(parts)
    return parts


def _lay_out_more(parts: dict[str, Any]) -> None:
    with gr.Accordion(label("playground.more"), open=False, elem_id="documents-report-more") as parts["more"]:
        with gr.Row(elem_classes="actions"):
            parts["reader"] = gr.Dropdown(list(READERS), label=label("documents.reader"), elem_id="documents-reread-reader", min_width=130, interactive=True)
            parts["code_in"] = gr.Dropdown(
                list(ENCODINGS), label=label("documents.encoding"), elem_id="documents-reread-encoding", min_width=130, interactive=True
            )
            parts["ocr"] = gr.Checkbox(label=label("documents.ocr"), elem_id="documents-reread-ocr", min_width=160)
            parts["reread"] = gr.Button(label("documents.reread"), size="sm", elem_id="documents-reread", min_width=110, scale=0)
        with gr.Row(elem_classes="actions"):
            parts["numbers"] = gr.Textbox(label=label("documents.numbers"), max_lines=1, elem_id="documents-numbers", min_width=200)
            parts["drop"] = gr.Button(label("documents.drop_pages"), size="sm", elem_id="documents-drop", min_width=150, scale=0)
        with gr.Row(elem_classes="actions"):
            parts["name"] = gr.Textbox(label=label("documents.name"), max_lines=1, elem_id="documents-name", min_width=180)
            parts["tags"] = gr.Textbox(label=label("documents.tags"), max_lines=1, elem_id="documents-tags-of", min_width=140)
            parts["dated"] = gr.Textbox(label=label("documents.dated"), max_lines=1, elem_id="documents-dated-of", min_width=120)
            parts["describe"] = gr.Button(label("documents.describe"), size="sm", elem_id="documents-describe", min_width=110, scale=0)


def show_document(kit: Kit, request: gr.Request, id: str, page: int = 0) -> list[Any]:
    """Updates for the page number and the parts in `SHOWN`: the document `id` at `page` (0: the first page that needs a look).

    Raises: UnknownName, where it is gone or somebody else's.
    """
    language, whose = language_of(request), participants_of(request)
    document, collection = kit.documents.shelves.document(id, whose)
    own = collection.owner in names_of(whose)
    rows = sorted(kit.store.values(Page, ("number", "label", "dropped", "facts"), document_id=document.id))
    number = page if any(row[0] == page for row in rows) else _first_doubtful(rows)
    shown: dict[str, Any] = {"group": gr.Column(visible=True), "head": _head(document, language), "notes": _notes(document, language)}
    table = words.pages_table(rows, language)
    shown["pages"] = gr.Dataframe(value=table, visible=bool(rows), column_widths=["60px", "76px", "104px", "120px", "1px"])
    shown |= show_page(kit, document, number, language, own=own) | _question(kit, document, own, language)
    shown["go"] = gr.Button(visible=own and document.state == "read")
    shown |= {"remove": gr.Button(visible=own), "sure": gr.Button(visible=False), "keep": gr.Button(visible=False), "more": gr.Accordion(visible=own)}
    is_pdf, is_text = document.kind == "pdf", document.kind in _TEXT_KINDS
    shown["reader"] = gr.Dropdown(visible=is_pdf, value=document.reader if document.reader in READERS else READERS[0])
    shown["code_in"] = gr.Dropdown(visible=is_text, value=document.encoding if document.encoding in ENCODINGS else None)
    shown["ocr"] = gr.Checkbox(visible=is_pdf, value=bool(document.options.get("ocr")))
    shown["numbers"] = ", ".join(str(row[0]) for row in rows if row[2])
    shown |= {"name": document.name, "tags": words.join(document.tags, language), "dated": document.dated or ""}
    in_notebook = collection.shared or collection.owner == LOCAL  # found there without a name
    shown["code"] = pages_code(kit.settings.workspace, document.id, participant=None if in_notebook else names_of(whose)[0])
    return [number, *(shown[name] for name in SHOWN)]


def show_page(kit: Kit, document: Document, number: int, language: Language, *, own: bool) -> dict[str, Any]:
    """Updates of the parts in `PAGE_PARTS`: one page as text and, of a PDF, as a picture."""
    page = kit.store.get(Page, f"{document.id}:{number}")
    if page is None:
        return {"toggle": gr.Button(visible=False), "picture": gr.Image(value=None, visible=False), "text": gr.Textbox(value="", visible=False)}
    rendered = kit.documents.page_image(document.id, number, width_px=_PICTURE_PX, participant=document.owner) if document.kind == "pdf" else None
    path = offer(f"page-{number}.png", rendered.png) if rendered is not None else None
    more = len(page.text) > _SHOWN_CHARACTERS
    title = say("documents.text_of_part" if more else "documents.text_of", language, n=f"{number:,}", characters=f"{_SHOWN_CHARACTERS:,}")
    toggle = gr.Button(value=say("documents.take_page" if page.dropped else "documents.drop_page", language, n=f"{number:,}"), visible=own)
    text = gr.Textbox(value=page.text[:_SHOWN_CHARACTERS], label=title, visible=True)
    return {"toggle": toggle, "picture": gr.Image(value=path, visible=path is not None), "text": text}


def _first_doubtful(rows: list[tuple[int, str, bool, Mapping[str, Any]]]) -> int:
    doubtful = [number for number, _, dropped, facts in rows if not dropped and words.is_doubtful(facts)]
    return doubtful[0] if doubtful else rows[0][0] if rows else 0


def _head(document: Document, language: Language) -> str:
    facts = [words.state_word(document.state, language)]
    facts += [say("documents.pages", language, n=f"{document.pages:,}")] if document.kind in PAGED else []
    facts += [say("documents.characters", language, n=f"{document.characters:,}")] if document.pages else []
    reader = document.reader if document.reader in READERS else ""
    facts += [each for each in (document.kind.upper(), reader, document.encoding, words.join(document.tags, language), document.dated) if each]
    return f"<b>{html.escape(document.name)}</b><div class='quiet'>{html.escape(' · '.join(facts))}</div>"


def _notes(document: Document, language: Language) -> Any:
    """The reason of a document that is not read, and its warnings as sentences."""
    found = [localized(document.reason, language)] if document.reason else []
    found += dict.fromkeys(words.warning_sentence(key, language) for key in document.warnings)
    return gr.HTML("".join(f"<div class='note'>{html.escape(each)}</div>" for each in found), visible=bool(found))


def _question(kit: Kit, document: Document, own: bool, language: Language) -> dict[str, Any]:
    """The question of a document that asks: which encoding, with a sample of each, or its password."""
    samples = _samples(kit, document) if document.state == "asks" and document.kind != "pdf" else {}
    shown = own and document.state == "asks"
    choices = [(f"{encoding}{'：' if language == 'ja' else ': '}{sample}", encoding) for encoding, sample in samples.items()]
    return {
        "question": gr.Group(visible=shown),
        "encoding": gr.Radio(choices=choices, value=None, visible=shown and bool(choices)),
        "password": gr.Textbox(value="", visible=shown and not choices),
        "answer": gr.Button(visible=shown),
    }


def _samples(kit: Kit, document: Document) -> Mapping[str, str]:
    """A piece of the text in each encoding it may be in; empty where the question is another one."""
    from llmops_kit.documents.reading.encoding import decode
    from llmops_kit.documents.reading.records import Asks, ReadOptions, Unreadable

    try:
        decode(kit.documents.retrieval.files.path(document.sha256).read_bytes(), document.name, ReadOptions())
    except Asks as asked:
        samples = asked.facts.get("samples")
        return samples if isinstance(samples, Mapping) else {}
    except (Unreadable, OSError):
        return {}
    return {}
