"""The kinds of starter-lm for the prompts of the library: the same words and layout as the files, and answers that hold."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import jsonschema
import pytest

from llmops_kit.kit import library_folder
from llmops_kit.prompts import example_values, read, render
from llmops_kit.starter.corpus import read_corpus
from llmops_kit.starter.evaluation import accepts
from llmops_kit.starter.library_kinds import COMPARISONS, EXPLAIN, MAX_ROW, NOT_FOUND, PLAIN_ANSWERS, QUESTIONS, LibraryKinds
from llmops_kit.starter.library_replies import ordinal
from llmops_kit.starter.rows import Row
from llmops_kit.types import Prompt
from tests.small_data import write_small_data

PROMPTS = {
    "brainstorm": "brainstorm",
    "extract_announcement": "extract_json",
    "actions": "minutes_to_actions",
    "reply_email": "reply_email",
    "judge_pair": "judge_pairwise",
    "judge_score": "judge_rubric",
    "explain": "explain_simply",
    "critique": "critique",
    "questions": "generate_questions",
    "answer_sources": "answer_from_sources",
}
CASES = [(kind, language) for kind in PROMPTS for language in ("ja", "en")]
Draw = Callable[[str, str], list[Row]]


@pytest.fixture(scope="module")
def draw(tmp_path_factory: pytest.TempPathFactory) -> Draw:
    """200 rows of a kind, over a data folder of made-up articles."""
    kinds = LibraryKinds(read_corpus(write_small_data(tmp_path_factory.mktemp("small") / "data"), articles=60)).makers()
    assert set(kinds) == set(PROMPTS)

    def many(kind: str, language: str) -> list[Row]:
        rng = Random(f"{kind}{language}")
        return [kinds[kind](rng, language) for _ in range(200)]

    return many


def prompt_of(kind: str) -> Prompt:
    return read(library_folder() / f"{PROMPTS[kind]}.md")


def values_in(kind: str, user: str) -> dict[str, str]:
    """The values of the variables that make the prompt read as `user` does."""
    layout = re.escape(prompt_of(kind).messages[0].content)
    pattern = re.sub(r"\\{\\{(\w+)\\}\\}", r"(?P<\1>(?s:.+?))", layout)
    found = re.fullmatch(pattern, user)
    assert found, user
    return found.groupdict()


@pytest.mark.parametrize(("kind", "language"), CASES)
def test_a_request_is_what_the_library_renders(draw: Draw, kind: str, language: str) -> None:
    prompt = prompt_of(kind)
    options = next(variable.options for variable in prompt.variables if variable.name == "instruction")
    foreign = [option for option in options if ("。" in option) != (language == "ja")]
    seen = set()
    for row in draw(kind, language):
        values = values_in(kind, row.user)
        (message,) = render(prompt, {name: int(value) if name == "count" else value for name, value in values.items()}, language=language)
        assert message.content == row.user and row.kind == kind and row.language == language
        seen.add(values["instruction"])
    assert seen and seen <= set(options) - set(foreign), "no instruction of the other language is taught"


@pytest.mark.parametrize(("kind", "language"), CASES)
def test_rows_are_short_and_the_examples_of_the_library_are_not_among_them(draw: Draw, kind: str, language: str) -> None:
    rows = draw(kind, language)
    (example,) = render(prompt_of(kind), example_values(prompt_of(kind), language))
    for row in rows:
        assert len(row.user) + len(row.answer) <= MAX_ROW[language] and row.answer.strip() == row.answer != ""
        assert row.user != example.content and "{" not in row.answer.removeprefix("{")
    assert len({row.content for row in rows}) > 25
    assert any(row.held_out for row in rows) and not all(row.held_out for row in rows)


@pytest.mark.parametrize("language", ["ja", "en"])
@pytest.mark.parametrize("kind", ["brainstorm", "questions"])
def test_as_many_different_lines_as_asked_for(draw: Draw, kind: str, language: str) -> None:
    counts = set()
    for row in draw(kind, language):
        lines = row.answer.split("\n")
        counts.add(len(lines))
        assert len(set(lines)) == len(lines) == int(values_in(kind, row.user)["count"]) and all(lines)
    assert kind == "questions" or counts == {1, 2, 3, 4, 5, 6}


@pytest.mark.parametrize("language", ["ja", "en"])
@pytest.mark.parametrize("kind", ["extract_announcement", "judge_pair", "judge_score"])
def test_json_answers_satisfy_the_schema_of_the_prompt(draw: Draw, kind: str, language: str) -> None:
    schema = prompt_of(kind).schema
    assert schema is not None
    for row in draw(kind, language):
        answer = json.loads(row.answer)
        jsonschema.validate(answer, dict(schema))
        assert list(answer) == list(schema["required"]) and json.dumps(answer, ensure_ascii=False) == row.answer


@pytest.mark.parametrize("language", ["ja", "en"])
def test_an_announcement_holds_what_is_extracted_and_nothing_that_is_null(draw: Draw, language: str) -> None:
    nulls: set[str] = set()
    for row in draw("extract_announcement", language):
        text, answer = values_in("extract_announcement", row.user)["text"], json.loads(row.answer)
        assert all(answer[key] is None or answer[key] in text for key in ("title", "place", "contact"))
        year = (answer["date"] or "none")[:4]
        assert (re.search(r"20\d\d", text) or ["none"])[0] == year
        nulls.update(key for key, value in answer.items() if value is None)
    assert nulls == {"date", "place", "contact"}


@pytest.mark.parametrize("language", ["ja", "en"])
def test_tasks_are_in_the_words_of_the_notes(draw: Draw, language: str) -> None:
    pattern = r"(.+?)：(.+)を(.+)（(.+)）" if language == "ja" else r"(.+?) – (\w+(?: out)?) (.+) \((.+)\)"
    for row in draw("actions", language):
        notes = values_in("actions", row.user)["minutes"]
        lines = row.answer.split("\n")
        for line in lines:
            found = re.fullmatch(pattern, line)
            assert found and all(part in notes for part in found.groups()), line
        people = [re.split("：| – ", line)[0] for line in lines]
        assert people == sorted(people, key=notes.index)


@pytest.mark.parametrize("language", ["ja", "en"])
def test_a_reply_names_the_sender_and_says_every_point(draw: Draw, language: str) -> None:
    for row in draw("reply_email", language):
        values = values_in("reply_email", row.user)
        name = re.split(r"様|,", row.answer.removeprefix("Dear ").removeprefix("Hello "))[0]
        assert name in values["email"]
        for note in values["points"].split("\n"):
            kept = note.removeprefix("- ")
            assert (kept[: len(kept) // 2] if language == "ja" else kept.split(" ")[-1]) in row.answer


def test_days_in_english_have_their_ending() -> None:
    assert [ordinal(day) for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 28)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "28th")
    ]


@pytest.mark.parametrize("language", ["ja", "en"])
def test_the_better_answer_stands_on_either_side_equally_often(draw: Draw, language: str) -> None:
    rows = draw("judge_pair", language)
    winners = [json.loads(row.answer)["winner"] for row in rows]
    assert 65 <= winners.count("A") <= 105 and 65 <= winners.count("B") <= 105 and winners.count("tie") >= 10
    for row in rows:
        values, answer = values_in("judge_pair", row.user), json.loads(row.answer)
        neither = answer["reason"].startswith(("AもB", "Neither"))
        assert (values["answer_a"] == values["answer_b"]) == (answer["winner"] == "tie" and not neither)


@pytest.mark.parametrize("language", ["ja", "en"])
def test_the_score_counts_the_parts_that_are_answered(draw: Draw, language: str) -> None:
    scores = set()
    for row in draw("judge_score", language):
        given = json.loads(row.answer)
        scores.add(given["score"])
        answered = values_in("judge_score", row.user)["answer"]
        if given["score"] == 3:
            form = r"(.+)には答えているが、(.+)が足りない" if language == "ja" else r"gives the (.+), but the (.+) is missing"
            told, missing = re.findall(form, given["reason"])[0]
            assert told in answered and missing not in answered
    assert scores == {1, 3, 5}


@pytest.mark.parametrize("language", ["ja", "en"])
def test_critique_is_two_and_two_or_quotes_the_text(draw: Draw, language: str) -> None:
    for row in draw("critique", language):
        values, lines = values_in("critique", row.user), row.answer.split("\n")
        quotes = re.findall(r"「(.+?)」：|\"(.+?)\": ", row.answer)
        if quotes:
            assert len(quotes) == len(lines) <= 3 and all((ja or en) in values["text"] for ja, en in quotes)
        elif len(lines) > 1:
            good = [line for line in lines if line.startswith(("よい点：", "Strength: "))]
            assert len(good) == 2 and len(lines) == 4
            figures = re.search(r"\d", values["text"]) is not None
            assert not (figures and any("数字がありません" in line or "no figures" in line for line in lines))


@pytest.mark.parametrize("language", ["ja", "en"])
def test_the_numbered_source_holds_the_answer_or_none_does(draw: Draw, language: str) -> None:
    absent = 0
    for row in draw("answer_sources", language):
        sources = re.findall(r"^\[\d\] (.+)$", values_in("answer_sources", row.user)["sources"], re.MULTILINE)
        if row.answer == NOT_FOUND[language]:
            absent += 1
            continue
        span, number = re.fullmatch(r"(.+)です。\[(\d)\]" if language == "ja" else r"It is (.+)\. \[(\d)\]", row.answer).groups()  # type: ignore[union-attr]
        assert [span in source for source in sources].index(True) == int(number) - 1
    assert 15 <= absent <= 90


def test_a_row_keeps_its_side_of_the_split_when_its_wording_changes(draw: Draw) -> None:
    row = draw("questions", "ja")[0]
    assert replace(row, user="x", answer="y").held_out == row.held_out


def test_the_kinds_are_those_the_library_needs() -> None:
    taught_elsewhere = {"summarize", "rewrite_politely", "translate", "classify"}
    not_taught = {"condense_question"}
    assert {Path(file).stem for file in library_folder().glob("*.md")} == set(PROMPTS.values()) | taught_elsewhere | not_taught


@pytest.mark.parametrize(("kind", "language"), CASES)
def test_the_taught_answer_is_right_also_in_the_letters_of_the_tokenizer(draw: Draw, kind: str, language: str) -> None:
    for row in draw(kind, language)[:50]:
        assert accepts(row, row.answer) and accepts(row, unicodedata.normalize("NFKC", row.answer)), row
        assert not accepts(row, None) and not accepts(row, row.answer + "x") and not accepts(row, "")


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Offer tea and biscuits\nTry it for 5 days first\nHold a small meeting every Friday", True),
        ("Offer tea and biscuits\nTry it for 5 days first", False),
        ("Offer tea and biscuits\nTry it for 5 days first\nWear name tags\nUse name tags", False),
        ("Offer tea and biscuits\nOffer tea and biscuits\nWear name tags", False),
        ("Try it in groups of 5\nTry it in groups of 6\nWear name tags", False),
        ("Offer tea and biscuits\nTry it for five days first\nWear name tags", False),
        ("Offer tea and biscuits\nHold a small meeting every Sunday\nWear name tags", False),
    ],
)
def test_ideas_are_right_where_they_are_as_many_as_asked_for_and_really_different(answer: str, right: bool) -> None:
    row = Row("brainstorm", "en", "List N different ideas on the following topic, one per line.\n\nN = 3\n\nA day about music", "", "x")
    assert accepts(row, answer) is right


def test_an_explanation_is_right_in_any_taught_form_on_the_topic_and_of_the_sort_asked_for() -> None:
    plain, compared = (Row("explain", "ja", f"{instruction}\n\n税金の仕組み", "", "x") for instruction in EXPLAIN["ja"])
    for form in PLAIN_ANSWERS["ja"]:
        assert accepts(plain, form.format(t="税金の仕組み")) and not accepts(compared, form.format(t="税金の仕組み"))
        assert not accepts(plain, form.format(t="税金"))
    for form in COMPARISONS["ja"]:
        assert accepts(compared, form.format(t="税金の仕組み")) and not accepts(plain, form.format(t="税金の仕組み"))


@pytest.mark.parametrize(
    ("language", "answer", "formed"),
    [
        ("en", "Who wrote it?\nWhen was it built?", True),
        ("en", "Who wrote it?", False),
        ("en", "Who wrote it?\nIt was built in 1900.", False),
        ("en", "Who wrote it?\nWho wrote it?", False),
        ("en", "?\n?", False),
        ("ja", "誰が書きましたか？\nいつ建てられましたか。", True),
        ("ja", "誰が書きましたか？\n1900年に建てられました。", False),
    ],
)
def test_of_questions_the_form_alone_is_judged(language: str, answer: str, formed: bool) -> None:
    assert accepts(Row("questions", language, f"{QUESTIONS[language]}\n\nN = 2\n\n本文", "", "x"), answer) is formed


def test_three_ideas_are_three_and_not_one_three_times() -> None:
    row = Row("ideas", "ja", "山に関するアイデアを3つ出してください。", "", "x")
    assert accepts(row, "・山の歴史を調べる\n・山の日を決める\n・山の地図を作る")
    assert not accepts(row, "・山の教室を開く\n・山の教室を開く\n・山の教室を開く")
    assert not accepts(row, "・海の歴史を調べる\n・海の日を決める\n・海の地図を作る")
