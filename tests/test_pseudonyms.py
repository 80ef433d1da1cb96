"""Pseudonyms of raters, and which votes count."""

from __future__ import annotations

import hashlib
import hmac
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from llmops_kit.pseudonyms import KEY_NOTE, pseudonym, pseudonym_key
from llmops_kit.settings import Settings
from llmops_kit.store import Store
from llmops_kit.types import Note, Vote
from llmops_kit.votes import effective

START = datetime(2025, 4, 1, tzinfo=UTC)


def test_the_key_is_made_once_and_stays(store: Store, settings: Settings) -> None:
    key = pseudonym_key(store)
    assert len(key) == 32 and key == pseudonym_key(store) == pseudonym_key(Store(settings.store_url))
    assert [note.value for note in store.find(Note, id=KEY_NOTE)] == [key.hex()]


def test_many_who_ask_at_once_get_the_same_key(settings: Settings) -> None:
    stores = [Store(settings.store_url) for _ in range(4)]
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(pseudonym_key, stores * 4))) == 1


def test_a_pseudonym_is_an_hmac_that_another_workspace_does_not_share() -> None:
    key = bytes(range(32))
    assert pseudonym(key, "花子") == "rater-" + hmac.new(key, "花子".encode(), hashlib.sha256).hexdigest()[:8]
    assert pseudonym(key, "花子") != pseudonym(key[::-1], "花子") != pseudonym(key[::-1], "太郎")
    assert pseudonym(key, "\ud800").startswith("rater-")


def vote(id: str, second: int, choice: str = "A", *, rater: str = "r", runs: tuple[str, str] = ("x", "y"), supersedes: str | None = None) -> Vote:
    left, right = runs
    at = START + timedelta(seconds=second)
    return Vote(id, at, rater, "item", left, right, f"model-{left}", f"model-{right}", choice, supersedes=supersedes)  # type: ignore[arg-type]


def counted(*votes: Vote) -> list[str]:
    shuffled = [*votes, votes[0]]
    random.Random(len(votes)).shuffle(shuffled)
    return [each.id for each in effective(shuffled)]


def test_the_newest_vote_on_a_pair_counts_whichever_was_left() -> None:
    assert counted(vote("1", 1), vote("2", 2, "B", runs=("y", "x"))) == ["2"]
    assert counted(vote("1", 1), vote("2", 2, rater="other")) == ["1", "2"]
    assert counted(vote("1", 1), vote("2", 2, runs=("x", "z"))) == ["1", "2"]
    assert counted(vote("1", 1), replace(vote("2", 2), campaign_id="c")) == ["1", "2"]


def test_a_vote_taken_back_does_not_count_and_what_was_before_does() -> None:
    first, second = vote("1", 1), vote("2", 2, "B", supersedes="1")
    assert counted(first, vote("w", 2, "withdrawn", supersedes="1")) == []
    assert counted(first, second) == ["2"]
    assert counted(first, second, vote("w", 3, "withdrawn", supersedes="2")) == ["1"]
    assert counted(vote("1", 1), vote("2", 2), vote("w", 3, "withdrawn", supersedes="2")) == ["1"]
    assert counted(first, vote("w", 2, "withdrawn", supersedes="1"), vote("3", 3, "tie")) == ["3"]


def test_nobody_takes_back_the_vote_of_another() -> None:
    assert counted(vote("1", 1), vote("w", 2, "withdrawn", supersedes="1", rater="other")) == ["1"]
