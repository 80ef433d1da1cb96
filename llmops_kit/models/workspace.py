"""What the workspace keeps of models: entries its owner added, and the commits its downloads are pinned to.

Several processes may write here at once (the app, a notebook, a job that ends): each change is made under a lock beside the file, and
replaces the file at one stroke.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from llmops_kit.errors import InvalidValue, WorkspaceError
from llmops_kit.models.catalogue import ModelEntry, parse_entry, read_catalogue, write_entry

PINS_FILE = "models.lock.yaml"
_PATIENCE_S = 30.0


def make_entry(id: str, given: Mapping[str, Any], *, base: ModelEntry | None) -> ModelEntry:
    """The entry of a model somebody adds, from the fields `given` (None: not given), over those of `base` if there is one.

    Raises:
        InvalidValue: a field does not serve, or nothing says where the model is.
    """
    inherited = {} if base is None else base.model_dump(mode="json", exclude_unset=True, exclude={"display_name", "notes"})
    raw = {"model": id, **inherited, "id": id, **{name: value for name, value in given.items() if value is not None}}
    if raw.get("provider") == "openai":
        raw.setdefault("prompt_style", "openai")
    entry = parse_entry(raw)
    is_nowhere = entry.provider == "openai" and entry.base_url is None and entry.api_key_env is None
    if is_nowhere or (entry.provider == "starter" and entry.adapter is None):
        allowed = "huggingface; openai + base_url (or api_key_env)"
        raise InvalidValue(name="provider, base_url", value=f"{entry.provider}, {entry.base_url}", allowed=allowed)
    if entry.is_local_folder:
        entry = entry.model_copy(update={"model": str(Path(entry.model).absolute())})
    if entry.adapter is not None:
        entry = entry.model_copy(update={"adapter": str(Path(entry.adapter).absolute())})
    return entry


def append_entry(file: Path, raw: Mapping[str, Any]) -> bool:
    """Put an entry at the end of a catalogue file, leaving what is there as it is, comments included. False where its id is there already.

    Raises: `CatalogueError` for a file with an entry that does not serve, `WorkspaceError` for the disk.
    """
    with _locked(file):
        if any(entry.id == raw["id"] for entry in read_catalogue(file)):  # a broken file is named before it is written to
            return False
        before = file.read_text(encoding="utf-8") if file.exists() else ""
        if before and not before.endswith("\n"):
            before += "\n"
        _write(file, before + write_entry(raw))
    return True


def name_pin(entry: ModelEntry) -> str:
    """Under which name the commit of a download is kept: the hub id, with `@refs/…` where the entry names such a reference."""
    is_reference = entry.revision is not None and entry.revision.startswith("refs/")
    return f"{entry.model}@{entry.revision}" if is_reference else entry.model


def read_pins(workspace: Path) -> dict[str, str]:
    """Hub id (see `name_pin`) → commit, of every download made here."""
    file = workspace / PINS_FILE
    pins = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {str(model): str(commit) for model, commit in (pins or {}).items()}


def write_pin(workspace: Path, model: str, commit: str) -> dict[str, str]:
    """Pin `model` (see `name_pin`) to `commit` and give all pins."""
    file = workspace / PINS_FILE
    with _locked(file):
        pins = {**read_pins(workspace), model: commit}
        _write(file, yaml.safe_dump(pins, sort_keys=True))
    return pins


@contextmanager
def _locked(file: Path) -> Iterator[None]:
    """Be the only process that changes `file`."""
    from filelock import FileLock, Timeout

    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(file.with_name(f"{file.name}.lock"), timeout=_PATIENCE_S)
        lock.acquire()
    except Timeout as error:
        raise WorkspaceError(path=file, reason={"en": "another process is writing it", "ja": "別のプロセスが書き込み中です"}) from error
    except OSError as error:
        raise WorkspaceError(path=file, reason=str(error)) from error
    try:
        yield
    finally:
        lock.release()


def _write(file: Path, text: str) -> None:
    """Replace a file at one stroke, so that a crash leaves the old or the new one."""
    draft = file.with_name(f"{file.name}.draft")
    try:
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    except OSError as error:
        raise WorkspaceError(path=file, reason=str(error)) from error
