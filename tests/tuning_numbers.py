"""Rows, adapters and the loss as anybody would write it, to compare the training's own with."""

from __future__ import annotations

import random
from typing import Any

from llmops_kit.tuning.spec import TuneSpec
from llmops_kit.tuning.training.batches import Row


def random_rows(count: int, vocabulary: int, *, seed: int = 0, longest: int = 60) -> list[Row]:
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        length, answer = rng.randint(3, longest), rng.randint(1, 20)
        counted = tuple(place >= max(1, length - answer) for place in range(length))
        rows.append(Row(tuple(rng.randrange(5, vocabulary) for _ in range(length)), counted, 1.0 + number % 3, number))
    return rows


def adapter_on(model: Any, **changes: Any) -> Any:
    import torch

    from llmops_kit.tuning.training.adapters import add_adapter

    tuned = add_adapter(model, TuneSpec(data="x", **changes))
    torch.manual_seed(1)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)  # zero at its start: nothing would be seen of it
    return tuned


def plain_loss(tuned: Any, rows: list[Row], total: float) -> Any:
    """The same loss as anybody would write it: each row alone, all logits, torch's cross-entropy."""
    import torch

    loss = torch.zeros(())
    for row in rows:
        logits = tuned(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0, :-1].float()
        counted = torch.tensor(row.counted[1:])
        each = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[1:]), reduction="none")
        loss = loss + each[counted].sum() * row.weight / total
    return loss
