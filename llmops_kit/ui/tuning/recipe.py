"""How it is trained: base, preset and name in sight, every other field of the spec folded away, and the whole spec as YAML to edit, keep and load."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.errors import InputError, InvalidValue
from llmops_kit.tuning import TuneSpec
from llmops_kit.tuning.spec import RATINGS
from llmops_kit.ui.files import offer
from llmops_kit.ui.text import label, say

if TYPE_CHECKING:
    from llmops_kit.kit import Kit
    from llmops_kit.models import ModelEntry

PRESETS = ("try", "careful", "thorough")
METHODS = ("lora", "dora", "qlora", "dpo", "kto")
_SCHEDULERS = ("cosine", "linear", "constant")
_WHOLE = ("rank", "batch_tokens", "max_tokens", "max_steps", "eval_every", "seed")
_SWITCHES = ("packing", "wandb")
_BROKEN = ("alpha", "epochs", "learning_rate", "eval_share", "beta")
FIELDS = (
    *("method", "epochs", "rank", "alpha", "learning_rate", "batch_tokens", "max_tokens", "max_steps", "eval_share", "eval_every", "targets", "scheduler"),
    *("beta", "seed", "prompts", "packing", "wandb"),
)
"""The folded fields, in the order they are shown; those that are left empty are chosen from model and data."""
SHOWN = ("name", *FIELDS, "yaml", "file")
"""What `show` fills, in its order."""


@dataclass(frozen=True)
class Recipe:
    """The components: `base`, `preset`, and `fields` by the name they have in the spec; the YAML and its buttons."""

    base: gr.Dropdown
    preset: gr.Radio
    fields: dict[str, Any]
    yaml: gr.Code
    apply: gr.Button
    read: gr.UploadButton
    file: gr.DownloadButton

    def inputs(self) -> dict[str, Any]:
        """Every input by the name its handler takes it under."""
        return {"base": self.base, "preset": self.preset, **self.fields}

    def outputs(self) -> list[Any]:
        """What `show` fills, in its order."""
        parts = {**self.fields, "yaml": self.yaml, "file": self.file}
        return [parts[name] for name in SHOWN]


def lay_out_choice() -> tuple[gr.Dropdown, gr.Radio, gr.Textbox]:
    """The three things in sight: base model, how careful, and what it is to be called."""
    base = gr.Dropdown([], label=label("tune.base"), elem_id="tuning-base", interactive=True)
    presets = [(label(f"tune.preset_{preset}"), preset) for preset in PRESETS]
    preset = gr.Radio(presets, value="try", label=label("tune.preset"), info=label("tune.preset_info"), elem_id="tuning-preset")
    name = gr.Textbox(label=label("tune.name"), info=label("tune.name_info"), max_lines=1, elem_id="tuning-name")
    return base, preset, name


def lay_out_details(base: gr.Dropdown, preset: gr.Radio, name: gr.Textbox) -> Recipe:
    """Everything else, folded: the fields of the spec, then the spec itself as YAML."""
    fields: dict[str, Any] = {"name": name}
    with gr.Accordion(label("playground.more"), open=False, elem_id="tuning-more"):
        gr.Markdown(label("tune.more_info"), elem_classes="quiet")
        with gr.Row(elem_classes="fields"):
            for field in FIELDS:
                if field not in _SWITCHES:
                    fields[field] = _field(field)
        for field in _SWITCHES:
            fields[field] = gr.Checkbox(label=label(f"tune.field_{field}"), elem_id=f"tuning-{field}", interactive=True)
    with gr.Accordion(label("tune.yaml_title"), open=False, elem_id="tuning-yaml-title"):
        yaml = gr.Code(language="yaml", interactive=True, show_label=False, elem_id="tuning-yaml", wrap_lines=True, show_line_numbers=False, lines=6)
        with gr.Row(elem_classes="actions"):
            apply = gr.Button(label("tune.yaml_apply"), size="sm", elem_id="tuning-yaml-apply")
            read = gr.UploadButton(label("tune.yaml_read"), file_types=[".yaml", ".yml"], size="sm", elem_id="tuning-yaml-read")
            file = gr.DownloadButton(label("tune.yaml_save"), size="sm", elem_id="tuning-yaml-save")
    return Recipe(base, preset, fields, yaml, apply, read, file)


def show(spec: TuneSpec, data_name: str, *, typed: bool = False) -> list[Any]:
    """Updates of all fields and of the YAML; `data_name` is what the YAML calls an uploaded file.

    `typed`: the spec comes from the fields, which stay as they are: the person may be typing in the next one already.
    """
    values: dict[str, Any] = {name: getattr(spec, name) for name in ("name", *FIELDS)}
    values |= {"name": spec.name or "", "targets": ", ".join(spec.targets), "prompts": "\n---\n".join(spec.prompts)}
    text = spec.change(data=data_name).yaml()
    fields = [gr.skip() if typed else gr.update(value=values[name]) for name in ("name", *FIELDS)]
    return [*fields, text, offer(f"{spec.name or 'tuning'}.yaml", text.encode())]


def read(spec: TuneSpec, fields: Mapping[str, Any], proposed: Mapping[str, Any] | None = None) -> TuneSpec:
    """The spec with what stands in the fields; one that was emptied is as it was `proposed`. Raises: InvalidValue."""
    values: dict[str, Any] = {name: fields[name] for name in FIELDS if name in fields}
    for name in ("rank", "alpha", "epochs", "batch_tokens", "eval_share", "beta", "seed"):
        if values.get(name) is None:
            values.pop(name, None)
            if name in fields and getattr(spec, name) is not None and (proposed or {}).get(name) is not None:
                values[name] = (proposed or {})[name]
    values |= {name: int(values[name]) for name in _WHOLE if values.get(name) is not None}
    values["targets"] = tuple(part.strip() for part in plain(fields.get("targets")).replace("、", ",").split(",") if part.strip()) or ("all-linear",)
    values["prompts"] = tuple(part.strip() for part in str(fields.get("prompts") or "").split("\n---\n") if part.strip())
    name = plain(fields.get("name")).strip().lower()
    return spec.change(**values, name=name or None)


def read_yaml(text: str, data: str, data_name: str) -> TuneSpec:
    """A spec from YAML typed or loaded on the page. Its data is what is chosen there, or a bundled set or campaign; never a path on this computer.

    Raises: UnreadableFile, InvalidValue, InputError for data that has to be uploaded first.
    """
    spec = TuneSpec.read(text if "\n" in text else f"{text}\n")
    if spec.data in (data, data_name):
        return spec.change(data=data)
    if spec.data.startswith(("sample:", *RATINGS)):
        return spec
    raise InputError(en=say("tune.upload_first", "en", name=spec.data[:80]), ja=say("tune.upload_first", "ja", name=spec.data[:80]))


def tunable(kit: Kit) -> list[str]:
    """Models that can be tuned here and now: they write text, their weights are on this computer, and they carry no adapter of their own."""
    return [entry.id for entry in kit.models.entries() if _can_be_tuned(entry) and kit.models.state(entry.id).is_ready]


def _can_be_tuned(entry: ModelEntry) -> bool:
    from llmops_kit.models.trainable import refuse_untunable

    try:
        refuse_untunable(entry)
    except InvalidValue:
        return False
    return True


def _field(name: str) -> Any:
    shown: dict[str, Any] = {"label": label(f"tune.field_{name}"), "elem_id": f"tuning-{name.replace('_', '-')}", "interactive": True}
    if name in _WHOLE:
        return gr.Number(precision=0, min_width=130, **shown)
    if name in _BROKEN:
        return gr.Number(min_width=130, step=0.0001 if name == "learning_rate" else 0.1, **shown)
    if name == "method":
        return gr.Dropdown([(label(f"tune.method_{method}"), method) for method in METHODS], value="lora", min_width=220, **shown)
    if name == "scheduler":
        return gr.Dropdown(list(_SCHEDULERS), value="cosine", min_width=130, **shown)
    lines = 3 if name == "prompts" else 1
    return gr.Textbox(lines=lines, max_lines=6 if name == "prompts" else 1, min_width=220, **shown)


def plain(text: object) -> str:
    """What was typed, full-width letters and digits as half-width ones (NFKC)."""
    return unicodedata.normalize("NFKC", str(text or ""))
