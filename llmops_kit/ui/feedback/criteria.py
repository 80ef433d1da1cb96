"""The form of a rubric: native controls made on the server, and what a rater chose in them, read back.

The choices travel with the click that sends them (`COLLECT`), not through the server's memory of the page: what is sent is
what was seen, also after the server was started again.
"""

from __future__ import annotations

import html
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llmops_kit.errors import InputError, InvalidValue
from llmops_kit.feedback.rubrics import MAX_TEXT, Criterion
from llmops_kit.ui.feedback.showing import letter
from llmops_kit.ui.text import Language, say

CSS = """
.rating {display: block}
.criterion {border: 0; margin: 0 0 10px; padding: 0; min-width: 0}
.criterion legend, .criterion label.name {font-size: .93rem; padding: 0 0 3px; display: block; overflow-wrap: anywhere}
.criterion small {color: var(--body-text-color-subdued); font-size: .82rem; margin-left: 6px}
.criterion summary {cursor: pointer; font-size: .93rem; padding: 4px 0}
.criterion .help {color: var(--body-text-color-subdued); font-size: .84rem; margin: 3px 0 0; overflow-wrap: anywhere}
.choices {display: flex; flex-wrap: wrap; gap: 6px}
.choices label {position: relative; flex: 1 1 auto; min-width: 42px; max-width: 100%}
.choices input {position: absolute; opacity: 0; inset: 0; width: 100%; height: 100%; margin: 0; cursor: pointer}
.choices span {display: block; text-align: center; padding: 8px 10px; border: 1px solid var(--border-color-primary); border-radius: 8px;
  background: var(--background-fill-primary); overflow-wrap: anywhere}
.choices input:checked + span {background: var(--primary-600); border-color: var(--primary-600); color: #fff}
.choices input:focus-visible + span {outline: 2px solid var(--primary-500); outline-offset: 2px}
.choices input:hover:not(:checked) + span {border-color: var(--primary-400)}
.criterion input.field, .criterion textarea {width: 100%; font: inherit; padding: 7px 10px; border: 1px solid var(--border-color-primary);
  border-radius: 8px; background: var(--input-background-fill); color: var(--body-text-color); box-sizing: border-box}
@media (max-width: 640px) {.choices span {padding: 11px 8px}}
"""
"""The look of the form."""

LISTEN = """
const memory = window.sessionStorage, place = 'llmops-rating';
const rating = () => element.querySelector('.rating');
const item = part => part.dataset.draft;
const fields = part => [...part.querySelectorAll('input, textarea')];
const keep = () => {
  const part = rating();
  if (!part) return;
  const values = fields(part).map(field => field.type === 'radio' ? field.checked : field.value);
  try { memory.setItem(place, JSON.stringify({item: item(part), values})); } catch (_) { /* full or forbidden: no draft then */ }
};
const restore = () => {
  const part = rating();
  let draft = null;
  try { draft = JSON.parse(memory.getItem(place) || 'null'); } catch (_) { /* none then */ }
  if (!part || !draft || draft.item !== item(part)) return;
  fields(part).forEach((field, index) => {
    if (field.type === 'radio') field.checked = Boolean(draft.values[index]);
    else if (draft.values[index]) field.value = draft.values[index];
  });
};
let was = null;
element.addEventListener('pointerdown', event => {
  const input = event.target.closest('.choices label')?.querySelector('input');
  was = input && input.checked ? input : null;
});
element.addEventListener('click', event => {
  if (event.target.matches('input[type=radio]') && event.target === was) { event.target.checked = false; keep(); }
  if (event.target.matches('input[type=radio]')) was = null;
});
element.addEventListener('input', keep);
element.addEventListener('change', keep);
element.addEventListener('keydown', event => {
  if (event.key !== 'Enter' || !(event.ctrlKey || event.metaKey) || event.isComposing) return;
  const button = document.getElementById('feedback-submit');
  if (button && button.offsetParent !== null) { event.preventDefault(); button.click(); }
});
element.addEventListener('toggle', event => {
  const field = event.target.querySelector?.('[data-extra=correction]'), said = document.querySelector('#feedback-task .said');
  if (event.target.open && field && !field.value && said) field.value = said.textContent;
}, true);
watch('value', restore);
restore();
"""
"""A second click on a choice takes it back; what is typed stays when the page is loaded again; a correction begins with the answer."""

COLLECT = """(...given) => {
  const part = document.querySelector('#feedback-form .rating'), sent = {token: null, chosen: {}, comment: '', correction: ''};
  sent.wanted = new URLSearchParams(location.search).get('campaign') ?? '';
  if (part) {
    sent.token = part.dataset.token;
    for (const each of part.querySelectorAll('.criterion[data-name]')) {
      const input = each.querySelector('input[type=radio]:checked, input.field, textarea');
      if (input && input.value.trim()) sent.chosen[each.dataset.name] = input.value;
    }
    for (const field of part.querySelectorAll('[data-extra]')) sent[field.dataset.extra] = field.value;
  }
  given[0] = JSON.stringify(sent);
  return given;
}"""
"""Puts what is on the page, with the token of what it is about, in the place of an event's first input."""

_RANK = "rank:"


@dataclass(frozen=True)
class Sent:
    """What the page sent: the token of what it is about, and what was chosen and written."""

    token: Mapping[str, Any]
    chosen: Mapping[str, str]
    comment: str
    correction: str


def show_form(token: Mapping[str, Any], controls: str, language: Language, *, comment: str = "", correction: str | None = None) -> str:
    """`controls` with a comment and, unless `correction` is None, a corrected answer under them; `token` says what they are about."""
    told = f"data-token='{html.escape(json.dumps(token))}' data-draft='{html.escape(str(token['item']))}'"
    written = f"<textarea id='feedback-comment' data-extra='comment' rows='2' maxlength='{MAX_TEXT}'>{html.escape(comment)}</textarea>"
    optional = _small(say("feedback.optional", language))
    head = f"<label class='name' for='feedback-comment'>{say('feedback.comment', language)}{optional}</label>"
    parts = [controls, f"<div class='criterion'>{head}{written}</div>"]
    if correction is not None:
        label = say("feedback.correction", language)
        field = f"<textarea data-extra='correction' rows='5' aria-label='{label}'>{html.escape(correction)}</textarea>"
        is_open = " open" if correction else ""
        parts.append(f"<details class='criterion'{is_open}><summary>{label}</summary>{field}</details>")
    # Gradio patches a page in place and would leave the last task's choices checked, except under another tag: each task has its own.
    tag = f"rating-{token['id']}"
    return f"<{tag} class='rating' {told}>{''.join(parts)}</{tag}>"


def show_rubric(criteria: Sequence[Criterion], language: Language, given: Mapping[str, Any] | None = None) -> str:
    """The controls of a rubric, with what was `given` earlier chosen. Pairwise criteria have none: a vote is a button."""
    return "".join(_show(criterion, index, language, (given or {}).get(criterion.name)) for index, criterion in enumerate(criteria))


def show_ranking(run_ids: Sequence[str], language: Language, given: Sequence[str] | None = None) -> str:
    """One row of places for each answer. `given` are the run ids in an earlier order, best first."""
    places = [str(place) for place in range(1, len(run_ids) + 1)]
    earlier = {run_id: str(place) for place, run_id in enumerate(given or (), 1)}
    rows = []
    for index, run_id in enumerate(run_ids):
        name = say("feedback.place_of", language, name=letter(index))
        choices = _choices(f"criterion-{index}", [(place, place) for place in places], earlier.get(run_id))
        rows.append(_fieldset(f"{_RANK}{index}", "ordinal", name, choices))
    return "".join(rows)


def read_sent(text: str | None) -> Sent:
    """What `COLLECT` sent. Raises: InputError, where there is nothing in it that could be rated."""
    try:
        sent = json.loads(text or "{}")
        token = json.loads(sent["token"])
        chosen = {str(name): value for name, value in sent["chosen"].items() if isinstance(value, str)}
        read = Sent({name: str(token[name]) for name in ("campaign", "item", "id", "at")}, chosen, str(sent["comment"]), str(sent["correction"]))
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise InputError(en=say("feedback.nothing_shown", "en"), ja=say("feedback.nothing_shown", "ja")) from fault
    return read


def id_of(sent: Sent, said: str | None = None) -> str:
    """The id of the rating: the same for the same thing sent again, another for another answer to the task. `said` is what is not in the form.

    The page's own id alone would not do: where an acknowledgement is lost, what is changed before the retry must not be lost with it.
    """
    content = [sent.token["id"], dict(sent.chosen), sent.comment, sent.correction, said]
    return str(uuid.uuid5(uuid.NAMESPACE_OID, json.dumps(content, sort_keys=True)))


def wanted(text: str | None) -> str | None:
    """The campaign the page's address names, as `COLLECT` sent it; None for none."""
    try:
        return str(json.loads(text or "{}").get("wanted") or "") or None
    except (ValueError, AttributeError):
        return None


def read_ranking(chosen: Mapping[str, Any], run_ids: Sequence[str]) -> list[str]:
    """The answers in the chosen order, best first. Raises: InvalidValue, unless every answer has a place of its own."""
    placed = {chosen.get(f"{_RANK}{index}"): run_id for index, run_id in enumerate(run_ids)}
    places = [str(place) for place in range(1, len(run_ids) + 1)]
    if sorted(placed, key=str) != sorted(places):
        raise InvalidValue(en=say("feedback.bad_places", "en"), ja=say("feedback.bad_places", "ja"), name="ranking")
    return [placed[place] for place in places]


def _show(criterion: Criterion, index: int, language: Language, given: Any) -> str:
    title = f"{html.escape(criterion.text(language))}{'' if criterion.required else _small(say('feedback.optional', language))}"
    told = criterion.help.get(language) or next((text for text in criterion.help.values() if text), "")
    tip = f"<p class='help'>{html.escape(told)}</p>" if told else ""
    name = f"criterion-{index}"
    if criterion.type in ("boolean", "category", "ordinal"):
        return _fieldset(criterion.name, criterion.type, title, _choices(name, _options(criterion, language), _as_text(criterion, given)) + tip)
    value = "" if given is None else html.escape(f"{given:g}" if isinstance(given, float) else str(given))
    if criterion.type == "number":
        bounds = "" if criterion.minimum is None and criterion.maximum is None else _small(criterion.allowed()[language])
        control = f"<input class='field' inputmode='decimal' autocomplete='off' maxlength='40' id='{name}' value='{value}'>"
        return _labelled(criterion, name, title + bounds, control + tip)
    return _labelled(criterion, name, title, f"<textarea rows='3' maxlength='{MAX_TEXT}' id='{name}'>{value}</textarea>{tip}")


def _options(criterion: Criterion, language: Language) -> list[tuple[str, str]]:
    """What may be chosen, as it is shown and as it is sent."""
    if criterion.name == "thumb":
        return [("👍", "true"), ("👎", "false")]
    if criterion.type == "boolean":
        return [(say("feedback.yes", language), "true"), (say("feedback.no", language), "false")]
    if criterion.options:
        return [(option, option) for option in criterion.options]
    low, high = int(criterion.minimum or 0), int(criterion.maximum or 0)
    return [(str(number), str(number)) for number in range(low, min(high, low + 20) + 1)]


def _as_text(criterion: Criterion, given: Any) -> str | None:
    if given is None:
        return None
    if criterion.type == "boolean":
        return "true" if given in (True, 1) else "false"
    return f"{given:g}" if isinstance(given, float) else str(given)


def _choices(name: str, options: Sequence[tuple[str, str]], chosen: str | None) -> str:
    labels = []
    for shown, value in options:
        checked = " checked" if value == chosen else ""
        labels.append(f"<label><input type='radio' name='{name}' value='{html.escape(value)}'{checked}><span>{html.escape(shown)}</span></label>")
    return f"<div class='choices'>{''.join(labels)}</div>"


def _fieldset(name: str, kind: str, title: str, body: str) -> str:
    told = f"data-name='{html.escape(name)}' data-type='{kind}'"
    return f"<fieldset class='criterion' {told}><legend>{title}</legend>{body}</fieldset>"


def _labelled(criterion: Criterion, name: str, title: str, body: str) -> str:
    told = f"data-name='{html.escape(criterion.name)}' data-type='{criterion.type}'"
    return f"<div class='criterion' {told}><label class='name' for='{name}'>{title}</label>{body}</div>"


def _small(text: str) -> str:
    return f"<small>{html.escape(text)}</small>"
