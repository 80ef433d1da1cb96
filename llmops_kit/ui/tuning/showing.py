"""A job as HTML: its state in words, how far it is, answers before and after, and the rows it knows best and worst. All of it escaped text."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops_kit.tuning.handle import measure_seconds
from llmops_kit.tuning.spec import RATINGS
from llmops_kit.ui.files import progress_bar
from llmops_kit.ui.models import time_left
from llmops_kit.ui.text import Language, localized, say, sentences

if TYPE_CHECKING:
    from llmops_kit.jobs import Place
    from llmops_kit.types import Job

CSS = """
.card {border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 10px 14px; background: var(--background-fill-secondary); line-height: 1.6}
.card .name {font-weight: 600; overflow-wrap: anywhere} .card .state {margin-left: 8px; white-space: nowrap}
.dim {color: var(--body-text-color-subdued); font-size: .87rem; line-height: 1.6; overflow-wrap: anywhere} p.dim {margin: 3px 0}
.reason {border-left: 3px solid var(--neutral-400); padding-left: 10px; margin: 6px 0; overflow-wrap: anywhere}
.pair {display: grid; gap: 10px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 230px), 1fr)); margin: 4px 0 14px}
.said {border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 8px 12px; min-width: 0; background: var(--background-fill-secondary)}
.said .text {white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.7; max-height: 13em; overflow-y: auto} .said.after {border-left: 3px solid #0072b2}
.asked {padding: 4px 2px; white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.6; max-height: 8em; overflow-y: auto; font-weight: 500}
h4 {margin: 14px 2px 4px; font-size: .95rem; font-weight: 600}
.scroll {overflow-x: auto} table {border-collapse: collapse; width: 100%}
th, td {text-align: left; padding: 5px 8px; border-bottom: 1px solid var(--border-color-primary); font-size: .9rem; vertical-align: top;
  overflow-wrap: anywhere; min-width: 64px}
th {font-weight: 500; color: var(--body-text-color-subdued)} td {font-variant-numeric: tabular-nums}
.rows td:nth-child(n+3) {min-width: 160px; white-space: pre-wrap}
dl.named {display: grid; grid-template-columns: max-content 1fr; gap: 3px 14px; margin: 6px 0}
dl.named dt {color: var(--body-text-color-subdued); font-size: .87rem; max-width: 9em}
dl.named dd {margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums}
pre {white-space: pre-wrap; overflow-wrap: anywhere; font-size: .82rem; line-height: 1.5; max-height: 320px; overflow-y: auto; margin: 0}
@media (max-width: 640px) {.card {padding: 8px 10px}}
"""
_DOTS = {"queued": "○", "running": "◐", "finished": "●", "failed": "▲", "cancelled": "■", "interrupted": "▲"}
_MOST_ROWS = 8
_SHOWN_CHARS = 700


def state_of(job: Job, language: Language) -> str:
    """The state with its dot, in words; a stop that was asked for and is not through says so."""
    stopping = job.cancelled_by is not None and not job.has_ended
    word = say("tune.state_stopping" if stopping else f"tune.state_{job.state}", language)
    return f"{_DOTS[job.state]} {word}"


def title_of(job: Job, language: Language) -> str:
    """How a job is called in a chooser: what it makes, its state, when it was asked for."""
    return f"{job.name} · {state_of(job, language)} · {job.created_at.astimezone():%m/%d %H:%M}"


def show_job(job: Job, place: Place | None, others: int, language: Language) -> str:
    """The card of a job: what it is, its state, its place in line, and why it ended where it did not finish."""
    head = f"<span class='name'>{html.escape(job.name)}</span><span class='state'>{state_of(job, language)}</span>"
    lines = [_about(job, language)]
    if place is not None:
        when = _starts(place.expected_start_s, language)
        lines.append(say("tune.place", language, place=place.position + 1, when=when))
    if others:
        lines.append(say("tune.others", language, n=others))
    told = "".join(f"<p class='dim'>{html.escape(line)}</p>" for line in lines if line)
    reason = localized({name: job.reason.get(name) for name in ("en", "ja") if job.reason.get(name)}, language)
    why = f"<div class='reason'>{html.escape(reason)}</div>" if reason and job.state != "finished" else ""
    return f"<div class='card' role='status'>{head}{told}{why}</div>"


def show_progress(job: Job, language: Language) -> str:
    """The bar with step of steps, speed and time left; nothing before the first step."""
    done, steps = int(job.progress.get("step") or 0), int(job.progress.get("steps") or 0)
    if not steps:
        return say("tune.starting", language) if job.state == "running" else ""
    facts = [say("tune.step_of", language, step=f"{done:,}", steps=f"{steps:,}")]
    if (speed := job.progress.get("tokens_per_s")) is not None and math.isfinite(float(speed)):
        facts.append(say("tune.speed", language, n=f"{float(speed):,.0f}"))
    if not job.has_ended:
        left = job.progress.get("seconds_left")
        facts.append(say("tune.left", language, time=time_left(None if left is None else float(left), language)))
    return progress_bar(done, steps, " · ".join(facts))


def show_samples(samples: Sequence[Mapping[str, Any]], language: Language, *, pretrained: bool = False) -> str:
    """Each fixed prompt with the answer of the base and the later one beside it; a model from scratch had none before."""
    if not samples:
        return f"<p class='dim'>{say('tune.samples_empty', language)}</p>"
    blocks = []
    for sample in samples:
        step = say("tune.after_step", language, step=f"{int(sample['step']):,}") if "step" in sample else say("tune.after", language)
        cards = "" if pretrained else _said(say("tune.before", language), sample.get("base"), "")
        cards += _said(step, sample.get("text"), " after")
        if sample.get("expected"):
            cards += _said(say("tune.real_end" if pretrained else "tune.expected", language), sample["expected"], "")
        blocks.append(f"<div class='asked'>{html.escape(_cut(sample.get('prompt')))}</div><div class='pair'>{cards}</div>")
    return f"<h4>{say('tune.continued' if pretrained else 'tune.samples', language)}</h4>{''.join(blocks)}"


def show_examples(examples: Sequence[Mapping[str, Any]], language: Language) -> str:
    """The evaluation rows with the largest and the smallest loss at the last evaluation."""
    if not examples:
        return ""
    heads = "".join(f"<th>{say(f'tune.column_{name}', language)}</th>" for name in ("rank", "row_loss", "prompt", "expected", "text"))
    lines = []
    ordered = sorted(examples, key=lambda row: (row.get("rank") != "worst", -float(row.get("loss") or 0)))
    for row in [each for each in ordered if each.get("rank") in ("worst", "best")][: 2 * _MOST_ROWS]:
        said = [_cut(row.get(name), 200) for name in ("prompt", "expected", "text")]
        cells = [say(f"tune.rank_{row['rank']}", language), f"{float(row.get('loss') or 0):.3f}", *said]
        lines.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<h4>{say('tune.examples', language)}</h4><div class='scroll'><table class='rows'><tr>{heads}</tr>{''.join(lines)}</table></div>"


def show_notes(notes: Sequence[Mapping[str, Any]], language: Language) -> str:
    """What the job remarked on the way, one quiet line each, the newest last."""
    return "".join(f"<p class='dim'>{html.escape(text)}</p>" for each in notes[-6:] if (text := localized(each, language)))


def show_history(jobs: Sequence[Job], language: Language) -> str:
    """The person's jobs as a table, newest first."""
    heads = "".join(f"<th>{say(f'tune.column_{name}', language)}</th>" for name in ("name", "state", "base", "losses", "took", "created"))
    lines = []
    for job in jobs:
        before, after = (job.result.get(name) for name in ("eval_loss_before", "eval_loss"))
        losses = f"{float(before):.3f} → {float(after):.3f}" if before is not None and after is not None else "–"
        seconds = measure_seconds(job)
        took = time_left(seconds, language) if seconds is not None else "–"
        name = str(job.result.get("model") or job.name)
        cells = (name, state_of(job, language), str(job.spec.get("base") or "–"), losses, took, f"{job.created_at.astimezone():%m/%d %H:%M}")
        lines.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
    return f"<div class='scroll'><table><tr>{heads}</tr>{''.join(lines)}</table></div>"


def show_facts(facts: Sequence[tuple[str, str]]) -> str:
    """Names and values below each other; both are escaped here."""
    return "<dl class='named'>" + "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in facts) + "</dl>"


def show_note(text: str) -> str:
    """One quiet line."""
    return f"<p class='quiet' role='status'>{html.escape(text)}</p>"


def _starts(seconds: float | None, language: Language) -> str:
    if seconds is None:
        return say("tune.soon", language)
    return say("tune.starts_now", language) if seconds < 1 else say("tune.starts_in", language, time=time_left(seconds, language))


def _about(job: Job, language: Language) -> str:
    """Base, data and attempt in one line."""
    spec = job.spec
    if job.kind == "pretrain":
        told = say("tune.about_scratch", language)
    else:
        told = say("tune.about", language, base=str(spec.get("base", "?")), data=data_words(str(spec.get("data", "?")), language))
    return told + (say("tune.attempt", language, n=job.attempt) if job.attempt > 1 else "")


def data_words(data: str, language: Language) -> str:
    """What a job's data is called: a bundled set in words, a file without the folder it lies in."""
    if data.startswith("sample:"):
        name = data.removeprefix("sample:")
        return sentences(language).get(f"tune.sample_{name.replace('-', '_')}", name)
    if data.startswith(RATINGS):
        return say(f"tune.of_{data.partition(':')[0]}", language)
    return data.replace("\\", "/").rpartition("/")[2]


def _said(head: str, text: object, kind: str) -> str:
    return f"<section class='said{kind}'><div class='dim'>{html.escape(head)}</div><div class='text'>{html.escape(_cut(text)) or '–'}</div></section>"


def _cut(text: object, most: int = _SHOWN_CHARS) -> str:
    told = str(text or "")
    return told if len(told) <= most else f"{told[: most - 1]}…"
