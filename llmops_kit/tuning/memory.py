"""Memory of a fine-tuning by formula, line by line, each with its numbers put in. Gigabytes are 10⁹ bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from llmops_kit.tuning.shape import ModelShape

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, "nf4": 0.53}
"""Bytes of a parameter. NF4 with double quantisation: 4 bits and 0.127 for the scales (Dettmers et al. 2023, section 3)."""
ADAPTER_BYTES = 16
"""A trained parameter in float32: itself, its gradient, and Adam's two moments."""
_PIECE_GB = 0.034
"""Of the logits, so much is looked at in float32 in one go, twice; their gradient is written over them (`training.loss`)."""
_WORKING = 1.05
_WORKING_AGAIN = 2.0
"""Peak over what is kept for the backward pass: intermediate results and what the allocator cannot hand out again. Measured on the starter
model on a CPU with 576 to 4,096 tokens (0.8 to 1.7 GB), where the sum of the lines is then within 7 %; with activations computed again, 14 %
below."""
_RUNTIME_GB = {"cpu": 0.72, "cuda": 0.8, "mps": 0.8}
"""The process itself: Python, torch, transformers and PEFT (CPU, measured), or the CUDA context and cuBLAS's workspace (usual)."""


@dataclass(frozen=True)
class Line:
    """One line of an estimate: what, how it is computed with its numbers, and what comes out. `name` is by language."""

    name: Mapping[str, str]
    formula: str
    value: float
    unit: str


@dataclass(frozen=True)
class StepShape:
    """What goes through the model at a time: tokens, and how many of them count in the loss."""

    tokens: int
    counted: int
    copies: int = 1
    """2 for preferences, where the chosen and the rejected answer go through together."""


def measure_lines(
    shape: ModelShape, step: StepShape, *, adapter: int, rank: int, targets: int, dtype: str, weights_dtype: str, device: str, checkpointing: bool
) -> tuple[Line, ...]:
    """The lines of the memory estimate; their sum is the peak."""
    number = BYTES[dtype]
    weights = shape.parameters * BYTES[weights_dtype] / 1e9
    trained = adapter * ADAPTER_BYTES / 1e9
    kept = _kept_per_token(shape, rank, targets)
    tokens = step.tokens * step.copies
    if checkpointing:
        per_token, how, working = shape.layers * shape.hidden + kept, f"({shape.layers} × {shape.hidden} + {kept:,})", _WORKING_AGAIN
    else:
        per_token, how, working = shape.layers * kept, f"{shape.layers} × {kept:,}", _WORKING
    counted = step.counted * step.copies
    runtime = _RUNTIME_GB.get(device, 0.8)
    return (
        Line({"en": "Weights of the base", "ja": "ベースの重み"}, f"{shape.parameters:,} × {BYTES[weights_dtype]:g} B", weights, "GB"),
        Line(
            {"en": "Adapter: weights, gradients, Adam's two moments", "ja": "アダプター：重み、勾配、Adamの2つのモーメント"},
            f"{adapter:,} × {ADAPTER_BYTES} B",
            trained,
            "GB",
        ),
        Line(
            {"en": "Activations of a step", "ja": "1ステップの活性値"},
            f"{tokens:,} × {how} × {number:g} B × {working:g}",
            tokens * per_token * number * working / 1e9,
            "GB",
        ),
        Line(
            {"en": "Logits of the tokens that count", "ja": "損失に数えるトークンのロジット"},
            f"{counted:,} × {shape.vocabulary:,} × {number:g} B + {_PIECE_GB:g} GB",
            counted * shape.vocabulary * number / 1e9 + _PIECE_GB,
            "GB",
        ),
        Line({"en": "The program itself", "ja": "プログラム本体"}, f"{runtime:g} GB", runtime, "GB"),
    )


def _kept_per_token(shape: ModelShape, rank: int, targets: int) -> int:
    """Numbers one layer keeps per token for the backward pass.

    Counted on the saved tensors of a Llama layer with frozen linear layers and LoRA on all of them: two norms keep their input and their
    result (4 h), attention its queries, keys, values and result, the gated network four vectors of its width, each target its `r` inner
    numbers and the inputs of the adapters (4 h more). Korthikanti et al. 2022 count 34 bytes × h for 16-bit training of all weights.
    """
    per_layer = max(1, round(targets / max(shape.layers, 1)))
    return 8 * shape.hidden + 2 * shape.queries + 2 * shape.keys + 4 * shape.feed_forward + per_layer * rank
