"""One network of the span reader in numpy: reads a window of units, scores where answers begin and end, scores spans, scores absence.

Small convolutions over unit features, moved by the question (feature-wise scaling and attention); a second layer scores
spans. Trained by `llmops_kit.starter.reader_training`, which names and
sums everything alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from llmops_kit.models.spans import UNIT_BUCKETS, Question
from llmops_kit.models.units import Floats, Ints, Units

REACH = 7                       # question positions further from the question word share one embedding
STRIDES = {"conv1": 1, "conv2": 3}
SHARE, RUN = 13, 19             # columns of `describe`: sentence coverage, longest shared run


@dataclass(frozen=True)
class State:
    """What a network made of a window: a row in `hidden` and a start and an end score in `ends` per unit; the question as `asked`."""

    hidden: Floats
    asked: Floats
    ends: Floats


def stack(question: Question) -> tuple[Ints, Ints]:
    """(embedding row of each question unit's distance from the question word, units around it with padding last)."""
    distance = np.clip(np.arange(len(question.units)) - question.wh, -REACH, REACH) + REACH
    around = question.around
    return distance, np.where(around < 0, len(question.units), around)


def summarise(dense: Floats) -> Floats:
    """Four figures of a whole window for the "is it answered here" head."""
    return np.array([dense[:, SHARE].max(), dense[:, 0].max(), dense[:, RUN].max(), dense[:, SHARE].mean()], np.float32)


class SpanNetwork:
    """A trained network as plain arrays, by the names that torch gave them."""

    def __init__(self, arrays: Mapping[str, Floats]) -> None:
        self._w = {name: np.asarray(value, np.float32) for name, value in arrays.items()}
        self.longest = len(self._w["length.weight"]) - 1

    def read(self, units: Units, question: Question, dense: Floats) -> State:
        """Read a window once; `dense` is `describe` of it."""
        words, tokens = self._tokens(units)
        asked_words, asked_tokens = self._tokens(question.units)
        distance, around = stack(question)
        padded = np.concatenate([asked_tokens, np.zeros_like(asked_tokens[:1])])[around].reshape(-1)
        asked = np.tanh(self._apply("around", padded) + asked_tokens.mean(0) @ self._w["mean.weight"].T)
        attention = _softmax(words @ (asked_words @ self._w["att_k.weight"].T).T) @ (asked_words + self._w["att_pos.weight"][distance])
        scale, shift = np.split(self._apply("film", asked), 2)
        hidden = np.maximum(self._apply("x", np.concatenate([tokens, dense, attention], 1)) * (1 + scale) + shift, 0)
        hidden = hidden + np.maximum(self._convolve("conv1", hidden), 0)
        hidden = hidden + np.maximum(self._convolve("conv2", hidden), 0)
        return State(hidden, asked, self._apply("se", hidden))

    def score(self, state: State, first: Ints, last: Ints) -> Floats:
        """The score of every span from unit `first` to unit `last`."""
        w, hidden = self._w, state.hidden
        total = np.concatenate([np.zeros((1, len(w["inside.weight"])), np.float32), self._apply("inside", hidden).cumsum(0)])
        length = last - first + 1
        value = self._apply("first", hidden[first]) + self._apply("last", hidden[last]) + (total[last + 1] - total[first]) / length[:, None]
        value = value + w["length.weight"][length] + self._apply("ask", state.asked)
        value = np.maximum(value * (1 + self._apply("gate", state.asked)), 0)
        value = np.maximum(self._apply("mid", value), 0)
        scores: Floats = self._apply("out", value)[:, 0] + state.ends[first, 0] + state.ends[last, 1]
        return scores

    def score_absence(self, state: State, dense: Floats, scores: Floats) -> np.float32:
        """How much speaks for the window not answering the question, given the span `scores`."""
        figures = np.append(summarise(dense), [log_sum(scores) / 10, scores.max() / 10])
        value = np.maximum(self._apply("null.0", np.concatenate([state.hidden.max(0), state.asked, figures])), 0)
        return np.float32(self._apply("null.2", value)[0])

    def _tokens(self, units: Units) -> tuple[Floats, Floats]:
        w = self._w
        words = w["unit.weight"][units.ids % UNIT_BUCKETS]
        return words, np.concatenate([words, w["suffix.weight"][units.suffixes], w["kind.weight"][units.kinds]], 1)

    def _apply(self, name: str, values: Floats) -> Floats:
        bias = self._w.get(f"{name}.bias")
        product: Floats = values @ self._w[f"{name}.weight"].T
        return product if bias is None else product + bias

    def _convolve(self, name: str, values: Floats) -> Floats:
        weight = self._w[f"{name}.weight"]              # (out, in, width)
        width, step = weight.shape[2], STRIDES[name]
        margin = step * (width // 2)
        padded = np.pad(values, ((margin, margin), (0, 0)))
        columns = np.concatenate([padded[step * tap: step * tap + len(values)] for tap in range(width)], 1)
        product: Floats = columns @ weight.transpose(2, 1, 0).reshape(-1, weight.shape[0])
        return product + self._w[f"{name}.bias"]


def log_sum(scores: Floats) -> np.float32:
    """Logarithm of the sum of exponentials."""
    top = scores.max()
    return np.float32(top + np.log(np.exp(scores - top).sum()))


def _softmax(values: Floats) -> Floats:
    powers = np.exp(values - values.max(1, keepdims=True))
    shares: Floats = powers / powers.sum(1, keepdims=True)
    return shares
