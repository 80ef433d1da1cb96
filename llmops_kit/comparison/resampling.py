"""How much strengths could have differed: bootstrap intervals that know that votes hang together.

Votes on one question resemble each other, and so do those of one rater. Resampling single votes ignores that and gives intervals that
are too narrow; so questions and raters are resampled too, each where there are eight or more (with fewer the resample says little of the
population they come from). Resampling both at once would count the chance of a single vote three times (Owen 2007, Ann. Appl. Statist.
1:386–411, "The pigeonhole bootstrap"); instead the three variances are put together as V(questions) + V(raters) - V(votes), and never less than
any of them (Cameron, Gelbach and Miller 2011, J. Bus. Econ. Statist. 29:238–249), and the deviations of the resampled votes are scaled
to it, which keeps their skew.

Each two variants that met get a random part of a win and of a loss more, Gamma(½) each (the prior of Jeffreys, as in the Bayesian
bootstrap, Rubin 1981, Ann. Statist. 9:130–134): a variant that won all of ten votes then has a wide interval, where resampling ten equal
votes would give none.
"""

from __future__ import annotations

import numpy as np

from llmops_kit.comparison.ballots import Ballots, Rows
from llmops_kit.comparison.bradley_terry import Design, Fit, Floats, Integers, fit_many, pairs_of
from llmops_kit.comparison.evidence import FEW

RESAMPLES = 300


def resample_intervals(found: Fit, ballots: Ballots, rows: Rows, seed: int) -> tuple[Floats, Floats]:
    """Low and high (95 %) of each parameter: strengths within their linked group, then covariates."""
    random = np.random.default_rng(seed)
    design, prior = _with_prior(rows.design)
    drawn = {"vote": _draw(random, np.arange(len(ballots)), ballots, rows)}
    drawn |= {name: _draw(random, of, ballots, rows) for name, of in (("item", ballots.item), ("rater", ballots.rater)) if len(np.unique(of)) >= FEW}
    added = {name: random.gamma(0.5, size=(RESAMPLES, prior)) for name in drawn}
    values = {name: fit_many(design, np.hstack([weights, added[name]]), found) for name, weights in drawn.items()}
    variances = {name: value.var(0) for name, value in values.items()}
    whole = sum(variances.values()) - (len(variances) - 1) * variances["vote"]
    whole = np.maximum.reduce([whole, *variances.values()])
    scale = np.sqrt(whole / np.maximum(variances["vote"], 1e-12))
    low, high = np.percentile(values["vote"], (2.5, 97.5), axis=0)
    middle = found.parameters
    return np.minimum(middle, middle + scale * (low - middle)), np.maximum(middle, middle + scale * (high - middle))


def _draw(random: np.random.Generator, groups: Integers, ballots: Ballots, rows: Rows) -> Floats:
    """How often each row counts in each resample of the groups (resamples × rows)."""
    from scipy.sparse import csr_array

    _, group = np.unique(groups, return_inverse=True)
    number = int(group.max()) + 1
    times = random.multinomial(number, np.full(number, 1 / number), RESAMPLES)
    held = csr_array((ballots.weight, (rows.row, group)), shape=(len(rows.design.sign), number))
    return np.asarray((held @ times.T).T, np.float64)


def _with_prior(design: Design) -> tuple[Design, int]:
    """The design with a row for a win and a loss of each two variants that met, and how many such rows."""
    met = np.unique(np.sort(pairs_of(design), 1), axis=0)
    rows = np.zeros((2 * len(met), design.features.shape[1]))
    index = np.arange(len(met))
    for side in (0, len(met)):
        rows[index + side, met[:, 0]], rows[index + side, met[:, 1]] = 1.0, -1.0
    sign = np.concatenate([design.sign, np.repeat([1, -1], len(met))])
    return Design(np.vstack([design.features, rows]), sign.astype(np.int64), design.variants), 2 * len(met)
