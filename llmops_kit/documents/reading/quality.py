"""What a person should know about the text before it is indexed: counted facts of every page and warnings about the file."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from llmops_kit.documents.reading.records import Limits, PageFacts, RawDocument, RawPage, Unreadable

# Hiragana, katakana (with the marks for long and repeated sounds), their half-width forms, kanji with extensions and iteration marks.
_JAPANESE: Final = re.compile(
    "[\u3005-\u3007\u3041-\u3096\u309d\u309e\u30a1-\u30fa\u30fc-\u30fe\uff66-\uff9d\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"
)
_UNREADABLE: Final = re.compile("[\ufffd\ue000-\uf8ff\U000f0000-\U0010fffd]+")  # the replacement character and the private-use areas
_NEVER: Final = re.compile("[\x00\ud800-\udfff]")  # what no store can keep
# Characters of the tag block, which show nothing, outside the flags of England, Scotland and Wales (a black flag and tags).
_TAGS: Final = re.compile("(?<![\U0001f3f4\U000e0020-\U000e007f])[\U000e0000-\U000e007f]")
_DIGITS: Final = re.compile(r"\d+")
_SCANNED_CHARACTERS = 30  # fewer characters than this under a picture of half the page: a scan, perhaps with a stamped page number
_SCANNED_SHARE = 0.5
_EDGE_LINES = 2
_REPEATED_PAGES = 3


def describe(raw: RawDocument, kind: str, limits: Limits) -> dict[str, Any]:
    """The document as the guard hands it over: cleaned and cut pages, each with its facts, and the warnings. Ready for JSON.

    Raises: `Unreadable` ("no_pages") for a document without pages.
    """
    if not raw.pages:
        raise Unreadable("no_pages")
    warnings = list(raw.warnings)
    pages, is_cut = _cut(raw.pages, limits)
    repeated = _repeated_lines([page.text for page in pages]) if raw.paged else [()] * len(pages)
    facts = [_facts(page, lines) for page, lines in zip(pages, repeated, strict=True)]
    warnings += ["truncated"] * is_cut
    warnings += [key for key, holds in _doubts(facts) if holds]
    described = [
        {"number": number, "text": page.text, "label": page.label, "reader": page.reader or raw.reader, "facts": fact.to_dict()}
        for number, (page, fact) in enumerate(zip(pages, facts, strict=True), start=1)
    ]
    found: dict[str, Any] = {"state": "read", "kind": kind, "reader": raw.reader, "encoding": raw.encoding, "pages": described}
    if all(fact.is_empty for fact in facts):
        found |= {"state": "quarantined", "key": "no_text", "facts": {}}
    elif sum(fact.replacement_marks + fact.cid_marks for fact in facts) > sum(fact.characters for fact in facts) / 2:
        found |= {"state": "quarantined", "key": "garbled", "facts": {}}
    return {**found, "warnings": list(dict.fromkeys(warnings))}


def measure_page(page: RawPage, repeated: tuple[str, ...] = ()) -> PageFacts:
    """The facts of one page."""
    return _facts(page, repeated)


def _doubts(facts: Sequence[PageFacts]) -> Iterator[tuple[str, bool]]:
    yield "empty_pages", any(each.is_empty for each in facts)
    yield "scanned", any(each.looks_scanned for each in facts)
    yield "cid", any(each.cid_marks for each in facts)
    yield "replacement", any(each.replacement_marks for each in facts)
    yield "vertical", any(each.is_vertical for each in facts)
    yield "repeated", any(each.repeated_lines for each in facts)
    yield "hidden_text", any(each.has_hidden_text for each in facts)


def _cut(pages: Sequence[RawPage], limits: Limits) -> tuple[list[RawPage], bool]:
    """The pages with storable characters and a line break at the end, as many as the limits allow."""
    kept: list[RawPage] = []
    left = limits.characters
    for page in pages[: limits.pages]:
        text = _NEVER.sub("\ufffd", page.text)
        if not text.endswith("\n"):
            text += "\n"
        if len(text) > left:
            page.text = text[: max(left - 1, 0)] + "\n"
            page.headings = [each for each in page.headings if each[0] < left]
            kept.append(page)
            return kept, True
        page.text = text
        left -= len(text)
        kept.append(page)
    return kept, len(pages) > limits.pages


def _facts(page: RawPage, repeated: tuple[str, ...]) -> PageFacts:
    text = page.text
    characters = len("".join(text.split()))
    return PageFacts(
        characters=characters,
        cid_marks=text.count("(cid:"),
        replacement_marks=sum(map(len, _UNREADABLE.findall(text))),
        japanese_share=round(sum(map(len, _JAPANESE.findall(text))) / characters, 3) if characters else 0.0,
        is_empty=characters == 0,
        looks_scanned=page.image_share >= _SCANNED_SHARE and characters < _SCANNED_CHARACTERS,
        tables=page.tables,
        is_vertical=page.vertical,
        repeated_lines=repeated,
        has_hidden_text=page.hidden or _TAGS.search(text) is not None,
        width_pt=round(page.width_pt, 2),
        height_pt=round(page.height_pt, 2),
        headings=tuple(page.headings),
    )


def _repeated_lines(texts: Sequence[str]) -> list[tuple[str, ...]]:
    """For every page, those of its first and last lines that return, digits aside, on at least half of the pages (and on three)."""
    edges = [_edge_lines(text) for text in texts]
    seen = Counter(masked for lines in edges for masked in {_mask(line) for line in lines})
    least = max(_REPEATED_PAGES, (len(texts) + 1) // 2)
    return [tuple(line for line in lines if seen[_mask(line)] >= least) for lines in edges]


def _edge_lines(text: str) -> list[str]:
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if len(lines) <= 2 * _EDGE_LINES:
        return list(dict.fromkeys(lines))
    return list(dict.fromkeys([*lines[:_EDGE_LINES], *lines[-_EDGE_LINES:]]))


def _mask(line: str) -> str:
    return _DIGITS.sub("#", line)
