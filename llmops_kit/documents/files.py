"""The files people uploaded, kept once each under the hash of their bytes, and what there is to read at a path they named."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llmops_kit.errors import InputError, WorkspaceError
from llmops_kit.types import new_id

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

    def keep(self, path: Path) -> tuple[str, int]:
        """Copy a file in and give (SHA-256, bytes); it is on the disk when this returns. Raises: WorkspaceError."""
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

    def forget(self, sha256: str) -> None:
        """Remove a file; one that is not there is no fault."""
        self.path(sha256).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what a kill left half-copied, and the folders of archives that were being unpacked."""
        for draft in self._folder.glob("*.draft"):
            draft.unlink(missing_ok=True)
        shutil.rmtree(self._folder / "unpacked", ignore_errors=True)

    def room_to_unpack(self) -> Path:
        """A fresh folder for the members of an archive; the caller removes it."""
        folder = self._folder / "unpacked" / new_id()
        folder.mkdir(parents=True)
        return folder


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
                    yield Incoming(str(file.relative_to(path.parent)).replace(os.sep, "/"), file)
    elif path.is_file():
        yield Incoming(path.name, path)
    else:
        raise InputError(
            en=f"There is no file or folder {path}. Check the spelling; a relative path starts at {Path.cwd()}.",
            ja=f"{path}というファイルやフォルダーはありません。つづりを確かめてください（相対パスの起点は{Path.cwd()}です）。",
        )
