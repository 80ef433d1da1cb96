"""Finding passages: the index of this workspace and who holds it, filters, search, reranking, and pictures of pages."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmops_kit.documents.chunking import document_text
from llmops_kit.documents.files import KeptFiles, name_of
from llmops_kit.documents.preparation import refuse_mix
from llmops_kit.errors import Cancelled, IndexRebuilding, InvalidValue, UnknownName, UnreadableFile, WorkspaceError
from llmops_kit.types import Chunk, Collection, Document, Page, Source

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from llmops_kit.documents.index import Findability, Hit, Index
    from llmops_kit.documents.reading import Guard
    from llmops_kit.documents.reading.records import Rendered
    from llmops_kit.models import Models
    from llmops_kit.settings import Settings
    from llmops_kit.store import Store

_RERANKED = 4
"""A reranker is shown this many times as many passages as are wanted."""
MAX_QUERY = 100_000
"""Characters of a query; more takes minutes and finds nothing that fewer would not."""


class Retrieval:
    """Search over the collections of a workspace. The index is opened on first use and belongs to one process at a time."""

    def __init__(self, store: Store, models: Models, settings: Settings) -> None:
        self._store = store
        self._models = models
        self._settings = settings
        self.files = KeptFiles(settings.documents_folder / "files")
        self._opening = threading.RLock()
        self._index: Index | None = None
        self._lock: BaseFileLock | None = None
        self._guard: Guard | None = None
        self._drawing = threading.Lock()
        self._closed = False
        self._counting = threading.Lock()
        self._exchanges: dict[str, int] = {}

    def index(self) -> Index:
        """The open index. Raises: WorkspaceError, where another process uses the documents of this workspace; Cancelled after `close`."""
        with self._opening:
            if self._closed:  # work that goes on in a thread must not take the workspace from its next holder
                raise Cancelled(
                    en="The documents of this workspace were closed. Open them again: kit = open_kit(…).",
                    ja="このワークスペースの文書は閉じられました。kit = open_kit(…)で開き直してください。",
                )
            if self._index is None:
                from llmops_kit.documents.index import Index

                if self._lock is None:
                    self._hold()
                    self.files.sweep(self._store)
                self._index = Index(self._settings.documents_folder / "index", self._store, self._settings)
            return self._index

    @contextmanager
    def exchanging(self, collection_id: str) -> Iterator[None]:
        """While all chunks of a collection are exchanged: a search meanwhile is told so, as the index has old ids and the store new ones."""
        self._count_exchange(collection_id)
        try:
            yield
        finally:
            self._count_exchange(collection_id)

    def search(
        self, collection: Collection, query: str, *, k: int, mode: str, narrowed: Mapping[str, Any] | None = None, reranker: str | None = None
    ) -> list[Hit]:
        """The best `k` chunks with their ranks. `narrowed`: file, tags, since, until.

        Raises: `IndexRebuilding`, `InvalidValue` (mixed embedders, a query that is too long), `UnknownName` (the collection is gone).
        """
        _check_query(query)
        exchanges = self._exchanges.get(collection.id, 0)
        held = self._store.get(Collection, collection.id)  # as it is now: whoever asks may have got it before it was rebuilt
        if held is None:
            raise UnknownName(kind={"en": "collection", "ja": "コレクション"}, name=collection.name, known="kit.documents.collections()")
        documents = self._narrow(held, narrowed or {})
        if not query.strip() or (documents is not None and not documents):
            return []
        reranker = reranker or self._settings.reranker
        wanted = k * _RERANKED if reranker else k
        vector = None if mode == "lexical" or not held.dimensions else self.embed_query(held, query)
        hits = self.index().search(held, query, vector, k=wanted, mode=mode, documents=documents)
        if exchanges % 2 or self._exchanges.get(collection.id, 0) != exchanges:
            total = self._store.count(Chunk, collection_id=held.id)
            raise IndexRebuilding(collection=held.name, done=0, total=total)
        return self._rerank(reranker, query, hits)[:k] if reranker else hits

    def embed_query(self, collection: Collection, query: str) -> Any:
        """The query's vector by the collection's embedder. Raises: InvalidValue, where that is another one by now; a `ModelError`."""
        embedder = self._models.embedder(collection.embedder)
        vector = embedder.encode_query(query)
        if (collection.embedder_revision, collection.dimensions) != (embedder.revision, len(vector)):
            held = f"{collection.embedder} ({collection.embedder_revision}, {collection.dimensions})"
            raise refuse_mix(collection, held, f"{collection.embedder} ({embedder.revision}, {len(vector)})")
        return vector

    def sources_of(self, hits: Sequence[Hit]) -> list[Source]:
        """Hits as sources: with the name and page of their document."""
        names = dict(self._store.values(Document, ("id", "name"), id=[hit.document_id for hit in hits])) if hits else {}
        return [
            Source(
                document=names.get(hit.document_id, ""),
                text=hit.chunk.text,
                page=hit.chunk.page,
                score=hit.score,
                start=hit.chunk.start,
                end=hit.chunk.end,
                document_id=hit.document_id,
                chunk_id=hit.chunk.id,
            )
            for hit in hits
        ]

    def findable(self, collection: Collection, word: str) -> Findability:
        """Terms of a word and the chunks that have them."""
        _check_query(word)
        return self.index().findable(collection, word)

    def page_image(self, document: Document, page: int, start: int | None, end: int | None, width_px: int) -> Rendered | None:
        """A page of a PDF as a picture with the boxes of a span of the document's text; None for other kinds and locked files."""
        if document.kind != "pdf":
            return None
        pages = self._store.find(Page, document_id=document.id, newest_first=False)
        before = document_text([each for each in pages if each.number < page])
        text = next((each.text for each in pages if each.number == page), "")
        length = len(text)
        span = None if start is None or end is None else (max(0, start - len(before)), min(length, end - len(before)))
        with self._drawing:
            if self._guard is None:
                from llmops_kit.documents.reading import Guard

                self._guard = Guard()
            shown = span if span and span[0] < span[1] else None
            try:
                return self._guard.render(self.files.path(document.sha256), page, span=shown, width_px=width_px, text=text)
            except UnreadableFile:  # it needs a password, which nobody keeps, or cannot be drawn: its text is there all the same
                return None

    def close(self) -> None:
        """Close the index and let another process have it."""
        if self._guard is not None:
            self._guard.stop()
        with self._opening, self._drawing:
            self._closed = True
            if self._guard is not None:
                self._guard.close()
            if self._index is not None:
                self._index.close()
            if self._lock is not None:
                self._lock.release()
            self._index = self._lock = self._guard = None

    def _hold(self) -> None:
        from filelock import FileLock, Timeout

        folder = self._settings.documents_folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / "index.lock", thread_local=False)  # whichever thread opens it, another one may close it
            lock.acquire(timeout=0)
            (folder / "index.owner").write_text(f"pid {os.getpid()}", encoding="utf-8")
        except Timeout:
            holder = _read(folder / "index.owner")
            if holder == f"pid {os.getpid()}":
                raise WorkspaceError(
                    en=f"The documents of the workspace {self._settings.workspace} are open here already, in an earlier kit. "
                    "Go on with that one, or close it first: kit.close().",
                    ja=f"ワークスペース{self._settings.workspace}の文書は、ここで先に作ったkitで開かれています。"
                    "そのkitを使うか、先にkit.close()で閉じてください。",
                    path=folder,
                ) from None
            raise WorkspaceError(
                en=f"Another process ({holder}) uses the documents of the workspace {self._settings.workspace}. Close it, or ask there; "
                "tables and files can be read from here all the same.",
                ja=f"ワークスペース{self._settings.workspace}の文書は別のプロセス（{holder}）が使用中です。そちらを終了するか、そちらで質問してください。"
                "一覧やファイルはここからも見られます。",
                path=folder,
            ) from None
        except OSError as error:
            raise WorkspaceError(path=folder, reason=str(error)) from error
        self._lock = lock

    def _count_exchange(self, collection_id: str) -> None:
        with self._counting:  # odd while one is under way
            self._exchanges[collection_id] = self._exchanges.get(collection_id, 0) + 1

    def _narrow(self, collection: Collection, narrowed: Mapping[str, Any]) -> set[str] | None:
        """The documents a search is limited to, None for all."""
        file, tags, since, until = (narrowed.get(name) for name in ("file", "tags", "since", "until"))
        if not (file or tags or since or until):
            return None
        every = self._store.values(Document, ("id", "name", "tags", "dated"), collection_id=collection.id, state="ready")
        return {
            id
            for id, name, its_tags, dated in every
            if (not file or name_of(file).casefold() in name.casefold())
            and set(tags or ()) <= set(its_tags)
            and (not since or (dated or "") >= since)
            and (not until or (dated is not None and dated <= until))
        }

    def _rerank(self, reranker: str, query: str, hits: Sequence[Hit]) -> list[Hit]:
        if not hits:
            return []
        scores = self._models.reranker(reranker).score(query, [hit.chunk.indexed_text for hit in hits])
        return sorted((replace(hit, score=float(score)) for hit, score in zip(hits, scores, strict=True)), key=lambda hit: -hit.score)


def _check_query(query: str) -> None:
    if len(query) > MAX_QUERY:
        allowed = {"en": f"at most {MAX_QUERY:,} characters (here {len(query):,})", "ja": f"{MAX_QUERY:,}文字まで（今は{len(query):,}文字）"}
        raise InvalidValue(name="query", value=f"{query[:40]}…", allowed=allowed)


def _read(path: Any) -> str:
    try:
        return str(path.read_text(encoding="utf-8"))
    except OSError:
        return "?"
