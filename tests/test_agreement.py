"""Agreement of raters: published worked examples, independent implementations, and what cannot be computed."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import krippendorff
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import cohen_kappa_score

from llmops_kit.errors import InvalidValue, UnknownName
from llmops_kit.feedback.agreement import agree, agree_votes
from llmops_kit.feedback.coefficients import alphas, cohen, fleiss
from llmops_kit.feedback.disagreements import disagree, disagree_votes
from llmops_kit.feedback.judgements import arrange, collect
from llmops_kit.feedback.rater_bias import holm
from llmops_kit.types import Feedback, Message, Run, Vote

START = datetime(2025, 4, 1, tzinfo=UTC)
# K. Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011, part C: four observers, twelve units.
KRIPPENDORFF = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
    [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
]
# The example of Wikipedia's article on Fleiss' kappa: how many of 14 raters put each of ten subjects in each of five categories.
FLEISS = [
    *([0, 0, 0, 0, 14], [0, 2, 6, 4, 2], [0, 0, 3, 5, 6], [0, 3, 9, 2, 0], [2, 2, 8, 1, 1]),
    *([7, 7, 0, 0, 0], [3, 2, 6, 3, 0], [2, 5, 3, 2, 2], [6, 5, 2, 1, 0], [0, 2, 2, 3, 7]),
]


def rate(matrix: Sequence[Sequence[Any]], criterion: str = "score") -> list[Feedback]:
    """The events of raters (rows) who rated units (columns) one after the other; None is missing."""
    cells = [(rater, unit, value) for rater, row in enumerate(matrix) for unit, value in enumerate(row) if value is not None]
    return [
        Feedback(f"{number:06}", START + timedelta(seconds=number), f"run{unit}", f"rater{rater}", {criterion: value})
        for number, (rater, unit, value) in enumerate(cells)
    ]


def simulate(raters: int, units: int, *, missing: float = 0.0, seed: int = 1) -> list[list[int | None]]:
    """Marks from 1 to 5 around a truth per unit."""
    random = np.random.default_rng(seed)
    truth = random.integers(1, 6, units)
    marks = np.clip(truth + random.integers(-1, 2, (raters, units)), 1, 5)
    return [[None if random.random() < missing else int(mark) for mark in row] for row in marks]


def alpha_by_coincidences(matrix: Sequence[Sequence[Any]], level: str) -> float:
    """α from the coincidence matrix, pair by pair, as the paper writes it down."""
    values = sorted({value for row in matrix for value in row if value is not None})
    coincidences = np.zeros((len(values), len(values)))
    for column in zip(*matrix, strict=True):
        unit = [values.index(value) for value in column if value is not None]
        for place, one in enumerate(unit):
            for other in unit[:place] + unit[place + 1 :]:
                coincidences[one, other] += 1 / (len(unit) - 1)
    held = coincidences.sum(0)

    def distance(one: int, other: int) -> float:
        if level == "nominal":
            return float(one != other)
        if level == "interval":
            return float((values[one] - values[other]) ** 2)
        low, high = sorted((one, other))
        return float((held[low : high + 1].sum() - (held[low] + held[high]) / 2) ** 2)

    both = [(one, other) for one in range(len(values)) for other in range(len(values))]
    observed = sum(coincidences[pair] * distance(*pair) for pair in both)
    expected = sum(held[one] * held[other] * distance(one, other) for one, other in both)
    return float(1 - (held.sum() - 1) * observed / expected)


@pytest.mark.parametrize(("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_the_worked_example(level: str, published: float) -> None:
    found = agree(rate(KRIPPENDORFF), level=level)
    assert found.alpha is not None and round(found.alpha.value, 3) == published
    assert (found.alpha.n, found.n_units, found.n_raters, found.values) == (11, 11, 4, 40)
    assert found.alpha.low < published < found.alpha.high
    assert f"{found.alpha.value:.2f}" in found.verdict["en"] and f"{found.alpha.value:.2f}" in found.verdict["ja"]


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
@pytest.mark.parametrize(("raters", "missing"), [(2, 0.0), (5, 0.4), (12, 0.7)])
def test_alpha_equals_an_independent_implementation(level: str, raters: int, missing: float) -> None:
    matrix = simulate(raters, 25, missing=missing, seed=raters)
    found = agree(rate(matrix), level=level).alpha
    assert found is not None and found.value == pytest.approx(alpha_by_coincidences(matrix, level), abs=1e-12)


@pytest.mark.parametrize("level", ["nominal", "ordinal", "interval"])
def test_the_resamples_equal_the_package(level: Any) -> None:
    data = arrange(collect(rate(simulate(6, 30, missing=0.3)), "score"), "score", level)
    counts = data.counts()
    units = counts[counts.sum(1) >= 2]
    weights = np.random.default_rng(3).multinomial(len(units), np.full(len(units), 1 / len(units)), 40)
    assert data.numbers is not None
    ours = alphas(units, weights.astype(float), level, data.numbers)
    for weight, value in zip(weights, ours, strict=True):
        drawn = np.repeat(units, weight, axis=0).astype(int)
        assert value == pytest.approx(krippendorff.alpha(value_counts=drawn, value_domain=data.numbers, level_of_measurement=level), abs=1e-12)


def test_the_interval_holds_the_true_alpha_nine_times_in_ten() -> None:
    def draw(units: int, seed: int) -> list[list[Any]]:
        random = np.random.default_rng(seed)
        return list((random.normal(0, 1, units) + random.normal(0, 0.6, (4, units))).round(1).tolist())

    true = 1 / (1 + 0.6**2)     # for interval data α is the share of the variance that lies between units
    held = 0
    for seed in range(100):
        found = agree(rate(draw(40, seed)), level="interval").alpha
        assert found is not None
        held += found.low <= true <= found.high
    assert held >= 87, held     # the percentile bootstrap is a little narrow for few units


def test_a_hundred_units_by_forty_raters_take_less_than_a_second() -> None:
    events = rate(simulate(40, 100))
    agree(events)
    began = time.process_time()
    found = agree(events)
    assert time.process_time() - began < 1
    assert found.alpha is not None and 0.6 < found.alpha.low < found.alpha.value < found.alpha.high < 0.85
    assert agree(events).alpha == found.alpha, "a fixed seed"


def test_fleiss_kappa_of_the_worked_example() -> None:
    assert fleiss(np.array(FLEISS, float)) == pytest.approx(0.210, abs=5e-4)
    columns = [np.repeat(np.arange(5), row) for row in FLEISS]
    found = agree(rate(np.array(columns).T.tolist(), "category"), level="nominal")
    assert found.fleiss == pytest.approx(0.210, abs=5e-4)
    assert found.percent is not None and found.percent.value == pytest.approx(0.378, abs=5e-4)


def test_cohens_kappa_of_the_worked_example() -> None:
    one = [True] * 25 + [False] * 25
    other = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    found = agree(rate([one, other], "usable"))
    assert found.level == "nominal" and found.cohen == pytest.approx(0.4) and found.percent is not None and found.percent.value == 0.7


def test_cohens_kappa_of_many_raters_is_the_mean_over_pairs() -> None:
    matrix = simulate(5, 40, missing=0.3)
    total = weight = 0.0
    for one in range(5):
        for other in range(one):
            both = [(a, b) for a, b in zip(matrix[one], matrix[other], strict=True) if a is not None and b is not None]
            total += len(both) * cohen_kappa_score(*zip(*both, strict=True))
            weight += len(both)
    assert cohen(arrange(collect(rate(matrix), "score"), "score")) == pytest.approx(total / weight, abs=1e-6)


@pytest.mark.parametrize(
    ("matrix", "english"),
    [
        ([], "no ratings yet"),
        ([[1, 2, 3]], "Only one person"),
        ([[1, None], [None, 2]], "No two people"),
        ([[4, 4, 4], [4, 4, 4]], "Everybody always gave the same value"),
        ([[1, None], [2, 3]], "Only one answer"),
    ],
)
def test_what_cannot_be_computed_is_said(matrix: list[list[Any]], english: str) -> None:
    found = agree(rate(matrix))
    assert found.alpha is None and english in found.verdict["en"] and found.verdict["ja"]
    assert "nan" not in found.verdict["en"] + found._repr_html_().lower()


def test_agreement_on_everything_is_not_certainty() -> None:
    three = agree(rate([[1, 3, 5], [1, 3, 5]])).alpha
    fifty = agree(rate([[1, 3, 5, 2, 4] * 10] * 3)).alpha
    assert three is not None and fifty is not None and three.value == fifty.value == 1
    assert three.low < 0.5 < 0.9 < fifty.low


def test_the_reading_follows_the_bounds_and_the_interval() -> None:
    sure = agree(rate([[1, 3, 5, 2, 4] * 20] * 3))
    assert "reliable" in sure.verdict["en"] and "not established" not in sure.verdict["en"]
    few = agree(rate(KRIPPENDORFF))
    assert "reliable" in few.verdict["en"] and "not established" in few.verdict["en"] and "まだ確かではありません" in few.verdict["ja"]
    random = np.random.default_rng(5).integers(1, 6, (3, 60)).tolist()
    assert "not established to be better than chance" in agree(rate(random)).verdict["en"]


def test_levels_are_guessed_from_the_values_and_can_be_given() -> None:
    assert agree(rate([[1, -1], [1, 1]], "thumb")).level == "nominal"
    assert agree(rate([["良い", "悪い"], ["良い", "良い"]], "tone")).level == "nominal"
    assert agree(rate([[1, 4], [2, 5]])).level == "ordinal"
    assert agree(rate([[1.5, 40], [2, 55]], "words")).level == "interval"
    words = agree(rate([["low", "mid", "high"], ["low", "high", "high"]], "quality"), order=["low", "mid", "high"])
    numbers = agree(rate([[1, 2, 3], [1, 3, 3]]))
    assert words.level == "ordinal" and words.alpha == numbers.alpha and words.raters["bias"].notna().all()
    with pytest.raises(InvalidValue, match="ratio"):
        agree(rate([[1, 2], [2, 2]]), level="ratio")
    with pytest.raises(InvalidValue, match="nominal"):
        agree(rate([["a", "b"], ["b", "b"]], "tone"), level="interval")
    with pytest.raises(InvalidValue, match="huge"):
        agree(rate([["low", "huge"], ["low", "low"]], "quality"), order=["low", "high"])


def test_criteria_are_chosen_and_free_text_is_not_measured() -> None:
    events = rate([[1, 2, 3], [1, 2, 2]], "accuracy") + [replace(each, id=f"b{each.id}") for each in rate([[5, 4], [5, 5]], "fluency")]
    assert agree(events).criterion == "accuracy" and agree(events, criterion="fluency").values == 4
    with pytest.raises(UnknownName, match="accuracy, fluency"):
        agree(events, criterion="speed")
    prose = rate([[f"ここは{unit}番目の理由で少し分かりにくいと思いました" for unit in range(10)]] * 2, "why")
    assert agree(prose[:10] + events).criterion == "accuracy"
    assert "free texts" in agree(prose[:10], criterion="why").verdict["en"]
    options = ["事実と異なる内容が含まれており、そのまま使うと読み手が誤解するおそれがあるため、必ず直してから使う必要がある", "そのままで良い"]
    assert agree(rate([options * 3, options * 3], "category")).cohen == 1, "a long option is not prose"


def test_the_newest_value_counts_and_skips_and_withdrawals_do_not() -> None:
    events = rate([[1, 2, 3, 4], [1, 2, 3, 4]])
    changed = replace(events[0], id="new", created_at=START + timedelta(days=1), scores={"score": 5})
    skipped = replace(events[1], id="skip", rater="third", skipped="unclear")
    found = agree([changed, skipped, replace(events[2], id="gone", rater="fourth", withdrawn=True), *events])
    assert found.n_raters == 2 and found.percent is not None and found.percent.value == 0.75
    assert agree(events, items=["run0", "run1"]).values == 4


def test_a_ranking_agrees_by_places() -> None:
    orders = [["a", "b", "c"], ["a", "b", "c"], ["b", "a", "c"]]
    events = [Feedback(str(place), START, order[0], f"r{place}", {"ranking": order}, item_id="item") for place, order in enumerate(orders)]
    found = agree(events)
    places = [[order.index(run) + 1 for run in "abc"] for order in orders]
    assert found.level == "ordinal" and found.alpha is not None
    assert found.alpha.value == pytest.approx(alpha_by_coincidences(places, "ordinal"))


def vote(rater: str, choice: str, *, turned: bool = False, pair: int = 0, comment: str = "") -> Vote:
    sides = [(f"run{pair}a", "model-a"), (f"run{pair}b", "model-b")]
    (left, one), (right, other) = sides[::-1] if turned else sides
    id = f"{rater}{pair}"
    return Vote(id, START, rater, f"item{pair}", left, right, one, other, choice, comment=comment)  # type: ignore[arg-type]


def test_votes_agree_whichever_side_was_left() -> None:
    votes = [vote("x", "A", pair=0), vote("y", "B", turned=True, pair=0), vote("x", "B", pair=1), vote("y", "A", turned=True, pair=1)]
    found = agree_votes(votes)
    assert found.alpha is not None and found.alpha.value == 1 and found.level == "nominal" and found.cohen == 1
    apart = [*votes, vote("z", "tie", pair=0), vote("z", "both_bad", pair=1, comment="どちらも誤り")]
    values = [["first", "second"], ["first", "second"], ["tie", "both_bad"]]
    lower = agree_votes(apart).alpha
    assert lower is not None and lower.value == pytest.approx(alpha_by_coincidences(values, "nominal"))
    board = disagree_votes(apart, [])
    assert board["comments"].tolist() in ([[], ["どちらも誤り"]], [["どちらも誤り"], []])
    assert set(board["values"]) == {'{"first": 2, "tie": 1}', '{"both_bad": 1, "second": 2}'}


def test_a_harsh_rater_and_one_who_drifts_stand_out() -> None:
    random = np.random.default_rng(2)
    marks = random.integers(3, 8, 60) + random.integers(-1, 2, (6, 60))
    marks[1] -= 2
    marks[2] += np.linspace(-1.5, 1.5, 60).round().astype(int)
    found = agree(rate(marks.tolist()), level="ordinal")
    table = found.raters.set_index("rater")
    harsh = table.loc["rater1"]
    others = np.delete(marks, [1, 2], 0).mean(0)
    assert harsh["bias"] == pytest.approx((marks[1] - others).mean()) and harsh["bias_high"] < 0 and harsh["n_shared"] == 60
    assert table.index[table["biased"]].tolist() == ["rater1"], "the others do not look kind beside one who is harsh"
    assert table.index[table["drifting"]].tolist() == ["rater2"]
    assert table.loc["rater2", "drift"] == pytest.approx(stats.linregress(np.arange(60), marks[2] - others).slope * 59)
    assert "1 of 6 rate higher or lower" in found.verdict["en"] and "1 of 6 changed their standard" in found.verdict["en"]
    assert "6人のうち1人は" in found.verdict["ja"]


def test_the_bias_is_the_mean_difference_to_the_others() -> None:
    matrix = np.array(simulate(5, 12, seed=4), float)
    table = agree(rate(matrix.tolist()), level="interval").raters
    for rater in range(5):
        differences = matrix[rater] - np.delete(matrix, rater, 0).mean(0)
        low, high = stats.ttest_1samp(differences, 0).confidence_interval()
        row = table.iloc[rater]
        assert (row["bias"], row["bias_low"], row["bias_high"]) == pytest.approx((differences.mean(), low, high))


def test_of_two_raters_who_differ_both_are_named() -> None:
    marks = np.random.default_rng(1).integers(1, 4, 40)
    table = agree(rate([marks.tolist(), (marks + 2).tolist()])).raters
    assert table["biased"].all() and table["bias"].tolist() == [-2, 2]


def test_raters_who_are_alike_are_seldom_flagged() -> None:
    flagged = 0
    for seed in range(60):
        table = agree(rate(np.random.default_rng(seed).integers(1, 6, (10, 20)).tolist())).raters
        flagged += bool(table["biased"].any() or table["drifting"].any())
    assert flagged <= 10, flagged     # two families at 5 % each


def test_three_ratings_prove_no_bias() -> None:
    table = agree(rate([[1, 2, 1], [4, 5, 4], [4, 5, 4]])).raters
    assert not table["biased"].any() and table["drift"].isna().all()


def test_holm_equals_the_definition() -> None:
    assert holm(np.array([0.01, 0.04, 0.03, np.nan, 0.005])).tolist()[:3] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(holm(np.array([np.nan, 0.5]))[0])


def answers(n: int) -> list[Run]:
    asked = (Message("system", "丁寧に答える"), Message("user", "有給は何日？"))
    return [Run(f"run{unit}", START, "somebody", "playground", "starter-lm", asked, "sha", output=f"{unit}日です🎉") for unit in range(n)]


def test_the_board_shows_what_divides_most_people_first() -> None:
    matrix = [[1, 1, 3, 2], [5, 5, 3, 3], [1, None, 3, 2], [5, None, 3, 3]]
    events = [replace(each, comment="半日が抜けている") if each.run_id == "run0" and each.rater == "rater1" else each for each in rate(matrix)]
    board = disagree(events, answers(4))
    assert board["run_id"].tolist() == ["run0", "run1", "run3"], "run2 is agreed on; two against two stand above one against one"
    first = board.iloc[0]
    assert (first["values"], first["raters"], first["disagreement"], first["mean"]) == ('{"1": 2, "5": 2}', 4, 1.0, 3.0)
    assert (first["prompt"], first["answer"], first["comments"]) == ("有給は何日？", "0日です🎉", ["半日が抜けている"])
    assert "somebody" not in board.to_json() and "rater1" not in board.to_json()
    assert disagree(events, answers(4), n=1)["run_id"].tolist() == ["run0"] and disagree([], []).empty


def test_a_board_of_words_goes_by_entropy() -> None:
    board = disagree(rate([["a", "a"], ["a", "b"], ["b", "c"]], "tone"), answers(2))
    assert board["run_id"].tolist() == ["run1", "run0"]
    assert board["disagreement"].tolist() == pytest.approx([1.0, stats.entropy([2, 1], base=3)])


def test_a_board_of_a_thousand_events_takes_less_than_a_tenth_of_a_second() -> None:
    events, runs = rate(simulate(20, 50)), answers(50)
    disagree(events, runs)
    began = time.process_time()
    board = disagree(events, runs)
    assert time.process_time() - began < 0.1 and len(board) == 20


def test_an_agreement_shows_itself_without_markup_of_raters() -> None:
    events = [replace(each, rater=f"<b>{each.rater}") for each in rate(KRIPPENDORFF)]
    shown = agree(events)._repr_html_()
    assert "<b>rater" not in shown and "Krippendorff α" in shown and "0.815" in shown
