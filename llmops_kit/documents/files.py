"""The files people uploaded, kept once each under the hash of their bytes, and what there is to read at a path they named."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_kit.errors import InputError, UnreadableFile, WorkspaceError
from llmops_kit.types import Document, new_id

if TYPE_CHECKING:
    from llmops_kit.store import Store

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Incoming:
    """A file that is to be read: the name people know it by, and where its bytes are now."""

    name: str
    path: Path


class KeptFiles:
    """A folder of files by SHA-256. What is kept is never changed; it goes when the last document that needs it goes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.changing = threading.Lock()
        """Held while a document comes to need a kept file, and while those nobody needs are removed."""

    def keep(self, path: Path) -> tuple[str, int]:
        """Copy a file in and give (SHA-256, bytes); it is on the disk when this returns. Raises: UnreadableFile, WorkspaceError."""
        try:
            with path.open("rb"):
                pass
        except OSError as error:
            raise UnreadableFile(file=path.name, reason=error.strerror or str(error)) from error
        draft = self._folder / f"{new_id()}.draft"
        digest, size = hashlib.sha256(), 0
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as source, draft.open("wb") as copy:
                while block := source.read(_BLOCK):
                    digest.update(block)
                    size += copy.write(block)
                copy.flush()
                os.fsync(copy.fileno())
            target = self.path(digest.hexdigest())
            target.parent.mkdir(parents=True, exist_ok=True)
            draft.replace(target)
        except OSError as error:
            draft.unlink(missing_ok=True)
            raise WorkspaceError(path=self._folder, reason=str(error)) from error
        return digest.hexdigest(), size

    def path(self, sha256: str) -> Path:
        """Where the file with this hash is, or would be."""
        return self._folder / sha256[:2] / sha256

    def forget_all(self, hashes: Iterable[str], store: Store) -> None:
        """Remove those of these files no document needs; one that is not there is no fault."""
        with self.changing:
            wanted = set(hashes)
            needed = {sha256 for (sha256,) in store.values(Document, ("sha256",), sha256=list(wanted))} if wanted else set()
            for sha256 in wanted - needed:
                self.path(sha256).unlink(missing_ok=True)

    def sweep(self, store: Store) -> None:
        """Remove what a kill left: half-copied files, archives that were being unpacked, files whose document was not stored any more."""
        for draft in self._folder.glob("*.draft"):
            draft.unlink(missing_ok=True)
        shutil.rmtree(self._folder / "unpacked", ignore_errors=True)
        self.forget_all((path.name for path in self._folder.glob("??/*")), store)

    def room_to_unpack(self) -> Path:
        """A fresh folder for the members of an archive; the caller removes it."""
        folder = self._folder / "unpacked" / new_id()
        folder.mkdir(parents=True)
        return folder


def name_of(name: str) -> str:
    """A file's name as it is kept: composed, since macOS writes が as two characters and nobody types it so."""
    return unicodedata.normalize("NFC", name)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def find_files(paths: str | Path | Iterable[str | Path]) -> list[Incoming]:
    """Every file at the given paths: files as they are, folders with all that is in them (hidden files and links left out).

    Raises: InputError, where a path does not exist or a folder holds no file.
    """
    named = [paths] if isinstance(paths, str | Path) else list(paths)
    found = [incoming for each in named for incoming in _walk(Path(each))]
    if not found:
        listed = ", ".join(map(str, named)) or "–"
        raise InputError(
            en=f"There is no file at {listed}. Give files, or folders that hold some.",
            ja=f"{listed}にはファイルがありません。ファイルか、ファイルの入ったフォルダーを指定してください。",
        )
    return found


def _walk(path: Path) -> Iterator[Incoming]:
    if path.is_dir():
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
            for name in sorted(names):
                file = Path(folder) / name
                if not name.startswith((".", "~$")) and not file.is_symlink() and file.is_file():
                    yield Incoming(name_of(str(file.relative_to(path.parent)).replace(os.sep, "/")), file)
    elif path.is_file():
        yield Incoming(name_of(path.name), path)
    else:
        raise InputError(
            en=f"There is no file or folder {path}. Check the spelling; a relative path starts at {Path.cwd()}.",
            ja=f"{path}というファイルやフォルダーはありません。つづりを確かめてください（相対パスの起点は{Path.cwd()}です）。",
        )
