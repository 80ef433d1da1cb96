"""The blanks of a prompt: `{{name}}` is replaced by a value, and nothing else happens.

One pass over the template, so a value that itself holds `{{name}}` stays as it is. Single braces mean nothing.
A literal `{{name}}` is written with the braces doubled: `{{{{name}}}}`. Names are letters, digits and `_`, Japanese
included; `{{ name }}` and full-width `{{ｎａｍｅ}}` are the same blank. Anything else between braces is plain text.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from llmops_kit.errors import InvalidValue, MissingVariable
from llmops_kit.types import Message, Prompt, Variable

_NAME = r"[^\W\d][\w・\u0300-\u036f\u3099\u309a]*"  # the combining marks are how some systems write が and é
_BLANK = re.compile(r"\{\{\{\{(?P<literal>\s*" + _NAME + r"\s*)\}\}\}\}|\{\{\s*(?P<name>" + _NAME + r")\s*\}\}")
_BRACED = re.compile(r"\{\{(\s*" + _NAME + r"\s*)\}\}")
_THOUSANDS = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d+)?")
_SHOWN_CHARS = 80
"""Longest piece of a refused value that an error repeats, in characters."""


def normalize_name(name: str) -> str:
    """The one spelling of a variable's name (NFKC, without surrounding space)."""
    return unicodedata.normalize("NFKC", name).strip()


def is_name(name: str) -> bool:
    """Whether `{{name}}` would be a blank."""
    return re.fullmatch(_NAME, name) is not None


def find_variables(messages: Iterable[Message]) -> tuple[str, ...]:
    """The names of the blanks in `messages`, in order of first appearance."""
    found = (blank["name"] for turn in messages for blank in _BLANK.finditer(turn.content) if blank["name"])
    return tuple(dict.fromkeys(normalize_name(name) for name in found))


def complete(prompt: Prompt) -> Prompt:
    """`prompt` with every blank of its messages declared: an undeclared one becomes a required text variable."""
    declared = {variable.name for variable in prompt.variables}
    missing = tuple(Variable(name) for name in find_variables(prompt.messages) if name not in declared)
    return replace(prompt, variables=(*prompt.variables, *missing)) if missing else prompt


def escape(text: str) -> str:
    """`text` written so that `render` gives it back unchanged: each `{{name}}` in it becomes `{{{{name}}}}`."""
    return _BRACED.sub(r"{{{{\1}}}}", text)


def render(prompt: Prompt, variables: Mapping[str, Any] | None = None, *, language: str | None = None) -> tuple[Message, ...]:
    """The messages of `prompt` with its blanks filled in. Values for names the prompt does not have are ignored.

    A select without a value takes its default; with `language`, its example in that language goes before the default,
    so that a reader of English gets the English instruction.

    Raises:
        MissingVariable: a required blank has no value (absent without a default, or only white space).
        InvalidValue: a select or number value outside what is allowed.
    """
    values = _fill(complete(prompt), variables or {}, language)

    def substitute(blank: re.Match[str]) -> str:
        return "{{" + blank["literal"] + "}}" if blank["literal"] else values[normalize_name(blank["name"])]

    return tuple(Message(turn.role, _BLANK.sub(substitute, turn.content)) for turn in prompt.messages)


def example_values(prompt: Prompt, language: str) -> dict[str, str | float]:
    """What a form shows first: each variable's example in `language`, else its default, else the first option or nothing."""
    key = _language_key(language)
    values: dict[str, str | float] = {}
    for variable in complete(prompt).variables:
        fallback = variable.default if variable.default is not None else (variable.options[0] if variable.options else "")
        values[variable.name] = variable.example.get(key, fallback)
    return values


def check_value(variable: Variable, value: Any) -> str:
    """The text that stands for `value` in the prompt. Raises `InvalidValue` where its kind does not allow it."""
    if variable.kind == "select":
        return _choose(variable, str(value))
    if variable.kind == "number":
        return _count(variable, value)
    return str(value)


def _language_key(language: str) -> str:
    return "ja" if language.startswith("ja") else "en"


def _default(variable: Variable, language: str | None) -> str | float | None:
    spoken = variable.example.get(_language_key(language)) if language and variable.kind == "select" else None
    return spoken if spoken in variable.options else variable.default


def _fill(prompt: Prompt, given: Mapping[str, Any], language: str | None) -> dict[str, str]:
    supplied = {normalize_name(name): value for name, value in given.items()}
    values = {}
    for variable in prompt.variables:
        value = supplied.get(variable.name)
        value = _default(variable, language) if value is None else value
        if value is None or not str(value).strip():
            if variable.required:
                raise MissingVariable(prompt=prompt.name, variable=variable.name)
            value = "" if value is None or variable.kind != "text" else value
            values[variable.name] = str(value)
        else:
            values[variable.name] = check_value(variable, value)
    return values


def _choose(variable: Variable, value: str) -> str:
    if value in variable.options:
        return value
    # Forms and spreadsheets change widths and add spaces; the option as declared is what goes into the prompt.
    alike = {normalize_name(option): option for option in variable.options}
    if normalize_name(value) in alike:
        return alike[normalize_name(value)]
    raise InvalidValue(name=variable.name, value=_shorten(value), allowed=", ".join(variable.options))


def _count(variable: Variable, value: Any) -> str:
    text = unicodedata.normalize("NFKC", str(value)).strip().replace("\N{MINUS SIGN}", "-")
    if _THOUSANDS.fullmatch(text):
        text = text.replace(",", "")
    try:
        number = math.nan if isinstance(value, bool) or "_" in text else float(text)
    except ValueError:
        number = math.nan
    low = -math.inf if variable.minimum is None else variable.minimum
    high = math.inf if variable.maximum is None else variable.maximum
    if not math.isfinite(number) or not low <= number <= high:
        raise InvalidValue(name=variable.name, value=_shorten(str(value)), allowed=_range(variable))
    return text[:-2] if re.fullmatch(r"[-+]?\d+\.0", text) else text


def _range(variable: Variable) -> str:
    low, high = variable.minimum, variable.maximum
    if low is not None and high is not None:
        return f"{low:g}–{high:g}"
    if low is not None:
        return f"≥ {low:g}"
    return f"≤ {high:g}" if high is not None else "a number / 数値"


def _shorten(value: str) -> str:
    return value if len(value) <= _SHOWN_CHARS else value[:_SHOWN_CHARS] + "…"
