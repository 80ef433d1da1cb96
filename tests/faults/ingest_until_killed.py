"""What the kill test kills: checks what earlier processes were told is safe, then takes further files in and says so after each batch."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

from llmops_kit import open_kit
from llmops_kit.kit import Kit
from llmops_kit.types import Chunk, Collection, Document, Page

BATCH = 4


def phrase(number: int) -> str:
    """What only the file of this number says."""
    return f"備品番号{number:05}"


def write_file(folder: Path, number: int) -> Path:
    """A file of its own size and, in turns, of its own kind."""
    path = folder / (f"{number:05}.md" if number % 3 else f"{number:05}.html")
    body = f"{phrase(number)}は倉庫{number % 7}番にあります。" + "棚卸しは毎月行います。" * (number % 50)
    path.write_text(body if number % 3 else f"<html><body><h1>{number}</h1><p>{body}</p></body></html>", encoding="utf-8")
    return path


def verify(kit: Kit, told: list[str]) -> None:
    """Everything that was acknowledged is there, found, whole and single; nothing else is half there."""
    documents = kit.store.find(Document, newest_first=False)
    names = [document.name for document in documents]
    assert len(names) == len(set(names)), "doubled"
    ready = {document.name for document in documents if document.state == "ready"}
    assert set(told) <= ready, f"lost: {set(told) - ready}"
    for document in documents:
        chunks = kit.store.find(Chunk, document_id=document.id, newest_first=False)
        pages = kit.store.find(Page, document_id=document.id, newest_first=False)
        if document.state == "ready":
            assert chunks and len(chunks) == document.chunks, f"half: {document.name}"
            assert "".join(chunk.text for chunk in chunks) == "".join(page.text for page in pages), f"half: {document.name}"
        else:
            assert document.state in ("waiting", "reading") and not chunks, f"{document.name}: {document.state} with {len(chunks)} chunks"
    for mode in ("lexical", "dense", "hybrid"):
        for name in told[-3:] if mode != "lexical" else told:
            found = kit.documents.search(phrase(int(name.partition(".")[0])), k=10, mode=mode)
            assert mode == "dense" or found[0].document == name, f"{mode}: {name} not first"
            assert len({source.chunk_id for source in found}) == len(found), "doubled in the index"
    if told:
        everything = kit.documents.search("備品番号は倉庫にあります", k=200)
        assert len({source.chunk_id for source in everything}) == len(everything) and {source.document for source in everything} <= ready


def main(workspace: Path, folder: Path, told_file: Path) -> None:
    told = told_file.read_text().split() if told_file.exists() else []
    with open_kit(workspace) as kit, told_file.open("a") as said:
        if kit.store.count(Collection):
            verify(kit, told)
        take_in(kit, folder, said)
        print("verified", flush=True)  # from here on it may be killed: what is loaded once is loaded
        for _ in kit.documents.resume():
            pass
        while True:
            take_in(kit, folder, said)


def take_in(kit: Kit, folder: Path, said: TextIO) -> None:
    """A batch, and a durable note that it was acknowledged."""
    first = len(list(folder.iterdir()))
    batch = [write_file(folder, number) for number in range(first, first + BATCH)]
    table = kit.documents.add(batch, progress=False)
    assert set(table["state"]) == {"ready"}, table
    said.write("".join(f"{name}\n" for name in table["name"]))
    said.flush()
    os.fsync(said.fileno())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
