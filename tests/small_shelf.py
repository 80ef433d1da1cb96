"""A small collection put straight into the store and indexed, so that tests of answers do not depend on how files are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from llmops_kit.documents.preparation import cut, embed, read_chunker
from llmops_kit.kit import Kit
from llmops_kit.types import Collection, Document, Page, new_id, now

PDF = "pdf"


def put_documents(
    kit: Kit, texts: Mapping[str, str | Sequence[str]], *, collection: str = "default", hidden: Sequence[str] = (), size: int = 400
) -> Collection:
    """Make `collection` of files by name: a text without pages, or a list of pages (a PDF). Those in `hidden` have text nobody sees."""
    documents = kit.documents
    found = replace(documents.shelves.open(collection, "local"), chunker=f"sentences-1:{size}")
    for name, text in texts.items():
        read = [text] if isinstance(text, str) else list(text)
        document = Document(new_id(), now(), found.id, "local", name, "0" * 64, 1, kind="txt" if isinstance(text, str) else PDF, state="ready", generation=1)
        pages = [
            Page(f"{document.id}:{number}", document.id, number, f"{one}\n", facts={"has_hidden_text": name in hidden}) for number, one in enumerate(read, 1)
        ]
        made, found = embed(kit.models, found, cut(document, found, pages, read_chunker(found)))
        with documents.store.change() as change:
            change.put(found)
            change.put(replace(document, pages=len(pages), chunks=len(made), characters=sum(len(page.text) for page in pages)))
            change.put_all(pages)
            change.put_all(made)
    documents.retrieval.index().sync(found)
    return found
