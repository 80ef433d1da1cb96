"""Prompt styles: how a conversation becomes the one text a local model reads.

The formats are those of the model cards (see `catalogue.yaml` for which model uses which). Every renderer ends where
the model is to write on; the space after `システム:` and `ASSISTANT:` belongs to the format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from llmops_kit.errors import InvalidValue
from llmops_kit.types import Message

if TYPE_CHECKING:
    from llmops_kit.models.catalogue import ModelEntry

_ALPACA_HEAD = "以下は、タスクを説明する指示です。要求を適切に満たす応答を書きなさい。"
_ALPACA_INPUT_HEAD = "以下は、タスクを説明する指示と、文脈のある入力の組み合わせです。要求を適切に満たす応答を書きなさい。"
END_OF_TEXT = "<|endoftext|>"


def render_prompt(style: str, messages: Sequence[Message], *, newline_token: str | None = None) -> str:
    """The text of `messages` in the format `style`, ready for the model to continue.

    `newline_token` replaces line breaks inside turns where the format has such a token (`rinna_nl`: `<NL>`).

    Raises:
        InvalidValue: the style is rendered elsewhere (`chat_template`, `openai`), or the conversation does not end with
            something to answer.
    """
    if style not in _STYLES:
        raise InvalidValue(name="prompt_style", value=style, allowed=", ".join(_STYLES))
    if not messages or messages[-1].role == "assistant":
        raise InvalidValue(
            en="The conversation must end with a user message.", ja="会話の最後はユーザーの発言にしてください。", name="messages", value=len(messages)
        )
    return _STYLES[style](messages, newline_token)


def prepare_turns(entry: ModelEntry, messages: Sequence[Message]) -> tuple[Message, ...]:
    """The turns as the entry's format takes them: with its system message where they bring none, or that in the first user turn."""
    turns = tuple(messages)
    if entry.system_prompt and not any(turn.role == "system" for turn in turns):
        turns = (Message("system", entry.system_prompt), *turns)
    return merge_system(turns) if entry.system_in_user else turns


def frame_answer(style: str, answer: str, *, newline_token: str | None = None) -> str:
    """The answer as it stands after a prompt in the format `style`, without the token that ends it."""
    if style == "rinna_nl":
        return answer.replace("\n", newline_token or "<NL>")
    return f" {answer} " if style == "llama2" else answer


def merge_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Put the system messages, with an empty line after them, in front of the first user turn.

    For formats without a system role. Without any user turn they become one.
    """
    system = "\n\n".join(turn.content for turn in messages if turn.role == "system")
    turns = [turn for turn in messages if turn.role != "system"]
    if not system:
        return tuple(turns)
    for place, turn in enumerate(turns):
        if turn.role == "user":
            turns[place] = replace(turn, content=f"{system}\n\n{turn.content}")
            return tuple(turns)
    return (Message("user", system), *turns)


def _plain(messages: Sequence[Message], newline_token: str | None) -> str:
    return "\n".join(turn.content for turn in messages)


def _rinna_nl(messages: Sequence[Message], newline_token: str | None) -> str:
    newline = newline_token or "<NL>"
    return _rinna(messages).replace("\n", newline)


def _rinna_lf(messages: Sequence[Message], newline_token: str | None) -> str:
    return _rinna(messages)


def _rinna(messages: Sequence[Message]) -> str:
    speaker = {"user": "ユーザー", "assistant": "システム"}
    turns = [f"{speaker[turn.role]}: {turn.content}" for turn in merge_system(messages)]
    return "\n".join([*turns, "システム: "])


def _alpaca_ja(messages: Sequence[Message], newline_token: str | None) -> str:
    """With a system message it is the instruction and the user turns are its inputs; without, they are the instructions."""
    system = "\n".join(turn.content for turn in messages if turn.role == "system")
    turns = [turn for turn in messages if turn.role != "system"]
    if not turns:
        system, turns = "", [Message("user", system)]
    head = f"{_ALPACA_INPUT_HEAD}\n\n### 指示:\n{system}" if system else _ALPACA_HEAD
    label = {"user": "入力" if system else "指示", "assistant": "応答"}
    blocks = [f"### {label[turn.role]}:\n{turn.content}" for turn in turns]
    return "\n\n".join([head, *blocks, "### 応答:\n"])


def _calm2(messages: Sequence[Message], newline_token: str | None) -> str:
    text = ""
    for turn in merge_system(messages):
        text += f"USER: {turn.content}\n" if turn.role == "user" else f"ASSISTANT: {turn.content}{END_OF_TEXT}\n"
    return text + "ASSISTANT: "


def _llama2(messages: Sequence[Message], newline_token: str | None) -> str:
    system = "\n".join(turn.content for turn in messages if turn.role == "system")
    opening = f"<<SYS>>\n{system}\n<</SYS>>\n\n" if system else ""
    turns = [turn for turn in messages if turn.role != "system"] or [Message("user", "")]
    text = ""
    for turn in turns:
        if turn.role == "user":
            text += f"<s>[INST] {opening}{turn.content} [/INST]"
            opening = ""
        else:
            text += f" {turn.content} </s>"
    return text


_STYLES: dict[str, Callable[[Sequence[Message], str | None], str]] = {
    "plain": _plain,
    "rinna_nl": _rinna_nl,
    "rinna_lf": _rinna_lf,
    "alpaca_ja": _alpaca_ja,
    "calm2": _calm2,
    "llama2": _llama2,
}
