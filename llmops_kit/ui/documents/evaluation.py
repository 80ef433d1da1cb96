"""The Evaluate sub-tab: test questions in a table, how often the search finds their passages, and what would find more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import user_of
from llmops_kit.documents.collections import names_of
from llmops_kit.errors import InputError, InvalidValue, KitError
from llmops_kit.ui.documents import figures
from llmops_kit.ui.documents.chooser import Chooser, chosen_of, participants_of
from llmops_kit.ui.documents.code import measure_code
from llmops_kit.ui.documents.measuring import Measurement, Measurements
from llmops_kit.ui.events import BATCH, QUICK
from llmops_kit.ui.files import offer, progress_bar
from llmops_kit.ui.models import time_left
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.kit import Kit

ROWS = 10
_LOOK_S = 0.3
_FIELDS = ("question", "passage", "document", "answer")
_MODES = ("hybrid", "lexical", "dense")
_SHOWN = ("bar", "cancel", "questions", "report", "rows", "sweep", "code")


@dataclass(frozen=True)
class _Parts:
    """The components: what is asked (`form`), what is pressed (`buttons`), and what is shown (by the names in `_SHOWN`)."""

    form: dict[str, Any]
    buttons: dict[str, Any]
    shown: dict[str, Any]


def build(kit: Kit, tab: gr.Tab, chooser: Chooser, keys: gr.State) -> None:
    """Lay out the sub-tab and wire its events; call inside an open `gr.Tab`, which is `tab`."""
    measurements = Measurements()
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=2, min_width=300, elem_classes="inputs"):
            form, buttons = _lay_out_form()
        with gr.Column(scale=5, min_width=320):
            shown = _lay_out_shown()
    parts = _Parts(form, buttons, shown)
    _wire_questions(kit, tab, parts, chooser)
    _wire_measuring(kit, measurements, parts, tab=tab, chooser=chooser, keys=keys)


def _lay_out_form() -> tuple[dict[str, Any], dict[str, Any]]:
    gr.Markdown(label("rag_eval.intro"), elem_classes="quiet")
    buttons: dict[str, Any] = {}
    with gr.Row(elem_classes="buttons"):
        buttons["sample"] = gr.Button(label("rag_eval.sample"), size="sm", elem_id="rag-eval-sample")
        types = [".csv", ".tsv", ".xlsx", ".jsonl", ".json"]
        buttons["upload"] = gr.UploadButton(label("rag_eval.upload"), file_types=types, size="sm", elem_id="rag-eval-upload")
        buttons["download"] = gr.Button(label("rag_eval.download"), size="sm", elem_id="rag-eval-download")
        buttons["file"] = gr.DownloadButton(label("rag_eval.file"), size="sm", visible=False, elem_id="rag-eval-file")
    modes = [(label(f"ask.mode_{mode}"), mode) for mode in _MODES]
    form: dict[str, Any] = {"modes": gr.CheckboxGroup(modes, value=list(_MODES), label=label("ask.mode"), elem_id="rag-eval-modes")}
    grading: dict[str, Any] = {"label": label("rag_eval.model"), "info": label("rag_eval.model_info"), "elem_id": "rag-eval-model"}
    form["model"] = gr.Dropdown([("–", "")], value="", interactive=True, **grading)
    with gr.Row(elem_classes="buttons"):
        buttons["run"] = gr.Button(label("rag_eval.run"), variant="primary", elem_id="rag-eval-run")
    with gr.Accordion(label("rag_eval.make"), open=False, elem_id="rag-eval-make"):
        gr.Markdown(label("rag_eval.make_info"), elem_classes="quiet")
        form["n"] = gr.Slider(1, 50, value=10, step=1, label=label("rag_eval.n"), elem_id="rag-eval-n")
        form["maker"] = gr.Dropdown([], label=label("rag_eval.maker"), elem_id="rag-eval-maker", interactive=True)
        buttons["generate"] = gr.Button(label("rag_eval.generate"), size="sm", elem_id="rag-eval-generate")
    with gr.Accordion(label("rag_eval.sweep_title"), open=False, elem_id="rag-eval-more"):
        gr.Markdown(label("rag_eval.sweep_info"), elem_classes="quiet")
        form["sizes"] = gr.Textbox("200, 400, 800", label=label("rag_eval.sizes"), max_lines=1, elem_id="rag-eval-sizes")
        form["embedders"] = gr.Dropdown([], multiselect=True, label=label("rag_eval.embedders"), elem_id="rag-eval-embedders", interactive=True)
        buttons["sweep"] = gr.Button(label("rag_eval.sweep"), size="sm", elem_id="rag-eval-sweep")
    return form, buttons


def _lay_out_shown() -> dict[str, Any]:
    look: dict[str, Any] = {"interactive": True, "wrap": True, "show_label": False, "max_height": 300, "elem_id": "rag-eval-questions"}
    look["column_widths"] = ["230px", "340px", "170px", "200px"]
    shown: dict[str, Any] = {"questions": gr.Dataframe(headers=list(_FIELDS), row_count=ROWS, column_count=4, type="pandas", datatype="str", **look)}
    with gr.Row(elem_classes="buttons"):
        shown["bar"] = gr.HTML(elem_id="rag-eval-progress", min_width=240)
        shown["cancel"] = gr.Button(label("batch.cancel"), size="sm", visible=False, scale=0, min_width=90, elem_id="rag-eval-cancel")
    shown["report"] = gr.HTML(elem_id="rag-eval-report", css_template=figures.CSS, apply_default_css=False)
    shown["rows"] = gr.Dataframe(visible=False, interactive=False, wrap=True, label=label("rag_eval.rows"), max_height=360, elem_id="rag-eval-rows")
    shown["sweep"] = gr.HTML(elem_id="rag-eval-swept", css_template=figures.CSS, apply_default_css=False)
    with gr.Accordion(label("playground.code"), open=False, elem_id="rag-eval-code-drawer"):
        shown["code"] = gr.Code(language="python", interactive=False, show_label=False, elem_id="rag-eval-code", wrap_lines=True, show_line_numbers=False)
    return shown


def _wire_questions(kit: Kit, tab: gr.Tab, parts: _Parts, chooser: Chooser) -> None:
    questions, form, buttons = parts.shown["questions"], parts.form, parts.buttons

    def on_open(request: gr.Request, *, questions: Any, collection: str | None) -> list[Any]:
        language, rows = language_of(request), _filled(questions)
        chat = [entry.id for entry in kit.models.entries()]
        embedders = [entry.id for entry in kit.models.entries(embedders=True) if entry.kind == "embedding" and kit.models.state(entry.id).is_ready]
        maker: list[Any] = [(say("rag_eval.offline", language), "starter-reader"), *(id for id in chat if id != "starter-reader")]
        choices = [gr.Dropdown(choices=[("–", ""), *chat]), gr.Dropdown(choices=maker, value="starter-reader"), gr.Dropdown(choices=embedders)]
        return [figures.questions_frame(rows, language, least=ROWS), *choices]

    def on_sample(request: gr.Request) -> Any:
        from llmops_kit.documents.questions import read_questions
        from llmops_kit.documents.samples import QUESTIONS

        with shown_errors(request):
            read = read_questions(QUESTIONS)
            return _frame_of(read, language_of(request))

    def on_upload(request: gr.Request, *, file: str) -> Any:
        from llmops_kit.documents.questions import read_questions

        with shown_errors(request):
            return _frame_of(read_questions(file), language_of(request))

    def on_download(request: gr.Request, *, questions: Any) -> Any:
        from llmops_kit.documents.questions import questions_to_csv

        with shown_errors(request):
            return gr.DownloadButton(value=offer("questions.csv", questions_to_csv(_questions_of(questions))), visible=True)

    listed = [questions, form["model"], form["maker"], form["embedders"]]
    tab.select(on_open, inputs_kwargs={"questions": questions, "collection": chooser.collection}, outputs=listed, api_name="open_evaluation", **QUICK)
    buttons["sample"].click(on_sample, outputs=[questions], api_name="sample_questions", **QUICK)
    buttons["upload"].upload(on_upload, inputs_kwargs={"file": buttons["upload"]}, outputs=[questions], api_name="read_questions", **QUICK)
    buttons["download"].click(on_download, inputs_kwargs={"questions": questions}, outputs=[buttons["file"]], api_name="write_questions", **QUICK)


def _wire_measuring(kit: Kit, measurements: Measurements, parts: _Parts, *, tab: gr.Tab, chooser: Chooser, keys: gr.State) -> None:
    outputs = [parts.shown[name] for name in _SHOWN]
    one: dict[str, Any] = {"collection": chooser.collection, "keys": keys}
    asked: dict[str, Any] = {**one, "questions": parts.shown["questions"], "modes": parts.form["modes"]}
    inputs: dict[str, dict[str, Any]] = {
        "run": {**asked, "model": parts.form["model"]},
        "sweep": {**asked, "sizes": parts.form["sizes"], "embedders": parts.form["embedders"]},
        "generate": {**one, "n": parts.form["n"], "maker": parts.form["maker"]},
    }
    starts = {"run": _on_run, "sweep": _on_sweep, "generate": _on_generate}
    for name, start in starts.items():
        begun = parts.buttons[name].click(start(kit, measurements), inputs_kwargs=inputs[name], api_name=f"measure_{name}", **QUICK)
        begun.success(_on_watch(measurements), outputs=outputs, api_name=f"watch_{name}", **BATCH)
    tab.select(_on_watch(measurements), outputs=outputs, api_name="watch_measurement", **BATCH)

    def on_cancel(request: gr.Request) -> None:
        with shown_errors(request):
            if running := measurements.of(user_of(request).id):
                running.cancel.set()

    parts.shown["cancel"].click(on_cancel, api_name="cancel_measurement", **QUICK)


def _on_run(kit: Kit, measurements: Measurements) -> Callable[..., None]:
    def on_run(request: gr.Request, *, collection: str | None, keys: dict[str, str], questions: Any, modes: list[str], model: str) -> None:
        with shown_errors(request):
            found, whose, asked = chosen_of(kit, request, collection), participants_of(request), _questions_of(questions)
            answering = {"model": model, "api_key": keys.get(model)} if model else {}

            def work(job: Measurement) -> Any:
                how: dict[str, Any] = {"progress": job.report, "cancel": job.cancel, **answering}
                return kit.documents.evaluate(asked, collection=found.id, modes=modes, participant=whose, **how)

            code = measure_code(kit.settings.workspace, "evaluate", "questions.csv", found, names_of(whose), modes=modes, model=model)
            measurements.start(user_of(request).id, "evaluate", work, code=code)

    return on_run


def _on_sweep(kit: Kit, measurements: Measurements) -> Callable[..., None]:
    def on_sweep(
        request: gr.Request, *, collection: str | None, keys: dict[str, str], questions: Any, modes: list[str], sizes: str, embedders: list[str]
    ) -> None:
        with shown_errors(request):
            found, whose, asked = chosen_of(kit, request, collection), participants_of(request), _questions_of(questions)
            options: dict[str, Any] = {"chunk_sizes": _sizes_of(sizes), "modes": modes, "embedders": embedders or None}

            def work(job: Measurement) -> Any:
                return kit.documents.sweep(asked, collection=found.id, participant=whose, progress=job.report, cancel=job.cancel, **options)

            code = measure_code(kit.settings.workspace, "sweep", "questions.csv", found, names_of(whose), **options)
            measurements.start(user_of(request).id, "sweep", work, code=code)

    return on_sweep


def _on_generate(kit: Kit, measurements: Measurements) -> Callable[..., None]:
    def on_generate(request: gr.Request, *, collection: str | None, keys: dict[str, str], n: int, maker: str) -> None:
        with shown_errors(request):
            found, whose = chosen_of(kit, request, collection), participants_of(request)

            def work(job: Measurement) -> Any:
                how: dict[str, Any] = {"api_key": keys.get(maker), "progress": job.report, "cancel": job.cancel}
                return kit.documents.make_questions(collection=found.id, n=int(n), model=maker, participant=whose, **how)

            measurements.start(user_of(request).id, "generate", work)

    return on_generate


def _on_watch(measurements: Measurements) -> Callable[..., Iterator[list[Any]]]:
    def on_watch(request: gr.Request) -> Iterator[list[Any]]:
        """The bar while it runs, and what came of it; closing the page stops nothing."""
        language, job = language_of(request), measurements.of(user_of(request).id)
        if job is None:
            yield _shown()
            return
        while not job.ended.is_set():
            yield _shown(bar=_bar(job, language), cancel=gr.Button(visible=True))
            job.ended.wait(_LOOK_S)
        yield _shown(cancel=gr.Button(visible=False), **_ended(job, language))

    return on_watch


def _ended(job: Measurement, language: Language) -> dict[str, Any]:
    if job.error is not None:
        told = job.error.text(language) if isinstance(job.error, KitError) else say("documents.failed", language)
        return {"bar": _note(told)}
    if job.result is None:
        return {"bar": _note(say("rag_eval.cancelled", language))}
    key = "rag_eval.stopped" if job.cancel.is_set() else "rag_eval.finished"
    shown: dict[str, Any] = {"bar": _note(say(key, language, seconds=f"{time.monotonic() - job.started_s:.0f}"))}
    if job.kind == "generate":
        return {"bar": _note(say("rag_eval.made", language, n=len(job.result))), "questions": _frame_of(job.result, language)}
    if job.kind == "sweep":
        return {**shown, "sweep": figures.show_sweep(job.result, language), **job.told}
    rows = figures.rows_table(job.result, language)
    graded = ["240px", "70px", "80px", "70px"] if job.result.spec.get("model") else []
    widths: list[str | int] = ["64px", "240px", "110px", *(["110px"] * len(job.result.modes)), "420px", *graded]
    table = gr.Dataframe(value=rows, visible=True, column_widths=widths)
    return {**shown, "report": figures.show_report(job.result, language), "rows": table, **job.told}


def _shown(**updates: Any) -> list[Any]:
    return [updates.get(name, gr.skip()) for name in _SHOWN]


def _bar(job: Measurement, language: Language) -> str:
    left = "–" if job.seconds_left is None else time_left(job.seconds_left, language)
    return progress_bar(job.done, job.total, say("rag_eval.progress", language, done=job.done, total=job.total, left=left))


def _note(text: str) -> str:
    import html

    return f"<div class='quiet'>{html.escape(text)}</div>"


def _frame_of(questions: Any, language: Language) -> pd.DataFrame:
    rows = [[str(getattr(each, name) or "") for name in _FIELDS] for each in questions]
    return figures.questions_frame(rows, language, least=ROWS)


def _filled(questions: pd.DataFrame) -> list[list[str]]:
    """The rows of the table that say anything."""
    rows = [["" if cell is None or cell != cell else str(cell).strip() for cell in row][:4] for row in questions.values.tolist()]
    return [row for row in rows if any(row)]


def _questions_of(table: pd.DataFrame) -> Any:
    """The questions of the table. Raises: InputError, where there are none."""
    from llmops_kit.documents.questions import read_questions

    rows = [dict(zip(_FIELDS, row, strict=True)) for row in _filled(table) if row[0]]
    if not rows:
        raise InputError(en=say("rag_eval.no_questions", "en"), ja=say("rag_eval.no_questions", "ja"))
    return read_questions(rows)


def _sizes_of(text: str) -> list[int]:
    import re
    import unicodedata

    parts = [part for part in re.split(r"[,、\s]+", unicodedata.normalize("NFKC", text).strip()) if part]
    if not parts or not all(part.isdecimal() for part in parts) or len(parts) > 6:
        raise InvalidValue(name="chunk_sizes", value=text[:40], allowed="200, 400, 800")
    return [int(part) for part in parts]
