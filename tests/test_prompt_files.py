"""The prompt file: whatever a message holds comes back; whatever people drop in is read or refused with a reason."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llmops_kit.errors import InvalidValue, UnreadableFile
from llmops_kit.kit import library_folder
from llmops_kit.prompts import complete, decode, example_values, find_variables, format, parse, read, render
from llmops_kit.prompts.file_format import content_of
from llmops_kit.types import Message, Prompt, Variable

SHIPPED = sorted(library_folder().glob("*.md"))
EXPECTED = {
    "summarize",
    "rewrite_politely",
    "extract_json",
    "classify",
    "translate",
    "answer_from_sources",
    "condense_question",
    "minutes_to_actions",
    "brainstorm",
    "critique",
    "judge_pairwise",
    "judge_rubric",
    "generate_questions",
    "reply_email",
    "explain_simply",
}

headings = ["# user", "# system ", "\\# assistant", "\\\\# user", "# user\r", "---", "\\", "\\\\"]
signs = ["", " ", "\u3000", "\r", "\ufeff", "\x85", "\u2028", "\t", "🙂", "ＡＢＣ：１", "{{x}}", "{{{{x}}}}", '{"a": {}}', "<b>"]
anything = st.characters(exclude_categories=["Cs"])
lines = st.lists(st.one_of(st.sampled_from(headings + signs), st.text(anything, max_size=12)), max_size=6)
text = st.one_of(lines.map("\n".join), lines.map("\r\n".join), st.text(anything, max_size=40))
both = st.dictionaries(st.sampled_from(["ja", "en"]), text, max_size=2)
scalar = st.one_of(st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), text)
plain = st.recursive(scalar, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(text, inner, max_size=3)), max_leaves=6)
number = st.one_of(st.none(), st.integers(-(10**9), 10**9), st.floats(allow_nan=False, allow_infinity=False))
variable = st.one_of(
    st.builds(Variable, st.just("v"), required=st.booleans(), default=st.one_of(st.none(), text), label=both, example=both),
    st.builds(Variable, st.just("本文"), kind=st.just("select"), options=st.lists(text, min_size=1, max_size=3).map(tuple), default=st.one_of(st.none(), text)),
    st.builds(Variable, st.just("n_1"), kind=st.just("number"), default=number, minimum=number, maximum=number),
)
prompts = st.builds(
    Prompt,
    name=st.sampled_from(["summarize", "要約 2", "true", "12", "a-b_c", "メモ🙂"]),
    messages=st.lists(st.builds(Message, st.sampled_from(["system", "user", "assistant"]), text), min_size=1, max_size=4).map(tuple),
    variables=st.lists(variable, max_size=3, unique_by=lambda v: v.name).map(tuple),
    description=both,
    model=st.one_of(st.none(), st.sampled_from(["starter-lm", "rinna/japanese-gpt-neox-3.6b", "1e5", "null", "yes"])),
    params=st.dictionaries(st.sampled_from(["temperature", "max_tokens", "stop", "---"]), plain, max_size=3),
    schema=st.one_of(st.none(), st.dictionaries(text, plain, max_size=3)),
)


@settings(max_examples=150, deadline=None)
@given(prompts)
@example(Prompt("x", (Message("user", ""),)))
@example(Prompt("x", (Message("user", "\n"), Message("user", "# user"), Message("assistant", "---\r\n---"))))
def test_what_is_written_is_read_back(prompt: Prompt) -> None:
    text = format(prompt)
    again = parse(text)
    assert content_of(again) == content_of(prompt)
    assert again.text == text
    assert format(again) == text


@settings(max_examples=60, deadline=None)
@given(prompts)
def test_a_file_survives_the_disk_and_a_byte_order_mark(prompt: Prompt) -> None:
    text = format(prompt).replace("\x00", "")
    for data in (text.encode(), text.encode("utf-8-sig")):
        assert decode(data, file="x.md") == text


def test_a_windows_file_reads_as_the_same_prompt(tmp_path: Path) -> None:
    for path in SHIPPED:
        text = path.read_text(encoding="utf-8")
        windows = tmp_path / path.name
        windows.write_bytes(text.replace("\n", "\r\n").encode("utf-8-sig"))
        assert read(windows) == read(path)


def test_a_cp932_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "議事録.md"
    path.write_bytes("---\ndescription: 議事録の①要約\n---\n# user\n髙橋さんの会議を要約してください。～\n{{本文}}\n".encode("cp932"))
    prompt = read(path)
    assert prompt.name == "議事録"
    assert prompt.description == {"ja": "議事録の①要約", "en": "議事録の①要約"}
    assert prompt.messages == (Message("user", "髙橋さんの会議を要約してください。～\n{{本文}}"),)
    assert prompt.variables == (Variable("本文"),)


def test_plain_text_is_one_user_message() -> None:
    prompt = parse("\n次の文を短くしてください。\r\n\n{{文}}\n\n", file="短く.txt")
    assert prompt.name == "短く"
    assert prompt.messages[0].role == "user"
    assert prompt.messages[0].content.endswith("{{文}}")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ("メモ".encode("utf-16"), "neither UTF-8 nor cp932"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "neither UTF-8 nor cp932"),
        (b"", "no message"),
        (b"---\nname: x\n", "not closed"),
        (b"---\nname: x\n---\n", "no message"),
        (b"---\nname: [\n---\n# user\na", "not valid YAML in line"),
        (b"---\nnam: x\n---\n# user\na", "“nam” does not work"),
        (b"---\nname: x\n---\nhello\n# user\na", "text stands before"),
        (b"---\na: &a [1]\nb: *a\n---\n# user\na", "aliases"),
        (b"---\nname: !!python/object/apply:os.getcwd []\n---\n# user\na", "not valid YAML"),
        (b"---\nvariables:\n- name: a.b\n---\n# user\na", "“a.b” does not work"),
        (b"---\nvariables:\n- {name: a, kind: colour}\n---\n# user\na", "“colour” does not work"),
        (b"---\nvariables:\n- {name: a, kind: select}\n---\n# user\na", "a list for a select"),
        (b"---\nvariables: [a, a]\n---\n# user\na", "each name once"),
        (b"---\n" + b"[" * 1500 + b"\n---\n# user\na", "not valid YAML"),
    ],
)
def test_what_is_no_prompt_file_says_why(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "壊れた.md"
    path.write_bytes(data)
    with pytest.raises(UnreadableFile) as refused:
        read(path)
    assert reason in refused.value.text("en")
    assert "壊れた.md" in refused.value.text("ja")
    assert refused.value.text("ja") != refused.value.text("en")


def test_yaml_has_no_surprises() -> None:
    prompt = parse("---\nvariables:\n- {name: a, kind: select, options: [yes, no, on, 9:30, 012, 2024-01-01, 1_000, 3]}\n---\n# user\n{{a}}")
    assert prompt.variables[0].options == ("yes", "no", "on", "9:30", "012", "2024-01-01", "1_000", "3")


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "", ".hidden", "con", "NUL.md", "x.", "a\nb", "あ" * 81, "🙂" * 60, "C:x", "a\u202eb"])
def test_a_name_that_is_no_file_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidValue):
        parse(format(Prompt(name, (Message("user", "a"),))), file="")


def test_the_library_is_complete() -> None:
    assert {read(path).name for path in SHIPPED} == EXPECTED
    assert {path.stem for path in SHIPPED} == EXPECTED


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_prompt_runs_at_the_press_of_a_button_in_both_languages(path: Path) -> None:
    prompt = read(path)
    assert all(prompt.description[language] for language in ("ja", "en"))
    assert prompt.variables == complete(replace(prompt, variables=prompt.variables)).variables
    assert {variable.name for variable in prompt.variables} == set(find_variables(prompt.messages))
    for variable in prompt.variables:
        assert all(variable.label[language] and variable.example[language] for language in ("ja", "en"))
        assert variable.kind != "select" or {*variable.example.values(), variable.default} <= set(variable.options)
    rendered = {language: render(prompt, example_values(prompt, language)) for language in ("ja", "en")}
    assert rendered["ja"] != rendered["en"]
    assert not any("{{" in turn.content for turns in rendered.values() for turn in turns)
    assert not any("\u3040" <= character <= "\u30ff" for turn in rendered["en"] for character in turn.content)
    assert prompt.messages[-1].role == "user"
    assert 0 < prompt.params["max_tokens"] <= 256
    assert 0 <= prompt.params["temperature"] <= 1
    assert prompt.schema is None or prompt.params["temperature"] == 0
    assert content_of(parse(format(prompt))) == content_of(prompt)


def test_fixed_spellings_other_code_depends_on() -> None:
    found = {path.stem: read(path) for path in SHIPPED}
    short = render(found["summarize"], {"text": "長い文章。"})
    assert short == (Message("user", "次の文章を3文以内で要約してください。\n\n長い文章。"),)
    asked = render(found["answer_from_sources"], {"sources": "[1] あ", "question": "い？"})
    assert "資料：\n[1] あ\n\n質問：い？" in asked[-1].content
    assert found["answer_from_sources"].model == "starter-reader"
    assert found["extract_json"].schema is not None


def test_the_hash_is_of_the_text() -> None:
    prompt = read(SHIPPED[0])
    assert prompt.sha256 == hashlib.sha256(SHIPPED[0].read_bytes()).hexdigest()
