"""The form of a prompt: a chooser, and one field for each of its typed variables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.errors import KitError
from llmops_kit.types import Prompt, Variable
from llmops_kit.ui.text import Language, label, localized, say

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

FIRST_PROMPT = "summarize"
"""What the app opens on."""
SLOTS = 8
"""Fields the form has. Gradio wires events to fixed components, so the fields exist from the start and are shown as needed."""


@dataclass(frozen=True)
class Slot:
    """Three components of which one is shown: the kind of the variable decides which."""

    text: gr.Textbox
    select: gr.Dropdown
    number: gr.Number


@dataclass(frozen=True)
class PromptForm:
    """The chooser, the description and the fields of a prompt."""

    prompt: gr.Dropdown
    version: gr.Dropdown
    about: gr.Markdown
    slots: tuple[Slot, ...]

    def fields(self) -> dict[str, Any]:
        """Every input of the form by the name its handler takes it under."""
        named: dict[str, Any] = {"prompt": self.prompt, "version": self.version}
        for index, slot in enumerate(self.slots):
            named |= {f"text_{index}": slot.text, f"select_{index}": slot.select, f"number_{index}": slot.number}
        return named

    def outputs(self) -> list[Any]:
        """What `show` fills, in its order."""
        return [self.version, self.about, *(part for slot in self.slots for part in (slot.text, slot.select, slot.number))]


def build_form(name: str = "") -> PromptForm:
    """Lay out the chooser and the fields; call inside a column. `name` goes before their ids in the page, for a second form on it."""
    prompt = gr.Dropdown([], label=label("playground.prompt"), elem_id=f"{name}prompt", interactive=True)
    marks: dict[str, Any] = {"label": label("playground.prompt_version"), "elem_id": f"{name}prompt-version", "interactive": True, "render": False}
    version = gr.Dropdown(["latest"], value="latest", **marks)
    about = gr.Markdown(visible=False, elem_classes="quiet")
    slots = tuple(
        Slot(
            gr.Textbox(visible=False, lines=3, max_lines=12, elem_id=f"{name}variable-{index}"),
            gr.Dropdown([], visible=False, elem_id=f"{name}choice-{index}"),
            gr.Number(visible=False, elem_id=f"{name}number-{index}"),
        )
        for index in range(SLOTS)
    )
    return PromptForm(prompt, version, about, slots)


def choices(kit: Kit, language: Language) -> list[tuple[str, str]]:
    """The prompts of the library as (what the reader sees, name).

    A shipped prompt is seen by its description. One that somebody made, or that is described as another is, has its
    name behind it: a copy is told from its original.
    """
    described = {}
    for name in kit.prompts.names():
        versions = kit.prompts.versions(name)
        described[name] = localized(versions[0].description, language).rstrip("。."), versions[-1].author == "library"
    count = Counter(about for about, _ in described.values())
    return [
        (about if shipped and count[about] == 1 else f"{about}（{name}）" if language == "ja" else f"{about} ({name})", name) if about else (name, name)
        for name, (about, shipped) in described.items()
    ]


def refresh(kit: Kit, name: str | None, language: Language) -> list[Any]:
    """Updates of the prompt chooser and its version chooser that keep what is chosen."""
    names = choices(kit, language)
    known = name if name and name in {value for _, value in names} else FIRST_PROMPT
    return [gr.Dropdown(choices=names), gr.Dropdown(choices=marks_of(kit, known))]


def marks_of(kit: Kit, name: str) -> list[str]:
    """What a version can be chosen by: `latest`, the labels, the numbers."""
    versions = kit.prompts.versions(name)
    labels = sorted({mark for saved in versions for mark in saved.labels})
    return list(dict.fromkeys(["latest", *labels, *(str(saved.version) for saved in versions)]))


def chosen(kit: Kit, name: str, version: str | None) -> Prompt:
    """The prompt as chosen in the form: `latest`, a number, or a label."""
    if not version or version == "latest":
        return kit.prompts.get(name)
    return kit.prompts.get(name, version=int(version)) if str(version).isdecimal() else kit.prompts.get(name, label=version)


def show(kit: Kit, name: str, version: str | None, language: Language, *, values: Mapping[str, Any] | None = None) -> list[Any]:
    """Updates that show the prompt's versions, description and fields, filled with `values` or, without them, its example."""
    try:
        prompt = chosen(kit, name, version)
    except KitError:
        prompt, version = kit.prompts.get(name), "latest"
    many = len(prompt.variables) > SLOTS
    about = say("playground.too_many_variables", language, count=len(prompt.variables), limit=SLOTS) if many else ""
    updates: list[Any] = [gr.Dropdown(choices=marks_of(kit, name), value=version or "latest"), gr.Markdown(about, visible=many)]
    filled = starting_values(prompt, language) if values is None else values
    for index in range(SLOTS):
        variable = prompt.variables[index] if index < len(prompt.variables) else None
        updates += _slot(variable, filled.get(variable.name) if variable else None, language)
    return updates


def starting_values(prompt: Prompt, language: Language) -> dict[str, Any]:
    """What the fields of a prompt start with, by variable: its example in the reader's language, else the default."""
    return {variable.name: _start(variable, language) for variable in prompt.variables[:SLOTS]}


def read(prompt: Prompt, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The variables a person filled in, by name."""
    kinds = enumerate(prompt.variables[:SLOTS])
    return {variable.name: fields[f"{variable.kind}_{index}"] for index, variable in kinds if fields[f"{variable.kind}_{index}"] not in (None, "")}


def _start(variable: Variable, language: Language) -> Any:
    value = localized(variable.example, language) or variable.default
    if variable.kind == "select":
        return value if value in variable.options else next(iter(variable.options), None)
    if variable.kind == "number":
        return float(value) if value not in (None, "") else None
    return str(value or "")


def _slot(variable: Variable | None, value: Any, language: Language) -> list[Any]:
    if variable is None:
        return [gr.Textbox(visible=False), gr.Dropdown(visible=False), gr.Number(visible=False)]
    kind, named = variable.kind, localized(variable.label, language) or variable.name
    text = str(value if value is not None else "") if kind == "text" else ""
    select = value if value in variable.options else None
    number = value if kind == "number" and isinstance(value, int | float) else None
    return [
        gr.Textbox(label=named, value=text, visible=kind == "text", lines=5 if len(text) > 60 else 2),
        gr.Dropdown(choices=list(variable.options), label=named, value=select, visible=kind == "select"),
        gr.Number(label=named, value=number, visible=kind == "number", minimum=variable.minimum, maximum=variable.maximum),
    ]
