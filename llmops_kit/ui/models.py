"""The model panel: what can answer, what it still needs, and the buttons that get it there."""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import InputError
from llmops_kit.ui.code import models_code
from llmops_kit.ui.events import BATCH, QUICK
from llmops_kit.ui.files import progress_bar
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit
    from llmops_kit.models.download import DownloadProgress

_ADDED = ("add_id", "add_url", "add_model")
_STOP_S = 5.0
"""Seconds a stopped download is waited for."""


@dataclass(frozen=True)
class Panel:
    """The panel's components: the first four are what the top bar fills when it opens."""

    group: gr.Column
    table: gr.Dataframe
    memory: gr.Markdown
    chosen: gr.Dropdown
    download: gr.Button
    cancel: gr.Button
    check: gr.Button
    progress: gr.HTML
    key: gr.Textbox
    use: gr.Button
    added: dict[str, Any]
    add: gr.Button


def build(kit: Kit, keys: gr.State, pickers: list[gr.Dropdown]) -> Panel:
    """Lay out the panel, hidden at first, and wire its events. `pickers` are the model choosers that follow the catalogue."""
    with gr.Column(visible=False, elem_id="model-panel", elem_classes="panel") as group:
        gr.Markdown(label("models.intro"), elem_classes="quiet")
        table = gr.Dataframe(interactive=False, show_label=False, max_height=300, wrap=True, show_search="search", elem_id="models-table")
        memory = gr.Markdown(elem_classes="quiet", elem_id="models-memory")
        with gr.Row():
            with gr.Column(min_width=260):
                chosen = gr.Dropdown([], label=label("models.choose"), elem_id="models-choose", interactive=True)
                with gr.Row(elem_classes="buttons"):
                    download = gr.Button(label("models.download"), size="sm", elem_id="models-download")
                    cancel = gr.Button(label("models.cancel"), size="sm", elem_id="models-cancel")
                    check = gr.Button(label("models.check"), size="sm", elem_id="models-check")
                progress = gr.HTML(elem_id="models-progress")
            with gr.Column(min_width=260):
                key = gr.Textbox(type="password", label=label("models.key"), info=label("models.key_info"), elem_id="models-key")
                use = gr.Button(label("models.key_set"), size="sm", elem_id="models-use-key")
            with gr.Column(min_width=260):
                added = {name: gr.Textbox(label=label(f"models.{name}"), elem_id=f"models-{name.replace('_', '-')}") for name in _ADDED}
                add = gr.Button(label("models.add_button"), size="sm", elem_id="models-add")
        with gr.Accordion(label("playground.code"), open=False):
            gr.Code(models_code(kit.settings.workspace), language="python", interactive=False, show_label=False, show_line_numbers=False)
    panel = Panel(group, table, memory, chosen, download, cancel, check, progress, key, use, added, add)
    _wire(kit, panel, keys, pickers)
    return panel


def _wire(kit: Kit, panel: Panel, keys: gr.State, pickers: list[gr.Dropdown]) -> None:
    chosen: dict[str, Any] = {"chosen": panel.chosen, "keys": keys}
    panel.use.click(_on_use(kit), inputs_kwargs={**chosen, "key": panel.key}, outputs=[keys, panel.key, panel.table], api_name="use_key", **QUICK)
    outputs = [panel.table, panel.memory, panel.chosen, *pickers]
    panel.add.click(_on_add(kit, pickers), inputs_kwargs={**panel.added, "keys": keys}, outputs=outputs, api_name="add_model", **QUICK)
    panel.check.click(_on_check(kit), inputs_kwargs=chosen, outputs=[panel.progress], api_name="check_model", **QUICK)
    _wire_download(kit, panel, keys)
    _wire_choosers(kit, pickers)


def _wire_download(kit: Kit, panel: Panel, keys: gr.State) -> None:
    def on_refresh(request: gr.Request, *, keys: dict[str, str]) -> list[Any]:
        return refresh(kit, language_of(request), keys)

    reached = gr.State({})
    outputs: list[Any] = [panel.progress, reached]
    listing: dict[str, Any] = {"inputs_kwargs": {"keys": keys}, "outputs": [panel.table, panel.memory], **QUICK}
    one: dict[str, Any] = {"chosen": panel.chosen}
    fetching = panel.download.click(_on_download(kit), inputs_kwargs=one, outputs=outputs, api_name="download_model", **BATCH)
    fetching.then(on_refresh, api_name="refresh_models", **listing)
    # Gradio sends the cancel only after a listener's own function, so where it stopped is shown by a second one.
    stopped = panel.cancel.click(None, cancels=[fetching], api_name="cancel_download", **QUICK)
    told = stopped.then(_on_stopped(kit), inputs_kwargs={"reached": reached}, outputs=outputs, api_name="show_cancelled_download", **QUICK)
    told.then(on_refresh, api_name="refresh_models_after", **listing)


def _wire_choosers(kit: Kit, pickers: list[gr.Dropdown]) -> None:
    """A chooser that opens knows the models added on other pages since."""

    def on_focus(*, known: list[str]) -> list[Any]:
        ids = [entry.id for entry in kit.models.entries()]
        # A list that did not change is not sent again: it would move under the reader's hand.
        return [gr.skip()] * (1 + len(pickers)) if ids == known else [ids, *(gr.Dropdown(choices=ids) for _ in pickers)]

    known = gr.State([entry.id for entry in kit.models.entries()])
    opened = [picker.focus for picker in pickers]
    gr.on(opened, on_focus, inputs_kwargs={"known": known}, outputs=[known, *pickers], api_name="list_models", **QUICK)


def _on_use(kit: Kit) -> Callable[..., tuple[dict[str, str], str, Any]]:
    def on_use(request: gr.Request, *, chosen: str, key: str, keys: dict[str, str]) -> tuple[dict[str, str], str, Any]:
        with shown_errors(request):
            require(user_of(request), "participant", resource=chosen)
            if key.strip():
                _check_takes_key(kit, chosen)
        # A changed copy: the session's dictionary is replaced, never shared.
        changed = {name: value for name, value in keys.items() if name != chosen} | ({chosen: key.strip()} if key.strip() else {})
        gr.Info(say("models.key_used" if key.strip() else "models.key_cleared", language_of(request), name=chosen))
        return changed, "", catalogue_table(kit, language_of(request), changed)

    return on_use


def _check_takes_key(kit: Kit, id: str) -> None:
    """Refuse a key where none would be used. Raises: `InputError` that says why, `UnknownName`."""
    entry = kit.models.get(id)
    if entry.provider != "openai":
        reason = "models.key_in_environment" if entry.gated else "models.key_not_needed"
        raise InputError(en=say(reason, "en", name=id), ja=say(reason, "ja", name=id))


def _on_add(kit: Kit, pickers: list[gr.Dropdown]) -> Callable[..., list[Any]]:
    def on_add(request: gr.Request, *, add_id: str, add_url: str, add_model: str, keys: dict[str, str]) -> list[Any]:
        with shown_errors(request):
            require(user_of(request), "owner", resource=kit.settings.catalogue_file.name)
            kit.models.add(add_id.strip(), provider="openai", base_url=add_url.strip(), model=add_model.strip() or add_id.strip())
        gr.Info(say("models.added", language_of(request), id=add_id))
        ids = [entry.id for entry in kit.models.entries()]
        return [*refresh(kit, language_of(request), keys), gr.Dropdown(choices=ids, value=add_id.strip()), *(gr.Dropdown(choices=ids) for _ in pickers)]

    return on_add


def _on_check(kit: Kit) -> Callable[..., str]:
    def on_check(request: gr.Request, *, chosen: str, keys: dict[str, str]) -> str:
        with shown_errors(request):
            require(user_of(request), "participant", resource=chosen)
            result = kit.models.check(chosen, api_key=keys.get(chosen))
        language = language_of(request)
        verdict = say("models.check_ok" if result.passed else "models.check_bad", language, detail=result.text(language))
        wrong = "".join(f"<li>{html.escape(difference.line())}</li>" for difference in result.differences)
        return f"<p>{html.escape(verdict)}</p>" + (f"<ul>{wrong}</ul>" if wrong else "")

    return on_check


def refresh(kit: Kit, language: Language, keys: dict[str, str]) -> list[Any]:
    """Updates of the table and of the memory line."""
    loaded = kit.models.loaded()
    models = " · ".join(f"{each.id} {each.memory_mb:.0f} MB ({each.device}, {each.dtype})" for each in loaded)
    lines = [say("models.loaded", language, models=models) if loaded else say("models.nothing_loaded", language)]
    for id, load in kit.models.loads().items():
        facts = {"running": load.running, "slots": load.slots, "waiting": load.waiting, "speed": f"{load.tokens_per_s:.0f}"}
        lines.append(say("models.load", language, id=id, **facts))
    return [catalogue_table(kit, language, keys), "\n\n".join(lines)]


def catalogue_table(kit: Kit, language: Language, keys: dict[str, str]) -> Any:
    """The catalogue as people read it: name, state in words, sizes with units."""
    import pandas as pd

    table = kit.models.table(language)
    states = [
        kit.models.state(id, api_key=keys[id]).text(language) if id in keys else state for id, state in zip(table["id"], table["state_text"], strict=True)
    ]
    shown: dict[str, Any] = {
        "id": table["id"],
        "state": states,
        "name": table["name"],
        "size": [_amount(value, "MB", 0) for value in table["size_mb"]],
        "memory": [_amount(value, "GB", 1) for value in table["memory_gb"]],
        "context": [_amount(value, "", 0) for value in table["context_tokens"]],
        "licence": table["licence"].fillna("–"),
    }
    return pd.DataFrame({say(f"models.{name}", language): values for name, values in shown.items()})


def _amount(value: float | None, unit: str, digits: int) -> str:
    return f"{value:,.{digits}f} {unit}".strip() if value is not None and value == value else "–"


def time_left(seconds: float | None, language: Language) -> str:
    """Seconds in the words of a clock: 45 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None:
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return say("time.seconds", language, s=whole)
    if whole < 3600:
        return say("time.minutes", language, m=whole // 60, s=whole % 60)
    return say("time.hours", language, h=whole // 3600, m=whole % 3600 // 60)


def _on_download(kit: Kit) -> Callable[..., Iterator[tuple[str, dict[str, Any]]]]:
    def on_download(request: gr.Request, *, chosen: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The bar, and how far it is for whoever stops it."""
        with shown_errors(request):
            require(user_of(request), "owner", resource=chosen)
        language, cancel, seen = language_of(request), threading.Event(), _Seen()
        worker = threading.Thread(target=seen.fetch, args=(kit, chosen, cancel), daemon=True)
        worker.start()
        yield say("models.asking_hub", language), {"id": chosen}
        try:
            while worker.is_alive():
                worker.join(0.5)
                if (step := seen.step) is not None:
                    reached = {"id": chosen, "done_mb": step.done_mb, "total_mb": step.total_mb}
                    yield _bar(reached, say("models.downloading", language, left=time_left(step.seconds_left, language), **_sizes(reached))), reached
        finally:
            cancel.set()
        if seen.error is not None:
            yield "", {}
            with shown_errors(request):
                raise seen.error
        yield progress_bar(1, 1, say("models.downloaded", language, id=chosen)), {}

    return on_download


def _on_stopped(kit: Kit) -> Callable[..., Any]:
    def on_stopped(request: gr.Request, *, reached: dict[str, Any]) -> Any:
        """Say where a download was stopped, once it has really ended and may be started again."""
        if not reached:
            return gr.skip(), gr.skip()
        give_up_s = time.monotonic() + _STOP_S
        while kit.models.state(reached["id"]).status == "downloading" and time.monotonic() < give_up_s:
            time.sleep(0.1)
        language = language_of(request)
        return _bar(reached, say("models.stopped" if "done_mb" in reached else "models.stopped_early", language, **_sizes(reached))), {}

    return on_stopped


def _bar(reached: dict[str, Any], text: str) -> str:
    return progress_bar(int(reached.get("done_mb", 0)), int(reached.get("total_mb", 1)), text)


def _sizes(reached: dict[str, Any]) -> dict[str, str]:
    """Megabytes for people: with a decimal as long as they are few."""
    total = reached.get("total_mb", 0.0)
    digits = 0 if total >= 100 else 1
    return {"done": f"{reached.get('done_mb', 0.0):,.{digits}f}", "total": f"{total:,.{digits}f}"}


class _Seen:
    """What a download thread has reported so far."""

    def __init__(self) -> None:
        self.step: DownloadProgress | None = None
        self.error: BaseException | None = None

    def fetch(self, kit: Kit, model: str, cancel: threading.Event) -> None:
        try:
            kit.models.download(model, progress=self.report, cancel=cancel)
        except BaseException as error:  # noqa: BLE001 - carried to the thread that watches, which raises it
            self.error = error

    def report(self, step: DownloadProgress) -> None:
        self.step = step
