"""What a rater sends back for a task: a rating, a vote or a ranking, or why it was skipped. The event and the claim are one transaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

from llmops_kit.errors import AccessDenied, InvalidValue, UnknownName
from llmops_kit.feedback.board import Board
from llmops_kit.feedback.entries import check_duration, check_id, check_rater, check_tags, check_words
from llmops_kit.feedback.events import newest
from llmops_kit.feedback.queue import Queue, check_may_rate, claim_id, open_campaign
from llmops_kit.feedback.rating import after, same_event, withdrawal
from llmops_kit.feedback.rubric_reading import read_rubric
from llmops_kit.feedback.rubrics import plain_word, read_number
from llmops_kit.feedback.tasks import LETTERS, Task, shown_order
from llmops_kit.types import CampaignItem, Choice, Claim, ClaimState, Door, Feedback, Run, Vote, new_id
from llmops_kit.variants import item_of, variant_of
from llmops_kit.votes import effective as effective_votes

if TYPE_CHECKING:
    from llmops_kit.store import Store
    from llmops_kit.store.change import Change

Event = TypeVar("Event", bound=Feedback | Vote)
MAX_REASON = 2_000
"""Characters of the reason for a skip."""


class Desk:
    """Takes ratings of tasks. `queue` has the boards, `clock` gives the moment of an event."""

    def __init__(self, store: Store, queue: Queue, clock: Callable[[], datetime]) -> None:
        self._store, self._queue, self._clock = store, queue, clock

    def submit(
        self,
        task: Task,
        given: Any,
        *,
        rater: str | None,
        comment: str,
        correction: str | None,
        tags: str | Sequence[str],
        id: str | None,
        source: Door,
        duration_s: float | None,
    ) -> Feedback | Vote:
        """See `Ratings.submit`."""
        board, item, who = self._find(task, rater)
        words, corrected = check_words(comment, correction)
        said: dict[str, Any] = {
            "id": check_id(id),
            "created_at": self._clock(),
            "rater": who,
            "comment": words,
            "campaign_id": task.campaign_id,
            "item_id": item.id,
            "source": source,
            "duration_s": check_duration(duration_s),
        }
        rubric = read_rubric(board.campaign.spec["rubric"])
        if board.campaign.spec["kind"] == "pairwise":
            if corrected is not None:
                allowed = {"en": "none: a vote is on two answers", "ja": "なし（2つの回答への投票のため）"}
                raise InvalidValue(name="correction", value=corrected[:80], allowed=allowed)
            return self._keep(board, self._vote(item, given, who, said), "done")
        if board.campaign.spec["kind"] == "ranking":
            scores: dict[str, Any] = {"ranking": read_order(given, shown_order(item.id, who, item.run_ids))}
        else:
            scores = rubric.check(given)
        rating = Feedback(run_id=item.run_ids[0], scores=scores, correction=corrected, tags=check_tags(tags), **said)
        return self._keep(board, replace(rating, rubric=rubric.name, rubric_version=rubric.version), "done")

    def skip(self, task: Task, reason: str, *, rater: str | None, id: str | None, source: Door, duration_s: float | None) -> Feedback:
        """See `Ratings.skip`."""
        board, item, who = self._find(task, rater)
        why, _ = check_words(reason, None)
        if not why or len(why) > MAX_REASON:
            raise InvalidValue(name="reason", value=why[:80], allowed={"en": f"a reason of 1–{MAX_REASON:,} characters", "ja": f"1〜{MAX_REASON:,}文字の理由"})
        event = Feedback(
            id=check_id(id),
            created_at=self._clock(),
            run_id=item.run_ids[0],
            rater=who,
            campaign_id=task.campaign_id,
            item_id=item.id,
            source=source,
            duration_s=check_duration(duration_s),
            skipped=why.strip(),
        )
        return self._keep(board, event, "skipped")

    def withdraw(self, event_id: str, rater: str) -> Feedback | Vote:
        """See `Ratings.withdraw`."""
        who, at = check_rater(rater), self._clock()
        target = self._store.get(Feedback, event_id) or self._store.get(Vote, event_id)
        if target is None:
            raise UnknownName(kind={"en": "rating", "ja": "評価"}, name=str(event_id)[:80], known="kit.feedback.table()")
        event = withdrawal(target, who, at)
        if target.campaign_id is None or target.item_id is None:
            return event if self._store.append(event, publish=_kind(event)) else same_event(event, self._store.get(type(event), event.id))
        board = self._queue.board(target.campaign_id)
        return self._keep(board, event, "open")

    def _find(self, task: Task, rater: str | None) -> tuple[Board, CampaignItem, str]:
        who = task.rater if rater is None else check_rater(rater)
        if who != task.rater:
            raise AccessDenied(resource={"en": "somebody else's task", "ja": "ほかの人に割り当てられた項目"})
        board = self._queue.board(task.campaign_id)
        check_may_rate(board.campaign, who)
        if task.item_id not in board.items:
            raise UnknownName(kind={"en": "item", "ja": "項目"}, name=task.item_id[:80], known=board.campaign.name)
        return board, board.items[task.item_id], who

    def _vote(self, item: CampaignItem, given: Any, rater: str, said: dict[str, Any]) -> Vote:
        left, right = shown_order(item.id, rater, item.run_ids)
        runs = {run.id: run for run in self._store.find(Run, id=[left, right])}
        names = {run.id: variant_of(run) for run in runs.values()}
        choice = read_choice(given, left, right)
        blind = bool(self._queue.board(item.campaign_id).campaign.spec["blind"])
        shown: dict[str, Any] = {"left_run": left, "right_run": right, "left_variant": names[left], "right_variant": names[right]}
        return Vote(item=item_of(runs[left]), choice=choice, blinded=blind, tags=item.tags, **shown, **said)

    def _keep(self, board: Board, event: Event, state: ClaimState) -> Event:
        """Write the event and the claim's new state, and take note of it on the board."""
        kept, claims = self._store.commit(lambda change: record(change, board, event, state))
        with board.lock:
            for claim in claims:
                board.put_claim(claim)
        return kept


def record(change: Change, board: Board, event: Event, state: ClaimState) -> tuple[Event, list[Claim]]:
    """Append the event once, replacing what its rater said of the item before, and set the claim; the event kept and the claims that changed.

    A rating of an item that has its k ratings from others is kept with the flag `late` and is not among the k, until one of those is
    taken back or skipped over: its rater is not asked again, and the item would wait for a rating that is there.
    """
    campaign = open_campaign(change, board.campaign.id)
    if same := change.find(type(event), id=event.id):
        return same_event(event, same[0]), []
    item = board.items[event.item_id or ""]
    claims = change.find(Claim, item_id=item.id)
    mine = next((claim for claim in claims if claim.rater == event.rater), None)
    done = sum(claim.state == "done" for claim in claims if claim.rater != event.rater)
    if state == "done" and done >= board.k:
        state, event = "late", _changed(event, flags=(*event.flags, "late"))
    if mine is None or mine.state != "open":
        event = _replacing(change, item, event)
    change.append(event, publish=_kind(event))
    if state == "open":
        state = _standing(change, item, event.rater)
        if state == "done" and done >= board.k:
            state = "late"      # the item was rated by others while this rating was taken back or skipped over
    if mine is None:
        mine = Claim(claim_id(item.id, event.rater), campaign.id, item.id, event.rater, event.created_at, event.created_at, state)
        change.append(mine)
        return event, [mine]
    until = event.created_at if state == "open" else mine.expires_at
    change.update(Claim, mine.id, state=state, expires_at=until)
    changed = [replace(mine, state=state, expires_at=until)]
    late = next((claim for claim in claims if claim.state == "late" and claim.id != mine.id), None)
    if late is not None and mine.state == "done" and state != "done" and done < board.k:
        change.update(Claim, late.id, state="done")
        changed.append(replace(late, state="done"))
    return event, changed


def _replacing(change: Change, item: CampaignItem, event: Event) -> Event:
    """The event, in the place of what its rater said of the item before: later than that, and naming it unless it names one already."""
    ratings, votes = _said(change, item, event.rater)
    before = newest(ratings)
    if isinstance(event, Feedback) and event.skipped is not None:
        for vote in votes:      # also those replaced, which would count again
            if vote.choice != "withdrawn":
                change.append(withdrawal(vote, event.rater, event.created_at), publish="vote")
    last: Feedback | Vote | None = before if isinstance(event, Feedback) else next(iter(effective_votes(votes)[::-1]), None)
    replaced = event.supersedes or (None if last is None else last.id)
    return _changed(event, created_at=after(event.created_at, *ratings, *votes), supersedes=replaced)


def _changed(event: Event, **values: Any) -> Event:
    made: Any = event
    return cast(Event, replace(made, **values))


def _kind(event: Feedback | Vote) -> str:
    """What the event is published as."""
    return "feedback" if isinstance(event, Feedback) else "vote"


def _standing(change: Change, item: CampaignItem, rater: str) -> ClaimState:
    """The state of the claim of a rater who took something back: what they had said before counts again."""
    ratings, votes = _said(change, item, rater)
    last = newest(ratings)
    if effective_votes(votes):
        return "done"
    return "open" if last is None else "skipped" if last.skipped is not None else "late" if "late" in last.flags else "done"


def _said(change: Change, item: CampaignItem, rater: str) -> tuple[list[Feedback], list[Vote]]:
    ratings = change.find(Feedback, run_id=item.run_ids[0], rater=rater, campaign_id=item.campaign_id)
    votes = change.find(Vote, left_run=list(item.run_ids), rater=rater, campaign_id=item.campaign_id)
    return [rating for rating in ratings if rating.item_id == item.id], [vote for vote in votes if vote.item_id == item.id]


def read_choice(given: Any, left: str, right: str) -> Choice:
    """What was chosen of a pair: `A`, `B`, `tie`, `both_bad`, `left`, `right` or a run's id, also as `{"choice": …}`. Raises: `InvalidValue`."""
    said = given.get("choice") if isinstance(given, dict) else given
    places = {left: "A", right: "B", "left": "A", "right": "B"}
    text = str(places.get(str(said).strip(), said))
    rubric = read_rubric("pairwise")
    return cast(Choice, rubric.check(text)["choice"])


def read_order(given: Any, shown: Sequence[str]) -> list[str]:
    """The run ids, best first, from run ids, letters as shown (`"BAC"`, `["B", "A", "C"]`) or a place for each; also as `{"ranking": …}`.

    Raises: `InvalidValue` where it is not every answer once.
    """
    said = given.get("ranking") if isinstance(given, dict) and set(given) == {"ranking"} else given
    letters = dict(zip(LETTERS, shown, strict=False))
    if isinstance(said, dict):
        places = {str(answer): read_number(place) for answer, place in said.items()}
        ties = None in places.values() or len(set(places.values())) != len(places)
        said = [] if ties else [answer for answer, _ in sorted(places.items(), key=lambda pair: pair[1] or 0)]
    listed = [letters.get(plain_word(answer).upper(), str(answer)) for answer in said] if isinstance(said, (list, tuple, str)) else []
    if sorted(listed) != sorted(shown):
        allowed = {"en": f"every one of {', '.join(letters)} once, best first", "ja": f"{'、'.join(letters)}を良い順に1回ずつ"}
        raise InvalidValue(name="ranking", value=str(given)[:80], allowed=allowed)
    return listed


def withdraw_thumb(store: Store, run_id: str, rater: str, at: datetime) -> list[Feedback]:
    """Take back the thumbs a person gave an answer outside campaigns; whatever else they said with one stays, as old as it was."""
    who = check_rater(rater)

    def work(change: Change) -> list[Feedback]:
        events = [event for event in change.find(Feedback, run_id=run_id, rater=who) if event.campaign_id is None]
        gone = {event.supersedes for event in events}
        written = []
        for event in events:
            if "thumb" not in event.scores or event.id in gone:
                continue
            rest = {name: value for name, value in event.scores.items() if name != "thumb"}
            said = rest or event.comment or event.correction is not None or event.tags
            # What stays must not become newer than what was said since, or an old score would count again.
            kept: dict[str, Any] = {"id": new_id(), "created_at": after(event.created_at, event), "scores": rest, "supersedes": event.id}
            made = replace(event, **kept) if said else withdrawal(event, who, at)
            if change.append(made, publish="feedback"):
                written.append(made)
        return written

    return store.commit(work)

