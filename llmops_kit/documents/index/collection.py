"""The index of one collection: opened, checked, brought up to the store, made anew, and cleared of what was removed.

One thread at a time changes it, under `lock`; searches go on beside it in what is published.
"""

from __future__ import annotations

import logging
import shutil
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_kit.documents.index.building import ROUND, Legs, Wanted, bring_up, check, count_waiting, lexical_folder, name_build, open_legs, read_wanted
from llmops_kit.documents.index.dense import VectorBackend
from llmops_kit.documents.index.faults import LegFault
from llmops_kit.documents.index.manifest import Manifest, identify, load
from llmops_kit.documents.index.readings import Reading, Readings
from llmops_kit.errors import KitError, WorkspaceError
from llmops_kit.types import Collection

if TYPE_CHECKING:
    from llmops_kit.progress import Progress
    from llmops_kit.store import Store

AT_ONCE = 1000          # a sync clears traces of what was removed before it returns in so many chunks (0.5 s), in the background in more
AMORTIZED = 200_000     # from here on they are cleared when they are a hundredth of the collection: it takes minutes
_log = logging.getLogger(__name__)


class Stopped(Exception):
    """The index is closed, or the collection is gone: whoever builds it stops."""


class CollectionIndex:
    """One collection's index in `folder`.

    `rebuilding`: searches are told so at once instead of waiting for `lock`. `failure`: why the last try to rebuild it did not succeed.
    """

    def __init__(self, folder: Path, id: str, store: Store, backend: VectorBackend) -> None:
        self.id, self.folder = id, folder
        self.lock = threading.RLock()
        self.rebuilding = False
        self.done = self.total = 0
        self.stopped = threading.Event()
        self.failure: KitError | None = None
        self._store, self._backend = store, backend
        self._readings = Readings()
        self._manifest: Manifest | None = None
        self._condemned = self._compacting = False

    @property
    def is_open(self) -> bool:
        """Whether a search gets an answer."""
        return self._readings.is_published

    @property
    def wants_compaction(self) -> bool:
        """Whether traces of removed chunks are inside it, enough of them to make it anew."""
        manifest = self._manifest
        if manifest is None or not manifest.removed or self._compacting:
            return False
        return manifest.chunks <= AMORTIZED or manifest.removed * 100 >= manifest.chunks

    def read(self) -> AbstractContextManager[Reading]:
        """The index as it is now, kept open until the block ends. Raises: `LookupError`, where `is_open` is False."""
        return self._readings.read()

    def open(self, collection: Collection) -> bool:
        """Open, check, and catch up with the store or make a small index anew, where a search may wait for it; False: it takes `renew`.

        Raises: as `renew`.
        """
        with self.lock:
            if self.is_open:
                return True
            wanted = read_wanted(self._store, self.id)
            try:
                adopted = self._adopt(collection, wanted)
                if (count_waiting(self._known(), wanted) if adopted else _count(wanted)) > ROUND:
                    return False
                if adopted:
                    self._bring_up(wanted, self._report(None))
            except LegFault as fault:
                self.condemn(fault)
            if not self.is_open and _count(wanted) <= ROUND:
                self._remake(collection, self._report(None))
            return self.is_open

    def renew(self, collection: Collection, progress: Progress | None = None) -> None:
        """Bring the index up to the store, whatever state it is in: by what differs where it is sound, from nothing where not.

        Raises:
            WorkspaceError: it cannot be made at all (the disk is full, for one).
        """
        report = self._report(progress)
        with self.lock:
            wanted = read_wanted(self._store, self.id)
            try:
                if self._adopt(collection, wanted):
                    self._bring_up(wanted, report)
                    if self.wants_compaction and self._known().chunks <= AT_ONCE:
                        self._remake(collection, report)
                    return
                self._readings.withdraw()
            except LegFault as fault:
                self.condemn(fault)
            self._remake(collection, report)

    def rebuild(self, collection: Collection, progress: Progress | None = None) -> None:
        """Make the index anew from the store. A sound one answers until the new one takes its place. Raises: as `renew`."""
        with self.lock:
            self._remake(collection, self._report(progress))

    def compact(self, collection: Collection) -> None:
        """Make it anew, without the traces of what was removed, while searches and syncs go on; only the exchange waits for them."""
        with self.lock:
            if self._compacting or self._manifest is None:
                return
            self._compacting, before = True, self._manifest.dense
        try:
            legs, manifest = self._build(collection, self._report(None))
            with self.lock:
                if self._manifest is None or (self._manifest.dense, self._manifest.identity) != (before, manifest.identity):
                    self._discard(legs, manifest)       # somebody made it anew meanwhile
                    return
                self._fill(legs, manifest, self._report(None))
                self._swap(legs, manifest)
        finally:
            self._compacting = False

    def check(self) -> None:
        """Ask the open index for what it must know. Raises: `LegFault`, if an answer is wrong."""
        with self.lock:
            if self._readings.legs is not None:
                check(self._readings.legs, self._known(), self._store)

    def condemn(self, reason: object) -> None:
        """Have no more searches in it: the next `renew` makes it anew."""
        _log.warning("The index of %s will be rebuilt: %s", self.id, reason)
        self._condemned = True
        self._readings.withdraw()

    def close(self, *, wait: bool = True) -> bool:
        """Close the files; False (and nothing done) where `wait` is False and somebody uses it."""
        if not self.lock.acquire(blocking=wait):
            return False
        try:
            if not wait and (self._compacting or self.rebuilding or self._readings.are_read):
                return False
            self._readings.exchange(None)
            self._manifest = None
            return True
        finally:
            self.lock.release()

    def delete(self) -> None:
        """Close it and delete everything it has."""
        self.stopped.set()
        with self.lock:
            self.close()
            self._sweep(None)
            shutil.rmtree(self.folder, ignore_errors=True)

    def _adopt(self, collection: Collection, wanted: Mapping[str, Wanted]) -> bool:
        """Have legs that may be brought up; False: they have to be made. Raises: `LegFault`, where they are not sound."""
        identity = identify(collection, self._backend.name)
        if self._condemned:
            return False
        if self._readings.legs is None:
            manifest = load(self.folder)
            if manifest is not None and manifest.identity == identity:
                self._readings.exchange(self._open_sound(manifest))
                self._manifest = manifest
                self._sweep(manifest)
                return True
            if wanted or manifest is not None:
                return False
            manifest = Manifest(identity, name_build(), name_build())
            self._swap(open_legs(self.folder, self._backend, self.id, manifest), manifest)
            return True
        known = self._known()
        if not known.documents and not known.pending:
            known.identity = identity       # it holds nothing that another embedder made
        return known.identity == identity

    def _open_sound(self, manifest: Manifest) -> Legs:
        legs = open_legs(self.folder, self._backend, self.id, manifest)
        try:
            if not manifest.pending:    # else the counts are between two rounds; it is asked after the sync
                check(legs, manifest, self._store)
        except BaseException:
            with suppress(LegFault):
                legs.dense.close()
            raise
        return legs

    def _bring_up(self, wanted: Mapping[str, Wanted], report: Progress) -> None:
        manifest, legs = self._known(), self._readings.legs
        if legs is None:
            raise LookupError(self.id)
        was_open, was_cut_off = self.is_open, bool(manifest.pending)

        def save() -> None:
            manifest.save(self.folder)
            if was_open:
                self._readings.publish(manifest)

        bring_up(legs, manifest, wanted, self._store, saved=save, progress=report)
        if was_cut_off:
            check(legs, manifest, self._store)
        self._readings.publish(manifest)

    def _remake(self, collection: Collection, report: Progress) -> None:
        if not self.is_open:
            self.rebuilding = self.rebuilding or _count(read_wanted(self._store, self.id)) > ROUND
            self._readings.exchange(None)
        try:
            self._swap(*self._build(collection, report))
            self._condemned, self.failure = False, None
        except LegFault as fault:
            raise WorkspaceError(path=self.folder, reason=str(fault)) from fault
        finally:
            self.rebuilding = False

    def _build(self, collection: Collection, report: Progress) -> tuple[Legs, Manifest]:
        manifest = Manifest(identify(collection, self._backend.name), name_build(), name_build())
        legs = open_legs(self.folder, self._backend, self.id, manifest)
        self._fill(legs, manifest, report)
        return legs, manifest

    def _fill(self, legs: Legs, manifest: Manifest, report: Progress) -> None:
        try:
            bring_up(legs, manifest, read_wanted(self._store, self.id), self._store, saved=lambda: None, progress=report)
        except BaseException:
            self._discard(legs, manifest)
            raise

    def _swap(self, legs: Legs, manifest: Manifest) -> None:
        """Make these the legs from one moment to the next: the manifest that names them is the switch."""
        manifest.save(self.folder)
        old, self._manifest = self._manifest, manifest
        self._readings.exchange(legs, manifest, None if old is None else lambda: self._drop(old))
        if old is None:
            self._sweep(manifest)

    def _discard(self, legs: Legs, manifest: Manifest) -> None:
        with suppress(LegFault):
            legs.dense.close()
        self._drop(manifest)

    def _drop(self, manifest: Manifest) -> None:
        with suppress(LegFault):
            self._backend.drop(self.id, manifest.dense)
        shutil.rmtree(lexical_folder(self.folder, manifest.lexical), ignore_errors=True)

    def _sweep(self, manifest: Manifest | None) -> None:
        """Delete the builds that the manifest does not name: a kill left them behind."""
        with suppress(LegFault):
            for build in self._backend.builds(self.id):
                if manifest is None or build != manifest.dense:
                    self._backend.drop(self.id, build)
        for path in self.folder.glob("lexical-*"):
            if manifest is None or path != lexical_folder(self.folder, manifest.lexical):
                shutil.rmtree(path, ignore_errors=True)

    def _report(self, progress: Progress | None) -> Progress:
        def report(done: int, total: int, seconds_left: float | None) -> None:
            if self.stopped.is_set():
                raise Stopped
            self.done, self.total = done, total
            if progress is not None:
                progress(done, total, seconds_left)

        return report

    def _known(self) -> Manifest:
        if self._manifest is None:
            raise LookupError(f"the index of {self.id} is not open")
        return self._manifest


def _count(wanted: Mapping[str, Wanted]) -> int:
    return sum(entry.chunks for entry in wanted.values())
