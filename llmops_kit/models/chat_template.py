"""Chat templates: the prompt format a model brings along, as a jinja2 program.

The one of a starter model is ours and runs here. Any other runs in a process of its own (`template_worker.py`) with
`WITHIN_S` seconds and `_MEMORY_BYTES`, no environment variables and nothing of the kit, and is killed where that is not
enough. That costs each call the start of a bare Python; many conversations can share one (`render_templates`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import ModelRefused
from llmops_kit.models import template_worker
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.types import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WITHIN_S = 10.0
_MEMORY_BYTES = 1 << 29
_BATCH_ROWS = 500
_BATCH_CHARS = 2_000_000  # of the conversations that share a process, whose texts have to fit its memory
_WITHIN_S_A_ROW = 0.02


def apply_template(entry: ModelEntry, tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message]) -> str:
    """The text of `turns` in the model's own format, ready for its answer.

    Raises:
        ModelRefused: there is no template, it refuses the conversation, or takes too long or too much.
    """
    (text,) = render_templates(entry, tokenizer, [turns])
    if isinstance(text, ModelRefused):
        raise text
    return text


def render_templates(
    entry: ModelEntry, tokenizer: PreTrainedTokenizerBase, conversations: Sequence[Sequence[Message]], *, prompt: bool = True
) -> list[str | ModelRefused]:
    """The texts of many conversations, each ready for its answer, or (`prompt` False) with the answer it ends with; errors in their places.

    Where the template runs in a process of its own, up to 500 conversations share one, and what it does to it: one that is killed
    refuses all of them.
    """
    import jinja2

    plain = [[{"role": turn.role, "content": turn.content} for turn in turns] for turns in conversations]
    if entry.provider == "starter":
        return [_render_here(entry, tokenizer, turns, prompt=prompt) for turns in plain]
    try:
        template = str(tokenizer.get_chat_template())
    except (jinja2.TemplateError, ValueError) as error:
        return [_refusal(entry, str(error)) for _ in plain]
    values = {**tokenizer.special_tokens_map, "tools": None, "documents": None, **entry.template_args, "add_generation_prompt": prompt}
    texts: list[str | ModelRefused] = []
    for batch in _batches(plain):
        texts += _render_batch(entry, template, [{**values, "messages": turns} for turns in batch], WITHIN_S + _WITHIN_S_A_ROW * (len(batch) - 1))
    return texts


def _render_here(entry: ModelEntry, tokenizer: PreTrainedTokenizerBase, turns: list[dict[str, str]], *, prompt: bool) -> str | ModelRefused:
    import jinja2

    try:
        return str(tokenizer.apply_chat_template(turns, add_generation_prompt=prompt, tokenize=False, **entry.template_args))
    except (jinja2.TemplateError, ValueError) as error:
        return _refusal(entry, str(error))


def _batches(conversations: Sequence[list[dict[str, str]]]) -> Iterator[list[list[dict[str, str]]]]:
    batch: list[list[dict[str, str]]] = []
    chars = 0
    for turns in conversations:
        size = sum(len(turn["content"]) for turn in turns)
        if batch and (len(batch) == _BATCH_ROWS or chars + size > _BATCH_CHARS):
            yield batch
            batch, chars = [], 0
        batch.append(turns)
        chars += size
    if batch:
        yield batch


def render_apart(entry: ModelEntry, template: str, values: Mapping[str, Any], *, within_s: float = WITHIN_S) -> str:
    """Render `template` with `values` (plain data) in a process that is killed after `within_s` seconds.

    Raises:
        ModelRefused: the template refuses, fails, or takes too long or too much.
    """
    (text,) = _render_batch(entry, template, [values], within_s)
    if isinstance(text, ModelRefused):
        raise text
    return text


def _render_batch(entry: ModelEntry, template: str, rows: Sequence[Mapping[str, Any]], within_s: float) -> list[str | ModelRefused]:
    """The text of each row, or its error; one error in every place where the process did not come to its end."""
    import jinja2
    import markupsafe

    call = json.dumps({"template": template, "rows": [dict(row) for row in rows], "memory_bytes": _MEMORY_BYTES}, default=str).encode()
    places = dict.fromkeys(str(Path(str(library.__file__)).parent.parent) for library in (jinja2, markupsafe))
    command = [sys.executable, "-I", "-S", str(template_worker.__file__), *places]
    bare: dict[str, str] | None = {} if os.name == "posix" else None  # Windows starts no Python without its variables
    try:
        done = subprocess.run(command, input=call, capture_output=True, timeout=within_s, env=bare, check=False)  # noqa: S603 - our own program
    except subprocess.TimeoutExpired:
        return [_refusal(entry, f"no end after {within_s:g} s", ja=f"{within_s:g}秒たっても終わりません") for _ in rows]
    try:
        answers = json.loads(done.stdout)
    except ValueError:
        return [_refusal(entry, f"it ended without a text (exit code {done.returncode})", ja=f"結果がありません（終了コード{done.returncode}）") for _ in rows]
    return [str(answer["text"]) if "text" in answer else _refusal(entry, answer["error"]) for answer in answers]


def _refusal(entry: ModelEntry, en: str, *, ja: str | None = None) -> ModelRefused:
    reason = {
        "en": f"its chat template refuses this conversation: {en}",
        "ja": f"チャットテンプレートがこの会話を受け付けません：{ja or en}",
    }
    return ModelRefused(model=entry.id, reason=reason)
