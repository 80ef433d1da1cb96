"""What a newcomer to the Fine-tune tab met in a real browser and should not meet again: words, names, blank fields, plans measured too late."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pandas as pd
import pytest

from llmops_kit import Kit, TuneSpec
from llmops_kit.errors import InvalidValue, UnreadableFile
from llmops_kit.starter.training import plan_for
from llmops_kit.tuning.card import Card, write_card
from llmops_kit.tuning.dataset import read_dataset
from llmops_kit.tuning.pretraining import packing, running
from llmops_kit.tuning.pretraining.corpus import read_corpus
from llmops_kit.ui import events
from llmops_kit.ui.text import error_words, shown_errors
from llmops_kit.ui.tuning import adapters, carrying, curve, live, planning, recipe, scratch, watch
from llmops_kit.ui.tuning.start import _on_tried
from tests.test_tuning_results import publish
from tests.test_ui_tuning import FIRST, FORM, add_event, add_job, asked_by, fields_of, job_page, page_of, plan
from tests.test_ui_tuning import kit as kit
from tests.test_ui_tuning_results import osaka as osaka


def test_an_error_names_the_field_as_the_page_does_and_markup_in_it_stays_text() -> None:
    with pytest.raises(InvalidValue) as raised:
        TuneSpec(data=FIRST, eval_share=100)
    assert error_words(raised.value, "ja").startswith("評価に残す割合に「100」は使えません。使える値：")
    assert error_words(raised.value, "en").startswith("“100” does not work for Share kept for evaluation.")
    own = InvalidValue(en="Own words.", ja="専用の文です。", name="rank", value=3)
    assert error_words(own, "ja") == "専用の文です。"
    with pytest.raises(gr.Error) as told, shown_errors(asked_by("hanako")):
        TuneSpec(data=FIRST, name="<b>x</b>")
    assert "名前に「&lt;b&gt;x&lt;/b&gt;」は使えません" in told.value.message


def test_rows_without_answers_are_said_to_have_none_and_not_to_have_unknown_columns(kit: Kit, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    file.write_text("指示,回答\n" + "".join(f"質問{number},\n" for number in range(5)), encoding="utf-8")
    shown = plan(kit, source=str(file))
    assert "5行のどれも学習に使えません" in shown["report"] and shown["start"]["interactive"] is False


@pytest.mark.parametrize(("label", "missing"), [(True, "悪い（false）"), (False, "良い（true）")])
def test_labels_that_are_all_the_same_are_refused_before_the_start(kit: Kit, tmp_path: Path, label: bool, missing: str) -> None:
    file = tmp_path / "a.jsonl"
    rows = [{"prompt": f"質問{number}", "completion": f"答え{number}", "label": label} for number in range(6)]
    file.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    shown = plan(kit, source=str(file))
    assert shown["start"]["interactive"] is False and missing in shown["report"]
    dataset = read_dataset([*rows, {"prompt": "q", "completion": "a", "label": not label}], max_mb=1)
    assert dataset.refusal is None


def test_what_was_measured_stays_with_its_plan_whatever_it_is_called(kit: Kit) -> None:
    shown = plan(kit)
    asked = shown["asked"]
    measured = kit.tuning.estimate(TuneSpec(**asked["spec"])).__class__(**{**vars(kit.tuning.estimate(TuneSpec(**asked["spec"]))), "basis": "trial"})
    tried = {"spec": asked["spec"], "estimate": measured}
    fields = {**fields_of(shown), "tried": tried}
    named = page_of(planning.change(kit, asked_by("hanako"), asked, {**fields, "name": "greeting"}))
    assert "実測による見積もり" in named["estimate"]
    other = page_of(planning.change(kit, asked_by("hanako"), asked, {**fields, "rank": 4}))
    assert "実測" not in other["estimate"]
    bar, estimate = _on_tried()(asked_by("hanako"), asked=named["asked"], tried=tried, **FORM)
    assert bar == "" and "実測による見積もり" in estimate
    bar, estimate = _on_tried()(asked_by("hanako"), asked=other["asked"], tried=tried, **FORM)
    assert "計画が変わった" in bar and estimate == gr.skip()


def test_a_name_that_is_taken_is_told_while_it_is_typed(kit: Kit) -> None:
    add_job(kit, "taro", spec={"base": "starter-lm", "data": FIRST, "name": "polite"}, state="running")
    shown = plan(kit)
    taken = page_of(planning.change(kit, asked_by("hanako"), shown["asked"], {**fields_of(shown), "name": "ｐｏｌｉｔｅ"}))
    assert "「polite」は使われています" in taken["estimate"] and taken["start"]["interactive"] is False
    free = page_of(planning.change(kit, asked_by("hanako"), taken["asked"], {**fields_of(shown), "name": "polite-2"}))
    assert "使われています" not in free["estimate"] and free["start"]["interactive"] is True


def test_an_emptied_field_is_again_what_was_proposed() -> None:
    spec = TuneSpec(data=FIRST, rank=4)
    assert recipe.read(spec, {"rank": None}, {"rank": 16}).rank == 16
    assert recipe.read(spec, {"rank": None}).rank == 4


def test_from_scratch_takes_names_as_typed_refuses_no_steps_and_shows_no_folder_of_the_server(kit: Kit, tmp_path: Path) -> None:
    assert scratch._name(" ｋｉｓｅｔｓｕ ") == "kisetsu" and scratch._name("") == "my-lm"
    given: dict[str, Any] = {"source": "sample", "files": None, "name": "my-lm", "size": "tiny", "steps": 0, "id": ""}
    estimate, start, _, _ = scratch._on_look(kit)(asked_by("hanako"), **given)
    assert "ステップ数に「0」は使えません" in estimate and start["interactive"] is False
    estimate, start, _, _ = scratch._on_look(kit)(asked_by("hanako"), **{**given, "steps": None, "name": "季節"})
    assert "「季節」は使えません" in estimate and start["interactive"] is False
    (tmp_path / "empty.txt").touch()
    with pytest.raises(InvalidValue) as raised:
        read_corpus(tmp_path, max_mb=1)
    assert str(tmp_path) not in str(raised.value) and "合計0字" in raised.value.text("ja")


def test_a_model_from_scratch_is_not_offered_to_be_compared_with_a_base_or_merged_into_one(kit: Kit, osaka: Path) -> None:
    entry = publish(kit, osaka)
    shown = dict(zip(adapters.SHOWN, adapters.show(kit, asked_by("yamada"), entry.id), strict=True))
    assert shown["compare"]["visible"] is shown["merged"]["visible"] is True
    folder = kit.settings.adapters_folder / "alone"
    folder.mkdir()
    write_card(folder, Card(base="", owner="yamada", created_at="2999-01-01T00:00:00+00:00"))
    kit.models.add("alone", provider="huggingface", model=str(folder))
    shown = dict(zip(adapters.SHOWN, adapters.show(kit, asked_by("yamada"), "alone"), strict=True))
    assert shown["chooser"]["value"] == "alone" and shown["compare"]["visible"] is shown["merged"]["visible"] is False
    made = replace(add_job(kit, "yamada"), kind="pretrain")
    assert live._heavy(kit, made, None, "ja")["compare"]["visible"] is False
    with scratch._folder("sample", None) as texts:
        assert texts.name == "texts"


def test_a_model_from_scratch_has_no_base_in_its_curve() -> None:
    metrics = pd.DataFrame({"step": [0, 5, 10], "loss": [None, 4.0, 3.0], "eval_loss": [6.0, None, 3.5]})
    drawn = curve.show_curve(metrics, 10, "ja", pretrained=True)
    assert "ベース" not in drawn and "ランダムな重み" in drawn and "学習前のベース" in curve.show_curve(metrics, 10, "ja")


def test_the_steps_of_copying_are_none_of_the_curve() -> None:
    plan_ = plan_for("small", "cpu")
    copies = [packing.is_copying(plan_, step) for step in range(200)]
    assert all(copies[: plan_.copy_steps]) and 0 < sum(copies[plan_.copy_steps :]) < 40
    told: list[int] = []
    work = SimpleNamespace(progress=lambda *_, **__: None, event=lambda kind, step, **_: told.append(step))
    packed = SimpleNamespace(steps_per_epoch=10)
    for step in range(1, 201):
        progress = running._Progress(step=step, tokens=1, training_s=1.0)
        run = SimpleNamespace(_progress=progress, _plan=plan_, _work=work, _packed=packed, _logged=0.0)
        running._Run._tell_step(run, SimpleNamespace(loss=1.0, grad_norm=1.0, tokens=1))  # type: ignore[arg-type]
    assert told == [step for step in range(1, 201) if not copies[step - 1]]


def test_a_cancel_before_the_start_does_not_speak_of_what_was_learnt(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(watch.gr, "Info", said.append)
    job = add_job(kit, "hanako")
    page = job_page(watch._on_act(kit, "cancel")(asked_by("hanako"), job=job.id))
    assert "キャンセル済み" in page["card"] and "まだ始まっていなかった" in said[0]
    begun = add_job(kit, "hanako", state="running", progress={"step": 3, "steps": 9})
    add_event(kit, begun, 3, "train", loss=1.0)
    watch._on_act(kit, "cancel")(asked_by("hanako"), job=begun.id)
    assert "そこまでに学んだこと" in said[1]


def test_a_zip_of_an_adapter_comes_back_and_what_leaves_names_nobody(kit: Kit, osaka: Path, tmp_path: Path) -> None:
    entry = publish(kit, osaka)
    card = kit.tuning.card(entry.id)
    packed = carrying.pack(kit, entry.id, merge=False)
    with zipfile.ZipFile(packed) as archive:
        readme = archive.read(next(name for name in archive.namelist() if name.endswith("README.md"))).decode()
    assert card.owner and card.owner not in readme and str(card.samples[0]["text"]) not in readme
    back = carrying._take_in(kit, [str(packed)], "starter-lm", "Ｂａｃｋ")
    assert back == "starter-lm+back" and kit.tuning.card(back).warnings == card.warnings
    with pytest.raises(InvalidValue, match="name"):
        carrying._take_in(kit, [str(packed)], "starter-lm", "../x<b>")
    broken = tmp_path / "broken.zip"
    broken.write_bytes(packed.read_bytes()[:500])
    with pytest.raises(UnreadableFile, match="ZIP"):
        carrying._take_in(kit, [str(broken)], "starter-lm", "x")


def test_a_zip_writes_only_the_files_of_an_adapter_and_only_beside_its_configuration(tmp_path: Path) -> None:
    file, place = tmp_path / "a.zip", tmp_path / "place"
    place.mkdir()
    with zipfile.ZipFile(file, "w") as archive:
        for name in ("../../card.json", "evil.py", "a/adapter_config.json", "a/adapter_model.safetensors", "a/b/adapter_config.json", "a/../../x.jinja"):
            archive.writestr(name, name)
    found = carrying._unpack(file, place)
    assert sorted(found) == ["adapter_config.json", "adapter_model.safetensors"] and found["adapter_config.json"].read_text() == "a/adapter_config.json"
    assert sorted(each.name for each in tmp_path.rglob("*") if each.is_file()) == ["a.zip", "adapter_config.json", "adapter_model.safetensors"]


def test_no_event_shows_on_a_part_of_the_page_that_it_waits() -> None:
    """A hidden sign of waiting is redrawn at every frame; with the timers of the page that was much of what an idle page cost."""
    for how in (events.QUICK, events.GENERATION, events.BATCH):
        assert how["show_progress"] == "hidden" and how["show_progress_on"] == []
