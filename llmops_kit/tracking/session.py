"""One run of W&B while it is open: the only calls into the library, each of them guarded."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.errors import TrackingError
from llmops_kit.tracking.artifacts import as_lines, describe, final_tables, name_for_wandb
from llmops_kit.tracking.cells import Columns
from llmops_kit.tracking.offline import read_records
from llmops_kit.tracking.rows import choose_columns
from llmops_kit.tracking.tuning import FileSet
from llmops_kit.types import Artifact

if TYPE_CHECKING:
    from wandb import Settings, Table

_FLUSH_S = 0.2
_WRITTEN_WITHIN_S = 10.0
_INIT_WITHIN_S = 5.0
_FINISH_WITHIN_S = 5.0
_SHOWN_INCREMENTS = 100


@dataclass(frozen=True)
class Target:
    """Where a run goes: the folder that holds W&B's `wandb` folder, the project, and the server with its key if online.

    Rows are always written offline and uploaded afterwards: an open online run makes the writer wait for the network, gives up on a long
    cut without saying so, and cannot be taken up again by another process. Only links between artifacts need one.
    """

    root: Path
    project: str
    mode: Literal["offline", "online"] = "offline"
    base_url: str | None = None
    key: str | None = None

    def __repr__(self) -> str:
        return f"Target(project={self.project!r}, mode={self.mode!r})"


class Session:
    """An open W&B run. Not safe to share between threads; the relay holds a lock around it.

    Raises `TrackingError` from every method when W&B fails. A session that raised is of no more use.
    """

    def __init__(self, target: Target, run_id: str, continued: Mapping[str, Mapping[str, Any]] | None = None, *, name: str | None = None) -> None:
        """`continued` is what W&B noted of the last bit of each table in the folders before, so that the tables go on from there.

        `name` is what W&B shows the run as (None: its id).
        """
        import wandb

        self._key = target.key
        self._continued = continued or {}
        self._tables: dict[str, Table] = {}
        self._read_to = 0
        self.rows = 0
        self.increments = 0
        with self._guarded():
            names: dict[str, Any] = {"project": target.project, "id": run_id, "name": name or run_id}
            self._run = wandb.init(**names, resume="allow", reinit="create_new", settings=_quiet_settings(target))
        self.folder = Path(self._run.settings.sync_dir)
        self._log = Path(self._run.settings.sync_file)

    def log(self, tables: Mapping[str, Sequence[Sequence[Any]]], step: int, artifact: Artifact | None = None) -> None:
        """Add rows to tables as one step, with the artifact's own tables and files before it; `step` must be larger than any before it.

        W&B drops a smaller step silently.
        """
        with self._guarded():
            for name, rows in tables.items():
                table = self._tables.get(name) or self._tables.setdefault(name, _open_table(name, self._continued.get(name)))
                for row in rows:
                    table.add_data(*row)
                self.rows += len(rows)
            finals = self._log_artifact(artifact) if artifact is not None else {}
            self._run.log({**finals, **{name: self._tables[name] for name in tables}}, step=step, commit=True)
        self.increments += 1

    def use(self, artifact: tuple[str, int]) -> bool:
        """Note at the server that the run uses this artifact (name, version); False where the server does not have it. Online only."""
        return self.use_named(f"{name_for_wandb(artifact[0])}:version-{artifact[1]}")

    def use_named(self, artifact: str) -> bool:
        """As `use`, of an artifact under its W&B name and alias (`name:alias`)."""
        import wandb

        with self._guarded():
            try:
                self._run.use_artifact(artifact)
            except (wandb.Error, ValueError) as fault:
                if "not found" not in str(fault):
                    raise
                return False
        return True

    def configure(self, config: Mapping[str, Any], *, axis: str) -> None:
        """Set the settings that W&B shows with the run, and the value that its curves are drawn over."""
        with self._guarded():
            self._run.config.update(dict(config), allow_val_change=True)  # type: ignore[no-untyped-call]
            self._run.define_metric(axis)
            self._run.define_metric("*", step_metric=axis)

    def plot(self, values: Mapping[str, Any], step: int) -> None:
        """Add a line to the run's curves; `step` as in `log`."""
        with self._guarded():
            self._run.log(dict(values), step=step, commit=True)

    def show(self, tables: Mapping[str, tuple[Columns, Sequence[Sequence[Any]]]], values: Mapping[str, Any], step: int) -> None:
        """Write whole tables, each with the types of its columns and its rows, and values beside them, as one step; `step` as in `log`."""
        import wandb

        with self._guarded():
            made = {
                name: wandb.Table(columns=list(columns), data=[*rows], dtype=list(columns.values()), optional=True, log_mode="IMMUTABLE")
                for name, (columns, rows) in tables.items()
            }
            self._run.log({**made, **values}, step=step, commit=True)

    def keep(self, files: FileSet) -> None:
        """Log files as an artifact; large ones are named where they are, with their checksums."""
        import wandb

        with self._guarded():
            logged = wandb.Artifact(files.name, files.kind, metadata=dict(files.facts))
            for name, content in files.files.items():
                if isinstance(content, bytes):
                    with logged.new_file(name, "wb") as file:
                        file.write(content)
                elif files.is_copied:
                    logged.add_file(str(content), name=name)
                else:
                    logged.add_reference(content.as_uri(), name=name)
            self._run.log_artifact(logged, aliases=list(files.aliases))

    def _log_artifact(self, artifact: Artifact) -> dict[str, Table]:
        """Log the artifact's file and give its tables."""
        import wandb

        logged = wandb.Artifact(name_for_wandb(artifact.name), name_for_wandb(artifact.kind), metadata=describe(artifact))
        with logged.new_file("rows.jsonl", "wb") as file:
            file.write(as_lines(artifact))
        self._run.log_artifact(logged, aliases=["latest", f"version-{artifact.version}"])
        tables = {}
        for name, (columns, rows) in final_tables(artifact).items():
            tables[name] = wandb.Table(columns=list(columns), data=[*rows], dtype=list(columns.values()), optional=True, log_mode="IMMUTABLE")
        return tables

    def wait_written(self, step: int) -> None:
        """Return when `step` stands in the log file: W&B answers `log` long before it writes."""
        give_up = time.monotonic() + _WRITTEN_WITHIN_S
        while time.monotonic() < give_up:
            with self._guarded():
                if step in self._new_steps():
                    return
            time.sleep(0.05)
        raise TrackingError(reason=f"step {step} did not reach {self._log.name} within {_WRITTEN_WITHIN_S:g} s")

    def finish(self) -> None:
        """Write the end of the log; online, wait for the upload within a bound."""
        with self._guarded():
            self._run.finish()
        give_up = time.monotonic() + _FINISH_WITHIN_S
        while time.monotonic() < give_up:
            with self._guarded():
                if any(record.WhichOneof("record_type") == "exit" for record, _ in read_records(self._log, self._read_to)):
                    return
            time.sleep(0.05)
        raise TrackingError(reason=f"the end of {self._log.name} was not written within {_FINISH_WITHIN_S:g} s")

    def _new_steps(self) -> set[int]:
        steps: set[int] = set()
        for record, end in read_records(self._log, self._read_to):
            self._read_to = end
            if record.WhichOneof("record_type") == "history":
                steps.update(int(item.value_json) for item in record.history.item if [*item.nested_key] == ["_step"] or item.key == "_step")
        return steps

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        import wandb
        from wandb.sdk.lib.service.service_connection import WandbApiFailedError
        from wandb.sdk.lib.service.service_token import WandbServiceConnectionError
        from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError
        from wandb.sdk.mailbox.mailbox_handle import ServerResponseError

        # OSError covers the ConnectionError of a dead wandb-core and TimeoutError; ValueError a project or address it refuses.
        service = (HandleAbandonedError, MailboxClosedError, ServerResponseError, WandbApiFailedError, WandbServiceConnectionError)
        kinds = (wandb.Error, OSError, ValueError, *service)
        try:
            yield
        except kinds as fault:
            reason = str(fault).rstrip(". \n") or type(fault).__name__
            reset_library(dead=isinstance(fault, (ConnectionError, MailboxClosedError, WandbServiceConnectionError)))
            raise TrackingError(reason=reason.replace(self._key, "***") if self._key else reason) from None


def reset_library(*, dead: bool) -> None:
    """Let W&B start its helper process anew: a dead one fails every later `init`, a failed `init` keeps the run's id taken.

    Nothing is done while somebody else's run is open in this process, unless the helper process is `dead` for it as well.
    """
    import wandb

    if not dead and wandb.run is not None:
        return
    try:
        wandb.teardown()
    except (wandb.Error, OSError):
        return  # it reports the very death that it clears away


def _open_table(name: str, before: Mapping[str, Any] | None) -> Table:
    import wandb

    columns = choose_columns(name)
    table = wandb.Table(columns=list(columns), dtype=list(columns.values()), optional=True, log_mode="INCREMENTAL")
    if before and "artifact_path" in before:
        # W&B reads this from the server when it takes a run up again, which it cannot offline; its page shows the bits named here.
        table._previous_increments_paths = [*before.get("previous_increments_paths", ()), before["artifact_path"]][1 - _SHOWN_INCREMENTS :]
        table._increment_num = int(before.get("increment_num", 0)) + 1
    return table


def _quiet_settings(target: Target) -> Settings:
    """Settings under which W&B collects nothing but what it is handed, asks nothing, and fails soon."""
    import wandb

    settings = wandb.Settings(
        mode=target.mode,
        root_dir=str(target.root),
        use_dot_wandb=False,
        host="",
        username="",
        email="",
        program="",
        console="off",
        silent=True,
        symlink=False,
        save_code=False,
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        x_transaction_log_flush_interval=_FLUSH_S,
        init_timeout=_INIT_WITHIN_S,
        login_timeout=_INIT_WITHIN_S,
        finish_timeout=_FINISH_WITHIN_S,
        finish_timeout_raises=True,
    )
    if target.mode == "online" and target.key:
        settings.api_key = target.key
        settings.base_url = target.base_url or settings.base_url
    return settings
