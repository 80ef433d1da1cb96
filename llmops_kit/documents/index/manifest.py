"""What the index of a collection holds: which documents, of which generation, in which builds. One JSON file, written after the index has it.

`pending` names the documents that a sync is about to touch. It is written before the first of them changes, so that after a kill the
next sync knows of whom parts may be there already.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from llmops_kit.errors import WorkspaceError
from llmops_kit.types import Collection

FILE = "manifest.json"
FORMAT = 1


class Indexed(NamedTuple):
    """One document as the index has it: its generation, its chunks, how many of them have a vector, and their terms in all."""

    generation: int
    chunks: int
    vectors: int
    terms: int


@dataclass
class Manifest:
    """The state of one collection's index.

    `identity` is what its vectors and terms were made with. `lexical` and `dense` name the current build of each leg. `removed` counts
    the chunks whose traces are still inside the builds.
    """

    identity: dict[str, Any]
    lexical: str
    dense: str
    documents: dict[str, Indexed] = field(default_factory=dict)
    pending: set[str] = field(default_factory=set)
    removed: int = 0

    @property
    def chunks(self) -> int:
        """How many chunks the index holds."""
        return sum(entry.chunks for entry in self.documents.values())

    @property
    def vectors(self) -> int:
        """How many of them have a vector."""
        return sum(entry.vectors for entry in self.documents.values())

    @property
    def mean_length(self) -> float:
        """Terms per chunk; 1 where there are none, so that nothing is divided by 0."""
        terms = sum(entry.terms for entry in self.documents.values())
        return terms / self.chunks if terms else 1.0

    def save(self, folder: Path) -> None:
        """Write it in the place of the one in `folder`, whole or not at all, even if the power goes. Raises: WorkspaceError, if the disk refuses."""
        plain = {
            "format": FORMAT,
            "identity": self.identity,
            "lexical": self.lexical,
            "dense": self.dense,
            "documents": self.documents,
            "pending": sorted(self.pending),
            "removed": self.removed,
        }
        try:
            _replace_file(folder, json.dumps(plain, ensure_ascii=False, separators=(",", ":")))
        except OSError as error:
            raise WorkspaceError(path=folder, reason=str(error)) from error


def load(folder: Path) -> Manifest | None:
    """The manifest in `folder`; None where there is none, or none that can be read: then the index is made anew."""
    try:
        plain = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if plain["format"] != FORMAT:
            return None
        documents = {id: Indexed(*map(int, entry)) for id, entry in plain["documents"].items()}
        return Manifest(dict(plain["identity"]), str(plain["lexical"]), str(plain["dense"]), documents, set(plain["pending"]), int(plain["removed"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def identify(collection: Collection, backend: str) -> dict[str, Any]:
    """What the index of a collection depends on besides its chunks; another identity means another index."""
    names = ("embedder", "embedder_revision", "dimensions", "chunker", "tokenizer")
    return {"vectors": backend, **{name: getattr(collection, name) for name in names}}


def _replace_file(folder: Path, text: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    fresh = folder / f"{FILE}.new"
    with fresh.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(folder / FILE)
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    if not hasattr(os, "O_DIRECTORY"):  # Windows has no handle of a folder to sync
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
