"""Telling the question from the sources in a chat message, whatever labels it uses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_QUESTION = r"質問文?|問い|問|設問|ご?質問内容|ユーザーの質問|user\s+question|question|query|q"
_SOURCES = (
    r"参考資料|関連資料|参照資料|資料|参考文書|関連文書|文書|参考文章|文章|本文|記事|情報源|情報|出典|文脈|コンテキスト|ドキュメント|テキスト|段落"
    r"|sources?|documents?|contexts?|passages?|texts?|articles?|references?|paragraphs?|material"
)
_ANSWER = r"回答|答え|解答|answer|a"
_LABEL = re.compile(
    rf"^[ \t　]*(?P<mark>#{{1,4}}[ \t]*|【|\[|<|\*\*|■|●)?[ \t]*(?:(?P<question>{_QUESTION})|(?P<sources>{_SOURCES})|(?P<answer>{_ANSWER}))"
    r"(?P<close>】|\]|>|\*\*)?[ \t　]*(?P<colon>[:：](?:\*\*)?)?(?P<rest>[ \t　]*)",
    re.IGNORECASE | re.MULTILINE,
)
_CLOSING = re.compile(rf"</(?:{_QUESTION}|{_SOURCES}|{_ANSWER})>", re.IGNORECASE)
_NUMBER = re.compile(r"^[ \t　]*[\[［](?P<number>\d{1,3})[\]］]", re.MULTILINE)
_HIDDEN = re.compile(f"{_NUMBER.pattern.replace('?P<number>', '')}|{_CLOSING.pattern}", re.IGNORECASE | re.MULTILINE)
_ASKING = re.compile(r"[^。！？!?\n]*(?:[？?]|か。?|は何|とは)[」』\"”]?\s*$")
_SENTENCE = re.compile(r"[^。！？\n]+[。！？]?|\n")
_ENGLISH_QUESTION = re.compile(r"(?:(?<=[.!?]\s)|(?<=\n)|^)[^.!?\n]*\?\s*$")


@dataclass(frozen=True)
class Reading:
    """A message told apart: the `question`, and `sources`, as long as the message with everything else blanked by line ends.

    Offsets into `sources` are offsets into the message.
    """

    question: str
    sources: str

    @property
    def has_sources(self) -> bool:
        """Whether there is any text to look an answer up in."""
        return bool(self.sources.strip())


@dataclass(frozen=True)
class _Section:
    kind: str
    full: bool
    label: int
    start: int
    end: int


def read_message(message: str) -> Reading:
    """Find the question and the sources of `message`.

    Labels at the start of a line are looked for first (`資料：`, `質問：`, `Sources:`, `Question:`, headings and tags of the
    same names; the last question counts). Without a question label, a last line or sentence that asks is the question.
    """
    sections = _sections(message)
    asked = [section for section in sections if section.kind == "question"]
    if not asked:
        return _read_unlabelled(message, sections)
    # A full word outranks the letter Q, which a source (a list of frequent questions) may hold too.
    last = [section for section in asked if section.full][-1] if any(section.full for section in asked) else asked[-1]
    stop = _paragraph_end(message, last)
    question = message[last.start: stop].strip()
    given = [section for section in sections if section.kind == "sources" and section.label != last.label]
    # A prompt may end with an empty answer label for the model to go on from.
    final = sections[-1]
    end = final.label if final.kind == "answer" and not message[final.start: final.end].strip() else len(message)
    if not given:
        return Reading(question, _keep(message, [(0, last.label), (stop, max(stop, end))]))
    before = [section.start for section in given if section.label < last.label]
    after = [section.start for section in given if section.label > last.label]
    ranges = [(min(starts), limit) for starts, limit in ((before, last.label), (after, end)) if starts]
    return Reading(question, _keep(message, ranges, [(section.label, section.start) for section in given]))


def _sections(message: str) -> list[_Section]:
    found = [match for match in _LABEL.finditer(message) if _is_label(message, match)]
    ends = [*(match.start() for match in found), len(message)][1:]
    return [_Section(_kind(match), len(match[_kind(match)]) > 1, match.start(), match.end(), end) for match, end in zip(found, ends, strict=True)]


def _kind(match: re.Match[str]) -> str:
    return next(kind for kind in ("question", "sources", "answer") if match[kind])


def _is_label(message: str, match: re.Match[str]) -> bool:
    """A word is a label with a colon after it, inside brackets, or as a whole heading line."""
    if match["colon"]:
        return True
    if match["mark"] in ("【", "[", "<", "**") and match["close"]:
        return True
    alone = match.end() == len(message) or message[match.end()] == "\n"
    return alone and (match["mark"] or "").startswith(("#", "■", "●"))


def _paragraph_end(message: str, section: _Section) -> int:
    """Where a question ends: at the first empty line or closing tag after its first words."""
    body = message[section.start: section.end]
    lead = len(body) - len(body.lstrip())
    stops = [match.start() for match in (re.search(r"\n[ \t　]*\n", body[lead:]), _CLOSING.search(body[lead:])) if match]
    return section.start + (lead + min(stops) if stops else len(body))


def _read_unlabelled(message: str, sections: list[_Section]) -> Reading:
    """The question is the last sentence that asks; the rest are the sources (or what a sources label covers)."""
    text = message.rstrip()
    tail = text[text.rfind("\n") + 1:]
    start = len(text) - len(tail)
    if re.search(r"[。！？]", tail[:-1]):
        pieces = [piece for piece in _SENTENCE.finditer(tail) if piece[0].strip()]
        start += pieces[-1].start() if pieces else 0
    elif (english := _ENGLISH_QUESTION.search(tail)) is not None:
        start += english.start()
    question = text[start:].strip()
    if not _ASKING.search(question):
        return Reading("", _keep(message, [(0, len(message))]))
    given = [section for section in sections if section.kind == "sources"]
    ranges = [(section.start, min(section.end, start)) for section in given] if given else [(0, start)]
    return Reading(question, _keep(message, ranges))


def _keep(message: str, ranges: Sequence[tuple[int, int]], labels: Sequence[tuple[int, int]] = ()) -> str:
    """`message` with everything outside `ranges`, and `labels`, source numbers and closing tags, blanked; its length stays."""
    kept = ["\n"] * len(message)
    for start, end in ranges:
        kept[start:end] = message[start:end]
    for start, end in labels:
        kept[start:end] = "\n" * (end - start)
    return _HIDDEN.sub(lambda part: "\n" * len(part[0]), "".join(kept))


def number_of_source(message: str, place: int) -> str | None:
    """The number at the start of the source that holds character `place`: `2` for `[2] …`, None where sources have none."""
    numbers = [match["number"] for match in _NUMBER.finditer(message, 0, place)]
    return numbers[-1] if numbers else None
