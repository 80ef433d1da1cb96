"""Loading embedders and rerankers with sentence-transformers: from a checked folder, without network, and only with all their weights."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llmops_kit.errors import KitError, ModelRefused
from llmops_kit.models.catalogue import ModelEntry
from llmops_kit.models.embedder_files import Fault, find_network, find_unsafe, fingerprint
from llmops_kit.models.loading import ONE_AT_A_TIME, choose_device, hash_file

if TYPE_CHECKING:
    import torch

LIBRARY = "sentence_transformers"
INSTALL = 'pip install "llmops_kit[embedders]"'
_SHOWN = 3

_Model = TypeVar("_Model")


def is_installed(module: str = LIBRARY) -> bool:
    """Whether a module could be imported; it is not."""
    return importlib.util.find_spec(module) is not None


def load_sentence_model(entry: ModelEntry, folder: Path, make: Callable[..., _Model]) -> _Model:
    """What `make` (that of `SentenceTransformer` or `CrossEncoder`) loads from `folder`: float32, ready to answer.

    Raises:
        ModelRefused: the folder is not safe to load, cannot be read, or lacks weights.
    """
    network = find_network(folder)
    if (fault := find_unsafe(folder) or find_unsafe(network)) is not None:
        raise refuse(entry, en=fault.en, ja=fault.ja)
    if entry.weights_sha256 is not None and entry.package is not None:
        _verify(entry, folder / "model.safetensors")
    with ONE_AT_A_TIME, _refusing(entry):
        import torch
        from transformers.utils import logging as bars

        limit_threads()
        bars.disable_progress_bar()
        model: Any = make(
            str(folder),
            device=choose_device(),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"use_safetensors": True, "dtype": torch.float32},
        )
        _check_tensors(entry, network, model)
        model.eval().float()
        _check_finite(entry, model)
        return model  # type: ignore[no-any-return]


def limit_threads() -> None:
    """Let torch keep to the calling thread: a pool of its own would disturb that of the engine (see `loading`)."""
    import torch

    if torch.get_num_threads() != 1:
        torch.set_num_threads(1)


def name_revision(entry: ModelEntry, folder: Path, commit: str | None) -> str:
    """What the vectors or scores depend on: commit or files, and where the entry changes how a passage is read, a mark of that."""
    weights = commit or fingerprint(folder)
    return weights + mark_options(entry)


def mark_options(entry: ModelEntry) -> str:
    """`+` and 8 digits that stand for the entry's own prefix and length of a passage; nothing where it has none."""
    cut = entry.context_tokens if "context_tokens" in entry.model_fields_set else None
    if not entry.document_prefix and cut is None:
        return ""
    options = f"{entry.document_prefix or ''}:{cut}"
    return f"+{hashlib.sha256(options.encode()).hexdigest()[:8]}"


def shorten(entry: ModelEntry, model: Any) -> None:
    """Let the model read no more tokens of a text than the entry says, nor than it can."""
    if "context_tokens" in entry.model_fields_set:
        own = getattr(model, "max_seq_length", None)
        model.max_seq_length = min(own, entry.context_tokens) if own else entry.context_tokens


def refuse(entry: ModelEntry, *, en: str, ja: str) -> ModelRefused:
    """The error of a model that is not used, for the reason given in both languages."""
    return ModelRefused(model=entry.id, reason={"en": en, "ja": ja})


@contextmanager
def _refusing(entry: ModelEntry) -> Iterator[None]:
    from safetensors import SafetensorError

    try:
        yield
    except KitError:
        raise
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AttributeError, ImportError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:300]
        raise refuse(entry, en=f"its files could not be read: {reason}", ja=f"ファイルを読み込めません：{reason}") from error


def _verify(entry: ModelEntry, file: Path) -> None:
    found = hash_file(file)
    if found != entry.weights_sha256:
        raise refuse(
            entry,
            en=f"{file.name} in the package {entry.package} has the SHA-256 {found}, not {entry.weights_sha256}; install the package again",
            ja=f"パッケージ{entry.package}の{file.name}のSHA-256は{found}で、{entry.weights_sha256}と異なります。パッケージを入れ直してください",
        )


def _check_tensors(entry: ModelEntry, folder: Path, model: Any) -> None:
    """Refuse a model whose files lack tensors: transformers fills them with random numbers and only warns."""
    inner: torch.nn.Module | None = getattr(model[0], "auto_model", None)
    if inner is None:  # a table of vectors: its loading fails by itself
        return
    kind: Any = type(inner)
    _, report = kind.from_pretrained(str(folder), config=inner.config, use_safetensors=True, local_files_only=True, output_loading_info=True, device_map="meta")
    missing = sorted(str(name) for name in report["missing_keys"] if entry.kind != "embedding" or "pooler." not in str(name))
    if missing:  # the pooler of a BERT is not part of an embedding made by pooling its tokens
        shown = ", ".join(missing[:_SHOWN]) + (" …" if len(missing) > _SHOWN else "")
        raise refuse(entry, en=f"{len(missing)} tensors are missing: {shown}", ja=f"{len(missing)}個のテンソルがありません：{shown}")


def _check_finite(entry: ModelEntry, model: torch.nn.Module) -> None:
    """Refuse weights that are not numbers; attention may hide them from the result, so that it looks sound."""
    import torch

    for name, tensor in model.named_parameters():
        if not bool(torch.isfinite(tensor.detach().sum())) and not bool(torch.isfinite(tensor).all()):
            raise refuse(entry, en=f"the tensor {name} holds values that are not finite (NaN)", ja=f"テンソル{name}に有限でない値（NaN）があります")


def describe_absence(entry: ModelEntry) -> Fault | None:
    """What has to be installed before `entry` can be used here, or None."""
    if is_installed():
        return None
    return Fault(f"it needs the package sentence-transformers: {INSTALL}", f"パッケージsentence-transformersが必要です：{INSTALL}")
