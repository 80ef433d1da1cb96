"""What was asked: any of the three forms of a prompt as a `Prompt`, and how much of a too large one is kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, get_args

from llmops_kit.errors import InvalidValue
from llmops_kit.types import Message, Prompt, Role, Run

if TYPE_CHECKING:
    from llmops_kit.prompts import PromptLibrary

PromptLike = str | Prompt | Sequence[Message | Mapping[str, str]]
"""A library name, a `Prompt`, or a list of chat messages (`Message`, or `{"role": …, "content": …}`)."""

_SHOWN_CHARS = 200
_KEPT_CHARS = 1000


def read_prompt(prompt: PromptLike, library: PromptLibrary) -> Prompt:
    """`prompt` as a `Prompt`; a chat becomes one without a name.

    Raises:
        UnknownName: the library has no prompt of this name.
        InvalidValue: it is none of the three, or a message has no role or no text.
    """
    if isinstance(prompt, str):
        return library.get(prompt)
    return prompt if isinstance(prompt, Prompt) else Prompt(name="", messages=read_chat(prompt))


def read_chat(chat: Any) -> tuple[Message, ...]:
    """A list of chat messages as `Message`s.

    Raises:
        InvalidValue: it is no list, or a message has no role or no text.
    """
    if not isinstance(chat, (list, tuple)):
        forms = {"en": "a name, a Prompt, a list of messages", "ja": "名前、Prompt、メッセージのリスト"}
        raise InvalidValue(name="prompt", value=_shorten(chat), allowed=forms)
    return tuple(_read_turn(turn) for turn in chat)


def _read_turn(turn: Any) -> Message:
    said: Any = {"role": turn.role, "content": turn.content} if isinstance(turn, Message) else turn
    if not isinstance(said, Mapping) or said.get("role") not in get_args(Role) or not isinstance(said.get("content"), str):
        roles = "|".join(get_args(Role))
        raise InvalidValue(name="prompt", value=_shorten(turn), allowed=f"{{'role': '{roles}', 'content': '…'}}")
    return Message(said["role"], said["content"])


def read_variables(variables: Any) -> dict[str, Any]:
    """`variables` as a mapping of its own. Raises `InvalidValue` where it is none."""
    if variables is not None and not isinstance(variables, Mapping):
        raise InvalidValue(name="variables", value=_shorten(variables), allowed="{'text': '…'}")
    return dict(variables or {})


def count_characters(run: Run) -> int:
    """How many characters its messages and variables have together."""
    return sum(len(str(value)) for value in run.variables.values()) + sum(len(turn.content) for turn in run.messages)


def clip_run(run: Run, limit: int) -> Run:
    """Keep the first thousand characters of an input that was refused for its size: a record, not a second copy."""
    if count_characters(run) <= 2 * limit:
        return run
    short = {name: value if len(str(value)) <= _KEPT_CHARS else str(value)[:_KEPT_CHARS] + "…" for name, value in run.variables.items()}
    turns = tuple(replace(turn, content=turn.content[:_KEPT_CHARS] + "…") if len(turn.content) > _KEPT_CHARS else turn for turn in run.messages)
    return replace(run, variables=short, messages=turns)


def _shorten(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN_CHARS else shown[: _SHOWN_CHARS - 1] + "…"
