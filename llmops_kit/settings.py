"""Every setting, once: its name, its unit, its default. The only module that reads or writes the environment."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

Language = Literal["auto", "ja", "en"]
_PATIENT = {"OMP_WAIT_POLICY": "passive"}
"""Threads that wait for each other sleep. By default they spin, and two of them beside one busy process train at a tenth of the speed."""
JOB_MARK = "LLMOPS_JOB"
"""The variable of the environment by which the processes of a job are known."""


class Settings(BaseSettings):
    """What the kit and the app may be told from outside: `LLMOPS_<NAME>` in the environment, or a keyword.

    Keys of outside services keep their well-known names (`OPENAI_API_KEY`, `WANDB_API_KEY`) and are read by
    `secret` at the moment of use, so that they are never part of an object that is shown or stored.
    """

    model_config = SettingsConfigDict(env_prefix="LLMOPS_", extra="forbid", frozen=True)

    workspace: Path = Field(Path("workspace"), description="folder of everything the kit keeps")
    database_url: SecretStr | None = Field(None, description="SQLAlchemy URL; default: SQLite in the workspace")
    models_file: Path | None = Field(None, description="YAML of further models; default: models.yaml in the workspace")
    host: str = Field("127.0.0.1", description="address the app listens on")
    port: int = Field(7860, ge=1, le=65535, description="port the app listens on")
    language: Language = Field("auto", description="language of the app; auto follows the browser")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="how much the log says")
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = Field((), description="host names the app answers to besides localhost, with commas between")
    allow_remote_code: bool = Field(False, description="administrator only: let hub models run their own code")
    offline: bool = Field(True, description="True: hub models must already be on disk; False: they may be downloaded")
    hub_cache: Path | None = Field(None, description="folder of downloaded models; default: the hub client's own")
    hub_endpoint: str | None = Field(
        default_factory=lambda: os.environ.get("HF_ENDPOINT") or None, description="address of the model hub; default: HF_ENDPOINT, else the hub client's own"
    )
    wandb_mode: Literal["offline", "online", "disabled"] = Field("offline", description="how W&B tables are written")
    wandb_project: str = Field("llmops_kit", description="W&B project of the runs")
    wandb_base_url: str | None = Field(None, description="address of a W&B server of one's own; only used when wandb_mode is online")
    vectors: Literal["chroma", "pgvector"] = Field("chroma", description="where documents are searched by meaning; pgvector needs a PostgreSQL database_url")
    embedder: str = Field("starter-embed", description="embedder of new document collections")
    reranker: str | None = Field(None, description="reranker of search results, an id of the catalogue; default: none")
    max_documents_mb: float = Field(500.0, gt=0, description="largest sum of one person's documents, in megabytes")
    request_timeout_s: float = Field(60.0, gt=0, description="seconds a model server may stay silent")
    connect_timeout_s: float = Field(5.0, gt=0, description="seconds to reach a model server")
    endpoint_concurrency: int = Field(16, ge=1, description="requests in flight at each server of a model; further ones wait their turn")
    endpoint_wait_s: float = Field(120.0, gt=0, description="seconds a request waits for its turn at a model server")
    endpoint_retries: int = Field(2, ge=0, le=10, description="further tries of a request that failed for a passing reason before its first token")
    preload: bool = Field(True, description="load the default model soon after the first page opened")
    local_threads: int = Field(0, ge=0, description="CPU threads for local models; 0: as many as there are cores")
    local_slots: int = Field(128, ge=1, description="answers a local model writes at the same time")
    local_waiting: int = Field(1000, ge=1, description="requests that may wait for a local model; further ones are refused")
    local_timeout_s: float = Field(600.0, gt=0, description="seconds a local answer may take, waiting included")
    local_cache_mb: float = Field(0.0, ge=0, description="megabytes of attention cache for each local model; 0: half of the free ones, at most 4096 on a CPU")
    local_memory_gb: float = Field(0.0, ge=0, description="gigabytes for the weights of all local models together; 0: what the machine has")
    ray_address: str | None = Field(None, description="address of a Ray cluster's job server (http://host:8265); default: jobs run on this machine")
    jobs_at_once: int = Field(1, ge=1, le=64, description="jobs that run on this machine (or the Ray cluster) at the same time; further ones queue")
    jobs_waiting: int = Field(5, ge=1, description="jobs one person may have waiting")
    job_memory_gb: float = Field(0.0, ge=0, description="gigabytes a job on this machine may take; 0: what is free when it starts")
    max_training_mb: float = Field(100.0, gt=0, description="largest file of training data, in megabytes")
    gpu_price_per_h: float = Field(0.0, ge=0, description="US dollars an hour of one GPU (or of this machine, without one) costs, for estimates")
    drain_s: float = Field(20.0, ge=0, description="seconds running answers may finish in after a stop signal")
    max_upload_mb: float = Field(25.0, gt=0, description="largest upload, in megabytes")
    max_request_mb: float = Field(8.0, gt=0, description="largest request that is no upload, in megabytes")
    max_prompt_chars: int = Field(2_000_000, gt=0, description="longest prompt accepted, in characters")

    @field_validator("allowed_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, given: object) -> object:
        return tuple(name.strip() for name in given.split(",") if name.strip()) if isinstance(given, str) else given

    @field_validator("allowed_hosts")
    @classmethod
    def _check_hosts(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if odd := [name for name in names if not re.fullmatch(r"[A-Za-z0-9.-]+", name)]:
            raise ValueError(f"{odd[0]} is no bare host name such as llmops.example.com")
        return names

    @property
    def store_url(self) -> str:
        """The SQLAlchemy URL of the store."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{self.workspace.absolute() / 'kit.sqlite'}"

    @property
    def catalogue_file(self) -> Path:
        """The workspace's own list of models, which need not exist."""
        return self.models_file or self.workspace / "models.yaml"

    @property
    def documents_folder(self) -> Path:
        """Where the files of documents and their search indexes are."""
        return self.workspace.absolute() / "documents"

    @property
    def jobs_folder(self) -> Path:
        """Where each job keeps its log, its checkpoints and what it makes, in a folder named by its id."""
        return self.workspace.absolute() / "jobs"

    @property
    def adapters_folder(self) -> Path:
        """Where the finished adapters and models are, in a folder named by the model's id."""
        return self.workspace.absolute() / "adapters"

    @property
    def upload_folder(self) -> Path:
        """Where the app keeps uploads and results for download, a day long."""
        return self.workspace.absolute() / "uploads"


def secret(name: str) -> str | None:
    """The secret `name` (an environment variable such as `OPENAI_API_KEY`), or None where it is not set."""
    return os.environ.get(name) or None


def silence_libraries(settings: Settings) -> None:
    """Switch off the telemetry and the network of the libraries, before any of them is imported.

    Only what the user did not set already: `HF_HUB_OFFLINE=0` in the environment is the user's word.
    """
    quiet = {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "ANONYMIZED_TELEMETRY": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "DO_NOT_TRACK": "1",
        "LANGSMITH_TRACING": "false",
        "LANGCHAIN_TRACING_V2": "false",
        "TOKENIZERS_PARALLELISM": "false",
        "RAY_USAGE_STATS_ENABLED": "0",
        "WANDB_SILENT": "true",
        "WANDB_ERROR_REPORTING": "false",
        "NO_PROXY": "127.0.0.1,localhost,::1",
    }
    if settings.offline:
        quiet["HF_HUB_OFFLINE"] = "1"
    for name, value in quiet.items():
        os.environ.setdefault(name, value)
    # Not a default: two apps that share this folder serve each other's uploads.
    os.environ["GRADIO_TEMP_DIR"] = str(settings.upload_folder)


def place_wandb(folder: Path) -> None:
    """Keep what W&B stages and caches inside `folder`; it reads these four places from the environment alone.

    The last workspace that sends decides for the process: a place that was set before would send one workspace's
    files into another's folder.
    """
    for name, part in (("DATA", "staging"), ("CACHE", "cache"), ("CONFIG", "config"), ("ARTIFACT", "artifacts")):
        os.environ[f"WANDB_{name}_DIR"] = str(folder / part)


def wandb_environment(folder: Path, base_url: str | None) -> dict[str, str]:
    """The environment of a child process that uploads W&B's files from `folder` (a workspace's `wandb` folder) to the server at `base_url`.

    Without the address of this process's own W&B service: the child would hand its work to it.
    """
    place_wandb(folder)
    own = {"WANDB_MODE": "online", "WANDB_DIR": str(folder.parent), **({"WANDB_BASE_URL": base_url} if base_url else {})}
    return {**{name: value for name, value in os.environ.items() if name != "WANDB_SERVICE"}, **own}


def job_environment(settings: Settings, job_id: str) -> dict[str, str]:
    """The environment of the process of a job: this one's, with these settings in it and the job's mark."""
    threads = {"OMP_NUM_THREADS": str(settings.local_threads)} if settings.local_threads else {}
    unset = {f"LLMOPS_{name.upper()}" for name in type(settings).model_fields} | {"WANDB_SERVICE"}
    kept = {name: value for name, value in os.environ.items() if name not in unset}
    found_in = os.pathsep.join(filter(None, (str(Path(__file__).parent.parent), kept.get("PYTHONPATH"))))  # this very kit, installed or not
    return {**_PATIENT, **kept, **_as_environment(settings), **threads, "PYTHONPATH": found_in, "PYTHONUNBUFFERED": "1", JOB_MARK: job_id}


def cluster_environment(settings: Settings, job_id: str) -> dict[str, str]:
    """What a job on a cluster is told: the settings and its mark, without secrets, since a cluster shows and keeps what it is told.

    A database address with a password is left to the environment of the nodes.
    """
    told = _as_environment(settings)
    if urlsplit(told.get("LLMOPS_DATABASE_URL", "")).password is not None:
        del told["LLMOPS_DATABASE_URL"]
    return {**_PATIENT, **told, "PYTHONUNBUFFERED": "1", JOB_MARK: job_id}


def process_rank() -> tuple[int, int]:
    """Which of how many processes that train together this is: (0, 1) where it trains alone. Launchers say so in the environment."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def _as_environment(settings: Settings) -> dict[str, str]:
    """The settings as `Settings` reads them from the environment, with whole paths; those that are None are left out."""
    plain: dict[str, str] = {}
    for name in type(settings).model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        elif isinstance(value, Path):
            value = value.absolute()
        elif isinstance(value, tuple):
            value = ",".join(value)
        if value is not None:
            plain[f"LLMOPS_{name.upper()}"] = str(value)
    return plain
