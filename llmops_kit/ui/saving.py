"""Saving a pane: its prompt, its model and its parameters together become the next version of a prompt."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import InputError
from llmops_kit.types import Message, Prompt
from llmops_kit.ui.controls import trim
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.form import PromptForm, chosen, refresh
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit
    from llmops_kit.ui.panes import Pane


def wire_saving(kit: Kit, panes: tuple[Pane, ...], prompt_form: PromptForm) -> None:
    """Lay out the save box under the panes and wire the button of each. The choosers of `prompt_form` learn what was saved."""
    with gr.Group(visible=False, elem_id="save-box") as box:
        gr.Markdown(label("playground.save_title"), elem_classes="padded")
        with gr.Row():
            name = gr.Textbox(label=label("playground.save_name"), elem_id="save-name")
            message = gr.Textbox(label=label("playground.save_message"), elem_id="save-message")
            save = gr.Button(label("playground.save"), variant="primary", elem_id="save-version")
    draft = gr.State({})

    def on_open(request: gr.Request, *, last: dict[str, Any]) -> tuple[Any, str, dict[str, Any]]:
        with shown_errors(request):
            if not last.get("run_id"):
                raise InputError(en=say("playground.nothing_to_save", "en"), ja=say("playground.nothing_to_save", "ja"))
        return gr.Group(visible=True), str(last["request"].get("prompt", "")), last

    def on_save(request: gr.Request, *, name: str, message: str, draft: dict[str, Any], prompt: str) -> list[Any]:
        language = language_of(request)
        with shown_errors(request):
            user = require(user_of(request), "participant", resource=name)
            if not draft.get("run_id"):
                raise InputError(en=say("playground.nothing_to_save", "en"), ja=say("playground.nothing_to_save", "ja"))
            save_and_tell(kit, prompt_of(kit, draft, name), message=message, author=user.id, language=language)
        return [gr.Group(visible=False), *refresh(kit, prompt, language)]

    for pane in panes:
        pane.save.click(on_open, inputs_kwargs={"last": pane.last}, outputs=[box, name, draft], api_name=f"open_save_{pane.index}", **QUICK)
    asked: dict[str, Any] = {"name": name, "message": message, "draft": draft, "prompt": prompt_form.prompt}
    save.click(on_save, inputs_kwargs=asked, outputs=[box, prompt_form.prompt, prompt_form.version], api_name="save_pane", **QUICK)


def save_and_tell(kit: Kit, prompt: Prompt, *, message: str, author: str, language: Language) -> Prompt:
    """Save `prompt`, and say whether that made a version. Raises what `PromptLibrary.save` raises."""
    same = kit.prompts.find_same(prompt)
    saved = kit.prompts.save(prompt, message=message, author=author)
    made = same is None or same.version != saved.version
    gr.Info(say("playground.saved" if made else "playground.same", language, name=saved.name, version=saved.version))
    return saved


def prompt_of(kit: Kit, last: dict[str, Any], name: str) -> Prompt:
    """The prompt of a pane under `name`, with the pane's model and parameters. A free chat becomes a prompt as it stands."""
    request = last["request"]
    if "prompt" in request:
        prompt = chosen(kit, request["prompt"], request["version"])
        if request.get("system"):
            rest = tuple(turn for turn in prompt.messages if turn.role != "system")
            prompt = replace(prompt, messages=(Message("system", request["system"]), *rest))
    else:
        prompt = Prompt(name=name, messages=tuple(Message(turn["role"], turn["content"]) for turn in last["messages"][:-1]))
    return replace(prompt, name=name.strip(), model=last["model"], params=trim(kit, last["model"], last["params"], {}), text="")
