"""Who reads which build: a build that was replaced is closed and deleted when the last search in it has ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from llmops_kit.documents.index.building import Legs
from llmops_kit.documents.index.dense import VectorIndex
from llmops_kit.documents.index.faults import LegFault
from llmops_kit.documents.index.lexical import LexicalSnapshot
from llmops_kit.documents.index.manifest import Indexed, Manifest


@dataclass
class _Held:
    """Legs, how many read them, and what to do when they are retired and the last reader has left."""

    legs: Legs
    readers: int = 0
    finish: Callable[[], None] | None = None


@dataclass(frozen=True)
class Reading:
    """The index as one search sees it: the terms of one commit, the vectors beside them, and the sums BM25 needs."""

    lexical: LexicalSnapshot
    dense: VectorIndex
    documents: Mapping[str, Indexed]
    chunks: int
    vectors: int
    mean_length: float


class Readings:
    """The legs of one collection and what of them is published. One thread at a time changes it; any number read."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held: _Held | None = None
        self._published: Reading | None = None

    @property
    def legs(self) -> Legs | None:
        """The current legs, published or not."""
        held = self._held
        return None if held is None else held.legs

    @property
    def is_published(self) -> bool:
        """Whether a search gets an answer."""
        return self._published is not None

    @property
    def are_read(self) -> bool:
        """Whether a search is going on in the current legs."""
        held = self._held
        return held is not None and held.readers > 0

    @contextmanager
    def read(self) -> Iterator[Reading]:
        """What is published, kept open until the block ends. Raises: `LookupError`, where nothing is."""
        with self._guard:
            reading, held = self._published, self._held
            if reading is None or held is None:
                raise LookupError("nothing is published")
            held.readers += 1
        try:
            yield reading
        finally:
            with self._guard:
                held.readers -= 1
                finish = held.finish if not held.readers else None
            if finish is not None:
                finish()

    def publish(self, manifest: Manifest) -> None:
        """Let searches see the current legs as `manifest` says they are."""
        held = self._held
        if held is None:
            raise LookupError("there are no legs to publish")
        sums = manifest.chunks, manifest.vectors, manifest.mean_length
        fresh = Reading(held.legs.lexical.snapshot, held.legs.dense, dict(manifest.documents), *sums)
        with self._guard:
            self._published = fresh

    def withdraw(self) -> None:
        """From now on a search gets no answer."""
        with self._guard:
            self._published = None

    def exchange(self, legs: Legs | None, manifest: Manifest | None = None, then: Callable[[], None] | None = None) -> None:
        """Put `legs` in the place of the current ones, published if `manifest` is given.

        The old ones are closed, and `then` is called, at once or when their last search has ended.
        """
        with self._guard:
            old, self._held = self._held, None if legs is None else _Held(legs)
            self._published = None if manifest is None else self._published
        if legs is not None and manifest is not None:
            self.publish(manifest)

        def finish() -> None:
            if old is not None:
                with suppress(LegFault):
                    old.legs.dense.close()
            if then is not None:
                then()

        with self._guard:
            is_read = old is not None and old.readers > 0
            if old is not None and is_read:
                old.finish = finish
        if not is_read:
            finish()
