"""The page a citation opens: of a PDF its picture with the cited words marked, of anything else its text, and the pages beside it."""

from __future__ import annotations

import base64
import html
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.types import Document, Page
from llmops_kit.ui.documents.chooser import participants_of
from llmops_kit.ui.documents.sources import mark
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.documents.reading.records import Rendered
    from llmops_kit.kit import Kit

_PART = 6000
"""Characters of a text shown at a time; a longer page is turned over in parts."""
_WIDTH_PX = 900
_CSS = """
.sheet {position: relative; max-height: 76vh; overflow: auto; border: 1px solid var(--border-color-primary); border-radius: 6px;
  background: var(--background-fill-primary)}
.sheet pre {margin: 0; padding: 12px; white-space: pre-wrap; overflow-wrap: anywhere; font-family: var(--font); font-size: .93rem; line-height: 1.7}
.paper {position: relative; min-width: 620px; background: #fff} .paper img {display: block; width: 100%; height: auto; margin: 0}
.hit {background: #ffe08a; color: #222; border-radius: 2px}
.near {background: rgba(255, 224, 138, .35); color: inherit; border-radius: 2px}
.paper .hit {position: absolute; display: block; background: rgba(255, 200, 40, .38); outline: 1px solid rgba(190, 130, 0, .7); mix-blend-mode: multiply}
"""
_SCROLL = """
const show = () => {
  const sheet = element.querySelector('.sheet'), hit = element.querySelector('.hit') || element.querySelector('.near');
  if (!sheet) return;
  const [box, place] = [sheet.getBoundingClientRect(), (hit || sheet).getBoundingClientRect()];
  sheet.scrollTop += hit ? place.top - box.top - sheet.clientHeight / 3 : -sheet.scrollTop;
  sheet.scrollLeft += hit ? place.left - box.left - 40 : -sheet.scrollLeft;
  const top = element.getBoundingClientRect().top;
  if (top < 0 || top > window.innerHeight * .8) element.scrollIntoView({block: 'center'});
};
watch('value', show);
requestAnimationFrame(show);
"""


@dataclass(frozen=True)
class Viewer:
    """The components of the page beside the answer. `outputs` is what `open_place` fills."""

    outputs: list[Any]


@dataclass(frozen=True)
class Place:
    """A stretch of a document's text (`start`–`end`) as it was found, `text`, and the sentence in it that matters most (`quote`)."""

    document_id: str
    start: int
    end: int
    text: str
    quote: tuple[int, int] | None = None


@dataclass(frozen=True)
class _Part:
    """What is shown at a time: a page, or a part of a long one; offsets in the document's text."""

    page: int
    start: int
    end: int


def build(kit: Kit) -> Viewer:
    """Lay out the viewer, hidden until something is opened, and wire its buttons."""
    with gr.Column(scale=3, min_width=320, visible=False, elem_id="ask-viewer") as column:
        head = gr.HTML(elem_id="ask-viewer-head")
        with gr.Row(elem_classes="quiet-row"):
            back = gr.Button(label("ask.back"), size="sm", elem_id="ask-page-back")
            forth = gr.Button(label("ask.forth"), size="sm", elem_id="ask-page-forth")
            close = gr.Button(label("ask.close"), size="sm", elem_id="ask-viewer-close")
        body = gr.HTML(elem_id="ask-page", css_template=_CSS, js_on_load=_SCROLL, apply_default_css=False)
    seen = gr.State({})
    viewer = Viewer([column, head, body, back, forth, seen])
    turned: dict[str, Any] = {"inputs_kwargs": {"seen": seen}, "outputs": viewer.outputs, **QUICK}
    back.click(_on_turn(kit, -1), api_name="turn_page_back", **turned)
    forth.click(_on_turn(kit, 1), api_name="turn_page_forth", **turned)
    close.click(lambda: gr.Column(visible=False), outputs=[column], api_name="close_page", **QUICK)
    return viewer


def open_place(kit: Kit, request: gr.Request, place: Place) -> list[Any]:
    """Updates that open the viewer at `place`. Raises: UnknownName, where the document is gone or somebody else's."""
    document, _ = kit.documents.shelves.document(place.document_id, participants_of(request))
    pages = _pages_of(kit, document)
    text = "".join(page.text for page in pages)
    spans, quote = (place.start, place.end), place.quote
    if text[place.start : place.end] != place.text:  # it was read again since: the passage may have moved, or be gone
        moved = text.find(place.text) if place.text else -1
        spans = (moved, moved + len(place.text)) if moved >= 0 else (0, 0)
        quote = (quote[0] + moved - place.start, quote[1] + moved - place.start) if quote and moved >= 0 else None
    at = (quote or spans)[0]
    number = next((index for index, part in enumerate(_parts(document, pages)) if part.start <= at < part.end), 0)
    seen = {"document": document.id, "at": number, "spans": spans, "quote": quote, "stale": spans == (0, 0)}
    return _show(kit, document, pages, seen, language_of(request))


def _on_turn(kit: Kit, step: int) -> Callable[..., list[Any]]:
    def on_turn(request: gr.Request, *, seen: Mapping[str, Any]) -> list[Any]:
        with shown_errors(request):
            document, _ = kit.documents.shelves.document(str(seen.get("document")), participants_of(request))
            return _show(kit, document, _pages_of(kit, document), {**seen, "at": int(seen["at"]) + step}, language_of(request))

    return on_turn


def _pages_of(kit: Kit, document: Document) -> list[Page]:
    pages = kit.store.find(Page, document_id=document.id, dropped=False, newest_first=False)
    return sorted(pages, key=lambda page: page.number)


def _parts(document: Document, pages: Sequence[Page]) -> list[_Part]:
    """The pages of a PDF as they are; other pages cut, where they are long, at the ends of lines."""
    parts: list[_Part] = []
    offset = 0
    for page in pages:
        end = offset + len(page.text)
        while document.kind != "pdf" and end - offset > _PART:
            cut = page.text.rfind("\n", 0, len(page.text) - (end - offset) + _PART) + 1 + end - len(page.text)
            cut = cut if cut > offset else offset + _PART
            parts.append(_Part(page.number, offset, cut))
            offset = cut
        parts.append(_Part(page.number, offset, end))
        offset = end
    return parts


def _show(kit: Kit, document: Document, pages: Sequence[Page], seen: dict[str, Any], language: Language) -> list[Any]:
    parts = _parts(document, pages) or [_Part(1, 0, 0)]
    seen = {**seen, "at": min(max(0, seen["at"]), len(parts) - 1)}
    part = parts[seen["at"]]
    body = _picture(kit, document, part, seen) or _text(pages, part, seen)
    where = say("ask.part_of", language, n=seen["at"] + 1, total=len(parts)) if len(parts) > 1 else ""
    if document.kind == "pdf":
        where = say("ask.page_number", language, page=part.page, total=document.pages)
    stale = f"<div class='line'>{say('ask.changed', language)}</div>" if seen["stale"] else ""
    head = f"<b>{html.escape(document.name)}</b> <span class='quiet'>{where}</span>{stale}"
    back, forth = gr.Button(interactive=seen["at"] > 0), gr.Button(interactive=seen["at"] < len(parts) - 1)
    return [gr.Column(visible=True), head, f"<div class='sheet'>{body}</div>", back, forth, seen]


def _picture(kit: Kit, document: Document, part: _Part, seen: Mapping[str, Any]) -> str:
    """The page of a PDF with boxes over the words; nothing for other kinds and for a file that cannot be drawn."""
    if document.kind != "pdf":
        return ""
    start, end = seen["quote"] or seen["spans"]
    span = {"start": max(start, part.start), "end": min(end, part.end)} if start < part.end and end > part.start else {}
    rendered = kit.documents.page_image(document.id, part.page, width_px=_WIDTH_PX, participant=document.owner, **span)
    return _paper(rendered) if rendered is not None else ""


def _paper(rendered: Rendered) -> str:
    width, height = struct.unpack(">II", rendered.png[16:24])  # of the PNG header: the page takes its room before the picture is there
    boxes = "".join(
        f"<span class='hit' style='left:{left:.2%};top:{top:.2%};width:{right - left:.2%};height:{bottom - top:.2%}'></span>"
        for left, top, right, bottom in rendered.boxes
    )
    data = base64.b64encode(rendered.png).decode()
    return f"<div class='paper'><img width='{width}' height='{height}' alt='' src='data:image/png;base64,{data}'>{boxes}</div>"


def _text(pages: Sequence[Page], part: _Part, seen: Mapping[str, Any]) -> str:
    """The text of a part with the passage tinted and the sentence that matters marked."""
    text = "".join(page.text for page in pages)[part.start : part.end]
    start, end = (each - part.start for each in seen["spans"])
    if not seen["quote"]:
        return f"<pre>{mark(text, [(start, end)], _HIT)}</pre>"
    first, last = (each - part.start for each in seen["quote"])
    pieces = [(start, first, _NEAR), (first, last, _HIT), (last, end, _NEAR)]
    shown, done = [], 0
    for low, high, kind in pieces:
        low, high = max(done, low), min(len(text), high)
        if low < high:
            shown += [html.escape(text[done:low]), mark(text[low:high], [(0, high - low)], kind)]
            done = high
    return f"<pre>{''.join(shown)}{html.escape(text[done:])}</pre>"


_HIT, _NEAR = "mark class='hit'", "mark class='near'"
