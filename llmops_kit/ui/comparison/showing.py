"""Answers beside each other as HTML: blind, with their names, and with what differs marked. Everything in it is escaped text."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from llmops_kit.errors import KitError
from llmops_kit.types import Run
from llmops_kit.ui.panes import brief_of
from llmops_kit.ui.text import Language, error_text, localized

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

CSS = """
.pair {display: grid; gap: 12px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 260px), 1fr)); align-items: stretch}
.answer {border: 1px solid var(--border-color-primary); border-radius: 10px; padding: 10px 14px; min-width: 0; background: var(--background-fill-secondary)}
.answer.chosen {border-color: var(--primary-600); box-shadow: inset 0 0 0 1px var(--primary-600)}
.name {font-weight: 600; overflow-wrap: anywhere; margin-bottom: 4px} .name .letter {margin-right: 8px}
.said {font-size: 1.06rem; line-height: 1.75; white-space: pre-wrap; overflow-wrap: anywhere; min-height: 3.2em}
.facts {color: var(--body-text-color-subdued); font-size: .84rem; margin-top: 6px; overflow-wrap: anywhere}
.warn {border-left: 3px solid var(--neutral-400); padding-left: 8px; white-space: pre-wrap; overflow-wrap: anywhere}
.asked {padding: 2px 4px; margin: 4px 0; overflow-wrap: anywhere; line-height: 1.6}
.asked dt {color: var(--body-text-color-subdued); font-size: .82rem} .asked dd {margin: 0 0 6px; white-space: pre-wrap; max-height: 9.6em; overflow: auto}
.asked .choice {color: var(--body-text-color-subdued); font-size: .87rem; max-height: 3.2em}
.asked dd:last-child:not(.choice) {font-size: 1.06rem; font-weight: 600}
.told {padding: 4px; line-height: 1.6}
.tag {font-size: .8rem; color: var(--body-text-color-subdued); border: 1px solid var(--border-color-primary); border-radius: 4px; padding: 0 5px;
  margin-left: 6px; white-space: nowrap}
mark {background: #ffe08a; color: #222; border-radius: 2px; padding: 0 1px; text-decoration: underline #b45309; text-underline-offset: 3px}
@media (max-width: 640px) {.pair {gap: 8px} .answer {padding: 8px 10px} .asked dd {max-height: 6.4em} .said {min-height: 0; font-size: 1rem; line-height: 1.65}}
"""
"""Differences are yellow and underlined, so that they are seen without colour too."""
_LETTERS = ("A", "B")


def show_question(kit: Kit, runs: Sequence[Run], language: Language) -> str:
    """What was asked: the variables that all of `runs` had, the question last and largest; else the last message of a chat."""
    first = runs[0]
    labels = _labels(kit, first, language)
    shared = {name: str(value) for name, value in first.variables.items() if all(run.variables.get(name) == value for run in runs)}
    shown = {name: value for name, value in shared.items() if value.strip()}
    if not shown:
        said = [turn.content for turn in first.messages if turn.role == "user"]
        shown = {"": said[-1]} if said else {}
    parts = []
    for name, value in shown.items():
        label, is_choice = labels.get(name, (name, False))
        head = f"<dt>{html.escape(label)}</dt>" if label and not is_choice else ""
        kind = " class='choice'" if is_choice else ""
        parts.append(f"{head}<dd{kind}>{html.escape(value)}</dd>")
    return f"<dl class='asked'>{''.join(parts)}</dl>"


def show_blind(runs: Sequence[Run], language: Language) -> str:
    """Two answers as A and B: nothing in it tells whose they are."""
    cards = [f"<section class='answer'>{_head(letter)}<div class='said'>{html.escape(_bare(run))}</div></section>" for letter, run in _lettered(runs)]
    return f"<div class='pair'>{''.join(cards)}</div>"


def show_named(runs: Sequence[Run], names: Sequence[str], choice: str, language: Language) -> str:
    """The same two answers after the vote: their names, their facts, and the one that was chosen in a frame."""
    cards = []
    for (letter, run), name in zip(_lettered(runs), names, strict=True):
        chosen = " chosen" if choice == letter else ""
        facts = f"<div class='facts'>{html.escape(brief_of(run, language))}</div>"
        said = f"<div class='said'>{html.escape(_bare(run))}</div>"
        cards.append(f"<section class='answer{chosen}'>{_head(letter, name)}{said}{facts}</section>")
    return f"<div class='pair'>{''.join(cards)}</div>"


def show_growing(run: Run | None, name: str, told: str, language: Language, *, tag: str = "") -> str:
    """One of several answers under its name, as far as it has come, with `told` (the app's own words and numbers) under it."""
    said = html.escape(run.output) if run is not None else ""
    return _card(name, said, told, run, language, tag)


def show_marked(run: Run, name: str, told: str, language: Language, *, parts: Sequence[tuple[str, str]], tag: str = "") -> str:
    """One of several finished answers with what differs from the baseline marked; `parts` as `differences` gives them."""
    said = "".join(_marked(text) if kind == "changed" else html.escape(text) for text, kind in parts)
    return _card(name, said, told, run, language, tag)


def _marked(text: str) -> str:
    """`text` marked without the white space at its ends, which would be seen as a lone stripe."""
    bare = text.strip()
    start = len(text) - len(text.lstrip())
    return f"{text[:start]}<mark>{html.escape(bare)}</mark>{text[start + len(bare) :]}" if bare else text


def _card(name: str, said: str, told: str, run: Run | None, language: Language, tag: str) -> str:
    error = f"<div class='warn'>{html.escape(error_text(run.error, language))}</div>" if run is not None and run.error else ""
    mark = f"<span class='tag'>{html.escape(tag)}</span>" if tag else ""
    head = f"<div class='name'>{html.escape(name)}{mark}</div>"
    return f"<section class='answer'>{head}<div class='said'>{said}</div>{error}<div class='facts'>{html.escape(told)}</div></section>"


def _lettered(runs: Sequence[Run]) -> list[tuple[str, Run]]:
    return list(zip(_LETTERS, runs, strict=True))


def _head(letter: str, name: str = "") -> str:
    return f"<div class='name'><span class='letter'>{letter}</span>{html.escape(name)}</div>"


def _bare(run: Run) -> str:
    """An answer without the numbers of sources, which a reader of the pair cannot open and which tell how it was made."""
    from llmops_kit.documents.citations import strip_marks

    return strip_marks(run.output).strip() if run.sources else run.output


def _labels(kit: Kit, run: Run, language: Language) -> Mapping[str, tuple[str, bool]]:
    """What the variables of a run are called, as its prompt says, and whether they are chosen from a list: an instruction, not the question."""
    try:
        variables = kit.prompts.get(run.prompt_name).variables if run.prompt_name else ()
    except KitError:  # asked with a prompt that was never saved
        return {}
    return {each.name: (localized(each.label, language) or each.name, each.kind == "select") for each in variables}
