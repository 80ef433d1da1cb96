"""The ranking sub-tab: what the votes say, in one sentence first, then with intervals; also live on a wall."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import InvalidValue
from llmops_kit.types import Campaign, Vote
from llmops_kit.ui.comparison import charts, choosing
from llmops_kit.ui.comparison.code import ranking_code
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.comparison.ranking import Ranking
    from llmops_kit.kit import Kit

LIVE_S = 5.0
"""Seconds between two looks at new votes while the live switch is on."""
_KEPT = 32
"""Rankings remembered: many people look at the same ones."""
_CAMPAIGN = "campaign:"
_SHOWN = ("board", "tag", "code", "drawn")


class Rankings:
    """Rankings by what was asked, made once per number of votes however many people look."""

    def __init__(self, kit: Kit) -> None:
        self._kit = kit
        self._lock = threading.Lock()
        self._made: dict[Any, tuple[int, Ranking]] = {}

    def get(self, **asked: Any) -> Ranking:
        """The ranking as `kit.comparison.ranking` makes it. Raises: KitError."""
        key, events = tuple(sorted(asked.items())), self._kit.store.count(Vote)
        with self._lock:
            found = self._made.get(key)
            if found is None or found[0] != events:
                found = self._made[key] = (events, self._kit.comparison.ranking(**asked))
            for old in list(self._made)[: max(0, len(self._made) - _KEPT)]:
                del self._made[old]
            return found[1]


def build(kit: Kit, tab: gr.Tab) -> gr.Dropdown:
    """Lay out the sub-tab and wire its events; call inside an open `gr.Tab`, which is `tab`. Gives the chooser of what is ranked."""
    with gr.Row(elem_classes="actions"):
        asked: dict[str, Any] = {"scope": gr.Dropdown([], label=label("compare.of"), elem_id="ranking-of", scale=2, min_width=240, interactive=True)}
        asked["tag"] = gr.Dropdown([], label=label("compare.tag"), elem_id="ranking-tag", scale=1, min_width=140, interactive=True)
        refresh = gr.Button(label("compare.refresh"), size="sm", elem_id="ranking-refresh")
        live = gr.Checkbox(label=label("compare.live"), container=False, elem_id="ranking-live", min_width=120)
    shown: dict[str, Any] = {"tag": asked["tag"], "drawn": gr.State(None)}
    shown["board"] = gr.HTML(elem_id="ranking-board", css_template=charts.CSS, apply_default_css=False)
    with gr.Accordion(label("playground.more"), open=False, elem_id="ranking-more"), gr.Row():
        asked["style"] = gr.Checkbox(label=label("compare.style"), info=label("compare.style_info"), elem_id="ranking-style")
        asked["outliers"] = gr.Checkbox(label=label("compare.no_outliers"), info=label("compare.no_outliers_info"), elem_id="ranking-outliers")
        cap: dict[str, Any] = {"minimum": 1, "precision": 0, "label": label("compare.cap"), "info": label("compare.cap_info"), "elem_id": "ranking-cap"}
        asked["cap"] = gr.Number(None, **cap)
    with gr.Accordion(label("playground.code"), open=False, elem_id="ranking-code-drawer"):
        look: dict[str, Any] = {"interactive": False, "show_label": False, "wrap_lines": True, "show_line_numbers": False}
        shown["code"] = gr.Code(language="python", elem_id="ranking-code", **look)
    _wire(kit, tab, asked, shown=shown, refresh=refresh, live=live)
    chooser: gr.Dropdown = asked["scope"]
    return chooser


def _wire(kit: Kit, tab: gr.Tab, asked: dict[str, Any], *, shown: dict[str, Any], refresh: gr.Button, live: gr.Checkbox) -> None:
    rankings, timer = Rankings(kit), gr.Timer(LIVE_S, active=False)
    outputs = [shown[name] for name in _SHOWN]
    told: dict[str, Any] = {"inputs_kwargs": {**asked, "drawn": shown["drawn"]}, "outputs": outputs, **QUICK}
    listed: dict[str, Any] = {"inputs_kwargs": {"scope": asked["scope"]}, "outputs": [asked["scope"]], **QUICK}
    opened = tab.select(_on_open(kit), api_name="open_ranking", **listed)
    opened.then(_on_show(kit, rankings), api_name="show_ranking", **told)
    changes = [refresh.click, asked["scope"].input, asked["tag"].input, asked["style"].input, asked["outliers"].input, asked["cap"].change]
    gr.on(changes, _on_show(kit, rankings), api_name="refresh_ranking", **told)
    timer.tick(_on_show(kit, rankings, only_new=True), api_name="watch_ranking", **told)
    live.input(lambda *, live: gr.Timer(active=live), inputs_kwargs={"live": live}, outputs=[timer], api_name="set_live_ranking", **QUICK)


def _on_open(kit: Kit) -> Callable[..., Any]:
    def on_open(request: gr.Request, *, scope: str | None) -> Any:
        with shown_errors(request):
            return show_scope(kit, request, scope)

    return on_open


def show_scope(kit: Kit, request: gr.Request, chosen: str | None) -> Any:
    """The update of the chooser: all votes, the comparisons, the campaigns of pairs; `chosen` where it is among them. Raises: AccessDenied."""
    language = language_of(request)
    choices = [(say("compare.all", language), "")]
    choices += [(choosing.title(kit, each, language), each.id) for each in choosing.visible(kit, request)]
    campaigns = [each for each in kit.store.find(Campaign, limit=choosing.MOST) if each.spec.get("kind") == "pairwise"]
    choices += [(say("compare.campaign", language, name=each.name), f"{_CAMPAIGN}{each.id}") for each in campaigns]
    return gr.Dropdown(choices=choices, value=chosen if chosen in {value for _, value in choices} else "")


def _on_show(kit: Kit, rankings: Rankings, *, only_new: bool = False) -> Callable[..., list[Any]]:
    def on_show(request: gr.Request, *, drawn: Any, scope: str | None, tag: str | None, style: bool, outliers: bool, cap: float | None) -> list[Any]:
        with shown_errors(request):
            require(user_of(request), "participant", resource="ranking")
            language = language_of(request)
            of = _scope(kit, request, scope)
            options: dict[str, Any] = {"tag": tag or None, "style_control": style, "vote_cap": _whole(cap), "exclude_outliers": outliers}
            now = [of, options, kit.store.count(Vote)]
            if only_new and drawn == now:
                return [gr.skip()] * len(_SHOWN)
            known = _tags(kit, of)
            if options["tag"] not in known:
                options["tag"] = None
            board = charts.show_ranking(found := rankings.get(**of, **options), _pseudonyms(kit, found.outliers), language)
            return [board, _tag_chooser(known, options["tag"], language), ranking_code(kit.settings.workspace, **of, **options), now]

    return on_show


def _scope(kit: Kit, request: gr.Request, scope: str | None) -> dict[str, str]:
    """What is ranked, as keywords of `kit.comparison.ranking`. Raises: InputError, AccessDenied for somebody else's own comparison."""
    if not scope:
        return {}
    if scope.startswith(_CAMPAIGN):
        return {"campaign_id": scope.removeprefix(_CAMPAIGN)}
    return {"comparison_id": choosing.find_comparison(kit, request, scope).id}


def _tags(kit: Kit, of: dict[str, str]) -> list[str]:
    return sorted({tag for vote in kit.comparison.votes(**of) for tag in vote.tags})


def _tag_chooser(tags: list[str], chosen: str | None, language: Language) -> Any:
    return gr.Dropdown(choices=[(say("compare.all_tags", language), ""), *((tag, tag) for tag in tags)], value=chosen or "", visible=bool(tags))


def _pseudonyms(kit: Kit, raters: tuple[str, ...]) -> list[str]:
    from llmops_kit.pseudonyms import pseudonym, pseudonym_key

    key = pseudonym_key(kit.store) if raters else b""
    return [pseudonym(key, rater) for rater in raters]


def _whole(cap: float | None) -> int | None:
    if cap is not None and cap < 1:
        raise InvalidValue(name="vote_cap", value=cap, allowed="≥ 1")
    return None if cap is None else int(cap)
