"""What the app says, in the reader's language: labels for the browser, sentences for the server, errors for people."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import gradio as gr
import yaml

from llmops_kit.errors import InvalidValue, KitError

Language = Literal["ja", "en"]
LANGUAGE_COOKIE = "llmops_language"
_ASIDE = re.compile(r"（| \(|, ")
"""Where a label goes on to explain itself."""
_JAPANESE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")


@cache
def sentences(language: Language) -> dict[str, str]:
    """All texts of one language by key (`<tab>.<field>`, `error.<code>`)."""
    text = files("llmops_kit.ui").joinpath(f"locales/{language}.yaml").read_text(encoding="utf-8")
    return {key: str(value) for key, value in yaml.safe_load(text).items()}


@cache
def translations() -> gr.I18n:
    """Both catalogues in the form Gradio sends to the browser."""
    return gr.I18n(en=sentences("en"), ja=sentences("ja"))


def label(key: str) -> Any:
    """A label the browser translates. Raises `KeyError` for a key that is in no catalogue."""
    if key not in sentences("en"):
        raise KeyError(key)
    return translations()(key)


def say(key: str, language: Language, **facts: object) -> str:
    """A sentence made on the server, its `{blanks}` filled with `facts` in one pass."""
    return re.sub(r"\{(\w+)\}", lambda blank: str(facts.get(blank[1], blank[0])), sentences(language)[key])


def language_of(request: gr.Request | None) -> Language:
    """The reader's language: the switch in the top bar if it was used, else the browser's first choice."""
    if request is None:
        return "en"
    chosen = request.cookies.get(LANGUAGE_COOKIE) or request.headers.get("accept-language", "")
    return "ja" if str(chosen).lower().startswith("ja") else "en"


def localized(texts: Any, language: Language) -> str:
    """The text of `language` in a mapping by language, or any other that is there."""
    return str(texts.get(language) or texts.get("en") or next(iter(texts.values()), "")) if texts else ""


@contextmanager
def shown_errors(request: gr.Request | None) -> Iterator[None]:
    """Show the kit's own errors as a message in the reader's language. Bugs pass through and stay loud in the log."""
    try:
        yield
    except KitError as error:
        language = language_of(request)
        told = html.escape(error_words(error, language), quote=False)  # Gradio shows the message as markup, and it may repeat what was typed
        raise gr.Error(told, title=say("error.title", language), duration=20, print_exception=False) from error


def error_words(error: KitError, language: Language) -> str:
    """The sentence of an error on the page: a value that does not serve is said of the field as it is called there, not of its name in Python."""
    name = str(error.facts.get("name"))
    shown = next((sentences(language)[key] for key in (f"tune.field_{name}", f"tune.{name}") if key in sentences(language)), None)
    facts: dict[str, Any] = {**error.facts}
    if not isinstance(error, InvalidValue) or shown is None or InvalidValue(**facts).text(language) != error.text(language):
        return error.text(language)
    return InvalidValue(**{**facts, "name": _ASIDE.split(shown)[0]}).text(language)


def error_text(run_error: str | None, language: Language) -> str:
    """What `Run.error` says to a reader of `language`: a `KitError` is kept as its English text, then its Japanese one.

    Both have the same number of lines, so the halves are told apart by counting; anything else is shown as it is.
    """
    lines = (run_error or "").splitlines()
    half = len(lines) // 2
    if len(lines) % 2 or not _JAPANESE.search("".join(lines[half:])):
        return "\n".join(lines)
    return "\n".join(lines[half:] if language == "ja" else lines[:half])
