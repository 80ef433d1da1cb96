"""Closing a campaign: what people said, fixed as an artifact with its hash, beside the items it is about."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from llmops_kit.access import User, require
from llmops_kit.feedback.events import effective
from llmops_kit.feedback.measuring import agreement_of, summary_of
from llmops_kit.pseudonyms import pseudonym, pseudonym_key
from llmops_kit.types import Artifact, Campaign, CampaignItem, Claim, Feedback, Run, Vote, new_id
from llmops_kit.votes import effective as effective_votes

if TYPE_CHECKING:
    from llmops_kit.store import Store
    from llmops_kit.store.change import Change

_NAME_CHARS = 60


def close(store: Store, campaign: Campaign, by: str, clock: Callable[[], datetime]) -> Artifact:
    """End the campaign and give its artifact; the one that is there where it was closed before.

    First the campaign is closed, so that nothing is added while the artifact is made; should the process die in between, closing again
    finishes it. Raises: `AccessDenied` for anybody but the owner.
    """
    resource = {"en": f"the campaign “{campaign.name}” to close it", "ja": f"キャンペーン「{campaign.name}」の終了"}
    require(User(by), "owner", resource=resource, resource_owner=campaign.owner)  # type: ignore[arg-type]

    def shut(change: Change) -> None:
        if change.find(Campaign, id=campaign.id)[0].closed_at is None:
            change.update(Campaign, campaign.id, closed_at=clock())

    store.commit(shut)
    names = name_of(campaign)
    if made := _made(store.find(Artifact, name=f"feedback-{names}"), campaign.id):
        return made
    items = store.find(CampaignItem, campaign_id=campaign.id, newest_first=False)
    rows, about = _collect(store, campaign, items)
    item_rows = _describe(store, items)

    def write(change: Change) -> Artifact:
        change.find(Campaign, id=campaign.id)   # locked: of two who close at once the second finds the first one's artifact
        if kept := _made(change.find(Artifact, name=f"feedback-{names}"), campaign.id):
            return kept
        basis = _next(change, f"items-{names}", "dataset", clock(), item_rows, {"campaign": about["campaign"]}, ())
        return _next(change, f"feedback-{names}", "feedback", basis.created_at, rows, about, (f"{basis.name}:v{basis.version}",))

    return store.commit(write)


def name_of(campaign: Campaign) -> str:
    """The campaign's name in lower-case ASCII words joined by hyphens; the end of its id where it has none, as in Japanese."""
    ascii_only = unicodedata.normalize("NFKC", campaign.name).lower()
    words = re.findall(r"[a-z0-9]+", ascii_only) if ascii_only.isascii() else []
    return "-".join(words)[:_NAME_CHARS].strip("-") or re.sub(r"[^a-z0-9]", "", campaign.id.lower())[-8:]


def hash_rows(rows: Sequence[Any]) -> str:
    """SHA-256 of the rows as canonical JSON: keys sorted, no spaces, UTF-8."""
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode("utf-8", "surrogatepass")).hexdigest()


def _made(artifacts: Sequence[Artifact], campaign_id: str) -> Artifact | None:
    return next((artifact for artifact in artifacts if artifact.about.get("campaign", {}).get("id") == campaign_id), None)


def _next(
    change: Change, name: str, kind: str, at: datetime, rows: list[dict[str, Any]], about: dict[str, Any], inputs: tuple[str, ...]
) -> Artifact:
    """Append the next version of an artifact."""
    version = max((artifact.version for artifact in change.find(Artifact, name=name)), default=0) + 1
    made = Artifact(new_id(), at, name, version, kind, hash_rows(rows), len(rows), inputs, about, tuple(rows))
    change.append(made, publish="artifact")
    return made


def _collect(store: Store, campaign: Campaign, items: Sequence[CampaignItem]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What counts as rows with pseudonyms, and what the artifact says of itself."""
    said = store.find(Feedback, campaign_id=campaign.id, newest_first=False)
    ratings, votes = effective(said), effective_votes(store.find(Vote, campaign_id=campaign.id, newest_first=False))
    key = pseudonym_key(store)
    of_item = {item.id: item.item for item in items}
    rows = [_rating_row(rating, of_item, key) for rating in ratings] + [_vote_row(vote, key) for vote in votes]
    counted: list[Feedback | Vote] = [*ratings, *votes]
    moments = [event.created_at for event in counted]
    states = store.values(Claim, ("item_id", "state"), campaign_id=campaign.id)
    done = Counter(item_id for item_id, state in states if state == "done")
    k = int(campaign.spec["k"])
    counts = {
        "events": len(rows),
        "raters": len({event.rater for event in counted}),
        "items": len(items),
        "complete": sum(count >= k for count in done.values()),
        "counted": sum(done.values()),
        "late": sum("late" in event.flags for event in counted),
        "skipped": sum(state == "skipped" for _, state in states),
    }
    spec = campaign.spec
    about = {
        "campaign": {"id": campaign.id, "name": campaign.name, "kind": spec["kind"]},
        "k": k,
        "rubric": spec["rubric"],
        "guidelines": spec["guidelines"],
        "blind": spec["blind"],
        "window": {"first": min(moments).isoformat(), "last": max(moments).isoformat()} if moments else None,
        "counts": counts,
        "agreement": [summary_of(found) for found in agreement_of(ratings, votes, spec)],
    }
    return rows, about


def _rating_row(rating: Feedback, of_item: dict[str, str], key: bytes) -> dict[str, Any]:
    return {
        "feedback_id": rating.id,
        "created_at": rating.created_at.isoformat(),
        "item_id": rating.item_id,
        "item": of_item.get(rating.item_id or "", ""),
        "run_id": rating.run_id,
        "rater": pseudonym(key, rating.rater),
        "scores": dict(rating.scores),
        "comment": rating.comment,
        "correction": rating.correction,
        "tags": list(rating.tags),
        "rubric": rating.rubric,
        "rubric_version": rating.rubric_version,
        "duration_s": rating.duration_s,
        "flags": list(rating.flags),
    }


def _vote_row(vote: Vote, key: bytes) -> dict[str, Any]:
    return {
        "vote_id": vote.id,
        "created_at": vote.created_at.isoformat(),
        "item_id": vote.item_id,
        "item": vote.item,
        "left_run": vote.left_run,
        "right_run": vote.right_run,
        "left_variant": vote.left_variant,
        "right_variant": vote.right_variant,
        "choice": vote.choice,
        "blinded": vote.blinded,
        "rater": pseudonym(key, vote.rater),
        "comment": vote.comment,
        "tags": list(vote.tags),
        "duration_s": vote.duration_s,
        "flags": list(vote.flags),
    }


def _describe(store: Store, items: Sequence[CampaignItem]) -> list[dict[str, Any]]:
    """What was rated, so that the ratings can be read without the workspace: what was asked, what was answered and by what; not who asked."""
    ids = sorted({run_id for item in items for run_id in item.run_ids})
    runs = {run.id: run for run in store.find(Run, id=ids)}
    return [
        {"item_id": item.id, "item": item.item, "position": item.position, "tags": list(item.tags), "answers": [_answer(runs[id]) for id in item.run_ids]}
        for item in items
    ]


def _answer(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "messages": [{"role": turn.role, "content": turn.content} for turn in run.messages],
        "answer": run.answer,
        "model": run.model,
        "model_revision": run.model_revision,
        "variant": run.variant,
        "prompt_name": run.prompt_name,
        "prompt_version": run.prompt_version,
        "prompt_sha256": run.prompt_sha256,
    }
