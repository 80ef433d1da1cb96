"""The embedders of a catalogue that are in memory, and what tells them from chat models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llmops_kit.errors import InvalidValue, ModelRefused
from llmops_kit.models.catalogue import ModelEntry

if TYPE_CHECKING:
    from llmops_kit.models.embedder import StarterEmbedder


class Embedders:
    """Each embedder opened once. The owner locks around `open`."""

    def __init__(self) -> None:
        self._open: dict[str, StarterEmbedder] = {}
        self._refusals: dict[str, ModelRefused] = {}

    def refusal(self, id: str) -> ModelRefused | None:
        """Why the embedder was refused the last time it was opened, if it was."""
        return self._refusals.get(id)

    def open(self, entry: ModelEntry, weights: Path) -> StarterEmbedder:
        """The embedder of `entry`; a starter's files lie in the folder of its name under `weights`.

        Raises:
            InvalidValue: the entry is no embedder, or not one that runs here.
            ModelRefused: its files are absent or damaged.
        """
        if entry.id not in self._open:
            from llmops_kit.models.embedder import StarterEmbedder

            if entry.kind != "embedding" or not (entry.provider == "starter" or entry.is_local_folder):
                raise InvalidValue(
                    en=f"“{entry.id}” is not an embedder that runs here. Use “starter-embed”, or a folder that its recipe wrote.",
                    ja=f"「{entry.id}」はここで動く埋め込みモデルではありません。「starter-embed」か、そのレシピで作ったフォルダーを使ってください。",
                    name="embedder",
                    value=entry.id,
                )
            try:
                self._open[entry.id] = StarterEmbedder(weights / entry.model if entry.provider == "starter" else Path(entry.model))
            except ModelRefused as error:
                self._refusals[entry.id] = error
                raise
            self._refusals.pop(entry.id, None)
        return self._open[entry.id]


def refuse_embedder(entry: ModelEntry) -> None:
    """Raises `InvalidValue` where `entry` gives vectors and cannot answer."""
    if entry.kind == "embedding":
        raise InvalidValue(
            en=f"“{entry.id}” turns texts into vectors and cannot answer a prompt. Choose a chat model, for example “starter-lm”.",
            ja=f"「{entry.id}」は文章をベクトルにするモデルで、プロンプトには答えられません。「starter-lm」などのモデルを選んでください。",
            name="model",
            value=entry.id,
        )
