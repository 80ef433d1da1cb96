"""Finding passages: the index of this workspace and who holds it, filters, search, reranking, and pictures of pages."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llmops_kit.documents.files import KeptFiles
from llmops_kit.documents.preparation import join_text, refuse_mix
from llmops_kit.errors import WorkspaceError
from llmops_kit.types import Collection, Document, Page, Source

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

    def index(self) -> Index:
        """The open index. Raises: WorkspaceError, where another process uses the documents of this workspace."""
        with self._opening:
            if self._index is None:
                from llmops_kit.documents.index import Index

                self._hold()
                self.files.sweep()
                self._index = Index(self._settings.documents_folder / "index", self._store, self._settings)
            return self._index

    def search(
        self, collection: Collection, query: str, *, k: int, mode: str, narrowed: Mapping[str, Any] | None = None, reranker: str | None = None
    ) -> list[Hit]:
        """The best `k` chunks with their ranks. `narrowed`: file, tags, since, until. Raises: `IndexRebuilding`, `InvalidValue` (mixed embedders)."""
        documents = self._narrow(collection, narrowed or {})
        if not query.strip() or (documents is not None and not documents):
            return []
        reranker = reranker or self._settings.reranker
        wanted = k * _RERANKED if reranker else k
        vector = None if mode == "lexical" or not collection.dimensions else self.embed_query(collection, query)
        hits = self.index().search(collection, query, vector, k=wanted, mode=mode, documents=documents)
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
        return self.index().findable(collection, word)

    def page_image(self, document: Document, page: int, start: int | None, end: int | None, width_px: int) -> Rendered | None:
        """A page of a PDF as a picture with the boxes of a span of the document's text; None for other kinds and locked files."""
        if document.kind != "pdf":
            return None
        pages = self._store.find(Page, document_id=document.id, newest_first=False)
        before = join_text([each for each in pages if each.number < page])
        text = next((each.text for each in pages if each.number == page), "")
        length = len(text)
        span = None if start is None or end is None else (max(0, start - len(before)), min(length, end - len(before)))
        with self._drawing:
            if self._guard is None:
                from llmops_kit.documents.reading import Guard

                self._guard = Guard()
            shown = span if span and span[0] < span[1] else None
            return self._guard.render(self.files.path(document.sha256), page, span=shown, width_px=width_px, text=text)

    def close(self) -> None:
        """Close the index and let another process have it."""
        with self._opening, self._drawing:
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
            lock = FileLock(folder / "index.lock")
            lock.acquire(timeout=0)
        except Timeout:
            holder = _read(folder / "index.owner")
            raise WorkspaceError(
                en=f"Another process ({holder}) uses the documents of the workspace {self._settings.workspace}. Close it, or ask there; "
                "tables and files can be read from here all the same.",
                ja=f"ワークスペース{self._settings.workspace}の文書は別のプロセス（{holder}）が使用中です。そちらを終了するか、そちらで質問してください。"
                "一覧やファイルはここからも見られます。",
                path=folder,
            ) from None
        except OSError as error:
            raise WorkspaceError(path=folder, reason=str(error)) from error
        (folder / "index.owner").write_text(f"pid {os.getpid()}", encoding="utf-8")
        self._lock = lock

    def _narrow(self, collection: Collection, narrowed: Mapping[str, Any]) -> set[str] | None:
        """The documents a search is limited to, None for all."""
        file, tags, since, until = (narrowed.get(name) for name in ("file", "tags", "since", "until"))
        if not (file or tags or since or until):
            return None
        every = self._store.values(Document, ("id", "name", "tags", "dated"), collection_id=collection.id, state="ready")
        return {
            id
            for id, name, its_tags, dated in every
            if (not file or file.casefold() in name.casefold())
            and set(tags or ()) <= set(its_tags)
            and (not since or (dated or "") >= since)
            and (not until or (dated is not None and dated <= until))
        }

    def _rerank(self, reranker: str, query: str, hits: Sequence[Hit]) -> list[Hit]:
        if not hits:
            return []
        scores = self._models.reranker(reranker).score(query, [hit.chunk.indexed_text for hit in hits])
        return sorted((replace(hit, score=float(score)) for hit, score in zip(hits, scores, strict=True)), key=lambda hit: -hit.score)


def _read(path: Any) -> str:
    try:
        return str(path.read_text(encoding="utf-8"))
    except OSError:
        return "?"
