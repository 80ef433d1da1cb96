"""Who votes unlike everybody else: a test that may be looked at after every vote.

For each rater with five decided votes or more the votes of all others say how likely each of the rater's choices was: the share of
the others who chose the same on the same question and variants, together with what the Bradley–Terry model of the others expects
(worth 4 to 256 votes, whatever foretells all votes best: little where questions differ much), and never outside 10–90 %. Against that
stand two suspicions: the rater chooses at random (½ each), or chooses the opposite (the shares turned round). The mean of the two
likelihood ratios is 1 on average, at any time, for somebody who votes as the others do, so it ever reaches 20 for at most one honest
rater in twenty (Ville 1939; Ramdas et al. 2023, Statist. Sci. 38:576–601). Raters who chose their sides by taste more than by the
answers are flagged somewhat more often, since they do differ.
One who differs is not wrong: a flag is a reason to look at the votes.

FastChat's arena flags by the same limit, 1/α, on a different statistic.
"""

from __future__ import annotations

import numpy as np

from llmops_kit.comparison.ballots import Ballots, to_rows
from llmops_kit.comparison.bradley_terry import Floats, fit, fit_many

LEAST = 5                       # decided votes before a rater is judged
ALPHA = 0.05
_MODEL_WORTH = (256.0, 64.0, 16.0, 8.0, 4.0)    # votes that the model's expectation may count beside the others' votes on the same question
_CLIP = 0.1                     # no choice is held less likely than this: one slip on an easy question is no evidence of bad will


def find_outliers(ballots: Ballots) -> tuple[str, ...]:
    """The raters flagged by the test of the module, in order of name."""
    decided = ballots.only(ballots.sign != 0)
    given = np.bincount(decided.rater, minlength=len(ballots.raters))
    if (given > 0).sum() < 3:
        return ()
    likely = _likelihood(decided)
    return tuple(ballots.raters[who] for who in np.flatnonzero(given >= LEAST) if _reaches(likely[decided.rater == who]))


def _reaches(likely: Floats) -> bool:
    """Whether the evidence against a rater, given how likely each choice was, is 1/α at some time from the fifth vote on."""
    opposite, chance = np.cumsum(np.log((1 - likely) / likely)), np.cumsum(np.log(0.5 / likely))
    evidence = np.logaddexp(opposite, chance) - np.log(2)
    return bool((evidence[LEAST - 1 :] >= np.log(1 / ALPHA)).any())


def _likelihood(decided: Ballots) -> Floats:
    """How likely each vote's choice is by the votes of the other raters."""
    rows = to_rows(decided)
    raters, width = len(decided.raters), len(rows.design.sign)
    own = np.bincount(decided.rater * width + rows.row, minlength=raters * width).reshape(raters, width).astype(np.float64)
    everybody = own.sum(0)
    # A fiftieth of every row keeps the strengths finite when the others' votes leave a variant without a win.
    strengths = fit_many(rows.design, everybody - own + 0.02 * (everybody > 0), fit(rows.design, everybody))
    first, second = np.minimum(decided.left, decided.right), np.maximum(decided.left, decided.right)
    chose_first = (decided.sign > 0) == (decided.left < decided.right)
    lead = strengths[decided.rater, first] - strengths[decided.rater, second]
    names = len(decided.names)
    _, place = np.unique((decided.item * names + first) * names + second, return_inverse=True)
    _, place_of_rater = np.unique(place * raters + decided.rater, return_inverse=True)

    def others(values: Floats) -> Floats:
        return np.asarray(np.bincount(place, values)[place] - np.bincount(place_of_rater, values)[place_of_rater], np.float64)

    expected, number, chose = 1 / (1 + np.exp(-lead)), others(np.ones(len(decided))), others(chose_first.astype(np.float64))
    shares = [np.clip((chose + worth * expected) / (number + worth), _CLIP, 1 - _CLIP) for worth in _MODEL_WORTH]
    return max((np.where(chose_first, share, 1 - share) for share in shares), key=lambda likely: float(np.log(likely).sum()))
