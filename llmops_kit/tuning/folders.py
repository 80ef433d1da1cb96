"""Folders of models, written so that a reader finds a whole one or none: aside, with checksums, on the disk, then under their name."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmops_kit.errors import NotSaved
from llmops_kit.models.adapter_files import SUMS_FILE

_DRAFT = ".part"


@contextmanager
def draft_of(parent: Path, name: str) -> Iterator[Path]:
    """An empty folder in `parent` to write in, called by `name` so that the next try of the same work takes the place of a lost one.

    Taken away at the end, unless it got another name by then.
    """
    draft = parent / f".{name}{_DRAFT}"
    parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def as_not_saved() -> Iterator[None]:
    """Turn what the disk refuses into `NotSaved`."""
    try:
        yield
    except OSError as error:
        raise NotSaved(reason=error.strerror or str(error)) from error


def seal(folder: Path) -> None:
    """List the checksums of all files in `folder` (no folders in it), readable for all, and bring them to the disk."""
    from llmops_kit.models.loading import hash_file

    files = sorted(file for file in folder.iterdir() if file.name != SUMS_FILE)
    (folder / SUMS_FILE).write_text("".join(f"{hash_file(file)}  {file.name}\n" for file in files), encoding="utf-8")
    for file in (*files, folder / SUMS_FILE):
        file.chmod(0o644)  # safetensors makes its files 0600
        _sync(file)
    _sync(folder)


def settle(draft: Path, target: Path) -> bool:
    """Give a sealed draft its name. False where another folder has it: that is not touched."""
    try:
        draft.rename(target)  # onto a folder that is not empty it fails, also where two do it at once
    except OSError:
        if target.exists():
            return False
        raise
    _sync(target.parent)
    return True


def _sync(path: Path) -> None:
    if path.is_dir() and os.name == "nt":
        return  # no folder can be opened there
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
