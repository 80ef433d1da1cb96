"""The data of a job, kept as it was at its launch: what is uploaded, edited or rated afterwards changes nothing in it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import NotSaved, UnreadableFile
from llmops_kit.types import Message

if TYPE_CHECKING:
    from llmops_kit.tuning.dataset import Dataset, Example

DATA_FILE = "data.jsonl"
_HEAD = ("name", "kind", "format", "sha256", "source", "encoding")


def freeze_dataset(dataset: Dataset, folder: Path) -> str:
    """Write the kept rows of `dataset` to `data.jsonl` in `folder` and give the file's SHA-256, which stands in `data.sha256` beside it.

    The first line describes the data set, every further one is an example with its chat messages.

    Raises: `NotSaved` where the disk refuses.
    """
    head = {name: getattr(dataset, name) for name in _HEAD}
    lines = [json.dumps(head, ensure_ascii=False), *(json.dumps(_plain(example), ensure_ascii=False) for example in dataset.examples)]
    text = ("\n".join(lines) + "\n").encode()
    digest = hashlib.sha256(text).hexdigest()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / DATA_FILE, text)
        _write(folder / f"{DATA_FILE}.sha256", f"{digest}  {DATA_FILE}\n".encode())
    except OSError as fault:
        raise NotSaved(reason=fault.strerror or str(fault)) from fault
    return digest


def is_frozen(folder: Path) -> bool:
    """Whether a job's folder holds its data."""
    return (folder / DATA_FILE).is_file()


def read_frozen(folder: Path) -> Dataset:
    """The data of the job whose folder this is, as it was frozen.

    Raises: `UnreadableFile` where it is not there or is not what was written.
    """
    from llmops_kit.tuning.dataset import Dataset

    file = folder / DATA_FILE
    try:
        text = file.read_bytes()
        wanted = (folder / f"{DATA_FILE}.sha256").read_text(encoding="ascii").split()[0]
    except (OSError, IndexError) as fault:
        raise UnreadableFile(file=file.name, reason=str(fault)) from fault
    if (found := hashlib.sha256(text).hexdigest()) != wanted:
        changed = {"en": f"it was changed after the launch (SHA-256 {found[:12]})", "ja": f"起動後に変更されています（SHA-256 {found[:12]}）"}
        raise UnreadableFile(file=file.name, reason=changed)
    head, *rows = (json.loads(line) for line in text.decode().split("\n") if line)
    return Dataset(examples=tuple(_example(row) for row in rows), **head)


def _plain(example: Example) -> dict[str, Any]:
    return asdict(example)


def _example(row: Mapping[str, Any]) -> Example:
    from llmops_kit.tuning.dataset import Example

    return Example(**{**row, "prompt": tuple(Message(**turn) for turn in row["prompt"])})


def _write(file: Path, data: bytes) -> None:
    """Replace a file at one stroke; on the disk when this returns."""
    draft = file.with_name(f"{file.name}.draft")
    with draft.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
