"""The token ids at which a model's answer ends."""

from __future__ import annotations

from typing import Any


def find_stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The ids at which an answer ends, from the tokenizer and from the generation settings kept with the weights."""
    ids = {tokenizer.eos_token_id}
    for config in (getattr(model, "generation_config", None), getattr(model, "config", None)):
        end = getattr(config, "eos_token_id", None)
        ids |= set(end) if isinstance(end, list | tuple) else {end}
    return frozenset(number for number in ids if number is not None)
