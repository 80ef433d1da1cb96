"""LoRA adapters of a loaded base model: several at once in one batch, each row with its own."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmops_kit.models.adapter_files import find_unshareable
from llmops_kit.models.loading import ONE_AT_A_TIME

_BASE = "__base__"  # PEFT's word for a row without an adapter


def import_peft() -> None:
    """Import PEFT where a load of another model may be waited for: not in an engine's thread, which has answers to write."""
    with ONE_AT_A_TIME:
        import peft  # noqa: F401 - for the thread that needs it next


@contextmanager
def _quiet() -> Iterator[None]:
    """PEFT warns of which adapter is active, which is never asked here, and of names of transformers that are to change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _refuse_unshareable(config: Any) -> None:
    """Refuse what PEFT would apply to every row of the batch, or cannot apply to some of them."""
    plain = {**config.to_dict(), "peft_type": str(config.peft_type).rpartition(".")[2]}
    if (parts := find_unshareable(plain)) is not None:
        raise ValueError(f"{parts}; only plain LoRA adapters can share a batch. Merge it into its base instead")


class AdapterRack:
    """The adapters that hang on one model. For the engine's own thread only, between two forward passes.

    PEFT's mixed batches serve rows of different adapters in one forward pass (`adapter_names`, one name per row). Its
    `set_adapter` is a switch of the whole model and is never used here, so that a row without a name gets the bare model.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._peft: Any = None
        self._names: list[str] | None = None
        self._hooks: list[Any] = []
        self.held: dict[str, Path] = {}

    def load(self, name: str, folder: Path) -> None:
        """Put the adapter in `folder` on the model under `name`; nothing to do where it is there already.

        By PEFT itself: transformers' own `load_adapter` (5.23) reports the adapters that are there already as missing.

        Raises:
            ValueError, RuntimeError: it belongs to another architecture, is no LoRA adapter, or holds no safetensors.
        """
        from peft import PeftConfig, PeftModel

        if self.held.get(name) == folder:
            return
        self.drop(name)
        if not (folder / "adapter_model.safetensors").is_file():
            raise ValueError("no adapter_model.safetensors; other formats can run code and are not loaded")
        config = PeftConfig.from_pretrained(str(folder))
        _refuse_unshareable(config)
        config.inference_mode = True
        first = self._peft is None
        with _quiet():
            model = PeftModel(self._model, config, adapter_name=name) if first else self._peft
        try:
            with _quiet():
                model.load_adapter(str(folder), adapter_name=name)
        except BaseException:  # what was put on the model so far would act on everybody's answers
            if first:
                model.unload()
            elif name in model.peft_config:
                model.delete_adapter(name)
            raise
        self._peft = model
        self._model.eval()
        self.held[name] = folder
        for hook in self._hooks:
            hook.remove()
        layers = [module for module in self._model.modules() if hasattr(module, "lora_A") and hasattr(module, "base_layer")]
        self._hooks = [layer.register_forward_pre_hook(self._name_rows, with_kwargs=True) for layer in layers]

    def drop(self, name: str) -> None:
        """Take an adapter off the model; with the last one, PEFT's layers too, so that the bare model is as fast as before."""
        if self.held.pop(name, None) is None:
            return
        if self.held:
            with _quiet():
                self._peft.delete_adapter(name)
            return
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self._peft.unload()
        self._peft = None

    @contextmanager
    def chosen(self, names: Sequence[str | None]) -> Iterator[None]:
        """Within: row `i` of the forward pass uses the adapter `names[i]`."""
        self._names = [name or _BASE for name in names]
        try:
            yield
        finally:
            self._names = None

    def _name_rows(self, module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return args, {**kwargs, "adapter_names": self._names} if self._names is not None else kwargs
