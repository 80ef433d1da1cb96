"""The ranking of variants by votes: strengths, intervals, the verdict and what it promises."""

from __future__ import annotations

import math
import os
import time
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import comb
from sklearn.linear_model import LogisticRegression

from llmops_kit.comparison.ballots import Ballots, read_ballots, to_rows
from llmops_kit.comparison.bradley_terry import Design, fit, fit_many
from llmops_kit.comparison.evidence import log_evidence, measure_lead, share_interval
from llmops_kit.comparison.forecast import forecast_items, forecast_leads, plan_votes
from llmops_kit.comparison.ranking import Ranking, rank, rank_by_tag
from llmops_kit.comparison.raters import find_outliers
from llmops_kit.comparison.resampling import resample_intervals
from llmops_kit.comparison.style import describe_style
from llmops_kit.comparison.verdict import verdict_scores
from llmops_kit.errors import InvalidValue
from tests.ranking_data import (
    CITATIONS,
    HOME_ADVANTAGE,
    HOME_WINS,
    JOURNAL_STRENGTHS,
    JOURNALS,
    TEAM_SHARES,
    TEAM_STRENGTHS,
    TEAMS,
    draw_streams,
    evidence_path,
    make_votes,
    team_votes,
)
from tests.ranking_simulation import Study, draw_ballots, false_winner_rate, forecast_figures, leads_at, within

STREAMS = int(os.environ.get("LLMOPS_KIT_RANKING_STREAMS", "20"))     # of the slower simulations; the figures in the documentation took more


def design_of(wins: list[list[int]]) -> tuple[Design, np.ndarray]:
    """A design in which row teams beat column teams so often."""
    size = len(wins)
    pairs = [(one, other) for one in range(size) for other in range(size) if wins[one][other]]
    features = np.zeros((len(pairs), size))
    for at, (one, other) in enumerate(pairs):
        features[at, one], features[at, other] = 1.0, -1.0
    return Design(features, np.ones(len(pairs), np.int64), size), np.array([wins[one][other] for one, other in pairs], float)


def strengths_of(ranking: Ranking) -> dict[str, float]:
    return dict(zip(ranking.table["variant"], (ranking.table["strength"] - 1000) * math.log(10) / 400, strict=True))


# --- strengths ---------------------------------------------------------------------------------------------------------------


def test_the_baseball_season_of_1987_comes_out_as_published() -> None:
    found = strengths_of(rank(team_votes()))
    assert [round(found[team] - found["Baltimore"], 2) for team in TEAMS] == list(TEAM_STRENGTHS)


def test_playing_at_home_counts_as_published() -> None:
    ranking = rank(team_votes(), order_effect=True)
    assert ranking.style is not None
    assert ranking.style["covariate"].tolist() == ["left"]
    assert round(ranking.style["coefficient"][0], 3) == HOME_ADVANTAGE
    strengths = np.exp([strengths_of(ranking)[team] for team in TEAMS])
    assert np.allclose(strengths / strengths.sum(), TEAM_SHARES, atol=5.1e-4)
    assert ranking.position_bias.share.n == 273
    assert ranking.position_bias.share.value == pytest.approx(sum(map(sum, HOME_WINS)) / 273)


def test_citations_between_journals_come_out_as_published() -> None:
    found = fit(*design_of(CITATIONS)).strengths
    assert np.allclose(found - found[JOURNALS.index("Biometrika")], JOURNAL_STRENGTHS, atol=6e-5)


def test_without_ties_it_is_logistic_regression() -> None:
    random = np.random.default_rng(1)
    design, weights = design_of(random.integers(1, 12, (6, 6)).tolist())
    both = np.vstack([design.features, -design.features])
    other = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
    other.fit(both, np.repeat([1, 0], len(weights)), sample_weight=np.tile(weights, 2))
    expected = other.coef_[0] - other.coef_[0].mean()
    assert np.allclose(fit(design, weights).strengths, expected, atol=1e-4)


def test_with_ties_it_is_the_maximum_of_davidsons_likelihood() -> None:
    random = np.random.default_rng(2)
    wins, ties = random.integers(1, 9, (5, 5)), np.triu(random.integers(0, 6, (5, 5)), 1)
    pairs = [(one, other) for one in range(5) for other in range(5) if one != other]

    def minus_likelihood(given: np.ndarray) -> float:
        """Davidson 1970, (2.4), as written there: worth π and ν."""
        worth, nu, total = np.exp(np.append(0, given[:4])), math.exp(given[4]), 0.0
        for one, other in pairs:
            middle = nu * math.sqrt(worth[one] * worth[other])
            whole = worth[one] + worth[other] + middle
            total -= wins[one, other] * math.log(worth[one] / whole) + ties[one, other] * math.log(middle / whole)
        return total

    expected = minimize(minus_likelihood, np.zeros(5), method="BFGS", options={"gtol": 1e-7}).x
    features, sign, weights = [], [], []
    for one, other in pairs:
        row = np.zeros(5)
        row[one], row[other] = 1.0, -1.0
        features += [row, row]
        sign += [1, 0]
        weights += [wins[one, other], ties[one, other]]
    design = Design(np.array(features), np.array(sign), 5)
    found = fit(design, np.array(weights, float))
    assert np.allclose(found.strengths[1:] - found.strengths[0], expected[:4], atol=1e-4)
    assert found.tie == pytest.approx(expected[4], abs=1e-4)
    many = fit_many(design, np.tile(np.array(weights, float), (3, 1)), found)
    assert np.allclose(many, found.parameters, atol=1e-6), "Newton's method and scipy's agree"


@pytest.mark.parametrize("choices", ["A" * 10, "B", "t" * 9, "x" * 5, "A" * 7 + "ttt", "AB", "x", ""])
def test_nothing_is_ever_infinite(choices: str) -> None:
    ranking = rank(make_votes(choices))
    numbers = ranking.table[["strength", "low", "high"]].to_numpy(float)
    assert np.isfinite(numbers).all()
    assert (ranking.table["low"] <= ranking.table["strength"]).all()
    assert (ranking.table["strength"] <= ranking.table["high"]).all()
    assert all(ranking.verdict.values())
    assert ranking._repr_html_()


# --- the table and the checks ------------------------------------------------------------------------------------------------


def test_every_vote_is_counted_where_it_belongs() -> None:
    votes = make_votes("AAABttxxx", left="new", right="old", items=3, raters=2)
    votes += make_votes("w", left="new", right="old", start=50) + make_votes("A", left="new", right="new", start=60)
    ranking = rank(votes[::-1])
    rows = ranking.table.set_index("variant")
    assert rows.loc["new", ["rank", "votes", "wins", "ties", "losses", "both_bad", "win_rate"]].tolist() == [1, 9, 3, 2, 1, 3, 0.75]
    assert rows.loc["old", ["rank", "votes", "wins", "ties", "losses", "both_bad", "win_rate"]].tolist() == [2, 9, 1, 2, 3, 3, 0.25]
    assert ranking.matrix.loc["new", "old"] == 0.75
    assert math.isnan(ranking.matrix.loc["new", "new"])
    assert ranking.counts.loc["old", "new"] == ranking.counts.loc["new", "old"] == 9
    assert ranking.votes == 9
    assert ranking.table.equals(rank(votes).table), "the order of votes does not matter, nor do two calls differ"


def test_two_votes_on_the_other_side_are_the_same_votes() -> None:
    one = rank(make_votes("AAABAAtA", items=4))
    other = rank(make_votes("BBBABBtB", left="b", right="a", items=4))
    assert one.table.equals(other.table)
    assert one.verdict == other.verdict


def test_variants_that_no_vote_links_are_not_compared() -> None:
    votes = [vote for at in range(4) for vote in make_votes("AABAtB", left=f"x{at}", right=f"x{at + 1 if at % 4 < 3 else 0}", start=100 * at)]
    votes += [vote for at in range(3) for vote in make_votes("AABB", left=f"y{at}", right=f"y{at + 1}", start=1000 + 100 * at)]
    ranking = rank(votes)
    assert ranking.table["group"].nunique() == 2
    assert ranking.table.groupby("group")["rank"].min().tolist() == [1, 1]
    assert not ranking.established
    assert ranking.best is None
    assert "x0, x1, x2, x3 | y0, y1, y2, y3" in ranking.verdict["en"]
    assert "投票がない" in ranking.verdict["ja"]
    assert np.isfinite(ranking.table["strength"]).all()
    assert not rank(make_votes("A" * 30), variants=("a", "b", "c")).established, "c has no votes: nobody is best of three"


def test_the_side_is_checked() -> None:
    fair, unfair = rank(make_votes("AB" * 40)).position_bias, rank(make_votes("AAAB" * 20)).position_bias
    assert not fair.found
    assert fair.share.value == 0.5
    assert unfair.found
    assert unfair.share.low > 0.5
    assert "75 % of 80" in unfair.text["en"]
    assert "左が勝ち" in unfair.text["ja"]


def test_a_cap_holds_one_person_down() -> None:
    votes = [replace(vote, rater="eager") for vote in make_votes("A" * 60)] + make_votes("B" * 20 + "A" * 10, start=100, raters=30)
    free, capped = rank(votes), rank(votes, vote_cap=5)
    assert free.best == "a"
    assert capped.best == "b"
    assert any("1 raters gave more than 5 votes" in note["en"] for note in capped.notes)
    assert capped.counts.loc["a", "b"] == 90, "counts stay what was voted"
    ballots = read_ballots(votes).capped(5)
    rows = to_rows(ballots)
    lead = measure_lead(fit(rows.design, rows.sum(ballots.weight)), ballots, rows, 1, 0)
    assert lead.plain == pytest.approx(35**2 / (30 + 60 * (5 / 60) ** 2), rel=1e-3), "votes of less weight make the sum that little surer (Kish)"
    with pytest.raises(InvalidValue):
        rank(votes, vote_cap=0)


def test_somebody_who_votes_the_other_way_is_found_and_can_be_left_out() -> None:
    ballots = draw_ballots(5, 900, (1.2, 0.0, -1.2), raters=20)
    turned = replace(ballots, sign=np.where(ballots.rater == 3, -ballots.sign, ballots.sign))
    assert find_outliers(ballots) == ()
    assert find_outliers(turned) == ("r003",)
    votes = make_votes("AAAAAB" * 40, items=20, raters=12)
    votes = [replace(vote, choice="B") if vote.rater == "rater004" else vote for vote in votes]
    with_all, without = rank(votes), rank(votes, exclude_outliers=True)
    assert with_all.outliers == without.outliers == ("rater004",)
    assert without.votes == with_all.votes - 20
    assert any("20 votes are left out" in note["en"] for note in without.notes)


@pytest.mark.parametrize(("strengths", "item_sd", "rater_sd"), [((0.4, 0.0), 0.0, 0.0), ((0.6, 0.2, -0.2, -0.6), 0.7, 0.2), ((0.3, 0.0), 1.5, 0.3)])
def test_honest_raters_are_seldom_flagged(strengths: tuple[float, ...], item_sd: float, rater_sd: float) -> None:
    flagged = [len(find_outliers(draw_ballots(seed, 800, strengths, item_sd=item_sd, rater_sd=rater_sd))) for seed in range(12)]
    assert sum(flagged) / (12 * 40) <= 0.05


def test_length_is_taken_out_by_style_control() -> None:
    random = np.random.default_rng(4)
    votes = make_votes("".join(random.choice(["A", "B"], 400)), items=400)
    lengths = {run: int(random.integers(50, 2000)) for vote in votes for run in (vote.left_run, vote.right_run)}
    lengths = {run: length * (3 if run.endswith("-a") else 1) for run, length in lengths.items()}
    chance = [1 / (1 + math.exp(-1.5 * (math.log(lengths[vote.left_run]) - math.log(lengths[vote.right_run])))) for vote in votes]
    votes = [replace(vote, choice="A" if random.random() < likely else "B") for vote, likely in zip(votes, chance, strict=True)]
    outputs = {run: "あ" * length for run, length in lengths.items()}
    plain, controlled = rank(votes), rank(votes, outputs=outputs, style_control=True)
    assert plain.established
    assert not controlled.established
    assert controlled.style is not None
    assert controlled.style["covariate"].tolist() == ["length"], "what never differs is left out"
    assert controlled.style["low"][0] > 0
    assert any("a text is missing" in note["en"] for note in rank(votes, outputs={}, style_control=True).notes)
    with pytest.raises(InvalidValue):
        rank(votes, style_control=True)


def test_style_is_counted_outside_code() -> None:
    assert describe_style("") == (0, 0, 0, 0)
    text = "# 見出し\n\n- 一つ\n・二つ\n1. 三つ\n\n**強調**と**強調**\n```\n# 注釈\n- x\n```\n"
    assert [round(math.expm1(value)) for value in describe_style(text)[1:]] == [3, 1, 2]


def test_a_ranking_for_each_tag() -> None:
    votes = make_votes("AAAA", tags=("math", "hard")) + make_votes("BBB", start=10, tags=("math",)) + make_votes("B", start=20)
    found = rank_by_tag(votes)
    assert {tag: ranking.votes for tag, ranking in found.items()} == {"hard": 4, "math": 7}
    assert found["hard"].best == "a"


def test_names_are_escaped_in_notebooks() -> None:
    shown = rank(make_votes("AAB", left="<img src=x>", right="{better}"))._repr_html_()
    assert "<img" not in shown
    assert "&lt;img src=x&gt;" in shown
    assert "{better}" in shown


def test_2000_votes_on_8_variants_take_less_than_two_seconds() -> None:
    ballots = draw_ballots(1, 2000, tuple(np.linspace(-1, 1, 8)), item_sd=0.5)
    choices = np.where(ballots.sign > 0, "A", np.where(ballots.sign < 0, "B", "t"))
    votes = [
        replace(vote, left_variant=f"v{left}", right_variant=f"v{right}", item=f"q{item}", rater=f"r{rater}")
        for vote, left, right, item, rater in zip(make_votes("".join(choices)), ballots.left, ballots.right, ballots.item, ballots.rater, strict=True)
    ]
    rank(votes[:50])
    started = time.process_time()
    assert len(rank(votes).table) == 8
    assert time.process_time() - started < 2


def test_intervals_hold_the_truth_though_votes_hang_together() -> None:
    truth = np.array([0.5, 0.0, -0.5])
    held = []
    for seed in range(20):
        ballots = draw_ballots(seed, 400, tuple(truth), items=25, raters=25, item_sd=0.8, rater_sd=0.3)
        rows = to_rows(ballots)
        low, high = resample_intervals(fit(rows.design, rows.sum(ballots.weight)), ballots, rows, seed)
        # Normal effects of questions and raters flatten the odds over all of them: c = 16 √3 / 15π (Zeger, Liang and Albert 1988).
        flat = truth / math.sqrt(1 + (16 * math.sqrt(3) / (15 * math.pi)) ** 2 * (0.8**2 + 0.3**2))
        held += list((low <= flat) & (flat <= high))
    assert np.mean(held) >= 0.88


# --- the rule ----------------------------------------------------------------------------------------------------------------


def test_evidence_is_a_fair_bet_and_its_limit_holds_exactly() -> None:
    for votes in (1, 7, 40):
        wins = np.arange(votes + 1.0)
        assert (comb(votes, wins) / 2**votes) @ np.exp(log_evidence(wins, float(votes))) == pytest.approx(1)
    # Exactly, vote by vote: how likely a fair coin is ever called unfair within 2,000 tosses.
    alive, called = np.array([1.0]), 0.0
    for votes in range(1, 2001):
        alive = np.convolve(alive, [0.5, 0.5])
        refuted = log_evidence(np.arange(votes + 1.0), float(votes)) >= math.log(20)
        called += alive[refuted].sum()
        alive[refuted] = 0
    assert 0.03 < called <= 0.05


@pytest.mark.parametrize("choices", ["A" * 11, "A" * 12, "A" * 30 + "B" * 10, "AB" * 30, "A" * 70 + "B" * 50 + "t" * 20, "B" * 40 + "A" * 18])
def test_two_variants_are_judged_by_exactly_their_decided_votes(choices: str) -> None:
    ballots = read_ballots(make_votes(choices))
    rows = to_rows(ballots)
    found = fit(rows.design, rows.sum(ballots.weight))
    wins, votes = choices.count("A"), len(choices) - choices.count("t")
    lead = measure_lead(found, ballots, rows, 0, 1)
    assert lead.plain == pytest.approx(votes, rel=1e-6)
    assert lead.share == pytest.approx(wins / votes, abs=0.01 if wins == votes else 1e-6)
    alone = replace(lead, worth=lead.plain)
    low, high = alone.interval()
    assert alone.is_established() == (not low <= 0.5 <= high)
    assert share_interval(wins, votes)[0] == pytest.approx(low, abs=0.01)


POPULATIONS = [
    (20, 40, 0.0, 0.0, 0.2),
    (50, 40, 0.5, 0.3, 0.5),
    (20, 40, 1.0, 0.5, 0.2),
    (20, 8, 1.5, 1.0, 0.2),
    (8, 40, 1.0, 0.5, 0.0),
    (8, 8, 1.0, 0.5, 0.2),
    (100, 40, 1.0, 0.3, 0.3),
]


@pytest.mark.parametrize("population", POPULATIONS)
def test_of_equal_variants_hardly_one_is_called_better_however_often_one_looks(population: tuple[float, ...]) -> None:
    items, raters, item_sd, rater_sd, ties = population
    sign, item, rater = draw_streams(1000, 300, items=int(items), raters=int(raters), item_sd=item_sd, rater_sd=rater_sd, ties=ties, seed=11)
    evidence, naive = evidence_path(sign, item, rater, int(items), int(raters))
    assert (evidence >= math.log(20)).any(1).mean() <= 0.05
    if item_sd >= 1 and items <= 20:
        assert (naive >= math.log(20)).any(1).mean() > 0.1, "counting votes on the same question as if they were unrelated names false winners"


def ballots_of(sign: np.ndarray, item: np.ndarray, rater: np.ndarray) -> Ballots:
    """One simulated stream, the first variant always on the left."""
    votes = len(sign)
    names = tuple(f"r{at:03d}" for at in range(int(rater.max()) + 1))
    return Ballots(("a", "b"), names, np.zeros(votes, int), np.ones(votes, int), sign, np.zeros(votes, bool), rater, item, np.ones(votes))


def test_the_simulated_rule_is_the_rule() -> None:
    sign, item, rater = draw_streams(8, 150, items=12, raters=15, item_sd=1.0, rater_sd=0.5, ties=0.2)
    expected, _ = evidence_path(sign, item, rater, 12, 15)
    for stream in range(8):
        for votes in (25, 80, 150):
            (lead,) = leads_at(ballots_of(sign[stream], item[stream], rater[stream]), votes)
            assert lead.log_evidence == pytest.approx(expected[stream, votes - 1], abs=1e-4)


def test_of_four_equal_variants_hardly_one_is_called_best() -> None:
    assert false_winner_rate(STREAMS, 300, (0.0, 0.0, 0.0, 0.0), every=30, item_sd=0.7, rater_sd=0.3) <= 0.05
    assert false_winner_rate(STREAMS, 300, (0.0, 0.0, -1.5, -1.5), every=80, start=60, item_sd=0.7, rater_sd=0.3) <= 0.05


# --- how many more -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("items", "item_sd", "rater_sd"), [(400, 0.0, 0.0), (50, 0.7, 0.3)])
def test_a_number_is_within_half_as_much_again_in_four_of_five_cases(items: int, item_sd: float, rater_sd: float) -> None:
    shares = np.random.default_rng(3).uniform(0.55, 0.85, STREAMS)
    drawn = draw_streams(STREAMS, 2000, items=items, raters=40, item_sd=item_sd, rater_sd=rater_sd, ties=0.2, ahead=np.log(shares / (1 - shares)), seed=5)
    there = evidence_path(*drawn, items, 40)[0] >= math.log(20)
    studies: list[Study] = []
    for stream in range(STREAMS):
        ballots = ballots_of(*(part[stream] for part in drawn))
        total = int(there[stream].argmax()) + 1 if there[stream].any() else None
        looks = sorted({int(look) for look in np.linspace(0.1, 0.98, 12) * (total or 2000)} - set(range(6)))
        studies.append((total, [(look, forecast_leads(leads_at(ballots, look), look)) for look in looks]))
    figures = forecast_figures(iter(studies))
    assert figures["shown"] >= 0.7
    assert figures["first_ok"] >= 0.8
    assert figures["moment_ok"] >= 0.8
    assert figures["in_range"] >= 0.8
    assert figures["at_least_ok"] >= 0.75


@pytest.mark.parametrize("share", [0.58, 0.65, 0.75])
def test_planning_from_a_known_share_meets_what_happens(share: float) -> None:
    random = np.random.default_rng(7)
    won = np.cumsum(random.random((600, 3000)) < share, axis=1)
    decided = np.arange(1.0, 3001)
    there = log_evidence(won.astype(float), decided[None]) >= math.log(20)
    happened = np.median(np.where(there.any(1), there.argmax(1) + 1, 10**6))
    assert within(plan_votes(share, decided=1.0) / happened, 1.15)
    assert within(plan_votes(share, decided=0.5) / (2 * happened), 1.15)


def test_forecast_says_only_what_it_can() -> None:
    def ahead(choices: str, **spread: int) -> Ranking:
        return rank(make_votes(choices, **spread))

    early = ahead("AABA")
    assert early.votes_needed is None
    assert early.votes_at_least is not None
    assert "at least" in early.verdict["en"]
    assert "少なくとも" in early.verdict["ja"]
    soon = ahead("AAB" * 17)
    assert soon.votes_needed is not None
    assert soon.votes_range is not None
    assert soon.votes_range[0] <= soon.votes_needed <= soon.votes_range[1]
    assert f"About {soon.votes_needed} more votes" in soon.verdict["en"]
    assert f"あと約{soon.votes_needed}票" in soon.verdict["ja"]
    done = ahead("AAAB" * 30)
    assert done.established
    assert done.votes_needed is done.votes_at_least is None
    never = rank(make_votes(("A" * 6 + "B" * 4) * 40, items=10, raters=40))
    assert not never.established
    assert "add questions" in never.verdict["en"]
    assert forecast_leads([], 10).needed is None


# --- the sentence ------------------------------------------------------------------------------------------------------------


def test_the_verdict_reads_as_written() -> None:
    clear = rank(make_votes("AAB" * 60, left="starter-lm+polite", right="starter-lm", raters=20))
    share = "an estimated 67 % of decided votes, n = 180, 95 % interval 55–77 %"
    assert clear.verdict["en"] == f"starter-lm+polite is better than starter-lm: established ({share})."
    assert clear.verdict["ja"] == "starter-lm+politeはstarter-lmより良いと言えます（勝敗のついた票の推定67%、n=180、95%区間55〜77%）。"
    assert rank([]).verdict["en"] == "No votes yet: nothing can be said."
    assert rank(make_votes("AB" * 10, raters=20)).best is None
    even = rank(make_votes("AB" * 10, raters=20)).verdict
    assert even["en"].startswith("No difference between a and b is established (50 % of 20 decided votes each")
    assert even["ja"].startswith("aとbに差があるとは言えません")
    none = rank(make_votes("ttx")).verdict
    assert "no vote is decided yet" in none["en"]


def test_few_questions_or_people_are_named_in_the_verdict() -> None:
    few = rank(make_votes("AAAB" * 30, items=3, raters=1)).verdict
    assert "established on these 3 questions, by the votes of 1 person" in few["en"]
    assert few["ja"].startswith("この3問では、この1人の票では、")


def test_several_variants_are_judged_together() -> None:
    votes = make_votes("AAAB" * 40, left="x", right="y", raters=30) + make_votes("AAAB" * 40, left="x", right="z", start=300, raters=30)
    votes += make_votes("AAB" * 20, left="y", right="z", start=600, raters=30)
    best = rank(votes)
    assert best.established
    assert best.best == "x"
    assert best.verdict["en"].startswith("x is the best of 3: established")
    assert best.verdict["ja"].startswith("3つの中でxが最も良いと言えます")
    close = make_votes("AB" * 40 + "A", left="x", right="y", raters=30) + make_votes("AAAB" * 40, left="x", right="z", start=300, raters=30)
    undecided = rank(close + make_votes("AAAAB" * 20, left="y", right="z", start=600, raters=30))
    assert not undecided.established
    assert undecided.verdict["en"].startswith("No best of 3 is established: ")
    assert "Established to be behind" in undecided.verdict["en"]
    assert undecided.verdict["en"].count("z") == 1


# --- scores ------------------------------------------------------------------------------------------------------------------


def equivalent_votes(differences: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The votes won and given that the differences speak like, after each item (streams × items)."""
    moved = np.cumsum(differences != 0, 1).astype(float)
    size = np.sqrt(np.cumsum(differences**2, 1) / np.maximum(moved, 1))
    return moved / 2 + np.divide(np.cumsum(differences, 1), 2 * size, out=np.zeros(size.shape), where=size > 0), moved


def score_evidence(differences: np.ndarray) -> np.ndarray:
    """The logarithm of e after each item (streams × items)."""
    return log_evidence(*equivalent_votes(differences))


@pytest.mark.parametrize("kind", ["right or wrong", "one to five", "f1", "skewed"])
def test_equal_scores_are_hardly_called_different_however_often_one_looks(kind: str) -> None:
    random = np.random.default_rng(9)
    shape = (1500, 300)
    hard = random.beta(1, 1, shape)

    def score() -> np.ndarray:
        if kind == "right or wrong":
            return (random.random(shape) < hard).astype(float)
        if kind == "one to five":
            return np.clip(np.round(random.normal(1 + 4 * hard, 1)), 1, 5)
        return np.where(random.random(shape) < 0.3, 0, random.beta(0.5, 0.5, shape))

    drawn = random.exponential(1, shape) - 1 if kind == "skewed" else score() - score()
    evidence = score_evidence(drawn)
    # Equal variants differ to either side alike; where they do not (here: extremely) the promise is only nearly kept.
    assert (evidence >= math.log(20)).any(1).mean() <= (0.1 if kind == "skewed" else 0.05)
    one = verdict_scores(drawn[0], np.zeros(300))
    assert one.established == bool(evidence[0, -1] >= math.log(20))


def test_scores_are_judged_on_the_same_items() -> None:
    better, worse = [1.0] * 40 + [0.0] * 20, [0.0] * 25 + [1.0] * 15 + [0.0] * 20
    found = verdict_scores(better, worse, names=("new", "old"))
    assert found.established
    assert found.better == "new"
    assert found.text["en"].startswith("new scores higher than old: established (0.67 / 0.25, n=60; difference 0.42, 95 % interval +0.")
    assert found.text["ja"].startswith("newはoldより点数が高いと言えます")
    assert found.difference is not None
    assert found.difference.low > 0
    turned = verdict_scores(worse, better, names=("old", "new"))
    assert turned.text == found.text
    gaps = verdict_scores([1, math.nan, 0.5], [1, 1, math.nan])
    assert gaps.difference is not None
    assert gaps.difference.n == 1
    assert "nothing is scored yet" in verdict_scores([], []).text["en"]
    with pytest.raises(ValueError, match="same items"):
        verdict_scores([1], [1, 2])


def test_a_planned_number_of_items_needs_fewer_but_is_one_look() -> None:
    one, other = [1.0] * 10 + [0.0] * 2 + [1.0] * 30, [0.0] * 10 + [1.0] * 2 + [1.0] * 30
    planned, any_time = verdict_scores(one, other, planned=True), verdict_scores(one, other)
    assert planned.established
    assert not any_time.established
    assert any_time.forecast.at_least is not None
    random = np.random.default_rng(12)
    false = [verdict_scores(random.random(12), random.random(12), planned=True).established for _ in range(60)]
    assert np.mean(false) <= 0.1, "5 % of sixty, give or take"


def test_the_forecast_of_items_is_as_good_as_that_of_votes() -> None:
    random = np.random.default_rng(13)
    first, moments, shown = [], [], []
    for effect in random.uniform(0.15, 0.8, STREAMS):
        differences = np.round(np.clip(random.normal(3 + effect, 1, 1500), 1, 5)) - np.round(np.clip(random.normal(3, 1, 1500), 1, 5))
        wins, worth = equivalent_votes(differences[None])
        there = log_evidence(wins[0], worth[0]) >= math.log(20)
        if not there.any():
            continue
        total = int(there.argmax()) + 1
        looks = sorted({int(look) for look in np.geomspace(6, total, 16) if look < total})
        told = [(look, forecast_items(wins[0, look - 1], worth[0, look - 1], look).needed) for look in looks]
        close = [within((look + needed) / total) for look, needed in told if needed is not None]
        shown.append(bool(close))
        first += close[:1]
        moments += close
    assert np.mean(shown) >= 0.7
    assert np.mean(first) >= 0.8
    assert np.mean(moments) >= 0.8
