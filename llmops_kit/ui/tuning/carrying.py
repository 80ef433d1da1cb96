"""Adapters that leave and come: a ZIP of the folder plain PEFT loads, of the merged model; and such a ZIP, or its two files, brought along."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import InputError, UnreadableFile
from llmops_kit.tuning import TuneSpec
from llmops_kit.ui.events import BATCH, QUICK
from llmops_kit.ui.files import offer
from llmops_kit.ui.text import label, language_of, say, shown_errors
from llmops_kit.ui.tuning import recipe, showing, whose

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_BROUGHT = (CONFIG, WEIGHTS, "card.json", "chat_template.jinja", "tokenizer_config.json")
_MOST_MB = 2_000.0
"""Largest base whose merged model goes through the browser; above it the notebook writes it to a folder."""

Show = Callable[["Kit", gr.Request, str | None], list[Any]]


def lay_out_import() -> dict[str, Any]:
    """The folded form that takes an adapter in."""
    given: dict[str, Any] = {}
    with gr.Accordion(label("tune.import"), open=False, elem_id="tuning-import-title"):
        gr.Markdown(label("tune.import_info"), elem_classes="quiet")
        types = [".zip", ".json", ".safetensors", ".jinja"]
        given["files"] = gr.File(label=label("tune.import_files"), file_count="multiple", file_types=types, height=130, elem_id="tuning-import-files")
        given["base"] = gr.Dropdown([], label=label("tune.base"), elem_id="tuning-import-base", interactive=True)
        given["name"] = gr.Textbox(label=label("tune.name"), max_lines=1, elem_id="tuning-import-name")
        given["take"] = gr.Button(label("tune.import_take"), size="sm", elem_id="tuning-import-take")
    return given


def wire_downloads(kit: Kit, parts: dict[str, Any], buttons: dict[str, Any]) -> None:
    """The two buttons that make a ZIP, and the button that hands it over once it is made."""
    for name, merge in (("export", False), ("merged", True)):
        one: dict[str, Any] = {"inputs_kwargs": {"model": parts["chooser"]}, "outputs": [parts["bar"], parts["files"]]}
        buttons[name].click(_on_export(kit, merge=merge), api_name=f"download_adapter_{name}", **one, **BATCH)


def wire_import(kit: Kit, tab: gr.Tab, given: dict[str, Any], *, shown: list[Any], show: Show) -> None:
    """The form that takes an adapter in; `show` fills `shown` with it afterwards."""

    def on_open(request: gr.Request, *, base: str | None) -> Any:
        with shown_errors(request):
            require(user_of(request), "participant", resource="models")
            names = recipe.tunable(kit)
            return gr.update(choices=names, value=base if base in names else next(iter(names), None))

    def on_take(request: gr.Request, *, files: list[str] | None, base: str | None, name: str) -> list[Any]:
        with shown_errors(request):
            require(user_of(request), "participant", resource="models")
            entry = _take_in(kit, files or [], str(base or ""), name)
            gr.Info(say("tune.imported", language_of(request), model=entry))
            return [None, "", *show(kit, request, entry)]

    tab.select(on_open, inputs_kwargs={"base": given["base"]}, outputs=[given["base"]], api_name="open_import", **QUICK)
    inputs = {name: given[name] for name in ("files", "base", "name")}
    given["take"].click(on_take, inputs_kwargs=inputs, outputs=[given["files"], given["name"], *shown], api_name="import_adapter", **QUICK)


def _on_export(kit: Kit, *, merge: bool) -> Callable[..., Iterator[list[Any]]]:
    def on_export(request: gr.Request, *, model: str | None) -> Iterator[list[Any]]:
        with shown_errors(request):
            language = language_of(request)
            card = whose.require_own_model(kit, request, model)
            if merge and card.base and (size := kit.models.get(card.base).download_mb or 0) > _MOST_MB:
                facts = {"gb": f"{size / 1000:.1f}", "model": model}
                raise InputError(en=say("tune.too_large", "en", **facts), ja=say("tune.too_large", "ja", **facts))
            yield [showing.show_note(say("tune.packing", language)), gr.update(visible=False)]
            path = pack(kit, str(model), merge=merge)
            size_mb = path.stat().st_size / 1e6
            told_size = say("tune.packed", language, name=path.name, mb=f"{size_mb:,.1f}")
            yield [showing.show_note(told_size), gr.update(value=str(path), visible=True)]

    return on_export


def pack(kit: Kit, model: str, *, merge: bool) -> Path:
    """The exported folder as a ZIP where the browser can fetch it. Raises: as `Tuning.export`."""
    name = f"{model.replace('+', '_')}{'-merged' if merge else ''}"
    target = Path(offer(f"{name}.zip", b""))
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        made = kit.tuning.export(model, Path(folder) / name, merge=merge)
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:  # weights do not get smaller
            for file in sorted(path for path in Path(made).rglob("*") if path.is_file()):
                archive.write(file, f"{name}/{file.relative_to(made)}")
    return target


def _take_in(kit: Kit, files: list[str], base: str, name: str) -> str:
    """Put the uploaded files into a folder of their own and take it in; the id of the new model. Raises: as `Tuning.add`, InputError."""
    with tempfile.TemporaryDirectory() as place:
        found = {Path(file).name: Path(file) for file in files}
        for archive in [file for name, file in found.items() if name.lower().endswith(".zip")]:
            found |= _unpack(archive, Path(place))
        return _take_files(kit, found, base, name)


def _take_files(kit: Kit, found: dict[str, Path], base: str, name: str) -> str:
    if missing := [each for each in (CONFIG, WEIGHTS) if each not in found]:
        raise InputError(en=say("tune.import_missing", "en", files=", ".join(missing)), ja=say("tune.import_missing", "ja", files="、".join(missing)))
    if not name.strip():
        raise InputError(en=say("tune.import_name", "en"), ja=say("tune.import_name", "ja"))
    named = TuneSpec(base=base, data="-", name=recipe.plain(name).strip().lower())  # the rule for names is that of a training
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "adapter"
        folder.mkdir()
        for each in _BROUGHT:
            if each in found:
                (folder / each).symlink_to(found[each].resolve())
        return kit.tuning.add(folder, base=base, name=named.name).id


def _unpack(archive: Path, place: Path) -> dict[str, Path]:
    """The files of the adapter in a ZIP, by name: those that lie beside its first configuration. No path in it is followed. Raises: UnreadableFile."""
    found: dict[str, Path] = {}
    try:
        with zipfile.ZipFile(archive) as packed:
            members = [info for info in packed.infolist() if not info.is_dir() and PurePosixPath(info.filename).name in _BROUGHT]
            homes = [PurePosixPath(info.filename).parent for info in members if PurePosixPath(info.filename).name == CONFIG]
            home = min(homes, key=lambda each: len(each.parts), default=None)
            for info in [each for each in members if PurePosixPath(each.filename).parent == home]:
                if info.file_size > _MOST_MB * 1e6:
                    reason = {"en": f"{info.filename} is larger than {_MOST_MB:,.0f} MB", "ja": f"{info.filename}が{_MOST_MB:,.0f} MBを超えています"}
                    raise UnreadableFile(file=archive.name, reason=reason)
                target = place / PurePosixPath(info.filename).name
                with packed.open(info) as given, target.open("wb") as kept:  # never reads more than the size looked at above
                    shutil.copyfileobj(given, kept)
                found[target.name] = target
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as fault:
        raise UnreadableFile(file=archive.name, reason={"en": "it is no ordinary ZIP file", "ja": "通常のZIPファイルではありません"}) from fault
    return found
