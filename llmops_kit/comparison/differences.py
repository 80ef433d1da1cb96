"""What differs between two answers, for highlighting: character by character in Japanese, word by word elsewhere.

Two answers to one question are not two versions of a text, as `llmops_kit.prompts.diff` compares them: single letters they happen to
share say nothing, and neither do a lone space or sign between two changes.
"""

from __future__ import annotations

import html
import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from itertools import groupby
from typing import Literal

import regex

Kind = Literal["same", "changed"]
Piece = tuple[str, Kind]

_UNITS = regex.compile(r"(?:(?![\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}ー])[\w\p{M}])+|\s+|\X")
"""Words of scripts that have spaces, white space, and else what a reader sees as one character."""
_SENTENCE_ENDS = re.compile(r"(?<=[。．！？!?\n])|(?<=\.\s)")
_MOST_CHARS = 8_000
"""Of both texts together, without their common ends. Longer ones are compared sentence by sentence: by units it takes seconds."""
_MARK = "background:rgba(230,160,40,.28);color:inherit"


def differences(a: str, b: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Both texts as stretches that are `same` as in the other one or `changed`; joined again they are the texts."""
    one, other = _UNITS.findall(a), _UNITS.findall(b)
    start = _common(one, other)
    end = _common(one[start:][::-1], other[start:][::-1])
    head, tail = "".join(one[:start]), "".join(one[len(one) - end :])
    one, other = one[start : len(one) - end], other[start : len(other) - end]
    if sum(map(len, one)) + sum(map(len, other)) <= _MOST_CHARS:
        matched = _match(one, other)
    else:
        matched = _match_sentences(*(_SENTENCE_ENDS.split("".join(units)) for units in (one, other)))
    left: list[Piece] = [(head, "same"), *((text, kind) for text, _, kind in matched), (tail, "same")]
    right: list[Piece] = [(head, "same"), *((text, kind) for _, text, kind in matched), (tail, "same")]
    return _join(left), _join(right)


def mark(pieces: Iterable[Piece]) -> str:
    """Stretches as HTML, what changed marked. Nothing in the text is taken for HTML."""
    return "".join(f'<mark style="{_MARK}">{html.escape(text)}</mark>' if kind == "changed" else html.escape(text) for text, kind in pieces)


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many units both begin with."""
    return next((place for place, (left, right) in enumerate(zip(one, other, strict=False)) if left != right), min(len(one), len(other)))


def _match(one: Sequence[str], other: Sequence[str]) -> list[tuple[str, str, Kind]]:
    """The stretches of both, side by side."""
    found: list[tuple[str, str, Kind]] = []
    # What every sentence has (の, the, a space) is no place to begin a match at: difflib's own rule for texts of 200 units and more.
    for operation, a, b, c, d in SequenceMatcher(None, one, other).get_opcodes():
        left, right = "".join(one[a:b]), "".join(other[c:d])
        found.append((left, right, "same" if operation == "equal" and _says_something(left) else "changed"))
    return found


def _match_sentences(one: list[str], other: list[str]) -> list[tuple[str, str, Kind]]:
    """The same by whole sentences, those that both have exactly once and in the same order (patience diff): n log n, whatever the texts."""
    places = {sentence: place for place, sentence in enumerate(other)}
    once = [Counter(one), Counter(other)]
    shared = [(place, places[sentence]) for place, sentence in enumerate(one) if all(counts[sentence] == 1 for counts in once)]
    found: list[tuple[str, str, Kind]] = []
    left = right = 0
    for a, b in [*_rising(shared), (len(one), len(other))]:
        found.append(("".join(one[left:a]), "".join(other[right:b]), "changed"))
        found += [(sentence, sentence, "same") for sentence in one[a : a + 1]]
        left, right = a + 1, b + 1
    return found


def _rising(pairs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The longest run of pairs, ordered by their first number, whose second one rises too (Schensted 1961)."""
    ends: list[int] = []                    # for each length, the smallest last number so far
    tops: list[int] = []                    # and which pair that is
    before: list[int] = []
    for index, (_, number) in enumerate(pairs):
        length = bisect_left(ends, number)
        ends[length : length + 1] = [number]
        tops[length : length + 1] = [index]
        before.append(tops[length - 1] if length else -1)
    chosen: list[tuple[int, int]] = []
    index = tops[-1] if tops else -1
    while index >= 0:
        chosen.append(pairs[index])
        index = before[index]
    return chosen[::-1]


def _says_something(text: str) -> bool:
    """Whether a stretch between two changes is worth telling from them: more than one letter or sign."""
    return sum(not character.isspace() for character in text) > 1


def _join(pieces: Iterable[Piece]) -> tuple[Piece, ...]:
    filled = (piece for piece in pieces if piece[0])
    return tuple(("".join(text for text, _ in group), kind) for kind, group in groupby(filled, key=lambda piece: piece[1]))
