"""The models in memory: each base loaded once, shared by its adapters, kept while there is room, and let go when others need it."""

from __future__ import annotations

import gc
import itertools
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import ModelRefused
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.readiness import ModelState, measure_machine
from llmops_kit.settings import Settings

if TYPE_CHECKING:
    from llmops_kit.models.chat import StreamedChat
    from llmops_kit.models.engine import LocalEngine
    from llmops_kit.models.loading import LoadedModel

_WEIGHT_FIELDS = ("provider", "model", "revision", "dtype", "tokenizer_loader", "trust_remote_code")
_MEGABYTES_PER_GB = 1000
_PATIENCE_S = 2.0


@dataclass(frozen=True)
class LoadedInfo:
    """A model that is in memory: its weights in megabytes (0 for an adapter, which shares its base's), where they are and in which number format."""

    id: str
    memory_mb: float
    device: str
    dtype: str


@dataclass(frozen=True)
class Resident:
    """A model in memory and how to talk to it. `engine` and `loaded` are None for the span reader, which has no tokenizer."""

    chat: StreamedChat
    loaded: LoadedModel | None
    memory_mb: float
    device: str
    dtype: str
    engine: LocalEngine | None = None


@dataclass
class _Base:
    """A base model's weights and engine, and the entries that stand on them."""

    loaded: LoadedModel
    engine: LocalEngine
    users: dict[str, str | None] = field(default_factory=dict)
    """Entry id → the name its adapter has in the engine, new with each load, so that a drop that still waits takes no later one away."""


class Residents:
    """Loads models and holds them. A model that several threads want at once is loaded by one of them; the others wait."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._held: dict[str, Resident] = {}
        self._bases: dict[tuple[Any, ...], _Base] = {}
        self._adapter_numbers = itertools.count(1)
        self._used_at: dict[str, float] = {}
        self._load_locks: dict[object, threading.Lock] = {}
        self._loading: dict[str, float] = {}
        self._refusals: dict[str, ModelRefused] = {}

    def get(self, entry: ModelEntry, find_folder: Callable[[], tuple[Path, str | None]]) -> Resident:
        """The resident for `entry`, loaded from what `find_folder` gives (folder, commit) if it is not there yet.

        Raises:
            ModelRefused: the model failed its self-test; remembered for `refusal`.
            Exception: whatever `find_folder` raises.
        """
        self._used_at[entry.id] = time.monotonic()
        if (held := self._held.get(entry.id)) is not None:
            return held
        with self._lock:
            load_lock = self._load_locks.setdefault(_name_base(entry), threading.Lock())
        with load_lock:
            if (held := self._held.get(entry.id)) is not None:
                return held
            folder, commit = find_folder()
            self._loading[entry.id] = 0.0
            try:
                resident = self._load(entry, folder, commit)
            except ModelRefused as error:
                self._refusals[entry.id] = error
                raise
            finally:
                self._loading.pop(entry.id, None)
            self._refusals.pop(entry.id, None)
            self._held[entry.id] = resident
            return resident

    def held(self) -> dict[str, Resident]:
        """What is in memory, by id."""
        return dict(self._held)

    def loading_share(self, id: str) -> float | None:
        """Which share of the model's tensors has been read, from 0 to 1, while it is being loaded; else None."""
        return self._loading.get(id)

    def refusal(self, id: str) -> ModelRefused | None:
        """Why the model was refused the last time it was loaded, if it was."""
        return self._refusals.get(id)

    def forget_refusal(self, id: str) -> None:
        """Give a refused model another chance, because its files changed."""
        self._refusals.pop(id, None)

    def drop(self, id: str) -> bool:
        """Let a model go; answers under way finish first. False where it was not there."""
        with self._lock:
            held = self._held.pop(id, None)
            if held is None:
                return False
            on_cuda = held.device == "cuda"
            self._leave_base(id)
        del held
        gc.collect()
        if on_cuda and "torch" in sys.modules:
            import torch

            torch.cuda.empty_cache()
        return True

    def drop_idlest(self, *, besides: str) -> bool:
        """Let the model go that has not been used for longest and is not answering. False where there is none."""
        idle = [id for id, held in self._held.items() if id != besides and not _is_busy(held)]
        return bool(idle) and self.drop(min(idle, key=lambda id: self._used_at.get(id, 0.0)))

    def make_room(self, entry: ModelEntry, needs_gb: float | None, find_blocker: Callable[[], ModelState | None]) -> ModelState | None:
        """What keeps the model from being loaded, after idle models were let go for it as far as that helps. Answers about to end are waited for."""
        if _name_base(entry) in self._bases:  # an adapter of a base that is there: it costs next to nothing
            state = find_blocker()
            return None if state is not None and state.status == "too_large" else state
        until = time.monotonic() + _PATIENCE_S
        while True:
            state, is_full = find_blocker(), not self.has_budget_for(needs_gb)
            if not is_full and (state is None or state.status != "too_large"):
                return state
            if self.drop_idlest(besides=entry.id):
                continue
            if time.monotonic() < until and any(map(_is_busy, self.held().values())):
                time.sleep(0.05)
            else:
                return state or ModelState("too_large", needs_gb=needs_gb, has_gb=self._settings.local_memory_gb)

    def has_budget_for(self, needs_gb: float | None) -> bool:
        """Whether a model of this size fits the memory that the settings allow for all models together (0: no limit of their own)."""
        limit = self._settings.local_memory_gb
        readers_mb = sum(held.memory_mb for held in self._held.values() if held.loaded is None)
        held_gb = (readers_mb + sum(base.loaded.memory_mb for base in self._bases.values())) / _MEGABYTES_PER_GB
        return not limit or needs_gb is None or held_gb + needs_gb <= limit

    def _leave_base(self, id: str) -> None:
        for key, base in list(self._bases.items()):
            if id in base.users:
                adapter = base.users.pop(id)
                if not base.users:
                    del self._bases[key]
                    base.engine.retire()
                elif adapter is not None:  # waits for answers that use it, which may take as long as they do
                    threading.Thread(target=base.engine.drop_adapter, args=(adapter,), daemon=True, name=f"drop {id}").start()

    def _load(self, entry: ModelEntry, folder: Path, commit: str | None) -> Resident:
        if entry.kind == "extractive":
            return _load_reader(entry, folder)
        from llmops_kit.models.local import LocalChat

        key, fresh_mb = _name_base(entry), 0.0
        base = self._bases.get(key)
        if base is None:
            base = self._load_base(entry, folder, commit)
            fresh_mb = base.loaded.memory_mb
        adapter = f"adapter{next(self._adapter_numbers)}" if entry.adapter else None
        _check_origin(entry, base.loaded, folder)
        engine = base.engine.for_entry(entry, adapter=adapter)
        if adapter and entry.adapter:
            engine.load_adapter(adapter, Path(entry.adapter))
        with self._lock:
            base.users[entry.id] = adapter
            self._bases[key] = base
        loaded = base.loaded
        return Resident(LocalChat(entry=entry, engine=engine), loaded, fresh_mb, loaded.device, loaded.dtype, engine)

    def _load_base(self, entry: ModelEntry, folder: Path, commit: str | None) -> _Base:
        from llmops_kit.models.engine import EngineLimits, LocalEngine
        from llmops_kit.models.loading import load_model

        def report(share: float) -> None:
            self._loading[entry.id] = share

        loaded = load_model(entry, folder, self._settings, revision=commit, progress=report)
        settings = self._settings
        limits = EngineLimits(
            slots=settings.local_slots,
            waiting=settings.local_waiting,
            timeout_s=settings.local_timeout_s,
            cache_mb=settings.local_cache_mb or _measure_cache_mb(loaded.device),
            prefill_tokens=512 if loaded.device == "cpu" else 4096,
            threads=settings.local_threads,
        )
        return _Base(loaded, LocalEngine(loaded, limits))


def _name_base(entry: ModelEntry) -> tuple[Any, ...]:
    """What two entries have in common that may share weights."""
    return tuple(getattr(entry, name) for name in _WEIGHT_FIELDS)


def _check_origin(entry: ModelEntry, loaded: LoadedModel, folder: Path) -> None:
    """Refuse an adapter that is damaged or was made for other weights or another prompt format; also a merged model of another format.

    Raises: `ModelRefused`.
    """
    from llmops_kit.models import adapter_files
    from llmops_kit.models.loading import fingerprint
    from llmops_kit.models.turns import TurnEncoder

    if entry.adapter is None and not (folder / adapter_files.CARD_FILE).is_file():
        return
    template_sha256 = TurnEncoder(entry, loaded.tokenizer, folder).template_sha256
    if entry.adapter is None:
        adapter_files.check_sums(entry.id, folder)
        card = {**(adapter_files.read_card(folder) or {}), "base_revision": None, "base_fingerprint": None}
        adapter_files.check_origin(entry.id, card, revisions=(), template_sha256=template_sha256)
    else:
        revisions = {loaded.revision, fingerprint(folder)}
        adapter_files.check_adapter(entry.id, Path(entry.adapter), loaded.model, revisions=revisions, template_sha256=template_sha256)


def _is_busy(held: Resident) -> bool:
    return held.engine is not None and held.engine.is_busy


def _measure_cache_mb(device: str) -> float:
    """Megabytes for the attention cache where the settings name none: half of what is free, between 256 and 4096 on a processor."""
    free_mb = measure_machine().memory_free_gb * _MEGABYTES_PER_GB / 2
    return free_mb if device == "cuda" else min(4096.0, max(256.0, free_mb))


def _load_reader(entry: ModelEntry, folder: Path) -> Resident:
    from llmops_kit.models.loading import verify_checksums
    from llmops_kit.models.reader import StarterReader

    if entry.provider == "starter":
        verify_checksums(entry, folder)
    size_mb = sum(file.stat().st_size for file in folder.iterdir()) / 1e6
    return Resident(StarterReader(folder=folder), None, size_mb, "cpu", "float32")


