"""Rows of text → examples, by which column is what."""

from __future__ import annotations

import math
from collections.abc import Mapping

from llmops_kit.tuning.dataset.columns import read_label
from llmops_kit.tuning.dataset.conversation import WrongRow, check_turns, parse_history, parse_turns
from llmops_kit.tuning.dataset.rows import Example, Kind
from llmops_kit.types import Message

_EMPTY_ANSWER = ("its answer is empty", "回答が空です")
_EMPTY_PROMPT = ("its prompt is empty", "指示（プロンプト）が空です")


def kind_of(roles: Mapping[str, str]) -> Kind:
    """What rows with these columns teach."""
    if {"chosen", "rejected"} <= set(roles):
        return "dpo"
    return "kto" if "label" in roles else "sft"


def name_format(roles: Mapping[str, str], columns: tuple[str, ...], table: str) -> str:
    """The layout, by the name it goes under: messages, sharegpt, alpaca, prompt-completion, preference, kto; else that of a table."""
    kind = kind_of(roles)
    if kind != "sft":
        return {"dpo": "preference", "kto": "kto"}[kind]
    if "messages" in roles:
        return "messages" if roles["messages"] == "messages" else "sharegpt"
    if roles.get("prompt") == "instruction" and roles.get("answer") == "output":
        return "alpaca"
    return "prompt-completion" if (roles.get("prompt"), roles.get("answer")) == ("prompt", "completion") else f"table ({table})"


def convert_row(row: Mapping[str, str], line: int, roles: Mapping[str, str]) -> Example:
    """The example of one row; its id is not set yet. Raises: `WrongRow`."""
    cells = {role: row.get(column, "") for role, column in roles.items()}
    rejected, label = None, None
    if kind_of(roles) == "dpo":
        prompt, answer, rejected = _read_pair(cells)
    else:
        prompt, answer = _read_answer(cells)
    if "label" in cells and rejected is None:
        label = read_label(cells["label"])
        if label is None:
            said = cells["label"].strip()
            en = f"its label “{said[:40]}” is neither true nor false" if said else "its label is empty"
            raise WrongRow(en, f"ラベル「{said[:40]}」がtrueでもfalseでもありません" if said else "ラベルが空です")
    if not answer.strip() or (rejected is not None and not rejected.strip()):
        raise WrongRow(*_EMPTY_ANSWER)
    if not any(turn.role == "user" and turn.content.strip() for turn in prompt):
        raise WrongRow(*_EMPTY_PROMPT)
    _check_characters(*(turn.content for turn in prompt), answer, rejected or "")
    return Example("", line, prompt, answer, rejected, label, _read_weight(cells.get("weight", "")), cells.get("item", ""))


def _read_answer(cells: Mapping[str, str]) -> tuple[tuple[Message, ...], str]:
    if "messages" in cells:
        turns = parse_turns(cells["messages"])
        if turns is None:
            en = "its conversation is empty" if not cells["messages"].strip() else "its conversation is no list of turns (role, content)"
            raise WrongRow(en, "会話が空です" if not cells["messages"].strip() else "会話が「話者と発言」のリストではありません")
        turns = check_turns(_with_system(cells, turns))
        return turns[:-1], turns[-1].content
    prompt = _read_prompt(cells)
    answer = parse_turns(cells["answer"]) or (Message("assistant", cells["answer"]),)
    turns = check_turns((*prompt, *answer)) if cells["answer"].strip() else ()
    if not turns:
        raise WrongRow(*_EMPTY_ANSWER)
    return turns[:-1], turns[-1].content


def _read_pair(cells: Mapping[str, str]) -> tuple[tuple[Message, ...], str, str]:
    """Prompt, chosen and rejected answer. Without a prompt, both are whole conversations that differ in the last turn (TRL's implicit prompt)."""
    sides = []
    for name in ("chosen", "rejected"):
        if not cells[name].strip():
            raise WrongRow(f"“{name}” is empty", f"{name}が空です")
        sides.append(parse_turns(cells[name]) or (Message("assistant", cells[name]),))
    has_prompt = "messages" in cells or "prompt" in cells
    prompt = (_with_system(cells, parse_turns(cells["messages"]) or ()) if "messages" in cells else _read_prompt(cells)) if has_prompt else ()
    whole = [check_turns(side if side[: len(prompt)] == prompt and len(side) > 1 else (*prompt, *side)) for side in sides]
    if whole[0][:-1] != whole[1][:-1]:
        raise WrongRow("chosen and rejected do not answer the same prompt", "chosenとrejectedの前の会話が同じではありません")
    if whole[0][-1].content.strip() == whole[1][-1].content.strip():
        raise WrongRow("chosen and rejected are the same text", "chosenとrejectedが同じ文章です")
    return whole[0][:-1], whole[0][-1].content, whole[1][-1].content


def _read_prompt(cells: Mapping[str, str]) -> tuple[Message, ...]:
    """The prompt of a row: messages as they are; text as the user's turn, with the second part of an instruction below an empty line."""
    turns = parse_turns(cells["prompt"])
    if turns is None:
        parts = [part for part in (cells["prompt"], cells.get("input", "")) if part.strip()]
        if not parts:
            raise WrongRow(*_EMPTY_PROMPT)
        turns = (*parse_history(cells.get("history", "")), Message("user", "\n\n".join(parts)))
    return _with_system(cells, turns)


def _with_system(cells: Mapping[str, str], turns: tuple[Message, ...]) -> tuple[Message, ...]:
    system = cells.get("system", "")
    return (Message("system", system), *turns) if system.strip() and not any(turn.role == "system" for turn in turns) else turns


def _read_weight(text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        return 1.0
    return weight if math.isfinite(weight) and weight > 0 else 1.0


def _check_characters(*texts: str) -> None:
    """Refuse halves of characters, which JSON can hold and no tokenizer can read."""
    for text in texts:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise WrongRow("it holds half of a character (a lone surrogate)", "壊れた文字（サロゲートの片割れ）を含んでいます") from None
