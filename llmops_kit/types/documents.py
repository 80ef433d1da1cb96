"""What the kit keeps of people's documents: collections, files, the pages read from them, and the chunks that are searched."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

DocumentState = Literal["waiting", "reading", "read", "ready", "asks", "quarantined"]
"""`waiting`: the file is kept, to be read. `reading`: somebody reads it. `read`: its pages are kept and may be looked over.

`ready`: cut, embedded and searchable. `asks`: it needs an answer (which encoding, which password). `quarantined`: not
read, with a reason.
"""


@dataclass(frozen=True)
class Collection:
    """Documents that are searched together, and how they are cut and embedded (nothing else may be mixed in).

    `owner` is the participant it belongs to; `shared` lets everybody in the workspace search it. `embedder_revision` and
    `dimensions` are those of the vectors it holds, empty until it holds one. `chunker` is the chunker's name with its
    size in characters.
    """

    id: str
    created_at: datetime
    owner: str
    name: str
    shared: bool = False
    embedder: str = "starter-embed"
    embedder_revision: str | None = None
    dimensions: int = 0
    chunker: str = "sentences-1:400"
    tokenizer: str = "ngrams-1"


@dataclass(frozen=True)
class Document:
    """One file of a collection: its bytes by hash, how it was read, and how far it is.

    `generation` grows whenever what is indexed of it changes. `wanted` is the state it is to reach by itself, `ready` or
    `read` (stop for a look). `reason` says in both languages why it asks or is quarantined. `warnings` are keys of
    what the quality report found. `options` are those it was read with.
    """

    id: str
    created_at: datetime
    collection_id: str
    owner: str
    name: str
    sha256: str
    size_bytes: int
    kind: str = ""
    state: DocumentState = "waiting"
    wanted: str = "ready"
    generation: int = 0
    reader: str = ""
    encoding: str = ""
    reason: Mapping[str, str] | None = None
    warnings: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    dated: str | None = None
    pages: int = 0
    characters: int = 0
    chunks: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Page:
    """The text of one page, slide or sheet (`number` from 1), or of a whole file without pages. It ends with a line end.

    `facts` are the quality report's figures for it. A dropped page stays here and is searched no more.
    """

    id: str
    document_id: str
    number: int
    text: str
    label: str = ""
    dropped: bool = False
    reader: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Chunk:
    """A piece of a document that is searched as one.

    `start` and `end` are character offsets into the document's text, which is the text of its pages that are not dropped, one
    after the other; the chunks of a document, joined, are that text. `page` is where it starts (None: the file has no
    pages), `line` counts from 1. `vector` is the embedding of `indexed_text`: float16, length 1, as bytes.
    """

    id: str
    document_id: str
    collection_id: str
    position: int
    start: int
    end: int
    page: int | None
    line: int
    heading: str
    text: str
    vector: bytes = field(default=b"", repr=False)

    @property
    def indexed_text(self) -> str:
        """What is searched: the text under its heading."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text
