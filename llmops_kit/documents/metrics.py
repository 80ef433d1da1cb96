"""The measures of a search. Every measure gives 1 for what is perfect.

ndcg([2], relevant=1)                                  # 0.63: the one right passage stood second
"""

from __future__ import annotations

import math
from collections.abc import Sequence

DEPTH = 10                      # ranks that MRR and nDCG look at


def reciprocal_rank(ranks: Sequence[int], *, depth: int = DEPTH) -> float:
    """1 / the best of the right passages' `ranks` (from 1); 0 where none is within `depth`. Its mean is MRR@depth (Voorhees 1999)."""
    best = min(ranks, default=depth + 1)
    return 1 / best if best <= depth else 0.0


def ndcg(ranks: Sequence[int], *, relevant: int, depth: int = DEPTH) -> float:
    """Normalised discounted cumulative gain with gains of 1 (Järvelin & Kekäläinen 2002): Σ 1 / log2(1 + rank), divided by the best possible.

    Args:
        ranks: the ranks of right passages that were found, from 1.
        relevant: how many right passages there are.
        depth: ranks beyond it do not count.
    """
    ideal = sum(1 / math.log2(1 + rank) for rank in range(1, min(relevant, depth) + 1))
    return sum(1 / math.log2(1 + rank) for rank in set(ranks) if rank <= depth) / ideal if ideal else 0.0
