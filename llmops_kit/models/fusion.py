"""Fusion of lexical and dense search: one score per text from BM25 and the cosine of an embedding. Needs numpy only.

`fuse(index.scores(query), documents @ embedder.encode([query])[0], ceiling=index.ceiling(query))`, then `rank` of `lexical`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from llmops_kit.models.lexical import Floats

WEIGHT = 0.4
FADING = 4                          # both chosen together on development data, on a plateau: see docs/log.md


def fuse(lexical: ArrayLike, dense: ArrayLike, *, ceiling: float, weight: float = WEIGHT) -> Floats:
    """One score per text: share + `weight` x (1 - best share)^4 x cosine, where share = BM25 / `ceiling`.

    A share says how much of the query a text holds, 0 to 1, rare terms counting more. Where some text holds much of it, words decide and
    the embedding only breaks near ties; where none does (other words, another language), the embedding takes over. No rank is involved,
    so a weak embedding cannot push down what the words found, as reciprocal rank fusion lets it.

    Args:
        lexical: BM25 scores of one query, 0 or more (`LexicalIndex.scores`).
        dense: cosines of the same texts in the same order, -1 to 1.
        ceiling: the score that no text can exceed for this query (`LexicalIndex.ceiling`).
        weight: the share that a cosine of 1 is worth where no text holds any of the query. 0 leaves the embedding out.

    Where no text shares a term with the query the order is that of `dense`; where all cosines are equal, that of `lexical`.

    Raises:
        ValueError: `lexical` and `dense` differ in shape, or `ceiling` is 0 while a text has a score.
    """
    words, near = np.asarray(lexical, np.float64), np.asarray(dense, np.float64)
    if words.shape != near.shape or words.ndim != 1:
        raise ValueError(f"one lexical and one dense score per text are needed, not {words.shape} and {near.shape}")
    best = float(words.max(initial=0))
    if best > 0 >= ceiling:
        raise ValueError(f"the ceiling is {ceiling} although a text has the score {best}; take LexicalIndex.ceiling(query)")
    shares = words / ceiling if best > 0 else words
    unanswered = 1 - min(float(shares.max(initial=0)), 1.0)
    return (shares + weight * unanswered**FADING * near).astype(np.float32)
