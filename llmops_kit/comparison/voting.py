"""Votes on pairs of answers: said, taken back, and read. A vote is acknowledged only once it is on the disk."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple, cast, get_args
from unicodedata import normalize
from uuid import NAMESPACE_URL, uuid5

from llmops_kit.comparison.pairs import Pair, check_pair
from llmops_kit.errors import AccessDenied, InvalidValue, NotSaved, UnknownName, WorkspaceError
from llmops_kit.types import Campaign, Choice, Door, Vote, new_id, now
from llmops_kit.votes import effective

if TYPE_CHECKING:
    from llmops_kit.store import Store

CHOICES: tuple[Choice, ...] = ("A", "B", "tie", "both_bad")
_WORDS: Mapping[str, Choice] = {"left": "A", "right": "B", "a": "A", "b": "B", "A": "A", "B": "B", "tie": "tie", "both_bad": "both_bad"}
_ID = re.compile(r"[0-9A-Za-z_-]{1,36}")
_MOST_NAME, _MOST_COMMENT = 200, 20_000
_MOST_LISTED = 2000     # Runs to ask the database for one by one; above, reading the votes of all comparisons is faster


def read_choice(choice: str, pair: Pair) -> Choice:
    """`choice` as A (left), B (right), tie or both_bad: also `left`, `right`, the name of a variant, or the id of a Run of the pair.

    Raises: `InvalidValue` for anything else.
    """
    said = str(choice).strip()
    meanings: dict[str, Choice] = {pair.left_variant: "A", pair.right_variant: "B", pair.left.id: "A", pair.right.id: "B"}
    meanings.update(_WORDS)
    found = meanings.get(said) or _WORDS.get(normalize("NFKC", said).lower())
    if found is None:
        raise InvalidValue(name="choice", value=choice, allowed="A, B, tie, both_bad")
    return found


def make_vote(pair: Pair, choice: str, *, rater: str, id: str | None, comment: str, source: Door, duration_s: float | None, **more: Any) -> Vote:
    """The event of a vote, checked. `more` are further fields of `Vote`. Raises: `InvalidValue` for what does not serve."""
    check_pair(pair.left, pair.right)
    rater = check_person(rater)
    if id is not None and not _ID.fullmatch(id):
        raise InvalidValue(name="id", value=id[:80], allowed="UUID")
    if len(comment) > _MOST_COMMENT:
        raise InvalidValue(name="comment", value=f"{len(comment):,} characters", allowed=f"≤ {_MOST_COMMENT:,} characters")
    if source not in get_args(Door):
        raise InvalidValue(name="source", value=source, allowed=", ".join(get_args(Door)))
    if duration_s is not None and not 0 <= duration_s < float("inf"):
        raise InvalidValue(name="duration_s", value=duration_s, allowed="≥ 0")
    shown: dict[str, Any] = {"left_run": pair.left.id, "right_run": pair.right.id, "left_variant": pair.left_variant, "right_variant": pair.right_variant}
    said: dict[str, Any] = {"choice": read_choice(choice, pair), "comment": comment, "source": source, "duration_s": duration_s}
    return Vote(id=id or new_id(), created_at=now(), rater=rater, item=pair.item, tags=pair.tags, **shown, **said, **more)


def check_person(rater: str) -> str:
    """The name as it is stored, without spaces around it. Raises: `InvalidValue` for an empty or a very long one."""
    if not isinstance(rater, str) or not rater.strip() or len(rater) > _MOST_NAME:
        raise InvalidValue(name="rater", value=str(rater)[:80], allowed={"en": f"a name of 1–{_MOST_NAME} characters", "ja": f"1〜{_MOST_NAME}文字の名前"})
    return rater.strip()


def keep(store: Store, vote: Vote) -> Vote:
    """Write a vote and give it back once it is durable; the one that is there already where its id was sent before.

    Raises:
        NotSaved: the disk refuses; nothing was written.
        InvalidValue: the id is that of another vote, or the vote is for a campaign, which gives its items out and closes.
    """
    try:
        if vote.choice != "withdrawn" and vote.campaign_id is not None and store.count(Campaign, id=vote.campaign_id):
            raise InvalidValue(name="campaign_id", value=vote.campaign_id, allowed="kit.feedback.submit(task, choice)")
        if store.append(vote, publish="vote"):
            return vote
        kept = store.get(Vote, vote.id)
    except WorkspaceError as fault:
        raise NotSaved(reason=fault.facts.get("reason") or fault) from fault
    if kept is None or (kept.rater, {kept.left_run, kept.right_run}) != (vote.rater, {vote.left_run, vote.right_run}):
        raise InvalidValue(name="id", value=vote.id, allowed={"en": "an id that no other vote has", "ja": "他の投票にないid"})
    return kept


def take_back(store: Store, vote: Vote | str, *, rater: str, within_s: float | None) -> Vote:
    """Append the event that takes a vote back. Twice is once.

    Raises:
        UnknownName: there is no such vote.
        AccessDenied: it is somebody else's.
        InvalidValue: it is older than `within_s` seconds, or of a task of a campaign.
        NotSaved: the disk refuses.
    """
    id = vote if isinstance(vote, str) else vote.id
    try:
        given = store.get(Vote, id)
    except WorkspaceError as fault:
        raise NotSaved(reason=fault.facts.get("reason") or fault) from fault
    if given is None:
        raise UnknownName(kind={"en": "vote", "ja": "投票"}, name=id, known="kit.comparison.votes()")
    if given.rater != check_person(rater):
        raise AccessDenied(resource={"en": "somebody else's vote", "ja": "他の人の投票"})
    if given.choice == "withdrawn":
        return given
    if given.campaign_id is not None and given.item_id is not None:  # its task is to be given to somebody again, which is done there
        where = {"en": "votes outside campaigns; use kit.feedback.withdraw(id)", "ja": "キャンペーン外の投票（kit.feedback.withdraw(id) を使ってください）"}
        raise InvalidValue(name="vote", value=given.id, allowed=where)
    moment = now()
    if within_s is not None and (moment - given.created_at).total_seconds() > within_s:
        limit = {"en": f"votes of the last {within_s:g} seconds; vote again instead", "ja": f"直前{within_s:g}秒以内の投票（もう一度投票すれば変更できます）"}
        raise InvalidValue(name="vote", value=given.created_at.isoformat(timespec="seconds"), allowed=limit)
    event = uuid5(NAMESPACE_URL, f"withdrawn:{given.id}")
    moment = max(moment, given.created_at + timedelta(microseconds=1))  # later than the vote even where the clock was set back
    return keep(store, replace(given, id=str(event), created_at=moment, choice="withdrawn", comment="", duration_s=None, supersedes=given.id, flags=()))


def find_votes(store: Store, *, app: str | None = None, campaign_id: str | None = None, rater: str | None = None, tag: str | None = None) -> list[Vote]:
    """The votes that count, oldest first, of the items of an app (`compare:<id>`), of a campaign, of a rater, with a tag of their item."""
    where: dict[str, Any] = {name: value for name, value in (("campaign_id", campaign_id), ("rater", rater)) if value is not None}
    events = store.find(Vote, newest_first=False, **where)
    return [vote for vote in effective(events) if (app is None or vote.item.startswith(f"{app}:")) and (tag is None or tag in vote.tags)]


class _Event(NamedTuple):
    """The part of a `Vote` that decides whether it counts: reading whole votes takes ten times as long."""

    id: str
    created_at: datetime
    rater: str
    item: str
    left_run: str
    right_run: str
    choice: Choice
    supersedes: str | None
    campaign_id: str | None


def find_standing(store: Store, runs: Sequence[str]) -> list[Vote]:
    """The votes that count on pairs of these Runs (and, of many, on others); only who, which Runs and what are read."""
    where = {"left_run": list(runs)} if len(runs) <= _MOST_LISTED else {}  # a vote with its sides changed has the other Run there, which is listed too
    rows = store.values(Vote, _Event._fields, **where)
    return effective(cast("list[Vote]", [_Event._make(row) for row in rows]))
