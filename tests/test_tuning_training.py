"""The training of an adapter as a job calls it: what it learns, tells and keeps on the way."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from llmops_kit.errors import Diverged, InvalidValue, NotSaved
from llmops_kit.tuning.spec import TuneSpec
from llmops_kit.tuning.training import place, train_adapter
from llmops_kit.tuning.training.batches import Row
from llmops_kit.tuning.training.checkpoints import find_newest, list_checkpoints
from tests.tiny_model import STARTER_FOLDER, build_tiny_model
from tests.tuning_numbers import plain_loss
from tests.tuning_work import FakeWork, open_tuning, write_rows

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that wait for each other on a machine that is busy with other tests take many times as long as one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(place, "has_fast_bfloat16", lambda: False)  # so that numbers can be compared closely wherever this runs


@pytest.fixture
def tuning(tmp_path: Path, tiny: Path) -> Any:
    opened = open_tuning(tmp_path / "workspace", tiny)
    yield opened
    opened.kit.close()


def spec_of(tmp_path: Path, *, count: int = 32, base: str = "tiny", **changes: Any) -> TuneSpec:
    rows = write_rows(tmp_path / "rows.jsonl", count)
    values = {"base": base, "data": str(rows), "epochs": 2, "batch_tokens": 300, "learning_rate": 5e-3, "eval_every": 4, "seed": 3, "wandb": False, **changes}
    return TuneSpec(**values)


def test_the_starter_model_learns_and_plain_peft_finds_the_same_loss(tuning: Any, tmp_path: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    spec = spec_of(tmp_path, count=64, base="starter-lm", epochs=3, eval_every=6)
    work = FakeWork(spec, tmp_path / "job")
    result = train_adapter(tuning, work)
    assert result["eval_loss"] < 0.5 * result["eval_loss_before"] and result["eval_loss"] == work.of("eval")[-1][1]["eval_loss"]
    assert work.of("eval")[0] == (0, {"eval_loss": result["eval_loss_before"], "token_accuracy": work.of("eval")[0][1]["token_accuracy"], "epoch": 0.0})
    steps = [step for step, _ in work.of("train")]
    assert steps == list(range(1, result["steps"] + 1)) and work.progressed[-1]["seconds_left"] == 0
    (_, started), *_ = work.of("started")
    assert started["steps"] == result["steps"] and started["dtype"] == "float32" and started["trainable_parameters"] > 100_000
    assert {data["rank"] for _, data in work.of("example")} == {"best", "worst"}
    last = [data for step, data in work.of("sample") if step == result["steps"]]
    assert len(last) == 4 and sum(data["text"].endswith("やで！") or data["text"].endswith("やで!") for data in last) >= 2
    assert all(data["base"] != data["text"] for data in last) and result["ends_by_itself"] and result["peak_memory_gb"] > 0.1

    encoder = tuning.kit.models.turn_encoder("starter-lm")
    _, kept = tuning.read(spec.data).split(spec.eval_share, spec.seed)
    rows = [row for rows in encoder.encode([example.messages for example in kept]) for row in rows]
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(STARTER_FOLDER, dtype=torch.float32), result["adapter_path"]).eval()
    plain = [Row(row.ids, row.counted, 1.0, 0) for row in rows]
    with torch.no_grad():
        loss = float(plain_loss(again, plain, sum(row.counts for row in plain)))
    assert loss == pytest.approx(result["eval_loss"], rel=1e-4)
    assert result["model"] in [entry.id for entry in tuning.kit.models.entries()]


def test_a_resumed_run_takes_the_same_steps_and_ends_with_the_same_adapter(tuning: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    spec = spec_of(tmp_path, dropout=0.1)
    whole = FakeWork(spec, tmp_path / "whole")
    result = train_adapter(tuning, whole)
    first = FakeWork(spec, tmp_path / "cut", stops_at=5)
    first.job = first.job.__class__(**{**first.job.__dict__, "id": "job-2"})
    stopped = train_adapter(tuning, first)
    assert stopped["stopped"] and stopped["steps"] == 5 and Path(stopped["adapter_path"], "adapter_model.safetensors").is_file()
    assert [path.name for path in list_checkpoints(tmp_path / "cut" / "checkpoints")][-1] == "step-000005"
    second = FakeWork(spec, tmp_path / "cut", attempt=2)
    second.job = first.job
    again = train_adapter(tuning, second)
    assert [step for step, _ in second.of("train")] == list(range(6, result["steps"] + 1))
    assert not [event for event in second.of("eval") if event[0] == 0], "the base was measured by the first attempt"
    losses = {step: data["loss"] for step, data in whole.of("train")}
    assert all(data["loss"] == pytest.approx(losses[step], rel=1e-6) for step, data in second.of("train"))
    assert again["eval_loss"] == pytest.approx(result["eval_loss"], rel=1e-6) and again["tokens"] == result["tokens"]
    one, other = (load_file(Path(each["adapter_path"]) / "adapter_model.safetensors") for each in (result, again))
    assert one.keys() == other.keys() and all(float((one[name] - other[name]).abs().max()) < 1e-6 for name in one)
    assert again["model"] != stopped["model"] and again["eval_loss_before"] == result["eval_loss_before"]


def test_a_finished_run_that_was_killed_before_its_end_was_written_only_publishes(tuning: Any, tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    result = train_adapter(tuning, FakeWork(spec, tmp_path / "job"))
    again = FakeWork(spec, tmp_path / "job", attempt=2)
    assert train_adapter(tuning, again)["model"] == result["model"] and not again.of("train")


def test_a_full_disk_costs_a_checkpoint_and_not_the_training(tuning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel

    spec = spec_of(tmp_path, save_every=2)
    work = FakeWork(spec, tmp_path / "job")
    saved = PeftModel.save_pretrained
    full: list[int] = []

    def save(self: Any, folder: str, **more: Any) -> None:
        step = work.progressed_step
        if 4 <= step < 10:
            full.append(step)
            Path(folder).mkdir(exist_ok=True)
            (Path(folder) / "half").write_bytes(b"x" * 100)
            raise OSError(errno.ENOSPC, "No space left on device")
        saved(self, folder, **more)

    monkeypatch.setattr(PeftModel, "save_pretrained", save)
    work.on_event = lambda kind, step: kind == "note" and step in full and assert_good(work.folder, 2)
    result = train_adapter(tuning, work)
    assert full == [4, 6, 8] and len(work.of("note")) >= 3 and "No space left" in work.of("note")[0][1]["en"]
    assert result["steps"] > 10 and find_newest(work.folder / "checkpoints") == work.folder / "checkpoints" / f"step-{result['steps']:06d}"
    assert not [path for path in (work.folder / "checkpoints").iterdir() if path.name.startswith(".")], "nothing half-written is left"


def assert_good(folder: Path, step: int) -> None:
    newest = find_newest(folder / "checkpoints")
    assert newest is not None and newest.name == f"step-{step:06d}"


def test_an_adapter_that_cannot_be_written_at_the_end_is_an_error(tuning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from peft import PeftModel

    saved = PeftModel.save_pretrained

    def save(self: Any, folder: str, **more: Any) -> None:
        if folder.endswith("adapter"):
            raise OSError(errno.ENOSPC, "No space left on device")
        saved(self, folder, **more)

    monkeypatch.setattr(PeftModel, "save_pretrained", save)
    with pytest.raises(NotSaved, match="No space left"):
        train_adapter(tuning, FakeWork(spec_of(tmp_path, max_steps=2), tmp_path / "job"))
    monkeypatch.setattr(PeftModel, "save_pretrained", saved)
    assert train_adapter(tuning, FakeWork(spec_of(tmp_path, max_steps=2), tmp_path / "job", attempt=2))["steps"] == 2


def test_a_damaged_checkpoint_is_passed_over(tuning: Any, tmp_path: Path) -> None:
    work = FakeWork(spec_of(tmp_path, save_every=2, max_steps=6), tmp_path / "job")
    train_adapter(tuning, work)
    older, newer = list_checkpoints(work.folder / "checkpoints")
    weights = newer / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4])
    assert find_newest(work.folder / "checkpoints") == older
    (older / "optimizer.pt").unlink()
    assert find_newest(work.folder / "checkpoints") is None


def test_a_loss_that_is_no_number_ends_it_and_nothing_is_published(tuning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops_kit.tuning.training.passes import Passes

    train = Passes.train
    monkeypatch.setattr(Passes, "train", lambda self, rows, total, **more: train(self, rows, total, **more) * (math.inf if work.progressed_step >= 3 else 1))
    work = FakeWork(spec_of(tmp_path), tmp_path / "job")
    with pytest.raises(Diverged) as failed:
        train_adapter(tuning, work)
    assert failed.value.facts["step"] == 4 and "発散" in failed.value.text("ja")
    assert not list((tmp_path / "workspace" / "adapters").glob("*"))


@pytest.mark.parametrize("changes", [{"method": "dora"}, {"checkpointing": True}, {"packing": False}, {"targets": ("q_proj", "v_proj")}, {"eval_share": 0.0}])
def test_every_kind_of_run_comes_to_its_end(tuning: Any, tmp_path: Path, changes: dict[str, Any]) -> None:
    work = FakeWork(spec_of(tmp_path, max_steps=4, **changes), tmp_path / "job")
    result = train_adapter(tuning, work)
    assert result["steps"] == 4 and Path(result["adapter_path"]).is_dir() and math.isfinite(work.of("train")[-1][1]["loss"])
    assert (result["eval_loss"] is None) == ("eval_share" in changes)


def test_recomputed_activations_and_padding_change_no_number(tuning: Any, tmp_path: Path) -> None:
    losses = []
    for number, changes in enumerate(({}, {"checkpointing": True}, {"packing": False})):
        work = FakeWork(spec_of(tmp_path, max_steps=4, name=f"n{number}", **changes), tmp_path / f"job{number}")
        train_adapter(tuning, work)
        losses.append([data["loss"] for _, data in work.of("train")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5) and losses[2] == pytest.approx(losses[0], rel=1e-4)


def test_rows_count_by_their_weight(tuning: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    from llmops_kit.tuning.dataset.examples import make_dataset
    from llmops_kit.tuning.frozen import freeze_dataset

    spec = spec_of(tmp_path, max_steps=1, batch_tokens=10_000, eval_share=0.0)
    data = tuning.read(spec.data)
    losses = []
    for number, weights in enumerate(([1.0], [3.0], [1.0, 0.0])):
        rows = [replace(each, weight=weights[place % len(weights)]) for place, each in enumerate(data.examples)]
        work = FakeWork(spec, tmp_path / f"job{number}")
        freeze_dataset(make_dataset(data, rows), work.folder)
        train_adapter(tuning, work)
        losses.append(work.of("train")[0][1]["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6) and losses[2] != pytest.approx(losses[0], rel=1e-3)


def test_layers_that_are_not_there_are_refused(tuning: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidValue, match="no_such"):
        train_adapter(tuning, FakeWork(spec_of(tmp_path, targets=("no_such",)), tmp_path / "job"))


def test_own_prompts_are_answered_at_each_evaluation(tuning: Any, tmp_path: Path) -> None:
    work = FakeWork(spec_of(tmp_path, max_steps=4, prompts=("やあ😀", "hello")), tmp_path / "job")
    train_adapter(tuning, work)
    assert [(step, data["prompt"]) for step, data in work.of("sample")] == [(0, "やあ😀"), (0, "hello"), (4, "やあ😀"), (4, "hello")]
    assert json.loads((tmp_path / "job" / "base.json").read_text())["texts"] == [data["base"] for _, data in work.of("sample")[:2]]


def test_bfloat16_learns_the_same_within_a_hundredth(tuning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    for number, fast in enumerate((False, True)):
        monkeypatch.setattr(place, "has_fast_bfloat16", lambda fast=fast: fast)
        work = FakeWork(spec_of(tmp_path, count=24, base="starter-lm", max_steps=6, name=f"n{number}"), tmp_path / f"job{number}")
        result = train_adapter(tuning, work)
        assert result["dtype"] == work.of("started")[0][1]["dtype"] == ("bfloat16" if fast else "float32")
        losses.append([data["loss"] for _, data in work.of("train")])
    assert losses[1] == pytest.approx(losses[0], rel=0.02) and losses[0][-1] < 0.8 * losses[0][0]
