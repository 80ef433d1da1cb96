"""Exports of ratings: rows that TRL takes as they are, and tables for people."""

from __future__ import annotations

import csv
import io
import json
import resource
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from llmops_kit.errors import InvalidValue, NotSaved
from llmops_kit.feedback.export import ExportReport, export
from llmops_kit.playground.rows import read_rows
from llmops_kit.pseudonyms import pseudonym, pseudonym_key
from llmops_kit.store import Store
from llmops_kit.types import Feedback, Message, Run, Vote, hash_messages

START = datetime(2025, 4, 1, tzinfo=UTC)
ORIGIN = {"item", "prompt_name", "prompt_version", "model", "model_revision", "raters", "weight", "agreement", "rater_ids", "created_at", "run_id", "source"}


class Scene:
    """A store with answers and what people said of them, a second apart."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store, self.folder, self.ticks = store, folder, 0

    def at(self) -> datetime:
        self.ticks += 1
        return START + timedelta(seconds=self.ticks)

    def answer(self, id: str, output: str = "はい、20日です。", *, question: str = "有給は何日？", app: str = "playground", **more: Any) -> Run:
        asked = (Message("system", "丁寧に"), Message("user", question))
        facts = {"prompt_name": "ask", "prompt_version": 3, "model_revision": "abc123", "finish_reason": "stop"} | more
        run = Run(id, self.at(), "who-asked", app, "starter-lm", asked, hash_messages(asked), output=output, **facts)
        self.store.append(run)
        return run

    def rate(self, run: str, rater: str, **more: Any) -> Feedback:
        scores = more.pop("scores", None) or {name: more.pop(name) for name in ("score", "thumb") if name in more}
        event = Feedback(f"f{self.ticks:05}", self.at(), run, rater, scores, **more)
        self.store.append(event)
        return event

    def vote(self, left: str, right: str, rater: str, choice: str, item: str = "item", **more: Any) -> Vote:
        vote = Vote(f"v{self.ticks:05}", self.at(), rater, item, left, right, f"of {left}", f"of {right}", choice, **more)  # type: ignore[arg-type]
        self.store.append(vote)
        return vote

    def export(self, kind: str, **more: Any) -> tuple[ExportReport, list[dict[str, Any]]]:
        path = self.folder / f"{kind}.jsonl"
        report = export(self.store, kind, path, **more)
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        assert report.rows == len(rows) and report.path == path and report.kind == kind
        return report, rows


@pytest.fixture
def scene(store: Store, tmp_path: Path) -> Scene:
    """An empty store and a folder to export to."""
    return Scene(store, tmp_path)


def check_messages(messages: Any, roles: Iterable[str]) -> None:
    """TRL's conversational format: a list of mappings with exactly a role and a text."""
    assert isinstance(messages, list) and messages
    assert [message["role"] for message in messages] == list(roles)
    assert all(set(message) == {"role", "content"} and isinstance(message["content"], str) and message["content"] for message in messages)


def check_trl(kind: str, rows: list[dict[str, Any]]) -> None:
    """The columns TRL's trainer of this kind asks for, in its conversational format, and where each row comes from."""
    sides = {"sft": ("completion",), "kto": ("completion",), "dpo": ("chosen", "rejected")}[kind]
    for row in rows:
        check_messages(row["prompt"], ["system", "user"])
        for side in sides:
            check_messages(row[side], ["assistant"])
        assert (type(row.get("label")) is bool) == (kind == "kto")
        assert set(row) >= ORIGIN and 0 < row["weight"] < 1 and row["raters"] == len(row["rater_ids"]) >= 1
        assert datetime.fromisoformat(row["created_at"]).tzinfo is not None
        assert "who-asked" not in json.dumps(row)
    assert len({frozenset(row) for row in rows}) <= 1, "every row has the same columns"


def text(row: dict[str, Any], side: str = "completion") -> str:
    return str(row[side][0]["content"])


def test_corrections_win_over_ratings_in_sft(scene: Scene) -> None:
    scene.answer("good"), scene.answer("bad", "知りません"), scene.answer("corrected", "10日です"), scene.answer("split")
    for rater in ("a", "b", "c"):
        scene.rate("good", rater, thumb=1)
        scene.rate("bad", rater, score=2)
        scene.rate("corrected", rater, score=5)
    scene.rate("corrected", "d", correction=" 20日です🎉 \n")
    scene.rate("split", "a", score=4), scene.rate("split", "b", thumb=-1)
    report, rows = scene.export("sft")
    check_trl("sft", rows)
    assert [(row["run_id"], text(row), row["source"]) for row in rows] == [("good", "はい、20日です。", "rating"), ("corrected", "20日です🎉", "correction")]
    first = rows[0]
    assert (first["raters"], first["agreement"], first["weight"]) == (3, 1.0, 0.8), "Laplace: (3 + 1) / (3 + 2)"
    assert (first["prompt_name"], first["prompt_version"], first["model"], first["model_revision"]) == ("ask", 3, "starter-lm", "abc123")
    assert report.left_out == {"not_high": 2}
    assert "2 rows written" in report.text("en") and "過半数の高評価がない 2件" in report.text("ja")


def test_every_way_to_say_good_counts_and_a_contradiction_does_not(scene: Scene) -> None:
    quality = {"accuracy": 5, "fluency": 4, "usefulness": 4, "harmful": False}
    said = {"thumb": {"thumb": 1}, "score": {"score": 4}, "quality": quality, "both": {"thumb": 1, "score": 3}}
    not_good = {"three": {"score": 3}, "against": {"thumb": -1, "score": 5}, "harmful": quality | {"harmful": True}, "partly": {"accuracy": 5}}
    for run, scores in {**said, **not_good, "own": {"errors": 5}}.items():
        scene.answer(run, f"回答{run}")
        scene.rate(run, "a", scores=scores)
    report, rows = scene.export("sft")
    assert {row["run_id"] for row in rows} == set(said)
    assert report.left_out == {"not_rated": 2, "not_high": 3}


def test_answers_that_failed_or_were_cut_are_not_targets(scene: Scene) -> None:
    scene.answer("failed", "", error="timeout"), scene.answer("cut", "20日で", finish_reason="length")
    for run in ("failed", "cut"):
        scene.rate(run, "a", thumb=1)
    assert scene.export("sft")[0].left_out == {"failed": 1, "cut": 1}
    scene.rate("cut", "a", thumb=-1)
    _, rows = scene.export("kto")
    assert [(row["run_id"], row["label"]) for row in rows] == [("cut", False)], "a cut answer is still a bad example"


def test_kto_labels_go_by_majority(scene: Scene) -> None:
    scene.answer("up"), scene.answer("down", "さあ"), scene.answer("tie", "多分"), scene.answer("corrected", "10日です"), scene.answer("comment", "うーん")
    scene.rate("up", "a", thumb=1), scene.rate("up", "b", score=5), scene.rate("up", "c", score=1)
    scene.rate("down", "a", thumb=-1)
    scene.rate("tie", "a", thumb=1), scene.rate("tie", "b", thumb=-1)
    scene.rate("corrected", "a", correction="20日です")
    scene.rate("comment", "a", comment="どうかな")
    report, rows = scene.export("kto")
    check_trl("kto", rows)
    labels = {(row["run_id"], text(row)): row["label"] for row in rows}
    assert labels == {("up", "はい、20日です。"): True, ("down", "さあ"): False, ("corrected", "20日です"): True, ("corrected", "10日です"): False}
    assert next(row["agreement"] for row in rows if row["run_id"] == "up") == pytest.approx(2 / 3, abs=1e-4)
    assert report.left_out == {"no_majority": 1, "not_rated": 1}


def test_votes_become_pairs_by_majority_whichever_was_left(scene: Scene) -> None:
    scene.answer("x", "良い"), scene.answer("y", "悪い"), scene.answer("z", "良い")
    scene.vote("x", "y", "a", "A"), scene.vote("y", "x", "b", "B"), scene.vote("x", "y", "c", "tie")
    scene.vote("x", "z", "a", "A")
    report, rows = scene.export("dpo")
    check_trl("dpo", rows)
    (row,) = rows
    assert (text(row, "chosen"), text(row, "rejected")) == ("良い", "悪い")
    assert (row["chosen_run_id"], row["rejected_run_id"], row["source"]) == ("x", "y", "vote")
    assert (row["raters"], row["agreement"], row["weight"]) == (2, 0.6667, 0.6)
    assert report.left_out == {"same_text": 1}
    scene.vote("x", "y", "d", "B"), scene.vote("x", "y", "e", "both_bad")
    assert scene.export("dpo")[0].left_out == {"no_majority": 1, "same_text": 1}


def test_corrections_scores_and_rankings_become_pairs(scene: Scene) -> None:
    more = {"app": "compare:c", "item": "1"}
    for run, output in (("x", "一"), ("y", "二"), ("z", "三")):
        scene.answer(run, output, **more)
    scene.rate("x", "a", score=5), scene.rate("y", "a", score=2), scene.rate("x", "b", thumb=1), scene.rate("y", "b", thumb=-1)
    scene.rate("x", "c", scores={"ranking": ["z", "y"]})
    scene.rate("y", "d", correction="四")
    _, rows = scene.export("dpo")
    check_trl("dpo", rows)
    found = {(text(row, "chosen"), text(row, "rejected")): (row["source"], row["raters"], row["chosen_run_id"], row["run_id"]) for row in rows}
    assert found == {("一", "二"): ("score", 2, "x", "x"), ("三", "二"): ("ranking", 1, "z", "z"), ("四", "二"): ("correction", 1, None, "y")}


def test_one_rater_counts_once_per_pair_and_a_vote_says_more_than_scores(scene: Scene) -> None:
    scene.answer("x", "一", item="1"), scene.answer("y", "二", item="1")
    scene.vote("x", "y", "a", "B")
    scene.rate("x", "a", score=5), scene.rate("y", "a", score=1)
    (row,) = scene.export("dpo")[1]
    assert (text(row, "chosen"), row["raters"], row["source"]) == ("二", 1, "vote")


def test_never_both_directions(scene: Scene) -> None:
    scene.answer("x", "一"), scene.answer("y", "二")
    scene.answer("x2", "一", question="別の聞き方"), scene.answer("y2", "二")
    scene.vote("x", "y", "a", "A"), scene.vote("x2", "y2", "b", "B")
    report, rows = scene.export("dpo")
    assert rows == [] and report.left_out == {"contradictory": 1}
    scene.vote("x2", "y2", "b", "A")
    assert [text(row, "chosen") for row in scene.export("dpo")[1]] == ["一", "一"]


def test_what_was_taken_back_or_skipped_does_not_count_and_late_ones_do(scene: Scene) -> None:
    scene.answer("x", "一"), scene.answer("y", "二"), scene.answer("z", "三", question="別")
    wrong = scene.vote("x", "y", "a", "A")
    scene.vote("x", "y", "a", "withdrawn", supersedes=wrong.id)
    up = scene.rate("x", "a", thumb=1)
    scene.rate("x", "a", supersedes=up.id, withdrawn=True)
    scene.rate("y", "a", skipped="読めない")
    scene.rate("z", "a", thumb=1, flags=("late",))
    assert scene.export("dpo")[1] == []
    report, rows = scene.export("sft")
    assert [row["run_id"] for row in rows] == ["z"] and report.left_out == {"skipped": 1}
    _, table = scene.export("table")
    assert [(row["run_id"], row["late"]) for row in table] == [("z", True)]


def test_the_newest_score_counts(scene: Scene) -> None:
    scene.answer("x")
    scene.rate("x", "a", score=1), scene.rate("x", "a", score=5)
    assert len(scene.export("sft")[1]) == 1


def test_raters_have_pseudonyms_unless_told_otherwise(scene: Scene) -> None:
    scene.answer("x")
    scene.rate("x", "花子", thumb=1, comment="良い")
    secret = pseudonym(pseudonym_key(scene.store), "花子")
    for kind, column in (("sft", "rater_ids"), ("kto", "rater_ids"), ("table", "rater")):
        _, (row,) = scene.export(kind)
        assert secret in row[column] and "花子" not in json.dumps(row, ensure_ascii=False)
        _, (row,) = scene.export(kind, pseudonyms=False)
        assert "花子" in row[column]


def test_what_is_taken_can_be_narrowed(scene: Scene) -> None:
    scene.answer("x", "一", app="compare:c1"), scene.answer("y", "二", app="compare:c2", prompt_name="other")
    for run in ("x", "y"):
        scene.rate(run, "a", thumb=1, campaign_id=f"of {run}")
        scene.rate(run, "b", thumb=1, campaign_id=f"of {run}")
    for narrow in ({"campaign": "of x"}, {"comparison": "c1"}, {"prompts": "ask"}, {"prompts": ["ask"]}):
        assert [row["run_id"] for row in scene.export("sft", **narrow)[1]] == ["x"], narrow
    report, rows = scene.export("sft", consent=["a"])
    assert [row["raters"] for row in rows] == [1, 1] and report.left_out == {"no_consent": 2}
    report, rows = scene.export("sft", min_raters=3)
    assert rows == [] and report.left_out == {"few_raters": 2} and "評価者数が不足 2件" in report.text("ja")


ODD = "改行\nと🎉と「引用」, \"quotes\"\u2028終わり"
FORMULAS = ("=cmd|' /C calc'!A0", "+1", "-1+1", "@SUM(A1)", "＝1+1", "\t=1")


def fill(scene: Scene) -> list[str]:
    comments = [ODD, *FORMULAS]
    scene.answer("x", "=1+1", question="＝質問", adapter="lora-7"), scene.answer("y", "二")
    for place, comment in enumerate(comments):
        scene.rate("x", f"r{place}", scores={"score": place % 5 + 1, "usable": place % 2 == 0, "comment": "=x"}, comment=comment, tags=("語調", "🎉"))
    scene.vote("x", "y", "r0", "B", comment="右が良い")
    return comments


def test_a_table_has_every_criterion_and_where_the_answer_comes_from(scene: Scene) -> None:
    comments = fill(scene)
    _, rows = scene.export("table")
    assert [row["comment"] for row in rows] == [*comments, "右が良い"], "JSON lines hold every text as it is"
    first, vote = rows[0], rows[-1]
    assert (first["kind"], first["run_id"], first["prompt_name"], first["prompt_version"]) == ("rating", "x", "ask", 3)
    assert (first["model"], first["model_revision"], first["adapter"]) == ("starter-lm", "abc123", "lora-7")
    assert (first["score"], first["usable"], first["criterion_comment"], first["tags"], first["late"]) == (1, True, "=x", "語調, 🎉", False)
    assert (vote["kind"], vote["choice"], vote["run_id"], vote["other_run_id"], vote["preferred_run_id"]) == ("vote", "B", "x", "y", "y")
    assert "who-asked" not in json.dumps(rows)


def test_csv_opens_in_excel_and_runs_no_formula(scene: Scene) -> None:
    comments = fill(scene)
    path = scene.folder / "表.CSV"
    export(scene.store, "table", path)
    raw = path.read_bytes()
    assert raw.startswith(b"\xef\xbb\xbf")
    records = list(csv.DictReader(io.StringIO(raw.decode("utf-8-sig"), newline="")))
    assert [record["comment"] for record in records] == [comments[0], *("'" + comment for comment in comments[1:]), "右が良い"]
    assert records[0]["answer"] == "'=1+1" and records[0]["prompt"] == "'＝質問" and records[0]["criterion_comment"] == "'=x"
    assert read_rows(path).rows[0]["tags"] == "語調, 🎉"


def test_xlsx_holds_text_as_text(scene: Scene) -> None:
    comments = fill(scene)
    path = scene.folder / "表.xlsx"
    export(scene.store, "table", path)
    sheet = openpyxl.load_workbook(path).active
    header, *rows = [list(row) for row in sheet.iter_rows()]
    column = [cell.value for cell in header].index("comment")
    cells = [row[column] for row in rows]
    assert {cell.data_type for cell in cells} == {"s"}
    assert [cell.value for cell in cells][1:-1] == ["'" + comment for comment in comments[1:]] and "🎉" in cells[0].value


def test_parquet_keeps_types_and_texts(scene: Scene) -> None:
    comments = fill(scene)
    scene.rate("y", "r1", scores={"usable": "しない", "score": 4.5, "ranking": ["y", "x"]})
    path = scene.folder / "table.parquet"
    export(scene.store, "table", path)
    frame = pd.read_parquet(path)
    assert frame["comment"].tolist()[: len(comments)] == comments
    assert frame["score"].dropna().tolist()[-1] == 4.5 and str(frame["created_at"].dtype).startswith("datetime64[ns, UTC")
    assert set(frame["usable"].dropna()) == {"true", "false", "しない"}, "values of several kinds are text"
    assert frame["ranking"].dropna().tolist() == ['["y", "x"]']


def test_an_empty_export_is_a_file_with_nothing_in_it(scene: Scene) -> None:
    for kind in ("sft", "dpo", "kto"):
        assert scene.export(kind) == (ExportReport(scene.folder / f"{kind}.jsonl", kind, 0, {}), [])
    for suffix in (".csv", ".xlsx", ".parquet", ".jsonl"):
        assert export(scene.store, "table", scene.folder / f"t{suffix}").rows == 0
    assert list(pd.read_parquet(scene.folder / "t.parquet").columns)[:3] == ["id", "kind", "run_id"]


def test_what_does_not_serve_is_refused_by_name(scene: Scene) -> None:
    tables = ".csv, .xlsx, .jsonl, .parquet"
    refused = [("rlhf", "a.jsonl", "sft, dpo, kto, table"), ("sft", "a.csv", ".jsonl"), ("table", "a.pdf", tables), ("dpo", "a", ".jsonl")]
    for kind, name, allowed in refused:
        with pytest.raises(InvalidValue, match=allowed):
            export(scene.store, kind, scene.folder / name)
    with pytest.raises(InvalidValue, match="min_raters"):
        export(scene.store, "sft", scene.folder / "a.jsonl", min_raters=0)
    assert not list(scene.folder.glob("a*"))


def test_a_file_is_written_whole_or_not_at_all(scene: Scene) -> None:
    scene.answer("x", "長い答え" * 1000)
    scene.rate("x", "a", thumb=1)
    with pytest.raises(NotSaved, match="NOT written"):
        export(scene.store, "sft", scene.folder / "missing" / "a.jsonl")
    (scene.folder / "folder.jsonl").mkdir()
    with pytest.raises(NotSaved):
        export(scene.store, "sft", scene.folder / "folder.jsonl")
    path = scene.folder / "kept.jsonl"
    path.write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))    # the disk takes no more than this of a file
    try:
        with pytest.raises(NotSaved, match="書き出されていません"):
            export(scene.store, "sft", path, pseudonyms=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_text() == "before" and not list(scene.folder.glob(".*.part"))
    assert export(scene.store, "sft", path).rows == 1 and path.stat().st_size > 1000


def test_a_lone_surrogate_and_odd_line_ends_stay_one_line_of_utf8(scene: Scene) -> None:
    scene.answer("x", f"答え{ODD}\x85")
    scene.rate("x", "a", thumb=1)
    _, (row,) = scene.export("sft")
    assert text(row) == f"答え{ODD}\x85"
    assert len((scene.folder / "sft.jsonl").read_text("utf-8").splitlines()) == 1


def test_thousands_of_events_are_exported_quickly_and_each_pair_once(scene: Scene) -> None:
    for item in range(50):
        for variant in "xyz":
            scene.answer(f"{variant}{item}", f"{variant}の答え{item}", question=f"質問{item}", app="compare:c", item=str(item))
    with scene.store.change() as change:
        for number in range(40 * 50):
            item, rater = number % 50, number // 50
            left, right = (f"x{item}", f"y{item}") if (item + rater) % 2 else (f"y{item}", f"x{item}")
            change.append(Vote(f"n{number:05}", scene.at(), f"r{rater}", str(item), left, right, left[0], right[0], "A" if left[0] == "x" else "B"))
            change.append(Feedback(f"n{number:05}", scene.at(), f"z{item}", f"r{rater}", {"score": 5 - rater % 2}))
    report, rows = scene.export("dpo")
    check_trl("dpo", rows)
    assert report.rows == 50 and {row["raters"] for row in rows} == {40} and rows[0]["weight"] == round(41 / 42, 4)
    assert scene.export("table")[0].rows == 4000


def test_answers_with_the_same_number_to_different_questions_are_no_preference(scene: Scene) -> None:
    for number, question in enumerate(("富士山の高さは", "有給は何日", "有給は何日")):
        scene.answer(f"r{number}", f"回答{number}", question=question, app="import", item="1")
        scene.rate(f"r{number}", "花子", score=5 - 2 * number)
    rows = scene.export("dpo")[1]
    assert [(row["chosen_run_id"], row["rejected_run_id"]) for row in rows] == [("r1", "r2")]


def test_a_correction_that_differs_by_a_line_end_is_not_a_bad_answer_too(scene: Scene) -> None:
    scene.answer("r1", "20日です。\n")
    scene.rate("r1", "a", score=1)
    scene.rate("r1", "b", correction="20日です。")
    assert [(row["label"], row["completion"][0]["content"]) for row in scene.export("kto")[1]] == [(True, "20日です。")]
