"""Vectors for the reader's hash buckets from counts: positive pointwise mutual information, then a truncated SVD.

After Levy and Goldberg, "Neural word embedding as implicit matrix factorization" (2014), with context counts to the
power 0.75 as word2vec draws its negatives.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from llmops_kit.models.spans import UNIT_BUCKETS
from llmops_kit.models.units import Floats, Ints, cut
from llmops_kit.starter.corpus import LeakFilter, read_lines

REACH = 4                       # units to each side that count as context
SPREAD = 0.4                    # length of the shipped vectors
_BLOCK_UNITS = 4_000_000
log = logging.getLogger(__name__)


def read_sentences(path: Path, language: str, *, limit: int, leaks: LeakFilter) -> Iterator[str]:
    """About `limit` sentences of the bilingual articles, without paragraphs that overlap the evaluation sets."""
    count = 0
    for row in read_lines(path):
        title = str(row["tj" if language == "ja" else "te"])
        for paragraph in row["pars"]:  # type: ignore[attr-defined]
            sentences = [pair[language == "en"] for pair in paragraph if pair[language == "en"]]
            if leaks.overlaps(title=title, text=("" if language == "ja" else " ").join(sentences), language=language):
                continue
            yield from sentences
            count += len(sentences)
        if count >= limit:
            return


def count_vectors(texts: Iterable[str], dimensions: int, *, seed: int) -> Floats:
    """A vector of length `SPREAD` for every hash bucket (zero for buckets that never occur)."""
    begun = time.process_time()
    table = _weigh(_count(texts))
    torch.manual_seed(seed)
    matrix = torch.from_numpy(table)
    basis = torch.linalg.qr(matrix @ torch.randn(UNIT_BUCKETS, dimensions + 16))[0]
    for _ in range(3):
        basis = torch.linalg.qr(matrix @ (matrix.T @ basis))[0]
    small = basis.T @ matrix
    left, squares, _ = torch.linalg.svd(small @ small.T)
    vectors = (basis @ left)[:, :dimensions] * squares[:dimensions] ** 0.25
    lengths = vectors.norm(dim=1, keepdim=True)
    log.info("word vectors: %.0f CPU-s", time.process_time() - begun)
    result: Floats = (SPREAD * vectors / lengths.clamp(min=1e-3)).numpy().astype(np.float32)
    return result


def _count(texts: Iterable[str]) -> Floats:
    """How often two buckets occur within `REACH` units of each other."""
    counts = np.zeros(UNIT_BUCKETS * UNIT_BUCKETS, np.float32)
    gap = np.full(REACH, -1)
    block: list[Ints] = []
    size = 0
    for text in texts:
        ids = cut(text).ids % UNIT_BUCKETS
        block += [ids, gap]
        size += len(ids) + REACH
        if size >= _BLOCK_UNITS:
            _add(counts, np.concatenate(block))
            block, size = [], 0
    if block:
        _add(counts, np.concatenate(block))
    table = counts.reshape(UNIT_BUCKETS, UNIT_BUCKETS)
    return table + table.T


def _add(counts: Floats, ids: Ints) -> None:
    for distance in range(1, REACH + 1):
        first, second = ids[:-distance], ids[distance:]
        both = (first >= 0) & (second >= 0)
        places, times = np.unique(first[both] * UNIT_BUCKETS + second[both], return_counts=True)
        counts[places] += times


def _weigh(table: Floats) -> Floats:
    """Positive pointwise mutual information, in place, block by block to spare memory."""
    totals = table.sum(1)
    context = totals**0.75
    context = np.maximum(context / context.sum(), 1e-12)
    for start in range(0, UNIT_BUCKETS, 1024):
        rows = slice(start, start + 1024)
        with np.errstate(divide="ignore"):
            values = np.log(table[rows] / np.maximum(totals[rows], 1)[:, None] / context[None, :])
        table[rows] = np.maximum(values, 0)
    return table
