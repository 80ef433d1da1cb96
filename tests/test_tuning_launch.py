"""The launch of a job and its handle: what is refused before there is a row, the data frozen, the curves settled, the sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from llmops_kit.access import User
from llmops_kit.errors import AccessDenied, Busy, InvalidValue, KitError, ModelNotReady, UnknownName, UnreadableFile
from llmops_kit.jobs import Jobs
from llmops_kit.kit import Kit, open_kit
from llmops_kit.tuning import TuneSpec
from llmops_kit.tuning.frozen import DATA_FILE, freeze_dataset, read_frozen
from llmops_kit.tuning.handle import TuneJob, settle_steps
from llmops_kit.types import Job, JobEvent, JobState, new_id, now
from tests.tiny_model import build_tiny_model

PAIRS = [{"prompt": f"質問{number}", "chosen": f"良い答え{number}", "rejected": f"悪い答え{number}"} for number in range(20)]


class StillJobs(Jobs):
    """Jobs that stay in line: no process is started."""

    def watch(self) -> None:
        return None

    def _try_dispatch(self) -> int:
        return 0


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    folder = build_tiny_model(tmp_path / "tiny")
    with open_kit(tmp_path / "workspace") as opened:
        opened.models.add("tiny", provider="huggingface", model=str(folder), context_tokens=512, dtype="float32")
        opened.__dict__["jobs"] = StillJobs(opened.store, opened.settings)
        yield opened


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    return write(tmp_path / "rows.jsonl", [{"prompt": f"{number}番目の質問です。", "completion": f"{number}番目の答えでございます。"} for number in range(40)])


def write(file: Path, values: list[dict[str, Any]]) -> Path:
    file.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values), encoding="utf-8")
    return file


def spec_of(rows: Path, **fields: Any) -> TuneSpec:
    return TuneSpec(**{"base": "tiny", "data": str(rows), **fields})


def test_a_launch_puts_a_resolved_spec_in_line_with_its_data_and_its_estimate(kit: Kit, rows: Path) -> None:
    job = kit.tuning.launch(spec_of(rows), owner="hanako")
    record = job.record
    assert job.state == "queued" and record.owner == "hanako" and record.kind == "tune" and record.name == "rows"
    spec = TuneSpec(**record.spec)
    assert None not in (spec.learning_rate, spec.max_tokens, spec.eval_every, spec.save_every, spec.checkpointing) and spec.data == str(rows)
    assert record.expected_s == job.estimate["seconds"] and job.estimate["lines"]
    assert job.model is None and job.adapter_path is None and not len(job.metrics())


def test_a_changed_upload_changes_nothing_in_a_job_that_waits(kit: Kit, rows: Path) -> None:
    before = kit.tuning.read(rows)
    job = kit.tuning.launch(spec_of(rows))
    rows.write_text("gone", encoding="utf-8")
    frozen = read_frozen(kit.jobs.folder(job.id))
    assert frozen.examples == before.examples and frozen.sha256 == before.sha256 and frozen.split(0.1, 7) == before.split(0.1, 7)
    file = kit.jobs.folder(job.id) / DATA_FILE
    file.write_text(file.read_text(encoding="utf-8").replace("答え", "嘘"), encoding="utf-8")
    with pytest.raises(UnreadableFile, match="changed"):
        read_frozen(kit.jobs.folder(job.id))


def test_preferences_keep_everything_when_they_are_frozen(kit: Kit, tmp_path: Path) -> None:
    dataset = kit.tuning.read(PAIRS)
    weighted = replace(dataset, examples=tuple(replace(each, weight=0.5, item="i1") for each in dataset.examples))
    freeze_dataset(weighted, tmp_path / "job")
    assert read_frozen(tmp_path / "job").examples == weighted.examples


def test_the_same_id_sent_again_is_the_same_job(kit: Kit, rows: Path) -> None:
    id = new_id()
    first = kit.tuning.launch(spec_of(rows), id=id)
    again = kit.tuning.launch(spec_of(rows, rank=2), id=id)
    assert first.id == again.id == id and again.record.spec["rank"] == 8 and len(kit.jobs.find()) == 1


REFUSED: dict[str, tuple[dict[str, Any], type[KitError], str]] = {
    "a base that does not exist": ({"base": "nobody"}, UnknownName, "nobody"),
    "a server": ({"base": "gpt-4o-mini"}, InvalidValue, "gpt-4o-mini"),
    "an embedder": ({"base": "starter-embed"}, InvalidValue, "starter-embed"),
    "a reader": ({"base": "starter-reader"}, InvalidValue, "starter-reader"),
    "a model that is not downloaded": ({"base": "open-calm-small"}, ModelNotReady, "open-calm-small"),
    "four bits without a GPU": ({"method": "qlora"}, InvalidValue, "qlora"),
    "a rank larger than the layers": ({"rank": 33}, InvalidValue, "33"),
    "layers that are not there": ({"targets": ("query_key_value",)}, InvalidValue, "query_key_value"),
    "rows longer than the base takes": ({"max_tokens": 513}, InvalidValue, "513"),
    "preferences wanted of answers": ({"method": "dpo"}, InvalidValue, "chosen, rejected"),
    "labels wanted of answers": ({"method": "kto"}, InvalidValue, "label"),
    "more processes than cores": ({"processes": 64}, InvalidValue, "64"),
    "the name of a model": ({"name": "taken"}, InvalidValue, "taken"),
    "a file that is not there": ({"data": "none.csv"}, UnreadableFile, "none.csv"),
}


@pytest.mark.parametrize("why", list(REFUSED))
def test_what_cannot_run_is_refused_before_there_is_a_row(kit: Kit, rows: Path, why: str) -> None:
    fields, error, named = REFUSED[why]
    kit.models.add("tiny+taken", base="tiny")
    with pytest.raises(error) as caught:
        kit.tuning.launch(spec_of(rows, **fields))
    assert named in caught.value.text("en") and caught.value.text("ja") != caught.value.text("en")
    assert not kit.jobs.find() and not list(kit.settings.jobs_folder.glob("*"))


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([{"prompt": "質問", "completion": "答え"}], "only one row"),
        ([{"prompt": "質問", "completion": "答え"}, {"prompt": "質問", "completion": "答え"}] * 9, "the same"),
        ([{"prompt": f"質問{number}", "completion": ""} for number in range(5)], "rows"),
        ([{"colour": "red", "size": number} for number in range(5)], "colour"),
    ],
    ids=["one row", "only duplicates", "no answers", "no columns"],
)
def test_data_that_teaches_nothing_is_refused_with_its_reason(kit: Kit, tmp_path: Path, values: list[dict[str, Any]], named: str) -> None:
    with pytest.raises(KitError, match=named):
        kit.tuning.launch(spec_of(write(tmp_path / "bad.jsonl", values)))
    assert not kit.jobs.find()


def test_answers_are_not_learnt_from_preferences_but_marks_are(kit: Kit, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", PAIRS)
    with pytest.raises(InvalidValue, match="method='dpo'") as caught:
        kit.tuning.launch(spec_of(pairs))
    assert "選好" in caught.value.text("ja")
    job = kit.tuning.launch(spec_of(pairs, method="kto"))
    frozen = read_frozen(kit.jobs.folder(job.id))
    assert frozen.kind == "kto" and len(frozen.examples) == 40
    assert read_frozen(kit.jobs.folder(kit.tuning.launch(spec_of(pairs, method="dpo")).id)).kind == "dpo"


def test_one_process_learns_preferences_and_marks_are_of_both_kinds(kit: Kit, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", PAIRS)
    good = write(tmp_path / "good.jsonl", [{"prompt": f"質問{number}", "completion": f"答え{number}", "label": True} for number in range(9)])
    for fields, named in (({"method": "dpo", "processes": 2}, "processes"), ({"method": "kto", "processes": 2}, "processes")):
        with pytest.raises(InvalidValue, match=named):
            kit.tuning.launch(spec_of(pairs, **fields))
    with pytest.raises(InvalidValue, match="Add bad") as caught:
        kit.tuning.launch(spec_of(good, method="kto"))
    assert "悪い（false）" in caught.value.text("ja") and not kit.jobs.find()


def test_rank_and_learning_rate_out_of_reason_are_no_spec_at_all(rows: Path) -> None:
    wrong: list[dict[str, Any]] = [{"rank": 0}, {"learning_rate": 10}, {"rank": "many"}, {"prompts": ("a",) * 9}, {"targets": ()}, {"colour": 1}]
    for fields in wrong:
        with pytest.raises(InvalidValue, match=next(iter(fields))) as caught:
            spec_of(rows, **fields)
        assert "should" not in caught.value.text("ja")


def test_rows_in_memory_are_no_data_of_a_spec(kit: Kit) -> None:
    with pytest.raises(InvalidValue, match="save the rows"):
        kit.tuning.spec([{"prompt": f"q{number}", "completion": f"a{number}"} for number in range(9)], base="tiny")  # type: ignore[arg-type]


def test_a_name_is_taken_while_a_job_makes_it(kit: Kit, rows: Path) -> None:
    kit.tuning.launch(spec_of(rows, name="polite"))
    with pytest.raises(InvalidValue, match="polite"):
        kit.tuning.launch(spec_of(rows, name="polite"))
    kit.tuning.launch(spec_of(rows, name="polite", base="starter-lm"))
    kit.tuning.launch(spec_of(rows))
    kit.tuning.launch(spec_of(rows))  # a name that was left open finds a free one when it is published
    assert len(kit.jobs.find()) == 4


def test_what_does_not_fit_is_refused_with_what_would(kit: Kit, rows: Path, tmp_path: Path) -> None:
    with open_kit(tmp_path / "small", job_memory_gb=0.5) as small:
        with pytest.raises(InvalidValue) as caught:
            small.tuning.launch(spec_of(rows, base="starter-lm"))
        assert "does not fit" in caught.value.text("en") and "0.5 GB" in caught.value.text("ja") and not small.jobs.find()


def test_who_has_too_many_waiting_is_told_and_nothing_is_left(kit: Kit, rows: Path) -> None:
    for _ in range(kit.settings.jobs_waiting):
        kit.tuning.launch(spec_of(rows), owner="taro")
    with pytest.raises(Busy, match="waiting"):
        kit.tuning.launch(spec_of(rows), owner="taro")
    assert len(list(kit.settings.jobs_folder.iterdir())) == kit.settings.jobs_waiting


def event(attempt: int, step: int, kind: str, second: int, **data: Any) -> JobEvent:
    return JobEvent(new_id(), "j", now() + timedelta(seconds=second), attempt, step, kind, data)


def test_steps_that_were_done_again_count_as_they_were_the_last_time() -> None:
    first = [event(1, step, "train", step, loss=float(step)) for step in (1, 2, 3, 4, 5, 6)]
    again = [event(2, step, "train", 10 + step, loss=100.0 + step) for step in (4, 5)]
    settled = settle_steps([*first, event(1, 0, "eval", 0, eval_loss=9.0), event(1, 5, "note", 5, en="a", ja="b"), *again])
    assert [(each.step, each.data["loss"]) for each in settled if each.kind == "train"] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 104.0), (5, 105.0)]
    assert [each.kind for each in settled].count("note") == 1 and settled[0].kind == "eval"


def finish(kit: Kit, job: TuneJob, state: JobState, **values: Any) -> None:
    with kit.store.change() as change:
        change.update(Job, job.id, state=state, **values)


def add_events(kit: Kit, job: TuneJob, events: list[JobEvent]) -> None:
    for each in events:
        kit.store.append(replace(each, job_id=job.id))


def test_the_handle_shows_curves_samples_and_examples(kit: Kit, rows: Path) -> None:
    job = kit.tuning.launch(spec_of(rows))
    shown = {"prompt": "質問", "expected": "答え", "base": "前"}
    steps = [event(1, step, "train", step, loss=3.0 / step, learning_rate=1e-3, tokens_per_s=50.0, epoch=step / 4) for step in (1, 2)]
    scores = [event(1, step, "eval", step, eval_loss=2.0 - step, token_accuracy=0.5, epoch=0.0) for step in (0, 2)]
    samples = [event(1, step, "sample", step, **shown, text=f"後{step}") for step in (0, 2)]
    extremes = [event(1, step, "example", step, rank="worst", loss=1.0, prompt="p", expected="e", text=f"t{step}") for step in (1, 2)]
    add_events(kit, job, [*steps, *scores, *samples, *extremes])
    metrics = job.metrics()
    assert list(metrics.columns) == ["step", "epoch", "loss", "eval_loss", "token_accuracy", "learning_rate", "tokens_per_s", "seconds"]
    assert metrics["step"].tolist() == [0, 1, 2] and metrics["eval_loss"].iloc[2] == 0.0 and metrics["seconds"].iloc[2] == pytest.approx(2, abs=0.2)
    assert job.samples()["text"].tolist() == ["後0", "後2"] and job.examples()["text"].tolist() == ["t2"]
    assert [each.kind for each in job.events("eval")] == ["eval", "eval"] and job.log() == ""


def test_sentences_say_place_progress_reason_and_how_the_estimate_was(kit: Kit, rows: Path) -> None:
    first, second = kit.tuning.launch(spec_of(rows), owner="a"), kit.tuning.launch(spec_of(rows), owner="b")
    assert "number 1" in first.text() and "2番目" in second.text("ja") and "starts in about" in second.text()
    finish(kit, first, "running", progress={"step": 3, "steps": 10, "seconds_left": 70.0}, attempt=1, started_at=now())
    assert "step 3 of 10" in first.text() and "残り約70秒" in first.text("ja") and "<progress value='3' max='10'" in first._repr_html_()
    done = {"progress": {}, "ended_at": now() + timedelta(seconds=30), "result": {"model": "tiny+rows", "peak_memory_gb": 0.5, "steps": 9, "tokens": 99}}
    finish(kit, first, "finished", **done)
    assert "took 30 s" in first.text() and "実際30秒" in first.text("ja") and first.model == "tiny+rows"
    compared = first.against_estimate()
    assert compared.loc["seconds", "actual"] == pytest.approx(30, abs=1) and compared.loc["memory_gb", "ratio"] > 0
    finish(kit, second, "failed", reason={"code": "out_of_memory", "en": "It ran out of <memory>.", "ja": "メモリー不足です。"})
    assert "It ran out" in second.text() and "メモリー不足" in second.text("ja") and "<memory>" not in second._repr_html_()
    table = kit.tuning.jobs()
    assert table["state"].tolist() == ["failed", "finished"] and kit.tuning.jobs("a")["id"].tolist() == [first.id]


def test_only_the_owner_and_the_facilitator_stop_a_job(kit: Kit, rows: Path) -> None:
    job = kit.tuning.launch(spec_of(rows), owner="hanako")
    with pytest.raises(AccessDenied):
        job.cancel(by=User("taro", "participant"))
    assert job.state == "queued" and job.cancel(by=User("sensei", "facilitator")).state == "cancelled"
    assert job.resume(by=User("hanako", "participant")).state == "queued"
    assert job.wait(timeout_s=0.1, progress=False).state == "queued"
    with pytest.raises(UnknownName):
        kit.tuning.job("nothing")


def test_a_pretraining_waits_with_its_texts_in_the_same_line(kit: Kit, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text("\n\n".join(f"これは{number}番目の段落です。いろいろなことが書いてあります。" * 4 for number in range(30)), encoding="utf-8")
    job = kit.tuning.pretrain(folder, name="my-lm", steps=10, owner="hanako")
    (folder / "a.txt").unlink()
    assert job.record.kind == "pretrain" and job.record.spec["steps"] == 10 and job.record.spec["eval_every"] == 1 and job.estimate["steps"] == 10
    assert "30番目" not in (kit.jobs.folder(job.id) / "texts.jsonl").read_text(encoding="utf-8")
    assert kit.tuning.jobs()["kind"].tolist() == ["pretrain"]
    with pytest.raises(KitError):
        kit.tuning.pretrain(folder, name="other")


def test_a_measured_estimate_is_kept_with_the_job_and_one_that_does_not_fit_is_refused(kit: Kit, rows: Path) -> None:
    spec = spec_of(rows)
    measured = replace(kit.tuning.estimate(spec), basis="trial", seconds=77.0)
    job = kit.tuning.launch(spec, estimate=measured)
    assert job.estimate["seconds"] == 77.0 and job.estimate["basis"] == "trial" and job.record.expected_s == 77.0
    with pytest.raises(InvalidValue, match="too much"):
        kit.tuning.launch(spec.change(name="other"), estimate=replace(measured, fits=False, advice={"en": "too much", "ja": "不足"}))
