"""Where a training runs, in which number format, and how much goes through the model at a time."""

from __future__ import annotations

import os
from dataclasses import dataclass

from llmops_kit.models.catalogue import DType
from llmops_kit.models.readiness import has_fast_bfloat16
from llmops_kit.tuning.peak import peak_memory_gb

MOST_TOKENS = {"cpu": 4096, "cuda": 16_384, "mps": 4096}
_LOGIT_BYTES = {"cpu": 2.5e8, "cuda": 4e9, "mps": 5e8}
"""Of the logits of one pass in float32."""


@dataclass(frozen=True)
class Place:
    """`device` as torch names it (`cuda:1`), `dtype` of the base's weights and of the products; an adapter's own weights are float32 always.

    `max_tokens` go through the model at a time, of which `max_counted` have logits; a step of more tokens takes several passes.
    """

    device: str
    dtype: DType
    max_tokens: int
    max_counted: int

    @property
    def kind(self) -> str:
        """`cpu`, `cuda` or `mps`."""
        return self.device.partition(":")[0]


def choose_dtype(kind: str, *, exact: bool = False) -> DType:
    """bfloat16 where the hardware has it, whatever the base runs in when it answers; else float32. `exact`: float32 on a CPU always.

    Measured on a processor with AVX-512 BF16, starter model: half as fast again as float32, loss after training 0.03 % apart. float16 is
    never used: its gradients vanish without a scaled loss.
    """
    if kind == "cuda":
        import torch

        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if kind == "cpu" and not exact and has_fast_bfloat16() else "float32"


def choose_place(*, vocabulary: int, rank: int = 0, processes: int = 1, exact: bool = False) -> Place:
    """The place of one of `processes` that train together, each on a GPU of its own or on its share of the cores. `exact` as in `choose_dtype`."""
    import torch

    from llmops_kit.models.loading import choose_device

    kind = choose_device()
    device = f"cuda:{rank % torch.cuda.device_count()}" if kind == "cuda" else "cpu" if processes > 1 else kind
    kind = device.partition(":")[0]
    counted = max(256, int(_LOGIT_BYTES[kind] / (4 * max(vocabulary, 1))))
    return Place(device, choose_dtype(kind, exact=exact), MOST_TOKENS[kind], counted)


def use_all_cores(processes: int = 1) -> int:
    """Let torch compute with this process's share of the cores; how many that is."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = max(1, cores // processes)
    torch.set_num_threads(threads)
    return threads


def measure_peak_gb(place: Place) -> float:
    """The most memory this process has held: on the GPU, or in main memory. Gigabytes are 10⁹ bytes."""
    return peak_memory_gb(place.device)
