"""The span reader's network in numpy: reads a window of units, proposes spans, ranks them, and says whether any answers.

Two small convolutions over unit features, moved by the question (feature-wise scaling and attention), give a start and
an end score to every unit; the best pairs are ranked by a second layer. Trained by `llmops_kit.starter.reader`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmops_kit.errors import ModelRefused
from llmops_kit.models.spans import IDF_BUCKETS, KERNEL_UNITS, UNIT_BUCKETS, WINDOW_UNITS, Question, choose_window, describe, read_question
from llmops_kit.models.units import Floats, Ints, Units, cut

CANDIDATES = 48
ECHO_COST = 5.0                 # logits that a span loses for only repeating the question; see the model card
REACH = 7                       # question positions further from the question word share one embedding
SHARE, RUN = 13, 19             # columns of `describe`: sentence coverage, longest shared run
CHECKSUMS = "SHA256SUMS"
WEIGHTS = "reader.npz"
_CONTENT_KINDS = (1, 3, 4, 5, 6, 7, 14)     # kanji, katakana, words, numbers: see `spans`
_NOWHERE = np.float32(-1e4)


@dataclass(frozen=True)
class Finding:
    """The best span: character offsets of the answer and of its sentence, and two calibrated probabilities.

    `found` is the probability that the text answers the question at all, `confidence` that this span is right
    (token overlap F1 of one half or more with a human's answer). `clear` is True when `found` passes the threshold.
    """

    start: int
    end: int
    quote_start: int
    quote_end: int
    found: float
    confidence: float
    clear: bool


def stack(question: Question) -> tuple[Ints, Ints]:
    """(embedding row of each question unit's distance from the question word, units around it with padding last)."""
    distance = np.clip(np.arange(len(question.units)) - question.wh, -REACH, REACH) + REACH
    around = question.around
    return distance, np.where(around < 0, len(question.units), around)


def summarise(dense: Floats) -> Floats:
    """Four figures of a whole window for the "is it answered here" head."""
    return np.array([dense[:, SHARE].max(), dense[:, 0].max(), dense[:, RUN].max(), dense[:, SHARE].mean()], np.float32)


class SpanRanker:
    """The network of one language, with its rarity table and calibration, as plain arrays."""

    def __init__(self, arrays: Mapping[str, NDArray[np.float32]], language: str) -> None:
        self.language = language
        self._w = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
        self.idf = self._w["idf"]
        if self.idf.shape != (IDF_BUCKETS,):
            raise ValueError(f"the rarity table has {self.idf.shape} entries, not {IDF_BUCKETS}")
        self.threshold = float(self._w["threshold"]) if "threshold" in self._w else 0.5
        self._longest = len(self._w["length.weight"]) - 1

    def find(self, question: str, text: str) -> Finding | None:
        """The best span of `text` for `question`; None where either has nothing to read."""
        units, asked = cut(text), read_question(question, self.idf, self.language)
        if not len(units) or not len(asked.units):
            return None
        units = units.take(choose_window(units, asked, WINDOW_UNITS[self.language])[:KERNEL_UNITS])
        first, last, signals = self.rank(units, asked)
        same = np.flatnonzero(units.sentences == units.sentences[first])
        start, end = strip_span(text, int(units.starts[first]), int(units.ends[last]))
        found, confidence = self.calibrate(signals)
        return Finding(start, end, int(units.starts[same[0]]), int(units.ends[same[-1]]), found, confidence, found >= self.threshold)

    def calibrate(self, signals: Floats) -> tuple[float, float]:
        """(probability that the text answers, probability that the span is right) from the raw `signals`."""
        values = np.append(signals, np.float32(1)) @ self._w["calibration"]
        found, right = 1 / (1 + np.exp(-values))
        return float(found), float(right)

    def rank(self, units: Units, question: Question) -> tuple[int, int, Floats]:
        """(first unit, last unit, signals) of the best span; signals are its log share, its score and the absence score."""
        dense = describe(units, question, self.idf)
        hidden, asked, ends = self._read(units, question, dense)
        first, last = self._propose(units, ends)
        scores = self._score(hidden, asked, (first, last), ends)
        absent = self._absence(hidden, asked, np.append(summarise(dense), [_log_sum(scores) / 10, scores.max() / 10]))
        if not question.choice:
            scores = scores - ECHO_COST * _repeated(units, question, first, last)
        best = int(scores.argmax())
        return int(first[best]), int(last[best]), np.array([scores[best] - _log_sum(scores), scores[best] / 10, absent], np.float32)

    def _tokens(self, units: Units) -> tuple[Floats, Floats]:
        w = self._w
        words = w["unit.weight"][units.ids % UNIT_BUCKETS]
        return words, np.concatenate([words, w["suffix.weight"][units.suffixes], w["kind.weight"][units.kinds]], 1)

    def _read(self, units: Units, question: Question, dense: Floats) -> tuple[Floats, Floats, Floats]:
        """(hidden state of every unit, question vector, start and end score of every unit)."""
        words, tokens = self._tokens(units)
        asked_words, asked_tokens = self._tokens(question.units)
        distance, around = stack(question)
        padded = np.concatenate([asked_tokens, np.zeros_like(asked_tokens[:1])])[around].reshape(-1)
        asked = np.tanh(self._apply("around", padded) + asked_tokens.mean(0) @ self._w["mean.weight"].T)
        attention = _softmax(words @ (asked_words @ self._w["att_k.weight"].T).T) @ (asked_words + self._w["att_pos.weight"][distance])
        scale, shift = np.split(self._apply("film", asked), 2)
        hidden = self._apply("x", np.concatenate([tokens, dense, attention], 1)) * (1 + scale) + shift
        hidden = np.maximum(hidden, 0)
        hidden = hidden + np.maximum(self._convolve("conv1", hidden, 1), 0)
        hidden = hidden + np.maximum(self._convolve("conv2", hidden, 3), 0)
        return hidden, asked, self._apply("se", hidden)

    def _apply(self, name: str, values: Floats) -> Floats:
        bias = self._w.get(f"{name}.bias")
        product: Floats = values @ self._w[f"{name}.weight"].T
        return product if bias is None else product + bias

    def _convolve(self, name: str, values: Floats, step: int) -> Floats:
        weight = self._w[f"{name}.weight"]              # (out, in, width)
        width = weight.shape[2]
        margin = step * (width // 2)
        padded = np.pad(values, ((margin, margin), (0, 0)))
        columns = np.concatenate([padded[step * tap: step * tap + len(values)] for tap in range(width)], 1)
        product: Floats = columns @ weight.transpose(2, 1, 0).reshape(-1, weight.shape[0])
        return product + self._w[f"{name}.bias"]

    def _propose(self, units: Units, ends: Floats) -> tuple[Ints, Ints]:
        """The unit pairs with the best start plus end score, inside one sentence and no longer than the network knows."""
        size = len(units)
        last = np.arange(size)[:, None] + np.arange(self._longest)[None, :]
        inside = last < size
        last = np.minimum(last, size - 1)
        allowed = inside & (units.sentences[:, None] == units.sentences[last])
        # One kana, function word or mark alone is no answer, however well it is placed; where there is nothing else, it stays.
        allowed[:, 0] &= np.isin(units.kinds, _CONTENT_KINDS) if np.isin(units.kinds, _CONTENT_KINDS).any() else True
        pairs = np.where(allowed, ends[:, :1] + ends[last, 1], _NOWHERE * 10).ravel()
        kept = np.argpartition(-pairs, CANDIDATES)[:CANDIDATES] if len(pairs) > CANDIDATES else np.arange(len(pairs))
        kept = np.sort(kept[pairs[kept] > _NOWHERE * 9])
        return kept // self._longest, kept // self._longest + kept % self._longest

    def _score(self, hidden: Floats, asked: Floats, spans: tuple[Ints, Ints], ends: Floats) -> Floats:
        first, last = spans
        w = self._w
        total = np.concatenate([np.zeros((1, len(w["inside.weight"])), np.float32), self._apply("inside", hidden).cumsum(0)])
        length = last - first + 1
        value = self._apply("first", hidden[first]) + self._apply("last", hidden[last]) + (total[last + 1] - total[first]) / length[:, None]
        value = value + w["length.weight"][length] + self._apply("ask", asked)
        value = np.maximum(value * (1 + self._apply("gate", asked)), 0)
        value = np.maximum(self._apply("mid", value), 0)
        scores: Floats = self._apply("out", value)[:, 0] + ends[first, 0] + ends[last, 1]
        return scores

    def _absence(self, hidden: Floats, asked: Floats, figures: Floats) -> np.float32:
        value = np.maximum(self._apply("null.0", np.concatenate([hidden.max(0), asked, figures])), 0)
        return np.float32(self._apply("null.2", value)[0])


def _log_sum(scores: Floats) -> np.float32:
    top = scores.max()
    return np.float32(top + np.log(np.exp(scores - top).sum()))


def _repeated(units: Units, question: Question, first: Ints, last: Ints) -> NDArray[np.bool_]:
    """Which spans only repeat words of the question, in its order, function words around them aside."""
    asked = question.units.ids.astype(np.uint32).tobytes()
    said = units.ids.astype(np.uint32)
    content = np.isin(units.kinds, _CONTENT_KINDS)
    repeated = np.zeros(len(first), bool)
    for row, (start, end) in enumerate(zip(first, last, strict=True)):
        inside = start + np.flatnonzero(content[start: end + 1])
        repeated[row] = len(inside) > 0 and said[inside[0]: inside[-1] + 1].tobytes() in asked
    return repeated


def _softmax(values: Floats) -> Floats:
    powers = np.exp(values - values.max(1, keepdims=True))
    shares: Floats = powers / powers.sum(1, keepdims=True)
    return shares


def strip_span(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out quotes that enclose the whole span, and punctuation a span should not end with."""
    while end - start > 1 and text[end - 1] in "、,。;；:：":
        end -= 1
    if end - start > 2 and text[start] + text[end - 1] in ("「」", "『』", "\"\"", "“”", "“\"", "''"):
        start, end = start + 1, end - 1
    return start, end


def read_checksums(folder: Path) -> dict[str, str]:
    """SHA-256 by file name, as shipped.

    Raises:
        ModelRefused: the list is absent.
    """
    listed = folder / CHECKSUMS
    if not listed.exists():
        raise ModelRefused(model=folder.name, reason=f"{CHECKSUMS} is missing in {folder}")
    rows = [line.split() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()]
    return {row[-1]: row[0] for row in rows}


def load_rankers(folder: Path) -> dict[str, SpanRanker]:
    """The networks of all languages in `folder`, after their checksum held.

    Raises:
        ModelRefused: the weights file is absent or is not the one that was shipped.
    """
    path, sums = folder / WEIGHTS, read_checksums(folder)
    if not path.exists():
        raise ModelRefused(model=folder.name, reason=f"{WEIGHTS} is missing in {folder}")
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if sums.get(WEIGHTS) != actual:
        raise ModelRefused(model=folder.name, reason=f"{WEIGHTS} has the checksum {actual}, not {sums.get(WEIGHTS)}")
    with np.load(path, allow_pickle=False) as archive:
        arrays: dict[str, dict[str, NDArray[np.float32]]] = {}
        for name in archive.files:
            language, _, rest = name.partition("/")
            arrays.setdefault(language, {})[rest] = archive[name]
    return {language: SpanRanker(values, language) for language, values in arrays.items()}
