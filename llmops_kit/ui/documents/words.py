"""What the Documents tab says of documents and pages: states, warnings, tables, questions, each in the reader's words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops_kit.documents.preparation import PAGED
from llmops_kit.types import Document
from llmops_kit.ui.text import Language, localized, say, sentences

if TYPE_CHECKING:
    import pandas as pd

ORDER = ("quarantined", "asks", "read", "reading", "waiting", "ready")
"""States in the order in which documents are listed: what needs the person comes first."""
COLUMNS = ("name", "state", "pages", "characters", "notes", "reason")
_MARKS: Mapping[str, str] = {"quarantined": "△", "asks": "？", "read": "○", "reading": "…", "waiting": "…", "ready": "●"}
_LANGUAGES: tuple[Language, ...] = ("en", "ja")
_MANY = 10_000
"""Pages one stretch such as 3-5 may have."""


def state_word(state: str, language: Language) -> str:
    """A state as a word with a mark before it, so that colour is not needed to tell them apart."""
    return f"{_MARKS.get(state, '')} {say(f'documents.state_{state}', language)}"


def warning_word(key: str, language: Language) -> str:
    """A warning in a word or two; one that has no short word is told in its whole sentence."""
    name, _, detail = key.partition(":")
    if f"documents.warning_{name}" in sentences(language):
        return say(f"documents.warning_{name}", language, detail=detail)
    return warning_sentence(key, language)


def warning_sentence(key: str, language: Language) -> str:
    """A warning in a sentence that says what to do."""
    from llmops_kit.documents.reading.reasons import WARNINGS

    name, _, detail = key.partition(":")
    if name == "language":
        return say("documents.language_sentence", language, detail=detail)
    return localized(WARNINGS.get(name), language) or key


def page_words(facts: Mapping[str, Any], language: Language) -> str:
    """What the quality report found on a page, in a word each."""
    found: list[str] = []
    for name in ("is_empty", "looks_scanned", "is_vertical", "has_hidden_text"):
        if facts.get(name):
            found.append(say(f"documents.page_{name}", language))
    for name in ("cid_marks", "replacement_marks", "tables"):
        if count := int(facts.get(name) or 0):
            found.append(say(f"documents.page_{name}", language, n=f"{count:,}"))
    if repeated := len(facts.get("repeated_lines") or ()):
        found.append(say("documents.page_repeated_lines", language, n=repeated))
    return join(found, language)


def is_doubtful(facts: Mapping[str, Any]) -> bool:
    """Whether a page holds nothing that a search could use: no text, or signs where letters should be."""
    return bool(facts.get("is_empty") or facts.get("cid_marks") or facts.get("replacement_marks"))


def in_order(documents: Iterable[Document]) -> list[Document]:
    """Documents that need the person first, then the newest."""
    newest = sorted(documents, key=lambda each: (each.created_at, each.id), reverse=True)
    return sorted(newest, key=lambda each: (ORDER.index(each.state) if each.state in ORDER else len(ORDER), not each.warnings))


def documents_table(documents: Sequence[Document], language: Language) -> pd.DataFrame:
    """The table of documents. Its last column is the id, which the page hides."""
    import pandas as pd

    rows = [
        [
            each.name,
            state_word(each.state, language),
            f"{each.pages:,}" if each.pages and each.kind in PAGED else "",
            f"{each.characters:,}" if each.characters else "",
            join(dict.fromkeys(warning_word(key, language) for key in each.warnings), language),
            localized(each.reason, language),
            each.id,
        ]
        for each in documents
    ]
    return pd.DataFrame(rows, columns=[*(say(f"documents.column_{name}", language) for name in COLUMNS), "id"])


def pages_table(pages: Sequence[tuple[int, str, bool, Mapping[str, Any]]], language: Language) -> pd.DataFrame:
    """The quality report: (number, label, dropped, facts) of each page. Its last column is the number, which the page hides."""
    import pandas as pd

    rows = [
        [
            f"{number:,} {label}" if label not in ("", str(number)) else f"{number:,}",
            say("documents.page_dropped" if dropped else "documents.page_kept", language),
            f"{int(facts.get('characters') or 0):,}",
            page_words(facts, language),
            str(number),
        ]
        for number, label, dropped, facts in pages
    ]
    heads = [say(f"documents.column_{name}", language) for name in ("page", "used", "characters", "notes")]
    return pd.DataFrame(rows, columns=[*heads, "number"])


def numbers_of(text: str) -> list[int]:
    """Page numbers as people type them: `1, 3-5`, full width too. Raises: InvalidValue."""
    import re
    import unicodedata

    from llmops_kit.errors import InvalidValue

    plain = unicodedata.normalize("NFKC", text)
    numbers: list[int] = []
    for part in re.split(r"[,、\s]+", plain.strip()):
        found = re.fullmatch(r"(\d{1,6})(?:[-–~〜‐−](\d{1,6}))?", part)
        if part and (found is None or int(found[2] or found[1]) - int(found[1]) > _MANY):
            told = {language: say("documents.bad_numbers", language, value=part[:40]) for language in _LANGUAGES}
            raise InvalidValue(en=told["en"], ja=told["ja"], name="pages", value=part[:40])
        if found:
            numbers += range(int(found[1]), int(found[2] or found[1]) + 1)
    return sorted(set(numbers))


def tags_of(text: str) -> tuple[str, ...]:
    """Tags as people type them, between commas."""
    import re

    return tuple(dict.fromkeys(tag.strip() for tag in re.split(r"[,、，]", text) if tag.strip()))


def join(words: Iterable[str], language: Language) -> str:
    """Words in a row, as the language separates them."""
    return ("、" if language == "ja" else ", ").join(words)
