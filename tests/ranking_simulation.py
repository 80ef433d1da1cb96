"""How often the ranking names a false winner and how good its forecasts are, by simulated voting. Not a test: minutes long.

    python -m tests.ranking_simulation several            # of: several, forecast, raters
    python -m tests.ranking_simulation forecast 200       # with so many streams

Votes are drawn question by question in turn, by raters drawn at random, with normal effects (log-odds) of questions and raters on top of
the variants' strengths: the answers to a question are the same for all raters, so that votes on it go together. Every figure comes
from the code that `rank` uses. (False winners among two variants are simulated in `test_ranking`, with many streams at once.)
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from llmops_kit.comparison.ballots import Ballots, to_rows
from llmops_kit.comparison.bradley_terry import fit
from llmops_kit.comparison.evidence import Lead, measure_lead
from llmops_kit.comparison.forecast import Forecast, forecast_leads
from llmops_kit.comparison.raters import find_outliers

Study = tuple[int | None, list[tuple[int, Forecast]]]
"""At how many votes the best was established (None: never in sight), and what was forecast at which number of votes before."""


def draw_ballots(
    seed: int,
    votes: int,
    strengths: tuple[float, ...] = (0.0, 0.0),
    *,
    items: int = 20,
    raters: int = 40,
    item_sd: float = 0.0,
    rater_sd: float = 0.0,
    ties: float = 0.2,
) -> Ballots:
    """Votes on variants with these strengths (log-odds); the sd are of each variant's effect on a question or rater, times √2 for a pair."""
    random = np.random.default_rng(seed)
    size = len(strengths)
    item = np.concatenate([random.permutation(items) for _ in range(-(-votes // items))])[:votes]
    rater = random.integers(0, raters, votes)
    left = random.integers(0, size, votes)
    right = (left + random.integers(1, size, votes)) % size
    liked = np.array(strengths) + random.normal(0, item_sd / np.sqrt(2), (items, size))[item] + random.normal(0, rater_sd / np.sqrt(2), (raters, size))[rater]
    lead = np.take_along_axis(liked, left[:, None], 1)[:, 0] - np.take_along_axis(liked, right[:, None], 1)[:, 0]
    sign = np.where(random.random(votes) < 1 / (1 + np.exp(-lead)), 1, -1)
    sign[random.random(votes) < ties] = 0
    names = tuple(f"v{at}" for at in range(size))
    return Ballots(names, tuple(f"r{at:03d}" for at in range(raters)), left, right, sign, np.zeros(votes, bool), rater, item, np.ones(votes))


def leads_at(ballots: Ballots, votes: int) -> list[Lead]:
    """The leads of the best variant after so many votes, by the code that `rank` uses."""
    seen = ballots.only(np.arange(len(ballots)) < votes)
    rows = to_rows(seen)
    found = fit(rows.design, rows.sum(seen.weight))
    best = int(np.argmax(found.strengths))
    return [measure_lead(found, seen, rows, best, other) for other in range(len(ballots.names)) if other != best]


def is_established(leads: list[Lead]) -> bool:
    return all(lead.is_established() for lead in leads)


def false_winner_rate(streams: int, votes: int, strengths: tuple[float, ...], *, every: int = 1, start: int = 8, **population: float) -> float:
    """The share of streams in which a winner is named at some look, where nobody is best."""
    named = 0
    for seed in range(streams):
        ballots = draw_ballots(seed, votes, strengths, **population)  # type: ignore[arg-type]
        named += any(is_established(leads_at(ballots, seen)) for seen in range(start, votes + 1, every))
    return named / streams


def forecasts_of(seed: int, strengths: tuple[float, ...], *, most: int = 2500, **population: float) -> Study:
    """When the first look at which the best is established comes (votes; None: not within `most`), and the forecasts at looks before it."""
    ballots = draw_ballots(seed, most, strengths, **population)  # type: ignore[arg-type]
    told: list[tuple[int, Forecast]] = []
    seen, asked = 6, 0.0
    while seen <= most:
        leads = leads_at(ballots, seen)
        if is_established(leads):
            return seen, told
        if seen >= asked:
            told.append((seen, forecast_leads([lead for lead in leads if not lead.is_established()], seen, len(strengths))))
            asked = seen * 1.07
        seen += max(1, seen // 30)
    return None, told


def forecast_figures(studies: Iterator[Study]) -> dict[str, float]:
    """Over studies: how often a number is shown, when first, and how good it is."""
    named = ("settled", "shown", "first_at", "first_ok", "moment_ok", "in_range", "left_first_ok", "left_ok", "at_least_ok", "gave_up")
    figures: dict[str, list[float]] = {name: [] for name in named}
    for total, told in studies:
        figures["settled"].append(total is not None)
        whole = total if total is not None else 10**9
        numbers = [(seen, ahead) for seen, ahead in told if ahead.needed is not None]
        if total is not None:
            figures["shown"].append(bool(numbers))
            figures["gave_up"].extend(ahead.exhausted for _, ahead in told)
        ok = [within((seen + (ahead.needed or 0)) / whole) for seen, ahead in numbers]
        left = [within((ahead.needed or 0) / (whole - seen)) for seen, ahead in numbers]
        figures["moment_ok"] += ok
        figures["left_ok"] += left
        figures["in_range"] += [(ahead.low or 0) <= whole - seen <= (ahead.high or 0) for seen, ahead in numbers]
        figures["at_least_ok"] += [whole - seen >= ahead.at_least for seen, ahead in told if ahead.needed is None and ahead.at_least is not None]
        if numbers:
            figures["first_ok"].append(ok[0])
            figures["left_first_ok"].append(left[0])
            figures["first_at"].append(numbers[0][0] / whole)
    return {name: round(float(np.median(values) if name == "first_at" else np.mean(values)), 3) if values else float("nan") for name, values in figures.items()}


def within(ratio: float, factor: float = 1.5) -> bool:
    return 1 / factor <= ratio <= factor


POPULATIONS: dict[str, dict[str, float]] = {
    "all alike": {},
    "50 questions, 40 raters, moderate effects": {"items": 50, "item_sd": 0.7, "rater_sd": 0.3},
    "20 questions, 40 raters, moderate effects": {"items": 20, "item_sd": 0.7, "rater_sd": 0.3},
}


def show_several(streams: int) -> None:
    """False winners of several variants, looked at after every second vote up to 300."""
    for strengths in ((0.0, 0.0, 0.0, 0.0), (0.0, 0.0, -1.0, -1.0)):
        for name, population in POPULATIONS.items():
            rate = false_winner_rate(streams, 300, strengths, every=2, **population)
            print(f"false winners, strengths {strengths}, {name}: {rate:.3f} of {streams}", flush=True)


def show_forecasts(streams: int) -> None:
    """Forecasts where the best wins 55 to 85 % of decided votes against the next."""
    for rest in ((0.0,), (0.0, -0.3, -0.6)):
        for name, population in POPULATIONS.items():
            shares = np.random.default_rng(3).uniform(0.55, 0.85, streams)
            studies = (forecasts_of(seed, (float(np.log(share / (1 - share))), *rest), **population) for seed, share in enumerate(shares))
            print(f"forecasts, {1 + len(rest)} variants, {name}: {forecast_figures(studies)}", flush=True)


def show_raters(streams: int) -> None:
    """Honest raters flagged, and contrary ones found (two of forty)."""
    for strengths in ((0.4, 0.0), (0.6, 0.2, -0.2, -0.6)):
        for item_sd, rater_sd in ((0.0, 0.0), (0.7, 0.2), (0.7, 0.5), (1.5, 0.3)):
            honest, found = 0, 0
            for seed in range(streams):
                ballots = draw_ballots(seed, 800, strengths, item_sd=item_sd, rater_sd=rater_sd)
                honest += len(find_outliers(ballots))
                contrary = replace(ballots, sign=np.where(ballots.rater < 2, -ballots.sign, ballots.sign))
                found += len({"r000", "r001"} & set(find_outliers(contrary)))
            shown = f"{honest / streams / 40:.3f} honest raters flagged, {found / streams / 2:.2f} contrary ones found"
            print(f"raters, {len(strengths)} variants, sd {item_sd} {rater_sd}: {shown}", flush=True)


if __name__ == "__main__":
    {"several": show_several, "forecast": show_forecasts, "raters": show_raters}[sys.argv[1]](int(sys.argv[2]) if len(sys.argv) > 2 else 100)
