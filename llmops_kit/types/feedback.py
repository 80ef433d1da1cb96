"""What people said of answers: ratings, votes, and the campaigns they are collected in. Events are appended and never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Door = Literal["ui", "notebook", "campaign", "api", "import"]
"""Where an event came in."""
Choice = Literal["A", "B", "tie", "both_bad", "withdrawn"]
"""What was said of a pair: the left answer (A), the right one (B), neither better, neither usable; or an earlier vote taken back."""
ClaimState = Literal["open", "done", "skipped", "late"]
"""`late`: rated, but the item had its ratings already, so that this one is kept and not counted."""


@dataclass(frozen=True)
class Feedback:
    """What one person said of one answer, at one time. A changed mind is a new event; the newest of a person and run counts.

    `scores` holds a value by criterion: `thumb` (1 or -1), `score` (1 to 5), or the criteria of a rubric (number, true or false, a
    word, a text, or for rankings the run ids, best first). `skipped` is why nothing was rated. `withdrawn` takes the event
    `supersedes` back. `flags` has `late` where an item of a campaign had its ratings already. `duration_s` is how long it took.
    """

    id: str
    created_at: datetime
    run_id: str
    rater: str
    scores: Mapping[str, Any] = field(default_factory=dict)
    comment: str = ""
    correction: str | None = None
    tags: tuple[str, ...] = ()
    rubric: str | None = None
    rubric_version: int | None = None
    campaign_id: str | None = None
    item_id: str | None = None
    source: Door = "notebook"
    duration_s: float | None = None
    supersedes: str | None = None
    withdrawn: bool = False
    skipped: str | None = None
    flags: tuple[str, ...] = ()

    @property
    def score(self) -> float | None:
        """The rating from 1 to 5, or None where none was given."""
        value = self.scores.get("score")
        return float(value) if isinstance(value, (int, float)) else None


@dataclass(frozen=True)
class Vote:
    """Which of two answers to the same item a person preferred. `A` is the one shown on the left.

    `item` names the test item, the same for all pairs over it, and `tags` are that item's. `supersedes` is the vote that this one
    replaces (`choice="withdrawn"`: takes back).
    """

    id: str
    created_at: datetime
    rater: str
    item: str
    left_run: str
    right_run: str
    left_variant: str
    right_variant: str
    choice: Choice
    blinded: bool = True
    comment: str = ""
    tags: tuple[str, ...] = ()
    campaign_id: str | None = None
    item_id: str | None = None
    source: Door = "notebook"
    duration_s: float | None = None
    supersedes: str | None = None
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """A test set answered by several variants: what was asked for (`spec`: prompt, rows, variants, baseline).

    Its answers are the Runs with the app `compare:<id>`, their ids derived from this one; `Run.item` and `Run.variant` say whose
    answer to what each is.
    """

    id: str
    created_at: datetime
    participant: str
    spec: Mapping[str, Any]


@dataclass(frozen=True)
class Campaign:
    """A collection of ratings: `spec` has the kind, the rubric, the guidelines, how many raters per item, and who may rate."""

    id: str
    created_at: datetime
    owner: str
    name: str
    spec: Mapping[str, Any]
    closed_at: datetime | None = None


@dataclass(frozen=True)
class CampaignItem:
    """One thing to rate in a campaign: one Run, or several to be compared. `item` names the test item they answer."""

    id: str
    campaign_id: str
    position: int
    run_ids: tuple[str, ...]
    item: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """An item given to a rater until `expires_at`; `done`, `skipped` and `late` ones stay, an open one that expired is given to somebody else."""

    id: str
    campaign_id: str
    item_id: str
    rater: str
    created_at: datetime
    expires_at: datetime
    state: ClaimState = "open"


@dataclass(frozen=True)
class Artifact:
    """A fixed set of data made from the store: `name` and `version` (from 1), its hash and size, and what it was made from.

    `inputs` are artifacts (`name:v1`) it rests on; `about` says more, among it the campaign it closes. `data` is the content as
    JSON-ready rows.
    """

    id: str
    created_at: datetime
    name: str
    version: int
    kind: str
    sha256: str
    rows: int
    inputs: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    data: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Note:
    """A value the workspace keeps under a name (`id`); the first one written stays."""

    id: str
    value: str
