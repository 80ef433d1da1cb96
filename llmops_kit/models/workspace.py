"""What the workspace keeps of models: entries its owner added, and the commits its downloads are pinned to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from llmops_kit.errors import WorkspaceError
from llmops_kit.models.catalogue import read_catalogue, write_entry

PINS_FILE = "models.lock.yaml"


def append_entry(file: Path, raw: Mapping[str, Any]) -> None:
    """Put an entry at the end of a catalogue file, leaving what is there as it is, comments included."""
    read_catalogue(file)  # a broken file is named before it is written to
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    if before and not before.endswith("\n"):
        before += "\n"
    _write(file, before + write_entry(raw))


def read_pins(workspace: Path) -> dict[str, str]:
    """Hub id → commit, of every download made here."""
    file = workspace / PINS_FILE
    pins = yaml.safe_load(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return {str(model): str(commit) for model, commit in (pins or {}).items()}


def write_pin(workspace: Path, model: str, commit: str) -> dict[str, str]:
    """Pin `model` to `commit` and give all pins."""
    pins = {**read_pins(workspace), model: commit}
    _write(workspace / PINS_FILE, yaml.safe_dump(pins, sort_keys=True))
    return pins


def _write(file: Path, text: str) -> None:
    """Replace a file at one stroke, so that a crash leaves the old or the new one."""
    draft = file.with_name(f"{file.name}.draft")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(file)
    except OSError as error:
        raise WorkspaceError(path=file, reason=str(error)) from error
