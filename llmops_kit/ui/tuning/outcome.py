"""What came out: figures before and after with n, the estimate against what it took, and the card of a tuned model."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llmops_kit.tuning.handle import measure_seconds
from llmops_kit.ui.models import time_left
from llmops_kit.ui.text import Language, localized, say
from llmops_kit.ui.tuning import showing

if TYPE_CHECKING:
    from llmops_kit.kit import Kit
    from llmops_kit.tuning.card import Card
    from llmops_kit.tuning.handle import TuneJob
    from llmops_kit.types import Job

_FIELDS = ("epochs", "rank", "learning_rate", "seed")


def model_of(job: Job) -> str:
    """The id of the model a job made; empty where it made none."""
    return str(job.result.get("model") or "")


def show_result(kit: Kit, handle: TuneJob, language: Language) -> str:
    """What a finished (or stopped) job came to."""
    job = handle.record
    result = job.result
    facts = [(say("tune.fact_model", language), model_of(job))]
    rows = _rows_of(kit, job)
    facts += _losses({"eval_rows": rows[1] if rows else None, **result}, language)
    if rows is not None and job.kind == "pretrain":
        facts.append((say("tune.texts", language), say("tune.texts_split", language, train=f"{rows[0]:,}", eval=f"{rows[1]:,}")))
    elif rows is not None:
        facts.append((say("tune.fact_rows", language), _split({"train_rows": rows[0], "eval_rows": rows[1]}, language)))
    facts += _against(handle, job, language)
    return f"<div class='card'>{showing.show_facts(facts)}</div>"


def show_card(model: str, card: Card, language: Language) -> str:
    """The card of a tuned model: what it was made of, how, how well it did, and its samples."""
    metrics, spec = card.metrics, card.spec
    data = f"{card.data_name} ({card.data_sha256[:12]})" if card.data_sha256 else card.data_name
    revision = card.base_revision or card.base_fingerprint
    facts = [
        (say("tune.fact_model", language), model),
        (say("tune.fact_base", language), f"{card.base} ({revision[:12]})" if revision else card.base),
        (say("tune.fact_data", language), data),
        (say("tune.fact_rows", language), _split(metrics, language)),
        (say("tune.fact_method", language), _method(card, language)),
        *_losses(metrics, language),
        *[(say(f"tune.field_{name}", language), f"{spec[name]:g}") for name in _FIELDS if isinstance(spec.get(name), int | float)],
        (say("tune.fact_took", language), time_left(_number(metrics.get("seconds")), language) if metrics.get("seconds") is not None else ""),
        (say("tune.fact_template", language), card.template_sha256[:12]),
        (say("tune.fact_made", language), card.created_at[:16].replace("T", " ")),
        (say("tune.fact_job", language), card.job_id),
    ]
    told = showing.show_facts([(name, value) for name, value in facts if value])
    warnings = "".join(f"<div class='reason'>{html.escape(localized(each, language))}</div>" for each in card.warnings)
    samples = showing.show_samples(card.samples, language) if card.samples else ""
    return f"<div class='card'>{told}{warnings}</div>{samples}"


def _losses(figures: Mapping[str, Any], language: Language) -> list[tuple[str, str]]:
    """Evaluation loss and preferred share, before and after, with n where it is known."""
    n = figures.get("eval_rows")
    count = say("tune.n", language, n=f"{int(n):,}") if n else ""
    found = []
    for name, form in (("eval_loss", "{:.3f}"), ("token_accuracy", "{:.1%}"), ("reward_accuracy", "{:.1%}")):
        before, after = _number(figures.get(f"{name}_before")), _number(figures.get(name))
        if after is None:
            continue
        told = f"{form.format(before)} → {form.format(after)}" if before is not None else form.format(after)
        found.append((say(f"tune.fact_{name}", language), told + count))
    return found


def _against(handle: TuneJob, job: Job, language: Language) -> list[tuple[str, str]]:
    """The estimate beside what it took: time and memory."""
    estimate = handle.estimate
    facts = []
    if (seconds := measure_seconds(job)) is not None:
        guess = _number(estimate.get("seconds")) or job.expected_s
        told = _beside(time_left(seconds, language), time_left(guess, language) if guess else "", language)
        facts.append((say("tune.fact_took", language), told))
    if (memory := _number(job.result.get("peak_memory_gb"))) is not None:
        guess = _number(estimate.get("memory_gb"))
        facts.append((say("tune.fact_memory", language), _beside(f"{memory:.2f} GB", f"{guess:.2f} GB" if guess else "", language)))
    if (speed := _number(job.result.get("tokens_per_s"))) is not None:
        facts.append((say("tune.fact_speed", language), say("tune.speed", language, n=f"{speed:,.0f}")))
    return facts


def _beside(actual: str, estimated: str, language: Language) -> str:
    return f"{actual}{say('tune.estimated', language, value=estimated)}" if estimated else actual


def _rows_of(kit: Kit, job: Job) -> tuple[int, int] | None:
    for event in kit.jobs.events(job.id, "started"):
        if "train_rows" in event.data:
            return int(event.data["train_rows"]), int(event.data.get("eval_rows") or 0)
    return None


def _split(figures: Mapping[str, Any], language: Language) -> str:
    if figures.get("train_rows") is None:
        return ""
    return say("tune.rows_split", language, train=f"{int(figures['train_rows']):,}", eval=f"{int(figures.get('eval_rows') or 0):,}")


def _method(card: Card, language: Language) -> str:
    return say(f"tune.method_{card.method}", language) if card.method in ("lora", "dora", "qlora", "dpo", "kto") else card.method


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
