"""The Export sub-tab: what people said as a table or as data to train on, and what W&B has of it."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.feedback import showing, whose
from llmops_kit.ui.feedback.agreement import ALL
from llmops_kit.ui.feedback.code import export_code
from llmops_kit.ui.files import offer
from llmops_kit.ui.text import label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

KINDS = ("table", "sft", "dpo", "kto")
FORMATS = ("csv", "xlsx", "parquet", "jsonl")


def build(kit: Kit, tab: gr.Tab) -> None:
    """Lay out the sub-tab and wire its events; call inside an open `gr.Tab`, which is `tab`."""
    form: dict[str, Any] = {}
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=2, min_width=300, elem_classes="inputs"):
            form["campaign"] = gr.Dropdown([], label=label("feedback.campaign"), elem_id="export-campaign", interactive=True)
            kinds = [(label(f"feedback.kind_{kind}"), kind) for kind in KINDS]
            form["kind"] = gr.Radio(kinds, value="table", label=label("feedback.kind"), elem_id="export-kind")
            form["format"] = gr.Radio([(kind.upper(), kind) for kind in FORMATS], value="csv", label=label("feedback.format"), elem_id="export-format")
            form["raw"] = gr.Checkbox(label=label("feedback.raw"), info=label("feedback.raw_info"), elem_id="export-raw")
            with gr.Row(elem_classes="buttons"):
                write = gr.Button(label("feedback.write"), variant="primary", elem_id="export-write")
        with gr.Column(scale=4, min_width=320):
            told = gr.HTML(elem_id="export-told", padding=False)
            with gr.Row(elem_classes="actions"):
                file = gr.DownloadButton(label("feedback.download"), visible=False, elem_id="export-file")
            with gr.Row(elem_classes="actions wandb"):
                wandb = gr.HTML(elem_id="export-wandb", elem_classes="quiet", min_width=240, padding=False)
                sync = gr.Button(label("feedback.sync"), size="sm", scale=0, elem_id="export-sync")
            with gr.Accordion(label("playground.code"), open=False, elem_id="export-code-drawer"):
                code = gr.Code(language="python", interactive=False, show_label=False, elem_id="export-code", wrap_lines=True, show_line_numbers=False)
    one: dict[str, Any] = {"inputs_kwargs": {"kind": form["kind"]}, "outputs": [form["format"]]}
    form["kind"].input(lambda *, kind: gr.Radio(visible=kind == "table"), api_name="choose_export", **one, **QUICK)
    opened = [form["campaign"], told, wandb]
    tab.select(_on_open(kit), inputs_kwargs={"campaign": form["campaign"]}, outputs=opened, api_name="open_export", preprocess=False, **QUICK)
    write.click(_on_write(kit), inputs_kwargs=form, outputs=[file, told, code, wandb], api_name="write_export", preprocess=False, **QUICK)
    sync.click(_on_sync(kit), outputs=[wandb], api_name="sync_tables", **QUICK)


def _on_open(kit: Kit) -> Callable[..., list[Any]]:
    def on_open(request: gr.Request, *, campaign: str | None) -> list[Any]:
        with shown_errors(request):
            user, language = require(user_of(request), "participant", resource="feedback"), language_of(request)
            choices = [*((whose.title_of(each, language), each.id) for each in whose.own_campaigns(kit, user)), (say("feedback.all_own", language), ALL)]
            chosen = campaign if campaign in [id for _, id in choices] else choices[0][1]
            return [gr.Dropdown(choices=choices, value=chosen), showing.show_note(say("feedback.export_intro", language)), showing.wandb_line(kit, language)]

    return on_open


def _on_write(kit: Kit) -> Callable[..., list[Any]]:
    def on_write(request: gr.Request, *, campaign: str | None, kind: str, format: str, raw: bool) -> list[Any]:
        with shown_errors(request):
            user, language = require(user_of(request), "participant", resource="feedback"), language_of(request)
            which: dict[str, Any]
            suffix = format if kind == "table" and format in FORMATS else "jsonl"
            if campaign in (None, "", ALL):
                name, which = say("feedback.all_file", language), {"participants": whose.names_of(user)}
            else:
                found = whose.own(kit, user, campaign)
                name, which = found.name, {"campaign": found.id}
            path = Path(offer(f"{_file_name(name)}_{kind}.{suffix}", b""))
            report = kit.feedback.export(kind, path, pseudonyms=not raw, **which)
            shown = export_code(kit.settings.workspace, kind, f"ratings.{suffix}", **which, pseudonyms=False if raw else None)
            warning = f"<p class='quiet'>{say('feedback.raw_told', language)}</p>" if raw else ""
            told = f"<p>{html.escape(report.text(language))}</p>{warning}"
            return [gr.DownloadButton(value=str(path), visible=True), told, shown, showing.wandb_line(kit, language)]

    return on_write


def _on_sync(kit: Kit) -> Callable[..., Any]:
    def on_sync(request: gr.Request) -> Any:
        with shown_errors(request):
            require(user_of(request), "participant", resource="feedback")
            language = language_of(request)
            report = kit.tracking.sync(progress=False)
            told = say("feedback.synced", language, n=f"{report.sent:,}") if report.error is None else html.escape(report.error)
            return f"{showing.wandb_line(kit, language)} {told}"

    return on_sync


def _file_name(name: str) -> str:
    """A campaign's name as the name of a file: letters, digits and kana stay."""
    kept = "".join(sign if sign.isalnum() else "_" for sign in name).strip("_")
    return kept[:60] or "ratings"
