"""The training of an adapter: the same numbers as plain PEFT, in the order the seed says, and what it tells and keeps on the way."""

from __future__ import annotations

import errno
import json
import math
import os
import random
from pathlib import Path
from typing import Any

import pytest

from llmops_kit.errors import Diverged, InvalidValue, NotSaved
from llmops_kit.tuning.spec import TuneSpec
from llmops_kit.tuning.training import train_adapter
from llmops_kit.tuning.training.batches import Row, make_batch, share_rows, split_rows
from llmops_kit.tuning.training.checkpoints import find_newest, list_checkpoints
from llmops_kit.tuning.training.order import first_rows, plan_steps
from llmops_kit.tuning.training.place import Place
from tests.tiny_model import STARTER_FOLDER, build_tiny_model
from tests.tuning_work import FakeWork, open_tuning, write_rows

CPU = Place("cpu", "float32", 4096, 4096)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def _one_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that wait for each other on a machine that is busy with other tests take many times as long as one."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)


@pytest.fixture
def tuning(tmp_path: Path, tiny: Path) -> Any:
    opened = open_tuning(tmp_path / "workspace", tiny)
    yield opened
    opened.kit.close()


def spec_of(tmp_path: Path, *, count: int = 32, base: str = "tiny", **changes: Any) -> TuneSpec:
    rows = write_rows(tmp_path / "rows.jsonl", count)
    values = {"base": base, "data": str(rows), "epochs": 2, "batch_tokens": 300, "learning_rate": 5e-3, "eval_every": 4, "seed": 3, "wandb": False, **changes}
    return TuneSpec(**values)


def random_rows(count: int, vocabulary: int, *, seed: int = 0, longest: int = 60) -> list[Row]:
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        length, answer = rng.randint(3, longest), rng.randint(1, 20)
        counted = tuple(place >= max(1, length - answer) for place in range(length))
        rows.append(Row(tuple(rng.randrange(5, vocabulary) for _ in range(length)), counted, 1.0 + number % 3, number))
    return rows


def adapter_on(model: Any, **changes: Any) -> Any:
    import torch

    from llmops_kit.tuning.training.adapters import add_adapter

    tuned = add_adapter(model, TuneSpec(data="x", **changes))
    torch.manual_seed(1)
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight, std=0.05)  # zero at its start: nothing would be seen of it
    return tuned


def plain_loss(tuned: Any, rows: list[Row], total: float) -> Any:
    """The same loss as anybody would write it: each row alone, all logits, torch's cross-entropy."""
    import torch

    loss = torch.zeros(())
    for row in rows:
        logits = tuned(input_ids=torch.tensor([row.ids]), use_cache=False).logits[0, :-1].float()
        counted = torch.tensor(row.counted[1:])
        each = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[1:]), reduction="none")
        loss = loss + each[counted].sum() * row.weight / total
    return loss


# --- numbers


@pytest.mark.parametrize("base", ["tiny", "starter-lm"])
@pytest.mark.parametrize("packing", [True, False])
def test_rows_side_by_side_have_the_loss_and_gradients_they_have_alone(base: str, packing: bool, tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from llmops_kit.tuning.training.adapters import join_layers
    from llmops_kit.tuning.training.passes import Passes

    folder = tiny if base == "tiny" else STARTER_FOLDER
    tuned = adapter_on(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    rows = random_rows(12, 300)
    total = sum(row.counts * row.weight for row in rows)
    plain = plain_loss(tuned, rows, total)
    plain.backward()
    weights = [weight for weight in tuned.parameters() if weight.requires_grad]
    wanted = [weight.grad.clone() for weight in weights]
    tuned.zero_grad()
    assert join_layers(tuned)
    passes = Passes.choose(tuned, Place("cpu", "float32", 200, 4096), 0, rows, packing=packing, casts=False)
    assert passes.packed is packing
    loss = passes.train(rows, total)
    assert loss == pytest.approx(float(plain), rel=1e-5)
    for weight, gradient in zip(weights, wanted, strict=True):
        assert torch.allclose(weight.grad, gradient, rtol=1e-3, atol=2e-6 * float(gradient.abs().max() + 1))
    if packing:
        alone = torch.cat([passes.logits([row]) for row in sorted(rows, key=lambda row: len(row.ids))])
        assert torch.allclose(passes.logits(rows), alone, atol=2e-4)
    losses, hits = passes.measure(rows)
    assert sum(loss * row.weight for loss, row in zip(losses, rows, strict=True)) / total == pytest.approx(float(plain), rel=1e-5)
    assert all(0 <= hit <= row.counts for hit, row in zip(hits, rows, strict=True))


def build_random(kind: str) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    common = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128, "initializer_range": 0.2}
    wide = {**common, "intermediate_size": 64, "num_key_value_heads": 2}
    configs = {
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**common, intermediate_size=64),
        "gpt2": lambda: transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.2, resid_pdrop=0, attn_pdrop=0),
        "qwen3": lambda: transformers.Qwen3Config(**wide, head_dim=8),
        "gemma2 with a cap": lambda: transformers.Gemma2Config(**wide, head_dim=8, sliding_window=16, attn_logit_softcapping=5.0),
        "mistral with a window": lambda: transformers.MistralConfig(**wide, sliding_window=16),
        "mamba": lambda: transformers.MambaConfig(vocab_size=300, hidden_size=32, num_hidden_layers=2, state_size=4),
    }
    return transformers.AutoModelForCausalLM.from_config(configs[kind](), dtype=torch.float32).eval()


@pytest.mark.parametrize(
    ("kind", "packed"), [("gpt_neox", True), ("gpt2", True), ("qwen3", True), ("gemma2 with a cap", False), ("mistral with a window", False), ("mamba", False)]
)
def test_other_architectures_are_packed_where_that_is_exact_and_padded_where_not(kind: str, packed: bool) -> None:
    from llmops_kit.tuning.training.passes import Passes

    model = build_random(kind)
    rows = random_rows(8, 300, longest=50)
    total = sum(row.counts * row.weight for row in rows)
    model.requires_grad_(False)
    model.get_input_embeddings().weight.requires_grad_(True)
    passes = Passes.choose(model, CPU, 0, rows, packing=True, casts=False)
    assert passes.packed is packed
    assert passes.train(rows, total) == pytest.approx(float(plain_loss(model, rows, total)), rel=1e-4)


@pytest.mark.parametrize("bias", [True, False])
def test_a_joined_layer_computes_what_pefts_layer_computes_with_dropout_too(bias: bool) -> None:
    import torch
    from peft import LoraConfig, get_peft_model

    from llmops_kit.tuning.training.joined import Joined

    torch.manual_seed(0)
    (layer,) = get_peft_model(torch.nn.Sequential(torch.nn.Linear(24, 40, bias=bias)), LoraConfig(r=4, lora_alpha=6, target_modules=["0"])).base_model.model
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    mask = (torch.rand(3, 7, 24) > 0.3) / 0.7
    x = torch.randn(3, 7, 24, requires_grad=True)
    push = torch.randn(3, 7, 40)
    for drops in (False, True):
        dropped = x * mask if drops else x
        wanted = layer.base_layer(x) + (dropped @ down.T @ up.T) * 1.5
        by_hand = torch.autograd.grad(wanted, (x, down, up), push)
        joined = Joined.apply(x, x * mask if drops else None, layer.base_layer.weight, layer.base_layer.bias, down, up, 1.5)
        assert torch.allclose(joined, wanted, atol=1e-5)
        if not drops:
            assert torch.allclose(joined, layer(x), atol=1e-5)
        for one, other in zip(torch.autograd.grad(joined, (x, down, up), push), by_hand, strict=True):
            assert torch.allclose(one, other, rtol=1e-4, atol=1e-4)


def test_the_loss_is_torchs_cross_entropy_and_so_is_its_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from llmops_kit.tuning.training import loss as module

    monkeypatch.setattr(module, "_PART_NUMBERS", 700)  # several parts
    torch.manual_seed(0)
    hidden, head = torch.randn(50, 8, requires_grad=True), torch.randn(30, 8)
    targets, weights = torch.randint(0, 30, (50,)), torch.rand(50)
    wanted = (torch.nn.functional.cross_entropy(hidden @ head.T, targets, reduction="none") * weights).sum()
    (gradient,) = torch.autograd.grad(wanted * 3, hidden)
    ours = module.CountedLoss.apply(hidden @ head.T, targets, weights)
    (got,) = torch.autograd.grad(ours * 3, hidden)
    assert float(ours) == pytest.approx(float(wanted), rel=1e-5) and torch.allclose(got, gradient, atol=1e-5)
    each, hits = module.measure_positions(hidden @ head.T, targets)
    assert float((each * weights).sum()) == pytest.approx(float(wanted), rel=1e-5) and hits.dtype == torch.bool


# --- order


def test_the_order_depends_on_the_seed_and_every_row_is_seen_once_an_epoch() -> None:
    rng = random.Random(0)
    groups = [[rng.randint(10, 60) for _ in range(rng.choice((1, 1, 2)))] for _ in range(40)]
    flat = [length for group in groups for length in group]
    steps = plan_steps(groups, epochs=2.5, batch_tokens=200, seed=1)
    assert steps == plan_steps(groups, epochs=2.5, batch_tokens=200, seed=1) != plan_steps(groups, epochs=2.5, batch_tokens=200, seed=2)
    first = [row for step in steps if step.epoch <= 1 for row in step.rows]
    second = [row for step in steps if 1 < step.epoch <= 2 for row in step.rows]
    third = [row for step in steps if step.epoch > 2 for row in step.rows]
    assert sorted(first) == sorted(second) == list(range(len(flat))) and first != second
    assert 0.35 * len(flat) < len(third) < 0.65 * len(flat) and steps[-1].epoch == 2.5
    sizes = [sum(flat[row] for row in step.rows) for step in steps]
    assert len([step for step in steps if step.epoch <= 1]) == math.ceil(sum(flat) / 200)
    assert min(sizes) > 100 and max(sizes) < 260, "no step is much smaller than the others"
    assert plan_steps(groups, epochs=2.5, batch_tokens=200, seed=1, max_steps=7) == steps[:7]
    assert len(plan_steps(groups, epochs=1, batch_tokens=10, seed=1)) == len(flat), "a row longer than a step is one"


def test_the_first_rows_are_those_of_the_first_step() -> None:
    examples: list[Any] = [f"row {number}" for number in range(30)]
    (step, *_) = plan_steps([[10]] * 30, epochs=1, batch_tokens=50, seed=9)
    assert first_rows(examples, 9)[: len(step.rows)] == [examples[row] for row in step.rows]


def test_rows_are_dealt_to_processes_evenly_and_none_goes_without() -> None:
    rows = random_rows(9, 100)
    dealt = [share_rows(rows, rank, 2) for rank in range(2)]
    assert sorted(row.example for part in dealt for row in part) == list(range(9))
    tokens = [sum(len(row.ids) for row in part) for part in dealt]
    assert max(tokens) < 1.4 * min(tokens)
    assert [row.weight for row in share_rows(rows[:1], 1, 2)] == [0.0]


def test_a_step_that_is_too_large_is_split_and_a_batch_wastes_little() -> None:
    rows = random_rows(40, 100)
    parts = split_rows(rows, max_tokens=300, max_counted=90)
    assert sorted(row.example for part in parts for row in part) == list(range(40))
    assert all(len(part) == 1 or (sum(len(row.ids) for row in part) <= 300 and sum(row.counts for row in part) <= 90) for part in parts)
    batch = make_batch(rows, pad=0, device="cpu")
    assert batch.ids.shape[1] == sum(number * width for number, width in batch.blocks) < 1.15 * sum(batch.lengths)
    assert len(batch.kept) == sum(row.counts for row in rows)


# --- a whole run


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
