"""A training shared by two processes: the same losses and the same adapter as with one."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from llmops_kit import open_kit
from llmops_kit.tuning.spec import TuneSpec
from tests.tiny_model import build_tiny_model
from tests.tuning_work import write_rows


def test_two_processes_learn_what_one_learns(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 32)
    with open_kit(tmp_path / "workspace") as kit:
        kit.models.add("tiny", provider="huggingface", model=str(build_tiny_model(tmp_path / "tiny")), context_tokens=512, dtype="float32")
        spec = TuneSpec(base="tiny", data=str(rows), max_steps=8, epochs=4, batch_tokens=300, learning_rate=5e-3, eval_every=4, wandb=False)
        jobs = [kit.tuning.launch(spec.change(processes=count, name=f"n{count}")).wait(timeout_s=240) for count in (1, 2)]
        assert [job.state for job in jobs] == ["finished", "finished"], [(job.record.reason, job.log()) for job in jobs]
        one, two = ([event.data["loss"] for event in job.events("train")] for job in jobs)
        assert len(one) == len(two) == 8 and two == pytest.approx(one, rel=1e-4)
        first, second = (load_file(Path(str(job.adapter_path)) / "adapter_model.safetensors") for job in jobs)
        assert max(float((first[name] - second[name]).abs().max()) for name in first) < 1e-3
        assert jobs[1].record.result["eval_loss"] == pytest.approx(jobs[0].record.result["eval_loss"], rel=1e-3)
        stopped = kit.tuning.launch(spec.change(processes=2, name="n3", max_steps=None, epochs=900))
        while not stopped.record.has_ended and not stopped.events("train"):
            stopped.wait(timeout_s=0.2)
        stopped.cancel()
        stopped.wait(timeout_s=120)
        assert stopped.state == "cancelled" and stopped.model is not None, (stopped.record.reason, stopped.log())
