"""The items of a test set: typed into a table, or read from a file whose columns fill the prompt's variables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.errors import InputError
from llmops_kit.types import Variable
from llmops_kit.ui import form
from llmops_kit.ui.code import rows_code
from llmops_kit.ui.comparison import example
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.text import Language, label, language_of, localized, say, shown_errors

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.kit import Kit
    from llmops_kit.playground.rows import RowTable

OWN = ("expected", "tags")
"""What an item has besides the variables of the prompt: acceptable answers, one per line, and tags between commas."""
LEAST_ROWS = 4
_COLUMNS = form.SLOTS + len(OWN)
_PREVIEW_CHARS = 120
_WIDE, _NARROW = "300px", "150px"
_TYPES = [".csv", ".tsv", ".txt", ".jsonl", ".json", ".xlsx"]


def lay_out() -> dict[str, Any]:
    """The table to type into, the place for a file, and the choosers of its columns."""
    asked: dict[str, Any] = {"file": gr.State(None)}
    with gr.Row(elem_classes="actions"):
        asked["upload"] = gr.UploadButton(label("compare.upload"), file_types=_TYPES, size="sm", elem_id="test-upload")
        asked["sample"] = gr.Button(label("compare.sample"), size="sm", elem_id="test-sample")
        asked["retype"] = gr.Button(label("compare.retype"), size="sm", visible=False, elem_id="test-retype")
    asked["about"] = gr.Markdown(label("compare.type_rows"), elem_classes="quiet", elem_id="test-about")
    look: dict[str, Any] = {"interactive": True, "wrap": True, "show_label": False, "max_height": 280, "elem_id": "test-rows", "datatype": "str"}
    asked["typed"] = gr.Dataframe(headers=["question"], row_count=LEAST_ROWS, type="pandas", **look)
    asked["preview"] = gr.Dataframe(visible=False, interactive=False, wrap=True, show_label=False, max_height=220, elem_id="test-preview")
    with gr.Accordion(label("batch.mapping"), open=False, visible=False, elem_id="test-mapping") as asked["mapping"], gr.Row():
        for index in range(_COLUMNS):
            asked[f"column_{index}"] = gr.Dropdown([], visible=False, min_width=160, elem_id=f"test-column-{index}", interactive=True)
    return asked


def fields(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Every input by the name `read` takes it under."""
    return {name: asked[name] for name in ("file", "typed", *(f"column_{index}" for index in range(_COLUMNS)))}


def wire(kit: Kit, prompt: gr.Dropdown, asked: Mapping[str, Any]) -> None:
    """Wire reading a file, typing anew, the example, and another prompt."""

    def on_upload(request: gr.Request, *, upload: str, prompt: str) -> list[Any]:
        from llmops_kit.playground.rows import read_rows

        with shown_errors(request):
            return _show_file(kit, prompt, read_rows(upload, max_mb=kit.settings.max_upload_mb), language_of(request))

    def on_retype(request: gr.Request, *, prompt: str) -> list[Any]:
        with shown_errors(request):
            return _show_typed(kit, prompt, [], language_of(request))

    def on_sample(request: gr.Request, *, prompt: str) -> list[Any]:
        with shown_errors(request):
            return _show_typed(kit, prompt, samples(kit, prompt, language_of(request)), language_of(request))

    def on_prompt(request: gr.Request, *, prompt: str, file: Any) -> list[Any]:
        """Another prompt has other variables: a file stays and is matched anew, typed rows begin with the prompt's own examples."""
        with shown_errors(request):
            language = language_of(request)
            return _show_typed(kit, prompt, samples(kit, prompt, language), language) if file is None else _show_file(kit, prompt, file, language)

    names = ("file", "retype", "about", "typed", "preview", "mapping", *(f"column_{index}" for index in range(_COLUMNS)))
    shown: dict[str, Any] = {"outputs": [asked[name] for name in names], **QUICK}
    uploaded = {"upload": asked["upload"], "prompt": prompt}
    asked["upload"].upload(on_upload, inputs_kwargs=uploaded, api_name="read_test_rows", **shown)
    asked["retype"].click(on_retype, inputs_kwargs={"prompt": prompt}, api_name="type_test_rows", **shown)
    asked["sample"].click(on_sample, inputs_kwargs={"prompt": prompt}, api_name="sample_test_rows", **shown)
    prompt.input(on_prompt, inputs_kwargs={"prompt": prompt, "file": asked["file"]}, api_name="match_test_rows", **shown)


def samples(kit: Kit, prompt: str, language: Language) -> list[dict[str, str]]:
    """A few items to try a prompt with: the kit's own small test set, or the prompt's example."""
    if prompt == example.PROMPT:
        return example.rows(kit, language)
    return [{name: str(value) for name, value in form.starting_values(kit.prompts.get(prompt), language).items()}]


def typing(kit: Kit, prompt: str, rows: Sequence[Mapping[str, str]], language: Language) -> Any:
    """The update of the table to type into; long texts get the room."""
    long = [each.kind == "text" and name not in OWN for name, each in _columns(kit, prompt).items()]
    return gr.Dataframe(value=frame(kit, prompt, rows, language), column_widths=[_WIDE if each else _NARROW for each in long], visible=True)


def frame(kit: Kit, prompt: str, rows: Sequence[Mapping[str, str]], language: Language) -> pd.DataFrame:
    """The table to type into: a column for each variable, the expected answer, the tags."""
    import pandas as pd

    columns = _columns(kit, prompt)
    filled = [[str(row.get(name, "")) for name in columns] for row in rows]
    filled += [[""] * len(columns) for _ in range(max(0, LEAST_ROWS - len(filled)))]
    return pd.DataFrame(filled, columns=_headings(kit, prompt, language))


def read(kit: Kit, prompt: str, given: Mapping[str, Any]) -> tuple[list[dict[str, str]], str]:
    """The items as rows, and the lines of code that make them. Raises: InputError, where there are none."""
    names = list(_columns(kit, prompt))
    table: RowTable | None = given["file"]
    if table is not None:
        mapping = {name: given.get(f"column_{index}") or None for index, name in enumerate(names[:_COLUMNS])}
        return table.map(mapping), rows_code([], file=table.file, mapping=mapping)
    cells = [["" if cell is None or cell != cell else str(cell).strip() for cell in row] for row in given["typed"].values.tolist()]
    rows = [{name: cell for name, cell in zip(names, row, strict=False) if cell} for row in cells if any(row)]
    if not rows:
        raise InputError(en=say("batch.no_rows", "en"), ja=say("batch.no_rows", "ja"))
    return rows, rows_code(rows)


def _columns(kit: Kit, prompt: str) -> dict[str, Variable]:
    variables = {each.name: each for each in kit.prompts.get(prompt).variables[: form.SLOTS]}
    return {**variables, **{name: Variable(name) for name in OWN if name not in variables}}


def _headings(kit: Kit, prompt: str, language: Language) -> list[str]:
    return [localized(each.label, language) or (say(f"compare.{name}", language) if name in OWN else name) for name, each in _columns(kit, prompt).items()]


def _show_typed(kit: Kit, prompt: str, rows: Sequence[Mapping[str, str]], language: Language) -> list[Any]:
    columns = [gr.Dropdown(visible=False) for _ in range(_COLUMNS)]
    typed = typing(kit, prompt, rows, language)
    about = say("compare.type_rows", language)
    return [None, gr.Button(visible=False), about, typed, gr.Dataframe(visible=False), gr.Accordion(visible=False), *columns]


def _show_file(kit: Kit, prompt: str, table: RowTable, language: Language) -> list[Any]:
    """What was read, and the column suggested for each variable."""
    from llmops_kit.playground.rows import suggest_mapping

    wanted = _columns(kit, prompt)
    suggested = suggest_mapping(table.columns, wanted.values())
    heads = dict(zip(wanted, _headings(kit, prompt, language), strict=True))
    choices: list[Any] = [(say("batch.none", language), ""), *table.columns]
    columns = [gr.Dropdown(choices=choices, value=suggested[name] or "", label=heads[name], visible=True) for name in list(wanted)[:_COLUMNS]]
    columns += [gr.Dropdown(visible=False)] * (_COLUMNS - len(columns))
    missing = [heads[name] for name in wanted if name not in OWN and not suggested[name]]
    facts = {"rows": f"{len(table.rows):,}", "columns": len(table.columns), "encoding": table.encoding or table.format}
    about = say("batch.rows_read", language, **facts) + (f"\n\n{say('compare.unmatched', language, names='、'.join(missing))}" if missing else "")
    preview = gr.Dataframe(value=table.preview(max_chars=_PREVIEW_CHARS), visible=True)
    return [table, gr.Button(visible=True), about, gr.Dataframe(visible=False), preview, gr.Accordion(visible=True, open=bool(missing)), *columns]
