"""Taking documents in: kept, read in a guarded process, cut, embedded, stored in one transaction, indexed.

A document is acknowledged (`ready`) when its chunks and vectors are durable in the store; a kill at any moment leaves it either
so, or waiting, and `Ingestion.work` goes on with what waits.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llmops_kit.documents import preparation
from llmops_kit.documents.files import KeptFiles
from llmops_kit.documents.outcomes import describe_reading, empty_reason, warn_languages
from llmops_kit.documents.preparation import Prepared
from llmops_kit.documents.readers import LOOK_S, Cancel, Readers, Stop
from llmops_kit.errors import Cancelled
from llmops_kit.store import Store
from llmops_kit.types import Chunk, Collection, Document, Page

if TYPE_CHECKING:
    from llmops_kit.documents.index import Index
    from llmops_kit.models import Models

_COMMIT_CHARACTERS = 400_000
_COMMIT_S = 2.0
_COMMIT_DOCUMENTS = 500
"""Documents become ready together until they are this many, this long, or the oldest has waited this many seconds."""
_COMMIT_READ = 50
"""As many at a time of documents that were read already; their pages may be many."""
_SAID = ("name", "tags", "dated")
"""What a person may say of a document while it is taken in: what is there when it is stored stays."""


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
        self._readers = Readers(files)
        self._lock = threading.Lock()
        self._claimed: set[str] = set()
        self._turns: dict[str, threading.RLock] = {}

    @property
    def under_way(self) -> int:
        """How many documents are being taken in at this moment."""
        return len(self._claimed)

    def work(self, documents: Sequence[Document], *, password: str | None = None, cancel: Cancel | None = None) -> Iterator[Step]:
        """Read, cut, embed, store and index `documents`, a step for each that is done; those somebody else works on are left out.

        When `cancel` is set, or the iterator is closed, what is not done yet stays as it is. `password` opens the files and is kept nowhere.
        """
        stop = Stop(cancel)
        mine = self._claim(documents)
        try:
            yield from self._steps(mine, stop, password)
        except Cancelled:
            if not stop.is_cancelled():
                raise
        finally:
            stop.ended.set()
            with self._lock:
                self._claimed.difference_update(each.id for each in mine)

    def take_texts(self, texts: Sequence[tuple[Document, tuple[Page, ...]]], *, cancel: Cancel | None = None) -> Iterator[Step]:
        """Make texts ready that need no reading, some hundred in each transaction; a step for each. Raises: Cancelled."""
        started, done = time.monotonic(), 0
        documents, stop = [document for document, _ in texts], Stop(cancel)
        for place in range(0, len(texts), _COMMIT_DOCUMENTS):
            stop.check()
            for outcome in self._finish(texts[place : place + _COMMIT_DOCUMENTS], stop, stored=False):
                done += 1
                yield self._step(done, documents, done, outcome, started)

    def index_read(self, documents: Sequence[Document], *, cancel: Cancel | None = None) -> None:
        """Make those documents ready that were read for a look, some in each transaction. Raises: Cancelled."""
        stop = Stop(cancel)
        for collection_id in dict.fromkeys(each.collection_id for each in documents):
            ids = [each.id for each in documents if each.collection_id == collection_id]
            for place in range(0, len(ids), _COMMIT_READ):
                with self.alone(collection_id, stop):  # nobody leaves out pages meanwhile
                    read = self._store.find(Document, id=ids[place : place + _COMMIT_READ], state="read", newest_first=False)
                    pages: dict[str, list[Page]] = {each.id: [] for each in read}
                    for page in self._store.find(Page, document_id=list(pages), newest_first=False):
                        pages[page.document_id].append(page)
                    self._finish([(replace(each, wanted="ready"), tuple(pages[each.id])) for each in read], stop)

    @contextmanager
    def alone(self, collection_id: str, stop: Stop | None = None) -> Iterator[None]:
        """One thread at a time cuts and embeds for a collection and stores it: else what it is made with could change in between.

        Raises: Cancelled, where `stop` is cancelled before its turn comes.
        """
        with self._lock:
            turn = self._turns.setdefault(collection_id, threading.RLock())
        while not turn.acquire(timeout=LOOK_S):
            if stop is not None:
                stop.check()
        try:
            yield
        finally:
            turn.release()

    def make_ready(self, document: Document, collection: Collection, pages: Sequence[Page]) -> None:
        """Index the pages of a read document as its next generation; where they have no text, it is searched no more. Call it `alone`.

        Raises: InvalidValue (mixed embedders), a `ModelError` of the embedder.
        """
        (prepared,), collection = self._prepare([(document, tuple(pages))], collection, Stop())
        if prepared.document.state == "ready":
            self.store_ready([prepared], collection)
            return
        with self._store.change() as change:
            if there := change.find(Document, id=document.id):
                change.remove(Chunk, document_id=document.id)
                change.put_all(prepared.pages)
                change.put(_as_said(prepared.document, there[0]))
        self.sync(collection.id)

    def store_ready(self, prepared: Sequence[Prepared], collection: Collection, *, stored: bool = True) -> list[Document]:
        """Make documents searchable: chunks, pages and state in one transaction, with what they replace gone; then index them.

        What was removed meanwhile stays removed (those not `stored` are new with this). The documents as they are now.
        """
        replaced = {id for each in prepared for id in each.document.options.get("replaces", ())}
        kept = [each for each in prepared if each.document.id not in replaced]
        with self._store.change() as change:
            if not change.find(Collection, id=collection.id):
                return []
            there = {each.id: each for each in change.find(Document, id=[each.document.id for each in kept])}
            kept = [each for each in kept if not stored or each.document.id in there]
            gone = change.find(Document, id=list(replaced), collection_id=collection.id)
            ids = [each.document.id for each in kept]
            settled = [_settled(_as_said(each.document, there.get(each.document.id))) for each in kept]
            change.update(Collection, collection.id, embedder_revision=collection.embedder_revision, dimensions=collection.dimensions)
            for kind in (Chunk, Page):
                change.remove(kind, document_id=[*ids, *(each.id for each in gone)])
            change.remove(Document, id=[each.id for each in gone])
            change.put_all(page for each in kept for page in each.pages)
            change.put_all(chunk for each in kept for chunk in each.chunks)
            change.put_all(settled)
        self.forget_files(gone)
        self.sync(collection.id)
        return settled

    def sync(self, collection_id: str) -> None:
        """Bring the index of a collection up to the store, if the collection is still there."""
        collection = self._store.get(Collection, collection_id)
        if collection is not None:
            self._index().sync(collection)

    def forget_files(self, documents: Sequence[Document]) -> None:
        """Remove the kept files that only these documents, gone by now, had needed."""
        self._files.forget_all({each.sha256 for each in documents}, self._store)

    def find_unclaimed(self, documents: Sequence[Document]) -> list[Document]:
        """Those of `documents` nobody is taking in at this moment."""
        with self._lock:
            return [each for each in documents if each.id not in self._claimed]

    def _claim(self, documents: Sequence[Document]) -> list[Document]:
        with self._lock:
            mine = [each for each in documents if each.id not in self._claimed]
            self._claimed.update(each.id for each in mine)
        return mine

    def _steps(self, documents: Sequence[Document], stop: Stop, password: str | None) -> Iterator[Step]:
        started, pages, done = time.monotonic(), 0, 0
        waiting: list[tuple[Document, tuple[Page, ...]]] = []
        since = started
        with closing(self._readers.read_all(documents, stop, password)) as readings:
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
                    for outcome in self._finish(waiting, stop):
                        done += 1
                        yield self._step(done, documents, pages, outcome, started)
                    waiting, since = [], time.monotonic()
        if not stop.is_cancelled():
            for outcome in self._finish(waiting, stop):
                done += 1
                yield self._step(done, documents, pages, outcome, started)

    def _step(self, done: int, documents: Sequence[Document], pages: int, outcome: Document, started: float) -> Step:
        left = (time.monotonic() - started) / done * (len(documents) - done)
        return Step(done, len(documents), pages, outcome, left)

    def _finish(self, waiting: Sequence[tuple[Document, tuple[Page, ...]]], stop: Stop, *, stored: bool = True) -> list[Document]:
        """Make read documents ready, collection by collection; what each became. Those `stored` may have been removed or indexed anew meanwhile.

        Raises: Cancelled, before anything of a collection is stored.
        """
        finished: list[Document] = []
        for collection_id in dict.fromkeys(document.collection_id for document, _ in waiting):
            with self.alone(collection_id, stop):
                collection = self._store.get(Collection, collection_id)
                if collection is None:  # removed meanwhile, with all its documents
                    continue
                group = [(document, pages) for document, pages in waiting if document.collection_id == collection_id]
                if stored:
                    now = dict(self._store.values(Document, ("id", "generation"), id=[document.id for document, _ in group]))
                    dropped = self._find_dropped([document.id for document, _ in group])
                    group = [(replace(document, generation=now[document.id]), _drop(pages, dropped)) for document, pages in group if document.id in now]
                prepared, collection = self._prepare(group, collection, stop)
                finished += self.store_ready([each for each in prepared if each.document.state == "ready"], collection, stored=stored)
                for each in prepared:
                    if each.document.state != "ready":
                        self._store_unready(each.document, each.pages)
                        finished.append(each.document)
        return finished

    def _prepare(self, group: Sequence[tuple[Document, tuple[Page, ...]]], collection: Collection, stop: Stop) -> tuple[list[Prepared], Collection]:
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
        embedded, collection = preparation.embed(self._models, collection, [chunk for chunks in cuts for chunk in chunks], check=stop.check)
        embedder, place, prepared = self._models.embedder(collection.embedder), 0, []
        for outcome, chunks, (_, pages) in zip(outcomes, cuts, group, strict=True):
            made = embedded[place : place + len(chunks)]
            place += len(chunks)
            prepared.append(Prepared(warn_languages(outcome, pages, embedder), pages, tuple(made)))
        return prepared, collection

    def _store_unready(self, document: Document, pages: Sequence[Page]) -> None:
        """Keep what was read without making it searchable. What is searched stays as it is, its own earlier reading included.

        Earlier tries it was to replace that came to nothing either go.
        """
        pages = _drop(pages, self._find_dropped([document.id]))
        with self._store.change() as change:
            there = change.find(Document, id=document.id)
            if not there or there[0].state == "ready":
                return
            failed = change.find(Document, id=list(document.options.get("replaces", ())), state=["waiting", "asks", "quarantined"])
            change.remove(Page, document_id=[document.id, *(each.id for each in failed)])
            change.remove(Document, id=[each.id for each in failed])
            change.put_all(pages)
            change.put(_as_said(document, there[0]))
        self.forget_files(failed)


    def _find_dropped(self, ids: Sequence[str]) -> set[str]:
        return {id for (id,) in self._store.values(Page, ("id",), document_id=list(ids), dropped=True)}


def _drop(pages: Sequence[Page], dropped: set[str]) -> tuple[Page, ...]:
    """The pages, with those left out that were left out before they were read again."""
    return tuple(replace(page, dropped=True) if page.id in dropped else page for page in pages)


def _as_said(document: Document, there: Document | None) -> Document:
    """The document with what its owner said of it meanwhile."""
    return document if there is None else replace(document, **{name: getattr(there, name) for name in _SAID})


def _settled(document: Document) -> Document:
    """The document without the note of what it was to replace."""
    return replace(document, options={name: value for name, value in document.options.items() if name != "replaces"})
