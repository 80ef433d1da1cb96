"""The search indexes of all collections: a lexical and a dense one each, derived from the chunks in the store and made anew when they fail.

    index = Index(folder, store, settings)
    index.sync(collection)                                          # after documents were stored, changed or removed
    index.search(collection, "有給は何日", vector, k=5, mode="hybrid")      # hits; IndexRebuilding while it is being made anew

The store is the truth. An index is asked for what it must know when it is opened and whenever it fails; where an answer is wrong it is
made anew in the background, and until that is done a search says so instead of answering from a part.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

from llmops_kit.documents.index.collection import CollectionIndex, Stopped
from llmops_kit.documents.index.dense import ChromaBackend, Floats, VectorBackend
from llmops_kit.documents.index.evidence import ChunkRank, Findability, TermMatch, look_up, rank_chunks
from llmops_kit.documents.index.faults import LegFault
from llmops_kit.documents.index.readings import Reading
from llmops_kit.documents.index.search import MODES, Hit, Mode, find, pose
from llmops_kit.errors import IndexRebuilding, KitError, UnknownName
from llmops_kit.types import Collection

if TYPE_CHECKING:
    from llmops_kit.progress import Progress
    from llmops_kit.settings import Settings
    from llmops_kit.store import Store

__all__ = ["MODES", "ChunkRank", "Findability", "Hit", "Index", "Mode", "TermMatch"]

MAX_OPEN = 32       # collections whose files are open at once: Chroma holds some 12 handles, 6 threads and 6 MB for each
Answer = TypeVar("Answer")
_log = logging.getLogger(__name__)


class Index:
    """The indexes of a workspace, in `folder`. One process at a time (the caller holds the lock), any number of threads.

    The files of `max_open` collections stay open; those used longest ago are closed.

    Raises:
        SettingError: `settings.vectors` is `pgvector` and the store is no PostgreSQL.
    """

    def __init__(self, folder: Path, store: Store, settings: Settings, *, max_open: int = MAX_OPEN) -> None:
        self._folder, self._store, self._max_open = folder, store, max_open
        self._backend = _choose_backend(folder, store, settings)
        self._guard = threading.Lock()
        self._collections: OrderedDict[str, CollectionIndex] = OrderedDict()
        self._threads: set[threading.Thread] = set()
        self._sweep()

    def sync(self, collection: Collection) -> None:
        """Bring the index up to the store: what is `ready` there is searchable, and nothing else, when this returns.

        Only what differs is touched; an index that is not sound or was made with another embedder is made anew. Doing it again, or after
        a kill in the middle, comes to the same. Traces of what was removed are cleared, in a large collection in the background. While
        the index is closed or the collection deleted by another thread, it ends early: the next one goes on.

        Raises:
            WorkspaceError: the index cannot be made (the disk is full, for one). The documents are safe; the next sync tries again.
        """
        index = self._index_of(collection.id)
        with suppress(Stopped):
            index.renew(collection)
        if index.wants_compaction:
            self._start(index, lambda: _compact(index, collection))

    def state(self, collection_id: str) -> Literal["ready", "rebuilding"]:
        """Whether a search gets an answer now. Opens the index, and begins to rebuild it if that is needed.

        Raises:
            UnknownName: there is no such collection.
        """
        collection = self._store.get(Collection, collection_id)
        if collection is None:
            raise UnknownName(kind={"en": "collection", "ja": "コレクション"}, name=collection_id, known=len(self._store.values(Collection, ("id",))))
        try:
            with self._reading(collection):
                return "ready"
        except IndexRebuilding:
            return "rebuilding"

    def check(self, collection: Collection) -> bool:
        """Ask the index for what it must know: counts, a few chunks, and a chunk's own vector. False: it failed and is being rebuilt."""
        index = self._index_of(collection.id)
        try:
            with self._reading(collection):
                index.check()
        except IndexRebuilding:
            return False
        except LegFault as fault:
            index.condemn(fault)
            self._replace(index, collection)
            return False
        return True

    def rebuild(self, collection: Collection, progress: Progress | None = None) -> None:
        """Make the index anew from the store; a sound one answers meanwhile. `progress` is told chunks done, chunks in all, seconds left.

        Raises:
            WorkspaceError: as `sync`.
        """
        with suppress(Stopped):
            self._index_of(collection.id).rebuild(collection, progress)

    def search(
        self, collection: Collection, query: str, vector: Floats | None, *, k: int = 5, mode: str = "hybrid", documents: Set[str] | None = None
    ) -> list[Hit]:
        """The best `k` chunks for `query`, best first; only of `documents` (ids) unless None.

        `vector` is the query's embedding; without one the words decide. In the mode `lexical`, and without a vector, chunks that share
        no term with the query are no hits.

        Raises:
            IndexRebuilding: the index is being made anew.
            WorkspaceError: it could not be made anew.
            InvalidValue: `k` is less than 1, `mode` is none of `MODES`, or `dense` is asked without a vector.
        """
        question = pose(collection, query, vector, k=k, mode=mode, documents=documents)
        return self._ask(collection, lambda reading: find(reading, self._store, collection.id, question))

    def rank_of(
        self,
        collection: Collection,
        query: str,
        chunk_ids: Sequence[str],
        vector: Floats | None,
        *,
        mode: str = "hybrid",
        documents: Set[str] | None = None,
    ) -> list[ChunkRank]:
        """Where these chunks stand for `query`, however far down. Reads the whole collection: some 20,000 chunks a second. Raises: as `search`."""
        question = pose(collection, query, vector, k=1, mode=mode, documents=documents)
        return self._ask(collection, lambda reading: rank_chunks(reading, self._store, collection.id, question, chunk_ids))

    def findable(self, collection: Collection, word: str) -> Findability:
        """The terms of `word`, how many chunks have each and all of them, and the first of those. Raises: IndexRebuilding."""
        return self._ask(collection, lambda reading: look_up(reading, self._store, collection.id, word))

    def forget(self, collection_id: str) -> None:
        """Delete the index of a collection with everything in it."""
        index = self._index_of(collection_id)
        index.delete()
        with self._guard:
            self._collections.pop(collection_id, None)

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait for what is being built in the background."""
        for thread in list(self._threads):
            thread.join(timeout_s)

    def close(self) -> None:
        """Stop what is being built (it goes on when the index is opened again) and close all files."""
        with self._guard:
            indexes, threads = list(self._collections.values()), list(self._threads)
        for index in indexes:
            index.stopped.set()
        for thread in threads:
            thread.join()
        for index in indexes:
            index.close()

    def _ask(self, collection: Collection, answer: Callable[[Reading], Answer]) -> Answer:
        """What `answer` makes of the index. If a leg fails it is checked, and asked once more where it is sound; else it is rebuilt."""
        index = self._index_of(collection.id)
        for _ in range(2):
            fault = ""
            with self._reading(collection) as reading:
                try:
                    return answer(reading)
                except LegFault as failure:
                    fault = str(failure)
            if not self.check(collection):
                break
        else:
            index.condemn(fault)
            self._replace(index, collection)
        raise _say_rebuilding(index, collection)

    @contextmanager
    def _reading(self, collection: Collection) -> Iterator[Reading]:
        index = self._index_of(collection.id)
        with ExitStack() as stack:
            yield self._enter(index, collection, stack)

    def _enter(self, index: CollectionIndex, collection: Collection, stack: ExitStack) -> Reading:
        """The open index. Raises: IndexRebuilding; WorkspaceError, if it could not be rebuilt the last time (it is tried again then)."""
        for _ in range(3):      # between two lines it may be closed to let others open, or taken out of service
            if not index.is_open and (index.rebuilding or not index.open(collection)):
                break
            with suppress(LookupError):
                return stack.enter_context(index.read())
        failure = None if index.rebuilding else index.failure
        self._replace(index, collection)
        raise failure or _say_rebuilding(index, collection)

    def _replace(self, index: CollectionIndex, collection: Collection) -> None:
        """Have an index made anew, or brought up, in the background, with nobody reading it; once at a time."""
        with self._guard:
            if index.rebuilding:
                return
            index.rebuilding = True
        self._start(index, lambda: _renew(index, collection))

    def _start(self, index: CollectionIndex, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            except Stopped:
                pass
            except KitError as failure:
                index.failure = failure
                _log.warning("The index of %s could not be rebuilt: %s", index.id, failure)
            except Exception:  # noqa: BLE001 - nobody waits for this thread: the log is where a fault of it is loud
                _log.exception("The index of %s could not be rebuilt; the next search tries again", index.id)
            finally:
                with self._guard:
                    self._threads.discard(threading.current_thread())

        thread = threading.Thread(target=run, name=f"index-{index.id}", daemon=True)
        with self._guard:
            self._threads.add(thread)
        thread.start()

    def _index_of(self, collection_id: str) -> CollectionIndex:
        with self._guard:
            index = self._collections.get(collection_id)
            if index is None:
                index = self._collections[collection_id] = CollectionIndex(self._folder / collection_id, collection_id, self._store, self._backend)
            self._collections.move_to_end(collection_id)
            crowd = [each for each in self._collections.values() if each.is_open]
        for idle in crowd[: max(0, len(crowd) - self._max_open)]:
            if idle is not index:
                idle.close(wait=False)
        return index

    def _sweep(self) -> None:
        """Delete the indexes of collections that are gone: a kill came between their removal and that of their index."""
        known = {id for (id,) in self._store.values(Collection, ("id",))}
        for path in self._folder.glob("*") if self._folder.is_dir() else ():
            if path.is_dir() and path.name not in known:
                with suppress(LegFault):
                    for build in self._backend.builds(path.name):
                        self._backend.drop(path.name, build)
                shutil.rmtree(path, ignore_errors=True)


def _choose_backend(folder: Path, store: Store, settings: Settings) -> VectorBackend:
    if settings.vectors == "pgvector":
        from llmops_kit.documents.index.pgvector import PgBackend

        return PgBackend(store)
    return ChromaBackend(folder)


def _renew(index: CollectionIndex, collection: Collection) -> None:
    try:
        index.renew(collection)
    finally:
        index.rebuilding = False


def _compact(index: CollectionIndex, collection: Collection) -> None:
    while index.wants_compaction:
        index.compact(collection)


def _say_rebuilding(index: CollectionIndex, collection: Collection) -> IndexRebuilding:
    return IndexRebuilding(collection=collection.name, done=index.done, total=index.total)
