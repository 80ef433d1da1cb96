"""Where a model's files lie, and what keeps a local model from being loaded here and now."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.embedder_files import find_fault, is_starter
from llmops_kit.models.hub import TOKEN_ENV, find_snapshot, is_complete
from llmops_kit.models.readiness import Machine, ModelState, check_fit, check_versions, count_parameters, find_missing_adapter_file
from llmops_kit.settings import Settings, secret


def find_folder(entry: ModelEntry, settings: Settings, starters: Path) -> Path | None:
    """Where the model's files lie complete, or None. Those of starter models lie under `starters`."""
    if entry.provider == "starter":
        starter = starters / entry.model
        return starter if starter.is_dir() and any(starter.iterdir()) else None
    if entry.is_local_folder:
        return Path(entry.model) if is_complete(Path(entry.model), entry.kind) else None
    if entry.package is not None and (folder := _find_in_package(entry.package)) is not None and is_complete(folder, entry.kind):
        return folder
    return find_snapshot(entry, settings, entry.revision)


def find_commit(entry: ModelEntry, folder: Path, settings: Settings) -> str | None:
    """The commit that `folder` holds, where it came from the hub: a snapshot's folder is named by its commit."""
    is_snapshot = entry.provider == "huggingface" and not entry.is_local_folder and folder == find_snapshot(entry, settings, folder.name)
    return folder.name if is_snapshot else None


def find_blocker(entry: ModelEntry, settings: Settings, machine: Machine, folder: Path | None) -> ModelState | None:
    """What keeps a local model from being loaded, or None. `folder` is where its files lie, if they do."""
    refused = check_versions(entry) or _check_trust(entry, settings) or _check_library(entry)
    if refused is not None:
        return refused
    if entry.adapter is not None and (missing := find_missing_adapter_file(Path(entry.adapter))) is not None:
        return ModelState("refused", reason={"en": f"{missing} is missing", "ja": f"{missing}がありません"})
    if (entry.provider == "starter" or entry.is_local_folder) and folder is None:
        return ModelState("refused", reason=_explain_incomplete(entry))
    if (too_large := check_fit(entry, machine, params_b=count_parameters(folder) if folder else None)) is not None:
        return too_large
    if folder is not None:
        return None
    if entry.gated and secret(TOKEN_ENV) is None:
        return ModelState("needs_key", env=TOKEN_ENV)
    return ModelState("needs_download", size_mb=entry.download_mb, reason=_explain_download(entry, settings))


def _explain_incomplete(entry: ModelEntry) -> dict[str, str]:
    folder = Path(entry.model)
    if entry.kind == "embedding" and folder.is_dir() and (fault := find_fault(folder)) is not None:
        return {"en": fault.en, "ja": fault.ja}
    return {"en": f"there is no complete model in {entry.model}", "ja": f"{entry.model}に完全なモデルがありません"}


def _explain_download(entry: ModelEntry, settings: Settings) -> dict[str, str]:
    off = {"en": "downloads are off (LLMOPS_OFFLINE=0 allows them)", "ja": "ダウンロードは無効です（LLMOPS_OFFLINE=0で許可）"} if settings.offline else {}
    if entry.package is None:
        return off
    en, ja = f"pip install {entry.package} brings it, too", f"pip install {entry.package}でも入ります"
    return {"en": f"{off['en']}; {en}" if off else en, "ja": f"{off['ja']}。{ja}" if off else ja}


def _check_trust(entry: ModelEntry, settings: Settings) -> ModelState | None:
    if not entry.trust_remote_code or (settings.allow_remote_code and entry.can_chat):
        return None
    reason = {"en": "it wants to run code of its own, which is not allowed here", "ja": "独自のコードの実行が必要ですが、ここでは許可されていません"}
    return ModelState("refused", reason=reason)


def _check_library(entry: ModelEntry) -> ModelState | None:
    """`refused` where an embedder or reranker needs a library that is not installed, with the command that installs it."""
    if entry.can_chat or entry.provider != "huggingface" or (entry.is_local_folder and is_starter(Path(entry.model))):
        return None
    from llmops_kit.models.sentence_loading import describe_absence

    absence = describe_absence(entry)
    return ModelState("refused", reason={"en": absence.en, "ja": absence.ja}) if absence is not None else None


def _find_in_package(package: str) -> Path | None:
    """The folder `model` of an installed package, which is not imported; None where it is not installed."""
    spec = importlib.util.find_spec(package.replace("-", "_").replace(".", "_").lower())
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if folder.is_dir() else None
