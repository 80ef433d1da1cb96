"""Rows to train on, written to files and read, for the tests of training data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmops_kit.tuning.dataset import Dataset, read_dataset


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read(source: Any, **more: Any) -> Dataset:
    return read_dataset(source, **{"max_mb": 100.0, **more})


def say(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}
