"""The ranking that votes make, with how sure it is.

    ranking = rank(votes)
    ranking.verdict["en"]       # "new is better than old: established (66 % of 118 decided votes, 95 % interval 53–77 %)."
    ranking.table               # best first; strength as in chess, with intervals

The parts: `bradley_terry` (strengths), `resampling` (their intervals), `evidence` (when a lead is established), `forecast` (how many more
votes), `verdict` (the sentence), `raters` (who votes unlike the others), `style` (length and Markdown).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from llmops_kit.comparison.ballots import Ballots, Rows, counted_votes, read_ballots, to_rows
from llmops_kit.comparison.bradley_terry import Fit, Floats, Integers, components, fit
from llmops_kit.comparison.evidence import FEW, measure_lead
from llmops_kit.comparison.forecast import Forecast
from llmops_kit.comparison.raters import find_outliers
from llmops_kit.comparison.resampling import resample_intervals
from llmops_kit.comparison.style import compare_styles
from llmops_kit.comparison.verdict import Text, Verdict, judge_unlinked, judge_votes
from llmops_kit.errors import InvalidValue
from llmops_kit.statistics import SEED, Interval, wilson

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.types import Vote

_POINTS = 400 / math.log(10)    # of strength per unit of log-odds: 400 points are odds of 10 to 1 (Elo 1978)
_MIDDLE = 1000                  # the mean strength of the variants


@dataclass(frozen=True)
class PositionBias:
    """How often the answer on the left won among decided votes (Wilson's 95 % interval); `found`: that leaves out one half."""

    share: Interval
    found: bool
    text: Text


@dataclass(frozen=True)
class Ranking:
    """What votes say of several variants; see `rank`. In a notebook it shows the verdict, the table, the win matrix and the checks."""

    table: pd.DataFrame
    """variant, rank, strength (1000 + 400/ln 10 · θ), low, high, votes, wins, ties, losses, both_bad, win_rate (of decided votes), group; best
    first. Ranks are within a `group`: variants of different groups are not linked by votes."""
    matrix: pd.DataFrame
    """The row variant's share of decided votes against the column's; NaN where none was decided."""
    counts: pd.DataFrame
    """How many votes each two variants got together, ties and both bad included."""
    verdict: Text
    """The verdict in one sentence, by language (en, ja)."""
    established: bool
    """Whether the best variant is established to be the best (grey where not)."""
    best: str | None
    """The variant ahead, established or not; None where nobody is."""
    share: Interval | None
    """The best one's share of decided votes against the one it is least surely ahead of, with the interval that holds whenever looked at."""
    votes_needed: int | None
    """About how many more votes are needed, where that can be said, else None."""
    votes_range: tuple[int, int] | None
    """The further votes it takes in 8 of 10 cases, where `votes_needed` is given."""
    votes_at_least: int | None
    """Fewer further votes than this hardly do (1 of 20 draws); None once established or where more votes alone cannot settle it."""
    votes: int
    """Votes counted."""
    position_bias: PositionBias
    outliers: tuple[str, ...]
    """Raters whose votes contradict those of the others more than chance does."""
    style: pd.DataFrame | None
    """Covariates (left: standing left; length, lists, headers, bold: per standard deviation): covariate, coefficient (log-odds), low, high."""
    notes: tuple[Text, ...] = ()
    """What else a reader should know, each by language."""

    def _repr_html_(self) -> str:
        from llmops_kit.comparison.ranking_html import to_html

        return to_html(self)


def rank(
    votes: Sequence[Vote],
    *,
    variants: Sequence[str] = (),
    outputs: Mapping[str, str] | None = None,
    style_control: bool = False,
    order_effect: bool = False,
    vote_cap: int | None = None,
    exclude_outliers: bool = False,
    seed: int = SEED,
) -> Ranking:
    """Rank the variants that `votes` are about, by Bradley–Terry strengths with ties.

    "Both bad" counts as a tie for the strengths and stands by itself in the table.

    Args:
        votes: effective votes (none replaced by a later one); their order does not matter.
        variants: names to be listed even without a vote.
        outputs: texts by run id, for `style_control`.
        style_control: compare as if both answers were equally long and equally formatted (see `style`).
        order_effect: estimate how much standing left helps, and take it out. Needless where sides are drawn by chance.
        vote_cap: nobody counts more than so many votes; those of a rater with more weigh less.
        exclude_outliers: leave out the votes of the raters in `outliers`.
        seed: of resampling and forecast.

    Raises:
        InvalidValue: a cap below 1, or style control without texts.
    """
    if vote_cap is not None and vote_cap < 1:
        raise InvalidValue(name="vote_cap", value=vote_cap, allowed="1–")
    counted, everyone = counted_votes(votes), read_ballots(votes, variants)
    outliers = find_outliers(everyone)
    kept = ~np.isin(everyone.rater, [everyone.raters.index(name) for name in outliers]) if exclude_outliers else np.ones(len(everyone), bool)
    ballots = everyone.only(kept).capped(vote_cap)
    notes = [*_notes_on_raters(everyone, ballots, outliers, exclude_outliers=exclude_outliers, cap=vote_cap), *_notes_on_size(ballots)]
    ours = [vote for vote, keep in zip(counted, kept, strict=True) if keep]
    rows, names, missing = _to_rows(ballots, ours, outputs, style_control=style_control, order_effect=order_effect)
    found = fit(rows.design, rows.sum(ballots.weight))
    groups = components(np.stack([ballots.left, ballots.right], 1), len(ballots.names))
    low, high = resample_intervals(found, ballots, rows, seed) if len(ballots) else (found.parameters, found.parameters)
    verdict = _judge(found, ballots, rows, groups, seed)
    matrix, counts = _matrix(ballots)
    ahead = verdict.forecast
    return Ranking(
        table=_tabulate(ballots, found, low, high, groups),
        matrix=matrix,
        counts=counts,
        verdict=verdict.text,
        established=verdict.established,
        best=verdict.better,
        share=verdict.share,
        votes_needed=ahead.needed,
        votes_range=_range(ahead),
        votes_at_least=ahead.at_least,
        votes=len(ballots),
        position_bias=_position_bias(ballots),
        outliers=outliers,
        style=_covariates(names, found, low, high) if names else None,
        notes=(*notes, *missing),
    )


def rank_by_tag(votes: Sequence[Vote], **options: Any) -> dict[str, Ranking]:
    """A ranking for each tag of the votes' items, in order of name, with the options of `rank`."""
    tags = sorted({tag for vote in votes for tag in vote.tags})
    return {tag: rank([vote for vote in votes if tag in vote.tags], **options) for tag in tags}


def _to_rows(
    ballots: Ballots, votes: Sequence[Vote], outputs: Mapping[str, str] | None, *, style_control: bool, order_effect: bool
) -> tuple[Rows, list[str], list[Text]]:
    """The design, the names of its covariates, and a note where texts are missing. Raises: InvalidValue, for style control without texts."""
    names = ["left"] if order_effect else []
    if not style_control:
        return to_rows(ballots, order_effect=order_effect), names, []
    if outputs is None:
        raise InvalidValue(name="outputs", value="–", allowed="run id → text")
    style, measured, missing = compare_styles(votes, outputs)
    return to_rows(ballots, order_effect=order_effect, style=style), [*names, *measured], [_missing_texts(missing)] if missing else []


def _judge(found: Fit, ballots: Ballots, rows: Rows, groups: Integers, seed: int) -> Verdict:
    """The verdict, where votes link all variants."""
    names = ballots.names
    if len(names) < 2 or len(np.unique(groups)) > 1:
        return judge_unlinked([[name for name, of in zip(names, groups, strict=True) if of == group] for group in np.unique(groups)])
    best = int(np.argmax(found.strengths))
    leads = [measure_lead(found, ballots, rows, best, other) for other in range(len(names)) if other != best]
    decided = int((ballots.sign != 0).sum())
    return judge_votes(leads, names, votes=len(ballots), decided=decided, scope=_scope(ballots), seed=seed)


def _scope(ballots: Ballots) -> Text:
    """Which few questions or people an established verdict is about, to stand within the sentence."""
    items, raters = len(np.unique(ballots.item)), len(np.unique(ballots.rater))
    en = [f"on {'this 1 question' if items == 1 else f'these {items} questions'}"] if items < FEW else []
    en += [f"by the votes of {'1 person' if raters == 1 else f'{raters} people'}"] if raters < FEW else []
    ja = ([f"この{items}問では"] if items < FEW else []) + ([f"この{raters}人の票では"] if raters < FEW else [])
    return {"en": " " + ", ".join(en) if en else "", "ja": "、".join(ja) + "、" if ja else ""}


def _range(ahead: Forecast) -> tuple[int, int] | None:
    return (ahead.low, ahead.high) if ahead.low is not None and ahead.high is not None else None


def _tabulate(ballots: Ballots, found: Fit, low: Floats, high: Floats, groups: Integers) -> pd.DataFrame:
    """The table, best first, group by group."""
    import pandas as pd

    number = np.arange(len(ballots.names))
    beside = ballots.left[:, None] == number, ballots.right[:, None] == number
    won = (beside[0] & (ballots.sign == 1)[:, None]) | (beside[1] & (ballots.sign == -1)[:, None])
    lost = (beside[0] & (ballots.sign == -1)[:, None]) | (beside[1] & (ballots.sign == 1)[:, None])
    there = beside[0] | beside[1]
    wins, losses, votes = won.sum(0), lost.sum(0), there.sum(0)
    bad = (there & ballots.bad[:, None]).sum(0)
    size = len(number)
    columns = {
        "variant": ballots.names,
        "strength": _MIDDLE + _POINTS * found.strengths,
        "low": _MIDDLE + _POINTS * low[:size],
        "high": _MIDDLE + _POINTS * high[:size],
        "votes": votes,
        "wins": wins,
        "ties": votes - wins - losses - bad,
        "losses": losses,
        "both_bad": bad,
        "win_rate": np.where(wins + losses > 0, wins / np.maximum(wins + losses, 1), np.nan),
        "group": groups + 1,
    }
    table = pd.DataFrame(columns).sort_values(["group", "strength", "variant"], ascending=[True, False, True], ignore_index=True)
    table.insert(1, "rank", table.groupby("group")["strength"].rank(ascending=False, method="min").astype(int))
    return table


def _matrix(ballots: Ballots) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The shares of decided votes and the numbers of votes, variants by variants."""
    import pandas as pd

    size = len(ballots.names)
    wins, met = np.zeros((size, size)), np.zeros((size, size), np.int64)
    first, second = np.where(ballots.sign >= 0, ballots.left, ballots.right), np.where(ballots.sign >= 0, ballots.right, ballots.left)
    np.add.at(wins, (first, second), np.abs(ballots.sign))
    np.add.at(met, (first, second), 1)
    decided = wins + wins.T
    shares = np.divide(wins, decided, out=np.full_like(wins, np.nan), where=decided > 0)
    names = list(ballots.names)
    return pd.DataFrame(shares, index=names, columns=names), pd.DataFrame(met + met.T, index=names, columns=names)


def _covariates(names: Sequence[str], found: Fit, low: Floats, high: Floats) -> pd.DataFrame:
    import pandas as pd

    start = found.design.variants
    return pd.DataFrame({"covariate": names, "coefficient": found.parameters[start:], "low": low[start:], "high": high[start:]})


def _position_bias(ballots: Ballots) -> PositionBias:
    """Whether standing left helps, over all decided votes."""
    decided = int((ballots.sign != 0).sum())
    share = wilson(int((ballots.sign > 0).sum()), decided)
    found = decided > 0 and not share.low <= 0.5 <= share.high
    if not decided:
        return PositionBias(share, False, {"en": "No vote is decided yet.", "ja": "勝敗のついた票がまだありません。"})
    facts = f"{100 * share.value:.0f} %", f"{100 * share.low:.0f}–{100 * share.high:.0f} %"
    what = {
        True: ("The side matters: the left answer won", "左右の位置が影響しているようです"),
        False: ("No influence of the side is seen: the left answer won", "左右の位置の影響は見られません"),
    }[found]
    en = f"{what[0]} {facts[0]} of {decided} decided votes (95 % interval {facts[1]})."
    ja = f"{what[1]}：勝敗のついた{decided}票の{facts[0].replace(' ', '')}で左が勝ち（95%区間{facts[1].replace(' ', '').replace('–', '〜')}）。"
    return PositionBias(share, found, {"en": en, "ja": ja})


def _notes_on_size(ballots: Ballots) -> list[Text]:
    """That few questions or people are behind the votes."""
    items, raters = len(np.unique(ballots.item)), len(np.unique(ballots.rater))
    if not len(ballots) or (items >= FEW and raters >= FEW):
        return []
    counts = f"{_count(len(ballots), 'vote')} of {_count(raters, 'person', 'people')} on {_count(items, 'question')}"
    en = f"{counts}: with fewer than {FEW} of either the verdict is about these only."
    ja = f"{items}問に対する{raters}人の{len(ballots)}票です。質問か人が{FEW}より少ない間は、結論はこの質問・この人たちに限られます。"
    return [{"en": en, "ja": ja}]


def _notes_on_raters(everyone: Ballots, ballots: Ballots, outliers: Sequence[str], *, exclude_outliers: bool, cap: int | None) -> list[Text]:
    """That raters were flagged, left out or capped."""
    notes: list[Text] = []
    if outliers:
        left_out = len(everyone) - len(ballots)
        en = f"{_count(len(outliers), 'rater')} voting unlike the others" + (f"; their {left_out} votes are left out." if exclude_outliers else ".")
        ja = f"ほかの人と傾向の異なる投票者が{len(outliers)}人います" + (f"（その{left_out}票は除いています）。" if exclude_outliers else "。")
        notes.append({"en": en, "ja": ja})
    capped = len(np.unique(ballots.rater[ballots.weight < 1]))
    if cap is not None and capped:
        ja = f"{capped}人が{cap}票を超えたため、{cap}票分として数えています。"
        notes.append({"en": f"{capped} raters gave more than {cap} votes; theirs count as {cap}.", "ja": ja})
    return notes


def _missing_texts(missing: int) -> Text:
    ja = f"{missing}票は文章がないため、書き方の差がないものとして扱っています。"
    return {"en": f"For {missing} votes a text is missing; they count as alike in style.", "ja": ja}


def _count(n: int, one: str, several: str | None = None) -> str:
    """`n` with its noun, as English has it."""
    return f"{n} {one if n == 1 else several or one + 's'}"
