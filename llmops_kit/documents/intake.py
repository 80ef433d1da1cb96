"""What changes documents: adding, reading again, leaving pages out, rebuilding, removing; each through the one ingestion."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmops_kit.documents.collections import Collections, Participants
from llmops_kit.documents.files import Incoming, find_files
from llmops_kit.documents.ingestion import Ingestion, Step
from llmops_kit.documents.outcomes import PASTED, describe_text, storable_text
from llmops_kit.documents.rebuilding import Rebuilding
from llmops_kit.documents.receiving import Named, Received, Receiving
from llmops_kit.documents.removal import Removal
from llmops_kit.errors import Cancelled, InvalidValue, KitError, WorkspaceError
from llmops_kit.progress import show_progress
from llmops_kit.types import Collection, Document, Page

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.documents.retrieval import Retrieval
    from llmops_kit.models import Models
    from llmops_kit.settings import Settings
    from llmops_kit.store import Store

_log = logging.getLogger(__name__)
PDF_READERS = ("pdfium", "pypdf")


class Intake:
    """Everything that changes what is searched, in the name of a participant who owns it."""

    def __init__(self, store: Store, models: Models, settings: Settings, shelves: Collections, retrieval: Retrieval) -> None:
        self._store = store
        self._models = models
        self._shelves = shelves
        self._retrieval = retrieval
        self._receiving = Receiving(store, retrieval.files, max_file_mb=settings.max_upload_mb, max_person_mb=settings.max_documents_mb)
        self._ingestion = Ingestion(store, models, retrieval.files, retrieval.index)
        self._removal = Removal(store, self._ingestion, retrieval)
        self._closing = threading.Event()
        self._rebuilding = Rebuilding(store, models, self._ingestion, retrieval, self._closing)

    def add(self, paths: Any, collection: str, participant: Participants, *, progress: Any, **how: Any) -> pd.DataFrame:
        """See `Documents.add`."""
        outcome: dict[str, Any] = {}
        with show_progress(progress, "file") as report:
            for step in self.take_in(paths, collection, participant, outcome=outcome, **how):
                report(step.done, step.total, step.seconds_left)
        return self.tell(outcome["received"])

    def take_in(
        self,
        paths: Any,
        collection: str,
        participant: Participants,
        *,
        review: bool = False,
        options: Mapping[str, Any] | None = None,
        told: Mapping[str, Any] | None = None,
        password: str | None = None,
        cancel: threading.Event | None = None,
        outcome: dict[str, Any] | None = None,
    ) -> Iterator[Step]:
        """Take in files with a step for each that is done. `outcome` is given the `received` files before the first step.

        What a cancel leaves unread is put away again, so that it is not read at the next start.
        """
        self._retrieval.index()  # a workspace in use elsewhere says so before anything is kept
        given = _check_options(options or {})
        incoming = paths if paths and isinstance(paths, list) and isinstance(paths[0], Incoming) else find_files(paths)
        home = self._shelves.open(collection, participant)
        received = self._receiving.receive(incoming, home, wanted="read" if review else "ready", options=given, password=password, **(told or {}))
        if outcome is not None:
            outcome["received"] = received
        fresh = [each.document for each in received if each.is_new and each.document is not None]
        try:
            yield from self._work(fresh, password=password, cancel=cancel)
        except GeneratorExit:
            self._removal.remove_unread(fresh)
            raise
        if cancel is not None and cancel.is_set():
            self._removal.remove_unread(fresh)

    def tell(self, received: Sequence[Received]) -> pd.DataFrame:
        """What became of received files, one row each."""
        from llmops_kit.documents.library import describe

        ids = [each.document.id for each in received if each.document is not None]
        now = {document.id: document for document in self._store.find(Document, id=ids)} if ids else {}
        return describe([(each.name, now.get(each.document.id) if each.document else None, each.reason) for each in received])

    def add_texts(self, texts: Mapping[str, str], collection: str, participant: Participants, *, tags: tuple[str, ...] = ()) -> pd.DataFrame:
        """Texts that need no reading: their page is all that is kept of them."""
        if empty := [name for name, text in texts.items() if not text.strip() or not name.strip()]:
            raise InvalidValue(
                en=f"The text “{empty[0]}” is empty or has no name. Paste some text and give it a name.",
                ja=f"テキスト「{empty[0]}」が空か、名前がありません。テキストと名前を入れてください。",
                name="text",
                value=empty[0],
            )
        self._retrieval.index()
        home = self._shelves.open(collection, participant)
        given = {(name if "." in name[-6:] else f"{name}.txt"): storable_text(text) for name, text in texts.items()}
        named = [Named(name, *_measure(text)) for name, text in given.items()]
        with self._ingestion.alone(home.id):  # two texts of one name at once: the second finds the first
            received = self._receiving.match(named, home, tags=tags)
            self._receiving.check_room(home.owner, received)
            fresh = [(each.document, given[each.name]) for each in received if each.is_new and each.document is not None]
            for _ in self._ingestion.take_texts([describe_text(document, text) for document, text in fresh], cancel=self._closing):
                pass
        return self.tell(received)

    def index(self, ids: Sequence[str], participant: Participants) -> pd.DataFrame:
        """Make read documents ready."""
        from llmops_kit.documents.library import describe

        documents = [self._shelves.own_document(id, participant) for id in ids]
        self._retrieval.index()
        self._ingestion.index_read([document for document, _ in documents], cancel=self._closing)
        now = [self._store.get(Document, document.id) for document, _ in documents]
        return describe([(each.name, each, None) for each in now if each is not None])

    def reread(self, id: str, participant: Participants, options: Mapping[str, Any]) -> pd.DataFrame:
        """Read a document again; what was searched stays where the new reading is not searchable, and the table says why."""
        from llmops_kit.documents.library import describe

        document, _ = self._shelves.own_document(id, participant)
        if document.reader == PASTED:
            raise InvalidValue(
                en=f"“{document.name}” was pasted, so there is no file to read again. Paste the text anew under the same name.",
                ja=f"「{document.name}」は貼り付けたテキストなので、読み直すファイルがありません。同じ名前で貼り付け直してください。",
                name="id",
                value=id,
            )
        self._retrieval.index()
        password = options.get("password")
        given = {**document.options, **_check_options({name: value for name, value in options.items() if name != "password"})}
        again = replace(document, state="waiting", reason=None, options=given)
        steps = list(self._work([again], password=password))
        return describe([(document.name, step.document, None) for step in steps])

    def drop_pages(self, id: str, numbers: Sequence[int], participant: Participants) -> pd.DataFrame:
        """Leave pages out and index the rest anew."""
        _, collection = self._shelves.own_document(id, participant)
        self._retrieval.index()
        with self._ingestion.alone(collection.id):
            document, collection = self._shelves.own_document(id, participant)
            pages = self._pages(document)
            if unknown := sorted(set(numbers) - {page.number for page in pages}):
                raise InvalidValue(name="pages", value=", ".join(map(str, unknown[:20])), allowed=f"1–{len(pages)}")
            pages = tuple(replace(page, dropped=page.number in set(numbers)) for page in pages)
            if document.state == "ready" or (document.state == "quarantined" and pages):
                self._ingestion.make_ready(document, collection, pages)
            else:
                with self._store.change() as change:
                    change.put_all(pages)
        return self.tell([Received(document.name, document, True)])

    def resume(self) -> Iterator[Step]:
        """Go on with what waits, of everybody. What one collection lacks (its embedder, say) is in the log and holds up no other."""
        self._retrieval.index()
        waiting = self._store.find(Document, state=["waiting", "reading"], newest_first=False)
        for collection_id in dict.fromkeys(each.collection_id for each in waiting):
            its = [each for each in waiting if each.collection_id == collection_id]
            if self._store.get(Collection, collection_id) is None:
                self._removal.remove_unread(its)
                continue
            try:
                yield from self._work(its)
            except Cancelled:
                raise
            except KitError as error:
                _log.warning("documents of the collection %s wait on: %s", collection_id, error.text("en"))

    def catch_up(self) -> None:
        """Open the index, bring it up to the store, and go on with what waits; faults go to the log."""
        try:
            self._retrieval.index()
            for collection in self._store.find(Collection):
                try:
                    self._ingestion.sync(collection.id)
                except WorkspaceError as error:
                    _log.warning("documents: %s", error.text("en"))
            for _ in self.resume():
                pass
        except KitError as error:
            _log.warning("documents: %s", error.text("en"))

    def rebuild(
        self, collection: str, participant: Participants, *, embedder: str | None, chunk_size: int | None, progress: Any
    ) -> Collection:
        """See `Documents.rebuild`."""
        old = self._shelves.own(collection, participant)
        self._retrieval.index()
        return self._rebuilding.rebuild(old.id, embedder=embedder, chunk_size=chunk_size, progress=progress)

    def remove(self, id: str, participant: Participants) -> None:
        """Remove a document and every trace of it."""
        document, _ = self._shelves.own_document(id, participant)
        self._retrieval.index()
        self._removal.remove([document])

    def remove_collection(self, name: str, participant: Participants) -> None:
        """Remove a collection and every trace of its documents."""
        self._removal.remove_collection(self._shelves.own(name, participant))

    def close(self) -> None:
        """Stop what is being taken in; it waits for the next start."""
        self._closing.set()

    def _work(self, documents: Sequence[Document], *, password: str | None = None, cancel: threading.Event | None = None) -> Iterator[Step]:
        if not self._closing.is_set():
            yield from self._ingestion.work(documents, password=password, cancel=_Either(self._closing, cancel))
        if self._closing.is_set():
            raise Cancelled()

    def _pages(self, document: Document) -> tuple[Page, ...]:
        return tuple(self._store.find(Page, document_id=document.id, newest_first=False))


class _Either:
    """Set when one of two events is."""

    def __init__(self, first: threading.Event, second: threading.Event | None) -> None:
        self._events = (first, second) if second is not None else (first,)

    def is_set(self) -> bool:
        return any(event.is_set() for event in self._events)


def _check_options(options: Mapping[str, Any]) -> dict[str, Any]:
    given = {name: value for name, value in options.items() if value not in (None, False, "")}
    if unknown := sorted(set(given) - {"reader", "encoding", "ocr"}):
        raise InvalidValue(name="options", value=", ".join(unknown), allowed="reader, encoding, ocr, password")
    if given.get("reader") not in (None, *PDF_READERS):
        raise InvalidValue(name="reader", value=given["reader"], allowed=", ".join(PDF_READERS))
    return given


def _measure(text: str) -> tuple[str, int]:
    """SHA-256 and length of a text in UTF-8."""
    data = text.encode()
    return hashlib.sha256(data).hexdigest(), len(data)
