"""The Rate sub-tab: the queue of things to rate, one after the other, by mouse, finger or keyboard."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import KitError, NotSaved
from llmops_kit.types import Feedback, Vote, new_id
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.feedback import criteria, keys, showing, whose
from llmops_kit.ui.feedback.code import rate_code
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.feedback.tasks import Progress, Task
    from llmops_kit.kit import Kit

VOTES = {"left": "A", "tie": "tie", "bad": "both_bad", "right": "B"}
"""The buttons of a pair from left to right, and the choice each makes."""
_SHOWN = ("progress", "guide", "guidelines", "task", "side", "form", "submit", "votes", "back", "forward", "skip", "skip_row", "note", "hints", "code")
_HINTS = {"rate": "feedback.hints", "pairwise": "feedback.hints_pair", "ranking": "feedback.hints_rank"}
_FOCUS_REASON = "() => setTimeout(() => document.querySelector('#feedback-reason textarea, #feedback-reason input')?.focus(), 150)"


@dataclass(frozen=True)
class RateTab:
    """The components of the sub-tab: the chosen campaign, the sample button, the parts named in `_SHOWN`, and what is pressed."""

    campaign: gr.Dropdown
    sample: gr.Button
    shown: dict[str, Any]
    votes: dict[str, gr.Button]
    reason: gr.Textbox
    skip_now: gr.Button
    sent: gr.Textbox

    def outputs(self) -> list[Any]:
        """What is filled whenever something else is shown."""
        return [self.campaign, self.sample, *(self.shown[name] for name in _SHOWN)]


def build(kit: Kit, tab: gr.Tab, outer: gr.Tab) -> RateTab:
    """Lay out the sub-tab and wire its events; call inside an open `gr.Tab`, which is `tab`, inside `outer`."""
    rate = _lay_out()
    given: dict[str, Any] = {"sent": rate.sent, "campaign": rate.campaign}  # `sent` first: the script puts what is on the page there
    event: dict[str, Any] = {"inputs_kwargs": given, "outputs": rate.outputs(), "js": criteria.COLLECT, "preprocess": False, **QUICK}
    rate.campaign.input(_on_open(kit, keep=False), api_name="choose_campaign", **event)
    rate.sample.click(_on_sample(kit), api_name="sample_campaign", **event)
    rate.shown["submit"].click(_on_submit(kit), api_name="submit_rating", **event)
    for side, button in rate.votes.items():
        button.click(_on_submit(kit, VOTES[side]), api_name=f"vote_{side}_in_campaign", **event)
    rate.shown["back"].click(_on_move(kit, -1), api_name="previous_rating", **event)
    rate.shown["forward"].click(_on_move(kit, 1), api_name="next_rating", **event)
    rate.shown["skip"].click(lambda: gr.Row(visible=True), outputs=[rate.shown["skip_row"]], api_name="ask_skip", **QUICK).then(
        None, js=_FOCUS_REASON, api_name="focus_reason", **QUICK
    )
    skipping: dict[str, Any] = {**event, "inputs_kwargs": {**given, "reason": rate.reason}}
    gr.on([rate.skip_now.click, rate.reason.submit], _on_skip(kit), api_name="skip_rating", **skipping).then(
        None, js=keys.FOCUS, api_name="focus_after_skip", **QUICK
    )
    gr.on([tab.select, outer.select], _on_open(kit, keep=True), api_name="open_rating", **event).then(None, js=keys.FOCUS, api_name="focus_rating", **QUICK)
    return rate


def _lay_out() -> RateTab:
    shown: dict[str, Any] = {}
    with gr.Row(elem_classes="chooser"):
        campaign = gr.Dropdown([], label=label("feedback.campaign"), elem_id="feedback-campaign", scale=2, min_width=260, interactive=True)
        shown["progress"] = gr.HTML(elem_id="feedback-progress", scale=3, min_width=260, padding=False)
    with gr.Accordion(label("feedback.guidelines"), open=False, visible=False, elem_id="feedback-guide") as shown["guide"]:
        shown["guidelines"] = gr.Markdown(elem_id="feedback-guidelines")
    with gr.Row(elem_id="feedback-work", elem_classes="work"):
        with gr.Column(scale=5, min_width=320):
            shown["task"] = gr.HTML(elem_id="feedback-task", css_template=showing.CSS, js_on_load=keys.LISTEN, apply_default_css=False, padding=False)
            sample = gr.Button(label("feedback.sample"), variant="primary", visible=False, elem_id="feedback-sample")
        with gr.Column(scale=3, min_width=300, elem_classes="inputs", visible=False, elem_id="feedback-side") as shown["side"]:
            look: dict[str, Any] = {"css_template": criteria.CSS, "js_on_load": criteria.LISTEN, "apply_default_css": False, "padding": False}
            shown["form"] = gr.HTML(elem_id="feedback-form", **look)
            votes, reason, skip_now = _lay_out_buttons(shown)
    with gr.Accordion(label("playground.code"), open=False, elem_id="feedback-code-drawer"):
        shown["code"] = gr.Code(language="python", interactive=False, show_label=False, elem_id="feedback-code", wrap_lines=True, show_line_numbers=False)
    return RateTab(campaign, sample, shown, votes, reason, skip_now, gr.Textbox(visible=False))


def _lay_out_buttons(shown: dict[str, Any]) -> tuple[dict[str, gr.Button], gr.Textbox, gr.Button]:
    with gr.Row(elem_classes="buttons feedback-votes", visible=False) as shown["votes"]:
        votes = {
            side: gr.Button(label(f"feedback.vote_{side}"), variant="primary" if side in ("left", "right") else "secondary", elem_id=f"feedback-vote-{side}")
            for side in VOTES
        }
    with gr.Row(elem_classes="buttons"):
        shown["submit"] = gr.Button(label("feedback.submit"), variant="primary", elem_id="feedback-submit")
    shown["note"] = gr.HTML(elem_id="feedback-note", padding=False)
    with gr.Row(elem_classes="quiet-row"):
        shown["back"] = gr.Button(label("feedback.back"), size="sm", elem_id="feedback-back")
        shown["forward"] = gr.Button(label("feedback.forward"), size="sm", elem_id="feedback-forward")
        shown["skip"] = gr.Button(label("feedback.skip"), size="sm", elem_id="feedback-skip")
    with gr.Row(elem_classes="actions", visible=False) as shown["skip_row"]:
        reason = gr.Textbox(label=label("feedback.reason"), placeholder=label("feedback.reason_hint"), max_lines=1, elem_id="feedback-reason", min_width=180)
        skip_now = gr.Button(label("feedback.skip_now"), size="sm", elem_id="feedback-skip-now")
    shown["hints"] = gr.HTML(elem_id="feedback-hints", elem_classes="quiet", padding=False)
    return votes, reason, skip_now


def _on_open(kit: Kit, *, keep: bool) -> Callable[..., list[Any]]:
    def on_open(request: gr.Request, *, sent: str, campaign: str | None) -> list[Any]:
        with shown_errors(request):
            return open_queue(kit, request, campaign or criteria.wanted(sent), sent=sent if keep else None)

    return on_open


def open_queue(kit: Kit, request: gr.Request, campaign: str | None, *, sent: str | None = None) -> list[Any]:
    """Updates for `RateTab.outputs`: the campaigns the person may rate and the next task of `campaign`, or of the first that has one.

    With `sent`, a task that is on the page stays there, with what is filled in.
    """
    user, language = require(user_of(request), "participant", resource="feedback"), language_of(request)
    choices = whose.campaigns_to_rate(kit, user, language)
    ids = [id for _, id in choices]
    chosen = campaign if campaign in ids else whose.first_unfinished(kit, ids, user) or next(iter(ids), None)
    first = [gr.Dropdown(choices=choices, value=chosen, visible=bool(ids)), gr.Button(visible=not ids)]
    if chosen is None:
        nothing = showing.show_nothing(say("feedback.empty", language))
        return [*first, *_shown(task=nothing, progress="", side=gr.Column(visible=False), guide=gr.Accordion(visible=False))]
    if sent and _is_shown(sent, chosen):
        return [*first, *_shown(progress=_progress(kit.feedback.progress(chosen, rater=user.id), language))]
    return [*first, *_show(kit, chosen, kit.feedback.next(chosen, rater=user.id), user.id, language)]


def _on_sample(kit: Kit) -> Callable[..., list[Any]]:
    def on_sample(request: gr.Request, *, sent: str, campaign: str | None) -> list[Any]:
        with shown_errors(request):
            user = require(user_of(request), "participant", resource="feedback")
            return open_queue(kit, request, whose.make_sample(kit, user, language_of(request)))

    return on_sample


def _on_submit(kit: Kit, choice: str | None = None) -> Callable[..., list[Any]]:
    def on_submit(request: gr.Request, *, sent: str, campaign: str | None) -> list[Any]:
        """Keep the rating of what is on the page, then show the next task. What went wrong is said beside the button, and everything stays."""
        with shown_errors(request):
            user, language = require(user_of(request), "participant", resource="feedback"), language_of(request)
            try:
                read = criteria.read_sent(sent)
                task = kit.feedback.task(read.token["campaign"], read.token["item"], rater=user.id)
                kit.feedback.submit(task, choice or _scores(task, read), id=criteria.id_of(read, choice), source="ui", **_written(task, read))
            except KitError as error:
                return _alarm(error, language)
            return _after(kit, task, user.id, language, say("feedback.saved", language))

    return on_submit


def _on_skip(kit: Kit) -> Callable[..., list[Any]]:
    def on_skip(request: gr.Request, *, sent: str, campaign: str | None, reason: str | None) -> list[Any]:
        with shown_errors(request):
            user, language = require(user_of(request), "participant", resource="feedback"), language_of(request)
            try:
                read = criteria.read_sent(sent)
                task = kit.feedback.task(read.token["campaign"], read.token["item"], rater=user.id)
                kit.feedback.skip(task, (reason or "").strip() or say("feedback.no_reason", language), id=criteria.id_of(read, reason), source="ui")
            except KitError as error:
                return _alarm(error, language)
            return _after(kit, task, user.id, language, say("feedback.skipped", language))

    return on_skip


def _on_move(kit: Kit, step: int) -> Callable[..., list[Any]]:
    def on_move(request: gr.Request, *, sent: str, campaign: str | None) -> list[Any]:
        with shown_errors(request):
            user, language = require(user_of(request), "participant", resource="feedback"), language_of(request)
            item = criteria.read_sent(sent).token["item"] if _is_shown(sent, campaign) else None
            id, rater = str(campaign), user.id
            moved = kit.feedback.previous(id, rater=rater, before=item) if step < 0 else kit.feedback.next(id, rater=rater, after=item)
            return [gr.skip(), gr.skip(), *_show(kit, id, moved, rater, language)]

    return on_move


def _after(kit: Kit, task: Task, rater: str, language: Language, told: str) -> list[Any]:
    """The next task, after one was rated or skipped. Where none can be given, what is saved is still said to be saved."""
    said = ""
    try:
        following = kit.feedback.next(task.campaign_id, rater=rater)
    except KitError as error:
        following, said = None, error.text(language)
    return [gr.skip(), gr.skip(), *_show(kit, task.campaign_id, following, rater, language, note=showing.show_note(told), said=said)]


def _show(kit: Kit, campaign: str, task: Task | None, rater: str, language: Language, *, note: str = "", said: str = "") -> list[Any]:
    """Updates for `_SHOWN`: the task, or why there is none (`said`, or what the progress says)."""
    found = kit.feedback.progress(campaign, rater=rater)
    behind = found.own_done + found.own_skipped
    progress = _progress(found, language)
    back = gr.Button(interactive=task.index > 1 if task else behind > 0)
    if task is None:
        nothing = showing.show_nothing(said or whose.why_nothing(found, language))
        hidden = {"submit": gr.Button(visible=False), "votes": gr.Row(visible=False), "skip": gr.Button(interactive=False), "hints": ""}
        side = {"side": gr.Column(visible=True), "form": "", "skip_row": gr.Row(visible=False)}
        return _shown(progress=progress, task=nothing, back=back, forward=gr.Button(interactive=True), note=note, **hidden, **side)
    is_pair = task.kind == "pairwise"
    guidelines = showing.calm_markdown(task.guidelines)
    return _shown(
        progress=progress,
        guide=gr.Accordion(visible=bool(guidelines.strip())),
        guidelines=guidelines,
        task=showing.show_task(task.kind, task.prompt, [run.answer for run in task.runs], language),
        side=gr.Column(visible=True),
        form=_form(task, language),
        submit=gr.Button(visible=not is_pair),
        votes=gr.Row(visible=is_pair),
        back=back,
        forward=gr.Button(interactive=task.index <= behind),
        skip=gr.Button(interactive=task.earlier is None),
        skip_row=gr.Row(visible=False),
        note=note or _said_before(task.earlier, language),
        hints=say(_HINTS[task.kind], language),
        code=rate_code(kit.settings.workspace, task),
    )


def _said_before(earlier: Feedback | Vote | None, language: Language) -> str:
    """That the task was rated before, of a pair also how."""
    if earlier is None:
        return ""
    side = next((side for side, choice in VOTES.items() if isinstance(earlier, Vote) and choice == earlier.choice), None)
    told = say("feedback.voted_before", language, choice=say(f"feedback.vote_{side}", language)) if side else say("feedback.rated_before", language)
    return showing.show_note(told)


def _form(task: Task, language: Language) -> str:
    """The controls of a task under a fresh id for the rating, with what the person said of it before."""
    token = {"campaign": task.campaign_id, "item": task.item_id, "id": new_id(), "at": f"{time.time():.3f}"}
    earlier = task.earlier
    scores: Mapping[str, Any] = earlier.scores if isinstance(earlier, Feedback) else {}
    if task.kind == "ranking":
        controls = criteria.show_ranking([run.id for run in task.runs], language, scores.get("ranking"))
    else:
        controls = criteria.show_rubric(task.rubric.criteria, language, scores) if task.kind == "rate" else ""
    correction = None if task.kind != "rate" else (earlier.correction or "") if isinstance(earlier, Feedback) else ""
    return criteria.show_form(token, controls, language, comment=earlier.comment if earlier is not None else "", correction=correction)


def _scores(task: Task, read: criteria.Sent) -> Any:
    return {"ranking": criteria.read_ranking(read.chosen, [run.id for run in task.runs])} if task.kind == "ranking" else dict(read.chosen)


def _written(task: Task, read: criteria.Sent) -> dict[str, Any]:
    """Comment, correction and seconds. A correction that only repeats the answer is none."""
    corrected = read.correction if read.correction.strip() != task.run.answer.strip() else ""
    correction = {"correction": corrected or None} if task.kind == "rate" else {}
    try:
        taken = {"duration_s": max(0.0, time.time() - float(read.token["at"]))}
    except ValueError:
        taken = {}
    return {"comment": read.comment, **correction, **taken}


def _alarm(error: KitError, language: Language) -> list[Any]:
    text = error.text(language) if isinstance(error, NotSaved) else f"{say('feedback.not_saved', language)}{error.text(language)}"
    return [gr.skip(), gr.skip(), *_shown(note=showing.show_note(text, is_alarm=True))]


def _is_shown(sent: str | None, campaign: str | None) -> bool:
    """Whether the page shows a task of this campaign."""
    try:
        return bool(criteria.read_sent(sent).token["campaign"] == campaign)
    except KitError:
        return False


def _progress(found: Progress, language: Language) -> str:
    return showing.show_progress(found.own_done, found.own_done + found.own_left, found.done, found.total, language)


def _shown(**updates: Any) -> list[Any]:
    return [updates.get(name, gr.skip()) for name in _SHOWN]
