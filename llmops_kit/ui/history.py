"""The History tab: a person's own runs, newest first, to be opened in the panes again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import LOCAL, User, require, user_of
from llmops_kit.errors import InputError, KitError
from llmops_kit.types import Run
from llmops_kit.ui import form
from llmops_kit.ui.code import history_code
from llmops_kit.ui.controls import shown_settings
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.panes import brief_of, facts_of, remember, turns_of
from llmops_kit.ui.playground import TryTab
from llmops_kit.ui.rating import build_box, build_row, wire_row
from llmops_kit.ui.text import Language, error_text, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

_SHOWN = 100
_WIDTHS: list[str | int] = ["165px", "150px", "440px", "150px", "300px", "160px"]
_KEPT: tuple[Any, ...] = (gr.skip(),) * 11
"""The updates of a pane that stays as it is: chat, facts, last, model, and its seven settings."""


def build(kit: Kit, tab: gr.Tab, tabs: gr.Tabs, playground: TryTab) -> None:
    """Lay out the tab and wire its events; call inside an open `gr.Tab`."""
    gr.Markdown(label("history.intro"), elem_classes="quiet")
    empty = gr.Markdown(label("history.empty"), visible=False, elem_id="history-empty")
    table = gr.Dataframe(
        interactive=False, wrap=False, max_height=420, show_search="search", elem_id="history-table", show_label=False, column_widths=_WIDTHS, buttons=[]
    )
    with gr.Row(elem_classes="buttons"):
        chosen = gr.Textbox(label=label("history.chosen"), interactive=False, elem_id="history-chosen", scale=3, min_width=260)
        pane = gr.Radio([1, 2, 3, 4], value=1, label=label("history.pane"), elem_id="history-pane", scale=2, min_width=220)
        show = gr.Button(label("history.open"), variant="primary", elem_id="history-open", scale=1, min_width=120)
        refresh = gr.Button(label("history.refresh"), elem_id="history-refresh", scale=1, min_width=100)
    with gr.Row(elem_classes="quiet-row"):
        rating = build_row("history")
    wire_row(kit, rating, build_box(kit, "history"), follows=chosen, find=lambda run_id: run_id or None, name="history")
    with gr.Accordion(label("playground.code"), open=False):
        code = gr.Code(history_code(kit.settings.workspace, None), language="python", interactive=False, show_label=False, show_line_numbers=False)
    ids = gr.State([])

    def on_refresh(request: gr.Request) -> tuple[Any, Any, list[str]]:
        with shown_errors(request):
            runs = find_runs(kit, require(user_of(request), "participant", resource="history"))
            shown = gr.Dataframe(_table(runs, language_of(request)), visible=bool(runs))
            return gr.Markdown(visible=not runs), shown, [run.id for run in runs]

    def on_select(event: gr.SelectData, *, ids: list[str]) -> tuple[str, str]:
        run_id = str(event.row_value[-1]) if event.row_value else ids[event.index[0]]
        return run_id, history_code(kit.settings.workspace, run_id)

    def on_open(request: gr.Request, *, chosen: str, pane: int, count: int) -> list[Any]:
        with shown_errors(request):
            run = kit.playground.get(chosen) if chosen else None
            if run is None:
                raise InputError(en=say("history.none", "en"), ja=say("history.none", "ja"))
            require(user_of(request), "participant", resource=run.id, resource_owner=run.participant)
            index = int(pane) - 1
            shown = [gr.Tabs(selected="try"), max(int(count), int(pane)), *_prompt_of(kit, playground, run, language_of(request))]
            return shown + [
                update for number in range(len(playground.panes)) for update in (_pane_of(kit, run, language_of(request)) if number == index else _KEPT)
            ]

    panes = [part for each in playground.panes for part in (*each.said()[:3], each.model, *each.settings.values())]
    gr.on([tab.select, refresh.click], on_refresh, outputs=[empty, table, ids], api_name="list_history", **QUICK)
    table.select(on_select, inputs_kwargs={"ids": ids}, outputs=[chosen, code], api_name="choose_run", **QUICK)
    show.click(
        on_open,
        inputs_kwargs={"chosen": chosen, "pane": pane, "count": playground.count},
        outputs=[tabs, playground.count, playground.form.prompt, *playground.form.outputs(), playground.system, *panes],
        api_name="open_run",
        **QUICK,
    )


def find_runs(kit: Kit, user: User) -> list[Run]:
    """The person's newest runs first. The owner of the workspace finds what was run in its notebooks among them."""
    whose = {user.id, LOCAL} if user.role == "owner" else {user.id}
    runs = [run for participant in whose for run in kit.playground.history(participant=participant, limit=_SHOWN)]
    return sorted(runs, key=lambda run: (run.created_at, run.id), reverse=True)[:_SHOWN]


def _prompt_of(kit: Kit, playground: TryTab, run: Run, language: Language) -> list[Any]:
    """Updates of the prompt chooser, its form and the system prompt. A run of no library prompt leaves the form alone."""
    own = next((turn.content for turn in run.messages if turn.role == "system"), "")
    if run.prompt_name not in kit.prompts.names():
        return [gr.skip(), *([gr.skip()] * len(playground.form.outputs())), own]
    fields = form.show(kit, run.prompt_name, str(run.prompt_version or "latest"), language, values=run.variables)
    return [gr.Dropdown(choices=form.choices(kit, language), value=run.prompt_name), *fields, _override(kit, run, own)]


def _override(kit: Kit, run: Run, own: str) -> str:
    """The system prompt the run was given in place of the prompt's own, or nothing."""
    try:
        prompt = kit.prompts.get(str(run.prompt_name), version=run.prompt_version)
        rendered = kit.prompts.render(prompt, run.variables)
    except KitError:  # its variables did not serve: nothing was rendered then either
        return ""
    return "" if own == next((turn.content for turn in rendered if turn.role == "system"), "") else own


def _pane_of(kit: Kit, run: Run, language: Language) -> list[Any]:
    """Updates of the pane the run is opened in: what was said, and the model and the settings it was said with."""
    request: dict[str, Any] = {"messages": [{"role": turn.role, "content": turn.content} for turn in run.messages]}
    if run.prompt_name in kit.prompts.names():
        own = next((turn.content for turn in run.messages if turn.role == "system"), "")
        version = str(run.prompt_version or "latest")
        request = {"prompt": run.prompt_name, "version": version, "variables": dict(run.variables), "system": _override(kit, run, own)}
    listed = [entry.id for entry in kit.models.entries()]
    model = gr.Dropdown(choices=listed, value=run.model) if run.model in listed else gr.skip()
    return [turns_of(run), facts_of(kit, run, language), remember(run, request), model, *shown_settings(kit, run.model, run.params)]


def _table(runs: list[Run], language: Language) -> Any:
    import pandas as pd

    heads = [say(f"history.{name}", language) for name in ("when", "prompt", "output", "model", "facts")]
    rows = [
        [
            f"{run.created_at:%Y-%m-%d %H:%M:%S}",
            f"{run.prompt_name} v{run.prompt_version}" if run.prompt_name else run.messages[-1].content[:40] if run.messages else "",
            (run.output or error_text(run.error, language)).replace("\n", " ")[:80],
            run.model,
            " · ".join([*([say("history.notebook", language)] if run.participant == LOCAL else []), brief_of(run, language)]),
            run.id,
        ]
        for run in runs
    ]
    return pd.DataFrame(rows, columns=[*heads, "id"])
