"""The test-set sub-tab: many items to several variants, one row per item and one column per variant; stoppable and resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.ui import form
from llmops_kit.ui.comparison import choosing, example, items, results, variants
from llmops_kit.ui.comparison.code import batch_code, deltas_code
from llmops_kit.ui.events import BATCH, QUICK
from llmops_kit.ui.files import progress_bar
from llmops_kit.ui.models import time_left
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.comparison.batch import Step
    from llmops_kit.kit import Kit

SLOTS = 8
_TABLE_S = 2.0
"""Seconds between two redraws of the answers."""
_BAR_S = 0.2
"""Seconds between two moves of the bar."""
_SHOWN = ("items", "bar", "table", "deltas", "baseline", "row", "chosen", *results.KINDS, "note", "open", "code", "earlier", "comparison")


@dataclass(frozen=True)
class SetTab:
    """The components: what is asked (`form`, `slots`, `asked`), what is pressed (`buttons`), what is shown (by the names in `_SHOWN`)."""

    form: gr.Dropdown
    slots: list[variants.Slot]
    asked: dict[str, Any]
    buttons: dict[str, Any]
    shown: dict[str, Any]

    def outputs(self) -> list[Any]:
        """What every handler that shows a comparison fills, in its order."""
        return [self.shown[name] for name in _SHOWN]


def build(kit: Kit, tab: gr.Tab, keys: gr.State) -> SetTab:
    """Lay out the sub-tab and wire its events; call inside an open `gr.Tab`, which is `tab`."""
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=1, min_width=300, elem_classes="inputs"):
            prompt, slots, asked, buttons = _lay_out_asked()
        with gr.Column(scale=3, min_width=320):
            with gr.Accordion(label("compare.items"), open=True, elem_id="test-items") as folded:
                asked |= items.lay_out()
            shown = {"items": folded, **_lay_out_shown(buttons)}
    test = SetTab(prompt, slots, asked, buttons, shown)
    items.wire(kit, prompt, asked)
    _wire_form(kit, tab, test)
    _wire_running(kit, test, keys)
    _wire_looking(kit, test)
    return test


def _lay_out_asked() -> tuple[gr.Dropdown, list[variants.Slot], dict[str, Any], dict[str, Any]]:
    prompt = gr.Dropdown([], label=label("playground.prompt"), elem_id="test-prompt", interactive=True)
    asked: dict[str, Any] = {"count": gr.Slider(1, SLOTS, value=2, step=1, label=label("compare.count"), elem_id="test-count")}
    slots = [variants.build_slot(index, "test", shown=index < 2) for index in range(SLOTS)]
    asked["share"] = gr.Checkbox(True, label=label("compare.open"), info=label("compare.open_info"), elem_id="test-share")
    with gr.Row(elem_classes="buttons"):
        buttons: dict[str, Any] = {"run": gr.Button(label("compare.run"), variant="primary", elem_id="test-run")}
        buttons["cancel"] = gr.Button(label("batch.cancel"), elem_id="test-cancel")
        buttons["resume"] = gr.Button(label("batch.resume"), elem_id="test-resume")
    return prompt, slots, asked, buttons


def _lay_out_shown(buttons: dict[str, Any]) -> dict[str, Any]:
    shown: dict[str, Any] = {"comparison": gr.State(""), "bar": gr.HTML(elem_id="test-progress")}
    shown["baseline"] = gr.Dropdown([], label=label("compare.baseline"), visible=False, elem_id="test-baseline", interactive=True)
    shown["deltas"] = gr.HTML(elem_id="test-deltas", css_template=results.CSS, apply_default_css=False)
    look: dict[str, Any] = {"label": label("compare.answers"), "max_height": 420, "wrap": True, "show_search": "filter", "elem_id": "test-table"}
    shown["table"] = gr.Dataframe(visible=False, interactive=False, **look)
    shown["chosen"] = gr.State("")
    shown["row"] = gr.HTML(elem_id="test-row", css_template=results.CSS, apply_default_css=False)
    shown["open"] = gr.Checkbox(False, label=label("compare.open"), visible=False, container=False, elem_id="test-open", min_width=220)
    with gr.Row(elem_classes="actions"):
        buttons["duel"] = gr.Button(label("compare.duel_these"), size="sm", elem_id="test-duel")
        for kind in results.KINDS:
            shown[kind] = gr.DownloadButton(label(f"batch.{kind}"), size="sm", interactive=False, elem_id=f"test-{kind}")
    shown["note"] = gr.Markdown(elem_classes="quiet", elem_id="test-note")
    with gr.Row(elem_classes="actions"):
        shown["earlier"] = gr.Dropdown([], label=label("compare.earlier"), elem_id="test-earlier", scale=3, min_width=220, interactive=True)
        buttons["again"] = gr.Button(label("batch.previous"), size="sm", elem_id="test-again")
    with gr.Accordion(label("playground.code"), open=False, elem_id="test-code-drawer"):
        code: dict[str, Any] = {"interactive": False, "show_label": False, "wrap_lines": True, "show_line_numbers": False}
        shown["code"] = gr.Code(language="python", elem_id="test-code", **code)
    return shown


def _wire_form(kit: Kit, tab: gr.Tab, test: SetTab) -> None:
    def on_open(request: gr.Request, *, prompt: str | None, comparison: str, **given: Any) -> list[Any]:
        """The choosers as they are now; the first time, with a few items to try."""
        with shown_errors(request):
            language, user = language_of(request), require(user_of(request), "participant", resource="comparisons").id
            name = prompt or example.PROMPT
            choices = gr.Dropdown(choices=form.choices(kit, language), value=name)
            typed = items.typing(kit, name, example.rows(kit, language)[:3], language) if prompt is None else gr.skip()
            slots = variants.refresh(kit, user, language, slots=SLOTS, prompt=name, given=given)
            return [choices, typed, _earlier(kit, request, comparison), *slots]

    def on_prompt(request: gr.Request, *, prompt: str, **given: Any) -> list[Any]:
        with shown_errors(request):
            language, user = language_of(request), require(user_of(request), "participant", resource="comparisons").id
            fresh = {name: value for name, value in given.items() if not name.startswith("version_")}
            return variants.refresh(kit, user, language, slots=SLOTS, prompt=prompt, given=fresh)

    chosen: dict[str, Any] = {"prompt": test.form, **variants.fields(test.slots)}
    opened = [test.form, test.asked["typed"], test.shown["earlier"], *variants.outputs(test.slots)]
    inputs = {**chosen, "comparison": test.shown["comparison"]}
    tab.select(on_open, inputs_kwargs=inputs, outputs=opened, api_name="open_test", **QUICK)
    test.form.input(on_prompt, inputs_kwargs=chosen, outputs=variants.outputs(test.slots), api_name="choose_test_prompt", **QUICK)
    groups = [slot.group for slot in test.slots]
    counted: dict[str, Any] = {"inputs_kwargs": {"count": test.asked["count"]}, "outputs": groups, **QUICK}
    test.asked["count"].change(lambda *, count: [gr.Column(visible=index < int(count)) for index in range(SLOTS)], api_name="set_test_count", **counted)


def _wire_running(kit: Kit, test: SetTab, keys: gr.State) -> None:
    one: dict[str, Any] = {"comparison": test.shown["comparison"]}
    given = {"prompt": test.form, **variants.fields(test.slots), **items.fields(test.asked), "count": test.asked["count"], "share": test.asked["share"]}
    outputs, buttons = test.outputs(), test.buttons
    running = buttons["run"].click(_on_run(kit), inputs_kwargs={**given, "keys": keys}, outputs=outputs, api_name="run_grid_test", **BATCH)
    resumed = buttons["resume"].click(_on_resume(kit), inputs_kwargs={**one, "keys": keys}, outputs=outputs, api_name="resume_grid_test", **BATCH)
    # Gradio sends the cancel only after a listener's own function, so what is done is shown by a second one.
    stopped = buttons["cancel"].click(None, cancels=[running, resumed], api_name="cancel_test", **QUICK)
    stopped.then(_on_show(kit, "compare.cancelled"), inputs_kwargs=one, outputs=outputs, api_name="show_cancelled_test", **QUICK)
    earlier = {"comparison": test.shown["earlier"]}
    buttons["again"].click(_on_show(kit, "compare.opened"), inputs_kwargs=earlier, outputs=outputs, api_name="open_earlier_test", **QUICK)


def _wire_looking(kit: Kit, test: SetTab) -> None:
    def on_row(request: gr.Request, event: gr.SelectData, *, comparison: str, baseline: str | None) -> list[Any]:
        with shown_errors(request):
            found = choosing.find_comparison(kit, request, comparison, own=True)
            item = str(event.row_value[0])
            return [results.show_row(kit, found, item, baseline, language_of(request)), item]

    def on_baseline(request: gr.Request, *, comparison: str, baseline: str | None, chosen: str) -> list[Any]:
        with shown_errors(request):
            found, language = choosing.find_comparison(kit, request, comparison, own=True), language_of(request)
            row = results.show_row(kit, found, chosen, baseline, language) if chosen else ""
            return [results.show_deltas(kit, found, baseline, language), row, deltas_code(kit.settings.workspace, found.id, baseline)]

    def on_open(request: gr.Request, *, comparison: str, opened: bool) -> None:
        with shown_errors(request):
            choosing.set_open(kit, request, comparison, opened)
            gr.Info(say("compare.now_open" if opened else "compare.now_closed", language_of(request)))

    shown = test.shown
    one: dict[str, Any] = {"comparison": shown["comparison"], "baseline": shown["baseline"]}
    shown["table"].select(on_row, inputs_kwargs=one, outputs=[shown["row"], shown["chosen"]], api_name="choose_test_row", **QUICK)
    outputs = [shown["deltas"], shown["row"], shown["code"]]
    shown["baseline"].input(on_baseline, inputs_kwargs={**one, "chosen": shown["chosen"]}, outputs=outputs, api_name="choose_test_baseline", **QUICK)
    opening = {"comparison": shown["comparison"], "opened": shown["open"]}
    shown["open"].input(on_open, inputs_kwargs=opening, api_name="open_comparison", **QUICK)


def _on_run(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_run(request: gr.Request, *, prompt: str, count: int, share: bool, keys: dict[str, str], **fields: Any) -> Iterator[list[Any]]:
        with shown_errors(request):
            user = require(user_of(request), "participant", resource="comparisons").id
            chosen = variants.read(int(count), fields)
            rows, lines = items.read(kit, prompt, fields)
            code = batch_code(kit.settings.workspace, prompt, variants.in_code(prompt, chosen), rows=lines)
            asked: dict[str, Any] = {"participant": choosing.own_names(user), "api_keys": keys}
            steps = kit.comparison.stream_batch(form.chosen(kit, prompt, "latest"), variants.make(kit, prompt, chosen), rows, **asked)
            yield from _show_steps(kit, steps, request, code, share=share)

    return on_run


def _on_resume(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_resume(request: gr.Request, *, comparison: str, keys: dict[str, str]) -> Iterator[list[Any]]:
        with shown_errors(request):
            found = choosing.find_comparison(kit, request, comparison, own=True)
            steps = kit.comparison.stream_batch(resume=found.id, participant=choosing.own_names(user_of(request).id), api_keys=keys)
            yield from _show_steps(kit, steps, request, deltas_code(kit.settings.workspace, found.id, None))

    return on_resume


def _on_show(kit: Kit, sentence: str) -> Callable[..., list[Any]]:
    def on_show(request: gr.Request, *, comparison: str | None) -> list[Any]:
        if not comparison and sentence == "compare.cancelled":
            return _shown()
        with shown_errors(request):
            found = choosing.find_comparison(kit, request, comparison, own=True)
            return _shown(**results.ended(kit, found, language_of(request), sentence=sentence), code=deltas_code(kit.settings.workspace, found.id, None))

    return on_show


def _show_steps(kit: Kit, steps: Iterator[Step], request: gr.Request, code: str, *, share: bool | None = None) -> Iterator[list[Any]]:
    """Updates while a test set runs: the bar a few times a second, the answers every other second, differences and files at the end."""
    language, started_s = language_of(request), time.monotonic()
    moved_s = drawn_s = started_s
    comparison = ""
    for step in steps:
        now_s = time.monotonic()
        if not comparison:
            comparison = step.comparison_id
            if share is not None:
                choosing.set_open(kit, request, comparison, share)
            files = {kind: gr.DownloadButton(value=None, interactive=False) for kind in results.KINDS}
            blank = {"deltas": "", "row": "", "chosen": "", "note": "", "baseline": gr.Dropdown(visible=False), "open": gr.Checkbox(visible=False)}
            blank["items"] = gr.Accordion(open=False)
            cleared = {**blank, **files, "earlier": _earlier(kit, request, comparison), "table": gr.Dataframe(value=None, visible=False)}
            yield _shown(comparison=comparison, bar=_bar(step, language), code=code, **cleared)
        elif now_s - moved_s > _BAR_S:
            moved_s, drawing = now_s, now_s - drawn_s > _TABLE_S
            yield _shown(bar=_bar(step, language), **({"table": results.table(kit, comparison, language)} if drawing else {}))
            drawn_s = time.monotonic() if drawing else drawn_s
    took = f"{time.monotonic() - started_s:.1f}"
    found = choosing.find_comparison(kit, request, comparison, own=True)
    yield _shown(**results.ended(kit, found, language, sentence="compare.finished", seconds=took))


def _shown(**updates: Any) -> list[Any]:
    """Updates in the order of `_SHOWN`; what is not named stays as it is."""
    return [updates.get(name, gr.skip()) for name in _SHOWN]


def _earlier(kit: Kit, request: gr.Request, chosen: str) -> Any:
    """The person's own test sets, the newest first."""
    names = choosing.own_names(user_of(request).id)
    own = [each for each in choosing.visible(kit, request) if each.participant in names and len(each.spec.get("rows") or ()) > 1]
    return choosing.chooser(kit, own, language_of(request), chosen=chosen)


def _bar(step: Step, language: Language) -> str:
    done = step.done + step.failed
    return progress_bar(done, step.total, say("compare.progress", language, done=done, total=step.total, left=time_left(step.seconds_left, language)))
