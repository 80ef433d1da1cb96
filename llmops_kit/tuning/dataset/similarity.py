"""Rows that are nearly the same: cosine of TF-IDF vectors over runs of five characters.

What many rows share (a form they are all written in) weighs little, so that rows of one form with different contents are not taken for
near-duplicates. No tokenizer is needed, so Japanese and English are treated alike.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

THRESHOLD = 0.85
MOST_ROWS = 20_000
_RUN = 5
_MOST_CHARACTERS = 1_000  # of a row that are compared
_FEATURES = 2**20
_BLOCK = 256
_MULTIPLICATIONS = 3e8  # what the common runs may cost; they are left out of the comparison from there on (a few seconds)


def find_similar(texts: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Pairs of places (first below second) whose texts are nearly the same. Of more than `MOST_ROWS` texts the first ones are compared."""
    from scipy import sparse

    plain = [" ".join(unicodedata.normalize("NFKC", text[:_MOST_CHARACTERS]).split()) for text in texts[:MOST_ROWS]]
    if len(plain) < 2:
        return ()
    weighted = _weigh(plain)
    turned = weighted.T.tocsr()
    pairs: list[tuple[int, int]] = []
    for start in range(0, len(plain), _BLOCK):
        likeness = sparse.coo_array(weighted[start : start + _BLOCK] @ turned)
        near = likeness.data >= THRESHOLD
        rows, others = likeness.coords[0][near] + start, likeness.coords[1][near]
        pairs += [(int(row), int(other)) for row, other in zip(rows, others, strict=True) if row < other]
    return tuple(sorted(pairs))


def _weigh(texts: Sequence[str]) -> Any:
    """Unit vectors, one row per text, without the runs that would make comparing too slow."""
    import numpy as np
    from scipy import sparse
    from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

    runs = HashingVectorizer(analyzer="char", ngram_range=(_RUN, _RUN), n_features=_FEATURES, norm=None, binary=True, alternate_sign=False)
    weighted = sparse.csr_array(TfidfTransformer().fit_transform(runs.transform(texts)))
    counts = np.bincount(weighted.indices, minlength=_FEATURES).astype(np.float64)
    order = np.argsort(counts)
    affordable = order[np.cumsum(counts[order] ** 2) <= _MULTIPLICATIONS]
    used = affordable[counts[affordable] > 1]  # a run of one text alone finds nothing; it stays in the vector's length
    return sparse.csr_array(weighted[:, used])
