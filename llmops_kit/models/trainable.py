"""Models as training needs them: a tokenizer without weights, and weights that nobody else holds."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_kit.errors import InvalidValue
from llmops_kit.models.catalogue import DType, ModelEntry
from llmops_kit.models.turns import TurnEncoder
from llmops_kit.settings import Settings

if TYPE_CHECKING:
    from llmops_kit.models.loading import LoadedModel


def refuse_untunable(entry: ModelEntry) -> None:
    """Raise `InvalidValue` for what has no weights here that an adapter could be trained on: servers, readers, embedders, adapters."""
    allowed = None
    if entry.provider == "openai":
        allowed = {"en": "a model that runs here, such as starter-lm", "ja": "このマシンで動くモデル（starter-lmなど）"}
    elif not entry.can_chat or entry.kind == "extractive":
        allowed = {"en": "a model that writes text", "ja": "文章を書くモデル"}
    elif entry.adapter is not None:
        allowed = {"en": "a model without an adapter of its own; export it merged first", "ja": "アダプターのないモデル（先に結合して書き出してください）"}
    if allowed is not None:
        raise InvalidValue(name="base", value=entry.id, allowed=allowed)


class Encoders:
    """The turn encoders of a catalogue, each made once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[tuple[str, Path], TurnEncoder] = {}

    def get(self, entry: ModelEntry, folder: Path) -> TurnEncoder:
        """The encoder of `entry`, whose files lie in `folder`. Raises `ModelRefused` for a tokenizer that fails its self-test."""
        from llmops_kit.models.loading import ONE_AT_A_TIME
        from llmops_kit.models.tokenizer import compare_tokenizer, load_tokenizer, refuse_differences

        key = (entry.model_dump_json(), folder)
        with self._lock:
            if key not in self._made:
                with ONE_AT_A_TIME:
                    tokenizer = load_tokenizer(entry, folder)
                refuse_differences(entry, compare_tokenizer(tokenizer, entry, folder))
                self._made[key] = TurnEncoder(entry, tokenizer, folder)
            return self._made[key]


def open_trainable(
    entry: ModelEntry, folder: Path, settings: Settings, *, revision: str | None, dtype: DType, quantize: bool, device: str | None
) -> LoadedModel:
    """Load the weights anew, in `dtype`, with the checks every model passes.

    Raises:
        InvalidValue: four bits without CUDA.
        ModelRefused: as `load_model`.
    """
    from llmops_kit.models.loading import choose_device, load_model

    place = device or choose_device()
    if quantize and not place.startswith("cuda"):
        raise InvalidValue(name="method", value="qlora", allowed={"en": "lora (four bits need a CUDA GPU)", "ja": "lora（4ビットにはCUDAのGPUが必要です）"})
    loaded = load_model(entry.model_copy(update={"dtype": dtype}), folder, settings, revision=revision, device=place, quantize=quantize)
    loaded.model.config.use_cache = False
    return loaded
