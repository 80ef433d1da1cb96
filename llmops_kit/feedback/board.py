"""How far the items of a campaign are, as this process knows it: who has claimed and rated what. Made from the store, and only a hint.

Which item to offer next is decided here, without reading thousands of claims for each rater; whether it is given is decided in the
store's transaction. What other processes do is seen when the board is read again, and at the latest when an offer is refused.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from llmops_kit.feedback.tasks import Progress
from llmops_kit.types import Campaign, CampaignItem, Claim, ClaimState

if TYPE_CHECKING:
    from llmops_kit.store import Store

_FRESH_S = 1.0
"""A board read less than this ago serves for progress."""
_READING_SHARE = 20
"""At most one part in this many of the time goes to reading the board again, however long a reading takes."""

_RATED = ("done", "late")


class Held(NamedTuple):
    """A claim, as far as the board needs it."""

    state: ClaimState
    expires_at: datetime
    created_at: datetime


class Board:
    """The claims of one campaign. Every method is called with `lock` held."""

    def __init__(self, campaign: Campaign, items: Iterable[CampaignItem]) -> None:
        self.lock = threading.Lock()
        self.campaign = campaign
        self.k = int(campaign.spec["k"])
        self.items = {item.id: item for item in items}
        self._read_at = float("-inf")
        self._read_s = 0.0
        self._clear()

    def _clear(self) -> None:
        self._held: dict[str, dict[str, Held]] = defaultdict(dict)              # rater → item
        self._open: dict[str, dict[str, datetime]] = defaultdict(dict)          # item → rater
        self._done: Counter[str] = Counter()                                    # item
        self._raters: Counter[str] = Counter()                                  # rated items of each
        self._counted = 0
        self._short = dict.fromkeys(self.items)                                 # items without all their ratings, in order

    def read(self, store: Store) -> None:
        """Make the board anew from the store."""
        begun = time.monotonic()
        rows = store.values(Claim, ("item_id", "rater", "state", "expires_at", "created_at"), campaign_id=self.campaign.id)
        self._clear()
        for item_id, rater, *held in rows:
            self.put(item_id, rater, Held(*held))
        self._read_at = time.monotonic()
        self._read_s = self._read_at - begun

    @property
    def is_read(self) -> bool:
        """Whether it has been read, and not been given up since."""
        return self._read_at > float("-inf")

    def forget(self) -> None:
        """Read it again before it is used again."""
        self._read_at = float("-inf")

    def refresh(self, store: Store) -> None:
        """Read again if the board is old."""
        if time.monotonic() - self._read_at > max(_FRESH_S, _READING_SHARE * self._read_s):
            self.read(store)

    def put(self, item_id: str, rater: str, held: Held) -> None:
        """Take note of a claim."""
        before = self._held[rater].get(item_id)
        for claim, step in ((before, -1), (held, 1)):
            if claim is not None and claim.state in _RATED:
                self._raters[rater] += step
            if claim is not None and claim.state == "done":
                self._count(item_id, step)
        self._held[rater][item_id] = held
        if held.state == "open":
            self._open[item_id][rater] = held.expires_at
        else:
            self._open[item_id].pop(rater, None)

    def put_claim(self, claim: Claim) -> None:
        """Take note of a claim as it was written."""
        self.put(claim.item_id, claim.rater, Held(claim.state, claim.expires_at, claim.created_at))

    def refuse(self, item_id: str, rater: str, claims: Iterable[Claim]) -> None:
        """Forget an offer that the store refused, and take note of the claims it found.

        Another thread may have noted since then that one of them was rated: that is not unlearnt.
        """
        self._held[rater].pop(item_id, None)
        self._open[item_id].pop(rater, None)
        for claim in claims:
            known = self._held[claim.rater].get(item_id)
            if known is None or known.state == "open":
                self.put_claim(claim)

    def _count(self, item_id: str, step: int) -> None:
        self._done[item_id] += step
        self._counted += step
        if self._done[item_id] >= self.k:
            self._short.pop(item_id, None)
        else:
            self._short.setdefault(item_id)

    def held_by(self, rater: str) -> dict[str, Held]:
        """The rater's items in the order they were given."""
        return dict(sorted(self._held.get(rater, {}).items(), key=lambda pair: (pair[1].created_at, pair[0])))

    def offer(self, rater: str, at: datetime) -> str | None:
        """The item to give this rater: the one still open with them, else the one nearest to its k ratings that has room.

        Rated ones count before those being rated; among equals the order is the campaign's, or one of the rater's own where it is shuffled.
        """
        mine = self._held.get(rater, {})
        best: tuple[tuple[int, int, int], str] | None = None
        shuffled = bool(self.campaign.spec.get("shuffle"))
        for item_id in self._short:
            held = mine.get(item_id)
            if held is not None and held.state != "open":
                continue
            done = self._done[item_id]
            live = sum(1 for other, until in self._open[item_id].items() if until > at and other != rater) if item_id in self._open else 0
            if held is not None and held.expires_at > at:
                return item_id
            if done + live >= self.k:
                continue
            tie = zlib.crc32(f"{rater}\n{item_id}".encode()) if shuffled else self.items[item_id].position
            rank = (-self.k - 1 if held is not None else -done, -live, tie)
            if best is None or (rank, item_id) < best:
                best = (rank, item_id)
        return None if best is None else best[1]

    def has_nothing_left(self, rater: str) -> bool:
        """Whether the rater has rated or skipped every item: then nobody else's doing changes that there is nothing for them."""
        mine = self._held.get(rater, {})
        return len(mine) == len(self.items) and all(held.state != "open" for held in mine.values())

    def progress(self, rater: str | None) -> Progress:
        """How far it is."""
        mine = {} if rater is None else self._held.get(rater, {})
        states = Counter(held.state for held in mine.values())
        left = 0 if rater is None else sum(1 for item_id in self._short if item_id not in mine or mine[item_id].state == "open")
        raters = sum(1 for rated in self._raters.values() if rated > 0)
        counted = min(self._counted, len(self.items) * self.k)
        return Progress(states["done"] + states["late"], states["skipped"], left, counted, len(self.items) * self.k, len(self.items), raters)
