"""Which column of a table is what: found by the names that data sets use, or said by a person."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from llmops_kit.errors import InvalidValue
from llmops_kit.playground.decoding import absent

_NAMES: Mapping[str, tuple[str, ...]] = {
    "messages": ("messages", "conversations", "conversation", "会話"),
    "chosen": ("chosen", "preferred", "accepted", "better", "選ばれた回答", "良い回答", "よい回答", "好ましい回答", "採用"),
    "rejected": ("rejected", "dispreferred", "worse", "選ばれなかった回答", "悪い回答", "好ましくない回答", "不採用"),
    "prompt": (
        "prompt", "instruction", "question", "query", "user", "request", "input", "source", "text", "sentence", "content",
        "プロンプト", "指示", "質問", "質問文", "問い", "問い合わせ", "問合せ",
        "問題", "設問", "依頼", "入力", "ユーザー", "原文", "本文", "文章", "テキスト", "文",
    ),
    "answer": (
        "completion", "response", "answer", "output", "assistant", "reply", "target", "expected", "gold", "label",
        "回答", "答え", "解答", "応答", "出力", "返答", "返信", "模範解答", "正解", "期待する回答",
        "アシスタント", "訳文", "要約", "分類", "ラベル", "カテゴリ", "カテゴリー",
    ),
    "input": ("input", "context", "入力", "文脈", "補足", "本文", "コンテキスト"),
    "system": ("system", "systemprompt", "systemmessage", "システム", "システムプロンプト", "システムメッセージ"),
    "history": ("history", "履歴"),
    "label": ("label", "ktotag", "desirable", "thumb", "ラベル", "良し悪し", "よしあし", "評価"),
    "weight": ("weight", "重み"),
    "item": ("item", "itemid"),
}  # fmt: skip
ROLES = tuple(_NAMES)
"""What a column can be."""
_WITH_INPUT = ("instruction", "指示")
_TRUE = frozenset({"true", "t", "yes", "y", "1", "1.0", "good", "up", "desirable", "chosen", "はい", "良い", "よい", "良", "○", "〇", "◯", "👍", "真"})
_FALSE = frozenset({"false", "f", "no", "n", "0", "0.0", "-1", "-1.0", "bad", "down", "undesirable", "rejected", "いいえ", "悪い", "わるい", "悪",
                    "×", "✕", "✗", "👎", "偽"})  # fmt: skip


def find_roles(columns: Sequence[str], rows: Sequence[Mapping[str, str]], given: Mapping[str, str] | None = None) -> dict[str, str]:
    """The column for each role that one was found for. `given` wins, and where it says enough by itself it is all there is.

    Raises: `InvalidValue` for a role there is not, `UnknownName` for a column there is not.
    """
    roles = _check(given or {}, columns)
    if given and _is_enough(roles):
        return roles | {role: found for role in ("weight", "item") if role not in roles and (found := _take(role, columns, roles.values()))}
    for role in ("messages", "chosen", "rejected", "prompt", "answer", "input", "system", "history", "label", "weight", "item"):
        if role not in roles and (found := _take(role, columns, roles.values())) and _serves(role, found, roles, columns):
            roles[role] = found
    if ("chosen" in roles) != ("rejected" in roles):
        roles = {role: column for role, column in roles.items() if role not in ("chosen", "rejected")}
    return _settle_label(roles, rows)


def read_label(text: str) -> bool | None:
    """Whether a cell says good or bad; None where it says neither."""
    plain = unicodedata.normalize("NFKC", text).strip().casefold().rstrip("\ufe0f")
    return True if plain in _TRUE else False if plain in _FALSE or text.strip() == "×" else None


def is_enough(roles: Mapping[str, str]) -> bool:
    """Whether rows can be read with these columns."""
    return _is_enough(roles)


def _is_enough(roles: Mapping[str, str]) -> bool:
    pair = {"chosen", "rejected"} <= set(roles)
    return "messages" in roles or pair or {"prompt", "answer"} <= set(roles)


def _check(given: Mapping[str, str], columns: Sequence[str]) -> dict[str, str]:
    for role, column in given.items():
        if role not in ROLES:
            raise InvalidValue(name="columns", value=role, allowed=", ".join(ROLES))
        if column not in columns:
            raise absent(column, en="column", ja="列", known=columns)
    return dict(given)


def _take(role: str, columns: Sequence[str], used: Iterable[str]) -> str | None:
    """The first column, in the order of the role's names, that is not used yet."""
    free = {_plain(column): column for column in reversed(columns) if column not in set(used)}
    return next((free[name] for name in _NAMES[role] if name in free), None)


def _serves(role: str, column: str, roles: Mapping[str, str], columns: Sequence[str]) -> bool:
    """Whether a name means this role among these columns: `input` is a second part only beside an instruction."""
    plain = {_plain(name) for name in columns}
    has_pair = {"chosen", "rejected"} <= set(roles)
    if role == "messages":
        return not ({"prompt", "chosen", "rejected"} <= plain)
    if "messages" in roles and role in ("prompt", "answer", "input", "history"):
        return False
    if has_pair and role in ("answer", "label"):
        return False
    if role == "input":
        return _plain(roles.get("prompt", "")) in _WITH_INPUT
    return role != "prompt" or _plain(column) != "source" or "target" in plain  # beside anything else, `source` says where a row is from


def _settle_label(roles: dict[str, str], rows: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Leave a label out where most of its cells are neither good nor bad: then it is a note, and not what is learnt."""
    if column := roles.get("label"):
        cells = [row.get(column, "") for row in rows]
        said = [cell for cell in cells if cell.strip()]
        if said and 2 * sum(read_label(cell) is not None for cell in said) <= len(said):
            return {role: each for role, each in roles.items() if role != "label"}
    return roles


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold())
