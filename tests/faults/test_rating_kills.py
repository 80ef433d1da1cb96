"""Rating and syncing killed at random moments: no acknowledged rating is lost, none is doubled, and W&B's tables are complete after a sync."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_kit import open_kit
from llmops_kit.kit import Kit
from llmops_kit.tracking import read_table
from llmops_kit.types import Feedback, OutboxItem, Run, Vote
from tests.app_process import find_free_port
from tests.faults.rate_until_killed import RUNS, Told, main
from tests.wandb_server import WandbServer

KILLS = int(os.environ.get("LLMOPS_TEST_KILLS", "6"))
"""The suite has little time; the figure in BENCHMARKS.md is of 200."""
LONGEST_S = 5.0
"""Most are shorter: W&B takes a second or two to open a run, and is to be killed before, in and after that."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A W&B server with a key for it."""
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    opened = WandbServer()
    yield opened
    opened.stop()


def kill_once(workspace: Path, told: Told, told_path: Path, base_url: str | None, seed: int, moments: random.Random) -> None:
    """Start one, and kill it: one time in five while it opens the workspace, else while it rates; alone, or with W&B's processes."""
    forks = multiprocessing.get_context("forkserver")
    forks.set_forkserver_preload(["tests.faults.rate_until_killed"])
    process = forks.Process(target=main, args=(str(workspace), str(told_path), base_url, seed), daemon=True)
    before = told_path.stat().st_size
    process.start()
    assert process.pid
    give_up = time.monotonic() + 60
    while seed % 5 and b'"started"' not in told_path.read_bytes()[before:]:
        assert process.is_alive() and time.monotonic() < give_up, told.read()
        time.sleep(0.02)
    time.sleep(LONGEST_S * moments.random() ** 2)
    with_all = seed % 3 == 0 and os.getpgid(process.pid) == process.pid
    (os.killpg if with_all else os.kill)(process.pid, signal.SIGKILL)
    process.join(30)
    assert process.exitcode == -signal.SIGKILL, told.read()


def test_no_acknowledged_rating_is_lost_or_doubled_by_kills(tmp_path: Path, server: WandbServer) -> None:
    workspace, told_path = tmp_path / "workspace", tmp_path / "told"
    told = Told(told_path)
    moments = random.Random(os.environ.get("LLMOPS_TEST_SEED", "7"))
    places = [None, server.url, None, f"http://127.0.0.1:{find_free_port()}"]  # offline, online, and online where nobody listens
    for kill in range(KILLS):
        kill_once(workspace, told, told_path, places[kill // 2 % len(places)], kill, moments)
    tried, acknowledged = told.read()
    assert len(acknowledged) > 5 * KILLS, "it was killed before it could rate: nothing was tried"
    with sqlite3.connect(workspace / "kit.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with open_kit(workspace, wandb_mode="online", wandb_base_url=server.url) as kit:
        lost, doubled = check_store(kit, tried, acknowledged)
        print(f"\n{KILLS} kills, {len(tried)} tried, {len(acknowledged)} acknowledged, {lost} lost, {doubled} doubled in the store")  # seen with -s
        assert (lost, doubled) == (0, 0)
        report = kit.tracking.sync(progress=False)
        assert report.complete, report
        check_tables(kit, workspace, server)
    assert server.unknown == []


def check_store(kit: Kit, tried: dict[str, dict[str, object]], acknowledged: set[str]) -> tuple[int, int]:
    """How many are lost, how many doubled. Raises `AssertionError` for what is half there."""
    kept = {kind: [record.id for record in kit.store.find(kind)] for kind in (Feedback, Vote)}
    for kind, name in ((Feedback, "feedback"), (Vote, "vote")):
        published = [id for kind_of, id in kit.store.values(OutboxItem, ("kind", "record_id")) if kind_of == name]
        assert sorted(published) == sorted(kept[kind]), f"half there: {Counter(published) - Counter(kept[kind])}, {Counter(kept[kind]) - Counter(published)}"
    every = [*kept[Feedback], *kept[Vote]]
    assert {*every} <= {*tried}
    assert {*kept[Vote]} == {id for id in every if tried[id]["vote"]}
    for rating in kit.store.find(Feedback):
        assert rating.scores["score"] == tried[rating.id]["score"] and rating.rater == tried[rating.id]["rater"]
    return len(acknowledged - {*every}), len(every) - len({*every})


def check_tables(kit: Kit, workspace: Path, server: WandbServer) -> None:
    """Every event is in W&B's tables once: as they are read back from the files, and, with nothing taken out, as the server shows them."""
    ratings = kit.store.find(Feedback)
    expected = {
        "runs": [run.id for run in kit.store.find(Run)],
        "feedback": [rating.id if not number else f"{rating.id}:{name}" for rating in ratings for number, name in enumerate(rating.scores)],
        "votes": [vote.id for vote in kit.store.find(Vote)],
    }
    assert len(expected["runs"]) == RUNS
    for name, ids in expected.items():
        table = read_table(workspace, name)
        assert sorted(table.iloc[:, 0]) == sorted(ids), name
        rows = server.table(name)
        shown = [next(iter(row.values())) for row in rows]
        doubled = {id: count for id, count in Counter(shown).items() if count > 1}
        assert not doubled, f"{name}: {len(doubled)} doubled at the server"
        assert sorted(shown) == sorted(ids), f"{name} at the server"
