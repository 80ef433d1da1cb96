"""Who rates differently from the others: higher or lower on the same answers, and more so with time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmops_kit.feedback.judgements import Judgements
from llmops_kit.statistics import SEED

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("rater", "n", "n_shared", "agreement", "bias", "bias_low", "bias_high", "bias_p", "biased", "drift", "drift_p", "drifting")
_MEASURED = ("bias", "bias_low", "bias_high", "bias_p", "drift", "drift_p")
_PASSES = 8
_SHADOW = 0.6               # with three raters a harsh one shifts the others by half of the own difference, with more by less
_FLIPS = 20_000
_LONGEST_FLIPPED = 30       # differences; for more the normal distribution is as good, and knows smaller p than so many flips
_SHORTEST_TREND = 8         # ratings below which a line through them says nothing

Floats = NDArray[np.float64]


def describe_raters(data: Judgements) -> pd.DataFrame:
    """One row per rater, in the order they came.

    `n` values given, `n_shared` of them on units that others rated too; on those: `agreement`, the share of the others' values equal to
    the rater's own, and `bias`, the mean difference to the others' mean, in units of the scale (for yes/no the difference of shares), with
    its 95 % t interval and p by random signs (Fisher 1935). `drift` is the change of that difference from the rater's first to the last
    rating along a straight line, with p of its slope. Both p are Holm's (1979), over all raters; `biased` and `drifting` are flagged only
    below 0.05. Those flagged are then left out of the others' mean, for one harsh rater would make all others look kind; of two raters
    nobody can say which is the odd one. Words have agreement only.
    """
    import pandas as pd

    counts = data.counts()
    totals = counts.sum(1)
    shared = totals[data.unit] >= 2
    equal = (counts[data.unit, data.code] - 1) / np.maximum(totals[data.unit] - 1, 1)
    frame = _compare_all(data, np.zeros(len(data.raters), bool))
    out = np.zeros(len(frame), bool)
    for _ in range(_PASSES):
        odd = _farthest(frame, "biased", "bias") | _farthest(frame, "drifting", "drift")
        if not (odd & ~out).any() or (~(odd | out)).sum() < 2:
            break
        out |= odd
        frame = _compare_all(data, out)
    places = [np.flatnonzero(data.rater == place) for place in range(len(data.raters))]
    frame["n"] = [len(each) for each in places]
    frame["n_shared"] = [int(shared[each].sum()) for each in places]
    frame["agreement"] = pd.Series([float(equal[each][shared[each]].mean()) if shared[each].any() else np.nan for each in places], dtype="float64")
    return frame[list(COLUMNS)]


def _farthest(frame: pd.DataFrame, flag: str, measure: str) -> NDArray[np.bool_]:
    """The flagged raters who are far off; what is only the shadow that one of many throws on the others is less than this share of it."""
    size = frame[measure].abs().where(frame[flag], 0.0).to_numpy(np.float64)
    return np.asarray((size > 0) & (size > _SHADOW * size.max(initial=0.0)))


def _compare_all(data: Judgements, out: NDArray[np.bool_]) -> pd.DataFrame:
    """Each rater against the mean of the others, less those who are `out`."""
    import pandas as pd

    rows: list[dict[str, Any]] = [{"rater": rater} for rater in data.raters]
    if data.numbers is not None:
        values, counted = data.numbers[data.code], ~out[data.rater]
        sums = np.bincount(data.unit, weights=values * counted, minlength=len(data.units))[data.unit] - values * counted
        others = np.bincount(data.unit, weights=counted, minlength=len(data.units))[data.unit] - counted
        differences, known = values - sums / np.maximum(others, 1), others > 0
        signs: dict[int, Floats] = {}
        for place, row in enumerate(rows):
            row |= _compare(differences[(data.rater == place) & known], signs)
    frame = pd.DataFrame(rows, columns=["rater", *_MEASURED]).astype(dict.fromkeys(_MEASURED, "float64"))
    for p, flag in (("bias_p", "biased"), ("drift_p", "drifting")):
        frame[p] = holm(frame[p].to_numpy(np.float64))
        frame[flag] = frame[p] < 0.05
    frame["biased"] &= (frame["bias_low"] > 0) | (frame["bias_high"] < 0)
    return frame


def _compare(differences: Floats, signs: dict[int, Floats]) -> dict[str, float]:
    from scipy import stats

    n = len(differences)
    if n < 2:
        return {"bias": float(differences[0])} if n else {}
    mean, error = float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(n))
    half = float(stats.t.ppf(0.975, n - 1)) * error
    found = {"bias": mean, "bias_low": mean - half, "bias_high": mean + half, "bias_p": _chance(differences, signs)}
    if n >= _SHORTEST_TREND and np.ptp(differences) > 0:
        line = stats.linregress(np.arange(n), differences)
        found |= {"drift": float(line.slope) * (n - 1), "drift_p": float(line.pvalue)}
    return found


def _chance(differences: Floats, signs: dict[int, Floats]) -> float:
    """How often a mean as far from 0 comes about when each difference could as well have the other sign; `signs` keeps the draws by n."""
    from scipy import stats

    n = len(differences)
    if not differences.any():
        return 1.0
    if n > _LONGEST_FLIPPED:
        return float(2 * stats.norm.sf(abs(differences.sum()) / np.sqrt((differences**2).sum())))
    if n not in signs:
        signs[n] = np.random.default_rng(SEED).integers(0, 2, (_FLIPS, n), np.int8) * 2.0 - 1
    return float((1 + np.sum(np.abs(signs[n] @ differences) >= abs(differences.sum()) - 1e-9)) / (1 + _FLIPS))


def holm(p: Floats) -> Floats:
    """Each p for having looked at all of them (S. Holm, Scand. J. Stat. 6 (1979) 65); nan stays nan and is not counted."""
    adjusted = np.full(len(p), np.nan)
    order = [place for place in np.argsort(p) if not np.isnan(p[place])]
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, float(p[place]) * (len(order) - rank)))
        adjusted[place] = highest
    return adjusted
