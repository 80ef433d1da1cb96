"""The entries of a workspace: the package's, then those of its `models.yaml`, read again whenever that file changed."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from llmops_kit.errors import CatalogueError, InvalidValue
from llmops_kit.models.catalogue import PACKAGE_FILE, ModelEntry, read_catalogue
from llmops_kit.models.workspace import append_entry

log = logging.getLogger(__name__)

Signature = tuple[int, int, int] | None


class CatalogueFile:
    """The entries by id, as they are now: what a job or another notebook added a moment ago is there. For any number of threads.

    `changed` hears the ids whose entry is another than before, or gone. A file that was broken while the kit is open is told in the log,
    and the entries of its last good state go on; raises `CatalogueError` where it is broken from the start.
    """

    def __init__(self, file: Path, changed: Callable[[Iterable[str]], None]) -> None:
        self._file = file
        self._changed = changed
        self._lock = threading.Lock()
        self._package = {entry.id: entry for entry in read_catalogue(PACKAGE_FILE)}
        self._seen = _sign(file)
        self._entries = self._read()

    def entries(self) -> Mapping[str, ModelEntry]:
        """All entries by id. Costs one look at the file's date and size where nothing changed."""
        if _sign(self._file) != self._seen:
            self._read_again()
        return self._entries

    def add(self, entry: ModelEntry) -> None:
        """Put an entry at the end of the file.

        Raises: `InvalidValue` where its id is taken, also by another process in this moment; `CatalogueError`, `WorkspaceError` for the file.
        """
        taken = entry.id in self.entries() or not append_entry(self._file, entry.model_dump(mode="json", exclude_unset=True))
        if taken:
            raise InvalidValue(
                en=f"There is already a model “{entry.id}”. Choose another id, or edit {self._file}.",
                ja=f"モデル「{entry.id}」は既にあります。別のidにするか、{self._file}を編集してください。",
                name="id",
                value=entry.id,
            )
        self._read_again()

    def _read(self) -> dict[str, ModelEntry]:
        return self._package | {entry.id: entry for entry in read_catalogue(self._file)}

    def _read_again(self) -> None:
        with self._lock:
            before, signature = self._entries, _sign(self._file)
            if signature == self._seen:
                return
            self._seen = signature  # of before the reading: a change during it is seen the next time
            try:
                self._entries = self._read()
            except CatalogueError as error:
                log.warning("%s The entries of before go on.", error.text("en"))
                return
            gone = [id for id, entry in before.items() if self._entries.get(id) != entry]
        if gone:
            self._changed(gone)


def _sign(file: Path) -> Signature:
    """What tells one state of a file from another without reading it; None where it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size
