"""Which campaigns a person may rate, see and close, and where they stand in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmops_kit.access import LOCAL, User, require
from llmops_kit.errors import InputError, UnknownName
from llmops_kit.types import Campaign
from llmops_kit.ui.text import Language, say

if TYPE_CHECKING:
    import gradio as gr

    from llmops_kit.feedback.tasks import Progress
    from llmops_kit.kit import Kit

MOST = 200
"""Campaigns listed, the newest ones."""


def names_of(user: User) -> tuple[str, ...]:
    """The names a person's things go by: their own, and for the owner of the workspace that of the notebooks."""
    return (user.id, LOCAL) if user.role == "owner" else (user.id,)


def own_campaigns(kit: Kit, user: User) -> list[Campaign]:
    """The campaigns the person made, newest first."""
    return kit.store.find(Campaign, owner=list(names_of(user)), limit=MOST)


def visible_campaigns(kit: Kit, user: User) -> list[Campaign]:
    """The campaigns the person made or may rate, closed ones too, newest first."""
    from llmops_kit.feedback.queue import may_rate

    return [each for each in kit.store.find(Campaign, limit=MOST) if each.owner in names_of(user) or may_rate(each, user.id)]


def see(kit: Kit, user: User, id: str | None) -> Campaign:
    """A campaign the person made or may rate. Raises: InputError where none is chosen, UnknownName, AccessDenied."""
    from llmops_kit.feedback.queue import may_rate

    found = _find(kit, id)
    if not may_rate(found, user.id):
        require(user, "participant", resource=found.name, resource_owner=found.owner)
    return found


def own(kit: Kit, user: User, id: str | None) -> Campaign:
    """A campaign the person made. Raises: InputError where none is chosen, UnknownName, AccessDenied."""
    found = _find(kit, id)
    require(user, "participant", resource=found.name, resource_owner=found.owner)
    return found


def may_look(kit: Kit, campaign: Campaign, user: User) -> bool:
    """Whether the person may see what others said: who made the campaign, and raters who are through or find it closed."""
    if campaign.owner in names_of(user) or campaign.closed_at is not None:
        return True
    return not kit.feedback.progress(campaign.id, rater=user.id).own_left


def campaigns_to_rate(kit: Kit, user: User, language: Language) -> list[tuple[str, str]]:
    """The open campaigns the person may rate, as (name, id), newest first."""
    from llmops_kit.feedback.queue import may_rate

    found = kit.store.find(Campaign, closed_at=None, limit=MOST)
    return [(each.name, each.id) for each in found if may_rate(each, user.id)]


def first_unfinished(kit: Kit, ids: Sequence[str], user: User) -> str | None:
    """The first of these campaigns that has something left for the person; only the newest are looked at."""
    return next((id for id in ids[:20] if kit.feedback.progress(id, rater=user.id).own_left), None)


def why_nothing(found: Progress, language: Language) -> str:
    """Why there is nothing to rate at this moment."""
    key = "feedback.waiting" if found.own_left else "feedback.all_done" if found.own_done else "feedback.none_left"
    return say(key, language, n=f"{found.own_done:,}")


def title_of(campaign: Campaign, language: Language) -> str:
    """How a campaign is called in a chooser."""
    return say("campaign.title_closed", language, name=campaign.name) if campaign.closed_at else campaign.name


def link_to(request: gr.Request, campaign: str) -> str:
    """The address that opens the page at this campaign, as the person's browser knows it."""
    host = str(request.headers.get("host", ""))
    scheme = "https" if request.headers.get("x-forwarded-proto") == "https" else "http"
    return f"{scheme}://{host}/?campaign={campaign}"


def _find(kit: Kit, id: str | None) -> Campaign:
    if not id:
        raise InputError(en=say("campaign.none_chosen", "en"), ja=say("campaign.none_chosen", "ja"))
    found = kit.store.get(Campaign, id)
    if found is None:
        raise UnknownName(kind={"en": "campaign", "ja": "キャンペーン"}, name=id[:80], known="kit.feedback.campaigns()")
    return found


def make_sample(kit: Kit, user: User, language: Language) -> str:
    """A small campaign of the person's own over answers the kit ships; its id."""
    from llmops_kit.feedback.samples import ANSWERS

    told: dict[str, Any] = {"guidelines": say("feedback.sample_guidelines", language), "rubric": "quality", "k": 2}
    return str(kit.feedback.create(say("feedback.sample_name", language), path=ANSWERS, owner=user.id, **told).id)
