"""The model hub and its cache: what a commit holds, what of it is on this disk, and its errors in the kit's words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmops_kit.errors import ModelNotReady, ModelRefused
from llmops_kit.models.catalogue import Kind, ModelEntry
from llmops_kit.settings import Settings, secret

TOKEN_ENV = "HF_TOKEN"  # noqa: S105 - the name of the variable, not a token
_SUFFIXES = (".safetensors", ".json", ".model", ".jinja", ".txt")
_MODULE_FILE = re.compile(r"\d+_[A-Za-z]+/[\w.-]+")  # sentence-transformers keeps the parts of an embedder in folders such as 1_Pooling


@dataclass(frozen=True)
class RemoteFile:
    """One file of a commit: its size in bytes and its checksum as the hub gives it (`sha256`, else the git blob hash)."""

    name: str
    size: int
    sha256: str | None
    blob: str | None

    @property
    def key(self) -> str:
        """The name of its blob in the cache."""
        return self.sha256 or self.blob or self.name


def find_snapshot(entry: ModelEntry, settings: Settings, revision: str | None) -> Path | None:
    """The folder of a complete download of `revision` (default: the newest the cache knows), or None."""
    storage = storage_folder(entry, settings)
    if revision is None or revision.startswith("refs/"):
        ref = storage / "refs" / (revision or "main")
        if not ref.is_file():
            return None
        revision = ref.read_text(encoding="ascii").strip()
    folder = storage / "snapshots" / revision
    return folder if is_complete(folder, entry.kind) else None


def is_complete(folder: Path, kind: Kind = "chat") -> bool:
    """Whether a model folder has its configuration and all the weight files it names."""
    if kind == "embedding":
        from llmops_kit.models.embedder_files import find_fault

        return find_fault(folder) is None
    if not (folder / "config.json").is_file():
        return False
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        return all((folder / shard).is_file() for shard in shards)
    return any(folder.glob("*.safetensors"))


def cache_folder(settings: Settings) -> Path:
    """Where downloaded models are kept."""
    if settings.hub_cache is not None:
        return settings.hub_cache
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def storage_folder(entry: ModelEntry, settings: Settings) -> Path:
    """The folder of one hub model in the cache, as the hub client lays it out (blobs, snapshots, refs)."""
    return cache_folder(settings) / ("models--" + entry.model.replace("/", "--"))


def list_files(entry: ModelEntry, settings: Settings, revision: str | None) -> tuple[str, list[RemoteFile]]:
    """The commit that `revision` stands for and the files of it a model needs, small ones first.

    Only the top folder (of an embedder also those of its parts), only safetensors and text: no pickles, and Python only
    where the administrator allowed it.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=settings.hub_endpoint, token=secret(TOKEN_ENV) or False)
    info = api.model_info(entry.model, revision=revision, files_metadata=True, timeout=settings.request_timeout_s)
    suffixes = (*_SUFFIXES, ".py") if entry.trust_remote_code and settings.allow_remote_code else _SUFFIXES
    files = [
        RemoteFile(item.rfilename, item.size or 0, item.lfs.sha256 if item.lfs else None, item.blob_id)
        for item in info.siblings or []
        if item.rfilename.endswith(suffixes) and _is_in_place(entry, item.rfilename) and not item.rfilename.startswith((".", "consolidated"))
    ]
    if info.sha is None or not any(file.name.endswith(".safetensors") for file in files):
        raise ModelRefused(
            en=f"“{entry.model}” publishes no .safetensors weights. Other formats can run code and are not loaded; "
            "convert it, or set revision to a commit that has them.",
            ja=f"「{entry.model}」は.safetensorsの重みを公開していません。他の形式はコードを実行できるため読み込みません。"
            "変換するか、safetensorsを含むコミットをrevisionに指定してください。",
            model=entry.id,
        )
    return info.sha, sorted(files, key=lambda file: file.size)


def _is_in_place(entry: ModelEntry, name: str) -> bool:
    return not {"/", "\\"} & set(name) or (not entry.can_chat and _MODULE_FILE.fullmatch(name) is not None)


@contextmanager
def translate_errors(entry: ModelEntry) -> Iterator[None]:
    """Turn what the hub client raises into the kit's sentences."""
    import httpx
    from huggingface_hub import errors

    try:
        yield
    except errors.OfflineModeIsEnabled as error:
        en = "HF_HUB_OFFLINE is set; unset it and start again"
        raise not_ready(entry, en=en, ja="HF_HUB_OFFLINEが設定されています。解除して再起動してください") from error
    except errors.GatedRepoError as error:
        en = f"the hub asks you to accept the licence of {entry.model} and to set {TOKEN_ENV}"
        raise not_ready(entry, en=en, ja=f"ハブで{entry.model}のライセンスに同意し、{TOKEN_ENV}を設定してください") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.EntryNotFoundError) as error:
        en = f"the hub has no {_what(entry)}, or {TOKEN_ENV} may not see it"
        raise not_ready(entry, en=en, ja=f"ハブに{_what(entry)}が無いか、閲覧権限がありません") from error
    except errors.HfHubHTTPError as error:
        status: Any = getattr(error.response, "status_code", "?")
        en = f"the hub answered with status {status}; try again later"
        raise not_ready(entry, en=en, ja=f"ハブの応答が{status}でした。後でもう一度お試しください") from error
    except (httpx.HTTPError, errors.LocalEntryNotFoundError) as error:
        kind = type(error).__name__
        en = f"the hub could not be reached ({kind}); try again to go on"
        raise not_ready(entry, en=en, ja=f"ハブに接続できません（{kind}）。再試行すると続きから再開します") from error
    except OSError as error:
        raise not_ready(entry, en=f"the files could not be written: {error}", ja=f"ファイルを書き込めません：{error}") from error


def _what(entry: ModelEntry) -> str:
    return entry.model + (f"@{entry.revision[:8]}" if entry.revision else "")


def not_ready(entry: ModelEntry, *, en: str, ja: str) -> ModelNotReady:
    """The error for a model that cannot be fetched, with its reason in both languages."""
    return ModelNotReady(en=f"The model “{entry.id}” is not ready: {en}.", ja=f"モデル「{entry.id}」はまだ使えません：{ja}。", model=entry.id, reason=en)
