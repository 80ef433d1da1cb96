"""Retrieval: BM25 with several tokenizers, the starter embedder, and their fusions, on questions with one right paragraph each.

Every method ranks the same texts for the same questions in one run. Times are of the processor, not the wall, because other work
shares the machine. `MINILM=<folder of all-MiniLM-L6-v2> make bench` adds that model.
"""

from __future__ import annotations

import os
import re
import time
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.util import find_spec
from math import atanh, sqrt, tanh

import numpy as np

from llmops_kit.models.embedder import StarterEmbedder
from llmops_kit.models.fusion import fuse
from llmops_kit.models.lexical import LexicalIndex, tokenize
from llmops_kit.starter import weights_folder
from tests.benchmarks.retrieval_sets import DATA, Questions, read_all, read_similar

DEFAULTS, TUNED = (1.2, 0.75), (0.9, 0.4)
BASELINE, LEXICAL, DENSE, FUSED = "BM25 bigrams (k1=1.2 b=.75)", "**lexical, ours**", "**starter-embed**", "**fusion, ours**"
RRF, SCALED = "RRF (k=60) of the two", "BM25 / best + 0.2 x cosine"
RRF_K = 60
RESAMPLES = 2000
_RUNS = re.compile(r"[々-〇ぁ-ヿ㐀-䶿一-鿿]+|[^\W_々-〇ぁ-ヿ㐀-䶿一-鿿]+")
_PARTICLES = ("助詞", "助動詞", "補助記号", "空白")

Encode = Callable[[Sequence[str]], np.ndarray]


@dataclass
class Result:
    """Scores of every text for every question, and what they cost; the cost of a fusion is that of its legs."""

    scores: np.ndarray
    docs_per_s: float | None = None
    query_ms: float | None = None
    memory_mb: float | None = None
    ceilings: np.ndarray = field(default_factory=lambda: np.zeros(0))


def run() -> None:
    """All sets and methods; says what was left out and why."""
    if not DATA.is_dir():
        print(f"Skipped: {DATA} is not there (see the README of the data folder).")
        return
    embedder = StarterEmbedder(weights_folder("starter-embed"))
    print(f"starter-embed {embedder.revision}, {embedder.dimensions} dimensions. Processor times; memory is that of the index, without the model.")
    encoders: dict[str, Encode] = {DENSE: embedder.encode}
    missing = {}
    if folder := os.environ.get("MINILM"):
        encoders["all-MiniLM-L6-v2"] = partial(encode_minilm, folder)
    else:
        missing["all-MiniLM-L6-v2"] = "no folder given in MINILM, and nothing is downloaded"
    if not _has_sudachi():
        missing["BM25 Sudachi"] = "sudachipy and sudachidict_core are not installed"
    if find_spec("bm25s") is None:
        missing["bm25s on our terms"] = "not installed"
    compared = []
    for number, questions in enumerate(read_all()):
        results = measure(questions, encoders, everything=number < 2)
        if number < 3:
            print_table(questions, results, missing if number < 2 else {})
        compared.append((questions, results))
    print_gains(compared)
    print_similarity(encoders)


def measure(questions: Questions, encoders: dict[str, Encode], *, everything: bool) -> dict[str, Result]:
    """Every method on one set, by name; without `everything` only the baseline, ours, and their parts."""
    results = {BASELINE: search(questions, partial(cut, sizes=(2,)), *DEFAULTS)}
    if everything:
        results["BM25 bigrams (k1=.9 b=.4)"] = search(questions, partial(cut, sizes=(2,)), *TUNED)
        results["BM25 1+2-grams (k1=1.2 b=.75)"] = search(questions, partial(cut, sizes=(1, 2)), *DEFAULTS)
        results["BM25 1+2-grams (k1=.9 b=.4)"] = search(questions, partial(cut, sizes=(1, 2)), *TUNED)
        if _has_sudachi():
            results["BM25 Sudachi A, normalised"] = search(questions, partial(cut_sudachi, modes="A"), *DEFAULTS)
            results["BM25 Sudachi C, normalised"] = search(questions, partial(cut_sudachi, modes="C"), *DEFAULTS)
            results["BM25 Sudachi A+C, no particles"] = search(questions, partial(cut_sudachi, modes="AC", particles=False), *DEFAULTS)
        if find_spec("bm25s"):
            results["bm25s on our terms (k1=.9 b=.4)"] = search_bm25s(questions)
    lexical = results[LEXICAL] = search(questions, None, *TUNED)
    for name, encode in encoders.items():
        results[name] = embed(questions, encode)
    dense = results[DENSE]
    costs = {"query_ms": _sum(lexical.query_ms, dense.query_ms), "memory_mb": _sum(lexical.memory_mb, dense.memory_mb)}
    results[RRF] = Result(fuse_ranks(lexical.scores, dense.scores), **costs)
    results[SCALED] = Result(lexical.scores / np.maximum(lexical.scores.max(1, keepdims=True), 1e-9) + 0.2 * dense.scores, **costs)
    legs = zip(lexical.scores, dense.scores, lexical.ceilings, strict=True)
    results[FUSED] = Result(np.stack([fuse(words, near, ceiling=float(top)) for words, near, top in legs]), **costs)
    return results


def search(questions: Questions, cutter: Callable[[str], Iterable[str]] | None, k1: float, b: float) -> Result:
    """BM25 by our index: with its own terms, or with those of `cutter`, which it is given as opaque words."""
    words: dict[str, str] = {}

    def spell(text: str) -> str:
        return text if cutter is None else " ".join(words.setdefault(term, f"w{len(words)}") for term in cutter(text))

    started = time.process_time()
    index = LexicalIndex([spell(text) for text in questions.texts], k1, b)
    built_s = time.process_time() - started
    asked = questions.asked
    started = time.process_time()
    scores = np.stack([index.scores(spell(text)) for text in asked])
    asked_s = time.process_time() - started
    texts = [spell(text) for text in questions.texts]
    tracemalloc.start()
    kept = LexicalIndex(texts, k1, b)
    memory_mb = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    ceilings = np.array([kept.ceiling(text) for text in asked]) if cutter is None else np.zeros(len(asked))
    return Result(scores, len(texts) / built_s, asked_s / len(asked) * 1000, memory_mb, ceilings)


def search_bm25s(questions: Questions) -> Result:
    """The library, for speed: same terms, same formula."""
    import bm25s

    started = time.process_time()
    index = bm25s.BM25(k1=TUNED[0], b=TUNED[1], method="lucene")
    index.index([tokenize(text) for text in questions.texts], show_progress=False)
    built_s = time.process_time() - started
    started = time.process_time()
    scores = np.stack([index.get_scores(tokenize(text)) for text in questions.asked])
    return Result(scores, len(questions.texts) / built_s, (time.process_time() - started) / len(questions.asked) * 1000)


def embed(questions: Questions, encode: Encode) -> Result:
    """Cosines of an embedder, one question at a time for the timing of the first 200."""
    encode(questions.texts[:5])
    started = time.process_time()
    texts = encode(questions.texts)
    built_s = time.process_time() - started
    few = questions.asked[:200]
    started = time.process_time()
    for text in few:
        texts @ encode([text])[0]
    asked_s = time.process_time() - started
    return Result(encode(questions.asked) @ texts.T, len(texts) / built_s, asked_s / len(few) * 1000, texts.nbytes / 1e6)


def fuse_ranks(*legs: np.ndarray) -> np.ndarray:
    """Reciprocal rank fusion (Cormack et al. 2009)."""
    return sum(1 / (RRF_K + 1 + np.argsort(np.argsort(-leg, axis=1, kind="stable"), axis=1)) for leg in legs)


def cut(text: str, sizes: tuple[int, ...]) -> list[str]:
    """Character n-grams of Japanese runs, everything else whole: the usual recipe that ours is compared with."""
    terms = []
    for run_ in _RUNS.findall(unicodedata.normalize("NFKC", text).lower()):
        unspaced = run_[0] >= "々"
        terms += [run_[start: start + size] for size in sizes for start in range(len(run_) - size + 1)] if unspaced and len(run_) > 1 else [run_]
    return terms


def _has_sudachi() -> bool:
    return find_spec("sudachipy") is not None and find_spec("sudachidict_core") is not None


@cache
def _sudachi() -> object:
    from sudachipy import Dictionary

    return Dictionary(dict="core").create()


def cut_sudachi(text: str, modes: str, particles: bool = True) -> list[str]:
    """Normalised forms of a dictionary's words, of one or two of its lengths (A short, C long)."""
    from sudachipy import SplitMode

    found = [word for mode in modes for word in _sudachi().tokenize(unicodedata.normalize("NFKC", text)[:10_000], getattr(SplitMode, mode))]
    return [word.normalized_form().lower() for word in found if particles or word.part_of_speech()[0] not in _PARTICLES]


def encode_minilm(folder: str, texts: Sequence[str]) -> np.ndarray:
    """Mean of the last states, normalised, 256 tokens at most: as its model card says."""
    import torch

    tokenizer, model = _minilm(folder)
    rows = []
    for start in range(0, len(texts), 32):
        batch = tokenizer(list(texts[start: start + 32]), padding=True, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            mask = batch["attention_mask"].unsqueeze(-1)
            means = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
        rows.append(torch.nn.functional.normalize(means).numpy())
    return np.concatenate(rows)


@cache
def _minilm(folder: str) -> tuple[object, object]:
    from transformers import AutoModel, AutoTokenizer

    return AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()


def rank_right(scores: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Rank of the right text from 1; equal scores in the order of the texts."""
    own = scores[np.arange(len(right)), right][:, None]
    earlier = np.arange(scores.shape[1])[None, :] < right[:, None]
    return 1 + (scores > own).sum(1) + ((scores == own) & earlier).sum(1)


def print_table(questions: Questions, results: dict[str, Result], missing: dict[str, str]) -> None:
    """One row per method, then what was left out and why, then ours over the baseline."""
    print(f"\n### {questions.name} (n = {len(questions.asked)}, {len(questions.texts)} texts)\n")
    print("| method | R@1 (95 %, Wilson) | R@5 | MRR@10 | nDCG@10 | index docs/s | ms/query | memory (MB) |\n|---|---|---|---|---|---|---|---|")
    for name, result in results.items():
        ranks = rank_right(result.scores, questions.right)
        measured = ((result.docs_per_s, 0), (result.query_ms, 2), (result.memory_mb, 1))
        costs = " | ".join("" if value is None else f"{value:,.{digits}f}" for value, digits in measured)
        reciprocal, gain = np.where(ranks <= 10, 1 / ranks, 0).mean(), np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0).mean()
        print(f"| {name} | {_wilson(ranks == 1)} | {100 * (ranks <= 5).mean():.1f} | {100 * reciprocal:.1f} | {100 * gain:.1f} | {costs} |")
    for name, reason in missing.items():
        print(f"| {name} | skipped: {reason} | | | | | | |")
    ours, base = (rank_right(results[name].scores, questions.right) for name in (FUSED, BASELINE))
    first, fifth = ((ours <= place).mean() / (base <= place).mean() for place in (1, 5))
    slower = results[FUSED].query_ms / results[BASELINE].query_ms
    print(f"| ratio: fusion, ours / {BASELINE} | {first:.3f}× | {fifth:.3f}× | | | | {slower:.2f}× | |")


def print_gains(compared: list[tuple[Questions, dict[str, Result]]]) -> None:
    """What the fusion adds to lexical search alone: paired, so the interval is that of the difference."""
    print("\n### Fusion beside its parts, R@1\n")
    print(f"| questions | n | texts | lexical | starter-embed | RRF | {SCALED} | fusion | fusion - lexical (95 %, paired bootstrap) | R@5 lexical → fusion |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for questions, results in compared:
        ranks = {name: rank_right(result.scores, questions.right) for name, result in results.items()}
        firsts = [f"{100 * (ranks[name] == 1).mean():.1f}" for name in (LEXICAL, DENSE, RRF, SCALED, FUSED)]
        gained = 100.0 * ((ranks[FUSED] == 1).astype(float) - (ranks[LEXICAL] == 1))
        low, high = np.percentile([np.random.default_rng(seed).choice(gained, len(gained)).mean() for seed in range(RESAMPLES)], [2.5, 97.5])
        fifths = " → ".join(f"{100 * (ranks[name] <= 5).mean():.1f}" for name in (LEXICAL, FUSED))
        difference = f"{gained.mean():+.1f} ({low:+.1f} to {high:+.1f})"
        print(f"| {questions.name} | {len(gained)} | {len(questions.texts)} | {' | '.join(firsts)} | {difference} | {fifths} |")


def print_similarity(encoders: dict[str, Encode]) -> None:
    """Rank correlation with human scores; the baseline is the share of common character pairs."""
    pairs = read_similar()
    labels = np.array([score for _, _, score in pairs])
    pieces = [[set(cut(text, (2,))) for text in pair[:2]] for pair in pairs]
    methods = {"common bigrams (Jaccard)": np.array([len(first & second) / max(len(first | second), 1) for first, second in pieces])}
    for name, encode in encoders.items():
        methods[name] = (encode([pair[0] for pair in pairs]) * encode([pair[1] for pair in pairs])).sum(1)
    print(f"\n### JSTS valid, Spearman x 100 (n = {len(pairs)})\n\n| method | Spearman (95 %, Fisher's z) |\n|---|---|")
    for name, values in methods.items():
        rho = float(np.corrcoef(_rank_mean(values), _rank_mean(labels))[0, 1])
        half = 1.96 * sqrt((1 + rho * rho / 2) / (len(pairs) - 3))      # Bonett and Wright 2000
        print(f"| {name} | {100 * rho:.1f} ({100 * tanh(atanh(rho) - half):.1f}–{100 * tanh(atanh(rho) + half):.1f}) |")


def _rank_mean(values: np.ndarray) -> np.ndarray:
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (counts.cumsum() - (counts - 1) / 2)[group]


def _wilson(hits: np.ndarray) -> str:
    n, share, z = len(hits), float(hits.mean()), 1.96
    middle, half = (share + z * z / (2 * n)) / (1 + z * z / n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return f"{100 * share:.1f} ({100 * (middle - half):.1f}–{100 * (middle + half):.1f})"


def _sum(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first + second
