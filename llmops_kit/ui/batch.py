"""The Many-rows tab: a table in, one answer per row, prompt, model and setting out; stoppable and resumable."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import user_of
from llmops_kit.errors import InputError, InvalidValue
from llmops_kit.types import Prompt
from llmops_kit.ui import form
from llmops_kit.ui.answers import count_cells, find_answers, find_own, list_earlier, offer_files, readable, tell_wandb
from llmops_kit.ui.code import grid_code
from llmops_kit.ui.events import BATCH, QUICK
from llmops_kit.ui.files import progress_bar
from llmops_kit.ui.models import time_left
from llmops_kit.ui.text import Language, label, language_of, localized, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit
    from llmops_kit.playground.grid import GridStep

_TABLE_S = 1.0
"""Seconds between two redraws of the answers: a table is a hundred times as dear as a bar."""


@dataclass(frozen=True)
class BatchTab:
    """What the frame fills when the page opens."""

    models: gr.Dropdown


@dataclass(frozen=True)
class _Parts:
    prompts: gr.Dropdown
    models: gr.Dropdown
    file: gr.File
    mapping: tuple[gr.Dropdown, ...]
    temperatures: gr.Textbox
    max_tokens: gr.Slider
    repeats: gr.Slider
    rows: gr.State
    grid: gr.State
    bar: gr.HTML
    table: gr.Dataframe
    downloads: tuple[gr.DownloadButton, ...]
    wandb: gr.Markdown
    code: gr.Code


def build(kit: Kit, tab: gr.Tab, keys: gr.State) -> BatchTab:
    """Lay out the tab and wire its events; call inside an open `gr.Tab`."""
    gr.Markdown(label("batch.intro"), elem_classes="quiet")
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=1, min_width=300):
            prompts = gr.Dropdown([], multiselect=True, label=label("batch.prompt"), elem_id="batch-prompts", interactive=True)
            file = gr.File(label=label("batch.file"), file_types=[".csv", ".tsv", ".txt", ".jsonl", ".json", ".xlsx"], elem_id="batch-file")
            sample = gr.Button(label("batch.example"), size="sm", elem_id="batch-sample")
            with gr.Accordion(label("batch.mapping"), open=True):
                mapping = tuple(gr.Dropdown([], visible=False, elem_id=f"batch-column-{index}", interactive=True) for index in range(form.SLOTS))
            models = gr.Dropdown([], multiselect=True, label=label("batch.models"), elem_id="batch-models", interactive=True)
            with gr.Accordion(label("playground.more"), open=False):
                temperatures = gr.Textbox("0", label=label("batch.temperatures"), elem_id="batch-temperatures")
                max_tokens = gr.Slider(1, 4096, value=96, step=1, label=label("batch.max_tokens"))
                repeats = gr.Slider(1, 10, value=1, step=1, label=label("batch.repeats"), elem_id="batch-repeats")
                encoding = gr.Dropdown(
                    ["", "utf-8", "cp932", "euc_jp", "iso2022_jp", "utf-16"], value="", label=label("batch.encoding"), elem_id="batch-encoding"
                )
            with gr.Row(elem_classes="buttons"):
                start = gr.Button(label("batch.run"), variant="primary", elem_id="batch-run")
                cancel = gr.Button(label("batch.cancel"), elem_id="batch-cancel")
                resume = gr.Button(label("batch.resume"), elem_id="batch-resume")
        with gr.Column(scale=3, min_width=320):
            about = gr.Markdown(elem_classes="quiet", elem_id="batch-about")
            preview = gr.Dataframe(interactive=False, label=label("batch.preview"), max_height=220, elem_id="batch-preview")
            bar = gr.HTML(elem_id="batch-progress")
            table = gr.Dataframe(interactive=False, label=label("batch.results"), max_height=460, wrap=True, show_search="filter", elem_id="batch-table")
            with gr.Row(elem_classes="buttons"):
                downloads = tuple(gr.DownloadButton(label(f"batch.{kind}"), size="sm", elem_id=f"batch-{kind}") for kind in ("csv", "xlsx", "jsonl"))
            wandb = gr.Markdown(elem_classes="quiet", elem_id="batch-wandb")
            with gr.Row():
                earlier = gr.Dropdown([], label=label("batch.earlier"), elem_id="batch-earlier", scale=3, interactive=True)
                again = gr.Button(label("batch.previous"), size="sm", scale=1, elem_id="batch-open")
            with gr.Accordion(label("playground.code"), open=False):
                code = gr.Code(language="python", interactive=False, show_label=False, show_line_numbers=False)
    rows, grid = gr.State(None), gr.State("")
    parts = _Parts(prompts, models, file, mapping, temperatures, max_tokens, repeats, rows, grid, bar, table, downloads, wandb, code)
    _wire_reading(kit, parts, tab, (sample, encoding, about, preview, earlier))
    _wire_running(kit, parts, keys, (start, cancel, resume, again, earlier))
    return BatchTab(models)


def _wire_reading(kit: Kit, parts: _Parts, tab: gr.Tab, more: Any) -> None:
    sample, encoding, about, preview, earlier = more

    def on_open(request: gr.Request, *, prompts: list[str]) -> list[Any]:
        language = language_of(request)
        return [gr.Dropdown(choices=form.choices(kit, language), value=prompts or [form.FIRST_PROMPT]), list_earlier(kit, request)]

    def on_read(request: gr.Request, *, file: str | None, encoding: str, prompts: list[str]) -> list[Any]:
        from llmops_kit.playground.rows import read_rows

        with shown_errors(request):
            if not file:
                return [gr.skip()] * (3 + form.SLOTS)
            table = read_rows(file, encoding=encoding or None, max_mb=kit.settings.max_upload_mb)
            return _shown_rows(kit, table, prompts, language_of(request))

    def on_sample(request: gr.Request, *, prompts: list[str]) -> list[Any]:
        with shown_errors(request):
            return _shown_rows(kit, _sample_rows(kit, prompts or [form.FIRST_PROMPT]), prompts, language_of(request))

    def on_prompts(request: gr.Request, *, prompts: list[str], rows: Any) -> list[Any]:
        with shown_errors(request):
            return _shown_rows(kit, rows, prompts, language_of(request)) if rows is not None else [gr.skip()] * (3 + form.SLOTS)

    shown = [parts.rows, about, preview, *parts.mapping]
    reading = {"file": parts.file, "encoding": encoding, "prompts": parts.prompts}
    tab.select(on_open, inputs_kwargs={"prompts": parts.prompts}, outputs=[parts.prompts, earlier], api_name="open_batch", **QUICK)
    gr.on([parts.file.upload, encoding.input], on_read, inputs_kwargs=reading, outputs=shown, api_name="read_table", **QUICK)
    sample.click(on_sample, inputs_kwargs={"prompts": parts.prompts}, outputs=shown, api_name="sample_table", **QUICK)
    parts.prompts.input(on_prompts, inputs_kwargs={"prompts": parts.prompts, "rows": parts.rows}, outputs=shown, api_name="map_columns", **QUICK)


def _wire_running(kit: Kit, parts: _Parts, keys: gr.State, more: Any) -> None:
    start, cancel, resume, again, earlier = more
    outputs = [parts.bar, parts.table, parts.grid, *parts.downloads, parts.wandb, parts.code]

    def on_start(
        request: gr.Request,
        *,
        prompts: list[str],
        models: list[str],
        rows: Any,
        temperatures: str,
        max_tokens: int,
        repeats: int,
        keys: dict[str, str],
        **columns: str,
    ) -> Iterator[list[Any]]:
        from llmops_kit.playground.grid import stream_grid

        with shown_errors(request):
            if rows is None:
                raise InputError(en=say("batch.no_rows", "en"), ja=say("batch.no_rows", "ja"))
            mapped = rows.map(_mapping(kit, prompts, columns))
            params = [{"temperature": value, "max_tokens": int(max_tokens)} for value in read_numbers(temperatures)]
            asked = {"prompts": prompts, "models": models, "rows": mapped, "params": params, "repeats": int(repeats)}
            steps = stream_grid(kit.playground, kit.store, **asked, participant=user_of(request).id, api_keys=keys)
            code = grid_code(kit.settings.workspace, prompts, models, file=rows.file, params=params, repeats=int(repeats))
            yield from _show_steps(kit, steps, language_of(request), code)

    def on_resume(request: gr.Request, *, grid: str, keys: dict[str, str]) -> Iterator[list[Any]]:
        from llmops_kit.playground.grid import stream_grid

        with shown_errors(request):
            find_own(kit, grid, request)
            steps = stream_grid(kit.playground, kit.store, resume=grid, api_keys=keys)
            yield from _show_steps(kit, steps, language_of(request), gr.skip())

    def on_cancel(request: gr.Request, *, grid: str) -> list[Any]:
        if not grid:
            return [gr.skip()] * len(outputs)
        find_own(kit, grid, request)
        table = find_answers(kit, grid)
        total = count_cells(kit, grid)
        text = say("batch.cancelled", language_of(request), done=len(table), total=total)
        return [progress_bar(len(table), total, text), readable(table), grid, *offer_files(table), tell_wandb(kit, language_of(request)), gr.skip()]

    def on_open(request: gr.Request, *, earlier: str) -> list[Any]:
        with shown_errors(request):
            find_own(kit, earlier, request)
            table = find_answers(kit, earlier)
        total = count_cells(kit, earlier)
        return [
            progress_bar(len(table), total, f"{len(table)} / {total}"),
            readable(table),
            earlier,
            *offer_files(table),
            tell_wandb(kit, language_of(request)),
            gr.skip(),
        ]

    asked = {"prompts": parts.prompts, "models": parts.models, "rows": parts.rows, "temperatures": parts.temperatures, "max_tokens": parts.max_tokens}
    asked |= {"repeats": parts.repeats, "keys": keys} | {f"column_{index}": column for index, column in enumerate(parts.mapping)}
    running = start.click(on_start, inputs_kwargs=asked, outputs=outputs, api_name="run_grid", **BATCH)
    resumed = resume.click(on_resume, inputs_kwargs={"grid": parts.grid, "keys": keys}, outputs=outputs, api_name="resume_grid", **BATCH)
    stopped = cancel.click(None, cancels=[running, resumed], api_name="cancel_grid", **QUICK)
    stopped.then(on_cancel, inputs_kwargs={"grid": parts.grid}, outputs=outputs, api_name="show_cancelled_grid", **QUICK)
    again.click(on_open, inputs_kwargs={"earlier": earlier}, outputs=outputs, api_name="open_grid", **QUICK)


def _show_steps(kit: Kit, steps: Iterator[GridStep], language: Language, code: Any) -> Iterator[list[Any]]:
    """Updates while a grid runs: the bar at each step, the answers once a second, the files at the end."""
    started, drawn, step = time.monotonic(), 0.0, None
    skips = [gr.skip()] * 5
    for step in steps:
        elapsed_s = time.monotonic() - started
        here = step.done + step.failed
        speed = f"{here / elapsed_s:.1f}" if elapsed_s > 0.5 else "–"
        text = say("batch.progress", language, done=here, total=step.total, speed=speed, left=time_left(step.seconds_left, language))
        table = gr.skip()
        if time.monotonic() - drawn > _TABLE_S and here:
            drawn, table = time.monotonic(), readable(find_answers(kit, step.grid_id))
        yield [progress_bar(here, step.total, text), table, step.grid_id, *skips]
    if step is None:
        return
    table = find_answers(kit, step.grid_id)
    facts = {"done": step.done, "total": step.total, "failed": step.failed, "seconds": f"{time.monotonic() - started:.1f}"}
    bar = progress_bar(step.done + step.failed, step.total, say("batch.finished", language, **facts))
    yield [bar, readable(table), step.grid_id, *offer_files(table), tell_wandb(kit, language), code]


def read_numbers(text: str) -> list[float]:
    """Numbers separated by commas, full-width digits and 、 included. Raises `InvalidValue` naming what is none."""
    numbers = []
    for part in unicodedata.normalize("NFKC", text).replace("、", ",").split(","):
        if part.strip():
            try:
                numbers.append(float(part))
            except ValueError:
                raise InvalidValue(name="temperature", value=part.strip(), allowed="0–2") from None
    return numbers or [0.0]


def _variables(kit: Kit, prompts: list[str]) -> list[Any]:
    """The variables of all chosen prompts, each once."""
    found: dict[str, Any] = {}
    for name in prompts:
        for variable in kit.prompts.get(name).variables:
            found.setdefault(variable.name, variable)
    return list(found.values())[: form.SLOTS]


def _shown_rows(kit: Kit, table: Any, prompts: list[str], language: Language) -> list[Any]:
    from llmops_kit.playground.rows import suggest_mapping

    variables = _variables(kit, prompts)
    suggested = suggest_mapping(table.columns, variables)
    none = say("batch.none", language)
    columns: list[Any] = []
    for index in range(form.SLOTS):
        variable = variables[index] if index < len(variables) else None
        if variable is None:
            columns.append(gr.Dropdown(visible=False))
        else:
            named = localized(variable.label, language) or variable.name
            columns.append(gr.Dropdown(choices=[(none, ""), *table.columns], value=suggested[variable.name] or "", label=named, visible=True))
    about = say("batch.rows_read", language, rows=f"{len(table.rows):,}", columns=len(table.columns), encoding=table.encoding or table.format)
    return [table, about, table.preview(), *columns]


def _mapping(kit: Kit, prompts: list[str], columns: Mapping[str, str]) -> dict[str, str | None]:
    return {variable.name: columns.get(f"column_{index}") or None for index, variable in enumerate(_variables(kit, prompts))}


def _sample_rows(kit: Kit, prompts: list[str]) -> Any:
    """A few rows from the prompt's own examples, in both languages, so that the tab can be tried with one click."""
    from llmops_kit.playground.rows import RowTable

    prompt: Prompt = kit.prompts.get(prompts[0])
    rows = []
    for language in ("ja", "en"):
        rows.append({variable.name: localized(variable.example, language) or str(variable.default or "") for variable in prompt.variables})
    return RowTable(file="sample.csv", format="csv", columns=tuple(variable.name for variable in prompt.variables), rows=tuple(rows), encoding="utf-8")
