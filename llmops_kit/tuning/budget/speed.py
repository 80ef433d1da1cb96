"""How long a training takes: its floating-point operations, and how many of them a second this machine has managed, tried or is trusted with."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from llmops_kit.tuning.memory import Line
from llmops_kit.tuning.shape import ModelShape

if TYPE_CHECKING:
    from llmops_kit.store import Store
    from llmops_kit.tuning.spec import TuneSpec

_CPU_FLOPS_PER_CORE = {"float32": 2.5e10, "bfloat16": 4.5e10}
"""With small matrices, loss and optimiser included, about half of what a quiet server core reached; a laptop of some years does less."""
_GPU_PEAKS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40": 181e12, "L4": 121e12, "A10": 125e12, "T4": 65e12}
"""Dense 16-bit operations a second as the vendor's data sheets of 2024 say; the first name that is part of the device's name counts."""
_OTHER_GPU_PEAK = 50e12
_GPU_SHARE = 0.2
"""Of the peak: small clusters and plain training loops reach 15 to 35 %."""
_MPS_FLOPS = 2e12
_GPU_STEP_S_PER_LAYER = 6e-3
"""A GPU's step of one layer with adapters takes so long however small its matrices are: about a hundred kernels each way."""
_RECENT = 5


@dataclass(frozen=True)
class Work:
    """The floating-point operations of a run: `training` with its steps, `evaluation`, and `writing` the samples."""

    training: float
    evaluation: float
    tokens: int
    lines: tuple[Line, ...]

    @property
    def per_token(self) -> float:
        """Operations for each token trained on."""
        return self.training / max(self.tokens, 1)


def count_work(
    shape: ModelShape, *, tokens: int, counted: int, width: float, eval_tokens: int, adapter: int, checkpointing: bool, is_preference: bool
) -> Work:
    """Operations of a run with a frozen base: 4 per linear parameter and token (2 forward, 2 for the gradients of the activations), 6 per
    parameter of the adapter, 2 more per linear parameter where activations are computed again, and 2 for the reference of preferences.

    Attention takes 8·layers·width·queries per token on top, `width` being the tokens each one looks at on average, and the output layer
    4·hidden·vocabulary for each token that counts. Sources: Kaplan et al. 2020 (2 and 4 per parameter), Chowdhery et al. 2022, appendix B
    (attention).
    """
    factor = 4 + 2 * checkpointing + 2 * is_preference
    linear = factor * shape.linear_parameters * tokens
    trained = 6 * adapter * tokens
    attention = 8 * shape.layers * width * shape.queries * tokens
    head = 4 * shape.hidden * shape.vocabulary * counted
    evaluation = 2.0 * shape.linear_parameters * eval_tokens
    lines = (
        Line({"en": "Operations: base", "ja": "演算量：ベース"}, f"{factor} × {shape.linear_parameters:,} × {tokens:,}", linear, "FLOP"),
        Line({"en": "Operations: adapter", "ja": "演算量：アダプター"}, f"6 × {adapter:,} × {tokens:,}", trained, "FLOP"),
        Line(
            {"en": "Operations: attention", "ja": "演算量：アテンション"},
            f"8 × {shape.layers} × {width:.0f} × {shape.queries} × {tokens:,}",
            attention,
            "FLOP",
        ),
        Line({"en": "Operations: output layer", "ja": "演算量：出力層"}, f"4 × {shape.hidden} × {shape.vocabulary:,} × {counted:,}", head, "FLOP"),
    )
    return Work(float(linear + trained + attention + head), evaluation, tokens, lines)


def trust_speed(device: str, *, exact: bool = False) -> tuple[float, str]:
    """A cautious number of operations a second for this machine, and how it is made up; `exact`: on a processor in float32 in any case."""
    if device == "cuda":
        import torch

        name = torch.cuda.get_device_name()
        peak = next((peak for part, peak in _GPU_PEAKS.items() if part in name), _OTHER_GPU_PEAK)
        return peak * _GPU_SHARE, f"{name}: {peak / 1e12:g} TFLOP/s × {_GPU_SHARE:g}"
    if device == "mps":
        return _MPS_FLOPS, f"{_MPS_FLOPS / 1e12:g} TFLOP/s"
    from llmops_kit.models.readiness import has_fast_bfloat16

    cores, dtype = count_cores(), "bfloat16" if not exact and has_fast_bfloat16() else "float32"
    return cores * _CPU_FLOPS_PER_CORE[dtype], f"{cores} × {_CPU_FLOPS_PER_CORE[dtype] / 1e9:g} GFLOP/s"


def count_cores() -> int:
    """Processor cores this process may use."""
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def least_step_s(shape: ModelShape, device: str) -> float:
    """Seconds a step takes at least, whatever its size."""
    return shape.layers * _GPU_STEP_S_PER_LAYER if device == "cuda" else 0.0


def remember_speed(store: Store, spec: TuneSpec, device: str) -> tuple[float, int] | None:
    """Tokens a second of the latest finished jobs with this base, method and kind of device (their median), and how many jobs; None without any."""
    from llmops_kit.types import Job

    found: list[float] = []
    for job in store.find(Job, state="finished", limit=100):
        same = job.kind == "tune" and job.spec.get("base") == spec.base and job.spec.get("method", "lora") == spec.method
        same = same and job.result.get("device", device) == device
        same = same and bool(job.spec.get("packing", True)) == spec.packing and bool(job.spec.get("checkpointing")) == bool(spec.checkpointing)
        speed = job.result.get("tokens_per_s")
        if same and isinstance(speed, (int, float)) and speed > 0:
            found.append(float(speed))
    return (median(found[:_RECENT]), len(found[:_RECENT])) if found else None
