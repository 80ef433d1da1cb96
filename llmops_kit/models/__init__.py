"""The models: which there are, whether they can answer here, and a chat model for each.

models = Models(settings)
models.chat("starter-lm").invoke("こんにちは")
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from llmops_kit.errors import InvalidValue, KitError, ModelNotReady, UnknownName
from llmops_kit.models.availability import find_blocker, find_commit, find_folder
from llmops_kit.models.catalogue import ModelEntry, Provider
from llmops_kit.models.catalogue_file import CatalogueFile
from llmops_kit.models.embedders import Embedders, refuse_embedder, require_kind
from llmops_kit.models.endpoints import Endpoints
from llmops_kit.models.readiness import Machine, ModelState, choose_number_format, measure_machine, not_ready
from llmops_kit.models.residents import LoadedInfo, Resident, Residents
from llmops_kit.models.trainable import Encoders, open_trainable, refuse_untunable
from llmops_kit.models.workspace import make_entry, name_pin, read_pins, write_pin
from llmops_kit.settings import Settings, secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pandas as pd
    from langchain_core.language_models import BaseChatModel

    from llmops_kit.models.catalogue import DType
    from llmops_kit.models.download import DownloadProgress, Report
    from llmops_kit.models.embedders import Embedder, Reranker
    from llmops_kit.models.loading import LoadedModel
    from llmops_kit.models.requests import EngineLoad, QueuePlace, Score
    from llmops_kit.models.selftest import CheckResult
    from llmops_kit.models.turns import TurnEncoder
    from llmops_kit.types import Message

    PromptLike = str | Sequence[Message]

__all__ = ["LoadedInfo", "ModelEntry", "ModelState", "Models"]

STARTER_WEIGHTS = Path(__file__).parent.parent / "starter" / "weights"


class Models:
    """The model catalogue of one workspace and the models it holds in memory, for any number of threads.

    The catalogue is the package's, then the workspace's `models.yaml`, whose entries replace those of the same id. What another
    process adds there (a job that ends, another notebook) is in every list at once.
    Raises `CatalogueError` where that file has an entry that does not serve.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.RLock()
        self._catalogue = CatalogueFile(settings.catalogue_file, self._forget)
        self._pins = read_pins(settings.workspace)
        self._residents, self._embedders, self._endpoints = Residents(settings), Embedders(), Endpoints(settings)
        self._encoders = Encoders()
        self._downloads: dict[str, DownloadProgress | None] = {}

    def entries(self, *, embedders: bool = False) -> tuple[ModelEntry, ...]:
        """Every chat model of the catalogue, with the commit its download is pinned to; `embedders` adds those that give vectors or scores."""
        with self._lock:
            return tuple(self._pinned(entry) for entry in self._catalogue.entries().values() if embedders or entry.can_chat)

    def get(self, id: str) -> ModelEntry:
        """The entry `id`. Raises `UnknownName` where there is none."""
        with self._lock:
            entries = self._catalogue.entries()
            if id not in entries:
                known = ", ".join(entries)
                raise UnknownName(
                    en=f"There is no model named “{id}”. Known: {known}.",
                    ja=f"モデル「{id}」は見つかりません。使えるもの：{known}。",
                    kind="model",
                    name=id,
                    known=known,
                )
            return self._pinned(entries[id])

    def add(
        self, id: str, *, provider: Provider | None = None, model: str | None = None, base_url: str | None = None, base: str | None = None, **fields: Any
    ) -> ModelEntry:
        """Add a model to the workspace's `models.yaml` and give its entry. For the owner of the workspace only.

        `model` defaults to `id`. `base` is a model of the catalogue whose fields hold where none are given: with
        `adapter`, the folder of a LoRA adapter, the two share the base's weights and answer in one batch. Further
        fields are those of `ModelEntry`. Keys are never part of an entry: name the environment variable in `api_key_env`.

            kit.models.add("our-style", base="starter-lm", adapter="adapters/our-style")

        Raises:
            InvalidValue: the id is taken, or a field does not serve.
        """
        given = {"provider": provider, "model": model, "base_url": base_url, **fields}
        entry = make_entry(id, given, base=None if base is None else self.get(base))
        self._catalogue.add(entry)
        return entry

    def table(self, language: str | None = None) -> pd.DataFrame:
        """One row per model, in `language` (`ja` or `en`; default: that of the settings, else English).

        Sizes are megabytes, memory is gigabytes, prices are US dollars per million tokens (prompt / answer).
        """
        from llmops_kit.models.table import tabulate

        language, machine = language or self._settings.language, measure_machine()
        entries = self.entries(embedders=True)
        folders = {entry.id: self._find_folder(entry) for entry in entries if entry.provider != "openai"}
        return tabulate(entries, folders, {entry.id: self._find_state(entry, machine) for entry in entries}, machine, language)

    def state(self, model: str, *, api_key: str | None = None) -> ModelState:
        """Whether `model` can answer now, and if not, what is missing. `api_key` is a key the caller would bring."""
        return self._find_state(self.get(model), None, api_key=api_key)

    def chat(self, model: str, *, api_key: str | None = None, owner: str = "") -> BaseChatModel:
        """The chat model with the id `model`, loaded first where it runs here. `api_key` serves this object only and is kept nowhere else.

        `owner` names the person who asks; where many wait for a model's server, turns are shared out evenly between owners.

        Raises:
            UnknownName: there is no such model.
            ModelNotReady: it needs a download, a key or more memory.
            InvalidValue: it is an embedder or a reranker.
            ModelRefused: it failed its self-test.
        """
        entry = self.get(model)
        refuse_embedder(entry)
        if entry.provider != "openai":
            chat = self._load(entry).chat
            return chat.for_owner(owner) if owner else chat
        return self._endpoints.chat(entry, api_key=api_key, owner=owner)

    def embedder(self, id: str = "starter-embed", *, api_key: str | None = None, owner: str = "") -> Embedder:
        """The embedder `id`; one that runs here is loaded once and shared by all threads. `api_key` and `owner` are as in `chat`.

        Raises:
            UnknownName: there is no such model.
            InvalidValue: it is no embedder.
            ModelNotReady: it needs a download, a package or more memory.
            ModelRefused: its files are damaged or not safe to load.
        """
        entry = self.get(id)
        if entry.provider == "openai":
            require_kind(entry, "embedding")
            return self._endpoints.embedder(entry, api_key=api_key, owner=owner)
        return self._embedders.open(entry, STARTER_WEIGHTS, lambda: self._make_room(entry))

    def reranker(self, id: str) -> Reranker:
        """The reranker `id`, a cross-encoder that runs here, loaded once and shared by all threads. Raises as `embedder`."""
        entry = self.get(id)
        return self._embedders.open_reranker(entry, lambda: self._make_room(entry))

    def check(self, id: str = "", *, model: str = "", api_key: str | None = None) -> CheckResult:
        """Run the self-test of a model, named by `id` or `model`: files, tokenizer, weights; or, for an endpoint, address, key and name."""
        from llmops_kit.models import selftest
        from llmops_kit.models.endpoint_check import check_endpoint

        entry = self.get(id or model)
        if entry.kind == "embedding":
            return selftest.check_embedder(entry, lambda: self.embedder(entry.id, api_key=api_key))
        if entry.kind == "reranker":
            return selftest.check_reranker(entry, lambda: self.reranker(entry.id))
        if entry.provider == "openai":
            key = api_key or (secret(entry.api_key_env) if entry.api_key_env else None)
            return check_endpoint(entry, self._settings, key)
        try:
            return selftest.pass_local(entry, self._load(entry))
        except KitError as error:
            return selftest.fail(entry, error)

    def download(self, model: str, *, progress: Report | Literal[False] | None = None, cancel: threading.Event | None = None) -> Path:
        """Download the model and pin the commit it came from; give its folder. Goes on where an earlier try ended.

        `progress` gets a `DownloadProgress` a few times a second; None draws a bar in a notebook or a terminal, False
        nothing. Setting `cancel` stops it.

        Raises:
            Cancelled: `cancel` was set.
            ModelNotReady: downloads are off, the hub does not answer, the disk is too small, or it is downloading already.
            ModelRefused: there are no safetensors, or a file is damaged.
        """
        from llmops_kit.models.download import download_model, report_to

        entry = self.get(model)
        if entry.provider != "huggingface" or entry.is_local_folder:
            raise InvalidValue(name="model", value=model, allowed="provider huggingface")
        with self._lock:
            if model in self._downloads:
                raise ModelNotReady(en=f"“{model}” is being downloaded already.", ja=f"「{model}」は既にダウンロード中です。", model=model)
            self._downloads[model] = None
        try:
            with report_to(progress) as tell:

                def report(done: DownloadProgress) -> None:
                    self._downloads[model] = done
                    tell(done)

                commit, folder = download_model(entry, self._settings, revision=entry.revision, progress=report, cancel=cancel)
        finally:
            del self._downloads[model]
        with self._lock:
            self._pins = write_pin(self._settings.workspace, name_pin(self._catalogue.entries().get(model, entry)), commit)
        self._residents.forget_refusal(model)
        self._embedders.forget_refusal(model)
        return folder

    def loaded(self) -> tuple[LoadedInfo, ...]:
        """The models in memory."""
        return tuple(LoadedInfo(id, held.memory_mb, held.device, held.dtype) for id, held in self._residents.held().items())

    def unload(self, model: str) -> bool:
        """Let a model go out of memory; answers under way finish first. False where it was not loaded."""
        id = self.get(model).id
        return self._residents.drop(id) or self._embedders.drop(id)

    def _load(self, entry: ModelEntry) -> Resident:
        return self._residents.get(entry, lambda: self._make_room(entry))

    def _make_room(self, entry: ModelEntry) -> tuple[Path, str | None]:
        """The folder of a model that is about to be loaded, and the commit it came from, if it did, after room was made for it."""
        needs_gb = entry.memory_gb(choose_number_format(entry, measure_machine()))
        state = self._residents.make_room(entry, needs_gb, lambda: self._find_blocker(entry, measure_machine()))
        folder = self._find_folder(entry)
        if state is not None or folder is None:
            raise not_ready(entry, state or ModelState("needs_download", size_mb=entry.download_mb))
        return folder, find_commit(entry, folder, self._settings)

    def queue_place(self, model: str, owner: str) -> QueuePlace | None:
        """Where the owner's next request stands in the line of a local model, with the expected wait; None where none waits."""
        held = self._residents.held().get(model)
        return held.engine.place_of(owner) if held is not None and held.engine is not None else None

    def loads(self) -> dict[str, EngineLoad]:
        """How busy each local model in memory is, by id. Adapters of one base share its engine and say the same."""
        return {id: held.engine.load for id, held in self._residents.held().items() if held.engine is not None}

    def score(self, model: str, pairs: Sequence[tuple[PromptLike, str]]) -> list[Score]:
        """How likely a local model finds each continuation after its prompt: natural-log probabilities per token, in batches.

        A prompt is a text, taken as it is, or a list of messages, put into the model's prompt format.

            kit.models.score("starter-lm", [("空は", "青い。"), ("空は", "甘い。")])

        Raises: as `chat`; `InvalidValue` where the model does not run here or a side is empty; `PromptTooLong`.
        """
        entry = self.get(model)
        engine = self._load(entry).engine if entry.provider != "openai" and entry.can_chat and entry.kind != "extractive" else None
        if engine is None:
            raise InvalidValue(name="model", value=model, allowed="starter-lm, huggingface")
        return engine.score_texts(pairs)

    def turn_encoder(self, id: str) -> TurnEncoder:
        """Turns conversations into the ids the model `id` is trained on, without its weights. Raises as `chat`; `InvalidValue` where it cannot be tuned."""
        entry = self.get(id)
        refuse_untunable(entry.model_copy(update={"adapter": None}))
        folder = self._find_folder(entry)
        if folder is None:
            raise not_ready(entry, self._find_blocker(entry, measure_machine()) or ModelState("needs_download", size_mb=entry.download_mb))
        return self._encoders.get(entry, folder)

    def files(self, id: str) -> tuple[Path, str | None]:
        """The folder of a model's files and the commit it came from, if it did. Raises: `UnknownName`; `ModelNotReady` where they are not here."""
        entry = self.get(id)
        folder = self._find_folder(entry) if entry.provider != "openai" else None
        if folder is None:
            raise not_ready(entry, self.state(id))
        return folder, find_commit(entry, folder, self._settings)

    def open_trainable(self, id: str, *, dtype: DType, quantize: bool = False, device: str | None = None) -> LoadedModel:
        """The model with weights of its own, which nobody else sees change. `quantize`: four bits (CUDA). Raises as `turn_encoder`; `ModelRefused`."""
        entry = self.get(id)
        refuse_untunable(entry)
        state, folder = self._find_blocker(entry, measure_machine()), self._find_folder(entry)
        if folder is None or (state is not None and state.status != "too_large"):  # whether training fits is for its own estimate to say
            raise not_ready(entry, state or ModelState("needs_download", size_mb=entry.download_mb))
        revision = find_commit(entry, folder, self._settings)
        return open_trainable(entry, folder, self._settings, revision=revision, dtype=dtype, quantize=quantize, device=device)

    def _find_state(self, entry: ModelEntry, machine: Machine | None, *, api_key: str | None = None) -> ModelState:
        if entry.provider == "openai":
            env = entry.api_key_env
            return ModelState("ready") if api_key or env is None or secret(env) else ModelState("needs_key", env=env)
        if entry.id in self._residents.held() or self._embedders.holds(entry.id):
            return ModelState("ready")
        if (share := self._residents.loading_share(entry.id)) is not None:
            return ModelState("loading", share=share)
        if entry.id in self._downloads:
            done = self._downloads.get(entry.id)
            size_mb = done.total_mb if done else entry.download_mb
            return ModelState("downloading", size_mb=size_mb, done_mb=done.done_mb if done else 0.0, seconds_left=done.seconds_left if done else None)
        if (refusal := self._residents.refusal(entry.id) or self._embedders.refusal(entry.id)) is not None:
            return ModelState("refused", reason={"en": refusal.text("en"), "ja": refusal.text("ja")})
        return self._find_blocker(entry, machine or measure_machine()) or ModelState("ready")

    def _find_blocker(self, entry: ModelEntry, machine: Machine) -> ModelState | None:
        return find_blocker(entry, self._settings, machine, self._find_folder(entry))

    def _find_folder(self, entry: ModelEntry) -> Path | None:
        return find_folder(entry, self._settings, STARTER_WEIGHTS)

    def _forget(self, ids: Iterable[str]) -> None:
        """Let go of what is in memory under the ids of entries that changed in the file."""
        for id in ids:
            self._residents.forget_refusal(id)
            self._embedders.forget_refusal(id)
            self._residents.drop(id)
            self._embedders.drop(id)

    def _pinned(self, entry: ModelEntry) -> ModelEntry:
        if entry.provider != "huggingface" or (entry.revision is not None and not entry.revision.startswith("refs/")):
            return entry
        pin = self._pins.get(name_pin(entry))
        return entry.model_copy(update={"revision": pin}) if pin else entry
