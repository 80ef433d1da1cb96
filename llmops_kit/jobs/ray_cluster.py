"""Jobs on a Ray cluster: the same worker with the same row, started, watched and stopped through the cluster's job server.

The nodes must see the workspace under the same path and have the kit installed in the same place, since checkpoints and results are
files; and they must reach the store (PostgreSQL, where they are several machines: SQLite is no database for a network folder).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from llmops_kit.errors import InvalidValue, SettingError
from llmops_kit.jobs.launching import submission_id
from llmops_kit.settings import Settings, cluster_environment
from llmops_kit.types import Job

Result = TypeVar("Result")
_SILENT_S = 120.0
_LOG_CHARS = 2**20
_NO_RAY = {"en": 'Ray installed: pip install "llmops_kit[ray]"', "ja": 'Rayのインストール：pip install "llmops_kit[ray]"'}
_NO_ANSWER = {"en": "the address of a running job server, such as http://host:8265 ({reason})", "ja": "動いているジョブサーバーのアドレス（例：http://host:8265）（{reason}）"}


class RayCluster:
    """The job server at `LLMOPS_RAY_ADDRESS`. Every method raises `SettingError` where it does not answer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def submit(self, job: Job, command: Sequence[str], folder: Path) -> Mapping[str, Any]:
        """Start the job's worker on a node with a GPU for each of its processes, or a CPU core where the cluster has no GPU; its handle.

        Raises: `InvalidValue` where no node is large enough: it would wait for ever.
        """
        folder.mkdir(parents=True, exist_ok=True)
        entrypoint, environment = shlex.join(command), {"env_vars": cluster_environment(self._settings, job.id)}
        id, resources = submission_id(job), self._resources(int(job.spec.get("processes") or 1))
        self._ask(lambda client: client.submit_job(entrypoint=entrypoint, submission_id=id, runtime_env=environment, **resources))
        return {"submission_id": id, "address": self._settings.ray_address, **resources}

    def look_at(self, handle: Mapping[str, Any], silent_s: float) -> tuple[int | None, bool]:
        """The exit code of its process (None: unknown) and whether it is gone. A job server that does not answer is believed for a while."""
        try:
            info = self._ask(lambda client: client.get_job_info(str(handle["submission_id"])))
        except SettingError as fault:
            return None, silent_s > _SILENT_S or "does not exist" in str(fault)
        return (0 if info.status == "SUCCEEDED" else info.driver_exit_code), bool(info.status.is_terminal())

    def stop(self, handle: Mapping[str, Any]) -> None:
        """End the job's processes."""
        self._ask(lambda client: client.stop_job(str(handle["submission_id"])))

    def copy_log(self, handle: Mapping[str, Any], path: Path) -> None:
        """Bring the end of what the job wrote to `path`, where it stays when the cluster is gone."""
        text = str(self._ask(lambda client: client.get_job_logs(str(handle["submission_id"]))))
        if text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text[-_LOG_CHARS:], encoding="utf-8")

    def _resources(self, processes: int) -> dict[str, int]:
        nodes = self._ask(lambda _: self._nodes())
        alive = [node.resources_total for node in nodes if node.state == "ALIVE"]
        kind, name = ("GPU", "entrypoint_num_gpus") if any(each.get("GPU", 0) >= 1 for each in alive) else ("CPU", "entrypoint_num_cpus")
        most = int(max((each.get(kind, 0) for each in alive), default=0))
        if processes > most:
            raise InvalidValue(name="processes", value=processes, allowed=f"1–{most} ({kind}, Ray {self._settings.ray_address})")
        return {name: processes}

    def _nodes(self) -> list[Any]:
        from ray.util.state import list_nodes

        return list(list_nodes(address=self._settings.ray_address, raise_on_missing_output=False))

    @cached_property
    def _client(self) -> Any:
        try:
            from ray.job_submission import JobSubmissionClient
        except ImportError as missing:
            raise SettingError(name="ray_address", value=self._settings.ray_address, allowed=_NO_RAY) from missing
        return JobSubmissionClient(self._settings.ray_address)

    def _ask(self, question: Callable[[Any], Result]) -> Result:
        """Ask the job server; it answers with RuntimeError, the connection with ConnectionError or what the HTTP client raises (an OSError)."""
        try:
            return question(self._client)
        except _api_faults() as fault:
            reason = str(fault).strip().splitlines()[0][:200] if str(fault).strip() else type(fault).__name__
            allowed = {language: text.format(reason=reason) for language, text in _NO_ANSWER.items()}
            raise SettingError(name="ray_address", value=self._settings.ray_address, allowed=allowed) from fault


def _api_faults() -> tuple[type[BaseException], ...]:
    """What Ray's clients raise."""
    try:
        from ray.util.state.exception import RayStateApiException
    except ImportError:
        return (RuntimeError, OSError)
    return (RuntimeError, OSError, RayStateApiException)
