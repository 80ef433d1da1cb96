"""Ratings: durable, there once, checked, and the view of what counts."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st

from llmops_kit.errors import AccessDenied, InvalidValue, NotSaved, UnknownName
from llmops_kit.feedback import Ratings
from llmops_kit.feedback.events import effective, newest
from llmops_kit.feedback.rubric_reading import read_rubric
from llmops_kit.feedback.rubrics import MAX_TEXT, PRESETS, Criterion
from llmops_kit.settings import Settings
from llmops_kit.store import Store
from llmops_kit.types import Feedback, OutboxItem, Run, new_id
from tests.rated_runs import make_answer, store_answers

START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def ratings(store: Store) -> Ratings:
    return Ratings(store)


@pytest.fixture
def run(store: Store) -> Run:
    return store_answers(store, 1)[0]


def test_a_rating_keeps_everything_and_goes_to_the_outbox(store: Store, ratings: Ratings, run: Run) -> None:
    rubric = {"accuracy": 5, "fluency": "４", "usefulness": 3, "harmful": False}
    words = {"comment": "とても良い😀\r\n髙﨑①〜", "correction": "10日です。", "tags": "人事、 要確認,人事"}
    event = ratings.rate(run, 4, rater="花子", thumb=True, rubric=rubric, **words, source="ui", duration_s=2.5)
    assert store.get(Feedback, event.id) == event
    assert event.scores == {"thumb": 1, "score": 4, "accuracy": 5, "fluency": 4, "usefulness": 3, "harmful": False}
    assert (event.score, event.comment, event.correction, event.tags) == (4.0, "とても良い😀\r\n髙﨑①〜", "10日です。", ("人事", "要確認"))
    assert (event.rater, event.source, event.rubric, event.rubric_version, event.duration_s) == ("花子", "ui", "quality", 1, 2.5)
    assert [(item.kind, item.record_id) for item in store.unsent()] == [("feedback", event.id)]
    row = ratings.table(run).iloc[0]
    assert (row.run_id, row.rater, row.score, row.comment, row.accuracy) == (run.id, "花子", 4, event.comment, 5)


def test_text_from_a_cp932_file_comes_back_as_it_was(ratings: Ratings, run: Run) -> None:
    text = "①㈱髙～―‖－ｶﾅ".encode("cp932", "replace").decode("cp932")
    assert ratings.rate(run, comment=text).comment == text
    assert ratings.rate(run, comment="a\x00b\ud83d").comment == "a�b�"     # what no database holds
    assert {"a�b�"} <= set(ratings.table(every=True).comment)


def test_a_run_may_be_named_by_its_id_and_must_be_there(store: Store, ratings: Ratings, run: Run) -> None:
    assert ratings.rate(run.id, 1).run_id == run.id
    for unknown in ("nowhere", make_answer()):
        with pytest.raises(UnknownName, match="There is no run"):
            ratings.rate(unknown, 3)
    assert store.count(Feedback) == 1


@pytest.mark.parametrize("score", [1, 5, 3.0, "3", "３", " ４ ", "5.0"])
def test_scores_from_1_to_5_are_read_however_they_are_typed(ratings: Ratings, run: Run, score: Any) -> None:
    assert ratings.rate(run, score).score in (1, 3, 4, 5)


@pytest.mark.parametrize("score", [0, 6, "６", 3.5, "good", True, False, float("nan"), float("inf"), "", [], 10**400])
def test_other_scores_are_refused_with_what_is_allowed(store: Store, ratings: Ratings, run: Run, score: Any) -> None:
    with pytest.raises(InvalidValue) as error:
        ratings.rate(run, score)
    assert "1…5" in error.value.text("en") and "1から5" in error.value.text("ja")
    assert store.count(Feedback) == 0


@pytest.mark.parametrize(("thumb", "kept"), [(True, 1), (False, -1), (1, 1), (-1, -1), ("1", 1), ("－1", -1), ("👍", 1), ("👎", -1), ("up", 1), ("down", -1)])
def test_thumbs(ratings: Ratings, run: Run, thumb: Any, kept: int) -> None:
    assert ratings.rate(run, thumb=thumb).scores == {"thumb": kept}


@pytest.mark.parametrize(
    "given_values",
    [
        {},
        {"comment": " \n"},
        {"tags": " , "},
        {"correction": "  "},
        {"rubric": {}},
        {"thumb": 0},
        {"thumb": 2},
        {"thumb": "maybe"},
        {"comment": "あ" * (MAX_TEXT + 1)},
        {"correction": "x" * 100_001},
        {"score": 3, "tags": [str(number) for number in range(21)]},
        {"score": 3, "tags": ["x" * 101]},
        {"score": 3, "rater": " "},
        {"score": 3, "rater": "x" * 501},
        {"score": 3, "id": ""},
        {"score": 3, "id": "x" * 37},
        {"rubric": {"accuracy": 6}},
        {"rubric": {"harmful": "sometimes"}},
    ],
)
def test_what_is_no_rating_is_refused_and_nothing_is_kept(store: Store, ratings: Ratings, run: Run, given_values: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        ratings.rate(run, **given_values)
    assert store.count(Feedback) == 0 and store.count(OutboxItem) == 0


def test_an_unknown_criterion_is_named_with_the_known_ones(ratings: Ratings, run: Run) -> None:
    with pytest.raises(UnknownName, match=r"speed.*accuracy"):
        ratings.rate(run, rubric={"speed": 3})
    own = [{"name": "speed", "type": "category", "options": ["slow", "fast"]}, {"name": "note", "type": "text", "required": False}]
    event = ratings.rate(run, rubric={"speed": "ＦＡＳＴ"}, using={"name": "mine", "version": 3, "criteria": own})
    assert (event.scores, event.rubric, event.rubric_version) == ({"speed": "fast"}, "mine", 3)
    with pytest.raises(InvalidValue, match="speed"):
        ratings.rate(run, rubric={"note": "x"}, using=own)


def test_the_longest_comment_is_kept_whole(ratings: Ratings, run: Run) -> None:
    text = "評" * MAX_TEXT
    assert ratings.rate(run, comment=text).comment == text


def test_the_same_id_is_the_same_rating(store: Store, ratings: Ratings, run: Run) -> None:
    first = ratings.rate(run, 4, id="client-1")
    assert ratings.rate(run, 4, id="client-1") == first
    assert ratings.rate(run, 2, id="client-1") == first, "what was acknowledged stays"
    assert store.count(Feedback) == 1 and store.count(OutboxItem) == 1
    for other in ({"rater": "somebody"}, {"run": store_answers(store, 1)[0]}):
        with pytest.raises(InvalidValue, match="id"):
            ratings.rate(**{"run": run, "score": 4, "id": "client-1", **other})


def test_retries_at_the_same_moment_are_one_rating(store: Store, ratings: Ratings, run: Run) -> None:
    ids = [new_id() for _ in range(20)] * 8
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda id: ratings.rate(run, 3, id=id), ids))
    assert store.count(Feedback) == 20 == len(store.unsent())


def test_taking_back_gives_the_earlier_rating_again(store: Store, ratings: Ratings, run: Run) -> None:
    first, second = ratings.rate(run, 2, rater="a"), ratings.rate(run, 5, rater="a")
    assert ratings.events(run) == [second]
    gone = ratings.withdraw(second.id, rater="a")
    assert isinstance(gone, Feedback) and gone.withdrawn and gone.supersedes == second.id
    assert ratings.withdraw(second.id, rater="a") == gone
    assert ratings.events(run) == [first]
    with pytest.raises(AccessDenied):
        ratings.withdraw(first.id, rater="b")
    with pytest.raises(UnknownName):
        ratings.withdraw("nothing", rater="a")
    with pytest.raises(InvalidValue):
        ratings.withdraw(gone.id, rater="a")
    assert len(ratings.table(run, every=True)) == 3 and len(store.unsent()) == 3


def test_a_thumb_is_taken_back_and_what_was_said_with_it_stays(ratings: Ratings, run: Run) -> None:
    assert ratings.thumb_of(run, rater="a") == 0
    ratings.rate(run, thumb=True, rater="a", comment="良い")
    ratings.rate(run, thumb=False, rater="a")
    ratings.rate(run, thumb=True, rater="b")
    assert (ratings.thumb_of(run, rater="a"), ratings.thumb_of(run, rater="b")) == (-1, 1)
    ratings.withdraw_thumb(run, rater="a")
    assert (ratings.thumb_of(run, rater="a"), ratings.thumb_of(run, rater="b")) == (0, 1)
    assert [event.comment for event in ratings.events(run) if event.rater == "a"] == ["良い"]
    ratings.withdraw_thumb(run, rater="a")
    ratings.rate(run, thumb=True, rater="a")
    assert ratings.thumb_of(run, rater="a") == 1


def test_a_score_given_with_a_thumb_stays_older_than_the_next_one(ratings: Ratings, run: Run) -> None:
    ratings.rate(run, 3, thumb=True, rater="a")
    ratings.rate(run, 5, rater="a")
    ratings.withdraw_thumb(run, rater="a")
    assert [event.scores for event in ratings.events(run)] == [{"score": 5}]


def test_the_table_is_newest_first_with_a_column_for_each_criterion(store: Store, ratings: Ratings) -> None:
    one, other = store_answers(store, 2)
    ratings.rate(one, 1, rater="a")
    ratings.rate(other, rater="b", rubric={"fluency": 2, "harmful": True})
    ratings.rate(one, 3, rater="a")
    table = ratings.table()
    assert list(table.score.dropna()) == [3] and list(table.fluency.dropna()) == [2] and list(table.run_id) == [one.id, other.id]
    assert list(ratings.table(every=True).run_id) == [one.id, other.id, one.id]
    assert {"feedback_id", "run_id", "rater", "score", "thumb", "comment", "correction", "tags", "created_at", "campaign"} <= set(table)
    assert list(Ratings(store).table("nothing").columns)[:4] == ["feedback_id", "run_id", "rater", "score"]


def test_a_full_disk_is_said_and_nothing_is_half_written(settings: Settings) -> None:
    store = Store(settings.store_url)
    ratings, (run,) = Ratings(store), store_answers(store, 1)
    with store._engine.connect() as connection:
        most = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    sa.event.listen(store._engine, "checkout", lambda raw, *_: raw.execute(f"PRAGMA max_page_count={most}"))
    with pytest.raises(NotSaved, match=r"NOT saved.*full") as error:
        for _ in range(200):
            ratings.rate(run, 4, comment="長い" * 2_000)
    assert "保存されていません" in error.value.text("ja")
    kept = store.count(Feedback)
    assert kept == store.count(OutboxItem)
    store.close()


def test_a_store_that_is_gone_is_said(settings: Settings) -> None:
    store = Store(settings.store_url)
    (run,) = store_answers(store, 1)
    store.close()
    for file in settings.workspace.glob("kit.sqlite*"):
        file.unlink()
    (settings.workspace / "kit.sqlite").mkdir()
    with pytest.raises(NotSaved):
        Ratings(store).rate(run, 4)


def test_an_acknowledged_rating_survives_a_kill(settings: Settings) -> None:
    store = Store(settings.store_url)
    (run,) = store_answers(store, 1)
    script = (
        "import os, signal, sys\nfrom llmops_kit.store import Store\nfrom llmops_kit.feedback import Ratings\n"
        f"Ratings(Store({settings.store_url!r})).rate({run.id!r}, 5, id='kept')\nprint('saved', flush=True)\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == -9 and done.stdout == "saved\n", done.stderr
    kept = store.get(Feedback, "kept")
    assert kept is not None and kept.score == 5
    store.close()


# --- what counts --------------------------------------------------------------------------------------------------------------------


def event(id: str, at: int, *, run: str = "r", rater: str = "a", campaign: str | None = None, **said: Any) -> Feedback:
    return Feedback(id, START + timedelta(seconds=at), run, rater, campaign_id=campaign, **said)


def test_the_newest_word_on_each_criterion_counts() -> None:
    first = event("1", 1, scores={"accuracy": 3, "fluency": 4}, comment="old", tags=("x",))
    second = event("2", 2, scores={"accuracy": 5}, comment="new")
    assert effective([second, first, first]) == [replace(first, scores={"fluency": 4}, comment=""), second]
    apart = [first, event("3", 3, rater="b", scores={"accuracy": 1}), event("4", 4, campaign="c", scores={"accuracy": 2})]
    assert effective(apart) == apart
    assert effective([first, event("5", 5, supersedes="1", scores={"accuracy": 1})])[0].scores == {"accuracy": 1}


def test_only_ones_own_older_event_is_taken_away() -> None:
    mine = event("1", 5, scores={"score": 3})
    theirs = event("2", 6, rater="b", supersedes="1", withdrawn=True)
    older = event("3", 4, supersedes="1", withdrawn=True)
    itself = event("4", 7, run="q", supersedes="4", scores={"score": 1})
    assert effective([mine, theirs, older, itself]) == [mine, itself]


def test_what_withdraws_can_be_withdrawn_and_skips_are_no_ratings() -> None:
    rated, gone = event("1", 1, scores={"score": 3}), event("2", 2, supersedes="1", withdrawn=True)
    again = event("3", 3, supersedes="2", withdrawn=True)
    assert effective([rated, gone]) == [] and effective([rated, gone, again]) == [rated]
    chain = [rated, event("2", 2, supersedes="1", comment="b"), event("3", 3, supersedes="2", comment="c")]
    assert effective(chain) == chain[2:] and effective([*chain, event("4", 4, supersedes="3", withdrawn=True)]) == chain[1:2]
    skipped = event("4", 4, supersedes="1", skipped="分かりません")
    assert effective([rated, skipped]) == [] and newest([rated, skipped]) == skipped
    assert effective([rated, skipped, event("5", 5, supersedes="4", withdrawn=True)]) == [rated]
    assert newest([gone]) is None


events_strategy = st.lists(
    st.builds(
        lambda number, at, rater, run, names, kind, target: event(
            str(number),
            at,
            rater=rater,
            run=run,
            scores={} if kind == "withdrawn" else {name: number for name in names},
            withdrawn=kind == "withdrawn",
            skipped="why" if kind == "skipped" else None,
            supersedes=str(target) if kind != "rated" else None,
        ),
        st.integers(0, 30),
        st.integers(0, 10),
        st.sampled_from("ab"),
        st.sampled_from("rs"),
        st.sets(st.sampled_from("xyz"), min_size=1),
        st.sampled_from(("rated", "rated", "rated", "withdrawn", "skipped")),
        st.integers(0, 30),
    ),
    max_size=25,
    unique_by=lambda each: each.id,
)


@limits(deadline=None, max_examples=200)
@given(events_strategy, st.randoms())
def test_the_view_depends_on_the_events_alone(events: list[Feedback], random: Any) -> None:
    shuffled = [*events, *events[:5]]
    random.shuffle(shuffled)
    view = effective(events)
    assert effective(shuffled) == view
    assert effective(view) == view, "what counts still counts when it is all there is"
    assert all(count == 1 for count in Counter((each.run_id, each.rater, name) for each in view for name in each.scores).values())
    known = {each.id: each for each in events}
    for each in view:
        assert each.scores.items() <= known[each.id].scores.items() and not each.withdrawn and each.skipped is None


@limits(deadline=None, max_examples=200)
@given(events_strategy, st.data())
def test_a_withdrawal_takes_exactly_one_event_away(events: list[Feedback], data: Any) -> None:
    said = [each for each in events if not each.withdrawn]
    if not said:
        return
    target = data.draw(st.sampled_from(said))
    # An event nobody refers to, so that to withdraw it must be the same as its never having been sent.
    target_free = [each for each in events if each.supersedes != target.id or each.rater != target.rater]
    gone = event("gone", 100, rater=target.rater, run=target.run_id, withdrawn=True, supersedes=target.id)
    assert effective([*target_free, gone]) == effective([each for each in target_free if each.id != target.id])


# --- rubrics ------------------------------------------------------------------------------------------------------------------------

YAML = """
name: 社内基準
version: 2
criteria:
  - {name: 正確さ, type: ordinal, options: [低, 中, 高], label: {ja: 正確さ, en: Accuracy}}
  - {name: minutes, type: number, minimum: 0, maximum: 60, required: false}
  - {name: ok, type: boolean}
  - {name: kind, type: category, options: [fact, opinion]}
  - {name: why, type: text, required: false, help: 理由}
"""


def test_a_rubric_in_yaml_is_read_checked_and_comes_back(tmp_path: Path) -> None:
    rubric = read_rubric(YAML)
    (tmp_path / "rubric.yaml").write_text(YAML, encoding="utf-8-sig")
    assert read_rubric(tmp_path / "rubric.yaml") == rubric == read_rubric(rubric.plain()) == read_rubric(rubric)
    assert (rubric.name, rubric.version, len(rubric.criteria)) == ("社内基準", 2, 5)
    given_values = {"正確さ": "高", "minutes": "３．５", "ok": "はい", "kind": "Opinion", "why": ""}
    assert rubric.check(given_values) == {"正確さ": "高", "minutes": 3.5, "ok": True, "kind": "opinion"}
    assert rubric.criteria[0].text("en") == "Accuracy" and rubric.criteria[4].help == {"en": "理由", "ja": "理由"}
    for wrong in ({"正確さ": "最高"}, {"minutes": 61}, {"minutes": True}, {"ok": "maybe"}, {"kind": "lie"}, {"why": 3}, {"why": "x" * (MAX_TEXT + 1)}):
        with pytest.raises(InvalidValue):
            rubric.check({**given_values, **wrong})
    with pytest.raises(InvalidValue, match="ok"):
        rubric.check({"正確さ": "高", "kind": "fact"})


def test_presets_are_read_and_survive_being_plain() -> None:
    for name, rubric in PRESETS.items():
        assert read_rubric(name) is rubric and read_rubric(rubric.plain()) == rubric
    assert read_rubric("score").check("４") == {"score": 4}
    assert read_rubric("thumb").check(False) == {"thumb": -1}
    assert read_rubric([Criterion("x", minimum=0, maximum=3)]).check({"x": 0}) == {"x": 0}


@pytest.mark.parametrize(
    "source",
    [
        "nothing",
        "a: [",
        "criteria: 3",
        [],
        {"criteria": [3]},
        [{"name": "x", "type": "stars"}],
        [{"name": "x y", "type": "text"}],
        [{"name": "x", "type": "category", "options": ["one"]}],
        [{"name": "x", "type": "category", "options": ["Ａ", "a"]}],
        [{"name": "x", "type": "ordinal"}],
        [{"name": "x", "type": "number", "minimum": 3, "maximum": 1}],
        [{"name": "x", "type": "number", "minimum": "low"}],
        [{"name": "x", "type": "text", "colour": "red"}],
        [{"name": "x", "type": "text"}, {"name": "x", "type": "text"}],
        {"version": "one", "criteria": [{"name": "x", "type": "text"}]},
        {"name": "x" * 101, "criteria": [{"name": "x", "type": "text"}]},
    ],
)
def test_rubrics_that_do_not_serve_are_named(source: Any) -> None:
    with pytest.raises((InvalidValue, UnknownName)) as error:
        read_rubric(source)
    assert error.value.text("en") and error.value.text("ja")
