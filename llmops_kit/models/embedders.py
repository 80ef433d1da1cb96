"""The embedders and rerankers of a catalogue: what they promise, those in memory, and what tells them from chat models."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

from llmops_kit.errors import InvalidValue, ModelRefused
from llmops_kit.models.catalogue import ModelEntry

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_Held = TypeVar("_Held")


class Embedder(Protocol):
    """Turns texts into vectors of length 1, so that the dot product of two is their cosine. Safe for any number of threads.

    `languages` are those it knows (ISO 639: `ja`, `en`), empty where it knows many. `revision` names what a passage's
    vector depends on: vectors of two revisions must not be mixed. Each is an embedding model of LangChain, too.
    """

    @property
    def id(self) -> str:
        """The name in the catalogue."""

    @property
    def revision(self) -> str:
        """What its vectors or scores depend on."""

    @property
    def dimensions(self) -> int:
        """The length of a vector."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages it knows; empty: many."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Passages: float32, one row per text; zeros where a text is blank."""

    def encode_query(self, text: str) -> NDArray[np.float32]:
        """One question, shape (dimensions,)."""

    def encode_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Questions: float32, one row per text."""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """As `encode`, in plain lists."""

    def embed_query(self, text: str) -> list[float]:
        """As `encode_query`, in a plain list."""


class Reranker(Protocol):
    """Scores how well each text answers a query, reading both together. Safe for any number of threads."""

    @property
    def id(self) -> str:
        """The name in the catalogue."""

    @property
    def revision(self) -> str:
        """What its vectors or scores depend on."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages it knows; empty: many."""

    def score(self, query: str, texts: Sequence[str]) -> NDArray[np.float32]:
        """One number per text, greater for a better answer; comparable within one query."""


class Embedders:
    """Each local embedder and reranker opened once. Others may be used while one loads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loads: dict[str, threading.Lock] = {}
        self._held: dict[str, object] = {}
        self._refusals: dict[str, ModelRefused] = {}

    def refusal(self, id: str) -> ModelRefused | None:
        """Why the model was refused the last time it was opened, if it was."""
        return self._refusals.get(id)

    def forget_refusal(self, id: str) -> None:
        """Give a refused model another chance, because its files changed."""
        self._refusals.pop(id, None)

    def drop(self, id: str) -> bool:
        """Let a model go; whoever uses it at this moment finishes first. False where it was not there."""
        return self._held.pop(id, None) is not None

    def holds(self, id: str) -> bool:
        """Whether the model is in memory."""
        return id in self._held

    def open(self, entry: ModelEntry, starters: Path, find_folder: Callable[[], tuple[Path, str | None]]) -> Embedder:
        """The embedder of `entry`. A starter's files lie in the folder of its name under `starters`, those of others
        where `find_folder` says (folder, commit).

        Raises:
            InvalidValue: the entry is no embedder.
            ModelRefused: its files are absent or damaged.
            Exception: whatever `find_folder` raises.
        """
        require_kind(entry, "embedding")
        if entry.provider == "starter":
            return self._get(entry, lambda: _load_embedder(entry, starters / entry.model, None))
        return self._get(entry, lambda: _load_embedder(entry, *find_folder()))

    def open_reranker(self, entry: ModelEntry, find_folder: Callable[[], tuple[Path, str | None]]) -> Reranker:
        """The reranker of `entry`. Raises as `open`."""
        require_kind(entry, "reranker")

        def load() -> Reranker:
            from llmops_kit.models.reranker import CrossEncoderReranker

            folder, commit = find_folder()
            return CrossEncoderReranker(entry, folder, commit=commit)

        return self._get(entry, load)

    def _get(self, entry: ModelEntry, load: Callable[[], _Held]) -> _Held:
        with self._lock:
            load_lock = self._loads.setdefault(entry.id, threading.Lock())
        with load_lock:
            held = self._held.get(entry.id)
            if held is None:
                try:
                    held = load()
                except ModelRefused as error:
                    self._refusals[entry.id] = error
                    raise
                self._refusals.pop(entry.id, None)
                self._held[entry.id] = held
        return held  # type: ignore[return-value]  # what stands under an id was made by the same kind of load


def _load_embedder(entry: ModelEntry, folder: Path, commit: str | None) -> Embedder:
    from llmops_kit.models.embedder_files import is_starter

    if entry.provider == "starter" or is_starter(folder):
        from llmops_kit.models.embedder import StarterEmbedder

        return StarterEmbedder(folder, id=entry.id)
    from llmops_kit.models.embedder_transformers import TransformersEmbedder

    return TransformersEmbedder(entry, folder, commit=commit)


def require_kind(entry: ModelEntry, kind: str) -> None:
    """Raises `InvalidValue` where `entry` is no embedder (`embedding`), or no `reranker`."""
    if entry.kind == kind:
        return
    embeds = kind == "embedding"
    what = ("embedder", "埋め込みモデル") if embeds else ("reranker", "並べ替えモデル（reranker）")
    example = "starter-embed" if embeds else "japanese-reranker-xsmall-v2"
    raise InvalidValue(
        en=f"“{entry.id}” is not an {what[0]}. Use one whose kind is “{kind}”, for example “{example}”."
        if embeds
        else f"“{entry.id}” is not a {what[0]}. Use one whose kind is “{kind}”, for example “{example}”.",
        ja=f"「{entry.id}」は{what[1]}ではありません。kindが「{kind}」のもの（例：「{example}」）を使ってください。",
        name=what[0],
        value=entry.id,
    )


def refuse_embedder(entry: ModelEntry) -> None:
    """Raises `InvalidValue` where `entry` gives vectors or scores and cannot answer."""
    if entry.can_chat:
        return
    what = ("vectors", "ベクトル") if entry.kind == "embedding" else ("scores", "スコア")
    raise InvalidValue(
        en=f"“{entry.id}” turns texts into {what[0]} and cannot answer a prompt. Choose a chat model, for example “starter-lm”.",
        ja=f"「{entry.id}」は文章を{what[1]}にするモデルで、プロンプトには答えられません。「starter-lm」などのモデルを選んでください。",
        name="model",
        value=entry.id,
    )
