"""The form that makes a campaign: what is rated, by which rubric, by whom and how often."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import User, require, user_of
from llmops_kit.errors import InputError
from llmops_kit.types import Campaign, Comparison, Run
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.feedback import whose
from llmops_kit.ui.feedback.code import campaign_code, shown_ids
from llmops_kit.ui.history import find_runs
from llmops_kit.ui.text import Language, label, language_of, say, shown_errors

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

KINDS = ("rate", "pairwise", "ranking")
PRESETS = ("quality", "score", "thumb")
_LISTED = 50
_FILES = [".csv", ".tsv", ".xlsx", ".jsonl", ".json"]
_NAMED = 40
"""Characters of a prompt and of an answer in the list of runs."""


@dataclass(frozen=True)
class Making:
    """The form: `fields` by name, the places they are shown or hidden with (`places`), and the button."""

    fields: dict[str, Any]
    places: dict[str, Any]
    make: gr.Button


def lay_out() -> Making:
    """The form, in an open column."""
    places: dict[str, Any] = {}
    fields: dict[str, Any] = {"name": gr.Textbox(label=label("campaign.name"), max_lines=1, elem_id="campaign-name")}
    sources = [(label(f"campaign.source_{source}"), source) for source in ("runs", "comparison", "file")]
    fields["source"] = gr.Radio(sources, value="runs", label=label("campaign.source"), elem_id="campaign-source")
    with gr.Column() as places["runs"]:
        fields["n"] = gr.Slider(1, _LISTED, value=10, step=1, label=label("campaign.newest"), elem_id="campaign-newest")
        with gr.Accordion(label("campaign.choose_runs"), open=False, elem_id="campaign-choose"):
            fields["chosen"] = gr.CheckboxGroup([], show_label=False, container=False, elem_id="campaign-runs")
    with gr.Column(visible=False) as places["comparison"]:
        fields["comparison"] = gr.Dropdown([], label=label("campaign.comparison"), info=label("campaign.comparison_info"), elem_id="campaign-comparison")
    with gr.Column(visible=False) as places["file"]:
        fields["file"] = gr.File(label=label("campaign.file"), file_types=_FILES, height=110, elem_id="campaign-file")
        gr.Markdown(label("campaign.file_info"), elem_classes="quiet")
    kinds = [(label(f"campaign.kind_{kind}"), kind) for kind in KINDS]
    fields["kind"] = gr.Radio(kinds, value="rate", label=label("campaign.kind"), elem_id="campaign-kind")
    presets = [(label(f"campaign.preset_{preset}"), preset) for preset in PRESETS]
    fields["preset"] = gr.Dropdown(presets, value="quality", label=label("campaign.rubric"), elem_id="campaign-preset", interactive=True)
    fields["guidelines"] = gr.Textbox(label=label("campaign.guidelines"), lines=3, max_lines=12, elem_id="campaign-guidelines")
    fields["k"] = gr.Slider(1, 10, value=2, step=1, label=label("campaign.k"), elem_id="campaign-k")
    raters = [(label(f"campaign.raters_{who}"), who) for who in ("everybody", "others", "listed")]
    fields["raters"] = gr.Radio(raters, value="everybody", label=label("campaign.raters"), elem_id="campaign-raters")
    listing: dict[str, Any] = {"label": label("campaign.listed"), "info": label("campaign.listed_info"), "lines": 2, "elem_id": "campaign-listed"}
    fields["listed"] = gr.Textbox(visible=False, **listing)
    with gr.Accordion(label("playground.more"), open=False, elem_id="campaign-more"):
        fields["yaml"] = gr.Code(rubric_yaml("quality"), language="yaml", label=label("campaign.yaml"), elem_id="campaign-yaml", max_lines=24, interactive=True)
        fields["timeout"] = gr.Number(15, minimum=1, maximum=1440, precision=0, label=label("campaign.timeout"), elem_id="campaign-timeout")
        fields["shuffle"] = gr.Checkbox(True, label=label("campaign.shuffle"), elem_id="campaign-shuffle")
    with gr.Row(elem_classes="buttons"):
        make = gr.Button(label("campaign.make"), variant="primary", elem_id="campaign-make")
    return Making(fields, places, make)


def wire(form: Making) -> None:
    """What the form shows and hides by itself."""
    fields, places = form.fields, form.places

    def on_source(*, source: str) -> list[Any]:
        return [gr.Column(visible=source == name) for name in places]

    def on_kind(*, kind: str) -> list[Any]:
        return [gr.Dropdown(visible=kind == "rate"), gr.Code(visible=kind == "rate")]

    def on_preset(*, preset: str) -> str:
        return rubric_yaml(preset)

    def on_raters(*, raters: str) -> Any:
        return gr.Textbox(visible=raters == "listed")

    fields["source"].input(on_source, inputs_kwargs={"source": fields["source"]}, outputs=list(places.values()), api_name="choose_source", **QUICK)
    fields["kind"].input(on_kind, inputs_kwargs={"kind": fields["kind"]}, outputs=[fields["preset"], fields["yaml"]], api_name="choose_kind", **QUICK)
    fields["preset"].input(on_preset, inputs_kwargs={"preset": fields["preset"]}, outputs=[fields["yaml"]], api_name="choose_preset", **QUICK)
    fields["raters"].input(on_raters, inputs_kwargs={"raters": fields["raters"]}, outputs=[fields["listed"]], api_name="choose_raters", **QUICK)


def choices(kit: Kit, user: User, language: Language, chosen: Sequence[str], comparison: str | None) -> list[Any]:
    """Updates of the list of runs and of the comparisons; what is chosen and still there stays chosen."""
    listed = [(_name_run(run), run.id) for run in usable_runs(kit, user)]
    runs = gr.CheckboxGroup(choices=listed, value=[id for _, id in listed if id in (chosen or [])])
    made = kit.store.find(Comparison, participant=list(whose.names_of(user)), limit=_LISTED)
    named = [(f"{each.created_at:%Y-%m-%d %H:%M} · {_title(each, language)}", each.id) for each in made]
    kept = comparison if comparison in [id for _, id in named] else named[0][1] if named else None
    return [runs, gr.Dropdown(choices=named, value=kept)]


def usable_runs(kit: Kit, user: User) -> list[Run]:
    """The person's newest runs that have an answer."""
    return [run for run in find_runs(kit, user) if run.answer.strip() and not run.error][:_LISTED]


def make(kit: Kit, request: gr.Request, fields: Mapping[str, Any]) -> tuple[Campaign, str]:
    """The campaign the form describes, and the code that makes it. Raises: InputError and what `kit.feedback.create` raises."""
    user, language = require(user_of(request), "participant", resource="feedback"), language_of(request)
    source = _source(kit, user, fields)
    kind = str(fields["kind"])
    text = str(fields["yaml"] or "").strip()
    preset = str(fields["preset"] or PRESETS[0])
    untouched = ("", *(rubric_yaml(each).strip() for each in PRESETS))  # any of them: the text may lag behind the choice
    rubric = None if kind != "rate" else preset if text in untouched else text
    who = str(fields["raters"])
    raters = _ids(fields["listed"]) if who == "listed" else "others" if who == "others" else None
    name = str(fields["name"] or "").strip() or say("campaign.untitled", language)
    options: dict[str, Any] = {"rubric": rubric, "guidelines": str(fields["guidelines"] or ""), "k": int(fields["k"]), "raters": raters, "kind": kind}
    late: dict[str, Any] = {"timeout_s": float(fields["timeout"] or 15) * 60, "shuffle": bool(fields["shuffle"])}
    told = {key: value for key, value in options.items() if value is not None and not (key == "kind" and value == "rate")}
    made: Campaign = kit.feedback.create(name, owner=user.id, **source, **{**options, "rubric": rubric or kind}, **late)
    shown = {key: shown_ids(value) if key == "runs" else value for key, value in source.items()}
    return made, campaign_code(kit.settings.workspace, name, **shown, **told)


@cache
def rubric_yaml(preset: str) -> str:
    """A ready rubric as text to be changed."""
    import yaml

    from llmops_kit.feedback.rubrics import PRESETS as RUBRICS

    listed = []
    for criterion in RUBRICS[preset].criteria:
        fields = {"name": criterion.name, "type": criterion.type, "label": dict(criterion.label), "options": list(criterion.options)}
        bounds = {name: int(value) for name, value in (("minimum", criterion.minimum), ("maximum", criterion.maximum)) if value is not None}
        listed.append({key: value for key, value in {**fields, **bounds, "required": criterion.required}.items() if value not in ([], {})})
    return str(yaml.safe_dump({"name": preset, "version": RUBRICS[preset].version, "criteria": listed}, allow_unicode=True, sort_keys=False))


def _source(kit: Kit, user: User, fields: Mapping[str, Any]) -> dict[str, Any]:
    """What is rated, as `kit.feedback.create` takes it. Only the person's own runs and comparisons serve."""
    if fields["source"] == "file":
        if not fields["file"]:
            raise InputError(en=say("campaign.no_file", "en"), ja=say("campaign.no_file", "ja"))
        return {"path": str(fields["file"])}
    if fields["source"] == "comparison":
        found = kit.store.get(Comparison, str(fields["comparison"] or ""))
        if found is None:
            raise InputError(en=say("campaign.no_comparison", "en"), ja=say("campaign.no_comparison", "ja"))
        require(user, "participant", resource=found.id, resource_owner=found.participant)
        return {"comparison": found.id}
    own = [run.id for run in usable_runs(kit, user)]
    chosen = [id for id in own if id in set(fields["chosen"] or [])] or own[: int(fields["n"])]
    if not chosen:
        raise InputError(en=say("campaign.no_runs", "en"), ja=say("campaign.no_runs", "ja"))
    return {"runs": chosen}


def _ids(text: str | None) -> list[str]:
    """Ids as people paste them: one a line, or between commas. Raises: InputError for none."""
    found = list(dict.fromkeys(part.strip() for part in str(text or "").replace("、", ",").replace(",", "\n").splitlines() if part.strip()))
    if not found:
        raise InputError(en=say("campaign.no_raters", "en"), ja=say("campaign.no_raters", "ja"))
    return found


def _name_run(run: Run) -> str:
    asked = next((turn.content for turn in reversed(run.messages) if turn.role == "user"), "")
    return f"{run.created_at:%m-%d %H:%M} {run.model} · {_cut(asked)} → {_cut(run.answer)}"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _NAMED else f"{line[: _NAMED - 1]}…"


def _title(comparison: Comparison, language: Language) -> str:
    spec = comparison.spec
    return say("campaign.comparison_title", language, rows=len(spec.get("rows") or ()), variants=len(spec.get("variants") or ()))


def on_make(kit: Kit, then: Callable[..., list[Any]]) -> Callable[..., list[Any]]:
    """The handler of the button: makes the campaign and hands it to `then`, which gives the updates."""

    def handle(request: gr.Request, **fields: Any) -> list[Any]:
        with shown_errors(request):
            campaign, code = make(kit, request, fields)
            return then(request, campaign, code)

    return handle
