"""One taught row: a chat and its answer, as the model sees it, and whether it is held out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from llmops_kit.starter.tokenizer import ASSISTANT, BOS, EOS, SYSTEM, USER

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HELD_OUT_SHARE = 20  # one row in so many is never trained on


@dataclass(frozen=True)
class Row:
    """`user` (and perhaps `system`) is asked, `answer` is right. `content` names what the row is about, wording aside."""

    kind: str
    language: str
    user: str
    answer: str
    content: str
    system: str | None = None

    @property
    def held_out(self) -> bool:
        """True for a fixed twentieth of all contents: decided by a hash, so that no paraphrase of it is trained on."""
        digest = hashlib.sha256(f"{self.kind}|{self.language}|{self.content}".encode()).digest()
        return int.from_bytes(digest[:4]) % HELD_OUT_SHARE == 0

    def messages(self) -> list[dict[str, str]]:
        """The chat without the answer, as `apply_chat_template` takes it."""
        system = [{"role": "system", "content": self.system}] if self.system else []
        return [*system, {"role": "user", "content": self.user}]


Maker = Callable[[Random, str], Row]
"""Draws a row of one kind in the given language (`ja` or `en`)."""


def encode_row(tokenizer: Tokenizer, row: Row) -> tuple[list[int], list[int]]:
    """The ids of the prompt and of the answer with its end mark; the same ids the chat template gives."""
    system = f"{SYSTEM}{row.system}{EOS}" if row.system else ""
    prompt = tokenizer.encode(f"{BOS}{system}{USER}{row.user}{EOS}{ASSISTANT}").ids
    return prompt, tokenizer.encode(row.answer + EOS).ids
