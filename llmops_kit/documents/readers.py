"""Reading files side by side in guarded processes, for all people together, and stopping them when nobody waits any more."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from llmops_kit.documents.files import KeptFiles
from llmops_kit.documents.reading import Guard, Reading, ReadOptions
from llmops_kit.errors import Cancelled
from llmops_kit.types import Document

READERS = 2
"""Files read at a time, by all people together: each may take a processor and a gigabyte."""
LOOK_S = 0.1
"""Seconds between two looks at whether to stop."""


class Cancel(Protocol):
    """Anything that says whether somebody cancelled, such as a `threading.Event`."""

    def is_set(self) -> bool:
        """Whether to stop."""


@dataclass(frozen=True)
class Stop:
    """Whether to go on: this work has not ended, and nobody cancelled it."""

    cancelled: Cancel | None = None
    ended: threading.Event = field(default_factory=threading.Event)

    def is_set(self) -> bool:
        """Whether to stop, for whatever reason."""
        return self.ended.is_set() or self.is_cancelled()

    def is_cancelled(self) -> bool:
        """Whether somebody cancelled."""
        return self.cancelled is not None and self.cancelled.is_set()

    def check(self) -> None:
        """Raises: Cancelled, where somebody cancelled."""
        if self.is_cancelled():
            raise Cancelled


class Readers:
    """Reads kept files, `READERS` at a time whoever asks."""

    def __init__(self, files: KeptFiles) -> None:
        self._files = files
        self._places = threading.BoundedSemaphore(READERS)

    def read_all(self, documents: Sequence[Document], stop: Stop, password: str | None) -> Generator[tuple[Document, Reading], None, None]:
        """The reading of each document, given as soon as those before it are; it ends early where `stop` is set."""
        guards = _Guards()
        with ThreadPoolExecutor(READERS, thread_name_prefix="document reader") as pool:
            try:
                ahead = iter(documents)
                queue = deque((each, pool.submit(self._read, each, guards, stop, password)) for each in islice(ahead, READERS * 4))
                while queue and not stop.is_set():
                    document, future = queue.popleft()
                    while not stop.is_set() and not wait([future], timeout=LOOK_S).done:
                        pass
                    if stop.is_set():
                        return
                    reading = future.result()
                    if (following := next(ahead, None)) is not None:
                        queue.append((following, pool.submit(self._read, following, guards, stop, password)))
                    if reading is not None:
                        yield document, reading
            finally:
                stop.ended.set()
                guards.stop()

    def _read(self, document: Document, guards: _Guards, stop: Stop, password: str | None) -> Reading | None:
        while not self._places.acquire(timeout=LOOK_S):  # another person's file may take minutes
            if stop.is_set():
                return None
        try:
            if stop.is_set():
                return None
            options = ReadOptions.from_dict({**document.options, "password": password})
            reading = guards.read(self._files, document, options)
            return None if stop.is_set() else reading
        finally:
            self._places.release()


class _Guards:
    """A guarded reader process for each thread that reads, all stopped together."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._all: list[Guard] = []
        self._lock = threading.Lock()
        self._stopped = False

    def read(self, files: KeptFiles, document: Document, options: ReadOptions) -> Reading:
        guard = self._mine()
        try:
            return guard.read(files.path(document.sha256), document.name, options)
        finally:
            if self._stopped:  # it was stopped before the file was begun: the process came after that, and nobody else ends it
                guard.close()

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            for guard in self._all:
                guard.stop()
            for guard in self._all:
                guard.close()

    def _mine(self) -> Guard:
        if not hasattr(self._local, "guard"):
            self._local.guard = Guard()
            with self._lock:
                self._all.append(self._local.guard)
        held: Guard = self._local.guard
        return held
