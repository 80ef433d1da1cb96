"""A model trained from scratch as one of the catalogue: a plain transformers folder with checksums and a card, registered as a text continuer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llmops_kit.models.adapter_files import read_card as read_card_file
from llmops_kit.starter.tokenizer import BOS, wrap_tokenizer
from llmops_kit.tuning.card import Card, find_versions, keep_samples, write_card
from llmops_kit.tuning.folders import draft_of, seal, settle
from llmops_kit.types import now

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM

    from llmops_kit.jobs import Work
    from llmops_kit.models import ModelEntry, Models
    from llmops_kit.settings import Settings
    from llmops_kit.tuning.pretraining.corpus import Corpus
    from llmops_kit.tuning.pretraining.spec import PretrainSpec

_NOTES = {
    "ja": "このワークスペースで一から学習した小さなモデルです。指示には従わず、文章の続きを書きます。",
    "en": "A small model trained from scratch in this workspace. It does not follow instructions; it goes on with a text.",
}
_TEMPLATE = "{{- bos_token -}}{%- for message in messages -%}{{- message['content'] -}}{%- if not loop.last -%}{{- '\n' -}}{%- endif -%}{%- endfor -%}"


class Has(Protocol):
    """What publishing needs of `Tuning`."""

    _models: Models
    _settings: Settings


def publish_model(
    tuning: Has,
    work: Work,
    spec: PretrainSpec,
    corpus: Corpus,
    model: LlamaForCausalLM,
    tokenizer: Tokenizer,
    *,
    facts: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
) -> ModelEntry:
    """Write the model's folder and put it in every model list; called again for the same job it gives the same entry.

    Where another model has the name by now, it becomes `name-2` and so on. Raises: `OSError` and `WorkspaceError` for the disk.
    """
    models, folder = tuning._models, tuning._settings.adapters_folder
    card = Card(
        base="",
        data_name=Path(spec.folder).name,
        data_sha256=corpus.sha256,
        spec=spec.model_dump(mode="json"),
        metrics=dict(facts),
        samples=keep_samples(samples),
        job_id=work.job.id,
        owner=work.job.owner,
        created_at=now().isoformat(timespec="seconds"),
        versions=find_versions(),
    )
    with draft_of(folder, work.job.id) as draft:
        _write(draft, model, tokenizer, spec, facts)
        write_card(draft, card)
        seal(draft)
        target = _settle(models, draft, folder, spec.name, work.job.id)
    return _find(models, target.name) or _register(models, spec, target, model)


def _settle(models: Models, draft: Path, folder: Path, name: str, job_id: str) -> Path:
    """Give the draft the first of `name`, `name-2` … that is free, or find the one that an earlier try of the job took: what was learnt is kept."""
    for id in chain([name], (f"{name}-{number}" for number in count(2))):
        target, known = folder / id, _find(models, id)
        if known is not None and Path(known.model) != target.absolute():
            continue
        if settle(draft, target) or (read_card_file(target) or {}).get("job_id") == job_id:
            return target
    raise AssertionError("there is always a free number")


def _find(models: Models, id: str) -> ModelEntry | None:
    return next((entry for entry in models.entries(embedders=True) if entry.id == id), None)


def _register(models: Models, spec: PretrainSpec, target: Path, model: LlamaForCausalLM) -> ModelEntry:
    return models.add(
        target.name,
        provider="huggingface",
        model=str(target.absolute()),
        kind="base",
        arch="llama",
        params_b=max(1e-6, sum(weight.numel() for weight in model.parameters()) / 1e9),
        weights_dtype="float32",
        dtype="float32",
        context_tokens=spec.shape.context_tokens,
        prompt_style="plain",
        add_special_tokens=True,
        default_params={"temperature": 0.7, "top_p": 0.9, "max_tokens": 64},
        notes=_NOTES,
    )


def _write(draft: Path, model: LlamaForCausalLM, tokenizer: Tokenizer, spec: PretrainSpec, facts: Mapping[str, Any]) -> None:
    from tokenizers import Tokenizer as Raw
    from tokenizers.processors import TemplateProcessing

    model.generation_config.max_new_tokens = None
    model.generation_config.do_sample = False
    model.to("cpu").save_pretrained(draft)  # type: ignore[arg-type, unused-ignore]
    begun = Raw.from_str(tokenizer.to_str())
    begun.post_processor = TemplateProcessing(single=f"{BOS} $A", special_tokens=[(BOS, begun.token_to_id(BOS))])
    wrapped = wrap_tokenizer(begun, context_tokens=spec.shape.context_tokens)
    wrapped.chat_template = _TEMPLATE
    wrapped.save_pretrained(draft)
    record = {"model": spec.name, "plan": spec.model_dump(mode="json"), "measured": dict(facts)}
    (draft / "recipe.json").write_text(json.dumps(record, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
