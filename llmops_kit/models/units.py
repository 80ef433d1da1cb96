"""Cutting a text into units and sentences, the same way for Japanese and English, with places that stay true.

A *unit* is a Latin word, a number, a katakana run, or one other character (a kanji, a kana, a punctuation mark).
Character offsets point into the text as given, because normalisation keeps its length. Needs numpy only.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

SUFFIX_BUCKETS = 1 << 10
KINDS = 16                      # see `_kind`
MAX_SENTENCE_UNITS = 100        # a longer sentence is cut, so that one run-on line cannot fill the window

_UNIT = re.compile(r"[^\W\d_぀-ヿ㐀-鿿ｦ-ﾟ々〆가-힣]+(?:['’][a-z]{1,2}\b)?|\d+(?:[.,]\d+)*|[ァ-ヺー]+|\n|\S")
_JAPANESE = re.compile(r"[぀-ヿ㐀-鿿]")
_STOP_EN = frozenset(
    re.findall(
        r"\w+",
        "a an the of in on at to for by with from and or as is are was were be been being do does did has have had it its this that these those "
        "he she they his her their them him i you we not no but which who whom what when where how why will would can could may might also than "
        "then there into about after before between during over under such some any most more other",
    )
)
_ABBREVIATION = frozenset(re.findall(r"\S+", "mr mrs ms dr st jr sr vs no vol fig inc ltd co gen col lt sgt prof rev gov sen rep ca approx etc e.g i.e u.s"))
_OPENERS, _CLOSERS = "「『（(〈《【［[“‘{", "」』）)〉》】］]”’}"


@dataclass(frozen=True)
class Units:
    """A text cut into units: character `starts`/`ends`, word hashes `ids`, ending hashes `suffixes`, `kinds`, `sentences`."""

    starts: Ints
    ends: Ints
    ids: Ints
    suffixes: Ints
    kinds: Ints
    sentences: Ints

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: Ints) -> Units:
        """The units at `index`, in that order."""
        return Units(self.starts[index], self.ends[index], self.ids[index], self.suffixes[index], self.kinds[index], self.sentences[index])


def language_of(text: str) -> str:
    """`ja` when the text has any kana or kanji, else `en`."""
    return "ja" if _JAPANESE.search(text) else "en"


def fold(text: str) -> str:
    """NFKC character by character where the length stays the same, so that offsets keep pointing into `text`."""
    if unicodedata.is_normalized("NFKC", text):
        return text
    folded = (unicodedata.normalize("NFKC", character) for character in text)
    return "".join(new if len(new) == 1 else old for new, old in zip(folded, text, strict=True))


def _stem(word: str) -> str:
    """Crude English stem, for matching only: `invented`, `invents`, `inventing` fall together."""
    for ending in ("'s", "’s"):
        word = word.removesuffix(ending)
    if len(word) > 4:
        for ending in ("ing", "ies", "ed", "es", "ly", "s", "e"):
            if word.endswith(ending) and len(word) - len(ending) >= 3:
                return word[: -len(ending)]
    return word


@lru_cache(maxsize=1 << 16)
def _hash_unit(unit: str) -> tuple[int, int, int]:
    """(word hash, ending hash, kind) of one unit."""
    lower = unit.lower()
    return zlib.crc32(_stem(lower).encode()), zlib.crc32(lower[-3:].encode()) % SUFFIX_BUCKETS, _kind(unit, lower)


def _kind(unit: str, lower: str) -> int:
    first = unit[0]
    if first.isdigit():
        return 14 if len(unit) == 4 and unit.isdigit() else 7
    if "㐀" <= first <= "鿿" or first in "々〆":
        return 1
    if "ぁ" <= first <= "ゖ":
        return 12 if first in "はがをにでとのもへや" else 2
    if "ァ" <= first <= "ー":
        return 3
    if first.isalpha():
        if lower in _STOP_EN:
            return 13
        return 4 if unit == lower else 5 if unit[1:] == lower[1:] else 6
    if first in "。！？!?.\n":
        return 8
    if first in _OPENERS:
        return 9
    if first in _CLOSERS:
        return 10
    return 11 if first in "、,・-–—‐/~〜" else 15 if first in "\"'" else 0


def cut(text: str) -> Units:
    """Cut `text` into units and sentences (at 。！？, at line ends, and at an English full stop that ends a sentence)."""
    folded = fold(text)
    found = list(_UNIT.finditer(folded))
    hashes = [_hash_unit(match[0]) for match in found]
    sentences, number, length, depth = [], 0, 0, 0
    for position, match in enumerate(found):
        unit = match[0]
        sentences.append(number)
        length += 1
        depth = max(0, depth + (unit in "「『（(") - (unit in "」』）)"))
        if _ends_sentence(folded, match, found[position - 1][0] if position else "", depth) or length >= MAX_SENTENCE_UNITS:
            number, length = number + 1, 0
            depth = 0 if unit == "\n" else depth
    table = np.array(hashes, np.int64).reshape(-1, 3)
    keep = np.array([match[0] != "\n" for match in found], bool)
    return Units(
        np.array([match.start() for match in found], np.int64)[keep], np.array([match.end() for match in found], np.int64)[keep],
        table[keep, 0], table[keep, 1], table[keep, 2], np.array(sentences, np.int64)[keep],
    )


def _ends_sentence(text: str, match: re.Match[str], before: str, depth: int) -> bool:
    unit = match[0]
    if unit == "\n":
        return True
    if unit in "。！？!?":
        return depth == 0
    if unit != "." or before.lower() in _ABBREVIATION or (len(before) == 1 and before.isupper()):
        return False
    rest = text[match.end(): match.end() + 3].lstrip("\"')”’]")
    return rest[:1] in ("", " ", "\n") and not rest[1:2].islower()
