"""What W&B gets of a tuning job: its settings, its curves, its samples, and its data and adapter with what they rest on.

Everything is made from the job's row, its events and its files, so that it can be made again at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_kit.tracking.artifacts import name_for_wandb
from llmops_kit.tracking.cells import Columns, as_json, make_row, without_secrets
from llmops_kit.types import Job, JobEvent

SAMPLE_COLUMNS: Columns = {"step": int, "prompt": str, "messages": str, "expected": str, "base": str, "text": str}
EXAMPLE_COLUMNS: Columns = {"step": int, "rank": str, "loss": float, "prompt": str, "expected": str, "text": str}
AXIS = "step"
"""What the curves are drawn over: the training's own step. W&B's step only counts the lines: it drops one that is not larger than the last."""
_COPIED_BYTES = 500 * 2**20
"""Larger models are referred to where they are instead of copied."""
_DATA_FILE, _CARD_FILE = "data.jsonl", "card.json"


@dataclass(frozen=True)
class FileSet:
    """A W&B artifact: `files` are paths, or the bytes themselves. `facts` are shown beside it; `inputs` among them is what it rests on."""

    name: str
    kind: str
    aliases: tuple[str, ...]
    facts: Mapping[str, Any]
    files: Mapping[str, Path | bytes]

    @property
    def alias(self) -> str:
        """The alias that names this very content."""
        return self.aliases[-1]

    @property
    def is_copied(self) -> bool:
        """Whether W&B gets the files and not only where they are."""
        return sum(file.stat().st_size if isinstance(file, Path) else len(file) for file in self.files.values()) <= _COPIED_BYTES


@dataclass(frozen=True)
class JobView:
    """A job as W&B shows it: `curves` are the values by training step."""

    config: Mapping[str, Any]
    curves: Mapping[int, Mapping[str, float]]
    tables: Mapping[str, tuple[Columns, Sequence[Sequence[Any]]]]
    inputs: tuple[FileSet, ...]
    outputs: tuple[FileSet, ...]


def is_tracked(job: Job) -> bool:
    """Whether the job's spec lets it go to W&B."""
    return job.spec.get("wandb") is True


def view_job(job: Job, events: Sequence[JobEvent], folder: Path) -> JobView:
    """The job whose files are in `folder`, as W&B shows it."""
    settled = settle(events)
    made = Path(str(job.result["adapter_path"])) if job.result.get("adapter_path") else None
    card = _read_json(made / _CARD_FILE) if made else {}
    data = _data(folder, card)
    base = _base(job, card)
    inputs = tuple(each for each in (data, base) if each is not None)
    outputs = tuple(each for each in (_adapter(job, made, card, inputs),) if each is not None)
    return JobView(_config(job, settled, card, data), _curves(settled), _tables(settled), inputs, outputs)


def settle(events: Iterable[JobEvent]) -> list[JobEvent]:
    """The events, each step as the highest attempt did it: a resumed job does the last steps before its end again."""
    events = list(events)
    last: dict[tuple[str, int], int] = {}
    for event in events:
        last[event.kind, event.step] = max(event.attempt, last.get((event.kind, event.step), 0))
    return sorted((event for event in events if event.attempt == last[event.kind, event.step]), key=lambda event: (event.created_at, event.id))


def _config(job: Job, events: Sequence[JobEvent], card: Mapping[str, Any], data: FileSet | None) -> dict[str, Any]:
    """Settings and what they were applied to. Paths say something of the machine and the person: the data has its name only."""
    spec = _shown(job.spec)
    started = next((event.data for event in reversed(events) if event.kind == "started"), {})
    kept = ("device", "dtype", "trainable_parameters", "train_rows", "eval_rows", "steps")
    facts = {name: card.get(name) for name in ("base_revision", "base_fingerprint", "template_sha256", "data_name", "data_sha256", "versions")}
    if data is not None and not facts["data_sha256"]:
        facts["data_sha256"] = data.facts["sha256"]
    about = {"job_id": job.id, "job_name": job.name, "kind": job.kind, "participant": job.owner, "created_at": job.created_at.isoformat()}
    return {**spec, **{name: value for name, value in facts.items() if value}, **{name: started[name] for name in kept if name in started}, **about}


def _curves(events: Sequence[JobEvent]) -> dict[int, dict[str, float]]:
    curves: dict[int, dict[str, float]] = {}
    for event in events:
        if event.kind in ("train", "eval"):
            for name, value in event.data.items():
                if isinstance(value, (int, float)) and not isinstance(value, bool):
                    curves.setdefault(event.step, {})[f"{event.kind}/{name.removeprefix('eval_')}"] = value
    return dict(sorted(curves.items()))


def _tables(events: Sequence[JobEvent]) -> dict[str, tuple[Columns, list[list[Any]]]]:
    samples = [_cells(event, SAMPLE_COLUMNS) for event in events if event.kind == "sample"]
    shown = [event for event in events if event.kind == "example"]
    newest = max((event.step for event in shown), default=None)
    examples = [_cells(event, EXAMPLE_COLUMNS) for event in shown if event.step == newest]
    tables = {"samples": (SAMPLE_COLUMNS, samples), "examples": (EXAMPLE_COLUMNS, examples)}
    return {name: table for name, table in tables.items() if table[1]}


def _cells(event: JobEvent, columns: Columns) -> list[Any]:
    """The values of an event as the cells of a row; what is no text is written as JSON where text is expected."""
    values = {name: as_json(value) if columns.get(name) is str and isinstance(value, (list, dict)) else value for name, value in event.data.items()}
    return make_row({**values, "step": event.step}, columns)


def _data(folder: Path, card: Mapping[str, Any]) -> FileSet | None:
    """The rows the job was given: its own copy without the first line, which says where they came from."""
    try:
        head, _, rows = (folder / _DATA_FILE).read_bytes().partition(b"\n")
        facts = json.loads(head)
    except (OSError, ValueError):
        return None
    digest = str(card.get("data_sha256") or facts.get("sha256") or hashlib.sha256(rows).hexdigest())
    name = str(card.get("data_name") or facts.get("name") or "data")
    about = {"sha256": digest, "rows": rows.count(b"\n"), "kind": facts.get("kind"), "format": facts.get("format")}
    return FileSet(name_for_wandb(f"data-{Path(name).name}"), "dataset", ("latest", f"sha-{digest[:12]}"), about, {_DATA_FILE: rows})


def _base(job: Job, card: Mapping[str, Any]) -> FileSet | None:
    """What stands for the base: its name and revision, not its weights."""
    if not (base := job.spec.get("base")):
        return None
    facts = {"model": str(base), "revision": str(card.get("base_revision") or ""), "fingerprint": str(card.get("base_fingerprint") or "")}
    text = json.dumps(facts, ensure_ascii=False, sort_keys=True).encode()
    alias = f"id-{hashlib.sha256(text).hexdigest()[:12]}"
    return FileSet(name_for_wandb(f"base-{base}"), "model", ("latest", alias), facts, {"model.json": text})


def _adapter(job: Job, made: Path | None, card: Mapping[str, Any], inputs: Sequence[FileSet]) -> FileSet | None:
    files = {str(path.relative_to(made)): path for path in sorted(made.rglob("*")) if path.is_file()} if made else {}
    if made is None or not files:
        return None
    shown: dict[str, Path | bytes] = {**files, **({_CARD_FILE: as_json({**card, "spec": _shown(card.get("spec") or {})}).encode()} if card else {})}
    model = str(job.result.get("model") or job.name)
    facts = {
        **{"model": model, "job_id": job.id, "inputs": [f"{each.name}:{each.alias}" for each in inputs]},
        **{name: card.get(name) for name in ("base", "base_revision", "data_sha256", "template_sha256", "metrics") if card.get(name)},
    }
    return FileSet(name_for_wandb(f"model-{model}"), "model", ("latest", f"attempt-{job.attempt}", f"job-{job.id}"), facts, shown)


def _shown(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A spec without keys, and with the name of its data instead of where that is."""
    data = spec.get("data")
    return {**without_secrets(spec), **({"data": Path(data).name} if isinstance(data, str) else {})}


def _read_json(path: Path) -> dict[str, Any]:
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return read if isinstance(read, dict) else {}
