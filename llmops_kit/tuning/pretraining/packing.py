"""Packed text: the texts one after the other as one long row of tokens, cut into windows, in an order that only the seed and the step decide."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import TYPE_CHECKING

from llmops_kit.starter.tokenizer import BOS, EOS, SPECIAL_TOKENS
from llmops_kit.starter.training import Batch, Plan, copying_batch

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SHORTEST = 8  # tokens of a row at the ends of the text

def encode_texts(tokenizer: Tokenizer, texts: Sequence[str]) -> list[int]:
    """The tokens of all texts, with an end mark after each."""
    end = tokenizer.get_vocab()[EOS]
    ids: list[int] = []
    for encoding in tokenizer.encode_batch(list(texts)):
        ids += [*encoding.ids, end]
    return ids


class Packed:
    """The tokens of the training texts. `width` is the tokens of a row, its begin mark included; `rows` are the rows of a step."""

    def __init__(self, ids: Sequence[int], *, begin: int, width: int, rows: int, seed: int) -> None:
        self.ids = tuple(ids)
        self.rows = rows
        self._begin, self._width, self._seed = begin, width, seed
        self.steps_per_epoch = max(1, len(self.windows(0)) // rows)
        self._held: tuple[int, list[tuple[int, int]]] = (-1, [])

    def windows(self, epoch: int) -> list[tuple[int, int]]:
        """Where the rows of an epoch begin and end, shuffled; each epoch cuts at other places. What is left at the ends is a shorter row."""
        rng = Random(f"{self._seed} epoch {epoch}")
        room = self._width - 1
        edges = sorted({0, len(self.ids), *range(rng.randrange(room), len(self.ids), room)})
        windows = [(start, end) for start, end in pairwise(edges) if end - start >= min(_SHORTEST, len(self.ids))]
        rng.shuffle(windows)
        return windows

    def batch(self, step: int) -> Batch:
        """The rows of step `step`: their begin mark as the prompt, their text as the answer."""
        epoch, place = divmod(step, self.steps_per_epoch)
        if self._held[0] != epoch:
            self._held = epoch, self.windows(epoch)
        windows = self._held[1]
        chosen = windows[place * self.rows : (place + 1) * self.rows] or windows[: self.rows]
        return [([self._begin], list(self.ids[start:end])) for start, end in chosen]


def pack(tokenizer: Tokenizer, texts: Sequence[str], plan: Plan) -> Packed:
    """The texts as rows of the plan's `max_tokens`, as many to a step as its `batch_tokens` have room for."""
    rows = max(1, plan.batch_tokens // plan.max_tokens)
    return Packed(encode_texts(tokenizer, texts), begin=tokenizer.get_vocab()[BOS], width=plan.max_tokens, rows=rows, seed=plan.seed)


def is_copying(plan: Plan, step: int) -> bool:
    """Whether step `step` is one of copying random tokens: its loss says nothing of the texts."""
    return _draw(plan, step)[1]


def _draw(plan: Plan, step: int) -> tuple[Random, bool]:
    rng = Random(f"{plan.seed} step {step}")
    return rng, step < plan.copy_steps or rng.random() < plan.copy_share


def draw_batch(packed: Packed, plan: Plan, step: int, *, vocabulary: int) -> Batch:
    """The batch of a step: copying of random tokens at the start and now and then, as in the starter LM's recipe, else packed text."""
    rng, copies = _draw(plan, step)
    if copies:
        return copying_batch(rng, vocabulary=vocabulary, first=len(SPECIAL_TOKENS) + 256, tokens=plan.batch_tokens)
    return packed.batch(step)
