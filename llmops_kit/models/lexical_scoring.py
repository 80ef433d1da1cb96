"""BM25 of a few texts of a large collection, from the statistics of all of it: the score `LexicalIndex` would give them. Needs numpy only."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from llmops_kit.models.lexical import K1, RUN, UNSPACED, B, Floats, fold, stream

_WORD = re.compile(rf"[^\W_{UNSPACED}]+")        # a word or number: one term whole
_JAPANESE = re.compile(f"[{UNSPACED}]{{1,2}}")
_WHOLE = 4096       # characters of a text that are certainly one run at most; `RUN` cuts longer ones


@dataclass(frozen=True)
class Statistics:
    """What BM25 knows of a collection: how many texts, their mean length in terms, and in how many each term of a query is."""

    size: int
    mean_length: float
    frequencies: Mapping[str, int]

    def rarity(self, term: str) -> float:
        """The weight of a term: ln(1 + (N - df + 0.5) / (df + 0.5)), as in `LexicalIndex`."""
        frequency = self.frequencies.get(term, 0)
        return math.log1p((self.size - frequency + 0.5) / (frequency + 0.5))

    def ceiling(self, terms: Mapping[str, int]) -> float:
        """The score that no text can exceed for a query of these terms (and how often it has each)."""
        return sum(count * self.rarity(term) for term, count in terms.items())


def score_texts(terms: Mapping[str, int], texts: Sequence[str], known: Statistics, k1: float = K1, b: float = B) -> Floats:
    """The BM25 score of each text for a query of `terms` (of `tokenize_query`, with how often it has each)."""
    weights = {term: count * known.rarity(term) for term, count in terms.items()}
    counter = TermCounter(terms)
    scores = np.zeros(len(texts), np.float32)
    for place, text in enumerate(texts):
        counts, length = counter.count(text)
        damping = k1 * (1 - b + b * length / known.mean_length)
        scores[place] = sum([weights[term] * count / (count + damping) for term, count in counts.items()])
    return scores


class TermCounter:
    """Counts certain terms in texts without cutting these into all of theirs: less than half the time of `Counter(tokenize(text))`."""

    def __init__(self, terms: Mapping[str, int]) -> None:
        self._terms = tuple(terms)
        japanese = {term for term in terms if _JAPANESE.fullmatch(term)}
        self._words = {term for term in terms if _WORD.fullmatch(term)}
        self._doubles = [term for term in japanese if len(term) == 2 and term[0] == term[1]]
        signs = {term for term in terms if len(term) == 1} - japanese - self._words      # emoji
        self._plain = [term for term in terms if term in japanese | signs and term not in self._doubles]
        self._pairs = {*terms} - japanese - signs - self._words         # 第3 and 3章: one member is a word or number
        self._in_pairs = {found for pair in self._pairs for found in _WORD.findall(pair)}

    def count(self, text: str) -> tuple[dict[str, int], int]:
        """(how often `text` has each of the terms that it has, how many terms it has in all)."""
        folded = fold(text)
        if len(folded) > _WHOLE:
            every = Counter(stream(text))
            return {term: every[term] for term in self._terms if term in every}, every.total()
        counts = {term: count for term in self._plain if (count := folded.count(term))}
        for term in self._doubles:
            if term in folded:
                counts[term] = _count_overlapping(folded, term)
        if self._words:
            counts.update(Counter(word for word in _WORD.findall(folded) if word in self._words))
        if self._pairs:
            counts.update(Counter(pair for pair in self._find_pairs(folded) if pair in self._pairs))
        runs = RUN.findall(_WORD.sub("a", folded))      # now every member of a run is one character
        return counts, 2 * len("".join(runs)) - len(runs)

    def _find_pairs(self, folded: str) -> Iterator[str]:
        for found in _WORD.finditer(folded):
            word, start, end = found.group(), found.start(), found.end()
            if word in self._in_pairs:
                yield folded[start - 1 : start] + word
                yield word + folded[end : end + 1]


def _count_overlapping(text: str, double: str) -> int:
    """Two equal characters overlap with themselves: ああああ has ああ three times, where str.count says two."""
    count, start = 0, text.find(double)
    while start >= 0:
        count, start = count + 1, text.find(double, start + 1)
    return count
