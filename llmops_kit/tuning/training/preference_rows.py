"""Preferences as token ids: the prompt exactly as the model reads it when it answers, and the answers with their end token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import KitError
from llmops_kit.types import Message

if TYPE_CHECKING:
    from llmops_kit.models.turns import EncodedRow, TurnEncoder
    from llmops_kit.tuning.dataset import Example

Row = dict[str, Any]


def encode_pairs(encoder: TurnEncoder, examples: Sequence[Example], max_tokens: int) -> list[Row | None]:
    """`prompt_ids`, `chosen_ids` and `rejected_ids` of each pair; None for one that the model's template refuses.

    The prompt is the same for both answers, cut at its beginning where they are too long.
    """
    chosen = _split(encoder, [(example.prompt, example.answer) for example in examples])
    rejected = _split(encoder, [(example.prompt, example.rejected or "") for example in examples])
    rows: list[Row | None] = []
    for one, other in zip(chosen, rejected, strict=True):
        if one is None or other is None:
            rows.append(None)
            continue
        kept, good, bad = _fit(max_tokens, one[0], one[1], other[1])
        rows.append({"prompt_ids": kept, "chosen_ids": good, "rejected_ids": bad})
    return rows


def encode_labelled(encoder: TurnEncoder, examples: Sequence[Example], max_tokens: int) -> list[Row | None]:
    """`prompt_ids`, `completion_ids` and `label` (True: a good answer) of each row; None for one that the model's template refuses."""
    rows: list[Row | None] = []
    for example, parts in zip(examples, _split(encoder, [(each.prompt, each.answer) for each in examples]), strict=True):
        if parts is None:
            rows.append(None)
            continue
        kept, answer = _fit(max_tokens, *parts)
        rows.append({"prompt_ids": kept, "completion_ids": answer, "label": bool(example.label)})
    return rows


def spread_labels(rows: Sequence[Row]) -> list[Row]:
    """The rows with good and bad ones spread evenly, otherwise in their order."""
    sides = [[row for row in rows if row["label"] is label] for label in (True, False)]
    placed = [((number + 0.5) / len(side), row) for side in sides for number, row in enumerate(side)]
    return [row for _, row in sorted(placed, key=lambda pair: pair[0])]


def pair_for_kl(rows: Sequence[Row], batch_rows: int) -> list[Row]:
    """The rows, each with the answer of another row of its batch (`KL_completion_ids`).

    KTO measures how far the model has moved from its base by answers to other prompts: within each batch of `batch_rows` the answers are
    moved on by one (Ethayarajh et al. 2024, section 4.1). A last batch of a single row, which has no other, is left out.
    """
    batches = [rows[start : start + batch_rows] for start in range(0, len(rows), batch_rows)]
    return [{**row, "KL_completion_ids": batch[place - 1]["completion_ids"]} for batch in batches if len(batch) > 1 for place, row in enumerate(batch)]


def _split(encoder: TurnEncoder, pairs: Sequence[tuple[Sequence[Message], str]]) -> list[tuple[list[int], list[int]] | None]:
    """Prompt and answer of each, as ids; all in one go, because a model's own template is rendered in a process apart."""
    conversations = [(*prompt, Message("assistant", answer)) for prompt, answer in pairs]
    return [None if isinstance(rows, KitError) or not rows else _part(rows[-1]) for rows in encoder.try_encode(conversations)]


def _part(row: EncodedRow) -> tuple[list[int], list[int]]:
    """Before and from the last answer on: the tokens that count at the end of the row."""
    start = len(row.ids)
    while start and row.counted[start - 1]:
        start -= 1
    return list(row.ids[:start]), list(row.ids[start:])


def _fit(max_tokens: int, prompt: list[int], *answers: list[int]) -> list[list[int]]:
    """The prompt without as much of its beginning as is too much, one token of it at least, and the answers as far as there is room then."""
    over = len(prompt) + max(map(len, answers)) - max_tokens
    kept = prompt[min(max(over, 0), len(prompt) - 1) :]
    return [kept, *(answer[: max_tokens - len(kept)] for answer in answers)]
