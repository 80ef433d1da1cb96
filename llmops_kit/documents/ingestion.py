"""Taking documents in: kept, read in a guarded process, cut, embedded, stored in one transaction, indexed.

A document is acknowledged (`ready`) when its chunks and vectors are durable in the store; a kill at any moment leaves it either
so, or waiting, and `Ingestion.work` goes on with what waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol

from llmops_kit.documents import preparation
from llmops_kit.documents.files import KeptFiles
from llmops_kit.documents.outcomes import describe_reading, empty_reason, warn_languages
from llmops_kit.documents.preparation import Prepared
from llmops_kit.documents.reading import Guard, Reading, ReadOptions
from llmops_kit.store import Store
from llmops_kit.types import Chunk, Collection, Document, Page

if TYPE_CHECKING:
    from llmops_kit.documents.index import Index
    from llmops_kit.models import Models

_LOOK_S = 0.1
READERS = 2
"""Files read at a time, by all people together: each may take a processor and a gigabyte."""
_COMMIT_CHARACTERS = 400_000
_COMMIT_S = 2.0
_COMMIT_DOCUMENTS = 500
"""Documents become ready together until they are this many, this long, or the oldest has waited this many seconds."""


class Cancel(Protocol):
    """Anything that says whether somebody cancelled, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to stop."""


@dataclass(frozen=True)
class Step:
    """How far an ingestion is: files done of all, pages read so far, the file just finished, and the seconds left if known."""

    done: int
    total: int
    pages: int
    document: Document | None
    seconds_left: float | None


class Ingestion:
    """Carries documents from `waiting` to where they are wanted. Several people's ingestions may run at once."""

    def __init__(self, store: Store, models: Models, files: KeptFiles, index: Callable[[], Index]) -> None:
        self._store = store
        self._models = models
        self._files = files
        self._index = index
        self._reading = threading.BoundedSemaphore(READERS)
        self._lock = threading.Lock()
        self._claimed: set[str] = set()

    @property
    def under_way(self) -> int:
        """How many documents are being taken in at this moment."""
        return len(self._claimed)

    def work(self, documents: Sequence[Document], *, password: str | None = None, cancel: Cancel | None = None) -> Iterator[Step]:
        """Read, cut, embed, store and index `documents`, a step for each that is done; those somebody else works on are left out.

        When `cancel` is set, or the iterator is closed, what is not done yet stays as it is. `password` opens the files and is kept nowhere.
        """
        ended = threading.Event()  # ours: the caller's event may be shared by several calls
        mine = self._claim(documents)
        try:
            yield from self._steps(mine, _Stop(ended, cancel), password)
        finally:
            ended.set()
            with self._lock:
                self._claimed.difference_update(each.id for each in mine)

    def take_texts(self, texts: Sequence[tuple[Document, tuple[Page, ...]]], *, cancel: Cancel | None = None) -> Iterator[Step]:
        """Make texts ready that need no reading, some hundred in each transaction; a step for each."""
        started, done = time.monotonic(), 0
        documents = [document for document, _ in texts]
        for place in range(0, len(texts), _COMMIT_DOCUMENTS):
            if cancel is not None and cancel.is_set():
                return
            for outcome in self._finish(texts[place : place + _COMMIT_DOCUMENTS], stored=False):
                done += 1
                yield self._step(done, documents, done, outcome, started)

    def prepare(self, document: Document, collection: Collection, pages: Sequence[Page]) -> tuple[Prepared, Collection]:
        """Cut and embed the pages of one document for its next generation; the collection says by what.

        Raises: InvalidValue (mixed embedders), a `ModelError` of the embedder.
        """
        prepared, collection = self._prepare([(document, tuple(pages))], collection)
        return prepared[0], collection

    def store_ready(self, prepared: Sequence[Prepared], collection: Collection) -> None:
        """Make documents searchable: chunks, pages and state in one transaction, with what they replace gone; then index them."""
        replaced = [id for each in prepared for id in each.document.options.get("replaces", ())]
        ids = [each.document.id for each in prepared]
        gone = self._store.find(Document, id=replaced) if replaced else []
        with self._store.change() as change:
            change.put(collection)
            for kind in (Chunk, Page):
                change.remove(kind, document_id=[*ids, *replaced])
            change.remove(Document, id=replaced)
            change.put_all(page for each in prepared for page in each.pages)
            change.put_all(chunk for each in prepared for chunk in each.chunks)
            change.put_all(_settled(each.document) for each in prepared)
        self.forget_files(gone)
        self._index().sync(collection)

    def forget_files(self, documents: Sequence[Document]) -> None:
        """Remove the kept files that only these documents, gone by now, had needed."""
        for sha256 in {each.sha256 for each in documents}:
            if not self._store.count(Document, sha256=sha256):
                self._files.forget(sha256)

    def _claim(self, documents: Sequence[Document]) -> list[Document]:
        with self._lock:
            mine = [each for each in documents if each.id not in self._claimed]
            self._claimed.update(each.id for each in mine)
        return mine

    def _steps(self, documents: Sequence[Document], stop: _Stop, password: str | None) -> Iterator[Step]:
        started, pages, done = time.monotonic(), 0, 0
        waiting: list[tuple[Document, tuple[Page, ...]]] = []
        since = started
        with closing(self._read_all(documents, stop, password)) as readings:
            for document, reading in readings:
                outcome, kept = describe_reading(document, reading)
                pages += len(kept)
                if outcome.state == "read" and outcome.wanted == "ready":
                    waiting.append((outcome, kept))
                else:
                    self._store_unready(outcome, kept)
                    done += 1
                    yield self._step(done, documents, pages, outcome, started)
                size = sum(outcome.characters for outcome, _ in waiting)
                late = time.monotonic() - since > _COMMIT_S
                if waiting and (late or size > _COMMIT_CHARACTERS or len(waiting) >= _COMMIT_DOCUMENTS or done + len(waiting) == len(documents)):
                    for outcome in self._finish(waiting):
                        done += 1
                        yield self._step(done, documents, pages, outcome, started)
                    waiting, since = [], time.monotonic()
        if not stop.is_cancelled():
            for outcome in self._finish(waiting):
                done += 1
                yield self._step(done, documents, pages, outcome, started)

    def _step(self, done: int, documents: Sequence[Document], pages: int, outcome: Document, started: float) -> Step:
        left = (time.monotonic() - started) / done * (len(documents) - done)
        return Step(done, len(documents), pages, outcome, left)

    def _finish(self, waiting: Sequence[tuple[Document, tuple[Page, ...]]], *, stored: bool = True) -> list[Document]:
        """Make read documents ready, collection by collection; what each became. Those `stored` may have been removed meanwhile."""
        finished: list[Document] = []
        for collection_id in dict.fromkeys(document.collection_id for document, _ in waiting):
            collection = self._store.get(Collection, collection_id)
            if collection is None:  # removed meanwhile, with all its documents
                continue
            group = [(document, pages) for document, pages in waiting if document.collection_id == collection_id]
            if stored:
                there = {id for (id,) in self._store.values(Document, ("id",), id=[document.id for document, _ in group])}
                group = [(document, pages) for document, pages in group if document.id in there]
            prepared, collection = self._prepare(group, collection)
            self.store_ready([each for each in prepared if each.document.state == "ready"], collection)
            for each in prepared:
                if each.document.state != "ready":
                    self._store_unready(each.document, each.pages)
                finished.append(each.document)
        return finished

    def _prepare(self, group: Sequence[tuple[Document, tuple[Page, ...]]], collection: Collection) -> tuple[list[Prepared], Collection]:
        size = preparation.read_chunker(collection)
        cuts, outcomes = [], []
        for document, pages in group:
            document = replace(document, generation=document.generation + 1)
            chunks = preparation.cut(document, collection, pages, size)
            has_text = any(chunk.text.strip() for chunk in chunks)
            cuts.append(chunks if has_text else [])
            state: Any = "ready" if has_text else "quarantined"
            characters = sum(len(page.text) for page in pages if not page.dropped)
            reason = None if has_text else empty_reason(document, pages)
            outcomes.append(replace(document, state=state, reason=reason, chunks=len(cuts[-1]), characters=characters))
        embedded, collection = preparation.embed(self._models, collection, [chunk for chunks in cuts for chunk in chunks])
        embedder, place, prepared = self._models.embedder(collection.embedder), 0, []
        for outcome, chunks, (_, pages) in zip(outcomes, cuts, group, strict=True):
            made = embedded[place : place + len(chunks)]
            place += len(chunks)
            prepared.append(Prepared(warn_languages(outcome, pages, embedder), pages, tuple(made)))
        return prepared, collection

    def _store_unready(self, document: Document, pages: Sequence[Page]) -> None:
        """Keep what was read without making it searchable. What it would replace stays as it is, its own earlier reading included."""
        if self._store.count(Document, id=document.id, state=["waiting", "reading", "read", "asks", "quarantined"]) == 0:
            return
        with self._store.change() as change:
            change.remove(Page, document_id=document.id)
            change.put_all(pages)
            change.put(document)

    def _read_all(self, documents: Sequence[Document], stop: _Stop, password: str | None) -> Generator[tuple[Document, Reading], None, None]:
        """Read files, two at a time; each reading is given as soon as those before it are."""
        guards = _Guards()
        with ThreadPoolExecutor(READERS, thread_name_prefix="document reader") as pool:
            try:
                ahead = iter(documents)
                queue = deque((each, pool.submit(self._read, each, guards, stop, password)) for each in islice(ahead, READERS * 4))
                while queue and not stop.is_set():
                    document, future = queue.popleft()
                    while not stop.is_set() and not wait([future], timeout=_LOOK_S).done:
                        pass
                    reading = future.result() if future.done() else None
                    if (following := next(ahead, None)) is not None:
                        queue.append((following, pool.submit(self._read, following, guards, stop, password)))
                    if reading is not None:
                        yield document, reading
            finally:
                stop.ended.set()
                guards.stop()

    def _read(self, document: Document, guards: _Guards, stop: _Stop, password: str | None) -> Reading | None:
        with self._reading:
            if stop.is_set():
                return None
            options = ReadOptions.from_dict({**document.options, "password": password})
            reading = guards.mine().read(self._files.path(document.sha256), document.name, options)
            return None if stop.is_set() else reading


@dataclass(frozen=True)
class _Stop:
    """Whether to go on: this ingestion has not ended, and nobody cancelled it."""

    ended: threading.Event
    cancelled: Cancel | None

    def is_set(self) -> bool:
        return self.ended.is_set() or self.is_cancelled()

    def is_cancelled(self) -> bool:
        return self.cancelled is not None and self.cancelled.is_set()


class _Guards:
    """A guarded reader process for each thread that reads, all stopped together."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._all: list[Guard] = []
        self._lock = threading.Lock()

    def mine(self) -> Guard:
        if not hasattr(self._local, "guard"):
            guard = Guard()
            self._local.guard = guard
            with self._lock:
                self._all.append(guard)
        held: Guard = self._local.guard
        return held

    def stop(self) -> None:
        with self._lock:
            for guard in self._all:
                guard.stop()
            for guard in self._all:
                guard.close()


def _settled(document: Document) -> Document:
    """The document without the note of what it was to replace."""
    return replace(document, options={name: value for name, value in document.options.items() if name != "replaces"})
