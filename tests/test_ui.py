"""The app without a browser: both languages complete, every event named and classed, and the code it shows runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from llmops_kit import open_kit, ui
from llmops_kit.kit import Kit
from llmops_kit.types import Message, Prompt, Variable
from llmops_kit.ui import code, form
from llmops_kit.ui.batch import read_numbers
from llmops_kit.ui.models import time_left
from llmops_kit.ui.panes import follow, settings_of
from llmops_kit.ui.text import say, sentences

UI = Path(ui.__file__).parent


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    with open_kit(tmp_path_factory.mktemp("kit"), local_threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def blocks(kit: Kit) -> gr.Blocks:
    return ui.build(kit)


def test_both_languages_have_the_same_keys_and_blanks() -> None:
    english, japanese = sentences("en"), sentences("ja")
    assert english.keys() == japanese.keys()
    for key in english:
        assert set(re.findall(r"\{(\w+)\}", english[key])) == set(re.findall(r"\{(\w+)\}", japanese[key])), key
        assert english[key].strip() and japanese[key].strip()


def test_japanese_is_japanese_and_english_is_not() -> None:
    kana_or_kanji = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
    same = {"app.title", "app.english", "app.japanese", "playground.top_p", "batch.csv", "batch.xlsx", "batch.jsonl", "facts.cost", "facts.schema_bad"}
    untranslated = [key for key, text in sentences("ja").items() if not kana_or_kanji.search(text) and key not in same]
    assert untranslated == []
    assert [key for key, text in sentences("en").items() if kana_or_kanji.search(text) and key != "app.japanese"] == []


def test_every_key_is_used_and_every_used_key_exists() -> None:
    source = "\n".join(path.read_text() for path in UI.rglob("*.py"))
    used = set(re.findall(r"""["']((?:app|playground|facts|batch|history|versions|models|time|tab|error)\.[a-z_]+)["']""", source))
    assert used <= sentences("en").keys()
    families = ("facts.", "batch.", "history.", "models.")  # also used as f"{family}{name}"
    assert [key for key in sentences("en") if key not in used and not key.startswith(families)] == []


def test_every_event_is_named_once_and_quick_ones_never_wait(blocks: gr.Blocks) -> None:
    functions = list(blocks.fns.values())
    names = [function.api_name for function in functions if function.api_name]
    assert len(names) == len(set(names))
    assert all(name for name in names)
    for function in functions:
        if function.fn is not None and not str(function.api_name).startswith(("stream", "chat", "retry", "run_grid", "resume_grid", "download")):
            assert function.concurrency_limit is None, function.api_name


def test_a_sentence_with_a_persons_braces_is_filled_once() -> None:
    assert say("playground.saved", "ja", name="{version}", version=2) == "{version}をバージョン2として保存しました。"


@pytest.mark.parametrize(("text", "numbers"), [("0, 0.8", [0.0, 0.8]), ("０．５、１", [0.5, 1.0]), ("", [0.0])])
def test_temperatures_are_read_as_people_type_them(text: str, numbers: list[float]) -> None:
    assert read_numbers(text) == numbers


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0秒"), (59, "59秒"), (200, "3分20秒"), (7500, "2時間5分"), (None, "?")])
def test_time_left_reads_like_a_clock(seconds: float | None, text: str) -> None:
    assert time_left(seconds, "ja") == text


def test_neutral_settings_are_left_to_the_model() -> None:
    controls = {"temperature": 0.0, "max_tokens": 64.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0, "seed": -1, "stop": "。\n\nEND"}
    assert settings_of(controls) == {"temperature": 0.0, "max_tokens": 64, "stop": ["。", "END"]}


def test_a_follow_up_continues_the_panes_own_conversation() -> None:
    last = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    asked = follow({"message": "c", "system": "s"}, last)
    assert [turn["role"] for turn in asked["messages"]] == ["system", "user", "assistant", "user"]
    assert len(last["messages"]) == 2


def test_the_form_reads_back_what_a_person_filled_in() -> None:
    prompt = Prompt(
        name="p",
        messages=(Message("user", "{{a}}{{b}}{{c}}"),),
        variables=(Variable("a"), Variable("b", "select", options=("x", "y")), Variable("c", "number")),
    )
    fields = {"text_0": "有給", "select_1": "y", "number_2": 3.0, "text_1": "ignored"}
    assert form.read(prompt, fields) == {"a": "有給", "b": "y", "c": 3.0}


def run_snippet(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict:
    """Execute a snippet as a notebook would, in a folder of its own."""
    monkeypatch.chdir(folder)
    names: dict = {}
    exec(compile(text, "snippet", "exec"), names)
    names["kit"].close()
    return names


def test_the_code_of_a_run_runs_and_does_the_same(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    call = {"variables": {"text": "会議は3時です。\n\"引用\"と{{波括弧}}。"}, "model": "starter-lm", "temperature": 0.0, "max_tokens": 16}
    here = kit.playground.run("summarize", **call)
    names = run_snippet(code.run_code(Path("workspace"), "summarize", version="latest", **call, system=""), tmp_path, monkeypatch)
    assert names["run"].output == here.output and names["run"].messages == here.messages


def test_the_code_of_a_chat_of_a_version_and_of_a_label_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = code.run_code(Path("workspace"), [{"role": "user", "content": "やあ"}], model="starter-lm", max_tokens=4, stop=["。"])
    assert run_snippet(chat, tmp_path, monkeypatch)["run"].messages[0].content == "やあ"
    with open_kit(tmp_path / "workspace") as kit:
        kit.prompts.label("summarize", 1, "production")
    for version in ("1", "production"):
        names = run_snippet(code.run_code(Path("workspace"), "summarize", version=version, variables={"text": "a"}, model="starter-lm", max_tokens=2), tmp_path, monkeypatch)
        assert names["run"].prompt_version == 1


def test_the_code_of_a_batch_of_the_history_and_of_the_models_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.csv").write_text("text\n会議は3時です。\n駅は近いです。\n", encoding="cp932")
    batch = code.grid_code(Path("workspace"), ["summarize"], ["starter-lm"], file="rows.csv", params=[{"temperature": 0.0, "max_tokens": 4}], repeats=1)
    table = run_snippet(batch, tmp_path, monkeypatch)["table"]
    assert len(table) == 2
    for text in (code.history_code(Path("workspace"), table.run_id[0]), code.history_code(Path("workspace"), None), code.models_code(Path("workspace"))):
        assert "from llmops_kit import open_kit" in text
        run_snippet(text, tmp_path, monkeypatch)


def test_the_code_of_two_versions_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops_kit.prompts import parse

    with open_kit(tmp_path / "workspace") as kit:
        kit.prompts.save(parse(kit.prompts.get("summarize").text.replace("3文", "2文")), message="短く")
    run_snippet(code.version_code(Path("workspace"), "summarize", "1", "2"), tmp_path, monkeypatch)
