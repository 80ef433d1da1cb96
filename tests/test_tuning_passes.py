"""The passes of a training: the same numbers as plain PEFT, in the order the seed says."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from llmops_kit.tuning.training.batches import make_batch, share_rows, split_rows
from llmops_kit.tuning.training.order import first_rows, plan_steps
from llmops_kit.tuning.training.place import Place
from tests.tiny_model import STARTER_FOLDER, build_tiny_model
from tests.tuning_numbers import adapter_on, plain_loss, random_rows

CPU = Place("cpu", "float32", 4096, 4096)
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny"))


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


def test_bfloat16_in_even_sizes_gives_the_loss_of_float32(tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from llmops_kit.tuning.training.adapters import join_layers
    from llmops_kit.tuning.training.passes import Passes

    rows = random_rows(12, 300)
    total = sum(row.counts * row.weight for row in rows)
    plain = float(plain_loss(adapter_on(AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)), rows, total))
    tuned = adapter_on(AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16))
    assert join_layers(tuned)
    passes = Passes.choose(tuned, Place("cpu", "bfloat16", 200, 4096), 0, rows, packing=True, casts=False)
    assert passes.packed and passes.train(rows, total) == pytest.approx(plain, rel=0.02)
    losses, _ = passes.measure(rows)
    assert sum(loss * row.weight for loss, row in zip(losses, rows, strict=True)) / total == pytest.approx(plain, rel=0.02)


def build_random(kind: str) -> Any:
    import torch
    import transformers

    torch.manual_seed(0)
    common = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128, "initializer_range": 0.2}
    wide = {**common, "intermediate_size": 64, "num_key_value_heads": 2}
    configs = {
        "gpt_neox": lambda: transformers.GPTNeoXConfig(**common, intermediate_size=64),
        "gpt2": lambda: transformers.GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=128, initializer_range=0.2),
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
    even = make_batch(rows, pad=0, device="cpu", multiple=32)
    assert even.ids.shape[1] % 32 == len(even.kept) % 32 == 0 and even.ids.shape[1] - batch.ids.shape[1] < 32
    assert float(even.weights.sum()) == float(batch.weights.sum()) and (even.owners < 0).sum() == len(even.kept) - len(batch.kept)
