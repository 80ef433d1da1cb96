"""W&B runs of tuning jobs: settings, curves, samples and files with what they rest on, each once, offline and at a server on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from llmops_kit.settings import Settings
from llmops_kit.store import Store
from llmops_kit.tracking import Tracking
from llmops_kit.tracking.offline import find_sessions, read_records
from llmops_kit.tracking.tuning import settle, view_job
from llmops_kit.types import Job, JobEvent, new_id, now
from tests.wandb_server import WandbServer

KEY = "k" * 40
SPEC = {"base": "starter-lm", "data": "/home/hanako/secret place/polite.csv", "rank": 8, "wandb": True, "api_key": "never"}


@pytest.fixture
def tracking(store: Store, settings: Settings) -> Iterator[Tracking]:
    """The tracking of an offline workspace."""
    opened = Tracking(store, settings)
    yield opened
    opened.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A W&B server with a key for it."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    opened = WandbServer()
    yield opened
    opened.stop()


def make_job(store: Store, settings: Settings, *, steps: int = 4, made: bool = True, id: str = "job-1", **fields: Any) -> Job:
    """A finished tuning job with its events and files, as its process leaves them."""
    folder = settings.jobs_folder / id
    folder.mkdir(parents=True, exist_ok=True)
    head = {"name": "polite.csv", "kind": "sft", "format": "table", "sha256": "d" * 64, "source": SPEC["data"], "encoding": "utf-8"}
    rows = [{"id": str(number), "answer": f"かしこまりました{number}"} for number in range(3)]
    (folder / "data.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in (head, *rows)), encoding="utf-8")
    result: dict[str, Any] = {}
    if made:
        adapter = settings.adapters_folder / "starter-lm+polite"
        adapter.mkdir(parents=True, exist_ok=True)
        (adapter / "adapter_model.safetensors").write_bytes(b"weights")
        card = {"base": "starter-lm", "base_revision": "r1", "data_sha256": "d" * 64, "data_name": "polite.csv", "template_sha256": "t" * 64}
        (adapter / "card.json").write_text(json.dumps({**card, "spec": SPEC, "metrics": {"eval_loss": 0.5}}))
        result = {"adapter_path": str(adapter), "model": "starter-lm+polite"}
    moment = now()
    told: dict[str, Any] = {"state": "finished", "attempt": 1, "started_at": moment, "ended_at": moment + timedelta(seconds=9), "result": result}
    job = Job(id, moment, "local", "tune", "polite", **{"spec": SPEC, **told, **fields})
    store.commit(lambda change: change.put(job))
    train(store, id, range(steps + 1))
    return job


def train(store: Store, id: str, steps: range, attempt: int = 1) -> None:
    """The events of these steps; every second one is evaluated."""

    def event(kind: str, step: int, **data: Any) -> JobEvent:
        return JobEvent(new_id(), id, now(), attempt, step, kind, data)

    events = [event("started", 0, device="cpu", dtype="float32", steps=4, estimate={"seconds": 3})]
    for step in steps:
        if step:
            events.append(event("train", step, loss=1.0 / step, learning_rate=1e-4, tokens_per_s=900.0 + attempt, epoch=step / 4))
        if step % 2 == 0:
            events.append(event("eval", step, eval_loss=2.0 - step / 10, token_accuracy=0.5, epoch=step / 4))
            texts = {"prompt": "明日休みたい", "messages": [{"role": "user", "content": "明日休みたい"}], "expected": None, "base": "はい"}
            events.append(event("sample", step, **texts, text=f"かしこまりました（{step}）"))
            events.append(event("example", step, rank="worst", loss=3.5, prompt="?", expected="かしこまりました", text="はい"))
    store.commit(lambda change: [change.append(each) for each in events])


def records(workspace: Path, id: str = "job-1") -> list[Any]:
    """Everything in the W&B files of a job's run, in order."""
    folders = find_sessions(workspace / "wandb" / "jobs" / id)
    return [record for folder in folders for log in folder.glob("run-*.wandb") for record, _ in read_records(log)]


def lines(workspace: Path, id: str = "job-1") -> list[dict[str, Any]]:
    """The lines of the run's history."""
    found = [record.history for record in records(workspace, id) if record.WhichOneof("record_type") == "history"]
    return [{(item.key or "/".join(item.nested_key)): json.loads(item.value_json) for item in line.item} for line in found]


def table(workspace: Path, name: str, id: str = "job-1") -> list[dict[str, Any]]:
    """The rows of the newest table of this name."""
    path = max(
        (path for path in (workspace / "wandb" / "jobs" / id).glob(f"wandb/*run-*/files/media/table/{name}_*.json")), key=lambda each: each.stat().st_mtime_ns
    )
    read = json.loads(path.read_text(encoding="utf-8"))
    return [dict(zip(read["columns"], row, strict=True)) for row in read["data"]]


def test_run_of_a_job_holds_settings_curves_samples_and_files(tracking: Tracking, store: Store, settings: Settings, workspace: Path) -> None:
    job = make_job(store, settings)
    tracking.log_job(job)
    assert tracking.status().last_error is None and tracking.status().waiting == 0
    written = lines(workspace)
    curves = [line for line in written if "train/loss" in line or "eval/loss" in line]
    assert [line["step"] for line in curves] == [0, 1, 2, 3, 4] and [line["_step"] for line in written] == [*range(6)]
    assert curves[0] == {**curves[0], "eval/loss": 2.0} and "train/loss" not in curves[0]
    assert curves[4] == {**curves[4], "train/loss": 0.25, "eval/loss": 1.6, "eval/token_accuracy": 0.5, "train/learning_rate": 1e-4}
    assert [row["text"] for row in table(workspace, "samples")] == ["かしこまりました（0）", "かしこまりました（2）", "かしこまりました（4）"]
    sample = table(workspace, "samples")[0]
    assert sample["base"] == "はい" and sample["expected"] is None and json.loads(sample["messages"])[0]["content"] == "明日休みたい"
    assert table(workspace, "examples") == [{"step": 4, "rank": "worst", "loss": 3.5, "prompt": "?", "expected": "かしこまりました", "text": "はい"}]
    run = next(record.run for record in records(workspace) if record.WhichOneof("record_type") == "run")
    assert run.run_id == "job-1" and run.display_name == "polite"
    config = {item.key: json.loads(item.value_json) for record in records(workspace) for item in (*record.config.update, *record.run.config.update)}
    expected = {"base": "starter-lm", "base_revision": "r1", "data_sha256": "d" * 64, "data": "polite.csv", "rank": 8, "device": "cpu", "participant": "local"}
    assert expected.items() <= config.items() and "api_key" not in config


def test_artifacts_say_what_they_rest_on_and_nothing_of_the_machine(tracking: Tracking, store: Store, settings: Settings, workspace: Path) -> None:
    tracking.log_job(make_job(store, settings))
    made = {record.artifact.name: record.artifact for record in records(workspace) if record.WhichOneof("record_type") == "artifact"}
    assert {name: artifact.type for name, artifact in made.items() if not name.startswith("run-")} == {
        "data-polite.csv": "dataset",
        "base-starter-lm": "model",
        "model-starter-lm-polite-" + next(name for name in made if name.startswith("model-")).rsplit("-", 1)[1]: "model",
    }
    adapter = next(artifact for name, artifact in made.items() if name.startswith("model-"))
    facts = json.loads(adapter.metadata)
    assert [each.partition(":")[0] for each in facts["inputs"]] == ["data-polite.csv", "base-starter-lm"]
    assert facts["data_sha256"] == "d" * 64 and facts["base_revision"] == "r1" and facts["job_id"] == "job-1" and facts["model"] == "starter-lm+polite"
    assert {entry.path for entry in adapter.manifest.contents} >= {"adapter_model.safetensors", "card.json"}
    staged = [path for path in (workspace / "wandb").rglob("*") if path.is_file()]
    assert not [path for path in staged if b"hanako" in path.read_bytes()], "a path of the machine is in W&B's files"
    assert [path for path in staged if "かしこまりました0".encode() in path.read_bytes()], "the data is not there"


def test_job_that_said_no_leaves_nothing(tracking: Tracking, store: Store, settings: Settings, workspace: Path) -> None:
    for spec in ({**SPEC, "wandb": False}, {"base": "x"}):
        tracking.log_job(make_job(store, settings, spec=spec))
    report = tracking.sync(progress=False)
    assert report.complete and not (workspace / "wandb" / "jobs").exists()
    disabled = Tracking(store, Settings(workspace=workspace, wandb_mode="disabled"))
    disabled.log_job(make_job(store, settings))
    assert not (workspace / "wandb" / "jobs").exists()


def test_resumed_job_goes_on_in_its_run_and_no_step_is_there_twice(tracking: Tracking, store: Store, settings: Settings, workspace: Path) -> None:
    tracking.log_job(make_job(store, settings, steps=4, made=False, state="cancelled"))
    tracking.log_job(store.find(Job)[0])
    assert len(find_sessions(workspace / "wandb" / "jobs" / "job-1")) == 1, "the same end was written twice"
    train(store, "job-1", range(3, 9), attempt=2)  # from the checkpoint at step 2: 3 and 4 are done again
    later = make_job(store, settings, steps=-1, attempt=2, ended_at=now())
    tracking.log_job(later)
    assert tracking.status().last_error is None
    assert {record.run.run_id for record in records(workspace) if record.WhichOneof("record_type") == "run"} == {"job-1"}
    written = lines(workspace)
    assert [line["step"] for line in written if "train/loss" in line] == [*range(1, 9)]
    assert [line["_step"] for line in written] == sorted({line["_step"] for line in written})
    assert [row["step"] for row in table(workspace, "samples")] == [0, 2, 4, 6, 8]


def test_highest_attempt_counts_for_a_step(store: Store, settings: Settings) -> None:
    job = make_job(store, settings)
    train(store, "job-1", range(3, 7), attempt=2)
    view = view_job(job, store.find(JobEvent, job_id="job-1"), settings.jobs_folder / "job-1")
    assert [view.curves[step].get("train/tokens_per_s") for step in (2, 3, 4, 6)] == [901.0, 902.0, 902.0, 902.0]
    assert len(settle(store.find(JobEvent, job_id="job-1", attempt=1))) == 14


def test_sync_writes_what_no_process_could(tracking: Tracking, store: Store, settings: Settings, workspace: Path) -> None:
    make_job(store, settings, state="interrupted", made=False)
    make_job(store, settings, id="still", state="running", ended_at=None)
    assert tracking.status().behind == {"jobs": 1} and tracking.status().waiting == 1
    report = tracking.sync(progress=False)
    assert report.complete and [path.name for path in (workspace / "wandb" / "jobs").iterdir()] == ["job-1"]
    assert [line["step"] for line in lines(workspace) if "train/loss" in line] == [1, 2, 3, 4]


def test_run_can_be_made_again_from_the_store(tracking: Tracking, store: Store, settings: Settings, workspace: Path) -> None:
    tracking.log_job(make_job(store, settings))
    before = lines(workspace)
    report = tracking.rebuild(progress=False)
    assert report.complete
    after = lines(workspace)
    plotted = [[{name: line.get(name) for name in ("_step", "step", "train/loss", "eval/loss")} for line in each] for each in (before, after)]
    assert plotted[0] == plotted[1] and len(plotted[0]) == 6
    assert len(find_sessions(workspace / "wandb" / "jobs" / "job-1")) == 1
    assert len([*(workspace / "wandb" / "jobs" / "replaced").iterdir()]) == 1


def test_server_gets_the_run_once_with_its_lineage(store: Store, workspace: Path, server: WandbServer) -> None:
    settings = Settings(workspace=workspace, wandb_mode="online", wandb_base_url=server.url)
    tracking = Tracking(store, settings)
    tracking.log_job(make_job(store, settings))
    assert tracking.status().last_error is None, tracking.status()
    run = server.runs["job-1"]
    assert [line["step"] for _, line in sorted(run.history.items()) if "train/loss" in line] == [1, 2, 3, 4]
    assert [name for name in run.files if name.startswith("media/table/samples")]
    made = {artifact.name.partition("-")[0]: artifact for artifact in server.artifacts.values() if artifact.committed and not artifact.name.startswith("run-")}
    assert {*made} == {"data", "base", "model"} and made["model"].files["adapter_model.safetensors"] == b"weights"
    assert run.used == {made["data"].id, made["base"].id}
    train(store, "job-1", range(5, 7), attempt=2)
    tracking.log_job(make_job(store, settings, steps=-1, attempt=2, ended_at=now()))
    assert [line["step"] for _, line in sorted(run.history.items()) if "train/loss" in line] == [1, 2, 3, 4, 5, 6]
    assert tracking.status().waiting == 0 and server.unknown == []
    tracking.close()
    assert not [path for path in workspace.rglob("*") if path.is_file() and KEY.encode() in path.read_bytes()], "the key is on the disk"


def test_server_that_is_away_gets_it_later(store: Store, workspace: Path, server: WandbServer) -> None:
    settings = Settings(workspace=workspace, wandb_mode="online", wandb_base_url=server.url)
    tracking = Tracking(store, settings)
    server.down = True
    tracking.log_job(make_job(store, settings))
    assert tracking.status().last_error and tracking.status().waiting == 1
    assert [line["step"] for line in lines(workspace) if "train/loss" in line] == [1, 2, 3, 4], "it is not written offline"
    server.down = False
    assert tracking.sync(progress=False).complete
    assert [line["step"] for _, line in sorted(server.runs["job-1"].history.items()) if "train/loss" in line] == [1, 2, 3, 4]
    rebuilt = tracking.rebuild(progress=False)
    assert rebuilt.complete and {*server.runs} == {"job-1", "job-1-1"}
    tracking.close()


def test_large_model_is_referred_to(tracking: Tracking, store: Store, settings: Settings, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmops_kit.tracking.tuning._COPIED_BYTES", 200)
    tracking.log_job(make_job(store, settings))
    made = [record.artifact for record in records(workspace) if record.WhichOneof("record_type") == "artifact"]
    adapter = next(artifact for artifact in made if artifact.name.startswith("model-"))
    weights = next(entry for entry in adapter.manifest.contents if entry.path == "adapter_model.safetensors")
    assert weights.ref.startswith("file://")


def test_end_of_an_attempt_is_written_once_whoever_asks(tracking: Tracking, store: Store, settings: Settings, workspace: Path) -> None:
    job = make_job(store, settings)
    tracking.log_job(replace(job, state="running", ended_at=None))
    assert not (workspace / "wandb" / "jobs").exists(), "a job that runs was written"
    tracking.log_job(job)
    Tracking(store, settings).sync(progress=False)
    assert len(find_sessions(workspace / "wandb" / "jobs" / "job-1")) == 1
