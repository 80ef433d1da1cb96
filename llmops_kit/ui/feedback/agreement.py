"""The Agreement sub-tab: how far raters agree, who stands out, and what they disagree on, also as a board for the wall."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import User, require, user_of
from llmops_kit.pseudonyms import pseudonym, pseudonym_key
from llmops_kit.types import Campaign, Run
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.feedback import figures, showing, whose
from llmops_kit.ui.feedback.code import agreement_code
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.kit import Kit

ALL = "*"
"""The choice of all ratings of the person's own answers, in campaigns or not."""
_CARDS, _WALL_CARDS = 20, 9
_FEW = 7
"""Values a scale may have to be drawn whole."""
_SHOWN = ("criterion", "figures", "head", "board", "code")


def build(kit: Kit, tab: gr.Tab) -> None:
    """Lay out the sub-tab and wire its events; call inside an open `gr.Tab`, which is `tab`."""
    with gr.Row(elem_classes="chooser"):
        campaign = gr.Dropdown([], label=label("feedback.campaign"), elem_id="agreement-campaign", scale=2, min_width=240, interactive=True)
        criterion = gr.Dropdown([], label=label("feedback.criterion"), elem_id="agreement-criterion", scale=1, min_width=160, interactive=True)
        wall = gr.Checkbox(label=label("feedback.wall"), info=label("feedback.wall_info"), elem_id="agreement-wall", scale=1, min_width=200)
    look: dict[str, Any] = {"css_template": figures.CSS, "apply_default_css": False, "padding": False}
    shown: dict[str, Any] = {"criterion": criterion}
    shown["figures"] = gr.HTML(label("feedback.measuring"), elem_id="agreement-figures", js_on_load=figures.LISTEN, **look)
    shown["head"] = gr.HTML(elem_id="agreement-head", elem_classes="quiet", padding=False)
    shown["board"] = gr.HTML(elem_id="agreement-board", **look)
    with gr.Accordion(label("playground.code"), open=False, elem_id="agreement-code-drawer"):
        shown["code"] = gr.Code(language="python", interactive=False, show_label=False, elem_id="agreement-code", wrap_lines=True, show_line_numbers=False)
    given: dict[str, Any] = {"campaign": campaign, "criterion": criterion, "wall": wall}
    outputs = [shown[name] for name in _SHOWN]
    event: dict[str, Any] = {"inputs_kwargs": given, "preprocess": False, **QUICK}
    tab.select(_on_open(kit), outputs=[campaign, *outputs], api_name="open_agreement", **event)
    gr.on([campaign.input, criterion.input, wall.input], _on_show(kit), outputs=outputs, api_name="show_agreement", **event)
    shown["figures"].click(_on_show(kit), outputs=outputs, api_name="refresh_board", **event)


def _on_open(kit: Kit) -> Callable[..., list[Any]]:
    def on_open(request: gr.Request, *, campaign: str | None, criterion: str | None, wall: bool) -> list[Any]:
        with shown_errors(request):
            user, language = require(user_of(request), "participant", resource="feedback"), language_of(request)
            found = whose.visible_campaigns(kit, user)
            choices = [*((whose.title_of(each, language), each.id) for each in found), (say("feedback.all_ratings", language), ALL)]
            chosen = campaign if campaign in [id for _, id in choices] else choices[0][1]
            return [gr.Dropdown(choices=choices, value=chosen), *_show(kit, user, chosen, criterion, language, is_wall=wall)]

    return on_open


def _on_show(kit: Kit) -> Callable[..., list[Any]]:
    def on_show(request: gr.Request, *, campaign: str | None, criterion: str | None, wall: bool) -> list[Any]:
        with shown_errors(request):
            user = require(user_of(request), "participant", resource="feedback")
            return _show(kit, user, campaign or ALL, criterion, language_of(request), is_wall=wall)

    return on_show


def _show(kit: Kit, user: User, chosen: str, criterion: str | None, language: Language, *, is_wall: bool) -> list[Any]:
    """Updates for `_SHOWN`."""
    campaign = None if chosen == ALL else whose.see(kit, user, chosen)
    from llmops_kit.feedback.agreement import VOTE

    if campaign is not None and not whose.may_look(kit, campaign, user):
        told = showing.show_note(say("feedback.rate_first", language))
        return [gr.Dropdown(choices=[], value=None), told, "", "", agreement_code(kit.settings.workspace, campaign.id, None)]
    labels = _criteria(kit, campaign, language)
    name = criterion if criterion in labels else next(iter(labels), None)
    id = campaign.id if campaign else None
    found = kit.feedback.agreement(id, criterion=None if _is_pairwise(campaign) else name)
    rows = kit.feedback.disagreements(id, criterion=None if _is_pairwise(campaign) else name, n=_WALL_CARDS if is_wall else _CARDS)
    rows = _allowed(kit, rows, campaign, user)
    key = pseudonym_key(kit.store)
    told = say("feedback.board_head", language, n=len(rows)) if len(rows) else ""
    return [
        gr.Dropdown(choices=[(text, each) for each, text in labels.items()], value=name),
        figures.show_agreement(found, lambda rater: pseudonym(key, rater), user.id, language, is_wall=is_wall),
        told,
        figures.show_board(rows, {VOTE: labels.get("choice", ""), **labels}, language, scales=_scales(campaign), is_wall=is_wall),
        agreement_code(kit.settings.workspace, id, None if _is_pairwise(campaign) else name),
    ]


def _criteria(kit: Kit, campaign: Campaign | None, language: Language) -> dict[str, str]:
    """The criteria agreement can be measured on, by name, as the reader calls them."""
    from llmops_kit.feedback.judgements import count_criteria
    from llmops_kit.feedback.rubric_reading import read_rubric
    from llmops_kit.feedback.rubrics import PRESETS

    if campaign is not None:
        return {each.name: each.text(language) for each in read_rubric(campaign.spec["rubric"]).criteria if each.type != "text"}
    known = {each.name: each.text(language) for rubric in PRESETS.values() for each in rubric.criteria}
    return {name: known.get(name, name) for name in count_criteria(kit.feedback.events())}


def _scales(campaign: Campaign | None) -> dict[str, list[str]]:
    """All values of the criteria whose values are few and known, in their order."""
    from llmops_kit.feedback.rubric_reading import read_rubric
    from llmops_kit.feedback.rubrics import PRESETS

    rubrics = [read_rubric(campaign.spec["rubric"])] if campaign is not None else list(PRESETS.values())
    found: dict[str, list[str]] = {}
    for criterion in (each for rubric in rubrics for each in rubric.criteria):
        if criterion.type in ("ordinal", "category") and criterion.options:
            found[criterion.name] = list(criterion.options)
        elif criterion.type == "ordinal" and criterion.minimum is not None and criterion.maximum is not None:
            found[criterion.name] = [str(number) for number in range(int(criterion.minimum), int(criterion.maximum) + 1)]
    return {name: values for name, values in found.items() if len(values) <= _FEW}


def _is_pairwise(campaign: Campaign | None) -> bool:
    return campaign is not None and campaign.spec["kind"] == "pairwise"


def _allowed(kit: Kit, rows: pd.DataFrame, campaign: Campaign | None, user: User) -> pd.DataFrame:
    """The rows the person may read: all of a campaign they see, else those on their own answers."""
    if campaign is not None or rows.empty:
        return rows
    own = {id for (id,) in kit.store.values(Run, ("id",), id=list(rows["run_id"]), participant=list(whose.names_of(user)))}
    return rows[rows["run_id"].isin(own)]
