"""Who may do what: the roles, and the one function every handler asks before it touches something of somebody."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from llmops_kit.errors import AccessDenied

Role = Literal["participant", "rater", "analyst", "approver", "facilitator", "owner"]
LOCAL = "local"
"""The participant of everything done outside a browser: notebooks and scripts of the workspace's owner."""

_RIGHTS: Mapping[Role, frozenset[Role]] = {
    "participant": frozenset({"participant"}),
    "rater": frozenset({"participant", "rater"}),
    "analyst": frozenset({"participant", "rater", "analyst"}),
    "approver": frozenset({"participant", "rater", "approver"}),
    "facilitator": frozenset({"participant", "rater", "analyst", "facilitator"}),
    "owner": frozenset({"participant", "rater", "analyst", "approver", "facilitator", "owner"}),
}


@dataclass(frozen=True)
class User:
    """A person at a browser: the id that is written into their runs as `participant`, and their role."""

    id: str
    role: Role = "owner"


class HasUsername(Protocol):
    """What `user_of` needs of a Gradio request: the id the edge gave the browser."""

    @property
    def username(self) -> str | None:
        """The id, or None outside the edge."""


def require(user: User | None, role: Role, *, resource: str, resource_owner: str | None = None) -> User:
    """Let `user` pass if they hold `role` and, for something personal, if it is theirs; give them back.

    `resource` names the thing in the error. `resource_owner` is the participant it belongs to, None for things of the
    whole workspace. The owner of the workspace also owns what was done in a notebook (`local`), but not what another
    browser typed; a facilitator may open what their participants made.
    Raises: AccessDenied.
    """
    if user is None or role not in _RIGHTS[user.role]:
        raise AccessDenied(resource=resource)
    theirs = resource_owner is None or resource_owner == user.id
    if theirs or user.role == "facilitator" or (user.role == "owner" and resource_owner == LOCAL):
        return user
    raise AccessDenied(resource=resource)


def user_of(request: HasUsername | None) -> User:
    """The person behind a Gradio request. Raises: AccessDenied, where the request did not come through the edge."""
    if request is None or not request.username:
        raise AccessDenied(resource="this page / このページ")
    return User(request.username)
