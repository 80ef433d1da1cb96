"""What is on the page of a job at this moment, and what of it has changed since the last look: only that is sent."""

from __future__ import annotations

import html
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import user_of
from llmops_kit.ui.text import Language, language_of, say
from llmops_kit.ui.tuning import curve, outcome, showing, whose
from llmops_kit.ui.tuning.code import job_code

if TYPE_CHECKING:
    from llmops_kit.kit import Kit
    from llmops_kit.types import Job

SHOWN = (
    *("chooser", "empty", "card", "bar", "cancel", "resume", "notes", "result", "compare", "facts", "model", "curve", "numbers", "step", "samples", "examples"),
    *("log", "history", "code", "timer", "seen"),
)
"""The parts of the page, in the order in which every function here gives their updates."""
_DRAWN_S = 2.0
"""Seconds between two drawings of the curve and the samples."""
_RESUMABLE = ("failed", "cancelled", "interrupted")
_LOG_BYTES = 12_000


def draw(kit: Kit, request: gr.Request, id: str | None) -> list[Any]:
    """Everything of a job, or one sentence where the person has none. Raises: UnknownName, AccessDenied."""
    user, language = user_of(request), language_of(request)
    jobs = whose.own_jobs(kit, user)
    if not id:
        return _nothing(language)
    job = whose.find_job(kit, request, id)
    choices = [(showing.title_of(each, language), each.id) for each in jobs]
    if job.id not in [value for _, value in choices]:  # a facilitator who looks at somebody's job
        choices.insert(0, (showing.title_of(job, language), job.id))
    updates = {**_light(kit, request, job, language), **_heavy(kit, job, None, language)}
    updates |= {"chooser": gr.update(choices=choices, value=job.id, visible=True), "empty": gr.update(visible=False)}
    updates |= {"history": showing.show_history(jobs, language), "code": job_code(kit.settings.workspace, job.id)}
    seen = {"job": job.id, "mark": _mark(job), "at": time.monotonic(), "sent": {name: _print(value) for name, value in updates.items()}}
    return _shown(**updates, timer=gr.Timer(active=not job.has_ended), seen=seen)


def follow(kit: Kit, request: gr.Request, id: str | None, step: int | None, seen: Mapping[str, Any]) -> list[Any]:
    """What changed since the last look; everything where another job was looked at. Raises: UnknownName, AccessDenied."""
    if not id:
        return _shown(timer=gr.Timer(active=False))
    if seen.get("job") != id:
        return draw(kit, request, id)
    job, language = whose.find_job(kit, request, id), language_of(request)
    updates, mark, now_s = _light(kit, request, job, language), _mark(job), time.monotonic()
    is_due = mark != seen.get("mark") and (job.has_ended or now_s - float(seen.get("at") or 0) >= _DRAWN_S)
    if is_due:
        updates |= _heavy(kit, job, step, language)
        if job.has_ended:
            jobs = whose.own_jobs(kit, user_of(request))
            updates["chooser"] = gr.update(choices=[(showing.title_of(each, language), each.id) for each in jobs], value=id)
            updates["history"] = showing.show_history(jobs, language)
    sent = dict(seen.get("sent") or {})
    changed = {name: value for name, value in updates.items() if sent.get(name) != _print(value)}
    if not changed and not is_due:
        return _shown(**({"timer": gr.Timer(active=False)} if job.has_ended else {}))
    fresh = {"job": id, "mark": mark if is_due else seen.get("mark"), "at": now_s if is_due else seen.get("at")}
    fresh["sent"] = {**sent, **{name: _print(value) for name, value in changed.items()}}
    return _shown(**changed, timer=gr.Timer(active=False) if job.has_ended else gr.skip(), seen=fresh)


def show_step(kit: Kit, job: Job, step: int | None, language: Language) -> str:
    """The samples of one evaluation; None or 0: of the newest."""
    samples = kit.tuning.job(job.id).events("sample")
    chosen = step if step and any(each.step == step for each in samples) else max((each.step for each in samples), default=0)
    shown = [{**each.data, "step": each.step} for each in samples if each.step == chosen]
    return showing.show_samples(shown, language, pretrained=job.kind == "pretrain")


def _light(kit: Kit, request: gr.Request, job: Job, language: Language) -> dict[str, Any]:
    """What may change at every look, and costs nothing: the card with the place in line, the bar, the buttons."""
    place = kit.jobs.place(job.id) if job.state == "queued" else None
    others = whose.count_others(kit, user_of(request)) if job.state == "queued" else 0
    can_stop = not job.has_ended and job.cancelled_by is None
    return {
        "card": showing.show_job(job, place, others, language),
        "bar": showing.show_progress(job, language),
        "cancel": gr.update(visible=can_stop),
        "resume": gr.update(visible=job.state in _RESUMABLE),
    }


def _heavy(kit: Kit, job: Job, step: int | None, language: Language) -> dict[str, Any]:
    """What is read from the job's events and its log."""
    handle = kit.tuning.job(job.id)
    metrics, steps = handle.metrics(), job.progress.get("steps")
    notes = [event.data for event in kit.jobs.events(job.id, "note")]
    at = sorted({event.step for event in handle.events("sample")} - {0}, reverse=True)
    newest = [(say("tune.newest", language), 0)] + [(say("tune.after_step", language, step=f"{each:,}"), each) for each in at[1:]]
    model, examples = outcome.model_of(job), handle.events("example")
    return {
        "notes": showing.show_notes(notes, language),
        "result": gr.update(visible=bool(model)),
        "compare": gr.update(visible=job.kind != "pretrain"),  # one from scratch has no base
        "facts": outcome.show_result(kit, handle, language) if model else "",
        "model": model,
        "curve": curve.show_curve(metrics, int(steps) if steps else None, language, pretrained=job.kind == "pretrain"),
        "numbers": curve.show_numbers(metrics, language),
        "step": gr.update(choices=newest, value=step if step in at[1:] else 0, visible=len(newest) > 1),
        "samples": show_step(kit, job, step, language),
        "examples": showing.show_examples([event.data for event in examples if event.step == examples[-1].step], language),
        "log": _show_log(kit, job, language),
    }


def _show_log(kit: Kit, job: Job, language: Language) -> str:
    text = kit.jobs.log(job.id, tail_bytes=_LOG_BYTES).strip()
    return f"<pre tabindex='0'>{html.escape(text)}</pre>" if text else f"<p class='dim'>{say('tune.log_empty', language)}</p>"


def _nothing(language: Language) -> list[Any]:
    """The page of a person who has no job yet."""
    hidden: dict[str, Any] = {"chooser": gr.update(visible=False), "cancel": gr.update(visible=False), "resume": gr.update(visible=False)}
    hidden |= {"result": gr.update(visible=False), "step": gr.update(visible=False), "model": "", "timer": gr.Timer(active=False), "seen": {}}
    blank = {name: "" for name in ("card", "bar", "notes", "facts", "curve", "numbers", "samples", "examples", "log", "history", "code")}
    return _shown(**hidden, **blank, empty=gr.update(value=f"<p class='padded'>{say('tune.no_jobs', language)}</p>", visible=True))


def _mark(job: Job) -> tuple[Any, ...]:
    """What says that there is something new to draw."""
    return (job.state, job.attempt, job.progress.get("step"), bool(job.result))


def _print(value: Any) -> int:
    return hash(repr(value))


def _shown(**updates: Any) -> list[Any]:
    """Updates in the order of `SHOWN`; what is not named stays as it is."""
    return [updates.get(name, gr.skip()) for name in SHOWN]
