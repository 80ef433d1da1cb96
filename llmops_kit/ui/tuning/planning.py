"""From data to a plan: read and check it, propose a spec, estimate it, show the first batch. One step after the other, each shown when it is there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import InputError, KitError
from llmops_kit.tuning import Preset, TuneSpec
from llmops_kit.tuning.spec import RATINGS
from llmops_kit.types import new_id
from llmops_kit.ui.text import Language, error_words, language_of, say
from llmops_kit.ui.tuning import checking, data, estimating, recipe
from llmops_kit.ui.tuning.code import spec_code

if TYPE_CHECKING:
    from llmops_kit.kit import Kit
    from llmops_kit.tuning.budget import Estimate

OWN = ("report", "preview", "estimate", "start", "code", "asked")
FIRST_BASE = "starter-lm"
_YAML_BYTES = 100_000
_FREE = ("name", "wandb", "preset")
"""Fields that change nothing of what a training takes."""
_KEPT = ("name", "wandb", "seed", "prompts")
"""Fields a person set that another preset leaves alone."""


def look(
    kit: Kit, request: gr.Request, source_data: str, fields: Mapping[str, Any], *, how: Mapping[str, Any] | None = None, listed: Mapping[str, Any] | None = None
) -> Iterator[list[Any]]:
    """Read `source_data`, check it, and go on to the plan. `how` are columns and encoding as chosen by hand."""
    language, options = language_of(request), {name: value for name, value in (how or {}).items() if value}
    source, base = _source_of(source_data), str(fields.get("base") or FIRST_BASE)
    blank = {"report": checking.show_wait(language), "preview": "", "estimate": "", "start": gr.update(interactive=False), "asked": {}}
    yield updates(**(listed or {}), **blank)
    asked: dict[str, Any] = {"data": source_data, "source": source, **options, "id": new_id()}
    try:
        dataset = kit.tuning.read(source_data, **options)
        questions = data.ask(dataset, source)
        if not (dataset.examples or dataset.problems) and dataset.available and not dataset.columns.get("messages"):
            yield updates(data=questions, report=checking.show_note(say("tune.columns_needed", language)), asked=asked)
            return
        report = kit.tuning.check(dataset, base=base)
    except KitError as error:
        yield updates(data=data.ask(None, source), report=checking.show_note(error_words(error, language), is_alarm=True), asked=asked)
        return
    asked["refused"] = report.refusal is not None
    yield updates(data=questions, report=checking.show_report(report, dataset, language), asked=asked)
    if not asked["refused"]:
        yield from plan(kit, request, asked, {**fields, "name": fields.get("name") or ""}, fresh=True)


def plan(kit: Kit, request: gr.Request, asked: Mapping[str, Any], fields: Mapping[str, Any], *, fresh: bool = False) -> Iterator[list[Any]]:
    """Propose a spec for base and preset, keeping what was set by hand (of a new preset: the name and its like); then estimate and preview."""
    if not asked.get("data") or asked.get("refused"):
        yield updates()
        return
    base, preset = str(fields.get("base") or FIRST_BASE), cast("Preset", fields.get("preset") or "try")
    yield updates(start=gr.update(interactive=False))
    options = _options(asked)
    try:
        changes = {} if fresh or not asked.get("spec") else _by_hand(asked, fields, all_of_them=asked.get("preset") == preset)
        spec = kit.tuning.spec(asked["data"], base=base, preset=preset, **{**options, **changes})
        proposed = kit.tuning.spec(asked["data"], base=base, preset=preset, **options) if changes else spec
    except KitError as error:
        yield _refused(error, language_of(request), asked)
        return
    known = {**asked, "preset": preset, "proposed": proposed.model_dump(), "spec": spec.model_dump()}
    yield from settle(kit, request, known, spec, preview=True, tried=fields.get("tried"))


def change(kit: Kit, request: gr.Request, asked: Mapping[str, Any], fields: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Take the fields as they are on the page; estimate anew where something changed."""
    if not asked.get("spec"):
        yield updates()
        return
    before = TuneSpec(**asked["spec"])
    try:
        spec = spec_of(asked, fields)
    except KitError as error:
        yield _refused(error, language_of(request), asked)
        return
    if spec == before and not asked.get("wrong"):
        yield updates()
        return
    shown = any(getattr(spec, name) != getattr(before, name) for name in ("max_tokens", "packing", "batch_tokens", "seed", "eval_share", "method"))
    yield from settle(kit, request, {**asked, "spec": spec.model_dump(), "wrong": False}, spec, preview=shown, typed=True, tried=fields.get("tried"))


def take_yaml(kit: Kit, request: gr.Request, asked: Mapping[str, Any], text: str, fields: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Take a spec that was typed or loaded. Raises: UnreadableFile, InvalidValue, InputError, AccessDenied."""
    current = str(asked.get("data") or "")
    spec = recipe.read_yaml(text, current, data.name_of(current))
    data.check_ratings(kit, request, spec.data)
    if spec.data != current:
        for step in look(kit, request, spec.data, {**fields, "base": spec.base}, how={"columns": spec.columns, "encoding": spec.encoding}):
            asked = next((each for each in reversed(step) if isinstance(each, dict) and each.get("data")), asked)
            yield step
        if not asked.get("spec"):
            return
    known = {**asked, "preset": spec.preset or asked.get("preset"), "spec": spec.model_dump()}
    source = _source_of(spec.data)
    chosen: dict[str, Any] = {"source": source, "sample": gr.update(value=spec.data, visible=True)} if source == "sample" else {}
    yield from settle(kit, request, known, spec, preview=True, tried=fields.get("tried"), base=spec.base, **chosen)


def settle(
    kit: Kit, request: gr.Request, asked: Mapping[str, Any], spec: TuneSpec, *, preview: bool, typed: bool = False, tried: Any = None, **more: Any
) -> Iterator[list[Any]]:
    """Show a spec everywhere it is shown, with its estimate; then, with `preview`, the first batch.

    `typed`: it comes from the fields. `tried`: what was measured last (see `find_tried`); it holds for the same plan under another name.
    """
    language, name = language_of(request), data.name_of(str(asked["data"]))
    shown = {"recipe": recipe.show(spec, name, typed=typed), "code": spec_code(kit.settings.workspace, spec, name), "asked": dict(asked), **more}
    try:
        estimate = find_tried(spec.model_dump(), tried) or kit.tuning.estimate(spec)
    except KitError as error:
        yield updates(**shown, estimate=estimating.show_refusal(error_words(error, language)), start=gr.update(interactive=False))
        return
    taken = _tell_taken(kit, spec, language)
    told = estimating.show_estimate(estimate, language) + (estimating.show_refusal(taken) if taken else "")
    yield updates(**shown, estimate=told, start=gr.update(interactive=bool(estimate.fits) and not taken))
    if preview:
        try:
            yield updates(preview=checking.show_preview(kit.tuning.preview(spec), language))
        except KitError as error:
            yield updates(preview=checking.show_note(error_words(error, language)))


def listed(kit: Kit, request: gr.Request, base: str | None) -> dict[str, Any]:
    """The choosers as they are now: bases, bundled sets, campaigns; and (`base_value`) the base that stays chosen."""
    user, language = require(user_of(request), "participant", resource="models"), language_of(request)
    names, offered = recipe.tunable(kit), data.choices(kit, user, language)
    value = base if base in names else FIRST_BASE if FIRST_BASE in names else next(iter(names), None)
    shown: dict[str, Any] = {"base": gr.update(choices=names, value=value), "base_value": value}
    return {**shown, **{name: gr.update(choices=found) for name, found in offered.items()}}


def spec_of(asked: Mapping[str, Any], fields: Mapping[str, Any]) -> TuneSpec:
    """The spec as the page shows it. Raises: InputError where no data was chosen yet, InvalidValue."""
    if not asked.get("spec"):
        raise InputError(en=say("tune.no_plan", "en"), ja=say("tune.no_plan", "ja"))
    return recipe.read(TuneSpec(**asked["spec"]), fields, asked.get("proposed"))


def find_tried(spec: Mapping[str, Any] | None, tried: Mapping[str, Any] | None) -> Estimate | None:
    """The estimate in `tried` (its `spec`, and the `estimate` after ten steps of it) if it is of this plan: what it is called costs nothing."""
    if not spec or not tried or any(value != tried["spec"].get(name) for name, value in spec.items() if name not in _FREE):
        return None
    found: Estimate = tried["estimate"]
    return found


def spec_to_start(kit: Kit, asked: Mapping[str, Any], fields: Mapping[str, Any]) -> TuneSpec:
    """The spec as the page shows it, also where another base or preset was chosen just now and its plan is not there yet. Raises: as `spec_of`."""
    spec = spec_of(asked, fields)
    base, preset = str(fields.get("base") or spec.base), cast("Preset", fields.get("preset") or "try")
    if (base, preset) == (spec.base, asked.get("preset")):
        return spec
    changes = _by_hand(asked, fields, all_of_them=asked.get("preset") == preset)
    return kit.tuning.spec(asked["data"], base=base, preset=preset, **{**_options(asked), **changes})


def waiting(source: str, language: Language) -> list[Any]:
    """The page once a source was chosen that has no rows yet."""
    blank = {"preview": "", "estimate": "", "start": gr.update(interactive=False), "asked": {}}
    return updates(data=data.ask(None, source), report=checking.show_note(say(f"tune.missing_{source}", language)), **blank)


def read_text(path: str) -> str:
    """The text of an uploaded YAML file. Raises: InputError for one that is too large or no text."""
    content = Path(path).read_bytes()
    try:
        if len(content) <= _YAML_BYTES:
            return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    raise InputError(en=say("tune.no_yaml", "en"), ja=say("tune.no_yaml", "ja"))


def updates(**given: Any) -> list[Any]:
    """Updates in the order of `Start.outputs`: `data` and `recipe` are the lists their modules make, the rest parts by name."""
    form = given.get("data") or [given.get(name, gr.skip()) for name in data.SHOWN]
    if given.get("data") is not None:
        places = {name: place for place, name in enumerate(data.SHOWN)}
        form = list(form)
        for name in ("sample", "campaign"):
            if name in given:
                form[places[name]] = {**form[places[name]], **given[name]}
    fields = given.get("recipe") or [gr.skip()] * len(recipe.SHOWN)
    return [*form, given.get("base", gr.skip()), *fields, *(given.get(name, gr.skip()) for name in OWN)]


def _tell_taken(kit: Kit, spec: TuneSpec, language: Language) -> str:
    """Why the name cannot be had, told while it can still be changed; empty where it can."""
    from llmops_kit.tuning.launching import check_name

    try:
        check_name(kit.jobs, kit.models, spec)
    except InputError as error:
        return error.text(language)
    return ""


def _refused(error: KitError, language: Language, asked: Mapping[str, Any]) -> list[Any]:
    return updates(estimate=estimating.show_refusal(error_words(error, language)), start=gr.update(interactive=False), asked={**asked, "wrong": True})


def _options(asked: Mapping[str, Any]) -> dict[str, Any]:
    """How the rows are read, as it was chosen by hand."""
    return {name: asked[name] for name in ("columns", "encoding") if asked.get(name)}


def _by_hand(asked: Mapping[str, Any], fields: Mapping[str, Any], *, all_of_them: bool) -> dict[str, Any]:
    """What differs from what was proposed last, so that choosing another base does not undo it."""
    spec = spec_of(asked, fields).model_dump()
    proposed = asked.get("proposed") or {}
    kept = [name for name in spec if name not in ("base", "data", "preset", "columns", "encoding") and spec[name] != proposed.get(name)]
    return {name: spec[name] for name in kept if all_of_them or name in _KEPT}


def _source_of(given: str) -> str:
    return "sample" if given.startswith("sample:") else "campaign" if given.startswith(RATINGS) else "file"
