"""The first sub-tab: a data set that is already checked, its first batch, what it will take, and Start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import KitError
from llmops_kit.types import new_id
from llmops_kit.ui.documents.measuring import Measurement, Measurements
from llmops_kit.ui.events import BATCH, QUICK
from llmops_kit.ui.files import progress_bar
from llmops_kit.ui.text import error_words, label, language_of, say, shown_errors
from llmops_kit.ui.tuning import checking, data, estimating, live, planning, recipe, showing
from llmops_kit.ui.tuning.watch import Watch

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

_LOOK_S = 0.3


@dataclass(frozen=True)
class Start:
    """The components: what is learnt from, how, and what is shown of it (`parts`, by the names in `planning.OWN`)."""

    data: data.DataForm
    recipe: recipe.Recipe
    parts: dict[str, Any]
    measure: gr.Button

    def outputs(self) -> list[Any]:
        """What `planning.updates` fills, in its order."""
        return [*self.data.outputs(), self.recipe.base, *self.recipe.outputs(), *(self.parts[name] for name in planning.OWN)]

    def inputs(self) -> dict[str, Any]:
        """What handlers take: the form, the recipe, and what was chosen so far."""
        return {**self.data.inputs(), **self.recipe.inputs(), "asked": self.parts["asked"], "tried": self.parts["tried"]}


def build(kit: Kit, tabs: gr.Tabs, opened: list[gr.Tab], watch: Watch) -> Start:
    """Lay out the sub-tab and wire its events. `opened` are the tabs whose opening shows it; Start leads to `watch`, in another of `tabs`."""
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=2, min_width=300, elem_classes="inputs"):
            start = _lay_out_inputs()
        with gr.Column(scale=3, min_width=320):
            _lay_out_shown(start.parts)
    _wire_data(kit, start, opened)
    _wire_recipe(kit, start)
    _wire_start(kit, start, tabs, watch)
    return start


def _lay_out_inputs() -> Start:
    form = data.lay_out()
    base, preset, name = recipe.lay_out_choice()
    parts: dict[str, Any] = {"asked": gr.State({}), "tried": gr.State(None)}
    parts["estimate"] = gr.HTML(elem_id="tuning-estimate", css_template=estimating.CSS, apply_default_css=False, padding=False)
    with gr.Row(elem_classes="actions"):
        measure = gr.Button(label("tune.measure"), size="sm", elem_id="tuning-measure")
        parts["bar"] = gr.HTML(elem_id="tuning-measured", padding=False, min_width=200)
    with gr.Row(elem_classes="buttons"):
        parts["start"] = gr.Button(label("tune.start"), variant="primary", interactive=False, elem_id="tuning-start")
    chosen = recipe.lay_out_details(base, preset, name)
    return Start(form, chosen, parts, measure)


def _lay_out_shown(parts: dict[str, Any]) -> None:
    look: dict[str, Any] = {"css_template": checking.CSS, "apply_default_css": False, "padding": False}
    parts["report"] = gr.HTML(elem_id="tuning-report", **look)
    parts["preview"] = gr.HTML(elem_id="tuning-preview", **look)
    with gr.Accordion(label("playground.code"), open=False, elem_id="tuning-code-drawer"):
        shown: dict[str, Any] = {"interactive": False, "show_label": False, "wrap_lines": True, "show_line_numbers": False}
        parts["code"] = gr.Code(language="python", elem_id="tuning-code", **shown)


def _wire_data(kit: Kit, start: Start, opened: list[gr.Tab]) -> None:
    inputs, outputs, form = start.inputs(), start.outputs(), start.data
    shown: dict[str, Any] = {"inputs_kwargs": inputs, "outputs": outputs, **QUICK}
    gr.on([tab.select for tab in opened], _on_open(kit), api_name="open_tuning", **shown)
    picked = [form.parts["source"].input, form.parts["sample"].input, form.parts["file"].upload, form.parts["campaign"].input]
    gr.on(picked, _on_data(kit), api_name="choose_tuning_data", **shown)
    gr.on([form.use.click, form.parts["encoding"].input], _on_columns(kit), api_name="map_tuning_columns", **shown)


def _wire_recipe(kit: Kit, start: Start) -> None:
    chosen, shown = start.recipe, {"inputs_kwargs": start.inputs(), "outputs": start.outputs(), **QUICK}
    gr.on([chosen.base.input, chosen.preset.input], _on_plan(kit), api_name="plan_tuning", trigger_mode="always_last", **shown)
    changed = [getattr(part, "blur" if isinstance(part, gr.Number | gr.Textbox) else "input") for part in chosen.fields.values()]
    gr.on(changed, _on_change(kit), api_name="change_tuning", trigger_mode="always_last", **shown)
    chosen.apply.click(_on_yaml(kit), api_name="apply_tuning_yaml", **{**shown, "inputs_kwargs": {**start.inputs(), "yaml": chosen.yaml}})
    chosen.read.upload(_on_yaml_file(kit), api_name="read_tuning_yaml", **{**shown, "inputs_kwargs": {**start.inputs(), "given": chosen.read}})


def _wire_start(kit: Kit, start: Start, tabs: gr.Tabs, watch: Watch) -> None:
    outputs = [start.parts["asked"], tabs, *watch.outputs()]
    start.parts["start"].click(_on_start(kit), inputs_kwargs=start.inputs(), outputs=outputs, api_name="start_tuning", **QUICK)
    measurements = Measurements()
    begun = start.measure.click(_on_measure(kit, measurements), inputs_kwargs=start.inputs(), api_name="try_tuning", **QUICK)
    watched = begun.success(_on_watch(measurements), outputs=[start.parts["bar"], start.parts["tried"]], api_name="watch_tried_tuning", **BATCH)
    shown: dict[str, Any] = {"inputs_kwargs": start.inputs(), "outputs": [start.parts["bar"], start.parts["estimate"]]}
    watched.success(_on_tried(), api_name="show_tried_tuning", **shown, **QUICK)


def _on_open(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_open(request: gr.Request, *, asked: dict[str, Any], base: str | None, **fields: Any) -> Iterator[list[Any]]:
        """The choosers as they are now; the first time, with the bundled set, checked."""
        with shown_errors(request):
            listed = planning.listed(kit, request, base)
            if asked.get("data"):
                yield planning.updates(**listed)
                return
            first = f"sample:{data.FIRST}"
            given = {**fields, "source": "sample", "sample": first, "base": listed["base_value"]}
            yield from planning.look(kit, request, first, given, listed={**listed, "sample": {**listed["sample"], "value": first}})

    return on_open


def _on_data(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_data(request: gr.Request, *, asked: dict[str, Any], **fields: Any) -> Iterator[list[Any]]:
        with shown_errors(request):
            source = str(fields["source"])
            if not fields.get(source):
                yield planning.waiting(source, language_of(request))
                return
            if asked.get("source") == source and asked.get("data") == fields[source]:
                yield planning.updates()
                return
            yield from planning.look(kit, request, data.chosen(kit, request, fields), {**fields, "name": ""})

    return on_data


def _on_columns(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_columns(request: gr.Request, *, asked: dict[str, Any], **fields: Any) -> Iterator[list[Any]]:
        with shown_errors(request):
            how = {"columns": data.columns(fields), "encoding": fields.get("encoding") or None}
            yield from planning.look(kit, request, data.chosen(kit, request, fields), fields, how=how)

    return on_columns


def _on_plan(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_plan(request: gr.Request, *, asked: dict[str, Any], **fields: Any) -> Iterator[list[Any]]:
        with shown_errors(request):
            yield from planning.plan(kit, request, asked, fields)

    return on_plan


def _on_change(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_change(request: gr.Request, *, asked: dict[str, Any], **fields: Any) -> Iterator[list[Any]]:
        with shown_errors(request):
            yield from planning.change(kit, request, asked, fields)

    return on_change


def _on_yaml(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_yaml(request: gr.Request, *, asked: dict[str, Any], yaml: str, **fields: Any) -> Iterator[list[Any]]:
        with shown_errors(request):
            yield from planning.take_yaml(kit, request, asked, yaml, fields)

    return on_yaml


def _on_yaml_file(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_yaml_file(request: gr.Request, *, asked: dict[str, Any], given: str, **fields: Any) -> Iterator[list[Any]]:
        with shown_errors(request):
            yield from planning.take_yaml(kit, request, asked, planning.read_text(given), fields)

    return on_yaml_file


def _on_start(kit: Kit) -> Callable[..., list[Any]]:
    def on_start(request: gr.Request, *, asked: dict[str, Any], **fields: Any) -> list[Any]:
        """Launch what the page shows and go to where it is watched. The id was minted when the page was filled: a second click is the same job."""
        with shown_errors(request):
            user = require(user_of(request), "participant", resource="jobs")
            spec = planning.spec_to_start(kit, asked, fields)
            data.check_ratings(kit, request, spec.data)
            measured = planning.find_tried(spec.model_dump(), fields.get("tried"))
            job = kit.tuning.launch(spec, owner=user.id, id=asked["id"], estimate=measured)
            return [{**asked, "id": new_id()}, gr.Tabs(selected="jobs"), *live.draw(kit, request, job.id)]

    return on_start


def _on_measure(kit: Kit, measurements: Measurements) -> Callable[..., None]:
    def on_measure(request: gr.Request, *, asked: dict[str, Any], **fields: Any) -> None:
        with shown_errors(request):
            user, spec = require(user_of(request), "participant", resource="jobs"), planning.spec_of(asked, fields)
            data.check_ratings(kit, request, spec.data)

            def work(job: Measurement) -> Any:
                return kit.tuning.estimate(spec, trial=True, progress=job.report)

            measurements.start(user.id, "trial", work, spec=spec.model_dump())

    return on_measure


def _on_watch(measurements: Measurements) -> Callable[..., Iterator[list[Any]]]:
    def on_watch(request: gr.Request) -> Iterator[list[Any]]:
        language, job = language_of(request), measurements.of(user_of(request).id)
        if job is None:
            yield [gr.skip(), gr.skip()]
            return
        while not job.ended.wait(_LOOK_S):
            yield [progress_bar(job.done, job.total, say("tune.measuring", language, done=job.done, total=job.total or "?")), gr.skip()]
        if job.error is not None:  # the estimate that is there still holds
            told = error_words(job.error, language) if isinstance(job.error, KitError) else say("tune.measure_failed", language)
            yield [showing.show_note(told), None]
        else:
            yield ["", {"spec": job.told["spec"], "estimate": job.result}]

    return on_watch


def _on_tried() -> Callable[..., list[Any]]:
    def on_tried(request: gr.Request, *, asked: dict[str, Any], tried: dict[str, Any] | None, **fields: Any) -> list[Any]:
        """What was measured, in place of the estimate; a plan that was changed meanwhile keeps its own."""
        if tried is None:
            return [gr.skip(), gr.skip()]
        if (measured := planning.find_tried(asked.get("spec"), tried)) is not None:
            return ["", estimating.show_estimate(measured, language_of(request))]
        return [showing.show_note(say("tune.measured_other", language_of(request))), gr.skip()]

    return on_tried
