"""The app without a browser: both languages complete, every event named and classed, and the code it shows runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gradio as gr
import pytest

from llmops_kit import open_kit, ui
from llmops_kit.access import User
from llmops_kit.errors import InvalidValue, MissingVariable
from llmops_kit.kit import Kit
from llmops_kit.types import Message, Prompt, Run, Variable, new_id, now
from llmops_kit.ui import answers, code, form, rows
from llmops_kit.ui.controls import SETTINGS, SLIDERS, settings_of, shown_settings
from llmops_kit.ui.history import find_runs
from llmops_kit.ui.models import time_left
from llmops_kit.ui.panes import brief_of, facts_of, follow
from llmops_kit.ui.rating import CRITERIA
from llmops_kit.ui.rows import read_numbers, read_params
from llmops_kit.ui.saving import prompt_of
from llmops_kit.ui.text import error_text, say, sentences

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
    same = {"app.title", "app.english", "app.japanese", "playground.top_p", "batch.csv", "batch.xlsx", "batch.jsonl"}
    same |= {"facts.cost", "facts.schema_bad", "ask.part_of", "tune.file", "tune.method_lora", "tune.n", "tune.range", "tune.on_device"}
    untranslated = [key for key, text in sentences("ja").items() if not kana_or_kanji.search(text) and key not in same]
    assert untranslated == []
    assert [key for key, text in sentences("en").items() if kana_or_kanji.search(text) and key != "app.japanese"] == []


LONG = ("stream", "answer", "chat", "retry", "run_grid", "resume_grid", "download", "watch", "explain", "make_example")
DERIVED = (
    *("documents.page_", "documents.became_", "documents.column_", "documents.warning_", "documents.state_"),
    *("rag_eval.state_", "rag_eval.column_", "ask.mode_", "ask.flag_", "ask.since", "ask.until"),
    *("feedback.column_", "feedback.kind_", "feedback.vote_", "feedback.wandb_"),
    *("campaign.column_", "campaign.kind_", "campaign.preset_", "campaign.raters_", "campaign.source_"),
    *("compare.column_", "compare.measure_", "compare.tags", "duel.vote_", "duel.told_"),
    *("tune.source_", "tune.sample_", "tune.missing_", "tune.role_", "tune.preset_", "tune.method_", "tune.field_", "tune.tile_", "tune.basis_"),
    *("tune.state_", "tune.column_", "tune.rank_", "tune.fact_", "tune.texts_", "tune.size_", "tune.cancel_told", "tune.resume_told", "tune.of_"),
)


def test_every_key_is_used_and_every_used_key_exists() -> None:
    source = "\n".join(path.read_text() for path in UI.rglob("*.py"))
    families = "app|playground|facts|batch|history|versions|models|time|tab|error|documents|ask|evidence|rag_eval|compare|duel|feedback|campaign|rate|tune|bell"
    used = set(re.findall(rf"""["']((?:{families})\.[a-z_]+)["']""", source))
    assert used <= sentences("en").keys()
    derived = ("facts.", "batch.", "history.", "models.", *DERIVED)  # also used as f"{family}{name}"
    used |= {f"playground.{name}" for name in SLIDERS} | {f"rate.{name}" for name in CRITERIA}
    assert [key for key in sentences("en") if key not in used and not key.startswith(derived)] == []


def test_every_event_is_named_once_and_quick_ones_never_wait(blocks: gr.Blocks) -> None:
    functions = list(blocks.fns.values())
    names = [function.api_name for function in functions if function.api_name]
    assert len(names) == len(set(names))
    assert all(name for name in names)
    for function in functions:
        if function.fn is not None and not str(function.api_name).startswith(LONG):
            assert function.concurrency_limit is None, function.api_name


def test_a_sentence_with_a_persons_braces_is_filled_once() -> None:
    assert say("playground.saved", "ja", name="{version}", version=2) == "{version}をバージョン2として保存しました。"


@pytest.mark.parametrize(("text", "numbers"), [("0, 0.8", [0.0, 0.8]), ("０．５、１", [0.5, 1.0]), ("", [])])
def test_temperatures_are_read_as_people_type_them(text: str, numbers: list[float]) -> None:
    assert read_numbers(text) == numbers


@pytest.mark.parametrize(
    ("name", "text"), [("temperature", "0, warm"), ("temperature", "2.1"), ("temperature", "nan"), ("top_p", "-0.1"), ("max_tokens", "8.5")]
)
def test_a_setting_that_does_not_serve_is_named(name: str, text: str) -> None:
    with pytest.raises(InvalidValue) as error:
        read_numbers(text, name)
    assert name in error.value.text("ja") and text.split(", ")[-1] in error.value.text("ja")


def test_settings_left_empty_stay_as_the_prompt_says_and_lists_multiply() -> None:
    assert read_params(temperature="", top_p="", max_tokens="") == [{}]
    assert read_params(temperature="0、0.7", top_p="", max_tokens="8, 16") == [
        {"temperature": value, "max_tokens": tokens} for value in (0.0, 0.7) for tokens in (8, 16)
    ]
    assert all(type(each["max_tokens"]) is int for each in read_params(temperature="", top_p="", max_tokens="8"))


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "0秒"), (59, "59秒"), (200, "3分20秒"), (7500, "2時間5分"), (None, "?")])
def test_time_left_reads_like_a_clock(seconds: float | None, text: str) -> None:
    assert time_left(seconds, "ja") == text


def test_a_pane_sends_what_it_shows(kit: Kit) -> None:
    controls = {"temperature": 0.0, "max_tokens": 64.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0, "seed": -1, "stop": "。\n\n\\nEND"}
    sent = {"temperature": 0.0, "max_tokens": 64, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0, "stop": ["。", "\nEND"]}
    assert settings_of(kit, "starter-lm", controls) == sent
    assert settings_of(kit, "qwen3-0.6b", controls) == sent  # whose own top_p and top_k would apply if these were left out
    assert settings_of(kit, "starter-lm", {**controls, "seed": 7})["seed"] == 7
    assert settings_of(kit, "starter-lm", {**controls, "stop": ""}, Prompt(name="p", messages=(), params={"stop": "x"}))["stop"] == []


def test_the_settings_a_model_server_would_take_anyway_are_not_sent_to_it(kit: Kit) -> None:
    shown = dict(zip(SETTINGS, shown_settings(kit, "gpt-5.4-mini", {}), strict=True))
    assert shown["temperature"] == 1.0
    assert settings_of(kit, "gpt-5.4-mini", shown) == {"max_tokens": 2048}
    assert settings_of(kit, "gpt-5.4-mini", {**shown, "temperature": 0.5}) == {"max_tokens": 2048, "temperature": 0.5}


def test_the_sliders_show_the_models_own_defaults_under_those_of_the_prompt(kit: Kit) -> None:
    shown = dict(zip(SETTINGS, shown_settings(kit, "qwen3-0.6b", {"temperature": 0.3, "max_tokens": 100_000, "stop": ["a\nb"]}), strict=True))
    assert shown == {"temperature": 0.3, "max_tokens": 4096, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.0, "seed": -1, "stop": "a\\nb"}
    assert shown_settings(kit, "a-model-that-left", {})[0] == 0.0


def make_run(**fields: object) -> Run:
    """A finished call as the store gives it."""
    made = {"id": new_id(), "created_at": now(), "participant": "local", "app": "playground", "model": "a-model-that-left", "prompt_sha256": ""}
    return Run(**{**made, "messages": (Message("user", "問い"),), "output": "答え", "finish_reason": "stop", **fields})  # type: ignore[arg-type]


def test_a_run_whose_model_and_prompt_are_gone_is_still_read(kit: Kit) -> None:
    run = make_run(prompt_name="gone", output_tokens=3, latency_s=1.5)
    assert facts_of(kit, run, "ja") == "合計1.50秒 · –→~3トークン"
    assert brief_of(make_run(finish_reason="length", latency_s=1.5), "en") == "1.50 s in all · – → 0 tokens · cut at the token limit"
    assert "内容フィルター" in facts_of(kit, make_run(finish_reason="content_filter"), "ja")


def test_an_error_is_read_in_the_readers_language(kit: Kit) -> None:
    error = MissingVariable(prompt="要約", variable="text")
    assert error_text(str(error), "ja") == error.text("ja") and error_text(str(error), "en") == error.text("en")
    assert error_text("ValueError: 値が違います", "ja") == "ValueError: 値が違います"
    assert error_text("A: b\nc", "ja") == "A: b\nc" and error_text(None, "ja") == ""
    shown = facts_of(kit, make_run(finish_reason="error", error=str(error)), "en")
    assert error.text("en") in shown and error.text("ja") not in shown


def test_the_owner_finds_the_runs_of_the_notebooks_and_of_nobody_else(tmp_path: Path) -> None:
    with open_kit(tmp_path / "workspace") as kit:
        mine, notebook, other = (make_run(participant=whose) for whose in ("me", "local", "somebody"))
        for run in (mine, notebook, other):
            kit.store.append(run)
        assert [run.id for run in find_runs(kit, User("me"))] == [notebook.id, mine.id]
        assert [run.id for run in find_runs(kit, User("me", "participant"))] == [mine.id]


def test_a_copy_is_told_from_its_original(tmp_path: Path) -> None:
    with open_kit(tmp_path / "workspace") as kit:
        before = dict((name, shown) for shown, name in form.choices(kit, "ja"))
        assert "（" not in before["summarize"]
        kit.prompts.save(replace(kit.prompts.get("summarize"), name="my_summary", text=""), message="copy")
        after = dict((name, shown) for shown, name in form.choices(kit, "ja"))
        assert after["my_summary"] == before["summarize"] + "（my_summary）" and after["summarize"] == before["summarize"] + "（summarize）"
        assert after["translate"] == before["translate"]


def test_a_saved_pane_keeps_the_settings_that_do_something(kit: Kit) -> None:
    params = {"temperature": 0.7, "max_tokens": 64, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}
    last = {"request": {"prompt": "summarize", "version": "latest", "system": ""}, "model": "starter-lm", "params": params}
    assert prompt_of(kit, last, "mine ").params == {"temperature": 0.7, "max_tokens": 64}
    saved = prompt_of(kit, {**last, "model": "qwen3-0.6b"}, "mine").params  # which has a top_p and a top_k of its own
    assert saved == {"temperature": 0.7, "max_tokens": 64, "top_p": 1.0, "top_k": 0}


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
    call = {"variables": {"text": '会議は3時です。\n"引用"と{{波括弧}}。'}, "model": "starter-lm", "temperature": 0.0, "max_tokens": 16}
    here = kit.playground.run("summarize", **call)
    names = run_snippet(code.run_code(Path("workspace"), "summarize", version="latest", **call, system=""), tmp_path, monkeypatch)
    assert names["run"].output == here.output and names["run"].messages == here.messages


def test_the_code_of_a_chat_of_a_version_and_of_a_label_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chat = code.run_code(Path("workspace"), [{"role": "user", "content": "やあ"}], model="starter-lm", max_tokens=4, stop=["。"])
    assert run_snippet(chat, tmp_path, monkeypatch)["run"].messages[0].content == "やあ"
    with open_kit(tmp_path / "workspace") as kit:
        kit.prompts.label("summarize", 1, "production")
    for version in ("1", "production"):
        snippet = code.run_code(Path("workspace"), "summarize", version=version, variables={"text": "a"}, model="starter-lm", max_tokens=2)
        names = run_snippet(snippet, tmp_path, monkeypatch)
        assert names["run"].prompt_version == 1


def test_the_code_of_a_batch_maps_its_columns_and_finds_its_answers_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "rows.csv").write_text("番号,本文\n1,会議は3時です。\n2,駅は近いです。\n", encoding="cp932")
    lines = code.rows_code([], file="rows.csv", encoding="cp932", mapping={"instruction": None, "text": "本文"})
    batch = code.grid_code(Path("workspace"), ["summarize"], ["starter-lm"], rows=lines, params=[{"temperature": 0.0, "max_tokens": 4}])
    table = run_snippet(batch, tmp_path, monkeypatch)["table"]
    assert list(table.text) == ["会議は3時です。", "駅は近いです。"] and table.error.isna().all()
    for snippet in (code.answers_code(Path("workspace"), table.grid_id[0]), code.resume_code(Path("workspace"), table.grid_id[0])):
        again = run_snippet(snippet, tmp_path, monkeypatch)["table"]
        assert list(again.run_id) == list(table.run_id) and list(again.output) == list(table.output)


def test_the_code_of_a_batch_of_sample_rows_needs_no_file_and_keeps_the_prompts_settings(kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = rows.sample_rows(kit, ["extract_json"])
    snippet = code.grid_code(Path("workspace"), ["extract_json"], ["starter-lm"], rows=code.rows_code(samples.rows), params=[{}])
    assert "read_rows" not in snippet and "params" not in snippet
    names = run_snippet(snippet, tmp_path, monkeypatch)
    assert len(names["table"]) == 2 and names["table"].error.isna().all()
    with open_kit(tmp_path / "workspace") as opened:
        run = opened.playground.get(names["table"].run_id[0])
        assert run is not None and run.params["max_tokens"] == opened.prompts.get("extract_json").params["max_tokens"]


def test_the_code_of_the_history_and_of_the_models_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_kit(tmp_path / "workspace") as kit:
        run = kit.playground.run([{"role": "user", "content": "やあ"}], model="starter-lm", max_tokens=2)
    for text in (code.history_code(Path("workspace"), run.id), code.history_code(Path("workspace"), None), code.models_code(Path("workspace"))):
        assert "from llmops_kit import open_kit" in text
        run_snippet(text, tmp_path, monkeypatch)


def test_a_batch_is_read_in_the_readers_language_while_it_runs_and_after(kit: Kit) -> None:
    kit.models.add("dead", provider="openai", base_url="http://127.0.0.1:9/v1")
    asked = {"prompts": "extract_json", "models": ["starter-lm", "dead"], "rows": [{"text": "会議は3時です。"}], "params": {"max_tokens": 4}}
    grid_id = kit.playground.grid(**asked, progress=False).grid_id[0]
    whole, newest = answers.find_answers(kit, grid_id), answers.NewestAnswers(kit, grid_id).table()
    for table in (whole, newest):
        shown = answers.readable(table, "ja").set_index("モデル")
        assert set(shown.index) == {"starter-lm", "dead"} and set(shown["行"]) == {1}
        assert "サーバー" in shown.loc["dead", "エラー"] and "\n" not in shown.loc["dead", "エラー"]
    assert answers.readable(whole, "en").set_index("Model").loc["starter-lm", "Schema"] == "✗"
    assert "server" in answers.readable(whole, "en").set_index("Model").loc["dead", "Error"]


def test_the_wandb_table_of_a_batch_is_one_wandb_takes(kit: Kit) -> None:
    import wandb

    grid_id = kit.playground.grid("summarize", "starter-lm", [{"text": "会議は3時です。"}], {"max_tokens": 4}, progress=False).grid_id[0]
    table = wandb.Table(**json.loads(answers.make_wandb_table(kit, grid_id)))
    assert len(table.data) == 1 and "会議は3時です。" in table.data[0][table.columns.index("variables")]
    assert answers.name_table(grid_id) in answers.tell_wandb(kit, grid_id, "ja")


def test_the_code_of_two_versions_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops_kit.prompts import parse

    with open_kit(tmp_path / "workspace") as kit:
        kit.prompts.save(parse(kit.prompts.get("summarize").text.replace("3文", "2文")), message="短く")
    run_snippet(code.version_code(Path("workspace"), "summarize", "1", "2"), tmp_path, monkeypatch)
