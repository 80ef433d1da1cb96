"""Keeps what people write apart from what only the prompt format may say.

A tokenizer reads `<|im_end|>` in a message as the end of the turn, so that a message could speak for the system. Before
a conversation is rendered, each such token inside a message gets a mark after its first character; at the marks the
rendered text is cut and its parts are encoded one by one. So the model reads the characters that were written, and no
control token. A conversation without any is encoded as always.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmops_kit.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARK = "\ufdd0"  # a code point that is no character and never will be


def find_control_tokens(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """The tokens that steer a model and are never shown, with their ids."""
    added = getattr(tokenizer, "added_tokens_decoder", {})
    tokens = {str(token): int(number) for number, token in added.items() if getattr(token, "special", False)}
    return tokens | {str(token): int(number) for token, number in zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)}


def mark_messages(messages: Sequence[Message], tokens: Sequence[str]) -> tuple[tuple[Message, ...], str]:
    """`messages` with a mark inside every one of `tokens` that somebody wrote, and the mark; an empty mark where there was none."""
    breakable = sorted((token for token in tokens if len(token) > 1), key=len, reverse=True)
    if not breakable or not any(token in turn.content for turn in messages for token in breakable):
        return tuple(messages), ""
    mark = _MARK
    while any(mark in turn.content for turn in messages):
        mark += _MARK
    begins = re.compile(f"(?=(?:{'|'.join(map(re.escape, breakable))}))(.)", re.DOTALL)  # overlapping ones, too
    return tuple(replace(turn, content=begins.sub(rf"\1{mark}", turn.content)) for turn in messages), mark


def encode_parts(tokenizer: PreTrainedTokenizerBase, parts: Sequence[str], *, add_special_tokens: bool) -> list[int]:
    """The ids of the parts of one text, none of which may join another to a control token."""
    if len(parts) == 1:
        return _encode(tokenizer, parts[0], add_special_tokens=add_special_tokens)
    ids = _encode(tokenizer, parts[0])
    newline = _encode(tokenizer, "\n")
    for part in parts[1:]:
        # After a line break, which is taken away again: at the start of a text sentencepiece would put a space.
        after = _encode(tokenizer, "\n" + part)
        ids += after[len(newline) :] if after[: len(newline)] == newline else _encode(tokenizer, part)
    if not add_special_tokens:
        return ids
    bare, full = _encode(tokenizer, "a"), _encode(tokenizer, "a", add_special_tokens=True)
    start = next((place for place in range(len(full)) if full[place : place + len(bare)] == bare), 0)
    return [*full[:start], *ids, *full[start + len(bare) :]]


def _encode(tokenizer: PreTrainedTokenizerBase, text: str, *, add_special_tokens: bool = False) -> list[int]:
    return [int(number) for number in tokenizer.encode(text, add_special_tokens=add_special_tokens)]
