"""The adapters sub-tab: what was made, each with its card; try it, compare it with its base, take it home, or bring one along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import Cancelled, KitError
from llmops_kit.types import Comparison
from llmops_kit.ui.comparison import results
from llmops_kit.ui.documents.measuring import Measurement, Measurements
from llmops_kit.ui.events import BATCH, QUICK
from llmops_kit.ui.files import progress_bar
from llmops_kit.ui.models import time_left
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors
from llmops_kit.ui.tuning import carrying, outcome, showing, whose
from llmops_kit.ui.tuning.code import adapter_code

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

SHOWN = ("chooser", "card", "actions", "compare", "merged", "files", "deltas", "duel", "compared", "code")
"""What `show` fills, in its order."""
_LOOK_S = 0.4


@dataclass(frozen=True)
class Adapters:
    """The components: what shows an adapter (`parts`, by the names in `SHOWN` and some more) and what is pressed under it."""

    parts: dict[str, Any]
    buttons: dict[str, Any]
    measurements: Measurements

    def outputs(self) -> list[Any]:
        """What `show` fills, in its order."""
        return [self.parts[name] for name in SHOWN]

    def compared(self) -> list[Any]:
        """What the watching of a comparison fills."""
        return [self.parts[name] for name in ("bar", "cancel", "deltas", "duel", "compared")]


def build(kit: Kit, tab: gr.Tab) -> Adapters:
    """Lay out the sub-tab and wire its events; call inside an open `gr.Tab`, which is `tab`."""
    parts: dict[str, Any] = {"compared": gr.State("")}
    buttons: dict[str, Any] = {}
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=2, min_width=300, elem_classes="inputs"):
            _lay_out_chosen(parts, buttons)
            given = carrying.lay_out_import()
        with gr.Column(scale=3, min_width=320):
            _lay_out_shown(parts)
    adapters = Adapters(parts, buttons, Measurements())
    _wire(kit, tab, adapters)
    carrying.wire_downloads(kit, parts, buttons)
    carrying.wire_import(kit, tab, given, shown=adapters.outputs(), show=show)
    return adapters


def _lay_out_chosen(parts: dict[str, Any], buttons: dict[str, Any]) -> None:
    parts["chooser"] = gr.Dropdown([], label=label("tune.adapter"), elem_id="tuning-adapter", interactive=True)
    with gr.Column(visible=False, elem_id="tuning-adapter-actions") as parts["actions"]:
        with gr.Row(elem_classes="buttons"):
            buttons["try"] = gr.Button(label("tune.try"), variant="primary", elem_id="tuning-adapter-try")
            buttons["compare"] = parts["compare"] = gr.Button(label("tune.compare"), elem_id="tuning-adapter-compare")
        with gr.Row(elem_classes="actions"):
            parts["bar"] = gr.HTML(elem_id="tuning-compare-progress", padding=False, min_width=200)
            parts["cancel"] = gr.Button(label("batch.cancel"), size="sm", visible=False, scale=0, min_width=90, elem_id="tuning-compare-cancel")
        with gr.Row(elem_classes="actions"):
            buttons["export"] = gr.Button(label("tune.export"), size="sm", elem_id="tuning-export")
            buttons["merged"] = parts["merged"] = gr.Button(label("tune.export_merged"), size="sm", elem_id="tuning-export-merged")
        parts["files"] = gr.DownloadButton(label("tune.download"), visible=False, elem_id="tuning-download")


def _lay_out_shown(parts: dict[str, Any]) -> None:
    look: dict[str, Any] = {"apply_default_css": False, "padding": False}
    parts["deltas"] = gr.HTML(elem_id="tuning-deltas", css_template=results.CSS, **look)
    parts["duel"] = gr.Button(label("tune.duel"), variant="primary", visible=False, elem_id="tuning-duel")
    parts["card"] = gr.HTML(elem_id="tuning-adapter-card", css_template=showing.CSS, **look)
    with gr.Accordion(label("playground.code"), open=False, elem_id="tuning-adapter-code-drawer"):
        shown: dict[str, Any] = {"interactive": False, "show_label": False, "wrap_lines": True, "show_line_numbers": False}
        parts["code"] = gr.Code(language="python", elem_id="tuning-adapter-code", **shown)


def _wire(kit: Kit, tab: gr.Tab, adapters: Adapters) -> None:
    parts, chosen = adapters.parts, {"model": adapters.parts["chooser"]}
    shown: dict[str, Any] = {"inputs_kwargs": chosen, "outputs": adapters.outputs(), **QUICK}
    opened = tab.select(_on_open(kit), api_name="open_adapters", **shown)
    opened.then(on_watch(kit, adapters), outputs=adapters.compared(), api_name="watch_comparison_again", **BATCH)
    parts["chooser"].input(_on_open(kit), api_name="choose_adapter", **shown)
    begun = adapters.buttons["compare"].click(on_compare(kit, adapters), inputs_kwargs=chosen, api_name="compare_with_base", **QUICK)
    begun.success(on_watch(kit, adapters), outputs=adapters.compared(), api_name="watch_comparison", **BATCH)

    def on_cancel(request: gr.Request) -> None:
        with shown_errors(request):
            if running := adapters.measurements.of(user_of(request).id):
                running.cancel.set()

    parts["cancel"].click(on_cancel, api_name="cancel_comparison", **QUICK)


def show(kit: Kit, request: gr.Request, model: str | None) -> list[Any]:
    """The adapters a person may look at, and the card of one: of `model`, else of the newest. Raises: AccessDenied."""
    language, own = language_of(request), own_models(kit, request)
    chosen = model if model in own else next(iter(own), None)
    if chosen is None:
        nothing = f"<p class='padded'>{say('tune.no_adapters', language)}</p>"
        blank = {"chooser": gr.update(choices=[], value=None), "card": nothing, "actions": gr.update(visible=False), "code": ""}
        return _shown(**blank, files=gr.update(visible=False), deltas="", duel=gr.update(visible=False), compared="")
    card = kit.tuning.card(chosen)
    shown = {"chooser": gr.update(choices=own, value=chosen), "card": outcome.show_card(chosen, card, language), "actions": gr.update(visible=True)}
    shown |= {name: gr.update(visible=bool(card.base)) for name in ("compare", "merged")}  # one from scratch has no base
    shown |= {"files": gr.update(visible=False), "code": adapter_code(kit.settings.workspace, chosen)}
    if model != chosen:
        shown |= {"deltas": "", "duel": gr.update(visible=False), "compared": ""}
    return _shown(**shown)


def own_models(kit: Kit, request: gr.Request) -> list[str]:
    """The tuned models whose cards a person may read, newest first: their own, those of the notebooks, and those taken in from elsewhere."""
    from llmops_kit.tuning.card import has_card

    user = require(user_of(request), "participant", resource="adapters")
    names = (*whose.names_of(user), "")
    found = []
    for entry in kit.models.entries():
        if has_card(entry):
            try:
                card = kit.tuning.card(entry.id)
            except KitError:  # a folder that was taken away or damaged by hand: the model panel says so
                continue
            if card.owner in names:
                found.append((card.created_at, entry.id))
    return [id for _, id in sorted(found, reverse=True)]


def on_compare(kit: Kit, adapters: Adapters) -> Callable[..., None]:
    """The handler that starts the comparison of `model` with its base in the background."""

    def handler(request: gr.Request, *, model: str | None) -> None:
        with shown_errors(request):
            user = require(user_of(request), "participant", resource="comparisons")
            whose.require_own_model(kit, request, model)

            def work(job: Measurement) -> Any:
                def report(done: int, total: int, seconds_left: float | None) -> None:
                    if job.cancel.is_set():
                        raise Cancelled
                    job.report(done, total, seconds_left)

                return kit.tuning.compare(str(model), owner=user.id, progress=report)

            adapters.measurements.start(user.id, "comparison", work, model=str(model))

    return handler


def on_watch(kit: Kit, adapters: Adapters) -> Callable[..., Iterator[list[Any]]]:
    """The handler that shows the person's comparison while it runs, and what came of it; closing the page stops nothing."""

    def handler(request: gr.Request) -> Iterator[list[Any]]:
        language, job = language_of(request), adapters.measurements.of(user_of(request).id)
        if job is None:
            yield [gr.skip()] * 5
            return
        while not job.ended.wait(_LOOK_S):
            yield [_bar(job, language), gr.update(visible=True), gr.skip(), gr.skip(), gr.skip()]
        yield [*_ended(kit, job, language)]

    return handler


def _ended(kit: Kit, job: Measurement, language: Language) -> list[Any]:
    hidden = gr.update(visible=False)
    if job.error is not None:
        told = job.error.text(language) if isinstance(job.error, KitError) else say("tune.compare_failed", language)
        return [showing.show_note(told), hidden, gr.skip(), gr.skip(), gr.skip()]
    id = job.result.attrs["comparison_id"] if job.result is not None else None
    found = kit.store.get(Comparison, id) if id else None
    if found is None:
        return [showing.show_note(say("tune.compare_cancelled", language)), hidden, gr.skip(), gr.skip(), gr.skip()]
    told = say("tune.compared", language, model=job.told["model"], n=len(job.result))
    return [showing.show_note(told), hidden, results.show_deltas(kit, found, None, language), gr.update(visible=True), found.id]


def _on_open(kit: Kit) -> Callable[..., list[Any]]:
    def on_open(request: gr.Request, *, model: str | None) -> list[Any]:
        with shown_errors(request):
            return show(kit, request, model)

    return on_open


def _bar(job: Measurement, language: Language) -> str:
    left = time_left(job.seconds_left, language)
    return progress_bar(job.done, job.total, say("tune.comparing", language, done=job.done, total=job.total or "?", left=left))


def _shown(**updates: Any) -> list[Any]:
    return [updates.get(name, gr.skip()) for name in SHOWN]

