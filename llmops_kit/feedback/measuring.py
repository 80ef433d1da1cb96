"""Agreement and disagreement of what was said in a campaign or outside: which criterion, on which level, by the rubric where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops_kit.feedback.events import effective
from llmops_kit.feedback.rubric_reading import read_rubric
from llmops_kit.types import Campaign, Feedback, Run, Vote
from llmops_kit.votes import effective as effective_votes

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.feedback.agreement import Agreement
    from llmops_kit.store import Store


def measure(store: Store, campaign: Campaign | None, criterion: str | None, level: str | None) -> Agreement:
    """The agreement by `criterion`: in a campaign without one, of its first that can be measured. A campaign of pairs: of the votes.

    Raises: as `agree`.
    """
    from llmops_kit.feedback.agreement import agree, agree_votes

    if campaign is not None and campaign.spec["kind"] == "pairwise":
        return agree_votes(store.find(Vote, campaign_id=campaign.id))
    where: dict[str, Any] = {} if campaign is None else {"campaign_id": campaign.id}
    events = effective(store.find(Feedback, **where))
    name = criterion or (_first(events, campaign.spec) if campaign is not None else None)
    return agree(events, criterion=name, prose=() if campaign is None else _prose(campaign.spec), **_scale(campaign, name, level))


def agreement_of(ratings: Sequence[Feedback], votes: Sequence[Vote], spec: Mapping[str, Any]) -> list[Agreement]:
    """The agreement by every criterion of a campaign that can be measured and was rated."""
    from llmops_kit.feedback.agreement import agree, agree_votes
    from llmops_kit.feedback.judgements import count_criteria

    if votes:
        return [agree_votes(votes)]
    scales, prose = _scales(spec), _prose(spec)
    return [agree(ratings, criterion=name, **scales.get(name, {})) for name in count_criteria(ratings) if name not in prose]


def summary_of(found: Agreement) -> dict[str, Any]:
    """An agreement as plain data."""
    bounds = {name: None if each is None else [each.value, each.low, each.high] for name, each in (("alpha", found.alpha), ("percent", found.percent))}
    facts = {"units": found.n_units, "raters": found.n_raters, "values": found.values, "verdict": dict(found.verdict)}
    return {"criterion": found.criterion, "level": found.level, **bounds, "cohen": found.cohen, "fleiss": found.fleiss, **facts}


def disputed(store: Store, campaign: Campaign | None, criterion: str | None, n: int) -> pd.DataFrame:
    """The answers people disagree on most; in a campaign of pairs the pairs."""
    from llmops_kit.feedback.disagreements import disagree, disagree_votes

    if campaign is not None and campaign.spec["kind"] == "pairwise":
        votes = effective_votes(store.find(Vote, campaign_id=campaign.id))
        return disagree_votes(votes, _runs(store, {id for vote in votes for id in (vote.left_run, vote.right_run)}), n=n)
    where: dict[str, Any] = {} if campaign is None else {"campaign_id": campaign.id}
    events = effective(store.find(Feedback, **where))
    levels = {} if campaign is None else {name: scale["level"] for name, scale in _scales(campaign.spec).items() if "level" in scale}
    prose = () if campaign is None else _prose(campaign.spec)
    ranked = {str(id) for event in events for value in event.scores.values() if isinstance(value, (list, tuple)) for id in value}
    return disagree(events, _runs(store, ranked | {event.run_id for event in events}), n=n, criterion=criterion, levels=levels, prose=prose)


def _runs(store: Store, ids: set[str]) -> list[Run]:
    return store.find(Run, id=sorted(ids)) if ids else []


def _first(events: Sequence[Feedback], spec: Mapping[str, Any]) -> str | None:
    """The first criterion of the rubric that was rated and can be measured; that of rankings is always the same."""
    rated = {name for event in events for name in event.scores}
    return next((name for name in _scales(spec) if name in rated), None)


def _scale(campaign: Campaign | None, criterion: str | None, level: str | None) -> dict[str, Any]:
    scale = {} if campaign is None else _scales(campaign.spec).get(criterion or "", {})
    if level is None:
        return scale
    return {"level": level} | ({"order": scale["order"]} if level == "ordinal" and "order" in scale else {})


def _prose(spec: Mapping[str, Any]) -> list[str]:
    """The criteria of a rubric that are free text: that two people word it differently is no disagreement."""
    return [criterion.name for criterion in read_rubric(spec["rubric"]).criteria if criterion.type == "text"]


def _scales(spec: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """By criterion the level of measurement, and the order of the words of an ordinal one."""
    from llmops_kit.feedback.judgements import LEVELS

    criteria = [criterion for criterion in read_rubric(spec["rubric"]).criteria if criterion.type in LEVELS]
    return {
        criterion.name: {"order": criterion.options} if criterion.type == "ordinal" and criterion.options else {"level": LEVELS[criterion.type]}
        for criterion in criteria
    }
