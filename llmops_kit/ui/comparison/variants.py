"""The choosers of what is compared: for each variant a model, documents or none, a version of the prompt, a temperature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.errors import InputError, KitError
from llmops_kit.ui import form
from llmops_kit.ui.text import Language, label, say

if TYPE_CHECKING:
    from llmops_kit.comparison import Variant
    from llmops_kit.kit import Kit

FIELDS = ("model", "documents", "version", "temperature")
FIRST = ("starter-lm", "starter-reader", "starter-lm", "starter-reader")
"""The models a new page has chosen, slot by slot."""


@dataclass(frozen=True)
class Slot:
    """The choosers of one variant, by the names in `FIELDS`."""

    group: Any
    parts: dict[str, Any]


def build_slot(index: int, name: str, *, shown: bool, folded: bool = True) -> Slot:
    """Lay out the choosers of one variant; call inside a row or column. `name` is unique among the sub-tabs."""
    with gr.Column(min_width=200, visible=shown, elem_id=f"{name}-slot-{index}", elem_classes="slot") as group:
        parts: dict[str, Any] = {"model": _dropdown("compare.model", f"{name}-model-{index}")}
        if folded:
            with gr.Accordion(label("playground.more"), open=False, elem_id=f"{name}-more-{index}"):
                parts |= _lay_out_more(index, name)
        else:
            parts |= _lay_out_more(index, name)
    return Slot(group, parts)


def _lay_out_more(index: int, name: str) -> dict[str, Any]:
    parts: dict[str, Any] = {"documents": _dropdown("compare.documents", f"{name}-documents-{index}")}
    parts["version"] = _dropdown("compare.version", f"{name}-version-{index}")
    more: dict[str, Any] = {"minimum": 0, "maximum": 2, "step": 0.1, "elem_id": f"{name}-temperature-{index}"}
    parts["temperature"] = gr.Number(None, label=label("compare.temperature"), placeholder=label("compare.as_prompt"), **more)
    return parts


def _dropdown(key: str, id: str) -> gr.Dropdown:
    return gr.Dropdown([], label=label(key), elem_id=id, interactive=True, min_width=140)


def fields(slots: Sequence[Slot]) -> dict[str, Any]:
    """Every input by the name its handler takes it under: `model_0`, `documents_0`, …."""
    return {f"{name}_{index}": slot.parts[name] for index, slot in enumerate(slots) for name in FIELDS}


def outputs(slots: Sequence[Slot]) -> list[Any]:
    """What `refresh` fills, in its order."""
    return [slot.parts[name] for slot in slots for name in FIELDS[:3]]


def refresh(kit: Kit, user: str, language: Language, *, slots: int, prompt: str, given: Mapping[str, Any]) -> list[Any]:
    """Updates of the choosers with what there is now; what is chosen and still there stays."""
    models = [entry.id for entry in kit.models.entries()]
    names = [each.name for each in kit.documents.shelves.visible(user)]
    shelves: list[tuple[str, str]] = [(say("compare.no_documents", language), ""), *((name, name) for name in dict.fromkeys(names))]
    versions: list[tuple[str, str]] = [(say("compare.newest", language) if mark == "latest" else mark, mark) for mark in form.marks_of(kit, prompt)]
    updates: list[Any] = []
    for index in range(slots):
        model, documents, version = (given.get(f"{name}_{index}") for name in FIELDS[:3])
        chosen = model if model in models else FIRST[index % len(FIRST)]
        updates += [
            gr.Dropdown(choices=models, value=chosen if chosen in models else models[0] if models else None),
            gr.Dropdown(choices=shelves, value=documents if documents in names else ""),
            gr.Dropdown(choices=versions, value=version if version in {mark for _, mark in versions} else "latest"),
        ]
    return updates


def read(count: int, given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What is chosen in the first `count` slots, without what is as usual: `model`, `documents`, `version`, `params`.

    Raises: InputError, where a slot has no model.
    """
    chosen = []
    for index in range(count):
        model, documents, version, temperature = (given.get(f"{name}_{index}") for name in FIELDS)
        if not model:
            raise InputError(en=say("compare.no_model", "en", n=index + 1), ja=say("compare.no_model", "ja", n=index + 1))
        told: dict[str, Any] = {"model": model}
        if documents:
            told["documents"] = documents
        if version and version != "latest":
            told["version"] = version
        if temperature is not None:
            told["params"] = {"temperature": float(temperature)}
        chosen.append(told)
    return chosen


def make(kit: Kit, prompt: str, chosen: Sequence[Mapping[str, Any]]) -> list[Variant]:
    """The variants of `read`; a version becomes the prompt as it was then. Raises: UnknownName for a version that is gone."""
    from llmops_kit.comparison import Variant

    made = []
    for each in chosen:
        given: dict[str, Any] = {name: value for name, value in each.items() if name != "version"}
        if "version" in each:
            given["prompt"] = form.chosen(kit, prompt, each["version"])
        made.append(Variant(**given))
    return made


def in_code(prompt: str, chosen: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The variants of `read` as the code functions take them."""
    return [
        {**{name: value for name, value in each.items() if name != "version"}, **({"prompt": (prompt, each["version"])} if "version" in each else {})}
        for each in chosen
    ]


def names_of(kit: Kit, prompt: str, chosen: Sequence[Mapping[str, Any]]) -> list[str]:
    """What the variants will be called; the models where one cannot be made yet."""
    from llmops_kit.comparison import read_variants

    try:
        return [each.name for each in read_variants(make(kit, prompt, chosen))]
    except KitError:
        return [str(each["model"]) for each in chosen]
