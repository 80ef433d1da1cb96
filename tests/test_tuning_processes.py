"""A training shared by two processes: the same losses and the same adapter as with one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load_file

from llmops_kit import Kit, open_kit
from llmops_kit.models.readiness import has_fast_bfloat16
from llmops_kit.tuning.spec import TuneSpec
from tests.tiny_model import build_tiny_model
from tests.tuning_work import end_jobs, write_rows

NEAR = 3e-3 if has_fast_bfloat16() else 1e-4
"""How far two sums of the same numbers in another order are apart, as a share: bfloat16 has eight bits."""


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with open_kit(tmp_path / "workspace") as opened:
        opened.models.add("tiny", provider="huggingface", model=str(build_tiny_model(tmp_path / "tiny")), context_tokens=512, dtype="float32")
        yield opened
        end_jobs(opened)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="more processes than cores are refused")
def test_two_processes_learn_what_one_learns(kit: Kit, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 32)
    spec = TuneSpec(base="tiny", data=str(rows), max_steps=8, epochs=4, batch_tokens=300, learning_rate=5e-3, eval_every=4, wandb=False)
    jobs = [kit.tuning.launch(spec.change(processes=count, name=f"n{count}")).wait(timeout_s=240) for count in (1, 2)]
    assert [job.state for job in jobs] == ["finished", "finished"], [(job.record.reason, job.log()) for job in jobs]
    one, two = ([event.data["loss"] for event in job.events("train")] for job in jobs)
    assert len(one) == len(two) == 8 and two == pytest.approx(one, rel=NEAR)
    first, second = (load_file(Path(str(job.adapter_path)) / "adapter_model.safetensors") for job in jobs)
    learnt = [name for name in first if "lora_B" in name]  # begins at zero
    moved, apart = (sum(float(weights.square().sum()) for weights in made) for made in ([first[n] for n in learnt], [first[n] - second[n] for n in learnt]))
    assert apart < 3 * NEAR * moved
    assert jobs[1].record.result["eval_loss"] == pytest.approx(jobs[0].record.result["eval_loss"], rel=10 * NEAR)
    stopped = kit.tuning.launch(spec.change(processes=2, name="n3", max_steps=None, epochs=900))
    while not stopped.record.has_ended and not stopped.events("train"):
        stopped.wait(timeout_s=0.2)
    stopped.cancel()
    stopped.wait(timeout_s=120)
    assert stopped.state == "cancelled" and stopped.model is not None, (stopped.record.reason, stopped.log())
