"""A small comparison to try the tab with: six questions with their sources, two starter models, a few seconds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llmops_kit.ui import form
from llmops_kit.ui.files import progress_bar
from llmops_kit.ui.text import Language, localized, say

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

PROMPT = "answer_from_sources"
MODELS = ("starter-lm", "starter-reader")
_KANA = re.compile("[\u3041-\u3096]")
_ITEMS: dict[str, Sequence[tuple[str, str, str]]] = {
    "ja": (
        ("入社から6か月続けて勤務し、所定労働日の8割以上を出勤した社員には、10日の年次有給休暇を与えます。", "有給休暇は何日もらえますか？", "10日"),
        ("有給休暇の申請は、取りたい日の3営業日前までに勤怠システムで行います。", "有給は何日前までに申請すればよいですか？", "3営業日前"),
        ("在宅勤務は週に3日まで認めます。", "在宅勤務は週に何日できますか？", "3日"),
        ("受付で来客用の利用券を受け取ってください。利用券は発行から8時間で切れます。", "来客用の利用券は何時間使えますか？", "8時間"),
        ("フィルターは2シーズンを目安に交換してください。", "フィルターはどのくらいで交換しますか？", "2シーズン"),
        ("VPNソフト「つきみゲート」を起動し、確認コードでつなぎます。確認コードは30秒ごとに変わります。", "確認コードは何秒ごとに変わりますか？", "30秒"),
    ),
    "en": (
        ("Each colleague has a learning budget of 120,000 yen a year for books, courses and conferences.", "How large is the learning budget?", "120,000 yen"),
        ("For flights longer than eight hours you may book premium economy.", "When may I book premium economy?", "for flights longer than eight hours"),
        ("Claim your expenses within 30 days of your return. Attach the boarding passes.", "Within how many days must I claim expenses?", "30 days"),
        ("The company insurance covers lost luggage up to 200,000 yen.", "How much lost luggage is covered?", "200,000 yen"),
        ("Abroad you receive a daily allowance of 6,000 yen for meals, without receipts.", "What is the daily allowance for meals abroad?", "6,000 yen"),
        ("Book flights at least 21 days ahead through the travel desk.", "How many days ahead must flights be booked?", "21 days"),
    ),
}
"""Sources, question, expected answer. From the sample documents the kit ships."""


def rows(kit: Kit, language: Language) -> list[dict[str, str]]:
    """The six items as rows of a test set."""
    variables = {each.name: each for each in kit.prompts.get(PROMPT).variables}
    told = localized(variables["instruction"].example, language)
    same = [each for each in variables["instruction"].options if bool(_KANA.search(each)) == bool(_KANA.search(told))]
    instruction = min(same or [told], key=len)  # the shortest: half of what the models read
    return [{"instruction": instruction, "sources": f"[1] {text}", "question": question, "expected": expected} for text, question, expected in _ITEMS[language]]


def make(kit: Kit, participant: str, language: Language) -> Iterator[tuple[str, str]]:
    """Run the comparison and give its id with a bar, again and again until it is done. Raises: KitError."""
    prompt: Any = form.chosen(kit, PROMPT, "latest")
    yield "", progress_bar(0, len(_ITEMS[language]) * len(MODELS), say("duel.example_starts", language))
    for step in kit.comparison.stream_batch(prompt, list(MODELS), rows(kit, language), participant=participant):
        done = step.done + step.failed
        yield step.comparison_id, progress_bar(done, step.total, say("duel.example_runs", language, done=done, total=step.total))
