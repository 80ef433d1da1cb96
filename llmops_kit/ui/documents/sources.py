"""Answers and their sources as the page shows them: claims with numbers to click, cards, and what to be careful about.

Everything here is HTML made of escaped text. Nothing of a document, a model or a file name is ever markup on this page.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmops_kit.ui.text import Language, error_text, say

if TYPE_CHECKING:
    from llmops_kit.documents.citations import Claim
    from llmops_kit.types import Run, Source

LISTEN = """
const copy = text => {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement('textarea');
  field.value = text;
  document.body.append(field);
  field.select();
  document.execCommand('copy');
  field.remove();
};
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-act]');
  if (!button || !element.contains(button)) return;
  if (button.dataset.act === 'copy') {
    copy(button.dataset.text);
    button.textContent = button.dataset.done;
  } else trigger('click', {...button.dataset});
});
watch('value', () => {
  const begun = element.querySelector('[data-begun]');
  if (begun && begun.getBoundingClientRect().bottom > window.innerHeight) begun.scrollIntoView({block: 'center'});
});
"""
"""Gives the `data-` attributes of the button that was clicked, or pressed by keyboard, to the click event; copies by itself; shows where an answer begins."""

CSS = """
.turn {margin: 0 0 14px}
.asked {display: inline-block; max-width: 92%; padding: 6px 12px; border-radius: 12px; background: var(--primary-100); color: var(--neutral-900);
  white-space: pre-wrap; overflow-wrap: anywhere}
.said {padding: 8px 4px 2px; font-size: 1.06rem; line-height: 1.75; white-space: pre-wrap; overflow-wrap: anywhere}
.doubtful {text-decoration: underline dotted var(--neutral-400); text-underline-offset: 4px}
.doubt {font-size: .8rem; color: var(--body-text-color-subdued); border: 1px solid var(--neutral-300); border-radius: 4px; padding: 0 5px;
  margin: 0 2px; white-space: nowrap}
.cite {font: inherit; font-size: .8rem; line-height: 1; min-width: 26px; padding: 5px 7px; margin: 0 2px; border: 0; border-radius: 10px; cursor: pointer;
  background: var(--primary-600); color: #fff; vertical-align: 2px}
.line {color: var(--body-text-color-subdued); font-size: .87rem; padding: 2px 4px; overflow-wrap: anywhere}
.line .warn {display: inline-block; color: var(--body-text-color); border-left: 3px solid var(--neutral-400); padding-left: 8px; margin-right: 10px}
.head {color: var(--body-text-color-subdued); font-size: .85rem; padding: 4px}
.cards {display: grid; gap: 8px; grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr))}
.card {border: 1px solid var(--border-color-primary); border-radius: 8px; padding: 8px 10px; overflow-wrap: anywhere;
  background: var(--background-fill-secondary)}
.card p {margin: 6px 0; font-size: .92rem; line-height: 1.6; white-space: pre-line}
.open {font: inherit; font-weight: 600; text-align: left; padding: 3px 0; border: 0; background: none; color: var(--link-text-color); cursor: pointer;
  overflow-wrap: anywhere}
.small {font: inherit; font-size: .82rem; padding: 4px 8px; margin-right: 6px; border: 1px solid var(--border-color-primary); border-radius: 6px;
  background: var(--background-fill-primary); color: var(--body-text-color); cursor: pointer}
mark {background: #ffe08a; color: #222; border-radius: 2px; padding: 0 1px}
button:focus-visible {outline: 2px solid var(--primary-500); outline-offset: 2px}
"""
_FLAGS = ("not_in_documents", "low_relevance", "ungrounded", "instructions_in_sources")
_AROUND = 80
"""Characters of a passage shown before and after the supporting sentence."""
_MOST = 220


def show_question(question: str) -> str:
    """What the person asked."""
    return f"<div class='asked'>{html.escape(question)}</div>"


def show_growing(question: str, output: str, told: str, *, begun: bool = False) -> str:
    """A turn whose answer is still growing, with a line of the app's own words under it. With `begun` the page scrolls to it."""
    said = f"<div class='said'>{html.escape(output)}</div>" if output else ""
    here = " data-begun='1'" if begun else ""
    return f"<article class='turn'{here}>{show_question(question)}{said}<div class='line'>{html.escape(told)}</div></article>"


def show_turn(run: Run, question: str, language: Language, facts: str) -> str:
    """A finished turn: claims with the numbers of their sources, what to be careful about, and `facts` of the app's own words."""
    said = "".join(_said(run, language))
    copy = f"<button type='button' class='small' data-act='copy' data-text='{html.escape(run.output)}' data-done='{say('ask.copied', language)}'>"
    copied = f"{copy}{say('ask.copy', language)}</button>" if run.output else ""
    error = f"<div class='line'>{html.escape(error_text(run.error, language))}</div>" if run.error else ""
    lines = f"{_cautions(run, language)}{error}<div class='line'>{copied}{html.escape(facts)}</div>"
    return f"<article class='turn'>{show_question(question)}<div class='said'>{said}</div>{lines}</article>"


def show_plain(run: Run, heading: str, facts: str, language: Language) -> str:
    """An answer without documents, or as far as it has come."""
    error = html.escape(error_text(run.error, language)) if run.error else ""
    said = f"<div class='said'>{html.escape(run.output)}</div>"
    return f"<div class='head'>{html.escape(heading)}</div>{said}<div class='line'>{error}</div><div class='line'>{html.escape(facts)}</div>"


def show_error(question: str, sentence: str, language: Language) -> str:
    """A question that could not be answered, and what to do."""
    told = f"<div class='line'><span class='warn'>{say('facts.error', language)}</span>{html.escape(sentence)}</div>"
    return f"<article class='turn'>{show_question(question) if question else ''}{told}</article>"


def show_cards(run: Run, language: Language) -> str:
    """The sources of a run as cards: number, file, page, score, and the passage with the sentences that support the answer."""
    if not run.sources:
        return ""
    claims = claims_of(run)
    wary = {int(flag.rpartition(":")[2]) for flag in run.flags if flag.startswith("instructions_in_source:")}
    cards = [_card(run, number, source, claims, number in wary, language) for number, source in enumerate(run.sources, 1)]
    return f"<div class='head'>{say('ask.sources', language)}</div><div class='cards'>{''.join(cards)}</div>"


def claims_of(run: Run) -> list[Claim]:
    """What the answer of a finished run claims; nothing for one that says that the documents do not hold it."""
    from llmops_kit.documents.citations import check

    if not run.sources or not run.output or run.finish_reason == "error" or "not_in_documents" in run.flags:
        return []
    return check(run.output, run.sources, question=str(run.variables.get("question", "")))


def question_of(run: Run) -> str:
    """What the person typed."""
    return str(run.variables.get("asked") or run.variables.get("question") or "")


def title_of(source: Source, language: Language) -> str:
    """The file of a source with its page, as text."""
    return source.document if source.page is None else say("ask.page_of", language, name=source.document, page=source.page)


def quote_spans(number: int, claims: Sequence[Claim]) -> list[tuple[int, int]]:
    """Where in its document source `number` supports the answer."""
    found = {(claim.quote_start, claim.quote_end) for claim in claims if claim.source == number}
    return sorted((start, end) for start, end in found if start is not None and end is not None)


def mark(text: str, spans: Sequence[tuple[int, int]], kind: str = "mark") -> str:
    """`text` escaped, with these stretches of it in an element `kind`; `spans` are sorted, and what overlaps the one before is cut."""
    pieces, done = [], 0
    for start, end in spans:
        start, end = max(done, start), min(len(text), end)
        if start < end:
            pieces += [html.escape(text[done:start]), f"<{kind}>", html.escape(text[start:end]), f"</{kind.split()[0]}>"]
            done = end
    return "".join([*pieces, html.escape(text[done:])])


def _said(run: Run, language: Language) -> Iterator[str]:
    from llmops_kit.documents.citations import strip_marks

    done = 0
    for claim in claims_of(run):
        yield html.escape(run.output[done : claim.start])
        written = html.escape(strip_marks(run.output[claim.start : claim.end]).strip())
        numbers = [claim.source] if claim.source is not None else [each for each in claim.cited if 0 < each <= len(run.sources)]
        chips = "".join(_chip(run, number, claim, language) for number in numbers)
        if claim.is_doubtful:
            yield f"<span class='doubtful'>{written}</span>{chips}<span class='doubt'>{say('ask.doubtful', language)}</span>"
        else:
            yield written + chips
        done = claim.end
    yield html.escape(run.output[done:])


def _chip(run: Run, number: int, claim: Claim, language: Language) -> str:
    title = say("ask.open_source", language, n=number, name=html.escape(title_of(run.sources[number - 1], language)))
    place = {"start": claim.quote_start, "end": claim.quote_end} if claim.source == number and claim.quote_start is not None else {}
    return f"<button type='button' class='cite' {_data('page', run, number, place)} title='{title}' aria-label='{title}'>{number}</button>"


def _data(act: str, run: Run, number: int, place: Mapping[str, Any] | None = None) -> str:
    values = {"act": act, "run": run.id, "n": number, **(place or {})}
    return " ".join(f"data-{name}='{html.escape(str(value))}'" for name, value in values.items())


def _card(run: Run, number: int, source: Source, claims: Sequence[Claim], is_wary: bool, language: Language) -> str:
    spans = quote_spans(number, claims)
    start = source.start or 0
    inside = [(max(0, first - start), last - start) for first, last in spans]
    place = {"start": spans[0][0], "end": spans[0][1]} if spans else {}
    score = "" if source.score is None else f" <span class='line'>{say('ask.score', language, score=f'{source.score:.2f}')}</span>"
    wary = f"<div class='line'><span class='warn'>{say('ask.instructions_in_source', language)}</span></div>" if is_wary else ""
    opening = f"<button type='button' class='open' {_data('page', run, number, place)}>[{number}] {html.escape(title_of(source, language))}</button>"
    why = f"<button type='button' class='small' {_data('evidence', run, number, place)}>{say('ask.look_into', language)}</button>"
    return f"<section class='card'>{opening}{score}{wary}<p>{_excerpt(source.text, inside)}</p>{why}</section>"


def _excerpt(text: str, spans: Sequence[tuple[int, int]]) -> str:
    """A passage of some length, around its first marked sentence where it has one."""
    if len(text) <= _MOST:
        return _close_up(mark(text, spans))
    first, last = (spans[0][0], spans[0][1]) if spans else (0, 0)
    low, high = max(0, first - _AROUND), min(len(text), max(last, first) + (_AROUND if spans else _MOST))
    if low and (edge := re.search(r"[\s。．.]", text[low:first])):  # begin with a word, or better a sentence
        low += edge.end()
    shown = mark(text[low:high], [(start - low, end - low) for start, end in spans if end > low and start < high])
    return f"{'…' if low else ''}{_close_up(shown)}{'…' if high < len(text) else ''}"


def _close_up(shown: str) -> str:
    """Without empty lines, which only take room on a card."""
    return re.sub(r"\n\s*\n", "\n", shown)


def _cautions(run: Run, language: Language) -> str:
    """One quiet line: the question that was searched where it is another than asked, and the flags of the run."""
    told = [f"<span class='warn'>{say(f'ask.flag_{flag}', language)}</span>" for flag in _FLAGS if flag in run.flags]
    if asked := run.variables.get("asked"):
        told.insert(0, say("ask.condensed", language, question=html.escape(str(run.variables.get("question", "")))) if asked else "")
    return f"<div class='line'>{' '.join(told)}</div>" if told else ""
