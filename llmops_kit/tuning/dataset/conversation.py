"""Cells that hold a conversation as JSON → messages: chat (`role`, `content`), ShareGPT (`from`, `value`) and pairs of a history."""

from __future__ import annotations

import json
from typing import Any

from llmops_kit.types import Message, Role

_ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "ユーザー": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "アシスタント": "assistant",
}


class WrongRow(Exception):
    """A row that cannot be learnt from; says why in English and Japanese."""

    def __init__(self, en: str, ja: str) -> None:
        super().__init__(en)
        self.reason = {"en": en, "ja": ja}


def parse_turns(text: str) -> tuple[Message, ...] | None:
    """The messages of a cell that holds a JSON list of turns (or one turn); None for any other text.

    Raises: `WrongRow` for a speaker or a content that cannot be learnt from.
    """
    if text[:1] not in ("[", "{") and text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    turns = [value] if isinstance(value, dict) else value
    if not isinstance(turns, list) or not turns or not all(_is_turn(turn) for turn in turns):
        return None
    return tuple(_read_turn(turn) for turn in turns)


def parse_history(text: str) -> tuple[Message, ...]:
    """The turns of an Alpaca history, `[[question, answer], …]`. Raises: `WrongRow`."""
    if not text.strip():
        return ()
    try:
        pairs = json.loads(text)
        turns = [(str(question), str(answer)) for question, answer in pairs]
    except (ValueError, TypeError, RecursionError):
        raise WrongRow("its history is no list of pairs (question, answer)", "履歴（history）が「質問と回答の組」のリストではありません") from None
    return tuple(turn for question, answer in turns for turn in (Message("user", question), Message("assistant", answer)))


def check_turns(turns: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns up to the last answer, system first, user and assistant in turns. Raises: `WrongRow`."""
    while turns and turns[-1].role != "assistant":
        turns = turns[:-1]
    if not turns:
        raise WrongRow("it has no answer of the assistant", "アシスタントの回答がありません")
    spoken = tuple(turn for turn in turns if turn.role != "system")
    if any(turn.role == "system" for turn in turns[1:]):
        raise WrongRow("a system message stands inside the conversation; it belongs first", "システムメッセージが会話の途中にあります（先頭に置いてください）")
    for place, turn in enumerate(spoken):
        wanted = "assistant" if place % 2 else "user"
        if turn.role != wanted:
            en = f"turn {place + 1} is by the {turn.role}, where the {wanted} was expected"
            raise WrongRow(en, f"{place + 1}番目の発言が{turn.role}です（{wanted}の番です）")
    return turns


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and (("role" in value and "content" in value) or ("from" in value and "value" in value))


def _read_turn(turn: dict[str, Any]) -> Message:
    speaker = str(turn.get("role", turn.get("from", ""))).strip().casefold()
    if speaker not in _ROLES:
        known = "system, user, assistant"
        raise WrongRow(f"the speaker “{speaker[:40]}” is not known ({known})", f"話者「{speaker[:40]}」は使えません（使えるもの：{known}）")
    content = turn["content"] if "content" in turn else turn["value"]
    return Message(_ROLES[speaker], _read_content(content))


def _read_content(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, list):
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise WrongRow("a message holds something other than text, such as a picture", "文章以外（画像など）を含む発言があります")
        return "".join(part["text"] for part in content)
    if isinstance(content, (dict, bool)):
        raise WrongRow("the content of a message is no text", "発言の内容（content）が文章ではありません")
    return str(content)
