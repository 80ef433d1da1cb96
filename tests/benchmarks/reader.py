"""The shipped reader on JSQuAD valid and XQuAD-en beside two readers without training: a random candidate, and the first noun-like one."""

from __future__ import annotations

import importlib.util
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np

from llmops_kit.models.span_ranker import SpanRanker, load_rankers
from llmops_kit.models.units import Units, cut
from llmops_kit.starter.corpus import EVALUATION_FILES
from llmops_kit.starter.reader_evaluation import grade, half_width, predict, report, try_out
from llmops_kit.starter.reader_rows import QuestionRow, read_jsquad_rows, read_rows

ROOT = Path(__file__).parent.parent.parent
WEIGHTS = ROOT / "llmops_kit" / "starter" / "weights" / "starter-reader"
DATA = ROOT.parent / "shared" / "data"
SEED = 7                        # as in the recipe's own evaluation
MAX_RANDOM_UNITS = 6
NAMES = {"ja": "JSQuAD valid", "en": "XQuAD-en"}
_NOUN = re.compile(r"\d+(?:[.,]\d+)*[年月日人個]?|[㐀-鿿々]{2,}|[ァ-ヺー]{2,}|[A-Z][\w'-]*(?: [A-Z][\w'-]*)*")
_CONTENT = (1, 3, 4, 5, 6, 7, 14)
Answer = Callable[[QuestionRow], str]


def run(limit: int | None = None) -> None:
    """Both languages, the right paragraph given and the paragraph searched; then size, loading and speed. `limit` keeps the first rows."""
    if not (DATA / "qa").is_dir():
        print("The data folder is not beside the project: nothing measured.")
        return
    begun = time.perf_counter()
    rankers = load_rankers(WEIGHTS)
    load_s = time.perf_counter() - begun
    rows = {"ja": [*read_jsquad_rows(DATA / EVALUATION_FILES[0])][:limit], "en": [*read_rows(DATA / EVALUATION_FILES[1], "en")][:limit]}
    print("| reader | set, n | EM | F1 | ms per question (CPU, one core) |\n|---|---|---|---|---|")
    trials = {language: _compare(rankers[language], rows[language]) for language in rows}
    print("\n| absent: another paragraph of the article | n | AUROC found | AUROC confidence | declined absent / present | calibration error |")
    print("|---|---|---|---|---|---|")
    for language, figures in trials.items():
        print(f"| {NAMES[language]} | {figures['n_absent']} | {figures['auroc_found']:.3f} | {figures['auroc_confidence']:.3f} | "
              f"{figures['declined_absent']:.1f} % / {figures['declined_present']:.1f} % | {figures['calibration_error']:.1f} |")
    if importlib.util.find_spec("llmops_kit.models.lexical") is None:
        print("\nNo lexical search in this version: nothing measured end to end.")
    else:
        print("\n| lexical search, best text | set, n | right text | EM | F1 |\n|---|---|---|---|---|")
        for language in rows:
            _search_and_read(rankers[language], rows[language])
    size_mb = sum(path.stat().st_size for path in WEIGHTS.iterdir()) / 1e6
    print(f"\n{size_mb:.1f} MB, loaded in {load_s:.2f} s (checksum included).")


def _compare(ranker: SpanRanker, rows: Sequence[QuestionRow]) -> dict[str, float]:
    """One line per reader, then how many times as good ours is as each baseline."""
    ours = report(ranker, try_out(ranker, rows, SEED))
    random = Random(SEED)
    lines = {"starter-reader": (ours["em"], ours["em_95"], ours["f1"], ours["f1_95"], ours["ms"])}
    lines["random candidate"] = _measure(rows, lambda row: _pick_random(row, random))
    lines["first noun-like candidate"] = _measure(rows, _pick_noun)
    for name, (exact, exact_95, overlap, overlap_95, ms) in lines.items():
        print(f"| {name} | {NAMES[ranker.language]}, {len(rows)} | {exact:.1f} ± {exact_95:.1f} | {overlap:.1f} ± {overlap_95:.1f} | {ms:.1f} |")
        if name != "starter-reader":
            print(f"| ratio to it | | {_ratio(ours['em'], exact)} | {_ratio(ours['f1'], overlap)} | {_ratio(ours['ms'], ms)} |")
    return ours


def _ratio(ours: float, baseline: float) -> str:
    return f"{ours / baseline:.1f}×" if baseline else "–"


def _measure(rows: Sequence[QuestionRow], answer: Answer) -> tuple[float, float, float, float, float]:
    begun = time.process_time()
    answers = [answer(row) for row in rows]
    ms = (time.process_time() - begun) * 1000 / len(rows)
    grades = np.array([grade(given, row.answers, row.language) for given, row in zip(answers, rows, strict=True)])
    return (100 * grades[:, 0].mean(), 100 * half_width(grades[:, 0]), 100 * grades[:, 1].mean(), 100 * half_width(grades[:, 1]), ms)


def _pick_random(row: QuestionRow, random: Random) -> str:
    """Up to `MAX_RANDOM_UNITS` units of one sentence that begin and end with a content unit."""
    units: Units = cut(row.context)
    places = np.flatnonzero(np.isin(units.kinds, _CONTENT))
    if not len(places):
        return ""
    first = int(random.choice(places))
    lasts = [int(place) for place in places if first <= place < first + MAX_RANDOM_UNITS and units.sentences[place] == units.sentences[first]]
    return row.context[units.starts[first]: units.ends[random.choice(lasts)]]


def _pick_noun(row: QuestionRow) -> str:
    """The first number, kanji or katakana run, or run of capitalised words that the question does not hold."""
    asked = row.question.lower()
    return next((match[0] for match in _NOUN.finditer(row.context) if match[0].lower() not in asked), "")


def _search_and_read(ranker: SpanRanker, rows: Sequence[QuestionRow]) -> None:
    """The whole set's texts searched with the question, the best one read; beside the first noun-like candidate of that text."""
    from llmops_kit.models.lexical import LexicalIndex

    texts = sorted({row.context for row in rows})
    index = LexicalIndex(texts)
    found = [replace(row, context=texts[hits[0][0]] if (hits := index.search(row.question, 1)) else "") for row in rows]
    right = np.array([float(given.context == row.context) for given, row in zip(found, rows, strict=True)])
    readers: dict[str, Answer] = {"starter-reader": lambda row: predict(ranker, row)[0], "first noun-like candidate": _pick_noun}
    shown = {name: _measure(found, answer) for name, answer in readers.items()}
    for name, (exact, exact_95, overlap, overlap_95, _) in shown.items():
        print(f"| {name} | {NAMES[ranker.language]}, {len(rows)} | {100 * right.mean():.1f} ± {100 * half_width(right):.1f} | "
              f"{exact:.1f} ± {exact_95:.1f} | {overlap:.1f} ± {overlap_95:.1f} |")
    ours, other = shown.values()
    print(f"| ratio | | | {_ratio(ours[0], other[0])} | {_ratio(ours[2], other[2])} |")
