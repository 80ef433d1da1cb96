"""Which votes count: minds changed and votes taken back are events too, and this is the view after all of them."""

from __future__ import annotations

from collections.abc import Iterable

from llmops_kit.types import Vote


def effective(votes: Iterable[Vote]) -> list[Vote]:
    """The votes that count, oldest first, from events in any order (an event that is there twice counts once).

    An event with `supersedes` takes the place of that vote, if it is older and of the same rater; the choice `withdrawn` takes it away
    and counts as nothing itself. What was itself replaced or taken back replaces nothing: undoing a change brings back what was before.
    Where a rater voted twice on the same two answers to an item (whichever was left), the newest of what remains counts, per campaign.
    """
    gone: set[tuple[str, str]] = set()
    newest: dict[tuple[object, ...], Vote] = {}
    for vote in sorted({vote.id: vote for vote in votes}.values(), key=lambda vote: (vote.created_at, vote.id), reverse=True):
        if (vote.rater, vote.id) in gone:
            continue
        if vote.supersedes is not None:
            gone.add((vote.rater, vote.supersedes))
        if vote.choice != "withdrawn":
            newest.setdefault((frozenset((vote.left_run, vote.right_run)), vote.item, vote.rater, vote.campaign_id), vote)
    return list(newest.values())[::-1]


def newest_of_each(votes: Iterable[Vote]) -> list[Vote]:
    """Of votes that count, oldest first, the newest of each rater on two answers to an item, in whichever campaign it was asked.

    Campaigns keep their votes apart, but two answers judged twice by one person are one opinion: to count it twice would make a ranking too sure.
    """
    newest = {(frozenset((vote.left_run, vote.right_run)), vote.item, vote.rater): vote for vote in votes}
    return list(newest.values())
