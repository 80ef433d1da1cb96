"""Chat templates: the prompt format a model brings along, as a jinja2 program.

The one of a starter model is ours and runs here. Any other runs in a process of its own (`template_worker.py`) with
`WITHIN_S` seconds and `_MEMORY_BYTES`, no environment variables and nothing of the kit, and is killed where that is not
enough. That costs each prompt the start of a bare Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
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


def apply_template(entry: ModelEntry, tokenizer: PreTrainedTokenizerBase, turns: Sequence[Message]) -> str:
    """The text of `turns` in the model's own format, ready for its answer.

    Raises:
        ModelRefused: there is no template, it refuses the conversation, or takes too long or too much.
    """
    import jinja2

    plain = [{"role": turn.role, "content": turn.content} for turn in turns]
    try:
        if entry.provider == "starter":
            return str(tokenizer.apply_chat_template(plain, add_generation_prompt=True, tokenize=False, **entry.template_args))
        template = str(tokenizer.get_chat_template())
    except (jinja2.TemplateError, ValueError) as error:
        raise _refusal(entry, str(error)) from error
    values = {**tokenizer.special_tokens_map, "tools": None, "documents": None, **entry.template_args, "messages": plain, "add_generation_prompt": True}
    return render_apart(entry, template, values)


def render_apart(entry: ModelEntry, template: str, values: Mapping[str, Any], *, within_s: float = WITHIN_S) -> str:
    """Render `template` with `values` (plain data) in a process that is killed after `within_s` seconds.

    Raises:
        ModelRefused: the template refuses, fails, or takes too long or too much.
    """
    import jinja2
    import markupsafe

    call = json.dumps({"template": template, "values": dict(values), "memory_bytes": _MEMORY_BYTES}, default=str).encode()
    places = dict.fromkeys(str(Path(str(library.__file__)).parent.parent) for library in (jinja2, markupsafe))
    command = [sys.executable, "-I", "-S", str(template_worker.__file__), *places]
    bare: dict[str, str] | None = {} if os.name == "posix" else None  # Windows starts no Python without its variables
    try:
        done = subprocess.run(command, input=call, capture_output=True, timeout=within_s, env=bare, check=False)  # noqa: S603 - our own program
    except subprocess.TimeoutExpired:
        raise _refusal(entry, f"no end after {within_s:g} s", ja=f"{within_s:g}秒たっても終わりません") from None
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        raise _refusal(entry, f"it ended without a text (exit code {done.returncode})", ja=f"結果がありません（終了コード{done.returncode}）") from None
    if "text" not in answer:
        raise _refusal(entry, answer["error"])
    return str(answer["text"])


def _refusal(entry: ModelEntry, en: str, *, ja: str | None = None) -> ModelRefused:
    reason = {
        "en": f"its chat template refuses this conversation: {en}",
        "ja": f"チャットテンプレートがこの会話を受け付けません：{ja or en}",
    }
    return ModelRefused(model=entry.id, reason=reason)
