"""What the Feedback tab shows, as HTML made of escaped text: a task, how far one is, and short notes.

Nothing of a prompt, an answer or a name is ever markup on this page. Guidelines are Markdown that Gradio cleans.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops_kit.ui.text import Language, say

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

CSS = """
.task {outline: none}
.task .head {color: var(--body-text-color-subdued); font-size: .85rem; padding: 2px 0}
.task .asked {padding: 8px 12px; border-radius: 8px; background: var(--background-fill-secondary); border: 1px solid var(--border-color-primary);
  white-space: pre-wrap; overflow-wrap: anywhere; line-height: 1.65; max-height: 34vh; overflow-y: auto}
.task .answers {display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 320px), 1fr)); margin-top: 8px}
.task .answer {padding: 10px 14px; border-radius: 8px; border: 1px solid var(--border-color-primary); border-left: 3px solid var(--primary-500);
  background: var(--background-fill-primary); min-width: 0}
.task .said {white-space: pre-wrap; overflow-wrap: anywhere; font-size: 1.06rem; line-height: 1.75}
.empty {padding: 20px 4px; color: var(--body-text-color-subdued)}
"""
"""The look of a task."""
_IMAGE = re.compile(r"!\[([^\]]*)\](\([^)]*\)|\[[^\]]*\])?|<\s*(?:img|picture|source|video|audio|iframe)\b[^>]*>", re.IGNORECASE)
_IMAGE_REFERENCE = re.compile(r"^\s{0,3}\[[^\]]+\]:\s.*$", re.MULTILINE)


def show_task(kind: str, prompt: str, answers: Sequence[str], language: Language) -> str:
    """A task as text: the prompt, then its answer, or several side by side."""
    many = len(answers) > 1
    cards = []
    for index, answer in enumerate(answers):
        name = say("feedback.answer_n", language, name=letter(index)) if many else say("feedback.answer", language)
        cards.append(f"<section class='answer'><div class='head'>{name}</div><div class='said'>{html.escape(answer)}</div></section>")
    asked = f"<div class='head'>{say('feedback.prompt', language)}</div><div class='asked' tabindex='0'>{html.escape(prompt)}</div>" if prompt else ""
    return f"<article class='task' data-kind='{html.escape(kind)}'>{asked}<div class='answers'>{''.join(cards)}</div></article>"


def show_nothing(text: str) -> str:
    """One sentence in place of a task: the app's own."""
    return f"<div class='empty'>{html.escape(text)}</div>"


def show_note(text: str, *, is_alarm: bool = False) -> str:
    """A quiet line beside the buttons; an alarm is read out by screen readers at once."""
    return f"<div class='note' role='alert'>{html.escape(text)}</div>" if is_alarm else f"<div class='quiet' role='status'>{html.escape(text)}</div>"


def show_progress(own: int, own_total: int, overall: int, total: int, language: Language) -> str:
    """The person's own progress as a bar, and everybody's in words beside it."""
    told = say("feedback.progress", language, own=f"{own:,}", own_total=f"{own_total:,}", overall=f"{overall:,}", total=f"{total:,}")
    return f"<div class='progress'><progress value='{own}' max='{max(own_total, 1)}'></progress><span>{told}</span></div>"


def calm_markdown(text: str) -> str:
    """Markdown without pictures and other things a browser would fetch; what they are called stays. Links stay links."""
    without = _IMAGE.sub(lambda found: found[1] or "", text)
    return _IMAGE_REFERENCE.sub("", without)


def letter(index: int) -> str:
    """A, B, C … for the answers of a task."""
    return chr(ord("A") + index)


def show_bar(done: int, total: int) -> str:
    """A bar without words."""
    return f"<div class='progress'><progress value='{int(done)}' max='{max(int(total), 1)}'></progress></div>"


def wandb_line(kit: Kit, language: Language) -> str:
    """What W&B has of the workspace: everything, or how many rows wait; and what went wrong last. Escaped."""
    status = kit.tracking.status()
    if status.mode == "disabled":
        return say("feedback.wandb_disabled", language)
    key = "feedback.wandb_behind" if status.waiting else "feedback.wandb_even"
    told = say(key, language, n=f"{status.waiting:,}", sent=f"{status.sent:,}", mode=say(f"feedback.wandb_{status.mode}", language))
    return told + (f" {html.escape(status.fault.text(language))}" if status.fault else "")
