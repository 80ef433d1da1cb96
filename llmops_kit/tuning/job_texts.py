"""What is said of a job: its state as a sentence, in both languages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmops_kit.tuning.budget.estimate import format_time
from llmops_kit.types import Job

if TYPE_CHECKING:
    from llmops_kit.jobs import Place

_STATES = {
    "queued": {"en": "Waiting in line", "ja": "順番待ちです"},
    "running": {"en": "Running", "ja": "実行中です"},
    "finished": {"en": "Finished", "ja": "完了しました"},
    "failed": {"en": "Failed", "ja": "失敗しました"},
    "cancelled": {"en": "Cancelled", "ja": "中止しました"},
    "interrupted": {"en": "Interrupted", "ja": "中断されました"},
}


def tell_state(job: Job, place: Place | None, language: str = "en") -> str:
    """The state of a job with its reason, its place in line or its progress, in `ja` or `en`."""
    japanese = language.startswith("ja")
    said = _STATES[job.state]["ja" if japanese else "en"]
    if job.state == "queued" and place is not None:
        return said.removesuffix("です") + _tell_place(place, japanese) if japanese else said + _tell_place(place, japanese)
    if job.state == "running":
        return said + _tell_progress(job, japanese)
    reason = job.reason.get("ja" if japanese else "en", "")
    return f"{said}。{reason}" if japanese else f"{said}. {reason}".strip()


def _tell_place(place: Place, japanese: bool) -> str:
    starts = place.expected_start_s
    if japanese:
        when = "" if starts is None else f"。およそ{format_time(starts, 'ja')}後に始まります" if starts >= 1 else "。まもなく始まります"
        return f"です（{place.position + 1}番目）{when}。"
    when = "" if starts is None else f"; it starts in about {format_time(starts)}" if starts >= 1 else "; it starts now"
    return f" (number {place.position + 1}){when}."


def _tell_progress(job: Job, japanese: bool) -> str:
    step, steps, left = (job.progress.get(name) for name in ("step", "steps", "seconds_left"))
    if step is None or not steps:
        return "。準備しています。" if japanese else "; it is getting ready."
    rest = "" if left is None else (f"、残り約{format_time(float(left), 'ja')}" if japanese else f", about {format_time(float(left))} left")
    return f"（{steps}ステップ中{step}{rest}）。" if japanese else f": step {step} of {steps}{rest}."
