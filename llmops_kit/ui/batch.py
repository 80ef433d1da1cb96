"""The Many-rows tab: a table in, one answer per row, prompt, model and setting out; stoppable and resumable."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import user_of
from llmops_kit.ui import form, rows
from llmops_kit.ui.answers import MOST, NEWEST, NewestAnswers, find_answers, find_own, list_earlier, offer_files, readable, tell_wandb, widths
from llmops_kit.ui.code import answers_code, grid_code, resume_code, rows_code
from llmops_kit.ui.events import BATCH, QUICK
from llmops_kit.ui.files import progress_bar
from llmops_kit.ui.models import time_left
from llmops_kit.ui.rating import build_box, build_row, wire_row
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit
    from llmops_kit.playground.grid import GridStep

_TABLE_S = 2.0
"""Seconds between two redraws of the answers: a table is a hundred times as dear as a bar."""
_BAR_S = 0.2
"""Seconds between two moves of the bar."""
_KINDS = ("csv", "xlsx", "jsonl", "wandb_table")
_SHOWN = ("bar", "table", "grid", *_KINDS, "about_table", "code", "earlier")
_ENCODINGS = ["", "utf-8", "cp932", "euc_jp", "iso2022_jp", "utf-16"]


@dataclass(frozen=True)
class BatchTab:
    """What the frame fills when the page opens."""

    models: gr.Dropdown


@dataclass(frozen=True)
class _Asked:
    """What goes in."""

    prompts: gr.Dropdown
    file: gr.File
    sample: gr.Button
    mapping: tuple[gr.Dropdown, ...]
    models: gr.Dropdown
    settings: dict[str, gr.Textbox]
    repeats: gr.Slider
    encoding: gr.Dropdown
    buttons: dict[str, gr.Button]


@dataclass(frozen=True)
class _Answers:
    """What comes out. `shown` has the parts by the names in `_SHOWN`."""

    about: gr.Markdown
    preview: gr.Dataframe
    shown: dict[str, Any]
    again: gr.Button


def build(kit: Kit, tab: gr.Tab, keys: gr.State) -> BatchTab:
    """Lay out the tab and wire its events; call inside an open `gr.Tab`."""
    gr.Markdown(label("batch.intro"), elem_classes="quiet")
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=1, min_width=300, elem_classes="inputs"):
            asked = _lay_out_asked()
        with gr.Column(scale=3, min_width=320):
            answers = _lay_out_answers(kit)
    table = gr.State(None)
    _wire_reading(kit, tab, asked, answers=answers, table=table)
    _wire_running(kit, asked, answers, table=table, keys=keys)
    return BatchTab(asked.models)


def _lay_out_asked() -> _Asked:
    prompts = gr.Dropdown([], multiselect=True, label=label("batch.prompt"), elem_id="batch-prompts", interactive=True)
    types = [".csv", ".tsv", ".txt", ".jsonl", ".json", ".xlsx"]
    file = gr.File(label=label("batch.file"), file_types=types, height=110, elem_id="batch-file")
    sample = gr.Button(label("batch.example"), size="sm", elem_id="batch-sample")
    with gr.Accordion(label("batch.mapping"), open=True):
        mapping = tuple(gr.Dropdown([], visible=False, elem_id=f"batch-column-{index}", interactive=True) for index in range(form.SLOTS))
    models = gr.Dropdown([], multiselect=True, label=label("batch.models"), elem_id="batch-models", interactive=True)
    with gr.Row(elem_classes="buttons"):
        start = gr.Button(label("batch.run"), variant="primary", elem_id="batch-run")
        cancel = gr.Button(label("batch.cancel"), elem_id="batch-cancel")
        resume = gr.Button(label("batch.resume"), elem_id="batch-resume")
    with gr.Accordion(label("playground.more"), open=False, elem_id="batch-more"):
        gr.Markdown(label("batch.settings"), elem_classes="quiet")
        settings = {name: gr.Textbox("", label=label(f"batch.try_{name}"), elem_id=f"batch-{name.replace('_', '-')}") for name in rows.SETTINGS}
        repeats = gr.Slider(1, 10, value=1, step=1, label=label("batch.repeats"), elem_id="batch-repeats")
        encoding = gr.Dropdown(_ENCODINGS, value="", label=label("batch.encoding"), elem_id="batch-encoding")
    return _Asked(prompts, file, sample, mapping, models, settings, repeats, encoding, {"start": start, "cancel": cancel, "resume": resume})


def _lay_out_answers(kit: Kit) -> _Answers:
    about = gr.Markdown(elem_classes="quiet", elem_id="batch-about")
    preview = gr.Dataframe(visible=False, interactive=False, label=label("batch.preview"), max_height=220, wrap=True, elem_id="batch-preview")
    shown: dict[str, Any] = {"grid": gr.State(""), "bar": gr.HTML(elem_id="batch-progress")}
    look: dict[str, Any] = {"label": label("batch.results"), "max_height": 460, "wrap": True, "show_search": "filter", "elem_id": "batch-table"}
    shown["table"] = gr.Dataframe(visible=False, interactive=False, elem_classes="last-hidden", **look)
    with gr.Row(elem_classes="quiet-row", visible=False, elem_id="batch-rate") as row:
        rating = build_row("batch")
    rated = gr.State("")
    shown["table"].select(_on_choose, outputs=[rated, row], api_name="choose_answer", **QUICK)
    wire_row(kit, rating, build_box(kit, "batch"), follows=rated, find=lambda run_id: run_id or None, name="batch")
    with gr.Row(elem_classes="buttons"):
        for kind in _KINDS:
            shown[kind] = gr.DownloadButton(label(f"batch.{kind}"), size="sm", interactive=False, elem_id=f"batch-{kind.replace('_', '-')}")
    shown["about_table"] = gr.Markdown(elem_classes="quiet", elem_id="batch-wandb")
    with gr.Row(elem_classes="buttons"):
        shown["earlier"] = gr.Dropdown([], label=label("batch.earlier"), elem_id="batch-earlier", scale=3, min_width=220, interactive=True)
        again = gr.Button(label("batch.previous"), size="sm", scale=1, min_width=80, elem_id="batch-open")
    with gr.Accordion(label("playground.code"), open=False, elem_id="batch-code-drawer"):
        shown["code"] = gr.Code(language="python", interactive=False, show_label=False, elem_id="batch-code", wrap_lines=True, show_line_numbers=False)
    return _Answers(about, preview, shown, again)


def _on_choose(event: gr.SelectData) -> list[Any]:
    """The answer of the row a person clicked, which can then be rated; `_rated` asks whose it is."""
    run_id = str(event.row_value[-1]) if event.row_value else ""
    return [run_id, gr.Row(visible=bool(run_id))]


def _wire_reading(kit: Kit, tab: gr.Tab, asked: _Asked, *, answers: _Answers, table: gr.State) -> None:
    def on_open(request: gr.Request, *, prompts: list[str], models: list[str], grid: str) -> list[Any]:
        chosen = prompts or [form.FIRST_PROMPT]
        lines = rows_code(rows.sample_rows(kit, chosen).rows)
        code = gr.skip() if grid else grid_code(kit.settings.workspace, chosen, models or ["starter-lm"], rows=lines)
        return [gr.Dropdown(choices=form.choices(kit, language_of(request)), value=chosen), list_earlier(kit, request), code]

    def on_read(request: gr.Request, *, file: str | None, encoding: str, prompts: list[str]) -> list[Any]:
        from llmops_kit.playground.rows import read_rows

        with shown_errors(request):
            read = read_rows(file, encoding=encoding or None, max_mb=kit.settings.max_upload_mb) if file else None
            return rows.show_rows(kit, read, prompts, language_of(request))

    def on_sample(request: gr.Request, *, prompts: list[str]) -> list[Any]:
        with shown_errors(request):
            return rows.show_rows(kit, rows.sample_rows(kit, prompts or [form.FIRST_PROMPT]), prompts, language_of(request))

    def on_prompts(request: gr.Request, *, prompts: list[str], table: Any) -> list[Any]:
        with shown_errors(request):
            return rows.show_rows(kit, table, prompts, language_of(request))

    shown = [table, answers.about, answers.preview, *asked.mapping]
    opening = {"prompts": asked.prompts, "models": asked.models, "grid": answers.shown["grid"]}
    reading = {"file": asked.file, "encoding": asked.encoding, "prompts": asked.prompts}
    opened = [asked.prompts, answers.shown["earlier"], answers.shown["code"]]
    tab.select(on_open, inputs_kwargs=opening, outputs=opened, api_name="open_batch", **QUICK)
    gr.on([asked.file.upload, asked.encoding.input], on_read, inputs_kwargs=reading, outputs=shown, api_name="read_table", **QUICK)
    asked.sample.click(on_sample, inputs_kwargs={"prompts": asked.prompts}, outputs=shown, api_name="sample_table", **QUICK)
    asked.prompts.input(on_prompts, inputs_kwargs={"prompts": asked.prompts, "table": table}, outputs=shown, api_name="map_columns", **QUICK)


def _wire_running(kit: Kit, asked: _Asked, answers: _Answers, *, table: gr.State, keys: gr.State) -> None:
    outputs = [answers.shown[name] for name in _SHOWN]
    grid: dict[str, Any] = {"grid": answers.shown["grid"]}
    inputs: dict[str, Any] = {"prompts": asked.prompts, "models": asked.models, "table": table, "repeats": asked.repeats, "encoding": asked.encoding}
    inputs |= {"keys": keys, **asked.settings, **{f"column_{index}": column for index, column in enumerate(asked.mapping)}}
    buttons = asked.buttons
    running = buttons["start"].click(_on_start(kit), inputs_kwargs=inputs, outputs=outputs, api_name="run_grid", **BATCH)
    resumed = buttons["resume"].click(_on_resume(kit), inputs_kwargs={**grid, "keys": keys}, outputs=outputs, api_name="resume_grid", **BATCH)
    # Gradio sends the cancel only after a listener's own function, so what is done is shown by a second one.
    stopped = buttons["cancel"].click(None, cancels=[running, resumed], api_name="cancel_grid", **QUICK)
    stopped.then(_on_cancel(kit), inputs_kwargs=grid, outputs=outputs, api_name="show_cancelled_grid", **QUICK)
    answers.again.click(_on_again(kit), inputs_kwargs={"earlier": answers.shown["earlier"]}, outputs=outputs, api_name="open_grid", **QUICK)


def _on_start(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_start(
        request: gr.Request,
        *,
        prompts: list[str],
        models: list[str],
        table: Any,
        repeats: int,
        encoding: str,
        keys: dict[str, str],
        temperature: str,
        top_p: str,
        max_tokens: str,
        **columns: str,
    ) -> Iterator[list[Any]]:
        from llmops_kit.playground.grid import stream_grid

        with shown_errors(request):
            read = rows.check_asked(prompts, models, table)
            mapping = rows.map_columns(kit, prompts, columns)
            params = rows.read_params(temperature=temperature, top_p=top_p, max_tokens=max_tokens)
            mapped = read.map(mapping)
            grid: dict[str, Any] = {"prompts": prompts, "models": models, "rows": mapped, "params": params, "repeats": int(repeats)}
            lines = rows_code(mapped, file=read.file, encoding=encoding, mapping=mapping)
            several = {"repeats": int(repeats)} if repeats > 1 else {}
            code = grid_code(kit.settings.workspace, prompts, models, rows=lines, params=params, **several)
            steps = stream_grid(kit.playground, kit.store, **grid, participant=user_of(request).id, api_keys=keys)
            yield from _show_steps(kit, steps, request, code)

    return on_start


def _on_resume(kit: Kit) -> Callable[..., Iterator[list[Any]]]:
    def on_resume(request: gr.Request, *, grid: str, keys: dict[str, str]) -> Iterator[list[Any]]:
        from llmops_kit.playground.grid import stream_grid

        with shown_errors(request):
            find_own(kit, grid, request)
            steps = stream_grid(kit.playground, kit.store, resume=grid, api_keys=keys)
            yield from _show_steps(kit, steps, request, resume_code(kit.settings.workspace, grid))

    return on_resume


def _on_cancel(kit: Kit) -> Callable[..., list[Any]]:
    def on_cancel(request: gr.Request, *, grid: str) -> list[Any]:
        if not grid:
            return _shown()
        with shown_errors(request):
            find_own(kit, grid, request)
            return _shown(**_ended(kit, grid, language_of(request), sentence="batch.cancelled"))

    return on_cancel


def _on_again(kit: Kit) -> Callable[..., list[Any]]:
    def on_again(request: gr.Request, *, earlier: str) -> list[Any]:
        with shown_errors(request):
            find_own(kit, earlier, request)
            ended = _ended(kit, earlier, language_of(request), sentence="batch.opened")
        return _shown(**ended, code=answers_code(kit.settings.workspace, earlier))

    return on_again


def _shown(**updates: Any) -> list[Any]:
    """Updates in the order of `_SHOWN`; what is not named stays as it is."""
    return [updates.get(name, gr.skip()) for name in _SHOWN]


def _ended(kit: Kit, grid: str, language: Language, *, sentence: str, **facts: object) -> dict[str, Any]:
    """Updates for a batch that stands still: how far it is, its answers, its files."""
    table = find_answers(kit, grid)
    total, failed = table.attrs["total"], int(table["error"].notna().sum())
    done = total - table.attrs["missing"]
    if done == total and sentence == "batch.cancelled":
        sentence = "batch.opened"  # it was over before anybody stopped it
    bar = progress_bar(done + failed, total, say(sentence, language, done=done, total=total, failed=failed, **facts))
    about = [say("batch.first_answers", language, most=f"{MOST:,}")] if len(table) > MOST else []
    about += [tell_wandb(kit, grid, language)]
    return {"bar": bar, "table": _table(table, language), "grid": grid, **offer_files(kit, grid, table), "about_table": "\n\n".join(about)}


def _show_steps(kit: Kit, steps: Iterator[GridStep], request: gr.Request, code: str) -> Iterator[list[Any]]:
    """Updates while a grid runs: the bar a few times a second, the newest answers every other second, the files at the end."""
    language, started_s = language_of(request), time.monotonic()
    moved_s = drawn_s = started_s
    newest: NewestAnswers | None = None
    before, grid = 0, ""
    for step in steps:
        now_s, here = time.monotonic(), step.done + step.failed
        if newest is None:
            newest, before, grid = NewestAnswers(kit, step.grid_id), here, step.grid_id
            drawn = _table(newest.table(), language) if before else gr.Dataframe(value=None, visible=False)
            first = {"table": drawn, "about_table": "", "code": code, "earlier": list_earlier(kit, request)}
            files = {kind: gr.DownloadButton(value=None, interactive=False) for kind in _KINDS}
            yield _shown(bar=_bar(step, None, language), grid=grid, **first, **files)
        elif now_s - moved_s > _BAR_S:
            moved_s, drawing = now_s, now_s - drawn_s > _TABLE_S
            bar = _bar(step, (here - before) / (now_s - started_s), language)
            about = say("batch.newest", language, newest=NEWEST) if here > NEWEST else ""
            yield _shown(bar=bar, **({"table": _table(newest.table(), language), "about_table": about} if drawing else {}))
            drawn_s = time.monotonic() if drawing else drawn_s
    took = f"{time.monotonic() - started_s:.1f}"
    yield _shown(**_ended(kit, grid, language, sentence="batch.finished", seconds=took))


def _table(table: Any, language: Language) -> gr.Dataframe:
    shown = readable(table, language)
    return gr.Dataframe(value=shown, visible=len(table) > 0, column_widths=widths(shown, language))


def _bar(step: GridStep, per_s: float | None, language: Language) -> str:
    speed = "–" if per_s is None else f"{per_s:.1f}"
    facts = {"done": step.done + step.failed, "total": step.total, "speed": speed, "left": time_left(step.seconds_left, language)}
    return progress_bar(step.done + step.failed, step.total, say("batch.progress", language, **facts))
