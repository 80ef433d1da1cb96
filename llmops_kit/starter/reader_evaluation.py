"""Measuring the shipped reader: exact match and overlap with intervals, telling absent answers, calibration, speed."""

from __future__ import annotations

import re
import string
import time
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
from numpy.typing import NDArray

from llmops_kit.models.span_ranker import SpanRanker, strip_span
from llmops_kit.models.spans import KERNEL_UNITS, WINDOW_UNITS, choose_window, read_question
from llmops_kit.models.units import Floats, cut
from llmops_kit.starter.reader_rows import QuestionRow, pair_absent

RIGHT_F1 = 0.5                  # from this overlap with a human's answer on, an answer counts as right for `confidence`
ABSENT_SHARE = 0.3
SAMPLE_ROWS = 400               # of an evaluation set, whose figures are recorded so that a quick check can find them again
Values = NDArray[np.float64]


def tokens_of(answer: str, language: str) -> list[str]:
    """An answer as it is compared: characters (ja), or lower-case words without articles and punctuation (en, as SQuAD does)."""
    plain = unicodedata.normalize("NFKC", answer)
    if language == "ja":
        return list(re.sub(r"[「」『』。、\s]", "", plain))
    plain = "".join(character for character in plain.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", plain).split()


def grade(answer: str, golds: Sequence[str], language: str) -> tuple[float, float]:
    """(exact match, F1) against the best of several human answers."""
    given = tokens_of(answer, language)
    exact, overlap = 0.0, 0.0
    for gold in golds:
        wanted = tokens_of(gold, language)
        exact = max(exact, float(given == wanted))
        shared = sum((Counter(given) & Counter(wanted)).values())
        overlap = max(overlap, 2 * shared / (len(given) + len(wanted)) if shared else 0.0)
    return exact, overlap


def predict(ranker: SpanRanker, row: QuestionRow) -> tuple[str, Floats]:
    """(best span, raw signals) of a row."""
    units, question = cut(row.context), read_question(row.question, ranker.idf, row.language)
    if not len(units) or not len(question.units):
        return "", np.array([-10, -10, 10], np.float32)
    units = units.take(choose_window(units, question, WINDOW_UNITS[row.language])[:KERNEL_UNITS])
    first, last, signals = ranker.rank(units, question)
    start, end = strip_span(row.context, int(units.starts[first]), int(units.ends[last]))
    return row.context[start:end], signals


@dataclass(frozen=True)
class Trial:
    """Answers to `rows` with the answer there, and signals where another text of the article was given instead."""

    exact: Values
    overlap: Values
    present: Values
    absent: Values
    ms: float


def try_out(ranker: SpanRanker, rows: Sequence[QuestionRow], seed: int) -> Trial:
    """Run the reader over `rows`, then over as many texts without the answer as make `ABSENT_SHARE` of all."""
    begun = time.process_time()
    answers = [predict(ranker, row) for row in rows]
    ms = (time.process_time() - begun) * 1000 / len(rows)
    grades = np.array([grade(answer, row.answers, row.language) for (answer, _), row in zip(answers, rows, strict=True)])
    without = pair_absent(rows, ABSENT_SHARE / (1 - ABSENT_SHARE), seed)
    absent = np.array([predict(ranker, row)[1] for row in without], float)
    return Trial(grades[:, 0], grades[:, 1], np.array([signals for _, signals in answers], float), absent, ms)


def choose_sample(count: int) -> list[int]:
    """The fixed places of `SAMPLE_ROWS` among `count` rows."""
    return Random(0).sample(range(count), min(SAMPLE_ROWS, count))


def fit_logistic(signals: Values, truth: Values, ridge: float = 1e-3) -> Values:
    """Weights (and last, the constant) of a logistic regression by Newton's method."""
    inputs = np.column_stack([signals, np.ones(len(signals))])
    weights = np.zeros(inputs.shape[1])
    for _ in range(30):
        shares = 1 / (1 + np.exp(-np.clip(inputs @ weights, -30, 30)))
        slope = inputs.T @ (truth - shares) - ridge * weights
        curve = (inputs * (shares * (1 - shares))[:, None]).T @ inputs + ridge * np.eye(len(weights))
        weights = weights + np.linalg.solve(curve, slope)
    return weights


def calibrate(trial: Trial) -> dict[str, Floats]:
    """`calibration` (signals to found and right) and the `threshold` on found with the best mean grade, absent cases counted.

    A declined question is graded 1 where the answer is absent, else 0; an answered one its F1, or 0 where it is absent.
    """
    signals = np.concatenate([trial.present, trial.absent])
    there = np.r_[np.ones(len(trial.present)), np.zeros(len(trial.absent))]
    right = np.r_[(trial.overlap >= RIGHT_F1).astype(float), np.zeros(len(trial.absent))]
    weights = np.column_stack([fit_logistic(signals, there), fit_logistic(signals, right)])
    found = 1 / (1 + np.exp(-(np.column_stack([signals, np.ones(len(signals))]) @ weights[:, 0])))
    gains = np.r_[trial.overlap, np.zeros(len(trial.absent))]
    choices = np.linspace(0.05, 0.95, 91)
    grades = [np.where(found >= choice, gains, 1 - there).mean() for choice in choices]
    return {"calibration": weights.astype(np.float32), "threshold": np.asarray(choices[int(np.argmax(grades))], np.float32)}


def rank_area(positive: Values, negative: Values) -> float:
    """Area under the ROC curve: how often a positive scores above a negative (ties half)."""
    both = np.concatenate([positive, negative])
    order = np.searchsorted(np.sort(both), both, "left") + np.searchsorted(np.sort(both), both, "right") + 1
    count = len(positive)
    return float((order[:count].sum() / 2 - count * (count + 1) / 2) / (count * len(negative)))


def half_width(values: Values) -> float:
    """Half the 95 % interval of a mean (normal approximation)."""
    return float(1.96 * values.std(ddof=1) / np.sqrt(len(values)))


def report(ranker: SpanRanker, trial: Trial) -> dict[str, float]:
    """The figures of the model card, in percent where they are shares."""
    def probabilities(signals: Values) -> Values:
        return np.array([ranker.calibrate(row.astype(np.float32)) for row in signals])

    present, absent = probabilities(trial.present), probabilities(trial.absent)
    threshold = ranker.threshold
    confidence = np.r_[present[:, 1], absent[:, 1]]
    right = np.r_[(trial.overlap >= RIGHT_F1).astype(float), np.zeros(len(absent))]
    bins = np.minimum((confidence * 10).astype(int), 9)
    error = sum(abs(confidence[bins == b].mean() - right[bins == b].mean()) * (bins == b).mean() for b in range(10) if (bins == b).any())
    return {
        "n": len(trial.exact), "n_absent": len(absent),
        "em": 100 * trial.exact.mean(), "em_95": 100 * half_width(trial.exact),
        "f1": 100 * trial.overlap.mean(), "f1_95": 100 * half_width(trial.overlap),
        "auroc_found": rank_area(present[:, 0], absent[:, 0]), "auroc_confidence": rank_area(present[:, 1], absent[:, 1]),
        "declined_absent": 100 * (absent[:, 0] < threshold).mean(), "declined_present": 100 * (present[:, 0] < threshold).mean(),
        "f1_answered": 100 * trial.overlap[present[:, 0] >= threshold].mean(), "calibration_error": 100 * float(error), "ms": trial.ms,
    }
