"""What is said of an agreement, in English and Japanese: how to read α, and why something could not be computed.

The bounds are K. Krippendorff's, Content Analysis, 2nd ed. 2004, p. 241: rely on α ≥ .800; draw tentative conclusions only from
.667 ≤ α < .800. They are conventions for content analysis, not laws; what an error costs decides how much agreement is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from llmops_kit.feedback.judgements import Judgements
from llmops_kit.statistics import Interval

ALPHA, PERCENT, COHEN, FLEISS = "Krippendorff α", "percent agreement", "Cohen κ", "Fleiss κ"
RELIABLE, TENTATIVE = 0.8, 0.667

Text = Mapping[str, str]

NOTHING = {"en": "There are no ratings yet.", "ja": "まだ評価がありません。"}
PROSE = {
    "en": "These are free texts; agreement can only be measured on choices and numbers.",
    "ja": "自由記述のため、一致度は測れません。選択肢か数値の項目で測ってください。",
}
ONE_RATER = {
    "en": "Only one person has rated; agreement needs two people who rate the same answers.",
    "ja": "評価者が1人だけです。一致度を測るには、同じ回答を2人以上が評価する必要があります。",
}
NO_OVERLAP = {
    "en": "No two people have rated the same answer yet, so agreement cannot be measured.",
    "ja": "同じ回答を2人以上が評価していないため、一致度を測れません。",
}
ONE_UNIT = {
    "en": "Only one answer was rated by two people or more; α needs at least two.",
    "ja": "2人以上が評価した回答が1件だけです。αの計算には2件以上が必要です。",
}
ALL_EQUAL = {
    "en": "Everybody always gave the same value, so α is undefined: nothing shows that the raters can tell answers apart.",
    "ja": "全員が常に同じ値を付けたため、αは定義されません（回答を区別できているかどうかが分かりません）。",
}
NUMBERS = {"en": "κ is not given for measured numbers; read α.", "ja": "数値の項目ではκを出しません。αを見てください。"}
UNEQUAL = {"en": "Fleiss' κ needs the same number of ratings for every answer.", "ja": "Fleissのκは、すべての回答の評価数が同じときだけ計算できます。"}
NO_COHEN = {"en": "Cohen's κ could not be computed for any pair of raters.", "ja": "Cohenのκを計算できる評価者の組がありません。"}

_READINGS: Mapping[str, Text] = {
    "reliable": {"en": "reliable by the usual bound (α ≥ 0.80)", "ja": "通常の基準で信頼できる一致（α ≥ 0.80）"},
    "tentative": {"en": "good for tentative conclusions only (0.667 ≤ α < 0.80)", "ja": "暫定的な結論にとどめるべき一致（0.667 ≤ α < 0.80）"},
    "unreliable": {"en": "too low to rely on (α < 0.667)", "ja": "結論の根拠にするには低い一致（α < 0.667）"},
    "opposed": {"en": "not established to be better than chance", "ja": "偶然を上回るとは確かめられない一致"},
}
_SENTENCE = {
    "en": "Krippendorff's α = {value:.2f} (95 % {low:.2f} to {high:.2f}; {units} rated by two people or more, {raters}): {reading}.",
    "ja": "Krippendorffのα = {value:.2f}（95%区間{low:.2f}～{high:.2f}、2人以上が評価した回答{units}件、評価者{raters}人）：{reading}です。",
}
_UNSURE = {
    "en": " This is not established: the interval reaches down below {bound:g}; have more answers rated.",
    "ja": "ただし区間が{bound:g}を下回るため、まだ確かではありません。評価する回答を増やしてください。",
}
_OPEN = {
    "en": " The interval reaches up to {high:.2f}; more ratings may show more agreement.",
    "ja": "区間の上端は{high:.2f}です。評価が増えると読みが変わる可能性があります。",
}
_SOURCE = {
    "en": " (Bounds: Krippendorff 2004, a convention; what a mistake would cost decides how much is needed.)",
    "ja": "（基準はKrippendorff 2004の慣例です。必要な一致度は、誤りの影響の大きさで決めてください。）",
}
_BIASED = {"en": " {n} of {raters} rate higher or lower than the others.", "ja": "評価者{raters}人のうち{n}人は、ほかの人より高めまたは低めに評価しています。"}
_DRIFTING = {"en": " {n} of {raters} changed their standard along the way.", "ja": "評価者{raters}人のうち{n}人は、途中で評価の基準が変わっています。"}


def explain(data: Judgements, counts: NDArray[np.float64], alpha: Interval | None, cohen: float | None, fleiss: float | None) -> Iterator[Text]:
    """Why something was not computed, the most important first."""
    totals = counts.sum(1)
    shared = counts[totals >= 2]
    if not len(data.raters):
        yield NOTHING
    elif len(data.raters) == 1:
        yield ONE_RATER
    elif not len(shared):
        yield NO_OVERLAP
    elif alpha is None:
        yield ALL_EQUAL if shared.any(0).sum() == 1 else ONE_UNIT
    if alpha is None or not len(shared):
        return
    if data.level == "interval":
        yield NUMBERS
        return
    if cohen is None:
        yield NO_COHEN
    if fleiss is None and (totals.min() < 2 or totals.min() != totals.max()):
        yield UNEQUAL


def read(alpha: Interval) -> str:
    """The reading of α: `reliable`, `tentative`, `unreliable`, or `opposed` where it is not established that people agree at all."""
    if alpha.low <= 0:
        return "opposed"
    return "reliable" if alpha.value >= RELIABLE else "tentative" if alpha.value >= TENTATIVE else "unreliable"


def judge(alpha: Interval | None, raters: int, notes: tuple[Text, ...], biased: int, drifting: int) -> dict[str, str]:
    """The verdict: α with its interval and how to read it, or why there is none; then how many raters stand out."""
    said = {}
    for language in ("en", "ja"):
        extra = "".join(text[language].format(n=n, raters=raters) for text, n in ((_BIASED, biased), (_DRIFTING, drifting)) if n)
        if alpha is None:
            said[language] = notes[0][language] + extra
            continue
        reading = read(alpha)
        units, people = (_count(alpha.n, "answer"), _count(raters, "rater")) if language == "en" else (alpha.n, raters)
        facts = {"value": alpha.value, "low": alpha.low, "high": alpha.high, "units": units, "raters": people}
        sentence = _SENTENCE[language].format(**facts, reading=_READINGS[reading][language])
        bound = {"reliable": RELIABLE, "tentative": TENTATIVE}.get(reading)
        doubt = _UNSURE if bound and alpha.low < bound else _OPEN if not bound and alpha.high >= TENTATIVE else None
        said[language] = sentence + (doubt[language].format(bound=bound, high=alpha.high) if doubt else "") + extra + _SOURCE[language]
    return said


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")
