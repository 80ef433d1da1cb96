"""The Versions tab: a prompt as a plain file, its versions, their differences, and the labels that move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import InputError
from llmops_kit.prompts import parse
from llmops_kit.ui.code import version_code
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.files import offer
from llmops_kit.ui.form import FIRST_PROMPT
from llmops_kit.ui.saving import save_and_tell
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit


@dataclass(frozen=True)
class VersionsTab:
    """The components of the tab that events read or fill."""

    name: gr.Dropdown
    version: gr.Dropdown
    mark: gr.Dropdown
    move: gr.Button
    download: gr.DownloadButton
    text: gr.Textbox
    message: gr.Textbox
    save: gr.Button
    old: gr.Dropdown
    new: gr.Dropdown
    diff: gr.HTML
    table: gr.Dataframe
    code: gr.Code

    def shown(self) -> list[Any]:
        """What `_show` fills, in its order."""
        return [self.name, self.version, self.text, self.download, self.old, self.new, self.diff, self.code]


def build(kit: Kit, tab: gr.Tab) -> None:
    """Lay out the tab and wire its events; call inside an open `gr.Tab`."""
    _wire(kit, tab, _lay_out())


def _lay_out() -> VersionsTab:
    gr.Markdown(label("versions.intro"), elem_classes="quiet")
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            name = gr.Dropdown([], label=label("versions.prompt"), elem_id="versions-name", interactive=True)
            version = gr.Dropdown([], label=label("versions.version"), elem_id="versions-version", interactive=True)
            mark = gr.Dropdown(["staging", "production"], value="production", allow_custom_value=True, label=label("versions.label"), elem_id="versions-label")
            move = gr.Button(label("versions.move"), elem_id="versions-move")
            download = gr.DownloadButton(label("versions.download"), elem_id="versions-download")
        with gr.Column(scale=3, min_width=320):
            text = gr.Textbox(lines=14, max_lines=30, label=label("versions.text"), elem_id="versions-text", elem_classes="file")
            with gr.Row():
                message = gr.Textbox(label=label("versions.message"), scale=3, elem_id="versions-message")
                save = gr.Button(label("versions.save"), variant="primary", elem_id="versions-save")
    with gr.Row():
        old = gr.Dropdown([], label=label("versions.old"), elem_id="versions-old", interactive=True)
        new = gr.Dropdown([], label=label("versions.new"), elem_id="versions-new", interactive=True)
    diff = gr.HTML(elem_id="versions-diff", label=label("versions.diff"))
    with gr.Accordion(label("versions.list"), open=False):
        table = gr.Dataframe(interactive=False, show_label=False, max_height=360)
    with gr.Accordion(label("playground.code"), open=False):
        code = gr.Code(language="python", interactive=False, show_label=False, show_line_numbers=False)
    return VersionsTab(name, version, mark, move, download, text, message, save, old, new, diff, table, code)


def _wire(kit: Kit, tab: gr.Tab, page: VersionsTab) -> None:
    def on_show(request: gr.Request, *, name: str | None, version: str | None) -> list[Any]:
        with shown_errors(request):
            return _show(kit, name, version, language_of(request))

    def on_open(request: gr.Request, *, name: str | None) -> list[Any]:
        with shown_errors(request):
            return [*_show(kit, name, None, language_of(request)), _table(kit, language_of(request))]

    def on_save(request: gr.Request, *, text: str, message: str) -> list[Any]:
        language = language_of(request)
        with shown_errors(request):
            prompt = parse(text)
            user = require(user_of(request), "participant", resource=prompt.name)
            saved = save_and_tell(kit, prompt, message=message, author=user.id, language=language)
            return [*_show(kit, saved.name, None, language), _table(kit, language)]

    def on_move(request: gr.Request, *, name: str, version: str, mark: str | None) -> list[Any]:
        language = language_of(request)
        with shown_errors(request):
            user = require(user_of(request), "participant", resource=name)
            if not (mark or "").strip():
                raise InputError(en=say("versions.no_label", "en"), ja=say("versions.no_label", "ja"))
            number = _number(version)
            kit.prompts.label(name, number, str(mark), author=user.id)
            gr.Info(say("versions.moved", language, name=name, version=number, label=str(mark)))
            return [*_show(kit, name, version, language), _table(kit, language)]

    def on_diff(request: gr.Request, *, name: str, old: str, new: str) -> tuple[str, str]:
        with shown_errors(request):
            return _diff(kit, name, old, new, language_of(request)), version_code(kit.settings.workspace, name, str(_number(old)), str(_number(new)))

    named: dict[str, Any] = {"name": page.name}
    one = {**named, "version": page.version}
    opened = [*page.shown(), page.table]
    tab.select(on_open, inputs_kwargs=named, outputs=opened, api_name="open_versions", **QUICK)
    page.name.input(on_open, inputs_kwargs=named, outputs=opened, api_name="show_versions", **QUICK)
    page.version.input(on_show, inputs_kwargs=one, outputs=page.shown(), api_name="show_version", **QUICK)
    page.save.click(on_save, inputs_kwargs={"text": page.text, "message": page.message}, outputs=opened, api_name="save_version", **QUICK)
    page.move.click(on_move, inputs_kwargs={**one, "mark": page.mark}, outputs=opened, api_name="move_label", **QUICK)
    compared = {**named, "old": page.old, "new": page.new}
    gr.on([page.old.input, page.new.input], on_diff, inputs_kwargs=compared, outputs=[page.diff, page.code], api_name="diff_versions", **QUICK)


def _show(kit: Kit, name: str | None, version: str | None, language: Language) -> list[Any]:
    names = kit.prompts.names()
    name = name if name in names else FIRST_PROMPT if FIRST_PROMPT in names else names[0]
    saved = sorted(kit.prompts.versions(name), key=lambda each: -each.version)
    marks = [
        f"{each.version}" + "".join(f" · {mark}" for mark in each.labels if mark != "latest") + (f" · {each.message}" if each.message else "") for each in saved
    ]
    newest = next((mark for mark in marks if version and _number(mark) == _number(version)), marks[0])
    older = marks[min(marks.index(newest) + 1, len(marks) - 1)]
    prompt = kit.prompts.get(name, version=_number(newest))
    return [
        gr.Dropdown(choices=names, value=name),
        gr.Dropdown(choices=marks, value=newest),
        prompt.text,
        gr.DownloadButton(value=offer(f"{name}-v{prompt.version}.md", prompt.text.encode())),
        gr.Dropdown(choices=marks, value=older),
        gr.Dropdown(choices=marks, value=newest),
        _diff(kit, name, older, newest, language),
        version_code(kit.settings.workspace, name, str(_number(older)), str(_number(newest))),
    ]


def _number(mark: str | int) -> int:
    return int(str(mark).split(" ")[0])


def _diff(kit: Kit, name: str, old: str, new: str, language: Language) -> str:
    if _number(old) == _number(new):
        return f"<p class='quiet'>{say('versions.same', language)}</p>"
    return str(kit.prompts.diff(name, _number(old), _number(new))._repr_html_())


def _table(kit: Kit, language: Language) -> Any:
    table = kit.prompts.table()
    return table.drop(columns=[column for column in table.columns if column == f"description_{'en' if language == 'ja' else 'ja'}"])
