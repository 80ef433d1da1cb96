"""What a batch is asked with: its rows, the columns that fill its variables, and the settings it tries."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.errors import InputError, InvalidValue
from llmops_kit.types import Variable
from llmops_kit.ui import form
from llmops_kit.ui.text import Language, localized, say

if TYPE_CHECKING:
    from llmops_kit.kit import Kit
    from llmops_kit.playground.rows import RowTable

SETTINGS: Mapping[str, tuple[float, float]] = {"temperature": (0, 2), "top_p": (0, 1), "max_tokens": (1, 1_000_000)}
"""The settings a batch may try several values of, with the least and the largest."""
_MAPPED = 3 + form.SLOTS


def read_numbers(text: str, name: str = "temperature") -> list[float]:
    """Numbers separated by commas, full-width digits and 、 included; none for an empty text.

    Raises: `InvalidValue` naming the part that is no number or outside the range of the setting `name`.
    """
    least, most = SETTINGS[name]
    numbers = []
    for part in unicodedata.normalize("NFKC", text).replace("、", ",").split(","):
        if not part.strip():
            continue
        try:
            number = float(part)
        except ValueError:
            number = float("nan")
        if not least <= number <= most or (name == "max_tokens" and number % 1):
            raise InvalidValue(name=name, value=part.strip(), allowed=f"{least:g} – {most:,.0f}")
        numbers.append(number)
    return numbers


def read_params(**texts: str) -> list[dict[str, Any]]:
    """Every combination of the values typed for each setting. A setting left empty stays as the prompt says."""
    given = {name: read_numbers(text or "", name) for name, text in texts.items()}
    given = {name: [int(value) if name == "max_tokens" else value for value in values] for name, values in given.items() if values}
    return [dict(zip(given, values, strict=True)) for values in itertools.product(*given.values())]


def check_asked(prompts: Iterable[str] | None, models: Iterable[str] | None, rows: RowTable | None) -> RowTable:
    """The rows, if there is all that a batch needs. Raises: `InputError` that says what is missing."""
    missing = "batch.no_prompt" if not prompts else "batch.no_model" if not models else "batch.no_rows" if rows is None else None
    if missing or rows is None:
        raise InputError(en=say(missing or "batch.no_rows", "en"), ja=say(missing or "batch.no_rows", "ja"))
    return rows


def find_variables(kit: Kit, prompts: Iterable[str]) -> list[Variable]:
    """The variables of all chosen prompts, each once."""
    found: dict[str, Variable] = {}
    for name in prompts:
        for variable in kit.prompts.get(name).variables:
            found.setdefault(variable.name, variable)
    return list(found.values())


def map_columns(kit: Kit, prompts: Iterable[str], columns: Mapping[str, str]) -> dict[str, str | None]:
    """Which column fills which variable, as chosen (`column_0`, `column_1`, …); None where none does."""
    shown = find_variables(kit, prompts)[: form.SLOTS]
    return {variable.name: columns.get(f"column_{index}") or None for index, variable in enumerate(shown)}


def show_rows(kit: Kit, table: RowTable | None, prompts: list[str], language: Language) -> list[Any]:
    """Updates `[rows, about, preview, *columns]`: what was read, and the column suggested for each variable."""
    from llmops_kit.playground.rows import suggest_mapping

    if table is None:
        return [gr.skip()] * _MAPPED
    variables = find_variables(kit, prompts)
    suggested = suggest_mapping(table.columns, variables)
    columns: list[Any] = []
    for variable in variables[: form.SLOTS]:
        named = localized(variable.label, language) or variable.name
        choices: list[Any] = [(say("batch.none", language), ""), *table.columns]
        columns.append(gr.Dropdown(choices=choices, value=suggested[variable.name] or "", label=named, visible=True))
    columns += [gr.Dropdown(visible=False)] * (form.SLOTS - len(columns))
    return [table, _describe(table, len(variables), language), gr.Dataframe(value=table.preview(max_chars=80), visible=True), *columns]


def _describe(table: RowTable, variables: int, language: Language) -> str:
    read_as = table.encoding or table.format
    facts = {"rows": f"{len(table.rows):,}", "columns": len(table.columns), "encoding": read_as}
    about = say("batch.rows_read" if table.file else "batch.sample_rows", language, **facts)
    if variables > form.SLOTS:
        about += "\n\n" + say("batch.too_many_variables", language, count=variables, limit=form.SLOTS)
    return about


def sample_rows(kit: Kit, prompts: list[str]) -> RowTable:
    """A few rows from the prompts' own examples, in both languages, so that the tab can be tried with one click.

    They come from no file: `file` is empty.
    """
    from llmops_kit.playground.rows import RowTable

    variables = find_variables(kit, prompts)
    rows = [{each.name: localized(each.example, language) or str(each.default or "") for each in variables} for language in ("ja", "en")]
    return RowTable(file="", format="sample", columns=tuple(each.name for each in variables), rows=tuple(rows))
