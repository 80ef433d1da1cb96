"""What people said, in W&B's tables: every column, each row once, whatever was killed or cut off, offline and at a server on loopback."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from llmops_kit.errors import TrackingError, UnknownName
from llmops_kit.pseudonyms import pseudonym, pseudonym_key
from llmops_kit.settings import Settings
from llmops_kit.store import Store
from llmops_kit.tracking import Tracking, read_table
from llmops_kit.tracking.answers import SIDE_COLUMNS
from llmops_kit.tracking.artifacts import final_tables, name_for_wandb
from llmops_kit.tracking.ledger import load_ledger
from llmops_kit.tracking.offline import find_sessions, read_records, seal_log
from llmops_kit.tracking.online import upload_folders
from llmops_kit.tracking.opinions import FEEDBACK_COLUMNS, VOTE_COLUMNS
from llmops_kit.tracking.rows import make_rows
from llmops_kit.tracking.session import Session, reset_library
from llmops_kit.types import Artifact, Comparison, Feedback, Run, Vote, new_id, now
from tests.test_tracking import KEY, append, make_run, raw_ids, wait_until
from tests.wandb_server import WandbServer

COMMENT = "とても良い回答です。👩‍👩‍👧 𠮷野家で\n「最高」"
RATER = "花子@example.org"


def rate(store: Store, **fields: Any) -> Feedback:
    """Append one rating."""
    values: dict[str, Any] = {"id": new_id(), "created_at": now(), "run_id": new_id(), "rater": RATER, "scores": {"score": 4}}
    feedback = Feedback(**{**values, **fields})
    assert store.append(feedback, publish="feedback")
    return feedback


def vote(store: Store, **fields: Any) -> Vote:
    """Append one vote."""
    runs = {"left_run": new_id(), "right_run": new_id(), "left_variant": "starter-lm", "right_variant": "starter-lm+docs"}
    values: dict[str, Any] = {"id": new_id(), "created_at": now(), "rater": RATER, "item": "問1", **runs, "choice": "A"}
    cast = Vote(**{**values, **fields})
    assert store.append(cast, publish="vote")
    return cast


def close_campaign(store: Store, name: str = "hotel-answers", version: int = 1, inputs: tuple[str, ...] = (), rows: int = 3) -> Artifact:
    """Append what a campaign was closed with."""
    data = tuple({"feedback_id": f"f{number}", "value": number, "mean": 0.5 if number else 1, "comment": COMMENT, "tags": ["a"]} for number in range(rows))
    about = {"campaign": "ホテル", "window": ["2026-01-01", "2026-01-31"]}
    artifact = Artifact(new_id(), now(), name, version, "feedback", hashlib.sha256(b"x").hexdigest(), rows, inputs, about, data)
    assert store.append(artifact, publish="artifact")
    return artifact


def records(workspace: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a table with None where a cell is empty."""
    table = read_table(workspace, name)
    return table.astype(object).where(table.notna(), None).to_dict("records")


@pytest.fixture
def tracking(store: Store, settings: Settings) -> Iterator[Tracking]:
    """The tracking of an offline workspace."""
    opened = Tracking(store, settings)
    yield opened
    opened.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """A W&B server with the key for it in the environment; a cut is noticed soon."""
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setattr("llmops_kit.tracking.upload._REACH_EVERY_S", 0.5)
    opened = WandbServer()
    yield opened
    opened.stop()
    assert opened.unknown == [], "the library asked what the server does not know"


@pytest.fixture
def online(server: WandbServer, workspace: Path) -> Settings:
    """Settings that send to the server."""
    return Settings(workspace=workspace, wandb_mode="online", wandb_base_url=server.url)


def test_columns_are_those_of_the_reference() -> None:
    reference = [
        *("feedback_id", "trace_id", "item_id", "run_id", "rater_id", "rater_role", "source", "kind"),
        *("rubric_id", "rubric_version", "criterion", "value_num", "value_str", "choice", "shown_order", "blinded", "left_variant"),
        *("right_variant", "comment", "corrected_output", "duration_ms", "created_at", "supersedes", "consent", "pii_flag"),
    ]
    pair = {"choice", "shown_order", "blinded", "left_variant", "right_variant"}
    single = {"trace_id", "run_id", "rubric_id", "rubric_version", "criterion", "value_str", "corrected_output"}
    assert [name for name in FEEDBACK_COLUMNS if name in reference] == [name for name in reference if name not in pair]
    assert {*VOTE_COLUMNS} & {*reference} == {*reference} - single
    assert next(iter(FEEDBACK_COLUMNS)) == next(iter(VOTE_COLUMNS)) == "feedback_id"


def test_every_rating_is_there_once_with_pseudonyms(tracking: Tracking, store: Store, workspace: Path) -> None:
    scores = {"fluency": 5, "harmful": False, "tone": "丁寧", "order": ["b", "a"], "thumb": -1, "accuracy": 2.5}
    rich = rate(store, scores=scores, comment=COMMENT, correction="正しくは10日です。", tags=("回帰", "hotel"), rubric="quality", rubric_version=2)
    campaign = {"campaign_id": new_id(), "item_id": new_id(), "source": "campaign", "duration_s": 1.5}
    skipped = rate(store, scores={}, skipped="わからない", flags=("late",), **campaign)
    corrected = rate(store, scores={}, correction="10日", rater="taro")
    said = rate(store, scores={}, comment="OK", source="ui")
    taken_back = rate(store, scores={}, withdrawn=True, supersedes=said.id)
    status = tracking.status()
    assert (status.waiting, status.behind) == (5, {"feedback": 5})
    assert "feedback 5" in status._repr_markdown_()
    assert tracking.sync().complete
    assert tracking.status().behind == {}
    assert list(read_table(workspace, "feedback").columns) == list(FEEDBACK_COLUMNS)
    rows = {row["feedback_id"]: row for row in records(workspace, "feedback")}
    assert len(raw_ids(workspace, "feedback")) == len(rows) == 10
    own = [rows[rich.id], *(rows[f"{rich.id}:{criterion}"] for criterion in [*scores][1:])]
    assert [(row["criterion"], row["kind"], row["value_num"], row["value_str"]) for row in own] == [
        ("fluency", "rating", 5, None),
        ("harmful", "label", 0, "false"),
        ("tone", "label", None, "丁寧"),
        ("order", "label", None, '["b", "a"]'),
        ("thumb", "thumb", -1, None),
        ("accuracy", "rating", 2.5, None),
    ]
    assert (own[0]["comment"], own[0]["corrected_output"], own[1]["comment"]) == (COMMENT, "正しくは10日です。", None)
    assert {row["trace_id"] for row in own} == {row["run_id"] for row in own} == {rich.run_id}
    assert {(row["rubric_id"], row["rubric_version"], row["tags"]) for row in own} == {("quality", 2, '["回帰", "hotel"]')}
    skip = rows[skipped.id]
    assert (skip["kind"], skip["skipped"], skip["flags"], skip["source"], skip["duration_ms"]) == ("skip", "わからない", '["late"]', "annotation", 1500)
    assert (skip["campaign_id"], skip["item_id"]) == (skipped.campaign_id, skipped.item_id)
    assert [rows[each.id]["kind"] for each in (corrected, said, taken_back)] == ["correction", "comment", "withdrawal"]
    assert (rows[taken_back.id]["withdrawn"], rows[taken_back.id]["supersedes"], rows[said.id]["withdrawn"]) == (True, said.id, False)
    key = pseudonym_key(store)
    assert {row["rater_id"] for row in rows.values()} == {pseudonym(key, RATER), pseudonym(key, "taro")}
    files = [path.read_bytes() for path in (workspace / "wandb").rglob("*") if path.is_file()]
    assert not [data for data in files if RATER.encode() in data or key.hex().encode() in data]
    assert make_rows(rich)["feedback"][0][4] is None, "without the key there is no name at all"


def test_votes_and_those_taken_back(tracking: Tracking, store: Store, workspace: Path) -> None:
    cast = [vote(store, choice=choice, comment=COMMENT, tags=("要約",), duration_s=2.0) for choice in ("A", "B", "tie", "both_bad")]
    back = vote(store, choice="withdrawn", supersedes=cast[0].id, source="ui", campaign_id=new_id(), item_id=new_id())
    assert tracking.sync().complete
    rows = {row["feedback_id"]: row for row in records(workspace, "votes")}
    assert list(read_table(workspace, "votes").columns) == list(VOTE_COLUMNS)
    assert [(rows[each.id]["choice"], rows[each.id]["value_num"]) for each in cast] == [("A", 1), ("B", -1), ("tie", 0), ("both_bad", 0)]
    first, last = rows[cast[0].id], rows[back.id]
    assert (first["comment"], first["tags"], first["item_id"], first["duration_ms"], first["blinded"]) == (COMMENT, '["要約"]', "問1", 2000, True)
    assert json.loads(first["shown_order"]) == [cast[0].left_run, cast[0].right_run] == [first["left_run_id"], first["right_run_id"]]
    assert (last["withdrawn"], last["supersedes"], last["value_num"], last["campaign_item_id"]) == (True, cast[0].id, None, back.item_id)
    assert {row["rater_id"] for row in rows.values()} == {pseudonym(pseudonym_key(store), RATER)}


def test_a_comparison_and_its_answers(tracking: Tracking, store: Store, workspace: Path) -> None:
    variants = [{"model": "starter-lm", "params": {"api_key": KEY}}, {"model": "starter-lm", "documents": "社則"}]
    comparison = Comparison(new_id(), now(), "hanako", {"prompt": "summarize", "rows": [{"text": "あ", "password": "kept"}], "variants": variants})
    store.append(comparison, publish="comparison")
    app = f"compare:{comparison.id}"
    runs = [make_run(number, app=app, item="0", variant=f"v{number}") for number in range(2)]
    for run in runs:
        store.append(run, publish="run")
    append(store, 1)
    assert tracking.sync().complete
    (row,) = records(workspace, "comparisons")
    assert (row["comparison_id"], row["participant"], row["n"]) == (comparison.id, "hanako", 1)
    assert json.loads(row["variants"]) == [{"model": "starter-lm", "params": {}}, variants[1]]
    assert json.loads(row["spec"])["rows"] == [{"text": "あ", "password": "kept"}]
    assert KEY not in row["spec"]
    answers = records(workspace, "comparison")
    assert list(answers[0]) == list(SIDE_COLUMNS)
    assert [(each["run_id"], each["comparison_id"], each["item_id"], each["variant"]) for each in answers] == [
        (run.id, comparison.id, "0", run.variant) for run in runs
    ]
    assert [each["output"] for each in answers] == [run.output for run in runs]
    assert len(read_table(workspace, "runs")) == 3


def test_a_closed_campaign_is_one_whole_table_and_an_artifact(tracking: Tracking, store: Store, workspace: Path) -> None:
    first = close_campaign(store)
    second = close_campaign(store, version=2, inputs=("hotel-answers:v1",), rows=4)
    japanese = close_campaign(store, name="評価ホテル", rows=0)
    assert tracking.sync().complete
    final = records(workspace, "hotel_answers_final")
    assert [(row["feedback_id"], row["value"], row["mean"], row["comment"]) for row in final] == [
        (f"f{number}", number, 0.5 if number else 1, COMMENT) for number in range(4)
    ]
    assert final[0]["tags"] == '["a"]'
    listed = records(workspace, "artifacts")
    assert [(row["artifact_id"], row["version"], row["rows"]) for row in listed] == [(first.id, 1, 3), (second.id, 2, 4), (japanese.id, 1, 0)]
    assert json.loads(listed[1]["inputs"]) == ["hotel-answers:v1"]
    (log,) = (workspace / "wandb").glob("offline-run-*/run-*.wandb")
    logged = [record.artifact for record, _ in read_records(log) if record.WhichOneof("record_type") == "artifact"]
    own = [each for each in logged if each.type == "feedback"]
    assert [(each.name, sorted(each.aliases)) for each in own] == [
        (name, ["latest", f"version-{version}"]) for name, version in (("hotel-answers", 1), ("hotel-answers", 2), (name_for_wandb("評価ホテル"), 1))
    ]
    metadata = json.loads(own[1].metadata)
    assert (metadata["sha256"], metadata["rows"], metadata["inputs"], metadata["about"]["campaign"]) == (second.sha256, 4, ["hotel-answers:v1"], "ホテル")
    assert metadata["about"]["window"] == ["2026-01-01", "2026-01-31"]
    (entry,) = own[1].manifest.contents
    staged = Path(entry.local_path)
    assert (entry.path, workspace.absolute() in staged.parents) == ("rows.jsonl", True)
    assert [json.loads(line) for line in staged.read_text(encoding="utf-8").splitlines()] == [dict(row) for row in second.data]
    table = tracking.artifacts()
    assert list(table.columns) == ["name", "version", "alias", "kind", "sha256", "rows", "inputs", "created_at", "about"]
    assert [*zip(table["name"], table["version"], table["alias"], strict=True)] == [
        ("hotel-answers", 1, ""),
        ("hotel-answers", 2, "latest"),
        ("評価ホテル", 1, "latest"),
    ]
    assert table["inputs"][1] == ["hotel-answers:v1"]
    assert tracking.rebuild().complete
    assert records(workspace, "hotel_answers_final") == final
    assert raw_ids(workspace, "artifacts") == [first.id, second.id, japanese.id]


def test_a_table_past_ten_thousand_rows_goes_on_in_another(store: Store) -> None:
    tables = final_tables(close_campaign(store, rows=10_001))
    assert {name: len(rows) for name, (_, rows) in tables.items()} == {"hotel_answers_final": 10_000, "hotel_answers_final_2": 1}
    columns, rows = tables["hotel_answers_final_2"]
    assert columns == {"feedback_id": str, "value": int, "mean": float, "comment": str, "tags": str}
    assert rows == [["f10000", 10_000, 0.5, COMMENT, '["a"]']]


def test_artifacts_are_listed_without_any(tracking: Tracking) -> None:
    assert tracking.artifacts().empty


def test_rows_of_an_older_version_are_read_and_its_run_is_left_alone(
    store: Store, settings: Settings, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = rate(store, comment=COMMENT)
    with monkeypatch.context() as earlier:
        earlier.setattr("llmops_kit.tracking.relay.LAYOUT", "earlier")
        assert Tracking(store, settings).sync().complete
    (file,) = (workspace / "wandb").rglob("feedback_*.table.json")
    table = json.loads(file.read_text(encoding="utf-8"))
    gone = table["columns"].index("tags")
    for row in (table["columns"], *table["data"]):
        del row[gone]
    file.write_text(json.dumps({**table, "columns": [*table["columns"], "mood"], "data": [[*row, "😀"] for row in table["data"]]}), encoding="utf-8")
    new = rate(store, tags=("t",))
    assert Tracking(store, settings).sync().complete
    rows = records(workspace, "feedback")
    assert [(row["feedback_id"], row["tags"], row["mood"], row["comment"]) for row in rows] == [(old.id, None, "😀", COMMENT), (new.id, '["t"]', None, None)]
    assert list(rows[0]) == [*FEEDBACK_COLUMNS, "mood"]
    assert len({session.name.partition("-kit-")[2] for session in find_sessions(workspace)}) == 2, "one W&B table has one set of columns"
    with pytest.raises(UnknownName, match="feedback"):
        read_table(workspace, "nothing")


def test_what_a_kill_left_written_but_unmarked_is_not_written_again(store: Store, settings: Settings, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        rate(store, scores={"a": number, "b": True})
    killed = Tracking(store, settings)

    def dies(items: Any, *, sent: bool) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as kill:
        kill.setattr(store, "mark_sent", dies)
        with pytest.raises(KeyboardInterrupt):
            killed._relay.send()
    killed._relay.release()
    reset_library(dead=True)
    later = Tracking(store, settings)
    assert later.status().waiting == 5
    report = later.sync()
    assert (report.complete, report.sent) == (True, 0)
    assert len(raw_ids(workspace, "feedback")) == len({*raw_ids(workspace, "feedback")}) == 10


def test_a_rebuild_that_was_killed_goes_on(store: Store, settings: Settings, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmops_kit.tracking.relay._BATCH_ROWS", 2)
    given = [rate(store) for _ in range(5)]
    close_campaign(store)
    tracking = Tracking(store, settings)
    assert tracking.sync().complete
    whole, batches = tracking._relay._send_batch, []

    def dies(items: Any) -> int:
        batches.append(items)
        if len(batches) > 1:
            raise KeyboardInterrupt
        return whole(items)

    monkeypatch.setattr(tracking._relay, "_send_batch", dies)
    with pytest.raises(KeyboardInterrupt):
        tracking.rebuild()
    reset_library(dead=True)
    later = Tracking(store, settings)
    assert later.sync().complete
    assert sorted(raw_ids(workspace, "feedback")) == sorted(each.id for each in given)
    assert len({session.name.partition("-kit-")[2][:8] for session in find_sessions(workspace)}) == 1
    assert len(records(workspace, "hotel_answers_final")) == 3


def test_tables_go_on_from_one_folder_to_the_next(tracking: Tracking, store: Store, workspace: Path) -> None:
    for _ in range(3):
        rate(store)
        assert tracking.sync().complete
    noted = []
    for session in find_sessions(workspace):
        (log,) = session.glob("run-*.wandb")
        for record, _ in read_records(log):
            if record.WhichOneof("record_type") == "history":
                noted.append({item.nested_key[1]: json.loads(item.value_json) for item in record.history.item if [*item.nested_key][:1] == ["feedback"]})
    assert [each["increment_num"] for each in noted] == [0, 1, 2]
    assert noted[2]["previous_increments_paths"] == [noted[0]["artifact_path"], noted[1]["artifact_path"]]


def test_a_torn_log_is_cut_to_its_whole_records(tracking: Tracking, store: Store, workspace: Path) -> None:
    rate(store)
    tracking.sync()
    (session,) = find_sessions(workspace)
    (log,) = session.glob("run-*.wandb")
    whole = log.read_bytes()
    seal_log(session)
    assert log.read_bytes() == whole
    log.write_bytes(whole[:-5])
    kept = [end for _, end in read_records(log)]
    seal_log(session)
    assert log.stat().st_size == kept[-1] < len(whole)


@pytest.mark.parametrize("ended", [False, True])
def test_a_step_whose_line_of_history_is_missing_is_cut_whole(tracking: Tracking, store: Store, workspace: Path, ended: bool) -> None:
    """A kill between a step's artifacts and its line: its rows are sent again, so that W&B must not get the artifacts.

    W&B's helper process may live a moment longer and write the end of the run.
    """
    rate(store)
    tracking.sync()
    (session,) = find_sessions(workspace)
    (log,) = session.glob("run-*.wandb")
    kinds = [(record.WhichOneof("record_type"), end) for record, end in read_records(log)]
    before, line = next((kinds[place - 1][1], end) for place, (kind, end) in enumerate(kinds) if kind == "history")
    log.write_bytes(log.read_bytes()[:before] + log.read_bytes()[line:] * ended)
    assert {"artifact", *["exit"] * ended} <= {record.WhichOneof("record_type") for record, _ in read_records(log)}
    seal_log(session)
    assert not {"artifact", "exit"} & {record.WhichOneof("record_type") for record, _ in read_records(log)} and log.stat().st_size > 0


def test_what_a_killed_writer_left_behind_still_writes_goes_nowhere(tracking: Tracking, store: Store, workspace: Path) -> None:
    rate(store)
    tracking.sync()
    (session,) = find_sessions(workspace)
    (log,) = session.glob("run-*.wandb")
    whole = log.read_bytes()
    with log.open("r+b") as left_open:
        left_open.truncate(len(whole) - 5)
        seal_log(session)
        sealed = log.read_bytes()
        left_open.seek(len(whole) - 5)
        left_open.write(whole[-5:])
    assert log.read_bytes() == sealed
    assert [path.name for path in session.glob("*.wandb*")] == [log.name]


def test_a_step_that_was_written_late_is_not_sent_a_second_time(online: Settings, store: Store, server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Session.wait_written

    def answers_late(self: Session, step: int) -> None:
        whole(self, step)
        raise TrackingError(reason="too slow")

    given = rate(store)
    monkeypatch.setattr(Session, "wait_written", answers_late)
    tracking = Tracking(store, online)
    assert tracking.sync().complete
    tracking.close()
    assert [row["feedback_id"] for row in server.table("feedback")] == [given.id]


def expect_all(server: WandbServer, store: Store) -> None:
    """The server's tables hold what the store holds, each row once."""
    ids = [row["feedback_id"] for row in server.table("feedback")]
    assert sorted(id for id in ids if ":" not in id) == sorted(each.id for each in store.find(Feedback))
    assert len(ids) == len({*ids})
    assert sorted(row["feedback_id"] for row in server.table("votes")) == sorted(each.id for each in store.find(Vote))
    assert sorted(row["run_id"] for row in server.table("runs")) == sorted(each.id for each in store.find(Run))
    for table in ("feedback", "votes", "runs", "artifacts"):
        server.steps(table)


def test_from_offline_to_online_and_back_everything_arrives_once(
    store: Store, settings: Settings, online: Settings, server: WandbServer, workspace: Path
) -> None:
    first = rate(store, scores={"a": 1, "b": 2}, comment=COMMENT)
    cast = vote(store)
    close_campaign(store)
    assert Tracking(store, settings).sync().complete
    assert server.runs == {}
    tracking = Tracking(store, online)
    assert (tracking.status().mode, tracking.status().waiting, tracking.status().behind) == ("online", 3, {"feedback": 1, "votes": 1, "artifacts": 1})
    close_campaign(store, version=2, inputs=("hotel-answers:v1", "elsewhere:v3"), rows=4)
    append(store, 3)
    assert tracking.status().waiting == 7
    report = tracking.sync()
    assert (report.complete, report.error, tracking.status().waiting, tracking.status().sent) == (True, None, 0, 7)
    expect_all(server, store)
    row = server.table("feedback")[0]
    assert (row["feedback_id"], row["comment"], row["rater_id"]) == (first.id, COMMENT, pseudonym(pseudonym_key(store), RATER))
    assert server.table("votes")[0]["feedback_id"] == cast.id
    versions = sorted((each for each in server.artifacts.values() if each.name == "hotel-answers"), key=lambda each: each.version)
    assert [(each.kind, sorted(each.aliases), each.metadata["version"]) for each in versions] == [
        ("feedback", ["latest", "version-1"], 1),
        ("feedback", ["latest", "version-2"], 2),
    ]
    assert [json.loads(line)["comment"] for line in versions[0].files["rows.jsonl"].decode().splitlines()] == [COMMENT] * 3
    (run,) = server.runs.values()
    assert run.used == {versions[0].id}
    finals = server.steps("hotel_answers_final")
    assert [len(json.loads(run.files[name])["data"]) for name in finals] == [3, 4]
    asked = len(server.asked)
    assert tracking.sync().complete
    assert len(server.asked) == asked, "what the server has is not sent again"
    rate(store)
    assert Tracking(store, settings).sync().complete  # offline again
    rate(store)
    assert Tracking(store, online).sync().complete
    expect_all(server, store)
    assert len(server.runs) == 1
    assert KEY.encode() not in b"".join(path.read_bytes() for path in (workspace / "wandb").rglob("*") if path.is_file())


@pytest.mark.parametrize("after", [5, 14, *range(min(20, int(os.environ.get("LLMOPS_TEST_CUTS", "0"))))])
def test_a_cut_in_the_middle_of_an_upload_loses_and_doubles_nothing(store: Store, online: Settings, server: WandbServer, after: int) -> None:
    for _ in range(3):
        rate(store, scores={"a": 1, "b": 2})
    vote(store)
    tracking = Tracking(store, online)
    server.cut_after = after
    report = tracking.sync()
    assert (report.complete, report.waiting) == (False, 4)
    assert "アップロードが終わりませんでした" in tracking.status().fault.text("ja")  # type: ignore[union-attr]
    rate(store)
    report = tracking.sync()
    assert (report.complete, report.waiting) == (False, 5)
    assert "cannot be reached" in str(report.error)
    server.cut_after, server.down = None, False
    report = tracking.sync()
    assert (report.complete, report.error) == (True, None)
    expect_all(server, store)


def test_a_folder_w_and_b_gave_up_on_does_not_count_as_uploaded(store: Store, online: Settings, server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GRAPHQL", "FILE_STREAM", "FILE_TRANSFER"):
        monkeypatch.setenv(f"WANDB_X_{name}_RETRY_MAX", "1")
        monkeypatch.setenv(f"WANDB_X_{name}_RETRY_WAIT_MAX_SECONDS", "0.1")
    monkeypatch.setattr("llmops_kit.tracking.upload._REACH_EVERY_S", 60.0)
    rate(store)
    tracking = Tracking(store, online)
    server.cut_after = 9
    report = tracking.sync()
    assert (report.complete, report.waiting) == (False, 1)
    assert "giving up" in str(report.error)
    server.cut_after, server.down = None, False
    assert tracking.sync().complete
    expect_all(server, store)


def test_a_refused_key_is_reported_without_showing_it(store: Store, online: Settings, server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "short0secret")
    rate(store)
    report = Tracking(store, online).sync()
    assert (report.complete, report.waiting) == (False, 1)
    assert "did not finish" in str(report.error)
    assert "short0secret" not in str(report.error)


def test_the_background_uploads_and_closing_does_not_wait_for_a_dead_server(
    store: Store, online: Settings, server: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmops_kit.tracking._POLL_S", 0.1)
    monkeypatch.setattr("llmops_kit.tracking._UPLOAD_EVERY_S", 0.5)
    tracking = Tracking(store, online)
    tracking.start()
    rate(store)
    wait_until(lambda: len(server.table("feedback")) == 1)
    wait_until(lambda: tracking.status().waiting == 0)
    server.down = True
    rate(store)
    wait_until(lambda: tracking.status().fault is not None)
    begin = time.monotonic()
    tracking.close()
    assert time.monotonic() - begin < 12
    server.down = False
    assert Tracking(store, online).sync().complete
    expect_all(server, store)


UPLOADING = """
import sys
from llmops_kit.settings import Settings, silence_libraries
from llmops_kit.store import Store
from llmops_kit import tracking as package
from tests.test_tracking_feedback import rate, vote
package._POLL_S, package._UPLOAD_EVERY_S = 0.05, 0.2
settings = Settings(workspace={workspace!r}, wandb_mode="online", wandb_base_url={url!r}); silence_libraries(settings)
store = Store(settings.store_url); tracking = package.Tracking(store, settings); tracking.start()
for number in range(100_000):
    print(rate(store, scores={{"a": 1, "b": 2}}).id, vote(store).id, flush=True)
"""


@pytest.mark.parametrize("rows", [[40, 1][number % 2] for number in range(int(os.environ.get("LLMOPS_TEST_KILLS", "1")))])
def test_kill_while_uploading_loses_and_doubles_nothing(store: Store, online: Settings, server: WandbServer, workspace: Path, rows: int) -> None:
    alone = {name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"} | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    program = UPLOADING.format(workspace=str(workspace), url=server.url)
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True, env=alone)
    try:
        wait_until(lambda: len(server.table("feedback")) >= rows, 60)
    finally:
        helpers = psutil.Process(child.pid).children(recursive=True)
        for process in (*helpers, child):
            process.send_signal(signal.SIGKILL)
    acknowledged = child.communicate(timeout=30)[0].splitlines()[:-1]
    report = Tracking(store, online).sync()
    assert (report.complete, report.error) == (True, None)
    expect_all(server, store)
    assert {id for line in acknowledged for id in line.split()} <= {row["feedback_id"] for key in ("feedback", "votes") for row in server.table(key)}


def test_a_second_process_does_not_upload_what_the_first_still_writes(store: Store, settings: Settings, online: Settings, server: WandbServer) -> None:
    rate(store)
    first = Tracking(store, settings)
    first._relay.send()
    other = Tracking(store, online)
    with pytest.raises(TrackingError, match="Another process"):
        upload_folders(other._relay, lambda: False)
    assert server.asked == []
    first.close()
    assert other.sync().complete
    expect_all(server, store)


def test_who_syncs_by_hand_is_believed(store: Store, settings: Settings, online: Settings, server: WandbServer, workspace: Path) -> None:
    from llmops_kit.settings import wandb_environment

    rate(store)
    assert Tracking(store, settings).sync().complete
    (session,) = find_sessions(workspace)
    environment = wandb_environment(workspace / "wandb", server.url)
    subprocess.run([sys.executable, "-m", "wandb", "sync", str(session)], env=environment, cwd=workspace, check=True, timeout=60, capture_output=True)
    expect_all(server, store)
    tracking = Tracking(store, online)
    assert tracking.status().waiting == 0
    asked = len(server.asked)
    assert tracking.sync().complete
    assert len(server.asked) == asked


def test_an_input_that_the_server_lacks_holds_nothing_up(store: Store, online: Settings, server: WandbServer) -> None:
    close_campaign(store)
    assert Tracking(store, online).sync().complete
    for artifact in server.artifacts.values():
        artifact.aliases = []
    close_campaign(store, version=2, inputs=("hotel-answers:v1",))
    report = Tracking(store, online).sync()
    assert (report.complete, report.error) == (True, None)
    ledger = load_ledger(Path(str(report.folder)))
    assert ledger is not None and ledger.linked == ("hotel-answers:v1",)
    assert next(iter(server.runs.values())).used == set()


def test_a_number_is_kept_however_large(store: Store) -> None:
    rows = make_rows(Feedback("f1", now(), "r1", "花子", {"yen": 1e20}))
    assert dict(zip(FEEDBACK_COLUMNS, rows["feedback"][0], strict=True))["value_num"] == 1e20
