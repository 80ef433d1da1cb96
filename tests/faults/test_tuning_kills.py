"""A training killed at random moments and resumed each time: the same steps, the same losses, and the adapter it would have made anyway."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from llmops_kit import open_kit
from llmops_kit.kit import Kit
from llmops_kit.tuning.spec import TuneSpec
from llmops_kit.tuning.training.checkpoints import find_newest
from tests.tiny_model import build_tiny_model
from tests.tuning_work import end_jobs, write_rows

KILLS = int(os.environ.get("LLMOPS_TEST_KILLS", "3"))
"""The suite has little time; run it with 20 for a figure."""
STEPS_A_KILL = 14
PATIENCE_S = 240.0


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    opened = open_kit(tmp_path / "workspace")
    tiny = build_tiny_model(tmp_path / "tiny")
    opened.models.add("tiny", provider="huggingface", model=str(tiny), context_tokens=512, dtype="float32")
    yield opened
    end_jobs(opened)
    opened.close()


def wait_for(look: Any, why: str) -> Any:
    give_up = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < give_up, why
        time.sleep(0.05)
    return found


def kill_once(kit: Kit, id: str, chance: random.Random, *, early: bool) -> bool:
    """Kill the job's process: `early` while it loads, else after some of its steps. False where it was done by then."""
    attempt = wait_for(lambda: (job := kit.jobs.get(id)).state == "running" and "pid" in job.handle and job, "it starts").attempt
    if not early:
        wait_for(lambda: kit.jobs.get(id).has_ended or any(event.attempt == attempt for event in kit.jobs.events(id, "train")), "it takes a step")
    time.sleep(chance.uniform(0, 1.5))
    job = kit.jobs.get(id)
    if job.state != "running":
        return False
    os.kill(int(job.handle["pid"]), signal.SIGKILL)
    ended = wait_for(lambda: (found := kit.jobs.get(id)).has_ended and found, "its end is seen")
    if ended.state == "finished":
        return False
    assert ended.state == "interrupted" and ended.reason["code"] == "killed", (ended.state, ended.reason, kit.jobs.log(id))
    kit.jobs.resume(id, by=ended.owner)
    return True


def test_a_training_killed_again_and_again_makes_the_adapter_it_would_have_made(kit: Kit, tmp_path: Path) -> None:
    chance = random.Random(os.environ.get("LLMOPS_TEST_SEED", "11"))
    rows = write_rows(tmp_path / "rows.jsonl", 48)
    steps = 20 + STEPS_A_KILL * KILLS
    often = {"max_steps": steps, "epochs": 900, "batch_tokens": 300, "save_every": 3, "eval_every": 20}
    spec = TuneSpec(base="tiny", data=str(rows), name="whole", learning_rate=2e-3, dropout=0.1, seed=5, wandb=False, **often)
    whole = kit.tuning.launch(spec).wait(timeout_s=PATIENCE_S)
    assert whole.state == "finished", (whole.record.reason, whole.log())
    cut = kit.tuning.launch(spec.change(name="cut"))
    kills = 0
    for number in range(KILLS):
        kills += kill_once(kit, cut.id, chance, early=number % 4 == 3)
    cut.wait(timeout_s=PATIENCE_S)
    assert cut.state == "finished", (cut.record.reason, cut.log())
    again = sum(1 for _ in kit.jobs.events(cut.id, "train")) - steps
    print(f"\n{kills} kills in {steps} steps, {cut.record.attempt} attempts, {again} steps done again")  # seen with -s
    assert kills >= max(1, KILLS - 2) and cut.record.attempt == kills + 1
    one, other = ({row["step"]: row["loss"] for row in job.metrics().to_dict("records") if row["step"]} for job in (whole, cut))
    assert sorted(one) == sorted(other) == list(range(1, steps + 1))
    assert all(other[step] == pytest.approx(one[step], rel=1e-5) for step in one)
    weights = [load_file(Path(str(job.adapter_path)) / "adapter_model.safetensors") for job in (whole, cut)]
    worst = max(float((weights[0][name] - weights[1][name]).abs().max()) for name in weights[0])
    print(f"largest difference of a weight: {worst:.2e}")
    assert weights[0].keys() == weights[1].keys() and worst < 1e-5
    assert cut.record.result["eval_loss"] == pytest.approx(whole.record.result["eval_loss"], rel=1e-5)


def test_a_cancelled_training_leaves_an_adapter_and_can_go_on(kit: Kit, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl", 48)
    spec = TuneSpec(base="tiny", data=str(rows), epochs=900, max_steps=400, batch_tokens=300, learning_rate=2e-3, save_every=50, eval_every=200, wandb=False)
    job = kit.tuning.launch(spec)
    wait_for(lambda: job.record.has_ended or kit.jobs.events(job.id, "train"), "it takes a step")
    job.cancel()
    job.wait(timeout_s=PATIENCE_S)
    assert job.state == "cancelled" and job.model is not None, (job.record, job.log())
    step = job.record.result["steps"]
    newest = find_newest(kit.jobs.folder(job.id) / "checkpoints")
    assert newest is not None and newest.name == f"step-{step:06d}" and 0 < step < 400
    assert kit.models.get(job.model).adapter == str(job.adapter_path) and kit.tuning.card(job.model).metrics["steps"] == step
