"""Conversations as token ids for training: exactly what the model reads at inference, and which tokens it is taught to write.

The ids before an answer are those that `LoadedModel.render` gives for the turns before it. The answer's own ids follow, up to the token
that ends it; those count in the loss. No weights are needed, only the tokenizer and the entry's prompt format.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_kit.errors import KitError, ModelRefused
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.chat_template import render_templates
from llmops_kit.models.control_tokens import encode_parts, find_control_tokens, mark_messages
from llmops_kit.models.prompt_style import frame_answer, prepare_turns, render_prompt
from llmops_kit.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class EncodedRow:
    """Token ids, and for each whether the model is taught to write it (`counted`: answers and their end tokens)."""

    ids: tuple[int, ...]
    counted: tuple[bool, ...]

    def cut(self, max_tokens: int) -> EncodedRow:
        """The row with at most `max_tokens`: the beginning of what stands before the last answer goes first, then the answer's end."""
        over = len(self.ids) - max_tokens
        if over <= 0:
            return self
        uncounted = [place for place, counts in enumerate(self.counted) if not counts]
        start = min(over, max(uncounted[-1], 0) if uncounted else 0)
        return EncodedRow(self.ids[start : start + max_tokens], self.counted[start : start + max_tokens])


class TurnEncoder:
    """The tokenizer and prompt format of one catalogue entry; for any number of threads."""

    def __init__(self, entry: ModelEntry, tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
        self.entry = entry
        self.tokenizer = tokenizer
        self._control = find_control_tokens(tokenizer)
        self._protected = [token for token in self._control if token != entry.newline_token]
        self._vocabulary, self.end_ids = _read_limits(folder, tokenizer, [self._control[stop] for stop in entry.stop if stop in self._control])
        self.template_sha256 = self._hash_template()

    def encode(self, conversations: Sequence[Sequence[Message]]) -> list[list[EncodedRow]]:
        """The rows of each conversation: one where each turn's ids begin the next turn's, else one per assistant turn.

        A conversation without an assistant turn that answers something has none.

        Raises:
            ModelRefused: the model's chat template refuses a conversation (its place, from 0, is the fact `position`).
        """
        results = self.try_encode(conversations)
        for position, rows in enumerate(results):
            if isinstance(rows, KitError):
                raise ModelRefused(en=rows.text("en"), ja=rows.text("ja"), model=self.entry.id, position=position) from rows
        return [rows for rows in results if not isinstance(rows, KitError)]

    def try_encode(self, conversations: Sequence[Sequence[Message]]) -> list[list[EncodedRow] | KitError]:
        """As `encode`, with the error in the place of a conversation that is refused."""
        marked = [mark_messages(tuple(turns), self._protected) for turns in conversations]
        asked = [(number, end) for number, (turns, _) in enumerate(marked) for end in _answered(turns)]
        prompts = self._render_prompts([marked[number][0][:end] for number, end in asked])
        wholes = self._render_wholes([marked[number][0][: end + 1] for number, end in asked])
        results: list[list[EncodedRow] | KitError] = [[] for _ in conversations]
        for (number, end), prompt, whole in zip(asked, prompts, wholes, strict=True):
            rows = results[number]
            if isinstance(rows, KitError):
                continue
            if isinstance(prompt, KitError):
                results[number] = prompt
                continue
            turns, mark = marked[number]
            try:
                rows.append(self._join(prompt, whole, turns[end].content, mark))
            except KitError as error:
                results[number] = error
        return [rows if isinstance(rows, KitError) else _merge(rows) for rows in results]

    def encode_prompt(self, messages: Sequence[Message]) -> list[int]:
        """The ids of a conversation that is to be answered, as the model reads them at inference.

        Raises:
            ModelRefused: the model's chat template refuses the conversation.
        """
        turns, mark = mark_messages(tuple(messages), self._protected)
        (text,) = self._render_prompts([turns])
        if isinstance(text, KitError):
            raise text
        return self._encode(text, mark)

    def tokens(self, ids: Sequence[int]) -> list[str]:
        """How each token reads, for display; the bytes of a character that several tokens share read `<0xF0>`."""
        from llmops_kit.models.turns_display import read_token

        return [read_token(self.tokenizer, number) for number in ids]

    def decode(self, ids: Sequence[int]) -> str:
        """The text of an answer's ids, without control tokens."""
        text = str(self.tokenizer.decode([number for number in ids if number not in self.end_ids], skip_special_tokens=True))
        return text.replace(self.entry.newline_token, "\n") if self.entry.newline_token else text

    def _render_prompts(self, conversations: Sequence[Sequence[Message]]) -> list[str | KitError]:
        prepared = [prepare_turns(self.entry, turns) for turns in conversations]
        if self.entry.prompt_style == "chat_template":
            return list(render_templates(self.entry, self.tokenizer, prepared))
        return [_try_style(self.entry, turns) for turns in prepared]

    def _render_wholes(self, conversations: Sequence[Sequence[Message]]) -> list[str | None]:
        """The text of each with the answer it ends with; None where the format has no word for that."""
        if self.entry.prompt_style != "chat_template":
            return [None] * len(conversations)
        prepared = [prepare_turns(self.entry, turns) for turns in conversations]
        return [text if isinstance(text, str) else None for text in render_templates(self.entry, self.tokenizer, prepared, prompt=False)]

    def _join(self, prompt: str, whole: str | None, answer: str, mark: str) -> EncodedRow:
        """Prompt ids, then those of the answer to its end token."""
        before = self._encode(prompt, mark)
        if whole is None or not whole.startswith(prompt) or len(whole) == len(prompt):
            whole = prompt + frame_answer(self.entry.prompt_style, answer, newline_token=self.entry.newline_token)
        together = self._encode(whole, mark)
        if together[: len(before)] == before:
            written = together[len(before) :]
        else:  # the tokenizer joins the last characters of the prompt with the answer's first; at inference it cannot
            parts = whole[len(prompt) :].split(mark) if mark else [whole[len(prompt) :]]
            written = encode_parts(self.tokenizer, ["", *parts], add_special_tokens=False)
        end = next((place for place, number in enumerate(written) if number in self.end_ids), None)
        written = written[: end + 1] if end is not None else [*self._strip_end(written), int(self.tokenizer.eos_token_id)]
        return EncodedRow(tuple(before + written), (False,) * len(before) + (True,) * len(written))

    def _strip_end(self, ids: list[int]) -> list[int]:
        """Without the line breaks that a template puts after an answer in place of an end token."""
        while ids and self.entry.prompt_style == "chat_template" and not self.tokenizer.decode(ids[-1:]).strip():
            ids = ids[:-1]
        return ids

    def _encode(self, text: str, mark: str) -> list[int]:
        ids = encode_parts(self.tokenizer, text.split(mark) if mark else [text], add_special_tokens=self.entry.add_special_tokens)
        if self._vocabulary is not None and ids and max(ids) >= self._vocabulary:
            token = self.tokenizer.convert_ids_to_tokens(max(ids))
            en, ja = f"token {token!r} is beyond the {self._vocabulary} of the model", f"トークン{token!r}がモデルの{self._vocabulary}語の範囲外です"
            raise ModelRefused(model=self.entry.id, reason={"en": en, "ja": ja})
        return ids

    def _hash_template(self) -> str:
        entry = self.entry
        template = str(self.tokenizer.get_chat_template()) if entry.prompt_style == "chat_template" else ""
        parts = {
            "style": entry.prompt_style,
            "template": template,
            "system_prompt": entry.system_prompt,
            "system_in_user": entry.system_in_user,
            "newline_token": entry.newline_token,
            "add_special_tokens": entry.add_special_tokens,
            "template_args": dict(entry.template_args),
            "control": sorted(self._control.items()),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _answered(turns: Sequence[Message]) -> Iterator[int]:
    """The places of assistant turns that answer something."""
    for place, turn in enumerate(turns):
        if turn.role == "assistant" and place and turns[place - 1].role != "assistant":
            yield place


def _try_style(entry: ModelEntry, turns: Sequence[Message]) -> str | KitError:
    try:
        return render_prompt(entry.prompt_style, turns, newline_token=entry.newline_token)
    except KitError as error:
        return error


def _merge(rows: list[EncodedRow]) -> list[EncodedRow]:
    """One row where each begins the next one, with every answer counted; else the rows as they are."""
    if len(rows) < 2 or any(after.ids[: len(row.ids)] != row.ids for row, after in pairwise(rows)):
        return rows
    counted = [False] * len(rows[-1].ids)
    for row in rows:
        for place, counts in enumerate(row.counted):
            counted[place] |= counts
    return [EncodedRow(rows[-1].ids, tuple(counted))]


def _read_limits(folder: Path, tokenizer: PreTrainedTokenizerBase, stops: Sequence[int]) -> tuple[int | None, frozenset[int]]:
    """How many tokens the weights know, and the ids at which an answer ends, as `find_stop_ids` finds them on a loaded model."""
    ends: set[int] = {int(number) for number in (tokenizer.eos_token_id, *stops) if number is not None}
    vocabulary = None
    for name in ("config.json", "generation_config.json"):
        file = folder / name
        config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        end = config.get("eos_token_id")
        ends |= {int(number) for number in (end if isinstance(end, list) else [end]) if number is not None}
        vocabulary = vocabulary or config.get("vocab_size")
    return vocabulary, frozenset(ends)
