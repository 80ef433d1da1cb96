"""`TuneJob`: a training job in the hand of a notebook or a page: how far it is, what it measured, what came out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.access import LOCAL, User
from llmops_kit.progress import Progress
from llmops_kit.tuning.budget.estimate import format_time
from llmops_kit.tuning.job_texts import tell_state
from llmops_kit.types import Job, JobEvent, JobState

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.jobs import Jobs

ESTIMATE_FILE = "estimate.json"
_KINDS = ("tune", "pretrain")
_COMPARED = {"memory_gb": "peak_memory_gb", "steps": "steps", "tokens": "tokens"}
_METRICS = ("step", "epoch", "loss", "eval_loss", "token_accuracy", "learning_rate", "tokens_per_s", "seconds")


class TuneJob:
    """A tuning or pretraining job. It looks at the job anew whenever it is asked; nothing of the job hangs on it."""

    def __init__(self, jobs: Jobs, job: Job) -> None:
        self._jobs = jobs
        self.id = job.id

    @property
    def record(self) -> Job:
        """The row of the job as it is now."""
        return self._jobs.get(self.id)

    @property
    def state(self) -> JobState:
        """`queued`, `running`, `finished`, `failed`, `cancelled` or `interrupted`."""
        return self.record.state

    def wait(self, *, timeout_s: float | None = None, progress: Progress | Literal[False] | None = None) -> TuneJob:
        """Look on with a progress bar until the job has ended, or for `timeout_s` seconds. Interrupting the cell stops the looking, not the job."""
        self._jobs.wait(self.id, timeout_s=timeout_s, progress=progress)
        return self

    def cancel(self, *, by: User | str = LOCAL) -> TuneJob:
        """Stop it with a checkpoint that can be used and resumed. Raises: `AccessDenied` for anybody but its owner and the facilitator."""
        self._jobs.cancel(self.id, by=by)
        return self

    def resume(self, *, by: User | str = LOCAL) -> TuneJob:
        """Put it back in line; it goes on from its last checkpoint. Raises: `AccessDenied`, `Busy`."""
        self._jobs.resume(self.id, by=by)
        return self

    def metrics(self) -> pd.DataFrame:
        """The curves so far: one row per step that was logged or evaluated, `seconds` counted from the first of them.

        Steps that were done again after a resume appear once, as they were the last time. Step 0 is the base before training.
        """
        import pandas as pd

        rows: dict[int, dict[str, Any]] = {}
        found = settle_steps(event for event in self._jobs.events(self.id) if event.kind in ("train", "eval"))
        for event in found:
            row = rows.setdefault(event.step, {"step": event.step, "seconds": event.created_at})
            row.update({name: value for name, value in event.data.items() if name in _METRICS})
            row["seconds"] = max(row["seconds"], event.created_at)
        start = min((event.created_at for event in found), default=None)
        frame = pd.DataFrame([rows[step] for step in sorted(rows)], columns=list(_METRICS))
        if start is not None:
            frame["seconds"] = [(moment - start).total_seconds() for moment in frame["seconds"]]
        return frame

    def samples(self) -> pd.DataFrame:
        """The fixed prompts at each evaluation: `step`, `prompt`, `expected`, `base` (the answer before training) and `text`."""
        return self._table("sample", ("step", "prompt", "expected", "base", "text"))

    def examples(self) -> pd.DataFrame:
        """The best and the worst evaluation rows of the last evaluation: `rank`, `loss`, `prompt`, `expected`, `text`."""
        import pandas as pd

        events = settle_steps(self._jobs.events(self.id, "example"))
        last = max((event.step for event in events), default=0)
        rows = [dict(event.data) for event in events if event.step == last]
        return pd.DataFrame(rows, columns=["rank", "loss", "prompt", "expected", "text"])

    def events(self, kind: str | None = None) -> list[JobEvent]:
        """Everything that happened, oldest first, each step as it was the last time."""
        return settle_steps(self._jobs.events(self.id, kind))

    def log(self, *, tail_bytes: int = 20_000) -> str:
        """The end of what its process wrote."""
        return self._jobs.log(self.id, tail_bytes=tail_bytes)

    @property
    def adapter_path(self) -> Path | None:
        """The folder of what it made; None until then."""
        made = self.record.result.get("adapter_path")
        return Path(str(made)) if made else None

    @property
    def model(self) -> str | None:
        """The id of the model it made, as the catalogue knows it; None until then."""
        made = self.record.result.get("model")
        return str(made) if made else None

    @property
    def estimate(self) -> Mapping[str, Any]:
        """What was estimated at its launch (the fields of `Estimate`), empty where nothing was."""
        file = self._jobs.folder(self.id) / ESTIMATE_FILE
        try:
            return dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def against_estimate(self) -> pd.DataFrame:
        """What was estimated and what it was: `seconds`, `memory_gb`, `steps`, `tokens`, each with `ratio` (actual / estimate)."""
        import pandas as pd

        told, job = self.estimate, self.record
        took = {"seconds": measure_seconds(job), **{name: job.result.get(key) for name, key in _COMPARED.items()}}
        rows = [{"what": name, "estimate": told.get(name), "actual": actual} for name, actual in took.items()]
        frame = pd.DataFrame(rows, columns=["what", "estimate", "actual"]).set_index("what").astype(float)
        frame["ratio"] = frame["actual"] / frame["estimate"]
        return frame

    def text(self, language: str = "en") -> str:
        """One or two sentences, in `ja` or `en`: state, place in line and expected start, or why it ended, and the estimate against what it was."""
        job = self.record
        place = self._jobs.place(self.id) if job.state == "queued" else None
        said = tell_state(job, place, language)
        told, took = self.estimate.get("seconds"), measure_seconds(job)
        if told and took and job.state == "finished":
            japanese = language.startswith("ja")
            before, after = format_time(float(told), language), format_time(float(took), language)
            said += f"所要時間：見積もり{before}、実際{after}。" if japanese else f" Estimated {before}, took {after}."
        return said

    def _table(self, kind: str, columns: tuple[str, ...]) -> pd.DataFrame:
        import pandas as pd

        rows = [{"step": event.step, **event.data} for event in settle_steps(self._jobs.events(self.id, kind))]
        return pd.DataFrame(rows, columns=list(columns))

    def __repr__(self) -> str:
        return f"TuneJob({self.id!r}, {self.state})"

    def _repr_html_(self) -> str:
        job = self.record
        step, steps = job.progress.get("step"), job.progress.get("steps")
        bar = f"<progress value='{int(step)}' max='{int(steps)}' style='width:100%'></progress>" if step is not None and steps else ""
        made = f"<p style='margin:.2em 0'><code>{escape(self.model)}</code></p>" if self.model else ""
        colour = {"finished": "#047857", "failed": "#b91c1c", "interrupted": "#b91c1c"}.get(job.state, "#374151")
        sentences = "".join(f"<p style='margin:.2em 0;color:{colour}'>{escape(self.text(language))}</p>" for language in ("ja", "en"))
        return (
            "<div style='border:1px solid #d1d5db;border-radius:8px;padding:.6em .9em;max-width:44em'>"
            f"<strong>{escape(job.name)}</strong> <small style='color:#6b7280'>{escape(self.id)}</small>{sentences}{bar}{made}</div>"
        )


def measure_seconds(job: Job) -> float | None:
    """Seconds from the start of a finished job's process to its end; None for one that was taken up again, or has not finished."""
    if job.state != "finished" or job.attempt > 1 or job.started_at is None or job.ended_at is None:
        return None
    return (job.ended_at - job.started_at).total_seconds()


def settle_steps(events: Iterable[JobEvent]) -> list[JobEvent]:
    """The events without those that a later attempt did again: of earlier attempts, only what came before the later one's first step counts."""
    found = sorted(events, key=lambda event: (event.attempt, event.step, event.created_at))
    first: dict[int, int] = {}
    for event in found:
        if event.kind != "note":
            first.setdefault(event.attempt, event.step)
    kept = []
    for event in found:
        again = min((step for attempt, step in first.items() if attempt > event.attempt), default=None)
        if event.kind == "note" or again is None or event.step < again:
            kept.append(event)
    return sorted(kept, key=lambda event: (event.step, event.attempt, event.created_at))


def list_jobs(jobs: Jobs, owner: str | None) -> pd.DataFrame:
    """One row per tuning and pretraining job, newest first; times are UTC, `seconds` what it took or was estimated."""
    import pandas as pd

    rows = []
    for job in (job for job in jobs.find(owner=owner) if job.kind in _KINDS):
        rows.append(
            {
                "id": job.id,
                "name": job.name,
                "kind": job.kind,
                "state": job.state,
                "owner": job.owner,
                "base": job.spec.get("base"),
                "model": job.result.get("model"),
                "step": job.progress.get("step"),
                "steps": job.progress.get("steps"),
                "eval_loss_before": job.result.get("eval_loss_before"),
                "eval_loss": job.result.get("eval_loss"),
                "seconds": measure_seconds(job) or job.expected_s,
                "created_at": job.created_at,
            }
        )
    columns = ["id", "name", "kind", "state", "owner", "base", "model", "step", "steps", "eval_loss_before", "eval_loss", "seconds", "created_at"]
    return pd.DataFrame(rows, columns=columns)
