"""How many more votes until a lead is established, if votes go on coming in as they did.

What is unknown is the true share and the luck of the votes to come. Both are drawn: the share from what the votes so far allow
(Beta(5, 5) before any, the same as in `evidence`), then the further votes, 500 times, until the rule of `evidence` is met. (Spiegelhalter,
Abrams and Myles 2004, "Bayesian Approaches to Clinical Trials", ch. 6, predictive monitoring.) Further votes are taken to be decided as
often, and to fall on the same questions and raters, as those before, so that the design effect grows with them.

A number is given only once it can be: when in 3 of 4 draws the *total* at which the lead is established lies within a factor of 1.5
of one total, that total less the votes given is the number. Before that only "at least" is said: the number that 19 of 20 draws exceed.
Where the questions (or raters) there are do not suffice however many votes are given, there is no number and more questions are asked for.

How good this is, by simulation (tests/ranking_simulation.py; 150 streams each, true shares of 55 to 85 %, looked at as votes come in): where a
number is shown, the total it means is within a factor of 1.5 of the votes at which the lead is established in the same stream in 91 % of moments
(91 % when first shown) if votes do not hang together, and in 80–85 % (82 %) if they do, on 20 or 50 questions; of four variants 84 % (86 %); of
scores 91 % (86 %). It is shown in 64–90 % of the streams that are settled, first after 75–85 % of the votes (four variants: 93 %). The number of
*further* votes cannot be known so closely by anybody: the last votes are a matter of luck, and it is within 1.5 in one case of eight. So the range of
8 of 10 draws stands beside it; it held the truth in 88–94 % of moments. "At least" was true in 93–96 % (four variants: 70 %).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from llmops_kit.comparison.bradley_terry import Floats
from llmops_kit.comparison.evidence import ALPHA, MIXTURE, Lead, log_evidence
from llmops_kit.statistics import SEED

Booleans = NDArray[np.bool_]

FACTOR = 1.5                    # how close a forecast must be to be worth a number
SURE = 0.75                     # in how many draws it is so close
_DRAWS = 500
_POINTS = 100                   # looks into the future: every vote at first, then in steps that grow to a few percent
_HORIZON = 12.0                 # how many times the present votes are looked ahead,
_AT_LEAST = 200.0               # at least so many
_DECIDED, _DECIDED_WORTH = 0.75, 4.0    # share of votes that are decided, before four votes say otherwise


@dataclass(frozen=True)
class Forecast:
    """Further votes (or items): `needed` with the range `low` to `high` of 8 in 10 draws, where that can be said; else `at_least`.

    `exhausted`: votes alone will not do, the questions or raters there are do not suffice.
    """

    needed: int | None = None
    low: int | None = None
    high: int | None = None
    at_least: int | None = None
    exhausted: bool = False


def forecast_leads(leads: Sequence[Lead], votes: int, variants: int = 2, *, seed: int = SEED) -> Forecast:
    """The further votes until each of `leads` (those of the best variant that are not established yet) is; `votes` are given so far."""
    if not leads:
        return Forecast()
    random = np.random.default_rng(seed)
    totals, least = np.zeros(_DRAWS), np.zeros(_DRAWS)
    exhausted = np.zeros(_DRAWS, bool)
    for lead in leads:
        worth = draw_worth(lead.share * lead.worth, lead.worth, random)
        whole, at_best, never = _to_votes(worth, lead, votes, variants, random)
        totals, least, exhausted = np.maximum(totals, whole), np.maximum(least, at_best), exhausted | never
    clustered = any(spread.is_certain for lead in leads for spread in lead.spreads.values())
    if clustered and exhausted.mean() > 0.5:
        return Forecast(exhausted=True)
    return summarise(totals, votes, least)


def forecast_items(wins: float, worth: float, items: int, *, planned: bool = False, seed: int = SEED) -> Forecast:
    """The further items that scores need: of `items` so far `worth` differ, which speak like so many votes with `wins` won (see `verdict_scores`).

    An item is taken to differ as often as those before (before any: three of four).
    """
    differing = (worth + _DECIDED_WORTH * _DECIDED) / (items + _DECIDED_WORTH)
    totals = draw_worth(wins, worth, np.random.default_rng(seed), planned=planned) / differing
    ahead = summarise(np.maximum(totals, items + 1), items)
    return Forecast(at_least=ahead.at_least) if planned else ahead


def plan_votes(share: float, *, decided: float = 0.8) -> int:
    """About how many votes it takes to establish the better of two variants that wins `share` (0.5 to 1) of decided votes: in half of all cases
    fewer. `decided` is the share of votes that are no tie. Votes are taken to be on different questions.

    Raises:
        ValueError: a share or decided outside its bounds.
    """
    if not 0.5 < share <= 1 or not 0 < decided <= 1:
        raise ValueError(f"share must lie above 0.5 and up to 1, decided above 0 and up to 1, not {share} and {decided}")
    far = max(_AT_LEAST, 40 / (share - 0.5) ** 2)
    worth = _first_established(0.0, 0.0, np.full((_DRAWS, 1), share), far, np.random.default_rng(SEED), points=500)
    return math.ceil(float(np.median(worth)) / decided)


def draw_worth(wins: float, worth: float, random: np.random.Generator, *, planned: bool = False) -> Floats:
    """At how many decided votes in all, independent ones, the lead is established, in 500 draws; infinite where not in sight.

    With `planned` not by the rule for looking at any time but by one test at the usual 5 % (1.96 standard errors).
    """
    share = random.beta(MIXTURE + wins, MIXTURE + worth - wins, (_DRAWS, 1))
    return _first_established(wins, worth, share, _horizon(worth), random, planned=planned)


def _horizon(worth: float) -> float:
    return max(_AT_LEAST, _HORIZON * worth)


def _first_established(
    wins: float, worth: float, share: Floats, far: float, random: np.random.Generator, *, planned: bool = False, points: int = _POINTS
) -> Floats:
    """The decided votes in all at which the lead is first established, for each true `share`, at `points` looks up to `far` further ones."""
    marks = np.unique(np.concatenate([np.arange(1, 20), np.geomspace(20, far, points)]).astype(np.int64))
    won = wins + np.cumsum(random.binomial(np.diff(marks, prepend=0)[None], share), axis=1)
    given = np.asarray(worth + marks, np.float64)
    need = np.sqrt(given) * 0.98 if planned else half_width(given)
    there = np.abs(won - given / 2) >= need
    middles = given - np.diff(marks, prepend=0) / 2 + 0.5
    return np.where(there.any(1), middles[there.argmax(1)], np.inf)


def half_width(votes: Floats) -> Floats:
    """How many votes above one half must have gone to one side for the lead to be established; infinite where none do."""
    threshold = math.log(1 / ALPHA)
    low, high = np.zeros_like(votes, np.float64), votes / 2.0
    reachable = log_evidence(votes, votes) >= threshold
    for _ in range(24):
        middle = (low + high) / 2
        enough = log_evidence(votes / 2 + middle, votes) >= threshold
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(reachable, high, np.inf)


def summarise(totals: Floats, votes: int, lowest: Floats | None = None) -> Forecast:
    """The forecast that draws of the total make, `votes` of which are given. `lowest` are the totals if all goes well, for "at least"."""
    ordered, lowest = np.sort(totals), totals if lowest is None else lowest
    seen = lowest[np.isfinite(lowest)]
    # Beyond the horizon nothing is known but that it is beyond.
    least = float(np.quantile(lowest, 0.05, method="lower")) if len(seen) > 0.05 * len(lowest) else float(seen.max(initial=votes + 1))
    held = np.searchsorted(ordered, ordered * FACTOR**2, side="right") - np.arange(len(ordered))
    held[~np.isfinite(ordered)] = 0
    best = int(held.argmax())
    at_least = max(1, math.floor(least - votes))
    low, high = (float(np.quantile(ordered, quantile, method="nearest")) for quantile in (0.1, 0.9))
    if held[best] < SURE * len(ordered) or not math.isfinite(high):
        return Forecast(at_least=at_least)
    window = ordered[best:best + held[best]]
    total = float(np.clip(np.median(ordered), window[-1] / FACTOR, window[0] * FACTOR))
    needed = max(1, round(total - votes))
    return Forecast(needed, max(1, min(needed, math.floor(low - votes))), max(needed, math.ceil(high - votes)), at_least)


def _to_votes(worth: Floats, lead: Lead, votes: int, variants: int, random: np.random.Generator) -> tuple[Floats, Floats, Booleans]:
    """The votes in all that are worth `worth` independent decided ones, the same if they hung together no more than now, and where none are.

    With N votes the worth is r N / (1 + Σ ρ (t N s - 1)): r decided votes and t telling votes per vote, s the chance that two of them
    share a question, and ρ drawn from what is known of it.
    """
    # With several variants a pair's balanced share of what votes say is about 1 / (variants - 1).
    rate = (lead.plain + _DECIDED_WORTH * _DECIDED / (variants - 1)) / (votes + _DECIDED_WORTH)
    telling = lead.telling / votes if votes else 1.0
    fixed, growing = np.ones_like(worth), np.zeros_like(worth)
    for spread in lead.spreads.values():
        agreement = np.maximum(0.0, random.normal(spread.agreement, spread.doubt, len(worth)))
        growing += telling * agreement * spread.later
        fixed -= np.minimum(agreement, 0.5) if spread.later > 0 else 0.0
    reached = np.isfinite(worth)
    left = rate - np.where(reached, worth, lead.worth + _horizon(lead.worth)) * growing
    whole = np.where(reached & (left > 0), worth * np.maximum(fixed, 0.1) / np.where(left > 0, left, 1.0), np.inf)
    at_best = worth / rate * (lead.plain / lead.worth if lead.worth > 0 else 1.0)
    return np.maximum(whole, votes + 1), np.maximum(at_best, votes + 1), ~(left > 0)
