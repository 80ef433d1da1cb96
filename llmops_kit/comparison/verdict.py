"""The verdict in one sentence, in English and Japanese: whether a difference is established, and if not, what it would take.

    verdict = verdict_scores([1, 1, 0, 1], [0, 1, 0, 0], names=("new", "old"))
    verdict.text["en"]

The rule is that of `evidence`: it may be looked at as often as one likes. The forecast is that of `forecast`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from llmops_kit.comparison.evidence import ALPHA, Lead, log_evidence, share_interval
from llmops_kit.comparison.forecast import Forecast, forecast_items, forecast_leads
from llmops_kit.statistics import SEED, Difference, Interval, compare

Text = Mapping[str, str]


@dataclass(frozen=True)
class Verdict:
    """A sentence (`text`, by language) and the facts in it; see `Ranking` and `verdict_scores`."""

    established: bool
    text: Text
    forecast: Forecast
    better: str | None = None
    than: str | None = None
    share: Interval | None = None
    difference: Difference | None = None


def judge_votes(leads: Sequence[Lead], names: Sequence[str], *, votes: int, decided: int, scope: Text, seed: int = SEED) -> Verdict:
    """The verdict on the best variant: `leads` are its leads over each other one, of `votes` votes, `decided` of them decided.

    `scope` says by language which few questions or people it is about, if so. With two variants the sentence counts their decided
    votes; with more it tells the best from the next best.
    """
    closest = min(leads, key=lambda lead: lead.log_evidence)
    better, than = names[closest.better], names[closest.than]
    low, high = closest.interval()
    share = Interval(closest.share, low, high, decided)
    established = all(lead.is_established() for lead in leads)
    ahead = forecast_leads([] if established else [lead for lead in leads if not lead.is_established()], votes, len(names), seed=seed)
    percent = {name: _percent(value) for name, value in (("share", share.value), ("low", low), ("high", high))}
    facts = {"better": better, "than": than, "n": decided, "all": len(names), **percent}
    if len(leads) == 1:
        text = _two(facts, established, share.value, scope)
    else:
        pairs = len(names) * (len(names) - 1) // 2
        behind = [names[lead.than] for lead in leads if lead.is_established(pairs)]
        text = _many(facts, established, behind, scope)
    more = {} if established else _outlook(ahead, {"en": "vote", "ja": "票"})
    sentence = {language: text[language] + more.get(language, "") for language in ("en", "ja")}
    return Verdict(established, sentence, ahead, better if share.value != 0.5 else None, than, share)


def judge_unlinked(groups: Sequence[Sequence[str]]) -> Verdict:
    """The verdict where nobody can be compared with everybody: no votes, one variant, or groups that no votes link."""
    if len(groups) < 2:
        return Verdict(False, {"en": "No votes yet: nothing can be said.", "ja": "まだ投票がないため、何も言えません。"}, Forecast())
    shown = " | ".join(", ".join(group) for group in groups)
    return Verdict(
        False,
        {
            "en": f"No best can be named: no votes link these {len(groups)} groups of variants ({shown}).",
            "ja": f"{len(groups)}つのグループの間に投票がないため、全体で最も良いものは言えません（{shown}）。",
        },
        Forecast(),
    )


def verdict_scores(first: ArrayLike, second: ArrayLike, *, names: tuple[str, str] = ("A", "B"), planned: bool = False, seed: int = SEED) -> Verdict:
    """The verdict on two variants scored on the same items: higher is better, NaN leaves an item out on both sides.

    The item by item differences are judged by their signs and sizes: with no difference between the variants each is as likely to fall
    to either side (Fisher 1935). S is their sum, s the root of their mean square over the n that are not 0; the evidence is that of
    n votes with n/2 + S/2s wins. For ±1 that is the vote rule itself; else it is less than the likelihood ratio it stands for, since
    ln cosh √x is concave, and so on the safe side. It may be looked at after every item, so a test set may be extended until it is
    established.

    Args:
        first: scores of the first variant, any unit.
        second: of the second, in the order of the same items.
        names: of the two, for the sentence.
        planned: the number of items was fixed before and is looked at once: the ordinary paired test of `llmops_kit.statistics.compare`
            (p < 0.05) decides, which needs about half the items. It says at least how many more are needed, never about how many.
        seed: of the forecast.

    Raises:
        ValueError: the two are not equally long.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != other.shape:
        raise ValueError(f"the same items are needed on both sides, not {len(one)} and {len(other)}")
    known = np.isfinite(one) & np.isfinite(other)
    one, other = one[known], other[known]
    tested = compare(one, other)
    differences = one - other
    moved = differences[differences != 0]
    worth, size = float(len(moved)), float(np.sqrt((moved**2).mean())) if len(moved) else 0.0
    wins = worth / 2 + (float(differences.sum()) / size / 2 if size else 0.0)
    established = tested.is_established() if planned else float(log_evidence(wins, worth)) >= math.log(1 / ALPHA)
    if not planned:
        unit = size * worth / max(len(differences), 1)
        low, high = share_interval(wins, worth)
        bounds = (unit * (2 * low - 1), unit * (2 * high - 1)) if len(moved) else (0.0, 0.0)
        tested = Difference(tested.mean, *bounds, tested.p, tested.n)
    ahead = forecast_items(wins, worth, len(differences), planned=planned, seed=seed) if not established else Forecast()
    better, than = names if tested.mean >= 0 else names[::-1]
    means = (float(one.mean()), float(other.mean())) if len(one) else (0.0, 0.0)
    text = _scores(tested, better, than, (max(means), min(means)), established)
    more = {} if established else _outlook(ahead, {"en": "item", "ja": "件"})
    sentence = {language: text[language] + more.get(language, "") for language in ("en", "ja")}
    return Verdict(established, sentence, ahead, better if tested.mean else None, than if tested.mean else None, None, tested)


def _two(facts: Mapping[str, object], established: bool, share: float, scope: Text) -> Text:
    """The sentence on two variants."""
    if established:
        en = "{better} is better than {than}: established{scope} (an estimated {share} % of decided votes, n = {n}, 95 % interval {low}–{high} %)."
        ja = "{scope}{better}は{than}より良いと言えます（勝敗のついた票の推定{share}%、n={n}、95%区間{low}〜{high}%）。"
    elif not facts["n"]:
        en = "No difference between {better} and {than} is established: no vote is decided yet."
        ja = "{better}と{than}に差があるとは言えません（勝敗のついた票がまだありません）。"
    elif share == 0.5:
        en = "No difference between {better} and {than} is established (50 % of {n} decided votes each, 95 % interval {low}–{high} %)."
        ja = "{better}と{than}に差があるとは言えません（勝敗のついた{n}票は50%ずつ、95%区間{low}〜{high}%）。"
    else:
        en = "No difference between {better} and {than} is established "
        en += "({better} wins an estimated {share} % of decided votes, n = {n}, 95 % interval {low}–{high} %)."
        ja = "{better}と{than}に差があるとは言えません（勝敗のついた票のうち{better}が推定{share}%、n={n}、95%区間{low}〜{high}%）。"
    return {"en": en.format(**facts, scope=scope["en"]), "ja": ja.format(**facts, scope=scope["ja"])}


def _many(facts: Mapping[str, object], established: bool, behind: Sequence[str], scope: Text) -> Text:
    """The sentence on several variants: the best and the one it is least surely ahead of."""
    if established:
        en = "{better} is the best of {all}: established{scope} (against {than} it gets an estimated {share} % of decided votes, 95 % interval {low}–{high} %)."
        ja = "{scope}{all}つの中で{better}が最も良いと言えます（{than}との比較では勝敗のついた票の推定{share}%、95%区間{low}〜{high}%）。"
    else:
        en = "No best of {all} is established: {better} leads, with an estimated {share} % of decided votes against {than} (95 % interval {low}–{high} %)."
        ja = "どれが最も良いかはまだ言えません（首位は{better}、{than}との比較では勝敗のついた票の推定{share}%、95%区間{low}〜{high}%）。"
        if behind:
            en += " Established to be behind {better}: " + ", ".join(name.replace("{", "{{").replace("}", "}}") for name in behind) + "."
            ja += "{better}より劣ると言えるもの：" + "、".join(name.replace("{", "{{").replace("}", "}}") for name in behind) + "。"
    return {"en": en.format(**facts, scope=scope["en"]), "ja": ja.format(**facts, scope=scope["ja"])}


def _scores(tested: Difference, better: str, than: str, means: tuple[float, float], established: bool) -> Text:
    """The sentence on scores."""
    if not tested.n:
        return {
            "en": f"No difference between {better} and {than} is established: nothing is scored yet.",
            "ja": f"{better}と{than}に差があるとは言えません（採点がまだありません）。",
        }
    low, high = (tested.low, tested.high) if tested.mean >= 0 else (-tested.high, -tested.low)
    compared, gap = f"{means[0]:.2f} / {means[1]:.2f}, n={tested.n}", f"{abs(tested.mean):.2f}"
    en = f"({compared}; difference {gap}, 95 % interval {low:+.2f} to {high:+.2f})."
    ja = f"（{compared}、差{gap}、95%区間{low:+.2f}〜{high:+.2f}）。"
    if established:
        return {"en": f"{better} scores higher than {than}: established {en}", "ja": f"{better}は{than}より点数が高いと言えます{ja}"}
    return {"en": f"No difference between {better} and {than} is established {en}", "ja": f"{better}と{than}に差があるとは言えません{ja}"}


def _outlook(ahead: Forecast, unit: Text) -> Text:
    """What it would take, as a sentence to stand after the others."""
    plural = unit["en"] + "s"
    if ahead.exhausted:
        return {
            "en": f" More {plural} on the same questions by the same people hardly settle it: add questions or people.",
            "ja": f"同じ質問・同じ人の{unit['ja']}を増やしても決着しそうにありません。質問か人を増やしてください。",
        }
    if ahead.needed is not None:
        low, high = _rounded(ahead.low), _rounded(ahead.high)
        return {
            "en": f" About {_rounded(ahead.needed)} more {plural} are needed ({low} to {high} in 8 of 10 cases) if the lead stays as it is.",
            "ja": f"あと約{_rounded(ahead.needed)}{unit['ja']}必要です（いまの差が続く場合。10回中8回は{low}〜{high}{unit['ja']}）。",
        }
    return {
        "en": f" It is too early to say how many more are needed: probably at least {_rounded(ahead.at_least)} {plural}.",
        "ja": f"あと何{unit['ja']}必要かはまだ言えませんが、おそらく少なくとも{_rounded(ahead.at_least)}{unit['ja']}です。",
    }


def _percent(share: float) -> str:
    """In whole percent; near one half with a decimal, so that an interval is seen to leave 50 % out, or not."""
    return f"{100 * share:.1f}" if 0.0005 < abs(share - 0.5) < 0.005 else f"{100 * share:.0f}"


def _rounded(votes: int | None) -> str:
    """A number as one says it: from 100 on with two digits that count."""
    if votes is None:
        return "?"
    unit = 10 ** max(0, len(str(votes)) - 2) if votes >= 100 else 1
    return f"{round(votes / unit) * unit:,}"
