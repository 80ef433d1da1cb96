"""Training data: every layout recognised, wrong rows named by line, what holds no rows refused with the reason, and a steady split."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from llmops_kit.errors import InvalidValue, UnknownName, UnreadableFile
from llmops_kit.feedback import Ratings
from llmops_kit.tuning.dataset import list_samples
from llmops_kit.types import Message, Vote, now
from tests.rated_runs import store_answers
from tests.training_rows import lines, read, say, write

ASKED, SAID = Message("user", "犬は英語で？"), "dog"
CHAT = {name: [say("user", ASKED.content), say("assistant", text)] for name, text in (("good", SAID), ("bad", "cat"))}
LAYOUTS = {
    "messages": [{"messages": [say("user", ASKED.content), say("assistant", SAID)]}],
    "sharegpt": [{"conversations": [{"from": "human", "value": ASKED.content}, {"from": "gpt", "value": SAID}]}],
    "alpaca": [{"instruction": ASKED.content, "input": "", "output": SAID}],
    "prompt-completion": [{"prompt": ASKED.content, "completion": SAID}, {"prompt": [say("user", ASKED.content)], "completion": [say("assistant", SAID)]}],
    "preference": [
        {"prompt": ASKED.content, "chosen": SAID, "rejected": "cat"},
        {"prompt": [say("user", ASKED.content)], "chosen": [say("assistant", SAID)], "rejected": [say("assistant", "cat")]},
        {"chosen": CHAT["good"], "rejected": CHAT["bad"]},
        {"prompt": ASKED.content, "chosen": CHAT["good"], "rejected": CHAT["bad"], "messages": CHAT["good"]},
    ],
    "kto": [{"prompt": ASKED.content, "completion": SAID, "label": True}, {"messages": [say("user", ASKED.content), say("assistant", SAID)], "label": "good"}],
}  # fmt: skip


@pytest.mark.parametrize(("format", "row"), [(name, row) for name, rows in LAYOUTS.items() for row in rows])
@pytest.mark.parametrize("suffix", ["jsonl", "json", "list"])
def test_each_layout_is_recognised_and_says_the_same(tmp_path, format, row, suffix):
    source = [row] if suffix == "list" else write(tmp_path, f"rows.{suffix}", lines(row) if suffix == "jsonl" else json.dumps([row], indent=1))
    dataset = read(source)
    (example,) = dataset.examples
    assert (dataset.format, dataset.problems) == (format, ())
    assert (example.prompt, example.answer) == ((ASKED,), SAID)
    assert dataset.kind == {"preference": "dpo", "kto": "kto"}.get(format, "sft")
    assert example.rejected == ("cat" if format == "preference" else None)
    assert example.label is (True if format == "kto" else None)


def test_the_second_part_of_an_instruction_the_system_and_the_history_are_in_the_prompt(tmp_path):
    row = {"instruction": "訳して", "input": "犬", "output": "dog", "system": "短く", "history": [["hi", "hello"]]}
    (example,) = read(write(tmp_path, "a.jsonl", lines(row))).examples
    assert example.prompt == (Message("system", "短く"), Message("user", "hi"), Message("assistant", "hello"), Message("user", "訳して\n\n犬"))


def test_several_turns_stay_and_what_follows_the_last_answer_goes(tmp_path):
    turns = [say("system", "s"), say("user", "a"), say("assistant", "b"), say("user", "c"), say("assistant", "d"), say("user", "e")]
    (example,) = read(write(tmp_path, "a.jsonl", lines({"messages": turns}))).examples
    assert [turn.content for turn in example.messages] == ["s", "a", "b", "c", "d"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp932"])
@pytest.mark.parametrize("header", ["質問,回答", "プロンプト,応答", "Question,Answer", "指示,出力", "本文,要約"])
def test_tables_with_usual_headings_in_usual_encodings(tmp_path, encoding, header):
    text = f"{header}\n有給は何日？,10日です\n\"改行\nあり\",はい\n"
    dataset = read(write(tmp_path, "a.csv", text.encode(encoding)))
    assert [example.answer for example in dataset.examples] == ["10日です", "はい"]
    assert dataset.examples[1].question == "改行\nあり"
    assert dataset.encoding == encoding


def test_tsv_xlsx_and_a_data_frame_read_alike(tmp_path):
    frame = pd.DataFrame({"質問": ["これは？", "あれは？", None], "回答": ["犬", 7, "空"]})
    book = openpyxl.Workbook()
    for row in [("質問", "回答"), ("これは？", "犬"), ("あれは？", 7), (None, "空")]:
        book.active.append(row)
    book.save(tmp_path / "a.xlsx")
    tables = [read(frame), read(tmp_path / "a.xlsx"), read(write(tmp_path, "a.tsv", "質問\t回答\nこれは？\t犬\nあれは？\t7\n\t空\n"))]
    assert [[(each.question, each.answer) for each in table.examples] for table in tables] == [[("これは？", "犬"), ("あれは？", "7")]] * 3
    assert all(len(table.problems) == 1 for table in tables)
    assert len({table.sha256 for table in tables}) == 1


def test_columns_that_say_nothing_are_asked_for_and_a_given_mapping_wins(tmp_path):
    path = write(tmp_path, "a.csv", "列1,列2,label\n犬,dog,animal\n猫,cat,animal\n")
    asked = read(path)
    assert (asked.examples, asked.available) == ((), ("列1", "列2", "label"))
    assert "列1" in asked.refusal["ja"] and "columns" in asked.refusal["en"]
    told = read(path, columns={"prompt": "列2", "answer": "列1"})
    assert [(each.question, each.answer, each.label) for each in told.examples] == [("dog", "犬", None), ("cat", "猫", None)]
    usual = write(tmp_path, "b.csv", "question,answer,other\na,b,c\n")
    assert read(usual, columns={"answer": "other"}).examples[0].answer == "c"
    with pytest.raises(UnknownName, match="列9"):
        read(path, columns={"prompt": "列9"})
    with pytest.raises(InvalidValue, match="roles"):
        read(path, columns={"roles": "列1"})


def test_a_label_is_the_answer_of_a_classification_and_the_mark_of_a_rated_answer(tmp_path):
    closed = read(write(tmp_path, "a.csv", "text,label\n良い天気,positive\n雨,negative\n"))
    assert (closed.kind, [each.answer for each in closed.examples]) == ("sft", ["positive", "negative"])
    rated = read(write(tmp_path, "b.csv", "質問,回答,評価\na,b,○\nc,d,×\ne,f,\n"))
    assert (rated.kind, [each.label for each in rated.examples], rated.problems[0].line) == ("kto", [True, False], 4)
    noted = read(write(tmp_path, "c.csv", "質問,回答,評価\na,b,とても丁寧\nc,d,普通\n"))
    assert (noted.kind, noted.examples[0].label) == ("sft", None)


def test_wrong_rows_in_the_middle_are_named_by_line_and_good_ones_kept(tmp_path):
    text = lines({"prompt": "a", "completion": "1"}) + "{broken\n" + "\n"
    text += lines(["no", "object"], {"prompt": "b", "completion": ""}, {"prompt": "😀", "completion": "2"})
    text += '{"prompt": "half", "completion": "\\ud83d"}\n' + lines({"prompt": [say("robot", "x")], "completion": "y"})
    dataset = read(write(tmp_path, "a.jsonl", text))
    assert [(each.line, each.answer) for each in dataset.examples] == [(1, "1"), (6, "2")]
    assert [problem.line for problem in dataset.problems] == [2, 4, 5, 7, 8]
    said = [problem.reason["en"] for problem in dataset.problems]
    assert all(word in text for word, text in zip(("JSON", "object", "empty", "surrogate", "robot"), said, strict=True))
    assert all(problem.reason["ja"] and problem.reason["ja"] != problem.reason["en"] for problem in dataset.problems)
    table = read(write(tmp_path, "b.csv", "質問,回答\na,1\nb,2,3,4\nc,\nd,5\n".encode("cp932")))
    assert [each.line for each in table.examples] == [2, 5]
    assert [problem.line for problem in table.problems] == [3, 4]


@pytest.mark.parametrize(
    ("turns", "word"),
    [
        ([say("assistant", "a")], "expected"),
        ([say("user", "a"), say("user", "b"), say("assistant", "c")], "expected"),
        ([say("user", "a"), say("system", "s"), say("assistant", "c")], "system"),
        ([say("user", "a")], "no answer"),
        ([say("user", [{"type": "image_url"}]), say("assistant", "c")], "picture"),
        ([say("user", "a"), say("tool", "b"), say("assistant", "c")], "tool"),
        ([], "no list"),
    ],
)
def test_conversations_that_cannot_be_learnt_from(turns, word):
    dataset = read([{"messages": turns}, {"messages": [say("user", "q"), say("assistant", "a")]}])
    assert len(dataset.examples) == 1
    assert word in dataset.problems[0].reason["en"]


def test_json_lines_under_another_name_and_lists_inside_an_object_are_read(tmp_path):
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}]
    for name, text in (("a.json", lines(*rows)), ("b.txt", lines(*rows)), ("c.jsonl", json.dumps(rows)), ("d.json", json.dumps({"data": rows}))):
        assert len(read(write(tmp_path, name, text)).examples) == 2, name


def test_kinds_are_converted_where_the_rows_say_enough():
    pairs = read([{"prompt": f"q{n}", "chosen": "good", "rejected": "bad"} for n in range(3)])
    assert [each.answer for each in pairs.convert("sft").examples] == ["good"] * 3
    assert [each.label for each in pairs.convert("kto").examples] == [True, False] * 3
    rated = pairs.convert("kto")
    assert [each.answer for each in rated.convert("sft").examples] == ["good"] * 3
    for wrong in ("dpo", "kto"):
        with pytest.raises(InvalidValue):
            pairs.convert("sft").convert(wrong)


def test_the_split_is_the_same_every_time_and_follows_the_seed():
    dataset = read([{"prompt": f"質問{n}：{n * 7919}番の{chr(0x4E00 + n * 13)}は？", "completion": f"{n * 104729}です"} for n in range(200)])
    train, kept = dataset.split(0.1, 7)
    assert (len(train), len(kept)) == (180, 20)
    assert {each.id for each in train}.isdisjoint(each.id for each in kept)
    assert [each.line for each in train] == sorted(each.line for each in train)
    assert dataset.split(0.1, 7) == (train, kept)
    assert dataset.split(0.1, 8)[1] != kept
    assert dataset.split(0.0, 7) == (dataset.examples, ())
    with pytest.raises(InvalidValue):
        dataset.split(0.9, 7)
    two = read([{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "d"}])
    assert [len(side) for side in two.split(0.1, 7)] == [1, 1]


def test_near_duplicates_prompts_and_items_stay_on_one_side():
    base = "この製品の保証期間は、購入した日から数えて一年間です。修理を依頼するときは、保証書と領収書を一緒に送ってください。"
    topic = "{n}番目の話題について、{a}を説明してください。"
    rows = [{"prompt": topic.format(n=n, a=chr(0x4E10 + n * 17) * 6), "completion": chr(0x5E10 + n * 29) * 9} for n in range(40)]
    rows += [{"prompt": "保証は？", "completion": base}, {"prompt": "保証はあるの？", "completion": base + "よ"}]
    rows += [{"prompt": "同じ質問です", "completion": text} for text in ("東京", "大阪", "名古屋")]
    rows += [{"prompt": f"品{n}", "completion": "あ" * (n + 1), "item": "x1"} for n in range(3)]
    dataset = read(rows)
    assert (40, 41) in dataset.similar
    groups = [(40, 41), (42, 43, 44), (45, 46, 47)]
    for seed in range(12):
        kept = {example.line - 1 for example in dataset.split(0.3, seed)[1]}
        assert all(len(kept & set(group)) in (0, len(group)) for group in groups)


def test_rows_in_one_form_are_not_taken_for_near_duplicates():
    form = "次の質問に丁寧に答えてください。質問：{}とは？"
    dataset = read([{"prompt": form.format(chr(0x4E00 + n * 7) * 5), "completion": f"{chr(0x6E00 + n * 5) * 5}です。"} for n in range(120)])
    assert dataset.similar == ()
    assert len(dataset.split(0.1, 7)[1]) == 12


def test_the_hash_is_of_what_is_learnt_not_of_the_layout(tmp_path):
    as_table = read(write(tmp_path, "a.csv", "prompt,completion\na,b\nc,d\n"))
    as_chat = read([{"messages": [say("user", "a"), say("assistant", "b")]}, {"messages": [say("user", "c"), say("assistant", "d")]}])
    other = read([{"prompt": "a", "completion": "b"}, {"prompt": "c", "completion": "D"}])
    assert as_table.sha256 == as_chat.sha256 != other.sha256


def test_the_bundled_sets_are_read_whole_and_are_what_they_are_said_to_be():
    assert list_samples() == ("first-30", "overfitting", "shop-style")
    sizes = {name: read(f"sample:{name}") for name in list_samples()}
    assert {name: len(dataset.unique) for name, dataset in sizes.items()} == {"first-30": 30, "overfitting": 30, "shop-style": 200}
    assert all(not dataset.problems and dataset.refusal is None for dataset in sizes.values())
    style = sizes["shop-style"]
    assert sum(each.answer.endswith("またのお越しをお待ちしております。") for each in style.examples) == 100
    assert {each.id for each in sizes["first-30"].examples} < {each.id for each in style.examples}
    assert [len(side) for side in style.split(0.1, 7)] == [180, 20]


def test_what_ratings_of_a_campaign_make_is_read_with_its_weights(store):
    runs = store_answers(store, 6, "starter-lm", "echo")
    pairs = [(runs[place], runs[place + 1]) for place in range(0, 12, 2)]
    votes = [
        Vote(f"v{number}-{rater}", now(), rater, left.item, left.id, right.id, left.model, right.model, "A")
        for number, (left, right) in enumerate(pairs)
        for rater in ("ann", "ben")
    ]
    store.commit(lambda change: change.put_all(votes))
    ratings = Ratings(store)

    class Everything:
        """The export without the limit to a campaign, which these votes have none of."""

        def export(self, kind: str, path: str | Path, *, campaign: str | None = None) -> Any:
            assert campaign == "some-id"
            return ratings.export(kind, path)

    dataset = read("campaign:some-id", campaigns=Everything)
    assert (dataset.kind, len(dataset.examples), dataset.examples[0].weight) == ("dpo", 6, 0.75)
    assert {each.item for each in dataset.examples} == {str(number) for number in range(6)}
    assert dataset.examples[0].prompt[0].role == "system"
    with pytest.raises(UnreadableFile):
        read("campaign:some-id:sft", campaigns=Everything)
    with pytest.raises(InvalidValue):
        read("campaign:some-id:rlhf", campaigns=Everything)
    with pytest.raises(UnknownName):
        read("campaign:unknown", campaigns=lambda: ratings)
