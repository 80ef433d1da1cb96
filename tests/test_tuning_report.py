"""The report on training data before anything runs, and the preview of what the model sees first."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from llmops_kit.errors import InvalidValue, UnknownName
from llmops_kit.kit import Kit, open_kit
from llmops_kit.tuning.dataset import read_dataset
from llmops_kit.tuning.dataset.report import CheckReport, check_dataset
from llmops_kit.tuning.preview import preview_batch
from llmops_kit.tuning.spec import TuneSpec
from llmops_kit.tuning.training.order import first_rows
from llmops_kit.types import Comparison, Evaluation, Message, now

LONG_JA = "この薬は食後に水かぬるま湯で飲み、飲み忘れたときは次の時間まで待ってください。"
LONG_EN = "please keep the receipt in a safe place because without it the shop cannot take the goods back"


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kit]:
    with open_kit(tmp_path_factory.mktemp("workspace")) as opened:
        yield opened


def check(kit: Kit, rows: Any, **more: Any) -> CheckReport:
    return check_dataset(read_dataset(rows, max_mb=100), kit.models, kit.store, base="starter-lm", **more)


def ordinary(count: int = 40) -> list[dict[str, str]]:
    """Rows that have nothing wrong with them."""
    return [{"prompt": f"{chr(0x4E10 + n * 17) * 4}とは何ですか。{n * 7919}番", "completion": f"{chr(0x5E10 + n * 29) * 5}です。"} for n in range(count)]


def test_clean_rows_have_no_warnings_and_lengths_that_add_up(kit):
    report = check(kit, ordinary())
    assert report.warnings == () and report.refusal is None
    assert (report.rows, report.kept, report.train_rows, report.eval_rows) == (40, 40, 36, 4)
    assert sum(count for _, _, count in report.histogram) == len(report.tokens) == 40
    assert all(low <= high for low, high, _ in report.histogram) and report.histogram[-1][1] >= max(report.tokens)
    assert report.truncated_share == 0
    assert report.languages == {"ja": 40}
    encoder = kit.models.turn_encoder("starter-lm")
    (rows,) = encoder.encode([[Message("user", ordinary()[0]["prompt"]), Message("assistant", ordinary()[0]["completion"])]])
    assert report.tokens[0] == len(rows[0].ids)


def test_rows_longer_than_the_limit_are_told(kit):
    rows = [*ordinary(), {"prompt": "長い文です。" * 60, "completion": "はい"}]
    report = check(kit, rows, max_tokens=100)
    assert report.truncated_share == pytest.approx(1 / 41)
    assert any("100 tokens" in warning["en"] for warning in report.warnings)
    assert "fill=\"#c98a4b\"" in report.html("en")


def test_copies_are_told_by_line_after_normalisation_and_near_ones_too(kit):
    rows = ordinary()
    rows += [{"prompt": rows[0]["prompt"].translate(str.maketrans("0123456789", "０１２３４５６７８９")), "completion": rows[0]["completion"]}]
    rows += [{"prompt": "保証について教えてください。", "completion": text} for text in (LONG_JA * 2, LONG_JA * 2 + "ね")]
    report = check(kit, rows)
    assert report.duplicates == ((41, 1),)
    assert report.near_duplicates == ((43, 42),)
    assert report.kept == 42
    assert "41" in report.text("ja") and "43 ≈ 42" in report.text("en")


def test_what_teaches_only_one_thing_is_told(kit):
    same = check(kit, [{"prompt": row["prompt"], "completion": "はい"} for row in ordinary()])
    assert "Every answer is the same" in same.one_sided[0]["en"]
    assert same.labels == {"はい": 40}
    skewed = check(kit, [{"text": row["prompt"], "label": "良い" if n < 36 else "悪い"} for n, row in enumerate(ordinary())])
    assert skewed.labels == {"良い": 36, "悪い": 4}
    assert "90 %" in skewed.one_sided[0]["ja"]
    good = check(kit, [{**row, "label": True} for row in ordinary()])
    assert good.labels == {"true": 40, "false": 0} and "both kinds" in good.one_sided[0]["en"]
    both = check(kit, [{**row, "label": n % 2} for n, row in enumerate(ordinary())])
    assert both.labels == {"true": 20, "false": 20} and both.one_sided == ()
    assert check(kit, ordinary()).labels == {}


def test_languages_and_personal_data_are_counted_and_shown_hidden(kit):
    rows = [*ordinary(20), {"prompt": "What is it?", "completion": "It is a dog."}, {"prompt": "１２３", "completion": "456"}]
    rows += [{"prompt": "連絡先は？", "completion": "０９０－１２３４－５６７８、taro@example.com"}]
    report = check(kit, rows)
    assert report.languages == {"ja": 21, "en": 1, "other": 1}
    assert [(found.line, found.kind) for found in report.personal_data] == [(23, "phone"), (23, "email")]
    shown = report.text("ja") + report.text("en") + report.html()
    assert "taro@example.com" not in shown and "１２３４" not in shown


def test_leakage_is_found_against_bundled_questions_comparisons_and_evaluations(kit):
    compared = {"prompt": {"name": "薬の説明"}, "rows": [{"item": "1", "variables": {"text": LONG_JA}, "expected": None}]}
    kit.store.append(Comparison("c1", now(), "ann", compared))
    kit.store.append(Evaluation("e1", now(), "ann", "retrieval", {}, [{"question": "閉店は何時になりますか", "expected": LONG_EN}], []))
    rows = ordinary(120)
    test = ["有給は何日前までに申請すればよいですか？", f"次の文を要約してください。\n{LONG_JA}", "質問：閉店は何時になりますか"]
    test += [f"Rewrite this: {LONG_EN.title()}", f"「{LONG_JA[:30]}」を短くしてください"]
    rows += [{"prompt": text, "completion": f"{chr(0x7D10 + n) * 7}です"} for n, text in enumerate(test)]
    report = check(kit, rows)
    trained = {example.line for example in read_dataset(rows, max_mb=10).split(0.1, 7)[0]}
    found = {leak.line: (leak.match, leak.where["en"]) for leak in report.leakage}
    expected = {121: ("exact", "the questions about the sample documents"), 122: ("exact", "the comparison “薬の説明”"), 123: ("exact", "the evaluation “e1”"),
                124: ("window", "the evaluation “e1”"), 125: ("window", "the comparison “薬の説明”")}  # fmt: skip
    assert found == {line: leak for line, leak in expected.items() if line in trained}
    assert len(found) == 5
    assert any("also in the comparison" in warning["en"] for warning in report.warnings)


def test_rows_that_are_kept_for_evaluation_anyway_are_no_leak(kit):
    rows = [{**row, "prompt": f"{row['prompt']}教えて"} for row in ordinary(60)]
    train, kept = read_dataset(rows, max_mb=10).split(0.1, 7)
    asked = [{"item": str(each.line), "variables": {"q": each.question}, "expected": each.answer} for each in (*kept, train[0])]
    kit.store.append(Comparison("c3", now(), "ann", {"prompt": {"name": "base and tuned"}, "rows": asked}))
    assert [leak.line for leak in check(kit, rows).leakage] == [train[0].line]


def test_rows_that_only_share_a_form_with_a_test_set_are_no_leak(kit):
    kit.store.append(Comparison("c2", now(), "ann", {"prompt": {"name": "x"}, "rows": [{"item": "1", "variables": {"q": "はい"}, "expected": "3日です"}]}))
    rows = [{"prompt": "はい", "completion": "3日です"}, *ordinary()]
    assert check(kit, rows).leakage == ()


def test_refusals_say_why_and_a_report_is_given_all_the_same(kit):
    nothing = check(kit, [{"a": "1", "b": "2"}])
    assert "a, b" in nothing.refusal["en"] and nothing.available == ("a", "b")
    one = check(kit, ordinary(1))
    assert "only one row" in one.refusal["en"] and one.refusal["ja"] in one.text("ja")
    wrong = check(kit, [{"prompt": "a", "completion": ""}, {"prompt": "b", "completion": ""}])
    assert "line 1" in wrong.refusal["en"] and wrong.empty == (1, 2)
    unlabelled = check(kit, [{**row, "label": ""} for row in ordinary()])
    assert "label" in unlabelled.refusal["en"]
    few = check(kit, ordinary(5))
    assert few.refusal is None and any("5 rows are few" in warning["en"] for warning in few.warnings)
    with pytest.raises(UnknownName):
        check_dataset(read_dataset(ordinary(), max_mb=1), kit.models, kit.store, base="none-such")


def test_the_report_shows_itself_in_both_languages_and_escapes_what_it_shows(kit):
    rows = [{"prompt": row["prompt"], "completion": "<script>alert(1)</script>"} for row in ordinary()]
    report = check(kit, rows)
    assert "<script>" not in report._repr_html_() and "&lt;script&gt;" in report._repr_html_()
    assert "行を使います" in report.html("ja") and "can be used" not in report.html("ja")
    assert len(report.text("ja").splitlines()) == len(report.text("en").splitlines())


def test_20000_rows_are_compared_in_seconds():
    rng = Random(3)
    words = ["".join(rng.choice("あいうえおかきくけこさしすせそ漢字仮名文章東京大阪") for _ in range(4)) for _ in range(3000)]
    rows = [{"prompt": "".join(rng.choices(words, k=30)), "completion": "".join(rng.choices(words, k=8))} for _ in range(20_000)]
    rows[19_999] = {"prompt": rows[5]["prompt"] + "あ", "completion": rows[5]["completion"]}
    dataset = read_dataset(rows, max_mb=100)
    started = time.process_time()
    assert dataset.similar == ((5, 19_999),)
    assert time.process_time() - started < 20


def test_the_preview_is_the_first_batch_of_the_training_with_what_counts_marked(kit):
    dataset = read_dataset("sample:first-30", max_mb=1)
    spec = TuneSpec(data="sample:first-30")
    preview = preview_batch(dataset, spec, kit.models, rows=3)
    train, _ = dataset.split(spec.eval_share, spec.seed)
    first = first_rows(train, spec.seed)[:3]
    assert [row.line for row in preview.rows] == [example.line for example in first]
    encoder = kit.models.turn_encoder("starter-lm")
    for row, example in zip(preview.rows, first, strict=True):
        learnt = "".join(piece for piece, counts in row.tokens if counts)
        assert learnt.startswith(example.answer.split("!")[0][:10]) and learnt.endswith("</s>")
        assert len(row.tokens) - row.counted == len(encoder.encode_prompt(example.prompt))
    assert "rgba(4,120,87" in preview.html("ja") and "損失" in preview.html("ja")


def test_the_preview_escapes_cuts_and_shows_both_sides_of_a_preference(kit):
    rows = [{"prompt": f"<b>質問{n}</b>" + "長い。" * 40, "chosen": f"良い{n}", "rejected": f"悪い{n}"} for n in range(4)]
    dataset = read_dataset(rows, max_mb=1)
    preview = preview_batch(dataset, TuneSpec(data="x", method="dpo", max_tokens=60), kit.models, rows=1)
    assert [row.side for row in preview.rows] == ["chosen", "rejected"]
    assert all(len(row.tokens) == 60 and row.cut > 0 for row in preview.rows)
    assert "<b>" not in preview.html()
    with pytest.raises(InvalidValue):
        preview_batch(dataset, TuneSpec(data="x"), kit.models, rows=0)
    assert [row.side for row in preview_batch(dataset, TuneSpec(data="x"), kit.models, rows=2).rows] == ["answer", "answer"]
    with pytest.raises(InvalidValue, match="kto"):
        preview_batch(read_dataset(ordinary(), max_mb=1), TuneSpec(data="x", method="kto"), kit.models)
    with pytest.raises(InvalidValue, match="only one row"):
        preview_batch(read_dataset(rows[:1], max_mb=1), TuneSpec(data="x"), kit.models)
