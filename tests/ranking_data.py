"""Published votes and an independent, vectorised writing of the rule for two variants, to hold the ranking against."""

from __future__ import annotations

from datetime import datetime, timedelta

import numpy as np
from scipy.special import betaln

from llmops_kit.types import Vote

TEAMS = ("Milwaukee", "Detroit", "Toronto", "New York", "Boston", "Cleveland", "Baltimore")
# American League East 1987: wins of the home team and of the away team (Agresti 2002, Categorical Data Analysis, 2nd ed., table 10.10).
HOME_WINS = [
    [0, 4, 4, 4, 6, 4, 6],
    [3, 0, 4, 4, 6, 6, 4],
    [2, 4, 0, 2, 4, 4, 6],
    [3, 5, 2, 0, 4, 4, 6],
    [5, 2, 3, 4, 0, 5, 6],
    [2, 3, 3, 4, 4, 0, 2],
    [2, 1, 1, 2, 1, 3, 0],
]
AWAY_WINS = [
    [0, 3, 2, 3, 1, 2, 0],
    [3, 0, 2, 3, 0, 1, 3],
    [5, 3, 0, 4, 3, 2, 0],
    [3, 1, 5, 0, 3, 2, 1],
    [1, 5, 3, 2, 0, 2, 0],
    [5, 3, 4, 3, 2, 0, 4],
    [5, 5, 6, 4, 6, 4, 0],
]
TEAM_STRENGTHS = (1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0.0)
"""Table 10.11, without the advantage of the home team; with it that is 0.302."""
HOME_ADVANTAGE = 0.302
TEAM_SHARES = (0.220, 0.190, 0.164, 0.157, 0.137, 0.088, 0.044)
"""Table 10.11 with the advantage of the home team: exp(strength), adding to 1."""

JOURNALS = ("Biometrika", "Comm Statist", "JASA", "JRSS-B")
# Row cited in column, 1987–88 (Stigler 1994, Statist. Sci. 9:94–108; also Agresti 2002, problem 10.36): being cited is winning.
CITATIONS = [[0, 730, 498, 221], [33, 0, 68, 17], [320, 813, 0, 142], [284, 276, 325, 0]]
JOURNAL_STRENGTHS = (0.0, -2.9491, -0.4796, 0.2690)
"""Turner and Firth 2012, J. Statist. Software 48(9), section 2."""

_START = datetime(2026, 1, 1)


def make_votes(
    choices: str, *, left: str = "a", right: str = "b", items: int | None = None, raters: int = 1, start: int = 0, tags: tuple[str, ...] = ()
) -> list[Vote]:
    """One vote for each letter: A, B, t (tie) or x (both bad); questions and raters in turn, by default a question for each vote."""
    words = {"A": "A", "B": "B", "t": "tie", "x": "both_bad", "w": "withdrawn"}
    votes = []
    for at, letter in enumerate(choices, start):
        item = f"q{at % items if items else at}"
        votes.append(
            Vote(
                id=f"vote{at:05d}-{left}-{right}",
                created_at=_START + timedelta(seconds=at),
                rater=f"rater{(at // items if items else at) % raters:03d}",
                item=item,
                left_run=f"{item}-{left}",
                right_run=f"{item}-{right}",
                left_variant=left,
                right_variant=right,
                choice=words[letter],  # type: ignore[arg-type]
                tags=tags,
            )
        )
    return votes


def team_votes() -> list[Vote]:
    """The baseball games as votes: the home team stands left."""
    votes: list[Vote] = []
    for home, name in enumerate(TEAMS):
        for away, other in enumerate(TEAMS):
            if home != away:
                votes += make_votes("A" * HOME_WINS[home][away] + "B" * AWAY_WINS[home][away], left=name, right=other, start=len(votes), raters=50)
    return votes


def log_evidence_of(wins: np.ndarray, votes: np.ndarray) -> np.ndarray:
    return betaln(5 + wins, 5 + votes - wins) - betaln(5, 5) + votes * np.log(2)


def agreement_path(sign: np.ndarray, group: np.ndarray, groups: int, start: float) -> tuple[np.ndarray, np.ndarray]:
    """ρ (inflated) and m - 1 after each vote, for many streams at once (streams × votes); all votes count alike, ties as 0."""
    streams, votes = sign.shape
    lines = np.arange(streams)
    wins, losses, ties = (np.zeros((streams, groups)) for _ in range(3))
    agreement, shared = np.empty((streams, votes)), np.empty((streams, votes))
    for at in range(votes):
        for held, value in ((wins, 1), (losses, -1), (ties, 0)):
            held[lines, group[:, at]] += sign[:, at] == value
        number = at + 1
        won, lost = wins.sum(1), losses.sum(1)
        decided = np.maximum(won + lost, 1e-9)
        share = won / decided
        # Influence on the log odds of a win, a loss: 1/won, -1/lost; of a tie none (the two-variant model is saturated).
        moved = wins / np.maximum(won, 1e-9)[:, None] - losses / np.maximum(lost, 1e-9)[:, None]
        expected = 1 / (number * np.maximum(share * (1 - share) * decided / number, 1e-12)) / number
        counts = wins + losses + ties
        squares = (counts**2).sum(1)
        pairs = squares - number
        agreed = (moved**2).sum(1) - (won / np.maximum(won, 1e-9) ** 2 + lost / np.maximum(lost, 1e-9) ** 2)
        agreed = agreed / expected + pairs / number
        concentration = squares / number**2
        with np.errstate(divide="ignore", invalid="ignore"):
            estimate = np.where(pairs > 0, agreed / pairs / np.maximum(1 - concentration, 0.05), start)
        shrunk = (30 * start + pairs * estimate) / (30 + pairs)
        used = (counts > 0).sum(1) >= 8
        agreement[:, at] = np.where(used, np.maximum(shrunk, 0) * (1 + 3 * concentration), 0.0)
        shared[:, at] = number * concentration - 1
    return agreement, np.maximum(shared, 0)


def evidence_path(sign: np.ndarray, item: np.ndarray, rater: np.ndarray, items: int, raters: int) -> tuple[np.ndarray, np.ndarray]:
    """The logarithm of e after each vote with, and without, regard to votes that hang together."""
    decided, won = np.cumsum(sign != 0, 1).astype(float), np.cumsum(sign == 1, 1).astype(float)
    effect = np.ones(sign.shape)
    for group, number, start in ((item, items, 0.1), (rater, raters, 0.05)):
        agreement, shared = agreement_path(sign, group, number, start)
        effect += agreement * shared
    return log_evidence_of(won / effect, decided / effect), log_evidence_of(won, decided)


def draw_streams(
    streams: int, votes: int, *, items: int, raters: int, item_sd: float, rater_sd: float, ties: float, ahead: float | np.ndarray = 0.0, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes on two variants, the first `ahead` by so much (log-odds): outcome, question and rater (streams × votes)."""
    random = np.random.default_rng(seed)
    item = np.concatenate([random.permuted(np.tile(np.arange(items), (streams, 1)), axis=1) for _ in range(-(-votes // items))], 1)[:, :votes]
    rater = random.integers(0, raters, (streams, votes))
    lead = np.take_along_axis(random.normal(0, item_sd, (streams, items)), item, 1) + np.reshape(ahead, (-1, 1))
    lead += np.take_along_axis(random.normal(0, rater_sd, (streams, raters)), rater, 1)
    sign = np.where(random.random((streams, votes)) < 1 / (1 + np.exp(-lead)), 1, -1)
    sign[random.random((streams, votes)) < ties] = 0
    return sign, item, rater
