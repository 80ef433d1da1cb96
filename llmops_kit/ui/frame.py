"""The frame: the top bar, the tabs in the order of the loop, the look, and what happens when the page opens."""

from __future__ import annotations

import logging
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import user_of
from llmops_kit.errors import KitError
from llmops_kit.playground import name_owner
from llmops_kit.ui import batch, bell, comparison, documents, feedback, form, history, models, playground, tuning, versions
from llmops_kit.ui.comparison import opening as duels
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.text import Language, label, language_of, say
from llmops_kit.ui.tuning import opening

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

_FONTS = ["system-ui", "Hiragino Sans", "Yu Gothic UI", "Meiryo", "Noto Sans CJK JP", "Noto Sans JP", "sans-serif"]
_SWITCH = """() => fetch("language", {{
  method: "POST", headers: {{"content-type": "application/json"}}, body: JSON.stringify({{language: "{0}"}})
}}).then(() => location.reload())"""
_LOOK_S = 4.0
"""Seconds between two looks at which models are loaded and busy."""
_log = logging.getLogger(__name__)

HEAD = '<meta name="robots" content="noindex">'

CSS = (
    """
.gradio-container {max-width: 1560px !important; width: 100%; box-sizing: border-box; margin: 0 auto !important; padding: 0 !important}
.main.app {max-width: none !important; width: 100%; box-sizing: border-box; padding: 8px 12px !important}
.top {align-items: center; gap: 8px; flex-wrap: nowrap}
.top h1 {font-size: 1.1rem; margin: 0; display: inline} .top .prose {padding: 0}
.top small {color: var(--body-text-color-subdued)}
.top button {flex: 0 0 auto; min-width: 0 !important; width: auto !important}
.quiet, .quiet p, .facts, .facts p {color: var(--body-text-color-subdued); font-size: .87rem}
.facts {min-height: 1.6em; padding: 0 4px; word-break: keep-all; overflow-wrap: anywhere}
.buttons, .quiet-row {gap: 6px; align-items: end} .quiet-row button, .buttons button {min-width: 0 !important}
.actions {gap: 6px; align-items: end; flex-wrap: wrap} .actions > button {flex: 0 0 auto; width: auto !important; white-space: nowrap}
.quiet-row {flex-wrap: wrap} .quiet-row button {font-weight: 400; white-space: nowrap; padding: 4px 8px; flex: 0 0 auto; width: auto !important}
.padded {padding: 12px}
.pane .placeholder {padding: 0 16px; text-align: center; color: var(--body-text-color-subdued)}
.file textarea {font-family: ui-monospace, "Noto Sans Mono CJK JP", monospace}
.progress {display: flex; gap: 10px; align-items: center; flex-wrap: wrap}
.progress progress {width: min(320px, 60vw); height: 12px; appearance: none; border: 0; border-radius: 6px; overflow: hidden}
.progress progress::-webkit-progress-bar {background: var(--neutral-200)}
.progress progress::-webkit-progress-value {background: var(--primary-500)}
.progress progress::-moz-progress-bar {background: var(--primary-500)}
.pane button[aria-label*="lear"], .pane button[aria-label*="クリア"] {display: none}
.follow {align-items: stretch}
.table-wrap td, .table-wrap th, .virtual-table-viewport * {font-family: var(--font)}
.last-hidden th:last-child, .last-hidden td:last-child, .last-hidden [role="gridcell"]:last-child {display: none !important}
#documents-encoding .wrap {flex-direction: column; align-items: stretch}
.work .html-container {padding: 0 4px}
.note {padding: 4px 10px; margin: 4px 0; border-left: 3px solid var(--neutral-300); font-size: .93rem}
.panel, #model-panel, #documents-report {
  border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 12px; background: var(--background-fill-secondary)
}
footer {display: none !important}
.toast-wrap {top: auto !important; bottom: 16px !important; pointer-events: none} .toast-wrap > * {pointer-events: auto}
.toast-title {display: none !important}
#product {white-space: nowrap} #open-models {flex-shrink: 1 !important; overflow: hidden; text-overflow: ellipsis; white-space: nowrap}
@media (max-width: 640px) {
  .top {gap: 4px} .top h1 {font-size: .95rem} .top small {display: none}
  .main.app {padding: 4px 6px !important}
  .inputs .buttons {position: sticky; bottom: 0; z-index: 20; background: var(--body-background-fill); padding: 6px 0}
  #run, #documents-index {min-height: 48px; flex: 1 0 100%}
  .panes {flex-direction: column}
  .pane {min-width: 0 !important}
  .follow > :first-child, .chooser > * {flex: 1 0 100% !important}
  .chooser {flex-wrap: wrap}
}
"""
    + comparison.CSS
    + feedback.CSS
    + tuning.CSS
    + bell.CSS
)


def theme() -> gr.themes.Base:
    """One accent colour, the system's fonts (Japanese ones among the first), nothing from the network."""
    sizes, mono = gr.themes.sizes, ["ui-monospace", "Noto Sans Mono CJK JP", "monospace"]
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        spacing_size=sizes.spacing_sm,
        text_size=sizes.text_md,
        font=_FONTS,
        font_mono=mono,
    )


def build(kit: Kit) -> gr.Blocks:
    """The whole app on an open kit, not yet mounted anywhere."""
    blocks: gr.Blocks
    with gr.Blocks(title="llmops_kit", delete_cache=(3600, 86400), analytics_enabled=False) as blocks:
        keys = gr.State({})
        with gr.Row(elem_classes="top"):
            gr.Markdown(f"# llmops_kit {_workspace(kit)}", elem_id="product")
            open_models = gr.Button(label("app.model"), size="sm", elem_id="open-models")
            ring = bell.lay_out_button()
            japanese = gr.Button("日本語", size="sm", elem_id="to-japanese")
            english = gr.Button("English", size="sm", elem_id="to-english")
        panel_slot = gr.Column()
        with gr.Tabs(elem_id="nouns") as nouns:
            with gr.Tab(label("tab.playground"), id="playground"):
                tried, try_tab, batched, inner = _lay_out_playground(kit, keys)
            with gr.Tab(label("tab.documents"), id="documents") as documents_tab:
                documents.build(kit, documents_tab, keys)
            with gr.Tab(label("tab.tuning"), id="tuning", render_children=True) as tuning_tab:
                tuned = tuning.build(kit, tuning_tab)
            with gr.Tab(label("tab.comparison"), id="comparison") as comparison_tab:
                door = comparison.build(kit, comparison_tab, keys)
            with gr.Tab(label("tab.feedback"), id="feedback") as feedback_tab:
                feedback.build(kit, feedback_tab)
        with gr.Accordion(label("app.help"), open=False):
            gr.Markdown(label("app.help_text"))
        pickers = [*(pane.model for pane in tried.panes), batched.models]
        with panel_slot:
            panel = models.build(kit, keys, pickers)
            rung = bell.lay_out_panel(ring)
        look = gr.Timer(_LOOK_S)
        _wire_models(kit, blocks, pickers, panel, button=open_models, keys=keys, look=look)
        bell.wire(kit, rung, blocks=blocks, timer=look, nouns=nouns, inner=tuned.tabs, watch=tuned.watch)
        opening.wire_out(kit, nouns, inner, tried, shown=tuned.watch, made=tuned.adapters)
        made = tuned.adapters.parts
        duels.wire_from(kit, nouns, door, button=made["duel"], shown=made["compared"], name="adapter")
        _wire_page(kit, blocks, tried, try_tab, batched.models)
        blocks.load(None, js=feedback.OPEN_LINKED, api_name="open_linked", **QUICK)
        for button, language in ((japanese, "ja"), (english, "en")):
            button.click(None, js=_SWITCH.format(language), api_name=f"speak_{language}")
    return blocks


def _lay_out_playground(kit: Kit, keys: gr.State) -> tuple[playground.TryTab, gr.Tab, batch.BatchTab, gr.Tabs]:
    """The first tab with its four sub-tabs."""
    with gr.Tabs(elem_id="playground-tabs") as tabs:
        with gr.Tab(label("tab.try"), id="try") as try_tab:
            tried = playground.build(kit, keys)
        with gr.Tab(label("tab.batch"), id="batch", render_children=True) as batch_tab:
            batched = batch.build(kit, batch_tab, keys)
        with gr.Tab(label("tab.history"), id="history", render_children=True) as history_tab:
            history.build(kit, history_tab, tabs, tried)
        with gr.Tab(label("tab.versions"), id="versions", render_children=True) as versions_tab:
            versions.build(kit, versions_tab)
    return tried, try_tab, batched, tabs


def _wire_page(kit: Kit, blocks: gr.Blocks, tried: playground.TryTab, try_tab: gr.Tab, batch_models: gr.Dropdown) -> None:
    """Fill the page when it opens, and the choosers of the Try tab whenever it is come back to."""

    def on_load(request: gr.Request) -> list[Any]:
        language = language_of(request)
        prompts = gr.Dropdown(choices=form.choices(kit, language), value=form.FIRST_PROMPT)
        models = gr.Dropdown(choices=_listed(kit), value=[playground.FIRST_MODEL])
        return [prompts, models, *playground.choose(kit, form.FIRST_PROMPT, "latest", language, models=list(playground.FIRST_MODELS))]

    def on_return(request: gr.Request, *, prompt: str | None) -> list[Any]:
        listed = _listed(kit)
        return [*form.refresh(kit, prompt, language_of(request)), *(gr.Dropdown(choices=listed) for _ in tried.panes)]

    chosen = tried.form.prompt
    returned = [chosen, tried.form.version, *(pane.model for pane in tried.panes)]
    blocks.load(on_load, outputs=[chosen, batch_models, *tried.outputs()], api_name="open_page", **QUICK)
    try_tab.select(on_return, inputs_kwargs={"prompt": chosen}, outputs=returned, api_name="open_try", **QUICK)


def _wire_models(
    kit: Kit, blocks: gr.Blocks, pickers: list[gr.Dropdown], panel: models.Panel, *, button: gr.Button, keys: gr.State, look: gr.Timer
) -> None:
    """The button in the top bar: what it says, and the panel it opens. The default model is loaded once the page stands."""
    shown, started = gr.State(False), threading.Event()

    def on_look(request: gr.Request) -> Any:
        return gr.Button(_status(kit, language_of(request), user_of(request).id))

    def on_tick(request: gr.Request) -> Any:
        _preload(kit, started)  # not while the page itself is loading: importing torch would slow that down
        return on_look(request)

    def on_open(request: gr.Request, *, shown: bool, keys: dict[str, str]) -> list[Any]:
        listed = _listed(kit)
        panel_updates = [*models.refresh(kit, language_of(request), keys), gr.Dropdown(choices=listed, value=playground.FIRST_MODEL)]
        return [gr.Column(visible=not shown), not shown, *panel_updates, *(gr.Dropdown(choices=listed) for _ in pickers)]

    opened = [panel.group, shown, panel.table, panel.memory, panel.chosen, *pickers]
    button.click(on_open, inputs_kwargs={"shown": shown, "keys": keys}, outputs=opened, api_name="open_models", **QUICK)
    blocks.load(on_look, outputs=[button], api_name="look_at_models", **QUICK)
    look.tick(on_tick, outputs=[button], api_name="watch_models", **QUICK)


def _preload(kit: Kit, started: threading.Event) -> None:
    """Load the default model while the first reader is still reading, so that the first answer does not wait for it.

    Tried once, as soon as it can be loaded: one that is refused, too large or put out of memory is not tried again.
    """
    if not kit.settings.preload or started.is_set() or kit.models.loaded() or not kit.models.state(playground.FIRST_MODEL).is_ready:
        return
    started.set()

    def load() -> None:
        try:
            kit.models.chat(playground.FIRST_MODEL)
        except KitError as error:  # the top bar and the model panel say so too
            _log.warning("%s was not loaded: %s", playground.FIRST_MODEL, error.text("en"))

    threading.Thread(target=load, daemon=True, name="preload").start()


def _status(kit: Kit, language: Language, user: str) -> str:
    """The loaded models with a dot: ○ none, with what the default one waits for; ● ready; ◐ with the answers under way and the person's place in line."""
    busy, loaded = kit.playground.under_way, [each.id for each in kit.models.loaded()]
    dot = "◐" if busy else "●" if loaded else "○"
    if loaded:
        names = loaded[0] if len(loaded) == 1 else f"{loaded[0]} +{len(loaded) - 1}"
    else:
        state = kit.models.state(playground.FIRST_MODEL)
        waits = "" if state.is_ready else f" · {replace(state, reason={}).text(language)}"  # the reason is in the panel
        names = say("app.loading", language) if state.status == "loading" else f"{playground.FIRST_MODEL}{waits}"
    parts = [f"{dot} {names}", *([say("app.busy", language, n=busy)] if busy else [])]
    places = [place.position for id in loaded if (place := kit.models.queue_place(id, name_owner(user, "playground"))) is not None]
    return " · ".join([*parts, *([say("app.place", language, place=min(places) + 1)] if places else [])])


def _listed(kit: Kit) -> list[str]:
    return [entry.id for entry in kit.models.entries()]


def _workspace(kit: Kit) -> str:
    return f"<small>{kit.settings.workspace.name}</small>"
