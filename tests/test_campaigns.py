"""Campaigns: every item gets its ratings and none too many, nothing is lost, nobody sees whose answer it is, and closing fixes what was said."""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llmops_kit.errors import AccessDenied, InputError, InvalidValue, UnknownName, UnreadableFile
from llmops_kit.feedback import Ratings, Task
from llmops_kit.feedback.queue import claim_id
from llmops_kit.feedback.samples import ANSWERS
from llmops_kit.feedback.tasks import shown_order
from llmops_kit.store import Store
from llmops_kit.types import Artifact, Campaign, CampaignItem, Claim, Comparison, Feedback, OutboxItem, Run, Source, Vote, now
from llmops_kit.votes import effective as effective_votes
from tests.rated_runs import make_answer, store_answers
from tests.test_store import postgres_url, url  # noqa: F401 - fixtures

RATERS = int(os.environ.get("LLMOPS_TEST_RATERS", "40"))


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.at = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        self.at += timedelta(milliseconds=1)
        return self.at

    def wait(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ratings(store: Store, clock: Clock) -> Ratings:
    return Ratings(store, clock=clock)


@pytest.fixture
def stores(url: str) -> Iterator[tuple[Store, Store]]:  # noqa: F811
    """The same database opened twice, as two processes have it, on SQLite and on PostgreSQL."""
    opened = Store(url), Store(url)
    yield opened
    for each in opened:
        each.close()


def take(ratings: Ratings, campaign: Campaign, rater: str) -> Task:
    """The next task, which there has to be."""
    task = ratings.next(campaign, rater=rater)
    assert task is not None
    return task


def counted(store: Store, campaign: Campaign) -> Counter[str]:
    """How many ratings count for each item."""
    return Counter(item for item, state in store.values(Claim, ("item_id", "state"), campaign_id=campaign.id) if state == "done")


# --- the queue ----------------------------------------------------------------------------------------------------------------------


def test_two_raters_finish_a_campaign(store: Store, ratings: Ratings) -> None:
    campaign = ratings.create("要約の評価", store_answers(store, 3), k=2, rubric="quality", guidelines="# 基準\n**正確さ**を最初に。")
    for rater in ("a", "b"):
        seen = []
        while task := ratings.next(campaign, rater=rater):
            assert task.rubric.name == "quality" and "正確さ" in task.guidelines and task.index == len(seen) + 1
            event = ratings.submit(task, {"accuracy": "４", "fluency": 5, "usefulness": 3, "harmful": False}, comment="良い😀", rater=rater)
            assert isinstance(event, Feedback) and (event.campaign_id, event.item_id, event.rater) == (campaign.id, task.item_id, rater)
            assert event.source == "campaign" and event.scores["accuracy"] == 4 and event.rubric == "quality"
            seen.append(task.item_id)
        assert len(set(seen)) == 3
        assert ratings.progress(campaign, rater).own_done == 3
    progress = ratings.progress(campaign, "c")
    assert progress.complete and (progress.done, progress.total, progress.items, progress.raters, progress.own_left) == (6, 6, 3, 2, 0)
    assert ratings.next(campaign, rater="c") is None
    assert store.count(Feedback) == 6 == sum(item.kind == "feedback" for item in store.unsent())
    assert list(ratings.campaigns().done) == [6]
    assert set(ratings.table(campaign=campaign).campaign) == {campaign.id}


def test_overlap_is_reached_early_and_those_who_come_at_once_spread(store: Store, ratings: Ratings) -> None:
    campaign = ratings.create("c", store_answers(store, 10), k=3)
    first = [take(ratings, campaign, rater) for rater in "abcdef"]
    assert sorted(Counter(task.item_id for task in first).values()) == [3, 3]
    for task in first:
        ratings.submit(task, 4)
    assert sorted(counted(store, campaign).values()) == [3, 3]
    orders = {tuple(shown_order("item", rater, ["x", "y"])) for rater in "abcdef"}
    assert len(orders) == 2


def test_an_unshuffled_campaign_goes_in_the_order_of_its_runs(store: Store, ratings: Ratings) -> None:
    runs = store_answers(store, 5)
    campaign = ratings.create("c", runs, k=1, shuffle=False)
    seen = []
    while task := ratings.next(campaign, rater="a"):
        seen.append(task.run.id)
        ratings.submit(task, 1)
    assert seen == [run.id for run in runs]
    other = ratings.create("c2", runs, k=1)
    places = [item.run_ids[0] for item in store.find(CampaignItem, campaign_id=other.id, newest_first=False)]
    assert sorted(places) == sorted(seen)


def test_a_reload_gives_the_same_task_and_renews_it(store: Store, ratings: Ratings, clock: Clock) -> None:
    campaign = ratings.create("c", store_answers(store, 5), k=1, timeout_s=60)
    task = take(ratings, campaign, "a")
    clock.wait(50)
    again = take(ratings, campaign, "a")
    assert again.item_id == task.item_id and again.deadline > task.deadline
    clock.wait(50)
    assert take(ratings, campaign, "b").item_id != task.item_id, "it is still a's"
    assert store.count(Claim, rater="a") == 1
    assert take(Ratings(store, clock=clock), campaign, "a").item_id == task.item_id, "after a restart too"


def test_an_abandoned_item_goes_to_somebody_else(store: Store, ratings: Ratings, clock: Clock) -> None:
    campaign = ratings.create("c", store_answers(store, 1), k=1, timeout_s=60)
    late = take(ratings, campaign, "a")
    assert ratings.next(campaign, rater="b") is None and ratings.progress(campaign, "b").own_left == 1
    clock.wait(61)
    task = take(ratings, campaign, "b")
    assert task.item_id == late.item_id
    assert ratings.next(campaign, rater="a") is None, "it is b's now"
    ratings.submit(task, 5)
    event = ratings.submit(late, 1, comment="遅れました")
    assert event.flags == ("late",) and event in ratings.events(campaign=campaign), "kept all the same"
    assert counted(store, campaign) == {task.item_id: 1}
    assert ratings.progress(campaign, "a").own_done == 1 and ratings.progress(campaign).done == 1


def test_a_late_rating_counts_where_there_is_room(store: Store, ratings: Ratings, clock: Clock) -> None:
    campaign = ratings.create("c", store_answers(store, 1), k=1, timeout_s=60)
    task = take(ratings, campaign, "a")
    clock.wait(61)
    given_on = take(ratings, campaign, "b")
    assert ratings.submit(task, 3).flags == ()
    assert ratings.submit(given_on, 4).flags == ("late",), "of two, the first that comes in counts"
    assert counted(store, campaign) == {task.item_id: 1}


def test_a_rating_sent_twice_is_one(store: Store, ratings: Ratings) -> None:
    campaign = ratings.create("c", store_answers(store, 2), k=1)
    task = take(ratings, campaign, "a")
    first = ratings.submit(task, 3, id="mine")
    assert ratings.submit(task, 5, id="mine") == first and store.count(Feedback) == 1
    with pytest.raises(InvalidValue, match="id"):
        ratings.submit(take(ratings, campaign, "b"), 5, id="mine")


def test_skipping_says_why_and_passes_the_item_on(store: Store, ratings: Ratings) -> None:
    campaign = ratings.create("c", store_answers(store, 1), k=1)
    task = take(ratings, campaign, "a")
    for reason in ("", " ", "x" * 2_001):
        with pytest.raises(InvalidValue):
            ratings.skip(task, reason)
    event = ratings.skip(task, "専門外です", rater="a")
    assert event.skipped == "専門外です" and ratings.events(campaign=campaign) == []
    assert ratings.next(campaign, rater="a") is None
    assert (ratings.progress(campaign, "a").own_skipped, ratings.progress(campaign, "a").own_left) == (1, 0)
    ratings.submit(take(ratings, campaign, "b"), 2)
    assert ratings.submit(task, 4).flags == ("late",), "a skip thought better of"


def test_going_back_and_changing_is_a_new_event(store: Store, ratings: Ratings) -> None:
    campaign = ratings.create("c", store_answers(store, 3), k=2)
    items = []
    for score in (1, 2):
        task = take(ratings, campaign, "a")
        ratings.submit(task, score, comment=f"{score}")
        items.append(task.item_id)
    third = take(ratings, campaign, "a")
    back = ratings.previous(campaign, rater="a", before=third.item_id)
    assert back is not None and (back.item_id, back.index) == (items[1], 2)
    assert isinstance(back.earlier, Feedback) and (back.earlier.score, back.earlier.comment) == (2, "2")
    first = ratings.previous(campaign, rater="a", before=back.item_id)
    assert first is not None and first.item_id == items[0]
    assert ratings.previous(campaign, rater="a", before=first.item_id) is None
    assert take_after(ratings, campaign, first) == items[1] and take_after(ratings, campaign, back) == third.item_id
    changed = ratings.submit(back, 5)
    assert changed.supersedes == back.earlier.id
    assert [event.score for event in ratings.events(campaign=campaign)] == [1, 5], "the comment went with the rating it was on"
    assert len(ratings.events(campaign=campaign, every=True)) == 3
    assert counted(store, campaign) == dict.fromkeys(items, 1)
    last = ratings.previous(campaign, rater="a")
    assert last is not None and last.item_id == third.item_id


def take_after(ratings: Ratings, campaign: Campaign, task: Task) -> str:
    found = ratings.next(campaign, rater=task.rater, after=task.item_id)
    assert found is not None
    return found.item_id


def test_a_rating_turned_into_a_skip_gives_its_place_back(store: Store, ratings: Ratings) -> None:
    campaign = ratings.create("c", store_answers(store, 1), k=1)
    task = take(ratings, campaign, "a")
    ratings.submit(task, 4)
    ratings.skip(task, "見直しました")
    assert counted(store, campaign) == {} and ratings.events(campaign=campaign) == []
    assert ratings.progress(campaign).done == 0
    ratings.submit(take(ratings, campaign, "b"), 5)
    assert ratings.progress(campaign).complete


def test_taking_a_rating_back_reopens_the_item(store: Store, ratings: Ratings) -> None:
    campaign = ratings.create("c", store_answers(store, 1), k=1)
    event = ratings.submit(take(ratings, campaign, "a"), 4)
    changed = ratings.submit(ratings.task(campaign, str(event.item_id), rater="a"), 5)
    ratings.withdraw(changed.id, rater="a")
    assert ratings.events(campaign=campaign) == [event] and ratings.progress(campaign).done == 1
    ratings.withdraw(event.id, rater="a")
    assert ratings.events(campaign=campaign) == [] and ratings.progress(campaign).done == 0
    assert take(ratings, campaign, "a").item_id == event.item_id
    again = ratings.submit(take(ratings, campaign, "a"), 2)
    assert ratings.events(campaign=campaign) == [again]


def test_only_those_it_is_for_may_rate(store: Store, ratings: Ratings) -> None:
    runs = store_answers(store, 2)
    listed = ratings.create("listed", runs, k=2, raters=["a", "b"], owner="boss")
    others = ratings.create("others", runs, k=1, raters="others", owner="boss")
    for campaign, rater in ((listed, "c"), (others, "boss")):
        with pytest.raises(AccessDenied):
            ratings.next(campaign, rater=rater)
    task = take(ratings, listed, "a")
    take(ratings, others, "c")
    with pytest.raises(AccessDenied):
        ratings.task(listed, task.item_id, rater="b")
    with pytest.raises(AccessDenied):
        ratings.submit(task, 4, rater="b")
    assert list(ratings.campaigns("c").name) == ["others"] and set(ratings.campaigns("boss").name) == {"listed", "others"}
    assert store.count(Feedback) == 0


def test_a_rater_sees_what_is_to_be_rated_and_not_whose_it_is(store: Store, ratings: Ratings) -> None:
    source = Source("規程.md", "年10日", page=1)
    run = make_answer(1, "gpt-secret", sources=(source,), variables={"question": "有給は？", "who": "山田"}, params={"temperature": 0.1}, adapter="lora-x")
    store.append(run)
    shown = take(ratings, ratings.create("c", [run]), "a")
    assert (shown.run.answer, shown.prompt, shown.run.sources) == (run.output, "有給は？", (source,))
    told = json.dumps([repr(shown), shown._repr_html_(), str(shown.run), str(shown.run.variables)], ensure_ascii=False)
    for secret in ("asker", "gpt-secret 回答", "secret_prompt", "秘密の指示", "lora-x", "0.1", "山田", "compare:c1"):
        assert secret not in told
    assert shown.run.model == "" and shown.tags == ()
    named = take(ratings, ratings.create("c", [run], blind=False), "a")
    assert named.run.model == "gpt-secret" and named.run.participant == ""


def test_answers_cannot_break_out_of_a_task_shown_in_a_notebook(store: Store, ratings: Ratings) -> None:
    run = make_answer(1, output="<script>alert(1)</script>")
    store.append(run)
    assert "<script>" not in take(ratings, ratings.create("c", [run]), "a")._repr_html_()


# --- races --------------------------------------------------------------------------------------------------------------------------


def test_races_give_every_item_exactly_k_ratings(stores: tuple[Store, Store]) -> None:
    doors = [Ratings(store) for store in stores]
    campaign = doors[0].create("race", store_answers(stores[0], 20), k=3)

    def rate_all(number: int) -> list[str]:
        chance, ratings, done = random.Random(number), doors[number % 2], []
        while task := ratings.next(campaign, rater=f"r{number}"):
            if chance.random() < 0.1:
                ratings.skip(task, "passe")
                continue
            done.append(ratings.submit(task, chance.randint(1, 5)).id)
        return done

    with ThreadPoolExecutor(RATERS) as pool:
        saved = [id for ids in pool.map(rate_all, range(RATERS)) for id in ids]
    store = stores[0]
    while any(rater_can_be_asked(ratings := doors[0], campaign, f"late{number}") for number in range(5)):
        pass    # what was skipped by those who were there at the end
    assert set(counted(store, campaign).values()) == {3} and len(counted(store, campaign)) == 20
    events = store.find(Feedback, campaign_id=campaign.id)
    assert set(saved) <= {event.id for event in events}
    rated = [event for event in events if event.skipped is None]
    assert len(rated) == 60 and not any(event.flags for event in rated)
    assert max(Counter((event.item_id, event.rater) for event in events).values()) == 1
    for ratings in doors:
        time.sleep(1.1)
        assert ratings.progress(campaign).complete


def rater_can_be_asked(ratings: Ratings, campaign: Campaign, rater: str) -> bool:
    task = ratings.next(campaign, rater=rater)
    if task is not None:
        ratings.submit(task, 3)
    return task is not None


def test_with_time_outs_in_the_race_no_rating_is_lost_and_none_is_one_too_many(store: Store) -> None:
    ratings = Ratings(store, clock=Fast())
    campaign = ratings.create("race", store_answers(store, 6), k=2, timeout_s=10)

    def rate_some(number: int) -> list[Feedback | Vote]:
        chance, saved = random.Random(number), []
        for _ in range(8):
            if task := ratings.next(campaign, rater=f"r{number}"):
                time.sleep(chance.random() * 0.03)
                if chance.random() < 0.7:
                    saved.append(ratings.submit(task, 3))
        return saved

    with ThreadPoolExecutor(12) as pool:
        saved = [event for events in pool.map(rate_some, range(12)) for event in events]
    kept = {event.id: event for event in store.find(Feedback, campaign_id=campaign.id)}
    assert all(kept[event.id] == event for event in saved)
    counts = counted(store, campaign)
    assert max(counts.values()) <= 2
    standing = [event for event in ratings.events(campaign=campaign) if "late" not in event.flags]
    assert Counter(event.item_id for event in standing) == counts


class Fast:
    """A clock on which a second of the test is twenty minutes."""

    def __call__(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=time.monotonic() * 1200)


def test_one_rater_in_two_windows_has_one_claim(store: Store, ratings: Ratings) -> None:
    campaign = ratings.create("c", store_answers(store, 5), k=2)
    with ThreadPoolExecutor(8) as pool:
        tasks = list(pool.map(lambda _: take(ratings, campaign, "a").item_id, range(40)))
    assert len(set(tasks)) == 1 == store.count(Claim, campaign_id=campaign.id)


def test_another_process_is_noticed(stores: tuple[Store, Store]) -> None:
    here, there = (Ratings(store) for store in stores)
    campaign = here.create("c", store_answers(stores[0], 12), k=1)
    mine = take(here, campaign, "a")
    for _ in range(11):
        there.submit(take(there, campaign, "b"), 2)
    assert there.next(campaign, rater="b") is None
    here.submit(mine, 4)
    assert here.next(campaign, rater="a") is None and here.next(campaign, rater="c") is None
    there.close(campaign)
    with pytest.raises(InputError, match="closed"):
        here.next(campaign, rater="c")
    with pytest.raises(InputError, match="closed"):
        here.submit(mine, 5)


def test_two_thousand_items_and_fifty_raters_stay_quick(store: Store) -> None:
    ratings = Ratings(store)
    campaign = ratings.create("big", store_answers(store, 2_000), k=5)
    chance, moment = random.Random(0), now()
    claims = [
        Claim(claim_id(item.id, f"r{rater}"), campaign.id, item.id, f"r{rater}", moment, moment + timedelta(hours=1), "done")
        for item in store.find(CampaignItem, campaign_id=campaign.id)
        for rater in chance.sample(range(50), 4)
    ]
    store.commit(lambda change: change.put_all(claims))
    take(ratings, campaign, "r0")
    times = []
    for number in range(50):
        begun = time.perf_counter()
        take(ratings, campaign, f"r{number}")
        times.append(time.perf_counter() - begun)
    assert sorted(times)[25] < 0.05, "the median, since other programs run here too"


# --- pairs and rankings -------------------------------------------------------------------------------------------------------------


def test_pairs_become_votes_with_sides_of_the_raters_own(store: Store, ratings: Ratings) -> None:
    runs = store_answers(store, 8, "one", "two")
    campaign = ratings.create("duel", runs, kind="pairwise", k=3)
    assert campaign.spec["items"] == 8 and campaign.spec["rubric"]["name"] == "pairwise"
    variant = {run.id: run.variant for run in runs}
    lefts = set()
    for rater in "abc":
        while task := ratings.next(campaign, rater=rater):
            left, right = task.runs
            lefts.add(variant[left.id])
            vote = ratings.submit(task, {"choice": "left"} if variant[left.id] == "one" else "B", comment="一つ目")
            assert isinstance(vote, Vote) and (vote.left_run, vote.right_run) == (left.id, right.id)
            assert (vote.left_variant, vote.right_variant) == (variant[left.id], variant[right.id])
            assert vote.item.startswith("compare:c1:") and vote.campaign_id == campaign.id and vote.blinded
            assert (vote.choice == "A") == (vote.left_variant == "one")
            assert ratings.task(campaign, task.item_id, rater=rater).runs == task.runs, "the sides stay at a reload"
    assert lefts == {"one", "two"}
    assert ratings.progress(campaign).complete and store.count(Vote) == 24
    assert sum(item.kind == "vote" for item in store.unsent()) == 24
    assert ratings.agreement(campaign).percent.value == 1.0


def test_a_vote_is_changed_skipped_and_taken_back(store: Store, ratings: Ratings) -> None:
    campaign = ratings.create("duel", store_answers(store, 1, "one", "two"), kind="pairwise", k=1)
    task = take(ratings, campaign, "a")
    first = ratings.submit(task, "A")
    second = ratings.submit(task, "tie")
    assert second.supersedes == first.id and votes_of(store) == [second] and ratings.progress(campaign).complete
    back = ratings.task(campaign, task.item_id, rater="a")
    assert back.earlier == second
    ratings.withdraw(second.id, rater="a")
    assert ratings.progress(campaign).done == len(votes_of(store))
    third = ratings.submit(task, "both_bad")
    assert votes_of(store) == [third] and ratings.progress(campaign).done == 1
    ratings.skip(task, "違いが分かりません")
    assert votes_of(store) == [] and ratings.progress(campaign).done == 0
    fourth = ratings.submit(task, task.runs[1].id)
    assert votes_of(store) == [fourth] and isinstance(fourth, Vote) and fourth.choice == "B" and ratings.progress(campaign).done == 1
    for wrong in ("C", "", None, "withdrawn", {"choice": 3}):
        with pytest.raises((InvalidValue, UnknownName)):
            ratings.submit(task, wrong)
    with pytest.raises(InvalidValue, match="correction"):
        ratings.submit(task, "A", correction="x")


def votes_of(store: Store) -> list[Vote]:
    return effective_votes(store.find(Vote))


def test_rankings_are_kept_best_first(store: Store, ratings: Ratings) -> None:
    runs = store_answers(store, 2, "one", "two", "three")
    campaign = ratings.create("order", runs, rubric="ranking", k=2, shuffle=False)
    assert campaign.spec["kind"] == "ranking" and campaign.spec["items"] == 2
    task = take(ratings, campaign, "a")
    ids = [run.id for run in task.runs]
    event = ratings.submit(task, "BAC")
    assert isinstance(event, Feedback) and event.scores == {"ranking": [ids[1], ids[0], ids[2]]}
    assert event.run_id in ids and ratings.submit(task, {"ranking": ids}).scores == {"ranking": ids}
    assert ratings.submit(task, {ids[0]: "３", ids[1]: 1, ids[2]: 2}).scores == {"ranking": [ids[1], ids[2], ids[0]]}
    for wrong in ("AB", "AAB", [ids[0]], [*ids, "x"], 3, {ids[0]: 1, ids[1]: 1, ids[2]: 2}, {ids[0]: "first"}, None):
        with pytest.raises(InvalidValue) as error:
            ratings.submit(task, wrong)
        assert "A, B, C" in error.value.text("en")
    ratings.submit(ratings.task(campaign, task.item_id, rater="a"), "ABC")
    assert len(ratings.events(campaign=campaign)) == 1
    other = take(ratings, campaign, "b")
    ratings.submit(other, ids)
    assert ratings.agreement(campaign).n_raters == 2
    assert set(ratings.disagreements(campaign).criterion) <= {"ranking"}


# --- making one ---------------------------------------------------------------------------------------------------------------------


def test_failed_and_empty_answers_are_left_out(store: Store, ratings: Ratings) -> None:
    runs = [make_answer(0), make_answer(1, error="down", finish_reason="error"), make_answer(2, output=" "), make_answer(3, finish_reason=None)]
    store.commit(lambda change: change.put_all(runs))
    campaign = ratings.create("c", [*runs, runs[0].id])
    assert campaign.spec["items"] == 1 and campaign.spec["left_out"] == 3
    with pytest.raises(InvalidValue, match="nothing to rate"):
        ratings.create("c", runs[1:])


def test_a_comparison_can_be_rated_with_the_tags_of_its_items(store: Store, ratings: Ratings) -> None:
    store_answers(store, 3, "one", "two")
    store.append(Comparison("c1", now(), "local", {"rows": [{"item": "0", "variables": {}, "tags": ["人事"]}]}))
    campaign = ratings.create("c", comparison="c1", kind="pairwise")
    items = store.find(CampaignItem, campaign_id=campaign.id)
    assert {item.item: item.tags for item in items} == {"compare:c1:0": ("人事",), "compare:c1:1": (), "compare:c1:2": ()}
    with pytest.raises(UnknownName, match="comparison"):
        ratings.create("c", comparison="c9")
    with pytest.raises(InvalidValue, match="nothing to put beside"):
        ratings.create("c", store_answers(store, 3), kind="pairwise")


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": " "},
        {"name": "x" * 201},
        {"k": 0},
        {"k": 101},
        {"k": True},
        {"k": 1.5},
        {"k": 3, "raters": ["a", "b"]},
        {"raters": []},
        {"raters": [""]},
        {"timeout_s": 1},
        {"timeout_s": float("nan")},
        {"kind": "stars"},
        {"kind": "pairwise", "rubric": "score"},
        {"kind": "ranking", "rubric": "pairwise"},
        {"rubric": [{"name": "x", "type": "ranking"}, {"name": "y", "type": "text"}]},
        {"rubric": "nothing"},
        {"guidelines": "x" * 20_001},
        {"id": "x" * 37},
        {"comparison": "c1"},
        {"runs": None},
    ],
)
def test_a_campaign_that_cannot_work_is_refused(store: Store, ratings: Ratings, wrong: dict[str, Any]) -> None:
    asked = {"name": "c", "runs": store_answers(store, 1, "one", "two"), **wrong}
    with pytest.raises((InvalidValue, UnknownName)) as error:
        ratings.create(**asked)
    assert error.value.text("ja") and store.count(Campaign) == 0 and store.count(CampaignItem) == 0


def test_a_campaign_made_twice_under_an_id_is_one(store: Store, ratings: Ratings) -> None:
    runs = store_answers(store, 2)
    made = ratings.create("c", runs, id="mine")
    assert ratings.create("c", runs, id="mine") == made and store.count(CampaignItem) == 2
    with pytest.raises(InvalidValue):
        ratings.create("other", runs, id="mine")
    with pytest.raises(UnknownName):
        ratings.create("c", [runs[0], "nowhere"])
    for call in (ratings.campaign, ratings.next, ratings.progress, ratings.close):
        with pytest.raises(UnknownName, match="campaign"):
            call("nowhere")


# --- answers made elsewhere ---------------------------------------------------------------------------------------------------------

CSV = "item,質問,回答,モデル,タグ\n1,有給は何日？,10日です。,甲社モデル,人事、規程\n2,①番は？,㈱です髙,乙社モデル,\n"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp932", "utf-8"])
def test_a_csv_of_answers_becomes_runs(store: Store, ratings: Ratings, tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "回答.csv"
    path.write_bytes(CSV.replace("\n", "\r\n").encode(encoding))
    answers = ratings.import_answers(path, participant="花子")
    assert [(run.app, run.model, run.output, run.item, run.participant) for run in answers] == [
        ("import", "甲社モデル", "10日です。", "1", "花子"),
        ("import", "乙社モデル", "㈱です髙", "2", "花子"),
    ]
    assert answers[0].messages[0].content == "有給は何日？" and answers[0].params["tags"] == ["人事", "規程"] and answers.problems == ()
    assert store.get(Run, answers[0].id) == answers[0] and sum(item.kind == "run" for item in store.unsent()) == 2
    assert [run.id for run in ratings.import_answers(path, participant="花子")] == [run.id for run in answers] and store.count(Run) == 2
    assert ratings.import_answers(path, participant="太郎")[0].id != answers[0].id
    campaign = ratings.create("c", answers)
    assert {item.tags for item in store.find(CampaignItem, campaign_id=campaign.id)} == {("人事", "規程"), ()}


def test_xlsx_and_json_lines_serve_as_well(store: Store, ratings: Ratings, tmp_path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for row in (["prompt", "answer", "model"], ["有給は？", "10日", "m"], ["", "空", "m"]):
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    lines = ['{"prompt": "有給は？", "answer": "10日", "model": "m"}', "{broken", "[1]", '{"prompt": "二つ目", "answer": ""}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines), encoding="utf-8")
    sheet, objects = ratings.import_answers(tmp_path / "a.xlsx"), ratings.import_answers((tmp_path / "a.jsonl").read_bytes(), file="a.jsonl")
    assert [run.id for run in sheet] == [run.id for run in objects]
    assert [problem.text("en")[:20] for problem in sheet.problems] == ["“a.xlsx”, line 3: th"]
    assert ["line 2" in objects.problems[0].text("en"), "row 3" in objects.problems[1].text("en"), "line 4" in objects.problems[2].text("en")] == [True] * 3


def test_several_answer_columns_make_pairs_and_rankings(store: Store, ratings: Ratings, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt,answer_甲,answer_乙,回答：丙\nq1,a,b,c\nq2,a,,c\nq3,a,,\n", encoding="utf-8")
    pairs = ratings.create("pairs", path=path, kind="pairwise")
    assert pairs.spec["items"] == 4 and pairs.spec["source"]["file"] == "a.csv"
    order = ratings.create("order", path=path, kind="ranking")
    assert sorted(len(item.run_ids) for item in store.find(CampaignItem, campaign_id=order.id)) == [2, 3]
    assert {run.variant for run in store.find(Run)} == {"甲", "乙", "丙"} and store.count(Run) == 6
    vote = ratings.submit(take(ratings, pairs, "a"), "A")
    assert isinstance(vote, Vote) and {vote.left_variant, vote.right_variant} < {"甲", "乙", "丙"}
    chosen = ratings.import_answers(path, prompt="prompt", answers=["answer_甲", "回答：丙"])
    assert {run.model for run in chosen} == {"answer_甲", "回答：丙"}


def test_bad_rows_are_named_by_their_line_and_the_good_ones_kept(store: Store, ratings: Ratings, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    rows = ["prompt,answer,tags", "q1,a1,", ",a2,", "q3,,", "", "q5,a5,x,extra", '"q\n6",a6,', "q1,a1,", f"q9,a9,{'あ' * 101}", f"q10,{'x' * 200_001},"]
    path.write_text("\n".join(rows), encoding="utf-8")
    answers = ratings.import_answers(path)
    assert [run.output for run in answers] == ["a1", "a6"]
    told = "\n".join(problem.text("en") for problem in answers.problems)
    for line, reason in ((6, "4 cells"), (3, "prompt is empty"), (4, "answer is empty"), (9, "same as line 2"), (10, "100"), (11, "200,000")):
        assert any(f"line {line}" in sentence and reason in sentence for sentence in told.splitlines()), (line, told)
    assert all("行目" in problem.text("ja") for problem in answers.problems)
    campaign = ratings.create("c", path=path)
    assert len(campaign.spec["source"]["left_out"]) == 6 and campaign.spec["items"] == 2


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        ("prompt,answer\n", "no rows"),
        ("a,b\n1,2\n", "no column named prompt"),
        ("prompt,b\n1,2\n", "no column named answer"),
        ("prompt,answer\n,\nq,\n", "none"),
    ],
)
def test_a_file_without_answers_is_refused(store: Store, ratings: Ratings, tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(UnreadableFile, match=reason):
        ratings.import_answers(path)
    with pytest.raises(UnknownName, match="column"):
        path.write_text("prompt,answer\nq,a\n")
        ratings.import_answers(path, prompt="frage")
    assert store.count(Run) == 0


def test_the_sample_serves_for_every_kind(store: Store, ratings: Ratings) -> None:
    items = {kind: ratings.create(kind, path=ANSWERS, kind=kind).spec["items"] for kind in ("rate", "pairwise", "ranking")}
    assert items == {"rate": 20, "pairwise": 10, "ranking": 10}


# --- closing ------------------------------------------------------------------------------------------------------------------------


def close_one(store: Store, ratings: Ratings, name: str, raters: str = "ab") -> tuple[Campaign, Artifact]:
    campaign = ratings.create(name, store_answers(store, 3), k=2, rubric="quality", owner="boss", guidelines="基準")
    for rater in raters:
        while task := ratings.next(campaign, rater=rater):
            ratings.submit(task, {"accuracy": 4, "fluency": 3 + (rater == "a"), "usefulness": 3, "harmful": False}, comment="=1+1 😀", correction="直し")
    return campaign, ratings.close(campaign, by="boss")


def test_closing_fixes_what_counts_with_its_hash_and_lineage(store: Store, ratings: Ratings) -> None:
    campaign, artifact = close_one(store, ratings, "Summary quality, May")
    assert (artifact.name, artifact.version, artifact.kind, artifact.rows) == ("feedback-summary-quality-may", 1, "feedback", 6)
    canonical = json.dumps(list(artifact.data), ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    assert artifact.sha256 == hashlib.sha256(canonical).hexdigest()
    raters = {row["rater"] for row in artifact.data}
    assert len(raters) == 2 and all(rater.startswith("rater-") for rater in raters) and "boss" not in canonical.decode()
    assert artifact.data[0]["scores"]["accuracy"] == 4 and artifact.data[0]["comment"] == "=1+1 😀"
    about = artifact.about
    assert about["campaign"]["id"] == campaign.id and about["k"] == 2 and about["guidelines"] == "基準"
    assert about["counts"] == {"events": 6, "raters": 2, "items": 3, "complete": 3, "counted": 6, "late": 0, "skipped": 0}
    assert about["window"]["first"] <= about["window"]["last"]
    assert {found["criterion"] for found in about["agreement"]} == {"accuracy", "fluency", "usefulness", "harmful"}
    assert artifact.inputs == ("items-summary-quality-may:v1",)
    (items,) = store.find(Artifact, name="items-summary-quality-may")
    assert items.kind == "dataset" and items.rows == 3 and "asker" not in json.dumps(items.data)
    assert items.data[0]["answers"][0]["model"] == "starter-lm"
    assert [item.kind for item in store.unsent() if item.kind == "artifact"] == ["artifact"] * 2
    assert store.get(Artifact, artifact.id) == artifact
    json.dumps(about)


def test_a_closed_campaign_takes_nothing_more(store: Store, ratings: Ratings) -> None:
    campaign, artifact = close_one(store, ratings, "社内評価", raters="a")
    task = ratings.task(campaign, ratings.events(campaign=campaign)[0].item_id or "", rater="a")
    for call in (
        lambda: ratings.next(campaign, rater="b"),
        lambda: ratings.submit(task, {"accuracy": 1, "fluency": 1, "usefulness": 1, "harmful": False}),
        lambda: ratings.skip(task, "x"),
        lambda: ratings.withdraw(ratings.events(campaign=campaign)[0].id, rater="a"),
    ):
        with pytest.raises(InputError, match="closed") as error:
            call()
        assert "終了" in error.value.text("ja")
    assert len(ratings.events(campaign=campaign, every=True)) == 3
    assert ratings.close(campaign, by="boss") == artifact and store.count(Artifact) == 2
    assert ratings.campaign(campaign).closed_at is not None and ratings.campaigns().closed_at.notna().all()
    assert artifact.name.startswith("feedback-") and artifact.name.isascii(), "a Japanese name has no slug"


def test_only_the_owner_closes_and_versions_count_up(store: Store, ratings: Ratings) -> None:
    _, first = close_one(store, ratings, "Daily")
    _, second = close_one(store, ratings, "daily")
    assert (first.version, second.version, second.inputs) == (1, 2, ("items-daily:v2",))
    campaign = ratings.create("x", store_answers(store, 1), owner="boss")
    for other in ("a", "local"):
        with pytest.raises(AccessDenied):
            ratings.close(campaign, by=other)
    own = ratings.create("notebook", store_answers(store, 1))
    empty = ratings.close(own)
    assert (empty.rows, empty.about["window"], empty.about["agreement"]) == (0, None, [])


def test_two_who_close_at_once_make_one_artifact(store: Store, ratings: Ratings) -> None:
    campaign = ratings.create("once", store_answers(store, 3), k=1)
    ratings.submit(take(ratings, campaign, "a"), 3)
    with ThreadPoolExecutor(6) as pool:
        made = set(pool.map(lambda _: ratings.close(campaign).id, range(6)))
    assert len(made) == 1 and store.count(Artifact) == 2


def test_what_was_half_closed_is_finished(store: Store, ratings: Ratings, clock: Clock) -> None:
    campaign = ratings.create("half", store_answers(store, 1), k=1)
    ratings.submit(take(ratings, campaign, "a"), 3)
    store.commit(lambda change: change.update(Campaign, campaign.id, closed_at=clock()))
    assert ratings.close(campaign).rows == 1


def test_votes_are_closed_as_well(store: Store, ratings: Ratings) -> None:
    campaign = ratings.create("duel", store_answers(store, 2, "one", "two"), kind="pairwise", k=1)
    while task := ratings.next(campaign, rater="a"):
        ratings.submit(task, "A")
    artifact = ratings.close(campaign)
    assert artifact.rows == 2 and {row["choice"] for row in artifact.data} == {"A"} and artifact.about["agreement"][0]["criterion"] == "preference"
    assert len(ratings.disagreements(campaign)) == 0


def test_agreement_takes_the_scale_from_the_rubric(store: Store, ratings: Ratings, tmp_path: Path) -> None:
    rubric = [{"name": "note", "type": "text"}, {"name": "grade", "type": "ordinal", "options": ["bad", "fair", "good"]}]
    campaign = ratings.create("c", store_answers(store, 4), rubric=rubric)
    for rater, grades in (("a", ["bad", "fair", "good", "good"]), ("b", ["bad", "good", "good", "bad"])):
        for grade in grades:
            ratings.submit(take(ratings, campaign, rater), {"note": "長い説明", "grade": grade})
    found = ratings.agreement(campaign)
    assert (found.criterion, found.level, found.n_units) == ("grade", "ordinal", 4)
    assert ratings.agreement(campaign, level="nominal").level == "nominal"
    assert 1 <= len(ratings.disagreements(campaign, n=3)) <= 3
    report = ratings.export("table", tmp_path / "t.csv", campaign)
    assert report.rows > 0
    assert store.count(OutboxItem) == 8


def test_undoing_a_skip_does_not_give_an_item_one_rating_too_many(store: Store, ratings: Ratings) -> None:
    campaign = ratings.create("1人", store_answers(store, 1), k=1)
    task = ratings.next(campaign, rater="a")
    assert task is not None
    ratings.submit(task, 4)
    skipped = ratings.skip(task, "やはり分からない")
    other = ratings.next(campaign, rater="b")
    assert other is not None
    ratings.submit(other, 2)
    ratings.withdraw(skipped.id, rater="a")
    assert {claim.rater: claim.state for claim in store.find(Claim, campaign_id=campaign.id)} == {"a": "late", "b": "done"}


def test_an_order_typed_in_full_width_is_read(store: Store, ratings: Ratings) -> None:
    campaign = ratings.create("順位", store_answers(store, 1, "x", "y"), kind="ranking", k=1)
    task = ratings.next(campaign, rater="a")
    assert task is not None
    rating = ratings.submit(task, "ＢＡ")
    assert isinstance(rating, Feedback) and rating.scores["ranking"] == [task.runs[1].id, task.runs[0].id]


def test_agreement_on_words_in_their_order_and_on_texts_alone(store: Store, ratings: Ratings) -> None:
    runs = store_answers(store, 3)
    graded = ratings.create("等級", runs, rubric=[{"name": "grade", "type": "ordinal", "options": ["悪い", "普通", "良い"]}])
    told = ratings.create("感想", runs, rubric=[{"name": "words", "type": "text"}])
    for rater in ("a", "b"):
        while task := ratings.next(graded, rater=rater):
            ratings.submit(task, "良い" if rater == "a" else "普通")
        while task := ratings.next(told, rater=rater):
            ratings.submit(task, f"{rater}の{task.index}番目の感想です。")
    asked, guessed = ratings.agreement(graded, level="ordinal"), ratings.agreement(graded)
    assert asked.alpha == guessed.alpha and asked.level == guessed.level == "ordinal"
    assert ratings.agreement(graded, level="nominal").level == "nominal"
    assert "free texts" in ratings.agreement(told).verdict["en"] and ratings.agreement(told).alpha is None
    assert ratings.disagreements(told).empty and ratings.close(told).about["agreement"] == []


def test_a_late_rating_counts_when_one_of_the_k_is_taken_back(store: Store, ratings: Ratings, clock: Clock) -> None:
    campaign = ratings.create("1人", store_answers(store, 1), k=1, timeout_s=60)
    slow = ratings.next(campaign, rater="slow")
    clock.wait(61)
    quick = ratings.next(campaign, rater="quick")
    assert slow is not None and quick is not None
    first = ratings.submit(quick, 4)
    assert "late" in ratings.submit(slow, 2).flags
    ratings.withdraw(first.id, rater="quick")
    assert {claim.rater: claim.state for claim in store.find(Claim, campaign_id=campaign.id)} == {"slow": "done", "quick": "open"}
    assert ratings.progress(campaign).complete and Ratings(store).progress(campaign).complete
