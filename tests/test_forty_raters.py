"""Forty people vote and rate at once through the real app, while models write: no vote is lost, crossed, doubled or kept waiting.

`LLMOPS_TEST_RATERS=40x20` is the whole room; the default suite has forty people with a few items each.
"""

from __future__ import annotations

import html
import json
import os
import re
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from llmops_kit import open_kit
from llmops_kit.models import Models
from llmops_kit.settings import Settings
from llmops_kit.types import Campaign, Comparison, Feedback, Run, Vote, new_id, now
from tests.app_client import AppClient
from tests.app_process import start_app
from tests.rated_runs import make_answer
from tests.tiny_model import build_tiny_model

PEOPLE, ITEMS = (int(part) for part in os.environ.get("LLMOPS_TEST_RATERS", "40x3").split("x"))
WRITERS = 60 if ITEMS > 5 else 24
"""People whose answers take long, one after the other: the last of them still waits when all votes are in."""


def prepare(workspace: Path) -> tuple[Comparison, Campaign]:
    """A test set answered by two variants, and a campaign over the answers of one of them that everybody rates."""
    with open_kit(workspace) as kit:
        rows = [{"item": str(number), "variables": {"text": f"質問{number}"}, "expected": None, "tags": []} for number in range(ITEMS)]
        spec = {"prompt": {"name": "summarize"}, "rows": rows, "variants": [{"label": "kita"}, {"label": "minami"}], "baseline": "kita"}
        comparison = Comparison(new_id(), now(), "local", spec)
        runs = [
            make_answer(number, variant, app=f"compare:{comparison.id}", output=f"【{variant}】の答え{number}")
            for number in range(ITEMS)
            for variant in ("kita", "minami")
        ]
        kit.store.commit(lambda change: [change.append(record) for record in (comparison, *runs)])
        campaign = kit.feedback.create("みんなで", [run for run in runs if run.variant == "kita"], rubric="score", k=PEOPLE)
        return comparison, campaign


def vote_all(url: str, number: int, comparison: str, like: AppClient) -> tuple[str, list[float]]:
    """Person `number` votes on every item for the variant they like; even numbers like the one, odd numbers the other. Seconds of each vote."""
    liked, took = ("kita", "minami")[number % 2], []
    with AppClient(url, like=like) as page:
        page.call("open_duel")
        page.set("duel-comparison", comparison)
        page.call("choose_duel")
        while page.value("duel-shown"):
            left, right = re.findall(r"【(\w+)】の答え", page.value("duel-pair"))
            assert {left, right} == {"kita", "minami"}
            started = time.monotonic()
            page.call("vote_a" if left == liked else "vote_b")
            took.append(time.monotonic() - started)
            page.call("next_pair")
        return page.user, took


def rate_all(url: str, number: int, campaign: str, like: AppClient) -> str:
    """Person `number` gives every answer the score that is right for their number and the item."""
    with AppClient(url, like=like) as page:
        page.call("open_rating")
        page.set("feedback-campaign", campaign)
        page.call("choose_campaign")
        for _ in range(ITEMS):
            form = page.value("feedback-form")
            token = html.unescape(re.search(r"data-token='([^']*)'", form)[1])  # type: ignore[index]
            item = int(re.search(r"の答え(\d+)", page.value("feedback-task"))[1])  # type: ignore[index]
            sent = {"token": token, "chosen": {"score": str((number + item) % 5 + 1)}, "comment": f"{number}番の人より、{item}へ🙂", "correction": ""}
            page.call("submit_rating", sent=json.dumps(sent))
            assert "role='alert'" not in page.value("feedback-note"), page.value("feedback-note")
        return page.user


def ask_for_long(page: AppClient) -> None:
    """Somebody asks a model for an answer that takes long, and waits."""
    page.call("open_page")
    page.set("model-0", "endless")
    page.call("ask_prompt")
    page.start("stream_0")


def test_forty_people_vote_and_rate_while_models_write(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    endless = build_tiny_model(tmp_path / "endless", context_tokens=4096, layers=8, endless=True)
    Models(Settings(workspace=workspace)).add(
        "endless", provider="huggingface", model=str(endless), context_tokens=4096, dtype="float32", default_params={"max_tokens": 4000}
    )
    comparison, campaign = prepare(workspace)
    with ExitStack() as pages, start_app(workspace, LLMOPS_DRAIN_S="1", LLMOPS_LOCAL_SLOTS="1") as app, ThreadPoolExecutor(PEOPLE) as people:
        first = pages.enter_context(AppClient(app.url))
        for _ in range(WRITERS):
            ask_for_long(pages.enter_context(AppClient(app.url, like=first)))
        voted = list(people.map(lambda number: vote_all(app.url, number, comparison.id, first), range(PEOPLE)))
        rated = list(people.map(lambda number: rate_all(app.url, number, campaign.id, first), range(PEOPLE)))
        with open_kit(workspace) as kit:
            assert kit.store.count(Run, model="endless") < WRITERS, "somebody still waits for the model: no vote waited for it"
            votes, ratings = kit.store.find(Vote), kit.store.find(Feedback, campaign_id=campaign.id)
            status = kit.feedback.progress(campaign)
    assert len({user for user, _ in voted}) == PEOPLE
    assert Counter(vote.rater for vote in votes) == {user: ITEMS for user, _ in voted}
    for number, (user, _) in enumerate(voted):
        own = [vote for vote in votes if vote.rater == user]
        chosen = {vote.item: vote.left_variant if vote.choice == "A" else vote.right_variant for vote in own}
        assert len(chosen) == ITEMS and set(chosen.values()) == {("kita", "minami")[number % 2]}
    assert (status.done, status.total) == (PEOPLE * ITEMS, PEOPLE * ITEMS)
    with open_kit(workspace) as kit:
        items = {run.id: int(run.item) for run in kit.store.find(Run, app=f"compare:{comparison.id}")}  # type: ignore[arg-type]
    for number, user in enumerate(rated):
        own_ratings = [rating for rating in ratings if rating.rater == user]
        assert {items[rating.run_id]: rating.score for rating in own_ratings} == {item: (number + item) % 5 + 1 for item in range(ITEMS)}
        assert {rating.comment for rating in own_ratings} == {f"{number}番の人より、{item}へ🙂" for item in range(ITEMS)}
    seconds = sorted(each for _, took in voted for each in took)
    print(f"{len(seconds)} votes: p50 {seconds[len(seconds) // 2]:.3f} s, p99 {seconds[int(len(seconds) * 0.99)]:.3f} s")
