"""The plan of a pretraining: every open value filled in, and what it will take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from llmops_kit.errors import InvalidValue
from llmops_kit.starter.training import Plan, plan_for
from llmops_kit.tuning.base_model import find_device
from llmops_kit.tuning.budget.estimate import Estimate
from llmops_kit.tuning.budget.speed import count_cores, trust_speed
from llmops_kit.tuning.memory import Line
from llmops_kit.tuning.pretraining.corpus import Corpus, read_corpus
from llmops_kit.tuning.pretraining.spec import PretrainSpec

if TYPE_CHECKING:
    from llmops_kit.settings import Settings

_STEPS = {"tiny": 500, "small": 3_000, "large": 6_000}
_LEAST_STEPS, _EPOCHS, _CHARACTERS_PER_TOKEN = 60, 10, 2
_VOCABULARY = {"tiny": 2048, "small": 8192, "large": 8192}
_ALPHABET_SHARE = 0.45
"""Of the vocabulary for single characters, as in the starter LM (3,700 of 8,192); the rest are pieces of Latin words."""
_BATCH_TOKENS = {"tiny": 1024}
_TINY_RATE = 2e-3
_RUNTIME_GB = 0.5
"""Python, torch and transformers on a CPU; with them a tiny model took 0.54 GB where the lines say 0.57."""
_START_S = 10.0
_SAMPLED_TOKENS, _WRITE_S_PER_LAYER = 120, 2.5e-3


@dataclass(frozen=True)
class PretrainPlan:
    """What a pretraining will do: the texts, the spec with every open value filled in, and what it will take."""

    corpus: Corpus
    spec: PretrainSpec
    estimate: Estimate


def plan_pretraining(spec: PretrainSpec, settings: Settings) -> PretrainPlan:
    """Read the texts and fill in the spec for this machine.

    Raises: as `read_corpus`; `InvalidValue` for a GPU that is not there, and for what does not fit the memory.
    """
    corpus = read_corpus(Path(spec.folder), max_mb=settings.max_training_mb)
    device = find_device()
    if spec.device == "cuda" and device != "cuda":
        raise InvalidValue(name="device", value="cuda", allowed={"en": "cpu (there is no CUDA GPU here)", "ja": "cpu（CUDAのGPUがありません）"})
    full = resolve(spec, "cuda" if device == "cuda" and spec.device != "cpu" else "cpu", characters=corpus.characters)
    estimate = estimate_pretraining(full, settings)
    if not estimate.fits:
        raise InvalidValue(en=estimate.advice["en"], ja=estimate.advice["ja"], name="size", value=spec.size)
    return PretrainPlan(corpus, full, estimate)


def resolve(spec: PretrainSpec, device: str, *, characters: int) -> PretrainSpec:
    """The spec with every open value filled in for a device and a text of so many characters. Given what was resolved before, it changes nothing.

    A short text is seen about ten times: after that a model learns it by heart, and its loss on other text rises again.
    """
    recipe = plan_for("large" if spec.size == "large" else "small", device)
    batch = spec.batch_tokens or (_BATCH_TOKENS.get(spec.size, recipe.batch_tokens) if device == "cpu" else recipe.batch_tokens)
    steps = spec.steps or max(_LEAST_STEPS, min(_STEPS[spec.size], round(_EPOCHS * characters / _CHARACTERS_PER_TOKEN / batch)))
    every = spec.eval_every or max(1, round(steps / 8))
    return spec.change(
        device=device,
        vocabulary=spec.vocabulary or _VOCABULARY[spec.size],
        steps=steps,
        batch_tokens=batch,
        learning_rate=spec.learning_rate or (_TINY_RATE if spec.size == "tiny" else recipe.learning_rate),
        eval_every=every,
        save_every=spec.save_every or every,
        threads=spec.threads or count_cores(),
    )


def recipe_plan(spec: PretrainSpec) -> Plan:
    """The hyper-parameters of the starter LM's recipe with those of a resolved spec in their place."""
    steps = spec.steps or 1
    plan = plan_for("large" if spec.size == "large" else "small", spec.device or "cpu")
    return replace(
        plan,
        steps=steps,
        batch_tokens=spec.batch_tokens or plan.batch_tokens,
        max_tokens=spec.max_tokens,
        learning_rate=spec.learning_rate or plan.learning_rate,
        warmup_steps=max(1, min(plan.warmup_steps, steps // 10)),
        copy_steps=min(plan.copy_steps, steps // 10),
        seed=spec.seed,
        threads=spec.threads or 1,
        weights_format="float32",
        workers=0,
    )


def alphabet_of(vocabulary: int) -> int:
    """Single characters among the tokens of a vocabulary of this size."""
    return max(350, round(vocabulary * _ALPHABET_SHARE))


def estimate_pretraining(spec: PretrainSpec, settings: Settings) -> Estimate:
    """What a resolved spec will take: 6 operations per parameter and token (Kaplan et al. 2020), 16 bytes per parameter in training."""
    from llmops_kit.models.readiness import measure_machine

    size, device = spec.shape, spec.device or "cpu"
    body = size.layers * (4 * size.hidden**2 + 3 * size.hidden * size.feed_forward)
    parameters = body + (spec.vocabulary or 0) * size.hidden
    steps, batch = spec.steps or 1, spec.batch_tokens or 1
    tokens = steps * batch
    flop = 6.0 * parameters * tokens + 12.0 * size.layers * size.hidden * spec.max_tokens * tokens
    speed, how = trust_speed(device, exact=True)
    evaluations = 1 + steps // max(1, spec.eval_every or steps)
    samples = evaluations * _SAMPLED_TOKENS * size.layers * _WRITE_S_PER_LAYER
    seconds = _START_S + 1.2 * flop / speed + samples
    kept = 16 * size.hidden + 4 * size.feed_forward
    activations = batch * (size.layers * kept + 3 * (spec.vocabulary or 0)) * 4 * 1.5 / 1e9
    memory = parameters * 16 / 1e9 + activations + _RUNTIME_GB
    free = measure_machine().memory_free_gb
    free = min(free, settings.job_memory_gb) if settings.job_memory_gb and device == "cpu" else free
    price = settings.gpu_price_per_h
    short = {
        "en": f"It does not fit: it needs about {memory:.1f} GB and {free:.1f} GB is free. Lower batch_tokens, or choose a smaller size.",
        "ja": f"メモリーに収まりません（必要約{memory:.1f} GB、空き{free:.1f} GB）。batch_tokensを減らすか、小さいsizeを選んでください。",
    }
    held = f"{batch:,} × ({size.layers} × {kept:,} + 3 × {spec.vocabulary:,}) × 4 B × 1.5"
    operations = f"6 × {parameters:,} × {tokens:,} + 12 × {size.layers} × {size.hidden} × {spec.max_tokens} × {tokens:,}"
    lines = (
        Line({"en": "Parameters", "ja": "パラメーター"}, f"{body:,} + {spec.vocabulary:,} × {size.hidden}", parameters, ""),
        Line({"en": "Weights, gradients, Adam's moments", "ja": "重み、勾配、Adamのモーメント"}, f"{parameters:,} × 16 B", parameters * 16 / 1e9, "GB"),
        Line({"en": "Activations of a step", "ja": "1ステップの活性値"}, held, activations, "GB"),
        Line({"en": "The program itself", "ja": "プログラム本体"}, f"{_RUNTIME_GB:g} GB", _RUNTIME_GB, "GB"),
        Line({"en": "Operations", "ja": "演算量"}, operations, flop, "FLOP"),
        Line(
            {"en": "Samples", "ja": "サンプル生成"},
            f"{evaluations} × {_SAMPLED_TOKENS} × {size.layers} × {_WRITE_S_PER_LAYER * 1e3:g} ms",
            samples,
            "s",
        ),
        Line({"en": "Time in all", "ja": "時間合計"}, f"{_START_S:g} s + 1.2 × {flop:.3g} FLOP ÷ ({how}) + {samples:.1f} s", seconds, "s"),
    )
    return Estimate(
        steps=steps,
        tokens=tokens,
        trainable_parameters=parameters,
        memory_gb=round(memory, 3),
        available_gb=round(free, 3),
        seconds=round(seconds, 1),
        seconds_range=(round(seconds * 0.5, 1), round(seconds * 2.5, 1)),
        cost_usd=seconds / 3600 * price if price else None,
        device=device,
        basis="formula",
        fits=memory <= free,
        advice={"en": "", "ja": ""} if memory <= free else short,
        lines=lines,
    )


