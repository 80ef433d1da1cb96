"""From the folder a training saved to a model of the catalogue: copied aside, with its card and checksums, renamed, registered."""

from __future__ import annotations

import json
import re
import shutil
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llmops_kit.errors import InvalidValue
from llmops_kit.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE, check_files, check_tensors, read_card
from llmops_kit.tuning.card import Card, find_versions, keep_samples, write_card
from llmops_kit.tuning.folders import draft_of, seal, settle
from llmops_kit.types import new_id, now

if TYPE_CHECKING:
    from llmops_kit.models import ModelEntry, Models
    from llmops_kit.models.loading import LoadedModel
    from llmops_kit.settings import Settings
    from llmops_kit.tuning.spec import TuneSpec
    from llmops_kit.types import Job

_LONGEST_NAME, _LONGEST_ID = 40, 80
_METRICS = (
    "eval_loss_before", "eval_loss", "token_accuracy", "train_rows", "eval_rows",
    "seconds", "tokens", "tokens_per_s", "peak_memory_gb", "steps", "stopped", "ends_by_itself",
    "preference_accuracy_before", "preference_accuracy", "reward_accuracy", "reward_margin",
)  # fmt: skip
_FORMAT_FIELDS = (
    "kind", "arch", "params_b", "context_tokens", "licence", "licence_commercial", "prompt_style", "template_args", "system_prompt", "system_in_user",
    "newline_token", "strip_leading_newline", "stop", "add_special_tokens", "tokenizer_loader", "tokenizer_golden", "default_params", "languages",
    "requires_transformers", "trust_remote_code",
)  # fmt: skip
"""What a merged model has of its base: everything but where its files are."""


class Carries(Protocol):
    """The job whose result is published: `Work`."""

    @property
    def job(self) -> Job:
        """Its row."""
        ...


class Has(Protocol):
    """What publishing needs of `Tuning`."""

    _models: Models
    _settings: Settings


class Described(Protocol):
    """What a card says of the data: a `Dataset`."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def sha256(self) -> str:
        """Hash of its rows."""
        ...


@dataclass(frozen=True)
class Origin:
    """The weights and the prompt format of a base, as a card names them."""

    revision: str
    fingerprint: str
    template_sha256: str


def publish_adapter(tuning: Has, work: Carries, spec: TuneSpec, dataset: Described, peft_folder: Path, facts: Mapping[str, Any]) -> ModelEntry:
    """Make the adapter that PEFT saved in `peft_folder` a model of the catalogue, at once in every list, and give its entry.

    `facts` are figures of the result (see the card's metrics) and `samples`. The id is `base+name`; where that is taken, with `-2` and so on.
    Called again for the same job and step, after a kill between the renaming and the registration too, it gives the same model. A DoRA
    adapter cannot share a batch with others and becomes a whole model of its own.

    Raises: `ModelRefused` for weights that are not finite, `OSError` and `WorkspaceError` for the disk; then nothing is registered.
    """
    models, folder, job = tuning._models, tuning._settings.adapters_folder, work.job
    check_files(spec.base, peft_folder)
    check_tensors(spec.base, peft_folder, None, scaled=spec.method == "dora")
    origin = find_origin(models, spec.base)
    metrics = {name: facts[name] for name in _METRICS if facts.get(name) is not None}
    card = Card(
        base=spec.base, base_revision=origin.revision, base_fingerprint=origin.fingerprint, template_sha256=origin.template_sha256,
        data_name=dataset.name, data_sha256=dataset.sha256, spec=spec.model_dump(mode="json"), metrics=metrics,
        samples=keep_samples(facts.get("samples") or ()), job_id=job.id, owner=job.owner, created_at=now().isoformat(timespec="seconds"),
        versions=find_versions(),
    )  # fmt: skip
    made = _find_made(models, folder, card)
    if made is not None:
        return made
    wanted = make_id(spec.base, spec.name or dataset.name)
    return store_adapter(models, folder, peft_folder, card, chain([wanted], _numbered(wanted)))


def store_adapter(models: Models, adapters: Path, peft_folder: Path, card: Card, ids: Iterator[str] | Sequence[str]) -> ModelEntry:
    """Copy the adapter in `peft_folder` into `adapters` under the first of `ids` that is free, with its card, and register it.

    Raises: `InvalidValue` where none of `ids` is free, `OSError` and `WorkspaceError` for the disk.
    """
    is_whole = bool(json.loads((peft_folder / CONFIG_FILE).read_text(encoding="utf-8")).get("use_dora"))
    with draft_of(adapters, card.job_id or new_id()) as draft:
        if is_whole:
            merge(models, card.base, peft_folder, draft)
        else:
            copy_adapter(models, card.base, peft_folder, draft)
        write_card(draft, card)
        seal(draft)
        last = ""
        for id in ids:
            last = id
            if not _is_known(models, id) and settle(draft, adapters / id):
                return _register(models, id, adapters / id, card)
    raise InvalidValue(
        en=f"There is already a model “{last}”. Choose another name.", ja=f"モデル「{last}」は既にあります。別の名前を付けてください。", name="name", value=last
    )


def make_id(base: str, name: str) -> str:
    """The id `base+name`, with what an id does not take left out of the name. Raises: `InvalidValue` where nothing of the name is left."""
    plain = unicodedata.normalize("NFKC", name).lower()
    plain = re.sub(r"[^a-z0-9._-]+", "-", plain).strip("-._")[:_LONGEST_NAME].strip("-._") or "tuned"
    return f"{base}+{plain}"[:_LONGEST_ID].rstrip("-._+")


def find_origin(models: Models, base: str) -> Origin:
    """The exact weights and the prompt format of `base`, as they are here now. Raises: as `Models.turn_encoder`."""
    from llmops_kit.models.loading import fingerprint

    encoder = models.turn_encoder(base)
    folder, commit = models.files(base)
    mark = fingerprint(folder)
    return Origin(commit or mark, mark, encoder.template_sha256)


def copy_adapter(models: Models, base: str, peft_folder: Path, target: Path) -> None:
    """The two files of an adapter, its configuration naming the base so that plain PEFT finds it: its hub id and commit, else its folder."""
    config = json.loads((peft_folder / CONFIG_FILE).read_text(encoding="utf-8"))
    folder, commit = models.files(base)
    config |= {"base_model_name_or_path": models.get(base).model if commit else str(folder), "revision": commit, "inference_mode": True}
    (target / CONFIG_FILE).write_text(json.dumps(config, ensure_ascii=False, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shutil.copyfile(peft_folder / WEIGHTS_FILE, target / WEIGHTS_FILE)


def merge(models: Models, base: str, peft_folder: Path, target: Path) -> None:
    """Write the whole model with the adapter added to its weights, in the number format of the base's own files, and its tokenizer.

    Raises: as `Models.open_trainable`; `ModelRefused` for an adapter that does not fit.
    """
    import torch
    from peft import PeftModel

    entry = models.get(base)
    loaded: LoadedModel = models.open_trainable(base, dtype=_format_of(entry), device="cpu")
    with torch.no_grad():
        tuned = PeftModel.from_pretrained(loaded.model, str(peft_folder))
        whole = tuned.merge_and_unload(safe_merge=True)
    whole.config.use_cache = True
    whole.save_pretrained(target)
    loaded.tokenizer.save_pretrained(target)


def _format_of(entry: ModelEntry) -> Any:
    """The number format to merge in: the one it runs in here where the entry says so, so that the sum is not rounded once more."""
    return entry.dtype if entry.dtype != "auto" else entry.weights_dtype


def _register(models: Models, id: str, folder: Path, card: Card) -> ModelEntry:
    notes = {language: " ".join(warning[language] for warning in card.warnings) for language in ("ja", "en")} if card.warnings else None
    if (folder / WEIGHTS_FILE).is_file():
        return models.add(id, base=card.base, adapter=str(folder), notes=notes)
    origin = models.get(card.base)
    given = origin.model_dump(mode="json", include=set(_FORMAT_FIELDS) & origin.model_fields_set)
    return models.add(id, provider="huggingface", model=str(folder), dtype=_format_of(origin), weights_dtype=_format_of(origin), notes=notes, **given)


def _find_made(models: Models, adapters: Path, card: Card) -> ModelEntry | None:
    """The model that an earlier try made of the same job at the same step, registered now if it was not; None where there is none."""
    for folder in sorted(adapters.iterdir()) if adapters.is_dir() else ():
        if folder.name.startswith(".") or not folder.is_dir():
            continue
        found = read_card(folder) or {}
        same = found.get("job_id") == card.job_id and (found.get("metrics") or {}).get("steps") == card.metrics.get("steps")
        if not same:
            continue
        if _is_known(models, folder.name):
            return models.get(folder.name)
        return _register(models, folder.name, folder, card)
    return None


def _is_known(models: Models, id: str) -> bool:
    return any(entry.id == id for entry in models.entries(embedders=True))


def _numbered(id: str) -> Iterator[str]:
    return (f"{id[: _LONGEST_ID - 4].rstrip('-._+')}-{number}" for number in count(2))
