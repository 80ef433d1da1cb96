"""The adapter on the model: made by PEFT, with the common case of its layers computed in one go.

PEFT's layer makes four intermediate tensors as large as its output. `_Joined` adds the adapter to the base layer's result in place, and
keeps for the backward pass only the input and the narrow inner product. Same numbers, saved and loaded as PEFT's.
"""

from __future__ import annotations

from types import MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmops_kit.tuning.spec import TuneSpec


def add_adapter(model: Any, spec: TuneSpec) -> Any:
    """A PEFT model with a new adapter in float32 on `model`, its start drawn by the spec's seed.

    Raises: `InvalidValue` where no layer has one of the names in `targets`.
    """
    import torch
    from peft import LoraConfig, get_peft_model

    from llmops_kit.errors import InvalidValue

    torch.manual_seed(spec.seed)
    config = LoraConfig(
        r=spec.rank,
        lora_alpha=spec.alpha,
        lora_dropout=spec.dropout,
        target_modules=spec.targets[0] if spec.targets == ("all-linear",) else list(spec.targets),
        exclude_modules=_without_direction(model) if spec.method == "dora" else None,
        use_dora=spec.method == "dora",
        task_type="CAUSAL_LM",
    )
    try:
        tuned = get_peft_model(model, config)
    except ValueError as error:
        raise InvalidValue(name="targets", value=", ".join(spec.targets), allowed={"en": "names of linear layers", "ja": "線形層の名前"}) from error
    for weight in tuned.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return tuned


def _without_direction(model: Any) -> list[str] | None:
    """Linear layers with a row of zeros: DoRA divides each row by its length (Liu et al. 2024, equation 5), which gives no number there."""
    import torch

    layers = ((name, layer.weight) for name, layer in model.named_modules() if isinstance(layer, torch.nn.Linear))
    return [name for name, weight in layers if not bool(weight.detach().abs().amax(dim=1).min())] or None


def join_layers(tuned: Any) -> bool:
    """Compute the plain LoRA layers of `tuned` in one go. False where some are of another kind, which stay as PEFT has them."""
    import torch
    from peft.tuners.lora import Linear, LoraLayer

    complete = True
    for layer in tuned.modules():
        if not isinstance(layer, LoraLayer):
            continue
        names = layer.active_adapters
        plain = type(layer) is Linear and type(layer.base_layer) is torch.nn.Linear and len(names) == 1
        if plain and names[0] in layer.lora_A and not layer.use_dora.get(names[0]) and not layer.lora_bias.get(names[0]) and not layer.fan_in_fan_out:
            layer.forward = MethodType(_forward, layer)
        else:
            complete = False
    return complete


def _forward(layer: Any, x: Any, *_: Any, **__: Any) -> Any:
    from llmops_kit.tuning.training.joined import Joined

    base = layer.base_layer
    if layer.disable_adapters or layer.merged:
        return base(x)
    name = layer.active_adapters[0]
    dropout = layer.lora_dropout[name]
    dropped = dropout(x) if layer.training and getattr(dropout, "p", 0.0) else None
    return Joined.apply(x, dropped, base.weight, base.bias, layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name])  # type: ignore[no-untyped-call]

