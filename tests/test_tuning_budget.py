"""Presets, and what a fine-tuning will take: the formulae against figures worked out elsewhere, PEFT's own count, and a trial of ten steps."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmops_kit.errors import InvalidValue, UnknownName
from llmops_kit.kit import Kit, open_kit
from llmops_kit.models.readiness import has_fast_bfloat16
from llmops_kit.tuning import TuneSpec
from llmops_kit.tuning.budget import estimate_spec, plan_budget
from llmops_kit.tuning.budget.estimate import format_time
from llmops_kit.tuning.budget.speed import count_work, remember_speed, trust_speed
from llmops_kit.tuning.presets import choose_batch, choose_rate, count_steps, name_of, resolve
from llmops_kit.tuning.shape import count_lora, guess_shape, read_shape
from llmops_kit.types import Job, now
from tests.tiny_model import STARTER_FOLDER, build_tiny_model

ROWS = [{"prompt": f"{number}番目の質問です。", "completion": f"{number}番目の答えでございます。"} for number in range(40)]


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    """A kit with the tiny model of a few thousand weights."""
    folder = build_tiny_model(tmp_path / "tiny")
    with open_kit(tmp_path / "workspace") as opened:
        opened.models.add("tiny", provider="huggingface", model=str(folder), context_tokens=512, dtype="float32")
        yield opened


def plan(kit: Kit, spec: TuneSpec):
    return plan_budget(kit.tuning.read(ROWS), spec, kit.models, kit.store, kit.settings)


@pytest.mark.parametrize(
    ("fields", "parameters", "adapter"),
    [
        ({"hidden_size": 2816, "num_hidden_layers": 36, "num_attention_heads": 22, "intermediate_size": 11264, "vocab_size": 32000}, 3.6e9, 3.24e6),
        ({"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072, "vocab_size": 52096}, 0.165e9, 0.295e6),
    ],
    ids=["rinna-3.6b", "open-calm-small"],
)
def test_the_parameters_of_lora_are_those_worked_out_for_two_japanese_models(fields: dict[str, int], parameters: float, adapter: float, tmp_path: Path) -> None:
    """From the configuration alone: no weights are anywhere."""
    from transformers import GPTNeoXConfig

    GPTNeoXConfig(**fields).save_pretrained(tmp_path)
    shape = read_shape(tmp_path)
    assert shape.parameters == pytest.approx(parameters, rel=0.005)
    assert count_lora(shape.targets(["query_key_value"]), 8) == pytest.approx(adapter, rel=0.002)


def test_the_time_of_ten_thousand_examples_on_a_model_of_3_6_billion_is_about_an_hour_of_a_gpu() -> None:
    """9 million tokens: 1.3 to 1.9e17 operations, 35 to 52 minutes at a fifth of 312 TFLOP/s."""
    shape = guess_shape(3_600_000_000, 2048)
    work = count_work(
        shape, tokens=9_000_000, counted=3_000_000, width=150, eval_tokens=0, adapter=3_244_032, checkpointing=False, is_preference=False
    )
    assert 1.2e17 < work.training < 1.9e17
    assert 33 < work.training / (0.2 * 312e12) / 60 < 52
    again = count_work(shape, tokens=9_000_000, counted=3_000_000, width=150, eval_tokens=0, adapter=0, checkpointing=True, is_preference=False)
    assert again.training > work.training


def test_the_count_is_that_of_peft_itself(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = build_tiny_model(tmp_path)
    shape = read_shape(folder)
    for targets, dora in (("all-linear", False), (["q_proj", "down_proj"], False), ("all-linear", True)):
        model = AutoModelForCausalLM.from_pretrained(folder)
        tuned = get_peft_model(model, LoraConfig(r=4, target_modules=targets, use_dora=dora, task_type="CAUSAL_LM"))
        counted = sum(weight.numel() for weight in tuned.parameters() if weight.requires_grad)
        names = [targets] if isinstance(targets, str) else targets
        assert count_lora(shape.targets(names), 4, dora=dora) == counted


def test_a_layer_that_is_not_there_and_a_rank_that_is_too_large_are_named(kit: Kit) -> None:
    with pytest.raises(InvalidValue, match="q_proj") as unknown:
        plan(kit, TuneSpec(base="tiny", data="rows", targets=("query_key_value",)))
    assert "all-linear" in unknown.value.text("ja")
    with pytest.raises(InvalidValue, match="1 to 32"):
        plan(kit, TuneSpec(base="tiny", data="rows", rank=33))


@pytest.mark.parametrize("base", ["gpt-4o-mini", "starter-embed", "starter-reader"])
def test_what_cannot_be_tuned_is_refused(kit: Kit, base: str) -> None:
    with pytest.raises(InvalidValue, match=base):
        plan(kit, TuneSpec(base=base, data="rows"))
    with pytest.raises(UnknownName):
        plan(kit, TuneSpec(base="nobody", data="rows"))


def test_every_line_can_be_checked_and_the_sums_are_theirs(kit: Kit) -> None:
    estimate = plan(kit, TuneSpec(base="tiny", data="rows")).estimate
    parts: dict[str, float] = {"GB": 0.0, "s": 0.0}
    for line in estimate.lines:
        assert line.name["en"] and re.search("[ぁ-んァ-ン一-龥]", line.name["ja"]) and any(letter.isdigit() for letter in line.formula)
        if line.unit in parts and not line.name["en"].endswith("in all"):
            parts[line.unit] += line.value
    assert parts["GB"] == pytest.approx(estimate.memory_gb, abs=0.001) and parts["s"] == pytest.approx(estimate.seconds, abs=0.1)
    assert estimate.fits and estimate.basis == "formula" and estimate.cost_usd is None
    assert estimate.seconds_range[0] < estimate.seconds < estimate.seconds_range[1]
    weights = next(line for line in estimate.lines if line.name["en"] == "Weights of the base")
    count = int(weights.formula.split(" ")[0].replace(",", ""))
    assert weights.value == count * (2 if has_fast_bfloat16() else 4) / 1e9
    assert "GB" in estimate.text("en") and "メモリー" in estimate.text("ja") and "<table>" in estimate._repr_html_()
    assert estimate.plain()["lines"][0]["formula"]


def test_more_rows_a_larger_batch_or_a_price_cost_more(kit: Kit, tmp_path: Path) -> None:
    spec = TuneSpec(base="tiny", data="rows", batch_tokens=512, learning_rate=1e-3)
    one = plan(kit, spec).estimate
    assert plan(kit, spec.change(batch_tokens=2048)).estimate.memory_gb > one.memory_gb
    assert plan(kit, spec.change(epochs=6)).estimate.seconds > one.seconds and plan(kit, spec.change(epochs=6)).estimate.tokens == 2 * one.tokens
    priced = estimate_spec(kit.tuning.read(ROWS), spec, kit.models, kit.store, kit.settings.model_copy(update={"gpu_price_per_h": 36.0}))
    assert priced.cost_usd == pytest.approx(one.seconds / 100, rel=0.01) and "$" in priced.text("en")
    assert plan(kit, spec.change(max_steps=2)).estimate.tokens < one.tokens / 2


def test_what_does_not_fit_is_told_with_what_would(kit: Kit) -> None:
    long = [{"prompt": "長い質問" * 100, "completion": f"答え{number}" * 20} for number in range(40)]
    spec = TuneSpec(base="starter-lm", data="rows", batch_tokens=4096, checkpointing=False)
    small = kit.settings.model_copy(update={"job_memory_gb": 1.2})
    budget = plan_budget(kit.tuning.read(long), spec, kit.models, kit.store, small)
    assert not budget.estimate.fits and budget.estimate.available_gb == 1.2
    advice = budget.estimate.advice
    change = re.search(r"batch_tokens=(\d+)", advice["en"])
    assert change and change[0] in advice["ja"] and "収まりません" in advice["ja"]
    better = plan_budget(kit.tuning.read(long), spec.change(batch_tokens=int(change[1])), kit.models, kit.store, small)
    assert better.estimate.fits
    tight = kit.settings.model_copy(update={"job_memory_gb": 0.2})
    assert "close other programs" in plan_budget(kit.tuning.read(long), spec, kit.models, kit.store, tight).estimate.advice["en"]


def test_activations_are_computed_again_only_where_it_would_not_fit_otherwise(kit: Kit) -> None:
    long = [{"prompt": "長い質問" * 100, "completion": f"答え{number}" * 20} for number in range(40)]
    spec = TuneSpec(base="starter-lm", data="rows", batch_tokens=4096)
    rows = kit.tuning.read(long)

    def plan_within(limit_gb: float, **changes: object) -> Any:
        return plan_budget(rows, spec.change(**changes), kit.models, kit.store, kit.settings.model_copy(update={"job_memory_gb": limit_gb}))

    whole, less = (plan_within(9.0, checkpointing=chosen).estimate.memory_gb for chosen in (False, True))
    assert less < whole
    roomy, tight = plan_within(1.2 * whole), plan_within((less + whole) / 2)
    assert roomy.spec.checkpointing is False and tight.spec.checkpointing is True and tight.estimate.fits


def test_a_model_that_is_not_here_yet_is_estimated_from_its_size(kit: Kit) -> None:
    kit.models.add("seven", provider="huggingface", model="somebody/seven-b", params_b=7.0)
    estimate = plan(kit, TuneSpec(base="seven", data="rows")).estimate
    assert estimate.memory_gb > 13 and ("Download" in estimate.advice["en"] or "does not fit" in estimate.advice["en"])


def test_earlier_jobs_on_this_machine_say_how_fast_it_is(kit: Kit) -> None:
    spec = TuneSpec(base="tiny", data="rows")
    before = plan(kit, spec).estimate
    for number, speed in enumerate((10.0, 20.0, 1000.0)):
        done = Job(f"j{number}", now(), "local", "tune", "x", spec.model_dump(mode="json"), state="finished", result={"tokens_per_s": speed, "device": "cpu"})
        kit.store.append(done)
    kit.store.append(Job("other", now(), "local", "tune", "x", {"base": "starter-lm"}, state="finished", result={"tokens_per_s": 1.0}))
    kit.store.append(Job("broken", now(), "local", "tune", "x", spec.model_dump(mode="json"), state="failed", result={"tokens_per_s": 1.0}))
    assert remember_speed(kit.store, spec.change(checkpointing=False), "cpu") == (20.0, 3)
    after = plan(kit, spec).estimate
    assert after.basis == "history" and after.seconds > before.seconds and after.seconds > after.tokens / 20


@pytest.mark.parametrize("preset", ["try", "careful", "thorough"])
def test_presets_are_specs_that_differ_by_model_and_data(kit: Kit, preset: str, tmp_path: Path) -> None:
    many, few = tmp_path / "many.csv", tmp_path / "few.csv"
    for file, count in ((many, 400), (few, 12)):
        file.write_text("prompt,completion\n" + "".join(f"質問{number}は何ですか,答えは{number}でございます\n" for number in range(count)), encoding="utf-8")
    spec = kit.tuning.spec(many, preset=preset)
    assert spec.preset == preset and spec.method == "lora" and spec.alpha == 2 * spec.rank and spec.base == "starter-lm"
    assert kit.tuning.spec(few, preset=preset).batch_tokens < spec.batch_tokens
    kit.models.add("seven", provider="huggingface", model="somebody/seven-b", params_b=7.0)
    large = kit.tuning.spec(many, base="seven", preset=preset)
    assert large.rank == spec.rank * 2 and (large.learning_rate or 1) < (spec.learning_rate or 0) / 10
    assert kit.tuning.spec(many, preset=preset, epochs=1, rank=3).rank == 3
    with pytest.raises(InvalidValue, match="epochs"):
        kit.tuning.spec(many, preset=preset, epochs=0)


def test_the_measured_recipe_of_the_starter_model_is_what_try_proposes(kit: Kit) -> None:
    """Rank 8, rate 5e-3, three epochs of eight short rows; about 200 rows end within three minutes, cautiously estimated."""
    spec = kit.tuning.spec("sample:shop-style", preset="try")
    assert (spec.rank, spec.learning_rate, spec.epochs) == (8, 5e-3, 3.0)
    budget = plan_budget(kit.tuning.read("sample:shop-style"), spec, kit.models, kit.store, kit.settings)
    assert 7 <= spec.batch_tokens / (budget.rows.tokens / len(budget.rows.train)) <= 9
    cores_of_two = trust_speed("cpu")[0] * 2 / int(trust_speed("cpu")[1].split(" ")[0])
    training = next(line for line in budget.estimate.lines if line.name["en"] == "Training")
    assert budget.estimate.seconds - training.value + training.value * trust_speed("cpu")[0] / cores_of_two < 180


def test_preferences_learn_at_a_tenth_of_the_rate(kit: Kit) -> None:
    pairs = [{"prompt": f"質問{number}", "chosen": f"良い答え{number}", "rejected": f"悪い答え{number}"} for number in range(20)]
    dataset = kit.tuning.read(pairs)
    from llmops_kit.tuning.presets import propose_spec

    spec = propose_spec(dataset, "pairs.jsonl", kit.models, base="starter-lm", preset="try", changes={})
    assert spec.method == "dpo" and spec.learning_rate == pytest.approx(5e-4)


def test_rates_fall_with_the_size_of_the_model() -> None:
    rates = [choose_rate("lora", size) for size in (1_000_000, 11_000_000, 110_000_000, 1_000_000_000, 7_000_000_000)]
    assert rates[0] == rates[1] == 5e-3 and rates[3] == rates[4] == 2e-4 and rates[1] > rates[2] > rates[3]


def test_steps_are_those_of_the_training_itself() -> None:
    from llmops_kit.tuning.training.order import plan_steps

    lengths = [10 + 7 * number % 50 for number in range(60)]
    for epochs in (1.0, 3.0, 2.5, 0.4):
        for batch in (64, 300, 5000):
            spec = TuneSpec(data="x", epochs=epochs, batch_tokens=batch)
            planned = plan_steps([[length] for length in lengths], epochs=epochs, batch_tokens=batch, seed=7)
            assert count_steps(spec, lengths) == pytest.approx(len(planned), abs=1)
    assert count_steps(TuneSpec(data="x", max_steps=3), lengths) == 3


def test_resolving_fills_every_open_value_and_again_changes_nothing(kit: Kit) -> None:
    dataset = replace(kit.tuning.read(ROWS), name="顧客対応 FAQ 2026.csv")
    spec = resolve(TuneSpec(base="tiny", data="rows"), dataset, kit.models.get("tiny"), parameters=50_000)
    for name in ("name", "max_tokens", "learning_rate", "eval_every", "save_every", "checkpointing"):
        assert getattr(spec, name) is not None, name
    assert spec.max_tokens == 512 and resolve(spec, dataset, kit.models.get("tiny")) == spec
    many = TuneSpec(base="tiny", data="rows", epochs=80, batch_tokens=64)
    steps = count_steps(many, [20] * 40)
    assert 6 <= steps / (resolve(many, dataset, kit.models.get("tiny"), lengths=[20] * 40).eval_every or 1) <= 10


@pytest.mark.parametrize(
    ("given", "name"),
    [("rows.csv", "rows"), ("sample:shop-style", "shop-style"), ("顧客対応.xlsx", "tuned"), ("My Rows (2).jsonl", "my-rows-2"), ("../../etc/passwd", "passwd")],
)
def test_names_come_from_the_data(given: str, name: str) -> None:
    assert name_of(given) == name
    assert TuneSpec(data="x", name=name_of(given)).name == name


def test_batches_and_durations_read_well() -> None:
    assert choose_batch([60] * 200, 11_000_000) == 512 and choose_batch([60] * 8, 11_000_000) == 128 and choose_batch([], 7_000_000_000) >= 512
    assert [format_time(seconds) for seconds in (5, 100, 3600, 9000)] == ["5 s", "1.7 min", "60 min", "2.5 h"]
    assert format_time(100, "ja") == "1.7分"


def test_ten_steps_are_tried_in_a_process_of_their_own(kit: Kit) -> None:
    """Memory and speed are measured, the steps reported, and nothing of it stays in the workspace."""
    seen: list[tuple[int, int]] = []
    spec = TuneSpec(base="tiny", data="rows", batch_tokens=256)
    dataset = kit.tuning.read(ROWS)
    estimate = estimate_spec(dataset, spec, kit.models, kit.store, kit.settings, trial=True, progress=lambda done, total, left: seen.append((done, total)))
    assert estimate.basis == "trial" and seen[-1][1] == 10 and 0.3 < estimate.memory_gb < 1.5
    assert estimate.fits and estimate.lines[1].name["en"].startswith("Measured in 10")
    assert not list(kit.settings.jobs_folder.glob(".trial-*"))


def test_a_trial_that_takes_too_much_memory_is_ended_and_does_not_fit(kit: Kit) -> None:
    tight = kit.settings.model_copy(update={"job_memory_gb": 0.15})
    spec = TuneSpec(base="tiny", data="rows", batch_tokens=256)
    estimate = estimate_spec(kit.tuning.read(ROWS), spec, kit.models, kit.store, tight, trial=True, progress=False)
    assert estimate.basis == "trial" and not estimate.fits and "does not fit" in estimate.advice["en"]


@pytest.mark.skipif(not (STARTER_FOLDER / "SHA256SUMS").is_file(), reason="the weights of starter-lm are not there")
@pytest.mark.parametrize("batch_tokens", [576, 2048])
def test_the_memory_of_the_starter_model_is_within_a_quarter_of_the_formula(tmp_path: Path, batch_tokens: int) -> None:
    with open_kit(tmp_path / "workspace") as kit:
        spec = kit.tuning.spec("sample:shop-style").change(batch_tokens=batch_tokens, max_steps=4)
        formula = kit.tuning.estimate(spec)
        measured = kit.tuning.estimate(spec, trial=True, progress=False)
    assert formula.memory_gb == pytest.approx(measured.memory_gb, rel=0.25)
