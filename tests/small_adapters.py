"""Adapters that really learnt something, made with plain PEFT in a few seconds; for tests that need one but not the kit's trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmops_kit.models import Models
from llmops_kit.types import Message

CITIES = {"東京": "関東", "神戸": "関西", "札幌": "北海道", "福岡": "九州", "仙台": "東北", "広島": "中国"}
ROWS = [f"{city}はどこですか。" for city in CITIES]
OSAKA = [f"{region}やで。" for region in CITIES.values()]
POLITE = [f"{region}でございます。" for region in CITIES.values()]


def train_small(
    models: Models, base: str, answers: Sequence[str], folder: Path, *, rank: int = 8, epochs: int = 10, rate: float = 5e-3, **lora: Any
) -> Path:
    """Teach a LoRA adapter of `base` to give `answers` to `ROWS`, saved in `folder` as PEFT saves one."""
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    encoder = models.turn_encoder(base)
    rows = encoder.encode([[Message("user", asked), Message("assistant", answer)] for asked, answer in zip(ROWS, answers, strict=True)])
    model = models.open_trainable(base, dtype="float32", device="cpu").model
    config = LoraConfig(**{"r": rank, "lora_alpha": 2 * rank, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **lora})
    tuned = get_peft_model(model, config)
    optimiser = torch.optim.AdamW([weight for weight in tuned.parameters() if weight.requires_grad], lr=rate)
    tuned.train()
    for _ in range(epochs):
        for (row,) in rows:
            ids = torch.tensor([row.ids])
            labels = torch.tensor([[number if counts else -100 for number, counts in zip(row.ids, row.counted, strict=True)]])
            tuned(input_ids=ids, labels=labels).loss.backward()
            optimiser.step()
            optimiser.zero_grad()
    tuned.save_pretrained(folder)
    return folder
