"""The prompt library: blanks, versions, labels, differences, and files going in and out."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_kit.errors import InvalidValue, MissingVariable, UnknownName, UnreadableFile, WorkspaceError
from llmops_kit.kit import library_folder
from llmops_kit.prompts import Change, PromptLibrary, compare, escape, example_values, find_variables, format, parse, read, render
from llmops_kit.prompts.diff import compare_text
from llmops_kit.store import Store
from llmops_kit.types import LabelMove, Message, Prompt, PromptVersion, Variable


@pytest.fixture
def home(workspace: Path) -> Path:
    return workspace / "prompts"


@pytest.fixture
def library(store: Store, home: Path) -> PromptLibrary:
    return PromptLibrary(store, library_folder(), home)


def ask(text: str, *variables: Variable, **fields: object) -> Prompt:
    return Prompt("質問", (Message("user", text),), variables, **fields)  # type: ignore[arg-type]


def fill(text: str, *variables: Variable, **values: object) -> str:
    return render(ask(text, *variables), values)[0].content


# --- blanks ---------------------------------------------------------------------------------------------------------


def test_only_declared_braces_are_blanks() -> None:
    template = '{"a": {"b": {{本文}}}} {x} {{a.b}} {{ a|upper }} {{1}} {{}} {% if x %} ${y} {{{{本文}}}} {{{本文}}} {{　本文　}}'
    assert fill(template, 本文="☃") == '{"a": {"b": ☃}} {x} {{a.b}} {{ a|upper }} {{1}} {{}} {% if x %} ${y} {{本文}} {☃} ☃'


def test_a_value_is_never_read_as_a_template() -> None:
    assert fill("{{a}}-{{b}}", a="{{b}}", b=r"{{a}} \1 \g<0>") == r"{{b}}-{{a}} \1 \g<0>"


@settings(max_examples=300)
@given(st.lists(st.sampled_from(["{{x}}", "{", "}", "{{", "}}", "{{{{", "x", "本文", " ", "\n", "é", "🙂"])).map("".join))
def test_escaped_text_comes_back_unchanged(text: str) -> None:
    assert fill(escape(text)) == text
    assert find_variables([Message("user", escape(text))]) == ()


@settings(max_examples=200)
@given(st.text(), st.text())
def test_any_value_is_inserted_as_it_is(first: str, second: str) -> None:
    declared = (Variable("a", required=False), Variable("b", required=False))
    assert fill("{{a}}|{{b}}|{{a}}", *declared, a=first, b=second) == f"{first}|{second}|{first}"


def test_an_undeclared_blank_is_a_required_text() -> None:
    assert parse("---\nname: x\n---\n# system\n{{b}}\n# user\n{{ａ}} {{b}}").variables == (Variable("b"), Variable("a"))
    with pytest.raises(MissingVariable, match="“質問” needs a value for “本文”") as missing:
        fill("{{本文}}")
    assert missing.value.facts == {"prompt": "質問", "variable": "本文"}
    assert "「本文」が空です" in missing.value.text("ja")


@pytest.mark.parametrize("blank", [None, "", " \n　"])
def test_a_required_blank_needs_more_than_white_space(blank: str | None) -> None:
    with pytest.raises(MissingVariable):
        fill("{{a}}", a=blank)


def test_defaults_and_optional_blanks() -> None:
    assert fill("{{a}}", Variable("a", default="既定")) == "既定"
    assert fill("{{a}}", Variable("a", default="既定"), a="値") == "値"
    assert fill("[{{a}}]", Variable("a", required=False)) == "[]"
    assert fill("[{{n}}]", Variable("n", kind="number", required=False), n=" ") == "[]"
    assert fill("{{a}}", a="x", unused=3) == "x"


@pytest.mark.parametrize(
    ("value", "shown"),
    [(3, "3"), (3.0, "3"), ("３", "3"), (" 2.5 ", "2.5"), ("１，２３４", "1234"), ("−3", "-3"), ("3.0", "3"), (1e-3, "0.001")],
)
def test_numbers_are_read_as_people_write_them(value: object, shown: str) -> None:
    assert fill("{{n}}", Variable("n", kind="number"), n=value) == shown


@pytest.mark.parametrize("value", ["三", "1_0", "nan", "inf", True, "2;3", 0, 11, "１１", "1e3"])
def test_a_number_outside_its_range_is_refused(value: object) -> None:
    with pytest.raises(InvalidValue) as refused:
        fill("{{n}}", Variable("n", kind="number", minimum=1, maximum=10), n=value)
    assert refused.value.facts["allowed"] == "1–10"
    assert refused.value.facts["name"] == "n"


def test_a_select_takes_its_options_only() -> None:
    language = Variable("language", kind="select", options=("日本語", "English"), default="日本語", example={"en": "English"})
    assert fill("{{language}}", language, language="Ｅｎｇｌｉｓｈ ") == "English"
    with pytest.raises(InvalidValue) as refused:
        fill("{{language}}", language, language="フ" * 100_000)
    assert refused.value.facts["allowed"] == "日本語, English"
    assert len(str(refused.value)) < 500
    prompt = ask("{{language}}", language)
    assert [render(prompt, language=code)[0].content for code in (None, "ja", "en-US")] == ["日本語", "日本語", "English"]


def test_what_a_form_shows_first() -> None:
    declared = (Variable("a", example={"ja": "例", "en": "e.g."}), Variable("b", default="d"), Variable("c", kind="select", options=("1", "2")))
    prompt = ask("{{a}}{{b}}{{c}}{{d}}", *declared)
    assert example_values(prompt, "ja-JP") == {"a": "例", "b": "d", "c": "1", "d": ""}
    assert example_values(prompt, "fr")["a"] == "e.g."


def test_a_megabyte_is_filled_in_at_once() -> None:
    started = time.perf_counter()
    assert len(fill("{{" * 1000 + "{{a}}" + "{{" + "x" * 500_000, a="{{b}}" * 200_000)) > 1_400_000
    assert time.perf_counter() - started < 2


# --- differences ----------------------------------------------------------------------------------------------------


def test_one_changed_character_is_one_changed_character() -> None:
    old = ask("次の文章を三文以内で要約してください。\n\n{{text}}", version=1)
    new = replace(old, messages=(Message("user", "次の文章を二文以内で要約してください。\n\n{{text}}"),), version=2)
    diff = compare(old, new)
    assert diff.changes == (Change("user", 5, "三", "二"),)
    assert diff.title == "質問 v1 → v2 · −1 +1"
    html = diff._repr_html_()
    assert ">三</del><ins" in html
    assert ">二</ins>文以内" in html
    assert "[-三-]{+二+}" in diff._repr_markdown_()


def test_the_difference_goes_across_roles_and_settings() -> None:
    old = Prompt("p", (Message("user", "<b>早い</b>"), Message("assistant", "はい")), model="starter-lm", params={"temperature": 0.2, "seed": 1}, version=1)
    turns = (Message("system", "短く。"), Message("user", "<b>速い</b>"), Message("assistant", "はい"))
    new = replace(old, messages=turns, model="gpt", params={"temperature": 0.7}, variables=(Variable("a"),), version=2)
    diff = compare(old, new)
    assert diff.changes == (
        Change("system", 0, "", "短く。"),
        Change("user", 3, "早", "速"),
        Change("model", 0, "starter-lm", "gpt"),
        Change("params.temperature", 0, "0.2", "0.7"),
        Change("variables.a", 0, "", "name: a\nkind: text\n"),
        Change("params.seed", 0, "1", ""),
    )
    assert "<b>" not in diff._repr_html_()
    assert "&lt;b&gt;" in diff._repr_html_()
    assert compare(old, old).changes == ()


def test_a_fence_in_a_prompt_does_not_break_out() -> None:
    diff = compare(ask("~~~~\na"), ask("~~~~\nb"))
    assert diff._repr_markdown_().count("~~~~~") == 2


@settings(max_examples=300, deadline=None)
@given(st.text("日本語。ab \n🙂", max_size=60), st.text("日本語。ab \n🙂", max_size=60))
def test_a_difference_leads_from_the_old_text_to_the_new(old: str, new: str) -> None:
    pieces = compare_text(old, new)
    assert "".join(text for kind, text in pieces if kind != "insert") == old
    assert "".join(text for kind, text in pieces if kind != "delete") == new
    kinds = [kind for kind, _ in pieces]
    assert "delete,delete" not in ",".join(kinds)
    assert "insert,insert" not in ",".join(kinds)
    assert "equal,equal" not in ",".join(kinds)


@settings(max_examples=200, deadline=None)
@given(st.text("あいうえお。\n", min_size=1, max_size=60), st.data())
def test_any_single_substitution_is_found_exactly(old: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(old) - 1))
    new = old[:at] + "漢" + old[at + 1 :]
    changes = compare(ask(old), ask(new)).changes
    assert [(change.deleted, change.inserted) for change in changes] == [(old[at], "漢")]


def test_a_long_text_edited_in_every_line_shows_only_the_edits() -> None:
    lines = [f"{number}番目の行には、それぞれ少しずつ違う内容の長い文章が書かれています。" * 5 for number in range(40)]
    new = [line.replace("少し", "多少", 1) for line in lines]
    changes = compare(ask("\n".join(lines)), ask("\n".join(new))).changes
    assert "".join(change.deleted for change in changes) == "し" * 40
    assert "".join(change.inserted for change in changes) == "多" * 40


def test_long_rewrites_are_compared_in_time() -> None:
    import random

    dice = random.Random(1)
    old, new = ("".join(dice.choice("のにはをたがでて日本語文章要約短長。、") for _ in range(20_000)) for _ in range(2))
    started = time.perf_counter()
    pieces = compare_text(old, new)
    assert time.perf_counter() - started < 5
    assert "".join(text for kind, text in pieces if kind != "insert") == old


# --- versions and labels --------------------------------------------------------------------------------------------


def test_the_shipped_prompts_are_there(library: PromptLibrary, store: Store) -> None:
    assert len(library.names()) >= 12
    prompt = library.get("summarize")
    assert (prompt.version, prompt.author, prompt.labels) == (1, "library", ("latest",))
    assert prompt.text == (library_folder() / "summarize.md").read_text(encoding="utf-8")
    table = library.table().set_index("name")
    assert table.loc["summarize", "variables"] == "instruction, text"
    assert table.loc["answer_from_sources", "model"] == "starter-reader"
    assert table.loc["summarize", "labels"] == "latest v1"
    PromptLibrary(store, library_folder(), library._workspace_folder)
    assert store.count(PromptVersion) == len(library.names())


def test_versions_labels_and_rollback(library: PromptLibrary) -> None:
    first = library.save(ask("一つ目 {{a}}"), message="はじめ", author="花子")
    second = library.save(ask("二つ目 {{a}}", model="starter-lm", params={"temperature": 0.5}), message="次")
    assert (first.version, first.message, first.author) == (1, "はじめ", "花子")
    assert (second.version, second.model, second.params) == (2, "starter-lm", {"temperature": 0.5})
    library.label("質問", 2, "production", author="花子")
    assert library.get("質問", label="production").version == 2
    assert library.label("質問", 1, "production").labels == ("production",)
    assert library.get("質問", label="Ｐroduction").messages == first.messages
    assert library.labels("質問") == {"latest": 2, "production": 1}
    assert [version.version for version in library.versions("質問")] == [2, 1]
    assert library.get("質問").version == 2
    assert library.get("質問", version=1).text == first.text
    assert library.diff("質問", "production", 2).changes[0].deleted == "一"


def test_setting_a_label_where_it_stands_is_no_event(library: PromptLibrary, store: Store) -> None:
    library.label("summarize", 1, "本番")
    library.label("summarize", 1, "本番")
    assert store.count(LabelMove) == 1


def test_saving_what_is_there_gives_what_is_there(library: PromptLibrary, store: Store) -> None:
    before = store.count(PromptVersion)
    shipped = library.get("summarize")
    assert library.find_same(shipped) == shipped
    again = library.save(replace(shipped, text=""), message="同じ")
    assert (again.version, again.message, again.author) == (1, shipped.message, "library")
    assert store.count(PromptVersion) == before
    changed = replace(shipped, params={**shipped.params, "temperature": 0.9})
    assert library.find_same(changed) is None
    assert library.save(changed, message="温度").version == 2


@pytest.mark.parametrize("label", ["latest", "Latest", "", "two words", "a/b", "-x", "x" * 61])
def test_labels_that_cannot_be_set(library: PromptLibrary, label: str) -> None:
    with pytest.raises(InvalidValue):
        library.label("summarize", 1, label)


def test_what_is_not_there_is_named(library: PromptLibrary) -> None:
    with pytest.raises(UnknownName, match=r"There is no prompt “sumarize”\. Known: summarize, ") as unknown:
        library.get("sumarize")
    assert "プロンプト「sumarize」は見つかりません" in unknown.value.text("ja")
    with pytest.raises(UnknownName, match="version “summarize v7”"):
        library.label("summarize", 7, "production")
    with pytest.raises(UnknownName, match="label “production”"):
        library.get("summarize", label="production")


@pytest.mark.parametrize("broken", [Prompt("../x", (Message("user", "a"),)), Prompt("x", ()), Prompt("x", (Message("user", "a"),), schema={"type": "colour"})])
def test_what_cannot_be_saved_leaves_nothing(library: PromptLibrary, store: Store, home: Path, broken: Prompt) -> None:
    before = store.count(PromptVersion)
    with pytest.raises(InvalidValue):
        library.save(broken, message="x")
    assert store.count(PromptVersion) == before
    assert not home.exists()


# --- files ----------------------------------------------------------------------------------------------------------


def test_a_saved_prompt_can_be_taken_home(library: PromptLibrary, store: Store, home: Path, tmp_path: Path) -> None:
    saved = library.save(ask("# user\n\n{{文}}\r\n🙂\n"), message="x")
    taken = tmp_path / "other" / "prompts"
    taken.mkdir(parents=True)
    (taken / "質問.md").write_bytes((home / "質問.md").read_bytes())
    elsewhere = Store(f"sqlite:///{tmp_path / 'other' / 'kit.sqlite'}")
    arrived = PromptLibrary(elsewhere, library_folder(), taken).get("質問")
    elsewhere.close()
    assert (arrived.messages, arrived.sha256, arrived.author, arrived.message) == (saved.messages, saved.sha256, "file", "質問.md")
    assert sorted(path.name for path in home.iterdir()) == ["質問.md"]


def test_what_a_database_cannot_hold_is_replaced_before_it_is_hashed(library: PromptLibrary, store: Store, home: Path) -> None:
    saved = library.save(ask("a\x00b\ud800"), message="x\x00")
    assert saved.messages[0].content == "a\ufffdb\ufffd"
    assert read(home / "質問.md").sha256 == saved.sha256 == store.find(PromptVersion, name="質問")[0].sha256


def test_dropped_and_edited_files_become_versions(library: PromptLibrary, home: Path) -> None:
    home.mkdir()
    dropped = home / "社内の.txt"
    dropped.write_bytes("要約：{{文}}".encode("cp932"))
    (home / "README.md").write_text("not a prompt")
    (home / "壊れた.md").write_bytes(b"---\nname: x")
    assert [type(problem) for problem in library.refresh()] == [UnreadableFile]
    assert library.get("社内の").messages == (Message("user", "要約：{{文}}"),)
    dropped.write_text("要約をどうぞ：{{文}}", encoding="utf-8")
    library.refresh()
    library.refresh()
    assert [version.author for version in library.versions("社内の")] == ["file", "file"]
    dropped.write_text("要約：{{文}}", encoding="utf-8")
    library.refresh()
    library.refresh()
    assert library.get("社内の").version == 3, "an old text put back by hand counts"
    assert library.get("社内の").messages[0].content == "要約：{{文}}"


def test_a_file_that_missed_its_update_does_not_undo_a_version(library: PromptLibrary, home: Path) -> None:
    library.save(ask("一"), message="1")
    old = (home / "質問.md").read_bytes()
    written = (home / "質問.md").stat()
    library.save(ask("二"), message="2")
    (home / "質問.md").write_bytes(old)
    os.utime(home / "質問.md", ns=(written.st_atime_ns, written.st_mtime_ns))
    library.refresh()
    assert library.get("質問").messages[0].content == "二"
    assert library.get("質問").version == 2


def test_saving_keeps_what_was_written_into_the_file(library: PromptLibrary, home: Path) -> None:
    library.save(ask("一"), message="1")
    (home / "質問.md").write_text(format(ask("手で直した")), encoding="utf-8")
    saved = library.save(ask("三"), message="3")
    assert saved.version == 3
    assert library.get("質問", version=2).messages[0].content == "手で直した"
    (home / "質問.md").write_bytes(b"---\n\xff\xff")
    library.save(ask("四"), message="4")
    assert read(home / "質問.md").messages[0].content == "四"
    assert [path.read_bytes() for path in home.glob("*.unreadable")] == [b"---\n\xff\xff"]


def test_a_newer_kit_adds_its_prompt_and_keeps_ours(store: Store, home: Path, tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    (shipped / "a.md").write_text("---\nname: a\n---\n# user\n古い {{x}}\n", encoding="utf-8")
    library = PromptLibrary(store, shipped, home)
    library.save(replace(library.get("a"), messages=(Message("user", "私の {{x}}"),)), message="mine")
    (shipped / "a.md").write_text("---\nname: a\n---\n# user\n新しい {{x}}\n", encoding="utf-8")
    for _ in range(2):
        library = PromptLibrary(store, shipped, home)
    assert [(version.version, version.author) for version in library.versions("a")] == [(3, "library"), (2, "local"), (1, "library")]
    assert read(home / "a.md").messages[0].content == "私の {{x}}"


def test_a_folder_that_cannot_be_written_says_so(store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    library = PromptLibrary(store, library_folder(), tmp_path / "file" / "prompts")
    with pytest.raises(WorkspaceError, match=r"Not a directory|exist"):
        library.save(ask("a"), message="x")


# --- at the same moment ---------------------------------------------------------------------------------------------


def test_many_save_at_once_and_nobody_is_lost(library: PromptLibrary, home: Path) -> None:
    failures: list[BaseException] = []

    def work(person: int) -> None:
        try:
            for turn in range(4):
                library.save(ask(f"{person}人目の{turn}回目"), message=f"{person}-{turn}", author=f"p{person}")
        except Exception as failure:  # noqa: BLE001  a thread's failure must reach the test
            failures.append(failure)

    people = [threading.Thread(target=work, args=(person,)) for person in range(8)]
    for thread in people:
        thread.start()
    for thread in people:
        thread.join()
    assert failures == []
    versions = library.versions("質問")
    assert [version.version for version in versions] == list(range(32, 0, -1))
    assert len({version.message for version in versions}) == 32
    assert read(home / "質問.md").text == versions[0].text


def test_two_processes_open_a_new_workspace_at_once(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from llmops_kit.store import Store; from llmops_kit.prompts import PromptLibrary;"
        "from llmops_kit.kit import library_folder; w = Path(sys.argv[1]);"
        "library = PromptLibrary(Store(f'sqlite:///{w / \"kit.sqlite\"}'), library_folder(), w / 'prompts');"
        "assert not library.problems"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stderr=subprocess.PIPE) for _ in range(3)]
    reports = [(process.communicate(timeout=60)[1], process.returncode) for process in running]
    assert [code for _, code in reports] == [0] * 3, reports
    store = Store(f"sqlite:///{tmp_path / 'kit.sqlite'}")
    assert {version.version for version in store.find(PromptVersion)} == {1}
    assert store.count(PromptVersion) == len(list(library_folder().glob("*.md")))
    store.close()
