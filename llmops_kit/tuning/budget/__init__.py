"""Memory, minutes and cost of a fine-tuning before it starts: by formula, from earlier jobs, or from a trial of ten steps.

The formulae are those of the evaluation literature (their sources stand at each), with the numbers put in: `estimate.lines` can be checked
with a calculator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from llmops_kit.progress import Progress, show_progress
from llmops_kit.tuning.base_model import Base, find_base
from llmops_kit.tuning.budget.advice import advise, memory_lines
from llmops_kit.tuning.budget.estimate import Basis as Basis
from llmops_kit.tuning.budget.estimate import Estimate as Estimate
from llmops_kit.tuning.budget.rows import Rows, count_rows
from llmops_kit.tuning.budget.speed import Work, count_work, least_step_s, remember_speed, trust_speed
from llmops_kit.tuning.memory import Line
from llmops_kit.tuning.presets import count_steps, resolve
from llmops_kit.tuning.shape import count_lora
from llmops_kit.tuning.spec import TuneSpec

if TYPE_CHECKING:
    from llmops_kit.models import Models
    from llmops_kit.settings import Settings
    from llmops_kit.store import Store
    from llmops_kit.tuning.budget.trial import Trial
    from llmops_kit.tuning.dataset import Dataset

_RANGE: dict[Basis, tuple[float, float]] = {"formula": (0.5, 2.5), "history": (0.7, 1.5), "trial": (0.75, 1.5)}
"""Low and high over likely: how far runs on the starter model were from their estimates, with room."""
_START_S = 11.0
"""Imports, data, tokenizer, and writing the adapter at the end."""
_READ_GB_PER_S = 0.5
_SAMPLE_TOKENS = 64
_WRITE_S_PER_LAYER = 2.5e-3
"""A written token takes so long per layer, on a CPU and on a GPU alike: it waits for memory and kernels, not for arithmetic (measured)."""


@dataclass(frozen=True)
class Budget:
    """An estimate with what it was made from: the base, the resolved spec, the counted rows."""

    base: Base
    spec: TuneSpec
    rows: Rows
    estimate: Estimate


def estimate_spec(
    dataset: Dataset,
    spec: TuneSpec,
    models: Models,
    store: Store,
    settings: Settings,
    *,
    trial: bool = False,
    progress: Progress | Literal[False] | None = None,
) -> Estimate:
    """What `spec` will take on this machine; with `trial`, after ten steps of it in a process of its own, whose memory and time are measured.

    Raises: as `plan_budget`; with `trial` also what keeps the steps from being run, as `TrialFailed` says.
    """
    budget = plan_budget(dataset, spec, models, store, settings)
    if not trial:
        return budget.estimate
    from llmops_kit.tuning.budget.trial import run_trial

    with show_progress(progress, "step") as tell:
        measured = run_trial(dataset, budget.spec, settings, limit_gb=budget.estimate.available_gb, tell=tell)
    return _with_trial(budget, measured, settings)


def plan_budget(dataset: Dataset, spec: TuneSpec, models: Models, store: Store, settings: Settings) -> Budget:
    """The estimate by formula or history, and the spec with every open value filled in.

    Raises: `UnknownName` and `InvalidValue` for a base that cannot be tuned, layers that are not there, or a rank that is too large.
    """
    base = find_base(models, spec)
    targets = base.targets(spec)
    context = base.context_tokens
    rows = count_rows(dataset, spec, models, min(spec.max_tokens or context, context))
    full = resolve(spec, dataset, base.entry, parameters=base.shape.parameters, lengths=rows.lengths)
    full = full.change(max_tokens=min(full.max_tokens or context, context))
    adapter = count_lora(targets, full.rank, dora=full.method == "dora")
    free = free_gb(settings, base.device)
    memory = memory_lines(base, full, rows, adapter)
    if spec.checkpointing is None and _sum(memory) > free:
        denser = full.change(checkpointing=True)
        full, memory = denser, memory_lines(base, denser, rows, adapter)
    work = count_operations(base, full, rows, adapter)
    time, basis = _time(base, full, rows, work, store)
    estimate = _assemble(base, full, rows, adapter, memory, work, time, basis, free, settings)
    return Budget(base, full, rows, replace(estimate, advice=advise(base, full, rows, adapter, estimate)))


def count_operations(base: Base, spec: TuneSpec, rows: Rows, adapter: int) -> Work:
    """The operations of all steps and evaluations."""
    steps = count_steps(spec, rows.lengths)
    tokens = math.ceil(rows.tokens * spec.epochs)
    if spec.max_steps is not None:
        tokens = math.ceil(tokens * steps / count_steps(spec.change(max_steps=None), rows.lengths))
    evaluated = sum(row.tokens for row in rows.evaluation) * (1 + math.ceil(steps / (spec.eval_every or steps)))
    mean = rows.tokens / max(len(rows.train), 1) / 2
    counted = tokens if spec.is_preference else math.ceil(tokens * rows.counted_share)
    return count_work(
        base.shape,
        tokens=tokens,
        counted=counted,
        width=mean,
        eval_tokens=evaluated,
        adapter=adapter,
        checkpointing=bool(spec.checkpointing),
        is_preference=spec.is_preference,
    )


def free_gb(settings: Settings, device: str) -> float:
    """Gigabytes a job may take now: what is free, and on this machine's own memory no more than the settings allow a job."""
    from llmops_kit.models.readiness import measure_machine

    free = measure_machine().memory_free_gb
    return min(free, settings.job_memory_gb) if settings.job_memory_gb and device != "cuda" else free


def _time(base: Base, spec: TuneSpec, rows: Rows, work: Work, store: Store) -> tuple[tuple[Line, ...], Basis]:
    """The lines of the time, and what they rest on."""
    remembered = remember_speed(store, spec, base.device)
    if remembered is not None:
        speed, jobs = remembered
        name = {"en": f"Training (last {jobs} jobs)", "ja": f"学習（直近{jobs}件のジョブ）"}
        line = Line(name, f"{work.tokens:,} ÷ {speed:,.0f}/s", work.tokens / speed, "s")
        flops = speed * work.per_token
    else:
        flops, how = trust_speed(base.device, exact=spec.is_preference)
        steps = count_steps(spec, rows.lengths)
        least = least_step_s(base.shape, base.device) * steps
        seconds = max(work.training / flops / spec.processes, least)
        line = Line({"en": "Training", "ja": "学習"}, f"{work.training:.3g} FLOP ÷ ({how})", seconds, "s")
    return (line, *_around(base, spec, rows, work, flops)), "history" if remembered else "formula"


def _around(base: Base, spec: TuneSpec, rows: Rows, work: Work, flops: float) -> tuple[Line, ...]:
    """The lines of what comes before, between and after the steps."""
    evaluations = 1 + math.ceil(count_steps(spec, rows.lengths) / (spec.eval_every or 1)) if rows.evaluation else 0
    weights_gb = base.shape.parameters * 2 / 1e9
    per_sample = base.shape.layers * _WRITE_S_PER_LAYER * _SAMPLE_TOKENS
    start = _START_S + weights_gb / _READ_GB_PER_S
    return (
        Line({"en": "Start and end", "ja": "開始と終了"}, f"{_START_S:g} s + {weights_gb:.2f} GB ÷ {_READ_GB_PER_S:g} GB/s", start, "s"),
        Line({"en": "Evaluations", "ja": "評価"}, f"{work.evaluation:.3g} FLOP ÷ {flops:.3g} FLOP/s", work.evaluation / flops, "s"),
        Line(
            {"en": "Samples", "ja": "サンプル生成"},
            f"{evaluations} × {_SAMPLE_TOKENS} × {base.shape.layers} × {_WRITE_S_PER_LAYER * 1e3:g} ms",
            evaluations * per_sample,
            "s",
        ),
    )


def _assemble(
    base: Base,
    spec: TuneSpec,
    rows: Rows,
    adapter: int,
    memory: tuple[Line, ...],
    work: Work,
    time: tuple[Line, ...],
    basis: Basis,
    free: float,
    settings: Settings,
) -> Estimate:
    seconds = _sum(time)
    low, high = _RANGE[basis]
    price = settings.gpu_price_per_h
    cost = seconds / 3600 * price * spec.processes if price else None
    lora = Line(
        {"en": "Parameters of the adapter", "ja": "アダプターのパラメーター"}, f"Σ {spec.rank} × (d_in + d_out), {len(base.targets(spec))} ×", adapter, ""
    )
    total = Line({"en": "Memory in all", "ja": "メモリー合計"}, " + ".join(f"{line.value:.3f}" for line in memory), _sum(memory), "GB")
    whole = Line({"en": "Time in all", "ja": "時間合計"}, " + ".join(f"{line.value:.1f}" for line in time), seconds, "s")
    money = () if cost is None else (Line({"en": "Cost", "ja": "費用"}, f"{seconds / 3600:.3f} h × ${price:g} × {spec.processes}", cost, "USD"),)
    return Estimate(
        steps=count_steps(spec, rows.lengths),
        tokens=work.tokens,
        trainable_parameters=adapter,
        memory_gb=round(_sum(memory), 3),
        available_gb=round(free, 3),
        seconds=round(seconds, 1),
        seconds_range=(round(seconds * low, 1), round(seconds * high, 1)),
        cost_usd=cost,
        device=base.device,
        basis=basis,
        fits=_sum(memory) <= free,
        lines=(lora, *memory, total, *work.lines, *time, whole, *money),
    )


def _with_trial(budget: Budget, measured: Trial, settings: Settings) -> Estimate:
    """The estimate with the trial's memory and speed in place of the formulae's."""
    base, spec, rows = budget.base, budget.spec, budget.rows
    adapter = budget.estimate.trainable_parameters
    if measured.is_over:
        over = replace(budget.estimate, basis="trial", fits=False, memory_gb=round(max(measured.memory_gb, budget.estimate.memory_gb), 3))
        return replace(over, advice=advise(base, spec, rows, adapter, over))
    work = count_operations(base, spec, rows, adapter)
    steps = count_steps(spec, rows.lengths)
    line = Line(
        {"en": f"Training (trial of {measured.steps} steps)", "ja": f"学習（{measured.steps}ステップの試行）"},
        f"{work.tokens:,} ÷ {measured.tokens_per_s:,.0f}/s",
        work.tokens / measured.tokens_per_s,
        "s",
    )
    flops = measured.tokens_per_s * work.per_token
    name = {"en": f"Measured in {measured.steps} of {steps} steps", "ja": f"{steps}ステップ中{measured.steps}ステップで計測"}
    memory = (Line(name, f"{measured.memory_gb:.3f} GB", measured.memory_gb, "GB"),)
    time = (line, *_around(base, spec, rows, work, flops))
    estimate = _assemble(base, spec, rows, adapter, memory, work, time, "trial", budget.estimate.available_gb, settings)
    return replace(estimate, advice=advise(base, spec, rows, adapter, estimate))


def _sum(lines: tuple[Line, ...]) -> float:
    return sum(line.value for line in lines)
