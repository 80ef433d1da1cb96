"""A full disk and a read-only one: who rates hears that it was not saved, nothing is half written, and it works again afterwards."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from llmops_kit import open_kit
from llmops_kit.errors import KitError, NotSaved, WorkspaceError
from llmops_kit.kit import Kit
from llmops_kit.types import Feedback, OutboxItem, Vote, new_id
from tests.faults.rate_until_killed import make_run
from tests.test_store import held_back, make_rating

SIZE_MB = 8


def mount(*arguments: str) -> None:
    """Raises `pytest.skip` where this machine does not let us."""
    program = shutil.which("mount")
    if program is None or os.geteuid() != 0:
        pytest.skip("only root can mount a disk")
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mount("-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(place))
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(params=["disk", "pages"])
def full(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Kit, Callable[[], None], Callable[[], None]]]:
    """A kit, what fills its disk, and what gives the space back: a real disk, and a database that may not grow."""
    if request.param == "disk":
        place = request.getfixturevalue("small_disk")
        ballast = place / "ballast"

        def fill() -> None:
            with ballast.open("ab", buffering=0) as file:
                for size in (1 << 16, 1 << 12, 1):
                    try:
                        while file.write(b"x" * size):
                            pass
                    except OSError:
                        continue

        with open_kit(place / "workspace") as kit:
            yield kit, fill, ballast.unlink
        return
    with open_kit(tmp_path / "workspace") as kit:
        yield kit, lambda: limit_pages(kit, 1), lambda: limit_pages(kit, 1_000_000)  # 1: no further page than there are


def limit_pages(kit: Kit, pages: int) -> None:
    """Let the database grow to so many pages of 4 KiB; SQLite says then what it says of a full disk."""

    def configure(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    sa.event.listen(kit.store._engine, "connect", configure)
    kit.store._engine.dispose()


def rate_until_refused(kit: Kit, rate: Callable[[str], object]) -> tuple[list[str], str, KitError]:
    """The ids that were acknowledged, the one that was refused, and how."""
    acknowledged: list[str] = []
    for _ in range(20_000):
        id = new_id()
        try:
            rate(id)
        except KitError as fault:
            return acknowledged, id, fault
        acknowledged.append(id)
    raise AssertionError("the disk never filled")


def check_whole(kit: Kit, acknowledged: list[str], refused: list[str]) -> None:
    """What was acknowledged is there, what was refused is not, every event is in the outbox once, and the file is sound."""
    events = [*kit.store.values(Feedback, ("id",)), *kit.store.values(Vote, ("id",))]
    ids = [id for (id,) in events]
    assert sorted(ids) == sorted(acknowledged) and not {*ids} & {*refused}
    published = [id for kind, id in kit.store.values(OutboxItem, ("kind", "record_id")) if kind in ("feedback", "vote")]
    assert sorted(published) == sorted(ids)
    with kit.store._engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"


@pytest.mark.parametrize("door", ["rate", "vote", "append"])
def test_on_a_full_disk_a_rating_is_refused_whole_and_saved_when_there_is_space(full: tuple[Kit, Callable[[], None], Callable[[], None]], door: str) -> None:
    kit, fill, give_back = full
    runs = [make_run(number) for number in range(2)]
    for run in runs:
        kit.store.append(run)
    words = "長いコメントです。" * 40
    doors: dict[str, Callable[[str], object]] = {
        "rate": lambda id: kit.feedback.rate(runs[0], 4, comment=words, id=id),
        "vote": lambda id: kit.comparison.vote((runs[0], runs[1]), "A", comment=words, id=id),
        "append": lambda id: kit.store.append(make_rating(1, id=id, comment=words), publish="feedback"),
    }
    acknowledged = [new_id()]
    doors[door](acknowledged[0])
    fill()
    more, refused, fault = rate_until_refused(kit, doors[door])
    acknowledged += more
    assert isinstance(fault, WorkspaceError if door == "append" else NotSaved)
    assert "full" in fault.text("en")
    if door != "append":
        assert "NOT saved" in fault.text("en") and "保存されていません" in fault.text("ja")
    for _ in range(3):  # it stays refused, and reading works meanwhile
        with pytest.raises(KitError):
            doors[door](refused)
    check_whole(kit, acknowledged, [refused])
    if door == "rate":
        assert len(kit.feedback.events(runs[0], every=True)) == len(acknowledged)
    give_back()
    doors[door](refused)
    check_whole(kit, [*acknowledged, refused], [])


def test_a_large_record_that_does_not_fit_takes_no_small_one_with_it(tmp_path: Path) -> None:
    """SQLite undoes the whole transaction where the disk is full: those who shared it are written all the same."""
    small, large = [make_rating(number) for number in range(6)], make_rating(9, comment="大" * (3 << 20))
    with open_kit(tmp_path / "workspace") as kit:
        limit_pages(kit, 1_500)
        with held_back(kit.store) as start:
            told = [start(lambda rating=rating: kit.store.append(rating, publish="feedback")) for rating in (*small[:3], large, *small[3:])]
        assert [each.result() for each in (*told[:3], *told[4:])] == [True] * 6
        with pytest.raises(WorkspaceError, match="full"):
            told[3].result()
        check_whole(kit, [each.id for each in small], [large.id])


def test_on_a_disk_that_became_read_only_a_rating_is_refused_and_answers_are_still_read(tmp_path: Path) -> None:
    with open_kit(tmp_path / "workspace") as kit:
        run = make_run(0)
        kit.store.append(run)
        kept = kit.feedback.rate(run, 5)
        switched = ["ON"]

        def configure(connection: sqlite3.Connection, *_: object) -> None:
            connection.execute(f"PRAGMA query_only={switched[0]}")  # SQLite says then what it says of a disk that the system has locked

        sa.event.listen(kit.store._engine, "connect", configure)
        kit.store._engine.dispose()
        id = new_id()
        for refuse in (lambda: kit.feedback.rate(run, 3, id=id), lambda: kit.feedback.withdraw(kept.id)):
            with pytest.raises(NotSaved, match="readonly") as refused:
                refuse()
            assert "保存されていません" in refused.value.text("ja")
        assert kit.feedback.events(run) == [kept]
        switched[0] = "OFF"
        kit.store._engine.dispose()
        kit.feedback.rate(run, 3, id=id)
        check_whole(kit, [kept.id, id], [])


def test_a_read_only_disk(small_disk: Path) -> None:
    """A real one. Linux makes a disk read-only only when nobody has a file of it open for writing, so the connections are closed first."""
    with open_kit(small_disk / "workspace") as kit:
        run = make_run(0)
        kit.store.append(run)
        kept, id = kit.feedback.rate(run, 5), new_id()
        kit.store._engine.dispose()
        mount("-o", "remount,ro", str(small_disk))
        try:
            with pytest.raises(NotSaved):
                kit.feedback.rate(run, 3, id=id)
            with pytest.raises(WorkspaceError, match="--workspace"):
                open_kit(small_disk / "workspace")
        finally:
            mount("-o", "remount,rw", str(small_disk))
        kit.feedback.rate(run, 3, id=id)
        check_whole(kit, [kept.id, id], [])
