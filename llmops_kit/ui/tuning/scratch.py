"""From scratch, as a lesson: choose texts, press Start, and watch a small model learn to write; the same live view as any job."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from llmops_kit.access import require, user_of
from llmops_kit.errors import InputError, KitError
from llmops_kit.types import new_id
from llmops_kit.ui.events import QUICK
from llmops_kit.ui.text import error_words, label, language_of, say, shown_errors
from llmops_kit.ui.tuning import estimating, live, recipe
from llmops_kit.ui.tuning.code import scratch_code
from llmops_kit.ui.tuning.watch import Watch

if TYPE_CHECKING:
    from llmops_kit.kit import Kit

_SIZES = ("tiny", "small", "large")
_KINDS = (".txt", ".md")
_NAME = "my-lm"


@dataclass(frozen=True)
class _Form:
    """The components: what is asked (`asked`, by the names handlers take), and what is shown of it."""

    asked: dict[str, Any]
    shown: dict[str, Any]

    def outputs(self) -> list[Any]:
        """What a look at the form fills."""
        return [self.shown[name] for name in ("estimate", "start", "code", "id")]


def build(kit: Kit, tabs: gr.Tabs, tab: gr.Tab, watch: Watch) -> None:
    """Lay out the sub-tab and wire its events; Start leads to `watch`, in another of `tabs`."""
    with gr.Row(elem_classes="work"):
        with gr.Column(scale=2, min_width=300, elem_classes="inputs"):
            form = _lay_out_form()
        with gr.Column(scale=3, min_width=320):
            gr.Markdown(label("tune.scratch_info"))
            with gr.Accordion(label("playground.code"), open=False, elem_id="tuning-scratch-code-drawer"):
                shown: dict[str, Any] = {"interactive": False, "show_label": False, "wrap_lines": True, "show_line_numbers": False}
                form.shown["code"] = gr.Code(language="python", elem_id="tuning-scratch-code", **shown)
    asked: dict[str, Any] = {"inputs_kwargs": {**form.asked, "id": form.shown["id"]}, **QUICK}
    changed = [form.asked[name].input for name in ("source", "size")] + [form.asked["files"].upload, form.asked["files"].clear]
    gr.on([tab.select, *changed, form.asked["steps"].blur, form.asked["name"].blur], _on_look(kit), outputs=form.outputs(), api_name="look_at_texts", **asked)
    form.asked["source"].input(
        lambda *, source: gr.update(visible=source == "file"),
        inputs_kwargs={"source": form.asked["source"]},
        outputs=[form.asked["files"]],
        api_name="choose_texts",
        **QUICK,
    )
    led = [form.shown["id"], tabs, *watch.outputs()]
    form.shown["start"].click(_on_start(kit), outputs=led, api_name="start_pretraining", **asked)


def _lay_out_form() -> _Form:
    sources = [(label(f"tune.texts_{source}"), source) for source in ("sample", "file")]
    asked: dict[str, Any] = {"source": gr.Radio(sources, value="sample", label=label("tune.texts"), elem_id="tuning-texts")}
    files: dict[str, Any] = {"file_count": "multiple", "file_types": list(_KINDS), "height": 130, "visible": False, "elem_id": "tuning-texts-files"}
    asked["files"] = gr.File(label=label("tune.texts_files"), **files)
    asked["name"] = gr.Textbox(_NAME, label=label("tune.scratch_name"), max_lines=1, elem_id="tuning-scratch-name")
    shown: dict[str, Any] = {"id": gr.State("")}
    shown["estimate"] = gr.HTML(elem_id="tuning-scratch-estimate", css_template=estimating.CSS, apply_default_css=False, padding=False)
    with gr.Row(elem_classes="buttons"):
        shown["start"] = gr.Button(label("tune.start"), variant="primary", interactive=False, elem_id="tuning-scratch-start")
    with gr.Accordion(label("playground.more"), open=False, elem_id="tuning-scratch-more"):
        sizes = [(label(f"tune.size_{size}"), size) for size in _SIZES]
        asked["size"] = gr.Radio(sizes, value="tiny", label=label("tune.size"), elem_id="tuning-scratch-size")
        asked["steps"] = gr.Number(precision=0, label=label("tune.field_steps"), elem_id="tuning-scratch-steps", interactive=True)
    return _Form(asked, shown)


def _on_look(kit: Kit) -> Callable[..., list[Any]]:
    def on_look(request: gr.Request, *, source: str, files: list[str] | None, name: str, size: str, steps: int | None, id: str) -> list[Any]:
        """What it will take; where there are no texts yet, what is missing."""
        from llmops_kit.tuning.pretraining import PretrainSpec
        from llmops_kit.tuning.pretraining.planning import plan_pretraining

        with shown_errors(request):
            require(user_of(request), "participant", resource="jobs")
            language, fields = language_of(request), _fields(size, steps)
            code = scratch_code(kit.settings.workspace, "texts", {"name": _name(name), **fields})
            try:
                with _folder(source, files) as folder:
                    estimate = plan_pretraining(PretrainSpec(folder=str(folder), name=_name(name), **fields), kit.settings).estimate
            except KitError as error:
                return [estimating.show_refusal(error_words(error, language)), gr.update(interactive=False), code, id]
            return [estimating.show_estimate(estimate, language), gr.update(interactive=True), code, id or new_id()]

    return on_look


def _on_start(kit: Kit) -> Callable[..., list[Any]]:
    def on_start(request: gr.Request, *, source: str, files: list[str] | None, name: str, size: str, steps: int | None, id: str) -> list[Any]:
        with shown_errors(request):
            user = require(user_of(request), "participant", resource="jobs")
            with _folder(source, files) as folder:
                job = kit.tuning.pretrain(folder, name=_name(name), owner=user.id, id=id or None, **_fields(size, steps))
            return [new_id(), gr.Tabs(selected="jobs"), *live.draw(kit, request, job.id)]

    return on_start


def _fields(size: str, steps: int | None) -> Mapping[str, Any]:
    return {"size": size, **({} if steps is None else {"steps": int(steps)})}


def _name(typed: str) -> str:
    return recipe.plain(typed).strip().lower() or _NAME


@contextmanager
def _folder(source: str, files: list[str] | None) -> Iterator[Path]:
    """The texts in a folder of their own for as long as the block runs: the job keeps a copy. Raises: InputError where there are none."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "texts"  # the card of the model says this name
        folder.mkdir()
        if source == "sample":
            _write_samples(folder)
        else:
            brought = [Path(file) for file in files or [] if Path(file).suffix.lower() in _KINDS]
            if not brought:
                raise InputError(en=say("tune.missing_texts", "en"), ja=say("tune.missing_texts", "ja"))
            for number, file in enumerate(brought):
                (folder / f"{number:03d}-{file.name}").write_bytes(file.read_bytes())
        yield folder


def _write_samples(folder: Path) -> None:
    """The texts the kit ships: its sample documents, and what its bundled data sets say."""
    from llmops_kit.documents.samples import sample_files
    from llmops_kit.tuning.dataset import list_samples, read_dataset

    for file in sample_files():
        if file.suffix in _KINDS:
            (folder / file.name).write_bytes(file.read_bytes())
    for name in list_samples():
        rows = read_dataset(f"sample:{name}", max_mb=10).examples
        (folder / f"{name}.txt").write_text("\n\n".join(f"{row.question}\n{row.answer}" for row in rows), encoding="utf-8")
