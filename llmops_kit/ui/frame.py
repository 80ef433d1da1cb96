"""The frame: the top bar, the tabs in the order of the loop, the look, and what happens when the page opens."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.ui import batch, form, history, models, playground, versions
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.text import Language, label, language_of, say

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

FIRST_MODEL = "starter-lm"
_FONTS = ["system-ui", "Hiragino Sans", "Yu Gothic UI", "Meiryo", "Noto Sans CJK JP", "Noto Sans JP", "sans-serif"]
_SWITCH = """() => fetch("language", {{
  method: "POST", headers: {{"content-type": "application/json"}}, body: JSON.stringify({{language: "{0}"}})
}}).then(() => location.reload())"""
_LOOK_S = 4.0
"""Seconds between two looks at which models are loaded and busy."""

HEAD = '<meta name="robots" content="noindex">'

CSS = """
.gradio-container {max-width: 1560px !important; width: 100%; box-sizing: border-box; margin: 0 auto !important; padding: 0 !important}
.main.app {max-width: none !important; width: 100%; box-sizing: border-box; padding: 8px 12px !important}
.top {align-items: center; gap: 8px; flex-wrap: nowrap}
.top h1 {font-size: 1.1rem; margin: 0; display: inline} .top .prose {padding: 0}
.top small {color: var(--body-text-color-subdued)}
.top button {flex: 0 0 auto; min-width: 0 !important; width: auto !important}
.quiet, .quiet p, .facts, .facts p {color: var(--body-text-color-subdued); font-size: .87rem}
.facts {min-height: 1.6em; padding: 0 4px}
.buttons, .quiet-row {gap: 6px; align-items: end} .quiet-row button, .buttons button {min-width: 0 !important}
.quiet-row button {font-weight: 400; white-space: nowrap; padding: 4px 6px}
.padded {padding: 12px}
.pane .placeholder {padding: 0 16px; text-align: center; color: var(--body-text-color-subdued)}
.file textarea {font-family: ui-monospace, "Noto Sans Mono CJK JP", monospace}
.progress {display: flex; gap: 10px; align-items: center; flex-wrap: wrap}
.progress progress {width: min(320px, 60vw); height: 12px; appearance: none; border: 0; border-radius: 6px; overflow: hidden}
.progress progress::-webkit-progress-bar {background: var(--neutral-200)}
.progress progress::-webkit-progress-value, .progress progress::-moz-progress-bar {background: var(--primary-500)}
.pane button[aria-label="Clear"], .pane button[aria-label="クリア"] {display: none}
.table-wrap td, .table-wrap th, .virtual-table-viewport * {font-family: var(--font)}
.panel {border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 12px; background: var(--background-fill-secondary)}
footer {display: none !important}
@media (max-width: 640px) {
  .main.app {padding: 4px 6px !important}
  .inputs .buttons {position: sticky; bottom: 0; z-index: 20; background: var(--body-background-fill); padding: 6px 0}
  #run {min-height: 48px}
  .panes {flex-direction: column}
  .pane {min-width: 0 !important}
}
"""


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
            japanese = gr.Button("日本語", size="sm", elem_id="to-japanese")
            english = gr.Button("English", size="sm", elem_id="to-english")
        panel_slot = gr.Column()
        with gr.Tabs(elem_id="nouns"), gr.Tab(label("tab.playground"), id="playground"), gr.Tabs(elem_id="playground-tabs") as tabs:
            with gr.Tab(label("tab.try"), id="try"):
                tried = playground.build(kit, keys)
            with gr.Tab(label("tab.batch"), id="batch", render_children=True) as batch_tab:
                batched = batch.build(kit, batch_tab, keys)
            with gr.Tab(label("tab.history"), id="history", render_children=True) as history_tab:
                history.build(kit, history_tab, tabs, tried)
            with gr.Tab(label("tab.versions"), id="versions", render_children=True) as versions_tab:
                versions.build(kit, versions_tab)
        with gr.Accordion(label("app.help"), open=False):
            gr.Markdown(label("app.help_text"))
        pickers = [*(pane.model for pane in tried.panes), batched.models]
        with panel_slot:
            panel = models.build(kit, keys, pickers)
        _wire(kit, blocks, tried, pickers, panel, (open_models, japanese, english), keys)
    return blocks


def _wire(kit: Kit, blocks: gr.Blocks, tried: playground.TryTab, pickers: list[gr.Dropdown], panel: models.Panel, buttons: Any, keys: gr.State) -> None:
    open_models, japanese, english = buttons
    shown, look = gr.State(False), gr.Timer(_LOOK_S)

    def on_tick(request: gr.Request) -> Any:
        _preload(kit)  # not while the page itself is loading: importing torch would slow that down
        return on_look(request)

    def on_look(request: gr.Request) -> Any:
        return gr.Button(_status(kit, language_of(request)))

    def on_load(request: gr.Request) -> list[Any]:
        language = language_of(request)
        listed = [entry.id for entry in kit.models.entries()]
        filled = tried.fill(form.FIRST_PROMPT, "latest", language)
        form_updates, (first, *_), rest = filled[: len(tried.form.outputs())], filled[-6:-5], filled[-6:]
        values = [first, rest[3], "starter-reader", "starter-lm"]
        chosen = [gr.Dropdown(choices=listed, value=value) for value in values]
        return [
            gr.Dropdown(choices=form.choices(kit, language), value=form.FIRST_PROMPT),
            *form_updates,
            *chosen,
            gr.Dropdown(choices=listed, value=["starter-lm"]),
            rest[1],
            rest[2],
            rest[4],
            rest[5],
        ]

    def on_open(request: gr.Request, *, shown: bool, keys: dict[str, str]) -> list[Any]:
        language = language_of(request)
        listed = [entry.id for entry in kit.models.entries()]
        return [gr.Column(visible=not shown), not shown, *models.refresh(kit, language, keys), gr.Dropdown(choices=listed, value="starter-lm")]

    settings = [part for pane in tried.panes[:2] for part in (pane.settings["temperature"], pane.settings["max_tokens"])]
    blocks.load(on_load, outputs=[tried.form.prompt, *tried.form.outputs(), *pickers, *settings], api_name="open_page", **QUICK)
    open_models.click(
        on_open,
        inputs_kwargs={"shown": shown, "keys": keys},
        outputs=[panel.group, shown, panel.table, panel.memory, panel.chosen],
        api_name="open_models",
        **QUICK,
    )
    blocks.load(on_look, outputs=[open_models], api_name="look_at_models", **QUICK)
    look.tick(on_tick, outputs=[open_models], api_name="watch_models", **QUICK)
    japanese.click(None, js=_SWITCH.format("ja"), api_name="speak_japanese")
    english.click(None, js=_SWITCH.format("en"), api_name="speak_english")


def _preload(kit: Kit) -> None:
    """Load the default model while the first reader is still reading, so that the first answer does not wait for it."""
    if kit.settings.preload and not kit.models.loaded() and kit.models.state(FIRST_MODEL).status != "loading":
        threading.Thread(target=kit.models.chat, args=(FIRST_MODEL,), daemon=True, name="preload").start()


def _status(kit: Kit, language: Language) -> str:
    """The loaded models with a dot: ○ none yet, ● ready, ◐ with the number of answers under way."""
    busy, loaded = kit.playground.under_way, [each.id for each in kit.models.loaded()]
    names = say("app.loading", language) if not loaded else loaded[0] if len(loaded) == 1 else f"{loaded[0]} +{len(loaded) - 1}"
    return f"{'◐' if busy else '●' if loaded else '○'} {names}" + (f" · {say('app.busy', language, n=busy)}" if busy else "")


def _workspace(kit: Kit) -> str:
    return f"<small>{kit.settings.workspace.name}</small>"
