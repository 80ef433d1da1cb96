"""Which comparisons a person may vote on or look into, and how they are called before anybody may know whose answers they hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import LOCAL, require, user_of
from llmops_kit.errors import InputError, KitError
from llmops_kit.types import Comparison
from llmops_kit.ui.text import Language, localized, say

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

MOST = 100
"""Comparisons a chooser lists, the newest first."""
_TITLE_CHARS = 28


def visible(kit: Kit, request: gr.Request) -> list[Comparison]:
    """The newest comparisons that a person may vote on: their own, and everybody's that are open. Raises: AccessDenied."""
    user = require(user_of(request), "participant", resource="comparisons")
    found = kit.store.find(Comparison, limit=MOST)
    return [each for each in found if is_open(each) or each.participant in own_names(user.id, user.role)]


def is_open(comparison: Comparison) -> bool:
    """Whether everybody in the workspace may vote on it: a test set, unless it was closed; a single question, once it was opened."""
    return bool(comparison.spec.get("open", len(comparison.spec.get("rows") or ()) > 1))


def own_names(user: str, role: str = "owner") -> tuple[str, ...]:
    """The names a person's comparisons go by: their own, and for the owner of the workspace that of the notebooks."""
    return (user, LOCAL) if role == "owner" else (user,)


def find_comparison(kit: Kit, request: gr.Request, id: str | None, *, own: bool = False) -> Comparison:
    """The comparison, if this person may see it (`own`: if it is theirs). Raises: InputError where none was chosen, AccessDenied."""
    found = kit.store.get(Comparison, id) if id else None
    if found is None:
        raise InputError(en=say("compare.no_comparison", "en"), ja=say("compare.no_comparison", "ja"))
    owner = None if is_open(found) and not own else found.participant
    require(user_of(request), "participant", resource=found.id, resource_owner=owner)
    return found


def title(kit: Kit, comparison: Comparison, language: Language) -> str:
    """How a comparison is called: when, what was asked, how many items and variants. Never which variants: it stands over a blind pair."""
    spec = comparison.spec
    facts = {"n": len(spec.get("rows") or ()) or 1, "k": len(spec.get("variants") or ()), "what": _asked(kit, spec.get("prompt"), language)}
    return say("compare.title", language, when=f"{comparison.created_at.astimezone():%m/%d %H:%M}", **facts)


def chooser(kit: Kit, found: Sequence[Comparison], language: Language, *, chosen: str | None, every: bool = False) -> Any:
    """The update of a chooser: these comparisons, `every` one of them together first; `chosen` stays where it is still there."""
    choices = [(say("compare.all", language), "")] if every else []
    choices += [(title(kit, each, language), each.id) for each in found]
    known = [value for _, value in choices]
    return gr.Dropdown(choices=choices, value=chosen if chosen in known else known[0] if known else None)


def _asked(kit: Kit, prompt: Any, language: Language) -> str:
    """A prompt in a few words: what it does, else its name."""
    name = prompt.get("name") if isinstance(prompt, dict) else prompt if isinstance(prompt, str) else ""
    try:
        text = localized(kit.prompts.get(name).description, language).rstrip("。.") or name if name else say("compare.chat", language)
    except KitError:  # a prompt that was never saved, or is gone
        text = str(name)
    return text if len(text) <= _TITLE_CHARS else f"{text[: _TITLE_CHARS - 1]}…"


def set_open(kit: Kit, request: gr.Request, id: str, is_open: bool) -> None:
    """Open the person's own comparison to everybody's votes, or close it. Raises: InputError, AccessDenied."""
    found = find_comparison(kit, request, id, own=True)
    with kit.store.change() as change:
        change.put(replace(found, spec={**found.spec, "open": bool(is_open)}))


def has_seen(kit: Kit, request: gr.Request, pair: Any) -> bool:
    """Whether a person had the two answers on their page under their names: those of their own question side by side."""
    if pair.left.participant != user_of(request).id:
        return False
    found = kit.store.get(Comparison, pair.left.app.removeprefix("compare:"))
    return found is not None and len(found.spec.get("rows") or ()) == 1
