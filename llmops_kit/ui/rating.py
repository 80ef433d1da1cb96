"""Rating an answer where it is shown: two thumbs and a way to say more under every answer, and the box that opens for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import InputError
from llmops_kit.types import Run, new_id
from llmops_kit.ui.code import rate_code
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

CRITERIA = ("accuracy", "fluency", "usefulness")
"""Those of the rubric `quality` that are rated from 1 to 5."""
_SHOWN_CHARS = 160
_TWICE_S = 1.0
"""Seconds in which a second click on a thumb is a double click, which does not take it back."""

FindRun = Callable[[Any], str | None]
"""The id of the answer a row stands under, from the value of the component it follows."""


@dataclass(frozen=True)
class RatingRow:
    """The buttons under one answer, and what is kept: the id the next thumb is stored under, the `thumb` that stands (1, -1 or 0), and since when."""

    up: gr.Button
    down: gr.Button
    more: gr.Button
    next_id: gr.State
    thumb: gr.State

    def outputs(self) -> list[Any]:
        """What `_shown` fills."""
        return [self.up, self.down, self.next_id, self.thumb]


@dataclass(frozen=True)
class RatingBox:
    """The box in which more is said of one answer; `run_id` is that answer, `next_id` what the rating will be stored under."""

    group: gr.Group
    about: gr.Markdown
    fields: dict[str, Any]
    run_id: gr.State
    next_id: gr.State
    save: gr.Button
    close: gr.Button
    code: gr.Code

    def outputs(self) -> list[Any]:
        """What opening fills, in its order."""
        return [self.group, self.about, *self.fields.values(), self.run_id, self.next_id, self.code]


def build_row(name: str) -> RatingRow:
    """The buttons under one answer; call inside a row of the class `quiet-row`. `name` is unique on the page."""
    up, down = (gr.Button(sign, size="sm", elem_id=f"rate-{which}-{name}", elem_classes="thumb") for sign, which in (("👍", "up"), ("👎", "down")))
    more = gr.Button(label("rate.more"), size="sm", elem_id=f"rate-more-{name}")
    return RatingRow(up, down, more, gr.State(""), gr.State({"thumb": 0, "at_s": 0.0}))


def build_box(kit: Kit, name: str) -> RatingBox:
    """Lay out the box and wire its own buttons; call where it is to open. `name` is unique on the page."""
    with gr.Group(visible=False, elem_id=f"rate-box-{name}", elem_classes="rate-box") as group:
        about = gr.Markdown(elem_classes="padded quiet")
        fields: dict[str, Any] = {"score": gr.Radio([1, 2, 3, 4, 5], label=label("rate.score"), elem_id=f"rate-score-{name}")}
        fields["comment"] = gr.Textbox(label=label("rate.comment"), lines=2, max_lines=8, elem_id=f"rate-comment-{name}")
        with gr.Accordion(label("playground.more"), open=False, elem_id=f"rate-fold-{name}"):
            with gr.Row():
                for criterion in CRITERIA:
                    fields[criterion] = gr.Radio([1, 2, 3, 4, 5], label=label(f"rate.{criterion}"), min_width=200, elem_id=f"rate-{criterion}-{name}")
            fields["tags"] = gr.Textbox(label=label("rate.tags"), max_lines=1, elem_id=f"rate-tags-{name}")
            fields["correction"] = gr.Textbox(label=label("rate.correction"), info=label("rate.correction_info"), lines=3, elem_id=f"rate-correction-{name}")
            code = gr.Code(language="python", interactive=False, label=label("playground.code"), wrap_lines=True, show_line_numbers=False)
        with gr.Row(elem_classes="buttons padded"):
            save = gr.Button(label("rate.save"), variant="primary", elem_id=f"rate-save-{name}")
            close = gr.Button(label("rate.close"), elem_id=f"rate-close-{name}")
    box = RatingBox(group, about, fields, gr.State(""), gr.State(""), save, close, code)
    given: dict[str, Any] = {**box.fields, "run_id": box.run_id, "next_id": box.next_id}
    save.click(_on_save(kit), inputs_kwargs=given, outputs=[group, box.next_id], api_name=f"save_rating_{name}", **QUICK)
    close.click(lambda: gr.Group(visible=False), inputs_kwargs={}, outputs=[group], api_name=f"close_rating_{name}", **QUICK)
    return box


def wire_row(kit: Kit, row: RatingRow, box: RatingBox, *, follows: Any, find: FindRun, name: str) -> None:
    """Wire the buttons of `row` to the answer that `find` sees in the component `follows`; whenever that changes, the thumb that stands is shown."""

    def on_thumb(value: int) -> Callable[..., list[Any]]:
        def on_click(request: gr.Request, *, shown: Any, next_id: str, thumb: dict[str, float]) -> list[Any]:
            with shown_errors(request):
                run = _rated(kit, request, find(shown))
                rater, stands = user_of(request).id, thumb["thumb"] == value
                if stands and time.monotonic() - thumb["at_s"] < _TWICE_S:
                    return [gr.skip()] * 4
                if stands:
                    kit.feedback.withdraw_thumb(run, rater=rater)
                else:
                    kit.feedback.rate(run, thumb=value, rater=rater, id=next_id or None, source="ui")
                return _shown(0 if stands else value)

        return on_click

    def on_change(request: gr.Request, *, shown: Any) -> list[Any]:
        with shown_errors(request):
            run_id = find(shown)
            return _shown(kit.feedback.thumb_of(run_id, rater=user_of(request).id) if run_id else 0)

    def on_more(request: gr.Request, *, shown: Any) -> list[Any]:
        with shown_errors(request):
            return _opened(kit, box, _rated(kit, request, find(shown)), language_of(request))

    given: dict[str, Any] = {"shown": follows, "next_id": row.next_id, "thumb": row.thumb}
    row.up.click(on_thumb(1), inputs_kwargs=given, outputs=row.outputs(), api_name=f"thumb_up_{name}", **QUICK)
    row.down.click(on_thumb(-1), inputs_kwargs=given, outputs=row.outputs(), api_name=f"thumb_down_{name}", **QUICK)
    row.more.click(on_more, inputs_kwargs={"shown": follows}, outputs=box.outputs(), api_name=f"open_rating_{name}", **QUICK)
    follows.change(on_change, inputs_kwargs={"shown": follows}, outputs=row.outputs(), api_name=f"show_thumb_{name}", **QUICK)


def _on_save(kit: Kit) -> Callable[..., list[Any]]:
    def on_save(request: gr.Request, *, run_id: str, next_id: str, comment: str, tags: str, correction: str, **scores: int | None) -> list[Any]:
        with shown_errors(request):
            run = _rated(kit, request, run_id)
            score = scores.pop("score")
            rubric = {name: value for name, value in scores.items() if value is not None}
            corrected = correction if correction.strip() and correction != run.output else None
            said: dict[str, Any] = {"comment": comment.strip(), "tags": _tags(tags), "correction": corrected, "rubric": rubric or None}
            kit.feedback.rate(run, score, rater=user_of(request).id, id=next_id or None, source="ui", **said)
            gr.Info(say("rate.saved", language_of(request)))
            return [gr.Group(visible=False), new_id()]

    return on_save


def _opened(kit: Kit, box: RatingBox, run: Run, language: Language) -> list[Any]:
    """The box, empty but for the answer to correct, for `run`."""
    text = run.output.replace("\n", " ")
    shown = f"{run.model}: {text[:_SHOWN_CHARS]}{'…' if len(text) > _SHOWN_CHARS else ''}".replace("`", " ")
    values = {name: gr.Textbox(value="") if isinstance(part, gr.Textbox) else gr.Radio(value=None) for name, part in box.fields.items()}
    values["correction"] = gr.Textbox(value=run.output)
    about = say("rate.about", language, answer=f"`{shown}`")
    return [gr.Group(visible=True), about, *values.values(), run.id, new_id(), rate_code(kit.settings.workspace, run.id)]


def _rated(kit: Kit, request: gr.Request, run_id: str | None) -> Run:
    """The answer that is rated, if it is the person's. Raises: InputError, where there is none yet; AccessDenied."""
    run = kit.playground.get(run_id) if run_id else None
    if run is None:
        raise InputError(en=say("rate.nothing", "en"), ja=say("rate.nothing", "ja"))
    require(user_of(request), "participant", resource=run.id, resource_owner=run.participant)
    return run


def _shown(thumb: int) -> list[Any]:
    """Updates of the buttons for the thumb that stands, with a fresh id for the next click."""
    up, down = (gr.Button(variant="primary" if thumb == value else "secondary") for value in (1, -1))
    return [up, down, new_id(), {"thumb": thumb, "at_s": time.monotonic()}]


def _tags(text: str) -> tuple[str, ...]:
    return tuple(part for part in (each.strip() for each in text.replace("、", ",").replace("，", ",").split(",")) if part)
