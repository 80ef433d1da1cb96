"""The form of a prompt: a chooser, and one field for each of its typed variables."""

from __future__ import annotations

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


def build_form() -> PromptForm:
    """Lay out the chooser and the fields; call inside a column."""
    prompt = gr.Dropdown([], label=label("playground.prompt"), elem_id="prompt", interactive=True)
    version = gr.Dropdown(["latest"], value="latest", label=label("playground.prompt_version"), elem_id="prompt-version", interactive=True, render=False)
    about = gr.Markdown(visible=False, elem_classes="quiet")
    slots = tuple(
        Slot(
            gr.Textbox(visible=False, lines=3, max_lines=12, elem_id=f"variable-{index}"),
            gr.Dropdown([], visible=False, elem_id=f"choice-{index}"),
            gr.Number(visible=False, elem_id=f"number-{index}"),
        )
        for index in range(SLOTS)
    )
    return PromptForm(prompt, version, about, slots)


def choices(kit: Kit, language: Language) -> list[tuple[str, str]]:
    """The prompts of the library as (what the reader sees, name)."""
    shown = []
    for name in kit.prompts.names():
        about = localized(kit.prompts.get(name).description, language).rstrip("。.")
        shown.append((about or name, name))
    return shown


def chosen(kit: Kit, name: str, version: str | None) -> Prompt:
    """The prompt as chosen in the form: `latest`, a number, or a label."""
    if not version or version == "latest":
        return kit.prompts.get(name)
    return kit.prompts.get(name, version=int(version)) if str(version).isdecimal() else kit.prompts.get(name, label=version)


def show(kit: Kit, name: str, version: str | None, language: Language) -> list[Any]:
    """Updates that show the prompt's versions, description and fields, filled with its example."""
    try:
        prompt = chosen(kit, name, version)
    except KitError:
        prompt, version = kit.prompts.get(name), "latest"
    marks = ["latest", *prompt_labels(kit, name), *(str(saved.version) for saved in kit.prompts.versions(name))]
    many = len(prompt.variables) > SLOTS
    about = say("playground.too_many_variables", language, count=len(prompt.variables), limit=SLOTS) if many else ""
    updates: list[Any] = [gr.Dropdown(choices=list(dict.fromkeys(marks)), value=version or "latest"), gr.Markdown(about, visible=many)]
    for index in range(SLOTS):
        updates += _slot(prompt.variables[index] if index < len(prompt.variables) else None, language)
    return updates


def prompt_labels(kit: Kit, name: str) -> list[str]:
    """The labels set on any version of a prompt."""
    return sorted({mark for saved in kit.prompts.versions(name) for mark in saved.labels} - {"latest"})


def fill(prompt: Prompt, variables: Mapping[str, Any]) -> list[Any]:
    """Updates that put `variables` into the fields of `prompt`, as when an earlier run is opened."""
    updates: list[Any] = []
    for index in range(SLOTS):
        variable = prompt.variables[index] if index < len(prompt.variables) else None
        value = variables.get(variable.name) if variable else None
        updates += [value if variable and variable.kind == kind else gr.skip() for kind in ("text", "select", "number")]
    return updates


def read(prompt: Prompt, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The variables a person filled in, by name."""
    kinds = enumerate(prompt.variables[:SLOTS])
    return {variable.name: fields[f"{variable.kind}_{index}"] for index, variable in kinds if fields[f"{variable.kind}_{index}"] not in (None, "")}


def _slot(variable: Variable | None, language: Language) -> list[Any]:
    if variable is None:
        return [gr.Textbox(visible=False), gr.Dropdown(visible=False), gr.Number(visible=False)]
    named = localized(variable.label, language) or variable.name
    value = localized(variable.example, language) or variable.default
    long = variable.kind == "text" and len(str(value or "")) > 60
    number = float(value) if variable.kind == "number" and value not in (None, "") else None
    select = value if value in variable.options else next(iter(variable.options), None)
    return [
        gr.Textbox(label=named, value=str(value or "") if variable.kind == "text" else "", visible=variable.kind == "text", lines=5 if long else 2),
        gr.Dropdown(choices=list(variable.options), label=named, value=select, visible=variable.kind == "select"),
        gr.Number(label=named, value=number, visible=variable.kind == "number", minimum=variable.minimum, maximum=variable.maximum),
    ]
