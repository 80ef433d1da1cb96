"""How far work on documents is, as the page shows it: a bar, what came of it, and the files that were not taken."""

from __future__ import annotations

import html

from llmops_kit.errors import KitError
from llmops_kit.ui.documents import words
from llmops_kit.ui.documents.work import Standing
from llmops_kit.ui.files import progress_bar
from llmops_kit.ui.models import time_left
from llmops_kit.ui.text import Language, localized, say

_LISTED = 20
"""Files that were not taken are listed up to here."""


def tell_standing(standing: Standing, language: Language) -> str:
    """The bar while something runs, one sentence after it, nothing before. HTML of the app's own words and numbers."""
    if not standing.total and not standing.errors:
        return ""
    if standing.running:
        left = "–" if standing.seconds_left is None else time_left(standing.seconds_left, language)
        facts = {"done": standing.done, "total": standing.total, "pages": f"{standing.pages:,}", "left": left}
        return progress_bar(standing.done, standing.total, say("documents.progress", language, **facts))
    states = [say(f"documents.became_{state}", language, n=standing.states[state]) for state in words.ORDER if standing.states.get(state)]
    became = words.join(states, language) or say("documents.nothing_new", language)
    key = "documents.cancelled" if standing.cancelled else "documents.finished"
    then = f" {say('documents.now_ask', language)}" if standing.states.get("ready") else ""
    return f"<div class='quiet'>{say(key, language, became=became)}{then}</div>"


def tell_left(standing: Standing, language: Language) -> str:
    """What went wrong and which files were not taken, with the reasons; names and reasons escaped."""
    told = [error.text(language) if isinstance(error, KitError) else say("documents.failed", language) for error in standing.errors]
    mark = "：" if language == "ja" else ": "
    told += [f"{name}{mark}{localized(reason, language)}" for name, reason in standing.left[:_LISTED]]
    if (more := len(standing.left) - _LISTED) > 0:
        told.append(say("documents.left_more", language, n=more))
    return "".join(f"<div class='note'>{html.escape(each)}</div>" for each in told)
