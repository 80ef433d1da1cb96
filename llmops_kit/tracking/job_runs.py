"""The W&B runs of tuning jobs: one for each, in a folder of its own (`wandb/jobs/<job>`), so that a job's process needs nobody's leave to write it.

A run is written when its job ends, from the store: the steps that are not in its folders yet, then the tables and artifacts. So a kill
in between loses nothing and doubles nothing, and a resumed job goes on in the same run.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from llmops_kit.settings import Settings, place_wandb, secret
from llmops_kit.tracking.offline import read_records
from llmops_kit.tracking.outbox import OneSender, Outbox, as_tracking_error
from llmops_kit.tracking.session import Session, Target
from llmops_kit.tracking.tuning import AXIS, is_tracked, view_job
from llmops_kit.tracking.upload import upload
from llmops_kit.types import ENDED, Job, JobEvent

_NOTE = "kit.json"


@dataclass(frozen=True)
class _Note:
    """What is known of a job's run beside its folders: its id at W&B, the end that was written last, and what the server was told it uses."""

    run_id: str
    written: str = ""
    inputs: tuple[str, ...] = ()
    linked: tuple[str, ...] = ()


class JobRuns:
    """The runs of all jobs of a workspace. The caller sees to it that only one thread is in here; processes exclude each other by job.

    Every method raises `TrackingError` when W&B or a folder fails and `WorkspaceError` when the store does.
    """

    def __init__(self, store: Outbox, settings: Settings) -> None:
        self._store = store
        self._settings = settings
        self._home = settings.workspace.absolute() / "wandb" / "jobs"

    def behind(self, *, online: bool) -> list[Job]:
        """The ended jobs that W&B lacks something of: that is not written, or, where it is online, not uploaded."""
        ended = self._store.values(Job, ("id", "attempt", "ended_at", "spec"), state=[*ENDED])
        missing = []
        for id, attempt, ended_at, spec in ended:
            if spec.get("wandb") is True and attempt:
                note = self._note(id)
                if note is None or note.written != _end_of(attempt, ended_at) or (online and (self._unsent(id) or {*note.inputs} - {*note.linked})):
                    missing.append(id)
        return self._store.find(Job, id=missing) if missing else []

    def log(self, job: Job, *, online: bool, stop: Callable[[], bool] = lambda: False) -> None:
        """Write what is new of an ended job to its run, then upload it where W&B is `online`."""
        if not (is_tracked(job) and job.has_ended and job.attempt):
            return
        with self._alone(job.id):
            note = self._note(job.id) or _Note(job.id)
            if note.written != _end_of(job.attempt, job.ended_at):
                note = self._write(job, note)
            if online:
                self._upload(job, note, stop)

    def rebuild(self, job: Job) -> None:
        """Set the folders of a job's run aside, and write a fresh one; what a server has already keeps its id, and the fresh run gets another."""
        root = self._home / job.id
        with self._alone(job.id):
            note = self._note(job.id)
            if note is None:
                return
            sent = any(root.glob("wandb/offline-run-*/*.synced"))
            aside = self._home / "replaced"
            with as_tracking_error():
                aside.mkdir(exist_ok=True)
                number = len([*aside.glob(f"{job.id}-*")]) + 1
                if (root / "wandb").is_dir():
                    shutil.move(root / "wandb", aside / f"{job.id}-{number}")
            self._save(job.id, _Note(f"{job.id}-{number}" if sent else note.run_id))

    # --- writing

    def _write(self, job: Job, note: _Note) -> _Note:
        view = view_job(job, self._store.find(JobEvent, job_id=job.id), self._settings.jobs_folder / job.id)
        line, done = self._written(job.id)
        place_wandb(self._home / job.id / "wandb")
        session = Session(Target(root=self._home / job.id, project=self._settings.wandb_project), note.run_id, name=job.name)
        session.configure(view.config, axis=AXIS)
        for step, values in view.curves.items():
            if step > done:
                line += 1
                session.plot({AXIS: step, **values}, line)
        last = max([done, *view.curves]) if view.curves or done >= 0 else 0
        session.show(view.tables, {AXIS: last, "seconds": _seconds(job)}, line + 1)
        for files in (*view.inputs, *view.outputs):
            session.keep(files)
        session.wait_written(line + 1)
        session.finish()
        note = replace(note, written=_end_of(job.attempt, job.ended_at), inputs=tuple(f"{each.name}:{each.alias}" for each in view.inputs))
        self._save(job.id, note)
        return note

    def _written(self, id: str) -> tuple[int, int]:
        """The last line of the run's history, and the last step of training in it; -1 where there is none."""
        line = step = -1
        for folder in self._folders(id):
            for log in folder.glob("run-*.wandb"):
                for record, _ in read_records(log):
                    if record.WhichOneof("record_type") == "history":
                        values = {(item.key or item.nested_key[0]): item.value_json for item in record.history.item}
                        line = max(line, int(values.get("_step", -1)))
                        if any(name.startswith(("train/", "eval/")) for name in values):
                            step = max(step, int(json.loads(values.get(AXIS, "-1"))))
        return line, step

    # --- uploading

    def _upload(self, job: Job, note: _Note, stop: Callable[[], bool]) -> None:
        folder = self._home / job.id / "wandb"
        if waiting := self._unsent(job.id):
            with as_tracking_error():
                upload(folder, waiting, self._address(), done=lambda _: None, stop=stop)
        missing = [each for each in note.inputs if each not in note.linked]
        if missing:
            place_wandb(folder)
            key, url = secret("WANDB_API_KEY"), self._settings.wandb_base_url
            target = Target(root=folder.parent, project=self._settings.wandb_project, mode="online", base_url=url, key=key)
            session = Session(target, note.run_id, name=job.name)
            for each in missing:
                session.use_named(each)
            session.finish()
            self._save(job.id, replace(note, linked=note.inputs))

    def _unsent(self, id: str) -> list[Path]:
        return [folder for folder in self._folders(id) if not any(folder.glob("run-*.wandb.synced"))]

    def _folders(self, id: str) -> list[Path]:
        """The folders of a job's run that were written offline, oldest first."""
        return sorted(path for path in (self._home / id / "wandb").glob("offline-run-*") if path.is_dir())

    def _address(self) -> str:
        if self._settings.wandb_base_url:
            return self._settings.wandb_base_url
        import wandb

        return str(wandb.Settings().base_url)

    # --- the note

    @contextmanager
    def _alone(self, id: str) -> Iterator[None]:
        sender = OneSender(self._home / id)
        sender.take()
        try:
            yield
        finally:
            sender.give_back()

    def _note(self, id: str) -> _Note | None:
        try:
            plain: dict[str, Any] = json.loads((self._home / id / _NOTE).read_text(encoding="utf-8"))
            return _Note(plain["run_id"], plain["written"], tuple(plain["inputs"]), tuple(plain["linked"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _save(self, id: str, note: _Note) -> None:
        with as_tracking_error():
            draft = self._home / id / f"{_NOTE}.new"
            draft.write_text(json.dumps(asdict(note)), encoding="utf-8")
            draft.replace(self._home / id / _NOTE)


def _end_of(attempt: int, ended_at: Any) -> str:
    return f"{attempt} {ended_at.isoformat() if ended_at else ''}"


def _seconds(job: Job) -> float | None:
    """How long the last attempt took."""
    return (job.ended_at - job.started_at).total_seconds() if job.ended_at and job.started_at else None
