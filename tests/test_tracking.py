"""The W&B projection: every row of the store is in the offline file, once, whatever was killed in between."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import psutil
import pytest

from llmops_kit import open_kit
from llmops_kit.settings import Settings
from llmops_kit.store import Store
from llmops_kit.tracking import Tracking, read_table
from llmops_kit.tracking.answers import RUN_COLUMNS
from llmops_kit.tracking.offline import find_sessions, read_records
from llmops_kit.types import Grid, Message, OutboxItem, Run, Source, now

KEY = "canary0key" * 4
TEXTS = ("有給休暇は何日ですか。", "👩‍👩‍👧 emoji 𠮷野家", "plain\nlines\t\"quoted\"", "", "‮right-to-left", "{'a': 1}")


def make_run(number: int = 0, **fields: object) -> Run:
    """A run with Japanese, emoji and empty fields in every combination."""
    text = TEXTS[number % len(TEXTS)]
    values: dict[str, object] = {
        "id": str(uuid.uuid4()),
        "created_at": now() + timedelta(milliseconds=number),
        "participant": "参加者",
        "app": "playground",
        "model": "starter-lm",
        "messages": (Message("system", "丁寧に"), Message("user", text)),
        "prompt_sha256": "0" * 64,
        "prompt_name": "summarize" if number % 2 else None,
        "prompt_version": number if number % 3 else None,
        "variables": {"text": text, "数": number},
        "params": {"temperature": 0 if number % 2 else 0.7, "stop": ["。"], "api_key": KEY},
        "sources": (Source("社則.pdf", "第1条", page=1),) if number % 4 == 0 else (),
        "output": f"{text} {number}",
        "finish_reason": None if number % 5 == 0 else "stop",
        "input_tokens": number if number % 2 else None,
        "output_tokens": number,
        "ttft_s": 0.125 if number % 2 else None,
        "latency_s": 1.5,
        "cost": None,
        "error": "止まりました" if number % 7 == 0 else None,
    }
    return Run(**{**values, **fields})  # type: ignore[arg-type]


def append(store: Store, count: int, **fields: object) -> list[Run]:
    """Append `count` runs for publishing."""
    runs = [make_run(number, **fields) for number in range(count)]
    for run in runs:
        assert store.append(run, publish="run")
    return runs


def wait_until(met: Callable[[], bool], within_s: float = 30.0) -> None:
    """Wait for `met`, failing after `within_s`."""
    give_up = time.monotonic() + within_s
    while not met():
        assert time.monotonic() < give_up, "did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def tracking(store: Store, settings: Settings) -> Iterator[Tracking]:
    """The tracking of an offline workspace."""
    opened = Tracking(store, settings)
    yield opened
    opened.close()


def raw_ids(workspace: Path, table: str = "runs") -> list[str]:
    """Row ids in the table files of all run folders, repeats included."""
    files = sorted(workspace.glob(f"wandb/*run-*/files/media/table/{table}_*.table.json"))
    return [row[0] for file in files for row in json.loads(file.read_text(encoding="utf-8"))["data"]]


class Terminal(io.StringIO):
    """What somebody at a terminal sees of stderr."""

    def isatty(self) -> bool:
        return True


def test_sync_and_rebuild_tell_how_far_they_are(tracking: Tracking, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    append(store, 450)
    seen: list[tuple[int, int, float | None]] = []
    tracking.sync(progress=lambda *step: seen.append(step))
    assert [step[:2] for step in seen] == [(200, 450), (400, 450), (450, 450)]
    assert seen[0][2] and seen[-1][2] == 0
    seen.clear()
    tracking.rebuild(progress=lambda *step: seen.append(step))
    assert [step[:2] for step in seen][-1] == (450, 450)
    for progress, shown in ((None, True), (False, False)):
        terminal = Terminal()
        monkeypatch.setattr(sys, "stderr", terminal)
        tracking.rebuild(progress=progress)
        assert ("450/450" in terminal.getvalue()) is shown
        assert tracking.sync().sent == 0


def test_rows_read_back_equal_to_store(tracking: Tracking, store: Store, workspace: Path) -> None:
    runs = append(store, 300)
    report = tracking.sync()
    assert (report.sent, report.found_missing, report.waiting, report.error) == (300, 0, 0, None)
    assert report.complete
    table = read_table(workspace, "runs")
    assert list(table.columns) == list(RUN_COLUMNS)
    assert list(table["run_id"]) == [run.id for run in runs] == raw_ids(workspace)
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    for run, row in zip(runs, rows, strict=True):
        stored = store.get(Run, run.id)
        assert stored is not None
        assert row["output"] == stored.output
        assert (row["prompt_template_id"], row["finish_reason"], row["error"]) == (stored.prompt_name, stored.finish_reason, stored.error)
        assert (row["prompt_template_version"], row["input_tokens"]) == (stored.prompt_version, stored.input_tokens)
        assert json.loads(row["variables"]) == stored.variables
        assert json.loads(row["messages"]) == [{"role": turn.role, "content": turn.content} for turn in stored.messages]
        assert [source["document"] for source in json.loads(row["contexts"])] == [source.document for source in stored.sources]
        assert (row["temperature"], json.loads(row["stop"])) == (stored.params["temperature"], ["。"])
        assert row["ttft_ms"] == (None if stored.ttft_s is None else 125.0)
        assert (row["latency_ms"], row["cost_usd"], row["created_at"]) == (1500.0, None, stored.created_at.isoformat())
    status = tracking.status()
    assert (status.mode, status.sent, status.waiting, status.last_error) == ("offline", 300, 0, None)


def test_japanese_stays_readable_in_variables(tracking: Tracking, store: Store, workspace: Path) -> None:
    append(store, 1)
    tracking.sync()
    assert "有給休暇は何日ですか。" in read_table(workspace, "runs")["variables"][0]


def test_secrets_host_and_person_stay_out(tracking: Tracking, store: Store, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    append(store, 3)
    assert tracking.sync().complete
    files = [path for path in (workspace / "wandb").rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if KEY.encode() in path.read_bytes()]
    (log,) = (workspace / "wandb").glob("offline-run-*/run-*.wandb")
    kinds = {record.WhichOneof("record_type"): record for record, _ in read_records(log)}
    run = kinds["run"].run
    assert (run.host, run.project, run.entity) == ("", "llmops_kit", "")
    assert not {"environment", "output", "output_raw", "stats"} & kinds.keys()
    tables = b"".join(path.read_bytes() for path in (workspace / "wandb").rglob("*.table.json"))
    assert str(workspace).encode() not in tables
    assert not [path for path in workspace.parent.iterdir() if path != workspace]


def test_grid_has_a_table_of_its_own(tracking: Tracking, store: Store, workspace: Path) -> None:
    grid = Grid(str(uuid.uuid4()), now(), "local", {"prompts": ["summarize"], "models": ["starter-lm", "starter-reader"]})
    store.append(grid, publish="grid")
    cells = append(store, 7, app=f"grid:{grid.id.replace('-', '')}")
    append(store, 2)
    assert tracking.sync().complete
    listed = read_table(workspace, "grids").iloc[0]
    assert (listed["grid_id"], json.loads(listed["spec"])["prompts"]) == (grid.id, ["summarize"])
    table = read_table(workspace, listed["table"])
    stored = store.find(Run, app=f"grid:{grid.id.replace('-', '')}")
    assert {*table["run_id"]} == {run.id for run in stored} == {run.id for run in cells}
    assert len(read_table(workspace, "runs")) == 9


def test_background_relay_and_stable_run_id(store: Store, settings: Settings, workspace: Path) -> None:
    for _ in range(2):
        tracking = Tracking(store, settings)
        tracking.start()
        tracking.start()
        append(store, 5)
        wait_until(lambda: tracking.status().waiting == 0)  # noqa: B023
        tracking.close()
    assert len(read_table(workspace, "runs")) == 10
    assert len({session.name.partition("-kit-")[2] for session in find_sessions(workspace)}) == 1
    assert sorted(raw_ids(workspace)) == sorted(run.id for run in store.find(Run))


def test_close_sends_what_waits_within_its_bound(store: Store, settings: Settings, workspace: Path) -> None:
    tracking = Tracking(store, settings)
    tracking.start()
    append(store, 20)
    begin = time.monotonic()
    tracking.close()
    assert time.monotonic() - begin < 10
    assert len(read_table(workspace, "runs")) == 20
    tracking.close()


def test_nothing_is_imported_or_written_before_there_is_a_row(settings: Settings, workspace: Path) -> None:
    program = (
        "import sys, time; from llmops_kit.settings import Settings; from llmops_kit.store import Store; from llmops_kit import tracking as package\n"
        f"settings = Settings(workspace={str(workspace)!r}); store = Store(settings.store_url)\n"
        "package._POLL_S = 0.05; tracking = package.Tracking(store, settings); tracking.start(); time.sleep(0.5); tracking.status(); tracking.close()\n"
        "assert not {'wandb', 'pandas', 'torch', 'filelock'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert not (workspace / "wandb").exists()


RELAYING = """
import sys, threading, uuid
sys.path.insert(0, {tests!r})
from test_tracking import make_run
from llmops_kit.settings import Settings, silence_libraries
from llmops_kit.store import Store
from llmops_kit import tracking as package
package._POLL_S = 0.05
settings = Settings(workspace={workspace!r}); silence_libraries(settings)
store = Store(settings.store_url); tracking = package.Tracking(store, settings); tracking.start()
for number in range(100_000):
    run = make_run(number)
    store.append(run, publish="run")
    print(run.id, flush=True)
"""


@pytest.mark.parametrize("after_s", [2.5, 3.4])
def test_kill_loses_no_row_and_doubles_none(store: Store, settings: Settings, workspace: Path, after_s: float) -> None:
    program = RELAYING.format(tests=str(Path(__file__).parent), workspace=str(workspace))
    alone = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}  # else it would use this process's helper
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True, env=alone)
    try:
        wait_until(lambda: store.count(OutboxItem) - store.count(OutboxItem, sent_at=None) > 10)
        time.sleep(after_s - 2.4)
    finally:
        helpers = psutil.Process(child.pid).children(recursive=True)
        for process in (*helpers, child):
            process.send_signal(signal.SIGKILL)
    acknowledged = child.communicate(timeout=30)[0].split()[:-1]
    tracking = Tracking(store, settings)
    tracking.start()
    report = tracking.sync()
    tracking.close()
    assert report.complete
    table = read_table(workspace, "runs")
    assert sorted(table["run_id"]) == sorted(run.id for run in store.find(Run))
    assert {*acknowledged} <= {*table["run_id"]}
    assert table["run_id"].is_unique


def test_rows_marked_sent_but_missing_in_the_file_go_again(store: Store, settings: Settings, workspace: Path) -> None:
    tracking = Tracking(store, settings)
    for _ in range(3):
        append(store, 10)
        tracking._relay.send()  # three steps in one open run
    tracking.close()
    (log,) = (workspace / "wandb").glob("offline-run-*/run-*.wandb")
    log.write_bytes(log.read_bytes()[: log.stat().st_size * 2 // 3])
    (first, *_) = sorted((workspace / "wandb").rglob("runs_0_*.table.json"))
    first.unlink()
    assert len(read_table(workspace, "runs")) < 20
    report = Tracking(store, settings).sync()
    assert report.complete
    assert report.found_missing >= 20
    assert sorted(read_table(workspace, "runs")["run_id"]) == sorted(run.id for run in store.find(Run))


def test_deleted_folder_is_written_again_and_a_cleaned_run_is_not(store: Store, settings: Settings, workspace: Path) -> None:
    import shutil

    append(store, 5)
    assert Tracking(store, settings).sync().complete
    for session in find_sessions(workspace):
        shutil.rmtree(session)
    assert Tracking(store, settings).sync().sent == 0
    shutil.rmtree(workspace / "wandb")
    assert Tracking(store, settings).sync().sent == 5
    assert len(read_table(workspace, "runs")) == 5


def test_rebuild_makes_a_fresh_run_without_doubles(tracking: Tracking, store: Store, workspace: Path) -> None:
    append(store, 30)
    tracking.sync()
    (old,) = find_sessions(workspace)
    append(store, 5)
    report = tracking.rebuild()
    assert (report.sent, report.complete) == (35, True)
    (fresh,) = find_sessions(workspace)
    assert fresh.name.partition("-kit-")[2] != old.name.partition("-kit-")[2]
    assert sorted(raw_ids(workspace)) == sorted(run.id for run in store.find(Run))
    assert (workspace / "wandb" / "replaced" / old.name).is_dir()
    assert tracking.sync().sent == 0


def test_dead_helper_process_is_recovered_from(tracking: Tracking, store: Store, workspace: Path) -> None:
    append(store, 3)
    tracking._relay.send()
    (helper,) = [process for process in psutil.Process().children(recursive=True) if "wandb-core" in process.name()]
    helper.kill()
    helper.wait(10)
    append(store, 3)
    report = tracking.sync()
    assert report.complete, report.error
    assert sorted(read_table(workspace, "runs")["run_id"]) == sorted(run.id for run in store.find(Run))


def test_only_local_sockets(tracking: Tracking, store: Store) -> None:
    append(store, 3)
    tracking._relay.send()
    processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
    connections = [one for process in processes for one in process.net_connections("inet")]
    assert not [one for one in connections if one.raddr and not one.raddr.ip.startswith(("127.", "::1"))]
    assert not [one for one in connections if one.status == "LISTEN" and not one.laddr.ip.startswith(("127.", "::1"))]


def test_no_key_means_no_prompt_and_no_server(workspace: Path) -> None:
    program = (
        "from llmops_kit.settings import Settings; from llmops_kit.store import Store; from llmops_kit.tracking import Tracking\n"
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_tracking import append\n"
        f"settings = Settings(workspace={str(workspace)!r}, wandb_mode='online'); store = Store(settings.store_url)\n"
        "append(store, 3); tracking = Tracking(store, settings); report = tracking.sync(); assert report.complete, report\n"
        "assert tracking.status().mode == 'offline'; tracking.close()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "WANDB_API_KEY"}
    done = subprocess.run([sys.executable, "-c", program], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert len(read_table(workspace, "runs")) == 3


def test_unreachable_server_delays_nobody_and_backlog_drains_later(store: Store, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr("llmops_kit.tracking._POLL_S", 0.1)
    online = Settings(workspace=workspace, wandb_mode="online", wandb_base_url=f"http://127.0.0.1:{port}")
    tracking = Tracking(store, online)
    assert tracking.status().mode == "online"
    append(store, 1)
    tracking.start()
    slowest = 0.0
    while tracking.status().last_error is None:
        begin = time.monotonic()
        append(store, 1)
        slowest = max(slowest, time.monotonic() - begin)
        assert store.count(Run) < 3000, "no error was reported"
        time.sleep(0.02)
    status = tracking.status()
    assert (status.sent, status.waiting) == (0, store.count(Run))
    assert KEY not in str(status.last_error)
    assert slowest < 2.0
    begin = time.monotonic()
    tracking.close()
    assert time.monotonic() - begin < 10
    later = Tracking(store, Settings(workspace=workspace))
    wait_until(lambda: later.sync().complete)
    later.close()
    assert sorted(read_table(workspace, "runs")["run_id"]) == sorted(run.id for run in store.find(Run))


def test_wrong_key_is_reported_without_showing_it(store: Store, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short0secret")
    append(store, 1)
    tracking = Tracking(store, Settings(workspace=workspace, wandb_mode="online", wandb_base_url="http://127.0.0.1:9"))
    report = tracking.sync()
    assert (report.sent, report.waiting, report.complete) == (1, 1, False)  # in the file, but not at the server
    assert report.error
    assert "short0secret" not in report.error
    fault = tracking.status().fault
    assert fault is not None
    assert "W&Bサーバーhttp://127.0.0.1:9に接続できません" in fault.text("ja")
    tracking.close()


def test_workspaces_in_one_process_keep_to_their_folders(tmp_path: Path) -> None:
    kept = []
    for name in ("a", "b"):
        settings = Settings(workspace=tmp_path / name)
        store = Store(settings.store_url)
        kept.append((store, Tracking(store, settings)))
    for _ in range(2):
        for store, tracking in kept:
            append(store, 3)
            tracking._relay.send()
    for name, (store, tracking) in zip(("a", "b"), kept, strict=True):
        assert tracking.sync().complete
        assert len([*(tmp_path / name / "wandb" / "staging").rglob("tmp*")]) == 4  # two increments, an entry and a manifest each
        assert len(read_table(tmp_path / name, "runs")) == 6
        tracking.close()
        store.close()


def test_disabled_does_nothing(store: Store, workspace: Path) -> None:
    tracking = Tracking(store, Settings(workspace=workspace, wandb_mode="disabled"))
    append(store, 2)
    tracking.start()
    assert (tracking.status().mode, tracking.status().running, tracking.folder) == ("disabled", False, None)
    assert (tracking.sync().sent, tracking.rebuild().sent) == (0, 0)
    tracking.close()
    assert not (workspace / "wandb").exists()


def test_second_process_waits_instead_of_doubling(tracking: Tracking, store: Store, settings: Settings, workspace: Path) -> None:
    append(store, 3)
    tracking._relay.send()  # holds the workspace until it is synced or closed
    other = Tracking(store, settings)
    append(store, 2)
    report = other.sync()
    assert (report.sent, report.waiting) == (0, 2)
    assert "Another process" in str(report.error)
    assert tracking.sync().complete
    assert other.sync().complete
    assert sorted(raw_ids(workspace)) == sorted(run.id for run in store.find(Run))


def test_an_evaluation_becomes_one_row_and_one_per_question(tmp_path: Path) -> None:
    from llmops_kit.types import Evaluation, new_id, now

    with open_kit(tmp_path / "workspace") as kit:
        rows = [{"question": "有給は何日？", "rank": 1, "score_em": 1.0, "extra": "x"}, {"question": "Hotels?", "rank": None}]
        evaluation = Evaluation(new_id(), now(), "hanako", "retrieval", {"k": 5}, rows, [{"metric": "hit@5", "value": 0.5, "n": 2}])
        kit.store.append(evaluation, publish="evaluation")
        assert kit.store.find(Evaluation) == [evaluation]
        kit.tracking.sync()
        files = [json.loads(path.read_text(encoding="utf-8")) for path in kit.tracking.folder.rglob("*.table.json")]
    items = [dict(zip(file["columns"], row, strict=True)) for file in files if "item_id" in file["columns"] for row in file["data"]]
    assert [(item["question"], item["rank"], item["score_em"]) for item in items] == [("有給は何日？", 1, 1.0), ("Hotels?", None, None)]
    assert json.loads(items[0]["row"])["extra"] == "x"
    (whole,) = [row for file in files if file["columns"][0] == "evaluation_id" for row in file["data"]]
    assert whole[0] == evaluation.id and whole[4] == 2
