"""The models in memory: each loaded once, kept until it is asked to leave."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_kit.errors import ModelRefused
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.settings import Settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from llmops_kit.models.loading import LoadedModel


@dataclass(frozen=True)
class LoadedInfo:
    """A model that is in memory: its weights in megabytes, where they are and in which number format."""

    id: str
    memory_mb: float
    device: str
    dtype: str


@dataclass(frozen=True)
class Resident:
    """A model in memory and how to talk to it. `loaded` is None for the span reader, which has no tokenizer."""

    chat: BaseChatModel
    loaded: LoadedModel | None
    memory_mb: float
    device: str
    dtype: str


class Residents:
    """Loads models and holds them. A model that several threads want at once is loaded by one of them; the others wait."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._held: dict[str, Resident] = {}
        self._load_locks: dict[str, threading.Lock] = {}
        self._loading: set[str] = set()
        self._refusals: dict[str, ModelRefused] = {}

    def get(self, entry: ModelEntry, find_folder: Callable[[], tuple[Path, str | None]]) -> Resident:
        """The resident for `entry`, loaded from what `find_folder` gives (folder, commit) if it is not there yet.

        Raises:
            ModelRefused: the model failed its self-test; remembered for `refusal`.
            Exception: whatever `find_folder` raises.
        """
        if (held := self._held.get(entry.id)) is not None:
            return held
        with self._lock:
            load_lock = self._load_locks.setdefault(entry.id, threading.Lock())
        with load_lock:
            if (held := self._held.get(entry.id)) is not None:
                return held
            folder, commit = find_folder()
            self._loading.add(entry.id)
            try:
                resident = self._load(entry, folder, commit)
            except ModelRefused as error:
                self._refusals[entry.id] = error
                raise
            finally:
                self._loading.discard(entry.id)
            self._refusals.pop(entry.id, None)
            self._held[entry.id] = resident
            return resident

    def held(self) -> dict[str, Resident]:
        """What is in memory, by id."""
        return dict(self._held)

    def is_loading(self, id: str) -> bool:
        """Whether the model is being loaded right now."""
        return id in self._loading

    def refusal(self, id: str) -> ModelRefused | None:
        """Why the model was refused the last time it was loaded, if it was."""
        return self._refusals.get(id)

    def forget_refusal(self, id: str) -> None:
        """Give a refused model another chance, because its files changed."""
        self._refusals.pop(id, None)

    def drop(self, id: str) -> bool:
        """Let a model go; answers under way finish first. False where it was not there."""
        held = self._held.pop(id, None)
        if held is None:
            return False
        on_cuda = held.device == "cuda"
        del held
        gc.collect()
        if on_cuda and "torch" in sys.modules:
            import torch

            torch.cuda.empty_cache()
        return True

    def _load(self, entry: ModelEntry, folder: Path, commit: str | None) -> Resident:
        if entry.kind == "extractive":
            return _load_reader(entry, folder)
        from llmops_kit.models.engine import LocalEngine
        from llmops_kit.models.loading import load_model
        from llmops_kit.models.local import LocalChat

        loaded = load_model(entry, folder, self._settings, revision=commit)
        return Resident(LocalChat(entry=entry, engine=LocalEngine(loaded)), loaded, loaded.memory_mb, loaded.device, loaded.dtype)


def _load_reader(entry: ModelEntry, folder: Path) -> Resident:
    from llmops_kit.models.loading import verify_checksums
    from llmops_kit.models.reader import StarterReader

    if entry.provider == "starter":
        verify_checksums(entry, folder)
    size_mb = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    return Resident(StarterReader(folder=folder), None, size_mb, "cpu", "float32")
