"""The shape of a model from its configuration alone: how many parameters, which linear layers and how wide. No weights are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from llmops_kit.errors import InvalidValue

ALL_LINEAR = "all-linear"
"""PEFT's word for every linear layer but the output layer."""
_HEADS = ("lm_head", "embed_out")


@dataclass(frozen=True)
class Linear:
    """One linear layer: its full name, and how many numbers go in and come out."""

    name: str
    inputs: int
    outputs: int

    @property
    def short(self) -> str:
        """The last part of the name, as adapters name their targets."""
        return self.name.rpartition(".")[2]


@dataclass(frozen=True)
class ModelShape:
    """What the formulae need of a causal language model. Widths are numbers per token; `linears` lack the output layer.

    `parameters` counts tied embeddings once. `keys` is the width of the keys (and of the values) of one layer, which grouped attention makes
    smaller than `queries`.
    """

    parameters: int
    hidden: int
    layers: int
    queries: int
    keys: int
    feed_forward: int
    vocabulary: int
    context_tokens: int
    linears: tuple[Linear, ...]

    @property
    def linear_parameters(self) -> int:
        """Parameters in the linear layers, without the output layer: those every token is multiplied with."""
        return sum(linear.inputs * linear.outputs for linear in self.linears)

    def targets(self, names: Sequence[str]) -> tuple[Linear, ...]:
        """The linear layers that get an adapter, found as PEFT finds them: by the whole name or its last parts.

        Raises:
            InvalidValue: a name fits no layer; says which names there are.
        """
        if ALL_LINEAR in names:
            return self.linears
        for name in names:
            if not any(_fits(linear.name, name) for linear in self.linears):
                known = ", ".join(dict.fromkeys([ALL_LINEAR, *(linear.short for linear in self.linears)]))
                raise InvalidValue(name="targets", value=name, allowed=known)
        return tuple(linear for linear in self.linears if any(_fits(linear.name, name) for name in names))


def count_lora(targets: Sequence[Linear], rank: int, *, dora: bool = False) -> int:
    """Parameters of an adapter: Σ r·(d_in + d_out) over its targets (LoRA, Hu et al. 2021); DoRA adds a length per output."""
    return sum(rank * (linear.inputs + linear.outputs) + (linear.outputs if dora else 0) for linear in targets)


@lru_cache(maxsize=32)
def _read(file: Path, _changed_ns: int) -> ModelShape:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(str(file.parent), local_files_only=True)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    return _measure(model, config)


def read_shape(folder: Path) -> ModelShape:
    """The shape of the model whose `config.json` lies in `folder`: built without memory (torch's `meta` device).

    Raises:
        InvalidValue: the configuration is of no causal language model that transformers knows by itself.
    """
    file = folder / "config.json"
    try:
        return _read(file, file.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, AttributeError, ImportError) as fault:
        reason = " ".join(str(fault).split())[:200]
        raise InvalidValue(
            en=f"“{folder.name}” cannot be tuned: its configuration cannot be read ({reason}). Choose another base.",
            ja=f"「{folder.name}」はチューニングできません：設定を読めません（{reason}）。別のベースを選んでください。",
            name="base",
            value=folder.name,
        ) from fault


def _measure(model: Any, config: Any) -> ModelShape:
    head = model.get_output_embeddings()
    linears = tuple(
        linear for name, module in model.named_modules() if module is not head and not name.endswith(_HEADS) and (linear := _linear(name, module)) is not None
    )
    hidden, layers = int(config.hidden_size), int(config.num_hidden_layers)
    heads = int(config.num_attention_heads)
    width = int(getattr(config, "head_dim", None) or hidden // heads)
    wide = [linear.outputs for linear in linears if linear.inputs == hidden and linear.outputs > hidden]
    return ModelShape(
        parameters=sum(weight.numel() for weight in model.parameters()),
        hidden=hidden,
        layers=layers,
        queries=heads * width,
        keys=int(getattr(config, "num_key_value_heads", None) or heads) * width,
        feed_forward=int(getattr(config, "intermediate_size", None) or max(wide, default=4 * hidden)),
        vocabulary=int(config.vocab_size),
        context_tokens=int(getattr(config, "max_position_embeddings", None) or 0),
        linears=linears,
    )


def _linear(name: str, module: Any) -> Linear | None:
    """A linear layer, or GPT-2's `Conv1D`, which is one with its weights turned."""
    kind = type(module).__name__
    if kind == "Linear":
        return Linear(name, int(module.in_features), int(module.out_features))
    if kind == "Conv1D":
        return Linear(name, int(module.weight.shape[0]), int(module.weight.shape[1]))
    return None


def _fits(name: str, target: str) -> bool:
    return name == target or name.endswith(f".{target}")


def guess_shape(parameters: int, context_tokens: int) -> ModelShape:
    """A Llama of about so many parameters, for a model that is not on this machine yet: 12·layers·hidden², layers = hidden / 128."""
    hidden = max(64, round((parameters * 128 / 12) ** (1 / 3) / 64) * 64)
    layers = max(1, round(parameters / (12 * hidden**2)))
    wide = round(8 * hidden / 3)
    widths = (("q_proj", hidden, hidden), ("k_proj", hidden, hidden), ("v_proj", hidden, hidden), ("o_proj", hidden, hidden))
    widths += (("gate_proj", hidden, wide), ("up_proj", hidden, wide), ("down_proj", wide, hidden))  # type: ignore[assignment]
    linears = tuple(Linear(f"layers.{layer}.{name}", inputs, outputs) for layer in range(layers) for name, inputs, outputs in widths)
    return ModelShape(parameters, hidden, layers, hidden, hidden, wide, 32_000, context_tokens, linears)


def wants_own_code(folder: Path) -> bool:
    """Whether the model's configuration names code of its own, which is not run here."""
    file = folder / "config.json"
    try:
        raw: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return "auto_map" in raw
