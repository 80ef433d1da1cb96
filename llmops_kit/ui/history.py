"""The History tab: a person's own runs, newest first, to be opened in the panes again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import InputError
from llmops_kit.types import Run
from llmops_kit.ui import form
from llmops_kit.ui.code import history_code
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.panes import facts_of, remember, turns_of
from llmops_kit.ui.playground import TryTab
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

_SHOWN = 100


def build(kit: Kit, tab: gr.Tab, tabs: gr.Tabs, playground: TryTab) -> None:
    """Lay out the tab and wire its events; call inside an open `gr.Tab`."""
    gr.Markdown(label("history.intro"), elem_classes="quiet")
    empty = gr.Markdown(label("history.empty"), visible=False, elem_id="history-empty")
    table = gr.Dataframe(interactive=False, wrap=False, max_height=420, show_search="search", elem_id="history-table", show_label=False)
    with gr.Row(elem_classes="buttons"):
        chosen = gr.Textbox(label=label("history.chosen"), interactive=False, elem_id="history-chosen", scale=2)
        pane = gr.Radio([1, 2, 3, 4], value=1, label=label("history.pane"), elem_id="history-pane")
        show = gr.Button(label("history.open"), variant="primary", elem_id="history-open")
        refresh = gr.Button(label("history.refresh"), elem_id="history-refresh")
    with gr.Accordion(label("playground.code"), open=False):
        code = gr.Code(history_code(kit.settings.workspace, None), language="python", interactive=False, show_label=False, show_line_numbers=False)
    ids = gr.State([])

    def on_refresh(request: gr.Request) -> tuple[Any, Any, list[str]]:
        runs = kit.playground.history(participant=user_of(request).id, limit=_SHOWN)
        shown = gr.Dataframe(_table(kit, runs, language_of(request)), visible=bool(runs))
        return gr.Markdown(visible=not runs), shown, [run.id for run in runs]

    def on_select(event: gr.SelectData, *, ids: list[str]) -> tuple[str, str]:
        run_id = str(event.row_value[-1]) if event.row_value else ids[event.index[0]]
        return run_id, history_code(kit.settings.workspace, run_id)

    def on_open(request: gr.Request, *, chosen: str, pane: int) -> list[Any]:
        with shown_errors(request):
            if not chosen:
                raise InputError(en=say("history.none", "en"), ja=say("history.none", "ja"))
            run = kit.playground.get(chosen)
            if run is None:
                raise InputError(en=say("history.none", "en"), ja=say("history.none", "ja"))
            require(user_of(request), "participant", resource=run.id, resource_owner=run.participant)
            return _open(kit, playground, run, int(pane) - 1, language_of(request))

    shown = [part for each in playground.panes for part in (each.column, each.chat, each.facts, each.last, each.model)]
    slots = [part for slot in playground.form.slots for part in (slot.text, slot.select, slot.number)]
    gr.on([tab.select, refresh.click], on_refresh, outputs=[empty, table, ids], api_name="list_history", **QUICK)
    table.select(on_select, inputs_kwargs={"ids": ids}, outputs=[chosen, code], api_name="choose_run", **QUICK)
    show.click(
        on_open,
        inputs_kwargs={"chosen": chosen, "pane": pane},
        outputs=[tabs, playground.form.prompt, *playground.form.outputs(), *shown],
        api_name="open_run",
        **QUICK,
    ).success(_on_fill(kit), inputs_kwargs={"chosen": chosen}, outputs=slots, api_name="fill_run", **QUICK)


def _on_fill(kit: Kit) -> Any:
    def on_fill(request: gr.Request, *, chosen: str) -> list[Any]:
        run = kit.playground.get(chosen)
        if run is not None:
            require(user_of(request), "participant", resource=run.id, resource_owner=run.participant)
        if run is None or run.prompt_name not in kit.prompts.names():
            return [gr.skip()] * (3 * form.SLOTS)
        return form.fill(kit.prompts.get(str(run.prompt_name), version=run.prompt_version), run.variables)

    return on_fill


def _open(kit: Kit, playground: TryTab, run: Run, index: int, language: Language) -> list[Any]:
    known = run.prompt_name in kit.prompts.names() if run.prompt_name else False
    version = str(run.prompt_version or "latest")
    fields = form.show(kit, str(run.prompt_name), version, language) if known else [gr.skip()] * len(playground.form.outputs())
    request: dict[str, Any] = (
        {"prompt": run.prompt_name, "version": version, "variables": dict(run.variables), "system": ""}
        if known
        else {"messages": [{"role": turn.role, "content": turn.content} for turn in run.messages]}
    )
    updates: list[Any] = [gr.Tabs(selected="try"), run.prompt_name if known else gr.skip(), *fields]
    for number in range(len(playground.panes)):
        if number == index:
            facts = facts_of(kit, run, language) + (f"\n\n{run.error}" if run.error else "")
            updates += [gr.Column(visible=True), turns_of(run), facts, remember(run, request), run.model]
        else:
            updates += [gr.skip()] * 5
    return updates


def _table(kit: Kit, runs: list[Run], language: Language) -> Any:
    import pandas as pd

    heads = [say(f"history.{name}", language) for name in ("when", "prompt", "model", "output", "facts")]
    rows = [
        [
            f"{run.created_at:%Y-%m-%d %H:%M:%S}",
            f"{run.prompt_name} v{run.prompt_version}" if run.prompt_name else run.messages[-1].content[:40] if run.messages else "",
            run.model,
            run.output.replace("\n", " ")[:80] or (run.error or "").splitlines()[0][:80] if run.output or run.error else "",
            facts_of(kit, run, language).replace("**", ""),
            run.id,
        ]
        for run in runs
    ]
    return pd.DataFrame(rows, columns=[*heads, "id"])
