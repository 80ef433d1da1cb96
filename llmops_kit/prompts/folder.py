"""Folders of prompt files: what lies in them, and writing into them without ever leaving half a file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from llmops_kit.errors import WorkspaceError
from llmops_kit.types import new_id, now

_SUFFIXES = (".md", ".txt")


def list_files(folder: Path) -> Iterator[Path]:
    """The prompt files directly in `folder`, sorted; hidden files and a readme are none."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".") and path.stem.lower() != "readme" and path.is_file():
                yield path


def was_edited_since(path: Path, moment: datetime) -> bool:
    """Whether the file was written after `moment`. A time in the future says nothing and counts as no."""
    return moment < datetime.fromtimestamp(path.stat().st_mtime, UTC) <= now()


def write_whole(path: Path, text: str) -> None:
    """Replace the file by `text` (UTF-8, line ends as they are) in one step. Raises `WorkspaceError`."""
    temporary = path.with_name(f".{new_id()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise WorkspaceError(path=str(path), reason=str(fault.strerror or fault)) from fault
    try:
        with temporary.open("wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as fault:
        temporary.unlink(missing_ok=True)
        raise WorkspaceError(path=str(path), reason=str(fault.strerror or fault)) from fault


def move_aside(path: Path) -> Path:
    """Rename a file nobody can read, so that its place is free and nothing is lost. Raises `WorkspaceError`."""
    aside = path.with_name(f"{path.stem}.{new_id()}.unreadable")
    try:
        return path.rename(aside)
    except OSError as fault:
        raise WorkspaceError(path=str(path), reason=str(fault.strerror or fault)) from fault
