"""The span reader of one language: chooses the window, proposes spans, ranks them, and says whether any answers.

The networks (`models.span_network`) see the same window; their scores are averaged. Trained by `llmops_kit.starter.reader`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmops_kit.errors import ModelRefused
from llmops_kit.models.span_network import SpanNetwork, log_sum
from llmops_kit.models.spans import IDF_BUCKETS, KERNEL_UNITS, WINDOW_UNITS, Question, choose_window, describe, read_question
from llmops_kit.models.units import Floats, Ints, Units, cut

CANDIDATES = 48                 # spans that are scored, as in training
RANKED = 8                      # of them, those with the best start and end scores may be the answer; see the model card
ECHO_COST = 5.0                 # logits that a span loses for only repeating the question; see the model card
CHECKSUMS = "SHA256SUMS"
WEIGHTS = "reader.npz"
_CONTENT_KINDS = (1, 3, 4, 5, 6, 7, 14)     # kanji, katakana, words, numbers: see `spans`
_NOWHERE = np.float32(-1e4)
_HOURS, _MINUTES = re.compile(r"(?<!\d)\d{1,2}:$"), re.compile(r":\d\d(?!\d)")
_COUNT, _COUNTERS = re.compile(r"[0-9０-９.,]+(?:[㐀-鿿]{1,3})?"), "日年月時分秒人円個回件社本枚台名"


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


class SpanRanker:
    """The networks of one language, with its rarity table and calibration, as plain arrays.

    Names that begin with a number (`0/x.weight`) belong to one network, all others to each.
    """

    def __init__(self, arrays: Mapping[str, NDArray[np.float32]], language: str) -> None:
        self.language = language
        shared = {name: np.asarray(value, np.float32) for name, value in arrays.items() if "/" not in name}
        self.idf = shared["idf"]
        if self.idf.shape != (IDF_BUCKETS,):
            raise ValueError(f"the rarity table has {self.idf.shape} entries, not {IDF_BUCKETS}")
        self._calibration = shared.get("calibration", np.zeros((4, 2), np.float32))
        self.threshold = float(shared.get("threshold", 0.5))
        owners = sorted({name.partition("/")[0] for name in arrays if "/" in name}) or [""]
        own = [{name.partition("/")[2]: value for name, value in arrays.items() if name.startswith(f"{owner}/")} for owner in owners]
        self.networks = tuple(SpanNetwork(shared | arrays_of_one) for arrays_of_one in own)
        self._longest = min(network.longest for network in self.networks)

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
        values = np.append(signals, np.float32(1)) @ self._calibration
        found, right = 1 / (1 + np.exp(-values))
        return float(found), float(right)

    def rank(self, units: Units, question: Question) -> tuple[int, int, Floats]:
        """(first unit, last unit, signals) of the best span; signals are its log share, its score and the absence score."""
        dense = describe(units, question, self.idf)
        states = [network.read(units, question, dense) for network in self.networks]
        ends = _mean([state.ends for state in states])
        first, last = self._propose(units, ends)
        both = list(zip(self.networks, states, strict=True))
        each = [network.score(state, first, last) for network, state in both]
        absent = np.mean([network.score_absence(state, dense, scores) for (network, state), scores in zip(both, each, strict=True)])
        scores = _mean(each)
        if not question.choice:
            scores = scores - ECHO_COST * _repeated(units, question, first, last)
        edges = ends[first, 0] + ends[last, 1]
        likely = np.argsort(-edges, kind="stable")[:RANKED]
        best = int(likely[scores[likely].argmax()])
        return int(first[best]), int(last[best]), np.array([scores[best] - log_sum(scores), scores[best] / 10, absent], np.float32)

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


def _mean(values: list[Floats]) -> Floats:
    total: Floats = sum(values[1:], values[0]) / np.float32(len(values))
    return total


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


def strip_span(text: str, start: int, end: int) -> tuple[int, int]:
    """Leave out quotes that enclose the whole span and punctuation at its end; complete a time of day (7:00) and a counted noun (3営業日)."""
    if text[start].isdigit() and (hours := _HOURS.search(text, max(0, start - 3), start)) is not None:
        start = hours.start()
    if (minutes := _MINUTES.match(text, end)) is not None and text[end - 1].isdigit():
        end = minutes.end()
    if _COUNT.fullmatch(text, start, end) is not None and text[end - 1] not in _COUNTERS and text[end: end + 1] in _COUNTERS:
        end += len(text[end: end + 1])
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
