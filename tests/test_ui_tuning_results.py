"""What the Fine-tune tab does with what came out: cards for their owners, adapters out as a ZIP and in as files, the playground, the duel.

And what starts from scratch, and the code and words that are shown."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from llmops_kit import Kit, TuneSpec
from llmops_kit.errors import AccessDenied, InputError, InvalidValue, KitError
from llmops_kit.settings import Settings
from llmops_kit.types import Comparison, Job, now
from llmops_kit.ui.tuning import adapters, carrying, code, opening, planning, recipe, scratch, showing, whose
from tests.small_adapters import OSAKA, ROWS, train_small
from tests.test_tuning_results import publish
from tests.test_ui_tuning import FIRST, asked_by
from tests.test_ui_tuning import kit as kit
from tests.tiny_model import STARTER_FOLDER


@pytest.fixture(scope="module")
def osaka(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from llmops_kit.models import Models

    if not (STARTER_FOLDER / "SHA256SUMS").is_file():
        pytest.skip("the weights of starter-lm are not there")
    models = Models(Settings(workspace=tmp_path_factory.mktemp("workspace")))
    return train_small(models, "starter-lm", OSAKA, tmp_path_factory.mktemp("osaka"), epochs=2)


def test_an_adapter_has_a_card_for_its_owner_goes_out_as_a_zip_and_comes_back(kit: Kit, osaka: Path, tmp_path: Path) -> None:
    entry = publish(kit, osaka)
    owner, other = asked_by("yamada"), asked_by("taro")
    shown = dict(zip(adapters.SHOWN, adapters.show(kit, owner, None), strict=True))
    assert shown["chooser"]["value"] == entry.id and "4.200 → 0.100" in shown["card"] and OSAKA[0] in shown["card"]
    assert adapters.own_models(kit, other) == [] and "アダプターはまだありません" in adapters.show(kit, other, entry.id)[1]
    with pytest.raises(AccessDenied):
        whose.require_own_model(kit, other, entry.id)
    with pytest.raises(gr.Error):
        list(carrying._on_export(kit, merge=False)(other, model=entry.id))
    packed = carrying.pack(kit, entry.id, merge=False)
    with zipfile.ZipFile(packed) as archive:
        names = {Path(name).name for name in archive.namelist()}
        archive.extractall(tmp_path / "home")
    assert {carrying.CONFIG, carrying.WEIGHTS, "README.md"} <= names and packed.suffix == ".zip"
    files = [str(next((tmp_path / "home").rglob(name))) for name in (carrying.CONFIG, carrying.WEIGHTS)]
    with pytest.raises(InputError, match="safetensors"):
        carrying._take_in(kit, files[:1], "starter-lm", "x")
    with pytest.raises(InputError):
        carrying._take_in(kit, files, "starter-lm", " ")
    back = carrying._take_in(kit, files, "starter-lm", "Back")
    assert back == "starter-lm+back" and back in adapters.own_models(kit, other)


def test_trying_an_adapter_puts_base_and_tuned_side_by_side_with_a_question(kit: Kit, osaka: Path) -> None:
    entry = publish(kit, osaka)
    nouns, inner, count, first, second, message = opening._on_try(kit)(asked_by("yamada"), model=entry.id)
    assert (nouns.selected, inner.selected, count) == ("playground", "try", 2)
    assert (first["value"], second["value"], message) == ("starter-lm", entry.id, ROWS[0]) and entry.id in second["choices"]
    with pytest.raises(gr.Error):
        opening._on_try(kit)(asked_by("taro"), model=entry.id)


def test_a_comparison_with_the_base_runs_behind_the_page_and_becomes_a_duel(kit: Kit, osaka: Path) -> None:
    entry = publish(kit, osaka)
    parts = SimpleNamespace(measurements=adapters.Measurements())
    with pytest.raises(gr.Error):
        adapters.on_compare(kit, parts)(asked_by("taro"), model=entry.id)  # type: ignore[arg-type]
    adapters.on_compare(kit, parts)(asked_by("yamada"), model=entry.id)  # type: ignore[arg-type]
    bar, cancel, deltas, duel, compared = list(adapters.on_watch(kit, parts)(asked_by("yamada")))[-1]  # type: ignore[arg-type]
    found = kit.store.get(Comparison, compared)
    assert found is not None and found.participant == "yamada" and duel["visible"] is True and cancel["visible"] is False
    assert entry.id in bar and "n = " in deltas
    assert list(adapters.on_watch(kit, parts)(asked_by("taro"))) == [[gr.skip()] * 5]  # type: ignore[arg-type]


# --- from scratch, and the code


def test_texts_of_the_page_are_estimated_and_missing_ones_asked_for(kit: Kit, tmp_path: Path) -> None:
    look = scratch._on_look(kit)
    given: dict[str, Any] = {"name": "my-lm", "size": "tiny", "steps": None, "id": ""}
    estimate, start, shown, id = look(asked_by("hanako"), source="sample", files=None, **given)
    assert "ステップ" in estimate and start["interactive"] is True and id and "kit.tuning.pretrain('texts'" in shown
    estimate, start, _, _ = look(asked_by("hanako"), source="file", files=None, **given)
    assert "2,000字" in estimate and start["interactive"] is False
    (tmp_path / "a.txt").write_text("春の野に出て若菜を摘む。" * 300, encoding="utf-8")
    estimate, start, _, _ = look(asked_by("hanako"), source="file", files=[str(tmp_path / "a.txt")], **{**given, "steps": 20})
    assert "20ステップ" in estimate and start["interactive"] is True


def test_names_are_read_as_people_type_them_and_wrong_ones_refused(kit: Kit) -> None:
    spec = TuneSpec(data=FIRST)
    read = recipe.read(spec, {"name": "Ｐｏｌｉｔｅ２", "targets": "q_proj、v_proj", "prompts": "一つ目\n---\n二つ目", "rank": None, "epochs": 2})
    assert (read.name, read.targets, read.prompts, read.rank, read.epochs) == ("polite2", ("q_proj", "v_proj"), ("一つ目", "二つ目"), 8, 2.0)
    with pytest.raises(InvalidValue, match="name"):
        recipe.read(spec, {"name": "日本語"})


def test_the_code_of_a_job_and_of_an_adapter_is_code_of_the_kit() -> None:
    for text in (code.job_code(Path("w"), "j"), code.adapter_code(Path("w"), "starter-lm+x"), code.scratch_code(Path("w"), "texts", {"size": "tiny"})):
        compile(text, "snippet", "exec")
        assert text.startswith("from llmops_kit import open_kit") and "kit.tuning." in text


def test_a_state_is_told_in_words_and_a_stop_under_way_too() -> None:
    job = Job("i", now(), "me", "tune", "n", {}, state="running", cancelled_by="me")
    assert showing.state_of(job, "ja") == "◐ 停止しています"
    assert {showing.state_of(replace(job, state=state, cancelled_by=None), "en")[0] for state in ("queued", "finished", "failed")} == set("○●▲")


def test_an_error_of_the_kit_carries_both_languages() -> None:
    with pytest.raises(KitError) as error:
        planning.spec_of({}, {})
    assert "データ" in error.value.text("ja") and "data" in error.value.text("en")
