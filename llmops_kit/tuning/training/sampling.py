"""Answers written while training: greedy, to a few fixed prompts, so that one sees what changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import KitError
from llmops_kit.types import Message

if TYPE_CHECKING:
    from llmops_kit.models.turns import TurnEncoder
    from llmops_kit.tuning.dataset import Example
    from llmops_kit.tuning.spec import TuneSpec

_PROMPTS = 4
_SHORTEST, _LONGEST = 24, 128


@dataclass(frozen=True)
class Prompt:
    """One fixed prompt: its turns, their ids, and the answer the data has for it, if any. At most `limit` tokens are written."""

    messages: tuple[Message, ...]
    ids: tuple[int, ...]
    expected: str | None
    limit: int

    @property
    def text(self) -> str:
        """What is asked: the last turn of the user."""
        return next((turn.content for turn in reversed(self.messages) if turn.role == "user"), self.messages[-1].content)


@dataclass(frozen=True)
class Answer:
    """What was written, and whether it came to its own end."""

    text: str
    ended: bool


def choose_prompts(spec: TuneSpec, examples: Sequence[Example], encoder: TurnEncoder, context_tokens: int) -> list[Prompt]:
    """The prompts of the spec, else those of a few examples, evenly chosen. One that does not fit the context is left out."""
    if spec.prompts:
        return _make([((Message("user", text),), None) for text in spec.prompts], encoder, context_tokens)
    count = min(_PROMPTS, len(examples))
    return prompts_of([examples[place * len(examples) // count] for place in range(count)], encoder, context_tokens)


def prompts_of(examples: Sequence[Example], encoder: TurnEncoder, context_tokens: int) -> list[Prompt]:
    """The prompts of examples, with their answers as what is expected."""
    return _make([(example.prompt, example.answer) for example in examples], encoder, context_tokens)


def _make(asked: Sequence[tuple[Sequence[Message], str | None]], encoder: TurnEncoder, context_tokens: int) -> list[Prompt]:
    prompts = []
    for messages, expected in asked:
        try:
            ids = encoder.encode_prompt(messages)
        except KitError:
            continue
        wanted = _LONGEST if expected is None else 2 * len(encoder.tokenizer.encode(expected, add_special_tokens=False))
        room = context_tokens - len(ids)
        if room > 0:
            prompts.append(Prompt(tuple(messages), tuple(ids), expected, min(room, _LONGEST, max(_SHORTEST, wanted))))
    return prompts


def write_answers(model: Any, encoder: TurnEncoder, prompts: Sequence[Prompt], device: str) -> list[Answer]:
    """The greedy answer to each, all at once. The model comes back as it was (training or not)."""
    import torch

    if not prompts:
        return []
    pad = encoder.tokenizer.pad_token_id
    pad = pad if pad is not None else min(encoder.end_ids)
    width = max(len(prompt.ids) for prompt in prompts)
    ids = torch.tensor([[pad] * (width - len(prompt.ids)) + list(prompt.ids) for prompt in prompts], device=device)
    mask = torch.tensor([[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts], device=device)
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            written = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=max(prompt.limit for prompt in prompts),
                do_sample=False,
                use_cache=True,
                eos_token_id=sorted(encoder.end_ids),
                pad_token_id=pad,
            )
    finally:
        model.train(was_training)
    return [_read(encoder, prompt, tokens[width:].tolist()) for prompt, tokens in zip(prompts, written, strict=True)]


def _read(encoder: TurnEncoder, prompt: Prompt, tokens: list[int]) -> Answer:
    end = next((place for place, number in enumerate(tokens) if number in encoder.end_ids), None)
    ended = end is not None and end <= prompt.limit
    return Answer(encoder.decode(tokens[: prompt.limit if end is None else min(end, prompt.limit)]), ended)
