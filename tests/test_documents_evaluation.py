"""Measuring the search and the answers: the measures themselves, the questions, where passages stand, reports, sweeps, made questions."""

from __future__ import annotations

import gzip
import json
import math
import threading
import unicodedata
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmops_kit import open_kit
from llmops_kit.documents.evaluation import evaluate
from llmops_kit.documents.generation import generate
from llmops_kit.documents.metrics import ndcg, reciprocal_rank
from llmops_kit.documents.places import Locator, Place, squash
from llmops_kit.documents.questions import Question, questions_to_csv, questions_to_table, read_questions
from llmops_kit.documents.report import Report
from llmops_kit.documents.sweep import sweep
from llmops_kit.errors import Cancelled, InvalidValue, UnknownName, UnreadableFile
from llmops_kit.grading import grade, normalise_answer
from llmops_kit.statistics import compare, mean_interval, wilson
from llmops_kit.types import Chunk, Evaluation, Run

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
SAMPLES = Path(__file__).parent.parent / "llmops_kit" / "documents" / "samples"
TEXTS = {
    "休暇.txt": "有給休暇は、入社から6か月たった日に10日付与します。休暇の申請は、取得する日の3営業日前までに勤怠システムで行います。\n",
    "経費.txt": "経費精算は毎月25日に締め切ります。宿泊費の上限は１２,０００円です。領収書は7年間保管します。\n",
    "travel.txt": "Hotels may cost up to 120 euros a night. Expenses are refunded within thirty days.\n",
}
QUESTIONS = [
    Question("有給休暇は何日もらえますか。", "入社から6か月たった日に10日付与します。", "休暇.txt", "10日"),
    Question("泊まりの費用はいくらまでですか。", "宿泊費の 上限は12,000円です。", answer="12,000円"),
    Question("How much may a hotel cost?", "up to 120 euros a night", answer="120 euros"),
]


@pytest.fixture(scope="module")
def kit(tmp_path_factory):
    with open_kit(tmp_path_factory.mktemp("workspace")) as opened:
        opened.documents.add_texts(TEXTS)
        yield opened


# --- measures


def test_ranks_and_gains():
    assert reciprocal_rank([3, 1]) == 1 and reciprocal_rank([4]) == 0.25 and reciprocal_rank([11]) == 0 and reciprocal_rank([]) == 0
    assert ndcg([1], relevant=1) == 1 and ndcg([1, 2], relevant=2) == 1 and ndcg([], relevant=2) == 0 and ndcg([], relevant=0) == 0
    assert ndcg([2], relevant=1) == pytest.approx(1 / math.log2(3))
    assert ndcg([1, 3], relevant=2) == pytest.approx(1.5 / (1 + 1 / math.log2(3)))
    assert ndcg(list(range(1, 11)), relevant=30) == 1


@pytest.mark.parametrize(("successes", "n", "low", "high"), [(8, 10, 0.490, 0.943), (0, 10, 0.0, 0.278), (10, 10, 0.722, 1.0), (50, 100, 0.404, 0.596)])
def test_wilsons_interval_as_in_the_tables(successes, n, low, high):
    found = wilson(successes, n)
    assert (found.value, found.n) == (successes / n, n)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-4), pytest.approx(high, abs=5e-4))
    assert math.isnan(wilson(0, 0).value)


def test_the_bootstrap_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(1).random(60)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)).confidence_interval
    ours = mean_interval(values)
    assert (ours.low, ours.high) == (pytest.approx(theirs.low, abs=0.01), pytest.approx(theirs.high, abs=0.01))
    assert ours == mean_interval(values) and ours.n == 60
    assert mean_interval([1.0] * 10).low == pytest.approx(0.722, abs=5e-4), "ten right of ten is not certainty"
    assert mean_interval([]).n == 0


def test_a_difference_is_established_only_where_chance_does_not_make_it():
    assert not compare([1, 1, 1, 1, 0], [0, 0, 0, 0, 0]).is_established()
    assert compare([1, 1, 1, 1, 0], [0, 0, 0, 0, 0]).p == pytest.approx(2 / 16)
    many = compare([1.0] * 30 + [0.0] * 30, [0.0] * 25 + [1.0] * 5 + [0.0] * 30)
    assert many.is_established() and many.is_established(5) and many.mean > 0
    assert compare([0.5, 1], [0.5, 1]) == replace(compare([0.5, 1], [0.5, 1]), mean=0.0, p=1.0)
    assert not compare([], []).is_established()
    with pytest.raises(ValueError, match="same questions"):
        compare([1], [1, 0])


def test_pairs_without_any_difference_are_rarely_called_different():
    random = np.random.default_rng(3)
    called = sum(compare(random.random(12) < 0.6, random.random(12) < 0.6).is_established() for _ in range(200))
    assert called <= 20


@pytest.mark.parametrize(
    ("answer", "expected", "exact", "lenient", "f1"),
    [
        ("３営業日前まで。", "3営業日前まで", 1, 1, 1),
        ("「10日」", "10日", 1, 1, 1),
        ("10日です。", "10日", 0, 1, 2 * 3 / 8),
        ("12000円", "１２，０００円", 1, 1, 1),
        ("The IT desk.", "it desk", 1, 1, 1),
        ("an IT desk at home", "IT desk", 0, 0, 2 * 2 / 6),
        ("京都", "東京\n京都", 1, 1, 1),
        ("", "京都", 0, 0, 0),
        ("大阪", "京都", 0, 0, 0),
        ("", "", 1, 1, 1),
    ],
)
def test_answers_are_graded_as_squad_and_jsquad_do(answer, expected, exact, lenient, f1):
    found = grade(answer, expected)
    assert (found.exact, found.lenient, found.f1) == (exact, lenient, pytest.approx(f1))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_an_answer_is_like_itself_and_never_more(one, other):
    line = " ".join(one.splitlines())
    assert grade(line, line).f1 == 1 and grade(line, line).exact == 1
    assert 0 <= grade(one, other).f1 <= 1
    assert normalise_answer(normalise_answer(one)) == normalise_answer(one)


# --- questions


def test_questions_come_back_from_the_table_and_the_file(tmp_path):
    questions = (Question("=1+1は？", "passage, with\n二行", "休暇.txt", "10日\n十日", 3), Question("How?", answer="-5"))
    assert read_questions(questions_to_table(questions)) == questions
    data = questions_to_csv(questions)
    assert data.startswith(b"\xef\xbb\xbf") and b'"\'=1+1' in data
    (tmp_path / "q.csv").write_bytes(data)
    assert read_questions(tmp_path / "q.csv") == read_questions(data) == questions
    (tmp_path / "q.json").write_text(json.dumps([{"question": "何日？", "page": 2}]), encoding="utf-8")
    assert read_questions(tmp_path / "q.json") == (Question("何日？", page=2),)


def test_japanese_columns_in_cp932_and_data_frames():
    table = "質問,該当箇所,文書名,期待する答え,ページ\r\n有給は何日？,10日付与します,休暇.txt,10日,2\r\n,空の質問,,,\r\n"
    expected = (Question("有給は何日？", "10日付与します", "休暇.txt", "10日", 2),)
    assert read_questions(table.encode("cp932")) == read_questions(table.encode("utf-8")) == expected
    frame = pd.DataFrame({"質問": ["有給は何日？"], "ページ": [2.0], "答え": [np.nan]})
    assert read_questions(frame) == (Question("有給は何日？", page=2),)
    assert read_questions(["一つ目？", {"question": "二つ目？"}]) == (Question("一つ目？"), Question("二つ目？"))
    assert len(read_questions(SAMPLES / "questions.yaml")) >= 10


def test_what_is_no_list_of_questions_is_said(tmp_path):
    for source, named in ([], "questions"), ([{"frage": "?"}], "frage"), ([3], "int"), ([{"question": "?", "page": "iv"}], "iv"):
        with pytest.raises(InvalidValue, match=named):
            read_questions(source)
    with pytest.raises(InvalidValue, match="alpha, beta"):
        read_questions(b"alpha,beta\n1,2\n")
    (tmp_path / "q.yaml").write_text("question: only one", encoding="utf-8")
    with pytest.raises(UnreadableFile, match=r"q\.yaml"):
        read_questions(tmp_path / "q.yaml")


# --- places


def test_a_chunk_is_right_when_it_holds_half_of_the_passage_however_it_is_cut():
    place = Place("d", 100, 200)
    for start, end in [(0, 400), (100, 200), (0, 150), (150, 300), (120, 130)]:
        assert place.is_held_by(Place("d", start, end)), (start, end)
    for start, end in [(0, 149), (90, 109), (200, 300), (0, 100)]:
        assert not place.is_held_by(Place("d", start, end)), (start, end)
    assert not place.is_held_by(Place("e", 0, 400))
    assert Place("d", 0, 1000, is_whole=True).is_held_by(Place("d", 990, 1400))


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_a_passage_is_found_whatever_its_width_and_breaks(kit, data):
    name = data.draw(st.sampled_from(sorted(TEXTS)))
    text = TEXTS[name]
    start = data.draw(st.integers(0, len(text) - 12))
    passage = text[start: start + data.draw(st.integers(10, 40))]
    typed = unicodedata.normalize("NFKC", passage) if data.draw(st.booleans()) else passage
    at = data.draw(st.integers(0, len(typed)))
    typed = f"{typed[:at]}\n  {typed[at:]}"
    collection = kit.documents.shelves.get("default", "local")
    (places,) = Locator(kit.documents.store, collection).find_all([Question("?", typed, name)])
    assert any(squash(text[place.start: place.end]) == squash(typed) and place.start <= start + 1 for place in places)


def test_composed_and_decomposed_kana_are_the_same(tmp_path):
    with open_kit(tmp_path) as kit:
        kit.documents.add_text("前置き。ｶﾞｲﾄﾞﾌﾞｯｸは ガイド室 にあります。", name="guide.txt")
        locator = Locator(kit.documents.store, kit.documents.shelves.get("default", "local"))
        (places,) = locator.find_all([Question("?", unicodedata.normalize("NFD", "ガイドブックはガイド室"))])
        assert [kit.documents.text(place.document_id)[place.start: place.end] for place in places] == ["ｶﾞｲﾄﾞﾌﾞｯｸは ガイド室"]


# --- reports


def test_a_report_says_where_the_right_passages_came(kit):
    report = evaluate(kit.documents, QUESTIONS, collection="default", modes=("hybrid", "lexical", "dense"), progress=False)
    assert report.table["rank_hybrid"].tolist() == [1, 1, 1] and report.table["state"].tolist() == ["found"] * 3
    summary = report.summary.set_index(["mode", "measure"])
    assert summary.loc[("hybrid", "MRR@10"), "value"] == 1 and (summary["n"] == 3).all()
    assert summary.loc[("hybrid", "hit@1")].tolist() == [1, pytest.approx(0.438, abs=1e-3), 1, 3]
    assert list(report.chart().columns) == ["mode", "k", "hit", "low", "high"] and len(report.chart()) == 12
    assert "確かめられていません" in report.verdict("ja") and "no difference is established" in report.verdict("en")
    shown = report._repr_markdown_()
    assert "| 両方（hybrid） | MRR@10 | 1.000 |" in shown and "n = 3 / 3" in shown
    (kept,) = kit.documents.store.find(Evaluation, id=report.id)
    assert kept.kind == "retrieval" and Report.from_evaluation(kept).table.equals(report.table)
    assert kept.spec["embedder"] == "starter-embed" and len(kept.spec["questions_sha256"]) == 64 and kept.summary[0]["n"] == 3
    assert any(item.kind == "evaluation" and item.record_id == report.id for item in kit.documents.store.unsent())


def test_questions_that_the_documents_do_not_answer_are_told_apart(kit):
    canteen = Question("社食は何時までですか。", "社員食堂は14時までです。休暇の申請は")
    asked = [*QUESTIONS, canteen, Question("場所の分からない質問"), Question("?", "10日付与", "存在しない.txt")]
    report = evaluate(kit.documents, asked, collection="default", progress=False)
    assert report.table["state"].tolist() == ["found"] * 3 + ["absent", "open", "absent"]
    assert (report.summary["n"] == 3).all() and report.counted == 3
    assert report.absent[0]["closest"].startswith("休暇.txt: ") and report.table["closest"][0] == ""
    assert "文書にありません" in report._repr_markdown_()
    only = evaluate(kit.documents, asked[3:4], collection="default", progress=False)
    assert only.counted == 0 and "ありませんでした" in only.verdict("ja") and only.summary["value"].isna().all()
    assert "– | –" in only._repr_markdown_()


def test_a_document_or_a_page_may_be_the_place(kit):
    asked = [Question("経費の締め切りは？", document="経費"), Question("経費の締め切りは？", document="経費", page=9)]
    report = evaluate(kit.documents, asked, collection="default", progress=False)
    assert report.table["state"].tolist() == ["found", "absent"] and report.table["rank_hybrid"].iloc[0] == 1


def test_two_halves_of_a_passage_are_both_right(tmp_path):
    sentence = "この規程は第{}号の手続きを対象とし、担当者は毎回その内容を確認しなければなりません。"
    with open_kit(tmp_path) as kit:
        kit.documents.add_text("".join(sentence.format(number) for number in range(60)), name="規程.txt")
        passage = "".join(sentence.format(number) for number in range(5, 35))
        report = evaluate(kit.documents, [Question("第7号の手続き", passage)], collection="default", modes="lexical", progress=False)
        row = report.of_mode("lexical")[0]
        assert sum(hit["right"] for hit in row["hits"]) >= 2 and 0 < row["ndcg"] <= 1


def test_answers_are_runs_and_are_graded(kit):
    report = evaluate(kit.documents, QUESTIONS, collection="default", model="starter-reader", participant="local", progress=False)
    runs = kit.documents.store.find(Run, app=f"evaluation:{report.id}")
    assert {run.id for run in runs} == set(report.table["run_id"]) and len(runs) == 3
    assert report.table["score_em"].iloc[0] == 1 and report.table["score_char_f1"].between(0, 1).all()
    measures = report.summary[report.summary["mode"] == "answers: starter-reader"]["measure"].tolist()
    assert measures == ["EM", "EM (lenient)", "F1", "groundedness"]


def test_an_answer_that_fails_is_a_row_with_an_error(tmp_path):
    with open_kit(tmp_path) as kit:
        kit.documents.add_texts(TEXTS)
        kit.models.add("nowhere", provider="openai", base_url="http://127.0.0.1:9/v1", model="x")
        report = evaluate(kit.documents, QUESTIONS[:1], collection="default", model="nowhere", progress=False)
        assert report.table["error"].iloc[0] and report.table["rank_hybrid"].iloc[0] == 1
        assert report.summary[report.summary["measure"] == "EM"]["n"].tolist() == [0]


def test_wrong_choices_and_stopping(kit):
    for wrong in ({"modes": ()}, {"modes": "semantic"}, {"ks": ()}, {"ks": (0, 5)}, {"ks": 300}):
        with pytest.raises(InvalidValue):
            evaluate(kit.documents, QUESTIONS, collection="default", progress=False, **wrong)
    with pytest.raises(UnknownName, match="nirgends"):
        evaluate(kit.documents, QUESTIONS, collection="nirgends", progress=False)
    stop = threading.Event()
    seen = []

    def progress(done, total, seconds_left):
        seen.append((done, total))
        if done == 2:
            stop.set()

    report = evaluate(kit.documents, QUESTIONS, collection="default", progress=progress, cancel=stop)
    assert len(report.table) == 2 and seen[:3] == [(0, 3), (1, 3), (2, 3)]
    with pytest.raises(Cancelled):
        evaluate(kit.documents, QUESTIONS, collection="default", progress=False, cancel=stop)


def test_the_shipped_questions_find_the_shipped_documents(tmp_path):
    with open_kit(tmp_path) as kit:
        table = kit.documents.add([path for path in SAMPLES.iterdir() if path.suffix != ".yaml"], progress=False)
        assert (table["state"] == "ready").all()
        report = evaluate(kit.documents, SAMPLES / "questions.yaml", collection="default", progress=False)
        assert not report.absent
        hits = report.summary.set_index("measure")["value"]
        assert hits["hit@1"] >= 0.8 and hits["hit@10"] == 1


# --- sweeps


def test_a_sweep_finds_what_the_collection_finds_and_leaves_it_alone(kit):
    before = kit.documents.store.values(Chunk, ("id", "start", "end"))
    table = sweep(kit.documents, QUESTIONS, collection="default", chunk_sizes=(50, 400), ks=(1, 3), progress=False)
    assert kit.documents.store.values(Chunk, ("id", "start", "end")) == before
    assert len(table) == 2 * 3 * 2 and set(table["mode"]) == {"hybrid", "lexical", "dense"} and (table["n"] == 3).all()
    assert (table[table["mode"] == "lexical"]["embedder"] == "").all()
    report = evaluate(kit.documents, QUESTIONS, collection="default", modes=("hybrid", "lexical", "dense"), ks=(1, 3), progress=False)
    own = table[table["chunk_size"] == 400]
    for mode in report.modes:
        measured = report.summary[report.summary["mode"] == mode].set_index("measure")["value"]
        row = own[own["mode"] == mode].set_index("k")
        assert row.loc[1, ["hit", "mrr", "ndcg"]].tolist() == pytest.approx([measured["hit@1"], measured["MRR@10"], measured["nDCG@10"]])
    assert table[table["chunk_size"] == 50]["chunks"].iloc[0] > own["chunks"].iloc[0]
    assert table.attrs["best"]["mode"] in table["mode"].tolist() and "3問" in table.attrs["verdict"]["ja"] and not table["worse"].any()
    kept = kit.documents.store.get(Evaluation, table.attrs["id"])
    assert kept.kind == "sweep" and len(kept.rows) == len(table)


def test_a_sweep_refuses_what_it_cannot_measure(kit):
    for wrong in ({"chunk_sizes": (5,)}, {"modes": ("magic",)}):
        with pytest.raises(InvalidValue):
            sweep(kit.documents, QUESTIONS, collection="default", progress=False, **wrong)
    with pytest.raises(InvalidValue, match="nothing to measure"):
        sweep(kit.documents, ["社食は何時まで？"], collection="default", progress=False)
    with pytest.raises(UnknownName, match="no-such-embedder"):
        sweep(kit.documents, QUESTIONS, collection="default", embedders=["no-such-embedder"], progress=False)


# --- made questions


def test_questions_are_made_from_the_documents_without_a_model(kit):
    made = generate(kit.documents, "default", n=5, progress=False)
    assert made == generate(kit.documents, "default", n=5, progress=False) and 3 <= len(made) <= 5
    assert {question.document for question in made} == set(TEXTS), "spread over the documents"
    for question in made:
        assert question.passage in TEXTS[question.document] and question.answer in question.passage
        assert question.answer not in question.question and ("何" in question.question or "____" in question.question)
    report = evaluate(kit.documents, made, collection="default", progress=False)
    assert report.counted == len(made)
    assert read_questions(questions_to_csv(made)) == made


def test_a_chat_model_makes_questions_as_runs(kit):
    made = generate(kit.documents, "default", n=2, model="starter-lm", participant=("hanako", "local"), seed=1, progress=False)
    runs = kit.documents.store.find(Run, app="questions")
    assert runs and all(run.prompt_name == "generate_questions" and run.participant == "hanako" for run in runs)
    assert len(made) <= 2 and all(question.passage and squash(question.passage) in squash(TEXTS[question.document]) for question in made)


def test_making_questions_needs_documents_and_a_sensible_number(kit, tmp_path):
    with pytest.raises(InvalidValue, match="0"):
        generate(kit.documents, "default", n=0)
    with open_kit(tmp_path) as empty:
        empty.documents.shelves.open("空", "local")
        with pytest.raises(InvalidValue, match="空"):
            generate(empty.documents, "空")


def test_real_japanese_questions(tmp_path):
    path = DATA / "qa" / "jaquad_dev.jsonl.gz"
    if not path.exists():
        pytest.skip("jaquad_dev.jsonl.gz is not beside the project")
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = [row for line in lines if (row := json.loads(line) if line.strip() else None)][:400]
    contexts = list(dict.fromkeys(row["context"] for row in rows))[:60]
    names = {context: f"段落{number}.txt" for number, context in enumerate(contexts)}
    asked = [Question(row["q"], _around(row), names[row["context"]], "\n".join(row["answers"])) for row in rows if row["context"] in names]
    with open_kit(tmp_path) as kit:
        kit.documents.add_texts({name: context for context, name in names.items()})
        report = evaluate(kit.documents, asked, collection="default", progress=False)
        assert not report.absent and report.counted == len(asked) > 100
        value = report.summary.set_index("measure")["value"]
        assert value["hit@10"] > 0.9 and value["MRR@10"] > 0.6


def _around(row):
    """The answer with some text around it, as somebody would copy it."""
    start = row["start"][0]
    return row["context"][max(0, start - 10): start + len(row["answers"][0]) + 10]
