"""What is on the page of a blind duel: a pair without names, the same pair after the vote, or what to do where there is none."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.types import Choice, new_id
from llmops_kit.ui.comparison import choosing, showing
from llmops_kit.ui.comparison.code import duel_code
from llmops_kit.ui.text import language_of, say

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

CHOICES: dict[str, Choice] = {"a": "A", "tie": "tie", "bad": "both_bad", "b": "B"}
"""The choice of each button, in the order of their keys ← ↑ ↓ →."""
SHOWN = ("duel", "shown", "question", "pair", "told", "votes", "after", "undo", "empty", "progress", "code")
"""The parts of the page, in the order in which every method gives their updates."""
MOST = 30
"""Comparisons that pairs are drawn from where none is chosen, the newest ones."""
_COUNTED_S = 1.0
"""Seconds for which a count of everybody's votes is good enough."""


class Desk:
    """Lays pairs out for people. The names behind a pair stay on the server, in the state `duel`, until the vote is kept."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._lock = threading.Lock()
        self._counts: dict[str, tuple[float, int]] = {}

    def draw(self, request: gr.Request, comparison: str | None) -> list[Any]:
        """The next pair of the comparison, or of all; where there is none, what to do. Raises: InputError, AccessDenied."""
        rater = require(user_of(request), "participant", resource="votes").id
        if comparison:
            scope: Any = choosing.find_comparison(self._kit, request, comparison).id
        else:
            scope = [each.id for each in choosing.visible(self._kit, request)[:MOST]]
        pairs = self._kit.comparison.pairs(scope, rater=rater, n=1) if scope else []
        return self.ask(request, comparison, pairs[0]) if pairs else self._nothing(request, comparison)

    def ask(self, request: gr.Request, comparison: str | None, pair: Any, *, again: bool = False) -> list[Any]:
        """A pair without names, and the id its vote will have. `again`: the person took a vote on it back, and knows the names."""
        language, runs, id = language_of(request), (pair.left, pair.right), new_id()
        blind = not again and not choosing.has_seen(self._kit, request, pair)
        duel = {"pair": pair, "id": id, "vote": None, "since_s": time.monotonic(), "comparison": comparison or "", "blind": blind}
        question, shown = showing.show_question(self._kit, runs, language), showing.show_blind(runs, language)
        updates: dict[str, Any] = {"duel": duel, "shown": id, "question": question, "pair": shown, "votes": gr.Row(visible=True)}
        updates |= {"told": _told(say("duel.undone" if again else "duel.ask", language)), "progress": self._progress(request, comparison)}
        return _shown(**updates, code=duel_code(self._kit.settings.workspace, comparison or None))

    def reveal(self, request: gr.Request, comparison: str | None, duel: dict[str, Any]) -> list[Any]:
        """The pair of a vote that is kept, with names."""
        language, pair, vote = language_of(request), duel["pair"], duel["vote"]
        shown = showing.show_named((pair.left, pair.right), (pair.left_variant, pair.right_variant), vote.choice, language)
        name = next((name for name, choice in CHOICES.items() if choice == vote.choice), "bad")
        updates: dict[str, Any] = {"duel": duel, "shown": duel["id"], "question": gr.skip(), "pair": shown, "after": gr.Row(visible=True)}
        return _shown(**updates, told=_told(say(f"duel.told_{name}", language)), progress=self._progress(request, comparison))

    def _nothing(self, request: gr.Request, comparison: str | None) -> list[Any]:
        """Nothing to vote on: because all of it is done, or because there are no answers yet."""
        language = language_of(request)
        key = "duel.done" if choosing.visible(self._kit, request) else "duel.empty"
        return _shown(told=_told(say(key, language)), empty=gr.Row(visible=True), progress=self._progress(request, comparison))

    def _progress(self, request: gr.Request, comparison: str | None) -> str:
        """How many votes there are: the person's own and everybody's."""
        own = len(self._kit.comparison.votes(comparison or None, rater=user_of(request).id))
        every = max(own, self._count(comparison or ""))
        return _told(say("duel.progress", language_of(request), own=f"{own:,}", every=f"{every:,}"))

    def _count(self, comparison: str) -> int:
        """Everybody's votes, counted at most once a second however many people vote."""
        with self._lock:
            when, found = self._counts.get(comparison, (0.0, 0))
            if not when or time.monotonic() - when > _COUNTED_S:
                found = len(self._kit.comparison.votes(comparison or None))
                self._counts = {**dict(list(self._counts.items())[-MOST:]), comparison: (time.monotonic(), found)}
            return found


def kept() -> list[Any]:
    """Everything stays as it is."""
    return [gr.skip()] * len(SHOWN)


def _shown(**updates: Any) -> list[Any]:
    """Updates in the order of `SHOWN`; what is not named is empty or hidden."""
    hidden: dict[str, Any] = {name: gr.Row(visible=False) for name in ("votes", "after", "empty")}
    blank: dict[str, Any] = {"duel": {}, "shown": "", "question": "", "pair": "", "told": "", "undo": gr.skip(), "progress": "", "code": gr.skip()}
    return [updates.get(name, {**hidden, **blank}[name]) for name in SHOWN]


def _told(sentence: str) -> str:
    return f"<div class='told'>{sentence}</div>"
