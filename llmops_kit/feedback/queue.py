"""The queue of a campaign: which item a rater gets next, going back, and how far it is. An item is given in one transaction of the store."""

from __future__ import annotations

import threading
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from llmops_kit.errors import AccessDenied, InputError, UnknownName
from llmops_kit.feedback.board import Board, Held
from llmops_kit.feedback.events import newest
from llmops_kit.feedback.rubric_reading import read_rubric
from llmops_kit.feedback.tasks import Progress, Task, hide, shown_order
from llmops_kit.types import Campaign, CampaignItem, Claim, Feedback, Run, Vote
from llmops_kit.votes import effective as effective_votes

if TYPE_CHECKING:
    from llmops_kit.store import Store
    from llmops_kit.store.change import Change

_BOARDS = 32
"""Campaigns whose boards are kept in memory; the one used longest ago is read again when it is needed."""
_REFUSALS = 4
"""After so many offers that the store refused, another process is busy with the campaign, and the board is read again."""


def no_campaign(id: str) -> UnknownName:
    """The error that says there is no such campaign."""
    return UnknownName(kind={"en": "campaign", "ja": "キャンペーン"}, name=str(id)[:80], known="kit.feedback.campaigns()")


def open_campaign(change: Change, id: str) -> Campaign:
    """The campaign, which nobody closes until the transaction ends. Raises: `UnknownName`, and `InputError` where it is closed."""
    found = change.find(Campaign, id=id)
    if not found:
        raise no_campaign(id)
    if found[0].closed_at is not None:
        raise closed(found[0].name)
    return found[0]


def closed(name: str) -> InputError:
    """The error that says the campaign `name` is closed."""
    return InputError(
        en=f"The campaign “{name}” is closed: it takes no more ratings. What was rated before is kept.",
        ja=f"キャンペーン「{name}」は終了しているため、評価を受け付けていません。これまでの評価は保存されています。",
        name=name,
    )


def may_rate(campaign: Campaign, rater: str) -> bool:
    """Whether the campaign is for this rater: everybody, everybody but its owner (`others`), or a list."""
    raters = campaign.spec.get("raters")
    if raters is None:
        return True
    return rater != campaign.owner if raters == "others" else rater in raters


def check_may_rate(campaign: Campaign, rater: str) -> None:
    """Raises: `AccessDenied` where the campaign is not for this rater."""
    if not may_rate(campaign, rater):
        name = campaign.name
        raise AccessDenied(resource={"en": f"the campaign “{name}”, which is for other raters", "ja": f"キャンペーン「{name}」（対象の評価者ではありません）"})


def claim_id(item_id: str, rater: str) -> str:
    """The id of the one claim a rater has on an item."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"claim {item_id} {rater}"))


def give(change: Change, board: Board, item_id: str, rater: str, at: datetime) -> tuple[Claim | None, list[Claim]]:
    """Give the item to the rater if it has room for them; and the claims that were found on it.

    One still open with them stays theirs unless it has all its ratings; after the time-out it is theirs only while nobody else has it.
    """
    campaign = open_campaign(change, board.campaign.id)
    claims = change.find(Claim, item_id=item_id)
    mine = next((claim for claim in claims if claim.rater == rater), None)
    others = [claim for claim in claims if claim.rater != rater]
    taken = sum(claim.state == "done" for claim in others)
    if mine is None or mine.expires_at <= at:
        taken += sum(claim.state == "open" and claim.expires_at > at for claim in others)
    if taken >= board.k or (mine is not None and mine.state != "open"):
        return None, claims
    until = at + timedelta(seconds=campaign.spec["timeout_s"])
    if mine is None:
        given = Claim(claim_id(item_id, rater), campaign.id, item_id, rater, at, until)
        change.append(given)
    else:
        given = replace(mine, expires_at=until)
        change.update(Claim, mine.id, expires_at=until)
    return given, claims


class Queue:
    """The queues of all campaigns of a store. Safe to share between threads and processes."""

    def __init__(self, store: Store, clock: Callable[[], datetime]) -> None:
        self._store = store
        self._clock = clock
        self._boards: OrderedDict[str, Board] = OrderedDict()
        self._lock = threading.Lock()

    def board(self, campaign_id: str) -> Board:
        """The campaign's board. Raises: `UnknownName`."""
        with self._lock:
            if campaign_id in self._boards:
                self._boards.move_to_end(campaign_id)
                return self._boards[campaign_id]
        campaign = self._store.get(Campaign, campaign_id)
        if campaign is None:
            raise no_campaign(campaign_id)
        made = Board(campaign, self._store.find(CampaignItem, campaign_id=campaign_id, newest_first=False))
        with self._lock:
            board = self._boards.setdefault(campaign_id, made)
            while len(self._boards) > _BOARDS:
                self._boards.popitem(last=False)
        return board

    def next(self, campaign_id: str, rater: str, after: str | None) -> Task | None:
        """See `Ratings.next`."""
        board = self.board(campaign_id)
        check_may_rate(board.campaign, rater)
        following = None if after is None else self._beside(board, rater, after, 1)
        if following is not None and following[1].state != "open":
            return self._task(board, following[0], rater)
        refusals = 0
        while item_id := self._offer(board, rater, at := self._clock(), refusals):
            if self._give(board, item_id, rater, at):
                return self._task(board, item_id, rater)
            refusals += 1
        if self._store.values(Campaign, ("closed_at",), id=campaign_id) != [(None,)]:
            raise closed(board.campaign.name)
        return None

    def _give(self, board: Board, item_id: str, rater: str, at: datetime) -> bool:
        """Give the item in a transaction, and take note of what was found there."""
        try:
            given, claims = self._store.commit(lambda change: give(change, board, item_id, rater, at))
        except BaseException:
            with board.lock:
                board.forget()      # it says the item is the rater's, which is not known
            raise
        with board.lock:
            if given is None:
                board.refuse(item_id, rater, claims)
            else:
                board.put_claim(given)
        return given is not None

    def _offer(self, board: Board, rater: str, at: datetime, refusals: int) -> str | None:
        """The item to try next, marked as the rater's so that no other thread tries it for somebody who would be one too many."""
        with board.lock:
            if not board.is_read or refusals % _REFUSALS == _REFUSALS - 1:
                board.read(self._store)
            item_id = board.offer(rater, at)
            if item_id is None and not board.has_nothing_left(rater):
                board.read(self._store)     # what it waits for may have happened in another process
                item_id = board.offer(rater, at)
            if item_id is not None:
                held = board.held_by(rater).get(item_id)
                until = at + timedelta(seconds=board.campaign.spec["timeout_s"])
                board.put(item_id, rater, Held("open", until, at if held is None else held.created_at))
            return item_id

    def _beside(self, board: Board, rater: str, item_id: str | None, step: int) -> tuple[str, Held] | None:
        """The rater's item before (-1) or after (1) this one, in the order they were given; the last one before None."""
        with board.lock:
            board.refresh(self._store)
            held = board.held_by(rater)
        mine = list(held)
        place = len(mine) if item_id is None or item_id not in held else mine.index(item_id)
        return (mine[place + step], held[mine[place + step]]) if 0 <= place + step < len(mine) else None

    def previous(self, campaign_id: str, rater: str, before: str | None) -> Task | None:
        """See `Ratings.previous`."""
        board = self.board(campaign_id)
        found = self._beside(board, rater, before, -1)
        return None if found is None else self._task(board, found[0], rater)

    def task(self, campaign_id: str, item_id: str, rater: str) -> Task:
        """See `Ratings.task`."""
        return self._task(self.board(campaign_id), item_id, rater)

    def _task(self, board: Board, item_id: str, rater: str) -> Task:
        with board.lock:
            mine = board.held_by(rater)
            if item_id not in mine:
                board.read(self._store)
                mine = board.held_by(rater)
        item = board.items.get(item_id)
        if item is None or item_id not in mine:
            name = item_id[:40]
            raise AccessDenied(resource={"en": f"the item “{name}”, which was not given to you", "ja": f"項目「{name}」（割り当てられていません）"})
        spec = board.campaign.spec
        runs = {run.id: run for run in self._store.find(Run, id=list(item.run_ids))}
        shown = shown_order(item_id, rater, item.run_ids) if spec["kind"] != "rate" else list(item.run_ids)
        held = mine[item_id]
        return Task(
            campaign_id=board.campaign.id,
            campaign=board.campaign.name,
            item_id=item_id,
            rater=rater,
            kind=spec["kind"],
            position=item.position + 1,
            index=list(mine).index(item_id) + 1,
            runs=tuple(hide(runs[id], blind=bool(spec["blind"])) for id in shown),
            rubric=read_rubric(spec["rubric"]),
            guidelines=spec["guidelines"],
            deadline=held.expires_at,
            tags=() if spec["blind"] else item.tags,
            earlier=None if held.state == "open" else self.earlier(item, rater),
        )

    def earlier(self, item: CampaignItem, rater: str) -> Feedback | Vote | None:
        """What the rater said of the item last and did not take back; a skip is nothing said."""
        votes = effective_votes(self._store.find(Vote, left_run=list(item.run_ids), rater=rater, campaign_id=item.campaign_id))
        said = newest(self._store.find(Feedback, run_id=item.run_ids[0], rater=rater, campaign_id=item.campaign_id))
        if votes:
            return votes[-1]
        return None if said is None or said.skipped is not None else said

    def progress(self, campaign_id: str, rater: str | None) -> Progress:
        """See `Ratings.progress`."""
        board = self.board(campaign_id)
        with board.lock:
            board.refresh(self._store)
            return board.progress(rater)
