"""How far votes establish a lead, whenever somebody looks.

People watch the board while votes come in and stop when they like what they see. A test made for one look at a planned number of
votes (p < 0.05, an ordinary 95 % interval) then names a false winner far too often: Johari et al. 2022 (Operations Research
70:1806–1821). The rule here may be looked at after every vote.

**The rule.** Of n decided votes w went to one side. With equal variants each is a fair coin. The ratio of how likely the votes are if
the true share is drawn from Beta(5, 5) to how likely they are with a fair coin,

    e(w, n) = B(5 + w, 5 + n - w) / B(5, 5) · 2ⁿ,

is a martingale of mean 1 under a fair coin (Ville 1939; Robbins 1970, Ann. Math. Statist. 41:1397–1409, mixtures), so the chance that
it *ever* reaches 20 is at most 1/20 (Ville's inequality; Ramdas et al. 2023, Statist. Sci. 38:576–601, "e-values"). A lead is
established while e ≥ 20. All shares p that are not refuted so, e against p instead of ½, form the interval that is shown: it holds the true share
at all times with 95 % (a confidence sequence, Howard et al. 2021, Ann. Statist. 49:1055–1080). Hence verdict and interval always agree. 5 is where
true shares of 58–70 % are established soonest.

**Votes that hang together.** Forty votes on one question, or twenty by one person, tell less than votes on different questions by
different people, and the coin is not fair within a question even where the variants are equal over all of them. n and w are
therefore divided by a design effect (Kish 1965), 1 + Σ ρ (m - 1), for questions and for raters: m is how many votes share one, ρ how
much such votes agree beyond chance, estimated from all pairs of votes that share one and drawn to a cautious start while there are
few pairs. It is inflated by 1 + 3/k for few questions or raters, k. This part is approximate; simulation (tests/ranking_simulation.py)
shows the false-winner rate below 5 % from eight questions or raters on. With fewer, a verdict about questions or people in general
cannot be had: it is then about these questions or these people only, and says so.

**Several variants.** Two of them are compared by the difference of their Bradley–Terry strengths, which also uses votes over third
ones. What it is worth is the n decided votes, w = p n of them won with p = 1 / (1 + e^-difference), that raise the likelihood over that of
equally strong variants as much as the votes do; for two variants these are exactly the decided votes. The best variant is established
when e ≥ 20 against *each* of the others. No correction for several comparisons is needed: all must hold at once (intersection–union,
Berger 1982, Technometrics 24:295–300). Single pairs are named as established only at 20 × the number of pairs (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from llmops_kit.comparison.ballots import Ballots, Rows
from llmops_kit.comparison.bradley_terry import Fit, Floats, Integers

ALPHA = 0.05
MIXTURE = 5.0                   # of the Beta distribution; see the module
FEW = 8                         # with fewer questions or raters than this a verdict is about these only
_START = {"item": 0.1, "rater": 0.05}       # agreement beyond chance assumed before there are pairs of votes
_START_PAIRS = 30.0             # how many pairs of votes that start is worth
_NEAR = 0.02                    # of one half, where the worth of a lead is taken from its variance
_FEW_CLUSTERS = 3.0             # extra caution for k questions or raters: 1 + 3/k


def log_evidence(wins: Floats | float, votes: Floats | float) -> Floats:
    """The logarithm of e(w, n) of the module; fractions of votes are allowed."""
    from scipy.special import betaln

    return np.asarray(betaln(MIXTURE + wins, MIXTURE + votes - wins) - betaln(MIXTURE, MIXTURE) + np.multiply(votes, math.log(2)), np.float64)


def share_interval(wins: float, votes: float, alpha: float = ALPHA) -> tuple[float, float]:
    """The shares not refuted by `wins` of `votes`, at whatever time one looks; (0, 1) without votes."""
    from scipy.optimize import brentq
    from scipy.special import betaln, xlog1py, xlogy

    if votes <= 0:
        return 0.0, 1.0
    base = float(betaln(MIXTURE + wins, MIXTURE + votes - wins) - betaln(MIXTURE, MIXTURE)) + math.log(alpha)

    def excess(share: float) -> float:
        return base - float(xlogy(wins, share) + xlog1py(votes - wins, -share))

    middle = wins / votes
    low = brentq(excess, 1e-12, middle) if middle > 1e-9 and excess(1e-12) > 0 else 0.0
    high = brentq(excess, middle, 1 - 1e-12) if middle < 1 - 1e-9 and excess(1 - 1e-12) > 0 else 1.0
    return float(low), float(high)


@dataclass(frozen=True)
class Spread:
    """Of votes that share a question (or rater): how much they agree beyond chance (`agreement`, ρ, already inflated) and the
    chance that two votes share one (`sharing`, 1/k when k are used alike). `later` is what that chance will be with many more votes:
    less while most questions have been seen once, since new ones are still coming (Good 1953, Biometrika 40:237–264). `doubt` is the
    standard error of ρ; `is_certain`: votes that share one do agree more than by chance (four standard errors).
    """

    agreement: float
    sharing: float
    later: float
    doubt: float = 0.0
    is_certain: bool = False


@dataclass(frozen=True)
class Lead:
    """`better` ahead of `than` (numbers of variants): the `share` of decided votes it gets and the decided votes (`worth`) that this
    is as certain as; `plain` is the same before the design effect. `telling` is how many votes say something of this pair.
    """

    better: int
    than: int
    share: float
    worth: float
    plain: float
    telling: float
    spreads: Mapping[str, Spread]

    @property
    def log_evidence(self) -> float:
        """The logarithm of e for this lead."""
        return float(log_evidence(self.share * self.worth, self.worth))

    def is_established(self, comparisons: int = 1) -> bool:
        """Whether e ≥ 20, times `comparisons`, and the lead is not nil."""
        return self.log_evidence >= math.log(comparisons / ALPHA)

    def interval(self) -> tuple[float, float]:
        """The 95 % interval of the share, whenever looked at."""
        return share_interval(self.share * self.worth, self.worth)


def design_effect(spreads: Mapping[str, Spread], votes: float) -> float:
    """1 + Σ ρ (m - 1) for `votes` votes."""
    return 1 + sum(spread.agreement * max(0.0, votes * spread.sharing - 1) for spread in spreads.values())


def measure_lead(fit: Fit, ballots: Ballots, rows: Rows, better: int, than: int) -> Lead:
    """How far one variant is ahead of another, with all votes and what they share."""
    contrast = np.zeros(len(fit.parameters))
    contrast[better], contrast[than] = 1.0, -1.0
    share = 1 / (1 + math.exp(-float(contrast @ fit.parameters)))
    moved, expected = fit.influences(contrast)
    weight = ballots.weight
    moved_each, variance = moved[rows.row] * weight, expected[rows.row] * weight**2
    total = float(variance.sum())
    groups = {name: of for name, of in (("item", ballots.item), ("rater", ballots.rater)) if len(np.unique(of)) >= FEW}
    spreads = {name: _spread(moved_each, variance, of, _START[name]) for name, of in groups.items()}
    plain = _worth(fit, better, than, share, float(expected @ fit.weights)) * (float(expected @ fit.weights) / total if total > 0 else 0.0)
    telling = float(np.sqrt(variance).sum() ** 2 / total) if total > 0 else 0.0
    effect = design_effect(spreads, telling)
    return Lead(better, than, share, plain / effect, plain, telling, spreads)


def _worth(fit: Fit, better: int, than: int, share: float, variance: float) -> float:
    """The decided votes that the lead is as certain as: by the likelihood, and never more than by the variance of the difference.

    Where somebody won everything the variance overrates third variants and the likelihood the tenth of a vote that is added; near one
    half the likelihood says nothing.
    """
    if variance <= 0:
        return 0.0
    by_variance = 1 / (variance * share * (1 - share))
    if abs(share - 0.5) < _NEAR:
        return by_variance
    each = math.log(2) + share * math.log(share) + (1 - share) * math.log1p(-share)
    return min(by_variance, max(0.0, fit.log_likelihood() - fit.level(better, than).log_likelihood()) / each)


def _spread(moved: Floats, variance: Floats, groups: Integers, start: float) -> Spread:
    """ρ from the pairs of votes in a group: the product of their influences over the product of their expected sizes.

    Influences are taken about an estimate and so add to about 0, which makes pairs seem to disagree a little; the first line of the
    estimate gives that back.
    """
    size = np.sqrt(variance)
    together = np.bincount(groups, size)
    pairs = float((together**2).sum() - variance.sum())
    whole, squares = float(size.sum()), float(variance.sum())
    if squares <= 0:
        return Spread(start, 1.0, 0.0, start)
    sharing = float((together**2).sum() / whole**2)
    agreed = float((np.bincount(groups, moved) ** 2).sum() - (moved**2).sum())
    agreed += pairs * squares / whole**2
    number = pairs / squares * whole**2 / squares
    estimate = agreed / pairs / max(1 - sharing, 0.05) if pairs > 1e-12 * squares else start
    shrunk = (_START_PAIRS * start + number * estimate) / (_START_PAIRS + number)
    once = float((np.bincount(groups) == 1).sum()) / len(groups)
    # The product of two unrelated votes' influences has variance 1; over k questions ρ itself varies by 2/k of its square.
    noise = 1 / math.sqrt(1 / start**2 + number / 2)
    doubt, inflation = math.hypot(noise, math.sqrt(2 * sharing) * shrunk), 1 + _FEW_CLUSTERS * sharing
    return Spread(max(0.0, shrunk) * inflation, sharing, sharing * (1 - once), doubt * inflation, number >= 100 and estimate > 4 * math.sqrt(2 / number))
