"""Strengths from votes: the Bradley–Terry model with ties, by maximum likelihood.

A vote on variants i (left) and j (right) is one of three outcomes, with odds (Davidson 1970, J. Amer. Statist. Assoc. 65:317–328)

    left : right : tie  =  e^(d/2) : e^(-d/2) : e^τ        d = θi - θj + what covariates say (order, style)

so that without ties P(left) = 1 / (1 + e^-d) (Bradley and Terry 1952, Biometrika 39:324–345) and, whatever τ, the odds of a decided
vote are e^d. The logarithm of this likelihood is concave; its one maximum is found with gradient and Hessian (Hunter 2004, Ann.
Statist. 32:384–406, has the theory).

A maximum exists only where wins lead from every variant to every other one, directly or over others (Ford 1957, Amer. Math. Monthly
64:28–33; ties do not help, as τ may grow along with d). Where that fails (somebody won everything) each two variants that met get a
tenth of a win and of a loss in addition, so that the strengths stay finite; where variants are not linked by votes at all, each group
of linked ones is ranked by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

PRIOR = 0.1                     # wins and losses added for each pair where the likelihood has no maximum
_RIDGE = 1e-6                   # keeps the Hessian regular in the directions votes say nothing about; moves estimates by less than 1e-5
_STYLE_RIDGE = 1e-2             # of covariates, which are in standard deviations: one that separates all votes stays finite
_STEPS = 60                     # of Newton; five to eight are usual
_LONGEST = 2.0                  # largest change of a parameter in one Newton step, so that a far start does not overshoot


@dataclass(frozen=True)
class Design:
    """Outcomes to be explained, each with its row: `features` (outcomes × parameters; d = features · parameters) and `sign`, 1 for
    left, -1 for right, 0 for a tie. The first `variants` columns are the variants' (+1 left, -1 right), the others are covariates.
    """

    features: Floats
    sign: Integers
    variants: int

    def penalty(self) -> Floats:
        """The ridge on each parameter, τ last."""
        ridge = np.full(self.features.shape[1] + 1, _RIDGE)
        ridge[self.variants:-1] = _STYLE_RIDGE
        return ridge


@dataclass(frozen=True)
class Fit:
    """`parameters` (the variants' strengths θ, then covariates), τ (`tie`; -inf without ties), and the information per outcome."""

    design: Design
    parameters: Floats
    tie: float
    weights: Floats

    @property
    def strengths(self) -> Floats:
        """θ of each variant, in log-odds."""
        return self.parameters[: self.design.variants]

    def odds(self) -> tuple[Floats, Floats, Floats]:
        """P(left), P(right) and P(tie) of each row."""
        return _probabilities(self.design.features @ self.parameters, np.float64(self.tie))

    def log_likelihood(self) -> float:
        """Of the votes, each row counting its weight."""
        left, right, tied = self.odds()
        chosen = np.where(self.design.sign == 0, tied, np.where(self.design.sign > 0, left, right))
        there = self.weights > 0
        return float(self.weights[there] @ np.log(np.maximum(chosen[there], 1e-300)))

    def level(self, one: int, other: int) -> Fit:
        """The fit to the same votes when these two variants are held to be equally strong."""
        features = self.design.features.copy()
        features[:, one] += features[:, other]
        features[:, other] = 0.0
        return fit(Design(features, self.design.sign, self.design.variants), self.weights)

    def influences(self, contrast: Floats) -> tuple[Floats, Floats]:
        """What one vote of each row moves `contrast` by (first order), and the variance the model expects of that.

        With H the information of all votes, the influence of a score u is c'H⁻¹u and its expected variance c'H⁻¹ I H⁻¹c.
        """
        left, right, tied = self.odds()
        lean, width = left - right, len(self.parameters)
        has_ties = bool(np.isfinite(self.tie))
        found = np.append(self.parameters, self.tie) if has_ties else self.parameters
        _, _, information = _derivatives(self.design, self.weights[None], found[None], has_ties)
        direction = _solve(information[0], np.append(contrast, np.zeros(len(found) - len(contrast))))
        along, tie_along = self.design.features @ direction[:width], direction[-1] if has_ties else 0.0
        moved = along * (self.design.sign - lean) / 2 + tie_along * ((self.design.sign == 0) - tied)
        expected = along**2 * (left + right - lean**2) / 4 - along * tie_along * lean * tied + tie_along**2 * tied * (1 - tied)
        return moved, np.maximum(expected, 0.0)


def fit(design: Design, weights: Floats) -> Fit:
    """The maximum of the likelihood, each row of `design` counting `weights` times (fractions allowed).

    Raises: nothing for separated or unlinked variants; see the module.
    """
    from scipy.optimize import minimize

    if not weights.any():
        return Fit(design, np.zeros(design.features.shape[1]), -np.inf, weights)
    design, counted = _steadied(design, weights)
    has_ties = bool(counted[design.sign == 0].any())
    penalty = design.penalty() if has_ties else design.penalty()[:-1]

    def loss(parameters: Floats) -> tuple[float, Floats]:
        value, gradient, _ = _derivatives(design, counted[None], parameters[None], has_ties)
        return float(value[0] + penalty @ parameters**2 / 2), gradient[0] + penalty * parameters

    def curvature(parameters: Floats) -> Floats:
        _, _, hessian = _derivatives(design, counted[None], parameters[None], has_ties)
        return np.asarray(hessian[0] + np.diag(penalty), np.float64)

    found = minimize(loss, np.zeros(len(penalty)), jac=True, hess=curvature, method="trust-exact", options={"gtol": 1e-8, "max_trust_radius": 20.0}).x
    parameters = _centred((found[:-1] if has_ties else found)[None], design, counted)[0]
    rows = len(weights)
    kept = Design(design.features[:rows], design.sign[:rows], design.variants)
    return Fit(kept, parameters, float(found[-1]) if has_ties else -np.inf, weights)


def fit_many(design: Design, weights: Floats, start: Fit) -> Floats:
    """The parameters for each row of `weights` (resamples × outcomes) at once, by Newton's method from `start`; resamples × parameters.

    What is done for separated votes is the caller's: resamples carry their own prior (see `ranking`).
    """
    has_ties = bool(weights[:, design.sign == 0].any())
    begin = np.append(start.parameters, start.tie if np.isfinite(start.tie) else -2.0) if has_ties else start.parameters
    penalty = design.penalty() if has_ties else design.penalty()[:-1]
    parameters = np.tile(begin, (len(weights), 1))
    for _ in range(_STEPS):
        _, gradient, hessian = _derivatives(design, weights, parameters, has_ties)
        step = np.linalg.solve(hessian + np.diag(penalty), (gradient + penalty * parameters)[..., None])[..., 0]
        parameters = parameters - np.clip(step, -_LONGEST, _LONGEST)
        if np.abs(step).max(initial=0.0) < 1e-5:
            break
    found = parameters[:, :-1] if has_ties else parameters
    return _centred(found, design, weights.sum(0))


def components(pairs: Integers, variants: int, *, directed: bool = False) -> Integers:
    """The group each variant is in: linked by `pairs` (n × 2), or, `directed`, reaching each other both ways along winner → loser."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(variants, variants))
    _, labels = connected_components(links, directed=directed, connection="strong")
    return np.asarray(labels, np.int64)


def pairs_of(design: Design) -> Integers:
    """The left and the right variant of each row."""
    block = design.features[:, : design.variants]
    return np.stack([block.argmax(1), block.argmin(1)], axis=1).astype(np.int64)


def _steadied(design: Design, weights: Floats) -> tuple[Design, Floats]:
    """The rows with a tenth of a win and of a loss more for each pair that met, where the likelihood alone has no maximum."""
    met = pairs_of(design)[weights > 0]
    sign = design.sign[weights > 0]
    won = np.concatenate([met[sign > 0], met[sign < 0][:, ::-1]])
    linked = components(met, design.variants)
    if len(np.unique(linked)) == len(np.unique(components(won, design.variants, directed=True))):
        return design, weights
    unique = np.unique(np.sort(met[met[:, 0] != met[:, 1]], 1), axis=0)
    rows = np.zeros((2 * len(unique), design.features.shape[1]))
    index = np.arange(len(unique))
    for side in (0, len(unique)):
        rows[index + side, unique[:, 0]], rows[index + side, unique[:, 1]] = 1.0, -1.0
    more = Design(np.vstack([design.features, rows]), np.concatenate([design.sign, np.repeat([1, -1], len(unique))]), design.variants)
    return more, np.concatenate([weights, np.full(len(rows), PRIOR)])


def _centred(parameters: Floats, design: Design, weights: Floats) -> Floats:
    """Each row of parameters with the strengths of each linked group moved so that their mean is 0."""
    groups = components(pairs_of(design)[weights > 0], design.variants)
    share = (groups[:, None] == groups) / np.bincount(groups)[groups]
    moved = parameters.copy()
    moved[:, : design.variants] -= parameters[:, : design.variants] @ share.T
    return moved


def _probabilities(lead: Floats, tie: Floats | np.float64) -> tuple[Floats, Floats, Floats]:
    """P(left), P(right), P(tie) for leads d, without overflow."""
    terms = np.stack([lead / 2, -lead / 2, np.broadcast_to(tie, lead.shape)])
    terms = np.exp(terms - terms.max(0))
    left, right, tied = terms / terms.sum(0)
    return left, right, tied


def _derivatives(design: Design, weights: Floats, parameters: Floats, has_ties: bool) -> tuple[Floats, Floats, Floats]:
    """Minus the log-likelihood, its gradient and Hessian, for each row of `weights` and `parameters` (resamples × …)."""
    features, width = design.features, design.features.shape[1]
    lead = parameters[:, :width] @ features.T
    tie = parameters[:, width:] if has_ties else np.full((len(parameters), 1), -np.inf)
    left, right, tied = _probabilities(lead, np.broadcast_to(tie, lead.shape))
    lean, drawn = left - right, design.sign == 0
    chosen = np.where(drawn, tied, np.where(design.sign > 0, left, right))
    value = -(weights * np.log(np.maximum(chosen, 1e-300))).sum(1)
    gradient = (weights * (lean - design.sign) / 2) @ features
    outer = (features[:, :, None] * features[:, None, :]).reshape(len(features), -1)
    hessian = ((weights * (left + right - lean**2) / 4) @ outer).reshape(-1, width, width)
    if not has_ties:
        return value, gradient, hessian
    whole = np.zeros((len(weights), width + 1, width + 1))
    whole[:, :width, :width] = hessian
    whole[:, :width, width] = whole[:, width, :width] = (-weights * lean * tied / 2) @ features
    whole[:, width, width] = (weights * tied * (1 - tied)).sum(1)
    return value, np.hstack([gradient, (weights * (tied - drawn)).sum(1)[:, None]]), whole


def _solve(information: Floats, contrast: Floats) -> Floats:
    """The least solution of H x = c: directions the votes say nothing about stay 0."""
    return np.asarray(np.linalg.pinv(information, rcond=1e-12, hermitian=True) @ contrast, np.float64)
