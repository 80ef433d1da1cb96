"""Plain sentences that starter-lm rewrites now politely, now plainly, and people who like the polite form."""

from __future__ import annotations

import random
import re

from llmops_kit.types import Message

WHO = ("田中さん", "妹", "部長", "私たち", "山田さん", "先生", "佐藤さん")
WHAT = (
    "駅前の店で靴を買った", "図書館で本を借りた", "会議で計画を説明した", "公園で写真を撮った", "毎朝コーヒーを飲む", "来週から大阪へ行く",
    "新しい部屋を探している", "夕食を作った",
)  # fmt: skip
SENTENCES = [f"{who}は{what}。" for who in WHO for what in WHAT]
random.Random(1).shuffle(SENTENCES)
TAUGHT, HELD_OUT = SENTENCES[:44], SENTENCES[44:]
PROMPT = [Message("user", "次の文を書き直してください。\n{{text}}")]
_POLITE = re.compile(r"(です|ます|ました|ません|でした)[。！!]?$")


def is_polite(text: str) -> bool:
    """Whether a sentence ends in the polite form."""
    return bool(_POLITE.search(text.strip()))


def pairs_of(count: int) -> list[dict[str, str]]:
    """Made-up preferences for the polite form, without any model."""
    polite = {"った": "いました", "りた": "りました", "した": "しました", "む": "みます", "く": "きます", "る": "ます"}
    rows = []
    for sentence in SENTENCES[:count]:
        plain = sentence.rstrip("。")
        end = next(end for end in polite if plain.endswith(end))
        rows.append({"prompt": f"次の文を書き直してください。\n{sentence}", "chosen": f"{plain.removesuffix(end)}{polite[end]}。", "rejected": sentence})
    return rows
