"""Coefficients of agreement: Krippendorff's α with its interval, the share of pairs that agree, Cohen's and Fleiss' κ.

K. Krippendorff, Computing Krippendorff's Alpha-Reliability, 2011; J. Cohen, Educ. Psychol. Meas. 20 (1960) 37; J. L. Fleiss, Psychol. Bull.
76 (1971) 378; R. J. Light, Psychol. Bull. 76 (1971) 365. What cannot be computed is None, never nan.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from llmops_kit.feedback.judgements import Judgements, Level
from llmops_kit.statistics import SEED, Interval, mean_interval, wilson

RESAMPLES = 2000
_BLOCK = 2_000_000          # cells of an array at a time, so that memory stays small
_DENSE = 5_000_000          # cells above which the package's arrays, or κ's, would take too much memory

Floats = NDArray[np.float64]


def pairable(counts: Floats) -> Floats:
    """The units that two raters or more gave a value: the others say nothing of agreement."""
    return np.asarray(counts[counts.sum(1) >= 2])


def alpha(counts: Floats, level: Level, numbers: Floats | None) -> Interval | None:
    """Krippendorff's α by the package `krippendorff`, with the percentile bootstrap over units (2,000 resamples of a fixed seed).

    `counts` has a row per unit and a column per value. None where fewer than two units have two values, or all values are equal.
    Resamples in which all values are equal say nothing and are left out. Where raters agree on every unit all resamples are 1; the lower end is then
    Wilson's for so many units out of so many: if people answered at chance in a share of units, α would be 1 less that share.
    """
    units = pairable(counts)
    used = units.any(0)
    units = units[:, used]
    if len(units) < 2 or units.shape[1] < 2:
        return None
    domain = (numbers if numbers is not None else np.arange(counts.shape[1], dtype=np.float64))[used]
    value = _alpha_of(units, level, domain)
    if value == 1:
        return Interval(1.0, wilson(len(units), len(units)).low, 1.0, len(units))
    drawn = np.concatenate(list(_resampled(units, level, domain)))
    drawn = drawn[np.isfinite(drawn)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(value, min(value, float(low)), max(value, float(high)), len(units))


def _alpha_of(units: Floats, level: Level, domain: Floats) -> float:
    import krippendorff

    if units.size * units.shape[1] <= _DENSE:
        return float(krippendorff.alpha(value_counts=units.astype(np.int64), value_domain=domain, level_of_measurement=level))
    return float(alphas(units, np.ones((1, len(units))), level, domain)[0])


def _resampled(units: Floats, level: Level, domain: Floats) -> Iterator[Floats]:
    random = np.random.default_rng(SEED)
    n = len(units)
    block = max(1, min(RESAMPLES, _BLOCK // max(units.shape)))
    for done in range(0, RESAMPLES, block):
        weights = random.multinomial(n, np.full(n, 1 / n), min(block, RESAMPLES - done))
        yield alphas(units, weights.astype(np.float64), level, domain)


def alphas(units: Floats, weights: Floats, level: Level, domain: Floats) -> Floats:
    """α of many resamples at once: a row of `weights` says how often each unit is in it. nan where all values are equal.

    With c values of a kind in a unit of m, the sum of c·c'·δ² over ordered pairs is 2(m·Σcx² - (Σcx)²) for distances δ = x - x'. Ordinal
    distances are such too, with x the number of values below plus half of the equal ones.
    """
    m = units.sum(1)
    held = weights @ units
    n = held.sum(1)
    if level == "nominal":
        observed = weights @ ((m**2 - (units**2).sum(1)) / (m - 1))
        expected = (n**2 - (held**2).sum(1)) / (n - 1)
    else:
        places = np.cumsum(held, 1) - held / 2 if level == "ordinal" else np.tile(domain - domain.mean(), (len(weights), 1))
        first, second = places @ units.T, places**2 @ units.T
        observed = (weights * 2 * (m * second - first**2) / (m - 1)).sum(1)
        expected = 2 * (n * (held * places**2).sum(1) - (held * places).sum(1) ** 2) / (n - 1)
    varied = (held > 0).sum(1) > 1
    return np.where(varied, 1 - observed / np.where(varied, expected, 1), np.nan)


def percent(counts: Floats) -> Interval | None:
    """The share of pairs of raters that gave a unit exactly the same value, averaged over units."""
    units = pairable(counts)
    return mean_interval(_shares(units)) if len(units) else None


def _shares(units: Floats) -> Floats:
    m = units.sum(1)
    return np.asarray(((units**2).sum(1) - m) / (m * (m - 1)))


def fleiss(counts: Floats) -> float | None:
    """Fleiss' κ; None unless every unit has the same number of values, two or more, and they are not all equal."""
    m = counts.sum(1)
    if not len(m) or m.min() < 2 or m.min() != m.max():
        return None
    chance = float(((counts.sum(0) / counts.sum()) ** 2).sum())
    return None if np.isclose(chance, 1) else (float(_shares(counts).mean()) - chance) / (1 - chance)


def cohen(data: Judgements) -> float | None:
    """Cohen's κ, unweighted; for more than two raters the mean over pairs (Light 1971), each by its number of common units.

    None where no two raters share a unit, or each pair always gave one and the same value. Both raters' habits are taken from the
    units they share.
    """
    shape = len(data.raters), len(data.units), len(data.domain)
    if np.prod(shape, dtype=np.float64) > _DENSE:
        return None
    given = np.zeros(shape, np.float32)
    given[data.rater, data.unit, data.code] = 1
    rated = np.asarray(given.any(2), np.float32)
    total = common = 0.0
    for one in range(shape[0] - 1):
        others, mine = given[one + 1 :], given[one]
        n = np.asarray(rated[one + 1 :] @ rated[one])
        equal = np.asarray(others.reshape(len(others), -1) @ mine.reshape(-1))
        chance = (np.tensordot(others, rated[one], (1, 0)) * (rated[one + 1 :] @ mine)).sum(1)
        shared = n > 0
        agreed, by_chance = equal[shared] / n[shared], chance[shared] / n[shared] ** 2
        known = by_chance < 1 - 1e-6
        total += float((n[shared][known] * (agreed[known] - by_chance[known]) / (1 - by_chance[known])).sum())
        common += float(n[shared][known].sum())
    return total / common if common else None
