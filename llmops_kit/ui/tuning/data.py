"""Which rows are learnt from: a bundled set, a file of the person's own, or the ratings of a campaign; its columns and encoding where they must be asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import User, require, user_of
from llmops_kit.errors import InputError
from llmops_kit.tuning.spec import RATINGS
from llmops_kit.types import Comparison, Vote
from llmops_kit.ui.comparison import choosing
from llmops_kit.ui.feedback import whose as feedback_whose
from llmops_kit.ui.text import Language, label, say
from llmops_kit.ui.tuning import showing

if TYPE_CHECKING:
    from llmops_kit.kit import Kit
    from llmops_kit.tuning.dataset import Dataset

SOURCES = ("sample", "file", "campaign")
ROLES = ("prompt", "answer", "system", "chosen", "rejected", "label")
FIRST = "first-30"
"""The bundled set the tab opens on."""
_ENCODINGS = ("utf-8", "cp932", "euc_jp")
_USUAL = (None, "", "utf-8", "utf-8-sig", "ascii")
SHOWN = ("source", "sample", "file", "campaign", "mapping", *(f"column_{role}" for role in ROLES), "encoding")
"""What `ask` fills, in its order."""


@dataclass(frozen=True)
class DataForm:
    """The components: where the rows are from, one place for each source (`parts`), and what is pressed to take the columns as chosen."""

    parts: dict[str, Any]
    use: gr.Button

    def inputs(self) -> dict[str, Any]:
        """Every input by the name its handler takes it under."""
        return {name: self.parts[name] for name in SHOWN if name != "mapping"}

    def outputs(self) -> list[Any]:
        """What `ask` fills, in its order."""
        return [self.parts[name] for name in SHOWN]


def lay_out() -> DataForm:
    """The choosers; of the three places only that of the chosen source is seen, and the columns only where they are needed."""
    sources = [(label(f"tune.source_{source}"), source) for source in SOURCES]
    parts: dict[str, Any] = {"source": gr.Radio(sources, value="sample", label=label("tune.data"), elem_id="tuning-source")}
    parts["sample"] = gr.Dropdown([], label=label("tune.sample"), elem_id="tuning-sample", interactive=True)
    types = [".jsonl", ".json", ".csv", ".tsv", ".xlsx", ".txt"]
    parts["file"] = gr.File(label=label("tune.file"), file_types=types, height=130, visible=False, elem_id="tuning-file")
    parts["campaign"] = gr.Dropdown([], label=label("tune.campaign"), visible=False, elem_id="tuning-campaign", interactive=True)
    with gr.Accordion(label("tune.columns"), open=False, visible=False, elem_id="tuning-columns") as parts["mapping"]:
        gr.Markdown(label("tune.columns_info"), elem_classes="quiet")
        with gr.Row(elem_classes="fields"):
            for role in ROLES:
                shown: dict[str, Any] = {"label": label(f"tune.role_{role}"), "elem_id": f"tuning-column-{role}", "min_width": 130}
                parts[f"column_{role}"] = gr.Dropdown([], interactive=True, **shown)
        use = gr.Button(label("tune.columns_use"), size="sm", elem_id="tuning-columns-use")
    parts["encoding"] = gr.Radio([], label=label("tune.encoding"), visible=False, elem_id="tuning-encoding", interactive=True)
    return DataForm(parts, use)


def choices(kit: Kit, user: User, language: Language) -> dict[str, list[tuple[str, str]]]:
    """What the choosers offer: the bundled sets, and the person's own campaigns and comparisons that somebody voted on."""
    from llmops_kit.tuning.dataset import list_samples

    names = sorted(list_samples(), key=lambda name: (name != FIRST, name))
    rated = [(feedback_whose.title_of(each, language), f"campaign:{each.id}") for each in feedback_whose.own_campaigns(kit, user)]
    rated += [(say("tune.votes_on", language, title=title), f"comparison:{id}") for title, id in _voted(kit, user, language)]
    return {"sample": [(showing.data_words(f"sample:{name}", language), f"sample:{name}") for name in names], "campaign": rated}


def chosen(kit: Kit, request: gr.Request, fields: Mapping[str, Any]) -> str:
    """The data that the form names: `sample:…`, `campaign:…`, `comparison:…`, or the path of the uploaded file. Raises: InputError, AccessDenied."""
    source = str(fields.get("source") or "sample")
    data = fields.get(source)
    if not data:
        raise InputError(en=say(f"tune.missing_{source}", "en"), ja=say(f"tune.missing_{source}", "ja"))
    if source == "campaign":
        check_ratings(kit, request, str(data))
    return str(data)


def check_ratings(kit: Kit, request: gr.Request, data: str) -> None:
    """Refuse what people said in a campaign or a comparison that is not the person's own. Raises: UnknownName, InputError, AccessDenied."""
    if data.startswith("campaign:"):
        feedback_whose.own(kit, require(user_of(request), "participant", resource="campaigns"), data.split(":")[1])
    elif data.startswith("comparison:"):
        choosing.find_comparison(kit, request, data.split(":")[1], own=True)


def _voted(kit: Kit, user: User, language: Language) -> list[tuple[str, str]]:
    """Title and id of the person's own comparisons that have votes, newest first."""
    own = kit.store.find(Comparison, participant=list(choosing.own_names(user.id, user.role)), limit=choosing.MOST)
    voted = {item.split(":")[1] for (item,) in (kit.store.values(Vote, ("item",)) if own else []) if item.startswith("compare:")}
    return [(choosing.title(kit, each, language), each.id) for each in own if each.id in voted]


def columns(fields: Mapping[str, Any]) -> dict[str, str] | None:
    """The columns as they were chosen by hand; None where nothing was."""
    return {role: str(fields[f"column_{role}"]) for role in ROLES if fields.get(f"column_{role}")} or None


def ask(dataset: Dataset | None, source: str) -> list[Any]:
    """Updates of the form for what was read: the place of the source, and the questions that it leaves open."""
    updates: dict[str, Any] = {name: gr.update(visible=name == source) for name in SOURCES} | {"source": gr.update(value=source)}
    names = list(dataset.available) if dataset is not None else []
    is_open = dataset is not None and not dataset.examples
    is_asked = bool(names) and (is_open or (dataset is not None and dataset.format.startswith("table")))
    updates["mapping"] = gr.update(visible=is_asked, open=is_open)
    for role in ROLES:
        found = dataset.columns.get(role) if dataset is not None else None
        updates[f"column_{role}"] = gr.update(choices=[("–", ""), *((name, name) for name in names)], value=found or "")
    encoding = dataset.encoding if dataset is not None else None
    known = [encoding, *(each for each in _ENCODINGS if each != encoding)] if encoding else list(_ENCODINGS)
    updates["encoding"] = gr.update(choices=known, value=encoding, visible=source == "file" and encoding not in _USUAL)
    return [updates[name] for name in SHOWN]


def name_of(data: str) -> str:
    """What the data is called on the page and in code: a file without the folder it was uploaded to."""
    return data if data.startswith(("sample:", *RATINGS)) else Path(data).name

