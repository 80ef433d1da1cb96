"""What a text and a question have in common: matches, the window worth reading, and features of every unit in it.

All spans are unit ranges inside one sentence. Needs numpy only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from llmops_kit.models.units import Floats, Ints, Units, cut, fold

IDF_BUCKETS = 1 << 16
UNIT_BUCKETS = 1 << 14
DENSE = 26                      # columns of `describe`
WINDOW_UNITS = {"ja": 170, "en": 150}
KERNEL_UNITS = 512              # the longest window `describe` takes
AROUND = 6                      # units read on each side of the question word
PADDING = -1

_WH_JA = re.compile(r"どこ|誰|だれ|何|なに|なん|いつ|どの|どんな|どちら|どう|どれ|どっち|いくつ|いくら|なぜ|幾|いずれ")
_WH_EN = re.compile(r"\b(?:who|whom|whose|what|which|when|where|why|how)\b", re.IGNORECASE)
_CHOICE = re.compile(r"どちら|どっち|どれ|いずれ|のうち|の中で|それとも|もしくは|\b(?:or|either|between|which of)\b", re.IGNORECASE)


@dataclass(frozen=True)
class Question:
    """A question ready for matching: its `units`, position `wh` of its question word, and weights of units and pairs.

    `choice` says that it names the answers to choose from (「AとBのどちら」), so that its own words may be the answer.
    """

    units: Units
    wh: int
    weights: Floats
    pair_weights: Floats
    choice: bool

    @property
    def around(self) -> Ints:
        """Unit positions around the question word, `PADDING` outside the question."""
        index = np.arange(self.wh - AROUND, self.wh + AROUND + 1)
        return np.where((index >= 0) & (index < len(self.units)), index, PADDING)


def hash_pairs(ids: Ints) -> Ints:
    """Hash of every two neighbouring units."""
    return (ids[:-1] * 31 + ids[1:] * 1009) & 0x7FFFFFFF


def read_question(text: str, idf: Floats, language: str) -> Question:
    """Cut a question and weigh its units by rarity (`idf` by hash bucket); kana alone carry no weight."""
    units = cut(text)
    found = list((_WH_JA if language == "ja" else _WH_EN).finditer(fold(text)))
    # In Japanese the last question word asks; without any, the question asks for what its end names (「…した年は」).
    place = (found[-1] if language == "ja" else found[0]).start() if found else (len(text) if language == "ja" else 0)
    wh = int(np.searchsorted(units.starts, place))
    wh = min(wh, max(0, len(units) - 1)) if found else wh
    content = ~np.isin(units.kinds, (0, 2, 8, 9, 10, 11, 12, 15))
    weights = np.where(content, idf[units.ids % IDF_BUCKETS], 0).astype(np.float32)
    pair_content = content[:-1] | content[1:] | (units.kinds[:-1] == 2) & (units.kinds[1:] == 2)
    pair_weights = np.where(pair_content, idf[hash_pairs(units.ids) % IDF_BUCKETS], 0).astype(np.float32)
    if language == "en":
        weights[units.kinds == 13] *= 0.3
        pair_weights = pair_weights * 0.5
    return Question(units, wh, weights, pair_weights, _CHOICE.search(text) is not None)


def match(units: Units, question: Question) -> tuple[Floats, NDArray[np.bool_]]:
    """(strength, equal): how strongly each unit answers to each question unit, and plain equality; both (units, question units)."""
    equal = units.ids[:, None] == question.units.ids[None, :]
    strength = equal * question.weights[None, :]
    if len(units) > 1 and len(question.units) > 1:
        pairs = (equal[:-1, :-1] & equal[1:, 1:]) * question.pair_weights[None, :]
        np.maximum(strength[:-1, :-1], pairs, out=strength[:-1, :-1])
        np.maximum(strength[1:, 1:], pairs, out=strength[1:, 1:])
    return strength.astype(np.float32), equal


def _sentence_starts(sentences: Ints) -> Ints:
    return np.flatnonzero(np.r_[True, sentences[1:] != sentences[:-1]])


def cover(units: Units, question: Question, strength: Floats) -> tuple[Ints, Floats]:
    """(first unit, share of the question's weight found) for every sentence."""
    starts = _sentence_starts(units.sentences)
    best = np.zeros(len(question.units), np.float32)
    best[:] = question.weights
    if len(best) > 1:
        np.maximum(best[:-1], question.pair_weights, out=best[:-1])
        np.maximum(best[1:], question.pair_weights, out=best[1:])
    shares = np.maximum.reduceat(strength, starts, axis=0).sum(1) / max(float(best.sum()), 1e-6)
    return starts, shares.astype(np.float32)


def choose_window(units: Units, question: Question, budget: int) -> Ints:
    """Indices of the units worth reading: whole sentences, best covered first, neighbours helped, up to `budget` units."""
    if len(units) <= budget:
        return np.arange(len(units))
    starts, shares = cover(units, question, match(units, question)[0])
    ends = np.r_[starts[1:], len(units)]
    padded = np.r_[0, shares, 0]
    scores = shares + 0.25 * np.maximum(padded[:-2], padded[2:])
    scores[0] += 0.03
    chosen: list[int] = []
    used = 0
    for sentence in np.argsort(-scores, kind="stable"):
        size = int(ends[sentence] - starts[sentence])
        if used + size <= budget or not chosen:
            chosen.append(int(sentence))
            used += size
    return np.concatenate([np.arange(starts[sentence], ends[sentence]) for sentence in sorted(chosen)])


@lru_cache(maxsize=8)
def _kernel(length: int, decay: float) -> Floats:
    """Lower-triangular matrix: row i sums what lies before unit i, faded by exp(-distance / decay)."""
    distance = np.subtract.outer(np.arange(length), np.arange(length))
    return np.where(distance > 0, np.exp(-distance / decay), 0).astype(np.float32)


def describe(units: Units, question: Question, idf: Floats) -> Floats:
    """Dense features of every unit, (units, `DENSE`): what matches, how near matches lie, how its sentence fares."""
    size = len(units)
    strength, equal = match(units, question)
    scaled = strength / 10.0
    place = np.arange(len(question.units))
    near = np.exp(-np.abs(place - question.wh) / 4.0).astype(np.float32)
    mass = scaled.max(1)
    before = (scaled * (near * (place < question.wh))).max(1)
    after = (scaled * (near * (place > question.wh))).max(1)
    columns = [mass, before, after]
    signals = np.stack([mass, before, after], 1)
    for decay in (2.0, 6.0, 20.0):
        kernel = _kernel(KERNEL_UNITS, decay)[:size, :size]
        scale = min(1.0, 2.0 / decay)
        columns += [*(kernel @ signals * scale).T[: 3 if decay == 6.0 else 1], *(kernel.T @ signals * scale).T[: 3 if decay == 6.0 else 1]]
    starts, shares = cover(units, question, strength)
    lengths = np.diff(np.r_[starts, size])
    share = np.repeat(shares, lengths)
    top = max(float(shares.max()), 1e-6)
    inside = np.arange(size) - np.repeat(starts, lengths)
    columns += [share, share / top, (share == shares.max()).astype(np.float32), inside / np.repeat(lengths, lengths), np.minimum(inside, 20) / 20,
                (units.sentences == units.sentences[0]).astype(np.float32)]
    columns += _runs(equal, question) + _nesting(units)
    columns += [np.minimum(idf[units.ids % IDF_BUCKETS], 12) / 10, np.log(_counts(units.ids)), np.isin(units.ids, question.units.ids).astype(np.float32)]
    return np.stack(columns, 1).astype(np.float32)


def _counts(ids: Ints) -> Ints:
    _, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    return counts[inverse]


def _runs(equal: NDArray[np.bool_], question: Question) -> list[Floats]:
    """Longest run shared with the question through each unit; runs that end where the question word begins, or begin where it ends."""
    size, width = equal.shape
    longest: Floats = np.asarray(equal.any(1), np.float32)
    run = equal
    for length in (2, 3, 4, 6):
        while length > 1 and run.shape[0] > 1 and run.shape[1] > 1 and size - run.shape[0] < length - 1:
            run = run[:-1, :-1] & equal[size - run.shape[0] + 1:, width - run.shape[1] + 1:]
        hit = np.flatnonzero(run.any(1))
        for offset in range(min(length, size)):
            index = hit + offset
            index = index[index < size]
            longest[index] = np.maximum(longest[index], length)
    left: Floats = np.zeros(size, np.float32)
    right: Floats = np.zeros(size, np.float32)
    alive = np.ones(size, bool)
    for step in range(1, 5):
        column = question.wh - step
        alive = alive & np.r_[np.zeros(min(step, size), bool), equal[: max(0, size - step), column]] if column >= 0 else alive & False
        left += alive
    for skip in (1, 2):
        alive = np.ones(size, bool)
        for step in range(1, 4):
            column = question.wh + skip + step - 1
            shifted = np.r_[equal[step:, column], np.zeros(min(step, size), bool)] if column < width else np.zeros(size, bool)
            alive = alive & shifted
            right = np.maximum(right, alive * step)
    return [(longest / 6).astype(np.float32), (left / 4).astype(np.float32), (right / 3).astype(np.float32)]


def _nesting(units: Units) -> list[Floats]:
    """Whether a unit stands between brackets or quotes."""
    depth = np.cumsum((units.kinds == 9).astype(np.float32)) - np.cumsum((units.kinds == 10).astype(np.float32))
    return [np.clip(depth, 0, 1).astype(np.float32)]
