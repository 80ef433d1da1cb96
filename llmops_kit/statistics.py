"""How sure a figure is: intervals of shares and means, and paired differences. Needs numpy only.

wilson(8, 10)                                          # Interval(value=0.8, low=0.49, high=0.943, n=10)
compare([1, 1, 0, 1], [0, 1, 0, 0]).is_established()   # False: four questions say little
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

SEED = 20_240                   # of every resampling, so that a report is the same each time
RESAMPLES = 4000
_Z = 1.959964                   # the 97.5 % point of the normal distribution
_EXACT_FLIPS = 12               # up to this many differences all signs are tried


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
