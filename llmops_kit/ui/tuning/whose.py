"""Which jobs and adapters a person sees: their own, and for the owner of the workspace those of the notebooks. Of the others, only how many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmops_kit.access import LOCAL, User, require, user_of
from llmops_kit.errors import InputError
from llmops_kit.types import Job
from llmops_kit.ui.text import say

if TYPE_CHECKING:
    import gradio as gr

    from llmops_kit.kit import Kit

KINDS = ("tune", "pretrain")
MOST = 50
"""Jobs a chooser lists, the newest ones."""


def names_of(user: User) -> tuple[str, ...]:
    """The names a person's things go by: their own, and for the owner of the workspace that of the notebooks."""
    return (user.id, LOCAL) if user.role == "owner" else (user.id,)


def own_jobs(kit: Kit, user: User, *, states: Sequence[Any] | None = None) -> list[Job]:
    """The person's jobs, newest first; their own before those of the notebooks only by date."""
    found = [job for name in names_of(user) for job in kit.jobs.find(owner=name, states=states, limit=MOST) if job.kind in KINDS]
    return sorted(found, key=lambda job: (job.created_at, job.id), reverse=True)[:MOST]


def find_job(kit: Kit, request: gr.Request, id: str | None) -> Job:
    """The job, if it is this person's. Raises: InputError where none is chosen, UnknownName, AccessDenied."""
    user = require(user_of(request), "participant", resource="jobs")
    if not id:
        raise InputError(en=say("tune.no_job", "en"), ja=say("tune.no_job", "ja"))
    job = kit.jobs.get(id)
    require(user, "participant", resource=job.name, resource_owner=job.owner)
    return job


def newest_job(kit: Kit, user: User) -> Job | None:
    """What a person comes back to: their newest job that is not over, else their newest of all. Found by who they are, after a reload too."""
    jobs = own_jobs(kit, user)
    mine = [job for job in jobs if job.owner == user.id]
    return next((job for job in [*mine, *jobs] if not job.has_ended), next(iter([*mine, *jobs]), None))


def count_others(kit: Kit, user: User) -> int:
    """How many jobs of other people run or wait."""
    names = names_of(user)
    return sum(job.owner not in names for job in kit.jobs.find(states=("queued", "running")))


def require_own_model(kit: Kit, request: gr.Request, model: str | None) -> Any:
    """The card of an adapter that is this person's. Raises: InputError where none is chosen, UnknownName, AccessDenied."""
    user = require(user_of(request), "participant", resource="adapters")
    if not model:
        raise InputError(en=say("tune.no_adapter", "en"), ja=say("tune.no_adapter", "ja"))
    card = kit.tuning.card(model)
    require(user, "participant", resource=model, resource_owner=card.owner or None)  # one made elsewhere belongs to everybody
    return card
