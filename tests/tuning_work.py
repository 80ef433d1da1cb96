"""A job's workflow called by itself, without the machinery of jobs: what it says is kept in lists."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llmops_kit.jobs import processes
from llmops_kit.kit import Kit, open_kit
from llmops_kit.types import Job, now

PLACES = {"東京": "関東", "神戸": "関西", "札幌": "北海道", "福岡": "九州", "仙台": "東北", "高松": "四国", "名古屋": "中部", "広島": "中国"}
ENDINGS = ("はどこですか。", "の地方名を教えて。", "はどの地方の街？", "について、地方だけ答えてください。")


def end_jobs(kit: Kit) -> None:
    """End whatever still runs or waits in a test's workspace: a test that fails leaves no process behind."""
    for job in kit.jobs.find(states=("queued",)):
        kit.jobs.cancel(job.id, by=job.owner)
    kit.jobs.close()
    for job in kit.jobs.find(states=("running",)):
        processes.end(job.id, job.handle)


class FakeWork:
    """As `Work`: `events` are (kind, step, data); `stops_at` is the step after which somebody has cancelled."""

    def __init__(self, spec: Any, folder: Path, *, attempt: int = 1, stops_at: int | None = None, rank: int = 0, processes: int = 1) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.job = Job(
            id="job-1", created_at=now(), owner="ann", kind="tune", name="t", spec=spec.model_dump(mode="json"), state="running", attempt=attempt
        )
        self.folder, self.attempt, self.resumed, self.rank, self.processes = folder, attempt, attempt > 1, rank, processes
        self.pulse = SimpleNamespace(terminated=False, cancelled=stops_at is not None)
        self.events: list[tuple[str, int, dict[str, Any]]] = []
        self.progressed: list[dict[str, Any]] = []
        self.on_event: Callable[[str, int], None] = lambda kind, step: None
        self._stops_at = stops_at

    def event(self, kind: str, step: int, **data: Any) -> None:
        json.dumps(data)
        self.events.append((kind, step, data))
        self.on_event(kind, step)

    def note(self, en: str, ja: str, step: int = 0) -> None:
        self.event("note", step, en=en, ja=ja)

    def progress(self, step: int, steps: int, seconds_left: float | None, **more: Any) -> None:
        self.progressed.append({"step": step, "steps": steps, "seconds_left": seconds_left, **more})

    def is_cancelled(self) -> bool:
        return self._stops_at is not None and bool(self.progressed_step >= self._stops_at - 1)

    @property
    def progressed_step(self) -> int:
        return int(self.progressed[-1]["step"]) if self.progressed else 0

    def of(self, kind: str) -> list[tuple[int, dict[str, Any]]]:
        return [(step, data) for found, step, data in self.events if found == kind]


def write_rows(file: Path, count: int = 32, *, seed: int = 0) -> Path:
    """Chat rows about which region a city is in, answered in dialect: short, of different lengths, in one to two turns."""
    rng = random.Random(seed)
    lines = []
    for number in range(count):
        city, ending = list(PLACES)[number % len(PLACES)], ENDINGS[number // len(PLACES) % len(ENDINGS)]
        filler = "、".join(rng.choices(list(PLACES), k=rng.randint(0, 6)))
        asked = f"{filler}ではなく、{city}{ending}({number})" if filler else f"{city}{ending}({number})"
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": f"{PLACES[city]}やで！"}]
        lines.append(json.dumps({"messages": messages}, ensure_ascii=False))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def open_tuning(workspace: Path, tiny: Path | None = None) -> Any:
    """The `Tuning` of a kit in `workspace`, which knows the model in `tiny` as `tiny`. Close `.kit` at the end."""
    kit = open_kit(workspace)
    if tiny is not None and "tiny" not in [entry.id for entry in kit.models.entries()]:
        kit.models.add("tiny", provider="huggingface", model=str(tiny), context_tokens=512, dtype="float32")
    tuning = kit.tuning
    tuning.kit = kit
    return tuning
