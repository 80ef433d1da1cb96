"""The measures of a search and of short answers, and how sure they are. Needs numpy only.

    ndcg([2], relevant=1)                                  # 0.63: the one right passage stood second
    wilson(8, 10)                                          # Interval(value=0.8, low=0.49, high=0.943, n=10)
    grade("3営業日前まで", "３営業日前まで。").exact           # 1.0

Every measure gives 1 for what is perfect, Japanese included.
"""

from __future__ import annotations

import itertools
import math
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

DEPTH = 10                      # ranks that MRR and nDCG look at
SEED = 20_240                   # of every resampling, so that a report is the same each time
RESAMPLES = 4000
_Z = 1.959964                   # the 97.5 % point of the normal distribution
_EXACT_FLIPS = 12               # up to this many differences all signs are tried
_JAPANESE = re.compile(r"[぀-ヿ㐀-鿿]")
_ARTICLES = re.compile(r"\b(?:a|an|the)\b")
_POLITE = re.compile(r"(?:です|でした|である|だ|になります|となります|まで)+$")


@dataclass(frozen=True)
class Interval:
    """A measured `value` with its 95 % interval and the number of questions, `n`, it was measured on."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.low:.2f}–{self.high:.2f}, n={self.n})"


@dataclass(frozen=True)
class Grade:
    """An answer beside the expected one, each 0 to 1: `exact` match, `lenient` match (without です and the like), and overlap `f1`."""

    exact: float
    lenient: float
    f1: float


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences with its 95 % interval, and `p`, how often chance alone makes one as large."""

    mean: float
    low: float
    high: float
    p: float
    n: int

    def is_established(self, comparisons: int = 1) -> bool:
        """Whether the interval leaves out 0 and p < 0.05, shared among so many `comparisons` (Bonferroni)."""
        return self.n > 0 and not self.low <= 0 <= self.high and self.p < 0.05 / comparisons


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


def wilson(successes: float, n: int) -> Interval:
    """A share with Wilson's score interval (Wilson 1927), which stays right for few questions and for 0 and 100 %."""
    if not n:
        return Interval(math.nan, math.nan, math.nan, 0)
    share = successes / n
    middle = (share + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    half = _Z / (1 + _Z**2 / n) * math.sqrt(share * (1 - share) / n + _Z**2 / (4 * n**2))
    return Interval(share, min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)), n)


def mean_interval(values: ArrayLike) -> Interval:
    """The mean of values between 0 and 1, with the percentile bootstrap over questions (Efron 1979), 4,000 resamples of a fixed seed.

    Equal values leave the bootstrap nothing to say; there Wilson's interval of their mean stands, which no such values can exceed.
    """
    given = np.asarray(values, np.float64)
    if not len(given) or np.ptp(given) == 0:
        return wilson(float(given.sum()), len(given))
    low, high = np.percentile(_resample(given), (2.5, 97.5))
    return Interval(float(given.mean()), float(low), float(high), len(given))


def compare(first: ArrayLike, second: ArrayLike) -> Difference:
    """`first` - `second`, question by question: percentile bootstrap for the interval, random signs for p (Fisher 1935), both of a fixed seed.

    Raises:
        ValueError: the two are not equally long.
    """
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != other.shape:
        raise ValueError(f"the same questions are needed on both sides, not {len(one)} and {len(other)}")
    differences = one - other
    if not len(differences) or not differences.any():
        return Difference(0.0, 0.0, 0.0, 1.0, len(differences))
    low, high = np.percentile(_resample(differences), (2.5, 97.5))
    return Difference(float(differences.mean()), float(low), float(high), _sign_test(differences[differences != 0]), len(differences))


def _resample(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The means of resamples, a few at a time so that memory stays small."""
    random = np.random.default_rng(SEED)
    block = max(1, 1_000_000 // len(values))
    sizes = [min(block, RESAMPLES - done) for done in range(0, RESAMPLES, block)]
    return np.concatenate([values[random.integers(0, len(values), (size, len(values)))].mean(1) for size in sizes])


def _sign_test(differences: NDArray[np.float64]) -> float:
    """Two-sided p of the mean under random signs: exact for a few differences, else from random draws."""
    if len(differences) <= _EXACT_FLIPS:
        sums = np.array(list(itertools.product((1, -1), repeat=len(differences)))) @ differences
        return float(np.mean(np.abs(sums) >= abs(differences.sum()) - 1e-12))
    random = np.random.default_rng(SEED)
    sums = np.array([random.choice((1, -1), len(differences)) @ differences for _ in range(RESAMPLES)])
    return float((1 + np.sum(np.abs(sums) >= abs(differences.sum()) - 1e-12)) / (1 + RESAMPLES))


def normalise_answer(text: str) -> str:
    """An answer as it is compared: NFKC, lower case, without punctuation, white space joined; without English articles.

    This is what the SQuAD 1.1 evaluation script does (Rajpurkar et al. 2016), with Unicode's punctuation in place of ASCII's, so that
    「」 and 。 go too, as in the scripts for JSQuAD.
    """
    plain = unicodedata.normalize("NFKC", text).lower()
    plain = "".join(" " if sign in string.punctuation or unicodedata.category(sign)[0] in "PC" else sign for sign in re.sub(r"(?<=\d),(?=\d{3})", "", plain))
    words = _ARTICLES.sub(" ", plain).split()
    return ("" if _JAPANESE.search(plain) else " ").join(words)


def grade(answer: str, expected: str) -> Grade:
    """Exact match and F1 against the best line of `expected` (one acceptable answer per line).

    F1 = 2 · shared / (given + wanted), counted in characters where the expected answer has Japanese, in words otherwise
    (JGLUE and SQuAD do so). Nothing expected and nothing given is a match.
    """
    wanted = [line for line in expected.splitlines() if line.strip()] or [""]
    each = [_grade(normalise_answer(answer), normalise_answer(line)) for line in wanted]
    return Grade(max(one.exact for one in each), max(one.lenient for one in each), max(one.f1 for one in each))


def _grade(given: str, wanted: str) -> Grade:
    exact = float(given == wanted)
    lenient = float(_POLITE.sub("", given) == _POLITE.sub("", wanted))
    characters = _JAPANESE.search(wanted) is not None
    one, other = (list(text.replace(" ", "")) if characters else text.split() for text in (given, wanted))
    if not one or not other:
        return Grade(exact, lenient, exact)
    shared = sum((Counter(one) & Counter(other)).values())
    return Grade(exact, lenient, 2 * shared / (len(one) + len(other)))
