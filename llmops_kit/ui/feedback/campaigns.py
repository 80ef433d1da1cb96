"""The Campaigns sub-tab: what is being rated by whom and how far it is, a form for a new campaign, and closing one."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import User, require, user_of
from llmops_kit.types import Artifact, Campaign
from llmops_kit.ui.documents.chooser import asking
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.feedback import making, showing, whose
from llmops_kit.ui.feedback.code import campaign_code, close_code
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    import pandas as pd

    from llmops_kit.kit import Kit

_COLUMNS = ("name", "kind", "progress", "own", "state")
_WIDTHS: list[str | int] = ["260px", "110px", "110px", "110px", "150px", "1px"]
_SHOWN = ("table", "about", "chosen", "detail", "go", "close", "sure", "keep", "code")
CSS = """
.campaign h4 {margin: 0 0 4px; font-size: 1.05rem; overflow-wrap: anywhere}
.campaign p {margin: 4px 0; line-height: 1.6; overflow-wrap: anywhere}
.campaign .quiet {color: var(--body-text-color-subdued); font-size: .87rem}
.campaign code {user-select: all; font-size: .85rem; padding: 2px 6px; border-radius: 6px; background: var(--background-fill-secondary);
  overflow-wrap: anywhere}
.campaign .invite {border-left: 3px solid var(--primary-500); padding: 4px 10px; margin: 8px 0}
"""


def build(kit: Kit, tab: gr.Tab, tabs: gr.Tabs, rate: Any) -> None:
    """Lay out the sub-tab and wire its events; call inside an open `gr.Tab`, which is `tab`. `rate` is the Rate sub-tab among `tabs`."""
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=2, min_width=300, elem_classes="inputs"):
            gr.Markdown(label("campaign.new"), elem_classes="quiet")
            form = making.lay_out()
        with gr.Column(scale=4, min_width=320, elem_classes="list-first"):
            shown = _lay_out_list(kit)
    making.wire(form)
    outputs = [shown[name] for name in _SHOWN]
    lists = [form.fields["chosen"], form.fields["comparison"]]
    opening: dict[str, Any] = {"chosen": shown["chosen"], "runs": form.fields["chosen"], "comparison": form.fields["comparison"]}
    tab.select(_on_open(kit), inputs_kwargs=opening, outputs=[*outputs, *lists], api_name="open_campaigns", **QUICK)
    made = [*outputs, form.fields["name"], form.fields["file"]]
    form.make.click(making.on_make(kit, _made(kit)), inputs_kwargs=form.fields, outputs=made, api_name="make_campaign", **QUICK)
    shown["table"].select(_on_select(kit), outputs=outputs, api_name="choose_listed_campaign", **QUICK)
    one: dict[str, Any] = {"inputs_kwargs": {"chosen": shown["chosen"]}, **QUICK}
    confirm = [shown[name] for name in ("close", "sure", "keep")]
    shown["close"].click(lambda: asking(True), outputs=confirm, api_name="ask_close_campaign", **QUICK)
    shown["keep"].click(lambda: asking(False), outputs=confirm, api_name="keep_campaign", **QUICK)
    shown["sure"].click(_on_close(kit), outputs=outputs, api_name="close_campaign", **one)
    shown["go"].click(_on_go(kit), outputs=[tabs, *rate.outputs()], api_name="rate_campaign", **one)


def _lay_out_list(kit: Kit) -> dict[str, Any]:
    shown: dict[str, Any] = {"chosen": gr.Textbox(visible=False), "about": gr.HTML(elem_id="campaign-about", elem_classes="quiet", padding=False)}
    look: dict[str, Any] = {"max_height": 300, "wrap": True, "show_label": False, "buttons": [], "elem_classes": "last-hidden", "column_widths": _WIDTHS}
    shown["table"] = gr.Dataframe(visible=False, interactive=False, elem_id="campaign-table", **look)
    shown["detail"] = gr.HTML(elem_id="campaign-detail", css_template=CSS, apply_default_css=False, padding=False)
    with gr.Row(elem_classes="actions"):
        shown["go"] = gr.Button(label("campaign.go"), size="sm", visible=False, elem_id="campaign-go")
        shown["close"] = gr.Button(label("campaign.close"), size="sm", visible=False, elem_id="campaign-close")
        shown["sure"] = gr.Button(label("campaign.sure"), size="sm", variant="stop", visible=False, elem_id="campaign-sure")
        shown["keep"] = gr.Button(label("campaign.keep"), size="sm", visible=False, elem_id="campaign-keep")
    with gr.Accordion(label("playground.code"), open=False, elem_id="campaign-code-drawer"):
        code = campaign_code(kit.settings.workspace, "…", path="answers.csv", rubric="quality", k=2)
        shown["code"] = gr.Code(code, language="python", interactive=False, show_label=False, elem_id="campaign-code", wrap_lines=True, show_line_numbers=False)
    return shown


def _on_open(kit: Kit) -> Callable[..., list[Any]]:
    def on_open(request: gr.Request, *, chosen: str, runs: list[str], comparison: str | None) -> list[Any]:
        with shown_errors(request):
            user, language = require(user_of(request), "participant", resource="feedback"), language_of(request)
            return [*_list(kit, request, user, chosen), *making.choices(kit, user, language, runs, comparison)]

    return on_open


def _made(kit: Kit) -> Callable[..., list[Any]]:
    def made(request: gr.Request, campaign: Campaign, code: str) -> list[Any]:
        language = language_of(request)
        gr.Info(say("campaign.made", language, name=html.escape(campaign.name), n=f"{campaign.spec['items']:,}"))
        return [*_list(kit, request, user_of(request), campaign.id, code=code), "", None]

    return made


def _on_select(kit: Kit) -> Callable[..., list[Any]]:
    def on_select(request: gr.Request, event: gr.SelectData) -> list[Any]:
        with shown_errors(request):
            user = require(user_of(request), "participant", resource="feedback")
            return [gr.skip(), gr.skip(), *_list(kit, request, user, str(event.row_value[-1]))[2:]]

    return on_select


def _on_close(kit: Kit) -> Callable[..., list[Any]]:
    def on_close(request: gr.Request, *, chosen: str) -> list[Any]:
        with shown_errors(request):
            user = require(user_of(request), "participant", resource="feedback")
            campaign = whose.own(kit, user, chosen)
            kit.feedback.close(campaign.id, by=campaign.owner)
            return _list(kit, request, user, chosen, code=close_code(kit.settings.workspace, campaign.id))

    return on_close


def _on_go(kit: Kit) -> Callable[..., list[Any]]:
    from llmops_kit.ui.feedback.rate import open_queue

    def on_go(request: gr.Request, *, chosen: str) -> list[Any]:
        with shown_errors(request):
            require(user_of(request), "participant", resource="feedback")
            return [gr.Tabs(selected="rate"), *open_queue(kit, request, chosen)]

    return on_go


def _list(kit: Kit, request: gr.Request, user: User, chosen: str, *, code: str | None = None) -> list[Any]:
    """Updates for `_SHOWN`: the campaigns the person made or may rate, and the chosen one more closely."""
    from llmops_kit.feedback.queue import may_rate

    language, found = language_of(request), whose.visible_campaigns(kit, user)
    campaign = next((each for each in found if each.id == chosen), None)
    shown: dict[str, Any] = {"about": say("campaign.listed_here" if found else "campaign.none", language)}
    shown["table"] = gr.Dataframe(value=_table(kit, found, user, language), visible=bool(found))
    shown["chosen"] = campaign.id if campaign else ""
    shown["detail"] = _detail(kit, request, campaign, user, language) if campaign else ""
    is_open = campaign is not None and campaign.closed_at is None
    is_own = campaign is not None and campaign.owner in whose.names_of(user)
    shown["go"] = gr.Button(visible=is_open and campaign is not None and may_rate(campaign, user.id))
    shown["close"] = gr.Button(visible=is_open and is_own)
    shown |= {"sure": gr.Button(visible=False), "keep": gr.Button(visible=False), "code": code if code is not None else gr.skip()}
    return [shown[name] for name in _SHOWN]


def _table(kit: Kit, campaigns: list[Campaign], user: User, language: Language) -> pd.DataFrame:
    """The table of campaigns. Its last column is the id, which the page hides."""
    import pandas as pd

    rows = []
    for each in campaigns:
        found = kit.feedback.progress(each.id, rater=user.id)
        own = f"{found.own_done:,}/{found.own_done + found.own_left:,}"
        state = say("campaign.state_closed" if each.closed_at else "campaign.state_complete" if found.complete else "campaign.state_open", language)
        whose_word = say("campaign.mine", language) if each.owner in whose.names_of(user) else ""
        told = " · ".join(part for part in (state, whose_word) if part)
        rows.append([each.name, say(f"campaign.kind_{each.spec['kind']}", language), f"{found.done:,}/{found.total:,}", own, told, each.id])
    return pd.DataFrame(rows, columns=[*(say(f"campaign.column_{name}", language) for name in _COLUMNS), "id"])


def _detail(kit: Kit, request: gr.Request, campaign: Campaign, user: User, language: Language) -> str:
    """A campaign more closely: how far, for whom, how raters get there; a closed one with its artifact and what W&B has of it."""
    spec, found = campaign.spec, kit.feedback.progress(campaign.id, rater=user.id)
    facts = {"items": f"{spec['items']:,}", "k": spec["k"], "done": f"{found.done:,}", "total": f"{found.total:,}", "raters": f"{found.raters:,}"}
    raters = spec["raters"]
    key = "campaign.for_everybody" if raters is None else "campaign.for_others" if raters == "others" else "campaign.for_listed"
    who = say(key, language, n=len(raters or ()))
    lines = [
        f"<h4>{html.escape(campaign.name)}</h4>",
        f"<p class='quiet'>{say('campaign.facts', language, **facts)} {who}</p>",
        showing.show_bar(found.done, found.total),
    ]
    if left := spec.get("left_out"):
        lines.append(f"<p class='quiet'>{say('campaign.left_out', language, n=f'{left:,}')}</p>")
    for problem in ((spec.get("source") or {}).get("left_out") or ())[:5]:
        lines.append(f"<p class='quiet'>{html.escape(problem[language])}</p>")
    if campaign.closed_at is not None:
        lines.append(_artifact(kit, campaign, language))
    else:
        link = html.escape(whose.link_to(request, campaign.id))
        lines.append(f"<div class='invite'><p>{say('campaign.invite', language, name=html.escape(campaign.name))}</p><p><code>{link}</code></p></div>")
    lines.append(f"<p class='quiet'>{say('campaign.own_id', language)} <code>{html.escape(user.id)}</code></p>")
    return f"<section class='campaign'>{''.join(lines)}</section>"


def _artifact(kit: Kit, campaign: Campaign, language: Language) -> str:
    """What closing made, and whether W&B has it."""
    from llmops_kit.feedback.closing import name_of

    made = kit.store.find(Artifact, name=f"feedback-{name_of(campaign)}")
    found = [each for each in made if each.about.get("campaign", {}).get("id") == campaign.id]
    names = "、".join(f"{each.name}:v{each.version}" for each in found) or "–"
    facts = {"name": html.escape(names), "n": f"{sum(each.rows for each in found):,}"}
    return f"<p>{say('campaign.closed', language, **facts)}</p><p class='quiet'>{showing.wandb_line(kit, language)}</p>"
