"""Tuned models that go out and come in: as a folder for plain PEFT, transformers or vLLM, merged into one model, or taken in from elsewhere."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_kit.errors import InvalidValue, KitError, ModelRefused
from llmops_kit.models.adapter_files import CONFIG_FILE, WEIGHTS_FILE, check_files, check_origin, check_tensors, find_unshareable, read_card, read_config
from llmops_kit.tuning.card import Card, card_from, find_versions, folder_of, has_card, write_card
from llmops_kit.tuning.card import read_card as card_of
from llmops_kit.tuning.folders import as_not_saved, draft_of, seal, settle
from llmops_kit.tuning.publishing import copy_adapter, find_origin, make_id, merge, store_adapter
from llmops_kit.types import Message, new_id, now

if TYPE_CHECKING:
    from llmops_kit.models import ModelEntry, Models
    from llmops_kit.settings import Settings

_TEMPLATE = "chat_template.jinja"
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".7z")
_KEPT_CONFIG = (
    "peft_type", "task_type", "r", "lora_alpha", "lora_dropout", "rank_pattern", "alpha_pattern", "fan_in_fan_out", "bias", "use_rslora", "use_dora",
    "peft_version",
)  # fmt: skip
_PATTERN = re.compile(r"[\w.^$\\-]{1,200}")
_PROBE = (Message("user", "ためし probe"), Message("assistant", "はい yes"), Message("user", "次は？ next"))
_ELSEWHERE = (
    "# the folder of the base on the computer that wrote this; elsewhere put its folder there (llmops_kit brings starter-lm), or take the merged model\n"
    "# ベースのフォルダー（書き出したPCでの場所）です。別のPCではそこでの場所に直すか（starter-lmはllmops_kitに入っています）、結合したモデルを使ってください\n"
)
_UNKNOWN_FORMAT = {
    "en": "The prompt format it was trained with is not known; the base's is used. If its answers are garbage or never end, that is the likely reason.",
    "ja": "学習時のプロンプト形式が不明のため、ベースの形式を使います。回答がおかしい、または終わらない場合は、これが原因と考えられます。",
}
_UNKNOWN_BASE = {
    "en": "It does not say on which weights it was trained. It fits the base by its shapes only.",
    "ja": "どの重みで学習されたか記録がありません。形だけがベースに合っています。",
}


def export_model(models: Models, model: str, folder: Path, *, merge: bool = False) -> Path:
    """Write a tuned model to `folder`, which must not be there or be empty, and give the folder.

    An adapter goes out as PEFT saves one, with the tokenizer, the chat template, a README and its card; `merge` writes the whole model with
    the adapter in its weights. The card leaves without its samples and without the name of who made it.

    Raises: `UnknownName`, `InvalidValue` for a model that was not tuned or a folder that is not empty, `NotSaved` for the disk.
    """
    entry = models.get(model)
    if entry.adapter is None and not has_card(entry):
        tuned = {"en": "a tuned model, such as starter-lm+polite", "ja": "チューニング済みのモデル（starter-lm+politeなど）"}
        raise InvalidValue(name="model", value=model, allowed=tuned)
    target = folder.absolute()
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        empty = {"en": "a folder that is empty or not there yet", "ja": "空のフォルダー、または新しいフォルダー"}
        raise InvalidValue(name="folder", value=str(folder), allowed=empty)
    with as_not_saved(), draft_of(target.parent, new_id()) as draft:
        _fill(models, entry, draft, whole=merge or entry.adapter is None)
        seal(draft)
        settle(draft, target)
    return folder


def _fill(models: Models, entry: ModelEntry, draft: Path, *, whole: bool) -> None:
    source = folder_of(entry)
    assert source is not None
    card = card_of(entry) if has_card(entry) else Card(base="")
    base = card.base if card.base else _find_base(models, entry)
    if entry.adapter is None:
        for file in source.iterdir():
            shutil.copyfile(file, draft / file.name)
    elif whole:
        merge(models, base, source, draft)
    else:
        copy_adapter(models, base, source, draft)
        models.turn_encoder(base).tokenizer.save_pretrained(draft)
    shared = dataclasses.replace(card, samples=(), owner="")
    write_card(draft, shared)
    (draft / "README.md").write_text(_describe(models, entry, shared, draft, whole=whole), encoding="utf-8")


def _find_base(models: Models, entry: ModelEntry) -> str:
    """The catalogue's id of the bare model an adapter without a card stands on."""
    same = (each.id for each in models.entries() if each.adapter is None and (each.provider, each.model) == (entry.provider, entry.model))
    found = next(same, None)
    if found is None:
        allowed = {"en": "an adapter whose base is in the catalogue", "ja": "ベースがモデル一覧にあるアダプター"}
        raise InvalidValue(name="model", value=entry.id, allowed=allowed)
    return found


def _describe(models: Models, entry: ModelEntry, card: Card, folder: Path, *, whole: bool) -> str:
    """The README: the card, how to load it, and the prompt format word for word."""
    encoder = models.turn_encoder(entry.id)
    shown = encoder.tokenizer.decode(encoder.encode_prompt([Message("user", "…")]))
    settings = ", ".join(f"{name}={value}" for name, value in entry.default_params.items()) or "–"
    stops = ", ".join(f"`{stop}`" for stop in entry.stop) or "–"
    if whole:
        load = 'model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER")'
        imports = "from transformers import AutoModelForCausalLM, AutoTokenizer"
        serve = "vllm serve THIS_FOLDER"
    else:
        config = read_config(entry.id, folder)
        named = str(config["base_model_name_or_path"])
        load = f'base = AutoModelForCausalLM.from_pretrained("{named}")\nmodel = PeftModel.from_pretrained(base, "THIS_FOLDER")'
        load = f"{_ELSEWHERE}{load}" if Path(named).is_dir() else load
        imports = "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer"
        rank = _round_rank(max([config["r"], *(config.get("rank_pattern") or {}).values()]))
        serve = f"vllm serve BASE --enable-lora --max-lora-rank {rank} --lora-modules NAME=THIS_FOLDER"
    return (
        f"# {entry.id}\n\n{card.markdown('ja')}\n\n{card.markdown('en')}\n\n## Load / 読み込み\n\n```python\n{imports}\n\n{load}\n"
        f'tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")\n```\n\n```\n{serve}\n```\n\n'
        f"## Prompt format / プロンプト形式\n\n`{encoder.entry.prompt_style}`\n\n```\n{shown}\n```\n\nstop: {stops}  \n{settings}\n\n"
        f"Licence of the base / ベースのライセンス: {entry.licence}\n"
    )


def _round_rank(rank: int) -> int:
    """The smallest of the ranks that vLLM takes that is not below `rank`."""
    return next(allowed for allowed in (8, 16, 32, 64, 128, 256, 320, 512, 1024) if allowed >= rank)


def import_adapter(models: Models, settings: Settings, folder: Path, *, base: str, name: str | None = None) -> ModelEntry:
    """Take in a LoRA adapter made elsewhere: a folder with adapter_config.json and adapter_model.safetensors. It is a model at once.

    Only these two files are copied, the configuration with the fields of plain LoRA and DoRA. What it does not say of its base or its
    prompt format is a warning on its card and in the entry's notes; a chat template beside it that reads otherwise than the base's is refused.

    Raises: `InvalidValue` for what is no such folder or a name that is taken, `ModelRefused` for an adapter that does not fit `base` or is
        not safe, `NotSaved` for the disk; as `Models.open_trainable` for `base`.
    """
    if not folder.is_dir() or folder.suffix.lower() in _ARCHIVES:
        allowed = {"en": "a folder with adapter_config.json and adapter_model.safetensors (unpack an archive first)",
                   "ja": "adapter_config.jsonとadapter_model.safetensorsのあるフォルダー（圧縮ファイルは先に展開してください）"}  # fmt: skip
        raise InvalidValue(name="folder", value=folder.name, allowed=allowed)
    id = make_id(base, name or folder.name)
    origin = find_origin(models, base)
    check_files(id, folder)
    config = _clean_config(id, read_config(id, folder))
    raw = read_card(folder) or {}
    told = card_from(raw)
    check_origin(id, raw, revisions={origin.revision, origin.fingerprint}, template_sha256=origin.template_sha256)
    known = raw.get("template_sha256") or _compare_templates(models, id, base, folder)
    loaded = models.open_trainable(base, dtype="auto", device="cpu")
    ranks = check_tensors(id, folder, loaded.model, scaled=bool(config.get("use_dora")))
    config["target_modules"] = _name_targets(ranks, [name for name, _ in loaded.model.named_modules()])
    del loaded
    unknown = [] if known else [_UNKNOWN_FORMAT]
    unknown += [] if raw.get("base_revision") else [_UNKNOWN_BASE]
    card = Card(
        base=base, base_revision=origin.revision, base_fingerprint=origin.fingerprint, template_sha256=origin.template_sha256,
        data_name=told.data_name, data_sha256=told.data_sha256, spec=told.spec, metrics=told.metrics, created_at=now().isoformat(timespec="seconds"),
        versions=find_versions(), warnings=(*told.warnings, *unknown),
    )  # fmt: skip
    with as_not_saved(), draft_of(settings.adapters_folder, new_id()) as checked:
        (checked / CONFIG_FILE).write_text(json.dumps(config), encoding="utf-8")
        shutil.copyfile(folder / WEIGHTS_FILE, checked / WEIGHTS_FILE)
        return store_adapter(models, settings.adapters_folder, checked, card, [id])


def _clean_config(id: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of plain LoRA and DoRA, none of which can name code. Raises: `ModelRefused` for another kind of adapter."""
    if (parts := find_unshareable({**config, "use_dora": False})) is not None:
        raise ModelRefused(model=id, reason={"en": f"{parts}; only LoRA and DoRA adapters are taken in", "ja": f"{parts}：取り込めるのはLoRAとDoRAだけです"})
    names = [name for pattern in ("rank_pattern", "alpha_pattern") for name in config.get(pattern) or {}]
    if wrong := [name for name in names if not _PATTERN.fullmatch(str(name))]:
        raise ModelRefused(model=id, reason={"en": f"the pattern {wrong[0]!r} in {CONFIG_FILE}", "ja": f"{CONFIG_FILE}のパターン{wrong[0]!r}"})
    return {name: config[name] for name in _KEPT_CONFIG if name in config} | {"init_lora_weights": True}


def _name_targets(ranks: Mapping[str, int], layers: Sequence[str]) -> list[str]:
    """The layers that have matrices, as PEFT names them: by the last part of the name where all layers of that name have some, else in full.

    Not by the pattern the configuration came with, which may take for ever to match.
    """
    found: set[str] = set()
    for last in {layer.rpartition(".")[2] for layer in ranks}:
        alike = {layer for layer in layers if layer.rpartition(".")[2] == last}
        found |= {last} if alike <= set(ranks) else alike & set(ranks)
    return sorted(found)


def _compare_templates(models: Models, id: str, base: str, folder: Path) -> bool:
    """Whether the folder brings a chat template that reads as the base's prompt format does; False where it brings none.

    Raises: `ModelRefused` where it reads otherwise.
    """
    from llmops_kit.models.chat_template import render_apart

    template = _find_template(folder)
    if template is None:
        return False
    encoder = models.turn_encoder(base)
    plain = [{"role": turn.role, "content": turn.content} for turn in _PROBE]
    special = {name: str(token) for name, token in encoder.tokenizer.special_tokens_map.items()}
    values = {**special, "tools": None, "documents": None, **encoder.entry.template_args, "messages": plain, "add_generation_prompt": True}
    try:
        theirs = encoder.tokenizer.encode(render_apart(encoder.entry, template, values), add_special_tokens=encoder.entry.add_special_tokens)
    except KitError as error:
        raise ModelRefused(model=id, reason={"en": error.text("en"), "ja": error.text("ja")}) from error
    if list(theirs) == encoder.encode_prompt(_PROBE):
        return True
    en = f"its chat template reads otherwise than the prompt format of {base}. Add that base with that template as a model, and name it as base"
    ja = f"チャットテンプレートが{base}のプロンプト形式と違います。そのテンプレートを使うベースをモデルとして追加し、baseに指定してください"
    raise ModelRefused(model=id, reason={"en": en, "ja": ja})


def _find_template(folder: Path) -> str | None:
    if (folder / _TEMPLATE).is_file():
        return (folder / _TEMPLATE).read_text(encoding="utf-8", errors="replace")
    try:
        found = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8")).get("chat_template")
    except (OSError, ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None

